/* The statement cache of a Postgres connection: found by text, forgotten in the order of last use.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drivers/postgres/statement_cache.h"

static pier__postgres_cache *new_cache(int max)
{
    pier__postgres_cache *cache = calloc(1, sizeof *cache);
    assert_non_null(cache);
    cache->max = max;
    return cache;
}

static void free_cache(pier__postgres_cache *cache)
{
    pier__postgres_cache_fini(cache);
    free(cache);
}

/* Gives what had to go for it, or NULL. */
static pier__postgres_statement *add(pier__postgres_cache *cache, const char *sql, const char *name)
{
    pier__postgres_statement *statement = pier__postgres_statement_new(sql, strlen(sql), name);
    assert_non_null(statement);
    return pier__postgres_cache_add(cache, statement);
}

static pier__postgres_statement *find(pier__postgres_cache *cache, const char *sql)
{
    return pier__postgres_cache_find(cache, sql, strlen(sql));
}

static void test_cache__finds_by_text_wherever_the_text_is(void **state)
{
    (void)state;
    pier__postgres_cache *cache = new_cache(10);
    char copy[] = "select 1";
    assert_null(add(cache, "select 1", "a"));
    assert_null(add(cache, "select 2", "b"));
    assert_string_equal(find(cache, copy)->name, "a");
    assert_string_equal(find(cache, "select 2")->name, "b");
    assert_null(find(cache, "select 3"));
    assert_null(find(cache, "select 1 "));
    assert_null(find(cache, ""));
    free_cache(cache);
}

static void test_cache__tells_texts_apart_that_differ_in_one_byte_anywhere(void **state)
{
    (void)state;
    enum { SIZE = 61 };
    pier__postgres_cache *cache = new_cache(SIZE);
    char text[SIZE + 1];
    for (int i = 0; i < SIZE; i++) {
        memset(text, 'a', SIZE);
        text[i] = 'b';
        text[SIZE] = 0;
        assert_null(find(cache, text));
        assert_null(add(cache, text, "s"));
        assert_ptr_equal(find(cache, text), cache->newest);
    }
    assert_int_equal(cache->count, SIZE);
    free_cache(cache);
}

static void test_cache__handles_texts_of_every_length(void **state)
{
    (void)state;
    pier__postgres_cache *cache = new_cache(40);
    char text[41];
    for (int size = 0; size < 40; size++) {
        memset(text, 'x', sizeof text);
        text[size] = 0;
        assert_null(find(cache, text));
        assert_null(add(cache, text, "s"));
    }
    for (int size = 39; size >= 0; size--) {
        text[size] = 0;
        pier__postgres_statement *found = find(cache, text);
        assert_non_null(found);
        assert_int_equal(found->sql_size, size);
    }
    free_cache(cache);
}

static void test_cache__forgets_what_was_used_longest_ago(void **state)
{
    (void)state;
    pier__postgres_cache *cache = new_cache(3);
    assert_null(add(cache, "one", "1"));
    assert_null(add(cache, "two", "2"));
    assert_null(add(cache, "three", "3"));
    assert_non_null(find(cache, "one"));
    pier__postgres_statement *victim = add(cache, "four", "4");
    assert_non_null(victim);
    assert_string_equal(victim->sql, "two");
    pier__postgres_statement_free(victim);
    assert_null(find(cache, "two"));
    assert_non_null(find(cache, "one"));
    assert_non_null(find(cache, "three"));
    assert_int_equal(cache->count, 3);
    free_cache(cache);
}

static void test_cache__removes_from_either_end_and_the_middle(void **state)
{
    (void)state;
    static const char *const order[][3] = {{"a", "b", "c"}, {"c", "b", "a"}, {"b", "a", "c"}};
    for (int i = 0; i < 3; i++) {
        pier__postgres_cache *cache = new_cache(10);
        add(cache, "a", "");
        add(cache, "b", "");
        add(cache, "c", "");
        for (int j = 0; j < 3; j++) {
            pier__postgres_statement *statement = find(cache, order[i][j]);
            pier__postgres_cache_remove(cache, statement);
            pier__postgres_statement_free(statement);
            assert_null(find(cache, order[i][j]));
        }
        assert_int_equal(cache->count, 0);
        assert_null(cache->newest);
        assert_null(cache->oldest);
        free_cache(cache);
    }
}

static void test_cache__stays_right_over_many_evictions(void **state)
{
    (void)state;
    pier__postgres_cache *cache = new_cache(PIER__POSTGRES_CACHE_MAX);
    char sql[64];
    for (int i = 0; i < 5000; i++) {
        snprintf(sql, sizeof sql, "select * from t where id = %d", i);
        pier__postgres_statement_free(add(cache, sql, "s"));
    }
    assert_int_equal(cache->count, PIER__POSTGRES_CACHE_MAX);
    for (int i = 0; i < 5000; i++) {
        snprintf(sql, sizeof sql, "select * from t where id = %d", i);
        assert_int_equal(find(cache, sql) != NULL, i >= 5000 - PIER__POSTGRES_CACHE_MAX);
    }
    free_cache(cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cache__finds_by_text_wherever_the_text_is),
        cmocka_unit_test(test_cache__tells_texts_apart_that_differ_in_one_byte_anywhere),
        cmocka_unit_test(test_cache__handles_texts_of_every_length),
        cmocka_unit_test(test_cache__forgets_what_was_used_longest_ago),
        cmocka_unit_test(test_cache__removes_from_either_end_and_the_middle),
        cmocka_unit_test(test_cache__stays_right_over_many_evictions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
