#ifndef PIER_DRIVERS_SQLITE_OWN_H
#define PIER_DRIVERS_SQLITE_OWN_H
/*
 * Requests that only this driver has (PIER__OWN): each brings the function that does its work.
 */
#include "drivers/sqlite/connection.h"

typedef struct pier__sqlite_own {
    pier__db_op base; /* first */
    /* The work, with the connection's turn, on whichever thread does it. False: the connection's
     * failure is filled. The result goes to base.count, block or product. */
    bool (*run)(pier__sqlite_conn *conn, struct pier__sqlite_own *own);
} pier__sqlite_own;

#endif
