/* Pools whose things cannot be made: pauses, one attempt at a time, and who hears of it. */
#include "tests/unit/passing_time.h"
#include "tests/unit/pool_of_things.h"

#include "sdk/alloc.h"

static const pier_error down = {.status = PIER_ECONNECT, .message = "nobody listens"};

static void user_step(pier__op *op, unsigned events)
{
    (void)op;
    (void)events;
}

static int set_up_backing_off(void **state)
{
    int status = set_up(state);
    pool.backs_off = true;
    time_stop();
    return status;
}

static int tear_down_backing_off(void **state)
{
    time_go_on();
    return tear_down(state);
}

/* Thing i, which is being made, cannot be opened. */
static void fail_at(int i, bool probes)
{
    pier__pool_failed(&pool, &down, probes);
    pier__pool_lost(&pool, &things[i].pooled);
}

/* User i makes thing i, which fails. */
static void make_and_fail(int i)
{
    make(i);
    fail_at(i, pier__pool_probes(&pool));
}

static void make_and_open(int i)
{
    make(i);
    pier__pool_opened(&pool, &things[i].pooled);
}

/* User i finds that it may not make one now. */
static void refuse_to_make(int i)
{
    assert_int_equal(take(i), PIER__POOL_WAIT);
    assert_true(pier__pool_leave(&pool, &users[i]->ticket));
}

static void test_pause__grows_from_25_to_600_ms(void **state)
{
    (void)state;
    static const int longest_ms[] = {50, 100, 200, 400, 600, 600, 600};
    for (size_t i = 0; i < sizeof longest_ms / sizeof *longest_ms; i++) {
        make_and_fail(0);
        int64_t pause = pool.retry_at - time_now(), longest = longest_ms[i] * (int64_t)TIME_MS;
        assert_in_range(pause, longest / 2, longest - 1);
        time_pass_ns(pause - 1);
        refuse_to_make(1);
        time_pass_ns(1);
    }
    make_and_open(0);
    assert_int_equal(pool.failures, 0);
}

static void test_pause__is_another_each_time(void **state)
{
    (void)state;
    enum { TIMES = 200 };
    int quarters[4] = {0};
    for (int i = 0; i < TIMES; i++) {
        time_pass_ms(7);
        make_and_fail(0);
        int64_t more = pool.retry_at - time_now() - 25 * (int64_t)TIME_MS;
        assert_in_range(more, 0, 25 * (int64_t)TIME_MS - 1);
        quarters[more * 4 / (25 * (int64_t)TIME_MS)]++;
        pool.failures = 0;
    }
    for (int i = 0; i < 4; i++) {
        assert_in_range(quarters[i], TIMES / 8, TIMES / 2);
    }
}

static void test_attempts__that_began_together_count_once(void **state)
{
    (void)state;
    make(0);
    make(1);
    fail_at(0, false);
    int64_t retry_at = pool.retry_at;
    time_pass_ms(10);
    fail_at(1, false);
    assert_int_equal(pool.failures, 1);
    assert_int_equal(pool.retry_at, retry_at);
    pier_pool_stats stats = {0};
    pier__pool_add_stats(&pool, &stats);
    assert_int_equal(stats.failed, 2);
}

static void test_attempts__are_made_one_at_a_time(void **state)
{
    (void)state;
    make_and_fail(0);
    assert_false(pier__pool_probes(&pool));
    time_pass_ms(50);
    make(0);
    assert_true(pier__pool_probes(&pool));
    time_pass_ms(60000); /* it takes long */
    refuse_to_make(1);
    fail_at(0, true);
    assert_int_equal(pool.failures, 2);
    refuse_to_make(1);
    time_pass_ms(100);
    make(1);
}

static void test_attempt__that_is_given_up_lets_the_next_one_try_after_a_pause(void **state)
{
    (void)state;
    make_and_fail(0);
    time_pass_ms(50);
    make(0);
    pier__pool_lost(&pool, &things[0].pooled); /* cancelled: that says nothing about the server */
    assert_int_equal(pool.failures, 1);
    refuse_to_make(1);
    time_pass_ms(50);
    make(1);
}

static void test_attempt__goes_on_while_a_thing_that_was_open_is_lost(void **state)
{
    (void)state;
    make_and_open(0);
    make_and_fail(1);
    time_pass_ms(50);
    make(1);
    pier__pool_lost(&pool, &things[0].pooled);
    assert_true(pier__pool_probes(&pool));
    time_pass_ms(1000);
    refuse_to_make(2);
}

static void test_waiters__hear_why_when_nothing_can_come_back(void **state)
{
    (void)state;
    pier_error why = {0};
    make(0);
    make(1);
    take(2);
    take(3);
    fail_at(0, false);
    for (int i = 2; i < 4; i++) {
        assert_true(is_woken(i));
        assert_true(users[i]->ticket.failed);
        assert_true(pier__pool_leave(&pool, &users[i]->ticket)); /* they were given nothing */
    }
    assert_int_equal(pool.waiting, 0);
    assert_int_equal(pool.total, 1);
    pier__pool_failure(&pool, &why);
    assert_int_equal(why.status, PIER_ECONNECT);
    assert_string_equal(why.message, "nobody listens");
}

static void test_waiters__hear_why_when_what_was_open_is_lost(void **state)
{
    (void)state;
    make_and_open(0);
    make(1);
    pier__pool_lost(&pool, &things[0].pooled);
    make(2);
    take(3);
    fail_at(1, false);
    assert_true(is_woken(3) && users[3]->ticket.failed);
}

static void test_waiters__go_on_while_something_may_come_back(void **state)
{
    (void)state;
    make_and_open(0);
    make(1);
    take(2);
    fail_at(1, false);
    assert_false(is_woken(2));
    assert_int_equal(pool.waiting, 1);
    assert_int_equal(pool.total, 1); /* nobody inherits a place that cannot be filled */
    give(0);
    assert_ptr_equal(got(2), &things[0]);
}

static void test_waiters__for_a_trial_hear_how_it_ends(void **state)
{
    (void)state;
    make_and_fail(0);
    time_pass_ms(50);
    make(0);
    assert_int_equal(take(1), PIER__POOL_WAIT);
    fail_at(0, true);
    assert_true(is_woken(1) && users[1]->ticket.failed);
}

static void test_waiters__are_served_as_many_as_can_be_made_when_it_works_again(void **state)
{
    (void)state;
    pool.max = 3;
    make_and_fail(0);
    time_pass_ms(50);
    make(0);
    for (int i = 1; i < 4; i++) {
        assert_int_equal(take(i), PIER__POOL_WAIT);
    }
    pier__pool_opened(&pool, &things[0].pooled);
    assert_int_equal(pool.failures, 0);
    assert_false(pier__pool_probes(&pool));
    for (int i = 1; i < 3; i++) {
        assert_true(is_woken(i) && users[i]->ticket.served);
        assert_null(got(i));
        assert_false(users[i]->ticket.failed);
    }
    assert_false(is_woken(3));
    assert_int_equal(pool.total, 3);
    give(0);
    assert_ptr_equal(got(3), &things[0]);
}

static void test_keeper__tries_for_those_who_have_others_to_wait_for(void **state)
{
    (void)state;
    pool.keeper = &users[5]->op;
    pool.max = 3;
    make_and_open(0);
    make_and_fail(1);
    time_pass_ms(50);
    assert_int_equal(pier__pool_refill(&pool), 0); /* nobody wants one */
    assert_int_equal(pier__pool_next(&pool), 0);
    forget_wake(5);
    assert_int_equal(take(2), PIER__POOL_WAIT); /* who asks need not fail for it */
    assert_true(is_woken(5));
    assert_int_equal(pier__pool_next(&pool), pool.retry_at);
    assert_int_equal(pier__pool_refill(&pool), 1);
    assert_int_equal(pool.total, 2);
    assert_int_equal(pier__pool_next(&pool), 0); /* how that ends, it is told */
    assert_int_equal(pier__pool_refill(&pool), 0);
    pier__pool_made(&pool, &things[1].pooled);
    fail_at(1, true);
    assert_int_equal(pier__pool_next(&pool), pool.retry_at);
    assert_in_range(pool.retry_at - time_now(), 50 * (int64_t)TIME_MS, 100 * (int64_t)TIME_MS);
    assert_int_equal(pier__pool_refill(&pool), 0);
    assert_false(is_woken(2));
}

static void test_keeper__leaves_it_to_who_asks_where_nothing_is_open(void **state)
{
    (void)state;
    pool.keeper = &users[5]->op;
    make_and_fail(0);
    time_pass_ms(50);
    make(1);
}

static void test_exchange__while_it_is_down_waits_before_all_others(void **state)
{
    (void)state;
    pool.keeper = &users[5]->op;
    make_and_open(0);
    make_and_fail(1);
    assert_int_equal(take(2), PIER__POOL_WAIT);
    users[3]->ticket.op = &users[3]->op;
    assert_int_equal(pier__pool_exchange(&pool, &things[0].pooled, &users[3]->ticket),
                     PIER__POOL_WAIT);
    assert_int_equal(pool.total, 0);
    assert_ptr_equal(pool.head, &users[3]->ticket);
    assert_int_equal(pool.waiting, 2);
}

static void test_pool__that_was_not_told_to_makes_no_pauses(void **state)
{
    (void)state;
    pool.backs_off = false;
    make(0);
    make(1);
    take(2);
    fail_at(0, false);
    assert_int_equal(pool.failures, 0);
    assert_true(users[2]->ticket.served && !users[2]->ticket.failed);
    pier__pool_lost(&pool, NULL);
    make(3);
}

static void test_pool__that_is_closed_learns_nothing_more(void **state)
{
    (void)state;
    pool.keeper = &users[5]->op;
    pool.min = 1;
    make(0);
    assert_null(pier__pool_close(&pool));
    fail_at(0, false);
    assert_int_equal(pool.failures, 0);
    assert_false(is_woken(5));
    assert_int_equal(pool.total, 0);
}

static bool fail_always(size_t size)
{
    (void)size;
    return true;
}

static void test_failure__is_told_without_memory_for_it(void **state)
{
    (void)state;
    pier_error why = {0};
    pier__alloc_set_gate(fail_always);
    make_and_fail(0);
    pier__alloc_set_gate(NULL);
    pier__pool_failure(&pool, &why);
    assert_int_equal(why.status, PIER_ECONNECT);
    assert_string_equal(why.message, "no new thing could be made");
}

#undef TEST
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up_backing_off, tear_down_backing_off)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pause__grows_from_25_to_600_ms),
        TEST(test_pause__is_another_each_time),
        TEST(test_attempts__that_began_together_count_once),
        TEST(test_attempts__are_made_one_at_a_time),
        TEST(test_attempt__that_is_given_up_lets_the_next_one_try_after_a_pause),
        TEST(test_attempt__goes_on_while_a_thing_that_was_open_is_lost),
        TEST(test_waiters__hear_why_when_nothing_can_come_back),
        TEST(test_waiters__hear_why_when_what_was_open_is_lost),
        TEST(test_waiters__go_on_while_something_may_come_back),
        TEST(test_waiters__for_a_trial_hear_how_it_ends),
        TEST(test_waiters__are_served_as_many_as_can_be_made_when_it_works_again),
        TEST(test_keeper__tries_for_those_who_have_others_to_wait_for),
        TEST(test_keeper__leaves_it_to_who_asks_where_nothing_is_open),
        TEST(test_exchange__while_it_is_down_waits_before_all_others),
        TEST(test_pool__that_was_not_told_to_makes_no_pauses),
        TEST(test_pool__that_is_closed_learns_nothing_more),
        TEST(test_failure__is_told_without_memory_for_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
