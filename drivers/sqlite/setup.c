/*
 * Setting up new connections, on the thread that does the work of opening them.
 */
#include "drivers/sqlite/setup.h"

#include "drivers/sqlite/error.h"
#include "sdk/hooks.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Runs a pragma; `answer`, where there is one, gets its first column, or "". */
static bool run_pragma(pier__sqlite_conn *conn, const char *sql, char *answer, size_t size)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK) {
        /* A change of the journal mode does not always ask the busy handler. */
        for (int count = 0; (code = sqlite3_step(stmt)) == SQLITE_BUSY; count++) {
            sqlite3_reset(stmt);
            if (!pier__sqlite_wait_lock(conn, count)) {
                break;
            }
        }
    }
    const unsigned char *text = code == SQLITE_ROW ? sqlite3_column_text(stmt, 0) : NULL;
    if (answer) {
        snprintf(answer, size, "%s", text ? (const char *)text : "");
    }
    bool done =
        code == SQLITE_ROW || code == SQLITE_DONE || pier__sqlite_fail(conn, code, sql, sql);
    sqlite3_finalize(stmt);
    return done;
}

static bool set_word(pier__sqlite_conn *conn, const char *name, const char *value)
{
    char sql[64];
    snprintf(sql, sizeof sql, "pragma %s = %s", name, value);
    return !value || run_pragma(conn, sql, NULL, 0);
}

static bool set_number(pier__sqlite_conn *conn, const char *name, int64_t value)
{
    char sql[64];
    snprintf(sql, sizeof sql, "pragma %s = %" PRId64, name, value);
    return value < 0 || run_pragma(conn, sql, NULL, 0);
}

static bool set_journal_mode(pier__sqlite_conn *conn, const char *mode)
{
    char sql[64], answer[16];
    snprintf(sql, sizeof sql, "pragma journal_mode = %s", mode);
    if (!mode) {
        return true;
    }
    if (!run_pragma(conn, sql, answer, sizeof answer)) {
        return false;
    }
    if (strcmp(answer, mode)) {
        pier_error_set(&conn->failure, PIER_EINVAL,
                       "%s: journal_mode=%s is not possible here, it is %s", conn->base.db->name,
                       mode, answer);
        return false;
    }
    return true;
}

static bool check_log(pier__sqlite_conn *conn)
{
    char mode[16];
    if (!conn->base.db->settings.readers) {
        return true;
    }
    if (!run_pragma(conn, "pragma journal_mode", mode, sizeof mode)) {
        return false;
    }
    if (strcmp(mode, "wal")) {
        pier_error_set(&conn->failure, PIER_EINVAL,
                       "%s: readers need a write-ahead log, and the file has the journal mode %s; "
                       "add journal_mode=wal (which stays) to the URL, or preset=service, or leave "
                       "readers out",
                       conn->base.db->name, mode);
        return false;
    }
    if (pier__sqlite_has_wal_reset_bug(sqlite3_libversion_number())) {
        pier__log(
            PIER_LOG_WARNING,
            "%s: SQLite %s has the WAL-reset bug (fixed in 3.51.3, 3.50.7 and 3.44.6): let no "
            "other process write to this file",
            conn->base.db->name, sqlite3_libversion());
    }
    return true;
}

static bool allow_extensions(pier__sqlite_conn *conn)
{
#ifndef SQLITE_OMIT_LOAD_EXTENSION
    int code = sqlite3_enable_load_extension(conn->sqlite, 1);
    return code == SQLITE_OK || pier__sqlite_fail(conn, code, "", "");
#else
    pier_error_set(&conn->failure, PIER_EINVAL, "this SQLite was built without extensions");
    return false;
#endif
}

bool pier__sqlite_set_up(pier__sqlite_conn *conn)
{
    const pier__sqlite_setup *setup = &((const pier__sqlite_db *)conn->base.db)->setup;
    if (setup->extensions && !allow_extensions(conn)) {
        return false;
    }
    if (pier__sqlite_is_reader(conn)) {
        return true;
    }
    return set_journal_mode(conn, setup->journal_mode) &&
           set_word(conn, "synchronous", setup->synchronous) &&
           set_word(conn, "foreign_keys", setup->foreign_keys) &&
           set_number(conn, "journal_size_limit", setup->journal_size_limit) &&
           set_number(conn, "wal_autocheckpoint", setup->wal_autocheckpoint) && check_log(conn);
}

bool pier__sqlite_check_file(pier__sqlite_conn *conn)
{
    int moved = 0;
    int code = sqlite3_file_control(conn->sqlite, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    if (code != SQLITE_OK || !moved) {
        return true; /* or it has no file, or a VFS that cannot tell */
    }
    atomic_fetch_add(&((pier__sqlite_db *)conn->base.db)->generation, 1);
    conn->base.dead = true;
    pier_error_set(&conn->failure, PIER_EIO,
                   "%s: the file was deleted or replaced while it was open; the next request opens "
                   "it anew",
                   conn->base.db->name);
    return false;
}

bool pier__sqlite_has_wal_reset_bug(int version)
{
    int branch = version / 1000;
    int patch = version % 1000;
    if (branch == 3044) {
        return patch < 6;
    }
    if (branch == 3050) {
        return patch < 7;
    }
    return version >= 3007000 && version < 3051003;
}
