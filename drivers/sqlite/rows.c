/*
 * Rows: collected by whoever does the connection's work, then immutable and read by any thread.
 */
#include "drivers/sqlite/rows.h"

#include "sdk/alloc.h"
#include <string.h>

/* Up to this size a block is copied: that costs less than growing another buffer later. */
enum { COPIED_MAX = 4096 };
/* What a connection keeps after a large result that failed. */
enum { KEPT_MAX = 256 * 1024 };

typedef struct block {
    pier_result base; /* first */
    pier__sqlite_names *names;
    const pier__sqlite_cell *cells;
    const char *data;
    bool owns; /* cells and data are allocations of their own; else they stand behind this */
} block;

/* One in memory of somebody else's. Behind the cells stand the names' texts where there is room for
 * them, since sharing them costs two atomic additions, and the data. */
typedef struct small_block {
    pier_result base;          /* first */
    pier__sqlite_names *names; /* NULL: copied */
    const char *data;
    pier__sqlite_cell cells[];
} small_block;

/* ---- Names -------------------------------------------------------------------------------- */

/* NULL from SQLite means that it had no memory for the name. */
static bool measure_names(sqlite3_stmt *stmt, int count, size_t *size)
{
    for (int i = 0; i < count; i++) {
        const char *name = sqlite3_column_name(stmt, i);
        if (!name) {
            return false;
        }
        *size += sizeof name + strlen(name) + 1;
    }
    return true;
}

pier__sqlite_names *pier__sqlite_names_new(sqlite3_stmt *stmt)
{
    int count = sqlite3_column_count(stmt);
    size_t size = sizeof(pier__sqlite_names);
    pier__sqlite_names *names = measure_names(stmt, count, &size) ? pier__malloc(size) : NULL;
    if (!names) {
        return NULL;
    }
    atomic_init(&names->refs, 1);
    names->count = count;
    names->text_size = size - sizeof *names - (size_t)count * sizeof *names->name;
    char *text = (char *)(names->name + count);
    for (int i = 0; i < count; i++) {
        const char *name = sqlite3_column_name(stmt, i);
        size_t length = strlen(name) + 1;
        names->name[i] = memcpy(text, name, length);
        text += length;
    }
    return names;
}

pier__sqlite_names *pier__sqlite_names_of(const char *name)
{
    pier__sqlite_names *names = pier__malloc(sizeof *names + sizeof *names->name);
    if (names) {
        atomic_init(&names->refs, 1);
        names->count = 1;
        names->text_size = strlen(name) + 1;
        names->name[0] = name;
    }
    return names;
}

pier__sqlite_names *pier__sqlite_names_ref(pier__sqlite_names *names)
{
    atomic_fetch_add_explicit(&names->refs, 1, memory_order_relaxed);
    return names;
}

void pier__sqlite_names_unref(pier__sqlite_names *names)
{
    if (names && atomic_fetch_sub_explicit(&names->refs, 1, memory_order_acq_rel) == 1) {
        pier__free(names);
    }
}

/* ---- Collecting --------------------------------------------------------------------------- */

void pier__sqlite_builder_fini(pier__sqlite_builder *builder)
{
    pier__free(builder->cells);
    pier__free(builder->data);
    *builder = (pier__sqlite_builder){0};
}

void pier__sqlite_builder_clear(pier__sqlite_builder *builder)
{
    if (builder->cell_room * sizeof *builder->cells + builder->data_room > KEPT_MAX) {
        pier__sqlite_builder_fini(builder);
    }
    builder->cell_count = builder->data_size = builder->rows = 0;
}

static bool make_cell_room(pier__sqlite_builder *builder, size_t more)
{
    size_t room = builder->cell_room ? 2 * builder->cell_room : 64;
    while (room - builder->cell_count < more) {
        room *= 2;
    }
    void *cells = pier__realloc(builder->cells, room * sizeof *builder->cells);
    if (!cells) {
        return false;
    }
    builder->cells = cells;
    builder->cell_room = room;
    return true;
}

static bool make_data_room(pier__sqlite_builder *builder, size_t more)
{
    size_t room = builder->data_room ? 2 * builder->data_room : 1024;
    while (room - builder->data_size < more) {
        room *= 2;
    }
    void *data = pier__realloc(builder->data, room);
    if (!data) {
        return false;
    }
    builder->data = data;
    builder->data_room = room;
    return true;
}

static bool add_data(pier__sqlite_builder *builder, pier__sqlite_cell *cell, const void *data,
                     size_t size)
{
    if (builder->data_room - builder->data_size <= size && !make_data_room(builder, size + 1)) {
        return false;
    }
    cell->as.offset = builder->data_size;
    cell->size = (uint32_t)size;
    char *to = builder->data + builder->data_size;
    if (size) {
        memcpy(to, data, size);
    }
    to[size] = 0;
    builder->data_size += size + 1;
    return true;
}

/* The pointer is asked for before the size, which is that of the encoding asked for last. SQLite
 * gives NULL for bytes of no size, and for text that it had no memory to convert. */
static bool add_text(pier__sqlite_builder *builder, pier__sqlite_cell *cell, sqlite3_value *value)
{
    const unsigned char *text = sqlite3_value_text(value);
    cell->type = PIER_TEXT;
    return text && add_data(builder, cell, text, (size_t)sqlite3_value_bytes(value));
}

static bool add_bytes(pier__sqlite_builder *builder, pier__sqlite_cell *cell, sqlite3_value *value)
{
    const void *bytes = sqlite3_value_blob(value);
    size_t size = (size_t)sqlite3_value_bytes(value);
    cell->type = PIER_BYTES;
    return (bytes || !size) && add_data(builder, cell, bytes, size);
}

static bool add_cell(pier__sqlite_builder *builder, pier__sqlite_cell *cell, sqlite3_value *value)
{
    switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
        cell->type = PIER_INT64;
        cell->as.i = sqlite3_value_int64(value);
        return true;
    case SQLITE_FLOAT:
        cell->type = PIER_DOUBLE;
        cell->as.d = sqlite3_value_double(value);
        return true;
    case SQLITE_TEXT:
        return add_text(builder, cell, value);
    case SQLITE_BLOB:
        return add_bytes(builder, cell, value);
    default:
        cell->type = PIER_NULL;
        return true;
    }
}

/* A column is asked for once, as a value, and not for its type, value and size, which costs a
 * third less for a whole row. SQLite calls such values unprotected: by the connection's mutex,
 * which these connections do not have (SQLITE_OPEN_NOMUTEX). */
bool pier__sqlite_builder_add(pier__sqlite_builder *builder, sqlite3_stmt *stmt, int columns)
{
    if (builder->cell_room - builder->cell_count < (size_t)columns &&
        !make_cell_room(builder, (size_t)columns)) {
        return false;
    }
    pier__sqlite_cell *cell = builder->cells + builder->cell_count;
    for (int i = 0; i < columns; i++, cell++) {
        if (!add_cell(builder, cell, sqlite3_column_value(stmt, i))) {
            return false;
        }
    }
    builder->cell_count += (size_t)columns;
    builder->rows++;
    return true;
}

bool pier__sqlite_builder_add_text(pier__sqlite_builder *builder, const char *text, size_t size)
{
    if (builder->cell_room == builder->cell_count && !make_cell_room(builder, 1)) {
        return false;
    }
    pier__sqlite_cell *cell = builder->cells + builder->cell_count;
    cell->type = PIER_TEXT;
    if (!add_data(builder, cell, text, size)) {
        return false;
    }
    builder->cell_count++;
    builder->rows++;
    return true;
}

/* ---- Blocks ------------------------------------------------------------------------------- */

static inline bool read_value(const pier__sqlite_cell *cell, const char *data, pier_value *value)
{
    value->type = (int)cell->type;
    value->flags = 0;
    switch (cell->type) {
    case PIER_INT64:
        value->as.i = cell->as.i;
        break;
    case PIER_DOUBLE:
        value->as.d = cell->as.d;
        break;
    case PIER_TEXT:
    case PIER_BYTES:
        value->as.p.data = data + cell->as.offset;
        value->as.p.size = cell->size;
        break;
    default:
        break;
    }
    return true;
}

static bool read_cell(const pier_result *result, size_t row, int column, pier_value *value,
                      pier_error *err)
{
    (void)err;
    const block *from = (const block *)result;
    return read_value(from->cells + row * (size_t)result->columns + (size_t)column, from->data,
                      value);
}

static const char *read_name(const pier_result *result, int column)
{
    return ((const block *)result)->names->name[column];
}

static void free_block(pier_result *result)
{
    block *from = (block *)result;
    if (from->owns) {
        pier__free((void *)from->cells);
        pier__free((void *)from->data);
    }
    pier__sqlite_names_unref(from->names);
}

static const pier__rows_class rows_class = {
    .cell = read_cell,
    .column_name = read_name,
    .free = free_block,
};

static bool read_small_cell(const pier_result *result, size_t row, int column, pier_value *value,
                            pier_error *err)
{
    (void)err;
    const small_block *from = (const small_block *)result;
    return read_value(from->cells + row * (size_t)result->columns + (size_t)column, from->data,
                      value);
}

static const char *read_small_name(const pier_result *result, int column)
{
    const small_block *from = (const small_block *)result;
    if (from->names) {
        return from->names->name[column];
    }
    const char *name = (const char *)(from->cells + result->count * (size_t)result->columns);
    for (; column > 0; column--) {
        name += strlen(name) + 1;
    }
    return name;
}

static void free_small_block(pier_result *result)
{
    pier__sqlite_names_unref(((small_block *)result)->names);
}

static const pier__rows_class small_class = {
    .cell = read_small_cell,
    .column_name = read_small_name,
    .free = free_small_block,
};

/* Gives what doubling left over back to the allocator; where that fails it is merely kept. */
static void *shrink(void *memory, size_t used, size_t room)
{
    void *smaller = used && room - used > room / 4 ? pier__realloc(memory, used) : NULL;
    return smaller ? smaller : memory;
}

/* Has the block take the builder's memory. */
static void hand_over(pier__sqlite_builder *builder, block *to)
{
    to->cells = shrink(builder->cells, builder->cell_count * sizeof *builder->cells,
                       builder->cell_room * sizeof *builder->cells);
    to->data = shrink(builder->data, builder->data_size, builder->data_room);
    to->owns = true;
    *builder = (pier__sqlite_builder){0};
}

static void copy(const pier__sqlite_builder *builder, block *to)
{
    char *behind = (char *)(to + 1);
    size_t size = builder->cell_count * sizeof *builder->cells;
    to->cells = (const pier__sqlite_cell *)behind;
    to->data = behind + size;
    to->owns = false;
    if (size) {
        memcpy(behind, builder->cells, size);
    }
    if (builder->data_size) {
        memcpy(behind + size, builder->data, builder->data_size);
    }
}

pier_result *pier__sqlite_builder_take(pier__sqlite_builder *builder, int columns,
                                       pier__sqlite_names *names)
{
    size_t bytes = pier__sqlite_builder_bytes(builder);
    bool copied = bytes <= COPIED_MAX;
    block *made = pier__malloc(sizeof *made + (copied ? bytes : 0));
    if (!made) {
        return NULL;
    }
    memset(made, 0, sizeof *made);
    if (!pier__result_init(&made->base, &rows_class, builder->rows, columns)) {
        pier__free(made);
        return NULL;
    }
    made->names = names ? pier__sqlite_names_ref(names) : NULL;
    if (copied) {
        copy(builder, made);
        pier__sqlite_builder_clear(builder);
    } else {
        hand_over(builder, made);
    }
    return &made->base;
}

pier_result *pier__sqlite_builder_take_into(pier__sqlite_builder *builder,
                                            pier__sqlite_names *names, void *room, size_t room_size)
{
    small_block *made = room;
    size_t size = builder->cell_count * sizeof *builder->cells;
    size_t bytes = sizeof *made + size + builder->data_size;
    if (builder->rows > 1 || bytes > room_size) {
        return pier__sqlite_builder_take(builder, names->count, names);
    }
    pier__result_init(&made->base, &small_class, builder->rows, names->count); /* needs no memory */
    made->base.embedded = true;
    char *behind = (char *)made->cells;
    if (size) {
        memcpy(behind, builder->cells, size);
        behind += size;
    }
    if (names->count && bytes + names->text_size <= room_size) {
        made->names = NULL;
        memcpy(behind, names->name[0], names->text_size);
        behind += names->text_size;
    } else {
        made->names = pier__sqlite_names_ref(names);
    }
    made->data = behind;
    if (builder->data_size) {
        memcpy(behind, builder->data, builder->data_size);
    }
    pier__sqlite_builder_clear(builder);
    return &made->base;
}
