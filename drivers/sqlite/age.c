/*
 * Read transactions that are too old.
 */
#include "drivers/sqlite/age.h"

#include <sched.h>

static int max_ms(const pier__sqlite_conn *conn)
{
    return ((const pier__sqlite_db *)conn->base.db)->setup.read_tx_max_ms;
}

/* The writer has it for as long as ending a read transaction takes, and never waits itself. */
void pier__sqlite_age_lock(pier__sqlite_conn *conn)
{
    while (max_ms(conn) && atomic_exchange(&conn->in_use, true)) {
        sched_yield();
    }
}

void pier__sqlite_age_unlock(pier__sqlite_conn *conn)
{
    atomic_store(&conn->in_use, false);
}

/* Gives whether there was a transaction. */
static bool roll_back(pier__sqlite_conn *conn)
{
    bool open = !sqlite3_get_autocommit(conn->sqlite);
    if (open) {
        conn->own = true; /* the authorizer is not asked */
        sqlite3_exec(conn->sqlite, "rollback", NULL, NULL, NULL);
        conn->own = false;
    }
    return open;
}

/* To end a transaction is never too late, while there is one. */
static bool ends_something(const pier__sqlite_conn *conn, const pier__db_op *op)
{
    return op->request == PIER__ROLLBACK || op->request == PIER__CURSOR_CLOSE ||
           (op->request == PIER__COMMIT && !sqlite3_get_autocommit(conn->sqlite));
}

bool pier__sqlite_age_begin(pier__sqlite_conn *conn, const pier__db_op *op)
{
    if (!max_ms(conn)) {
        return true;
    }
    if (!pier__sqlite_is_reader(conn)) {
        pier__sqlite_end_old_readers(conn);
        return true;
    }
    pier__sqlite_age_lock(conn);
    if (!atomic_load(&conn->read_until)) {
        atomic_store(&conn->read_until, pier__deadline(max_ms(conn), 0));
    }
    return !pier__sqlite_is_too_old(conn) || ends_something(conn, op);
}

void pier__sqlite_age_fail(pier__sqlite_conn *conn)
{
    pier_error_set(&conn->failure, PIER_ETIMEDOUT,
                   "the read transaction is older than %d ms (read_tx_max_ms in the URL): read in "
                   "shorter ones, or raise the bound",
                   max_ms(conn));
    conn->vanished = roll_back(conn);
}

void pier__sqlite_age_end(pier__sqlite_conn *conn)
{
    if (!max_ms(conn) || !pier__sqlite_is_reader(conn)) {
        return;
    }
    if (sqlite3_get_autocommit(conn->sqlite) && !conn->held) {
        atomic_store(&conn->read_until, 0);
    }
    pier__sqlite_age_unlock(conn);
}

/* ---- From the writer ---------------------------------------------------------------------- */

struct old {
    pier__sqlite_conn *conns[PIER__SQLITE_READERS_MAX];
    int count;
};

/* Under the pool's lock; while it is held, no connection of the pool is freed. */
static void collect(pier__pooled *thing, void *data)
{
    struct old *old = data;
    pier__sqlite_conn *conn = (pier__sqlite_conn *)thing;
    if (pier__sqlite_is_too_old(conn) && old->count < PIER__SQLITE_READERS_MAX &&
        !atomic_exchange(&conn->in_use, true)) {
        atomic_fetch_add(&conn->base.refs, 1);
        old->conns[old->count++] = conn;
    }
}

/* `read_until` stays, so that whoever comes next is told. */
static void end_transaction(pier__sqlite_conn *conn)
{
    if (conn->sqlite) {
        for (pier__sqlite_statement *held = conn->held; held; held = held->next_held) {
            sqlite3_reset(held->stmt);
        }
        roll_back(conn);
    }
    pier__sqlite_age_unlock(conn);
    pier__conn_unref(&conn->base);
}

void pier__sqlite_end_old_readers(pier__sqlite_conn *writer)
{
    struct old old = {.count = 0};
    pier_db *root = writer->base.db;
    if (root->readers && max_ms(writer)) {
        pier__pool_each(root->readers, collect, &old);
    }
    for (int i = 0; i < old.count; i++) {
        end_transaction(old.conns[i]);
    }
}
