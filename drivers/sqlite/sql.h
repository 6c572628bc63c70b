#ifndef PIER_DRIVERS_SQLITE_SQL_H
#define PIER_DRIVERS_SQLITE_SQL_H
/*
 * Looking at the text of statements, without a database.
 */
#include "sdk/error.h"

enum { PIER__SQLITE_NAMED = 1 << 20 };

/*
 * Which argument a parameter takes, by the name that SQLite gives it: n for "$n", 0 for those that
 * have no name or are written "?n" (they go by their position), PIER__SQLITE_NAMED for those that
 * go by the name behind $, : or @, a status with `err` filled for every other kind.
 */
int pier__sqlite_sql_argument(const char *name, pier_error *err);

/* The first byte of what is neither white space, nor a comment, nor a semicolon; or the end. */
const char *pier__sqlite_sql_skip(const char *sql);

/* Does it look like a statement that only reads? WITH may begin others too. */
bool pier__sqlite_sql_may_read(const char *sql);

/* Is it an INSERT or REPLACE, behind a WITH too? */
bool pier__sqlite_sql_inserts(const char *sql);

/* A PRAGMA does part of its work while it is prepared, so it must be prepared each time. */
bool pier__sqlite_sql_is_pragma(const char *sql);
/* Refuses what would take the handlers from the connection by which it can be cancelled. */
int pier__sqlite_sql_check_pragma(const char *sql, pier_error *err);

enum { PIER__SQLITE_EXCERPT = 128 };
/* The beginning of a statement for messages, with white space folded. */
void pier__sqlite_sql_excerpt(char excerpt[PIER__SQLITE_EXCERPT], const char *sql);

/* The number of the character at a byte of UTF-8 text; the first is 1. */
size_t pier__sqlite_sql_position(const char *sql, size_t offset);

#endif
