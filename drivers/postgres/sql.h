#ifndef PIER_DRIVERS_POSTGRES_SQL_H
#define PIER_DRIVERS_POSTGRES_SQL_H
/*
 * The little that must be known of a statement's text before the server sees it.
 */
#include <stdbool.h>

/* Where a statement begins: behind white space and comments, which nest. */
const char *pier__postgres_sql_start(const char *sql);

/* Does it begin with this word, in small or capital letters? */
bool pier__postgres_sql_begins(const char *sql, const char *word);

/* COPY has its own protocol, which libpq forbids in pipelines. */
static inline bool pier__postgres_is_copy(const char *sql)
{
    return pier__postgres_sql_begins(pier__postgres_sql_start(sql), "copy");
}

#endif
