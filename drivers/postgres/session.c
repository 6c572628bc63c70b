/*
 * A connection between requests: is it still there, is it clean, and how it ends.
 */
#include "drivers/postgres/conn.h"

#include "sdk/alloc.h"
#include "sdk/runner.h"
#include <errno.h>
#include <sys/socket.h>
#include <time.h>

/* What has been idle for longer is looked at before it is used: 8 % of a query, so not each time.
 */
enum { TRUSTED_NS = 1000000000 };

/* A few milliseconds behind, for a third of the price. */
static int64_t coarse_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Has the server closed the socket? Takes what else has come: notices, and last words. */
static bool is_closed(pier__postgres_conn *conn)
{
    char byte;
    for (;;) {
        ssize_t got = recv(conn->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (got <= 0) {
            return got == 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
        }
        if (!PQconsumeInput(conn->pg)) {
            return true;
        }
        /* This makes libpq look at what it has read. */
        for (PGnotify *notify; (notify = PQnotifies(conn->pg));) {
            PQfreemem(notify);
        }
        if (conn->said_goodbye) {
            return true;
        }
    }
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
    return PQstatus(conn->pg) != CONNECTION_OK || is_closed(conn);
}

void pier__postgres_suspect(pier__postgres_conn *conn)
{
    pier__postgres_db *db = (pier__postgres_db *)conn->base.db;
    atomic_store_explicit(&db->suspect, coarse_now(), memory_order_relaxed);
}

void pier__postgres_settle(pier__postgres_conn *conn)
{
    PGTransactionStatusType status = PQtransactionStatus(conn->pg);
    bool in_tx = status == PQTRANS_INTRANS || status == PQTRANS_INERROR;
    if (!in_tx && conn->base.in_tx) {
        conn->cursors = 0; /* the server closed them */
        conn->tx_count++;
    }
    conn->base.in_tx = in_tx;
    if (status != PQTRANS_IDLE && !in_tx && !conn->stream && !conn->resetting) {
        conn->base.dead = true;
    }
}

static void forget_session(pier__postgres_conn *conn)
{
    pier__postgres_cache_fini(&conn->statements);
    pier__postgres_statement_free(conn->unnamed);
    pier__postgres_statement_free(conn->preparing);
    conn->unnamed = conn->preparing = conn->statement = NULL;
    conn->forgotten_count = 0;
    conn->resetting = conn->flushing = false;
    conn->stream = 0;
    conn->syncs = 0;
    pier__postgres_builder_fini(&conn->builder);
    conn->base.open = conn->base.in_tx = false;
}

void pier__postgres_disconnect(pier__postgres_conn *conn)
{
    pier__postgres_cancel_free(conn->cancel);
    conn->cancel = NULL;
    PQclear(conn->described);
    PQclear(conn->result);
    PQclear(conn->error);
    conn->described = conn->result = conn->error = NULL;
    if (conn->pg && pier__runner_forked(conn->base.db->handle.runner)) {
        conn->pg = NULL; /* the parent's: PQfinish would say goodbye in its name */
    }
    pier__postgres_connect_end(conn);
    forget_session(conn);
}

bool pier__postgres_reset(pier__postgres_conn *conn)
{
    if (conn->base.dead || !conn->pg || conn->stream) {
        return false;
    }
    conn->idle = true;
    if (conn->resetting) {
        return true;
    }
    switch (PQtransactionStatus(conn->pg)) {
    case PQTRANS_IDLE:
        return true;
    case PQTRANS_INTRANS:
    case PQTRANS_INERROR:
        /* Its answer is read before the next request, so that nobody waits for it. */
        conn->resetting = PQsendQuery(conn->pg, "ROLLBACK");
        conn->flushing = conn->resetting && PQflush(conn->pg) > 0;
        conn->base.in_tx = false;
        return conn->resetting;
    default:
        return false;
    }
}
