#ifndef PIER_DRIVERS_POSTGRES_COLUMNS_H
#define PIER_DRIVERS_POSTGRES_COLUMNS_H
/*
 * The columns of a result, as the server describes them. Shared by the statement and by the blocks
 * of its rows, on any thread.
 */
#include <postgres_ext.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct pier__postgres_columns {
    atomic_int refs;
    int count;
    bool unreadable; /* some come in a binary format that is not known here */
    bool mixed;  /* not all of them are asked for in the same format */
    bool binary; /* the format of all, where it is not mixed */
    /* Arrays of `count`, behind this struct. */
    Oid *types;
    int32_t *modifiers;
    const char **names;
    unsigned char *as_sent;   /* a pier__postgres_kind each, in the formats of the description */
    unsigned char *as_wanted; /* the same in those that are asked for */
    unsigned char *formats;   /* and those: 1 is binary */
} pier__postgres_columns;

/* From the body of a RowDescription. `alike`: all are to be asked for in one format. NULL: no
 * memory, or where `*malformed` is set it is none. */
pier__postgres_columns *pier__postgres_columns_new(const char *body, size_t size, bool alike,
                                                   bool *malformed);

static inline pier__postgres_columns *pier__postgres_columns_ref(pier__postgres_columns *columns)
{
    if (columns) {
        atomic_fetch_add_explicit(&columns->refs, 1, memory_order_relaxed);
    }
    return columns;
}

/* NULL is harmless. */
void pier__postgres_columns_unref(pier__postgres_columns *columns);

#endif
