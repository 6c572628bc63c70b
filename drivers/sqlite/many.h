#ifndef PIER_DRIVERS_SQLITE_MANY_H
#define PIER_DRIVERS_SQLITE_MANY_H
/*
 * A statement for many rows, and what is known of a statement before it runs. In the work of a
 * request: false, and the connection's failure is filled.
 */
#include "drivers/sqlite/connection.h"

/* op->rows: all of them or none, where no transaction of the SDK's is around them. */
bool pier__sqlite_execute_many(pier__sqlite_conn *conn, pier__db_op *op);
/* op->sql -> op->product. */
bool pier__sqlite_describe(pier__sqlite_conn *conn, pier__db_op *op);

#endif
