/* Queues between threads, tasks and futures. */
#include "tests/unit/crowd.h"

#include <pier/queue.h>
#include <string.h>

enum { CROWD = 6 };

static pier_queue *queue;
static atomic_int dropped;
static _Atomic int64_t dropped_sum;

static void drop(void *item)
{
    int64_t value;
    memcpy(&value, item, sizeof value);
    atomic_fetch_add(&dropped, 1);
    atomic_fetch_add(&dropped_sum, value);
}

static int set_up(void **state)
{
    open_runner(state);
    atomic_store(&dropped, 0);
    atomic_store(&dropped_sum, 0);
    queue = pier_queue_new(runner, sizeof(int64_t), 2, drop, NULL);
    return queue ? 0 : -1;
}

static int tear_down(void **state)
{
    pier_queue_free(queue);
    return close_runner(state);
}

static int put(int64_t value)
{
    return pier_queue_put(queue, &value, NULL);
}

static int64_t get(void)
{
    int64_t value = -1;
    int status = pier_queue_get(queue, &value, NULL);
    return status > 0 ? value : status - 1000;
}

static int call_put(struct member *member, pier_error *err)
{
    return pier_queue_put(queue, &member->item, err);
}

static int call_get(struct member *member, pier_error *err)
{
    return pier_queue_get(queue, &member->item, err);
}

static void test_queue__gives_items_in_the_order_of_putting(void **state)
{
    (void)state;
    for (int64_t round = 0; round < 5; round++) {
        assert_int_equal(put(2 * round), 0);
        assert_int_equal(put(2 * round + 1), 0);
        assert_int_equal(pier_queue_size(queue), 2);
        assert_int_equal(get(), 2 * round);
        assert_int_equal(get(), 2 * round + 1);
    }
}

static void test_queue__put_waits_while_it_is_full(void **state)
{
    (void)state;
    put(1);
    put(2);
    struct member members[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_put;
        members[i].item = 3 + i;
    }
    assert_true(start_in_order(members, CROWD, queue));
    for (int i = 0; i < CROWD; i++) {
        assert_int_equal(get(), 1 + i);
        assert_true(await_member(&members[i]));
        assert_int_equal(count_waiting(queue), CROWD - 1 - i);
    }
    assert_true(all_ended_with(members, CROWD, 0));
    assert_int_equal(get(), CROWD + 1);
    assert_int_equal(get(), CROWD + 2);
}

static void test_queue__getters_are_served_in_the_order_of_asking(void **state)
{
    (void)state;
    struct member members[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_get;
    }
    assert_true(start_in_order(members, CROWD, queue));
    for (int i = 0; i < CROWD; i++) {
        put(100 + i);
        assert_true(await_member(&members[i]));
        assert_int_equal(members[i].item, 100 + i);
        assert_int_equal(count_waiting(queue), CROWD - 1 - i);
    }
    assert_true(all_ended_with(members, CROWD, 1));
}

static void test_queue__futures_wait_like_threads(void **state)
{
    (void)state;
    int64_t items[3] = {0}, values[3] = {7, 8, 9};
    pier_future *getters[3];
    for (int i = 0; i < 3; i++) {
        getters[i] = pier_queue_get_async(queue, &items[i]);
    }
    assert_true(await_waiting(queue, 3));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pier_queue_put_finish(pier_queue_put_async(queue, &values[i]), NULL), 0);
        assert_int_equal(pier_queue_get_finish(getters[i], NULL), 1);
        assert_int_equal(items[i], values[i]);
    }
}

static void test_queue__end_lets_getters_drain_it(void **state)
{
    (void)state;
    put(1);
    put(2);
    pier_queue_end(queue);
    pier_queue_end(queue);
    assert_int_equal(get(), 1);
    assert_int_equal(get(), 2);
    assert_int_equal(get(), -1000);
    assert_int_equal(pier_queue_try_get(queue, &(int64_t){0}, NULL), PIER_ECLOSED);
    pier_error err = {0};
    assert_int_equal(pier_queue_put(queue, &(int64_t){3}, &err), PIER_ECLOSED);
    assert_non_null(strstr(err.message, "ended"));
    assert_int_equal(pier_queue_try_put(queue, &(int64_t){4}, &err), PIER_ECLOSED);
    assert_int_equal(atomic_load(&dropped_sum), 7);
}

static void test_queue__end_lets_go_who_waits(void **state)
{
    (void)state;
    struct member getters[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        getters[i].call = call_get;
    }
    assert_true(start_in_order(getters, CROWD, queue));
    pier_queue_end(queue);
    assert_true(all_ended_with(getters, CROWD, 0));
}

static void test_queue__end_refuses_putters_and_drops_their_items(void **state)
{
    (void)state;
    put(1);
    put(2);
    struct member members[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_put;
        members[i].item = 10;
    }
    assert_true(start_in_order(members, CROWD, queue));
    pier_queue_end(queue);
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
    assert_int_equal(atomic_load(&dropped), CROWD);
    assert_int_equal(atomic_load(&dropped_sum), 10 * CROWD);
    assert_int_equal(get(), 1);
}

static void test_queue__free_ends_waits_and_drops_what_is_left(void **state)
{
    (void)state;
    put(1);
    put(2);
    struct member members[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_put;
        members[i].item = 10;
    }
    assert_true(start_in_order(members, CROWD, queue));
    pier_queue_free(queue);
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
    assert_int_equal(atomic_load(&dropped_sum), 3 + 10 * CROWD);
    queue = pier_queue_new(runner, sizeof(int64_t), 2, drop, NULL);
    struct member getters[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        getters[i].call = call_get;
    }
    assert_true(start_in_order(getters, CROWD, queue));
    pier_queue_free(queue);
    queue = NULL;
    assert_true(all_ended_with(getters, CROWD, PIER_ECLOSED));
}

static void test_queue__closing_the_runner_ends_waits(void **state)
{
    (void)state;
    put(1);
    put(2);
    struct member members[CROWD] = {{0}};
    for (int i = 0; i < CROWD; i++) {
        members[i].call = call_put;
        members[i].item = 10;
    }
    assert_true(start_in_order(members, CROWD, queue));
    pier_runner *closed = runner;
    pier_runner_close(closed);
    runner = NULL;
    queue = NULL;
    assert_true(all_ended_with(members, CROWD, PIER_ECLOSED));
    assert_int_equal(atomic_load(&dropped_sum), 3 + 10 * CROWD);
}

/* A task goes on for a while after the runner has closed the queue. */
static int wind_up(struct member *member, pier_error *err)
{
    int64_t item = 0;
    int status = pier_queue_get(queue, &item, err);
    for (int i = 0; i < 1000; i++) {
        pier_queue_put(queue, &item, NULL);
        pier_queue_try_put(queue, &item, NULL);
    }
    pier_queue_end(queue);
    member->item = pier_queue_try_get(queue, &item, NULL);
    pier_queue_free(queue);
    return status;
}

static void test_queue__tasks_may_call_it_until_the_runner_is_closed(void **state)
{
    (void)state;
    struct member member = {.call = wind_up};
    start_member(&member, 1);
    assert_true(await_waiting(queue, 1));
    pier_runner *closed = runner;
    pier_runner_close(closed);
    runner = NULL;
    assert_true(all_ended_with(&member, 1, PIER_ECLOSED));
    queue = NULL;
    assert_int_equal(member.item, PIER_ECLOSED);
    assert_int_equal(atomic_load(&dropped), 2000);
}

static void test_queue__waits_obey_deadlines(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        members[i].call = call_get;
        members[i].timeout_ms = 20;
        start_member(&members[i], i);
    }
    assert_true(all_ended_with(members, 2, PIER_ETIMEDOUT));
    assert_int_equal(count_waiting(queue), 0);
    put(1);
    put(2);
    struct member putters[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        putters[i].call = call_put;
        putters[i].item = 10;
        putters[i].timeout_ms = 20;
        start_member(&putters[i], i);
    }
    assert_true(all_ended_with(putters, 2, PIER_ETIMEDOUT));
    assert_int_equal(count_waiting(queue), 0);
    assert_int_equal(atomic_load(&dropped_sum), 20);
    assert_int_equal(get(), 1);
}

static void test_queue__waits_obey_cancelled_scopes(void **state)
{
    (void)state;
    struct member members[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        members[i].call = call_get;
        members[i].timeout_ms = 600000;
        members[i].cancels = true;
    }
    assert_true(start_in_order(members, 2, queue));
    for (int i = 0; i < 2; i++) {
        cancel_member(&members[i]);
    }
    assert_true(all_ended_with(members, 2, PIER_ECANCELLED));
    assert_int_equal(count_waiting(queue), 0);
}

/* Also where it would not have to wait: a loop around it ends. */
static void test_queue__does_nothing_in_a_scope_that_has_ended(void **state)
{
    (void)state;
    put(1);
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_cancel(scope);
    int64_t item = 0;
    assert_int_equal(pier_queue_get(queue, &item, NULL), PIER_ECANCELLED);
    assert_int_equal(put(5), PIER_ECANCELLED);
    pier_scope_close(scope);
    assert_int_equal(atomic_load(&dropped_sum), 5);
    assert_int_equal(get(), 1);
}

struct served {
    pier_future *getter;
    bool cancel_first;
};

/* On the loop, so that the getter is not stepped in between. */
static int serve_and_cancel(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct served *served = arg;
    if (served->cancel_first) {
        pier_future_cancel(served->getter);
    }
    int status = pier_queue_try_put(queue, &(int64_t){42}, err);
    pier_future_cancel(served->getter);
    return status;
}

static void test_queue__getter_cancelled_as_it_is_served_gets_the_item(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        int64_t item = 0;
        struct served served = {pier_queue_get_async(queue, &item), i > 0};
        assert_true(await_waiting(queue, 1));
        assert_int_equal(pier_task_run(runner, serve_and_cancel, &served, NULL), 1);
        assert_int_equal(pier_queue_get_finish(served.getter, NULL), 1);
        assert_int_equal(item, 42);
    }
    assert_int_equal(pier_queue_size(queue), 0);
    assert_int_equal(atomic_load(&dropped), 0);
}

static bool holds_two(void *user_data)
{
    (void)user_data;
    return pier_queue_size(queue) == 2;
}

static void test_queue__item_of_a_future_that_is_freed_goes_back_to_the_head(void **state)
{
    (void)state;
    int64_t item = 0;
    pier_future *getter = pier_queue_get_async(queue, &item);
    assert_true(await_waiting(queue, 1));
    put(1);
    assert_int_equal(pier_future_wait(getter, BOUND_MS, NULL), 1);
    put(2);
    /* The item keeps its place: there is no room for a third. */
    assert_int_equal(pier_queue_try_put(queue, &(int64_t){3}, NULL), 0);
    pier_future_free(getter);
    assert_true(support_wait_until(holds_two, NULL, BOUND_MS)); /* when the loop has let go of it */
    assert_int_equal(item, 0);
    assert_int_equal(get(), 1);
    assert_int_equal(get(), 2);
}

static void test_queue__taking_a_result_makes_room(void **state)
{
    (void)state;
    int64_t item = 0;
    pier_future *getter = pier_queue_get_async(queue, &item);
    assert_true(await_waiting(queue, 1));
    put(1);
    assert_int_equal(pier_future_wait(getter, BOUND_MS, NULL), 1);
    put(2);
    pier_future *putter = pier_queue_put_async(queue, &(int64_t){3});
    assert_true(await_waiting(queue, 1));
    assert_int_equal(pier_queue_get_finish(getter, NULL), 1);
    assert_int_equal(pier_queue_put_finish(putter, NULL), 0);
    assert_int_equal(item, 1);
    assert_int_equal(get(), 2);
    assert_int_equal(get(), 3);
}

static void test_queue__future_freed_after_the_queue_drops_its_item(void **state)
{
    (void)state;
    pier_future *getter = pier_queue_get_async(queue, &(int64_t){0});
    assert_true(await_waiting(queue, 1));
    put(5);
    assert_int_equal(pier_future_wait(getter, BOUND_MS, NULL), 1);
    pier_queue_free(queue);
    queue = NULL;
    assert_int_equal(atomic_load(&dropped), 0);
    pier_future_free(getter);
    assert_true(unit_await(&dropped));
    assert_int_equal(atomic_load(&dropped_sum), 5);
}

struct tried {
    int put[3], got[3];
    int64_t items[3];
    int blocking;
    pier_error err;
    atomic_int done;
};

static void try_on_loop(pier_future *future, void *user_data)
{
    (void)future;
    struct tried *tried = user_data;
    for (int i = 0; i < 3; i++) {
        int64_t item = i + 1;
        tried->put[i] = pier_queue_try_put(queue, &item, NULL);
    }
    tried->blocking = pier_queue_get(queue, &tried->items[0], &tried->err);
    for (int i = 0; i < 3; i++) {
        tried->got[i] = pier_queue_try_get(queue, &tried->items[i], NULL);
    }
    atomic_store(&tried->done, 1);
}

static int do_nothing(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

static void test_queue__callbacks_try_and_are_refused_to_wait(void **state)
{
    (void)state;
    struct tried tried = {.done = 0};
    pier_future_then(pier_task_start(runner, do_nothing, NULL), try_on_loop, &tried);
    assert_true(unit_await(&tried.done));
    assert_int_equal(tried.put[0] + tried.put[1], 2);
    assert_int_equal(tried.put[2], 0);
    assert_int_equal(tried.blocking, PIER_EDEADLOCK); /* though there is an item */
    assert_int_equal(tried.got[0] + tried.got[1], 2);
    assert_int_equal(tried.got[2], 0);
    assert_int_equal(tried.items[0], 1);
    assert_int_equal(tried.items[1], 2);
    assert_int_equal(atomic_load(&dropped), 0);
}

static void test_queue__items_may_be_large(void **state)
{
    (void)state;
    struct large {
        char bytes[300];
    } one = {"large"}, got = {""};
    PIER_AUTO(pier_queue) large = pier_queue_new(runner, sizeof one, 0, NULL, NULL);
    pier_future *getter = pier_queue_get_async(large, &got);
    assert_true(await_waiting(large, 1));
    assert_int_equal(pier_queue_put(large, &one, NULL), 0);
    assert_int_equal(pier_queue_get_finish(getter, NULL), 1);
    assert_string_equal(got.bytes, "large");
}

static void test_queue__holds_1024_unless_told_otherwise(void **state)
{
    (void)state;
    PIER_AUTO(pier_queue) plain = pier_queue_new(runner, 1, 0, NULL, NULL);
    int count = 0;
    while (pier_queue_try_put(plain, "x", NULL) > 0) {
        count++;
    }
    assert_int_equal(count, 1024);
}

static void test_queue__refuses_what_cannot_be(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_queue_new(runner, 0, 1, NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(pier_queue_new(runner, SIZE_MAX / 2, 4, NULL, NULL));
    err = (pier_error){0};
    assert_null(pier_queue_new(NULL, 8, 4, NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    /* NULL passes through and keeps the first error. */
    pier_error first = {0};
    pier_error_set(&first, PIER_ECONNECT, "first");
    assert_int_equal(pier_queue_put(NULL, "", &first), PIER_ECONNECT);
    assert_int_equal(pier_queue_get(NULL, NULL, &first), PIER_ECONNECT);
    assert_int_equal(pier_queue_try_put(NULL, "", NULL), PIER_EINVAL);
    assert_int_equal(pier_queue_try_get(NULL, NULL, NULL), PIER_EINVAL);
    assert_int_equal(pier_queue_size(NULL), 0);
    pier_queue_end(NULL);
    pier_queue_free(NULL);
}

/* ---- Accounting --------------------------------------------------------------------------- */

enum { ITEMS = SANITIZED ? 500 : 3000, TORTURERS = 16 };

static atomic_int seen[TORTURERS * ITEMS];
static atomic_int got_count;

static void drop_number(void *item)
{
    int number;
    memcpy(&number, item, sizeof number);
    atomic_fetch_add(&seen[number], 1);
    atomic_fetch_add(&dropped, 1);
}

/* Now and then in a scope that ends soon. */
static pier_scope *short_scope(int i)
{
    return i % 16 ? NULL : pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 1), NULL);
}

static int put_many(struct member *member, pier_error *err)
{
    (void)err;
    for (int i = 0; i < ITEMS; i++) {
        int number = (int)member->item * ITEMS + i;
        pier_scope *scope = short_scope(i);
        if (i % 7) {
            pier_queue_put(queue, &number, NULL);
        } else {
            pier_future_free(pier_queue_put_async(queue, &number));
        }
        pier_scope_close(scope);
    }
    return 0;
}

static int get_many(struct member *member, pier_error *err)
{
    (void)member;
    (void)err;
    for (int i = 0;; i++) {
        int number = -1;
        pier_scope *scope = short_scope(i);
        pier_future *getter = i % 11 ? NULL : pier_queue_get_async(queue, &number);
        int status = 0;
        if (getter && i % 2) {
            pier_future_cancel(getter);
        }
        status =
            getter ? pier_queue_get_finish(getter, NULL) : pier_queue_get(queue, &number, NULL);
        pier_scope_close(scope);
        if (status > 0) {
            atomic_fetch_add(&seen[number], 1);
            atomic_fetch_add(&got_count, 1);
        } else if (status == 0) {
            return 0;
        }
    }
}

static void test_queue__each_item_is_got_or_dropped_once(void **state)
{
    (void)state;
    static struct member members[2 * TORTURERS];
    memset(members, 0, sizeof members);
    memset(seen, 0, sizeof seen);
    atomic_store(&got_count, 0);
    pier_queue_free(queue);
    queue = pier_queue_new(runner, sizeof(int), 5, drop_number, NULL);
    for (int i = 0; i < 2 * TORTURERS; i++) {
        members[i].call = i < TORTURERS ? put_many : get_many;
        members[i].item = i;
        start_member(&members[i], i);
    }
    for (int i = 0; i < TORTURERS; i++) {
        join_member(&members[i]);
    }
    pier_queue_end(queue);
    for (int i = TORTURERS; i < 2 * TORTURERS; i++) {
        join_member(&members[i]);
    }
    /* The loop has stepped what was left to it when the runner is closed. */
    pier_queue_free(queue);
    queue = NULL;
    pier_runner_close(runner);
    runner = NULL;
    assert_int_equal(atomic_load(&got_count) + atomic_load(&dropped), TORTURERS * ITEMS);
    for (int i = 0; i < TORTURERS * ITEMS; i++) {
        assert_int_equal(atomic_load(&seen[i]), 1);
    }
    assert_true(atomic_load(&got_count) > 0);
}

static void test_queue__free_may_meet_any_wait(void **state)
{
    (void)state;
    for (int round = 0; round < (SANITIZED ? 30 : 200); round++) {
        struct member members[CROWD] = {{0}};
        for (int i = 0; i < CROWD; i++) {
            members[i].call = call_get;
        }
        assert_true(start_in_order(members, CROWD, queue));
        put(1);
        pier_queue_end(queue);
        pier_queue_free(queue);
        int got = 0;
        for (int i = 0; i < CROWD; i++) {
            join_member(&members[i]);
            got += members[i].status > 0;
        }
        assert_int_equal(got, 1);
        queue = pier_queue_new(runner, sizeof(int64_t), 2, drop, NULL);
    }
}

/* ---- Want of memory, and fork ------------------------------------------------------------- */

static int call_new(void)
{
    pier_error err = {0};
    pier_queue *made = pier_queue_new(runner, 8, 4, NULL, &err);
    pier_queue_free(made);
    return made ? 0 : err.status;
}

/* The one item was dropped, or is in the queue: also where the wait for a future has failed, and
 * the future went on. */
static bool is_accounted_for(void *user_data)
{
    return atomic_load(&dropped) > *(int *)user_data ||
           pier_queue_try_get(queue, &(int64_t){0}, NULL) == 1;
}

static int call_async(void)
{
    int64_t item = 1;
    static int64_t got; /* futures that go on write to it */
    int before = atomic_load(&dropped);
    int status = pier_queue_put_finish(pier_queue_put_async(queue, &item), NULL);
    if (!status) {
        got = 0;
        status = pier_queue_get_finish(pier_queue_get_async(queue, &got), NULL);
        if (status == 1) {
            return got == 1 ? 0 : PIER_EUSER;
        }
    }
    return support_wait_until(is_accounted_for, &before, BOUND_MS) ? status : PIER_EUSER;
}

static void test_queue__survives_want_of_memory(void **state)
{
    (void)state;
    assert_true(fail_each(call_new) >= 2);
    assert_true(fail_each(call_async) >= 2);
    assert_int_equal(pier_queue_size(queue), 0);
}

static int use_in_child(void)
{
    int64_t item = 9;
    CHECK(pier_queue_put(queue, &item, NULL) == PIER_EFORKED);
    CHECK(atomic_load(&dropped) == 1);
    CHECK(pier_queue_get(queue, &item, NULL) == PIER_EFORKED);
    CHECK(pier_queue_try_put(queue, &item, NULL) == PIER_EFORKED);
    CHECK(pier_queue_try_get(queue, &item, NULL) == PIER_EFORKED);
    CHECK(pier_queue_get_finish(pier_queue_get_async(queue, &item), NULL) == PIER_EFORKED);
    CHECK(pier_queue_size(queue) == 0);
    pier_queue_end(queue);
    pier_queue_free(queue);
    CHECK(atomic_load(&dropped) == 2);
    return 0;
}

static void test_queue__is_of_no_use_in_a_forked_child(void **state)
{
    (void)state;
    put(1);
    assert_int_equal(in_a_child(use_in_child), 0);
    assert_int_equal(get(), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_queue__##name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gives_items_in_the_order_of_putting),
        TEST(put_waits_while_it_is_full),
        TEST(getters_are_served_in_the_order_of_asking),
        TEST(futures_wait_like_threads),
        TEST(end_lets_getters_drain_it),
        TEST(end_lets_go_who_waits),
        TEST(end_refuses_putters_and_drops_their_items),
        TEST(free_ends_waits_and_drops_what_is_left),
        TEST(closing_the_runner_ends_waits),
        TEST(tasks_may_call_it_until_the_runner_is_closed),
        TEST(waits_obey_deadlines),
        TEST(waits_obey_cancelled_scopes),
        TEST(does_nothing_in_a_scope_that_has_ended),
        TEST(getter_cancelled_as_it_is_served_gets_the_item),
        TEST(item_of_a_future_that_is_freed_goes_back_to_the_head),
        TEST(taking_a_result_makes_room),
        TEST(future_freed_after_the_queue_drops_its_item),
        TEST(callbacks_try_and_are_refused_to_wait),
        TEST(items_may_be_large),
        TEST(holds_1024_unless_told_otherwise),
        TEST(refuses_what_cannot_be),
        TEST(each_item_is_got_or_dropped_once),
        TEST(free_may_meet_any_wait),
        TEST(survives_want_of_memory),
        TEST(is_of_no_use_in_a_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
