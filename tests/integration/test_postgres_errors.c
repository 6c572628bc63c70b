/* What Postgres says when a statement fails: every field, which status it is, names of constraints,
 * places in statements, and texts that are too long. */
#include "tests/integration/postgres_fixture.h"

static bool is_field(const pier_error *err, pier_field field, const char *expected)
{
    const char *text = pier_error_field(err, field);
    bool equal = text && strcmp(text, expected) == 0;
    if (!equal) {
        fprintf(stderr, "field %d is %s, not %s\n", field, text ? text : "missing", expected);
    }
    return equal;
}

static int status_of(pier_db *pool, const char *sql, pier_error *e)
{
    memset(e, 0, sizeof *e);
    return (int)pier_db_execute(pool, sql, NULL, e);
}

/* Does it fail with that status and SQLSTATE? */
static bool fails(pier_db *pool, const char *sql, int status, const char *sqlstate, pier_error *e)
{
    return status_of(pool, sql, e) == status && strcmp(e->sqlstate, sqlstate) == 0 &&
           e->origin == PIER_ORIGIN_POSTGRES;
}

SCENARIO(test_errors__have_each_field_that_a_function_raises)
{
    pier_error e = {0};
    EXPECT(fails(pool,
                 "do $$ begin raise exception 'no such thing' using errcode = 'P1234', "
                 "detail = 'the detail', hint = 'the hint', schema = 'the schema', "
                 "table = 'the table', column = 'the column', datatype = 'the type', "
                 "constraint = 'the constraint'; end $$",
                 PIER_ESQL, "P1234", &e));
    EXPECT(strncmp(e.message, "no such thing: do $$ begin", 26) == 0);
    EXPECT(strcmp(e.constraint, "the constraint") == 0);
    EXPECT(is_field(&e, PIER_FIELD_DETAIL, "the detail"));
    EXPECT(is_field(&e, PIER_FIELD_HINT, "the hint"));
    EXPECT(is_field(&e, PIER_FIELD_SCHEMA, "the schema"));
    EXPECT(is_field(&e, PIER_FIELD_TABLE, "the table"));
    EXPECT(is_field(&e, PIER_FIELD_COLUMN, "the column"));
    EXPECT(is_field(&e, PIER_FIELD_DATATYPE, "the type"));
    EXPECT(is_field(&e, PIER_FIELD_SEVERITY, "ERROR"));
    EXPECT(is_field(&e, PIER_FIELD_SOURCE_FILE, "pl_exec.c"));
    EXPECT(is_field(&e, PIER_FIELD_SOURCE_FUNCTION, "exec_stmt_raise"));
    EXPECT(atoi(pier_error_field(&e, PIER_FIELD_SOURCE_LINE)) > 0);
    EXPECT(pier_error_field(&e, PIER_FIELD_SEVERITY_LOCALIZED));
    EXPECT(strstr(pier_error_field(&e, PIER_FIELD_CONTEXT), "inline_code_block line 1 at RAISE"));
    return 0;
}

SCENARIO(test_errors__show_the_statement_that_a_function_ran)
{
    pier_error e = {0};
    EXPECT(fails(pool, "do $$ begin execute 'select 1 frm t'; end $$", PIER_ESQL, "42601", &e));
    EXPECT(is_field(&e, PIER_FIELD_INTERNAL_QUERY, "select 1 frm t"));
    EXPECT(is_field(&e, PIER_FIELD_INTERNAL_POSITION, "14"));
    EXPECT(!pier_error_field(&e, PIER_FIELD_POSITION));
    return 0;
}

SCENARIO(test_errors__name_the_line_of_a_statement_with_lines)
{
    pier_error e = {0};
    EXPECT(fails(pool, "select 1,\n  'ä\xE2\x82\xAC', nothing", PIER_ESQL, "42703", &e));
    EXPECT(strstr(e.message, "does not exist (line 2, column 9): select 1, '"));
    EXPECT(is_field(&e, PIER_FIELD_POSITION, "19"));
    EXPECT(fails(pool, "select nothing", PIER_ESQL, "42703", &e));
    EXPECT(!strstr(e.message, "(line"));
    return 0;
}

SCENARIO(test_errors__of_cursors_count_in_the_users_statement)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_cursor *cursor = pier_db_cursor(tx, "select\nnothing", NULL, &e);
    EXPECT(!pier_cursor_next(cursor));
    EXPECT(pier_cursor_close(cursor, &e) == PIER_ESQL);
    EXPECT(strstr(e.message, "(line 2, column 1): select nothing"));
    EXPECT(is_field(&e, PIER_FIELD_POSITION, "8"));
    pier_db_close(tx);
    return 0;
}

SCENARIO(test_errors__name_every_kind_of_constraint)
{
    pier_error e = {0};
    EXPECT(pier_db_execute_script(pool,
                                  "create table parents(id int primary key);"
                                  "create table t(id int unique, age int check (age > 0), "
                                  "parent int references parents, name text not null default 'x', "
                                  "r int4range, exclude using gist (r with &&));"
                                  "create domain positive as int constraint is_positive "
                                  "check (value > 0);"
                                  "insert into t values(1, 1, null, 'a', '[1,5)')",
                                  &e) == 0);
    EXPECT(fails(pool, "insert into t(id) values(1)", PIER_ECONSTRAINT, "23505", &e));
    EXPECT(strcmp(e.constraint, "t_id_key") == 0);
    EXPECT(fails(pool, "insert into t(age) values(-1)", PIER_ECONSTRAINT, "23514", &e));
    EXPECT(strcmp(e.constraint, "t_age_check") == 0);
    EXPECT(fails(pool, "insert into t(parent) values(7)", PIER_ECONSTRAINT, "23503", &e));
    EXPECT(strcmp(e.constraint, "t_parent_fkey") == 0);
    EXPECT(fails(pool, "insert into t(name) values(null)", PIER_ECONSTRAINT, "23502", &e));
    EXPECT(is_field(&e, PIER_FIELD_COLUMN, "name"));
    EXPECT(fails(pool, "insert into t(r) values('[2,3)')", PIER_ECONSTRAINT, "23P01", &e));
    EXPECT(strcmp(e.constraint, "t_r_excl") == 0);
    EXPECT(fails(pool, "select (-1)::positive", PIER_ECONSTRAINT, "23514", &e));
    EXPECT(strcmp(e.constraint, "is_positive") == 0);
    EXPECT(is_field(&e, PIER_FIELD_DATATYPE, "positive"));
    return 0;
}

SCENARIO(test_errors__of_deferred_constraints_come_with_commit)
{
    pier_error e = {0};
    int count = -1;
    EXPECT(pier_db_execute_script(pool,
                                  "create table parents(id int primary key);"
                                  "create table t(parent int references parents "
                                  "deferrable initially deferred)",
                                  &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "insert into t values(7)", NULL, &e) == 1);
    EXPECT(pier_db_commit(tx, &e) == PIER_ECONSTRAINT);
    EXPECT(strcmp(e.sqlstate, "23503") == 0 && strcmp(e.constraint, "t_parent_fkey") == 0);
    pier_db_close(tx);
    EXPECT(pier_db_fetch_into(pool, "select count(*)::int from t", NULL, PIER_INTO(&count), &e) ==
           1);
    EXPECT(count == 0);
    return 0;
}

SCENARIO(test_errors__are_mapped_by_their_sqlstate)
{
    static const struct {
        const char *sqlstate;
        int status;
    } table[] = {
        {"40001", PIER_ESERIALIZATION},
        {"40P01", PIER_ESERIALIZATION},
        {"40002", PIER_ECONSTRAINT},
        {"23000", PIER_ECONSTRAINT},
        {"55P03", PIER_EBUSY},
        {"55006", PIER_EBUSY},
        {"22001", PIER_ERANGE},
        {"22003", PIER_ERANGE},
        {"22008", PIER_ERANGE},
        {"22P02", PIER_ETYPE},
        {"22007", PIER_ETYPE},
        {"53100", PIER_EIO},
        {"58030", PIER_EIO},
        {"XX001", PIER_EIO},
        {"57P01", PIER_EIO},
        {"57014", PIER_ESQL},
        {"42P01", PIER_ESQL},
        {"XX000", PIER_ESQL},
    };
    pier_error e = {0};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char sql[120];
        snprintf(sql, sizeof sql, "do $$ begin raise exception 'x' using errcode = '%s'; end $$",
                 table[i].sqlstate);
        EXPECT(fails(pool, sql, table[i].status, table[i].sqlstate, &e));
    }
    return 0;
}

/* Times of the server's are no deadline of ours. */
SCENARIO(test_errors__of_the_servers_time_limits_can_be_told_from_ours)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute(lease, "set statement_timeout = 50", NULL, &e) == 0);
    EXPECT(fails(lease, "select pg_sleep(20)", PIER_ESQL, "57014", &e));
    EXPECT(pier_db_execute(lease, "set statement_timeout = 0", NULL, &e) == 0);
    pier_db_close(lease);
    memset(&e, 0, sizeof e);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &e);
    EXPECT(scope);
    int64_t done = pier_db_execute(pool, "select pg_sleep(20)", NULL, &e);
    pier_scope_close(scope);
    EXPECT(done == PIER_ETIMEDOUT && !*e.sqlstate);
    return 0;
}

SCENARIO(test_errors__of_locks_that_take_too_long)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table t(id int)", NULL, &e) == 0);
    pier_db *holder = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(holder, "lock table t", NULL, &e) == 0);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "set local lock_timeout = 50", NULL, &e) == 0);
    EXPECT(fails(tx, "insert into t values(1)", PIER_EBUSY, "55P03", &e));
    memset(&e, 0, sizeof e);
    EXPECT(pier_db_commit(tx, &e) == PIER_EBUSY && strcmp(e.sqlstate, "55P03") == 0);
    pier_db_close(tx);
    pier_db_close(holder);
    return 0;
}

SCENARIO(test_errors__of_deadlocks_end_one_of_the_two)
{
    pier_error e = {0}, first = {0}, second = {0};
    EXPECT(pier_db_execute_script(
               pool,
               "create table t(id int primary key, n int); insert into t values(1, 0), (2, 0)",
               &e) == 0);
    pier_db *one = pier_db_begin(pool, NULL, &e), *two = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(one, "set local deadlock_timeout = 50", NULL, &e) == 0);
    EXPECT(pier_db_execute(two, "set local deadlock_timeout = 50", NULL, &e) == 0);
    EXPECT(pier_db_execute(one, "update t set n = 1 where id = 1", NULL, &e) == 1);
    EXPECT(pier_db_execute(two, "update t set n = 2 where id = 2", NULL, &e) == 1);
    pier_future *waits = pier_db_execute_async(one, "update t set n = 1 where id = 2", NULL);
    int64_t done = pier_db_execute(two, "update t set n = 2 where id = 1", NULL, &second);
    int64_t other = 0;
    if (done < 0) {
        other = pier_db_execute_finish(waits, &first);
        EXPECT(other == 1 && strcmp(second.sqlstate, "40P01") == 0);
        EXPECT(done == PIER_ESERIALIZATION && pier_db_commit(two, &e) == PIER_ESERIALIZATION);
        EXPECT(pier_db_commit(one, &e) == 0);
    } else {
        other = pier_db_execute_finish(waits, &first);
        EXPECT(other == PIER_ESERIALIZATION && strcmp(first.sqlstate, "40P01") == 0);
        EXPECT(pier_db_commit(one, &e) == PIER_ESERIALIZATION);
        EXPECT(pier_db_commit(two, &e) == 0);
    }
    pier_db_close(one);
    pier_db_close(two);
    return 0;
}

SCENARIO(test_errors__behind_rows_of_a_cursor_come_after_them)
{
    pier_error e = {0};
    for (int in_tx = 0; in_tx < 2; in_tx++) {
        pier_db *scope = in_tx ? pier_db_begin(pool, NULL, &e) : pool;
        pier_cursor *cursor = pier_db_cursor(
            scope, "select 100 / (1500 - g) from generate_series(1, 3000) g", NULL, &e);
        int count = 0;
        while (pier_cursor_next(cursor)) {
            count++;
        }
        EXPECT(count <= 1499);
        memset(&e, 0, sizeof e);
        EXPECT(pier_cursor_close(cursor, &e) == PIER_ESQL && strcmp(e.sqlstate, "22012") == 0);
        if (in_tx) {
            EXPECT(pier_db_commit(scope, &e) == PIER_ESQL && strcmp(e.sqlstate, "22012") == 0);
            pier_db_close(scope);
        }
    }
    return 0;
}

static bool is_utf8(const char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text == 0xC3) {
            if ((unsigned char)*++text != 0xA4) {
                return false;
            }
        } else if ((unsigned char)*text >= 0x80) {
            return false;
        }
    }
    return true;
}

/* 100 KB of each text: what is kept of them is bounded, of each there is something, and it ends
 * with a whole character. */
SCENARIO(test_errors__that_are_too_long_are_cut_between_characters)
{
    static const pier_field fields[] = {PIER_FIELD_DETAIL, PIER_FIELD_HINT, PIER_FIELD_CONTEXT};
    for (int shift = 0; shift < 2; shift++) {
        pier_error e = {0};
        char sql[512];
        snprintf(sql, sizeof sql,
                 "do $$ declare long text := '%s' || repeat('\xC3\xA4', 50000); begin "
                 "raise exception '%%', long using detail = long, hint = long, "
                 "table = long, constraint = long; end $$",
                 shift ? "x" : "");
        EXPECT(fails(pool, sql, PIER_ESQL, "P0001", &e));
        EXPECT(strlen(e.message) > 300 && is_utf8(e.message) && strstr(e.message, "declare long"));
        EXPECT(strlen(e.constraint) >= 61 && is_utf8(e.constraint));
        EXPECT(strlen(pier_error_field(&e, PIER_FIELD_TABLE)) >= 61);
        for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
            const char *text = pier_error_field(&e, fields[i]);
            EXPECT(text && strlen(text) >= 30 && is_utf8(text));
        }
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_errors__have_each_field_that_a_function_raises),
        BOTH(test_errors__show_the_statement_that_a_function_ran),
        BOTH(test_errors__name_the_line_of_a_statement_with_lines),
        BOTH(test_errors__of_cursors_count_in_the_users_statement),
        BOTH(test_errors__name_every_kind_of_constraint),
        BOTH(test_errors__of_deferred_constraints_come_with_commit),
        BOTH(test_errors__are_mapped_by_their_sqlstate),
        BOTH(test_errors__of_the_servers_time_limits_can_be_told_from_ours),
        BOTH(test_errors__of_locks_that_take_too_long),
        BOTH(test_errors__of_deadlocks_end_one_of_the_two),
        BOTH(test_errors__behind_rows_of_a_cursor_come_after_them),
        BOTH(test_errors__that_are_too_long_are_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
