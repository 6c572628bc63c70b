#ifndef PIER_DRIVERS_SQLITE_ROWS_H
#define PIER_DRIVERS_SQLITE_ROWS_H
/*
 * Rows are collected in a builder, whose memory stays with the connection, and leave it as a block.
 * A small block is copied into one allocation of the right size; a large one takes the builder's
 * memory with it.
 */
#include "sdk/row.h"
#include <sqlite3.h>

/* The names of a statement's columns, shared by the statement and its blocks. */
typedef struct pier__sqlite_names {
    atomic_int refs;
    int count;
    size_t text_size;   /* of all texts, which follow one another */
    const char *name[]; /* the texts stand behind them */
} pier__sqlite_names;

/* NULL: no memory. */
pier__sqlite_names *pier__sqlite_names_new(sqlite3_stmt *stmt);
/* The name of one column, a constant; NULL: no memory. */
pier__sqlite_names *pier__sqlite_names_of(const char *name);
pier__sqlite_names *pier__sqlite_names_ref(pier__sqlite_names *names);
void pier__sqlite_names_unref(pier__sqlite_names *names);

/* A value as it was stored: 16 bytes. */
typedef struct pier__sqlite_cell {
    union {
        int64_t i;
        double d;
        uint64_t offset; /* of text and bytes in the data, with a zero byte behind them */
    } as;
    uint32_t size;
    uint32_t type; /* a pier_type */
} pier__sqlite_cell;

typedef struct pier__sqlite_builder {
    pier__sqlite_cell *cells;
    char *data;
    size_t cell_count, cell_room;
    size_t data_size, data_room;
    size_t rows;
} pier__sqlite_builder;

void pier__sqlite_builder_fini(pier__sqlite_builder *builder);
/* Forgets the rows collected; keeps the memory. */
void pier__sqlite_builder_clear(pier__sqlite_builder *builder);
/* Adds the row that the statement stands on. False: no memory. */
bool pier__sqlite_builder_add(pier__sqlite_builder *builder, sqlite3_stmt *stmt, int columns);
/* Adds a row of one text. The same. */
bool pier__sqlite_builder_add_text(pier__sqlite_builder *builder, const char *text, size_t size);
/* How many bytes the rows collected take. */
static inline size_t pier__sqlite_builder_bytes(const pier__sqlite_builder *builder)
{
    return builder->cell_count * sizeof *builder->cells + builder->data_size;
}
/* Makes a block of the rows collected and clears the builder; NULL: no memory. `names` may be NULL
 * where there are no columns. */
pier_result *pier__sqlite_builder_take(pier__sqlite_builder *builder, int columns,
                                       pier__sqlite_names *names);
/* The same for a block that somebody reads and frees while the room lives: it stands in there where
 * it has one row at most and is small enough. */
pier_result *pier__sqlite_builder_take_into(pier__sqlite_builder *builder,
                                            pier__sqlite_names *names, void *room,
                                            size_t room_size);

#endif
