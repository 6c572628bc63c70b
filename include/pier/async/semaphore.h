#ifndef PIER_ASYNC_SEMAPHORE_H
#define PIER_ASYNC_SEMAPHORE_H
/*
 * Semaphores between threads and tasks: so many may go in at once. Who waits is let in in the order
 * of asking.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_semaphore pier_semaphore;

/**
 * Makes a semaphore.
 *
 * @param runner  borrowed until the semaphore is freed
 * @param count   how many can acquire it before one has to wait; 0 is 0
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_semaphore_free; NULL on failure
 *
 * Errors: PIER_EINVAL (a negative count), PIER_ENOMEM.
 * Threads: any. Mirrors: `asyncio.Semaphore`.
 */
PIER_API pier_semaphore *pier_semaphore_new(pier_runner *runner, int64_t count, pier_error *err);

/**
 * Takes one, and waits until there is one.
 *
 * Where a future of it is freed instead of taken, what it acquired is released again. A caller that
 * is cancelled in the moment in which it is let in has acquired it all the same.
 *
 * @param semaphore  borrowed until the future has settled
 * @return owned: the future of 0
 *
 * Errors: PIER_ETIMEDOUT, PIER_ECANCELLED; PIER_ECLOSED when it is freed meanwhile.
 * Threads: any. Mirrors: `asyncio.Semaphore.acquire`.
 */
PIER_SYNC(int, checked, fast)
PIER_API pier_future *pier_semaphore_acquire_async(pier_semaphore *semaphore);

/**
 * Takes one if there is one now and nobody waits.
 *
 * @param semaphore  borrowed until the call returns
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return 1, or 0 when there is none; a negative pier_status on failure
 *
 * Threads: any, callbacks on the loop included.
 */
PIER_API int pier_semaphore_try_acquire(pier_semaphore *semaphore, pier_error *err);

/**
 * Gives one back, or one more: whoever waits first gets it.
 *
 * @param semaphore  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, not only that which acquired it.
 * Mirrors: `asyncio.Semaphore.release`.
 */
PIER_API void pier_semaphore_release(pier_semaphore *semaphore);

/**
 * Frees a semaphore. Those who wait for it fail with PIER_ECLOSED.
 *
 * @param semaphore  taken: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, when nobody will call it any more. What is not
 * freed is freed with the runner.
 */
PIER_API void pier_semaphore_free(pier_semaphore *semaphore);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_semaphore, pier_semaphore_free)
#endif
#endif
