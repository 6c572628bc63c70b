/*
 * A prepared point read from a SQLite file, in autocommit: sqlite3 itself, prepared once, against
 * the blocking calls of Pier. All ways open the same file, and read the same two columns.
 */
#include "support.h"

#include <pier/pier.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 10000 };

static const char sql[] = "select id, name from point where id = $1";
static char directory[64], path[96];

static void clean_up(void)
{
    unlink(path);
    rmdir(directory);
}

/* Rows in an order that is the same for all ways. */
static int64_t key(int64_t i)
{
    return i * 7919 % ROWS + 1;
}

static void check(int64_t i, int64_t id, const char *name)
{
    if (id != key(i) || !name || strncmp(name, "name ", 5) != 0) {
        bench_fail("sqlite_point: read row %lld for %lld", (long long)id, (long long)key(i));
    }
}

static void run_raw(void *context, int64_t i)
{
    sqlite3_stmt *statement = context;
    char name[32];
    sqlite3_bind_int64(statement, 1, key(i));
    if (sqlite3_step(statement) != SQLITE_ROW) {
        bench_fail("sqlite_point: %s", sqlite3_errmsg(sqlite3_db_handle(statement)));
    }
    int64_t id = sqlite3_column_int64(statement, 0);
    const unsigned char *text = sqlite3_column_text(statement, 1);
    size_t size = (size_t)sqlite3_column_bytes(statement, 1);
    memcpy(name, text, size < sizeof name ? size + 1 : sizeof name);
    sqlite3_reset(statement);
    check(i, id, name);
}

static void run_fetch_into(void *context, int64_t i)
{
    pier_error err = {0};
    int64_t id = 0;
    char name[32];
    if (pier_db_fetch_into(context, sql, PIER_ARGS(key(i)),
                           PIER_INTO(&id, pier_into_buffer(name, sizeof name)), &err) != 1) {
        bench_fail("sqlite_point: %s", err.message);
    }
    check(i, id, name);
}

static void run_fetch(void *context, int64_t i)
{
    pier_error err = {0};
    pier_result *result = pier_db_fetch(context, sql, PIER_ARGS(key(i)), &err);
    if (!result) {
        bench_fail("sqlite_point: %s", err.message);
    }
    const pier_row *row = pier_result_row(result, 0);
    check(i, pier_row_int64(row, 0), pier_row_text(row, 1));
    pier_result_free(result);
}

static sqlite3_stmt *open_raw(void)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.32s/pier-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory)) {
        bench_fail("sqlite_point: cannot make %s", directory);
    }
    snprintf(path, sizeof path, "%s/point.db", directory);
    atexit(clean_up);
    /* NOMUTEX as in Pier, whose connections are used by one thread at a time. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK ||
        sqlite3_exec(
            db,
            "create table point(id integer primary key, name text);"
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 10000)"
            " insert into point select i, 'name ' || i from n",
            NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        bench_fail("sqlite_point: %s", sqlite3_errmsg(db));
    }
    return statement;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 50000);
    pier_error err = {0};
    char url[128];
    sqlite3_stmt *raw = open_raw();
    snprintf(url, sizeof url, "sqlite:%s", path);
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    if (!db) {
        bench_fail("sqlite_point: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"sqlite3", run_raw, raw},
        {"pier_db_fetch_into", run_fetch_into, db},
        {"pier_db_fetch", run_fetch, db},
    };
    bench_run("sqlite_point", &options, ways, 3);
    pier_runner_close(runner);
    sqlite3 *handle = sqlite3_db_handle(raw);
    sqlite3_finalize(raw);
    sqlite3_close(handle);
    return 0;
}
