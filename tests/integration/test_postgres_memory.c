/* The Postgres driver when memory runs out: each allocation of a small program fails in turn. */
#include "tests/integration/postgres_fixture.h"

#include "sdk/alloc.h"

static atomic_int failing; /* the allocation that fails, from 1; 0: none */
static atomic_bool failed;

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

static int read_all(pier_db *scope, const char *sql, pier_error *err)
{
    pier_cursor *cursor = pier_db_cursor(scope, sql, PIER_ARGS(1), err);
    int count = 0;
    while (pier_cursor_next(cursor)) {
        count++;
    }
    return pier_cursor_close(cursor, err) < 0 ? -1 : count;
}

/* What a program does; a status, or 0 when it committed two rows. */
static int work(void *arg, pier_error *err)
{
    (void)arg;
    pier_db *pool = pier_db_open(runner, server.url_unix, NULL, err);
    pier_db *tx = pier_db_begin(pool, NULL, err);
    pier_db_execute(tx, "insert into kept(name, data) values($2, $3), ($1, null)",
                    PIER_ARGS("a", "b", "{\"long\": \"enough for no slot of the encoder\"}"), err);
    pier_db *save = pier_db_begin(tx, NULL, err);
    pier_db_execute(save, "insert into kept(name) values('dropped')", NULL, err);
    pier_db_close(save);
    int rows = read_all(tx, "select id, name from kept where id >= $1", err);
    pier_result *result = pier_db_fetch(tx, "select '\\x00ff'::bytea, 1.5::numeric", NULL, err);
    size_t size = 0;
    bool right = result && pier_row_bytes(pier_result_row(result, 0), 0, &size) && size == 2;
    if (result && !right) {
        pier_result_check(result, err);
    }
    pier_result_free(result);
    int status = rows < 0 || !right ? -1 : pier_db_commit(tx, err);
    pier_db_close(tx);
    /* After the commit, a failure only costs the rows that are read. */
    (void)read_all(pool, "select id, name from kept where id >= $1", NULL);
    pier_db_close(pool);
    return status;
}

static int work_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return work(arg, err);
}

static int run_task(void *arg, pier_error *err)
{
    return pier_task_run(runner, work_in_task, arg, err);
}

/* A statement that a deadline ends, which costs allocations too. Without memory to cancel it, the
 * connection is closed, which the server finds out when the statement has ended by itself. */
static int be_cancelled(void *arg, pier_error *err)
{
    (void)arg;
    pier_db *pool = pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 1), err);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 10), err);
    int64_t status = scope ? pier_db_execute(pool, "select pg_sleep(1)", NULL, err) : err->status;
    pier_scope_close(scope);
    pier_db_close(pool);
    return (int)status;
}

/* A runner of its own each time, so that whatever is left is ended with it. */
static int run_once(int n, int (*run)(void *arg, pier_error *err), pier_error *err)
{
    pier_runner *usual = runner;
    runner = pier_runner_open(NULL, NULL);
    assert_non_null(runner);
    atomic_store(&failed, false);
    atomic_store(&failing, n);
    pier__alloc_set_gate(fail_one);
    int status = run(NULL, err);
    pier__alloc_set_gate(NULL);
    atomic_store(&failing, 0);
    pier_runner_close(runner);
    runner = usual;
    return status;
}

static void fail_each(int (*run)(void *arg, pier_error *err))
{
    int stored = 0, n = 0;
    look_int("create table kept(id serial, name text, data jsonb)");
    do {
        pier_error err = {0};
        int status = run_once(++n, run, &err);
        int before = stored;
        stored = look_int("select count(*) from kept");
        if (status < 0 && !err.status) {
            fail_msg("allocation %d: %d and no error", n, status);
        }
        /* All or nothing. */
        assert_true(stored == before || stored == before + 2);
        assert_int_equal(look_int("select count(*) from kept where name = 'dropped'"), 0);
    } while (atomic_load(&failed));
    assert_true(n > 20);
    assert_true(stored >= 2);
}

static void test_memory__each_failed_allocation_of_a_thread_is_reported(void **state)
{
    (void)state;
    fail_each(work);
}

static void test_memory__each_failed_allocation_of_a_task_is_reported(void **state)
{
    (void)state;
    fail_each(run_task);
}

static void test_memory__what_is_cancelled_returns_and_ends_all_the_same(void **state)
{
    (void)state;
    int n = 0;
    do {
        pier_error err = {0};
        assert_true(run_once(++n, be_cancelled, &err) < 0);
        assert_true(err.status < 0);
        assert_true(await_running("pg_sleep", 0));
    } while (atomic_load(&failed));
    assert_true(n > 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_memory__each_failed_allocation_of_a_thread_is_reported),
        TEST(test_memory__each_failed_allocation_of_a_task_is_reported),
        TEST(test_memory__what_is_cancelled_returns_and_ends_all_the_same),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
