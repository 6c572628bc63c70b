/*
 * A million rows read from a SQLite file: sqlite3 itself, each row materialised (its text copied
 * into memory of its own), against a cursor and a whole result. One operation is one scan.
 */
#include "support.h"

#include <pier/pier.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 1000000 };

static const char sql[] = "select id, name, weight from scan";
static char directory[64], path[96];

static void clean_up(void)
{
    unlink(path);
    rmdir(directory);
}

/* What a scan adds up. */
struct sum {
    int64_t rows, ids;
    double weights;
    size_t bytes;
};

static void add(struct sum *sum, int64_t id, const char *name, double weight)
{
    sum->rows++;
    sum->ids += id;
    sum->weights += weight;
    sum->bytes += strlen(name);
}

static void check(const struct sum *sum)
{
    int64_t ids = (int64_t)ROWS * (ROWS + 1) / 2;
    if (sum->rows != ROWS || sum->ids != ids || sum->weights != (double)ids / 2 ||
        sum->bytes < 6 * (size_t)ROWS) {
        bench_fail("sqlite_scan: %lld rows read wrong", (long long)sum->rows);
    }
}

static void run_raw(void *context, int64_t i)
{
    (void)i;
    sqlite3_stmt *statement = context;
    struct sum sum = {0};
    while (sqlite3_step(statement) == SQLITE_ROW) {
        int64_t id = sqlite3_column_int64(statement, 0);
        const unsigned char *text = sqlite3_column_text(statement, 1);
        size_t size = (size_t)sqlite3_column_bytes(statement, 1);
        char *name = malloc(size + 1);
        memcpy(name, text, size + 1);
        add(&sum, id, name, sqlite3_column_double(statement, 2));
        free(name);
    }
    sqlite3_reset(statement);
    check(&sum);
}

static void run_cursor(void *context, int64_t i)
{
    (void)i;
    pier_error err = {0};
    struct sum sum = {0};
    pier_cursor *cursor = pier_db_cursor(context, sql, NULL, &err);
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        add(&sum, pier_row_int64(row, 0), pier_row_text(row, 1), pier_row_double(row, 2));
    }
    if (pier_cursor_close(cursor, &err) < 0) {
        bench_fail("sqlite_scan: %s", err.message);
    }
    check(&sum);
}

static void run_fetch(void *context, int64_t i)
{
    (void)i;
    pier_error err = {0};
    struct sum sum = {0};
    pier_result *result = pier_db_fetch(context, sql, NULL, &err);
    if (!result) {
        bench_fail("sqlite_scan: %s", err.message);
    }
    for (size_t at = 0; at < pier_result_count(result); at++) {
        const pier_row *row = pier_result_row(result, at);
        add(&sum, pier_row_int64(row, 0), pier_row_text(row, 1), pier_row_double(row, 2));
    }
    pier_result_free(result);
    check(&sum);
}

static sqlite3_stmt *open_raw(void)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.32s/pier-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory)) {
        bench_fail("sqlite_scan: cannot make %s", directory);
    }
    snprintf(path, sizeof path, "%s/scan.db", directory);
    atexit(clean_up);
    /* NOMUTEX as in Pier, whose connections are used by one thread at a time. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK ||
        sqlite3_exec(
            db,
            "create table scan(id integer primary key, name text, weight real);"
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000)"
            " insert into scan select i, 'name ' || i, i * 0.5 from n",
            NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        bench_fail("sqlite_scan: %s", sqlite3_errmsg(db));
    }
    return statement;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 1);
    pier_error err = {0};
    char url[128];
    sqlite3_stmt *raw = open_raw();
    snprintf(url, sizeof url, "sqlite:%s", path);
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    if (!db) {
        bench_fail("sqlite_scan: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"sqlite3", run_raw, raw},
        {"pier_cursor_next", run_cursor, db},
        {"pier_db_fetch", run_fetch, db},
    };
    bench_run("sqlite_scan", &options, ways, 3);
    pier_runner_close(runner);
    sqlite3 *handle = sqlite3_db_handle(raw);
    sqlite3_finalize(raw);
    sqlite3_close(handle);
    return 0;
}
