/* Pools: bounded, first come first served, handed over directly. */
#include "tests/unit/pool_of_things.h"

#include "sdk/alloc.h"
#include <pier/future.h>
#include <pthread.h>

enum { ROUNDS = 300 };

static atomic_int uses, collisions;

/* A user borrows a thing, makes one where it may, checks that it is alone with it, gives it back.
 */
static void use(pier__op *op, pier__pooled *pooled)
{
    struct thing *thing = (struct thing *)pooled;
    atomic_fetch_add(&collisions, atomic_fetch_add(&thing->users, 1));
    atomic_fetch_sub(&thing->users, 1);
    /* Now and then one breaks. */
    if (atomic_fetch_add(&uses, 1) % 7 == 0 || !pier__pool_give(&pool, pooled)) {
        pier__pool_lost(&pool, pooled);
        pier__free(thing);
    }
    pier__op_succeed_int(op, 1);
}

static void make_and_use(pier__op *op)
{
    struct thing *thing = pier__calloc(1, sizeof *thing);
    pier__pool_made(&pool, &thing->pooled);
    use(op, &thing->pooled);
}

static void give_back_unused(struct user_op *user)
{
    if (user->ticket.got) {
        if (!pier__pool_give(&pool, user->ticket.got)) {
            pier__pool_lost(&pool, user->ticket.got);
        }
    } else {
        pier__pool_lost(&pool, NULL);
    }
}

static void user_step(pier__op *op, unsigned events)
{
    struct user_op *user = (struct user_op *)op;
    if (events & PIER__START) {
        pier__pool_answer answer = pier__pool_take(&pool, &user->ticket);
        if (answer == PIER__POOL_GOT) {
            use(op, user->ticket.got);
        } else if (answer == PIER__POOL_MAKE) {
            make_and_use(op);
        }
    } else if (events & PIER__CANCEL) {
        if (!pier__pool_leave(&pool, &user->ticket)) {
            give_back_unused(user);
        }
        pier__op_fail_cancelled(op);
    } else if (user->ticket.served) {
        if (user->ticket.got) {
            use(op, user->ticket.got);
        } else {
            make_and_use(op);
        }
    }
}

static void test_pool__makes_up_to_its_maximum_and_then_has_others_wait(void **state)
{
    (void)state;
    make(0);
    make(1);
    assert_int_equal(take(2), PIER__POOL_WAIT);
    assert_int_equal(pool.total, 2);
    assert_int_equal(pool.waiting, 1);
    give(0);
}

static void test_pool__hands_out_what_is_idle_before_making_more(void **state)
{
    (void)state;
    make(0);
    give(0);
    assert_int_equal(take(1), PIER__POOL_GOT);
    assert_ptr_equal(got(1), &things[0]);
    assert_int_equal(pool.total, 1);
}

static void test_pool__hands_a_returned_thing_to_the_first_waiter(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    take(3);
    assert_true(give(1));
    assert_ptr_equal(got(2), &things[1]);
    assert_true(is_woken(2));
    assert_false(is_woken(3));
    assert_int_equal(take(4), PIER__POOL_WAIT); /* nobody overtakes */
    give(0);
    assert_ptr_equal(got(3), &things[0]);
    assert_false(is_woken(4));
    give(0);
    assert_ptr_equal(got(4), &things[0]);
}

static void test_pool__lets_the_first_waiter_make_another_when_one_is_lost(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    take(3);
    pier__pool_lost(&pool, &things[0].pooled);
    assert_true(users[2]->ticket.served);
    assert_null(got(2));
    assert_true(is_woken(2));
    assert_false(is_woken(3));
    assert_int_equal(pool.total, 2); /* the place was inherited */
    pier__pool_lost(&pool, NULL);    /* it could not make one: the next may try */
    assert_true(users[3]->ticket.served && !got(3));
    pier__pool_lost(&pool, NULL);
    assert_int_equal(pool.total, 1);
    make(4);
}

static void test_waiter__that_leaves_is_passed_over(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    take(3);
    assert_true(pier__pool_leave(&pool, &users[3]->ticket));
    assert_true(pier__pool_leave(&pool, &users[2]->ticket));
    assert_int_equal(pool.waiting, 0);
    take(4);
    give(0);
    assert_ptr_equal(got(4), &things[0]);
    assert_false(is_woken(2) || is_woken(3));
}

static void test_waiter__that_was_served_must_give_it_back(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    take(3);
    give(0);
    assert_false(pier__pool_leave(&pool, &users[2]->ticket));
    give(0);
    assert_ptr_equal(got(3), &things[0]);
}

static void test_pool__refuses_whoever_holds_all_of_it(void **state)
{
    (void)state;
    const void *me = pier__pool_holder();
    make(0);
    make(1);
    users[2]->op.holder = me;
    pier__pool_hold(&pool, &things[0].pooled, me, "transaction");
    assert_int_equal(take(2), PIER__POOL_WAIT); /* the other one may come back */
    pier__pool_leave(&pool, &users[2]->ticket);
    pier__pool_hold(&pool, &things[1].pooled, me, "lease");
    assert_int_equal(take(2), PIER__POOL_SELF);
    users[3]->op.holder = &users[3];
    assert_int_equal(take(3), PIER__POOL_WAIT); /* another thread may wait for them */
    give(1);
}

static void test_pool__has_its_only_holder_wait_while_another_can_be_made_later(void **state)
{
    (void)state;
    const void *me = pier__pool_holder();
    const pier_error err = {.status = PIER_ECONNECT, .message = "down"};
    pool.backs_off = true;
    make(0);
    pier__pool_opened(&pool, &things[0].pooled);
    pier__pool_hold(&pool, &things[0].pooled, me, "lease");
    assert_int_equal(take(1), PIER__POOL_MAKE);
    pier__pool_failed(&pool, &err, false);
    pier__pool_lost(&pool, NULL);
    users[2]->op.holder = me;
    assert_int_equal(take(2), PIER__POOL_WAIT);
    pier__pool_leave(&pool, &users[2]->ticket);
}

static void assert_described(const pier__op *asker, const char *expected)
{
    char text[100];
    pier__pool_describe(&pool, asker, text, sizeof text);
    assert_string_equal(text, expected);
}

static void test_describe__counts_what_each_kind_of_holder_has(void **state)
{
    (void)state;
    pool.max = COUNT;
    assert_described(NULL, "nobody any more");
    for (int i = 0; i < COUNT - 1; i++) {
        make(i);
    }
    assert_described(NULL, "5 calls");
    const void *me = &users[0];
    users[5]->op.holder = me;
    assert_described(&users[5]->op, "5 calls of others");
    pier__pool_hold(&pool, &things[0].pooled, me, "a transaction");
    assert_described(&users[5]->op, "a transaction of this thread, 4 calls of others");
    pier__pool_hold(&pool, &things[1].pooled, me, "a lease");
    pier__pool_hold(&pool, &things[2].pooled, me, "a transaction");
    pier__pool_hold(&pool, &things[3].pooled, &things, "a cursor");
    give(4); /* idle, it is nobody's */
    assert_described(&users[5]->op,
                     "2 transactions and a lease of this thread, a cursor of others");
    users[5]->op.on_loop = true;
    assert_described(&users[5]->op, "2 transactions and a lease of this task, a cursor of others");
    users[5]->op.on_loop = false;
    assert_described(NULL, "a cursor, 2 transactions and a lease");
}

static void test_describe__is_cut_to_the_buffer(void **state)
{
    (void)state;
    make(0);
    make(1);
    char text[6];
    pier__pool_describe(&pool, NULL, text, sizeof text);
    assert_string_equal(text, "2 cal");
    pier__pool_describe(&pool, NULL, text, 0);
}

static void test_close__wakes_those_who_wait_with_nothing(void **state)
{
    (void)state;
    make(0);
    make(1);
    take(2);
    take(3);
    assert_null(pier__pool_close(&pool));
    for (int i = 2; i < 4; i++) {
        assert_true(is_woken(i));
        assert_true(users[i]->ticket.closed);
        assert_true(pier__pool_leave(&pool, &users[i]->ticket));
    }
    assert_int_equal(take(4), PIER__POOL_CLOSED);
    assert_false(give(0));
    pier__pool_lost(&pool, &things[0].pooled);
    pier__pool_lost(&pool, &things[1].pooled);
    assert_int_equal(pool.total, 0);
}

static void test_close__gives_the_idle_things_out(void **state)
{
    (void)state;
    make(0);
    make(1);
    give(0);
    give(1);
    pier__pooled *idle = pier__pool_close(&pool);
    assert_ptr_equal(idle, &things[1].pooled);
    assert_ptr_equal(idle->next, &things[0].pooled);
    assert_null(idle->next->next);
}

static void test_pool__prefers_a_thing_of_the_same_home(void **state)
{
    (void)state;
    make(0);
    make(1);
    things[0].pooled.on_loop = true;
    give(1);
    give(0); /* newest */
    assert_int_equal(take(2), PIER__POOL_GOT);
    assert_ptr_equal(got(2), &things[1]);
    assert_int_equal(take(3), PIER__POOL_GOT); /* the loop's, rather than wait */
    assert_ptr_equal(got(3), &things[0]);
}

static void test_stats__count_what_happened(void **state)
{
    (void)state;
    pier_pool_stats stats = {0};
    make(0);
    make(1);
    take(2);
    take(3);
    pier__pool_leave(&pool, &users[3]->ticket);
    pier__pool_add_stats(&pool, &stats);
    assert_int_equal(stats.max, 2);
    assert_int_equal(stats.size, 2);
    assert_int_equal(stats.leased, 2);
    assert_int_equal(stats.waiting, 1);
    give(0);
    give(0);
    pier__pool_lost(&pool, &things[1].pooled);
    memset(&stats, 0, sizeof stats);
    pier__pool_add_stats(&pool, &stats);
    assert_int_equal(stats.size, 1);
    assert_int_equal(stats.idle, 1);
    assert_int_equal(stats.leased, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.made, 2);
    assert_int_equal(stats.lost, 1);
    assert_int_equal(stats.acquires, 4);
    assert_int_equal(stats.waits, 2);
    assert_true(stats.wait_max_us <= stats.wait_total_us);
}

static void *use_many(void *arg)
{
    atomic_int *done = arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2) {
            atomic_fetch_add(done, pier__op_take_int(pier__op_run(&new_user()->op, NULL), "int",
                                                     NULL) == 1);
            continue;
        }
        pier_future *future = pier__op_submit(&new_user()->op);
        if (i % 4 == 0) {
            pier_future_cancel(future);
        }
        int status = pier__op_take_int(future, "int", NULL);
        atomic_fetch_add(done, status == 1 || (i % 4 == 0 && status == PIER_ECANCELLED));
    }
    return NULL;
}

static void test_pool__serves_threads_and_loop_while_waiters_leave(void **state)
{
    (void)state;
    pthread_t threads[4];
    atomic_int done = 0;
    atomic_store(&collisions, 0);
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, use_many, &done);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_int_equal(done, 4 * ROUNDS);
    assert_int_equal(collisions, 0);
    assert_int_equal(pool.waiting, 0);
    for (pier__pooled *thing = pier__pool_close(&pool), *next; thing; thing = next) {
        next = thing->next;
        pier__pool_lost(&pool, thing);
        pier__free(thing);
    }
    assert_int_equal(pool.total, 0);
}

static void test_pool__does_without_its_lock_only_while_nobody_waits(void **state)
{
    (void)state;
    pier_pool_stats stats = {0};
    make(0);
    make(1);
    assert_true(give(0));
    assert_ptr_equal(atomic_load(&pool.places[pier__pool_place()]), &things[0]);
    assert_int_equal(take(2), PIER__POOL_GOT);
    assert_null(atomic_load(&pool.places[pier__pool_place()]));
    assert_int_equal(take(3), PIER__POOL_WAIT);
    assert_ptr_equal(atomic_load(&pool.places[pier__pool_place()]), &pier__pool_slow);
    assert_true(give(0));
    assert_ptr_equal(got(3), &things[0]);
    assert_null(atomic_load(&pool.places[pier__pool_place()]));
    assert_true(give(0));
    assert_ptr_equal(pier__pool_expire(&pool), &things[0]);
    assert_false(give(1)); /* nor may one that has expired slip in */
    pier__pool_lost(&pool, &things[0].pooled);
    pier__pool_lost(&pool, &things[1].pooled);
    pier__pool_add_stats(&pool, &stats);
    assert_int_equal(stats.acquires, 4);
}

/* Another thread, which gives thing 1 back, and takes one later. */
struct elsewhere {
    pthread_barrier_t given, taken;
    bool gave;
};

static void *give_and_take(void *arg)
{
    struct elsewhere *elsewhere = arg;
    elsewhere->gave = pier__pool_take(&pool, &users[1]->ticket) == PIER__POOL_MAKE;
    pier__pool_made(&pool, &things[1].pooled);
    elsewhere->gave = elsewhere->gave && give(1);
    pthread_barrier_wait(&elsewhere->given);
    pthread_barrier_wait(&elsewhere->taken);
    elsewhere->gave = elsewhere->gave && take(2) == PIER__POOL_GOT;
    return NULL;
}

static void test_pool__gives_a_thread_what_it_had_before(void **state)
{
    (void)state;
    struct elsewhere elsewhere;
    pthread_t thread;
    pthread_barrier_init(&elsewhere.given, NULL, 2);
    pthread_barrier_init(&elsewhere.taken, NULL, 2);
    make(0);
    assert_int_equal(pthread_create(&thread, NULL, give_and_take, &elsewhere), 0);
    pthread_barrier_wait(&elsewhere.given);
    assert_true(give(0)); /* the newest idle thing now, but not that thread's */
    assert_int_equal(take(3), PIER__POOL_GOT);
    assert_ptr_equal(got(3), &things[0]);
    assert_true(give(0));
    pthread_barrier_wait(&elsewhere.taken);
    pthread_join(thread, NULL);
    assert_true(elsewhere.gave);
    assert_ptr_equal(got(2), &things[1]);
    assert_int_equal(take(4), PIER__POOL_GOT); /* what is there is not withheld from others */
    assert_ptr_equal(got(4), &things[0]);
    pthread_barrier_destroy(&elsewhere.given);
    pthread_barrier_destroy(&elsewhere.taken);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_pool__makes_up_to_its_maximum_and_then_has_others_wait),
        TEST(test_pool__hands_out_what_is_idle_before_making_more),
        TEST(test_pool__hands_a_returned_thing_to_the_first_waiter),
        TEST(test_pool__lets_the_first_waiter_make_another_when_one_is_lost),
        TEST(test_waiter__that_leaves_is_passed_over),
        TEST(test_waiter__that_was_served_must_give_it_back),
        TEST(test_pool__refuses_whoever_holds_all_of_it),
        TEST(test_pool__has_its_only_holder_wait_while_another_can_be_made_later),
        TEST(test_describe__counts_what_each_kind_of_holder_has),
        TEST(test_describe__is_cut_to_the_buffer),
        TEST(test_close__wakes_those_who_wait_with_nothing),
        TEST(test_close__gives_the_idle_things_out),
        TEST(test_pool__prefers_a_thing_of_the_same_home),
        TEST(test_pool__gives_a_thread_what_it_had_before),
        TEST(test_pool__does_without_its_lock_only_while_nobody_waits),
        TEST(test_stats__count_what_happened),
        TEST(test_pool__serves_threads_and_loop_while_waiters_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
