/* Postgres: types, statements, errors, transactions and cursors, on a thread, in a task, and with
 * futures. */
#include "tests/integration/postgres_fixture.h"

#include "sdk/alloc.h"

#include <limits.h>
#include <math.h>

static int64_t fetch_int(pier_db *pool, const char *sql, pier_error *err)
{
    int64_t number = INT64_MIN;
    return pier_db_fetch_into(pool, sql, NULL, PIER_INTO((long long *)&number), err) == 1
               ? number
               : INT64_MIN;
}

/* Types. */

#define ALL_TYPES "select b, i2, i4, i8, f4, f8, t, v, c, by, j, jb, o"

static int create_types(pier_db *pool, pier_error *err)
{
    return pier_db_execute_script(
        pool,
        "create table types(b boolean, i2 smallint, i4 integer, i8 bigint, f4 real, f8 double "
        "precision, t text, v varchar(20), c char(4), by bytea, j json, jb jsonb, o oid, n "
        "numeric, "
        "d date, ts timestamptz, u uuid, a integer[])",
        err);
}

static int insert_types(pier_db *pool, pier_error *err)
{
    return (int)pier_db_execute(pool,
                                "insert into types values($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, "
                                "$11, $12, $13, $14, $15, "
                                "$16, $17, $18)",
                                PIER_ARGS(true, -2, INT_MIN, INT64_MAX, 0.5, 0.1, "grüße", "var",
                                          "ab", pier_bytes("\0\xff\\x", 4), "{\"a\": 1}", "[1, 2]",
                                          4294967295u, "12345678901234567890.5", "2024-02-29",
                                          "2024-02-29 12:00:00+00",
                                          "00112233-4455-6677-8899-aabbccddeeff", "{1,2}"),
                                err);
}

/* The columns that are there in both formats. */
static int check_types(const pier_row *row, pier_error *err)
{
    pier_error e = {0};
    size_t size;
    EXPECT(pier_row_value(row, 0).type == PIER_BOOL && pier_row_bool(row, 0));
    EXPECT(pier_row_int64(row, 1) == -2);
    EXPECT(pier_row_int64(row, 2) == INT_MIN);
    EXPECT(pier_row_int64(row, 3) == INT64_MAX);
    EXPECT(pier_row_double(row, 4) == 0.5);
    EXPECT(pier_row_double(row, 5) == 0.1);
    EXPECT(strcmp(pier_row_text(row, 6), "grüße") == 0);
    EXPECT(strcmp(pier_row_text(row, 7), "var") == 0);
    EXPECT(strcmp(pier_row_text(row, 8), "ab  ") == 0);
    const void *bytes = pier_row_bytes(row, 9, &size);
    EXPECT(size == 4 && memcmp(bytes, "\0\xff\\x", 4) == 0);
    EXPECT(pier_row_value(row, 9).type == PIER_BYTES);
    EXPECT(strcmp(pier_row_text(row, 10), "{\"a\": 1}") == 0);
    EXPECT(strcmp(pier_row_text(row, 11), "[1, 2]") == 0);
    EXPECT(pier_row_int64(row, 12) == 4294967295);
    return 0;
}

SCENARIO(test_types__make_the_round_trip_in_binary)
{
    pier_error e = {0};
    EXPECT(create_types(pool, &e) == 0 && insert_types(pool, &e) == 1);
    for (int again = 0; again < 2; again++) {
        /* With an argument it is in binary from the first time on. */
        pier_result *rows =
            pier_db_fetch(pool, ALL_TYPES " from types where i2 = $1", PIER_ARGS(-2), &e);
        EXPECT(pier_result_count(rows) == 1);
        EXPECT(check_types(pier_result_row(rows, 0), &e) == 0);
        EXPECT(pier_result_check(rows, &e) == 0);
        pier_result_free(rows);
    }
    return 0;
}

SCENARIO(test_types__make_the_round_trip_in_text)
{
    pier_error e = {0};
    EXPECT(create_types(pool, &e) == 0 && insert_types(pool, &e) == 1);
    for (int again = 0; again < 2; again++) {
        pier_result *rows = pier_db_fetch(pool, ALL_TYPES ", n, d, ts, u, a from types", NULL, &e);
        EXPECT(pier_result_count(rows) == 1);
        const pier_row *row = pier_result_row(rows, 0);
        EXPECT(check_types(row, &e) == 0);
        EXPECT(pier_row_value(row, 13).type == PIER_NUMERIC);
        EXPECT(strcmp(pier_row_text(row, 13), "12345678901234567890.5") == 0);
        EXPECT(strcmp(pier_row_text(row, 14), "2024-02-29") == 0);
        EXPECT(strcmp(pier_row_text(row, 16), "00112233-4455-6677-8899-aabbccddeeff") == 0);
        EXPECT(strcmp(pier_row_text(row, 17), "{1,2}") == 0);
        EXPECT(pier_result_check(rows, &e) == 0);
        pier_result_free(rows);
    }
    return 0;
}

SCENARIO(test_types__null_and_empty_are_different)
{
    pier_error e = {0};
    pier_result *rows =
        pier_db_fetch(pool, "select $1::text, $2::text, $3::bytea, $4::int, $5::date",
                      PIER_ARGS(NULL, "", pier_bytes("", 0), NULL, NULL), &e);
    const pier_row *row = pier_result_row(rows, 0);
    EXPECT(row && pier_row_is_null(row, 0) && !pier_row_is_null(row, 1));
    EXPECT(pier_row_text(row, 0) == NULL && strcmp(pier_row_text(row, 1), "") == 0);
    EXPECT(!pier_row_is_null(row, 2) && pier_row_is_null(row, 3) && pier_row_is_null(row, 4));
    pier_result_free(rows);
    return 0;
}

SCENARIO(test_types__special_numbers)
{
    pier_error e = {0};
    double numbers[4];
    EXPECT(pier_db_fetch_into(pool, "select $1::float8, $2::float8, $3::real, $4::float8",
                              PIER_ARGS(INFINITY, NAN, -INFINITY, 5e-324),
                              PIER_INTO(&numbers[0], &numbers[1], &numbers[2], &numbers[3]),
                              &e) == 1);
    EXPECT(isinf(numbers[0]) && isnan(numbers[1]) && numbers[2] == -INFINITY);
    EXPECT(numbers[3] == 5e-324);
    return 0;
}

SCENARIO(test_types__large_values)
{
    enum { SIZE = 3000000 };
    pier_error e = {0};
    char *bytes = malloc(SIZE);
    for (int i = 0; i < SIZE; i++) {
        bytes[i] = (char)(i * 7);
    }
    pier_result *rows =
        pier_db_fetch(pool, "select $1::bytea, length($1)", PIER_ARGS(pier_bytes(bytes, SIZE)), &e);
    size_t size = 0;
    const void *back = rows ? pier_row_bytes(pier_result_row(rows, 0), 0, &size) : NULL;
    bool same = size == SIZE && memcmp(back, bytes, SIZE) == 0;
    free(bytes);
    EXPECT(same);
    pier_result_free(rows);
    return 0;
}

SCENARIO(test_types__wrong_arguments_are_refused_before_they_are_sent)
{
    pier_error e = {0};
    const char *sql = "select $1::int";
    EXPECT(pier_db_execute(pool, sql, PIER_ARGS("1"), &e) == PIER_ETYPE);
    EXPECT(strstr(e.message, "argument 1 is text, but the statement wants integer"));
    EXPECT(strstr(e.message, sql));
    EXPECT(pier_db_execute(pool, sql, PIER_ARGS(INT64_MAX), &e) == PIER_ERANGE);
    EXPECT(pier_db_execute(pool, sql, PIER_ARGS(1, 2), &e) == PIER_EINVAL);
    EXPECT(strstr(e.message, "has 1 parameter, 2 given"));
    EXPECT(pier_db_execute(pool, sql, NULL, &e) == PIER_EINVAL);
    EXPECT(pier_db_execute(pool, "select $1::int + 1", NULL, &e) == PIER_EINVAL);
    EXPECT(strstr(e.message, "has 1 parameter, 0 given"));
    EXPECT(fetch_int(pool, "select 7", &e) == 7);
    return 0;
}

/* Statements. */

SCENARIO(test_execute__counts_what_it_changed)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "insert into t select generate_series(1, 10)", NULL, &e) == 10);
    EXPECT(pier_db_execute(pool, "insert into t values($1) returning id", PIER_ARGS(11), &e) == 1);
    EXPECT(pier_db_execute(pool, "update t set id = id + 1 where id > $1", PIER_ARGS(5), &e) == 6);
    EXPECT(pier_db_execute(pool, "select * from t", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "select * from t", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "delete from t", NULL, &e) == 11);
    EXPECT(pier_db_execute(pool, "", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "-- nothing", NULL, &e) == 0);
    return 0;
}

SCENARIO(test_execute__takes_what_must_run_outside_transactions)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "vacuum t", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "vacuum t", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "create index concurrently i on t(id)", NULL, &e) == 0);
    return 0;
}

SCENARIO(test_execute__survives_copy)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "insert into t select generate_series(1, 5000)", NULL, &e) ==
           5000);
    for (int again = 0; again < 2; again++) {
        EXPECT(pier_db_execute(pool, "copy t to stdout", NULL, &e) >= 0);
        EXPECT(pier_db_execute(pool, "/* */ copy t to stdout", NULL, &e) >= 0);
        EXPECT(pier_db_execute(pool, "copy t from stdin", NULL, &e) == PIER_ESQL);
        EXPECT(strstr(e.message, "needs a writer"));
        EXPECT(pier_db_execute(pool, "/* */ copy t from stdin", NULL, &e) == PIER_ESQL);
        EXPECT(fetch_int(pool, "select count(*) from t", &e) == 5000);
    }
    return 0;
}

SCENARIO(test_script__runs_several_statements_and_stops_at_the_first_error)
{
    pier_error e = {0};
    EXPECT(pier_db_execute_script(pool,
                                  "create table t(id int); insert into t values(1); commit;"
                                  "insert into t values(2)",
                                  &e) == 0);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 2);
    EXPECT(pier_db_execute_script(pool,
                                  "begin; insert into t values(3); commit; select 1/0; "
                                  "insert into t values(4)",
                                  &e) == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "22012") == 0);
    EXPECT(fetch_int(pool, "select max(id) from t", &e) == 3);
    /* One that is left open goes with the request, which says so. */
    EXPECT(pier_db_execute_script(pool, "begin; insert into t values(5)", &e) == PIER_EINVAL);
    EXPECT(fetch_int(pool, "select max(id) from t", &e) == 3);
    return 0;
}

/* As the same on SQLite: a datatype mismatch. */
SCENARIO(test_execute__text_that_is_no_value_of_its_type_is_a_matter_of_type)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "select 'one'::text::int", NULL, &e) == PIER_ETYPE);
    EXPECT(strcmp(e.sqlstate, "22P02") == 0);
    return 0;
}

SCENARIO(test_types__real_as_text_has_its_own_digits)
{
    pier_error e = {0};
    pier_result *rows = pier_db_fetch(pool, "select 0.1::real, 0.1::float8, 1e10::real", NULL, &e);
    const pier_row *row = pier_result_row(rows, 0);
    EXPECT(row && strcmp(pier_row_text(row, 0), "0.1") == 0);
    EXPECT(strcmp(pier_row_text(row, 1), "0.1") == 0 &&
           strcmp(pier_row_text(row, 2), "1e+10") == 0);
    EXPECT(pier_row_double(row, 0) == 0.1f);
    pier_result_free(rows);
    return 0;
}

SCENARIO(test_fetch__statements_without_rows_and_without_columns)
{
    pier_error e = {0};
    pier_result *rows = pier_db_fetch(pool, "create table t(id int)", NULL, &e);
    EXPECT(rows && pier_result_count(rows) == 0 && pier_result_columns(rows) == 0);
    pier_result_free(rows);
    rows = pier_db_fetch(pool, "select id, 1 as one from t", NULL, &e);
    EXPECT(rows && pier_result_count(rows) == 0 && pier_result_columns(rows) == 2);
    EXPECT(strcmp(pier_result_column_name(rows, 1), "one") == 0);
    pier_result_free(rows);
    rows = pier_db_fetch(pool, "select from generate_series(1, 3)", NULL, &e);
    EXPECT(rows && pier_result_count(rows) == 3 && pier_result_columns(rows) == 0);
    pier_result_free(rows);
    return 0;
}

#define COUNT_PREPARED "select count(*) from pg_prepared_statements"

SCENARIO(test_statements__are_prepared_once)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(lease && fetch_int(lease, COUNT_PREPARED, &e) >= 0);
    int64_t before = fetch_int(lease, COUNT_PREPARED, &e);
    for (int i = 0; i < 10; i++) {
        int number = 0;
        EXPECT(pier_db_fetch_into(lease, "select $1::int", PIER_ARGS(i), PIER_INTO(&number), &e) ==
               1);
        EXPECT(number == i);
    }
    EXPECT(fetch_int(lease, COUNT_PREPARED, &e) == before + 1);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_statements__of_long_ago_are_closed_on_the_server)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    char sql[64];
    for (int i = 0; i < 300; i++) {
        snprintf(sql, sizeof sql, "select %d + $1::int", i);
        int number = 0;
        EXPECT(pier_db_fetch_into(lease, sql, PIER_ARGS(1), PIER_INTO(&number), &e) == 1);
        EXPECT(number == i + 1);
    }
    EXPECT(fetch_int(lease, COUNT_PREPARED, &e) <= 102);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_statements__too_long_for_the_cache_are_not_kept)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(lease && fetch_int(lease, COUNT_PREPARED, &e) >= 0);
    int64_t before = fetch_int(lease, COUNT_PREPARED, &e);
    char *sql = malloc(20001);
    memset(sql, ' ', 20000);
    memcpy(sql, "select $1::int", 14);
    sql[20000] = 0;
    int number = 0;
    for (int i = 0; i < 3; i++) {
        if (pier_db_fetch_into(lease, sql, PIER_ARGS(42), PIER_INTO(&number), &e) != 1) {
            number = -1;
        }
    }
    free(sql);
    EXPECT(number == 42);
    /* Leaving out the unnamed one. */
    EXPECT(fetch_int(lease, COUNT_PREPARED " where name <> ''", &e) <= before + 1);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_statements__survive_a_change_of_the_schema)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute(lease, "create table t(id int)", NULL, &e) == 0);
    EXPECT(pier_db_execute(lease, "insert into t values(1)", NULL, &e) == 1);
    for (int i = 1; i < 4; i++) {
        char alter[64];
        pier_result *rows = pier_db_fetch(lease, "select * from t where id = $1", PIER_ARGS(1), &e);
        EXPECT(rows && pier_result_columns(rows) == i && pier_result_count(rows) == 1);
        pier_result_free(rows);
        pier_cursor *cursor = pier_db_cursor(lease, "select * from t", NULL, &e);
        const pier_row *row = pier_cursor_next(cursor);
        EXPECT(row && pier_row_int64(row, 0) == 1);
        EXPECT(pier_cursor_close(cursor, &e) == 0);
        snprintf(alter, sizeof alter, "alter table t add column c%d text", i);
        EXPECT(pier_db_execute(lease, alter, NULL, &e) == 0);
    }
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_statements__survive_a_change_of_the_schema_in_the_next_transaction)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute(lease, "create table t(id int)", NULL, &e) == 0);
    EXPECT(pier_db_execute(lease, "select * from t", NULL, &e) == 0);
    EXPECT(pier_db_execute(lease, "alter table t add column name text", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(lease, NULL, &e);
    EXPECT(tx && pier_db_execute(tx, "select * from t", NULL, &e) == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "0A000") == 0);
    pier_db_close(tx);
    tx = pier_db_begin(lease, NULL, &e);
    EXPECT(tx && pier_db_execute(tx, "select * from t", NULL, &e) == 0);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_statements__survive_being_closed_by_somebody_else)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    int number = 0;
    for (int i = 0; i < 3; i++) {
        EXPECT(pier_db_fetch_into(lease, "select $1::int", PIER_ARGS(7), PIER_INTO(&number), &e) ==
               1);
        EXPECT(pier_db_execute_script(lease, "deallocate all", &e) == 0);
    }
    pier_db_close(lease);
    return 0;
}

/* Errors. */

SCENARIO(test_errors__have_everything_that_the_server_said)
{
    pier_error e = {0};
    EXPECT(
        pier_db_execute_script(pool,
                               "create table parents(id int primary key);"
                               "create table children(id int primary key, age int check (age > 0), "
                               "parent int references parents)",
                               &e) == 0);
    EXPECT(pier_db_execute(pool, "insert into children values(1, -5, null)", NULL, &e) ==
           PIER_ECONSTRAINT);
    EXPECT(strcmp(e.sqlstate, "23514") == 0 && strcmp(e.constraint, "children_age_check") == 0);
    EXPECT(e.origin == PIER_ORIGIN_POSTGRES);
    EXPECT(strcmp(pier_error_field(&e, PIER_FIELD_TABLE), "children") == 0);
    EXPECT(strcmp(pier_error_field(&e, PIER_FIELD_SCHEMA), "public") == 0);
    EXPECT(strcmp(pier_error_field(&e, PIER_FIELD_SEVERITY), "ERROR") == 0);
    EXPECT(strstr(pier_error_field(&e, PIER_FIELD_DETAIL), "Failing row"));
    EXPECT(pier_db_execute(pool, "insert into children values(1, 5, 9)", NULL, &e) ==
           PIER_ECONSTRAINT);
    EXPECT(strcmp(e.sqlstate, "23503") == 0);
    EXPECT(pier_db_execute(pool, "insert into children values(null, 1, null)", NULL, &e) ==
           PIER_ECONSTRAINT);
    EXPECT(strcmp(pier_error_field(&e, PIER_FIELD_COLUMN), "id") == 0);
    EXPECT(pier_db_execute(pool, "selec 1", NULL, &e) == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "42601") == 0 && strstr(e.message, ": selec 1"));
    EXPECT(strcmp(pier_error_field(&e, PIER_FIELD_POSITION), "1") == 0);
    EXPECT(pier_db_execute(pool, "select 2147483647 + $1::int", PIER_ARGS(1), &e) == PIER_ERANGE);
    EXPECT(pier_db_execute(pool, "select 1; select 2", NULL, &e) == PIER_ESQL);
    EXPECT(fetch_int(pool, "select 1", &e) == 1);
    return 0;
}

SCENARIO(test_errors__of_locks)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "lock table t", NULL, &e) == 0);
    EXPECT(pier_db_execute(pool, "lock table t nowait", NULL, &e) != 0);
    pier_db *other = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(other, "lock table t nowait", NULL, &e) == PIER_EBUSY);
    pier_db_close(other);
    pier_db_close(tx);
    return 0;
}

/* Transactions. */

SCENARIO(test_transaction__commits_and_rolls_back)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(1)", NULL, &e) == 1);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 0);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(2)", NULL, &e) == 1);
    pier_db_close(tx);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 1);
    return 0;
}

SCENARIO(test_transaction__options_reach_the_server)
{
    pier_error e = {0};
    char *level = NULL, *read_only = NULL;
    pier_db *tx = pier_db_begin(
        pool, PIER_TX_OPTIONS(.isolation = PIER_REPEATABLE_READ, .read_only = true), &e);
    EXPECT(pier_db_fetch_into(tx,
                              "select current_setting('transaction_isolation'), "
                              "current_setting('transaction_read_only')",
                              NULL, PIER_INTO(&level, &read_only), &e) == 1);
    bool right = strcmp(level, "repeatable read") == 0 && strcmp(read_only, "on") == 0;
    free(level);
    free(read_only);
    EXPECT(right);
    pier_db_close(tx);
    return 0;
}

SCENARIO(test_transaction__a_failed_statement_dooms_it)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int primary key)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(1)", NULL, &e) == 1);
    EXPECT(pier_db_execute(tx, "insert into t values(1)", NULL, &e) == PIER_ECONSTRAINT);
    EXPECT(pier_db_execute(tx, "insert into t values(2)", NULL, &e) < 0);
    EXPECT(pier_db_commit(tx, &e) == PIER_ECONSTRAINT);
    EXPECT(strcmp(e.constraint, "t_pkey") == 0);
    pier_db_close(tx);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 0);
    return 0;
}

SCENARIO(test_transaction__savepoints)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int primary key)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(1)", NULL, &e) == 1);
    pier_db *inner = pier_db_begin(tx, NULL, &e);
    EXPECT(pier_db_execute(inner, "insert into t values(1)", NULL, &e) == PIER_ECONSTRAINT);
    pier_db_close(inner);
    inner = pier_db_begin(tx, NULL, &e);
    EXPECT(pier_db_execute(inner, "insert into t values(2)", NULL, &e) == 1);
    EXPECT(pier_db_commit(inner, &e) == 0);
    pier_db_close(inner);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    EXPECT(fetch_int(pool, "select sum(id) from t", &e) == 3);
    return 0;
}

SCENARIO(test_transaction__deferred_constraints_fail_at_commit)
{
    pier_error e = {0};
    EXPECT(pier_db_execute_script(
               pool, "create table t(id int unique deferrable initially deferred)", &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(1), (1)", NULL, &e) == 2);
    EXPECT(pier_db_commit(tx, &e) == PIER_ECONSTRAINT);
    pier_db_close(tx);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 0);
    return 0;
}

SCENARIO(test_transaction__that_had_failed_unseen_cannot_be_committed)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_db *inner = pier_db_begin(tx, NULL, &e);
    EXPECT(pier_db_execute(inner, "select 1/0", NULL, &e) == PIER_ESQL);
    EXPECT(pier_db_commit(inner, &e) == PIER_ESQL);
    pier_db_close(inner);
    EXPECT(pier_db_execute(tx, "insert into t values(1)", NULL, &e) == 1);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 1);
    return 0;
}

SCENARIO(test_transaction__serialization_failures_have_their_own_status)
{
    pier_error e = {0};
    EXPECT(pier_db_execute_script(pool, "create table t(id int); insert into t values(1)", &e) ==
           0);
    const pier_tx_options *options = PIER_TX_OPTIONS(.isolation = PIER_REPEATABLE_READ);
    pier_db *one = pier_db_begin(pool, options, &e), *two = pier_db_begin(pool, options, &e);
    EXPECT(fetch_int(one, "select id from t", &e) == 1 &&
           fetch_int(two, "select id from t", &e) == 1);
    EXPECT(pier_db_execute(one, "update t set id = 2", NULL, &e) == 1);
    EXPECT(pier_db_commit(one, &e) == 0);
    EXPECT(pier_db_execute(two, "update t set id = 3", NULL, &e) == PIER_ESERIALIZATION);
    pier_db_close(one);
    pier_db_close(two);
    return 0;
}

SCENARIO(test_lease__that_is_left_in_a_transaction_is_rolled_back)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    for (int i = 0; i < 3; i++) {
        pier_db *lease = pier_db_lease(pool, &e);
        EXPECT(pier_db_execute(lease, "begin", NULL, &e) == 0);
        EXPECT(pier_db_execute(lease, "insert into t values(1)", NULL, &e) == 1);
        if (i == 1) {
            EXPECT(pier_db_execute(lease, "select 1/0", NULL, &e) == PIER_ESQL);
        }
        pier_db_close(lease);
        if (i == 2) {
            /* Idle for so long that the connection is looked at. */
            pier_db *tx = pier_db_begin(pool, NULL, &e), *other = pier_db_begin(pool, NULL, &e);
            EXPECT(tx && other && pier_db_execute(other, "select pg_sleep(1.2)", NULL, &e) == 0);
            pier_db_close(tx);
            pier_db_close(other);
        }
        for (int j = 0; j < 5; j++) {
            EXPECT(fetch_int(pool, "select count(*) from t", &e) == 0);
            EXPECT(fetch_int(pool, "select txid_current_if_assigned() is null", &e) == 1);
        }
    }
    return 0;
}

/* Cursors. */

static int64_t sum_rows(pier_db *scope, const char *sql, const pier_args *args, pier_error *err)
{
    int64_t sum = 0;
    pier_cursor *cursor = pier_db_cursor(scope, sql, args, err);
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        sum += pier_row_int64(row, 0);
    }
    return pier_cursor_close(cursor, err) < 0 ? INT64_MIN : sum;
}

SCENARIO(test_cursor__streams_outside_transactions)
{
    pier_error e = {0};
    EXPECT(sum_rows(pool, "select g, repeat('x', 50) from generate_series(1, 20000) g", NULL, &e) ==
           200010000);
    EXPECT(sum_rows(pool, "select g from generate_series(1, $1::int) g", PIER_ARGS(3), &e) == 6);
    EXPECT(sum_rows(pool, "select 1 where false", NULL, &e) == 0);
    EXPECT(sum_rows(pool, "select g::int, g::numeric from generate_series(1, 3000) g", NULL, &e) ==
           4501500);
    return 0;
}

SCENARIO(test_cursor__lets_other_statements_run_between_in_a_transaction)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_cursor *cursor =
        pier_db_cursor(tx, "select g from generate_series(1, $1::int) g", PIER_ARGS(3000), &e);
    pier_cursor *other =
        pier_db_cursor(tx, "select 10 * g from generate_series(1, 3000) g;", NULL, &e);
    int count = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor)); count++) {
        const pier_row *beside = pier_cursor_next(other);
        EXPECT(beside && pier_row_int64(beside, 0) == 10 * pier_row_int64(row, 0));
        if (count % 500 == 0) {
            EXPECT(pier_db_execute(tx, "insert into t values($1)", PIER_ARGS(count), &e) == 1);
        }
    }
    EXPECT(count == 3000);
    EXPECT(pier_cursor_close(cursor, &e) == 0 && pier_cursor_close(other, &e) == 0);
    EXPECT(fetch_int(tx, "select count(*) from pg_cursors where name like 'pier%'", &e) == 0);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    EXPECT(fetch_int(pool, "select count(*) from t", &e) == 6);
    return 0;
}

SCENARIO(test_cursor__reads_what_cannot_be_declared)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(sum_rows(tx, "insert into t select generate_series(1, 100) returning id", NULL, &e) ==
           5050);
    EXPECT(sum_rows(tx, "/* all */ -- of it\n (select id from t)", NULL, &e) == 5050);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    EXPECT(sum_rows(pool, "update t set id = -id returning id", NULL, &e) == -5050);
    return 0;
}

/* The next cursor may have its place on the server by then, and must not be read instead. */
SCENARIO(test_cursor__ends_with_its_transaction_on_a_lease)
{
    pier_error e = {0}, other = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute_script(lease, "begin", &e) == 0);
    pier_cursor *first = pier_db_cursor(lease, "select generate_series(1, 5000)", NULL, &e);
    int count = 0;
    for (; count < 10 && pier_cursor_next(first); count++) {
    }
    EXPECT(count == 10);
    EXPECT(pier_db_execute_script(lease, "commit", &e) == 0 &&
           pier_db_execute_script(lease, "begin", &e) == 0);
    pier_cursor *second = pier_db_cursor(lease, "select -generate_series(1, 5000)", NULL, &e);
    const pier_row *row = pier_cursor_next(second);
    EXPECT(row && pier_row_int64(row, 0) == -1);
    while ((row = pier_cursor_next(first))) {
        EXPECT(pier_row_int64(row, 0) == ++count);
    }
    EXPECT(pier_cursor_close(first, &other) == PIER_EINVAL);
    EXPECT(strstr(other.message, "transaction"));
    row = pier_cursor_next(second);
    EXPECT(row && pier_row_int64(row, 0) == -2);
    EXPECT(pier_cursor_close(second, &e) == 0);
    EXPECT(pier_db_execute_script(lease, "rollback", &e) == 0);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_cursor__tells_why_its_session_ended_behind_rows)
{
    pier_error e = {0}, why = {0};
    int count = 0;
    pier_cursor *cursor = pier_db_cursor(pool,
                                         "select g, case when g = 600 then "
                                         "pg_terminate_backend(pg_backend_pid()) end from "
                                         "generate_series(1, 100000) g",
                                         NULL, &e);
    while (pier_cursor_next(cursor)) {
        count++;
    }
    EXPECT(pier_cursor_close(cursor, &why) == PIER_EIO);
    EXPECT(count <= 600 && strcmp(why.sqlstate, "57P01") == 0);
    EXPECT(fetch_int(pool, "select 1", &e) == 1);
    return 0;
}

static bool refuse_large(size_t size)
{
    return size > 8000;
}

/* Its rows go on coming, so the connection is of no use any more: that is said, not that it is
 * busy.
 */
SCENARIO(test_cursor__without_memory_does_not_keep_its_lease_busy)
{
    pier_error e = {0}, why = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    pier_cursor *cursor = pier_db_cursor(
        lease, "select g, repeat('x', 100) from generate_series(1, 100000) g", NULL, &e);
    EXPECT(pier_cursor_next(cursor));
    pier__alloc_set_gate(refuse_large);
    while (pier_cursor_next(cursor)) {
    }
    pier__alloc_set_gate(NULL);
    EXPECT(pier_cursor_close(cursor, &why) == PIER_ENOMEM);
    /* Where there was no memory for a block the session is lost; for a row, the rest was read. */
    int64_t status = pier_db_execute(lease, "select 1", NULL, &why);
    EXPECT(status == 0 || status == PIER_EIO);
    pier_db_close(lease);
    EXPECT(fetch_int(pool, "select 1", &e) == 1);
    return 0;
}

SCENARIO(test_cursor__abandoned_leaves_a_clean_pool)
{
    pier_error e = {0};
    for (int i = 0; i < 20; i++) {
        pier_cursor *cursor =
            pier_db_cursor(pool,
                           i % 2 ? "select g from generate_series(1, 300) g"
                                 : "select generate_series(1, 10000000), repeat('x', 500)",
                           NULL, &e);
        for (int row = 0; row < i; row++) {
            EXPECT(pier_cursor_next(cursor));
        }
        EXPECT(pier_cursor_close(cursor, &e) == 0);
        EXPECT(fetch_int(pool, "select 42", &e) == 42);
    }
    return 0;
}

SCENARIO(test_cursor__abandoned_leaves_its_transaction_alone)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_cursor *cursor = pier_db_cursor(tx, "select g from generate_series(1, 10000) g", NULL, &e);
    EXPECT(pier_cursor_next(cursor));
    EXPECT(pier_cursor_close(cursor, &e) == 0);
    EXPECT(fetch_int(tx, "select 42", &e) == 42);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    return 0;
}

SCENARIO(test_cursor__of_a_savepoint_that_was_rolled_back_does_no_harm)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e), *inner = pier_db_begin(tx, NULL, &e);
    pier_cursor *cursor =
        pier_db_cursor(inner, "select g from generate_series(1, 10000) g", NULL, &e);
    EXPECT(pier_cursor_next(cursor));
    pier_db_close(inner);
    EXPECT(pier_cursor_close(cursor, &e) == 0);
    EXPECT(fetch_int(tx, "select 42", &e) == 42);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    return 0;
}

SCENARIO(test_cursor__reports_errors_behind_the_rows_before_them)
{
    pier_error e = {0};
    static const char sql[] = "select 1 / (5000 - g) from generate_series(1, 10000) g";
    for (int in_tx = 0; in_tx < 2; in_tx++) {
        pier_db *tx = in_tx ? pier_db_begin(pool, NULL, &e) : NULL;
        pier_cursor *cursor = pier_db_cursor(in_tx ? tx : pool, sql, NULL, &e);
        int count = 0;
        while (pier_cursor_next(cursor)) {
            count++;
        }
        EXPECT(in_tx ? count < 5000 : count == 4999);
        EXPECT(pier_cursor_close(cursor, &e) == PIER_ESQL && strcmp(e.sqlstate, "22012") == 0);
        pier_db_close(tx);
        EXPECT(fetch_int(pool, "select 1", &e) == 1);
    }
    return 0;
}

SCENARIO(test_cursor__occupies_a_lease)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    pier_cursor *cursor =
        pier_db_cursor(lease, "select g from generate_series(1, 100000) g", NULL, &e);
    EXPECT(pier_cursor_next(cursor));
    EXPECT(pier_db_execute(lease, "select 1", NULL, &e) == PIER_EBUSY);
    EXPECT(strstr(e.message, "cursor"));
    EXPECT(sum_rows(lease, "select 1", NULL, &e) == INT64_MIN && e.status == PIER_EBUSY);
    for (int i = 2; i <= 2000; i++) {
        const pier_row *row = pier_cursor_next(cursor);
        EXPECT(row && pier_row_int64(row, 0) == i);
    }
    EXPECT(pier_cursor_close(cursor, &e) == 0);
    EXPECT(fetch_int(lease, "select 1", &e) == 1);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_cursor__left_open_on_a_lease_that_is_closed)
{
    pier_error e = {0};
    for (int i = 0; i < 6; i++) {
        pier_db *lease = pier_db_lease(pool, &e);
        pier_cursor *cursor = pier_db_cursor(lease, "select generate_series(1, 1000000)", NULL, &e);
        EXPECT(pier_cursor_next(cursor));
        pier_db_close(lease);
        (void)!pier_cursor_close(cursor, &e);
        EXPECT(fetch_int(pool, "select 1", &e) == 1);
    }
    return 0;
}

SCENARIO(test_cursor__names_its_columns)
{
    pier_error e = {0};
    pier_cursor *cursor = pier_db_cursor(pool, "select 1 as one, 2 as two", NULL, &e);
    EXPECT(pier_cursor_column(cursor, "two") == 1);
    const pier_row *row = pier_cursor_next(cursor);
    EXPECT(row && pier_row_int64(row, 1) == 2);
    EXPECT(pier_cursor_close(cursor, &e) == 0);
    return 0;
}

/* Futures. */

static void test_futures__many_at_once_share_the_connections(void **state)
{
    (void)state;
    enum { MANY = 200 };
    pier_error err = {0};
    pier_future *futures[MANY];
    for (int i = 0; i < MANY; i++) {
        futures[i] = pier_db_fetch_async(db, "select $1::int * 2", PIER_ARGS(i));
    }
    for (int i = 0; i < MANY; i++) {
        pier_result *rows = pier_db_fetch_finish(futures[i], &err);
        assert_string_equal(err.message, "");
        assert_int_equal(pier_row_int64(pier_result_row(rows, 0), 0), 2 * i);
        pier_result_free(rows);
    }
    assert_true(look_int("select count(*) from pg_stat_activity where application_name = 'pier'") <=
                4);
}

static void test_futures__of_a_whole_transaction(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier_db_execute(db, "create table t(id int)", NULL, &err), 0);
    pier_db *tx = pier_db_begin_finish(pier_db_begin_async(db, NULL), &err);
    assert_non_null(tx);
    pier_future *inserts[50];
    for (int i = 0; i < 50; i++) {
        inserts[i] = pier_db_execute_async(tx, "insert into t values($1)", PIER_ARGS(i));
    }
    for (int i = 0; i < 50; i++) {
        assert_int_equal(pier_db_execute_finish(inserts[i], &err), 1);
    }
    assert_int_equal(pier_db_commit_finish(pier_db_commit_async(tx), &err), 0);
    pier_db_close_finish(pier_db_close_async(tx));
    assert_int_equal(look_int("select count(*) from t"), 50);
}

static void test_futures__of_the_blocks_of_a_cursor(void **state)
{
    (void)state;
    pier_error err = {0};
    for (int in_tx = 0; in_tx < 2; in_tx++) {
        pier_db *tx = in_tx ? pier_db_begin(db, NULL, &err) : NULL;
        pier_cursor *cursor = pier_db_cursor(
            in_tx ? tx : db, "select g from generate_series(1, 10000) g", NULL, &err);
        size_t count = 0, blocks = 0;
        for (;; blocks++) {
            pier_result *block = pier_cursor_block_finish(pier_cursor_block_async(cursor), &err);
            assert_non_null(block);
            size_t rows = pier_result_count(block);
            for (size_t i = 0; i < rows; i++) {
                assert_int_equal(pier_row_int64(pier_result_row(block, i), 0), ++count);
            }
            pier_result_free(block);
            if (!rows) {
                break;
            }
        }
        assert_int_equal(count, 10000);
        assert_true(blocks < 200);
        assert_int_equal(pier_cursor_close_finish(pier_cursor_close_async(cursor), &err), 0);
        pier_db_close(tx);
    }
}

static atomic_int called_back;

static void on_rows(pier_future *future, void *user_data)
{
    pier_error err = {0};
    pier_result *rows = pier_db_fetch_finish(future, &err);
    atomic_store((atomic_int *)user_data,
                 rows ? (int)pier_row_int64(pier_result_row(rows, 0), 0) : err.status);
    pier_result_free(rows);
}

static bool was_called_back(void *user_data)
{
    return atomic_load((atomic_int *)user_data) != 0;
}

static void test_futures__call_back_on_the_loop(void **state)
{
    (void)state;
    atomic_store(&called_back, 0);
    pier_future_then(pier_db_fetch_async(db, "select 42", NULL), on_rows, &called_back);
    assert_true(support_wait_until(was_called_back, &called_back, BOUND_MS));
    assert_int_equal(atomic_load(&called_back), 42);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_types__make_the_round_trip_in_binary),
        BOTH(test_types__make_the_round_trip_in_text),
        BOTH(test_types__null_and_empty_are_different),
        BOTH(test_types__special_numbers),
        BOTH(test_types__large_values),
        BOTH(test_types__wrong_arguments_are_refused_before_they_are_sent),
        BOTH(test_execute__counts_what_it_changed),
        BOTH(test_execute__takes_what_must_run_outside_transactions),
        BOTH(test_execute__survives_copy),
        BOTH(test_script__runs_several_statements_and_stops_at_the_first_error),
        BOTH(test_execute__text_that_is_no_value_of_its_type_is_a_matter_of_type),
        BOTH(test_types__real_as_text_has_its_own_digits),
        BOTH(test_fetch__statements_without_rows_and_without_columns),
        BOTH(test_statements__are_prepared_once),
        BOTH(test_statements__of_long_ago_are_closed_on_the_server),
        BOTH(test_statements__too_long_for_the_cache_are_not_kept),
        BOTH(test_statements__survive_a_change_of_the_schema),
        BOTH(test_statements__survive_a_change_of_the_schema_in_the_next_transaction),
        BOTH(test_statements__survive_being_closed_by_somebody_else),
        BOTH(test_errors__have_everything_that_the_server_said),
        BOTH(test_errors__of_locks),
        BOTH(test_transaction__commits_and_rolls_back),
        BOTH(test_transaction__options_reach_the_server),
        BOTH(test_transaction__a_failed_statement_dooms_it),
        BOTH(test_transaction__savepoints),
        BOTH(test_transaction__deferred_constraints_fail_at_commit),
        BOTH(test_transaction__that_had_failed_unseen_cannot_be_committed),
        BOTH(test_transaction__serialization_failures_have_their_own_status),
        BOTH(test_lease__that_is_left_in_a_transaction_is_rolled_back),
        BOTH(test_cursor__streams_outside_transactions),
        BOTH(test_cursor__lets_other_statements_run_between_in_a_transaction),
        BOTH(test_cursor__reads_what_cannot_be_declared),
        BOTH(test_cursor__ends_with_its_transaction_on_a_lease),
        BOTH(test_cursor__tells_why_its_session_ended_behind_rows),
        BOTH(test_cursor__without_memory_does_not_keep_its_lease_busy),
        BOTH(test_cursor__abandoned_leaves_a_clean_pool),
        BOTH(test_cursor__abandoned_leaves_its_transaction_alone),
        BOTH(test_cursor__of_a_savepoint_that_was_rolled_back_does_no_harm),
        BOTH(test_cursor__reports_errors_behind_the_rows_before_them),
        BOTH(test_cursor__occupies_a_lease),
        BOTH(test_cursor__left_open_on_a_lease_that_is_closed),
        BOTH(test_cursor__names_its_columns),
        TEST(test_futures__many_at_once_share_the_connections),
        TEST(test_futures__of_a_whole_transaction),
        TEST(test_futures__of_the_blocks_of_a_cursor),
        TEST(test_futures__call_back_on_the_loop),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
