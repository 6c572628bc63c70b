/* What is entered into runners and scopes: closed in reverse order, on every way out. */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include <pier/enter.h>
#include <pier/executor.h>
#include <pier/iter.h>
#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Things write their letter here when they are closed. */
static struct {
    char text[32];
    atomic_int count;
} closed;

static void note(char letter)
{
    int at = atomic_fetch_add(&closed.count, 1);
    closed.text[at] = letter;
    closed.text[at + 1] = 0;
}

static void close_letter(void *thing)
{
    note(*(const char *)thing);
}

static char a[] = "a", b[] = "b", c[] = "c";

static int set_up(void **state)
{
    memset(&closed, 0, sizeof closed);
    return open_runner(state);
}

#define WITH_NOTES(test) cmocka_unit_test_setup_teardown(test, set_up, close_runner)

static int give_seven(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 7;
}

static int sleep_and_give(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_task_sleep(self, arg ? *(int64_t *)arg : 1, err);
    return status < 0 ? status : 5;
}

/* ---- Runners ------------------------------------------------------------------------------ */

static void test_runner__closes_what_was_entered_newest_first(void **state)
{
    (void)state;
    pier_runner *own = pier_runner_open(NULL, NULL);
    assert_int_equal(pier_runner_enter(own, a, close_letter, NULL), 0);
    assert_int_equal(pier_runner_enter(own, b, close_letter, NULL), 0);
    assert_int_equal(pier_runner_enter(own, c, close_letter, NULL), 0);
    pier_runner_close(own);
    assert_string_equal(closed.text, "cba");
}

/* Uses handles that were opened before it was entered. */
struct user {
    pier_runner *runner;
    pier_lane *lane;
    pier_executor *executor;
    int64_t sleeps_ms;
    int job, task, opened, in_scope;
    pier_error err;
};

static void use_while_closing(void *thing)
{
    struct user *user = thing;
    user->job = pier_lane_run(user->lane, give_seven, NULL, &user->err);
    user->task = pier_task_run(user->runner, sleep_and_give, NULL, &user->err);
    pier_lane *late = pier_lane_open(user->runner, "late", &user->err);
    user->opened = pier_lane_run(late, give_seven, NULL, &user->err);
    pier_lane_close(late);
    pier_scope *scope =
        pier_scope_open(user->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 10000), NULL);
    user->in_scope = scope ? pier_lane_run(user->lane, give_seven, NULL, &user->err) : -1;
    note('u'); /* and forgets the scope */
}

static void assert_used(const struct user *user)
{
    assert_string_equal(user->err.message, "");
    assert_int_equal(user->job, 7);
    assert_int_equal(user->task, 5);
    assert_int_equal(user->opened, 7);
    assert_int_equal(user->in_scope, 7);
}

static void test_runner__close_function_may_use_what_was_opened_before_it(void **state)
{
    (void)state;
    struct user user = {.runner = pier_runner_open(NULL, NULL)};
    pier_runner_enter(user.runner, a, close_letter, NULL);
    user.lane = pier_lane_open(user.runner, NULL, NULL);
    pier_runner_enter(user.runner, &user, use_while_closing, NULL);
    pier_runner_enter(user.runner, b, close_letter, NULL);
    pier_runner_close(user.runner);
    assert_string_equal(closed.text, "bua");
    assert_used(&user);
}

static int close_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    pier_runner_close(pier_task_runner(self));
    return 0;
}

static bool has_noted(void *user_data)
{
    return atomic_load(&closed.count) >= *(int *)user_data;
}

static void test_runner__closed_by_a_task_still_lets_close_functions_wait(void **state)
{
    (void)state;
    int two = 2;
    int threads = support_thread_count();
    struct user user = {.runner = pier_runner_open(NULL, NULL)};
    user.lane = pier_lane_open(user.runner, NULL, NULL);
    pier_runner_enter(user.runner, a, close_letter, NULL);
    pier_runner_enter(user.runner, &user, use_while_closing, NULL);
    pier_future *future = pier_task_start(user.runner, close_in_task, NULL);
    assert_true(support_wait_until(has_noted, &two, BOUND_MS));
    assert_true(support_wait_threads(threads, BOUND_MS));
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_string_equal(closed.text, "ua");
    assert_used(&user);
}

static void sleep_too_long(void *thing)
{
    struct user *user = thing;
    int64_t forever = PIER_FOREVER;
    user->task = pier_task_run(user->runner, sleep_and_give, &forever, &user->err);
    note('s');
}

static void test_runner__close_function_gets_no_more_than_the_time_of_close(void **state)
{
    (void)state;
    struct user user = {.runner =
                            pier_runner_open(PIER_RUNNER_OPTIONS(.close_timeout_ms = 200), NULL)};
    pier_runner_enter(user.runner, a, close_letter, NULL);
    pier_runner_enter(user.runner, &user, sleep_too_long, NULL);
    int64_t before = support_now_ms();
    pier_runner_close(user.runner);
    assert_true(support_now_ms() - before < BOUND_MS);
    assert_int_equal(user.task, PIER_ETIMEDOUT);
    assert_string_equal(closed.text, "sa");
}

static void enter_another(void *thing)
{
    pier_runner_enter(((struct user *)thing)->runner, c, close_letter, NULL);
    note('e');
}

static void test_runner__what_a_close_function_enters_is_closed_next(void **state)
{
    (void)state;
    struct user user = {.runner = pier_runner_open(NULL, NULL)};
    pier_runner_enter(user.runner, a, close_letter, NULL);
    pier_runner_enter(user.runner, &user, enter_another, NULL);
    pier_runner_close(user.runner);
    assert_string_equal(closed.text, "eca");
}

static void test_runner_leave__closes_before_its_turn_and_once(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_runner_enter(own, a, close_letter, NULL);
    pier_runner_enter(own, b, close_letter, NULL);
    pier_runner_enter(own, c, close_letter, NULL);
    assert_int_equal(pier_runner_leave(own, b, &err), 0);
    assert_string_equal(closed.text, "b");
    assert_int_equal(pier_runner_leave(own, b, &err), PIER_EINVAL);
    pier_runner_close(own);
    assert_string_equal(closed.text, "bca");
}

static void close_first(void *thing)
{
    (void)thing;
    note('1');
}

static void close_second(void *thing)
{
    (void)thing;
    note('2');
}

static void test_runner_leave__of_what_was_entered_twice_closes_the_last(void **state)
{
    (void)state;
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_runner_enter(own, a, close_first, NULL);
    pier_runner_enter(own, a, close_second, NULL);
    assert_int_equal(pier_runner_leave(own, a, NULL), 0);
    assert_string_equal(closed.text, "2");
    pier_runner_close(own);
    assert_string_equal(closed.text, "21");
}

static void *leave_it(void *arg)
{
    return (void *)(intptr_t)pier_runner_leave(arg, a, NULL);
}

static void test_runner_leave__by_several_threads_closes_once(void **state)
{
    (void)state;
    pthread_t threads[8];
    int succeeded = 0;
    pier_runner_enter(runner, a, close_letter, NULL);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, leave_it, runner), 0);
    }
    for (int i = 0; i < 8; i++) {
        void *status;
        pthread_join(threads[i], &status);
        succeeded += status == NULL;
    }
    assert_int_equal(succeeded, 1);
    assert_string_equal(closed.text, "a");
}

static void test_enter__that_fails_closes_at_once(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_runner_enter(NULL, a, close_letter, &err), PIER_EINVAL);
    assert_string_equal(closed.text, "a");
    assert_int_equal(pier_scope_enter(NULL, b, close_letter, &err), PIER_EINVAL);
    assert_string_equal(closed.text, "ab");
    assert_int_equal(pier_runner_enter(runner, NULL, close_letter, NULL), PIER_EINVAL);
    assert_int_equal(pier_runner_enter(runner, a, NULL, NULL), PIER_EINVAL);
    assert_int_equal(pier_scope_enter(NULL, NULL, close_letter, NULL), PIER_EINVAL);
    assert_string_equal(closed.text, "ab");
}

static void test_enter__of_what_could_not_be_opened_keeps_that_error(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_EIO, "no such thing");
    assert_int_equal(pier_runner_enter(runner, NULL, close_letter, &err), PIER_EIO);
    assert_string_equal(err.message, "no such thing");
}

static int left; /* allocations before the one that fails */

static bool fail_one(size_t size)
{
    (void)size;
    return left-- == 0;
}

static void test_enter__survives_each_failing_allocation(void **state)
{
    (void)state;
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    for (int number = 0; number < 2; number++) {
        left = number;
        pier__alloc_set_gate(fail_one);
        int in_runner = pier_runner_enter(runner, a, close_letter, NULL);
        left = number;
        int in_scope = pier_scope_enter(scope, b, close_letter, NULL);
        pier__alloc_set_gate(NULL);
        assert_int_equal(in_runner, PIER_ENOMEM);
        assert_int_equal(in_scope, PIER_ENOMEM);
    }
    assert_string_equal(closed.text, "abab");
    pier_scope_close(scope);
    assert_string_equal(closed.text, "abab");
}

/* ---- Scopes ------------------------------------------------------------------------------- */

static void test_scope__closes_what_was_entered_newest_first(void **state)
{
    (void)state;
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    assert_int_equal(pier_scope_enter(scope, a, close_letter, NULL), 0);
    assert_int_equal(pier_scope_enter(scope, b, close_letter, NULL), 0);
    assert_int_equal(pier_scope_enter(scope, c, close_letter, NULL), 0);
    assert_int_equal(pier_scope_leave(scope, b, NULL), 0);
    assert_int_equal(pier_scope_leave(scope, b, NULL), PIER_EINVAL);
    assert_string_equal(closed.text, "b");
    pier_scope_close(scope);
    assert_string_equal(closed.text, "bca");
}

static void test_scope__close_function_works_where_all_was_cancelled(void **state)
{
    (void)state;
    struct user user = {.runner = runner, .lane = pier_lane_open(runner, NULL, NULL)};
    pier_scope *outer = pier_scope_open(runner, NULL, NULL);
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_enter(scope, &user, use_while_closing, NULL);
    pier_scope_cancel(outer);
    assert_int_equal(pier_lane_run(user.lane, give_seven, NULL, NULL), PIER_ECANCELLED);
    pier_scope_close(scope);
    assert_used(&user);
    /* What is around is as it was. */
    assert_int_equal(pier_lane_run(user.lane, give_seven, NULL, NULL), PIER_ECANCELLED);
    pier_scope_close(outer);
    assert_int_equal(pier_lane_run(user.lane, give_seven, NULL, NULL), 7);
}

static void test_scope__close_function_works_after_the_deadline(void **state)
{
    (void)state;
    struct user user = {.runner = runner, .lane = pier_lane_open(runner, NULL, NULL)};
    int64_t forever = PIER_FOREVER;
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 10), NULL);
    pier_scope_enter(scope, &user, use_while_closing, NULL);
    assert_int_equal(pier_task_run(runner, sleep_and_give, &forever, NULL), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_used(&user);
}

static int use_scope_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct user *user = arg;
    pier_scope *scope = pier_scope_open(pier_task_runner(self), NULL, err);
    pier_scope_enter(scope, a, close_letter, err);
    pier_scope_enter(scope, user, use_while_closing, err);
    note('w');
    int status = pier_task_sleep(self, user->sleeps_ms, err);
    pier_scope_close(scope);
    return status;
}

static void test_scope__in_a_task_that_is_cancelled_closes_in_the_task(void **state)
{
    (void)state;
    int one = 1;
    struct user user = {
        .runner = runner, .lane = pier_lane_open(runner, NULL, NULL), .sleeps_ms = PIER_FOREVER};
    pier_future *future = pier_task_start(runner, use_scope_in_task, &user);
    assert_true(support_wait_until(has_noted, &one, BOUND_MS));
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
    assert_string_equal(closed.text, "wua");
    assert_used(&user);
}

static void test_scope__in_a_task_when_the_runner_closes(void **state)
{
    (void)state;
    int one = 1;
    struct user user = {.runner = pier_runner_open(NULL, NULL), .sleeps_ms = PIER_FOREVER};
    user.lane = pier_lane_open(user.runner, NULL, NULL);
    pier_future *future = pier_task_start(user.runner, use_scope_in_task, &user);
    assert_true(support_wait_until(has_noted, &one, BOUND_MS));
    pier_runner_close(user.runner);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECLOSED);
    assert_string_equal(closed.text, "wua");
    assert_used(&user);
}

/* A close function that is at work when its task is cancelled. */
struct slow {
    pier_runner *runner;
    atomic_int closing, go;
    int slept;
    pier_error err;
};

static int sleep_until_go(pier_task *self, void *arg, pier_error *err)
{
    struct slow *slow = arg;
    int status = 0;
    while (status == 0 && !atomic_load(&slow->go)) {
        status = pier_task_sleep(self, 1, err);
    }
    return status;
}

static void close_slowly(void *thing)
{
    struct slow *slow = thing;
    atomic_store(&slow->closing, 1);
    slow->slept = pier_task_run(slow->runner, sleep_until_go, slow, &slow->err);
    note('s');
}

static int close_slowly_in_task(pier_task *self, void *arg, pier_error *err)
{
    pier_scope *scope = pier_scope_open(pier_task_runner(self), NULL, err);
    pier_scope_enter(scope, arg, close_slowly, err);
    pier_scope_close(scope);
    return pier_task_sleep(self, 1, err);
}

static void test_scope__close_function_is_not_cancelled_with_its_task(void **state)
{
    (void)state;
    struct slow slow = {.runner = runner};
    pier_future *future = pier_task_start(runner, close_slowly_in_task, &slow);
    assert_true(unit_await(&slow.closing));
    pier_future_cancel(future);
    /* The cancel is on the loop before this task is. */
    assert_int_equal(pier_task_run(runner, sleep_and_give, NULL, NULL), 5);
    atomic_store(&slow.go, 1);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
    assert_string_equal(slow.err.message, "");
    assert_int_equal(slow.slept, 0);
}

static void *close_scope_slowly(void *arg)
{
    struct slow *slow = arg;
    pier_scope *scope = pier_scope_open(slow->runner, NULL, NULL);
    pier_scope_enter(scope, slow, close_slowly, NULL);
    pier_scope_close(scope);
    return NULL;
}

static void *set_go(void *arg)
{
    struct slow *slow = arg;
    /* The runner is closing: work that is not shielded is refused. */
    while (pier_task_run(slow->runner, sleep_and_give, NULL, NULL) >= 0) {
    }
    atomic_store(&slow->go, 1);
    return NULL;
}

static void test_scope__runner_that_closes_waits_for_a_close_function(void **state)
{
    (void)state;
    struct slow slow = {.runner = pier_runner_open(NULL, NULL)};
    pthread_t thread, starter;
    assert_int_equal(pthread_create(&thread, NULL, close_scope_slowly, &slow), 0);
    assert_true(unit_await(&slow.closing));
    assert_int_equal(pthread_create(&starter, NULL, set_go, &slow), 0);
    pier_runner_close(slow.runner);
    pthread_join(thread, NULL);
    pthread_join(starter, NULL);
    assert_int_equal(slow.slept, 0);
    assert_string_equal(closed.text, "s");
}

static int forget_scopes(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    pier_scope *outer = pier_scope_open(pier_task_runner(self), NULL, err);
    pier_scope_enter(outer, a, close_letter, err);
    pier_scope *inner = pier_scope_open(pier_task_runner(self), NULL, err);
    return pier_scope_enter(inner, b, close_letter, err);
}

static void test_scope__forgotten_by_a_task_closes_when_that_ends(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, forget_scopes, NULL, NULL), 0);
    assert_string_equal(closed.text, "ba");
}

static void test_scope__forgotten_inside_another_closes_with_it(void **state)
{
    (void)state;
    pier_scope *outer = pier_scope_open(runner, NULL, NULL);
    pier_scope_enter(outer, a, close_letter, NULL);
    pier_scope *inner = pier_scope_open(runner, NULL, NULL);
    pier_scope_enter(inner, b, close_letter, NULL);
    pier_scope_close(outer);
    assert_string_equal(closed.text, "ba");
    pier_scope_close(inner); /* the memory is still the caller's */
    assert_string_equal(closed.text, "ba");
}

static void test_scope__takes_a_handle_of_piers_by_its_type(void **state)
{
    (void)state;
    int threads = support_thread_count();
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_lane *lane = pier_lane_open(runner, NULL, &err);
    assert_int_equal(pier_lane_run(lane, give_seven, NULL, &err), 7);
    assert_int_equal(PIER_ENTER(scope, pier_lane, lane, &err), 0);
    pier_executor *executor = pier_executor_open(runner, NULL, &err);
    assert_int_equal(PIER_ENTER(scope, pier_executor, executor, &err), 0);
    assert_int_equal(pier_executor_run(executor, give_seven, NULL, &err), 7);
    pier_scope_close(scope);
    assert_true(support_wait_threads(threads, BOUND_MS));
}

static void test_fork__child_closes_nothing_that_the_parent_entered(void **state)
{
    (void)state;
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_enter(scope, a, close_letter, NULL);
    pier_runner_enter(runner, b, close_letter, NULL);
    pid_t child = fork();
    if (child == 0) {
        bool right = pier_runner_leave(runner, b, NULL) == PIER_EFORKED &&
                     pier_scope_leave(scope, a, NULL) == PIER_EFORKED;
        pier_scope_close(scope);
        pier_runner_close(runner);
        right = right && closed.count == 0;
        _exit(right ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_string_equal(closed.text, "");
    pier_scope_close(scope);
    assert_int_equal(pier_runner_leave(runner, b, NULL), 0);
    assert_string_equal(closed.text, "ab");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NOTES(test_runner__closes_what_was_entered_newest_first),
        WITH_NOTES(test_runner__close_function_may_use_what_was_opened_before_it),
        WITH_NOTES(test_runner__closed_by_a_task_still_lets_close_functions_wait),
        WITH_NOTES(test_runner__close_function_gets_no_more_than_the_time_of_close),
        WITH_NOTES(test_runner__what_a_close_function_enters_is_closed_next),
        WITH_NOTES(test_runner_leave__closes_before_its_turn_and_once),
        WITH_NOTES(test_runner_leave__of_what_was_entered_twice_closes_the_last),
        WITH_NOTES(test_runner_leave__by_several_threads_closes_once),
        WITH_NOTES(test_enter__that_fails_closes_at_once),
        WITH_NOTES(test_enter__of_what_could_not_be_opened_keeps_that_error),
        WITH_NOTES(test_enter__survives_each_failing_allocation),
        WITH_NOTES(test_scope__closes_what_was_entered_newest_first),
        WITH_NOTES(test_scope__close_function_works_where_all_was_cancelled),
        WITH_NOTES(test_scope__close_function_works_after_the_deadline),
        WITH_NOTES(test_scope__in_a_task_that_is_cancelled_closes_in_the_task),
        WITH_NOTES(test_scope__in_a_task_when_the_runner_closes),
        WITH_NOTES(test_scope__close_function_is_not_cancelled_with_its_task),
        WITH_NOTES(test_scope__runner_that_closes_waits_for_a_close_function),
        WITH_NOTES(test_scope__forgotten_by_a_task_closes_when_that_ends),
        WITH_NOTES(test_scope__forgotten_inside_another_closes_with_it),
        WITH_NOTES(test_scope__takes_a_handle_of_piers_by_its_type),
        WITH_NOTES(test_fork__child_closes_nothing_that_the_parent_entered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
