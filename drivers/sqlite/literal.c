/*
 * Literals: SQL text for names and values.
 */
#include "drivers/sqlite/literal.h"

#include "sdk/alloc.h"
#include <math.h>
#include <string.h>

void pier__sqlite_text_fini(pier__sqlite_text *text)
{
    pier__free(text->data);
    *text = (pier__sqlite_text){0};
}

/* Makes room for `more` bytes and gives where they go; NULL: no memory. */
static char *make_room(pier__sqlite_text *text, size_t more)
{
    if (text->failed) {
        return NULL;
    }
    if (text->room - text->size < more) {
        size_t room = text->room ? 2 * text->room : 256;
        while (room - text->size < more) {
            room *= 2;
        }
        char *data = pier__realloc(text->data, room);
        if (!data) {
            text->failed = true;
            return NULL;
        }
        text->data = data;
        text->room = room;
    }
    return text->data + text->size;
}

void pier__sqlite_text_add(pier__sqlite_text *text, const void *data, size_t size)
{
    char *to = make_room(text, size);
    if (to && size) {
        memcpy(to, data, size);
        text->size += size;
    }
}

void pier__sqlite_text_add_string(pier__sqlite_text *text, const char *string)
{
    pier__sqlite_text_add(text, string, strlen(string));
}

static void add_quoted(pier__sqlite_text *text, char quote, const char *data, size_t size)
{
    pier__sqlite_text_add(text, &quote, 1);
    for (size_t at = 0; at < size;) {
        const char *found = memchr(data + at, quote, size - at);
        size_t piece = found ? (size_t)(found - data) - at + 1 : size - at;
        pier__sqlite_text_add(text, data + at, piece);
        if (found) {
            pier__sqlite_text_add(text, &quote, 1);
        }
        at += piece;
    }
    pier__sqlite_text_add(text, &quote, 1);
}

void pier__sqlite_text_add_name(pier__sqlite_text *text, const char *name)
{
    add_quoted(text, '"', name, strlen(name));
}

void pier__sqlite_text_add_bytes(pier__sqlite_text *text, const void *data, size_t size)
{
    static const char hex[] = "0123456789ABCDEF";
    const unsigned char *bytes = data;
    char *to = make_room(text, 2 * size + 3);
    if (!to) {
        return;
    }
    *to++ = 'X';
    *to++ = '\'';
    for (size_t i = 0; i < size; i++) {
        *to++ = hex[bytes[i] >> 4];
        *to++ = hex[bytes[i] & 15];
    }
    *to = '\'';
    text->size += 2 * size + 3;
}

/* How many bytes the character at `at` has; 0: it is none. */
static size_t character(const unsigned char *at, size_t left)
{
    if (*at < 0x80) {
        return *at ? 1 : 0;
    }
    size_t size = *at >= 0xF0 ? 4 : *at >= 0xE0 ? 3 : 2;
    if (*at < 0xC2 || *at > 0xF4 || left < size) {
        return 0;
    }
    for (size_t i = 1; i < size; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (*at == 0xE0 && at[1] < 0xA0) || (*at == 0xF0 && at[1] < 0x90);
    bool surrogate = *at == 0xED && at[1] > 0x9F;
    bool beyond = *at == 0xF4 && at[1] > 0x8F;
    return overlong || surrogate || beyond ? 0 : size;
}

bool pier__sqlite_is_utf8(const char *data, size_t size)
{
    const unsigned char *bytes = (const unsigned char *)data;
    size_t at = 0;
    while (at < size) {
        size_t step = character(bytes + at, size - at);
        if (!step) {
            return false;
        }
        at += step;
    }
    return true;
}

void pier__sqlite_text_add_text(pier__sqlite_text *text, const char *data, size_t size)
{
    if (pier__sqlite_is_utf8(data, size)) {
        add_quoted(text, '\'', data, size);
        return;
    }
    pier__sqlite_text_add_string(text, "CAST(");
    pier__sqlite_text_add_bytes(text, data, size);
    pier__sqlite_text_add_string(text, " AS TEXT)");
}

enum { LITERAL = 64 }; /* bytes of a number's literal */

static bool reads_as(sqlite3_stmt *check, const char *literal, double number)
{
    double got = 0;
    if (sqlite3_bind_text(check, 1, literal, -1, SQLITE_STATIC) == SQLITE_OK &&
        sqlite3_step(check) == SQLITE_ROW) {
        got = sqlite3_column_double(check, 0);
    }
    sqlite3_reset(check);
    return got == number;
}

/* The shortest literal that is read back as the same number. False: there is none. */
static bool find_literal(char literal[LITERAL], double number, sqlite3_stmt *check)
{
    static const char *const formats[] = {"%!.15g", "%!.17g", "%!.20e", "%!.26e"};
    enum { FORMATS = sizeof formats / sizeof *formats };
    for (int i = 0; i < FORMATS; i++) {
        sqlite3_snprintf(LITERAL, literal, formats[i], number);
        if (reads_as(check, literal, number)) {
            return true;
        }
    }
    return false;
}

/* SQLite rounds twice when it reads a number near the ends of what a double can hold, and gives
 * some of them for no literal at all. Those are written as a product with a power of two, which is
 * exact. 9.0e+999 is read as infinity; what is not a number is stored as NULL. */
void pier__sqlite_text_add_real(pier__sqlite_text *text, double number, sqlite3_stmt *check)
{
    enum { SHIFT = 256 };
    char literal[LITERAL], factor[LITERAL];
    if (isinf(number)) {
        pier__sqlite_text_add_string(text, number > 0 ? "9.0e+999" : "-9.0e+999");
        return;
    }
    if (!find_literal(literal, number, check)) {
        int shift = fabs(number) < 1 ? SHIFT : -SHIFT;
        find_literal(literal, ldexp(number, shift), check);
        find_literal(factor, ldexp(1, -shift), check);
        pier__sqlite_text_add_string(text, literal);
        pier__sqlite_text_add_string(text, "*");
        pier__sqlite_text_add_string(text, factor);
        return;
    }
    pier__sqlite_text_add_string(text, literal);
}
