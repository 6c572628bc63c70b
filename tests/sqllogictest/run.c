/*
 * A file: opens its database, runs record after record, closes the database. Ctrl-C cancels the
 * file's scope; what was made for the file is dropped outside of it.
 */
#include "tests/sqllogictest/run.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>

atomic_bool slt_interrupted;

/* ---- Failures ----------------------------------------------------------------------------- */

bool slt_is_lost(const struct slt_run *run, const pier_error *err)
{
    switch (err->status) {
    case PIER_ECLOSED:
    case PIER_ECONNECT:
    case PIER_EPROTOCOL:
    case PIER_EPOOL:
    case PIER_EDEADLOCK:
    case PIER_EFORKED:
        return true;
    case PIER_EIO:
        return run->session.schema[0]; /* a socket's; SQLite has it for files, of ATTACH too */
    default:
        return pier_scope_status(run->scope) < 0;
    }
}

enum slt_outcome slt_fail(struct slt_run *run, const char *format, ...)
{
    char what[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    run->counts.failed++;
    slt_report_failure(&run->suite->report, run->path, run->record.line, what, run->details.data);
    if (run->suite->halt) {
        atomic_store(&run->suite->stop, true);
    }
    return SLT_FAILED;
}

static void describe(struct slt_buffer *to, const pier_error *err)
{
    slt_buffer_print(to, "%s %s%s%s", pier_status_name(err->status), err->sqlstate,
                     err->sqlstate[0] ? ": " : "", err->message);
}

enum slt_outcome slt_fail_with(struct slt_run *run, const char *what, const pier_error *err)
{
    bool lost = slt_is_lost(run, err);
    if (lost && pier_scope_status(run->scope) < 0) {
        /* Ctrl-C is no failure of this record; run_script tells the others. */
        return SLT_LOST;
    }
    slt_buffer_print(&run->details, "  ");
    describe(&run->details, err);
    slt_buffer_print(&run->details, "\n");
    slt_fail(run, "%s%s", what, lost ? "; the rest of the file cannot run" : "");
    return lost ? SLT_LOST : SLT_FAILED;
}

/* ---- Statements --------------------------------------------------------------------------- */

static enum slt_outcome check_error(struct slt_run *run, const pier_error *err)
{
    if (slt_is_lost(run, err)) {
        return slt_fail_with(run, "the statement failed for another reason", err);
    }
    struct slt_buffer said = {0};
    describe(&said, err);
    bool found = strstr(said.data, run->record.text.data) != NULL;
    if (!found) {
        slt_buffer_print(&run->details, "  expected: %s\n  got:      %s\n", run->record.text.data,
                         said.data);
        slt_fail(run, "the statement failed with another error");
    }
    slt_buffer_fini(&said);
    return found ? SLT_PASSED : SLT_FAILED;
}

/* Whether a line other than the last ends in a semicolon: the format asks for one statement in a
 * record, but its own corpus does not always obey. */
static bool is_script(const char *sql)
{
    for (const char *end = sql; (end = strchr(end, '\n')); end++) {
        if (end > sql && end[-1] == ';') {
            return true;
        }
    }
    return false;
}

static int64_t execute(pier_db *db, const struct slt_record *record, pier_error *err)
{
    return record->wanted != SLT_COUNT && is_script(record->sql.data)
               ? pier_db_execute_script(db, record->sql.data, err)
               : pier_db_execute(db, record->sql.data, NULL, err);
}

static enum slt_outcome run_statement(struct slt_run *run)
{
    const struct slt_record *record = &run->record;
    pier_error err = {0};
    int64_t changed = execute(run->session.db, record, &err);
    if (changed < 0) {
        return record->wanted == SLT_ERROR ? check_error(run, &err)
                                           : slt_fail_with(run, "the statement failed", &err);
    }
    if (record->wanted == SLT_ERROR) {
        return slt_fail(run, "the statement succeeded, where an error is expected");
    }
    if (record->wanted == SLT_COUNT && changed != record->count) {
        return slt_fail(run, "the statement changed %" PRId64 " rows, not %" PRId64, changed,
                        record->count);
    }
    return SLT_PASSED;
}

/* ---- Records ------------------------------------------------------------------------------ */

static enum slt_outcome run_record(struct slt_run *run)
{
    const struct slt_record *record = &run->record;
    slt_buffer_clear(&run->details);
    if (record->kind == SLT_MALFORMED) {
        return slt_fail(run, "%s", record->problem);
    }
    if (record->skipped) {
        return slt_check_skipped_query(run);
    }
    slt_details_sql(&run->details, record->sql.data);
    return record->kind == SLT_QUERY ? slt_run_query(run) : run_statement(run);
}

/* False: the file ends here. */
static bool take_record(struct slt_run *run)
{
    const struct slt_record *record = &run->record;
    bool is_control = record->kind == SLT_HALT || record->kind == SLT_HASH_THRESHOLD;
    if (is_control) {
        if (record->kind == SLT_HASH_THRESHOLD && !record->skipped && run->suite->threshold < 0) {
            run->threshold = record->count;
        }
        return record->kind != SLT_HALT || record->skipped;
    }
    slt_report_progress(&run->suite->report, run->path, record->line);
    enum slt_outcome outcome = run_record(run);
    run->counts.passed += outcome == SLT_PASSED && !record->skipped;
    run->counts.skipped += record->skipped;
    return outcome != SLT_LOST;
}

static void run_records(struct slt_run *run, struct slt_script *script)
{
    do {
        slt_script_next(script, &run->record);
    } while (run->record.kind != SLT_END && take_record(run) && !atomic_load(&run->suite->stop));
}

static void run_script(struct slt_run *run, struct slt_script *script)
{
    struct slt_suite *suite = run->suite;
    pier_error err = {0};
    run->scope = pier_scope_open(suite->runner, PIER_SCOPE_OPTIONS(.signal = SIGINT), &err);
    if (run->scope && atomic_load(&slt_interrupted)) {
        pier_scope_cancel(run->scope); /* it came just before the scope listened */
    }
    if (!run->scope || slt_session_open(&run->session, &suite->target, suite->runner, &err) < 0) {
        slt_fail_with(run, "no database could be made for this file", &err);
    } else {
        run_records(run, script);
    }
    if (pier_scope_status(run->scope) < 0) {
        atomic_store(&suite->interrupted, true);
        atomic_store(&suite->stop, true);
    }
    pier_scope_close(run->scope);
    run->scope = NULL;
    err = (pier_error){0};
    if (slt_session_close(&run->session, &err) < 0) {
        slt_buffer_clear(&run->details);
        slt_fail_with(run, "the database of this file could not be dropped", &err);
    }
}

static void run_fini(struct slt_run *run)
{
    slt_record_fini(&run->record);
    slt_labels_fini(&run->labels);
    slt_values_fini(&run->got);
    slt_values_fini(&run->split);
    slt_buffer_fini(&run->details);
}

void slt_run_file(struct slt_suite *suite, const char *path)
{
    int64_t started_ms = slt_now_ms();
    struct slt_run run = {.suite = suite, .path = path};
    run.threshold = suite->threshold < 0 ? 0 : suite->threshold;
    struct slt_script script;
    if (slt_script_open(&script, path, suite->target.names)) {
        run_script(&run, &script);
    } else {
        slt_fail(&run, "%s", strerror(errno));
    }
    slt_script_close(&script);
    slt_report_file(&suite->report, path, &run.counts, started_ms);
    run_fini(&run);
}
