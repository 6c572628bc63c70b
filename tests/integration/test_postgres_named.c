/* Arguments by name on Postgres. */
#include "tests/integration/postgres_fixture.h"

#include "sdk/alloc.h"

static int open_table(void **state)
{
    if (open_db(state)) {
        return -1;
    }
    PQclear(PQexec(observer, "create table t(id int primary key, name text, tags text[])"));
    return 0;
}

#define TABLE(name) cmocka_unit_test_setup_teardown(name, open_table, close_db)
#define BOTH_TABLE(name) TABLE(name), TABLE(name##__in_a_task)

/* One of the server's database, with more in its URL. */
static pier_db *open_with(const char *more, pier_error *err)
{
    char url[640];
    snprintf(url, sizeof url, "%s%s%s", server.url_unix, strchr(server.url_unix, '?') ? "&" : "?",
             more);
    return pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), err);
}

static int64_t number(pier_db *scope, const char *sql, const pier_args *args, pier_error *err)
{
    int64_t value = -1;
    return pier_db_fetch_into(scope, sql, args, PIER_INTO(&value), err) == 1 ? value : -1;
}

static bool is_refused(pier_db *scope, const char *sql, const pier_args *args, const char *says,
                       pier_error *err)
{
    *err = (pier_error){0};
    bool refused = pier_db_execute(scope, sql, args, err) == PIER_EINVAL &&
                   strstr(err->message, says) && !*err->sqlstate;
    return refused;
}

/* ---- What is bound ------------------------------------------------------------------------ */

SCENARIO(test_named__binds_each_spelling_whatever_the_order)
{
    pier_error e = {0};
    const char *sql = "select $a::int8 * 100 + :b::int8 * 10 + :c";
    EXPECT(number(pool, sql, PIER_NAMED("a", 1, "b", 2, "c", 3), &e) == 123);
    EXPECT(number(pool, sql, PIER_NAMED("c", 3, "a", 1, "b", 2), &e) == 123);
    EXPECT(number(pool, sql, PIER_NAMED("b", 5, "c", 6, "a", 4), &e) == 456);
    return 0;
}

SCENARIO(test_named__binds_a_name_that_comes_twice)
{
    pier_error e = {0};
    EXPECT(number(pool, "select :a::int8 + :a + $a", PIER_NAMED("a", 2), &e) == 6);
    EXPECT(number(pool, "select :a::int8 * 10 + $b", PIER_NAMED("b", 1, "a", 2), &e) == 21);
    return 0;
}

SCENARIO(test_named__carries_every_type)
{
    pier_error e = {0};
    const char *sql = "insert into t(id, name, tags) values (:id, :name, array[:tag, 'x'])";
    pier_db_execute(pool, "delete from t", NULL, &e);
    EXPECT(pier_db_execute(pool, sql, PIER_NAMED("id", 7, "name", "ada", "tag", "y"), &e) == 1);
    EXPECT(pier_db_execute(pool, sql, PIER_NAMED("tag", NULL, "id", INT64_C(8), "name", NULL),
                           &e) == 1);
    EXPECT(number(pool, "select id::int8 from t where name = :name", PIER_NAMED("name", "ada"),
                  &e) == 7);
    EXPECT(number(pool, "select id::int8 from t where name is null and tags[2:2] = array[:x]",
                  PIER_NAMED("x", "x"), &e) == 8);
    EXPECT(number(pool, "select count(*) from t where tags[(:lo)] = :tag",
                  PIER_NAMED("tag", "y", "lo", 1), &e) == 1);
    return 0;
}

SCENARIO(test_named__leaves_what_postgres_reads_to_it)
{
    pier_error e = {0};
    char text[40] = "";
    EXPECT(number(pool, "select (@ x) + :n from (values (-5::int8)) v(x)", PIER_NAMED("n", 1),
                  &e) == 6);
    EXPECT(number(pool, "select (@x) + :n from (values (-5::int8)) v(x)", PIER_NAMED("n", 1), &e) ==
           6);
    EXPECT(number(pool,
                  "select cardinality((array[1, 2, 3])[1:n])::int8 + :n from (values (2)) v(n)",
                  PIER_NAMED("n", 10), &e) == 12);
    EXPECT(number(pool,
                  "select cardinality(a[:n])::int8 + :n from (values (array[1, 2, 3], 2)) "
                  "v(a, n)",
                  PIER_NAMED("n", 10), &e) == 12);
    EXPECT(number(pool,
                  "select extract(year from make_date(year := :y, month => 1, day := 1))::"
                  "int8",
                  PIER_NAMED("y", 2020), &e) == 2020);
    EXPECT(pier_db_fetch_into(pool,
                              "select ':a' || $$:b$$ || $t$:c$t$ || E'\\':d' || E'e''\\':f' || "
                              ":g /* :h /* :i */ */ -- :j",
                              PIER_NAMED("g", "!"), PIER_INTO(pier_into_buffer(text, sizeof text)),
                              &e) == 1);
    EXPECT(strcmp(text, ":a:b:c':de'':f!") == 0);
    EXPECT(number(pool,
                  "select 1::int8 where jsonb_build_object('k', 1) ? :k and "
                  "'{\"k\":1}'::jsonb @> :v::jsonb",
                  PIER_NAMED("v", "{\"k\":1}", "k", "k"), &e) == 1);
    return 0;
}

/* ---- What is refused ---------------------------------------------------------------------- */

SCENARIO(test_named__a_missing_argument_is_named)
{
    pier_error e = {0};
    EXPECT(is_refused(pool, "insert into t(id, name) values (:id, :name)", PIER_NAMED("id", 7),
                      "the parameter :name has no argument", &e));
    EXPECT(strstr(e.message, "values (:id, :name)"));
    return 0;
}

SCENARIO(test_named__an_unknown_argument_is_named)
{
    pier_error e = {0};
    const char *sql = "insert into t(id) values (:id)";
    EXPECT(is_refused(pool, sql, PIER_NAMED("id", 7, "age", 36), "no parameter named \"age\"", &e));
    EXPECT(is_refused(pool, sql, PIER_NAMED("ID", 7), "no parameter named \"ID\"", &e));
    EXPECT(is_refused(pool, "delete from t", PIER_NAMED("id", 7), "no parameter named \"id\"", &e));
    EXPECT(is_refused(pool, "select :a, $a", PIER_NAMED("a", 1, "b", 2), "named \"b\"", &e));
    return 0;
}

SCENARIO(test_named__what_looks_like_a_name_is_explained)
{
    pier_error e = {0};
    EXPECT(is_refused(pool, "select tags[:n] from t", PIER_NAMED("n", 1), "write (:n)", &e));
    EXPECT(is_refused(pool, "select @n from t", PIER_NAMED("n", 1), "write :n", &e));
    EXPECT(is_refused(pool, "select $1", PIER_NAMED("n", 1), "PIER_ARGS", &e));
    EXPECT(is_refused(pool, "select $1, :n", PIER_NAMED("n", 1), "are mixed", &e));
    return 0;
}

SCENARIO(test_named__numbered_arguments_for_names_are_explained)
{
    pier_error e = {0};
    const char *remedy = "; arguments by name are given with PIER_NAMED: ";
    static const char *const meant[] = {"select 'caf\xc3\xa9'::text, :id", "select $id",
                                        "select '\xc3\xa9',\n:_id",
                                        "update t set name = :name where id = :id",
                                        "delete from t where id = /* :no */ :id"};
    for (size_t i = 0; i < sizeof meant / sizeof *meant; i++) {
        e = (pier_error){0};
        EXPECT(pier_db_execute(pool, meant[i], i % 2 ? PIER_ARGS(7) : NULL, &e) == PIER_ESQL);
        EXPECT(strcmp(e.sqlstate, "42601") == 0 && strstr(e.message, remedy));
    }
    static const char *const wrong[] = {"select ':id' frm t, u", "select 1 :", "select :1",
                                        "select id::int frm t, u", "select id from :\"id\""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        e = (pier_error){0};
        EXPECT(pier_db_execute(pool, wrong[i], NULL, &e) == PIER_ESQL);
        EXPECT(strcmp(e.sqlstate, "42601") == 0 && !strstr(e.message, "PIER_NAMED"));
    }
    e = (pier_error){0};
    EXPECT(pier_db_execute(pool, "select :id :id", PIER_NAMED("id", 7), &e) == PIER_ESQL);
    EXPECT(!strstr(e.message, "PIER_NAMED"));
    return 0;
}

SCENARIO(test_named__an_argument_given_twice_is_named)
{
    pier_error e = {0};
    EXPECT(is_refused(pool, "insert into t(id) values (:id)", PIER_NAMED("id", 7, "id", 8),
                      "\"id\" is given twice", &e));
    return 0;
}

SCENARIO(test_named__an_argument_of_the_wrong_type_is_named)
{
    pier_error e = {0};
    const char *sql = "insert into t(name, id) values (:name, :id)";
    EXPECT(pier_db_execute(pool, sql, PIER_NAMED("id", "seven", "name", "ada"), &e) == PIER_ETYPE);
    EXPECT(strncmp(e.message, "argument \"id\" is text, but the statement wants integer", 54) == 0);
    EXPECT(strstr(e.message, "(:name, :id)"));
    e = (pier_error){0};
    EXPECT(pier_db_execute(pool, sql, PIER_NAMED("id", INT64_C(1) << 40, "name", "ada"), &e) ==
           PIER_ERANGE);
    EXPECT(strncmp(e.message, "argument \"id\", 1099511627776, is out of range", 44) == 0);
    return 0;
}

SCENARIO(test_named__needs_strings_that_can_be_read)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    pier_db_execute(lease, "set standard_conforming_strings = off", NULL, &e);
    EXPECT(is_refused(lease, "select '\\':a', :b", PIER_NAMED("b", 1), "standard_conforming", &e));
    e = (pier_error){0};
    pier_db_execute(lease, "set standard_conforming_strings = on", NULL, &e);
    EXPECT(number(lease, "select :b::int8", PIER_NAMED("b", 1), &e) == 1);
    pier_db_close(lease);
    return 0;
}

/* ---- Where they are given ----------------------------------------------------------------- */

static int use_scope(pier_db *scope, pier_error *err)
{
    pier_error e = {0};
    for (int i = 0; i < 3; i++) {
        EXPECT(number(scope, "select :b::int8 - :a", PIER_NAMED("a", i, "b", 10), &e) == 10 - i);
        pier_result *result = pier_db_fetch(scope, "select :x::text, generate_series(1, :n::int)",
                                            PIER_NAMED("n", 3, "x", "y"), &e);
        EXPECT(pier_result_count(result) == 3);
        EXPECT(strcmp(pier_row_text(pier_result_row(result, 2), 0), "y") == 0);
        pier_result_free(result);
        /* A text of the same size; the first one with other arguments, and others between. */
        EXPECT(number(scope, "select :a::int8 - :b", PIER_NAMED("a", 7, "b", 2), &e) == 5);
        EXPECT(number(scope, "select :b::int8 - :a", PIER_NAMED("b", 1, "a", 1), &e) == 0);
        EXPECT(number(scope, "select $1::int8", PIER_ARGS(i), &e) == i);
    }
    return 0;
}

SCENARIO(test_named__on_every_scope)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_db *save = pier_db_begin(tx, NULL, &e);
    EXPECT(use_scope(pool, err) == 0 && use_scope(lease, err) == 0 && use_scope(save, err) == 0);
    pier_db_close(save);
    EXPECT(use_scope(tx, err) == 0);
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_named__with_every_way_of_preparing)
{
    static const char *const ways[] = {"pier_statement_cache=0", "pier_statement_cache=1",
                                       "pier_statements=unnamed",
                                       "pier_statements=unnamed&pier_statement_cache=0"};
    (void)pool;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pier_error e = {0};
        pier_db *other = open_with(ways[i], &e);
        EXPECT(other && use_scope(other, err) == 0);
        pier_db_close(other);
    }
    return 0;
}

/* Longer than what is kept. */
SCENARIO(test_named__in_a_long_text)
{
    pier_error e = {0};
    enum { SIZE = 20000 };
    char *sql = malloc(SIZE);
    int length = snprintf(sql, SIZE, "select :a::int8 + :b /*");
    memset(sql + length, 'x', (size_t)(SIZE - length));
    snprintf(sql + SIZE - 10, 10, "*/ + :a");
    for (int i = 0; i < 3; i++) {
        EXPECT(number(pool, sql, PIER_NAMED("b", i, "a", 10), &e) == 20 + i);
        EXPECT(number(pool, "select :b::int8", PIER_NAMED("b", i), &e) == i);
    }
    free(sql);
    return 0;
}

static int64_t add_up(pier_cursor *cursor, pier_db *beside, pier_error *err)
{
    int64_t sum = 0;
    int count = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        sum += pier_row_int64(row, 0);
        if (beside && ++count % 500 == 0 &&
            number(beside, "select :a::int8", PIER_NAMED("a", 1), err) != 1) {
            sum = -1;
        }
    }
    return pier_cursor_close(cursor, err) < 0 ? -1 : sum;
}

static const char series[] = "select i::int8 * :times from generate_series(:from::int, :to) i";

SCENARIO(test_named__are_kept_by_a_cursor)
{
    pier_error e = {0};
    char name[] = "from";
    const int64_t sum = INT64_C(3) * 5000 * 5001 / 2;
    pier_cursor *cursor =
        pier_db_cursor(pool, series, PIER_NAMED("to", 5000, name, 1, "times", 3), &e);
    memset(name, 'x', sizeof name - 1);
    EXPECT(add_up(cursor, NULL, &e) == sum);
    /* In a transaction others run between the blocks, also where each of them takes the only place
     * among the texts that are known. */
    pier_db *small = open_with("pier_statement_cache=1", &e);
    pier_db *const pools[] = {pool, small};
    for (int i = 0; i < 2; i++) {
        pier_db *tx = pier_db_begin(pools[i], NULL, &e);
        cursor = pier_db_cursor(tx, series, PIER_NAMED("to", 5000, "from", 1, "times", 3), &e);
        EXPECT(add_up(cursor, tx, &e) == sum);
        EXPECT(pier_db_commit(tx, &e) == 0);
        pier_db_close(tx);
    }
    pier_db_close(small);
    return 0;
}

SCENARIO(test_named__in_a_cursor_that_is_closed_early)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_db *const scopes[] = {pool, tx};
    for (int i = 0; i < 2; i++) {
        pier_cursor *cursor =
            pier_db_cursor(scopes[i], series, PIER_NAMED("from", 1, "to", 100000, "times", 1), &e);
        EXPECT(pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == 0);
    }
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    return 0;
}

SCENARIO(test_named__a_cursor_says_what_is_missing)
{
    pier_db *tx = pier_db_begin(pool, NULL, NULL);
    pier_db *const scopes[] = {pool, tx};
    for (int i = 0; i < 2; i++) {
        pier_error e = {0};
        pier_cursor *cursor = pier_db_cursor(scopes[i], series, PIER_NAMED("from", 1), &e);
        EXPECT(cursor && !pier_cursor_next(cursor));
        EXPECT(pier_cursor_close(cursor, &e) == PIER_EINVAL && strstr(e.message, ":times"));
    }
    pier_db_close(tx);
    return 0;
}

static void test_named__are_copied_by_the_asynchronous_form(void **state)
{
    (void)state;
    pier_error err = {0};
    char name[] = "name", ada[] = "ada";
    pier_future *futures[8];
    for (int i = 0; i < 8; i++) {
        futures[i] = pier_db_execute_async(db, "insert into t(name, id) values (:name, :id)",
                                           PIER_NAMED("id", i + 1, name, ada));
    }
    memset(name, 'x', sizeof name - 1);
    memset(ada, 'x', sizeof ada - 1);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &err), 1);
    }
    assert_int_equal(look_int("select count(*) from t where name = 'ada' and id between 1 and 8"),
                     8);
}

/* ---- Many rows ---------------------------------------------------------------------------- */

static const char insert[] = "insert into t(name, id) values (:name, :id)";

SCENARIO(test_named__many_rows_in_any_order)
{
    pier_error e = {0};
    static const char *const ways[] = {"", "pier_statements=unnamed", "pier_statement_cache=0"};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pier_db *other = open_with(ways[i], &e);
        pier_db_execute(pool, "delete from t", NULL, &e);
        pier_args rows[3] = {*PIER_NAMED("id", 1, "name", "ada"),
                             *PIER_NAMED("name", "bob", "id", 2),
                             *PIER_NAMED("id", 3, "name", "eve")};
        EXPECT(pier_db_execute_many(other, insert, rows, 3, &e) == 3);
        EXPECT(number(pool,
                      "select count(*) from t where (id, name) in ((1, 'ada'), (2, 'bob'), "
                      "(3, 'eve'))",
                      NULL, &e) == 3);
        pier_db_close(other);
    }
    return 0;
}

static bool fails_in_row(pier_db *pool, const pier_args *rows, const char *says, pier_error *err)
{
    *err = (pier_error){0};
    return pier_db_execute_many(pool, insert, rows, 2, err) < 0 && strstr(err->message, says);
}

SCENARIO(test_named__many_rows_say_which_one_is_wrong)
{
    pier_error e = {0};
    const pier_args right = *PIER_NAMED("id", 1, "name", "ada");
    const pier_args numbered = *PIER_ARGS("ada", 1);
    EXPECT(fails_in_row(pool, (pier_args[]){right, *PIER_NAMED("id", 2)},
                        "row 2: the parameter :name has no argument", &e));
    EXPECT(fails_in_row(pool, (pier_args[]){right, *PIER_NAMED("id", 2, "name", "x", "y", 1)},
                        "row 2: the statement has no parameter named \"y\"", &e));
    EXPECT(fails_in_row(pool, (pier_args[]){right, numbered},
                        "row 2: the arguments are given by "
                        "number",
                        &e));
    EXPECT(fails_in_row(pool, (pier_args[]){right, *PIER_NAMED("id", "two", "name", "x")},
                        "row 2: argument \"id\" is text", &e));
    EXPECT(strstr(e.message, "(:name, :id)"));
    EXPECT(fails_in_row(pool, (pier_args[]){right, right}, "row 2: duplicate key", &e));
    EXPECT(strstr(e.message, "(:name, :id)"));
    e = (pier_error){0};
    EXPECT(pier_db_execute_many(pool, "insert into t(name, id) values ($1, $2)",
                                (pier_args[]){numbered, right}, 2, &e) == PIER_EINVAL);
    EXPECT(strstr(e.message, "row 2: the arguments are given by name"));
    EXPECT(number(pool, "select count(*) from t where id > :id", PIER_NAMED("id", 0), &e) == 0);
    return 0;
}

SCENARIO(test_named__a_writer)
{
    pier_error e = {0};
    enum { ROWS = 3000 };
    pier_db_execute(pool, "delete from t", NULL, &e);
    pier_writer *writer = pier_db_writer(pool, insert, &e);
    for (int i = 1; i <= ROWS; i++) {
        EXPECT(pier_writer_add(writer, i % 2 ? PIER_NAMED("id", i, "name", "odd")
                                             : PIER_NAMED("name", "even", "id", i)) == 0);
    }
    EXPECT(pier_writer_close(writer, &e) == ROWS);
    EXPECT(number(pool, "select count(*) from t where (name = :odd) = (id % 2 = 1)",
                  PIER_NAMED("odd", "odd"), &e) == ROWS);
    return 0;
}

/* ---- Statements --------------------------------------------------------------------------- */

SCENARIO(test_named__a_statement_knows_its_names)
{
    static const char *const ways[] = {"", "pier_statements=unnamed", "pier_statement_cache=0"};
    (void)pool;
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        pier_error e = {0};
        const char *sql = "select id, name from t where id = :id and name like :like or id > :id";
        pier_db *other = open_with(ways[i], &e);
        pier_statement *statement = pier_db_prepare(other, sql, &e);
        EXPECT(statement && strcmp(pier_statement_sql(statement), sql) == 0);
        EXPECT(pier_statement_parameters(statement) == 2 && pier_statement_columns(statement) == 2);
        EXPECT(strcmp(pier_statement_parameter_name(statement, 0), "id") == 0);
        EXPECT(strcmp(pier_statement_parameter_type(statement, 0), "integer") == 0);
        EXPECT(strcmp(pier_statement_parameter_name(statement, 1), "like") == 0);
        EXPECT(strcmp(pier_statement_parameter_type(statement, 1), "text") == 0);
        pier_result *result =
            pier_statement_fetch(statement, PIER_NAMED("like", "%", "id", 1000), &e);
        EXPECT(result && pier_result_count(result) == 0);
        pier_result_free(result);
        EXPECT(!pier_statement_fetch(statement, PIER_NAMED("id", 1), &e) &&
               strstr(e.message, ":like"));
        pier_statement_close(statement);
        pier_db_close(other);
    }
    return 0;
}

SCENARIO(test_named__statements_anywhere)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    pier_db *const scopes[] = {pool, tx};
    for (int i = 0; i < 2; i++) {
        int64_t value = 0;
        pier_statement *statement = pier_db_prepare(scopes[i], series, &e);
        const pier_args *args = PIER_NAMED("to", 10, "from", 1, "times", 2);
        EXPECT(pier_statement_execute(statement, args, &e) == 0);
        EXPECT(pier_statement_fetch_into(statement, args, PIER_INTO(&value), &e) == 1);
        EXPECT(value == 2);
        EXPECT(add_up(pier_statement_cursor(statement, args, &e), NULL, &e) == 110);
        pier_statement_close(statement);
    }
    pier_db_close(tx);
    return 0;
}

SCENARIO(test_named__a_statement_without_names_is_described_as_it_is)
{
    pier_error e = {0};
    pier_statement *statement =
        pier_db_prepare(pool, "select tags[1:id], @id, '::a' from t where id = $1", &e);
    EXPECT(statement && pier_statement_parameters(statement) == 1);
    EXPECT(!pier_statement_parameter_name(statement, 0));
    pier_statement_close(statement);
    EXPECT(!pier_db_prepare(pool, "select :a::int + $1", &e) && e.status == PIER_ESQL);
    return 0;
}

/* The caller is gone with its arguments when the request ends. */
SCENARIO(test_named__are_let_go_of_at_a_deadline)
{
    pier_error e = {0};
    char *name = strdup("seconds");
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 30), &e);
    int64_t status = pier_db_execute(pool, "select pg_sleep(:seconds)", PIER_NAMED(name, 30), &e);
    pier_scope_close(scope);
    memset(name, 'x', strlen(name));
    free(name);
    EXPECT(status == PIER_ETIMEDOUT);
    EXPECT(number(pool, "select :a::int8", PIER_NAMED("a", 1), &e) == 1);
    return 0;
}

/* ---- Errors of the server ----------------------------------------------------------------- */

static bool is_at(const pier_error *err, const char *position, const char *says)
{
    const char *field = pier_error_field(err, PIER_FIELD_POSITION);
    return field && strcmp(field, position) == 0 && strstr(err->message, says);
}

/* The place is one of the user's text, and so is what the message shows. */
SCENARIO(test_errors__are_told_in_the_users_text)
{
    static const char sql[] = "select :a_long_name::int,\n '\xc3\xa4', nothing, :b::int";
    const pier_args *args = PIER_NAMED("a_long_name", 1, "b", 2);
    pier_db *tx = pier_db_begin(pool, NULL, NULL);
    pier_db *scopes[] = {pool, tx};
    for (int i = 0; i < 2; i++) {
        pier_error e = {0};
        pier_cursor *cursor = pier_db_cursor(scopes[i], sql, args, &e);
        EXPECT(!pier_cursor_next(cursor) && pier_cursor_close(cursor, &e) == PIER_ESQL);
        EXPECT(is_at(&e, "33", "(line 2, column 7): select :a_long_name::int"));
    }
    pier_db_close(tx);
    pier_error e = {0};
    EXPECT(!pier_db_fetch(pool, sql, args, &e));
    EXPECT(is_at(&e, "33", "(line 2, column 7): select :a_long_name::int"));
    e = (pier_error){0};
    EXPECT(!pier_db_prepare(pool, sql, &e));
    EXPECT(is_at(&e, "33", "(line 2, column 7): select :a_long_name::int"));
    e = (pier_error){0};
    EXPECT(pier_db_execute_many(pool, sql, args, 1, &e) < 0);
    EXPECT(is_at(&e, "33", "(line 2, column 7): select :a_long_name::int"));
    return 0;
}

SCENARIO(test_errors__at_a_name_itself)
{
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "select a from :first::int, :second",
                           PIER_NAMED("first", 1, "second", 2), &e) == PIER_ESQL);
    EXPECT(is_at(&e, "15", "select a from :first"));
    return 0;
}

/* Where nothing is prepared, the rows themselves find out that a table is gone. */
SCENARIO(test_errors__of_many_rows)
{
    static const char sql[] = "insert into t(name, id) select :name, :id from gone where :id > 0";
    pier_error e = {0};
    pier_db *other = open_with("pier_statements=unnamed", &e);
    const pier_args *args = PIER_NAMED("id", 1, "name", "ada");
    pier_db_execute(pool, "create table if not exists gone(a int)", NULL, &e);
    EXPECT(pier_db_execute_many(other, sql, args, 1, &e) == 0);
    pier_db_execute(pool, "drop table gone", NULL, &e);
    pier_db *tx = pier_db_begin(other, NULL, &e);
    EXPECT(pier_db_execute_many(tx, sql, args, 1, &e) < 0 && strcmp(e.sqlstate, "42P01") == 0);
    EXPECT(is_at(&e, "48", ": insert into t(name, id) select :name, :id from gone"));
    pier_db_close(tx);
    pier_db_close(other);
    return 0;
}

/* An error behind rows that have been delivered. */
SCENARIO(test_errors__in_the_midst_of_a_cursor)
{
    static const char sql[] = "select :much / (5000 - i) from generate_series(1, :to::int) i";
    pier_db *tx = pier_db_begin(pool, NULL, NULL);
    pier_db *scopes[] = {pool, tx};
    for (int i = 0; i < 2; i++) {
        pier_error e = {0};
        pier_cursor *cursor = pier_db_cursor(scopes[i], sql, PIER_NAMED("to", 9000, "much", 1), &e);
        while (pier_cursor_next(cursor)) {
        }
        EXPECT(pier_cursor_close(cursor, &e) == PIER_ESQL);
        EXPECT(strcmp(e.sqlstate, "22012") == 0 && strstr(e.message, ": select :much / (5000"));
    }
    pier_db_close(tx);
    return 0;
}

/* ---- What it costs ------------------------------------------------------------------------ */

SCENARIO(test_named__are_prepared_once_on_each_connection)
{
    pier_error e = {0};
    pier_db *lease = pier_db_lease(pool, &e);
    for (int i = 0; i < 3; i++) {
        EXPECT(number(lease, "select :once::int8", PIER_NAMED("once", i), &e) == i);
    }
    EXPECT(number(lease,
                  "select count(*) from pg_prepared_statements where statement = 'select $1::int8'",
                  NULL, &e) == 1);
    pier_db_close(lease);
    return 0;
}

SCENARIO(test_named__are_prepared_again_where_the_table_has_changed)
{
    pier_error e = {0};
    const char *sql = "select * from t where id = :id";
    for (int i = 0; i < 3; i++) {
        pier_result *result = pier_db_fetch(pool, sql, PIER_NAMED("id", 1), &e);
        EXPECT(result);
        pier_result_free(result);
        EXPECT(pier_db_execute(pool,
                               i % 2 ? "alter table t drop column more"
                                     : "alter table t add column more text",
                               NULL, &e) == 0);
    }
    EXPECT(pier_db_execute(pool, "alter table t drop column if exists more", NULL, &e) == 0);
    return 0;
}

static atomic_int allocations, failing;
static atomic_bool failed;

static bool count_one(size_t size)
{
    (void)size;
    atomic_fetch_add(&allocations, 1);
    return false;
}

/* The text is not read again, and nothing is allocated for the arguments. */
static void test_named__cost_no_allocation_the_second_time(void **state)
{
    (void)state;
    int counts[2];
    for (int named = 0; named < 2; named++) {
        const char *sql = named ? "select :b::int8 - :a" : "select $2::int8 - $1";
        const pier_args *args = named ? PIER_NAMED("a", 1, "b", 2) : PIER_ARGS(1, 2);
        assert_int_equal(number(db, sql, args, NULL), 1);
        atomic_store(&allocations, 0);
        pier__alloc_set_gate(count_one);
        assert_int_equal(number(db, sql, args, NULL), 1);
        pier__alloc_set_gate(NULL);
        counts[named] = allocations;
    }
    assert_int_equal(counts[0], counts[1]);
}

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

static int use_all(pier_error *err)
{
    pier_db *pool = pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 1), err);
    int64_t value = number(pool, "select :b::int8 - :a", PIER_NAMED("a", 1, "b", 2), err);
    int64_t sum = add_up(
        pier_db_cursor(pool, series, PIER_NAMED("times", 1, "from", 1, "to", 3), err), NULL, err);
    const pier_args rows[2] = {*PIER_NAMED("b", 1), *PIER_NAMED("b", 2)};
    int64_t many = pier_db_execute_many(pool, "select :b::int", rows, 2, err);
    pier_statement *statement = pier_db_prepare(pool, series, err);
    const char *name = pier_statement_parameter_name(statement, 0);
    int status = name && strcmp(name, "times") == 0 && value == 1 && sum == 6 && many == 0 ? 0 : -1;
    pier_statement_close(statement);
    pier_db_close(pool);
    return status;
}

static void test_named__each_failed_allocation_is_reported(void **state)
{
    (void)state;
    pier_runner *usual = runner;
    int n = 0, status;
    do {
        pier_error err = {0};
        runner = pier_runner_open(NULL, NULL);
        atomic_store(&failed, false);
        atomic_store(&failing, ++n);
        pier__alloc_set_gate(fail_one);
        status = use_all(&err);
        pier__alloc_set_gate(NULL);
        pier_runner_close(runner);
        runner = usual;
        if (status < 0 && !err.status) {
            fail_msg("allocation %d: no error", n);
        }
    } while (atomic_load(&failed));
    assert_int_equal(status, 0);
    assert_true(n > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_named__binds_each_spelling_whatever_the_order),
        BOTH(test_named__binds_a_name_that_comes_twice),
        BOTH_TABLE(test_named__carries_every_type),
        BOTH(test_named__leaves_what_postgres_reads_to_it),
        BOTH_TABLE(test_named__a_missing_argument_is_named),
        BOTH_TABLE(test_named__an_unknown_argument_is_named),
        BOTH_TABLE(test_named__what_looks_like_a_name_is_explained),
        BOTH_TABLE(test_named__numbered_arguments_for_names_are_explained),
        BOTH_TABLE(test_named__an_argument_given_twice_is_named),
        BOTH_TABLE(test_named__an_argument_of_the_wrong_type_is_named),
        BOTH(test_named__needs_strings_that_can_be_read),
        BOTH(test_named__on_every_scope),
        BOTH(test_named__with_every_way_of_preparing),
        BOTH(test_named__in_a_long_text),
        BOTH(test_named__are_kept_by_a_cursor),
        BOTH(test_named__in_a_cursor_that_is_closed_early),
        BOTH(test_named__a_cursor_says_what_is_missing),
        TABLE(test_named__are_copied_by_the_asynchronous_form),
        BOTH_TABLE(test_named__many_rows_in_any_order),
        BOTH_TABLE(test_named__many_rows_say_which_one_is_wrong),
        BOTH_TABLE(test_named__a_writer),
        BOTH_TABLE(test_named__a_statement_knows_its_names),
        BOTH(test_named__statements_anywhere),
        BOTH_TABLE(test_named__a_statement_without_names_is_described_as_it_is),
        BOTH(test_named__are_let_go_of_at_a_deadline),
        BOTH(test_errors__are_told_in_the_users_text),
        BOTH(test_errors__at_a_name_itself),
        BOTH_TABLE(test_errors__of_many_rows),
        BOTH(test_errors__in_the_midst_of_a_cursor),
        BOTH(test_named__are_prepared_once_on_each_connection),
        BOTH_TABLE(test_named__are_prepared_again_where_the_table_has_changed),
        TEST(test_named__cost_no_allocation_the_second_time),
        TEST(test_named__each_failed_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
