#ifndef PIER_DRIVERS_POSTGRES_SCAN_H
#define PIER_DRIVERS_POSTGRES_SCAN_H
/*
 * A statement's text, token by token, as far as Postgres' own scanner must be followed not to take
 * what stands in strings, names and comments for something else. Texts that the server would refuse
 * are read to their end all the same.
 */
#include <stdbool.h>
#include <stddef.h>

enum { PIER__SCAN_WORD_MAX = 32 };

typedef struct pier__postgres_scanner {
    const char *at, *end; /* what is left */
    const char *token;    /* where the last one begins */
    bool quoted;          /* it is a name in quotes */
    /* Of a word, in lower case; "" for one that is too long or quoted, and for all else. */
    char word[PIER__SCAN_WORD_MAX];
} pier__postgres_scanner;

/* The next token: 'w' for a word or a quoted name, '\'' for a string of any kind, '0' for a number,
 * '$' for $1 (and for a dollar sign that is nothing known), else the character itself. 0: the end.
 */
char pier__postgres_scan(pier__postgres_scanner *s);

/* Does a word begin with this character, or go on with it? */
bool pier__postgres_is_letter(char c);
bool pier__postgres_is_inner(char c);

#endif
