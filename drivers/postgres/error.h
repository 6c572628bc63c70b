#ifndef PIER_DRIVERS_POSTGRES_ERROR_H
#define PIER_DRIVERS_POSTGRES_ERROR_H
/*
 * Postgres's failures as errors of Pier.
 */
#include "sdk/error.h"
#include <libpq-fe.h>

/* The pier_status for a SQLSTATE of a statement. */
int pier__postgres_status(const char *sqlstate);

struct pier__postgres_names;

/* Fills `err` from a result that is an error. The beginning of `sql` (NULL: none), which is the
 * user's, goes behind the message. In what was sent, `skip` characters stand before it, and numbers
 * in the place of `names` (NULL: none). */
void pier__postgres_error_in(pier_error *err, const PGresult *result, const char *sql,
                             size_t sql_size, size_t skip,
                             const struct pier__postgres_names *names);

/* Has the server ended the session with this error? */
bool pier__postgres_is_fatal(const PGresult *result);
/* "" where there is none. */
const char *pier__postgres_sqlstate(const PGresult *result);

/* Fills `err` for an attempt to connect to `name` that failed with libpq's verbose `text`. */
void pier__postgres_connect_error(pier_error *err, const char *name, const char *text);

/* Appends the beginning of a statement, with white space folded, to the message. */
void pier__postgres_error_add_sql(pier_error *err, const char *sql, size_t sql_size);

/* Copies libpq's text as one line. */
void pier__postgres_one_line(char *line, size_t size, const char *text);

#endif
