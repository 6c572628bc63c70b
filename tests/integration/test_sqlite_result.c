/* What a statement did: rows changed, row ids; and getters that read text as what it says. */
#include "tests/integration/sqlite_fixture.h"

static pier_result *fetch(struct fixture *f, const char *sql)
{
    pier_result *result = pier_db_fetch(f->db, sql, NULL, &f->err);
    assert_ok(&f->err);
    return result;
}

static void assert_did(struct fixture *f, const char *sql, int64_t changes, int64_t last_id)
{
    pier_result *result = fetch(f, sql);
    assert_int_equal(pier_result_changes(result), changes);
    assert_int_equal(pier_result_last_id(result), last_id);
    pier_result_free(result);
}

static void test_result__says_what_its_statement_did(void **state)
{
    assert_did(*state, "insert into t(id, name) values (5, 'a'), (9, 'b') returning id", 2, 9);
    assert_did(*state, "update t set name = 'c' returning id", 2, 0);
    assert_did(*state, "with x(id) as (select 20) insert into t(id) select id from x", 1, 20);
    assert_did(*state, "delete from t where id = 5", 1, 0);
    assert_did(*state, "select count(*) from t", 0, 0);
    assert_did(*state, "create table u(x)", 0, 0);
    assert_did(*state, "insert or ignore into t(id) values (9)", 0, 0);
    assert_int_equal(pier_result_changes(NULL), 0);
    assert_int_equal(pier_result_last_id(NULL), 0);
}

/* As the same on Postgres: 22P02. */
static void test_result__a_value_of_the_wrong_type_is_a_matter_of_type(void **state)
{
    struct fixture *f = *state;
    pier_db_execute(f->db, "insert into t(id) values ($1)", PIER_ARGS("one"), &f->err);
    assert_error(&f->err, PIER_ETYPE, "datatype mismatch");
    execute(f->db, "create table s(i integer) strict", NULL);
    pier_db_execute(f->db, "insert into s values ($1)", PIER_ARGS("one"), &f->err);
    assert_int_equal(f->err.native, SQLITE_CONSTRAINT_DATATYPE);
    assert_error(&f->err, PIER_ETYPE, "cannot store TEXT value in INTEGER column s.i");
}

static void test_result__does_not_count_what_triggers_change(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "create table u(x)", NULL);
    execute(f->db,
            "create trigger r after insert on t begin "
            "insert into u values (1); insert into u values (2); end",
            NULL);
    assert_did(f, "insert into t(id) values (70)", 1, 70);
    assert_int_equal(number_of(f->db, "select count(*) from u"), 2);
}

static void test_result__of_a_cursor_says_nothing(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor =
        pier_db_cursor(f->db, "insert into t(id) values (3) returning id", NULL, &f->err);
    pier_result *block = pier_cursor_block(cursor, &f->err);
    assert_int_equal(pier_result_count(block), 1);
    assert_int_equal(pier_result_changes(block), 0);
    assert_int_equal(pier_result_last_id(block), 0);
    pier_result_free(block);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_insert__gives_the_row_id(void **state)
{
    struct fixture *f = *state;
    const char *sql = "insert into t(name) values ($1)";
    assert_int_equal(pier_db_insert(f->db, sql, PIER_ARGS("a"), &f->err), 1);
    assert_int_equal(pier_db_insert(f->db, sql, PIER_ARGS("b"), &f->err), 2);
    pier_future *future = pier_db_insert_async(f->db, sql, PIER_ARGS("c"));
    assert_int_equal(pier_db_insert_finish(future, &f->err), 3);
    assert_int_equal(pier_db_insert(f->db, "update t set name = 'd'", NULL, &f->err), 0);
    assert_int_equal(pier_db_insert(f->db, "insert or ignore into t(id) values (1)", NULL, &f->err),
                     0);
    assert_ok(&f->err);
}

static void test_insert__tells_a_negative_row_id_from_a_failure(void **state)
{
    struct fixture *f = *state;
    const char *sql = "insert into t(id) values (-12)";
    assert_int_equal(pier_db_insert(f->db, sql, NULL, &f->err), -12);
    assert_ok(&f->err);
    assert_int_equal(pier_db_insert(f->db, sql, NULL, &f->err), PIER_ECONSTRAINT);
    assert_error(&f->err, PIER_ECONSTRAINT, "t.id");
}

/* ---- Getters ------------------------------------------------------------------------------ */

static void test_as__reads_text_as_what_it_says(void **state)
{
    struct fixture *f = *state;
    pier_result *result = fetch(f, "select '7', '-9223372036854775808', '7.00', '+5', '-1.5', "
                                   "'1e3', 'True', 'OFF', 'y', '0'");
    const pier_row *row = pier_result_row(result, 0);
    assert_int_equal(pier_row_as_int64(row, 0), 7);
    assert_true(pier_row_as_int64(row, 1) == INT64_MIN);
    assert_int_equal(pier_row_as_int64(row, 2), 7);
    assert_int_equal(pier_row_as_int64(row, 3), 5);
    assert_true(pier_row_as_double(row, 4) == -1.5);
    assert_true(pier_row_as_double(row, 5) == 1000);
    assert_true(pier_row_as_bool(row, 6));
    assert_false(pier_row_as_bool(row, 7));
    assert_true(pier_row_as_bool(row, 8));
    assert_false(pier_row_as_bool(row, 9));
    assert_int_equal(pier_result_check(result, &f->err), 0);
    pier_result_free(result);
}

static void test_as__reads_numbers_as_the_strict_getters_do(void **state)
{
    struct fixture *f = *state;
    pier_result *result = fetch(f, "select 7, 2.5, 3.0");
    const pier_row *row = pier_result_row(result, 0);
    assert_int_equal(pier_row_as_int64(row, 0), 7);
    assert_true(pier_row_as_double(row, 1) == 2.5);
    assert_int_equal(pier_row_as_int64(row, 2), 3);
    assert_true(pier_row_as_bool(row, 1));
    assert_int_equal(pier_result_check(result, &f->err), 0);
    assert_int_equal(pier_row_as_int64(row, 1), 0);
    assert_int_equal(pier_result_check(result, &f->err), PIER_ERANGE);
    pier_result_free(result);
}

enum getter { AS_INT64, AS_DOUBLE, AS_BOOL };

static void assert_unreadable(struct fixture *f, const char *sql, enum getter getter, int status)
{
    memset(&f->err, 0, sizeof f->err);
    pier_result *result = fetch(f, sql);
    const pier_row *row = pier_result_row(result, 0);
    if (getter == AS_INT64) {
        assert_int_equal(pier_row_as_int64(row, 0), 0);
    } else if (getter == AS_DOUBLE) {
        assert_true(pier_row_as_double(row, 0) == 0);
    } else {
        assert_false(pier_row_as_bool(row, 0));
    }
    assert_int_equal(pier_result_check(result, &f->err), status);
    pier_result_free(result);
}

static void test_as__refuses_text_that_is_not_all_of_it_a_value(void **state)
{
    struct fixture *f = *state;
    static const char *const no_integers[] = {"select ''",
                                              "select '7x'",
                                              "select ' 7'",
                                              "select '7 '",
                                              "select '7.5'",
                                              "select '0x10'",
                                              "select '1e3'",
                                              "select 'seven'",
                                              "select null",
                                              "select x'37'",
                                              "select '7' || char(0) || '8'"};
    for (size_t i = 0; i < sizeof no_integers / sizeof *no_integers; i++) {
        assert_unreadable(f, no_integers[i], AS_INT64, PIER_ETYPE);
    }
    static const char *const no_numbers[] = {"select ''",    "select '1.5x'",  "select 'nan'",
                                             "select 'inf'", "select '0x1p3'", "select '1e'",
                                             "select '.'",   "select null"};
    for (size_t i = 0; i < sizeof no_numbers / sizeof *no_numbers; i++) {
        assert_unreadable(f, no_numbers[i], AS_DOUBLE, PIER_ETYPE);
    }
    assert_unreadable(f, "select '2'", AS_BOOL, PIER_ETYPE);
    assert_unreadable(f, "select ''", AS_BOOL, PIER_ETYPE);
    assert_unreadable(f, "select null", AS_BOOL, PIER_ETYPE);
}

static void test_as__refuses_what_is_out_of_range(void **state)
{
    assert_unreadable(*state, "select '9223372036854775808'", AS_INT64, PIER_ERANGE);
    assert_unreadable(*state, "select '1e400'", AS_DOUBLE, PIER_ERANGE);
}

static void test_strict__getters_do_not_parse_text(void **state)
{
    struct fixture *f = *state;
    pier_result *result = fetch(f, "select '7'");
    assert_int_equal(pier_row_int64(pier_result_row(result, 0), 0), 0);
    assert_int_equal(pier_result_check(result, &f->err), PIER_ETYPE);
    pier_result_free(result);
}

/* ---- Into variables ------------------------------------------------------------------------ */

/* The row stands in the operation itself while it is small, with or without the names. */
static void test_fetch_into__reads_rows_of_any_size(void **state)
{
    struct fixture *f = *state;
    char text[401], wanted[401];
    for (int size = 0; size <= 400; size++) {
        int64_t n = 0;
        memset(wanted, 'x', (size_t)size);
        wanted[size] = 0;
        assert_int_equal(
            pier_db_fetch_into(f->db, "select $1 as n, $2 as text", PIER_ARGS(size, wanted),
                               PIER_INTO(&n, pier_into_buffer(text, sizeof text)), &f->err),
            1);
        assert_int_equal(n, size);
        assert_string_equal(text, wanted);
    }
    int64_t v[9] = {0};
    assert_int_equal(
        pier_db_fetch_into(f->db, "select 1, 2, 3, 4, 5, 6, 7, 8, 9", NULL,
                           PIER_INTO(&v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7], &v[8]),
                           &f->err),
        1);
    for (int i = 0; i < 9; i++) {
        assert_int_equal(v[i], i + 1);
    }
    assert_int_equal(pier_db_fetch_into(f->db, "create table e(a)", NULL, PIER_INTO(&v[0]), NULL),
                     0);
}

static void test_fetch_into__names_the_column_that_it_cannot_read(void **state)
{
    struct fixture *f = *state;
    int64_t a, b, c;
    const char *sql = "select 1 as one, 'x' as two";
    assert_int_equal(pier_db_fetch_into(f->db, sql, NULL, PIER_INTO(&a, &b), &f->err), PIER_ETYPE);
    assert_error(&f->err, PIER_ETYPE, "column 1 (two) holds text");
    sql = "select 1 as one, 2 as with_a_name_too_long_to_be_copied, 'x' as three";
    assert_int_equal(pier_db_fetch_into(f->db, sql, NULL, PIER_INTO(&a, &b, &c), &f->err),
                     PIER_ETYPE);
    assert_error(&f->err, PIER_ETYPE, "column 2 (three) holds text");
}

/* SQLite is given the caller's memory, and must not look at it with the next arguments. */
static void test_arguments__of_the_last_call_are_gone(void **state)
{
    struct fixture *f = *state;
    char type[20];
    const char *sql = "select typeof($1)";
    for (int i = 0; i < 2; i++) {
        char *text = strdup("text on the heap");
        const pier_intos *into = PIER_INTO(pier_into_buffer(type, sizeof type));
        assert_int_equal(pier_db_fetch_into(f->db, sql, PIER_ARGS(text), into, &f->err), 1);
        free(text);
        assert_string_equal(type, "text");
        assert_int_equal(pier_db_fetch_into(f->db, sql, PIER_ARGS(i), into, &f->err), 1);
        assert_string_equal(type, "integer");
        assert_int_equal(pier_db_fetch_into(f->db, sql, PIER_ARGS(pier_null()), into, &f->err), 1);
        assert_string_equal(type, "null");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_result__says_what_its_statement_did),
        TEST(test_result__a_value_of_the_wrong_type_is_a_matter_of_type),
        TEST(test_result__does_not_count_what_triggers_change),
        TEST(test_result__of_a_cursor_says_nothing),
        TEST(test_insert__gives_the_row_id),
        TEST(test_insert__tells_a_negative_row_id_from_a_failure),
        TEST(test_as__reads_text_as_what_it_says),
        TEST(test_as__reads_numbers_as_the_strict_getters_do),
        TEST(test_as__refuses_text_that_is_not_all_of_it_a_value),
        TEST(test_as__refuses_what_is_out_of_range),
        TEST(test_strict__getters_do_not_parse_text),
        TEST(test_fetch_into__reads_rows_of_any_size),
        TEST(test_fetch_into__names_the_column_that_it_cannot_read),
        TEST(test_arguments__of_the_last_call_are_gone),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
