#ifndef PIER_SDK_ROW_H
#define PIER_SDK_ROW_H
/*
 * Rows travel in blocks: a driver's struct that begins with a pier_result, handed over by pointer.
 * The public getters ask the driver for one cell at a time; conversions and failures are dealt with
 * here, once for all drivers.
 */
#include "sdk/error.h"
#include <pier/row.h>
#include <stdatomic.h>

/* A row is one pointer in an array that its block owns; its number is its place in that array. */
struct pier_row {
    pier_result *block;
};

/* In the flags of a value that a driver gives: a double that is stored with a float's precision and
 * is written out with its digits. */
enum { PIER__VALUE_SINGLE = 1 };

typedef struct pier__rows_class {
    /* Reads a cell that exists. Text must have a zero byte behind it. False: `err` is filled. */
    bool (*cell)(const pier_result *block, size_t row, int column, pier_value *value,
                 pier_error *err);
    const char *(*column_name)(const pier_result *block, int column);
    void (*free)(pier_result *block); /* all but the fields below and the block itself */
} pier__rows_class;

struct pier_result {
    const pier__rows_class *cls;
    size_t count;
    int columns;
    bool embedded;            /* its memory is somebody else's; false after pier__result_init */
    int64_t changes, last_id; /* of the statement, set when it has ended; 0 in a cursor's blocks */
    pier_row *rows;           /* count of them; made by pier__result_init */
    pier_row only;            /* the array of a block of one row */
    /* Written by getters, from any thread. */
    _Atomic(pier_error *) failure;           /* the first */
    _Atomic(struct pier__scratch *) scratch; /* numbers written out as text */
};

/* Sets up the part above; false: no memory. The driver has allocated the block with
 * pier__malloc; pier_result_free calls cls->free and then frees it. */
bool pier__result_init(pier_result *block, const pier__rows_class *cls, size_t count, int columns);

/* Memory that lives as long as the block, for a driver's conversions; NULL: no memory. */
void *pier__result_scratch(const pier_result *block, size_t size);

/* Reads columns (NULL: the first `count`) into places, 64 at most: all of them or none. */
int pier__row_read(const pier_row *row, const pier_into *items, const int *columns, size_t count,
                   pier_error *err);

static inline size_t pier__row_index(const pier_row *row)
{
    return (size_t)(row - row->block->rows);
}

#endif
