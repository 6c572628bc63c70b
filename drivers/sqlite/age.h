#ifndef PIER_DRIVERS_SQLITE_AGE_H
#define PIER_DRIVERS_SQLITE_AGE_H
/*
 * Bounding the age of read transactions on readers (read_tx_max_ms): a reader that goes on for ever
 * keeps the write-ahead log from being reset, so that it grows. A statement under way is stopped by
 * the progress handler, a transaction that is idle by the writer, which looks at the readers before
 * it writes or checkpoints.
 *
 * That look is at connections that are others', without their turn; so whoever works on a reader
 * whose transactions are bounded has it `in_use` meanwhile.
 */
#include "drivers/sqlite/connection.h"
#include "sdk/clock.h"

static inline bool pier__sqlite_is_too_old(const pier__sqlite_conn *conn)
{
    int64_t until = atomic_load_explicit(&conn->read_until, memory_order_relaxed);
    return until && pier__now() >= until;
}

/* Around the work of a request. False: the transaction was too old before it began. */
bool pier__sqlite_age_begin(pier__sqlite_conn *conn, const pier__db_op *op);
void pier__sqlite_age_end(pier__sqlite_conn *conn);
/* In between, where it was, or has become, too old: fails the work and ends the transaction. */
void pier__sqlite_age_fail(pier__sqlite_conn *conn);

/* Around the end of a connection. */
void pier__sqlite_age_lock(pier__sqlite_conn *conn);
void pier__sqlite_age_unlock(pier__sqlite_conn *conn);

/* On the writer: ends the transactions of readers that are too old and idle. */
void pier__sqlite_end_old_readers(pier__sqlite_conn *writer);

#endif
