/*
 * The user's functions on connections of a pool. Each runs in a task of its own, with the
 * connection as a scope that nobody else knows; whoever borrows waits for its end, and who gives
 * back does not.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include <pier/task.h>

struct pier__hook {
    pier__listener listener;
    pier_future *task; /* owned */
    pier_db *scope;    /* owned; NULL once it has run */
    pier__conn *conn;
    pier_db_hook fn;
    const char *what;
    pier__op *waiter; /* holds a reference until it is told; NULL for a connection given back */
    atomic_bool ended;
};

static void free_hook(struct pier__hook *hook)
{
    if (hook->task) {
        pier_future_free(hook->task);
    }
    if (hook->scope) {
        pier__db_mark_ended(hook->scope);
        pier__db_unref(hook->scope);
    }
    pier__free(hook);
}

static int run_hook(pier_task *self, void *arg, pier_error *err)
{
    struct pier__hook *hook = arg;
    const pier__db_settings *settings = &hook->scope->root->settings;
    /* Whoever waits for it is bounded by this. */
    pier_scope *bound =
        pier_scope_open(pier_task_runner(self),
                        PIER_SCOPE_OPTIONS(.timeout_ms = settings->acquire_timeout_ms), err);
    int status = bound ? hook->fn(hook->scope, settings->hook_data, err) : err->status;
    pier_scope_close(bound);
    if (status >= 0 && hook->conn->in_tx) {
        status = pier_error_set(err, PIER_EINVAL, "it has left a transaction open");
    }
    /* A request of its that was cancelled may still be cleaned up: this waits for that. */
    pier__op_take_void(pier__op_run(pier__db_end_scope_op(hook->scope), NULL));
    hook->scope = NULL;
    return status;
}

static struct pier__hook *new_hook(pier__conn *conn, const char *what, pier_db_hook fn)
{
    struct pier__hook *hook = pier__calloc(1, sizeof *hook);
    pier_db *scope = hook ? pier__db_new_scope(conn->db, PIER__DB_LEASE) : NULL;
    if (!scope) {
        pier__free(hook);
        return NULL;
    }
    atomic_fetch_add(&conn->refs, 1);
    conn->pooled.shared = true;
    scope->conn = conn;
    hook->scope = scope;
    hook->conn = conn;
    hook->fn = fn;
    hook->what = what;
    return hook;
}

/* ---- For who borrows ---------------------------------------------------------------------- */

static void on_ended(pier__listener *listener, pier__op *task)
{
    struct pier__hook *hook = (struct pier__hook *)listener;
    pier__op *waiter = hook->waiter;
    (void)task;
    atomic_store(&hook->ended, true); /* from here on the waiter may free it */
    pier__op_wake(waiter);
    pier__op_unref(waiter);
}

/* Starts the next one. */
static bool start(pier__db_op *op, pier_error *err)
{
    const pier__db_settings *settings = &op->db->root->settings;
    bool init = op->hooks & PIER__HOOK_INIT;
    struct pier__hook *hook =
        new_hook(op->conn, init ? "init" : "setup", init ? settings->init : settings->setup);
    if (!hook) {
        pier_error_set(err, PIER_ENOMEM, "%s: out of memory", op->op.cls->name);
        return false;
    }
    op->hook = hook;
    hook->waiter = pier__op_ref(&op->op);
    hook->listener.settled = on_ended;
    hook->task = pier_task_start(op->op.runner, run_hook, hook);
    pier__op_listen(hook->task, &hook->listener);
    return true;
}

/* 1: it has ended well; 0: it runs; negative: it failed, `err` is filled. */
static int end(pier__db_op *op, pier_error *err)
{
    struct pier__hook *hook = op->hook;
    pier_error why = {0};
    if (!atomic_load(&hook->ended)) {
        return 0;
    }
    int status = pier_task_finish(hook->task, &why);
    hook->task = NULL;
    if (status < 0) {
        pier_error_set(err, status, "%s: the %s hook of %.120s failed: %.300s", op->op.cls->name,
                       hook->what, op->db->root->name, why.message);
    }
    op->hook = NULL;
    free_hook(hook);
    return status < 0 ? status : 1;
}

/* A connection that a hook has failed on is not used again. */
static void fail(pier__db_op *op, pier_error *err)
{
    op->conn->dead = true;
    if (op->op.cancelled) {
        pier__op_cancelled_error(&op->op, err);
    } else if (op->hooks & PIER__HOOK_INIT) {
        pier__pool_failed(op->pool, err, op->probes);
    }
    pier__db_op_failed(op, err);
}

void pier__db_hooks_run(pier__db_op *op)
{
    pier_error err;
    op->op.doing = "in a hook of the pool";
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = 0; /* the hook is bounded */
    if (!op->hooks) {
        pier__db_op_take_turn(op);
    } else if (!start(op, &err)) {
        fail(op, &err);
    }
}

void pier__db_hook_step(pier__db_op *op, unsigned events)
{
    pier_error err;
    err.status = 0;
    if (events & PIER__CANCEL) {
        pier__op_cancel(op->hook->task, op->op.cancelled);
    }
    int ended = end(op, &err);
    if (ended == 0) {
        return;
    }
    /* What ended the connection was not the hook: it may be run on another one, once. */
    if (ended < 0 && !op->op.cancelled && op->conn->dead && !(op->hooks & PIER__HOOK_INIT) &&
        !op->retried) {
        op->retried = true;
        if (pier__db_op_exchange(op)) {
            return;
        }
    }
    if (ended < 0 || op->op.cancelled) {
        fail(op, &err);
        return;
    }
    bool init = op->hooks & PIER__HOOK_INIT;
    op->hooks &= init ? ~PIER__HOOK_INIT : 0;
    if (init) {
        pier__conn_join(op->conn);
    }
    pier__db_hooks_run(op);
}

/* ---- For who gives back ------------------------------------------------------------------- */

/* What went wrong is told as of any future that nobody looked at. */
static void on_cleaned(pier__listener *listener, pier__op *task)
{
    struct pier__hook *hook = (struct pier__hook *)listener;
    pier__conn *conn = hook->conn;
    bool fit = task->status >= 0;
    free_hook(hook);
    if (fit) {
        pier__conn_give_back_clean(conn);
    } else {
        pier__conn_end(conn);
    }
}

bool pier__db_cleanup_start(pier__conn *conn)
{
    pier_db *root = conn->db;
    struct pier__hook *hook = new_hook(conn, "cleanup", root->settings.cleanup);
    if (!hook) {
        return false;
    }
    pier__pool_hold(conn->pool, &conn->pooled, NULL, "a cleanup hook");
    /* The scope of whoever gives it back may be over. */
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = NULL;
    pier_future *task = pier_task_start(root->handle.runner, run_hook, hook);
    pier__here.scope = ambient;
    hook->task = task;
    hook->listener.settled = on_cleaned;
    pier__op_listen(task, &hook->listener);
    return true;
}
