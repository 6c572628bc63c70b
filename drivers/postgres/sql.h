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

/* Does a statement that is prepared have the same columns whenever it runs? The server sees to that
 * for queries, but not for what looks at something that has a name of its own: FETCH, EXECUTE. */
bool pier__postgres_has_settled_columns(const char *sql);

/* COPY has its own protocol. */
static inline bool pier__postgres_is_copy(const char *sql)
{
    return pier__postgres_sql_begins(pier__postgres_sql_start(sql), "copy");
}

#endif
