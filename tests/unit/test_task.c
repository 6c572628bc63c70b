/* Tasks: functions in direct style on the loop. */
#include "tests/unit/unit.h"

#include "sdk/clock.h"
#include <pier/executor.h>
#include <pier/future.h>
#include <pier/group.h>
#include <pier/hooks.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <stdio.h>
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

static int copy_name(pier_task *self, void *arg, pier_error *err)
{
    (void)err;
    snprintf(arg, 64, "%s", pier_task_name(self));
    return 0;
}

static void test_name__is_copied_and_cut(void **state)
{
    (void)state;
    char name[] = "a reader of the file that has a long name", seen[64] = "?";
    pier_future *future =
        pier_task_start_with(runner, copy_name, seen, PIER_TASK_OPTIONS(.name = name));
    memset(name, 'x', sizeof name - 1);
    assert_int_equal(pier_task_finish(future, NULL), 0);
    assert_string_equal(seen, "a reader of the file that has a");
    assert_int_equal(pier_task_run(runner, copy_name, seen, NULL), 0);
    assert_string_equal(seen, "");
}

static void test_name__is_in_the_error(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *future = pier_task_start_with(runner, give_arg, (void *)(intptr_t)PIER_EBUSY,
                                               PIER_TASK_OPTIONS(.name = "reader"));
    assert_int_equal(pier_task_finish(future, &err), PIER_EBUSY);
    assert_string_equal(err.message, "the task reader failed with PIER_EBUSY and no message");
}

static void test_options__without_a_size_are_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    const pier_task_options options = {.name = "reader"};
    pier_future *future = pier_task_start_with(runner, give_arg, NULL, &options);
    assert_int_equal(pier_task_finish(future, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "PIER_TASK_OPTIONS"));
    assert_int_equal(pier_task_finish(pier_task_start_with(NULL, give_arg, NULL, NULL), NULL),
                     PIER_EINVAL);
}

/* Sleeps until the flag is set; gives 1, or why it was ended. */
static int wait_for_flag(pier_task *self, void *arg, pier_error *err)
{
    while (!atomic_load((atomic_int *)arg)) {
        if (pier_task_sleep(self, 1, err) < 0) {
            return err->status;
        }
    }
    return 1;
}

static void test_detached_task__outlives_the_scope_it_was_started_in(void **state)
{
    (void)state;
    atomic_int flags[2] = {0, 0};
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_future *inside = pier_task_start(runner, wait_for_flag, &flags[0]);
    pier_future *detached =
        pier_task_start_with(runner, wait_for_flag, &flags[1], PIER_TASK_OPTIONS(.detached = true));
    pier_scope_cancel(scope);
    pier_scope_close(scope);
    assert_int_equal(pier_task_finish(inside, NULL), PIER_ECANCELLED);
    assert_false(pier_future_done(detached));
    atomic_store(&flags[1], 1);
    assert_int_equal(pier_task_finish(detached, NULL), 1);
}

static atomic_int unobserved;

static void note_unobserved(const pier_error *err, void *user_data)
{
    (void)user_data;
    atomic_store(&unobserved, err->status);
}

static void test_detach__reports_a_failure_and_also_a_cancel(void **state)
{
    (void)state;
    pier_unobserved_set(note_unobserved, NULL);
    pier_future_detach(pier_task_start(runner, fail_with_text, (char *)"luck"));
    assert_true(unit_await(&unobserved));
    assert_int_equal(atomic_exchange(&unobserved, 0), PIER_EUSER);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    pier_future_cancel(future);
    pier_future_detach(future);
    assert_true(unit_await(&unobserved));
    assert_int_equal(atomic_exchange(&unobserved, 0), PIER_ECANCELLED);
    pier_future_detach(NULL);
    pier_unobserved_set(NULL, NULL);
}

static void test_free__reports_a_failure_but_not_a_cancel(void **state)
{
    (void)state;
    pier_unobserved_set(note_unobserved, NULL);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    pier_future_cancel(future);
    pier_future_free(future);
    assert_int_equal(pier_task_run(runner, give_arg, NULL, NULL), 0); /* behind it */
    pier_future_free(pier_task_start(runner, fail_with_text, (char *)"luck"));
    assert_true(unit_await(&unobserved));
    assert_int_equal(atomic_exchange(&unobserved, 0), PIER_EUSER);
    pier_unobserved_set(NULL, NULL);
}

static int close_runner_here(pier_task *self, void *arg, pier_error *err)
{
    pier_runner_close(pier_task_runner(self));
    atomic_store((atomic_int *)arg, pier_task_sleep(self, 600000, err));
    return 0;
}

static void test_runner__may_be_closed_by_a_task_while_others_run(void **state)
{
    (void)state;
    atomic_int closer = 0;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_future *sleeper = pier_task_start(other, sleep_long, NULL);
    pier_future *future = pier_task_start(other, close_runner_here, &closer);
    assert_true(unit_await(&closer));
    assert_int_equal(closer, PIER_ECLOSED);
    /* The runner's memory lives as long as its futures. */
    support_wait_until((bool (*)(void *))pier_future_done, sleeper, BOUND_MS);
    assert_int_equal(pier_task_finish(sleeper, NULL), PIER_ECLOSED);
    pier_future_free(future);
}

static void test_yield__fails_once_the_runner_closes(void **state)
{
    (void)state;
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_future *future = pier_task_start(other, yield_often, (void *)(intptr_t)INT32_MAX);
    pier_runner_close(other);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECLOSED);
}

static int yield_in_scope(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    pier_scope *scope =
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.timeout_ms = 20), err);
    int status = yield_often(self, (void *)(intptr_t)INT32_MAX, err);
    pier_scope_close(scope);
    return status;
}

static void test_yield__obeys_deadlines(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, yield_in_scope, NULL, NULL), PIER_ETIMEDOUT);
}

/* ---- Every blocking function suspends ----------------------------------------------------- */

struct suspending {
    pier_future *future; /* ends after `turns` of another task */
    atomic_int turns;
};

static int end_after_turns(pier_task *self, void *arg, pier_error *err)
{
    struct suspending *suspending = arg;
    for (int i = 0; i < 20; i++) {
        if (pier_task_sleep(self, 0, err) < 0) {
            return err->status;
        }
        atomic_fetch_add(&suspending->turns, 1);
    }
    return 7;
}

static int call_wait(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    (void)here;
    return pier_future_wait(suspending->future, PIER_FOREVER, err) == 1;
}

static int call_wait_all(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    (void)here;
    return pier_future_wait_all(&suspending->future, 1, PIER_FOREVER, err) == 1;
}

static int call_wait_any(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    (void)here;
    size_t index = 9;
    return pier_future_wait_any(&suspending->future, 1, PIER_FOREVER, &index, err) == 1;
}

static int call_wait_first(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    (void)here;
    size_t index = 9;
    return pier_future_wait_first_error(&suspending->future, 1, PIER_FOREVER, &index, err) == 1;
}

static int call_run(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    return pier_task_run(here, end_after_turns, suspending, err) == 7;
}

static int call_group_next(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    pier_group *group = pier_group_open(here, NULL, err);
    pier_group_start(group, end_after_turns, suspending);
    int got = pier_task_finish(pier_group_next(group, NULL), err);
    return pier_group_close(group, err) == 0 && got == 7;
}

static int call_group_close(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    pier_group *group = pier_group_open(here, NULL, err);
    pier_group_start(group, end_after_turns, suspending);
    return pier_group_close(group, err) == 0;
}

static int call_group_start(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    pier_group *group =
        pier_group_open(here, PIER_GROUP_OPTIONS(.limit = 1, .queue_max = PIER_NONE), err);
    pier_group_start(group, end_after_turns, suspending);
    int status = pier_group_start(group, end_after_turns, suspending); /* waits for the first */
    int turns = suspending->turns;
    return pier_group_close(group, err) == 0 && status == 0 && turns >= 20;
}

static int run_in_executor(void *arg, pier_error *err)
{
    (void)err;
    return unit_await(&((struct suspending *)arg)->turns);
}

static int call_to_thread(struct suspending *suspending, pier_runner *here, pier_error *err)
{
    return pier_to_thread(here, run_in_executor, suspending, err) == 1;
}

static int (*const calls[])(struct suspending *, pier_runner *, pier_error *) = {
    call_wait,       call_wait_all,    call_wait_any,    call_wait_first, call_run,
    call_group_next, call_group_close, call_group_start, call_to_thread,
};

static int call_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct suspending suspending = {.turns = 0};
    suspending.future = pier_task_start(pier_task_runner(self), end_after_turns, &suspending);
    int good = calls[(intptr_t)arg](&suspending, pier_task_runner(self), err);
    int turns = suspending.turns;
    int finished = pier_task_finish(suspending.future, err);
    return good && turns > 0 && finished == 7;
}

static void test_blocking_calls__suspend_in_a_task(void **state)
{
    (void)state;
    for (intptr_t i = 0; i < (intptr_t)(sizeof calls / sizeof *calls); i++) {
        assert_int_equal(pier_task_run(runner, call_in_task, (void *)i, NULL), 1);
    }
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
        WITH_RUNNER(test_name__is_copied_and_cut),
        WITH_RUNNER(test_name__is_in_the_error),
        WITH_RUNNER(test_options__without_a_size_are_refused),
        WITH_RUNNER(test_detached_task__outlives_the_scope_it_was_started_in),
        WITH_RUNNER(test_detach__reports_a_failure_and_also_a_cancel),
        WITH_RUNNER(test_free__reports_a_failure_but_not_a_cancel),
        WITH_RUNNER(test_runner__may_be_closed_by_a_task_while_others_run),
        WITH_RUNNER(test_yield__fails_once_the_runner_closes),
        WITH_RUNNER(test_yield__obeys_deadlines),
        WITH_RUNNER(test_blocking_calls__suspend_in_a_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
