/* Many rows, and statement handles, when memory runs out: each allocation fails in turn. */
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

enum { ROWS = 3 };

/* Six rows, in two transactions; -1 where one of them failed. */
static int work(pier_db *pool, pier_error *err)
{
    static const char insert[] = "insert into t(id, name) values ($1, $2)";
    static const char name[] = "{\"long\": \"enough for no slot of the encoder\"}";
    pier_value values[ROWS][2];
    pier_args rows[ROWS];
    for (int i = 0; i < ROWS; i++) {
        values[i][0] = pier_int64(i);
        values[i][1] = pier_text(name);
        rows[i] = (pier_args){2, values[i], NULL};
    }
    pier_statement *statement = pier_db_prepare(pool, insert, err);
    bool right = statement && pier_statement_parameters(statement) == 2;
    pier_statement_close(statement);
    right = pier_db_execute_many(pool, insert, rows, ROWS, err) == ROWS && right;
    pier_future *future = pier_db_execute_many_async(pool, insert, rows, ROWS);
    return pier_db_execute_many_finish(future, err) == ROWS && right ? 0 : -1;
}

static int work_in_task(pier_task *self, void *pool, pier_error *err)
{
    (void)self;
    return work(pool, err);
}

static int run_once(int n, bool in_task, pier_error *err)
{
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_db *pool = pier_db_open(other, server.url_unix, PIER_DB_OPTIONS(.pool_max = 1), err);
    atomic_store(&failed, false);
    atomic_store(&failing, n);
    pier__alloc_set_gate(fail_one);
    int status = in_task ? pier_task_run(other, work_in_task, pool, err) : work(pool, err);
    pier__alloc_set_gate(NULL);
    atomic_store(&failing, 0);
    pier_runner_close(other);
    return status;
}

static void fail_each(bool in_task)
{
    int stored = 0, n = 0;
    PQclear(PQexec(observer, "create table t(id int, name jsonb)"));
    do {
        pier_error err = {0};
        int status = run_once(++n, in_task, &err);
        int before = stored;
        stored = look_int("select count(*) from t");
        if (status < 0 && !err.status) {
            fail_msg("allocation %d: %d and no error", n, status);
        }
        /* All rows of a call or none. */
        assert_int_equal((stored - before) % ROWS, 0);
        assert_true(status < 0 || stored == before + 2 * ROWS);
    } while (atomic_load(&failed));
    assert_true(n > 15);
}

static void test_memory__each_failed_allocation_of_a_thread_is_reported(void **state)
{
    (void)state;
    fail_each(false);
}

static void test_memory__each_failed_allocation_of_a_task_is_reported(void **state)
{
    (void)state;
    fail_each(true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_memory__each_failed_allocation_of_a_thread_is_reported),
        TEST(test_memory__each_failed_allocation_of_a_task_is_reported),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
