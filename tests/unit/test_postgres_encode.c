/* Arguments on their way to Postgres: what is sent for each kind of value and type, and what is
 * refused, with messages that say where and what to do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/postgres/encode.h"
#include "drivers/postgres/types.h"

enum { OID_DATE = 1082, OID_DOMAIN = 20000 };

static pier__postgres_encoder encoder;
static pier_error err;

static int set_up(void **state)
{
    (void)state;
    memset(&encoder, 0, sizeof encoder);
    memset(&err, 0, sizeof err);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pier__postgres_encoder_fini(&encoder);
    return 0;
}

static int encode(pier_value value, Oid type)
{
    const pier_args args = {.count = 1, .values = &value};
    return pier__postgres_encode(&encoder, &args, &type, 1, &err);
}

static void assert_binary(pier_value value, Oid type, const void *bytes, size_t size)
{
    assert_int_equal(encode(value, type), 0);
    assert_int_equal(encoder.formats[0], 1);
    assert_int_equal(encoder.sizes[0], size);
    assert_memory_equal(encoder.values[0], bytes, size);
}

static void assert_text(pier_value value, Oid type, const char *text)
{
    assert_int_equal(encode(value, type), 0);
    assert_int_equal(encoder.formats[0], 0);
    assert_int_equal(encoder.sizes[0], strlen(text));
    assert_memory_equal(encoder.values[0], text, strlen(text));
}

static void assert_refused(pier_value value, Oid type, int status, const char *part)
{
    memset(&err, 0, sizeof err);
    assert_int_equal(encode(value, type), status);
    assert_int_equal(err.status, status);
    if (!strstr(err.message, part) || !strstr(err.message, "argument 1")) {
        fail_msg("\"%s\" does not say \"%s\"", err.message, part);
    }
}

static void test_encode__integers_in_the_size_that_the_server_wants(void **state)
{
    (void)state;
    assert_binary(pier_int64(-2), PIER__OID_INT2, "\xff\xfe", 2);
    assert_binary(pier_int64(0x01020304), PIER__OID_INT4, "\1\2\3\4", 4);
    assert_binary(pier_int64(INT64_MIN), PIER__OID_INT8, "\x80\0\0\0\0\0\0\0", 8);
    assert_binary(pier_int64(UINT32_MAX), PIER__OID_OID, "\xff\xff\xff\xff", 4);
    assert_binary(pier_int64(1), PIER__OID_BOOL, "\1", 1);
    assert_binary(pier_int64(2), PIER__OID_FLOAT8, "\x40\0\0\0\0\0\0\0", 8);
    assert_binary(pier_int64(2), PIER__OID_FLOAT4, "\x40\0\0\0", 4);
}

static void test_encode__integers_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    assert_refused(pier_int64(32768), PIER__OID_INT2, PIER_ERANGE,
                   "32768, is out of range for smallint");
    assert_refused(pier_int64(-32769), PIER__OID_INT2, PIER_ERANGE, "smallint");
    assert_refused(pier_int64(INT64_C(1) << 31), PIER__OID_INT4, PIER_ERANGE, "integer");
    assert_refused(pier_int64(-1), PIER__OID_OID, PIER_ERANGE, "oid");
    assert_refused(pier_int64(2), PIER__OID_BOOL, PIER_ERANGE, "boolean");
    assert_refused(pier_int64((INT64_C(1) << 53) + 1), PIER__OID_FLOAT8, PIER_ERANGE,
                   "double precision");
    assert_refused(pier_int64((1 << 24) + 1), PIER__OID_FLOAT4, PIER_ERANGE, "real");
    assert_refused(pier_uint64(UINT64_MAX), PIER__OID_INT8, PIER_ETYPE, "unsigned");
}

static void test_encode__integers_as_text_for_other_types(void **state)
{
    (void)state;
    assert_text(pier_int64(INT64_MIN), PIER__OID_TEXT, "-9223372036854775808");
    assert_text(pier_int64(7), PIER__OID_NUMERIC, "7");
    assert_text(pier_int64(7), OID_DOMAIN, "7");
}

static void test_encode__doubles(void **state)
{
    (void)state;
    assert_binary(pier_double(1.5), PIER__OID_FLOAT8, "\x3f\xf8\0\0\0\0\0\0", 8);
    assert_binary(pier_double(1.5), PIER__OID_FLOAT4, "\x3f\xc0\0\0", 4);
    assert_binary(pier_double(-INFINITY), PIER__OID_FLOAT4, "\xff\x80\0\0", 4);
    assert_text(pier_double(0.1), PIER__OID_NUMERIC, "0.1");
    assert_text(pier_double(1.0 / 3), PIER__OID_NUMERIC, "0.3333333333333333");
    assert_text(pier_double(-INFINITY), PIER__OID_NUMERIC, "-Infinity");
    assert_text(pier_double(NAN), PIER__OID_NUMERIC, "NaN");
    assert_refused(pier_double(1e39), PIER__OID_FLOAT4, PIER_ERANGE, "1e+39");
    assert_refused(pier_double(1), PIER__OID_INT4, PIER_ETYPE,
                   "is a double, but the statement wants integer");
}

static void test_encode__doubles_read_back_as_the_same_number(void **state)
{
    (void)state;
    static const double numbers[] = {5e-324, 1.7976931348623157e308, -2.2250738585072014e-308,
                                     0.1,    123456789012345678.0,   3.0000000000000004,
                                     -0.0};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        assert_int_equal(encode(pier_double(numbers[i]), PIER__OID_NUMERIC), 0);
        double back = strtod(encoder.values[0], NULL);
        assert_memory_equal(&back, &numbers[i], sizeof back);
    }
}

static void test_encode__booleans(void **state)
{
    (void)state;
    assert_binary(pier_bool(true), PIER__OID_BOOL, "\1", 1);
    assert_binary(pier_bool(false), PIER__OID_BOOL, "\0", 1);
    assert_text(pier_bool(true), OID_DOMAIN, "true");
    assert_refused(pier_bool(true), PIER__OID_INT4, PIER_ETYPE, "cast it to int");
}

static void test_encode__text_as_its_bytes(void **state)
{
    (void)state;
    assert_binary(pier_text_sized("adaX", 3), PIER__OID_TEXT, "ada", 3);
    assert_binary(pier_text(""), PIER__OID_VARCHAR, "", 0);
    assert_binary(pier_text("{}"), PIER__OID_JSON, "{}", 2);
}

static void test_encode__text_for_other_types(void **state)
{
    (void)state;
    char big[5000];
    memset(big, 'x', sizeof big);
    assert_text(pier_text_sized("2024-02-29T", 10), OID_DATE, "2024-02-29");
    assert_text(pier_text_sized("12.50", 4), PIER__OID_NUMERIC, "12.5");
    assert_int_equal(encode(pier_text_sized(big, sizeof big), PIER__OID_JSONB), 0);
    assert_int_equal(encoder.sizes[0], sizeof big);
    assert_ptr_equal(encoder.values[0], big); /* not copied */
    /* The next statement must not be confused by it. */
    assert_text(pier_text("1"), PIER__OID_JSONB, "1");
}

static void test_encode__text_is_no_number_no_boolean_and_no_bytes(void **state)
{
    (void)state;
    assert_refused(pier_text("1"), PIER__OID_INT4, PIER_ETYPE,
                   "is text, but the statement wants integer");
    assert_refused(pier_text("1"), PIER__OID_FLOAT8, PIER_ETYPE, "bind a number");
    assert_refused(pier_text("t"), PIER__OID_BOOL, PIER_ETYPE, "bind a bool");
    assert_refused(pier_text("x"), PIER__OID_BYTEA, PIER_ETYPE, "pier_bytes");
}

static void test_encode__refuses_zero_bytes_in_text(void **state)
{
    (void)state;
    assert_refused(pier_text_sized("a\0b", 3), PIER__OID_TEXT, PIER_EINVAL, "zero byte");
    assert_refused(pier_text_sized("a\0b", 3), OID_DATE, PIER_EINVAL, "zero byte");
}

static void test_encode__bytes(void **state)
{
    (void)state;
    assert_binary(pier_bytes("\0\1", 2), PIER__OID_BYTEA, "\0\1", 2);
    assert_binary(pier_bytes(NULL, 0), PIER__OID_BYTEA, "", 0);
    assert_non_null(encoder.values[0]); /* NULL would be SQL's NULL */
    assert_binary(pier_bytes("x", 1), OID_DOMAIN, "x", 1);
    assert_refused(pier_bytes("x", 1), PIER__OID_TEXT, PIER_ETYPE, "pier_text_sized");
}

static void test_encode__null_for_every_type(void **state)
{
    (void)state;
    static const Oid types[] = {PIER__OID_INT4, PIER__OID_TEXT, PIER__OID_BYTEA, OID_DOMAIN};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        assert_int_equal(encode(pier_null(), types[i]), 0);
        assert_null(encoder.values[0]);
    }
    assert_int_equal(encode(pier_text(NULL), PIER__OID_TEXT), 0);
    assert_null(encoder.values[0]);
}

static void test_encode__counts_arguments(void **state)
{
    (void)state;
    static const Oid types[] = {PIER__OID_INT4, PIER__OID_INT4};
    assert_int_equal(pier__postgres_encode(&encoder, PIER_ARGS(1), types, 2, &err), PIER_EINVAL);
    assert_string_equal(err.message, "the statement has 2 parameters, 1 given");
    assert_int_equal(pier__postgres_encode(&encoder, NULL, types, 1, &err), PIER_EINVAL);
    assert_string_equal(err.message, "the statement has 1 parameter, 0 given");
    assert_int_equal(pier__postgres_encode(&encoder, NULL, types, 0, &err), 0);
    assert_int_equal(pier__postgres_encode(&encoder, PIER_ARGS(1, 2), types, 2, &err), 0);
}

static void test_encode__many_arguments(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    static pier_value values[MANY];
    static Oid types[MANY];
    for (int i = 0; i < MANY; i++) {
        values[i] = pier_int64(i);
        types[i] = i % 2 ? PIER__OID_INT4 : PIER__OID_TEXT;
    }
    const pier_args args = {.count = MANY, .values = values};
    assert_int_equal(pier__postgres_encode(&encoder, &args, types, MANY, &err), 0);
    assert_memory_equal(encoder.values[999], "\0\0\3\xe7", 4);
    assert_string_equal(encoder.values[998], "998");
    assert_memory_equal(encoder.values[1], "\0\0\0\1", 4);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_encode__integers_in_the_size_that_the_server_wants),
        TEST(test_encode__integers_that_do_not_fit_are_refused),
        TEST(test_encode__integers_as_text_for_other_types),
        TEST(test_encode__doubles),
        TEST(test_encode__doubles_read_back_as_the_same_number),
        TEST(test_encode__booleans),
        TEST(test_encode__text_as_its_bytes),
        TEST(test_encode__text_for_other_types),
        TEST(test_encode__text_is_no_number_no_boolean_and_no_bytes),
        TEST(test_encode__refuses_zero_bytes_in_text),
        TEST(test_encode__bytes),
        TEST(test_encode__null_for_every_type),
        TEST(test_encode__counts_arguments),
        TEST(test_encode__many_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
