#ifndef PIER_SDK_STATEMENT_H
#define PIER_SDK_STATEMENT_H
/*
 * Statement handles: SQL that has been checked once, and what the driver found out about it.
 * Running one is a request like any other; the connections have caches of their own.
 */
#include "sdk/db.h"

/* What PIER__DESCRIBE gives, in one allocation of pier__malloc. */
typedef struct pier__description {
    bool read_only;
    int parameters, columns;
    /* The name of each parameter (NULL: it is numbered), then its type (NULL: not known), then the
     * name of each column, then its type (NULL: none). */
    const char *texts[];
} pier__description;

/* Copies `texts`, two for each parameter and two for each column; NULL: no memory. */
pier__description *pier__description_new(const char *const *texts, int parameters, int columns,
                                         bool read_only);

#endif
