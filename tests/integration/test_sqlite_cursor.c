/* Cursors of the SQLite driver: rows in blocks, while other requests use the connection. */
#include "tests/integration/sqlite_fixture.h"

enum { MANY = 100000 };

static void fill(struct fixture *f, int count)
{
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) "
            "insert into t select i, 'row ' || i from n",
            PIER_ARGS(count));
}

static pier_cursor *all_rows(pier_db *db, pier_error *err)
{
    return pier_db_cursor(db, "select id, name from t order by id", NULL, err);
}

static void test_cursor__reads_100000_rows(void **state)
{
    struct fixture *f = *state;
    fill(f, MANY);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    int64_t count = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        char name[32];
        snprintf(name, sizeof name, "row %" PRId64, ++count);
        if (pier_row_int64(row, 0) != count || strcmp(pier_row_text(row, 1), name) != 0) {
            fail_msg("row %" PRId64 " is %" PRId64 " %s", count, pier_row_int64(row, 0),
                     pier_row_text(row, 1));
        }
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_ok(&f->err);
    assert_int_equal(count, MANY);
}

static void test_cursor__blocks_grow_and_an_empty_one_is_the_end(void **state)
{
    struct fixture *f = *state;
    fill(f, 300);
    static const size_t expected[] = {64, 128, 108, 0, 0};
    pier_cursor *cursor = all_rows(f->db, &f->err);
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
        pier_result *block = pier_cursor_block(cursor, &f->err);
        assert_ok(&f->err);
        assert_int_equal(pier_result_count(block), expected[i]);
        pier_result_free(block);
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_cursor__blocks_beyond_the_end_have_the_columns(void **state)
{
    struct fixture *f = *state;
    fill(f, 3);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    for (int i = 0; i < 4; i++) {
        pier_result *block = pier_cursor_block(cursor, &f->err);
        assert_int_equal(pier_result_count(block), i ? 0 : 3);
        assert_int_equal(pier_result_columns(block), 2);
        assert_string_equal(pier_result_column_name(block, 0), "id");
        assert_int_equal(pier_result_column(block, "name"), 1);
        pier_result_free(block);
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_cursor__finds_its_columns_after_the_last_row(void **state)
{
    struct fixture *f = *state;
    fill(f, 3);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    while (pier_cursor_next(cursor)) {
    }
    assert_int_equal(pier_cursor_column(cursor, "name"), 1);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_cursor__a_block_of_wide_rows_is_bounded(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = pier_db_cursor(
        f->db,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 40) "
        "select i, zeroblob(100000) from n",
        NULL, &f->err);
    pier_result *block = pier_cursor_block(cursor, &f->err);
    assert_int_equal(pier_result_count(block), 3);
    pier_result_free(block);
    int rows = 3;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    assert_int_equal(rows, 40);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_cursor__finds_columns_before_and_after_its_rows(void **state)
{
    struct fixture *f = *state;
    fill(f, 3);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    assert_int_equal(pier_cursor_column(cursor, "name"), 1);
    int rows = 0;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    assert_int_equal(rows, 3);
    assert_int_equal(pier_cursor_column(cursor, "nowhere"), -1);
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_non_null(strstr(f->err.message, "nowhere"));
}

static void test_cursor__of_no_rows_has_columns(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = all_rows(f->db, &f->err);
    assert_int_equal(pier_cursor_column(cursor, "name"), 1);
    assert_null(pier_cursor_next(cursor));
    assert_null(pier_cursor_next(cursor));
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_cursor__binds_its_own_copy_of_the_arguments(void **state)
{
    struct fixture *f = *state;
    fill(f, 200);
    char name[] = "row 1";
    pier_cursor *cursor = pier_db_cursor(f->db, "select id, $2 from t where name <> $1",
                                         PIER_ARGS(name, "kept"), &f->err);
    memset(name, 'x', sizeof name - 1);
    int rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        assert_string_equal(pier_row_text(row, 1), "kept");
    }
    assert_int_equal(rows, 199);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
}

static void test_cursor__others_write_between_its_rows(void **state)
{
    struct fixture *f = *state;
    fill(f, 1000);
    execute(f->db, "create table seen(id)", NULL);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    int64_t rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        int64_t id = pier_row_int64(row, 0);
        execute(f->db, "insert into seen values ($1)", PIER_ARGS(id));
        execute(f->db, "update t set name = 'read' where id = $1", PIER_ARGS(id));
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(rows, 1000);
    assert_int_equal(number_of(f->db, "select count(distinct id) from seen"), 1000);
}

static void test_cursor__several_of_the_same_statement_keep_apart(void **state)
{
    struct fixture *f = *state;
    fill(f, 500);
    pier_cursor *one = all_rows(f->db, &f->err), *two = all_rows(f->db, &f->err);
    int64_t rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(one));) {
        const pier_row *other = ++rows % 2 ? pier_cursor_next(two) : NULL;
        assert_int_equal(pier_row_int64(row, 0), rows);
        assert_true(!other || pier_row_int64(other, 0) == (rows + 1) / 2);
    }
    assert_int_equal(rows, 500);
    assert_int_equal(pier_cursor_close(one, &f->err), 0);
    assert_int_equal(pier_row_int64(pier_cursor_next(two), 0), 251);
    assert_int_equal(pier_cursor_close(two, &f->err), 0);
}

static void test_cursor__abandoned_half_way_leaves_nothing_locked(void **state)
{
    struct fixture *f = *state;
    fill(f, 1000);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    pier_db_execute(f->db, "drop table t", NULL, &f->err);
    assert_error(&f->err, PIER_EBUSY, "a cursor of this connection is still open");
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    execute(f->db, "drop table t", NULL);
}

static void test_cursor__that_was_never_read_closes(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = pier_db_cursor(f->db, "select nonsense from nowhere", NULL, &f->err);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_ok(&f->err);
}

static void test_cursor__reports_what_failed_at_its_close(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = pier_db_cursor(f->db, "select nonsense from nowhere", NULL, &f->err);
    assert_null(pier_cursor_next(cursor));
    assert_null(pier_cursor_next(cursor));
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_error(&f->err, PIER_ESQL, "no such table: nowhere: select nonsense");

    fill(f, 100);
    cursor = pier_db_cursor(f->db,
                            "select abs(case id when 90 then -9223372036854775808 else id end) "
                            "from t order by id",
                            NULL, &f->err);
    int rows = 0;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    assert_int_equal(rows, 64);
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_error(&f->err, PIER_ESQL, "integer overflow");

    cursor = pier_db_cursor(f->db, "select $1", NULL, &f->err);
    assert_null(pier_cursor_next(cursor));
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "needs 1 argument");
}

static void test_cursor__in_a_transaction_sees_its_rows(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a'), (2, 'b')", NULL);
    pier_cursor *cursor = all_rows(tx, &f->err);
    assert_int_equal(pier_row_int64(pier_cursor_next(cursor), 0), 1);
    execute(tx, "insert into t values (3, 'c')", NULL);
    assert_int_equal(pier_row_int64(pier_cursor_next(cursor), 0), 2);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 3);
}

static void test_cursor__of_an_ended_transaction_gives_no_more_rows(void **state)
{
    struct fixture *f = *state;
    fill(f, 1000);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_cursor *cursor = all_rows(tx, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    pier_db_close(tx);
    int rows = 1;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    assert_int_equal(rows, 64);
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "has ended");
    execute(f->db, "drop table t", NULL);
}

static void test_cursor__outlives_its_pool(void **state)
{
    struct fixture *f = *state;
    fill(f, 1000);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    pier_db_close(f->db);
    f->db = NULL;
    int rows = 1;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    assert_int_equal(rows, 64);
    assert_true(pier_cursor_close(cursor, &f->err) < 0);
    assert_error(&f->err, PIER_ECLOSED, NULL);
}

static void test_cursor__left_open_is_closed_with_the_runner(void **state)
{
    struct fixture *f = *state;
    fill(f, 1000);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_non_null(pier_cursor_next(all_rows(tx, &f->err)));
    assert_ok(&f->err);
    pier_runner_close(f->runner);
    f->runner = NULL;
    f->db = NULL;
}

static void test_cursor__returning_gives_the_rows_it_wrote(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = pier_db_cursor(
        f->db,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) "
        "insert into t select i, 'x' from n returning id",
        NULL, &f->err);
    int64_t rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        assert_int_equal(pier_row_int64(row, 0), ++rows);
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 200);
}

static void test_cursor__returning_keeps_all_it_wrote_when_closed_early(void **state)
{
    struct fixture *f = *state;
    pier_cursor *cursor = pier_db_cursor(
        f->db,
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < 200) "
        "insert into t select i, 'x' from n returning id",
        NULL, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 200);
}

/* The only connection is held by a transaction of the same thread, so that the close cannot reach
 * it: what the cursor had open is taken back by the next request. */
static void test_cursor__closed_without_its_connection_is_reclaimed(void **state)
{
    struct fixture *f = *state;
    fill(f, 1000);
    pier_cursor *cursor = all_rows(f->db, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_ok(&f->err);
    execute(tx, "drop table t", NULL);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cursor__reads_100000_rows),
        TEST(test_cursor__blocks_grow_and_an_empty_one_is_the_end),
        TEST(test_cursor__blocks_beyond_the_end_have_the_columns),
        TEST(test_cursor__finds_its_columns_after_the_last_row),
        TEST(test_cursor__a_block_of_wide_rows_is_bounded),
        TEST(test_cursor__finds_columns_before_and_after_its_rows),
        TEST(test_cursor__of_no_rows_has_columns),
        TEST(test_cursor__binds_its_own_copy_of_the_arguments),
        TEST(test_cursor__others_write_between_its_rows),
        TEST(test_cursor__several_of_the_same_statement_keep_apart),
        TEST(test_cursor__abandoned_half_way_leaves_nothing_locked),
        TEST(test_cursor__that_was_never_read_closes),
        TEST(test_cursor__reports_what_failed_at_its_close),
        TEST(test_cursor__in_a_transaction_sees_its_rows),
        TEST(test_cursor__of_an_ended_transaction_gives_no_more_rows),
        TEST(test_cursor__outlives_its_pool),
        TEST(test_cursor__left_open_is_closed_with_the_runner),
        TEST(test_cursor__returning_gives_the_rows_it_wrote),
        TEST(test_cursor__returning_keeps_all_it_wrote_when_closed_early),
        TEST(test_cursor__closed_without_its_connection_is_reclaimed),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
