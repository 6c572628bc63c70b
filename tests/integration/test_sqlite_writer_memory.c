/* Writers, many rows and statement handles when memory runs out: each allocation fails in turn. */
#include "tests/integration/sqlite_memory.h"

enum { ROWS = 700 };

static int64_t write_rows(pier_db *db, pier_error *err)
{
    char name[20];
    pier_writer *writer = pier_db_writer(db, "insert into t(name) values (:name)", err);
    for (int i = 0; i < ROWS; i++) {
        snprintf(name, sizeof name, "%d", i);
        pier_writer_add(writer, PIER_NAMED("name", name));
    }
    return pier_writer_close(writer, err);
}

/* What a program does; gives what its statements changed, or a status. */
static int64_t work(struct fixture *f, pier_error *err)
{
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    pier_db_execute(db, "delete from t", NULL, err);
    int64_t written = write_rows(db, err);
    const pier_args two[] = {*PIER_ARGS("a"), *PIER_ARGS("b")};
    int64_t many = pier_db_execute_many(db, "insert into t(name) values ($1)", two, 2, err);
    pier_statement *statement = pier_db_prepare(db, "insert into t(name) values (:name)", err);
    int64_t executed = pier_statement_execute(statement, PIER_NAMED("name", "c"), err);
    pier_statement_close(statement);
    pier_db_close(db);
    return written < 0 ? written : many < 0 ? many : executed < 0 ? executed : written + many + 1;
}

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
    int n = 0;
    do {
        pier_error err = {0};
        int64_t changed = run_failing(f, ++n, run, &err);
        /* Each of them all or nothing, and all where nothing is reported. */
        int64_t by_writer = number_of(f->db, "select count(*) from t where name < 'a'");
        int64_t by_many = number_of(f->db, "select count(*) from t where name in ('a', 'b')");
        assert_true(by_writer == 0 || by_writer == ROWS);
        assert_true(by_many == 0 || by_many == 2);
        assert_true(changed < 0 || changed == ROWS + 3);
        assert_true(changed < 0 || (by_writer == ROWS && by_many == 2));
        execute(f->db, "delete from t", NULL);
    } while (atomic_load(&failed));
    assert_true(n > 20);
}

static void test_writer__each_failed_allocation_of_a_thread_is_reported(void **state)
{
    fail_each(*state, work);
}

static void test_writer__each_failed_allocation_of_a_task_is_reported(void **state)
{
    fail_each(*state, run_task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_writer__each_failed_allocation_of_a_thread_is_reported),
        TEST(test_writer__each_failed_allocation_of_a_task_is_reported),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
