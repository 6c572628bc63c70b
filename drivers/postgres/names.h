#ifndef PIER_DRIVERS_POSTGRES_NAMES_H
#define PIER_DRIVERS_POSTGRES_NAMES_H
/*
 * Arguments by name, which Postgres does not know: a statement's text with $1, $2, ... in place of
 * :name and $name, and what stood there. Values are never part of it.
 *
 * A name is an identifier directly behind its mark, which touches no word, string or number before
 * it. What Postgres itself reads in these places is left alone: strings of all kinds, quoted names,
 * comments, casts (a::text), named notation (f(a := 1)), the colons of array slices (a[1:n], a[:n])
 * and of JSON_OBJECT('key': value), names with a dollar sign in them, $1, $tag$...$tag$. @name is
 * no name, because @ is an operator: @x is the absolute value of a column.
 */
#include <stdbool.h>
#include <stddef.h>

/* Where a name stood. */
typedef struct pier__postgres_place {
    size_t at, size; /* bytes of the user's text, the mark included */
    int name;        /* from 0 */
    size_t characters_before, characters;
} pier__postgres_place;

/* Immutable. */
typedef struct pier__postgres_names {
    const char *sql; /* to be sent; zero-terminated */
    size_t sql_size;
    int count;                /* of different names; 0: there are none, and nothing was changed */
    bool numbered;            /* there are $1, $2, ... beside them */
    const char *const *names; /* in the order of $1, $2, ..., without their marks */
    size_t place_count;
    const pier__postgres_place *places;
} pier__postgres_names;

/* In one piece of pier__malloc; NULL: no memory. */
pier__postgres_names *pier__postgres_names_read(const char *sql, size_t size);

/* The character of the user's text, from 1, for one of what was sent. */
unsigned long pier__postgres_names_position(const pier__postgres_names *names,
                                            unsigned long position);

#endif
