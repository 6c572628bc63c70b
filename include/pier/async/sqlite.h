#ifndef PIER_ASYNC_SQLITE_H
#define PIER_ASYNC_SQLITE_H
/*
 * What only SQLite has. All of it takes a `pier_db` of a SQLite database and fails with PIER_EINVAL
 * on another. The blocking functions are in pier/sqlite.h.
 */
#include <pier/async/sqlite_blob.h>
#include <pier/async/sqlite_changes.h>
#include <pier/async/sqlite_copy.h>
#include <pier/async/sqlite_function.h>
#include <pier/async/sqlite_hook.h>
#include <pier/async/sqlite_run.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Connections and pools ----------------------------------------------------------------
 *
 * URLs are `sqlite:path`, `sqlite:///absolute/path` or `sqlite::memory:`, with options behind a
 * question mark, `sqlite:data.db?preset=service&readers=8`. An open without options changes nothing
 * in the file that stays.
 *
 *   mode=rwc|rw|ro|memory     rwc, which creates the file, is the default
 *   busy_timeout_ms=5000      how long to wait for a lock of another process; 0: not at all
 *   statement_cache=128       prepared statements kept by each connection; 0: none
 *   foreign_keys=on|off       whether they are enforced; SQLite's default is off
 *   synchronous=off|normal|full|extra
 *   journal_mode=delete|truncate|persist|memory|wal|off
 *                             changes the file, and stays
 *   journal_size_limit=N      bytes of a journal or log that stay on disk after use
 *   wal_autocheckpoint=N      pages in the log that start a checkpoint; 0: only when asked for
 *   readers=N                 connections that only read, beside the one that writes; 0 to 100.
 *                             Needs a file with a write-ahead log
 *   read_tx_max_ms=N          bound of a read transaction on a reader, of a cursor and of a
 *                             statement too, beyond which they fail with PIER_ETIMEDOUT; a write
 *                             or a checkpoint ends those that nobody uses then. A blob has no
 *                             bound, and keeps a checkpoint waiting until it is closed
 *   preset=service            journal_mode=wal, synchronous=normal, foreign_keys=on, readers=5,
 *                             journal_size_limit=67108864; others beside it change that
 *   extensions=on             allows load_extension(); off by default
 *   immutable=1, nolock=1, vfs=NAME    as in SQLite's own URIs
 *
 * A pool has one connection. With readers it has one that writes and N that only read: on the pool,
 * SELECT, VALUES, WITH and EXPLAIN run on a reader where SQLite says that they only read there,
 * everything else on the writer, in the order in which it came. pier_db_begin with `read_only`
 * takes a reader and sees one state of the database; any other transaction, and pier_db_lease, take
 * the writer. A cursor on the pool keeps its reader until it is closed. What belongs to a
 * connection (temporary tables, last_insert_rowid()) is found on a lease. */

typedef enum pier_sqlite_checkpoint_mode {
    PIER_SQLITE_PASSIVE = 0, /* as much as is possible without waiting */
    PIER_SQLITE_FULL = 1,    /* waits for writers, and for readers of older states */
    PIER_SQLITE_RESTART = 2, /* and until all read from the file, so that the log starts anew */
    PIER_SQLITE_TRUNCATE = 3 /* and cuts the log down to nothing */
} pier_sqlite_checkpoint_mode;

/**
 * Moves what is in the write-ahead log into the database file.
 *
 * The result is one row of three integers: `busy`, 1 where somebody was in the way for longer than
 * busy_timeout_ms or the deadline, else 0; `log`, the frames (pages) in the log; `checkpointed`,
 * those of them that are in the file now. Without a log both are -1.
 *
 * @param db    borrowed until the future has settled: a pool or a lease
 * @param mode  a pier_sqlite_checkpoint_mode
 * @return owned: the future of a `pier_result *`, freed by pier_result_free
 *
 * Errors: PIER_EINVAL (in a transaction), PIER_EBUSY (a cursor of this connection is open).
 * Threads: any. Mirrors: `PRAGMA wal_checkpoint`, `sqlite3_wal_checkpoint_v2`.
 */
PIER_SYNC(pier_result *)
PIER_API pier_future *pier_sqlite_checkpoint_async(pier_db *db, int mode);

/* ---- End of connections and pools --------------------------------------------------------- */

#ifdef __cplusplus
}
#endif
#endif
