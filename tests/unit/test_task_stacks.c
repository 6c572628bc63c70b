/* Tasks: how many there may be, and what their stacks take and give back. */
#include "tests/unit/unit.h"

#include "tests/support/valgrind.h"

#include <fcntl.h>
#include <pier/event.h>
#include <pier/group.h>
#include <pier/task.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* A sanitizer's shadow memory takes as much again for each stack, and its fibers are few; valgrind
 * keeps a list of all stacks, which it walks. */
#define FEWER (SANITIZED || support_on_valgrind())
#define ALIVE (FEWER ? 500 : 25000)
#define OVER_A_RUN (FEWER ? 5000 : 1000000)

static int give_arg(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return (int)(intptr_t)arg;
}

static int sleep_forever(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, PIER_FOREVER, err);
}

static pier_future **start_sleepers(pier_runner *on, int count)
{
    pier_future **futures = calloc((size_t)count, sizeof *futures);
    for (int i = 0; i < count; i++) {
        futures[i] = pier_task_start(on, sleep_forever, NULL);
    }
    return futures;
}

/* Gives how many were still asleep. */
static int end_sleepers(pier_future **futures, int count)
{
    int cancelled = 0;
    for (int i = 0; i < count; i++) {
        pier_future_cancel(futures[i]);
    }
    for (int i = 0; i < count; i++) {
        cancelled += pier_task_finish(futures[i], NULL) == PIER_ECANCELLED;
    }
    free(futures);
    return cancelled;
}

static long resident_bytes(void)
{
    long size = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (!file || fscanf(file, "%ld %ld", &size, &resident) != 2) {
        resident = -1;
    }
    fclose(file);
    return resident * sysconf(_SC_PAGESIZE);
}

static void test_tasks__25000_are_alive_at_once_in_12_kilobytes_each(void **state)
{
    (void)state;
    long before = resident_bytes();
    pier_future **futures = start_sleepers(runner, ALIVE);
    assert_int_equal(pier_task_run(runner, give_arg, (void *)1, NULL), 1); /* all have begun */
    long each = (resident_bytes() - before) / ALIVE;
    assert_int_equal(end_sleepers(futures, ALIVE), ALIVE);
    if (!FEWER) {
        assert_in_range(each, 1, 12 * 1024);
    }
}

static void test_tasks__a_million_over_a_run(void **state)
{
    (void)state;
    pier_group *group = pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = 50), NULL);
    int started = 0, ended = 0;
    while (started < OVER_A_RUN) {
        for (int i = 0; i < 1000; i++, started++) {
            assert_int_equal(pier_group_start(group, give_arg, (void *)1), 0);
        }
        for (int i = 0; i < 1000; i++) {
            ended += pier_task_finish(pier_group_next(group, NULL), NULL);
        }
    }
    assert_int_equal(pier_group_close(group, NULL), 0);
    assert_int_equal(ended, OVER_A_RUN);
}

static void test_tasks_max__fails_clearly_and_leaves_the_others(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner *small = pier_runner_open(PIER_RUNNER_OPTIONS(.tasks_max = 10), NULL);
    pier_future **futures = start_sleepers(small, 10);
    assert_int_equal(pier_task_run(small, give_arg, (void *)1, &err), PIER_ENOMEM);
    assert_non_null(strstr(err.message, "10 tasks are alive"));
    assert_non_null(strstr(err.message, "tasks_max"));
    assert_int_equal(end_sleepers(futures, 10), 10);
    assert_int_equal(pier_task_run(small, give_arg, (void *)1, NULL), 1);
    pier_runner_close(small);
}

static void test_tasks_max__is_30000_by_default(void **state)
{
    (void)state;
    if (FEWER) {
        return; /* 30,000 stacks of a sanitizer's size do not fit, and valgrind takes minutes */
    }
    pier_error err = {0};
    pier_future **futures = start_sleepers(runner, 30000);
    assert_int_equal(pier_task_run(runner, give_arg, (void *)1, &err), PIER_ENOMEM);
    assert_int_equal(end_sleepers(futures, 30000), 30000);
}

static void test_options__out_of_range_are_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_runner_open(PIER_RUNNER_OPTIONS(.tasks_max = -1), &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(pier_runner_open(PIER_RUNNER_OPTIONS(.stack_size = 1000), &err));
    assert_null(pier_runner_open(PIER_RUNNER_OPTIONS(.stack_size = SIZE_MAX), &err));
}

/* Uses about so many kilobytes of stack. */
static int dive(int kilobytes)
{
    volatile char frame[1000];
    memset((void *)frame, kilobytes, sizeof frame);
    return kilobytes ? dive(kilobytes - 1) + (frame[kilobytes % 1000] == (char)kilobytes) : 0;
}

static int run_dive(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return dive((int)(intptr_t)arg);
}

static void test_stack_size__can_be_chosen(void **state)
{
    (void)state;
    pier_runner *deep =
        pier_runner_open(PIER_RUNNER_OPTIONS(.stack_size = (size_t)4096 * 1024), NULL);
    assert_int_equal(pier_task_run(deep, run_dive, (void *)3000, NULL), 3000);
    pier_runner_close(deep);
}

static int dive_and_wait(pier_task *self, void *measured, pier_error *err)
{
    (void)self;
    int depth = dive(200);
    return depth == 200 ? pier_event_wait(measured, err) : PIER_EUSER;
}

static void test_stacks__that_were_deep_give_their_memory_back(void **state)
{
    (void)state;
    enum { DEEP = 200 };
    long before = resident_bytes();
    pier_group *group = pier_group_open(runner, NULL, NULL);
    pier_event *measured = pier_event_new(runner, NULL);
    for (int i = 0; i < DEEP; i++) {
        pier_group_start(group, dive_and_wait, measured);
    }
    assert_int_equal(pier_task_run(runner, give_arg, (void *)1, NULL), 1); /* all have begun */
    long most = resident_bytes() - before;
    pier_event_set(measured);
    assert_int_equal(pier_group_close(group, NULL), 0);
    long after = resident_bytes() - before;
    pier_event_free(measured);
    if (!FEWER) {
        assert_true(most > DEEP * 190L * 1024);
        assert_true(after < DEEP * 40L * 1024);
    }
}

static void overflow_in_child(void)
{
    struct rlimit no_core = {0};
    setrlimit(RLIMIT_CORE, &no_core);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    signal(SIGSEGV, SIG_DFL); /* cmocka's handler would need the stack that is full */
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_task_run(own, run_dive, (void *)100000, NULL);
    _exit(0);
}

static void test_overflow__in_a_task_ends_the_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        overflow_in_child();
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (SANITIZED && WIFEXITED(status)) {
        assert_int_not_equal(WEXITSTATUS(status), 0);
    } else {
        assert_true(WIFSIGNALED(status));
        assert_int_equal(WTERMSIG(status), SIGSEGV);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_overflow__in_a_task_ends_the_process),
        WITH_RUNNER(test_tasks__25000_are_alive_at_once_in_12_kilobytes_each),
        WITH_RUNNER(test_tasks__a_million_over_a_run),
        WITH_RUNNER(test_tasks_max__fails_clearly_and_leaves_the_others),
        WITH_RUNNER(test_tasks_max__is_30000_by_default),
        WITH_RUNNER(test_options__out_of_range_are_refused),
        WITH_RUNNER(test_stack_size__can_be_chosen),
        WITH_RUNNER(test_stacks__that_were_deep_give_their_memory_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
