/*
 * Requests of the loop's that are sent before their turn: several queries of one connection are on
 * the wire at once, each with a Sync of its own, so that one does not fail for another. Answers
 * come in the order of requests, and turns are given in that order, too. Who leaves before his turn
 * leaves an answer behind, which the next one reads and drops.
 *
 * A cancel request would hit whatever runs when it arrives, so none is sent while others wait for
 * their answers behind the one that is to be cancelled.
 */
#include "drivers/postgres/conn.h"

#include "sdk/alloc.h"

enum {
    AHEAD_MAX = 64,         /* answers that are still to come */
    AHEAD_BYTES = 64 * 1024 /* what is collected before it is sent */
};

/* ---- Sending ------------------------------------------------------------------------------ */

static pier__postgres_columns **columns_of(pier__postgres_conn *conn, int64_t number)
{
    return &conn->ahead_columns[number % AHEAD_MAX];
}

/* The statement, where nothing of it is in the way of being sent now. */
static pier__postgres_statement *find_statement(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (pier__postgres_is_unnamed(conn) || !pier__postgres_is_cached(conn, op->sql_size) ||
        (op->args && op->args->names)) {
        return NULL;
    }
    pier__postgres_statement *statement =
        pier__postgres_cache_find(&conn->statements, op->sql, op->sql_size);
    return statement && statement->settled ? statement : NULL;
}

static bool add(pier__db_op *op, const pier__postgres_statement *statement)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_transport *transport = &conn->transport;
    return pier__message_bind(transport, "", statement->name, &conn->encoder,
                              statement->param_count, statement->columns) &&
           pier__message_execute(transport, "", 0) && pier__message_sync(transport);
}

bool pier__postgres_send_ahead(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    if (conn->until || conn->lost || conn->stream || conn->closing || conn->base.resetting ||
        (conn->flushing && !conn->corked) || conn->ahead - conn->ahead_read >= AHEAD_MAX ||
        conn->transport.out_size >= AHEAD_BYTES) {
        return false;
    }
    if (!conn->ahead_columns) {
        conn->ahead_columns = pier__calloc(AHEAD_MAX, sizeof *conn->ahead_columns);
        if (!conn->ahead_columns) {
            return false;
        }
    }
    pier__postgres_statement *statement = find_statement(op);
    if (!statement || pier__postgres_encode(&conn->encoder, op->args, statement->param_types,
                                            statement->param_count, &err) < 0) {
        return false; /* what is wrong with it is told when its turn comes */
    }
    pier__postgres_note_effects(conn, statement->effects);
    if (!add(op, statement)) {
        return false; /* the transport sends nothing any more, which its owner finds */
    }
    op->ahead = ++conn->ahead;
    *columns_of(conn, op->ahead) = pier__postgres_columns_ref(statement->columns);
    conn->base.sent_last = &op->op;
    pier__postgres_cork(conn);
    return true;
}

void pier__postgres_leave_ahead(pier__db_op *op)
{
    pier__postgres_uncork(pier__postgres_conn_of(op));
}

/* ---- Answering ---------------------------------------------------------------------------- */

int pier__postgres_unwanted(const pier__db_op *op)
{
    const pier__postgres_conn *conn = pier__postgres_conn_of(op);
    int64_t before = op->ahead ? op->ahead - 1 : conn->ahead;
    return (int)(before - conn->ahead_read);
}

void pier__postgres_skip(pier__db_op *op, int count)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_begin(conn);
    for (int i = 0; i < count; i++) {
        pier__postgres_columns **columns = columns_of(conn, ++conn->ahead_read);
        pier__postgres_columns_unref(*columns);
        *columns = NULL;
    }
    conn->syncs = count;
    pier__postgres_await(op, PIER__STEP_SKIPPING);
    pier__postgres_receive(conn);
    if (!conn->answered && !conn->lost && !op->ahead) {
        pier__postgres_stop(op); /* all that is under way is for nobody */
    }
    pier__postgres_run_step(op, 0);
}

void pier__postgres_take_up(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_columns **columns = columns_of(conn, op->ahead);
    /* From PIER__CANCEL on the statement may be gone with its caller. */
    conn->sql = conn->text = op->op.cancelled ? NULL : op->sql;
    conn->sql_size = conn->text_size = op->op.cancelled ? 0 : op->sql_size;
    conn->args = op->op.cancelled ? NULL : op->args;
    conn->names = NULL;
    pier__postgres_begin(conn);
    conn->ahead_read = op->ahead;
    conn->syncs = 1;
    conn->columns = *columns;
    *columns = NULL;
    if (conn->columns) {
        conn->kinds = conn->columns->as_wanted;
        conn->keeping = pier__postgres_wants_rows(op);
    }
    pier__postgres_await(op, PIER__STEP_EXECUTING);
    if (op->op.cancelled && !conn->until) {
        pier__postgres_stop(op);
    }
    pier__postgres_run_step(op, PIER__READABLE);
}

void pier__postgres_forget_ahead(pier__postgres_conn *conn)
{
    while (conn->ahead_read < conn->ahead) {
        pier__postgres_columns_unref(*columns_of(conn, ++conn->ahead_read));
    }
    pier__free(conn->ahead_columns);
    conn->ahead_columns = NULL;
    conn->ahead = conn->ahead_read = 0;
    conn->corked = false;
}
