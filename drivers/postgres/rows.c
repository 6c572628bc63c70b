/*
 * Blocks over PGresults. Nothing is decoded before it is asked for.
 */
#include "drivers/postgres/rows.h"

#include "drivers/postgres/decode.h"
#include "sdk/alloc.h"
#include <string.h>

typedef struct rows {
    pier_result base;
    PGresult *result; /* all rows; of a builder's block the first one, for the columns */
    /* A builder's. */
    pier__postgres_cell *cells;
    char *data;
    unsigned char kinds[]; /* pier__postgres_kind of each column */
} rows;

static const char *column_name(const pier_result *block, int column)
{
    return PQfname(((const rows *)block)->result, column);
}

static bool set_null(pier_value *value)
{
    *value = pier_null();
    return true;
}

static bool whole_cell(const pier_result *block, size_t row, int column, pier_value *value,
                       pier_error *err)
{
    const rows *self = (const rows *)block;
    const PGresult *result = self->result;
    int size = PQgetlength(result, (int)row, column);
    if (size == 0 && PQgetisnull(result, (int)row, column)) {
        return set_null(value);
    }
    return pier__postgres_decode(block, self->kinds[column], PQgetvalue(result, (int)row, column),
                                 (size_t)size, value, err);
}

static void whole_free(pier_result *block)
{
    PQclear(((rows *)block)->result);
}

static const pier__rows_class whole_class = {
    .cell = whole_cell,
    .column_name = column_name,
    .free = whole_free,
};

static bool built_cell(const pier_result *block, size_t row, int column, pier_value *value,
                       pier_error *err)
{
    const rows *self = (const rows *)block;
    const pier__postgres_cell *cell = &self->cells[row * (size_t)block->columns + (size_t)column];
    if (cell->size < 0) {
        return set_null(value);
    }
    return pier__postgres_decode(block, self->kinds[column], self->data + cell->offset,
                                 (size_t)cell->size, value, err);
}

static void built_free(pier_result *block)
{
    rows *self = (rows *)block;
    PQclear(self->result);
    pier__free(self->cells);
    pier__free(self->data);
}

static const pier__rows_class built_class = {
    .cell = built_cell,
    .column_name = column_name,
    .free = built_free,
};

static void read_kinds(rows *self, const PGresult *result, int columns)
{
    for (int i = 0; i < columns; i++) {
        self->kinds[i] =
            (unsigned char)pier__postgres_kind_of(PQftype(result, i), PQfformat(result, i) != 0);
    }
}

/* NULL: no memory; `result` is still the caller's. */
static rows *new_rows(const pier__rows_class *cls, PGresult *result, size_t count,
                      const unsigned char *kinds, int kind_count, void *room, size_t room_size)
{
    int columns = PQnfields(result);
    bool embedded = sizeof(rows) + (size_t)columns <= room_size;
    rows *self = embedded ? room : pier__malloc(sizeof *self + (size_t)columns);
    if (!self) {
        return NULL;
    }
    if (!pier__result_init(&self->base, cls, count, columns)) {
        if (!embedded) {
            pier__free(self);
        }
        return NULL;
    }
    self->base.embedded = embedded;
    self->result = result;
    self->cells = NULL;
    self->data = NULL;
    if (kinds && kind_count == columns) {
        memcpy(self->kinds, kinds, (size_t)columns);
    } else {
        read_kinds(self, result, columns);
    }
    return self;
}

pier_result *pier__postgres_rows(PGresult *result, const unsigned char *kinds, int count,
                                 void *room, size_t room_size)
{
    rows *self =
        new_rows(&whole_class, result, (size_t)PQntuples(result), kinds, count, room, room_size);
    if (!self) {
        PQclear(result);
        return NULL;
    }
    return &self->base;
}

/* Makes room for `more` items of `size` bytes behind `count`: `least` at first. NULL: no memory,
 * and the old memory stays. */
static void *grow(void *items, size_t *room, size_t count, size_t more, size_t size, size_t least)
{
    size_t wanted = *room ? *room * 2 : least;
    while (wanted < count + more) {
        wanted *= 2;
    }
    void *memory = pier__realloc(items, wanted * size);
    if (memory) {
        *room = wanted;
    }
    return memory;
}

/* Most values are small, and a call for each costs more than the copying. Never reads or writes
 * beyond `size`, which is 1 or more. */
static inline void copy_small(char *to, const char *from, size_t size)
{
    uint64_t head, tail;
    if (size >= 8 && size <= 16) {
        memcpy(&head, from, 8);
        memcpy(&tail, from + size - 8, 8);
        memcpy(to, &head, 8);
        memcpy(to + size - 8, &tail, 8);
    } else if (size >= 4 && size < 8) {
        uint32_t start, end;
        memcpy(&start, from, 4);
        memcpy(&end, from + size - 4, 4);
        memcpy(to, &start, 4);
        memcpy(to + size - 4, &end, 4);
    } else {
        memcpy(to, from, size);
    }
}

static bool make_data_room(pier__postgres_builder *builder, size_t size)
{
    size_t least = builder->data_hint > 4096 ? builder->data_hint : 4096;
    char *data = grow(builder->data, &builder->data_room, builder->data_size, size, 1, least);
    builder->data = data ? data : builder->data;
    return data != NULL;
}

static bool make_cell_room(pier__postgres_builder *builder, size_t columns)
{
    size_t least = builder->cell_hint > 256 ? builder->cell_hint : 256;
    pier__postgres_cell *cells = grow(builder->cells, &builder->cell_room, builder->cell_count,
                                      columns, sizeof *cells, least);
    builder->cells = cells ? cells : builder->cells;
    return cells != NULL;
}

static bool copy_cell(pier__postgres_builder *builder, const PGresult *row, int column,
                      pier__postgres_cell *cell)
{
    int length = PQgetlength(row, 0, column);
    cell->offset = (uint32_t)builder->data_size;
    cell->size = length;
    if (length == 0 && PQgetisnull(row, 0, column)) {
        cell->size = -1;
        return true;
    }
    size_t size = (size_t)length + 1; /* libpq puts a zero byte behind every value */
    if (builder->data_room - builder->data_size < size && !make_data_room(builder, size)) {
        return false;
    }
    copy_small(builder->data + builder->data_size, PQgetvalue(row, 0, column), size);
    builder->data_size += size;
    return true;
}

bool pier__postgres_builder_add(pier__postgres_builder *builder, PGresult *row)
{
    int columns = PQnfields(row);
    bool fits = builder->cell_room - builder->cell_count >= (size_t)columns ||
                make_cell_room(builder, (size_t)columns);
    pier__postgres_cell *cell = builder->cells + builder->cell_count;
    for (int i = 0; fits && i < columns; i++) {
        fits = copy_cell(builder, row, i, cell++);
    }
    if (fits) {
        builder->cell_count += (size_t)columns;
        builder->count++;
    }
    if (builder->first) {
        PQclear(row);
    } else {
        builder->first = row;
    }
    return fits;
}

pier_result *pier__postgres_builder_take(pier__postgres_builder *builder)
{
    rows *self = new_rows(&built_class, builder->first, builder->count, NULL, 0, NULL, 0);
    if (!self) {
        return NULL;
    }
    self->cells = builder->cells;
    self->data = builder->data;
    *builder = (pier__postgres_builder){.cell_hint = builder->cell_count,
                                        .data_hint = builder->data_size + builder->data_size / 8};
    return &self->base;
}

void pier__postgres_builder_fini(pier__postgres_builder *builder)
{
    PQclear(builder->first);
    pier__free(builder->cells);
    pier__free(builder->data);
    memset(builder, 0, sizeof *builder);
}
