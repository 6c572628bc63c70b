/* The SQLite driver when memory runs out: each allocation of a small program fails in turn. */
#include "tests/integration/sqlite_memory.h"

/* What a program does; gives what it committed, or a status. */
static int64_t work(struct fixture *f, pier_error *err)
{
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    pier_db *tx = pier_db_begin(db, NULL, err);
    pier_db_execute(tx, "insert into t(name) values ($2), ($1)", PIER_ARGS("a", "b"), err);
    pier_db *save = pier_db_begin(tx, NULL, err);
    pier_db_execute(save, "insert into t(name) values ('dropped')", NULL, err);
    pier_db_close(save);
    pier_cursor *cursor = pier_db_cursor(tx, "select id, name from t", NULL, err);
    int64_t rows = 0;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    int status = pier_cursor_close(cursor, err);
    pier_result *result = pier_db_fetch(tx, "select count(*), 'text' from t", NULL, err);
    rows = result ? rows : -1;
    pier_result_free(result);
    status = status < 0 ? status : pier_db_commit(tx, err);
    pier_db_close(tx);
    pier_db_close(db);
    return status < 0 ? status : rows;
}

/* With readers: a statement that moves to the writer, a read transaction, a cursor on a reader. */
static int64_t work_with_readers(struct fixture *f, pier_error *err)
{
    char url[700];
    snprintf(url, sizeof url, "%s?preset=service&readers=2", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, err);
    int64_t rows =
        pier_db_execute(db, "with a(x) as (values ($1), ($2)) insert into t(name) select x from a",
                        PIER_ARGS("a", "b"), err);
    pier_db *tx = pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), err);
    pier_result *result = pier_db_fetch(tx, "select count(*) from t", NULL, err);
    rows = result ? rows : -1;
    pier_result_free(result);
    pier_cursor *cursor = pier_db_cursor(db, "select id, name from t", NULL, err);
    while (pier_cursor_next(cursor)) {
    }
    int status = pier_cursor_close(cursor, err);
    result = pier_sqlite_checkpoint(db, PIER_SQLITE_PASSIVE, err);
    rows = result ? rows : -1;
    pier_result_free(result);
    status = status < 0 ? status : pier_db_commit(tx, err);
    pier_db_close(tx);
    pier_db_close(db);
    return status < 0 ? status : rows;
}

static int work_with_readers_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return (int)work_with_readers(arg, err);
}

static int64_t run_readers_task(struct fixture *f, pier_error *err)
{
    return pier_task_run(f->runner, work_with_readers_in_task, f, err);
}

/* The same through the loop and the lane. */
static int work_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return (int)work(arg, err);
}

static int64_t run_task(struct fixture *f, pier_error *err)
{
    return pier_task_run(f->runner, work_in_task, f, err);
}

static void fail_each(struct fixture *f, program *run)
{
    int64_t stored = 0;
    int n = 0;
    do {
        pier_error err = {0};
        run_failing(f, ++n, run, &err);
        int64_t before = stored;
        stored = number_of(f->db, "select count(*) from t");
        /* All or nothing. */
        assert_true(stored == before || stored == before + 2);
        assert_int_equal(number_of(f->db, "select count(*) from t where name = 'dropped'"), 0);
    } while (atomic_load(&failed));
    assert_true(n > 20);
    assert_true(stored >= 2);
}

static void test_memory__each_failed_allocation_of_a_thread_is_reported(void **state)
{
    fail_each(*state, work);
}

static void test_memory__each_failed_allocation_of_a_task_is_reported(void **state)
{
    fail_each(*state, run_task);
}

static void test_memory__each_failed_allocation_with_readers_is_reported(void **state)
{
    fail_each(*state, work_with_readers);
}

static void test_memory__each_failed_allocation_with_readers_in_a_task_is_reported(void **state)
{
    fail_each(*state, run_readers_task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_memory__each_failed_allocation_of_a_thread_is_reported),
        TEST(test_memory__each_failed_allocation_of_a_task_is_reported),
        TEST(test_memory__each_failed_allocation_with_readers_is_reported),
        TEST(test_memory__each_failed_allocation_with_readers_in_a_task_is_reported),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
