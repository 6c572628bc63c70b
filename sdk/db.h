#ifndef PIER_SDK_DB_H
#define PIER_SDK_DB_H
/*
 * What the databases share: scopes (pool, lease, transaction), borrowing a connection, taking turns
 * on it, transactions and savepoints, cursors. A driver supplies connections that run one request
 * at a time.
 *
 * A request goes through these phases (sdk/db_op.c): ACQUIRE a connection, OPEN it if it is new,
 * REHOME it if the loop still watches it, take its TURN, RUN, and release. The driver is asked only
 * in OPEN and RUN, through `step`s that follow the rules of sdk/op.h.
 */
#include "sdk/handle.h"
#include "sdk/pool.h"
#include "sdk/row.h"
#include "sdk/turn.h"
#include "sdk/watch.h"
#include <pier/async/db.h>

typedef struct pier__db_driver pier__db_driver;
typedef struct pier__conn pier__conn;
typedef struct pier__db_op pier__db_op;

typedef enum pier__request {
    PIER__EXECUTE,  /* sql, args -> op->count */
    PIER__SCRIPT,   /* sql */
    PIER__FETCH,    /* sql, args -> op->block */
    PIER__BEGIN,    /* sql: BEGIN or SAVEPOINT, made by the driver or here */
    PIER__COMMIT,   /* sql: COMMIT or RELEASE */
    PIER__ROLLBACK, /* sql: "rollback", or "rollback to x; release x": two statements. Must leave
                       the connection clean or dead */
    PIER__CURSOR_BLOCK, /* op->cursor -> op->block, cursor->ended */
    PIER__CURSOR_CLOSE, /* op->cursor: let go of what it holds on the connection */
    PIER__LEASE,        /* nothing: the connection is open, that is all */
    PIER__EXECUTE_MANY, /* sql, rows -> op->count; on a pool or lease all of them or none */
    PIER__DESCRIBE,     /* sql -> op->product, a pier__description */
    PIER__OWN /* the driver's own: its struct that begins with the pier__db_op says what */
} pier__request;

/* A connection. Embedded first in the driver's own struct. */
struct pier__conn {
    pier__pooled pooled; /* first */
    pier_db *db;         /* the pool's root */
    pier__pool *pool;    /* the root's `pool` or its `readers` */
    pier__turn turn;
    pier__watch *watch; /* while the loop watches its socket between operations */
    atomic_int refs;    /* of the memory alone: its pool's, and each scope's on it */
    pier__post end;     /* its end, when it is asked of the loop */
    bool open;          /* driver: it can run requests */
    bool dead;          /* driver: do not pool it again */
    bool in_tx;         /* driver: the database says that a transaction is open now. After each
                           request the driver must bring it up to date */
    bool unclean;       /* driver, and the end of a lease: settings of the session may have been
                           changed since it was reset */
    bool resetting;     /* driver: the answer to what makes it clean is still to come */
    /* Loop thread, while an operation of the loop's has the turn. */
    const pier__op *sent_last; /* driver: whose request is on the wire behind all others; NULL: none
                                  that others may follow */
    int sent_wanted;           /* requests that were sent before their turn, and are still wanted */
};

/* Options as the driver sees them: defaults filled in. */
typedef struct pier__db_settings {
    int pool_max;
    int readers; /* driver: connections that only read, beside those of the pool */
    int64_t acquire_timeout_ms, connect_timeout_ms;
    int pool_min, waiting_max;
    int uses_max;                         /* 0: any number */
    int64_t idle_timeout_ms, lifetime_ms; /* negative: for ever */
    int reset;                            /* a pier_reset */
    pier_db_hook init, setup, cleanup;
    void *hook_data;
    /* Borrowed from the caller: the driver that these are for takes them in db_init, and leaves
     * NULL. */
    const struct pier_postgres_options *postgres;
} pier__db_settings;

/* What not every driver can; the functions concerned are refused by the others. A set. */
enum {
    PIER__CAN_NAMES = 1,   /* arguments by name */
    PIER__CAN_ROW_IDS = 2, /* op->last_id */
    PIER__CAN_MANY = 4,    /* PIER__EXECUTE_MANY */
    PIER__CAN_DESCRIBE = 8 /* PIER__DESCRIBE */
};

struct pier__db_driver {
    const char *const *schemes; /* "sqlite", ...; ends with NULL */
    unsigned can;               /* PIER__CAN_... */
    size_t db_size;             /* of the driver's struct that begins with a pier_db: the root */
    size_t conn_size;           /* of its struct that begins with a pier__conn */
    size_t cursor_size;         /* of its struct that begins with a pier_cursor */

    /* Reads the URL into the root; may change settings->pool_max and readers. 0 or a status. */
    int (*db_init)(pier_db *root, const char *url, pier_error *err);
    void (*db_fini)(pier_db *root);
    /* The user has closed it; scopes and connections may still be around. NULL: nothing to do. */
    void (*db_closed)(pier_db *root);

    /* Sets up a zeroed connection in memory; no I/O. False: no memory. */
    bool (*conn_init)(pier__conn *conn);
    /* OPEN: connects. Ends with pier__db_op_opened(op), or pier__db_op_failed. */
    void (*open_step)(pier__db_op *op, unsigned events);
    /* RUN: op->request on op->conn. Ends with pier__db_op_ran(op), or pier__db_op_failed. A
     * connection that may not be used again must have `dead` set by then. */
    void (*run_step)(pier__db_op *op, unsigned events);
    /* FETCH or EXECUTE waits for its turn behind conn->sent_last, on the loop: may be sent now, so
     * that a round trip to the server serves both. False: it is not. Sets op->ahead, to anything
     * but 0, and conn->sent_last; run_step is called when its turn comes, and finds its answer
     * behind those that nobody wants any more. NULL: nothing is ever sent before its turn. */
    bool (*send_ahead)(pier__db_op *op);
    /* One that was sent so leaves before its turn; its answer will come all the same. */
    void (*leave_ahead)(pier__db_op *op);
    /* Is a connection that comes out of the pool still there? No I/O that blocks. NULL: it is. */
    bool (*conn_check)(pier__conn *conn);
    /* Has anything arrived on one that is idle in the pool? At once, under the pool's lock, changes
     * nothing. NULL: they are not looked at. */
    bool (*conn_stirs)(const pier__conn *conn);
    /* It has, and the connection is out of the pool now: has its session ended? */
    bool (*conn_left)(pier__conn *conn);
    /* Called before a connection goes back to the pool; may send what need not be waited for, with
     * `resetting` set. False: discard it. No I/O that blocks. */
    bool (*conn_release)(pier__conn *conn);
    /* Its connections may be ended and made again at any time: they have a minimum, a maximal age,
     * and pauses between attempts to make them. LEASE is run where `resetting` is set. */
    bool renews;
    /* Ends it: closes the socket or file, frees all but the struct. Not on the loop thread where
     * that can block (SQLite); the driver says so with `close_blocks`. The watch is closed before.
     */
    void (*conn_fini)(pier__conn *conn);
    bool close_blocks;

    /* How the server calls the session; NULL: there is no such number. */
    int (*conn_id)(const pier__conn *conn);

    /* The lane on which the loop has this connection's blocking work done; NULL: it has none. */
    struct pier_lane *(*conn_lane)(pier__conn *conn);

    const char *(*begin_sql)(const pier_tx_options *options); /* a constant; never NULL */
    /* Where there are readers: may this request, on the pool, be tried on one? A guess. Should the
     * driver find out there that it may not, it calls pier__db_op_move. */
    bool (*reads)(const pier__db_op *op);
    /* Memory only. CURSOR_CLOSE may not have run (no connection could be had): what the cursor has
     * open on one must then be left to that connection. Any thread. */
    void (*cursor_fini)(pier_cursor *cursor);
    /* A cursor on the pool keeps its connection from its first block until it has ended. On a
     * reader it always does: the reader sees an old state of the database until then. */
    bool cursor_keeps_conn;
};

typedef enum pier__db_kind { PIER__DB_POOL, PIER__DB_LEASE, PIER__DB_TX } pier__db_kind;

struct pier_db {
    pier__handle handle;
    const pier__db_driver *driver;
    pier__db_kind kind;
    pier_db *root;   /* itself for a pool */
    pier_db *parent; /* the scope that a lease or transaction was made from */
    atomic_int refs; /* scopes, connections and operations hold their scope */
    void *closer;    /* memory for the operation that closes it, which must not fail */

    /* POOL */
    char *name; /* the URL without secrets, for messages */
    pier__db_settings settings;
    pier__pool pool;
    pier__pool *readers; /* NULL: there are none */
    pier__op *keeper;    /* of the pool; NULL: it needs none */
    /* The memory of a request that has ended, with its references to the runner and to this; NULL:
     * there is none; this itself: the pool is closed, and there will be none. */
    _Atomic(void *) spare;

    /* LEASE and TX: shared with the parent where the parent is one of them. */
    pier__conn *conn;
    bool owns_conn; /* gives it back when it is closed */
    int depth;      /* of savepoints; 0 is the transaction itself */
    bool read_only; /* TX: it was begun so */

    /* TX; guarded by lock. */
    pthread_mutex_t lock;
    bool ended; /* committed or rolled back */
    bool closing;
    pier_error *doom; /* the first failure in it, NULL while there is none */
    bool doomed;      /* also when there was no memory for the particulars */
};

/* What keeps a connection between requests, beside cursors: part of a handle of the driver's. */
typedef struct pier__keeper {
    pier__conn *conn; /* kept now; NULL: none */
    bool wanted;      /* driver: keep the connection of this request; false gives it back */
    const char *what; /* a constant for messages: "a blob" */
} pier__keeper;

/* For the block of a point query, without an allocation of its own. As much as keeps a request
 * within 1,024 bytes, beyond which glibc's allocations cost several times as much. */
enum { PIER__BLOCK_ROOM = 160 };

/* One request. Drivers keep their per-request state in `scratch`. */
struct pier__db_op {
    pier__op op; /* first */
    pier__request request;
    pier_db
        *db; /* holds a reference; one of a class that reuses memory holds one to its root too */
    pier__conn *conn;
    const char *sql; /* borrowed until `own`, then its own */
    size_t sql_size;
    const pier_args *args; /* borrowed until `own`, then its own; may be NULL */
    pier_cursor *cursor;
    pier_writer *writer;
    const pier_args *rows; /* EXECUTE_MANY; a writer's, or borrowed until `own`, then its own */
    size_t row_count;
    int64_t rows_before; /* of the writer's, for messages */

    /* Results, set by the driver. */
    int64_t count;   /* rows changed */
    int64_t last_id; /* of the row inserted last; 0: none */
    pier_result *block;
    bool reads_here; /* the block is freed before the operation, and so may stand in `room` */
    void *product;   /* PIER__OWN: the result, where it is a pointer */

    int64_t again; /* driver: not done: run again at this moment, after others had their turn */
    bool retried;  /* driver: it has been made again once */
    int64_t ahead; /* driver: it was sent before its turn; 0: it was not */

    /* PIER__OWN, set by the driver. */
    pier__keeper *keeper; /* NULL: the connection is not kept */
    /* It has ended (`failed`, `failure`) and has no connection any more; may still fail it. True:
     * has settled it. NULL: nothing to do. */
    bool (*ended)(struct pier__db_op *op);

    /* The driver's, for the request under way; zero at its start. */
    struct {
        int step;
        bool flag;
        int64_t number;
        void *pointer[4];
    } scratch;

    struct {
        int64_t began, ran; /* moments; 0: not yet, or nobody wants to know */
        int connection;
    } log; /* sdk/query_log.c */

    /* sdk/db_op.c */
    int phase;
    pier__pool *pool;        /* that it has asked for a connection */
    bool probes;             /* its new connection is the first one to be tried after failures */
    bool keeps;              /* the keeper's: only makes a connection */
    struct pier__hook *hook; /* under way */
    int hooks;               /* which of them are to be run */
    bool reads;              /* it goes to a reader where there is one */
    bool moved;              /* it has been to a reader and must not go there again */
    pier__ticket ticket;
    pier__turn_waiter turn, cursor_turn;
    bool has_turn, has_cursor_turn;
    bool borrowed;       /* from the pool, for this request alone */
    int64_t phase_until; /* the bound of OPEN, and of a RUN that cannot be cancelled */
    pier_db *made;       /* BEGIN, LEASE, OPEN: the scope that comes of it */
    bool commit_doomed;  /* a COMMIT that rolls back instead */
    bool closes;         /* frees its scope or cursor when it ends */
    bool refused;        /* the scope was unusable, so nothing was sent */
    bool cleaning;       /* the rollback after a request that left a transaction open */
    int failed;          /* the status that it will settle with */
    pier_error *failure; /* and the particulars, NULL where there was no memory for them */
    char *own_sql;       /* copies, once `own` was called */
    pier_args *own_args;
    pier_args *own_rows;
    struct pier__rows *sending; /* the block of a writer's that it writes now */
    pier__post rehome;
    union {                  /* no request needs both, and a large struct costs malloc more */
        char sql_buffer[64]; /* of a request made here */
        /* Last, because it is not cleared: the driver's, for the small block of a FETCH that
         * `reads_here`. */
        _Alignas(max_align_t) char room[PIER__BLOCK_ROOM];
    };
};

struct pier_cursor {
    pier__handle handle;
    atomic_int refs; /* the user's, and one for each operation on it */
    void *closer;    /* memory for the operation that closes it, which must not fail */
    pier_db *db;     /* holds a reference */
    const pier__db_driver *driver;
    char *sql;
    pier_args *args; /* its own */
    pier__turn turn; /* one operation at a time */
    /* Whoever has the turn. */
    pier__conn *conn; /* while it keeps one */
    bool started;     /* a block has been asked for */
    bool keeps_conn;  /* driver: as cursor_keeps_conn, for this one */
    bool on_writer;   /* it cannot be read on a reader */
    bool failed;      /* driver: its next block is a failure that is known, connection or not */
    bool ended;       /* driver, and a failure: it has no more rows, and has nothing open on a
                         connection */
    struct pier__cursor_columns *columns; /* once it has ended by itself */
    bool columns_lost;                    /* for want of memory */
    /* The consumer's. */
    bool finished;      /* no block will come */
    bool fetching;      /* a thread is inside, which the runner's close waits for */
    pier_result *block; /* being read */
    size_t index;       /* of the next row in it */
    pier_error failure; /* the first, for close */
};

/* For drivers, in a step. They may settle the operation, so they come last. */
void pier__db_op_opened(pier__db_op *op);
void pier__db_op_ran(pier__db_op *op);
/* The request failed with `err` (copied). In a transaction that dooms it. */
PIER_COLD void pier__db_op_failed(pier__db_op *op, const pier_error *err);
/* For `ended`: it is to settle with `err` (copied), unless it has failed before. */
void pier__db_op_fail_late(pier__db_op *op, const pier_error *err);

/* With its connection, which is open: goes on. For db_hook.c. */
void pier__db_op_take_turn(pier__db_op *op);
/* The connection broke before anything of the request was sent: has it run on another one, from its
 * start. False: it has one that cannot be changed. */
bool pier__db_op_exchange(pier__db_op *op);

/* The request has been run on a reader and turns out to need the writer; it has done nothing. */
PIER_COLD void pier__db_op_move(pier__db_op *op);

/* ---- Inside sdk/ -------------------------------------------------------------------------- */

/* db_conn.c: makes the connection's struct; closes and frees it, here or on the loop. */
pier__conn *pier__conn_new(pier_db *root, pier__pool *pool);
void pier__conn_end(pier__conn *conn);
void pier__conn_unref(pier__conn *conn);
/* It is open: the pool may count on it. */
void pier__conn_join(pier__conn *conn);
/* Gives a borrowed connection back to the pool, or ends it. */
void pier__conn_give_back(pier__conn *conn);
/* The same, once the hook for it has been run. */
void pier__conn_give_back_clean(pier__conn *conn);

/* db_keeper.c: what keeps a pool in order. Makes it, cold; starts it; has it end. False: no memory.
 */
bool pier__db_keeper_new(pier_db *root);
void pier__db_keeper_start(pier_db *root);
void pier__db_keeper_stop(pier_db *root);
/* In a forked child: frees it. */
void pier__db_keeper_forget(pier_db *root);
/* Ends things that a pool has given out as a list. */
void pier__conn_end_all(pier__pooled *things);

/* db_idle.c: ends idle connections whose session has ended. The loop thread. */
void pier__db_look_at_idle(pier_db *root);

/* db_hook.c: the user's functions on a connection, each in a task of its own. */
enum { PIER__HOOK_INIT = 1, PIER__HOOK_SETUP = 2 };
/* Has those of op->hooks run that are left, and then pier__db_op_take_turn called; or fails op. */
void pier__db_hooks_run(pier__db_op *op);
void pier__db_hook_step(pier__db_op *op, unsigned events);
/* Has the hook for released connections run, which then gives the connection back or ends it.
 * False: it could not be started. */
bool pier__db_cleanup_start(pier__conn *conn);

/* db.c: scopes. */
pier_db *pier__db_ref(pier_db *db);
void pier__db_unref(pier_db *db);
/* A lease or transaction in `parent`, without a connection and not entered in the runner's list
 * yet; NULL: no memory. */
pier_db *pier__db_new_scope(pier_db *parent, pier__db_kind kind);
void pier__db_close_handle(pier__handle *handle);
/* The request that ends a lease or transaction, which is in no runner's list (any more). */
pier_future *pier__db_end_scope_op(pier_db *db);
/* Nothing more is handed out; what is idle is ended. */
void pier__db_end_pools(pier_db *root);

/* db_tx.c: what failures and ends mean for transactions. */
void pier__db_doom(pier_db *tx, const pier_error *err);
/* May a statement run in it? 0, or a status with `err` filled: ended, closed, doomed. */
int pier__db_usable(pier_db *db, pier_error *err);
/* Fills `err` with the first failure of a doomed transaction. */
bool pier__db_is_doomed(pier_db *db, pier_error *err);
/* Has it, or a scope around it, been ended? */
bool pier__db_has_ended(pier_db *db);
void pier__db_mark_ended(pier_db *tx);
/* Has a request end its transaction or savepoint. */
void pier__db_make_commit(pier__db_op *op);
/* Turns a request into the rollback of its transaction or savepoint. */
void pier__db_make_rollback(pier__db_op *op);
/* A request that makes a scope has run: gives the connection to the scope and enters it in the
 * runner's list. False: the runner is closing. */
bool pier__db_scope_made(pier__db_op *op);
/* The last request of a scope has ended: frees the scope. */
void pier__db_scope_closed(pier__db_op *op);

/* db_op.c: a request as a cold operation on `db`, which it keeps alive. */
pier__db_op *pier__db_op_new(const pier__op_class *cls, pier__request request, pier_db *db,
                             pier__op **failed);
/* The request that closes a scope or a cursor, in memory set aside for it. */
pier__db_op *pier__db_op_init(void *memory, const pier__op_class *cls, pier__request request,
                              pier_db *db);
void pier__db_op_unstarted(pier__op *op, const pier_error *err);
void pier__db_op_step(pier__op *op, unsigned events);
bool pier__db_op_waits_for(pier__op *op, struct pier__walk *walk);
bool pier__db_op_own(pier__op *op);
/* Settles a cold operation that must not run; that dooms a transaction as a failure does. */
pier_future *pier__db_op_refuse(pier__db_op *op, const pier_error *err);
/* db.c: a request of a statement handle's. */
pier_future *pier__db_statement_op(pier_db *db, bool fetches, const char *sql,
                                   const pier_args *args);
/* Has the request run SQL that lives as long as the operation. */
void pier__db_use_sql(pier__db_op *op, const char *sql);
void pier__db_op_fini(pier__op *op);
/* For classes of no more than a pier__db_op, which are made by pier__db_op_new: most requests end
 * before the next one begins, so that one spare block saves nearly every allocation, and what the
 * block refers to nearly every reference. Comes with pier__db_op_fini_reused as `fini`. */
void pier__db_op_retire(pier__op *op);
void pier__db_op_fini_reused(pier__op *op);
/* Nothing more is reused; drops what is kept. */
void pier__db_drop_spare(pier_db *root);
const char *pier__db_op_subject(const pier__op *op);

/* cursor.c */
pier_cursor *pier__cursor_ref(pier_cursor *cursor);
void pier__cursor_unref(pier_cursor *cursor);
/* Keeps the columns of a cursor's last block, for those who ask beyond it. */
void pier__cursor_keep_columns(pier_cursor *cursor, const pier_result *last);
/* Gives a request an empty block, with the columns: the cursor has ended. */
void pier__cursor_beyond_end(pier__db_op *op);
/* CURSOR_CLOSE has run, or could not: settles with what failed in the cursor, and frees it. */
void pier__cursor_closed(pier__db_op *op);

/* All drivers that this library was built with; ends with NULL. In drivers/registry.c. */
extern const pier__db_driver *const pier__db_drivers[];

/* Copies arguments, deeply, in one allocation; NULL: no memory. */
pier_args *pier__args_copy(const pier_args *args);
pier_args *pier__args_copy_rows(const pier_args *rows, size_t count);
/* The same into memory of that size, for `copy`. */
size_t pier__args_size(const pier_args *args);
void pier__args_write(pier_args *copy, void *memory, const pier_args *args);

/* Is it one of the things that the driver can? Else `err` says so, and what to do instead. */
int pier__db_check_can(const pier_db *db, unsigned what, const char *function, pier_error *err);
/* Can these arguments be bound at all? */
int pier__db_check_args(const pier_db *db, const char *function, const char *sql,
                        const pier_args *args, pier_error *err);

#endif
