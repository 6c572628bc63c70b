/* Floating point as text, in a locale that writes a comma. */
#include "tests/unit/unit.h"

#include "sdk/number.h"
#include "tests/support/process.h"
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char directory[256];

/* The German locale, made for the test, so that none need be installed. */
static int enter_german(void **state)
{
    char command[600];
    (void)state;
    if (support_directory_make(directory, sizeof directory, "locale")) {
        return -1;
    }
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>&1", directory);
    if (system(command)) {
        print_error("%s failed (Debian: locales)\n", command);
        return -1;
    }
    setenv("LOCPATH", directory, 1);
    return setlocale(LC_ALL, "de_DE.UTF-8") && strtod("0,5", NULL) == 0.5 ? 0 : -1;
}

static int leave_german(void **state)
{
    (void)state;
    setlocale(LC_ALL, "C");
    unsetenv("LOCPATH");
    support_directory_remove(directory);
    return 0;
}

static void assert_written(double number, const char *expected)
{
    char text[40];
    assert_int_equal(pier__double_write(text, sizeof text, number), strlen(expected));
    assert_string_equal(text, expected);
}

static void test_double__is_written_with_a_point(void **state)
{
    (void)state;
    assert_written(0.5, "0.5");
    assert_written(0.1 + 0.2, "0.30000000000000004");
    assert_written(-1e300, "-1e+300");
    assert_written(INFINITY, "Infinity");
    assert_written(-INFINITY, "-Infinity");
    assert_written(NAN, "NaN");
}

static void assert_float_written(float number, const char *expected)
{
    char text[40];
    assert_int_equal(pier__float_write(text, sizeof text, number), strlen(expected));
    assert_string_equal(text, expected);
}

static void test_float__is_written_with_its_own_digits(void **state)
{
    (void)state;
    assert_float_written(0.1f, "0.1");
    assert_float_written(16777216.0f, "16777216");
    assert_float_written(0.3f - 0.1f, "0.20000002");
    assert_float_written(3.4028235e38f, "3.4028235e+38");
    assert_float_written(1e-45f, "1.4013e-45");
    assert_float_written(-INFINITY, "-Infinity");
    assert_float_written(NAN, "NaN");
}

static void test_double__is_read_with_a_point(void **state)
{
    (void)state;
    const char *end;
    assert_true(pier__double_read("12.75x", &end) == 12.75);
    assert_string_equal(end, "x");
    assert_true(pier__float_read("0.5", NULL) == 0.5f);
}

static void test_locale__of_the_program_is_left_alone(void **state)
{
    (void)state;
    char text[16];
    pier__double_read("0.5", NULL);
    snprintf(text, sizeof text, "%.1f", 0.5);
    assert_string_equal(text, "0,5");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double__is_written_with_a_point),
        cmocka_unit_test(test_float__is_written_with_its_own_digits),
        cmocka_unit_test(test_double__is_read_with_a_point),
        cmocka_unit_test(test_locale__of_the_program_is_left_alone),
    };
    return cmocka_run_group_tests(tests, enter_german, leave_german);
}
