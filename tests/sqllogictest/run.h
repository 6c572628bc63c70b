/* Running test files against a database of their own each. */
#ifndef PIER_TESTS_SQLLOGICTEST_RUN_H
#define PIER_TESTS_SQLLOGICTEST_RUN_H

#include "tests/sqllogictest/labels.h"
#include "tests/sqllogictest/report.h"
#include "tests/sqllogictest/script.h"
#include "tests/sqllogictest/target.h"

#include <pier/scope.h>
#include <stdatomic.h>

/* What all files of one run of the program share. */
struct slt_suite {
    struct slt_target target;
    struct slt_report report;
    pier_runner *runner;
    bool halt;               /* stop at the first failure */
    bool cursor;             /* read results through cursors */
    int64_t threshold;       /* from the command line; below 0: the files' own counts */
    atomic_bool stop;        /* no further record, no further file */
    atomic_bool interrupted; /* that was Ctrl-C */
};

/* One file that is being run. */
struct slt_run {
    struct slt_suite *suite;
    const char *path;
    struct slt_session session;
    pier_scope *scope;
    struct slt_record record;
    struct slt_labels labels;
    struct slt_counts counts;
    int64_t threshold;       /* more values than that are reported as a hash; 0: never */
    struct slt_values got;   /* of the current query */
    struct slt_values split; /* what it expects, if a line there holds a row */
    struct slt_buffer details;
};

/* The rest of the file makes sense after the first two only. */
enum slt_outcome { SLT_PASSED, SLT_FAILED, SLT_LOST };

/* Ctrl-C came while no file's scope listened for it. Lock-free, so that a handler may set it. */
extern atomic_bool slt_interrupted;

/* Runs a file and reports it. On a plain thread or in a task. */
void slt_run_file(struct slt_suite *suite, const char *path);

/* Runs the query of the current record. */
enum slt_outcome slt_run_query(struct slt_run *run);
/* Compares what a skipped query expects with what others of its label gave. */
enum slt_outcome slt_check_skipped_query(struct slt_run *run);

/* Reports a failure of the current record; details may have been added before. */
enum slt_outcome slt_fail(struct slt_run *run, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The same, for what the database said; ends the file where that was not about the SQL. */
enum slt_outcome slt_fail_with(struct slt_run *run, const char *what, const pier_error *err);
/* Whether the connection or the program is at its end, rather than the statement wrong. */
bool slt_is_lost(const struct slt_run *run, const pier_error *err);

#endif
