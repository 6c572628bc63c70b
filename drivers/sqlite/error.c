/*
 * Mapping result codes to statuses, and composing messages: what SQLite says, what to do, and the
 * beginning of the statement. Values of arguments are never in them.
 */
#include "drivers/sqlite/error.h"

#include "drivers/sqlite/sql.h"
#include <stdio.h>
#include <string.h>

int pier__sqlite_status(int code)
{
#ifdef SQLITE_CONSTRAINT_DATATYPE
    if (code == SQLITE_CONSTRAINT_DATATYPE) { /* of a STRICT table */
        return PIER_ETYPE;
    }
#endif
    switch (code & 0xFF) {
    case SQLITE_CONSTRAINT:
        return PIER_ECONSTRAINT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return PIER_EBUSY;
    case SQLITE_INTERRUPT:
        return PIER_ECANCELLED;
    case SQLITE_NOMEM:
        return PIER_ENOMEM;
    case SQLITE_CANTOPEN:
    case SQLITE_IOERR:
    case SQLITE_FULL:
    case SQLITE_READONLY:
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_PERM:
    case SQLITE_PROTOCOL:
    case SQLITE_NOLFS:
        return PIER_EIO;
    case SQLITE_TOOBIG:
    case SQLITE_RANGE:
        return PIER_ERANGE;
    case SQLITE_MISMATCH:
        return PIER_ETYPE;
    default:
        return PIER_ESQL;
    }
}

/* What to do, where SQLite's own message leaves one wondering. */
static const char *remedy(int code, const char *message)
{
    switch (code) {
    case SQLITE_BUSY_SNAPSHOT:
        return " (another connection has written since this transaction began to read; begin it "
               "without read_only)";
    case SQLITE_LOCKED:
        return " (a cursor of this connection is still open on it; close it first)";
    default:
        break;
    }
    if ((code & 0xFF) == SQLITE_BUSY && !strcmp(message, "database is locked")) {
        return " (by another connection or process; see busy_timeout_ms)";
    }
    return "";
}

/* "UNIQUE constraint failed: t.a", "CHECK constraint failed: name", ...: what stands behind. */
static void fill_constraint(pier_error *err, const char *message)
{
    static const char failed[] = "constraint failed: ";
    const char *name = strstr(message, failed);
    if (name) {
        snprintf(err->constraint, sizeof err->constraint, "%s", name + sizeof failed - 1);
    }
}

static void fill_position(pier_error *err, sqlite3 *sqlite, const char *script, const char *sql)
{
#if SQLITE_VERSION_NUMBER >= 3038000
    int offset = sqlite3_error_offset(sqlite);
    if (offset >= 0) {
        char text[24];
        size_t bytes = (size_t)(sql - script) + (size_t)offset;
        snprintf(text, sizeof text, "%zu", pier__sqlite_sql_position(script, bytes));
        pier__error_add_field(err, PIER_FIELD_POSITION, text);
    }
#else
    (void)err, (void)sqlite, (void)script, (void)sql;
#endif
}

void pier__sqlite_error(pier_error *err, sqlite3 *sqlite, int code, const char *script,
                        const char *sql)
{
    /* A failure of ours, for want of memory, is not the connection's last one. */
    bool known = sqlite && sqlite3_extended_errcode(sqlite) == code;
    const char *message = known ? sqlite3_errmsg(sqlite) : sqlite3_errstr(code);
    char excerpt[PIER__SQLITE_EXCERPT];
    pier__sqlite_sql_excerpt(excerpt, sql);
    pier_error_set(err, pier__sqlite_status(code), "%.200s%s%s%s", message, remedy(code, message),
                   *excerpt ? ": " : "", excerpt);
    err->origin = PIER_ORIGIN_SQLITE;
    err->native = code;
    if (err->status == PIER_ECONSTRAINT) {
        fill_constraint(err, message);
    }
    if (known) {
        fill_position(err, sqlite, script, sql);
    }
}

void pier__sqlite_error_append(pier_error *err, const char *text)
{
    size_t length = strlen(err->message);
    snprintf(err->message + length, sizeof err->message - length, "%s", text);
}
