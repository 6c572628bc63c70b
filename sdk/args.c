/*
 * Copying arguments: values first, then all their text and bytes, in one allocation.
 */
#include "sdk/alloc.h"
#include "sdk/db.h"
#include <string.h>

static bool is_pointer(const pier_value *value)
{
    return value->type == PIER_TEXT || value->type == PIER_BYTES || value->type == PIER_NUMERIC;
}

pier_args *pier__args_copy(const pier_args *args)
{
    size_t size = sizeof(pier_args) + args->count * sizeof(pier_value);
    for (size_t i = 0; i < args->count; i++) {
        size += is_pointer(&args->values[i]) ? args->values[i].as.p.size + 1 : 0;
    }
    pier_args *copy = pier__malloc(size);
    if (!copy) {
        return NULL;
    }
    pier_value *values = (pier_value *)(copy + 1);
    char *bytes = (char *)(values + args->count);
    copy->count = args->count;
    copy->values = values;
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
    return copy;
}
