/*
 * Cursors. Outside a transaction the rows of the statement come one by one and occupy the
 * connection: constant memory, one round trip, also behind poolers. In a transaction they are
 * fetched from a cursor on the server, so that other statements can run between.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/decode.h"
#include "drivers/postgres/error.h"
#include "drivers/postgres/sql.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    FIRST_ROWS = 256,      /* soon there */
    BLOCK_ROWS = 1024,     /* enough for a hop between threads to cost little */
    FETCH_ROWS_MAX = 2048, /* each FETCH is a round trip */
    FETCH_BYTES = 1 << 20,
    CURSORS_MAX = 64,    /* in one transaction */
    DRAIN_READS_MAX = 64 /* of 16 KB: more is not read to the end, but cancelled */
};

static pier__postgres_cursor *cursor_of(const pier__db_op *op)
{
    return (pier__postgres_cursor *)op->cursor;
}

void pier__postgres_cursor_fini(pier_cursor *base)
{
    pier__postgres_cursor *cursor = (pier__postgres_cursor *)base;
    PQclear(cursor->failed);
    pier__free(cursor->declare);
    cursor->failed = NULL;
    cursor->declare = NULL;
}

/* Delivering. */

static void deliver(pier__db_op *op, pier_result *block)
{
    if (!block) {
        pier__postgres_fail_nomem(op);
        return;
    }
    op->block = block;
    pier__postgres_succeed(op);
}

static void deliver_result(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    PGresult *result = conn->result;
    conn->result = NULL;
    deliver(op, pier__postgres_rows(result, NULL, 0, NULL, 0));
}

/* The end: a block without rows. */
static void deliver_nothing(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    PQclear(conn->result);
    conn->result = PQmakeEmptyPGresult(conn->pg, PGRES_TUPLES_OK);
    if (!conn->result) {
        pier__postgres_fail_nomem(op);
        return;
    }
    op->cursor->ended = true;
    deliver_result(op);
}

/* Streams. */

static void end_stream(pier__postgres_conn *conn)
{
    conn->stream = 0;
    conn->dropping = conn->out_of_memory = false;
}

static void start_stream(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (!pier__postgres_execute_send(op)) {
        return;
    }
    PQsetSingleRowMode(conn->pg);
    pier__postgres_builder_fini(&conn->builder);
    conn->dropping = conn->out_of_memory = false;
    conn->stream = cursor->stream =
        ++conn->stream_count ? conn->stream_count : ++conn->stream_count;
    conn->goal = FIRST_ROWS;
    pier__postgres_await(op, PIER__STEP_STREAMING);
}

static void deliver_rows(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    conn->goal = BLOCK_ROWS;
    if (pier__postgres_is_misread(op, conn->builder.first)) {
        return;
    }
    deliver(op, pier__postgres_builder_take(&conn->builder));
}

/* All rows have come, or an error has. */
static void stream_answered(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    bool out_of_memory = conn->out_of_memory;
    end_stream(conn);
    if (out_of_memory || op->op.cancelled) {
        pier__postgres_builder_fini(&conn->builder);
        out_of_memory ? pier__postgres_fail_nomem(op) : pier__postgres_fail_cancelled(op);
    } else if (conn->builder.count > 0) {
        cursor_of(op)->failed = conn->error;
        op->cursor->ended = conn->error == NULL;
        conn->error = NULL;
        deliver_rows(op);
    } else if (!conn->error) {
        op->cursor->ended = true;
        deliver_result(op);
    } else if (pier__postgres_prepare_again(op)) {
        pier__postgres_prepare(op, false);
    } else {
        pier__postgres_fail_sql(op);
    }
}

static void go_on_streaming(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (cursor->failed) {
        conn->error = cursor->failed;
        cursor->failed = NULL;
        pier__postgres_fail_sql(op);
        return;
    }
    if (!conn->stream || cursor->stream != conn->stream) {
        deliver_nothing(op);
        return;
    }
    /* What libpq has read already comes first; then, most often, more has arrived. */
    pier__postgres_await(op, PIER__STEP_STREAMING);
    pier__postgres_collect(conn);
    pier__postgres_run_step(op, pier__postgres_block_is_full(conn) ? 0 : PIER__READABLE);
}

/* Cursors on the server. */

static bool is_declared(const pier__postgres_conn *conn, const pier__postgres_cursor *cursor)
{
    return cursor->declared && cursor->tx_count == conn->tx_count;
}

/* DECLARE takes nothing else. Everything else gives few rows, or changes some. */
static bool can_be_declared(const char *sql)
{
    static const char *const words[] = {"select", "values", "with", "table"};
    sql = pier__postgres_sql_start(sql);
    while (*sql == '(') {
        sql = pier__postgres_sql_start(sql + 1);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (pier__postgres_sql_begins(sql, words[i])) {
            return true;
        }
    }
    return false;
}

/* Names are used again, so that a statement is prepared once, not for each cursor. */
static int free_number(const pier__postgres_conn *conn)
{
    int number = 0;
    while (number < CURSORS_MAX && conn->cursors >> number & 1) {
        number++;
    }
    return number;
}

static void start_declare(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    pier_error err;
    size_t size = conn->sql_size + 80;
    cursor->number = free_number(conn);
    if (cursor->number == CURSORS_MAX) {
        pier_error_set(&err, PIER_EBUSY, "%s: %d cursors are open in this transaction; close some",
                       op->op.cls->name, CURSORS_MAX);
        pier__postgres_fail(op, &err);
        return;
    }
    cursor->declare = pier__malloc(size);
    if (!cursor->declare) {
        pier__postgres_fail_nomem(op);
        return;
    }
    size_t user_size = conn->sql_size;
    conn->sql_size =
        (size_t)snprintf(cursor->declare, size, "DECLARE pier_c%d NO SCROLL CURSOR FOR %s",
                         cursor->number, conn->sql);
    cursor->prefix = conn->sql_size - user_size;
    conn->sql = cursor->declare;
    pier__postgres_prepare(op, false);
}

/* Declares it and asks what its columns are, in one round trip. */
static void send_declare(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    char name[24];
    pier_error err;
    if (pier__postgres_bind(conn, conn->args, &err) < 0) {
        pier__postgres_fail(op, &err);
        return;
    }
    snprintf(name, sizeof name, "pier_c%d", cursor_of(op)->number);
    conn->syncs = 1;
    conn->part = 0;
    int sent = PQenterPipelineMode(conn->pg) && pier__postgres_send_encoded(conn, false) &&
               PQsendDescribePortal(conn->pg, name) && PQpipelineSync(conn->pg);
    if (pier__postgres_sent(op, sent)) {
        pier__postgres_await(op, PIER__STEP_DECLARING);
    }
}

static void send_fetch(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    char sql[64];
    snprintf(sql, sizeof sql, "FETCH FORWARD %d FROM pier_c%d", cursor->fetch_rows, cursor->number);
    conn->sql = cursor->declare;
    conn->sql_size = strlen(cursor->declare);
    if (pier__postgres_sent(op, PQsendQueryParams(conn->pg, sql, 0, NULL, NULL, NULL, NULL,
                                                  cursor->binary))) {
        pier__postgres_await(op, PIER__STEP_FETCHING);
    }
}

static void declared(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (conn->error) {
        pier__postgres_prepare_again(op); /* for the next transaction */
        pier__postgres_fail_sql(op);
        return;
    }
    cursor->declared = true;
    cursor->tx_count = conn->tx_count;
    cursor->rollbacks = conn->rollbacks;
    cursor->fetch_rows = FIRST_ROWS;
    conn->cursors |= UINT64_C(1) << cursor->number;
    cursor->binary = pier__postgres_all_binary(conn->described);
    if (op->op.cancelled) {
        pier__postgres_fail_cancelled(op);
        return;
    }
    pier__postgres_results_clear(conn);
    send_fetch(op);
}

/* The server has no more rows: closes the cursor there, because it keeps its tables from being
 * changed. Nobody waits for the answer but the next request. */
static void close_behind(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    char sql[48];
    snprintf(sql, sizeof sql, "CLOSE pier_c%d", cursor->number);
    conn->closing = PQsendQuery(conn->pg, sql);
    if (conn->closing) {
        conn->flushing = PQflush(conn->pg) > 0;
        conn->cursors &= ~(UINT64_C(1) << cursor->number);
        cursor->declared = false;
        cursor->base.ended = true;
    }
}

static void fetched(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (conn->error) {
        pier__postgres_fail_sql(op);
        return;
    }
    int count = PQntuples(conn->result);
    cursor->exhausted = count < cursor->fetch_rows;
    if (count > 0) {
        size_t rows = FETCH_BYTES / (PQresultMemorySize(conn->result) / (size_t)count + 1);
        cursor->fetch_rows = rows > FETCH_ROWS_MAX ? FETCH_ROWS_MAX : rows < 16 ? 16 : (int)rows;
    }
    if (cursor->exhausted && !op->op.cancelled) {
        close_behind(op);
    }
    deliver_result(op);
}

/* Closing: for the end of the cursor, or of its rows. */

static void end_closing(pier__db_op *op)
{
    if (op->request == PIER__CURSOR_BLOCK) {
        deliver_nothing(op);
    } else {
        pier__postgres_succeed(op);
    }
}

static void close_stream(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    char byte;
    conn->dropping = true;
    pier__postgres_builder_fini(&conn->builder);
    pier__postgres_await(op, PIER__STEP_CLOSING);
    pier__postgres_collect(conn);
    /* Often the rest is here already, or nearly, which is cheaper than a cancel request. */
    for (int i = 0;
         i < DRAIN_READS_MAX && !conn->answered &&
         recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0 && pier__postgres_receive(conn);
         i++) {
        pier__postgres_collect(conn);
    }
    if (!conn->answered) {
        pier__postgres_stop(op);
    }
    if (conn->base.dead) {
        pier__postgres_succeed(op);
    } else {
        pier__postgres_run_step(op, 0);
    }
}

/* Only where it is known to be there still: an error would fail the transaction. */
static void close_on_server(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    char sql[48];
    conn->cursors &= ~(UINT64_C(1) << cursor->number);
    cursor->declared = false;
    snprintf(sql, sizeof sql, "CLOSE pier_c%d", cursor->number);
    conn->sql = cursor->declare;
    conn->sql_size = strlen(cursor->declare);
    if (pier__postgres_sent(op, PQsendQuery(conn->pg, sql))) {
        pier__postgres_await(op, PIER__STEP_CLOSING);
    }
}

static void start_closing(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (conn->stream && cursor->stream == conn->stream) {
        close_stream(op);
    } else if (is_declared(conn, cursor) && cursor->rollbacks == conn->rollbacks &&
               PQtransactionStatus(conn->pg) == PQTRANS_INTRANS) {
        close_on_server(op);
    } else {
        end_closing(op);
    }
}

static void closed(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    bool was_stream = conn->stream != 0;
    end_stream(conn);
    if (conn->error && !was_stream) {
        pier__postgres_fail_sql(op);
    } else {
        end_closing(op);
    }
}

/* The requests. */

void pier__postgres_cursor_start(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (op->request == PIER__CURSOR_CLOSE) {
        start_closing(op);
        return;
    }
    if (cursor->base.ended) {
        deliver_nothing(op);
        return;
    }
    if (cursor->mode == PIER__CURSOR_STREAM) {
        go_on_streaming(op);
        return;
    }
    if (cursor->mode == PIER__CURSOR_SERVER && cursor->declared) {
        cursor->exhausted ? start_closing(op) : send_fetch(op);
        return;
    }
    cursor->mode = !conn->base.in_tx            ? PIER__CURSOR_STREAM
                   : can_be_declared(conn->sql) ? PIER__CURSOR_SERVER
                                                : PIER__CURSOR_WHOLE;
    if (cursor->mode == PIER__CURSOR_SERVER) {
        start_declare(op);
    } else {
        pier__postgres_prepare(op, false);
    }
}

void pier__postgres_cursor_prepared(pier__db_op *op)
{
    switch (cursor_of(op)->mode) {
    case PIER__CURSOR_STREAM:
        start_stream(op);
        break;
    case PIER__CURSOR_SERVER:
        send_declare(op);
        break;
    default:
        if (pier__postgres_execute_send(op)) {
            pier__postgres_await(op, PIER__STEP_EXECUTING);
        }
        break;
    }
}

void pier__postgres_cursor_step(pier__db_op *op)
{
    switch (op->scratch.step) {
    case PIER__STEP_STREAMING:
        pier__postgres_conn_of(op)->answered ? stream_answered(op) : deliver_rows(op);
        break;
    case PIER__STEP_DECLARING:
        declared(op);
        break;
    case PIER__STEP_FETCHING:
        fetched(op);
        break;
    default:
        closed(op);
        break;
    }
}
