/* Statements without their literals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sdk/query_log.h"
#include <string.h>

static void assert_masked(const char *sql, const char *expected)
{
    char masked[200];
    pier__query_mask(masked, sizeof masked, sql, strlen(sql));
    assert_string_equal(masked, expected);
}

static void test_mask__hides_strings(void **state)
{
    (void)state;
    assert_masked("select 'it''s', x", "select ?, x");
    assert_masked("select E'a\\'b', n", "select E?, n");
    assert_masked("select tape'x\\', n", "select tape?, n");
    assert_masked("select $$secret$$, $a$x$$y$a$, $1", "select ?, ?, $1");
    assert_masked("select a$b$ from t", "select a$b$ from t");
    assert_masked("select 'never ends", "select ?");
    assert_masked("select $$never ends", "select ?");
}

static void test_mask__hides_numbers_but_not_names(void **state)
{
    (void)state;
    assert_masked("select 1, -2.5e-3, .5, 0x1F from t1 where a2 = 7",
                  "select ?, -?, ?, ? from t1 where a2 = ?");
    assert_masked("values ($1, ?2, :n3, @4)", "values ($1, ?2, :n3, @4)");
    assert_masked("select \"7 'days'\" from t", "select \"7 'days'\" from t");
}

static void test_mask__drops_comments(void **state)
{
    (void)state;
    assert_masked("select a -- secret\n, b", "select a  \n, b");
    assert_masked("select /* a /* nested */ one */ 1", "select   ?");
    assert_masked("select a - b / c", "select a - b / c");
    assert_masked("select /* never ends", "select  ");
}

static void test_mask__is_bounded_by_whole_characters(void **state)
{
    (void)state;
    char masked[8];
    pier__query_mask(masked, sizeof masked, "abcde\xE2\x82\xAC", 8);
    assert_string_equal(masked, "abcde");
    pier__query_mask(masked, sizeof masked, "abcd\xE2\x82\xACz", 8);
    assert_string_equal(masked, "abcd\xE2\x82\xAC");
    pier__query_mask(masked, 1, "abcd", 4);
    assert_string_equal(masked, "");
    pier__query_mask(masked, sizeof masked, "", 0);
    assert_string_equal(masked, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mask__hides_strings),
        cmocka_unit_test(test_mask__hides_numbers_but_not_names),
        cmocka_unit_test(test_mask__drops_comments),
        cmocka_unit_test(test_mask__is_bounded_by_whole_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
