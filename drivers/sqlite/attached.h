#ifndef PIER_DRIVERS_SQLITE_ATTACHED_H
#define PIER_DRIVERS_SQLITE_ATTACHED_H
/*
 * What stays open on a connection between requests and is no statement: a blob, a copy half way.
 * It has two references: the connection's, in whose list it is, and that of the handle or operation
 * it belongs to. Whichever ends first, the other one sees it: with the connection it is `ended`;
 * what has the connection's reference alone is ended before the next request.
 */
#include "drivers/sqlite/own.h"

typedef struct pier__sqlite_attached {
    atomic_int refs;
    /* Whoever has the connection's turn. */
    bool ended;
    struct pier__sqlite_attached *next;
    /* Has SQLite let go of it. Called once. */
    void (*end)(struct pier__sqlite_attached *attached);
} pier__sqlite_attached;

/* Enters it, with two references; `attached` begins an allocation of pier__calloc. */
void pier__sqlite_attach(pier__sqlite_conn *conn, pier__sqlite_attached *attached);
/* Ends it and takes it out, unless it has ended; the owner's reference stays. */
void pier__sqlite_detach(pier__sqlite_conn *conn, pier__sqlite_attached *attached);
/* Drops the owner's reference, on any thread. NULL is harmless. */
void pier__sqlite_attached_unref(pier__sqlite_attached *attached);
/* Ends those that nobody owns any more; all, when the connection ends. In a forked child SQLite
 * is not told. */
void pier__sqlite_attached_reclaim(pier__sqlite_conn *conn);
void pier__sqlite_attached_end_all(pier__sqlite_conn *conn, bool forked);

/* ---- Requests of this driver's own -------------------------------------------------------- */

/* A request on `db` that runs `run`. NULL: give `*failed` to the caller, who gets told why: NULL
 * handle, another driver, no memory. */
void *pier__sqlite_own_new(const pier__op_class *cls, pier_db *db,
                           bool (*run)(pier__sqlite_conn *conn, pier__sqlite_own *own),
                           pier__op **failed);
/* Fails the work: fills the connection's failure. Returns false. */
bool pier__sqlite_refuse(pier__sqlite_conn *conn, int status, const char *format, ...)
    PIER_PRINTF(3, 4);

#define PIER__SQLITE_CLASS(function, type, struct_size, ...)                                       \
    {                                                                                              \
        .name = function, .result = type, .size = struct_size, .step = pier__db_op_step,           \
        .waits_for = pier__db_op_waits_for, .unstarted = pier__db_op_unstarted,                    \
        .subject = pier__db_op_subject, __VA_ARGS__                                                \
    }

#endif
