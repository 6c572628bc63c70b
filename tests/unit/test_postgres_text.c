/* Text that a server sends about itself, made fit for messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/postgres/text.h"
#include <string.h>

static void assert_clean(const char *text, size_t size, const char *expected)
{
    char clean[64];
    pier__postgres_clean(clean, size, text);
    assert_string_equal(clean, expected);
}

static void test_clean__keeps_characters_of_every_width(void **state)
{
    (void)state;
    assert_clean("a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z", 64,
                 "a\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80z");
}

static void test_clean__marks_what_is_no_utf8(void **state)
{
    (void)state;
    assert_clean("Verbindung verweigert f\xFCr", 64, "Verbindung verweigert f?r");
    assert_clean("\xC0\x80\xE0\x80\x80", 64, "?????"); /* overlong */
    assert_clean("\xED\xA0\x80", 64, "???");           /* a surrogate */
    assert_clean("\xF4\x90\x80\x80\xFF", 64, "?????"); /* beyond the last character */
    assert_clean("x\xE2\x82", 64, "x??");              /* half of one */
}

static void test_clean__cuts_between_characters(void **state)
{
    (void)state;
    assert_clean("ab\xE2\x82\xAC", 6, "ab\xE2\x82\xAC");
    assert_clean("ab\xE2\x82\xAC", 5, "ab");
    assert_clean("ab\xE2\x82\xAC", 4, "ab");
    assert_clean("ab", 1, "");
}

static void test_fold__makes_one_line(void **state)
{
    (void)state;
    char line[16];
    assert_int_equal(pier__postgres_fold(line, sizeof line, " a\n\t b \r\n", 9), 9);
    assert_string_equal(line, "a b");
    assert_int_equal(pier__postgres_fold(line, 4, "ab cd", 5), 3);
    assert_string_equal(line, "ab");
    assert_int_equal(pier__postgres_fold(line, 4, "ab\xC3\xA4", 4), 2);
    assert_string_equal(line, "ab");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean__keeps_characters_of_every_width),
        cmocka_unit_test(test_clean__marks_what_is_no_utf8),
        cmocka_unit_test(test_clean__cuts_between_characters),
        cmocka_unit_test(test_fold__makes_one_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
