/* Lanes: one thread, first come first served. */
#include "tests/unit/passing_time.h"
#include "tests/unit/unit.h"

#include <pier/lane.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>

enum { JOBS = 20 };

/* A job that says that it runs and waits until it may end. */
struct gate {
    atomic_int running, open, ended;
};

static int pass_gate(void *arg, pier_error *err)
{
    struct gate *gate = arg;
    atomic_store(&gate->running, 1);
    bool opened = unit_await(&gate->open);
    atomic_store(&gate->ended, 1);
    return opened ? 1 : pier_error_set(err, PIER_EUSER, "the gate stayed shut");
}

static void open_gate(struct gate *gate)
{
    atomic_store(&gate->open, 1);
}

static pier_lane *open_lane(void)
{
    pier_lane *lane = pier_lane_open(runner, "test", NULL);
    assert_non_null(lane);
    return lane;
}

struct record {
    atomic_int count;
    int order[JOBS];
    pthread_t threads[JOBS];
};

struct entry {
    struct record *record;
    int number;
};

static int note(void *arg, pier_error *err)
{
    (void)err;
    struct entry *entry = arg;
    int at = atomic_load(&entry->record->count);
    entry->record->order[at] = entry->number;
    entry->record->threads[at] = pthread_self();
    atomic_store(&entry->record->count, at + 1);
    return entry->number;
}

static void test_jobs__run_in_order_on_one_thread(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    struct record record = {0};
    struct entry entries[JOBS];
    pier_future *futures[JOBS];
    for (int i = 0; i < JOBS; i++) {
        entries[i] = (struct entry){&record, i};
        futures[i] = pier_lane_run_async(lane, note, &entries[i]);
    }
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(pier_lane_run_finish(futures[i], NULL), i);
        assert_int_equal(record.order[i], i);
        assert_true(pthread_equal(record.threads[i], record.threads[0]));
        assert_false(pthread_equal(record.threads[i], pthread_self()));
    }
    pier_lane_close(lane);
}

/* Starts jobs and calls another: it comes last. */
static int run_after_others(struct record *record, struct entry *entries, pier_lane *lane)
{
    for (int i = 0; i < JOBS - 1; i++) {
        entries[i] = (struct entry){record, i};
        pier_future_free(pier_lane_run_async(lane, note, &entries[i]));
    }
    entries[JOBS - 1] = (struct entry){record, JOBS - 1};
    return pier_lane_run(lane, note, &entries[JOBS - 1], NULL);
}

static void assert_in_order(const struct record *record)
{
    assert_int_equal(record->count, JOBS);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(record->order[i], i);
    }
}

static void test_blocking_call__does_not_overtake_jobs_submitted_before(void **state)
{
    (void)state;
    for (int round = 0; round < 50; round++) {
        pier_lane *lane = open_lane();
        struct record record = {0};
        struct entry entries[JOBS];
        assert_int_equal(run_after_others(&record, entries, lane), JOBS - 1);
        assert_in_order(&record);
        pier_lane_close(lane);
    }
}

struct in_task {
    struct record record;
    struct entry entries[JOBS];
    pier_lane *lane;
};

static int run_after_others_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct in_task *in_task = arg;
    return run_after_others(&in_task->record, in_task->entries, in_task->lane);
}

static void test_call_in_a_task__does_not_overtake_jobs_submitted_before(void **state)
{
    (void)state;
    struct in_task in_task = {.lane = open_lane()};
    assert_int_equal(pier_task_run(runner, run_after_others_in_task, &in_task, NULL), JOBS - 1);
    assert_in_order(&in_task.record);
    pier_lane_close(in_task.lane);
}

static void test_run__gives_what_the_job_returned(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    struct record record = {0};
    pier_error err = {0};
    assert_int_equal(pier_lane_run(lane, note, &(struct entry){&record, 42}, &err), 42);
    assert_int_equal(err.status, 0);
    pier_lane_close(lane);
}

static int fail_with(void *arg, pier_error *err)
{
    return arg ? pier_error_set(err, PIER_EUSER, "%s", (const char *)arg) : PIER_EBUSY;
}

static void test_run__gives_the_error_of_the_job(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    pier_error err = {0};
    assert_int_equal(pier_lane_run(lane, fail_with, (char *)"no luck", &err), PIER_EUSER);
    assert_string_equal(err.message, "no luck");
    assert_int_equal(pier_lane_run(lane, fail_with, NULL, &err), PIER_EBUSY);
    assert_non_null(strstr(err.message, "PIER_EBUSY"));
    assert_int_equal(pier_lane_run(lane, fail_with, NULL, NULL), PIER_EBUSY);
    pier_lane_close(lane);
}

struct reentry {
    pier_lane *lane;
    pier_error blocking, finishing, waiting;
};

static int enter_again(void *arg, pier_error *err)
{
    (void)err;
    struct reentry *reentry = arg;
    pier_lane_run(reentry->lane, fail_with, NULL, &reentry->blocking);
    pier_future *future = pier_lane_run_async(reentry->lane, fail_with, NULL);
    pier_future_wait(future, PIER_FOREVER, &reentry->waiting);
    pier_lane_run_finish(future, &reentry->finishing);
    return 0;
}

static void test_job__that_waits_for_its_own_lane_is_told(void **state)
{
    (void)state;
    struct reentry reentry = {.lane = open_lane()};
    assert_int_equal(pier_lane_run(reentry.lane, enter_again, &reentry, NULL), 0);
    assert_int_equal(reentry.blocking.status, PIER_EDEADLOCK);
    assert_int_equal(reentry.waiting.status, PIER_EDEADLOCK);
    assert_int_equal(reentry.finishing.status, PIER_EDEADLOCK);
    assert_non_null(strstr(reentry.blocking.message, "lane"));
    pier_lane_close(reentry.lane);
}

static int run_on_other(void *arg, pier_error *err)
{
    return pier_lane_run(arg, fail_with, (char *)"other", err);
}

static void test_job__may_wait_for_another_lane(void **state)
{
    (void)state;
    pier_lane *one = open_lane(), *other = open_lane();
    pier_error err = {0};
    assert_int_equal(pier_lane_run(one, run_on_other, other, &err), PIER_EUSER);
    assert_string_equal(err.message, "other");
    pier_lane_close(one);
    pier_lane_close(other);
}

static void test_job__that_is_cancelled_before_its_turn_never_starts(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    struct gate gate = {0};
    struct record record = {0};
    pier_future *first = pier_lane_run_async(lane, pass_gate, &gate);
    pier_future *second = pier_lane_run_async(lane, note, &(struct entry){&record, 1});
    assert_true(unit_await(&gate.running));
    pier_future_cancel(second);
    assert_int_equal(pier_lane_run_finish(second, NULL), PIER_ECANCELLED);
    open_gate(&gate);
    assert_int_equal(pier_lane_run_finish(first, NULL), 1);
    pier_lane_close(lane);
    assert_int_equal(record.count, 0);
}

static void test_job__that_runs_ends_with_its_result_though_cancelled(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    struct gate gate = {0};
    pier_future *future = pier_lane_run_async(lane, pass_gate, &gate);
    assert_true(unit_await(&gate.running));
    pier_future_cancel(future);
    pier_future_cancel(future);
    assert_int_equal(pier_future_wait(future, 20, NULL), 0);
    open_gate(&gate);
    assert_int_equal(pier_lane_run_finish(future, NULL), 1);
    pier_lane_close(lane);
}

/* The clock stands still until the job has begun. */
static int pass_gate_in_time(void *arg, pier_error *err)
{
    time_go_on();
    return pass_gate(arg, err);
}

/* The caller is given back at its deadline, whether it passes an error or not. */
static void test_deadline__returns_at_once_while_the_job_goes_on(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    pier_lane_run(lane, fail_with, NULL, NULL);
    for (int with_error = 0; with_error < 2; with_error++) {
        struct gate gate = {0};
        pier_error err = {0};
        time_stop();
        pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
        int status = pier_lane_run(lane, pass_gate_in_time, &gate, with_error ? &err : NULL);
        assert_int_equal(status, PIER_ETIMEDOUT);
        assert_int_equal(err.status, with_error ? PIER_ETIMEDOUT : 0);
        assert_false(unit_is_set(&gate.ended));
        pier_scope_close(scope);
        open_gate(&gate);
        assert_true(unit_await(&gate.ended));
    }
    pier_lane_close(lane);
}

static void test_deadline__of_a_queued_job_takes_it_from_the_queue(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    struct gate gate = {0};
    struct record record = {0};
    pier_future *first = pier_lane_run_async(lane, pass_gate, &gate);
    assert_true(unit_await(&gate.running));
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    assert_int_equal(pier_lane_run(lane, note, &(struct entry){&record, 1}, NULL), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    open_gate(&gate);
    assert_int_equal(pier_lane_run_finish(first, NULL), 1);
    pier_lane_close(lane);
    assert_int_equal(record.count, 0);
}

static int do_nothing(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 0;
}

static void test_run__is_refused_while_too_many_jobs_wait(void **state)
{
    (void)state;
    enum { MOST = 1024 };
    pier_error err = {0};
    pier_lane *lane = open_lane();
    struct gate gate = {0};
    pier_future *futures[MOST];
    for (int i = 0; i < MOST; i++) {
        futures[i] = i ? pier_lane_run_async(lane, do_nothing, NULL)
                       : pier_lane_run_async(lane, pass_gate, &gate);
    }
    assert_int_equal(pier_lane_run(lane, do_nothing, NULL, &err), PIER_EBUSY);
    assert_non_null(strstr(err.message, "test"));
    open_gate(&gate);
    for (int i = 0; i < MOST; i++) {
        assert_int_equal(pier_lane_run_finish(futures[i], NULL), i == 0);
    }
    assert_int_equal(pier_lane_run(lane, do_nothing, NULL, NULL), 0);
    pier_lane_close(lane);
}

static void test_close__runs_what_is_queued(void **state)
{
    (void)state;
    struct record record = {0};
    struct entry entries[JOBS];
    pier_future *futures[JOBS];
    pier_lane *lane = open_lane();
    for (int i = 0; i < JOBS; i++) {
        entries[i] = (struct entry){&record, i};
        futures[i] = pier_lane_run_async(lane, note, &entries[i]);
    }
    pier_lane_close(lane);
    assert_int_equal(record.count, JOBS);
    for (int i = 0; i < JOBS; i++) {
        assert_int_equal(pier_lane_run_finish(futures[i], NULL), i);
    }
}

static int close_own_lane(void *arg, pier_error *err)
{
    (void)err;
    pier_lane_close(arg);
    return 3;
}

static void test_close__may_be_called_in_a_job(void **state)
{
    (void)state;
    int threads = support_thread_count();
    assert_int_equal(pier_lane_run(open_lane(), close_own_lane, NULL, NULL), 3);
    pier_lane *lane = open_lane();
    assert_int_equal(pier_lane_run(lane, close_own_lane, lane, NULL), 3);
    assert_true(support_wait_threads(threads + 1, BOUND_MS)); /* the first is open still */
}

static int close_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    pier_lane_close(arg);
    return 4;
}

static void test_close__does_not_block_the_loop(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    struct gate gate = {0};
    pier_future *future = pier_lane_run_async(lane, pass_gate, &gate);
    assert_true(unit_await(&gate.running));
    assert_int_equal(pier_task_run(runner, close_in_task, lane, NULL), 4);
    assert_false(pier_future_done(future));
    open_gate(&gate);
    assert_int_equal(pier_lane_run_finish(future, NULL), 1);
}

static void test_close__of_an_unused_lane_and_of_null_is_harmless(void **state)
{
    (void)state;
    int threads = support_thread_count();
    pier_lane_close(open_lane());
    pier_lane_close(NULL);
    assert_int_equal(support_thread_count(), threads);
}

static void test_null_lane__keeps_the_error_that_explains_it(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_lane_open(NULL, NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    pier_error_set(&err, PIER_ECLOSED, "closed");
    assert_int_equal(pier_lane_run(NULL, fail_with, NULL, &err), PIER_ECLOSED);
    assert_int_equal(pier_lane_run(NULL, fail_with, NULL, NULL), PIER_EINVAL);
}

static int run_on_lane(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return pier_lane_run(arg, fail_with, (char *)"in a task", err);
}

static void test_task__suspends_for_a_job(void **state)
{
    (void)state;
    pier_lane *lane = open_lane();
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, run_on_lane, lane, &err), PIER_EUSER);
    assert_string_equal(err.message, "in a task");
    pier_lane_close(lane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_jobs__run_in_order_on_one_thread),
        WITH_RUNNER(test_blocking_call__does_not_overtake_jobs_submitted_before),
        WITH_RUNNER(test_call_in_a_task__does_not_overtake_jobs_submitted_before),
        WITH_RUNNER(test_run__gives_what_the_job_returned),
        WITH_RUNNER(test_run__gives_the_error_of_the_job),
        WITH_RUNNER(test_job__that_waits_for_its_own_lane_is_told),
        WITH_RUNNER(test_job__may_wait_for_another_lane),
        WITH_RUNNER(test_job__that_is_cancelled_before_its_turn_never_starts),
        WITH_RUNNER(test_job__that_runs_ends_with_its_result_though_cancelled),
        WITH_RUNNER(test_deadline__returns_at_once_while_the_job_goes_on),
        WITH_RUNNER(test_deadline__of_a_queued_job_takes_it_from_the_queue),
        WITH_RUNNER(test_run__is_refused_while_too_many_jobs_wait),
        WITH_RUNNER(test_close__runs_what_is_queued),
        WITH_RUNNER(test_close__may_be_called_in_a_job),
        WITH_RUNNER(test_close__does_not_block_the_loop),
        WITH_RUNNER(test_close__of_an_unused_lane_and_of_null_is_harmless),
        WITH_RUNNER(test_null_lane__keeps_the_error_that_explains_it),
        WITH_RUNNER(test_task__suspends_for_a_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
