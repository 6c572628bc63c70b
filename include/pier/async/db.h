#ifndef PIER_ASYNC_DB_H
#define PIER_ASYNC_DB_H
/*
 * Databases. A `pier_db` is a scope in which SQL runs: a pool, a connection leased from it, or a
 * transaction; every function here takes any of the three. The blocking functions are in pier/db.h.
 *
 * Arguments are written $1, $2, ... for both databases. A failed statement dooms its transaction,
 * on both, until it is rolled back to a savepoint or out.
 */
#include <pier/future.h>
#include <pier/row.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_db pier_db;
typedef struct pier_cursor pier_cursor;

typedef struct pier_db_options {
    size_t struct_size; /* set by PIER_DB_OPTIONS */
    int pool_max;       /* connections at most; 0: 10. SQLite has one that writes, whatever this
                           says, and the `readers` of its URL: see pier/sqlite.h */
    int64_t acquire_timeout_ms; /* wait for a free connection, then PIER_EPOOL; 0: 30,000 */
    int64_t connect_timeout_ms; /* name lookup to first query; 0: 30,000 */
} PIER_DESIGNATED pier_db_options;

/* pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 8), &err) */
#define PIER_DB_OPTIONS(...)                                                                       \
    (&(const pier_db_options){.struct_size = sizeof(pier_db_options), __VA_ARGS__})

typedef enum pier_isolation {
    PIER_ISOLATION_DEFAULT = 0,
    PIER_READ_COMMITTED = 1,
    PIER_REPEATABLE_READ = 2,
    PIER_SERIALIZABLE = 3
} pier_isolation;

/* SQLite: when a transaction that may write takes the lock that allows it. */
typedef enum pier_tx_lock {
    PIER_TX_IMMEDIATE = 0, /* when it begins; so it waits its turn, and then cannot fail for it */
    PIER_TX_DEFERRED = 1,  /* with its first write, which fails at once with PIER_EBUSY where
                              somebody else has written meanwhile */
    PIER_TX_EXCLUSIVE = 2  /* when it begins, and without a write-ahead log keeps readers out too */
} pier_tx_lock;

typedef struct pier_tx_options {
    size_t struct_size; /* set by PIER_TX_OPTIONS */
    int isolation;      /* a pier_isolation; SQLite is always serializable */
    bool read_only;     /* SQLite: sees one state of the database, from its beginning on */
    int attempts;       /* of pier_db_transaction, on PIER_ESERIALIZATION and PIER_EBUSY; 0: 1 */
    int lock;           /* a pier_tx_lock; only SQLite has a choice */
} PIER_DESIGNATED pier_tx_options;

/* pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), &err) */
#define PIER_TX_OPTIONS(...)                                                                       \
    (&(const pier_tx_options){.struct_size = sizeof(pier_tx_options), __VA_ARGS__})

/* A pool's figures, for pier_db_stats. The counts are from its opening on. */
typedef struct pier_pool_stats {
    int max;     /* connections at most */
    int size;    /* connections now, those that are being made included */
    int idle;    /* nobody has them */
    int leased;  /* somebody does: a request, a cursor, a lease, a transaction */
    int waiting; /* requests that wait for one */
    int unused;
    int64_t made;     /* connections */
    int64_t lost;     /* connections that broke, or were not fit to be used again */
    int64_t acquires; /* requests for a connection */
    int64_t waits;    /* those of them that had to wait */
    int64_t wait_total_us, wait_max_us; /* how long, of those whose wait is over */
    int64_t reserved[8];                /* 0 */
} pier_pool_stats;

/* The body of pier_db_transaction. A negative return rolls back. It may be called again after a
 * serialization failure, so it must not change anything but the database. */
typedef int (*pier_tx_fn)(pier_db *tx, void *arg, pier_error *err);

/**
 * Opens a pool of connections to a database and makes sure of the first one.
 *
 * URLs: `sqlite:path`, `sqlite::memory:`, `postgresql://user@host:port/name?key=value`.
 *
 * @param runner   borrowed until the database is closed
 * @param url      copied: its password appears in no message
 * @param options  copied: NULL for the defaults
 * @return owned: the future of a `pier_db *`, ended by pier_db_close
 *
 * Errors: PIER_ECONNECT, PIER_EINVAL (the URL), PIER_EIO (the file).
 * Threads: any. Mirrors: asyncpg `create_pool`, `aiosqlite.connect`.
 */
PIER_SYNC(pier_db *)
PIER_API pier_future *pier_db_open_async(pier_runner *runner, const char *url,
                                         const pier_db_options *options);

/**
 * Leases a connection for several statements: session settings, temporary tables.
 *
 * @param db  borrowed until the lease is closed: a pool
 * @return owned: the future of a `pier_db *`, given back by pier_db_close
 *
 * Errors: PIER_EPOOL, PIER_EDEADLOCK when only leases of the caller's own could become free.
 * Threads: any. Mirrors: asyncpg `Pool.acquire`.
 */
PIER_SYNC(pier_db *)
PIER_API pier_future *pier_db_lease_async(pier_db *db);

/**
 * Begins a transaction on a connection of its own; inside a transaction, a savepoint.
 *
 * @param db       borrowed until the transaction is closed
 * @param options  copied: NULL for the defaults; ignored for a savepoint
 * @return owned: the future of a `pier_db *`, ended by pier_db_close, which rolls back what was not
 *         committed
 *
 * Errors: PIER_EPOOL, PIER_EBUSY, PIER_EDEADLOCK when only leases of the caller's own could become
 * free.
 * Threads: any. Mirrors: asyncpg `Connection.transaction`.
 */
PIER_SYNC(pier_db *)
PIER_API pier_future *pier_db_begin_async(pier_db *db, const pier_tx_options *options);

/**
 * Commits a transaction, or releases a savepoint. It does not free it. When a statement had failed
 * in it, it is rolled back instead and that statement's error is reported.
 *
 * @param tx  borrowed until the future has settled
 * @return owned: the future of 0
 *
 * Errors: PIER_ESERIALIZATION, PIER_ECONSTRAINT (deferred), PIER_EINVAL (not a transaction, ended).
 * Threads: any.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_db_commit_async(pier_db *tx);

/**
 * Ends a pool, a lease or a transaction and frees it. A transaction that was not committed is
 * rolled back. The ambient scope does not cut this short; it has a bound of its own.
 *
 * @param db  taken: NULL is harmless
 * @return owned: the future of nothing
 *
 * Threads: any, once.
 */
PIER_SYNC(void)
PIER_API pier_future *pier_db_close_async(pier_db *db);

/**
 * Runs a statement and drops its rows.
 *
 * @param db    borrowed until the future has settled
 * @param sql   copied: one statement
 * @param args  copied: from PIER_ARGS, or NULL for none
 * @return owned: the future of the number of rows that it changed
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: asyncpg and aiosqlite `execute`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_db_execute_async(pier_db *db, const char *sql, const pier_args *args);

/**
 * Runs several statements, without arguments, on one connection.
 *
 * @param db   borrowed until the future has settled
 * @param sql  copied: statements with semicolons between them
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL; the statements before the one that failed have run.
 * Threads: any. Mirrors: aiosqlite `executescript`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_db_execute_script_async(pier_db *db, const char *sql);

/**
 * Runs a statement and collects all its rows.
 *
 * @param db    borrowed until the future has settled
 * @param sql   copied: one statement
 * @param args  copied: from PIER_ARGS, or NULL for none
 * @return owned: the future of a `pier_result *`, freed by pier_result_free
 *
 * Errors: PIER_ESQL, PIER_ETIMEDOUT, PIER_ENOMEM.
 * Threads: any. Mirrors: asyncpg `fetch`, aiosqlite `execute_fetchall`.
 */
PIER_SYNC(pier_result *)
PIER_API pier_future *pier_db_fetch_async(pier_db *db, const char *sql, const pier_args *args);

/**
 * Runs a statement and reads its first row into variables.
 *
 * @param db    borrowed until the call returns
 * @param sql   borrowed until the call returns: one statement
 * @param args  borrowed until the call returns: from PIER_ARGS, or NULL for none
 * @param into  borrowed until the call returns: from PIER_INTO; a `char *` in it becomes yours
 * @param err   borrowed until the call returns: filled on failure, or NULL
 * @return 1: read; 0: there was no row, and no variable was written; a negative pier_status
 *
 * Errors: PIER_ESQL, PIER_ETYPE, PIER_ERANGE.
 * Threads: any; a task suspends. Mirrors: asyncpg `fetchrow`.
 */
PIER_API int pier_db_fetch_into(pier_db *db, const char *sql, const pier_args *args,
                                const pier_intos *into, pier_error *err) PIER_CHECKED;

/**
 * Reads the figures of a pool. On SQLite with readers they are those of the readers and the writer
 * together.
 *
 * @param db     borrowed until the call returns: a pool, or any scope in it; NULL has none
 * @param stats  borrowed until the call returns: overwritten, with zeros for NULL
 *
 * Threads: any, also on the loop thread. Mirrors: asyncpg `Pool.get_size`, `get_idle_size`.
 */
PIER_API void pier_db_stats(pier_db *db, pier_pool_stats *stats);

/**
 * Runs a function in a transaction: commits when it returns 0 or more, else rolls back. Where it is
 * tried again, a short wait comes in between, of 64 ms at most.
 *
 * @param db       borrowed until the call returns
 * @param options  borrowed until the call returns: `attempts` says how often it is tried
 * @param fn       borrowed until the call returns: called on the calling thread or task
 * @param arg      shared: handed to `fn`
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return what `fn` returned; a negative pier_status
 *
 * Threads: any; a task suspends.
 */
PIER_API int pier_db_transaction(pier_db *db, const pier_tx_options *options, pier_tx_fn fn,
                                 void *arg, pier_error *err) PIER_CHECKED;

/**
 * Prepares to read the rows of a statement as they come. Nothing is sent before the first block is
 * asked for. What fails later is reported by pier_cursor_close.
 *
 * @param db    borrowed until the cursor is closed
 * @param sql   copied: one statement
 * @param args  copied: from PIER_ARGS, or NULL for none
 * @param err   borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_cursor_close; NULL on failure
 *
 * Threads: any, also on the loop thread. Mirrors: asyncpg `Connection.cursor`.
 */
PIER_API pier_cursor *pier_db_cursor(pier_db *db, const char *sql, const pier_args *args,
                                     pier_error *err);

/**
 * Fetches the next block of rows.
 *
 * @iterator pier_cursor_next
 * Gives the next row, fetching blocks as they are needed. A failure ends the rows and is reported
 * by pier_cursor_close.
 *
 * @param cursor  borrowed until the future has settled
 * @return owned: the future of a `pier_result *`, freed by pier_result_free; one without rows is
 * the end
 *
 * Errors: PIER_ESQL, PIER_ETIMEDOUT.
 * Threads: any, one at a time. Mirrors: asyncpg `Cursor.fetch`.
 */
PIER_SYNC_ITERATOR(pier_cursor_next, const pier_row *)
PIER_SYNC(pier_result *)
PIER_API pier_future *pier_cursor_block_async(pier_cursor *cursor);

/**
 * Finds a column by its name; runs the statement where that has not been done.
 *
 * @param cursor  borrowed until the call returns
 * @param name    borrowed until the call returns
 * @return its number; -1 where there is none, which pier_cursor_close reports
 *
 * Threads: any; a task suspends.
 */
PIER_API int pier_cursor_column(pier_cursor *cursor, const char *name);

/**
 * Ends a cursor, wherever it stands, frees it and reports what failed: the statement, a block, a
 * getter on one of its rows.
 *
 * @param cursor  taken: NULL passes through
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL, PIER_ETYPE, PIER_ERANGE.
 * Threads: any, once.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_cursor_close_async(pier_cursor *cursor);

#ifdef __cplusplus
}
#endif
#endif
