#ifndef PIER_SDK_DB_OP_H
#define PIER_SDK_DB_OP_H
/*
 * What db_op.c and db_acquire.c share: the phases of a request, and the ways between the two files.
 */
#include "sdk/db.h"

enum {
    PIER__DB_BEGIN = 0,
    PIER__DB_CURSOR_TURN,
    PIER__DB_ACQUIRE,
    PIER__DB_OPEN,
    PIER__DB_HOOK,
    PIER__DB_TURN,
    PIER__DB_REHOME,
    PIER__DB_RUN,
    PIER__DB_PAUSE
};

/* db_acquire.c: asks the pool for a connection. */
void pier__db_op_acquire(pier__db_op *op);
void pier__db_acquire_step(pier__db_op *op, unsigned events);
void pier__db_open_step(pier__db_op *op, unsigned events);
/* It would wait for a connection that its own thread or task holds. */
void pier__db_refuse_deadlock(pier__db_op *op);
/* Does work under way further up this thread's stack hold what is waited for: `conn`, or, where
 * that is NULL, the only connection of its pool? */
bool pier__db_works_here(const pier__db_op *op, const pier__conn *conn);

/* db_op.c */
void pier__db_fail_cancelled(pier__db_op *op);

#endif
