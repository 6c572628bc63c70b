/* Semaphores between threads, tasks and futures. */
#include "tests/unit/crowd.h"

#include <pier/semaphore.h>

enum { CROWD = 6 };

static pier_semaphore *semaphore;

static int set_up(void **state)
{
    open_runner(state);
    semaphore = pier_semaphore_new(runner, 0, NULL);
    return semaphore ? 0 : -1;
}

static int tear_down(void **state)
{
    pier_semaphore_free(semaphore);
    return close_runner(state);
}

static int call_acquire(struct member *member, pier_error *err)
{
    (void)member;
    return pier_semaphore_acquire(semaphore, err);
}

static void start_acquirers(struct member *members, int64_t timeout_ms, bool cancels)
{
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_acquire;
        members[i].timeout_ms = timeout_ms;
        members[i].cancels = cancels;
    }
    assert_true(start_in_order(members, CROWD, semaphore));
}

static void test_semaphore__lets_so_many_in(void **state)
{
    (void)state;
    PIER_AUTO(pier_semaphore) two = pier_semaphore_new(runner, 2, NULL);
    assert_int_equal(pier_semaphore_acquire(two, NULL), 0);
    assert_int_equal(pier_semaphore_try_acquire(two, NULL), 1);
    assert_int_equal(pier_semaphore_try_acquire(two, NULL), 0);
    pier_semaphore_release(two);
    assert_int_equal(pier_semaphore_try_acquire(two, NULL), 1);
}

static void test_semaphore__lets_in_in_the_order_of_asking(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_acquirers(members, 0, false);
    for (int i = 0; i < CROWD; i++) {
        pier_semaphore_release(semaphore);
        assert_true(await_member(&members[i]));
        assert_int_equal(count_waiting(semaphore), CROWD - 1 - i);
    }
    assert_true(all_ended_with(members, CROWD, 0));
    assert_int_equal(pier_semaphore_try_acquire(semaphore, NULL), 0);
}

static void test_semaphore__waits_obey_deadlines(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        members[i].call = call_acquire;
        members[i].timeout_ms = 20;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_ETIMEDOUT));
    assert_int_equal(count_waiting(semaphore), 0);
}

static void test_semaphore__who_was_cancelled_is_passed_over(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_acquirers(members, 600000, true);
    for (int i = 0; i < CROWD - 1; i++) {
        cancel_member(&members[i]);
        assert_true(await_member(&members[i]));
        assert_int_equal(members[i].status, PIER_ECANCELLED);
    }
    pier_semaphore_release(semaphore);
    atomic_store(&members[CROWD - 1].cancelled, 1);
    assert_true(await_member(&members[CROWD - 1]));
    assert_int_equal(members[CROWD - 1].status, 0);
    for (int i = 0; i < CROWD; i++) {
        join_member(&members[i]);
    }
}

static void test_semaphore__free_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_acquirers(members, 0, false);
    pier_semaphore_free(semaphore);
    semaphore = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

static void test_semaphore__closing_the_runner_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_acquirers(members, 0, false);
    pier_runner *closed = runner;
    pier_runner_close(closed);
    runner = NULL;
    semaphore = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

static bool can_be_acquired(void *user_data)
{
    (void)user_data;
    return pier_semaphore_try_acquire(semaphore, NULL) == 1;
}

static void test_semaphore__future_that_is_freed_releases(void **state)
{
    (void)state;
    pier_future *first = pier_semaphore_acquire_async(semaphore);
    pier_future *second = pier_semaphore_acquire_async(semaphore);
    assert_true(await_waiting(semaphore, 2));
    pier_semaphore_release(semaphore);
    assert_int_equal(pier_future_wait(first, BOUND_MS, NULL), 1);
    pier_future_free(first);
    assert_int_equal(pier_semaphore_acquire_finish(second, NULL), 0);
    assert_int_equal(pier_semaphore_try_acquire(semaphore, NULL), 0);
    pier_semaphore_release(semaphore);
    assert_true(support_wait_until(can_be_acquired, NULL, BOUND_MS));
}

static atomic_int inside, most, entered;

enum { ROUNDS = SANITIZED ? 300 : 3000, TORTURERS = 16, PLACES = 3 };

static int go_in_and_out(struct member *member, pier_error *err)
{
    (void)member;
    for (int i = 0; i < ROUNDS; i++) {
        pier_scope *scope =
            i % 16 ? NULL : pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1), NULL);
        int status = pier_semaphore_acquire(semaphore, scope ? NULL : err);
        pier_scope_close(scope);
        if (status < 0) {
            if (!scope) {
                return status;
            }
            continue;
        }
        int now = atomic_fetch_add(&inside, 1) + 1;
        int before = atomic_load(&most);
        while (now > before && !atomic_compare_exchange_weak(&most, &before, now)) {
        }
        atomic_fetch_add(&entered, 1);
        atomic_fetch_sub(&inside, 1);
        pier_semaphore_release(semaphore);
    }
    return 0;
}

static void test_semaphore__never_lets_more_in(void **state)
{
    (void)state;
    struct member members[TORTURERS] = {{0}};
    for (int i = 0; i < PLACES; i++) {
        pier_semaphore_release(semaphore);
    }
    for (int i = 0; i < TORTURERS; i++) {
        members[i].call = go_in_and_out;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, TORTURERS, 0));
    assert_in_range(atomic_load(&most), 1, PLACES);
    assert_true(atomic_load(&entered) > 0);
    for (int i = 0; i < PLACES; i++) {
        assert_int_equal(pier_semaphore_acquire(semaphore, NULL), 0);
    }
    assert_int_equal(pier_semaphore_try_acquire(semaphore, NULL), 0);
}

static void test_semaphore__refuses_what_cannot_be(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_semaphore_new(runner, -1, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(pier_semaphore_new(NULL, 1, NULL));
    pier_error first = {0};
    pier_error_set(&first, PIER_ECONNECT, "first");
    assert_int_equal(pier_semaphore_acquire(NULL, &first), PIER_ECONNECT);
    assert_int_equal(pier_semaphore_try_acquire(NULL, NULL), PIER_EINVAL);
    pier_semaphore_release(NULL);
    pier_semaphore_free(NULL);
}

static int call_new(void)
{
    pier_error err = {0};
    pier_semaphore *made = pier_semaphore_new(runner, 1, &err);
    pier_semaphore_free(made);
    return made ? 0 : err.status;
}

static int call_async(void)
{
    int status = pier_semaphore_acquire_finish(pier_semaphore_acquire_async(semaphore), NULL);
    if (status == 0) {
        pier_semaphore_release(semaphore);
    }
    return status;
}

static void test_semaphore__survives_want_of_memory(void **state)
{
    (void)state;
    pier_semaphore_release(semaphore);
    assert_true(fail_each(call_new) >= 1);
    assert_true(fail_each(call_async) >= 1);
    assert_true(support_wait_until(can_be_acquired, NULL, BOUND_MS));
    assert_int_equal(pier_semaphore_try_acquire(semaphore, NULL), 0);
}

static int use_in_child(void)
{
    CHECK(pier_semaphore_acquire(semaphore, NULL) == PIER_EFORKED);
    CHECK(pier_semaphore_try_acquire(semaphore, NULL) == PIER_EFORKED);
    pier_semaphore_release(semaphore);
    pier_semaphore_free(semaphore);
    return 0;
}

static void test_semaphore__is_of_no_use_in_a_forked_child(void **state)
{
    (void)state;
    pier_semaphore_release(semaphore);
    assert_int_equal(in_a_child(use_in_child), 0);
    assert_int_equal(pier_semaphore_acquire(semaphore, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_semaphore__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lets_so_many_in),
        TEST(lets_in_in_the_order_of_asking),
        TEST(waits_obey_deadlines),
        TEST(who_was_cancelled_is_passed_over),
        TEST(free_ends_waits),
        TEST(closing_the_runner_ends_waits),
        TEST(future_that_is_freed_releases),
        TEST(never_lets_more_in),
        TEST(refuses_what_cannot_be),
        TEST(survives_want_of_memory),
        TEST(is_of_no_use_in_a_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
