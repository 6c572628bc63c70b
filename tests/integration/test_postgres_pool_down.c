/* Postgres pools whose server goes away, and comes back. */
#include "tests/integration/postgres_fixture.h"

#include "tests/support/wait.h"

static pier_pool_stats stats_of(pier_db *pool)
{
    pier_pool_stats stats;
    pier_db_stats(pool, &stats);
    return stats;
}

static void reconnect_observer(void)
{
    PQfinish(observer);
    assert_int_equal(connect_observer(), 0);
}

struct crowd {
    pier_db *pool;
    atomic_bool over;
    atomic_int answers, others; /* failures with PIER_ECONNECT; other ones */
};

static void *ask_again_and_again(void *arg)
{
    struct crowd *crowd = arg;
    while (!atomic_load(&crowd->over)) {
        pier_error err = {0};
        if (pier_db_execute(crowd->pool, "select 1", NULL, &err) < 0) {
            atomic_fetch_add(err.status == PIER_ECONNECT ? &crowd->answers : &crowd->others, 1);
        }
    }
    return NULL;
}

enum { CROWD = 40 };

static bool is_answered(void *arg)
{
    return atomic_load(&((struct crowd *)arg)->answers) >= 4 * CROWD;
}

/* Pauses of 25 ms and more, growing to 300 and more, for a crowd that asks without any. */
static void test_down__a_crowd_makes_few_attempts(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    struct crowd crowd = {
        .pool = pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 10), &err)};
    pthread_t threads[CROWD];
    for (int i = 0; i < CROWD; i++) {
        pthread_create(&threads[i], NULL, ask_again_and_again, &crowd);
    }
    struct crowd *at = &crowd;
    assert_int_equal(support_postgres_kill9(&server), 0);
    int64_t began = support_now_ms();
    assert_true(support_wait_until(is_answered, at, BOUND_MS));
    int64_t took = support_now_ms() - began;
    int64_t failed = stats_of(crowd.pool).failed;
    assert_int_equal(support_postgres_restart(&server), 0);
    reconnect_observer();
    /* All that had connections when it went down may try at once, then one at a time. */
    assert_in_range(failed, 1, 20 + took / 25);
    int64_t back = support_now_ms();
    int got = 0, number = 0;
    while (got != 1 && support_now_ms() - back < BOUND_MS) {
        memset(&err, 0, sizeof err);
        got = pier_db_fetch_into(crowd.pool, "select 1", NULL, PIER_INTO(&number), &err);
    }
    assert_int_equal(got, 1);
    assert_in_range(support_now_ms() - back, 0, AT_ONCE_MS);
    atomic_store(&crowd.over, true);
    for (int i = 0; i < CROWD; i++) {
        pthread_join(threads[i], NULL);
    }
    pier_db_close(crowd.pool);
}

static bool has_none(void *pool)
{
    return stats_of(pool).size == 0;
}

/* One who waits gets the answer of the attempt that is made, not a timeout. */
static void test_down__who_waits_hears_why(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_db *pool = pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 2), &err);
    assert_int_equal(support_postgres_kill9(&server), 0);
    /* Connections are found to be lost; from then on it is known to be down. */
    for (int i = 0; i < 20; i++) {
        memset(&err, 0, sizeof err);
        int64_t began = support_now_ms();
        assert_true(pier_db_execute(pool, "select 1", NULL, &err) < 0);
        assert_true(support_now_ms() - began < AT_ONCE_MS);
    }
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_true(support_wait_until(has_none, pool, BOUND_MS));
    pier_future *futures[8];
    for (int i = 0; i < 8; i++) {
        futures[i] = pier_db_execute_async(pool, "select 1", NULL);
    }
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &err), PIER_ECONNECT);
    }
    assert_int_equal(support_postgres_restart(&server), 0);
    reconnect_observer();
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), 0);
    pier_db_close(pool);
}

/* Who tries for all gives up: somebody else must try. */
static void test_down__whose_trial_is_cancelled_is_replaced(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_db *pool = pier_db_open(runner, server.url_tcp, PIER_DB_OPTIONS(.pool_max = 2), &err);
    assert_non_null(pool);
    assert_int_equal(support_postgres_kill9(&server), 0);
    for (int i = 0; i < 3; i++) {
        assert_true(pier_db_execute(pool, "select 1", NULL, &err) < 0);
    }
    for (int i = 0; i < 20; i++) {
        pier_future *future = pier_db_execute_async(pool, "select 1", NULL);
        pier_future_cancel(future);
        pier_future_free(future);
    }
    assert_int_equal(support_postgres_restart(&server), 0);
    reconnect_observer();
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), 0);
    assert_string_equal(err.message, "");
    pier_db_close(pool);
}

static bool has_two(void *pool)
{
    return stats_of(pool).idle >= 2;
}

static void test_down__the_minimum_is_restored_by_itself(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_db *pool =
        pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 2, .pool_min = 2), &err);
    assert_true(support_wait_until(has_two, pool, BOUND_MS));
    assert_int_equal(support_postgres_kill9(&server), 0);
    pier_db *leases[2] = {pier_db_lease(pool, NULL), pier_db_lease(pool, NULL)};
    for (int i = 0; i < 2; i++) {
        pier_db_execute(leases[i], "select 1", NULL, &err);
        pier_db_close(leases[i]);
    }
    assert_int_equal(support_postgres_restart(&server), 0);
    reconnect_observer();
    assert_true(support_wait_until(has_two, pool, BOUND_MS));
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), 0);
    pier_db_close(pool);
}

static bool has_tried_again(void *pool)
{
    return stats_of(pool).failed >= 3;
}

/* While somebody has a connection that works, attempts that fail are not held against those who
 * wait: they get that one. */
static void test_down__a_server_that_is_full_does_not_fail_who_waits(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    char url[600];
    look_int("do $$ begin create role few login connection limit 1; exception when others then "
             "null; end $$");
    const char *at = strstr(server.url_unix, "postgres@");
    snprintf(url, sizeof url, "%.*sfew@%s", (int)(at - server.url_unix), server.url_unix,
             at + strlen("postgres@"));
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 3), &err);
    pier_db *lease = pier_db_lease(pool, &err);
    assert_string_equal(err.message, "");
    pier_future *tries = pier_db_execute_async(pool, "select 1", NULL);
    assert_int_equal(pier_db_execute_finish(tries, &err), PIER_ECONNECT);
    assert_string_equal(err.sqlstate, "53300");
    pier_future *waits[3];
    for (int i = 0; i < 3; i++) {
        waits[i] = pier_db_execute_async(pool, "select 1", NULL);
    }
    assert_true(support_wait_until(has_tried_again, pool, BOUND_MS));
    pier_db_close(lease);
    memset(&err, 0, sizeof err);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pier_db_execute_finish(waits[i], &err), 0);
    }
    pier_db_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_down__a_crowd_makes_few_attempts),
        TEST(test_down__who_waits_hears_why),
        TEST(test_down__whose_trial_is_cancelled_is_replaced),
        TEST(test_down__the_minimum_is_restored_by_itself),
        TEST(test_down__a_server_that_is_full_does_not_fail_who_waits),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
