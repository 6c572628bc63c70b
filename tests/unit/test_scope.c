/* Scopes: deadlines, cancelling, signals. */
#include "tests/unit/unit.h"

#include <pier/future.h>
#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* Sleeps until cancelled; gives why. */
static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    if (arg) {
        atomic_store((atomic_int *)arg, 1);
    }
    return pier_task_sleep(self, 600000, err);
}

static pier_scope *open_scope(int64_t timeout_ms)
{
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = timeout_ms), NULL);
    assert_non_null(scope);
    return scope;
}

static void test_deadline__ends_a_blocked_call(void **state)
{
    (void)state;
    int64_t started = support_now_ms();
    pier_scope *scope = open_scope(30);
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, sleep_long, NULL, &err), PIER_ETIMEDOUT);
    assert_int_equal(err.status, PIER_ETIMEDOUT);
    assert_true(support_now_ms() - started >= 29);
    assert_int_equal(pier_scope_status(scope), PIER_ETIMEDOUT);
    pier_scope_close(scope);
}

static void test_inner_scope__cannot_outlast_the_outer(void **state)
{
    (void)state;
    pier_scope *outer = open_scope(30);
    pier_scope *inner = open_scope(600000);
    assert_int_equal(pier_task_run(runner, sleep_long, NULL, NULL), PIER_ETIMEDOUT);
    assert_int_equal(pier_scope_status(inner), PIER_ETIMEDOUT);
    pier_scope_close(inner);
    pier_scope_close(outer);
}

static void test_inner_scope__may_end_before_the_outer(void **state)
{
    (void)state;
    pier_scope *outer = open_scope(PIER_FOREVER);
    pier_scope *inner = open_scope(20);
    assert_int_equal(pier_task_run(runner, sleep_long, NULL, NULL), PIER_ETIMEDOUT);
    assert_int_equal(pier_scope_status(outer), 0);
    pier_scope_close(inner);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    assert_int_equal(pier_future_wait(future, 20, NULL), 0);
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
    pier_scope_close(outer);
}

static void test_inner_scope__is_cancelled_with_the_outer_but_not_the_reverse(void **state)
{
    (void)state;
    pier_scope *outer = open_scope(0);
    pier_scope *inner = open_scope(0);
    pier_scope *innermost = open_scope(0);
    pier_scope_cancel(inner);
    assert_int_equal(pier_scope_status(outer), 0);
    assert_int_equal(pier_scope_status(innermost), PIER_ECANCELLED);
    pier_scope_cancel(outer);
    assert_int_equal(pier_scope_status(outer), PIER_ECANCELLED);
    pier_scope_close(innermost);
    pier_scope_close(inner);
    pier_scope_close(outer);
}

static void test_deadline__in_the_past_refuses_to_start(void **state)
{
    (void)state;
    pier_scope *scope = open_scope(1);
    while (pier_scope_status(scope) == 0) {
    }
    pier_error err = {0};
    atomic_int started = 0;
    assert_int_equal(pier_task_run(runner, sleep_long, &started, &err), PIER_ETIMEDOUT);
    pier_future *future = pier_task_start(runner, sleep_long, &started);
    pier_scope_close(scope);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ETIMEDOUT);
    assert_int_equal(started, 0);
}

static void test_closed_scope__is_ambient_no_more(void **state)
{
    (void)state;
    pier_scope *scope = open_scope(0);
    pier_scope_cancel(scope);
    assert_int_equal(pier_task_run(runner, sleep_long, NULL, NULL), PIER_ECANCELLED);
    pier_scope_close(scope);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    assert_int_equal(pier_future_wait(future, 20, NULL), 0);
    pier_future_cancel(future);
    pier_future_free(future);
}

static void test_future__obeys_its_scope_after_that_was_closed(void **state)
{
    (void)state;
    pier_scope *scope = open_scope(40);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    pier_scope_close(scope);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ETIMEDOUT);
}

struct canceller {
    pier_scope *scope;
    atomic_int *when;
    int64_t at_ms;
};

static void *cancel_when(void *arg)
{
    struct canceller *canceller = arg;
    unit_await(canceller->when);
    canceller->at_ms = support_now_ms();
    pier_scope_cancel(canceller->scope);
    return NULL;
}

static void assert_cancel_wakes(int (*call)(void *arg, atomic_int *blocked), void *arg)
{
    atomic_int blocked = 0;
    struct canceller canceller = {.scope = open_scope(0), .when = &blocked};
    pthread_t thread;
    pthread_create(&thread, NULL, cancel_when, &canceller);
    assert_int_equal(call(arg, &blocked), PIER_ECANCELLED);
    pthread_join(thread, NULL);
    assert_true(support_now_ms() - canceller.at_ms < 5000);
    pier_scope_close(canceller.scope);
}

static int call_task(void *arg, atomic_int *blocked)
{
    (void)arg;
    return pier_task_run(runner, sleep_long, blocked, NULL);
}

static int call_wait(void *arg, atomic_int *blocked)
{
    atomic_store(blocked, 1);
    return pier_future_wait(arg, PIER_FOREVER, NULL);
}

static void test_cancel__from_another_thread_wakes_a_blocked_call(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        assert_cancel_wakes(call_task, NULL);
    }
}

static void test_cancel__from_another_thread_wakes_a_wait_and_leaves_the_future(void **state)
{
    (void)state;
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    for (int i = 0; i < 20; i++) {
        assert_cancel_wakes(call_wait, future);
    }
    assert_false(pier_future_done(future));
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
}

static void *interrupt_when(void *arg)
{
    unit_await(arg);
    kill(getpid(), SIGINT);
    return NULL;
}

static void test_signal__cancels_a_blocked_call(void **state)
{
    (void)state;
    atomic_int blocked = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, interrupt_when, &blocked);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGINT), NULL);
    assert_int_equal(pier_task_run(runner, sleep_long, &blocked, NULL), PIER_ECANCELLED);
    pthread_join(thread, NULL);
    pier_scope_close(scope);
}

static void *interrupt_thread_when(void *arg)
{
    unit_await(arg);
    raise(SIGINT); /* taken by this thread, not by the one that waits */
    return NULL;
}

static void test_signal__may_be_taken_by_any_thread(void **state)
{
    (void)state;
    atomic_int blocked = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, interrupt_thread_when, &blocked);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGINT), NULL);
    assert_int_equal(pier_task_run(runner, sleep_long, &blocked, NULL), PIER_ECANCELLED);
    pthread_join(thread, NULL);
    pier_scope_close(scope);
}

static atomic_int own_signals;

static void on_own_signal(int number)
{
    (void)number;
    atomic_fetch_add(&own_signals, 1);
}

static void test_signal__goes_to_the_handler_before_once_no_scope_listens(void **state)
{
    (void)state;
    struct sigaction own = {.sa_handler = on_own_signal}, before;
    sigaction(SIGUSR2, &own, &before);
    pier_scope *outer = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGUSR2), NULL);
    pier_scope *inner = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGUSR2), NULL);
    pier_scope_close(inner);
    raise(SIGUSR2);
    assert_int_equal(pier_scope_status(outer), PIER_ECANCELLED);
    assert_int_equal(own_signals, 0);
    pier_scope_close(outer);
    raise(SIGUSR2);
    assert_int_equal(own_signals, 1);
    sigaction(SIGUSR2, &before, NULL);
}

static void test_signal__cancels_only_the_scopes_that_listen_to_it(void **state)
{
    (void)state;
    pier_scope *one = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGUSR1), NULL);
    pier_scope *other = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGUSR2), NULL);
    raise(SIGUSR2);
    assert_int_equal(pier_scope_status(one), 0);
    assert_int_equal(pier_scope_status(other), PIER_ECANCELLED);
    pier_scope_close(other);
    pier_scope_close(one);
}

static void test_signal__that_cannot_be_handled_is_refused(void **state)
{
    (void)state;
    const int signals[] = {SIGKILL, -1, 1000};
    for (int i = 0; i < 3; i++) {
        pier_error err = {0};
        assert_null(pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = signals[i]), &err));
        assert_int_equal(err.status, PIER_EINVAL);
    }
    assert_int_equal(pier_scope_status(NULL), 0);
}

static void test_signals__of_many_scopes_end_with_an_error_not_a_crash(void **state)
{
    (void)state;
    enum { MANY = 70 };
    pier_scope *scopes[MANY];
    int opened = 0;
    pier_error err = {0};
    for (; opened < MANY; opened++) {
        scopes[opened] = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.signal = SIGUSR1), &err);
        if (!scopes[opened]) {
            break;
        }
    }
    assert_true(opened < MANY);
    assert_int_equal(err.status, PIER_EBUSY);
    raise(SIGUSR1);
    while (opened > 0) {
        assert_int_equal(pier_scope_status(scopes[--opened]), PIER_ECANCELLED);
        pier_scope_close(scopes[opened]);
    }
}

static int time_out_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    pier_scope *scope =
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.timeout_ms = 20), err);
    int inside = pier_task_sleep(self, 600000, NULL);
    pier_scope_close(scope);
    int outside = pier_task_sleep(self, 1, err);
    return inside == PIER_ETIMEDOUT && outside == 0 ? 1 : 0;
}

static void test_scope__in_a_task_holds_there_until_it_is_closed(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, time_out_in_task, NULL, NULL), 1);
}

static int forget_scopes(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    for (int i = 0; i < 3; i++) {
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.signal = SIGUSR1), err);
    }
    return pier_task_sleep(self, 1, err);
}

static void test_scope__that_a_task_forgets_ends_with_it(void **state)
{
    (void)state;
    struct sigaction before, after;
    sigaction(SIGUSR1, NULL, &before);
    assert_int_equal(pier_task_run(runner, forget_scopes, NULL, NULL), 0);
    sigaction(SIGUSR1, NULL, &after);
    assert_ptr_equal(before.sa_handler, after.sa_handler);
}

static int ask_scope(pier_task *self, void *arg, pier_error *err)
{
    (void)err;
    pier_scope_cancel(arg);
    return pier_task_sleep(self, 600000, err);
}

static void test_task__may_cancel_the_scope_it_was_started_in(void **state)
{
    (void)state;
    pier_scope *scope = open_scope(0);
    assert_int_equal(pier_task_run(runner, ask_scope, scope, NULL), PIER_ECANCELLED);
    pier_scope_close(scope);
}

static void test_scope__closed_out_of_order_leaves_the_others_in_force(void **state)
{
    (void)state;
    pier_scope *outer = open_scope(0);
    pier_scope *inner = open_scope(0);
    pier_scope_close(outer);
    pier_scope_close(inner);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    assert_int_equal(pier_future_wait(future, 20, NULL), 0);
    pier_future_cancel(future);
    pier_future_free(future);
}

static int seven_after_cancel(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return pier_task_sleep(self, 600000, NULL) < 0 ? 7 : 0;
}

static void test_task__that_succeeds_after_the_deadline_leaves_no_error(void **state)
{
    (void)state;
    pier_scope *scope = open_scope(20);
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, seven_after_cancel, NULL, &err), 7);
    assert_int_equal(err.status, 0);
    pier_scope_close(scope);
}

/* ---- Shields ------------------------------------------------------------------------------ */

static pier_scope *open_shield(int64_t timeout_ms)
{
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.shield = true, .timeout_ms = timeout_ms), NULL);
    assert_non_null(scope);
    return scope;
}

static int give_seven(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_task_sleep(self, (intptr_t)arg, err);
    return status < 0 ? status : 7;
}

static void test_shield__ignores_the_scopes_around_it(void **state)
{
    (void)state;
    pier_scope *outer = open_scope(1);
    while (pier_scope_status(outer) == 0) {
    }
    pier_scope *middle = open_scope(0);
    pier_scope_cancel(middle);
    pier_scope *shield = open_shield(0);
    pier_scope *inner = open_scope(0);
    assert_int_equal(pier_scope_status(inner), 0);
    assert_int_equal(pier_task_run(runner, give_seven, (void *)5, NULL), 7);
    pier_scope_close(inner);
    pier_scope_close(shield);
    assert_int_equal(pier_task_run(runner, give_seven, NULL, NULL), PIER_ECANCELLED);
    pier_scope_close(middle);
    assert_int_equal(pier_task_run(runner, give_seven, NULL, NULL), PIER_ETIMEDOUT);
    pier_scope_close(outer);
}

static void test_shield__obeys_its_own_time_and_cancel(void **state)
{
    (void)state;
    pier_scope *shield = open_shield(20);
    assert_int_equal(pier_task_run(runner, sleep_long, NULL, NULL), PIER_ETIMEDOUT);
    pier_scope_close(shield);
    shield = open_shield(0);
    pier_scope_cancel(shield);
    assert_int_equal(pier_task_run(runner, sleep_long, NULL, NULL), PIER_ECANCELLED);
    pier_scope_close(shield);
}

static void test_shield__without_a_bound_is_refused(void **state)
{
    (void)state;
    const int64_t endless[] = {PIER_FOREVER, -5, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        pier_error err = {0};
        assert_null(pier_scope_open(
            runner, PIER_SCOPE_OPTIONS(.shield = true, .timeout_ms = endless[i]), &err));
        assert_int_equal(err.status, PIER_EINVAL);
    }
}

struct clean_up {
    atomic_int waiting, cleaning, go_on;
    int first, cleaned, after;
};

/* Waits until it is ended, then cleans up in a shield, until it may go on. */
static int clean_up(pier_task *self, void *arg, pier_error *err)
{
    struct clean_up *clean_up = arg;
    atomic_store(&clean_up->waiting, 1);
    clean_up->first = pier_task_sleep(self, 600000, NULL);
    pier_scope *shield =
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.shield = true), err);
    atomic_store(&clean_up->cleaning, 1);
    clean_up->cleaned = shield ? pier_task_sleep(self, 1, err) : PIER_EINVAL;
    while (shield && clean_up->cleaned == 0 && !atomic_load(&clean_up->go_on)) {
        clean_up->cleaned = pier_task_sleep(self, 1, err);
    }
    pier_scope_close(shield);
    clean_up->after = pier_task_sleep(self, 600000, NULL);
    return 0;
}

static void test_shield__lets_a_cancelled_task_clean_up(void **state)
{
    (void)state;
    struct clean_up task = {.waiting = 0};
    pier_future *future = pier_task_start(runner, clean_up, &task);
    assert_true(unit_await(&task.waiting));
    pier_future_cancel(future);
    assert_true(unit_await(&task.cleaning));
    pier_future_cancel(future); /* again, while it cleans up */
    atomic_store(&task.go_on, 1);
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_int_equal(task.first, PIER_ECANCELLED);
    assert_int_equal(task.cleaned, 0);
    assert_int_equal(task.after, PIER_ECANCELLED);
}

static int shield_first(pier_task *self, void *arg, pier_error *err)
{
    struct clean_up *task = arg;
    pier_scope *shield =
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.shield = true), err);
    atomic_store(&task->cleaning, 1);
    task->cleaned = pier_task_sleep(self, 60, err);
    pier_scope_close(shield);
    task->after = pier_task_sleep(self, 0, NULL);
    return 0;
}

static void test_shield__is_not_reached_by_a_cancel_that_comes_while_it_waits(void **state)
{
    (void)state;
    struct clean_up task = {.waiting = 0};
    pier_future *future = pier_task_start(runner, shield_first, &task);
    assert_true(unit_await(&task.cleaning));
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_int_equal(task.cleaned, 0);
    assert_int_equal(task.after, PIER_ECANCELLED);
}

static void *close_other(void *arg)
{
    pier_runner_close(arg);
    return NULL;
}

static void test_shield__holds_while_the_runner_closes(void **state)
{
    (void)state;
    struct clean_up task = {.waiting = 0};
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_future *future = pier_task_start(other, clean_up, &task);
    pthread_t thread;
    assert_true(unit_await(&task.waiting));
    pthread_create(&thread, NULL, close_other, other);
    assert_true(unit_await(&task.cleaning));
    assert_false(pier_future_done(future));
    atomic_store(&task.go_on, 1);
    pthread_join(thread, NULL);
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_int_equal(task.first, PIER_ECLOSED);
    assert_int_equal(task.cleaned, 0);
    assert_int_equal(task.after, PIER_ECLOSED);
}

static int stay_in_shield(pier_task *self, void *arg, pier_error *err)
{
    pier_scope *shield = pier_scope_open(pier_task_runner(self),
                                         PIER_SCOPE_OPTIONS(.shield = true, .timeout_ms = 50), err);
    int status = sleep_long(self, arg, err);
    pier_scope_close(shield);
    return status;
}

static void test_shield__cannot_hold_up_close_for_longer_than_its_time(void **state)
{
    (void)state;
    atomic_int started = 0;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_future *future = pier_task_start(other, stay_in_shield, &started);
    assert_true(unit_await(&started));
    int64_t from = support_now_ms();
    pier_runner_close(other);
    assert_true(support_now_ms() - from < 8000);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ETIMEDOUT);
}

static void test_close__does_not_wait_for_a_shield_of_its_own_thread(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_scope *shield =
        pier_scope_open(other, PIER_SCOPE_OPTIONS(.shield = true, .timeout_ms = 600000), NULL);
    int64_t from = support_now_ms();
    pier_runner_close(other);
    assert_true(support_now_ms() - from < 5000);
    pier_scope_close(shield);
}

/* ---- Two runners -------------------------------------------------------------------------- */

static void test_cancel__reaches_futures_of_another_runner(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    for (int i = 0; i < 20; i++) {
        atomic_int started = 0;
        pier_scope *scope = open_scope(0);
        pier_scope *inner = open_scope(0);
        pier_future *future = pier_task_start(other, sleep_long, &started);
        pier_scope_close(inner);
        assert_true(unit_await(&started));
        pier_scope_cancel(scope);
        pier_scope_close(scope);
        assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
    }
    pier_runner_close(other);
}

static void test_cancel__of_a_scope_may_come_after_another_runner_was_closed(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_scope *scope = open_scope(0);
    pier_future *future = pier_task_start(other, sleep_long, NULL);
    pier_runner_close(other);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECLOSED);
    pier_scope_cancel(scope);
    pier_scope_close(scope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_deadline__ends_a_blocked_call),
        WITH_RUNNER(test_inner_scope__cannot_outlast_the_outer),
        WITH_RUNNER(test_inner_scope__may_end_before_the_outer),
        WITH_RUNNER(test_inner_scope__is_cancelled_with_the_outer_but_not_the_reverse),
        WITH_RUNNER(test_deadline__in_the_past_refuses_to_start),
        WITH_RUNNER(test_closed_scope__is_ambient_no_more),
        WITH_RUNNER(test_future__obeys_its_scope_after_that_was_closed),
        WITH_RUNNER(test_cancel__from_another_thread_wakes_a_blocked_call),
        WITH_RUNNER(test_cancel__from_another_thread_wakes_a_wait_and_leaves_the_future),
        WITH_RUNNER(test_signal__cancels_a_blocked_call),
        WITH_RUNNER(test_signal__may_be_taken_by_any_thread),
        WITH_RUNNER(test_signal__goes_to_the_handler_before_once_no_scope_listens),
        WITH_RUNNER(test_signal__cancels_only_the_scopes_that_listen_to_it),
        WITH_RUNNER(test_signal__that_cannot_be_handled_is_refused),
        WITH_RUNNER(test_signals__of_many_scopes_end_with_an_error_not_a_crash),
        WITH_RUNNER(test_scope__in_a_task_holds_there_until_it_is_closed),
        WITH_RUNNER(test_scope__that_a_task_forgets_ends_with_it),
        WITH_RUNNER(test_task__may_cancel_the_scope_it_was_started_in),
        WITH_RUNNER(test_scope__closed_out_of_order_leaves_the_others_in_force),
        WITH_RUNNER(test_task__that_succeeds_after_the_deadline_leaves_no_error),
        WITH_RUNNER(test_shield__ignores_the_scopes_around_it),
        WITH_RUNNER(test_shield__obeys_its_own_time_and_cancel),
        WITH_RUNNER(test_shield__without_a_bound_is_refused),
        WITH_RUNNER(test_shield__lets_a_cancelled_task_clean_up),
        WITH_RUNNER(test_shield__is_not_reached_by_a_cancel_that_comes_while_it_waits),
        WITH_RUNNER(test_shield__holds_while_the_runner_closes),
        WITH_RUNNER(test_shield__cannot_hold_up_close_for_longer_than_its_time),
        WITH_RUNNER(test_close__does_not_wait_for_a_shield_of_its_own_thread),
        WITH_RUNNER(test_cancel__reaches_futures_of_another_runner),
        WITH_RUNNER(test_cancel__of_a_scope_may_come_after_another_runner_was_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
