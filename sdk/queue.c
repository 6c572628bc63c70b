/*
 * Queues. The items are in a ring. A getter that waits is served into its operation, and the item
 * keeps its place in the capacity until the result is taken, so that there is room for it when it
 * comes back. Nobody waits for room while there is some, nor for an item while one is there.
 */
#include <pier/queue.h>

#include "sdk/alloc.h"
#include "sdk/dump.h"
#include "sdk/gate.h"
#include "sync/ops.h"
#include <string.h>

enum { CAPACITY = 1024, INLINE_SIZE = 64 };

struct pier_queue {
    pier__gate gate; /* its waiters are the getters */
    /* Immutable after new. */
    size_t item_size, capacity;
    pier_queue_drop_fn drop;
    /* Guarded by the gate's lock. */
    char *ring;
    size_t first, count;
    size_t lent; /* items in the operations of getters, not taken yet */
    bool ended;
};

/* A getter or putter. */
struct queue_op {
    pier__op op;
    pier_queue *queue; /* holds a reference */
    pier__waiter waiter;
    void *to;   /* a getter's */
    char *item; /* `room`, or allocated */
    bool holds; /* the item; of a waiter, guarded by the gate's lock */
    char room[INLINE_SIZE];
};

/* ---- The ring, under the lock ------------------------------------------------------------- */

static char *slot(const pier_queue *queue, size_t number)
{
    size_t at = queue->first + number;
    return queue->ring + (at < queue->capacity ? at : at - queue->capacity) * queue->item_size;
}

static void push(pier_queue *queue, const void *item)
{
    memcpy(slot(queue, queue->count), item, queue->item_size);
    queue->count++;
}

static void push_first(pier_queue *queue, const void *item)
{
    queue->first = queue->first ? queue->first - 1 : queue->capacity - 1;
    memcpy(slot(queue, 0), item, queue->item_size);
    queue->count++;
}

static void pop(pier_queue *queue, void *item)
{
    memcpy(item, slot(queue, 0), queue->item_size);
    queue->first = queue->first + 1 < queue->capacity ? queue->first + 1 : 0;
    queue->count--;
}

static bool has_room(const pier_queue *queue)
{
    return queue->count + queue->lent < queue->capacity;
}

static struct queue_op *op_of(pier__waiter *waiter)
{
    return (struct queue_op *)((char *)waiter - offsetof(struct queue_op, waiter));
}

/* Brings items and getters together, and putters and room. */
static void match(pier_queue *queue, pier__waiters *chain)
{
    for (;;) {
        if (queue->count && queue->gate.waiters.head) {
            struct queue_op *getter =
                op_of(pier__waiters_serve(&queue->gate.waiters, PIER__WAITER_SERVED, chain));
            pop(queue, getter->item);
            getter->holds = true;
            queue->lent++;
        } else if (queue->gate.putters.head && has_room(queue)) {
            struct queue_op *putter =
                op_of(pier__waiters_serve(&queue->gate.putters, PIER__WAITER_SERVED, chain));
            push(queue, putter->item);
            putter->holds = false;
        } else {
            return;
        }
    }
}

/* Nothing more comes in, and nothing more goes out than is there. */
static void end(pier_queue *queue, pier__waiter_state state, pier__waiters *chain)
{
    queue->ended = true;
    pier__waiters_serve_all(&queue->gate.putters, state, chain);
    pier__waiters_serve_all(&queue->gate.waiters, state, chain);
}

/* ---- Putting and getting without waiting -------------------------------------------------- */

typedef enum attempt { DONE, WOULD_WAIT, ENDED } attempt;

static attempt try_put(pier_queue *queue, const void *item)
{
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&queue->gate.lock);
    attempt result = queue->ended                                   ? ENDED
                     : has_room(queue) && !queue->gate.putters.head ? DONE
                                                                    : WOULD_WAIT;
    if (result == DONE) {
        push(queue, item);
        if (queue->gate.waiters.head) {
            match(queue, &chain);
        }
    }
    pthread_mutex_unlock(&queue->gate.lock);
    pier__waiters_wake(&chain);
    return result;
}

static attempt try_get(pier_queue *queue, void *item)
{
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&queue->gate.lock);
    /* Where there are items nobody waits for one. */
    attempt result = queue->count ? DONE : queue->ended ? ENDED : WOULD_WAIT;
    if (result == DONE) {
        pop(queue, item);
        if (queue->gate.putters.head) {
            match(queue, &chain);
        }
    }
    pthread_mutex_unlock(&queue->gate.lock);
    pier__waiters_wake(&chain);
    return result;
}

bool pier__queue_put_fast(pier_queue *queue, const void *item, int *result)
{
    *result = 0;
    return queue && pier__gate_is_quick(&queue->gate) && try_put(queue, item) == DONE;
}

bool pier__queue_get_fast(pier_queue *queue, void *item, int *result)
{
    *result = 1;
    return queue && pier__gate_is_quick(&queue->gate) && try_get(queue, item) == DONE;
}

/* ---- Operations --------------------------------------------------------------------------- */

static void drop_item(const pier_queue *queue, const void *item)
{
    if (queue->drop) {
        queue->drop((void *)item);
    }
}

static void queue_fini(pier__op *op)
{
    struct queue_op *user = (struct queue_op *)op;
    if (user->holds) {
        drop_item(user->queue, user->item);
    }
    if (user->item != user->room) {
        pier__free(user->item);
    }
    pier__gate_unref(&user->queue->gate);
}

static void enter(struct queue_op *user, pier__waiters *waiters)
{
    pier_queue *queue = user->queue;
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&queue->gate.lock);
    if (queue->ended && (waiters == &queue->gate.putters || !queue->count)) {
        user->waiter.state = queue->gate.closed ? PIER__WAITER_CLOSED : PIER__WAITER_ENDED;
    } else {
        pier__waiters_push(waiters, &user->waiter);
        match(queue, &chain);
    }
    pthread_mutex_unlock(&queue->gate.lock);
    pier__waiters_wake(&chain); /* perhaps itself: it is settled by then */
}

static void put_step(pier__op *op, unsigned events)
{
    struct queue_op *user = (struct queue_op *)op;
    pier_queue *queue = user->queue;
    if (events & PIER__START) {
        op->doing = "waiting for room";
        enter(user, &queue->gate.putters);
    }
    switch (pier__gate_look(&queue->gate, &queue->gate.putters, &user->waiter, events)) {
    case PIER__WAITER_SERVED:
        pier__op_succeed_int(op, 0);
        break;
    case PIER__WAITER_ENDED:
    case PIER__WAITER_CLOSED:
        pier__op_fail(op, PIER_ECLOSED, "pier_queue_put: the queue was ended");
        break;
    case PIER__WAITER_LEFT:
        pier__op_fail_cancelled(op);
        break;
    default:
        break;
    }
}

static void get_step(pier__op *op, unsigned events)
{
    struct queue_op *user = (struct queue_op *)op;
    pier_queue *queue = user->queue;
    if (events & PIER__START) {
        op->doing = "waiting for an item";
        enter(user, &queue->gate.waiters);
    }
    switch (pier__gate_look(&queue->gate, &queue->gate.waiters, &user->waiter, events)) {
    case PIER__WAITER_SERVED:
        pier__op_succeed_int(op, 1);
        break;
    case PIER__WAITER_ENDED:
        pier__op_succeed_int(op, 0);
        break;
    case PIER__WAITER_CLOSED:
        pier__op_fail(op, PIER_ECLOSED, "pier_queue_get: the queue was freed");
        break;
    case PIER__WAITER_LEFT:
        pier__op_fail_cancelled(op);
        break;
    default:
        break;
    }
}

/* The item that a getter holds has left it: to the caller, or back. */
static void give_up(struct queue_op *user, bool back)
{
    pier_queue *queue = user->queue;
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&queue->gate.lock);
    queue->lent--;
    if (back && !queue->gate.closed) {
        push_first(queue, user->item);
        back = false;
    }
    match(queue, &chain);
    pthread_mutex_unlock(&queue->gate.lock);
    user->holds = back; /* a queue that was freed takes nothing back: dropped by fini */
    pier__waiters_wake(&chain);
}

static void get_claim(pier__op *op)
{
    struct queue_op *user = (struct queue_op *)op;
    if (user->holds) {
        memcpy(user->to, user->item, user->queue->item_size);
        give_up(user, false);
    }
}

static void get_drop(pier__op *op)
{
    struct queue_op *user = (struct queue_op *)op;
    if (user->holds) {
        give_up(user, true);
    }
}

static const pier__op_class put_class = {
    .name = "pier_queue_put",
    .result = "int",
    .size = sizeof(struct queue_op),
    .step = put_step,
    .fini = queue_fini,
};

static const pier__op_class get_class = {
    .name = "pier_queue_get",
    .result = "int",
    .size = sizeof(struct queue_op),
    .step = get_step,
    .claim = get_claim,
    .drop = get_drop,
    .fini = queue_fini,
};

static struct queue_op *new_op(const pier__op_class *cls, pier_queue *queue, pier__op **failed)
{
    struct queue_op *user = pier__op_new(cls, queue->gate.handle.runner, failed);
    if (!user) {
        return NULL;
    }
    pier__gate_ref(&queue->gate);
    user->queue = queue;
    user->waiter.op = &user->op;
    user->item = queue->item_size <= INLINE_SIZE ? user->room : pier__malloc(queue->item_size);
    if (!user->item) {
        pier__op_unref(&user->op);
        *failed = pier__op_nomem();
        return NULL;
    }
    return user;
}

pier_future *pier__queue_put_op(pier_queue *queue, const void *item)
{
    if (!queue) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct queue_op *user = new_op(&put_class, queue, &failed);
    if (!user) {
        drop_item(queue, item);
        return failed;
    }
    memcpy(user->item, item, queue->item_size);
    user->holds = true;
    return &user->op;
}

pier_future *pier__queue_get_op(pier_queue *queue, void *item)
{
    if (!queue) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct queue_op *user = new_op(&get_class, queue, &failed);
    if (!user) {
        return failed;
    }
    user->to = item;
    return &user->op;
}

/* ---- Public ------------------------------------------------------------------------------- */

static void fini(pier__gate *gate)
{
    pier__free(((pier_queue *)gate)->ring);
}

/* Turns everybody away and drops what is left. What getters hold they drop themselves. */
static void end_for_good(pier__gate *gate)
{
    pier_queue *queue = (pier_queue *)gate;
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&gate->lock);
    gate->closed = true;
    end(queue, PIER__WAITER_CLOSED, &chain);
    size_t left = queue->count;
    queue->count = 0;
    pthread_mutex_unlock(&gate->lock);
    pier__waiters_wake(&chain);
    /* Nothing is put into it any more. */
    for (size_t i = 0; i < left; i++) {
        drop_item(queue, slot(queue, i));
    }
}

/* Of those that are empty, with nobody waiting, there is nothing to say. */
static void describe(pier__handle *handle, pier__dump *dump)
{
    pier_queue *queue = (pier_queue *)handle;
    pthread_mutex_lock(&queue->gate.lock);
    size_t count = queue->count;
    bool ended = queue->ended;
    int getters = pier__waiters_count(&queue->gate.waiters);
    int putters = pier__waiters_count(&queue->gate.putters);
    pthread_mutex_unlock(&queue->gate.lock);
    if (count || getters || putters) {
        pier__dump_line(dump, 0,
                        "queue %p: %zu of %zu items%s, %d waiting to get one, %d to put one",
                        (void *)queue, count, queue->capacity, ended ? ", ended" : "", getters,
                        putters);
    }
}

pier_queue *pier_queue_new(pier_runner *runner, size_t item_size, size_t capacity,
                           pier_queue_drop_fn drop, pier_error *err)
{
    capacity = capacity ? capacity : CAPACITY;
    if (item_size == 0 || capacity > SIZE_MAX / 2 / item_size) {
        pier_error_set(err, PIER_EINVAL, "pier_queue_new: %zu items of %zu bytes", capacity,
                       item_size);
        return NULL;
    }
    pier_queue *queue = pier__gate_new(sizeof *queue, runner, "pier_queue_new", err);
    if (!queue) {
        return NULL;
    }
    queue->gate.end = end_for_good;
    queue->gate.fini = fini;
    queue->item_size = item_size;
    queue->capacity = capacity;
    queue->drop = drop;
    queue->ring = pier__malloc(capacity * item_size);
    if (!queue->ring) {
        pier_queue_free(queue);
        pier_error_set(err, PIER_ENOMEM, "pier_queue_new: no memory for %zu items of %zu bytes",
                       capacity, item_size);
        return NULL;
    }
    pier__gate_describe(&queue->gate, describe);
    return queue;
}

static int check(const pier_queue *queue, const char *what, pier_error *err)
{
    return queue ? pier__runner_check(queue->gate.handle.runner, what, err)
                 : pier__error_null(err, what);
}

int pier_queue_try_put(pier_queue *queue, const void *item, pier_error *err)
{
    int status = check(queue, "pier_queue_try_put: the queue", err);
    attempt result = status < 0 ? ENDED : try_put(queue, item);
    if (result != ENDED) {
        return result == DONE;
    }
    if (queue) {
        drop_item(queue, item);
    }
    return status < 0
               ? status
               : pier_error_set(err, PIER_ECLOSED, "pier_queue_try_put: the queue was ended");
}

int pier_queue_try_get(pier_queue *queue, void *item, pier_error *err)
{
    int status = check(queue, "pier_queue_try_get: the queue", err);
    attempt result = status < 0 ? ENDED : try_get(queue, item);
    if (result != ENDED) {
        return result == DONE;
    }
    return status < 0 ? status
                      : pier_error_set(err, PIER_ECLOSED,
                                       "pier_queue_try_get: the queue was ended and is empty");
}

size_t pier_queue_size(pier_queue *queue)
{
    if (!queue || pier__runner_forked(queue->gate.handle.runner)) {
        return 0;
    }
    pthread_mutex_lock(&queue->gate.lock);
    size_t count = queue->count;
    pthread_mutex_unlock(&queue->gate.lock);
    return count;
}

void pier_queue_end(pier_queue *queue)
{
    if (!queue || pier__runner_forked(queue->gate.handle.runner)) {
        return;
    }
    pier__waiters chain = {NULL, NULL};
    pthread_mutex_lock(&queue->gate.lock);
    end(queue, PIER__WAITER_ENDED, &chain);
    pthread_mutex_unlock(&queue->gate.lock);
    pier__waiters_wake(&chain);
}

void pier_queue_free(pier_queue *queue)
{
    pier__gate_free(queue ? &queue->gate : NULL);
}
