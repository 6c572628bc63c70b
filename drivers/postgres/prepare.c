/*
 * Preparing statements: parse and describe in one round trip, in which a statement without
 * arguments is executed as well. Known statements cost nothing more than their execution.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "drivers/postgres/sql.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>

enum { CLOSES_MAX = 16 }; /* statements closed along with one that is prepared */

/*
 * Closing what has fallen out of the cache. Unlike DEALLOCATE, Close does not fail where somebody
 * else has closed the statement already.
 */

static void forget_on_server(pier__postgres_conn *conn, const pier__postgres_statement *statement)
{
    if (!*statement->name) {
        return;
    }
    if (conn->forgotten_count == conn->forgotten_room) {
        size_t room = conn->forgotten_room ? conn->forgotten_room * 2 : 8;
        void *memory = pier__realloc(conn->forgotten, room * sizeof *conn->forgotten);
        if (!memory) {
            return; /* it stays on the server until the connection ends */
        }
        conn->forgotten = memory;
        conn->forgotten_room = room;
    }
    memcpy(conn->forgotten[conn->forgotten_count++], statement->name, sizeof statement->name);
}

static bool add_closes(pier__postgres_conn *conn)
{
    for (int i = 0; i < CLOSES_MAX && conn->forgotten_count > 0; i++) {
        if (!pier__message_close(&conn->transport, PIER__MESSAGE_STATEMENT,
                                 conn->forgotten[--conn->forgotten_count])) {
            return false;
        }
    }
    return true;
}

static pier__postgres_statement *new_statement(pier__postgres_conn *conn)
{
    char name[24] = "";
    if (pier__postgres_is_cached(conn, conn->sql_size) && !pier__postgres_is_unnamed(conn)) {
        /* Unique among the clients of a pooler: with another one's statement of the same name the
         * answers would be another one's too. */
        snprintf(name, sizeof name, PIER__POSTGRES_NAMES "%08x_%x", conn->name_key,
                 ++conn->name_count);
    }
    return pier__postgres_statement_new(conn->sql, conn->sql_size, name);
}

/* Of a statement without arguments, whose columns come as text, since they are not known yet. */
static bool add_execution(pier__postgres_transport *transport, const char *name)
{
    static const pier__postgres_encoder nothing = {.room = 0};
    return pier__message_bind(transport, "", name, &nothing, 0, NULL) &&
           pier__message_execute(transport, "", 0);
}

bool pier__postgres_prepare_send(pier__db_op *op, bool whole)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_statement *statement = new_statement(conn);
    if (!statement) {
        pier__postgres_fail_nomem(op);
        return false;
    }
    pier__postgres_transport *transport = &conn->transport;
    conn->preparing = statement;
    pier__postgres_note_effects(conn, statement->effects);
    conn->whole =
        whole && (!conn->args || conn->args->count == 0) && !pier__postgres_is_copy(statement->sql);
    pier__postgres_begin(conn);
    conn->keeping = op->request == PIER__FETCH;
    return pier__postgres_send_soon(
        op, add_closes(conn) &&
                pier__message_parse(transport, statement->name, statement->sql, statement->sql_size,
                                    NULL, 0) &&
                pier__message_describe(transport, PIER__MESSAGE_STATEMENT, statement->name) &&
                (!conn->whole || add_execution(transport, statement->name)) &&
                pier__postgres_add_sync(conn));
}

static void take_description(pier__postgres_conn *conn, pier__postgres_statement *statement)
{
    statement->param_types = conn->param_types;
    statement->param_count = conn->param_count;
    statement->columns = pier__postgres_columns_ref(conn->columns);
    conn->param_types = NULL;
}

/* Puts a statement where it is found again. */
static void store(pier__postgres_conn *conn, pier__postgres_statement *statement)
{
    if (!pier__postgres_is_cached(conn, statement->sql_size)) {
        pier__postgres_statement_free(conn->unnamed);
        conn->unnamed = statement;
        return;
    }
    pier__postgres_statement *victim = pier__postgres_cache_add(&conn->statements, statement);
    if (victim) {
        forget_on_server(conn, victim);
        pier__postgres_statement_free(victim);
    }
}

void pier__postgres_forget(pier__postgres_conn *conn)
{
    pier__postgres_statement *statement =
        pier__postgres_is_cached(conn, conn->sql_size)
            ? pier__postgres_cache_find(&conn->statements, conn->sql, conn->sql_size)
            : NULL;
    if (statement) {
        pier__postgres_cache_remove(&conn->statements, statement);
        forget_on_server(conn, statement);
        pier__postgres_statement_free(statement);
    }
}

static void fail_count(pier__db_op *op, const pier__postgres_statement *statement)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    pier_error_set(&err, PIER_EINVAL, "the statement has %d parameter%s, 0 given",
                   statement->param_count, statement->param_count == 1 ? "" : "s");
    pier__postgres_error_add_sql(&err, op->op.cancelled ? NULL : conn->text, conn->text_size);
    pier__postgres_fail(op, &err);
}

bool pier__postgres_prepare_end(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_statement *statement = conn->preparing;
    if (!conn->described || !conn->param_types || conn->out_of_memory) {
        if (conn->out_of_memory) {
            pier__postgres_fail_nomem(op);
        } else if (conn->error) {
            pier__postgres_fail_sql(op);
        } else {
            pier__postgres_misled(op);
        }
        return false;
    }
    conn->preparing = NULL;
    take_description(conn, statement);
    store(conn, statement);
    conn->statement = statement;
    if (conn->whole && statement->param_count > 0) {
        fail_count(op, statement);
        return false;
    }
    if (!conn->whole) {
        if (conn->error || op->op.cancelled) {
            conn->error ? pier__postgres_fail_sql(op) : pier__postgres_fail_cancelled(op);
            return false;
        }
        pier__postgres_results_clear(conn);
    }
    return true;
}

/* Recognised without its text, which may be in any language. */
static bool is_outdated(const pier__postgres_report *error)
{
    const char *sqlstate = pier__postgres_sqlstate(error);
    const char *function = pier__postgres_report_text(error, PG_DIAG_SOURCE_FUNCTION);
    return strcmp(sqlstate, "26000") == 0 || (strcmp(sqlstate, "0A000") == 0 && function &&
                                              strcmp(function, "RevalidateCachedQuery") == 0);
}

/* The same where it is parsed each time, with the types that its parameters had: names and types
 * may be others now. */
static bool may_be_outdated(const pier__postgres_report *error)
{
    return strncmp(pier__postgres_sqlstate(error), "42", 2) == 0;
}

bool pier__postgres_is_misread(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (!conn->columns || !conn->columns->unreadable) {
        return false;
    }
    pier_error err;
    pier_error_set(&err, PIER_ETYPE,
                   "%s: the columns have changed since the statement was described, and cannot be "
                   "read as they came; it has run, and the next time it is described again",
                   op->op.cls->name);
    pier__postgres_error_add_sql(&err, op->op.cancelled ? NULL : conn->text, conn->text_size);
    if (!op->op.cancelled) {
        pier__postgres_forget(conn);
    }
    pier__postgres_fail(op, &err);
    return true;
}

static bool is_error_of_age(const pier__postgres_conn *conn)
{
    return conn->error && (pier__postgres_is_unnamed(conn) ? may_be_outdated(conn->error)
                                                           : is_outdated(conn->error));
}

bool pier__postgres_prepare_again(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_statement *statement = conn->statement;
    /* Of several on the wire the first has forgotten it already. */
    bool forgotten = op->ahead && !statement && conn->sql;
    if (!is_error_of_age(conn) || !(statement || forgotten) ||
        !pier__postgres_is_cached(conn, conn->sql_size)) {
        return false;
    }
    if (statement) {
        conn->statement = NULL;
        pier__postgres_cache_remove(&conn->statements, statement);
        if (strcmp(pier__postgres_sqlstate(conn->error), "26000") != 0) {
            forget_on_server(conn, statement);
        }
        pier__postgres_statement_free(statement);
    }
    bool again = !op->retried && !op->op.cancelled && conn->tx == 'I' && !conn->base.in_tx;
    op->retried = true;
    if (again) {
        pier__postgres_results_clear(conn);
    }
    return again;
}
