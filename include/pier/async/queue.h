#ifndef PIER_ASYNC_QUEUE_H
#define PIER_ASYNC_QUEUE_H
/*
 * Queues between threads and tasks, bounded, with items of one size that are copied in and out. Who
 * waits is served in the order of asking, threads, tasks and futures alike.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_queue pier_queue;

/* Frees what an item refers to, when nobody will get it. The memory of the item itself is not the
 * function's, and may be that which the caller of pier_queue_put gave: do not write to it. It runs
 * on any thread, the loop's included, under no lock. */
typedef void (*pier_queue_drop_fn)(void *item);

/**
 * Makes a queue.
 *
 *     pier_queue *lines = pier_queue_new(runner, sizeof(char *), 128, drop_line, &err);
 *
 * @param runner     borrowed until the queue is freed
 * @param item_size  bytes of an item
 * @param capacity   how many items it holds before pier_queue_put waits; 0: 1,024
 * @param drop       borrowed until the queue and all futures of it are freed: called for each item
 *                   that nobody gets; NULL where there is nothing to free
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_queue_free; NULL on failure
 *
 * Errors: PIER_EINVAL (an item of 0 bytes), PIER_ENOMEM.
 * Threads: any. Mirrors: `asyncio.Queue`, `queue.Queue`.
 */
PIER_API pier_queue *pier_queue_new(pier_runner *runner, size_t item_size, size_t capacity,
                                    pier_queue_drop_fn drop, pier_error *err);

/**
 * Puts an item in, and waits while the queue is full.
 *
 * The item is taken in any case: where the call fails it is dropped. Only a NULL queue takes
 * nothing.
 *
 * @param queue  borrowed until the future has settled
 * @param item   copied: as many bytes as the queue's items have
 * @return owned: the future of 0
 *
 * Errors: PIER_ECLOSED (the queue was ended or freed), PIER_ETIMEDOUT, PIER_ECANCELLED.
 * Threads: any. Mirrors: `asyncio.Queue.put`.
 */
PIER_SYNC(int, fast)
PIER_API pier_future *pier_queue_put_async(pier_queue *queue, const void *item);

/**
 * Gets the first item, and waits for one while the queue is empty.
 *
 * An item is got when the result is taken (pier_queue_get_finish) and not before: where a future is
 * freed instead, its item soon goes back to the head of the queue, in which it has kept its place.
 * A getter that is cancelled in the moment in which it is served gets the item all the same.
 *
 * @param queue  borrowed until the future has settled
 * @param item   borrowed until the future has been taken or freed: receives the item's bytes
 * @return owned: the future of 1 with an item; 0 when the queue was ended and is empty
 *
 * Errors: PIER_ECLOSED (the queue was freed, or the runner is closing), PIER_ETIMEDOUT,
 * PIER_ECANCELLED.
 * Threads: any. Mirrors: `asyncio.Queue.get`.
 */
PIER_SYNC(int, fast)
PIER_API pier_future *pier_queue_get_async(pier_queue *queue, void *item);

/**
 * Puts an item in if there is room now and nobody waits for room.
 *
 * @param queue  borrowed until the call returns
 * @param item   copied: taken, unless the result is 0: then it is still the caller's
 * @param err    borrowed until the call returns: filled on failure, or NULL
 * @return 1, or 0 when the queue is full; a negative pier_status on failure
 *
 * Errors: PIER_ECLOSED (the queue was ended); the item has been dropped.
 * Threads: any, callbacks on the loop included. Mirrors: `asyncio.Queue.put_nowait`.
 */
PIER_API int pier_queue_try_put(pier_queue *queue, const void *item, pier_error *err);

/**
 * Gets the first item if there is one now.
 *
 * @param queue  borrowed until the call returns
 * @param item   borrowed until the call returns: receives the item's bytes
 * @param err    borrowed until the call returns: filled on failure, or NULL
 * @return 1, or 0 when there is none now; a negative pier_status on failure
 *
 * Errors: PIER_ECLOSED (the queue was ended and is empty).
 * Threads: any, callbacks on the loop included. Mirrors: `asyncio.Queue.get_nowait`.
 */
PIER_API int pier_queue_try_get(pier_queue *queue, void *item, pier_error *err);

/**
 * Says how many items can be got now.
 *
 * @param queue  borrowed until the call returns
 * @return the number of items, which may be another one already; 0 for NULL
 *
 * Threads: any. Mirrors: `asyncio.Queue.qsize`.
 */
PIER_API size_t pier_queue_size(pier_queue *queue);

/**
 * Ends the queue: nothing more can be put in. Items that are in it can be got still; after them,
 * pier_queue_get gives 0. Those who wait for room fail with PIER_ECLOSED, and their items are
 * dropped.
 *
 * @param queue  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, any number of times.
 * Mirrors: `asyncio.Queue.shutdown`.
 */
PIER_API void pier_queue_end(pier_queue *queue);

/**
 * Frees a queue. Those who wait at it fail with PIER_ECLOSED; the items that are left are dropped.
 *
 * @param queue  taken: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, when nobody will call it any more. What is not
 * freed is freed with the runner.
 */
PIER_API void pier_queue_free(pier_queue *queue);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_queue, pier_queue_free)
#endif
#endif
