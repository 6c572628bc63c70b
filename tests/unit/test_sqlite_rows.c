/* Blocks of rows of the SQLite driver: what goes into a builder comes out of its block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/sqlite/rows.h"
#include "sdk/alloc.h"

static sqlite3 *sqlite;
static pier__sqlite_builder builder;

static int set_up(void **state)
{
    (void)state;
    return sqlite3_open(":memory:", &sqlite);
}

static int tear_down(void **state)
{
    (void)state;
    pier__sqlite_builder_fini(&builder);
    return sqlite3_close(sqlite);
}

/* All rows of a statement as a block; NULL where there was no memory. */
static pier_result *read(const char *sql)
{
    sqlite3_stmt *stmt;
    assert_int_equal(sqlite3_prepare_v2(sqlite, sql, -1, &stmt, NULL), SQLITE_OK);
    bool done = true;
    while (done && sqlite3_step(stmt) == SQLITE_ROW) {
        done = pier__sqlite_builder_add(&builder, stmt, sqlite3_column_count(stmt));
    }
    pier__sqlite_names *names = done ? pier__sqlite_names_new(stmt) : NULL;
    pier_result *block =
        names ? pier__sqlite_builder_take(&builder, sqlite3_column_count(stmt), names) : NULL;
    pier__sqlite_names_unref(names);
    sqlite3_finalize(stmt);
    if (!block) {
        pier__sqlite_builder_clear(&builder);
    }
    return block;
}

static pier_value cell(const pier_result *block, size_t row, int column)
{
    pier_value value = {0};
    assert_true(block->cls->cell(block, row, column, &value, NULL));
    return value;
}

static void test_block__holds_each_type_as_it_was_stored(void **state)
{
    (void)state;
    pier_result *block =
        read("select null, -9223372036854775807 - 1, 2.5e10, 'gr\xc3\xbc\xc3\x9f', "
             "cast('a' || char(0) || 'b' as text), x'00ff', '', x''");
    assert_int_equal(block->count, 1);
    assert_int_equal(block->columns, 8);
    assert_int_equal(cell(block, 0, 0).type, PIER_NULL);
    assert_int_equal(cell(block, 0, 1).type, PIER_INT64);
    assert_true(cell(block, 0, 1).as.i == INT64_MIN);
    assert_int_equal(cell(block, 0, 2).type, PIER_DOUBLE);
    assert_true(cell(block, 0, 2).as.d == 2.5e10);
    assert_string_equal(cell(block, 0, 3).as.p.data, "gr\xc3\xbc\xc3\x9f");
    assert_int_equal(cell(block, 0, 4).as.p.size, 3);
    assert_memory_equal(cell(block, 0, 4).as.p.data, "a\0b\0", 4);
    assert_int_equal(cell(block, 0, 5).type, PIER_BYTES);
    assert_int_equal(cell(block, 0, 5).as.p.size, 2);
    assert_memory_equal(cell(block, 0, 5).as.p.data, "\0\xff", 2);
    for (int empty = 6; empty < 8; empty++) {
        assert_int_equal(cell(block, 0, empty).type, empty == 6 ? PIER_TEXT : PIER_BYTES);
        assert_int_equal(cell(block, 0, empty).as.p.size, 0);
        assert_string_equal(cell(block, 0, empty).as.p.data, "");
    }
    pier_result_free(block);
}

static void test_block__of_no_rows_has_its_columns(void **state)
{
    (void)state;
    pier_result *block = read("select 1 as one, 2 as two where 0");
    assert_int_equal(block->count, 0);
    assert_int_equal(block->columns, 2);
    assert_string_equal(block->cls->column_name(block, 0), "one");
    assert_string_equal(block->cls->column_name(block, 1), "two");
    pier_result_free(block);
}

/* From one that is copied to ones that take the builder's memory. */
static void test_block__of_any_size_holds_all_its_rows(void **state)
{
    (void)state;
    static const int sizes[] = {1, 5, 30, 60, 64, 65, 1000, 50000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char sql[256];
        snprintf(sql, sizeof sql,
                 "with recursive n(i) as (select 1 union all select i + 1 from n where i < %d) "
                 "select i, i || ' is a number', i / 2.0 from n",
                 sizes[i]);
        pier_result *block = read(sql);
        assert_int_equal(block->count, sizes[i]);
        for (int row = 0; row < sizes[i]; row++) {
            char text[64];
            snprintf(text, sizeof text, "%d is a number", row + 1);
            assert_int_equal(cell(block, (size_t)row, 0).as.i, row + 1);
            assert_string_equal(cell(block, (size_t)row, 1).as.p.data, text);
            assert_true(cell(block, (size_t)row, 2).as.d == (row + 1) / 2.0);
        }
        pier_result_free(block);
    }
}

static void test_block__holds_large_text(void **state)
{
    (void)state;
    pier_result *block = read("select 'x', replace(hex(zeroblob(1000000)), '0', 'y'), 'z'");
    assert_int_equal(cell(block, 0, 1).as.p.size, 2000000);
    assert_int_equal(strspn(cell(block, 0, 1).as.p.data, "y"), 2000000);
    assert_string_equal(cell(block, 0, 2).as.p.data, "z");
    pier_result_free(block);
}

static void test_block__outlives_the_builder_and_other_blocks(void **state)
{
    (void)state;
    pier_result *one = read("select 'one' as a"), *two = read("select 'two' as b");
    pier__sqlite_builder_fini(&builder);
    assert_string_equal(cell(one, 0, 0).as.p.data, "one");
    pier_result_free(one);
    assert_string_equal(cell(two, 0, 0).as.p.data, "two");
    assert_string_equal(two->cls->column_name(two, 0), "b");
    pier_result_free(two);
}

static int failing; /* the allocation that fails, from 1 */

static bool fail_one(size_t size)
{
    (void)size;
    return failing && !--failing;
}

static void test_builder__survives_each_failed_allocation(void **state)
{
    (void)state;
    for (int n = 1;; n++) {
        failing = n;
        pier__alloc_set_gate(fail_one);
        pier_result *block = read("with recursive n(i) as (select 1 union all select i + 1 from n "
                                  "where i < 500) select i, i || ' is a number' from n");
        pier__alloc_set_gate(NULL);
        bool complete = failing > 0;
        if (block) {
            assert_int_equal(block->count, 500);
            assert_string_equal(cell(block, 499, 1).as.p.data, "500 is a number");
            pier_result_free(block);
        }
        pier__sqlite_builder_fini(&builder);
        if (complete) {
            assert_true(n > 10);
            break;
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_block__holds_each_type_as_it_was_stored),
        TEST(test_block__of_no_rows_has_its_columns),
        TEST(test_block__of_any_size_holds_all_its_rows),
        TEST(test_block__holds_large_text),
        TEST(test_block__outlives_the_builder_and_other_blocks),
        TEST(test_builder__survives_each_failed_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
