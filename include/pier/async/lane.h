#ifndef PIER_ASYNC_LANE_H
#define PIER_ASYNC_LANE_H
/*
 * A lane is one owned thread with a FIFO queue: for blocking functions of yours that must all run
 * on the same thread, one after the other.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_lane pier_lane;

/* A job. Return 0 or more for success, a negative pier_status (with `err` filled) for failure. */
typedef int (*pier_lane_fn)(void *arg, pier_error *err);

/**
 * Opens a lane. Its thread starts with the first job.
 *
 * @param runner  borrowed until the lane is closed
 * @param name    copied: of the thread, 15 bytes at most; NULL: "pier-lane"
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_lane_close; NULL on failure
 *
 * Threads: any. Mirrors: `ThreadPoolExecutor(1)`.
 */
PIER_API pier_lane *pier_lane_open(pier_runner *runner, const char *name, pier_error *err);

/**
 * Runs `fn(arg)` on the lane's thread, after all that was queued before it.
 *
 * A job that is cancelled before it starts never starts. One that runs cannot be stopped: a
 * blocked caller returns at its deadline, and the job goes on, with `arg`. Where that may happen
 * `arg` must not point into the caller's stack.
 *
 * @param lane  borrowed until the future has settled
 * @param fn    borrowed until the future has settled
 * @param arg   shared: handed to `fn`, must live until the job has ended
 * @return owned: the future of what `fn` returns
 *
 * Errors: PIER_EDEADLOCK when a job of this lane waits for another of this lane; PIER_EBUSY where
 * 1,024 jobs wait in it already.
 * Threads: any. Mirrors: asyncio `run_in_executor`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_lane_run_async(pier_lane *lane, pier_lane_fn fn, void *arg);

/**
 * Ends a lane when the jobs queued have run, and waits for that, but 10 s at most, and not on the
 * loop thread or in a job of the lane.
 *
 * @param lane  taken: NULL is harmless
 *
 * Threads: any, also in a job of the lane.
 */
PIER_API void pier_lane_close(pier_lane *lane);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_lane, pier_lane_close)
#endif
#endif
