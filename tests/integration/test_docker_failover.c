/*
 * A primary with a streaming replica, and what happens to a pool when the primary hangs
 * (`docker pause`: connections are taken and nothing ever answers), dies or comes back, and when
 * the other one takes its place.
 */
#include "tests/integration/docker_fixture.h"

/* Both servers, the replica first. */
static char *both(char *url, size_t size, const char *attributes)
{
    snprintf(url, size,
             "postgresql://postgres@127.0.0.1:%s,127.0.0.1:%s/postgres?target_session_attrs=%s",
             port_of("REPLICA"), port_of("PRIMARY"), attributes);
    return url;
}

/* 1: the connection is to the replica, 0: to the primary; negative: there is none. */
static int64_t in_recovery(const char *attributes, pier_error *err)
{
    char url[256];
    bool answer = false;
    pier_db *db = pier_db_open(runner, both(url, sizeof url, attributes),
                               PIER_DB_OPTIONS(.connect_timeout_ms = 5000), err);
    int got = pier_db_fetch_into(db, "select pg_is_in_recovery()", NULL, PIER_INTO(&answer), err);
    pier_db_close(db);
    return got == 1 ? answer : got;
}

struct expected {
    const char *service;
    const char *sql;
};

static bool is_one(void *user_data)
{
    const struct expected *expected = user_data;
    char url[256];
    bool one = false;
    pier_db *db = pier_db_open(runner, url_of(url, sizeof url, expected->service, ""),
                               PIER_DB_OPTIONS(.connect_timeout_ms = 2000), NULL);
    int got = pier_db_fetch_into(db, expected->sql, NULL, PIER_INTO(&one), NULL);
    pier_db_close(db);
    return got == 1 && one;
}

/* Waits until a condition holds on a service, which may be starting. */
static void await(const char *service, const char *sql)
{
    struct expected expected = {service, sql};
    assert_true(support_wait_until(is_one, &expected, BOUND_MS));
}

/* What a test has done to the servers. */
static bool paused, promoted, read_only;

static void pause_primary(void)
{
    assert_int_equal(docker("pause", "PRIMARY"), 0);
    paused = true;
}

/* A replica that has been promoted cannot follow again: it is copied anew from the primary. */
static void remake_replica(void)
{
    docker_exec("REPLICA", "rm -rf \"$PGDATA\"");
    docker("kill", "REPLICA");
    docker("start", "REPLICA");
    promoted = false;
}

static void allow_writing(void)
{
    docker_exec("PRIMARY", "psql -U postgres -c 'alter system reset default_transaction_read_only' "
                           "-c 'select pg_reload_conf()'");
    read_only = false;
}

/* Whatever a test left behind: both run, and the replica follows. */
static int restore(void **state)
{
    if (paused) {
        docker("unpause", "PRIMARY");
        paused = false;
    }
    docker("start", "PRIMARY"); /* nothing where it runs */
    if (read_only) {
        allow_writing();
    }
    if (promoted) {
        remake_replica();
    }
    struct expected follows = {"REPLICA", "select pg_is_in_recovery()"},
                    streams = {"PRIMARY", "select count(*) = 1 from pg_stat_replication "
                                          "where state = 'streaming'"};
    bool restored = support_wait_until(is_one, &follows, BOUND_MS) &&
                    support_wait_until(is_one, &streams, BOUND_MS);
    close_runner(state);
    return restored ? 0 : -1;
}

static void test_replica__shows_what_the_primary_has_written(void **state)
{
    (void)state;
    pier_db *primary = open_service("PRIMARY", 1);
    pier_error err = {0};
    assert_int_equal(
        pier_db_execute_script(
            primary, "drop table if exists written; create table written as select 42 as x", &err),
        0);
    await("REPLICA", "select to_regclass('written') is not null");
    await("REPLICA", "select x = 42 from written");
    pier_db_close(primary);
}

static void test_replica__refuses_to_write(void **state)
{
    (void)state;
    pier_db *replica = open_service("REPLICA", 1);
    pier_error err = {0};
    assert_true(pier_db_execute(replica, "create table refused(x int)", NULL, &err) < 0);
    assert_string_equal(err.sqlstate, "25006");
    assert_int_equal(ask(replica, "select 1"), 1);
    pier_db_close(replica);
}

static void test_attributes__read_write_is_the_primary(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(in_recovery("read-write", &err), 0);
    assert_string_equal(err.message, "");
    assert_int_equal(in_recovery("primary", &err), 0);
}

static void test_attributes__standby_is_the_replica(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(in_recovery("standby", &err), 1);
    assert_int_equal(in_recovery("read-only", &err), 1);
    assert_int_equal(in_recovery("any", &err), 1);
}

static void test_attributes__no_primary_is_an_error_that_says_so(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(docker("kill", "PRIMARY"), 0);
    assert_int_equal(in_recovery("read-write", &err), PIER_ECONNECT);
    assert_non_null(strstr(err.message, port_of("REPLICA")));
    memset(&err, 0, sizeof err);
    assert_int_equal(in_recovery("any", &err), 1);
    assert_int_equal(docker("start", "PRIMARY"), 0);
    await("PRIMARY", "select not pg_is_in_recovery()");
    assert_int_equal(in_recovery("read-write", &err), 0);
}

static void test_pool__lives_on_when_its_server_was_killed(void **state)
{
    (void)state;
    pier_db *db = open_service("PRIMARY", 2);
    pier_error err = {0};
    assert_int_equal(ask(db, "select 1"), 1);
    assert_int_equal(docker("kill", "PRIMARY"), 0);
    assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), PIER_EIO);
    assert_int_equal(docker("start", "PRIMARY"), 0);
    await("PRIMARY", "select true");
    assert_int_equal(ask(db, "select 2"), 2);
    pier_db_close(db);
}

/* The replica has all that the primary has, and becomes one too. */
static void promote_replica(void)
{
    promoted = true;
    pier_db *replica = open_service("REPLICA", 1);
    assert_int_equal(ask(replica, "select pg_promote()::int"), 1);
    pier_db_close(replica);
}

static pier_db *open_writable(int pool_max)
{
    char url[256];
    pier_error err = {0};
    pier_db *db = pier_db_open(runner, both(url, sizeof url, "read-write"),
                               PIER_DB_OPTIONS(.pool_max = pool_max), &err);
    if (!db) {
        fail_msg("%s", err.message);
    }
    return db;
}

/* A table with one row, which the replica has as well. */
static void make_written(pier_db *db)
{
    pier_error err = {0};
    assert_int_equal(pier_db_execute_script(
                         db, "drop table if exists written; create table written as select 1 as x",
                         &err),
                     0);
    await("REPLICA", "select to_regclass('written') is not null");
    await("REPLICA", "select count(*) = 1 from written");
}

static void test_promoted__a_pool_goes_on_with_the_new_primary(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *db = open_writable(2);
    make_written(db);
    assert_int_equal(docker("stop", "PRIMARY"), 0);
    /* Nobody can write. */
    const char *insert = "insert into written values ($1)";
    assert_true(pier_db_execute(db, insert, PIER_ARGS(2), &err) < 0);
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_execute(db, insert, PIER_ARGS(2), &err), PIER_ECONNECT);
    promote_replica();
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_execute(db, insert, PIER_ARGS(2), &err), 1);
    assert_string_equal(err.message, "");
    pier_db_close(db);
    await("REPLICA", "select array_agg(x order by x) = '{1,2}' from written");
}

/* The old primary lives, keeps its sessions, and may not write any more. */
static void test_demoted__its_connections_are_replaced(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *db = open_writable(2);
    make_written(db);
    promote_replica();
    read_only = true;
    assert_int_equal(
        docker_exec("PRIMARY", "psql -U postgres -c 'alter system set "
                               "default_transaction_read_only = on' -c 'select pg_reload_conf()'"),
        0);
    await("PRIMARY", "select current_setting('transaction_read_only')::bool");
    /* What was sent to a session that has not heard of it yet may still be written there. */
    const char *insert = "insert into written values (2)";
    int64_t end = support_now_ms() + BOUND_MS, status;
    while ((status = pier_db_execute(db, insert, NULL, &err)) == 1 && support_now_ms() < end) {
    }
    assert_int_equal(status, PIER_ESQL);
    assert_string_equal(err.sqlstate, "25006");
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_execute(db, "insert into written values (3)", NULL, &err), 1);
    assert_string_equal(err.message, "");
    pier_db_close(db);
    await("REPLICA", "select count(*) = 1 from written where x = 3");
}

static void test_paused__a_deadline_holds(void **state)
{
    (void)state;
    pier_db *db = open_service("PRIMARY", 2);
    pier_error err = {0};
    assert_int_equal(ask(db, "select 1"), 1);
    pause_primary();
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 300), NULL);
    int64_t started = support_now_ms();
    int64_t status = pier_db_execute(db, "select 1", NULL, &err);
    int64_t took_ms = support_now_ms() - started;
    pier_scope_close(scope);
    assert_int_equal(status, PIER_ETIMEDOUT);
    assert_true(took_ms < 300 + AT_ONCE_MS);
    assert_int_equal(docker("unpause", "PRIMARY"), 0);
    paused = false;
    assert_int_equal(ask(db, "select 2"), 2);
    pier_db_close(db);
}

static void test_paused__connecting_ends_in_time(void **state)
{
    (void)state;
    char url[256];
    pier_error err = {0};
    pause_primary();
    int64_t started = support_now_ms();
    assert_null(pier_db_open(runner, url_of(url, sizeof url, "PRIMARY", ""),
                             PIER_DB_OPTIONS(.connect_timeout_ms = 300), &err));
    assert_true(support_now_ms() - started < 300 + AT_ONCE_MS);
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_non_null(strstr(err.message, "no answer in time"));
}

static void test_paused__closing_is_bounded(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(PIER_RUNNER_OPTIONS(.close_timeout_ms = 1000), NULL);
    char url[256];
    pier_db *db = pier_db_open(other, url_of(url, sizeof url, "PRIMARY", ""), NULL, NULL);
    pier_db *tx = pier_db_begin(db, NULL, NULL);
    assert_non_null(tx);
    pause_primary();
    int64_t started = support_now_ms();
    pier_runner_close(other);
    assert_true(support_now_ms() - started < 6000 + AT_ONCE_MS);
}

#undef TEST
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_runner, restore)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_replica__shows_what_the_primary_has_written),
        TEST(test_replica__refuses_to_write),
        TEST(test_attributes__read_write_is_the_primary),
        TEST(test_attributes__standby_is_the_replica),
        TEST(test_attributes__no_primary_is_an_error_that_says_so),
        TEST(test_pool__lives_on_when_its_server_was_killed),
        TEST(test_paused__a_deadline_holds),
        TEST(test_paused__connecting_ends_in_time),
        TEST(test_paused__closing_is_bounded),
        TEST(test_promoted__a_pool_goes_on_with_the_new_primary),
        TEST(test_demoted__its_connections_are_replaced),
    };
    return cmocka_run_group_tests(tests, needs_containers, NULL);
}
