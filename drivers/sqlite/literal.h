#ifndef PIER_DRIVERS_SQLITE_LITERAL_H
#define PIER_DRIVERS_SQLITE_LITERAL_H
/*
 * Values and names as SQL that gives exactly them. Pure.
 */
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>

/* Text that grows. After a failure `failed` is set and nothing more is added. */
typedef struct pier__sqlite_text {
    char *data;
    size_t size, room;
    bool failed; /* no memory */
} pier__sqlite_text;

void pier__sqlite_text_fini(pier__sqlite_text *text);
void pier__sqlite_text_add(pier__sqlite_text *text, const void *data, size_t size);
void pier__sqlite_text_add_string(pier__sqlite_text *text, const char *string);
/* A name between double quotes. */
void pier__sqlite_text_add_name(pier__sqlite_text *text, const char *name);
/* Bytes as X'...'. */
void pier__sqlite_text_add_bytes(pier__sqlite_text *text, const void *data, size_t size);
/* Text as '...', or what it is cast from where it is no UTF-8 or has zero bytes in it. */
void pier__sqlite_text_add_text(pier__sqlite_text *text, const char *data, size_t size);
/* A number; `check` is "select cast($1 as real)", which says what SQLite will read. */
void pier__sqlite_text_add_real(pier__sqlite_text *text, double number, sqlite3_stmt *check);

/* Is it UTF-8 without zero bytes, surrogates and overlong forms? */
bool pier__sqlite_is_utf8(const char *data, size_t size);

#endif
