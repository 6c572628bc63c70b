#ifndef PIER_DRIVERS_SQLITE_DUMP_H
#define PIER_DRIVERS_SQLITE_DUMP_H
/*
 * Dumps: a cursor whose rows are the statements that make the database anew.
 */
#include "drivers/sqlite/cursor.h"

typedef struct pier__sqlite_dump pier__sqlite_dump;

/* In the work of a request: collects the next statements into the connection's builder; sets
 * cursor->base.ended at the end. False: the connection's failure is filled. */
bool pier__sqlite_dump_collect(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor);
/* The same: ends its statements, and its transaction where it began one. */
void pier__sqlite_dump_end(pier__sqlite_conn *conn, pier__sqlite_dump *dump);
/* Memory only. NULL is harmless. */
void pier__sqlite_dump_free(pier__sqlite_dump *dump);

#endif
