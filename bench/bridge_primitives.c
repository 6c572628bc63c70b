/*
 * What threads and tasks use together: uncontended mutexes, an item through a queue on one thread,
 * and a million items from a thread to a task, beside pthread mutexes and a queue made of a mutex
 * and two condition variables. `--work` names one: lock, queue, hand_over (default: all). For
 * asyncio's see bridge_primitives.py.
 */
#include "support.h"

#include <pier/pier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CAPACITY = 1024 };

/* ---- A queue of pthreads ------------------------------------------------------------------ */

struct plain_queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    int64_t items[CAPACITY];
    int first, count;
};

static void plain_put(struct plain_queue *queue, int64_t item)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == CAPACITY) {
        pthread_cond_wait(&queue->not_full, &queue->lock);
    }
    queue->items[(queue->first + queue->count++) % CAPACITY] = item;
    pthread_cond_signal(&queue->not_empty);
    pthread_mutex_unlock(&queue->lock);
}

static int64_t plain_get(struct plain_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0) {
        pthread_cond_wait(&queue->not_empty, &queue->lock);
    }
    int64_t item = queue->items[queue->first];
    queue->first = (queue->first + 1) % CAPACITY;
    queue->count--;
    pthread_cond_signal(&queue->not_full);
    pthread_mutex_unlock(&queue->lock);
    return item;
}

/* ---- The ways ----------------------------------------------------------------------------- */

static pier_runner *runner;
static pier_mutex *mutex;
static pier_queue *queue;
static pthread_mutex_t plain_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct plain_queue plain = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER, {0}, 0, 0};

static void lock_plain(void *context, int64_t i)
{
    (void)context;
    (void)i;
    if (pthread_mutex_lock(&plain_mutex) || pthread_mutex_unlock(&plain_mutex)) {
        bench_fail("bench: a pthread mutex failed");
    }
}

static void lock_pier(void *context, int64_t i)
{
    (void)context;
    (void)i;
    if (pier_mutex_lock(mutex, NULL) || pier_mutex_unlock(mutex, NULL)) {
        bench_fail("bench: pier_mutex failed");
    }
}

static void queue_plain(void *context, int64_t i)
{
    (void)context;
    plain_put(&plain, i);
    if (plain_get(&plain) != i) {
        bench_fail("bench: the wrong item");
    }
}

static void queue_pier(void *context, int64_t i)
{
    (void)context;
    int64_t got = -1;
    if (pier_queue_put(queue, &i, NULL) || pier_queue_get(queue, &got, NULL) != 1 || got != i) {
        bench_fail("bench: pier_queue failed");
    }
}

/* The other end of a hand-over runs all the time, and adds up what it gets. */
static _Atomic int64_t sum;
static int64_t given;

static void *plain_consumer(void *arg)
{
    (void)arg;
    for (int64_t item; (item = plain_get(&plain)) >= 0;) {
        atomic_store_explicit(&sum, atomic_load_explicit(&sum, memory_order_relaxed) + item,
                              memory_order_relaxed);
    }
    return NULL;
}

static int pier_consumer(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    int64_t item;
    int status;
    while ((status = pier_queue_get(queue, &item, err)) > 0) {
        atomic_store_explicit(&sum, atomic_load_explicit(&sum, memory_order_relaxed) + item,
                              memory_order_relaxed);
    }
    return status;
}

static void *pier_consumer_thread(void *arg)
{
    pier_consumer(NULL, arg, NULL);
    return NULL;
}

static void check_sum(void)
{
    if (atomic_load(&sum) != given) {
        bench_fail("bench: items were lost");
    }
    atomic_store(&sum, 0);
    given = 0;
}

enum { BATCH = 100000 };

static void hand_over_plain(void *context, int64_t i)
{
    (void)context;
    pthread_t thread;
    pthread_create(&thread, NULL, plain_consumer, NULL);
    for (int64_t n = 0; n < BATCH; n++) {
        plain_put(&plain, i + n);
        given += i + n;
    }
    plain_put(&plain, -1);
    pthread_join(thread, NULL);
    check_sum();
}

static void put_batch(int64_t i)
{
    for (int64_t n = 0; n < BATCH; n++) {
        int64_t item = i + n;
        if (pier_queue_put(queue, &item, NULL)) {
            bench_fail("bench: pier_queue_put failed");
        }
        given += item;
    }
    pier_queue_end(queue);
}

static void renew_queue(void)
{
    pier_queue_free(queue);
    queue = pier_queue_new(runner, sizeof(int64_t), CAPACITY, NULL, NULL);
}

static void hand_over_to_task(void *context, int64_t i)
{
    (void)context;
    renew_queue();
    pier_future *task = pier_task_start(runner, pier_consumer, NULL);
    put_batch(i);
    if (pier_task_finish(task, NULL)) {
        bench_fail("bench: the consumer failed");
    }
    check_sum();
}

static void hand_over_to_thread(void *context, int64_t i)
{
    (void)context;
    renew_queue();
    pthread_t thread;
    pthread_create(&thread, NULL, pier_consumer_thread, NULL);
    put_batch(i);
    pthread_join(thread, NULL);
    check_sum();
}

static bool wanted(const struct bench_options *options, const char *work)
{
    return !options->work || strcmp(options->work, work) == 0;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 1000000);
    options.latency = false; /* the clock costs more than what is measured */
    pier_error err = {0};
    runner = pier_runner_open(NULL, &err);
    mutex = pier_mutex_new(runner, NULL, &err);
    queue = pier_queue_new(runner, sizeof(int64_t), CAPACITY, NULL, &err);
    if (!queue) {
        bench_fail("bench: %s", err.message);
    }
    const struct bench_way locks[] = {{"pthread mutex", lock_plain, NULL},
                                      {"pier_mutex", lock_pier, NULL}};
    const struct bench_way queues[] = {{"pthread mutex, cond", queue_plain, NULL},
                                       {"pier_queue", queue_pier, NULL}};
    const struct bench_way hands[] = {{"pthreads", hand_over_plain, NULL},
                                      {"pier, to a thread", hand_over_to_thread, NULL},
                                      {"pier, to a task", hand_over_to_task, NULL}};
    if (wanted(&options, "lock")) {
        bench_run("lock and unlock", &options, locks, 2);
    }
    if (wanted(&options, "queue")) {
        bench_run("put and get on one thread", &options, queues, 2);
    }
    if (wanted(&options, "hand_over")) {
        options.ops = options.ops > BATCH ? options.ops / BATCH : 1;
        options.warmup = 1;
        bench_run("100,000 items from thread to thread or task", &options, hands, 3);
    }
    pier_runner_close(runner);
    return 0;
}
