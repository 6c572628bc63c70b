#ifndef PIER_ASYNC_SQLITE_CHANGES_H
#define PIER_ASYNC_SQLITE_CHANGES_H
/*
 * Notifications of committed changes. Each transaction that changed rows gives one batch, after its
 * commit has succeeded. What was rolled back, the whole or to a savepoint, is not in it, and what a
 * statement that failed had done is not either; savepoints may be Pier's or written in SQL.
 *
 * Only changes through this pool are seen. A connection begins to see them with its next request.
 * Tables WITHOUT ROWID are not reported, nor the row that OR REPLACE puts another one in the place
 * of.
 */
#include <pier/async/sqlite_hook.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_sqlite_changes pier_sqlite_changes;

/* The changes of one transaction, in the order in which they were made. */
typedef struct pier_sqlite_batch pier_sqlite_batch;

/* Called behind the commit, on the thread that has committed and before its call returns. `batch`
 * is borrowed until it returns. Calling Pier on the same connection gives PIER_EDEADLOCK. */
typedef void (*pier_sqlite_batch_cb)(void *user_data, const pier_sqlite_batch *batch);

typedef struct pier_sqlite_changes_options {
    size_t struct_size; /* set by PIER_SQLITE_CHANGES_OPTIONS */
    /* The most changes in one batch, and in all batches that wait to be read; 0: 65,536. Those of
     * a transaction that does not fit are dropped, all of them, and the next batch says so. */
    int changes_max;
    pier_sqlite_batch_cb callback; /* gets the batches; none waits to be read then */
    void *user_data;
    pier_sqlite_destroy_fn destroy; /* of user_data, after the last callback; also on failure */
} PIER_DESIGNATED pier_sqlite_changes_options;

/* pier_sqlite_changes_open(db, PIER_SQLITE_CHANGES_OPTIONS(.changes_max = 1000), &err) */
#define PIER_SQLITE_CHANGES_OPTIONS(...)                                                           \
    (&(const pier_sqlite_changes_options){.struct_size = sizeof(pier_sqlite_changes_options),      \
                                          __VA_ARGS__})

/**
 * Subscribes to the committed changes of a pool.
 *
 * @param db       borrowed until the call returns: any handle of the pool. When the pool is closed
 *                 no more batches come
 * @param options  copied: NULL for the defaults; its `user_data` is taken
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_sqlite_changes_close; NULL on failure
 *
 * Errors: PIER_EINVAL (not SQLite, the options), PIER_ECLOSED, PIER_ENOMEM.
 * Threads: any, also on the loop thread.
 */
PIER_API pier_sqlite_changes *
pier_sqlite_changes_open(pier_db *db, const pier_sqlite_changes_options *options, pier_error *err);

/**
 * Takes the next batch, waiting for one. Where changes were dropped and no batch came behind them,
 * it is one without changes.
 *
 * @param changes  borrowed until the future has settled
 * @return owned: the future of a `pier_sqlite_batch *`, freed by pier_sqlite_batch_free
 *
 * Errors: PIER_ECLOSED (the pool, and every batch has been read), PIER_EINVAL (a callback gets
 * them).
 * Threads: any; several readers are served in turn.
 */
PIER_SYNC(pier_sqlite_batch *)
PIER_API pier_future *pier_sqlite_changes_next_async(pier_sqlite_changes *changes);

/**
 * Ends a subscription. Who waits for a batch gets PIER_ECLOSED. A callback that runs right now may
 * still be at it afterwards; `destroy` is called when it is through.
 *
 * @param changes  taken: NULL is harmless
 *
 * Threads: any, also on the loop thread and in its callback.
 */
PIER_API void pier_sqlite_changes_close(pier_sqlite_changes *changes);

/**
 * Counts the changes in a batch.
 *
 * @param batch  borrowed until the call returns: NULL has none
 *
 * Threads: any.
 */
PIER_API size_t pier_sqlite_batch_count(const pier_sqlite_batch *batch);

/**
 * Gives a change.
 *
 * @param batch  borrowed until the change is no longer used
 * @param index  from 0
 * @return borrowed until the batch is freed; NULL where there is no such change
 *
 * Threads: any.
 */
PIER_API const pier_sqlite_change *pier_sqlite_batch_change(const pier_sqlite_batch *batch,
                                                            size_t index);

/**
 * Counts the transactions before this one whose changes were dropped: since the queue was full, or
 * there were too many of them, or no memory. Read the tables anew where it is not 0.
 *
 * @param batch  borrowed until the call returns: NULL has none
 *
 * Threads: any.
 */
PIER_API int64_t pier_sqlite_batch_lost(const pier_sqlite_batch *batch);

/**
 * Frees a batch.
 *
 * @param batch  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_sqlite_batch_free(pier_sqlite_batch *batch);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_sqlite_batch, pier_sqlite_batch_free)
PIER__AUTO_DEFINE(pier_sqlite_changes, pier_sqlite_changes_close)
#endif
#endif
