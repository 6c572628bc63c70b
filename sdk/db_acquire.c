/*
 * How a request comes by a connection: it asks the pool for one, waits for it, opens it if it is
 * new, has the user's hooks run on it, and exchanges it if it turns out to be lost. With the
 * connection it goes on in db_op.c.
 */
#include "sdk/db_op.h"

#include "sdk/clock.h"
#include "sdk/context.h"
#include <string.h>

/* ---- Acquire ------------------------------------------------------------------------------ */

void pier__db_refuse_deadlock(pier__db_op *op)
{
    char holders[200];
    pier_error err;
    pier__pool_describe(op->pool ? op->pool : op->conn->pool, &op->op, holders, sizeof holders);
    pier_error_set(
        &err, PIER_EDEADLOCK,
        "%s: every connection of %s (%d) is held by this very thread or task (%s), so it "
        "would wait for itself; use that handle, or allow more connections",
        op->op.cls->name, op->db->root->name, (op->pool ? op->pool : op->conn->pool)->max, holders);
    pier__db_op_failed(op, &err);
}

bool pier__db_works_here(const pier__db_op *op, const pier__conn *conn)
{
    for (const struct pier__working *at = pier__here.working; at; at = at->outer) {
        const pier__db_op *other = (const pier__db_op *)at->op;
        if (at->op->cls->step == pier__db_op_step && other->db->root == op->db->root &&
            (conn ? other->conn == conn
                  : op->pool->max == 1 && other->conn && other->conn->pool == op->pool)) {
            return true;
        }
    }
    return false;
}

static void bound_open(pier__db_op *op)
{
    if (op->phase == PIER__DB_OPEN && !pier__op_settled(&op->op)) {
        op->op.wait.until = pier__earlier(op->op.wait.until, op->phase_until);
    }
}

static void make_connection(pier__db_op *op)
{
    pier_db *root = op->db->root;
    op->conn = pier__conn_new(root, op->pool);
    if (!op->conn) {
        pier__pool_lost(op->pool, NULL);
        pier_error err;
        pier_error_set(&err, PIER_ENOMEM, "%s: out of memory", op->op.cls->name);
        pier__db_op_failed(op, &err);
        return;
    }
    /* It counts as made from now on: its end says that it is lost. */
    pier__pool_made(op->pool, &op->conn->pooled);
    op->probes = pier__pool_probes(op->pool);
    op->borrowed = true;
    op->phase = PIER__DB_OPEN;
    op->op.doing = "connecting";
    op->op.wait.until = 0;
    op->phase_until = pier__deadline(root->settings.connect_timeout_ms, 0);
    root->driver->open_step(op, PIER__START);
    bound_open(op);
}

static void exchange(pier__db_op *op);
static void run_hooks(pier__db_op *op, int hooks);

static void got_connection(pier__db_op *op, pier__pooled *thing)
{
    const pier_db *root = op->db->root;
    op->conn = (pier__conn *)thing;
    op->borrowed = true;
    if (root->driver->conn_check && !root->driver->conn_check(op->conn)) {
        exchange(op);
    } else if (root->settings.setup) {
        run_hooks(op, PIER__HOOK_SETUP);
    } else {
        pier__db_op_take_turn(op);
    }
}

/* Where there are readers: does it go to one? */
static bool goes_to_reader(const pier__db_op *op)
{
    if (op->moved || (op->cursor && op->cursor->on_writer)) {
        return false;
    }
    return op->reads || (op->request != PIER__OWN && op->db->root->driver->reads(op));
}

static pier__pool *choose_pool(pier__db_op *op)
{
    pier_db *root = op->db->root;
    if (!root->readers) {
        return &root->pool;
    }
    bool reader = goes_to_reader(op);
    if (op->cursor) {
        op->cursor->on_writer = !reader;
    }
    return reader ? root->readers : &root->pool;
}

static void refuse_closed(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_ECLOSED, "%s: %s is closed", op->op.cls->name, op->db->root->name);
    pier__db_op_failed(op, &err);
}

static void refuse_full(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_EPOOL,
                   "%s: all %d connections of %s are in use, and as many requests wait for one as "
                   "may (waiting_max)",
                   op->op.cls->name, op->pool->max, op->db->root->name);
    pier__db_op_failed(op, &err);
}

static void take_answer(pier__db_op *op, pier__pool_answer answer)
{
    switch (answer) {
    case PIER__POOL_GOT:
        got_connection(op, op->ticket.got);
        break;
    case PIER__POOL_MAKE:
        make_connection(op);
        break;
    case PIER__POOL_SELF:
        pier__db_refuse_deadlock(op);
        break;
    case PIER__POOL_CLOSED:
        refuse_closed(op);
        break;
    case PIER__POOL_FULL:
        refuse_full(op);
        break;
    case PIER__POOL_WAIT:
    default:
        if (!op->op.on_loop && pier__db_works_here(op, NULL)) {
            if (pier__pool_leave(op->pool, &op->ticket)) {
                pier__db_refuse_deadlock(op);
                break;
            }
        }
        op->op.doing = "waiting for a free connection";
        op->op.wait.kind = PIER__WAIT_WAKE;
        op->op.wait.until = pier__deadline(op->db->root->settings.acquire_timeout_ms, 0);
        break;
    }
}

void pier__db_op_acquire(pier__db_op *op)
{
    op->phase = PIER__DB_ACQUIRE;
    op->pool = choose_pool(op);
    take_answer(op, op->keeps ? PIER__POOL_MAKE : pier__pool_take(op->pool, &op->ticket));
}

/* Ends a connection that was borrowed and turns out to be lost, and asks for another. */
static void exchange(pier__db_op *op)
{
    pier__conn *conn = op->conn;
    op->phase = PIER__DB_ACQUIRE;
    op->conn = NULL;
    op->borrowed = false;
    op->ticket = (pier__ticket){.op = &op->op};
    conn->dead = true;
    conn->pooled.replaced = true;
    pier__pool_answer answer = pier__pool_exchange(op->pool, &conn->pooled, &op->ticket);
    pier__conn_end(conn);
    take_answer(op, answer);
}

bool pier__db_op_exchange(pier__db_op *op)
{
    bool in_hook = op->phase == PIER__DB_HOOK; /* which had the turn */
    if (!op->borrowed || !(op->has_turn || in_hook) || op->op.cancelled || op->cleaning) {
        return false;
    }
    if (op->has_turn) {
        op->has_turn = false;
        pier__turn_give(&op->conn->turn);
    }
    memset(&op->scratch, 0, sizeof op->scratch);
    exchange(op);
    return true;
}

/* What was handed to it in the moment that it gave up. */
static void give_back_ticket(pier__db_op *op)
{
    if (op->ticket.got) {
        op->borrowed = false;
        pier__conn_give_back((pier__conn *)op->ticket.got);
    } else {
        pier__pool_lost(op->pool, NULL);
    }
}

void pier__db_acquire_step(pier__db_op *op, unsigned events)
{
    pier__pool *pool = op->pool;
    bool gave_up = (events & (PIER__CANCEL | PIER__EXPIRED)) != 0;
    pier_error err;
    if (gave_up && pier__pool_leave(pool, &op->ticket)) {
        if (events & PIER__CANCEL) {
            pier__db_fail_cancelled(op);
            return;
        }
        char holders[200];
        pier__pool_describe(pool, &op->op, holders, sizeof holders);
        pier_error_set(&err, PIER_EPOOL,
                       "%s: none of the %d connections of %s became free in %" PRId64
                       " ms; in use by: %s",
                       op->op.cls->name, pool->max, op->db->root->name,
                       op->db->root->settings.acquire_timeout_ms, holders);
        pier__db_op_failed(op, &err);
        return;
    }
    if (events & PIER__CANCEL) {
        give_back_ticket(op);
        pier__db_fail_cancelled(op);
        return;
    }
    if (op->ticket.failed) {
        pier__pool_failure(pool, &err);
        pier__db_op_failed(op, &err);
    } else if (op->ticket.closed) {
        pier__db_op_acquire(op); /* finds it closed */
    } else if (op->ticket.got) {
        got_connection(op, op->ticket.got);
    } else if (op->ticket.served) {
        make_connection(op);
    }
}

/* ---- Open --------------------------------------------------------------------------------- */

void pier__db_open_step(pier__db_op *op, unsigned events)
{
    op->op.wait.until = 0;
    bool over = events & PIER__EXPIRED && op->phase_until && pier__now() >= op->phase_until;
    op->db->root->driver->open_step(op, events);
    if (op->phase != PIER__DB_OPEN || pier__op_settled(&op->op)) {
        return;
    }
    if (events & PIER__CANCEL) {
        op->conn->dead = true;
        pier__db_fail_cancelled(op);
    } else if (over) {
        op->conn->dead = true;
        pier_error err;
        pier_error_set(&err, PIER_ECONNECT,
                       "%s: no connection to %s within %" PRId64 " ms: the server does not answer",
                       op->op.cls->name, op->db->root->name,
                       op->db->root->settings.connect_timeout_ms);
        pier__db_op_failed(op, &err);
    } else {
        bound_open(op);
    }
}

void pier__db_op_opened(pier__db_op *op)
{
    const pier_db *root = op->db->root;
    bool lends = !op->keeps && op->made != root;
    int hooks = (root->settings.init ? PIER__HOOK_INIT : 0) |
                (root->settings.setup && lends ? PIER__HOOK_SETUP : 0);
    op->conn->open = true;
    op->op.wait.until = 0;
    if (!(hooks & PIER__HOOK_INIT)) {
        pier__conn_join(op->conn);
    }
    if (hooks) {
        run_hooks(op, hooks);
    } else {
        pier__db_op_take_turn(op);
    }
}

static void run_hooks(pier__db_op *op, int hooks)
{
    op->phase = PIER__DB_HOOK;
    op->hooks = hooks;
    pier__db_hooks_run(op);
}

void pier__db_op_move(pier__db_op *op)
{
    if (op->op.cancelled) {
        pier__db_fail_cancelled(op);
        return;
    }
    op->moved = true;
    pier__conn *reader = op->conn;
    op->conn = NULL;
    op->borrowed = op->has_turn = false;
    pier__turn_give(&reader->turn);
    pier__conn_give_back(reader);
    op->ticket = (pier__ticket){.op = &op->op};
    memset(&op->scratch, 0, sizeof op->scratch);
    pier__db_op_acquire(op);
}
