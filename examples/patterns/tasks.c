/*
 * Patterns: running tasks. From a thread, from a task, from a callback, on a loop of their own,
 * with a time limit, several at once.
 */
#include <pier/pier.h>
#include <pthread.h>
#include <stdio.h>

/* [task] */
static int greet(pier_task *self, void *name, pier_error *err)
{
    int status = pier_task_sleep(self, 1, err); /* suspends: others run meanwhile */
    if (status == 0) {
        printf("hello, %s\n", (char *)name);
    }
    return status;
}
/* [/task] */

/* [run] */
static int run(void)
{
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    int status = pier_task_run(runner, greet, "world", &err);
    if (status < 0) {
        fprintf(stderr, "%s\n", err.message);
    }
    pier_runner_close(runner);
    return status;
}
/* [/run] */

/* [create_task] */
static int create_task(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    pier_future *child = pier_task_start(pier_task_runner(self), greet, "child");
    puts("the child has not begun");
    return pier_task_finish(child, err);
}
/* [/create_task] */

/* [inside_task] */
static int from_inside(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_run(pier_task_runner(self), greet, "task in a task", err);
}
/* [/inside_task] */

/* [inside_callback] */
struct caller { /* lives until the runner is closed */
    pier_runner *runner;
    pier_event *greeted;
};

static void on_greeted(pier_future *future, void *user_data)
{
    (void)future;
    struct caller *caller = user_data;
    pier_event_set(caller->greeted);
}

/* A callback is the loop itself. Were it to wait for a task, nobody would run that task. */
static void on_done(pier_future *future, void *user_data)
{
    (void)future;
    struct caller *caller = user_data;
    int status = pier_task_run(caller->runner, greet, "nobody", NULL);
    printf("to wait in a callback: %s\n", pier_status_name(status));
    pier_future_then(pier_task_start(caller->runner, greet, "callback"), on_greeted, caller);
}

static int from_callback(struct caller *caller, pier_error *err)
{
    caller->greeted = pier_event_new(caller->runner, err);
    pier_future_then(pier_task_start(caller->runner, greet, "future"), on_done, caller);
    return pier_event_wait(caller->greeted, err);
}
/* [/inside_callback] */

/* [new_thread] */
struct job {
    int status;
    pier_error err;
};

static void *with_its_own_loop(void *arg)
{
    struct job *job = arg;
    pier_runner *runner = pier_runner_open(NULL, &job->err);
    job->status = pier_task_run(runner, greet, "thread", &job->err);
    pier_runner_close(runner);
    return NULL;
}

static int new_thread(pier_error *err)
{
    struct job job = {0};
    pthread_t thread;
    if (pthread_create(&thread, NULL, with_its_own_loop, &job) != 0) {
        return pier_error_set(err, PIER_EIO, "no thread could be started");
    }
    pthread_join(thread, NULL);
    if (job.status < 0) {
        *err = job.err;
    }
    return job.status;
}
/* [/new_thread] */

/* [wait_timeout] */
static int endless(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, PIER_FOREVER, err);
}

/* The time is that of the wait: the task goes on, and is cancelled because we say so. */
static int wait_a_while(pier_runner *runner, pier_error *err)
{
    pier_future *future = pier_task_start(runner, endless, NULL);
    int ended = pier_future_wait(future, 20, err);
    if (ended < 0) {
        pier_future_free(future);
        return ended;
    }
    if (ended == 0) {
        pier_future_cancel(future);
    }
    int status = pier_task_finish(future, NULL); /* when it has cleaned up */
    printf("after waiting: %s\n", pier_status_name(status));
    return 0;
}
/* [/wait_timeout] */

/* [scope_timeout] */
/* The time is that of everything in the block: what is under way then is cancelled. */
static int within_a_deadline(pier_runner *runner, pier_error *err)
{
    PIER_AUTO(pier_scope)
    scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), err);
    if (!scope) {
        return err->status;
    }
    int status = pier_task_run(runner, endless, NULL, NULL);
    printf("in a scope: %s\n", pier_status_name(status));
    return 0;
}
/* [/scope_timeout] */

/* [gather] */
static int square(pier_task *self, void *arg, pier_error *err)
{
    int n = *(int *)arg;
    int status = pier_task_sleep(self, 1, err);
    return status < 0 ? status : n * n;
}

/* The first failure cancels the others; with `.collect = true` they go on. */
static int gather(pier_runner *runner, pier_error *err)
{
    int numbers[] = {2, 3, 4}, squares[3];
    void *number;
    pier_group *group = pier_group_open(runner, NULL, err);
    for (int i = 0; i < 3; i++) {
        pier_group_start(group, square, &numbers[i]);
    }
    for (pier_future *future; (future = pier_group_next(group, &number));) {
        squares[(int *)number - numbers] = pier_task_finish(future, NULL); /* as they end */
    }
    int status = pier_group_close(group, err); /* reports the first failure */
    if (status == 0) {
        printf("gathered: %d %d %d\n", squares[0], squares[1], squares[2]);
    }
    return status;
}
/* [/gather] */

int main(void)
{
    pier_error err = {0};
    int status = run();
    pier_runner *runner = pier_runner_open(NULL, &err);
    struct caller caller = {.runner = runner};
    status = status < 0 ? status : pier_task_run(runner, create_task, NULL, &err);
    status = status < 0 ? status : pier_task_run(runner, from_inside, NULL, &err);
    status = status < 0 ? status : from_callback(&caller, &err);
    status = status < 0 ? status : new_thread(&err);
    status = status < 0 ? status : wait_a_while(runner, &err);
    status = status < 0 ? status : within_a_deadline(runner, &err);
    status = status < 0 ? status : gather(runner, &err);
    if (err.status < 0) {
        fprintf(stderr, "tasks: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
