/* Statements as handles on Postgres: what they know, and running them anywhere. */
#include "tests/integration/postgres_fixture.h"

static int open_table(void **state)
{
    if (open_db(state)) {
        return -1;
    }
    PQclear(PQexec(observer, "create table t(id int primary key, name varchar(20), at timestamptz,"
                             "price numeric(10, 2), tags text[]);"
                             "insert into t values (1, 'ada'), (2, 'bob')"));
    return 0;
}

#define TABLE(name) cmocka_unit_test_setup_teardown(name, open_table, close_db)
#define BOTH_TABLE(name) TABLE(name), TABLE(name##__in_a_task)

SCENARIO(test_statement__knows_its_columns)
{
    pier_error e = {0};
    const char *sql = "select t.*, 1 + 1 as two, 'x' || name from t";
    pier_statement *statement = pier_db_prepare(pool, sql, &e);
    EXPECT(statement && strcmp(pier_statement_sql(statement), sql) == 0);
    static const char *const names[] = {"id", "name", "at", "price", "tags", "two", "?column?"};
    static const char *const types[] = {"integer",
                                        "character varying(20)",
                                        "timestamp with time zone",
                                        "numeric(10,2)",
                                        "text[]",
                                        "integer",
                                        "text"};
    EXPECT(pier_statement_columns(statement) == 7 && pier_statement_parameters(statement) == 0);
    for (int i = 0; i < 7; i++) {
        EXPECT(strcmp(pier_statement_column_name(statement, i), names[i]) == 0);
        EXPECT(strcmp(pier_statement_column_type(statement, i), types[i]) == 0);
    }
    EXPECT(!pier_statement_column_name(statement, 7) && !pier_statement_column_type(statement, -1));
    EXPECT(!pier_statement_read_only(statement));
    pier_statement_close(statement);
    return 0;
}

SCENARIO(test_statement__knows_its_parameters)
{
    pier_error e = {0};
    pier_statement *statement =
        pier_db_prepare(pool, "insert into t(id, price, tags, at) values ($2, $1, $3, $4)", &e);
    static const char *const types[] = {"numeric", "integer", "text[]", "timestamp with time zone"};
    EXPECT(pier_statement_parameters(statement) == 4 && pier_statement_columns(statement) == 0);
    for (int i = 0; i < 4; i++) {
        EXPECT(strcmp(pier_statement_parameter_type(statement, i), types[i]) == 0);
        EXPECT(!pier_statement_parameter_name(statement, i));
    }
    EXPECT(!pier_statement_parameter_type(statement, 4));
    EXPECT(!pier_statement_parameter_type(statement, -1));
    pier_statement_close(statement);
    return 0;
}

/* Prepared before, and so described without being prepared again. */
SCENARIO(test_statement__one_that_is_known_is_described_too)
{
    pier_error e = {0};
    const char *sql = "select name from t where id = $1";
    for (int i = 0; i < 3; i++) {
        pier_result *result = pier_db_fetch(pool, sql, PIER_ARGS(1), &e);
        EXPECT(result);
        pier_result_free(result);
        pier_statement *statement = pier_db_prepare(pool, sql, &e);
        EXPECT(statement && pier_statement_parameters(statement) == 1);
        EXPECT(strcmp(pier_statement_column_name(statement, 0), "name") == 0);
        pier_statement_close(statement);
    }
    return 0;
}

SCENARIO(test_statement__sql_is_checked_when_it_is_prepared)
{
    pier_error e = {0};
    EXPECT(!pier_db_prepare(pool, "select * from nowhere", &e) && e.status == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "42P01") == 0);
    memset(&e, 0, sizeof e);
    EXPECT(!pier_db_prepare(pool, "select 1; select 2", &e) && e.status == PIER_ESQL);
    memset(&e, 0, sizeof e);
    pier_statement *empty = pier_db_prepare(pool, "", &e);
    EXPECT(empty && pier_statement_columns(empty) == 0);
    pier_statement_close(empty);
    return 0;
}

SCENARIO(test_statement__runs_on_any_scope)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_db *scopes[] = {pool, lease, tx};
    for (int i = 0; i < 3; i++) {
        char name[20] = "";
        pier_statement *statement =
            pier_db_prepare(scopes[i], "select name from t where id = $1", &e);
        pier_result *result = pier_statement_fetch(statement, PIER_ARGS(2), &e);
        EXPECT(result && pier_result_count(result) == 1);
        pier_result_free(result);
        EXPECT(pier_statement_fetch_into(statement, PIER_ARGS(1),
                                         PIER_INTO(pier_into_buffer(name, sizeof name)), &e) == 1);
        EXPECT(strcmp(name, "ada") == 0);
        pier_cursor *cursor = pier_statement_cursor(statement, PIER_ARGS(2), &e);
        EXPECT(pier_cursor_next(cursor) && !pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == 0);
        pier_statement_close(statement);
        statement = pier_db_prepare(scopes[i], "update t set name = $1 where id = 2", &e);
        EXPECT(pier_statement_execute(statement, PIER_ARGS("eve"), &e) == 1);
        pier_statement_close(statement);
        if (i == 2) {
            EXPECT(pier_db_commit(tx, &e) == 0);
        }
    }
    pier_db_close(tx);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_statement__one_that_fails_dooms_its_transaction)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(!pier_db_prepare(tx, "select nothing from t", &e));
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_commit(tx, &e) == PIER_ESQL);
    pier_db_close(tx);
    return 0;
}

static void terminate_others(void)
{
    PQclear(PQexec(observer, "select pg_terminate_backend(pid) from pg_stat_activity where "
                             "application_name = 'pier'"));
    assert_true(await_connections(0));
}

static void test_statement__survives_its_connection(void **state)
{
    (void)state;
    pier_error err = {0};
    int64_t id = 0;
    pier_db *pool = open_pool(1);
    pier_statement *statement =
        pier_db_prepare(pool, "select id::int8 from t where name = $1", &err);
    assert_int_equal(pier_statement_fetch_into(statement, PIER_ARGS("ada"), PIER_INTO(&id), &err),
                     1);
    terminate_others();
    /* The first call may be the one that notices. */
    if (pier_statement_fetch_into(statement, PIER_ARGS("bob"), PIER_INTO(&id), &err) < 0) {
        assert_int_equal(err.status, PIER_EIO);
        memset(&err, 0, sizeof err);
    }
    assert_int_equal(pier_statement_fetch_into(statement, PIER_ARGS("bob"), PIER_INTO(&id), &err),
                     1);
    assert_int_equal(id, 2);
    pier_statement_close(statement);
    pier_db_close(pool);
}

static void test_statement__survives_its_table_being_changed(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_pool(1);
    pier_statement *statement = pier_db_prepare(pool, "select * from t where id = $1", &err);
    pier_result_free(pier_statement_fetch(statement, PIER_ARGS(1), &err));
    PQclear(PQexec(observer, "alter table t drop column tags, alter column name type text"));
    pier_result *result = pier_statement_fetch(statement, PIER_ARGS(1), &err);
    assert_int_equal(err.status, 0);
    assert_int_equal(pier_result_columns(result), 4);
    assert_string_equal(pier_row_text(pier_result_row(result, 0), 1), "ada");
    pier_result_free(result);
    /* The handle says what was true when it was prepared; a new one says what is true now. */
    assert_int_equal(pier_statement_columns(statement), 5);
    pier_statement_close(statement);
    PQclear(PQexec(observer, "alter table t drop column price"));
    statement = pier_db_prepare(pool, "select * from t where id = $1", &err);
    assert_int_equal(pier_statement_columns(statement), 3);
    pier_statement_close(statement);
    pier_db_close(pool);
}

static void test_statement__a_deadline_ends_preparing(void **state)
{
    (void)state;
    pier_error err = {0};
    PQclear(PQexec(observer, "begin; lock table t in access exclusive mode"));
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 100), &err);
    assert_null(pier_db_prepare(db, "select * from t where id = $1", &err));
    pier_scope_close(scope);
    assert_int_equal(err.status, PIER_ETIMEDOUT);
    PQclear(PQexec(observer, "commit"));
    memset(&err, 0, sizeof err);
    pier_statement *statement = pier_db_prepare(db, "select * from t where id = $1", &err);
    assert_non_null(statement);
    pier_statement_close(statement);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_TABLE(test_statement__knows_its_columns),
        BOTH_TABLE(test_statement__knows_its_parameters),
        BOTH_TABLE(test_statement__one_that_is_known_is_described_too),
        BOTH_TABLE(test_statement__sql_is_checked_when_it_is_prepared),
        BOTH_TABLE(test_statement__runs_on_any_scope),
        BOTH_TABLE(test_statement__one_that_fails_dooms_its_transaction),
        TABLE(test_statement__survives_its_connection),
        TABLE(test_statement__survives_its_table_being_changed),
        TABLE(test_statement__a_deadline_ends_preparing),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
