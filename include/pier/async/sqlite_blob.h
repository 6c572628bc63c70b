#ifndef PIER_ASYNC_SQLITE_BLOB_H
#define PIER_ASYNC_SQLITE_BLOB_H
/*
 * SQLite only: reading and writing a blob or a text in a row piece by piece, in flat memory. Its
 * size does not change: make room with `insert ... values (zeroblob($1))`.
 */
#include <pier/async/db.h>
#include <pier/buffer.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_sqlite_blob pier_sqlite_blob;

/**
 * Opens the value of a column in a row of the database "main".
 *
 * A handle for writing on a pool or a lease is a transaction of its own, committed when it is
 * closed; in a transaction it is a part of that. On a pool it keeps its connection until it is
 * closed, so what else is to happen meanwhile needs another one: use a lease or a transaction.
 *
 * @param db      borrowed until the blob is closed
 * @param table   copied: its name, as it is
 * @param column  copied: its name, as it is; not of an index or a foreign key when `writes`
 * @param rowid   of the row
 * @param writes  true: for reading and writing; false: for reading
 * @return owned: the future of a `pier_sqlite_blob *`, ended by pier_sqlite_blob_close
 *
 * Errors: PIER_ESQL: no such table, column or row, or the value is a number or NULL.
 * Threads: any. Mirrors: `sqlite3_blob_open`, Python `Connection.blobopen`.
 */
PIER_SYNC(pier_sqlite_blob *)
PIER_API pier_future *pier_sqlite_blob_open_async(pier_db *db, const char *table,
                                                  const char *column, int64_t rowid, bool writes);

/**
 * Gives the size of the value that the handle is open on.
 *
 * @param blob  borrowed until the call returns
 * @return its size in bytes; PIER_EINVAL for NULL
 *
 * Threads: any, but not while the blob is being reopened.
 */
PIER_API int64_t pier_sqlite_blob_size(const pier_sqlite_blob *blob);

/**
 * Reads a piece, which ends where the value ends.
 *
 * @param blob    borrowed until the future has settled
 * @param offset  of the piece in bytes
 * @param size    of the piece in bytes
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free; without bytes from the
 *         end of the value on
 *
 * Errors: PIER_ESQL with `native` SQLITE_ABORT (4): the row was changed or deleted since the blob
 * was opened, so the handle has expired; PIER_EINVAL, PIER_ENOMEM.
 * Threads: any, one at a time.
 */
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_sqlite_blob_read_at_async(pier_sqlite_blob *blob, int64_t offset,
                                                     size_t size);

/**
 * Reads the next piece of 256 KiB, from the beginning on.
 *
 * @iterator pier_sqlite_blob_next
 * Gives the next piece, borrowed until the next call, and its size. A failure ends the pieces and
 * is reported by pier_sqlite_blob_close.
 *
 * @param blob  borrowed until the future has settled
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free; without bytes at the
 * end
 *
 * Errors: as pier_sqlite_blob_read_at.
 * Threads: any, one at a time.
 */
PIER_SYNC_ITERATOR(pier_sqlite_blob_next, const void *, size_t *size)
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_sqlite_blob_block_async(pier_sqlite_blob *blob);

/**
 * Writes over a piece.
 *
 * @param blob    borrowed until the future has settled
 * @param offset  of the piece in bytes
 * @param data    copied
 * @param size    of it in bytes
 * @return owned: the future of 0
 *
 * Errors: PIER_ERANGE (it ends behind the value), PIER_ESQL (expired, as for reading; opened for
 * reading), PIER_EIO.
 * Threads: any, one at a time.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_blob_write_at_async(pier_sqlite_blob *blob, int64_t offset,
                                                      const void *data, size_t size);

/**
 * Moves the handle to another row, which costs less than opening another; reading begins anew. It
 * also revives a handle that has expired. When it fails the handle can only be closed or reopened.
 *
 * @param blob   borrowed until the future has settled
 * @param rowid  of the row
 * @return owned: the future of 0
 *
 * Errors: PIER_ESQL: no such row, or its value is a number or NULL.
 * Threads: any, one at a time. Mirrors: `sqlite3_blob_reopen`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_blob_reopen_async(pier_sqlite_blob *blob, int64_t rowid);

/**
 * Ends a blob, frees it and reports what failed: the commit of what was written, and a piece that
 * pier_sqlite_blob_next could not read.
 *
 * @param blob  taken: NULL passes through
 * @return owned: the future of 0
 *
 * Errors: PIER_EIO, PIER_EBUSY, PIER_ESQL.
 * Threads: any, once.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_sqlite_blob_close_async(pier_sqlite_blob *blob);

#ifdef __cplusplus
}
#endif
#endif
