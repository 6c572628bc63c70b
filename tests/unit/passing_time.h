#ifndef PIER_TESTS_UNIT_PASSING_TIME_H
#define PIER_TESTS_UNIT_PASSING_TIME_H
/*
 * The monotonic clock in the test's hands. The library asks clock_gettime, and so does libuv; the
 * program's own definition goes before the C library's, so a test can stop the clock and set it
 * forward, at no cost to the library. What sleeps is not woken by that: whoever is to see the new
 * time must be woken by other means.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { TIME_MS = 1000000 };

static _Atomic(int64_t) time_ahead; /* of the real one */
static _Atomic(int64_t) time_fixed; /* while it stands still; else 0 */

static inline int64_t time_real(clockid_t clock, struct timespec *at)
{
    syscall(SYS_clock_gettime, clock, at);
    return (int64_t)at->tv_sec * 1000000000 + at->tv_nsec;
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    bool moved = clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE;
    int64_t now = time_real(moved ? CLOCK_MONOTONIC : clock, at);
    if (moved) {
        int64_t fixed = atomic_load(&time_fixed);
        now = fixed ? fixed : now + atomic_load(&time_ahead);
        at->tv_sec = now / 1000000000;
        at->tv_nsec = now % 1000000000;
    }
    return 0;
}

static inline int64_t time_now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (int64_t)at.tv_sec * 1000000000 + at.tv_nsec;
}

static inline void time_stop(void)
{
    atomic_store(&time_fixed, time_now());
}

/* It goes on from where it stands. */
static inline void time_go_on(void)
{
    struct timespec at;
    atomic_store(&time_ahead, atomic_load(&time_fixed) - time_real(CLOCK_MONOTONIC, &at));
    atomic_store(&time_fixed, 0);
}

/* While it is stopped. */
static inline void time_pass_ns(int64_t ns)
{
    atomic_fetch_add(&time_fixed, ns);
}

static inline void time_pass_ms(int64_t ms)
{
    time_pass_ns(ms * TIME_MS);
}

#endif
