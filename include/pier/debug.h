#ifndef PIER_DEBUG_H
#define PIER_DEBUG_H
/*
 * Seeing inside a runner that works, is slow, or hangs: what it does now, as text, and figures.
 */
#include <pier/runner.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `line` is one line without its end, borrowed until the function returns. */
typedef void (*pier_dump_fn)(const char *line, void *user_data);

/**
 * Lists what is under way on a runner: what the loop is in and since when; the tasks, each with
 * what it waits for; the operations of the loop; the threads that wait in a call; the futures that
 * have ended and that nobody has taken; pools with who holds each connection; lanes and executors
 * with their queues; mutexes that are held, with who holds them; queues that hold something or are
 * waited at; groups with their members. Each line begins with what it is about: `runner`, `loop`,
 * `task`, `operation`, `thread`, `future`, `pool`, `connection`, `lane`, `executor`, `mutex`,
 * `queue`, `group`.
 *
 * It asks nothing of the loop, so it works while the loop is stuck, and holds each lock only while
 * it copies; the sections are therefore of slightly different moments. It contains what a database
 * or operation is named, but no SQL, no argument, no password, no URL of a request.
 *
 * A thread that is inside a call is listed once it has waited there for 10 ms. One that works there
 * itself (a statement of SQLite that runs on the caller) is only counted; its connection is listed
 * as in use by one call. Times are since the round of the loop in which something began.
 *
 * @param runner     borrowed until the call returns
 * @param fn         borrowed until the call returns: called for each line, on the calling thread,
 *                   under no lock
 * @param user_data  shared: handed to `fn`
 * @return 0; PIER_EINVAL for NULL, PIER_EFORKED; PIER_ENOMEM when lines are missing
 *
 * Threads: any, also the loop thread and tasks. Mirrors: asyncio `all_tasks`, `print_stack`; Go's
 * goroutine dump.
 */
PIER_API int pier_runner_dump(pier_runner *runner, pier_dump_fn fn, void *user_data);

/**
 * Writes the same to a file descriptor, a line at a time.
 *
 * @param runner  borrowed until the call returns
 * @param fd      a descriptor that can be written to: 2 for standard error
 * @return 0; a negative pier_status, PIER_EIO when it could not be written
 *
 * Threads: any, but not in a signal handler.
 */
PIER_API int pier_runner_dump_fd(pier_runner *runner, int fd);

/* What a loop has done since its runner was opened. Times are 0 where `slow_ms` is PIER_FOREVER. */
typedef struct pier_loop_stats {
    int64_t steps;       /* of operations and tasks */
    int64_t callbacks;   /* of yours, by pier_future_then */
    int64_t slow;        /* of both together, those that took slow_ms and longer */
    int64_t slowest_us;  /* the longest */
    int64_t lag_us;      /* how late the loop last came to what other threads had given it, or to a
                            timer */
    int64_t lag_max_us;  /* the longest of these */
    int64_t busy_us;     /* for how long the loop has been in what it does now; 0: it waits */
    int64_t waiting_us;  /* for how long what other threads have given it has been waiting now */
    int64_t tasks;       /* that have not ended */
    int64_t operations;  /* that the loop steps, tasks among them */
    int64_t threads;     /* inside a blocking call */
    int64_t futures;     /* that have ended and were not taken */
    int64_t reserved[8]; /* 0 */
} pier_loop_stats;

/**
 * Gives the figures of a runner's loop, without a visit to the loop.
 *
 * @param runner  borrowed until the call returns: NULL has none
 * @param stats   borrowed until the call returns: overwritten, with zeros for NULL and in a forked
 *                child
 *
 * Threads: any. Mirrors: asyncio's debug mode (`slow_callback_duration`), Tokio `RuntimeMetrics`.
 */
PIER_API void pier_runner_stats(pier_runner *runner, pier_loop_stats *stats);

#ifdef __cplusplus
}
#endif
#endif
