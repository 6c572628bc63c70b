/*
 * What keeps a pool in order while nobody asks for anything: an operation on the loop that ends
 * connections whose time has come, makes those that the minimum wants, and has somebody try again
 * when connecting has failed. It lives from the pool's opening to its close.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/loop_internal.h"

enum {
    /* How often it looks: a quarter of the shortest time, within these bounds. */
    TICK_MIN_MS = 10,
    TICK_MAX_MS = 15000,
    /* Without memory, say, connections are lost as fast as they are made. */
    REFILL_MS = 10
};

struct keeper {
    pier__op op;
    pier_db *root; /* holds a reference from its start to its end */
    int64_t tick;
    int64_t refilled; /* when it last did */
    int64_t swept;
};

/* ---- Making one --------------------------------------------------------------------------- */

static void maker_unstarted(pier__op *op, const pier_error *err)
{
    (void)err;
    pier__pool_lost(&((pier__db_op *)op)->db->pool, NULL);
}

static const pier__op_class maker_class = {
    .name = "pier_db_open",
    .result = "int",
    .size = sizeof(pier__db_op),
    .step = pier__db_op_step,
    .fini = pier__db_op_fini,
    .unstarted = maker_unstarted,
    .subject = pier__db_op_subject,
};

/* Where the pool has counted it as being made. */
static void make_one(pier_db *root)
{
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(&maker_class, PIER__LEASE, root, &failed);
    if (!op) {
        pier__pool_lost(&root->pool, NULL);
        return;
    }
    op->keeps = true;
    op->op.on_loop = true;
    op->op.observed = true; /* whoever asks for a connection is told */
    atomic_store(&op->op.mail, PIER__MAIL_LOOP);
    pier__loop_start_on_loop(&op->op);
    pier__op_unref(&op->op);
}

/* ---- Looking after it --------------------------------------------------------------------- */

static void refill(struct keeper *keeper, int64_t now)
{
    keeper->refilled = now;
    for (int count = pier__pool_refill(&keeper->root->pool); count > 0; count--) {
        make_one(keeper->root);
    }
}

static void look(struct keeper *keeper)
{
    pier_db *root = keeper->root;
    int64_t now = pier__now(), idle_ms = root->settings.idle_timeout_ms;
    if (now - keeper->swept >= keeper->tick) {
        keeper->swept = now;
        pier__conn_end_all(pier__pool_sweep(&root->pool, now, idle_ms > 0 ? idle_ms * 1000000 : 0));
        pier__db_look_at_idle(root);
    }
    int64_t next_refill = keeper->refilled + (int64_t)REFILL_MS * 1000000;
    int64_t again = next_refill;
    if (now >= next_refill) {
        refill(keeper, now);
        again = pier__pool_next(&root->pool);
    }
    keeper->op.wait.kind = PIER__WAIT_WAKE;
    keeper->op.wait.until = pier__earlier(keeper->swept + keeper->tick, again);
}

static void keeper_step(pier__op *op, unsigned events)
{
    struct keeper *keeper = (struct keeper *)op;
    op->doing = "looking after the pool";
    if (events & PIER__CANCEL) {
        pier_db *root = keeper->root;
        pier__op_succeed_int(op, 0);
        pier__db_unref(root);
    } else {
        look(keeper);
    }
}

static void keeper_unstarted(pier__op *op, const pier_error *err)
{
    (void)err;
    op->observed = true;
    pier__db_unref(((struct keeper *)op)->root);
}

static const char *keeper_subject(const pier__op *op)
{
    return ((const struct keeper *)op)->root->name;
}

static const pier__op_class keeper_class = {
    .name = "pier_db_open",
    .result = "int",
    .size = sizeof(struct keeper),
    .step = keeper_step,
    .unstarted = keeper_unstarted,
    .subject = keeper_subject,
};

static int64_t tick_of(const pier__db_settings *settings)
{
    int64_t ms = INT64_C(4) * TICK_MAX_MS;
    if (settings->idle_timeout_ms > 0 && settings->idle_timeout_ms < ms) {
        ms = settings->idle_timeout_ms;
    }
    if (settings->lifetime_ms > 0 && settings->lifetime_ms < ms) {
        ms = settings->lifetime_ms;
    }
    ms /= 4;
    return (ms < TICK_MIN_MS ? TICK_MIN_MS : ms) * 1000000;
}

/* ---- Its life ----------------------------------------------------------------------------- */

bool pier__db_keeper_new(pier_db *root)
{
    pier__op *failed = NULL;
    struct keeper *keeper = pier__op_new(&keeper_class, root->handle.runner, &failed);
    if (keeper) {
        keeper->root = root;
        keeper->tick = tick_of(&root->settings);
        root->keeper = &keeper->op;
    }
    return keeper || failed != pier__op_nomem(); /* else the runner is closing */
}

/* As pier__op_submit, but outside every scope and unseen by the trace. */
void pier__db_keeper_start(pier_db *root)
{
    pier__op *op = root->keeper;
    if (!op) {
        return;
    }
    pier__db_ref(root);
    op->on_loop = true;
    atomic_store(&op->mail, PIER__MAIL_LOOP | PIER__MAIL_QUEUED | PIER__START);
    pier__op_ref(op);
    root->pool.keeper = op;
    if (!pier__loop_post(op->runner, &op->post)) {
        root->pool.keeper = NULL;
        pier__op_unref(op);
        pier__op_fail_unstarted(op, PIER_ECLOSED);
    }
}

void pier__db_keeper_stop(pier_db *root)
{
    if (root->pool.keeper) {
        pier__op_cancel(root->keeper, PIER_ECLOSED);
    }
}

/* Its loop is the parent's, so its references can only be dropped from here. */
void pier__db_keeper_forget(pier_db *root)
{
    pier__op *op = root->keeper;
    if (root->pool.keeper && !pier__op_settled(op) && atomic_load(&op->refs) == 2) {
        root->pool.keeper = NULL;
        op->linked = false;
        pier__op_unref(op);
        pier__db_unref(root);
    }
}
