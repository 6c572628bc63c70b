/*
 * The Postgres driver: what the sdk calls. Connections are driven by whoever waits: a thread
 * with poll(2) or recv(2), or the loop. Nothing else blocks in them.
 */
#include "drivers/postgres/conn.h"
#include "drivers/postgres/url.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/options.h"
#include <string.h>
#include <sys/random.h>

extern const pier__db_driver pier__postgres_driver;

static int db_init(pier_db *root, const char *url, pier_error *err)
{
    pier__postgres_db *db = (pier__postgres_db *)root;
    pier_postgres_options read = {.struct_size = 0};
    int status = pier__options_read(&read, sizeof read, root->settings.postgres,
                                    "PIER_POSTGRES_OPTIONS", err);
    root->settings.postgres = NULL;
    db->password = read.password;
    db->password_data = read.user_data;
    status = status < 0 ? status : pier__postgres_url_read(db, url, err);
    return status < 0 ? status : pier__postgres_settings_add(db, read.settings, err);
}

static void db_fini(pier_db *root)
{
    pier__postgres_url_fini((pier__postgres_db *)root);
}

static bool conn_init(pier__conn *base)
{
    pier__postgres_conn *conn = (pier__postgres_conn *)base;
    conn->fd = -1;
    conn->statements.max = ((const pier__postgres_db *)base->db)->cache_max;
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
    pier__postgres_by_name_free(conn->by_name);
    pier__free(conn->forgotten);
}

static bool conn_check(pier__conn *base)
{
    return !pier__postgres_is_stale((pier__postgres_conn *)base);
}

static bool conn_stirs(const pier__conn *base)
{
    return pier__postgres_stirs((const pier__postgres_conn *)base);
}

static bool conn_left(pier__conn *base)
{
    return pier__postgres_was_left((pier__postgres_conn *)base);
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

static int conn_id(const pier__conn *base)
{
    return ((const pier__postgres_conn *)base)->said.pid;
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
    if (!options) {
        return statements[0][0];
    }
    return options->deferrable ? "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE"
                               : statements[options->read_only][options->isolation];
}

static const char *const schemes[] = {"postgresql", "postgres", NULL};

const pier__db_driver pier__postgres_driver = {
    .schemes = schemes,
    .can = PIER__CAN_NAMES | PIER__CAN_MANY | PIER__CAN_DESCRIBE,
    .db_size = sizeof(pier__postgres_db),
    .conn_size = sizeof(pier__postgres_conn),
    .cursor_size = sizeof(pier__postgres_cursor),
    .db_init = db_init,
    .db_fini = db_fini,
    .conn_init = conn_init,
    .open_step = open_step,
    .run_step = pier__postgres_run_step,
    .send_ahead = pier__postgres_send_ahead,
    .leave_ahead = pier__postgres_leave_ahead,
    .conn_check = conn_check,
    .conn_stirs = conn_stirs,
    .conn_left = conn_left,
    .conn_release = conn_release,
    .renews = true,
    .conn_fini = conn_fini,
    .conn_id = conn_id,
    .conn_lane = conn_lane,
    .begin_sql = begin_sql,
    .cursor_fini = pier__postgres_cursor_fini,
    .cursor_keeps_conn = true,
};
