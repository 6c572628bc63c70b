#ifndef PIER_DRIVERS_SQLITE_BATCH_H
#define PIER_DRIVERS_SQLITE_BATCH_H
/*
 * Batches of committed changes, and who has subscribed to them.
 */
#include "drivers/sqlite/registry.h"

/* Hands what the connection has collected to all subscribers of the pool. */
void pier__sqlite_batch_deliver(struct pier__sqlite_conn *conn);

#endif
