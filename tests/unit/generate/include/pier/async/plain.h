#ifndef PIER_ASYNC_PLAIN_H
#define PIER_ASYNC_PLAIN_H
/* A header with nothing to generate but the face that includes it. */
#include <pier/base.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Left alone: no prototype. */
typedef struct pier_plain_options {
    size_t struct_size; /* in bytes; */
    void (*cb)(void *user_data);
} pier_plain_options;

#define PIER_PLAIN_OPTIONS(...)                                                                    \
    (&(const pier_plain_options){.struct_size = sizeof(pier_plain_options), __VA_ARGS__})

static inline int pier_plain_add(int a, int b)
{
    return a + b;
}

/**
 * Goes through an array.
 *
 * @param items   borrowed until the call returns
 * @param visit   called for each, on this thread
 * @param format  borrowed: as for printf
 * @return 0, or what `visit` stopped with
 */
PIER_API int pier_plain_visit(const int items[4], int (*visit)(int item, void *user_data),
                              const char *format, ...);

/**
 * Watches for ever.
 *
 * @param options  copied: or NULL
 * @return owned: the future, which only cancelling ends
 */
PIER_ASYNC_ONLY("it ends only when it is cancelled")
PIER_API pier_future *pier_plain_watch_async(const pier_plain_options *options);

#ifdef __cplusplus
}
#endif
#endif
