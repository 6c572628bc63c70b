/*
 * Backups into files and databases, restoring, VACUUM INTO.
 */
#include "drivers/sqlite/copy.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/setup.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sync/ops.h"
#include <string.h>

/* A copy into a file between two of its steps: it belongs to the source's connection. */
typedef struct running {
    pier__sqlite_attached base; /* first */
    sqlite3 *to;
    sqlite3_backup *backup;
} running;

typedef struct backup_op {
    pier__sqlite_own own; /* first */
    pier_sqlite_backup_options options;
    pier__sqlite_target target;
    running *running; /* NULL before the first step */
    pier_db *into;    /* backup_to: holds a reference */
    pier__turn_waiter into_turn;
    char *from; /* restore: a path */
} backup_op;

static void backup_fini(pier__op *base)
{
    backup_op *op = (backup_op *)base;
    pier__sqlite_attached_unref((pier__sqlite_attached *)op->running);
    pier__sqlite_target_fini(&op->target);
    if (op->into) {
        pier__db_unref(op->into);
    }
    pier__free(op->from);
    pier__db_op_fini(base);
}

/* Whoever failed leaves nothing behind. */
static bool backup_ended(pier__db_op *op)
{
    if (op->failed) {
        pier__sqlite_target_remove(&((backup_op *)op)->target);
    }
    return false;
}

static const pier__op_class backup_class =
    PIER__SQLITE_CLASS("pier_sqlite_backup", "int64_t", sizeof(backup_op), .fini = backup_fini);
static const pier__op_class backup_to_class =
    PIER__SQLITE_CLASS("pier_sqlite_backup_to", "int64_t", sizeof(backup_op), .fini = backup_fini);
static const pier__op_class restore_class =
    PIER__SQLITE_CLASS("pier_sqlite_restore", "int64_t", sizeof(backup_op), .fini = backup_fini);
static const pier__op_class vacuum_class =
    PIER__SQLITE_CLASS("pier_sqlite_vacuum_into", "int", sizeof(backup_op), .fini = backup_fini);

/* ---- Into a file -------------------------------------------------------------------------- */

static void end_running(pier__sqlite_attached *attached)
{
    running *copy = (running *)attached;
    sqlite3_backup_finish(copy->backup);
    sqlite3_close(copy->to);
    copy->backup = NULL;
    copy->to = NULL;
}

static bool begin_running(pier__sqlite_conn *conn, backup_op *op)
{
    running *copy = pier__calloc(1, sizeof *copy);
    if (!copy) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    int code = sqlite3_open_v2(op->target.temporary, &copy->to,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        sqlite3_extended_result_codes(copy->to, 1);
        copy->backup = sqlite3_backup_init(copy->to, "main", conn->sqlite, "main");
        code = copy->backup ? SQLITE_OK : sqlite3_extended_errcode(copy->to);
    }
    if (code != SQLITE_OK) {
        pier__sqlite_copy_fail(conn, copy->to, code, op->target.path);
        sqlite3_close(copy->to);
        pier__free(copy);
        return false;
    }
    copy->base.end = end_running;
    pier__sqlite_attach(conn, &copy->base);
    op->running = copy;
    return true;
}

/* The connection may have been lost between two steps, and the copy with it: it begins anew. */
static bool ensure_running(pier__sqlite_conn *conn, backup_op *op)
{
    if (op->running && !op->running->base.ended) {
        return true;
    }
    if (op->running) {
        pier__sqlite_attached_unref(&op->running->base);
        op->running = NULL;
        pier__sqlite_target_remove(&op->target);
    }
    return pier__sqlite_target_check(conn, &op->target) && begin_running(conn, op);
}

static bool finish_running(pier__sqlite_conn *conn, backup_op *op)
{
    running *copy = op->running;
    op->own.base.count = sqlite3_backup_pagecount(copy->backup);
    int code = sqlite3_backup_finish(copy->backup);
    copy->backup = NULL;
    bool done = code == SQLITE_OK || pier__sqlite_copy_fail(conn, copy->to, code, op->target.path);
    pier__sqlite_detach(conn, &copy->base);
    return done && pier__sqlite_target_publish(conn, &op->target);
}

static bool backup_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    backup_op *op = (backup_op *)own;
    if (!pier__sqlite_copy_may_read(conn) || !ensure_running(conn, op)) {
        return false;
    }
    switch (pier__sqlite_copy_step(conn, op->running->backup, &op->options)) {
    case PIER__SQLITE_STEP_MORE:
        own->base.again = pier__now() + op->options.pause_ms * 1000000;
        return true;
    case PIER__SQLITE_STEP_DONE:
        return finish_running(conn, op);
    case PIER__SQLITE_STEP_FAILED:
    default:
        pier__sqlite_detach(conn, &op->running->base);
        return false;
    }
}

/* Reads the options, and the name of the file where there is one. NULL: `*failed`. */
static backup_op *new_op(const pier__op_class *cls, pier_db *db, const char *path,
                         const pier_sqlite_backup_options *options,
                         bool (*run)(pier__sqlite_conn *conn, pier__sqlite_own *own),
                         pier__op **failed)
{
    backup_op *op = pier__sqlite_own_new(cls, db, run, failed);
    if (!op) {
        return NULL;
    }
    pier_error err;
    if (!path || !*path) {
        *failed = pier__op_refuse(&op->own.base.op, PIER_EINVAL, "%s: there is no path", cls->name);
        return NULL;
    }
    if (pier__sqlite_backup_options_read(&op->options, options, &err) < 0) {
        *failed = pier__op_refuse(&op->own.base.op, err.status, "%s: %s", cls->name, err.message);
        return NULL;
    }
    return op;
}

static pier_future *target_op(const pier__op_class *cls, pier_db *db, const char *path,
                              const pier_sqlite_backup_options *options,
                              bool (*run)(pier__sqlite_conn *conn, pier__sqlite_own *own))
{
    pier__op *failed = NULL;
    backup_op *op = new_op(cls, db, path, options, run, &failed);
    if (!op) {
        return failed;
    }
    if (!pier__sqlite_target_init(&op->target, path, op->options.replace)) {
        return pier__op_refuse(&op->own.base.op, PIER_ENOMEM, "%s: out of memory", cls->name);
    }
    op->own.base.ended = backup_ended;
    return &op->own.base.op;
}

pier_future *pier__sqlite_backup_op(pier_db *db, const char *path,
                                    const pier_sqlite_backup_options *options)
{
    return target_op(&backup_class, db, path, options, backup_run);
}

/* ---- VACUUM INTO -------------------------------------------------------------------------- */

static bool vacuum(pier__sqlite_conn *conn, const char *path)
{
    static const char sql[] = "vacuum into $1";
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_bind_text(stmt, 1, path, -1, SQLITE_STATIC);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_step(stmt);
    }
    if (code != SQLITE_DONE) {
        pier__sqlite_fail(conn, code, sql, sql);
    }
    sqlite3_finalize(stmt);
    return code == SQLITE_DONE;
}

static bool vacuum_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    backup_op *op = (backup_op *)own;
    return pier__sqlite_target_check(conn, &op->target) && vacuum(conn, op->target.temporary) &&
           pier__sqlite_target_publish(conn, &op->target);
}

pier_future *pier__sqlite_vacuum_into_op(pier_db *db, const char *path)
{
    return target_op(&vacuum_class, db, path, NULL, vacuum_run);
}

/* ---- Into another database ---------------------------------------------------------------- */

static bool copy_into(pier__sqlite_conn *conn, backup_op *op)
{
    pier__sqlite_conn *into = (pier__sqlite_conn *)op->into->conn;
    if (pier__db_usable(op->into, &conn->failure) < 0) {
        return false;
    }
    if (into->base.dead) {
        return pier__sqlite_refuse(conn, PIER_EIO, "the target's connection was lost");
    }
    pier__sqlite_attached_reclaim(into);
    if (!pier__sqlite_copy_may_replace(conn, into, "the target") ||
        !pier__sqlite_copy_may_read(conn)) {
        return false;
    }
    /* It obeys this operation, and waits for locks as long as it may. */
    pier__sqlite_work_begin(into, conn->current);
    bool done =
        pier__sqlite_copy_all(conn, into->sqlite, conn->sqlite, &op->options, &op->own.base.count);
    pier__sqlite_work_end(into);
    return done;
}

static bool backup_to_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    backup_op *op = (backup_op *)own;
    pier__turn *turn = &op->into->conn->turn;
    if (op->into->conn == &conn->base) {
        return pier__sqlite_refuse(conn, PIER_EINVAL, "source and target are one connection");
    }
    /* Waiting here, while the source is held, could wait for ever. */
    op->into_turn.op = &own->base.op;
    if (!pier__turn_take(turn, &op->into_turn) && pier__turn_leave(turn, &op->into_turn)) {
        return pier__sqlite_refuse(conn, PIER_EBUSY, "the target is in use");
    }
    bool done = copy_into(conn, op);
    pier__turn_give(turn);
    return done;
}

pier_future *pier__sqlite_backup_to_op(pier_db *db, pier_db *target,
                                       const pier_sqlite_backup_options *options)
{
    pier__op *failed = NULL;
    if (!target) {
        return pier__op_null();
    }
    backup_op *op = new_op(&backup_to_class, db, "-", options, backup_to_run, &failed);
    if (!op) {
        return failed;
    }
    if (target->driver != &pier__sqlite_driver || target->kind != PIER__DB_LEASE) {
        return pier__op_refuse(&op->own.base.op, PIER_EINVAL,
                               "pier_sqlite_backup_to: the target is no lease of a SQLite "
                               "database; make one with pier_db_lease");
    }
    op->into = pier__db_ref(target);
    return &op->own.base.op;
}

/* ---- From a file -------------------------------------------------------------------------- */

static bool restore_from(pier__sqlite_conn *conn, backup_op *op, sqlite3 *from)
{
    int code = sqlite3_exec(from, "select 1 from sqlite_master limit 0", NULL, NULL, NULL);
    if (code != SQLITE_OK) {
        return pier__sqlite_copy_fail(conn, from, code, op->from);
    }
    return pier__sqlite_copy_all(conn, conn->sqlite, from, &op->options, &op->own.base.count);
}

static bool restore_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    backup_op *op = (backup_op *)own;
    if (!pier__sqlite_copy_may_replace(conn, conn, "the database") ||
        !pier__sqlite_check_file(conn)) {
        return false;
    }
    sqlite3 *from = NULL;
    int code = sqlite3_open_v2(op->from, &from, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    bool done;
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(from, ((pier__sqlite_db *)conn->base.db)->busy_timeout_ms);
        done = restore_from(conn, op, from);
    } else {
        done = pier__sqlite_copy_fail(conn, from, from ? sqlite3_extended_errcode(from) : code,
                                      op->from);
    }
    sqlite3_close(from);
    return done;
}

pier_future *pier__sqlite_restore_op(pier_db *db, const char *path,
                                     const pier_sqlite_backup_options *options)
{
    pier__op *failed = NULL;
    backup_op *op = new_op(&restore_class, db, path, options, restore_run, &failed);
    if (!op) {
        return failed;
    }
    op->from = pier__sqlite_absolute_path(path);
    if (!op->from) {
        return pier__op_refuse(&op->own.base.op, PIER_ENOMEM, "pier_sqlite_restore: out of memory");
    }
    return &op->own.base.op;
}
