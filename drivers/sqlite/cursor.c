/*
 * Cursors. Their statement has two references: the connection's, whose list of held statements it
 * is in, and the cursor's. Whichever ends first, the other one sees it: a closed connection leaves
 * a statement without `stmt`, a freed cursor one with a single reference.
 */
#include "drivers/sqlite/cursor.h"

#include "drivers/sqlite/dump.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/request.h"
#include <string.h>

/* The first block is small, for those who want one row; later ones double, since each costs a hop
 * where the loop is in between. The bytes bound a block of wide rows. */
enum { ROWS_FIRST = 64, ROWS_MAX = 1024, BYTES_MAX = 256 * 1024 };

/* Gives the statement at `*at` in the list back to the cache. */
static void let_go(pier__sqlite_conn *conn, pier__sqlite_statement **at)
{
    pier__sqlite_statement *statement = *at;
    *at = statement->next_held;
    pier__sqlite_cache_give(&conn->cache, statement);
}

void pier__sqlite_hold(pier__sqlite_conn *conn, pier__sqlite_statement *statement)
{
    atomic_fetch_add_explicit(&statement->refs, 1, memory_order_relaxed);
    statement->next_held = conn->held;
    conn->held = statement;
}

void pier__sqlite_unhold(pier__sqlite_conn *conn, pier__sqlite_statement *statement)
{
    for (pier__sqlite_statement **at = &conn->held; *at; at = &(*at)->next_held) {
        if (*at == statement) {
            let_go(conn, at);
            break;
        }
    }
    pier__sqlite_statement_unref(statement);
}

void pier__sqlite_cursor_close(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor)
{
    if (cursor->dump) {
        pier__sqlite_dump_end(conn, cursor->dump);
        return;
    }
    pier__sqlite_statement *statement = cursor->statement;
    if (!statement) {
        return;
    }
    cursor->statement = NULL;
    pier__sqlite_unhold(conn, statement);
}

void pier__sqlite_cursors_reclaim(pier__sqlite_conn *conn)
{
    for (pier__sqlite_statement **at = &conn->held; *at;) {
        if (atomic_load_explicit(&(*at)->refs, memory_order_acquire) == 1) {
            let_go(conn, at);
        } else {
            at = &(*at)->next_held;
        }
    }
}

static bool begin(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor)
{
    pier__sqlite_statement *statement = pier__sqlite_statement_begin_in(
        conn, cursor->base.db, cursor->base.sql, strlen(cursor->base.sql), cursor->base.args);
    if (!statement) {
        return false;
    }
    cursor->rows_max = ROWS_FIRST;
    cursor->statement = statement;
    pier__sqlite_hold(conn, statement);
    return true;
}

/* Collects the next rows; at the end the statement goes back at once. */
static bool collect(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor)
{
    pier__sqlite_statement *statement = cursor->statement;
    int code =
        pier__sqlite_statement_collect(statement, &conn->builder, cursor->rows_max, BYTES_MAX);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        return pier__sqlite_fail(conn, code, statement->sql, statement->sql);
    }
    if (!cursor->names) {
        pier__sqlite_names *names = pier__sqlite_statement_names(statement);
        if (!names) {
            return pier__sqlite_fail(conn, SQLITE_NOMEM, statement->sql, statement->sql);
        }
        cursor->names = pier__sqlite_names_ref(names);
    }
    if (code == SQLITE_DONE) {
        pier__sqlite_cursor_close(conn, cursor);
        cursor->base.ended = true;
    }
    cursor->rows_max = cursor->rows_max < ROWS_MAX ? 2 * cursor->rows_max : ROWS_MAX;
    return true;
}

static bool read_block(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor)
{
    if (!cursor->rows_max) {
        return begin(conn, cursor) && collect(conn, cursor);
    }
    if (!cursor->statement) {
        return true; /* at the end: a block without rows */
    }
    if (!cursor->statement->stmt) {
        pier_error_set(&conn->failure, PIER_ECLOSED,
                       "the connection was closed while a cursor was open on it: %.120s",
                       cursor->base.sql);
        return false;
    }
    return collect(conn, cursor);
}

bool pier__sqlite_cursor_block(pier__sqlite_conn *conn, pier__db_op *op)
{
    pier__sqlite_cursor *cursor = (pier__sqlite_cursor *)op->cursor;
    pier__sqlite_changes_begin(&conn->changes);
    bool done = cursor->dump ? pier__sqlite_dump_collect(conn, cursor) : read_block(conn, cursor);
    if (conn->changes.watching) {
        pier__sqlite_changes_end(conn, cursor->base.sql, done);
    }
    if (done) {
        op->block = pier__sqlite_builder_take(
            &conn->builder, cursor->names ? cursor->names->count : 0, cursor->names);
        done =
            op->block || pier__sqlite_fail(conn, SQLITE_NOMEM, cursor->base.sql, cursor->base.sql);
    }
    if (!done) {
        /* A step after a failure would begin again. */
        pier__sqlite_builder_clear(&conn->builder);
        pier__sqlite_cursor_close(conn, cursor);
        cursor->base.ended = !conn->misplaced;
    }
    return done;
}

void pier__sqlite_cursor_fini(pier_cursor *base)
{
    pier__sqlite_cursor *cursor = (pier__sqlite_cursor *)base;
    pier__sqlite_dump_free(cursor->dump);
    cursor->dump = NULL;
    pier__sqlite_statement_unref(cursor->statement);
    cursor->statement = NULL;
    pier__sqlite_names_unref(cursor->names);
    cursor->names = NULL;
}
