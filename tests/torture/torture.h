#ifndef PIER_TESTS_TORTURE_H
#define PIER_TESTS_TORTURE_H
/*
 * What the torture tests share: random numbers whose seed is printed and can be given again, crowds
 * of threads and tasks that run the same body, what went wrong first, and less of everything under
 * sanitizers, loudly.
 */
#include <inttypes.h>
#include <pier/pier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* gcc and clang say differently what they instrument for. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TORTURE_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TORTURE_SANITIZED 1
#endif
#endif
#ifndef TORTURE_SANITIZED
#define TORTURE_SANITIZED 0
#endif

/* How often, or how long: all of it, or a part under sanitizers, which is said. */
static inline int torture_amount(const char *what, int usual, int sanitized)
{
    if (TORTURE_SANITIZED) {
        fprintf(stderr, "*** sanitizers: %d %s instead of %d ***\n", sanitized, what, usual);
        return sanitized;
    }
    return usual;
}

/* xorshift64*: one for each worker, so that none disturbs another's numbers. */
struct torture_random {
    uint64_t state;
};

/* PIER_TORTURE_SEED repeats the choices of an earlier run, not the timing of its threads. */
static inline uint64_t torture_seed(void)
{
    const char *given = getenv("PIER_TORTURE_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed =
        given ? strtoull(given, NULL, 10) : (uint64_t)now.tv_sec * 1000003 + (uint64_t)now.tv_nsec;
    fprintf(stderr, "PIER_TORTURE_SEED=%" PRIu64 "\n", seed);
    return seed;
}

static inline struct torture_random torture_random_of(uint64_t seed, int worker)
{
    uint64_t state = (seed + (uint64_t)worker + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return (struct torture_random){.state = state ? state : 1};
}

/* From 0 to below - 1. */
static inline int torture_below(struct torture_random *random, int below)
{
    random->state ^= random->state >> 12;
    random->state ^= random->state << 25;
    random->state ^= random->state >> 27;
    return (int)((random->state * UINT64_C(0x2545F4914F6CDD1D) >> 33) % (uint64_t)below);
}

/* The first thing that went wrong on any thread or task; asserted on the test's. */
struct torture_wrong {
    pthread_mutex_t lock;
    atomic_int count;
    char first[600];
};

#define TORTURE_WRONG                                                                              \
    {                                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }

static inline __attribute__((format(printf, 2, 3))) void torture_note(struct torture_wrong *wrong,
                                                                      const char *format, ...)
{
    va_list args;
    va_start(args, format);
    pthread_mutex_lock(&wrong->lock);
    if (atomic_fetch_add(&wrong->count, 1) == 0) {
        vsnprintf(wrong->first, sizeof wrong->first, format, args);
    }
    pthread_mutex_unlock(&wrong->lock);
    va_end(args);
}

#define ASSERT_NOTHING_WRONG(wrong)                                                                \
    do {                                                                                           \
        if (atomic_load(&(wrong)->count)) {                                                        \
            fail_msg("%d times something went wrong, first: %s", atomic_load(&(wrong)->count),     \
                     (wrong)->first);                                                              \
        }                                                                                          \
    } while (0)

/* Workers: `threads` of them block, the others are tasks; all run `body` with their number. */
enum { TORTURE_CROWD_MAX = 32 };

struct torture_crowd;
struct torture_worker {
    struct torture_crowd *crowd;
    int number;
    pthread_t thread;
    pier_future *task;
};

struct torture_crowd {
    void (*body)(void *user_data, int number, pier_task *self); /* self: NULL on a thread */
    void *user_data;
    int count, threads;
    struct torture_worker workers[TORTURE_CROWD_MAX];
};

static void *torture_thread(void *arg)
{
    struct torture_worker *worker = arg;
    worker->crowd->body(worker->crowd->user_data, worker->number, NULL);
    return NULL;
}

static int torture_task(pier_task *self, void *arg, pier_error *err)
{
    (void)err;
    struct torture_worker *worker = arg;
    worker->crowd->body(worker->crowd->user_data, worker->number, self);
    return 0;
}

static inline void torture_crowd_start(struct torture_crowd *crowd, pier_runner *on)
{
    for (int i = 0; i < crowd->count; i++) {
        struct torture_worker *worker = &crowd->workers[i];
        *worker = (struct torture_worker){.crowd = crowd, .number = i};
        if (i < crowd->threads) {
            pthread_create(&worker->thread, NULL, torture_thread, worker);
        } else {
            worker->task = pier_task_start(on, torture_task, worker);
        }
    }
}

/* 0; negative where a task could not run. */
static inline int torture_crowd_join(struct torture_crowd *crowd, pier_error *err)
{
    int status = 0;
    for (int i = 0; i < crowd->count; i++) {
        struct torture_worker *worker = &crowd->workers[i];
        if (!worker->task) {
            pthread_join(worker->thread, NULL);
        } else if (pier_task_finish(worker->task, err) < 0) {
            status = -1;
        }
    }
    return status;
}

#endif
