/* Rows into structs, over the SQLite driver. */
#include "tests/integration/sqlite_fixture.h"

struct person {
    int64_t id;
    char *name;
    double score;
    bool ok;
    char code[4];
};

static const pier_member members[] = {
    PIER_MEMBER(struct person, id),
    PIER_MEMBER(struct person, name),
    PIER_MEMBER(struct person, score),
    PIER_MEMBER(struct person, ok),
    PIER_MEMBER_AS(struct person, code, "short"),
};
enum { MEMBERS = sizeof members / sizeof *members };

static pier_result *people(struct fixture *f, const char *sql)
{
    pier_result *result = pier_db_fetch(f->db, sql, NULL, &f->err);
    assert_ok(&f->err);
    return result;
}

static void test_structs__are_filled_by_the_names_of_columns(void **state)
{
    struct fixture *f = *state;
    pier_result *result = people(f, "select 'ab' as short, 1 as ok, 0.5 as score, 'ada' as name, 7 "
                                    "as id, 'unused' as more union all "
                                    "select 'cd', 0, 2, null, 8, null");
    struct person *array = NULL;
    int64_t count =
        pier_result_structs(result, members, MEMBERS, sizeof *array, (void **)&array, &f->err);
    pier_result_free(result);
    assert_ok(&f->err);
    assert_int_equal(count, 2);
    assert_int_equal(array[0].id, 7);
    assert_string_equal(array[0].name, "ada");
    assert_true(array[0].score == 0.5 && array[0].ok && !array[1].ok);
    assert_string_equal(array[1].code, "cd");
    assert_null(array[1].name);
    pier_structs_free(members, MEMBERS, sizeof *array, array, count);
}

static void test_structs__need_every_column(void **state)
{
    struct fixture *f = *state;
    pier_result *result = people(f, "select 1 as id, 'x' as name");
    struct person one = {.id = 5};
    assert_int_equal(pier_row_struct(pier_result_row(result, 0), members, MEMBERS, &one, &f->err),
                     PIER_EINVAL);
    assert_error(&f->err, PIER_EINVAL, "no column \"score\"");
    assert_int_equal(one.id, 5);
    pier_result_free(result);
}

static void test_structs__leave_nothing_behind_when_a_later_row_fails(void **state)
{
    struct fixture *f = *state;
    pier_result *result =
        people(f, "select 1 as id, 'x' as name, 1 as score, 1 as ok, 'a' as short "
                  "union all select 2, 'y', 1, 1, 'too long'");
    void *array = NULL;
    assert_int_equal(pier_result_structs(result, members, MEMBERS, sizeof(struct person), &array,
                                         &f->err),
                     PIER_ERANGE);
    assert_error(&f->err, PIER_ERANGE, "room for 3");
    assert_null(array);
    pier_result_free(result);
}

static void test_structs__of_no_rows_are_none(void **state)
{
    struct fixture *f = *state;
    pier_result *result =
        people(f, "select 1 as id, 'x' as name, 1 as score, 1 as ok, 'a' as short where 0");
    void *array = &array;
    assert_int_equal(
        pier_result_structs(result, members, MEMBERS, sizeof(struct person), &array, &f->err), 0);
    assert_null(array);
    pier_result_free(result);
    assert_true(pier_result_structs(NULL, members, MEMBERS, sizeof(struct person), &array, NULL) <
                0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_structs__are_filled_by_the_names_of_columns),
        TEST(test_structs__need_every_column),
        TEST(test_structs__leave_nothing_behind_when_a_later_row_fails),
        TEST(test_structs__of_no_rows_are_none),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
