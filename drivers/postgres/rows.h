#ifndef PIER_DRIVERS_POSTGRES_ROWS_H
#define PIER_DRIVERS_POSTGRES_ROWS_H
/*
 * Blocks of rows. The server's bytes are not copied: while rows come in, a builder notes where each
 * cell stands in the transport's buffer, and then buffer and notes become a block. Only few rows
 * are copied, into a block of their own size.
 */
#include "drivers/postgres/columns.h"
#include "drivers/postgres/transport.h"
#include "sdk/row.h"

/* One cell. Behind its last byte stands a zero: instead of the first byte of the size of the cell
 * that follows, or of the letter of the message that does, both of which have been read then. */
typedef struct pier__postgres_cell {
    uint32_t offset; /* behind the transport's `in_keep` */
    int32_t size;    /* -1: NULL */
} pier__postgres_cell;

/* Zeroed memory is an empty builder. */
typedef struct pier__postgres_builder {
    size_t count; /* of rows */
    size_t size;  /* bytes from `in_keep` to the end of the last row */
    pier__postgres_cell *cells;
    size_t cell_count, cell_room, cell_hint;
} pier__postgres_builder;

typedef enum pier__postgres_added {
    PIER__ADDED,
    PIER__ADDED_NOMEM,
    PIER__ADDED_TOO_MUCH, /* the rows have more than 4 GB */
    PIER__ADDED_MALFORMED
} pier__postgres_added;

/* Adds the row in the body of a DataRow that stands in the transport's buffer. */
pier__postgres_added pier__postgres_builder_add(pier__postgres_builder *builder,
                                                pier__postgres_transport *transport, char *body,
                                                size_t size, int columns);
/* Forgets the rows. */
static inline void pier__postgres_builder_clear(pier__postgres_builder *builder)
{
    builder->count = builder->size = builder->cell_count = 0;
}
void pier__postgres_builder_fini(pier__postgres_builder *builder);

/* Makes a block of the rows, none of which are left then, in `room` (of `room_size` bytes) where it
 * fits. `columns`, of which it takes a reference of its own, may be NULL where there is no row;
 * `kinds` is one of their arrays. NULL: no memory. */
pier_result *pier__postgres_rows(pier__postgres_builder *builder,
                                 pier__postgres_transport *transport,
                                 pier__postgres_columns *columns, const unsigned char *kinds,
                                 void *room, size_t room_size);

#endif
