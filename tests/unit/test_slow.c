/* Callbacks and tasks that keep the loop are reported, others are not. */
#include "tests/unit/unit.h"

#include <pier/debug.h>
#include <pier/executor.h>
#include <pier/hooks.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>

enum { SLOW_MS = 40, LIMIT_MS = 20, COARSE_LIMIT_MS = 60 };

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static char logged[8192]; /* all of them, as far as there is room */
static int warnings;

static void note_log(pier_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    if (level == PIER_LOG_WARNING) {
        pthread_mutex_lock(&log_lock);
        warnings++;
        strncat(logged, message, sizeof logged - 1 - strlen(logged));
        pthread_mutex_unlock(&log_lock);
    }
}

static int open_with(int64_t slow_ms)
{
    warnings = 0;
    logged[0] = '\0';
    pier_log_set(note_log, PIER_LOG_WARNING, NULL);
    runner = pier_runner_open(PIER_RUNNER_OPTIONS(.slow_ms = slow_ms), NULL);
    return runner ? 0 : -1;
}

static int open_with_limit(void **state)
{
    (void)state;
    return open_with(LIMIT_MS);
}

static int open_without_limit(void **state)
{
    (void)state;
    return open_with(PIER_FOREVER);
}

static int open_with_coarse_limit(void **state)
{
    (void)state;
    return open_with(COARSE_LIMIT_MS);
}

static int open_with_long_limit(void **state)
{
    (void)state;
    return open_with(INT64_MAX);
}

static int end(void **state)
{
    pier_log_set(NULL, PIER_LOG_WARNING, NULL);
    return close_runner(state);
}

/* What keeps the loop: that is the event itself, and how long it takes is what is tested. */
static void burn(int64_t ms)
{
    for (int64_t until = support_now_ms() + ms; support_now_ms() < until;) {
    }
}

static int do_nothing(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 0;
}

struct called {
    int64_t ms;
    atomic_int done;
};

static void call_back(pier_future *future, void *user_data)
{
    struct called *called = user_data;
    (void)future;
    burn(called->ms);
    atomic_store(&called->done, 1);
}

static int return_at_once(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

/* When this has returned the loop has come out of what it was in. */
static pier_loop_stats stats_after(void)
{
    pier_loop_stats stats;
    assert_int_equal(pier_task_run(runner, return_at_once, NULL, NULL), 0);
    pier_runner_stats(runner, &stats);
    return stats;
}

static void call_back_for(int64_t ms)
{
    struct called called = {.ms = ms};
    pier_future_then(pier_to_thread_async(runner, do_nothing, NULL), call_back, &called);
    assert_true(unit_await(&called.done));
    stats_after(); /* the callback has returned, so that `called` may go */
}

static void test_slow__callback_is_logged_and_counted(void **state)
{
    (void)state;
    call_back_for(SLOW_MS);
    pier_loop_stats stats = stats_after();
    assert_true(stats.slow >= 1 && stats.callbacks == 1);
    assert_true(stats.slowest_us >= SLOW_MS * 1000 - 1000);
    pthread_mutex_lock(&log_lock);
    assert_true(warnings >= 1);
    assert_non_null(strstr(logged, "a callback of pier_executor_run kept the loop for"));
    pthread_mutex_unlock(&log_lock);
}

static int burn_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    int status = pier_task_sleep(self, 1, err);
    burn(SLOW_MS);
    return status;
}

static void test_slow__task_is_logged_by_its_name(void **state)
{
    (void)state;
    pier_future *future =
        pier_task_start_with(runner, burn_in_task, NULL, PIER_TASK_OPTIONS(.name = "cruncher"));
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_true(stats_after().slow >= 1);
    pthread_mutex_lock(&log_lock);
    assert_non_null(strstr(logged, "a step of pier_task cruncher kept the loop for"));
    pthread_mutex_unlock(&log_lock);
}

static int burn_after_yielding(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_task_sleep(self, 0, err);
    /* What runs next is not to blame. */
    pier_future *next = pier_task_start(pier_task_runner(self), return_at_once, NULL);
    burn(*(int *)arg);
    pier_future_free(next);
    return status < 0 ? status : pier_task_sleep(self, 0, err);
}

static void check_turn(int ms)
{
    pier_future *future = pier_task_start_with(runner, burn_after_yielding, &ms,
                                               PIER_TASK_OPTIONS(.name = "yielder"));
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_true(stats_after().slow >= 1);
    pthread_mutex_lock(&log_lock);
    assert_non_null(strstr(logged, "a step of pier_task yielder kept the loop for"));
    pthread_mutex_unlock(&log_lock);
}

static void test_slow__turn_of_a_task_that_yielded_is_logged(void **state)
{
    (void)state;
    check_turn(SLOW_MS);
}

static void test_slow__turn_beyond_a_coarse_limit_is_logged(void **state)
{
    (void)state;
    check_turn(2 * COARSE_LIMIT_MS);
}

static void test_slow__is_nothing_where_it_is_switched_off(void **state)
{
    (void)state;
    call_back_for(SLOW_MS);
    pier_loop_stats stats = stats_after();
    assert_int_equal(stats.slow, 0);
    assert_int_equal(stats.slowest_us, 0);
    assert_int_equal(stats.callbacks, 1);
    assert_int_equal(warnings, 0);
}

static void test_slow__is_nothing_below_the_limit(void **state)
{
    (void)state;
    call_back_for(SLOW_MS);
    pier_loop_stats stats = stats_after();
    assert_int_equal(stats.slow, 0);
    assert_true(stats.slowest_us >= SLOW_MS * 1000 - 1000);
}

static void test_slow__callback_shows_as_lag_of_what_comes_after(void **state)
{
    (void)state;
    struct called called = {.ms = SLOW_MS};
    pier_future_then(pier_to_thread_async(runner, do_nothing, NULL), call_back, &called);
    pier_loop_stats stats = {0};
    while (!atomic_load(&called.done)) {
        stats_after(); /* comes before, or has to wait for the callback */
    }
    stats = stats_after();
    assert_true(stats.lag_max_us > 0);
    assert_true(stats.steps > 0);
}

int main(void)
{
#define WITH(open, test) cmocka_unit_test_setup_teardown(test, open, end)
    const struct CMUnitTest tests[] = {
        WITH(open_with_limit, test_slow__callback_is_logged_and_counted),
        WITH(open_with_limit, test_slow__task_is_logged_by_its_name),
        WITH(open_with_limit, test_slow__turn_of_a_task_that_yielded_is_logged),
        WITH(open_with_coarse_limit, test_slow__turn_beyond_a_coarse_limit_is_logged),
        WITH(open_without_limit, test_slow__is_nothing_where_it_is_switched_off),
        WITH(open_with_long_limit, test_slow__is_nothing_below_the_limit),
        WITH(open_with_limit, test_slow__callback_shows_as_lag_of_what_comes_after),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
