#ifndef PIER_ASYNC_SQLITE_FUNCTION_H
#define PIER_ASYNC_SQLITE_FUNCTION_H
/*
 * Functions and collations of yours in SQLite. What is registered belongs to the pool, whichever
 * handle of it is given: every connection has it, those opened later too. Other connections take
 * it on before their next request.
 *
 * Callbacks run wherever the statement is being stepped: on the thread that blocks in it, or on a
 * thread of the connection's own. One connection calls one at a time, several call at once. A
 * callback that calls Pier on the connection that is calling it gets PIER_EDEADLOCK.
 */
#include <pier/async/db.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Ends what a registration was given as `user_data`, once, when nothing will use it any more: it
 * was replaced or the pool closed, or registering has failed. On any thread. */
typedef void (*pier_sqlite_destroy_fn)(void *user_data);

/* A call of a function by a statement; it ends when the callback returns. */
typedef struct pier_sqlite_call pier_sqlite_call;

/* 0, or a negative pier_status: best `return pier_sqlite_call_error(call, ...)`. */
typedef int (*pier_sqlite_call_fn)(pier_sqlite_call *call, void *user_data);

/*
 * A scalar function has `scalar`. An aggregate has `step`, called for each row, and `final`, which
 * returns the result. A window function has `inverse` and `value` as well: the one takes a row out
 * again, the other returns the result for the rows that are in.
 */
typedef struct pier_sqlite_function_options {
    size_t struct_size; /* set by PIER_SQLITE_FUNCTION_OPTIONS */
    int args;           /* how many arguments; 0: any number; PIER_NONE: none */
    bool deterministic; /* the same result for the same arguments: may be used in indexes */
    bool direct_only;   /* not from within views, triggers and other parts of the schema */
    bool innocuous;     /* harmless, even where the schema is not trusted */
    pier_sqlite_call_fn scalar;
    pier_sqlite_call_fn step;
    pier_sqlite_call_fn final;
    pier_sqlite_call_fn inverse;
    pier_sqlite_call_fn value;
    void *user_data;
    pier_sqlite_destroy_fn destroy;
} PIER_DESIGNATED pier_sqlite_function_options;

/* pier_sqlite_function(db, "half", PIER_SQLITE_FUNCTION_OPTIONS(.args = 1, .scalar = half), &err)
 */
#define PIER_SQLITE_FUNCTION_OPTIONS(...)                                                          \
    (&(const pier_sqlite_function_options){.struct_size = sizeof(pier_sqlite_function_options),    \
                                           __VA_ARGS__})

/* Orders two texts, as their bytes in UTF-8: negative, 0 or positive, as memcmp. It cannot fail,
 * and must always order the same texts in the same way. */
typedef int (*pier_sqlite_compare_fn)(void *user_data, const void *left, size_t left_size,
                                      const void *right, size_t right_size);

/**
 * Registers a function, or replaces the one of that name and number of arguments.
 *
 * @param db       borrowed until the future has settled: any handle of the pool
 * @param name     copied: 255 bytes at most
 * @param options  copied: from PIER_SQLITE_FUNCTION_OPTIONS; its `user_data` is taken, also where
 *                 this fails
 * @return owned: the future of 0
 *
 * Errors: PIER_EINVAL (the options), PIER_EBUSY (it replaces one while a cursor is open).
 * Threads: any. Mirrors: `sqlite3.create_function`, `create_aggregate`, `create_window_function`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_function_async(pier_db *db, const char *name,
                                                 const pier_sqlite_function_options *options);

/**
 * Removes a function.
 *
 * @param db    borrowed until the future has settled: any handle of the pool
 * @param name  copied
 * @param args  as it was registered: 0 for any number, PIER_NONE for none
 * @return owned: the future of 0
 *
 * Errors: PIER_EBUSY (a cursor is open).
 * Threads: any.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_function_remove_async(pier_db *db, const char *name, int args);

/**
 * Registers a collation, or replaces the one of that name. Indexes that use it must be made anew
 * (REINDEX) where it orders differently from before.
 *
 * @param db         borrowed until the future has settled: any handle of the pool
 * @param name       copied
 * @param compare    borrowed until it is replaced or the pool is closed; NULL removes the collation
 * @param user_data  taken: handed to `compare`
 * @param destroy    borrowed until it has been called, also where this fails; NULL: nothing to do
 * @return owned: the future of 0
 *
 * Errors: PIER_EBUSY (it replaces one while a cursor is open).
 * Threads: any. Mirrors: `sqlite3.create_collation`.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_sqlite_collation_async(pier_db *db, const char *name,
                                                  pier_sqlite_compare_fn compare, void *user_data,
                                                  pier_sqlite_destroy_fn destroy);

/**
 * Counts the arguments of a call.
 *
 * @param call  borrowed until the callback returns
 *
 * Threads: the callback's.
 */
PIER_API int pier_sqlite_call_count(const pier_sqlite_call *call);

/**
 * Gives the type of an argument: PIER_NULL, PIER_INT64, PIER_DOUBLE, PIER_TEXT or PIER_BYTES.
 *
 * @param call   borrowed until the callback returns
 * @param index  from 0
 * @return PIER_INVALID where there is no such argument
 *
 * Threads: the callback's.
 */
PIER_API pier_type pier_sqlite_call_type(const pier_sqlite_call *call, int index);

/**
 * Reads an integer, or a floating-point argument that is a whole number in range. Where it cannot
 * deliver, also for NULL, it gives 0, and the call fails with that.
 *
 * @param call   borrowed until the callback returns
 * @param index  from 0
 *
 * Threads: the callback's.
 */
PIER_API int64_t pier_sqlite_call_int64(pier_sqlite_call *call, int index);

/**
 * Reads a number. Where it cannot deliver, also for NULL, it gives 0, and the call fails with that.
 *
 * @param call   borrowed until the callback returns
 * @param index  from 0
 *
 * Threads: the callback's.
 */
PIER_API double pier_sqlite_call_double(pier_sqlite_call *call, int index);

/**
 * Reads text; numbers are written out. NULL gives NULL and is no failure; bytes are one.
 *
 * @param call   borrowed until the callback returns
 * @param index  from 0
 * @return borrowed until the callback returns: UTF-8, zero-terminated
 *
 * Threads: the callback's.
 */
PIER_API const char *pier_sqlite_call_text(pier_sqlite_call *call, int index);

/**
 * Reads bytes, or text with its size. NULL gives NULL and is no failure.
 *
 * @param call   borrowed until the callback returns
 * @param index  from 0
 * @param size   borrowed until the call returns: set to the number of bytes; may be NULL
 * @return borrowed until the callback returns: never NULL for a value of no bytes
 *
 * Threads: the callback's.
 */
PIER_API const void *pier_sqlite_call_bytes(pier_sqlite_call *call, int index, size_t *size);

/**
 * Returns a value to the statement: `return pier_sqlite_call_return(call, pier_int64(7));`. Without
 * it the result is NULL.
 *
 * @param call   borrowed until the callback returns
 * @param value  its text and bytes are copied
 * @return 0; a negative pier_status where it cannot be returned, with which the call fails
 *
 * Threads: the callback's. Mirrors: `sqlite3_result_*`.
 */
PIER_API int pier_sqlite_call_return(pier_sqlite_call *call, pier_value value);

/**
 * Fails the call: the statement fails with this status, and a message that names the function.
 *
 * @param call    borrowed until the callback returns
 * @param status  a negative pier_status: PIER_EUSER for your own failures
 * @param format  borrowed until the call returns: as for printf
 * @return `status`, to be returned by the callback
 *
 * Threads: the callback's.
 */
PIER_API int pier_sqlite_call_error(pier_sqlite_call *call, int status, const char *format, ...)
    PIER_PRINTF(3, 4);

/**
 * Gives the memory of an aggregate's group: zeroed when it is first asked for, the same in each
 * later callback for that group, and freed behind `final`.
 *
 * @param call  borrowed until the callback returns
 * @param size  in bytes, the same each time
 * @return borrowed until `final` has returned: aligned for any type; NULL where there is no memory,
 *         or this is no aggregate, with which the call fails
 *
 * Threads: the callback's. Mirrors: `sqlite3_aggregate_context`.
 */
PIER_API void *pier_sqlite_call_state(pier_sqlite_call *call, size_t size);

#ifdef __cplusplus
}
#endif
#endif
