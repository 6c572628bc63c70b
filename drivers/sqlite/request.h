#ifndef PIER_SQLITE_REQUEST_H
#define PIER_SQLITE_REQUEST_H
/*
 * Requests: what the SDK asks of a connection.
 */
#include "drivers/sqlite/connection.h"

void pier__sqlite_run_step(pier__db_op *op, unsigned events);

/* Takes a statement with its arguments bound; pier__sqlite_cache_give gives it back. NULL: the
 * connection's failure is filled. */
pier__sqlite_statement *pier__sqlite_statement_begin(pier__sqlite_conn *conn, const char *sql,
                                                     size_t size, const pier_args *args);
/* The same for a statement of the user's, which a scope or a reader may not allow. */
pier__sqlite_statement *pier__sqlite_statement_begin_in(pier__sqlite_conn *conn,
                                                        const pier_db *scope, const char *sql,
                                                        size_t size, const pier_args *args);

#endif
