/* Postgres pools: the program's functions on connections that are made, borrowed and given back. */
#include "tests/integration/postgres_fixture.h"

static atomic_int inits, setups, cleanups, failing_inits, failing_setups, failing_cleanups;

static int on_init(pier_db *connection, void *user_data, pier_error *err)
{
    atomic_fetch_add(&inits, 1);
    if (atomic_load(&failing_inits) > 0 && atomic_fetch_sub(&failing_inits, 1) > 0) {
        return pier_error_set(err, PIER_EUSER, "not today: %s", (const char *)user_data);
    }
    return pier_db_execute_script(connection, "create temp table mine(a int)", err);
}

static int on_setup(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    atomic_fetch_add(&setups, 1);
    if (atomic_load(&failing_setups) > 0 && atomic_fetch_sub(&failing_setups, 1) > 0) {
        return (int)pier_db_execute(connection, "select 1/0", NULL, err);
    }
    return (int)pier_db_execute(connection, "set pier.test = 'set up'", NULL, err);
}

static int on_cleanup(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    pier_result *result = pier_db_fetch(connection, "select 1", NULL, err);
    pier_result_free(result);
    atomic_fetch_add(&cleanups, 1);
    if (atomic_load(&failing_cleanups) > 0 && atomic_fetch_sub(&failing_cleanups, 1) > 0) {
        return pier_error_set(err, PIER_EUSER, "it stays dirty");
    }
    return result ? 0 : err->status;
}

static void reset_counts(void)
{
    atomic_int *const counts[] = {&inits,         &setups,         &cleanups,
                                  &failing_inits, &failing_setups, &failing_cleanups};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        atomic_store(counts[i], 0);
    }
}

static char hello[] = "hello";

static pier_db *open_hooked(pier_error *err)
{
    reset_counts();
    return pier_db_open(runner, server.url_unix,
                        PIER_DB_OPTIONS(.pool_max = 1, .init = on_init, .setup = on_setup,
                                        .cleanup = on_cleanup, .hook_data = hello),
                        err);
}

struct counted {
    atomic_int *count;
    int expected;
};

static bool has_counted(void *arg)
{
    struct counted *counted = arg;
    return atomic_load(counted->count) == counted->expected;
}

static bool await_count(atomic_int *count, int expected)
{
    struct counted counted = {count, expected};
    return support_wait_until(has_counted, &counted, BOUND_MS);
}

SCENARIO(test_hooks__run_when_it_is_made_borrowed_and_given_back)
{
    pier_error e = {0};
    char text[16] = "";
    (void)pool;
    pier_db *hooked = open_hooked(&e);
    EXPECT(hooked && inits == 1 && setups == 0);
    for (int i = 1; i <= 3; i++) {
        EXPECT(pier_db_fetch_into(hooked, "select current_setting('pier.test')", NULL,
                                  PIER_INTO(pier_into_buffer(text, sizeof text)), &e) == 1);
        EXPECT(strcmp(text, "set up") == 0);
        EXPECT(setups == i);
    }
    pier_db *lease = pier_db_lease(hooked, &e);
    EXPECT(lease && setups == 4 && inits == 1);
    EXPECT(cleanups == 3); /* a lease gets it only after the hook of the one before */
    EXPECT(pier_db_execute(lease, "select 1", NULL, &e) == 0);
    pier_db_close(lease);
    EXPECT(pier_db_execute(hooked, "select 1", NULL, &e) == 0);
    EXPECT(setups == 5 && cleanups >= 4);
    pier_db_close(hooked);
    return 0;
}

static void test_hooks__a_failing_init_reaches_who_opens(void **state)
{
    (void)state;
    pier_error err = {0};
    reset_counts();
    atomic_store(&failing_inits, 1);
    pier_db *hooked = pier_db_open(runner, server.url_unix,
                                   PIER_DB_OPTIONS(.init = on_init, .hook_data = hello), &err);
    assert_null(hooked);
    assert_int_equal(err.status, PIER_EUSER);
    assert_non_null(strstr(err.message, "init hook"));
    assert_non_null(strstr(err.message, "not today: hello"));
}

static void test_hooks__a_failing_setup_discards_the_connection(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *hooked = open_hooked(&err);
    atomic_store(&failing_setups, 1);
    assert_int_equal(pier_db_execute(hooked, "select 1", NULL, &err), PIER_ESQL);
    assert_non_null(strstr(err.message, "setup hook"));
    assert_int_equal(pier_db_execute(hooked, "select 1", NULL, &err), 0);
    assert_int_equal(inits, 2);
    pier_db_close(hooked);
}

static void test_hooks__a_failing_cleanup_discards_the_connection(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *hooked = open_hooked(&err);
    pier_log_set(NULL, PIER_LOG_WARNING, NULL);
    atomic_store(&failing_cleanups, 1);
    assert_int_equal(pier_db_execute(hooked, "select 1", NULL, &err), 0);
    assert_int_equal(pier_db_execute(hooked, "select 1", NULL, &err), 0);
    assert_int_equal(inits, 2);
    pier_db_close(hooked);
}

static int never_end(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    return (int)pier_db_execute(connection, "select pg_sleep(100)", NULL, err);
}

static void test_hooks__are_cancelled_with_who_waits_for_them(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *hooked = pier_db_open(runner, server.url_unix,
                                   PIER_DB_OPTIONS(.pool_max = 1, .setup = never_end), &err);
    assert_non_null(hooked);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &err);
    assert_int_equal(pier_db_execute(hooked, "select 1", NULL, &err), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_true(await_running("pg_sleep", 0));
    pier_future *future = pier_db_lease_async(hooked);
    assert_true(await_running("pg_sleep", 1));
    pier_future_cancel(future);
    assert_null(pier_db_lease_finish(future, &err));
    assert_int_equal(err.status, PIER_ECANCELLED);
    assert_true(await_running("pg_sleep", 0));
    pier_db_close(hooked);
}

static void test_hooks__end_with_the_runner(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner *other = pier_runner_open(NULL, &err);
    pier_db *hooked =
        pier_db_open(other, server.url_unix,
                     PIER_DB_OPTIONS(.pool_max = 2, .setup = never_end, .cleanup = never_end),
                     &err);
    pier_future *future = pier_db_lease_async(hooked);
    assert_true(await_running("pg_sleep", 1));
    pier_runner_close(other);
    assert_null(pier_db_lease_finish(future, &err));
    assert_true(await_running("pg_sleep", 0));
}

static int leave_open(pier_db *connection, void *user_data, pier_error *err)
{
    (void)user_data;
    return pier_db_execute_script(connection, "begin", err);
}

static void test_hooks__must_not_leave_a_transaction_open(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *hooked = pier_db_open(runner, server.url_unix,
                                   PIER_DB_OPTIONS(.pool_max = 1, .setup = leave_open), &err);
    assert_int_equal(pier_db_execute(hooked, "select 1", NULL, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "left a transaction open"));
    pier_db_close(hooked);
}

static void test_hooks__on_the_connections_of_the_minimum(void **state)
{
    (void)state;
    pier_error err = {0};
    reset_counts();
    pier_db *hooked = pier_db_open(runner, server.url_unix,
                                   PIER_DB_OPTIONS(.pool_max = 3, .pool_min = 3, .init = on_init,
                                                   .cleanup = on_cleanup, .hook_data = hello),
                                   &err);
    assert_true(await_count(&inits, 3));
    assert_int_equal(cleanups, 0);
    pier_db_close(hooked);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_hooks__run_when_it_is_made_borrowed_and_given_back),
        TEST(test_hooks__a_failing_init_reaches_who_opens),
        TEST(test_hooks__a_failing_setup_discards_the_connection),
        TEST(test_hooks__a_failing_cleanup_discards_the_connection),
        TEST(test_hooks__are_cancelled_with_who_waits_for_them),
        TEST(test_hooks__end_with_the_runner),
        TEST(test_hooks__must_not_leave_a_transaction_open),
        TEST(test_hooks__on_the_connections_of_the_minimum),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
