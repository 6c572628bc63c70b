/* Connections that end after each byte that the server could have sent, and servers that fall
 * silent: while connecting, in a query, in rows that are read, in a commit. Nothing hangs, nothing
 * is taken for an answer that is none, and the next call works. */
#include "tests/integration/postgres_fixture.h"

static struct support_proxy *proxy;
static char url[160];

static void start_proxy(const char *parameters)
{
    needs_own_server();
    proxy = support_proxy_start(server.port);
    assert_non_null(proxy);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres%s",
             support_proxy_port(proxy), parameters);
}

static int end_proxy(void **state)
{
    pier_runner_close(runner);
    support_proxy_stop(proxy);
    proxy = NULL;
    int status = check_left_overs();
    put_server_back();
    (void)state;
    return status;
}

#define CUT(name) cmocka_unit_test_setup_teardown(name, open_db, end_proxy)

/* Nothing is on its way but what a test asks for. */
static const pier_db_options one_connection = {
    .struct_size = sizeof one_connection, .pool_max = 1, .reset = PIER_RESET_NONE};

static int64_t bytes_to_client(void)
{
    return support_proxy_bytes(proxy, SUPPORT_TO_CLIENT);
}

static pier_db *open_one(pier_error *err)
{
    memset(err, 0, sizeof *err);
    return pier_db_open(runner, url, &one_connection, err);
}

static pier_db *open_one_async(pier_error *err)
{
    memset(err, 0, sizeof *err);
    return pier_db_open_finish(pier_db_open_async(runner, url, &one_connection), err);
}

/* Each byte of what the server says to one that connects. */
static void connect_and_cut(bool reset)
{
    pier_error err;
    pier_db_close(open_one(&err));
    assert_string_equal(err.message, "");
    int64_t all = bytes_to_client();
    assert_in_range(all, 100, 2000);
    support_proxy_use_reset(proxy, reset);
    for (int64_t bytes = 0; bytes < all; bytes++) {
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, bytes);
        pier_db *pool = bytes % 2 ? open_one(&err) : open_one_async(&err);
        assert_null(pool);
        assert_int_equal(err.status, PIER_ECONNECT);
        assert_non_null(strstr(err.message, "could not connect to postgresql://postgres@127"));
    }
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
    pier_db_close(open_one(&err));
    assert_string_equal(err.message, "");
}

static void test_cut__while_connecting(void **state)
{
    (void)state;
    start_proxy("?sslmode=disable");
    connect_and_cut(false);
}

static void test_cut__by_a_reset_while_connecting(void **state)
{
    (void)state;
    start_proxy("?sslmode=disable");
    connect_and_cut(true);
}

/* Each byte of what a client says that connects. */
static void test_cut__before_the_server_has_read_all(void **state)
{
    (void)state;
    pier_error err;
    start_proxy("?sslmode=disable");
    pier_db_close(open_one(&err));
    assert_string_equal(err.message, "");
    for (int64_t bytes = 0; bytes < 40; bytes++) {
        support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, bytes);
        assert_null(bytes % 2 ? open_one(&err) : open_one_async(&err));
        assert_int_equal(err.status, PIER_ECONNECT);
    }
    support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, -1);
}

static int64_t fetch_rows(pier_db *pool, bool async, pier_error *err)
{
    static const char sql[] = "select i, repeat('x', 20) from generate_series(1, 20) i";
    memset(err, 0, sizeof *err);
    pier_result *result = async ? pier_db_fetch_finish(pier_db_fetch_async(pool, sql, NULL), err)
                                : pier_db_fetch(pool, sql, NULL, err);
    int64_t count = result ? (int64_t)pier_result_count(result) : err->status;
    pier_result_free(result);
    return count;
}

/* Each byte of the answer to a query. */
static void test_cut__in_the_answer_to_a_query(void **state)
{
    (void)state;
    pier_error err;
    start_proxy("?sslmode=disable");
    pier_db *pool = open_one(&err);
    assert_int_equal(fetch_rows(pool, false, &err), 20);
    int64_t before = bytes_to_client();
    assert_int_equal(fetch_rows(pool, false, &err), 20);
    int64_t all = bytes_to_client() - before;
    assert_in_range(all, 500, 2000);
    for (int64_t bytes = 1; bytes < all; bytes += bytes < all - 40 ? 7 : 1) {
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, bytes);
        assert_int_equal(fetch_rows(pool, bytes % 2, &err), PIER_EIO);
        assert_non_null(strstr(err.message, "whether it took effect is not known"));
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
        assert_int_equal(fetch_rows(pool, bytes % 2, &err), 20);
    }
    pier_db_close(pool);
}

/* The rows that have come may be read; that they were not all of them is told. */
static void test_cut__in_the_rows_of_a_cursor(void **state)
{
    (void)state;
    pier_error err;
    start_proxy("?sslmode=disable");
    pier_db *pool = open_one(&err);
    for (int64_t bytes = 1; bytes < 3000000; bytes = bytes * 3 + 1) {
        pier_cursor *cursor = pier_db_cursor(
            pool, "select i, repeat('x', 99) from generate_series(1, 50000) i", NULL, &err);
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, bytes);
        int count = 0;
        while (pier_cursor_next(cursor)) {
            count++;
        }
        assert_true(count < 50000);
        if (pier_cursor_close(cursor, &err) != PIER_EIO) {
            fail_msg("after %d rows: %s", count, err.message);
        }
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
        assert_int_equal(fetch_rows(pool, false, &err), 20);
    }
    pier_db_close(pool);
}

/* The server commits, and nobody hears of it. */
static void test_cut__a_commit_whose_answer_is_lost(void **state)
{
    (void)state;
    pier_error err;
    start_proxy("?sslmode=disable");
    PQclear(PQexec(observer, "create table committed(x int)"));
    pier_db *pool = open_one(&err);
    for (int i = 0; i < 3; i++) {
        pier_db *tx = pier_db_begin(pool, NULL, &err);
        assert_int_equal(pier_db_execute(tx, "insert into committed values (1)", NULL, &err), 1);
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, 1 + i * 4);
        assert_int_equal(pier_db_commit(tx, &err), PIER_EIO);
        assert_non_null(strstr(err.message, "whether it took effect is not known"));
        pier_db_close(tx);
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
        memset(&err, 0, sizeof err);
        assert_true(await_int("select count(*) from committed", i + 1));
        assert_int_equal(fetch_rows(pool, false, &err), 20);
    }
    pier_db_close(pool);
}

/* While nobody uses it: that costs no call anything. */
static void test_cut__while_it_is_idle(void **state)
{
    (void)state;
    pier_error err;
    start_proxy("?sslmode=disable");
    pier_db *pool = open_one(&err);
    assert_int_equal(fetch_rows(pool, false, &err), 20);
    support_proxy_kill_connections(proxy);
    int64_t count = fetch_rows(pool, false, &err);
    assert_true(count == 20 || count == PIER_EIO); /* it was used a moment ago, so it is trusted */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(fetch_rows(pool, i % 2, &err), 20);
    }
    pier_db_close(pool);
}

struct paused {
    pier_db *pool;
    int64_t took_ms;
    pier_error err;
};

static int use_within_deadline(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct paused *paused = arg;
    int64_t started = support_now_ms();
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 150), NULL);
    pier_db_execute(paused->pool, "select 1", NULL, &paused->err);
    pier_scope_close(scope);
    paused->took_ms = support_now_ms() - started;
    return 0;
}

/* The server is there, takes connections, and says nothing at all. */
static void test_paused__deadlines_hold(void **state)
{
    (void)state;
    pier_error err = {0};
    needs_own_server();
    struct paused here = {.pool = db}, in_task = {.pool = db};
    assert_int_equal(fetch_rows(db, false, &err), 20);
    assert_int_equal(support_postgres_pause(&server), 0);
    use_within_deadline(NULL, &here, NULL);
    int ran = pier_task_run(runner, use_within_deadline, &in_task, NULL);
    pier_db *pool =
        pier_db_open(runner, server.url_tcp, PIER_DB_OPTIONS(.connect_timeout_ms = 150), &err);
    assert_int_equal(support_postgres_resume(&server), 0);
    assert_int_equal(ran, 0);
    assert_null(pool);
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_int_equal(here.err.status, PIER_ETIMEDOUT);
    assert_int_equal(in_task.err.status, PIER_ETIMEDOUT);
    assert_true(here.took_ms < 150 + AT_ONCE_MS && in_task.took_ms < 150 + AT_ONCE_MS);
    assert_int_equal(fetch_rows(db, false, &err), 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CUT(test_cut__while_connecting),
        CUT(test_cut__by_a_reset_while_connecting),
        CUT(test_cut__before_the_server_has_read_all),
        CUT(test_cut__in_the_answer_to_a_query),
        CUT(test_cut__in_the_rows_of_a_cursor),
        CUT(test_cut__a_commit_whose_answer_is_lost),
        CUT(test_cut__while_it_is_idle),
        CUT(test_paused__deadlines_hold),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
