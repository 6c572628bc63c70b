/* The runner is closed while a thread is inside an iterator: the handle lives until it has left. */
#include "tests/integration/sqlite_fixture.h"

enum { ROUNDS = 20 };

static pier_cursor *endless;

static bool has_no_next(pier_cursor *cursor)
{
    return pier_cursor_next(cursor) == NULL;
}

static bool has_no_column(pier_cursor *cursor)
{
    return pier_cursor_column(cursor, "i") < 0;
}

static void *call_on_thread(void *arg)
{
    bool (*const *call)(pier_cursor *) = arg;
    return (*call)(endless) ? arg : NULL;
}

static bool is_inside(void *runner)
{
    pier_loop_stats stats;
    pier_runner_stats(runner, &stats);
    return stats.threads > 0;
}

static void close_while_inside(bool (*call)(pier_cursor *))
{
    pier_runner *runner = pier_runner_open(NULL, NULL);
    pier_db *db = pier_db_open(runner, "sqlite::memory:", NULL, NULL);
    endless = pier_db_cursor(db, ENDLESS "select i from n where i < 0", NULL, NULL);
    pthread_t thread;
    void *was_right;
    assert_int_equal(pthread_create(&thread, NULL, call_on_thread, &call), 0);
    bool inside = support_wait_until(is_inside, runner, BOUND_MS);
    pier_runner_close(runner);
    pthread_join(thread, &was_right);
    assert_true(inside);
    assert_non_null(was_right);
}

static void test_iterator__is_left_before_close_frees_its_cursor(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        close_while_inside(has_no_next);
    }
}

static void test_iterator__names_of_columns_are_left_before_close_frees_the_cursor(void **state)
{
    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        close_while_inside(has_no_column);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_iterator__is_left_before_close_frees_its_cursor),
        cmocka_unit_test(test_iterator__names_of_columns_are_left_before_close_frees_the_cursor),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
