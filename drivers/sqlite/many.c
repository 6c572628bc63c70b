/*
 * One statement and many rows: prepared once; bind, step and reset for each. And describing one.
 */
#include "drivers/sqlite/many.h"

#include "drivers/sqlite/error.h"
#include "drivers/sqlite/request.h"
#include "sdk/alloc.h"
#include "sdk/statement.h"
#include <stdio.h>
#include <string.h>

#if SQLITE_VERSION_NUMBER < 3037000
#define sqlite3_total_changes64 sqlite3_total_changes
#endif

/* ---- Many rows ---------------------------------------------------------------------------- */

static void name_row(pier_error *err, int64_t row)
{
    char message[sizeof err->message];
    snprintf(message, sizeof message, "row %" PRId64 ": %.390s", row, err->message);
    memcpy(err->message, message, sizeof message);
}

static bool run_row(pier__sqlite_conn *conn, pier__sqlite_statement *statement,
                    const pier_args *args, int64_t *changed)
{
    if (!pier__sqlite_statement_bind(statement, args, &conn->failure)) {
        return false;
    }
    int64_t before = sqlite3_total_changes64(conn->sqlite);
    if (!pier__sqlite_step_through(conn, statement->stmt, statement->sql, statement->sql)) {
        return false;
    }
    sqlite3_reset(statement->stmt);
    *changed += statement->read_only ? 0 : pier__sqlite_count_changes(conn, before);
    return true;
}

static bool run_rows(pier__sqlite_conn *conn, pier__db_op *op)
{
    pier__sqlite_statement *statement =
        pier__sqlite_statement_take_in(conn, op->db, op->sql, op->sql_size);
    if (!statement) {
        return false;
    }
    size_t done = 0;
    while (done < op->row_count && run_row(conn, statement, &op->rows[done], &op->count)) {
        done++;
    }
    if (done < op->row_count) {
        name_row(&conn->failure, op->rows_before + (int64_t)done + 1);
    }
    pier__sqlite_cache_give(&conn->cache, statement);
    return done == op->row_count;
}

/* Rolls back what this request has begun, if SQLite has not done so already. */
static void roll_back(pier__sqlite_conn *conn, bool whole)
{
    conn->finishing = true;
    conn->own = true; /* the authorizer is not asked */
    if (!sqlite3_get_autocommit(conn->sqlite)) {
        sqlite3_exec(conn->sqlite, whole ? "rollback" : "rollback to pier_many; release pier_many",
                     NULL, NULL, NULL);
        if (conn->changes.watching && !whole) {
            pier__sqlite_changes_end(conn, "rollback to pier_many", true);
            pier__sqlite_changes_end(conn, "release pier_many", true);
        }
    }
    conn->own = false;
}

bool pier__sqlite_execute_many(pier__sqlite_conn *conn, pier__db_op *op)
{
    op->count = 0;
    if (!op->row_count) {
        return true;
    }
    /* In a transaction the rows stand or fall with it. */
    if (op->db->kind == PIER__DB_TX) {
        return run_rows(conn, op);
    }
    /* In a lease one may be open that the user has begun. */
    bool whole = sqlite3_get_autocommit(conn->sqlite);
    if (!pier__sqlite_run_own(conn, whole ? "begin immediate" : "savepoint pier_many")) {
        return false;
    }
    bool done = run_rows(conn, op);
    if (done) {
        conn->finishing = true;
        done = pier__sqlite_run_own(conn, whole ? "commit" : "release pier_many");
    }
    if (!done) {
        roll_back(conn, whole);
    }
    return done;
}

/* ---- Describing --------------------------------------------------------------------------- */

/* The names of the parameters, each once; gives how many. */
static int collect_names(const pier__sqlite_statement *statement, const char **names)
{
    int count = 0;
    for (int i = 1; i <= statement->parameters; i++) {
        const char *name = sqlite3_bind_parameter_name(statement->stmt, i) + 1;
        int known = 0;
        while (known < count && strcmp(names[known], name) != 0) {
            known++;
        }
        if (known == count) {
            names[count++] = name;
        }
    }
    return count;
}

/* NULL: no memory. */
static pier__description *describe(const pier__sqlite_statement *statement)
{
    int columns = sqlite3_column_count(statement->stmt);
    size_t room = 2 * (size_t)statement->needed + 2 * (size_t)columns;
    const char **texts = pier__calloc(room ? room : 1, sizeof *texts);
    if (!texts) {
        return NULL;
    }
    int parameters = statement->named ? collect_names(statement, texts) : statement->needed;
    bool known = true;
    const char **names = texts + 2 * parameters, **types = names + columns;
    for (int i = 0; i < columns; i++) {
        names[i] = sqlite3_column_name(statement->stmt, i);
        types[i] = sqlite3_column_decltype(statement->stmt, i);
        known = known && names[i];
    }
    pier__description *description =
        known ? pier__description_new(texts, parameters, columns, statement->read_only) : NULL;
    pier__free(texts);
    return description;
}

bool pier__sqlite_describe(pier__sqlite_conn *conn, pier__db_op *op)
{
    pier__sqlite_statement *statement =
        pier__sqlite_cache_take(&conn->cache, conn->sqlite, op->sql, op->sql_size, &conn->failure);
    if (!statement) {
        return false;
    }
    op->product = describe(statement);
    pier__sqlite_cache_give(&conn->cache, statement);
    return op->product || pier__sqlite_fail(conn, SQLITE_NOMEM, op->sql, op->sql);
}
