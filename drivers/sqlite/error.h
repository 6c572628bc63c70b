#ifndef PIER_DRIVERS_SQLITE_ERROR_H
#define PIER_DRIVERS_SQLITE_ERROR_H
/*
 * SQLite's failures as errors of Pier.
 */
#include "sdk/error.h"
#include <sqlite3.h>

/* The pier_status for a result code, extended or not. */
int pier__sqlite_status(int code);

/*
 * Fills `err` (not NULL) from the connection's last failure, before anything else is called on it.
 * `script` is where positions count from, and `sql` the statement in it that failed.
 */
void pier__sqlite_error(pier_error *err, sqlite3 *sqlite, int code, const char *script,
                        const char *sql);

/* Adds to the message of an error, as far as there is room. */
void pier__sqlite_error_append(pier_error *err, const char *text);

#endif
