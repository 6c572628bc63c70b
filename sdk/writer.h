#ifndef PIER_SDK_WRITER_H
#define PIER_SDK_WRITER_H
/*
 * Writers: rows collected in blocks, each sent as one request in a transaction of the writer's own.
 * An operation on a writer makes several requests, one after the other, on one connection: BEGIN
 * before the first block, EXECUTE_MANY for each block, COMMIT at the end.
 *
 * The blocks wait in the writer, not in the operations: a blocking call may overtake a future that
 * was submitted before it, and then writes what that was to write.
 */
#include "sdk/db.h"

typedef struct pier__rows pier__rows;

struct pier_writer {
    pier__handle handle; /* first */
    atomic_int refs;     /* the user's, and one for each operation on it */
    void *closer;        /* memory for the operation that closes it, which must not fail */
    pier_db *db;         /* holds a reference */
    char *sql;
    pier__turn turn; /* one operation at a time */
    /* Whoever has the turn. */
    pier_db *tx;     /* from the first block on, until it has ended; in no list of the runner's */
    int64_t sent;    /* rows, in the blocks that were written */
    int64_t changed; /* what they changed */
    /* The caller's that adds. */
    pier__rows *filling; /* NULL: no row has been added since the last block */
    int64_t added;
    /* Any thread. */
    _Atomic(pier__rows *) spare; /* an empty block, to be filled again */
    atomic_int failed;           /* the status of the first failure */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    pier_error failure;
    pier__rows *pending, **pending_tail; /* blocks to be written, the oldest first */
};

void pier__writer_unref(pier_writer *writer);

/* For sdk/db_op.c, with the writer's turn: chooses the first request. False: there is nothing to
 * ask of a connection, or it has failed (op->failed). */
bool pier__writer_start(pier__db_op *op);
/* A request has run: chooses the next one. False: that was the last. */
bool pier__writer_next(pier__db_op *op);
/* The operation has no connection any more, or that of the transaction, and is about to give its
 * turn back. */
void pier__writer_ran(pier__db_op *op);
/* The last operation has ended: settles it and frees the writer. */
void pier__writer_closed(pier__db_op *op);
/* Frees the block of an operation. */
void pier__writer_rows_free(pier__rows *rows);

#endif
