/*
 * Transactions, the same on both databases. A statement that fails dooms the innermost transaction
 * or savepoint that it ran in; from then on only its end makes sense, and commit becomes a rollback
 * that reports the first failure.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <stdio.h>
#include <string.h>

void pier__db_doom(pier_db *tx, const pier_error *err)
{
    pthread_mutex_lock(&tx->lock);
    if (!tx->doomed) {
        tx->doomed = true;
        tx->doom = pier__malloc(sizeof *tx->doom);
        if (tx->doom) {
            *tx->doom = *err;
        }
    }
    pthread_mutex_unlock(&tx->lock);
}

bool pier__db_is_doomed(pier_db *db, pier_error *err)
{
    pthread_mutex_lock(&db->lock);
    bool doomed = db->doomed;
    if (doomed && db->doom) {
        *err = *db->doom;
    } else if (doomed) {
        pier_error_set(err, PIER_ENOMEM, "a statement of the transaction ran out of memory");
    }
    pthread_mutex_unlock(&db->lock);
    return doomed;
}

void pier__db_mark_ended(pier_db *tx)
{
    pthread_mutex_lock(&tx->lock);
    tx->ended = true;
    pthread_mutex_unlock(&tx->lock);
}

static bool has_ended(pier_db *db)
{
    pthread_mutex_lock(&db->lock);
    bool ended = db->ended;
    pthread_mutex_unlock(&db->lock);
    return ended;
}

bool pier__db_has_ended(pier_db *db)
{
    for (pier_db *scope = db; scope->kind != PIER__DB_POOL; scope = scope->parent) {
        if (has_ended(scope)) {
            return true;
        }
    }
    return false;
}

int pier__db_usable(pier_db *db, pier_error *err)
{
    for (pier_db *scope = db; scope->kind != PIER__DB_POOL; scope = scope->parent) {
        if (has_ended(scope)) {
            return pier_error_set(err, PIER_EINVAL,
                                  "the %s has ended; use the pool, or begin another",
                                  scope->kind == PIER__DB_LEASE ? "lease"
                                  : scope == db                 ? "transaction"
                                                                : "transaction around this one");
        }
    }
    pier_error first;
    if (db->kind == PIER__DB_TX && pier__db_is_doomed(db, &first)) {
        *err = first;
        snprintf(err->message, sizeof err->message,
                 "the transaction failed earlier and must be rolled back: %.340s", first.message);
        return err->status;
    }
    return 0;
}

void pier__db_make_commit(pier__db_op *op)
{
    if (op->db->depth > 0) {
        snprintf(op->sql_buffer, sizeof op->sql_buffer, "release pier_%d", op->db->depth);
        pier__db_use_sql(op, op->sql_buffer);
    } else {
        pier__db_use_sql(op, "commit");
    }
}

void pier__db_make_rollback(pier__db_op *op)
{
    op->request = PIER__ROLLBACK;
    if (op->db->depth > 0) {
        snprintf(op->sql_buffer, sizeof op->sql_buffer, "rollback to pier_%d; release pier_%d",
                 op->db->depth, op->db->depth);
        pier__db_use_sql(op, op->sql_buffer);
    } else {
        pier__db_use_sql(op, "rollback");
    }
}

bool pier__db_scope_made(pier__db_op *op)
{
    pier_db *db = op->made;
    if (!pier__handle_open(&db->handle, op->op.runner, pier__db_close_handle)) {
        return false;
    }
    pier__conn *conn = op->conn;
    op->conn = NULL;
    op->made = NULL;
    if (op->has_turn) {
        op->has_turn = false;
        pier__turn_give(&conn->turn);
    }
    if (db->kind == PIER__DB_POOL) {
        op->borrowed = false;
        pier__conn_give_back_clean(conn);
        pier__db_keeper_start(db);
    } else {
        atomic_fetch_add(&conn->refs, 1);
        db->conn = conn;
        db->owns_conn = op->borrowed;
        if (op->borrowed) {
            op->borrowed = false;
            pier__pool_hold(conn->pool, &conn->pooled, op->op.holder,
                            db->kind == PIER__DB_TX ? "a transaction" : "a lease");
        }
    }
    pier__op_succeed(&op->op, db);
    return true;
}

void pier__db_scope_closed(pier__db_op *op)
{
    pier_db *db = op->db;
    pier__db_mark_ended(db);
    if (db->owns_conn) {
        db->owns_conn = false;
        db->conn->unclean |= db->kind == PIER__DB_LEASE;
        pier__conn_give_back(db->conn);
    }
    pier__db_unref(db); /* the user's */
    pier__op_succeed_int(&op->op, 0);
}

/* ---- Commit ------------------------------------------------------------------------------- */

static const pier__op_class commit_class = {
    .name = "pier_db_commit",
    .result = "int",
    .size = sizeof(pier__db_op),
    .step = pier__db_op_step,
    .waits_for = pier__db_op_waits_for,
    .fini = pier__db_op_fini,
    .unstarted = pier__db_op_unstarted,
    .subject = pier__db_op_subject,
};

pier_future *pier__db_commit_op(pier_db *tx)
{
    if (!tx) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier__db_op *op = pier__db_op_new(&commit_class, PIER__COMMIT, tx, &failed);
    if (!op) {
        return failed;
    }
    if (tx->kind != PIER__DB_TX) {
        return pier__op_refuse(
            &op->op, PIER_EINVAL,
            "pier_db_commit: this is no transaction; begin one with pier_db_begin");
    }
    pier__db_make_commit(op);
    return &op->op;
}

/* ---- A function in a transaction ---------------------------------------------------------- */

static int try_once(pier_db *db, const pier_tx_options *options, pier_tx_fn fn, void *arg,
                    pier_error *err)
{
    pier_db *tx =
        pier__op_take_pointer(pier__op_run(pier__db_begin_op(db, options), err), "pier_db *", err);
    if (!tx) {
        return err->status;
    }
    int status = fn(tx, arg, err);
    if (status >= 0) {
        int committed = pier__op_take_int(pier__op_run(pier__db_commit_op(tx), err), "int", err);
        status = committed < 0 ? committed : status;
    } else if (err->status >= 0) {
        pier_error_set(err, status, "the function of pier_db_transaction failed with %s",
                       pier_status_name(status));
    }
    pier__op_take_void(pier__op_run(pier__db_close_op(tx), NULL));
    return status;
}

static void wait_step(pier__op *op, unsigned events)
{
    if (events & PIER__CANCEL) {
        pier__op_fail_cancelled(op);
    } else if (events & PIER__EXPIRED) {
        pier__op_succeed_int(op, 0);
    } else if (events & PIER__START) {
        op->doing = "waiting before it tries the transaction again";
        op->wait.until = op->result.integer;
    }
}

static const pier__op_class wait_class = {
    .name = "pier_db_transaction",
    .result = "int",
    .size = sizeof(pier__op),
    .step = wait_step,
};

/* Before the next attempt: 1 to 2 ms, then twice as long, to 64; not the same for all who have
 * collided. */
static int back_off(pier_db *db, int attempt, pier_error *err)
{
    pier__op *failed = NULL;
    pier__op *op = pier__op_new(&wait_class, db->handle.runner, &failed);
    if (!op) {
        return pier__op_take_int(failed, "int", err);
    }
    int64_t now = pier__now();
    int64_t most_us = INT64_C(1000) << (attempt < 6 ? attempt : 6);
    op->result.integer = now + (most_us / 2 + now / 1000 % (most_us / 2)) * 1000;
    return pier__op_take_int(pier__op_run(op, err), "int", err);
}

int pier_db_transaction(pier_db *db, const pier_tx_options *options, pier_tx_fn fn, void *arg,
                        pier_error *err)
{
    if (!db) {
        return pier__error_null(err, "pier_db_transaction: the database");
    }
    int attempts =
        options && options->struct_size >= offsetof(pier_tx_options, attempts) + sizeof(int)
            ? options->attempts
            : 0;
    pier_error failure = {0};
    int status = try_once(db, options, fn, arg, &failure);
    for (int i = 1; i < attempts && (status == PIER_ESERIALIZATION || status == PIER_EBUSY); i++) {
        memset(&failure, 0, sizeof failure);
        status = back_off(db, i, &failure);
        status = status < 0 ? status : try_once(db, options, fn, arg, &failure);
    }
    if (status < 0 && err) {
        *err = failure;
    }
    return status;
}
