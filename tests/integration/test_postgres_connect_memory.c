/* Connecting when memory runs out: each allocation of it fails in turn, with a password function,
 * settings, and several hosts in random order. Run with a leak checker. */
#include "tests/integration/postgres_fixture.h"

#include "sdk/alloc.h"

static atomic_int failing; /* the allocation that fails, from 1; 0: none */
static atomic_bool failed;
static char url[300];

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

static int give_password(const pier_postgres_login *login, char *password, size_t size,
                         void *user_data, pier_error *err)
{
    (void)login;
    (void)user_data;
    (void)err;
    snprintf(password, size, "s3cret");
    return 0;
}

static int work(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    const char *const settings[] = {"statement_timeout=5000", NULL};
    int32_t one = 0;
    pier_db *pool =
        pier_db_open(runner, url,
                     PIER_DB_OPTIONS(.postgres = PIER_POSTGRES_OPTIONS(.password = give_password,
                                                                       .settings = settings)),
                     err);
    int got = pier_db_fetch_into(pool, "select 1", NULL, PIER_INTO(&one), err);
    pier_db_close(pool);
    return got < 0 ? got : one - 1;
}

static int work_in_task(pier_error *err)
{
    return pier_task_run(runner, work, NULL, err);
}

static int work_here(pier_error *err)
{
    return work(NULL, NULL, err);
}

/* A runner of its own each time, so that whatever is left is ended with it. */
static void fail_each(int (*run)(pier_error *err))
{
    int n = 0, worked = 0;
    needs_own_server();
    snprintf(url, sizeof url,
             "postgresql://postgres@localhost:%d,127.0.0.1:%d/postgres?load_balance_hosts=random&"
             "target_session_attrs=prefer-standby",
             server.port, server.port);
    pier_runner *usual = runner;
    do {
        pier_error err = {0};
        runner = pier_runner_open(NULL, NULL);
        atomic_store(&failed, false);
        atomic_store(&failing, ++n);
        pier__alloc_set_gate(fail_one);
        int status = run(&err);
        pier__alloc_set_gate(NULL);
        atomic_store(&failing, 0);
        pier_runner_close(runner);
        runner = usual;
        worked += status == 0;
        if (status < 0 && !err.status) {
            fail_msg("allocation %d: %d and no error", n, status);
        }
    } while (atomic_load(&failed));
    assert_true(n > 20);
    assert_true(worked > 0);
}

static void test_memory__of_a_thread_that_connects(void **state)
{
    (void)state;
    fail_each(work_here);
}

static void test_memory__of_a_task_that_connects(void **state)
{
    (void)state;
    fail_each(work_in_task);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_memory__of_a_thread_that_connects),
        TEST(test_memory__of_a_task_that_connects),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
