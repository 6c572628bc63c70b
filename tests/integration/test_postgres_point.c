/* Point queries into variables: the block stands in the operation, and the operation's memory is
 * used again. What is read must be right all the same, in each way of running it. */
#include "tests/integration/postgres_fixture.h"

#include "sdk/alloc.h"

static atomic_int asked;
static atomic_bool refusing;

static bool count_asks(size_t size)
{
    (void)size;
    atomic_fetch_add(&asked, 1);
    return atomic_load(&refusing);
}

static int read_number(int number, pier_error *err)
{
    int64_t got = 0;
    int found =
        pier_db_fetch_into(db, "select $1::bigint", PIER_ARGS(number), PIER_INTO(&got), err);
    return found == 1 && got != number ? -1 : found;
}

static void test_point__allocates_once_when_it_is_warm(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(read_number(1, &err), 1);
    atomic_store(&asked, 0);
    pier__alloc_set_gate(count_asks);
    int found = read_number(2, &err);
    pier__alloc_set_gate(NULL);
    assert_int_equal(found, 1);
    assert_true(atomic_load(&asked) <= 1);
}

static void test_point__memory_that_is_used_again_can_be_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(read_number(1, &err), 1);
    atomic_store(&refusing, true);
    pier__alloc_set_gate(count_asks);
    int found = read_number(2, &err);
    pier__alloc_set_gate(NULL);
    atomic_store(&refusing, false);
    assert_int_equal(found, PIER_ENOMEM);
    assert_int_equal(read_number(3, &err), 1);
}

/* More columns than stand in the operation, text that is copied, text that is made for the block.
 */
static int read_each_kind(void *arg, pier_error *err)
{
    (void)arg;
    int64_t first = 0, big = 0;
    char *text = NULL, bytes[8] = "";
    int none = pier_db_fetch_into(db, "select 1 where false", NULL, PIER_INTO(&first), err);
    int wide =
        pier_db_fetch_into(db,
                           "select i as c1, 2 as c2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,"
                           " 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30"
                           " from generate_series(41, 43) i",
                           NULL, PIER_INTO(&first), err);
    int texts = pier_db_fetch_into(
        db, "select 'long enough for no slot of the encoder', '\\351'::\"char\", 12345678901", NULL,
        PIER_INTO(&text, pier_into_buffer(bytes, sizeof bytes), &big), err);
    bool right = none == 0 && wide == 1 && first == 41 && texts == 1 && big == 12345678901 &&
                 strcmp(text, "long enough for no slot of the encoder") == 0 &&
                 strcmp(bytes, "\\351") == 0;
    free(text);
    return right ? 0 : PIER_EINVAL;
}

static int read_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return read_each_kind(arg, err);
}

static void test_point__reads_each_kind_of_row_on_a_thread(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(read_each_kind(NULL, &err), 0);
}

static void test_point__reads_each_kind_of_row_in_a_task(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, read_in_task, NULL, &err), 0);
}

static void test_point__a_row_that_does_not_fit_its_variables_leaves_nothing(void **state)
{
    (void)state;
    pier_error err = {0};
    int narrow = 7;
    assert_int_equal(pier_db_fetch_into(db, "select 12345678901", NULL, PIER_INTO(&narrow), &err),
                     PIER_ERANGE);
    assert_int_equal(narrow, 7);
    assert_int_equal(read_number(5, &err), 1);
}

/* Each type that is encoded in the short way, and what is at its limits. */
static void test_point__arguments_at_their_limits_arrive(void **state)
{
    (void)state;
    pier_error err = {0};
    bool same = false;
    assert_int_equal(
        pier_db_fetch_into(db,
                           "select $1::int4 = -2147483648 and $2::int8 = -9223372036854775807"
                           " and $3::float8 = -0.5 and $4::text = '' and $5::text = 'b'",
                           PIER_ARGS(INT64_C(-2147483648), INT64_C(-9223372036854775807), -0.5, "",
                                     "b"),
                           PIER_INTO(&same), &err),
        1);
    assert_true(same);
    assert_int_equal(pier_db_fetch_into(db, "select $1::int4 = 0", PIER_ARGS(INT64_C(2147483648)),
                                        PIER_INTO(&same), &err),
                     PIER_ERANGE);
    pier_value cut[] = {pier_text_sized("a\0b", 3)};
    pier_args args = {1, cut, NULL};
    assert_int_equal(pier_db_fetch_into(db, "select $1::text = ''", &args, PIER_INTO(&same), &err),
                     PIER_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_point__allocates_once_when_it_is_warm),
        TEST(test_point__memory_that_is_used_again_can_be_refused),
        TEST(test_point__reads_each_kind_of_row_on_a_thread),
        TEST(test_point__reads_each_kind_of_row_in_a_task),
        TEST(test_point__a_row_that_does_not_fit_its_variables_leaves_nothing),
        TEST(test_point__arguments_at_their_limits_arrive),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
