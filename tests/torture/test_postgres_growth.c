/*
 * A long run on one pool: ten thousand queries, cursors that are left, failures, deadlines and lost
 * connections, on a thread and in a task. Afterwards there is as much memory in use as before, and
 * there are as many descriptors and threads.
 */
#include "tests/integration/postgres_fixture.h"
#include "tests/torture/torture.h"

#include <malloc.h>

enum {
    POOL = 2,
    CALLS = 10000,
    CALLS_SANITIZED = 2000,
    WARM_UP = 1500,
    TEXTS = 150,        /* more than a connection keeps prepared */
    GROWTH_MAX = 65536, /* bytes: seven for each call */
    LOST_EVERY = 250
};

static struct torture_wrong wrong = TORTURE_WRONG;

#if TORTURE_SANITIZED
size_t __sanitizer_get_current_allocated_bytes(void);

static int64_t bytes_in_use(void)
{
    return (int64_t)__sanitizer_get_current_allocated_bytes();
}
#else
static int64_t bytes_in_use(void)
{
    struct mallinfo2 info = mallinfo2();
    return (int64_t)(info.uordblks + info.hblkhd);
}
#endif

static void expect(bool right, const char *what, const pier_error *err)
{
    if (!right) {
        torture_note(&wrong, "%s: %s (%s) %s", what, pier_status_name(err->status), err->sqlstate,
                     err->message);
    }
}

/* ---- What is called ------------------------------------------------------------------------- */

static void fetch(int number)
{
    char sql[80];
    pier_error err = {0};
    int got = 0;
    char *text = NULL;
    snprintf(sql, sizeof sql, "select $1::int + %d, repeat('x', 3000)", number % TEXTS);
    int status = pier_db_fetch_into(db, sql, PIER_ARGS(number), PIER_INTO(&got, &text), &err);
    expect(status == 1 && got == number + number % TEXTS, "a fetch", &err);
    free(text);
}

static void leave_a_cursor(int number)
{
    pier_error err = {0};
    pier_cursor *cursor = pier_db_cursor(db,
                                         "select g, repeat('y', 50) from generate_series(1, "
                                         "2000) g",
                                         NULL, &err);
    for (int i = 0; i < number % 300 && pier_cursor_next(cursor); i++) {
    }
    expect(pier_cursor_close(cursor, &err) == 0, "a cursor", &err);
}

static void be_refused(int number)
{
    static const char *const texts[] = {"select 1/0", "selct", "insert into kept values (1)",
                                        "select 'x'::int", "select $1::int"};
    pier_error err = {0};
    int64_t status = pier_db_execute(db, texts[number % 5], NULL, &err);
    expect(status < 0 && err.status != PIER_EIO, "a failure", &err);
}

static void begin_and_fail(int number)
{
    pier_error err = {0}, none = {0};
    pier_db *tx = pier_db_begin(db, NULL, &none);
    pier_db *save = number % 2 ? pier_db_begin(tx, NULL, &none) : NULL;
    pier_db_execute(number % 2 ? save : tx, "insert into kept values (1)", NULL, &err);
    pier_db_close(save);
    expect(tx && err.status == PIER_ECONSTRAINT, "a transaction", &err);
    pier_db_close(tx);
}

static void add_many(int number)
{
    pier_error err = {0};
    const pier_args rows[] = {*PIER_ARGS(2), *PIER_ARGS(number % 3 ? 2 : 1), *PIER_ARGS(2)};
    pier_db *tx = pier_db_begin(db, NULL, &err);
    int64_t added = pier_db_execute_many(
        tx, "update kept set id = id where id = $1 and 1 / ($1 - 1) >= 0", rows, 3, &err);
    pier_db_close(tx);
    expect(number % 3 ? added == 0 : added == PIER_ESQL, "many rows", &err);
}

static void be_late(int number)
{
    pier_error err = {0};
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1 + number % 3), NULL);
    int64_t status = pier_db_execute(db, "select pg_sleep(5)", NULL, &err);
    pier_scope_close(scope);
    expect(status == PIER_ETIMEDOUT, "a deadline", &err);
}

static void lose_a_connection(void)
{
    pier_error err = {0};
    int64_t status =
        pier_db_execute(db, "select pg_terminate_backend(pg_backend_pid())", NULL, &err);
    expect(status == PIER_EIO, "a lost connection", &err);
}

static void lease(int number)
{
    pier_error err = {0};
    pier_db *of = pier_db_lease(db, &err);
    pier_db_execute(of, "set work_mem = '2MB'", NULL, &err);
    pier_future *future = pier_db_fetch_async(of, "select $1::text", PIER_ARGS("an argument"));
    if (number % 2) {
        pier_future_free(future);
    } else {
        pier_result *result = pier_db_fetch_finish(future, &err);
        expect(result && pier_result_count(result) == 1, "a future", &err);
        pier_result_free(result);
    }
    pier_db_close(of);
}

static void call(int number)
{
    if (number % LOST_EVERY == LOST_EVERY - 1) {
        lose_a_connection();
        return;
    }
    switch (number % 8) {
    case 0:
        leave_a_cursor(number);
        break;
    case 1:
        be_refused(number / 8);
        break;
    case 2:
        begin_and_fail(number / 8);
        break;
    case 3:
        add_many(number);
        break;
    case 4:
        lease(number / 8);
        break;
    case 5:
        number % 5 ? fetch(number) : be_late(number);
        break;
    default:
        fetch(number);
        break;
    }
}

/* ---- How often ------------------------------------------------------------------------------ */

static void call_often(void *count, int number, pier_task *self)
{
    (void)self;
    for (int i = 0; i < *(int *)count / 2; i++) {
        call(i + number);
    }
}

static bool is_empty(void *unused)
{
    (void)unused;
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats.size == 0 && stats.waiting == 0;
}

/* A thread and a task; what was cancelled is cleaned up behind them, so that is awaited. No
 * connection is left, or it would depend on chance how many there are just now, and on the last
 * answers what each keeps for the next one: up to 256 KiB. */
static void run(int count)
{
    pier_error err = {0};
    struct torture_crowd crowd = {
        .body = call_often, .user_data = &count, .count = 2, .threads = 1};
    torture_crowd_start(&crowd, runner);
    assert_int_equal(torture_crowd_join(&crowd, &err), 0);
    ASSERT_NOTHING_WRONG(&wrong);
    pier_db_expire(db);
    assert_true(support_wait_until(is_empty, NULL, BOUND_MS));
}

static void test_growth__a_long_run_leaves_nothing_behind(void **state)
{
    (void)state;
    look_int("create table kept(id int primary key)");
    look_int("insert into kept values (1)");
    pier_db_close(db);
    db = open_pool(POOL);
    run(WARM_UP);
    int fds = count_fds(), threads = support_thread_count();
    int64_t before = bytes_in_use(), began = support_now_ms();
    int calls = torture_amount("calls", CALLS, CALLS_SANITIZED);
    run(calls);
    int64_t grown = bytes_in_use() - before;
    fprintf(stderr,
            "%d calls in %.1f s: %lld bytes more than the %lld before, %d descriptors more\n",
            calls, (double)(support_now_ms() - began) / 1000, (long long)grown, (long long)before,
            count_fds() - fds);
    assert_true(grown < GROWTH_MAX);
    assert_true(count_fds() <= fds);
    assert_true(support_wait_threads(threads, BOUND_MS));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_growth__a_long_run_leaves_nothing_behind),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
