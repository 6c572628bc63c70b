#ifndef PIER_HOOKS_H
#define PIER_HOOKS_H
/*
 * What the library tells the program that has not asked: a log, a trace of every operation, errors
 * that nobody looked at; and where it takes its memory from. The hooks belong to the process, run
 * wherever the event happens and must be thread-safe; they must not call Pier. Pier itself never
 * prints. No argument of a statement, no password and no header value is in what they are given.
 */
#include <pier/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pier_log_level {
    PIER_LOG_ERROR = 1,
    PIER_LOG_WARNING = 2,
    PIER_LOG_INFO = 3,
    PIER_LOG_DEBUG = 4
} pier_log_level;

/* `message` is one line, borrowed until the hook returns. */
typedef void (*pier_log_fn)(pier_log_level level, const char *message, void *user_data);

/* One operation has ended. */
typedef struct pier_trace {
    const char *operation; /* "pier_db_fetch" */
    const char *subject;   /* what it worked on: a database, a URL without secrets; may be "" */
    int status;            /* 0, or what it failed with */
    int64_t duration_ns;   /* from its start, or its submission, to its end */
    bool on_loop;          /* stepped by the loop, else by the thread that waited */
} pier_trace;

/* `trace` and its texts are borrowed until the hook returns. */
typedef void (*pier_trace_fn)(const pier_trace *trace, void *user_data);

/* A future failed and was dropped without anybody having looked. `err` is borrowed until the hook
 * returns. */
typedef void (*pier_unobserved_fn)(const pier_error *err, void *user_data);

/* As malloc, realloc and free. */
typedef struct pier_allocator {
    void *(*malloc_fn)(size_t size, void *user_data);
    void *(*realloc_fn)(void *memory, size_t size, void *user_data);
    void (*free_fn)(void *memory, void *user_data);
    void *user_data;
} pier_allocator;

/**
 * Sets the log hook.
 *
 * @param fn         shared: NULL ends logging
 * @param level      the least important level that is wanted
 * @param user_data  shared: handed to `fn`
 *
 * Threads: any; a hook that was replaced may still be running when this returns.
 */
PIER_API void pier_log_set(pier_log_fn fn, pier_log_level level, void *user_data);

/**
 * Sets the trace hook. Without one, an operation pays for tracing with one load.
 *
 * @param fn         shared: NULL ends tracing
 * @param user_data  shared: handed to `fn`
 *
 * Threads: any; a hook that was replaced may still be running when this returns.
 * Mirrors: pgx `Tracer`, asyncpg `add_query_logger`.
 */
PIER_API void pier_trace_set(pier_trace_fn fn, void *user_data);

/**
 * Sets the hook for failures that nobody looked at. Without one they are logged as warnings.
 *
 * Cancelled futures, and those that fail because the runner is closed, are reported only where they
 * were left with pier_future_detach.
 *
 * @param fn         shared: NULL: log them
 * @param user_data  shared: handed to `fn`
 *
 * Threads: any; a hook that was replaced may still be running when this returns.
 * Mirrors: asyncio "exception was never retrieved".
 */
PIER_API void pier_unobserved_set(pier_unobserved_fn fn, void *user_data);

/**
 * Sets where the library takes its own memory from; what libuv, libpq, SQLite and libcurl allocate
 * is theirs to configure. Memory that becomes yours by free() (a `char *` of PIER_INTO) always
 * comes from malloc().
 *
 * @param allocator  copied: NULL for malloc, realloc and free
 * @return 0; PIER_EBUSY once a runner has been opened, and then nothing has changed
 *
 * Threads: before the first runner is opened.
 */
PIER_API int pier_allocator_set(const pier_allocator *allocator);

#ifdef __cplusplus
}
#endif
#endif
