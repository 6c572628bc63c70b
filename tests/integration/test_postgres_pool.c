/* Postgres pools: how many connections there are, for how long, and who gets them. */
#include "tests/integration/postgres_fixture.h"

#include "tests/support/wait.h"

static pier_pool_stats stats_of(pier_db *pool)
{
    pier_pool_stats stats;
    pier_db_stats(pool, &stats);
    return stats;
}

static pier_db *open_with(const pier_db_options *options)
{
    pier_error err = {0};
    pier_db *pool = pier_db_open(runner, server.url_unix, options, &err);
    assert_string_equal(err.message, "");
    return pool;
}

static int pid_of(pier_db *scope)
{
    pier_error err = {0};
    int pid = 0;
    int got = pier_db_fetch_into(scope, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    return pid;
}

/* Besides those of the fixture's pool, which has made one. */
static bool await_size(int count)
{
    return await_int("select count(*) - 1 from pg_stat_activity where application_name = 'pier'",
                     count);
}

static void terminate_all(void)
{
    look_int("select count(pg_terminate_backend(pid)) from pg_stat_activity where "
             "application_name = 'pier'");
}

/* How many, and for how long. */

static void test_pool__its_minimum_is_made_at_once(void **state)
{
    (void)state;
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 5, .pool_min = 3));
    assert_true(await_size(3));
    assert_int_equal(stats_of(pool).size, 3);
    pier_db_close(pool);
}

struct sized {
    pier_db *pool;
    int size, idle;
};

static bool has_size(void *arg)
{
    struct sized *sized = arg;
    pier_pool_stats stats = stats_of(sized->pool);
    return stats.size == sized->size && stats.idle == sized->idle;
}

static void test_pool__its_minimum_is_restored_when_a_lease_is_lost(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 3, .pool_min = 3));
    struct sized full = {pool, 3, 3};
    assert_true(support_wait_until(has_size, &full, BOUND_MS));
    pier_db *leases[3];
    for (int i = 0; i < 3; i++) {
        leases[i] = pier_db_lease(pool, &err);
        assert_non_null(leases[i]);
    }
    terminate_all();
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pier_db_execute(leases[i], "select 1", NULL, &err), PIER_EIO);
        pier_db_close(leases[i]);
    }
    assert_true(support_wait_until(has_size, &full, BOUND_MS));
    assert_int_equal(stats_of(pool).made, 6);
    assert_int_equal(stats_of(pool).lost, 3);
    pier_db_close(pool);
}

static void test_pool__closes_what_is_idle_down_to_its_minimum(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 4, .pool_min = 1, .idle_timeout_ms = 40));
    pier_db *leases[4];
    for (int i = 0; i < 4; i++) {
        leases[i] = pier_db_lease(pool, &err);
    }
    assert_int_equal(stats_of(pool).size, 4);
    for (int i = 0; i < 4; i++) {
        pier_db_close(leases[i]);
    }
    assert_true(await_size(1));
    /* The server lets go of a session before the pool takes it off. */
    assert_true(support_wait_until(has_size, &(struct sized){pool, 1, 1}, BOUND_MS));
    assert_int_equal(stats_of(pool).idle_ended, 3);
    assert_int_equal(stats_of(pool).lost, 0);
    pier_db_close(pool);
}

static void test_pool__replaces_a_connection_of_age(void **state)
{
    (void)state;
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 1, .pool_min = 1, .lifetime_ms = 60));
    char sql[80];
    snprintf(sql, sizeof sql, "select count(*) from pg_stat_activity where pid = %d", pid_of(pool));
    assert_true(await_int(sql, 0));
    assert_true(await_size(1));
    assert_true(stats_of(pool).retired >= 1);
    pier_db_close(pool);
}

static void test_pool__replaces_a_connection_that_was_used_often(void **state)
{
    (void)state;
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 1, .uses_max = 3));
    int first = pid_of(pool); /* the opening was a use as well */
    assert_int_equal(pid_of(pool), first);
    int second = pid_of(pool);
    assert_int_not_equal(second, first);
    assert_int_equal(stats_of(pool).retired, 1);
    pier_db_close(pool);
    pool = open_with(PIER_DB_OPTIONS(.pool_max = 1, .uses_max = PIER_NONE));
    first = pid_of(pool);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pid_of(pool), first);
    }
    pier_db_close(pool);
}

static void test_expire__replaces_all_there_are(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 2));
    pier_db *lease = pier_db_lease(pool, &err);
    int leased = pid_of(lease), idle = pid_of(pool);
    pier_db_expire(pool);
    assert_int_equal(pid_of(lease), leased); /* whoever has it keeps it */
    int after = pid_of(pool);
    assert_int_not_equal(after, idle);
    pier_db_close(lease);
    lease = pier_db_lease(pool, &err);
    pier_db *other = pier_db_lease(pool, &err);
    assert_int_not_equal(pid_of(lease), leased);
    assert_int_not_equal(pid_of(other), leased);
    pier_db_close(other);
    pier_db_close(lease);
    assert_int_equal(stats_of(pool).retired, 2);
    pier_db_expire(NULL);
    pier_db_close(pool);
}

/* Who waits. */

static bool has_waiter(void *pool)
{
    return stats_of(pool).waiting > 0;
}

static void test_waiting_max__fails_the_next_at_once(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 1, .waiting_max = 1));
    pier_db *lease = pier_db_lease(pool, &err);
    pier_future *waits = pier_db_execute_async(pool, "select 1", NULL);
    assert_true(support_wait_until(has_waiter, pool, BOUND_MS));
    pier_future *refused = pier_db_execute_async(pool, "select 1", NULL);
    assert_int_equal(pier_db_execute_finish(refused, &err), PIER_EPOOL);
    assert_non_null(strstr(err.message, "waiting_max"));
    assert_int_equal(stats_of(pool).refused, 1);
    pier_db_close(lease);
    assert_int_equal(pier_db_execute_finish(waits, &err), 0);
    pier_db_close(pool);
    pool = open_with(PIER_DB_OPTIONS(.pool_max = 1, .waiting_max = PIER_NONE));
    lease = pier_db_lease(pool, &err);
    refused = pier_db_execute_async(pool, "select 1", NULL);
    assert_int_equal(pier_db_execute_finish(refused, &err), PIER_EPOOL);
    pier_db_close(lease);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), 0);
    pier_db_close(pool);
}

static int insert_in_task(pier_task *self, void *pool, pier_error *err)
{
    (void)self;
    return (int)pier_db_execute(pool, "insert into arrived(who) values ('task')", NULL, err);
}

static void *insert_in_thread(void *pool)
{
    pier_error err = {0};
    return pier_db_execute(pool, "insert into arrived(who) values ('thread')", NULL, &err) == 1
               ? pool
               : NULL;
}

struct waiters {
    pier_db *pool;
    int count;
};

static bool have_come(void *arg)
{
    struct waiters *waiters = arg;
    return stats_of(waiters->pool).waiting == waiters->count;
}

static void test_waiters__are_served_in_the_order_of_their_coming(void **state)
{
    (void)state;
    pier_error err = {0};
    char order[64];
    look_int("create table arrived(id serial, who text)");
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 1));
    pier_db *lease = pier_db_lease(pool, &err);
    struct waiters waiters = {pool, 0};
    pier_future *futures[4];
    pthread_t threads[2];
    for (int i = 0; i < 2; i++) {
        futures[2 * i] = pier_task_start(runner, insert_in_task, pool);
        waiters.count++;
        assert_true(support_wait_until(have_come, &waiters, BOUND_MS));
        pthread_create(&threads[i], NULL, insert_in_thread, pool);
        waiters.count++;
        assert_true(support_wait_until(have_come, &waiters, BOUND_MS));
        futures[2 * i + 1] =
            pier_db_execute_async(pool, "insert into arrived(who) values ('callback')", NULL);
        waiters.count++;
        assert_true(support_wait_until(have_come, &waiters, BOUND_MS));
    }
    pier_db_close(lease);
    for (int i = 0; i < 2; i++) {
        void *done = NULL;
        pthread_join(threads[i], &done);
        assert_non_null(done);
        assert_int_equal(pier_task_finish(futures[2 * i], &err), 1);
        assert_int_equal(pier_db_execute_finish(futures[2 * i + 1], &err), 1);
    }
    look(order, sizeof order, "select string_agg(who, ' ' order by id) from arrived");
    assert_string_equal(order, "task thread callback task thread callback");
    pier_db_close(pool);
}

enum { ROUNDS = 60 };

/* Acquires that give up in the moment they are served, or thereabouts. */
static void *give_up_often(void *pool)
{
    for (int i = 0; i < ROUNDS; i++) {
        pier_error err = {0};
        if (i % 3 == 0) {
            pier_future *future = pier_db_lease_async(pool);
            pier_future_cancel(future);
            pier_db_close(pier_db_lease_finish(future, &err));
        } else if (i % 3 == 1) {
            pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1), &err);
            pier_db_close(pier_db_lease(pool, &err));
            pier_scope_close(scope);
        } else if (pier_db_execute(pool, "select 1", NULL, &err) < 0) {
            return pool;
        }
    }
    return NULL;
}

static bool is_at_rest(void *pool)
{
    pier_pool_stats stats = stats_of(pool);
    return stats.leased == 0 && stats.waiting == 0;
}

static void test_waiters__that_give_up_lose_no_connection(void **state)
{
    (void)state;
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 2));
    pthread_t threads[6];
    for (int i = 0; i < 6; i++) {
        pthread_create(&threads[i], NULL, give_up_often, pool);
    }
    for (int i = 0; i < 6; i++) {
        void *failed = NULL;
        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    assert_true(support_wait_until(is_at_rest, pool, BOUND_MS));
    pier_error err = {0};
    pier_db *first = pier_db_lease(pool, &err), *second = pier_db_lease(pool, &err);
    assert_int_not_equal(pid_of(first), pid_of(second));
    pier_db_close(first);
    pier_db_close(second);
    pier_db_close(pool);
}

/* Its end. */

static void test_close__of_a_pool_does_not_wait_for_leases(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 2, .pool_min = 2));
    pier_db *lease = pier_db_lease(pool, &err);
    pier_db_close(pool);
    assert_true(pid_of(lease) > 0);
    assert_true(await_size(1));
    pier_db_close(lease);
    assert_true(await_size(0));
}

static void test_drain__waits_until_the_last_one_is_back(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 2, .pool_min = 2));
    pier_db *lease = pier_db_lease(pool, &err);
    pier_future *drained = pier_db_drain_async(pool, PIER_FOREVER);
    assert_int_equal(pier_future_wait(drained, 30, &err), 0);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), PIER_ECLOSED);
    assert_int_equal(pier_db_execute(lease, "select 1", NULL, &err), 0);
    pier_db_close(lease);
    assert_int_equal(pier_db_drain_finish(drained, &err), 0);
    assert_true(await_size(0));
    assert_int_equal(stats_of(pool).size, 0);
    assert_int_equal(pier_db_drain(pool, 0, &err), 0); /* it is */
    pier_db_close(pool);
}

static void test_drain__says_what_it_has_waited_for(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_with(PIER_DB_OPTIONS(.pool_max = 2));
    pier_db *lease = pier_db_lease(pool, &err);
    assert_int_equal(pier_db_drain(pool, 1, &err), PIER_EDEADLOCK); /* of this thread */
    pier_future *drained = pier_db_drain_async(pool, 10);
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_drain_finish(drained, &err), PIER_ETIMEDOUT);
    assert_non_null(strstr(err.message, "a lease"));
    assert_int_equal(pier_db_drain(lease, 1, &err), PIER_EINVAL);
    pier_future *cancelled = pier_db_drain_async(pool, PIER_FOREVER);
    pier_future_cancel(cancelled);
    assert_int_equal(pier_db_drain_finish(cancelled, &err), PIER_ECANCELLED);
    pier_db_close(lease);
    pier_db_close(pool);
}

static void test_options__that_cannot_be_right(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(
        pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 2, .pool_min = 3), &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_min = -1), &err));
    assert_int_equal(err.status, PIER_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pool__its_minimum_is_made_at_once),
        TEST(test_pool__its_minimum_is_restored_when_a_lease_is_lost),
        TEST(test_pool__closes_what_is_idle_down_to_its_minimum),
        TEST(test_pool__replaces_a_connection_of_age),
        TEST(test_pool__replaces_a_connection_that_was_used_often),
        TEST(test_expire__replaces_all_there_are),
        TEST(test_waiting_max__fails_the_next_at_once),
        TEST(test_waiters__are_served_in_the_order_of_their_coming),
        TEST(test_waiters__that_give_up_lose_no_connection),
        TEST(test_close__of_a_pool_does_not_wait_for_leases),
        TEST(test_drain__waits_until_the_last_one_is_back),
        TEST(test_drain__says_what_it_has_waited_for),
        TEST(test_options__that_cannot_be_right),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
