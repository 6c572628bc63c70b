/*
 * Bytes that are handed over: in the allocation of their struct, or adopted from a library.
 */
#include "sdk/buffer.h"

#include "sdk/alloc.h"

typedef struct buffer {
    pier_buffer base; /* first */
    void *adopted;
    void (*release)(void *data); /* NULL: nothing was adopted */
} buffer;

pier_buffer *pier__buffer_new(size_t size)
{
    buffer *made = size < SIZE_MAX - sizeof(buffer) ? pier__malloc(sizeof *made + size) : NULL;
    if (!made) {
        return NULL;
    }
    *made = (buffer){.base = {.data = made + 1, .size = size}};
    return &made->base;
}

pier_buffer *pier__buffer_adopt(void *data, size_t size, void (*release)(void *data))
{
    buffer *made = pier__malloc(sizeof *made);
    if (!made) {
        release(data);
        return NULL;
    }
    *made = (buffer){.base = {.data = data, .size = size}, .adopted = data, .release = release};
    return &made->base;
}

void pier_buffer_free(pier_buffer *given)
{
    buffer *made = (buffer *)given;
    if (made && made->release) {
        made->release(made->adopted);
    }
    pier__free(made);
}
