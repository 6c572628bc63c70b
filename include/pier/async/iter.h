#ifndef PIER_ASYNC_ITER_H
#define PIER_ASYNC_ITER_H
/*
 * An iterator is a task that puts items one after the other, the producer, and whoever takes them:
 * a thread, a task or callbacks. Items are copied by size and cross in blocks, so that an item
 * costs a fraction of a hop between threads.
 *
 *     static int count(pier_task *self, void *arg, pier_error *err)
 *     {
 *         for (int i = 0; i < *(int *)arg; i++) {
 *             int status = pier_iter_put(self, &i, err);
 *             if (status < 0) {
 *                 return status;
 *             }
 *         }
 *         return 0;
 *     }
 *
 *     pier_iter *iter = pier_iter_open(runner, sizeof(int), count, &end, &err);
 *     for (int i; pier_iter_next(iter, &i);) {
 *         printf("%d\n", i);
 *     }
 *     status = pier_iter_close(iter, &err);
 */
#include <pier/future.h>
#include <pier/task.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_iter pier_iter;
/* Some items, one after the other. */
typedef struct pier_items pier_items;

/**
 * Opens an iterator. The producer, `fn`, starts when the first item is asked for, in the scope that
 * is ambient here, and runs ahead of the consumer by three blocks at most. A block has 1,024 items,
 * or as many as fit into 64 KiB (one at least); what is there crosses as soon as the consumer
 * waits.
 *
 * @param runner     borrowed until the iterator is closed
 * @param item_size  of an item in bytes
 * @param fn         borrowed until the iterator is closed: puts items with pier_iter_put, then
 *                   returns 0, or a failure that the consumer gets after the items
 * @param arg        shared: handed to `fn`, must live until the iterator is closed
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_iter_close; NULL on failure
 *
 * Errors: PIER_EINVAL (items of 0 bytes), PIER_ENOMEM.
 * Threads: any. Mirrors: an asynchronous generator, ThreadRunner `wrap_iter`.
 */
PIER_API pier_iter *pier_iter_open(pier_runner *runner, size_t item_size, pier_task_fn fn,
                                   void *arg, pier_error *err);

/**
 * Gives an item to the consumer; suspends the producer while it is far enough ahead, and once for
 * each block's worth of items, so that the loop can do other things.
 *
 * @param self  borrowed until the call returns: what the producer was called with
 * @param item  copied: `item_size` bytes
 * @param err   borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure: then clean up and return it
 *
 * Errors: PIER_ECANCELLED (the consumer has left), PIER_EINVAL (not the producer of an iterator),
 * PIER_ENOMEM (the item was not put; the producer may try again).
 * Threads: in the producer itself. Mirrors: `yield`.
 */
PIER_API int pier_iter_put(pier_task *self, const void *item, pier_error *err);

/**
 * Gives the items that are there, once there is one.
 *
 * @iterator pier_iter_item
 * Gives the next item where it stands, borrowed until the next call. NULL: there is none; whether
 * that is the end or a failure, pier_iter_close says.
 *
 * @param iter  borrowed until the future has settled
 * @return owned: the future of a `pier_items *`, freed by pier_items_free; without items at the end
 *
 * Errors: whatever the producer failed with, after all that it had put; PIER_ECANCELLED (the
 * iterator was closed meanwhile).
 * Threads: any, one at a time.
 */
PIER_SYNC_ITERATOR(pier_iter_item, const void *)
PIER_SYNC(pier_items *)
PIER_API pier_future *pier_iter_block_async(pier_iter *iter);

/**
 * Copies the next item out.
 *
 * @param iter  borrowed until the call returns: NULL has none
 * @param item  borrowed until the call returns: room for `item_size` bytes, left alone at the end
 * @return false when there is none: at the end or after a failure, which pier_iter_close reports
 *
 * Threads: any, one at a time; a task suspends. Mirrors: `next`.
 */
PIER_API bool pier_iter_next(pier_iter *iter, void *item);

/**
 * Ends the iterator and reports what failed. A producer that has not ended is cancelled: its waits
 * and puts fail with PIER_ECANCELLED, it cleans up, and close waits until it has returned. That
 * cancellation alone is no failure.
 *
 * @param iter  taken: NULL passes through
 * @return owned: the future of 0
 *
 * Errors: the failure of the producer; else that of a wait of pier_iter_next or pier_iter_item.
 * PIER_EDEADLOCK in the producer itself: then it stays open.
 * Threads: any, once; also for an iterator that was left early. The runner's close ends those that
 * were forgotten, in the same way. Mirrors: `aclose`.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_iter_close_async(pier_iter *iter);

/**
 * Counts the items of a block.
 *
 * @param items  borrowed until the call returns: NULL has none
 *
 * Threads: any.
 */
PIER_API size_t pier_items_count(const pier_items *items);

/**
 * Gives an item of a block.
 *
 * @param items  borrowed until the item is no longer used
 * @param index  from 0
 * @return borrowed until the block is freed; NULL where there is no such item
 *
 * Threads: any.
 */
PIER_API const void *pier_items_at(const pier_items *items, size_t index);

/**
 * Frees a block.
 *
 * @param items  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_items_free(pier_items *items);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_items, pier_items_free)
#endif
#endif
