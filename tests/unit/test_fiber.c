/* Fibers: stacks to switch between. */
#include "tests/unit/unit.h"

#include "sdk/fiber.h"
#include <fenv.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static pier__fiber_pool *pool;

static int set_up(void **state)
{
    (void)state;
    pool = pier__fiber_pool_new(0, 0);
    return pool ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    pier__fiber_pool_free(pool);
    return 0;
}

/* Suspends `rounds` times, counting. */
struct counter {
    pier__fiber *fiber;
    int rounds;
    int count;
};

static void count(void *arg)
{
    struct counter *counter = arg;
    while (counter->count < counter->rounds) {
        counter->count++;
        pier__fiber_suspend(counter->fiber);
    }
}

static void start(struct counter *counter, int rounds)
{
    counter->rounds = rounds;
    counter->count = 0;
    counter->fiber = pier__fiber_new(pool, count, counter);
    assert_non_null(counter->fiber);
}

static void test_fiber__goes_on_where_it_suspended(void **state)
{
    (void)state;
    struct counter counter;
    start(&counter, 3);
    for (int i = 1; i <= 3; i++) {
        assert_false(pier__fiber_resume(counter.fiber));
        assert_int_equal(counter.count, i);
    }
    assert_true(pier__fiber_resume(counter.fiber));
    pier__fiber_free(pool, counter.fiber);
}

static void test_fibers__are_independent_of_each_other(void **state)
{
    (void)state;
    enum { COUNT = SANITIZED ? 200 : 2000 };
    struct counter *counters = calloc(COUNT, sizeof *counters);
    for (int i = 0; i < COUNT; i++) {
        start(&counters[i], i % 5);
    }
    int ended = 0;
    for (int round = 0; round < 6; round++) {
        for (int i = 0; i < COUNT; i++) {
            if (counters[i].fiber && pier__fiber_resume(counters[i].fiber)) {
                assert_int_equal(counters[i].count, i % 5);
                pier__fiber_free(pool, counters[i].fiber);
                counters[i].fiber = NULL;
                ended++;
            }
        }
    }
    assert_int_equal(ended, COUNT);
    free(counters);
}

static void test_stack__is_used_again(void **state)
{
    (void)state;
    struct counter counter;
    start(&counter, 0);
    pier__fiber *first = counter.fiber;
    for (int i = 0; i < 100; i++) {
        assert_true(pier__fiber_resume(counter.fiber));
        pier__fiber_free(pool, counter.fiber);
        start(&counter, 0);
        assert_ptr_equal(counter.fiber, first);
    }
    assert_true(pier__fiber_resume(counter.fiber));
    pier__fiber_free(pool, counter.fiber);
}

struct diver {
    pier__fiber *fiber;
    int depth;
    long sum;
};

static long dive(struct diver *diver, int depth)
{
    volatile char frame[1024];
    memset((void *)frame, depth, sizeof frame);
    if (depth == 0) {
        pier__fiber_suspend(diver->fiber);
        return 0;
    }
    return dive(diver, depth - 1) + (frame[depth % 1024] == (char)depth);
}

static void run_diver(void *arg)
{
    struct diver *diver = arg;
    diver->sum = dive(diver, diver->depth);
}

static void test_stack__holds_200_kilobytes_across_a_suspension(void **state)
{
    (void)state;
    struct diver diver = {.depth = 180};
    diver.fiber = pier__fiber_new(pool, run_diver, &diver);
    assert_false(pier__fiber_resume(diver.fiber));
    assert_true(pier__fiber_resume(diver.fiber));
    assert_int_equal(diver.sum, 180);
    pier__fiber_free(pool, diver.fiber);
}

struct nested {
    pier__fiber *outer;
    struct counter inner;
    bool inner_ended;
};

static void run_nested(void *arg)
{
    struct nested *nested = arg;
    pier__fiber_resume(nested->inner.fiber);
    pier__fiber_suspend(nested->outer);
    nested->inner_ended = pier__fiber_resume(nested->inner.fiber);
}

static void test_fiber__may_resume_another(void **state)
{
    (void)state;
    struct nested nested = {0};
    start(&nested.inner, 1);
    nested.outer = pier__fiber_new(pool, run_nested, &nested);
    assert_false(pier__fiber_resume(nested.outer));
    assert_int_equal(nested.inner.count, 1);
    assert_true(pier__fiber_resume(nested.outer));
    assert_true(nested.inner_ended);
    pier__fiber_free(pool, nested.inner.fiber);
    pier__fiber_free(pool, nested.outer);
}

struct rounding {
    pier__fiber *fiber;
    int seen;
};

static void set_rounding(void *arg)
{
    struct rounding *rounding = arg;
    fesetround(FE_UPWARD);
    pier__fiber_suspend(rounding->fiber);
    rounding->seen = fegetround();
    fesetround(FE_TONEAREST);
}

static void test_fiber__has_a_floating_point_mode_of_its_own(void **state)
{
    (void)state;
    struct rounding rounding = {.seen = -1};
    rounding.fiber = pier__fiber_new(pool, set_rounding, &rounding);
    pier__fiber_resume(rounding.fiber);
    int outside = fegetround();
    pier__fiber_resume(rounding.fiber);
    assert_int_equal(outside, FE_TONEAREST);
    assert_int_equal(rounding.seen, FE_UPWARD);
    pier__fiber_free(pool, rounding.fiber);
}

static void overflow_in_child(void)
{
    struct rlimit no_core = {0};
    setrlimit(RLIMIT_CORE, &no_core);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, STDERR_FILENO);
    signal(SIGSEGV, SIG_DFL); /* cmocka's handler would need the stack that is full */
    struct diver diver = {.depth = 1 << 20};
    diver.fiber = pier__fiber_new(pool, run_diver, &diver);
    pier__fiber_resume(diver.fiber);
    _exit(0);
}

static void test_stack__that_overflows_ends_the_process(void **state)
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

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_fiber__goes_on_where_it_suspended),
        TEST(test_fibers__are_independent_of_each_other),
        TEST(test_stack__is_used_again),
        TEST(test_stack__holds_200_kilobytes_across_a_suspension),
        TEST(test_fiber__may_resume_another),
        TEST(test_fiber__has_a_floating_point_mode_of_its_own),
        TEST(test_stack__that_overflows_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
