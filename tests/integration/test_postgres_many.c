/* Many rows at once on Postgres: pier_db_execute_many and writers. */
#include "tests/integration/postgres_fixture.h"

static const char insert[] = "insert into t(id, name) values ($1, $2)";

enum { MANY = 3000 };

struct batch {
    pier_value values[MANY][2];
    pier_args rows[MANY];
};

/* Rows 1 to count; the caller frees it. */
static struct batch *make_batch(size_t count, const char *name)
{
    struct batch *batch = calloc(1, sizeof *batch);
    for (size_t i = 0; i < count; i++) {
        batch->values[i][0] = pier_int64((int64_t)i + 1);
        batch->values[i][1] = pier_text(name);
        batch->rows[i] = (pier_args){2, batch->values[i], NULL};
    }
    return batch;
}

static int open_table(void **state)
{
    if (open_db(state)) {
        return -1;
    }
    PQclear(PQexec(observer, "create table t(id int primary key, name text)"));
    return 0;
}

#define TABLE(name) cmocka_unit_test_setup_teardown(name, open_table, close_db)
#define BOTH_TABLE(name) TABLE(name), TABLE(name##__in_a_task)

static int rows_seen(void)
{
    return look_int("select count(*) from t");
}

/* ---- execute_many ------------------------------------------------------------------------- */

SCENARIO(test_many__runs_for_every_row)
{
    static const size_t counts[] = {0, 1, 2, 1000, MANY};
    struct batch *batch = make_batch(MANY, "ada");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        pier_error e = {0};
        pier_db_execute(pool, "delete from t", NULL, &e);
        int64_t changed = pier_db_execute_many(pool, insert, batch->rows, counts[i], &e);
        EXPECT(changed == (int64_t)counts[i]);
        int64_t sum = -1;
        EXPECT(pier_db_fetch_into(pool, "select coalesce(sum(id), 0)::int8 from t", NULL,
                                  PIER_INTO(&sum), &e) == 1);
        EXPECT(sum == (int64_t)counts[i] * ((int64_t)counts[i] + 1) / 2);
    }
    free(batch);
    return 0;
}

SCENARIO(test_many__counts_what_each_row_changed)
{
    pier_error e = {0};
    struct batch *batch = make_batch(5, "ada");
    pier_db_execute_many(pool, insert, batch->rows, 5, &e);
    pier_value bounds[3] = {pier_int64(2), pier_int64(9), pier_int64(1)};
    pier_args rows[3] = {{1, &bounds[0], NULL}, {1, &bounds[1], NULL}, {1, &bounds[2], NULL}};
    EXPECT(pier_db_execute_many(pool, "update t set name = 'x' where id <= $1", rows, 3, &e) ==
           2 + 5 + 1);
    /* Rows that come back are dropped, and reading is no change. */
    EXPECT(pier_db_execute_many(pool, "delete from t where id = $1 returning *", rows, 3, &e) == 2);
    EXPECT(pier_db_execute_many(pool, "select * from t where id > $1", rows, 3, &e) == 0);
    free(batch);
    return e.status;
}

static void test_many__a_future_has_copied_its_rows(void **state)
{
    (void)state;
    pier_error err = {0};
    struct batch *batch = make_batch(MANY, "ada");
    pier_future *future = pier_db_execute_many_async(db, insert, batch->rows, MANY);
    memset(batch, 0xA5, sizeof *batch);
    free(batch);
    assert_int_equal(pier_db_execute_many_finish(future, &err), MANY);
    assert_int_equal(look_int("select count(*) from t where name = 'ada'"), MANY);
}

SCENARIO(test_many__all_or_nothing_and_the_error_names_the_row)
{
    pier_error e = {0};
    struct batch *batch = make_batch(1000, "ada");
    batch->values[699][0] = pier_int64(1); /* once more */
    EXPECT(pier_db_execute_many(pool, insert, batch->rows, 1000, &e) == PIER_ECONSTRAINT);
    EXPECT(strncmp(e.message, "row 700: ", 9) == 0);
    EXPECT(strcmp(e.sqlstate, "23505") == 0 && strcmp(e.constraint, "t_pkey") == 0);
    memset(&e, 0, sizeof e);
    int64_t left = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*) from t", NULL, PIER_INTO(&left), &e) == 1);
    EXPECT(left == 0);
    free(batch);
    return 0;
}

SCENARIO(test_many__a_row_that_cannot_be_bound_undoes_those_before)
{
    pier_error e = {0};
    struct batch *batch = make_batch(MANY, "a name that makes the rows fill more than one piece");
    batch->values[MANY - 2][0] = pier_text("seven");
    EXPECT(pier_db_execute_many(pool, insert, batch->rows, MANY, &e) == PIER_ETYPE);
    char start[32];
    snprintf(start, sizeof start, "row %d: argument 1", MANY - 1);
    EXPECT(strncmp(e.message, start, strlen(start)) == 0);
    memset(&e, 0, sizeof e);
    batch->rows[2].count = 1;
    EXPECT(pier_db_execute_many(pool, insert, batch->rows, 10, &e) == PIER_EINVAL);
    EXPECT(strstr(e.message, "row 3: the statement has 2 parameters, 1 given"));
    memset(&e, 0, sizeof e);
    int64_t left = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*) from t", NULL, PIER_INTO(&left), &e) == 1);
    EXPECT(left == 0);
    free(batch);
    return 0;
}

static void test_many__a_constraint_that_is_checked_at_the_end_names_no_row(void **state)
{
    (void)state;
    pier_error err = {0};
    PQclear(PQexec(observer, "create table late(id int unique deferrable initially deferred)"));
    pier_value same = pier_int64(1);
    pier_args rows[2] = {{1, &same, NULL}, {1, &same, NULL}};
    assert_int_equal(pier_db_execute_many(db, "insert into late values ($1)", rows, 2, &err),
                     PIER_ECONSTRAINT);
    assert_null(strstr(err.message, "row "));
    assert_int_equal(look_int("select count(*) from late"), 0);
}

SCENARIO(test_many__in_a_transaction_it_shares_its_fate)
{
    pier_error e = {0};
    struct batch *batch = make_batch(100, "ada");
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute_many(tx, insert, batch->rows, 100, &e) == 100);
    pier_db_close(tx);
    int64_t left = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*) from t", NULL, PIER_INTO(&left), &e) == 1);
    EXPECT(left == 0);
    tx = pier_db_begin(pool, NULL, &e);
    batch->values[50][0] = pier_int64(1);
    EXPECT(pier_db_execute_many(tx, insert, batch->rows, 100, &e) == PIER_ECONSTRAINT);
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_commit(tx, &e) == PIER_ECONSTRAINT);
    EXPECT(strncmp(e.message, "row 51: ", 8) == 0);
    pier_db_close(tx);
    free(batch);
    return 0;
}

/* A transaction that the user has begun on a lease goes on without the rows. */
SCENARIO(test_many__in_a_transaction_of_a_lease_it_is_a_savepoint)
{
    pier_error e = {0};
    struct batch *batch = make_batch(10, "ada");
    pier_db *lease = pier_db_lease(pool, &e);
    pier_db_execute(lease, "begin", NULL, &e);
    pier_db_execute(lease, "insert into t values (100, 'before')", NULL, &e);
    batch->values[7][0] = pier_int64(1);
    EXPECT(pier_db_execute_many(lease, insert, batch->rows, 10, &e) == PIER_ECONSTRAINT);
    memset(&e, 0, sizeof e);
    batch->values[7][0] = pier_int64(8);
    EXPECT(pier_db_execute_many(lease, insert, batch->rows, 10, &e) == 10);
    pier_db_execute(lease, "commit", NULL, &e);
    int64_t left = -1;
    EXPECT(pier_db_fetch_into(lease, "select count(*) from t", NULL, PIER_INTO(&left), &e) == 1);
    EXPECT(left == 11);
    pier_db_close(lease);
    free(batch);
    return e.status;
}

/* After a failure on a lease the connection is not left in a transaction. */
SCENARIO(test_many__a_lease_can_go_on_after_a_failure)
{
    pier_error e = {0};
    struct batch *batch = make_batch(10, "ada");
    pier_db *lease = pier_db_lease(pool, &e);
    int64_t before = 0, after = 0;
    const char *pid = "select pg_backend_pid()::int8";
    EXPECT(pier_db_fetch_into(lease, pid, NULL, PIER_INTO(&before), &e) == 1);
    batch->values[7][0] = pier_int64(1);
    EXPECT(pier_db_execute_many(lease, insert, batch->rows, 10, &e) == PIER_ECONSTRAINT);
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_execute(lease, "insert into t values (1, 'alone')", NULL, &e) == 1);
    EXPECT(pier_db_fetch_into(lease, pid, NULL, PIER_INTO(&after), &e) == 1);
    EXPECT(before == after);
    pier_db_close(lease);
    free(batch);
    return look_int("select count(*) from t") == 1 ? 0 : -1;
}

/* The server stops reading while it has answers that nobody takes: 60 MB in both directions. */
static void test_many__does_not_deadlock_when_both_sides_write(void **state)
{
    (void)state;
    enum { WIDE = 20000 };
    pier_error err = {0};
    char *wide = malloc(WIDE + 1);
    memset(wide, 'w', WIDE);
    wide[WIDE] = 0;
    struct batch *batch = make_batch(MANY, wide);
    assert_int_equal(pier_db_execute_many(db, "insert into t values ($1, $2) returning name",
                                          batch->rows, MANY, &err),
                     MANY);
    assert_int_equal(err.status, 0);
    assert_int_equal(rows_seen(), MANY);
    free(batch);
    free(wide);
}

static void test_many__long_statements_are_not_cached_and_work(void **state)
{
    (void)state;
    pier_error err = {0};
    char *sql = malloc(20000);
    memset(sql, ' ', 19000);
    strcpy(sql + 19000, insert);
    struct batch *batch = make_batch(100, "ada");
    assert_int_equal(pier_db_execute_many(db, sql, batch->rows, 100, &err), 100);
    assert_int_equal(rows_seen(), 100);
    free(batch);
    free(sql);
}

static void test_many__a_table_that_has_changed_costs_one_more_attempt(void **state)
{
    (void)state;
    pier_error err = {0};
    struct batch *batch = make_batch(10, "ada");
    const char *sql = "insert into t(id, name) values ($1, $2) returning *";
    pier_db *pool = open_pool(1);
    assert_int_equal(pier_db_execute_many(pool, sql, batch->rows, 5, &err), 5);
    PQclear(PQexec(observer, "delete from t; alter table t add column more int"));
    assert_int_equal(pier_db_execute_many(pool, sql, batch->rows, 10, &err), 10);
    assert_int_equal(err.status, 0);
    /* And one whose statement somebody has closed. */
    assert_true(pier_db_execute(pool, "deallocate all", NULL, &err) >= 0);
    PQclear(PQexec(observer, "delete from t"));
    assert_int_equal(pier_db_execute_many(pool, sql, batch->rows, 10, &err), 10);
    pier_db_close(pool);
    free(batch);
}

static void test_many__refuses_what_would_end_its_transaction(void **state)
{
    (void)state;
    static const char *const statements[] = {"commit", "/* now */ ROLLBACK", "copy t from stdin",
                                             "-- x\nBegin"};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        pier_error err = {0};
        pier_args row = {0, NULL, NULL};
        assert_int_equal(pier_db_execute_many(db, statements[i], &row, 1, &err), PIER_EINVAL);
        assert_non_null(strstr(err.message, "cannot be run for many rows"));
    }
}

/* ---- Cut short ---------------------------------------------------------------------------- */

static void test_many__a_deadline_leaves_nothing_of_it(void **state)
{
    (void)state;
    pier_error err = {0};
    struct batch *batch = make_batch(100, "ada");
    pier_db *pool = open_pool(1);
    /* The first row sleeps longer than the deadline allows. */
    const char *sql = "insert into t select $1, $2 from (select pg_sleep(30)) as s";
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 200), &err);
    int64_t began = support_now_ms();
    assert_int_equal(pier_db_execute_many(pool, sql, batch->rows, 100, &err), PIER_ETIMEDOUT);
    assert_true(support_now_ms() - began < AT_ONCE_MS);
    pier_scope_close(scope);
    memset(&err, 0, sizeof err);
    /* The same connection, once it is clean. */
    assert_int_equal(pier_db_execute_many(pool, insert, batch->rows, 100, &err), 100);
    assert_int_equal(rows_seen(), 100);
    pier_db_close(pool);
    free(batch);
}

/* Cancelled while rows are still to be sent: they are not sent, nor is a commit. */
static void test_many__cancelled_while_it_sends_it_commits_nothing(void **state)
{
    (void)state;
    enum { WIDE = 20000 };
    char *wide = malloc(WIDE + 1);
    memset(wide, 'w', WIDE);
    wide[WIDE] = 0;
    struct batch *batch = make_batch(MANY, wide);
    PQclear(PQexec(observer, "begin; lock table t in exclusive mode"));
    pier_future *future = pier_db_execute_many_async(db, insert, batch->rows, MANY);
    assert_true(await_int("select count(*) from pg_locks where not granted", 1));
    pier_future_cancel(future);
    pier_error err = {0};
    assert_int_equal(pier_db_execute_many_finish(future, &err), PIER_ECANCELLED);
    PQclear(PQexec(observer, "commit"));
    assert_true(await_int("select count(*) from pg_stat_activity where application_name = 'pier' "
                          "and state <> 'idle'",
                          0));
    assert_int_equal(rows_seen(), 0);
    free(batch);
    free(wide);
}

static void test_many__closing_the_runner_ends_it(void **state)
{
    (void)state;
    struct batch *batch = make_batch(100, "ada");
    pier_runner *other = pier_runner_open(NULL, NULL);
    pier_error err = {0};
    pier_db *pool = pier_db_open(other, server.url_unix, NULL, &err);
    const char *sql = "insert into t select $1, $2 from (select pg_sleep(30)) as s";
    pier_future *future = pier_db_execute_many_async(pool, sql, batch->rows, 100);
    assert_true(await_running("pg_sleep(30)) as s", 1));
    int64_t began = support_now_ms();
    pier_runner_close(other);
    assert_true(support_now_ms() - began < 8000);
    assert_true(pier_db_execute_many_finish(future, &err) < 0);
    assert_int_equal(rows_seen(), 0);
    free(batch);
}

static void test_many__a_server_that_dies_is_reported(void **state)
{
    (void)state;
    struct batch *batch = make_batch(100, "ada");
    const char *sql = "insert into t select $1, $2 from (select pg_sleep(30)) as s";
    pier_future *future = pier_db_execute_many_async(db, sql, batch->rows, 100);
    assert_true(await_running("pg_sleep(30)) as s", 1));
    PQclear(PQexec(observer, "select pg_terminate_backend(pid) from pg_stat_activity where "
                             "application_name = 'pier'"));
    pier_error err = {0};
    assert_int_equal(pier_db_execute_many_finish(future, &err), PIER_EIO);
    assert_int_equal(rows_seen(), 0);
    free(batch);
}

/* ---- Writers ------------------------------------------------------------------------------ */

static int add_rows(pier_writer *writer, int from, int to)
{
    int status = 0;
    for (int i = from; i <= to && status == 0; i++) {
        status = pier_writer_add(writer, PIER_ARGS(i, "ada"));
    }
    return status;
}

SCENARIO(test_writer__writes_every_row_once)
{
    static const int counts[] = {0, 1, 511, 512, 513, 1300};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        pier_error e = {0};
        pier_db_execute(pool, "delete from t", NULL, &e);
        pier_writer *writer = pier_db_writer(pool, insert, &e);
        EXPECT(add_rows(writer, 1, counts[i]) == 0);
        EXPECT(pier_writer_close(writer, &e) == counts[i]);
        int64_t seen = -1;
        EXPECT(pier_db_fetch_into(pool, "select count(*) from t", NULL, PIER_INTO(&seen), &e) == 1);
        EXPECT(seen == counts[i]);
    }
    return 0;
}

SCENARIO(test_writer__a_failure_names_its_row_and_leaves_nothing)
{
    pier_error e = {0};
    pier_writer *writer = pier_db_writer(pool, insert, &e);
    EXPECT(add_rows(writer, 1, 700) == 0);
    EXPECT(pier_writer_add(writer, PIER_ARGS(3, "again")) == 0);
    add_rows(writer, 701, 800);
    EXPECT(pier_writer_close(writer, &e) == PIER_ECONSTRAINT);
    EXPECT(strncmp(e.message, "row 701: ", 9) == 0);
    memset(&e, 0, sizeof e);
    int64_t seen = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*) from t", NULL, PIER_INTO(&seen), &e) == 1);
    EXPECT(seen == 0);
    return 0;
}

SCENARIO(test_writer__in_a_transaction_it_is_a_savepoint)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_db_execute(tx, "insert into t values (5000, 'first')", NULL, &e);
    pier_writer *writer = pier_db_writer(tx, insert, &e);
    add_rows(writer, 1, 600);
    pier_writer_add(writer, PIER_ARGS(5, "again"));
    EXPECT(pier_writer_close(writer, &e) == PIER_ECONSTRAINT);
    memset(&e, 0, sizeof e);
    writer = pier_db_writer(tx, insert, &e);
    add_rows(writer, 1, 600);
    EXPECT(pier_writer_close(writer, &e) == 600);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    int64_t seen = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*) from t", NULL, PIER_INTO(&seen), &e) == 1);
    EXPECT(seen == 601);
    return 0;
}

static void test_writer__nothing_is_committed_before_it_is_closed(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_writer *writer = pier_db_writer(db, insert, &err);
    assert_int_equal(add_rows(writer, 1, 1000), 0);
    assert_int_equal(pier_writer_flush(writer, &err), 0);
    assert_int_equal(rows_seen(), 0);
    assert_int_equal(pier_writer_close(writer, &err), 1000);
    assert_int_equal(rows_seen(), 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_TABLE(test_many__runs_for_every_row),
        BOTH_TABLE(test_many__counts_what_each_row_changed),
        TABLE(test_many__a_future_has_copied_its_rows),
        BOTH_TABLE(test_many__all_or_nothing_and_the_error_names_the_row),
        BOTH_TABLE(test_many__a_row_that_cannot_be_bound_undoes_those_before),
        TABLE(test_many__a_constraint_that_is_checked_at_the_end_names_no_row),
        BOTH_TABLE(test_many__in_a_transaction_it_shares_its_fate),
        BOTH_TABLE(test_many__in_a_transaction_of_a_lease_it_is_a_savepoint),
        BOTH_TABLE(test_many__a_lease_can_go_on_after_a_failure),
        TABLE(test_many__does_not_deadlock_when_both_sides_write),
        TABLE(test_many__long_statements_are_not_cached_and_work),
        TABLE(test_many__a_table_that_has_changed_costs_one_more_attempt),
        TABLE(test_many__refuses_what_would_end_its_transaction),
        TABLE(test_many__a_deadline_leaves_nothing_of_it),
        TABLE(test_many__cancelled_while_it_sends_it_commits_nothing),
        TABLE(test_many__closing_the_runner_ends_it),
        TABLE(test_many__a_server_that_dies_is_reported),
        BOTH_TABLE(test_writer__writes_every_row_once),
        BOTH_TABLE(test_writer__a_failure_names_its_row_and_leaves_nothing),
        BOTH_TABLE(test_writer__in_a_transaction_it_is_a_savepoint),
        TABLE(test_writer__nothing_is_committed_before_it_is_closed),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
