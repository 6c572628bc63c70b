/*
 * Functions and collations of the user's. SQLite calls them while it steps a statement, on the
 * thread that does the connection's work.
 */
#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/registry.h"
#include "sdk/alloc.h"
#include "sdk/options.h"
#include "sync/ops.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { NAME_MAX_BYTES = 255 }; /* SQLite's */

/* A registration on one connection; SQLite ends it. */
struct binding {
    pier__sqlite_registration *registration; /* holds a reference */
    pier__sqlite_conn *conn;
};

struct pier_sqlite_call {
    sqlite3_context *context;
    const struct binding *binding;
    sqlite3_value **values;
    int count;
    pier_error failure; /* the first; valid where its status is not 0 */
};

/* ---- Calls -------------------------------------------------------------------------------- */

static const char *name_of(const pier_sqlite_call *call)
{
    return call->binding->registration->name;
}

/* The statement fails with a message alone; the status waits in the connection for it. */
static void fail_call(pier_sqlite_call *call, int status)
{
    pier_error *kept = &call->binding->conn->call_failure;
    if (call->failure.status >= 0) {
        pier_error_set(&call->failure, status, "failed with %s and no message",
                       pier_status_name(status));
    }
    pier_error_set(kept, call->failure.status, "%.100s(): %.300s", name_of(call),
                   call->failure.message);
    sqlite3_result_error(call->context, kept->message, -1);
}

static void invoke(sqlite3_context *context, int count, sqlite3_value **values,
                   size_t callback_offset)
{
    pier_sqlite_call call;
    call.context = context;
    call.binding = sqlite3_user_data(context);
    call.values = values;
    call.count = count;
    call.failure.status = 0;
    pier__sqlite_registration *registration = call.binding->registration;
    pier_sqlite_call_fn fn;
    memcpy(&fn, (const char *)&registration->function + callback_offset, sizeof fn);
    int status = fn(&call, registration->user_data);
    if (status < 0 || call.failure.status < 0) {
        fail_call(&call, status);
    }
}

#define CALLBACK(field) offsetof(pier_sqlite_function_options, field)

static void on_scalar(sqlite3_context *context, int count, sqlite3_value **values)
{
    invoke(context, count, values, CALLBACK(scalar));
}

static void on_step(sqlite3_context *context, int count, sqlite3_value **values)
{
    invoke(context, count, values, CALLBACK(step));
}

static void on_inverse(sqlite3_context *context, int count, sqlite3_value **values)
{
    invoke(context, count, values, CALLBACK(inverse));
}

static void on_value(sqlite3_context *context)
{
    invoke(context, 0, NULL, CALLBACK(value));
}

static void on_final(sqlite3_context *context)
{
    invoke(context, 0, NULL, CALLBACK(final));
}

/* ---- What callbacks use ------------------------------------------------------------------- */

int pier_sqlite_call_error(pier_sqlite_call *call, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (call->failure.status >= 0) {
        pier__error_setv(&call->failure, status < 0 ? status : PIER_EUSER, format, list);
    }
    va_end(list);
    return status < 0 ? status : PIER_EUSER;
}

int pier_sqlite_call_count(const pier_sqlite_call *call)
{
    return call->count;
}

static pier_type type_of(int type)
{
    switch (type) {
    case SQLITE_INTEGER:
        return PIER_INT64;
    case SQLITE_FLOAT:
        return PIER_DOUBLE;
    case SQLITE_TEXT:
        return PIER_TEXT;
    case SQLITE_BLOB:
        return PIER_BYTES;
    default:
        return PIER_NULL;
    }
}

pier_type pier_sqlite_call_type(const pier_sqlite_call *call, int index)
{
    if (index < 0 || index >= call->count) {
        return PIER_INVALID;
    }
    return type_of(sqlite3_value_type(call->values[index]));
}

static void fail_argument(pier_sqlite_call *call, int index, const char *wanted)
{
    static const char *const names[] = {[PIER_NULL] = "NULL",
                                        [PIER_INT64] = "an integer",
                                        [PIER_DOUBLE] = "a floating-point number",
                                        [PIER_TEXT] = "text",
                                        [PIER_BYTES] = "bytes"};
    pier_type type = pier_sqlite_call_type(call, index);
    if (type == PIER_INVALID) {
        pier_sqlite_call_error(call, PIER_ERANGE, "there is no argument %d, only %d", index + 1,
                               call->count);
    } else {
        pier_sqlite_call_error(call, PIER_ETYPE, "argument %d is %s, not %s", index + 1,
                               names[type], wanted);
    }
}

int64_t pier_sqlite_call_int64(pier_sqlite_call *call, int index)
{
    pier_type type = pier_sqlite_call_type(call, index);
    if (type == PIER_INT64) {
        return sqlite3_value_int64(call->values[index]);
    }
    double number = type == PIER_DOUBLE ? sqlite3_value_double(call->values[index]) : 0.5;
    if (number >= -0x1p63 && number < 0x1p63 && number == floor(number)) {
        return (int64_t)number;
    }
    fail_argument(call, index, "an integer");
    return 0;
}

double pier_sqlite_call_double(pier_sqlite_call *call, int index)
{
    pier_type type = pier_sqlite_call_type(call, index);
    if (type == PIER_INT64 || type == PIER_DOUBLE) {
        return sqlite3_value_double(call->values[index]);
    }
    fail_argument(call, index, "a number");
    return 0;
}

const char *pier_sqlite_call_text(pier_sqlite_call *call, int index)
{
    pier_type type = pier_sqlite_call_type(call, index);
    if (type == PIER_INVALID || type == PIER_BYTES) {
        fail_argument(call, index, "text");
        return NULL;
    }
    const char *text = (const char *)sqlite3_value_text(call->values[index]);
    if (!text && type != PIER_NULL) {
        pier_sqlite_call_error(call, PIER_ENOMEM, "out of memory");
    }
    return text;
}

const void *pier_sqlite_call_bytes(pier_sqlite_call *call, int index, size_t *size)
{
    pier_type type = pier_sqlite_call_type(call, index);
    const void *bytes = NULL;
    int count = 0;
    if (type == PIER_TEXT || type == PIER_BYTES) {
        bytes = sqlite3_value_blob(call->values[index]);
        count = sqlite3_value_bytes(call->values[index]);
        bytes = count ? bytes : "";
        if (!bytes) {
            pier_sqlite_call_error(call, PIER_ENOMEM, "out of memory");
        }
    } else if (type != PIER_NULL) {
        fail_argument(call, index, "bytes");
    }
    if (size) {
        *size = (size_t)count;
    }
    return bytes;
}

int pier_sqlite_call_return(pier_sqlite_call *call, pier_value value)
{
    const char *data = value.type >= PIER_TEXT && value.as.p.data ? value.as.p.data : "";
    switch (value.type) {
    case PIER_NULL:
        sqlite3_result_null(call->context);
        return 0;
    case PIER_BOOL:
        sqlite3_result_int(call->context, value.as.b);
        return 0;
    case PIER_INT64:
        sqlite3_result_int64(call->context, value.as.i);
        return 0;
    case PIER_DOUBLE:
        if (isnan(value.as.d)) {
            return pier_sqlite_call_error(call, PIER_EINVAL,
                                          "the result is not a number; return pier_null()");
        }
        sqlite3_result_double(call->context, value.as.d);
        return 0;
    case PIER_TEXT:
    case PIER_NUMERIC:
        sqlite3_result_text64(call->context, data, value.as.p.size, SQLITE_TRANSIENT, SQLITE_UTF8);
        return 0;
    case PIER_BYTES:
        sqlite3_result_blob64(call->context, data, value.as.p.size, SQLITE_TRANSIENT);
        return 0;
    default:
        return pier_sqlite_call_error(
            call, PIER_EINVAL, "the result cannot be returned: %s",
            value.type == PIER_INVALID && value.as.why ? value.as.why : "it has an unknown type");
    }
}

void *pier_sqlite_call_state(pier_sqlite_call *call, size_t size)
{
    if (!call->binding->registration->function.step) {
        pier_sqlite_call_error(call, PIER_EINVAL, "only aggregates have a state");
        return NULL;
    }
    /* SQLite gives no memory for 0 bytes, and aligns what it gives to 8. */
    void *state =
        size < INT32_MAX ? sqlite3_aggregate_context(call->context, size ? (int)size : 1) : NULL;
    if (!state) {
        pier_sqlite_call_error(call, PIER_ENOMEM, "out of memory for a state of %zu bytes", size);
    }
    return state;
}

/* ---- Applying ----------------------------------------------------------------------------- */

static void free_binding(void *data)
{
    struct binding *binding = data;
    if (binding) {
        pier__sqlite_registration_unref(binding->registration);
        pier__free(binding);
    }
}

static int fail_registering(pier__sqlite_conn *conn, int code, const char *what, const char *name)
{
    if (code != SQLITE_OK) {
        pier_error_set(&conn->failure, pier__sqlite_status(code), "%s %.100s: %s%s", what, name,
                       sqlite3_errmsg(conn->sqlite),
                       (code & 0xFF) == SQLITE_BUSY ? " (close the cursors that are open)" : "");
        conn->failure.origin = PIER_ORIGIN_SQLITE;
        conn->failure.native = code;
    }
    return code & 0xFF;
}

static int create_function(pier__sqlite_conn *conn, pier__sqlite_registration *registration,
                           struct binding *binding)
{
    const pier_sqlite_function_options *function = &registration->function;
    int flags = SQLITE_UTF8 | (function->deterministic ? SQLITE_DETERMINISTIC : 0) |
                (function->direct_only ? SQLITE_DIRECTONLY : 0) |
                (function->innocuous ? SQLITE_INNOCUOUS : 0);
    if (function->inverse) {
        return sqlite3_create_window_function(conn->sqlite, registration->name,
                                              registration->number, flags, binding, on_step,
                                              on_final, on_value, on_inverse, free_binding);
    }
    return sqlite3_create_function_v2(conn->sqlite, registration->name, registration->number, flags,
                                      binding, function->scalar ? on_scalar : NULL,
                                      function->step ? on_step : NULL,
                                      function->step ? on_final : NULL, free_binding);
}

static struct binding *new_binding(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    struct binding *binding = pier__malloc(sizeof *binding);
    if (binding) {
        binding->registration = pier__sqlite_registration_ref(registration);
        binding->conn = conn;
    } else {
        pier_error_set(&conn->failure, PIER_ENOMEM, "out of memory");
    }
    return binding;
}

int pier__sqlite_function_apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    struct binding *binding = NULL;
    if (!registration->removes) {
        binding = new_binding(conn, registration);
        if (!binding) {
            return SQLITE_NOMEM;
        }
    }
    return fail_registering(conn, create_function(conn, registration, binding), "the function",
                            registration->name);
}

static int on_compare(void *data, int left_size, const void *left, int right_size,
                      const void *right)
{
    const pier__sqlite_registration *registration = data;
    return registration->fn.compare(registration->user_data, left, (size_t)left_size, right,
                                    (size_t)right_size);
}

int pier__sqlite_collation_apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    bool removes = registration->removes;
    void *data = removes ? NULL : pier__sqlite_registration_ref(registration);
    int code = sqlite3_create_collation_v2(conn->sqlite, registration->name, SQLITE_UTF8, data,
                                           removes ? NULL : on_compare,
                                           removes ? NULL : pier__sqlite_registration_unref);
    if (code != SQLITE_OK) {
        pier__sqlite_registration_unref(data); /* unlike for functions, SQLite leaves that to us */
    }
    return fail_registering(conn, code, "the collation", registration->name);
}

/* ---- Registering -------------------------------------------------------------------------- */

static const char *check_function(const char *name, const pier_sqlite_function_options *function)
{
    if (!name || !*name || strlen(name) > NAME_MAX_BYTES) {
        return "the name has 1 to 255 bytes";
    }
    if (function->args < PIER_NONE || function->args > 127) {
        return "args is 1 to 127, 0 for any number, or PIER_NONE";
    }
    bool aggregate = function->step && function->final;
    bool window = aggregate && function->inverse && function->value;
    if (function->scalar ? function->step || function->final || function->inverse || function->value
                         : !window && (!aggregate || function->inverse || function->value)) {
        return "a function has either scalar, or step and final, or all of step, final, inverse "
               "and value";
    }
    return NULL;
}

/* 0 means any number here, and -1 does there. */
static int args_of_sqlite(int args)
{
    return args > 0 ? args : args == PIER_NONE ? 0 : -1;
}

static const pier__op_class function_class = PIER__SQLITE_ASK_CLASS("pier_sqlite_function", "int");
static const pier__op_class remove_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_function_remove", "int");
static const pier__op_class collation_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_collation", "int");

/* Drops a registration that could not be filled. */
static pier__sqlite_registration *with_name(pier__sqlite_registration *registration,
                                            const char *name)
{
    if (registration && name) {
        registration->name = pier__strdup(name);
        if (!registration->name) {
            pier__sqlite_registration_unref(registration);
            registration = NULL;
        }
    }
    return registration;
}

pier_future *pier__sqlite_function_op(pier_db *db, const char *name,
                                      const pier_sqlite_function_options *options)
{
    pier_sqlite_function_options read = {.struct_size = 0};
    pier_error err;
    err.status = 0;
    pier__options_read(&read, sizeof read, options, "PIER_SQLITE_FUNCTION_OPTIONS", &err);
    const char *refusal = err.status < 0 ? err.message : check_function(name, &read);
    pier__sqlite_registration *registration = with_name(
        pier__sqlite_registration_new(PIER__SQLITE_FUNCTION, read.user_data, read.destroy), name);
    if (registration) {
        registration->function = read;
        registration->number = args_of_sqlite(read.args);
    }
    return pier__sqlite_register_op(&function_class, db, registration, refusal);
}

pier_future *pier__sqlite_function_remove_op(pier_db *db, const char *name, int args)
{
    pier__sqlite_registration *registration =
        with_name(pier__sqlite_registration_new(PIER__SQLITE_FUNCTION, NULL, NULL), name);
    if (registration) {
        registration->removes = true;
        registration->number = args_of_sqlite(args);
    }
    return pier__sqlite_register_op(&remove_class, db, registration,
                                    name ? NULL : "the name is NULL");
}

pier_future *pier__sqlite_collation_op(pier_db *db, const char *name,
                                       pier_sqlite_compare_fn compare, void *user_data,
                                       pier_sqlite_destroy_fn destroy)
{
    pier__sqlite_registration *registration =
        with_name(pier__sqlite_registration_new(PIER__SQLITE_COLLATION, user_data, destroy), name);
    if (registration) {
        registration->removes = !compare;
        registration->fn.compare = compare;
    }
    return pier__sqlite_register_op(&collation_class, db, registration,
                                    name && *name ? NULL : "the name is empty");
}
