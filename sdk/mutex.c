/*
 * Mutexes: one word that says who holds it, and whether somebody waits. Without waiters they are
 * locked and unlocked by one instruction each; the bit is set and cleared under the gate's lock.
 */
#include "sdk/mutex.h"

#include "sdk/clock.h"
#include "sdk/deadlock.h"
#include "sdk/dump.h"
#include "sdk/pool.h"
#include "sync/ops.h"
#include <stdio.h>

#define WAITED ((uintptr_t)1)

/* How often a wait that heeds nothing else looks whether the runner closes. */
enum { LOOK_MS = 50 };

const uintptr_t pier__nobody;

struct pier_mutex {
    pier__gate gate;
    char name[32]; /* immutable */
    atomic_uintptr_t owner;
};

struct lock_op {
    pier__op op;
    pier_mutex *mutex; /* holds a reference */
    pier__waiter waiter;
    bool claimed; /* it is the caller's business now */
};

/* ---- The lock ----------------------------------------------------------------------------- */

static const void *owner_of(pier_mutex *mutex)
{
    return (const void *)(atomic_load(&mutex->owner) & ~WAITED);
}

bool pier__mutex_is_held_by(pier_mutex *mutex, const void *holder)
{
    return owner_of(mutex) == holder;
}

pier_runner *pier__mutex_runner(const pier_mutex *mutex)
{
    return mutex->gate.handle.runner;
}

pier_mutex *pier__mutex_ref(pier_mutex *mutex)
{
    pier__gate_ref(&mutex->gate);
    return mutex;
}

void pier__mutex_unref(pier_mutex *mutex)
{
    pier__gate_unref(&mutex->gate);
}

static bool take_free(pier_mutex *mutex, const void *holder)
{
    uintptr_t owner = 0;
    return atomic_compare_exchange_strong(&mutex->owner, &owner, (uintptr_t)holder);
}

/* Under the lock: takes it, or announces that somebody waits. */
static bool take_or_announce(pier_mutex *mutex, const void *holder)
{
    uintptr_t owner = atomic_load(&mutex->owner);
    for (;;) {
        if (owner & WAITED) {
            return false;
        }
        uintptr_t wanted = owner ? owner | WAITED : (uintptr_t)holder;
        if (atomic_compare_exchange_weak(&mutex->owner, &owner, wanted)) {
            return !owner;
        }
    }
}

pier__waiter_state pier__mutex_take(pier_mutex *mutex, pier__waiter *waiter, const void *holder)
{
    waiter->holder = holder;
    pthread_mutex_lock(&mutex->gate.lock);
    if (mutex->gate.closed) {
        waiter->state = PIER__WAITER_CLOSED;
    } else if (take_or_announce(mutex, holder)) {
        waiter->state = PIER__WAITER_SERVED;
    } else {
        pier__waiters_push(&mutex->gate.waiters, waiter);
    }
    pier__waiter_state state = waiter->state;
    pthread_mutex_unlock(&mutex->gate.lock);
    return state;
}

pier__waiter_state pier__mutex_look(pier_mutex *mutex, pier__waiter *waiter, unsigned events)
{
    pthread_mutex_lock(&mutex->gate.lock);
    if (waiter->state == PIER__WAITER_QUEUED && events & PIER__CANCEL) {
        pier__waiters_remove(&mutex->gate.waiters, waiter);
        waiter->state = PIER__WAITER_LEFT;
        if (!mutex->gate.waiters.head) {
            atomic_fetch_and(&mutex->owner, ~WAITED);
        }
    }
    pier__waiter_state state = waiter->state;
    pthread_mutex_unlock(&mutex->gate.lock);
    return state;
}

void pier__mutex_give(pier_mutex *mutex)
{
    uintptr_t owner = atomic_load_explicit(&mutex->owner, memory_order_relaxed);
    if (!(owner & WAITED) && atomic_compare_exchange_strong(&mutex->owner, &owner, 0)) {
        return;
    }
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&mutex->gate.lock);
    pier__waiter *next = pier__waiters_serve(&mutex->gate.waiters, PIER__WAITER_SERVED, &chain);
    uintptr_t holder = next ? (uintptr_t)next->holder : 0;
    atomic_store(&mutex->owner, holder | (mutex->gate.waiters.head ? WAITED : 0));
    pthread_mutex_unlock(&mutex->gate.lock);
    pier__waiters_wake(&chain);
}

/* ---- Operations --------------------------------------------------------------------------- */

static void settle(pier__op *op, pier__waiter_state state)
{
    if (state == PIER__WAITER_SERVED) {
        pier__op_succeed_int(op, 0);
    } else if (state == PIER__WAITER_CLOSED) {
        pier__op_fail(op, PIER_ECLOSED, "pier_mutex_lock: the mutex was freed");
    } else if (state == PIER__WAITER_LEFT) {
        pier__op_fail_cancelled(op);
    }
}

static void lock_step(pier__op *op, unsigned events)
{
    struct lock_op *locker = (struct lock_op *)op;
    pier_mutex *mutex = locker->mutex;
    if (!(events & PIER__START)) {
        settle(op, pier__mutex_look(mutex, &locker->waiter, events));
        return;
    }
    op->doing = "waiting for the mutex";
    if (op->holder && pier__mutex_is_held_by(mutex, op->holder)) {
        pier__op_fail(op, PIER_EDEADLOCK,
                      "pier_mutex_lock: the caller holds the mutex already, and would wait for "
                      "itself; unlock it first");
        return;
    }
    settle(op, pier__mutex_take(mutex, &locker->waiter, op->holder ? op->holder : PIER__NOBODY));
}

/* Heeds the closing runner alone, and that by itself: the one step with PIER__CANCEL may have come
 * for another reason. */
static void relock_step(pier__op *op, unsigned events)
{
    struct lock_op *locker = (struct lock_op *)op;
    pier_mutex *mutex = locker->mutex;
    bool closing = atomic_load(&op->runner->state) != PIER__OPEN_RUNNER;
    pier__waiter_state state;
    if (events & PIER__START) {
        op->doing = "locking the mutex again";
        state = pier__mutex_take(mutex, &locker->waiter, op->holder ? op->holder : PIER__NOBODY);
    } else {
        state = pier__mutex_look(mutex, &locker->waiter, closing ? PIER__CANCEL : 0);
    }
    if (state == PIER__WAITER_LEFT) {
        pier__op_fail(op, PIER_ECLOSED,
                      "pier_condition_wait: the runner closes; the mutex was not locked again");
        return;
    }
    op->wait.until = pier__deadline(LOOK_MS, 0);
    settle(op, state);
}

static void lock_claim(pier__op *op)
{
    ((struct lock_op *)op)->claimed = true;
}

static void lock_drop(pier__op *op)
{
    struct lock_op *locker = (struct lock_op *)op;
    if (!locker->claimed) {
        pier__mutex_give(locker->mutex);
    }
}

static void lock_fini(pier__op *op)
{
    pier__mutex_unref(((struct lock_op *)op)->mutex);
}

static const char *lock_subject(const pier__op *op)
{
    return ((const struct lock_op *)op)->mutex->name;
}

/* Whoever holds it must unlock it; of one that a future or a callback has locked nobody knows who
 * will. */
static bool lock_waits_for(pier__op *op, pier__walk *walk)
{
    struct lock_op *locker = (struct lock_op *)op;
    pier_mutex *mutex = locker->mutex;
    pthread_mutex_lock(&mutex->gate.lock);
    bool waits = locker->waiter.state == PIER__WAITER_QUEUED;
    const void *owner = owner_of(mutex);
    pthread_mutex_unlock(&mutex->gate.lock);
    return !waits || !owner || owner == PIER__NOBODY || pier__walk_holder(walk, owner);
}

static const pier__op_class lock_class = {
    .name = "pier_mutex_lock",
    .result = "int",
    .size = sizeof(struct lock_op),
    .step = lock_step,
    .claim = lock_claim,
    .drop = lock_drop,
    .fini = lock_fini,
    .subject = lock_subject,
    .waits_for = lock_waits_for,
};

static const pier__op_class relock_class = {
    .name = "pier_condition_wait",
    .result = "int",
    .size = sizeof(struct lock_op),
    .shielded = true,
    .step = relock_step,
    .claim = lock_claim,
    .drop = lock_drop,
    .fini = lock_fini,
    .subject = lock_subject,
    .waits_for = lock_waits_for,
};

static pier__op *new_op(const pier__op_class *cls, pier_mutex *mutex)
{
    pier__op *failed = NULL;
    struct lock_op *locker = pier__op_new(cls, mutex->gate.handle.runner, &failed);
    if (!locker) {
        return failed;
    }
    locker->mutex = pier__mutex_ref(mutex);
    locker->waiter.op = &locker->op;
    return &locker->op;
}

pier__op *pier__mutex_relock_op(pier_mutex *mutex)
{
    return new_op(&relock_class, mutex);
}

pier_future *pier__mutex_lock_op(pier_mutex *mutex)
{
    return mutex ? new_op(&lock_class, mutex) : pier__op_null();
}

bool pier__mutex_lock_fast(pier_mutex *mutex, int *result)
{
    *result = 0;
    return mutex && pier__gate_is_quick(&mutex->gate) && take_free(mutex, pier__pool_holder());
}

/* ---- Public ------------------------------------------------------------------------------- */

/* Of those that are free there is nothing to say. */
static void describe(pier__handle *handle, pier__dump *dump)
{
    pier_mutex *mutex = (pier_mutex *)handle;
    pthread_mutex_lock(&mutex->gate.lock);
    const void *owner = owner_of(mutex);
    int waiting = pier__waiters_count(&mutex->gate.waiters);
    pthread_mutex_unlock(&mutex->gate.lock);
    if (owner) {
        char who[96] = "a future or a callback";
        if (owner != PIER__NOBODY) {
            pier__dump_who(handle->runner, owner, who, sizeof who);
        }
        pier__dump_line(dump, 0, "mutex \"%s\" %p: held by %s, %d waiting", mutex->name,
                        (void *)mutex, who, waiting);
    }
}

pier_mutex *pier_mutex_new(pier_runner *runner, const char *name, pier_error *err)
{
    pier_mutex *mutex = pier__gate_new(sizeof *mutex, runner, "pier_mutex_new", err);
    if (mutex) {
        snprintf(mutex->name, sizeof mutex->name, "%s", name ? name : "");
        pier__gate_describe(&mutex->gate, describe);
    }
    return mutex;
}

static int check(const pier_mutex *mutex, const char *what, pier_error *err)
{
    if (!mutex) {
        return pier__error_null(err, what);
    }
    if (pier__runner_forked(mutex->gate.handle.runner)) {
        return pier__runner_check(mutex->gate.handle.runner, what, err);
    }
    return 0;
}

static const void *caller(void)
{
    const void *holder = pier__pool_holder();
    return holder ? holder : PIER__NOBODY;
}

int pier_mutex_try_lock(pier_mutex *mutex, pier_error *err)
{
    int status = check(mutex, "pier_mutex_try_lock: the mutex", err);
    return status < 0 ? status : take_free(mutex, caller());
}

int pier_mutex_unlock(pier_mutex *mutex, pier_error *err)
{
    int status = check(mutex, "pier_mutex_unlock: the mutex", err);
    if (status < 0) {
        return status;
    }
    const void *owner = owner_of(mutex);
    if (owner == caller() || owner == PIER__NOBODY) {
        pier__mutex_give(mutex);
        return 0;
    }
    return pier_error_set(err, PIER_EINVAL, "pier_mutex_unlock: %s%s%s",
                          owner ? "another thread or task holds the mutex, and must unlock it"
                                : "the mutex is not locked",
                          *mutex->name ? ": " : "", mutex->name);
}

void pier_mutex_free(pier_mutex *mutex)
{
    pier__gate_free(mutex ? &mutex->gate : NULL);
}
