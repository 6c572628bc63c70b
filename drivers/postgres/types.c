/*
 * Names of types, as SQL has them.
 */
#include "drivers/postgres/types.h"

#include <stddef.h>

const char *pier__postgres_type_name(unsigned oid)
{
    switch (oid) {
    case PIER__OID_BOOL:
        return "boolean";
    case PIER__OID_BYTEA:
        return "bytea";
    case PIER__OID_CHAR:
        return "\"char\"";
    case PIER__OID_NAME:
        return "name";
    case PIER__OID_INT8:
        return "bigint";
    case PIER__OID_INT2:
        return "smallint";
    case PIER__OID_INT4:
        return "integer";
    case PIER__OID_TEXT:
        return "text";
    case PIER__OID_OID:
        return "oid";
    case PIER__OID_JSON:
        return "json";
    case PIER__OID_FLOAT4:
        return "real";
    case PIER__OID_FLOAT8:
        return "double precision";
    case PIER__OID_BPCHAR:
        return "character";
    case PIER__OID_VARCHAR:
        return "character varying";
    case PIER__OID_NUMERIC:
        return "numeric";
    case PIER__OID_JSONB:
        return "jsonb";
    default:
        return NULL;
    }
}
