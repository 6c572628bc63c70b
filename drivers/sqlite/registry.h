#ifndef PIER_DRIVERS_SQLITE_REGISTRY_H
#define PIER_DRIVERS_SQLITE_REGISTRY_H
/*
 * What users register: functions, collations, hooks, limits, extensions, attached databases. The
 * root keeps the list; each connection applies what it has not got yet when it is opened and before
 * each of its requests. Registering is a request on one connection, where it shows whether it is
 * possible; then it enters the list.
 */
#include "sdk/db.h"
#include <pier/async/sqlite_changes.h>
#include <sqlite3.h>

struct pier__sqlite_conn;

typedef enum pier__sqlite_kind {
    /* Hooks: one of each. */
    PIER__SQLITE_BUSY = 0,
    PIER__SQLITE_PROGRESS,
    PIER__SQLITE_TRACE,
    PIER__SQLITE_AUTHORIZER,
    PIER__SQLITE_UPDATE,
    PIER__SQLITE_COMMIT,
    PIER__SQLITE_ROLLBACK,
    PIER__SQLITE_HOOKS, /* how many */
    /* One of each name, or number, or both. */
    PIER__SQLITE_FUNCTION,
    PIER__SQLITE_COLLATION,
    PIER__SQLITE_LIMIT,
    PIER__SQLITE_EXTENSION,
    PIER__SQLITE_ATTACHED
} pier__sqlite_kind;

/* Immutable once it is in the list, but for the last fields. */
typedef struct pier__sqlite_registration {
    atomic_int refs; /* the operation's, the list's, each connection's that uses it */
    pier__sqlite_kind kind;
    bool removes; /* it stands for the absence of what it names */
    char *name;   /* NULL: it has none */
    char *text;   /* path, entry point */
    int number;   /* arguments, instructions, events, a limit */
    int value;    /* of a limit; whether values are traced */
    pier_sqlite_function_options function;
    union {
        pier_sqlite_compare_fn compare;
        pier_sqlite_busy_fn busy;
        pier_sqlite_progress_fn progress;
        pier_sqlite_trace_fn trace;
        pier_sqlite_authorizer_fn authorizer;
        pier_sqlite_update_fn update;
        pier_sqlite_commit_fn commit;
        pier_sqlite_rollback_fn rollback;
    } fn;
    void *user_data;
    pier_sqlite_destroy_fn destroy;
    int answer; /* what registering it gives; written before it is in the list */
    /* Guarded by the registry's lock. */
    struct pier__sqlite_registration *next;
    unsigned sequence;
    unsigned first; /* the connection that had it before it was in the list */
} pier__sqlite_registration;

typedef struct pier__sqlite_registry {
    pthread_mutex_t lock;
    atomic_uint generation; /* grows with each registration and each subscriber */
    atomic_uint connections;
    atomic_uint interrupts; /* how often the pool was interrupted */
    /* Guarded by lock. */
    pier__sqlite_registration *head, **tail; /* in the order of registration; a reference each */
    struct pier_sqlite_changes *subscribers;
    int changes_max; /* the greatest of theirs */
    bool closed;     /* the pool is: no more changes are delivered */
} pier__sqlite_registry;

void pier__sqlite_registry_init(pier__sqlite_registry *registry);
void pier__sqlite_registry_fini(pier__sqlite_registry *registry);

/* With user_data and destroy taken, also where there is no memory (NULL). */
pier__sqlite_registration *pier__sqlite_registration_new(pier__sqlite_kind kind, void *user_data,
                                                         pier_sqlite_destroy_fn destroy);
pier__sqlite_registration *pier__sqlite_registration_ref(pier__sqlite_registration *registration);
/* Also the destructor that SQLite calls. NULL is harmless. */
void pier__sqlite_registration_unref(void *registration);

/* Applies what the connection has not got yet. False: its failure is filled. */
bool pier__sqlite_registry_catch_up(struct pier__sqlite_conn *conn);

/* ---- Requests ----------------------------------------------------------------------------- */

struct pier__sqlite_own;
enum { PIER__SQLITE_OP_SIZE = sizeof(pier__db_op) + 64 }; /* registry.c makes sure that it fits */

#define PIER__SQLITE_ASK_CLASS(function, type)                                                     \
    {                                                                                              \
        .name = function, .result = type, .size = PIER__SQLITE_OP_SIZE, .step = pier__db_op_step,  \
        .waits_for = pier__db_op_waits_for, .fini = pier__sqlite_registry_op_fini,                 \
        .subject = pier__db_op_subject                                                             \
    }

void pier__sqlite_registry_op_fini(pier__op *op);
/* A request on `db` that does `run` with a number, whose result goes to base.count. */
pier_future *pier__sqlite_ask_op(const pier__op_class *cls, pier_db *db,
                                 bool (*run)(struct pier__sqlite_conn *conn,
                                             struct pier__sqlite_own *own),
                                 int number, const char *refusal);
int pier__sqlite_asked(const struct pier__sqlite_own *own);
/* The operation that registers; `registration` (NULL: no memory) is taken. With `refusal`, one that
 * has failed with that, as PIER_EINVAL. */
pier_future *pier__sqlite_register_op(const pier__op_class *cls, pier_db *db,
                                      pier__sqlite_registration *registration, const char *refusal);
/* Is it a handle of this driver? Else `err` is filled. */
bool pier__sqlite_is_sqlite(const pier_db *db, const char *function, pier_error *err);

/* ---- How each kind is applied ------------------------------------------------------------- */

/* SQLite's result code; SQLITE_BUSY: not now. The connection's failure is filled otherwise. */
int pier__sqlite_function_apply(struct pier__sqlite_conn *conn,
                                pier__sqlite_registration *registration);
int pier__sqlite_collation_apply(struct pier__sqlite_conn *conn,
                                 pier__sqlite_registration *registration);
int pier__sqlite_hook_apply(struct pier__sqlite_conn *conn,
                            pier__sqlite_registration *registration);
int pier__sqlite_limit_apply(struct pier__sqlite_conn *conn,
                             pier__sqlite_registration *registration);
int pier__sqlite_extension_apply(struct pier__sqlite_conn *conn,
                                 pier__sqlite_registration *registration);
int pier__sqlite_attach_apply(struct pier__sqlite_conn *conn,
                              pier__sqlite_registration *registration);

#endif
