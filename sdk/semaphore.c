/*
 * Semaphores: a count. Nobody waits while there is one to be had.
 */
#include <pier/semaphore.h>

#include "sdk/gate.h"
#include "sync/ops.h"

struct pier_semaphore {
    pier__gate gate;
    int64_t count; /* guarded by the gate's lock */
};

struct acquire_op {
    pier__op op;
    pier_semaphore *semaphore; /* holds a reference */
    pier__waiter waiter;
    bool claimed; /* it is the caller's business now */
};

static bool try_acquire(pier_semaphore *semaphore)
{
    pthread_mutex_lock(&semaphore->gate.lock);
    bool got = semaphore->count > 0;
    semaphore->count -= got;
    pthread_mutex_unlock(&semaphore->gate.lock);
    return got;
}

bool pier__semaphore_acquire_fast(pier_semaphore *semaphore, int *result)
{
    *result = 0;
    return semaphore && pier__gate_is_quick(&semaphore->gate) && try_acquire(semaphore);
}

static void release(pier_semaphore *semaphore)
{
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&semaphore->gate.lock);
    if (!pier__waiters_serve(&semaphore->gate.waiters, PIER__WAITER_SERVED, &chain)) {
        semaphore->count++;
    }
    pthread_mutex_unlock(&semaphore->gate.lock);
    pier__waiters_wake(&chain);
}

static void enter(struct acquire_op *acquirer)
{
    pier_semaphore *semaphore = acquirer->semaphore;
    pthread_mutex_lock(&semaphore->gate.lock);
    if (semaphore->gate.closed) {
        acquirer->waiter.state = PIER__WAITER_CLOSED;
    } else if (semaphore->count > 0) {
        semaphore->count--;
        acquirer->waiter.state = PIER__WAITER_SERVED;
    } else {
        pier__waiters_push(&semaphore->gate.waiters, &acquirer->waiter);
    }
    pthread_mutex_unlock(&semaphore->gate.lock);
}

static void acquire_step(pier__op *op, unsigned events)
{
    struct acquire_op *acquirer = (struct acquire_op *)op;
    pier__gate *gate = &acquirer->semaphore->gate;
    if (events & PIER__START) {
        op->doing = "waiting for the semaphore";
        enter(acquirer);
    }
    switch (pier__gate_look(gate, &gate->waiters, &acquirer->waiter, events)) {
    case PIER__WAITER_SERVED:
        pier__op_succeed_int(op, 0);
        break;
    case PIER__WAITER_CLOSED:
        pier__op_fail(op, PIER_ECLOSED, "pier_semaphore_acquire: the semaphore was freed");
        break;
    case PIER__WAITER_LEFT:
        pier__op_fail_cancelled(op);
        break;
    default:
        break;
    }
}

static void acquire_claim(pier__op *op)
{
    ((struct acquire_op *)op)->claimed = true;
}

static void acquire_drop(pier__op *op)
{
    struct acquire_op *acquirer = (struct acquire_op *)op;
    if (!acquirer->claimed) {
        release(acquirer->semaphore);
    }
}

static void acquire_fini(pier__op *op)
{
    pier__gate_unref(&((struct acquire_op *)op)->semaphore->gate);
}

static const pier__op_class acquire_class = {
    .name = "pier_semaphore_acquire",
    .result = "int",
    .size = sizeof(struct acquire_op),
    .step = acquire_step,
    .claim = acquire_claim,
    .drop = acquire_drop,
    .fini = acquire_fini,
};

pier_future *pier__semaphore_acquire_op(pier_semaphore *semaphore)
{
    if (!semaphore) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct acquire_op *acquirer =
        pier__op_new(&acquire_class, semaphore->gate.handle.runner, &failed);
    if (!acquirer) {
        return failed;
    }
    pier__gate_ref(&semaphore->gate);
    acquirer->semaphore = semaphore;
    acquirer->waiter.op = &acquirer->op;
    return &acquirer->op;
}

/* ---- Public ------------------------------------------------------------------------------- */

pier_semaphore *pier_semaphore_new(pier_runner *runner, int64_t count, pier_error *err)
{
    if (count < 0) {
        pier_error_set(err, PIER_EINVAL, "pier_semaphore_new: a count of %" PRId64 "; 0 or more",
                       count);
        return NULL;
    }
    pier_semaphore *semaphore =
        pier__gate_new(sizeof *semaphore, runner, "pier_semaphore_new", err);
    if (semaphore) {
        semaphore->count = count;
    }
    return semaphore;
}

int pier_semaphore_try_acquire(pier_semaphore *semaphore, pier_error *err)
{
    const char *what = "pier_semaphore_try_acquire: the semaphore";
    int status = semaphore ? pier__runner_check(semaphore->gate.handle.runner, what, err)
                           : pier__error_null(err, what);
    return status < 0 ? status : try_acquire(semaphore);
}

void pier_semaphore_release(pier_semaphore *semaphore)
{
    if (semaphore && !pier__runner_forked(semaphore->gate.handle.runner)) {
        release(semaphore);
    }
}

void pier_semaphore_free(pier_semaphore *semaphore)
{
    pier__gate_free(semaphore ? &semaphore->gate : NULL);
}
