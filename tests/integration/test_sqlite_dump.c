/* Dumps and the loading of scripts. */
#include "tests/integration/sqlite_fixture.h"

#include "tests/support/valgrind.h"
#include <math.h>
#include <sys/resource.h>

/* All statements of a dump, each on a line of its own. Freed by the caller. */
static char *dump_of(struct fixture *f, pier_db *db)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    pier_cursor *dump = pier_sqlite_dump(db, &f->err);
    for (const pier_row *row; (row = pier_cursor_next(dump));) {
        fprintf(out, "%s\n", pier_row_text(row, 0));
    }
    assert_int_equal(pier_cursor_close(dump, &f->err), 0);
    assert_ok(&f->err);
    fclose(out);
    return text;
}

static int64_t load(struct fixture *f, pier_db *db, const char *text)
{
    char path[600];
    snprintf(path, sizeof path, "%s/script.sql", f->directory);
    support_file_write(f->directory, "script.sql", text, strlen(text));
    return pier_sqlite_load(db, path, &f->err);
}

/* Loads the dump into a fresh database, whose dump must be the same. */
static void assert_round_trip_at(struct fixture *f, pier_db *db, const char *file, int line)
{
    char *text = dump_of(f, db);
    pier_db *fresh = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    load(f, fresh, text);
    assert_ok_at(&f->err, file, line);
    char *again = dump_of(f, fresh);
    if (strcmp(text, again)) {
        print_error("%s\nbecame\n%s\n", text, again);
        _assert_true(0, "the same dump", file, line);
    }
    pier_db_close(fresh);
    free(again);
    free(text);
}
#define assert_round_trip(f, db) assert_round_trip_at(f, db, __FILE__, __LINE__)

/* SQLite 3.40 writes and reads numbers with `long double`, which under valgrind has no more digits
 * than a double: there the last ones of a number may be wrong. */
static bool same_number(double a, double b)
{
    if (support_on_valgrind() && isfinite(a)) {
        return fabs(a - b) <= 1e-13 * fabs(a);
    }
    return !memcmp(&a, &b, sizeof a);
}

/* Loads the dump into a fresh database, which must then hold the same values. Gives how many. */
static size_t assert_values_survive(struct fixture *f, const char *sql)
{
    char *text = dump_of(f, f->db);
    pier_db *fresh = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    load(f, fresh, text);
    pier_result *here = pier_db_fetch(f->db, sql, NULL, &f->err);
    pier_result *there = pier_db_fetch(fresh, sql, NULL, &f->err);
    assert_ok(&f->err);
    size_t count = pier_result_count(here);
    assert_int_equal(count, pier_result_count(there));
    for (size_t i = 0; i < count * (size_t)pier_result_columns(here); i++) {
        int column = (int)(i % (size_t)pier_result_columns(here));
        size_t row = i / (size_t)pier_result_columns(here);
        pier_value a = pier_row_value(pier_result_row(here, row), column);
        pier_value b = pier_row_value(pier_result_row(there, row), column);
        assert_int_equal(a.type, b.type);
        if (a.type == PIER_DOUBLE) {
            assert_true(same_number(a.as.d, b.as.d));
        } else if (a.type != PIER_NULL) {
            assert_string_equal(pier_row_text(pier_result_row(here, row), column),
                                pier_row_text(pier_result_row(there, row), column));
        }
    }
    pier_result_free(here);
    pier_result_free(there);
    pier_db_close(fresh);
    free(text);
    return count;
}

static void script(struct fixture *f, const char *sql)
{
    pier_db_execute_script(f->db, sql, &f->err);
    assert_ok(&f->err);
}

static void test_dump__of_an_empty_table(void **state)
{
    struct fixture *f = *state;
    char *text = dump_of(f, f->db);
    assert_string_equal(text, "BEGIN TRANSACTION;\n"
                              "PRAGMA defer_foreign_keys=ON;\n"
                              "CREATE TABLE t(id integer primary key, name text);\n"
                              "COMMIT;\n");
    free(text);
}

static void test_dump__is_exact_about_values(void **state)
{
    struct fixture *f = *state;
    script(f, "create table v(a, b text);"
              "insert into v values (null, ''), (1, 'it''s'), (-9223372036854775808, 'a;b'),"
              "(9e999, 'ünïcödé 🚢'), (-9e999, 'two\nlines'), (1.0, '--'), (0.1, '/*'),"
              "(1e300, x''), (5e-324, x'00ff27'), (123456789.123456789, char(0) || 'z'),"
              "(1.7976931348623157e308, 'x'), (2.2250738585072014e-308, 'x'), (-0.5, 'x'),"
              "(3.141592653589793, cast(x'ff41' as text)), (1e15, 'x'), (1e16, 'x')");
    char *text = dump_of(f, f->db);
    assert_non_null(strstr(text, "INSERT INTO \"v\" VALUES(NULL,'');\n"));
    assert_non_null(strstr(text, "VALUES(1,'it''s');\n"));
    assert_non_null(strstr(text, "VALUES(-9223372036854775808,'a;b');\n"));
    assert_non_null(strstr(text, "VALUES(9.0e+999,'ünïcödé 🚢');\n"));
    assert_non_null(strstr(text, "VALUES(-9.0e+999,'two\nlines');\n"));
    assert_non_null(strstr(text, "VALUES(1.0,'--');\n"));
    assert_non_null(strstr(text, "VALUES(0.1,'/*');\n"));
    assert_non_null(strstr(text, ",X'00FF27');\n"));
    assert_non_null(strstr(text, ",CAST(X'007A' AS TEXT));\n"));
    assert_non_null(strstr(text, ",CAST(X'FF41' AS TEXT));\n"));
    free(text);
    assert_values_survive(f, "select a, typeof(b), hex(b) from v order by rowid");
    if (!support_on_valgrind()) { /* the text of numbers that are not quite the same */
        assert_round_trip(f, f->db);
    }
}

static void test_dump__is_exact_about_any_number(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "create table n(a)", NULL);
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 2000; i++) {
        seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
        double number;
        memcpy(&number, &seed, sizeof number);
        if (number == number) {
            execute(f->db, "insert into n values ($1)", PIER_ARGS(number));
        }
    }
    assert_true(assert_values_survive(f, "select a from n order by rowid") > 1000);
}

static void test_dump__has_the_whole_schema(void **state)
{
    struct fixture *f = *state;
    script(f, "pragma user_version = 42; pragma application_id = 7;"
              "create table \"odd \"\"name\"(\"a b\" integer, [c] text, g as (\"a b\" * 2), "
              "s as (c || 'x') stored);"
              "insert into \"odd \"\"name\" values (3, 'q');"
              "create table w(a text, b int, primary key (b, a)) without rowid;"
              "insert into w values ('z', 2), ('y', 1);"
              "create table counted(id integer primary key autoincrement, a);"
              "insert into counted values (10, 1), (20, 2); delete from counted where id = 20;"
              "create table strictly(a any, b real) strict; insert into strictly values ('1', 2);"
              "create index w_b on w(b) where b > 1;"
              "create view v as select a from w; "
              "create trigger tr after insert on t begin insert into w values ('t;', 9); "
              "select case when 1 then 2 end; end;"
              "create trigger on_view instead of insert on v begin select 1; end;"
              "insert into t values (1, 'fires tr')");
    char *text = dump_of(f, f->db);
    assert_non_null(strstr(text, "PRAGMA user_version=42;\nPRAGMA application_id=7;\n"));
    assert_non_null(strstr(text, "INSERT INTO \"odd \"\"name\"(\"a b\",\"c\") VALUES(3,'q');\n"));
    assert_non_null(strstr(text, "DELETE FROM sqlite_sequence;\n"
                                 "INSERT INTO \"sqlite_sequence\" VALUES('counted',20);\n"));
    free(text);
    assert_round_trip(f, f->db);
}

static void test_dump__loads_with_foreign_keys_on(void **state)
{
    struct fixture *f = *state;
    script(f, "create table child(a references parent(id)); create table parent(id primary key);"
              "insert into parent values (1); insert into child values (1)");
    char *text = dump_of(f, f->db);
    pier_db *fresh = pier_db_open(f->runner, "sqlite::memory:?foreign_keys=on", NULL, &f->err);
    assert_true(load(f, fresh, text) > 0);
    assert_int_equal(number_of(fresh, "pragma foreign_keys"), 1);
    pier_db_close(fresh);
    free(text);
}

static void test_dump__makes_virtual_tables_empty(void **state)
{
    struct fixture *f = *state;
    script(f, "create virtual table words using fts5(name, content='t', content_rowid='id');"
              "create table words_of_mine(a); insert into words_of_mine values (1);"
              "create trigger fill after insert on t begin "
              "insert into words(rowid, name) values (new.id, new.name); end;"
              "insert into t values (1, 'pier')");
    char *text = dump_of(f, f->db);
    assert_null(strstr(text, "words_data"));
    assert_non_null(strstr(text, "\"words_of_mine\" VALUES(1)"));
    pier_db *fresh = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    assert_true(load(f, fresh, text) > 0);
    execute(fresh, "insert into words(words) values ('rebuild')", NULL);
    assert_int_equal(number_of(fresh, "select count(*) from words('pier')"), 1);
    pier_db_close(fresh);
    free(text);
    assert_round_trip(f, f->db);
}

static void test_dump__is_one_snapshot_in_flat_memory(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "pragma journal_mode = wal", NULL);
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) "
            "insert into t select i, hex(zeroblob(500)) from n",
            NULL);
    pier_cursor *dump = pier_sqlite_dump(f->db, &f->err);
    assert_non_null(pier_cursor_next(dump));
    sqlite3 *outside = NULL;
    sqlite3_open(f->path, &outside);
    assert_int_equal(
        sqlite3_exec(outside, "delete from t; create table later(a)", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(outside);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    int64_t inserts = 0;
    for (const pier_row *row; (row = pier_cursor_next(dump));) {
        const char *text = pier_row_text(row, 0);
        inserts += !strncmp(text, "INSERT", 6);
        assert_null(strstr(text, "later"));
    }
    getrusage(RUSAGE_SELF, &after);
    assert_int_equal(pier_cursor_close(dump, &f->err), 0);
    assert_int_equal(inserts, 20000);
#if !defined(__SANITIZE_ADDRESS__) /* which keeps what was freed */
    /* So does valgrind, but no more than 20 MB of it, beside its shadow memory. */
    long growth_max = (support_on_valgrind() ? 96 : 8) * 1024;
    assert_true(after.ru_maxrss - before.ru_maxrss < growth_max);
#endif
    assert_int_equal(number_of(f->db, "select count(*) from later"), 0);
}

static void test_dump__closed_half_way_leaves_no_transaction(void **state)
{
    struct fixture *f = *state;
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    execute(memory, "create table m(a)", NULL);
    execute(memory,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) "
            "insert into m select i from n",
            NULL);
    pier_cursor *dump = pier_sqlite_dump(memory, &f->err);
    assert_non_null(pier_cursor_next(dump));
    assert_true(pier_db_execute(memory, "select 1", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EDEADLOCK, "cursor");
    assert_int_equal(pier_cursor_close(dump, &f->err), 0);
    pier_db *tx = pier_db_begin(memory, NULL, &f->err);
    assert_int_equal(number_of(tx, "select count(*) from m"), 5000);
    pier_db_close(tx);
    pier_db_close(memory);
}

static void test_dump__cancelled_keeps_a_database_in_memory(void **state)
{
    struct fixture *f = *state;
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    execute(memory, "create table m(a)", NULL);
    execute(memory,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5000) "
            "insert into m select i from n",
            NULL);
    pier_cursor *dump = pier_sqlite_dump(memory, &f->err);
    assert_non_null(pier_cursor_next(dump));
    pier_scope *scope = pier_scope_open(f->runner, NULL, &f->err);
    pier_scope_cancel(scope);
    while (pier_cursor_next(dump)) {
    }
    pier_scope_close(scope);
    assert_true(pier_cursor_close(dump, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    assert_int_equal(number_of(memory, "select count(*) from m"), 5000);
    pier_db_close(memory);
}

static void test_dump__in_a_transaction_sees_what_it_has_written(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'mine')", NULL);
    char *text = dump_of(f, tx);
    assert_non_null(strstr(text, "VALUES(1,'mine');"));
    free(text);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1);
}

static void test_dump__in_blocks_asynchronously(void **state)
{
    struct fixture *f = *state;
    pier_cursor *dump = pier_sqlite_dump(f->db, &f->err);
    pier_result *block = pier_cursor_block_finish(pier_cursor_block_async(dump), &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_result_count(block), 4);
    assert_string_equal(pier_result_column_name(block, 0), "sql");
    pier_result_free(block);
    block = pier_cursor_block_finish(pier_cursor_block_async(dump), &f->err);
    assert_int_equal(pier_result_count(block), 0);
    pier_result_free(block);
    assert_int_equal(pier_cursor_close_finish(pier_cursor_close_async(dump), &f->err), 0);
    assert_null(pier_sqlite_dump(NULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, NULL);
}

static void test_dump__reads_beside_a_writer(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s/service.db?preset=service", f->directory);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    execute(db, "create table s(a)", NULL);
    pier_cursor *dump = pier_sqlite_dump(db, &f->err);
    assert_non_null(pier_cursor_next(dump));
    execute(db, "insert into s values (1)", NULL);
    int64_t inserts = 0;
    for (const pier_row *row; (row = pier_cursor_next(dump));) {
        inserts += !strncmp(pier_row_text(row, 0), "INSERT", 6);
    }
    assert_int_equal(pier_cursor_close(dump, &f->err), 0);
    assert_int_equal(inserts, 0);
    pier_db_close(db);
}

/* ---- Loading ------------------------------------------------------------------------------ */

static void test_load__follows_quotes_comments_and_triggers(void **state)
{
    struct fixture *f = *state;
    int64_t count = load(f, f->db,
                         "\xEF\xBB\xBF-- a; comment\n/* another; \n one */ ;;\n"
                         "insert into t values (1, 'a;b''c;');\n"
                         "insert into t values (2, \"d;\");"
                         "create temporary trigger tr after insert on t begin\n"
                         " select 1; select ';'; end;\n"
                         "create table `semi;colon`([a;b]);"
                         "insert into t values (3, 'x') -- the end; without one");
    assert_ok(&f->err);
    assert_int_equal(count, 5);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 3);
}

static void test_load__names_the_line(void **state)
{
    struct fixture *f = *state;
    assert_true(load(f, f->db,
                     "begin;\ninsert into t values (1, 'a');\n\n\ninsert into nowhere\n"
                     "values (1);\ncommit;") < 0);
    assert_error(&f->err, PIER_ESQL, "script.sql:5: no such table: nowhere");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    assert_true(load(f, f->db, "insert into t values ($1, 'a')") < 0);
    assert_error(&f->err, PIER_EINVAL, "parameters");
    assert_true(load(f, f->db, "pragma busy_timeout = 5;") < 0);
    assert_error(&f->err, PIER_EINVAL, "busy_timeout");
    assert_true(pier_sqlite_load(f->db, "/nowhere/at/all.sql", &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "cannot read");
}

static void test_load__of_a_zero_byte_fails(void **state)
{
    struct fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/zero.sql", f->directory);
    support_file_write(f->directory, "zero.sql", "select 1;\nselect\0 2;", 20);
    assert_true(pier_sqlite_load(f->db, path, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "zero.sql:2: there is a zero byte");
}

static void test_load__in_a_transaction_may_not_end_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(load(f, tx, "insert into t values (1, 'a');"), 1);
    assert_true(load(f, tx, "insert into t values (2, 'a'); commit; select 1;") < 0);
    assert_error(&f->err, PIER_EINVAL, "ended the transaction");
    pier_db_close(tx);
}

static void test_load__into_a_full_disk_is_rolled_back(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "pragma max_page_count = 20", NULL);
    assert_true(load(f, f->db,
                     "begin; insert into t values (1, 'a');\n"
                     "insert into t values (2, zeroblob(200000)); commit;") < 0);
    assert_int_equal(f->err.native, SQLITE_FULL);
    assert_error(&f->err, PIER_EIO, "script.sql:2");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_load__obeys_a_deadline(void **state)
{
    struct fixture *f = *state;
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &f->err);
    assert_true(load(f, f->db, ENDLESS "select count(*) from n;") < 0);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_dump__of_an_empty_table),
        TEST(test_dump__is_exact_about_values),
        TEST(test_dump__is_exact_about_any_number),
        TEST(test_dump__has_the_whole_schema),
        TEST(test_dump__loads_with_foreign_keys_on),
        TEST(test_dump__makes_virtual_tables_empty),
        TEST(test_dump__is_one_snapshot_in_flat_memory),
        TEST(test_dump__closed_half_way_leaves_no_transaction),
        TEST(test_dump__cancelled_keeps_a_database_in_memory),
        TEST(test_dump__in_a_transaction_sees_what_it_has_written),
        TEST(test_dump__in_blocks_asynchronously),
        TEST(test_dump__reads_beside_a_writer),
        TEST(test_load__follows_quotes_comments_and_triggers),
        TEST(test_load__names_the_line),
        TEST(test_load__of_a_zero_byte_fails),
        TEST(test_load__in_a_transaction_may_not_end_it),
        TEST(test_load__into_a_full_disk_is_rolled_back),
        TEST(test_load__obeys_a_deadline),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
