/* The program's hooks: the log, the trace, failures that nobody looked at, the allocator. */
#include "tests/unit/unit.h"

#include "sdk/hooks.h"
#include <pier/group.h>
#include <pier/hooks.h>
#include <pier/lane.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct seen {
    pthread_mutex_t lock;
    int count, status;
    bool on_loop;
    char text[512];
};

static struct seen seen;

static void note(const char *text, int status, bool on_loop)
{
    pthread_mutex_lock(&seen.lock);
    seen.count++;
    seen.status = status;
    seen.on_loop = on_loop;
    snprintf(seen.text, sizeof seen.text, "%s", text);
    pthread_mutex_unlock(&seen.lock);
}

static int count_seen(void)
{
    pthread_mutex_lock(&seen.lock);
    int count = seen.count;
    pthread_mutex_unlock(&seen.lock);
    return count;
}

static bool something_seen(void *user_data)
{
    (void)user_data;
    return count_seen() > 0;
}

static void on_log(pier_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    note(message, (int)level, false);
}

static void on_trace(const pier_trace *trace, void *user_data)
{
    (void)user_data;
    if (trace->duration_ns >= 0 && strcmp(trace->operation, "pier_future_wait")) {
        note(trace->operation, trace->status, trace->on_loop);
    }
}

static void on_unobserved(const pier_error *err, void *user_data)
{
    (void)user_data;
    note(err->message, err->status, false);
}

static int dislike(void *arg, pier_error *err)
{
    (void)arg;
    return pier_error_set(err, PIER_EUSER, "the job did not like it");
}

static int reset(void **state)
{
    (void)state;
    pier_log_set(NULL, PIER_LOG_ERROR, NULL);
    pier_trace_set(NULL, NULL);
    pier_unobserved_set(NULL, NULL);
    memset(&seen, 0, sizeof seen);
    pthread_mutex_init(&seen.lock, NULL);
    return 0;
}

static void test_log__gets_what_is_important_enough(void **state)
{
    (void)state;
    pier_log_set(on_log, PIER_LOG_WARNING, NULL);
    pier__log(PIER_LOG_INFO, "not this");
    assert_int_equal(seen.count, 0);
    pier__log(PIER_LOG_ERROR, "but %s", "this");
    assert_int_equal(seen.count, 1);
    assert_string_equal(seen.text, "but this");
}

static void test_trace__tells_of_blocking_and_of_submitted_operations(void **state)
{
    (void)state;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_lane *lane = pier_lane_open(owner, NULL, NULL);
    pier_trace_set(on_trace, NULL);
    assert_int_equal(pier_lane_run(lane, dislike, NULL, NULL), PIER_EUSER);
    assert_int_equal(count_seen(), 1);
    assert_string_equal(seen.text, "pier_lane_run");
    assert_int_equal(seen.status, PIER_EUSER);
    assert_false(seen.on_loop);
    assert_int_equal(pier_lane_run_finish(pier_lane_run_async(lane, dislike, NULL), NULL),
                     PIER_EUSER);
    assert_int_equal(count_seen(), 2);
    assert_true(seen.on_loop);
    pier_trace_set(NULL, NULL);
    pier_runner_close(owner);
}

static void test_unobserved__reports_a_failed_future_that_was_dropped(void **state)
{
    (void)state;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_lane *lane = pier_lane_open(owner, NULL, NULL);
    pier_unobserved_set(on_unobserved, NULL);
    pier_future_free(pier_lane_run_async(lane, dislike, NULL));
    assert_true(support_wait_until(something_seen, NULL, BOUND_MS));
    assert_int_equal(seen.status, PIER_EUSER);
    assert_string_equal(seen.text, "the job did not like it");
    pier_runner_close(owner);
}

static void test_unobserved__says_nothing_of_one_that_was_read(void **state)
{
    (void)state;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_lane *lane = pier_lane_open(owner, NULL, NULL);
    pier_unobserved_set(on_unobserved, NULL);
    assert_int_equal(pier_lane_run_finish(pier_lane_run_async(lane, dislike, NULL), NULL),
                     PIER_EUSER);
    pier_group *group = pier_group_open(owner, NULL, NULL);
    pier_group_add(group, pier_lane_run_async(lane, dislike, NULL), NULL);
    assert_int_equal(pier_group_close(group, NULL), PIER_EUSER);
    pier_runner_close(owner);
    assert_int_equal(seen.count, 0);
}

static void test_unobserved__without_a_hook_goes_to_the_log(void **state)
{
    (void)state;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_lane *lane = pier_lane_open(owner, NULL, NULL);
    pier_log_set(on_log, PIER_LOG_WARNING, NULL);
    pier_future_free(pier_lane_run_async(lane, dislike, NULL));
    assert_true(support_wait_until(something_seen, NULL, BOUND_MS));
    assert_non_null(strstr(seen.text, "the job did not like it"));
    pier_runner_close(owner);
}

static atomic_int allocated;

static void *count_malloc(size_t size, void *user_data)
{
    (void)user_data;
    atomic_fetch_add(&allocated, 1);
    return malloc(size);
}

static void *count_realloc(void *memory, size_t size, void *user_data)
{
    (void)user_data;
    atomic_fetch_add(&allocated, memory ? 0 : 1);
    return realloc(memory, size);
}

static void count_free(void *memory, void *user_data)
{
    (void)user_data;
    atomic_fetch_sub(&allocated, 1);
    free(memory);
}

/* Must be the first test: the allocator is fixed with the first owner. */
static void test_allocator__serves_all_and_is_fixed_with_the_first_runner(void **state)
{
    (void)state;
    pier_allocator counting = {count_malloc, count_realloc, count_free, NULL};
    assert_int_equal(pier_allocator_set(&counting), 0);
    pier_runner *owner = pier_runner_open(NULL, NULL);
    assert_true(atomic_load(&allocated) > 0);
    pier_lane *lane = pier_lane_open(owner, NULL, NULL);
    pier_lane_run(lane, dislike, NULL, NULL);
    assert_int_equal(pier_allocator_set(NULL), PIER_EBUSY);
    pier_runner_close(owner);
    assert_int_equal(atomic_load(&allocated), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_allocator__serves_all_and_is_fixed_with_the_first_runner,
                               reset),
        cmocka_unit_test_setup(test_log__gets_what_is_important_enough, reset),
        cmocka_unit_test_setup(test_trace__tells_of_blocking_and_of_submitted_operations, reset),
        cmocka_unit_test_setup(test_unobserved__reports_a_failed_future_that_was_dropped, reset),
        cmocka_unit_test_setup(test_unobserved__says_nothing_of_one_that_was_read, reset),
        cmocka_unit_test_setup(test_unobserved__without_a_hook_goes_to_the_log, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
