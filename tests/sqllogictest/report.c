#include "tests/sqllogictest/report.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* As much as one wants to see of a record before looking at the file. */
enum { SQL_LINES = 20, DIFF_LINES = 12, CONTEXT_LINES = 2, VALUE_BYTES = 200 };

/* Often enough to look alive. */
enum { PAINT_MS = 100 };

int64_t slt_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- Details ------------------------------------------------------------------------------ */

void slt_details_sql(struct slt_buffer *details, const char *sql)
{
    for (int line = 0; *sql; line++) {
        if (line == SQL_LINES) {
            slt_buffer_print(details, "    ...\n");
            return;
        }
        size_t size = strcspn(sql, "\n");
        slt_buffer_print(details, "    ");
        slt_buffer_add(details, sql, size);
        slt_buffer_add(details, "\n", 1);
        sql += size + (sql[size] != 0);
    }
}

static void add_value(struct slt_buffer *details, char sign, const char *value)
{
    bool cut = strlen(value) > VALUE_BYTES;
    slt_buffer_print(details, "    %c %.*s%s\n", sign, VALUE_BYTES, value, cut ? "..." : "");
}

void slt_details_values(struct slt_buffer *details, const struct slt_values *values)
{
    for (size_t i = 0; i < values->count && i < DIFF_LINES; i++) {
        add_value(details, '+', slt_values_at(values, i));
    }
    if (values->count > DIFF_LINES) {
        slt_buffer_print(details, "      ...\n");
    }
}

static const char *at_or_null(const struct slt_values *values, size_t index)
{
    return index < values->count ? slt_values_at(values, index) : NULL;
}

static bool differ(const struct slt_values *a, const struct slt_values *b, size_t index)
{
    const char *left = at_or_null(a, index), *right = at_or_null(b, index);
    return !left || !right || strcmp(left, right) != 0;
}

void slt_details_diff(struct slt_buffer *details, const struct slt_values *expected,
                      const struct slt_values *got)
{
    size_t count = expected->count > got->count ? expected->count : got->count;
    size_t first = 0;
    while (first < count && !differ(expected, got, first)) {
        first++;
    }
    slt_buffer_print(details,
                     "  expected (-) %zu values, got (+) %zu; value %zu is the first that "
                     "differs\n",
                     expected->count, got->count, first + 1);
    size_t index = first > CONTEXT_LINES ? first - CONTEXT_LINES : 0;
    for (int lines = 0; index < count; index++) {
        if (lines >= DIFF_LINES) {
            slt_buffer_print(details, "      ...\n");
            return;
        }
        const char *wanted = at_or_null(expected, index), *value = at_or_null(got, index);
        if (!differ(expected, got, index)) {
            add_value(details, ' ', value);
            lines++;
            continue;
        }
        if (wanted) {
            add_value(details, '-', wanted);
            lines++;
        }
        if (value) {
            add_value(details, '+', value);
            lines++;
        }
    }
}

/* ---- Output ------------------------------------------------------------------------------- */

void slt_report_init(struct slt_report *report, bool quiet, bool verbose, size_t files)
{
    *report = (struct slt_report){
        .quiet = quiet, .verbose = verbose, .terminal = isatty(STDERR_FILENO), .files = files};
    pthread_mutex_init(&report->lock, NULL);
}

static void clear_progress(struct slt_report *report)
{
    if (report->has_progress) {
        fputs("\r\033[K", stderr);
        report->has_progress = false;
    }
}

void slt_report_failure(struct slt_report *report, const char *path, unsigned long line,
                        const char *what, const char *details)
{
    pthread_mutex_lock(&report->lock);
    clear_progress(report);
    printf("%s:%lu: %s\n", path, line, what);
    if (!report->quiet && details) {
        printf("%s\n", details);
    }
    fflush(stdout);
    pthread_mutex_unlock(&report->lock);
}

void slt_report_progress(struct slt_report *report, const char *path, unsigned long line)
{
    if (!report->terminal || report->quiet) {
        return;
    }
    pthread_mutex_lock(&report->lock);
    int64_t now = slt_now_ms();
    if (now - report->painted_ms >= PAINT_MS) {
        report->painted_ms = now;
        report->has_progress = true;
        fprintf(stderr, "\r\033[K[%zu/%zu] %s:%lu", report->finished + 1, report->files, path,
                line);
    }
    pthread_mutex_unlock(&report->lock);
}

void slt_report_file(struct slt_report *report, const char *path, const struct slt_counts *counts,
                     int64_t started_ms)
{
    int64_t took = slt_now_ms() - started_ms;
    pthread_mutex_lock(&report->lock);
    clear_progress(report);
    report->passed += counts->passed;
    report->failed += counts->failed;
    report->finished++;
    if (report->verbose) {
        printf("%s: %" PRIu64 " passed, %" PRIu64 " failed, %" PRIu64 " skipped, %" PRId64
               ".%03d s\n",
               path, counts->passed, counts->failed, counts->skipped, took / 1000,
               (int)(took % 1000));
        fflush(stdout);
    }
    pthread_mutex_unlock(&report->lock);
}

int slt_report_end(struct slt_report *report)
{
    printf("%" PRIu64 " passed, %" PRIu64 " failed\n", report->passed, report->failed);
    fflush(stdout);
    pthread_mutex_destroy(&report->lock);
    return report->failed ? 1 : 0;
}
