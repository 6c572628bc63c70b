/*
 * One statement and many rows, in one pipeline with one Sync. Rows are sent in pieces, and answers
 * are taken between them: when both sides only write, neither ever reads.
 *
 * Outside a transaction the pipeline begins one and commits it, as messages of its own, because the
 * implicit transaction of a pipeline commits at its Sync, which must be sent in any case: rows that
 * are cut short by a cancel or by an argument that cannot be bound would be half of them committed.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "drivers/postgres/sql.h"
#include <stdio.h>
#include <string.h>

enum {
    PIECE_BYTES = 64 * 1024, /* what is collected before it is sent */
    STEP_BYTES = 256 * 1024  /* the loop has other things to do */
};

static bool has_own_transaction(const pier__db_op *op)
{
    return op->db->kind != PIER__DB_TX;
}

/* ---- Failing ------------------------------------------------------------------------------ */

static void name_row(pier_error *err, int64_t row)
{
    char message[sizeof err->message];
    snprintf(message, sizeof message, "row %" PRId64 ": %.390s", row, err->message);
    memcpy(err->message, message, sizeof message);
}

/* The rows have failed, and nothing of them is left. */
static void fail_rows(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const char *sqlstate = conn->error ? pier__postgres_sqlstate(conn->error) : "";
    if (op->op.cancelled && (!conn->error || strcmp(sqlstate, "57014") == 0)) {
        pier__postgres_fail_cancelled(op);
        return;
    }
    if (conn->many.failure.status < 0) {
        pier__postgres_fail(op, &conn->many.failure);
        return;
    }
    if (pier__postgres_is_fatal(conn->error)) {
        pier__postgres_fail_sql(op);
        return;
    }
    pier_error err;
    int64_t row = conn->error_part - conn->many.lead;
    pier__postgres_error(&err, conn->error, op->op.cancelled ? NULL : conn->text, conn->text_size,
                         conn->names);
    if (row >= 0 && row < (int64_t)conn->many.sent) {
        name_row(&err, conn->many.rows_before + row + 1);
    }
    pier__postgres_check_target(op, &err);
    pier__postgres_fail(op, &err);
}

/* ---- Sending ------------------------------------------------------------------------------ */

/* No more rows: the transaction is committed, unless something went wrong. */
static void send_end(pier__db_op *op, bool complete)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->many.complete = complete;
    bool added = !complete || !has_own_transaction(op) ||
                 pier__message_command(&conn->transport,
                                       conn->many.in_savepoint ? "RELEASE pier_many" : "COMMIT");
    conn->syncs--; /* it was counted when the rows began */
    if (pier__postgres_send(op, added && pier__postgres_add_sync(conn))) {
        pier__postgres_await(op, PIER__STEP_MANY);
    }
}

/* 1, or 0: the row cannot be bound; -1: there is no memory for it. */
static int add_row(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const pier__postgres_statement *statement = conn->statement;
    pier_error *err = &conn->many.failure;
    if (pier__postgres_bind(conn, &op->rows[conn->many.sent], err) < 0) {
        name_row(err, conn->many.rows_before + (int64_t)conn->many.sent + 1);
        return 0;
    }
    conn->many.sent++;
    return pier__message_bind(&conn->transport, "", statement->name, &conn->encoder,
                              statement->param_count, NULL) &&
                   pier__message_execute(&conn->transport, "", 0)
               ? 1
               : -1;
}

void pier__postgres_many_go_on(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    size_t in_step = 0;
    /* From PIER__CANCEL on the rows may be gone with their caller. */
    while (!op->op.cancelled && !conn->error && conn->many.sent < op->row_count) {
        int added = add_row(op);
        if (added == 0) {
            send_end(op, false);
            return;
        }
        size_t in_piece = conn->transport.out_size - conn->transport.out_sent;
        if (added > 0 && in_piece < PIECE_BYTES) {
            continue;
        }
        if (!pier__postgres_send(op, added > 0)) {
            return;
        }
        in_step += in_piece;
        if (conn->flushing || in_step >= STEP_BYTES) {
            conn->flushing = true; /* goes on when the socket takes more, which may be at once */
            pier__postgres_await(op, PIER__STEP_SENDING);
            return;
        }
    }
    send_end(op, !op->op.cancelled && !conn->error);
}

static bool add_start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const pier__postgres_statement *statement = conn->statement;
    pier__postgres_transport *transport = &conn->transport;
    if (has_own_transaction(op)) {
        conn->many.lead++;
        if (!pier__message_command(transport,
                                   conn->many.in_savepoint ? "SAVEPOINT pier_many" : "BEGIN")) {
            return false;
        }
    }
    /* What was sent just now has taken the place of the unnamed statement; and behind a pooler it
     * may have been prepared on another server. */
    return *statement->name ||
           pier__message_parse(transport, "", statement->sql, statement->sql_size,
                               statement->param_types, statement->param_count);
}

void pier__postgres_many_prepared(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    memset(&conn->many, 0, offsetof(pier__postgres_many, failure));
    conn->many.failure.status = 0;
    conn->many.counting = true;
    conn->many.in_savepoint = conn->base.in_tx;
    conn->many.rows_before = op->rows_before;
    pier__postgres_begin(conn);
    conn->syncs++; /* it is still to be sent, but an error means that it is waited for */
    conn->part = conn->changed = 0;
    conn->columns = pier__postgres_columns_ref(conn->statement->columns);
    if (add_start(op)) {
        pier__postgres_many_go_on(op);
    } else {
        pier__postgres_send(op, false);
    }
}

/* ---- Answers ------------------------------------------------------------------------------ */

static void undo(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const char *sql =
        conn->many.in_savepoint ? "ROLLBACK TO pier_many; RELEASE pier_many" : "ROLLBACK";
    pier__postgres_begin(conn);
    if (pier__postgres_send(op, pier__postgres_add_query(conn, sql))) {
        pier__postgres_await(op, PIER__STEP_UNDOING);
    }
}

/* Nothing is left of the rows; was it only that the statement had been prepared for another table?
 */
static void undone(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (has_own_transaction(op) && !conn->many.in_savepoint && conn->tx != 'I') {
        conn->base.dead = true; /* the end of the session rolls back as well */
    }
    if (!conn->base.dead && conn->many.failure.status == 0 && pier__postgres_prepare_again(op)) {
        pier__postgres_prepare(op, false);
    } else {
        fail_rows(op);
    }
}

void pier__postgres_many_step(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->many.counting = false;
    if (op->scratch.step == PIER__STEP_UNDOING) {
        undone(op);
        return;
    }
    int64_t expected = conn->many.lead + (int64_t)conn->many.sent + has_own_transaction(op);
    if (conn->many.complete && !conn->error && conn->part != expected) {
        pier__postgres_misled(op);
        return;
    }
    if (conn->many.complete && !conn->error) {
        op->count = conn->changed;
        pier__postgres_succeed(op);
        return;
    }
    if (has_own_transaction(op) && conn->tx != 'I' && !conn->base.dead) {
        undo(op);
    } else {
        undone(op);
    }
}

/* ---- Starting ----------------------------------------------------------------------------- */

/* What would end the transaction that all rows share, or has a protocol of its own. */
static const char *forbidden_word(const char *sql)
{
    static const char *const words[] = {"begin",    "start", "commit", "end",
                                        "rollback", "abort", "copy"};
    sql = pier__postgres_sql_start(sql);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (pier__postgres_sql_begins(sql, words[i])) {
            return words[i];
        }
    }
    return NULL;
}

void pier__postgres_many_start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const char *word = forbidden_word(conn->sql);
    op->count = 0;
    if (word) {
        pier_error err;
        pier_error_set(&err, PIER_EINVAL,
                       "%s: \"%s\" cannot be run for many rows, which are one transaction; write "
                       "an insert, update, delete or select",
                       op->op.cls->name, word);
        pier__postgres_fail(op, &err);
    } else if (op->row_count == 0) {
        pier__postgres_succeed(op);
    } else {
        pier__postgres_prepare(op, false);
    }
}
