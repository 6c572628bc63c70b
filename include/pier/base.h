#ifndef PIER_BASE_H
#define PIER_BASE_H
/*
 * What every header of Pier begins with: the standard types, export and compiler attributes, and
 * the markers that the generator of the blocking face reads.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIER_VERSION_MAJOR 0
#define PIER_VERSION_MINOR 1
#define PIER_VERSION_PATCH 0

#if defined(__GNUC__)
#define PIER_API __attribute__((visibility("default")))
#define PIER_CHECKED __attribute__((warn_unused_result))
#define PIER_PRINTF(string, first) __attribute__((__format__(__printf__, string, first)))
/* Called on failures: compilers move what leads to it out of the way of everything else. */
#define PIER_COLD __attribute__((cold))
/* Makes positional use of an options struct a warning, so that fields can be added. */
#define PIER_DESIGNATED __attribute__((designated_init))
#if defined(__cplusplus) || defined(__clang__)
#undef PIER_DESIGNATED
#define PIER_DESIGNATED
#endif
/* Declares a pointer that is closed when it leaves its block: PIER_AUTO(pier_db) db = ...; There is
 * none for what reports at close (cursors, writers, streams, blobs, files, groups, iterators). */
#define PIER_AUTO(type) __attribute__((cleanup(type##_auto), unused)) type *
#define PIER__AUTO_DEFINE(type, closer)                                                            \
    static inline __attribute__((unused)) void type##_auto(type **handle)                          \
    {                                                                                              \
        closer(*handle);                                                                           \
    }                                                                                              \
    static inline __attribute__((unused)) void type##__close(void *handle)                         \
    {                                                                                              \
        closer((type *)handle);                                                                    \
    }
#else
#define PIER_API
#define PIER_CHECKED
#define PIER_PRINTF(format, first)
#define PIER_COLD
#define PIER_DESIGNATED
#define PIER__AUTO_DEFINE(type, closer)
#endif

/*
 * Markers before an asynchronous prototype, for sync/generate.py; they expand to nothing.
 * PIER_SYNC(type): generate the blocking function and `_finish`, which give a `type`.
 * PIER_SYNC(int, checked, fast): whose result must be looked at; that try without an operation.
 * PIER_SYNC_ITERATOR(name, item, ...): and a blocking iterator over the blocks it fetches.
 * PIER_ASYNC_ONLY(reason): there is no blocking form.
 */
#define PIER_SYNC(...)
#define PIER_SYNC_ITERATOR(...)
#define PIER_ASYNC_ONLY(reason)

/* A time without end; 0 always means the default. */
#define PIER_FOREVER INT64_C(-1)
/* A real zero in an options field whose 0 means the default. */
#define PIER_NONE (-1)

#endif
