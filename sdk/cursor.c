/*
 * Cursors: rows in blocks. Fetching a block is a request like any other; walking its rows needs no
 * call into the driver.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <string.h>

/* The columns of a cursor that has ended, shared by the blocks without rows that it gives then. */
struct pier__cursor_columns {
    atomic_int refs;
    int count;
    const char *names[]; /* their texts stand behind them */
};

static void unref_columns(struct pier__cursor_columns *columns)
{
    if (columns && atomic_fetch_sub_explicit(&columns->refs, 1, memory_order_acq_rel) == 1) {
        pier__free(columns);
    }
}

pier_cursor *pier__cursor_ref(pier_cursor *cursor)
{
    atomic_fetch_add_explicit(&cursor->refs, 1, memory_order_relaxed);
    return cursor;
}

void pier__cursor_unref(pier_cursor *cursor)
{
    if (atomic_fetch_sub_explicit(&cursor->refs, 1, memory_order_acq_rel) == 1) {
        cursor->driver->cursor_fini(cursor);
        pier_result_free(cursor->block);
        unref_columns(cursor->columns);
        pier__turn_fini(&cursor->turn);
        pier__free(cursor->closer);
        pier__free(cursor->args);
        pier__free(cursor->sql);
        pier__db_unref(cursor->db);
        pier__free(cursor);
    }
}

static void close_handle(pier__handle *handle)
{
    pier_cursor *cursor = (pier_cursor *)handle;
    pier__op_take_int(pier__op_run(pier__cursor_close_op(cursor), NULL), "int", NULL);
}

pier_cursor *pier_db_cursor(pier_db *db, const char *sql, const pier_args *args, pier_error *err)
{
    if (!db || !sql) {
        pier__error_null(err, db ? "pier_db_cursor: the SQL" : "pier_db_cursor: the database");
        return NULL;
    }
    pier_error invalid;
    if (pier__runner_check(db->handle.runner, "the runner", err) < 0 ||
        pier__db_check_args(db, "pier_db_cursor", sql, args, err ? err : &invalid) < 0) {
        return NULL;
    }
    pier_cursor *cursor = pier__calloc(1, db->driver->cursor_size);
    if (!cursor) {
        pier_error_set(err, PIER_ENOMEM, "pier_db_cursor: out of memory");
        return NULL;
    }
    cursor->db = pier__db_ref(db);
    cursor->driver = db->driver;
    atomic_init(&cursor->refs, 1);
    pier__turn_init(&cursor->turn);
    cursor->closer = pier__calloc(1, sizeof(pier__db_op));
    cursor->sql = pier__strdup(sql);
    cursor->args = args && args->count ? pier__args_copy(args) : NULL;
    if (!cursor->closer || !cursor->sql || (args && args->count && !cursor->args)) {
        pier_error_set(err, PIER_ENOMEM, "pier_db_cursor: out of memory");
    } else if (!pier__handle_open(&cursor->handle, db->handle.runner, close_handle)) {
        pier_error_set(err, PIER_ECLOSED, "pier_db_cursor: the runner is closed");
    } else {
        return cursor;
    }
    pier__cursor_unref(cursor);
    return NULL;
}

/* ---- Blocks ------------------------------------------------------------------------------- */

static void drop_block(pier__op *op)
{
    pier_result_free(op->result.pointer);
}

static const pier__op_class block_class = {
    .name = "pier_cursor_block",
    .result = "pier_result *",
    .size = sizeof(pier__db_op),
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .drop = drop_block,
    .fini = pier__db_op_fini,
    .unstarted = pier__db_op_unstarted,
    .subject = pier__db_op_subject,
};

/* A block without rows, for those who ask beyond the end. */
struct end_block {
    pier_result base; /* first */
    struct pier__cursor_columns *columns;
};

static void free_end(pier_result *block)
{
    unref_columns(((struct end_block *)block)->columns);
}

static const char *end_column_name(const pier_result *block, int column)
{
    return ((const struct end_block *)block)->columns->names[column];
}

static const pier__rows_class end_class = {.free = free_end, .column_name = end_column_name};

void pier__cursor_keep_columns(pier_cursor *cursor, const pier_result *last)
{
    size_t count = (size_t)last->columns, texts = 0;
    for (int i = 0; i < last->columns; i++) {
        texts += strlen(last->cls->column_name(last, i)) + 1;
    }
    struct pier__cursor_columns *columns =
        pier__malloc(sizeof *columns + count * sizeof *columns->names + texts);
    if (!columns) {
        cursor->columns_lost = true; /* told to whoever asks beyond the end */
        return;
    }
    atomic_init(&columns->refs, 1);
    columns->count = last->columns;
    char *text = (char *)&columns->names[count];
    for (int i = 0; i < last->columns; i++) {
        const char *name = last->cls->column_name(last, i);
        size_t size = strlen(name) + 1;
        columns->names[i] = memcpy(text, name, size);
        text += size;
    }
    unref_columns(cursor->columns);
    cursor->columns = columns;
}

void pier__cursor_beyond_end(pier__db_op *op)
{
    struct pier__cursor_columns *columns = op->cursor->columns;
    struct end_block *block = op->cursor->columns_lost ? NULL : pier__calloc(1, sizeof *block);
    if (!block) {
        op->failed = PIER_ENOMEM;
        return;
    }
    pier__result_init(&block->base, &end_class, 0, columns ? columns->count : 0);
    if (columns) {
        atomic_fetch_add_explicit(&columns->refs, 1, memory_order_relaxed);
        block->columns = columns;
    }
    op->block = &block->base;
}

pier_future *pier__cursor_block_op(pier_cursor *cursor)
{
    if (!cursor) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(&block_class, PIER__CURSOR_BLOCK, cursor->db, &failed);
    if (!op) {
        return failed;
    }
    op->cursor = pier__cursor_ref(cursor);
    op->sql = cursor->sql;
    op->sql_size = strlen(cursor->sql);
    op->args = cursor->args;
    return &op->op;
}

/* ---- The iterator's side ------------------------------------------------------------------ */

/* Remembers what a getter could not deliver, before the block goes. */
static void drop_current(pier_cursor *cursor)
{
    if (cursor->block && cursor->failure.status == 0) {
        pier_result_check(cursor->block, &cursor->failure);
    }
    pier_result_free(cursor->block);
    cursor->block = NULL;
}

/* True: a row, or the end. */
static bool take_row(pier_cursor *cursor, const pier_row **item)
{
    if (cursor->block && cursor->index < cursor->block->count) {
        *item = &cursor->block->rows[cursor->index++];
        return true;
    }
    /* The last block stays, for the names of its columns. */
    if (!cursor->finished) {
        drop_current(cursor);
    }
    return cursor->finished;
}

bool pier__cursor_next_take(pier_cursor *cursor, const pier_row **item)
{
    *item = NULL;
    return !cursor ||
           pier__runner_iterate(cursor->handle.runner, &cursor->fetching, take_row(cursor, item));
}

void pier__cursor_block_put(pier_cursor *cursor, pier_result *block)
{
    cursor->finished = !block || block->count == 0;
    cursor->block = block;
    cursor->index = 0;
}

pier_error *pier__cursor_error(pier_cursor *cursor)
{
    return &cursor->failure;
}

int pier_cursor_column(pier_cursor *cursor, const char *name)
{
    if (!cursor) {
        return -1;
    }
    pier_runner *runner = cursor->handle.runner;
    pier__runner_enter(runner); /* close must not free the cursor before the block is in it */
    if (!cursor->block && !cursor->finished) {
        pier_future *future = pier__op_run(pier__cursor_block_op(cursor), &cursor->failure);
        pier__cursor_block_put(cursor,
                               pier__op_take_pointer(future, "pier_result *", &cursor->failure));
    }
    int column = pier_result_column(cursor->block, name);
    pier__runner_leave(runner);
    return column;
}

/* ---- Closing ------------------------------------------------------------------------------ */

static const pier__op_class close_class = {
    .name = "pier_cursor_close",
    .result = "int",
    .size = sizeof(pier__db_op),
    .shielded = true,
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .fini = pier__db_op_fini,
    .subject = pier__db_op_subject,
};

pier_future *pier__cursor_close_op(pier_cursor *cursor)
{
    if (!cursor) {
        return pier__op_null();
    }
    if (pier__runner_forked(cursor->db->handle.runner)) {
        pier__cursor_unref(cursor);
        return pier__op_forked();
    }
    if (!pier__handle_leave(&cursor->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    void *memory = cursor->closer;
    cursor->closer = NULL;
    pier__db_op *op = pier__db_op_init(memory, &close_class, PIER__CURSOR_CLOSE, cursor->db);
    op->cursor = pier__cursor_ref(cursor);
    return &op->op;
}

void pier__cursor_closed(pier__db_op *op)
{
    pier_cursor *cursor = op->cursor;
    drop_current(cursor);
    pier_error failure = cursor->failure;
    pier__cursor_unref(cursor); /* the user's */
    if (failure.status < 0) {
        pier__op_fail_with(&op->op, &failure);
    } else {
        pier__op_succeed_int(&op->op, 0);
    }
}
