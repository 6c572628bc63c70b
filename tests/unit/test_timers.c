/* The heap of timers. */
#include "tests/unit/unit.h"

#include "sdk/timers.h"
#include <stdlib.h>
#include <string.h>

enum { COUNT = 200 };

static pier__op ops[COUNT];
static struct pier__timer *heap;

static int clear(void **state)
{
    (void)state;
    memset(ops, 0, sizeof ops);
    heap = NULL;
    return 0;
}

static void set(int i, int64_t when)
{
    pier__timer_set(&heap, &ops[i].timer, when);
}

/* The earliest moment of all, by looking at each. */
static int64_t earliest(void)
{
    int64_t when = 0;
    for (int i = 0; i < COUNT; i++) {
        int64_t other = ops[i].timer.when;
        when = other && (!when || other < when) ? other : when;
    }
    return when;
}

static void test_heap__gives_the_earliest_first(void **state)
{
    (void)state;
    const int order[] = {5, 3, 9, 1, 7};
    for (int i = 0; i < 5; i++) {
        set(i, order[i]);
    }
    for (int when = 1; when <= 9; when += 2) {
        assert_int_equal(heap->when, when);
        pier__timer_set(&heap, heap, 0);
    }
    assert_null(heap);
}

static void test_timer__moves_both_ways_and_may_leave_twice(void **state)
{
    (void)state;
    set(0, 10);
    set(1, 20);
    set(1, 5);
    assert_ptr_equal(pier__timer_op(heap), &ops[1]);
    set(1, 30);
    assert_ptr_equal(pier__timer_op(heap), &ops[0]);
    set(0, 0);
    set(0, 0);
    assert_ptr_equal(pier__timer_op(heap), &ops[1]);
    set(1, 0);
    assert_null(heap);
}

static void test_heap__agrees_with_a_search_after_each_random_change(void **state)
{
    (void)state;
    srand(20240607);
    for (int round = 0; round < 20000; round++) {
        int i = rand() % COUNT;
        int64_t before = earliest();
        if (rand() % 4 == 0 && before) {
            assert_int_equal(heap->when, before);
            pier__timer_set(&heap, heap, 0);
        } else {
            set(i, rand() % 3 ? 1 + rand() % 500 : 0);
        }
        int64_t when = earliest();
        assert_true(heap ? heap->when == when : when == 0);
    }
}

static void test_heap__empties_in_order(void **state)
{
    (void)state;
    srand(7);
    for (int i = 0; i < COUNT; i++) {
        set(i, 1 + rand() % 50);
    }
    int64_t before = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_true(heap->when >= before);
        before = heap->when;
        pier__timer_set(&heap, heap, 0);
    }
    assert_null(heap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_heap__gives_the_earliest_first, clear),
        cmocka_unit_test_setup(test_timer__moves_both_ways_and_may_leave_twice, clear),
        cmocka_unit_test_setup(test_heap__agrees_with_a_search_after_each_random_change, clear),
        cmocka_unit_test_setup(test_heap__empties_in_order, clear),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
