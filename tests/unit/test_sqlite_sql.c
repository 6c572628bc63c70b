/* The text of statements and of URLs, as the SQLite driver reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sqlite3.h>
#include <string.h>

#include "drivers/sqlite/driver.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/sql.h"

static void assert_refused(const char *name, const char *says)
{
    pier_error err = {0};
    assert_int_equal(pier__sqlite_sql_argument(name, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, says));
}

static void test_argument__is_the_number_of_the_name(void **state)
{
    (void)state;
    assert_int_equal(pier__sqlite_sql_argument("$1", NULL), 1);
    assert_int_equal(pier__sqlite_sql_argument("$32766", NULL), 32766);
}

static void test_argument__goes_by_position_where_there_is_no_name(void **state)
{
    (void)state;
    assert_int_equal(pier__sqlite_sql_argument(NULL, NULL), 0);
    assert_int_equal(pier__sqlite_sql_argument("?7", NULL), 0);
}

static void test_argument__goes_by_its_name(void **state)
{
    (void)state;
    assert_int_equal(pier__sqlite_sql_argument("$name", NULL), PIER__SQLITE_NAMED);
    assert_int_equal(pier__sqlite_sql_argument(":a1", NULL), PIER__SQLITE_NAMED);
    assert_int_equal(pier__sqlite_sql_argument("@_x", NULL), PIER__SQLITE_NAMED);
}

static void test_inserts__finds_the_statement_behind_with(void **state)
{
    (void)state;
    assert_true(pier__sqlite_sql_inserts("-- x\n Insert into t values (1)"));
    assert_true(pier__sqlite_sql_inserts("replace into t values (1)"));
    assert_true(pier__sqlite_sql_inserts("with a(x) as (select 1) insert into t select x from a"));
    assert_false(pier__sqlite_sql_inserts("with a(x) as (select 'insert') delete from t"));
    assert_false(pier__sqlite_sql_inserts("with \"insert\"(x) as (select 1) update t set x = 1"));
    assert_false(pier__sqlite_sql_inserts("update t set name = replace(name, 'a', 'b')"));
    assert_false(pier__sqlite_sql_inserts("with 'not closed"));
    assert_false(pier__sqlite_sql_inserts(""));
}

static void test_argument__refuses_other_names_and_says_what_to_write(void **state)
{
    (void)state;
    assert_refused("$1::int", "cast($1 as integer)");
    assert_refused("$12::text", "cast($12 as text)");
    assert_refused("$name::int", "cast($name as integer)");
    assert_refused(":1", "write $1, $2, ...");
    assert_refused("@2", "write $1, $2, ...");
    assert_refused("$name(x)", "$1, $2, ...");
    assert_refused("$0", "$1, $2, ...");
    assert_refused("$01", "$1, $2, ...");
    assert_refused("$", "$1, $2, ...");
    assert_refused("$32767", "$1, $2, ...");
    assert_refused("$99999999999999999999", "$1, $2, ...");
    assert_refused("$1(x)", "$1, $2, ...");
}

static void test_skip__passes_over_comments_and_semicolons(void **state)
{
    (void)state;
    assert_string_equal(pier__sqlite_sql_skip(" ;\n-- x; y\n /* ; */; select 1"), "select 1");
    assert_string_equal(pier__sqlite_sql_skip("-- to the end"), "");
    assert_string_equal(pier__sqlite_sql_skip("/* not closed; select 1"), "");
    assert_string_equal(pier__sqlite_sql_skip("- 1"), "- 1");
    assert_string_equal(pier__sqlite_sql_skip("/ 2"), "/ 2");
}

static void test_pragma__is_recognised_behind_comments(void **state)
{
    (void)state;
    assert_true(pier__sqlite_sql_is_pragma("/* x */ PRAGMA foreign_keys = on"));
    assert_false(pier__sqlite_sql_is_pragma("select 'pragma'"));
}

static void test_pragma__busy_timeout_is_refused_with_the_remedy(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier__sqlite_sql_check_pragma("pragma foreign_keys = on", &err), 0);
    assert_int_equal(pier__sqlite_sql_check_pragma("pragma main.foreign_keys", &err), 0);
    assert_int_equal(err.status, 0);
    assert_int_equal(pier__sqlite_sql_check_pragma(" pragma  BUSY_TIMEOUT=5", &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "busy_timeout_ms"));
    assert_int_equal(pier__sqlite_sql_check_pragma("pragma main.busy_timeout(5)", NULL),
                     PIER_EINVAL);
}

static void assert_excerpt(const char *sql, const char *expected)
{
    char excerpt[PIER__SQLITE_EXCERPT];
    pier__sqlite_sql_excerpt(excerpt, sql);
    assert_string_equal(excerpt, expected);
}

static void test_excerpt__folds_white_space(void **state)
{
    (void)state;
    assert_excerpt("  select\n\t 1 ,\r\n 2  ", "select 1 , 2");
    assert_excerpt("", "");
    assert_excerpt(" \n ", "");
}

static void test_excerpt__is_cut_between_characters(void **state)
{
    (void)state;
    /* Two bytes each, so that one of two lengths of the prefix is cut in the middle. */
    for (int prefix = 0; prefix < 2; prefix++) {
        char sql[600] = "";
        memcpy(sql, "x", (size_t)prefix);
        for (int i = 0; i < 200; i++) {
            strcat(sql, "\xc3\xa4");
        }
        char excerpt[PIER__SQLITE_EXCERPT];
        pier__sqlite_sql_excerpt(excerpt, sql);
        size_t size = strlen(excerpt);
        assert_true(size > PIER__SQLITE_EXCERPT - 8);
        assert_string_equal(excerpt + size - 3, "...");
        assert_int_equal((unsigned char)excerpt[size - 4], 0xa4);
    }
}

static void test_position__counts_characters_from_1(void **state)
{
    (void)state;
    const char *sql = "\xc3\xa4\xc3\xb6 x";
    assert_int_equal(pier__sqlite_sql_position(sql, 0), 1);
    assert_int_equal(pier__sqlite_sql_position(sql, 2), 2);
    assert_int_equal(pier__sqlite_sql_position(sql, 5), 4);
    assert_int_equal(pier__sqlite_sql_position(sql, 100), 5);
}

static pier__sqlite_url read_url(const char *text)
{
    pier__sqlite_url url = {0};
    pier_error err = {0};
    assert_int_equal(pier__sqlite_url_read(&url, text, &err), 0);
    return url;
}

static void assert_path(const char *text, const char *path)
{
    pier__sqlite_url url = read_url(text);
    assert_int_equal(url.path_size, strlen(path));
    assert_memory_equal(url.path, path, url.path_size);
}

static void test_url__takes_the_path_as_it_is(void **state)
{
    (void)state;
    assert_path("sqlite:data.db", "data.db");
    assert_path("sqlite::memory:", ":memory:");
    assert_path("sqlite:/var/a%20b.db?mode=ro", "/var/a%20b.db");
    assert_path("sqlite:///var/x.db", "/var/x.db");
}

static void test_url__has_defaults_and_keys(void **state)
{
    (void)state;
    pier__sqlite_url url = read_url("sqlite:x");
    assert_int_equal(url.open_flags, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE);
    assert_int_equal(url.busy_timeout_ms, 5000);
    url = read_url("sqlite:x?mode=ro&&busy_timeout_ms=0");
    assert_int_equal(url.open_flags, SQLITE_OPEN_READONLY);
    assert_int_equal(url.busy_timeout_ms, 0);
    assert_int_equal(read_url("sqlite:x?mode=rw").open_flags, SQLITE_OPEN_READWRITE);
    assert_int_equal(read_url("sqlite:x?").busy_timeout_ms, 5000);
}

static void assert_bad_url(const char *text, const char *says)
{
    pier__sqlite_url url = {0};
    pier_error err = {0};
    assert_int_equal(pier__sqlite_url_read(&url, text, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, says));
}

static void test_url__refuses_what_it_does_not_know_and_names_what_it_does(void **state)
{
    (void)state;
    assert_bad_url("sqlite:x?cache=shared", "known are mode, preset");
    assert_bad_url("sqlite:x?mode=wr", "ro, rw, rwc or memory");
    assert_bad_url("sqlite:x?mode", "ro, rw, rwc or memory");
    assert_bad_url("sqlite:x?busy_timeout_ms=", "a number from 0");
    assert_bad_url("sqlite:x?busy_timeout_ms=-1", "a number from 0");
    assert_bad_url("sqlite:x?busy_timeout_ms=99999999999999999999", "a number from 0");
    assert_bad_url("sqlite:", "sqlite:path");
    assert_bad_url("sqlite:?mode=ro", "sqlite:path");
    assert_bad_url("sqlite://x.db", "sqlite:path");
    assert_bad_url("postgresql:x", "sqlite:");
}

static void test_status__follows_the_primary_code(void **state)
{
    (void)state;
    assert_int_equal(pier__sqlite_status(SQLITE_CONSTRAINT_UNIQUE), PIER_ECONSTRAINT);
    assert_int_equal(pier__sqlite_status(SQLITE_BUSY_SNAPSHOT), PIER_EBUSY);
    assert_int_equal(pier__sqlite_status(SQLITE_LOCKED), PIER_EBUSY);
    assert_int_equal(pier__sqlite_status(SQLITE_IOERR_FSYNC), PIER_EIO);
    assert_int_equal(pier__sqlite_status(SQLITE_NOMEM), PIER_ENOMEM);
    assert_int_equal(pier__sqlite_status(SQLITE_TOOBIG), PIER_ERANGE);
    assert_int_equal(pier__sqlite_status(SQLITE_MISMATCH), PIER_ETYPE);
    assert_int_equal(pier__sqlite_status(SQLITE_CONSTRAINT_DATATYPE), PIER_ETYPE);
    assert_int_equal(pier__sqlite_status(SQLITE_ERROR), PIER_ESQL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_argument__is_the_number_of_the_name),
        cmocka_unit_test(test_argument__goes_by_position_where_there_is_no_name),
        cmocka_unit_test(test_argument__refuses_other_names_and_says_what_to_write),
        cmocka_unit_test(test_argument__goes_by_its_name),
        cmocka_unit_test(test_inserts__finds_the_statement_behind_with),
        cmocka_unit_test(test_skip__passes_over_comments_and_semicolons),
        cmocka_unit_test(test_pragma__is_recognised_behind_comments),
        cmocka_unit_test(test_pragma__busy_timeout_is_refused_with_the_remedy),
        cmocka_unit_test(test_excerpt__folds_white_space),
        cmocka_unit_test(test_excerpt__is_cut_between_characters),
        cmocka_unit_test(test_position__counts_characters_from_1),
        cmocka_unit_test(test_url__takes_the_path_as_it_is),
        cmocka_unit_test(test_url__has_defaults_and_keys),
        cmocka_unit_test(test_url__refuses_what_it_does_not_know_and_names_what_it_does),
        cmocka_unit_test(test_status__follows_the_primary_code),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
