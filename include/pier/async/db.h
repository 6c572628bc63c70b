#ifndef PIER_ASYNC_DB_H
#define PIER_ASYNC_DB_H
/*
 * Databases. A `pier_db` is a scope in which SQL runs: a pool, a connection leased from it, or a
 * transaction; every function here takes any of the three. The blocking functions are in pier/db.h.
 *
 * Arguments are written $1, $2, ... or by name, :name or $name, and given with PIER_ARGS or with
 * PIER_NAMED. SQLite knows @name as well; in Postgres @ is an operator. A name there is only what
 * Postgres itself could not read: `a[1:n]` is a slice, `a[(:n)]` has an argument
 * (docs/postgres.md). A failed statement dooms its transaction, on both, until it is rolled back to
 * a savepoint or out.
 */
#include <pier/future.h>
#include <pier/row.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_db pier_db;
typedef struct pier_cursor pier_cursor;
typedef struct pier_statement pier_statement;
typedef struct pier_writer pier_writer;

/* When a connection is reset that goes back to the pool: what SET, set_config, SET ROLE, advisory
 * locks, LISTEN, temporary tables, cursors and PREPARE have left in its session is undone. It is
 * sent when the connection is given back, and nobody waits for the answer but who borrows it next.
 */
typedef enum pier_reset {
    PIER_RESET_DEFAULT = 0, /* after each lease, and after statements that may have changed the
                               session by what they say: anything but plain select, insert, update,
                               delete and the like, and all calls of functions that are not known to
                               be harmless. What a trigger, a view or an operator changes does not
                               show there */
    PIER_RESET_ALWAYS = 1,  /* after each use: makes small queries several times as slow */
    PIER_RESET_NONE = 2     /* never: for those who promise, for poolers in transaction mode, and
                               for servers that do not know the statements */
} pier_reset;

/*
 * A function of yours on a connection of a pool. It runs as a task on the loop, so it may call
 * anything that a task may; queries on `connection`, which it must not close, and which is borrowed
 * until it returns. A negative return discards the connection.
 */
typedef int (*pier_db_hook)(pier_db *connection, void *user_data, pier_error *err);

typedef struct pier_db_options {
    size_t struct_size; /* set by PIER_DB_OPTIONS */
    int pool_max;       /* connections at most; 0: 10. SQLite has one that writes, whatever this
                           says, and the `readers` of its URL: see pier/sqlite.h */
    int64_t acquire_timeout_ms; /* wait for a free connection, then PIER_EPOOL; 0: 30,000 */
    int64_t connect_timeout_ms; /* name lookup to first query; 0: 30,000 */
    /* Postgres; SQLite keeps the connections that it has made. Pauses between 25 and 600 ms come
     * between attempts to connect after one has failed, whoever asks. */
    int pool_min;            /* connections to have, also when nobody asks for them; made, and made
                                again when they are lost, in the background. 0: none */
    int uses_max;            /* a connection is replaced after so many; 0: 50,000, PIER_NONE: any */
    int64_t idle_timeout_ms; /* unused for longer, those above pool_min are closed; 0: 300,000 */
    int64_t lifetime_ms;     /* older than this, less up to a tenth by chance, it is replaced; 0:
                                3,600,000 */
    int reset;               /* a pier_reset; SQLite has no use for it */
    /* Both. */
    int waiting_max;      /* more requests than this may not wait for a connection: they fail at
                             once with PIER_EPOOL. 0: any number may, PIER_NONE: nobody may */
    pier_db_hook init;    /* runs once on each new connection; NULL: none */
    pier_db_hook setup;   /* runs each time that one is borrowed, before what it is borrowed for */
    pier_db_hook cleanup; /* runs each time that one is given back, after its rollback */
    void *hook_data;      /* shared: handed to all three */
    /* What only Postgres has: from PIER_POSTGRES_OPTIONS (pier/postgres.h), copied; NULL: none. */
    const struct pier_postgres_options *postgres;
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
    bool deferrable;    /* of one that is serializable and read only: Postgres lets its first
                           statement wait until it can see a state in which nothing can fail */
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
    int64_t lost;     /* connections that broke, could not be made, or were not fit to be used
                         again */
    int64_t acquires; /* requests for a connection */
    int64_t waits;    /* those of them that had to wait */
    int64_t wait_total_us, wait_max_us; /* how long, of those whose wait is over */
    int64_t failed;                     /* attempts to connect that failed */
    int64_t refused;                    /* requests, because of waiting_max */
    int64_t resets;                     /* of connections that were given back */
    int64_t retired;     /* connections closed because of idle_timeout_ms, lifetime_ms, uses_max or
                            pier_db_expire */
    int64_t idle_ended;  /* those of them that had been idle */
    int64_t reserved[3]; /* 0 */
} pier_pool_stats;

/* The body of pier_db_transaction. A negative return rolls back. It may be called again after a
 * serialization failure, so it must not change anything but the database. */
typedef int (*pier_tx_fn)(pier_db *tx, void *arg, pier_error *err);

/**
 * Opens a pool of connections to a database and makes sure of the first one.
 *
 * URLs: `sqlite:path`, `sqlite::memory:`, `postgresql://user@host:port/name?key=value`. Beside the
 * keys of libpq there are `pier_statement_cache=100`, how many statements each connection keeps
 * prepared (0: none), and `pier_statements=unnamed` for a PgBouncer in transaction mode: nothing is
 * prepared by name, and the session, which is another one's too, is not reset. (From 1.21 on it can
 * keep prepared statements itself, with max_prepared_statements; then PIER_RESET_NONE is enough.)
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
 * rolled back. The end of a pool waits for nobody: what is in use goes on, and is closed when it is
 * given back; pier_db_drain waits. The ambient scope does not cut this short; it has a bound of its
 * own.
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
 * The number of rows is that of an insert, update or delete, with or without `returning`; what
 * triggers and foreign keys change besides does not count, and all else has changed 0.
 *
 * @param db    borrowed until the future has settled
 * @param sql   copied: one statement
 * @param args  copied: from PIER_ARGS or PIER_NAMED, or NULL for none
 * @return owned: the future of the number of rows that it changed
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: asyncpg and aiosqlite `execute`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_db_execute_async(pier_db *db, const char *sql, const pier_args *args);

/**
 * Runs an insert and gives the row id of the row that it inserted last; of a table that has a
 * column `integer primary key` that is the row id. SQLite only: elsewhere use `returning`.
 *
 * It is 0 where nothing was inserted: another statement, `or ignore`. SQLite keeps no row id of a
 * table WITHOUT ROWID, nor of an upsert that updated: then it is that of the insert before, and
 * `returning` is exact. Where row ids may be negative, only `err` tells one from a failure.
 *
 * @param db    borrowed until the future has settled
 * @param sql   copied: one statement
 * @param args  copied: from PIER_ARGS or PIER_NAMED, or NULL for none
 * @return owned: the future of the row id
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_EINVAL (Postgres).
 * Threads: any. Mirrors: aiosqlite `execute_insert`, `sqlite3_last_insert_rowid`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_db_insert_async(pier_db *db, const char *sql, const pier_args *args);

/**
 * Runs a statement once for each row of arguments: all of them or none, in a transaction of its own
 * unless it runs in one, which it then dooms by failing. What goes wrong names the row, from 1. On
 * Postgres all rows are sent in one go, and take one round trip.
 *
 * @param db         borrowed until the future has settled
 * @param sql        copied: one statement
 * @param rows       copied: the arguments of each row; `*PIER_ARGS(...)` is one
 * @param row_count  how many
 * @return owned: the future of the number of rows changed, of all together
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: asyncpg and aiosqlite `executemany`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_db_execute_many_async(pier_db *db, const char *sql,
                                                 const pier_args *rows, size_t row_count);

/**
 * Runs several statements, without arguments, on one connection.
 *
 * @param db   borrowed until the future has settled
 * @param sql  copied: statements with semicolons between them
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL. On SQLite the statements before the one that failed have run. On Postgres they
 * are all one transaction, unless there are `begin` and `commit` among them.
 * Threads: any. Mirrors: aiosqlite `executescript`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_db_execute_script_async(pier_db *db, const char *sql);

/**
 * Runs a statement and collects all its rows.
 *
 * @param db    borrowed until the future has settled
 * @param sql   copied: one statement
 * @param args  copied: from PIER_ARGS or PIER_NAMED, or NULL for none
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
 * @param args  borrowed until the call returns: from PIER_ARGS or PIER_NAMED, or NULL for none
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
 * Has all connections of a pool replaced: those that nobody uses are closed now, the others when
 * they are given back. For a server that has got another role, or a password that has changed.
 * SQLite keeps its connections.
 *
 * @param db  borrowed until the call returns: a pool, or any scope in it; NULL is harmless
 *
 * Threads: any, also on the loop thread. Mirrors: asyncpg `Pool.expire_connections`.
 */
PIER_API void pier_db_expire(pier_db *db);

/**
 * Closes a pool for new requests, which fail with PIER_ECLOSED, and waits until the last connection
 * has been given back and closed. Leases and transactions that there are go on to their ends. Then,
 * or after a failure, pier_db_close frees it. (pier_db_close alone does not wait for them.)
 *
 * @param db          borrowed until the future has settled: a pool
 * @param timeout_ms  how long to wait at most; 0: 30,000, PIER_FOREVER: as the scope says
 * @return owned: the future of 0
 *
 * Errors: PIER_ETIMEDOUT, which says what is in use; PIER_EINVAL (not a pool).
 * Threads: any. Mirrors: asyncpg `Pool.close`.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_db_drain_async(pier_db *db, int64_t timeout_ms);

/**
 * Runs a function in a transaction: commits when it returns 0 or more, else rolls back. It is tried
 * again after a serialization failure and after a deadlock, in the function or in the commit, and a
 * short wait comes in between, of 64 ms at most. A commit whose answer was lost is not: it fails
 * with PIER_EIO, which says that nobody knows whether it took effect.
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
 * @param args  copied: from PIER_ARGS or PIER_NAMED, or NULL for none
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

/**
 * Prepares a statement: checks its SQL now, and gives a handle that knows what it takes and gives.
 *
 * The handle keeps the SQL, not a connection: each use prepares it where the connection that runs
 * it has not done so. It costs and does what the functions of the same name that take SQL do.
 *
 * @param db   borrowed until the statement is closed: a pool, a lease or a transaction, where it
 *             will run
 * @param sql  copied: one statement
 * @return owned: the future of a `pier_statement *`, freed by pier_statement_close
 *
 * Errors: PIER_ESQL, PIER_EINVAL (its parameters).
 * Threads: any. Mirrors: asyncpg `Connection.prepare`.
 */
PIER_SYNC(pier_statement *)
PIER_API pier_future *pier_db_prepare_async(pier_db *db, const char *sql);

/**
 * Runs a statement and drops its rows, as pier_db_execute does.
 *
 * @param statement  borrowed until the function has returned
 * @param args       copied: from PIER_ARGS or PIER_NAMED, or NULL for none
 * @return owned: the future of the number of rows that it changed
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_ETIMEDOUT.
 * Threads: any.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_statement_execute_async(pier_statement *statement,
                                                   const pier_args *args);

/**
 * Runs a statement and collects all its rows, as pier_db_fetch does.
 *
 * @param statement  borrowed until the function has returned
 * @param args       copied: from PIER_ARGS or PIER_NAMED, or NULL for none
 * @return owned: the future of a `pier_result *`, freed by pier_result_free
 *
 * Errors: PIER_ESQL, PIER_ETIMEDOUT, PIER_ENOMEM.
 * Threads: any. Mirrors: asyncpg `PreparedStatement.fetch`.
 */
PIER_SYNC(pier_result *)
PIER_API pier_future *pier_statement_fetch_async(pier_statement *statement, const pier_args *args);

/**
 * Runs a statement and reads its first row into variables, as pier_db_fetch_into does.
 *
 * @param statement  borrowed until the call returns
 * @param args       borrowed until the call returns: from PIER_ARGS or PIER_NAMED, or NULL for none
 * @param into       borrowed until the call returns: from PIER_INTO; a `char *` in it becomes yours
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return 1: read; 0: there was no row, and no variable was written; a negative pier_status
 *
 * Errors: PIER_ESQL, PIER_ETYPE, PIER_ERANGE.
 * Threads: any; a task suspends. Mirrors: asyncpg `PreparedStatement.fetchrow`.
 */
PIER_API int pier_statement_fetch_into(pier_statement *statement, const pier_args *args,
                                       const pier_intos *into, pier_error *err) PIER_CHECKED;

/**
 * Prepares to read the rows of a statement as they come, as pier_db_cursor does.
 *
 * @param statement  borrowed until the call returns
 * @param args       copied: from PIER_ARGS or PIER_NAMED, or NULL for none
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_cursor_close; NULL on failure
 *
 * Threads: any, also on the loop thread. Mirrors: asyncpg `PreparedStatement.cursor`.
 */
PIER_API pier_cursor *pier_statement_cursor(pier_statement *statement, const pier_args *args,
                                            pier_error *err);

/**
 * Gives the SQL of a statement.
 *
 * @param statement  borrowed until the SQL is no longer used; NULL has none
 * @return borrowed until the statement is closed
 *
 * Threads: any.
 */
PIER_API const char *pier_statement_sql(const pier_statement *statement);

/**
 * Says whether a statement leaves the database as it is, as far as that is known before it runs.
 * Postgres does not tell, so there it is false.
 *
 * @param statement  borrowed until the call returns
 *
 * Threads: any. Mirrors: `sqlite3_stmt_readonly`.
 */
PIER_API bool pier_statement_read_only(const pier_statement *statement);

/**
 * Counts the arguments that a statement takes.
 *
 * @param statement  borrowed until the call returns: NULL takes none
 *
 * Threads: any. Mirrors: asyncpg `PreparedStatement.get_parameters`.
 */
PIER_API int pier_statement_parameters(const pier_statement *statement);

/**
 * Names an argument that a statement takes by name.
 *
 * @param statement  borrowed until the name is no longer used
 * @param parameter  from 0, in the order in which the names first come
 * @return borrowed until the statement is closed: without $, : or @; NULL where arguments are
 *         numbered, and where there is no such argument
 *
 * Threads: any.
 */
PIER_API const char *pier_statement_parameter_name(const pier_statement *statement, int parameter);

/**
 * Gives the type of an argument that a statement takes, as Postgres writes it: "integer",
 * "timestamp with time zone". SQLite has none.
 *
 * @param statement  borrowed until the type is no longer used
 * @param parameter  from 0
 * @return borrowed until the statement is closed; NULL on SQLite, and where there is no such
 *         argument
 *
 * Threads: any. Mirrors: asyncpg `PreparedStatement.get_parameters`.
 */
PIER_API const char *pier_statement_parameter_type(const pier_statement *statement, int parameter);

/**
 * Counts the columns of a statement's rows, as they were when it was prepared.
 *
 * @param statement  borrowed until the call returns: NULL has none
 *
 * Threads: any. Mirrors: asyncpg `PreparedStatement.get_attributes`.
 */
PIER_API int pier_statement_columns(const pier_statement *statement);

/**
 * Names a column of a statement's rows.
 *
 * @param statement  borrowed until the name is no longer used
 * @param column     from 0
 * @return borrowed until the statement is closed; NULL where there is no such column
 *
 * Threads: any.
 */
PIER_API const char *pier_statement_column_name(const pier_statement *statement, int column);

/**
 * Gives the type that a column was declared with; SQLite writes those that it knows in capitals:
 * "INTEGER", "varchar(20)". On Postgres expressions have one too: "character varying(20)".
 *
 * @param statement  borrowed until the type is no longer used
 * @param column     from 0
 * @return borrowed until the statement is closed; NULL for an expression or a column without a
 *         type on SQLite, and where there is no such column
 *
 * Threads: any. Mirrors: `sqlite3_column_decltype`.
 */
PIER_API const char *pier_statement_column_type(const pier_statement *statement, int column);

/**
 * Frees a statement's handle. What was started with it goes on.
 *
 * @param statement  taken: NULL is harmless
 *
 * Threads: any, also on the loop thread, once.
 */
PIER_API void pier_statement_close(pier_statement *statement);

/**
 * Prepares to run a statement for many rows. Nothing is sent before a block of them is full: 512
 * rows, or 256 KiB. What fails later is reported by pier_writer_close.
 *
 * All rows are written or none: the first block begins a transaction, on a connection that is held
 * until the writer is closed, and closing commits it. Inside a transaction it is a savepoint: a
 * failure takes back what the writer has written, at once, and the transaction can go on.
 *
 * @param db   borrowed until the writer is closed
 * @param sql  copied: one statement
 * @param err  borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_writer_close; NULL on failure
 *
 * Threads: any, also on the loop thread. Mirrors: asyncpg `copy_records_to_table`.
 */
PIER_API pier_writer *pier_db_writer(pier_db *db, const char *sql, pier_error *err);

/**
 * Adds a row. With the row that fills a block the block is written, so this call blocks, or
 * suspends its task; on the loop thread outside a task it then fails with PIER_EDEADLOCK: there,
 * wait for pier_writer_flush_async before so many rows have come together.
 *
 * @param writer  borrowed until the call returns: NULL passes through
 * @param args    borrowed until the call returns: from PIER_ARGS or PIER_NAMED
 * @return 0; a negative pier_status once anything has failed, which pier_writer_close reports
 *
 * Threads: any, one at a time.
 */
PIER_API int pier_writer_add(pier_writer *writer, const pier_args *args);

/**
 * Writes the rows that have been added so far. They are not committed by that.
 *
 * @param writer  borrowed until the future has settled
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_EBUSY; pier_writer_close reports them too.
 * Threads: any, one at a time.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_writer_flush_async(pier_writer *writer);

/**
 * Writes what is left, commits, and frees the writer; or reports what failed, and then nothing has
 * been written: the message names the row, from 1. In a scope that has ended it rolls back; the
 * scope does not cut it short. A writer that its runner closes is rolled back.
 *
 * @param writer  taken: NULL passes through
 * @return owned: the future of the number of rows changed, as pier_db_execute counts them
 *
 * Errors: PIER_ESQL, PIER_ECONSTRAINT, PIER_EBUSY.
 * Threads: any, once.
 */
PIER_SYNC(int64_t, checked)
PIER_API pier_future *pier_writer_close_async(pier_writer *writer);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_statement, pier_statement_close)
#endif
#endif
