/*
 * Arguments by name. Where a request has some, its text is looked up among those that the
 * connection has rewritten before, and its arguments are put into the order of the numbers that
 * took the place of their names. Everything behind this knows numbers alone; what the user is told
 * speaks of his own text and names.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "drivers/postgres/names.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>

/* Of a connection, from its first request with names on. */
struct pier__postgres_by_name {
    pier__postgres_cache texts;
    pier__postgres_statement *last; /* the last text that is too long for the cache */
    pier_value *values;             /* in the order of the numbers, borrowed from the caller */
    size_t room;
    pier_args args; /* of them, or of the caller's own where those stand in that order */
};

void pier__postgres_by_name_free(struct pier__postgres_by_name *by)
{
    if (by) {
        pier__postgres_cache_fini(&by->texts);
        pier__postgres_statement_free(by->last);
        pier__free(by->values);
        pier__free(by);
    }
}

/* ---- Texts -------------------------------------------------------------------------------- */

static bool make_by_name(pier__postgres_conn *conn)
{
    if (!conn->by_name) {
        conn->by_name = pier__calloc(1, sizeof *conn->by_name);
        if (conn->by_name) {
            conn->by_name->texts.max = conn->statements.max;
        }
    }
    return conn->by_name != NULL;
}

static pier__postgres_statement *find(pier__postgres_conn *conn)
{
    struct pier__postgres_by_name *by = conn->by_name;
    if (pier__postgres_is_cached(conn, conn->text_size)) {
        return pier__postgres_cache_find(&by->texts, conn->text, conn->text_size);
    }
    bool same = by->last && by->last->sql_size == conn->text_size &&
                memcmp(by->last->sql, conn->text, conn->text_size) == 0;
    return same ? by->last : NULL;
}

static pier__postgres_statement *add(pier__postgres_conn *conn)
{
    struct pier__postgres_by_name *by = conn->by_name;
    pier__postgres_statement *made = pier__postgres_statement_new(conn->text, conn->text_size, "");
    if (made) {
        made->names = pier__postgres_names_read(conn->text, conn->text_size);
    }
    if (!made || !made->names) {
        pier__postgres_statement_free(made);
        return NULL;
    }
    if (pier__postgres_is_cached(conn, conn->text_size)) {
        pier__postgres_statement_free(pier__postgres_cache_add(&by->texts, made));
    } else {
        pier__postgres_statement_free(by->last);
        by->last = made;
    }
    return made;
}

/* NULL: no memory. */
static const pier__postgres_names *names_of_text(pier__postgres_conn *conn)
{
    if (!make_by_name(conn)) {
        return NULL;
    }
    pier__postgres_statement *known = find(conn);
    known = known ? known : add(conn);
    return known ? known->names : NULL;
}

/* ---- Arguments ---------------------------------------------------------------------------- */

static size_t find_name(const pier_args *args, const char *name, size_t guess)
{
    if (guess < args->count && strcmp(args->names[guess], name) == 0) {
        return guess;
    }
    size_t i = 0;
    while (i < args->count && strcmp(args->names[i], name) != 0) {
        i++;
    }
    return i;
}

static bool takes_name(const pier__postgres_names *names, const char *name)
{
    int i = 0;
    while (i < names->count && strcmp(names->names[i], name) != 0) {
        i++;
    }
    return i < names->count;
}

/* Does the mark stand before the name somewhere in the text? */
static bool is_marked(const pier__postgres_conn *conn, char mark, const char *name)
{
    size_t size = strlen(name);
    const char *end = conn->text + conn->text_size;
    for (const char *at = conn->text; (at = memchr(at, mark, (size_t)(end - at))); at++) {
        if ((size_t)(end - at) > size && memcmp(at + 1, name, size) == 0) {
            return true;
        }
    }
    return false;
}

static int refuse_name(const pier__postgres_conn *conn, const char *name, pier_error *err)
{
    pier_error_set(err, PIER_EINVAL, "the statement has no parameter named \"%.60s\"", name);
    size_t length = strlen(err->message), room = sizeof err->message - length;
    char *rest = err->message + length;
    if (is_marked(conn, ':', name)) {
        snprintf(rest, room, "; where a colon is that of a slice or a key, write (:%.60s)", name);
    } else if (is_marked(conn, '@', name)) {
        snprintf(rest, room, "; @ is an operator of Postgres, write :%.60s", name);
    } else if (!conn->names->count) {
        snprintf(rest, room, "; write :%.60s, or give the arguments with PIER_ARGS", name);
    }
    return err->status;
}

/* Each argument must be one that the statement takes, and come once. */
static int check_given(const pier__postgres_conn *conn, const pier_args *args, pier_error *err)
{
    for (size_t i = 0; i < args->count; i++) {
        if (!takes_name(conn->names, args->names[i])) {
            return refuse_name(conn, args->names[i], err);
        }
        if (find_name(args, args->names[i], args->count) != i) {
            return pier_error_set(err, PIER_EINVAL, "the argument \"%.60s\" is given twice",
                                  args->names[i]);
        }
    }
    return 0;
}

static bool make_room(struct pier__postgres_by_name *by, size_t count)
{
    if (count > by->room) {
        pier_value *values = pier__realloc(by->values, count * sizeof *values);
        if (!values) {
            return false;
        }
        by->values = values;
        by->room = count;
    }
    return true;
}

/* Fills by_name->args. 0, or a status. */
static int arrange(pier__postgres_conn *conn, const pier_args *args, pier_error *err)
{
    struct pier__postgres_by_name *by = conn->by_name;
    const pier__postgres_names *names = conn->names;
    size_t count = (size_t)names->count;
    bool in_order = args->count == count;
    if (!make_room(by, count)) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for %zu arguments", count);
    }
    for (size_t i = 0; i < count; i++) {
        size_t given = find_name(args, names->names[i], i);
        if (given == args->count) {
            /* What was given instead says more: a name that was misspelt. */
            return check_given(conn, args, err) < 0
                       ? err->status
                       : pier_error_set(err, PIER_EINVAL,
                                        "the parameter :%.60s has no argument; add it to "
                                        "PIER_NAMED",
                                        names->names[i]);
        }
        in_order = in_order && given == i;
        by->values[i] = args->values[given];
    }
    by->args = (pier_args){.count = count, .values = in_order ? args->values : by->values};
    return args->count == count ? 0 : check_given(conn, args, err);
}

/* ---- Requests ----------------------------------------------------------------------------- */

static int check_text(const pier__postgres_conn *conn, const char *name, pier_error *err)
{
    if (conn->names->count && conn->names->numbered) {
        return pier_error_set(err, PIER_EINVAL,
                              "parameters written $1 and :name are mixed; write $1, $2, ... only, "
                              "or names only");
    }
    return conn->names->count ? 0 : refuse_name(conn, name, err);
}

static bool refuse(pier__db_op *op, pier_error *err)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_error_add_sql(err, conn->text, conn->text_size);
    pier__postgres_fail(op, err);
    return false;
}

/* The arguments that say whether there are names. */
static const pier_args *first_args(const pier__db_op *op, const pier__postgres_conn *conn)
{
    bool rows = op->request == PIER__EXECUTE_MANY;
    return !rows ? conn->args : op->row_count ? op->rows : NULL;
}

static void take_request(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->text = op->cursor ? op->cursor->sql : op->sql;
    conn->text_size = op->cursor ? strlen(op->cursor->sql) : op->sql_size;
    conn->args = op->cursor ? op->cursor->args : op->args;
    conn->sql = conn->text;
    conn->sql_size = conn->text_size;
    conn->names = NULL;
}

bool pier__postgres_take_request(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    take_request(op);
    const pier_args *args = first_args(op, conn);
    bool named = args && args->names && op->request != PIER__CURSOR_CLOSE;
    if (!named && op->request != PIER__DESCRIBE) {
        return true;
    }
    if (strcmp(conn->conforming, "off") == 0) { /* no string can be read without knowing them all */
        pier_error_set(&err, PIER_EINVAL,
                       "arguments by name need standard_conforming_strings = on, which the session "
                       "has turned off");
        return named ? refuse(op, &err) : true;
    }
    const pier__postgres_names *names = names_of_text(conn);
    if (!names) {
        pier__postgres_fail_nomem(op);
        return false;
    }
    if (!named && (!names->count || names->numbered)) {
        return true;
    }
    conn->names = names;
    conn->sql = names->sql;
    conn->sql_size = names->sql_size;
    if (!named) {
        return true;
    }
    if (check_text(conn, args->names[0], &err) < 0) {
        return refuse(op, &err);
    }
    if (op->request != PIER__EXECUTE_MANY) {
        if (arrange(conn, args, &err) < 0) {
            return refuse(op, &err);
        }
        conn->args = &conn->by_name->args;
    }
    return true;
}

/* ---- Binding ------------------------------------------------------------------------------ */

/* The encoder knows arguments by their numbers. */
static void name_argument(const pier__postgres_conn *conn, pier_error *err)
{
    char message[sizeof err->message];
    int number = 0, length = 0;
    if (sscanf(err->message, "argument %d%n", &number, &length) == 1 && number > 0 &&
        number <= conn->names->count) {
        snprintf(message, sizeof message, "argument \"%.60s\"%.340s",
                 conn->names->names[number - 1], err->message + length);
        memcpy(err->message, message, sizeof message);
    }
}

static int encode(pier__postgres_conn *conn, const pier_args *args, pier_error *err)
{
    const pier__postgres_statement *statement = conn->statement;
    bool arranged = conn->names && args == &conn->by_name->args;
    if (args && args->names) {
        if (!conn->names) {
            return pier_error_set(err, PIER_EINVAL,
                                  "the arguments are given by name, and those of the first row by "
                                  "number");
        }
        if (arrange(conn, args, err) < 0) {
            return err->status;
        }
        args = &conn->by_name->args;
    } else if (conn->names && !arranged) {
        return pier_error_set(err, PIER_EINVAL,
                              "the arguments are given by number, and those of the first row by "
                              "name");
    }
    int status = pier__postgres_encode(&conn->encoder, args, statement->param_types,
                                       statement->param_count, err);
    if (status < 0 && conn->names) {
        name_argument(conn, err);
    }
    return status;
}

int pier__postgres_bind(pier__postgres_conn *conn, const pier_args *args, pier_error *err)
{
    int status = encode(conn, args, err);
    if (status < 0) {
        pier__postgres_error_add_sql(err, conn->text, conn->text_size);
    }
    return status;
}
