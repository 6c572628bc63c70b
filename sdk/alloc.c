/*
 * The library's allocations. The gate is for tests only and costs one relaxed load.
 */
#include "sdk/alloc.h"

#include <pier/hooks.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(pier__alloc_gate) gate;

void pier__alloc_set_gate(pier__alloc_gate new_gate)
{
    atomic_store(&gate, new_gate);
}

/* The program's allocator, which cannot change once there is a runner. */
static pier_allocator allocator;
static atomic_bool in_use;

void pier__alloc_in_use(void)
{
    atomic_store(&in_use, true);
}

int pier_allocator_set(const pier_allocator *chosen)
{
    if (atomic_load(&in_use)) {
        return PIER_EBUSY;
    }
    memset(&allocator, 0, sizeof allocator);
    if (chosen) {
        allocator = *chosen;
    }
    return 0;
}

bool pier__alloc_refused(size_t size)
{
    pier__alloc_gate ask = atomic_load_explicit(&gate, memory_order_relaxed);
    return ask && ask(size);
}

void *pier__malloc(size_t size)
{
    if (pier__alloc_refused(size)) {
        return NULL;
    }
    size = size ? size : 1;
    return allocator.malloc_fn ? allocator.malloc_fn(size, allocator.user_data) : malloc(size);
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
    if (allocator.malloc_fn) {
        void *memory = size && count > SIZE_MAX / size ? NULL : pier__malloc(count * size);
        return memory ? memset(memory, 0, count * size) : NULL;
    }
    return pier__alloc_refused(size) ? NULL : calloc(count ? count : 1, size ? size : 1);
}

void *pier__realloc(void *memory, size_t size)
{
    if (pier__alloc_refused(size)) {
        return NULL;
    }
    size = size ? size : 1;
    return allocator.realloc_fn ? allocator.realloc_fn(memory, size, allocator.user_data)
                                : realloc(memory, size);
}

void pier__free(void *memory)
{
    if (!allocator.free_fn) {
        free(memory);
    } else if (memory) {
        allocator.free_fn(memory, allocator.user_data);
    }
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
