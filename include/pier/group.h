#ifndef PIER_GROUP_H
#define PIER_GROUP_H
/*
 * A group holds many futures and tasks, gives their results as they finish, and does not end
 * before all of them have.
 *
 * With `limit` only so many of the tasks that pier_group_start starts run at once. The others are
 * queued in order; where `queue_max` are in the queue already, starting a further one waits until
 * one of them has begun, so that a loop which starts a task for each line of a file goes no faster
 * than the tasks do. Futures that were added do not count: they are under way already.
 *
 * The first failure, or the group's time, cancels all the others; tasks that are still queued then
 * never begin, and end with PIER_ECANCELLED.
 */
#include <pier/task.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_group pier_group;

typedef struct pier_group_options {
    size_t struct_size; /* set by PIER_GROUP_OPTIONS */
    bool collect;       /* a failure leaves the others running; default: it cancels them */
    int64_t timeout_ms; /* cancels the rest; 0 or PIER_FOREVER: none */
    int limit;          /* tasks that run at once; 0: all of them */
    int queue_max;      /* with a limit: tasks that wait to run; 0: 1,000, PIER_NONE: none */
} PIER_DESIGNATED pier_group_options;

/* pier_group_open(runner, PIER_GROUP_OPTIONS(.collect = true), &err) */
#define PIER_GROUP_OPTIONS(...)                                                                    \
    (&(const pier_group_options){.struct_size = sizeof(pier_group_options), __VA_ARGS__})

/**
 * Opens an empty group.
 *
 * @param runner   borrowed until the group is closed
 * @param options  borrowed until the call returns: NULL for the defaults
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_group_close; NULL on failure
 *
 * Threads: any. Mirrors: anyio `TaskGroup`; with `collect` `asyncio.gather(return_exceptions)`.
 */
PIER_API pier_group *pier_group_open(pier_runner *runner, const pier_group_options *options,
                                     pier_error *err);

/**
 * Puts a future into the group.
 *
 * @param group   borrowed until the call returns
 * @param future  taken: given back by pier_group_next, or freed by pier_group_close
 * @param tag     shared: given back with it
 * @return 0; a negative pier_status, which pier_group_close reports too
 *
 * Threads: any.
 */
PIER_API int pier_group_add(pier_group *group, pier_future *future, void *tag);

/**
 * Starts a task in the group: at once, or, in a group with a limit, when it is its turn. Members
 * may start others. Waits only where the queue of a group with a limit is full.
 *
 * @param group  borrowed until the call returns
 * @param fn     borrowed until the group is closed
 * @param arg    shared: handed to `fn`, and the tag of its future
 * @return 0; a negative pier_status, which pier_group_close reports too
 *
 * Errors: where it would have to wait: PIER_ETIMEDOUT and PIER_ECANCELLED by the ambient scope,
 * PIER_EDEADLOCK on the loop thread outside a task, or in a member, for which only members could
 * make room.
 * Threads: any; a task suspends. Mirrors: `TaskGroup.create_task`, aiojobs `Scheduler.spawn`, Go
 * errgroup `SetLimit`.
 */
PIER_API int pier_group_start(pier_group *group, pier_task_fn fn, void *arg);

/**
 * Waits for the next future that finishes. In a group that is not collecting, one that failed is
 * kept for pier_group_close.
 *
 * @param group  borrowed until the call returns
 * @param tag    borrowed until the call returns: set to the tag it was added with; may be NULL
 * @return owned: the future, ended, for its `_finish`; NULL when none is left, or when it cannot
 *         wait, which pier_group_close reports
 *
 * Threads: any, one at a time; a task suspends. Mirrors: `asyncio.as_completed`.
 */
PIER_API pier_future *pier_group_next(pier_group *group, void **tag);

/**
 * Waits until all have ended, frees the group and reports the first failure (of a group that is
 * not collecting). When the ambient scope ends the wait, the rest is cancelled and awaited.
 *
 * @param group  taken: NULL passes through
 * @param err    borrowed until the call returns: filled on failure, or NULL
 * @return 0; the first failure
 *
 * Errors: PIER_ETIMEDOUT, PIER_EDEADLOCK (on the loop thread outside a task, and in a member, which
 * would wait for itself: the members are cancelled, and end without being awaited), or what a
 * member failed with.
 * Threads: any; a task suspends.
 */
PIER_API int pier_group_close(pier_group *group, pier_error *err) PIER_CHECKED;

#ifdef __cplusplus
}
#endif
#endif
