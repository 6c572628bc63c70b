/* Futures: waiting, callbacks, taking. */
#include "tests/unit/unit.h"

#include "sdk/op.h"
#include <pier/future.h>
#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>

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

/* Waits until the flag is set. */
static int await_go(pier_task *self, void *arg, pier_error *err)
{
    while (!unit_is_set(arg)) {
        if (pier_task_sleep(self, 1, err) < 0) {
            return err->status;
        }
    }
    return 1;
}

static pier_future *start_long(void)
{
    return pier_task_start(runner, sleep_long, NULL);
}

static void cancel_and_free(pier_future *future)
{
    pier_future_cancel(future);
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
    pier_future_free(future);
}

static void test_wait__ends_with_the_operation(void **state)
{
    (void)state;
    pier_future *future = pier_task_start(runner, give_arg, (void *)3);
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
    assert_true(pier_future_done(future));
    assert_int_equal(pier_future_wait(future, 0, NULL), 1);
    assert_int_equal(pier_task_finish(future, NULL), 3);
}

static void test_wait__that_times_out_leaves_the_operation_running(void **state)
{
    (void)state;
    atomic_int go = 0;
    pier_future *future = pier_task_start(runner, await_go, &go);
    pier_error err = {0};
    assert_int_equal(pier_future_wait(future, 0, &err), 0);
    assert_int_equal(pier_future_wait(future, 15, &err), 0);
    assert_int_equal(pier_future_wait(future, 1, &err), 0);
    assert_false(pier_future_done(future));
    atomic_store(&go, 1);
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, &err), 1);
    assert_int_equal(err.status, 0);
    assert_int_equal(pier_task_finish(future, NULL), 1);
}

static void test_wait__obeys_the_ambient_scope_and_leaves_the_operation_running(void **state)
{
    (void)state;
    pier_future *future = start_long();
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 15), NULL);
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, &err), PIER_ETIMEDOUT);
    assert_string_equal(
        err.message, "pier_future_wait: the deadline passed while waiting for a future: pier_task");
    pier_scope_close(scope);
    assert_false(pier_future_done(future));
    cancel_and_free(future);
}

static void test_wait_all__waits_for_each(void **state)
{
    (void)state;
    pier_future *futures[10];
    for (int i = 0; i < 10; i++) {
        futures[i] = pier_task_start(runner, give_arg, (void *)(intptr_t)i);
    }
    assert_int_equal(pier_future_wait_all(futures, 10, PIER_FOREVER, NULL), 1);
    for (int i = 0; i < 10; i++) {
        assert_true(pier_future_done(futures[i]));
        assert_int_equal(pier_task_finish(futures[i], NULL), i);
    }
    assert_int_equal(pier_future_wait_all(NULL, 0, 0, NULL), 1);
}

static void test_wait_all__has_one_time_for_all(void **state)
{
    (void)state;
    pier_future *futures[3] = {start_long(), start_long(), start_long()};
    int64_t started = support_now_ms();
    assert_int_equal(pier_future_wait_all(futures, 3, 30, NULL), 0);
    assert_int_equal(pier_future_wait_all(futures, 3, 0, NULL), 0);
    assert_true(support_now_ms() - started >= 29);
    for (int i = 0; i < 3; i++) {
        cancel_and_free(futures[i]);
    }
}

static void test_null_future__passes_through(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *none = NULL;
    pier_error_set(&err, PIER_ESQL, "before");
    assert_false(pier_future_done(NULL));
    assert_int_equal(pier_future_wait(NULL, PIER_FOREVER, &err), PIER_ESQL);
    assert_int_equal(pier_future_wait_all(&none, 1, PIER_FOREVER, &err), PIER_ESQL);
    assert_int_equal(pier_task_finish(NULL, &err), PIER_ESQL);
    assert_int_equal(pier_task_finish(NULL, NULL), PIER_EINVAL);
    pier_future_then(NULL, NULL, NULL);
    pier_future_cancel(NULL);
    pier_future_free(NULL);
}

static void test_future_of_a_null_handle__is_done_and_keeps_the_error(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_ECONNECT, "before");
    pier_future *future = pier_task_start(NULL, give_arg, NULL);
    assert_non_null(future);
    assert_true(pier_future_done(future));
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, &err), 1);
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, &err), PIER_ECONNECT);
    assert_string_equal(err.message, "before");
}

static void test_finish__of_another_type_is_refused_and_takes_the_future(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *future = pier_task_start(runner, give_arg, (void *)3);
    assert_null(pier__op_take_pointer(future, "pier_result *", &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_non_null(strstr(err.message, "pier_task holds int, not pier_result *"));
}

static void test_finish__that_its_scope_ends_cancels_the_operation(void **state)
{
    (void)state;
    pier_future *future = start_long();
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 10), NULL);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ETIMEDOUT);
    pier_scope_close(scope);
}

static void test_free__without_reading_drops_the_result(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        pier_future *future = pier_task_start(runner, give_arg, NULL);
        if (i % 2) {
            assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
        }
        pier_future_free(future);
    }
    assert_int_equal(pier_task_run(runner, give_arg, (void *)1, NULL), 1);
}

/* ---- Operations of a pointer, to see that each result is freed once ----------------------- */

static atomic_int results; /* that live */

static void pointer_step(pier__op *op, unsigned events)
{
    if (events & PIER__START) {
        atomic_fetch_add(&results, 1);
        pier__op_succeed(op, &results);
    }
}

static void pointer_drop(pier__op *op)
{
    if (op->result.pointer) {
        atomic_fetch_sub(&results, 1);
    }
}

static const pier__op_class pointer_class = {.name = "pier_pointer",
                                             .result = "pointer",
                                             .size = sizeof(pier__op),
                                             .step = pointer_step,
                                             .drop = pointer_drop};

static pier__op *pointer_op(void)
{
    pier__op *failed = NULL;
    pier__op *op = pier__op_new(&pointer_class, runner, &failed);
    return op ? op : failed;
}

static bool no_results(void *unused)
{
    (void)unused;
    return atomic_load(&results) == 0;
}

static void test_result__that_nobody_takes_is_freed_with_the_future(void **state)
{
    (void)state;
    pier_future_free(pier__op_submit(pointer_op()));
    pier_future_free(pier__op_run(pointer_op(), NULL));
    assert_int_equal(pier__op_take_int(pier__op_submit(pointer_op()), "int", NULL), PIER_EINVAL);
    pier_future *future = pier__op_submit(pointer_op());
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
    pier_future_free(future);
    assert_true(support_wait_until(no_results, NULL, BOUND_MS));
}

static void test_result__that_is_taken_belongs_to_the_taker(void **state)
{
    (void)state;
    assert_ptr_equal(pier__op_take_pointer(pier__op_submit(pointer_op()), "pointer", NULL),
                     &results);
    assert_int_equal(results, 1);
    atomic_store(&results, 0);
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

struct call {
    atomic_int calls, done;
    bool finish, drop, api;
    int status;     /* of finish */
    int blocking;   /* of a blocking call in the callback */
    int64_t waited; /* of a wait in the callback */
    pthread_t thread;
    pier_future *started;
};

static void note_call(pier_future *future, void *user_data)
{
    struct call *call = user_data;
    atomic_fetch_add(&call->calls, 1);
    call->thread = pthread_self();
    if (call->finish) {
        call->status = pier_task_finish(future, NULL);
    } else if (call->drop) {
        pier_future_free(future);
    }
    if (call->api) {
        call->started = pier_task_start(runner, give_arg, (void *)8);
        call->waited = pier_future_wait(call->started, PIER_FOREVER, NULL);
        call->blocking = pier_task_run(runner, give_arg, NULL, NULL);
    }
    atomic_store(&call->done, 1);
}

static void test_then__calls_once_on_the_loop_thread(void **state)
{
    (void)state;
    struct call call = {.finish = true};
    pier_future_then(pier_task_start(runner, give_arg, (void *)5), note_call, &call);
    assert_true(unit_await(&call.done));
    pier_task_run(runner, give_arg, NULL, NULL);
    assert_int_equal(call.calls, 1);
    assert_int_equal(call.status, 5);
    assert_false(pthread_equal(call.thread, pthread_self()));
}

static void test_then__on_an_ended_future_calls_later_too(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct call call = {.finish = i == 0, .drop = i == 1};
        pier_future *future = pier_task_start(runner, give_arg, (void *)6);
        assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
        pier_future_then(future, note_call, &call);
        assert_true(unit_await(&call.done));
        assert_false(pthread_equal(call.thread, pthread_self()));
        assert_int_equal(call.status, i == 0 ? 6 : 0);
    }
}

static void test_callback__may_start_more_but_not_wait(void **state)
{
    (void)state;
    struct call call = {.api = true};
    pier_future_then(pier_task_start(runner, give_arg, NULL), note_call, &call);
    assert_true(unit_await(&call.done));
    assert_int_equal(call.waited, PIER_EDEADLOCK);
    assert_int_equal(call.blocking, PIER_EDEADLOCK);
    assert_int_equal(pier_task_finish(call.started, NULL), 8);
}

static int then_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct call *call = arg;
    pier_future *future = pier_task_start(pier_task_runner(self), give_arg, NULL);
    int status = pier_future_wait(future, PIER_FOREVER, err);
    pier_future_then(future, note_call, call);
    int at_once = atomic_load(&call->calls);
    return status == 1 ? at_once : PIER_EUSER;
}

static void test_then__never_calls_from_within(void **state)
{
    (void)state;
    struct call call = {0};
    assert_int_equal(pier_task_run(runner, then_in_task, &call, NULL), 0);
    assert_true(unit_await(&call.done));
}

static void test_then__of_a_null_handle_calls_at_once(void **state)
{
    (void)state;
    struct call call = {.finish = true};
    pier_future_then(pier_task_start(NULL, give_arg, NULL), note_call, &call);
    assert_int_equal(call.calls, 1);
    assert_int_equal(call.status, PIER_EINVAL);
}

static void chain(pier_future *future, void *user_data)
{
    struct call *call = user_data;
    call->status += pier_task_finish(future, NULL);
    if (atomic_fetch_add(&call->calls, 1) < 999) {
        pier_future_then(pier_task_start(runner, give_arg, (void *)1), chain, call);
    } else {
        atomic_store(&call->done, 1);
    }
}

static void test_callbacks__may_be_chained(void **state)
{
    (void)state;
    struct call call = {0};
    pier_future_then(pier_task_start(runner, give_arg, (void *)1), chain, &call);
    assert_true(unit_await(&call.done));
    assert_int_equal(call.status, 1000);
}

/* ---- Cancelling --------------------------------------------------------------------------- */

static void test_cancel__may_be_asked_for_again(void **state)
{
    (void)state;
    pier_future *future = start_long();
    for (int i = 0; i < 5; i++) {
        pier_future_cancel(future);
    }
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
}

static void test_cancel__races_with_the_end_and_either_wins(void **state)
{
    (void)state;
    for (int i = 0; i < 500; i++) {
        pier_future *future = pier_task_start(runner, give_arg, (void *)1);
        pier_future_cancel(future);
        int status = pier_task_finish(future, NULL);
        assert_true(status == 1 || status == PIER_ECANCELLED);
    }
}

/* ---- Several threads ---------------------------------------------------------------------- */

static void *wait_for(void *future)
{
    return (void *)(intptr_t)pier_future_wait(future, PIER_FOREVER, NULL);
}

static void test_two_threads__may_wait_for_the_same_future(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        atomic_int go = 0;
        pthread_t threads[4];
        pier_future *future = pier_task_start(runner, await_go, &go);
        for (int i = 0; i < 4; i++) {
            pthread_create(&threads[i], NULL, wait_for, future);
        }
        atomic_store(&go, 1);
        for (int i = 0; i < 4; i++) {
            void *status;
            pthread_join(threads[i], &status);
            assert_int_equal((intptr_t)status, 1);
        }
        assert_int_equal(pier_task_finish(future, NULL), 1);
    }
}

static void *wait_briefly(void *future)
{
    intptr_t settled = 0;
    for (int i = 0; i < 2000 && !settled; i++) {
        settled = pier_future_wait(future, 1, NULL);
    }
    return (void *)settled;
}

static void test_waits__that_time_out_race_with_the_end(void **state)
{
    (void)state;
    for (int round = 0; round < 10; round++) {
        atomic_int go = 0;
        pthread_t threads[4];
        pier_future *future = pier_task_start(runner, await_go, &go);
        for (int i = 0; i < 4; i++) {
            pthread_create(&threads[i], NULL, wait_briefly, future);
        }
        assert_int_equal(pier_future_wait(future, 5, NULL), 0);
        atomic_store(&go, 1);
        for (int i = 0; i < 4; i++) {
            void *status;
            pthread_join(threads[i], &status);
            assert_int_equal((intptr_t)status, 1);
        }
        pier_future_free(future);
    }
}

static int wait_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return pier_future_wait(arg, PIER_FOREVER, err);
}

static void test_tasks_and_threads__may_wait_for_a_future_of_another_runner(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    for (int round = 0; round < 50; round++) {
        atomic_int go = 0;
        pthread_t thread;
        pier_future *future = pier_task_start(other, await_go, &go);
        pier_future *tasks[3];
        for (int i = 0; i < 3; i++) {
            tasks[i] = pier_task_start(i ? runner : other, wait_in_task, future);
        }
        pthread_create(&thread, NULL, wait_for, future);
        atomic_store(&go, 1);
        for (int i = 0; i < 3; i++) {
            assert_int_equal(pier_task_finish(tasks[i], NULL), 1);
        }
        pthread_join(thread, NULL);
        assert_int_equal(pier_task_finish(future, NULL), 1);
    }
    pier_runner_close(other);
}

static void test_wait__of_a_task_for_another_runner_ends_by_cancelling(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_future *future = pier_task_start(other, sleep_long, NULL);
    for (int i = 0; i < 50; i++) {
        pier_future *waiting = pier_task_start(runner, wait_in_task, future);
        if (i % 2) {
            assert_int_equal(pier_future_wait(waiting, 1, NULL), 0);
        }
        pier_future_cancel(waiting);
        assert_int_equal(pier_task_finish(waiting, NULL), PIER_ECANCELLED);
    }
    assert_false(pier_future_done(future));
    cancel_and_free(future);
    pier_runner_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_wait__ends_with_the_operation),
        WITH_RUNNER(test_wait__that_times_out_leaves_the_operation_running),
        WITH_RUNNER(test_wait__obeys_the_ambient_scope_and_leaves_the_operation_running),
        WITH_RUNNER(test_wait_all__waits_for_each),
        WITH_RUNNER(test_wait_all__has_one_time_for_all),
        WITH_RUNNER(test_null_future__passes_through),
        WITH_RUNNER(test_future_of_a_null_handle__is_done_and_keeps_the_error),
        WITH_RUNNER(test_finish__of_another_type_is_refused_and_takes_the_future),
        WITH_RUNNER(test_finish__that_its_scope_ends_cancels_the_operation),
        WITH_RUNNER(test_free__without_reading_drops_the_result),
        WITH_RUNNER(test_result__that_nobody_takes_is_freed_with_the_future),
        WITH_RUNNER(test_result__that_is_taken_belongs_to_the_taker),
        WITH_RUNNER(test_then__calls_once_on_the_loop_thread),
        WITH_RUNNER(test_then__on_an_ended_future_calls_later_too),
        WITH_RUNNER(test_callback__may_start_more_but_not_wait),
        WITH_RUNNER(test_then__never_calls_from_within),
        WITH_RUNNER(test_then__of_a_null_handle_calls_at_once),
        WITH_RUNNER(test_callbacks__may_be_chained),
        WITH_RUNNER(test_cancel__may_be_asked_for_again),
        WITH_RUNNER(test_cancel__races_with_the_end_and_either_wins),
        WITH_RUNNER(test_two_threads__may_wait_for_the_same_future),
        WITH_RUNNER(test_waits__that_time_out_race_with_the_end),
        WITH_RUNNER(test_tasks_and_threads__may_wait_for_a_future_of_another_runner),
        WITH_RUNNER(test_wait__of_a_task_for_another_runner_ends_by_cancelling),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
