/*
 * What the server sends, message by message. The request keeps what it needs of it: the
 * description of a statement, rows, the first error, how the last statement ended.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/wire.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>

enum {
    HEADER = 5,         /* a letter and four bytes of size, which count themselves */
    SHORT_MAX = 30000,  /* bytes of a message that has no reason to be longer, as in libpq */
    LONG_MAX = 1 << 30, /* a server cannot make longer ones */
    BLOCK_BYTES_MAX = 1 << 20
};

/* The session cannot be understood any more. */
static void lose(pier__postgres_conn *conn, const char *why)
{
    pier__postgres_transport *transport = &conn->transport;
    if (!*transport->why) {
        snprintf(transport->why, sizeof transport->why, "%s", why);
    }
    conn->lost = true;
}

/* ---- Reading ------------------------------------------------------------------------------ */

static bool flush(pier__postgres_conn *conn)
{
    int left = pier__postgres_transport_flush(&conn->transport);
    conn->flushing = left > 0;
    return left >= 0;
}

bool pier__postgres_block_is_full(const pier__postgres_conn *conn)
{
    return conn->builder.count >= conn->goal || conn->builder.size >= BLOCK_BYTES_MAX;
}

void pier__postgres_receive(pier__postgres_conn *conn)
{
    /* Whoever looked after the connection in the pool may have read it already, or the thread that
     * waited for it. */
    if (conn->transport.in_at < conn->transport.in_size) {
        pier__postgres_collect(conn);
        if (conn->answered || conn->lost || (conn->stream && pier__postgres_block_is_full(conn))) {
            return;
        }
    }
    /* What the server said before it closed the socket says more than that it is closed. */
    bool broken = conn->flushing && !conn->corked && !flush(conn);
    pier__postgres_came came;
    do {
        came = pier__postgres_transport_receive(&conn->transport, conn->wanted);
        if (came == PIER__CAME_SOME || came == PIER__CAME_ALL) {
            pier__postgres_collect(conn);
        }
        if (came == PIER__CAME_END) {
            conn->lost = true;
        }
    } while (!conn->answered && !conn->lost &&
             (came == PIER__CAME_SOME || (broken && came == PIER__CAME_ALL)) &&
             !(conn->stream && pier__postgres_block_is_full(conn)));
    conn->lost |= broken;
}

/* ---- Keeping ------------------------------------------------------------------------------ */

static void forget_columns(pier__postgres_conn *conn)
{
    pier__postgres_columns_unref(conn->columns);
    conn->columns = NULL;
    conn->kinds = NULL;
}

void pier__postgres_results_clear(pier__postgres_conn *conn)
{
    if (conn->columns && !conn->stream) {
        forget_columns(conn);
    }
    if (conn->error || conn->param_types) {
        pier__postgres_report_free(conn->error);
        pier__free(conn->param_types);
        conn->error = NULL;
        conn->param_types = NULL;
    }
    conn->part = conn->changed = 0;
    conn->param_count = 0;
    conn->described = conn->completed = conn->suspended = conn->rolled_back = false;
    if (!conn->stream) {
        pier__postgres_builder_clear(&conn->builder);
        conn->out_of_memory = conn->too_much = false;
    }
}

/* What is to come is not kept. */
static void stop_keeping(pier__postgres_conn *conn, bool *why)
{
    *why = true;
    conn->keeping = false;
    pier__postgres_builder_clear(&conn->builder);
}

static void take_row(pier__postgres_conn *conn, char *body, size_t size)
{
    if (!conn->keeping) {
        return;
    }
    switch (pier__postgres_builder_add(&conn->builder, &conn->transport, body, size,
                                       conn->columns ? conn->columns->count : -1)) {
    case PIER__ADDED:
        break;
    case PIER__ADDED_NOMEM:
        stop_keeping(conn, &conn->out_of_memory);
        break;
    case PIER__ADDED_TOO_MUCH:
        stop_keeping(conn, &conn->too_much);
        break;
    case PIER__ADDED_MALFORMED:
        lose(conn, "the server sent a row that is not as it was described");
        break;
    }
}

/* Rows of a statement before this one, in a script, are of no interest. */
static void take_columns(pier__postgres_conn *conn, const char *body, size_t size)
{
    bool malformed;
    forget_columns(conn);
    pier__postgres_builder_clear(&conn->builder);
    conn->columns =
        pier__postgres_columns_new(body, size, pier__postgres_is_unnamed(conn), &malformed);
    conn->described = true;
    if (conn->columns) {
        conn->kinds = conn->columns->as_sent;
    } else if (malformed) {
        lose(conn, "the server described columns in a way that cannot be read");
    } else {
        stop_keeping(conn, &conn->out_of_memory);
    }
}

static void take_params(pier__postgres_conn *conn, const char *body, size_t size)
{
    size_t count = size >= 2 ? pier__get16(body) : 0;
    if (size != 2 + 4 * count || conn->param_types) {
        lose(conn, "the server described parameters in a way that cannot be read");
        return;
    }
    conn->param_types = pier__malloc(count ? count * sizeof *conn->param_types : 1);
    if (!conn->param_types) {
        stop_keeping(conn, &conn->out_of_memory);
        return;
    }
    conn->param_count = (int)count;
    for (size_t i = 0; i < count; i++) {
        conn->param_types[i] = pier__get32(body + 2 + 4 * i);
    }
}

/* ---- How statements end ------------------------------------------------------------------- */

/* Does the tag tell of rows that were only read? */
static bool only_reads(const pier__postgres_conn *conn, const char *tag)
{
    switch (*tag) {
    case 'S':
        return conn->columns && strncmp(tag, "SELECT ", 7) == 0; /* not CREATE TABLE AS */
    case 'F':
        return strncmp(tag, "FETCH ", 6) == 0;
    case 'M':
        return strncmp(tag, "MOVE ", 5) == 0;
    default:
        return false;
    }
}

/* The number at the end of a tag: of rows. */
static int64_t count_rows(const char *tag, size_t length)
{
    uint64_t number = 0;
    size_t at = length;
    while (at > 0 && tag[at - 1] >= '0' && tag[at - 1] <= '9') {
        at--;
    }
    for (; at < length; at++) {
        number = number * 10 + (uint64_t)(tag[at] - '0');
    }
    return number > INT64_MAX ? INT64_MAX : (int64_t)number;
}

static void take_tag(pier__postgres_conn *conn, const char *tag, size_t size)
{
    if (size == 0 || tag[size - 1] != 0) {
        lose(conn, "the server sent a tag that cannot be read");
        return;
    }
    int64_t changed = only_reads(conn, tag) ? 0 : count_rows(tag, size - 1);
    conn->changed =
        conn->many.counting ? (int64_t)((uint64_t)conn->changed + (uint64_t)changed) : changed;
    conn->rolled_back = *tag == 'R' && strcmp(tag, "ROLLBACK") == 0;
    conn->completed = true;
    conn->part++;
}

static void take_error(pier__postgres_conn *conn, const char *body, size_t size)
{
    pier__postgres_report *error = pier__postgres_report_new(body, size);
    if (pier__postgres_is_fatal(error)) {
        /* Nothing follows but the end of the connection. */
        conn->base.dead = true;
        conn->answered = true;
        pier__postgres_report_free(conn->error);
        conn->error = error;
    } else if (conn->error) {
        pier__postgres_report_free(error);
    } else {
        conn->error = error;
        conn->error_part = conn->part;
    }
}

static void take_ready(pier__postgres_conn *conn, const char *body, size_t size)
{
    if (size != 1 || conn->syncs == 0) {
        lose(conn, "the server said that it is ready when nobody had asked");
        return;
    }
    conn->tx = *body;
    conn->answered = --conn->syncs == 0;
}

/* Rows are not expected by whoever executes COPY as a statement, and are dropped as others are. */
static void refuse_copy(pier__postgres_conn *conn)
{
    if (!conn->simple) {
        lose(conn, "the server wants data that nobody has offered");
    } else if (!pier__message_copy_fail(
                   &conn->transport, "COPY FROM STDIN needs a writer; insert the rows instead") ||
               !flush(conn)) {
        conn->lost = true;
    }
}

/* ---- What comes unasked ------------------------------------------------------------------- */

static void take_parameter(pier__postgres_conn *conn, const char *body, size_t size)
{
    const char *zero = memchr(body, 0, size);
    size_t name_size = zero ? (size_t)(zero + 1 - body) : size;
    if (size > name_size && body[size - 1] == 0) {
        pier__postgres_note_parameter(conn, body, body + name_size);
    } else {
        lose(conn, "the server reported a setting that cannot be read");
    }
}

static void take_notice(pier__postgres_conn *conn, const char *body, size_t size)
{
    pier__postgres_report *notice = pier__postgres_report_new(body, size);
    pier__postgres_take_notice(conn, notice);
    pier__postgres_report_free(notice);
}

/* ---- Messages ----------------------------------------------------------------------------- */

static void take(pier__postgres_conn *conn, char letter, char *body, size_t size)
{
    switch (letter) {
    case 'T':
        take_columns(conn, body, size);
        break;
    case 't':
        take_params(conn, body, size);
        break;
    case '2':
        conn->bound = true;
        break;
    case 'n':
        forget_columns(conn);
        conn->described = true;
        break;
    case 'C':
        take_tag(conn, body, size);
        break;
    case 'I': /* an empty statement */
        conn->completed = true;
        conn->part++;
        break;
    case 's': /* rows as many as were asked for, and there may be more */
        conn->completed = true;
        conn->suspended = true;
        break;
    case 'E':
        /* Unasked it is the end of the session, which is told with the notices. */
        conn->syncs ? take_error(conn, body, size) : take_notice(conn, body, size);
        break;
    case 'Z':
        take_ready(conn, body, size);
        break;
    case 'N':
        take_notice(conn, body, size);
        break;
    case 'S':
        take_parameter(conn, body, size);
        break;
    case 'G':
        refuse_copy(conn);
        break;
    case 'W':
        lose(conn, "the server began a replication that nobody had asked for");
        break;
    default: /* parsed, closed, notifications, COPY out */
        break;
    }
}

static bool is_known(char letter)
{
    return letter && strchr("DCTtnIsEZNSA123GHWdc", letter);
}

static bool may_be_long(char letter)
{
    return letter && strchr("DTtdENA", letter);
}

/* Rows and data that nobody wants need not be there as a whole: what has come of them is dropped.
 * False: they are wanted. */
static bool skip(pier__postgres_conn *conn, char *letter, size_t size)
{
    pier__postgres_transport *transport = &conn->transport;
    if (*letter != 'd' && (*letter != 'D' || conn->keeping)) {
        return false;
    }
    *letter = 0; /* behind the last cell of a row before */
    conn->skipping = size - (transport->in_size - transport->in_at);
    transport->in_at = transport->in_size;
    return true;
}

/* Goes on skipping. False: more of it is still to come. */
static bool skip_more(pier__postgres_conn *conn)
{
    pier__postgres_transport *transport = &conn->transport;
    size_t come = transport->in_size - transport->in_at;
    size_t skipped = come < conn->skipping ? come : conn->skipping;
    transport->in_at += skipped;
    conn->skipping -= skipped;
    return conn->skipping == 0;
}

/* Takes the next message. False: it has not come as a whole. */
static inline bool take_message(pier__postgres_conn *conn)
{
    pier__postgres_transport *transport = &conn->transport;
    size_t left = transport->in_size - transport->in_at;
    conn->wanted = HEADER;
    if (left < HEADER) {
        return false;
    }
    char *at = transport->in + transport->in_at;
    size_t size = 1 + (size_t)pier__get32(at + 1);
    if (size > SHORT_MAX || left < size || size < HEADER) {
        if (!is_known(*at) || size < HEADER || size > (may_be_long(*at) ? LONG_MAX : SHORT_MAX)) {
            lose(conn, "the server sent what is no message of its protocol");
            return false;
        }
        if (left < size) {
            conn->wanted = size;
            return skip(conn, at, size);
        }
    }
    char letter = *at;
    *at = 0; /* behind the last cell of a row before */
    transport->in_at += size;
    if (letter == 'D') {
        take_row(conn, at + HEADER, size - HEADER);
    } else {
        take(conn, letter, at + HEADER, size - HEADER);
    }
    return true;
}

void pier__postgres_collect(pier__postgres_conn *conn)
{
    pier__postgres_transport *transport = &conn->transport;
    while (!conn->answered && !conn->lost && (!conn->skipping || skip_more(conn)) &&
           !(conn->stream && pier__postgres_block_is_full(conn)) && take_message(conn)) {
    }
    if (conn->builder.count == 0) {
        transport->in_keep = transport->in_at;
    }
    if (conn->said.head) {
        pier__postgres_tell(conn);
    }
}

/* Is what comes next a notice, a setting, last words or a notification? Anything else would be
 * taken for a part of the next answer. */
static bool may_come_unasked(pier__postgres_conn *conn)
{
    const pier__postgres_transport *transport = &conn->transport;
    char letter = transport->in_at < transport->in_size ? transport->in[transport->in_at] : 'N';
    if (letter && strchr("NSEA", letter)) {
        return true;
    }
    lose(conn, "the server sent an answer that nobody had asked for");
    return false;
}

void pier__postgres_collect_unasked(pier__postgres_conn *conn)
{
    pier__postgres_transport *transport = &conn->transport;
    while (!conn->lost && conn->syncs == 0 && may_come_unasked(conn) && take_message(conn)) {
    }
    transport->in_keep = transport->in_at;
}
