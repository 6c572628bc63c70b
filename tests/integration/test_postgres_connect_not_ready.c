/* Servers that are there but let nobody in yet (57P03): a replica that takes no queries until it is
 * promoted. */
#include "tests/integration/postgres_fixture.h"

static struct support_postgres replica;

static int start_both(void **state)
{
    static const char *const settings[] = {"hot_standby=off", NULL};
    return start_own_server(state) || support_postgres_start_replica(&replica, &server, settings);
}

static int stop_both(void **state)
{
    support_postgres_stop(&replica);
    return stop_server(state);
}

struct opening {
    const char *url;
    int connect_timeout_ms, deadline_ms;
    int64_t took_ms;
    pier_error err;
};

static int try_to_open(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct opening *opening = arg;
    int64_t started = support_now_ms();
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = opening->deadline_ms), NULL);
    pier_db_close(pier_db_open(runner, opening->url,
                               PIER_DB_OPTIONS(.connect_timeout_ms = opening->connect_timeout_ms),
                               &opening->err));
    pier_scope_close(scope);
    opening->took_ms = support_now_ms() - started;
    return 0;
}

/* On a thread and in a task. */
static pier_error open_both_ways(struct opening how, int status, int bound_ms)
{
    struct opening here = how, in_task = how;
    try_to_open(NULL, &here, NULL);
    assert_int_equal(pier_task_run(runner, try_to_open, &in_task, NULL), 0);
    assert_int_equal(here.err.status, status);
    assert_int_equal(in_task.err.status, status);
    assert_true(here.took_ms >= bound_ms - 20 && here.took_ms < bound_ms + AT_ONCE_MS);
    assert_true(in_task.took_ms >= bound_ms - 20 && in_task.took_ms < bound_ms + AT_ONCE_MS);
    return here.err;
}

static void test_not_ready__is_waited_for_until_the_time_is_up(void **state)
{
    (void)state;
    /* Long enough for one answer from a machine that is busy. */
    pier_error err = open_both_ways(
        (struct opening){.url = replica.url_tcp, .connect_timeout_ms = 1500}, PIER_ECONNECT, 1500);
    assert_string_equal(err.sqlstate, "57P03");
    assert_non_null(strstr(err.message, "try again when the server is ready"));
    open_both_ways((struct opening){.url = replica.url_tcp, .deadline_ms = 200}, PIER_ETIMEDOUT,
                   200);
}

/* Once it has been heard, an attempt that does not come to its end says nothing new. */
static void test_not_ready__is_told_when_the_time_is_up_in_an_attempt(void **state)
{
    (void)state;
    pier_error err = {0};
    struct support_proxy *proxy = support_proxy_start(replica.port);
    char url[128];
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres",
             support_proxy_port(proxy));
    pier_future *future =
        pier_db_open_async(runner, url, PIER_DB_OPTIONS(.connect_timeout_ms = 2000));
    bool tried_again = support_proxy_wait_accepted(proxy, 2, BOUND_MS);
    support_proxy_pause(proxy);
    pier_db *pool = pier_db_open_finish(future, &err);
    support_proxy_stop(proxy);
    assert_true(tried_again);
    assert_null(pool);
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_string_equal(err.sqlstate, "57P03");
}

static void test_not_ready__another_host_is(void **state)
{
    (void)state;
    char url[256];
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres",
             replica.port, server.port);
    open_both_ways((struct opening){.url = url}, 0, 0);
}

/* A wrong password is not, however often one asks. */
static void test_not_ready__what_is_final_is_told_at_once(void **state)
{
    (void)state;
    char url[256];
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/nowhere",
             replica.port, server.port);
    pier_error err = open_both_ways((struct opening){.url = url}, PIER_ECONNECT, 0);
    assert_string_equal(err.sqlstate, "3D000");
}

static void test_not_ready__a_cancelled_request_ends_at_once(void **state)
{
    (void)state;
    pier_error err = {0};
    struct support_proxy *proxy = support_proxy_start(replica.port);
    char url[128];
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres",
             support_proxy_port(proxy));
    pier_future *future = pier_db_open_async(runner, url, NULL);
    bool tried_again = support_proxy_wait_accepted(proxy, 4, BOUND_MS);
    pier_future_cancel(future);
    pier_db *pool = pier_db_open_finish(future, &err);
    support_proxy_stop(proxy);
    assert_true(tried_again);
    assert_null(pool);
    assert_int_equal(err.status, PIER_ECANCELLED);
}

static void test_not_ready__until_it_is(void **state)
{
    (void)state;
    pier_error err = {0};
    struct support_proxy *proxy = support_proxy_start(replica.port);
    char url[128];
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(proxy));
    pier_future *future = pier_db_open_async(runner, url, NULL);
    bool tried_again = support_proxy_wait_accepted(proxy, 3, BOUND_MS);
    int promoted = support_postgres_promote(&replica);
    pier_db *pool = pier_db_open_finish(future, &err);
    int64_t done = pier_db_execute(pool, "create table ready(x int)", NULL, &err);
    pier_db_close(pool);
    support_proxy_stop(proxy);
    assert_true(tried_again);
    assert_int_equal(promoted, 0);
    assert_string_equal(err.message, "");
    assert_int_equal(done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_not_ready__is_waited_for_until_the_time_is_up),
        TEST(test_not_ready__is_told_when_the_time_is_up_in_an_attempt),
        TEST(test_not_ready__another_host_is),
        TEST(test_not_ready__what_is_final_is_told_at_once),
        TEST(test_not_ready__a_cancelled_request_ends_at_once),
        TEST(test_not_ready__until_it_is), /* last: it promotes the replica */
    };
    return cmocka_run_group_tests(tests, start_both, stop_both);
}
