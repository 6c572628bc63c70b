/* Events between threads, tasks and futures. */
#include "tests/unit/crowd.h"

#include <pier/event.h>

enum { CROWD = 6 };

static pier_event *event;

static int set_up(void **state)
{
    open_runner(state);
    event = pier_event_new(runner, NULL);
    return event ? 0 : -1;
}

static int tear_down(void **state)
{
    pier_event_free(event);
    return close_runner(state);
}

static int call_wait(struct member *member, pier_error *err)
{
    (void)member;
    return pier_event_wait(event, err);
}

static void start_waiters(struct member *members)
{
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_wait;
    }
    assert_true(start_in_order(members, CROWD, event));
}

static void test_event__set_lets_all_go_on(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members);
    pier_future *future = pier_event_wait_async(event);
    assert_true(await_waiting(event, CROWD + 1));
    assert_false(pier_event_is_set(event));
    pier_event_set(event);
    assert_true(pier_event_is_set(event));
    assert_true(all_ended_with(members, CROWD, 0));
    assert_int_equal(pier_event_wait_finish(future, NULL), 0);
    assert_int_equal(pier_event_wait(event, NULL), 0);
}

static void test_event__clear_keeps_nobody_who_waited(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members);
    pier_event_set(event);
    pier_event_clear(event);
    assert_true(all_ended_with(members, CROWD, 0));
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 5), NULL);
    assert_int_equal(pier_event_wait(event, NULL), PIER_ETIMEDOUT);
    pier_scope_close(scope);
}

static void test_event__waits_obey_deadlines(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        members[i].call = call_wait;
        members[i].timeout_ms = 20;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_ETIMEDOUT));
    assert_int_equal(count_waiting(event), 0);
}

static void test_event__free_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members);
    pier_event_free(event);
    event = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

static void test_event__closing_the_runner_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members);
    pier_runner *closed = runner;
    pier_runner_close(closed);
    runner = NULL;
    event = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

static void test_event__free_may_meet_set(void **state)
{
    (void)state;
    for (int round = 0; round < (SANITIZED ? 50 : 300); round++) {
        struct member members[CROWD] = {{0}};
        start_waiters(members);
        pier_event_set(event);
        pier_event_free(event);
        assert_true(all_ended_with(members, CROWD, 0));
        event = pier_event_new(runner, NULL);
    }
}

static void test_event__null_passes_through(void **state)
{
    (void)state;
    pier_error first = {0};
    pier_error_set(&first, PIER_ECONNECT, "first");
    assert_int_equal(pier_event_wait(NULL, &first), PIER_ECONNECT);
    assert_null(pier_event_new(NULL, NULL));
    pier_event_set(NULL);
    pier_event_clear(NULL);
    assert_false(pier_event_is_set(NULL));
    pier_event_free(NULL);
}

static int call_new(void)
{
    pier_error err = {0};
    pier_event *made = pier_event_new(runner, &err);
    pier_event_free(made);
    return made ? 0 : err.status;
}

static int call_async(void)
{
    return pier_event_wait_finish(pier_event_wait_async(event), NULL);
}

static void test_event__survives_want_of_memory(void **state)
{
    (void)state;
    pier_event_set(event);
    assert_true(fail_each(call_new) >= 1);
    assert_true(fail_each(call_async) >= 1);
}

static int use_in_child(void)
{
    CHECK(pier_event_wait(event, NULL) == PIER_EFORKED);
    pier_event_set(event);
    CHECK(!pier_event_is_set(event));
    pier_event_free(event);
    return 0;
}

static void test_event__is_of_no_use_in_a_forked_child(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(use_in_child), 0);
    pier_event_set(event);
    assert_int_equal(pier_event_wait(event, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_event__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(set_lets_all_go_on),
        TEST(clear_keeps_nobody_who_waited),
        TEST(waits_obey_deadlines),
        TEST(free_ends_waits),
        TEST(closing_the_runner_ends_waits),
        TEST(free_may_meet_set),
        TEST(null_passes_through),
        TEST(survives_want_of_memory),
        TEST(is_of_no_use_in_a_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
