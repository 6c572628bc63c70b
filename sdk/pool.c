/*
 * Pools. Everything happens under one lock, held for a few instructions; who is served is woken
 * after it has been released.
 */
#include "sdk/pool.h"

#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/loop.h"
#include <stdio.h>
#include <string.h>

void pier__pool_init(pier__pool *pool, const char *what, int max)
{
    memset(pool, 0, sizeof *pool);
    pthread_mutex_init(&pool->lock, NULL);
    pool->what = what;
    pool->max = max;
    pool->tail = &pool->head;
}

void pier__pool_fini(pier__pool *pool)
{
    pthread_mutex_destroy(&pool->lock);
}

const void *pier__pool_holder(void)
{
    /* The loop thread outside a task holds nothing for itself: others go on while it waits. */
    if (pier__here.task) {
        return pier__here.task;
    }
    return pier__here.loops ? NULL : &pier__here;
}

/* Would waiting mean waiting for what only the asking thread or task can give back? */
static bool all_mine(const pier__pool *pool, const void *holder)
{
    if (!holder) {
        return false;
    }
    int mine = 0;
    for (const pier__pooled *thing = pool->all; thing; thing = thing->all_next) {
        mine += thing->holder == holder;
    }
    return mine == pool->total;
}

/* The newest idle thing, of the asker's own home where there is one: a connection that the loop
 * watches costs a thread a visit to the loop. */
static pier__pooled *take_idle(pier__pool *pool, bool on_loop)
{
    pier__pooled **at = &pool->idle;
    while (*at && (*at)->on_loop != on_loop) {
        at = &(*at)->next;
    }
    /* A thing of the loop's is left there while another can still be made. */
    if (!*at && pool->idle && (on_loop || pool->total >= pool->max)) {
        at = &pool->idle;
    }
    pier__pooled *thing = *at;
    if (thing) {
        *at = thing->next;
        thing->next = NULL;
    }
    return thing;
}

pier__pool_answer pier__pool_take(pier__pool *pool, pier__ticket *ticket)
{
    pier__pool_answer answer;
    pthread_mutex_lock(&pool->lock);
    pool->acquires++;
    if (pool->closed) {
        answer = PIER__POOL_CLOSED;
    } else if (!pool->head && (ticket->got = take_idle(pool, ticket->op->on_loop))) {
        answer = PIER__POOL_GOT;
    } else if (!pool->head && pool->total < pool->max) {
        pool->total++;
        answer = PIER__POOL_MAKE;
    } else if (all_mine(pool, ticket->op->holder)) {
        answer = PIER__POOL_SELF;
    } else {
        answer = PIER__POOL_WAIT;
        ticket->queued = true;
        ticket->served = false;
        ticket->since = pier__now();
        ticket->next = NULL;
        *pool->tail = ticket;
        pool->tail = &ticket->next;
        pool->waiting++;
        pool->waits++;
    }
    pthread_mutex_unlock(&pool->lock);
    return answer;
}

/* Under the lock: a ticket has been taken out of the queue. */
static void stop_waiting(pier__pool *pool, pier__ticket *ticket)
{
    int64_t waited = pier__now() - ticket->since;
    pool->waited += waited;
    pool->waited_max = waited > pool->waited_max ? waited : pool->waited_max;
    pool->waiting--;
    ticket->queued = false;
}

bool pier__pool_leave(pier__pool *pool, pier__ticket *ticket)
{
    pthread_mutex_lock(&pool->lock);
    bool was_queued = ticket->queued;
    if (was_queued) {
        pier__ticket **at = &pool->head;
        while (*at != ticket) {
            at = &(*at)->next;
        }
        *at = ticket->next;
        if (pool->tail == &ticket->next) {
            pool->tail = at;
        }
        stop_waiting(pool, ticket);
    }
    bool nothing = was_queued || ticket->closed;
    pthread_mutex_unlock(&pool->lock);
    return nothing;
}

/* Under the lock: takes the first ticket out. Gives its operation, with a reference. */
static pier__op *serve_first(pier__pool *pool, pier__pooled *thing, bool closed)
{
    pier__ticket *ticket = pool->head;
    pool->head = ticket->next;
    if (!pool->head) {
        pool->tail = &pool->head;
    }
    stop_waiting(pool, ticket);
    ticket->served = true;
    ticket->got = thing;
    ticket->closed = closed;
    return pier__op_ref(ticket->op);
}

static void wake(pier__op *op)
{
    if (op) {
        pier__op_wake(op);
        pier__op_unref(op);
    }
}

void pier__pool_made(pier__pool *pool, pier__pooled *thing)
{
    pthread_mutex_lock(&pool->lock);
    thing->all_next = pool->all;
    pool->all = thing;
    pool->made++;
    pthread_mutex_unlock(&pool->lock);
}

bool pier__pool_give(pier__pool *pool, pier__pooled *thing)
{
    pier__op *next = NULL;
    pthread_mutex_lock(&pool->lock);
    bool open = !pool->closed;
    thing->holder = NULL;
    thing->holder_what = NULL;
    if (!open) {
        /* The caller ends it. */
    } else if (pool->head) {
        next = serve_first(pool, thing, false);
    } else {
        thing->next = pool->idle;
        pool->idle = thing;
    }
    pthread_mutex_unlock(&pool->lock);
    wake(next);
    return open;
}

void pier__pool_lost(pier__pool *pool, pier__pooled *thing)
{
    pier__op *next = NULL;
    pthread_mutex_lock(&pool->lock);
    if (thing) {
        pier__pooled **at = &pool->all;
        while (*at && *at != thing) {
            at = &(*at)->all_next;
        }
        if (*at) {
            *at = thing->all_next;
            pool->lost += !pool->closed;
        }
    }
    if (pool->head && !pool->closed) {
        next = serve_first(pool, NULL, false); /* it inherits the place in `total` */
    } else {
        pool->total--;
    }
    pthread_mutex_unlock(&pool->lock);
    wake(next);
}

void pier__pool_hold(pier__pool *pool, pier__pooled *thing, const void *holder, const char *what)
{
    pthread_mutex_lock(&pool->lock);
    thing->holder = holder;
    thing->holder_what = what;
    pthread_mutex_unlock(&pool->lock);
}

void pier__pool_each(pier__pool *pool, void (*each)(pier__pooled *thing, void *data), void *data)
{
    pthread_mutex_lock(&pool->lock);
    for (pier__pooled *thing = pool->all; thing; thing = thing->all_next) {
        each(thing, data);
    }
    pthread_mutex_unlock(&pool->lock);
}

void pier__pool_describe(pier__pool *pool, char *buffer, size_t size)
{
    size_t at = 0;
    pthread_mutex_lock(&pool->lock);
    if (size) {
        buffer[0] = '\0';
    }
    for (pier__pooled *thing = pool->all; thing && at < size; thing = thing->all_next) {
        int count = snprintf(buffer + at, size - at, "%s%s", at ? ", " : "",
                             thing->holder_what ? thing->holder_what : "one call");
        at += count > 0 ? (size_t)count : 0;
    }
    pthread_mutex_unlock(&pool->lock);
}

void pier__pool_add_stats(pier__pool *pool, pier_pool_stats *stats)
{
    pthread_mutex_lock(&pool->lock);
    int idle = 0;
    for (const pier__pooled *thing = pool->idle; thing; thing = thing->next) {
        idle++;
    }
    stats->max += pool->max;
    stats->size += pool->total;
    stats->idle += idle;
    stats->leased += pool->total - idle;
    stats->waiting += pool->waiting;
    stats->made += pool->made;
    stats->lost += pool->lost;
    stats->acquires += pool->acquires;
    stats->waits += pool->waits;
    stats->wait_total_us += pool->waited / 1000;
    int64_t wait_max_us = pool->waited_max / 1000;
    stats->wait_max_us = wait_max_us > stats->wait_max_us ? wait_max_us : stats->wait_max_us;
    pthread_mutex_unlock(&pool->lock);
}

pier__pooled *pier__pool_close(pier__pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->closed = true;
    pier__pooled *idle = pool->idle;
    pool->idle = NULL;
    pthread_mutex_unlock(&pool->lock);
    for (pier__op *next = NULL;; wake(next)) {
        pthread_mutex_lock(&pool->lock);
        next = pool->head ? serve_first(pool, NULL, true) : NULL;
        pthread_mutex_unlock(&pool->lock);
        if (!next) {
            return idle;
        }
    }
}
