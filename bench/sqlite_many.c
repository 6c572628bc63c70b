/*
 * Rows into a SQLite file, a thousand in a transaction: sqlite3 itself (prepared once; bind, step,
 * reset) against a writer and pier_db_execute_many. One operation is one transaction.
 */
#include "support.h"

#include <pier/pier.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 1000 };

static const char sql[] = "insert into many(name, size, weight) values ($1, $2, $3)";
static char directory[64], path[96];

static void clean_up(void)
{
    unlink(path);
    rmdir(directory);
}

static const char *name_of(int row)
{
    static char names[ROWS][16];
    if (!names[row][0]) {
        snprintf(names[row], sizeof names[row], "name %d", row);
    }
    return names[row];
}

/* Every operation begins with an empty table, so that all of them do the same. */
static void empty(sqlite3 *db)
{
    if (sqlite3_exec(db, "delete from many", NULL, NULL, NULL) != SQLITE_OK) {
        bench_fail("sqlite_many: %s", sqlite3_errmsg(db));
    }
}

static void insert_row(sqlite3 *db, sqlite3_stmt *statement, int row)
{
    const char *name = name_of(row);
    sqlite3_bind_text(statement, 1, name, (int)strlen(name), SQLITE_STATIC);
    sqlite3_bind_int64(statement, 2, row);
    sqlite3_bind_double(statement, 3, row * 0.5);
    if (sqlite3_step(statement) != SQLITE_DONE) {
        bench_fail("sqlite_many: %s", sqlite3_errmsg(db));
    }
    sqlite3_reset(statement);
}

static void run_raw(void *context, int64_t i)
{
    (void)i;
    sqlite3_stmt *statement = context;
    sqlite3 *db = sqlite3_db_handle(statement);
    empty(db);
    sqlite3_exec(db, "begin immediate", NULL, NULL, NULL);
    for (int row = 0; row < ROWS; row++) {
        insert_row(db, statement, row);
    }
    if (sqlite3_exec(db, "commit", NULL, NULL, NULL) != SQLITE_OK) {
        bench_fail("sqlite_many: %s", sqlite3_errmsg(db));
    }
}

static void check(int64_t rows, const pier_error *err)
{
    if (rows != ROWS) {
        bench_fail("sqlite_many: %lld rows: %s", (long long)rows, err->message);
    }
}

static void run_writer(void *context, int64_t i)
{
    (void)i;
    pier_error err = {0};
    pier_db_execute(context, "delete from many", NULL, &err);
    pier_writer *writer = pier_db_writer(context, sql, &err);
    for (int row = 0; row < ROWS; row++) {
        pier_writer_add(writer, PIER_ARGS(name_of(row), row, row * 0.5));
    }
    check(pier_writer_close(writer, &err), &err);
}

static void run_execute_many(void *context, int64_t i)
{
    (void)i;
    static pier_value values[ROWS][3];
    static pier_args rows[ROWS];
    pier_error err = {0};
    pier_db_execute(context, "delete from many", NULL, &err);
    for (int row = 0; row < ROWS; row++) {
        values[row][0] = pier_text(name_of(row));
        values[row][1] = pier_int64(row);
        values[row][2] = pier_double(row * 0.5);
        rows[row] = (pier_args){3, values[row], NULL};
    }
    check(pier_db_execute_many(context, sql, rows, ROWS, &err), &err);
}

static sqlite3_stmt *open_raw(void)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.32s/pier-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory)) {
        bench_fail("sqlite_many: cannot make %s", directory);
    }
    snprintf(path, sizeof path, "%s/many.db", directory);
    atexit(clean_up);
    /* NOMUTEX as in Pier, whose connections are used by one thread at a time. The log lasts in the
     * file, so both connections work with it, and what is measured is no fsync. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    if (sqlite3_open_v2(path, &db, flags, NULL) != SQLITE_OK ||
        sqlite3_exec(db,
                     "pragma journal_mode=wal; pragma synchronous=off;"
                     "create table many(id integer primary key, name text, size int, weight real)",
                     NULL, NULL, NULL) != SQLITE_OK ||
        sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK) {
        bench_fail("sqlite_many: %s", sqlite3_errmsg(db));
    }
    return statement;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 100);
    pier_error err = {0};
    char url[128];
    sqlite3_stmt *raw = open_raw();
    snprintf(url, sizeof url, "sqlite:%s", path);
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    pier_result_free(pier_db_fetch(db, "pragma synchronous=off", NULL, &err));
    if (err.status) {
        bench_fail("sqlite_many: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"sqlite3", run_raw, raw},
        {"pier_writer", run_writer, db},
        {"pier_db_execute_many", run_execute_many, db},
    };
    bench_run("sqlite_many", &options, ways, 3);
    pier_runner_close(runner);
    sqlite3 *handle = sqlite3_db_handle(raw);
    sqlite3_finalize(raw);
    sqlite3_close(handle);
    return 0;
}
