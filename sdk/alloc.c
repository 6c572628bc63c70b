/*
 * The library's allocations. The gate is for tests only and costs one relaxed load.
 */
#include "sdk/alloc.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(pier__alloc_gate) gate;

void pier__alloc_set_gate(pier__alloc_gate new_gate)
{
    atomic_store(&gate, new_gate);
}

static bool refused(size_t size)
{
    pier__alloc_gate ask = atomic_load_explicit(&gate, memory_order_relaxed);
    return ask && ask(size);
}

void *pier__malloc(size_t size)
{
    return refused(size) ? NULL : malloc(size ? size : 1);
}

void *pier__calloc(size_t count, size_t size)
{
    /* glibc's calloc passes its thread's cache by, which costs a small block several times what
     * clearing it does. */
    enum { SMALL = 1024 };
    if (count == 1 && size <= SMALL) {
        void *memory = pier__malloc(size);
        return memory ? memset(memory, 0, size) : NULL;
    }
    return refused(size) ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *pier__realloc(void *memory, size_t size)
{
    return refused(size) ? NULL : realloc(memory, size ? size : 1);
}

void pier__free(void *memory)
{
    free(memory);
}

char *pier__memdup(const void *data, size_t size)
{
    char *copy = size < SIZE_MAX ? pier__malloc(size + 1) : NULL;
    if (copy) {
        if (size) {
            memcpy(copy, data, size);
        }
        copy[size] = '\0';
    }
    return copy;
}

char *pier__strdup(const char *text)
{
    return pier__memdup(text, strlen(text));
}
