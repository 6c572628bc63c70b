/*
 * Which of several servers is wanted, and in which order they are tried. libpq chooses among the
 * hosts and addresses of one PGconn; here each has its own, so the choice is made here, and libpq
 * looks at what the one server is.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "drivers/postgres/url.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static pier__postgres_db *db_of(const pier__postgres_conn *conn)
{
    return (pier__postgres_db *)conn->base.db;
}

/* Below `bound`. Good enough to share a load: splitmix64 of a seed from the system. */
static int draw(pier__postgres_conn *conn, int bound)
{
    uint64_t *state = &conn->connecting.random;
    if (*state == 0 && getrandom(state, sizeof *state, GRND_NONBLOCK) != sizeof *state) {
        *state = (uint64_t)pier__now() ^ conn->name_key; /* early in the life of a machine */
    }
    *state += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t mixed = (*state ^ *state >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return (int)((mixed ^ mixed >> 31) % (uint64_t)bound);
}

/* How long a silent host is tried last: a connection that looks whether it answers again may have
 * to wait for its share of the time to connect. */
#define SILENCE_NS INT64_C(60000000000)

void pier__postgres_host_answered(pier__postgres_conn *conn, bool answered)
{
    int host = pier__postgres_host_index(conn);
    if (host >= 0) {
        atomic_store(pier__postgres_host_silence(db_of(conn), host), answered ? 0 : pier__now());
    }
}

/* Since when it is to be tried last; 0: it is not. When that is over, one attempt looks, and others
 * rely on that. */
static int64_t silent_since(const pier__postgres_db *db, int host)
{
    _Atomic int64_t *silence = pier__postgres_host_silence(db, host);
    int64_t since = atomic_load(silence), now = since ? pier__now() : 0;
    bool looks =
        since && now - since >= SILENCE_NS && atomic_compare_exchange_strong(silence, &since, now);
    return looks ? 0 : since;
}

/* Those that answer keep their order. Of the others the one that was silent last comes last, so
 * that each has its turn where calls have time for one alone. False: no memory. */
static bool put_silent_last(const pier__postgres_db *db, int *order)
{
    int64_t *since = pier__calloc((size_t)db->host_count, sizeof *since);
    if (!since) {
        return false;
    }
    for (int i = 0; i < db->host_count; i++) {
        int host = order[i], at = i;
        since[host] = silent_since(db, host);
        for (; at > 0 && since[order[at - 1]] > since[host]; at--) {
            order[at] = order[at - 1];
        }
        order[at] = host;
    }
    pier__free(since);
    return true;
}

bool pier__postgres_mix_hosts(pier__postgres_conn *conn)
{
    const pier__postgres_db *db = db_of(conn);
    if (db->host_count < 2) {
        return true;
    }
    int *order = pier__calloc((size_t)db->host_count, sizeof *order);
    if (!order) {
        return false;
    }
    conn->connecting.order = order;
    for (int i = 0; i < db->host_count; i++) {
        int other = db->random ? draw(conn, i + 1) : i;
        order[i] = order[other];
        order[other] = i;
    }
    return put_silent_last(db, order);
}

int pier__postgres_host_index(const pier__postgres_conn *conn)
{
    int index = conn->connecting.entered - 1;
    return conn->connecting.order && index >= 0 ? conn->connecting.order[index] : index;
}

void pier__postgres_first_address(pier__postgres_conn *conn, const struct addrinfo *list)
{
    pier__postgres_connecting *state = &conn->connecting;
    state->next = list;
    state->addresses = 0;
    for (const struct addrinfo *at = list; at; at = at->ai_next) {
        state->addresses++;
    }
    if (db_of(conn)->random && state->addresses > 1) {
        for (int skip = draw(conn, state->addresses); skip > 0; skip--) {
            state->next = state->next->ai_next;
        }
    }
}

void pier__postgres_next_address(pier__postgres_conn *conn)
{
    pier__postgres_connecting *state = &conn->connecting;
    const char *why;
    const struct addrinfo *next = state->next->ai_next;
    state->addresses--;
    /* From the last one on to the first. */
    state->next = !state->addresses ? NULL : next ? next : pier__lookup_result(state->lookup, &why);
}

const char *pier__postgres_attributes(const pier__postgres_conn *conn)
{
    const pier__postgres_db *db = db_of(conn);
    if (db->wanted == PIER__WANTED_STANDBY_FIRST) {
        return conn->connecting.second_pass ? "any" : "standby";
    }
    return db->attributes;
}

bool pier__postgres_next_pass(pier__postgres_conn *conn)
{
    pier__postgres_connecting *state = &conn->connecting;
    if (db_of(conn)->wanted != PIER__WANTED_STANDBY_FIRST || state->second_pass) {
        return false;
    }
    state->second_pass = true;
    state->entered = 0;
    return true;
}

/* A transaction that is read only because its user made it so fails in the same way. Since version
 * 14 servers report what they are; a pooler may report what another one was. */
static bool chose_to_read(const pier__db_op *op)
{
    const pier__postgres_conn *conn = (const pier__postgres_conn *)op->conn;
    bool known = !pier__postgres_is_unnamed(conn) && *conn->standby && *conn->reads_only;
    return (op->db->kind == PIER__DB_TX && op->db->read_only) ||
           (known && strcmp(conn->standby, "off") == 0 && strcmp(conn->reads_only, "off") == 0);
}

void pier__postgres_check_target(pier__db_op *op, pier_error *err)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    const pier__postgres_db *db = db_of(conn);
    if (db->wanted != PIER__WANTED_WRITABLE || !conn->pg || strcmp(err->sqlstate, "25006") != 0 ||
        chose_to_read(op)) {
        return;
    }
    pier_db_expire(conn->base.db);
    size_t length = strlen(err->message);
    snprintf(err->message + length, sizeof err->message - length,
             "; the pool wants a server that is %s: its connections are replaced, the next call "
             "looks for one",
             db->attributes);
}
