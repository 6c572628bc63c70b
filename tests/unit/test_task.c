/* Tasks: functions in direct style on the loop. */
#include "tests/unit/unit.h"

#include "sdk/clock.h"
#include <pier/future.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static int give_arg(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return (int)(intptr_t)arg;
}

static int sleep_ms(pier_task *self, void *arg, pier_error *err)
{
    return pier_task_sleep(self, (intptr_t)arg, err);
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    if (arg) {
        atomic_store((atomic_int *)arg, 1);
    }
    return pier_task_sleep(self, 600000, err);
}

static void test_task__gives_what_its_function_returned(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, give_arg, (void *)42, &err), 42);
    pier_future *future = pier_task_start(runner, give_arg, (void *)43);
    assert_int_equal(pier_task_finish(future, &err), 43);
    assert_int_equal(err.status, 0);
}

static int fail_with_text(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return pier_error_set(err, PIER_EUSER, "no %s", (const char *)arg);
}

static void test_task__gives_the_error_of_its_function(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, fail_with_text, (char *)"luck", &err), PIER_EUSER);
    assert_string_equal(err.message, "no luck");
    assert_int_equal(pier_task_run(runner, give_arg, (void *)(intptr_t)PIER_EBUSY, &err),
                     PIER_EBUSY);
    assert_non_null(strstr(err.message, "PIER_EBUSY"));
    assert_int_equal(pier_task_run(runner, fail_with_text, (char *)"luck", NULL), PIER_EUSER);
}

static int name_thread(pier_task *self, void *arg, pier_error *err)
{
    pthread_t *threads = arg;
    threads[0] = pthread_self();
    int status = pier_task_sleep(self, 1, err);
    threads[1] = pthread_self();
    return pier_task_runner(self) == runner ? status : PIER_EUSER;
}

static void test_task__stays_on_the_loop_thread(void **state)
{
    (void)state;
    pthread_t threads[2];
    assert_int_equal(pier_task_run(runner, name_thread, threads, NULL), 0);
    assert_true(pthread_equal(threads[0], threads[1]));
    assert_false(pthread_equal(threads[0], pthread_self()));
}

static void test_sleep__takes_as_long_as_it_says(void **state)
{
    (void)state;
    int64_t started = pier__now();
    assert_int_equal(pier_task_run(runner, sleep_ms, (void *)30, NULL), 0);
    assert_true(pier__now() - started >= 30000000);
}

static void test_sleep__without_end_ends_by_cancelling(void **state)
{
    (void)state;
    const int64_t long_times[] = {PIER_FOREVER, INT64_MAX, INT64_MAX / 1000};
    for (int i = 0; i < 3; i++) {
        pier_future *future = pier_task_start(runner, sleep_ms, (void *)(intptr_t)long_times[i]);
        assert_int_equal(pier_future_wait(future, 20, NULL), 0);
        pier_future_cancel(future);
        assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
    }
}

struct player {
    struct game *game;
    int number;
};

struct game {
    int moves[100];
    int count;
};

static int take_turns(pier_task *self, void *arg, pier_error *err)
{
    struct player *player = arg;
    for (int i = 0; i < 10; i++) {
        player->game->moves[player->game->count++] = player->number;
        if (pier_task_sleep(self, 0, err) < 0) {
            return err->status;
        }
    }
    return 0;
}

static void test_sleep_0__lets_every_other_task_run_once(void **state)
{
    (void)state;
    struct game game = {.count = 0};
    struct player players[4];
    pier_future *futures[4];
    for (int i = 0; i < 4; i++) {
        players[i] = (struct player){&game, i};
        futures[i] = pier_task_start(runner, take_turns, &players[i]);
    }
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pier_task_finish(futures[i], NULL), 0);
    }
    /* Between two moves of one, each of the others that still plays moves at most once or twice: it
     * may have been started meanwhile. */
    assert_int_equal(game.count, 40);
    for (int number = 0; number < 4; number++) {
        int run = 0;
        for (int i = 0; i < game.count - 10; i++) {
            run = game.moves[i] == number ? 0 : run + 1;
            assert_true(run <= 30);
        }
    }
}

static int yield_often(pier_task *self, void *arg, pier_error *err)
{
    for (intptr_t i = 0; i < (intptr_t)arg; i++) {
        if (pier_task_sleep(self, 0, err) < 0) {
            return err->status;
        }
    }
    return 0;
}

static void test_sleep_0__does_not_wait_for_the_clock(void **state)
{
    (void)state;
    int64_t started = support_now_ms();
    assert_int_equal(pier_task_run(runner, yield_often, (void *)20000, NULL), 0);
    /* A timer's resolution is a millisecond. */
    assert_true(support_now_ms() - started < 10000);
}

static void test_sleep_0__leaves_room_for_timers_and_threads(void **state)
{
    (void)state;
    pier_future *busy = pier_task_start(runner, yield_often, (void *)(intptr_t)INT32_MAX);
    assert_int_equal(pier_task_run(runner, sleep_ms, (void *)5, NULL), 0);
    pier_future_cancel(busy);
    assert_int_equal(pier_task_finish(busy, NULL), PIER_ECANCELLED);
}

static int run_nested(pier_task *self, void *arg, pier_error *err)
{
    intptr_t depth = (intptr_t)arg;
    if (depth == 0) {
        return pier_task_sleep(self, 1, err);
    }
    int below = pier_task_run(pier_task_runner(self), run_nested, (void *)(depth - 1), err);
    return below < 0 ? below : below + 1;
}

static void test_task__may_run_another_and_wait_for_it(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, run_nested, (void *)20, NULL), 20);
}

static int start_and_finish(pier_task *self, void *arg, pier_error *err)
{
    pier_future *futures[10];
    int sum = 0;
    for (int i = 0; i < 10; i++) {
        futures[i] = pier_task_start(pier_task_runner(self), i % 2 ? give_arg : sleep_ms, arg);
    }
    for (int i = 0; i < 10; i++) {
        sum += pier_task_finish(futures[i], err);
    }
    return sum;
}

static void test_task__may_start_others_and_finish_them(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, start_and_finish, (void *)3, NULL), 15);
}

/* Blocks the loop, so that what is started meanwhile has not begun. */
struct block {
    atomic_int running, end;
};

static int block_loop(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct block *block = arg;
    atomic_store(&block->running, 1);
    return unit_await(&block->end) ? 0 : PIER_EUSER;
}

static void test_cancel__before_the_start_never_starts_it(void **state)
{
    (void)state;
    struct block block = {0};
    atomic_int started = 0;
    pier_error err = {0};
    pier_future *blocker = pier_task_start(runner, block_loop, &block);
    assert_true(unit_await(&block.running));
    pier_future *future = pier_task_start(runner, sleep_long, &started);
    pier_future_cancel(future);
    atomic_store(&block.end, 1);
    assert_int_equal(pier_task_finish(future, &err), PIER_ECANCELLED);
    assert_string_equal(err.message, "pier_task: cancelled while starting");
    assert_int_equal(started, 0);
    assert_int_equal(pier_task_finish(blocker, NULL), 0);
}

static void test_cancel__ends_a_sleep(void **state)
{
    (void)state;
    atomic_int started = 0;
    pier_error err = {0};
    pier_future *future = pier_task_start(runner, sleep_long, &started);
    assert_true(unit_await(&started));
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, &err), PIER_ECANCELLED);
    assert_string_equal(err.message, "pier_task_sleep: cancelled while sleeping");
}

static void test_cancel__after_the_end_changes_nothing(void **state)
{
    (void)state;
    pier_future *future = pier_task_start(runner, give_arg, (void *)5);
    assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), 5);
}

static int count_refusals(pier_task *self, void *arg, pier_error *err)
{
    (void)err;
    atomic_store((atomic_int *)arg, 1);
    int refusals = 0;
    for (int i = 0; i < 5; i++) {
        refusals += pier_task_sleep(self, i ? 0 : 600000, NULL) == PIER_ECANCELLED;
    }
    int status = pier_task_run(pier_task_runner(self), give_arg, (void *)1, NULL);
    return status == PIER_ECANCELLED ? refusals + 1 : refusals;
}

static void test_cancelled_task__is_refused_all_it_does_later(void **state)
{
    (void)state;
    atomic_int started = 0;
    pier_future *future = pier_task_start(runner, count_refusals, &started);
    assert_true(unit_await(&started));
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), 6);
}

static int wait_for_inner(pier_task *self, void *arg, pier_error *err)
{
    return pier_task_run(pier_task_runner(self), sleep_long, arg, err);
}

static void test_cancel__reaches_the_task_that_a_task_waits_for(void **state)
{
    (void)state;
    atomic_int started = 0;
    pier_future *future = pier_task_start(runner, wait_for_inner, &started);
    assert_true(unit_await(&started));
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
}

static int cancel_itself(pier_task *self, void *arg, pier_error *err)
{
    pier_future_cancel((pier_future *)self);
    int first = pier_task_sleep(self, 0, NULL);
    (void)arg;
    return pier_task_sleep(self, 600000, err) == PIER_ECANCELLED
               ? first == PIER_ECANCELLED || first == 0
               : PIER_EUSER;
}

static void test_task__may_be_cancelled_by_itself(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, cancel_itself, NULL, NULL), 1);
}

static void test_tasks__may_be_many(void **state)
{
    (void)state;
    enum { MANY = SANITIZED ? 500 : 10000 };
    pier_future **futures = calloc(MANY, sizeof *futures);
    for (int i = 0; i < MANY; i++) {
        futures[i] = pier_task_start(runner, sleep_long, NULL);
    }
    /* All are alive when this one, started last, has run. */
    assert_int_equal(pier_task_run(runner, give_arg, (void *)1, NULL), 1);
    int cancelled = 0;
    for (int i = 0; i < MANY; i++) {
        pier_future_cancel(futures[i]);
    }
    for (int i = 0; i < MANY; i++) {
        cancelled += pier_task_finish(futures[i], NULL) == PIER_ECANCELLED;
    }
    assert_int_equal(cancelled, MANY);
    free(futures);
}

static int note_stack(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    int on_stack;
    *(uintptr_t *)arg = (uintptr_t)&on_stack;
    return 0;
}

static void test_stack__is_used_again_by_the_next_task(void **state)
{
    (void)state;
    uintptr_t first, later;
    pier_task_run(runner, note_stack, &first, NULL);
    for (int i = 0; i < 50; i++) {
        pier_task_run(runner, note_stack, &later, NULL);
        assert_true(later / 0x200000 == first / 0x200000 || later - first < 0x100000 ||
                    first - later < 0x100000);
    }
}

static void run_in_callback(pier_future *future, void *user_data)
{
    (void)future;
    pier_error *err = user_data;
    pier_task_run(runner, give_arg, NULL, err);
    atomic_store((atomic_int *)(err + 1), 1);
}

static void test_run__on_the_loop_thread_outside_a_task_is_refused(void **state)
{
    (void)state;
    struct {
        pier_error err;
        atomic_int done;
    } seen = {.done = 0};
    pier_future_then(pier_task_start(runner, give_arg, NULL), run_in_callback, &seen);
    assert_true(unit_await(&seen.done));
    assert_int_equal(seen.err.status, PIER_EDEADLOCK);
    assert_non_null(strstr(seen.err.message, "loop thread"));
}

static void test_null_runner__keeps_the_error_that_explains_it(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_ENOMEM, "no runner");
    assert_int_equal(pier_task_run(NULL, give_arg, NULL, &err), PIER_ENOMEM);
    assert_int_equal(pier_task_finish(pier_task_start(NULL, give_arg, NULL), NULL), PIER_EINVAL);
}

static int wait_elsewhere(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    int waited = pier_future_wait(arg, PIER_FOREVER, err);
    return waited == 1 ? pier_task_finish(arg, err) : waited;
}

static void test_task__may_wait_for_a_future_of_another_runner(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    for (int i = 0; i < 50; i++) {
        pier_future *future = pier_task_start(other, i % 2 ? sleep_ms : give_arg, (void *)1);
        assert_int_equal(pier_task_run(runner, wait_elsewhere, future, NULL), i % 2 ? 0 : 1);
    }
    pier_runner_close(other);
}

static int run_elsewhere(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return pier_task_run(arg, sleep_ms, (void *)1, err);
}

static void test_task__may_run_a_task_on_another_runner(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    assert_int_equal(pier_task_run(runner, run_elsewhere, other, NULL), 0);
    pier_runner_close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_task__gives_what_its_function_returned),
        WITH_RUNNER(test_task__gives_the_error_of_its_function),
        WITH_RUNNER(test_task__stays_on_the_loop_thread),
        WITH_RUNNER(test_sleep__takes_as_long_as_it_says),
        WITH_RUNNER(test_sleep__without_end_ends_by_cancelling),
        WITH_RUNNER(test_sleep_0__lets_every_other_task_run_once),
        WITH_RUNNER(test_sleep_0__does_not_wait_for_the_clock),
        WITH_RUNNER(test_sleep_0__leaves_room_for_timers_and_threads),
        WITH_RUNNER(test_task__may_run_another_and_wait_for_it),
        WITH_RUNNER(test_task__may_start_others_and_finish_them),
        WITH_RUNNER(test_cancel__before_the_start_never_starts_it),
        WITH_RUNNER(test_cancel__ends_a_sleep),
        WITH_RUNNER(test_cancel__after_the_end_changes_nothing),
        WITH_RUNNER(test_cancelled_task__is_refused_all_it_does_later),
        WITH_RUNNER(test_cancel__reaches_the_task_that_a_task_waits_for),
        WITH_RUNNER(test_task__may_be_cancelled_by_itself),
        WITH_RUNNER(test_tasks__may_be_many),
        WITH_RUNNER(test_stack__is_used_again_by_the_next_task),
        WITH_RUNNER(test_run__on_the_loop_thread_outside_a_task_is_refused),
        WITH_RUNNER(test_null_runner__keeps_the_error_that_explains_it),
        WITH_RUNNER(test_task__may_wait_for_a_future_of_another_runner),
        WITH_RUNNER(test_task__may_run_a_task_on_another_runner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
