/* What keeps a pool of connections in order: the keeper, over a database without a server and with
 * a clock that stands still until the test sets it forward. */
#include "tests/unit/fake_db.h"
#include "tests/unit/passing_time.h"

static pier_db *db;

enum { LEASES = 20 };

static pier_db *leases[LEASES];

static int open_stopped(void **state)
{
    fake_reset();
    time_stop();
    return open_runner(state);
}

static int close_stopped(void **state)
{
    pier_db_close(db);
    db = NULL;
    close_runner(state);
    time_go_on();
    return fake.made == fake.ended ? 0 : -1;
}

static void open_pool(const pier_db_options *options)
{
    pier_error err = {0};
    db = pier_db_open(runner, "fake:", options, &err);
    if (!db) {
        fail_msg("%s", err.message);
    }
}

static int do_nothing(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

/* Time passes; when this returns the keeper has looked. What it starts runs at once. */
static void pass_ms(int64_t ms)
{
    time_pass_ms(ms);
    pier__op_wake(db->keeper);
    for (int i = 0; i < 3; i++) { /* the loop has seen its inbox, and what is ready */
        assert_int_equal(pier_task_run(runner, do_nothing, NULL, NULL), 0);
    }
}

static pier_pool_stats stats(void)
{
    return fake_stats(db);
}

static void take_leases(int count)
{
    for (int i = 0; i < count; i++) {
        leases[i] = pier_db_lease(db, NULL);
        assert_non_null(leases[i]);
    }
}

static void close_leases(int count)
{
    for (int i = 0; i < count; i++) {
        pier_db_close(leases[i]);
    }
}

static void break_lease(int i)
{
    assert_int_equal(pier_db_execute(leases[i], "break", NULL, NULL), PIER_EIO);
    pier_db_close(leases[i]);
}

static void use_once(void)
{
    assert_int_equal(pier_db_execute(db, "use", NULL, NULL), 0);
}

/* ---- The minimum -------------------------------------------------------------------------- */

static void test_minimum__is_made_without_being_asked_for(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 3));
    pass_ms(0);
    assert_int_equal(stats().size, 3);
    assert_int_equal(stats().idle, 3);
    assert_int_equal(stats().acquires, 1); /* that of the opening */
}

static void test_minimum__is_made_good_at_most_once_in_10_ms(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 2));
    pass_ms(10);
    take_leases(2);
    break_lease(0);
    pass_ms(9);
    assert_int_equal(stats().size, 1);
    pass_ms(1);
    assert_int_equal(stats().size, 2);
    break_lease(1);
    pass_ms(10);
    assert_int_equal(stats().size, 2);
    assert_int_equal(stats().lost, 2);
}

/* ---- Idle time, age, uses ----------------------------------------------------------------- */

static void test_idle__those_above_the_minimum_are_closed_at_their_time(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 1, .idle_timeout_ms = 40000));
    take_leases(3);
    close_leases(3);
    pass_ms(39999);
    assert_int_equal(stats().size, 3);
    pass_ms(1); /* the keeper looks four times in that time, not whenever it is woken */
    assert_int_equal(stats().size, 3);
    pass_ms(9999);
    assert_int_equal(stats().size, 1);
    assert_int_equal(stats().idle_ended, 2);
    assert_int_equal(stats().retired, 2);
    assert_int_equal(stats().lost, 0);
    assert_int_equal(fake.ended, 2);
}

static void test_idle__for_ever_where_it_is_asked_for(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.idle_timeout_ms = PIER_FOREVER, .lifetime_ms = PIER_FOREVER));
    take_leases(2);
    close_leases(2);
    pass_ms(INT64_C(1000) * 86400 * 365);
    assert_int_equal(stats().size, 2);
}

static void test_idle__is_counted_from_the_last_use(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.idle_timeout_ms = 40000));
    pass_ms(30000);
    use_once();
    pass_ms(30000);
    assert_int_equal(stats().size, 1);
    pass_ms(10000);
    assert_int_equal(stats().size, 0);
}

static int64_t lifetimes[LEASES];
static int lifetime_count;

static void note_lifetime(pier__pooled *thing, void *data)
{
    (void)data;
    lifetimes[lifetime_count++] = thing->ends_at - time_now();
}

static void test_lifetime__is_shorter_by_up_to_a_tenth(void **state)
{
    (void)state;
    int short_ones = 0;
    lifetime_count = 0;
    open_pool(PIER_DB_OPTIONS(.pool_max = LEASES, .lifetime_ms = 1000));
    take_leases(LEASES);
    pier__pool_each(&db->pool, note_lifetime, NULL);
    close_leases(LEASES);
    assert_int_equal(lifetime_count, LEASES);
    for (int i = 0; i < LEASES; i++) {
        assert_in_range(lifetimes[i], 900 * TIME_MS, 1000 * TIME_MS);
        short_ones += lifetimes[i] < 950 * TIME_MS;
    }
    assert_in_range(short_ones, 1, LEASES - 1);
    pass_ms(899);
    assert_int_equal(stats().size, LEASES);
    pass_ms(250);
    assert_int_equal(stats().size, 0);
    assert_int_equal(stats().retired, LEASES);
    assert_int_equal(stats().idle_ended, 0);
}

static void test_lifetime__of_one_in_use_ends_when_it_comes_back(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 1, .lifetime_ms = 1000));
    take_leases(1);
    pass_ms(5000);
    assert_int_equal(stats().retired, 0);
    close_leases(1);
    assert_int_equal(stats().retired, 1);
    pass_ms(10);
    assert_int_equal(stats().size, 1); /* another one */
    assert_int_equal(stats().made, 2);
}

static void test_uses_max__replaces_one_after_so_many(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.uses_max = 3)); /* opening it counts */
    use_once();
    assert_int_equal(stats().retired, 0);
    use_once();
    assert_int_equal(stats().retired, 1);
    assert_int_equal(stats().size, 0);
    use_once();
    assert_int_equal(stats().made, 2);
}

static void test_uses_max__may_be_any_number(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.uses_max = PIER_NONE));
    for (int i = 0; i < 1000; i++) {
        use_once();
    }
    assert_int_equal(stats().made, 1);
}

/* ---- Failures to connect ------------------------------------------------------------------ */

static void test_open__that_fails_is_told(void **state)
{
    (void)state;
    pier_error err = {0};
    atomic_store(&fake.refuses, 1);
    assert_null(pier_db_open(runner, "fake:", PIER_DB_OPTIONS(.pool_min = 2), &err));
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_int_equal(fake.attempts, 1);
}

static void test_keeper__tries_again_for_who_waits_with_pauses(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_max = 3));
    take_leases(1);
    pass_ms(10);
    atomic_store(&fake.refuses, -1);
    atomic_store(&fake.attempts, 0);
    assert_int_equal(pier_db_execute(db, "use", NULL, NULL), PIER_ECONNECT); /* the first to know */
    pier_future *waits = pier_db_execute_async(db, "use", NULL);
    pass_ms(10);
    assert_int_equal(fake.attempts, 1);
    pass_ms(40);
    assert_int_equal(fake.attempts, 2);
    pass_ms(49); /* between 50 and 100 this time */
    assert_int_equal(fake.attempts, 2);
    pass_ms(51);
    assert_int_equal(fake.attempts, 3);
    assert_false(pier_future_done(waits));
    atomic_store(&fake.refuses, 0);
    pass_ms(200);
    assert_int_equal(pier_db_execute_finish(waits, NULL), 0);
    assert_int_equal(fake.attempts, 5); /* the trial, and one of its own for who waited */
    assert_int_equal(stats().failed, 3);
    close_leases(1);
}

static void test_keeper__restores_the_minimum_with_pauses(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 3));
    pass_ms(10);
    take_leases(3);
    atomic_store(&fake.refuses, -1);
    atomic_store(&fake.attempts, 0);
    for (int i = 0; i < 3; i++) {
        break_lease(i);
    }
    pass_ms(10);
    assert_in_range(fake.attempts, 1, 3); /* those that began together */
    for (int i = 0; i < 4; i++) {
        int before = atomic_load(&fake.attempts);
        pass_ms(600);
        assert_int_equal(fake.attempts, before + 1);
    }
    atomic_store(&fake.refuses, 0);
    pass_ms(600);
    pass_ms(10);
    assert_int_equal(stats().size, 3);
    assert_int_equal(stats().idle, 3);
}

static atomic_int failing_inits;

static int fail_init(pier_db *connection, void *user_data, pier_error *err)
{
    (void)connection;
    (void)user_data;
    return atomic_load(&failing_inits) > 0 && atomic_fetch_sub(&failing_inits, 1) > 0
               ? pier_error_set(err, PIER_EUSER, "not today")
               : 0;
}

/* Where the program's own function refuses new connections, they are tried with pauses too. */
static void test_init__that_fails_is_a_failure_to_connect(void **state)
{
    (void)state;
    pier_error err = {0};
    open_pool(PIER_DB_OPTIONS(.pool_max = 2, .init = fail_init));
    take_leases(1);
    atomic_store(&failing_inits, 1);
    assert_int_equal(pier_db_execute(db, "use", NULL, &err), PIER_EUSER);
    assert_int_equal(stats().failed, 1);
    pier_future *waits = pier_db_execute_async(db, "use", NULL);
    pass_ms(10);
    assert_false(pier_future_done(waits));
    pass_ms(40);
    assert_int_equal(pier_db_execute_finish(waits, NULL), 0);
    close_leases(1);
}

static bool is_held(void *unused)
{
    (void)unused;
    return atomic_load(&fake.held) != NULL;
}

static void test_keeper__has_one_attempt_under_way_after_a_failure(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 3, .connect_timeout_ms = 3600000));
    pass_ms(10);
    take_leases(3);
    atomic_store(&fake.refuses, 3);
    for (int i = 0; i < 3; i++) {
        break_lease(i);
    }
    pass_ms(10);
    atomic_store(&fake.refuses, 0);
    atomic_store(&fake.holds, true);
    atomic_store(&fake.at_once_max, 0);
    pass_ms(600);
    assert_true(support_wait_until(is_held, NULL, BOUND_MS));
    pier_future *waits = pier_db_execute_async(db, "use", NULL);
    pass_ms(1000);
    pass_ms(1000);
    assert_int_equal(fake.at_once_max, 1);
    assert_false(pier_future_done(waits));
    fake_let_go();
    assert_int_equal(pier_db_execute_finish(waits, NULL), 0);
    pass_ms(10);
    assert_int_equal(stats().size, 3);
}

/* ---- Who may wait, expiring, draining ----------------------------------------------------- */

static void test_waiting_max__fails_who_comes_at_once(void **state)
{
    (void)state;
    pier_error err = {0};
    open_pool(PIER_DB_OPTIONS(.pool_max = 1, .waiting_max = 1));
    take_leases(1);
    pier_future *waits = pier_db_execute_async(db, "use", NULL);
    pass_ms(0);
    assert_int_equal(pier_db_execute_finish(pier_db_execute_async(db, "use", NULL), &err),
                     PIER_EPOOL);
    assert_non_null(strstr(err.message, "waiting_max"));
    assert_int_equal(stats().refused, 1);
    close_leases(1);
    assert_int_equal(pier_db_execute_finish(waits, NULL), 0);
}

static void test_expire__makes_the_minimum_anew(void **state)
{
    (void)state;
    open_pool(PIER_DB_OPTIONS(.pool_min = 3));
    pass_ms(10);
    take_leases(1);
    pier_db_expire(db);
    assert_int_equal(stats().idle, 0);
    assert_int_equal(fake.ended, 2);
    pass_ms(10);
    assert_int_equal(stats().idle, 2);
    close_leases(1);
    assert_int_equal(fake.ended, 3);
    pass_ms(10);
    assert_int_equal(stats().idle, 3);
    assert_int_equal(stats().retired, 3);
    assert_int_equal(stats().lost, 0);
}

static void test_drain__ends_with_the_last_connection_in_use(void **state)
{
    (void)state;
    pier_error err = {0};
    open_pool(PIER_DB_OPTIONS(.pool_min = 3));
    pass_ms(10);
    take_leases(1);
    pier_future *drained = pier_db_drain_async(db, 0);
    pass_ms(10);
    assert_false(pier_future_done(drained));
    assert_int_equal(stats().size, 1); /* the keeper makes no more */
    assert_int_equal(pier_db_execute(db, "use", NULL, &err), PIER_ECLOSED);
    assert_int_equal(pier_db_execute(leases[0], "use", NULL, NULL), 0);
    close_leases(1);
    assert_int_equal(pier_db_drain_finish(drained, NULL), 0);
    assert_int_equal(stats().size, 0);
}

static void test_drain__ends_at_its_time_and_says_who_is_left(void **state)
{
    (void)state;
    pier_error err = {0};
    open_pool(NULL);
    take_leases(2);
    pier_future *drained = pier_db_drain_async(db, 1000);
    pass_ms(0); /* it has begun */
    pass_ms(999);
    assert_false(pier_future_done(drained));
    pass_ms(2); /* libuv counts whole milliseconds */
    assert_int_equal(pier_db_drain_finish(drained, &err), PIER_ETIMEDOUT);
    assert_non_null(strstr(err.message, "1000 ms: 2 leases"));
    close_leases(2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_stopped, close_stopped)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_minimum__is_made_without_being_asked_for),
        TEST(test_minimum__is_made_good_at_most_once_in_10_ms),
        TEST(test_idle__those_above_the_minimum_are_closed_at_their_time),
        TEST(test_idle__for_ever_where_it_is_asked_for),
        TEST(test_idle__is_counted_from_the_last_use),
        TEST(test_lifetime__is_shorter_by_up_to_a_tenth),
        TEST(test_lifetime__of_one_in_use_ends_when_it_comes_back),
        TEST(test_uses_max__replaces_one_after_so_many),
        TEST(test_uses_max__may_be_any_number),
        TEST(test_open__that_fails_is_told),
        TEST(test_keeper__tries_again_for_who_waits_with_pauses),
        TEST(test_keeper__restores_the_minimum_with_pauses),
        TEST(test_init__that_fails_is_a_failure_to_connect),
        TEST(test_keeper__has_one_attempt_under_way_after_a_failure),
        TEST(test_waiting_max__fails_who_comes_at_once),
        TEST(test_expire__makes_the_minimum_anew),
        TEST(test_drain__ends_with_the_last_connection_in_use),
        TEST(test_drain__ends_at_its_time_and_says_who_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
