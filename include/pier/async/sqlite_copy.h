#ifndef PIER_ASYNC_SQLITE_COPY_H
#define PIER_ASYNC_SQLITE_COPY_H
/*
 * SQLite only: copies of whole databases (backup, restore, VACUUM INTO, images in memory), dumps as
 * SQL, and work on the connection itself. All of them are about the database "main".
 *
 * Files are written under a temporary name beside the target, and appear under their own when they
 * are complete and on the disk: whoever is cancelled leaves nothing behind.
 */
#include <pier/async/db.h>
#include <pier/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

/* SQLite's own handle; see sqlite3.h. */
struct sqlite3;

/*
 * Told after each step of a copy how many pages are left, and how many there are; both can grow
 * while the source is written. Negative: stop, which fails with PIER_ECANCELLED.
 *
 * It runs on the thread that copies: the caller's, or, of the asynchronous form and in a task, one
 * of the connection's own. It must not use the database that is copied: PIER_EDEADLOCK.
 *
 * It may close the pool, as anybody may. pier_sqlite_backup of that pool then fails with
 * PIER_ECLOSED before its next step, and leaves nothing behind; what keeps its connection goes on:
 * the last step of a backup, one of a lease or a transaction, a copy into or from a database.
 */
typedef int (*pier_sqlite_copy_fn)(void *user_data, int64_t left, int64_t total);

typedef struct pier_sqlite_backup_options {
    size_t struct_size;           /* set by PIER_SQLITE_BACKUP_OPTIONS */
    int pages;                    /* in each step; 0: 1,000; PIER_NONE: all in one step */
    int64_t pause_ms;             /* between two steps; 0: others have their turn, and on it goes */
    bool replace;                 /* the target may be there, and is replaced at the end */
    pier_sqlite_copy_fn progress; /* NULL: nobody is told */
    void *user_data;              /* shared: for `progress` */
} PIER_DESIGNATED pier_sqlite_backup_options;

/* pier_sqlite_backup(db, path, PIER_SQLITE_BACKUP_OPTIONS(.replace = true), &err) */
#define PIER_SQLITE_BACKUP_OPTIONS(...)                                                            \
    (&(const pier_sqlite_backup_options){.struct_size = sizeof(pier_sqlite_backup_options),        \
                                         __VA_ARGS__})

/**
 * Copies a database into a file while it is being used. Between two steps others have their turn
 * on the connection; what they write through Pier is in the copy, and what another connection or
 * process writes makes the copy begin anew.
 *
 * A target that is a database somebody has open is refused as far as that can be seen (by its
 * journal or log).
 *
 * @param db       borrowed until the future has settled: a pool or a lease; in a transaction it
 *                 copies what the transaction sees, which must not have written
 * @param path     copied: of the file to be made
 * @param options  copied: NULL for the defaults; `user_data` is shared
 * @return owned: the future of the number of pages copied
 *
 * Errors: PIER_EIO (the file, which may exist: `native` is EEXIST), PIER_EBUSY, PIER_ECANCELLED.
 * Threads: any. Mirrors: aiosqlite `Connection.backup`, `sqlite3_backup_step`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_sqlite_backup_async(pier_db *db, const char *path,
                                               const pier_sqlite_backup_options *options);

/**
 * Copies a database over another one that is open in Pier, which changes as a whole or not at all.
 * Both connections are in use until the end; `pause_ms` and `replace` mean nothing here.
 *
 * @param db       borrowed until the future has settled
 * @param target   borrowed until the future has settled: a lease that nobody uses, without a
 *                 transaction
 * @param options  copied: NULL for the defaults; `user_data` is shared
 * @return owned: the future of the number of pages copied
 *
 * Errors: PIER_EBUSY (the target is in use), PIER_EINVAL, PIER_EIO (the page sizes differ).
 * Threads: any. Mirrors: Python `Connection.backup(target)`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_sqlite_backup_to_async(pier_db *db, pier_db *target,
                                                  const pier_sqlite_backup_options *options);

/**
 * Copies a file over a database, which changes as a whole or not at all.
 *
 * @param db       borrowed until the future has settled: a pool or a lease, without a transaction
 *                 and without open cursors
 * @param path     copied: of a database; it is only read
 * @param options  copied: NULL for the defaults; `pause_ms` and `replace` mean nothing here
 * @return owned: the future of the number of pages copied
 *
 * Errors: PIER_EIO (the file is no database; the disk is full; the page sizes differ), PIER_EINVAL.
 * Threads: any.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_sqlite_restore_async(pier_db *db, const char *path,
                                                const pier_sqlite_backup_options *options);

/**
 * Writes a database into a new file without its free pages, as VACUUM INTO does.
 *
 * @param db    borrowed until the future has settled: a pool or a lease, without a transaction
 * @param path  copied: of the file to be made, which must not be there
 * @return owned: the future of 0
 *
 * Errors: PIER_EIO (the file), PIER_ESQL (in a transaction).
 * Threads: any.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_vacuum_into_async(pier_db *db, const char *path);

/**
 * Makes an image of a database in memory: what its file would hold, with the content of a
 * write-ahead log, and in rollback mode so that it can be read anywhere.
 *
 * @param db        borrowed until the future has settled
 * @param size_max  in bytes; 0: 1 GiB
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free
 *
 * Errors: PIER_ERANGE (it is larger), PIER_ENOMEM.
 * Threads: any. Mirrors: `sqlite3_serialize`, Python `Connection.serialize`.
 */
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_sqlite_serialize_async(pier_db *db, int64_t size_max);

/**
 * Copies an image over a database, in memory or a file, which changes as a whole or not at all.
 *
 * @param db    borrowed until the future has settled: a pool or a lease, without a transaction and
 *              without open cursors
 * @param data  copied: an image
 * @param size  of it in bytes
 * @return owned: the future of the number of pages copied
 *
 * Errors: PIER_EIO (it is no database; the disk is full; the page sizes differ), PIER_EINVAL.
 * Threads: any. Mirrors: Python `Connection.deserialize`.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_sqlite_deserialize_async(pier_db *db, const void *data, size_t size);

/**
 * Gives the statements that make a database anew, in order, each a row with one text: the schema,
 * the rows, the counters of AUTOINCREMENT, indexes, views and triggers, user_version and
 * application_id. It is one snapshot, of which a few statements at a time are in memory.
 *
 * On a pool the cursor keeps its connection, in a read transaction, until it has ended. What the
 * statements give is exact: text that is no UTF-8, or has zero bytes in it, is written as
 * `CAST(X'...' AS TEXT)`. Left out are what ANALYZE has found, rowids that no column holds, and
 * the content of virtual tables, which are made empty (an FTS5 index over a table of its own is
 * filled by its 'rebuild').
 *
 * @param db   borrowed until the cursor is closed
 * @param err  borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_cursor_close; NULL on failure. Read it with pier_cursor_next or
 *         pier_cursor_block
 *
 * Threads: any, also on the loop thread. Mirrors: Python `Connection.iterdump`.
 */
PIER_API pier_cursor *pier_sqlite_dump(pier_db *db, pier_error *err);

/**
 * Runs the statements of a file, without arguments, on one connection: a dump, for one. No more
 * than its longest statement is in memory.
 *
 * Give it a pool or a lease when the file begins and commits transactions itself, as dumps do; in
 * a transaction nothing in the file may do so. A transaction that a failure leaves open on a pool
 * is rolled back.
 *
 * @param db    borrowed until the future has settled
 * @param path  copied: of a file in UTF-8
 * @return owned: the future of the number of statements that it ran
 *
 * Errors: PIER_ESQL (the message names the line), PIER_EIO (the file), PIER_EINVAL.
 * Threads: any. Mirrors: `.read` of the sqlite3 shell.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_sqlite_load_async(pier_db *db, const char *path);

#ifdef __cplusplus
}
#endif
#endif
