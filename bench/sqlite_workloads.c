/*
 * The workloads that better-sqlite3 and aiosqlite measure themselves with, one table for each:
 * sqlite3 itself, prepared once, against Pier's blocking calls on a thread, its asynchronous ones
 * awaited one at a time, and the blocking ones in a task. The file has a write-ahead log and
 * synchronous=normal for all of them. bench/sqlite_workloads.py does the same in Python.
 *
 * The positional argument is the name of one workload. An operation of the table is as many of the
 * workload's as its heading says, so that a task is started once for all of those.
 */
#include "support.h"

#include <pier/pier.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ROWS = 10000, SOME = 100, MANY = 1000, TEXT_MAX = 32, NUMBER = 0x7fffffff };

static const char text[] = "this is the text";
static const double third = 1.0 / 3;

static const char select_sql[] = "select nul, integer, real, text from small where id = $1";
static const char page_sql[] =
    "select nul, integer, real, text from small where id >= $1 limit 100";
static const char insert_sql[] = "insert into sink(nul, integer, real, text)"
                                 " values ($1, $2, $3, $4)";
static const char query_sql[] = "select last_insert_rowid()";

static char directory[64], path[96], url[192];

/* Main thread and one task at a time. */
static pier_runner *runner;
static pier_db *pool;
static struct {
    sqlite3 *db;
    sqlite3_stmt *select, *page, *insert, *query, *begin, *commit;
} raw;

struct small {
    int64_t integer;
    double real;
    char text[TEXT_MAX];
};

/* Where the rows of the raw library are collected. */
static struct small collected[SOME];

static void clean_up(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", path, suffixes[i]);
        unlink(name);
    }
    rmdir(directory);
}

/* Rows in an order that is the same for all ways, each with a hundred behind it. */
static int64_t key(int64_t i)
{
    return i * 7919 % (ROWS - SOME) + 1;
}

static void must(bool held, const pier_error *err)
{
    if (!held) {
        bench_fail("sqlite_workloads: %s", err->status ? err->message : "a wrong result");
    }
}

static void must_raw(bool held)
{
    if (!held) {
        bench_fail("sqlite_workloads: %s", sqlite3_errmsg(raw.db));
    }
}

static void check_row(const pier_row *row)
{
    must(pier_row_int64(row, 1) == NUMBER && pier_row_double(row, 2) == third &&
             strcmp(pier_row_text(row, 3), text) == 0,
         &(pier_error){0});
}

/* ---- sqlite3 ------------------------------------------------------------------------------ */

static void raw_once(sqlite3_stmt *statement)
{
    must_raw(sqlite3_step(statement) == SQLITE_DONE);
    sqlite3_reset(statement);
}

static void raw_take(sqlite3_stmt *statement, struct small *row)
{
    row->integer = sqlite3_column_int64(statement, 1);
    row->real = sqlite3_column_double(statement, 2);
    const unsigned char *from = sqlite3_column_text(statement, 3);
    size_t size = (size_t)sqlite3_column_bytes(statement, 3);
    memcpy(row->text, from, size < TEXT_MAX ? size + 1 : TEXT_MAX);
    must_raw(row->integer == NUMBER && row->real == third && strcmp(row->text, text) == 0);
}

static void raw_select_1(int64_t i)
{
    sqlite3_bind_int64(raw.select, 1, key(i));
    must_raw(sqlite3_step(raw.select) == SQLITE_ROW);
    raw_take(raw.select, collected);
    sqlite3_reset(raw.select);
}

static void raw_select_100(int64_t i)
{
    int rows = 0;
    sqlite3_bind_int64(raw.page, 1, key(i));
    while (sqlite3_step(raw.page) == SQLITE_ROW) {
        raw_take(raw.page, &collected[rows++]);
    }
    must_raw(rows == SOME);
    sqlite3_reset(raw.page);
}

static void raw_iterate_100(int64_t i)
{
    int rows = 0;
    sqlite3_bind_int64(raw.page, 1, key(i));
    for (; sqlite3_step(raw.page) == SQLITE_ROW; rows++) {
        const char *got = (const char *)sqlite3_column_text(raw.page, 3);
        must_raw(sqlite3_column_int64(raw.page, 1) == NUMBER &&
                 sqlite3_column_double(raw.page, 2) == third && strcmp(got, text) == 0);
    }
    must_raw(rows == SOME);
    sqlite3_reset(raw.page);
}

static void raw_insert_1(int64_t i)
{
    (void)i;
    sqlite3_bind_null(raw.insert, 1);
    sqlite3_bind_int64(raw.insert, 2, NUMBER);
    sqlite3_bind_double(raw.insert, 3, third);
    sqlite3_bind_text(raw.insert, 4, text, sizeof text - 1, SQLITE_STATIC);
    raw_once(raw.insert);
}

static void raw_insert_rows(int rows)
{
    raw_once(raw.begin);
    for (int row = 0; row < rows; row++) {
        raw_insert_1(row);
    }
    raw_once(raw.commit);
}

static void raw_insert_100(int64_t i)
{
    (void)i;
    raw_insert_rows(SOME);
}

static void raw_insert_1000(int64_t i)
{
    (void)i;
    raw_insert_rows(MANY);
}

static sqlite3 *raw_open(const char *name)
{
    /* NOMUTEX as in Pier, whose connections are used by one thread at a time. */
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    sqlite3 *db;
    if (sqlite3_open_v2(name, &db, flags, NULL) != SQLITE_OK) {
        bench_fail("sqlite_workloads: %s", sqlite3_errmsg(db));
    }
    return db;
}

static void raw_open_memory(int64_t i)
{
    (void)i;
    sqlite3_close(raw_open(":memory:"));
}

static void raw_open_file(int64_t i)
{
    (void)i;
    sqlite3_close(raw_open(path));
}

static void raw_query(int64_t i)
{
    (void)i;
    must_raw(sqlite3_step(raw.query) == SQLITE_ROW);
    must_raw(sqlite3_column_int64(raw.query, 0) >= 0);
    sqlite3_reset(raw.query);
}

/* ---- Pier's blocking face: on a thread, and in a task --------------------------------------- */

static void blocking_select_1(int64_t i)
{
    pier_error err = {0};
    struct small row;
    int found = pier_db_fetch_into(pool, select_sql, PIER_ARGS(key(i)),
                                   PIER_INTO(pier_into_skip(), &row.integer, &row.real,
                                             pier_into_buffer(row.text, sizeof row.text)),
                                   &err);
    must(found == 1 && row.integer == NUMBER && row.real == third && strcmp(row.text, text) == 0,
         &err);
}

static void check_page(pier_result *result, const pier_error *err)
{
    must(pier_result_count(result) == SOME, err);
    for (size_t row = 0; row < SOME; row++) {
        check_row(pier_result_row(result, row));
    }
    pier_result_free(result);
}

static void blocking_select_100(int64_t i)
{
    pier_error err = {0};
    check_page(pier_db_fetch(pool, page_sql, PIER_ARGS(key(i)), &err), &err);
}

static void blocking_iterate_100(int64_t i)
{
    pier_error err = {0};
    int rows = 0;
    pier_cursor *cursor = pier_db_cursor(pool, page_sql, PIER_ARGS(key(i)), &err);
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        check_row(row);
    }
    must(pier_cursor_close(cursor, &err) == 0 && rows == SOME, &err);
}

static void blocking_insert(pier_db *db)
{
    pier_error err = {0};
    must(pier_db_execute(db, insert_sql, PIER_ARGS(NULL, NUMBER, third, text), &err) == 1, &err);
}

static void blocking_insert_1(int64_t i)
{
    (void)i;
    blocking_insert(pool);
}

static void blocking_insert_rows(int rows)
{
    pier_error err = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &err);
    must(tx, &err);
    for (int row = 0; row < rows; row++) {
        blocking_insert(tx);
    }
    must(pier_db_commit(tx, &err) == 0, &err);
    pier_db_close(tx);
}

static void blocking_insert_100(int64_t i)
{
    (void)i;
    blocking_insert_rows(SOME);
}

static void blocking_inserts(int64_t i)
{
    (void)i;
    blocking_insert_rows(MANY);
}

static const pier_args *many_rows(void)
{
    static pier_value values[MANY][4];
    static pier_args rows[MANY];
    for (int row = 0; row < MANY; row++) {
        values[row][0] = pier_null();
        values[row][1] = pier_int64(NUMBER);
        values[row][2] = pier_double(third);
        values[row][3] = pier_text(text);
        rows[row] = (pier_args){4, values[row], NULL};
    }
    return rows;
}

static void blocking_execute_many(int64_t i)
{
    (void)i;
    pier_error err = {0};
    must(pier_db_execute_many(pool, insert_sql, many_rows(), MANY, &err) == MANY, &err);
}

static void blocking_open(const char *name)
{
    pier_error err = {0};
    pier_db *db = pier_db_open(runner, name, NULL, &err);
    must(db, &err);
    pier_db_close(db);
}

static void blocking_open_memory(int64_t i)
{
    (void)i;
    blocking_open("sqlite::memory:");
}

static void blocking_open_file(int64_t i)
{
    (void)i;
    char plain[128];
    snprintf(plain, sizeof plain, "sqlite:%s", path);
    blocking_open(plain);
}

static void blocking_query(int64_t i)
{
    (void)i;
    pier_error err = {0};
    int64_t id = -1;
    int found = pier_db_fetch_into(pool, query_sql, NULL, PIER_INTO(&id), &err);
    must(found == 1 && id >= 0, &err);
}

/* ---- Pier's asynchronous face, each future awaited before the next is made ------------------ */

static void async_select_1(int64_t i)
{
    pier_error err = {0};
    pier_future *future = pier_db_fetch_async(pool, select_sql, PIER_ARGS(key(i)));
    pier_result *result = pier_db_fetch_finish(future, &err);
    must(pier_result_count(result) == 1, &err);
    check_row(pier_result_row(result, 0));
    pier_result_free(result);
}

static void async_select_100(int64_t i)
{
    pier_error err = {0};
    pier_future *future = pier_db_fetch_async(pool, page_sql, PIER_ARGS(key(i)));
    check_page(pier_db_fetch_finish(future, &err), &err);
}

static void async_iterate_100(int64_t i)
{
    pier_error err = {0};
    size_t rows = 0, count;
    pier_cursor *cursor = pier_db_cursor(pool, page_sql, PIER_ARGS(key(i)), &err);
    do {
        pier_result *block = pier_cursor_block_finish(pier_cursor_block_async(cursor), &err);
        must(block, &err);
        count = pier_result_count(block);
        for (size_t row = 0; row < count; row++) {
            check_row(pier_result_row(block, row));
        }
        rows += count;
        pier_result_free(block);
    } while (count > 0);
    must(pier_cursor_close_finish(pier_cursor_close_async(cursor), &err) == 0 && rows == SOME,
         &err);
}

static void async_insert(pier_db *db)
{
    pier_error err = {0};
    pier_future *future =
        pier_db_execute_async(db, insert_sql, PIER_ARGS(NULL, NUMBER, third, text));
    must(pier_db_execute_finish(future, &err) == 1, &err);
}

static void async_insert_1(int64_t i)
{
    (void)i;
    async_insert(pool);
}

static void async_insert_rows(int rows)
{
    pier_error err = {0};
    pier_db *tx = pier_db_begin_finish(pier_db_begin_async(pool, NULL), &err);
    must(tx, &err);
    for (int row = 0; row < rows; row++) {
        async_insert(tx);
    }
    must(pier_db_commit_finish(pier_db_commit_async(tx), &err) == 0, &err);
    pier_db_close_finish(pier_db_close_async(tx));
}

static void async_insert_100(int64_t i)
{
    (void)i;
    async_insert_rows(SOME);
}

static void async_inserts(int64_t i)
{
    (void)i;
    async_insert_rows(MANY);
}

static void async_execute_many(int64_t i)
{
    (void)i;
    pier_error err = {0};
    pier_future *future = pier_db_execute_many_async(pool, insert_sql, many_rows(), MANY);
    must(pier_db_execute_many_finish(future, &err) == MANY, &err);
}

static void async_open(const char *name)
{
    pier_error err = {0};
    pier_db *db = pier_db_open_finish(pier_db_open_async(runner, name, NULL), &err);
    must(db, &err);
    pier_db_close_finish(pier_db_close_async(db));
}

static void async_open_memory(int64_t i)
{
    (void)i;
    async_open("sqlite::memory:");
}

static void async_open_file(int64_t i)
{
    (void)i;
    char plain[128];
    snprintf(plain, sizeof plain, "sqlite:%s", path);
    async_open(plain);
}

static void async_query(int64_t i)
{
    (void)i;
    pier_error err = {0};
    pier_result *result = pier_db_fetch_finish(pier_db_fetch_async(pool, query_sql, NULL), &err);
    must(pier_result_count(result) == 1 && pier_row_int64(pier_result_row(result, 0), 0) >= 0,
         &err);
    pier_result_free(result);
}

/* ---- The workloads -------------------------------------------------------------------------- */

typedef void (*work_fn)(int64_t i);

struct workload {
    const char *name;
    int calls; /* of the functions below, in one operation of the table */
    int units; /* of the workload, in one operation of the table: rows, where it inserts many */
    int ops;   /* of the table, in a round: of inserts so few that no checkpoint is in most of the
                  rounds, or so many that one is in each */
    work_fn raw, blocking, async;
};

static const struct workload workloads[] = {
    {"select_1", 100, 100, 30, raw_select_1, blocking_select_1, async_select_1},
    {"select_100", 10, 10, 30, raw_select_100, blocking_select_100, async_select_100},
    {"iterate_100", 10, 10, 30, raw_iterate_100, blocking_iterate_100, async_iterate_100},
    {"insert_1", 100, 100, 10, raw_insert_1, blocking_insert_1, async_insert_1},
    {"insert_100", 10, 10, 5, raw_insert_100, blocking_insert_100, async_insert_100},
    {"open_memory", 10, 10, 10, raw_open_memory, blocking_open_memory, async_open_memory},
    {"open_file", 10, 10, 10, raw_open_file, blocking_open_file, async_open_file},
    {"query", 100, 100, 30, raw_query, blocking_query, async_query},
    {"inserts", 1, MANY, 5, raw_insert_1000, blocking_inserts, async_inserts},
    {"execute_many", 1, MANY, 5, raw_insert_1000, blocking_execute_many, async_execute_many},
};

struct batch {
    work_fn work;
    int calls;
    bool in_task;
    int64_t first;
};

static int work_through(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct batch *batch = arg;
    for (int call = 0; call < batch->calls; call++) {
        batch->work(batch->first + call);
    }
    return 0;
}

static void run_batch(void *context, int64_t i)
{
    struct batch *batch = context;
    pier_error err = {0};
    batch->first = i * batch->calls;
    if (batch->in_task) {
        must(pier_task_run(runner, work_through, batch, &err) == 0, &err);
    } else {
        work_through(NULL, batch, NULL);
    }
}

static void run_workload(const struct workload *workload, struct bench_options options)
{
    char group[64];
    struct batch direct = {workload->raw, workload->calls, false, 0};
    struct batch blocking = {workload->blocking, workload->calls, false, 0};
    struct batch async = {workload->async, workload->calls, false, 0};
    struct batch task = {workload->blocking, workload->calls, true, 0};
    const struct bench_way ways[] = {
        {"sqlite3", run_batch, &direct},
        {"pier blocking", run_batch, &blocking},
        {"pier async, awaited", run_batch, &async},
        {"pier in a task", run_batch, &task},
    };
    options.ops = options.ops ? options.ops : workload->ops;
    snprintf(group, sizeof group, "%s x %d", workload->name, workload->units);
    bench_run(group, &options, ways, 4);
    if (!options.list) {
        putchar('\n');
    }
}

/* ---- Setting up ----------------------------------------------------------------------------- */

static sqlite3_stmt *prepare(const char *sql)
{
    sqlite3_stmt *statement;
    must_raw(sqlite3_prepare_v3(raw.db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) ==
             SQLITE_OK);
    return statement;
}

static void set_up_raw(void)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(directory, sizeof directory, "%.32s/pier-bench-XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(directory)) {
        bench_fail("sqlite_workloads: cannot make %s", directory);
    }
    snprintf(path, sizeof path, "%s/workloads.db", directory);
    atexit(clean_up);
    raw.db = raw_open(path);
    must_raw(sqlite3_exec(raw.db,
                          "pragma journal_mode=wal; pragma synchronous=normal;"
                          "create table small"
                          "(id integer primary key, nul, integer integer, real real, text text);"
                          "create table sink"
                          "(id integer primary key, nul, integer integer, real real, text text);"
                          "with recursive n(i) as"
                          " (select 1 union all select i + 1 from n where i < 10000)"
                          " insert into small select i, null, 0x7fffffff, 1.0 / 3,"
                          " 'this is the text' from n",
                          NULL, NULL, NULL) == SQLITE_OK);
    raw.select = prepare(select_sql);
    raw.page = prepare(page_sql);
    raw.insert = prepare(insert_sql);
    raw.query = prepare(query_sql);
    raw.begin = prepare("begin immediate");
    raw.commit = prepare("commit");
}

static void tear_down_raw(void)
{
    for (sqlite3_stmt *statement; (statement = sqlite3_next_stmt(raw.db, NULL));) {
        sqlite3_finalize(statement);
    }
    sqlite3_close(raw.db);
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 0);
    const size_t count = sizeof workloads / sizeof *workloads;
    const char *name = options.url;
    bool found = false;
    if (options.json && !name) {
        bench_fail("sqlite_workloads: --json is for one workload: name it");
    }
    pier_error err = {0};
    set_up_raw();
    snprintf(url, sizeof url, "sqlite:%s?synchronous=normal", path);
    runner = pier_runner_open(NULL, &err);
    pool = pier_db_open(runner, url, NULL, &err);
    must(pool, &err);
    for (size_t w = 0; w < count; w++) {
        if (!name || strcmp(name, workloads[w].name) == 0) {
            found = true;
            run_workload(&workloads[w], options);
        }
    }
    pier_runner_close(runner);
    tear_down_raw();
    if (!found) {
        bench_fail("sqlite_workloads: there is no workload %s", name);
    }
    return 0;
}
