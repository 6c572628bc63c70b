/* What a child process may do with the handles of its parent: nothing, at once and without harm. */
#include "tests/unit/unit.h"

#include "tests/support/valgrind.h"
#include <pier/future.h>
#include <pier/group.h>
#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static bool in_child;

/* The leak check of a child would count what threads of the parent own. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return in_child;
}

static pier_lane *lane;
static pier_group *group;
static pier_future *sleeping, *ended;
static pier_scope *scope;

static int give_arg(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return (int)(intptr_t)arg;
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, 600000, err);
}

static int do_nothing(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 0;
}

static int set_up(void **state)
{
    open_runner(state);
    lane = pier_lane_open(runner, NULL, NULL);
    pier_lane_run(lane, do_nothing, NULL, NULL);
    group = pier_group_open(runner, NULL, NULL);
    pier_group_start(group, sleep_long, NULL);
    sleeping = pier_task_start(runner, sleep_long, NULL);
    ended = pier_task_start(runner, give_arg, (void *)3);
    pier_future_wait(ended, PIER_FOREVER, NULL);
    scope = pier_scope_open(runner, NULL, NULL);
    return lane && group && scope ? 0 : -1;
}

/* The parent goes on as if nothing had been. */
static int tear_down(void **state)
{
    int status = pier_scope_status(scope) ? -1 : 0;
    pier_scope_close(scope);
    if (pier_task_run(runner, give_arg, (void *)1, NULL) != 1 || pier_future_done(sleeping) ||
        pier_lane_run(lane, do_nothing, NULL, NULL) != 0) {
        status = -1;
    }
    pier_future_cancel(sleeping);
    if (pier_task_finish(sleeping, NULL) != PIER_ECANCELLED || pier_task_finish(ended, NULL) != 3) {
        status = -1;
    }
    pier_lane_close(lane);
    pier_scope *over = pier_scope_open(runner, NULL, NULL);
    pier_scope_cancel(over); /* so that closing the group ends its member */
    if (pier_group_close(group, NULL) != PIER_ECANCELLED) {
        status = -1;
    }
    pier_scope_close(over);
    close_runner(state);
    return status;
}

/* Runs a check in a child; gives its exit code, or -1 for one that hung or crashed. */
static int in_a_child(int (*check)(void))
{
    pid_t child = fork();
    if (child == 0) {
        in_child = true;
        alarm(BOUND_MS / 1000);
        int code = check();
        support_leave_valgrind(code);
#if defined(__SANITIZE_THREAD__)
        _exit(code); /* its exit would take a second */
#endif
        exit(code);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* Each check gives 0, or the line that failed. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return __LINE__ % 255 + 1;                                                             \
        }                                                                                          \
    } while (0)

static int call_everything(void)
{
    pier_error err = {0};
    CHECK(pier_task_run(runner, give_arg, NULL, &err) == PIER_EFORKED);
    CHECK(err.status == PIER_EFORKED);
    CHECK(pier_task_finish(pier_task_start(runner, give_arg, NULL), NULL) == PIER_EFORKED);
    CHECK(pier_lane_run(lane, do_nothing, NULL, NULL) == PIER_EFORKED);
    CHECK(pier_lane_run_finish(pier_lane_run_async(lane, do_nothing, NULL), NULL) == PIER_EFORKED);
    CHECK(!pier_lane_open(runner, NULL, &err) && err.status == PIER_EFORKED);
    CHECK(!pier_scope_open(runner, NULL, &err) && err.status == PIER_EFORKED);
    CHECK(!pier_group_open(runner, NULL, &err) && err.status == PIER_EFORKED);
    return 0;
}

static void test_child__is_refused_by_every_entry(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(call_everything), 0);
}

static int wait_for_futures(void)
{
    CHECK(pier_future_wait(sleeping, PIER_FOREVER, NULL) == PIER_EFORKED);
    CHECK(pier_future_wait(sleeping, 0, NULL) == 0);
    CHECK(pier_future_wait_all(&sleeping, 1, PIER_FOREVER, NULL) == PIER_EFORKED);
    CHECK(pier_task_finish(sleeping, NULL) == PIER_EFORKED);
    CHECK(pier_task_finish(ended, NULL) == 3);
    return 0;
}

static void test_child__cannot_wait_but_reads_what_had_ended(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(wait_for_futures), 0);
}

static int use_group(void)
{
    CHECK(pier_group_start(group, give_arg, NULL) == PIER_EFORKED);
    CHECK(!pier_group_next(group, NULL));
    pier_error err = {0};
    CHECK(pier_group_close(group, &err) == PIER_EFORKED && err.status == PIER_EFORKED);
    return 0;
}

static void test_child__cannot_use_a_group(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(use_group), 0);
}

static void call_back(pier_future *future, void *user_data)
{
    *(int *)user_data = pier_task_finish(future, NULL);
}

static int call_back_at_once(void)
{
    int status[2] = {0};
    pier_future_then(sleeping, call_back, &status[0]);
    pier_future_then(ended, call_back, &status[1]);
    CHECK(status[0] == PIER_EFORKED);
    CHECK(status[1] == 3);
    return 0;
}

static void test_callback__in_a_child_comes_at_once(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(call_back_at_once), 0);
}

static int free_everything(void)
{
    pier_future_cancel(sleeping);
    pier_scope_cancel(scope);
    pier_scope_close(scope);
    pier_future_free(sleeping);
    pier_future_free(ended);
    pier_lane_close(lane);
    pier_runner_close(runner);
    return 0;
}

static void test_child__may_free_everything(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(free_everything), 0);
}

static int just_end(void)
{
    return 0;
}

static void test_child__may_just_exit(void **state)
{
    (void)state;
    assert_int_equal(in_a_child(just_end), 0);
}

static int open_own(void)
{
    pier_runner *own = pier_runner_open(NULL, NULL);
    CHECK(own);
    CHECK(pier_task_run(own, give_arg, (void *)4, NULL) == 4);
    CHECK(pier_task_run(runner, give_arg, (void *)4, NULL) == PIER_EFORKED);
    pier_runner_close(own);
    return 0;
}

static void test_child__may_open_a_runner_of_its_own(void **state)
{
    (void)state;
#if defined(__SANITIZE_THREAD__)
    skip(); /* ThreadSanitizer lets a forked child start no thread */
#endif
    assert_int_equal(in_a_child(open_own), 0);
}

static void *call_busily(void *stop)
{
    while (!unit_is_set(stop)) {
        pier_task_run(runner, give_arg, NULL, NULL);
        pier_future_free(pier_task_start(runner, give_arg, NULL));
    }
    return NULL;
}

/* Locks may be held by other threads at the moment of the fork. */
static void test_child__of_a_busy_process_does_not_hang(void **state)
{
    (void)state;
    pthread_t threads[2];
    atomic_int stop = 0;
    for (int i = 0; i < 2; i++) {
        pthread_create(&threads[i], NULL, call_busily, &stop);
    }
    for (int i = 0; i < (SANITIZED ? 10 : 50); i++) {
        int (*const checks[])(void) = {call_everything, free_everything, use_group, just_end};
        assert_int_equal(in_a_child(checks[i % 4]), 0);
    }
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
    }
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_child__is_refused_by_every_entry),
        TEST(test_child__cannot_wait_but_reads_what_had_ended),
        TEST(test_child__cannot_use_a_group),
        TEST(test_callback__in_a_child_comes_at_once),
        TEST(test_child__may_free_everything),
        TEST(test_child__may_just_exit),
        TEST(test_child__may_open_a_runner_of_its_own),
        TEST(test_child__of_a_busy_process_does_not_hang),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
