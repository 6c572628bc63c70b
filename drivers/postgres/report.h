#ifndef PIER_DRIVERS_POSTGRES_REPORT_H
#define PIER_DRIVERS_POSTGRES_REPORT_H
/*
 * An error or notice of the server's: texts, each under a letter (PG_DIAG_... of libpq).
 */
#include <stdbool.h>
#include <stddef.h>

typedef struct pier__postgres_report pier__postgres_report;

/* A copy of the body of an ErrorResponse or NoticeResponse. Where there is no memory for one, a
 * constant that says so. */
pier__postgres_report *pier__postgres_report_new(const char *body, size_t size);
/* NULL and the constant are harmless. */
void pier__postgres_report_free(pier__postgres_report *report);

/* The text under a letter, borrowed from the report; NULL: it has none, or there is no report. */
const char *pier__postgres_report_text(const pier__postgres_report *report, int letter);
/* "" where there is none. */
const char *pier__postgres_sqlstate(const pier__postgres_report *report);
/* Does the server end the session with it? */
bool pier__postgres_is_fatal(const pier__postgres_report *report);
/* Is it the constant? */
bool pier__postgres_is_nomem(const pier__postgres_report *report);

#endif
