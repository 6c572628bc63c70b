/*
 * A request, from its first byte to its end. Every step does what can be done without waiting, and
 * then waits for the socket. Once the server has answered everything that was sent, what comes next
 * depends on the step that the request is in.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "sdk/clock.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    /* How long a request that was cancelled may take to end on the server. Then its connection
       goes. */
    CLEAN_UP_MS = 5000,
    /* A cancel request that reaches the server before the statement does is lost, so it is
     * repeated, after this time, then twice that, and so on. */
    CANCEL_AGAIN_MS = 20,
    ARGS_MAX = 65535, /* the protocol counts them in 16 bits */
    UTF8 = 6          /* libpq's number of the encoding, which is part of its interface */
};

static void start_request(pier__db_op *op);

/* Ending. */

static void end_request(pier__postgres_conn *conn)
{
    if (conn->said.head) {
        pier__postgres_tell(conn);
    }
    pier__postgres_results_clear(conn);
    if (conn->cancel) {
        pier__postgres_cancel_free(conn->cancel);
        conn->cancel = NULL;
    }
    if (conn->preparing) {
        pier__postgres_statement_free(conn->preparing);
        conn->preparing = NULL;
    }
    conn->statement = NULL;
    conn->until = conn->cancel_at = 0;
    if (conn->pg) {
        pier__postgres_settle(conn);
    }
}

/* Text here is UTF-8, so a session in another encoding is of no use. */
static void fail_encoding(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    conn->base.dead = true;
    if (op->request == PIER__ROLLBACK || op->request == PIER__CURSOR_CLOSE) {
        pier__db_op_ran(op);
        return;
    }
    pier_error_set(&err, PIER_EINVAL,
                   "%s: the statement has set client_encoding to %.40s, but text is UTF-8 here; "
                   "leave it, and use convert_to and convert_from. The connection is closed",
                   op->op.cls->name, pg_encoding_to_char(PQclientEncoding(conn->pg)));
    pier__db_op_failed(op, &err);
}

void pier__postgres_succeed(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    end_request(conn);
    if (conn->pg && !conn->base.dead && PQclientEncoding(conn->pg) != UTF8) {
        fail_encoding(op);
    } else {
        pier__db_op_ran(op);
    }
}

void pier__postgres_fail(pier__db_op *op, const pier_error *err)
{
    end_request(pier__postgres_conn_of(op));
    pier__db_op_failed(op, err);
}

void pier__postgres_fail_cancelled(pier__db_op *op)
{
    pier_error err;
    pier__op_cancelled_error(&op->op, &err);
    pier__postgres_fail(op, &err);
}

void pier__postgres_fail_nomem(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_ENOMEM, "%s: out of memory", op->op.cls->name);
    pier__postgres_fail(op, &err);
}

/* From PIER__CANCEL on the statement may be gone with its caller. */
static const char *sql_for_message(const pier__db_op *op)
{
    return op->op.cancelled ? NULL : pier__postgres_conn_of(op)->sql;
}

void pier__postgres_fail_sql(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    if (pier__postgres_is_fatal(conn->error)) {
        pier__postgres_suspect(conn);
        pier__postgres_session_ended(conn, false);
    }
    if (op->op.cancelled && strcmp(pier__postgres_sqlstate(conn->error), "57014") == 0) {
        pier__postgres_fail_cancelled(op);
        return;
    }
    /* A cursor's statement stands behind what declares it. */
    size_t skip = 0;
    const char *sql = sql_for_message(op);
    if (sql && op->cursor && sql == ((const pier__postgres_cursor *)op->cursor)->declare) {
        skip = conn->sql_size - strlen(op->cursor->sql);
    }
    pier__postgres_error_in(&err, conn->error, sql ? sql + skip : NULL, conn->sql_size - skip,
                            skip);
    pier__postgres_check_target(op, &err);
    pier__postgres_fail(op, &err);
}

void pier__postgres_fail_broken(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    char line[160];
    conn->base.dead = true;
    pier__postgres_suspect(conn);
    pier__postgres_session_ended(conn, false);
    if (op->op.cancelled) {
        pier__postgres_fail_cancelled(op);
        return;
    }
    /* The server's last words say more than the end of the connection. */
    if (conn->error && *pier__postgres_sqlstate(conn->error)) {
        pier__postgres_fail_sql(op);
        return;
    }
    if (*conn->said.state) {
        pier_error_set(&err, PIER_EIO,
                       "%s; the server ended the connection to %.120s, the next call makes a new "
                       "one",
                       conn->said.words, conn->base.db->name);
        memcpy(err.sqlstate, conn->said.state, sizeof conn->said.state);
        err.origin = PIER_ORIGIN_POSTGRES;
        pier__postgres_fail(op, &err);
        return;
    }
    pier__postgres_one_line(line, sizeof line, PQerrorMessage(conn->pg));
    pier_error_set(&err, PIER_EIO,
                   "%s: the connection to %.120s broke while %s: %s; whether it took effect is not "
                   "known, the next call makes a new connection",
                   op->op.cls->name, conn->base.db->name, op->op.doing, line);
    err.origin = PIER_ORIGIN_POSTGRES;
    pier__postgres_fail(op, &err);
}

/* Waiting. */

/* While a cancelled request is drained: the time to cancel again, once the last one has been done,
 * or to give up. */
static int64_t clean_up_bound(pier__postgres_conn *conn)
{
    if (conn->cancel && pier__postgres_cancel_done(conn->cancel)) {
        pier__postgres_cancel_free(conn->cancel);
        conn->cancel = NULL;
        conn->cancel_at = pier__now() + conn->cancel_pause;
        conn->cancel_pause *= 2;
    }
    return conn->cancel ? conn->until : pier__earlier(conn->until, conn->cancel_at);
}

static void wait_for_socket(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__wait *wait = &op->op.wait;
    wait->kind = PIER__WAIT_FD;
    wait->fd = conn->fd;
    wait->events = conn->flushing ? PIER__READABLE | PIER__WRITABLE : PIER__READABLE;
    wait->watch = &conn->base.watch;
    wait->until = conn->until ? clean_up_bound(conn) : 0;
}

static void wait_for_cancel(pier__db_op *op)
{
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = pier__postgres_conn_of(op)->until;
}

void pier__postgres_await(pier__db_op *op, int step)
{
    op->scratch.step = step;
    pier__postgres_conn_of(op)->answered = false;
    wait_for_socket(op);
}

bool pier__postgres_sent(pier__db_op *op, int sent)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    int left = sent ? PQflush(conn->pg) : -1;
    conn->flushing = left > 0;
    if (left >= 0) {
        return true;
    }
    /* Something is half sent, or the connection broke. */
    pier__postgres_fail_broken(op);
    return false;
}

/* Cancelling. */

static void send_cancel(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->cancel = pier__postgres_cancel_start(conn->pg, &op->op);
    if (!conn->cancel) {
        conn->base.dead = true;
    }
}

void pier__postgres_stop(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->dropping = true;
    conn->until = pier__now() + (int64_t)CLEAN_UP_MS * 1000000;
    conn->cancel_pause = (int64_t)CANCEL_AGAIN_MS * 1000000;
    send_cancel(op);
}

static void give_up(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->base.dead = true;
    if (op->request == PIER__CURSOR_CLOSE && !op->op.cancelled) {
        pier__postgres_succeed(op);
    } else {
        pier__postgres_fail_cancelled(op);
    }
}

/* PIER__CANCEL, and the end of the time for cleaning up. True: the operation has settled. */
static bool wind_up(pier__db_op *op, unsigned events)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    bool cancel = events & PIER__CANCEL;
    switch (op->scratch.step) {
    case PIER__STEP_RESETTING:
        /* The next one would wait for the same answer, which a server that hangs never gives. */
        conn->base.dead = true;
        pier__postgres_fail_cancelled(op);
        return true;
    case PIER__STEP_START:
    case PIER__STEP_CLOSED:
        pier__postgres_fail_cancelled(op); /* nothing was sent */
        return true;
    default:
        break;
    }
    if (cancel && op->request == PIER__ROLLBACK) {
        conn->base.dead = true; /* the end of the session rolls back as well */
    } else if (cancel && !conn->until) {
        pier__postgres_stop(op);
    } else if (events & PIER__EXPIRED) {
        if (conn->cancel || !conn->cancel_at || pier__now() >= conn->until) {
            conn->base.dead = true; /* the time is up */
        } else {
            send_cancel(op);
        }
    }
    if (conn->base.dead) {
        give_up(op);
        return true;
    }
    return false;
}

/* Preparing and executing. */

int pier__postgres_send_encoded(pier__postgres_conn *conn, bool binary)
{
    const pier__postgres_statement *statement = conn->statement;
    const pier__postgres_encoder *encoder = &conn->encoder;
    if (pier__postgres_is_unnamed(conn)) {
        return PQsendQueryParams(conn->pg, statement->sql, statement->param_count,
                                 statement->param_types, encoder->values, encoder->sizes,
                                 encoder->formats, binary);
    }
    return PQsendQueryPrepared(conn->pg, statement->name, statement->param_count, encoder->values,
                               encoder->sizes, encoder->formats, binary);
}

bool pier__postgres_execute_send(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const pier__postgres_statement *statement = conn->statement;
    pier_error err;
    if (pier__postgres_encode(&conn->encoder, conn->args, statement->param_types,
                              statement->param_count, &err) < 0) {
        pier__postgres_error_add_sql(&err, conn->sql, conn->sql_size);
        pier__postgres_fail(op, &err);
        return false;
    }
    return pier__postgres_sent(op, pier__postgres_send_encoded(conn, statement->binary));
}

/* The statement is known to the server: goes on with the request. */
static void prepared(pier__db_op *op)
{
    if (op->request == PIER__CURSOR_BLOCK) {
        pier__postgres_cursor_prepared(op);
    } else if (op->request == PIER__EXECUTE_MANY) {
        pier__postgres_many_prepared(op);
    } else if (op->request == PIER__DESCRIBE) {
        pier__postgres_describe_prepared(op);
    } else if (pier__postgres_execute_send(op)) {
        pier__postgres_await(op, PIER__STEP_EXECUTING);
    }
}

static void refuse_arguments(pier__db_op *op, size_t count)
{
    pier_error err;
    pier_error_set(&err, PIER_EINVAL,
                   "%s: %zu arguments are too many, Postgres takes 65,535 at most; pass arrays, or "
                   "use pier_db_execute_many for rows",
                   op->op.cls->name, count);
    pier__postgres_fail(op, &err);
}

void pier__postgres_prepare(pier__db_op *op, bool whole)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->args && conn->args->count > ARGS_MAX) {
        refuse_arguments(op, conn->args->count);
        return;
    }
    conn->statement = pier__postgres_is_cached(conn, conn->sql_size)
                          ? pier__postgres_cache_find(&conn->statements, conn->sql, conn->sql_size)
                          : NULL;
    conn->whole = false;
    if (conn->statement) {
        pier__postgres_note_effects(conn, conn->statement->effects);
        prepared(op);
    } else if (pier__postgres_prepare_send(op, whole)) {
        pier__postgres_await(op, PIER__STEP_PREPARING);
    }
}

/* Answering. */

int64_t pier__postgres_count_changes(PGresult *result)
{
    const char *tag = PQcmdStatus(result);
    /* Compared within libpq's array, which is longer, so that no call is made. */
    bool only_read = memcmp(tag, "SELECT", 6) == 0
                         ? PQresultStatus(result) == PGRES_TUPLES_OK
                         : strncmp(tag, "FETCH", 5) == 0 || strncmp(tag, "MOVE", 4) == 0;
    const char *count = only_read ? "" : PQcmdTuples(result);
    return *count ? strtoll(count, NULL, 10) : 0;
}

/* Postgres answers COMMIT with ROLLBACK where the transaction had failed. */
static bool was_rolled_back(pier__db_op *op, PGresult *result)
{
    return op->request == PIER__COMMIT && op->scratch.number &&
           strcmp(PQcmdStatus(result), "ROLLBACK") == 0;
}

static void executed(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->error) {
        if (pier__postgres_prepare_again(op)) {
            pier__postgres_prepare(op, op->request != PIER__CURSOR_BLOCK);
            return;
        }
        if (op->request == PIER__ROLLBACK) {
            conn->base.dead = true; /* nobody knows what it is in now */
        }
        pier__postgres_fail_sql(op);
        return;
    }
    if (!conn->result) {
        pier__postgres_fail_broken(op);
        return;
    }
    if (op->request == PIER__FETCH || op->request == PIER__CURSOR_BLOCK) {
        const pier__postgres_statement *statement = conn->statement;
        if (pier__postgres_is_unnamed(conn) && pier__postgres_is_misread(op, conn->result)) {
            return;
        }
        op->count = op->request == PIER__FETCH ? pier__postgres_count_changes(conn->result) : 0;
        op->block = pier__postgres_rows(
            conn->result, conn->whole || pier__postgres_is_unnamed(conn) ? NULL : statement->kinds,
            statement->column_count, op->room, op->reads_here ? sizeof op->room : 0);
        conn->result = NULL;
        if (!op->block) {
            pier__postgres_fail_nomem(op);
            return;
        }
        if (op->cursor) {
            op->cursor->ended = true;
        }
    } else if (op->request == PIER__EXECUTE) {
        op->count = pier__postgres_count_changes(conn->result);
    } else if (was_rolled_back(op, conn->result)) {
        pier_error err;
        pier_error_set(&err, PIER_ESQL, "the transaction had failed and was rolled back");
        pier__postgres_fail(op, &err);
        return;
    }
    pier__postgres_succeed(op);
}

/* Nothing was lost with a connection that could not be made clean, or broke before that: another
 * one takes its place, where the request may choose. */
static void exchange(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (pier__postgres_has_left(conn)) {
        pier__postgres_session_ended(conn, true);
    }
    conn->base.dead = true;
    pier__postgres_suspect(conn);
    if (!pier__db_op_exchange(op)) {
        pier__postgres_fail_broken(op);
    }
}

/* The server has answered everything that was sent. */
static void answered(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    switch (op->scratch.step) {
    case PIER__STEP_EXECUTING:
        executed(op);
        break;
    case PIER__STEP_RESETTING:
        if (conn->error || pier__postgres_has_left(conn)) {
            pier__postgres_reset_failed(conn);
            exchange(op);
            break;
        }
        conn->base.resetting = false;
        pier__postgres_results_clear(conn);
        pier__postgres_settle(conn);
        start_request(op);
        break;
    case PIER__STEP_PREPARING:
        if (pier__postgres_prepare_end(op)) {
            conn->whole ? executed(op) : prepared(op);
        }
        break;
    case PIER__STEP_CLOSED:
        conn->closing = false;
        pier__postgres_results_clear(conn);
        start_request(op);
        break;
    case PIER__STEP_SENDING:
    case PIER__STEP_MANY:
    case PIER__STEP_UNDOING:
        pier__postgres_many_step(op);
        break;
    case PIER__STEP_DESCRIBING:
    case PIER__STEP_NAMING:
        pier__postgres_describe_step(op);
        break;
    default:
        pier__postgres_cursor_step(op);
        break;
    }
}

/* Starting. */

static bool is_busy_streaming(const pier__db_op *op)
{
    const pier__postgres_conn *conn = (const pier__postgres_conn *)op->conn;
    const pier__postgres_cursor *cursor = (const pier__postgres_cursor *)op->cursor;
    return conn->stream && !(cursor && cursor->stream == conn->stream);
}

static void refuse_busy(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_EBUSY,
                   "%s: an open cursor still reads from this connection; close it first, read it "
                   "to its end, or open it in a transaction",
                   op->op.cls->name);
    pier__postgres_fail(op, &err);
}

static void send_simple(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (pier__postgres_sent(op, PQsendQuery(conn->pg, conn->sql))) {
        pier__postgres_await(op, PIER__STEP_EXECUTING);
    }
}

/* The connection is open, clean and ours. */
static void start_request(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (op->cursor) {
        pier__postgres_cursor_start(op);
        return;
    }
    conn->sql = op->sql;
    conn->sql_size = op->sql_size;
    conn->args = op->args;
    switch (op->request) {
    case PIER__EXECUTE:
    case PIER__FETCH:
        pier__postgres_prepare(op, true);
        break;
    case PIER__EXECUTE_MANY:
        pier__postgres_many_start(op);
        break;
    case PIER__DESCRIBE:
        pier__postgres_describe_start(op);
        break;
    case PIER__LEASE:
        pier__postgres_succeed(op); /* it is clean, that is all */
        break;
    case PIER__COMMIT:
        op->scratch.number = strncasecmp(op->sql, "commit", 6) == 0;
        send_simple(op);
        break;
    case PIER__BEGIN:
    case PIER__ROLLBACK:
        send_simple(op);
        break;
    default:
        pier__postgres_note_script(conn, op->sql);
        send_simple(op);
        break;
    }
}

static void start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (is_busy_streaming(op)) {
        refuse_busy(op);
    } else if (conn->base.resetting) {
        /* The answer has mostly come by now, so it is read without waiting for it first. */
        pier__postgres_await(op, PIER__STEP_RESETTING);
        pier__postgres_run_step(op, PIER__READABLE);
    } else if (conn->closing) {
        pier__postgres_await(op, PIER__STEP_CLOSED);
        pier__postgres_run_step(op, PIER__READABLE);
    } else {
        start_request(op);
    }
}

/* Rows that have come are a block; nobody waits for more of them. Behind the last one, only the
 * server's word that it is ready is still to come. */
static bool has_block(pier__db_op *op)
{
    const pier__postgres_conn *conn = pier__postgres_conn_of(op);
    return op->scratch.step == PIER__STEP_STREAMING && !conn->dropping && conn->builder.count > 0 &&
           !conn->result && !conn->error;
}

void pier__postgres_run_step(pier__db_op *op, unsigned events)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (events & (PIER__CANCEL | PIER__EXPIRED) && wind_up(op, events)) {
        return;
    }
    if (op->scratch.step == PIER__STEP_START) {
        start(op);
        return;
    }
    bool broken =
        events & (PIER__READABLE | PIER__WRITABLE) && !conn->answered &&
        !(conn->stream ? pier__postgres_receive_rows(conn) : pier__postgres_receive(conn));
    pier__postgres_collect(conn);
    if (broken) {
        conn->base.dead = true;
    }
    if (broken && op->scratch.step == PIER__STEP_RESETTING) {
        exchange(op);
    } else if (broken && (!conn->answered || conn->error)) {
        pier__postgres_fail_broken(op);
    } else if (!conn->answered && op->scratch.step == PIER__STEP_SENDING && !conn->flushing) {
        pier__postgres_many_go_on(op);
    } else if (!conn->answered && !has_block(op)) {
        wait_for_socket(op);
    } else if (conn->cancel && !pier__postgres_cancel_done(conn->cancel)) {
        wait_for_cancel(op);
    } else {
        answered(op);
    }
}
