/*
 * Requests: each is one piece of work, done by the thread that waits for it or by the lane. The
 * steps around it touch nothing but the operation.
 */
#include "drivers/sqlite/request.h"

#include "drivers/sqlite/attached.h"
#include "drivers/sqlite/cursor.h"
#include "drivers/sqlite/age.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/many.h"
#include "drivers/sqlite/own.h"
#include "drivers/sqlite/setup.h"
#include "drivers/sqlite/sql.h"
#include "sdk/clock.h"
#include <string.h>
#include <strings.h>

#if SQLITE_VERSION_NUMBER < 3037000
#define sqlite3_changes64 sqlite3_changes
#define sqlite3_total_changes64 sqlite3_total_changes
#endif

static bool refuse_writing(pier__sqlite_conn *conn, const char *sql)
{
    char excerpt[PIER__SQLITE_EXCERPT];
    pier__sqlite_sql_excerpt(excerpt, sql);
    pier_error_set(&conn->failure, PIER_ESQL,
                   "the transaction is read-only; begin one without read_only: %s", excerpt);
    return false;
}

pier__sqlite_statement *pier__sqlite_statement_begin(pier__sqlite_conn *conn, const char *sql,
                                                     size_t size, const pier_args *args)
{
    pier__sqlite_statement *statement =
        pier__sqlite_cache_take(&conn->cache, conn->sqlite, sql, size, &conn->failure);
    if (statement && !pier__sqlite_statement_bind(statement, args, &conn->failure)) {
        pier__sqlite_cache_give(&conn->cache, statement);
        statement = NULL;
    }
    return statement;
}

/* A reader does not do what may write, nor what it cannot prepare: temporary tables, functions and
 * attached databases may be known to the writer. In a transaction it is too late for that. */
static bool may_run_here(pier__sqlite_conn *conn, const pier_db *scope,
                         const pier__sqlite_statement *statement)
{
    bool reads = statement && statement->read_only;
    if (reads || (statement && !scope->read_only && !pier__sqlite_is_reader(conn))) {
        return reads || !sqlite3_get_autocommit(conn->sqlite) || pier__sqlite_check_file(conn);
    }
    if (scope->kind == PIER__DB_POOL && pier__sqlite_is_reader(conn)) {
        conn->misplaced = true;
    } else if (statement) {
        refuse_writing(conn, statement->sql);
    }
    return false;
}

pier__sqlite_statement *pier__sqlite_statement_take_in(pier__sqlite_conn *conn,
                                                       const pier_db *scope, const char *sql,
                                                       size_t size)
{
    pier__sqlite_statement *statement =
        pier__sqlite_cache_take(&conn->cache, conn->sqlite, sql, size, &conn->failure);
    bool here = may_run_here(conn, scope, statement);
    if (statement && !here) {
        pier__sqlite_cache_give(&conn->cache, statement);
        statement = NULL;
    }
    return statement;
}

pier__sqlite_statement *pier__sqlite_statement_begin_in(pier__sqlite_conn *conn,
                                                        const pier_db *scope, const char *sql,
                                                        size_t size, const pier_args *args)
{
    pier__sqlite_statement *statement = pier__sqlite_statement_take_in(conn, scope, sql, size);
    if (statement && !pier__sqlite_statement_bind(statement, args, &conn->failure)) {
        pier__sqlite_cache_give(&conn->cache, statement);
        statement = NULL;
    }
    return statement;
}

/* ---- One statement ------------------------------------------------------------------------ */

/* Runs it to its end; false: the connection's failure is filled. */
bool pier__sqlite_step_through(pier__sqlite_conn *conn, sqlite3_stmt *stmt, const char *script,
                               const char *sql)
{
    int code;
    pier__sqlite_changes_begin(&conn->changes);
    do {
        code = sqlite3_step(stmt);
    } while (code == SQLITE_ROW);
    bool done = code == SQLITE_DONE || pier__sqlite_fail(conn, code, script, sql);
    if (conn->changes.watching) {
        pier__sqlite_changes_end(conn, sql, done);
    }
    return done;
}

/* Those which SQLite counts stay from the last statement that changed rows: CREATE TABLE changes
 * none and leaves them alone, and only the total tells. */
int64_t pier__sqlite_count_changes(pier__sqlite_conn *conn, int64_t total_before)
{
    bool changed = sqlite3_total_changes64(conn->sqlite) != total_before;
    return changed ? sqlite3_changes64(conn->sqlite) : 0;
}

static void note_changes(pier__sqlite_conn *conn, pier__db_op *op,
                         const pier__sqlite_statement *statement, int64_t total_before)
{
    op->count = pier__sqlite_count_changes(conn, total_before);
    op->last_id = op->count && statement->inserts ? sqlite3_last_insert_rowid(conn->sqlite) : 0;
}

static bool execute(pier__sqlite_conn *conn, pier__db_op *op)
{
    pier__sqlite_statement *statement =
        pier__sqlite_statement_begin_in(conn, op->db, op->sql, op->sql_size, op->args);
    if (!statement) {
        return false;
    }
    int64_t before = statement->read_only ? 0 : sqlite3_total_changes64(conn->sqlite);
    bool done = pier__sqlite_step_through(conn, statement->stmt, statement->sql, statement->sql);
    if (done && !statement->read_only) {
        note_changes(conn, op, statement, before);
    }
    pier__sqlite_cache_give(&conn->cache, statement);
    return done;
}

static bool collect_all(pier__sqlite_conn *conn, pier__sqlite_statement *statement, pier__db_op *op)
{
    int code = pier__sqlite_statement_collect(statement, &conn->builder, SIZE_MAX, SIZE_MAX);
    if (code != SQLITE_DONE) {
        return pier__sqlite_fail(conn, code, statement->sql, statement->sql);
    }
    pier__sqlite_names *names = pier__sqlite_statement_names(statement);
    if (names && op->reads_here) {
        op->block =
            pier__sqlite_builder_take_into(&conn->builder, names, op->room, sizeof op->room);
    } else if (names) {
        op->block = pier__sqlite_builder_take(&conn->builder, names->count, names);
    }
    return op->block || pier__sqlite_fail(conn, SQLITE_NOMEM, statement->sql, statement->sql);
}

static bool fetch(pier__sqlite_conn *conn, pier__db_op *op)
{
    pier__sqlite_statement *statement =
        pier__sqlite_statement_begin_in(conn, op->db, op->sql, op->sql_size, op->args);
    if (!statement) {
        return false;
    }
    int64_t before = statement->read_only ? 0 : sqlite3_total_changes64(conn->sqlite);
    pier__sqlite_changes_begin(&conn->changes);
    bool done = collect_all(conn, statement, op);
    if (done && !statement->read_only) {
        note_changes(conn, op, statement, before);
    }
    if (conn->changes.watching) {
        pier__sqlite_changes_end(conn, statement->sql, done);
    }
    if (!done) {
        pier__sqlite_builder_clear(&conn->builder);
    }
    pier__sqlite_cache_give(&conn->cache, statement);
    return done;
}

/* ---- Scripts ------------------------------------------------------------------------------ */

static bool refuse_arguments(pier__sqlite_conn *conn, const char *sql)
{
    char excerpt[PIER__SQLITE_EXCERPT];
    pier__sqlite_sql_excerpt(excerpt, sql);
    pier_error_set(&conn->failure, PIER_EINVAL, "a script cannot have parameters: %s", excerpt);
    return false;
}

/* Runs the statement at `*at` and moves behind it. */
static bool run_next(pier__sqlite_conn *conn, const pier_db *scope, const char *script,
                     const char **at)
{
    const char *sql = *at;
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, at);
    if (code != SQLITE_OK) {
        return pier__sqlite_fail(conn, code, script, sql);
    }
    bool done = sqlite3_bind_parameter_count(stmt) ? refuse_arguments(conn, sql)
                : scope->read_only && !sqlite3_stmt_readonly(stmt)
                    ? refuse_writing(conn, sql)
                    : pier__sqlite_step_through(conn, stmt, script, sql);
    sqlite3_finalize(stmt);
    return done;
}

/* Short statements never come to the progress handler, so it is asked between them. */
static bool run_script(pier__sqlite_conn *conn, pier__db_op *op)
{
    for (const char *at = pier__sqlite_sql_skip(op->sql); *at; at = pier__sqlite_sql_skip(at)) {
        if (pier__sqlite_is_interrupted(conn)) {
            return pier__sqlite_fail(conn, SQLITE_INTERRUPT, op->sql, at);
        }
        if (pier__sqlite_sql_is_pragma(at) &&
            pier__sqlite_sql_check_pragma(at, &conn->failure) < 0) {
            return false;
        }
        if (!run_next(conn, op->db, op->sql, &at)) {
            return false;
        }
        if (op->db->kind == PIER__DB_TX && sqlite3_get_autocommit(conn->sqlite)) {
            return true; /* the next one would commit by itself; see check_after */
        }
    }
    return true;
}

/* ---- Transactions ------------------------------------------------------------------------- */

/* Statements of the SDK's own, with semicolons between them and nowhere else. */
bool pier__sqlite_run_own(pier__sqlite_conn *conn, const char *sql)
{
    bool done = true;
    conn->own = true;
    for (size_t size; done && *sql; sql += size + strspn(sql + size, "; ")) {
        size = strcspn(sql, ";");
        pier__sqlite_statement *statement = pier__sqlite_statement_begin(conn, sql, size, NULL);
        done = statement &&
               pier__sqlite_step_through(conn, statement->stmt, statement->sql, statement->sql);
        if (statement) {
            pier__sqlite_cache_give(&conn->cache, statement);
        }
    }
    conn->own = false;
    if (conn->hooks.set[PIER__SQLITE_AUTHORIZER]) {
        pier__sqlite_cache_flush(&conn->cache); /* users would find what they are not asked for */
    }
    return done;
}

static bool begin(pier__sqlite_conn *conn, pier__db_op *op)
{
    /* A database that cannot be written has no write lock to take. */
    const pier_db *tx = op->made;
    if (tx->depth > 0) {
        return pier__sqlite_run_own(conn, op->sql);
    }
    bool only_reads = tx->read_only || sqlite3_db_readonly(conn->sqlite, "main") == 1;
    if (!only_reads && !pier__sqlite_check_file(conn)) {
        return false;
    }
    /* The snapshot is taken by the first statement that reads, so that one is run now. */
    return pier__sqlite_run_own(conn, only_reads ? "begin" : op->sql) &&
           (!tx->read_only || pier__sqlite_run_own(conn, "select 1 from sqlite_master limit 1"));
}

static bool commit(pier__sqlite_conn *conn, pier__db_op *op)
{
    conn->finishing = true;
    return pier__sqlite_run_own(conn, op->sql);
}

/* Without a transaction there is nothing to roll back, which is what ROLLBACK is for; but ROLLBACK
 * TO was to keep the transaction around it. Where that fails the whole transaction goes: nothing of
 * what was to be dropped may be committed. */
static bool roll_back(pier__sqlite_conn *conn, pier__db_op *op)
{
    bool whole = !strcasecmp(op->sql, "rollback");
    conn->finishing = true;
    if (whole && sqlite3_get_autocommit(conn->sqlite)) {
        return true;
    }
    bool done = pier__sqlite_run_own(conn, op->sql);
    if (!done && !sqlite3_get_autocommit(conn->sqlite)) {
        sqlite3_exec(conn->sqlite, "rollback", NULL, NULL, NULL);
    }
    if ((whole || !done) && !sqlite3_get_autocommit(conn->sqlite)) {
        conn->base.dead = true;
    }
    return done;
}

/* Nothing may run in the scope of a transaction that is gone: it would commit by itself. */
static bool check_before(pier__sqlite_conn *conn, const pier__db_op *op)
{
    if (op->db->kind != PIER__DB_TX || op->request == PIER__ROLLBACK || op->closes ||
        op->request == PIER__CURSOR_CLOSE || !sqlite3_get_autocommit(conn->sqlite)) {
        return true;
    }
    pier_error_set(&conn->failure, PIER_ESQL,
                   "the transaction is gone: SQLite has rolled it back after a failure");
    return false;
}

static bool refuse_ending(pier__sqlite_conn *conn, const pier__db_op *op, const char *what)
{
    char excerpt[PIER__SQLITE_EXCERPT];
    const char *sql = op->cursor ? op->cursor->sql : op->sql;
    pier__sqlite_sql_excerpt(excerpt, sql ? sql : "");
    pier_error_set(&conn->failure, PIER_EINVAL, "%s: %s", what, excerpt);
    return false;
}

/* A statement of the user's must leave the transaction of its scope as it found it: open in a
 * transaction's, none in a pool's, where the SDK rolls it back. False: it has not, or had failed
 * before. */
static bool check_after(pier__sqlite_conn *conn, const pier__db_op *op, bool done)
{
    bool open = !sqlite3_get_autocommit(conn->sqlite);
    bool right = op->db->kind == PIER__DB_TX ? open : op->db->kind != PIER__DB_POOL || !open;
    if (right) {
        return done;
    }
    if (!done) {
        conn->vanished = true;
        return false;
    }
    return refuse_ending(conn, op,
                         open ? "the statement has left a transaction open in the pool, where it "
                                "is rolled back; use pier_db_begin"
                              : "the statement has ended the transaction; use pier_db_commit, or "
                                "pier_db_close to roll back");
}

/* ---- The work and the steps around it ----------------------------------------------------- */

static bool run_users(pier__sqlite_conn *conn, pier__db_op *op)
{
    bool done;
    if (op->cursor && ((const pier__sqlite_cursor *)op->cursor)->dump) {
        return pier__sqlite_cursor_block(conn, op); /* in a transaction of its own */
    }
    if (op->request == PIER__EXECUTE) {
        done = execute(conn, op);
    } else if (op->request == PIER__FETCH) {
        done = fetch(conn, op);
    } else if (op->request == PIER__SCRIPT) {
        done = run_script(conn, op);
    } else if (op->request == PIER__EXECUTE_MANY) {
        done = pier__sqlite_execute_many(conn, op);
    } else if (op->request == PIER__DESCRIBE) {
        done = pier__sqlite_describe(conn, op);
    } else {
        done = pier__sqlite_cursor_block(conn, op);
    }
    return check_after(conn, op, done);
}

static bool run_request(pier__sqlite_conn *conn, pier__db_op *op)
{
    if (!check_before(conn, op)) {
        return false;
    }
    switch (op->request) {
    case PIER__BEGIN:
        return begin(conn, op);
    case PIER__COMMIT:
        return commit(conn, op);
    case PIER__ROLLBACK:
        return roll_back(conn, op);
    case PIER__CURSOR_CLOSE:
        pier__sqlite_cursor_close(conn, (pier__sqlite_cursor *)op->cursor);
        return true;
    case PIER__OWN:
        return ((pier__sqlite_own *)op)->run(conn, (pier__sqlite_own *)op);
    default:
        return run_users(conn, op);
    }
}

/* Was this reader idle while the writer found the file replaced? */
static bool is_outdated(const pier__sqlite_conn *conn, const pier__db_op *op)
{
    return pier__sqlite_is_reader(conn) && op->db->kind == PIER__DB_POOL &&
           !(op->cursor && op->cursor->conn) &&
           conn->generation != atomic_load(&((pier__sqlite_db *)conn->base.db)->generation);
}

static bool ends_something(const pier__db_op *op)
{
    return op->request == PIER__ROLLBACK || op->request == PIER__COMMIT ||
           op->request == PIER__CURSOR_CLOSE;
}

/* What was registered meanwhile comes first; a registration may be what repairs that. */
static bool catch_up(pier__sqlite_conn *conn, const pier__db_op *op)
{
    if (pier__sqlite_registry_catch_up(conn)) {
        return true;
    }
    if (op->request == PIER__OWN || ends_something(op)) {
        conn->failure.status = 0;
        return true;
    }
    return false;
}

static void request_work(pier__op *base)
{
    pier__db_op *op = (pier__db_op *)base;
    pier__sqlite_conn *conn = (pier__sqlite_conn *)op->conn;
    bool young = pier__sqlite_age_begin(conn, op);
    pier__sqlite_work_begin(conn, base);
    if (conn->held) {
        pier__sqlite_cursors_reclaim(conn);
    }
    if (conn->attached) {
        pier__sqlite_attached_reclaim(conn);
    }
    if (is_outdated(conn, op)) {
        conn->base.dead = conn->misplaced = true;
    } else if (!catch_up(conn, op)) {
        /* It has failed with that. */
    } else if (young) {
        run_request(conn, op);
    } else {
        conn->too_old = true;
        if (op->cursor) {
            pier__sqlite_cursor_close(conn, (pier__sqlite_cursor *)op->cursor);
        }
    }
    if (conn->too_old) {
        pier__sqlite_age_fail(conn);
    }
    if (conn->changes.watching) {
        pier__sqlite_changes_settle(conn);
    }
    conn->base.in_tx = !sqlite3_get_autocommit(conn->sqlite);
    pier__sqlite_work_end(conn);
    pier__sqlite_age_end(conn);
}

static void take_answer(pier__db_op *op)
{
    pier_error err;
    pier__sqlite_conn *conn = (pier__sqlite_conn *)op->conn;
    if (conn->misplaced) {
        pier__db_op_move(op);
    } else if (pier__sqlite_work_error(conn, &op->op, &err)) {
        pier__db_op_failed(op, &err);
    } else {
        pier__db_op_ran(op);
    }
}

/* A thread does the work in the step itself, which is cheaper; not for a writer, whose requests
 * would follow one another on its stack. */
void pier__sqlite_run_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__WORKED) {
        take_answer(op);
    } else if (events & PIER__CANCEL) {
        /* The work has not begun, and now never will. */
        pier_error err;
        pier__op_cancelled_error(&op->op, &err);
        pier__db_op_failed(op, &err);
    } else if (op->op.on_loop || op->writer) {
        pier__sqlite_wait_work(op, request_work);
    } else {
        pier__op_work_here(&op->op, request_work);
        take_answer(op);
    }
}
