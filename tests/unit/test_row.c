/* The reading of rows, over blocks whose cells the test gives. */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include "sdk/row.h"
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 4 };

struct block {
    pier_result base;
    const pier_value *cells;
    bool fails; /* to read any cell */
};

static bool block_cell(const pier_result *base, size_t row, int column, pier_value *value,
                       pier_error *err)
{
    const struct block *block = (const struct block *)base;
    if (block->fails) {
        pier_error_set(err, PIER_EPROTOCOL, "cannot be decoded");
        return false;
    }
    *value = block->cells[row * (size_t)base->columns + (size_t)column];
    return true;
}

static const char *block_column_name(const pier_result *base, int column)
{
    (void)base;
    static const char *const names[COLUMNS] = {"a", "b", "c", "d"};
    return names[column];
}

static void block_free(pier_result *base)
{
    (void)base;
}

static const pier__rows_class block_class = {
    .cell = block_cell, .column_name = block_column_name, .free = block_free};

static pier_result *result_of(const pier_args *cells, int columns)
{
    struct block *block = pier__calloc(1, sizeof *block);
    block->cells = cells->values;
    assert_true(
        pier__result_init(&block->base, &block_class, cells->count / (size_t)columns, columns));
    return &block->base;
}

static pier_value numeric(const char *text)
{
    pier_value value = pier_text(text);
    value.type = PIER_NUMERIC;
    return value;
}

/* The integer of one cell, and what the check of its result says. */
static int64_t int64_of(pier_value value, int *status)
{
    pier_result *result = result_of(PIER_ARGS(value), 1);
    int64_t number = pier_row_int64(pier_result_row(result, 0), 0);
    *status = pier_result_check(result, NULL);
    pier_result_free(result);
    return number;
}

static void assert_int64(pier_value value, int64_t expected)
{
    int status;
    assert_true(int64_of(value, &status) == expected);
    assert_int_equal(status, 0);
}

static void assert_no_int64(pier_value value, int expected)
{
    int status;
    assert_true(int64_of(value, &status) == 0);
    assert_int_equal(status, expected);
}

static void assert_text(pier_value value, const char *expected)
{
    pier_result *result = result_of(PIER_ARGS(value), 1);
    size_t size = 0;
    const char *text = pier_row_bytes(pier_result_row(result, 0), 0, &size);
    assert_string_equal(text, expected);
    assert_int_equal(size, strlen(expected));
    assert_int_equal(pier_result_check(result, NULL), 0);
    pier_result_free(result);
}

static void test_int64__is_read_from_whole_numbers(void **state)
{
    (void)state;
    assert_int64(pier_int64(INT64_MIN), INT64_MIN);
    assert_int64(pier_bool(true), 1);
    assert_int64(pier_double(-3), -3);
    assert_int64(numeric("9223372036854775807"), INT64_MAX);
    assert_int64(numeric("-9223372036854775808"), INT64_MIN);
    assert_int64(numeric("12.000"), 12);
    assert_int64(numeric("-0.00"), 0);
}

static void test_int64__of_a_double_ends_below_2_to_the_63(void **state)
{
    (void)state;
    assert_int64(pier_double(-9223372036854775808.0), INT64_MIN);
    assert_int64(pier_double(9223372036854774784.0), INT64_C(9223372036854774784));
    assert_no_int64(pier_double(9223372036854775808.0), PIER_ERANGE);
    assert_no_int64(pier_double(-9223372036854777856.0), PIER_ERANGE);
    assert_no_int64(pier_double(1.5), PIER_ERANGE);
    assert_no_int64(pier_double(NAN), PIER_ERANGE);
    assert_no_int64(pier_double(INFINITY), PIER_ERANGE);
}

static void test_int64__refuses_other_numerics_text_and_null(void **state)
{
    (void)state;
    assert_no_int64(numeric("9223372036854775808"), PIER_ERANGE);
    assert_no_int64(numeric("12.5"), PIER_ERANGE);
    assert_no_int64(numeric("NaN"), PIER_ERANGE);
    assert_no_int64(numeric("1e3"), PIER_ERANGE);
    assert_no_int64(pier_text("12"), PIER_ETYPE);
    assert_no_int64(pier_bytes("1", 1), PIER_ETYPE);
    assert_no_int64(pier_null(), PIER_ETYPE);
}

static void test_double__is_read_from_numbers(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(1.25, 7, true, numeric("-2.5e3")), 4);
    const pier_row *row = pier_result_row(result, 0);
    assert_true(pier_row_double(row, 0) == 1.25);
    assert_true(pier_row_double(row, 1) == 7);
    assert_true(pier_row_double(row, 2) == 1);
    assert_true(pier_row_double(row, 3) == -2500);
    assert_int_equal(pier_result_check(result, NULL), 0);
    pier_result_free(result);
}

static void test_bool__is_true_for_numbers_that_are_not_zero(void **state)
{
    (void)state;
    pier_result *result = result_of(
        PIER_ARGS((bool)true, 2, 0.5, numeric("0.1"), (bool)false, 0, -0.0, numeric("0.00")), 4);
    for (int i = 0; i < 4; i++) {
        assert_true(pier_row_bool(pier_result_row(result, 0), i));
        assert_false(pier_row_bool(pier_result_row(result, 1), i));
    }
    assert_int_equal(pier_result_check(result, NULL), 0);
    pier_result_free(result);
}

static void test_text__writes_numbers_and_truth_out(void **state)
{
    (void)state;
    assert_text(pier_int64(INT64_MIN), "-9223372036854775808");
    assert_text(pier_bool(true), "true");
    assert_text(pier_bool(false), "false");
    assert_text(pier_double(0.1), "0.1");
    assert_text(pier_double(1.0 / 3), "0.3333333333333333");
    assert_text(numeric("12.50"), "12.50");
    assert_text(pier_text(""), "");
    assert_text(pier_bytes(NULL, 0), "");
}

static void test_text__of_null_is_null_and_no_failure(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(NULL), 1);
    const pier_row *row = pier_result_row(result, 0);
    size_t size = 5;
    assert_null(pier_row_text(row, 0));
    assert_null(pier_row_bytes(row, 0, &size));
    assert_int_equal(size, 0);
    assert_true(pier_row_is_null(row, 0));
    assert_int_equal(pier_result_check(result, NULL), 0);
    pier_result_free(result);
}

static void test_text__written_out_lives_as_long_as_the_result(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(1, 2, 3, 4), 4);
    const pier_row *row = pier_result_row(result, 0);
    const char *texts[4];
    for (int i = 0; i < 4; i++) {
        texts[i] = pier_row_text(row, i);
    }
    assert_string_equal(texts[0], "1");
    assert_string_equal(texts[3], "4");
    pier_result_free(result);
}

static void test_failure__is_the_first_that_a_getter_met(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS("x", NULL), 2);
    const pier_row *row = pier_result_row(result, 0);
    pier_error err = {0};
    assert_int_equal(pier_row_int64(row, 7), 0);
    assert_int_equal(pier_row_int64(row, 0), 0);
    assert_false(pier_row_is_null(row, -1));
    assert_int_equal(pier_result_check(result, &err), PIER_ERANGE);
    assert_non_null(strstr(err.message, "no column 7"));
    pier_result_free(result);
}

static void test_failure__names_the_column_and_the_remedy(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(1, NULL), 2);
    pier_error err = {0};
    assert_true(pier_row_double(pier_result_row(result, 0), 1) == 0);
    assert_int_equal(pier_result_check(result, &err), PIER_ETYPE);
    assert_non_null(strstr(err.message, "column 1 (b) holds NULL"));
    assert_non_null(strstr(err.message, "pier_row_is_null"));
    pier_result_free(result);
}

static void test_failure__of_the_driver_is_recorded_too(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(1), 1);
    ((struct block *)result)->fails = true;
    assert_int_equal(pier_row_value(pier_result_row(result, 0), 0).type, PIER_INVALID);
    assert_int_equal(pier_result_check(result, NULL), PIER_EPROTOCOL);
    pier_result_free(result);
}

static void test_null_row__reads_as_nothing(void **state)
{
    (void)state;
    size_t size = 1;
    assert_null(pier_result_row(NULL, 0));
    assert_int_equal(pier_row_int64(NULL, 0), 0);
    assert_true(pier_row_double(NULL, 0) == 0);
    assert_false(pier_row_bool(NULL, 0));
    assert_null(pier_row_text(NULL, 0));
    assert_null(pier_row_bytes(NULL, 0, &size));
    assert_int_equal(size, 0);
    assert_int_equal(pier_row_value(NULL, 0).type, PIER_INVALID);
    assert_false(pier_row_is_null(NULL, 0));
}

static void test_result__knows_its_shape(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(1, 2, 3, 4, 5, 6), 3);
    assert_int_equal(pier_result_count(result), 2);
    assert_int_equal(pier_result_columns(result), 3);
    assert_string_equal(pier_result_column_name(result, 2), "c");
    assert_null(pier_result_column_name(result, 3));
    assert_null(pier_result_row(result, 2));
    assert_int_equal(pier_row_int64(pier_result_row(result, 1), 2), 6);
    assert_int_equal(pier_result_column(result, "b"), 1);
    assert_int_equal(pier_result_check(result, NULL), 0);
    assert_int_equal(pier_result_column(result, "B"), -1);
    assert_int_equal(pier_result_check(result, NULL), PIER_EINVAL);
    pier_result_free(result);
}

static void test_null_result__is_empty_and_keeps_the_error_before_it(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_ESQL, "syntax");
    assert_int_equal(pier_result_count(NULL), 0);
    assert_int_equal(pier_result_columns(NULL), 0);
    assert_null(pier_result_column_name(NULL, 0));
    assert_int_equal(pier_result_column(NULL, "a"), -1);
    assert_int_equal(pier_result_check(NULL, &err), PIER_ESQL);
    assert_string_equal(err.message, "syntax");
    pier_result_free(NULL);
}

static void test_into__reads_the_first_columns(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(7, "ada", 1.5, NULL), 4);
    int id = 0;
    char *name = NULL, *none = (char *)"x";
    double height = 0;
    assert_int_equal(
        pier_row_into(pier_result_row(result, 0), PIER_INTO(&id, &name, &height, &none), NULL), 0);
    assert_int_equal(id, 7);
    assert_string_equal(name, "ada");
    assert_true(height == 1.5);
    assert_null(none);
    free(name);
    pier_result_free(result);
}

static void test_into__writes_all_or_nothing(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(7, "ada", "long text", INT64_MAX), 4);
    const pier_row *row = pier_result_row(result, 0);
    int id = -1, narrow = -1;
    char *name = NULL, buffer[9] = "before";
    pier_error err = {0};
    const pier_intos *into =
        PIER_INTO(&id, &name, pier_into_buffer(buffer, sizeof buffer), &narrow);
    assert_int_equal(pier_row_into(row, into, &err), PIER_ERANGE);
    assert_non_null(strstr(err.message, "holds 9 bytes; the buffer has room for 8"));
    into = PIER_INTO(&id, &name, pier_into_skip(), &narrow);
    assert_int_equal(pier_row_into(row, into, &err), PIER_ERANGE);
    assert_non_null(strstr(err.message, "does not fit an int"));
    assert_int_equal(id, -1);
    assert_int_equal(narrow, -1);
    assert_null(name);
    assert_string_equal(buffer, "before");
    pier_result_free(result);
}

static void test_into__reports_and_does_not_record(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(NULL), 1);
    const pier_row *row = pier_result_row(result, 0);
    int id = 0;
    bool flag = false;
    char buffer[4];
    assert_int_equal(pier_row_into(row, PIER_INTO(&id), NULL), PIER_ETYPE);
    assert_int_equal(pier_row_into(row, PIER_INTO(&flag), NULL), PIER_ETYPE);
    assert_int_equal(pier_row_into(row, PIER_INTO(pier_into_buffer(buffer, 4)), NULL), PIER_ETYPE);
    assert_int_equal(pier_row_into(row, PIER_INTO(&id, &id), NULL), PIER_EINVAL);
    assert_int_equal(pier_row_into(row, NULL, NULL), PIER_EINVAL);
    assert_int_equal(pier_row_into(NULL, PIER_INTO(&id), NULL), PIER_EINVAL);
    assert_int_equal(pier_result_check(result, NULL), 0);
    pier_result_free(result);
}

static void *read_many(void *arg)
{
    const pier_row *row = arg;
    intptr_t wrong = 0;
    for (int i = 0; i < 500; i++) {
        const char *text = pier_row_text(row, 0);
        wrong += !text || strcmp(text, "12345") != 0;
        wrong += pier_row_int64(row, 1) != 0;
    }
    return (void *)wrong;
}

static void test_getters__may_be_called_by_several_threads(void **state)
{
    (void)state;
    pier_result *result = result_of(PIER_ARGS(12345, "x"), 2);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, read_many, (void *)(intptr_t)pier_result_row(result, 0));
    }
    for (int i = 0; i < 4; i++) {
        void *wrong;
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_int_equal(pier_result_check(result, NULL), PIER_ETYPE);
    pier_result_free(result);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_int64__is_read_from_whole_numbers),
        cmocka_unit_test(test_int64__of_a_double_ends_below_2_to_the_63),
        cmocka_unit_test(test_int64__refuses_other_numerics_text_and_null),
        cmocka_unit_test(test_double__is_read_from_numbers),
        cmocka_unit_test(test_bool__is_true_for_numbers_that_are_not_zero),
        cmocka_unit_test(test_text__writes_numbers_and_truth_out),
        cmocka_unit_test(test_text__of_null_is_null_and_no_failure),
        cmocka_unit_test(test_text__written_out_lives_as_long_as_the_result),
        cmocka_unit_test(test_failure__is_the_first_that_a_getter_met),
        cmocka_unit_test(test_failure__names_the_column_and_the_remedy),
        cmocka_unit_test(test_failure__of_the_driver_is_recorded_too),
        cmocka_unit_test(test_null_row__reads_as_nothing),
        cmocka_unit_test(test_result__knows_its_shape),
        cmocka_unit_test(test_null_result__is_empty_and_keeps_the_error_before_it),
        cmocka_unit_test(test_into__reads_the_first_columns),
        cmocka_unit_test(test_into__writes_all_or_nothing),
        cmocka_unit_test(test_into__reports_and_does_not_record),
        cmocka_unit_test(test_getters__may_be_called_by_several_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
