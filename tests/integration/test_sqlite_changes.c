/* Notifications of committed changes: what is in a batch, and how batches are read. */
#include "tests/integration/sqlite_fixture.h"

#include "tests/support/valgrind.h"
#include <pier/sqlite_changes.h>
#include <pier/sqlite_hook.h>
#include <sys/wait.h>
#include <unistd.h>

/* What a test reads is written down as "+7 ~7 -7 ", with the table where it is not t. */
static void describe(const pier_sqlite_batch *batch, char *text, size_t size)
{
    size_t at = 0;
    text[0] = 0;
    for (size_t i = 0; i < pier_sqlite_batch_count(batch) && at < size; i++) {
        const pier_sqlite_change *change = pier_sqlite_batch_change(batch, i);
        bool is_t = !strcmp(change->table, "t") && !strcmp(change->database, "main");
        at += (size_t)snprintf(text + at, size - at, "%c%s%" PRId64 " ", " +~-"[change->kind],
                               is_t ? "" : change->table, change->rowid);
    }
}

static void next_is_at(pier_sqlite_changes *changes, const char *expected, int64_t lost,
                       const char *file, int line)
{
    char text[400];
    pier_error err = {0};
    pier_sqlite_batch *batch = pier_sqlite_changes_next(changes, &err);
    assert_ok_at(&err, file, line);
    describe(batch, text, sizeof text);
    _assert_string_equal(text, expected, file, line);
    _assert_int_equal((uintmax_t)pier_sqlite_batch_lost(batch), (uintmax_t)lost, file, line);
    pier_sqlite_batch_free(batch);
}
/* The next batch, which must be there. */
#define next_is(changes, expected) next_is_at(changes, expected, 0, __FILE__, __LINE__)
#define next_has_lost(changes, lost, expected)                                                     \
    next_is_at(changes, expected, lost, __FILE__, __LINE__)

static pier_sqlite_changes *subscribe(struct fixture *f)
{
    pier_sqlite_changes *changes = pier_sqlite_changes_open(f->db, NULL, &f->err);
    assert_ok(&f->err);
    return changes;
}

static void run_script(struct fixture *f, const char *sql)
{
    assert_int_equal(pier_db_execute_script(f->db, sql, &f->err), 0);
    assert_ok(&f->err);
}

/* ---- What is in a batch ------------------------------------------------------------------- */

static void test_changes__come_as_one_batch_for_each_transaction(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    execute(f->db, "insert into t(id) values (1)", NULL);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t(id) values (2)", NULL);
    execute(tx, "update t set name = 'x' where id = 1", NULL);
    execute(tx, "delete from t where id = 2", NULL);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    next_is(changes, "+1 ");
    next_is(changes, "+2 ~1 -2 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__come_for_each_way_to_run_a_statement(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_result_free(
        pier_db_fetch(f->db, "insert into t(id) values (1) returning id", NULL, &f->err));
    next_is(changes, "+1 ");
    pier_cursor *cursor =
        pier_db_cursor(f->db, "insert into t(id) values (2) returning id", NULL, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    next_is(changes, "+2 ");
    run_script(f, "insert into t(id) values (3); insert into t(id) values (4)");
    next_is(changes, "+3 ");
    next_is(changes, "+4 ");
    pier_future *future = pier_db_execute_async(f->db, "delete from t where id = 4", NULL);
    assert_int_equal(pier_db_execute_finish(future, &f->err), 1);
    next_is(changes, "-4 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__name_each_table(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    execute(f->db, "create table u(x)", NULL);
    run_script(f, "begin; insert into u values (1); insert into t(id) values (9);"
                  "insert into u values (1); commit");
    next_is(changes, "+u1 +9 +u2 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__that_are_rolled_back_are_not_told(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t(id) values (1)", NULL);
    pier_db_close(tx);
    run_script(f, "begin; insert into t(id) values (2); rollback");
    execute(f->db, "insert into t(id) values (3)", NULL);
    next_is(changes, "+3 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__respect_savepoints_of_pier(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t(id) values (1)", NULL);
    pier_db *dropped = pier_db_begin(tx, NULL, &f->err);
    execute(dropped, "insert into t(id) values (2)", NULL);
    pier_db *inner = pier_db_begin(dropped, NULL, &f->err);
    execute(inner, "insert into t(id) values (3)", NULL);
    assert_int_equal(pier_db_commit(inner, &f->err), 0);
    pier_db_close(inner);
    pier_db_close(dropped);
    pier_db *kept = pier_db_begin(tx, NULL, &f->err);
    execute(kept, "insert into t(id) values (4)", NULL);
    assert_int_equal(pier_db_commit(kept, &f->err), 0);
    pier_db_close(kept);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    next_is(changes, "+1 +4 ");
    assert_int_equal(number_of(f->db, "select sum(id * id) from t"), 17);
    pier_sqlite_changes_close(changes);
}

static void test_changes__respect_savepoints_written_in_sql(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    run_script(f, "begin;"
                  "insert into t(id) values (1);"
                  "/* c */ savepoint \"A \"\"b\";"
                  "insert into t(id) values (2);"
                  "savepoint other;"
                  "insert into t(id) values (3);"
                  "release savepoint Other;"
                  "Rollback -- c\n transaction to savepoint [a \"B];"
                  "insert into t(id) values (4);"
                  "rollback to 'a \"b';"
                  "insert into t(id) values (5);"
                  "commit");
    next_is(changes, "+1 +5 ");
    run_script(f, "savepoint s; insert into t(id) values (6); savepoint s;"
                  "insert into t(id) values (7); rollback to s; release s; release s");
    next_is(changes, "+6 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__that_began_within_a_savepoint_are_dropped_with_it(void **state)
{
    struct fixture *f = *state;
    pier_db *lease = pier_db_lease(f->db, &f->err);
    execute(lease, "begin", NULL);
    execute(lease, "savepoint before", NULL);
    pier_sqlite_changes *changes = subscribe(f);
    execute(lease, "insert into t(id) values (1)", NULL);
    execute(lease, "rollback to before", NULL);
    execute(lease, "insert into t(id) values (2)", NULL);
    execute(lease, "commit", NULL);
    pier_db_close(lease);
    next_is(changes, "+2 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__of_a_statement_that_failed_are_not_told(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_db *lease = pier_db_lease(f->db, &f->err);
    execute(lease, "begin", NULL);
    execute(lease, "insert into t(id) values (1)", NULL);
    pier_db_execute(lease, "insert into t(id) values (2), (1)", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, NULL);
    pier_db_execute(lease, "insert or fail into t(id) values (3), (1)", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, NULL);
    execute(lease, "commit", NULL);
    pier_db_close(lease);
    next_is(changes, "+1 +3 ");
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 4);
    pier_sqlite_changes_close(changes);
}

static void test_changes__tell_of_each_row_when_a_table_is_emptied(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t(id) values (1), (2)", NULL);
    pier_sqlite_changes *changes = subscribe(f);
    execute(f->db, "delete from t", NULL);
    next_is(changes, "-1 -2 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__do_not_hinder_drop_table(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    run_script(f, "insert into t(id) values (1); create view v as select * from t; drop view v;"
                  "drop table t; create table t(id integer primary key);"
                  "insert into t(id) values (8); delete from t");
    next_is(changes, "+1 ");
    next_is(changes, "+8 ");
    next_is(changes, "-8 ");
    pier_sqlite_changes_close(changes);
}

static int refuse(void *user_data)
{
    return (*(int *)user_data)++ == 0;
}

static void test_changes__are_not_told_when_the_commit_hook_refuses(void **state)
{
    struct fixture *f = *state;
    int calls = 0;
    pier_sqlite_changes *changes = subscribe(f);
    pier_sqlite_set_commit(f->db, refuse, &calls, NULL, &f->err);
    pier_db_execute(f->db, "insert into t(id) values (1)", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, "commit hook");
    execute(f->db, "insert into t(id) values (2)", NULL);
    next_is(changes, "+2 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__are_told_once_when_a_commit_is_tried_again(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "%s?busy_timeout_ms=0", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    pier_sqlite_changes *changes = pier_sqlite_changes_open(db, NULL, &f->err);
    sqlite3 *other = NULL;
    sqlite3_open(f->path, &other);
    sqlite3_exec(other, "begin; select * from t", NULL, NULL, NULL);
    pier_db *lease = pier_db_lease(db, &f->err);
    execute(lease, "begin", NULL);
    execute(lease, "insert into t(id) values (1)", NULL);
    pier_db_execute(lease, "commit", NULL, &f->err);
    assert_error(&f->err, PIER_EBUSY, NULL);
    sqlite3_exec(other, "rollback", NULL, NULL, NULL);
    execute(lease, "commit", NULL);
    execute(lease, "insert into t(id) values (2)", NULL);
    next_is(changes, "+1 ");
    next_is(changes, "+2 ");
    sqlite3_close(other);
    pier_db_close(lease);
    pier_sqlite_changes_close(changes);
    pier_db_close(db);
}

/* ---- Reading ------------------------------------------------------------------------------ */

static void insert_range(struct fixture *f, int count)
{
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) "
            "insert into t(name) select 'x' from n",
            PIER_ARGS(count));
}

static void test_changes__that_do_not_fit_are_counted_as_lost(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes =
        pier_sqlite_changes_open(f->db, PIER_SQLITE_CHANGES_OPTIONS(.changes_max = 3), &f->err);
    insert_range(f, 2);
    insert_range(f, 2); /* the queue is full */
    insert_range(f, 1);
    next_is(changes, "+1 +2 ");
    next_has_lost(changes, 1, "+5 ");
    insert_range(f, 4); /* would never fit */
    next_has_lost(changes, 1, "");
    insert_range(f, 1);
    next_is(changes, "+10 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__that_overflowed_and_were_rolled_back_are_not_lost(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes =
        pier_sqlite_changes_open(f->db, PIER_SQLITE_CHANGES_OPTIONS(.changes_max = 3), &f->err);
    run_script(f, "begin; insert into t(id) values (1); savepoint s;"
                  "insert into t(id) values (2), (3), (4); rollback to s;"
                  "insert into t(id) values (5); commit");
    next_is(changes, "+1 +5 ");
    pier_sqlite_changes_close(changes);
}

static void test_next__waits_for_a_commit(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_future *first = pier_sqlite_changes_next_async(changes);
    pier_future *second = pier_sqlite_changes_next_async(changes);
    assert_int_equal(pier_future_wait(first, 20, &f->err), 0);
    execute(f->db, "insert into t(id) values (1)", NULL);
    execute(f->db, "insert into t(id) values (2)", NULL);
    pier_sqlite_batch *one = pier_sqlite_changes_next_finish(first, &f->err);
    pier_sqlite_batch *two = pier_sqlite_changes_next_finish(second, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_sqlite_batch_change(one, 0)->rowid, 1);
    assert_int_equal(pier_sqlite_batch_change(two, 0)->rowid, 2);
    assert_null(pier_sqlite_batch_change(two, 1));
    pier_sqlite_batch_free(one);
    pier_sqlite_batch_free(two);
    pier_sqlite_changes_close(changes);
}

static void test_next__that_is_cancelled_loses_no_batch(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), &f->err);
    assert_null(pier_sqlite_changes_next(changes, &f->err));
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, "waiting for changes");
    pier_future *unread = pier_sqlite_changes_next_async(changes);
    pier_future_cancel(unread);
    pier_sqlite_batch_free(pier_sqlite_changes_next_finish(unread, &f->err));
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    execute(f->db, "insert into t(id) values (1)", NULL);
    next_is(changes, "+1 ");
    pier_sqlite_changes_close(changes);
}

static int read_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct fixture *f = arg;
    (void)self;
    pier_sqlite_changes *changes = pier_sqlite_changes_open(f->db, NULL, err);
    pier_future *insert = pier_db_execute_async(f->db, "insert into t(id) values (6)", NULL);
    pier_sqlite_batch *batch = pier_sqlite_changes_next(changes, err);
    int64_t rowid = batch ? pier_sqlite_batch_change(batch, 0)->rowid : 0;
    pier_db_execute_finish(insert, err);
    pier_sqlite_batch_free(batch);
    pier_sqlite_changes_close(changes);
    return err->status < 0 ? err->status : (int)rowid;
}

static void test_next__suspends_a_task(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_task_run(f->runner, read_in_task, f, &f->err), 6);
}

static void test_next__ends_when_the_pool_is_closed(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    execute(f->db, "insert into t(id) values (1)", NULL);
    next_is(changes, "+1 ");
    pier_future *future = pier_sqlite_changes_next_async(changes);
    pier_db_close(f->db);
    f->db = NULL;
    assert_null(pier_sqlite_changes_next_finish(future, &f->err));
    assert_error(&f->err, PIER_ECLOSED, "closed");
    assert_null(pier_sqlite_changes_next(changes, &f->err));
    assert_error(&f->err, PIER_ECLOSED, "closed");
    pier_sqlite_changes_close(changes);
}

static void test_next__ends_when_the_subscription_is_closed(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    pier_future *future = pier_sqlite_changes_next_async(changes);
    pier_sqlite_changes_close(changes);
    assert_null(pier_sqlite_changes_next_finish(future, &f->err));
    assert_error(&f->err, PIER_ECLOSED, NULL);
    pier_sqlite_changes_close(NULL);
    execute(f->db, "delete from t", NULL);
}

/* 0, or which of them it was that was not refused. */
static int read_in_child(struct fixture *f, pier_sqlite_changes *changes, pier_future *waiting)
{
    pier_error err = {0};
    if (pier_sqlite_changes_next(changes, &err) || err.status != PIER_EFORKED) {
        return 1;
    }
    memset(&err, 0, sizeof err);
    if (pier_sqlite_changes_next_finish(waiting, &err) || err.status != PIER_EFORKED) {
        return 2;
    }
    memset(&err, 0, sizeof err);
    if (pier_sqlite_changes_open(f->db, NULL, &err) || err.status != PIER_EFORKED) {
        return 3;
    }
    pier_sqlite_changes_close(changes);
    pier_db_close(f->db);
    pier_runner_close(f->runner);
    return 0;
}

static void test_changes__in_a_child_are_refused_and_the_parent_gets_them(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_changes *changes = subscribe(f);
    execute(f->db, "insert into t(id) values (1)", NULL);
    next_is(changes, "+1 ");
    pier_future *waiting = pier_sqlite_changes_next_async(changes);
    assert_int_equal(pier_future_wait(waiting, 20, &f->err), 0);
    pid_t child = fork();
    if (child == 0) {
        int code = read_in_child(f, changes, waiting);
        support_leave_valgrind(code);
        _exit(code);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    execute(f->db, "insert into t(id) values (2)", NULL);
    pier_sqlite_batch *batch = pier_sqlite_changes_next_finish(waiting, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_sqlite_batch_change(batch, 0)->rowid, 2);
    pier_sqlite_batch_free(batch);
    execute(f->db, "insert into t(id) values (3)", NULL);
    next_is(changes, "+3 ");
    pier_sqlite_changes_close(changes);
}

static void test_changes__that_nobody_closes_end_with_the_runner(void **state)
{
    struct fixture *f = *state;
    subscribe(f);
    execute(f->db, "insert into t(id) values (1)", NULL); /* nobody reads it */
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

struct listener {
    pier_db *db;
    char text[100];
    int batches, ended, status;
};

static void on_batch(void *user_data, const pier_sqlite_batch *batch)
{
    struct listener *listener = user_data;
    pier_error err = {0};
    listener->batches++;
    describe(batch, listener->text, sizeof listener->text);
    pier_db_execute(listener->db, "select 1", NULL, &err);
    listener->status = err.status;
}

static void on_end(void *user_data)
{
    ((struct listener *)user_data)->ended++;
}

static void test_callback__gets_each_batch_before_the_commit_returns(void **state)
{
    struct fixture *f = *state;
    struct listener listener = {.db = f->db};
    pier_sqlite_changes *changes = pier_sqlite_changes_open(
        f->db,
        PIER_SQLITE_CHANGES_OPTIONS(.callback = on_batch, .user_data = &listener,
                                    .destroy = on_end),
        &f->err);
    pier_sqlite_changes *queue = subscribe(f);
    execute(f->db, "insert into t(id) values (1), (2)", NULL);
    assert_string_equal(listener.text, "+1 +2 ");
    assert_int_equal(listener.status, PIER_EDEADLOCK);
    next_is(queue, "+1 +2 "); /* each subscriber has its own */
    assert_null(pier_sqlite_changes_next(changes, &f->err));
    assert_error(&f->err, PIER_EINVAL, "callback");
    pier_sqlite_changes_close(changes);
    assert_int_equal(listener.ended, 1);
    execute(f->db, "insert into t(id) values (3)", NULL);
    assert_int_equal(listener.batches, 1);
    pier_sqlite_changes_close(queue);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_changes__come_as_one_batch_for_each_transaction),
        TEST(test_changes__come_for_each_way_to_run_a_statement),
        TEST(test_changes__name_each_table),
        TEST(test_changes__that_are_rolled_back_are_not_told),
        TEST(test_changes__respect_savepoints_of_pier),
        TEST(test_changes__respect_savepoints_written_in_sql),
        TEST(test_changes__that_began_within_a_savepoint_are_dropped_with_it),
        TEST(test_changes__of_a_statement_that_failed_are_not_told),
        TEST(test_changes__tell_of_each_row_when_a_table_is_emptied),
        TEST(test_changes__do_not_hinder_drop_table),
        TEST(test_changes__are_not_told_when_the_commit_hook_refuses),
        TEST(test_changes__are_told_once_when_a_commit_is_tried_again),
        TEST(test_changes__that_do_not_fit_are_counted_as_lost),
        TEST(test_changes__that_overflowed_and_were_rolled_back_are_not_lost),
        TEST(test_next__waits_for_a_commit),
        TEST(test_next__that_is_cancelled_loses_no_batch),
        TEST(test_next__suspends_a_task),
        TEST(test_next__ends_when_the_pool_is_closed),
        TEST(test_next__ends_when_the_subscription_is_closed),
        TEST(test_changes__in_a_child_are_refused_and_the_parent_gets_them),
        TEST(test_changes__that_nobody_closes_end_with_the_runner),
        TEST(test_callback__gets_each_batch_before_the_commit_returns),
    };
    return cmocka_run_group_tests_name("sqlite_changes", tests, group_set_up, NULL);
}
