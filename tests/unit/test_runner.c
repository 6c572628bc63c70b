/* Runners: opening, and closing from everywhere. */
#include "tests/unit/unit.h"

#include "sdk/runner.h"
#include <pier/future.h>
#include <pier/group.h>
#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 4 };

static int give_one(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 1;
}

static int sleep_long(pier_task *self, void *arg, pier_error *err)
{
    if (arg) {
        atomic_store((atomic_int *)arg, 1);
    }
    return pier_task_sleep(self, 600000, err);
}

static void test_open_and_close__leave_no_descriptor_and_no_thread(void **state)
{
    (void)state;
    pier_runner_close(pier_runner_open(NULL, NULL));
    int fds = support_fd_count(), threads = support_thread_count();
    for (int i = 0; i < (SANITIZED ? 100 : 1000); i++) {
        pier_runner *one = pier_runner_open(NULL, NULL);
        assert_non_null(one);
        if (i % 10 == 0) {
            assert_int_equal(pier_task_run(one, give_one, NULL, NULL), 1);
        }
        pier_runner_close(one);
    }
    assert_true(support_wait_fds(fds, BOUND_MS));
    assert_true(support_wait_threads(threads, BOUND_MS));
}

static void test_runners__may_be_many_at_once(void **state)
{
    (void)state;
    pier_runner *many[20];
    for (int i = 0; i < 20; i++) {
        many[i] = pier_runner_open(PIER_RUNNER_OPTIONS(.name = "one of many runners"), NULL);
        assert_int_equal(pier_task_run(many[i], give_one, NULL, NULL), 1);
    }
    for (int i = 0; i < 20; i++) {
        pier_runner_close(many[i]);
    }
}

static void test_close__of_null_is_harmless(void **state)
{
    (void)state;
    pier_runner_close(NULL);
    pier_runner_stop(NULL, NULL, NULL);
}

static void test_close__settles_futures_in_flight(void **state)
{
    (void)state;
    enum { COUNT = 100 };
    pier_future *futures[COUNT];
    pier_runner *one = pier_runner_open(NULL, NULL);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = pier_task_start(one, sleep_long, NULL);
    }
    pier_runner_close(one);
    for (int i = 0; i < COUNT; i++) {
        pier_error err = {0};
        assert_true(pier_future_done(futures[i]));
        assert_int_equal(pier_task_finish(futures[i], &err), PIER_ECLOSED);
        assert_int_equal(err.status, PIER_ECLOSED);
    }
}

static void set_called(pier_future *future, void *user_data)
{
    (void)future;
    atomic_fetch_add((atomic_int *)user_data, 1);
}

static void test_close__leaves_futures_that_may_still_be_used(void **state)
{
    (void)state;
    atomic_int called = 0;
    pier_error err = {0};
    pier_runner *one = pier_runner_open(NULL, NULL);
    pier_future *then = pier_task_start(one, sleep_long, NULL);
    pier_future *taken = pier_task_start(one, sleep_long, NULL);
    pier_runner_close(one);
    pier_future_cancel(taken);
    assert_int_equal(pier_future_wait(taken, 0, &err), 1);
    assert_int_equal(pier_task_finish(taken, &err), PIER_ECLOSED);
    pier_future_then(then, set_called, &called); /* frees it: there is no loop to call back on */
    assert_int_equal(atomic_load(&called), 0);
}

static void test_close__frees_futures_that_nobody_waits_for(void **state)
{
    (void)state;
    pier_runner *one = pier_runner_open(NULL, NULL);
    for (int i = 0; i < 100; i++) {
        pier_future_free(pier_task_start(one, i % 2 ? sleep_long : give_one, NULL));
    }
    pier_runner_close(one);
}

/* A task, a callback or a lane job that closes the runner it is part of. */
struct closer {
    pier_runner *runner;
    pier_lane *lane;
    atomic_int done;
};

static int close_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct closer *closer = arg;
    pier_runner_close(closer->runner);
    int status = pier_task_sleep(self, 600000, err);
    atomic_store(&closer->done, 1);
    return status;
}

static void close_in_callback(pier_future *future, void *user_data)
{
    (void)future;
    struct closer *closer = user_data;
    pier_runner_close(closer->runner);
    atomic_store(&closer->done, 1);
}

static int close_in_job(void *arg, pier_error *err)
{
    (void)err;
    struct closer *closer = arg;
    pier_runner_close(closer->runner);
    atomic_store(&closer->done, 1);
    return 0;
}

static void assert_closed_by(pier_future *(*start)(struct closer *closer))
{
    int fds = support_fd_count(), threads = support_thread_count();
    struct closer closer = {.runner = pier_runner_open(NULL, NULL)};
    closer.lane = pier_lane_open(closer.runner, NULL, NULL);
    pier_future *future = start(&closer);
    assert_true(unit_await(&closer.done));
    assert_true(support_wait_threads(threads, BOUND_MS));
    assert_true(support_wait_fds(fds, BOUND_MS));
    pier_future_free(future);
}

static pier_future *start_task(struct closer *closer)
{
    return pier_task_start(closer->runner, close_in_task, closer);
}

static pier_future *start_callback(struct closer *closer)
{
    pier_future_then(pier_task_start(closer->runner, give_one, NULL), close_in_callback, closer);
    return NULL;
}

static pier_future *start_job(struct closer *closer)
{
    return pier_lane_run_async(closer->lane, close_in_job, closer);
}

static void test_close__in_a_task_happens_behind_it(void **state)
{
    (void)state;
    assert_closed_by(start_task);
}

static void test_close__in_a_callback_happens_behind_it(void **state)
{
    (void)state;
    assert_closed_by(start_callback);
}

static void test_close__in_a_lane_job_happens_behind_it(void **state)
{
    (void)state;
    assert_closed_by(start_job);
}

/* A lane job that holds the close of its runner up until it is let go. */
struct hold {
    pier_runner *runner;
    pier_lane *lane;
    pthread_t thread;
    atomic_int running, go, closed;
};

static int hold_close(void *arg, pier_error *err)
{
    (void)err;
    struct hold *hold = arg;
    atomic_store(&hold->running, 1);
    return unit_await(&hold->go) ? 0 : PIER_EUSER;
}

static void *close_held(void *arg)
{
    struct hold *hold = arg;
    pier_runner_close(hold->runner);
    atomic_store(&hold->closed, 1);
    return NULL;
}

static bool is_closing(void *arg)
{
    return atomic_load(&((struct hold *)arg)->runner->state) != PIER__OPEN_RUNNER;
}

static void open_held(struct hold *hold)
{
    memset(hold, 0, sizeof *hold);
    hold->runner = pier_runner_open(NULL, NULL);
    hold->lane = pier_lane_open(hold->runner, NULL, NULL);
    pier_future_free(pier_lane_run_async(hold->lane, hold_close, hold));
    assert_true(unit_await(&hold->running));
}

static void begin_held_close(struct hold *hold)
{
    pthread_create(&hold->thread, NULL, close_held, hold);
    assert_true(support_wait_until(is_closing, hold, BOUND_MS));
}

static void end_held_close(struct hold *hold)
{
    assert_false(unit_is_set(&hold->closed));
    atomic_store(&hold->go, 1);
    pthread_join(hold->thread, NULL);
}

static void test_closing_runner__refuses_everything(void **state)
{
    (void)state;
    struct hold hold;
    open_held(&hold);
    begin_held_close(&hold);
    pier_error err = {0};
    assert_int_equal(pier_task_run(hold.runner, give_one, NULL, &err), PIER_ECLOSED);
    assert_string_equal(err.message, "the runner is closed");
    assert_int_equal(pier_lane_run(hold.lane, hold_close, &hold, NULL), PIER_ECLOSED);
    assert_null(pier_lane_open(hold.runner, NULL, &err));
    assert_null(pier_scope_open(hold.runner, NULL, &err));
    assert_int_equal(err.status, PIER_ECLOSED);
    end_held_close(&hold);
}

static void test_second_close__while_the_first_is_under_way_is_harmless(void **state)
{
    (void)state;
    struct hold hold;
    open_held(&hold);
    begin_held_close(&hold);
    pier_runner_close(hold.runner);
    pier_runner_stop(hold.runner, NULL, NULL);
    end_held_close(&hold);
}

struct submitter {
    pthread_t thread;
    struct hold *hold;
    atomic_int *ready;
    int number;
    int last; /* the status that ended it */
};

static int submit_once(struct submitter *submitter, int i)
{
    pier_runner *one = submitter->hold->runner;
    if ((i + submitter->number) % 2) {
        return pier_task_run(one, give_one, NULL, NULL);
    }
    return pier_task_finish(pier_task_start(one, give_one, NULL), NULL);
}

static void *submit_until_closed(void *arg)
{
    struct submitter *submitter = arg;
    int status = 1;
    for (int i = 0; status == 1; i++) {
        status = submit_once(submitter, i);
        if (i == 10) {
            atomic_fetch_add(submitter->ready, 1);
        }
    }
    submitter->last = status;
    return NULL;
}

static bool all_ready(void *ready)
{
    return atomic_load((atomic_int *)ready) == THREADS;
}

static void test_submissions__that_race_with_close_fail_and_never_hang(void **state)
{
    (void)state;
    for (int round = 0; round < 20; round++) {
        struct hold hold;
        struct submitter submitters[THREADS];
        atomic_int ready = 0;
        open_held(&hold);
        for (int i = 0; i < THREADS; i++) {
            submitters[i] = (struct submitter){.hold = &hold, .ready = &ready, .number = i};
            pthread_create(&submitters[i].thread, NULL, submit_until_closed, &submitters[i]);
        }
        assert_true(support_wait_until(all_ready, &ready, BOUND_MS));
        begin_held_close(&hold);
        for (int i = 0; i < THREADS; i++) {
            pthread_join(submitters[i].thread, NULL);
            assert_int_equal(submitters[i].last, PIER_ECLOSED);
        }
        end_held_close(&hold);
    }
}

struct blocked {
    pier_runner *runner;
    pier_future *future;
    atomic_int ready;
    int status;
    int64_t ended_ms;
};

static void *block_in_task(void *arg)
{
    struct blocked *blocked = arg;
    blocked->status = pier_task_run(blocked->runner, sleep_long, &blocked->ready, NULL);
    blocked->ended_ms = support_now_ms();
    return NULL;
}

static void *block_in_wait(void *arg)
{
    struct blocked *blocked = arg;
    atomic_store(&blocked->ready, 1);
    blocked->status = pier_task_finish(blocked->future, NULL);
    blocked->ended_ms = support_now_ms();
    return NULL;
}

static void *block_in_group(void *arg)
{
    struct blocked *blocked = arg;
    pier_group *group = pier_group_open(blocked->runner, NULL, NULL);
    pier_group_start(group, sleep_long, &blocked->ready);
    blocked->status = pier_group_close(group, NULL);
    blocked->ended_ms = support_now_ms();
    return NULL;
}

/* Has a thread that blocks been entered in the list of those that close wakes? */
static bool is_in_long_wait(void *user_data)
{
    pier_runner *one = user_data;
    pthread_mutex_lock(&one->lock);
    bool waits = one->waiting != NULL;
    pthread_mutex_unlock(&one->lock);
    return waits;
}

static void assert_close_wakes(void *(*block)(void *))
{
    struct blocked blocked = {.runner = pier_runner_open(NULL, NULL)};
    if (block == block_in_wait) {
        blocked.future = pier_task_start(blocked.runner, sleep_long, NULL);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, block, &blocked);
    assert_true(unit_await(&blocked.ready));
    assert_true(support_wait_until(is_in_long_wait, blocked.runner, BOUND_MS));
    int64_t closed_ms = support_now_ms();
    pier_runner_close(blocked.runner);
    pthread_join(thread, NULL);
    assert_int_equal(blocked.status, PIER_ECLOSED);
    assert_true(blocked.ended_ms - closed_ms < 5000);
}

static void test_close__wakes_a_thread_that_blocks_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        assert_close_wakes(block_in_task);
        assert_close_wakes(block_in_wait);
        assert_close_wakes(block_in_group);
    }
}

static void test_close__is_bounded_though_a_job_never_ends(void **state)
{
    (void)state;
    int threads = support_thread_count();
    struct hold hold = {0};
    hold.runner = pier_runner_open(PIER_RUNNER_OPTIONS(.close_timeout_ms = 50), NULL);
    hold.lane = pier_lane_open(hold.runner, NULL, NULL);
    pier_future *future = pier_lane_run_async(hold.lane, hold_close, &hold);
    assert_true(unit_await(&hold.running));
    int64_t started = support_now_ms();
    pier_runner_close(hold.runner);
    assert_true(support_now_ms() - started < 5000);
    assert_false(pier_future_done(future));
    atomic_store(&hold.go, 1); /* what was abandoned frees itself */
    assert_true(support_wait_threads(threads, BOUND_MS));
    assert_int_equal(pier_lane_run_finish(future, NULL), 0);
}

static int never_give_up(pier_task *self, void *arg, pier_error *err)
{
    (void)err;
    int refusals = 0;
    while (refusals < 1000) {
        refusals += pier_task_sleep(self, 1, NULL) < 0;
    }
    atomic_store((atomic_int *)arg, 1);
    return 0;
}

static void test_close__waits_for_a_task_that_cleans_up(void **state)
{
    (void)state;
    atomic_int cleaned_up = 0;
    pier_runner *one = pier_runner_open(NULL, NULL);
    pier_future *future = pier_task_start(one, never_give_up, &cleaned_up);
    pier_runner_close(one);
    assert_int_equal(cleaned_up, 1);
    assert_int_equal(pier_task_finish(future, NULL), 0);
}

/* A post that comes again and again until the end of the loop is queued behind it, and then adds
 * more than the loop runs in one go. */
static struct latecomer {
    pier__post post, later[600];
    pier_runner *runner;
    int called;
} latecomer;

static void count_post(pier__post *post)
{
    (void)post;
    latecomer.called++;
}

static void come_late(pier__post *post)
{
    pier_runner *one = latecomer.runner;
    if (atomic_load(&one->state) != PIER__CLOSED || !one->ready) {
        pier__loop_post(one, post);
        return;
    }
    for (int i = 0; i < 600; i++) {
        latecomer.later[i].run = count_post;
        pier__loop_post(one, &latecomer.later[i]);
    }
}

static void test_close__runs_what_is_posted_when_the_loop_ends(void **state)
{
    (void)state;
    memset(&latecomer, 0, sizeof latecomer);
    latecomer.runner = pier_runner_open(NULL, NULL);
    latecomer.post.run = come_late;
    assert_true(pier__loop_post(latecomer.runner, &latecomer.post));
    pier_runner_close(latecomer.runner);
    assert_int_equal(latecomer.called, 600);
}

static void note_stop(void *user_data)
{
    atomic_store((atomic_int *)user_data, 1);
}

static void test_stop__does_not_wait_and_calls_back(void **state)
{
    (void)state;
    int threads = support_thread_count();
    atomic_int stopped = 0;
    pier_runner *one = pier_runner_open(NULL, NULL);
    pier_future *future = pier_task_start(one, sleep_long, NULL);
    pier_runner_stop(one, note_stop, &stopped);
    assert_true(unit_await(&stopped));
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECLOSED);
    assert_true(support_wait_threads(threads, BOUND_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_and_close__leave_no_descriptor_and_no_thread),
        cmocka_unit_test(test_runners__may_be_many_at_once),
        cmocka_unit_test(test_close__of_null_is_harmless),
        cmocka_unit_test(test_close__settles_futures_in_flight),
        cmocka_unit_test(test_close__leaves_futures_that_may_still_be_used),
        cmocka_unit_test(test_close__frees_futures_that_nobody_waits_for),
        cmocka_unit_test(test_close__in_a_task_happens_behind_it),
        cmocka_unit_test(test_close__in_a_callback_happens_behind_it),
        cmocka_unit_test(test_close__in_a_lane_job_happens_behind_it),
        cmocka_unit_test(test_closing_runner__refuses_everything),
        cmocka_unit_test(test_second_close__while_the_first_is_under_way_is_harmless),
        cmocka_unit_test(test_submissions__that_race_with_close_fail_and_never_hang),
        cmocka_unit_test(test_close__wakes_a_thread_that_blocks_at_once),
        cmocka_unit_test(test_close__is_bounded_though_a_job_never_ends),
        cmocka_unit_test(test_close__waits_for_a_task_that_cleans_up),
        cmocka_unit_test(test_close__runs_what_is_posted_when_the_loop_ends),
        cmocka_unit_test(test_stop__does_not_wait_and_calls_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
