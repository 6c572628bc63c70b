/* Lists of values of the sqllogictest runner: sorting, hashing, rows on a line; and how values are
 * written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pier/pier.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sqllogictest/labels.h"
#include "tests/sqllogictest/render.h"

static struct slt_values values;
static struct slt_values others;

static int tear_down(void **state)
{
    (void)state;
    slt_values_fini(&values);
    slt_values_fini(&others);
    return 0;
}

static void add(struct slt_values *to, const char *words)
{
    for (size_t size; *words; words += size + (words[size] != 0)) {
        size = strcspn(words, "|");
        slt_values_add(to, words, size);
    }
}

static void assert_values(const struct slt_values *got, const char *words)
{
    struct slt_values expected = {0};
    add(&expected, words);
    assert_int_equal(got->count, expected.count);
    for (size_t i = 0; i < got->count; i++) {
        assert_string_equal(slt_values_at(got, i), slt_values_at(&expected, i));
    }
    slt_values_fini(&expected);
}

static void test_sort__compares_bytes_value_by_value(void **state)
{
    (void)state;
    add(&values, "9|10|NULL|b|a|1");
    slt_values_sort(&values, 1);
    assert_values(&values, "1|10|9|NULL|a|b");
}

static void test_sort__keeps_rows_together(void **state)
{
    (void)state;
    add(&values, "b|1|a|2|b|0|a|10");
    slt_values_sort(&values, 2);
    assert_values(&values, "a|10|a|2|b|0|b|1");
}

static void test_hash__is_of_values_with_line_feeds(void **state)
{
    (void)state;
    char hash[SLT_MD5_TEXT];
    slt_values_hash(&values, hash);
    assert_string_equal(hash, "d41d8cd98f00b204e9800998ecf8427e");
    add(&values, "1|x|2|y z|3|NULL");
    slt_values_hash(&values, hash);
    assert_string_equal(hash, "468a790bef73a037b2e998d41ae4aaaf");
}

static void test_split_rows__at_tabs_or_at_blanks(void **state)
{
    (void)state;
    add(&values, "1\ta b\t|2  c   d|\t\t");
    assert_true(slt_values_split_rows(&values, 3, &others));
    assert_int_equal(others.count, 9);
    assert_string_equal(slt_values_at(&others, 1), "a b");
    assert_string_equal(slt_values_at(&others, 2), "");
    assert_string_equal(slt_values_at(&others, 4), "c");
    assert_false(slt_values_split_rows(&values, 2, &others));
}

static void test_values__grow_and_are_used_again(void **state)
{
    (void)state;
    for (int round = 0; round < 2; round++) {
        slt_values_clear(&values);
        for (int i = 0; i < 100000; i++) {
            slt_values_add(&values, "some text", (size_t)(i % 10));
        }
        assert_int_equal(values.count, 100000);
        assert_string_equal(slt_values_at(&values, 99999), "some text");
        assert_string_equal(slt_values_at(&values, 99994), "some");
    }
}

static void test_labels__remember_the_first(void **state)
{
    (void)state;
    struct slt_labels labels = {0};
    assert_int_equal(slt_labels_put(&labels, "a", "hash 1", 10)->line, 10);
    assert_int_equal(slt_labels_put(&labels, "b", "hash 2", 20)->line, 20);
    const struct slt_label *first = slt_labels_put(&labels, "a", "hash 3", 30);
    assert_int_equal(first->line, 10);
    assert_string_equal(first->hash, "hash 1");
    slt_labels_fini(&labels);
}

/* Every type that a database can give, under every letter. */
static void test_render__writes_values_by_letter(void **state)
{
    (void)state;
    static const struct {
        char letter;
        const char *sql;
        const char *written;
    } cases[] = {
        {'I', "select 42", "42"},
        {'I', "select -9223372036854775807 - 1", "-9223372036854775808"},
        {'I', "select 2.9", "2"},
        {'I', "select -2.9", "-2"},
        {'I', "select 1e30", "9223372036854775807"},
        {'I', "select -9e999", "-9223372036854775808"},
        {'I', "select ' 12abc'", "12"},
        {'I', "select 'abc'", "0"},
        {'I', "select x'31'", "0"},
        {'I', "select null", "NULL"},
        {'R', "select 42", "42.000"},
        {'R', "select 0.0005", "0.001"},
        {'R', "select -0.0", "0.000"},
        {'R', "select '2.5x'", "2.500"},
        {'R', "select 'x'", "0.000"},
        {'R', "select x'31'", "0.000"},
        {'R', "select 1234567890123456.5", "1234567890123456.500"},
        {'R', "select 12345678901234567890.0", "12345678901234570000.000"},
        {'R', "select -1e22", "-10000000000000000000000.000"},
        {'R', "select 9e999", "inf"},
        {'R', "select null", "NULL"},
        {'T', "select 'abc'", "abc"},
        {'T', "select 42", "42"},
        {'T', "select 1.5", "1.5"},
        {'T', "select ''", "(empty)"},
        {'T', "select x''", "(empty)"},
        {'T', "select null", "NULL"},
        {'T', "select 'a' || char(9, 10, 127, 126, 32) || 'b'", "a@@@~ b"},
        {'T', "select 'zażółć'", "za@@@@@@@@"},
        {'T', "select x'00ff41'", "@@A"},
    };
    pier_runner *runner = pier_runner_open(NULL, NULL);
    pier_db *db = pier_db_open(runner, "sqlite::memory:", NULL, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pier_result *result = pier_db_fetch(db, cases[i].sql, NULL, NULL);
        slt_values_clear(&values);
        slt_render(&values, cases[i].letter, pier_result_row(result, 0), 0);
        assert_string_equal(slt_values_at(&values, 0), cases[i].written);
        assert_int_equal(pier_result_check(result, NULL), 0);
        pier_result_free(result);
    }
    pier_runner_close(runner);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_sort__compares_bytes_value_by_value, tear_down),
        cmocka_unit_test_teardown(test_sort__keeps_rows_together, tear_down),
        cmocka_unit_test_teardown(test_hash__is_of_values_with_line_feeds, tear_down),
        cmocka_unit_test_teardown(test_split_rows__at_tabs_or_at_blanks, tear_down),
        cmocka_unit_test_teardown(test_values__grow_and_are_used_again, tear_down),
        cmocka_unit_test_teardown(test_labels__remember_the_first, tear_down),
        cmocka_unit_test_teardown(test_render__writes_values_by_letter, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
