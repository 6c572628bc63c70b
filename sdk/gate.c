/*
 * Gates: counted handles at which operations wait in order.
 */
#include "sdk/gate.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/scope.h"
#include <stdio.h>

/* Turns away all who wait. */
static void end(pier__gate *gate)
{
    pier__waiters chain = {NULL, NULL};
    if (gate->end) {
        gate->end(gate);
    }
    pthread_mutex_lock(&gate->lock);
    gate->closed = true;
    pier__waiters_serve_all(&gate->waiters, PIER__WAITER_CLOSED, &chain);
    pier__waiters_serve_all(&gate->putters, PIER__WAITER_CLOSED, &chain);
    pthread_mutex_unlock(&gate->lock);
    pier__waiters_wake(&chain);
}

/* By the runner's close: the memory stays, linked by `older`. */
static void close_handle(pier__handle *handle)
{
    pier_runner *runner = handle->runner;
    if (pier__handle_leave(handle)) {
        end((pier__gate *)handle);
        pthread_mutex_lock(&runner->lock);
        handle->older = runner->dead;
        runner->dead = handle;
        pthread_mutex_unlock(&runner->lock);
    }
}

void pier__gates_free(pier__handle *dead)
{
    while (dead) {
        pier__handle *next = dead->older;
        pier__gate_unref((pier__gate *)dead);
        dead = next;
    }
}

void *pier__gate_new(size_t size, pier_runner *runner, const char *name, pier_error *err)
{
    char what[64];
    snprintf(what, sizeof what, "%s: the runner", name);
    if (pier__runner_check(runner, what, err) < 0) {
        return NULL;
    }
    pier__gate *gate = pier__calloc(1, size);
    if (!gate) {
        pier_error_set(err, PIER_ENOMEM, "%s: out of memory", name);
        return NULL;
    }
    atomic_init(&gate->refs, 1);
    pthread_mutex_init(&gate->lock, NULL);
    if (!pier__handle_open(&gate->handle, runner, close_handle)) {
        pier__gate_unref(gate);
        pier_error_set(err, PIER_ECLOSED, "%s: the runner is closed", name);
        return NULL;
    }
    return gate;
}

void pier__gate_describe(pier__gate *gate, void (*describe)(pier__handle *, struct pier__dump *))
{
    pier_runner *runner = gate->handle.runner;
    pthread_mutex_lock(&runner->lock);
    gate->handle.describe = describe;
    pthread_mutex_unlock(&runner->lock);
}

pier__gate *pier__gate_ref(pier__gate *gate)
{
    atomic_fetch_add_explicit(&gate->refs, 1, memory_order_relaxed);
    return gate;
}

void pier__gate_unref(pier__gate *gate)
{
    if (atomic_fetch_sub_explicit(&gate->refs, 1, memory_order_acq_rel) == 1) {
        if (gate->fini) {
            gate->fini(gate);
        }
        pthread_mutex_destroy(&gate->lock);
        pier__free(gate);
    }
}

void pier__gate_free(pier__gate *gate)
{
    if (!gate) {
        return;
    }
    if (pier__runner_forked(gate->handle.runner)) {
        pier__gate_unref(gate);
    } else if (pier__handle_leave(&gate->handle)) {
        end(gate);
        pier__gate_unref(gate);
    }
}

/* ---- Waiters ------------------------------------------------------------------------------ */

static void append(pier__waiters *waiters, pier__waiter *waiter)
{
    waiter->next = NULL;
    waiter->prev = waiters->tail;
    *(waiters->tail ? &waiters->tail->next : &waiters->head) = waiter;
    waiters->tail = waiter;
}

int pier__waiters_count(const pier__waiters *waiters)
{
    int count = 0;
    for (const pier__waiter *waiter = waiters->head; waiter; waiter = waiter->next) {
        count++;
    }
    return count;
}

void pier__waiters_push(pier__waiters *waiters, pier__waiter *waiter)
{
    waiter->state = PIER__WAITER_QUEUED;
    append(waiters, waiter);
}

void pier__waiters_remove(pier__waiters *waiters, pier__waiter *waiter)
{
    *(waiter->prev ? &waiter->prev->next : &waiters->head) = waiter->next;
    *(waiter->next ? &waiter->next->prev : &waiters->tail) = waiter->prev;
}

pier__waiter *pier__waiters_serve(pier__waiters *waiters, pier__waiter_state state,
                                  pier__waiters *chain)
{
    pier__waiter *waiter = waiters->head;
    if (waiter) {
        pier__waiters_remove(waiters, waiter);
        waiter->state = state;
        /* It could be cancelled, end and be freed as soon as the lock is released. */
        pier__op_ref(waiter->op);
        append(chain, waiter);
    }
    return waiter;
}

void pier__waiters_serve_all(pier__waiters *waiters, pier__waiter_state state, pier__waiters *chain)
{
    while (pier__waiters_serve(waiters, state, chain)) {
    }
}

void pier__waiters_wake(pier__waiters *chain)
{
    for (pier__waiter *waiter = chain->head; waiter;) {
        pier__waiter *next = waiter->next;
        pier__op *op = waiter->op;
        pier__op_wake(op);
        pier__op_unref(op);
        waiter = next;
    }
}

pier__waiter_state pier__gate_look(pier__gate *gate, pier__waiters *waiters, pier__waiter *waiter,
                                   unsigned events)
{
    pthread_mutex_lock(&gate->lock);
    if (waiter->state == PIER__WAITER_QUEUED && events & PIER__CANCEL) {
        pier__waiters_remove(waiters, waiter);
        waiter->state = PIER__WAITER_LEFT;
    }
    pier__waiter_state state = waiter->state;
    pthread_mutex_unlock(&gate->lock);
    return state;
}

bool pier__gate_scope_is_open(const pier_scope *scope)
{
    return !pier__scope_cancelled(scope) && (!scope->deadline || pier__now() < scope->deadline);
}
