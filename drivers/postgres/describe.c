/*
 * What a statement takes and gives, for its handle. The server describes types by their numbers,
 * and names them in a second round trip.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/names.h"
#include "sdk/alloc.h"
#include "sdk/statement.h"
#include <pier/row.h>
#include <stdio.h>
#include <string.h>

static const char name_types[] =
    "select pg_catalog.format_type(t.o, t.m) from rows from (pg_catalog.unnest($1::pg_catalog.oid[]"
    "), pg_catalog.unnest($2::pg_catalog.int4[])) with ordinality as t(o, m, n) order by t.n";

/* ---- Asking ------------------------------------------------------------------------------- */

static int column_count(const pier__postgres_statement *statement)
{
    return statement->columns ? statement->columns->count : 0;
}

static int type_count(const pier__postgres_statement *statement)
{
    return statement->param_count + column_count(statement);
}

/* Two arrays, of the types of parameters and columns and of their modifiers; NULL: no memory. */
static char *write_arrays(const pier__postgres_statement *statement, const char *values[2])
{
    int params = statement->param_count, count = type_count(statement);
    size_t room = (size_t)count * 12 + 3;
    char *memory = pier__malloc(2 * room);
    if (!memory) {
        return NULL;
    }
    char *types = memory, *modifiers = memory + room;
    values[0] = types;
    values[1] = modifiers;
    *types++ = *modifiers++ = '{';
    for (int i = 0; i < count; i++) {
        bool param = i < params;
        Oid type = param ? statement->param_types[i] : statement->columns->types[i - params];
        types += snprintf(types, 12, "%s%u", i ? "," : "", type);
        modifiers += snprintf(modifiers, 13, "%s%d", i ? "," : "",
                              param ? -1 : statement->columns->modifiers[i - params]);
    }
    memcpy(types, "}", 2);
    memcpy(modifiers, "}", 2);
    return memory;
}

static bool add_question(pier__postgres_conn *conn, const char *values[2])
{
    int sizes[2] = {(int)strlen(values[0]), (int)strlen(values[1])}, formats[2] = {0, 0};
    const pier__postgres_encoder arrays = {.values = values, .sizes = sizes, .formats = formats};
    pier__postgres_transport *transport = &conn->transport;
    return pier__message_parse(transport, "", name_types, strlen(name_types), NULL, 0) &&
           pier__message_bind(transport, "", "", &arrays, 2, NULL) &&
           pier__message_describe(transport, PIER__MESSAGE_PORTAL, "") &&
           pier__message_execute(transport, "", 0) && pier__postgres_add_sync(conn);
}

static void ask_for_names(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const char *values[2];
    char *memory = write_arrays(conn->statement, values);
    if (!memory) {
        pier__postgres_fail_nomem(op);
        return;
    }
    pier__postgres_begin(conn);
    conn->keeping = true;
    bool added = add_question(conn, values);
    pier__free(memory);
    if (pier__postgres_send(op, added)) {
        pier__postgres_await(op, PIER__STEP_NAMING);
    }
}

/* ---- Answering ---------------------------------------------------------------------------- */

/* `names` has a row of one text for each parameter and column; NULL where there is none. `given`
 * are those of the arguments, NULL where they are numbered. NULL: no memory. */
static pier__description *make_description(const pier__postgres_statement *statement,
                                           const pier_result *names,
                                           const pier__postgres_names *given)
{
    int params = statement->param_count, columns = column_count(statement);
    size_t count = 2 * (size_t)params + 2 * (size_t)columns;
    const char **texts = pier__calloc(count ? count : 1, sizeof *texts);
    if (!texts) {
        return NULL;
    }
    const char **types = texts + params; /* of the parameters */
    for (int i = 0; i < params; i++) {
        texts[i] = given && i < given->count ? given->names[i] : NULL;
        types[i] = pier_row_text(pier_result_row(names, (size_t)i), 0);
    }
    const char **column_names = types + params, **column_types = column_names + columns;
    for (int i = 0; i < columns; i++) {
        column_names[i] = statement->columns->names[i];
        column_types[i] = pier_row_text(pier_result_row(names, (size_t)(params + i)), 0);
    }
    pier__description *description = pier__description_new(texts, params, columns, false);
    pier__free(texts);
    return description;
}

static void finish(pier__db_op *op, const pier_result *names)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    op->product = make_description(conn->statement, names, conn->names);
    op->product ? pier__postgres_succeed(op) : pier__postgres_fail_nomem(op);
}

static void fail_count(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_EIO, "%s: the server did not name every type of the statement",
                   op->op.cls->name);
    pier__postgres_fail(op, &err);
}

/* The names have come. */
void pier__postgres_describe_step(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->error) {
        pier__postgres_fail_sql(op);
        return;
    }
    if (!conn->completed) {
        pier__postgres_fail_broken(op);
        return;
    }
    pier_result *names = NULL;
    if (!conn->out_of_memory) {
        names = pier__postgres_rows(&conn->builder, &conn->transport, conn->columns, conn->kinds,
                                    NULL, 0);
    }
    if (!names) {
        pier__postgres_fail_nomem(op);
        return;
    }
    if (pier_result_count(names) == (size_t)type_count(conn->statement)) {
        finish(op, names);
    } else {
        fail_count(op);
    }
    pier_result_free(names);
}

void pier__postgres_describe_prepared(pier__db_op *op)
{
    if (op->op.cancelled) {
        pier__postgres_fail_cancelled(op);
    } else if (type_count(pier__postgres_conn_of(op)->statement) == 0) {
        finish(op, NULL);
    } else {
        ask_for_names(op);
    }
}

void pier__postgres_describe_start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_forget(conn); /* what is known of it may not be true any more */
    pier__postgres_prepare(op, false);
}
