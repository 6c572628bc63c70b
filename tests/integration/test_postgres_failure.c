/* Postgres when the other side, or this process, does not go on as it should: servers that end,
 * connections that break, many threads, fork, and closing with work in flight. */
#include "tests/integration/postgres_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

static void assert_usable(pier_db *pool)
{
    pier_error err = {0};
    for (int i = 0; i < 8; i++) {
        int number = 0;
        int got =
            pier_db_fetch_into(pool, "select $1::int", PIER_ARGS(i), PIER_INTO(&number), &err);
        assert_string_equal(err.message, "");
        assert_int_equal(got, 1);
        assert_int_equal(number, i);
    }
}

/* Servers and connections that end. */

static void test_failure__a_session_that_is_terminated_in_mid_query(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *future = pier_db_execute_async(db, "select pg_sleep(30)", NULL);
    assert_true(await_running("pg_sleep", 1));
    look_int("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep%' "
             "and pid <> pg_backend_pid()");
    assert_int_equal(pier_db_execute_finish(future, &err), PIER_EIO);
    assert_string_equal(err.sqlstate, "57P01");
    assert_non_null(strstr(err.message, "the next call makes a new one"));
    assert_usable(db);
}

static void test_failure__sessions_that_are_terminated_while_idle(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *leases[4];
    for (int i = 0; i < 4; i++) {
        leases[i] = pier_db_lease(db, &err);
        assert_int_equal(pier_db_execute(leases[i], "select 1", NULL, &err), 0);
    }
    for (int i = 0; i < 4; i++) {
        pier_db_close(leases[i]);
    }
    look_int(
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = "
        "'pier'");
    assert_true(await_connections(0));
    /* The first one is trusted, because it was used a moment ago; its end makes the others suspect.
     */
    int failures = 0;
    for (int i = 0; i < 8; i++) {
        memset(&err, 0, sizeof err);
        if (pier_db_execute(db, "select 1", NULL, &err) < 0) {
            assert_int_equal(err.status, PIER_EIO);
            failures++;
        }
    }
    assert_true(failures <= 1);
    assert_usable(db);
}

/* On a connection cut by the proxy after so many bytes of the answer. */
static void cut_an_answer(bool reset, int64_t bytes)
{
    pier_error err = {0};
    char url[128];
    struct support_proxy *proxy = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(proxy));
    support_proxy_use_reset(proxy, reset);
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    assert_non_null(pool);
    assert_usable(pool);
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, bytes);
    pier_result *rows = pier_db_fetch(pool, "select repeat('x', 100000)", NULL, &err);
    assert_null(rows);
    assert_int_equal(err.status, PIER_EIO);
    assert_non_null(strstr(err.message, "broke while"));
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
    assert_usable(pool);
    pier_db_close(pool);
    support_proxy_stop(proxy);
}

static void test_failure__a_connection_that_breaks_within_an_answer(void **state)
{
    (void)state;
    needs_own_server();
    for (int reset = 0; reset < 2; reset++) {
        cut_an_answer(reset, 0);
        cut_an_answer(reset, 1);
        cut_an_answer(reset, 60);
        cut_an_answer(reset, 50000);
    }
}

static void test_failure__a_connection_that_breaks_within_a_cursor(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    char url[128];
    struct support_proxy *proxy = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(proxy));
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, 200000);
    pier_cursor *cursor =
        pier_db_cursor(pool, "select g from generate_series(1, 1000000) g", NULL, &err);
    int count = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        assert_int_equal(pier_row_int64(row, 0), ++count);
    }
    assert_in_range(count, 100, 50000);
    assert_int_equal(pier_cursor_close(cursor, &err), PIER_EIO);
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
    assert_usable(pool);
    pier_db_close(pool);
    support_proxy_stop(proxy);
}

static void test_failure__a_transaction_whose_connection_broke(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *tx = pier_db_begin(db, NULL, &err);
    int pid = 0;
    char sql[64];
    assert_int_equal(pier_db_fetch_into(tx, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err),
                     1);
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    look_int(sql);
    assert_true(await_connections(0));
    assert_int_equal(pier_db_execute(tx, "select 1", NULL, &err), PIER_EIO);
    assert_true(pier_db_commit(tx, &err) < 0);
    pier_db_close(tx);
    assert_usable(db);
}

/* The observer's connection ends with the server. */
static void reconnect_observer(void)
{
    PQfinish(observer);
    assert_int_equal(connect_observer(), 0);
}

static void test_failure__a_server_that_is_killed_in_mid_query(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_future *futures[3];
    for (int i = 0; i < 3; i++) {
        futures[i] = pier_db_execute_async(db, "select pg_sleep(30)", NULL);
    }
    assert_true(await_running("pg_sleep", 3));
    assert_int_equal(support_postgres_kill9(&server), 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &err), PIER_EIO);
    }
    assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), PIER_ECONNECT);
    assert_int_equal(support_postgres_restart(&server), 0);
    assert_usable(db);
    reconnect_observer();
}

static void test_failure__a_server_that_is_restarted(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    assert_usable(db);
    assert_int_equal(support_postgres_restart(&server), 0);
    /* At most one call can have trusted a connection too long. */
    (void)!pier_db_execute(db, "select 1", NULL, &err);
    assert_usable(db);
    reconnect_observer();
}

/* Idle for more than a second, a connection is looked at before it is used. */
static void test_failure__a_restart_long_ago_is_not_noticed(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    for (int in_task = 0; in_task < 2; in_task++) {
        assert_usable(db);
        assert_int_equal(support_postgres_restart(&server), 0);
        int64_t restarted = support_now_ms();
        reconnect_observer();
        look_int("select pg_sleep(1.2)");
        assert_true(support_now_ms() - restarted > 1100);
        if (in_task) {
            assert_int_equal(
                pier_db_execute_finish(pier_db_execute_async(db, "select 1", NULL), &err), 0);
        } else {
            assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), 0);
        }
        assert_string_equal(err.message, "");
    }
}

/* Many threads. */

enum { THREADS = 16, QUERIES = 200 };

struct worker {
    pthread_t thread;
    int index;
    int64_t sum;
    int failures;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < QUERIES; i++) {
        int number = 0;
        int got = pier_db_fetch_into(db, "select $1::int + $2::int", PIER_ARGS(worker->index, i),
                                     PIER_INTO(&number), NULL);
        worker->failures += got != 1 || number != worker->index + i;
        if (i % 20 == 0) {
            pier_db *tx = pier_db_begin(db, NULL, NULL);
            worker->failures +=
                pier_db_execute(tx, "insert into work values($1)", PIER_ARGS(i), NULL) != 1;
            worker->failures += i % 40 == 0 && pier_db_commit(tx, NULL) != 0;
            pier_db_close(tx);
        }
    }
    return NULL;
}

static void test_threads__share_the_connections(void **state)
{
    (void)state;
    struct worker workers[THREADS] = {0};
    pier_error err = {0};
    assert_int_equal(pier_db_execute(db, "create table work(id int)", NULL, &err), 0);
    for (int i = 0; i < THREADS; i++) {
        workers[i].index = i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    /* At the same time the loop wants some of them. */
    for (int i = 0; i < 100; i++) {
        assert_int_equal(pier_db_execute_finish(pier_db_execute_async(db, "select 1", NULL), &err),
                         0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].failures, 0);
    }
    assert_true(look_int("select count(*) from pg_stat_activity where application_name = 'pier'") <=
                4);
    assert_int_equal(look_int("select count(*) from work"), THREADS * QUERIES / 40);
}

/* Fork. */

static int in_child(pier_db *tx, pier_cursor *cursor)
{
    pier_error err = {0};
    int wrong = 0;
    wrong += pier_db_execute(db, "select 1", NULL, &err) != PIER_EFORKED;
    wrong += pier_db_begin(db, NULL, &err) != NULL || err.status != PIER_EFORKED;
    (void)!pier_cursor_close(cursor, &err);
    pier_db_close(tx);
    pier_db_close(db);
    pier_runner_close(runner);
    return wrong;
}

static void test_fork__leaves_the_parents_sessions_alone(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_db_execute(db, "create table t(id int)", NULL, &err), 0);
    pier_db *tx = pier_db_begin(db, NULL, &err);
    assert_int_equal(pier_db_execute(tx, "insert into t values(1)", NULL, &err), 1);
    pier_cursor *cursor =
        pier_db_cursor(db, "select g from generate_series(1, 100000) g", NULL, &err);
    assert_non_null(pier_cursor_next(cursor));
    pid_t child = fork();
    if (child == 0) {
        _exit(in_child(tx, cursor));
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
    int count = 1;
    while (pier_cursor_next(cursor)) {
        count++;
    }
    assert_int_equal(count, 100000);
    assert_int_equal(pier_cursor_close(cursor, &err), 0);
    assert_int_equal(pier_db_commit(tx, &err), 0);
    pier_db_close(tx);
    assert_usable(db);
}

/* Closing. */

static void test_close__with_work_in_flight(void **state)
{
    (void)state;
    enum { MANY = 20 };
    pier_error err = {0};
    pier_db *pool = open_pool(4);
    pier_future *futures[MANY];
    for (int i = 0; i < MANY; i++) {
        futures[i] = pier_db_execute_async(pool, "select pg_sleep(30)", NULL);
    }
    assert_true(await_running("pg_sleep", 4));
    int64_t started = support_now_ms();
    for (int i = 0; i < MANY; i++) {
        pier_future_cancel(futures[i]);
    }
    pier_db_close(pool);
    assert_true(support_now_ms() - started < 8000);
    for (int i = 0; i < MANY; i++) {
        assert_true(pier_db_execute_finish(futures[i], &err) < 0);
    }
    assert_true(await_running("pg_sleep", 0));
}

static void test_close__of_the_runner_with_work_in_flight(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner *usual = runner;
    pier_future *futures[8];
    runner = pier_runner_open(NULL, &err);
    pier_db *pool = open_pool(4), *tx = pier_db_begin(pool, NULL, &err);
    assert_int_equal(pier_db_execute(tx, "create table t(id int)", NULL, &err), 0);
    pier_cursor *cursor = pier_db_cursor(pool, "select generate_series(1, 10000000)", NULL, &err);
    assert_non_null(pier_cursor_next(cursor));
    for (int i = 0; i < 8; i++) {
        futures[i] = pier_db_execute_async(pool, "select pg_sleep(30)", NULL);
    }
    assert_true(await_running("pg_sleep", 2));
    int64_t started = support_now_ms();
    pier_runner_close(runner);
    runner = usual;
    assert_true(support_now_ms() - started < 8000);
    for (int i = 0; i < 8; i++) {
        assert_true(pier_db_execute_finish(futures[i], &err) < 0);
    }
    assert_true(await_running("pg_sleep", 0));
    assert_int_equal(look_int("select count(*) from pg_class where relname = 't'"), 0);
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return (int)pier_db_execute(arg, "select pg_sleep(30)", NULL, err);
}

static void test_close__of_the_runner_with_tasks_in_flight(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner *usual = runner;
    runner = pier_runner_open(NULL, &err);
    pier_db *pool = open_pool(4);
    pier_future *task = pier_task_start(runner, sleep_long, pool);
    assert_true(await_running("pg_sleep", 1));
    int64_t started = support_now_ms();
    pier_runner_close(runner);
    runner = usual;
    assert_true(support_now_ms() - started < 8000);
    assert_true(pier_task_finish(task, &err) < 0);
    assert_true(await_running("pg_sleep", 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_failure__a_session_that_is_terminated_in_mid_query),
        TEST(test_failure__sessions_that_are_terminated_while_idle),
        TEST(test_failure__a_connection_that_breaks_within_an_answer),
        TEST(test_failure__a_connection_that_breaks_within_a_cursor),
        TEST(test_failure__a_transaction_whose_connection_broke),
        TEST(test_failure__a_server_that_is_killed_in_mid_query),
        TEST(test_failure__a_server_that_is_restarted),
        TEST(test_failure__a_restart_long_ago_is_not_noticed),
        TEST(test_threads__share_the_connections),
        TEST(test_fork__leaves_the_parents_sessions_alone),
        TEST(test_close__with_work_in_flight),
        TEST(test_close__of_the_runner_with_work_in_flight),
        TEST(test_close__of_the_runner_with_tasks_in_flight),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
