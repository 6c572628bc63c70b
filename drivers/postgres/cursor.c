/*
 * Cursors. Outside a transaction the rows of the statement come as fast as they are read, and
 * occupy the connection: constant memory, one round trip, also behind poolers. In a transaction
 * they come from a portal, so many at a time, so that other statements can run between. The server
 * has planned for all of them in both cases, unlike for a cursor that is declared.
 */
#include "drivers/postgres/conn.h"

#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum {
    FIRST_ROWS = 256,      /* soon there */
    BLOCK_ROWS = 1024,     /* enough for a hop between threads to cost little */
    FETCH_ROWS_MAX = 2048, /* each is a round trip */
    FETCH_BYTES = 1 << 20,
    PORTALS_MAX = 64,    /* in one transaction */
    DRAIN_READS_MAX = 64 /* of 16 KB and more: the rest is not read to the end, but cancelled */
};

typedef char portal_name[24];

static pier__postgres_cursor *cursor_of(const pier__db_op *op)
{
    return (pier__postgres_cursor *)op->cursor;
}

void pier__postgres_cursor_fini(pier_cursor *base)
{
    pier__postgres_cursor *cursor = (pier__postgres_cursor *)base;
    pier__postgres_report_free(cursor->failed);
    pier__postgres_columns_unref(cursor->columns);
    cursor->failed = NULL;
    cursor->columns = NULL;
}

/* Delivering. */

static void deliver(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_transport_expect(&conn->transport, conn->builder.size + conn->builder.size / 8);
    if (pier__postgres_make_block(op)) {
        pier__postgres_succeed(op);
    }
}

/* The end: a block without rows. */
static void deliver_nothing(pier__db_op *op)
{
    pier__postgres_builder none = {.count = 0};
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    op->block = pier__postgres_rows(&none, &conn->transport, NULL, NULL, NULL, 0);
    if (op->block) {
        op->cursor->ended = true;
        pier__postgres_succeed(op);
    } else {
        pier__postgres_fail_nomem(op);
    }
}

/* Streams. */

static void end_stream(pier__postgres_conn *conn)
{
    conn->stream = 0;
    pier__postgres_transport_expect(&conn->transport, 0);
}

static void start_stream(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (!pier__postgres_execute_send(op, "", 0)) {
        return;
    }
    conn->stream = cursor->stream =
        ++conn->stream_count ? conn->stream_count : ++conn->stream_count;
    conn->goal = FIRST_ROWS;
    pier__postgres_await(op, PIER__STEP_STREAMING);
}

/* All rows have come, or an error has. */
static void stream_answered(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    end_stream(conn);
    if (conn->out_of_memory) {
        pier__postgres_fail_nomem(op);
    } else if (op->op.cancelled) {
        pier__postgres_fail_cancelled(op);
    } else if (conn->builder.count > 0) {
        if (pier__postgres_is_fatal(conn->error)) {
            pier__postgres_session_ended(conn, false);
        }
        cursor_of(op)->failed = conn->error;
        op->cursor->failed = conn->error != NULL;
        op->cursor->ended = conn->error == NULL;
        conn->error = NULL;
        deliver(op);
    } else if (!conn->error) {
        op->cursor->ended = true;
        deliver(op);
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
        op->cursor->failed = false;
        pier__postgres_fail_sql(op);
        return;
    }
    if (!conn->stream || cursor->stream != conn->stream) {
        deliver_nothing(op);
        return;
    }
    /* What has been read already comes first; then, most often, more has arrived. */
    conn->goal = BLOCK_ROWS;
    pier__postgres_await(op, PIER__STEP_STREAMING);
    pier__postgres_collect(conn);
    pier__postgres_run_step(op, pier__postgres_block_is_full(conn) ? 0 : PIER__READABLE);
}

/* Portals. */

/* False: the operation has failed. */
static bool take_number(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    int number = 0;
    while (number < PORTALS_MAX && conn->portals >> number & 1) {
        number++;
    }
    if (number == PORTALS_MAX) {
        pier_error err;
        pier_error_set(&err, PIER_EBUSY, "%s: %d cursors are open in this transaction; close some",
                       op->op.cls->name, PORTALS_MAX);
        pier__postgres_fail(op, &err);
        return false;
    }
    cursor_of(op)->number = number;
    return true;
}

static void write_name(const pier__postgres_cursor *cursor, portal_name name)
{
    snprintf(name, sizeof(portal_name), "pier_c%d", cursor->number);
}

static bool is_open(const pier__postgres_conn *conn, const pier__postgres_cursor *cursor)
{
    return cursor->open && cursor->tx_count == conn->tx_count;
}

/* Opens it and asks for the first rows, in one round trip. */
static void open_portal(pier__db_op *op)
{
    pier__postgres_cursor *cursor = cursor_of(op);
    portal_name name;
    cursor->fetch_rows = FIRST_ROWS;
    write_name(cursor, name);
    if (pier__postgres_execute_send(op, name, cursor->fetch_rows)) {
        pier__postgres_await(op, PIER__STEP_FETCHING);
    }
}

static void fetch_more(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    portal_name name;
    write_name(cursor, name);
    size_t before = conn->transport.in_total; /* its rows have been one long answer so far */
    pier__postgres_begin(conn);
    conn->transport.in_total = before;
    conn->keeping = true;
    conn->columns = pier__postgres_columns_ref(cursor->columns);
    conn->kinds = cursor->kinds;
    if (pier__postgres_send_soon(op, pier__message_execute(&conn->transport, name,
                                                           cursor->fetch_rows) &&
                                         pier__postgres_add_sync(conn))) {
        pier__postgres_await(op, PIER__STEP_FETCHING);
    }
}

static bool add_close(pier__postgres_conn *conn, pier__postgres_cursor *cursor)
{
    pier__postgres_transport_expect(&conn->transport, 0);
    portal_name name;
    write_name(cursor, name);
    pier__postgres_begin(conn);
    conn->portals &= ~(UINT64_C(1) << cursor->number);
    cursor->open = false;
    return pier__message_close(&conn->transport, PIER__MESSAGE_PORTAL, name) &&
           pier__postgres_add_sync(conn);
}

/* The server has no more rows: closes the portal there, because it keeps its tables from being
 * changed. Nobody waits for the answer but the next request, which finds out where it is lost. */
static void close_behind(pier__postgres_conn *conn, pier__postgres_cursor *cursor)
{
    bool kept = conn->keeping;
    conn->closing = true;
    cursor->base.ended = true;
    if (add_close(conn, cursor)) {
        conn->flushing = pier__postgres_transport_flush(&conn->transport) != 0;
    }
    conn->keeping = kept;
}

static void note_open(pier__postgres_conn *conn, pier__postgres_cursor *cursor)
{
    if (!cursor->open) {
        cursor->open = true;
        cursor->tx_count = conn->tx_count;
        cursor->columns = pier__postgres_columns_ref(conn->columns);
        cursor->kinds = conn->kinds;
        conn->portals |= UINT64_C(1) << cursor->number;
    }
}

static void fetched(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (conn->error) {
        pier__postgres_prepare_again(op); /* for the next transaction */
        pier__postgres_fail_sql(op);
        return;
    }
    if (!conn->completed) {
        pier__postgres_fail_broken(op);
        return;
    }
    note_open(conn, cursor);
    size_t count = conn->builder.count;
    cursor->exhausted = !conn->suspended;
    if (count > 0) {
        size_t rows = FETCH_BYTES / (conn->builder.size / count + 1);
        cursor->fetch_rows = rows > FETCH_ROWS_MAX ? FETCH_ROWS_MAX : rows < 16 ? 16 : (int)rows;
    }
    if (cursor->exhausted && !op->op.cancelled) {
        close_behind(conn, cursor);
    }
    deliver(op);
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
    conn->keeping = false;
    pier__postgres_builder_clear(&conn->builder);
    pier__postgres_await(op, PIER__STEP_CLOSING);
    pier__postgres_receive(conn); /* what TLS has read already shows in no socket */
    /* Often the rest is here already, or nearly, which is cheaper than a cancel request. */
    for (int i = 0; i < DRAIN_READS_MAX && !conn->answered && !conn->lost &&
                    recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
         i++) {
        pier__postgres_receive(conn);
    }
    if (!conn->answered && !conn->lost) {
        pier__postgres_stop(op);
    }
    if (conn->base.dead) {
        pier__postgres_succeed(op);
    } else {
        pier__postgres_run_step(op, 0);
    }
}

/* Where it may be there still. */
static void close_portal(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (pier__postgres_send(op, add_close(conn, cursor))) {
        pier__postgres_await(op, PIER__STEP_CLOSING);
    }
}

static void start_closing(pier__db_op *op)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier__postgres_cursor *cursor = cursor_of(op);
    if (conn->stream && cursor->stream == conn->stream) {
        close_stream(op);
    } else if (is_open(conn, cursor) && conn->tx == 'T') {
        close_portal(op);
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

static void go_on_fetching(pier__db_op *op)
{
    pier__postgres_cursor *cursor = cursor_of(op);
    if (!is_open(pier__postgres_conn_of(op), cursor)) {
        pier_error err;
        pier_error_set(&err, PIER_EINVAL,
                       "%s: the transaction in which the cursor was opened has ended",
                       op->op.cls->name);
        pier__postgres_fail(op, &err);
    } else if (cursor->exhausted) {
        start_closing(op);
    } else {
        fetch_more(op);
    }
}

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
    if (cursor->mode == PIER__CURSOR_PORTAL && cursor->open) {
        go_on_fetching(op);
        return;
    }
    cursor->mode = conn->base.in_tx ? PIER__CURSOR_PORTAL : PIER__CURSOR_STREAM;
    if (cursor->mode == PIER__CURSOR_STREAM || take_number(op)) {
        pier__postgres_prepare(op, false);
    }
}

void pier__postgres_cursor_prepared(pier__db_op *op)
{
    cursor_of(op)->mode == PIER__CURSOR_STREAM ? start_stream(op) : open_portal(op);
}

void pier__postgres_cursor_step(pier__db_op *op)
{
    switch (op->scratch.step) {
    case PIER__STEP_STREAMING:
        pier__postgres_conn_of(op)->answered ? stream_answered(op) : deliver(op);
        break;
    case PIER__STEP_FETCHING:
        fetched(op);
        break;
    default:
        closed(op);
        break;
    }
}
