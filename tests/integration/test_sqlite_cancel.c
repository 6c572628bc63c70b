/* Deadlines, cancelling and waiting for locks with the SQLite driver. */
#include "tests/integration/sqlite_fixture.h"

#include "tests/unit/passing_time.h"
#include <signal.h>

/* What is cancelled ends within this time, on a machine that is busy and under sanitizers. */
enum { AT_ONCE_MS = 5000 };

static const char endless_select[] = ENDLESS "select count(*) from n";
static const char endless_insert[] = ENDLESS "insert into t select i, 'x' from n";

static pier_scope *deadline(struct fixture *f, int64_t ms)
{
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = ms), &f->err);
    assert_ok(&f->err);
    return scope;
}

/* Is the file locked by a writer? Asked from outside of Pier. */
static bool is_locked(void *user_data)
{
    sqlite3 *outside = NULL;
    bool locked = sqlite3_open(((struct fixture *)user_data)->path, &outside) == SQLITE_OK &&
                  sqlite3_exec(outside, "begin immediate", NULL, NULL, NULL) == SQLITE_BUSY;
    sqlite3_close(outside);
    return locked;
}

static void test_deadline__ends_a_long_query_at_once(void **state)
{
    struct fixture *f = *state;
    int64_t began = support_now_ms();
    pier_scope *scope = deadline(f, 50);
    pier_error later = {0};
    pier_result *rows = pier_db_fetch(f->db, endless_select, NULL, &f->err);
    pier_db_execute(f->db, "select 1", NULL, &later);
    pier_scope_close(scope);
    assert_null(rows);
    assert_error(&f->err, PIER_ETIMEDOUT, "pier_db_fetch: the deadline passed while");
    assert_error(&later, PIER_ETIMEDOUT, "pier_db_execute: the deadline passed while starting");
    assert_true(support_now_ms() - began < AT_ONCE_MS);
    assert_int_equal(number_of(f->db, "select 7"), 7);
}

static void test_deadline__ends_a_cursor(void **state)
{
    struct fixture *f = *state;
    time_stop(); /* until it is open */
    pier_scope *scope = deadline(f, 50);
    pier_cursor *cursor =
        pier_db_cursor(f->db, ENDLESS "select i from n where i % 1000000 = 0", NULL, &f->err);
    time_go_on();
    while (pier_cursor_next(cursor)) {
    }
    int status = pier_cursor_close(cursor, &f->err);
    pier_scope_close(scope);
    assert_int_equal(status, PIER_ETIMEDOUT);
    assert_error(&f->err, PIER_ETIMEDOUT, "pier_cursor_block");
    execute(f->db, "drop table t", NULL);
}

static void test_deadline__of_one_statement_leaves_open_cursors_alone(void **state)
{
    struct fixture *f = *state;
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000) "
            "insert into t(id) select i from n",
            NULL);
    pier_cursor *cursor = pier_db_cursor(f->db, "select id from t order by id", NULL, &f->err);
    assert_int_equal(pier_row_int64(pier_cursor_next(cursor), 0), 1);
    pier_scope *scope = deadline(f, 50);
    pier_db_fetch(f->db, endless_select, NULL, &f->err);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
    int64_t rows = 1;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        assert_int_equal(pier_row_int64(row, 0), ++rows);
    }
    assert_int_equal(rows, 1000);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

/* The interrupted INSERT takes the whole transaction with it in SQLite. */
static void test_deadline__in_a_transaction_dooms_it_and_nothing_commits(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t(name) values ('before')", NULL);
    pier_scope *scope = deadline(f, 50);
    pier_db_execute(tx, ENDLESS "insert into t(name) select i from n", NULL, &f->err);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, "the transaction has been rolled back");
    assert_true(pier_db_execute(tx, "insert into t(name) values ('after')", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_ETIMEDOUT, "failed earlier");
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

struct canceller {
    struct fixture *f;
    pier_scope *scope;
    bool locked;
};

static void *cancel_when_locked(void *arg)
{
    struct canceller *canceller = arg;
    canceller->locked = support_wait_until(is_locked, canceller->f, BOUND_MS);
    pier_scope_cancel(canceller->scope);
    return NULL;
}

static void test_cancel__from_another_thread_ends_a_statement(void **state)
{
    struct fixture *f = *state;
    struct canceller canceller = {f, pier_scope_open(f->runner, NULL, &f->err), false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_locked, &canceller), 0);
    pier_db_execute(f->db, endless_insert, NULL, &f->err);
    pthread_join(thread, NULL);
    pier_scope_close(canceller.scope);
    assert_true(canceller.locked);
    assert_error(&f->err, PIER_ECANCELLED, "pier_db_execute: cancelled while running");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

/* None of the statements is long enough for the progress handler to be called in it. */
static void test_cancel__ends_a_script_of_short_statements(void **state)
{
    struct fixture *f = *state;
    static const char one[] = "insert into t(name) values ('a');";
    enum { COUNT = 500000 };
    char *script = malloc(COUNT * (sizeof one - 1) + sizeof "begin immediate;");
    char *end = stpcpy(script, "begin immediate;");
    for (int i = 0; i < COUNT; i++) {
        end = stpcpy(end, one);
    }
    struct canceller canceller = {f, pier_scope_open(f->runner, NULL, &f->err), false};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_locked, &canceller), 0);
    pier_db_execute_script(f->db, script, &f->err);
    pthread_join(thread, NULL);
    pier_scope_close(canceller.scope);
    free(script);
    assert_true(canceller.locked);
    assert_error(&f->err, PIER_ECANCELLED, "rolled back");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_cancel__of_a_future_ends_its_statement(void **state)
{
    struct fixture *f = *state;
    pier_future *future = pier_db_execute_async(f->db, endless_insert, NULL);
    assert_true(support_wait_until(is_locked, f, BOUND_MS));
    assert_int_equal(pier_future_wait(future, 0, &f->err), 0);
    pier_future_cancel(future);
    assert_true(pier_db_execute_finish(future, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, "pier_db_execute");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_cancel__of_a_future_that_waits_for_the_only_connection(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_future *future = pier_db_execute_async(f->db, "insert into t(name) values ('x')", NULL);
    pier_future_cancel(future);
    assert_true(pier_db_execute_finish(future, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, "pier_db_execute: cancelled while");
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_close__of_the_runner_ends_what_runs(void **state)
{
    struct fixture *f = *state;
    pier_future *future = pier_db_execute_async(f->db, endless_insert, NULL);
    assert_true(support_wait_until(is_locked, f, BOUND_MS));
    int64_t began = support_now_ms();
    pier_future_free(future);
    pier_runner_close(f->runner);
    f->runner = NULL;
    f->db = NULL;
    assert_true(support_now_ms() - began < AT_ONCE_MS);
}

static int endless_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return (int)pier_db_execute(((struct fixture *)arg)->db, endless_insert, NULL, err);
}

static void test_cancel__before_a_statement_starts_dooms_its_transaction(void **state)
{
    struct fixture *f = *state;
    int64_t before = number_of(f->db, "select count(*) from t");
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_ok(&f->err);
    pier_scope *scope = pier_scope_open(f->runner, NULL, &f->err);
    pier_scope_cancel(scope);
    assert_true(pier_db_execute(tx, "insert into t values (1, 'x')", NULL, &f->err) < 0);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ECANCELLED, "while starting");
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, "pier_db_execute");
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), before);
}

static void test_arguments__that_cannot_be_bound_doom_the_transaction(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_true(pier_db_execute(tx, "insert into t values ($1, 'x')",
                                PIER_ARGS(pier_uint64(UINT64_MAX)), &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "bind it as text");
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "bind it as text");
    pier_db_close(tx);
}

static void test_cancel__of_a_task_ends_its_statement(void **state)
{
    struct fixture *f = *state;
    pier_future *task = pier_task_start(f->runner, endless_in_task, f);
    assert_true(support_wait_until(is_locked, f, BOUND_MS));
    pier_future_cancel(task);
    assert_true(pier_task_finish(task, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

/* ---- Locks of others ---------------------------------------------------------------------- */

struct other {
    pier_db *db, *tx;
};

/* A second database on the same file, in a transaction that holds the write lock. */
static struct other lock(struct fixture *f)
{
    struct other other = {.db = pier_db_open(f->runner, f->url, NULL, &f->err)};
    other.tx = pier_db_begin(other.db, NULL, &f->err);
    assert_ok(&f->err);
    return other;
}

static void unlock(struct other *other)
{
    pier_db_close(other->tx);
    pier_db_close(other->db);
}

static void test_busy__waits_until_the_lock_is_free(void **state)
{
    struct fixture *f = *state;
    struct other other = lock(f);
    pier_future *future = pier_db_execute_async(f->db, "insert into t(name) values ('x')", NULL);
    assert_int_equal(pier_future_wait(future, 100, &f->err), 0);
    execute(other.tx, "insert into t(name) values ('first')", NULL);
    assert_int_equal(pier_db_commit(other.tx, &f->err), 0);
    assert_int_equal(pier_db_execute_finish(future, &f->err), 1);
    unlock(&other);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 2);
}

static void test_busy__gives_up_after_its_timeout(void **state)
{
    struct fixture *f = *state;
    struct other other = lock(f);
    char url[700];
    snprintf(url, sizeof url, "%s?busy_timeout_ms=30", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    int64_t began = support_now_ms();
    pier_db_execute(db, "insert into t(name) values ('x')", NULL, &f->err);
    assert_true(support_now_ms() - began >= 30);
    assert_int_equal(f->err.native, SQLITE_BUSY);
    assert_error(&f->err, PIER_EBUSY, "see busy_timeout_ms");
    assert_null(pier_db_begin(db, NULL, &f->err));
    assert_error(&f->err, PIER_EBUSY, NULL);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    pier_db_close(db);
    unlock(&other);
}

static void test_busy__obeys_a_deadline(void **state)
{
    struct fixture *f = *state;
    struct other other = lock(f);
    int64_t began = support_now_ms();
    pier_scope *scope = deadline(f, 50);
    pier_db_execute(f->db, "insert into t(name) values ('x')", NULL, &f->err);
    pier_scope_close(scope);
    assert_true(support_now_ms() - began < 4000);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
    unlock(&other);
    execute(f->db, "insert into t(name) values ('x')", NULL);
}

static void test_busy__obeys_the_cancel_of_a_future(void **state)
{
    struct fixture *f = *state;
    struct other other = lock(f);
    pier_future *future = pier_db_begin_async(f->db, NULL);
    assert_int_equal(pier_future_wait(future, 50, &f->err), 0);
    int64_t began = support_now_ms();
    pier_future_cancel(future);
    assert_null(pier_db_begin_finish(future, &f->err));
    assert_true(support_now_ms() - began < 4000);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    unlock(&other);
    execute(f->db, "insert into t(name) values ('x')", NULL);
}

struct interrupter {
    pthread_t target;
    pier_scope *scope;
    atomic_bool entered;
};

static void ignore_signal(int number)
{
    (void)number;
}

static void *cancel_with_signals(void *arg)
{
    struct interrupter *interrupter = arg;
    for (int i = 0; i < 20; i++) {
        pthread_kill(interrupter->target, SIGUSR1);
    }
    pier_scope_cancel(interrupter->scope);
    return NULL;
}

/* Signals that mean nothing only make it look again. */
static void test_busy__survives_signals_and_obeys_a_scope(void **state)
{
    struct fixture *f = *state;
    struct other other = lock(f);
    struct sigaction action = {.sa_handler = ignore_signal}, before;
    sigaction(SIGUSR1, &action, &before);
    struct interrupter interrupter = {.target = pthread_self(),
                                      .scope = pier_scope_open(f->runner, NULL, &f->err)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, cancel_with_signals, &interrupter), 0);
    int64_t began = support_now_ms();
    pier_db_execute(f->db, "insert into t(name) values ('x')", NULL, &f->err);
    pthread_join(thread, NULL);
    pier_scope_close(interrupter.scope);
    sigaction(SIGUSR1, &before, NULL);
    assert_true(support_now_ms() - began < 4000);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    unlock(&other);
}

/* A reader keeps the writer from committing; the transaction stays, and can be rolled back. */
static void test_busy__commit_that_cannot_get_the_file_rolls_back(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "%s?busy_timeout_ms=20", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    pier_db *reader = pier_db_begin(f->db, PIER_TX_OPTIONS(.read_only = true), &f->err);
    assert_int_equal(number_of(reader, "select count(*) from t"), 0);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    execute(tx, "insert into t(name) values ('x')", NULL);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_EBUSY, NULL);
    pier_db_close(tx);
    pier_db_close(reader);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    execute(db, "insert into t(name) values ('x')", NULL);
    pier_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_deadline__ends_a_long_query_at_once),
        TEST(test_deadline__ends_a_cursor),
        TEST(test_deadline__of_one_statement_leaves_open_cursors_alone),
        TEST(test_deadline__in_a_transaction_dooms_it_and_nothing_commits),
        TEST(test_cancel__from_another_thread_ends_a_statement),
        TEST(test_cancel__ends_a_script_of_short_statements),
        TEST(test_cancel__of_a_future_ends_its_statement),
        TEST(test_cancel__of_a_future_that_waits_for_the_only_connection),
        TEST(test_close__of_the_runner_ends_what_runs),
        TEST(test_cancel__before_a_statement_starts_dooms_its_transaction),
        TEST(test_arguments__that_cannot_be_bound_doom_the_transaction),
        TEST(test_cancel__of_a_task_ends_its_statement),
        TEST(test_busy__waits_until_the_lock_is_free),
        TEST(test_busy__gives_up_after_its_timeout),
        TEST(test_busy__obeys_a_deadline),
        TEST(test_busy__obeys_the_cancel_of_a_future),
        TEST(test_busy__survives_signals_and_obeys_a_scope),
        TEST(test_busy__commit_that_cannot_get_the_file_rolls_back),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
