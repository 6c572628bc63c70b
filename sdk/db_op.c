/*
 * A request on its way: acquire a connection and open it if it is new (db_acquire.c), take the turn
 * on it, have the loop let go of it, run, clean up, release. The driver is asked only to open and
 * to run. The same steps serve threads, tasks and the loop.
 */
#include "sdk/db_op.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/loop.h"
#include "sdk/query_log.h"
#include "sdk/runner.h"
#include "sdk/writer.h"
#include <string.h>

/* How long the end of a scope waits for somebody else's request on its connection before it
 * cancels that, and for its own rollback. */
enum { SHIELDED_MS = 5000 };

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
    op->db = db;
    op->ticket.op = &op->op;
    op->turn.op = &op->op;
}

/* ---- Memory that is used again ------------------------------------------------------------ */

/* A sanitizer would not see who uses an operation after its end. */
#if defined(__SANITIZE_ADDRESS__)
enum { REUSES = false };
#else
enum { REUSES = true };
#endif

static void free_reused(pier__db_op *op, pier_db *root)
{
    pier__db_unref(root);
    pier__op_free(&op->op);
}

/* The memory of a request that has ended, with its references; NULL: there is none. Its first bytes
 * are not read before it is the caller's alone. */
static pier__db_op *take_spare(pier_db *root)
{
    void *spare = atomic_load_explicit(&root->spare, memory_order_relaxed);
    bool got = spare && spare != root &&
               atomic_compare_exchange_strong_explicit(&root->spare, &spare, NULL,
                                                       memory_order_acquire, memory_order_relaxed);
    return got ? spare : NULL;
}

static pier__db_op *new_reused(const pier__op_class *cls, pier_db *root)
{
    pier__db_op *op = take_spare(root);
    if (!op) {
        op = pier__calloc(1, sizeof *op);
        if (op) {
            pier__op_init(&op->op, cls, root->handle.runner);
            pier__db_ref(root);
        }
    } else if (pier__alloc_refused(sizeof *op)) {
        free_reused(op, root);
        op = NULL;
    } else {
        memset(op, 0, cls->size - sizeof op->room); /* a constant would become a slow instruction */
        pier__op_init_again(&op->op, cls, root->handle.runner);
    }
    return op;
}

void pier__db_op_retire(pier__op *base)
{
    pier__db_op *op = (pier__db_op *)base;
    pier_db *root = op->db->root;
    void *none = NULL;
    if (op->db != root) {
        pier__db_unref(op->db);
    }
    if (!REUSES || !atomic_compare_exchange_strong_explicit(
                       &root->spare, &none, op, memory_order_release, memory_order_relaxed)) {
        free_reused(op, root);
    }
}

void pier__db_drop_spare(pier_db *root)
{
    void *spare = atomic_exchange(&root->spare, root);
    if (spare && spare != root) {
        free_reused(spare, root);
    }
}

/* ---- Making and freeing ------------------------------------------------------------------- */

pier__db_op *pier__db_op_new(const pier__op_class *cls, pier__request request, pier_db *db,
                             pier__op **failed)
{
    bool reuses = cls->retire == pier__db_op_retire;
    pier__op *refused = pier__op_cannot_begin(cls, db->handle.runner);
    pier__db_op *op = refused  ? NULL
                      : reuses ? new_reused(cls, db->root)
                               : pier__op_new(cls, db->handle.runner, failed);
    if (op) {
        init(op, request, reuses && db == db->root ? db : pier__db_ref(db));
        return op;
    }
    *failed = refused ? refused : pier__op_nomem();
    if (!refused && db->kind == PIER__DB_TX) {
        pier_error err;
        pier_error_set(&err, PIER_ENOMEM, "%s: out of memory", cls->name);
        pier__db_doom(db, &err);
    }
    return NULL;
}

pier__db_op *pier__db_op_init(void *memory, const pier__op_class *cls, pier__request request,
                              pier_db *db)
{
    pier__db_op *op = memory;
    pier__op_init(&op->op, cls, db->handle.runner);
    init(op, request, pier__db_ref(db));
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

void pier__db_op_fini_reused(pier__op *base)
{
    pier__db_op *op = (pier__db_op *)base;
    if (op->own_sql) {
        pier__free(op->own_sql);
        pier__free(op->own_args);
        pier__free(op->own_rows);
    }
    pier_result_free(op->block);
    if (op->failed) {
        pier__free(op->failure);
    }
}

void pier__db_op_fini(pier__op *base)
{
    pier__db_op *op = (pier__db_op *)base;
    pier__db_op_fini_reused(base);
    pier__writer_rows_free(op->sending);
    if (op->writer) {
        pier__writer_unref(op->writer);
    }
    if (op->made && op->made->kind == PIER__DB_POOL) {
        pier__db_drop_spare(op->made); /* of a hook's requests: it could not be opened */
    }
    if (op->made) {
        pier__db_unref(op->made);
    }
    if (op->cursor) {
        pier__cursor_unref(op->cursor);
    }
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

void pier__db_fail_cancelled(pier__db_op *op)
{
    pier_error err;
    pier__op_cancelled_error(&op->op, &err);
    pier__db_op_failed(op, &err);
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

/* Others have the connection. Requests on the loop need not wait for their answers before the next
 * one is sent. */
static void send_ahead(pier__db_op *op)
{
    pier__conn *conn = op->conn;
    bool simple = (op->request == PIER__FETCH || op->request == PIER__EXECUTE) && !op->cursor &&
                  !op->writer && !op->keeper;
    if (!op->op.on_loop || !simple || !op->db->driver->send_ahead) {
        return;
    }
    /* What the loop has is not touched by anybody else while this runs. */
    pier__op *owner = pier__turn_owner(&conn->turn);
    bool ours = owner && atomic_load(&owner->mail) & PIER__MAIL_LOOP;
    pier_error err;
    if (ours && op->turn.before && conn->sent_last == op->turn.before && !conn->dead &&
        pier__db_usable(op->db, &err) == 0 && op->db->driver->send_ahead(op)) {
        conn->sent_wanted++;
    }
    if (owner) {
        pier__op_unref(owner);
    }
}

/* Nobody waits for its answer any more, or it begins to be read. */
static void leave_sent(pier__db_op *op, bool unwanted)
{
    if (!op->ahead) {
        return;
    }
    op->conn->sent_wanted--;
    if (unwanted) {
        op->db->driver->leave_ahead(op);
        op->conn->sent_last = op->conn->sent_last == &op->op ? NULL : op->conn->sent_last;
    }
}

void pier__db_op_take_turn(pier__db_op *op)
{
    op->phase = PIER__DB_TURN;
    op->op.wait.until = 0;
    if (op->borrowed && !op->conn->pooled.shared) {
        pier__turn_take_alone(&op->conn->turn, &op->turn);
        op->has_turn = true;
        rehome(op);
    } else if (pier__turn_take(&op->conn->turn, &op->turn)) {
        op->has_turn = true;
        rehome(op);
    } else if (!op->op.on_loop && pier__db_works_here(op, op->conn) &&
               pier__turn_leave(&op->conn->turn, &op->turn)) {
        pier__db_refuse_deadlock(op);
    } else {
        wait_for_turn(op);
        send_ahead(op);
    }
}

static void turn_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__CANCEL && op->op.cls->shielded) {
        /* The end of a scope in a task that is cancelled: whoever has the turn still uses the
         * connection, which must not be given back before. */
        pier__turn_cancel_owner(&op->conn->turn);
    } else if (events & PIER__CANCEL) {
        op->has_turn = !pier__turn_leave(&op->conn->turn, &op->turn);
        leave_sent(op, true);
        pier__db_fail_cancelled(op);
    } else if (events & PIER__WOKEN) {
        op->has_turn = true;
        leave_sent(op, false);
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
    op->phase = PIER__DB_REHOME;
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
        pier__db_fail_cancelled(op);
    } else {
        run(op);
    }
}

/* ---- What it waits for -------------------------------------------------------------------- */

/* More connections than this are not asked for who has them: one of them will come back. */
enum { USERS_MAX = 16 };

struct users {
    int count;
    struct {
        const void *holder;
        const pier__op *owner;
    } all[USERS_MAX];
};

static void add_user(pier__pooled *thing, void *data)
{
    struct users *users = data;
    if (users->count < USERS_MAX) {
        /* The owner is only compared: it may be gone as soon as the lock is released. */
        uintptr_t owner = atomic_load(&((pier__conn *)thing)->turn.owner) & ~(uintptr_t)1;
        users->all[users->count].holder = thing->holder;
        users->all[users->count].owner = (const pier__op *)owner;
    }
    users->count++;
}

/* Whoever has a connection may give it back. */
static bool pool_waits_for(pier__db_op *op, pier__walk *walk)
{
    struct users users = {.count = 0};
    if (!pier__pool_is_queued(op->pool, &op->ticket)) {
        return true;
    }
    pier__pool_each(op->pool, add_user, &users);
    if (users.count < op->pool->max || users.count > USERS_MAX) {
        return true; /* one is being made, or has been lost */
    }
    bool goes_on = false;
    for (int i = 0; i < users.count && !goes_on; i++) {
        const void *holder = users.all[i].holder;
        const pier__op *owner = users.all[i].owner;
        goes_on = holder  ? pier__walk_holder(walk, holder)
                  : owner ? pier__walk_worker(walk, owner)
                          : true;
    }
    return goes_on;
}

bool pier__db_op_waits_for(pier__op *base, pier__walk *walk)
{
    pier__db_op *op = (pier__db_op *)base;
    switch (op->phase) {
    case PIER__DB_CURSOR_TURN:
        return pier__walk_turn(walk, base, handle_turn(op));
    case PIER__DB_ACQUIRE:
        return pool_waits_for(op, walk);
    case PIER__DB_TURN:
        return pier__walk_turn(walk, base, &op->conn->turn);
    default:
        return true; /* the driver's library, a server or the clock ends it */
    }
}

/* ---- Run ---------------------------------------------------------------------------------- */

/* Nothing to ask of the driver? */
static bool is_empty(const pier__db_op *op)
{
    return (op->request == PIER__LEASE && !(op->conn->resetting && op->db->driver->renews)) ||
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
    if (op->phase == PIER__DB_RUN && op->phase_until && !pier__op_settled(&op->op)) {
        op->op.wait.until = pier__earlier(op->op.wait.until, op->phase_until);
    }
}

static void run(pier__db_op *op)
{
    op->phase = PIER__DB_RUN;
    op->op.doing = "running a statement";
    op->op.wait.until = 0;
    pier_error err; /* filled by whoever fails: zeroing a kilobyte for each request shows */
    if (op->request == PIER__COMMIT && pier__db_is_doomed(op->db, &err)) {
        op->commit_doomed = true;
        pier__db_make_rollback(op);
    } else if (op->request != PIER__ROLLBACK && op->request != PIER__CURSOR_CLOSE &&
               (!op->closes || op->writer) && !op->ahead && pier__db_usable(op->db, &err) < 0) {
        op->refused = true;
        pier__db_op_failed(op, &err);
        return;
    }
    if (is_empty(op)) {
        pier__db_op_ran(op);
        return;
    }
    if (op->conn->dead && !op->ahead && !(op->cursor && op->cursor->failed)) {
        pier_error_set(&err, PIER_EIO,
                       "%s: the connection to %s was lost; the pool makes a new one",
                       op->op.cls->name, op->db->root->name);
        pier__db_op_failed(op, &err);
        return;
    }
    if (op->log.began) {
        pier__query_runs(op);
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
    if (op->cursor && op->cursor->ended && op->block) {
        pier__cursor_keep_columns(op->cursor, op->block);
    }
    if (op->writer && pier__writer_next(op)) {
        memset(&op->scratch, 0, sizeof op->scratch);
        if (op->op.cancelled) {
            pier__db_fail_cancelled(op);
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
    pier_error first;
    if (op->ahead && !op->op.cancelled && !op->conn->dead && op->db->kind == PIER__DB_TX &&
        pier__db_is_doomed(op->db, &first)) {
        err = &first; /* it was on its way already when its transaction failed */
    }
    keep_failure(op, err);
    if (op->phase == PIER__DB_OPEN) {
        op->conn->dead = true;
        if (!op->op.cancelled) {
            pier__pool_failed(op->pool, err, op->probes);
        }
    }
    bool running = op->phase == PIER__DB_RUN && !op->refused;
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
    if (op->cursor && op->phase == PIER__DB_RUN) {
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
    /* Without its turn, or when its scope has given it back, the connection is somebody else's. */
    if (!op->conn || !op->has_turn || (op->refused && pier__db_has_ended(op->db)) ||
        !op->conn->in_tx || op->conn->dead || op->cleaning) {
        return false;
    }
    bool kept = op->cursor && op->cursor->keeps_conn && op->cursor->conn == op->conn;
    bool in_writer = op->writer && op->writer->tx && op->failed && !pier__db_has_ended(op->db);
    kept = kept || in_writer;
    if (!(op->borrowed || kept) || keeps_connection(op)) {
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
    op->phase = PIER__DB_RUN;
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
        if (op->borrowed && !conn->pooled.shared) {
            pier__turn_give_alone(&conn->turn);
        } else {
            pier__turn_give(&conn->turn);
        }
    }
    if (give_back) {
        op->borrowed = false;
        op->conn = NULL;
        if (op->keeps) {
            pier__conn_give_back_clean(conn); /* nobody has borrowed it */
        } else {
            pier__conn_give_back(conn);
        }
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
        pier__db_fail_cancelled(op);
        return;
    }
    op->phase = PIER__DB_PAUSE;
    op->op.doing = "pausing between two steps";
    op->op.wait.until = op->again;
}

static void pause_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__CANCEL) {
        pier__db_fail_cancelled(op);
    } else if (events & PIER__EXPIRED) {
        op->again = op->ahead = 0;
        op->ticket = (pier__ticket){.op = &op->op};
        memset(&op->scratch, 0, sizeof op->scratch);
        find_connection(op);
    }
}

static void log_end(pier__db_op *op)
{
    if (op->log.began) {
        pier__query_end(op);
    }
}

static void finish(pier__db_op *op)
{
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = 0;
    if (op->made && !op->failed && !op->cleaning) {
        log_end(op);
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
    log_end(op);
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
        pier__db_op_take_turn(op);
    } else {
        pier__db_op_acquire(op);
    }
}

static void begin(pier__db_op *op)
{
    if (atomic_load_explicit(&pier__query_logging, memory_order_relaxed)) {
        pier__query_begin(op);
    }
    if (!handle_turn(op)) {
        find_connection(op);
        return;
    }
    op->phase = PIER__DB_CURSOR_TURN;
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
    if (events & PIER__CANCEL && op->op.cls->shielded) {
        /* As in turn_step: the handle must not be freed under whoever uses it. */
        pier__turn_cancel_owner(handle_turn(op));
    } else if (events & PIER__CANCEL) {
        op->has_cursor_turn = !pier__turn_leave(handle_turn(op), &op->cursor_turn);
        pier__db_fail_cancelled(op);
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
    case PIER__DB_BEGIN:
        begin(op);
        break;
    case PIER__DB_CURSOR_TURN:
        cursor_turn_step(op, events);
        break;
    case PIER__DB_ACQUIRE:
        pier__db_acquire_step(op, events);
        break;
    case PIER__DB_OPEN:
        pier__db_open_step(op, events);
        break;
    case PIER__DB_HOOK:
        pier__db_hook_step(op, events);
        break;
    case PIER__DB_REHOME:
        rehome_step(op, events);
        break;
    case PIER__DB_TURN:
        turn_step(op, events);
        break;
    case PIER__DB_PAUSE:
        pause_step(op, events);
        break;
    default:
        run_step(op, events);
        break;
    }
}
