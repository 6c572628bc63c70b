/*
 * Patterns: what threads and tasks use together. One lock for both, a counter under it, a queue
 * between a thread and a task.
 */
#include <pier/pier.h>
#include <pthread.h>
#include <stdio.h>

/* [counter] */
struct counter {
    pier_mutex *lock;
    int value;
};

/* Called by threads, where it blocks, and by tasks, where it suspends. */
static int count_one(struct counter *counter, pier_error *err)
{
    int status = pier_mutex_lock(counter->lock, err);
    if (status < 0) {
        return status;
    }
    counter->value++;
    return pier_mutex_unlock(counter->lock, err);
}
/* [/counter] */

/* [lock] */
enum { TIMES = 1000 };

static int count_in_task(pier_task *self, void *counter, pier_error *err)
{
    (void)self;
    int status = 0;
    for (int i = 0; status == 0 && i < TIMES; i++) {
        status = count_one(counter, err);
    }
    return status;
}

static int count_in_both(pier_runner *runner, pier_error *err)
{
    PIER_AUTO(pier_mutex) lock = pier_mutex_new(runner, "counter", err);
    struct counter counter = {.lock = lock};
    pier_group *tasks = pier_group_open(runner, NULL, err);
    pier_group_start(tasks, count_in_task, &counter);
    pier_group_start(tasks, count_in_task, &counter);
    int status = lock ? 0 : err->status;
    for (int i = 0; status == 0 && i < TIMES; i++) {
        status = count_one(&counter, err); /* this thread, meanwhile */
    }
    int closed = pier_group_close(tasks, status < 0 ? NULL : err);
    if (status < 0 || closed < 0) {
        return status < 0 ? status : closed;
    }
    printf("counted: %d\n", counter.value);
    return 0;
}
/* [/lock] */

/* [queue] */
static void *produce(void *queue)
{
    pier_error err = {0};
    for (int i = 1; i <= 100 && err.status == 0; i++) {
        pier_queue_put(queue, &i, &err); /* blocks while eight wait */
    }
    pier_queue_end(queue);
    return NULL;
}

static int consume(pier_task *self, void *queue, pier_error *err)
{
    (void)self;
    int item, status, sum = 0;
    while ((status = pier_queue_get(queue, &item, err)) > 0) { /* suspends while it is empty */
        sum += item;
    }
    return status < 0 ? status : sum;
}

static int thread_to_task(pier_runner *runner, pier_error *err)
{
    PIER_AUTO(pier_queue) queue = pier_queue_new(runner, sizeof(int), 8, NULL, err);
    if (!queue) {
        return err->status;
    }
    pthread_t thread;
    if (pthread_create(&thread, NULL, produce, queue) != 0) {
        return pier_error_set(err, PIER_EIO, "no thread could be started");
    }
    int sum = pier_task_run(runner, consume, queue, err);
    pier_queue_end(queue); /* else a producer whose consumer failed would wait for ever */
    pthread_join(thread, NULL);
    if (sum >= 0) {
        printf("through the queue: %d\n", sum);
    }
    return sum;
}
/* [/queue] */

int main(void)
{
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    int status = count_in_both(runner, &err);
    status = status < 0 ? status : thread_to_task(runner, &err);
    if (status < 0) {
        fprintf(stderr, "sharing: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
