#ifndef PIER_SDK_ALLOC_H
#define PIER_SDK_ALLOC_H
/*
 * Every allocation of the library goes through here, so that tests can let each one fail in turn.
 */
#include <stdbool.h>
#include <stddef.h>

void *pier__malloc(size_t size);
void *pier__calloc(size_t count, size_t size);
void *pier__realloc(void *memory, size_t size);
void pier__free(void *memory);
char *pier__strdup(const char *text);
/* A copy of `size` bytes with a zero byte behind it. */
char *pier__memdup(const void *data, size_t size);

/* From now on the program cannot choose another allocator. */
void pier__alloc_in_use(void);

/* For tests: asked before each allocation; true lets it fail. NULL ends that. */
typedef bool (*pier__alloc_gate)(size_t size);
void pier__alloc_set_gate(pier__alloc_gate gate);
/* Asks it, for who uses memory again instead of allocating. */
bool pier__alloc_refused(size_t size);

#endif
