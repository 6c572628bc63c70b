/* Pools with hooks and a minimum when memory runs out: each allocation fails in turn, and the pool
 * works afterwards. Over a database without a server. Run with a leak checker. */
#include "tests/unit/fake_db.h"

enum { POOL_MAX = 3, POOL_MIN = 2 };

static atomic_int failing; /* the allocation that fails, from 1; 0: none */
static atomic_bool failed;
static atomic_int inits, setups, cleanups;
static pier_db *db; /* the pool of the round; NULL: it could not be opened */

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

static void fail_from_now(int n)
{
    atomic_store(&failed, false);
    atomic_store(&failing, n);
    pier__alloc_set_gate(fail_one);
}

static void fail_no_more(void)
{
    pier__alloc_set_gate(NULL);
    atomic_store(&failing, 0);
}

static int use_connection(pier_db *connection, void *count, pier_error *err)
{
    atomic_fetch_add((atomic_int *)count, 1);
    return (int)pier_db_execute(connection, "use", NULL, err);
}

static int on_init(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    return use_connection(connection, &inits, err);
}

static int on_setup(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    return use_connection(connection, &setups, err);
}

static int on_cleanup(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    return use_connection(connection, &cleanups, err);
}

static pier_db *open_pool(pier_error *err)
{
    return pier_db_open(runner, "fake:",
                        PIER_DB_OPTIONS(.pool_max = POOL_MAX, .pool_min = POOL_MIN,
                                        .acquire_timeout_ms = BOUND_MS / 2, .init = on_init,
                                        .setup = on_setup, .cleanup = on_cleanup),
                        err);
}

/* ---- What must hold afterwards ------------------------------------------------------------ */

static bool is_quiet(void *unused)
{
    pier_pool_stats stats = fake_stats(db);
    (void)unused;
    return stats.leased == 0 && stats.waiting == 0 && stats.idle >= POOL_MIN;
}

/* No place of it is lost: all its connections can be had at once, and come back. */
static void check_works(int n)
{
    pier_error err = {0};
    pier_db *leases[POOL_MAX];
    for (int i = 0; i < POOL_MAX; i++) {
        leases[i] = pier_db_lease(db, &err);
        if (!leases[i] || pier_db_execute(leases[i], "use", NULL, &err) < 0) {
            fail_msg("allocation %d, lease %d: %s", n, i, err.message);
        }
    }
    for (int i = 0; i < POOL_MAX; i++) {
        pier_db_close(leases[i]);
    }
    if (!support_wait_until(is_quiet, NULL, BOUND_MS)) {
        pier_pool_stats stats = fake_stats(db);
        fail_msg("allocation %d: of %d connections %d are idle, %d wait", n, stats.size, stats.idle,
                 stats.waiting);
    }
    if (pier_db_drain(db, 0, &err) < 0) {
        fail_msg("allocation %d: %s", n, err.message);
    }
    pier_pool_stats stats = fake_stats(db);
    assert_int_equal(stats.size, 0);
}

static void end_round(int n)
{
    fail_no_more();
    if (db) {
        check_works(n);
        pier_db_close(db);
        db = NULL;
    }
    pier_runner_close(runner);
    assert_int_equal(fake.made, fake.ended);
}

static void begin_round(void)
{
    fake_reset();
    runner = pier_runner_open(NULL, NULL);
    assert_non_null(runner);
}

/* ---- A program's calls -------------------------------------------------------------------- */

static int use_all(pier_error *err)
{
    int64_t used = pier_db_execute(db, "use", NULL, err);
    pier_db *lease = pier_db_lease(db, err);
    pier_db_execute(lease, "use", NULL, err);
    pier_db_close(lease);
    pier_db *tx = pier_db_begin(db, NULL, err);
    pier_db_execute(tx, "use", NULL, err);
    int status = tx ? pier_db_commit(tx, err) : err->status;
    pier_db_close(tx);
    return used < 0 ? (int)used : !lease ? err->status : status;
}

static int open_and_use(pier_error *err)
{
    db = open_pool(err);
    return db ? use_all(err) : err->status;
}

static int open_and_use_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    return open_and_use(err);
}

static int run_task(pier_error *err)
{
    return pier_task_run(runner, open_and_use_in_task, NULL, err);
}

static int use_futures(pier_error *err)
{
    pier_future *futures[2 * POOL_MAX];
    int status = 0;
    for (int i = 0; i < 2 * POOL_MAX; i++) {
        futures[i] = pier_db_execute_async(db, "use", NULL);
        assert_non_null(futures[i]);
    }
    pier_future *leased = pier_db_lease_async(db);
    for (int i = 0; i < 2 * POOL_MAX; i++) {
        int64_t used = pier_db_execute_finish(futures[i], err);
        status = used < 0 ? (int)used : status;
    }
    pier_db *lease = pier_db_lease_finish(leased, err);
    pier_db_close(lease);
    return lease ? status : err->status;
}

/* `opened`: the pool is there before memory runs out. */
static void fail_each(int (*run)(pier_error *err), bool opened)
{
    int n = 0, worked = 0;
    do {
        pier_error err = {0};
        begin_round();
        db = opened ? open_pool(&err) : NULL;
        if (opened && !support_wait_until(is_quiet, NULL, BOUND_MS)) {
            fail_msg("allocation %d: the pool was not filled", n);
        }
        fail_from_now(++n);
        int status = run(&err);
        worked += status == 0;
        end_round(n);
        if (status < 0 && !err.status) {
            fail_msg("allocation %d: %d and no error", n, status);
        }
    } while (atomic_load(&failed));
    assert_true(n > 20);
    assert_true(worked > 0);
}

static void test_memory__of_a_thread(void **state)
{
    (void)state;
    fail_each(open_and_use, false);
    assert_true(inits > 0 && setups > 0 && cleanups > 0);
}

static void test_memory__of_a_task(void **state)
{
    (void)state;
    fail_each(run_task, false);
}

static void test_memory__of_futures(void **state)
{
    (void)state;
    fail_each(use_futures, true);
}

static void test_memory__of_a_pool_that_is_open(void **state)
{
    (void)state;
    fail_each(use_all, true);
}

/* ---- The keeper --------------------------------------------------------------------------- */

static bool is_restored(void *unused)
{
    (void)unused;
    return fake_stats(db).idle >= POOL_MIN;
}

static void break_all(void)
{
    pier_db *leases[POOL_MIN];
    for (int i = 0; i < POOL_MIN; i++) {
        leases[i] = pier_db_lease(db, NULL);
        assert_int_equal(pier_db_execute(leases[i], "break", NULL, NULL), PIER_EIO);
    }
    for (int i = 0; i < POOL_MIN; i++) {
        pier_db_close(leases[i]);
    }
}

/* Memory runs out while the keeper makes the minimum good, which nobody waits for. */
static void test_memory__of_the_keeper(void **state)
{
    (void)state;
    int n = 0;
    do {
        begin_round();
        db = open_pool(NULL);
        assert_true(support_wait_until(is_quiet, NULL, BOUND_MS));
        break_all();
        fail_from_now(++n);
        if (!support_wait_until(is_restored, NULL, BOUND_MS)) {
            fail_msg("allocation %d: the minimum was not made good", n);
        }
        end_round(n);
    } while (atomic_load(&failed));
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory__of_a_thread),
        cmocka_unit_test(test_memory__of_a_task),
        cmocka_unit_test(test_memory__of_futures),
        cmocka_unit_test(test_memory__of_a_pool_that_is_open),
        cmocka_unit_test(test_memory__of_the_keeper),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
