/* What ends sessions: administrators, timeouts of the server's, crashes and shutdowns; while they
 * are idle, in a transaction, and in use. */
#include "tests/integration/postgres_fixture.h"

#include <signal.h>

enum { ENDS_MAX = 64 };

static struct {
    pthread_mutex_t lock;
    int count;
    struct {
        int pid;
        bool idle, in_transaction;
        char sqlstate[8], message[200];
    } all[ENDS_MAX];
} ends = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_end(const pier_postgres_end *end, void *user_data)
{
    (void)user_data;
    pthread_mutex_lock(&ends.lock);
    if (ends.count < ENDS_MAX) {
        ends.all[ends.count].pid = end->pid;
        ends.all[ends.count].idle = end->idle;
        ends.all[ends.count].in_transaction = end->in_transaction;
        snprintf(ends.all[ends.count].sqlstate, sizeof ends.all->sqlstate, "%s", end->sqlstate);
        snprintf(ends.all[ends.count].message, sizeof ends.all->message, "%s", end->message);
        ends.count++;
    }
    pthread_mutex_unlock(&ends.lock);
}

static int count_ends(void)
{
    pthread_mutex_lock(&ends.lock);
    int count = ends.count;
    pthread_mutex_unlock(&ends.lock);
    return count;
}

static bool has_ends(void *user_data)
{
    return count_ends() >= *(int *)user_data;
}

static bool await_ends(int count)
{
    return support_wait_until(has_ends, &count, BOUND_MS);
}

static int listen_to(pier_db *pool, pier_error *err)
{
    ends.count = 0;
    return pier_postgres_on_session_end(pool, on_end, NULL, err);
}

/* With a minimum, whose connections are looked at every 50 ms and stay. `key` is "key=value" for
 * the URL, or "". */
static pier_db *open_watchful(const char *key, pier_error *err)
{
    char url[600];
    snprintf(url, sizeof url, "%s%c%s", server.url_unix, strchr(server.url_unix, '?') ? '&' : '?',
             key);
    return pier_db_open(runner, url,
                        PIER_DB_OPTIONS(.pool_max = 2, .pool_min = 2, .idle_timeout_ms = 200), err);
}

static bool is_full(void *user_data)
{
    pier_pool_stats stats = {0};
    pier_db_stats(user_data, &stats);
    return stats.idle == 2;
}

static bool await_full(pier_db *pool)
{
    return support_wait_until(is_full, pool, BOUND_MS);
}

static int pid_of(pier_db *scope)
{
    pier_error err = {0};
    int pid = 0;
    (void)!pier_db_fetch_into(scope, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err);
    return pid;
}

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

/* Idle. */

static void test_terminate__of_an_idle_session_is_told_and_made_good(void **state)
{
    (void)state;
    pier_error err = {0};
    char sql[80];
    pier_pool_stats stats = {0};
    pier_db *pool = open_watchful("", &err);
    assert_int_equal(listen_to(pool, &err), 0);
    assert_true(await_full(pool));
    int pid = pid_of(pool);
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    look_int(sql);
    assert_true(await_ends(1)); /* nobody asks for anything */
    assert_int_equal(ends.all[0].pid, pid);
    assert_true(ends.all[0].idle && !ends.all[0].in_transaction);
    assert_string_equal(ends.all[0].sqlstate, "57P01");
    assert_non_null(strstr(ends.all[0].message, "administrator"));
    assert_true(await_full(pool));
    pier_db_stats(pool, &stats);
    assert_int_equal(stats.lost, 1);
    assert_int_equal(stats.made, 3);
    assert_usable(pool);
    assert_int_equal(count_ends(), 1);
    pier_db_close(pool);
}

static void test_terminate__by_idle_session_timeout(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_watchful("options=-c%20idle_session_timeout%3D100", &err);
    assert_int_equal(listen_to(pool, &err), 0);
    assert_true(await_ends(2));
    assert_string_equal(ends.all[0].sqlstate, "57P05");
    assert_true(ends.all[0].idle);
    pier_db_close(pool);
}

/* A notice on an idle connection, or what else comes there, ends nothing. */
static void test_terminate__is_not_what_an_idle_session_hears(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_pool_stats stats = {0};
    pier_db *pool = open_watchful("", &err);
    assert_int_equal(listen_to(pool, &err), 0);
    assert_true(await_full(pool));
    int before = pid_of(pool);
    /* ParameterStatus comes unasked when the server's configuration is read again. */
    PQclear(PQexec(observer, "alter system set timezone = 'Asia/Tokyo'"));
    PQclear(PQexec(observer, "select pg_reload_conf()"));
    assert_true(await_int("select count(*)::int from pg_settings where name = 'TimeZone' and "
                          "setting = 'Asia/Tokyo'",
                          1));
    int64_t until = support_now_ms() + 200;
    while (support_now_ms() < until) { /* several looks at them */
        look_int("select pg_sleep(0.02)");
    }
    assert_int_equal(count_ends(), 0);
    assert_int_equal(pid_of(pool), before);
    pier_db_stats(pool, &stats);
    assert_int_equal(stats.lost, 0);
    PQclear(PQexec(observer, "alter system reset timezone"));
    PQclear(PQexec(observer, "select pg_reload_conf()"));
    pier_db_close(pool);
}

static struct {
    int count, level;
    char text[512];
} logged;

static void on_log(pier_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    logged.count++;
    logged.level = (int)level;
    snprintf(logged.text, sizeof logged.text, "%s", message);
}

static void test_terminate__is_logged_where_there_is_no_hook(void **state)
{
    (void)state;
    pier_error err = {0};
    char sql[80];
    pier_db *lease = pier_db_lease(db, &err);
    int pid = pid_of(lease);
    pier_log_set(on_log, PIER_LOG_WARNING, NULL);
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    look_int(sql);
    assert_true(await_connections(0));
    assert_int_equal(pier_db_execute(lease, "select 1", NULL, &err), PIER_EIO);
    pier_log_set(NULL, PIER_LOG_ERROR, NULL);
    assert_int_equal(logged.count, 1);
    assert_int_equal(logged.level, PIER_LOG_WARNING);
    snprintf(sql, sizeof sql, "session %d, in use, was ended: ", pid);
    assert_non_null(strstr(logged.text, sql));
    assert_non_null(strstr(logged.text, "(57P01)"));
    pier_db_close(lease);
}

/* In a transaction. */

SCENARIO(test_terminate__by_idle_in_transaction_timeout_dooms_it)
{
    pier_error e = {0};
    EXPECT(listen_to(pool, &e) == 0);
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(1)", NULL, &e) == 1);
    EXPECT(pier_db_execute(tx, "set local idle_in_transaction_session_timeout = 50", NULL, &e) ==
           0);
    EXPECT(await_int("select count(*)::int from pg_stat_activity where state = 'idle in "
                     "transaction'",
                     0));
    EXPECT(pier_db_execute(tx, "insert into t values(2)", NULL, &e) == PIER_EIO);
    EXPECT(strcmp(e.sqlstate, "25P03") == 0 && strstr(e.message, "the next call makes a new one"));
    EXPECT(ends.count == 1 && ends.all[0].in_transaction && !ends.all[0].idle);
    EXPECT(strcmp(ends.all[0].sqlstate, "25P03") == 0);
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_commit(tx, &e) == PIER_EIO && strcmp(e.sqlstate, "25P03") == 0);
    pier_db_close(tx);
    int count = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*)::int from t", NULL, PIER_INTO(&count), &e) ==
           1);
    EXPECT(count == 0 && ends.count == 1);
    return 0;
}

/* Commit is the first to hear of it. */
SCENARIO(test_terminate__is_what_commit_reports)
{
    pier_error e = {0};
    EXPECT(listen_to(pool, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "set local idle_in_transaction_session_timeout = 50", NULL, &e) ==
           0);
    EXPECT(await_int("select count(*)::int from pg_stat_activity where state = 'idle in "
                     "transaction'",
                     0));
    EXPECT(pier_db_commit(tx, &e) == PIER_EIO && strcmp(e.sqlstate, "25P03") == 0);
    pier_db_close(tx);
    EXPECT(ends.count == 1);
    return 0;
}

/* The server's end. */

static void reconnect_observer(void)
{
    PQfinish(observer);
    assert_int_equal(connect_observer(), 0);
}

/* One backend that is killed has the server end all the others, and start anew. */
static void test_terminate__by_the_crash_of_another_backend(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    assert_int_equal(listen_to(db, &err), 0);
    pier_db *victim = pier_db_lease(db, &err), *other = pier_db_lease(db, &err);
    int pid = pid_of(victim), other_pid = pid_of(other);
    pier_future *future = pier_db_execute_async(other, "select pg_sleep(20)", NULL);
    assert_true(await_running("pg_sleep", 1));
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(pier_db_execute_finish(future, &err), PIER_EIO);
    assert_string_equal(err.sqlstate, "57P02");
    assert_int_equal(ends.count, 1);
    assert_int_equal(ends.all[0].pid, other_pid);
    assert_true(pier_db_execute(victim, "select 1", NULL, &err) < 0);
    assert_int_equal(ends.count, 2);
    assert_int_equal(ends.all[1].pid, pid);
    assert_string_equal(ends.all[1].sqlstate, ""); /* it could not say anything */
    pier_db_close(victim);
    pier_db_close(other);
    assert_usable(db); /* connecting waits while the server starts */
    reconnect_observer();
}

static bool is_down(void *user_data)
{
    (void)user_data;
    return !support_process_alive(&server.process);
}

/* With requests in use and idle sessions in the pool. Gives how the one in use ended. */
static int shut_down(int signal, pier_error *err)
{
    char ready[64];
    pier_db *leases[3];
    assert_int_equal(listen_to(db, err), 0);
    for (int i = 0; i < 3; i++) {
        leases[i] = pier_db_lease(db, err);
    }
    for (int i = 0; i < 3; i++) {
        pier_db_close(leases[i]);
    }
    /* A smart shutdown waits for the statement, which may even have ended before it. */
    pier_future *busy = pier_db_execute_async(
        db, signal == SIGTERM ? "select pg_sleep(0.5)" : "select pg_sleep(20)", NULL);
    assert_true(await_int("select count(*) from pg_stat_activity where query like "
                          "'select pg\\_sleep%'",
                          1));
    look(ready, sizeof ready, "select 1");
    PQfinish(observer);
    observer = NULL;
    assert_int_equal(kill(server.pid, signal), 0);
    int64_t status = pier_db_execute_finish(busy, err);
    if (signal == SIGTERM) {
        pier_db_expire(db); /* it waits until nobody is connected */
    }
    assert_true(support_wait_until(is_down, NULL, BOUND_MS));
    pier_error later = {0};
    assert_true(pier_db_execute(db, "select 1", NULL, &later) < 0);
    assert_int_equal(support_postgres_restart(&server), 0);
    assert_int_equal(connect_observer(), 0);
    assert_usable(db);
    return (int)status;
}

static void test_terminate__by_a_smart_shutdown(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    assert_int_equal(shut_down(SIGTERM, &err), 0); /* it waits for the statement */
    assert_int_equal(count_ends(), 0);
}

static void test_terminate__by_a_fast_shutdown(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    assert_int_equal(shut_down(SIGINT, &err), PIER_EIO);
    assert_string_equal(err.sqlstate, "57P01");
    assert_true(count_ends() >= 1);
    assert_string_equal(ends.all[0].sqlstate, "57P01");
}

static void test_terminate__by_an_immediate_shutdown(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    assert_int_equal(shut_down(SIGQUIT, &err), PIER_EIO);
    /* Its backends say so where they can: 57P01 since Postgres 14, 57P02 before. */
    assert_true(!*err.sqlstate || !strncmp(err.sqlstate, "57P0", 4));
    assert_true(count_ends() >= 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_terminate__of_an_idle_session_is_told_and_made_good),
        TEST(test_terminate__by_idle_session_timeout),
        TEST(test_terminate__is_not_what_an_idle_session_hears),
        TEST(test_terminate__is_logged_where_there_is_no_hook),
        BOTH(test_terminate__by_idle_in_transaction_timeout_dooms_it),
        BOTH(test_terminate__is_what_commit_reports),
        TEST(test_terminate__by_the_crash_of_another_backend),
        TEST(test_terminate__by_a_smart_shutdown),
        TEST(test_terminate__by_a_fast_shutdown),
        TEST(test_terminate__by_an_immediate_shutdown),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
