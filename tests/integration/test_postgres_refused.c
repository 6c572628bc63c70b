/* What only SQLite can is refused on Postgres, with what to do instead; and what a result says. */
#include "tests/integration/postgres_fixture.h"

static bool is_refusal(pier_error *err, const char *remedy)
{
    bool right = err->status == PIER_EINVAL && strstr(err->message, remedy);
    memset(err, 0, sizeof *err);
    return right;
}

static void test_refused__says_what_to_do_instead(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_true(pier_db_insert(db, "select 1", NULL, &err) < 0);
    assert_true(is_refusal(&err, "returning id"));
}

static int64_t changes_of(const char *sql)
{
    pier_error err = {0};
    pier_result *result = pier_db_fetch(db, sql, NULL, &err);
    assert_int_equal(err.status, 0);
    int64_t changes = pier_result_changes(result);
    assert_int_equal(pier_result_last_id(result), 0);
    pier_result_free(result);
    return changes;
}

static void test_result__says_how_many_rows_were_changed(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db_execute(db, "create table changed(x int)", NULL, &err);
    assert_int_equal(err.status, 0);
    assert_int_equal(changes_of("insert into changed values (1), (2) returning x"), 2);
    assert_int_equal(changes_of("select x from changed"), 0);
    assert_int_equal(changes_of("delete from changed where x = 1 returning x"), 1);
    pier_db_execute(db, "drop table changed", NULL, &err);
}

static void test_as__reads_text_as_what_it_says(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_result *result =
        pier_db_fetch(db, "select '42'::text, '2.5'::text, 'yes'::text", NULL, &err);
    const pier_row *row = pier_result_row(result, 0);
    assert_int_equal(pier_row_as_int64(row, 0), 42);
    assert_true(pier_row_as_double(row, 1) == 2.5);
    assert_true(pier_row_as_bool(row, 2));
    assert_int_equal(pier_result_check(result, &err), 0);
    pier_result_free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_refused__says_what_to_do_instead),
        TEST(test_result__says_how_many_rows_were_changed),
        TEST(test_as__reads_text_as_what_it_says),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
