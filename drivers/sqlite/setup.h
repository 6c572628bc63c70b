#ifndef PIER_DRIVERS_SQLITE_SETUP_H
#define PIER_DRIVERS_SQLITE_SETUP_H
/*
 * What is done to a new connection beyond opening it, and what is known of SQLite's versions.
 */
#include "drivers/sqlite/connection.h"

/* Sets what the URL asks for, and makes sure that readers find a write-ahead log. False: the
 * connection's failure is filled. */
bool pier__sqlite_set_up(pier__sqlite_conn *conn);

/* Is the file that was opened still there? Asked before it is written: SQLite itself goes on
 * writing to a deleted file that has a write-ahead log. False: the connection's failure is filled,
 * and it will not be used again. */
bool pier__sqlite_check_file(pier__sqlite_conn *conn);

/* Does this version of SQLite (sqlite3_libversion_number) have the bug by which a write-ahead log
 * that two connections checkpoint and reset at once may corrupt the database? Since 3.7.0; fixed in
 * 3.51.3, and in 3.50.7 and 3.44.6 for those who stay there. */
bool pier__sqlite_has_wal_reset_bug(int version);

#endif
