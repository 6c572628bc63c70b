#ifndef PIER_DRIVERS_POSTGRES_ERROR_H
#define PIER_DRIVERS_POSTGRES_ERROR_H
/*
 * Postgres's failures as errors of Pier.
 */
#include "drivers/postgres/report.h"
#include "sdk/error.h"

/* The pier_status for a SQLSTATE of a statement. */
int pier__postgres_status(const char *sqlstate);

struct pier__postgres_names;

/* Fills `err` from an error of the server's. The beginning of `sql` (NULL: none), which is the
 * user's, goes behind the message; in what was sent, numbers stood for `names` (NULL: none). */
void pier__postgres_error(pier_error *err, const pier__postgres_report *report, const char *sql,
                          size_t sql_size, const struct pier__postgres_names *names);

/* Fills `err` for an attempt to connect to `name` that failed with libpq's verbose `text`. */
void pier__postgres_connect_error(pier_error *err, const char *name, const char *text);

/* Appends the beginning of a statement, with white space folded, to the message. */
void pier__postgres_error_add_sql(pier_error *err, const char *sql, size_t sql_size);

/* Copies libpq's text as one line. */
void pier__postgres_one_line(char *line, size_t size, const char *text);

#endif
