#ifndef PIER_DRIVERS_SQLITE_CURSOR_H
#define PIER_DRIVERS_SQLITE_CURSOR_H
/*
 * Cursors: a statement that stands between two rows while other requests use the connection.
 */
#include "drivers/sqlite/connection.h"

typedef struct pier__sqlite_cursor {
    pier_cursor base;                  /* first */
    pier__sqlite_statement *statement; /* shared with the connection; NULL before and after */
    pier__sqlite_names *names;         /* from the first block on */
    struct pier__sqlite_dump *dump;    /* its rows are a dump; NULL: a statement's */
    size_t rows_max;                   /* of the next block; 0: there was none yet */
} pier__sqlite_cursor;

/* In the work of a request: false, and the connection's failure is filled. */
bool pier__sqlite_cursor_block(pier__sqlite_conn *conn, pier__db_op *op);
void pier__sqlite_cursor_close(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor);
/* Adds a statement to those that are held, with a reference for the holder; gives it back. */
void pier__sqlite_hold(pier__sqlite_conn *conn, pier__sqlite_statement *statement);
void pier__sqlite_unhold(pier__sqlite_conn *conn, pier__sqlite_statement *statement);
/* Takes back the statements of cursors that were freed without a close. */
void pier__sqlite_cursors_reclaim(pier__sqlite_conn *conn);

void pier__sqlite_cursor_fini(pier_cursor *base);

#endif
