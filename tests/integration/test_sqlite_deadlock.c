/* A user's function that waits for its own connection is told so, whoever steps the statement. */
#include "tests/integration/sqlite_fixture.h"

#include <pier/sqlite_function.h>

struct reentry {
    pier_db *db;
    int64_t timeout_ms;
    pier_error err;
};

/* Submits a statement on the connection that it is called on, and waits for that. */
static int submit_and_wait(pier_sqlite_call *call, void *user_data)
{
    struct reentry *reentry = user_data;
    memset(&reentry->err, 0, sizeof reentry->err);
    pier_future *future = pier_db_fetch_async(reentry->db, "select 1", NULL);
    int waited = pier_future_wait(future, reentry->timeout_ms, &reentry->err);
    pier_future_cancel(future);
    pier_future_free(future);
    return pier_sqlite_call_return(call, pier_int64(waited));
}

static void add_function(struct fixture *f, struct reentry *reentry)
{
    assert_int_equal(pier_sqlite_function(f->db, "reenter",
                                          PIER_SQLITE_FUNCTION_OPTIONS(.args = PIER_NONE,
                                                                       .scalar = submit_and_wait,
                                                                       .user_data = reentry),
                                          &f->err),
                     0);
}

static int64_t call_here(pier_db *db)
{
    int64_t number = 99;
    int got = pier_db_fetch_into(db, "select reenter()", NULL, PIER_INTO(&number), NULL);
    return got == 1 ? number : 98;
}

static int64_t call_on_lane(pier_db *db)
{
    pier_result *result =
        pier_db_fetch_finish(pier_db_fetch_async(db, "select reenter()", NULL), NULL);
    int64_t number = pier_row_int64(pier_result_row(result, 0), 0);
    pier_result_free(result);
    return number;
}

static int call_in_task(pier_task *self, void *db, pier_error *err)
{
    (void)self;
    (void)err;
    return call_here(db) == PIER_EDEADLOCK ? 7 : 0;
}

static void test_deadlock__of_a_function_with_its_connection_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reentry reentry = {.db = f->db, .timeout_ms = PIER_FOREVER};
    add_function(f, &reentry);
    assert_int_equal(call_here(f->db), PIER_EDEADLOCK);
    assert_error(&reentry.err, PIER_EDEADLOCK, "needs pier_db_fetch");
    assert_int_equal(call_on_lane(f->db), PIER_EDEADLOCK);
    assert_error(&reentry.err, PIER_EDEADLOCK, "this very call");
    assert_int_equal(pier_task_run(f->runner, call_in_task, f->db, NULL), 7);
}

static void test_deadlock__is_seen_although_the_wait_has_a_limit(void **state)
{
    struct fixture *f = *state;
    struct reentry reentry = {.db = f->db, .timeout_ms = BOUND_MS};
    add_function(f, &reentry);
    assert_int_equal(call_here(f->db), PIER_EDEADLOCK);
}

static void test_deadlock__of_a_function_with_its_transaction_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reentry reentry = {.timeout_ms = PIER_FOREVER};
    add_function(f, &reentry);
    reentry.db = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(call_here(reentry.db), PIER_EDEADLOCK);
    assert_error(&reentry.err, PIER_EDEADLOCK, "waiting for its turn");
    pier_db_close(reentry.db);
    reentry.db = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(call_on_lane(reentry.db), PIER_EDEADLOCK);
    pier_db_close(reentry.db);
}

/* A task holds the only connection and waits for one that another task asks for. */
static int ask(pier_task *self, void *db, pier_error *err)
{
    (void)self;
    return (int)pier_db_execute(db, "select 1", NULL, err);
}

static int hold_and_wait(pier_task *self, void *db, pier_error *err)
{
    pier_db *tx = pier_db_begin(db, NULL, err);
    pier_future *other = pier_task_start(pier_task_runner(self), ask, db);
    int waited = pier_future_wait(other, PIER_FOREVER, err);
    pier_db_close(tx);
    int ended = pier_task_finish(other, NULL);
    return waited == 1 && ended == PIER_EDEADLOCK ? 7 : 0;
}

static void test_deadlock__through_a_pool_is_refused_where_the_pool_waits_for_ever(void **state)
{
    struct fixture *f = *state;
    pier_db *db = pier_db_open(f->runner, f->url,
                               PIER_DB_OPTIONS(.acquire_timeout_ms = PIER_FOREVER), &f->err);
    assert_ok(&f->err);
    pier_error err = {0};
    assert_int_equal(pier_task_run(f->runner, hold_and_wait, db, &err), 7);
    pier_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_deadlock__of_a_function_with_its_connection_is_refused),
        TEST(test_deadlock__is_seen_although_the_wait_has_a_limit),
        TEST(test_deadlock__of_a_function_with_its_transaction_is_refused),
        TEST(test_deadlock__through_a_pool_is_refused_where_the_pool_waits_for_ever),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
