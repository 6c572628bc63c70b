/*
 * Opening and closing a database file, and the two handlers by which work on it is cancelled.
 * sqlite3_interrupt is never used: it stops every statement of the connection, those of cursors
 * that wait for their next block as well.
 */
#include "drivers/sqlite/connection.h"

#include "drivers/sqlite/attached.h"
#include "drivers/sqlite/age.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/setup.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/lane.h"
#include "sdk/park.h"
#include "sdk/runner.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* ---- Handlers ----------------------------------------------------------------------------- */

/* Grows with each pier_sqlite_interrupt on the connection's scope or its pool. */
static unsigned count_interrupts(const pier__sqlite_conn *conn)
{
    const pier__sqlite_registry *registry = &((const pier__sqlite_db *)conn->base.db)->registry;
    return atomic_load_explicit(&conn->interrupts, memory_order_relaxed) +
           atomic_load_explicit(&registry->interrupts, memory_order_relaxed);
}

bool pier__sqlite_is_interrupted(pier__sqlite_conn *conn)
{
    if (!conn->interrupted) {
        conn->interrupted = pier__op_interrupted(conn->current);
    }
    if (!conn->interrupted && conn->interrupts_before != count_interrupts(conn)) {
        conn->interrupted = PIER_ECANCELLED;
        conn->stopped_by = "pier_sqlite_interrupt";
    }
    return conn->interrupted != 0;
}

static int on_progress(void *data)
{
    pier__sqlite_conn *conn = data;
    if (!conn->current || conn->finishing) {
        return 0;
    }
    if (pier__sqlite_is_too_old(conn)) {
        conn->too_old = true;
        return 1;
    }
    return pier__sqlite_is_interrupted(conn) ||
           (conn->hooks.set[PIER__SQLITE_PROGRESS] && pier__sqlite_hook_progress(conn));
}

void pier__sqlite_set_progress_steps(pier__sqlite_conn *conn, int steps)
{
    sqlite3_progress_handler(conn->sqlite, steps, on_progress, conn);
}

/* When to try again; 0: not at all. The user's hook decides, where there is one and it does not
 * leave that to us. Short waits first, since most locks are held for a moment. */
static int64_t next_try(pier__sqlite_conn *conn, int count, int64_t now)
{
    static const int waits_ms[] = {1, 2, 5, 10, 15, 20, 25};
    const int last = (int)(sizeof waits_ms / sizeof *waits_ms) - 1;
    int wait_ms = conn->hooks.set[PIER__SQLITE_BUSY] ? pier__sqlite_hook_busy(conn, count, now) : 0;
    if (wait_ms) {
        return wait_ms < 0 ? 0 : now + INT64_C(1000000) * wait_ms;
    }
    if (now >= conn->busy_until) {
        return 0;
    }
    int64_t until = now + INT64_C(1000000) * waits_ms[count < last ? count : last];
    return pier__earlier(until, conn->busy_until);
}

/* Waits for a lock of another connection: 0 gives up. A blocked caller is woken by its scope, and
 * EINTR ends a wait early too. */
static int on_busy(void *data, int count)
{
    pier__sqlite_conn *conn = data;
    pier__parker *parker = pier__parker_self();
    if (!conn->current || !parker) {
        return 0;
    }
    int64_t now = pier__now();
    if (!count) {
        int64_t timeout_ms = ((pier__sqlite_db *)conn->base.db)->busy_timeout_ms;
        conn->busy_until = now + timeout_ms * 1000000;
    }
    if (!pier__sqlite_is_reader(conn)) {
        pier__sqlite_end_old_readers(conn); /* a checkpoint may wait for one */
    }
    if (pier__sqlite_is_interrupted(conn)) {
        conn->locked_out = true;
        return 0;
    }
    int64_t until = next_try(conn, count, now);
    if (!until) {
        return 0;
    }
    do {
        pier__park(parker, pier__earlier(until, conn->current->deadline));
    } while (conn->hooks.set[PIER__SQLITE_BUSY] && pier__now() < until &&
             !pier__sqlite_is_interrupted(conn));
    return 1;
}

bool pier__sqlite_wait_lock(pier__sqlite_conn *conn, int count)
{
    return on_busy(conn, count) != 0;
}

/* ---- Work --------------------------------------------------------------------------------- */

pier_lane *pier__sqlite_conn_lane(pier__conn *base)
{
    pier__sqlite_conn *conn = (pier__sqlite_conn *)base;
    if (!conn->lane) {
        conn->lane = pier__lane_new(base->db->handle.runner, "pier-sqlite");
    }
    return conn->lane;
}

void pier__sqlite_wait_work(pier__db_op *op, void (*work)(pier__op *op))
{
    op->op.wait = (pier__wait){
        .kind = PIER__WAIT_WORK,
        .fd = -1,
        .work = work,
        .lane = op->op.on_loop ? pier__sqlite_conn_lane(op->conn) : NULL,
    };
}

void pier__sqlite_work_begin(pier__sqlite_conn *conn, pier__op *op)
{
    conn->failure.status = 0;
    conn->interrupted = 0;
    conn->finishing = conn->locked_out = conn->vanished = false;
    conn->misplaced = conn->too_old = false;
    conn->call_failure.status = 0;
    conn->stopped_by = NULL;
    conn->interrupts_before = count_interrupts(conn);
    pier__sqlite_hooks_begin(&conn->hooks);
    conn->current = op;
}

void pier__sqlite_work_end(pier__sqlite_conn *conn)
{
    conn->current = NULL;
}

bool pier__sqlite_work_error(pier__sqlite_conn *conn, pier__op *op, pier_error *err)
{
    if (!conn->failure.status) {
        return false;
    }
    if (conn->interrupted) {
        op->cancelled = op->cancelled ? op->cancelled : conn->interrupted;
        if (conn->locked_out) {
            op->doing = "waiting for a lock on the database";
        }
        pier__op_cancelled_error(op, err);
        if (conn->stopped_by) {
            pier__sqlite_error_append(err, "; stopped by ");
            pier__sqlite_error_append(err, conn->stopped_by);
        }
    } else {
        *err = conn->failure;
        pier__sqlite_hook_explain(conn, err);
    }
    if (conn->vanished) {
        pier__sqlite_error_append(err, "; the transaction has been rolled back");
    }
    return true;
}

bool pier__sqlite_fail(pier__sqlite_conn *conn, int code, const char *script, const char *sql)
{
    const pier_error *called = &conn->call_failure;
    bool is_users = called->status && (code & 0xFF) == SQLITE_ERROR &&
                    !strcmp(sqlite3_errmsg(conn->sqlite), called->message);
    pier__sqlite_error(&conn->failure, conn->sqlite, code, script, sql);
    if (is_users) {
        conn->failure.status = called->status;
        conn->failure.origin = PIER_ORIGIN_PIER;
        conn->failure.native = 0;
    }
    return false;
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* Why the file could not be opened, as far as that can be found out; or "". */
static void explain_open(const pier__sqlite_db *db, int code, char *why, size_t size)
{
    struct stat info;
    *why = 0;
    if ((code & 0xFF) == SQLITE_NOTADB) {
        snprintf(why, size, ": the file is something else, or encrypted");
    } else if ((code & 0xFF) != SQLITE_CANTOPEN) {
        return;
    } else if (!stat(db->path, &info)) {
        snprintf(why, size,
                 S_ISDIR(info.st_mode) ? ": it is a directory" : ": permission may be missing");
    } else if (errno != ENOENT && errno != ENOTDIR) {
        snprintf(why, size, ": %s", strerror(errno));
    } else {
        const char *slash = strrchr(db->path, '/');
        int length = slash ? (int)(slash - db->path) : 0;
        char directory[256];
        snprintf(directory, sizeof directory, "%.*s", length, db->path);
        if (length && stat(directory, &info)) {
            snprintf(why, size, ": the directory %s does not exist", directory);
        } else if (!(db->open_flags & SQLITE_OPEN_CREATE)) {
            snprintf(why, size, ": the file does not exist, and only mode=rwc creates it");
        }
    }
}

static bool fail_open(pier__sqlite_conn *conn, int code)
{
    const pier__sqlite_db *db = (const pier__sqlite_db *)conn->base.db;
    char why[320];
    explain_open(db, code, why, sizeof why);
    pier__sqlite_error(&conn->failure, conn->sqlite, code, "", "");
    char message[sizeof conn->failure.message];
    snprintf(message, sizeof message, "sqlite:%.120s: %.150s%.150s", db->path,
             conn->failure.message, why);
    memcpy(conn->failure.message, message, sizeof message);
    return false;
}

static bool open_file(pier__sqlite_conn *conn)
{
    pier__sqlite_db *db = (pier__sqlite_db *)conn->base.db;
    int flags = pier__sqlite_is_reader(conn) ? SQLITE_OPEN_READONLY : db->open_flags;
    flags |= SQLITE_OPEN_NOMUTEX | (db->uri ? SQLITE_OPEN_URI : 0);
    conn->generation = atomic_load(&db->generation);
    int code = sqlite3_open_v2(db->uri ? db->uri : db->path, &conn->sqlite, flags,
                               *db->vfs ? db->vfs : NULL);
    if (code != SQLITE_OK) {
        return fail_open(conn, conn->sqlite ? sqlite3_extended_errcode(conn->sqlite) : code);
    }
    sqlite3_extended_result_codes(conn->sqlite, 1);
    pier__sqlite_set_progress_steps(conn, PIER__SQLITE_PROGRESS_STEPS);
    sqlite3_busy_handler(conn->sqlite, on_busy, conn);
    return true;
}

void pier__sqlite_install_handlers(pier__sqlite_conn *conn)
{
    sqlite3_extended_result_codes(conn->sqlite, 1);
    sqlite3_busy_handler(conn->sqlite, on_busy, conn);
    pier__sqlite_hooks_install(conn);
}

/* SQLite reads nothing until it must. Preparing this reads the header and the schema, so that a
 * file that is no database is found out now. */
static bool check_file(pier__sqlite_conn *conn)
{
    sqlite3_stmt *stmt = NULL;
    int code =
        sqlite3_prepare_v2(conn->sqlite, "select 1 from sqlite_master limit 0", -1, &stmt, NULL);
    sqlite3_finalize(stmt);
    return code == SQLITE_OK || fail_open(conn, code);
}

static void close_file(pier__sqlite_conn *conn)
{
    if (sqlite3_close(conn->sqlite) != SQLITE_OK) {
        /* A statement was left; it takes the handle with it when it ends. */
        sqlite3_close_v2(conn->sqlite);
    }
    conn->sqlite = NULL;
}

static void open_work(pier__op *op)
{
    pier__sqlite_conn *conn = (pier__sqlite_conn *)((pier__db_op *)op)->conn;
    pier__sqlite_work_begin(conn, op);
    if (open_file(conn) && check_file(conn) && pier__sqlite_set_up(conn) &&
        pier__sqlite_registry_catch_up(conn)) {
        conn->base.open = true;
    } else {
        close_file(conn);
    }
    pier__sqlite_work_end(conn);
}

void pier__sqlite_open_step(pier__db_op *op, unsigned events)
{
    pier_error err;
    if (events & PIER__WORKED) {
        if (pier__sqlite_work_error((pier__sqlite_conn *)op->conn, &op->op, &err)) {
            pier__db_op_failed(op, &err);
        } else {
            pier__db_op_opened(op);
        }
    } else if (events & PIER__CANCEL) {
        pier__op_cancelled_error(&op->op, &err);
        pier__db_op_failed(op, &err);
    } else {
        op->op.doing = "opening the database";
        pier__sqlite_wait_work(op, open_work);
    }
}

/* ---- Beginning and ending in memory ------------------------------------------------------- */

bool pier__sqlite_conn_init(pier__conn *base)
{
    pier__sqlite_db *db = (pier__sqlite_db *)base->db;
    pier__sqlite_conn *conn = (pier__sqlite_conn *)base;
    pier__sqlite_cache_init(&conn->cache, db->setup.statement_cache);
    conn->id = atomic_fetch_add(&db->registry.connections, 1) + 1;
    return true;
}

bool pier__sqlite_conn_release(pier__conn *base)
{
    pier__sqlite_conn *conn = (pier__sqlite_conn *)base;
    if (atomic_load_explicit(&conn->read_until, memory_order_relaxed)) {
        atomic_store(&conn->read_until, 0); /* a store alone costs as much as a locked addition */
    }
    return !base->in_tx &&
           conn->generation == atomic_load(&((pier__sqlite_db *)base->db)->generation);
}

/* Cursors that are still open find their statement gone. */
static void end_held(pier__sqlite_conn *conn, bool forked)
{
    while (conn->held) {
        pier__sqlite_statement *statement = conn->held;
        conn->held = statement->next_held;
        if (!forked) {
            sqlite3_finalize(statement->stmt);
        }
        statement->stmt = NULL;
        statement->in_use = false;
        if (!statement->cached) {
            pier__sqlite_statement_unref(statement);
        }
    }
}

void pier__sqlite_conn_fini(pier__conn *base)
{
    pier__sqlite_conn *conn = (pier__sqlite_conn *)base;
    /* SQLite must not be called in a forked child, whose close would drop the parent's locks. */
    bool forked = pier__runner_forked(base->db->handle.runner);
    pier__sqlite_age_lock(conn);
    pier__sqlite_attached_end_all(conn, forked);
    end_held(conn, forked);
    if (forked) {
        pier__sqlite_cache_forget(&conn->cache);
    } else {
        pier__sqlite_cache_fini(&conn->cache);
        close_file(conn);
        pier__sqlite_hooks_fini(conn); /* behind what they are told of its end */
    }
    pier__sqlite_buffer_fini(&conn->changes);
    pier__sqlite_builder_fini(&conn->builder);
    pier__sqlite_age_unlock(conn);
    pier__lane_free(conn->lane);
    conn->lane = NULL;
}
