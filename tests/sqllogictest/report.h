/* What the program says: failures and summaries on standard output, progress on a terminal. Any
 * thread may call; nothing here waits for a database. */
#ifndef PIER_TESTS_SQLLOGICTEST_REPORT_H
#define PIER_TESTS_SQLLOGICTEST_REPORT_H

#include "tests/sqllogictest/values.h"

#include <pthread.h>
#include <stdint.h>

struct slt_report {
    /* Immutable after init. */
    bool quiet;
    bool verbose;
    bool terminal; /* standard error is one */
    size_t files;

    /* Guarded by lock. */
    pthread_mutex_t lock;
    uint64_t passed;
    uint64_t failed;
    size_t finished;
    int64_t painted_ms; /* when the line of progress was written */
    bool has_progress;  /* and is there now */
};

/* What one file came to. */
struct slt_counts {
    uint64_t passed;
    uint64_t failed;
    uint64_t skipped;
};

void slt_report_init(struct slt_report *report, bool quiet, bool verbose, size_t files);
/* details are lines of their own, each with its line feed; --quiet leaves them out. */
void slt_report_failure(struct slt_report *report, const char *path, unsigned long line,
                        const char *what, const char *details);
void slt_report_progress(struct slt_report *report, const char *path, unsigned long line);
void slt_report_file(struct slt_report *report, const char *path, const struct slt_counts *counts,
                     int64_t started_ms);
/* The last line; the exit code of the program. */
int slt_report_end(struct slt_report *report);

int64_t slt_now_ms(void);

/* Adds SQL, indented, and not much more than a screen of it. */
void slt_details_sql(struct slt_buffer *details, const char *sql);
/* Adds where two lists differ, from a little before the first difference on. */
void slt_details_diff(struct slt_buffer *details, const struct slt_values *expected,
                      const struct slt_values *got);
/* Adds the first values of a list. */
void slt_details_values(struct slt_buffer *details, const struct slt_values *values);

#endif
