/*
 * What the smoke tests of aiosqlite show and no other test here does, each under the name it has
 * there. docs/sqlite.md has the table of all of them.
 */
#include "tests/integration/sqlite_fixture.h"

#include <unistd.h>

enum { CONNECTIONS = 10, THREADS = 4, QUERIES = 50 };

/* ---- Connections -------------------------------------------------------------------------- */

static void test_aiosqlite__connection_context_closes_at_the_end_of_its_block(void **state)
{
    struct fixture *f = *state;
    int fds = support_fd_count();
    {
        PIER_AUTO(pier_db) db = pier_db_open(f->runner, f->url, NULL, &f->err);
        execute(db, "insert into t values (1, 'kept')", NULL);
        PIER_AUTO(pier_db) tx = pier_db_begin(db, NULL, &f->err);
        execute(tx, "insert into t values (2, 'rolled back')", NULL);
        assert_true(support_fd_count() > fds);
    }
    assert_ok(&f->err);
    assert_true(support_wait_fds(fds, BOUND_MS));
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 1);
}

static void test_aiosqlite__connection_locations_name_the_same_file(void **state)
{
    struct fixture *f = *state;
    static const char *const forms[][2] = {
        {"sqlite:", ""}, {"sqlite://", ""}, {"sqlite:", "?mode=rw"}};
    execute(f->db, "insert into t values (7, 'x')", NULL);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char url[700];
        snprintf(url, sizeof url, "%s%s%s", forms[i][0], f->path, forms[i][1]);
        pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
        assert_ok(&f->err);
        assert_int_equal(number_of(db, "select id from t"), 7);
        pier_db_close(db);
    }
}

static int insert_by_a_connection_of_its_own(pier_task *self, void *arg, pier_error *err)
{
    struct fixture *f = arg;
    pier_db *db = pier_db_open(pier_task_runner(self), f->url, NULL, err);
    pier_db_execute(db, "insert into t(name) values ($1)", PIER_ARGS("x"), err);
    pier_db_close(db);
    return err->status;
}

static void test_aiosqlite__multiple_connections_write_at_once(void **state)
{
    struct fixture *f = *state;
    pier_future *tasks[CONNECTIONS];
    for (int i = 0; i < CONNECTIONS; i++) {
        tasks[i] = pier_task_start(f->runner, insert_by_a_connection_of_its_own, f);
    }
    for (int i = 0; i < CONNECTIONS; i++) {
        assert_int_equal(pier_task_finish(tasks[i], &f->err), 0);
    }
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select count(*) from t"), CONNECTIONS);
}

struct loop {
    pthread_t thread;
    pier_runner *runner;
    pier_db *db;
    int64_t rows;
    pier_error err;
};

static int count_rows(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct loop *loop = arg;
    pier_result *result = pier_db_fetch(loop->db, "select * from foo", NULL, err);
    loop->rows = (int64_t)pier_result_count(result);
    pier_result_free(result);
    return err->status;
}

static void *run_a_loop(void *arg)
{
    struct loop *loop = arg;
    pier_task_run(loop->runner, count_rows, loop, &loop->err);
    return NULL;
}

/* The connection is the fixture's runner's; the tasks run on loops of other runners. All are opened
 * before the first is closed: TSan does not see libuv close a descriptor, and takes the next one of
 * that number for the same. */
static void test_aiosqlite__multi_loop_usage(void **state)
{
    struct fixture *f = *state;
    struct loop loops[THREADS];
    pier_db *db = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    execute(db, "create table foo(id int, name varchar)", NULL);
    execute(db, "insert into foo values ($1, $2), ($3, $4)", PIER_ARGS(1, "Sally", 2, "Janet"));
    for (int i = 0; i < THREADS; i++) {
        loops[i] = (struct loop){.runner = pier_runner_open(NULL, &f->err), .db = db};
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&loops[i].thread, NULL, run_a_loop, &loops[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(loops[i].thread, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        pier_runner_close(loops[i].runner);
        assert_ok(&loops[i].err);
        assert_int_equal(loops[i].rows, 2);
    }
    pier_db_close(db);
}

/* ---- Cursors and properties ----------------------------------------------------------------- */

static void test_aiosqlite__cursor_return_self_is_a_count_here(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_db_execute(f->db, "create table r(i, k)", NULL, &f->err), 0);
    const pier_args rows[] = {*PIER_ARGS(1, 1), *PIER_ARGS(2, 2)};
    assert_int_equal(pier_db_execute_many(f->db, "insert into r values ($1, $2)", rows, 2, &f->err),
                     2);
    assert_int_equal(pier_db_execute_script(f->db,
                                            "insert into r values (3, 3);"
                                            "insert into r values (4, 4)",
                                            &f->err),
                     0);
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select sum(k) from r"), 10);
}

static void test_aiosqlite__connection_properties(void **state)
{
    struct fixture *f = *state;
    pier_db *db = pier_db_open(f->runner, f->url, NULL, &f->err);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    assert_int_equal(pier_sqlite_total_changes(tx, &f->err), 0);
    execute(tx, "insert into t values (1, 'hi')", NULL);
    assert_int_equal(pier_sqlite_in_transaction(tx, &f->err), 1);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(pier_sqlite_in_transaction(db, &f->err), 0);
    assert_int_equal(pier_sqlite_total_changes(db, &f->err), 1);
    pier_db_close(db);
    assert_ok(&f->err);
}

static void test_aiosqlite__row_factory_and_text_factory_are_getters(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (1, 'hi')", NULL);
    pier_result *result = pier_db_fetch(f->db, "select * from t", NULL, &f->err);
    const pier_row *row = pier_result_row(result, 0);
    int name = pier_result_column(result, "name");
    size_t size = 0;
    assert_int_equal(pier_row_int64(row, pier_result_column(result, "id")), 1);
    assert_int_equal(name, 1);
    assert_string_equal(pier_row_text(row, name), "hi");
    assert_memory_equal(pier_row_bytes(row, name, &size), "hi", 2);
    assert_int_equal(size, 2);
    assert_int_equal(pier_result_column(result, "no such column"), -1);
    assert_true(pier_result_check(result, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "there is no column");
    pier_result_free(result);
}

static void test_aiosqlite__iterdump_gives_a_statement_a_row(void **state)
{
    struct fixture *f = *state;
    static const char *const lines[] = {
        "BEGIN TRANSACTION;",
        "PRAGMA defer_foreign_keys=ON;",
        "CREATE TABLE foo (i integer, k charvar(250));",
        "INSERT INTO \"foo\" VALUES(1,'hello');",
        "INSERT INTO \"foo\" VALUES(2,'world');",
        "COMMIT;",
    };
    size_t count = 0;
    pier_db *db = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    execute(db, "create table foo (i integer, k charvar(250))", NULL);
    execute(db, "insert into foo values (1, 'hello'), (2, 'world')", NULL);
    pier_cursor *cursor = pier_sqlite_dump(db, &f->err);
    for (const pier_row *row; (row = pier_cursor_next(cursor)); count++) {
        assert_true(count < sizeof lines / sizeof *lines);
        assert_string_equal(pier_row_text(row, 0), lines[count]);
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(count, sizeof lines / sizeof *lines);
    pier_db_close(db);
}

/* ---- Closing ------------------------------------------------------------------------------ */

static void test_aiosqlite__cursor_on_closed_connection(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = pier_db_cursor(f->db, "select 1, 2", NULL, &f->err);
    pier_db_close(f->db);
    f->db = NULL;
    assert_null(pier_cursor_next(cursor));
    assert_null(pier_cursor_next(cursor));
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_error(&f->err, PIER_ECLOSED, "closed");
}

/* Every query that was started before the close settles: with its rows, or as closed. */
static void test_aiosqlite__cursor_on_closed_connection_loop(void **state)
{
    struct fixture *f = *state;
    pier_future *queries[QUERIES];
    pier_cursor *cursor = pier_db_cursor(f->db, "select 1, 2", NULL, &f->err);
    for (int i = 0; i < QUERIES; i++) {
        queries[i] = pier_db_fetch_async(f->db, "select 1, 2", NULL);
    }
    pier_future *closing = pier_db_close_async(f->db);
    f->db = NULL;
    for (int i = 0; i < QUERIES; i++) {
        pier_result *result = pier_db_fetch_finish(queries[i], &f->err);
        if (result) {
            assert_int_equal(pier_result_count(result), 1);
        } else {
            assert_error(&f->err, PIER_ECLOSED, "closed");
        }
        pier_result_free(result);
        pier_result_free(pier_cursor_block(cursor, NULL));
    }
    pier_db_close_finish(closing);
    assert_true(pier_cursor_close(cursor, &f->err) == 0 || f->err.status == PIER_ECLOSED);
}

/* Progress of an endless query: it runs, and so has the only connection. */
static int on_progress(void *user_data)
{
    atomic_store((atomic_bool *)user_data, true);
    return 0;
}

static bool is_set(void *user_data)
{
    return atomic_load((atomic_bool *)user_data);
}

/* aiosqlite's close waits for its queue; here what waits for the connection ends. */
static void test_aiosqlite__close_refuses_what_still_waits(void **state)
{
    struct fixture *f = *state;
    atomic_bool runs = false;
    pier_sqlite_set_progress(f->db, 100, on_progress, &runs, NULL, &f->err);
    pier_future *running = pier_db_execute_async(f->db, ENDLESS "select count(*) from n", NULL);
    assert_true(support_wait_until(is_set, &runs, BOUND_MS));
    pier_future *waiting = pier_db_fetch_async(f->db, "select 1", NULL);
    pier_future *closing = pier_db_close_async(f->db);
    f->db = NULL;
    assert_null(pier_db_fetch_finish(waiting, &f->err));
    assert_error(&f->err, PIER_ECLOSED, "closed");
    pier_future_cancel(running);
    assert_true(pier_db_execute_finish(running, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    pier_db_close_finish(closing);
}

static void test_aiosqlite__close_multiple_is_harmless_for_null(void **state)
{
    struct fixture *f = *state;
    pier_db *lease = pier_db_lease(f->db, &f->err);
    pier_db_close(f->db);
    f->db = NULL;
    pier_db_close(f->db);
    pier_db_close_finish(pier_db_close_async(f->db));
    pier_db_close(lease);
    assert_ok(&f->err);
}

/* The log is gone when the last connection was closed in good order. */
static void test_aiosqlite__left_open_is_closed_by_its_runner(void **state)
{
    struct fixture *f = *state;
    char url[700], log[600];
    snprintf(url, sizeof url, "%s?preset=service", f->url);
    snprintf(log, sizeof log, "%s-wal", f->path);
    pier_db_close(f->db);
    f->db = NULL;
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    execute(db, "insert into t values (1, 'kept')", NULL);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    execute(tx, "insert into t values (2, 'rolled back')", NULL);
    assert_int_equal(access(log, F_OK), 0);
    pier_runner_close(f->runner);
    assert_int_not_equal(access(log, F_OK), 0);
    f->runner = pier_runner_open(NULL, &f->err);
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_aiosqlite__connection_context_closes_at_the_end_of_its_block),
        TEST(test_aiosqlite__connection_locations_name_the_same_file),
        TEST(test_aiosqlite__multiple_connections_write_at_once),
        TEST(test_aiosqlite__multi_loop_usage),
        TEST(test_aiosqlite__cursor_return_self_is_a_count_here),
        TEST(test_aiosqlite__connection_properties),
        TEST(test_aiosqlite__row_factory_and_text_factory_are_getters),
        TEST(test_aiosqlite__iterdump_gives_a_statement_a_row),
        TEST(test_aiosqlite__cursor_on_closed_connection),
        TEST(test_aiosqlite__cursor_on_closed_connection_loop),
        TEST(test_aiosqlite__close_refuses_what_still_waits),
        TEST(test_aiosqlite__close_multiple_is_harmless_for_null),
        TEST(test_aiosqlite__left_open_is_closed_by_its_runner),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
