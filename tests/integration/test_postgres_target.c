/* Several servers: a primary and its replica, which of them a pool takes, and what it does when
 * they change their parts. */
#include "tests/integration/postgres_fixture.h"

static struct support_postgres replica;

static int start_both(void **state)
{
    return start_own_server(state) || support_postgres_start_replica(&replica, &server, NULL);
}

static int stop_both(void **state)
{
    support_postgres_stop(&replica);
    return stop_server(state);
}

/* "postgresql://postgres@127.0.0.1:one,127.0.0.1:two/postgres?parameters" */
static char *make_url(char *url, size_t size, int one, int two, const char *parameters)
{
    snprintf(url, size, "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?%s", one, two,
             parameters);
    return url;
}

/* The port of the server that the pool is connected to; negative: a status. */
static int port_of(pier_db *pool, pier_error *err)
{
    int port = 0;
    int got = pier_db_fetch_into(pool, "select inet_server_port()", NULL, PIER_INTO(&port), err);
    return got == 1 ? port : got;
}

struct attempt {
    const char *url;
    int port;
    pier_error err;
};

static int try_to_open(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct attempt *attempt = arg;
    pier_db *pool = pier_db_open(runner, attempt->url, PIER_DB_OPTIONS(.connect_timeout_ms = 5000),
                                 &attempt->err);
    attempt->port = pool ? port_of(pool, &attempt->err) : attempt->err.status;
    pier_db_close(pool);
    return 0;
}

/* On a thread and in a task: the port that was found, or the status. */
static int open_both_ways(const char *url, pier_error *err)
{
    struct attempt here = {.url = url}, in_task = {.url = url};
    try_to_open(NULL, &here, NULL);
    assert_int_equal(pier_task_run(runner, try_to_open, &in_task, NULL), 0);
    assert_int_equal(here.port, in_task.port);
    assert_string_equal(here.err.message, in_task.err.message);
    if (err) {
        *err = here.err;
    }
    return here.port;
}

static void test_target__the_primary(void **state)
{
    (void)state;
    char url[256];
    make_url(url, sizeof url, replica.port, server.port, "target_session_attrs=read-write");
    assert_int_equal(open_both_ways(url, NULL), server.port);
    make_url(url, sizeof url, replica.port, server.port, "target_session_attrs=primary");
    assert_int_equal(open_both_ways(url, NULL), server.port);
}

static void test_target__the_replica(void **state)
{
    (void)state;
    char url[256];
    make_url(url, sizeof url, server.port, replica.port, "target_session_attrs=read-only");
    assert_int_equal(open_both_ways(url, NULL), replica.port);
    make_url(url, sizeof url, server.port, replica.port, "target_session_attrs=standby");
    assert_int_equal(open_both_ways(url, NULL), replica.port);
}

static void test_target__any_is_the_first_that_answers(void **state)
{
    (void)state;
    char url[256];
    make_url(url, sizeof url, replica.port, server.port, "target_session_attrs=any");
    assert_int_equal(open_both_ways(url, NULL), replica.port);
    make_url(url, sizeof url, support_port_refused(), server.port, "");
    assert_int_equal(open_both_ways(url, NULL), server.port);
}

static void test_target__a_replica_rather_than_the_primary(void **state)
{
    (void)state;
    char url[256];
    make_url(url, sizeof url, server.port, replica.port, "target_session_attrs=prefer-standby");
    assert_int_equal(open_both_ways(url, NULL), replica.port);
}

static void test_target__the_primary_where_there_is_no_replica(void **state)
{
    (void)state;
    char url[256];
    make_url(url, sizeof url, server.port, support_port_refused(),
             "target_session_attrs=prefer-standby");
    assert_int_equal(open_both_ways(url, NULL), server.port);
}

static void test_target__the_environment_names_it(void **state)
{
    (void)state;
    char url[256];
    setenv("PGTARGETSESSIONATTRS", "prefer-standby", 1);
    make_url(url, sizeof url, server.port, replica.port, "");
    int port = open_both_ways(url, NULL);
    unsetenv("PGTARGETSESSIONATTRS");
    assert_int_equal(port, replica.port);
}

static void test_target__there_is_none(void **state)
{
    (void)state;
    char url[256], expected[64];
    pier_error err;
    make_url(url, sizeof url, support_port_refused(), replica.port,
             "target_session_attrs=read-write");
    assert_int_equal(open_both_ways(url, &err), PIER_ECONNECT);
    snprintf(expected, sizeof expected, "tried last was 127.0.0.1:%d", replica.port);
    assert_non_null(strstr(err.message, expected));
    assert_non_null(strstr(err.message, "target_session_attrs=read-write is wanted"));
}

static void test_target__a_word_that_it_does_not_know(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_db_open(runner, "postgresql://h/app?target_session_attrs=leader", NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_non_null(strstr(err.message, "prefer-standby"));
    assert_null(pier_db_open(runner, "postgresql://h/app?load_balance_hosts=yes", NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_non_null(strstr(err.message, "random or disable"));
}

/* Each connection chooses for itself; that 30 choose alike happens once in 500 million times. */
static void test_target__the_load_is_shared(void **state)
{
    (void)state;
    enum { MANY = 30 };
    char url[256];
    pier_error err = {0};
    int primaries = 0;
    make_url(url, sizeof url, server.port, replica.port, "load_balance_hosts=random");
    pier_db *leases[MANY],
        *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = MANY), &err);
    for (int i = 0; i < MANY; i++) {
        leases[i] = pier_db_lease(pool, &err);
        primaries += port_of(leases[i], &err) == server.port;
    }
    for (int i = 0; i < MANY; i++) {
        pier_db_close(leases[i]);
    }
    pier_db_close(pool);
    assert_string_equal(err.message, "");
    assert_in_range(primaries, 1, MANY - 1);
}

/* A write that its own transaction forbids says nothing about the server. */
static void test_target__reading_by_choice_keeps_the_connections(void **state)
{
    (void)state;
    char url[256];
    pier_error err = {0};
    pier_pool_stats stats;
    make_url(url, sizeof url, replica.port, server.port, "target_session_attrs=read-write");
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    pier_db *tx = pier_db_begin(pool, PIER_TX_OPTIONS(.read_only = true), &err);
    assert_int_equal(pier_db_execute(tx, "create table refused(x int)", NULL, &err), PIER_ESQL);
    assert_string_equal(err.sqlstate, "25006");
    assert_null(strstr(err.message, "the pool wants"));
    pier_db_close(tx);
    pier_db *lease = pier_db_lease(pool, NULL);
    assert_int_equal(pier_db_execute_script(lease, "begin read only; create table refused(x int)",
                                            &err),
                     PIER_ESQL);
    assert_string_equal(err.sqlstate, "25006");
    pier_db_close(lease);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, NULL), 0);
    pier_db_stats(pool, &stats);
    assert_int_equal(stats.made, 1);
    pier_db_close(pool);
}

static bool is_promoted(void *url)
{
    pier_error err = {0};
    bool standby = true;
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    int got =
        pier_db_fetch_into(pool, "select pg_is_in_recovery()", NULL, PIER_INTO(&standby), &err);
    pier_db_close(pool);
    return got == 1 && !standby;
}

static void make_read_only(const char *setting)
{
    char text[64], sql[100];
    snprintf(sql, sizeof sql, "alter system set default_transaction_read_only = %s", setting);
    look(text, sizeof text, sql);
    look(text, sizeof text, "select pg_reload_conf()");
    snprintf(sql, sizeof sql,
             "select (current_setting('default_transaction_read_only') = '%s')::int", setting);
    assert_true(await_int(sql, 1));
}

/* Writes; how that went. */
static int64_t write_to(pier_db *pool, bool rows, pier_error *err)
{
    memset(err, 0, sizeof *err);
    return rows
               ? pier_db_execute_many(pool, "insert into written values ($1)", PIER_ARGS(1), 1, err)
               : pier_db_execute(pool, "insert into written values (1)", NULL, err);
}

struct expected_error {
    pier_db *pool;
    bool rows;
    pier_error err;
};

static bool is_refused(void *user_data)
{
    struct expected_error *expected = user_data;
    return write_to(expected->pool, expected->rows, &expected->err) < 0;
}

/* The first write to fail says so, and after it the pool has found the other server. */
static void expect_failover(pier_db *pool, bool rows)
{
    struct expected_error expected = {.pool = pool, .rows = rows};
    pier_error *err = &expected.err;
    assert_true(support_wait_until(is_refused, &expected, BOUND_MS));
    assert_string_equal(err->sqlstate, "25006");
    assert_non_null(strstr(err->message, "the pool wants a server that is read-write"));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(write_to(pool, rows, err), 1);
        assert_int_equal(port_of(pool, err), replica.port);
    }
}

/* From here on both are primaries. The pool's connections were made to one that takes no writes any
 * more: the first write to fail replaces all of them. */
static void test_target__a_failover_is_found(void **state)
{
    (void)state;
    char url[256];
    pier_error err = {0};
    PQclear(PQexec(observer, "create table written(x int)"));
    make_url(url, sizeof url, server.port, replica.port, "target_session_attrs=read-write");
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    pier_db *other = pier_db_open(runner, url, NULL, &err);
    pier_db *one = pier_db_lease(pool, &err), *two = pier_db_lease(pool, &err);
    assert_int_equal(port_of(two, &err), server.port);
    pier_db_close(one);
    pier_db_close(two);
    assert_int_equal(write_to(pool, false, &err), 1);
    assert_int_equal(write_to(other, true, &err), 1);
    assert_true(await_int("select count(*) from pg_stat_replication where replay_lsn >= "
                          "pg_current_wal_lsn()",
                          1));
    assert_int_equal(support_postgres_promote(&replica), 0);
    assert_true(support_wait_until(is_promoted, replica.url_tcp, BOUND_MS));
    make_read_only("on");
    expect_failover(pool, false);
    expect_failover(other, true);
    pier_db_close(pool);
    pier_db_close(other);
    make_read_only("off");
}

static void test_target__a_server_that_went_away(void **state)
{
    (void)state;
    char url[256];
    pier_error err = {0};
    make_url(url, sizeof url, replica.port, server.port, "target_session_attrs=read-write");
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    assert_int_equal(port_of(pool, &err), replica.port);
    assert_int_equal(support_postgres_kill9(&replica), 0);
    if (port_of(pool, &err) < 0) { /* unless it was seen to be gone before it was used */
        assert_int_equal(err.status, PIER_EIO);
    }
    assert_int_equal(port_of(pool, &err), server.port);
    pier_db_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_target__the_primary),
        TEST(test_target__the_replica),
        TEST(test_target__any_is_the_first_that_answers),
        TEST(test_target__a_replica_rather_than_the_primary),
        TEST(test_target__the_primary_where_there_is_no_replica),
        TEST(test_target__the_environment_names_it),
        TEST(test_target__there_is_none),
        TEST(test_target__a_word_that_it_does_not_know),
        TEST(test_target__the_load_is_shared),
        TEST(test_target__reading_by_choice_keeps_the_connections),
        TEST(test_target__a_failover_is_found),     /* promotes the replica */
        TEST(test_target__a_server_that_went_away), /* and ends it */
    };
    return cmocka_run_group_tests(tests, start_both, stop_both);
}
