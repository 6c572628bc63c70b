/*
 * Subscriptions. The connection that has committed makes one block, which all subscribers share;
 * each has a queue of its own. Locks: the registry's comes before a subscription's, and user code
 * runs under none.
 */
#include "drivers/sqlite/batch.h"

#include "drivers/sqlite/changes.h"
#include "drivers/sqlite/connection.h"
#include "sdk/alloc.h"
#include "sdk/handle.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <string.h>

enum { CHANGES_MAX = 65536 };

/* Immutable, shared; the texts stand behind the changes. */
struct block {
    atomic_int refs;
    size_t count;
    pier_sqlite_change changes[];
};

struct pier_sqlite_batch {
    struct pier_sqlite_batch *next;
    struct block *block; /* NULL: nothing but what was lost */
    int64_t lost;
};

struct next_op {
    pier__op op;
    pier_sqlite_changes *changes; /* holds a reference */
    /* Guarded by its lock. */
    struct next_op *next;
    bool queued;
    bool nomem; /* something was lost, and there was no memory to say so */
    pier_sqlite_batch *got;
};

struct pier_sqlite_changes {
    pier__handle handle; /* first */
    /* Immutable after open. */
    pier_db *root; /* holds a reference */
    pier_sqlite_changes_options options;
    atomic_int refs; /* the user's, each operation's, each delivery's */
    /* Guarded by the registry's lock. */
    struct pier_sqlite_changes *next;
    /* Guarded by lock. */
    pthread_mutex_t lock;
    pier_sqlite_batch *head, **tail;
    int64_t queued; /* changes */
    int64_t lost;   /* transactions since the last batch */
    bool ended;
    struct next_op *first_waiter, **last_waiter;
};

/* ---- Batches ------------------------------------------------------------------------------ */

static void unref_block(struct block *block)
{
    if (block && atomic_fetch_sub_explicit(&block->refs, 1, memory_order_acq_rel) == 1) {
        pier__free(block);
    }
}

size_t pier_sqlite_batch_count(const pier_sqlite_batch *batch)
{
    return batch && batch->block ? batch->block->count : 0;
}

const pier_sqlite_change *pier_sqlite_batch_change(const pier_sqlite_batch *batch, size_t index)
{
    return index < pier_sqlite_batch_count(batch) ? &batch->block->changes[index] : NULL;
}

int64_t pier_sqlite_batch_lost(const pier_sqlite_batch *batch)
{
    return batch ? batch->lost : 0;
}

void pier_sqlite_batch_free(pier_sqlite_batch *batch)
{
    if (batch) {
        unref_block(batch->block);
        pier__free(batch);
    }
}

static size_t name_size(const char *name)
{
    size_t head = strlen(name) + 1;
    return head + strlen(name + head) + 1;
}

/* A copy of what was collected; NULL: no memory. */
static struct block *make_block(const pier__sqlite_buffer *buffer)
{
    size_t size = sizeof(struct block) + buffer->count * sizeof(pier_sqlite_change);
    size_t *offsets = pier__malloc((buffer->name_count + 1) * sizeof *offsets);
    for (size_t i = 0; offsets && i < buffer->name_count; i++) {
        offsets[i] = size;
        size += name_size(buffer->names[i]);
    }
    struct block *block = offsets ? pier__malloc(size) : NULL;
    if (block) {
        atomic_init(&block->refs, 1);
        block->count = buffer->count;
        for (size_t i = 0; i < buffer->name_count; i++) {
            memcpy((char *)block + offsets[i], buffer->names[i], name_size(buffer->names[i]));
        }
        for (size_t i = 0; i < buffer->count; i++) {
            const pier__sqlite_change *from = &buffer->changes[i];
            const char *name = (const char *)block + offsets[from->name];
            block->changes[i] = (pier_sqlite_change){.kind = (int)from->kind,
                                                     .database = name,
                                                     .table = name + strlen(name) + 1,
                                                     .rowid = from->rowid};
        }
    }
    pier__free(offsets);
    return block;
}

/* ---- Subscriptions ------------------------------------------------------------------------ */

static void unref_changes(pier_sqlite_changes *changes)
{
    if (atomic_fetch_sub_explicit(&changes->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    while (changes->head) {
        pier_sqlite_batch *batch = changes->head;
        changes->head = batch->next;
        pier_sqlite_batch_free(batch);
    }
    if (changes->options.destroy) {
        changes->options.destroy(changes->options.user_data);
    }
    pthread_mutex_destroy(&changes->lock);
    pier__db_unref(changes->root);
    pier__free(changes);
}

/* Under the lock: takes the first batch, or one that says what was lost. */
static pier_sqlite_batch *take_batch(pier_sqlite_changes *changes)
{
    pier_sqlite_batch *batch = changes->head;
    if (batch) {
        changes->head = batch->next;
        if (!changes->head) {
            changes->tail = &changes->head;
        }
        changes->queued -= (int64_t)pier_sqlite_batch_count(batch);
    } else if (changes->lost) {
        batch = pier__calloc(1, sizeof *batch);
        if (batch) {
            batch->lost = changes->lost;
            changes->lost = 0;
        }
    }
    return batch;
}

/* Under the lock: gives the first waiter what there is for it. Gives its operation, with a
 * reference, to be woken. */
static pier__op *serve(pier_sqlite_changes *changes)
{
    struct next_op *waiter = changes->first_waiter;
    if (!waiter) {
        return NULL;
    }
    waiter->got = take_batch(changes);
    if (!waiter->got && !changes->lost && !changes->ended) {
        return NULL;
    }
    waiter->nomem = !waiter->got && changes->lost;
    changes->first_waiter = waiter->next;
    if (!waiter->next) {
        changes->last_waiter = &changes->first_waiter;
    }
    waiter->queued = false;
    return pier__op_ref(&waiter->op);
}

/* Serves all who can be. */
static void serve_waiters(pier_sqlite_changes *changes)
{
    for (pier__op *op = NULL;; pier__op_unref(op)) {
        pthread_mutex_lock(&changes->lock);
        op = serve(changes);
        pthread_mutex_unlock(&changes->lock);
        if (!op) {
            return;
        }
        pier__op_wake(op);
    }
}

/* ---- Delivering --------------------------------------------------------------------------- */

static pier_sqlite_batch *make_batch(struct block *block, int64_t lost)
{
    pier_sqlite_batch *batch = block ? pier__malloc(sizeof *batch) : NULL;
    if (batch) {
        atomic_fetch_add_explicit(&block->refs, 1, memory_order_relaxed);
        *batch = (pier_sqlite_batch){.block = block, .lost = lost};
    }
    return batch;
}

/* A block that is NULL is one that was lost. */
static void deliver_to(pier_sqlite_changes *changes, struct block *block)
{
    int64_t max = changes->options.changes_max;
    pthread_mutex_lock(&changes->lock);
    bool fits = block && (int64_t)block->count <= max - changes->queued;
    pier_sqlite_batch *batch = fits ? make_batch(block, changes->lost) : NULL;
    bool ended = changes->ended;
    changes->lost = batch ? 0 : changes->lost + 1;
    if (batch && !changes->options.callback && !ended) {
        *changes->tail = batch;
        changes->tail = &batch->next;
        changes->queued += (int64_t)block->count;
        batch = NULL;
    }
    pthread_mutex_unlock(&changes->lock);
    if (batch && !ended) {
        changes->options.callback(changes->options.user_data, batch);
    }
    pier_sqlite_batch_free(batch);
    serve_waiters(changes);
}

/* Each with a reference; NULL: none, or no memory. */
static pier_sqlite_changes **list_subscribers(pier__sqlite_registry *registry, size_t *count)
{
    *count = 0;
    pthread_mutex_lock(&registry->lock);
    size_t room = 0;
    for (pier_sqlite_changes *at = registry->subscribers; at; at = at->next) {
        room++;
    }
    pier_sqlite_changes **list = room ? pier__malloc(room * sizeof *list) : NULL;
    for (pier_sqlite_changes *at = registry->subscribers; at; at = at->next) {
        if (list) {
            atomic_fetch_add(&at->refs, 1);
            list[(*count)++] = at;
        } else {
            pthread_mutex_lock(&at->lock);
            at->lost++;
            pthread_mutex_unlock(&at->lock);
        }
    }
    pthread_mutex_unlock(&registry->lock);
    return list;
}

void pier__sqlite_batch_deliver(pier__sqlite_conn *conn)
{
    size_t count;
    pier_sqlite_changes **list =
        list_subscribers(&((pier__sqlite_db *)conn->base.db)->registry, &count);
    struct block *block = count && !conn->changes.overflowed && !conn->changes.blind
                              ? make_block(&conn->changes)
                              : NULL;
    for (size_t i = 0; i < count; i++) {
        deliver_to(list[i], block);
        unref_changes(list[i]);
    }
    unref_block(block);
    pier__free(list);
}

/* ---- Opening and closing ------------------------------------------------------------------ */

static void end(pier_sqlite_changes *changes)
{
    pthread_mutex_lock(&changes->lock);
    changes->ended = true;
    pthread_mutex_unlock(&changes->lock);
    serve_waiters(changes);
}

/* Under the registry's lock. */
static void measure(pier__sqlite_registry *registry)
{
    registry->changes_max = 0;
    for (pier_sqlite_changes *at = registry->subscribers; at; at = at->next) {
        if (at->options.changes_max > registry->changes_max) {
            registry->changes_max = at->options.changes_max;
        }
    }
    atomic_fetch_add(&registry->generation, 1);
}

static void subscribe(pier__sqlite_registry *registry, pier_sqlite_changes *changes)
{
    pthread_mutex_lock(&registry->lock);
    changes->ended = registry->closed;
    changes->next = registry->subscribers;
    registry->subscribers = changes;
    measure(registry);
    pthread_mutex_unlock(&registry->lock);
}

static void unsubscribe(pier__sqlite_registry *registry, pier_sqlite_changes *changes)
{
    pthread_mutex_lock(&registry->lock);
    pier_sqlite_changes **at = &registry->subscribers;
    while (*at && *at != changes) {
        at = &(*at)->next;
    }
    if (*at) {
        *at = changes->next;
        measure(registry);
    }
    pthread_mutex_unlock(&registry->lock);
}

void pier__sqlite_changes_pool_closed(pier__sqlite_registry *registry)
{
    pthread_mutex_lock(&registry->lock);
    registry->closed = true;
    pthread_mutex_unlock(&registry->lock);
    size_t count;
    pier_sqlite_changes **list = list_subscribers(registry, &count);
    for (size_t i = 0; i < count; i++) {
        end(list[i]);
        unref_changes(list[i]);
    }
    pier__free(list);
}

void pier_sqlite_changes_close(pier_sqlite_changes *changes)
{
    if (!changes) {
        return;
    }
    if (pier__runner_forked(changes->handle.runner)) {
        unref_changes(changes); /* nobody will deliver anything here */
    } else if (pier__handle_leave(&changes->handle)) {
        unsubscribe(&((pier__sqlite_db *)changes->root)->registry, changes);
        end(changes);
        unref_changes(changes);
    }
}

static void close_handle(pier__handle *handle)
{
    pier_sqlite_changes_close((pier_sqlite_changes *)handle);
}

static pier_sqlite_changes *new_changes(pier_db *root, const pier_sqlite_changes_options *options)
{
    pier_sqlite_changes *changes = pier__calloc(1, sizeof *changes);
    if (changes) {
        changes->root = pier__db_ref(root);
        changes->options = *options;
        atomic_init(&changes->refs, 1);
        pthread_mutex_init(&changes->lock, NULL);
        changes->tail = &changes->head;
        changes->last_waiter = &changes->first_waiter;
    }
    return changes;
}

/* 0, or a status with `err` filled. */
static int check_open(pier_db *db, const pier_sqlite_changes_options *options,
                      pier_sqlite_changes_options *read, pier_error *err)
{
    int status =
        pier__options_read(read, sizeof *read, options, "PIER_SQLITE_CHANGES_OPTIONS", err);
    if (!db) {
        return pier__error_null(err, "pier_sqlite_changes_open: the database");
    }
    if (status < 0) {
        return status;
    }
    if (read->changes_max < 0) {
        return pier_error_set(err, PIER_EINVAL, "pier_sqlite_changes_open: changes_max is %d",
                              read->changes_max);
    }
    read->changes_max = read->changes_max ? read->changes_max : CHANGES_MAX;
    if (!pier__sqlite_is_sqlite(db, "pier_sqlite_changes_open", err)) {
        return PIER_EINVAL;
    }
    return pier__runner_check(db->handle.runner, "pier_sqlite_changes_open: the runner", err);
}

pier_sqlite_changes *
pier_sqlite_changes_open(pier_db *db, const pier_sqlite_changes_options *options, pier_error *err)
{
    pier_sqlite_changes_options read = {.struct_size = 0};
    pier_sqlite_changes *changes = NULL;
    if (check_open(db, options, &read, err) >= 0) {
        changes = new_changes(db->root, &read);
        if (!changes) {
            pier_error_set(err, PIER_ENOMEM, "pier_sqlite_changes_open: out of memory");
        }
    }
    if (!changes) {
        if (read.destroy) {
            read.destroy(read.user_data);
        }
        return NULL;
    }
    if (!pier__handle_open(&changes->handle, db->handle.runner, close_handle)) {
        unref_changes(changes);
        pier_error_set(err, PIER_ECLOSED, "pier_sqlite_changes_open: the runner is closed");
        return NULL;
    }
    subscribe(&((pier__sqlite_db *)db->root)->registry, changes);
    return changes;
}

/* ---- Reading ------------------------------------------------------------------------------ */

static void next_drop(pier__op *op)
{
    pier_sqlite_batch_free(op->result.pointer);
}

static void next_fini(pier__op *op)
{
    struct next_op *next = (struct next_op *)op;
    pier_sqlite_batch_free(next->got);
    unref_changes(next->changes);
}

/* Takes what there is or queues up. */
static void next_begin(struct next_op *next)
{
    pier_sqlite_changes *changes = next->changes;
    next->op.doing = "waiting for changes";
    pthread_mutex_lock(&changes->lock);
    next->next = NULL;
    next->queued = true;
    *changes->last_waiter = next;
    changes->last_waiter = &next->next;
    pthread_mutex_unlock(&changes->lock);
    serve_waiters(changes);
}

/* True: it was still waiting. What it has got meanwhile is its own. */
static bool next_leave(struct next_op *next)
{
    pier_sqlite_changes *changes = next->changes;
    pthread_mutex_lock(&changes->lock);
    bool was_queued = next->queued;
    if (was_queued) {
        struct next_op **at = &changes->first_waiter;
        while (*at != next) {
            at = &(*at)->next;
        }
        *at = next->next;
        if (changes->last_waiter == &next->next) {
            changes->last_waiter = at;
        }
        next->queued = false;
    }
    pthread_mutex_unlock(&changes->lock);
    return was_queued;
}

static void next_step(pier__op *op, unsigned events)
{
    struct next_op *next = (struct next_op *)op;
    if (events & PIER__START) {
        next_begin(next);
    }
    if (events & PIER__CANCEL && next_leave(next)) {
        pier__op_fail_cancelled(op);
        return;
    }
    pthread_mutex_lock(&next->changes->lock);
    bool waits = next->queued;
    bool nomem = next->nomem;
    pier_sqlite_batch *batch = next->got;
    next->got = NULL;
    pthread_mutex_unlock(&next->changes->lock);
    if (waits) {
        op->wait.kind = PIER__WAIT_WAKE;
    } else if (batch) {
        pier__op_succeed(op, batch);
    } else if (nomem) {
        pier__op_fail(op, PIER_ENOMEM, "%s: out of memory", op->cls->name);
    } else {
        pier__op_fail(op, PIER_ECLOSED, "%s: no more changes come: %s is closed, or this is",
                      op->cls->name, next->changes->root->name);
    }
}

static const pier__op_class next_class = {
    .name = "pier_sqlite_changes_next",
    .result = "pier_sqlite_batch *",
    .size = sizeof(struct next_op),
    .step = next_step,
    .drop = next_drop,
    .fini = next_fini,
};

pier_future *pier__sqlite_changes_next_op(pier_sqlite_changes *changes)
{
    if (!changes) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct next_op *next = pier__op_new(&next_class, changes->handle.runner, &failed);
    if (!next) {
        return failed;
    }
    atomic_fetch_add(&changes->refs, 1);
    next->changes = changes;
    if (changes->options.callback) {
        return pier__op_refuse(&next->op, PIER_EINVAL,
                               "%s: the callback gets the changes, none waits to be read",
                               next_class.name);
    }
    return &next->op;
}
