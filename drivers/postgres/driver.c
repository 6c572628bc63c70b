/*
 * The Postgres driver: what the sdk calls. Connections are libpq's, never blocking, and driven by
 * whoever waits: a thread with poll(2), or the loop.
 */
#include "drivers/postgres/conn.h"
#include "drivers/postgres/url.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include <string.h>
#include <sys/random.h>

extern const pier__db_driver pier__postgres_driver;

static int db_init(pier_db *root, const char *url, pier_error *err)
{
    return pier__postgres_url_read((pier__postgres_db *)root, url, err);
}

static void db_fini(pier_db *root)
{
    pier__postgres_url_fini((pier__postgres_db *)root);
}

static bool conn_init(pier__conn *base)
{
    pier__postgres_conn *conn = (pier__postgres_conn *)base;
    conn->fd = -1;
    conn->statements.max = PIER__POSTGRES_CACHE_MAX;
    if (getrandom(&conn->name_key, sizeof conn->name_key, GRND_NONBLOCK) != sizeof conn->name_key) {
        conn->name_key = (uint32_t)pier__now(); /* early in the life of a machine */
    }
    return true;
}

static void conn_fini(pier__conn *base)
{
    pier__postgres_conn *conn = (pier__postgres_conn *)base;
    pier__postgres_disconnect(conn);
    pier__postgres_encoder_fini(&conn->encoder);
    pier__free(conn->forgotten);
}

static bool conn_release(pier__conn *base)
{
    return pier__postgres_reset((pier__postgres_conn *)base);
}

static void open_step(pier__db_op *op, unsigned events)
{
    pier__postgres_conn *conn = pier__postgres_conn_of(op);
    pier_error err;
    if (events & PIER__CANCEL) {
        pier__postgres_connect_end(conn);
        conn->base.dead = true;
        pier__op_cancelled_error(&op->op, &err);
        pier__db_op_failed(op, &err);
        return;
    }
    switch (pier__postgres_connect(conn, op, op->phase_until, events, &err)) {
    case PIER__DONE:
        pier__db_op_opened(op);
        break;
    case PIER__FAILED:
        conn->base.dead = true;
        pier__db_op_failed(op, &err);
        break;
    case PIER__STILL_WAITING:
        break;
    }
}

static struct pier_lane *conn_lane(pier__conn *conn)
{
    (void)conn;
    return NULL;
}

static const char *begin_sql(const pier_tx_options *options)
{
    static const char *const statements[2][4] = {
        {"BEGIN", "BEGIN ISOLATION LEVEL READ COMMITTED", "BEGIN ISOLATION LEVEL REPEATABLE READ",
         "BEGIN ISOLATION LEVEL SERIALIZABLE"},
        {"BEGIN READ ONLY", "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY",
         "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
         "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY"},
    };
    int isolation = options ? options->isolation : 0;
    return statements[options && options->read_only]
                     [isolation >= 0 && isolation < 4 ? isolation : 0];
}

static const char *const schemes[] = {"postgresql", "postgres", NULL};

const pier__db_driver pier__postgres_driver = {
    .schemes = schemes,
    .db_size = sizeof(pier__postgres_db),
    .conn_size = sizeof(pier__postgres_conn),
    .cursor_size = sizeof(pier__postgres_cursor),
    .db_init = db_init,
    .db_fini = db_fini,
    .conn_init = conn_init,
    .open_step = open_step,
    .run_step = pier__postgres_run_step,
    .conn_release = conn_release,
    .conn_fini = conn_fini,
    .conn_lane = conn_lane,
    .begin_sql = begin_sql,
    .cursor_fini = pier__postgres_cursor_fini,
    .cursor_keeps_conn = true,
};
