/*
 * Conditions. A wait is one operation that unlocks the mutex in its first step, when it is queued
 * already, so that no notification is missed. The blocking form locks it again with another one,
 * made beforehand and deaf to scopes, because a caller that holds a mutex must find it locked
 * whatever ended the wait. A future does it itself, as a second phase.
 */
#include <pier/condition.h>

#include "sdk/mutex.h"
#include "sdk/pool.h"
#include <pier/task.h>

struct pier_condition {
    pier__gate gate;
};

struct wait_op {
    pier__op op;
    pier_condition *condition; /* each holds a reference */
    pier_mutex *mutex;
    pier__waiter waiter;
    bool relocks; /* a future */
    bool locking; /* notified; it waits for the mutex */
    bool claimed; /* the mutex is the caller's business now */
    pier__waiter locker;
};

static void notify(pier_condition *condition, bool all)
{
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&condition->gate.lock);
    if (all) {
        pier__waiters_serve_all(&condition->gate.waiters, PIER__WAITER_SERVED, &chain);
    } else {
        pier__waiters_serve(&condition->gate.waiters, PIER__WAITER_SERVED, &chain);
    }
    pthread_mutex_unlock(&condition->gate.lock);
    pier__waiters_wake(&chain);
}

/* Queues it and unlocks the mutex. False: it has failed instead. */
static bool begin(struct wait_op *waiting)
{
    pier__op *op = &waiting->op;
    pier__gate *gate = &waiting->condition->gate;
    const void *holder = waiting->relocks ? PIER__NOBODY : op->holder;
    op->doing = "waiting for the condition";
    if (!holder || !pier__mutex_is_held_by(waiting->mutex, holder)) {
        pier__op_fail(op, PIER_EINVAL, "pier_condition_wait: %s",
                      waiting->relocks ? "the mutex must have been locked by pier_mutex_lock_async"
                                       : "the caller does not hold the mutex; lock it first");
        return false;
    }
    pthread_mutex_lock(&gate->lock);
    bool closed = gate->closed;
    if (!closed) {
        pier__waiters_push(&gate->waiters, &waiting->waiter);
    }
    pthread_mutex_unlock(&gate->lock);
    if (closed) {
        pier__op_fail(op, PIER_ECLOSED, "pier_condition_wait: the condition was freed");
        return false;
    }
    pier__mutex_give(waiting->mutex);
    return true;
}

/* The second phase of a future. One that is cancelled there hands its notification on. */
static void lock_again(struct wait_op *waiting, unsigned events)
{
    pier__op *op = &waiting->op;
    pier__waiter_state state;
    if (waiting->locking) {
        state = pier__mutex_look(waiting->mutex, &waiting->locker, events);
    } else {
        waiting->locking = true;
        op->doing = "locking the mutex again";
        state = pier__mutex_take(waiting->mutex, &waiting->locker, PIER__NOBODY);
        if (state == PIER__WAITER_QUEUED && events & PIER__CANCEL) {
            state = pier__mutex_look(waiting->mutex, &waiting->locker, events);
        }
    }
    if (state == PIER__WAITER_SERVED) {
        pier__op_succeed_int(op, 0);
    } else if (state == PIER__WAITER_CLOSED) {
        pier__op_fail(op, PIER_ECLOSED, "pier_condition_wait: the mutex was freed");
    } else if (state == PIER__WAITER_LEFT) {
        notify(waiting->condition, false);
        pier__op_fail_cancelled(op);
    }
}

static void wait_step(pier__op *op, unsigned events)
{
    struct wait_op *waiting = (struct wait_op *)op;
    pier__gate *gate = &waiting->condition->gate;
    if (events & PIER__START && !begin(waiting)) {
        return;
    }
    switch (pier__gate_look(gate, &gate->waiters, &waiting->waiter, events)) {
    case PIER__WAITER_SERVED:
        if (waiting->relocks) {
            lock_again(waiting, events);
        } else {
            pier__op_succeed_int(op, 0);
        }
        break;
    case PIER__WAITER_CLOSED:
        pier__op_fail(op, PIER_ECLOSED, "pier_condition_wait: the condition was freed");
        break;
    case PIER__WAITER_LEFT:
        pier__op_fail_cancelled(op);
        break;
    default:
        break;
    }
}

static void wait_claim(pier__op *op)
{
    ((struct wait_op *)op)->claimed = true;
}

static void wait_drop(pier__op *op)
{
    struct wait_op *waiting = (struct wait_op *)op;
    if (waiting->relocks && !waiting->claimed) {
        pier__mutex_give(waiting->mutex);
    }
}

static void wait_fini(pier__op *op)
{
    struct wait_op *waiting = (struct wait_op *)op;
    pier__mutex_unref(waiting->mutex);
    pier__gate_unref(&waiting->condition->gate);
}

static const pier__op_class wait_class = {
    .name = "pier_condition_wait",
    .result = "int",
    .size = sizeof(struct wait_op),
    .step = wait_step,
    .claim = wait_claim,
    .drop = wait_drop,
    .fini = wait_fini,
};

static pier__op *wait_op(pier_condition *condition, pier_mutex *mutex, bool relocks)
{
    if (!condition || !mutex) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct wait_op *waiting = pier__op_new(&wait_class, condition->gate.handle.runner, &failed);
    if (!waiting) {
        return failed;
    }
    pier__gate_ref(&condition->gate);
    waiting->condition = condition;
    waiting->mutex = pier__mutex_ref(mutex);
    waiting->relocks = relocks;
    waiting->waiter.op = waiting->locker.op = &waiting->op;
    return &waiting->op;
}

/* ---- Public ------------------------------------------------------------------------------- */

/* Refuses what would leave the mutex in an unknown state. A task of another runner is not the one
 * who steps the operation, and could return before that has begun. */
static int check(pier_condition *condition, pier_mutex *mutex, pier_error *err)
{
    if (!condition || !mutex) {
        return pier__error_null(err, condition ? "pier_condition_wait: the mutex"
                                               : "pier_condition_wait: the condition");
    }
    pier_runner *runner = condition->gate.handle.runner;
    if (pier__mutex_runner(mutex) != runner ||
        (pier__here.task && pier_task_runner(pier__here.task) != runner)) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_condition_wait: the condition, the mutex and the task that "
                              "waits must be of one runner");
    }
    return 0;
}

int pier_condition_wait(pier_condition *condition, pier_mutex *mutex, pier_error *err)
{
    int status = check(condition, mutex, err);
    if (status < 0) {
        return status;
    }
    const void *holder = pier__pool_holder();
    pier__op *relock = pier__mutex_relock_op(mutex);
    if (pier__op_settled(relock)) {
        return pier__op_take_int(relock, "int", err);
    }
    bool held = holder && pier__mutex_is_held_by(mutex, holder);
    status = pier__op_take_int(pier__op_run(wait_op(condition, mutex, false), err), "int", err);
    bool still = held && pier__mutex_is_held_by(mutex, holder); /* the wait had not begun */
    if (status == PIER_ECLOSED && still) {
        pier__mutex_give(mutex);
    }
    if (!held || still || status == PIER_ECLOSED) {
        pier__op_unref(relock);
        return status;
    }
    pier_error local = {0};
    int locked = pier__op_take_int(pier__op_run(relock, &local), "int", &local);
    if (locked < 0 && err) {
        *err = local;
    }
    return locked < 0 ? locked : status;
}

pier_future *pier_condition_wait_async(pier_condition *condition, pier_mutex *mutex)
{
    if (condition && mutex && pier__mutex_runner(mutex) != condition->gate.handle.runner) {
        pier__op *op = wait_op(condition, mutex, true);
        return pier__op_settled(op)
                   ? op
                   : pier__op_refuse(op, PIER_EINVAL,
                                     "pier_condition_wait: the condition and the mutex must be "
                                     "of one runner");
    }
    return pier__op_submit(wait_op(condition, mutex, true));
}

int pier_condition_wait_finish(pier_future *future, pier_error *err)
{
    return pier__op_take_int(future, "int", err);
}

pier_condition *pier_condition_new(pier_runner *runner, pier_error *err)
{
    return pier__gate_new(sizeof(pier_condition), runner, "pier_condition_new", err);
}

void pier_condition_notify(pier_condition *condition)
{
    if (condition && !pier__runner_forked(condition->gate.handle.runner)) {
        notify(condition, false);
    }
}

void pier_condition_notify_all(pier_condition *condition)
{
    if (condition && !pier__runner_forked(condition->gate.handle.runner)) {
        notify(condition, true);
    }
}

void pier_condition_free(pier_condition *condition)
{
    pier__gate_free(condition ? &condition->gate : NULL);
}
