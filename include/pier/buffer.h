#ifndef PIER_BUFFER_H
#define PIER_BUFFER_H
/*
 * Bytes that a function hands over: an image of a database, a piece of a blob.
 */
#include <pier/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_buffer {
    const void *data; /* never NULL; borrowed until the buffer is freed */
    size_t size;      /* may be 0 */
} pier_buffer;

/**
 * Frees a buffer.
 *
 * @param buffer  taken: NULL is harmless
 *
 * Threads: any, once.
 */
PIER_API void pier_buffer_free(pier_buffer *buffer);

#ifdef __cplusplus
}
#endif
#endif
