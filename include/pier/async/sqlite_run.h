#ifndef PIER_ASYNC_SQLITE_RUN_H
#define PIER_ASYNC_SQLITE_RUN_H
/*
 * SQLite only: a function that runs on the connection itself, and what SQLite knows of columns and
 * plans.
 */
#include <pier/async/db.h>
#include <pier/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* SQLite's own handle; see sqlite3.h. */
struct sqlite3;

/*
 * Runs on a connection. 0 or more is success; a negative pier_status is failure, for which `err`
 * is filled with SQLite's last error where the function has left it empty.
 *
 * It must leave the connection as it found it: the same transaction open or none, its statements
 * finalized, no handler or hook set. It must not keep `sqlite`, nor use Pier on this connection:
 * PIER_EDEADLOCK. A deadline or a cancel interrupts the statement that it steps.
 */
typedef int (*pier_sqlite_run_fn)(struct sqlite3 *sqlite, void *arg, pier_error *err);

/**
 * Runs a function on the connection, in one hop: a whole transaction, a loop over thousands of
 * statements, or something for which Pier has no function.
 *
 * @param db   borrowed until the future has settled
 * @param fn   borrowed until the future has settled: called on the calling thread; of the
 *             asynchronous form, and in a task, on a thread of the connection's own
 * @param arg  shared: handed to `fn`, must live until `fn` has returned: a task that is cancelled
 *             does not wait for that
 * @return owned: the future of what `fn` returned
 *
 * Errors: those of `fn`; PIER_EINVAL when it has left a transaction or statements open, which have
 * then been rolled back and finalized, or has ended the transaction that it was called in.
 * Threads: any. Mirrors: tokio-rusqlite `Connection::call`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_run_async(pier_db *db, pier_sqlite_run_fn fn, void *arg);

/* What SQLite knows of a column. */
typedef struct pier_sqlite_column_info {
    const char *type;      /* as declared; "" where none was. Borrowed until it is freed */
    const char *collation; /* "BINARY", "NOCASE", ... Borrowed until it is freed */
    bool not_null;
    bool primary_key; /* alone or among others */
    bool autoincrement;
} pier_sqlite_column_info;

/**
 * Says what SQLite knows of a column.
 *
 * @param db      borrowed until the future has settled
 * @param table   copied: of the database "main", or of another in which it is found
 * @param column  copied
 * @return owned: the future of a `pier_sqlite_column_info *`, freed by pier_sqlite_column_info_free
 *
 * Errors: PIER_ESQL: there is no such table or column, or it is a view.
 * Threads: any. Mirrors: `sqlite3_table_column_metadata`.
 */
PIER_SYNC(pier_sqlite_column_info *)
PIER_API pier_future *pier_sqlite_column_async(pier_db *db, const char *table, const char *column);

/**
 * Frees what pier_sqlite_column gave.
 *
 * @param info  taken: NULL is harmless
 *
 * Threads: any, once.
 */
PIER_API void pier_sqlite_column_info_free(pier_sqlite_column_info *info);

/**
 * Says how SQLite would run a statement, as a small tree of text:
 *
 *     QUERY PLAN
 *     |--SEARCH t USING INTEGER PRIMARY KEY (rowid=?)
 *     `--SCAN u
 *
 * @param db   borrowed until the future has settled
 * @param sql  copied: one statement; it is not run, so its arguments need no values
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free: text in UTF-8 with a
 *         zero byte behind it, which `size` does not count
 *
 * Errors: PIER_ESQL, PIER_EINVAL (more than one statement).
 * Threads: any. Mirrors: EXPLAIN QUERY PLAN in the sqlite3 shell.
 */
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_sqlite_explain_async(pier_db *db, const char *sql);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_sqlite_column_info, pier_sqlite_column_info_free)
#endif
#endif
