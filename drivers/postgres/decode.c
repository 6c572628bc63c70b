/*
 * From the wire to values. A cell of a size that its type cannot have means that the server, or
 * something between, does not speak as it described.
 */
#include "drivers/postgres/decode.h"

#include "drivers/postgres/types.h"
#include "drivers/postgres/wire.h"
#include "sdk/number.h"
#include <libpq-fe.h>
#include <stdlib.h>
#include <string.h>

bool pier__postgres_has_binary(Oid type)
{
    switch (type) {
    case PIER__OID_BOOL:
    case PIER__OID_BYTEA:
    case PIER__OID_CHAR:
    case PIER__OID_NAME:
    case PIER__OID_INT8:
    case PIER__OID_INT2:
    case PIER__OID_INT4:
    case PIER__OID_TEXT:
    case PIER__OID_OID:
    case PIER__OID_JSON:
    case PIER__OID_FLOAT4:
    case PIER__OID_FLOAT8:
    case PIER__OID_UNKNOWN:
    case PIER__OID_BPCHAR:
    case PIER__OID_VARCHAR:
    case PIER__OID_JSONB:
        return true;
    default:
        return false;
    }
}

static pier__postgres_kind binary_kind(Oid type)
{
    switch (type) {
    case PIER__OID_INT4:
        return PIER__KIND_INT4;
    case PIER__OID_INT8:
        return PIER__KIND_INT8;
    case PIER__OID_INT2:
        return PIER__KIND_INT2;
    case PIER__OID_BOOL:
        return PIER__KIND_BOOL;
    case PIER__OID_FLOAT8:
        return PIER__KIND_FLOAT8;
    case PIER__OID_FLOAT4:
        return PIER__KIND_FLOAT4;
    case PIER__OID_OID:
        return PIER__KIND_OID;
    case PIER__OID_CHAR:
        return PIER__KIND_CHAR;
    case PIER__OID_JSONB:
        return PIER__KIND_JSONB;
    default:
        return pier__postgres_has_binary(type) && type != PIER__OID_BYTEA ? PIER__KIND_TEXT : PIER__KIND_BYTEA;
    }
}

static pier__postgres_kind text_kind(Oid type)
{
    switch (type) {
    case PIER__OID_INT2:
    case PIER__OID_INT4:
    case PIER__OID_INT8:
    case PIER__OID_OID:
        return PIER__KIND_TEXT_INT;
    case PIER__OID_BOOL:
        return PIER__KIND_TEXT_BOOL;
    case PIER__OID_FLOAT4:
        return PIER__KIND_TEXT_FLOAT4;
    case PIER__OID_FLOAT8:
        return PIER__KIND_TEXT_FLOAT8;
    case PIER__OID_NUMERIC:
        return PIER__KIND_TEXT_NUMERIC;
    case PIER__OID_BYTEA:
        return PIER__KIND_TEXT_BYTEA;
    default:
        return PIER__KIND_TEXT;
    }
}

pier__postgres_kind pier__postgres_kind_of(Oid type, bool binary)
{
    return binary ? binary_kind(type) : text_kind(type);
}

static bool malformed(pier_error *err, size_t size)
{
    pier_error_set(err, PIER_EPROTOCOL,
                   "the server sent a value of %zu bytes that is not of its type", size);
    return false;
}

static bool no_memory(pier_error *err)
{
    pier_error_set(err, PIER_ENOMEM, "out of memory for a value");
    return false;
}

static bool set_text(pier_value *value, int type, const void *data, size_t size)
{
    value->type = type;
    value->as.p.data = data;
    value->as.p.size = size;
    return true;
}

static bool set_int(pier_value *value, int64_t number)
{
    value->type = PIER_INT64;
    value->as.i = number;
    return true;
}

static bool set_double(pier_value *value, double number)
{
    value->type = PIER_DOUBLE;
    value->as.d = number;
    return true;
}

static bool set_float(pier_value *value, float number)
{
    value->flags = PIER__VALUE_SINGLE;
    return set_double(value, number);
}

static bool decode_float4(const char *data, pier_value *value)
{
    uint32_t bits = pier__get32(data);
    float number;
    memcpy(&number, &bits, sizeof number);
    return set_float(value, number);
}

static bool decode_float8(const char *data, pier_value *value)
{
    uint64_t bits = pier__get64(data);
    double number;
    memcpy(&number, &bits, sizeof number);
    return set_double(value, number);
}

/* As the server writes it: zero is no character, and bytes that are not ASCII become \ooo. */
static bool decode_char(const pier_result *block, const char *data, pier_value *value,
                        pier_error *err)
{
    unsigned char byte = (unsigned char)*data;
    if (byte < 0x80) {
        return set_text(value, PIER_TEXT, data, byte != 0);
    }
    char *text = pier__result_scratch(block, 5);
    if (!text) {
        return no_memory(err);
    }
    text[0] = '\\';
    text[1] = (char)('0' + (byte >> 6));
    text[2] = (char)('0' + (byte >> 3 & 7));
    text[3] = (char)('0' + (byte & 7));
    text[4] = 0;
    return set_text(value, PIER_TEXT, text, 4);
}

static bool decode_text_int(const char *data, size_t size, pier_value *value, pier_error *err)
{
    char *end;
    long long number = strtoll(data, &end, 10);
    return end == data + size && size > 0 ? set_int(value, number) : malformed(err, size);
}

static bool decode_text_float(pier__postgres_kind kind, const char *data, size_t size,
                              pier_value *value, pier_error *err)
{
    const char *end;
    if (kind == PIER__KIND_TEXT_FLOAT4) {
        set_float(value, pier__float_read(data, &end));
    } else {
        set_double(value, pier__double_read(data, &end));
    }
    return (end == data + size && size > 0) || malformed(err, size);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static bool decode_hex(const pier_result *block, const char *data, size_t size, pier_value *value,
                       pier_error *err)
{
    size_t count = size / 2;
    char *bytes = pier__result_scratch(block, count + 1);
    if (!bytes) {
        return no_memory(err);
    }
    for (size_t i = 0; i < count; i++) {
        int high = hex_digit(data[2 * i]), low = hex_digit(data[2 * i + 1]);
        if (high < 0 || low < 0) {
            return malformed(err, size);
        }
        bytes[i] = (char)(high << 4 | low);
    }
    bytes[count] = 0;
    return size % 2 == 0 ? set_text(value, PIER_BYTES, bytes, count) : malformed(err, size);
}

/* bytea_output is `hex` by default, but the old `escape` can still be set. */
static bool decode_text_bytea(const pier_result *block, const char *data, size_t size,
                              pier_value *value, pier_error *err)
{
    if (size >= 2 && data[0] == '\\' && data[1] == 'x') {
        return decode_hex(block, data + 2, size - 2, value, err);
    }
    size_t count;
    unsigned char *plain = PQunescapeBytea((const unsigned char *)data, &count);
    char *bytes = plain ? pier__result_scratch(block, count + 1) : NULL;
    if (bytes) {
        memcpy(bytes, plain, count);
        bytes[count] = 0;
    }
    PQfreemem(plain);
    return bytes ? set_text(value, PIER_BYTES, bytes, count) : no_memory(err);
}

static bool decode_text_format(const pier_result *block, pier__postgres_kind kind, const char *data,
                               size_t size, pier_value *value, pier_error *err)
{
    switch (kind) {
    case PIER__KIND_TEXT_INT:
        return decode_text_int(data, size, value, err);
    case PIER__KIND_TEXT_BOOL:
        value->type = PIER_BOOL;
        value->as.b = size == 1 && *data == 't';
        return value->as.b || (size == 1 && *data == 'f') || malformed(err, size);
    case PIER__KIND_TEXT_FLOAT4:
    case PIER__KIND_TEXT_FLOAT8:
        return decode_text_float(kind, data, size, value, err);
    case PIER__KIND_TEXT_NUMERIC:
        return set_text(value, PIER_NUMERIC, data, size);
    case PIER__KIND_TEXT_BYTEA:
        return decode_text_bytea(block, data, size, value, err);
    default:
        return set_text(value, PIER_TEXT, data, size);
    }
}

bool pier__postgres_decode(const pier_result *block, pier__postgres_kind kind, const char *data,
                           size_t size, pier_value *value, pier_error *err)
{
    switch (kind) {
    case PIER__KIND_TEXT:
        return set_text(value, PIER_TEXT, data, size);
    case PIER__KIND_BYTEA:
        return set_text(value, PIER_BYTES, data, size);
    case PIER__KIND_INT4:
        return size == 4 ? set_int(value, (int32_t)pier__get32(data)) : malformed(err, size);
    case PIER__KIND_INT8:
        return size == 8 ? set_int(value, (int64_t)pier__get64(data)) : malformed(err, size);
    case PIER__KIND_INT2:
        return size == 2 ? set_int(value, (int16_t)pier__get16(data)) : malformed(err, size);
    case PIER__KIND_OID:
        return size == 4 ? set_int(value, pier__get32(data)) : malformed(err, size);
    case PIER__KIND_BOOL:
        value->type = PIER_BOOL;
        value->as.b = size == 1 && *data;
        return size == 1 || malformed(err, size);
    case PIER__KIND_FLOAT8:
        return size == 8 ? decode_float8(data, value) : malformed(err, size);
    case PIER__KIND_FLOAT4:
        return size == 4 ? decode_float4(data, value) : malformed(err, size);
    case PIER__KIND_CHAR:
        return size == 1 ? decode_char(block, data, value, err) : malformed(err, size);
    case PIER__KIND_JSONB:
        /* A version, 1 so far, and then the text. */
        return size > 0 && *data == 1 ? set_text(value, PIER_TEXT, data + 1, size - 1)
                                      : malformed(err, size);
    default:
        return decode_text_format(block, kind, data, size, value, err);
    }
}
