/* Prepared statements of the SQLite driver: their cache, their arguments, their failures. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drivers/sqlite/error.h"
#include "drivers/sqlite/statement.h"
#include "sdk/alloc.h"

static sqlite3 *sqlite;
static pier__sqlite_cache cache;

static int set_up(void **state)
{
    (void)state;
    memset(&cache, 0, sizeof cache);
    pier__sqlite_cache_init(&cache, 3);
    return sqlite3_open(":memory:", &sqlite);
}

/* sqlite3_close fails while a statement is left. */
static int tear_down(void **state)
{
    (void)state;
    pier__sqlite_cache_fini(&cache);
    return sqlite3_close(sqlite);
}

static pier__sqlite_statement *take(const char *sql)
{
    pier_error err = {0};
    pier__sqlite_statement *statement =
        pier__sqlite_cache_take(&cache, sqlite, sql, strlen(sql), &err);
    assert_string_equal(err.message, "");
    assert_non_null(statement);
    return statement;
}

static void give(pier__sqlite_statement *statement)
{
    pier__sqlite_cache_give(&cache, statement);
}

static pier_error refused(const char *sql)
{
    pier_error err = {0};
    assert_null(pier__sqlite_cache_take(&cache, sqlite, sql, strlen(sql), &err));
    assert_true(err.status < 0);
    return err;
}

static void assert_says(const pier_error *err, int status, const char *says)
{
    assert_int_equal(err->status, status);
    if (!strstr(err->message, says)) {
        fail_msg("\"%s\" does not say \"%s\"", err->message, says);
    }
}

static void execute(const char *sql)
{
    assert_int_equal(sqlite3_exec(sqlite, sql, NULL, NULL, NULL), SQLITE_OK);
}

/* The text that a statement of one row and column gives for these arguments. */
static const char *text_of(pier__sqlite_statement *statement, const pier_args *args)
{
    pier_error err = {0};
    assert_true(pier__sqlite_statement_bind(statement, args, &err));
    assert_int_equal(sqlite3_step(statement->stmt), SQLITE_ROW);
    return (const char *)sqlite3_column_text(statement->stmt, 0);
}

static void test_cache__gives_the_same_statement_again(void **state)
{
    (void)state;
    pier__sqlite_statement *one = take("select 1"), *two = take("select 2");
    give(one);
    give(two);
    assert_ptr_equal(take("select 1"), one);
    assert_ptr_equal(take("select 2"), two);
    give(one);
    give(two);
    assert_int_equal(cache.count, 2);
}

static void test_cache__gives_another_while_one_is_in_use(void **state)
{
    (void)state;
    pier__sqlite_statement *one = take("select 1"), *other = take("select 1");
    assert_ptr_not_equal(one, other);
    give(one);
    give(other);
}

static void test_cache__evicts_what_was_used_longest_ago(void **state)
{
    (void)state;
    pier__sqlite_statement *first = take("select 1"), *second = take("select 2");
    give(first);
    give(second);
    give(take("select 3"));
    give(take("select 1"));
    give(take("select 4"));
    assert_int_equal(cache.count, 3);
    assert_ptr_equal(cache.oldest->newer, first);
    assert_string_equal(cache.oldest->sql, "select 3");
    assert_string_equal(cache.newest->sql, "select 4");
}

static void test_cache__keeps_what_is_in_use_beyond_its_size(void **state)
{
    (void)state;
    pier__sqlite_statement *held[6];
    for (int i = 0; i < 6; i++) {
        char sql[32];
        snprintf(sql, sizeof sql, "select %d", i);
        held[i] = take(sql);
    }
    assert_int_equal(cache.count, 6);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(sqlite3_step(held[i]->stmt), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(held[i]->stmt, 0), i);
        give(held[i]);
    }
    assert_int_equal(cache.count, 3);
}

static void test_cache__finds_each_of_many_statements(void **state)
{
    (void)state;
    cache.max = 1000;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 1000; i++) {
            char sql[64];
            snprintf(sql, sizeof sql, "select %d, 'a text that all of them share'", i);
            pier__sqlite_statement *statement = take(sql);
            assert_int_equal(sqlite3_step(statement->stmt), SQLITE_ROW);
            assert_int_equal(sqlite3_column_int(statement->stmt, 0), i);
            give(statement);
        }
        assert_int_equal(cache.count, 1000);
    }
}

static void test_cache__does_not_keep_pragmas(void **state)
{
    (void)state;
    for (int on = 0; on < 4; on++) {
        pier__sqlite_statement *statement =
            take(on % 2 ? "pragma foreign_keys = on" : "pragma foreign_keys = off");
        assert_int_equal(sqlite3_step(statement->stmt), SQLITE_DONE);
        give(statement);
        statement = take("pragma foreign_keys");
        assert_int_equal(sqlite3_step(statement->stmt), SQLITE_ROW);
        assert_int_equal(sqlite3_column_int(statement->stmt, 0), on % 2);
        give(statement);
    }
    assert_int_equal(cache.count, 0);
    pier_error err = refused("pragma busy_timeout = 5");
    assert_says(&err, PIER_EINVAL, "busy_timeout_ms");
}

static void test_cache__resets_what_it_is_given(void **state)
{
    (void)state;
    execute("create table t(x); insert into t values (1), (2)");
    pier__sqlite_statement *statement = take("select x from t");
    assert_int_equal(sqlite3_step(statement->stmt), SQLITE_ROW);
    give(statement);
    execute("drop table t"); /* would fail while a statement reads */
}

static void test_prepare__refuses_what_is_not_one_statement(void **state)
{
    (void)state;
    pier_error err = refused("select 1; select 2");
    assert_says(&err, PIER_EINVAL, "pier_db_execute_script");
    err = refused("select 1; x");
    assert_says(&err, PIER_EINVAL, "pier_db_execute_script");
    err = refused(" -- nothing");
    assert_says(&err, PIER_EINVAL, "no statement");
    err = refused("");
    assert_says(&err, PIER_EINVAL, "no statement");
    give(take("; select 1 ; -- and no more\n ; /* */ "));
}

static void test_prepare__maps_numbers_by_their_name(void **state)
{
    (void)state;
    pier__sqlite_statement *statement = take("select $2 || $1 || $3 || $1");
    assert_int_equal(statement->parameters, 3);
    assert_int_equal(statement->needed, 3);
    assert_string_equal(text_of(statement, PIER_ARGS("a", "b", "c")), "baca");
    give(statement);
}

static void test_prepare__counts_what_the_highest_number_needs(void **state)
{
    (void)state;
    pier__sqlite_statement *statement = take("select $3");
    assert_int_equal(statement->needed, 3);
    assert_string_equal(text_of(statement, PIER_ARGS("a", "b", "c")), "c");
    give(statement);
}

static void test_prepare__takes_question_marks_by_position(void **state)
{
    (void)state;
    pier__sqlite_statement *statement = take("select ? || ?");
    assert_string_equal(text_of(statement, PIER_ARGS("a", "b")), "ab");
    give(statement);
    statement = take("select ?2");
    assert_int_equal(statement->needed, 2);
    assert_string_equal(text_of(statement, PIER_ARGS("a", "b")), "b");
    give(statement);
}

static void test_prepare__refuses_mixed_parameters_and_casts(void **state)
{
    (void)state;
    pier_error err = refused("select $1, ?");
    assert_says(&err, PIER_EINVAL, "mixed");
    err = refused("select ?, $1");
    assert_says(&err, PIER_EINVAL, "mixed");
    err = refused("select $1::int");
    assert_says(&err, PIER_EINVAL, "cast($1 as integer)");
    assert_non_null(strstr(err.message, "select $1::int"));
}

static pier_error bind_error(const char *sql, const pier_args *args)
{
    pier__sqlite_statement *statement = take(sql);
    pier_error err = {0};
    assert_false(pier__sqlite_statement_bind(statement, args, &err));
    give(statement);
    return err;
}

static void test_bind__says_how_many_arguments_are_needed_and_given(void **state)
{
    (void)state;
    pier_error err = bind_error("select $1, $2", PIER_ARGS(1));
    assert_says(&err, PIER_EINVAL, "needs 2 arguments and was given 1: select $1, $2");
    err = bind_error("select $1", NULL);
    assert_says(&err, PIER_EINVAL, "needs 1 argument and was given 0");
    err = bind_error("select 1", PIER_ARGS(1, 2));
    assert_says(&err, PIER_EINVAL, "needs 0 arguments and was given 2");
}

static void test_bind__refuses_what_sqlite_would_change(void **state)
{
    (void)state;
    pier_error err = bind_error("select $1, $2", PIER_ARGS(1, (double)NAN));
    assert_says(&err, PIER_EINVAL, "$2 is not a number");
    err = bind_error("select $1", PIER_ARGS(UINT64_MAX));
    assert_says(&err, PIER_EINVAL, "$1 cannot be bound: an unsigned integer above INT64_MAX");
    err = bind_error("select $1", PIER_ARGS(pier_text_sized("x", SIZE_MAX / 2)));
    assert_says(&err, PIER_ERANGE, "argument $1");
}

static void test_bind__takes_text_and_bytes_of_no_size(void **state)
{
    (void)state;
    pier__sqlite_statement *statement = take("select typeof($1) || typeof($2) || typeof($3)");
    const pier_args *args =
        PIER_ARGS(pier_text_sized(NULL, 0), pier_bytes(NULL, 0), pier_text(NULL));
    assert_string_equal(text_of(statement, args), "textblobnull");
    give(statement);
}

static void test_bind__values_are_in_no_message(void **state)
{
    (void)state;
    execute("create table s(x text check (x < 'm'))");
    pier__sqlite_statement *statement = take("insert into s values ($1)");
    pier_error err = {0};
    assert_true(pier__sqlite_statement_bind(statement, PIER_ARGS("zebra"), &err));
    int code = sqlite3_step(statement->stmt);
    pier__sqlite_error(&err, sqlite, code, statement->sql, statement->sql);
    assert_null(memmem(&err, sizeof err, "zebra", 5));
    assert_says(&err, PIER_ECONSTRAINT, "insert into s values ($1)");
    give(statement);
}

static void test_error__names_the_constraint(void **state)
{
    (void)state;
    execute("create table t(a int unique, b int not null, constraint positive check (a > 0));"
            "insert into t values (1, 1)");
    static const struct {
        const char *sql, *constraint;
    } cases[] = {
        {"insert into t values (1, 2)", "t.a"},
        {"insert into t values (2, null)", "t.b"},
        {"insert into t values (-1, 2)", "positive"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pier__sqlite_statement *statement = take(cases[i].sql);
        pier_error err = {0};
        sqlite3_extended_result_codes(sqlite, 1);
        pier__sqlite_error(&err, sqlite, sqlite3_step(statement->stmt), statement->sql,
                           statement->sql);
        assert_int_equal(err.status, PIER_ECONSTRAINT);
        assert_int_equal(err.origin, PIER_ORIGIN_SQLITE);
        assert_int_equal(err.native & 0xFF, SQLITE_CONSTRAINT);
        assert_true(err.native > 0xFF);
        assert_string_equal(err.constraint, cases[i].constraint);
        give(statement);
    }
}

static void test_error__gives_the_position_in_characters(void **state)
{
    (void)state;
    pier_error err = refused("select '\xc3\xa4', nothere");
    assert_says(&err, PIER_ESQL, "no such column: nothere: select '\xc3\xa4', nothere");
#if SQLITE_VERSION_NUMBER >= 3038000
    assert_string_equal(pier_error_field(&err, PIER_FIELD_POSITION), "13");
#endif
}

static void test_names__follow_a_change_of_the_schema(void **state)
{
    (void)state;
    execute("create table t(a); insert into t values (1)");
    pier__sqlite_statement *statement = take("select * from t");
    sqlite3_step(statement->stmt);
    assert_int_equal(pier__sqlite_statement_names(statement)->count, 1);
    give(statement);
    execute("alter table t add column b");
    assert_ptr_equal(take("select * from t"), statement);
    sqlite3_step(statement->stmt);
    pier__sqlite_names *names = pier__sqlite_statement_names(statement);
    assert_int_equal(names->count, 2);
    assert_string_equal(names->name[1], "b");
    assert_ptr_equal(pier__sqlite_statement_names(statement), names);
    give(statement);
}

static int failing; /* the allocation that fails, from 1; 0: none */

static bool fail_one(size_t size)
{
    (void)size;
    return failing && !--failing;
}

static void test_take__fails_cleanly_at_each_allocation(void **state)
{
    (void)state;
    static const char sql[] = "select $2, $1";
    int n = 1;
    for (;; n++) {
        pier_error err = {0};
        failing = n;
        pier__alloc_set_gate(fail_one);
        pier__sqlite_statement *statement =
            pier__sqlite_cache_take(&cache, sqlite, sql, sizeof sql - 1, &err);
        pier__alloc_set_gate(NULL);
        if (statement) {
            give(statement);
            break;
        }
        assert_int_equal(err.status, PIER_ENOMEM);
        assert_int_equal(cache.count, 0);
    }
    assert_int_equal(n, 3); /* the statement, the order of its arguments */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cache__gives_the_same_statement_again),
        TEST(test_cache__gives_another_while_one_is_in_use),
        TEST(test_cache__evicts_what_was_used_longest_ago),
        TEST(test_cache__keeps_what_is_in_use_beyond_its_size),
        TEST(test_cache__finds_each_of_many_statements),
        TEST(test_cache__does_not_keep_pragmas),
        TEST(test_cache__resets_what_it_is_given),
        TEST(test_prepare__refuses_what_is_not_one_statement),
        TEST(test_prepare__maps_numbers_by_their_name),
        TEST(test_prepare__counts_what_the_highest_number_needs),
        TEST(test_prepare__takes_question_marks_by_position),
        TEST(test_prepare__refuses_mixed_parameters_and_casts),
        TEST(test_bind__says_how_many_arguments_are_needed_and_given),
        TEST(test_bind__refuses_what_sqlite_would_change),
        TEST(test_bind__takes_text_and_bytes_of_no_size),
        TEST(test_bind__values_are_in_no_message),
        TEST(test_error__names_the_constraint),
        TEST(test_error__gives_the_position_in_characters),
        TEST(test_names__follow_a_change_of_the_schema),
        TEST(test_take__fails_cleanly_at_each_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
