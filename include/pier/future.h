#ifndef PIER_FUTURE_H
#define PIER_FUTURE_H
/*
 * A future is the result of one operation, later. Each `x_async` function gives one; the typed
 * result is taken with `x_finish`.
 */
#include <pier/runner.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_future pier_future;

/* Called once, on the loop thread, under no lock. `future` is borrowed until it returns, unless
 * an `x_finish` or pier_future_free takes it there. */
typedef void (*pier_future_cb)(pier_future *future, void *user_data);

/**
 * Says whether the operation has ended, one way or the other; then `x_finish` does not wait.
 *
 * @param future  borrowed until the call returns
 *
 * Threads: any.
 */
PIER_API bool pier_future_done(const pier_future *future);

/**
 * Waits until the operation has ended. The time given is that of the wait alone: when it is over
 * the operation goes on and can be waited for again.
 *
 * @param future      borrowed until the call returns
 * @param timeout_ms  milliseconds; 0: only look; PIER_FOREVER: as long as the scope allows
 * @param err         borrowed until the call returns: filled when it cannot wait, or NULL
 * @return 1 ended; 0 not yet; negative: it cannot wait
 *
 * Errors: PIER_EDEADLOCK (on the loop thread outside a task), PIER_ETIMEDOUT and PIER_ECANCELLED
 * (the ambient scope; the operation itself obeys the scope that it was started in).
 * Threads: any; a task suspends. Mirrors: `concurrent.futures.wait`.
 */
PIER_API int pier_future_wait(pier_future *future, int64_t timeout_ms, pier_error *err);

/**
 * Waits until all of them have ended; otherwise like pier_future_wait.
 *
 * @param futures     borrowed until the call returns
 * @param count       how many
 * @param timeout_ms  milliseconds for all of them together
 * @param err         borrowed until the call returns: filled when it cannot wait, or NULL
 * @return 1 all ended; 0 not yet; negative: it cannot wait
 *
 * Threads: any; a task suspends.
 */
PIER_API int pier_future_wait_all(pier_future *const *futures, size_t count, int64_t timeout_ms,
                                  pier_error *err);

/**
 * Waits until one of them has ended; otherwise like pier_future_wait.
 *
 * @param futures     borrowed until the call returns
 * @param count       how many; 0 is an error
 * @param timeout_ms  milliseconds
 * @param index       borrowed until the call returns: set to the number of one that has ended
 * @param err         borrowed until the call returns: filled when it cannot wait, or NULL
 * @return 1 one has ended; 0 not yet; negative: it cannot wait
 *
 * Threads: any; a task suspends. Mirrors: `asyncio.wait(FIRST_COMPLETED)`.
 */
PIER_API int pier_future_wait_any(pier_future *const *futures, size_t count, int64_t timeout_ms,
                                  size_t *index, pier_error *err);

/**
 * Waits until all have ended, or one of them has failed, which then need not be the only one that
 * has ended; otherwise like pier_future_wait.
 *
 * @param futures     borrowed until the call returns
 * @param count       how many
 * @param timeout_ms  milliseconds for all of them together
 * @param index       borrowed until the call returns: set to the number of one that has failed, or
 *                    to `count` when all have succeeded
 * @param err         borrowed until the call returns: filled when it cannot wait, or NULL
 * @return 1 settled so; 0 not yet; negative: it cannot wait
 *
 * Threads: any; a task suspends. Mirrors: `asyncio.wait(FIRST_EXCEPTION)`.
 */
PIER_API int pier_future_wait_first_error(pier_future *const *futures, size_t count,
                                          int64_t timeout_ms, size_t *index, pier_error *err);

/**
 * Has `cb` called on the loop thread when the operation has ended, always later, never from within
 * this call, and frees the future afterwards.
 *
 * Another thread does not wait for `cb`: it may see the end of an operation that ended later before
 * `cb` has been called.
 *
 * When the runner has been closed there is no loop thread any more: the future is only freed.
 *
 * One exception: a future that failed because its handle was NULL, its runner closed or in another
 * process, or because there was no memory for it, knows no loop; its callback runs at once, on this
 * thread.
 *
 * @param future     taken: do not use it after this call, only in the callback
 * @param cb         borrowed until it has been called
 * @param user_data  shared: handed to `cb`
 *
 * Threads: any. Mirrors: asyncio `Future.add_done_callback`.
 */
PIER_API void pier_future_then(pier_future *future, pier_future_cb cb, void *user_data);

/**
 * Asks for the operation to be cancelled. It still ends as a future does: after clean-up, as
 * cancelled, or with its result where that came first. Asking again is harmless.
 *
 * @param future  borrowed until the call returns: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_future_cancel(pier_future *future);

/**
 * Drops the future. The operation goes on, in the scope that it was started in; its result is freed
 * when it comes. A failure goes to the hook for unobserved failures, unless it is that of being
 * cancelled or closed, which whoever drops a future expects.
 *
 * @param future  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_future_free(pier_future *future);

/**
 * Leaves the operation to itself: nobody will read the future, but it is meant to be carried out.
 * Like pier_future_free, but every failure goes to the hook for unobserved failures, also that it
 * was cancelled or that its runner was closed before it ended.
 *
 * A task that is to outlive the scope that it was started in is started with `.detached`.
 *
 * @param future  taken: NULL is harmless
 *
 * Threads: any. Mirrors: Rust smol `Task::detach`, `asyncio.ensure_future` without a reference.
 */
PIER_API void pier_future_detach(pier_future *future);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_future, pier_future_free)
#endif
#endif
