#ifndef PIER_SDK_CLOCK_H
#define PIER_SDK_CLOCK_H
/*
 * Monotonic time in nanoseconds. 0 stands for "no deadline" wherever a deadline is kept.
 */
#include <pier/base.h>
#include <time.h>

static inline int64_t pier__now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The same as of the system's last tick, at most 10 ms ago, where that costs a fifth. */
static inline int64_t pier__tick(void)
{
#if defined(CLOCK_MONOTONIC_COARSE)
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
#else
    return pier__now();
#endif
}

/* The moment `timeout_ms` from now; 0 for PIER_FOREVER. `standard_ms` is what 0 stands for. */
static inline int64_t pier__deadline(int64_t timeout_ms, int64_t standard_ms)
{
    int64_t ms = timeout_ms ? timeout_ms : standard_ms;
    if (ms < 0 || ms > INT64_MAX / 2000000) {
        return 0;
    }
    return pier__now() + ms * 1000000;
}

/* The earlier of two deadlines, either of which may be 0 for none. */
static inline int64_t pier__earlier(int64_t a, int64_t b)
{
    return !a ? b : !b || a < b ? a : b;
}

#endif
