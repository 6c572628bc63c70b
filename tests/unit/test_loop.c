/* In which order the loop does what is ready, and what is late. */
#include "sdk/loop_internal.h" /* its parameters would shadow `runner` below */
#include "tests/unit/unit.h"

#include <pier/task.h>
#include <string.h>

enum { LOG = 512, READY = 200 };

static char notes[LOG + 1];
static int noted, to_run;

static void note(char what)
{
    if (noted < LOG) {
        notes[noted++] = what;
        notes[noted] = 0;
    }
}

static void run_late(pier__post *post)
{
    (void)post;
    note('l');
}

/* Keeps something ready. */
static void run_ready(pier__post *post)
{
    note('r');
    if (--to_run > 0) {
        pier__loop_push_on_loop(runner, post);
    }
}

struct posts {
    pier__post first_late, second_late, ready;
};

static int push(pier_task *self, void *arg, pier_error *err)
{
    struct posts *posts = arg;
    pier__loop_push_late_on_loop(runner, &posts->first_late);
    pier__loop_push_late_on_loop(runner, &posts->second_late);
    pier__loop_push_on_loop(runner, &posts->ready);
    return pier_task_sleep(self, 1, err);
}

static const char *run(int ready)
{
    struct posts posts = {{.run = run_late}, {.run = run_late}, {.run = run_ready}};
    pier_error err = {0};
    to_run = ready;
    noted = 0;
    assert_int_equal(pier_task_run(runner, push, &posts, &err), 0);
    assert_int_equal(noted, ready + 2);
    return notes;
}

static void test_loop__what_is_late_runs_behind_all_that_is_ready(void **state)
{
    (void)state;
    assert_string_equal(run(3), "rrrll");
}

static void test_loop__what_is_late_does_not_wait_for_ever(void **state)
{
    (void)state;
    const char *order = run(READY);
    const char *late = strchr(order, 'l');
    assert_non_null(late);
    assert_in_range(late - order, 1, 64);
    assert_memory_equal(late, "llr", 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loop__what_is_late_runs_behind_all_that_is_ready,
                                        open_runner, close_runner),
        cmocka_unit_test_setup_teardown(test_loop__what_is_late_does_not_wait_for_ever, open_runner,
                                        close_runner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
