/*
 * Connecting: each host in turn, each address of it in turn, one PGconn for each. libpq would look
 * names up itself, and block; so it is given addresses, and the name only for TLS and passwords.
 * Servers that are starting up or shutting down are asked again until the time is up.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "drivers/postgres/url.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include <arpa/inet.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { PHASE_NONE = 0, PHASE_READING, PHASE_LOOKUP, PHASE_START, PHASE_POLL, PHASE_PAUSE };

/* Before servers that are not ready are asked again: at first, and at most. */
#define PAUSE_NS INT64_C(50000000)
#define PAUSE_MAX_NS INT64_C(800000000)

static pier__postgres_db *db_of(pier__postgres_conn *conn)
{
    return (pier__postgres_db *)conn->base.db;
}

static const pier__postgres_host *host_of(pier__postgres_conn *conn)
{
    return &db_of(conn)->hosts[pier__postgres_host_index(conn)];
}

static bool needs_lookup(const pier__postgres_host *host)
{
    unsigned char address[16];
    return !host->address && host->host && host->host[0] != '/' && host->host[0] != '@' &&
           inet_pton(AF_INET, host->host, address) != 1 &&
           inet_pton(AF_INET6, host->host, address) != 1;
}

static void close_attempt(pier__postgres_conn *conn)
{
    pier__postgres_start_free(conn->connecting.start);
    conn->connecting.start = NULL;
    if (conn->pg) {
        pier__postgres_transport_give_back(&conn->transport);
    }
    PQfinish(conn->pg);
    conn->pg = NULL;
    conn->fd = -1;
}

/* Forgets what belongs to the host that was tried last. */
static void leave_host(pier__postgres_conn *conn)
{
    pier__postgres_connecting *state = &conn->connecting;
    pier__lookup_free(state->lookup);
    pier__postgres_password_free(state->password);
    state->lookup = NULL;
    state->password = NULL;
    state->next = NULL;
    state->addresses = 0;
}

/* Is a host being waited for? */
static bool waits_for_host(const pier__postgres_conn *conn)
{
    return conn->connecting.phase == PHASE_LOOKUP ||
           (conn->connecting.phase == PHASE_POLL && conn->pg);
}

void pier__postgres_connect_end(pier__postgres_conn *conn)
{
    if (waits_for_host(conn)) {
        /* Given up: who connects next may have no more time. */
        pier__postgres_host_answered(conn, false);
    }
    close_attempt(conn);
    leave_host(conn);
    pier__free(conn->connecting.order);
    memset(&conn->connecting, 0, sizeof conn->connecting);
}

/* The time left is shared out, so that a name that is looked up slowly, or an address that does not
 * answer, leaves some for the rest. */
static int64_t attempt_bound(pier__postgres_conn *conn, int64_t until)
{
    const pier__postgres_db *db = db_of(conn);
    int64_t attempts = db->host_count - conn->connecting.entered;
    attempts += conn->connecting.next ? conn->connecting.addresses : 1;
    if (db->wanted == PIER__WANTED_STANDBY_FIRST && !conn->connecting.second_pass) {
        attempts += db->host_count;
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
    wait->receive = NULL;
    wait->until = conn->connecting.attempt_until;
}

/* Adds to why an attempt failed, as far as there is room. */
PIER_PRINTF(2, 3) static void add(pier_error *failure, const char *format, ...)
{
    size_t length = strlen(failure->message);
    va_list args;
    va_start(args, format);
    vsnprintf(failure->message + length, sizeof failure->message - length, format, args);
    va_end(args);
}

/* Which of several servers it was, and what it should have been. */
static void add_server(pier__postgres_conn *conn)
{
    pier_error *failure = &conn->connecting.failure;
    const pier__postgres_db *db = db_of(conn);
    const pier__postgres_host *host = host_of(conn);
    if (db->host_count > 1) {
        const char *name = host->host      ? host->host
                           : host->address ? host->address
                                           : "the local one";
        add(failure, "; the server tried last was %.80s:%.10s", name,
            host->port ? host->port : "5432");
    }
    if (db->wanted != PIER__WANTED_ANY && db->wanted != PIER__WANTED_STANDBY_FIRST) {
        add(failure, "; target_session_attrs=%s is wanted", db->attributes);
    }
}

/* Notes why an attempt failed, and whether another address or host may do better. */
static void note_failure(pier__postgres_conn *conn)
{
    pier__postgres_connecting *state = &conn->connecting;
    pier_error *failure = &state->failure;
    bool no_password = PQconnectionNeedsPassword(conn->pg);
    pier__postgres_connect_error(failure, conn->base.db->name, PQerrorMessage(conn->pg));
    if (no_password) {
        add(failure,
            "; give a password in the URL, PGPASSWORD, a pass file that only its owner can "
            "read, or by a function");
    }
    add_server(conn);
    close_attempt(conn);
    pier__postgres_host_answered(conn, true);
    state->not_ready |= strcmp(failure->sqlstate, "57P03") == 0;
    state->final = strncmp(failure->sqlstate, "28", 2) == 0 ||
                   strcmp(failure->sqlstate, "3D000") == 0 || no_password;
}

/* libpq has been started. False: it has failed already. */
static bool take_start(pier__postgres_conn *conn)
{
    pier__postgres_connecting *state = &conn->connecting;
    conn->pg = pier__postgres_start_take(state->start, &state->failure);
    if (!state->password) {
        state->password = pier__postgres_start_password(state->start);
    }
    pier__postgres_start_free(state->start);
    state->start = NULL;
    if (!conn->pg) {
        state->final = true; /* no password, or no memory */
        return false;
    }
    PQsetNoticeReceiver(conn->pg, pier__postgres_take_early_notice, conn); /* the default prints */
    /* The only way to learn the SQLSTATE of a refusal; see pier__postgres_connect_error. */
    PQsetErrorVerbosity(conn->pg, PQERRORS_VERBOSE);
    state->phase = PHASE_POLL;
    if (PQstatus(conn->pg) == CONNECTION_BAD) {
        note_failure(conn);
        return false;
    }
    return true;
}

/* Starts on one address; NULL: the host's own, or its unix socket. False: it must be passed over.
 */
static bool start_attempt(pier__postgres_conn *conn, pier__db_op *op, const char *address)
{
    pier__postgres_connecting *state = &conn->connecting;
    const pier__postgres_target target = {
        .host = pier__postgres_host_index(conn),
        .address = address,
        .attributes = pier__postgres_attributes(conn),
        .password = state->password,
    };
    op->op.doing = "connecting";
    state->start = pier__postgres_start_new(db_of(conn), &op->op, &target);
    if (!state->start) {
        pier_error_set(&state->failure, PIER_ENOMEM, "could not connect to %.120s: out of memory",
                       conn->base.db->name);
        state->final = true;
        return false;
    }
    if (pier__postgres_start_done(state->start)) {
        return take_start(conn);
    }
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = state->attempt_until;
    state->phase = PHASE_START;
    return true;
}

/* A server that lets nobody in yet has said so, and is asked again: that the time was up in the
 * middle of it is no reason to say that there was no answer. */
static bool has_said_why(pier__postgres_conn *conn)
{
    const pier__postgres_connecting *state = &conn->connecting;
    return state->final && db_of(conn)->host_count == 1 &&
           strcmp(state->failure.sqlstate, "57P03") == 0;
}

static void explain_timeout(pier__postgres_conn *conn)
{
    char why[160];
    if (conn->connecting.phase == PHASE_READING) {
        snprintf(why, sizeof why, "reading the service file took too long; check PGSERVICEFILE");
    } else if (conn->connecting.phase == PHASE_LOOKUP) {
        snprintf(why, sizeof why, "looking up %.80s took too long; check the name",
                 host_of(conn)->host);
    } else if (conn->connecting.phase == PHASE_START) {
        snprintf(why, sizeof why, "the password function, or reading a file, took too long");
    } else {
        snprintf(why, sizeof why, "no answer in time; check host and port");
    }
    pier_error_set(&conn->connecting.failure, PIER_ECONNECT,
                   "could not connect to %.120s: %s, or raise connect_timeout_ms",
                   conn->base.db->name, why);
    if (conn->connecting.entered) {
        add_server(conn);
    }
}

static void note_timeout(pier__postgres_conn *conn)
{
    if (!has_said_why(conn)) {
        explain_timeout(conn);
    }
    if (waits_for_host(conn)) {
        pier__postgres_host_answered(conn, false);
    }
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
    op->op.wait.until = conn->connecting.attempt_until = attempt_bound(conn, until);
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
    pier__postgres_first_address(conn, pier__lookup_result(state->lookup, &why));
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
    pier__postgres_next_address(conn);
    return getnameinfo(at->ai_addr, at->ai_addrlen, address, sizeof address, NULL, 0,
                       NI_NUMERICHOST) == 0 &&
           start_attempt(conn, op, address);
}

/* Enters the next host, which there must be. False: it must be passed over. */
static bool enter_host(pier__postgres_conn *conn, pier__db_op *op, int64_t until)
{
    pier__postgres_connecting *state = &conn->connecting;
    leave_host(conn);
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
    while (!state->final) {
        bool more = state->next || state->entered < db_of(conn)->host_count;
        if (!more && !pier__postgres_next_pass(conn)) {
            break;
        }
        state->phase = PHASE_NONE;
        if (state->next ? start_next_address(conn, op, until) : enter_host(conn, op, until)) {
            return true;
        }
    }
    return false;
}

/* Where a server was not ready: all are asked again, after a pause. */
static void start_pause(pier__postgres_conn *conn, pier__db_op *op, int64_t until)
{
    pier__postgres_connecting *state = &conn->connecting;
    leave_host(conn);
    state->pause = state->pause ? state->pause * 2 : PAUSE_NS;
    if (state->pause > PAUSE_MAX_NS) {
        state->pause = PAUSE_MAX_NS;
    }
    state->phase = PHASE_PAUSE;
    state->entered = 0;
    state->second_pass = state->not_ready = false;
    op->op.doing = "waiting for the server to be ready";
    op->op.wait.kind = PIER__WAIT_WAKE;
    state->attempt_until = pier__earlier(until, pier__now() + state->pause);
    op->op.wait.until = state->attempt_until;
}

/* Before the first attempt, and after one that failed. */
static pier__postgres_progress go_on(pier__postgres_conn *conn, pier__db_op *op, int64_t until,
                                     pier_error *err)
{
    pier__postgres_connecting *state = &conn->connecting;
    if (start_next(conn, op, until)) {
        if (state->phase == PHASE_POLL) {
            wait_for_socket(conn, op, PIER__WRITABLE); /* as if PQconnectPoll had asked for it */
        }
        return PIER__STILL_WAITING;
    }
    if (state->not_ready && !state->final) {
        start_pause(conn, op, until);
        return PIER__STILL_WAITING;
    }
    *err = state->failure;
    pier__postgres_connect_end(conn);
    return PIER__FAILED;
}

/* From now on libpq is not asked any more, but to cancel and to end the session. */
static void finish_connecting(pier__postgres_conn *conn)
{
    static const char *const reported[] = {"client_encoding", "in_hot_standby",
                                           "default_transaction_read_only",
                                           "standard_conforming_strings"};
    PGconn *pg = conn->pg;
    pier__postgres_host_answered(conn, true);
    conn->pg = NULL;
    pier__postgres_connect_end(conn);
    conn->pg = pg;
    conn->fd = PQsocket(pg);
    conn->tx = 'I';
    conn->lost = conn->answered = false;
    conn->said_goodbye = false;
    for (size_t i = 0; i < sizeof reported / sizeof *reported; i++) {
        pier__postgres_note_parameter(conn, reported[i], PQparameterStatus(pg, reported[i]));
    }
    conn->said.pid = PQbackendPID(pg);
    PQsetnonblocking(pg, 1);
    conn->base.open = true;
}

static bool take_over(pier__postgres_conn *conn)
{
    pier_error *failure = &conn->connecting.failure;
    if (pier__postgres_transport_open(&conn->transport, conn->pg)) {
        return true;
    }
    pier_error_set(failure, PIER_ECONNECT, "could not connect to %.120s: %s", conn->base.db->name,
                   conn->transport.why);
    conn->connecting.final = true;
    pier__postgres_transport_fini(&conn->transport);
    close_attempt(conn);
    return false;
}

static pier__postgres_progress poll_attempt(pier__postgres_conn *conn, pier__db_op *op,
                                            int64_t until, pier_error *err)
{
    switch (PQconnectPoll(conn->pg)) {
    case PGRES_POLLING_OK:
        if (!take_over(conn)) {
            return go_on(conn, op, until, err);
        }
        finish_connecting(conn);
        return PIER__DONE;
    case PGRES_POLLING_READING:
        wait_for_socket(conn, op, PIER__READABLE);
        return PIER__STILL_WAITING;
    case PGRES_POLLING_WRITING:
        wait_for_socket(conn, op, PIER__WRITABLE);
        return PIER__STILL_WAITING;
    default:
        note_failure(conn);
        return go_on(conn, op, until, err);
    }
}

/* The time of an attempt is up, or that of a pause, or all of it. */
static pier__postgres_progress expire(pier__postgres_conn *conn, pier__db_op *op, int64_t until,
                                      pier_error *err)
{
    pier__postgres_connecting *state = &conn->connecting;
    state->final = until && pier__now() >= until;
    if (state->phase != PHASE_PAUSE) {
        note_timeout(conn);
    }
    return go_on(conn, op, until, err);
}

static pier__postgres_progress begin(pier__postgres_conn *conn, pier__db_op *op, int64_t until,
                                     pier_error *err)
{
    if (!pier__postgres_mix_hosts(conn)) {
        pier__postgres_connect_end(conn);
        pier_error_set(err, PIER_ENOMEM, "could not connect to %.120s: out of memory",
                       conn->base.db->name);
        return PIER__FAILED;
    }
    return go_on(conn, op, until, err);
}

/* The service has been read: now the servers are known, and how long they may take. */
static pier__postgres_progress take_service(pier__postgres_conn *conn, pier__db_op *op,
                                            pier_error *err)
{
    pier__postgres_db *db = db_of(conn);
    PQconninfoOption *all = pier__postgres_start_options(conn->connecting.start);
    int status = pier__postgres_url_settle(db, all, err);
    PQconninfoFree(all);
    pier__postgres_connect_end(conn);
    if (status < 0) {
        return PIER__FAILED;
    }
    op->phase_until =
        pier__earlier(op->phase_until, pier__deadline(db->base.settings.connect_timeout_ms, 0));
    return begin(conn, op, op->phase_until, err);
}

static pier__postgres_progress begin_reading(pier__postgres_conn *conn, pier__db_op *op,
                                             int64_t until, pier_error *err)
{
    pier__postgres_connecting *state = &conn->connecting;
    op->op.doing = "reading the service file";
    state->start = pier__postgres_start_reading(db_of(conn), &op->op);
    if (!state->start) {
        pier_error_set(err, PIER_ENOMEM, "could not connect to %.120s: out of memory",
                       conn->base.db->name);
        return PIER__FAILED;
    }
    if (pier__postgres_start_done(state->start)) {
        return take_service(conn, op, err);
    }
    state->phase = PHASE_READING;
    op->op.wait.kind = PIER__WAIT_WAKE;
    op->op.wait.until = state->attempt_until = until;
    return PIER__STILL_WAITING;
}

/* Woken for nothing: a thread that nobody waits for any more was late to tell. */
static pier__postgres_progress wait_on(pier__postgres_conn *conn, pier__db_op *op)
{
    op->op.wait.until = conn->connecting.attempt_until;
    return PIER__STILL_WAITING;
}

/* Takes what was waited for. */
static pier__postgres_progress take_start_step(pier__postgres_conn *conn, pier__db_op *op,
                                               int64_t until, pier_error *err)
{
    if (!pier__postgres_start_done(conn->connecting.start)) {
        return wait_on(conn, op);
    }
    if (!take_start(conn)) {
        return go_on(conn, op, until, err);
    }
    wait_for_socket(conn, op, PIER__WRITABLE);
    return PIER__STILL_WAITING;
}

pier__postgres_progress pier__postgres_connect(pier__postgres_conn *conn, pier__db_op *op,
                                               int64_t until, unsigned events, pier_error *err)
{
    if (events & PIER__START) {
        pier__postgres_connect_end(conn);
        return pier__postgres_url_is_unread(db_of(conn)) ? begin_reading(conn, op, until, err)
                                                         : begin(conn, op, until, err);
    }
    if (events & PIER__EXPIRED) {
        return expire(conn, op, until, err);
    }
    switch (conn->connecting.phase) {
    case PHASE_READING:
        return pier__postgres_start_done(conn->connecting.start) ? take_service(conn, op, err)
                                                                 : wait_on(conn, op);
    case PHASE_LOOKUP:
        return take_addresses(conn) ? go_on(conn, op, until, err) : wait_on(conn, op);
    case PHASE_START:
        return take_start_step(conn, op, until, err);
    case PHASE_POLL:
        return events & (PIER__READABLE | PIER__WRITABLE) ? poll_attempt(conn, op, until, err)
                                                          : wait_on(conn, op);
    default:
        return wait_on(conn, op);
    }
}
