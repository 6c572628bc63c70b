#ifndef PIER_DRIVERS_SQLITE_REQUEST_H
#define PIER_DRIVERS_SQLITE_REQUEST_H
/*
 * Requests: what the SDK asks of a connection.
 */
#include "drivers/sqlite/connection.h"

void pier__sqlite_run_step(pier__db_op *op, unsigned events);

/* Takes a statement with its arguments bound; pier__sqlite_cache_give gives it back. NULL: the
 * connection's failure is filled. */
pier__sqlite_statement *pier__sqlite_statement_begin(pier__sqlite_conn *conn, const char *sql,
                                                     size_t size, const pier_args *args);
/* Takes one of the user's as far as the scope and the connection allow it, without arguments. */
pier__sqlite_statement *pier__sqlite_statement_take_in(pier__sqlite_conn *conn,
                                                       const pier_db *scope, const char *sql,
                                                       size_t size);
/* The same for a statement of the user's, which a scope or a reader may not allow. */
pier__sqlite_statement *pier__sqlite_statement_begin_in(pier__sqlite_conn *conn,
                                                        const pier_db *scope, const char *sql,
                                                        size_t size, const pier_args *args);

/* Runs a statement to its end; false: the connection's failure is filled. */
bool pier__sqlite_step_through(pier__sqlite_conn *conn, sqlite3_stmt *stmt, const char *script,
                               const char *sql);
/* How many rows the last statement has changed, given the total before it. */
int64_t pier__sqlite_count_changes(pier__sqlite_conn *conn, int64_t total_before);
/* Runs statements of the SDK's own, with semicolons between them and nowhere else. */
bool pier__sqlite_run_own(pier__sqlite_conn *conn, const char *sql);

#endif
