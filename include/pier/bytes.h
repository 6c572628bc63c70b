#ifndef PIER_BYTES_H
#define PIER_BYTES_H
/*
 * Bytes that a function hands over: an image of a database, a piece of a blob.
 */
#include <pier/error.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_bytes {
    const void *data; /* never NULL; borrowed until the bytes are freed */
    size_t size;      /* may be 0 */
} pier_bytes;

/**
 * Frees bytes.
 *
 * @param bytes  taken: NULL is harmless
 *
 * Threads: any, once.
 */
PIER_API void pier_bytes_free(pier_bytes *bytes);

#ifdef __cplusplus
}
#endif
#endif
