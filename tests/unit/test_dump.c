/* What a dump shows of tasks, operations, threads, lanes, executors and futures. */
#include "tests/unit/unit.h"

#include <pier/debug.h>
#include <pier/executor.h>
#include <pier/group.h>
#include <pier/lane.h>
#include <pier/task.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sdk/alloc.h"

struct text {
    char all[32768];
    size_t length;
};

static void add_line(const char *line, void *user_data)
{
    struct text *text = user_data;
    int count = snprintf(text->all + text->length, sizeof text->all - text->length, "%s\n", line);
    text->length += (size_t)count;
    assert_true(text->length < sizeof text->all);
}

/* Is there a line that begins so, and in which that follows? */
static bool shows(const char *begins, const char *says)
{
    static struct text text;
    text.length = 0;
    assert_int_equal(pier_runner_dump(runner, add_line, &text), 0);
    for (char *line = strtok(text.all, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strncmp(line, begins, strlen(begins)) && strstr(line, says)) {
            return true;
        }
    }
    return false;
}

struct line {
    const char *begins, *says;
};

static bool line_is_there(void *arg)
{
    const struct line *line = arg;
    return shows(line->begins, line->says);
}

static bool comes(const char *begins, const char *says)
{
    return support_wait_until(line_is_there, &(struct line){begins, says}, BOUND_MS);
}

static int sleep_for_ever(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, PIER_FOREVER, err);
}

static int wait_for_future(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return pier_future_wait(arg, PIER_FOREVER, err);
}

static void end_task(pier_future *future)
{
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), PIER_ECANCELLED);
}

static void test_dump__says_what_each_task_waits_for(void **state)
{
    (void)state;
    pier_future *sleeper =
        pier_task_start_with(runner, sleep_for_ever, NULL, PIER_TASK_OPTIONS(.name = "sleeper\n"));
    pier_future *waiter = pier_task_start(runner, wait_for_future, sleeper);
    assert_true(comes("task \"sleeper?\"", "suspended in pier_task_sleep, sleeping, for"));
    assert_true(comes("task", "suspended in pier_future_wait pier_task, waiting for a future"));
    assert_true(shows("operation pier_task_sleep: sleeping, task \"sleeper?\"", ""));
    assert_true(shows("runner pier: open", "2 tasks, 4 operations"));
    end_task(sleeper);
    assert_int_equal(pier_task_finish(waiter, NULL), 1);
    assert_true(comes("runner", "0 tasks, 0 operations"));
}

/* ---- A loop that is stuck ----------------------------------------------------------------- */

struct stuck {
    atomic_int inside, go;
};

static void block_the_loop(pier_future *future, void *user_data)
{
    struct stuck *stuck = user_data;
    (void)future;
    atomic_store(&stuck->inside, 1);
    unit_await(&stuck->go);
}

static int do_nothing(void *arg, pier_error *err)
{
    (void)arg;
    (void)err;
    return 0;
}

static void test_dump__works_while_the_loop_is_stuck_and_says_in_what(void **state)
{
    (void)state;
    static struct stuck stuck;
    pier_future_then(pier_to_thread_async(runner, do_nothing, NULL), block_the_loop, &stuck);
    assert_true(unit_await(&stuck.inside));
    pier_future *late = pier_to_thread_async(runner, do_nothing, NULL);
    assert_true(comes("loop: in a callback of pier_executor_run", ", for"));
    assert_true(comes("loop: has not come to what other threads have given it", ", for"));
    pier_loop_stats stats;
    pier_runner_stats(runner, &stats);
    assert_true(stats.busy_us > 0 && stats.waiting_us > 0);
    atomic_store(&stuck.go, 1);
    assert_int_equal(pier_to_thread_finish(late, NULL), 0);
    assert_true(comes("loop: waiting for events", ""));
}

static int block_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct stuck *stuck = arg;
    (void)self;
    (void)err;
    atomic_store(&stuck->inside, 1);
    unit_await(&stuck->go);
    return 0;
}

static void test_dump__names_the_task_that_the_loop_is_in(void **state)
{
    (void)state;
    struct stuck stuck = {0};
    pier_future *future = pier_task_start(runner, block_in_task, &stuck);
    assert_true(unit_await(&stuck.inside));
    assert_true(shows("loop: in a step of pier_task \"", ""));
    assert_true(shows("task", "running, for"));
    atomic_store(&stuck.go, 1);
    assert_int_equal(pier_task_finish(future, NULL), 0);
}

/* ---- Threads, lanes, executors, futures --------------------------------------------------- */

static void *wait_on_thread(void *future)
{
    return pier_future_wait(future, PIER_FOREVER, NULL) == 1 ? NULL : future;
}

static void test_dump__shows_a_thread_that_waits(void **state)
{
    (void)state;
    pier_future *sleeper = pier_task_start(runner, sleep_for_ever, NULL);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wait_on_thread, sleeper), 0);
    assert_true(comes("thread ", ": in pier_future_wait pier_task, waiting for a future, for"));
    pier_future_cancel(sleeper);
    void *failed = sleeper;
    pthread_join(thread, &failed);
    assert_null(failed);
    assert_int_equal(pier_task_finish(sleeper, NULL), PIER_ECANCELLED);
    assert_false(shows("thread ", ""));
}

static int hold(void *arg, pier_error *err)
{
    struct stuck *stuck = arg;
    (void)err;
    atomic_store(&stuck->inside, 1);
    unit_await(&stuck->go);
    return 0;
}

static void test_dump__shows_the_queues_of_lanes_and_executors(void **state)
{
    (void)state;
    struct stuck on_lane = {0}, on_executor = {0};
    pier_lane *lane = pier_lane_open(runner, "files", NULL);
    pier_executor *executor =
        pier_executor_open(runner, PIER_EXECUTOR_OPTIONS(.threads = 1, .name = "workers"), NULL);
    pier_future *jobs[] = {
        pier_lane_run_async(lane, hold, &on_lane),
        pier_lane_run_async(lane, do_nothing, NULL),
        pier_executor_run_async(executor, hold, &on_executor),
        pier_executor_run_async(executor, do_nothing, NULL),
    };
    assert_true(unit_await(&on_lane.inside) && unit_await(&on_executor.inside));
    assert_true(comes("lane files: 1 queued", "running pier_lane_run, for"));
    assert_true(comes("executor workers: 1 of 1 threads", "0 of them idle, 1 of 1024 jobs queued"));
    atomic_store(&on_lane.go, 1);
    atomic_store(&on_executor.go, 1);
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++) {
        assert_int_equal(pier_lane_run_finish(jobs[i], NULL), 0);
    }
    assert_true(comes("lane files: 0 queued, idle", ""));
    pier_lane_close(lane);
    pier_executor_close(executor);
    assert_false(shows("lane", ""));
}

static void test_dump__shows_futures_that_nobody_has_taken(void **state)
{
    (void)state;
    pier_future *future = pier_task_start(runner, sleep_for_ever, NULL);
    pier_future_cancel(future);
    assert_int_equal(pier_future_wait(future, BOUND_MS, NULL), 1);
    assert_true(comes("future pier_task", "ended with PIER_ECANCELLED, nobody has taken it, for"));
    assert_true(shows("runner", "1 futures"));
    pier_task_finish(future, NULL);
    assert_true(comes("runner", "0 futures"));
}

/* ---- Sinks and failures ------------------------------------------------------------------- */

static void test_dump__is_written_to_a_descriptor(void **state)
{
    (void)state;
    int ends[2];
    char text[4096];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(pier_runner_dump_fd(runner, ends[1]), 0);
    close(ends[1]);
    ssize_t count = read(ends[0], text, sizeof text - 1);
    close(ends[0]);
    assert_true(count > 0);
    text[count] = '\0';
    assert_int_equal(strncmp(text, "runner pier: open", 17), 0);
    assert_non_null(strstr(text, "\nloop: "));
    assert_int_equal(pier_runner_dump_fd(runner, -1), PIER_EIO);
}

static void ignore_line(const char *line, void *user_data)
{
    (void)line;
    (void)user_data;
}

static void test_dump__of_nothing_or_in_a_child_is_refused(void **state)
{
    (void)state;
    assert_int_equal(pier_runner_dump(NULL, ignore_line, NULL), PIER_EINVAL);
    assert_int_equal(pier_runner_dump(runner, NULL, NULL), PIER_EINVAL);
    pier_loop_stats stats = {.steps = 7};
    pier_runner_stats(NULL, &stats);
    assert_int_equal(stats.steps, 0);
    pid_t child = fork();
    if (child == 0) {
        _exit(pier_runner_dump(runner, ignore_line, NULL) == PIER_EFORKED ? 0 : 1);
    }
    int ended = 1;
    assert_int_equal(waitpid(child, &ended, 0), child);
    assert_int_equal(ended, 0);
}

static bool fail_all(size_t size)
{
    (void)size;
    return true;
}

static void test_dump__says_when_lines_are_missing(void **state)
{
    (void)state;
    pier__alloc_set_gate(fail_all);
    int status = pier_runner_dump(runner, ignore_line, NULL);
    pier__alloc_set_gate(NULL);
    assert_int_equal(status, PIER_ENOMEM);
}

/* ---- While all that goes on --------------------------------------------------------------- */

static int work(pier_task *self, void *arg, pier_error *err)
{
    atomic_int *stop = arg;
    while (!atomic_load(stop)) {
        pier_to_thread(pier_task_runner(self), do_nothing, NULL, err);
        pier_future_free(pier_to_thread_async(pier_task_runner(self), do_nothing, NULL));
    }
    return 0;
}

static void *work_on_thread(void *arg)
{
    atomic_int *stop = arg;
    while (!atomic_load(stop)) {
        pier_to_thread(runner, do_nothing, NULL, NULL);
    }
    return NULL;
}

static void test_dump__can_be_made_while_everything_changes(void **state)
{
    (void)state;
    atomic_int stop = 0;
    pier_future *tasks[8];
    pthread_t thread;
    for (int i = 0; i < 8; i++) {
        tasks[i] = pier_task_start(runner, work, &stop);
    }
    assert_int_equal(pthread_create(&thread, NULL, work_on_thread, &stop), 0);
    for (int i = 0; i < 200; i++) {
        assert_int_equal(pier_runner_dump(runner, ignore_line, NULL), 0);
    }
    atomic_store(&stop, 1);
    pthread_join(thread, NULL);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pier_task_finish(tasks[i], NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_dump__says_what_each_task_waits_for),
        WITH_RUNNER(test_dump__works_while_the_loop_is_stuck_and_says_in_what),
        WITH_RUNNER(test_dump__names_the_task_that_the_loop_is_in),
        WITH_RUNNER(test_dump__shows_a_thread_that_waits),
        WITH_RUNNER(test_dump__shows_the_queues_of_lanes_and_executors),
        WITH_RUNNER(test_dump__shows_futures_that_nobody_has_taken),
        WITH_RUNNER(test_dump__is_written_to_a_descriptor),
        WITH_RUNNER(test_dump__of_nothing_or_in_a_child_is_refused),
        WITH_RUNNER(test_dump__says_when_lines_are_missing),
        WITH_RUNNER(test_dump__can_be_made_while_everything_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
