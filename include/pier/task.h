#ifndef PIER_TASK_H
#define PIER_TASK_H
/*
 * A task is a function that runs on the loop thread in direct style: where a thread would block,
 * every Pier function suspends it and the loop goes on with something else. All functions of the
 * blocking face can be called in it. Do not block it in other ways, and do not keep pointers to
 * thread-local storage of the loop thread's across a call into Pier with values in it.
 *
 * A task's stack is 256 KiB (`stack_size` of the runner's options), taken from memory only as it is
 * used: a task that waits has 8 KiB of it, as a rule. Below it 64 KiB are closed off, so that a
 * task that needs more ends the process with SIGSEGV instead of writing over another one's memory;
 * a handler for that signal needs a stack of its own (sigaltstack on the loop thread).
 *
 * 30,000 tasks may be alive at once (`tasks_max`), because each stack takes two of the 65,530
 * mappings that Linux allows a process; a further one fails with PIER_ENOMEM. Those that have been
 * started, but have not begun, have no stack yet.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_task pier_task;

typedef struct pier_task_options {
    size_t struct_size; /* set by PIER_TASK_OPTIONS */
    const char *name;   /* copied: for messages, traces and dumps, 31 bytes at most; NULL: none */
    bool detached;      /* leaves its starter's scopes: only its future and the runner end it */
    bool reserved[7];   /* false */
} PIER_DESIGNATED pier_task_options;

/* pier_task_start_with(runner, fn, arg, PIER_TASK_OPTIONS(.name = "reader")) */
#define PIER_TASK_OPTIONS(...)                                                                     \
    (&(const pier_task_options){.struct_size = sizeof(pier_task_options), __VA_ARGS__})

/* The body of a task. Return 0 or more for success, a negative pier_status (with `err` filled) for
 * failure. `self` is borrowed until it returns; `arg` is yours. */
typedef int (*pier_task_fn)(pier_task *self, void *arg, pier_error *err);

/**
 * Starts a task. Its scope is inside the caller's: a deadline or cancel switch that is ambient here
 * holds there.
 *
 * @param runner  borrowed until the future has settled
 * @param fn      borrowed until the future has settled
 * @param arg     shared: handed to `fn`, must live as long as the task
 * @return owned: the future of an `int`, for pier_task_finish; never NULL
 *
 * Threads: any. Mirrors: asyncio `create_task`, `run_coroutine_threadsafe`.
 */
PIER_API pier_future *pier_task_start(pier_runner *runner, pier_task_fn fn, void *arg);

/**
 * Starts a task with options; otherwise like pier_task_start.
 *
 * A detached task has a life of its own: neither the deadline nor the cancel switch of a scope that
 * is ambient here reaches it. It ends when its function returns, is cancelled through its future or
 * when the runner is closed. Where nobody is to read the future, pier_future_detach it.
 *
 * @param runner   borrowed until the future has settled
 * @param fn       borrowed until the future has settled
 * @param arg      shared: handed to `fn`, must live as long as the task
 * @param options  borrowed until the call returns: NULL for the defaults
 * @return owned: the future of an `int`, for pier_task_finish; never NULL
 *
 * Threads: any. Mirrors: asyncio `create_task(name=...)`.
 */
PIER_API pier_future *pier_task_start_with(pier_runner *runner, pier_task_fn fn, void *arg,
                                           const pier_task_options *options);

/**
 * Gives what the task returned; waits for it where it has not ended.
 *
 * @param future  taken: from pier_task_start
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return what the task's function returned; a negative pier_status on failure
 *
 * Threads: any; a task suspends.
 */
PIER_API int pier_task_finish(pier_future *future, pier_error *err);

/**
 * Runs a function as a task and waits for it.
 *
 * @param runner  borrowed until the call returns
 * @param fn      borrowed until the call returns
 * @param arg     shared: handed to `fn`
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return what `fn` returned; a negative pier_status on failure
 *
 * Errors: PIER_EDEADLOCK on the loop thread outside a task.
 * Threads: any; in a task the new one runs beside it. Mirrors: `asyncio.run`, ThreadRunner `run`.
 */
PIER_API int pier_task_run(pier_runner *runner, pier_task_fn fn, void *arg, pier_error *err);

/**
 * Suspends the task. Ends early when its scope is cancelled.
 *
 * @param self  borrowed until the call returns
 * @param ms    milliseconds; 0 lets others run; PIER_FOREVER until its scope ends
 * @param err   borrowed until the call returns: filled on failure, or NULL
 * @return 0; PIER_ECANCELLED or PIER_ETIMEDOUT by its scope
 *
 * Threads: in the task. Mirrors: `asyncio.sleep`.
 */
PIER_API int pier_task_sleep(pier_task *self, int64_t ms, pier_error *err);

/**
 * Gives the name that the task was started with.
 *
 * @param self  borrowed until the call returns
 * @return borrowed until the task ends: "" where it has none
 *
 * Threads: any.
 */
PIER_API const char *pier_task_name(const pier_task *self);

/**
 * Gives the runner that the task runs on.
 *
 * @param self  borrowed until the call returns
 * @return borrowed until the task ends
 *
 * Threads: any.
 */
PIER_API pier_runner *pier_task_runner(const pier_task *self);

#ifdef __cplusplus
}
#endif
#endif
