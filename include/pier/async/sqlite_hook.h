#ifndef PIER_ASYNC_SQLITE_HOOK_H
#define PIER_ASYNC_SQLITE_HOOK_H
/*
 * Hooks into SQLite, its limits, its extensions and attached databases. All of them belong to the
 * pool, whichever handle of it is given: every connection has them, those opened later too; other
 * connections take them on before their next request. There is one hook of each kind; setting
 * another replaces it and setting NULL removes it.
 *
 * Hooks run wherever the statement is being stepped: on the thread that blocks in it, or on a
 * thread of the connection's own. One connection calls one at a time, several call at once. A hook
 * that calls Pier on the connection that is calling it gets PIER_EDEADLOCK.
 */
#include <pier/async/sqlite_function.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A lock is held by somebody else, for the `count`th time, from 0, and for `waited_ms` so far.
 * Gives how many milliseconds to wait before trying again; 0: as Pier would have done, up to
 * busy_timeout_ms; negative: give up with PIER_EBUSY. The wait ends early where the scope does. */
typedef int (*pier_sqlite_busy_fn)(void *user_data, int count, int64_t waited_ms);

/* Other than 0 cancels the statement with PIER_ECANCELLED. */
typedef int (*pier_sqlite_progress_fn)(void *user_data);

typedef enum pier_sqlite_event {
    PIER_SQLITE_TRACE_STATEMENT = 1, /* a statement begins; also each trigger in it, as a comment */
    PIER_SQLITE_TRACE_PROFILE = 2,   /* it has ended */
    PIER_SQLITE_TRACE_ROW = 4,       /* it has produced a row */
    PIER_SQLITE_TRACE_CLOSE = 8      /* a connection is being closed */
} pier_sqlite_event;

typedef struct pier_sqlite_trace {
    int event;          /* a pier_sqlite_event */
    const char *sql;    /* borrowed until the hook returns; NULL for CLOSE */
    int64_t elapsed_ns; /* PROFILE: from the statement's beginning to its end, else 0 */
} pier_sqlite_trace;

typedef void (*pier_sqlite_trace_fn)(void *user_data, const pier_sqlite_trace *trace);

/* What a statement wants to do; the numbers are SQLite's. Behind each: `first`, `second`. */
typedef enum pier_sqlite_action_code {
    PIER_SQLITE_ACTION_CREATE_INDEX = 1, /* index, table */
    PIER_SQLITE_ACTION_CREATE_TABLE = 2, /* table */
    PIER_SQLITE_ACTION_CREATE_TEMP_INDEX = 3,
    PIER_SQLITE_ACTION_CREATE_TEMP_TABLE = 4,
    PIER_SQLITE_ACTION_CREATE_TEMP_TRIGGER = 5,
    PIER_SQLITE_ACTION_CREATE_TEMP_VIEW = 6,
    PIER_SQLITE_ACTION_CREATE_TRIGGER = 7, /* trigger, table */
    PIER_SQLITE_ACTION_CREATE_VIEW = 8,    /* view */
    PIER_SQLITE_ACTION_DELETE = 9,         /* table */
    PIER_SQLITE_ACTION_DROP_INDEX = 10,    /* index, table */
    PIER_SQLITE_ACTION_DROP_TABLE = 11,    /* table */
    PIER_SQLITE_ACTION_DROP_TEMP_INDEX = 12,
    PIER_SQLITE_ACTION_DROP_TEMP_TABLE = 13,
    PIER_SQLITE_ACTION_DROP_TEMP_TRIGGER = 14,
    PIER_SQLITE_ACTION_DROP_TEMP_VIEW = 15,
    PIER_SQLITE_ACTION_DROP_TRIGGER = 16,  /* trigger, table */
    PIER_SQLITE_ACTION_DROP_VIEW = 17,     /* view */
    PIER_SQLITE_ACTION_INSERT = 18,        /* table */
    PIER_SQLITE_ACTION_PRAGMA = 19,        /* pragma, its argument or NULL */
    PIER_SQLITE_ACTION_READ = 20,          /* table, column */
    PIER_SQLITE_ACTION_SELECT = 21,        /* none */
    PIER_SQLITE_ACTION_TRANSACTION = 22,   /* BEGIN, COMMIT or ROLLBACK */
    PIER_SQLITE_ACTION_UPDATE = 23,        /* table, column */
    PIER_SQLITE_ACTION_ATTACH = 24,        /* file, or NULL where it is not known yet */
    PIER_SQLITE_ACTION_DETACH = 25,        /* database */
    PIER_SQLITE_ACTION_ALTER_TABLE = 26,   /* database, table */
    PIER_SQLITE_ACTION_REINDEX = 27,       /* index */
    PIER_SQLITE_ACTION_ANALYZE = 28,       /* table */
    PIER_SQLITE_ACTION_CREATE_VTABLE = 29, /* table, module */
    PIER_SQLITE_ACTION_DROP_VTABLE = 30,   /* table, module */
    PIER_SQLITE_ACTION_FUNCTION = 31,      /* NULL, function */
    PIER_SQLITE_ACTION_SAVEPOINT = 32,     /* BEGIN, RELEASE or ROLLBACK; savepoint */
    PIER_SQLITE_ACTION_RECURSIVE = 33      /* none */
} pier_sqlite_action_code;

/* All text is borrowed until the hook returns, and may be NULL. */
typedef struct pier_sqlite_action {
    int code;         /* a pier_sqlite_action_code */
    const char *name; /* of the code: "DROP TABLE" */
    const char *first;
    const char *second;
    const char *database; /* "main", "temp", or as it was attached */
    const char *source;   /* the innermost trigger or view that wants it */
} pier_sqlite_action;

typedef enum pier_sqlite_verdict {
    PIER_SQLITE_ALLOW = 0,
    PIER_SQLITE_DENY = 1,  /* the statement fails, saying what was denied */
    PIER_SQLITE_IGNORE = 2 /* READ: NULL is read instead; else the action is left out */
} pier_sqlite_verdict;

/* Gives a pier_sqlite_verdict; anything else denies. */
typedef int (*pier_sqlite_authorizer_fn)(void *user_data, const pier_sqlite_action *action);

typedef enum pier_sqlite_change_kind {
    PIER_SQLITE_INSERT = 1,
    PIER_SQLITE_UPDATE = 2,
    PIER_SQLITE_DELETE = 3
} pier_sqlite_change_kind;

/* A row that was changed. Tables WITHOUT ROWID are not reported, nor the row that OR REPLACE puts
 * another one in the place of. */
typedef struct pier_sqlite_change {
    int kind; /* a pier_sqlite_change_kind */
    const char *database;
    const char *table;
    int64_t rowid;
} pier_sqlite_change;

/* `change` is borrowed until the hook returns. */
typedef void (*pier_sqlite_update_fn)(void *user_data, const pier_sqlite_change *change);
/* Other than 0 turns the commit into a rollback, which fails with PIER_ECONSTRAINT. */
typedef int (*pier_sqlite_commit_fn)(void *user_data);
typedef void (*pier_sqlite_rollback_fn)(void *user_data);

/* The numbers are SQLite's. */
typedef enum pier_sqlite_limit_id {
    PIER_SQLITE_LIMIT_LENGTH = 0, /* bytes of a value or a row */
    PIER_SQLITE_LIMIT_SQL_LENGTH = 1,
    PIER_SQLITE_LIMIT_COLUMN = 2,
    PIER_SQLITE_LIMIT_EXPR_DEPTH = 3,
    PIER_SQLITE_LIMIT_COMPOUND_SELECT = 4,
    PIER_SQLITE_LIMIT_VDBE_OP = 5,
    PIER_SQLITE_LIMIT_FUNCTION_ARG = 6,
    PIER_SQLITE_LIMIT_ATTACHED = 7,
    PIER_SQLITE_LIMIT_LIKE_PATTERN_LENGTH = 8,
    PIER_SQLITE_LIMIT_VARIABLE_NUMBER = 9,
    PIER_SQLITE_LIMIT_TRIGGER_DEPTH = 10,
    PIER_SQLITE_LIMIT_WORKER_THREADS = 11
} pier_sqlite_limit_id;

/**
 * Sets what decides how long to wait for locks of other connections and processes. Deadlines and
 * cancelling end that wait whatever it decides.
 *
 * @param db         borrowed until the future has settled: any handle of the pool
 * @param busy       borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data  taken: handed to the hook
 * @param destroy    borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Threads: any. Mirrors: `sqlite3_busy_handler`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_busy_async(pier_db *db, pier_sqlite_busy_fn busy,
                                                 void *user_data, pier_sqlite_destroy_fn destroy);

/**
 * Sets what is called every so many instructions of SQLite's machine, beside Pier's own look at
 * the deadline. While a transaction is being ended it is not called.
 *
 * @param db            borrowed until the future has settled: any handle of the pool
 * @param instructions  1 or more; above 1,000 it is kept to within 0.2 %
 * @param progress      borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data     taken: handed to the hook
 * @param destroy       borrowed until it has been called, also where this fails; NULL: nothing to
 *                      do
 * @return owned: the future of 0
 *
 * Errors: PIER_EINVAL (instructions).
 * Threads: any. Mirrors: `sqlite3.set_progress_handler`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_progress_async(pier_db *db, int instructions,
                                                     pier_sqlite_progress_fn progress,
                                                     void *user_data,
                                                     pier_sqlite_destroy_fn destroy);

/**
 * Sets what is told of the statements that run. Their arguments are shown as $1, $2, ... unless
 * their values are asked for; what is written into the SQL itself is always shown.
 *
 * @param db         borrowed until the future has settled: any handle of the pool
 * @param events     pier_sqlite_event, combined with |
 * @param values     shows the values of arguments
 * @param trace      borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data  taken: handed to the hook
 * @param destroy    borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Errors: PIER_EINVAL (events).
 * Threads: any. Mirrors: `sqlite3_trace_v2`, `sqlite3.set_trace_callback`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_trace_async(pier_db *db, int events, bool values,
                                                  pier_sqlite_trace_fn trace, void *user_data,
                                                  pier_sqlite_destroy_fn destroy);

/**
 * Sets what decides, when a statement is prepared, whether it may do what it is about to. It is
 * not asked about what Pier itself runs: BEGIN, COMMIT, SAVEPOINT and so on of pier_db_begin.
 * Statements in the caches are prepared again.
 *
 * @param db          borrowed until the future has settled: any handle of the pool
 * @param authorizer  borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data   taken: handed to the hook
 * @param destroy     borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Threads: any. Mirrors: `sqlite3.set_authorizer`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_authorizer_async(pier_db *db,
                                                       pier_sqlite_authorizer_fn authorizer,
                                                       void *user_data,
                                                       pier_sqlite_destroy_fn destroy);

/**
 * Sets what is told of each row that is changed, at once: before the commit that may never come.
 * pier_sqlite_changes_open tells of committed changes only.
 *
 * @param db         borrowed until the future has settled: any handle of the pool
 * @param update     borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data  taken: handed to the hook
 * @param destroy    borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Threads: any. Mirrors: `sqlite3_update_hook`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_update_async(pier_db *db, pier_sqlite_update_fn update,
                                                   void *user_data, pier_sqlite_destroy_fn destroy);

/**
 * Sets what is asked before each commit of a transaction that has written.
 *
 * @param db         borrowed until the future has settled: any handle of the pool
 * @param commit     borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data  taken: handed to the hook
 * @param destroy    borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Threads: any. Mirrors: `sqlite3_commit_hook`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_commit_async(pier_db *db, pier_sqlite_commit_fn commit,
                                                   void *user_data, pier_sqlite_destroy_fn destroy);

/**
 * Sets what is told of each rollback of a whole transaction.
 *
 * @param db         borrowed until the future has settled: any handle of the pool
 * @param rollback   borrowed until it is replaced or the pool is closed; NULL removes it
 * @param user_data  taken: handed to the hook
 * @param destroy    borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Threads: any. Mirrors: `sqlite3_rollback_hook`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_rollback_async(pier_db *db, pier_sqlite_rollback_fn rollback,
                                                     void *user_data,
                                                     pier_sqlite_destroy_fn destroy);

/**
 * Reads a limit of SQLite's.
 *
 * @param db  borrowed until the future has settled: any handle of the pool
 * @param id  which one
 * @return owned: the future of its value
 *
 * Errors: PIER_EINVAL (there is no such limit).
 * Threads: any. Mirrors: `sqlite3.getlimit`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_limit_async(pier_db *db, pier_sqlite_limit_id id);

/**
 * Sets a limit of SQLite's; above the one it was built with, it is set to that.
 *
 * @param db     borrowed until the future has settled: any handle of the pool
 * @param id     which one
 * @param value  0 or more
 * @return owned: the future of its value before
 *
 * Errors: PIER_EINVAL (there is no such limit, a negative value).
 * Threads: any. Mirrors: `sqlite3.setlimit`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_set_limit_async(pier_db *db, pier_sqlite_limit_id id, int value);

/**
 * Loads an extension, a shared library. The pool must have been opened with `extensions=on` in its
 * URL, since this runs whatever code is in that file.
 *
 * @param db           borrowed until the future has settled: any handle of the pool
 * @param path         copied: best an absolute one; the dynamic linker searches for a mere name
 * @param entry_point  copied: a function in it; NULL: what SQLite derives from the file's name
 * @return owned: the future of 0
 *
 * Errors: PIER_EINVAL (not enabled), PIER_ESQL (it cannot be loaded, or has failed).
 * Threads: any. Mirrors: `aiosqlite` `load_extension`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_load_extension_async(pier_db *db, const char *path,
                                                       const char *entry_point);

/**
 * Attaches a database file to every connection of the pool.
 *
 * @param db      borrowed until the future has settled: any handle of the pool
 * @param path    copied: relative to the directory that is the current one now; ":memory:" is a
 *                database of each connection's own. It is created where the pool's URL allows that
 * @param schema  copied: the name under which SQL finds its tables
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL (the name is in use), PIER_EIO (the file).
 * Threads: any.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_attach_async(pier_db *db, const char *path, const char *schema);

/**
 * Detaches a database from every connection of the pool. One that is in use there keeps it until
 * it is not.
 *
 * @param db      borrowed until the future has settled: any handle of the pool
 * @param schema  copied: as it was attached
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL (there is none of that name, or it is in use).
 * Threads: any.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_detach_async(pier_db *db, const char *schema);

/**
 * Says whether a transaction is open on the connection of a lease or a transaction.
 *
 * @param db  borrowed until the future has settled: a pool has none
 * @return owned: the future of 1 or 0
 *
 * Threads: any. Mirrors: `aiosqlite` `in_transaction`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_in_transaction_async(pier_db *db);

/**
 * Counts the rows that have been changed through a connection since it was opened, those of
 * triggers too. For a pool, those of the connection that writes.
 *
 * @param db  borrowed until the future has settled: any handle of the pool
 * @return owned: the future of the number
 *
 * Threads: any. Mirrors: `aiosqlite` `total_changes`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_sqlite_total_changes_async(pier_db *db);

/**
 * Cancels what runs now on the connections of a pool, or on that of a lease or transaction. It
 * fails with PIER_ECANCELLED, within some 30 ms. What waits for a connection is not touched, nor
 * what runs later, nor a cursor between two blocks, nor the end of a transaction.
 *
 * @param db  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, also on the loop thread. Mirrors: `aiosqlite` `interrupt`.
 */
PIER_API void pier_sqlite_interrupt(pier_db *db);

#ifdef __cplusplus
}
#endif
#endif
