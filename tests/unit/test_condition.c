/* Conditions between threads, tasks and futures. */
#include "tests/unit/crowd.h"
#include "tests/unit/passing_time.h"

#include <pier/condition.h>

enum { CROWD = 6 };

static pier_mutex *mutex;
static pier_condition *condition;
static int ready; /* what the mutex protects */

static int set_up(void **state)
{
    open_runner(state);
    ready = 0;
    mutex = pier_mutex_new(runner, NULL, NULL);
    condition = pier_condition_new(runner, NULL);
    return mutex && condition ? 0 : -1;
}

static int tear_down(void **state)
{
    pier_condition_free(condition);
    pier_mutex_free(mutex);
    return close_runner(state);
}

/* Waits once; `item` says whether the mutex was held afterwards. */
static int call_wait(struct member *member, pier_error *err)
{
    int status = pier_mutex_lock(mutex, err);
    if (status < 0) {
        return status;
    }
    status = pier_condition_wait(condition, mutex, err);
    member->item = status != PIER_ECLOSED && pier_mutex_unlock(mutex, NULL) == 0;
    return status;
}

static void start_waiters(struct member *members, int64_t timeout_ms, bool cancels)
{
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_wait;
        members[i].timeout_ms = timeout_ms;
        members[i].cancels = cancels;
    }
    assert_true(start_in_order(members, CROWD, condition));
}

static bool all_held_it(const struct member *members, int count)
{
    bool all = true;
    for (int i = 0; i < count; i++) {
        all = all && members[i].item == 1;
    }
    return all;
}

static void test_condition__notify_lets_the_first_go_on(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 0, false);
    for (int i = 0; i < CROWD; i++) {
        pier_condition_notify(condition);
        assert_true(await_member(&members[i]));
        assert_int_equal(count_waiting(condition), CROWD - 1 - i);
    }
    assert_true(all_ended_with(members, CROWD, 0));
    assert_true(all_held_it(members, CROWD));
}

static void test_condition__notify_all_lets_all_go_on(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 0, false);
    pier_condition_notify_all(condition);
    assert_true(all_ended_with(members, CROWD, 0));
    assert_true(all_held_it(members, CROWD));
}

static void test_condition__mutex_is_free_meanwhile(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 0, false);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_condition_notify_all(condition);
    /* They go on only when they have the mutex. */
    assert_true(await_waiting(mutex, CROWD));
    for (int i = 0; i < CROWD; i++) {
        assert_false(atomic_load(&members[i].done));
    }
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_true(all_ended_with(members, CROWD, 0));
}

static void test_condition__mutex_is_locked_again_at_the_deadline(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    time_stop(); /* until they wait: they lock the mutex in time */
    for (int i = 0; i < 2; i++) {
        members[i].call = call_wait;
        members[i].timeout_ms = 20;
        start_member(&members[i], i);
    }
    assert_true(await_waiting(condition, 2));
    time_go_on();
    assert_true(all_ended_with(members, 2, PIER_ETIMEDOUT));
    assert_true(all_held_it(members, 2));
    assert_int_equal(count_waiting(condition), 0);
}

static void test_condition__mutex_is_locked_again_when_cancelled(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 600000, true);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    for (int i = 0; i < CROWD; i++) {
        cancel_member(&members[i]);
    }
    assert_true(await_waiting(mutex, CROWD));
    for (int i = 0; i < CROWD; i++) {
        assert_false(atomic_load(&members[i].done));
    }
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_true(all_ended_with(members, CROWD, PIER_ECANCELLED));
    assert_true(all_held_it(members, CROWD));
}

/* Cancelling the future of a task cancels what it waits in directly. */
static void test_condition__task_that_is_cancelled_locks_it_again(void **state)
{
    (void)state;
    struct member member = {.call = call_wait};
    start_member(&member, 1);
    assert_true(await_waiting(condition, 1));
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_future_cancel(member.task);
    assert_true(await_waiting(mutex, 1));
    pier_future_cancel(member.task);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_true(all_ended_with(&member, 1, PIER_ECANCELLED));
    assert_int_equal(member.item, 1);
}

static int do_nothing(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

/* While it waits for the mutex with the notification in its hands. */
static void test_condition__task_cancelled_as_it_locks_keeps_on(void **state)
{
    (void)state;
    struct member member = {.call = call_wait};
    start_member(&member, 1);
    assert_true(await_waiting(condition, 1));
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_condition_notify(condition);
    assert_true(await_waiting(mutex, 1));
    pier_future_cancel(member.task);
    /* The loop has seen that once it has run a task that was started later. */
    assert_int_equal(pier_task_run(runner, do_nothing, NULL, NULL), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_true(all_ended_with(&member, 1, 0));
    assert_int_equal(member.item, 1);
}

static void test_condition__closing_the_runner_ends_waits(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 0, false);
    pier_runner *closed = runner;
    pier_runner_close(closed);
    runner = NULL;
    condition = NULL;
    mutex = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
}

/* Nobody will ever unlock the mutex. */
static void test_condition__closing_the_runner_ends_locking_again(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 0, false);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_condition_notify_all(condition);
    assert_true(await_waiting(mutex, CROWD));
    pier_runner *closed = runner;
    int64_t before = support_now_ms();
    pier_runner_close(closed);
    runner = NULL;
    condition = NULL;
    mutex = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
    assert_true(support_now_ms() - before < 8000); /* not as long as close may take */
}

static void test_condition__free_ends_waits_with_the_mutex_unlocked(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    start_waiters(members, 0, false);
    pier_condition_free(condition);
    condition = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

static int call_wait_unlocked(struct member *member, pier_error *err)
{
    (void)member;
    return pier_condition_wait(condition, mutex, err);
}

static void test_condition__refuses_who_does_not_hold_the_mutex(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    for (int i = 0; i < 2; i++) {
        members[i].call = call_wait_unlocked;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_EINVAL));
    assert_int_equal(pier_condition_wait_finish(pier_condition_wait_async(condition, mutex), NULL),
                     PIER_EINVAL);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

static void test_condition__scope_that_has_ended_leaves_the_mutex_locked(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_cancel(scope);
    assert_int_equal(pier_condition_wait(condition, mutex, NULL), PIER_ECANCELLED);
    pier_scope_close(scope);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
}

static void test_condition__futures_wait_for_a_mutex_of_nobody(void **state)
{
    (void)state;
    pier_future *futures[CROWD];
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
        futures[i] = pier_condition_wait_async(condition, mutex);
        assert_true(await_waiting(condition, i + 1));
    }
    pier_condition_notify_all(condition);
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(pier_condition_wait_finish(futures[i], NULL), 0);
        assert_int_equal(pier_mutex_try_lock(mutex, NULL), 0);
        assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    }
    assert_int_equal(pier_mutex_try_lock(mutex, NULL), 1);
    pier_mutex_unlock(mutex, NULL);
}

static bool can_be_locked(void *user_data)
{
    (void)user_data;
    return pier_mutex_try_lock(mutex, NULL) == 1;
}

static void test_condition__future_that_ends_early_leaves_the_mutex_unlocked(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    pier_future *cancelled = pier_condition_wait_async(condition, mutex);
    assert_true(await_waiting(condition, 1));
    pier_future_cancel(cancelled);
    assert_int_equal(pier_condition_wait_finish(cancelled, NULL), PIER_ECANCELLED);
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    pier_future *freed = pier_condition_wait_async(condition, mutex);
    assert_true(await_waiting(condition, 1));
    pier_condition_notify(condition);
    assert_int_equal(pier_future_wait(freed, BOUND_MS, NULL), 1);
    pier_future_free(freed);
    assert_true(support_wait_until(can_be_locked, NULL, BOUND_MS));
    pier_mutex_unlock(mutex, NULL);
}

static void test_condition__notification_of_a_cancelled_future_goes_on(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    pier_future *first = pier_condition_wait_async(condition, mutex);
    assert_true(await_waiting(condition, 1));
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    pier_future *second = pier_condition_wait_async(condition, mutex);
    assert_true(await_waiting(condition, 2));
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_condition_notify(condition);
    assert_true(await_waiting(mutex, 1));
    pier_future_cancel(first);
    assert_int_equal(pier_condition_wait_finish(first, NULL), PIER_ECANCELLED);
    pier_mutex_unlock(mutex, NULL);
    assert_int_equal(pier_condition_wait_finish(second, NULL), 0);
    pier_mutex_unlock(mutex, NULL);
}

enum { ROUNDS = SANITIZED ? 200 : 1500, TORTURERS = 16 };

/* Half of them count up, half count down, and wait while it is 0. */
static int count_up_or_down(struct member *member, pier_error *err)
{
    for (int i = 0; i < ROUNDS; i++) {
        int status = pier_mutex_lock(mutex, err);
        while (status == 0 && member->item && ready == 0) {
            pier_scope *scope =
                i % 16 ? NULL : pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1), NULL);
            status = pier_condition_wait(condition, mutex, scope ? NULL : err);
            status = scope ? 0 : status;
            pier_scope_close(scope);
        }
        if (status < 0) {
            return status;
        }
        ready += member->item ? -1 : 1;
        if (!member->item) {
            pier_condition_notify(condition);
        }
        pier_mutex_unlock(mutex, NULL);
    }
    return 0;
}

static void test_condition__no_notification_is_lost(void **state)
{
    (void)state;
    struct member members[TORTURERS] = {{0}};
    for (int i = 0; i < TORTURERS; i++) {
        members[i].call = count_up_or_down;
        members[i].item = i / 2 % 2;
        members[i].timeout_ms = 60000; /* of a test that hangs */
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, TORTURERS, 0));
    assert_int_equal(ready, 0);
}

static void test_condition__null_passes_through(void **state)
{
    (void)state;
    pier_error first = {0};
    pier_error_set(&first, PIER_ECONNECT, "first");
    assert_int_equal(pier_condition_wait(NULL, mutex, &first), PIER_ECONNECT);
    assert_int_equal(pier_condition_wait(condition, NULL, NULL), PIER_EINVAL);
    assert_int_equal(pier_condition_wait_finish(pier_condition_wait_async(NULL, NULL), NULL),
                     PIER_EINVAL);
    assert_null(pier_condition_new(NULL, NULL));
    pier_condition_notify(NULL);
    pier_condition_notify_all(NULL);
    pier_condition_free(NULL);
}

static void test_condition__refuses_a_mutex_of_another_runner(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_mutex *strange = pier_mutex_new(other, NULL, NULL);
    assert_int_equal(pier_mutex_lock(strange, NULL), 0);
    assert_int_equal(pier_condition_wait(condition, strange, NULL), PIER_EINVAL);
    assert_int_equal(pier_condition_wait_finish(pier_condition_wait_async(condition, strange),
                                                NULL),
                     PIER_EINVAL);
    assert_int_equal(pier_mutex_unlock(strange, NULL), 0);
    pier_runner_close(other);
}

static int call_new(void)
{
    pier_error err = {0};
    pier_condition *made = pier_condition_new(runner, &err);
    pier_condition_free(made);
    return made ? 0 : err.status;
}

/* Notified by a thread that needs no memory of ours; the caller holds the mutex in any case. */
static void *notify_when_it_waits(void *arg)
{
    (void)arg;
    if (await_waiting(condition, 1)) {
        pier_condition_notify(condition);
    }
    return NULL;
}

static int call_wait_once(void)
{
    pthread_t thread;
    int status = pier_mutex_lock(mutex, NULL);
    if (status < 0) {
        return status;
    }
    /* Only what fails before the wait has begun needs no notification. */
    pthread_create(&thread, NULL, notify_when_it_waits, NULL);
    pier_error err = {0};
    status = pier_condition_wait(condition, mutex, &err);
    if (status < 0) {
        /* Lets the thread go: a wait without want of memory. */
        pier__alloc_set_gate(NULL);
        if (pier_condition_wait(condition, mutex, NULL) < 0) {
            return PIER_EUSER;
        }
    }
    pthread_join(thread, NULL);
    return pier_mutex_unlock(mutex, NULL) < 0 ? PIER_EUSER : status;
}

static void test_condition__survives_want_of_memory(void **state)
{
    (void)state;
    assert_true(fail_each(call_new) >= 1);
    assert_true(fail_each(call_wait_once) >= 2);
}

static int use_in_child(void)
{
    CHECK(pier_condition_wait(condition, mutex, NULL) == PIER_EFORKED);
    pier_condition_notify(condition);
    pier_condition_notify_all(condition);
    pier_condition_free(condition);
    return 0;
}

static void test_condition__is_of_no_use_in_a_forked_child(void **state)
{
    (void)state;
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    assert_int_equal(in_a_child(use_in_child), 0);
    pier_mutex_unlock(mutex, NULL);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_condition__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(notify_lets_the_first_go_on),
        TEST(notify_all_lets_all_go_on),
        TEST(mutex_is_free_meanwhile),
        TEST(mutex_is_locked_again_at_the_deadline),
        TEST(mutex_is_locked_again_when_cancelled),
        TEST(task_that_is_cancelled_locks_it_again),
        TEST(task_cancelled_as_it_locks_keeps_on),
        TEST(closing_the_runner_ends_waits),
        TEST(closing_the_runner_ends_locking_again),
        TEST(free_ends_waits_with_the_mutex_unlocked),
        TEST(refuses_who_does_not_hold_the_mutex),
        TEST(scope_that_has_ended_leaves_the_mutex_locked),
        TEST(futures_wait_for_a_mutex_of_nobody),
        TEST(future_that_ends_early_leaves_the_mutex_unlocked),
        TEST(notification_of_a_cancelled_future_goes_on),
        TEST(no_notification_is_lost),
        TEST(null_passes_through),
        TEST(refuses_a_mutex_of_another_runner),
        TEST(survives_want_of_memory),
        TEST(is_of_no_use_in_a_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
