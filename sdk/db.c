/*
 * Databases as handles: opening a URL with the driver of its scheme, reference counts, closing a
 * pool, and the requests that need nothing but a scope.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/dump.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <stdio.h>
#include <string.h>

enum {
    POOL_MAX = 10,
    ACQUIRE_TIMEOUT_MS = 30000,
    CONNECT_TIMEOUT_MS = 30000,
    /* As asyncpg. */
    USES_MAX = 50000,
    IDLE_TIMEOUT_MS = 300000,
    /* Long enough to cost nothing, short enough for a failover or a new password to get through. */
    LIFETIME_MS = 3600000
};

pier_db *pier__db_ref(pier_db *db)
{
    atomic_fetch_add_explicit(&db->refs, 1, memory_order_relaxed);
    return db;
}

void pier__db_unref(pier_db *db)
{
    while (db && atomic_fetch_sub_explicit(&db->refs, 1, memory_order_acq_rel) == 1) {
        pier_db *parent = db->parent;
        if (db->kind == PIER__DB_POOL) {
            db->driver->db_fini(db);
            pier__pool_fini(&db->pool);
            if (db->readers) {
                pier__pool_fini(db->readers);
                pier__free(db->readers);
            }
            pier__free(db->name);
            if (db->keeper) {
                pier__op_unref(db->keeper);
            }
        }
        if (db->conn) {
            pier__conn_unref(db->conn);
        }
        pier__free(db->doom);
        pier__free(db->closer);
        pthread_mutex_destroy(&db->lock);
        pier__free(db);
        db = parent;
    }
}

pier_db *pier__db_new_scope(pier_db *parent, pier__db_kind kind)
{
    pier_db *db = pier__calloc(1, sizeof *db);
    void *closer = db ? pier__calloc(1, sizeof(pier__db_op)) : NULL;
    if (!closer) {
        pier__free(db);
        db = NULL;
    } else {
        db->closer = closer;
        db->driver = parent->driver;
        db->handle.runner = parent->handle.runner;
        db->kind = kind;
        db->root = parent->root;
        db->parent = pier__db_ref(parent);
        db->read_only = parent->read_only;
        atomic_init(&db->refs, 1);
        pthread_mutex_init(&db->lock, NULL);
    }
    return db;
}

/* ---- Opening ------------------------------------------------------------------------------ */

static const pier__db_driver *find_driver(const char *url, pier_error *err)
{
    size_t length = strcspn(url, ":");
    char known[120] = "";
    size_t at = 0;
    for (const pier__db_driver *const *driver = pier__db_drivers; *driver; driver++) {
        for (const char *const *scheme = (*driver)->schemes; *scheme; scheme++) {
            if (url[length] && strlen(*scheme) == length && !strncmp(url, *scheme, length)) {
                return *driver;
            }
            at += (size_t)snprintf(known + at, at < sizeof known ? sizeof known - at : 0,
                                   "%s%s:", at ? ", " : "", *scheme);
        }
    }
    pier_error_set(err, PIER_EINVAL,
                   "pier_db_open: no driver for \"%.*s\"; a URL begins with one of %s",
                   (int)(length < 20 ? length : 20), url, known);
    return NULL;
}

static int read_pool_settings(pier__db_settings *settings, const pier_db_options *read,
                              pier_error *err)
{
    if (read->pool_min < 0 || read->pool_min > settings->pool_max) {
        return pier_error_set(err, PIER_EINVAL, "pier_db_open: pool_min is %d; 0 to pool_max, %d",
                              read->pool_min, settings->pool_max);
    }
    if (read->reset < PIER_RESET_DEFAULT || read->reset > PIER_RESET_NONE) {
        return pier_error_set(err, PIER_EINVAL, "pier_db_open: reset is %d; it is a pier_reset",
                              read->reset);
    }
    settings->pool_min = read->pool_min;
    settings->waiting_max = read->waiting_max;
    settings->uses_max = !read->uses_max ? USES_MAX : read->uses_max < 0 ? 0 : read->uses_max;
    settings->idle_timeout_ms = read->idle_timeout_ms ? read->idle_timeout_ms : IDLE_TIMEOUT_MS;
    settings->lifetime_ms = read->lifetime_ms ? read->lifetime_ms : LIFETIME_MS;
    settings->reset = read->reset;
    settings->init = read->init;
    settings->setup = read->setup;
    settings->cleanup = read->cleanup;
    settings->hook_data = read->hook_data;
    settings->postgres = read->postgres;
    return 0;
}

static int read_settings(pier__db_settings *settings, const pier_db_options *options,
                         pier_error *err)
{
    pier_db_options read = {.struct_size = 0};
    int status = pier__options_read(&read, sizeof read, options, "PIER_DB_OPTIONS", err);
    if (status < 0) {
        return status;
    }
    if (read.pool_max < 0 || read.pool_max > 10000) {
        return pier_error_set(err, PIER_EINVAL, "pier_db_open: pool_max is %d; 1 to 10,000",
                              read.pool_max);
    }
    settings->pool_max = read.pool_max ? read.pool_max : POOL_MAX;
    settings->acquire_timeout_ms =
        read.acquire_timeout_ms ? read.acquire_timeout_ms : ACQUIRE_TIMEOUT_MS;
    settings->connect_timeout_ms =
        read.connect_timeout_ms ? read.connect_timeout_ms : CONNECT_TIMEOUT_MS;
    return read_pool_settings(settings, &read, err);
}

/* What not every driver has a use for. */
static int init_pool(pier_db *root, pier_error *err)
{
    pier__db_settings *settings = &root->settings;
    pier__pool_init(&root->pool, "connection", settings->pool_max);
    root->pool.waiting_max = settings->waiting_max;
    if (!root->driver->renews) {
        settings->pool_min = settings->uses_max = 0;
        settings->idle_timeout_ms = settings->lifetime_ms = PIER_FOREVER;
        return 0;
    }
    root->pool.min = settings->pool_min;
    root->pool.backs_off = true;
    return pier__db_keeper_new(root)
               ? 0
               : pier_error_set(err, PIER_ENOMEM, "pier_db_open: out of memory");
}

static int make_readers(pier_db *root, pier_error *err)
{
    root->readers = pier__malloc(sizeof *root->readers);
    if (!root->readers) {
        return pier_error_set(err, PIER_ENOMEM, "pier_db_open: out of memory");
    }
    pier__pool_init(root->readers, "reader", root->settings.readers);
    root->readers->waiting_max = root->settings.waiting_max;
    return 0;
}

/* A root that is not entered in the runner's list yet. */
static pier_db *new_root(pier_runner *runner, const char *url, const pier_db_options *options,
                         pier_error *err)
{
    pier__db_settings settings = {0};
    const pier__db_driver *driver = url ? find_driver(url, err) : NULL;
    if (!url) {
        pier_error_set(err, PIER_EINVAL, "pier_db_open: the URL is NULL");
    }
    if (!driver || read_settings(&settings, options, err) < 0) {
        return NULL;
    }
    pier_db *root = pier__calloc(1, driver->db_size);
    void *closer = root ? pier__calloc(1, sizeof(pier__db_op)) : NULL;
    if (!closer) {
        pier__free(root);
        pier_error_set(err, PIER_ENOMEM, "pier_db_open: out of memory");
        return NULL;
    }
    root->closer = closer;
    root->driver = driver;
    root->handle.runner = runner;
    root->handle.describe = pier__db_describe;
    root->kind = PIER__DB_POOL;
    root->root = root;
    root->settings = settings;
    atomic_init(&root->refs, 1);
    pthread_mutex_init(&root->lock, NULL);
    int status = driver->db_init(root, url, err);
    pier_error none;
    int made = init_pool(root, status < 0 ? &none : err);
    status = status < 0 ? status : made;
    if (status >= 0 && root->settings.postgres) {
        status = pier_error_set(err, PIER_EINVAL,
                                "pier_db_open: %.120s is no Postgres database, and has no use for "
                                "PIER_POSTGRES_OPTIONS",
                                root->name);
    }
    root->settings.postgres = NULL;
    if (status >= 0 && root->settings.readers) {
        status = make_readers(root, err);
    }
    if (status < 0) {
        pier__db_unref(root);
        return NULL;
    }
    return root;
}

/* The scope that nobody took is closed as its user would have closed it. */
static void drop_scope(pier__op *op)
{
    pier_db *db = op->result.pointer;
    if (db) {
        pier_future_free(pier__op_submit(pier__db_close_op(db)));
    }
}

#define SCOPE_CLASS(function)                                                                      \
    {                                                                                              \
        .name = function, .result = "pier_db *", .size = sizeof(pier__db_op),                      \
        .step = pier__db_op_step, .waits_for = pier__db_op_waits_for, .drop = drop_scope,          \
        .fini = pier__db_op_fini, .unstarted = pier__db_op_unstarted,                              \
        .subject = pier__db_op_subject                                                             \
    }

static const pier__op_class open_class = SCOPE_CLASS("pier_db_open");
static const pier__op_class lease_class = SCOPE_CLASS("pier_db_lease");
static const pier__op_class begin_class = SCOPE_CLASS("pier_db_begin");

pier_future *pier__db_open_op(pier_runner *runner, const char *url, const pier_db_options *options)
{
    if (!runner) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier_error err = {0};
    pier_db *root = new_root(runner, url, options, &err);
    if (!root) {
        pier__op *op = pier__op_new(&open_class, runner, &failed);
        if (op) {
            /* Not a request yet: it holds nothing that fini could free. */
            pier__op_fail_with(op, &err);
        }
        return op ? op : failed;
    }
    pier__db_op *op = pier__db_op_new(&open_class, PIER__LEASE, root, &failed);
    if (!op) {
        pier__db_unref(root);
        return failed;
    }
    op->made = root; /* its first reference becomes the user's */
    return &op->op;
}

/* ---- Requests ----------------------------------------------------------------------------- */

static void drop_block(pier__op *op)
{
    pier_result_free(op->result.pointer);
}

#define REQUEST_CLASS(function, type, dropper)                                                     \
    {                                                                                              \
        .name = function, .result = type, .size = sizeof(pier__db_op), .step = pier__db_op_step,   \
        .waits_for = pier__db_op_waits_for, .own = pier__db_op_own, .drop = dropper,               \
        .fini = pier__db_op_fini_reused, .retire = pier__db_op_retire,                             \
        .unstarted = pier__db_op_unstarted, .subject = pier__db_op_subject                         \
    }

static const pier__op_class execute_class = REQUEST_CLASS("pier_db_execute", "int64_t", NULL);
static const pier__op_class insert_class = REQUEST_CLASS("pier_db_insert", "int64_t", NULL);
static const pier__op_class many_class = REQUEST_CLASS("pier_db_execute_many", "int64_t", NULL);
static const pier__op_class statement_execute_class =
    REQUEST_CLASS("pier_statement_execute", "int64_t", NULL);
static const pier__op_class statement_fetch_class =
    REQUEST_CLASS("pier_statement_fetch", "pier_result *", drop_block);
static const pier__op_class script_class = REQUEST_CLASS("pier_db_execute_script", "int", NULL);
static const pier__op_class fetch_class =
    REQUEST_CLASS("pier_db_fetch", "pier_result *", drop_block);

int pier__db_check_can(const pier_db *db, unsigned what, const char *function, pier_error *err)
{
    if (db->root->driver->can & what) {
        return 0;
    }
    static const struct {
        unsigned what;
        const char *says;
    } refusals[] = {
        {PIER__CAN_NAMES, "has no arguments by name; write $1, $2, ... and use PIER_ARGS"},
        {PIER__CAN_ROW_IDS, "has no row ids; add \"returning id\" and use pier_db_fetch_into"},
        {PIER__CAN_MANY, "takes one row at a time; use pier_db_execute in a transaction"},
        {PIER__CAN_DESCRIBE, "has no statement handles; pier_db_fetch and pier_db_execute prepare "
                             "each statement once on each connection"},
    };
    size_t i = 0;
    while (refusals[i].what != what) {
        i++;
    }
    return pier_error_set(err, PIER_EINVAL, "%s: %.120s %s", function, db->root->name,
                          refusals[i].says);
}

/* Unsigned, so that one comparison finds what is below and above. */
static inline bool is_bindable(const pier_value *value)
{
    return (unsigned)value->type < PIER_INVALID;
}

static int refuse_value(const pier_args *args, size_t index, const char *function, pier_error *err)
{
    const pier_value *value = &args->values[index];
    const char *why = value->type == PIER_INVALID ? value->as.why : "of no known type";
    return args->names ? pier_error_set(err, PIER_EINVAL, "%s: argument \"%s\" is %s", function,
                                        args->names[index], why)
                       : pier_error_set(err, PIER_EINVAL, "%s: argument $%zu is %s", function,
                                        index + 1, why);
}

static int check_names(const pier_db *db, const char *function, const pier_args *args,
                       pier_error *err)
{
    for (size_t i = 0; i < args->count; i++) {
        if (!args->names[i]) {
            return pier_error_set(err, PIER_EINVAL, "%s: name %zu of the arguments is NULL",
                                  function, i + 1);
        }
    }
    return pier__db_check_can(db, PIER__CAN_NAMES, function, err);
}

int pier__db_check_args(const pier_db *db, const char *function, const char *sql,
                        const pier_args *args, pier_error *err)
{
    if (!sql) {
        return pier_error_set(err, PIER_EINVAL, "%s: the SQL is NULL", function);
    }
    if (!args) {
        return 0;
    }
    if (args->names && check_names(db, function, args, err) < 0) {
        return err->status;
    }
    for (size_t i = 0; i < args->count; i++) {
        if (!is_bindable(&args->values[i])) {
            return refuse_value(args, i, function, err);
        }
    }
    return 0;
}

pier_future *pier__db_op_refuse(pier__db_op *op, const pier_error *err)
{
    pier__db_op_unstarted(&op->op, err);
    pier__op_fail_with(&op->op, err);
    return &op->op;
}

static pier_future *request_op(const pier__op_class *cls, pier__request request, pier_db *db,
                               const char *sql, const pier_args *args)
{
    if (!db) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(cls, request, db, &failed);
    if (!op) {
        return failed;
    }
    pier_error err;
    if (pier__db_check_args(db, cls->name, sql, args, &err) < 0) {
        return pier__db_op_refuse(op, &err);
    }
    op->sql = sql;
    op->sql_size = strlen(sql);
    op->args = args && args->count ? args : NULL;
    return &op->op;
}

pier_future *pier__db_execute_op(pier_db *db, const char *sql, const pier_args *args)
{
    return request_op(&execute_class, PIER__EXECUTE, db, sql, args);
}

pier_future *pier__db_execute_script_op(pier_db *db, const char *sql)
{
    return request_op(&script_class, PIER__SCRIPT, db, sql, NULL);
}

pier_future *pier__db_fetch_op(pier_db *db, const char *sql, const pier_args *args)
{
    return request_op(&fetch_class, PIER__FETCH, db, sql, args);
}

pier_future *pier__db_statement_op(pier_db *db, bool fetches, const char *sql,
                                   const pier_args *args)
{
    return request_op(fetches ? &statement_fetch_class : &statement_execute_class,
                      fetches ? PIER__FETCH : PIER__EXECUTE, db, sql, args);
}

static bool insert_ended(pier__db_op *op)
{
    op->count = op->last_id;
    return false;
}

pier_future *pier__db_insert_op(pier_db *db, const char *sql, const pier_args *args)
{
    pier_future *future = request_op(&insert_class, PIER__EXECUTE, db, sql, args);
    pier_error err;
    if (pier__op_settled(future)) {
        return future;
    }
    pier__db_op *op = (pier__db_op *)future;
    op->ended = insert_ended;
    return pier__db_check_can(db, PIER__CAN_ROW_IDS, "pier_db_insert", &err) < 0
               ? pier__db_op_refuse(op, &err)
               : future;
}

/* What cannot be bound at all is found before anything is sent. */
static int check_rows(const pier_db *db, const char *sql, const pier_args *rows, size_t count,
                      pier_error *err)
{
    int status = pier__db_check_can(db, PIER__CAN_MANY, many_class.name, err);
    if (status == 0 && count && !rows) {
        return pier_error_set(err, PIER_EINVAL, "%s: the rows are NULL", many_class.name);
    }
    for (size_t i = 0; i < count && status == 0; i++) {
        pier_error why;
        status = pier__db_check_args(db, many_class.name, sql, &rows[i], &why);
        if (status < 0) {
            pier_error_set(err, status, "row %zu: %.380s", i + 1, why.message);
        }
    }
    return status;
}

pier_future *pier__db_execute_many_op(pier_db *db, const char *sql, const pier_args *rows,
                                      size_t row_count)
{
    pier_future *future = request_op(&many_class, PIER__EXECUTE_MANY, db, sql, NULL);
    pier_error err;
    if (pier__op_settled(future)) {
        return future;
    }
    pier__db_op *op = (pier__db_op *)future;
    if (check_rows(db, sql, rows, row_count, &err) < 0) {
        return pier__db_op_refuse(op, &err);
    }
    op->rows = rows;
    op->row_count = row_count;
    return future;
}

int pier_db_fetch_into(pier_db *db, const char *sql, const pier_args *args, const pier_intos *into,
                       pier_error *err)
{
    pier_error local; /* not zeroed as a whole: that would show in a point query */
    local.status = 0;
    pier_error *failure = err ? err : &local;
    pier_future *future = pier__db_fetch_op(db, sql, args);
    if (!pier__op_settled(future)) {
        ((pier__db_op *)future)->reads_here = true;
    }
    future = pier__op_run(future, failure);
    pier_result *result = pier__op_look_pointer(future, "pier_result *", failure);
    if (!result) {
        return failure->status;
    }
    int status = result->count ? pier_row_into(&result->rows[0], into, failure) : 0;
    int found = result->count > 0;
    pier__op_taken(future); /* frees it */
    return status < 0 ? status : found;
}

/* ---- Scopes ------------------------------------------------------------------------------- */

static pier_future *scope_op(const pier__op_class *cls, pier__request request, pier_db *db,
                             pier__db_kind kind)
{
    if (!db) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(cls, request, db, &failed);
    if (!op) {
        return failed;
    }
    op->made = pier__db_new_scope(db, kind);
    if (!op->made) {
        return pier__op_refuse(&op->op, PIER_ENOMEM, "%s: out of memory", cls->name);
    }
    return &op->op;
}

pier_future *pier__db_lease_op(pier_db *db)
{
    pier_future *op = scope_op(&lease_class, PIER__LEASE, db, PIER__DB_LEASE);
    if (db && db->kind != PIER__DB_POOL && !pier__op_settled(op)) {
        return pier__op_refuse(op, PIER_EINVAL,
                               "pier_db_lease: this is a connection already; lease from the pool");
    }
    return op;
}

pier_future *pier__db_begin_op(pier_db *db, const pier_tx_options *options)
{
    pier_future *future = scope_op(&begin_class, PIER__BEGIN, db, PIER__DB_TX);
    if (pier__op_settled(future)) {
        return future;
    }
    pier__db_op *op = (pier__db_op *)future;
    pier_tx_options read = {.struct_size = 0};
    pier_error err;
    if (pier__options_read(&read, sizeof read, options, "PIER_TX_OPTIONS", &err) < 0) {
        pier__op_fail_with(future, &err);
        return future;
    }
    if (read.lock < 0 || read.lock > PIER_TX_EXCLUSIVE || (read.lock && read.read_only)) {
        return pier__op_refuse(future, PIER_EINVAL,
                               "pier_db_begin: lock is %d; it is a pier_tx_lock, and has no use "
                               "beside read_only",
                               read.lock);
    }
    if (read.isolation < 0 || read.isolation > PIER_SERIALIZABLE ||
        (read.deferrable && !(read.read_only && read.isolation == PIER_SERIALIZABLE))) {
        return pier__op_refuse(future, PIER_EINVAL,
                               "pier_db_begin: isolation is %d; it is a pier_isolation, and "
                               "deferrable goes with PIER_SERIALIZABLE and read_only alone",
                               read.isolation);
    }
    op->reads = read.read_only;
    if (db->kind != PIER__DB_TX) {
        op->made->read_only = read.read_only;
    }
    if (db->kind == PIER__DB_TX) {
        op->made->depth = db->depth + 1;
        snprintf(op->sql_buffer, sizeof op->sql_buffer, "savepoint pier_%d", op->made->depth);
        pier__db_use_sql(op, op->sql_buffer);
    } else {
        pier__db_use_sql(op, db->driver->begin_sql(&read));
    }
    return future;
}

void pier_db_expire(pier_db *db)
{
    if (db && db->driver->renews && !pier__runner_forked(db->handle.runner)) {
        pier__conn_end_all(pier__pool_expire(&db->root->pool));
    }
}

void pier_db_stats(pier_db *db, pier_pool_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    if (db) {
        pier__pool_add_stats(&db->root->pool, stats);
        if (db->root->readers) {
            pier__pool_add_stats(db->root->readers, stats);
        }
    }
}

/* ---- Closing ------------------------------------------------------------------------------ */

/* The readers first: the last one that closes a SQLite file should be able to tidy up. */
void pier__db_end_pools(pier_db *root)
{
    pier__db_keeper_stop(root);
    if (root->readers) {
        pier__conn_end_all(pier__pool_close(root->readers));
    }
    pier__conn_end_all(pier__pool_close(&root->pool));
}

static void close_pool_step(pier__op *op, unsigned events)
{
    pier_db *root = ((pier__db_op *)op)->db;
    (void)events;
    pier__db_end_pools(root);
    pier__db_drop_spare(root);
    if (root->driver->db_closed) {
        root->driver->db_closed(root);
    }
    pier__db_unref(root); /* the user's */
    pier__op_succeed_int(op, 0);
}

static const pier__op_class close_pool_class = {
    .name = "pier_db_close",
    .result = "void",
    .size = sizeof(pier__db_op),
    .shielded = true,
    .step = close_pool_step,
    .fini = pier__db_op_fini,
    .subject = pier__db_op_subject,
};

static const pier__op_class close_scope_class = {
    .name = "pier_db_close",
    .result = "void",
    .size = sizeof(pier__db_op),
    .shielded = true,
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .fini = pier__db_op_fini,
    .subject = pier__db_op_subject,
};

/* In a forked child the handle's memory is all there is to end. */
static void forget_forked(pier_db *db)
{
    if (db->kind == PIER__DB_POOL) {
        pier__db_end_pools(db);
        pier__db_drop_spare(db);
        pier__db_keeper_forget(db);
    }
    pier__db_unref(db);
}

pier_future *pier__db_end_scope_op(pier_db *db)
{
    void *memory = db->closer;
    db->closer = NULL;
    pier__db_op *op = pier__db_op_init(memory, &close_scope_class, PIER__ROLLBACK, db);
    pier__db_make_rollback(op);
    return &op->op;
}

pier_future *pier__db_close_op(pier_db *db)
{
    if (!db) {
        return pier__op_null();
    }
    if (pier__runner_forked(db->handle.runner)) {
        forget_forked(db);
        return pier__op_null();
    }
    if (!pier__handle_leave(&db->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    if (db->kind != PIER__DB_POOL) {
        return pier__db_end_scope_op(db);
    }
    void *memory = db->closer;
    db->closer = NULL;
    return &pier__db_op_init(memory, &close_pool_class, PIER__ROLLBACK, db)->op;
}

void pier__db_close_handle(pier__handle *handle)
{
    pier_db *db = (pier_db *)handle;
    pier__op_take_void(pier__op_run(pier__db_close_op(db), NULL));
}
