/* Functions on the connection itself, columns and plans. */
#include "tests/integration/sqlite_fixture.h"

struct run {
    struct fixture *f;
    pier_db *db;
    pthread_t thread;
    int calls;
};

static int insert_thousand(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)err;
    struct run *run = arg;
    run->thread = pthread_self();
    run->calls++;
    sqlite3_exec(sqlite, "begin", NULL, NULL, NULL);
    sqlite3_stmt *stmt = NULL;
    if (sqlite3_prepare_v2(sqlite, "insert into t(id) values (?)", -1, &stmt, NULL)) {
        return PIER_ESQL;
    }
    for (int i = 1; i <= 1000; i++) {
        sqlite3_bind_int(stmt, 1, i);
        sqlite3_step(stmt);
        sqlite3_reset(stmt);
    }
    sqlite3_finalize(stmt);
    sqlite3_exec(sqlite, "commit", NULL, NULL, NULL);
    return sqlite3_changes(sqlite);
}

static void test_run__is_one_hop_on_the_calling_thread(void **state)
{
    struct fixture *f = *state;
    struct run run = {.f = f};
    assert_int_equal(pier_sqlite_run(f->db, insert_thousand, &run, &f->err), 1);
    assert_true(pthread_equal(run.thread, pthread_self()));
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1000);
}

static void test_run__asynchronously_runs_on_another_thread(void **state)
{
    struct fixture *f = *state;
    struct run run = {.f = f};
    pier_future *future = pier_sqlite_run_async(f->db, insert_thousand, &run);
    assert_int_equal(pier_sqlite_run_finish(future, &f->err), 1);
    assert_false(pthread_equal(run.thread, pthread_self()));
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1000);
}

static int fail_with_sqlites_words(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    return sqlite3_exec(sqlite, "insert into t(id) values (1), (1)", NULL, NULL, NULL)
               ? PIER_ECONSTRAINT
               : 0;
}

static int fail_with_own_words(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)sqlite, (void)arg;
    return pier_error_set(err, PIER_EUSER, "no thanks");
}

static int fail_without_words(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    sqlite3_exec(sqlite, "select 1", NULL, NULL, NULL);
    return PIER_EUSER;
}

static void test_run__reports_what_failed(void **state)
{
    struct fixture *f = *state;
    assert_true(pier_sqlite_run(f->db, fail_with_sqlites_words, NULL, &f->err) < 0);
    assert_int_equal(f->err.native, SQLITE_CONSTRAINT_PRIMARYKEY);
    assert_error(&f->err, PIER_ECONSTRAINT, "UNIQUE constraint failed: t.id");
    assert_true(pier_sqlite_run(f->db, fail_with_own_words, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EUSER, "no thanks");
    assert_true(pier_sqlite_run(f->db, fail_without_words, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EUSER, "no message");
    assert_true(pier_sqlite_run(f->db, NULL, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "fn is NULL");
}

static int leave_transaction(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)err;
    sqlite3_exec(sqlite, "begin; insert into t(id) values (5)", NULL, NULL, NULL);
    return arg ? PIER_EUSER : 0;
}

static void test_run__that_leaves_a_transaction_is_rolled_back(void **state)
{
    struct fixture *f = *state;
    assert_true(pier_sqlite_run(f->db, leave_transaction, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "left a transaction open");
    pier_db *lease = pier_db_lease(f->db, &f->err);
    assert_true(pier_sqlite_run(lease, leave_transaction, f, &f->err) < 0);
    assert_error(&f->err, PIER_EUSER, "left a transaction open");
    assert_int_equal(number_of(lease, "select count(*) from t"), 0);
    pier_db_close(lease);
    execute(f->db, "insert into t(id) values (5)", NULL);
}

static int leave_statements(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    sqlite3_stmt *stmt;
    sqlite3_prepare_v2(sqlite, "select 1", -1, &stmt, NULL);
    sqlite3_prepare_v2(sqlite, "select 2 from t", -1, &stmt, NULL);
    sqlite3_step(stmt);
    return 0;
}

static void test_run__that_leaves_statements_has_them_finalized(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t(name) values ('a'), ('b')", NULL);
    pier_cursor *cursor = pier_db_cursor(f->db, "select name from t", NULL, &f->err);
    assert_string_equal(pier_row_text(pier_cursor_next(cursor), 0), "a");
    assert_true(pier_sqlite_run(f->db, leave_statements, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "left 2 statements open");
    assert_string_equal(pier_row_text(pier_cursor_next(cursor), 0), "b");
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    execute(f->db, "drop table t", NULL);
}

static int commit_it(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    sqlite3_exec(sqlite, "commit", NULL, NULL, NULL);
    return 0;
}

static void test_run__that_ends_the_transaction_dooms_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_true(pier_sqlite_run(tx, commit_it, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "ended the transaction");
    assert_true(pier_db_execute(tx, "insert into t(id) values (1)", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "failed earlier");
    pier_db_close(tx);
}

static int count_in_tx(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    sqlite3_exec(sqlite, "insert into t(id) values (1)", NULL, NULL, NULL);
    return sqlite3_get_autocommit(sqlite);
}

static void test_run__in_a_transaction_is_part_of_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(pier_sqlite_run(tx, count_in_tx, NULL, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static int call_back(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)sqlite;
    struct run *run = arg;
    run->calls++;
    return (int)pier_db_execute(run->db, "select 1", NULL, err);
}

static void test_run__that_calls_back_into_its_connection_is_refused(void **state)
{
    struct fixture *f = *state;
    struct run run = {.f = f, .db = f->db};
    assert_true(pier_sqlite_run(f->db, call_back, &run, &f->err) < 0);
    assert_error(&f->err, PIER_EDEADLOCK, NULL);
    pier_future *future = pier_sqlite_run_async(f->db, call_back, &run);
    assert_true(pier_sqlite_run_finish(future, &f->err) < 0);
    assert_error(&f->err, PIER_EDEADLOCK, NULL);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    run.db = tx;
    assert_true(pier_sqlite_run(tx, call_back, &run, &f->err) < 0);
    assert_error(&f->err, PIER_EDEADLOCK, NULL);
    pier_db_close(tx);
    assert_int_equal(run.calls, 3);
}

static int set_handlers(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    sqlite3_progress_handler(sqlite, 0, NULL, NULL);
    sqlite3_busy_timeout(sqlite, 0);
    return 0;
}

static int run_for_ever(struct sqlite3 *sqlite, void *arg, pier_error *err)
{
    (void)arg, (void)err;
    return sqlite3_exec(sqlite, ENDLESS "select count(*) from n", NULL, NULL, NULL) ? PIER_ESQL : 0;
}

static void test_run__obeys_the_deadline_whatever_a_function_has_done(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_sqlite_run(f->db, set_handlers, NULL, &f->err), 0);
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &f->err);
    assert_true(pier_sqlite_run(f->db, run_for_ever, NULL, &f->err) < 0);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
    assert_int_equal(number_of(f->db, "select 7"), 7);
}

static void test_run__is_cancelled_by_closing_the_runner(void **state)
{
    struct fixture *f = *state;
    pier_future *future = pier_sqlite_run_async(f->db, run_for_ever, NULL);
    pier_runner_close(f->runner);
    assert_true(pier_sqlite_run_finish(future, &f->err) < 0);
    assert_error(&f->err, PIER_ECLOSED, NULL);
    f->db = NULL;
    f->runner = NULL;
}

static void test_column__says_what_is_known_of_it(void **state)
{
    struct fixture *f = *state;
    execute(f->db,
            "create table \"odd 'name\"(id integer primary key autoincrement, "
            "name varchar(20) not null collate nocase, plain)",
            NULL);
    pier_sqlite_column_info *id = pier_sqlite_column(f->db, "odd 'name", "id", &f->err);
    assert_ok(&f->err);
    assert_string_equal(id->type, "INTEGER");
    assert_true(id->primary_key && id->autoincrement && !id->not_null);
    pier_sqlite_column_info *name = pier_sqlite_column(f->db, "odd 'name", "name", &f->err);
    assert_string_equal(name->type, "varchar(20)");
    assert_string_equal(name->collation, "nocase");
    assert_true(name->not_null && !name->primary_key);
    pier_sqlite_column_info *plain = pier_sqlite_column(f->db, "odd 'name", "plain", &f->err);
    assert_string_equal(plain->type, "");
    assert_string_equal(plain->collation, "BINARY");
    pier_sqlite_column_info_free(id);
    pier_sqlite_column_info_free(name);
    pier_sqlite_column_info_free(plain);
    assert_null(pier_sqlite_column(f->db, "t", "nothing", &f->err));
    assert_error(&f->err, PIER_ESQL, "no such table column: t.nothing");
    assert_null(pier_sqlite_column(f->db, NULL, "nothing", &f->err));
    assert_error(&f->err, PIER_EINVAL, "table is NULL");
}

static void test_explain__draws_a_tree(void **state)
{
    struct fixture *f = *state;
    pier_buffer *plan = pier_sqlite_explain(
        f->db, "select * from t where id = $1 union select * from t where name = $2", &f->err);
    assert_ok(&f->err);
    assert_string_equal(plan->data, "QUERY PLAN\n"
                                    "`--COMPOUND QUERY\n"
                                    "   |--LEFT-MOST SUBQUERY\n"
                                    "   |  `--SEARCH t USING INTEGER PRIMARY KEY (rowid=?)\n"
                                    "   `--UNION USING TEMP B-TREE\n"
                                    "      `--SCAN t\n");
    assert_int_equal(plan->size, strlen(plan->data));
    pier_buffer_free(plan);
}

static void test_explain__runs_nothing_and_takes_one_statement(void **state)
{
    struct fixture *f = *state;
    pier_buffer *plan = pier_sqlite_explain(f->db, "insert into t(id) values (1)", &f->err);
    assert_ok(&f->err);
    pier_buffer_free(plan);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    assert_null(pier_sqlite_explain(f->db, "select 1; drop table t", &f->err));
    assert_error(&f->err, PIER_EINVAL, "not one statement");
    assert_null(pier_sqlite_explain(f->db, " -- nothing", &f->err));
    assert_true(f->err.status < 0);
    memset(&f->err, 0, sizeof f->err);
    assert_null(pier_sqlite_explain(f->db, "select nowhere from t", &f->err));
    assert_error(&f->err, PIER_ESQL, "no such column: nowhere");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_run__is_one_hop_on_the_calling_thread),
        TEST(test_run__asynchronously_runs_on_another_thread),
        TEST(test_run__reports_what_failed),
        TEST(test_run__that_leaves_a_transaction_is_rolled_back),
        TEST(test_run__that_leaves_statements_has_them_finalized),
        TEST(test_run__that_ends_the_transaction_dooms_it),
        TEST(test_run__in_a_transaction_is_part_of_it),
        TEST(test_run__that_calls_back_into_its_connection_is_refused),
        TEST(test_run__obeys_the_deadline_whatever_a_function_has_done),
        TEST(test_run__is_cancelled_by_closing_the_runner),
        TEST(test_column__says_what_is_known_of_it),
        TEST(test_explain__draws_a_tree),
        TEST(test_explain__runs_nothing_and_takes_one_statement),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
