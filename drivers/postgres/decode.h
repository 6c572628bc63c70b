#ifndef PIER_DRIVERS_POSTGRES_DECODE_H
#define PIER_DRIVERS_POSTGRES_DECODE_H
/*
 * Cells as the server sent them, binary or text, as values.
 */
#include "sdk/row.h"
#include <postgres_ext.h>

/* How a column is read: by its type and by the format of the result. */
typedef enum pier__postgres_kind {
    PIER__KIND_TEXT = 0, /* as it stands; in text format also all that is unknown here */
    PIER__KIND_CHAR,
    PIER__KIND_BOOL,
    PIER__KIND_INT2,
    PIER__KIND_INT4,
    PIER__KIND_INT8,
    PIER__KIND_OID,
    PIER__KIND_FLOAT4,
    PIER__KIND_FLOAT8,
    PIER__KIND_BYTEA,
    PIER__KIND_JSONB,
    PIER__KIND_TEXT_BOOL, /* the same in text format */
    PIER__KIND_TEXT_INT,
    PIER__KIND_TEXT_FLOAT4,
    PIER__KIND_TEXT_FLOAT8,
    PIER__KIND_TEXT_NUMERIC,
    PIER__KIND_TEXT_BYTEA
} pier__postgres_kind;

pier__postgres_kind pier__postgres_kind_of(Oid type, bool binary);

/* Can values of this type be read in binary? */
bool pier__postgres_has_binary(Oid type);

/* Reads a cell that is not NULL; a zero byte stands behind `data`. What must be converted is kept
 * with `block`. False: `err` is filled. */
bool pier__postgres_decode(const pier_result *block, pier__postgres_kind kind, const char *data,
                           size_t size, pier_value *value, pier_error *err);

#endif
