/* Queries: fetching, rendering, and comparing with values, with a hash and with a label. */
#include "tests/sqllogictest/render.h"
#include "tests/sqllogictest/run.h"

#include <inttypes.h>
#include <string.h>

/* ---- Fetching ----------------------------------------------------------------------------- */

/* Renders the rows of a block; frees it. A negative pier_status with `err` filled. */
static int take_block(struct slt_run *run, pier_result *block, pier_error *err)
{
    int status = block ? 0 : err->status;
    int columns = pier_result_columns(block);
    if (block && (size_t)columns != run->record.types.size) {
        status = pier_error_set(err, PIER_EUSER, "the query has %d columns, not %zu", columns,
                                run->record.types.size);
    }
    for (size_t i = 0; status == 0 && i < pier_result_count(block); i++) {
        const pier_row *row = pier_result_row(block, i);
        for (int column = 0; column < columns; column++) {
            slt_render(&run->got, run->record.types.data[column], row, column);
        }
    }
    if (status == 0) {
        status = pier_result_check(block, err);
    }
    pier_result_free(block);
    return status;
}

static int fetch_by_cursor(struct slt_run *run, const char *sql, pier_error *err)
{
    pier_cursor *cursor = pier_db_cursor(run->session.db, sql, NULL, err);
    pier_result *block = pier_cursor_block(cursor, err);
    size_t rows = pier_result_count(block);
    int status = take_block(run, block, err);
    while (status == 0 && rows) {
        block = pier_cursor_block(cursor, err);
        rows = pier_result_count(block);
        if (block && !rows) {
            pier_result_free(block); /* the end has no rows, and no columns either */
        } else {
            status = take_block(run, block, err);
        }
    }
    int closed = pier_cursor_close(cursor, status < 0 ? NULL : err);
    return status < 0 ? status : closed;
}

static int fetch(struct slt_run *run, pier_error *err)
{
    const char *sql = run->record.sql.data;
    slt_values_clear(&run->got);
    return run->suite->cursor
               ? fetch_by_cursor(run, sql, err)
               : take_block(run, pier_db_fetch(run->session.db, sql, NULL, err), err);
}

/* ---- Comparing ---------------------------------------------------------------------------- */

static void sort(const struct slt_record *record, struct slt_values *values)
{
    if (record->sort != SLT_NOSORT) {
        slt_values_sort(values, record->sort == SLT_ROWSORT ? record->types.size : 1);
    }
}

static bool are_equal(const struct slt_values *a, const struct slt_values *b)
{
    bool equal = a->count == b->count;
    for (size_t i = 0; equal && i < a->count; i++) {
        equal = !strcmp(slt_values_at(a, i), slt_values_at(b, i));
    }
    return equal;
}

/* The expected values, one each, in whichever of the two ways the file has them. The result tells:
 * as many lines as it has values are values. */
static struct slt_values *expected_values(struct slt_run *run)
{
    struct slt_record *record = &run->record;
    bool split = record->types.size > 1 && record->expected.count != run->got.count &&
                 slt_values_split_rows(&record->expected, record->types.size, &run->split);
    struct slt_values *expected = split ? &run->split : &record->expected;
    if (expected->count % record->types.size == 0) {
        /* Files of other runners have rows unsorted there, since the order is said not to matter.
         */
        sort(record, expected);
    }
    return expected;
}

static enum slt_outcome compare_hash(struct slt_run *run, const char *hash)
{
    const struct slt_record *record = &run->record;
    if (run->got.count == record->hashed_count && !strcmp(hash, record->hash)) {
        return SLT_PASSED;
    }
    slt_buffer_print(&run->details,
                     "  expected %" PRIu64 " values hashing to %s\n"
                     "  got      %zu values hashing to %s\n",
                     record->hashed_count, record->hash, run->got.count, hash);
    if (run->threshold == 0 || run->got.count <= (uint64_t)run->threshold) {
        slt_details_values(&run->details, &run->got);
    }
    return slt_fail(run, "the query gives other values than those of the hash");
}

static enum slt_outcome compare_values(struct slt_run *run, const char *hash)
{
    struct slt_values *expected = expected_values(run);
    if (are_equal(expected, &run->got)) {
        return SLT_PASSED;
    }
    if (run->threshold && run->got.count > (uint64_t)run->threshold) {
        slt_buffer_print(&run->details, "  expected %zu values, got %zu values hashing to %s\n",
                         expected->count, run->got.count, hash);
    } else {
        slt_details_diff(&run->details, expected, &run->got);
    }
    return slt_fail(run, "the query gives other values");
}

static enum slt_outcome compare_label(struct slt_run *run, const char *hash)
{
    const struct slt_record *record = &run->record;
    if (!record->label.size) {
        return SLT_PASSED;
    }
    const struct slt_label *first =
        slt_labels_put(&run->labels, record->label.data, hash, record->line);
    return strcmp(first->hash, hash) == 0
               ? SLT_PASSED
               : slt_fail(run,
                          "the query gives other values than line %lu, which has the label "
                          "\"%s\" too",
                          first->line, first->name);
}

enum slt_outcome slt_run_query(struct slt_run *run)
{
    pier_error err = {0};
    if (fetch(run, &err) < 0) {
        return slt_fail_with(run, "the query failed", &err);
    }
    char hash[SLT_MD5_TEXT];
    sort(&run->record, &run->got);
    slt_values_hash(&run->got, hash);
    enum slt_outcome outcome =
        run->record.hashed ? compare_hash(run, hash) : compare_values(run, hash);
    return outcome == SLT_PASSED ? compare_label(run, hash) : outcome;
}

enum slt_outcome slt_check_skipped_query(struct slt_run *run)
{
    struct slt_record *record = &run->record;
    if (record->kind != SLT_QUERY || !record->label.size) {
        return SLT_PASSED;
    }
    char hash[SLT_MD5_TEXT];
    memcpy(hash, record->hash, sizeof hash);
    if (!record->hashed) {
        if (record->types.size > 1 &&
            slt_values_split_rows(&record->expected, record->types.size, &run->split)) {
            return SLT_PASSED; /* rows or values: nothing tells which */
        }
        sort(record, &record->expected);
        slt_values_hash(&record->expected, hash);
    }
    return compare_label(run, hash);
}
