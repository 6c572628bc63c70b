/* Cells as Postgres sends them, binary and text, and blocks made of rows that came one by one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drivers/postgres/decode.h"
#include "drivers/postgres/rows.h"
#include "drivers/postgres/types.h"
#include "sdk/alloc.h"

enum { OID_UUID = 2950 };

static pier_result *block; /* keeps what is converted */
static pier_value value;
static pier_error err;

static void free_nothing(pier_result *result)
{
    (void)result;
}

static int set_up(void **state)
{
    (void)state;
    static const pier__rows_class cls = {.free = free_nothing};
    block = pier__calloc(1, sizeof *block);
    memset(&err, 0, sizeof err);
    return block && pier__result_init(block, &cls, 0, 0) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    pier_result_free(block);
    return 0;
}

static bool decode(Oid type, bool binary, const char *data, size_t size)
{
    return pier__postgres_decode(block, pier__postgres_kind_of(type, binary), data, size, &value,
                                 &err);
}

static void assert_int(Oid type, bool binary, const char *data, size_t size, int64_t expected)
{
    assert_true(decode(type, binary, data, size));
    assert_int_equal(value.type, PIER_INT64);
    assert_true(value.as.i == expected);
}

static void assert_double(Oid type, bool binary, const char *data, size_t size, double expected)
{
    assert_true(decode(type, binary, data, size));
    assert_int_equal(value.type, PIER_DOUBLE);
    assert_true(value.as.d == expected);
}

static void assert_bool(bool binary, const char *data, bool expected)
{
    assert_true(decode(PIER__OID_BOOL, binary, data, 1));
    assert_int_equal(value.type, PIER_BOOL);
    assert_int_equal(value.as.b, expected);
}

static void assert_bytes(int type, const void *expected, size_t size)
{
    assert_int_equal(value.type, type);
    assert_int_equal(value.as.p.size, size);
    assert_memory_equal(value.as.p.data, expected, size);
    assert_int_equal(((const char *)value.as.p.data)[size], 0);
}

static void assert_malformed(Oid type, bool binary, const char *data, size_t size)
{
    memset(&err, 0, sizeof err);
    assert_false(decode(type, binary, data, size));
    assert_int_equal(err.status, PIER_EPROTOCOL);
}

static void test_decode__numbers_in_binary(void **state)
{
    (void)state;
    assert_int(PIER__OID_INT2, true, "\xff\xfe", 2, -2);
    assert_int(PIER__OID_INT4, true, "\x80\0\0\0", 4, INT32_MIN);
    assert_int(PIER__OID_INT8, true, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8, INT64_MAX);
    assert_int(PIER__OID_OID, true, "\xff\xff\xff\xff", 4, UINT32_MAX);
    assert_double(PIER__OID_FLOAT8, true, "\x3f\xf8\0\0\0\0\0\0", 8, 1.5);
    assert_double(PIER__OID_FLOAT4, true, "\xff\x80\0\0", 4, -INFINITY);
    assert_bool(true, "\1", true);
    assert_bool(true, "\0", false);
}

static void test_decode__numbers_in_text(void **state)
{
    (void)state;
    assert_int(PIER__OID_INT8, false, "-9223372036854775808", 20, INT64_MIN);
    assert_int(PIER__OID_INT2, false, "7", 1, 7);
    assert_double(PIER__OID_FLOAT8, false, "0.1", 3, 0.1);
    assert_double(PIER__OID_FLOAT8, false, "Infinity", 8, INFINITY);
    assert_bool(false, "t", true);
    assert_bool(false, "f", false);
    assert_true(decode(PIER__OID_NUMERIC, false, "1.50", 4));
    assert_bytes(PIER_NUMERIC, "1.50", 4);
}

static void test_decode__real_gives_the_same_in_both_formats(void **state)
{
    (void)state;
    assert_double(PIER__OID_FLOAT4, true, "\x3d\xcc\xcc\xcd", 4, 0.1f);
    assert_double(PIER__OID_FLOAT4, false, "0.1", 3, 0.1f);
}

static void test_decode__real_is_marked_so_that_its_text_is_its_own(void **state)
{
    (void)state;
    assert_true(decode(PIER__OID_FLOAT4, true, "\x3d\xcc\xcc\xcd", 4));
    assert_int_equal(value.flags, PIER__VALUE_SINGLE);
    value.flags = 0;
    assert_true(decode(PIER__OID_FLOAT4, false, "0.1", 3));
    assert_int_equal(value.flags, PIER__VALUE_SINGLE);
    value.flags = 0;
    assert_true(decode(PIER__OID_FLOAT8, false, "0.1", 3));
    assert_int_equal(value.flags, 0);
}

static void test_decode__text_and_bytes(void **state)
{
    (void)state;
    assert_true(decode(PIER__OID_TEXT, true, "ada", 3));
    assert_bytes(PIER_TEXT, "ada", 3);
    assert_true(decode(PIER__OID_BYTEA, true, "\0\1", 2));
    assert_bytes(PIER_BYTES, "\0\1", 2);
    assert_true(decode(PIER__OID_JSON, true, "{}", 2));
    assert_bytes(PIER_TEXT, "{}", 2);
    assert_true(decode(PIER__OID_JSONB, true, "\1[1]", 4));
    assert_bytes(PIER_TEXT, "[1]", 3);
    assert_true(decode(OID_UUID, false, "00000000-0000-0000-0000-000000000001", 36));
    assert_bytes(PIER_TEXT, "00000000-0000-0000-0000-000000000001", 36);
}

static void test_decode__bytes_written_as_text(void **state)
{
    (void)state;
    assert_true(decode(PIER__OID_BYTEA, false, "\\x00fFa9", 8));
    assert_bytes(PIER_BYTES, "\0\xff\xa9", 3);
    assert_true(decode(PIER__OID_BYTEA, false, "\\x", 2));
    assert_bytes(PIER_BYTES, "", 0);
    assert_true(decode(PIER__OID_BYTEA, false, "a\\000\\\\", 7));
    assert_bytes(PIER_BYTES, "a\0\\", 3);
}

static void test_decode__single_characters(void **state)
{
    (void)state;
    assert_true(decode(PIER__OID_CHAR, true, "r", 1));
    assert_bytes(PIER_TEXT, "r", 1);
    assert_true(decode(PIER__OID_CHAR, true, "\0", 1));
    assert_bytes(PIER_TEXT, "", 0);
    assert_true(decode(PIER__OID_CHAR, true, "\xe9", 1));
    assert_bytes(PIER_TEXT, "\\351", 4);
}

static void test_decode__what_is_not_of_its_type_is_a_failure(void **state)
{
    (void)state;
    assert_malformed(PIER__OID_INT4, true, "\0\0\0", 3);
    assert_malformed(PIER__OID_INT8, true, "", 0);
    assert_malformed(PIER__OID_FLOAT8, true, "\0\0\0\0", 4);
    assert_malformed(PIER__OID_BOOL, true, "", 0);
    assert_malformed(PIER__OID_JSONB, true, "\2{}", 3);
    assert_malformed(PIER__OID_JSONB, true, "", 0);
    assert_malformed(PIER__OID_INT4, false, "", 0);
    assert_malformed(PIER__OID_INT4, false, "1x", 2);
    assert_malformed(PIER__OID_FLOAT8, false, "1.x", 3);
    assert_malformed(PIER__OID_BOOL, false, "true", 4);
    assert_malformed(PIER__OID_BYTEA, false, "\\x0", 3);
    assert_malformed(PIER__OID_BYTEA, false, "\\xzz", 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_decode__numbers_in_binary),
        TEST(test_decode__numbers_in_text),
        TEST(test_decode__real_gives_the_same_in_both_formats),
        TEST(test_decode__real_is_marked_so_that_its_text_is_its_own),
        TEST(test_decode__text_and_bytes),
        TEST(test_decode__bytes_written_as_text),
        TEST(test_decode__single_characters),
        TEST(test_decode__what_is_not_of_its_type_is_a_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
