/* The log of queries, on both databases: what it says of each request, and when it is silent. */
#include "tests/integration/postgres_fixture.h"

#include <strings.h>

enum { QUERIES_MAX = 64 };

struct logged {
    char operation[40], database[200], sql[2100], message[440];
    int status, connection;
    int64_t rows, waited_ns, ran_ns;
    bool on_loop;
};

static struct {
    pthread_mutex_t lock;
    int count;
    struct logged all[QUERIES_MAX];
} seen = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void on_query(const pier_query *query, void *user_data)
{
    (void)user_data;
    pthread_mutex_lock(&seen.lock);
    struct logged *to = &seen.all[seen.count < QUERIES_MAX ? seen.count++ : QUERIES_MAX - 1];
    snprintf(to->operation, sizeof to->operation, "%s", query->operation);
    snprintf(to->database, sizeof to->database, "%s", query->database);
    snprintf(to->sql, sizeof to->sql, "%s", query->sql ? query->sql : "(none)");
    snprintf(to->message, sizeof to->message, "%s", query->err ? query->err->message : "");
    to->status = query->status;
    to->connection = query->connection;
    to->rows = query->rows;
    to->waited_ns = query->waited_ns;
    to->ran_ns = query->ran_ns;
    to->on_loop = query->on_loop;
    pthread_mutex_unlock(&seen.lock);
}

static int count_seen(void)
{
    pthread_mutex_lock(&seen.lock);
    int count = seen.count;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static int set_log(int sql, int64_t slow_ms)
{
    pier_error err = {0};
    seen.count = 0;
    return pier_query_log_set(on_query, NULL,
                              PIER_QUERY_LOG_OPTIONS(.sql = sql, .slow_ms = slow_ms), &err);
}

static int end_log(void **state)
{
    int status = pier_query_log_set(NULL, NULL, NULL, NULL);
    return close_db(state) || status;
}

static bool is_last(const char *operation, const char *sql, int status, int64_t rows)
{
    const struct logged *last = &seen.all[seen.count - 1];
    bool same = strcmp(last->operation, operation) == 0 && strcmp(last->sql, sql) == 0 &&
                last->status == status && last->rows == rows && last->ran_ns >= 0 &&
                last->waited_ns >= 0;
    if (!same) {
        fprintf(stderr, "the last one is %s, %s, %d, %d\n", last->operation, last->sql,
                last->status, (int)last->rows);
    }
    return same;
}

/* The same on both. */
static int check_all(pier_db *pool, bool in_task, pier_error *err)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    EXPECT(set_log(PIER_QUERY_SQL_WHOLE, 0) == 0);
    EXPECT(pier_db_execute(pool, "insert into t values($1), (2)", PIER_ARGS(1), &e) == 2);
    EXPECT(seen.count == 1 && is_last("pier_db_execute", "insert into t values($1), (2)", 0, 2));
    EXPECT(seen.all[0].on_loop == in_task && strstr(pool ? seen.all[0].database : "", ":"));
    pier_result *result = pier_db_fetch(pool, "select id from t", NULL, &e);
    pier_result_free(result);
    EXPECT(seen.count == 2 && is_last("pier_db_fetch", "select id from t", 0, 2));
    EXPECT(pier_db_execute(pool, "insert into nothing values(1)", NULL, &e) < 0);
    EXPECT(seen.count == 3 &&
           is_last("pier_db_execute", "insert into nothing values(1)", PIER_ESQL, 0));
    EXPECT(strcmp(seen.all[2].message, e.message) == 0);
    pier_cursor *cursor = pier_db_cursor(pool, "select 1 from t", NULL, &e);
    while (pier_cursor_next(cursor)) {
    }
    memset(&e, 0, sizeof e);
    EXPECT(pier_cursor_close(cursor, &e) == 0);
    EXPECT(strcmp(seen.all[3].sql, "select 1 from t") == 0 && seen.all[3].rows == 2);
    EXPECT(set_log(PIER_QUERY_SQL_MASKED, 0) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(seen.count == 1 && strncasecmp(seen.all[0].sql, "begin", 5) == 0);
    EXPECT(pier_db_execute(tx, "delete from t where id = 1 or 'Zo\xC3\xAB' = $1", PIER_ARGS("x"),
                           &e) == 1);
    EXPECT(is_last("pier_db_execute", "delete from t where id = ? or ? = $1", 0, 1));
    EXPECT(pier_db_commit(tx, &e) == 0);
    EXPECT(seen.count == 3 && strcmp(seen.all[2].operation, "pier_db_commit") == 0);
    pier_db_close(tx);
    EXPECT(set_log(PIER_QUERY_SQL_NONE, 0) == 0);
    EXPECT(pier_db_execute(pool, "delete from t", NULL, &e) == 1);
    EXPECT(seen.count == 1 && is_last("pier_db_execute", "(none)", 0, 1));
    return 0;
}

static int check_here(pier_db *pool, pier_error *err)
{
    return check_all(pool, false, err);
}

static int check_in_task(pier_db *pool, pier_error *err)
{
    return check_all(pool, true, err);
}

static void test_query_log__of_postgres(void **state)
{
    (void)state;
    run_here(check_here);
    pier_error err = {0};
    int pid = 0;
    assert_int_equal(pier_db_fetch_into(db, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err),
                     1);
    assert_int_equal(seen.all[seen.count - 1].connection, pid);
}

static void test_query_log__of_postgres_in_a_task(void **state)
{
    (void)state;
    run_in_task(check_in_task);
}

static void test_query_log__of_sqlite(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *postgres = db;
    db = pier_db_open(runner, "sqlite::memory:", NULL, &err);
    if (db) { /* its driver may have been left out */
        run_here(check_here);
        assert_int_equal(pier_db_execute(db, "drop table t", NULL, &err), 0);
        run_in_task(check_in_task);
        pier_db_close(db);
    }
    db = postgres;
}

static bool somebody_waits(void *pool)
{
    pier_pool_stats stats = {0};
    pier_db_stats(pool, &stats);
    return stats.waiting > 0;
}

static void test_query_log__tells_waiting_from_running(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_pool(1);
    pier_db *lease = pier_db_lease(pool, &err);
    assert_int_equal(set_log(PIER_QUERY_SQL_WHOLE, 0), 0);
    pier_future *future = pier_db_execute_async(pool, "select pg_sleep(0.1)", NULL);
    int64_t begun = support_now_ms();
    assert_true(support_wait_until(somebody_waits, pool, BOUND_MS));
    look_int("select pg_sleep(0.2)");
    pier_db_close(lease);
    assert_int_equal(pier_db_execute_finish(future, &err), 0);
    int64_t took = support_now_ms() - begun;
    struct logged *last = &seen.all[seen.count - 1];
    assert_string_equal(last->sql, "select pg_sleep(0.1)");
    assert_true(last->waited_ns > 150000000 && last->ran_ns > 90000000);
    assert_true((last->waited_ns + last->ran_ns) / 1000000 <= took + 200);
    pier_db_close(pool);
}

static void test_query_log__of_what_is_slow_alone(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), 0);
    assert_int_equal(set_log(PIER_QUERY_SQL_WHOLE, 100), 0);
    assert_int_equal(pier_db_execute(db, "select pg_sleep(0.15)", NULL, &err), 0);
    assert_int_equal(count_seen(), 1);
    assert_int_equal(set_log(PIER_QUERY_SQL_WHOLE, 60000), 0);
    assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), 0);
    assert_int_equal(count_seen(), 0);
}

static bool something_seen(void *user_data)
{
    (void)user_data;
    return count_seen() > 0;
}

/* Its text was its caller's, who has gone on. */
static void test_query_log__of_a_request_that_was_given_up(void **state)
{
    (void)state;
    pier_error err = {0};
    char *sql = strdup("select pg_sleep(20)");
    assert_int_equal(set_log(PIER_QUERY_SQL_WHOLE, 0), 0);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &err);
    assert_int_equal(pier_db_execute(db, sql, NULL, &err), PIER_ETIMEDOUT);
    free(sql);
    pier_scope_close(scope);
    assert_true(support_wait_until(something_seen, NULL, BOUND_MS));
    assert_int_equal(seen.all[0].status, PIER_ETIMEDOUT);
    assert_string_equal(seen.all[0].sql, "(none)");
}

static void test_query_log__refuses_options_that_cannot_be_right(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_query_log_set(on_query, NULL, PIER_QUERY_LOG_OPTIONS(.slow_ms = -1),
                                        &err),
                     PIER_EINVAL);
    assert_int_equal(pier_query_log_set(on_query, NULL, PIER_QUERY_LOG_OPTIONS(.sql = 3), &err),
                     PIER_EINVAL);
}

#define LOGS(name) cmocka_unit_test_setup_teardown(name, open_db, end_log)

int main(void)
{
    const struct CMUnitTest tests[] = {
        LOGS(test_query_log__of_postgres),
        LOGS(test_query_log__of_postgres_in_a_task),
        LOGS(test_query_log__of_sqlite),
        LOGS(test_query_log__tells_waiting_from_running),
        LOGS(test_query_log__of_what_is_slow_alone),
        LOGS(test_query_log__of_a_request_that_was_given_up),
        LOGS(test_query_log__refuses_options_that_cannot_be_right),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
