/*
 * A connection between requests: is it still there, is it clean, and how it ends.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/effects.h"
#include "sdk/alloc.h"
#include "sdk/hooks.h"
#include "sdk/runner.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

/* What has been idle for longer is looked at before it is used: 8 % of a query, so not each time.
 */
enum { TRUSTED_NS = 1000000000 };

/* As asyncpg's, and what else of a session outlasts its borrower. Nothing in it is a round trip of
 * its own, and none of it touches the statements that the driver has prepared. */
#define UNDO                                                                                       \
    "SELECT pg_catalog.pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; "                          \
    "SET SESSION AUTHORIZATION DEFAULT; RESET ALL; DISCARD TEMP; DISCARD SEQUENCES"

/* A few milliseconds behind, for a third of the price. */
static int64_t coarse_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

bool pier__postgres_has_left(pier__postgres_conn *conn)
{
    pier__postgres_collect_unasked(conn);
    return conn->said_goodbye || conn->base.dead || conn->lost;
}

static bool would_block(void)
{
    return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
}

/* Has the server closed the socket? Takes what else has come: notices, and last words. */
static bool is_closed(pier__postgres_conn *conn)
{
    enum { READS_MAX = 64 }; /* nobody has asked for so much */
    char byte;
    for (int i = 0; i < READS_MAX; i++) {
        ssize_t got = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (got <= 0) {
            return got == 0 || !would_block();
        }
        pier__postgres_came came = pier__postgres_transport_receive(&conn->transport, conn->wanted);
        if (came == PIER__CAME_END || pier__postgres_has_left(conn)) {
            return true;
        }
    }
    return true;
}

bool pier__postgres_was_left(pier__postgres_conn *conn)
{
    bool left = conn->lost || is_closed(conn);
    pier__postgres_tell(conn);
    if (left) {
        pier__postgres_session_ended(conn, true);
    }
    return left;
}

bool pier__postgres_is_stale(pier__postgres_conn *conn)
{
    pier__postgres_db *db = (pier__postgres_db *)conn->base.db;
    int64_t suspect = atomic_load_explicit(&db->suspect, memory_order_relaxed);
    int64_t idle_since = conn->base.pooled.idle_since;
    bool was_idle = conn->idle;
    conn->idle = false;
    if (!was_idle || (idle_since > suspect && coarse_now() - idle_since < TRUSTED_NS)) {
        return false;
    }
    return pier__postgres_was_left(conn);
}

bool pier__postgres_stirs(const pier__postgres_conn *conn)
{
    char byte;
    return recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || !would_block();
}

void pier__postgres_suspect(pier__postgres_conn *conn)
{
    pier__postgres_db *db = (pier__postgres_db *)conn->base.db;
    atomic_store_explicit(&db->suspect, coarse_now(), memory_order_relaxed);
}

void pier__postgres_note_parameter(pier__postgres_conn *conn, const char *name, const char *value)
{
    const struct {
        const char *name;
        char *place;
        size_t size;
    } known[] = {
        {"client_encoding", conn->encoding, sizeof conn->encoding}, /* text is UTF-8 here */
        {"in_hot_standby", conn->standby, sizeof conn->standby},
        {"default_transaction_read_only", conn->reads_only, sizeof conn->reads_only},
        {"standard_conforming_strings", conn->conforming, sizeof conn->conforming},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            snprintf(known[i].place, known[i].size, "%s", value ? value : "");
        }
    }
}

void pier__postgres_settle(pier__postgres_conn *conn)
{
    if (conn->closing) {
        return; /* a CLOSE that is not answered yet changes nothing */
    }
    bool asked = conn->syncs > 0;
    bool in_tx = !asked && conn->tx != 'I';
    if (!in_tx && conn->base.in_tx) {
        conn->portals = 0; /* the server closed them */
        pier__postgres_transport_expect(&conn->transport, 0);
        conn->tx_count++;
    }
    conn->base.in_tx = in_tx;
    if (asked && !conn->stream && !conn->base.resetting) {
        conn->base.dead = true;
    }
}

static void forget_statements(pier__postgres_conn *conn)
{
    pier__postgres_cache_fini(&conn->statements);
    pier__postgres_statement_free(conn->unnamed);
    pier__postgres_statement_free(conn->preparing);
    conn->unnamed = conn->preparing = conn->statement = NULL;
    conn->forgotten_count = 0;
    conn->named = false;
}

static void forget_session(pier__postgres_conn *conn)
{
    forget_statements(conn);
    pier__postgres_said_clear(&conn->said);
    conn->base.resetting = conn->flushing = conn->closing = false;
    conn->base.unclean = false;
    conn->stream = 0;
    conn->syncs = 0;
    conn->skipping = conn->wanted = 0;
    conn->lost = conn->answered = false;
    conn->portals = 0;
    conn->encoding[0] = conn->standby[0] = conn->reads_only[0] = conn->conforming[0] = 0;
    pier__postgres_results_clear(conn);
    pier__postgres_forget_ahead(conn);
    pier__postgres_builder_fini(&conn->builder);
    pier__postgres_transport_fini(&conn->transport);
    conn->base.open = conn->base.in_tx = false;
}

void pier__postgres_disconnect(pier__postgres_conn *conn)
{
    pier__postgres_cancel_free(conn->cancel);
    conn->cancel = NULL;
    if (conn->pg && pier__runner_forked(conn->base.db->handle.runner)) {
        conn->pg = NULL; /* the parent's: PQfinish would say goodbye in its name */
    }
    pier__postgres_connect_end(conn);
    forget_session(conn);
}

void pier__postgres_note_effects(pier__postgres_conn *conn, unsigned effects)
{
    conn->base.unclean |= effects != 0;
    conn->named |= (effects & PIER__EFFECT_NAMES) != 0;
}

/* Whatever several statements do, or a request that says nothing of itself. */
void pier__postgres_note_script(pier__postgres_conn *conn, const char *sql)
{
    conn->base.unclean = true;
    for (; sql && *sql && !conn->named; sql++) {
        conn->named = strncasecmp(sql, "prepare", 7) == 0;
    }
}

void pier__postgres_reset_failed(const pier__postgres_conn *conn)
{
    if (!conn->error || conn->base.dead) {
        return; /* the session has ended, which is another matter */
    }
    const char *message = pier__postgres_report_text(conn->error, PG_DIAG_MESSAGE_PRIMARY);
    pier__log(PIER_LOG_WARNING,
              "%.120s: a connection could not be reset and is closed: %.300s; where the server "
              "does not know these statements, open the pool with .reset = PIER_RESET_NONE",
              conn->base.db->name, message ? message : "");
}

/* What undoes all that may have been done; NULL: nothing. */
static const char *undo(pier__postgres_conn *conn, bool in_tx)
{
    /* By whether a transaction is open, whether the session may have been changed, and names. */
    static const char *const texts[2][3] = {
        {NULL, UNDO, "DEALLOCATE ALL; " UNDO},
        {"ROLLBACK", "ROLLBACK; " UNDO, "ROLLBACK; DEALLOCATE ALL; " UNDO},
    };
    int reset = conn->base.db->settings.reset;
    bool needed = reset != PIER_RESET_NONE && (conn->base.unclean || reset == PIER_RESET_ALWAYS);
    bool names = needed && conn->named;
    conn->base.unclean = false;
    if (names) {
        forget_statements(conn);
    }
    return texts[in_tx][needed + names];
}

/* Its answer is read before the next request, so that nobody waits for it. */
static bool send_undo(pier__postgres_conn *conn, bool in_tx)
{
    const char *sql = undo(conn, in_tx);
    if (!sql) {
        return true;
    }
    pier__postgres_begin(conn);
    int left =
        pier__postgres_add_query(conn, sql) ? pier__postgres_transport_flush(&conn->transport) : -1;
    conn->base.resetting = left >= 0;
    conn->flushing = left > 0;
    return left >= 0;
}

bool pier__postgres_reset(pier__postgres_conn *conn)
{
    if (conn->base.dead || !conn->pg || conn->stream || conn->ahead > conn->ahead_read) {
        return false;
    }
    conn->idle = true;
    if (conn->base.resetting) {
        return true;
    }
    if (conn->syncs > 0) {
        return false;
    }
    if (conn->tx != 'I') {
        conn->base.in_tx = false;
        return send_undo(conn, true);
    }
    /* Most requests have changed nothing, and nothing is to be sent. */
    return (!conn->base.unclean && conn->base.db->settings.reset != PIER_RESET_ALWAYS) ||
           send_undo(conn, false);
}
