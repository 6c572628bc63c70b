/* Executors, and waiting for several futures at once. */
#include "tests/unit/unit.h"

#include <pier/executor.h>
#include <pier/future.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <string.h>

/* Jobs of the tests wait on this gate, so that each test decides when they end. */
struct gate {
    atomic_int running, open, done;
};

static int wait_at_gate(void *arg, pier_error *err)
{
    struct gate *gate = arg;
    (void)err;
    atomic_fetch_add(&gate->running, 1);
    support_wait_until(unit_is_set, &gate->open, BOUND_MS);
    return atomic_fetch_add(&gate->done, 1) + 1;
}

static int answer(void *arg, pier_error *err)
{
    (void)err;
    return *(int *)arg;
}

static int refuse(void *arg, pier_error *err)
{
    (void)arg;
    return pier_error_set(err, PIER_EUSER, "refused");
}

static bool runs(void *user_data)
{
    return atomic_load(&((struct gate *)user_data)->running) > 0;
}

static bool two_run(void *user_data)
{
    return atomic_load(&((struct gate *)user_data)->running) == 2;
}

static void test_executor__gives_what_the_job_returns(void **state)
{
    (void)state;
    int seven = 7;
    pier_error err = {0};
    pier_runner *owner = pier_runner_open(NULL, &err);
    pier_executor *executor = pier_executor_open(owner, NULL, &err);
    assert_int_equal(pier_executor_run(executor, answer, &seven, &err), 7);
    assert_int_equal(pier_executor_run(executor, refuse, NULL, &err), PIER_EUSER);
    assert_string_equal(err.message, "refused");
    pier_executor_close(executor);
    pier_runner_close(owner);
}

static void test_executor__runs_as_many_at_once_as_it_has_threads(void **state)
{
    (void)state;
    struct gate gate = {0};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_executor *executor = pier_executor_open(owner, PIER_EXECUTOR_OPTIONS(.threads = 2), NULL);
    pier_future *futures[5];
    for (int i = 0; i < 5; i++) {
        futures[i] = pier_executor_run_async(executor, wait_at_gate, &gate);
    }
    assert_true(support_wait_until(two_run, &gate, BOUND_MS));
    assert_int_equal(pier_future_wait_all(futures, 5, 1, NULL), 0);
    assert_int_equal(atomic_load(&gate.running), 2);
    atomic_store(&gate.open, 1);
    assert_int_equal(pier_future_wait_all(futures, 5, BOUND_MS, NULL), 1);
    for (int i = 0; i < 5; i++) {
        assert_true(pier_executor_run_finish(futures[i], NULL) > 0);
    }
    pier_runner_close(owner);
}

static void test_executor__refuses_more_than_its_queue_holds(void **state)
{
    (void)state;
    struct gate gate = {0};
    pier_error err = {0};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_executor *executor = pier_executor_open(
        owner, PIER_EXECUTOR_OPTIONS(.threads = 1, .queue_max = 1, .name = "small"), NULL);
    pier_future *first = pier_executor_run_async(executor, wait_at_gate, &gate);
    assert_true(support_wait_until(runs, &gate, BOUND_MS));
    pier_future *second = pier_executor_run_async(executor, wait_at_gate, &gate);
    pier_future *third = pier_executor_run_async(executor, wait_at_gate, &gate);
    assert_int_equal(pier_executor_run_finish(third, &err), PIER_EBUSY);
    assert_non_null(strstr(err.message, "small: its queue is full"));
    atomic_store(&gate.open, 1);
    assert_int_equal(pier_executor_run_finish(first, NULL), 1);
    assert_int_equal(pier_executor_run_finish(second, NULL), 2);
    pier_runner_close(owner);
}

static void test_executor__job_cancelled_before_it_starts_never_starts(void **state)
{
    (void)state;
    struct gate gate = {0};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_executor *executor = pier_executor_open(owner, PIER_EXECUTOR_OPTIONS(.threads = 1), NULL);
    pier_future *first = pier_executor_run_async(executor, wait_at_gate, &gate);
    pier_future *second = pier_executor_run_async(executor, wait_at_gate, &gate);
    assert_true(support_wait_until(runs, &gate, BOUND_MS));
    pier_future_cancel(second);
    assert_int_equal(pier_executor_run_finish(second, NULL), PIER_ECANCELLED);
    atomic_store(&gate.open, 1);
    assert_int_equal(pier_executor_run_finish(first, NULL), 1);
    pier_runner_close(owner);
    assert_int_equal(atomic_load(&gate.running), 1);
}

static void test_executor__caller_returns_at_its_deadline_and_the_job_goes_on(void **state)
{
    (void)state;
    struct gate gate = {0};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_executor *executor = pier_executor_open(owner, NULL, NULL);
    pier_scope *scope = pier_scope_open(owner, PIER_SCOPE_OPTIONS(.timeout_ms = 30), NULL);
    assert_int_equal(pier_executor_run(executor, wait_at_gate, &gate, NULL), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_int_equal(atomic_load(&gate.done), 0);
    atomic_store(&gate.open, 1);
    pier_runner_close(owner);
    assert_true(atomic_load(&gate.done) == atomic_load(&gate.running));
}

struct nested {
    pier_executor *executor;
    int value;
};

static int run_another(void *arg, pier_error *err)
{
    struct nested *nested = arg;
    return pier_executor_run(nested->executor, answer, &nested->value, err);
}

static void test_executor__whose_only_thread_waits_for_itself_is_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    struct nested nested = {.value = 3};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    nested.executor = pier_executor_open(owner, PIER_EXECUTOR_OPTIONS(.threads = 1), NULL);
    assert_int_equal(pier_executor_run(nested.executor, run_another, &nested, &err),
                     PIER_EDEADLOCK);
    assert_non_null(strstr(err.message, "allow more threads"));
    pier_executor_close(nested.executor);
    nested.executor = pier_executor_open(owner, PIER_EXECUTOR_OPTIONS(.threads = 2), NULL);
    assert_int_equal(pier_executor_run(nested.executor, run_another, &nested, &err), 3);
    pier_runner_close(owner);
}

static int offload(pier_task *self, void *arg, pier_error *err)
{
    return pier_to_thread(pier_task_runner(self), answer, arg, err);
}

static void test_to_thread__runs_beside_the_loop(void **state)
{
    (void)state;
    int nine = 9;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    assert_int_equal(pier_task_run(owner, offload, &nine, NULL), 9);
    assert_int_equal(pier_to_thread(owner, answer, &nine, NULL), 9);
    pier_runner_close(owner);
    assert_int_equal(pier_to_thread(NULL, answer, &nine, NULL), PIER_EINVAL);
}

static void test_close__runs_what_is_queued(void **state)
{
    (void)state;
    struct gate gate = {.open = 1};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_executor *executor = pier_executor_open(owner, PIER_EXECUTOR_OPTIONS(.threads = 1), NULL);
    pier_future *futures[20];
    for (int i = 0; i < 20; i++) {
        futures[i] = pier_executor_run_async(executor, wait_at_gate, &gate);
    }
    assert_int_equal(pier_future_wait_all(futures, 20, BOUND_MS, NULL), 1);
    pier_executor_close(executor);
    assert_int_equal(atomic_load(&gate.done), 20);
    for (int i = 0; i < 20; i++) {
        pier_future_free(futures[i]);
    }
    pier_runner_close(owner);
}

/* ---- Several futures ---------------------------------------------------------------------- */

static void test_wait_any__gives_the_first_that_ends(void **state)
{
    (void)state;
    struct gate slow = {0}, fast = {0};
    size_t index = 99;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_future *futures[] = {pier_to_thread_async(owner, wait_at_gate, &slow),
                              pier_to_thread_async(owner, wait_at_gate, &fast)};
    assert_int_equal(pier_future_wait_any(futures, 2, 0, &index, NULL), 0);
    assert_int_equal(pier_future_wait_any(futures, 2, 20, &index, NULL), 0);
    atomic_store(&fast.open, 1);
    assert_int_equal(pier_future_wait_any(futures, 2, BOUND_MS, &index, NULL), 1);
    assert_int_equal(index, 1);
    atomic_store(&slow.open, 1);
    assert_int_equal(pier_to_thread_finish(futures[0], NULL), 1);
    assert_int_equal(pier_to_thread_finish(futures[1], NULL), 1);
    pier_runner_close(owner);
}

static void test_wait_first_error__ends_with_a_failure_or_with_all(void **state)
{
    (void)state;
    struct gate gate = {0};
    size_t index = 99;
    int one = 1;
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_future *futures[] = {pier_to_thread_async(owner, wait_at_gate, &gate),
                              pier_to_thread_async(owner, answer, &one),
                              pier_to_thread_async(owner, refuse, NULL)};
    assert_int_equal(pier_future_wait_first_error(futures, 3, BOUND_MS, &index, NULL), 1);
    assert_int_equal(index, 2);
    atomic_store(&gate.open, 1);
    assert_int_equal(pier_future_wait_first_error(futures, 2, BOUND_MS, &index, NULL), 1);
    assert_int_equal(index, 2);
    for (int i = 0; i < 3; i++) {
        pier_to_thread_finish(futures[i], NULL);
    }
    pier_runner_close(owner);
}

struct any {
    pier_future **futures;
    size_t index;
};

static int wait_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct any *any = arg;
    return pier_future_wait_any(any->futures, 2, PIER_FOREVER, &any->index, err);
}

static void test_wait_any__suspends_a_task_and_obeys_its_scope(void **state)
{
    (void)state;
    struct gate gates[2] = {{0}, {0}};
    pier_error err = {0};
    pier_runner *owner = pier_runner_open(NULL, NULL);
    pier_future *futures[] = {pier_to_thread_async(owner, wait_at_gate, &gates[0]),
                              pier_to_thread_async(owner, wait_at_gate, &gates[1])};
    struct any any = {futures, 99};
    pier_scope *scope = pier_scope_open(owner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    assert_int_equal(pier_task_run(owner, wait_in_task, &any, &err), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    atomic_store(&gates[0].open, 1);
    assert_int_equal(pier_task_run(owner, wait_in_task, &any, &err), 1);
    assert_int_equal(any.index, 0);
    atomic_store(&gates[1].open, 1);
    pier_to_thread_finish(futures[0], NULL);
    pier_to_thread_finish(futures[1], NULL);
    pier_runner_close(owner);
}

static void test_wait_any__of_null_and_of_none_is_an_error(void **state)
{
    (void)state;
    size_t index;
    pier_future *none[] = {NULL};
    assert_true(pier_future_wait_any(none, 1, 0, &index, NULL) < 0);
    assert_int_equal(pier_future_wait_any(none, 0, 0, &index, NULL), PIER_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_executor__gives_what_the_job_returns),
        cmocka_unit_test(test_executor__runs_as_many_at_once_as_it_has_threads),
        cmocka_unit_test(test_executor__refuses_more_than_its_queue_holds),
        cmocka_unit_test(test_executor__job_cancelled_before_it_starts_never_starts),
        cmocka_unit_test(test_executor__caller_returns_at_its_deadline_and_the_job_goes_on),
        cmocka_unit_test(test_executor__whose_only_thread_waits_for_itself_is_refused),
        cmocka_unit_test(test_to_thread__runs_beside_the_loop),
        cmocka_unit_test(test_close__runs_what_is_queued),
        cmocka_unit_test(test_wait_any__gives_the_first_that_ends),
        cmocka_unit_test(test_wait_first_error__ends_with_a_failure_or_with_all),
        cmocka_unit_test(test_wait_any__suspends_a_task_and_obeys_its_scope),
        cmocka_unit_test(test_wait_any__of_null_and_of_none_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
