/* Many rows at once: writers and pier_db_execute_many. */
#include "tests/integration/sqlite_fixture.h"

static const char insert[] = "insert into t(id, name) values ($1, $2)";

static pier_writer *open_writer(struct fixture *f, pier_db *db)
{
    pier_writer *writer = pier_db_writer(db, insert, &f->err);
    assert_ok(&f->err);
    return writer;
}

static void add(pier_writer *writer, int from, int to)
{
    for (int i = from; i <= to; i++) {
        assert_int_equal(pier_writer_add(writer, PIER_ARGS(i, "ada")), 0);
    }
}

static int64_t rows(struct fixture *f)
{
    return number_of(f->db, "select count(*) from t");
}

/* Rows on another connection, which sees what has been committed. */
static int64_t committed(struct fixture *f)
{
    pier_db *other = pier_db_open(f->runner, f->url, NULL, &f->err);
    assert_ok(&f->err);
    int64_t count = number_of(other, "select count(*) from t");
    pier_db_close(other);
    return count;
}

/* ---- Writers ------------------------------------------------------------------------------ */

static void test_writer__writes_every_row_once(void **state)
{
    struct fixture *f = *state;
    static const int counts[] = {0, 1, 511, 512, 513, 1024, 1300};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        execute(f->db, "delete from t", NULL);
        pier_writer *writer = open_writer(f, f->db);
        add(writer, 1, counts[i]);
        assert_int_equal(pier_writer_close(writer, &f->err), counts[i]);
        assert_int_equal(rows(f), counts[i]);
        assert_int_equal(number_of(f->db, "select coalesce(sum(id), 0) from t"),
                         (int64_t)counts[i] * (counts[i] + 1) / 2);
    }
}

static void test_writer__copies_what_it_is_given(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer =
        pier_db_writer(f->db, "insert into t(id, name) values (:id, :name)", &f->err);
    char name[24], key[] = "name";
    for (int i = 1; i <= 600; i++) {
        snprintf(name, sizeof name, "name %d", i);
        strcpy(key, "name");
        assert_int_equal(pier_writer_add(writer, PIER_NAMED("id", i, key, name)), 0);
        memset(name, 'x', sizeof name);
        memset(key, 'x', sizeof key - 1);
    }
    assert_int_equal(pier_writer_close(writer, &f->err), 600);
    assert_int_equal(number_of(f->db, "select count(*) from t where name = 'name ' || id"), 600);
}

static void test_writer__writes_rows_of_any_width(void **state)
{
    struct fixture *f = *state;
    static char wide[300000];
    memset(wide, 'w', sizeof wide);
    pier_writer *writer = open_writer(f, f->db);
    for (int i = 1; i <= 20; i++) {
        size_t size = i % 5 ? (size_t)i * 5000 : sizeof wide;
        assert_int_equal(pier_writer_add(writer, PIER_ARGS(i, pier_text_sized(wide, size))), 0);
    }
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(21, pier_bytes("", 0))), 0);
    assert_int_equal(pier_writer_close(writer, &f->err), 21);
    assert_int_equal(number_of(f->db, "select count(*) from t where length(name) = "
                                      "case when id % 5 = 0 then 300000 else id * 5000 end"),
                     20);
}

static void test_writer__does_nothing_before_its_first_block(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 100);
    /* The only connection is still free. */
    assert_int_equal(rows(f), 0);
    assert_int_equal(pier_writer_close(writer, &f->err), 100);
}

static void test_writer__commits_when_it_is_closed(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 700);
    assert_int_equal(pier_writer_flush(writer, &f->err), 0);
    assert_int_equal(committed(f), 0);
    assert_int_equal(pier_writer_flush(writer, &f->err), 0); /* nothing to write */
    assert_int_equal(pier_writer_close(writer, &f->err), 700);
    assert_int_equal(committed(f), 700);
}

static void test_writer__holds_its_connection_and_says_so(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 1);
    assert_int_equal(pier_writer_flush(writer, &f->err), 0);
    assert_int_equal(pier_db_execute(f->db, "delete from t", NULL, &f->err), PIER_EDEADLOCK);
    assert_error(&f->err, PIER_EDEADLOCK, "a writer");
    assert_int_equal(pier_writer_close(writer, &f->err), 1);
}

static void test_writer__a_failed_row_takes_all_back_and_is_named(void **state)
{
    struct fixture *f = *state;
    execute(f->db, insert, PIER_ARGS(1000, "in the way"));
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 999);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(1000, "ada")), 0);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ECONSTRAINT);
    assert_error(&f->err, PIER_ECONSTRAINT, "row 1000: UNIQUE constraint failed: t.id");
    assert_int_equal(rows(f), 1);
}

static void test_writer__rolls_back_as_soon_as_a_row_fails(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 600);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(3, "again")), 0);
    assert_int_equal(pier_writer_flush(writer, &f->err), PIER_ECONSTRAINT);
    assert_error(&f->err, PIER_ECONSTRAINT, "row 601: ");
    /* The connection is free again. */
    assert_int_equal(rows(f), 0);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(5, "late")), PIER_ECONSTRAINT);
    assert_int_equal(pier_writer_flush(writer, &f->err), PIER_ECONSTRAINT);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ECONSTRAINT);
    assert_error(&f->err, PIER_ECONSTRAINT, "row 601: ");
    assert_int_equal(rows(f), 0);
}

static void test_writer__a_row_that_cannot_be_bound_is_named(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 2);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(UINT64_MAX, "ada")), PIER_EINVAL);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, "row 3: pier_writer_add: argument $1");
    writer = open_writer(f, f->db);
    add(writer, 1, 2);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(3)), 0);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, "row 3: the statement needs 2 arguments and was given 1");
    assert_int_equal(rows(f), 0);
}

static void test_writer__sql_that_is_wrong_is_reported_by_close(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = pier_db_writer(f->db, "insert into nowhere values ($1)", &f->err);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(1)), 0);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ESQL);
    assert_error(&f->err, PIER_ESQL, "no such table: nowhere");
}

static void test_writer__counts_what_the_rows_changed(void **state)
{
    struct fixture *f = *state;
    execute(f->db, insert, PIER_ARGS(2, "there"));
    pier_writer *writer = pier_db_writer(f->db, "insert or ignore into t(id) values ($1)", &f->err);
    for (int i = 1; i <= 3; i++) {
        assert_int_equal(pier_writer_add(writer, PIER_ARGS(i)), 0);
    }
    assert_int_equal(pier_writer_close(writer, &f->err), 2);
}

/* ---- Inside scopes ------------------------------------------------------------------------ */

static void test_writer__in_a_transaction_is_rolled_back_with_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_writer *writer = open_writer(f, tx);
    add(writer, 1, 600);
    assert_int_equal(pier_writer_close(writer, &f->err), 600);
    assert_int_equal(number_of(tx, "select count(*) from t"), 600);
    pier_db_close(tx);
    assert_int_equal(rows(f), 0);
}

static void test_writer__failing_in_a_transaction_leaves_the_rest_of_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, insert, PIER_ARGS(5000, "mine"));
    pier_writer *writer = open_writer(f, tx);
    add(writer, 1, 600);
    execute(tx, insert, PIER_ARGS(601, "between two blocks"));
    add(writer, 601, 601);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ECONSTRAINT);
    assert_error(&f->err, PIER_ECONSTRAINT, "row 601: ");
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 5000);
}

static void test_writer__works_on_a_lease(void **state)
{
    struct fixture *f = *state;
    pier_db *lease = pier_db_lease(f->db, &f->err);
    pier_writer *writer = open_writer(f, lease);
    add(writer, 1, 600);
    assert_int_equal(pier_writer_close(writer, &f->err), 600);
    execute(lease, insert, PIER_ARGS(601, "after it"));
    pier_db_close(lease);
    assert_int_equal(rows(f), 601);
}

static void test_writer__outlived_by_its_transaction_fails(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_writer *writer = open_writer(f, tx);
    add(writer, 1, 600);
    pier_db_close(tx);
    execute(f->db, insert, PIER_ARGS(7, "after it"));
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, "has ended");
    assert_int_equal(rows(f), 1);
}

static void test_writer__in_a_doomed_transaction_fails(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_true(pier_db_execute(tx, "nonsense", NULL, &f->err) < 0);
    memset(&f->err, 0, sizeof f->err);
    pier_writer *writer = open_writer(f, tx);
    add(writer, 1, 1);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ESQL);
    assert_error(&f->err, PIER_ESQL, "the transaction failed earlier");
    pier_db_close(tx);
    assert_int_equal(rows(f), 0);
}

static void test_writer__in_a_scope_that_was_cancelled_rolls_back(void **state)
{
    struct fixture *f = *state;
    pier_scope *scope = pier_scope_open(f->runner, NULL, &f->err);
    pier_writer *writer = open_writer(f, f->db);
    add(writer, 1, 600);
    pier_scope_cancel(scope);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ECANCELLED);
    pier_scope_close(scope);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(rows(f), 0);
}

static void test_writer__a_block_that_is_cancelled_fails_it(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = pier_db_writer(
        f->db, ENDLESS "insert into t(id) select i from n where i < $1 and i < 0", &f->err);
    assert_int_equal(pier_writer_add(writer, PIER_ARGS(1)), 0);
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &f->err);
    assert_int_equal(pier_writer_flush(writer, &f->err), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(pier_writer_close(writer, &f->err), PIER_ETIMEDOUT);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(rows(f), 0);
}

/* ---- The loop ----------------------------------------------------------------------------- */

/* Each follows the one before without waiting for it. */
static void test_writer__futures_are_done_in_order(void **state)
{
    struct fixture *f = *state;
    pier_writer *writer = open_writer(f, f->db);
    pier_future *flushes[10];
    for (int i = 0; i < 10; i++) {
        add(writer, i * 10 + 1, i * 10 + 10);
        flushes[i] = pier_writer_flush_async(writer);
    }
    add(writer, 101, 105);
    pier_future *closed = pier_writer_close_async(writer);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(pier_writer_flush_finish(flushes[i], &f->err), 0);
    }
    assert_int_equal(pier_writer_close_finish(closed, &f->err), 105);
    assert_ok(&f->err);
    assert_int_equal(rows(f), 105);
}

static int write_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct fixture *f = arg;
    pier_writer *writer = pier_db_writer(f->db, insert, err);
    for (int i = 1; i <= 1300; i++) {
        pier_writer_add(writer, PIER_ARGS(i, "ada"));
    }
    return (int)pier_writer_close(writer, err);
}

static void test_writer__works_in_a_task(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_task_run(f->runner, write_in_task, f, &f->err), 1300);
    assert_ok(&f->err);
    assert_int_equal(rows(f), 1300);
}

/* The blocking call may come to the writer before the futures do. */
static void test_writer__a_close_overtakes_flushes_and_writes_their_rows(void **state)
{
    struct fixture *f = *state;
    for (int round = 0; round < 50; round++) {
        pier_writer *writer = open_writer(f, f->db);
        add(writer, 1, 5);
        pier_future *future = pier_writer_flush_async(writer);
        add(writer, 6, 9);
        pier_future_free(pier_writer_flush_async(writer));
        add(writer, 10, 11);
        assert_int_equal(pier_writer_close(writer, &f->err), 11);
        assert_int_equal(pier_writer_flush_finish(future, &f->err), 0);
        assert_ok(&f->err);
        assert_int_equal(execute(f->db, "delete from t", NULL), 11);
    }
}

/* ---- The end ------------------------------------------------------------------------------ */

static void test_writer__left_open_is_rolled_back_by_its_runner(void **state)
{
    struct fixture *f = *state;
    pier_runner *runner = pier_runner_open(NULL, &f->err);
    pier_db *db = pier_db_open(runner, f->url, NULL, &f->err);
    assert_ok(&f->err);
    add(open_writer(f, db), 1, 600);
    add(open_writer(f, db), 1, 5); /* has not begun */
    pier_runner_close(runner);
    assert_int_equal(rows(f), 0);
}

static void test_writer__null_passes_through(void **state)
{
    struct fixture *f = *state;
    assert_null(pier_db_writer(NULL, insert, &f->err));
    assert_int_not_equal(f->err.status, 0);
    int status = f->err.status;
    assert_int_equal(pier_writer_add(NULL, PIER_ARGS(1)), PIER_EINVAL);
    assert_int_equal(pier_writer_flush(NULL, &f->err), status);
    assert_int_equal(pier_writer_close(NULL, &f->err), status);
}

/* ---- Many rows at hand -------------------------------------------------------------------- */

static void test_many__runs_for_each_row(void **state)
{
    struct fixture *f = *state;
    const pier_args three[] = {*PIER_ARGS(1, "a"), *PIER_ARGS(2, NULL), *PIER_ARGS(3, "c")};
    assert_int_equal(pier_db_execute_many(f->db, insert, three, 3, &f->err), 3);
    assert_int_equal(committed(f), 3);
    assert_int_equal(
        pier_db_execute_many(f->db, "update t set name = $2 where id >= $1", three, 2, &f->err), 5);
    assert_int_equal(pier_db_execute_many(f->db, insert, NULL, 0, &f->err), 0);
    assert_ok(&f->err);
}

static void test_many__is_all_or_nothing(void **state)
{
    struct fixture *f = *state;
    const pier_args three[] = {*PIER_ARGS(1, "a"), *PIER_ARGS(2, "b"), *PIER_ARGS(1, "c")};
    assert_int_equal(pier_db_execute_many(f->db, insert, three, 3, &f->err), PIER_ECONSTRAINT);
    assert_error(&f->err, PIER_ECONSTRAINT, "row 3: UNIQUE constraint failed: t.id");
    assert_int_equal(rows(f), 0);
    const pier_args wrong[] = {*PIER_ARGS(1, "a"), *PIER_ARGS(2)};
    assert_int_equal(pier_db_execute_many(f->db, insert, wrong, 2, &f->err), PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, "row 2: ");
    assert_int_equal(rows(f), 0);
}

static void test_many__dooms_the_transaction_that_it_runs_in(void **state)
{
    struct fixture *f = *state;
    const pier_args two[] = {*PIER_ARGS(1, "a"), *PIER_ARGS(1, "b")};
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(pier_db_execute_many(tx, insert, two, 2, &f->err), PIER_ECONSTRAINT);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(pier_db_commit(tx, &f->err), PIER_ECONSTRAINT);
    memset(&f->err, 0, sizeof f->err);
    pier_db_close(tx);
    assert_int_equal(rows(f), 0);
}

/* What the user has begun there is the user's to end. */
static void test_many__leaves_a_leases_own_transaction_alone(void **state)
{
    struct fixture *f = *state;
    const pier_args two[] = {*PIER_ARGS(1, "a"), *PIER_ARGS(1, "b")};
    pier_db *lease = pier_db_lease(f->db, &f->err);
    execute(lease, "begin", NULL);
    execute(lease, insert, PIER_ARGS(7, "before"));
    assert_int_equal(pier_db_execute_many(lease, insert, two, 2, &f->err), PIER_ECONSTRAINT);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(pier_db_execute_many(lease, insert, two, 1, &f->err), 1);
    execute(lease, "commit", NULL);
    pier_db_close(lease);
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 8);
}

static void test_many__copies_its_rows(void **state)
{
    struct fixture *f = *state;
    char name[] = "ada";
    pier_args two[] = {*PIER_ARGS(1, name), *PIER_ARGS(2, name)};
    pier_future *future = pier_db_execute_many_async(f->db, insert, two, 2);
    memset(name, 'x', sizeof name - 1);
    memset(two, 0, sizeof two);
    assert_int_equal(pier_db_execute_many_finish(future, &f->err), 2);
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select count(*) from t where name = 'ada'"), 2);
}

static void test_many__obeys_its_deadline(void **state)
{
    struct fixture *f = *state;
    static pier_args endless[200000];
    const pier_args *one = PIER_ARGS(1);
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        endless[i] = *one;
    }
    execute(f->db, insert, PIER_ARGS(1, "a"));
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 10), &f->err);
    int64_t changed = pier_db_execute_many(f->db, "update t set name = name || 'x' where id >= $1",
                                           endless, 200000, &f->err);
    pier_scope_close(scope);
    assert_int_equal(changed, PIER_ETIMEDOUT);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(number_of(f->db, "select length(name) from t"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_writer__writes_every_row_once),
        TEST(test_writer__copies_what_it_is_given),
        TEST(test_writer__writes_rows_of_any_width),
        TEST(test_writer__does_nothing_before_its_first_block),
        TEST(test_writer__commits_when_it_is_closed),
        TEST(test_writer__holds_its_connection_and_says_so),
        TEST(test_writer__a_failed_row_takes_all_back_and_is_named),
        TEST(test_writer__rolls_back_as_soon_as_a_row_fails),
        TEST(test_writer__a_row_that_cannot_be_bound_is_named),
        TEST(test_writer__sql_that_is_wrong_is_reported_by_close),
        TEST(test_writer__counts_what_the_rows_changed),
        TEST(test_writer__in_a_transaction_is_rolled_back_with_it),
        TEST(test_writer__failing_in_a_transaction_leaves_the_rest_of_it),
        TEST(test_writer__works_on_a_lease),
        TEST(test_writer__outlived_by_its_transaction_fails),
        TEST(test_writer__in_a_doomed_transaction_fails),
        TEST(test_writer__in_a_scope_that_was_cancelled_rolls_back),
        TEST(test_writer__a_block_that_is_cancelled_fails_it),
        TEST(test_writer__futures_are_done_in_order),
        TEST(test_writer__works_in_a_task),
        TEST(test_writer__a_close_overtakes_flushes_and_writes_their_rows),
        TEST(test_writer__left_open_is_rolled_back_by_its_runner),
        TEST(test_writer__null_passes_through),
        TEST(test_many__runs_for_each_row),
        TEST(test_many__is_all_or_nothing),
        TEST(test_many__dooms_the_transaction_that_it_runs_in),
        TEST(test_many__leaves_a_leases_own_transaction_alone),
        TEST(test_many__copies_its_rows),
        TEST(test_many__obeys_its_deadline),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
