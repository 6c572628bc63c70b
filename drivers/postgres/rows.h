#ifndef PIER_DRIVERS_POSTGRES_ROWS_H
#define PIER_DRIVERS_POSTGRES_ROWS_H
/*
 * Blocks of rows. A whole result is a block as libpq made it. Rows that come one by one, each in a
 * PGresult of 2 KB, are copied into a builder, which becomes a block when enough are there.
 */
#include "sdk/row.h"
#include <libpq-fe.h>

/* Takes the result, also where it fails. Made in `room`, of `room_size` bytes, where it
 * fits in. `kinds` are those of its `count` columns, copied, or NULL
 * where they are not known. NULL: no memory. */
pier_result *pier__postgres_rows(PGresult *result, const unsigned char *kinds, int count,
                                 void *room, size_t room_size);

/* One cell of a builder. */
typedef struct pier__postgres_cell {
    uint32_t offset; /* in the data */
    int32_t size;    /* -1: NULL */
} pier__postgres_cell;

/* Zeroed memory is an empty builder. */
typedef struct pier__postgres_builder {
    PGresult *first; /* has the names and types of the columns */
    size_t count;    /* of rows */
    pier__postgres_cell *cells;
    size_t cell_count, cell_room;
    char *data;
    size_t data_size, data_room;
    size_t cell_hint, data_hint; /* what the last block needed */
} pier__postgres_builder;

/* Adds the row of a single-row result, which it takes. False: no memory. */
bool pier__postgres_builder_add(pier__postgres_builder *builder, PGresult *row);
/* Makes a block of the rows and empties the builder. NULL: no memory. */
pier_result *pier__postgres_builder_take(pier__postgres_builder *builder);
void pier__postgres_builder_fini(pier__postgres_builder *builder);

#endif
