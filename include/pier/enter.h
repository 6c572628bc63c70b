#ifndef PIER_ENTER_H
#define PIER_ENTER_H
/*
 * Anything with an open and a close can be entered into a runner or a scope, which then closes it:
 * what was entered last is closed first, on every way out.
 *
 *     FILE *log = fopen(path, "a");
 *     pier_runner_enter(runner, log, close_file, &err);
 *
 * Pier's own handles are in their runner already, from the moment they are opened. PIER_ENTER puts
 * one into a scope, to be closed earlier.
 *
 * A close function may call Pier, on threads and in tasks, even where all around it is over: when
 * the scope was cancelled or its deadline has passed, and while the runner closes. Its own time is
 * bounded: 10 s after a scope or pier_..._leave, what is left of `close_timeout_ms` in a runner
 * that closes. What it calls after that fails with PIER_ETIMEDOUT. In a forked child nothing that
 * was entered before is closed.
 */
#include <pier/runner.h>
#include <pier/scope.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Closes `thing`. It cannot fail: what it must report, it reports in its own way. */
typedef void (*pier_close_fn)(void *thing);

/**
 * Has the runner close something when it closes, in its turn among the handles that were opened on
 * it: before those that were opened earlier, so that these can still be used.
 *
 * @param runner    borrowed until the call returns
 * @param thing     taken: also on failure, then it is closed at once; do not close it yourself
 * @param close_fn  borrowed until it has been called: on the thread that closes the runner, which
 *                  is one of Pier's where close was called on the loop, in a task or in a job
 * @param err       borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure
 *
 * Errors: PIER_ECLOSED, PIER_ENOMEM; PIER_EINVAL for NULL, with the error that is there already.
 * Threads: any. Mirrors: ThreadRunner `enter_context`, `ExitStack.callback`.
 */
PIER_API int pier_runner_enter(pier_runner *runner, void *thing, pier_close_fn close_fn,
                               pier_error *err);

/**
 * Closes, before its turn, what was entered into a runner: calls its close function here.
 *
 * @param runner  borrowed until the call returns
 * @param thing   taken: what was entered; where it was entered twice, the last time counts
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return 0; PIER_EINVAL when it is not there (never entered, or closed already)
 *
 * Threads: any.
 */
PIER_API int pier_runner_leave(pier_runner *runner, void *thing, pier_error *err);

/**
 * Has the scope close something when it is closed, or when its task ends without having closed it.
 *
 * @param scope     borrowed until the call returns
 * @param thing     taken: also on failure, then it is closed at once; do not close it yourself
 * @param close_fn  borrowed until it has been called: by the thread or task that closes the scope
 * @param err       borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure
 *
 * Errors: PIER_ENOMEM; PIER_EINVAL for NULL, with the error that is there already.
 * Threads: the one, or the task, that opened the scope. Close the scope before the runner, which
 * ends the handles that are in it. Mirrors: `AsyncExitStack.push_async_callback`, `defer`.
 */
PIER_API int pier_scope_enter(pier_scope *scope, void *thing, pier_close_fn close_fn,
                              pier_error *err);

/**
 * Closes, before its turn, what was entered into a scope: calls its close function here.
 *
 * @param scope  borrowed until the call returns
 * @param thing  taken: what was entered; where it was entered twice, the last time counts
 * @param err    borrowed until the call returns: filled on failure, or NULL
 * @return 0; PIER_EINVAL when it is not there (never entered, or closed already)
 *
 * Threads: the one, or the task, that opened the scope.
 */
PIER_API int pier_scope_leave(pier_scope *scope, void *thing, pier_error *err);

#ifdef __cplusplus
}
#endif

/*
 * PIER_ENTER(scope, pier_db, db, &err): enters a handle of Pier's into a scope, to be closed with
 * it. For every type that PIER_AUTO knows; the type is checked.
 */
#if defined(PIER_AUTO)
#define PIER_ENTER(scope, type, handle, err)                                                       \
    pier_scope_enter((scope), (1 ? (handle) : (type *)0), type##__close, (err))
#endif
#endif
