/*
 * A request, from its first byte to its end. Every step does what can be done without waiting, and
 * then waits for the socket. Once the server has answered everything that was sent, what comes next
 * depends on the step that the request is in.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/effects.h"
#include "drivers/postgres/error.h"
#include "drivers/postgres/sql.h"
#include "sdk/clock.h"
#include "sdk/loop.h"
#include <stdio.h>
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
    /* A server sends 8 KB at a time, and to be woken for each costs both sides more than the bytes
     * do. Of an answer that has been this long already a thread therefore waits for some more
     * without looking, for less time than the server needs to fill the socket's buffers. */
    FLOWING_BYTES = 1 << 20,
    BULK_BYTES = 16 * 1024, /* of an answer that the loop does not keep until it has read others */
    PAUSE_NS = 150000
};

static void start_request(pier__db_op *op);

/* Ending. */

static void end_request(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->base.sent_last == &op->op) {
        conn->base.sent_last = NULL;
    }
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
    conn->sql = conn->text = NULL; /* they may go with the request */
    conn->sql_size = conn->text_size = 0;
    conn->names = NULL;
    conn->args = NULL;
    conn->until = conn->cancel_at = 0;
    if (conn->pg) {
        pier__postgres_transport_rest(&conn->transport);
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
                   op->op.cls->name, conn->encoding);
    pier__db_op_failed(op, &err);
}

void pier__postgres_succeed(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    end_request(op);
    if (*conn->encoding && !conn->base.dead && strcmp(conn->encoding, "UTF8") != 0) {
        fail_encoding(op);
    } else {
        pier__db_op_ran(op);
    }
}

void pier__postgres_fail(pier__db_op *op, const pier_error *err)
{
    end_request(op);
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
    return op->op.cancelled ? NULL : pier__postgres_conn_of(op)->text;
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
    pier__postgres_error(&err, conn->error, sql_for_message(op), conn->text_size, conn->names);
    pier__postgres_check_target(op, &err);
    pier__postgres_fail(op, &err);
}

/* An answer that came before this request's own has nothing to do with it, but for last words. */
static void drop_error_of_others(const pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    int step = op->scratch.step;
    bool others =
        step == PIER__STEP_SKIPPING || step == PIER__STEP_RESETTING || step == PIER__STEP_CLOSED;
    if (others && conn->error && !pier__postgres_is_fatal(conn->error)) {
        pier__postgres_report_free(conn->error);
        conn->error = NULL;
    }
}

void pier__postgres_fail_broken(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    char line[160];
    conn->base.dead = true;
    drop_error_of_others(op);
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
    if (conn->transport.short_of_memory) {
        pier__postgres_fail_nomem(op);
        return;
    }
    pier__postgres_one_line(line, sizeof line, conn->transport.why);
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

/* A thread may wait by receiving. A unix socket wakes it a first time when the server has read the
 * request: where several connections keep the machine busy the answer is there by the time that it
 * runs; a single client, which the scheduler likes to put beside its server on one core, would pay
 * a sixth for it. */
static bool may_receive(const pier__postgres_conn *conn)
{
    return conn->transport.may_block &&
           (!conn->transport.local ||
            atomic_load_explicit(&conn->base.pool->total, memory_order_relaxed) > 1);
}

static bool receive_here(pier__op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of((pier__db_op *)op);
    pier__postgres_came came = pier__postgres_transport_await(&conn->transport, conn->wanted);
    conn->lost |= came == PIER__CAME_END;
    return came != PIER__CAME_NOTHING;
}

static void wait_for_socket(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__wait *wait = &op->op.wait;
    wait->kind = PIER__WAIT_FD;
    wait->fd = conn->fd;
    bool more = conn->flushing && !conn->corked;
    wait->events = more ? PIER__READABLE | PIER__WRITABLE : PIER__READABLE;
    wait->watch = &conn->base.watch;
    wait->receive = !more && may_receive(conn) ? receive_here : NULL;
    wait->until = conn->until ? clean_up_bound(conn) : 0;
}

/* The same, in a long answer. */
static void wait_for_more(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (op->op.on_loop || conn->transport.in_total < FLOWING_BYTES || conn->paused || conn->until) {
        conn->paused = false;
        wait_for_socket(op);
        return;
    }
    conn->paused = true;
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = pier__now() + PAUSE_NS;
}

static void wait_for_cancel(pier__db_op *op)
{
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = pier__postgres_conn_of(op)->until;
}

void pier__postgres_await(pier__db_op *op, int step)
{
    op->scratch.step = step;
    wait_for_socket(op);
}

/* Sending. */

void pier__postgres_begin(pier__postgres_conn *conn)
{
    conn->answered = conn->simple = conn->keeping = conn->paused = conn->bound = false;
    conn->transport.in_total = 0;
}

bool pier__postgres_add_query(pier__postgres_conn *conn, const char *sql)
{
    conn->simple = true;
    conn->syncs++;
    return pier__message_query(&conn->transport, sql);
}

bool pier__postgres_add_sync(pier__postgres_conn *conn)
{
    conn->syncs++;
    return pier__message_sync(&conn->transport);
}

bool pier__postgres_send(pier__db_op *op, bool added)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    int left = added ? pier__postgres_transport_flush(&conn->transport) : -1;
    conn->flushing = left > 0;
    conn->corked = false;
    if (left >= 0) {
        return true;
    }
    /* Something is half sent, or the connection broke: then the server's last words may be there.
     */
    if (added && !conn->transport.short_of_memory) {
        conn->flushing = true;
        pier__postgres_receive(conn);
        conn->flushing = false;
    }
    pier__postgres_fail_broken(op);
    return false;
}

bool pier__postgres_send_soon(pier__db_op *op, bool added)
{
    if (!added || !op->op.on_loop) {
        return pier__postgres_send(op, added);
    }
    pier__postgres_cork(pier__postgres_conn_of(op));
    return true;
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

/* Not while others wait for the answers to what stands behind it on the wire: it may hit them. */
static bool may_cancel(const pier__postgres_conn *conn)
{
    return conn->base.sent_wanted == 0;
}

void pier__postgres_stop(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->stream) {
        conn->keeping = false;
        pier__postgres_builder_clear(&conn->builder);
    }
    conn->until = pier__now() + (int64_t)CLEAN_UP_MS * 1000000;
    conn->cancel_pause = (int64_t)CANCEL_AGAIN_MS * 1000000;
    pier__postgres_uncork(conn); /* the server is to have what it is asked to cancel */
    if (may_cancel(conn)) {
        send_cancel(op);
    } else {
        conn->cancel_at = pier__now() + conn->cancel_pause;
    }
}

static void give_up(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->base.dead = true;
    if (op->request == PIER__CURSOR_CLOSE && !op->op.cancelled) {
        pier__postgres_succeed(op);
    } else if (op->scratch.step == PIER__STEP_SKIPPING && !op->op.cancelled) {
        pier__postgres_fail_broken(op);
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
        } else if (may_cancel(conn)) {
            send_cancel(op);
        } else {
            conn->cancel_at = pier__now() + conn->cancel_pause;
        }
    }
    if (conn->base.dead) {
        give_up(op);
        return true;
    }
    return false;
}

/* Preparing and executing. */

/* Columns that may have changed since the statement was described come with their description. */
static bool describes_again(const pier__postgres_conn *conn)
{
    return pier__postgres_is_unnamed(conn) || !conn->statement->settled;
}

bool pier__postgres_add_statement(pier__postgres_conn *conn, const char *portal, int rows_max)
{
    const pier__postgres_statement *statement = conn->statement;
    pier__postgres_transport *transport = &conn->transport;
    if (pier__postgres_is_unnamed(conn) &&
        !pier__message_parse(transport, "", statement->sql, statement->sql_size,
                             statement->param_types, statement->param_count)) {
        return false;
    }
    if (!pier__message_bind(transport, portal, statement->name, &conn->encoder,
                            statement->param_count, statement->columns)) {
        return false;
    }
    if (describes_again(conn)) {
        if (!pier__message_describe(transport, PIER__MESSAGE_PORTAL, portal)) {
            return false;
        }
    } else if (statement->columns) {
        conn->columns = pier__postgres_columns_ref(statement->columns);
        conn->kinds = conn->columns->as_wanted;
    }
    return pier__message_execute(transport, portal, rows_max);
}

bool pier__postgres_wants_rows(const pier__db_op *op)
{
    return op->request == PIER__FETCH || op->request == PIER__CURSOR_BLOCK;
}

bool pier__postgres_execute_send(pier__db_op *op, const char *portal, int rows_max)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    if (pier__postgres_bind(conn, conn->args, &err) < 0) {
        pier__postgres_fail(op, &err);
        return false;
    }
    pier__postgres_begin(conn);
    conn->keeping = pier__postgres_wants_rows(op);
    return pier__postgres_send_soon(op, pier__postgres_add_statement(conn, portal, rows_max) &&
                                            pier__postgres_add_sync(conn));
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
    } else if (pier__postgres_execute_send(op, "", 0)) {
        pier__postgres_conn_of(op)->base.sent_last = &op->op; /* others may follow */
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

static void send_simple(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_begin(conn);
    if (pier__postgres_send_soon(op, pier__postgres_add_query(conn, conn->sql))) {
        pier__postgres_await(op, PIER__STEP_EXECUTING);
    }
}

/* A server that refuses COPY FROM STDIN may or may not have read a Sync behind it as data; as a
 * Query it is answered with one ReadyForQuery in any case. */
static bool is_copy(const pier__db_op *op)
{
    const pier__postgres_conn *conn = pier__postgres_conn_of(op);
    bool runs = op->request == PIER__EXECUTE || pier__postgres_wants_rows(op);
    return runs && (!conn->args || conn->args->count == 0) && pier__postgres_is_copy(conn->sql);
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
    } else if (is_copy(op)) {
        pier__postgres_note_effects(conn, pier__postgres_effects(conn->sql, conn->sql_size));
        send_simple(op);
    } else if (pier__postgres_prepare_send(op, whole)) {
        pier__postgres_await(op, PIER__STEP_PREPARING);
    }
}

/* Answering. */

static void fail_rolled_back(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_ESQL, "the transaction had failed and was rolled back");
    pier__postgres_fail(op, &err);
}

static void fail_too_much(pier__db_op *op)
{
    pier_error err;
    pier_error_set(&err, PIER_ERANGE,
                   "%s: the rows have more than 4 GB; read them with pier_db_cursor",
                   op->op.cls->name);
    pier__postgres_fail(op, &err);
}

bool pier__postgres_make_block(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (pier__postgres_is_unnamed(conn) && pier__postgres_is_misread(op)) {
        return false;
    }
    if (!conn->out_of_memory && !conn->too_much) {
        op->block =
            pier__postgres_rows(&conn->builder, &conn->transport, conn->columns, conn->kinds,
                                op->room, op->reads_here ? sizeof op->room : 0);
    }
    if (!op->block) {
        conn->base.dead |= conn->stream != 0; /* its rows go on coming */
        conn->too_much ? fail_too_much(op) : pier__postgres_fail_nomem(op);
    }
    if (op->block && op->op.on_loop && conn->transport.in_total >= BULK_BYTES) {
        pier__loop_take_bulk_on_loop(op->op.runner);
    }
    return op->block != NULL;
}

void pier__postgres_misled(pier__db_op *op)
{
    pier__postgres_transport *transport = &pier__postgres_conn_of(op)->transport;
    if (!*transport->why) {
        snprintf(transport->why, sizeof transport->why,
                 "the server's answer is not to what it was asked");
    }
    pier__postgres_fail_broken(op);
}

/* A request failed because its statement is out of date. It is made again, behind those that are on
 * the wire already. */
static void make_again(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->base.sent_last = conn->base.sent_last == &op->op ? NULL : conn->base.sent_last;
    if (conn->ahead == conn->ahead_read) {
        pier__postgres_prepare(op, true);
        return;
    }
    end_request(op);
    op->again = pier__now();
    pier__db_op_ran(op);
}

static void executed(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->error) {
        if (op->ahead && conn->sql) {
            conn->statement =
                pier__postgres_cache_find(&conn->statements, conn->sql, conn->sql_size);
        }
        if (pier__postgres_prepare_again(op)) {
            make_again(op);
            return;
        }
        if (op->request == PIER__ROLLBACK) {
            conn->base.dead = true; /* nobody knows what it is in now */
        }
        pier__postgres_fail_sql(op);
        return;
    }
    if (!conn->completed || !(conn->simple || conn->bound)) {
        pier__postgres_misled(op);
        return;
    }
    if (pier__postgres_wants_rows(op)) {
        if (!pier__postgres_make_block(op)) {
            return;
        }
        if (op->cursor) {
            op->cursor->ended = true; /* of COPY */
        }
        op->count = conn->changed;
    } else if (op->request == PIER__EXECUTE) {
        op->count = conn->changed;
    } else if (op->request == PIER__COMMIT && op->scratch.number && conn->rolled_back) {
        /* Postgres answers COMMIT with ROLLBACK where the transaction had failed. */
        fail_rolled_back(op);
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

/* What comes now is the request's own business. */
static void skipped(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (pier__postgres_is_fatal(conn->error)) {
        pier__postgres_fail_broken(op);
        return;
    }
    pier__postgres_cancel_free(conn->cancel);
    conn->cancel = NULL;
    if (op->op.cancelled) {
        conn->cancel_at = pier__now() + conn->cancel_pause; /* that was for another statement */
    } else {
        conn->until = conn->cancel_at = 0;
    }
    pier__postgres_results_clear(conn);
    if (op->ahead) {
        pier__postgres_take_up(op);
    } else if (op->op.cancelled) {
        pier__postgres_fail_cancelled(op); /* nothing was sent */
    } else {
        pier__postgres_settle(conn);
        start_request(op);
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
    case PIER__STEP_SKIPPING:
        skipped(op);
        break;
    case PIER__STEP_PREPARING:
        if (pier__postgres_prepare_end(op)) {
            conn->whole ? executed(op) : prepared(op);
        }
        break;
    case PIER__STEP_CLOSED:
        conn->closing = false;
        if (pier__postgres_is_fatal(conn->error)) {
            pier__postgres_fail_broken(op);
            break;
        }
        pier__postgres_results_clear(conn);
        start_request(op);
        break;
    case PIER__STEP_SENDING:
    case PIER__STEP_MANY:
    case PIER__STEP_UNDOING:
        pier__postgres_many_step(op);
        break;
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

/* The connection is open, clean and ours. */
static void refuse_size(pier__db_op *op, size_t size)
{
    pier_error err;
    pier_error_set(&err, PIER_ERANGE,
                   "%s: the statement has %zu bytes, Postgres takes 1 GB at most", op->op.cls->name,
                   size);
    pier__postgres_fail(op, &err);
}

static void start_request(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (!pier__postgres_take_request(op)) {
        return;
    }
    if (conn->sql_size >= PIER__POSTGRES_SQL_MAX) {
        refuse_size(op, conn->sql_size);
        return;
    }
    if (op->cursor) {
        pier__postgres_cursor_start(op);
        return;
    }
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

/* Waits for the answer to what was sent before. It has mostly come by now, so it is read without
 * waiting for it first. */
static void await_the_last(pier__db_op *op, int step)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_transport *transport = &conn->transport;
    conn->answered = false;
    pier__postgres_await(op, step);
    /* Whoever looked after it in the pool has read the answer, but not what came since: the end. */
    if (transport->in_at < transport->in_size &&
        pier__postgres_transport_receive(transport, conn->wanted) == PIER__CAME_END) {
        conn->said_goodbye = true;
    }
    pier__postgres_run_step(op, PIER__READABLE);
}

/* The connection was given up while others had it, so this answer cannot be read any more. */
static void fail_given_up(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->lost || *conn->said.state) {
        pier__postgres_fail_broken(op);
        return;
    }
    pier_error err;
    pier_error_set(&err, PIER_EIO,
                   "%s: a statement before it could not be cancelled in time, so the connection to "
                   "%.120s was closed; whether this one took effect is not known",
                   op->op.cls->name, conn->base.db->name);
    err.origin = PIER_ORIGIN_POSTGRES;
    pier__postgres_fail(op, &err);
}

static void start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    int unwanted = pier__postgres_unwanted(op);
    bool told = op->cursor && op->cursor->failed;
    if (conn->base.dead && !told) {
        fail_given_up(op);
    } else if (unwanted > 0) {
        pier__postgres_skip(op, unwanted);
    } else if (op->ahead) {
        pier__postgres_take_up(op);
    } else if (is_busy_streaming(op)) {
        refuse_busy(op);
    } else if (conn->base.resetting) {
        await_the_last(op, PIER__STEP_RESETTING);
    } else if (conn->closing) {
        await_the_last(op, PIER__STEP_CLOSED);
    } else {
        start_request(op);
    }
}

/* Rows that have come are a block; nobody waits for more of them. Behind the last one, only the
 * server's word that it is ready is still to come. */
static bool has_block(pier__db_op *op)
{
    const pier__postgres_conn *conn = pier__postgres_conn_of(op);
    return op->scratch.step == PIER__STEP_STREAMING && conn->builder.count > 0 &&
           !conn->completed && !conn->error;
}

static void broke(pier__db_op *op)
{
    if (op->scratch.step == PIER__STEP_RESETTING) {
        exchange(op);
    } else {
        pier__postgres_fail_broken(op);
    }
}

void pier__postgres_run_step(pier__db_op *op, unsigned events)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    if (conn->paused && events & PIER__EXPIRED) {
        events = (events & ~(unsigned)PIER__EXPIRED) | PIER__READABLE;
    }
    if (events & (PIER__CANCEL | PIER__EXPIRED) && wind_up(op, events)) {
        return;
    }
    if (op->scratch.step == PIER__STEP_START) {
        start(op);
        return;
    }
    if (events & (PIER__READABLE | PIER__WRITABLE) && !conn->answered) {
        size_t before = conn->transport.in_total;
        pier__postgres_receive(conn);
        conn->paused = conn->paused && conn->transport.in_total == before;
    }
    conn->base.dead |= conn->lost;
    if (conn->lost &&
        (!conn->answered || conn->error || op->scratch.step == PIER__STEP_RESETTING)) {
        broke(op);
    } else if (!conn->answered && op->scratch.step == PIER__STEP_SENDING && !conn->flushing) {
        pier__postgres_many_go_on(op);
    } else if (!conn->answered && !has_block(op)) {
        wait_for_more(op);
    } else if (conn->cancel && !pier__postgres_cancel_done(conn->cancel)) {
        wait_for_cancel(op);
    } else {
        answered(op);
    }
}
