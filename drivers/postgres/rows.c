/*
 * Blocks over the bytes that the server sent. Nothing is decoded before it is asked for.
 */
#include "drivers/postgres/rows.h"

#include "drivers/postgres/decode.h"
#include "drivers/postgres/wire.h"
#include "sdk/alloc.h"
#include <string.h>

enum {
    CELLS_LEAST = 256,
    COPIED_MAX = 4096 /* bytes of a block that is a copy; a buffer of its own costs about as much */
};

typedef struct rows {
    pier_result base;
    pier__postgres_columns *columns;
    const unsigned char *kinds; /* of the columns, in theirs */
    pier__postgres_cell *cells;
    const char *data;
    char *buffer; /* that the data is in; NULL: it stands behind this, as the cells do */
} rows;

/* ---- Reading ------------------------------------------------------------------------------ */

static const char *column_name(const pier_result *block, int column)
{
    return ((const rows *)block)->columns->names[column];
}

static bool cell(const pier_result *block, size_t row, int column, pier_value *value,
                 pier_error *err)
{
    const rows *self = (const rows *)block;
    const pier__postgres_cell *at = &self->cells[row * (size_t)block->columns + (size_t)column];
    if (at->size < 0) {
        *value = pier_null();
        return true;
    }
    return pier__postgres_decode(block, self->kinds[column], self->data + at->offset,
                                 (size_t)at->size, value, err);
}

static void free_rows(pier_result *block)
{
    rows *self = (rows *)block;
    pier__postgres_columns_unref(self->columns);
    if (self->buffer) {
        pier__free(self->cells);
        pier__free(self->buffer);
    }
}

static const pier__rows_class rows_class = {
    .cell = cell,
    .column_name = column_name,
    .free = free_rows,
};

/* ---- Collecting --------------------------------------------------------------------------- */

static bool make_cell_room(pier__postgres_builder *builder, size_t more)
{
    size_t room = builder->cell_room ? builder->cell_room * 2 : builder->cell_hint;
    room = room > CELLS_LEAST ? room : CELLS_LEAST;
    while (room < builder->cell_count + more) {
        room *= 2;
    }
    pier__postgres_cell *cells = pier__realloc(builder->cells, room * sizeof *cells);
    if (!cells) {
        return false;
    }
    builder->cells = cells;
    builder->cell_room = room;
    return true;
}

pier__postgres_added pier__postgres_builder_add(pier__postgres_builder *builder,
                                                pier__postgres_transport *transport, char *body,
                                                size_t size, int columns)
{
    if (size < 2 || pier__get16(body) != columns) {
        return PIER__ADDED_MALFORMED;
    }
    if (builder->cell_room - builder->cell_count < (size_t)columns &&
        !make_cell_room(builder, (size_t)columns)) {
        return PIER__ADDED_NOMEM;
    }
    char *at = body + 2, *end = body + size;
    if (builder->count == 0) {
        transport->in_keep = (size_t)(at - transport->in);
    }
    const char *start = transport->in + transport->in_keep;
    if ((size_t)(end - start) > UINT32_MAX) {
        return PIER__ADDED_TOO_MUCH;
    }
    pier__postgres_cell *to = builder->cells + builder->cell_count;
    for (int i = 0; i < columns; i++, to++) {
        if (end - at < 4) {
            return PIER__ADDED_MALFORMED;
        }
        int32_t length = (int32_t)pier__get32(at);
        *at = 0; /* behind the cell before */
        at += 4;
        to->offset = (uint32_t)(at - start);
        to->size = length;
        if (length > 0) {
            if (length > end - at) {
                return PIER__ADDED_MALFORMED;
            }
            at += length;
        }
    }
    if (at != end) {
        return PIER__ADDED_MALFORMED;
    }
    builder->cell_count += (size_t)columns;
    builder->count++;
    builder->size = (size_t)(end - start);
    return PIER__ADDED;
}

void pier__postgres_builder_fini(pier__postgres_builder *builder)
{
    pier__free(builder->cells);
    memset(builder, 0, sizeof *builder);
}

/* ---- Blocks ------------------------------------------------------------------------------- */

/* A struct with `more` bytes behind it; NULL: no memory. */
static rows *new_rows(size_t count, int columns, size_t more, void *room, size_t room_size)
{
    bool embedded = sizeof(rows) + more <= room_size;
    rows *self = embedded ? room : pier__malloc(sizeof *self + more);
    if (!self) {
        return NULL;
    }
    if (!pier__result_init(&self->base, &rows_class, count, columns)) {
        if (!embedded) {
            pier__free(self);
        }
        return NULL;
    }
    self->base.embedded = embedded;
    return self;
}

static rows *copy_rows(const pier__postgres_builder *builder,
                       const pier__postgres_transport *transport, int columns, void *room,
                       size_t room_size)
{
    size_t cells_size = builder->cell_count * sizeof *builder->cells;
    rows *self =
        new_rows(builder->count, columns, cells_size + builder->size + 1, room, room_size);
    if (!self) {
        return NULL;
    }
    self->cells = (pier__postgres_cell *)(self + 1);
    if (builder->cell_count > 0) {
        memcpy(self->cells, builder->cells, cells_size);
    }
    char *data = (char *)(self + 1) + cells_size;
    if (builder->size > 0) {
        memcpy(data, transport->in + transport->in_keep, builder->size);
    }
    data[builder->size] = 0;
    self->data = data;
    self->buffer = NULL;
    return self;
}

static rows *take_rows(pier__postgres_builder *builder, pier__postgres_transport *transport,
                       int columns)
{
    rows *self = new_rows(builder->count, columns, 0, NULL, 0);
    if (!self) {
        return NULL;
    }
    size_t start = transport->in_keep;
    self->buffer = pier__postgres_transport_take(transport);
    if (!self->buffer) {
        self->columns = NULL;
        self->cells = NULL;
        pier_result_free(&self->base);
        return NULL;
    }
    self->data = self->buffer + start;
    self->cells = builder->cells;
    builder->cell_hint = builder->cell_count;
    builder->cells = NULL;
    builder->cell_room = 0;
    return self;
}

pier_result *pier__postgres_rows(pier__postgres_builder *builder,
                                 pier__postgres_transport *transport,
                                 pier__postgres_columns *columns, const unsigned char *kinds,
                                 void *room, size_t room_size)
{
    int column_count = columns ? columns->count : 0;
    size_t size = builder->cell_count * sizeof *builder->cells + builder->size;
    rows *self = size <= COPIED_MAX ? copy_rows(builder, transport, column_count, room, room_size)
                                    : take_rows(builder, transport, column_count);
    if (!self) {
        return NULL;
    }
    self->columns = pier__postgres_columns_ref(columns);
    self->kinds = kinds;
    pier__postgres_builder_clear(builder);
    return &self->base;
}
