/* Where Postgres, libpq or the protocol have their limits. */
#include "tests/integration/postgres_fixture.h"

/* ---- Arguments ---------------------------------------------------------------------------- */

/* "select $1::int + $2::int ...", as a sum that does not nest: unnest would not count arguments. */
static char *sum_of(int count)
{
    char *sql = malloc((size_t)count * 16 + 64), *at = sql;
    at += sprintf(at, "select sum(n)::int8 from (values ");
    for (int i = 1; i <= count; i++) {
        at += sprintf(at, "%s($%d::int)", i > 1 ? "," : "", i);
    }
    strcpy(at, ") as v(n)");
    return sql;
}

static pier_args many_arguments(int count)
{
    pier_value *values = calloc((size_t)count, sizeof *values);
    for (int i = 0; i < count; i++) {
        values[i] = pier_int64(1);
    }
    return (pier_args){(size_t)count, values, NULL};
}

static int64_t sum_ones(int count, pier_error *err)
{
    int64_t sum = -1;
    char *sql = sum_of(count);
    pier_args args = many_arguments(count);
    int got = pier_db_fetch_into(db, sql, &args, PIER_INTO(&sum), err);
    free(sql);
    free((void *)args.values);
    return got == 1 ? sum : got;
}

static void test_arguments__up_to_what_the_protocol_can_count(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(sum_ones(32767, &err), 32767);
    assert_int_equal(sum_ones(32768, &err), 32768);
    assert_int_equal(sum_ones(65535, &err), 65535);
    assert_int_equal(err.status, 0);
    assert_int_equal(sum_ones(65536, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "65536 arguments"));
    assert_non_null(strstr(err.message, "65,535"));
    memset(&err, 0, sizeof err);
    assert_int_equal(sum_ones(2, &err), 2);
}

static void test_arguments__of_a_row_and_of_a_cursor_have_the_same_limit(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_args args = many_arguments(65536);
    assert_int_equal(pier_db_execute_many(db, "select 1", &args, 1, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "65536"));
    memset(&err, 0, sizeof err);
    pier_cursor *cursor = pier_db_cursor(db, "select 1", &args, &err);
    assert_null(pier_cursor_next(cursor));
    assert_int_equal(pier_cursor_close(cursor, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "65536"));
    free((void *)args.values);
}

SCENARIO(test_arguments__text_with_a_zero_byte_is_refused_before_it_is_sent)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "select $1::text, $2::text",
                           PIER_ARGS("fine", pier_text_sized("a\0b", 3)), &e) == PIER_EINVAL);
    EXPECT(strstr(e.message, "argument 2: text with a zero byte"));
    memset(&e, 0, sizeof e);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "select $1::jsonb", PIER_ARGS(pier_text_sized("\0", 1)), &e) ==
           PIER_EINVAL);
    EXPECT(strstr(e.message, "argument 1: text with a zero byte"));
    pier_db_close(tx);
    return 0;
}

/* ---- Encodings ---------------------------------------------------------------------------- */

static const char umlaut[] = "\xC3\xBC";

/* The URL and the environment cannot change it, because text here is UTF-8. */
static void test_encoding__is_utf8_whatever_the_url_says(void **state)
{
    (void)state;
    pier_error err = {0};
    char url[600];
    snprintf(url, sizeof url, "%s%cclient_encoding=LATIN1", server.url_unix,
             strchr(server.url_unix, '?') ? '&' : '?');
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    char seen[8] = "", name[16] = "";
    assert_int_equal(pier_db_fetch_into(pool, "select $1, current_setting('client_encoding')",
                                        PIER_ARGS(umlaut),
                                        PIER_INTO(pier_into_buffer(seen, sizeof seen),
                                                  pier_into_buffer(name, sizeof name)),
                                        &err),
                     1);
    assert_string_equal(seen, umlaut);
    assert_string_equal(name, "UTF8");
    pier_db_close(pool);
}

SCENARIO(test_encoding__another_one_is_refused_and_undone)
{
    static const char *const statements[] = {
        "set client_encoding = 'LATIN1'", "set names 'LATIN1'",
        "select set_config('client_encoding', 'latin1', false)"};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        pier_error e = {0};
        pier_db *lease = pier_db_lease(pool, &e);
        EXPECT(pier_db_execute(lease, statements[i], NULL, &e) == PIER_EINVAL);
        EXPECT(strstr(e.message, "client_encoding") && strstr(e.message, "UTF-8"));
        pier_db_close(lease);
        memset(&e, 0, sizeof e);
        char seen[8] = "";
        EXPECT(pier_db_fetch_into(pool, "select $1::text", PIER_ARGS(umlaut),
                                  PIER_INTO(pier_into_buffer(seen, sizeof seen)), &e) == 1);
        EXPECT(strcmp(seen, umlaut) == 0);
    }
    return 0;
}

SCENARIO(test_encoding__setting_it_to_what_it_is_does_no_harm)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute(lease, "set client_encoding = 'utf-8'", NULL, &e) == 0);
    EXPECT(pier_db_execute(lease, "select 1", NULL, &e) == 0);
    pier_db_close(lease);
    return e.status;
}

/* ---- Scripts ------------------------------------------------------------------------------ */

SCENARIO(test_script__is_one_transaction_where_it_does_not_say_otherwise)
{
    pier_error e = {0};
    EXPECT(pier_db_execute_script(pool,
                                  "create table s(n int); insert into s values (1);"
                                  "insert into s values (1 / 0); insert into s values (2)",
                                  &e) == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "22012") == 0);
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_execute(pool, "select * from s", NULL, &e) == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "42P01") == 0);
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_execute_script(pool,
                                  "begin; create table s(n int); insert into s values (1); commit;"
                                  "insert into s values (1 / 0)",
                                  &e) == PIER_ESQL);
    memset(&e, 0, sizeof e);
    int64_t rows = -1;
    EXPECT(pier_db_fetch_into(pool, "select count(*) from s", NULL, PIER_INTO(&rows), &e) == 1);
    EXPECT(rows == 1);
    EXPECT(pier_db_execute_script(pool, "drop table s;;  ; select 1", &e) == 0);
    return 0;
}

SCENARIO(test_script__an_empty_statement_is_none)
{
    pier_error e = {0};
    static const char *const nothing[] = {"", "  ", ";", "-- nothing", "/* nothing */"};
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        EXPECT(pier_db_execute_script(pool, nothing[i], &e) == 0);
        EXPECT(pier_db_execute(pool, nothing[i], NULL, &e) == 0);
        pier_result *result = pier_db_fetch(pool, nothing[i], NULL, &e);
        EXPECT(result && pier_result_count(result) == 0 && pier_result_columns(result) == 0);
        pier_result_free(result);
        pier_cursor *cursor = pier_db_cursor(pool, nothing[i], NULL, &e);
        EXPECT(!pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == 0);
    }
    return 0;
}

/* ---- COPY --------------------------------------------------------------------------------- */

SCENARIO(test_copy__from_stdin_fails_cleanly)
{
    static const char *const statements[] = {"copy c from stdin", " /* x */ COPY c FROM STDIN",
                                             "-- x\ncopy c(n) from stdin with (format csv)"};
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table c(n int)", NULL, &e) == 0);
    pier_db *lease = pier_db_lease(pool, &e);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        for (int again = 0; again < 2; again++) {
            memset(&e, 0, sizeof e);
            EXPECT(pier_db_execute(lease, statements[i], NULL, &e) == PIER_ESQL);
            EXPECT(strcmp(e.sqlstate, "57014") == 0);
            memset(&e, 0, sizeof e);
            EXPECT(!pier_db_fetch(lease, statements[i], NULL, &e) && e.status == PIER_ESQL);
        }
        memset(&e, 0, sizeof e);
        EXPECT(pier_db_execute_script(lease, statements[i], &e) == PIER_ESQL);
        memset(&e, 0, sizeof e);
        pier_cursor *cursor = pier_db_cursor(lease, statements[i], NULL, &e);
        EXPECT(!pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == PIER_ESQL);
        memset(&e, 0, sizeof e);
        /* The connection is as good as before. */
        EXPECT(pier_db_execute(lease, "insert into c values (1)", NULL, &e) == 1);
    }
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_copy__to_stdout_drops_what_comes)
{
    static const char *const statements[] = {"copy (select generate_series(1, 20000)) to stdout",
                                             "/* x */ copy (select 1) to stdout"};
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        for (int again = 0; again < 2; again++) {
            EXPECT(pier_db_execute(lease, statements[i], NULL, &e) >= 0);
            pier_result *result = pier_db_fetch(lease, statements[i], NULL, &e);
            EXPECT(result && pier_result_count(result) == 0);
            pier_result_free(result);
        }
        EXPECT(pier_db_execute_script(lease, statements[i], &e) == 0);
        pier_cursor *cursor = pier_db_cursor(lease, statements[i], NULL, &e);
        EXPECT(!pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == 0);
        int64_t one = 0;
        EXPECT(pier_db_fetch_into(lease, "select 1", NULL, PIER_INTO(&one), &e) == 1);
    }
    pier_db_close(lease);
    return 0;
}

/* ---- Cursors ------------------------------------------------------------------------------ */

/* With its last rows a cursor is closed on the server, and its table can be changed. */
SCENARIO(test_cursor__at_its_end_is_closed_on_the_server)
{
    pier_error e = {0};
    pier_db_execute(pool, "create table c as select generate_series(1, 300) as n", NULL, &e);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    for (int i = 0; i < 100; i++) {
        pier_cursor *cursor = pier_db_cursor(tx, "select n from c", NULL, &e);
        size_t rows = 0;
        for (size_t count = 1; rows < 300 && count; rows += count) {
            pier_result *block = pier_cursor_block(cursor, &e);
            EXPECT(block);
            count = pier_result_count(block);
            pier_result_free(block);
        }
        EXPECT(rows == 300);
        int64_t open = -1;
        EXPECT(pier_db_fetch_into(tx, "select count(*) from pg_cursors where name like 'pier%'",
                                  NULL, PIER_INTO(&open), &e) == 1);
        EXPECT(open == 0);
        EXPECT(pier_cursor_close(cursor, &e) == 0);
    }
    EXPECT(pier_db_execute(tx, "drop table c", NULL, &e) == 0);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    return 0;
}

/* What comes next may be another cursor, which takes its name. */
SCENARIO(test_cursor__others_follow_one_that_has_ended)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    for (int i = 0; i < 20; i++) {
        pier_cursor *one = pier_db_cursor(tx, "select 1", NULL, &e);
        pier_cursor *two = pier_db_cursor(tx, "values (1), (2)", NULL, &e);
        int rows = 0;
        rows += pier_cursor_next(two) != NULL;
        rows += pier_cursor_next(one) != NULL;
        rows += pier_cursor_next(two) != NULL;
        EXPECT(rows == 3 && !pier_cursor_next(one) && !pier_cursor_next(two));
        EXPECT(pier_cursor_close(one, &e) == 0 && pier_cursor_close(two, &e) == 0);
    }
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    return 0;
}

/* Given back in this moment, with a transaction of its user's open, the connection is not reused.
 */
SCENARIO(test_cursor__that_has_ended_may_be_the_last_use_of_a_lease)
{
    pier_error e = {0};
    for (int i = 0; i < 3; i++) {
        pier_db *lease = pier_db_lease(pool, &e);
        pier_db_execute(lease, "begin", NULL, &e);
        pier_cursor *cursor = pier_db_cursor(lease, "select 1", NULL, &e);
        EXPECT(pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == 0);
        pier_db_close(lease);
        EXPECT(pier_db_execute(pool, "select 1", NULL, &e) == 0);
    }
    return 0;
}

/* ---- The statement cache ------------------------------------------------------------------ */

static int64_t prepared_on(const char *key)
{
    pier_error err = {0};
    char url[600], sql[64];
    int64_t count = -1;
    snprintf(url, sizeof url, "%s%c%s", server.url_unix, strchr(server.url_unix, '?') ? '&' : '?',
             key);
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err);
    for (int i = 0; i < 30; i++) {
        int64_t sum = 0;
        snprintf(sql, sizeof sql, "select %d + $1::int8", i % 10);
        if (pier_db_fetch_into(pool, sql, PIER_ARGS(5), PIER_INTO(&sum), &err) != 1 ||
            sum != i % 10 + 5) {
            fail_msg("%s", err.message);
        }
    }
    assert_int_equal(pier_db_fetch_into(pool, "select count(*) from pg_prepared_statements", NULL,
                                        PIER_INTO(&count), &err),
                     1);
    pier_db_close(pool);
    return count;
}

static void test_cache__holds_what_the_url_says(void **state)
{
    (void)state;
    /* Those in it; the one that asks; and one that is closed with the next that is prepared. */
    assert_int_equal(prepared_on("pier_statement_cache=10"), 11);
    int64_t few = prepared_on("pier_statement_cache=3");
    assert_true(few >= 3 && few <= 5);
    assert_int_equal(prepared_on("pier_statement_cache=0"), 0);
    assert_int_equal(prepared_on("pier_statements=unnamed"), 0);
}

/* ---- Rows --------------------------------------------------------------------------------- */

SCENARIO(test_rows__of_any_width)
{
    enum { WIDE = 32 << 20, COLUMNS = 1600 };
    pier_error e = {0};
    char *wide = malloc(WIDE);
    memset(wide, 'w', WIDE);
    pier_result *result =
        pier_db_fetch(pool, "select $1::bytea, length($1)", PIER_ARGS(pier_bytes(wide, WIDE)), &e);
    size_t size = 0;
    EXPECT(result);
    const void *data = pier_row_bytes(pier_result_row(result, 0), 0, &size);
    EXPECT(size == WIDE && memcmp(data, wide, WIDE) == 0);
    pier_result_free(result);
    /* One at a time, each more than a block should have. */
    pier_cursor *cursor = pier_db_cursor(
        pool, "select repeat(chr(96 + n), 3000000) from generate_series(1, 6) as n", NULL, &e);
    int rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        const char *text = pier_row_text(row, 0);
        EXPECT(text && strlen(text) == 3000000 && text[2999999] == 'a' + rows);
        rows++;
    }
    EXPECT(pier_cursor_close(cursor, &e) == 0 && rows == 6);
    free(wide);
    char *sql = malloc(COLUMNS * 16), *at = sql + sprintf(sql, "select 0");
    for (int i = 1; i < COLUMNS; i++) {
        at += sprintf(at, ",%d", i);
    }
    result = pier_db_fetch(pool, sql, NULL, &e);
    EXPECT(result && pier_result_columns(result) == COLUMNS);
    EXPECT(pier_row_int64(pier_result_row(result, 0), COLUMNS - 1) == COLUMNS - 1);
    pier_result_free(result);
    free(sql);
    return 0;
}

/* One column that has no binary form here makes the whole result text; values are the same. */
SCENARIO(test_rows__are_the_same_in_text_and_in_binary)
{
    static const char values[] =
        "select 42::int2, -7::int4, 9007199254740993::int8, 0.1::float8, 'NaN'::float8, true, "
        "'\\x00ff'::bytea, 'text', null::int%s";
    for (int as_text = 0; as_text < 2; as_text++) {
        pier_error e = {0};
        char sql[400];
        snprintf(sql, sizeof sql, values,
                 as_text ? ", '{a,b}'::tsvector, 'pg_class'::regclass" : "");
        for (int again = 0; again < 2; again++) {
            pier_result *result = pier_db_fetch(pool, sql, NULL, &e);
            const pier_row *row = pier_result_row(result, 0);
            size_t size = 0;
            EXPECT(pier_row_int64(row, 0) == 42 && pier_row_int64(row, 1) == -7);
            EXPECT(pier_row_int64(row, 2) == INT64_C(9007199254740993));
            EXPECT(pier_row_double(row, 3) == 0.1);
            double nan = pier_row_double(row, 4);
            EXPECT(nan != nan && pier_row_bool(row, 5));
            EXPECT(memcmp(pier_row_bytes(row, 6, &size), "\0\377", 2) == 0 && size == 2);
            EXPECT(strcmp(pier_row_text(row, 7), "text") == 0 && pier_row_is_null(row, 8));
            EXPECT(!as_text || strcmp(pier_row_text(row, 10), "pg_class") == 0);
            EXPECT(pier_result_check(result, &e) == 0);
            pier_result_free(result);
        }
    }
    return 0;
}

/* A server that refuses COPY FROM STDIN at once reads what stands behind it; one that first asks
 * for data does not. Whichever it does, the next one must not get an answer that is not its own. */
SCENARIO(test_copy__that_is_refused_leaves_no_answer_behind)
{
    static const char *const copies[] = {"copy v from stdin", "copy t from stdin",
                                         "copy nowhere from stdin"};
    const pier_args rows[] = {*PIER_ARGS(1), *PIER_ARGS(2)};
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute_script(lease,
                                  "create table t(id int primary key); create view v as select * "
                                  "from t",
                                  &e) == 0);
    EXPECT(pier_db_execute_many(lease, "insert into t values ($1)", rows, 2, &e) == 2);
    for (int i = 0; i < 6; i++) {
        pier_error refused = {0}, twice = {0};
        int number = 0;
        EXPECT(pier_db_execute(lease, copies[i % 3], NULL, &refused) < 0);
        EXPECT(refused.status == PIER_ESQL);
        EXPECT(pier_db_execute_many(lease, "insert into t values ($1)", rows, 2, &twice) < 0);
        EXPECT(twice.status == PIER_ECONSTRAINT);
        EXPECT(pier_db_fetch_into(lease, "select $1::int", PIER_ARGS(i), PIER_INTO(&number), &e) ==
               1);
        EXPECT(number == i);
    }
    pier_db_close(lease);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_copy__that_is_refused_leaves_no_answer_behind),
        TEST(test_arguments__up_to_what_the_protocol_can_count),
        TEST(test_arguments__of_a_row_and_of_a_cursor_have_the_same_limit),
        BOTH(test_arguments__text_with_a_zero_byte_is_refused_before_it_is_sent),
        TEST(test_encoding__is_utf8_whatever_the_url_says),
        BOTH(test_encoding__another_one_is_refused_and_undone),
        BOTH(test_encoding__setting_it_to_what_it_is_does_no_harm),
        BOTH(test_script__is_one_transaction_where_it_does_not_say_otherwise),
        BOTH(test_script__an_empty_statement_is_none),
        BOTH(test_copy__from_stdin_fails_cleanly),
        BOTH(test_copy__to_stdout_drops_what_comes),
        BOTH(test_cursor__at_its_end_is_closed_on_the_server),
        BOTH(test_cursor__others_follow_one_that_has_ended),
        BOTH(test_cursor__that_has_ended_may_be_the_last_use_of_a_lease),
        TEST(test_cache__holds_what_the_url_says),
        BOTH(test_rows__of_any_width),
        BOTH(test_rows__are_the_same_in_text_and_in_binary),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
