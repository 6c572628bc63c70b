/* Statements as handles: what they know, and running them. */
#include "tests/integration/sqlite_fixture.h"

#include <strings.h>

static pier_statement *prepare(struct fixture *f, pier_db *db, const char *sql)
{
    pier_statement *statement = pier_db_prepare(db, sql, &f->err);
    assert_ok(&f->err);
    return statement;
}

static void test_statement__knows_its_columns(void **state)
{
    struct fixture *f = *state;
    const char *sql = "select id, name as who, 1 + 1 from t";
    pier_statement *statement = prepare(f, f->db, sql);
    assert_string_equal(pier_statement_sql(statement), sql);
    assert_true(pier_statement_read_only(statement));
    assert_int_equal(pier_statement_columns(statement), 3);
    assert_string_equal(pier_statement_column_name(statement, 0), "id");
    assert_string_equal(pier_statement_column_name(statement, 1), "who");
    /* In capitals or not: that is SQLite's. */
    assert_int_equal(strcasecmp(pier_statement_column_type(statement, 0), "integer"), 0);
    assert_int_equal(strcasecmp(pier_statement_column_type(statement, 1), "text"), 0);
    assert_null(pier_statement_column_type(statement, 2));
    assert_null(pier_statement_column_name(statement, 3));
    assert_null(pier_statement_column_name(statement, -1));
    assert_null(pier_statement_column_type(statement, 3));
    pier_statement_close(statement);
}

static void test_statement__knows_its_parameters(void **state)
{
    struct fixture *f = *state;
    pier_statement *numbered = prepare(f, f->db, "insert into t(name, id) values ($2, $1)");
    assert_false(pier_statement_read_only(numbered));
    assert_int_equal(pier_statement_columns(numbered), 0);
    assert_int_equal(pier_statement_parameters(numbered), 2);
    assert_null(pier_statement_parameter_name(numbered, 0));
    pier_statement_close(numbered);
    pier_statement *named = prepare(f, f->db, "select :b, $a, @b, :a");
    assert_int_equal(pier_statement_parameters(named), 2);
    assert_string_equal(pier_statement_parameter_name(named, 0), "b");
    assert_string_equal(pier_statement_parameter_name(named, 1), "a");
    assert_null(pier_statement_parameter_name(named, 2));
    assert_int_equal(pier_statement_columns(named), 4);
    pier_statement_close(named);
}

static void test_statement__sql_is_checked_when_it_is_prepared(void **state)
{
    struct fixture *f = *state;
    assert_null(pier_db_prepare(f->db, "select * from nowhere", &f->err));
    assert_error(&f->err, PIER_ESQL, "no such table: nowhere");
    assert_null(pier_db_prepare(f->db, "select 1; select 2", &f->err));
    assert_error(&f->err, PIER_EINVAL, "second statement");
    assert_null(pier_db_prepare(f->db, "", &f->err));
    assert_error(&f->err, PIER_EINVAL, "no statement");
    assert_null(pier_db_prepare(f->db, NULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, "the SQL is NULL");
}

static void test_statement__does_nothing_when_it_is_prepared(void **state)
{
    struct fixture *f = *state;
    pier_statement *statement = prepare(f, f->db, "insert into t(id) values (1)");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    pier_statement_close(statement);
}

static void test_statement__runs_in_every_way(void **state)
{
    struct fixture *f = *state;
    pier_statement *insert = prepare(f, f->db, "insert into t(id, name) values (:id, :name)");
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(
            pier_statement_execute(insert, PIER_NAMED("id", i, "name", "ada"), &f->err), 1);
    }
    pier_statement *select = prepare(f, f->db, "select id from t where id >= $1 order by id");
    pier_result *result = pier_statement_fetch(select, PIER_ARGS(2), &f->err);
    assert_int_equal(pier_result_count(result), 2);
    pier_result_free(result);
    int id = 0;
    assert_int_equal(pier_statement_fetch_into(select, PIER_ARGS(3), PIER_INTO(&id), &f->err), 1);
    assert_int_equal(id, 3);
    pier_cursor *cursor = pier_statement_cursor(select, PIER_ARGS(1), &f->err);
    assert_int_equal(pier_row_int64(pier_cursor_next(cursor), 0), 1);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_ok(&f->err);
    pier_statement_close(insert);
    pier_statement_close(select);
}

static void test_statement__belongs_to_its_transaction(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_statement *insert = prepare(f, tx, "insert into t(id) values ($1)");
    assert_int_equal(pier_statement_execute(insert, PIER_ARGS(1), &f->err), 1);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    assert_int_equal(pier_statement_execute(insert, PIER_ARGS(2), &f->err), PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, "the transaction has ended");
    pier_statement_close(insert);
}

static void test_statement__works_on_a_lease(void **state)
{
    struct fixture *f = *state;
    pier_db *lease = pier_db_lease(f->db, &f->err);
    execute(lease, "create temporary table mine(x)", NULL);
    pier_statement *insert = prepare(f, lease, "insert into mine values ($1)");
    assert_int_equal(pier_statement_execute(insert, PIER_ARGS(1), &f->err), 1);
    pier_statement_close(insert);
    pier_db_close(lease);
}

static void test_statement__failed_preparing_dooms_its_transaction(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_null(pier_db_prepare(tx, "select * from nowhere", &f->err));
    assert_error(&f->err, PIER_ESQL, "nowhere");
    assert_int_equal(pier_db_commit(tx, &f->err), PIER_ESQL);
    pier_db_close(tx);
}

/* What runs has its own copy. */
static void test_statement__may_be_closed_while_it_runs(void **state)
{
    struct fixture *f = *state;
    pier_statement *select = prepare(f, f->db, ENDLESS "select count(*) from n where i < $1");
    pier_statement *insert = prepare(f, f->db, "insert into t(id) values ($1)");
    pier_future *slow = pier_statement_fetch_async(select, PIER_ARGS(1000000));
    pier_future *quick = pier_statement_execute_async(insert, PIER_ARGS(1));
    pier_statement_close(select);
    pier_statement_close(insert);
    pier_future_cancel(slow);
    assert_null(pier_statement_fetch_finish(slow, &f->err));
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    assert_int_equal(pier_statement_execute_finish(quick, &f->err), 1);
    assert_ok(&f->err);
}

static void test_statement__nobody_took_is_freed(void **state)
{
    struct fixture *f = *state;
    pier_future_free(pier_db_prepare_async(f->db, "select 1"));
    pier_statement *statement =
        pier_db_prepare_finish(pier_db_prepare_async(f->db, "select id from t"), &f->err);
    assert_ok(&f->err);
    assert_string_equal(pier_statement_column_name(statement, 0), "id");
    pier_statement_close(statement);
}

static void test_statement__null_passes_through(void **state)
{
    struct fixture *f = *state;
    pier_error_set(&f->err, PIER_EUSER, "first");
    assert_int_equal(pier_statement_execute(NULL, NULL, &f->err), PIER_EUSER);
    assert_null(pier_statement_fetch(NULL, NULL, &f->err));
    assert_null(pier_statement_cursor(NULL, NULL, &f->err));
    assert_int_equal(pier_statement_fetch_into(NULL, NULL, NULL, &f->err), PIER_EUSER);
    assert_null(pier_statement_sql(NULL));
    assert_int_equal(pier_statement_columns(NULL), 0);
    pier_statement_close(NULL);
    assert_error(&f->err, PIER_EUSER, "first");
}

/* The runner frees what its user has left. */
static void test_statement__is_freed_with_its_runner(void **state)
{
    struct fixture *f = *state;
    prepare(f, f->db, "select 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_statement__knows_its_columns),
        TEST(test_statement__knows_its_parameters),
        TEST(test_statement__sql_is_checked_when_it_is_prepared),
        TEST(test_statement__does_nothing_when_it_is_prepared),
        TEST(test_statement__runs_in_every_way),
        TEST(test_statement__belongs_to_its_transaction),
        TEST(test_statement__works_on_a_lease),
        TEST(test_statement__failed_preparing_dooms_its_transaction),
        TEST(test_statement__may_be_closed_while_it_runs),
        TEST(test_statement__nobody_took_is_freed),
        TEST(test_statement__null_passes_through),
        TEST(test_statement__is_freed_with_its_runner),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
