#ifndef PIER_SDK_GATE_H
#define PIER_SDK_GATE_H
/*
 * What queues, mutexes, semaphores, events and conditions are made of: a handle of the runner's,
 * counted, with a lock that is held for a few instructions, and operations that wait in the order
 * in which they came. Whoever lets one go on says so in its waiter before waking it, so that it
 * has what it waited for from that moment, whatever else happens to it.
 *
 * Each operation holds a reference, so that freeing a gate ends the waits at it and nothing else. A
 * gate that the runner has closed is a dead one until the runner's own memory is freed: tasks that
 * wind up while the runner closes may still call it.
 */
#include "sdk/context.h"
#include "sdk/handle.h"
#include "sdk/op.h"
#include "sdk/runner.h"

typedef enum pier__waiter_state {
    PIER__WAITER_NEW = 0,
    PIER__WAITER_QUEUED,
    PIER__WAITER_SERVED, /* it has what it waited for */
    PIER__WAITER_ENDED,  /* it will not get it: that has ended */
    PIER__WAITER_CLOSED, /* the gate was freed */
    PIER__WAITER_LEFT    /* it was cancelled before that */
} pier__waiter_state;

/* Embedded in an operation. All but `op` is guarded by the gate's lock. */
typedef struct pier__waiter {
    pier__op *op;
    struct pier__waiter *prev, *next;
    pier__waiter_state state;
    const void *holder; /* mutexes: who will hold it */
} pier__waiter;

typedef struct pier__waiters {
    pier__waiter *head, *tail;
} pier__waiters;

typedef struct pier__gate {
    pier__handle handle; /* first */
    atomic_int refs;
    /* Called once when it is freed or the runner closes, under no lock, before those who wait are
     * turned away. NULL: nothing to do. */
    void (*end)(struct pier__gate *gate);
    /* Frees what is not the gate's own, with the last reference. NULL: nothing. */
    void (*fini)(struct pier__gate *gate);
    pthread_mutex_t lock;
    /* Guarded by lock. */
    bool closed;
    pier__waiters waiters;
    pier__waiters putters; /* of a queue: who waits for room */
} pier__gate;

/* Zeroed but for the gate, which is its first member; NULL with `err` filled. `name`: of the public
 * function. */
void *pier__gate_new(size_t size, pier_runner *runner, const char *name, pier_error *err);
/* What a dump shows of it, from now on (pier__handle). */
void pier__gate_describe(pier__gate *gate, void (*describe)(pier__handle *, struct pier__dump *));
/* How many wait. Under the lock. */
int pier__waiters_count(const pier__waiters *waiters);
pier__gate *pier__gate_ref(pier__gate *gate);
void pier__gate_unref(pier__gate *gate);
/* What a public free does: turns away all who wait, and drops the user's reference. In a forked
 * child it frees memory alone. NULL is harmless. */
void pier__gate_free(pier__gate *gate);

/* Under the lock. */
void pier__waiters_push(pier__waiters *waiters, pier__waiter *waiter);
void pier__waiters_remove(pier__waiters *waiters, pier__waiter *waiter);
/* Takes out the first, or all of them, in their new state; links them to `chain`, for
 * pier__waiters_wake. Each brings a reference to its operation. */
pier__waiter *pier__waiters_serve(pier__waiters *waiters, pier__waiter_state state,
                                  pier__waiters *chain);
void pier__waiters_serve_all(pier__waiters *waiters, pier__waiter_state state,
                             pier__waiters *chain);

/* Under no lock. */
void pier__waiters_wake(pier__waiters *chain);
/* What a step finds; with PIER__CANCEL in `events` it takes out a waiter that is still queued. */
pier__waiter_state pier__gate_look(pier__gate *gate, pier__waiters *waiters, pier__waiter *waiter,
                                   unsigned events);

/* May a blocking call of this runner's go the short way, without an operation? If not, the long one
 * finds out why. */
bool pier__gate_scope_is_open(const pier_scope *scope);

static inline bool pier__gate_is_quick(const pier__gate *gate)
{
    const pier_runner *runner = gate->handle.runner;
    return (!pier__here.loops || pier__here.task) && !pier__runner_forked(runner) &&
           !atomic_load_explicit(&((pier_runner *)runner)->state, memory_order_relaxed) &&
           (!pier__here.scope || pier__gate_scope_is_open(pier__here.scope));
}

#endif
