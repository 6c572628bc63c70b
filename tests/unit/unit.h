/* What the tests of sdk/ share: a runner for each test, and flags that callbacks and threads set
 * for the test to await. */
#ifndef PIER_TESTS_UNIT_UNIT_H
#define PIER_TESTS_UNIT_UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pier/runner.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "sdk/runner.h" /* its parameters would shadow `runner` below */
#include "tests/support/wait.h"

/* Long enough for a loaded machine under a sanitizer; a test that works does not wait for it. */
enum { BOUND_MS = 20000 };

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 };
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif
#else
enum { SANITIZED = 0 };
#endif

static inline bool unit_is_set(void *flag)
{
    return atomic_load((atomic_int *)flag) != 0;
}

/* Waits until the flag is not 0. */
static inline bool unit_await(atomic_int *flag)
{
    return support_wait_until(unit_is_set, flag, BOUND_MS);
}

static pier_runner *runner;

static inline int open_runner(void **state)
{
    (void)state;
    runner = pier_runner_open(NULL, NULL);
    return runner ? 0 : -1;
}

static inline int close_runner(void **state)
{
    (void)state;
    pier_runner_close(runner);
    runner = NULL;
    return 0;
}

#define WITH_RUNNER(test) cmocka_unit_test_setup_teardown(test, open_runner, close_runner)

#endif
