/* The SQLite driver through the blocking face: opening, statements, types, transactions. */
#include "tests/integration/sqlite_fixture.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- Opening ------------------------------------------------------------------------------ */

static void assert_open_fails(struct fixture *f, const char *url, int status, const char *says)
{
    pier_error err = {0};
    assert_null(pier_db_open(f->runner, url, NULL, &err));
    assert_error(&err, status, says);
}

static void test_open__names_the_directory_that_is_missing(void **state)
{
    struct fixture *f = *state;
    char url[700], says[700];
    snprintf(url, sizeof url, "sqlite:%s/nowhere/x.db", f->directory);
    snprintf(says, sizeof says, "the directory %s/nowhere does not exist", f->directory);
    assert_open_fails(f, url, PIER_EIO, says);
}

static void test_open__says_why_a_file_cannot_be_opened(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s", f->directory);
    assert_open_fails(f, url, PIER_EIO, "it is a directory");
    snprintf(url, sizeof url, "sqlite:%s/none.db?mode=rw", f->directory);
    assert_open_fails(f, url, PIER_EIO, "only mode=rwc creates it");
    snprintf(url, sizeof url, "sqlite:%s/none.db?mode=ro", f->directory);
    assert_open_fails(f, url, PIER_EIO, "does not exist");
}

static void test_open__finds_out_what_is_not_a_database(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "This is a text of more than a hundred bytes, which no database "
                               "would begin with, whatever else may be in it.";
    assert_int_equal(support_file_write(f->directory, "text.db", text, sizeof text), 0);
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s/text.db", f->directory);
    assert_open_fails(f, url, PIER_EIO, "not a database");
}

static void test_open__refuses_unknown_keys_of_the_url(void **state)
{
    struct fixture *f = *state;
    assert_open_fails(f, "sqlite:x.db?journal=wal", PIER_EINVAL, "known are mode");
    assert_open_fails(f, "sqlite:", PIER_EINVAL, "no path");
}

static void test_open__writes_nothing_into_a_new_file(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s/new.db", f->directory);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    struct stat info;
    assert_int_equal(stat(url + strlen("sqlite:"), &info), 0);
    assert_int_equal(info.st_size, 0);
    pier_db_close(db);
}

static void test_open__read_only_reads_and_does_not_write(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (1, 'a')", NULL);
    char url[700];
    snprintf(url, sizeof url, "%s?mode=ro", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_int_equal(number_of(db, "select count(*) from t"), 1);
    pier_db_execute(db, "insert into t values (2, 'b')", NULL, &f->err);
    assert_error(&f->err, PIER_EIO, "readonly");
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    assert_int_equal(number_of(tx, "select count(*) from t"), 1);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    pier_db_close(db);
    assert_ok(&f->err);
}

static void test_open__a_relative_path_is_found_from_elsewhere_too(void **state)
{
    struct fixture *f = *state;
    char before[1024];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(f->directory), 0);
    pier_db *db = pier_db_open(f->runner, "sqlite:test.db", NULL, &f->err);
    assert_int_equal(chdir(before), 0);
    assert_ok(&f->err);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    pier_db_close(db);
}

static void test_memory__lives_as_long_as_it_is_open(void **state)
{
    struct fixture *f = *state;
    pier_db *db = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    pier_db_execute(db, "create table m(x)", NULL, &f->err);
    pier_db_execute(db, "insert into m values (1)", NULL, &f->err);
    assert_ok(&f->err);
    pier_db_execute(db, "begin", NULL, &f->err);
    assert_error(&f->err, PIER_EINVAL, "pier_db_begin");
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    pier_db_close(tx);
    assert_int_equal(number_of(db, "select count(*) from m"), 1);
    pier_db_close(db);
}

/* ---- Statements --------------------------------------------------------------------------- */

static void test_execute__counts_the_rows_it_changed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(execute(f->db, "insert into t values (1, 'a'), (2, 'b'), (3, 'c')", NULL), 3);
    assert_int_equal(execute(f->db, "create table u(x)", NULL), 0);
    assert_int_equal(execute(f->db, "select * from t", NULL), 0);
    assert_int_equal(execute(f->db, "update t set name = 'z' where id > $1", PIER_ARGS(1)), 2);
    assert_int_equal(execute(f->db, "alter table u add column y", NULL), 0);
    assert_int_equal(execute(f->db, "update t set name = 'z' where id > $1", PIER_ARGS(9)), 0);
    assert_int_equal(execute(f->db, "insert into t values (1, 'x') on conflict do nothing", NULL),
                     0);
    assert_int_equal(execute(f->db, "insert into u(x) select id from t returning x", NULL), 3);
    assert_int_equal(execute(f->db, "create table v as select * from t", NULL), 0);
    assert_int_equal(execute(f->db, "drop table u", NULL), 0);
    assert_int_equal(execute(f->db, "delete from t", NULL), 3);
}

static void test_fetch__gives_all_rows_with_their_columns(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (1, 'a'), (2, null), (3, 'c')", NULL);
    pier_result *rows = pier_db_fetch(f->db, "select name, id from t order by id", NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_result_count(rows), 3);
    assert_int_equal(pier_result_columns(rows), 2);
    assert_int_equal(pier_result_column(rows, "id"), 1);
    assert_string_equal(pier_result_column_name(rows, 0), "name");
    assert_string_equal(pier_row_text(pier_result_row(rows, 0), 0), "a");
    assert_true(pier_row_is_null(pier_result_row(rows, 1), 0));
    assert_int_equal(pier_row_int64(pier_result_row(rows, 2), 1), 3);
    assert_int_equal(pier_result_check(rows, &f->err), 0);
    pier_result_free(rows);
}

static void test_fetch__of_no_rows_has_columns(void **state)
{
    struct fixture *f = *state;
    pier_result *rows = pier_db_fetch(f->db, "select id, name from t", NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_result_count(rows), 0);
    assert_int_equal(pier_result_column(rows, "name"), 1);
    pier_result_free(rows);
}

static void test_fetch__a_result_outlives_its_database(void **state)
{
    struct fixture *f = *state;
    pier_db *db = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    pier_result *rows = pier_db_fetch(db, "select 'text' as a", NULL, &f->err);
    pier_db_close(db);
    assert_ok(&f->err);
    assert_string_equal(pier_row_text(pier_result_row(rows, 0), 0), "text");
    assert_string_equal(pier_result_column_name(rows, 0), "a");
    pier_result_free(rows);
}

static void test_fetch__sees_a_changed_schema(void **state)
{
    struct fixture *f = *state;
    static const char sql[] = "select * from t";
    pier_result_free(pier_db_fetch(f->db, sql, NULL, &f->err));
    execute(f->db, "alter table t add column more default 7", NULL);
    execute(f->db, "insert into t(id) values (1)", NULL);
    pier_result *rows = pier_db_fetch(f->db, sql, NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_result_columns(rows), 3);
    assert_int_equal(pier_row_int64(pier_result_row(rows, 0), pier_result_column(rows, "more")), 7);
    pier_result_free(rows);
}

static void test_fetch_into__reads_the_first_row(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (7, 'seven')", NULL);
    int64_t id = 0;
    char *name = NULL;
    assert_int_equal(pier_db_fetch_into(f->db, "select id, name from t where id = $1", PIER_ARGS(7),
                                        PIER_INTO(&id, &name), &f->err),
                     1);
    assert_int_equal(id, 7);
    assert_string_equal(name, "seven");
    free(name);
    assert_int_equal(pier_db_fetch_into(f->db, "select id from t where id = $1", PIER_ARGS(8),
                                        PIER_INTO(&id), &f->err),
                     0);
    assert_int_equal(id, 7);
    assert_ok(&f->err);
}

static void test_types__come_back_as_they_went_in(void **state)
{
    struct fixture *f = *state;
    const char bytes[] = {0, 1, (char)0xff};
    execute(f->db, "create table v(a, b, c, d, e, g, h, i, j)", NULL);
    execute(f->db, "insert into v values ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            PIER_ARGS(INT64_MIN, INT64_MAX, 0.1, pier_text_sized("a\0b", 3), "gr\xc3\xbc\xc3\x9f",
                      pier_bytes(bytes, sizeof bytes), NULL, true, pier_bytes(NULL, 0)));
    pier_result *rows = pier_db_fetch(f->db, "select * from v", NULL, &f->err);
    const pier_row *row = pier_result_row(rows, 0);
    size_t size = 0;
    assert_true(pier_row_int64(row, 0) == INT64_MIN);
    assert_true(pier_row_int64(row, 1) == INT64_MAX);
    assert_true(pier_row_double(row, 2) == 0.1);
    assert_memory_equal(pier_row_bytes(row, 3, &size), "a\0b", 4);
    assert_int_equal(size, 3);
    assert_string_equal(pier_row_text(row, 4), "gr\xc3\xbc\xc3\x9f");
    assert_memory_equal(pier_row_bytes(row, 5, &size), bytes, sizeof bytes);
    assert_int_equal(size, sizeof bytes);
    assert_true(pier_row_is_null(row, 6));
    assert_true(pier_row_bool(row, 7));
    assert_non_null(pier_row_bytes(row, 8, &size));
    assert_int_equal(size, 0);
    assert_int_equal(pier_row_value(row, 8).type, PIER_BYTES);
    assert_int_equal(pier_result_check(rows, &f->err), 0);
    pier_result_free(rows);
}

static void test_args__are_mapped_by_number(void **state)
{
    struct fixture *f = *state;
    int64_t b = 0, a = 0, again = 0;
    assert_int_equal(pier_db_fetch_into(f->db, "select $2, $1, $2", PIER_ARGS(1, 2),
                                        PIER_INTO(&b, &a, &again), &f->err),
                     1);
    assert_int_equal(a, 1);
    assert_int_equal(b, 2);
    assert_int_equal(again, 2);
}

static void assert_refused(struct fixture *f, const char *sql, const pier_args *args, int status,
                           const char *says)
{
    assert_null(pier_db_fetch(f->db, sql, args, &f->err));
    assert_error(&f->err, status, says);
    assert_true(pier_db_execute(f->db, sql, args, &f->err) < 0);
    assert_error(&f->err, status, says);
}

static void test_statement__is_refused_with_the_remedy(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "select $1", NULL, PIER_EINVAL, "needs 1 argument and was given 0");
    assert_refused(f, "select $1", PIER_ARGS(1, 2), PIER_EINVAL, "was given 2");
    assert_refused(f, "select $1, ?", PIER_ARGS(1, 2), PIER_EINVAL, "mixed");
    assert_refused(f, "select $1::int", PIER_ARGS(1), PIER_EINVAL, "cast($1 as integer)");
    assert_refused(f, "select 1; select 2", NULL, PIER_EINVAL, "pier_db_execute_script");
    assert_refused(f, "", NULL, PIER_EINVAL, "no statement");
    assert_refused(f, "selec 1", NULL, PIER_ESQL, "syntax error: selec 1");
    assert_refused(f, "pragma busy_timeout = 1", NULL, PIER_EINVAL, "busy_timeout_ms");
    assert_int_equal(number_of(f->db, "select 1; -- one\n;"), 1);
}

static void test_error__tells_code_constraint_and_position(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (1, 'a')", NULL);
    pier_db_execute(f->db, "insert into t values ($1, 'b')", PIER_ARGS(1), &f->err);
    assert_int_equal(f->err.origin, PIER_ORIGIN_SQLITE);
    assert_int_equal(f->err.native, SQLITE_CONSTRAINT_PRIMARYKEY);
    assert_string_equal(f->err.constraint, "t.id");
    assert_error(&f->err, PIER_ECONSTRAINT, "insert into t values ($1, 'b')");
    pier_db_execute(f->db, "select missing from t", NULL, &f->err);
#if SQLITE_VERSION_NUMBER >= 3038000
    assert_string_equal(pier_error_field(&f->err, PIER_FIELD_POSITION), "8");
#endif
    assert_error(&f->err, PIER_ESQL, "no such column: missing");
}

static void test_script__runs_until_the_first_failure(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_db_execute_script(f->db,
                                            "-- two tables\n create table a(x); ;\n"
                                            "begin; insert into a values (1); commit;"
                                            "insert into a values (2) /* the end */",
                                            &f->err),
                     0);
    assert_int_equal(number_of(f->db, "select count(*) from a"), 2);
    pier_db_execute_script(
        f->db, "insert into a values (3); insert into b values (1); delete from a", &f->err);
    assert_error(&f->err, PIER_ESQL, "no such table: b");
    assert_int_equal(number_of(f->db, "select count(*) from a"), 3);
    assert_int_equal(pier_db_execute_script(f->db, " ; -- nothing", &f->err), 0);
    pier_db_execute_script(f->db, "insert into a values ($1)", &f->err);
    assert_error(&f->err, PIER_EINVAL, "parameters");
}

static void test_pool__rolls_back_what_a_statement_leaves_open(void **state)
{
    struct fixture *f = *state;
    pier_db_execute_script(f->db, "begin; insert into t values (1, 'a')", &f->err);
    assert_error(&f->err, PIER_EINVAL, "use pier_db_begin");
    pier_db_execute_script(f->db, "begin; insert into t values (1, 'a'); nonsense", &f->err);
    assert_error(&f->err, PIER_ESQL, "rolled back");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_lease__keeps_what_belongs_to_the_connection(void **state)
{
    struct fixture *f = *state;
    pier_db *lease = pier_db_lease(f->db, &f->err);
    assert_ok(&f->err);
    execute(lease, "create temp table mine(x)", NULL);
    execute(lease, "begin", NULL);
    execute(lease, "insert into t values (1, 'a')", NULL);
    pier_db_close(lease); /* rolls back */
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

/* ---- Transactions ------------------------------------------------------------------------- */

static void test_tx__commit_keeps_and_close_rolls_back(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'kept')", NULL);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (2, 'dropped')", NULL);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 1);
}

static void test_tx__savepoints_nest(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_db *outer = pier_db_begin(tx, NULL, &f->err);
    execute(outer, "insert into t values (2, 'b')", NULL);
    pier_db *inner = pier_db_begin(outer, NULL, &f->err);
    assert_ok(&f->err);
    execute(inner, "insert into t values (4, 'c')", NULL);
    pier_db_close(inner);
    assert_int_equal(number_of(outer, "select sum(id) from t"), 3);
    assert_int_equal(pier_db_commit(outer, &f->err), 0);
    pier_db_close(outer);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 3);
}

static void test_tx__a_failed_statement_dooms_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_db_execute(tx, "insert into t values (1, 'again')", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, "t.id");
    assert_true(pier_db_execute(tx, "insert into t values (2, 'b')", NULL, &f->err) < 0);
    memset(&f->err, 0, sizeof f->err);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_ECONSTRAINT, "t.id");
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_tx__lives_on_after_going_back_to_a_savepoint(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_db *save = pier_db_begin(tx, NULL, &f->err);
    pier_db_execute(save, "insert into t values (1, 'again')", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, NULL);
    pier_db_close(save);
    execute(tx, "insert into t values (2, 'b')", NULL);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select sum(id) from t"), 3);
}

/* SQLite ends a transaction by itself in such cases; what follows must not commit on its own. */
static void test_tx__that_vanished_runs_nothing_more(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_db_execute(tx, "insert or rollback into t values (1, 'again')", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, "the transaction has been rolled back");
    assert_true(pier_db_execute(tx, "insert into t values (2, 'b')", NULL, &f->err) < 0);
    memset(&f->err, 0, sizeof f->err);
    pier_db *save = pier_db_begin(tx, NULL, &f->err);
    assert_null(save);
    memset(&f->err, 0, sizeof f->err);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_ECONSTRAINT, NULL);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_tx__that_vanished_below_a_savepoint_dooms_what_is_around_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_db *save = pier_db_begin(tx, NULL, &f->err);
    pier_db_execute(save, "insert or rollback into t values (1, 'again')", NULL, &f->err);
    assert_error(&f->err, PIER_ECONSTRAINT, "the transaction has been rolled back");
    pier_db_close(save);
    assert_true(pier_db_execute(tx, "insert into t values (2, 'b')", NULL, &f->err) < 0);
    memset(&f->err, 0, sizeof f->err);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_tx__cannot_be_ended_by_a_statement(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_db_execute_script(
        tx, "insert into t values (1, 'a'); rollback; insert into t values (2, 'b')", &f->err);
    assert_error(&f->err, PIER_EINVAL, "use pier_db_commit");
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_tx__ended_refuses_everything(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    assert_ok(&f->err);
    assert_true(pier_db_execute(tx, "insert into t values (1, 'a')", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, NULL);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, NULL);
    assert_null(pier_db_begin(tx, NULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, NULL);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static int insert_two(pier_db *tx, void *arg, pier_error *err)
{
    int *calls = arg;
    ++*calls;
    pier_db_execute(tx, "insert into t values (1, 'a')", NULL, err);
    pier_db_execute(tx, "insert into t values (2, 'b')", NULL, err);
    return err->status < 0 ? err->status : 42;
}

static int insert_and_fail(pier_db *tx, void *arg, pier_error *err)
{
    insert_two(tx, arg, err);
    return pier_error_set(err, PIER_EUSER, "enough");
}

static void test_transaction__commits_or_rolls_back_by_what_its_function_returns(void **state)
{
    struct fixture *f = *state;
    int calls = 0;
    assert_int_equal(pier_db_transaction(f->db, NULL, insert_and_fail, &calls, &f->err),
                     PIER_EUSER);
    assert_error(&f->err, PIER_EUSER, "enough");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    assert_int_equal(pier_db_transaction(f->db, NULL, insert_two, &calls, &f->err), 42);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 2);
    assert_int_equal(calls, 2);
}

static void test_tx__a_second_one_on_the_only_connection_is_refused(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_null(pier_db_begin(f->db, NULL, &f->err));
    assert_error(&f->err, PIER_EDEADLOCK, "transaction");
    assert_true(pier_db_execute(f->db, "select 1", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EDEADLOCK, NULL);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select 1"), 1);
}

static void test_tx__read_only_does_not_lock_out_a_writer(void **state)
{
    struct fixture *f = *state;
    pier_db *other = pier_db_open(f->runner, f->url, NULL, &f->err);
    pier_db *writer = pier_db_begin(other, NULL, &f->err);
    pier_db *reader = pier_db_begin(f->db, PIER_TX_OPTIONS(.read_only = true), &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(reader, "select count(*) from t"), 0);
    execute(writer, "insert into t values (1, 'a')", NULL);
    pier_db_close(reader);
    assert_int_equal(pier_db_commit(writer, &f->err), 0);
    pier_db_close(writer);
    pier_db_close(other);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__names_the_directory_that_is_missing),
        TEST(test_open__says_why_a_file_cannot_be_opened),
        TEST(test_open__finds_out_what_is_not_a_database),
        TEST(test_open__refuses_unknown_keys_of_the_url),
        TEST(test_open__writes_nothing_into_a_new_file),
        TEST(test_open__read_only_reads_and_does_not_write),
        TEST(test_open__a_relative_path_is_found_from_elsewhere_too),
        TEST(test_memory__lives_as_long_as_it_is_open),
        TEST(test_execute__counts_the_rows_it_changed),
        TEST(test_fetch__gives_all_rows_with_their_columns),
        TEST(test_fetch__of_no_rows_has_columns),
        TEST(test_fetch__a_result_outlives_its_database),
        TEST(test_fetch__sees_a_changed_schema),
        TEST(test_fetch_into__reads_the_first_row),
        TEST(test_types__come_back_as_they_went_in),
        TEST(test_args__are_mapped_by_number),
        TEST(test_statement__is_refused_with_the_remedy),
        TEST(test_error__tells_code_constraint_and_position),
        TEST(test_script__runs_until_the_first_failure),
        TEST(test_pool__rolls_back_what_a_statement_leaves_open),
        TEST(test_lease__keeps_what_belongs_to_the_connection),
        TEST(test_tx__commit_keeps_and_close_rolls_back),
        TEST(test_tx__savepoints_nest),
        TEST(test_tx__a_failed_statement_dooms_it),
        TEST(test_tx__lives_on_after_going_back_to_a_savepoint),
        TEST(test_tx__that_vanished_runs_nothing_more),
        TEST(test_tx__that_vanished_below_a_savepoint_dooms_what_is_around_it),
        TEST(test_tx__cannot_be_ended_by_a_statement),
        TEST(test_tx__ended_refuses_everything),
        TEST(test_transaction__commits_or_rolls_back_by_what_its_function_returns),
        TEST(test_tx__a_second_one_on_the_only_connection_is_refused),
        TEST(test_tx__read_only_does_not_lock_out_a_writer),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
