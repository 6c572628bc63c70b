/* The SQLite driver used by several threads, in tasks, through futures and across fork. */
#include "tests/integration/sqlite_fixture.h"

#include "tests/support/valgrind.h"

#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 8, EACH = 100 };

/* ---- Threads ------------------------------------------------------------------------------ */

struct worker {
    pthread_t thread;
    pier_db *db;
    int number;
    pier_error err;
};

static void *insert_rows(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < EACH && !worker->err.status; i++) {
        pier_db_execute(worker->db, "insert into t(id, name) values ($1, $2)",
                        PIER_ARGS(worker->number * EACH + i, "x"), &worker->err);
    }
    return NULL;
}

static void run_workers(struct worker *workers, int count, pier_db *db, void *(*run)(void *))
{
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){.db = db, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, run, &workers[i]), 0);
    }
    for (int i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (int i = 0; i < count; i++) {
        assert_ok(&workers[i].err);
    }
}

static void test_threads__insert_through_one_pool(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS];
    execute(f->db, "pragma synchronous = off", NULL);
    run_workers(workers, THREADS, f->db, insert_rows);
    assert_int_equal(number_of(f->db, "select count(*) from t"), THREADS * EACH);
}

static void test_threads__share_one_transaction(void **state)
{
    struct fixture *f = *state;
    struct worker workers[2];
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    run_workers(workers, 2, tx, insert_rows);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 2 * EACH);
}

static int insert_three(pier_db *tx, void *arg, pier_error *err)
{
    for (int i = 0; i < 3; i++) {
        pier_db_execute(tx, "insert into t(name) values ($1)", PIER_ARGS(*(int *)arg), err);
    }
    return err->status;
}

static void *run_transactions(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < 20 && !worker->err.status; i++) {
        int status =
            pier_db_transaction(worker->db, NULL, insert_three, &worker->number, &worker->err);
        if (status < 0) {
            break;
        }
    }
    return NULL;
}

static void test_threads__transactions_take_turns(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS];
    execute(f->db, "pragma synchronous = off", NULL);
    run_workers(workers, THREADS, f->db, run_transactions);
    assert_int_equal(number_of(f->db, "select count(*) from t"), THREADS * 20 * 3);
    /* Three rows each time, with nobody's in between. */
    assert_int_equal(number_of(f->db, "select count(*) from t a, t b where b.id = a.id + 2 and "
                                      "a.id % 3 = 1 and a.name = b.name"),
                     THREADS * 20);
}

/* ---- Futures ------------------------------------------------------------------------------ */

static void test_async__many_at_once_all_arrive(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 200 };
    pier_future *futures[COUNT];
    for (int i = 0; i < COUNT; i++) {
        char name[32];
        snprintf(name, sizeof name, "name %d", i);
        futures[i] =
            pier_db_execute_async(f->db, "insert into t values ($1, $2)", PIER_ARGS(i, name));
        memset(name, 'x', sizeof name);
    }
    assert_int_equal(pier_future_wait_all(futures, COUNT, BOUND_MS, &f->err), 1);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &f->err), 1);
    }
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select count(*) from t where name = 'name ' || id"), COUNT);
}

static void test_async__everything_through_futures(void **state)
{
    struct fixture *f = *state;
    pier_error *err = &f->err;
    pier_db *db = pier_db_open_finish(pier_db_open_async(f->runner, "sqlite::memory:", NULL), err);
    assert_int_equal(pier_db_execute_script_finish(
                         pier_db_execute_script_async(db, "create table a(x); create table b(x)"),
                         err),
                     0);
    pier_db *tx = pier_db_begin_finish(pier_db_begin_async(db, NULL), err);
    assert_int_equal(
        pier_db_execute_finish(
            pier_db_execute_async(tx, "insert into a values ($1), ($2)", PIER_ARGS(1, "two")), err),
        2);
    assert_int_equal(pier_db_commit_finish(pier_db_commit_async(tx), err), 0);
    pier_db_close_finish(pier_db_close_async(tx));
    pier_result *rows = pier_db_fetch_finish(pier_db_fetch_async(db, "select x from a", NULL), err);
    assert_ok(err);
    assert_string_equal(pier_row_text(pier_result_row(rows, 1), 0), "two");
    pier_result_free(rows);
    pier_cursor *cursor = pier_db_cursor(db, "select x from a", NULL, err);
    rows = pier_cursor_block_finish(pier_cursor_block_async(cursor), err);
    assert_int_equal(pier_result_count(rows), 2);
    pier_result_free(rows);
    assert_int_equal(pier_cursor_close_finish(pier_cursor_close_async(cursor), err), 0);
    pier_db_close_finish(pier_db_close_async(db));
    assert_ok(err);
}

static void test_async__failures_come_with_the_future(void **state)
{
    struct fixture *f = *state;
    assert_null(pier_db_open_finish(
        pier_db_open_async(f->runner, "sqlite:/nowhere/at/all.db", NULL), &f->err));
    assert_error(&f->err, PIER_EIO, "the directory /nowhere/at does not exist");
    assert_null(pier_db_fetch_finish(pier_db_fetch_async(f->db, "selec", NULL), &f->err));
    assert_error(&f->err, PIER_ESQL, "syntax error");
    pier_future_free(pier_db_fetch_async(f->db, "select 'nobody takes this'", NULL));
    pier_future_free(pier_db_begin_async(f->db, NULL));
    assert_int_equal(number_of(f->db, "select 1"), 1);
}

struct callback {
    struct fixture *f;
    pier_error blocking, err;
    int64_t count;
    atomic_bool done;
};

static void on_executed(pier_future *future, void *user_data)
{
    struct callback *callback = user_data;
    callback->count = pier_db_execute_finish(future, &callback->err);
    pier_db_execute(callback->f->db, "select 1", NULL, &callback->blocking);
    atomic_store(&callback->done, true);
}

static bool is_done(void *user_data)
{
    return atomic_load(&((struct callback *)user_data)->done);
}

static void test_callback__gets_the_result_and_may_not_block(void **state)
{
    struct fixture *f = *state;
    struct callback callback = {.f = f};
    pier_future_then(pier_db_execute_async(f->db, "insert into t values (1, 'x')", NULL),
                     on_executed, &callback);
    assert_true(support_wait_until(is_done, &callback, BOUND_MS));
    assert_ok(&callback.err);
    assert_int_equal(callback.count, 1);
    assert_error(&callback.blocking, PIER_EDEADLOCK, "pier_db_execute_async");
}

/* ---- Tasks -------------------------------------------------------------------------------- */

/* Everything in direct style; the first failure is in `err`. */
static int use_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct fixture *f = arg;
    pier_db *db = pier_db_open(pier_task_runner(self), f->url, NULL, err);
    pier_db *tx = pier_db_begin(db, NULL, err);
    pier_db_execute(tx, "insert into t values ($1, $2)", PIER_ARGS(1, "in a task"), err);
    pier_db *save = pier_db_begin(tx, NULL, err);
    pier_db_execute(save, "insert into t values (2, 'dropped')", NULL, err);
    pier_db_close(save);
    int status = pier_db_commit(tx, err);
    pier_db_close(tx);
    pier_cursor *cursor = pier_db_cursor(db, "select name from t", NULL, err);
    int rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        if (strcmp(pier_row_text(row, 0), "in a task") != 0) {
            pier_error_set(err, PIER_EUSER, "read %s", pier_row_text(row, 0));
        }
    }
    int closed = pier_cursor_close(cursor, err);
    pier_db_close(db);
    return status < 0 ? status : closed < 0 ? closed : err->status < 0 ? err->status : rows;
}

static void test_task__does_everything_in_direct_style(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_task_run(f->runner, use_in_task, f, &f->err), 1);
    assert_ok(&f->err);
}

static int insert_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    int status = 0;
    for (int i = 0; i < 20 && status >= 0; i++) {
        int number = i;
        status = pier_db_transaction(((struct fixture *)arg)->db, NULL, insert_three, &number, err);
    }
    return status;
}

static void test_task__several_share_the_connection(void **state)
{
    struct fixture *f = *state;
    pier_future *tasks[10];
    execute(f->db, "pragma synchronous = off", NULL);
    for (int i = 0; i < 10; i++) {
        tasks[i] = pier_task_start(f->runner, insert_in_task, f);
    }
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pier_task_finish(tasks[i], &f->err), 0);
        assert_ok(&f->err);
    }
    assert_int_equal(number_of(f->db, "select count(*) from t"), 600);
}

static void test_task__and_threads_share_the_connection(void **state)
{
    struct fixture *f = *state;
    struct worker workers[2];
    execute(f->db, "pragma synchronous = off", NULL);
    pier_future *task = pier_task_start(f->runner, insert_in_task, f);
    run_workers(workers, 2, f->db, run_transactions);
    assert_int_equal(pier_task_finish(task, &f->err), 0);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 60 + 2 * 60);
}

static int begin_twice(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    pier_db *tx = pier_db_begin(((struct fixture *)arg)->db, NULL, err);
    pier_db_close(pier_db_begin(((struct fixture *)arg)->db, NULL, err));
    pier_db_close(tx);
    return err->status;
}

static void test_task__that_waits_for_itself_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_task_run(f->runner, begin_twice, f, &f->err), PIER_EDEADLOCK);
    assert_error(&f->err, PIER_EDEADLOCK, "transaction");
}

/* ---- Fork and the end --------------------------------------------------------------------- */

static int in_child(struct fixture *f, pier_db *tx, pier_cursor *cursor)
{
    pier_error err = {0};
    if (pier_db_execute(f->db, "insert into t values (9, 'child')", NULL, &err) != PIER_EFORKED ||
        err.status != PIER_EFORKED) {
        return 1;
    }
    memset(&err, 0, sizeof err);
    if (pier_db_commit(tx, &err) != PIER_EFORKED) {
        return 2;
    }
    memset(&err, 0, sizeof err);
    if (pier_cursor_next(cursor) && pier_cursor_close(cursor, &err) < 0) {
        pier_db_close(tx);
        pier_db_close(f->db);
        return 0;
    }
    return 3;
}

static void test_fork__the_child_is_refused_and_the_parent_goes_on(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (1, 'a'), (2, 'b')", NULL);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_cursor *cursor = pier_db_cursor(tx, "select * from t", NULL, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    execute(tx, "insert into t values (3, 'c')", NULL);
    pid_t child = fork();
    if (child == 0) {
        int code = in_child(f, tx, cursor);
        support_leave_valgrind(code);
        _exit(code);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_non_null(pier_cursor_next(cursor));
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 3);
}

static void test_close__leaves_its_transaction_to_be_ended(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_db_close(f->db);
    f->db = NULL;
    assert_true(pier_db_execute(tx, "select 1", NULL, &f->err) >= 0 ||
                f->err.status == PIER_ECLOSED);
    pier_db_close(tx);
    memset(&f->err, 0, sizeof f->err);
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_null__passes_through_and_keeps_the_first_error(void **state)
{
    struct fixture *f = *state;
    pier_db *db = pier_db_open(f->runner, "sqlite:/nowhere/x.db", NULL, &f->err);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    pier_db_execute(tx, "select 1", NULL, &f->err);
    pier_cursor *cursor = pier_db_cursor(tx, "select 1", NULL, &f->err);
    assert_null(pier_cursor_next(cursor));
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    pier_db_close(tx);
    pier_db_close(db);
    assert_error(&f->err, PIER_EIO, "/nowhere");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_threads__insert_through_one_pool),
        TEST(test_threads__share_one_transaction),
        TEST(test_threads__transactions_take_turns),
        TEST(test_async__many_at_once_all_arrive),
        TEST(test_async__everything_through_futures),
        TEST(test_async__failures_come_with_the_future),
        TEST(test_callback__gets_the_result_and_may_not_block),
        TEST(test_task__does_everything_in_direct_style),
        TEST(test_task__several_share_the_connection),
        TEST(test_task__and_threads_share_the_connection),
        TEST(test_task__that_waits_for_itself_is_refused),
        TEST(test_fork__the_child_is_refused_and_the_parent_goes_on),
        TEST(test_close__leaves_its_transaction_to_be_ended),
        TEST(test_null__passes_through_and_keeps_the_first_error),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
