/*
 * Events: a flag. Nobody waits while it is set.
 */
#include <pier/event.h>

#include "sdk/gate.h"
#include "sync/ops.h"

struct pier_event {
    pier__gate gate;
    atomic_bool set; /* changed under the gate's lock */
};

struct wait_op {
    pier__op op;
    pier_event *event; /* holds a reference */
    pier__waiter waiter;
};

bool pier__event_wait_fast(pier_event *event, int *result)
{
    *result = 0;
    return event && pier__gate_is_quick(&event->gate) && atomic_load(&event->set);
}

static void enter(struct wait_op *waiting)
{
    pier__gate *gate = &waiting->event->gate;
    pthread_mutex_lock(&gate->lock);
    if (gate->closed) {
        waiting->waiter.state = PIER__WAITER_CLOSED;
    } else if (atomic_load(&waiting->event->set)) {
        waiting->waiter.state = PIER__WAITER_SERVED;
    } else {
        pier__waiters_push(&gate->waiters, &waiting->waiter);
    }
    pthread_mutex_unlock(&gate->lock);
}

static void wait_step(pier__op *op, unsigned events)
{
    struct wait_op *waiting = (struct wait_op *)op;
    pier__gate *gate = &waiting->event->gate;
    if (events & PIER__START) {
        op->doing = "waiting for the event";
        enter(waiting);
    }
    switch (pier__gate_look(gate, &gate->waiters, &waiting->waiter, events)) {
    case PIER__WAITER_SERVED:
        pier__op_succeed_int(op, 0);
        break;
    case PIER__WAITER_CLOSED:
        pier__op_fail(op, PIER_ECLOSED, "pier_event_wait: the event was freed");
        break;
    case PIER__WAITER_LEFT:
        pier__op_fail_cancelled(op);
        break;
    default:
        break;
    }
}

static void wait_fini(pier__op *op)
{
    pier__gate_unref(&((struct wait_op *)op)->event->gate);
}

static const pier__op_class wait_class = {
    .name = "pier_event_wait",
    .result = "int",
    .size = sizeof(struct wait_op),
    .step = wait_step,
    .fini = wait_fini,
};

pier_future *pier__event_wait_op(pier_event *event)
{
    if (!event) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct wait_op *waiting = pier__op_new(&wait_class, event->gate.handle.runner, &failed);
    if (!waiting) {
        return failed;
    }
    pier__gate_ref(&event->gate);
    waiting->event = event;
    waiting->waiter.op = &waiting->op;
    return &waiting->op;
}

/* ---- Public ------------------------------------------------------------------------------- */

pier_event *pier_event_new(pier_runner *runner, pier_error *err)
{
    return pier__gate_new(sizeof(pier_event), runner, "pier_event_new", err);
}

static void change(pier_event *event, bool set)
{
    if (!event || pier__runner_forked(event->gate.handle.runner)) {
        return;
    }
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&event->gate.lock);
    atomic_store(&event->set, set);
    if (set) {
        pier__waiters_serve_all(&event->gate.waiters, PIER__WAITER_SERVED, &chain);
    }
    pthread_mutex_unlock(&event->gate.lock);
    pier__waiters_wake(&chain);
}

void pier_event_set(pier_event *event)
{
    change(event, true);
}

void pier_event_clear(pier_event *event)
{
    change(event, false);
}

bool pier_event_is_set(const pier_event *event)
{
    return event && atomic_load(&((pier_event *)event)->set);
}

void pier_event_free(pier_event *event)
{
    pier__gate_free(event ? &event->gate : NULL);
}
