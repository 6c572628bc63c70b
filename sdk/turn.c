/*
 * Turns: a FIFO lock whose waiters are operations.
 */
#include "sdk/turn.h"

void pier__turn_init(pier__turn *turn)
{
    pthread_mutex_init(&turn->lock, NULL);
    turn->owner = NULL;
    turn->head = NULL;
    turn->tail = &turn->head;
}

void pier__turn_fini(pier__turn *turn)
{
    pthread_mutex_destroy(&turn->lock);
}

bool pier__turn_take(pier__turn *turn, pier__turn_waiter *waiter)
{
    pthread_mutex_lock(&turn->lock);
    bool got = !turn->owner;
    if (got) {
        turn->owner = waiter->op;
    } else {
        waiter->queued = true;
        waiter->next = NULL;
        *turn->tail = waiter;
        turn->tail = &waiter->next;
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
    }
    pthread_mutex_unlock(&turn->lock);
    return was_queued;
}

bool pier__turn_has(pier__turn *turn, const pier__op *op)
{
    pthread_mutex_lock(&turn->lock);
    bool has = turn->owner == op;
    pthread_mutex_unlock(&turn->lock);
    return has;
}

void pier__turn_give(pier__turn *turn)
{
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
    turn->owner = next;
    pthread_mutex_unlock(&turn->lock);
    if (next) {
        pier__op_wake(next);
        pier__op_unref(next);
    }
}

void pier__turn_cancel_owner(pier__turn *turn)
{
    pthread_mutex_lock(&turn->lock);
    /* It lives: it gives the turn back, under this lock, before it ends. */
    pier__op *owner = turn->owner ? pier__op_ref(turn->owner) : NULL;
    pthread_mutex_unlock(&turn->lock);
    if (owner) {
        pier__op_cancel(owner, PIER_ECLOSED);
        pier__op_unref(owner);
    }
}
