#ifndef PIER_SDK_SEEN_H
#define PIER_SDK_SEEN_H
/*
 * What can be seen of a loop from outside: which operations there are, what it is in now, how long
 * that takes. The clock is looked at when the loop wakes up and after each step.
 */
#include "sdk/clock.h"
#include "sdk/runner.h"

/* A runner enters the list of all, and leaves it; that list in a forked child. */
void pier__seen_opened(pier_runner *runner);
void pier__seen_freed(pier_runner *runner);
void pier__seen_forked(void);

/* The loop takes an operation on; it has settled; its last reference goes (any thread). */
void pier__seen_started(pier__op *op);
void pier__seen_ended(pier__op *op);
void pier__seen_unlist(pier__op *op);

/* Limits from here on are found by the system's ticks alone, where each look at the clock counts.
 */
#define PIER__SEEN_COARSE_NS 50000000

/* A step has taken too long. */
void pier__seen_slow(pier_runner *runner, const pier__op *op, int64_t took);
/* The loop comes to something that has been due since then. */
void pier__seen_lag(pier_runner *runner, int64_t since);

/* Nobody else writes it. */
static inline void pier__seen_count(atomic_int_fast64_t *count)
{
    int64_t value = atomic_load_explicit(count, memory_order_relaxed);
    atomic_store_explicit(count, value + 1, memory_order_relaxed);
}

/* The loop thread wakes up, and goes back to wait. */
static inline void pier__seen_wake(pier_runner *runner)
{
    if (runner->slow_ns) {
        runner->clock = pier__now();
        atomic_store_explicit(&runner->seen.since, runner->clock, memory_order_relaxed);
    }
}

static inline void pier__seen_sleep(pier_runner *runner)
{
    atomic_store_explicit(&runner->seen.since, 0, memory_order_relaxed);
}

/* Brackets what the loop thread does for an operation. What happens within belongs to it. */
static inline void pier__seen_begin(pier_runner *runner, const char *kind, const pier__op *op)
{
    if (runner->stepping++ == 0) {
        atomic_store_explicit(&runner->seen.name, op->cls->name, memory_order_relaxed);
        atomic_store_explicit(&runner->seen.op, op, memory_order_relaxed);
        atomic_store_explicit(&runner->seen.kind, kind, memory_order_relaxed);
    }
}

static inline void pier__seen_end(pier_runner *runner, const pier__op *op)
{
    if (--runner->stepping) {
        return;
    }
    if (runner->slow_ns) {
        int64_t now = pier__now();
        int64_t took = now - runner->clock;
        runner->clock = now;
        if (took > atomic_load_explicit(&runner->seen.slowest, memory_order_relaxed)) {
            atomic_store_explicit(&runner->seen.slowest, took, memory_order_relaxed);
        }
        if (took >= runner->slow_ns) {
            pier__seen_slow(runner, op, took);
        }
        atomic_store_explicit(&runner->seen.since, now, memory_order_relaxed);
    }
    atomic_store_explicit(&runner->seen.kind, NULL, memory_order_relaxed);
}

/* The same for what often takes less than looking at the clock: that is left out until a tick has
 * passed, which may count up to 10 ms of what came before. Short limits need it exactly. */
static inline void pier__seen_end_quickly(pier_runner *runner, const pier__op *op)
{
    if (runner->slow_ns >= PIER__SEEN_COARSE_NS) {
        int64_t tick = pier__tick();
        if (tick == runner->tick) {
            runner->stepping--;
            atomic_store_explicit(&runner->seen.kind, NULL, memory_order_relaxed);
            return;
        }
        runner->tick = tick;
    }
    pier__seen_end(runner, op);
}

static inline void pier__seen_taken(pier__op *op)
{
    if (op->unread) {
        pier__seen_unlist(op);
    }
}

#endif
