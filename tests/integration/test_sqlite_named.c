/* Arguments by name. */
#include "tests/integration/sqlite_fixture.h"

static int64_t fetch_number(struct fixture *f, const char *sql, const pier_args *args)
{
    int64_t number = -1;
    assert_int_equal(pier_db_fetch_into(f->db, sql, args, PIER_INTO(&number), &f->err), 1);
    assert_ok(&f->err);
    return number;
}

static void assert_refused(struct fixture *f, const char *sql, const pier_args *args,
                           const char *says)
{
    assert_int_equal(pier_db_execute(f->db, sql, args, &f->err), PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, says);
}

static void test_named__binds_each_spelling_whatever_the_order(void **state)
{
    struct fixture *f = *state;
    const char *sql = "select $a * 100 + :b * 10 + @c";
    assert_int_equal(fetch_number(f, sql, PIER_NAMED("a", 1, "b", 2, "c", 3)), 123);
    assert_int_equal(fetch_number(f, sql, PIER_NAMED("c", 3, "a", 1, "b", 2)), 123);
}

static void test_named__binds_a_name_that_comes_twice(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(fetch_number(f, "select :a + :a + $a", PIER_NAMED("a", 2)), 6);
    assert_int_equal(fetch_number(f, "select :a * 10 + $b", PIER_NAMED("b", 1, "a", 2)), 21);
}

static void test_named__carries_every_type(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t(id, name) values (:id, :name)",
            PIER_NAMED("id", 7, "name", "ada"));
    execute(f->db, "insert into t(id, name) values (:id, :name)",
            PIER_NAMED("id", INT64_C(8), "name", NULL));
    assert_int_equal(number_of(f->db, "select id from t where name = 'ada'"), 7);
    assert_int_equal(number_of(f->db, "select id from t where name is null"), 8);
}

static void test_named__a_missing_argument_is_named(void **state)
{
    assert_refused(*state, "insert into t(id, name) values (:id, :name)", PIER_NAMED("id", 7),
                   "the parameter :name has no argument");
    assert_refused(*state, "insert into t(id) values (@id)", NULL,
                   "the parameter @id has no argument");
}

static void test_named__an_unknown_argument_is_named(void **state)
{
    const char *sql = "insert into t(id) values (:id)";
    assert_refused(*state, sql, PIER_NAMED("id", 7, "age", 36), "no parameter named \"age\"");
    assert_refused(*state, "delete from t", PIER_NAMED("id", 7), "no parameter named \"id\"");
    /* As many as there are, but not the same. */
    assert_refused(*state, "insert into t(id, name) values (:a, $a)", PIER_NAMED("a", 1, "b", 2),
                   "no parameter named \"b\"");
}

static void test_named__an_argument_given_twice_is_named(void **state)
{
    assert_refused(*state, "insert into t(id) values (:id)", PIER_NAMED("id", 7, "id", 8),
                   "\"id\" is given twice");
}

static void test_named__names_and_numbers_do_not_mix(void **state)
{
    assert_refused(*state, "insert into t(id, name) values ($1, :name)", PIER_ARGS(1, "ada"),
                   "are mixed");
    assert_refused(*state, "insert into t(id, name) values (?, :name)", PIER_ARGS(1, "ada"),
                   "are mixed");
    assert_refused(*state, "insert into t(id) values (:id)", PIER_ARGS(1), "PIER_NAMED");
    assert_refused(*state, "insert into t(id) values ($1)", PIER_NAMED("id", 1), "PIER_ARGS");
    assert_refused(*state, "insert into t(id) values ($id::int)", PIER_NAMED("id", 1),
                   "cast($id as integer)");
}

static void test_named__an_argument_that_cannot_be_bound_is_named(void **state)
{
    struct fixture *f = *state;
    assert_refused(f, "insert into t(id) values (:id)", PIER_NAMED("id", UINT64_MAX),
                   "argument \"id\" is an unsigned integer");
}

/* The arguments of the future are gone when it runs. */
static void test_named__are_copied_by_the_asynchronous_form(void **state)
{
    struct fixture *f = *state;
    char name[] = "name", ada[] = "ada";
    pier_future *futures[8];
    for (int i = 0; i < 8; i++) {
        futures[i] = pier_db_execute_async(f->db, "insert into t(id, name) values (:id, :name)",
                                           PIER_NAMED("id", i + 1, name, ada));
    }
    memset(name, 'x', sizeof name - 1);
    memset(ada, 'x', sizeof ada - 1);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &f->err), 1);
        assert_ok(&f->err);
    }
    assert_int_equal(number_of(f->db, "select count(*) from t where name = 'ada'"), 8);
}

static void test_named__are_kept_by_a_cursor(void **state)
{
    struct fixture *f = *state;
    char name[] = "least";
    execute(f->db, "insert into t(id) values (1), (2), (3)", NULL);
    pier_cursor *cursor =
        pier_db_cursor(f->db, "select id from t where id >= :least", PIER_NAMED(name, 2), &f->err);
    memset(name, 'x', sizeof name - 1);
    int64_t sum = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        sum += pier_row_int64(row, 0);
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(sum, 5);
}

static void test_named__a_cursor_refuses_what_cannot_be_bound(void **state)
{
    struct fixture *f = *state;
    assert_null(pier_db_cursor(f->db, "select $1", PIER_ARGS(UINT64_MAX), &f->err));
    assert_error(&f->err, PIER_EINVAL, "argument $1 is an unsigned integer");
    assert_null(pier_db_cursor(f->db, "select $1", PIER_ARGS(UINT64_MAX), NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_named__binds_each_spelling_whatever_the_order),
        TEST(test_named__binds_a_name_that_comes_twice),
        TEST(test_named__carries_every_type),
        TEST(test_named__a_missing_argument_is_named),
        TEST(test_named__an_unknown_argument_is_named),
        TEST(test_named__an_argument_given_twice_is_named),
        TEST(test_named__names_and_numbers_do_not_mix),
        TEST(test_named__an_argument_that_cannot_be_bound_is_named),
        TEST(test_named__are_copied_by_the_asynchronous_form),
        TEST(test_named__are_kept_by_a_cursor),
        TEST(test_named__a_cursor_refuses_what_cannot_be_bound),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
