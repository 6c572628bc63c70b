#ifndef PIER_DRIVERS_POSTGRES_TYPES_H
#define PIER_DRIVERS_POSTGRES_TYPES_H
/*
 * The types of Postgres that have a representation of their own here. Their numbers are part of
 * its protocol and never change (src/include/catalog/pg_type.dat).
 */

enum {
    PIER__OID_BOOL = 16,
    PIER__OID_BYTEA = 17,
    PIER__OID_CHAR = 18, /* "char", one byte */
    PIER__OID_NAME = 19,
    PIER__OID_INT8 = 20,
    PIER__OID_INT2 = 21,
    PIER__OID_INT4 = 23,
    PIER__OID_TEXT = 25,
    PIER__OID_OID = 26,
    PIER__OID_JSON = 114,
    PIER__OID_FLOAT4 = 700,
    PIER__OID_FLOAT8 = 701,
    PIER__OID_UNKNOWN = 705,
    PIER__OID_BPCHAR = 1042,
    PIER__OID_VARCHAR = 1043,
    PIER__OID_NUMERIC = 1700,
    PIER__OID_JSONB = 3802,
    PIER__OID_FIRST_USER = 16384 /* below it are those that the server was built with */
};

/* The name of a type for messages; NULL where it has none here. */
const char *pier__postgres_type_name(unsigned oid);

#endif
