/*
 * RowDescription: for each column its name, and 18 bytes of numbers.
 */
#include "drivers/postgres/columns.h"

#include "drivers/postgres/decode.h"
#include "drivers/postgres/wire.h"
#include "sdk/alloc.h"
#include <string.h>

enum { NUMBERS = 18, TYPE_AT = 6, MODIFIER_AT = 12, FORMAT_AT = 16 };

/* The bytes of all names, with their zeros; SIZE_MAX: it is malformed. */
static size_t measure(const char *at, const char *end, int count)
{
    size_t names = 0;
    for (int i = 0; i < count; i++) {
        const char *zero = memchr(at, 0, (size_t)(end - at));
        if (!zero || end - zero - 1 < NUMBERS) {
            return SIZE_MAX;
        }
        names += (size_t)(zero + 1 - at);
        at = zero + 1 + NUMBERS;
    }
    return at == end ? names : SIZE_MAX;
}

static pier__postgres_columns *allocate(int count, size_t names)
{
    size_t n = (size_t)count;
    pier__postgres_columns *columns =
        pier__malloc(sizeof *columns +
                     n * (sizeof(char *) + sizeof(Oid) + sizeof(int32_t) + 3) + names);
    if (!columns) {
        return NULL;
    }
    atomic_init(&columns->refs, 1);
    columns->count = count;
    columns->unreadable = false;
    columns->names = (const char **)(columns + 1);
    columns->types = (Oid *)(columns->names + n);
    columns->modifiers = (int32_t *)(columns->types + n);
    columns->as_sent = (unsigned char *)(columns->modifiers + n);
    columns->as_wanted = columns->as_sent + n;
    columns->formats = columns->as_wanted + n;
    return columns;
}

static void fill(pier__postgres_columns *columns, const char *at)
{
    char *names = (char *)columns->formats + columns->count;
    for (int i = 0; i < columns->count; i++) {
        size_t size = strlen(at) + 1;
        columns->names[i] = memcpy(names, at, size);
        names += size;
        at += size;
        columns->types[i] = pier__get32(at + TYPE_AT);
        columns->modifiers[i] = (int32_t)pier__get32(at + MODIFIER_AT);
        bool binary = pier__get16(at + FORMAT_AT) == 1;
        columns->unreadable |= binary && !pier__postgres_has_binary(columns->types[i]);
        columns->as_sent[i] =
            (unsigned char)pier__postgres_kind_of(columns->types[i], binary);
        at += NUMBERS;
    }
}

/* Binary wherever it can be read here. */
static void choose_formats(pier__postgres_columns *columns, bool alike)
{
    int binary = 0;
    for (int i = 0; i < columns->count; i++) {
        columns->formats[i] = pier__postgres_has_binary(columns->types[i]);
        binary += columns->formats[i];
    }
    columns->mixed = !alike && binary > 0 && binary < columns->count;
    columns->binary = columns->count > 0 && binary == columns->count;
    for (int i = 0; i < columns->count; i++) {
        columns->formats[i] = columns->mixed ? columns->formats[i] : columns->binary;
        columns->as_wanted[i] =
            (unsigned char)pier__postgres_kind_of(columns->types[i], columns->formats[i] != 0);
    }
}

pier__postgres_columns *pier__postgres_columns_new(const char *body, size_t size, bool alike,
                                                   bool *malformed)
{
    int count = size >= 2 ? pier__get16(body) : 0;
    size_t names = size >= 2 ? measure(body + 2, body + size, count) : SIZE_MAX;
    *malformed = names == SIZE_MAX;
    pier__postgres_columns *columns = *malformed ? NULL : allocate(count, names);
    if (columns) {
        fill(columns, body + 2);
        choose_formats(columns, alike);
    }
    return columns;
}

void pier__postgres_columns_unref(pier__postgres_columns *columns)
{
    if (columns && atomic_fetch_sub_explicit(&columns->refs, 1, memory_order_acq_rel) == 1) {
        pier__free(columns);
    }
}
