#ifndef PIER_DRIVERS_POSTGRES_EFFECTS_H
#define PIER_DRIVERS_POSTGRES_EFFECTS_H
/*
 * What a statement may leave behind in its session, as far as its text tells. Errs on the side of a
 * reset too many.
 */
#include <stddef.h>

enum {
    PIER__EFFECT_SESSION = 1, /* settings, locks, temporary tables, ... */
    PIER__EFFECT_NAMES = 2    /* prepared statements with names of the user's */
};

/* A set; 0: it reads and writes tables, with functions that are known to do nothing else. What
 * triggers, views and operators do does not show. */
unsigned pier__postgres_effects(const char *sql, size_t size);

#endif
