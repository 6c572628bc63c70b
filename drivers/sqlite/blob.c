/*
 * Incremental I/O on blobs. SQLite's handle is attached to the connection, which the blob keeps
 * where it has it from a pool; the public handle is freed by its close.
 */
#include "drivers/sqlite/attached.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/setup.h"
#include "sdk/alloc.h"
#include "sdk/buffer.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <limits.h>
#include <pier/async/sqlite_blob.h>
#include <stdio.h>
#include <string.h>

/* One hop for each piece; larger ones gain nothing, and stay out of the caches. */
enum { PIECE = 256 * 1024 };

typedef struct io {
    pier__sqlite_attached base; /* first */
    sqlite3_blob *blob;
} io;

struct pier_sqlite_blob {
    pier__handle handle; /* first */
    atomic_int refs;     /* the user's, and one for each operation on it */
    void *closer;        /* memory for the operation that closes it, which must not fail */
    pier_db *db;         /* holds a reference */
    pier__keeper keeper;
    /* Immutable after new. */
    char *table, *column;
    bool writes;
    /* Whoever has the connection's turn. */
    io *io;
    int64_t read_to; /* where the next block begins */
    atomic_llong size;
    /* The consumer's. */
    bool finished; /* no piece will come */
    bool given;    /* the piece has been handed out */
    bool fetching; /* a thread is inside, which the runner's close waits for */
    pier_buffer *piece;
    pier_error failure; /* the first of the iterator, for close */
};

typedef struct blob_op {
    pier__sqlite_own own;   /* first */
    pier_sqlite_blob *blob; /* holds a reference */
    int64_t rowid;
    int64_t offset; /* -1: where the last block ended */
    size_t size;
} blob_op;

/* ---- The handle --------------------------------------------------------------------------- */

static void unref_blob(pier_sqlite_blob *blob)
{
    if (!blob || atomic_fetch_sub_explicit(&blob->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    pier__sqlite_attached_unref((pier__sqlite_attached *)blob->io);
    pier_buffer_free(blob->piece);
    pier__free(blob->closer);
    pier__free(blob->table);
    pier__free(blob->column);
    pier__db_unref(blob->db);
    pier__free(blob);
}

static pier_sqlite_blob *new_blob(pier_db *db, const char *table, const char *column, bool writes)
{
    pier_sqlite_blob *blob = pier__calloc(1, sizeof *blob);
    if (!blob) {
        return NULL;
    }
    atomic_init(&blob->refs, 1);
    blob->db = pier__db_ref(db);
    blob->keeper.what = "a blob";
    blob->writes = writes;
    blob->closer = pier__calloc(1, sizeof(blob_op));
    blob->table = pier__strdup(table);
    blob->column = pier__strdup(column);
    if (!blob->closer || !blob->table || !blob->column) {
        unref_blob(blob);
        return NULL;
    }
    return blob;
}

static void close_handle(pier__handle *handle)
{
    pier_sqlite_blob *blob = (pier_sqlite_blob *)handle;
    pier__op_take_int(pier__op_run(pier__sqlite_blob_close_op(blob), NULL), "int", NULL);
}

int64_t pier_sqlite_blob_size(const pier_sqlite_blob *blob)
{
    return blob ? atomic_load(&((pier_sqlite_blob *)blob)->size) : PIER_EINVAL;
}

static void blob_fini(pier__op *base)
{
    unref_blob(((blob_op *)base)->blob);
    pier__db_op_fini(base);
}

/* ---- Opening ------------------------------------------------------------------------------ */

static void end_io(pier__sqlite_attached *attached)
{
    io *blob = (io *)attached;
    sqlite3_blob_close(blob->blob);
    blob->blob = NULL;
}

/* SQLite says of what it cannot open only what that is. */
static bool fail_open(pier__sqlite_conn *conn, const pier_sqlite_blob *blob, int code,
                      int64_t rowid)
{
    char message[sizeof conn->failure.message];
    pier__sqlite_fail(conn, code, "", "");
    snprintf(message, sizeof message, "the blob in %.60s.%.60s of row %lld: %.200s", blob->table,
             blob->column, (long long)rowid, conn->failure.message);
    memcpy(conn->failure.message, message, sizeof message);
    return false;
}

static bool open_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    blob_op *op = (blob_op *)own;
    pier_sqlite_blob *blob = op->blob;
    if (blob->writes && blob->db->read_only) {
        return pier__sqlite_refuse(conn, PIER_ESQL,
                                   "the transaction is read-only; begin one without read_only");
    }
    if (blob->writes && !pier__sqlite_check_file(conn)) {
        return false;
    }
    io *made = pier__calloc(1, sizeof *made);
    if (!made) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    int code = sqlite3_blob_open(conn->sqlite, "main", blob->table, blob->column, op->rowid,
                                 blob->writes, &made->blob);
    if (code != SQLITE_OK) {
        pier__free(made);
        return fail_open(conn, blob, code, op->rowid);
    }
    made->base.end = end_io;
    pier__sqlite_attach(conn, &made->base);
    blob->io = made;
    atomic_store(&blob->size, sqlite3_blob_bytes(made->blob));
    blob->keeper.wanted = true;
    return true;
}

/* The connection is the blob's now; the runner closes what is left open. */
static bool open_ended(pier__db_op *op)
{
    pier_sqlite_blob *blob = ((blob_op *)op)->blob;
    if (op->failed) {
        return false;
    }
    if (pier__handle_open(&blob->handle, op->op.runner, close_handle)) {
        atomic_fetch_add(&blob->refs, 1); /* the user's */
        op->product = blob;
        return false;
    }
    pier__conn *kept = blob->keeper.conn;
    blob->keeper.conn = NULL;
    if (kept) {
        pier__conn_give_back(kept);
    }
    pier_error err;
    pier_error_set(&err, PIER_ECLOSED, "pier_sqlite_blob_open: the runner is closed");
    pier__db_op_fail_late(op, &err);
    return false;
}

static void drop_blob(pier__op *op)
{
    if (op->result.pointer) {
        pier_future_free(pier__op_submit(pier__sqlite_blob_close_op(op->result.pointer)));
    }
}

static const pier__op_class open_class =
    PIER__SQLITE_CLASS("pier_sqlite_blob_open", "pier_sqlite_blob *", sizeof(blob_op),
                       .drop = drop_blob, .fini = blob_fini);

pier_future *pier__sqlite_blob_open_op(pier_db *db, const char *table, const char *column,
                                       int64_t rowid, bool writes)
{
    pier__op *failed = NULL;
    blob_op *op = pier__sqlite_own_new(&open_class, db, open_run, &failed);
    if (!op) {
        return failed;
    }
    pier__op *base = &op->own.base.op;
    if (!table || !column) {
        return pier__op_refuse(base, PIER_EINVAL, "pier_sqlite_blob_open: %s is NULL",
                               table ? "column" : "table");
    }
    op->blob = new_blob(db, table, column, writes);
    if (!op->blob) {
        return pier__op_refuse(base, PIER_ENOMEM, "pier_sqlite_blob_open: out of memory");
    }
    op->rowid = rowid;
    op->own.base.reads = !writes;
    op->own.base.keeper = &op->blob->keeper;
    op->own.base.ended = open_ended;
    return base;
}

/* ---- Using it ----------------------------------------------------------------------------- */

static bool fail_io(pier__sqlite_conn *conn, int code)
{
    pier__sqlite_fail(conn, code, "", "");
    if ((code & 0xFF) == SQLITE_ABORT) {
        pier__sqlite_refuse(conn, PIER_ESQL,
                            "the blob has expired: its row was changed or deleted since it was "
                            "opened, or its transaction rolled back; reopen it");
    }
    conn->failure.origin = PIER_ORIGIN_SQLITE;
    conn->failure.native = code;
    return false;
}

static bool check_io(pier__sqlite_conn *conn, const pier_sqlite_blob *blob)
{
    return (blob->io && !blob->io->base.ended) ||
           pier__sqlite_refuse(conn, PIER_ECLOSED, "the connection of the blob was closed");
}

static bool read_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    blob_op *op = (blob_op *)own;
    pier_sqlite_blob *blob = op->blob;
    if (!check_io(conn, blob)) {
        return false;
    }
    int64_t offset = op->offset < 0 ? blob->read_to : op->offset;
    int64_t left = atomic_load(&blob->size) - offset;
    size_t size = left <= 0 ? 0 : (uint64_t)left < op->size ? (size_t)left : op->size;
    pier_buffer *piece = pier__buffer_new(size);
    if (!piece) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory for %zu bytes", size);
    }
    /* Nothing is read at the end, where an expired handle is found out all the same. */
    int code =
        sqlite3_blob_read(blob->io->blob, (void *)piece->data, (int)size, size ? (int)offset : 0);
    if (code != SQLITE_OK) {
        pier_buffer_free(piece);
        return fail_io(conn, code);
    }
    if (op->offset < 0) {
        blob->read_to = offset + (int64_t)size;
    }
    own->base.product = piece;
    return true;
}

static bool write_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    blob_op *op = (blob_op *)own;
    pier_sqlite_blob *blob = op->blob;
    if (!check_io(conn, blob)) {
        return false;
    }
    if (!blob->writes) {
        return pier__sqlite_refuse(conn, PIER_ESQL, "the blob was opened for reading");
    }
    int64_t size = atomic_load(&blob->size);
    if (op->offset > size || own->base.sql_size > (uint64_t)(size - op->offset)) {
        return pier__sqlite_refuse(conn, PIER_ERANGE,
                                   "%zu bytes at %lld end behind the blob, which has %lld and "
                                   "cannot grow",
                                   own->base.sql_size, (long long)op->offset, (long long)size);
    }
    int code =
        sqlite3_blob_write(blob->io->blob, own->base.sql, (int)own->base.sql_size, (int)op->offset);
    return code == SQLITE_OK || fail_io(conn, code);
}

static bool reopen_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    blob_op *op = (blob_op *)own;
    pier_sqlite_blob *blob = op->blob;
    if (!check_io(conn, blob)) {
        return false;
    }
    int code = sqlite3_blob_reopen(blob->io->blob, op->rowid);
    if (code == SQLITE_ABORT) {
        /* SQLite does not revive what failed to reopen before. */
        sqlite3_blob *again = NULL;
        code = sqlite3_blob_open(conn->sqlite, "main", blob->table, blob->column, op->rowid,
                                 blob->writes, &again);
        if (code == SQLITE_OK) {
            sqlite3_blob_close(blob->io->blob);
            blob->io->blob = again;
        }
    }
    if (code != SQLITE_OK) {
        atomic_store(&blob->size, 0);
        return fail_open(conn, blob, code, op->rowid);
    }
    blob->read_to = 0;
    atomic_store(&blob->size, sqlite3_blob_bytes(blob->io->blob));
    return true;
}

static void drop_bytes(pier__op *op)
{
    pier_buffer_free(op->result.pointer);
}

static void read_fini(pier__op *base)
{
    pier_buffer_free(((pier__db_op *)base)->product);
    ((pier__db_op *)base)->product = NULL;
    blob_fini(base);
}

static const pier__op_class read_class =
    PIER__SQLITE_CLASS("pier_sqlite_blob_read_at", "pier_buffer *", sizeof(blob_op),
                       .drop = drop_bytes, .fini = read_fini);
static const pier__op_class block_class =
    PIER__SQLITE_CLASS("pier_sqlite_blob_block", "pier_buffer *", sizeof(blob_op),
                       .drop = drop_bytes, .fini = read_fini);
static const pier__op_class write_class = PIER__SQLITE_CLASS(
    "pier_sqlite_blob_write_at", "int", sizeof(blob_op), .own = pier__db_op_own, .fini = blob_fini);
static const pier__op_class reopen_class =
    PIER__SQLITE_CLASS("pier_sqlite_blob_reopen", "int", sizeof(blob_op), .fini = blob_fini);

static blob_op *new_op(const pier__op_class *cls, pier_sqlite_blob *blob,
                       bool (*run)(pier__sqlite_conn *conn, pier__sqlite_own *own),
                       pier__op **failed)
{
    blob_op *op = pier__sqlite_own_new(cls, blob ? blob->db : NULL, run, failed);
    if (op) {
        atomic_fetch_add(&blob->refs, 1);
        op->blob = blob;
        op->own.base.keeper = &blob->keeper;
    }
    return op;
}

pier_future *pier__sqlite_blob_read_at_op(pier_sqlite_blob *blob, int64_t offset, size_t size)
{
    pier__op *failed = NULL;
    blob_op *op = new_op(&read_class, blob, read_run, &failed);
    if (!op) {
        return failed;
    }
    if (offset < 0) {
        return pier__op_refuse(&op->own.base.op, PIER_EINVAL,
                               "pier_sqlite_blob_read_at: the offset is negative");
    }
    op->offset = offset;
    op->size = size;
    return &op->own.base.op;
}

pier_future *pier__sqlite_blob_block_op(pier_sqlite_blob *blob)
{
    pier__op *failed = NULL;
    blob_op *op = new_op(&block_class, blob, read_run, &failed);
    if (!op) {
        return failed;
    }
    op->offset = -1;
    op->size = PIECE;
    return &op->own.base.op;
}

pier_future *pier__sqlite_blob_write_at_op(pier_sqlite_blob *blob, int64_t offset, const void *data,
                                           size_t size)
{
    pier__op *failed = NULL;
    blob_op *op = new_op(&write_class, blob, write_run, &failed);
    if (!op) {
        return failed;
    }
    if (offset < 0 || (!data && size) || size > INT_MAX) {
        return pier__op_refuse(&op->own.base.op, PIER_EINVAL, "pier_sqlite_blob_write_at: %s",
                               offset < 0 ? "the offset is negative"
                               : data     ? "it is too much at once"
                                          : "the data is NULL");
    }
    op->offset = offset;
    op->own.base.sql = data ? data : "";
    op->own.base.sql_size = size;
    return &op->own.base.op;
}

pier_future *pier__sqlite_blob_reopen_op(pier_sqlite_blob *blob, int64_t rowid)
{
    pier__op *failed = NULL;
    blob_op *op = new_op(&reopen_class, blob, reopen_run, &failed);
    if (!op) {
        return failed;
    }
    op->rowid = rowid;
    return &op->own.base.op;
}

/* ---- The iterator's side ------------------------------------------------------------------ */

/* True: a piece, or the end. */
static bool take_piece(pier_sqlite_blob *blob, size_t *size, const void **item)
{
    if (blob->finished) {
        return true;
    }
    if (blob->piece && !blob->given) {
        blob->given = true;
        *size = blob->piece->size;
        *item = blob->piece->data;
        return true;
    }
    pier_buffer_free(blob->piece);
    blob->piece = NULL;
    return false;
}

bool pier__sqlite_blob_next_take(pier_sqlite_blob *blob, size_t *size, const void **item)
{
    *item = NULL;
    *size = 0;
    return !blob ||
           pier__runner_iterate(blob->handle.runner, &blob->fetching, take_piece(blob, size, item));
}

void pier__sqlite_blob_block_put(pier_sqlite_blob *blob, pier_buffer *block)
{
    blob->finished = !block || !block->size;
    blob->given = false;
    blob->piece = block;
}

pier_error *pier__sqlite_blob_error(pier_sqlite_blob *blob)
{
    return blob ? &blob->failure : NULL;
}

/* ---- Closing ------------------------------------------------------------------------------ */

static bool close_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    pier_sqlite_blob *blob = ((blob_op *)own)->blob;
    blob->keeper.wanted = false;
    if (!blob->io || blob->io->base.ended) {
        return true;
    }
    conn->finishing = true;
    int code = sqlite3_blob_close(blob->io->blob); /* ends it whatever it gives */
    blob->io->blob = NULL;
    /* What the last piece failed with has been reported. */
    bool done = code == SQLITE_OK || (code & 0xFF) == SQLITE_ABORT || fail_io(conn, code);
    pier__sqlite_detach(conn, &blob->io->base);
    return done;
}

static bool close_ended(pier__db_op *op)
{
    pier_sqlite_blob *blob = ((blob_op *)op)->blob;
    pier__conn *kept = blob->keeper.conn;
    blob->keeper.conn = NULL;
    if (kept) { /* it could not be closed on it: the connection does so */
        pier__conn_give_back(kept);
    }
    if (blob->failure.status < 0) {
        pier__op_fail_with(&op->op, &blob->failure);
    } else if (op->failed && op->failure) {
        pier__op_fail_with(&op->op, op->failure);
    } else if (op->failed) {
        pier__op_fail(&op->op, op->failed, "pier_sqlite_blob_close failed");
    } else {
        pier__op_succeed_int(&op->op, 0);
    }
    return true;
}

static const pier__op_class close_class = {
    .name = "pier_sqlite_blob_close",
    .result = "int",
    .size = sizeof(blob_op),
    .shielded = true,
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .fini = blob_fini,
    .subject = pier__db_op_subject,
};

pier_future *pier__sqlite_blob_close_op(pier_sqlite_blob *blob)
{
    if (!blob) {
        return pier__op_null();
    }
    if (pier__runner_forked(blob->handle.runner)) {
        unref_blob(blob);
        return pier__op_forked();
    }
    if (!pier__handle_leave(&blob->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    blob_op *op = blob->closer;
    blob->closer = NULL;
    pier__db_op_init(op, &close_class, PIER__OWN, blob->db);
    op->own.run = close_run;
    op->own.base.keeper = &blob->keeper;
    op->own.base.ended = close_ended;
    op->blob = blob; /* with the user's reference */
    return &op->own.base.op;
}
