/*
 * Turns: a FIFO lock whose waiters are operations.
 */
#include "sdk/turn.h"

#define WAITED ((uintptr_t)1)

void pier__turn_init(pier__turn *turn)
{
    atomic_init(&turn->owner, 0);
    pthread_mutex_init(&turn->lock, NULL);
    turn->head = NULL;
    turn->tail = &turn->head;
}

void pier__turn_fini(pier__turn *turn)
{
    pthread_mutex_destroy(&turn->lock);
}

static void enqueue(pier__turn *turn, pier__turn_waiter *waiter)
{
    pier__turn_waiter *last =
        turn->head ? (pier__turn_waiter *)((char *)turn->tail - offsetof(pier__turn_waiter, next))
                   : NULL;
    waiter->before = last ? last->op : (const pier__op *)(atomic_load(&turn->owner) & ~WAITED);
    waiter->queued = true;
    waiter->next = NULL;
    *turn->tail = waiter;
    turn->tail = &waiter->next;
}

bool pier__turn_take(pier__turn *turn, pier__turn_waiter *waiter)
{
    uintptr_t owner = 0;
    if (atomic_compare_exchange_strong(&turn->owner, &owner, (uintptr_t)waiter->op)) {
        return true;
    }
    bool got = false;
    pthread_mutex_lock(&turn->lock);
    /* Announces the waiter, unless the turn has become free meanwhile. */
    owner = atomic_load(&turn->owner);
    while (!got && !(owner & WAITED)) {
        if (!owner) {
            got = atomic_compare_exchange_weak(&turn->owner, &owner, (uintptr_t)waiter->op);
        } else if (atomic_compare_exchange_weak(&turn->owner, &owner, owner | WAITED)) {
            break;
        }
    }
    if (!got) {
        enqueue(turn, waiter);
    }
    pthread_mutex_unlock(&turn->lock);
    return got;
}

bool pier__turn_leave(pier__turn *turn, pier__turn_waiter *waiter)
{
    pthread_mutex_lock(&turn->lock);
    bool was_queued = waiter->queued;
    if (was_queued) {
        pier__turn_waiter **at = &turn->head;
        while (*at != waiter) {
            at = &(*at)->next;
        }
        *at = waiter->next;
        if (turn->tail == &waiter->next) {
            turn->tail = at;
        }
        waiter->queued = false;
        if (!turn->head) {
            atomic_fetch_and(&turn->owner, ~WAITED);
        }
    }
    pthread_mutex_unlock(&turn->lock);
    return was_queued;
}

pier__op *pier__turn_owner(pier__turn *turn)
{
    pthread_mutex_lock(&turn->lock);
    /* With somebody waiting (the caller) it is given back under this lock, so the owner lives. */
    uintptr_t word = atomic_load(&turn->owner);
    pier__op *owner = word & WAITED ? pier__op_ref((pier__op *)(word & ~WAITED)) : NULL;
    pthread_mutex_unlock(&turn->lock);
    return owner;
}

pier__op *pier__turn_owner_on_loop(pier__turn *turn)
{
    return (pier__op *)(atomic_load(&turn->owner) & ~WAITED);
}

void pier__turn_cancel_owner(pier__turn *turn)
{
    pier__op *owner = pier__turn_owner(turn);
    if (owner) {
        pier__op_cancel(owner, PIER_ECLOSED);
        pier__op_unref(owner);
    }
}

void pier__turn_give(pier__turn *turn)
{
    uintptr_t owner = atomic_load_explicit(&turn->owner, memory_order_relaxed);
    if (!(owner & WAITED) && atomic_compare_exchange_strong(&turn->owner, &owner, 0)) {
        return;
    }
    pier__op *next = NULL;
    pthread_mutex_lock(&turn->lock);
    pier__turn_waiter *waiter = turn->head;
    if (waiter) {
        turn->head = waiter->next;
        if (!turn->head) {
            turn->tail = &turn->head;
        }
        waiter->queued = false;
        /* It could be cancelled, end and be freed as soon as the lock is released. */
        next = pier__op_ref(waiter->op);
    }
    atomic_store(&turn->owner, (uintptr_t)next | (turn->head ? WAITED : 0));
    pthread_mutex_unlock(&turn->lock);
    if (next) {
        pier__op_wake(next);
        pier__op_unref(next);
    }
}
