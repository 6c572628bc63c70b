#ifndef PIER_DRIVERS_SQLITE_CONNECTION_H
#define PIER_DRIVERS_SQLITE_CONNECTION_H
/*
 * A connection: SQLite's handle, and what its progress and busy handlers need to know. All of it is
 * used by whoever has the connection's turn, on the thread that does the work: the caller's own, or
 * the connection's lane.
 */
#include "drivers/sqlite/changes.h"
#include "drivers/sqlite/driver.h"
#include "drivers/sqlite/hook.h"
#include "drivers/sqlite/registry.h"
#include "drivers/sqlite/statement.h"
#include "sdk/db.h"

typedef struct pier__sqlite_db {
    pier_db base; /* first */
    /* Immutable after init. */
    char *path;
    char *uri;      /* what SQLite is given instead of the path; NULL: the path */
    int open_flags; /* of sqlite3_open_v2, for the connection that writes */
    int busy_timeout_ms;
    char vfs[64];
    pier__sqlite_setup setup;
    /* Grows when the file turns out to be another one than was opened. */
    atomic_uint generation;
    pier__sqlite_registry registry;
} pier__sqlite_db;

/* Instructions of SQLite's machine between two looks at the scope: 5 to 20 us, which costs less
 * than 0.5 % also where there is a deadline and the clock must be read. */
enum { PIER__SQLITE_PROGRESS_STEPS = 1000 };

typedef struct pier__sqlite_conn {
    pier__conn base; /* first */
    sqlite3 *sqlite; /* NULL while it is not open */
    pier__sqlite_cache cache;
    pier__sqlite_statement *held;           /* by cursors */
    struct pier__sqlite_attached *attached; /* blobs, copies half way */
    pier__sqlite_builder builder;
    struct pier_lane *lane;     /* NULL until the loop needs it */
    unsigned generation;        /* the database's, when it was opened */
    atomic_bool in_use;         /* of a reader whose transactions are bounded: see age.h */
    _Atomic int64_t read_until; /* the bound of its transaction; 0: it has none */
    unsigned id;                /* no other connection of the pool ever has it */
    unsigned registered;        /* how far it is with the registry */
    bool own;                   /* what runs is Pier's, and the authorizer is not asked */
    pier__sqlite_hooks hooks;
    pier__sqlite_buffer changes;
    atomic_uint interrupts; /* how often its scope was interrupted */
    /* The request under way. */
    pier__op *current; /* whose work runs now; NULL: no work runs, and nothing waits for locks */
    int64_t busy_until;
    bool finishing;  /* it ends a transaction, which is not interrupted half way */
    int interrupted; /* the status by which a handler has stopped it; 0: none has */
    unsigned interrupts_before;
    const char *stopped_by;  /* a constant, where that was neither the scope nor the future */
    pier_error call_failure; /* of a function of the user's; valid where its status is not 0 */
    bool locked_out;         /* it was waiting for a lock when it was stopped */
    bool vanished;           /* its failure has ended the transaction, or will */
    bool misplaced;          /* on a reader: it needs the writer, and has done nothing */
    bool too_old;            /* its read transaction has come to its bound */
    pier_error failure;      /* valid where its status is not 0 */
} pier__sqlite_conn;

static inline bool pier__sqlite_is_reader(const pier__sqlite_conn *conn)
{
    return conn->base.pool != &conn->base.db->pool;
}

bool pier__sqlite_conn_init(pier__conn *base);
void pier__sqlite_conn_fini(pier__conn *base);
bool pier__sqlite_conn_release(pier__conn *base);
struct pier_lane *pier__sqlite_conn_lane(pier__conn *base);
void pier__sqlite_open_step(pier__db_op *op, unsigned events);

/* How often SQLite calls the handler that looks at the scope. */
void pier__sqlite_set_progress_steps(pier__sqlite_conn *conn, int steps);
/* Waits for a lock that another connection has, for the count-th time; false: long enough. */
bool pier__sqlite_wait_lock(pier__sqlite_conn *conn, int count);
/* Sets the handlers by which work is cancelled, and the hooks, as they are needed now. */
void pier__sqlite_install_handlers(pier__sqlite_conn *conn);
/* Has `work` done by whoever waits for the operation. */
void pier__sqlite_wait_work(pier__db_op *op, void (*work)(pier__op *op));
/* Brackets the work of a request: the handlers obey `op` in between. */
void pier__sqlite_work_begin(pier__sqlite_conn *conn, pier__op *op);
void pier__sqlite_work_end(pier__sqlite_conn *conn);
/* Has the operation that is worked for been asked to stop? */
bool pier__sqlite_is_interrupted(pier__sqlite_conn *conn);
/* Writes what the work has failed with, cancellation included; false: it has not failed. */
bool pier__sqlite_work_error(pier__sqlite_conn *conn, pier__op *op, pier_error *err);

/* Fails the work with the connection's last failure. Returns false. */
PIER_COLD bool pier__sqlite_fail(pier__sqlite_conn *conn, int code, const char *script,
                                 const char *sql);

#endif
