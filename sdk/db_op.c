/*
 * A request on its way: acquire a connection, open it if it is new, take the turn on it, have the
 * loop let go of it, run, clean up, release. The driver is asked only to open and to run. The same
 * steps serve threads, tasks and the loop.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/loop.h"
#include "sdk/runner.h"
#include "sdk/writer.h"
#include <string.h>

enum { BEGIN = 0, CURSOR_TURN, ACQUIRE, OPEN, TURN, REHOME, RUN, PAUSE };

/* How long the end of a scope waits for somebody else's request on its connection before it
 * cancels that, and for its own rollback. */
enum { SHIELDED_MS = 5000 };

static void take_turn(pier__db_op *op);
static void run(pier__db_op *op);
static void find_connection(pier__db_op *op);
static void finish(pier__db_op *op);

/* Of the cursor or writer that it works on; NULL: it works on neither. */
static pier__turn *handle_turn(const pier__db_op *op)
{
    return op->cursor ? &op->cursor->turn : op->writer ? &op->writer->turn : NULL;
}

static void init(pier__db_op *op, pier__request request, pier_db *db)
{
    op->request = request;
    op->db = pier__db_ref(db);
    op->ticket.op = &op->op;
    op->turn.op = &op->op;
}

pier__db_op *pier__db_op_new(const pier__op_class *cls, pier__request request, pier_db *db,
                             pier__op **failed)
{
    pier__db_op *op = pier__op_new(cls, db->handle.runner, failed);
    if (op) {
        init(op, request, db);
    } else if (*failed == pier__op_nomem() && db->kind == PIER__DB_TX) {
        pier_error err;
        pier_error_set(&err, PIER_ENOMEM, "%s: out of memory", cls->name);
        pier__db_doom(db, &err);
    }
    return op;
}

pier__db_op *pier__db_op_init(void *memory, const pier__op_class *cls, pier__request request,
                              pier_db *db)
{
    pier__db_op *op = memory;
    pier__op_init(&op->op, cls, db->handle.runner);
    init(op, request, db);
    op->closes = true;
    return op;
}

/* A statement that never ran dooms its transaction as one that failed: commit must not succeed
 * without it. */
void pier__db_op_unstarted(pier__op *base, const pier_error *err)
{
    pier__db_op *op = (pier__db_op *)base;
    if (op->db->kind == PIER__DB_TX && !op->closes) {
        pier__db_doom(op->db, err);
    }
}

bool pier__db_op_own(pier__op *base)
{
    pier__db_op *op = (pier__db_op *)base;
    char *sql = pier__memdup(op->sql, op->sql_size);
    pier_args *args = sql && op->args ? pier__args_copy(op->args) : NULL;
    pier_args *rows = sql && op->rows ? pier__args_copy_rows(op->rows, op->row_count) : NULL;
    if (!sql || (op->args && !args) || (op->rows && !rows)) {
        pier__free(sql);
        pier__free(args);
        return false;
    }
    op->sql = op->own_sql = sql;
    op->args = op->own_args = args;
    op->rows = op->own_rows = rows;
    return true;
}

void pier__db_use_sql(pier__db_op *op, const char *sql)
{
    op->sql = sql;
    op->sql_size = strlen(sql);
    op->args = NULL;
}

void pier__db_op_fini(pier__op *base)
{
    pier__db_op *op = (pier__db_op *)base;
    pier__free(op->own_sql);
    pier__free(op->own_args);
    pier__free(op->own_rows);
    pier__writer_rows_free(op->sending);
    if (op->writer) {
        pier__writer_unref(op->writer);
    }
    if (op->made) {
        pier__db_unref(op->made);
    }
    if (op->cursor) {
        pier__cursor_unref(op->cursor);
    }
    pier_result_free(op->block);
    pier__free(op->failure);
    pier__db_unref(op->db);
}

const char *pier__db_op_subject(const pier__op *base)
{
    const pier__db_op *op = (const pier__db_op *)base;
    /* From PIER__CANCEL on the SQL may be gone with its caller. */
    return op->db->root->name;
}

/* ---- Failing ------------------------------------------------------------------------------ */

static void keep_failure(pier__db_op *op, const pier_error *err)
{
    if (op->failed) {
        return;
    }
    op->failed = err->status < 0 ? err->status : PIER_EINVAL;
    op->failure = pier__malloc(sizeof *op->failure);
    if (op->failure) {
        *op->failure = *err;
    }
}

void pier__db_op_fail_late(pier__db_op *op, const pier_error *err)
{
    keep_failure(op, err);
}

static void fail_cancelled(pier__db_op *op)
{
    pier_error err;
    pier__op_cancelled_error(&op->op, &err);
    pier__db_op_failed(op, &err);
}

/* ---- Acquire ------------------------------------------------------------------------------ */

static void refuse_deadlock(pier__db_op *op)
{
    char holders[200];
    pier_error err;
    pier__pool_describe(op->pool ? op->pool : op->conn->pool, holders, sizeof holders);
    pier_error_set(
        &err, PIER_EDEADLOCK,
        "%s: every connection of %s (%d) is held by this very thread or task (%s), so it "
        "would wait for itself; use that handle, or allow more connections",
        op->op.cls->name, op->db->root->name, (op->pool ? op->pool : op->conn->pool)->max, holders);
    pier__db_op_failed(op, &err);
}

/* Does work under way further up this thread's stack hold what is waited for? */
static bool works_here(const pier__db_op *op, const pier__conn *conn)
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
    if (op->phase == OPEN && !pier__op_settled(&op->op)) {
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
    op->borrowed = true;
    op->phase = OPEN;
    op->op.doing = "connecting";
    op->op.wait.until = 0;
    op->phase_until = pier__deadline(root->settings.connect_timeout_ms, 0);
    root->driver->open_step(op, PIER__START);
    bound_open(op);
}

static void got_connection(pier__db_op *op, pier__pooled *thing)
{
    op->conn = (pier__conn *)thing;
    op->borrowed = true;
    take_turn(op);
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

static void acquire(pier__db_op *op)
{
    pier_db *root = op->db->root;
    op->phase = ACQUIRE;
    op->pool = choose_pool(op);
    switch (pier__pool_take(op->pool, &op->ticket)) {
    case PIER__POOL_GOT:
        got_connection(op, op->ticket.got);
        break;
    case PIER__POOL_MAKE:
        make_connection(op);
        break;
    case PIER__POOL_SELF:
        refuse_deadlock(op);
        break;
    case PIER__POOL_CLOSED: {
        pier_error err;
        pier_error_set(&err, PIER_ECLOSED, "%s: %s is closed", op->op.cls->name, root->name);
        pier__db_op_failed(op, &err);
        break;
    }
    case PIER__POOL_WAIT:
    default:
        if (!op->op.on_loop && works_here(op, NULL)) {
            if (pier__pool_leave(op->pool, &op->ticket)) {
                refuse_deadlock(op);
                break;
            }
        }
        op->op.doing = "waiting for a free connection";
        op->op.wait.kind = PIER__WAIT_WAKE;
        op->op.wait.until = pier__deadline(root->settings.acquire_timeout_ms, 0);
        break;
    }
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

static void acquire_step(pier__db_op *op, unsigned events)
{
    pier__pool *pool = op->pool;
    bool gave_up = (events & (PIER__CANCEL | PIER__EXPIRED)) != 0;
    if (gave_up && pier__pool_leave(pool, &op->ticket)) {
        if (events & PIER__CANCEL) {
            fail_cancelled(op);
            return;
        }
        pier_error err;
        char holders[200];
        pier__pool_describe(pool, holders, sizeof holders);
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
        fail_cancelled(op);
        return;
    }
    if (op->ticket.closed) {
        acquire(op); /* finds it closed */
    } else if (op->ticket.got) {
        got_connection(op, op->ticket.got);
    } else if (op->ticket.served) {
        make_connection(op);
    }
}

/* ---- Open --------------------------------------------------------------------------------- */

static void open_step(pier__db_op *op, unsigned events)
{
    op->op.wait.until = 0;
    bool over = events & PIER__EXPIRED && op->phase_until && pier__now() >= op->phase_until;
    op->db->root->driver->open_step(op, events);
    if (op->phase != OPEN || pier__op_settled(&op->op)) {
        return;
    }
    if (events & PIER__CANCEL) {
        op->conn->dead = true;
        fail_cancelled(op);
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
    op->conn->open = true;
    op->op.wait.until = 0;
    take_turn(op);
}

/* ---- Turn --------------------------------------------------------------------------------- */

static void rehome(pier__db_op *op);

/* Waits for the turn of a cursor or connection. What cannot be cancelled has the one who has it
 * cancelled, after a while. */
static void wait_for_turn(pier__db_op *op)
{
    op->op.doing = "waiting for its turn on the connection";
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = op->op.cls->shielded ? pier__deadline(SHIELDED_MS, 0) : 0;
}

static void take_turn(pier__db_op *op)
{
    op->phase = TURN;
    op->op.wait.until = 0;
    if (pier__turn_take(&op->conn->turn, &op->turn)) {
        op->has_turn = true;
        rehome(op);
    } else if (!op->op.on_loop && works_here(op, op->conn) &&
               pier__turn_leave(&op->conn->turn, &op->turn)) {
        refuse_deadlock(op);
    } else {
        wait_for_turn(op);
    }
}

static void turn_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__CANCEL) {
        op->has_turn = !pier__turn_leave(&op->conn->turn, &op->turn);
        fail_cancelled(op);
    } else if (events & PIER__WOKEN) {
        op->has_turn = true;
        rehome(op);
    } else if (events & PIER__EXPIRED) {
        pier__turn_cancel_owner(&op->conn->turn);
        wait_for_turn(op);
    }
}

/* ---- Rehome ------------------------------------------------------------------------------- */

static void let_go_on_loop(pier__post *post)
{
    pier__db_op *op = (pier__db_op *)((char *)post - offsetof(pier__db_op, rehome));
    pier__watch_close_on_loop(&op->conn->watch);
    pier__op_wake(&op->op);
    pier__op_unref(&op->op);
}

/* A connection that the loop watches must be let go of before a thread reads its socket. */
static void rehome(pier__db_op *op)
{
    if (op->op.on_loop || !op->conn->watch) {
        run(op);
        return;
    }
    op->phase = REHOME;
    op->op.doing = "taking a connection over from the loop";
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = 0;
    op->rehome.run = let_go_on_loop;
    pier__op_ref(&op->op);
    if (!pier__loop_post(op->op.runner, &op->rehome)) {
        pier__op_unref(&op->op);
        pier_error err;
        pier_error_set(&err, PIER_ECLOSED, "%s: the runner is closed", op->op.cls->name);
        pier__db_op_failed(op, &err);
    }
}

static void rehome_step(pier__db_op *op, unsigned events)
{
    if (!(events & PIER__WOKEN)) {
        return; /* the loop is about to answer; a cancel is acted upon then */
    }
    if (op->op.cancelled) {
        fail_cancelled(op);
    } else {
        run(op);
    }
}

/* ---- Run ---------------------------------------------------------------------------------- */

/* Nothing to ask of the driver? */
static bool is_empty(const pier__db_op *op)
{
    return op->request == PIER__LEASE ||
           (op->request == PIER__ROLLBACK &&
            (op->conn->dead || !op->conn->in_tx || pier__db_has_ended(op->db)));
}

/* Has the driver take a step, bounded where nothing else bounds it. */
static void drive(pier__db_op *op, unsigned events)
{
    if (events & PIER__START) {
        bool bounded = op->op.cls->shielded || op->cleaning;
        op->phase_until = bounded ? pier__deadline(SHIELDED_MS, 0) : 0;
    }
    op->db->driver->run_step(op, events);
    if (op->phase == RUN && op->phase_until && !pier__op_settled(&op->op)) {
        op->op.wait.until = pier__earlier(op->op.wait.until, op->phase_until);
    }
}

static void run(pier__db_op *op)
{
    op->phase = RUN;
    op->op.doing = "running a statement";
    op->op.wait.until = 0;
    pier_error err; /* filled by whoever fails: zeroing a kilobyte for each request shows */
    if (op->request == PIER__COMMIT && pier__db_is_doomed(op->db, &err)) {
        op->commit_doomed = true;
        pier__db_make_rollback(op);
    } else if (op->request != PIER__ROLLBACK && op->request != PIER__CURSOR_CLOSE &&
               (!op->closes || op->writer) && pier__db_usable(op->db, &err) < 0) {
        op->refused = true;
        pier__db_op_failed(op, &err);
        return;
    }
    if (is_empty(op)) {
        pier__db_op_ran(op);
        return;
    }
    if (op->conn->dead) {
        pier_error_set(&err, PIER_EIO,
                       "%s: the connection to %s was lost; the pool makes a new one",
                       op->op.cls->name, op->db->root->name);
        pier__db_op_failed(op, &err);
        return;
    }
    drive(op, PIER__START);
}

static void run_step(pier__db_op *op, unsigned events)
{
    if (op->cleaning && events & PIER__CANCEL) {
        return; /* what is under way is the clean-up */
    }
    if (events & PIER__EXPIRED && op->phase_until && pier__now() >= op->phase_until) {
        /* A clean-up that takes too long: the driver winds it up, and bounds that itself. */
        op->phase_until = 0;
        op->op.cancelled = PIER_ETIMEDOUT;
        events = PIER__CANCEL;
    }
    drive(op, events);
}

void pier__db_op_ran(pier__db_op *op)
{
    if (op->cleaning) {
        finish(op);
        return;
    }
    if (op->commit_doomed) {
        pier_error err = {0};
        pier__db_is_doomed(op->db, &err);
        keep_failure(op, &err);
    }
    if (op->request == PIER__COMMIT || op->request == PIER__ROLLBACK) {
        pier__db_mark_ended(op->db);
    }
    if (op->writer && pier__writer_next(op)) {
        memset(&op->scratch, 0, sizeof op->scratch);
        if (op->op.cancelled) {
            fail_cancelled(op);
        } else {
            run(op);
        }
        return;
    }
    finish(op);
}

void pier__db_op_failed(pier__db_op *op, const pier_error *err)
{
    if (op->cleaning) {
        op->conn->dead = true;
        finish(op);
        return;
    }
    keep_failure(op, err);
    if (op->phase == OPEN) {
        op->conn->dead = true;
    }
    bool running = op->phase == RUN && !op->refused;
    if (running && op->request == PIER__ROLLBACK) {
        op->conn->dead = true;
        pier__db_mark_ended(op->db);
    } else if (op->db->kind == PIER__DB_TX && !op->refused && !op->closes &&
               (!op->writer || running)) { /* a writer that waits has its own failure */
        /* A commit that failed has ended the transaction, where the database says so. */
        if (running && op->request == PIER__COMMIT && op->db->depth == 0 &&
            (op->conn->dead || !op->conn->in_tx)) {
            pier__db_mark_ended(op->db);
        }
        pier__db_doom(op->db, err);
    }
    if (op->cursor && op->phase == RUN) {
        op->cursor->ended = true;
    }
    finish(op);
}

/* ---- Finish ------------------------------------------------------------------------------- */

/* Does the request keep the connection beyond its end? */
static bool keeps_connection(const pier__db_op *op)
{
    if (op->keeper) {
        return op->keeper->wanted;
    }
    return op->request == PIER__CURSOR_BLOCK && !op->failed && !op->cursor->ended &&
           (op->db->driver->cursor_keeps_conn || op->cursor->keeps_conn ||
            op->conn->pool == op->db->root->readers);
}

/* Rolls back what a request on the pool has left open, before anybody else gets the connection. */
static bool start_cleaning(pier__db_op *op)
{
    bool kept = op->cursor && op->cursor->keeps_conn && op->cursor->conn == op->conn;
    bool in_writer = op->writer && op->writer->tx && op->failed && !pier__db_has_ended(op->db);
    kept = kept || in_writer;
    if (op->cleaning || !op->conn || !(op->borrowed || kept) || op->conn->dead ||
        !op->conn->in_tx || !op->has_turn || keeps_connection(op)) {
        return false;
    }
    if (!op->failed) {
        pier_error err;
        pier_error_set(&err, PIER_EINVAL,
                       "%s: the statement has left a transaction open on a pooled connection; it "
                       "was rolled back: use pier_db_begin, or a lease",
                       op->op.cls->name);
        keep_failure(op, &err);
    }
    op->cleaning = true;
    op->phase = RUN;
    op->request = PIER__ROLLBACK;
    pier__db_use_sql(op, "rollback");
    if (in_writer) {
        pier__db_make_rollback(op);
    }
    memset(&op->scratch, 0, sizeof op->scratch);
    op->op.doing = "rolling back";
    drive(op, PIER__START);
    return true;
}

/* Gives the turn back, and the connection unless it is kept. */
static void release(pier__db_op *op)
{
    pier__conn *conn = op->conn;
    if (!conn) {
        return;
    }
    bool keep = keeps_connection(op);
    bool give_back = op->borrowed && !keep;
    if (op->keeper && keep && op->borrowed) {
        op->keeper->conn = conn;
        op->borrowed = false;
        pier__pool_hold(conn->pool, &conn->pooled, op->op.holder, op->keeper->what);
    } else if (op->keeper && op->keeper->conn && !keep) {
        op->keeper->conn = NULL;
        give_back = true;
    } else if (op->cursor && keep && op->borrowed) {
        op->cursor->conn = conn;
        op->borrowed = false;
        pier__pool_hold(conn->pool, &conn->pooled, op->op.holder, "a cursor");
    } else if (op->cursor && op->cursor->conn && !keep) {
        op->cursor->conn = NULL;
        give_back = true;
    }
    if (op->has_turn) {
        op->has_turn = false;
        pier__turn_give(&conn->turn);
    }
    if (give_back) {
        op->borrowed = false;
        op->conn = NULL;
        pier__conn_give_back(conn);
    }
}

static void settle(pier__db_op *op)
{
    pier__op *base = &op->op;
    if (op->failed && op->failure) {
        pier__op_fail_with(base, op->failure);
    } else if (op->failed) {
        pier__op_fail(base, op->failed, "%s failed", base->cls->name);
    } else if (op->block) {
        pier_result *block = op->block;
        op->block = NULL;
        block->changes = op->count;
        block->last_id = op->last_id;
        pier__op_succeed(base, block);
    } else if (op->product) {
        void *product = op->product;
        op->product = NULL;
        pier__op_succeed(base, product);
    } else {
        pier__op_succeed_int(base, op->count);
    }
}

/* Without a connection, until it is time to ask for one again. */
static void pause_for_others(pier__db_op *op)
{
    if (op->op.cancelled) {
        fail_cancelled(op);
        return;
    }
    op->phase = PAUSE;
    op->op.doing = "pausing between two steps";
    op->op.wait.until = op->again;
}

static void pause_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__CANCEL) {
        fail_cancelled(op);
    } else if (events & PIER__EXPIRED) {
        op->again = 0;
        op->ticket = (pier__ticket){.op = &op->op};
        memset(&op->scratch, 0, sizeof op->scratch);
        find_connection(op);
    }
}

static void finish(pier__db_op *op)
{
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = 0;
    if (op->made && !op->failed && !op->cleaning) {
        if (pier__db_scope_made(op)) {
            return;
        }
        pier_error err;
        pier_error_set(&err, PIER_ECLOSED, "%s: the runner is closed", op->op.cls->name);
        keep_failure(op, &err);
    }
    if (start_cleaning(op)) {
        return;
    }
    release(op);
    if (op->again && !op->failed) {
        pause_for_others(op);
        return;
    }
    if (op->writer) {
        pier__writer_ran(op);
    }
    if (op->has_cursor_turn) {
        op->has_cursor_turn = false;
        pier__turn_give(handle_turn(op));
    }
    if (op->ended && op->ended(op)) {
        return;
    }
    if (op->closes) {
        if (op->writer) {
            pier__writer_closed(op);
        } else if (op->cursor) {
            pier__cursor_closed(op);
        } else {
            pier__db_scope_closed(op);
        }
        return;
    }
    settle(op);
}

void pier__db_op_move(pier__db_op *op)
{
    if (op->op.cancelled) {
        fail_cancelled(op);
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
    acquire(op);
}

/* ---- The step ----------------------------------------------------------------------------- */

/* With the cursor's turn, where there is a cursor. */
static void find_connection(pier__db_op *op)
{
    if (op->writer && !pier__writer_start(op)) {
        finish(op);
        return;
    }
    pier_db *db = op->db;
    pier_cursor *cursor = op->cursor;
    if (cursor && op->closes && (!cursor->started || cursor->ended)) {
        finish(op); /* it has nothing open on a connection */
        return;
    }
    if (cursor && !op->closes) {
        if (cursor->ended) {
            pier__cursor_beyond_end(op);
            finish(op);
            return;
        }
        cursor->started = true;
    }
    op->conn = cursor && cursor->conn ? cursor->conn : db->conn;
    if (op->keeper && op->keeper->conn) {
        op->conn = op->keeper->conn;
    }
    if (op->conn) {
        take_turn(op);
    } else {
        acquire(op);
    }
}

static void begin(pier__db_op *op)
{
    if (!handle_turn(op)) {
        find_connection(op);
        return;
    }
    op->phase = CURSOR_TURN;
    op->cursor_turn.op = &op->op;
    if (pier__turn_take(handle_turn(op), &op->cursor_turn)) {
        op->has_cursor_turn = true;
        find_connection(op);
    } else {
        wait_for_turn(op);
    }
}

static void cursor_turn_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__CANCEL) {
        op->has_cursor_turn = !pier__turn_leave(handle_turn(op), &op->cursor_turn);
        fail_cancelled(op);
    } else if (events & PIER__WOKEN) {
        op->has_cursor_turn = true;
        find_connection(op);
    } else if (events & PIER__EXPIRED) {
        pier__turn_cancel_owner(handle_turn(op));
        wait_for_turn(op);
    }
}

void pier__db_op_step(pier__op *base, unsigned events)
{
    pier__db_op *op = (pier__db_op *)base;
    switch (op->phase) {
    case BEGIN:
        begin(op);
        break;
    case CURSOR_TURN:
        cursor_turn_step(op, events);
        break;
    case ACQUIRE:
        acquire_step(op, events);
        break;
    case OPEN:
        open_step(op, events);
        break;
    case REHOME:
        rehome_step(op, events);
        break;
    case TURN:
        turn_step(op, events);
        break;
    case PAUSE:
        pause_step(op, events);
        break;
    default:
        run_step(op, events);
        break;
    }
}
