/* Pools that are kept in order: a minimum, idle time, age, who may wait, homes, ends, figures. */
#include "tests/unit/passing_time.h"
#include "tests/unit/pool_of_things.h"

static void user_step(pier__op *op, unsigned events)
{
    (void)op;
    (void)events;
}

static int set_up_stopped(void **state)
{
    int status = set_up(state);
    time_stop();
    return status;
}

static int tear_down_stopped(void **state)
{
    time_go_on();
    return tear_down(state);
}

/* Thing i has been idle since then. */
static void make_idle(int i, int64_t since)
{
    make(i);
    pier__pool_opened(&pool, &things[i].pooled);
    things[i].pooled.idle_since = since;
}

static int count(const pier__pooled *list)
{
    int n = 0;
    for (; list; list = list->next) {
        n++;
    }
    return n;
}

static pier_pool_stats figures(void)
{
    pier_pool_stats stats = {0};
    pier__pool_add_stats(&pool, &stats);
    return stats;
}

/* ---- Who may wait ------------------------------------------------------------------------- */

static void test_waiting_max__refuses_those_beyond_it(void **state)
{
    (void)state;
    pool.waiting_max = 1;
    make(0);
    make(1);
    assert_int_equal(take(2), PIER__POOL_WAIT);
    assert_int_equal(take(3), PIER__POOL_FULL);
    assert_int_equal(figures().refused, 1);
    assert_int_equal(figures().waiting, 1);
    give(0); /* the second user has it */
    assert_int_equal(take(3), PIER__POOL_WAIT);
}

static void test_waiting_max__may_let_nobody_wait(void **state)
{
    (void)state;
    pool.waiting_max = -1;
    make(0);
    make(1);
    assert_int_equal(take(2), PIER__POOL_FULL);
    give(0);
    assert_int_equal(take(2), PIER__POOL_GOT);
    assert_int_equal(figures().refused, 1);
}

static void test_waiting_max__does_not_count_who_exchanges_a_lost_one(void **state)
{
    (void)state;
    pool.waiting_max = 1;
    pool.max = 1;
    make(0);
    assert_int_equal(take(1), PIER__POOL_WAIT);
    pool.max = 0; /* nothing can be made */
    assert_int_equal(pier__pool_exchange(&pool, &things[0].pooled, &users[2]->ticket),
                     PIER__POOL_WAIT);
    assert_int_equal(pool.waiting, 2);
}

static void test_exchange__makes_another_at_once_where_it_may(void **state)
{
    (void)state;
    make(0);
    make(1);
    assert_int_equal(take(2), PIER__POOL_WAIT);
    assert_int_equal(pier__pool_exchange(&pool, &things[0].pooled, &users[3]->ticket),
                     PIER__POOL_MAKE);
    assert_int_equal(pool.total, 2);
    assert_false(is_woken(2));
    assert_int_equal(figures().lost, 1);
}

/* ---- The minimum -------------------------------------------------------------------------- */

static void test_refill__makes_up_the_minimum(void **state)
{
    (void)state;
    pool.max = 4;
    pool.min = 3;
    make(0);
    assert_int_equal(pier__pool_refill(&pool), 2);
    assert_int_equal(pool.total, 3);
    assert_int_equal(pier__pool_refill(&pool), 0);
    assert_int_equal(pier__pool_next(&pool), 0);
}

static void test_refill__never_goes_beyond_the_maximum(void **state)
{
    (void)state;
    pool.min = 5;
    assert_int_equal(pier__pool_refill(&pool), 2);
}

static void test_refill__makes_nothing_for_a_closed_pool(void **state)
{
    (void)state;
    pool.min = 2;
    pier__pool_close(&pool);
    assert_int_equal(pier__pool_refill(&pool), 0);
    assert_int_equal(pier__pool_next(&pool), 0);
}

static void test_keeper__is_woken_when_the_minimum_is_not_there(void **state)
{
    (void)state;
    pool.keeper = &users[5]->op;
    pool.min = 1;
    make(0);
    make(1);
    pier__pool_lost(&pool, &things[0].pooled);
    assert_false(is_woken(5));
    pier__pool_lost(&pool, &things[1].pooled);
    assert_true(is_woken(5));
}

/* ---- Idle time and age -------------------------------------------------------------------- */

static void test_sweep__takes_what_was_idle_for_so_long(void **state)
{
    (void)state;
    int64_t now = time_now();
    make_idle(0, now - 100);
    make_idle(1, now - 99);
    give(0);
    give(1);
    assert_null(pier__pool_sweep(&pool, now, 0)); /* any time is right */
    assert_null(pier__pool_sweep(&pool, now, 101));
    pier__pooled *swept = pier__pool_sweep(&pool, now, 100);
    assert_ptr_equal(swept, &things[0].pooled);
    assert_null(swept->next);
    assert_ptr_equal(pool.idle, &things[1].pooled);
    assert_int_equal(figures().idle_ended, 1);
}

static void test_sweep__leaves_the_minimum(void **state)
{
    (void)state;
    int64_t now = time_now();
    pool.max = 4;
    pool.min = 2;
    for (int i = 0; i < 4; i++) {
        make_idle(i, now - 100);
    }
    for (int i = 0; i < 3; i++) {
        give(i); /* the fourth one counts too */
    }
    assert_int_equal(count(pier__pool_sweep(&pool, now, 100)), 2);
    assert_int_equal(count(pool.idle), 1);
}

static void test_sweep__takes_what_is_old_whatever_the_minimum(void **state)
{
    (void)state;
    int64_t now = time_now();
    pool.min = 2;
    make_idle(0, now);
    make_idle(1, now);
    things[0].pooled.ends_at = now;
    things[1].pooled.ends_at = now + 1;
    give(0);
    give(1);
    pier__pooled *swept = pier__pool_sweep(&pool, now, 0);
    assert_ptr_equal(swept, &things[0].pooled);
    assert_null(swept->next);
    assert_int_equal(figures().idle_ended, 0);
    pier__pool_lost(&pool, swept);
    assert_int_equal(figures().retired, 1);
    assert_int_equal(figures().lost, 0);
}

static void test_sweep__counts_what_is_old_towards_what_may_go(void **state)
{
    (void)state;
    int64_t now = time_now();
    pool.min = 1;
    make_idle(0, now - 100);
    make_idle(1, now - 100);
    things[1].pooled.ends_at = now;
    give(0);
    give(1);
    assert_int_equal(count(pier__pool_sweep(&pool, now, 100)), 1);
    assert_ptr_equal(pool.idle, &things[0].pooled);
}

static bool is_second(const pier__pooled *thing)
{
    return thing == &things[1].pooled;
}

static void test_take_those__borrows_what_is_asked_for(void **state)
{
    (void)state;
    make(0);
    make(1);
    give(0);
    give(1);
    pier__pooled *taken = pier__pool_take_those(&pool, is_second);
    assert_ptr_equal(taken, &things[1].pooled);
    assert_null(taken->next);
    assert_int_equal(figures().leased, 1);
    assert_null(pier__pool_take_those(&pool, is_second));
    give(1);
    assert_int_equal(figures().idle, 2);
}

/* ---- Expiring ----------------------------------------------------------------------------- */

static void test_expire__takes_what_is_idle_and_refuses_what_comes_back(void **state)
{
    (void)state;
    make(0);
    make(1);
    give(0);
    pier__pooled *idle = pier__pool_expire(&pool);
    assert_ptr_equal(idle, &things[0].pooled);
    assert_null(idle->next);
    pier__pool_lost(&pool, idle);
    assert_false(give(1));
    pier__pool_lost(&pool, &things[1].pooled);
    assert_int_equal(figures().retired, 2);
    assert_int_equal(figures().lost, 0);
    make(2);
    assert_true(give(2)); /* it was made after that */
}

static void test_expire__reaches_what_is_being_made(void **state)
{
    (void)state;
    make(0);
    assert_null(pier__pool_expire(&pool));
    pier__pool_opened(&pool, &things[0].pooled);
    take(1);
    assert_false(give(0)); /* although somebody waits: he may make another */
}

static void test_expire__leaves_a_closed_pool_alone(void **state)
{
    (void)state;
    make(0);
    give(0);
    assert_ptr_equal(pier__pool_close(&pool), &things[0].pooled);
    assert_null(pier__pool_expire(&pool));
}

/* ---- Homes -------------------------------------------------------------------------------- */

static void test_home__of_the_loop_is_left_to_it_while_another_can_be_made(void **state)
{
    (void)state;
    make(0);
    things[0].pooled.on_loop = true;
    give(0);
    make(1); /* a thread */
    users[2]->op.on_loop = true;
    assert_int_equal(take(2), PIER__POOL_GOT);
    assert_ptr_equal(got(2), &things[0]);
}

static void test_home__of_threads_is_no_bar_to_the_loop(void **state)
{
    (void)state;
    make(0);
    give(0);
    users[1]->op.on_loop = true;
    assert_int_equal(take(1), PIER__POOL_GOT);
    assert_ptr_equal(got(1), &things[0]);
}

static void test_home__goes_before_what_was_used_last(void **state)
{
    (void)state;
    make(0);
    make(1);
    things[0].pooled.on_loop = true;
    give(0);
    give(1); /* newest */
    users[2]->op.on_loop = true;
    assert_int_equal(take(2), PIER__POOL_GOT);
    assert_ptr_equal(got(2), &things[0]);
}

/* ---- Holders ------------------------------------------------------------------------------ */

static void test_hold__lasts_until_the_thing_is_given_back(void **state)
{
    (void)state;
    const void *me = pier__pool_holder();
    make(0);
    assert_false(pier__pool_is_held(&pool, me));
    pier__pool_hold(&pool, &things[0].pooled, me, "a lease");
    assert_true(pier__pool_is_held(&pool, me));
    assert_int_equal(things[0].pooled.held_since, time_now());
    give(0);
    assert_false(pier__pool_is_held(&pool, me));
}

/* ---- The end ------------------------------------------------------------------------------ */

static void test_end__comes_with_the_last_thing(void **state)
{
    (void)state;
    assert_false(pier__pool_await_end(&pool, &users[3]->ticket)); /* not closed */
    pier__pool_leave_end(&pool, &users[3]->ticket);
    make(0);
    make(1);
    assert_null(pier__pool_close(&pool));
    assert_false(pier__pool_await_end(&pool, &users[2]->ticket));
    assert_false(pier__pool_await_end(&pool, &users[3]->ticket));
    assert_false(pier__pool_await_end(&pool, &users[3]->ticket)); /* enters it once */
    pier__pool_lost(&pool, &things[0].pooled);
    assert_false(is_woken(2));
    pier__pool_lost(&pool, &things[1].pooled);
    assert_true(is_woken(2) && is_woken(3));
    assert_true(pier__pool_await_end(&pool, &users[2]->ticket));
    assert_null(pool.enders);
}

static void test_end__is_told_by_an_exchange_too(void **state)
{
    (void)state;
    make(0);
    assert_null(pier__pool_close(&pool));
    assert_false(pier__pool_await_end(&pool, &users[2]->ticket));
    assert_int_equal(pier__pool_exchange(&pool, &things[0].pooled, &users[1]->ticket),
                     PIER__POOL_CLOSED);
    assert_true(is_woken(2));
}

static void test_end__does_not_wake_who_has_left(void **state)
{
    (void)state;
    make(0);
    assert_null(pier__pool_close(&pool));
    assert_false(pier__pool_await_end(&pool, &users[2]->ticket));
    assert_false(pier__pool_await_end(&pool, &users[3]->ticket));
    pier__pool_leave_end(&pool, &users[2]->ticket);
    pier__pool_lost(&pool, &things[0].pooled);
    assert_false(is_woken(2));
    assert_true(is_woken(3));
}

/* ---- Figures ------------------------------------------------------------------------------ */

static void test_stats__measure_waits(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    time_pass_ms(20);
    take(3);
    time_pass_ms(30);
    give(0); /* the second user has waited for 50 ms */
    time_pass_ms(5);
    pier__pool_leave(&pool, &users[3]->ticket); /* 35 */
    assert_int_equal(figures().waits, 2);
    assert_int_equal(figures().wait_total_us, 85000);
    assert_int_equal(figures().wait_max_us, 50000);
    assert_int_equal(figures().waiting, 0);
}

static void test_stats__tell_what_was_lost_from_what_was_retired(void **state)
{
    (void)state;
    make(0);
    make(1);
    things[0].pooled.retired = true;
    pier__pool_lost(&pool, &things[0].pooled);
    pier__pool_lost(&pool, &things[1].pooled);
    assert_int_equal(figures().retired, 1);
    assert_int_equal(figures().lost, 1);
    assert_int_equal(figures().made, 2);
    make(2);
    make(3);
    pier__pool_close(&pool);
    things[3].pooled.retired = true;
    pier__pool_lost(&pool, &things[2].pooled); /* its end was asked for */
    pier__pool_lost(&pool, &things[3].pooled);
    assert_int_equal(figures().lost, 1);
    assert_int_equal(figures().retired, 1);
}

static void test_stats__count_resets_where_they_are_given_back(void **state)
{
    (void)state;
    make(0);
    things[0].pooled.was_reset = true;
    give(0);
    assert_int_equal(figures().resets, 1);
    take(1);
    things[0].pooled.was_reset = false;
    give(0);
    assert_int_equal(figures().resets, 1);
}

static void test_stats__of_two_pools_add_up(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    time_pass_ms(10);
    give(0);
    pier_pool_stats stats = {.max = 3, .size = 1, .wait_max_us = 20000, .wait_total_us = 20000};
    pier__pool_add_stats(&pool, &stats);
    assert_int_equal(stats.max, 5);
    assert_int_equal(stats.size, 3);
    assert_int_equal(stats.wait_max_us, 20000);
    assert_int_equal(stats.wait_total_us, 30000);
}

#undef TEST
#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up_stopped, tear_down_stopped)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_waiting_max__refuses_those_beyond_it),
        TEST(test_waiting_max__may_let_nobody_wait),
        TEST(test_waiting_max__does_not_count_who_exchanges_a_lost_one),
        TEST(test_exchange__makes_another_at_once_where_it_may),
        TEST(test_refill__makes_up_the_minimum),
        TEST(test_refill__never_goes_beyond_the_maximum),
        TEST(test_refill__makes_nothing_for_a_closed_pool),
        TEST(test_keeper__is_woken_when_the_minimum_is_not_there),
        TEST(test_sweep__takes_what_was_idle_for_so_long),
        TEST(test_sweep__leaves_the_minimum),
        TEST(test_sweep__takes_what_is_old_whatever_the_minimum),
        TEST(test_sweep__counts_what_is_old_towards_what_may_go),
        TEST(test_take_those__borrows_what_is_asked_for),
        TEST(test_expire__takes_what_is_idle_and_refuses_what_comes_back),
        TEST(test_expire__reaches_what_is_being_made),
        TEST(test_expire__leaves_a_closed_pool_alone),
        TEST(test_home__of_the_loop_is_left_to_it_while_another_can_be_made),
        TEST(test_home__of_threads_is_no_bar_to_the_loop),
        TEST(test_home__goes_before_what_was_used_last),
        TEST(test_hold__lasts_until_the_thing_is_given_back),
        TEST(test_end__comes_with_the_last_thing),
        TEST(test_end__is_told_by_an_exchange_too),
        TEST(test_end__does_not_wake_who_has_left),
        TEST(test_stats__measure_waits),
        TEST(test_stats__tell_what_was_lost_from_what_was_retired),
        TEST(test_stats__count_resets_where_they_are_given_back),
        TEST(test_stats__of_two_pools_add_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
