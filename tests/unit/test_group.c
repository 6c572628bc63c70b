/* Groups: many futures, taken as they finish. */
#include "tests/unit/passing_time.h"
#include "tests/unit/unit.h"

#include <pier/group.h>
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

static int sleep_arg(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_task_sleep(self, (intptr_t)arg, err);
    return status < 0 ? status : (int)(intptr_t)arg;
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_task_sleep(self, 600000, err);
    if (arg) {
        atomic_fetch_add((atomic_int *)arg, 1); /* ended */
    }
    return status;
}

struct counts {
    atomic_int began, ended;
};

static int count_and_sleep(pier_task *self, void *arg, pier_error *err)
{
    struct counts *counts = arg;
    atomic_fetch_add(&counts->began, 1);
    return sleep_long(self, &counts->ended, err);
}

static int fail_now(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    return pier_error_set(err, PIER_EUSER, "no luck");
}

/* Until what has been started so far has begun. With the clock stopped, a time that is counted from
 * before cannot be over by then, however busy the machine is. */
static void await_begun(void)
{
    assert_int_equal(pier_task_run(runner, give_arg, NULL, NULL), 0);
}

static pier_group *open_group(bool collect, int64_t timeout_ms)
{
    pier_group *group = pier_group_open(
        runner, PIER_GROUP_OPTIONS(.collect = collect, .timeout_ms = timeout_ms), NULL);
    assert_non_null(group);
    return group;
}

static void test_group__without_members_ends_at_once(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 0);
    assert_null(pier_group_next(group, NULL));
    assert_int_equal(pier_group_close(group, NULL), 0);
}

static void test_next__gives_members_as_they_finish(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 0);
    const intptr_t times[] = {60, 1, 30};
    const intptr_t order[] = {1, 30, 60};
    time_stop(); /* all three sleep from the same moment on */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pier_group_start(group, sleep_arg, (void *)times[i]), 0);
    }
    await_begun();
    time_go_on();
    for (int i = 0; i < 3; i++) {
        void *tag = NULL;
        pier_future *future = pier_group_next(group, &tag);
        assert_int_equal((intptr_t)tag, order[i]);
        assert_true(pier_future_done(future));
        assert_int_equal(pier_task_finish(future, NULL), order[i]);
    }
    assert_null(pier_group_next(group, NULL));
    assert_int_equal(pier_group_close(group, NULL), 0);
}

static void test_add__takes_any_future_with_a_tag(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 0);
    int tags[20];
    for (int i = 0; i < 20; i++) {
        pier_future *future = pier_task_start(runner, give_arg, (void *)(intptr_t)i);
        if (i % 2) {
            assert_int_equal(pier_future_wait(future, PIER_FOREVER, NULL), 1);
        }
        assert_int_equal(pier_group_add(group, future, &tags[i]), 0);
    }
    int sum = 0;
    void *tag;
    for (pier_future *future; (future = pier_group_next(group, &tag));) {
        int number = pier_task_finish(future, NULL);
        assert_ptr_equal(tag, &tags[number]);
        sum += number;
    }
    assert_int_equal(sum, 190);
    assert_int_equal(pier_group_close(group, NULL), 0);
}

static void test_failure__cancels_the_others_and_is_reported(void **state)
{
    (void)state;
    atomic_int ended = 0;
    pier_error err = {0};
    pier_group *group = open_group(false, 0);
    for (int i = 0; i < 10; i++) {
        pier_group_start(group, sleep_long, &ended);
    }
    pier_group_start(group, fail_now, NULL);
    assert_int_equal(pier_group_close(group, &err), PIER_EUSER);
    assert_string_equal(err.message, "no luck");
    /* Those that had not begun never do; no other is left when close returns. */
    assert_true(ended <= 10);
}

static void test_next__of_a_failed_group_keeps_the_failures_for_close(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 0);
    pier_group_start(group, sleep_long, NULL);
    pier_group_start(group, fail_now, NULL);
    assert_null(pier_group_next(group, NULL));
    assert_int_equal(pier_group_start(group, give_arg, (void *)1), 0); /* comes too late */
    assert_int_equal(pier_group_close(group, NULL), PIER_EUSER);
}

static void test_collecting_group__leaves_the_others_running(void **state)
{
    (void)state;
    pier_group *group = open_group(true, 0);
    pier_group_start(group, fail_now, NULL);
    pier_group_start(group, sleep_arg, (void *)20);
    int failed = 0, succeeded = 0;
    for (pier_future *future; (future = pier_group_next(group, NULL));) {
        int status = pier_task_finish(future, NULL);
        failed += status == PIER_EUSER;
        succeeded += status == 20;
    }
    assert_int_equal(failed, 1);
    assert_int_equal(succeeded, 1);
    assert_int_equal(pier_group_close(group, NULL), 0);
}

static void test_timeout__cancels_the_rest(void **state)
{
    (void)state;
    for (int collect = 0; collect < 2; collect++) {
        pier_error err = {0};
        pier_group *group = open_group(collect, 20);
        pier_group_start(group, sleep_long, NULL);
        pier_group_add(group, pier_task_start(runner, sleep_long, NULL), NULL);
        int64_t started = support_now_ms();
        assert_int_equal(pier_group_close(group, &err), PIER_ETIMEDOUT);
        assert_int_equal(err.status, PIER_ETIMEDOUT);
        assert_true(support_now_ms() - started < 5000);
    }
}

/* Members and the group end at the same moment; what close says does not depend on who is first. */
static void test_timeout__of_a_collecting_group_is_always_reported(void **state)
{
    (void)state;
    for (int i = 0; i < 100; i++) {
        pier_group *group = open_group(true, 2);
        pier_group_start(group, sleep_long, NULL);
        assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
    }
}

static void test_timeout__ends_next(void **state)
{
    (void)state;
    pier_future *ended = pier_task_start(runner, give_arg, (void *)1);
    assert_int_equal(pier_future_wait(ended, PIER_FOREVER, NULL), 1);
    time_stop();
    pier_group *group = open_group(false, 20);
    pier_group_add(group, ended, NULL);
    pier_group_start(group, sleep_long, NULL);
    assert_int_equal(pier_task_finish(pier_group_next(group, NULL), NULL), 1);
    time_go_on();
    assert_null(pier_group_next(group, NULL));
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
}

struct spawner {
    pier_group *group;
    atomic_int ran;
    int depth;
};

static int spawn(pier_task *self, void *arg, pier_error *err)
{
    struct spawner *spawner = arg;
    int number = atomic_fetch_add(&spawner->ran, 1);
    if (number < 100) {
        int status = pier_group_start(spawner->group, spawn, spawner);
        return status < 0 ? status : pier_task_sleep(self, 0, err);
    }
    return 0;
}

static void test_members__may_start_others(void **state)
{
    (void)state;
    struct spawner spawner = {.group = open_group(false, 0)};
    pier_group_start(spawner.group, spawn, &spawner);
    assert_int_equal(pier_group_close(spawner.group, NULL), 0);
    assert_int_equal(spawner.ran, 101);
}

static void test_close__ends_members_when_its_scope_ends(void **state)
{
    (void)state;
    struct counts counts = {0};
    pier_error err = {0};
    pier_group *group = open_group(false, 0);
    pier_group_start(group, count_and_sleep, &counts);
    pier_group_add(group, pier_task_start(runner, count_and_sleep, &counts), NULL);
    await_begun();
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    assert_int_equal(pier_group_close(group, &err), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_int_equal(counts.ended, 2);
}

static void test_members__obey_the_scope_that_the_group_was_opened_in(void **state)
{
    (void)state;
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_group *group = open_group(false, 0);
    pier_group_start(group, sleep_long, NULL);
    pier_scope_cancel(scope);
    assert_int_equal(pier_group_close(group, NULL), PIER_ECANCELLED);
    pier_scope_close(scope);
}

static int use_group(pier_task *self, void *arg, pier_error *err)
{
    pier_group *group = pier_group_open(pier_task_runner(self), arg, err);
    for (intptr_t i = 1; i <= 10; i++) {
        pier_group_start(group, i % 2 ? give_arg : sleep_arg, (void *)i);
    }
    int sum = 0;
    for (pier_future *future; (future = pier_group_next(group, NULL));) {
        sum += pier_task_finish(future, err);
    }
    int status = pier_group_close(group, err);
    return status < 0 ? status : sum;
}

static void test_group__works_in_a_task(void **state)
{
    (void)state;
    assert_int_equal(pier_task_run(runner, use_group, NULL, NULL), 55);
}

static int close_long_group(pier_task *self, void *arg, pier_error *err)
{
    pier_group *group = pier_group_open(pier_task_runner(self), NULL, err);
    pier_group_start(group, count_and_sleep, arg);
    return pier_group_close(group, err);
}

static void test_close__in_a_task_that_is_cancelled_ends_the_members_first(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct counts counts = {0};
        pier_future *future = pier_task_start(runner, close_long_group, &counts);
        assert_true(unit_await(&counts.began));
        pier_future_cancel(future);
        assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
        assert_int_equal(counts.ended, 1);
    }
}

struct on_loop {
    pier_group *group;
    int closed;
    atomic_int done, ended;
};

static void close_on_loop(pier_future *future, void *user_data)
{
    (void)future;
    struct on_loop *on_loop = user_data;
    on_loop->closed = pier_group_close(on_loop->group, NULL);
    atomic_store(&on_loop->done, 1);
}

static void test_close__on_the_loop_thread_cancels_and_does_not_wait(void **state)
{
    (void)state;
    struct on_loop on_loop = {.group = open_group(false, 0)};
    pier_future *member = pier_task_start(runner, sleep_long, &on_loop.ended);
    pier_group_add(on_loop.group, member, NULL);
    await_begun();
    pier_future_then(pier_task_start(runner, give_arg, NULL), close_on_loop, &on_loop);
    assert_true(unit_await(&on_loop.done));
    assert_int_equal(on_loop.closed, PIER_EDEADLOCK);
    assert_true(unit_await(&on_loop.ended));
}

static void test_close__frees_what_nobody_took(void **state)
{
    (void)state;
    pier_group *group = open_group(true, 0);
    for (intptr_t i = 0; i < 100; i++) {
        pier_group_start(group, i % 3 ? give_arg : fail_now, (void *)i);
    }
    pier_future_free(pier_group_next(group, NULL));
    assert_int_equal(pier_group_close(group, NULL), 0);
}

static void test_null_group__keeps_the_error_that_explains_it(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_ENOMEM, "before");
    assert_int_equal(pier_group_close(NULL, &err), PIER_ENOMEM);
    assert_null(pier_group_next(NULL, NULL));
    assert_int_equal(pier_group_start(NULL, give_arg, NULL), PIER_EINVAL);
    pier_future *future = pier_task_start(runner, sleep_long, NULL);
    assert_int_equal(pier_group_add(NULL, future, NULL), PIER_EINVAL); /* taken, and cancelled */
    assert_null(pier_group_open(NULL, NULL, &err));
    assert_int_equal(err.status, PIER_ENOMEM);
}

static void test_add__of_null_fails_the_group(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 0);
    pier_group_add(group, NULL, NULL);
    assert_int_equal(pier_group_close(group, NULL), PIER_EINVAL);
}

static void *add_many(void *arg)
{
    for (intptr_t i = 0; i < 100; i++) {
        pier_group_start(arg, give_arg, (void *)1);
    }
    return NULL;
}

static void test_threads__may_add_while_another_takes(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 0);
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) {
        pthread_create(&threads[i], NULL, add_many, group);
    }
    int taken = 0;
    int64_t until = support_now_ms() + BOUND_MS;
    while (taken < 300 && support_now_ms() < until) {
        pier_future *future = pier_group_next(group, NULL); /* NULL: none just now */
        if (future) {
            taken += pier_task_finish(future, NULL);
        }
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(taken, 300);
    assert_int_equal(pier_group_close(group, NULL), 0);
}

/* ---- A limit ------------------------------------------------------------------------------ */

struct gauge {
    atomic_int running, most, began, end;
    int order[100];
};

static int take_part(pier_task *self, void *arg, pier_error *err)
{
    struct gauge *gauge = arg;
    int running = atomic_fetch_add(&gauge->running, 1) + 1;
    atomic_fetch_add(&gauge->began, 1);
    if (running > gauge->most) {
        gauge->most = running;
    }
    for (int i = 0; i < 3; i++) {
        if (pier_task_sleep(self, 0, err) < 0) {
            return err->status;
        }
    }
    atomic_fetch_sub(&gauge->running, 1);
    return 0;
}

/* Begins, and ends when it may. */
static int stay(pier_task *self, void *arg, pier_error *err)
{
    struct gauge *gauge = arg;
    atomic_fetch_add(&gauge->began, 1);
    while (!atomic_load(&gauge->end)) {
        if (pier_task_sleep(self, 1, err) < 0) {
            return err->status;
        }
    }
    return 0;
}

static pier_group *open_limited(int limit, int queue_max)
{
    pier_group *group =
        pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = limit, .queue_max = queue_max), NULL);
    assert_non_null(group);
    return group;
}

static void test_limit__lets_no_more_run_at_once(void **state)
{
    (void)state;
    const int queues[] = {0, 2, PIER_NONE};
    for (int i = 0; i < 3; i++) {
        struct gauge gauge = {0};
        pier_group *group = open_limited(3, queues[i]);
        for (int k = 0; k < 200; k++) {
            assert_int_equal(pier_group_start(group, take_part, &gauge), 0);
        }
        assert_int_equal(pier_group_close(group, NULL), 0);
        assert_int_equal(gauge.began, 200);
        assert_int_equal(gauge.most, 3);
    }
}

static void test_limit__does_not_count_futures_that_were_added(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    pier_group *group = open_limited(1, 0);
    pier_group_add(group, pier_task_start(runner, stay, &gauge), NULL);
    pier_group_start(group, give_arg, (void *)5);
    assert_int_equal(pier_task_finish(pier_group_next(group, NULL), NULL), 5);
    atomic_store(&gauge.end, 1);
    assert_int_equal(pier_group_close(group, NULL), 0);
}

static void test_start__waits_while_the_queue_is_full(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    pier_group *group = open_limited(1, 1);
    pier_group_start(group, stay, &gauge);
    assert_int_equal(pier_group_start(group, stay, &gauge), 0); /* queued */
    await_begun();
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    assert_int_equal(pier_group_start(group, stay, &gauge), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_int_equal(gauge.began, 1);
    atomic_store(&gauge.end, 1);
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT); /* reported here too */
    assert_int_equal(gauge.began, 2);
}

struct starter {
    pier_group *group;
    struct gauge *gauge;
    int status;
    atomic_int starting;
};

static void *start_one(void *arg)
{
    struct starter *starter = arg;
    atomic_store(&starter->starting, 1);
    starter->status = pier_group_start(starter->group, stay, starter->gauge);
    return NULL;
}

static void test_start__goes_on_when_there_is_room(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct gauge gauge = {0};
        struct starter starter = {open_limited(1, PIER_NONE), &gauge, 1, 0};
        pthread_t thread;
        pier_group_start(starter.group, stay, &gauge);
        pthread_create(&thread, NULL, start_one, &starter);
        assert_true(unit_await(&starter.starting));
        atomic_store(&gauge.end, 1);
        pthread_join(thread, NULL);
        assert_int_equal(starter.status, 0);
        assert_int_equal(pier_group_close(starter.group, NULL), 0);
        assert_int_equal(gauge.began, 2);
    }
}

static int start_in_own_group(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct starter *starter = arg;
    starter->status = pier_group_start(starter->group, stay, starter->gauge);
    return 0;
}

static void test_start__in_a_member_cannot_wait_for_room(void **state)
{
    (void)state;
    struct gauge gauge = {.end = 1};
    struct starter starter = {open_limited(1, PIER_NONE), &gauge, 1, 0};
    pier_error err = {0};
    pier_group_start(starter.group, start_in_own_group, &starter);
    assert_int_equal(pier_group_close(starter.group, &err), PIER_EDEADLOCK);
    assert_int_equal(starter.status, PIER_EDEADLOCK);
    assert_non_null(strstr(err.message, "queue_max"));
    assert_int_equal(gauge.began, 0);
}

static void test_members__of_a_limited_group_may_start_others(void **state)
{
    (void)state;
    struct spawner spawner = {.group = open_limited(1, 0)};
    pier_group_start(spawner.group, spawn, &spawner);
    assert_int_equal(pier_group_close(spawner.group, NULL), 0);
    assert_int_equal(spawner.ran, 101);
}

static int fail_after_a_turn(pier_task *self, void *arg, pier_error *err)
{
    pier_task_sleep(self, 0, err);
    return fail_now(self, arg, err);
}

static void test_failure__never_starts_what_is_queued(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    pier_error err = {0};
    pier_group *group = open_limited(1, 0);
    pier_group_start(group, fail_after_a_turn, NULL);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(pier_group_start(group, stay, &gauge), 0);
    }
    assert_int_equal(pier_group_close(group, &err), PIER_EUSER);
    assert_string_equal(err.message, "no luck");
    assert_int_equal(gauge.began, 0);
}

static void test_collecting_group__gives_back_what_never_started(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    time_stop();
    pier_group *group = pier_group_open(
        runner, PIER_GROUP_OPTIONS(.collect = true, .limit = 2, .timeout_ms = 20), NULL);
    for (int i = 0; i < 50; i++) {
        pier_group_start(group, stay, &gauge);
    }
    await_begun();
    time_go_on();
    int ended = 0;
    for (pier_future *future; (future = pier_group_next(group, NULL)); ended++) {
        assert_true(pier_task_finish(future, NULL) < 0);
    }
    assert_int_equal(ended, 50);
    assert_int_equal(gauge.began, 2);
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
}

static void test_close__that_is_cancelled_ends_the_queue_too(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    pier_group *group = open_limited(2, 0);
    for (int i = 0; i < 50; i++) {
        pier_group_start(group, stay, &gauge);
    }
    await_begun();
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_int_equal(gauge.began, 2);
}

static void test_runner__may_close_while_a_group_has_a_queue(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_group *group = pier_group_open(other, PIER_GROUP_OPTIONS(.limit = 1), NULL);
    for (int i = 0; i < 900; i++) {
        pier_group_start(group, stay, &gauge);
    }
    pier_runner_close(other);
    assert_int_equal(pier_group_close(group, NULL), PIER_ECLOSED);
    assert_true(gauge.began <= 1);
}

static void test_limit__must_not_be_negative(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = -1), &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = 1, .queue_max = -2), &err));
}

/* ---- Time and members --------------------------------------------------------------------- */

static void test_timeout__cancels_while_nobody_waits(void **state)
{
    (void)state;
    atomic_int ended = 0;
    time_stop();
    pier_group *group = open_group(false, 20);
    pier_group_add(group, pier_task_start(runner, sleep_long, &ended), NULL);
    await_begun();
    time_go_on();
    assert_true(unit_await(&ended));
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
}

static void wait_until_past(int64_t timeout_ms)
{
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = timeout_ms), NULL);
    while (pier_scope_status(scope) == 0) {
    }
    pier_scope_close(scope);
}

static void test_timeout__after_all_have_ended_is_no_failure(void **state)
{
    (void)state;
    time_stop();
    pier_group *group = open_group(false, 5);
    pier_group_start(group, give_arg, (void *)1);
    pier_future *first = pier_group_next(group, NULL);
    time_go_on();
    wait_until_past(20);
    assert_int_equal(pier_group_close(group, NULL), 0);
    assert_int_equal(pier_task_finish(first, NULL), 1);
}

static void test_timeout__cancels_what_is_added_after_it(void **state)
{
    (void)state;
    pier_group *group = open_group(false, 5);
    wait_until_past(10);
    pier_future *late = pier_task_start(runner, sleep_long, NULL);
    assert_int_equal(pier_group_add(group, late, NULL), 0);
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
}

static void test_group__in_a_scope_whose_time_is_over_begins_nothing(void **state)
{
    (void)state;
    struct gauge gauge = {0};
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1), NULL);
    wait_until_past(5);
    pier_group *group = open_group(false, 0);
    pier_group_start(group, stay, &gauge);
    assert_int_equal(pier_group_close(group, NULL), PIER_ETIMEDOUT);
    assert_int_equal(gauge.began, 0);
    pier_scope_close(scope);
}

static int close_own_group(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct on_loop *on_loop = arg;
    on_loop->closed = pier_group_close(on_loop->group, err);
    atomic_store(&on_loop->done, 1);
    return pier_task_sleep(self, 600000, err);
}

static void test_close__by_a_member_is_refused_and_cancels(void **state)
{
    (void)state;
    struct on_loop on_loop = {.group = open_group(false, 0)};
    pier_future *other = pier_task_start(runner, sleep_long, &on_loop.ended);
    pier_group_add(on_loop.group, other, NULL);
    await_begun();
    pier_group_start(on_loop.group, close_own_group, &on_loop);
    assert_true(unit_await(&on_loop.done));
    assert_int_equal(on_loop.closed, PIER_EDEADLOCK);
    assert_true(unit_await(&on_loop.ended));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_group__without_members_ends_at_once),
        WITH_RUNNER(test_next__gives_members_as_they_finish),
        WITH_RUNNER(test_add__takes_any_future_with_a_tag),
        WITH_RUNNER(test_failure__cancels_the_others_and_is_reported),
        WITH_RUNNER(test_next__of_a_failed_group_keeps_the_failures_for_close),
        WITH_RUNNER(test_collecting_group__leaves_the_others_running),
        WITH_RUNNER(test_timeout__cancels_the_rest),
        WITH_RUNNER(test_timeout__of_a_collecting_group_is_always_reported),
        WITH_RUNNER(test_timeout__ends_next),
        WITH_RUNNER(test_members__may_start_others),
        WITH_RUNNER(test_close__ends_members_when_its_scope_ends),
        WITH_RUNNER(test_members__obey_the_scope_that_the_group_was_opened_in),
        WITH_RUNNER(test_group__works_in_a_task),
        WITH_RUNNER(test_close__in_a_task_that_is_cancelled_ends_the_members_first),
        WITH_RUNNER(test_close__on_the_loop_thread_cancels_and_does_not_wait),
        WITH_RUNNER(test_close__frees_what_nobody_took),
        WITH_RUNNER(test_null_group__keeps_the_error_that_explains_it),
        WITH_RUNNER(test_add__of_null_fails_the_group),
        WITH_RUNNER(test_threads__may_add_while_another_takes),
        WITH_RUNNER(test_limit__lets_no_more_run_at_once),
        WITH_RUNNER(test_limit__does_not_count_futures_that_were_added),
        WITH_RUNNER(test_start__waits_while_the_queue_is_full),
        WITH_RUNNER(test_start__goes_on_when_there_is_room),
        WITH_RUNNER(test_start__in_a_member_cannot_wait_for_room),
        WITH_RUNNER(test_members__of_a_limited_group_may_start_others),
        WITH_RUNNER(test_failure__never_starts_what_is_queued),
        WITH_RUNNER(test_collecting_group__gives_back_what_never_started),
        WITH_RUNNER(test_close__that_is_cancelled_ends_the_queue_too),
        WITH_RUNNER(test_runner__may_close_while_a_group_has_a_queue),
        WITH_RUNNER(test_limit__must_not_be_negative),
        WITH_RUNNER(test_timeout__cancels_while_nobody_waits),
        WITH_RUNNER(test_timeout__after_all_have_ended_is_no_failure),
        WITH_RUNNER(test_timeout__cancels_what_is_added_after_it),
        WITH_RUNNER(test_group__in_a_scope_whose_time_is_over_begins_nothing),
        WITH_RUNNER(test_close__by_a_member_is_refused_and_cancels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
