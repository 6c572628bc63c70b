/*
 * Pools. Everything happens under one lock, held for a few instructions; who is served is woken
 * after it has been released. Threads that find a thing idle, and nobody waiting, do without it.
 */
#include "sdk/pool.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/loop.h"
#include <stdio.h>
#include <string.h>

/* The pauses between attempts to make things after failures: the first one, and the longest. What
 * is back again is noticed within a second. */
enum { PAUSE_MS = 50, PAUSE_MAX_MS = 600 };

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
    pier__free(pool->failure);
    pthread_mutex_destroy(&pool->lock);
}

/* ---- Quick and slow ----------------------------------------------------------------------- */

pier__pooled pier__pool_slow; /* only its address counts */

int pier__pool_place(void)
{
    static atomic_uint threads;
    static _Thread_local int place = -1;
    if (place < 0) {
        place = (int)(atomic_fetch_add(&threads, 1) % PIER__POOL_PLACES);
    }
    return place;
}

/* Under the lock: nothing comes or goes but through it. */
static void bar_places(pier__pool *pool)
{
    int count = atomic_load_explicit(&pool->place_count, memory_order_relaxed);
    for (int i = 0; i < count && !pool->barred; i++) {
        pier__pooled *thing = atomic_exchange(&pool->places[i], &pier__pool_slow);
        if (thing) {
            thing->next = pool->idle;
            pool->idle = thing;
        }
    }
    pool->barred = true;
}

static void open_places(pier__pool *pool)
{
    int count = atomic_load_explicit(&pool->place_count, memory_order_relaxed);
    for (int i = 0; i < count; i++) {
        atomic_store_explicit(&pool->places[i], NULL, memory_order_release);
    }
    pool->barred = false;
}

void pier__pool_lock(pier__pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    bar_places(pool);
}

void pier__pool_unlock(pier__pool *pool)
{
    if (!pool->head && !pool->refuses) {
        open_places(pool);
    }
    pthread_mutex_unlock(&pool->lock);
}

/* Under the lock: a thread comes whose place is not in use yet. */
static void use_place(pier__pool *pool, int place)
{
    for (int i = atomic_load(&pool->place_count); i <= place; i++) {
        atomic_store(&pool->places[i], &pier__pool_slow);
        atomic_store(&pool->place_count, i + 1);
    }
}

static pier__pooled *take_quickly(pier__pool *pool)
{
    int mine = pier__pool_place();
    int count = atomic_load_explicit(&pool->place_count, memory_order_acquire);
    for (int i = 0; i < count; i++) {
        _Atomic(pier__pooled *) *place = &pool->places[(mine + i) % count];
        pier__pooled *thing = atomic_load_explicit(place, memory_order_relaxed);
        if (thing == &pier__pool_slow) {
            return NULL;
        }
        if (thing && atomic_compare_exchange_strong(place, &thing, NULL)) {
            /* Nobody else writes it, so that this need not be one instruction. */
            int64_t acquires = atomic_load_explicit(&thing->acquires, memory_order_relaxed);
            atomic_store_explicit(&thing->acquires, acquires + 1, memory_order_relaxed);
            return thing;
        }
    }
    return NULL;
}

static bool give_quickly(pier__pool *pool, pier__pooled *thing)
{
    int mine = pier__pool_place();
    int count = atomic_load_explicit(&pool->place_count, memory_order_acquire);
    if (thing->on_loop || thing->holder || thing->holder_what || thing->was_reset) {
        return false;
    }
    for (int i = 0; i < count; i++) {
        _Atomic(pier__pooled *) *place = &pool->places[(mine + i) % count];
        pier__pooled *there = atomic_load_explicit(place, memory_order_relaxed);
        if (there == &pier__pool_slow) {
            return false;
        }
        if (!there && atomic_compare_exchange_strong(place, &there, thing)) {
            return true;
        }
    }
    return false;
}

/* ---- Taking and giving -------------------------------------------------------------------- */

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

/* The loop's own things stand in the list, never in a place of a thread's, and need no look at
 * those. False: it takes more than that. */
static bool take_on_loop(pier__pool *pool, pier__ticket *ticket)
{
    pthread_mutex_lock(&pool->lock);
    pier__pooled **at = &pool->idle;
    while (*at && !(*at)->on_loop) {
        at = &(*at)->next;
    }
    pier__pooled *thing = pool->head || pool->closed ? NULL : *at;
    if (thing) {
        *at = thing->next;
        thing->next = NULL;
        pool->acquires++;
    }
    pthread_mutex_unlock(&pool->lock);
    ticket->got = thing;
    return thing != NULL;
}

static bool give_on_loop(pier__pool *pool, pier__pooled *thing)
{
    if (!thing->on_loop || thing->holder || thing->holder_what) {
        return false;
    }
    pthread_mutex_lock(&pool->lock);
    bool fit = !pool->head && !pool->closed && thing->generation == pool->generation;
    if (fit) {
        pool->resets += thing->was_reset;
        thing->next = pool->idle;
        pool->idle = thing;
    }
    pthread_mutex_unlock(&pool->lock);
    return fit;
}

/* Twice as long each time, less up to a half: not all programs come back in the same moment. */
static int64_t pause_after(int failures)
{
    int64_t ms = failures < 5 ? PAUSE_MS << (failures - 1) : PAUSE_MAX_MS;
    ms = ms < PAUSE_MAX_MS ? ms : PAUSE_MAX_MS;
    uint64_t random = (uint64_t)pier__now() * UINT64_C(0x9E3779B97F4A7C15) >> 33;
    return ms * 500000 + (int64_t)(random % (uint64_t)(ms * 500000));
}

/* Under the lock: may another thing be made now? Then it counts as being made. */
static bool may_make(pier__pool *pool)
{
    if (pool->total >= pool->max) {
        return false;
    }
    if (pool->failures) {
        if (pool->probing || pier__now() < pool->retry_at) {
            return false;
        }
        pool->probing = true;
        pool->retry_at = pier__now() + pause_after(pool->failures);
    }
    pool->total++;
    return true;
}

/* Under the lock. */
static void start_waiting(pier__pool *pool, pier__ticket *ticket)
{
    ticket->queued = true;
    ticket->served = false;
    ticket->since = pier__now();
    pool->waiting++;
    pool->waits++;
}

/* Under the lock. */
static void enqueue(pier__pool *pool, pier__ticket *ticket)
{
    start_waiting(pool, ticket);
    ticket->next = NULL;
    *pool->tail = ticket;
    pool->tail = &ticket->next;
}

static bool is_full(const pier__pool *pool)
{
    return pool->waiting_max && (pool->waiting_max < 0 || pool->waiting >= pool->waiting_max);
}

/* Under the lock: the same for who asks. While others have things that may come back, the keeper
 * tries: it would be hard on whoever asks to fail for it. */
static bool may_make_itself(pier__pool *pool)
{
    return !(pool->failures && pool->open && pool->keeper) && may_make(pool);
}

/* Under the lock: a reference to the keeper where there is something for it to do. */
static pier__op *needed_keeper(pier__pool *pool)
{
    bool needed = !pool->closed && (pool->total < pool->min || pool->failures);
    return needed && pool->keeper ? pier__op_ref(pool->keeper) : NULL;
}

static void wake(pier__op *op)
{
    if (op) {
        pier__op_wake(op);
        pier__op_unref(op);
    }
}

pier__pool_answer pier__pool_take(pier__pool *pool, pier__ticket *ticket)
{
    if (ticket->op->on_loop ? take_on_loop(pool, ticket)
                            : (ticket->got = take_quickly(pool)) != NULL) {
        return PIER__POOL_GOT;
    }
    pier__op *keeper = NULL;
    pier__pool_answer answer;
    pier__pool_lock(pool);
    if (!ticket->op->on_loop) {
        use_place(pool, pier__pool_place());
    }
    pool->acquires++;
    if (pool->closed) {
        answer = PIER__POOL_CLOSED;
    } else if (!pool->head && (ticket->got = take_idle(pool, ticket->op->on_loop))) {
        answer = PIER__POOL_GOT;
    } else if (!pool->head && may_make_itself(pool)) {
        answer = PIER__POOL_MAKE;
    } else if (pool->total >= pool->max && all_mine(pool, ticket->op->holder)) {
        answer = PIER__POOL_SELF;
    } else if (is_full(pool)) {
        answer = PIER__POOL_FULL;
        pool->refused++;
    } else {
        answer = PIER__POOL_WAIT;
        enqueue(pool, ticket);
        keeper = pool->failures ? needed_keeper(pool) : NULL;
    }
    pier__pool_unlock(pool);
    wake(keeper);
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
    pier__pool_lock(pool);
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
    bool nothing = was_queued || ticket->closed || ticket->failed;
    pier__pool_unlock(pool);
    return nothing;
}

bool pier__pool_is_queued(pier__pool *pool, const pier__ticket *ticket)
{
    pier__pool_lock(pool);
    bool queued = ticket->queued;
    pier__pool_unlock(pool);
    return queued;
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

void pier__pool_made(pier__pool *pool, pier__pooled *thing)
{
    pier__pool_lock(pool);
    thing->all_next = pool->all;
    thing->generation = pool->generation;
    pool->all = thing;
    pool->made++;
    pier__pool_unlock(pool);
}

bool pier__pool_give(pier__pool *pool, pier__pooled *thing)
{
    if (give_on_loop(pool, thing) || give_quickly(pool, thing)) {
        return true;
    }
    pier__op *next = NULL;
    pier__pool_lock(pool);
    bool fit = !pool->closed && thing->generation == pool->generation;
    thing->holder = NULL;
    thing->holder_what = NULL;
    pool->resets += thing->was_reset;
    if (!fit) {
        thing->retired = true; /* the caller ends it */
    } else if (pool->head) {
        next = serve_first(pool, thing, false);
    } else {
        thing->next = pool->idle;
        pool->idle = thing;
    }
    pier__pool_unlock(pool);
    wake(next);
    return fit;
}

/* Under the lock: it is not one of them any more. */
static void take_out(pier__pool *pool, pier__pooled *thing)
{
    pier__pooled **at = &pool->all;
    while (*at && *at != thing) {
        at = &(*at)->all_next;
    }
    if (*at) {
        *at = thing->all_next;
        pool->lost += !pool->closed && !thing->retired;
        pool->retired += !pool->closed && thing->retired;
        pool->open -= thing->opened;
        pool->acquires += atomic_load_explicit(&thing->acquires, memory_order_relaxed);
    }
}

static void wake_enders(pier__pool *pool);

void pier__pool_lost(pier__pool *pool, pier__pooled *thing)
{
    pier__op *next = NULL;
    pier__pool_lock(pool);
    pool->probing &= thing && thing->opened; /* whoever tried has given up */
    if (thing) {
        take_out(pool, thing);
    }
    if (pool->head && !pool->closed && !pool->failures) {
        next = serve_first(pool, NULL, false); /* it inherits the place in `total` */
    } else {
        pool->total--;
    }
    pier__op *keeper = needed_keeper(pool);
    bool ended = pool->closed && pool->total == 0;
    pier__pool_unlock(pool);
    wake(next);
    wake(keeper);
    if (ended) {
        wake_enders(pool);
    }
}

pier__pool_answer pier__pool_exchange(pier__pool *pool, pier__pooled *thing, pier__ticket *ticket)
{
    pier__pool_lock(pool);
    take_out(pool, thing);
    pool->total--;
    pier__pool_answer answer = PIER__POOL_WAIT;
    if (pool->closed) {
        answer = PIER__POOL_CLOSED;
    } else if (may_make_itself(pool)) {
        answer = PIER__POOL_MAKE;
    } else {
        start_waiting(pool, ticket);
        ticket->next = pool->head;
        pool->head = ticket;
        if (!ticket->next) {
            pool->tail = &ticket->next;
        }
    }
    pier__op *keeper = needed_keeper(pool);
    bool ended = pool->closed && pool->total == 0;
    pier__pool_unlock(pool);
    wake(keeper);
    if (ended) {
        wake_enders(pool);
    }
    return answer;
}

/* ---- Making them, when that may fail ------------------------------------------------------ */

void pier__pool_opened(pier__pool *pool, pier__pooled *thing)
{
    pier__pool_lock(pool);
    thing->opened = true;
    pool->open++;
    bool was_down = pool->failures > 0;
    pool->failures = 0;
    pool->probing = false;
    pier__pool_unlock(pool);
    for (pier__op *next = NULL; was_down; wake(next)) {
        pier__pool_lock(pool);
        bool makes = pool->head && !pool->closed && may_make(pool);
        next = makes ? serve_first(pool, NULL, false) : NULL;
        pier__pool_unlock(pool);
        if (!next) {
            break;
        }
    }
}

bool pier__pool_probes(pier__pool *pool)
{
    pier__pool_lock(pool);
    bool probes = pool->probing;
    pier__pool_unlock(pool);
    return probes;
}

/* Under the lock. */
static void back_off(pier__pool *pool, const pier_error *err)
{
    pool->failures++;
    pool->probing = false;
    pool->retry_at = pier__now() + pause_after(pool->failures);
    if (!pool->failure) {
        pool->failure = pier__malloc(sizeof *pool->failure);
    }
    if (pool->failure) {
        *pool->failure = *err;
    }
}

void pier__pool_failed(pier__pool *pool, const pier_error *err, bool probed)
{
    pier__pool_lock(pool);
    pool->failed++;
    bool down = pool->backs_off && !pool->closed;
    int left = pool->waiting; /* who asks again at once waits for the next attempt */
    /* Attempts that began together count as one. */
    if (down && (probed || !pool->failures)) {
        back_off(pool, err);
    }
    pier__op *keeper = needed_keeper(pool);
    pier__pool_unlock(pool);
    wake(keeper);
    /* Nobody has a thing that could come back: those who wait need not. */
    for (pier__op *next = NULL; down && left > 0; left--, wake(next)) {
        pier__pool_lock(pool);
        bool fails = pool->head && pool->failures && !pool->open && !pool->closed;
        if (fails) {
            pool->head->failed = true;
        }
        next = fails ? serve_first(pool, NULL, false) : NULL;
        pier__pool_unlock(pool);
        if (!next) {
            break;
        }
    }
}

void pier__pool_failure(pier__pool *pool, pier_error *err)
{
    pier__pool_lock(pool);
    if (pool->failure) {
        *err = *pool->failure;
    } else {
        pier_error_set(err, PIER_ECONNECT, "no new %s could be made", pool->what);
    }
    pier__pool_unlock(pool);
}

/* ---- Keeping it --------------------------------------------------------------------------- */

int pier__pool_refill(pier__pool *pool)
{
    int count = 0;
    pier__pool_lock(pool);
    while (!pool->closed && (pool->total < pool->min || (pool->failures && pool->head)) &&
           may_make(pool)) {
        count++;
    }
    pier__pool_unlock(pool);
    return count;
}

int64_t pier__pool_next(pier__pool *pool)
{
    pier__pool_lock(pool);
    bool needed = pool->failures && !pool->probing && !pool->closed &&
                  (pool->head || pool->total < pool->min) && pool->total < pool->max;
    int64_t next = needed ? pool->retry_at : 0;
    pier__pool_unlock(pool);
    return next;
}

pier__pooled *pier__pool_sweep(pier__pool *pool, int64_t now, int64_t idle_ns)
{
    pier__pooled *swept = NULL;
    pier__pool_lock(pool);
    int spare = pool->total - pool->min;
    for (pier__pooled **at = &pool->idle; *at;) {
        pier__pooled *thing = *at;
        bool old = thing->ends_at && now >= thing->ends_at;
        bool unused = idle_ns && spare > 0 && now - thing->idle_since >= idle_ns;
        if (!old && !unused) {
            at = &thing->next;
            continue;
        }
        *at = thing->next;
        thing->next = swept;
        thing->retired = true;
        swept = thing;
        spare--;
        pool->idle_ended += !old;
    }
    pier__pool_unlock(pool);
    return swept;
}

pier__pooled *pier__pool_take_those(pier__pool *pool, bool (*is)(const pier__pooled *thing))
{
    pier__pooled *taken = NULL;
    pier__pool_lock(pool);
    for (pier__pooled **at = &pool->idle; *at;) {
        pier__pooled *thing = *at;
        if (!is(thing)) {
            at = &thing->next;
            continue;
        }
        *at = thing->next;
        thing->next = taken;
        taken = thing;
    }
    pier__pool_unlock(pool);
    return taken;
}

pier__pooled *pier__pool_expire(pier__pool *pool)
{
    pier__pool_lock(pool);
    pool->generation++;
    pool->refuses = true;
    pier__pooled *idle = pool->closed ? NULL : pool->idle;
    if (idle) {
        pool->idle = NULL;
    }
    for (pier__pooled *thing = idle; thing; thing = thing->next) {
        thing->retired = true;
    }
    pier__pool_unlock(pool);
    return idle;
}

/* ---- Who holds what ----------------------------------------------------------------------- */

void pier__pool_hold(pier__pool *pool, pier__pooled *thing, const void *holder, const char *what)
{
    pier__pool_lock(pool);
    thing->holder = holder;
    thing->holder_what = what;
    thing->shared = true;
    thing->held_since = what ? pier__now() : 0;
    thing->held_by = holder == &pier__here ? pier__tid() : 0;
    pier__pool_unlock(pool);
}

bool pier__pool_is_held(pier__pool *pool, const void *holder)
{
    bool held = false;
    pier__pool_lock(pool);
    for (const pier__pooled *thing = pool->all; thing && !held; thing = thing->all_next) {
        held = thing->holder == holder;
    }
    pier__pool_unlock(pool);
    return held;
}

void pier__pool_each(pier__pool *pool, void (*each)(pier__pooled *thing, void *data), void *data)
{
    pier__pool_lock(pool);
    for (pier__pooled *thing = pool->all; thing; thing = thing->all_next) {
        each(thing, data);
    }
    pier__pool_unlock(pool);
}

void pier__pool_add_stats(pier__pool *pool, pier_pool_stats *stats)
{
    pier__pool_lock(pool);
    int idle = 0;
    for (const pier__pooled *thing = pool->idle; thing; thing = thing->next) {
        idle++;
    }
    for (pier__pooled *thing = pool->all; thing; thing = thing->all_next) {
        stats->acquires += atomic_load_explicit(&thing->acquires, memory_order_relaxed);
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
    stats->failed += pool->failed;
    stats->refused += pool->refused;
    stats->resets += pool->resets;
    stats->idle_ended += pool->idle_ended;
    stats->retired += pool->retired;
    stats->wait_total_us += pool->waited / 1000;
    int64_t wait_max_us = pool->waited_max / 1000;
    stats->wait_max_us = wait_max_us > stats->wait_max_us ? wait_max_us : stats->wait_max_us;
    pier__pool_unlock(pool);
}

pier__pooled *pier__pool_close(pier__pool *pool)
{
    pier__pool_lock(pool);
    pool->closed = pool->refuses = true;
    pier__pooled *idle = pool->idle;
    pool->idle = NULL;
    pier__pool_unlock(pool);
    for (pier__op *next = NULL;; wake(next)) {
        pier__pool_lock(pool);
        next = pool->head ? serve_first(pool, NULL, true) : NULL;
        pier__pool_unlock(pool);
        if (!next) {
            return idle;
        }
    }
}

/* ---- Its end ------------------------------------------------------------------------------ */

bool pier__pool_await_end(pier__pool *pool, pier__ticket *ticket)
{
    pier__pool_lock(pool);
    bool ended = pool->closed && pool->total == 0;
    if (!ended && !ticket->queued) {
        ticket->queued = true;
        ticket->next = pool->enders;
        pool->enders = ticket;
    }
    pier__pool_unlock(pool);
    return ended;
}

void pier__pool_leave_end(pier__pool *pool, pier__ticket *ticket)
{
    pier__pool_lock(pool);
    for (pier__ticket **at = &pool->enders; *at; at = &(*at)->next) {
        if (*at == ticket) {
            *at = ticket->next;
            break;
        }
    }
    ticket->queued = false;
    pier__pool_unlock(pool);
}

static void wake_enders(pier__pool *pool)
{
    for (pier__op *next = NULL;; wake(next)) {
        pier__pool_lock(pool);
        pier__ticket *ticket = pool->enders;
        if (ticket) {
            pool->enders = ticket->next;
            ticket->queued = false;
            next = pier__op_ref(ticket->op);
        }
        pier__pool_unlock(pool);
        if (!ticket) {
            return;
        }
    }
}
