/*
 * Functions that run on the connection itself, and what SQLite knows of columns and plans.
 */
#include "drivers/sqlite/attached.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/sql.h"
#include "sdk/alloc.h"
#include "sdk/buffer.h"
#include "sync/ops.h"
#include <pier/async/sqlite_run.h>
#include <stdio.h>
#include <string.h>

/* ---- Functions ---------------------------------------------------------------------------- */

typedef struct run_op {
    pier__sqlite_own own; /* first */
    pier_sqlite_run_fn fn;
    void *arg;
} run_op;

static const pier__op_class run_class =
    PIER__SQLITE_CLASS("pier_sqlite_run", "int", sizeof(run_op), .fini = pier__db_op_fini);

/* The statements of a connection at one moment. */
typedef struct census {
    sqlite3_stmt **statements;
    size_t count;
    sqlite3_stmt *few[160]; /* as many as the cache has, and some cursors */
} census;

static bool take_census(census *taken, sqlite3 *sqlite)
{
    enum { FEW = sizeof taken->few / sizeof *taken->few };
    size_t count = 0;
    for (sqlite3_stmt *at = NULL; (at = sqlite3_next_stmt(sqlite, at));) {
        count++;
    }
    taken->count = 0;
    taken->statements = count > FEW ? pier__malloc(count * sizeof *taken->statements) : taken->few;
    if (!taken->statements) {
        return false;
    }
    for (sqlite3_stmt *at = NULL; (at = sqlite3_next_stmt(sqlite, at));) {
        taken->statements[taken->count++] = at;
    }
    return true;
}

static void end_census(census *taken)
{
    if (taken->statements != taken->few) {
        pier__free(taken->statements);
    }
}

static bool was_there(const census *taken, const sqlite3_stmt *stmt)
{
    for (size_t i = 0; i < taken->count; i++) {
        if (taken->statements[i] == stmt) {
            return true;
        }
    }
    return false;
}

/* Ends the statements that the function has left; how many. */
static int finalize_new(const census *before, sqlite3 *sqlite)
{
    int ended = 0;
    for (sqlite3_stmt *at = sqlite3_next_stmt(sqlite, NULL), *next; at; at = next) {
        next = sqlite3_next_stmt(sqlite, at);
        if (!was_there(before, at)) {
            sqlite3_finalize(at);
            ended++;
        }
    }
    return ended;
}

static void add(pier__sqlite_conn *conn, bool returned, const char *what)
{
    if (returned) {
        pier__sqlite_refuse(conn, PIER_EINVAL, "the function %s", what);
    } else {
        pier__sqlite_error_append(&conn->failure, "; the function ");
        pier__sqlite_error_append(&conn->failure, what);
    }
}

/* Makes the connection what it was. False: it was not. */
static bool put_right(pier__sqlite_conn *conn, const census *before, bool in_tx, bool returned)
{
    bool right = true;
    int ended = finalize_new(before, conn->sqlite);
    if (ended) {
        char what[80];
        snprintf(what, sizeof what, "has left %d statement%s open, finalized now", ended,
                 ended == 1 ? "" : "s");
        add(conn, returned, what);
        right = false;
    }
    bool in_tx_now = !sqlite3_get_autocommit(conn->sqlite);
    if (in_tx && !in_tx_now) {
        add(conn, returned && right, "has ended the transaction that it was called in");
        conn->vanished = !returned;
        right = false;
    } else if (!in_tx && in_tx_now) {
        sqlite3_exec(conn->sqlite, "rollback", NULL, NULL, NULL);
        conn->base.dead = conn->base.dead || !sqlite3_get_autocommit(conn->sqlite);
        add(conn, returned && right, "has left a transaction open, rolled back now");
        right = false;
    }
    pier__sqlite_install_handlers(conn);
    return right;
}

/* What the function has failed with, in its own words or SQLite's. */
static void take_failure(pier__sqlite_conn *conn, int status, const pier_error *err)
{
    int code = sqlite3_extended_errcode(conn->sqlite);
    bool known = code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE;
    if (err->status < 0) {
        conn->failure = *err;
    } else if (known) {
        pier__sqlite_error(&conn->failure, conn->sqlite, code, "", "");
    } else {
        pier_error_set(&conn->failure, status,
                       "the function of pier_sqlite_run failed with %s and no message",
                       pier_status_name(status));
    }
    conn->failure.status = status;
}

static bool run_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    run_op *op = (run_op *)own;
    census before;
    if (!take_census(&before, conn->sqlite)) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    bool in_tx = !sqlite3_get_autocommit(conn->sqlite);
    pier_error err = {0};
    int status = op->fn(conn->sqlite, op->arg, &err);
    if (status < 0) {
        take_failure(conn, status, &err);
    } else {
        conn->interrupted = 0; /* it has come to its end all the same */
        own->base.count = status;
    }
    bool done = put_right(conn, &before, in_tx, status >= 0) && status >= 0;
    end_census(&before);
    return done;
}

pier_future *pier__sqlite_run_op(pier_db *db, pier_sqlite_run_fn fn, void *arg)
{
    pier__op *failed = NULL;
    run_op *op = pier__sqlite_own_new(&run_class, db, run_run, &failed);
    if (!op) {
        return failed;
    }
    if (!fn) {
        return pier__op_refuse(&op->own.base.op, PIER_EINVAL, "pier_sqlite_run: fn is NULL");
    }
    op->fn = fn;
    op->arg = arg;
    return &op->own.base.op;
}

/* ---- Columns ------------------------------------------------------------------------------ */

typedef struct column_op {
    pier__sqlite_own own; /* first */
    char *table, *column;
} column_op;

static void drop_column(pier__op *op)
{
    pier__free(op->result.pointer);
}

static void column_fini(pier__op *base)
{
    column_op *op = (column_op *)base;
    pier__free(op->table);
    pier__free(op->column);
    pier__free(op->own.base.product);
    pier__db_op_fini(base);
}

static const pier__op_class column_class =
    PIER__SQLITE_CLASS("pier_sqlite_column", "pier_sqlite_column_info *", sizeof(column_op),
                       .drop = drop_column, .fini = column_fini);

static bool column_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    column_op *op = (column_op *)own;
    const char *type = NULL, *collation = NULL;
    int not_null = 0, primary_key = 0, autoincrement = 0;
    int code = sqlite3_table_column_metadata(conn->sqlite, NULL, op->table, op->column, &type,
                                             &collation, &not_null, &primary_key, &autoincrement);
    if (code != SQLITE_OK) {
        return pier__sqlite_fail(conn, code, "", "");
    }
    type = type ? type : "";
    collation = collation ? collation : "BINARY";
    size_t type_size = strlen(type) + 1, collation_size = strlen(collation) + 1;
    pier_sqlite_column_info *made = pier__malloc(sizeof *made + type_size + collation_size);
    if (!made) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    char *text = (char *)(made + 1);
    *made = (pier_sqlite_column_info){
        .type = memcpy(text, type, type_size),
        .collation = memcpy(text + type_size, collation, collation_size),
        .not_null = not_null,
        .primary_key = primary_key,
        .autoincrement = autoincrement,
    };
    own->base.product = made;
    return true;
}

pier_future *pier__sqlite_column_op(pier_db *db, const char *table, const char *column)
{
    pier__op *failed = NULL;
    column_op *op = pier__sqlite_own_new(&column_class, db, column_run, &failed);
    if (!op) {
        return failed;
    }
    pier__op *base = &op->own.base.op;
    if (!table || !column) {
        return pier__op_refuse(base, PIER_EINVAL, "pier_sqlite_column: %s is NULL",
                               table ? "column" : "table");
    }
    op->table = pier__strdup(table);
    op->column = pier__strdup(column);
    if (!op->table || !op->column) {
        return pier__op_refuse(base, PIER_ENOMEM, "pier_sqlite_column: out of memory");
    }
    return base;
}

void pier_sqlite_column_info_free(pier_sqlite_column_info *info)
{
    pier__free(info);
}

/* ---- Plans -------------------------------------------------------------------------------- */

static void drop_bytes(pier__op *op)
{
    pier_buffer_free(op->result.pointer);
}

static void explain_fini(pier__op *base)
{
    pier_buffer_free(((pier__db_op *)base)->product);
    pier__db_op_fini(base);
}

static const pier__op_class explain_class =
    PIER__SQLITE_CLASS("pier_sqlite_explain", "pier_buffer *", sizeof(pier__sqlite_own),
                       .own = pier__db_op_own, .drop = drop_bytes, .fini = explain_fini);

/* A line of the plan; `parent` is the id of another, or 0. */
typedef struct plan_line {
    int id, parent;
    const char *text;
} plan_line;

typedef struct tree {
    plan_line lines[500]; /* more than any plan has; what comes beyond is left out */
    int count;
    sqlite3_str *drawn;
} tree;

static bool has_sibling(const tree *plan, int line)
{
    for (int i = line + 1; i < plan->count; i++) {
        if (plan->lines[i].parent == plan->lines[line].parent) {
            return true;
        }
    }
    return false;
}

/* As deep as a statement can be nested, in columns of three. */
enum { DEPTH_MAX = 100 };

static int parent_of(const tree *plan, int line)
{
    for (int i = line - 1; i >= 0; i--) {
        if (plan->lines[i].id == plan->lines[line].parent) {
            return i;
        }
    }
    return -1;
}

static void draw_line(tree *plan, int line)
{
    bool open[DEPTH_MAX]; /* from the line up: does another branch follow? */
    int depth = 0;
    for (int at = line; at >= 0 && depth < DEPTH_MAX; at = parent_of(plan, at)) {
        open[depth++] = has_sibling(plan, at);
    }
    for (int i = depth - 1; i > 0; i--) {
        sqlite3_str_appendall(plan->drawn, open[i] ? "|  " : "   ");
    }
    sqlite3_str_appendf(plan->drawn, "%s%s\n", open[0] ? "|--" : "`--", plan->lines[line].text);
}

/* Reads the plan, then draws it. SQLite gives parents before their children. */
static int read_plan(tree *plan, sqlite3_stmt *stmt)
{
    enum { LINES = sizeof plan->lines / sizeof *plan->lines };
    int code;
    while ((code = sqlite3_step(stmt)) == SQLITE_ROW && plan->count < LINES) {
        const char *text = (const char *)sqlite3_column_text(stmt, 3);
        char *copy = sqlite3_mprintf("%s", text ? text : "");
        if (!copy) {
            return SQLITE_NOMEM;
        }
        plan->lines[plan->count++] = (plan_line){
            .id = sqlite3_column_int(stmt, 0),
            .parent = sqlite3_column_int(stmt, 1),
            .text = copy,
        };
    }
    return code == SQLITE_ROW ? SQLITE_DONE : code;
}

static pier_buffer *draw_plan(tree *plan, sqlite3 *sqlite)
{
    plan->drawn = sqlite3_str_new(sqlite);
    sqlite3_str_appendall(plan->drawn, "QUERY PLAN\n");
    for (int i = 0; i < plan->count; i++) {
        draw_line(plan, i);
    }
    size_t size = (size_t)sqlite3_str_length(plan->drawn);
    char *text = sqlite3_str_finish(plan->drawn);
    return text ? pier__buffer_adopt(text, size, sqlite3_free) : NULL;
}

static bool explain(pier__sqlite_conn *conn, pier__sqlite_own *own, sqlite3_stmt *stmt,
                    const char *sql)
{
    tree *plan = pier__calloc(1, sizeof *plan);
    if (!plan) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    int code = read_plan(plan, stmt);
    own->base.product = code == SQLITE_DONE ? draw_plan(plan, conn->sqlite) : NULL;
    if (!own->base.product) {
        pier__sqlite_fail(conn, code == SQLITE_DONE ? SQLITE_NOMEM : code, sql, sql);
    }
    for (int i = 0; i < plan->count; i++) {
        sqlite3_free((char *)plan->lines[i].text);
    }
    pier__free(plan);
    return own->base.product != NULL;
}

static bool explain_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    static const char prefix[] = "explain query plan ";
    char *sql = pier__malloc(sizeof prefix + own->base.sql_size);
    if (!sql) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    memcpy(sql, prefix, sizeof prefix - 1);
    memcpy(sql + sizeof prefix - 1, own->base.sql, own->base.sql_size);
    sql[sizeof prefix - 1 + own->base.sql_size] = 0;
    sqlite3_stmt *stmt = NULL;
    const char *tail;
    const char *users = sql + sizeof prefix - 1;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, &tail);
    bool done = false;
    if (code != SQLITE_OK) {
        pier__sqlite_fail(conn, code, users, users);
    } else if (!stmt || *pier__sqlite_sql_skip(tail)) {
        pier__sqlite_refuse(conn, PIER_EINVAL, "there is not one statement in the SQL: %.120s",
                            users);
    } else {
        done = explain(conn, own, stmt, users);
    }
    sqlite3_finalize(stmt);
    pier__free(sql);
    return done;
}

pier_future *pier__sqlite_explain_op(pier_db *db, const char *sql)
{
    pier__op *failed = NULL;
    pier__sqlite_own *own = pier__sqlite_own_new(&explain_class, db, explain_run, &failed);
    if (!own) {
        return failed;
    }
    if (!sql) {
        return pier__op_refuse(&own->base.op, PIER_EINVAL, "pier_sqlite_explain: the SQL is NULL");
    }
    own->base.sql = sql;
    own->base.sql_size = strlen(sql);
    return &own->base.op;
}
