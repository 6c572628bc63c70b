/*
 * Iterators. The producer is a task that copies items into a block; full blocks wait in a short
 * queue. Whoever waits for items takes what is there: the first full block, or else the one that is
 * being filled. One lock, held for the copying of an item, orders the two.
 */
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/hooks.h"
#include "sdk/runner.h"
#include "sdk/scope.h"
#include "sdk/task.h"
#include "sync/ops.h"
#include <pier/async/iter.h>
#include <string.h>

/* A hop between threads costs about 40 us, which 1,024 items make small. */
enum { ITEMS_MAX = 1024, BYTES_MAX = 64 * 1024 };
/* Full blocks that may wait: one to go on with while the producer is being woken. */
enum { AHEAD_MAX = 2 };

struct pier_items {
    pier_items *next;
    size_t count, item_size;
    max_align_t bytes[];
};

struct block_op {
    pier__op op;     /* first */
    pier_iter *iter; /* holds a reference */
    struct block_op *next;
    bool queued;
    bool woken; /* since it last looked */
};

struct pier_iter {
    pier__handle handle; /* first */
    /* Immutable after open. */
    size_t item_size, items_max;
    pier_task_fn fn;
    void *arg;
    pier_scope *scope; /* where it was opened; holds a reference */

    atomic_int refs; /* the user's, one for each operation, one for the producer */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    pier_items *full, **full_tail, *filling;
    int full_count;
    struct block_op *first, **last; /* who waits for items */
    pier__op *putter;               /* the producer, while it waits for room */
    pier__op *closer;               /* close, while it waits for the producer */
    bool started, closed, ended;
    size_t in_a_row; /* items since the loop could do something else */
    pier_future *producer;
    int status; /* of the producer, once it has ended */
    pier_error producer_err;
    pier__listener listener; /* to the producer */

    /* The consumer. */
    pier_items *block;
    size_t index;
    bool finished;
    bool fetching; /* a thread is inside, which close waits for */
    pier_error failure;
    void *close_memory; /* for the operation that must not fail */
};

/* ---- Blocks ------------------------------------------------------------------------------- */

/* What is given at the end. */
static pier_items no_items;

size_t pier_items_count(const pier_items *items)
{
    return items ? items->count : 0;
}

static const void *item_at(const pier_items *items, size_t index)
{
    return (const char *)items->bytes + index * items->item_size;
}

const void *pier_items_at(const pier_items *items, size_t index)
{
    return index < pier_items_count(items) ? item_at(items, index) : NULL;
}

void pier_items_free(pier_items *items)
{
    if (items != &no_items) {
        pier__free(items);
    }
}

static pier_items *new_items(const pier_iter *iter)
{
    pier_items *items = pier__malloc(sizeof *items + iter->items_max * iter->item_size);
    if (items) {
        items->next = NULL;
        items->count = 0;
        items->item_size = iter->item_size;
    }
    return items;
}

/* ---- The handle --------------------------------------------------------------------------- */

static pier_iter *ref(pier_iter *iter)
{
    atomic_fetch_add_explicit(&iter->refs, 1, memory_order_relaxed);
    return iter;
}

static void unref(pier_iter *iter)
{
    if (atomic_fetch_sub_explicit(&iter->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    while (iter->full) {
        pier_items *items = iter->full;
        iter->full = items->next;
        pier__free(items);
    }
    pier__free(iter->filling);
    pier_items_free(iter->block);
    pier_future_free(iter->producer);
    pier__scope_unref(iter->scope);
    pier__free(iter->close_memory);
    pthread_mutex_destroy(&iter->lock);
    pier__free(iter);
}

/* Under the lock: an operation to be woken once it has been released. */
static pier__op *to_wake(pier__op *op)
{
    return op ? pier__op_ref(op) : NULL;
}

static void wake(pier__op *op)
{
    if (op) {
        pier__op_wake(op);
        pier__op_unref(op);
    }
}

/* Under the lock: the first who waits for items, unless it has been woken and not looked yet. */
static pier__op *consumer_to_wake(pier_iter *iter)
{
    struct block_op *first = iter->first;
    if (!first || first->woken) {
        return NULL;
    }
    first->woken = true;
    return pier__op_ref(&first->op);
}

/* ---- The producer ------------------------------------------------------------------------- */

/* Lets the loop do other things, then waits for room. */
struct room_op {
    pier__op op;     /* first */
    pier_iter *iter; /* the producer's */
};

static bool has_room(pier_iter *iter, pier__op *op)
{
    pthread_mutex_lock(&iter->lock);
    bool room = iter->closed || iter->full_count < AHEAD_MAX;
    iter->putter = room ? NULL : op;
    iter->in_a_row = 0;
    pthread_mutex_unlock(&iter->lock);
    return room;
}

static void room_step(pier__op *op, unsigned events)
{
    pier_iter *iter = ((struct room_op *)op)->iter;
    if (events & PIER__CANCEL) {
        pthread_mutex_lock(&iter->lock);
        iter->putter = NULL;
        pthread_mutex_unlock(&iter->lock);
        pier__op_fail_cancelled(op);
    } else if (events & PIER__START) {
        op->doing = "waiting for the consumer";
        pier__op_wake(op); /* behind all that is ready */
    } else if (has_room(iter, op)) {
        pier__op_succeed_int(op, 0);
    }
}

static const pier__op_class room_class = {
    .name = "pier_iter_put",
    .result = "int",
    .size = sizeof(struct room_op),
    .loop_only = true,
    .step = room_step,
};

static int wait_for_room(pier_iter *iter, pier_error *err)
{
    pier__op *failed = NULL;
    struct room_op *room = pier__op_new(&room_class, iter->handle.runner, &failed);
    if (!room) {
        return pier__op_take_int(failed, "int", err);
    }
    room->iter = iter;
    return pier__op_take_int(pier__op_run(&room->op, err), "int", err);
}

/* Under the lock. 1: copied; 0: no room; negative: a status. */
static int copy_item(pier_iter *iter, const void *item)
{
    if (iter->closed) {
        return PIER_ECANCELLED;
    }
    if (iter->in_a_row == iter->items_max || (!iter->filling && iter->full_count >= AHEAD_MAX)) {
        return 0;
    }
    if (!iter->filling && !(iter->filling = new_items(iter))) {
        return PIER_ENOMEM;
    }
    pier_items *items = iter->filling;
    memcpy((char *)items->bytes + items->count * iter->item_size, item, iter->item_size);
    iter->in_a_row++;
    if (++items->count == iter->items_max) {
        *iter->full_tail = items;
        iter->full_tail = &items->next;
        iter->full_count++;
        iter->filling = NULL;
    }
    return 1;
}

static int put_failed(int status, pier_error *err)
{
    return pier_error_set(err, status, "pier_iter_put: %s",
                          status == PIER_ENOMEM      ? "out of memory"
                          : status == PIER_ETIMEDOUT ? "the deadline passed"
                                                     : "cancelled; the consumer has left");
}

static int produce(pier_task *self, void *arg, pier_error *err)
{
    pier_iter *iter = arg;
    return iter->fn(self, iter->arg, err);
}

int pier_iter_put(pier_task *self, const void *item, pier_error *err)
{
    if (!self || !item) {
        return pier__error_null(err, self ? "pier_iter_put: the item" : "pier_iter_put: the task");
    }
    pier_iter *iter = pier__here.task == self ? pier__task_arg(self, produce) : NULL;
    if (!iter) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_iter_put: called outside the producer of an iterator");
    }
    for (;;) {
        int status = pier__scope_cancelled(pier__here.scope);
        if (status) {
            return put_failed(status, err);
        }
        pthread_mutex_lock(&iter->lock);
        status = copy_item(iter, item);
        pier__op *consumer = status > 0 ? consumer_to_wake(iter) : NULL;
        pthread_mutex_unlock(&iter->lock);
        wake(consumer);
        if (status) {
            return status > 0 ? 0 : put_failed(status, err);
        }
        status = wait_for_room(iter, err);
        if (status < 0) {
            return status;
        }
    }
}

/* The thread that settled it: the loop's, or the one that could not start it. */
static void on_ended(pier__listener *listener, pier__op *op)
{
    pier_iter *iter = (pier_iter *)((char *)listener - offsetof(pier_iter, listener));
    op->observed = true; /* the consumer is told */
    pthread_mutex_lock(&iter->lock);
    iter->ended = true;
    iter->status = op->status;
    if (op->status < 0 && op->err) {
        iter->producer_err = *op->err;
    } else if (op->status < 0) {
        pier_error_set(&iter->producer_err, op->status, "an iterator's producer failed with %s",
                       pier_status_name(op->status));
    }
    pier__op *consumer = consumer_to_wake(iter), *closer = to_wake(iter->closer);
    pthread_mutex_unlock(&iter->lock);
    wake(consumer);
    wake(closer);
    unref(iter);
}

/* Is the caller the one who puts the items? */
static bool is_producer(const pier_iter *iter)
{
    return pier__here.task && pier__task_arg(pier__here.task, produce) == iter;
}

static void start_producer(pier_iter *iter)
{
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = iter->scope;
    pier_future *producer = pier_task_start(iter->handle.runner, produce, iter);
    pier__here.scope = ambient;
    pthread_mutex_lock(&iter->lock);
    iter->producer = producer;
    bool cancel = iter->closed;
    pthread_mutex_unlock(&iter->lock);
    iter->listener.settled = on_ended;
    ref(iter);
    pier__op_listen(producer, &iter->listener);
    if (cancel) {
        pier_future_cancel(producer);
    }
}

static void start_once(pier_iter *iter)
{
    pthread_mutex_lock(&iter->lock);
    bool start = !iter->started && !iter->closed;
    iter->started = true;
    pthread_mutex_unlock(&iter->lock);
    if (start) {
        start_producer(iter);
    }
}

/* ---- Fetching a block --------------------------------------------------------------------- */

struct found {
    pier_items *items;
    int status;            /* negative: there will be no more */
    const pier_error *why; /* of the producer; written once, before it can be found */
};

/* Under the lock. Without items and status: nothing yet. */
static struct found take_items(pier_iter *iter)
{
    pier_items *items = iter->full;
    if (items) {
        iter->full = items->next;
        iter->full_count--;
        if (!iter->full) {
            iter->full_tail = &iter->full;
        }
    } else if (iter->filling) {
        items = iter->filling;
        iter->filling = NULL;
    } else if (iter->ended && iter->status < 0) {
        return (struct found){NULL, iter->status, &iter->producer_err};
    } else if (iter->ended) {
        items = &no_items;
    } else if (iter->closed) {
        return (struct found){NULL, PIER_ECANCELLED, NULL};
    }
    return (struct found){items, 0, NULL};
}

/* Under the lock. */
static void stop_waiting(pier_iter *iter, struct block_op *block)
{
    for (struct block_op **at = &iter->first; block->queued; at = &(*at)->next) {
        if (*at == block) {
            *at = block->next;
            if (iter->last == &block->next) {
                iter->last = at;
            }
            block->queued = false;
            break;
        }
    }
}

static void start_waiting(pier_iter *iter, struct block_op *block)
{
    block->next = NULL;
    block->queued = true;
    *iter->last = block;
    iter->last = &block->next;
}

static void settle_block(struct block_op *block, const struct found *found)
{
    if (found->items) {
        pier__op_succeed(&block->op, found->items);
    } else if (found->why) {
        pier__op_fail_with(&block->op, found->why);
    } else {
        pier__op_fail(&block->op, found->status, "pier_iter_block: the iterator was closed");
    }
}

/* Those who wait get their blocks in the order in which they asked. */
static void look_for_items(struct block_op *block)
{
    pier_iter *iter = block->iter;
    struct found found = {NULL, 0, NULL};
    pier__op *putter = NULL, *next = NULL;
    pthread_mutex_lock(&iter->lock);
    block->woken = false;
    if (!iter->first || iter->first == block) {
        found = take_items(iter);
    }
    bool over = found.items || found.status;
    if (over) {
        stop_waiting(iter, block);
        putter = to_wake(iter->putter);
        next = consumer_to_wake(iter);
    } else if (!block->queued) {
        start_waiting(iter, block);
    }
    pthread_mutex_unlock(&iter->lock);
    wake(putter);
    wake(next);
    if (over) {
        settle_block(block, &found);
    }
}

static void block_step(pier__op *op, unsigned events)
{
    struct block_op *block = (struct block_op *)op;
    pier_iter *iter = block->iter;
    if (events & PIER__CANCEL) {
        pthread_mutex_lock(&iter->lock);
        stop_waiting(iter, block);
        pier__op *next = consumer_to_wake(iter);
        pthread_mutex_unlock(&iter->lock);
        wake(next);
        pier__op_fail_cancelled(op);
        return;
    }
    if (events & PIER__START) {
        op->doing = "waiting for an item";
        start_once(iter);
    }
    look_for_items(block);
}

static void block_drop(pier__op *op)
{
    pier_items_free(op->result.pointer);
}

static void block_fini(pier__op *op)
{
    unref(((struct block_op *)op)->iter);
}

/* Nobody but the producer makes items, or ends the wait for them. */
static bool producer_goes_on(pier_iter *iter, pier__walk *walk)
{
    pthread_mutex_lock(&iter->lock);
    bool comes = iter->full || iter->filling || iter->ended || iter->closed;
    pier_future *producer = iter->producer;
    pthread_mutex_unlock(&iter->lock);
    return comes || !producer || pier__walk_op(walk, producer);
}

static bool block_waits_for(pier__op *op, pier__walk *walk)
{
    return producer_goes_on(((struct block_op *)op)->iter, walk);
}

static const pier__op_class block_class = {
    .name = "pier_iter_block",
    .result = "pier_items *",
    .size = sizeof(struct block_op),
    .step = block_step,
    .drop = block_drop,
    .fini = block_fini,
    .waits_for = block_waits_for,
};

pier_future *pier__iter_block_op(pier_iter *iter)
{
    if (!iter) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct block_op *block = pier__op_new(&block_class, iter->handle.runner, &failed);
    if (!block) {
        return failed;
    }
    block->iter = ref(iter);
    if (is_producer(iter)) {
        return pier__op_refuse(&block->op, PIER_EDEADLOCK,
                               "pier_iter_block: the producer would wait for itself");
    }
    return &block->op;
}

/* ---- The consumer's side ------------------------------------------------------------------ */

bool pier__iter_item_take(pier_iter *iter, const void **item)
{
    *item = NULL;
    if (!iter) {
        return true;
    }
    bool done = iter->finished;
    if (iter->block && iter->index < iter->block->count) {
        *item = item_at(iter->block, iter->index++);
        done = true;
    }
    if (!done) {
        pier_items_free(iter->block);
        iter->block = NULL;
    }
    return pier__runner_iterate(iter->handle.runner, &iter->fetching, done);
}

void pier__iter_block_put(pier_iter *iter, pier_items *block)
{
    iter->finished = pier_items_count(block) == 0;
    iter->block = block;
    iter->index = 0;
}

pier_error *pier__iter_error(pier_iter *iter)
{
    return &iter->failure;
}

static const void *next_item(pier_iter *iter)
{
    const void *item = NULL;
    while (!pier__iter_item_take(iter, &item)) {
        pier_future *future = pier__op_run(pier__iter_block_op(iter), &iter->failure);
        pier__iter_block_put(iter, pier__op_take_pointer(future, "pier_items *", &iter->failure));
    }
    return item;
}

bool pier_iter_next(pier_iter *iter, void *item)
{
    const void *next = next_item(iter);
    if (next) {
        memcpy(item, next, iter->item_size);
    }
    return next != NULL;
}

/* ---- Closing ------------------------------------------------------------------------------ */

struct close_op {
    pier__op op;     /* first */
    pier_iter *iter; /* the user's reference */
    bool left_early; /* the producer had not ended */
    bool by_runner;
};

/* Cancels what runs; true: the producer has ended, or never started. */
static bool leave(struct close_op *self)
{
    pier_iter *iter = self->iter;
    pthread_mutex_lock(&iter->lock);
    iter->closed = true;
    bool over = iter->ended || !iter->started;
    self->left_early = !over;
    iter->closer = over ? NULL : &self->op;
    pier__op *putter = to_wake(iter->putter), *consumer = consumer_to_wake(iter);
    pier__op *producer = over ? NULL : to_wake(iter->producer);
    pthread_mutex_unlock(&iter->lock);
    wake(putter);
    wake(consumer);
    if (producer) {
        pier__op_cancel(producer, PIER_ECANCELLED);
        pier__op_unref(producer);
    }
    return over;
}

static bool has_ended(pier_iter *iter)
{
    pthread_mutex_lock(&iter->lock);
    bool ended = iter->ended;
    pthread_mutex_unlock(&iter->lock);
    return ended;
}

static void settle_close(struct close_op *self, bool ended)
{
    pier_iter *iter = self->iter;
    pthread_mutex_lock(&iter->lock);
    iter->closer = NULL;
    pier_error failure = iter->failure;
    /* That the producer was cancelled by this very close is no failure. */
    bool merely_left = self->left_early && iter->status == PIER_ECANCELLED;
    if (ended && iter->status < 0 && !merely_left) {
        failure = iter->producer_err;
    }
    pthread_mutex_unlock(&iter->lock);
    if (self->by_runner && failure.status < 0 && failure.status != PIER_ECLOSED &&
        failure.status != PIER_ECANCELLED) {
        pier__unobserved(&failure);
    }
    if (failure.status < 0) {
        pier__op_fail_with(&self->op, &failure);
    } else {
        pier__op_succeed_int(&self->op, 0);
    }
}

static void close_step(pier__op *op, unsigned events)
{
    struct close_op *self = (struct close_op *)op;
    if (events & PIER__START) {
        op->doing = "waiting for the producer to end";
        if (leave(self)) {
            settle_close(self, true);
        } else if (self->by_runner) {
            op->wait.until = op->runner->close_until;
        }
    } else if (has_ended(self->iter)) {
        settle_close(self, true);
    } else if (events & PIER__EXPIRED) {
        settle_close(self, false); /* the runner's close tells what it leaves behind */
    }
}

static void close_fini(pier__op *op)
{
    unref(((struct close_op *)op)->iter);
}

static const pier__op_class close_class = {
    .name = "pier_iter_close",
    .result = "int",
    .size = sizeof(struct close_op),
    .shielded = true,
    .step = close_step,
    .fini = close_fini,
};

static pier__op *close_op(pier_iter *iter, bool by_runner)
{
    if (!pier__handle_leave(&iter->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    struct close_op *self = iter->close_memory;
    iter->close_memory = NULL;
    pier__op_init(&self->op, &close_class, iter->handle.runner);
    self->iter = iter;
    self->by_runner = by_runner;
    return &self->op;
}

pier_future *pier__iter_close_op(pier_iter *iter)
{
    if (!iter) {
        return pier__op_null();
    }
    if (pier__runner_forked(iter->handle.runner)) {
        /* The producer and a thread that may have held the lock are the parent's. */
        return pier__op_forked();
    }
    if (is_producer(iter)) {
        return pier__op_failed(PIER_EDEADLOCK); /* it stays open: the consumer closes it */
    }
    return close_op(iter, false);
}

static void close_handle(pier__handle *handle)
{
    pier__op_take_int(pier__op_run(close_op((pier_iter *)handle, true), NULL), "int", NULL);
}

/* ---- Opening ------------------------------------------------------------------------------ */

static pier_iter *new_iter(size_t item_size, pier_task_fn fn, void *arg)
{
    pier_iter *iter = pier__calloc(1, sizeof *iter);
    if (!iter) {
        return NULL;
    }
    iter->item_size = item_size;
    iter->items_max = BYTES_MAX / item_size;
    iter->items_max = iter->items_max < 1           ? 1
                      : iter->items_max > ITEMS_MAX ? ITEMS_MAX
                                                    : iter->items_max;
    iter->fn = fn;
    iter->arg = arg;
    iter->scope = pier__here.scope ? pier__scope_ref(pier__here.scope) : NULL;
    atomic_init(&iter->refs, 1);
    pthread_mutex_init(&iter->lock, NULL);
    iter->full_tail = &iter->full;
    iter->last = &iter->first;
    iter->close_memory = pier__calloc(1, sizeof(struct close_op));
    if (!iter->close_memory) {
        unref(iter);
        return NULL;
    }
    return iter;
}

pier_iter *pier_iter_open(pier_runner *runner, size_t item_size, pier_task_fn fn, void *arg,
                          pier_error *err)
{
    if (pier__runner_check(runner, "pier_iter_open: the runner", err) < 0) {
        return NULL;
    }
    if (!fn || !item_size || item_size > PTRDIFF_MAX / 2) {
        pier_error_set(err, PIER_EINVAL, "pier_iter_open: %s",
                       fn ? "items of 0 bytes, or of more than there is" : "no producer");
        return NULL;
    }
    pier_iter *iter = new_iter(item_size, fn, arg);
    if (!iter) {
        pier_error_set(err, PIER_ENOMEM, "pier_iter_open: out of memory");
    } else if (!pier__handle_open(&iter->handle, runner, close_handle)) {
        unref(iter);
        iter = NULL;
        pier_error_set(err, PIER_ECLOSED, "pier_iter_open: the runner is closed");
    }
    return iter;
}
