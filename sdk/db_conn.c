/*
 * The life of pooled connections: made by the operation that needs one, given back, and ended on
 * whichever thread may do so. Only the loop can end its watch of a socket, and what can block (a
 * SQLite file that is closed) is kept off the loop.
 */
#include "sdk/db.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/loop_internal.h"
#include <time.h>

pier__conn *pier__conn_new(pier_db *root, pier__pool *pool)
{
    pier__conn *conn = pier__calloc(1, root->driver->conn_size);
    if (!conn) {
        return NULL;
    }
    conn->db = pier__db_ref(root);
    conn->pool = pool;
    atomic_init(&conn->refs, 1);
    pier__turn_init(&conn->turn);
    if (!root->driver->conn_init(conn)) {
        pier__turn_fini(&conn->turn);
        pier__db_unref(root);
        pier__free(conn);
        return NULL;
    }
    return conn;
}

void pier__conn_unref(pier__conn *conn)
{
    if (atomic_fetch_sub(&conn->refs, 1) == 1) {
        pier_db *root = conn->db;
        pier__turn_fini(&conn->turn);
        pier__free(conn);
        pier__db_unref(root);
    }
}

/* Lets go of what conn_fini has left. */
static void free_conn(pier__conn *conn)
{
    conn->open = false;
    conn->dead = true;
    if (!conn->pooled.replaced) {
        pier__pool_lost(conn->pool, &conn->pooled);
    }
    pier__conn_unref(conn);
}

static void fini_here(pier__conn *conn)
{
    conn->db->driver->conn_fini(conn);
    free_conn(conn);
}

/* ---- Off the loop, where closing blocks --------------------------------------------------- */

struct end_op {
    pier__op op;
    pier__conn *conn;
};

static void end_work(pier__op *op)
{
    struct end_op *end = (struct end_op *)op;
    end->conn->db->driver->conn_fini(end->conn);
}

static void end_step(pier__op *op, unsigned events)
{
    struct end_op *end = (struct end_op *)op;
    if (events & PIER__START) {
        op->doing = "closing a connection";
        op->wait.kind = PIER__WAIT_WORK;
        op->wait.work = end_work;
        op->wait.lane = end->conn->db->driver->conn_lane(end->conn);
    } else if (events & PIER__WORKED) {
        free_conn(end->conn);
        pier__op_succeed_int(op, 0);
    } else if (events & PIER__CANCEL) {
        /* The lane could not be started. */
        end_work(op);
        free_conn(end->conn);
        pier__op_succeed_int(op, 0);
    }
}

static const pier__op_class end_class = {
    .name = "pier_db_close",
    .result = "void",
    .size = sizeof(struct end_op),
    .shielded = true,
    .step = end_step,
};

static void end_on_loop(pier__conn *conn)
{
    pier__watch_close_on_loop(&conn->watch);
    pier__op *failed = NULL;
    struct end_op *end = conn->db->driver->close_blocks
                             ? pier__op_new(&end_class, conn->db->handle.runner, &failed)
                             : NULL;
    if (!end) {
        fini_here(conn);
        return;
    }
    end->conn = conn;
    end->op.on_loop = true;
    atomic_store(&end->op.mail, PIER__MAIL_LOOP);
    pier__loop_start_on_loop(&end->op);
    pier__op_unref(&end->op);
}

static void run_end(pier__post *post)
{
    end_on_loop((pier__conn *)((char *)post - offsetof(pier__conn, end)));
}

void pier__conn_end(pier__conn *conn)
{
    pier_runner *runner = conn->db->handle.runner;
    if (pier__runner_forked(runner)) {
        fini_here(conn);
    } else if (pier__loop_is_here(runner)) {
        end_on_loop(conn);
    } else if (conn->watch) {
        conn->end.run = run_end;
        pier__loop_post(runner, &conn->end);
    } else {
        fini_here(conn);
    }
}

/* A few milliseconds off at most, and 5 times cheaper than the exact clock. */
static int64_t coarse_now(void)
{
    struct timespec now;
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
    clock_gettime(CLOCK_MONOTONIC, &now);
#endif
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

void pier__conn_join(pier__conn *conn)
{
    int64_t lifetime_ms = conn->db->settings.lifetime_ms;
    if (lifetime_ms > 0) {
        /* Less up to a tenth, so that connections made together do not end together. */
        int64_t now = pier__now(), ns = lifetime_ms * 1000000;
        uint64_t random = (uint64_t)(now ^ (intptr_t)conn) * UINT64_C(0x9E3779B97F4A7C15) >> 1;
        conn->pooled.ends_at = now + ns - (int64_t)(random % (uint64_t)(ns / 10 + 1));
    }
    pier__pool_opened(conn->pool, &conn->pooled);
}

void pier__conn_end_all(pier__pooled *things)
{
    while (things) {
        pier__pooled *next = things->next;
        pier__conn_end((pier__conn *)things);
        things = next;
    }
}

/* Has its time come? */
static bool is_old(pier__conn *conn)
{
    pier__pooled *thing = &conn->pooled;
    int uses_max = conn->db->settings.uses_max;
    thing->idle_since = coarse_now();
    thing->retired = (thing->ends_at && thing->idle_since >= thing->ends_at) ||
                     (uses_max && ++thing->uses >= uses_max);
    return thing->retired;
}

void pier__conn_give_back_clean(pier__conn *conn)
{
    const pier__db_driver *driver = conn->db->driver;
    if (conn->dead || !conn->open || !driver->conn_release(conn)) {
        pier__conn_end(conn);
        return;
    }
    conn->pooled.on_loop = conn->watch != NULL;
    conn->pooled.was_reset = conn->resetting;
    if ((driver->renews && is_old(conn)) || !pier__pool_give(conn->pool, &conn->pooled)) {
        pier__conn_end(conn);
    }
}

void pier__conn_give_back(pier__conn *conn)
{
    bool hooked = conn->db->settings.cleanup && !conn->dead && conn->open;
    if (!hooked) {
        pier__conn_give_back_clean(conn);
    } else if (!pier__db_cleanup_start(conn)) {
        pier__conn_end(conn);
    }
}
