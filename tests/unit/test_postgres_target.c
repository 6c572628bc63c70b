/* In which order hosts are tried: as in the URL, but those last that have not answered lately. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/postgres/url.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include <stdlib.h>
#include <string.h>

static pier__postgres_db *db;
static pier__postgres_conn *conn;

static int set_up(void **state)
{
    (void)state;
    pier_error err = {0};
    db = calloc(1, sizeof *db);
    conn = calloc(1, sizeof *conn);
    conn->base.db = &db->base;
    return pier__postgres_url_read(db, "postgresql://ada:x@zero,one,two/app", &err);
}

static int tear_down(void **state)
{
    (void)state;
    pier__free(conn->connecting.order);
    pier__postgres_url_fini(db);
    pier__free(db->base.name);
    free(conn);
    free(db);
    return 0;
}

static void begin(void)
{
    pier__free(conn->connecting.order);
    memset(&conn->connecting, 0, sizeof conn->connecting);
    assert_true(pier__postgres_mix_hosts(conn));
}

/* The order in which a new connection tries them, as a number. */
static int order(void)
{
    int digits = 0;
    begin();
    for (int i = 1; i <= 3; i++) {
        conn->connecting.entered = i;
        digits = digits * 10 + pier__postgres_host_index(conn);
    }
    return digits;
}

static void note(int host, bool answered)
{
    begin();
    do {
        conn->connecting.entered++;
    } while (pier__postgres_host_index(conn) != host);
    pier__postgres_host_answered(conn, answered);
}

/* As if `ms` had passed since then. */
static void let_pass(int host, int64_t ms)
{
    atomic_fetch_sub(pier__postgres_host_silence(db, host), ms * 1000000);
}

static void test_order__is_that_of_the_url(void **state)
{
    (void)state;
    assert_int_equal(order(), 12); /* 0, 1, 2 */
}

static void test_order__has_silent_hosts_last(void **state)
{
    (void)state;
    note(0, false);
    assert_int_equal(order(), 120);
    note(1, false);
    assert_int_equal(order(), 201);
    note(1, true);
    assert_int_equal(order(), 120);
}

/* Where none has answered, each has its turn, also for calls that have time for one alone. */
static void test_order__has_the_one_last_that_was_silent_last(void **state)
{
    (void)state;
    note(1, false);
    note(0, false);
    assert_int_equal(order(), 210);
    note(2, false);
    assert_int_equal(order(), 102);
    note(1, false);
    assert_int_equal(order(), 21);
}

static void test_order__forgets_silence_when_the_host_answers(void **state)
{
    (void)state;
    note(0, false);
    note(0, true);
    assert_int_equal(order(), 12);
}

/* One connection looks whether it still is; others rely on that for as long again. */
static void test_order__is_tried_again_after_a_while(void **state)
{
    (void)state;
    note(0, false);
    let_pass(0, 59000);
    assert_int_equal(order(), 120);
    let_pass(0, 1001);
    assert_int_equal(order(), 12);
    assert_int_equal(order(), 120);
    let_pass(0, 59000);
    assert_int_equal(order(), 120);
}

static void test_order__is_random_among_those_that_answer(void **state)
{
    (void)state;
    bool seen[2] = {false, false};
    note(1, false);
    db->random = true;
    for (int i = 0; i < 100; i++) {
        int digits = order();
        assert_true(digits == 21 || digits == 201);
        seen[digits == 201] = true;
    }
    assert_true(seen[0] && seen[1]); /* that 100 are alike happens once in 2^99 times */
}

static void test_order__nobody_has_been_asked_yet(void **state)
{
    (void)state;
    begin();
    pier__postgres_host_answered(conn, false);
    assert_int_equal(order(), 12);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_order__is_that_of_the_url),
        TEST(test_order__has_silent_hosts_last),
        TEST(test_order__has_the_one_last_that_was_silent_last),
        TEST(test_order__forgets_silence_when_the_host_answers),
        TEST(test_order__is_tried_again_after_a_while),
        TEST(test_order__is_random_among_those_that_answer),
        TEST(test_order__nobody_has_been_asked_yet),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
