/*
 * Rows into structs. Which column a member comes from is found once for a whole result.
 */
#include <pier/struct.h>

#include "sdk/alloc.h"
#include "sdk/row.h"
#include <stdlib.h>
#include <string.h>

/* As many as a row may have variables (sdk/row.c). */
enum { MEMBERS_MAX = 64 };

/* Makes the list of places for pier_row_into: one for each column up to the last one wanted. */
static int map_columns(const pier_result *block, const pier_member *members, size_t count,
                       int *column_of, pier_error *err)
{
    if (count > MEMBERS_MAX) {
        return pier_error_set(err, PIER_EINVAL, "%zu members; %d are the most", count, MEMBERS_MAX);
    }
    for (size_t i = 0; i < count; i++) {
        column_of[i] = -1;
        for (int column = 0; column < block->columns && column_of[i] < 0; column++) {
            const char *name = block->cls->column_name(block, column);
            if (name && strcmp(name, members[i].column) == 0) {
                column_of[i] = column;
            }
        }
        if (column_of[i] < 0) {
            return pier_error_set(err, PIER_EINVAL, "the rows have no column \"%s\"",
                                  members[i].column);
        }
    }
    return 0;
}

static int read_mapped(const pier_row *row, const pier_member *members, size_t count,
                       const int *column_of, void *to, pier_error *err)
{
    pier_into items[MEMBERS_MAX];
    for (size_t i = 0; i < count; i++) {
        items[i] = pier__into(members[i].type, (char *)to + members[i].offset, members[i].size);
    }
    return pier__row_read(row, items, column_of, count, err);
}

int pier_row_struct(const pier_row *row, const pier_member *members, size_t count, void *to,
                    pier_error *err)
{
    if (!row) {
        return pier__error_null(err, "the row");
    }
    int column_of[MEMBERS_MAX];
    int status = map_columns(row->block, members, count, column_of, err);
    return status < 0 ? status : read_mapped(row, members, count, column_of, to, err);
}

static void free_texts(const pier_member *members, size_t count, char *element)
{
    for (size_t i = 0; i < count; i++) {
        if (members[i].type == PIER__INTO_TEXT) {
            free(*(char **)(void *)(element + members[i].offset));
        }
    }
}

void pier_structs_free(const pier_member *members, size_t count, size_t size, void *array,
                       int64_t elements)
{
    for (int64_t i = 0; array && i < elements; i++) {
        free_texts(members, count, (char *)array + (size_t)i * size);
    }
    pier__free(array);
}

int64_t pier_result_structs(const pier_result *result, const pier_member *members, size_t count,
                            size_t size, void **array, pier_error *err)
{
    if (!result) {
        return pier__error_null(err, "the result");
    }
    int column_of[MEMBERS_MAX];
    int status = map_columns(result, members, count, column_of, err);
    if (status < 0) {
        return status;
    }
    *array = NULL;
    if (result->count == 0) {
        return 0;
    }
    char *elements = pier__calloc(result->count, size);
    if (!elements) {
        return pier_error_set(err, PIER_ENOMEM, "pier_result_structs: out of memory");
    }
    for (size_t i = 0; i < result->count; i++) {
        status = read_mapped(&result->rows[i], members, count, column_of, elements + i * size, err);
        if (status < 0) {
            pier_structs_free(members, count, size, elements, (int64_t)i);
            return status;
        }
    }
    *array = elements;
    return (int64_t)result->count;
}
