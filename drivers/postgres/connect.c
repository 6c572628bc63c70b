/*
 * Connecting: each host in turn, each address of it in turn, one PGconn for each. libpq would look
 * names up itself, and block; so it is given addresses, and the name only for TLS and passwords.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "sdk/clock.h"
#include <arpa/inet.h>
#include <string.h>

enum { PHASE_NONE = 0, PHASE_LOOKUP, PHASE_POLL };

static pier__postgres_db *db_of(pier__postgres_conn *conn)
{
    return (pier__postgres_db *)conn->base.db;
}

static const pier__postgres_host *host_of(pier__postgres_conn *conn)
{
    return &db_of(conn)->hosts[conn->connecting.entered - 1];
}

static bool needs_lookup(const pier__postgres_host *host)
{
    unsigned char address[16];
    return !host->address && host->host && host->host[0] != '/' && host->host[0] != '@' &&
           inet_pton(AF_INET, host->host, address) != 1 &&
           inet_pton(AF_INET6, host->host, address) != 1;
}

/* Notices are dropped; by default libpq prints them. What the server says before it ends an idle
 * session comes as a notice too, often well before the end itself. */
static void take_notice(void *arg, const PGresult *notice)
{
    pier__postgres_conn *conn = arg;
    if (pier__postgres_is_fatal(notice)) {
        conn->said_goodbye = true;
    }
}

static void close_attempt(pier__postgres_conn *conn)
{
    PQfinish(conn->pg);
    conn->pg = NULL;
    conn->fd = -1;
}

void pier__postgres_connect_end(pier__postgres_conn *conn)
{
    close_attempt(conn);
    pier__lookup_free(conn->connecting.lookup);
    memset(&conn->connecting, 0, sizeof conn->connecting);
}

/* The time left is shared out, so that one address that does not answer leaves some for the rest.
 */
static int64_t attempt_bound(pier__postgres_conn *conn, int64_t until)
{
    int64_t attempts = db_of(conn)->host_count - conn->connecting.entered;
    attempts += !conn->connecting.next;
    for (const struct addrinfo *rest = conn->connecting.next; rest; rest = rest->ai_next) {
        attempts++;
    }
    if (!until || attempts <= 1) {
        return until;
    }
    int64_t now = pier__now();
    return now + (until - now) / attempts;
}

static void wait_for_socket(pier__postgres_conn *conn, pier__db_op *op, unsigned events)
{
    pier__wait *wait = &op->op.wait;
    wait->kind = PIER__WAIT_FD;
    wait->fd = PQsocket(conn->pg);
    wait->events = events;
    wait->watch = NULL; /* the socket may be another one after the next step */
    wait->until = conn->connecting.attempt_until;
}

/* Starts on one address; NULL: the host's own, or its unix socket. */
static bool start_attempt(pier__postgres_conn *conn, pier__db_op *op, const char *address)
{
    const pier__postgres_db *db = db_of(conn);
    const pier__postgres_host *host = host_of(conn);
    const char *keywords[PIER__POSTGRES_OPTIONS_MAX], *values[PIER__POSTGRES_OPTIONS_MAX];
    int count = db->option_count;
    memcpy(keywords, db->keywords, (size_t)count * sizeof *keywords);
    memcpy(values, db->values, (size_t)count * sizeof *values);
    keywords[count] = "host", values[count++] = host->host;
    keywords[count] = "hostaddr", values[count++] = address ? address : host->address;
    keywords[count] = "port", values[count++] = host->port;
    keywords[count] = NULL, values[count] = NULL;
    conn->pg = PQconnectStartParams(keywords, values, 0);
    if (conn->pg) {
        PQsetNoticeReceiver(conn->pg, take_notice, conn);
        /* The only way to learn the SQLSTATE of a refusal; see pier__postgres_connect_error. */
        PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE);
    }
    op->op.doing = "connecting";
    conn->connecting.phase = PHASE_POLL;
    return conn->pg && PQstatus(conn->pg) != CONNECTION_BAD;
}

/* Notes why an attempt failed. True: another address or host may do better. */
static bool note_failure(pier__postgres_conn *conn)
{
    pier_error *failure = &conn->connecting.failure;
    pier__postgres_connect_error(failure, conn->base.db->name,
                                 conn->pg ? PQerrorMessage(conn->pg) : "out of memory");
    close_attempt(conn);
    return strncmp(failure->sqlstate, "28", 2) != 0 && strcmp(failure->sqlstate, "3D000") != 0;
}

static void note_timeout(pier__postgres_conn *conn)
{
    pier_error_set(&conn->connecting.failure, PIER_ECONNECT,
                   "could not connect to %.120s: no answer in time; check host and port, or raise "
                   "connect_timeout_ms",
                   conn->base.db->name);
    close_attempt(conn);
}

static bool start_lookup(pier__postgres_conn *conn, pier__db_op *op, int64_t until)
{
    const pier__postgres_host *host = host_of(conn);
    conn->connecting.lookup =
        pier__lookup_start(&op->op, host->host, host->port ? host->port : "5432");
    if (!conn->connecting.lookup) {
        pier_error_set(&conn->connecting.failure, PIER_ENOMEM,
                       "could not connect to %.120s: no memory or no thread to look up %.120s",
                       conn->base.db->name, host->host);
        return false;
    }
    op->op.doing = "looking up the name of the host";
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = until;
    conn->connecting.phase = PHASE_LOOKUP;
    return true;
}

/* Once the lookup is done: the addresses, or why there are none. False: it is not done. */
static bool take_addresses(pier__postgres_conn *conn)
{
    pier__postgres_connecting *state = &conn->connecting;
    const char *why = NULL;
    if (!pier__lookup_done(state->lookup)) {
        return false;
    }
    state->phase = PHASE_NONE;
    state->next = pier__lookup_result(state->lookup, &why);
    if (!state->next) {
        pier_error_set(&state->failure, PIER_ECONNECT,
                       "could not connect to %.120s: the name of the host was not found (%.80s); "
                       "check it in the URL",
                       conn->base.db->name, why ? why : "no address");
    }
    return true;
}

/* Starts on the next address of the host. False: it must be passed over. */
static bool start_next_address(pier__postgres_conn *conn, pier__db_op *op, int64_t until)
{
    pier__postgres_connecting *state = &conn->connecting;
    const struct addrinfo *at = state->next;
    char address[INET6_ADDRSTRLEN + 32];
    state->attempt_until = attempt_bound(conn, until);
    state->next = at->ai_next;
    return getnameinfo(at->ai_addr, at->ai_addrlen, address, sizeof address, NULL, 0,
                       NI_NUMERICHOST) == 0 &&
           start_attempt(conn, op, address);
}

/* Enters the next host, which there must be. False: it must be passed over. */
static bool enter_host(pier__postgres_conn *conn, pier__db_op *op, int64_t until)
{
    pier__postgres_connecting *state = &conn->connecting;
    pier__lookup_free(state->lookup);
    state->lookup = NULL;
    state->entered++;
    if (needs_lookup(host_of(conn))) {
        return start_lookup(conn, op, until) && !take_addresses(conn);
    }
    state->attempt_until = attempt_bound(conn, until);
    return start_attempt(conn, op, NULL);
}

/* Starts on the next address or host. False: none is left. */
static bool start_next(pier__postgres_conn *conn, pier__db_op *op, int64_t until)
{
    pier__postgres_connecting *state = &conn->connecting;
    while (state->next || state->entered < db_of(conn)->host_count) {
        state->phase = PHASE_NONE;
        if (state->next ? start_next_address(conn, op, until) : enter_host(conn, op, until)) {
            return true;
        }
        if (state->phase == PHASE_POLL && !note_failure(conn)) {
            return false;
        }
    }
    return false;
}

/* Before the first attempt, and after one that failed, unless it was the `last`. */
static pier__postgres_progress go_on(pier__postgres_conn *conn, pier__db_op *op, int64_t until,
                                     bool last, pier_error *err)
{
    if (last || !start_next(conn, op, until)) {
        *err = conn->connecting.failure;
        pier__postgres_connect_end(conn);
        return PIER__FAILED;
    }
    if (conn->connecting.phase == PHASE_POLL) {
        wait_for_socket(conn, op, PIER__WRITABLE); /* as if PQconnectPoll had asked for it */
    }
    return PIER__STILL_WAITING;
}

static void finish_connecting(pier__postgres_conn *conn)
{
    PGconn *pg = conn->pg;
    conn->pg = NULL;
    pier__postgres_connect_end(conn);
    conn->pg = pg;
    conn->fd = PQsocket(pg);
    conn->tls = PQsslInUse(pg);
    conn->said_goodbye = false;
    PQsetnonblocking(pg, 1);
    PQsetErrorVerbosity(pg, PQERRORS_DEFAULT);
    conn->base.open = true;
}

static pier__postgres_progress poll_attempt(pier__postgres_conn *conn, pier__db_op *op,
                                            int64_t until, pier_error *err)
{
    switch (PQconnectPoll(conn->pg)) {
    case PGRES_POLLING_OK:
        finish_connecting(conn);
        return PIER__DONE;
    case PGRES_POLLING_READING:
        wait_for_socket(conn, op, PIER__READABLE);
        return PIER__STILL_WAITING;
    case PGRES_POLLING_WRITING:
        wait_for_socket(conn, op, PIER__WRITABLE);
        return PIER__STILL_WAITING;
    default:
        return go_on(conn, op, until, !note_failure(conn), err);
    }
}

pier__postgres_progress pier__postgres_connect(pier__postgres_conn *conn, pier__db_op *op,
                                               int64_t until, unsigned events, pier_error *err)
{
    pier__postgres_connecting *state = &conn->connecting;
    if (events & PIER__START) {
        pier__postgres_connect_end(conn);
        return go_on(conn, op, until, false, err);
    }
    if (events & PIER__EXPIRED) {
        bool over = until && pier__now() >= until;
        note_timeout(conn);
        return go_on(conn, op, until, over, err);
    }
    if (state->phase == PHASE_LOOKUP) {
        return take_addresses(conn) ? go_on(conn, op, until, false, err) : PIER__STILL_WAITING;
    }
    if (!(events & (PIER__READABLE | PIER__WRITABLE))) {
        return PIER__STILL_WAITING;
    }
    return poll_attempt(conn, op, until, err);
}
