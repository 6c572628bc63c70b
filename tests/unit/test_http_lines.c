/* Cutting a body that comes in chunks into lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/http/stream.h"
#include <stdlib.h>
#include <string.h>

/* Cuts `text`, given in chunks of `chunk` bytes, and compares with the lines expected. */
static void assert_cut(const char *text, size_t chunk, const char *const *expected)
{
    pier__lines lines = {0};
    size_t total = strlen(text), length;
    char *line;
    for (size_t from = 0; from < total; from += chunk) {
        size_t size = total - from < chunk ? total - from : chunk, at = 0;
        char *data = malloc(size); /* its own, so that sanitizers see a byte too many */
        memcpy(data, text + from, size);
        while (pier__lines_next(&lines, data, size, &at, &line, &length) == PIER__LINES_LINE) {
            assert_non_null(*expected);
            assert_string_equal(line, *expected);
            assert_int_equal(length, strlen(*expected));
            expected++;
        }
        assert_int_equal(at, size);
        free(data);
    }
    if (pier__lines_last(&lines, &line, &length)) {
        assert_non_null(*expected);
        assert_string_equal(line, *expected);
        assert_int_equal(length, strlen(*expected));
        expected++;
    }
    assert_null(*expected);
    pier__lines_fini(&lines);
}

static void test_lines__are_cut_wherever_chunks_end(void **state)
{
    (void)state;
    for (size_t chunk = 1; chunk < 30; chunk++) {
        assert_cut("one\ntwo\r\n\n\r\nfi\rve\nlast", chunk,
                   (const char *const[]){"one", "two", "", "", "fi\rve", "last", NULL});
        assert_cut("\n", chunk, (const char *const[]){"", NULL});
        assert_cut("", chunk, (const char *const[]){NULL});
        assert_cut("a\n", chunk, (const char *const[]){"a", NULL});
        assert_cut("a\r", chunk, (const char *const[]){"a\r", NULL});
    }
}

static void test_lines__have_a_bound(void **state)
{
    (void)state;
    enum { CHUNK = 1024 * 1024 };
    pier__lines lines = {0};
    char *data = malloc(CHUNK), *line;
    memset(data, 'x', CHUNK);
    size_t length, at;
    for (int i = 0; i < PIER__LINE_MAX / CHUNK; i++) {
        at = 0;
        assert_int_equal(pier__lines_next(&lines, data, CHUNK, &at, &line, &length),
                         PIER__LINES_MORE);
    }
    char end[] = "\r\n";
    at = 0;
    assert_int_equal(pier__lines_next(&lines, end, 2, &at, &line, &length), PIER__LINES_LINE);
    assert_int_equal(length, PIER__LINE_MAX);
    for (int i = 0; i < PIER__LINE_MAX / CHUNK; i++) {
        at = 0;
        pier__lines_next(&lines, data, CHUNK, &at, &line, &length);
    }
    at = 0;
    assert_int_equal(pier__lines_next(&lines, data, CHUNK, &at, &line, &length),
                     PIER__LINES_TOO_LONG);
    pier__lines_fini(&lines);
    free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines__are_cut_wherever_chunks_end),
        cmocka_unit_test(test_lines__have_a_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
