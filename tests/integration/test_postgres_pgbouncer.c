/* Behind PgBouncer: many clients, few connections to the server. */
#include "tests/integration/postgres_fixture.h"
#include "tests/support/pgbouncer.h"

enum { CLIENTS = 8, SERVERS = 2 };

static struct support_pgbouncer bouncer;
static pier_db *pool; /* of CLIENTS connections, through it */

static int open_pooled(const char *mode, const char *more)
{
    char url[256];
    pier_error err = {0};
    fds_before = count_fds();
    threads_before = support_thread_count();
    PQclear(PQexec(observer, "drop schema public cascade; create schema public;"
                             "create table t(id int primary key, name text)"));
    if (support_pgbouncer_start(&bouncer, &server, mode, SERVERS) < 0) {
        return -1;
    }
    runner = pier_runner_open(NULL, NULL);
    snprintf(url, sizeof url, "%s%s", bouncer.url, more);
    pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = CLIENTS), &err);
    if (!pool) {
        fprintf(stderr, "%s\n", err.message);
    }
    return pool ? 0 : -1;
}

static int open_transaction_mode(void **state)
{
    (void)state;
    return open_pooled("transaction", "&pier_statements=unnamed");
}

static int open_session_mode(void **state)
{
    (void)state;
    return open_pooled("session", "");
}

static int close_pooled(void **state)
{
    (void)state;
    pier_runner_close(runner);
    support_pgbouncer_stop(&bouncer);
    return support_wait_until(are_fds_closed, NULL, 5000) &&
                   support_wait_threads(threads_before, 10000)
               ? 0
               : -1;
}

#define IN_TRANSACTION_MODE(name)                                                                  \
    cmocka_unit_test_setup_teardown(name, open_transaction_mode, close_pooled)
#define IN_SESSION_MODE(name) cmocka_unit_test_setup_teardown(name, open_session_mode, close_pooled)

/* ---- Queries ------------------------------------------------------------------------------ */

/* Different statements from all clients at once, so that hardly one runs where it was described. */
static void check_queries(int count)
{
    static const char *const statements[] = {"select $1::int8 + 1",
                                             "select ($1::text || '')::int8 + 1",
                                             "select count(*) + $1::int8 from (values (1)) as v",
                                             "select 1 + $1::int8, 'x'::tsvector"};
    pier_future *futures[256];
    for (int i = 0; i < count; i++) {
        const pier_args *args = i % 4 == 1 ? PIER_ARGS("1000") : PIER_ARGS(1000);
        futures[i] = pier_db_fetch_async(pool, statements[i % 4], args);
    }
    for (int i = 0; i < count; i++) {
        pier_error err = {0};
        pier_result *result = pier_db_fetch_finish(futures[i], &err);
        assert_string_equal(err.message, "");
        assert_int_equal(pier_row_int64(pier_result_row(result, 0), 0), 1001);
        pier_result_free(result);
    }
}

static void test_transaction_mode__any_client_runs_on_any_server(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        check_queries(256);
    }
    /* More clients than servers, and nothing is left on these. */
    pier_error err = {0};
    int64_t prepared = -1;
    assert_int_equal(pier_db_fetch_into(pool,
                                        "select count(*) from pg_prepared_statements "
                                        "where name <> ''",
                                        NULL, PIER_INTO(&prepared), &err),
                     1);
    assert_int_equal(prepared, 0);
    pier_pool_stats stats;
    pier_db_stats(pool, &stats);
    assert_true(stats.made > SERVERS);
    assert_true(look_int("select count(*) from pg_stat_activity where application_name = 'pier'") <=
                SERVERS);
}

static void test_transaction_mode__arguments_by_name(void **state)
{
    (void)state;
    enum { QUERIES = 200 };
    pier_future *futures[QUERIES];
    for (int i = 0; i < QUERIES; i++) {
        futures[i] =
            i % 2
                ? pier_db_fetch_async(pool, "select :b::int8 - :a", PIER_NAMED("a", i, "b", 1000))
                : pier_db_fetch_async(pool, "select $x::int8 - :y", PIER_NAMED("x", 1000, "y", i));
    }
    for (int i = 0; i < QUERIES; i++) {
        pier_error err = {0};
        pier_result *result = pier_db_fetch_finish(futures[i], &err);
        assert_string_equal(err.message, "");
        assert_int_equal(pier_row_int64(pier_result_row(result, 0), 0), 1000 - i);
        pier_result_free(result);
    }
}

static void test_transaction_mode__a_transaction_stays_on_one_server(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *first = pier_db_begin(pool, NULL, &err);
    pier_db *second = pier_db_begin(pool, NULL, &err);
    for (int i = 0; i < 20; i++) {
        pier_db *tx = i % 2 ? first : second;
        assert_int_equal(
            pier_db_execute(tx, "insert into t values ($1, $2)", PIER_ARGS(i, "ada"), &err), 1);
        pier_db *save = pier_db_begin(tx, NULL, &err);
        assert_int_equal(pier_db_execute(save, "insert into t values ($1, 'x')", PIER_ARGS(i),
                                         &err),
                         PIER_ECONSTRAINT);
        memset(&err, 0, sizeof err);
        pier_db_close(save);
    }
    assert_int_equal(pier_db_commit(first, &err), 0);
    pier_db_close(first);
    pier_db_close(second);
    assert_int_equal(look_int("select count(*) from t"), 10);
    assert_int_equal(look_int("select sum(id) from t"), 100);
}

static void test_transaction_mode__many_rows(void **state)
{
    (void)state;
    enum { ROWS = 1000 };
    static pier_value values[ROWS][2];
    static pier_args rows[ROWS];
    for (int i = 0; i < ROWS; i++) {
        values[i][0] = pier_int64(i);
        values[i][1] = pier_text("ada");
        rows[i] = (pier_args){2, values[i], NULL};
    }
    pier_error err = {0};
    for (int round = 0; round < 3; round++) {
        const char *insert = "insert into t values ($1, $2)";
        assert_int_equal(pier_db_execute_many(pool, insert, rows, ROWS, &err), ROWS);
        check_queries(32);
        assert_int_equal(pier_db_execute(pool, "delete from t", NULL, &err), ROWS);
        pier_writer *writer = pier_db_writer(pool, insert, &err);
        for (int i = 0; i < ROWS; i++) {
            assert_int_equal(pier_writer_add(writer, &rows[i]), 0);
        }
        assert_int_equal(pier_writer_close(writer, &err), ROWS);
        assert_int_equal(pier_db_execute(pool, "delete from t", NULL, &err), ROWS);
    }
}

static int count_rows(pier_cursor *cursor)
{
    pier_error err = {0};
    int count = 0;
    while (pier_cursor_next(cursor)) {
        count++;
    }
    assert_int_equal(pier_cursor_close(cursor, &err), 0);
    return count;
}

static void test_transaction_mode__cursors_and_handles(void **state)
{
    (void)state;
    pier_error err = {0};
    const char *sql = "select n, 'row ' || n from generate_series(1, $1::int) as n";
    pier_db *tx = pier_db_begin(pool, NULL, &err);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(count_rows(pier_db_cursor(pool, sql, PIER_ARGS(5000), &err)), 5000);
        assert_int_equal(count_rows(pier_db_cursor(tx, sql, PIER_ARGS(5000), &err)), 5000);
        check_queries(32);
        pier_statement *statement = pier_db_prepare(pool, sql, &err);
        assert_int_equal(err.status, 0);
        assert_string_equal(pier_statement_parameter_type(statement, 0), "integer");
        pier_result *result = pier_statement_fetch(statement, PIER_ARGS(3), &err);
        assert_int_equal(pier_result_count(result), 3);
        pier_result_free(result);
        pier_statement_close(statement);
    }
    pier_db_close(tx);
}

static void test_transaction_mode__a_table_may_change(void **state)
{
    (void)state;
    pier_error err = {0};
    PQclear(PQexec(observer, "insert into t values (1, 'ada')"));
    const char *sql = "select * from t where name = $1";
    pier_result_free(pier_db_fetch(pool, sql, PIER_ARGS("ada"), &err));
    assert_int_equal(err.status, 0);
    /* Another column: what comes says what it is. */
    PQclear(PQexec(observer, "alter table t add column more int default 7"));
    pier_result *result = pier_db_fetch(pool, sql, PIER_ARGS("ada"), &err);
    assert_int_equal(pier_row_int64(pier_result_row(result, 0), 2), 7);
    pier_result_free(result);
    /* Another type of the argument: the server refuses the old one, so it is asked again. */
    PQclear(PQexec(observer, "alter table t alter column name type int using 5"));
    result = pier_db_fetch(pool, sql, PIER_ARGS(5), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(pier_result_count(result), 1);
    pier_result_free(result);
}

/* A type that cannot be read in the format that was asked for is an error, not nonsense. */
static void test_transaction_mode__a_column_that_became_unreadable_says_so(void **state)
{
    (void)state;
    pier_error err = {0};
    PQclear(PQexec(observer, "insert into t values (1, 'ada')"));
    const char *sql = "select name from t where id = $1";
    pier_db *lease = pier_db_lease(pool, &err); /* one connection, so that it knows the statement */
    pier_result_free(pier_db_fetch(lease, sql, PIER_ARGS(1), &err));
    PQclear(PQexec(observer, "alter table t alter column name type tsvector using 'ada'"));
    assert_null(pier_db_fetch(lease, sql, PIER_ARGS(1), &err));
    assert_int_equal(err.status, PIER_ETYPE);
    assert_non_null(strstr(err.message, "columns have changed"));
    memset(&err, 0, sizeof err);
    pier_result *result = pier_db_fetch(lease, sql, PIER_ARGS(1), &err);
    assert_string_equal(pier_row_text(pier_result_row(result, 0), 0), "'ada'");
    pier_result_free(result);
    pier_db_close(lease);
}

static void test_transaction_mode__a_deadline_cancels_on_the_server(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 300), &err);
    assert_true(pier_db_execute(pool, "select pg_sleep(60)", NULL, &err) < 0);
    pier_scope_close(scope);
    assert_int_equal(err.status, PIER_ETIMEDOUT);
    assert_true(await_running("pg_sleep(60)", 0));
    check_queries(32);
}

static void test_session_mode__statements_are_cached(void **state)
{
    (void)state;
    pier_error err = {0};
    int64_t prepared = 0;
    for (int round = 0; round < 3; round++) {
        pier_db *lease = pier_db_lease(pool, &err);
        for (int i = 0; i < 10; i++) {
            assert_int_equal(pier_db_fetch_into(
                                 lease, "select count(*) from pg_prepared_statements where $1 > 0",
                                 PIER_ARGS(1), PIER_INTO(&prepared), &err),
                             1);
        }
        pier_db_close(lease);
    }
    assert_true(prepared >= 1);
    check_queries(2);
}

/* A server that another client had before is as good as a new one. */
static void test_session_mode__servers_pass_from_client_to_client(void **state)
{
    (void)state;
    for (int round = 0; round < 4; round++) {
        pier_error err = {0};
        int64_t one = 0;
        pier_db *other = pier_db_open(runner, bouncer.url, PIER_DB_OPTIONS(.pool_max = 1), &err);
        assert_non_null(other);
        assert_int_equal(
            pier_db_fetch_into(other, "select $1::int8", PIER_ARGS(1), PIER_INTO(&one), &err), 1);
        assert_int_equal(
            pier_db_fetch_into(other, "select $1::int8", PIER_ARGS(1), PIER_INTO(&one), &err), 1);
        pier_db_close(other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_TRANSACTION_MODE(test_transaction_mode__any_client_runs_on_any_server),
        IN_TRANSACTION_MODE(test_transaction_mode__arguments_by_name),
        IN_TRANSACTION_MODE(test_transaction_mode__a_transaction_stays_on_one_server),
        IN_TRANSACTION_MODE(test_transaction_mode__many_rows),
        IN_TRANSACTION_MODE(test_transaction_mode__cursors_and_handles),
        IN_TRANSACTION_MODE(test_transaction_mode__a_table_may_change),
        IN_TRANSACTION_MODE(test_transaction_mode__a_column_that_became_unreadable_says_so),
        IN_TRANSACTION_MODE(test_transaction_mode__a_deadline_cancels_on_the_server),
        IN_SESSION_MODE(test_session_mode__statements_are_cached),
        IN_SESSION_MODE(test_session_mode__servers_pass_from_client_to_client),
    };
    return cmocka_run_group_tests(tests, start_own_server, stop_server);
}
