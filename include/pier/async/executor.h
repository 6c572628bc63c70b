#ifndef PIER_ASYNC_EXECUTOR_H
#define PIER_ASYNC_EXECUTOR_H
/*
 * Executors run blocking functions of yours on threads of their own, so that the loop and its tasks
 * go on meanwhile: several threads behind one bounded FIFO queue. For functions that must all run
 * on one and the same thread there is the lane (pier/lane.h).
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_executor pier_executor;

/* A job. Return 0 or more for success, a negative pier_status (with `err` filled) for failure. */
typedef int (*pier_executor_fn)(void *arg, pier_error *err);

typedef struct pier_executor_options {
    size_t struct_size; /* set by PIER_EXECUTOR_OPTIONS */
    int threads;        /* at most; started as they are needed; 0: 4 more than there are cores */
    int queue_max;      /* jobs that may wait; 0: 1,024 */
    const char *name;   /* of the threads, 15 bytes at most; NULL: "pier-executor" */
} PIER_DESIGNATED pier_executor_options;

/* pier_executor_open(runner, PIER_EXECUTOR_OPTIONS(.threads = 2), &err) */
#define PIER_EXECUTOR_OPTIONS(...)                                                                 \
    (&(const pier_executor_options){.struct_size = sizeof(pier_executor_options), __VA_ARGS__})

/**
 * Opens an executor.
 *
 * @param runner   borrowed until the executor is closed
 * @param options  borrowed until the call returns: NULL for the defaults
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_executor_close; NULL on failure
 *
 * Errors: PIER_EINVAL (a negative number), PIER_ENOMEM.
 * Threads: any. Mirrors: `concurrent.futures.ThreadPoolExecutor`.
 */
PIER_API pier_executor *pier_executor_open(pier_runner *runner,
                                           const pier_executor_options *options, pier_error *err);

/**
 * Runs `fn(arg)` on one of the executor's threads.
 *
 * A job that is cancelled before it starts never starts. One that runs cannot be stopped: a blocked
 * caller returns at its deadline, and the job goes on, with `arg`. Where that may happen `arg` must
 * not point into the caller's stack; pier_offload works on a copy.
 *
 * @param executor  borrowed until the future has settled
 * @param fn        borrowed until the future has settled
 * @param arg       shared: handed to `fn`, must live until the job has ended
 * @return owned: the future of what `fn` returns
 *
 * Errors: PIER_EBUSY (the queue is full), PIER_EDEADLOCK when every thread of the executor would
 * wait for a job behind it.
 * Threads: any. Mirrors: asyncio `run_in_executor`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_executor_run_async(pier_executor *executor, pier_executor_fn fn,
                                              void *arg);

/**
 * Runs `fn(arg)` on the runner's own executor, which is opened with the first such call and closed
 * with the runner. What pier_executor_run says about jobs that cannot be stopped holds here too.
 *
 * @param runner  borrowed until the future has settled
 * @param fn      borrowed until the future has settled
 * @param arg     shared: handed to `fn`, must live until the job has ended
 * @return owned: the future of what `fn` returns
 *
 * Errors: as of pier_executor_run.
 * Threads: any; in a task it is how to call what blocks. Mirrors: `asyncio.to_thread`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_to_thread_async(pier_runner *runner, pier_executor_fn fn, void *arg);

/**
 * Ends an executor when the jobs queued have run, and waits for that, but 10 s at most, and not on
 * the loop thread or in a job of the executor.
 *
 * @param executor  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_executor_close(pier_executor *executor);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_executor, pier_executor_close)
#endif
#endif
