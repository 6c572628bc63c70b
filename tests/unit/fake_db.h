#ifndef PIER_TESTS_UNIT_FAKE_DB_H
#define PIER_TESTS_UNIT_FAKE_DB_H
/*
 * A database without a server, the only one that the program knows: what it defines here goes
 * before drivers/registry.c. Connections are made and statements run at once, or are refused or
 * held up, as the test says; it counts what it sees.
 */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include "sdk/db.h"
#include <pier/pier.h>
#include <string.h>

static struct {
    atomic_int refuses; /* that many attempts to connect; negative: all of them */
    atomic_bool holds;  /* attempts wait until fake_let_go */
    atomic_int attempts, at_once, at_once_max;
    atomic_int made, ended; /* connections in memory */
    atomic_int ran;         /* requests */
    _Atomic(pier__op *) held;
} fake;

struct fake_conn {
    pier__conn conn;
    void *memory;
};

static inline int fake_db_init(pier_db *root, const char *url, pier_error *err)
{
    root->name = pier__strdup(url);
    return root->name ? 0 : pier_error_set(err, PIER_ENOMEM, "out of memory");
}

static inline void fake_db_fini(pier_db *root)
{
    (void)root;
}

static inline bool fake_conn_init(pier__conn *conn)
{
    struct fake_conn *made = (struct fake_conn *)conn;
    made->memory = pier__malloc(16);
    atomic_fetch_add(&fake.made, made->memory != NULL);
    return made->memory != NULL;
}

static inline void fake_conn_fini(pier__conn *conn)
{
    pier__free(((struct fake_conn *)conn)->memory);
    atomic_fetch_add(&fake.ended, 1);
}

static inline void fake_begin_attempt(void)
{
    int now = atomic_fetch_add(&fake.at_once, 1) + 1;
    int most = atomic_load(&fake.at_once_max);
    while (now > most && !atomic_compare_exchange_weak(&fake.at_once_max, &most, now)) {
    }
    atomic_fetch_add(&fake.attempts, 1);
}

static inline void fake_open_step(pier__db_op *op, unsigned events)
{
    if (events & PIER__START) {
        fake_begin_attempt();
        if (atomic_load(&fake.holds)) {
            atomic_store(&fake.held, &op->op);
            op->op.wait.kind = PIER__WAIT_WAKE;
            return;
        }
    }
    atomic_fetch_sub(&fake.at_once, 1);
    if (events & PIER__CANCEL) {
        return;
    }
    int refuses = atomic_load(&fake.refuses);
    if (refuses) {
        pier_error err;
        atomic_store(&fake.refuses, refuses > 0 ? refuses - 1 : refuses);
        pier_error_set(&err, PIER_ECONNECT, "nobody listens");
        pier__db_op_failed(op, &err);
    } else {
        pier__db_op_opened(op);
    }
}

/* The attempt that is held up ends. */
static inline void fake_let_go(void)
{
    atomic_store(&fake.holds, false);
    pier__op_wake(atomic_exchange(&fake.held, NULL));
}

static inline void fake_run_step(pier__db_op *op, unsigned events)
{
    (void)events;
    atomic_fetch_add(&fake.ran, 1);
    if (op->request == PIER__BEGIN) {
        op->conn->in_tx = true;
    } else if (op->request == PIER__COMMIT || op->request == PIER__ROLLBACK) {
        op->conn->in_tx = false;
    }
    if (op->sql && strcmp(op->sql, "break") == 0) {
        pier_error err;
        pier_error_set(&err, PIER_EIO, "it broke");
        op->conn->dead = true;
        pier__db_op_failed(op, &err);
        return;
    }
    pier__db_op_ran(op);
}

static inline bool fake_conn_release(pier__conn *conn)
{
    (void)conn;
    return true;
}

static inline const char *fake_begin_sql(const pier_tx_options *options)
{
    (void)options;
    return "begin";
}

static const char *const fake_schemes[] = {"fake", NULL};

static const pier__db_driver fake_driver = {
    .schemes = fake_schemes,
    .db_size = sizeof(pier_db),
    .conn_size = sizeof(struct fake_conn),
    .db_init = fake_db_init,
    .db_fini = fake_db_fini,
    .conn_init = fake_conn_init,
    .open_step = fake_open_step,
    .run_step = fake_run_step,
    .conn_release = fake_conn_release,
    .conn_fini = fake_conn_fini,
    .begin_sql = fake_begin_sql,
    .renews = true,
};

extern int (*const pier__driver_inits[])(void);
const pier__db_driver *const pier__db_drivers[] = {&fake_driver, NULL};
int (*const pier__driver_inits[])(void) = {NULL};

static inline void fake_reset(void)
{
    memset(&fake, 0, sizeof fake);
}

static inline pier_pool_stats fake_stats(pier_db *db)
{
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats;
}

#endif
