#ifndef PIER_ASYNC_MUTEX_H
#define PIER_ASYNC_MUTEX_H
/*
 * Mutexes between threads and tasks. They go to those who wait in the order of asking: who unlocks
 * hands over, and cannot have it back before the others had it.
 *
 * A thread or task that locks one holds it, and only it can unlock it. What pier_mutex_lock_async
 * and pier_mutex_try_lock in a callback lock is held by nobody in particular, and anybody may
 * unlock it.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_mutex pier_mutex;

/**
 * Makes a mutex.
 *
 * @param runner  borrowed until the mutex is freed
 * @param name    copied: for messages, 31 bytes at most; NULL for none
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_mutex_free; NULL on failure
 *
 * Errors: PIER_ENOMEM.
 * Threads: any. Mirrors: `asyncio.Lock`.
 */
PIER_API pier_mutex *pier_mutex_new(pier_runner *runner, const char *name, pier_error *err);

/**
 * Locks the mutex, and waits while somebody else holds it.
 *
 * Locked by a future it is held once that has settled, by nobody in particular; where the future is
 * freed instead of taken, it is unlocked again. A caller that is cancelled in the moment in which
 * the mutex is handed over to it holds it all the same.
 *
 * @param mutex  borrowed until the future has settled
 * @return owned: the future of 0
 *
 * Errors: PIER_EDEADLOCK (the caller holds it already), PIER_ETIMEDOUT, PIER_ECANCELLED;
 * PIER_ECLOSED when it is freed meanwhile.
 * Threads: any. Mirrors: `asyncio.Lock.acquire`.
 */
PIER_SYNC(int, checked, fast)
PIER_API pier_future *pier_mutex_lock_async(pier_mutex *mutex);

/**
 * Locks the mutex if nobody holds it.
 *
 * @param mutex  borrowed until the call returns
 * @param err    borrowed until the call returns: filled on failure, or NULL
 * @return 1, or 0 when somebody holds it, be it the caller; a negative pier_status on failure
 *
 * Threads: any, callbacks on the loop included: those lock it for nobody in particular.
 */
PIER_API int pier_mutex_try_lock(pier_mutex *mutex, pier_error *err);

/**
 * Unlocks the mutex: it goes to whoever waits first.
 *
 * @param mutex  borrowed until the call returns
 * @param err    borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure
 *
 * Errors: PIER_EINVAL (nobody holds it, or another thread or task does).
 * Threads: that which holds it. Never waits, and scopes do not matter to it.
 */
PIER_API int pier_mutex_unlock(pier_mutex *mutex, pier_error *err);

/**
 * Frees a mutex, locked or not. Those who wait for it fail with PIER_ECLOSED.
 *
 * @param mutex  taken: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, when nobody will call it any more. What is not
 * freed is freed with the runner.
 */
PIER_API void pier_mutex_free(pier_mutex *mutex);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_mutex, pier_mutex_free)
#endif
#endif
