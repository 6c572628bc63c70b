/* Runners on a loop that the program runs itself. */
#include "tests/unit/unit.h"

#include <pier/future.h>
#include <pier/lane.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>
#include <uv.h>

/* The loop, a runner on it, and what the callbacks saw. */
static uv_loop_t loop;
static pier_runner *on_loop;
static int stops, steps;
static pier_future *pending;
static int results[4];

static int open_on_loop(void **state)
{
    (void)state;
    stops = steps = 0;
    pending = NULL;
    memset(results, 0, sizeof results);
    uv_loop_init(&loop);
    on_loop = pier_runner_open(PIER_RUNNER_OPTIONS(.loop = &loop), NULL);
    return on_loop ? 0 : -1;
}

/* Whatever a test did, its loop must be empty in the end. */
static int close_loop(void **state)
{
    (void)state;
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop);
}

static void note_stop(void *user_data)
{
    (void)user_data;
    stops = ++steps;
}

static int give_arg(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return (int)(intptr_t)arg;
}

static int sleep_then_give(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_task_sleep(self, 1, err);
    return status < 0 ? status : (int)(intptr_t)arg;
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, 600000, err);
}

static void take_and_stop(pier_future *future, void *user_data)
{
    *(int *)user_data = pier_task_finish(future, NULL);
    steps++;
    pier_runner_stop(on_loop, note_stop, NULL);
}

static void take(pier_future *future, void *user_data)
{
    *(int *)user_data = pier_task_finish(future, NULL);
    steps++;
}

static void test_loop__runs_tasks_until_the_runner_is_stopped(void **state)
{
    (void)state;
    pier_future_then(pier_task_start(on_loop, sleep_then_give, (void *)7), take_and_stop, results);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(results[0], 7);
    assert_int_equal(stops, 2); /* the stop callback came last */
    assert_int_equal(uv_loop_close(&loop), 0);
    uv_loop_init(&loop);
}

static void test_stop__settles_what_is_in_flight_before_its_callback(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        pier_future_then(pier_task_start(on_loop, sleep_long, NULL), take, &results[i + 1]);
    }
    pier_future_then(pier_task_start(on_loop, give_arg, (void *)1), take_and_stop, results);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(results[i], PIER_ECLOSED);
    }
    assert_int_equal(stops, 5);
}

static void test_stop__before_the_loop_runs_takes_effect_when_it_does(void **state)
{
    (void)state;
    pier_runner_stop(on_loop, note_stop, NULL);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(stops, 1);
}

static void test_close__on_the_loops_thread_happens_when_the_loop_runs(void **state)
{
    (void)state;
    pending = pier_task_start(on_loop, sleep_long, NULL);
    pier_runner_close(on_loop);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_true(pier_future_done(pending));
    pier_future_free(pending);
}

static void test_blocking_call__on_the_loops_thread_is_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_lane *lane = pier_lane_open(on_loop, NULL, &err);
    assert_int_equal(pier_task_run(on_loop, give_arg, NULL, &err), PIER_EDEADLOCK);
    assert_non_null(strstr(err.message, "pier_task would block the loop thread"));
    assert_int_equal(pier_lane_run(lane, NULL, NULL, NULL), PIER_EDEADLOCK);
    pending = pier_task_start(on_loop, give_arg, NULL);
    assert_int_equal(pier_future_wait(pending, PIER_FOREVER, &err), PIER_EDEADLOCK);
    assert_int_equal(pier_future_wait(pending, 0, &err), 0);
    pier_future_free(pending);
    pier_runner_stop(on_loop, NULL, NULL);
}

static int block_on_own_runner(pier_task *self, void *arg, pier_error *err)
{
    return pier_task_run(pier_task_runner(self), sleep_then_give, arg, err);
}

static void test_blocking_call__in_a_task_suspends(void **state)
{
    (void)state;
    pier_future_then(pier_task_start(on_loop, block_on_own_runner, (void *)9), take_and_stop,
                     results);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(results[0], 9);
}

static uv_timer_t timer;

static void on_timer(uv_timer_t *handle)
{
    uv_close((uv_handle_t *)handle, NULL);
    results[1] = 1;
    pier_future_then(pier_task_start(on_loop, give_arg, (void *)3), take_and_stop, results);
}

static void test_loop__is_shared_with_handles_of_the_program(void **state)
{
    (void)state;
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_timer, 5, 0);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(results[0], 3);
    assert_int_equal(results[1], 1);
}

struct caller {
    pthread_t thread;
    int status;
    bool close;
};

static void *call_and_close(void *arg)
{
    struct caller *caller = arg;
    caller->status = pier_task_run(on_loop, sleep_then_give, (void *)5, NULL);
    if (caller->close) {
        pier_runner_close(on_loop);
    } else {
        pier_runner_stop(on_loop, note_stop, NULL);
    }
    return NULL;
}

static void run_with_caller(bool close)
{
    struct caller caller = {.close = close};
    pthread_create(&caller.thread, NULL, call_and_close, &caller);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    pthread_join(caller.thread, NULL);
    assert_int_equal(caller.status, 5);
}

static void test_other_thread__may_call_and_close(void **state)
{
    (void)state;
    run_with_caller(true);
}

static void test_other_thread__may_stop(void **state)
{
    (void)state;
    run_with_caller(false);
    assert_int_equal(stops, 1);
}

static void test_loop__may_carry_one_runner_after_another(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        pier_future_then(pier_task_start(on_loop, give_arg, (void *)1), take_and_stop, results);
        assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
        on_loop = pier_runner_open(PIER_RUNNER_OPTIONS(.loop = &loop), NULL);
    }
    pier_runner_stop(on_loop, NULL, NULL);
}

static void test_thread__blocks_again_when_its_last_runner_is_gone(void **state)
{
    (void)state;
    pier_runner_stop(on_loop, NULL, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    pier_runner *own = pier_runner_open(NULL, NULL);
    assert_int_equal(pier_task_run(own, give_arg, (void *)2, NULL), 2);
    pier_runner_close(own);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, open_on_loop, close_loop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_loop__runs_tasks_until_the_runner_is_stopped),
        TEST(test_stop__settles_what_is_in_flight_before_its_callback),
        TEST(test_stop__before_the_loop_runs_takes_effect_when_it_does),
        TEST(test_close__on_the_loops_thread_happens_when_the_loop_runs),
        TEST(test_blocking_call__on_the_loops_thread_is_refused),
        TEST(test_blocking_call__in_a_task_suspends),
        TEST(test_loop__is_shared_with_handles_of_the_program),
        TEST(test_other_thread__may_call_and_close),
        TEST(test_other_thread__may_stop),
        TEST(test_loop__may_carry_one_runner_after_another),
        TEST(test_thread__blocks_again_when_its_last_runner_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
