/*
 * Statement handles. Immutable once made, so that any thread may use them.
 */
#include "sdk/statement.h"

#include "sdk/alloc.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <string.h>

struct pier_statement {
    pier__handle handle; /* first */
    pier_db *db;         /* holds a reference */
    char *sql;
    pier__description *description;
};

pier__description *pier__description_new(const char *const *texts, int parameters, int columns,
                                         bool read_only)
{
    size_t count = 2 * (size_t)parameters + 2 * (size_t)columns;
    size_t size = sizeof(pier__description) + count * sizeof *texts;
    for (size_t i = 0; i < count; i++) {
        size += texts[i] ? strlen(texts[i]) + 1 : 0;
    }
    pier__description *description = pier__malloc(size);
    if (!description) {
        return NULL;
    }
    description->read_only = read_only;
    description->parameters = parameters;
    description->columns = columns;
    char *at = (char *)(description->texts + count);
    for (size_t i = 0; i < count; i++) {
        size_t length = texts[i] ? strlen(texts[i]) + 1 : 0;
        description->texts[i] = length ? memcpy(at, texts[i], length) : NULL;
        at += length;
    }
    return description;
}

/* ---- Preparing ---------------------------------------------------------------------------- */

typedef struct prepare_op {
    pier__db_op base;          /* first */
    pier_statement *statement; /* until it is the user's */
} prepare_op;

static void free_statement(pier_statement *statement)
{
    if (statement) {
        pier__db_unref(statement->db);
        pier__free(statement->sql);
        pier__free(statement->description);
        pier__free(statement);
    }
}

static void close_handle(pier__handle *handle)
{
    pier_statement_close((pier_statement *)handle);
}

static void prepare_drop(pier__op *op)
{
    pier_statement_close(op->result.pointer);
}

static void prepare_fini(pier__op *op)
{
    prepare_op *prepare = (prepare_op *)op;
    free_statement(prepare->statement);
    pier__free(prepare->base.product);
    pier__db_op_fini(op);
}

static bool prepare_ended(pier__db_op *op)
{
    prepare_op *prepare = (prepare_op *)op;
    if (op->failed) {
        return false;
    }
    pier_statement *statement = prepare->statement;
    statement->description = op->product;
    op->product = NULL;
    if (!pier__handle_open(&statement->handle, op->op.runner, close_handle)) {
        pier_error err;
        pier_error_set(&err, PIER_ECLOSED, "pier_db_prepare: the runner is closed");
        pier__db_op_fail_late(op, &err);
        return false;
    }
    prepare->statement = NULL;
    pier__op_succeed(&op->op, statement);
    return true;
}

static const pier__op_class prepare_class = {
    .name = "pier_db_prepare",
    .result = "pier_statement *",
    .size = sizeof(prepare_op),
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .drop = prepare_drop,
    .fini = prepare_fini,
    .unstarted = pier__db_op_unstarted,
    .subject = pier__db_op_subject,
};

static pier_statement *new_statement(pier_db *db, const char *sql)
{
    pier_statement *statement = pier__calloc(1, sizeof *statement);
    if (statement) {
        statement->db = pier__db_ref(db);
        statement->sql = pier__strdup(sql);
        if (!statement->sql) {
            free_statement(statement);
            statement = NULL;
        }
    }
    return statement;
}

pier_future *pier__db_prepare_op(pier_db *db, const char *sql)
{
    if (!db) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    prepare_op *op = (prepare_op *)pier__db_op_new(&prepare_class, PIER__DESCRIBE, db, &failed);
    if (!op) {
        return failed;
    }
    pier_error err;
    if (pier__db_check_args(db, "pier_db_prepare", sql, NULL, &err) < 0 ||
        pier__db_check_can(db, PIER__CAN_DESCRIBE, "pier_db_prepare", &err) < 0) {
        return pier__db_op_refuse(&op->base, &err);
    }
    op->statement = new_statement(db, sql);
    if (!op->statement) {
        pier_error_set(&err, PIER_ENOMEM, "pier_db_prepare: out of memory");
        return pier__db_op_refuse(&op->base, &err);
    }
    pier__db_use_sql(&op->base, op->statement->sql);
    op->base.ended = prepare_ended;
    return &op->base.op;
}

void pier_statement_close(pier_statement *statement)
{
    if (!statement) {
        return;
    }
    if (pier__runner_forked(statement->db->handle.runner) ||
        pier__handle_leave(&statement->handle)) {
        free_statement(statement);
    }
}

/* ---- Running ------------------------------------------------------------------------------ */

pier_future *pier__statement_execute_op(pier_statement *statement, const pier_args *args)
{
    return pier__db_statement_op(statement ? statement->db : NULL, false,
                                 statement ? statement->sql : NULL, args);
}

pier_future *pier__statement_fetch_op(pier_statement *statement, const pier_args *args)
{
    return pier__db_statement_op(statement ? statement->db : NULL, true,
                                 statement ? statement->sql : NULL, args);
}

int pier_statement_fetch_into(pier_statement *statement, const pier_args *args,
                              const pier_intos *into, pier_error *err)
{
    if (!statement) {
        return pier__error_null(err, "pier_statement_fetch_into: the statement");
    }
    return pier_db_fetch_into(statement->db, statement->sql, args, into, err);
}

pier_cursor *pier_statement_cursor(pier_statement *statement, const pier_args *args,
                                   pier_error *err)
{
    if (!statement) {
        pier__error_null(err, "pier_statement_cursor: the statement");
        return NULL;
    }
    return pier_db_cursor(statement->db, statement->sql, args, err);
}

/* ---- What is known of it ------------------------------------------------------------------ */

const char *pier_statement_sql(const pier_statement *statement)
{
    return statement ? statement->sql : NULL;
}

bool pier_statement_read_only(const pier_statement *statement)
{
    return statement && statement->description->read_only;
}

int pier_statement_parameters(const pier_statement *statement)
{
    return statement ? statement->description->parameters : 0;
}

const char *pier_statement_parameter_name(const pier_statement *statement, int parameter)
{
    bool exists = parameter >= 0 && parameter < pier_statement_parameters(statement);
    return exists ? statement->description->texts[parameter] : NULL;
}

const char *pier_statement_parameter_type(const pier_statement *statement, int parameter)
{
    int parameters = pier_statement_parameters(statement);
    bool exists = parameter >= 0 && parameter < parameters;
    return exists ? statement->description->texts[parameters + parameter] : NULL;
}

int pier_statement_columns(const pier_statement *statement)
{
    return statement ? statement->description->columns : 0;
}

const char *pier_statement_column_name(const pier_statement *statement, int column)
{
    bool exists = column >= 0 && column < pier_statement_columns(statement);
    return exists ? statement->description->texts[2 * statement->description->parameters + column]
                  : NULL;
}

const char *pier_statement_column_type(const pier_statement *statement, int column)
{
    int columns = pier_statement_columns(statement);
    bool exists = column >= 0 && column < columns;
    return exists ? statement->description
                        ->texts[2 * statement->description->parameters + columns + column]
                  : NULL;
}
