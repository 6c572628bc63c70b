/*
 * The list of registrations, and the requests that enter things into it. Destructors of users are
 * never called under the lock.
 */
#include "drivers/sqlite/registry.h"

#include "drivers/sqlite/changes.h"
#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/own.h"
#include "sdk/alloc.h"
#include <string.h>
#include <strings.h>

/* ---- Registrations ------------------------------------------------------------------------ */

pier__sqlite_registration *pier__sqlite_registration_new(pier__sqlite_kind kind, void *user_data,
                                                         pier_sqlite_destroy_fn destroy)
{
    pier__sqlite_registration *registration = pier__calloc(1, sizeof *registration);
    if (registration) {
        atomic_init(&registration->refs, 1);
        registration->kind = kind;
        registration->user_data = user_data;
        registration->destroy = destroy;
    } else if (destroy) {
        destroy(user_data);
    }
    return registration;
}

pier__sqlite_registration *pier__sqlite_registration_ref(pier__sqlite_registration *registration)
{
    atomic_fetch_add_explicit(&registration->refs, 1, memory_order_relaxed);
    return registration;
}

void pier__sqlite_registration_unref(void *data)
{
    pier__sqlite_registration *registration = data;
    if (registration &&
        atomic_fetch_sub_explicit(&registration->refs, 1, memory_order_acq_rel) == 1) {
        if (registration->destroy) {
            registration->destroy(registration->user_data);
        }
        pier__free(registration->name);
        pier__free(registration->text);
        pier__free(registration);
    }
}

/* ---- The list ----------------------------------------------------------------------------- */

void pier__sqlite_registry_init(pier__sqlite_registry *registry)
{
    pthread_mutex_init(&registry->lock, NULL);
    registry->tail = &registry->head;
}

void pier__sqlite_registry_fini(pier__sqlite_registry *registry)
{
    while (registry->head) {
        pier__sqlite_registration *registration = registry->head;
        registry->head = registration->next;
        pier__sqlite_registration_unref(registration);
    }
    pthread_mutex_destroy(&registry->lock);
}

/* Does the one stand in the place of the other? Collations and functions are found whatever the
 * case of their names. */
static bool is_same(const pier__sqlite_registration *a, const pier__sqlite_registration *b)
{
    bool numbered = a->kind == PIER__SQLITE_FUNCTION || a->kind == PIER__SQLITE_LIMIT;
    return a->kind == b->kind && (!numbered || a->number == b->number) &&
           (!a->name || !strcasecmp(a->name, b->name));
}

/* Under the lock: takes the one out that the new one stands in the place of. */
static pier__sqlite_registration *take_replaced(pier__sqlite_registry *registry,
                                                const pier__sqlite_registration *registration)
{
    for (pier__sqlite_registration **at = &registry->head; *at; at = &(*at)->next) {
        pier__sqlite_registration *old = *at;
        if (is_same(old, registration)) {
            *at = old->next;
            if (registry->tail == &old->next) {
                registry->tail = at;
            }
            return old;
        }
    }
    return NULL;
}

/* Enters what the connection has already. */
static void enter(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    pier__sqlite_registry *registry = &((pier__sqlite_db *)conn->base.db)->registry;
    pthread_mutex_lock(&registry->lock);
    pier__sqlite_registration *old = take_replaced(registry, registration);
    registration->first = conn->id;
    registration->next = NULL;
    registration->sequence = atomic_fetch_add(&registry->generation, 1) + 1;
    *registry->tail = pier__sqlite_registration_ref(registration);
    registry->tail = &registration->next;
    pthread_mutex_unlock(&registry->lock);
    pier__sqlite_registration_unref(old);
}

static int apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    int code;
    conn->own = true; /* the authorizer is not asked */
    switch (registration->kind) {
    case PIER__SQLITE_FUNCTION:
        code = pier__sqlite_function_apply(conn, registration);
        break;
    case PIER__SQLITE_COLLATION:
        code = pier__sqlite_collation_apply(conn, registration);
        break;
    case PIER__SQLITE_LIMIT:
        code = pier__sqlite_limit_apply(conn, registration);
        break;
    case PIER__SQLITE_EXTENSION:
        code = pier__sqlite_extension_apply(conn, registration);
        break;
    case PIER__SQLITE_ATTACHED:
        code = pier__sqlite_attach_apply(conn, registration);
        break;
    default:
        code = pier__sqlite_hook_apply(conn, registration);
        break;
    }
    conn->own = false;
    return code;
}

/* The first one behind `sequence`, with a reference; NULL: there is none, and `*generation` is
 * where the connection stands then. */
static pier__sqlite_registration *next_behind(pier__sqlite_registry *registry, unsigned sequence,
                                              unsigned *generation)
{
    pthread_mutex_lock(&registry->lock);
    pier__sqlite_registration *at = registry->head;
    while (at && at->sequence <= sequence) {
        at = at->next;
    }
    if (at) {
        pier__sqlite_registration_ref(at);
    }
    *generation = atomic_load(&registry->generation);
    pthread_mutex_unlock(&registry->lock);
    return at;
}

bool pier__sqlite_registry_catch_up(pier__sqlite_conn *conn)
{
    pier__sqlite_registry *registry = &((pier__sqlite_db *)conn->base.db)->registry;
    if (atomic_load_explicit(&registry->generation, memory_order_acquire) == conn->registered) {
        return true;
    }
    int code = SQLITE_OK;
    unsigned generation;
    pier__sqlite_registration *next;
    while (code == SQLITE_OK && (next = next_behind(registry, conn->registered, &generation))) {
        /* `first` was written under the lock, before it could be found. */
        code = next->first == conn->id ? SQLITE_OK : apply(conn, next);
        if (code == SQLITE_OK) {
            conn->registered = next->sequence;
        }
        pier__sqlite_registration_unref(next);
    }
    if (code == SQLITE_OK) {
        conn->registered = generation;
    }
    pier__sqlite_changes_watch(conn);
    if (code == SQLITE_BUSY) {
        conn->failure.status = 0; /* a cursor is open: with a later request */
        return true;
    }
    return code == SQLITE_OK;
}

/* ---- Requests ----------------------------------------------------------------------------- */

typedef struct registry_op {
    pier__sqlite_own own;                    /* first */
    pier__sqlite_registration *registration; /* holds a reference; NULL: it registers nothing */
    int number;
} registry_op;
_Static_assert(sizeof(registry_op) <= PIER__SQLITE_OP_SIZE, "raise PIER__SQLITE_OP_SIZE");

void pier__sqlite_registry_op_fini(pier__op *op)
{
    pier__sqlite_registration_unref(((registry_op *)op)->registration);
    pier__db_op_fini(op);
}

bool pier__sqlite_is_sqlite(const pier_db *db, const char *function, pier_error *err)
{
    if (db->driver == &pier__sqlite_driver) {
        return true;
    }
    pier_error_set(err, PIER_EINVAL, "%s: %s is no SQLite database", function, db->root->name);
    return false;
}

/* NULL: `*failed` is to be given back. */
static registry_op *new_op(const pier__op_class *cls, pier_db *db, const char *refusal,
                           pier__op **failed)
{
    if (!db) {
        *failed = pier__op_null();
        return NULL;
    }
    registry_op *op = (registry_op *)pier__db_op_new(cls, PIER__OWN, db, failed);
    if (!op) {
        return NULL;
    }
    pier_error err;
    err.status = 0;
    if (refusal) {
        pier_error_set(&err, PIER_EINVAL, "%s: %s", cls->name, refusal);
    }
    if (refusal || !pier__sqlite_is_sqlite(db, cls->name, &err)) {
        pier__op_fail_with(&op->own.base.op, &err);
        *failed = &op->own.base.op;
        return NULL;
    }
    op->own.base.refused = true; /* its failure is no statement's, and dooms no transaction */
    pier__db_use_sql(&op->own.base, "");
    return op;
}

pier_future *pier__sqlite_ask_op(const pier__op_class *cls, pier_db *db,
                                 bool (*run)(pier__sqlite_conn *conn, pier__sqlite_own *own),
                                 int number, const char *refusal)
{
    pier__op *failed = NULL;
    registry_op *op = new_op(cls, db, refusal, &failed);
    if (!op) {
        return failed;
    }
    op->own.run = run;
    op->number = number;
    return &op->own.base.op;
}

int pier__sqlite_asked(const pier__sqlite_own *own)
{
    return ((const registry_op *)own)->number;
}

static bool run_register(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    registry_op *op = (registry_op *)own;
    if (apply(conn, op->registration) != SQLITE_OK) {
        return false;
    }
    enter(conn, op->registration);
    own->base.count = op->registration->answer;
    return true;
}

pier_future *pier__sqlite_register_op(const pier__op_class *cls, pier_db *db,
                                      pier__sqlite_registration *registration, const char *refusal)
{
    pier__op *failed = NULL;
    registry_op *op = new_op(cls, db, refusal, &failed);
    if (!op) {
        pier__sqlite_registration_unref(registration);
        return failed;
    }
    op->registration = registration;
    op->own.run = run_register;
    if (!registration) {
        return pier__op_refuse(&op->own.base.op, PIER_ENOMEM, "%s: out of memory", cls->name);
    }
    return &op->own.base.op;
}
