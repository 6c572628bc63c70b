#ifndef PIER_SDK_RUNNER_H
#define PIER_SDK_RUNNER_H
/*
 * The inside of a runner.
 */
#include "sdk/handle.h"
#include "sdk/loop.h"
#include "sdk/op.h"
#include <pier/runner.h>

typedef enum pier__runner_state {
    PIER__OPEN_RUNNER = 0,
    PIER__CLOSING = 1, /* only shielded operations start; the others are being cancelled */
    PIER__CLOSED = 2   /* nothing starts */
} pier__runner_state;

struct pier_runner {
    pier_runner *previous_runner, *next_runner; /* all of the process */
    /* Immutable after open. */
    char name[16];
    uv_loop_t *uv;
    bool owns_loop;
    int64_t close_timeout_ms;
    int64_t slow_ns; /* 0: the clock is not looked at */
    unsigned fork_generation;

    atomic_int refs;            /* of the memory alone: its own, and one for each operation */
    atomic_int state;           /* a pier__runner_state */
    atomic_int threads;         /* plain threads inside an operation */
    atomic_bool scopes_changed; /* some scope was cancelled: look at all operations */
    atomic_int senders;         /* signal handlers inside uv_async_send */
    atomic_bool async_open;     /* uv_async_send may be called */
    pthread_t thread;           /* that runs the loop */

    /* Guarded by lock: the inbox and the handles. */
    pthread_mutex_t lock;
    pier__post *inbox, **inbox_tail;
    bool inbox_open;
    int64_t inbox_since; /* when what is in it was put into it */
    pier__handle *newest;
    struct pier__waiting {
        struct pier__waiting *prev, *next;
        pier__parker *parker;
        const pier__op *op;
        int64_t since;
        int tid;
    } * waiting; /* threads in an operation for more than 10 ms, to be woken by close */

    struct pier_group *groups; /* sdk/group.c: for a dump; guarded by lock */

    /* Loop thread. */
    uv_loop_t own_loop;
    uv_async_t async;
    uv_timer_t timer;
    uv_idle_t idle;   /* runs while something is ready that had to wait for its turn */
    uv_check_t check; /* runs what descriptors have made ready, once all of them have been read */
    int handles;      /* of the four above, still open */
    int depth;        /* of enter */
    bool deferred;    /* the round's descriptors have been heard, what they made ready is to run */
    bool bulky;       /* what the last of them brought is large */
    pier__post *ready, **ready_tail;
    pier__post *late, **late_tail; /* behind all that is ready */
    int64_t clock;                 /* of the last look at it, in this round of the loop */
    int64_t tick;                  /* of the last look at that (pier__seen_end_quickly) */
    int stepping;                  /* steps inside each other */
    struct pier__timer *timers;
    int64_t timer_set; /* when the timer fires; 0: not set */
    struct pier__fiber_pool *fibers;

    /* Changed by the loop thread under ops_lock, which any thread that looks at them takes. */
    pthread_mutex_t ops_lock;
    pier__op *ops;    /* all that the loop steps */
    pier__op *unread; /* futures that have settled and were not taken; changed by any thread */
    int64_t ops_count, unread_count, tasks_count;

    /* Written by the loop thread alone, read by any. */
    struct pier__loop_state {
        _Atomic(const char *) kind; /* "a step of", "a callback of"; NULL: of its own */
        _Atomic(const char *) name; /* of that operation's class */
        _Atomic(const void *) op;   /* only compared */
        atomic_int_fast64_t since;  /* when that began; 0: it waits for events */
        atomic_int_fast64_t steps, callbacks, slow, slowest, lag, lag_max;
    } seen;

    pier__handle *dead; /* gates that close has ended; guarded by lock, freed with the runner */
    _Atomic(struct pier_executor *) executor; /* of pier_to_thread; opened when it is needed */

    /* Shields that are open, which close waits for. */
    atomic_int shields;
    _Atomic int64_t shielded_until; /* the latest of their deadlines */

    /* Close. */
    _Atomic int64_t close_until; /* of the thread that closes; 0: no bound, or not yet closed */
    pier_runner_stop_cb stop_cb;
    void *stop_data;
    atomic_uint drained; /* 1 when the loop has nothing left to step */
    bool draining;
    bool handles_closed;    /* guarded by lock: no shield may open another */
    atomic_uint tasks_gone; /* 1 when no task is left */
    bool awaits_tasks;
    pier__post *end_later;       /* close has given up waiting: posted with the last operation */
    struct pier__closer *closer; /* told when the last handle is closed */
};

/* All that have been opened and whose memory lives, for scripts/gdb/pier.py; guarded by a lock of
 * sdk/seen.c. */
extern pier_runner *pier__runners;

/* Grows with each fork in the child. */
extern unsigned pier__fork_generation;

static inline bool pier__runner_forked(const pier_runner *runner)
{
    return runner->fork_generation != pier__fork_generation;
}

/* The memory of a runner lives as long as the operations that were made on it: a future may be used
 * after its runner was closed. */
void pier__runner_unref(pier_runner *runner);

static inline void pier__runner_ref(pier_runner *runner)
{
    atomic_fetch_add_explicit(&runner->refs, 1, memory_order_relaxed);
}

/* Brackets what a thread does on the runner. Close first changes the state, then waits until no
 * thread is inside. Nests. `kept`: an operation of the caller's keeps the memory until it has left.
 */
static inline void pier__runner_enter_kept(pier_runner *runner)
{
    atomic_fetch_add(&runner->threads, 1);
}

static inline void pier__runner_leave_kept(pier_runner *runner)
{
    if (atomic_fetch_sub(&runner->threads, 1) == 1 && atomic_load(&runner->state)) {
        pier__word_wake(&runner->threads);
    }
}

static inline void pier__runner_enter(pier_runner *runner)
{
    pier__runner_ref(runner);
    pier__runner_enter_kept(runner);
}

static inline void pier__runner_leave(pier_runner *runner)
{
    pier__runner_leave_kept(runner);
    pier__runner_unref(runner);
}

/* What a generated iterator's `take` answers. It is a thread's call in several parts: where a block
 * must be fetched (not `done`), the thread stays inside until it has its item, because the runner's
 * close frees the handle as soon as the fetch itself has ended. */
static inline bool pier__runner_iterate(pier_runner *runner, bool *fetching, bool done)
{
    if (done && *fetching) {
        *fetching = false;
        pier__runner_leave(runner);
    } else if (!done && !*fetching) {
        *fetching = true;
        pier__runner_enter(runner);
    }
    return done;
}

/* A shield has been opened; it, or the last one, has been closed. */
void pier__runner_shield(pier_runner *runner, int64_t until);
void pier__runner_unshield(pier_runner *runner);

/* sdk/runner.c, for loop.c: the loop has no handle of the runner's left. */
void pier__runner_loop_ended(pier_runner *runner);

/* sdk/executor.c: drops the runner's own. */
void pier__executor_unref(struct pier_executor *executor);

/* sdk/gate.c: frees those that close has ended. */
void pier__gates_free(pier__handle *dead);

/* Starts a thread with all signals blocked. 0 or an errno. */
int pier__thread_start(pthread_t *thread, const char *name, void *(*run)(void *arg), void *arg);

/* Fails with PIER_EFORKED, PIER_ECLOSED or for NULL; 0 where work can be started. */
int pier__runner_check(const pier_runner *runner, const char *what, pier_error *err);

#endif
