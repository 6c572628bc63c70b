/*
 * Hooks of the user's, called by SQLite while it works, on the thread that does the connection's
 * work.
 */
#include "drivers/sqlite/hook.h"

#include "drivers/sqlite/changes.h"
#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/error.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sync/ops.h"
#include <stdio.h>
#include <string.h>

static const pier__sqlite_registration *hook(const pier__sqlite_conn *conn, pier__sqlite_kind kind)
{
    return conn->hooks.set[kind];
}

/* ---- Busy and progress -------------------------------------------------------------------- */

int pier__sqlite_hook_busy(pier__sqlite_conn *conn, int count, int64_t now)
{
    const pier__sqlite_registration *busy = hook(conn, PIER__SQLITE_BUSY);
    if (!count) {
        conn->hooks.busy_since = now;
    }
    return busy->fn.busy(busy->user_data, count, (now - conn->hooks.busy_since) / 1000000);
}

bool pier__sqlite_hook_progress(pier__sqlite_conn *conn)
{
    const pier__sqlite_registration *progress = hook(conn, PIER__SQLITE_PROGRESS);
    if (--conn->hooks.progress_left > 0) {
        return false;
    }
    conn->hooks.progress_left = conn->hooks.progress_every;
    if (!progress->fn.progress(progress->user_data)) {
        return false;
    }
    conn->interrupted = PIER_ECANCELLED;
    conn->stopped_by = "the progress hook";
    return true;
}

/* SQLite's handler is called at least as often as deadlines need it; theirs every so many times. */
static void set_progress(pier__sqlite_conn *conn)
{
    const pier__sqlite_registration *progress = hook(conn, PIER__SQLITE_PROGRESS);
    int steps = PIER__SQLITE_PROGRESS_STEPS;
    int wanted = progress ? progress->number : steps;
    int every = wanted / steps + (wanted % steps != 0);
    conn->hooks.progress_every = conn->hooks.progress_left = every;
    pier__sqlite_set_progress_steps(conn, wanted / every);
}

/* ---- Trace -------------------------------------------------------------------------------- */

/* A trigger's statement event comes between those of its statement, which stays. */
static void start_clock(pier__sqlite_hooks *hooks, sqlite3_stmt *stmt, bool trigger)
{
    for (int i = 0; i < PIER__SQLITE_TIMED; i++) {
        if (hooks->timed[i].stmt == stmt) {
            if (!trigger) {
                hooks->timed[i].since = pier__now();
            }
            return;
        }
    }
    if (!trigger) {
        int place = hooks->timed_next++ % PIER__SQLITE_TIMED;
        hooks->timed[place].stmt = stmt;
        hooks->timed[place].since = pier__now();
    }
}

/* SQLite's own figure counts milliseconds. */
static int64_t stop_clock(pier__sqlite_hooks *hooks, sqlite3_stmt *stmt, int64_t rough)
{
    for (int i = 0; i < PIER__SQLITE_TIMED; i++) {
        if (hooks->timed[i].stmt == stmt) {
            hooks->timed[i].stmt = NULL;
            return pier__now() - hooks->timed[i].since;
        }
    }
    return rough;
}

static int on_trace(unsigned event, void *data, void *subject, void *detail)
{
    pier__sqlite_conn *conn = data;
    const pier__sqlite_registration *trace = hook(conn, PIER__SQLITE_TRACE);
    pier_sqlite_trace told = {.event = (int)event};
    char *expanded = NULL;
    if (event != SQLITE_TRACE_CLOSE) {
        sqlite3_stmt *stmt = subject;
        bool trigger = event == SQLITE_TRACE_STMT && !strncmp(detail, "--", 2);
        if (event == SQLITE_TRACE_STMT) {
            start_clock(&conn->hooks, stmt, trigger);
        } else if (event == SQLITE_TRACE_PROFILE) {
            told.elapsed_ns = stop_clock(&conn->hooks, stmt, *(int64_t *)detail);
        }
        expanded = trace->value && !trigger && event & (unsigned)trace->number
                       ? sqlite3_expanded_sql(stmt)
                       : NULL;
        told.sql = trigger ? detail : expanded ? expanded : sqlite3_sql(stmt);
    }
    if (event & (unsigned)trace->number) {
        trace->fn.trace(trace->user_data, &told);
    }
    sqlite3_free(expanded);
    return 0;
}

static void set_trace(pier__sqlite_conn *conn)
{
    const pier__sqlite_registration *trace = hook(conn, PIER__SQLITE_TRACE);
    unsigned events = trace ? (unsigned)trace->number : 0;
    memset(conn->hooks.timed, 0, sizeof conn->hooks.timed);
    /* The end of a statement needs its beginning. */
    events |= events & SQLITE_TRACE_PROFILE ? SQLITE_TRACE_STMT : 0;
    sqlite3_trace_v2(conn->sqlite, events, events ? on_trace : NULL, conn);
}

/* ---- Authorizer --------------------------------------------------------------------------- */

static const char *const action_names[] = {"COPY",
                                           "CREATE INDEX",
                                           "CREATE TABLE",
                                           "CREATE TEMP INDEX",
                                           "CREATE TEMP TABLE",
                                           "CREATE TEMP TRIGGER",
                                           "CREATE TEMP VIEW",
                                           "CREATE TRIGGER",
                                           "CREATE VIEW",
                                           "DELETE",
                                           "DROP INDEX",
                                           "DROP TABLE",
                                           "DROP TEMP INDEX",
                                           "DROP TEMP TABLE",
                                           "DROP TEMP TRIGGER",
                                           "DROP TEMP VIEW",
                                           "DROP TRIGGER",
                                           "DROP VIEW",
                                           "INSERT",
                                           "PRAGMA",
                                           "READ",
                                           "SELECT",
                                           "TRANSACTION",
                                           "UPDATE",
                                           "ATTACH",
                                           "DETACH",
                                           "ALTER TABLE",
                                           "REINDEX",
                                           "ANALYZE",
                                           "CREATE VIRTUAL TABLE",
                                           "DROP VIRTUAL TABLE",
                                           "FUNCTION",
                                           "SAVEPOINT",
                                           "RECURSIVE"};
enum { ACTIONS = sizeof action_names / sizeof *action_names };

static void remember_denied(pier__sqlite_hooks *hooks, const pier_sqlite_action *action)
{
    bool both = action->first && action->second && *action->second;
    const char *first = action->first ? action->first : action->second ? action->second : "";
    snprintf(hooks->denied, sizeof hooks->denied, "%s%s%.40s%s%.40s", action->name,
             *first ? " " : "", first, both ? (action->code == SQLITE_READ ? "." : " ") : "",
             both ? action->second : "");
}

static int ask_authorizer(pier__sqlite_conn *conn, int code, const char *first, const char *second,
                          const char *database, const char *source)
{
    const pier__sqlite_registration *authorizer = hook(conn, PIER__SQLITE_AUTHORIZER);
    if (!authorizer || conn->own) {
        return SQLITE_OK;
    }
    pier_sqlite_action action = {
        .code = code,
        .name = code >= 0 && code < ACTIONS ? action_names[code] : "UNKNOWN",
        .first = first,
        .second = second,
        .database = database,
        .source = source,
    };
    int verdict = authorizer->fn.authorizer(authorizer->user_data, &action);
    if (verdict == PIER_SQLITE_ALLOW || verdict == PIER_SQLITE_IGNORE) {
        return verdict;
    }
    remember_denied(&conn->hooks, &action);
    return SQLITE_DENY;
}
_Static_assert(PIER_SQLITE_ALLOW == SQLITE_OK && PIER_SQLITE_DENY == SQLITE_DENY &&
                   PIER_SQLITE_IGNORE == SQLITE_IGNORE,
               "verdicts are SQLite's");

static bool drops_table(int code)
{
    return code == SQLITE_DROP_TABLE || code == SQLITE_DROP_TEMP_TABLE ||
           code == SQLITE_DROP_VIEW || code == SQLITE_DROP_TEMP_VIEW || code == SQLITE_DROP_VTABLE;
}

/* DELETE without WHERE empties a table without telling of its rows, unless that DELETE is ignored:
 * then it deletes them one by one. DROP TABLE asks for DELETE as well, and would not happen. */
static int keep_rows_apart(pier__sqlite_conn *conn, int code, const char *table)
{
    if (drops_table(code)) {
        conn->hooks.dropping = true;
        return SQLITE_OK;
    }
    if (code != SQLITE_DELETE || !conn->changes.watching ||
        !sqlite3_strnicmp(table, "sqlite_", 7)) {
        return SQLITE_OK;
    }
    bool drops = conn->hooks.dropping;
    conn->hooks.dropping = false;
    return drops ? SQLITE_OK : SQLITE_IGNORE;
}

static int on_authorize(void *data, int code, const char *first, const char *second,
                        const char *database, const char *source)
{
    pier__sqlite_conn *conn = data;
    int verdict = ask_authorizer(conn, code, first, second, database, source);
    if (verdict != SQLITE_OK) {
        conn->hooks.dropping = false;
        return verdict;
    }
    return keep_rows_apart(conn, code, first);
}

/* What was prepared under another authorizer is prepared anew. */
static void set_authorizer(pier__sqlite_conn *conn, bool changed)
{
    bool wanted = conn->changes.watching || hook(conn, PIER__SQLITE_AUTHORIZER);
    conn->hooks.dropping = false;
    if (changed || wanted != conn->hooks.authorizing) {
        sqlite3_set_authorizer(conn->sqlite, wanted ? on_authorize : NULL, conn);
        pier__sqlite_cache_flush(&conn->cache);
    }
    conn->hooks.authorizing = wanted;
}

/* ---- Changes ------------------------------------------------------------------------------ */

static void on_update(void *data, int code, const char *database, const char *table,
                      sqlite3_int64 rowid)
{
    pier__sqlite_conn *conn = data;
    pier_sqlite_change change = {
        .kind = code == SQLITE_INSERT   ? PIER_SQLITE_INSERT
                : code == SQLITE_DELETE ? PIER_SQLITE_DELETE
                                        : PIER_SQLITE_UPDATE,
        .database = database,
        .table = table,
        .rowid = rowid,
    };
    const pier__sqlite_registration *update = hook(conn, PIER__SQLITE_UPDATE);
    if (update) {
        update->fn.update(update->user_data, &change);
    }
    if (conn->changes.watching) {
        pier__sqlite_changes_add(conn, &change);
    }
}

static int on_commit(void *data)
{
    pier__sqlite_conn *conn = data;
    const pier__sqlite_registration *commit = hook(conn, PIER__SQLITE_COMMIT);
    if (commit && commit->fn.commit(commit->user_data)) {
        conn->hooks.refused = true;
        return 1;
    }
    conn->changes.committing = true;
    return 0;
}

static void on_rollback(void *data)
{
    pier__sqlite_conn *conn = data;
    const pier__sqlite_registration *rollback = hook(conn, PIER__SQLITE_ROLLBACK);
    if (rollback) {
        rollback->fn.rollback(rollback->user_data);
    }
    pier__sqlite_changes_roll_back(conn);
}

static void set_change_hooks(pier__sqlite_conn *conn)
{
    bool watching = conn->changes.watching;
    bool update = watching || hook(conn, PIER__SQLITE_UPDATE);
    bool commit = watching || hook(conn, PIER__SQLITE_COMMIT);
    bool rollback = watching || hook(conn, PIER__SQLITE_ROLLBACK);
    sqlite3_update_hook(conn->sqlite, update ? on_update : NULL, conn);
    sqlite3_commit_hook(conn->sqlite, commit ? on_commit : NULL, conn);
    sqlite3_rollback_hook(conn->sqlite, rollback ? on_rollback : NULL, conn);
}

/* ---- Setting ------------------------------------------------------------------------------ */

void pier__sqlite_hook_explain(const pier__sqlite_conn *conn, pier_error *err)
{
    if ((err->native & 0xFF) == SQLITE_AUTH && *conn->hooks.denied) {
        pier__sqlite_error_append(err, "; the authorizer denied ");
        pier__sqlite_error_append(err, conn->hooks.denied);
    } else if (err->native == SQLITE_CONSTRAINT_COMMITHOOK && conn->hooks.refused) {
        pier__sqlite_error_append(err, "; the commit hook refused to commit");
    }
}

void pier__sqlite_hooks_refresh(pier__sqlite_conn *conn)
{
    set_authorizer(conn, false);
    set_change_hooks(conn);
}

void pier__sqlite_hooks_install(pier__sqlite_conn *conn)
{
    set_progress(conn);
    set_trace(conn);
    set_authorizer(conn, true);
    set_change_hooks(conn);
}

int pier__sqlite_hook_apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    pier__sqlite_registration *old = conn->hooks.set[registration->kind];
    conn->hooks.set[registration->kind] =
        registration->removes ? NULL : pier__sqlite_registration_ref(registration);
    switch (registration->kind) {
    case PIER__SQLITE_PROGRESS:
        set_progress(conn);
        break;
    case PIER__SQLITE_TRACE:
        set_trace(conn);
        break;
    case PIER__SQLITE_AUTHORIZER:
        set_authorizer(conn, true);
        break;
    case PIER__SQLITE_UPDATE:
    case PIER__SQLITE_COMMIT:
    case PIER__SQLITE_ROLLBACK:
        set_change_hooks(conn);
        break;
    default:
        break;
    }
    pier__sqlite_registration_unref(old);
    return SQLITE_OK;
}

void pier__sqlite_hooks_fini(pier__sqlite_conn *conn)
{
    for (int i = 0; i < PIER__SQLITE_HOOKS; i++) {
        pier__sqlite_registration_unref(conn->hooks.set[i]);
        conn->hooks.set[i] = NULL;
    }
}

/* ---- Registering -------------------------------------------------------------------------- */

/* pier__sqlite_set_x_op, for hooks that have nothing but themselves. */
#define SET_HOOK(x, KIND)                                                                          \
    static const pier__op_class x##_class = PIER__SQLITE_ASK_CLASS("pier_sqlite_set_" #x, "int");  \
    pier_future *pier__sqlite_set_##x##_op(pier_db *db, pier_sqlite_##x##_fn x, void *user_data,   \
                                           pier_sqlite_destroy_fn destroy)                         \
    {                                                                                              \
        pier__sqlite_registration *registration =                                                  \
            pier__sqlite_registration_new(KIND, user_data, destroy);                               \
        if (registration) {                                                                        \
            registration->removes = !x;                                                            \
            registration->fn.x = x;                                                                \
        }                                                                                          \
        return pier__sqlite_register_op(&x##_class, db, registration, NULL);                       \
    }

SET_HOOK(busy, PIER__SQLITE_BUSY)
SET_HOOK(authorizer, PIER__SQLITE_AUTHORIZER)
SET_HOOK(update, PIER__SQLITE_UPDATE)
SET_HOOK(commit, PIER__SQLITE_COMMIT)
SET_HOOK(rollback, PIER__SQLITE_ROLLBACK)

static const pier__op_class progress_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_set_progress", "int");
static const pier__op_class trace_class = PIER__SQLITE_ASK_CLASS("pier_sqlite_set_trace", "int");

pier_future *pier__sqlite_set_progress_op(pier_db *db, int instructions,
                                          pier_sqlite_progress_fn progress, void *user_data,
                                          pier_sqlite_destroy_fn destroy)
{
    pier__sqlite_registration *registration =
        pier__sqlite_registration_new(PIER__SQLITE_PROGRESS, user_data, destroy);
    if (registration) {
        registration->removes = !progress;
        registration->fn.progress = progress;
        registration->number = instructions;
    }
    return pier__sqlite_register_op(&progress_class, db, registration,
                                    progress && instructions < 1 ? "instructions is 1 or more"
                                                                 : NULL);
}

pier_future *pier__sqlite_set_trace_op(pier_db *db, int events, bool values,
                                       pier_sqlite_trace_fn trace, void *user_data,
                                       pier_sqlite_destroy_fn destroy)
{
    enum {
        ALL = PIER_SQLITE_TRACE_STATEMENT | PIER_SQLITE_TRACE_PROFILE | PIER_SQLITE_TRACE_ROW |
              PIER_SQLITE_TRACE_CLOSE
    };
    pier__sqlite_registration *registration =
        pier__sqlite_registration_new(PIER__SQLITE_TRACE, user_data, destroy);
    if (registration) {
        registration->removes = !trace;
        registration->fn.trace = trace;
        registration->number = events;
        registration->value = values;
    }
    bool wrong = trace && (!events || events & ~ALL);
    return pier__sqlite_register_op(&trace_class, db, registration,
                                    wrong ? "events are pier_sqlite_event, combined with |" : NULL);
}
