/*
 * Copying arguments: values first, then the names, then all their text and bytes, in one piece of
 * memory.
 */
#include "sdk/alloc.h"
#include "sdk/db.h"
#include <string.h>

static bool is_pointer(const pier_value *value)
{
    return value->type == PIER_TEXT || value->type == PIER_BYTES || value->type == PIER_NUMERIC;
}

size_t pier__args_size(const pier_args *args)
{
    size_t size = args->count * sizeof(pier_value);
    for (size_t i = 0; i < args->count; i++) {
        size += is_pointer(&args->values[i]) ? args->values[i].as.p.size + 1 : 0;
    }
    if (args->names) {
        for (size_t i = 0; i < args->count; i++) {
            size += sizeof(char *) + strlen(args->names[i]) + 1;
        }
    }
    return size;
}

static char *write_names(pier_args *copy, char *at, const pier_args *args)
{
    const char **names = (const char **)(void *)at;
    char *bytes = at + args->count * sizeof *names;
    copy->names = names;
    for (size_t i = 0; i < args->count; i++) {
        size_t size = strlen(args->names[i]) + 1;
        names[i] = memcpy(bytes, args->names[i], size);
        bytes += size;
    }
    return bytes;
}

void pier__args_write(pier_args *copy, void *memory, const pier_args *args)
{
    pier_value *values = memory;
    char *bytes = (char *)(values + args->count);
    copy->count = args->count;
    copy->values = values;
    copy->names = NULL;
    if (args->names) {
        bytes = write_names(copy, bytes, args);
    }
    for (size_t i = 0; i < args->count; i++) {
        values[i] = args->values[i];
        if (is_pointer(&values[i])) {
            if (values[i].as.p.size) {
                memcpy(bytes, values[i].as.p.data, values[i].as.p.size);
            }
            values[i].as.p.data = bytes;
            bytes += values[i].as.p.size;
            *bytes++ = '\0';
        }
    }
}

pier_args *pier__args_copy(const pier_args *args)
{
    pier_args *copy = pier__malloc(sizeof *copy + pier__args_size(args));
    if (copy) {
        pier__args_write(copy, copy + 1, args);
    }
    return copy;
}

/* So that what stands behind it is aligned. */
static size_t rounded_size(const pier_args *args)
{
    return (pier__args_size(args) + 7) & ~(size_t)7;
}

pier_args *pier__args_copy_rows(const pier_args *rows, size_t count)
{
    size_t size = count * sizeof *rows;
    for (size_t i = 0; i < count; i++) {
        size += rounded_size(&rows[i]);
    }
    pier_args *copy = pier__malloc(size ? size : 1);
    char *at = copy ? (char *)(copy + count) : NULL;
    for (size_t i = 0; copy && i < count; i++) {
        pier__args_write(&copy[i], at, &rows[i]);
        at += rounded_size(&rows[i]);
    }
    return copy;
}
