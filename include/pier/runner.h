#ifndef PIER_RUNNER_H
#define PIER_RUNNER_H
/*
 * The runner owns the event loop and everything that is opened on it, and closes all of it in
 * reverse order.
 */
#include <pier/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct uv_loop_s;
typedef struct pier_runner pier_runner;

/* Called on the loop thread of a loop of your own, as the runner's last act. */
typedef void (*pier_runner_stop_cb)(void *user_data);

typedef struct pier_runner_options {
    size_t struct_size;       /* set by PIER_RUNNER_OPTIONS */
    struct uv_loop_s *loop;   /* a loop that you run; NULL: one of the runner's own, in a thread */
    const char *name;         /* of the thread, 15 bytes at most; NULL: "pier" */
    int64_t close_timeout_ms; /* how long close waits before it abandons; 0: 10,000 */
    int64_t slow_ms;          /* a callback or a task that keeps the loop for so long is logged, see
                                 pier_runner_stats; 0: 100; PIER_FOREVER: never */
    int tasks_max;            /* alive at once; a further one fails with PIER_ENOMEM. 0: 30,000 */
    size_t stack_size;        /* of each task in bytes, 16 KiB to 1 GiB; 0: 256 KiB */
} PIER_DESIGNATED pier_runner_options;

/* pier_runner_open(PIER_RUNNER_OPTIONS(.name = "db"), &err) */
#define PIER_RUNNER_OPTIONS(...)                                                                   \
    (&(const pier_runner_options){.struct_size = sizeof(pier_runner_options), __VA_ARGS__})

/**
 * Opens a runner: the event loop that everything else is opened on. One for a process is usual.
 *
 * With `options->loop` the calling thread must be the one that runs that loop; blocking calls on
 * it fail with PIER_EDEADLOCK, and the loop stays alive until pier_runner_stop.
 *
 * @param options  borrowed until the call returns: NULL for the defaults
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: ended by pier_runner_close or pier_runner_stop; NULL on failure
 *
 * Errors: PIER_ENOMEM, PIER_EIO (threads, descriptors).
 * Threads: any. Mirrors: asyncio `Runner`, anyio `BlockingPortal`.
 */
PIER_API pier_runner *pier_runner_open(const pier_runner_options *options, pier_error *err);

/**
 * Refuses new work, cancels what runs, closes everything that was opened on the runner in reverse
 * order, ends its threads and frees it. All handles opened on it are invalid afterwards.
 *
 * On the loop thread, in a task or a callback, it cannot wait for itself: it returns at once and
 * the rest happens as soon as the caller gives the loop back.
 *
 * @param runner  taken: NULL is harmless
 *
 * Threads: any, once. Bounded by `close_timeout_ms`, after which work that cannot be cancelled (a
 * name lookup, a server that does not answer) is abandoned and frees itself when it ends.
 * Mirrors: `ExitStack.close`, asyncio `Runner.close`.
 */
PIER_API void pier_runner_close(pier_runner *runner);

/**
 * Closes without waiting: the way to end a runner from a callback on a loop of your own.
 *
 * @param runner     taken: NULL is harmless
 * @param cb         borrowed until it has been called: on the loop thread, last of all; may be NULL
 * @param user_data  shared: handed to `cb`
 *
 * Threads: any, once.
 */
PIER_API void pier_runner_stop(pier_runner *runner, pier_runner_stop_cb cb, void *user_data);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_runner, pier_runner_close)
#endif
#endif
