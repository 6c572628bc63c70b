/*
 * Bytes that are handed over: in the allocation of their struct, or adopted from a library.
 */
#include "sdk/bytes.h"

#include "sdk/alloc.h"

typedef struct bytes {
    pier_bytes base; /* first */
    void *adopted;
    void (*release)(void *data); /* NULL: nothing was adopted */
} bytes;

pier_bytes *pier__bytes_new(size_t size)
{
    bytes *made = size < SIZE_MAX - sizeof(bytes) ? pier__malloc(sizeof *made + size) : NULL;
    if (!made) {
        return NULL;
    }
    *made = (bytes){.base = {.data = made + 1, .size = size}};
    return &made->base;
}

pier_bytes *pier__bytes_adopt(void *data, size_t size, void (*release)(void *data))
{
    bytes *made = pier__malloc(sizeof *made);
    if (!made) {
        release(data);
        return NULL;
    }
    *made = (bytes){.base = {.data = data, .size = size}, .adopted = data, .release = release};
    return &made->base;
}

void pier_bytes_free(pier_bytes *given)
{
    bytes *made = (bytes *)given;
    if (made && made->release) {
        made->release(made->adopted);
    }
    pier__free(made);
}
