#ifndef PIER_ASYNC_CONDITION_H
#define PIER_ASYNC_CONDITION_H
/*
 * Conditions between threads and tasks: waiting, with a mutex unlocked meanwhile, until somebody
 * says that what the mutex protects has changed.
 *
 *     while (!ready && status == 0) {
 *         status = pier_condition_wait(condition, mutex, &err);
 *     }
 */
#include <pier/async/mutex.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_condition pier_condition;

/**
 * Makes a condition.
 *
 * @param runner  borrowed until the condition is freed
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_condition_free; NULL on failure
 *
 * Errors: PIER_ENOMEM.
 * Threads: any. Mirrors: `asyncio.Condition`.
 */
PIER_API pier_condition *pier_condition_new(pier_runner *runner, pier_error *err);

/**
 * Unlocks the mutex, waits until the condition is notified, and locks the mutex again.
 *
 * The mutex is locked again whatever ended the wait, a deadline too, and however long that takes.
 * Only PIER_ECLOSED says that the caller does not hold it: the runner closes, or the condition or
 * the mutex was freed, and none of them may be used any more.
 *
 * @param condition  borrowed until the call returns
 * @param mutex      borrowed until the call returns: the caller holds it; of the same runner
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure
 *
 * Errors: PIER_EINVAL (the caller does not hold the mutex), PIER_ETIMEDOUT, PIER_ECANCELLED.
 * Threads: any, and tasks of the same runner. Mirrors: `asyncio.Condition.wait`.
 * Blocks: waits on the calling thread, suspends in a task; PIER_EDEADLOCK on the loop thread.
 *   Asynchronous form: pier_condition_wait_async.
 */
PIER_API int pier_condition_wait(pier_condition *condition, pier_mutex *mutex, pier_error *err);

/**
 * The same for a mutex that pier_mutex_lock_async has locked. It is locked once the future has
 * succeeded; where that failed, or is freed instead of taken, it is unlocked.
 *
 * @param condition  borrowed until the future has settled
 * @param mutex      borrowed until the future has settled: held by nobody in particular
 * @return owned: the future of an `int`, 0, for pier_condition_wait_finish
 *
 * Errors: PIER_EINVAL (the mutex is not locked, or held by a thread or task), PIER_ECANCELLED,
 * PIER_ETIMEDOUT. Where it could not begin to wait the mutex stays locked.
 * Threads: any.
 */
PIER_ASYNC_ONLY(
    "the blocking form is written by hand: it locks the mutex again even when cancelled")
PIER_API pier_future *pier_condition_wait_async(pier_condition *condition, pier_mutex *mutex);

/**
 * Takes the result of pier_condition_wait_async; waits for it where it has not settled.
 *
 * @param future  taken: from pier_condition_wait_async
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure
 *
 * Threads: any; a task suspends.
 */
PIER_API int pier_condition_wait_finish(pier_future *future, pier_error *err);

/**
 * Has the one who has waited longest go on.
 *
 * @param condition  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, callbacks on the loop included; holding the mutex or not.
 */
PIER_API void pier_condition_notify(pier_condition *condition);

/**
 * Has all who wait go on, one after the other as they get the mutex.
 *
 * @param condition  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, callbacks on the loop included; holding the mutex or not.
 */
PIER_API void pier_condition_notify_all(pier_condition *condition);

/**
 * Frees a condition. Those who wait for it fail with PIER_ECLOSED, with the mutex unlocked.
 *
 * @param condition  taken: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, when nobody will call it any more. What is not
 * freed is freed with the runner.
 */
PIER_API void pier_condition_free(pier_condition *condition);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_condition, pier_condition_free)
#endif
#endif
