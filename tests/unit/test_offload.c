/* Blocking functions of the user's with both faces. */
#include "tests/unit/passing_time.h"
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include <pier/offload.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct gate {
    atomic_int running, open, done;
    pthread_t thread; /* that called it */
};

static int64_t slow_sum(struct gate *gate, int64_t a, int b, pier_error *err)
{
    gate->thread = pthread_self();
    atomic_store(&gate->running, 1);
    support_wait_until(unit_is_set, &gate->open, BOUND_MS);
    atomic_store(&gate->done, 1);
    if (a < 0) {
        pier_error_set(err, PIER_EUSER, "cannot add %d", (int)a);
    }
    return a + b;
}

PIER_OFFLOAD(int64_t, -1, sum, slow_sum, (struct gate *, gate), (int64_t, a), (int, b));

static const char *find_dot(const char *text, pier_error *err)
{
    (void)err;
    return strchr(text, '.');
}

PIER_OFFLOAD(const char *, NULL, dot, find_dot, (const char *, text));

static double add_six(double a, char b, short c, int d, long e, float f, pier_error *err)
{
    (void)err;
    return a + b + c + d + (double)e + (double)f;
}

PIER_OFFLOAD(double, 0, six, add_six, (double, a), (char, b), (short, c), (int, d), (long, e),
             (float, f));

static void test_offload__on_a_thread_is_a_call(void **state)
{
    (void)state;
    pier_error err = {0};
    struct gate gate = {.open = 1};
    assert_int_equal(sum(runner, &gate, 40, 2, &err), 42);
    assert_true(pthread_equal(gate.thread, pthread_self()));
    assert_string_equal(dot(runner, "a.b", &err), ".b");
    assert_null(dot(runner, "ab", &err));
    assert_true(six(runner, 1, 2, 3, 4, 5, 6, &err) == 21);
    assert_int_equal(err.status, 0);
}

struct seen {
    struct gate gate;
    pthread_t loop;
    atomic_int turned;
};

static int turn(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct seen *seen = arg;
    atomic_store(&seen->turned, atomic_load(&seen->gate.running));
    atomic_store(&seen->gate.open, 1);
    return 0;
}

static int sum_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct seen *seen = arg;
    seen->loop = pthread_self();
    return (int)sum(pier_task_runner(self), &seen->gate, 40, 2, err);
}

static void test_offload__in_a_task_leaves_the_loop_free(void **state)
{
    (void)state;
    struct seen seen = {0};
    pier_future *task = pier_task_start(runner, sum_in_task, &seen);
    assert_true(unit_await(&seen.gate.running));
    assert_int_equal(pier_task_run(runner, turn, &seen, NULL), 0);
    assert_int_equal(pier_task_finish(task, NULL), 42);
    assert_int_equal(seen.turned, 1);
    assert_false(pthread_equal(seen.gate.thread, seen.loop));
}

static void test_offload__failure_comes_through_the_error(void **state)
{
    (void)state;
    pier_error err = {0};
    struct gate gate = {.open = 1};
    assert_int_equal(sum(runner, &gate, -7, 2, &err), -1);
    assert_int_equal(err.status, PIER_EUSER);
    assert_string_equal(err.message, "cannot add -7");
    err = (pier_error){0};
    assert_int_equal(sum_finish(sum_async(runner, &gate, -8, 2), &err), -1);
    assert_string_equal(err.message, "cannot add -8");
    assert_int_equal(sum(NULL, &gate, 1, 2, NULL), -1);
    assert_null(pier_offload(runner, NULL, "", 1, &err));
    assert_null(pier_offload(runner, dot_run, NULL, 1, &err));
}

struct answer {
    int64_t value;
    atomic_int called;
};

static void on_sum(pier_future *future, void *user_data)
{
    struct answer *answer = user_data;
    answer->value = sum_finish(future, NULL);
    atomic_store(&answer->called, 1);
}

static void test_offload__for_callbacks(void **state)
{
    (void)state;
    struct gate gate = {.open = 1};
    struct answer answer = {0};
    pier_future_then(sum_async(runner, &gate, 1, 2), on_sum, &answer);
    assert_true(unit_await(&answer.called));
    assert_int_equal(answer.value, 3);
}

static int sum_until(pier_task *self, void *arg, pier_error *err)
{
    pier_scope *scope =
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    int64_t value = sum(pier_task_runner(self), arg, 1, 2, err);
    pier_scope_close(scope);
    return value < 0 ? err->status : 0;
}

static void test_offload__task_is_let_go_at_its_deadline_and_the_call_goes_on(void **state)
{
    (void)state;
    struct gate gate = {0};
    time_stop(); /* until it has been called */
    pier_future *task = pier_task_start(runner, sum_until, &gate);
    assert_true(unit_await(&gate.running));
    time_go_on();
    assert_int_equal(pier_task_finish(task, NULL), PIER_ETIMEDOUT);
    assert_int_equal(atomic_load(&gate.done), 0);
    atomic_store(&gate.open, 1);
    assert_true(unit_await(&gate.done));
}

static void test_offload__cancelled_future_settles_when_the_call_has_ended(void **state)
{
    (void)state;
    struct gate gate = {0};
    pier_future *future = sum_async(runner, &gate, 1, 2);
    assert_true(unit_await(&gate.running));
    pier_future_cancel(future);
    assert_int_equal(pier_future_wait(future, 20, NULL), 0);
    atomic_store(&gate.open, 1);
    assert_int_equal(sum_finish(future, NULL), 3);
}

static void test_offload__is_refused_in_a_cancelled_scope_and_a_forked_child(void **state)
{
    (void)state;
    pier_error err = {0};
    struct gate gate = {.open = 1};
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_cancel(scope);
    assert_int_equal(sum(runner, &gate, 1, 2, &err), -1);
    assert_int_equal(err.status, PIER_ECANCELLED);
    pier_scope_close(scope);
    assert_int_equal(atomic_load(&gate.running), 0);
    pid_t child = fork();
    if (child == 0) {
        err = (pier_error){0};
        _exit(sum(runner, &gate, 1, 2, &err) == -1 && err.status == PIER_EFORKED ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_runner_close__waits_for_a_call(void **state)
{
    (void)state;
    struct gate gate = {.open = 1};
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_future *future = sum_async(own, &gate, 1, 2);
    assert_true(unit_await(&gate.running));
    pier_runner_close(own);
    assert_int_equal(atomic_load(&gate.done), 1);
    int64_t value = sum_finish(future, NULL);
    assert_true(value == 3 || value == -1);
}

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

static void test_offload__survives_each_failing_allocation(void **state)
{
    (void)state;
    for (int way = 0; way < 2; way++) {
        for (int number = 0;; number++) {
            pier_error err = {0};
            struct gate gate = {.open = 1};
            atomic_store(&left, number);
            atomic_store(&failed, 0);
            pier__alloc_set_gate(fail_one);
            int64_t value = way ? sum(runner, &gate, 1, 2, &err)
                                : sum_finish(sum_async(runner, &gate, 1, 2), &err);
            pier__alloc_set_gate(NULL);
            assert_true(value == 3 || err.status < 0);
            if (!atomic_load(&failed)) {
                assert_int_equal(value, 3);
                break;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_offload__on_a_thread_is_a_call),
        WITH_RUNNER(test_offload__in_a_task_leaves_the_loop_free),
        WITH_RUNNER(test_offload__failure_comes_through_the_error),
        WITH_RUNNER(test_offload__for_callbacks),
        WITH_RUNNER(test_offload__task_is_let_go_at_its_deadline_and_the_call_goes_on),
        WITH_RUNNER(test_offload__cancelled_future_settles_when_the_call_has_ended),
        WITH_RUNNER(test_offload__is_refused_in_a_cancelled_scope_and_a_forked_child),
        WITH_RUNNER(test_runner_close__waits_for_a_call),
        WITH_RUNNER(test_offload__survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
