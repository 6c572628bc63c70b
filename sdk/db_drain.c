/*
 * Waiting for a pool to be empty: it is closed, and whoever ends the last connection wakes the one
 * that waits.
 */
#include "sdk/db.h"

#include "sdk/clock.h"
#include "sync/ops.h"

enum { TIMEOUT_MS = 30000 };

struct drain {
    pier__op op;
    pier_db *db; /* holds a reference */
    int64_t timeout_ms;
    pier__ticket tickets[2]; /* of the pool and of its readers */
};

static void leave(struct drain *drain)
{
    pier__pool_leave_end(&drain->db->pool, &drain->tickets[0]);
    if (drain->db->readers) {
        pier__pool_leave_end(drain->db->readers, &drain->tickets[1]);
    }
}

static bool is_empty(struct drain *drain)
{
    bool empty = pier__pool_await_end(&drain->db->pool, &drain->tickets[0]);
    return (!drain->db->readers || pier__pool_await_end(drain->db->readers, &drain->tickets[1])) &&
           empty;
}

static void fail_timed_out(struct drain *drain)
{
    pier_db *db = drain->db;
    char holders[200];
    pier__pool_describe(&db->pool, NULL, holders, sizeof holders);
    if (!*holders && db->readers) {
        pier__pool_describe(db->readers, NULL, holders, sizeof holders);
    }
    pier__op_fail(&drain->op, PIER_ETIMEDOUT,
                  "pier_db_drain: connections are still in use after %" PRId64 " ms: %s",
                  drain->timeout_ms ? drain->timeout_ms : TIMEOUT_MS, holders);
}

static bool waits_for_itself(const struct drain *drain)
{
    const void *holder = drain->op.holder;
    pier_db *db = drain->db;
    return holder && (pier__pool_is_held(&db->pool, holder) ||
                      (db->readers && pier__pool_is_held(db->readers, holder)));
}

static void drain_step(pier__op *op, unsigned events)
{
    struct drain *drain = (struct drain *)op;
    if (events & PIER__CANCEL) {
        leave(drain);
        pier__op_fail_cancelled(op);
        return;
    }
    if (events & PIER__START) {
        op->doing = "waiting for connections to come back";
        op->wait.until = pier__deadline(drain->timeout_ms, TIMEOUT_MS);
        if (waits_for_itself(drain)) {
            pier__op_fail(op, PIER_EDEADLOCK,
                          "pier_db_drain: this very thread or task holds a connection; close that "
                          "lease, transaction or cursor first");
            return;
        }
        pier__db_end_pools(drain->db);
    }
    if (is_empty(drain)) {
        leave(drain);
        pier__op_succeed_int(op, 0);
    } else if (events & PIER__EXPIRED) {
        leave(drain);
        fail_timed_out(drain);
    }
}

static void drain_fini(pier__op *op)
{
    pier__db_unref(((struct drain *)op)->db);
}

static const char *drain_subject(const pier__op *op)
{
    return ((const struct drain *)op)->db->name;
}

static const pier__op_class drain_class = {
    .name = "pier_db_drain",
    .result = "int",
    .size = sizeof(struct drain),
    .step = drain_step,
    .fini = drain_fini,
    .subject = drain_subject,
};

pier_future *pier__db_drain_op(pier_db *db, int64_t timeout_ms)
{
    if (!db) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct drain *drain = pier__op_new(&drain_class, db->handle.runner, &failed);
    if (!drain) {
        return failed;
    }
    drain->db = pier__db_ref(db);
    drain->timeout_ms = timeout_ms;
    drain->tickets[0].op = drain->tickets[1].op = &drain->op;
    if (db->kind != PIER__DB_POOL) {
        return pier__op_refuse(&drain->op, PIER_EINVAL,
                               "pier_db_drain: this is a lease or a transaction; drain the pool");
    }
    return &drain->op;
}
