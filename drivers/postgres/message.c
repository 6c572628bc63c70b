/*
 * Each message is a letter, the size of what follows with the four bytes of the size itself, and
 * that. Sizes are known before anything is written, so nothing is written twice.
 */
#include "drivers/postgres/message.h"

#include "drivers/postgres/wire.h"
#include <string.h>

enum { LETTER = 1, SIZE = 4, HEADER = LETTER + SIZE };

/* Begins a message with a body of `size` bytes, and gives the place for that; NULL: no memory. */
static inline char *begin(pier__postgres_transport *transport, char letter, size_t size)
{
    /* Callers refuse what is so large before; cut to 32 bits, the rest would be read as messages.
     */
    char *at = size <= INT32_MAX - HEADER ? pier__postgres_transport_add(transport, HEADER + size)
                                          : pier__postgres_transport_refuse(transport);
    if (!at) {
        return NULL;
    }
    *at = letter;
    pier__put32(at + LETTER, (uint32_t)(SIZE + size));
    return at + HEADER;
}

static inline char *put_bytes(char *at, const void *from, size_t size)
{
    memcpy(at, from, size);
    return at + size;
}

static inline char *put_count(char *at, int count)
{
    pier__put16(at, (uint16_t)count);
    return at + 2;
}

bool pier__message_query(pier__postgres_transport *transport, const char *sql)
{
    size_t size = strlen(sql) + 1;
    char *at = begin(transport, 'Q', size);
    if (at) {
        put_bytes(at, sql, size);
    }
    return at != NULL;
}

bool pier__message_parse(pier__postgres_transport *transport, const char *name, const char *sql,
                         size_t sql_size, const Oid *types, int type_count)
{
    size_t name_size = strlen(name) + 1;
    char *at = begin(transport, 'P', name_size + sql_size + 1 + 2 + 4 * (size_t)type_count);
    if (!at) {
        return false;
    }
    at = put_bytes(at, name, name_size);
    at = put_bytes(at, sql, sql_size);
    *at++ = 0;
    at = put_count(at, type_count);
    for (int i = 0; i < type_count; i++, at += 4) {
        pier__put32(at, types[i]);
    }
    return true;
}

static bool about(pier__postgres_transport *transport, char letter, char what, const char *name)
{
    size_t size = strlen(name) + 1;
    char *at = begin(transport, letter, 1 + size);
    if (at) {
        *at = what;
        put_bytes(at + 1, name, size);
    }
    return at != NULL;
}

bool pier__message_describe(pier__postgres_transport *transport, char what, const char *name)
{
    return about(transport, 'D', what, name);
}

bool pier__message_close(pier__postgres_transport *transport, char what, const char *name)
{
    return about(transport, 'C', what, name);
}

/* How many codes say in which format `count` things are: none where all are text, one where all are
 * binary. */
static int format_codes(const int *formats, int count)
{
    int binary = 0;
    for (int i = 0; i < count; i++) {
        binary += formats[i];
    }
    return binary == 0 ? 0 : binary == count ? 1 : count;
}

static int result_codes(const pier__postgres_columns *columns)
{
    return !columns ? 0 : columns->mixed ? columns->count : columns->binary;
}

static char *put_values(char *at, const pier__postgres_encoder *encoder, int count)
{
    for (int i = 0; i < count; i++) {
        if (!encoder->values[i]) {
            pier__put32(at, UINT32_MAX); /* NULL */
            at += 4;
            continue;
        }
        pier__put32(at, (uint32_t)encoder->sizes[i]);
        at = put_bytes(at + 4, encoder->values[i], (size_t)encoder->sizes[i]);
    }
    return at;
}

bool pier__message_bind(pier__postgres_transport *transport, const char *portal, const char *name,
                        const pier__postgres_encoder *encoder, int count,
                        const pier__postgres_columns *columns)
{
    size_t portal_size = strlen(portal) + 1, name_size = strlen(name) + 1;
    int codes = format_codes(encoder->formats, count), results = result_codes(columns);
    size_t size = portal_size + name_size + 2 + 2 * (size_t)codes + 2 + 4 * (size_t)count + 2 +
                  2 * (size_t)results;
    for (int i = 0; i < count; i++) {
        size += (size_t)encoder->sizes[i]; /* 0 for NULL */
    }
    char *at = begin(transport, 'B', size);
    if (!at) {
        return false;
    }
    at = put_bytes(at, portal, portal_size);
    at = put_bytes(at, name, name_size);
    at = put_count(at, codes);
    for (int i = 0; i < codes; i++) {
        at = put_count(at, encoder->formats[i]);
    }
    at = put_count(at, count);
    at = put_values(at, encoder, count);
    at = put_count(at, results);
    for (int i = 0; i < results; i++) {
        at = put_count(at, columns->formats[i]);
    }
    return true;
}

bool pier__message_execute(pier__postgres_transport *transport, const char *portal, int rows_max)
{
    size_t size = strlen(portal) + 1;
    char *at = begin(transport, 'E', size + 4);
    if (at) {
        pier__put32(put_bytes(at, portal, size), (uint32_t)rows_max);
    }
    return at != NULL;
}

bool pier__message_sync(pier__postgres_transport *transport)
{
    return begin(transport, 'S', 0) != NULL;
}

bool pier__message_copy_fail(pier__postgres_transport *transport, const char *why)
{
    size_t size = strlen(why) + 1;
    char *at = begin(transport, 'f', size);
    if (at) {
        put_bytes(at, why, size);
    }
    return at != NULL;
}

bool pier__message_command(pier__postgres_transport *transport, const char *sql)
{
    static const pier__postgres_encoder nothing = {.room = 0};
    return pier__message_parse(transport, "", sql, strlen(sql), NULL, 0) &&
           pier__message_bind(transport, "", "", &nothing, 0, NULL) &&
           pier__message_execute(transport, "", 0);
}
