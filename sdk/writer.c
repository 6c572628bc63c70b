/*
 * Writers. Rows are copied into a block by whoever adds them; a full block waits for an operation,
 * which writes it and gives its memory back to be filled again.
 */
#include "sdk/writer.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/runner.h"
#include "sdk/scope.h"
#include "sync/ops.h"
#include <stdio.h>
#include <string.h>

/* A block costs a hop where the loop is in between, which 512 rows make small; the bytes bound
 * what wide rows take. */
enum { ROWS_MAX = 512, BYTES_MAX = 256 * 1024, CHUNK_SIZE = 16 * 1024 };

typedef struct chunk {
    struct chunk *next;
    size_t used, room;
    max_align_t bytes[];
} chunk;

struct pier__rows {
    pier__rows *next;
    size_t count, bytes;
    chunk *chunks; /* the one that is being filled first */
    pier_args rows[ROWS_MAX];
};

/* ---- Blocks ------------------------------------------------------------------------------- */

static void free_chunks(chunk *first)
{
    while (first) {
        chunk *next = first->next;
        pier__free(first);
        first = next;
    }
}

void pier__writer_rows_free(pier__rows *rows)
{
    if (rows) {
        free_chunks(rows->chunks);
        pier__free(rows);
    }
}

/* Memory that lives as long as the rows; NULL: none. */
static void *take_memory(pier__rows *rows, size_t size)
{
    chunk *last = rows->chunks;
    if (!last || last->room - last->used < size) {
        size_t room = size > CHUNK_SIZE ? size : CHUNK_SIZE;
        last = pier__malloc(sizeof *last + room);
        if (!last) {
            return NULL;
        }
        last->next = rows->chunks;
        last->used = 0;
        last->room = room;
        rows->chunks = last;
    }
    void *memory = (char *)last->bytes + last->used;
    last->used += size;
    rows->bytes += size;
    return memory;
}

static bool push(pier__rows *rows, const pier_args *args)
{
    pier_args *row = &rows->rows[rows->count];
    if (!args || !args->count) {
        *row = (pier_args){0, NULL, NULL};
    } else {
        /* The next row's values are to be aligned as well. */
        size_t size = (pier__args_size(args) + 7) & ~(size_t)7;
        void *memory = take_memory(rows, size);
        if (!memory) {
            return false;
        }
        pier__args_write(row, memory, args);
    }
    rows->count++;
    return true;
}

static bool is_full(const pier__rows *rows)
{
    return rows->count == ROWS_MAX || rows->bytes >= BYTES_MAX;
}

/* An empty block; NULL: no memory. */
static pier__rows *take_rows(pier_writer *writer)
{
    pier__rows *rows = atomic_exchange(&writer->spare, NULL);
    if (!rows) {
        rows = pier__malloc(sizeof *rows);
        if (rows) {
            rows->next = NULL;
            rows->count = rows->bytes = 0;
            rows->chunks = NULL;
        }
    }
    return rows;
}

/* The block that is being filled is to be written. */
static void hand_in(pier_writer *writer)
{
    pier__rows *rows = writer->filling;
    writer->filling = NULL;
    if (rows) {
        pthread_mutex_lock(&writer->lock);
        *writer->pending_tail = rows;
        writer->pending_tail = &rows->next;
        pthread_mutex_unlock(&writer->lock);
    }
}

/* The next block to be written; NULL: there is none. */
static pier__rows *take_pending(pier_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    pier__rows *rows = writer->pending;
    if (rows) {
        writer->pending = rows->next;
        rows->next = NULL;
    }
    if (!writer->pending) {
        writer->pending_tail = &writer->pending;
    }
    pthread_mutex_unlock(&writer->lock);
    return rows;
}

/* Keeps what has been sent for the next block; a chunk of a size of its own is not kept. */
static void give_rows(pier_writer *writer, pier__rows *rows)
{
    chunk **at = &rows->chunks;
    while (*at && (*at)->room > CHUNK_SIZE) {
        at = &(*at)->next;
    }
    chunk *kept = *at;
    if (kept) {
        *at = kept->next;
        kept->next = NULL;
        kept->used = 0;
    }
    free_chunks(rows->chunks);
    rows->chunks = kept;
    rows->count = rows->bytes = 0;
    pier__writer_rows_free(atomic_exchange(&writer->spare, rows));
}

/* ---- The handle --------------------------------------------------------------------------- */

static void fail(pier_writer *writer, const pier_error *err)
{
    pthread_mutex_lock(&writer->lock);
    if (!writer->failure.status) {
        writer->failure = *err;
        atomic_store(&writer->failed, err->status);
    }
    pthread_mutex_unlock(&writer->lock);
}

static pier_error failure_of(pier_writer *writer)
{
    pthread_mutex_lock(&writer->lock);
    pier_error failure = writer->failure;
    pthread_mutex_unlock(&writer->lock);
    return failure;
}

static pier_writer *ref(pier_writer *writer)
{
    atomic_fetch_add_explicit(&writer->refs, 1, memory_order_relaxed);
    return writer;
}

void pier__writer_unref(pier_writer *writer)
{
    if (atomic_fetch_sub_explicit(&writer->refs, 1, memory_order_acq_rel) == 1) {
        pier__db_unref(writer->tx);
        pier__writer_rows_free(writer->filling);
        for (pier__rows *rows; (rows = take_pending(writer));) {
            pier__writer_rows_free(rows);
        }
        pier__writer_rows_free(atomic_load(&writer->spare));
        pier__turn_fini(&writer->turn);
        pthread_mutex_destroy(&writer->lock);
        pier__free(writer->closer);
        pier__free(writer->sql);
        pier__db_unref(writer->db);
        pier__free(writer);
    }
}

/* With the runner, it is rolled back: its user has not said that it is complete. */
static void close_handle(pier__handle *handle)
{
    pier_writer *writer = (pier_writer *)handle;
    pier_error err;
    pier_error_set(&err, PIER_ECLOSED, "the runner was closed before pier_writer_close");
    fail(writer, &err);
    pier__op_take_int64(pier__op_run(pier__writer_close_op(writer), NULL), "int64_t", NULL);
}

pier_writer *pier_db_writer(pier_db *db, const char *sql, pier_error *err)
{
    if (!db || !sql) {
        pier__error_null(err, db ? "pier_db_writer: the SQL" : "pier_db_writer: the database");
        return NULL;
    }
    if (pier__runner_check(db->handle.runner, "the runner", err) < 0 ||
        pier__db_check_can(db, PIER__CAN_MANY, "pier_db_writer", err) < 0) {
        return NULL;
    }
    pier_writer *writer = pier__calloc(1, sizeof *writer);
    if (!writer) {
        pier_error_set(err, PIER_ENOMEM, "pier_db_writer: out of memory");
        return NULL;
    }
    writer->db = pier__db_ref(db);
    atomic_init(&writer->refs, 1);
    pier__turn_init(&writer->turn);
    pthread_mutex_init(&writer->lock, NULL);
    writer->pending_tail = &writer->pending;
    writer->closer = pier__calloc(1, sizeof(pier__db_op));
    writer->sql = pier__strdup(sql);
    if (!writer->closer || !writer->sql) {
        pier_error_set(err, PIER_ENOMEM, "pier_db_writer: out of memory");
    } else if (!pier__handle_open(&writer->handle, db->handle.runner, close_handle)) {
        pier_error_set(err, PIER_ECLOSED, "pier_db_writer: the runner is closed");
    } else {
        return writer;
    }
    pier__writer_unref(writer);
    return NULL;
}

/* ---- Adding ------------------------------------------------------------------------------- */

static int fail_row(pier_writer *writer, const pier_error *why)
{
    pier_error err = *why;
    snprintf(err.message, sizeof err.message, "row %" PRId64 ": %.390s", writer->added + 1,
             why->message);
    fail(writer, &err);
    return err.status;
}

static int send_block(pier_writer *writer)
{
    pier_error err = {0};
    int status = pier__op_take_int(pier__op_run(pier__writer_flush_op(writer), &err), "int", &err);
    if (status < 0) {
        fail(writer, &err); /* also where the operation was refused */
    }
    return status;
}

int pier_writer_add(pier_writer *writer, const pier_args *args)
{
    if (!writer) {
        return PIER_EINVAL;
    }
    int failed = atomic_load(&writer->failed);
    if (failed) {
        return failed;
    }
    pier_error err;
    if (pier__db_check_args(writer->db, "pier_writer_add", writer->sql, args, &err) < 0) {
        return fail_row(writer, &err);
    }
    if (!writer->filling) {
        writer->filling = take_rows(writer);
    }
    if (!writer->filling || !push(writer->filling, args)) {
        pier_error_set(&err, PIER_ENOMEM, "out of memory");
        return fail_row(writer, &err);
    }
    writer->added++;
    return is_full(writer->filling) ? send_block(writer) : 0;
}

/* ---- Requests ----------------------------------------------------------------------------- */

/* The operation goes on in the writer's transaction. */
static void enter(pier__db_op *op)
{
    pier_db *outer = op->db;
    op->db = pier__db_ref(op->writer->tx);
    pier__db_unref(outer);
}

static bool begin(pier__db_op *op)
{
    pier_writer *writer = op->writer;
    pier_db *db = writer->db;
    op->made = pier__db_new_scope(db, PIER__DB_TX);
    if (!op->made) {
        pier_error err;
        pier_error_set(&err, PIER_ENOMEM, "%s: out of memory", op->op.cls->name);
        pier__db_op_fail_late(op, &err);
        return false;
    }
    op->request = PIER__BEGIN;
    if (db->kind == PIER__DB_TX) {
        op->made->depth = db->depth + 1;
        snprintf(op->sql_buffer, sizeof op->sql_buffer, "savepoint pier_%d", op->made->depth);
        pier__db_use_sql(op, op->sql_buffer);
    } else {
        pier_tx_options options = {.struct_size = sizeof options};
        pier__db_use_sql(op, db->driver->begin_sql(&options));
    }
    return true;
}

/* BEGIN has run: the scope made becomes the writer's, and has the connection. */
static void begun(pier__db_op *op)
{
    pier_db *tx = op->made;
    op->made = NULL;
    op->writer->tx = tx;
    atomic_fetch_add(&op->conn->refs, 1);
    tx->conn = op->conn;
    tx->owns_conn = op->borrowed;
    if (op->borrowed) {
        op->borrowed = false;
        pier__pool_hold(op->conn->pool, &op->conn->pooled, op->op.holder, "a writer");
    }
    enter(op);
}

static void send_rows(pier__db_op *op)
{
    op->request = PIER__EXECUTE_MANY;
    pier__db_use_sql(op, op->writer->sql);
    op->rows = op->sending->rows;
    op->row_count = op->sending->count;
    op->rows_before = op->writer->sent;
}

static void commit(pier__db_op *op)
{
    op->request = PIER__COMMIT;
    pier__db_make_commit(op);
}

/* Where it has failed: a flush fails so too, and the close rolls back what is still open. */
static bool start_failed(pier__db_op *op)
{
    if (!op->closes) {
        pier_error failure = failure_of(op->writer);
        pier__db_op_fail_late(op, &failure);
        return false;
    }
    if (!op->writer->tx) {
        return false;
    }
    enter(op);
    pier__db_make_rollback(op);
    return true;
}

bool pier__writer_start(pier__db_op *op)
{
    pier_writer *writer = op->writer;
    if (atomic_load(&writer->failed)) {
        return start_failed(op);
    }
    op->sending = take_pending(writer);
    if (!writer->tx) {
        return op->sending && begin(op);
    }
    if (!op->sending && !op->closes) {
        return false;
    }
    enter(op);
    if (op->sending) {
        send_rows(op);
    } else {
        commit(op);
    }
    return true;
}

bool pier__writer_next(pier__db_op *op)
{
    pier_writer *writer = op->writer;
    switch (op->request) {
    case PIER__BEGIN:
        begun(op);
        send_rows(op);
        return true;
    case PIER__EXECUTE_MANY:
        writer->sent += (int64_t)op->row_count;
        writer->changed += op->count;
        op->count = 0;
        give_rows(writer, op->sending);
        op->sending = take_pending(writer);
        if (op->sending) {
            send_rows(op);
        } else if (op->closes) {
            commit(op);
        }
        return op->sending || op->closes;
    default:
        return false;
    }
}

static void end_tx(pier_writer *writer)
{
    pier_db *tx = writer->tx;
    writer->tx = NULL;
    pier__db_mark_ended(tx);
    if (tx->owns_conn) {
        tx->owns_conn = false;
        pier__conn_give_back(tx->conn);
    }
    pier__db_unref(tx);
}

void pier__writer_ran(pier__db_op *op)
{
    pier_writer *writer = op->writer;
    if (op->failed) {
        pier_error err;
        if (op->failure) {
            err = *op->failure;
        } else {
            pier_error_set(&err, op->failed, "%s: out of memory", op->op.cls->name);
        }
        fail(writer, &err);
    }
    /* One that failed without its turn on the connection could not roll back; the close will. */
    if (writer->tx && (op->closes || op->cleaning)) {
        end_tx(writer);
    }
}

/* ---- Flushing ----------------------------------------------------------------------------- */

/* Nothing may fail unnoticed, though its rows are still there. */
static void flush_unstarted(pier__op *op, const pier_error *err)
{
    fail(((pier__db_op *)op)->writer, err);
}

static const pier__op_class flush_class = {
    .name = "pier_writer_flush",
    .result = "int",
    .size = sizeof(pier__db_op),
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .fini = pier__db_op_fini,
    .unstarted = flush_unstarted,
    .subject = pier__db_op_subject,
};

pier_future *pier__writer_flush_op(pier_writer *writer)
{
    if (!writer) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(&flush_class, PIER__EXECUTE_MANY, writer->db, &failed);
    if (!op) {
        return failed;
    }
    op->writer = ref(writer);
    hand_in(writer);
    return &op->op;
}

/* ---- Closing ------------------------------------------------------------------------------ */

static const pier__op_class close_class = {
    .name = "pier_writer_close",
    .result = "int64_t",
    .size = sizeof(pier__db_op),
    .shielded = true,
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .fini = pier__db_op_fini,
    .subject = pier__db_op_subject,
};

/* The end of a writer is not cut short, but in a scope that has ended nothing is committed. */
static void obey_scope(pier_writer *writer)
{
    const pier_scope *scope = pier__here.scope;
    int status = scope ? pier__scope_cancelled(scope) : 0;
    if (scope && !status && scope->deadline && pier__now() >= scope->deadline) {
        status = PIER_ETIMEDOUT;
    }
    if (status) {
        pier_error err;
        pier_error_set(&err, status, "pier_writer_close: %s; the rows were rolled back",
                       status == PIER_ETIMEDOUT ? "the deadline has passed"
                                                : "the scope was cancelled");
        fail(writer, &err);
    }
}

pier_future *pier__writer_close_op(pier_writer *writer)
{
    if (!writer) {
        return pier__op_null();
    }
    if (pier__runner_forked(writer->db->handle.runner)) {
        pier__writer_unref(writer);
        return pier__op_forked();
    }
    if (!pier__handle_leave(&writer->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    obey_scope(writer);
    void *memory = writer->closer;
    writer->closer = NULL;
    pier__db_op *op = pier__db_op_init(memory, &close_class, PIER__COMMIT, writer->db);
    op->writer = ref(writer);
    hand_in(writer);
    return &op->op;
}

void pier__writer_closed(pier__db_op *op)
{
    pier_writer *writer = op->writer;
    pier_error failure = failure_of(writer);
    int64_t changed = writer->changed;
    pier__writer_unref(writer); /* the user's */
    if (failure.status < 0) {
        pier__op_fail_with(&op->op, &failure);
    } else {
        pier__op_succeed_int(&op->op, changed);
    }
}
