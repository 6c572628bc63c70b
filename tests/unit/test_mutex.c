/* Mutexes between threads, tasks and futures. */
#include "tests/unit/crowd.h"

#include <pier/mutex.h>
#include <string.h>

enum { CROWD = 6 };

static pier_mutex *mutex;

static int set_up(void **state)
{
    open_runner(state);
    mutex = pier_mutex_new(runner, "accounts", NULL);
    return mutex ? 0 : -1;
}

static int tear_down(void **state)
{
    pier_mutex_free(mutex);
    return close_runner(state);
}

/* Locks it, and unlocks it when the test says so. */
static int call_lock(struct member *member, pier_error *err)
{
    int status = pier_mutex_lock(mutex, err);
    member->item = status == 0;
    return status < 0 ? status : pier_mutex_unlock(mutex, err);
}

static void start_lockers(struct member *members, int64_t timeout_ms, bool cancels)
{
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_lock;
        members[i].timeout_ms = timeout_ms;
        members[i].cancels = cancels;
    }
    assert_true(start_in_order(members, CROWD, mutex));
}

static void test_mutex__is_locked_by_one_at_a_time(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

/* Each takes it once, by futures, so that the order can be seen. */
static void test_mutex__is_handed_over_in_the_order_of_asking(void **state)
{
    (void)state;
    pier_future *futures[CROWD];
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    for (int i = 0; i < CROWD; i++) {
        futures[i] = pier_mutex_lock_async(mutex);
    }
    assert_true(await_waiting(mutex, CROWD));
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
        /* Handed over: nobody else can have it in between. */
        assert_int_equal(pier_mutex_try_lock(mutex, NULL), 0);
        assert_int_equal(pier_mutex_lock_finish(futures[i], NULL), 0);
        assert_int_equal(count_waiting(mutex), CROWD - 1 - i);
    }
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

static atomic_int order[CROWD], places;

static int call_lock_and_say(struct member *member, pier_error *err)
{
    int status = pier_mutex_lock(mutex, err);
    if (status < 0) {
        return status;
    }
    atomic_store(&order[atomic_fetch_add(&places, 1)], (int)member->item);
    return pier_mutex_unlock(mutex, err);
}

static void test_mutex__threads_and_tasks_stand_in_one_queue(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    atomic_store(&places, 0);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_lock_and_say;
        members[i].item = i;
    }
    assert_true(start_in_order(members, CROWD, mutex));
    pier_mutex_unlock(mutex, NULL);
    assert_true(all_ended_with(members, CROWD, 0));
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(atomic_load(&order[i]), i);
    }
}

static int call_lock_twice(struct member *member, pier_error *err)
{
    (void)member;
    int status = pier_mutex_lock(mutex, err);
    int again = status < 0 ? status : pier_mutex_lock(mutex, err);
    pier_mutex_unlock(mutex, NULL);
    return again;
}

static void test_mutex__refuses_who_holds_it_already(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        members[i].call = call_lock_twice;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_EDEADLOCK));
    assert_non_null(strstr(members[0].err.message, "accounts"));
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    pier_mutex_unlock(mutex, NULL);
}

static int call_unlock(struct member *member, pier_error *err)
{
    (void)member;
    return pier_mutex_unlock(mutex, err);
}

static void test_mutex__is_unlocked_by_its_holder_alone(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_mutex_unlock(mutex, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "not locked: accounts"));
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    struct member members[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        members[i].call = call_unlock;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_EINVAL));
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

static void test_mutex__locked_by_a_future_is_unlocked_by_anybody(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    struct member member = {.call = call_unlock};
    start_member(&member, 1);
    assert_true(all_ended_with(&member, 1, 0));
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    pier_mutex_unlock(mutex, NULL);
}

static bool can_be_locked(void *user_data)
{
    (void)user_data;
    return pier_mutex_try_lock(mutex, NULL) == 1;
}

static void test_mutex__future_that_is_freed_unlocks(void **state)
{
    (void)state;
    pier_future *first = pier_mutex_lock_async(mutex);
    assert_int_equal(pier_future_wait(first, BOUND_MS, NULL), 1);
    pier_future *second = pier_mutex_lock_async(mutex);
    assert_true(await_waiting(mutex, 1));
    pier_future_free(first);
    assert_int_equal(pier_mutex_lock_finish(second, NULL), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    pier_future *third = pier_mutex_lock_async(mutex);
    assert_int_equal(pier_future_wait(third, BOUND_MS, NULL), 1);
    pier_future_free(third);
    assert_true(support_wait_until(can_be_locked, NULL, BOUND_MS));
    pier_mutex_unlock(mutex, NULL);
}

static void test_mutex__waits_obey_deadlines(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    for (int i = 0; i < 2; i++) {
        members[i].call = call_lock;
        members[i].timeout_ms = 20;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_ETIMEDOUT));
    assert_int_equal(count_waiting(mutex), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    pier_mutex_unlock(mutex, NULL);
}

static void test_mutex__who_was_cancelled_is_passed_over(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    start_lockers(members, 600000, true);
    for (int i = 0; i < CROWD - 1; i++) {
        cancel_member(&members[i]);
        assert_true(await_member(&members[i]));
        assert_int_equal(members[i].status, PIER_ECANCELLED);
    }
    pier_mutex_unlock(mutex, NULL);
    atomic_store(&members[CROWD - 1].cancelled, 1);
    assert_true(await_member(&members[CROWD - 1]));
    assert_int_equal(members[CROWD - 1].item, 1);
    for (int i = 0; i < CROWD; i++) {
        join_member(&members[i]);
    }
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    pier_mutex_unlock(mutex, NULL);
}

static void test_mutex__free_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    start_lockers(members, 0, false);
    pier_mutex_free(mutex);
    mutex = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

static void test_mutex__closing_the_runner_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    start_lockers(members, 0, false);
    pier_runner *closed = runner;
    pier_runner_close(closed);
    runner = NULL;
    mutex = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

/* The last to unlock it may free it at once. */
static void test_mutex__may_be_freed_as_soon_as_it_is_locked(void **state)
{
    (void)state;
    for (int round = 0; round < (SANITIZED ? 100 : 1000); round++) {
        struct member members[2] = {{0}};
        for (int i = 0; i < 2; i++) {
            members[i].call = call_lock;
            start_member(&members[i], i);
        }
        for (int i = 0; i < 2; i++) {
            assert_true(await_member(&members[i]));
        }
        assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
        pier_mutex_free(mutex);
        mutex = pier_mutex_new(runner, NULL, NULL);
        assert_true(all_ended_with(members, 2, 0));
    }
}

struct on_loop {
    int tried, blocking, unlocked;
    atomic_int done;
};

static void use_on_loop(pier_future *future, void *user_data)
{
    (void)future;
    struct on_loop *used = user_data;
    used->blocking = pier_mutex_lock(mutex, NULL);
    used->tried = pier_mutex_try_lock(mutex, NULL);
    used->unlocked = pier_mutex_unlock(mutex, NULL);
    atomic_store(&used->done, 1);
}

static int do_nothing(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

static void test_mutex__callbacks_try_and_are_refused_to_wait(void **state)
{
    (void)state;
    struct on_loop used = {.done = 0};
    pier_future_then(pier_task_start(runner, do_nothing, NULL), use_on_loop, &used);
    assert_true(unit_await(&used.done));
    assert_int_equal(used.blocking, PIER_EDEADLOCK); /* though it is free */
    assert_int_equal(used.tried, 1);
    assert_int_equal(used.unlocked, 0);
}

enum { ROUNDS = SANITIZED ? 300 : 3000, TORTURERS = 16 };

static int64_t counted; /* by whoever holds it */
static atomic_int locked;

static int count_under_it(struct member *member, pier_error *err)
{
    (void)member;
    for (int i = 0; i < ROUNDS; i++) {
        pier_scope *scope =
            i % 16 ? NULL : pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1), NULL);
        int status = i % 13
                         ? pier_mutex_lock(mutex, scope ? NULL : err)
                         : pier_mutex_lock_finish(pier_mutex_lock_async(mutex), scope ? NULL : err);
        pier_scope_close(scope);
        if (status < 0 && !scope) {
            return status;
        }
        if (status == 0) {
            counted++;
            atomic_fetch_add(&locked, 1);
            status = pier_mutex_unlock(mutex, err);
            if (status < 0) {
                return status;
            }
        }
    }
    return 0;
}

static void test_mutex__keeps_all_others_out(void **state)
{
    (void)state;
    struct member members[TORTURERS] = {{0}};
    counted = 0;
    atomic_store(&locked, 0);
    for (int i = 0; i < TORTURERS; i++) {
        members[i].call = count_under_it;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, TORTURERS, 0));
    assert_true(support_wait_until(can_be_locked, NULL, BOUND_MS));
    assert_int_equal(counted, atomic_load(&locked));
    pier_mutex_unlock(mutex, NULL);
}

static void test_mutex__null_passes_through(void **state)
{
    (void)state;
    pier_error first = {0};
    pier_error_set(&first, PIER_ECONNECT, "first");
    assert_int_equal(pier_mutex_lock(NULL, &first), PIER_ECONNECT);
    assert_int_equal(pier_mutex_try_lock(NULL, &first), PIER_ECONNECT);
    assert_int_equal(pier_mutex_unlock(NULL, NULL), PIER_EINVAL);
    assert_null(pier_mutex_new(NULL, NULL, NULL));
    pier_mutex_free(NULL);
}

static int call_new(void)
{
    pier_error err = {0};
    pier_mutex *made = pier_mutex_new(runner, "x", &err);
    pier_mutex_free(made);
    return made ? 0 : err.status;
}

static int call_async(void)
{
    int status = pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL);
    return status < 0 ? status : pier_mutex_unlock(mutex, NULL);
}

static void test_mutex__survives_want_of_memory(void **state)
{
    (void)state;
    assert_true(fail_each(call_new) >= 1);
    assert_true(fail_each(call_async) >= 1);
    assert_true(support_wait_until(can_be_locked, NULL, BOUND_MS));
    pier_mutex_unlock(mutex, NULL);
}

static int use_in_child(void)
{
    CHECK(pier_mutex_lock(mutex, NULL) == PIER_EFORKED);
    CHECK(pier_mutex_try_lock(mutex, NULL) == PIER_EFORKED);
    CHECK(pier_mutex_unlock(mutex, NULL) == PIER_EFORKED);
    pier_mutex_free(mutex);
    return 0;
}

static void test_mutex__is_of_no_use_in_a_forked_child(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    assert_int_equal(in_a_child(use_in_child), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_mutex__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(is_locked_by_one_at_a_time),
        TEST(is_handed_over_in_the_order_of_asking),
        TEST(threads_and_tasks_stand_in_one_queue),
        TEST(refuses_who_holds_it_already),
        TEST(is_unlocked_by_its_holder_alone),
        TEST(locked_by_a_future_is_unlocked_by_anybody),
        TEST(future_that_is_freed_unlocks),
        TEST(waits_obey_deadlines),
        TEST(who_was_cancelled_is_passed_over),
        TEST(free_ends_waits),
        TEST(closing_the_runner_ends_waits),
        TEST(may_be_freed_as_soon_as_it_is_locked),
        TEST(callbacks_try_and_are_refused_to_wait),
        TEST(keeps_all_others_out),
        TEST(null_passes_through),
        TEST(survives_want_of_memory),
        TEST(is_of_no_use_in_a_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
