/* Want of memory: each allocation of a call fails once, in turn. The call then fails with
 * PIER_ENOMEM or succeeds all the same; nothing hangs, and the leak check finds nothing. */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include <pier/future.h>
#include <pier/group.h>
#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>

static atomic_int left; /* allocations before the one that fails */
static atomic_int failed;

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_fetch_sub(&left, 1) != 0) {
        return false;
    }
    atomic_store(&failed, 1);
    return true;
}

/* A call under test gives 0 for success, else its status. Gives how many allocations failed. */
static int fail_each(int (*call)(void))
{
    int failures = 0;
    for (int number = 0;; number++) {
        atomic_store(&left, number);
        atomic_store(&failed, 0);
        pier__alloc_set_gate(fail_one);
        int status = call();
        pier__alloc_set_gate(NULL);
        if (!atomic_load(&failed)) {
            assert_int_equal(status, 0);
            return failures;
        }
        failures++;
        assert_true(status == 0 || status == PIER_ENOMEM);
    }
}

static int give_one(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 1;
}

static int sleep_briefly(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    int status = pier_task_sleep(self, 1, err);
    return status < 0 ? status : 1;
}

static int do_job(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 1;
}

static int status_of(int status, const pier_error *err)
{
    if (status >= 0) {
        return err->status; /* success leaves it alone */
    }
    return status == err->status ? status : PIER_EUSER;
}

static int call_open(void)
{
    pier_error err = {0};
    pier_runner *one = pier_runner_open(NULL, &err);
    pier_runner_close(one);
    return one ? 0 : err.status;
}

static void test_runner_open__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_open) >= 2);
}

static int call_scope(void)
{
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 60000), &err);
    pier_scope_close(scope);
    return scope ? 0 : err.status;
}

static void test_scope_open__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_scope) >= 1);
}

static int call_task(void)
{
    pier_error err = {0};
    return status_of(pier_task_run(runner, sleep_briefly, NULL, &err), &err);
}

static void test_task_run__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_task) >= 3);
}

static int call_task_start(void)
{
    pier_error err = {0};
    return status_of(pier_task_finish(pier_task_start(runner, give_one, NULL), &err), &err);
}

static void test_task_start__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_task_start) >= 2);
}

static int call_lane_open(void)
{
    pier_error err = {0};
    pier_lane *lane = pier_lane_open(runner, NULL, &err);
    pier_lane_close(lane);
    return lane ? 0 : err.status;
}

static void test_lane_open__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_lane_open) >= 1);
}

static pier_lane *lane;

static int call_lane(void)
{
    pier_error err = {0};
    return status_of(pier_lane_run(lane, do_job, NULL, &err), &err);
}

static int call_lane_async(void)
{
    pier_error err = {0};
    return status_of(pier_lane_run_finish(pier_lane_run_async(lane, do_job, NULL), &err), &err);
}

static void test_lane_run__survives(void **state)
{
    (void)state;
    lane = pier_lane_open(runner, NULL, NULL);
    assert_true(fail_each(call_lane) >= 1);
    assert_true(fail_each(call_lane_async) >= 1);
    pier_lane_close(lane);
}

static int call_group(void)
{
    pier_error err = {0};
    pier_group *group = pier_group_open(runner, NULL, &err);
    if (!group) {
        return err.status;
    }
    pier_group_start(group, sleep_briefly, NULL);
    pier_group_add(group, pier_task_start(runner, give_one, NULL), NULL);
    pier_future_free(pier_group_next(group, NULL));
    int status = pier_group_close(group, &err);
    /* The first failure may be that of a member which was cancelled because there was no memory. */
    return status == PIER_ECANCELLED ? PIER_ENOMEM : status;
}

static int call_limited_group(void)
{
    pier_error err = {0};
    pier_group *group = pier_group_open(
        runner, PIER_GROUP_OPTIONS(.limit = 1, .queue_max = PIER_NONE, .timeout_ms = 600000), &err);
    if (!group) {
        return status_of(PIER_ENOMEM, &err);
    }
    for (int i = 0; i < 3; i++) {
        pier_group_start(group, sleep_briefly, NULL);
    }
    int status = pier_group_close(group, &err);
    return status_of(status, &err);
}

static void test_limited_group__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_limited_group) >= 8);
}

static void test_group__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_group) >= 6);
}

static int call_wait(void)
{
    pier_future *future = pier_task_start(runner, sleep_briefly, NULL);
    pier_error err = {0};
    int status = status_of(pier_future_wait(future, PIER_FOREVER, &err), &err);
    pier_future_free(future);
    return status;
}

static void test_future_wait__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_wait) >= 2);
}

static void count_call(pier_future *future, void *user_data)
{
    (void)future;
    atomic_store((atomic_int *)user_data, 1);
}

static int call_then(void)
{
    atomic_int called = 0;
    pier_future_then(pier_task_start(runner, sleep_briefly, NULL), count_call, &called);
    return unit_await(&called) ? 0 : PIER_EUSER;
}

static void test_then__calls_back_all_the_same(void **state)
{
    (void)state;
    assert_true(fail_each(call_then) >= 2);
}

static int nested(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_run(pier_task_runner(self), sleep_briefly, NULL, err);
}

static int call_nested(void)
{
    pier_error err = {0};
    return status_of(pier_task_run(runner, nested, NULL, &err), &err);
}

static void test_nested_task__survives(void **state)
{
    (void)state;
    assert_true(fail_each(call_nested) >= 5);
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, 600000, err);
}

static int call_close(void)
{
    pier_runner *one = pier_runner_open(NULL, NULL);
    if (!one) {
        return PIER_ENOMEM;
    }
    pier_lane_open(one, NULL, NULL);
    pier_future *future = pier_task_start(one, sleep_long, NULL);
    pier_runner_close(one);
    int status = pier_task_finish(future, NULL);
    return status == PIER_ECLOSED ? 0 : status;
}

static void test_close__ends_all_the_same(void **state)
{
    (void)state;
    assert_true(fail_each(call_close) >= 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_runner_open__survives),
        WITH_RUNNER(test_scope_open__survives),
        WITH_RUNNER(test_task_run__survives),
        WITH_RUNNER(test_task_start__survives),
        WITH_RUNNER(test_lane_open__survives),
        WITH_RUNNER(test_lane_run__survives),
        WITH_RUNNER(test_group__survives),
        WITH_RUNNER(test_limited_group__survives),
        WITH_RUNNER(test_future_wait__survives),
        WITH_RUNNER(test_then__calls_back_all_the_same),
        WITH_RUNNER(test_nested_task__survives),
        cmocka_unit_test(test_close__ends_all_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
