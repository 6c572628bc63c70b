/*
 * Tasks: what a switch, an await, a spawn and an idle task cost, and 64 tasks handed over to the
 * loop and awaited by a thread, against the same by hand: uv_async and a futex. bench/tasks.py puts
 * Python's asyncio beside it. Each figure is the median of the rounds.
 */
#include "support.h"

#include <linux/futex.h>
#include <pier/pier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

enum { ROUNDS_MAX = 101, BATCH = 64, IDLE = 10000 };

static pier_runner *runner;
static pier_error err;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void check(bool good, const char *what)
{
    if (!good) {
        bench_fail("tasks: %s: %s", what, err.message);
    }
}

/* ---- In a task ---------------------------------------------------------------------------- */

struct span {
    int64_t count, ns;
};

static int yield_often(pier_task *self, void *arg, pier_error *failure)
{
    for (int64_t i = 0; i < *(const int64_t *)arg; i++) {
        if (pier_task_sleep(self, 0, failure) < 0) {
            return failure->status;
        }
    }
    return 0;
}

static int end_at_once(pier_task *self, void *arg, pier_error *failure)
{
    (void)self;
    (void)arg;
    (void)failure;
    return 0;
}

/* Two tasks that let each other run: each sleep is one switch to the other. */
static int measure_switch(pier_task *self, void *arg, pier_error *failure)
{
    struct span *span = arg;
    pier_runner *here = pier_task_runner(self);
    int64_t each = span->count / 2, from = now_ns();
    pier_future *one = pier_task_start(here, yield_often, &each);
    pier_future *other = pier_task_start(here, yield_often, &each);
    int status = pier_task_finish(one, failure);
    int other_status = pier_task_finish(other, failure);
    span->ns = now_ns() - from;
    return status < 0 ? status : other_status;
}

static int measure_finished(pier_task *self, void *arg, pier_error *failure)
{
    struct span *span = arg;
    pier_future *future = pier_task_start(pier_task_runner(self), end_at_once, NULL);
    int sum = pier_future_wait(future, PIER_FOREVER, failure);
    int64_t from = now_ns();
    for (int64_t i = 0; i < span->count; i++) {
        sum += pier_future_wait(future, PIER_FOREVER, failure);
    }
    span->ns = now_ns() - from;
    pier_future_free(future);
    return sum == span->count + 1 ? 0 : PIER_EUSER;
}

static int measure_spawn(pier_task *self, void *arg, pier_error *failure)
{
    struct span *span = arg;
    pier_runner *here = pier_task_runner(self);
    int status = 0;
    int64_t from = now_ns();
    for (int64_t i = 0; i < span->count && status == 0; i++) {
        status = pier_task_finish(pier_task_start(here, end_at_once, NULL), failure);
    }
    span->ns = now_ns() - from;
    return status;
}

/* Waits for the future it is given, which is taken; the first one has none. */
static int wait_for_the_one_before(pier_task *self, void *arg, pier_error *failure)
{
    (void)self;
    return arg ? pier_task_finish(arg, failure) : 0;
}

/* A chain of tasks, each of which is suspended until the one before it has ended. */
static int measure_chain(pier_task *self, void *arg, pier_error *failure)
{
    struct span *span = arg;
    pier_future *last = NULL;
    int64_t from = now_ns();
    enum { CHAIN = 100 };
    for (int64_t done = 0; done < span->count; done += CHAIN) {
        last = pier_task_start(pier_task_runner(self), yield_often, &(int64_t){1});
        for (int i = 1; i < CHAIN; i++) {
            last = pier_task_start(pier_task_runner(self), wait_for_the_one_before, last);
        }
        int status = pier_task_finish(last, failure);
        if (status < 0) {
            return status;
        }
    }
    span->ns = now_ns() - from;
    return 0;
}

static double in_task(pier_task_fn fn, int64_t count)
{
    struct span span = {.count = count};
    check(pier_task_run(runner, fn, &span, &err) == 0, "a task");
    return (double)span.ns / (double)count;
}

/* ---- From a thread ------------------------------------------------------------------------ */

static double batches(int64_t count)
{
    pier_future *futures[BATCH];
    int64_t from = now_ns();
    for (int64_t done = 0; done < count; done += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            futures[i] = pier_task_start(runner, end_at_once, NULL);
        }
        for (int i = 0; i < BATCH; i++) {
            check(pier_task_finish(futures[i], &err) == 0, "a batch");
        }
    }
    return (double)(now_ns() - from) / (double)count;
}

/* The same without Pier: a list under a lock, one uv_async_send where it was empty, a word that a
 * thread waits on for each. */
struct item {
    struct item *next;
    atomic_uint done;
};

static struct bare {
    uv_loop_t loop;
    uv_async_t async;
    pthread_t thread;
    pthread_mutex_t lock;
    struct item *first, **tail;
    atomic_bool end;
} bare = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_items(uv_async_t *async)
{
    pthread_mutex_lock(&bare.lock);
    struct item *item = bare.first;
    bare.first = NULL;
    bare.tail = &bare.first;
    pthread_mutex_unlock(&bare.lock);
    while (item) {
        struct item *next = item->next;
        if (atomic_exchange(&item->done, 1) == 2) {
            syscall(SYS_futex, &item->done, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        }
        item = next;
    }
    if (atomic_load(&bare.end)) {
        uv_close((uv_handle_t *)async, NULL);
    }
}

static void *run_bare(void *arg)
{
    (void)arg;
    uv_run(&bare.loop, UV_RUN_DEFAULT);
    return NULL;
}

static void open_bare(void)
{
    bare.tail = &bare.first;
    check(uv_loop_init(&bare.loop) == 0 && uv_async_init(&bare.loop, &bare.async, on_items) == 0 &&
              pthread_create(&bare.thread, NULL, run_bare, NULL) == 0,
          "a bare loop");
}

static void close_bare(void)
{
    atomic_store(&bare.end, true);
    uv_async_send(&bare.async);
    pthread_join(bare.thread, NULL);
    uv_loop_close(&bare.loop);
}

static struct item *send_bare(void)
{
    struct item *item = calloc(1, sizeof *item);
    check(item != NULL, "memory");
    pthread_mutex_lock(&bare.lock);
    bool first = !bare.first;
    *bare.tail = item;
    bare.tail = &item->next;
    pthread_mutex_unlock(&bare.lock);
    if (first) {
        uv_async_send(&bare.async);
    }
    return item;
}

static void await_bare(struct item *item)
{
    unsigned expected = 0;
    if (atomic_compare_exchange_strong(&item->done, &expected, 2)) {
        while (atomic_load(&item->done) == 2) {
            syscall(SYS_futex, &item->done, FUTEX_WAIT_PRIVATE, 2, NULL, NULL, 0);
        }
    }
    free(item);
}

static double bare_batches(int64_t count)
{
    struct item *items[BATCH];
    int64_t from = now_ns();
    for (int64_t done = 0; done < count; done += BATCH) {
        for (int i = 0; i < BATCH; i++) {
            items[i] = send_bare();
        }
        for (int i = 0; i < BATCH; i++) {
            await_bare(items[i]);
        }
    }
    return (double)(now_ns() - from) / (double)count;
}

/* ---- Memory ------------------------------------------------------------------------------- */

static int64_t resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "r");
    long long size = 0, resident = 0;
    check(file && fscanf(file, "%lld %lld", &size, &resident) == 2, "/proc/self/statm");
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static int sleep_long(pier_task *self, void *arg, pier_error *failure)
{
    (void)arg;
    return pier_task_sleep(self, PIER_FOREVER, failure);
}

/* Resident bytes of a task that sleeps, everything included. */
static double idle_bytes(void)
{
    pier_future **futures = calloc(IDLE, sizeof(pier_future *));
    check(futures != NULL, "memory");
    memset(futures, 1, IDLE * sizeof(pier_future *));
    int64_t before = resident_bytes();
    for (int i = 0; i < IDLE; i++) {
        futures[i] = pier_task_start(runner, sleep_long, NULL);
    }
    check(pier_task_run(runner, end_at_once, NULL, &err) == 0, "idle tasks"); /* all have begun */
    double bytes = (double)(resident_bytes() - before) / IDLE;
    for (int i = 0; i < IDLE; i++) {
        pier_future_cancel(futures[i]);
    }
    for (int i = 0; i < IDLE; i++) {
        check(pier_task_finish(futures[i], NULL) == PIER_ECANCELLED, "idle tasks");
    }
    free(futures);
    return bytes;
}

/* ---- The table ---------------------------------------------------------------------------- */

static double measure_one(int which, int64_t count)
{
    static const pier_task_fn fns[] = {measure_switch, measure_finished, measure_spawn,
                                       measure_chain};
    return which < 4    ? in_task(fns[which], count)
           : which == 4 ? batches(count)
                        : bare_batches(count);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print(const struct bench_options *options, double (*all)[ROUNDS_MAX])
{
    static const char *const names[] = {"switch",        "await_finished", "spawn_join",
                                        "await_pending", "batch_of_64",    "bare_batch_of_64",
                                        "batch_ratio"};
    FILE *json = options->json ? fopen(options->json, "w") : NULL;
    printf("%-18s %10s %10s %10s\n", "ns", "median", "min", "max");
    for (int which = 0; which < 7; which++) {
        qsort(all[which], (size_t)options->rounds, sizeof(double), compare);
        double median = all[which][options->rounds / 2];
        printf("%-18s %10.2f %10.2f %10.2f\n", names[which], median, all[which][0],
               all[which][options->rounds - 1]);
        if (json) {
            fprintf(json, "%s\"%s\": %.3f", which ? ", " : "{", names[which], median);
        }
    }
    double bytes = idle_bytes();
    printf("%-18s %10.0f bytes\n", "idle_task", bytes);
    if (json) {
        fprintf(json, ", \"idle_task\": %.0f}\n", bytes);
        fclose(json);
    }
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 64000);
    static double all[7][ROUNDS_MAX];
    options.rounds = options.rounds < ROUNDS_MAX ? options.rounds : ROUNDS_MAX;
    runner = pier_runner_open(NULL, &err);
    check(runner != NULL, "a runner");
    open_bare();
    for (int round = -1; round < options.rounds; round++) { /* the first one only warms up */
        int at = round < 0 ? 0 : round;
        for (int i = 0; i < 6; i++) {
            int which = (i + at) % 6;
            all[which][at] = measure_one(which, options.ops);
        }
        all[6][at] = all[4][at] / all[5][at];
    }
    print(&options, all);
    close_bare();
    pier_runner_close(runner);
    return 0;
}
