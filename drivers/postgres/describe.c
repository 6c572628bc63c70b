/*
 * What a statement takes and gives, for its handle. The server describes types by their numbers,
 * and names them in a second round trip.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/names.h"
#include "sdk/alloc.h"
#include "sdk/statement.h"
#include <stdio.h>
#include <string.h>

static const char name_types[] =
    "select pg_catalog.format_type(t.o, t.m) from rows from (pg_catalog.unnest($1::pg_catalog.oid[]"
    "), pg_catalog.unnest($2::pg_catalog.int4[])) with ordinality as t(o, m, n) order by t.n";

/* ---- Asking ------------------------------------------------------------------------------- */

static int type_count(const PGresult *described)
{
    return PQnparams(described) + PQnfields(described);
}

/* Two arrays, of the types of parameters and columns and of their modifiers; NULL: no memory. */
static char *write_arrays(const PGresult *described, const char *values[2])
{
    int params = PQnparams(described), count = type_count(described);
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
        Oid type = param ? PQparamtype(described, i) : PQftype(described, i - params);
        types += snprintf(types, 12, "%s%u", i ? "," : "", type);
        modifiers += snprintf(modifiers, 13, "%s%d", i ? "," : "",
                              param ? -1 : PQfmod(described, i - params));
    }
    memcpy(types, "}", 2);
    memcpy(modifiers, "}", 2);
    return memory;
}

static void ask_for_names(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const char *values[2];
    char *memory = write_arrays(conn->described, values);
    if (!memory) {
        pier__postgres_fail_nomem(op);
        return;
    }
    int sent = PQsendQueryParams(conn->pg, name_types, 2, NULL, values, NULL, NULL, 0);
    pier__free(memory);
    if (pier__postgres_sent(op, sent)) {
        pier__postgres_await(op, PIER__STEP_NAMING);
    }
}

/* ---- Answering ---------------------------------------------------------------------------- */

/* NULL: no memory. */
static pier__description *make_description(const PGresult *described, const PGresult *names,
                                           const pier__postgres_names *given)
{
    int params = PQnparams(described), columns = PQnfields(described);
    size_t count = 2 * (size_t)params + 2 * (size_t)columns;
    const char **texts = pier__calloc(count ? count : 1, sizeof *texts);
    if (!texts) {
        return NULL;
    }
    const char **types = texts + params; /* of the parameters */
    for (int i = 0; i < params; i++) {
        texts[i] = given && i < given->count ? given->names[i] : NULL;
        types[i] = PQgetvalue(names, i, 0);
    }
    const char **column_names = types + params, **column_types = column_names + columns;
    for (int i = 0; i < columns; i++) {
        column_names[i] = PQfname(described, i);
        column_types[i] = PQgetvalue(names, params + i, 0);
    }
    pier__description *description = pier__description_new(texts, params, columns, false);
    pier__free(texts);
    return description;
}

static void finish(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    op->product = make_description(conn->described, conn->result, conn->names);
    op->product ? pier__postgres_succeed(op) : pier__postgres_fail_nomem(op);
}

/* The description is there. */
static void go_on(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (op->op.cancelled) {
        pier__postgres_fail_cancelled(op);
    } else if (type_count(conn->described) == 0) {
        finish(op);
    } else {
        ask_for_names(op);
    }
}

void pier__postgres_describe_step(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    bool described = op->scratch.step == PIER__STEP_DESCRIBING;
    if (conn->error) {
        if (described && pier__postgres_prepare_again(op)) {
            pier__postgres_prepare(op, false);
        } else {
            pier__postgres_fail_sql(op);
        }
        return;
    }
    if (!conn->result) {
        pier__postgres_fail_broken(op);
        return;
    }
    if (described) {
        conn->described = conn->result;
        conn->result = NULL;
        go_on(op);
        return;
    }
    if (PQntuples(conn->result) == type_count(conn->described)) {
        finish(op);
    } else {
        pier_error err;
        pier_error_set(&err, PIER_EIO, "%s: the server did not name every type of the statement",
                       op->op.cls->name);
        pier__postgres_fail(op, &err);
    }
}

void pier__postgres_describe_prepared(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->described) {
        go_on(op);
    } else if (pier__postgres_sent(op, PQsendDescribePrepared(conn->pg, conn->statement->name))) {
        pier__postgres_await(op, PIER__STEP_DESCRIBING);
    }
}

void pier__postgres_describe_start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (pier__postgres_is_unnamed(conn)) {
        pier__postgres_forget(conn); /* nothing is on the server that could be described */
    }
    pier__postgres_prepare(op, false);
}
