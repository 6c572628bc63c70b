/*
 * Arguments for the server. Each conversion is decided by two things: what the caller bound, and which
 * type the server described for the parameter. Whatever could lose something is refused.
 */
#include "drivers/postgres/encode.h"

#include "drivers/postgres/types.h"
#include "drivers/postgres/wire.h"
#include "sdk/alloc.h"
#include "sdk/number.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FORMAT_TEXT = 0, FORMAT_BINARY = 1 };
enum { SIZE_LIMIT = 1 << 30 }; /* of Postgres, for any value and any message */

/* The argument being encoded. */
typedef struct place {
    pier__postgres_encoder *encoder;
    int index; /* from 0 */
    Oid type;
    pier_error *err;
} place;

/* Failures. All of them name the argument and the type that the server wants. */

static const char *describe_type(const place *at, char buffer[32])
{
    const char *name = pier__postgres_type_name(at->type);
    if (name) {
        return name;
    }
    snprintf(buffer, 32, "the type with oid %u", at->type);
    return buffer;
}

static const char *describe_value(int type)
{
    static const char *const names[] = {"NULL", "a boolean", "an integer",    "a double",
                                        "text", "bytes",     "a numeric text"};
    return type >= 0 && type < (int)(sizeof names / sizeof *names) ? names[type] : "invalid";
}

static int refuse_type(const place *at, int type, const char *remedy)
{
    char buffer[32];
    return pier_error_set(at->err, PIER_ETYPE, "argument %d is %s, but the statement wants %s; %s",
                          at->index + 1, describe_value(type), describe_type(at, buffer), remedy);
}

static int refuse_range(const place *at, const char *number)
{
    char buffer[32];
    return pier_error_set(at->err, PIER_ERANGE, "argument %d, %s, is out of range for %s",
                          at->index + 1, number, describe_type(at, buffer));
}

static int refuse_int(const place *at, int64_t number)
{
    char text[24];
    snprintf(text, sizeof text, "%" PRId64, number);
    return refuse_range(at, text);
}

static int refuse_double(const place *at, double number)
{
    char text[PIER__POSTGRES_SLOT];
    pier__double_write(text, sizeof text, number);
    return refuse_range(at, text);
}

/* Storing. */

static int put(const place *at, const void *data, size_t size, int format)
{
    at->encoder->values[at->index] = data;
    at->encoder->sizes[at->index] = (int)size;
    at->encoder->formats[at->index] = format;
    return 0;
}

static char *slot(const place *at)
{
    return at->encoder->slots[at->index];
}

static int put_bool(const place *at, bool value)
{
    slot(at)[0] = value;
    return put(at, slot(at), 1, FORMAT_BINARY);
}

static int put_int64(const place *at, uint64_t value)
{
    pier__put64(slot(at), value);
    return put(at, slot(at), 8, FORMAT_BINARY);
}

static int put_int32(const place *at, uint32_t value)
{
    pier__put32(slot(at), value);
    return put(at, slot(at), 4, FORMAT_BINARY);
}

static int put_int16(const place *at, uint16_t value)
{
    pier__put16(slot(at), value);
    return put(at, slot(at), 2, FORMAT_BINARY);
}

static int put_double(const place *at, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_int64(at, bits);
}

static int put_float(const place *at, double value)
{
    float narrow = (float)value;
    if (isinf(narrow) && !isinf(value)) {
        return refuse_double(at, value);
    }
    uint32_t bits;
    memcpy(&bits, &narrow, sizeof bits);
    return put_int32(at, bits);
}

/* Short text of ours, which must be kept. */
static int put_written(const place *at, const char *text, size_t size)
{
    memcpy(slot(at), text, size);
    slot(at)[size] = 0;
    return put(at, slot(at), size, FORMAT_TEXT);
}

/* From each kind of value to the type that is wanted. */

/* Those whose binary format is the bytes of their text. */
static bool is_text_type(Oid type)
{
    switch (type) {
    case PIER__OID_TEXT:
    case PIER__OID_VARCHAR:
    case PIER__OID_BPCHAR:
    case PIER__OID_NAME:
    case PIER__OID_UNKNOWN:
    case PIER__OID_JSON:
        return true;
    default:
        return false;
    }
}

static int encode_bool(const place *at, bool value)
{
    switch (at->type) {
    case PIER__OID_BOOL:
        return put_bool(at, value);
    case PIER__OID_INT2:
    case PIER__OID_INT4:
    case PIER__OID_INT8:
    case PIER__OID_OID:
    case PIER__OID_FLOAT4:
    case PIER__OID_FLOAT8:
    case PIER__OID_NUMERIC:
    case PIER__OID_BYTEA:
        return refuse_type(at, PIER_BOOL, "cast it to int");
    default:
        return put_written(at, value ? "true" : "false", value ? 4 : 5);
    }
}

static int encode_int_as_text(const place *at, int64_t value)
{
    char text[24];
    int length = snprintf(text, sizeof text, "%" PRId64, value);
    return put_written(at, text, (size_t)length);
}

static int encode_int(const place *at, int64_t value)
{
    switch (at->type) {
    case PIER__OID_INT4:
        return value >= INT32_MIN && value <= INT32_MAX ? put_int32(at, (uint32_t)value)
                                                        : refuse_int(at, value);
    case PIER__OID_INT8:
        return put_int64(at, (uint64_t)value);
    case PIER__OID_INT2:
        return value >= INT16_MIN && value <= INT16_MAX ? put_int16(at, (uint16_t)value)
                                                        : refuse_int(at, value);
    case PIER__OID_OID:
        return value >= 0 && value <= UINT32_MAX ? put_int32(at, (uint32_t)value)
                                                 : refuse_int(at, value);
    case PIER__OID_BOOL: /* C's `true` is an int */
        return value == 0 || value == 1 ? put_bool(at, value != 0) : refuse_int(at, value);
    case PIER__OID_FLOAT8:
        /* 2^53: up to here a double holds every integer. */
        return value >= -(INT64_C(1) << 53) && value <= INT64_C(1) << 53
                   ? put_double(at, (double)value)
                   : refuse_int(at, value);
    case PIER__OID_FLOAT4:
        return value >= -(INT64_C(1) << 24) && value <= INT64_C(1) << 24
                   ? put_float(at, (double)value)
                   : refuse_int(at, value);
    case PIER__OID_BYTEA:
        return refuse_type(at, PIER_INT64, "bind it with pier_bytes(data, size)");
    default:
        return encode_int_as_text(at, value);
    }
}

static int encode_double(const place *at, double value)
{
    char text[PIER__POSTGRES_SLOT];
    switch (at->type) {
    case PIER__OID_FLOAT8:
        return put_double(at, value);
    case PIER__OID_FLOAT4:
        return put_float(at, value);
    case PIER__OID_INT2:
    case PIER__OID_INT4:
    case PIER__OID_INT8:
    case PIER__OID_OID:
    case PIER__OID_BOOL:
        return refuse_type(at, PIER_DOUBLE, "round it and cast it to an integer");
    case PIER__OID_BYTEA:
        return refuse_type(at, PIER_DOUBLE, "bind it with pier_bytes(data, size)");
    default:
        return put_written(at, text, pier__double_write(text, sizeof text, value));
    }
}

static int refuse_size(const place *at, size_t size)
{
    return pier_error_set(at->err, PIER_ERANGE, "argument %d is too long: %zu bytes", at->index + 1,
                          size);
}

static int encode_text(const place *at, const pier_value *value)
{
    const char *text = value->as.p.data ? value->as.p.data : "";
    size_t size = value->as.p.size;
    if (size > SIZE_LIMIT) {
        return refuse_size(at, size);
    }
    switch (at->type) {
    case PIER__OID_INT2:
    case PIER__OID_INT4:
    case PIER__OID_INT8:
    case PIER__OID_OID:
    case PIER__OID_FLOAT4:
    case PIER__OID_FLOAT8:
        return refuse_type(at, value->type, "bind a number, or write $n::text::integer");
    case PIER__OID_BOOL:
        return refuse_type(at, value->type, "bind a bool, or write $n::text::boolean");
    case PIER__OID_BYTEA:
        return refuse_type(at, value->type, "bind it with pier_bytes(data, size)");
    default:
        break;
    }
    if (memchr(text, 0, size)) {
        return pier_error_set(at->err, PIER_EINVAL,
                              "argument %d: text with a zero byte in it cannot be stored; "
                              "bind it with pier_bytes and use bytea",
                              at->index + 1);
    }
    if (is_text_type(at->type)) {
        return put(at, text, size, FORMAT_BINARY);
    }
    return put(at, text, size, FORMAT_TEXT);
}

static int encode_bytes(const place *at, const pier_value *value)
{
    if (value->as.p.size > SIZE_LIMIT) {
        return refuse_size(at, value->as.p.size);
    }
    /* A domain over bytea, or an extension's type: in its own binary format. */
    if (at->type != PIER__OID_BYTEA && at->type < PIER__OID_FIRST_USER) {
        return refuse_type(at, PIER_BYTES, "bind text with pier_text_sized(text, size)");
    }
    return put(at, value->as.p.data ? value->as.p.data : "", value->as.p.size, FORMAT_BINARY);
}

static int encode_value(const place *at, const pier_value *value)
{
    switch (value->type) {
    case PIER_NULL:
        return put(at, NULL, 0, FORMAT_TEXT);
    case PIER_BOOL:
        return encode_bool(at, value->as.b);
    case PIER_INT64:
        return encode_int(at, value->as.i);
    case PIER_DOUBLE:
        return encode_double(at, value->as.d);
    case PIER_TEXT:
    case PIER_NUMERIC:
        return encode_text(at, value);
    case PIER_BYTES:
        return encode_bytes(at, value);
    default:
        return pier_error_set(at->err, PIER_ETYPE, "argument %d cannot be bound: %s", at->index + 1,
                              value->type == PIER_INVALID && value->as.why ? value->as.why
                                                                           : "it has no type");
    }
}

/* The commonest pairs of value and type, which is what rows by the thousand consist of: as the
 * functions above have them, without a call for each. False: none of them. */
static inline bool encode_plain(pier__postgres_encoder *encoder, int index, Oid type,
                                const pier_value *value)
{
    char *to = encoder->slots[index];
    uint64_t bits;
    size_t size = 8;
    if (value->type == PIER_INT64 && type == PIER__OID_INT8) {
        pier__put64(to, (uint64_t)value->as.i);
    } else if (value->type == PIER_INT64 && type == PIER__OID_INT4 &&
               value->as.i == (int32_t)value->as.i) {
        pier__put32(to, (uint32_t)value->as.i);
        size = 4;
    } else if (value->type == PIER_DOUBLE && type == PIER__OID_FLOAT8) {
        memcpy(&bits, &value->as.d, sizeof bits);
        pier__put64(to, bits);
    } else if (value->type == PIER_TEXT && type == PIER__OID_TEXT && value->as.p.data &&
               value->as.p.size <= SIZE_LIMIT && !memchr(value->as.p.data, 0, value->as.p.size)) {
        encoder->values[index] = value->as.p.data;
        encoder->sizes[index] = (int)value->as.p.size;
        encoder->formats[index] = FORMAT_BINARY;
        return true;
    } else {
        return false;
    }
    encoder->values[index] = to;
    encoder->sizes[index] = (int)size;
    encoder->formats[index] = FORMAT_BINARY;
    return true;
}

/* The memory. */

void pier__postgres_encoder_fini(pier__postgres_encoder *encoder)
{
    pier__free(encoder->values); /* the other arrays stand behind it */
    memset(encoder, 0, sizeof *encoder);
}

static bool make_room(pier__postgres_encoder *encoder, int count)
{
    if (count <= encoder->room) {
        return true;
    }
    pier__postgres_encoder_fini(encoder);
    size_t room = count < 8 ? 8 : (size_t)count;
    char *memory =
        pier__malloc(room * (sizeof(char *) + sizeof(int) + sizeof(int) + PIER__POSTGRES_SLOT));
    if (!memory) {
        return false;
    }
    encoder->room = (int)room;
    encoder->values = (const char **)memory;
    encoder->sizes = (int *)(encoder->values + room);
    encoder->formats = encoder->sizes + room;
    encoder->slots = (char(*)[PIER__POSTGRES_SLOT])(encoder->formats + room);
    return true;
}

int pier__postgres_encode(pier__postgres_encoder *encoder, const pier_args *args, const Oid *types,
                          int count, pier_error *err)
{
    size_t given = args ? args->count : 0;
    if (given != (size_t)count) {
        return pier_error_set(err, PIER_EINVAL, "the statement has %d parameter%s, %zu given",
                              count, count == 1 ? "" : "s", given);
    }
    if (!make_room(encoder, count)) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for %d arguments", count);
    }
    size_t total = 0;
    for (int i = 0; i < count; i++) {
        if (!encode_plain(encoder, i, types[i], &args->values[i])) {
            place at = {.encoder = encoder, .index = i, .type = types[i], .err = err};
            int status = encode_value(&at, &args->values[i]);
            if (status) {
                return status;
            }
        }
        total += (size_t)encoder->sizes[i];
    }
    if (total > SIZE_LIMIT) {
        return pier_error_set(err, PIER_ERANGE,
                              "the arguments have %zu bytes, Postgres takes 1 GB at once", total);
    }
    return 0;
}
