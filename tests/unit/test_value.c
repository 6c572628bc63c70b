/* Values, and the lists that PIER_ARGS makes of them. */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include "sdk/db.h"
#include <pier/value.h>
#include <string.h>

static void test_args__take_each_integer_type(void **state)
{
    (void)state;
    const pier_args *args =
        PIER_ARGS((signed char)-1, (unsigned char)2, (short)-3, (unsigned short)4, -5, 6u, -7L, 8UL,
                  -9LL, 10ULL, (int64_t)-11, (uint64_t)12, (size_t)13);
    assert_int_equal(args->count, 13);
    for (int i = 0; i < 13; i++) {
        int64_t number = i + 1;
        assert_int_equal(args->values[i].type, PIER_INT64);
        assert_true(args->values[i].as.i == number || args->values[i].as.i == -number);
    }
}

static void test_args__take_truth_fractions_text_and_null(void **state)
{
    (void)state;
    char buffer[] = "bob";
    const char *none = NULL;
    bool yes = true;
    const pier_args *args = PIER_ARGS(yes, 1.5f, 2.5, "ada", buffer, NULL, none, pier_null());
    const int types[] = {PIER_BOOL, PIER_DOUBLE, PIER_DOUBLE, PIER_TEXT,
                         PIER_TEXT, PIER_NULL,   PIER_NULL,   PIER_NULL};
    assert_int_equal(args->count, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(args->values[i].type, types[i]);
    }
    assert_true(args->values[0].as.b);
    assert_true(args->values[1].as.d == 1.5 && args->values[2].as.d == 2.5);
    assert_int_equal(args->values[3].as.p.size, 3);
    assert_ptr_equal(args->values[4].as.p.data, buffer);
}

static void test_args__take_forty(void **state)
{
    (void)state;
    const pier_args *args =
        PIER_ARGS(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
                  23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39);
    assert_int_equal(args->count, 40);
    for (int i = 0; i < 40; i++) {
        assert_int_equal(args->values[i].as.i, i);
    }
}

static void test_args__evaluate_each_argument_once(void **state)
{
    (void)state;
    int i = 0;
    const pier_args *args = PIER_ARGS(i++, i++);
    assert_int_equal(i, 2);
    assert_int_equal(args->values[0].as.i + args->values[1].as.i, 1);
}

static void test_void_pointer__cannot_be_bound_unless_it_is_null(void **state)
{
    (void)state;
    int something = 0;
    void *pointer = &something;
    const pier_args *args = PIER_ARGS(pointer, NULL, (void *)0);
    assert_int_equal(args->values[0].type, PIER_INVALID);
    assert_non_null(strstr(args->values[0].as.why, "pier_bytes"));
    assert_int_equal(args->values[1].type, PIER_NULL);
    assert_int_equal(args->values[2].type, PIER_NULL);
}

static void test_unsigned__above_int64_cannot_be_bound(void **state)
{
    (void)state;
    const pier_args *args = PIER_ARGS((uint64_t)INT64_MAX, (uint64_t)INT64_MAX + 1);
    assert_int_equal(args->values[0].type, PIER_INT64);
    assert_true(args->values[0].as.i == INT64_MAX);
    assert_int_equal(args->values[1].type, PIER_INVALID);
    assert_non_null(args->values[1].as.why);
}

static void test_bytes__keep_their_size_and_may_be_empty(void **state)
{
    (void)state;
    const pier_args *args = PIER_ARGS(pier_bytes("a\0b", 3), pier_text_sized("xyz", 2),
                                      pier_bytes(NULL, 0), pier_text(""));
    assert_int_equal(args->values[0].type, PIER_BYTES);
    assert_int_equal(args->values[0].as.p.size, 3);
    assert_int_equal(args->values[1].as.p.size, 2);
    assert_int_equal(args->values[2].type, PIER_BYTES);
    assert_int_equal(args->values[3].type, PIER_TEXT);
}

static void test_args_copy__owns_all_text_and_bytes(void **state)
{
    (void)state;
    char text[] = "ada", bytes[] = {0, 1, 2};
    pier_args *copy = pier__args_copy(
        PIER_ARGS(7, text, pier_bytes(bytes, 3), pier_bytes(NULL, 0), NULL, pier_text("")));
    text[0] = 'x';
    bytes[2] = 9;
    assert_int_equal(copy->count, 6);
    assert_int_equal(copy->values[0].as.i, 7);
    assert_string_equal(copy->values[1].as.p.data, "ada");
    assert_memory_equal(copy->values[2].as.p.data, "\0\1\2", 3);
    assert_non_null(copy->values[3].as.p.data);
    assert_int_equal(copy->values[4].type, PIER_NULL);
    assert_string_equal(copy->values[5].as.p.data, "");
    pier__free(copy);
}

static void test_into__takes_each_type_of_variable(void **state)
{
    (void)state;
    bool b;
    int i;
    long l;
    long long ll;
    int64_t i64;
    double d;
    char *text, buffer[8];
    const pier_intos *into = PIER_INTO(&b, &i, &l, &ll, &i64, &d, &text,
                                       pier_into_buffer(buffer, sizeof buffer), pier_into_skip());
    const int types[] = {PIER__INTO_BOOL,  PIER__INTO_INT32,  PIER__INTO_INT64,
                         PIER__INTO_INT64, PIER__INTO_INT64,  PIER__INTO_DOUBLE,
                         PIER__INTO_TEXT,  PIER__INTO_BUFFER, PIER__INTO_SKIP};
    assert_int_equal(into->count, 9);
    for (int n = 0; n < 9; n++) {
        assert_int_equal(into->items[n].type, types[n]);
    }
    assert_ptr_equal(into->items[1].to, &i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_args__take_each_integer_type),
        cmocka_unit_test(test_args__take_truth_fractions_text_and_null),
        cmocka_unit_test(test_args__take_forty),
        cmocka_unit_test(test_args__evaluate_each_argument_once),
        cmocka_unit_test(test_void_pointer__cannot_be_bound_unless_it_is_null),
        cmocka_unit_test(test_unsigned__above_int64_cannot_be_bound),
        cmocka_unit_test(test_bytes__keep_their_size_and_may_be_empty),
        cmocka_unit_test(test_args_copy__owns_all_text_and_bytes),
        cmocka_unit_test(test_into__takes_each_type_of_variable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
