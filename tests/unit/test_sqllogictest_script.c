/* The reader of the sqllogictest runner: what a file says becomes records; what is wrong in it has
 * the line where it is wrong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/sqllogictest/script.h"

static const char *const names[] = {"sqlite", "sqlite3", NULL};

static char path[] = "/tmp/pier-script-XXXXXX";
static struct slt_script script;
static struct slt_record record;

static void open_sized(const char *text, size_t size)
{
    strcpy(path + strlen(path) - 6, "XXXXXX");
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, size), size);
    close(fd);
    assert_true(slt_script_open(&script, path, names));
    unlink(path);
}

static void open_text(const char *text)
{
    open_sized(text, strlen(text));
}

static enum slt_kind next(void)
{
    slt_script_next(&script, &record);
    return record.kind;
}

static int tear_down(void **state)
{
    (void)state;
    slt_script_close(&script);
    slt_record_fini(&record);
    return 0;
}

static void test_statement__has_its_sql_and_what_is_wanted_of_it(void **state)
{
    (void)state;
    open_text("statement ok\nselect 1\n\n"
              "statement error no such  table \nselect 2\nfrom t\n\n"
              "statement count 17\ndelete from t");
    assert_int_equal(next(), SLT_STATEMENT);
    assert_int_equal(record.wanted, SLT_OK);
    assert_string_equal(record.sql.data, "select 1");
    assert_int_equal(next(), SLT_STATEMENT);
    assert_int_equal(record.line, 4);
    assert_int_equal(record.wanted, SLT_ERROR);
    assert_string_equal(record.text.data, "no such  table");
    assert_string_equal(record.sql.data, "select 2\nfrom t");
    assert_int_equal(next(), SLT_STATEMENT);
    assert_int_equal(record.wanted, SLT_COUNT);
    assert_int_equal(record.count, 17);
    assert_int_equal(next(), SLT_END);
    assert_int_equal(next(), SLT_END);
}

static void test_query__has_types_order_label_and_results(void **state)
{
    (void)state;
    open_text("query IRT rowsort some-label\nselect 1\n----\n1\n 2.5 \n\nquery T\nselect ''\n");
    assert_int_equal(next(), SLT_QUERY);
    assert_string_equal(record.types.data, "IRT");
    assert_int_equal(record.sort, SLT_ROWSORT);
    assert_string_equal(record.label.data, "some-label");
    assert_int_equal(record.expected_line, 4);
    assert_int_equal(record.expected.count, 2);
    assert_string_equal(slt_values_at(&record.expected, 0), "1");
    assert_string_equal(slt_values_at(&record.expected, 1), " 2.5 ");
    assert_int_equal(next(), SLT_QUERY);
    assert_int_equal(record.sort, SLT_NOSORT);
    assert_string_equal(record.label.data, "");
    assert_int_equal(record.expected.count, 0);
}

static void test_query__has_a_hash_instead_of_results(void **state)
{
    (void)state;
    open_text("query I valuesort\nselect 1\n----\n30 values hashing to "
              "3C13DEE48D9356AE19AF2515E05E6B54\n\nquery I\nselect 1\n----\n2\n3 values hashing\n");
    assert_int_equal(next(), SLT_QUERY);
    assert_int_equal(record.sort, SLT_VALUESORT);
    assert_true(record.hashed);
    assert_int_equal(record.hashed_count, 30);
    assert_string_equal(record.hash, "3c13dee48d9356ae19af2515e05e6b54");
    assert_int_equal(next(), SLT_QUERY);
    assert_false(record.hashed);
    assert_int_equal(record.expected.count, 2);
}

static void test_comments__are_gone_and_do_not_end_records(void **state)
{
    (void)state;
    open_text("# one\nstatement ok # why\n# two\nselect 1\n#three\n, 2\n# four\n\n"
              "query I # plain\nselect 1\n----\n# five\n1\n");
    assert_int_equal(next(), SLT_STATEMENT);
    assert_int_equal(record.line, 2);
    assert_string_equal(record.sql.data, "select 1\n, 2");
    assert_int_equal(next(), SLT_QUERY);
    assert_int_equal(record.expected.count, 1);
    assert_int_equal(record.expected_line, 13);
}

static void test_line_ends__may_be_of_another_system(void **state)
{
    (void)state;
    open_text(
        "\xef\xbb\xbfstatement ok\r\nselect 1\r\n \t\r\nquery I\r\nselect 1\r\n----\r\n1\r\n");
    assert_int_equal(next(), SLT_STATEMENT);
    assert_string_equal(record.sql.data, "select 1");
    assert_int_equal(next(), SLT_QUERY);
    assert_int_equal(record.line, 4);
    assert_string_equal(slt_values_at(&record.expected, 0), "1");
}

static void test_conditions__skip_what_is_not_for_this_database(void **state)
{
    (void)state;
    static const bool skipped[] = {true, false, false, true, true, false};
    open_text("skipif sqlite\nhalt\n\nskipif mysql # why\nhalt\n\nonlyif SQLite3\nhalt\n\n"
              "onlyif mysql\nhalt\n\nonlyif sqlite\nskipif sqlite\nhalt\n\nhalt\n");
    for (size_t i = 0; i < sizeof skipped / sizeof *skipped; i++) {
        assert_int_equal(next(), SLT_HALT);
        assert_int_equal(record.skipped, skipped[i]);
    }
    assert_int_equal(next(), SLT_END);
}

static void test_threshold__is_a_number(void **state)
{
    (void)state;
    open_text("hash-threshold 8\n\nhash-threshold many\n");
    assert_int_equal(next(), SLT_HASH_THRESHOLD);
    assert_int_equal(record.count, 8);
    assert_int_equal(next(), SLT_MALFORMED);
}

static void test_malformed_records__are_named_by_line_and_reading_goes_on(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned long line;
        const char *problem;
    } cases[] = {
        {"nonsense here\n", 1, "\"nonsense\" is not a kind of record"},
        {"\n\nstatement\nselect 1\n", 3, "a statement is ok, error or count, not \"\""},
        {"statement maybe\nselect 1\n", 1, "a statement is ok, error or count, not \"maybe\""},
        {"statement ok then\nselect 1\n", 1, "\"then\" is one word too many"},
        {"statement ok\n\nselect 1\n", 1, "there is no SQL below this line"},
        {"statement count\ndelete from t\n", 1, "statement count needs a number of rows"},
        {"statement count -1\ndelete from t\n", 1, "statement count needs a number of rows"},
        {"statement ok\nselect 1\n----\n1\n", 3, "a statement has no results"},
        {"query\nselect 1\n", 1, "a query needs a letter T, I or R for each column, not \"\""},
        {"query IX\nselect 1\n", 1, "a query needs a letter T, I or R for each column, not \"IX\""},
        {"query I sorted\nselect 1\n", 1,
         "the order is nosort, rowsort or valuesort, not \"sorted\""},
        {"query I nosort label more\nselect 1\n", 1, "\"more\" is one word too many"},
        {"query I\n----\n1\n", 1, "there is no SQL below this line"},
        {"query I\nselect 1\n----\n1 values hashing to 00\n", 4,
         "this is not N values hashing to an MD5"},
        {"skipif\nhalt\n", 1, "skipif needs the name of a database"},
        {"skipif mysql\nonlyif\nhalt\n", 2, "onlyif needs the name of a database"},
        {"onlyif sqlite\n\nhalt\n", 1, "there is no record below this line"},
        {"onlyif sqlite", 1, "there is no record below this line"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[200];
        snprintf(text, sizeof text, "%s\n\nhash-threshold 5\n", cases[i].text);
        open_text(text);
        assert_int_equal(next(), SLT_MALFORMED);
        assert_string_equal(record.problem, cases[i].problem);
        assert_int_equal(record.line, cases[i].line);
        while (next() == SLT_MALFORMED || record.kind == SLT_HALT) {
        }
        assert_int_equal(record.kind, SLT_HASH_THRESHOLD);
        assert_int_equal(next(), SLT_END);
        slt_script_close(&script);
    }
}

static void test_zero_bytes__are_malformed(void **state)
{
    (void)state;
    static const char text[] = "statement ok\nselect '\0'\n\nhalt\n";
    open_sized(text, sizeof text - 1);
    assert_int_equal(next(), SLT_MALFORMED);
    assert_int_equal(record.line, 1);
    assert_int_equal(next(), SLT_HALT);
}

static void test_lines__have_any_length(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    char *text = malloc(SIZE + 64);
    assert_non_null(text);
    memcpy(text, "statement ok\n", 13);
    memset(text + 13, 'x', SIZE);
    memcpy(text + 13 + SIZE, "\n\nhalt\n", 8);
    open_text(text);
    free(text);
    assert_int_equal(next(), SLT_STATEMENT);
    assert_int_equal(record.sql.size, SIZE);
    assert_int_equal(next(), SLT_HALT);
}

static void test_a_directory__is_no_file(void **state)
{
    (void)state;
    assert_true(slt_script_open(&script, "/", names));
    assert_int_equal(next(), SLT_MALFORMED);
    assert_non_null(strstr(record.problem, "Is a directory"));
    assert_int_equal(next(), SLT_END);
    assert_int_equal(next(), SLT_END);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_statement__has_its_sql_and_what_is_wanted_of_it, tear_down),
        cmocka_unit_test_teardown(test_query__has_types_order_label_and_results, tear_down),
        cmocka_unit_test_teardown(test_query__has_a_hash_instead_of_results, tear_down),
        cmocka_unit_test_teardown(test_comments__are_gone_and_do_not_end_records, tear_down),
        cmocka_unit_test_teardown(test_line_ends__may_be_of_another_system, tear_down),
        cmocka_unit_test_teardown(test_conditions__skip_what_is_not_for_this_database, tear_down),
        cmocka_unit_test_teardown(test_threshold__is_a_number, tear_down),
        cmocka_unit_test_teardown(test_malformed_records__are_named_by_line_and_reading_goes_on,
                                  tear_down),
        cmocka_unit_test_teardown(test_zero_bytes__are_malformed, tear_down),
        cmocka_unit_test_teardown(test_lines__have_any_length, tear_down),
        cmocka_unit_test_teardown(test_a_directory__is_no_file, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
