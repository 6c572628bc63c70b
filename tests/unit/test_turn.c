/* Turns: the use of something, by one operation at a time. */
#include "tests/unit/unit.h"

#include "sdk/op.h"
#include "sdk/turn.h"
#include <pier/future.h>
#include <pthread.h>

enum { COUNT = 4, ROUNDS = 300 };

static pier__turn turn;

/* Takes the turn, counts without any lock, and gives it back. */
struct turn_op {
    pier__op op;
    pier__turn_waiter waiter;
};

static int64_t counted; /* by whoever has the turn */

static void use_turn(pier__op *op)
{
    counted++;
    pier__turn_give(&turn);
    pier__op_succeed_int(op, 1);
}

static void turn_step(pier__op *op, unsigned events)
{
    struct turn_op *user = (struct turn_op *)op;
    if (events & PIER__START) {
        user->waiter.op = op;
        if (pier__turn_take(&turn, &user->waiter)) {
            use_turn(op);
        }
    } else if (events & PIER__CANCEL) {
        if (!pier__turn_leave(&turn, &user->waiter)) {
            pier__turn_give(&turn);
        }
        pier__op_fail_cancelled(op);
    } else if (events & PIER__WOKEN) {
        use_turn(op);
    }
}

static const pier__op_class turn_class = {
    .name = "turn", .result = "int", .size = sizeof(struct turn_op), .step = turn_step};

static struct turn_op *users[COUNT];

static struct turn_op *new_user(void)
{
    pier__op *failed = NULL;
    struct turn_op *user = pier__op_new(&turn_class, runner, &failed);
    user->waiter.op = &user->op;
    return user;
}

static int set_up(void **state)
{
    open_runner(state);
    pier__turn_init(&turn);
    counted = 0;
    for (int i = 0; i < COUNT; i++) {
        users[i] = new_user();
    }
    return 0;
}

static int tear_down(void **state)
{
    for (int i = 0; i < COUNT; i++) {
        pier__op_unref(&users[i]->op);
    }
    close_runner(state);
    pier__turn_fini(&turn);
    return 0;
}

static bool take(int i)
{
    return pier__turn_take(&turn, &users[i]->waiter);
}

static bool is_woken(int i)
{
    return atomic_load(&users[i]->op.mail) & PIER__WOKEN;
}

/* Was it given the turn? Only as long as nobody else gives it. */
static bool has(int i)
{
    return !users[i]->waiter.queued &&
           (atomic_load(&turn.owner) & ~(uintptr_t)1) == (uintptr_t)&users[i]->op;
}

static void test_turn__goes_to_waiters_in_the_order_of_asking(void **state)
{
    (void)state;
    assert_true(take(0));
    for (int i = 1; i < COUNT; i++) {
        assert_false(take(i));
    }
    for (int i = 1; i < COUNT; i++) {
        assert_false(is_woken(i));
        pier__turn_give(&turn);
        assert_true(has(i));
        assert_true(is_woken(i));
    }
    pier__turn_give(&turn);
    assert_true(take(0));
}

static void test_turn__is_handed_over_before_the_next_wakes(void **state)
{
    (void)state;
    take(0);
    take(1);
    pier__turn_give(&turn);
    assert_false(take(2));
    assert_true(has(1));
}

static void test_waiter__that_leaves_is_passed_over(void **state)
{
    (void)state;
    for (int i = 0; i < COUNT; i++) {
        take(i);
    }
    assert_true(pier__turn_leave(&turn, &users[3]->waiter));
    assert_true(pier__turn_leave(&turn, &users[1]->waiter));
    pier__turn_give(&turn);
    assert_true(has(2));
    assert_false(take(3));
    pier__turn_give(&turn);
    assert_true(has(3));
}

static void test_waiter__that_was_served_cannot_leave(void **state)
{
    (void)state;
    take(0);
    take(1);
    pier__turn_give(&turn);
    assert_false(pier__turn_leave(&turn, &users[1]->waiter));
    pier__turn_give(&turn);
    assert_true(take(2));
}

static void test_cancel_owner__asks_whoever_has_it(void **state)
{
    (void)state;
    pier__turn_cancel_owner(&turn);
    take(0);
    take(1);
    pier__turn_cancel_owner(&turn);
    assert_int_equal(atomic_load(&users[0]->op.cancel_wanted), PIER_ECLOSED);
    assert_int_equal(atomic_load(&users[1]->op.cancel_wanted), 0);
}

/* Half by blocking calls and half on the loop, every fourth cancelled at once. */
static void *use_many(void *arg)
{
    int64_t *used = arg;
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 2) {
            *used += pier__op_take_int(pier__op_run(&new_user()->op, NULL), "int", NULL) == 1;
            continue;
        }
        pier_future *future = pier__op_submit(&new_user()->op);
        if (i % 4 == 0) {
            pier_future_cancel(future);
        }
        *used += pier__op_take_int(future, "int", NULL) == 1;
    }
    return NULL;
}

static void test_turn__excludes_threads_and_loop_while_waiters_leave(void **state)
{
    (void)state;
    pthread_t threads[4];
    int64_t used[4] = {0}, total = 0;
    for (int i = 0; i < 4; i++) {
        pthread_create(&threads[i], NULL, use_many, &used[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        total += used[i];
    }
    assert_true(take(0)); /* nobody has kept it */
    assert_int_equal(counted, total);
    assert_true(total >= 4 * ROUNDS / 2);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_turn__goes_to_waiters_in_the_order_of_asking),
        TEST(test_turn__is_handed_over_before_the_next_wakes),
        TEST(test_waiter__that_leaves_is_passed_over),
        TEST(test_waiter__that_was_served_cannot_leave),
        TEST(test_cancel_owner__asks_whoever_has_it),
        TEST(test_turn__excludes_threads_and_loop_while_waiters_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
