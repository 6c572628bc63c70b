/* Waits that can never end are refused, the others are not. */
#include "tests/unit/unit.h"

#include <pier/executor.h>
#include <pier/group.h>
#include <pier/lane.h>
#include <pier/task.h>
#include <string.h>

static int do_nothing(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 0;
}

/* ---- Lanes -------------------------------------------------------------------------------- */

/* Two jobs on two lanes, each of which waits for a job on the other lane. */
struct side {
    pier_lane *own, *other;
    atomic_int started;
    struct side *peer;
    int64_t timeout_ms;
    int waited, status;
    pier_error err;
};

static int wait_for_other(void *arg, pier_error *err)
{
    struct side *side = arg;
    (void)err;
    atomic_store(&side->started, 1);
    unit_await(&side->peer->started);
    pier_future *future = pier_lane_run_async(side->other, do_nothing, NULL);
    side->waited = pier_future_wait(future, side->timeout_ms, &side->err);
    pier_future_cancel(future);
    side->status = pier_lane_run_finish(future, NULL);
    return 0;
}

static void run_sides(struct side sides[2])
{
    pier_future *jobs[2];
    sides[0].own = sides[1].other = pier_lane_open(runner, "a", NULL);
    sides[1].own = sides[0].other = pier_lane_open(runner, "b", NULL);
    for (int i = 0; i < 2; i++) {
        sides[i].peer = &sides[!i];
        jobs[i] = pier_lane_run_async(sides[i].own, wait_for_other, &sides[i]);
    }
    assert_int_equal(pier_lane_run_finish(jobs[0], NULL), 0);
    assert_int_equal(pier_lane_run_finish(jobs[1], NULL), 0);
    pier_lane_close(sides[0].own);
    pier_lane_close(sides[1].own);
}

static void test_deadlock__of_two_lanes_is_refused_to_one_of_them(void **state)
{
    (void)state;
    struct side sides[2] = {{.timeout_ms = PIER_FOREVER}, {.timeout_ms = PIER_FOREVER}};
    run_sides(sides);
    int refused = sides[0].waited == PIER_EDEADLOCK ? 0 : 1;
    assert_int_equal(sides[refused].waited, PIER_EDEADLOCK);
    assert_int_equal(sides[!refused].waited, 1);
    assert_non_null(strstr(sides[refused].err.message, "pier_lane_run"));
    assert_non_null(strstr(sides[refused].err.message, "which waits for this very call"));
}

static void test_deadlock__is_none_where_a_timeout_breaks_it(void **state)
{
    (void)state;
    struct side sides[2] = {{.timeout_ms = 100}, {.timeout_ms = PIER_FOREVER}};
    run_sides(sides);
    assert_int_equal(sides[0].waited, 0);
    assert_int_equal(sides[1].waited, 1);
}

/* ---- A lane and a task -------------------------------------------------------------------- */

struct pair {
    pier_lane *lane;
    pier_future *task;
    atomic_int has_task, in_job;
    int in_lane, in_task;
};

static int wait_for_task(void *arg, pier_error *err)
{
    struct pair *pair = arg;
    (void)err;
    atomic_store(&pair->in_job, 1);
    unit_await(&pair->has_task);
    pair->in_lane = pier_future_wait(pair->task, PIER_FOREVER, NULL);
    return 0;
}

static int wait_for_lane(pier_task *self, void *arg, pier_error *err)
{
    struct pair *pair = arg;
    (void)self;
    (void)err;
    pair->in_task = pier_lane_run(pair->lane, do_nothing, NULL, NULL);
    return 0;
}

static void test_deadlock__of_a_lane_and_a_task_is_refused_to_one_of_them(void **state)
{
    (void)state;
    struct pair pair = {.lane = pier_lane_open(runner, "lane", NULL)};
    pier_future *job = pier_lane_run_async(pair.lane, wait_for_task, &pair);
    assert_true(unit_await(&pair.in_job));
    pair.task = pier_task_start(runner, wait_for_lane, &pair);
    atomic_store(&pair.has_task, 1);
    assert_int_equal(pier_lane_run_finish(job, NULL), 0);
    assert_int_equal(pier_task_finish(pair.task, NULL), 0);
    pier_lane_close(pair.lane);
    assert_true((pair.in_lane == PIER_EDEADLOCK) != (pair.in_task == PIER_EDEADLOCK));
}

/* ---- Executors ---------------------------------------------------------------------------- */

struct crowd {
    pier_executor *executor;
    atomic_int inside;
    int count;
    atomic_int refused, done;
};

static bool all_inside(void *arg)
{
    struct crowd *crowd = arg;
    return atomic_load(&crowd->inside) >= crowd->count;
}

static int wait_behind(void *arg, pier_error *err)
{
    struct crowd *crowd = arg;
    (void)err;
    atomic_fetch_add(&crowd->inside, 1);
    support_wait_until(all_inside, crowd, BOUND_MS);
    pier_future *future = pier_executor_run_async(crowd->executor, do_nothing, NULL);
    int status = pier_executor_run_finish(future, NULL);
    atomic_fetch_add(status == PIER_EDEADLOCK ? &crowd->refused : &crowd->done, 1);
    return 0;
}

static void run_crowd(struct crowd *crowd, int threads)
{
    pier_future *jobs[2];
    crowd->executor = pier_executor_open(runner, PIER_EXECUTOR_OPTIONS(.threads = threads), NULL);
    for (int i = 0; i < crowd->count; i++) {
        jobs[i] = pier_executor_run_async(crowd->executor, wait_behind, crowd);
    }
    for (int i = 0; i < crowd->count; i++) {
        assert_int_equal(pier_executor_run_finish(jobs[i], NULL), 0);
    }
    pier_executor_close(crowd->executor);
}

static void test_deadlock__of_an_executor_with_itself_is_refused(void **state)
{
    (void)state;
    struct crowd one = {.count = 1}, two = {.count = 2};
    run_crowd(&one, 1);
    assert_int_equal(one.refused, 1);
    run_crowd(&two, 2);
    assert_int_equal(two.refused, 1);
    assert_int_equal(two.done, 1);
}

static void test_deadlock__is_none_where_a_thread_is_left(void **state)
{
    (void)state;
    struct crowd crowd = {.count = 2};
    run_crowd(&crowd, 3);
    assert_int_equal(crowd.refused, 0);
    assert_int_equal(crowd.done, 2);
}

/* ---- Tasks -------------------------------------------------------------------------------- */

enum how { WAIT, WAIT_SHORTLY, WAIT_ALL, WAIT_ANY, WAIT_FIRST_ERROR, FINISH };

struct own {
    enum how how;
    pier_future *future;
    atomic_int has_future;
    pier_error err;
};

static int wait_for(struct own *own)
{
    size_t index;
    switch (own->how) {
    case WAIT:
        return pier_future_wait(own->future, PIER_FOREVER, &own->err);
    case WAIT_SHORTLY:
        return pier_future_wait(own->future, BOUND_MS, &own->err);
    case WAIT_ALL:
        return pier_future_wait_all(&own->future, 1, PIER_FOREVER, &own->err);
    case WAIT_ANY:
        return pier_future_wait_any(&own->future, 1, PIER_FOREVER, &index, &own->err);
    case WAIT_FIRST_ERROR:
        return pier_future_wait_first_error(&own->future, 1, PIER_FOREVER, &index, &own->err);
    case FINISH:
    default:
        return pier_task_finish(own->future, &own->err);
    }
}

static int wait_for_own(pier_task *self, void *arg, pier_error *err)
{
    struct own *own = arg;
    while (!atomic_load(&own->has_future)) {
        pier_task_sleep(self, 1, err);
    }
    return wait_for(own) == PIER_EDEADLOCK ? 7 : 0;
}

static void test_deadlock__of_a_task_with_itself_is_refused(void **state)
{
    (void)state;
    for (enum how how = WAIT; how <= WAIT_FIRST_ERROR; how++) {
        struct own own = {.how = how};
        own.future = pier_task_start(runner, wait_for_own, &own);
        atomic_store(&own.has_future, 1);
        assert_int_equal(pier_task_finish(own.future, NULL), 7);
        assert_non_null(strstr(own.err.message, "needs pier_task"));
    }
}

struct ended {
    struct own own;
    atomic_int ended;
};

static int finish_own(pier_task *self, void *arg, pier_error *err)
{
    struct ended *ended = arg;
    wait_for_own(self, &ended->own, err);
    atomic_store(&ended->ended, 1);
    return 0;
}

static void test_deadlock__of_a_task_that_finishes_itself_is_refused(void **state)
{
    (void)state;
    struct ended ended = {.own.how = FINISH};
    ended.own.future = pier_task_start(runner, finish_own, &ended);
    atomic_store(&ended.own.has_future, 1);
    assert_true(unit_await(&ended.ended));
    assert_int_equal(ended.own.err.status, PIER_EDEADLOCK);
}

static void test_deadlock__of_two_tasks_is_refused_to_the_second(void **state)
{
    (void)state;
    struct own one = {.how = WAIT}, two = {.how = WAIT};
    two.future = pier_task_start(runner, wait_for_own, &one);
    one.future = pier_task_start(runner, wait_for_own, &two);
    atomic_store(&one.has_future, 1);
    atomic_store(&two.has_future, 1);
    int refused = pier_task_finish(one.future, NULL) + pier_task_finish(two.future, NULL);
    assert_int_equal(refused, 7);
}

static int wait_with_free_one(pier_task *self, void *arg, pier_error *err)
{
    struct own *own = arg;
    while (!atomic_load(&own->has_future)) {
        pier_task_sleep(self, 1, err);
    }
    pier_future *futures[2] = {own->future, pier_to_thread_async(runner, do_nothing, NULL)};
    size_t index = 9;
    int status = pier_future_wait_any(futures, 2, PIER_FOREVER, &index, err);
    pier_future_free(futures[1]);
    return status < 0 ? status : (int)index;
}

static void test_deadlock__is_none_where_another_future_may_come(void **state)
{
    (void)state;
    struct own own = {.how = WAIT_ANY};
    own.future = pier_task_start(runner, wait_with_free_one, &own);
    atomic_store(&own.has_future, 1);
    assert_int_equal(pier_task_finish(own.future, NULL), 1);
}

static int wait_for_group(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return pier_group_next(arg, NULL) ? 0 : 7;
}

static void test_deadlock__of_a_member_with_its_group_is_refused(void **state)
{
    (void)state;
    pier_group *group = pier_group_open(runner, PIER_GROUP_OPTIONS(.collect = true), NULL);
    pier_future *member = pier_task_start(runner, wait_for_group, group);
    assert_int_equal(pier_group_add(group, member, NULL), 0);
    pier_error err = {0};
    while (!pier_future_done(member)) {
        assert_int_equal(pier_future_wait(member, BOUND_MS, &err), 1);
    }
    assert_int_equal(pier_group_close(group, &err), PIER_EDEADLOCK);
    assert_non_null(strstr(err.message, "pier_group_next"));
}

static int close_runner_here(pier_task *self, void *arg, pier_error *err)
{
    (void)err;
    pier_runner_close(pier_task_runner(self));
    atomic_store((atomic_int *)arg, 1);
    return 0;
}

static void test_close__in_a_task_does_not_wait_for_the_task(void **state)
{
    (void)state;
    static atomic_int returned;
    int threads = support_thread_count();
    pier_future *future =
        pier_task_start(pier_runner_open(NULL, NULL), close_runner_here, &returned);
    assert_true(unit_await(&returned));
    pier_future_free(future);
    assert_true(support_wait_threads(threads, BOUND_MS)); /* the one that closes is gone, too */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_deadlock__of_two_lanes_is_refused_to_one_of_them),
        WITH_RUNNER(test_deadlock__is_none_where_a_timeout_breaks_it),
        WITH_RUNNER(test_deadlock__of_a_lane_and_a_task_is_refused_to_one_of_them),
        WITH_RUNNER(test_deadlock__of_an_executor_with_itself_is_refused),
        WITH_RUNNER(test_deadlock__is_none_where_a_thread_is_left),
        WITH_RUNNER(test_deadlock__of_a_task_with_itself_is_refused),
        WITH_RUNNER(test_deadlock__of_a_task_that_finishes_itself_is_refused),
        WITH_RUNNER(test_deadlock__of_two_tasks_is_refused_to_the_second),
        WITH_RUNNER(test_deadlock__is_none_where_another_future_may_come),
        WITH_RUNNER(test_deadlock__of_a_member_with_its_group_is_refused),
        cmocka_unit_test(test_close__in_a_task_does_not_wait_for_the_task),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
