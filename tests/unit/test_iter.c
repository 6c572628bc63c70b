/* Iterators: a producer on the loop, consumed by threads, tasks and callbacks. */
#include "tests/unit/passing_time.h"
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include <pier/hooks.h>
#include <pier/iter.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Puts 0, 1, 2, ... and keeps account. */
struct producer {
    int count;       /* how many it puts */
    int fails_with;  /* afterwards */
    int pause_after; /* after so many it waits for `go`; 0: never */
    atomic_int go;   /* set by the test */
    atomic_int put;  /* how many it has put */
    atomic_int started, ended;
    atomic_int put_status; /* what the last put returned */
    int cleanup_status;    /* what it returns after a failed put; 0: that status */
    int64_t cleanup_ms;    /* how long it takes to clean up */
    pier_runner *runner;
};

static int wait_for_go(pier_task *self, struct producer *producer, pier_error *err)
{
    int status = 0;
    while (status == 0 && !atomic_load(&producer->go)) {
        status = pier_task_sleep(self, 1, err);
    }
    return status;
}

static int finish_production(struct producer *producer, int status, pier_error *err)
{
    atomic_store(&producer->put_status, status);
    if (producer->cleanup_ms) {
        /* Its scope is cancelled, so it cannot sleep; what is shielded still works. */
        for (int i = 0; i < producer->cleanup_ms; i++) {
            usleep(1000);
        }
    }
    if (status < 0 && producer->cleanup_status) {
        status = pier_error_set(err, producer->cleanup_status, "the clean-up failed");
    } else if (status == 0 && producer->fails_with) {
        status = pier_error_set(err, producer->fails_with, "the well is dry");
    }
    atomic_store(&producer->ended, 1);
    return status;
}

static int produce(pier_task *self, void *arg, pier_error *err)
{
    struct producer *producer = arg;
    atomic_store(&producer->started, 1);
    int status = 0;
    for (int64_t i = 0; status == 0 && i < producer->count; i++) {
        if (producer->pause_after && i == producer->pause_after) {
            status = wait_for_go(self, producer, err);
        }
        status = status < 0 ? status : pier_iter_put(self, &i, err);
        atomic_fetch_add(&producer->put, status == 0);
    }
    return finish_production(producer, status, err);
}

static pier_iter *open_iter(struct producer *producer)
{
    pier_error err = {0};
    pier_iter *iter = pier_iter_open(runner, sizeof(int64_t), produce, producer, &err);
    assert_non_null(iter);
    return iter;
}

/* Takes all; gives how many came in order. */
static int64_t drain(pier_iter *iter)
{
    int64_t item, expected = 0;
    while (pier_iter_next(iter, &item) && item == expected) {
        expected++;
    }
    return expected;
}

/* ---- Taking ------------------------------------------------------------------------------- */

static void test_iter__gives_a_thread_all_items_in_order(void **state)
{
    (void)state;
    struct producer producer = {.count = 100000};
    pier_iter *iter = open_iter(&producer);
    assert_int_equal(drain(iter), 100000);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
    assert_int_equal(atomic_load(&producer.ended), 1);
}

static int drain_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    int64_t count = drain(arg);
    int status = pier_iter_close(arg, err);
    return status < 0 ? status : (int)count;
}

static void test_iter__gives_a_task_all_items_in_order(void **state)
{
    (void)state;
    struct producer producer = {.count = 50000};
    assert_int_equal(pier_task_run(runner, drain_in_task, open_iter(&producer), NULL), 50000);
}

/* A consumer made of callbacks: asks for the next block in each. */
struct chain {
    pier_iter *iter;
    int64_t sum, count;
    int status;
    atomic_int done;
};

static void on_block(pier_future *future, void *user_data)
{
    struct chain *chain = user_data;
    pier_error err = {0};
    pier_items *items = pier_iter_block_finish(future, &err);
    size_t count = pier_items_count(items);
    for (size_t i = 0; i < count; i++) {
        chain->sum += *(const int64_t *)pier_items_at(items, i);
    }
    chain->count += (int64_t)count;
    pier_items_free(items);
    if (count) {
        pier_future_then(pier_iter_block_async(chain->iter), on_block, chain);
    } else {
        chain->status = err.status;
        atomic_store(&chain->done, 1);
    }
}

static void test_iter__gives_callbacks_blocks_until_an_empty_one(void **state)
{
    (void)state;
    struct producer producer = {.count = 10000};
    struct chain chain = {.iter = open_iter(&producer)};
    pier_future_then(pier_iter_block_async(chain.iter), on_block, &chain);
    assert_true(unit_await(&chain.done));
    assert_int_equal(chain.count, 10000);
    assert_int_equal(chain.sum, INT64_C(10000) * 9999 / 2);
    assert_int_equal(chain.status, 0);
    assert_int_equal(pier_iter_close(chain.iter, NULL), 0);
}

static void test_iter__gives_items_where_they_stand(void **state)
{
    (void)state;
    struct producer producer = {.count = 3000};
    pier_iter *iter = open_iter(&producer);
    int64_t expected = 0;
    for (const int64_t *item; (item = pier_iter_item(iter)); expected++) {
        assert_int_equal(*item, expected);
    }
    assert_int_equal(expected, 3000);
    assert_null(pier_iter_item(iter));
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static void test_iter__several_blocks_asked_for_at_once_come_in_order(void **state)
{
    (void)state;
    struct producer producer = {.count = 8};
    pier_iter *iter = open_iter(&producer);
    pier_future *futures[20];
    for (int i = 0; i < 20; i++) {
        futures[i] = pier_iter_block_async(iter);
    }
    int64_t expected = 0;
    for (int i = 0; i < 20; i++) {
        pier_error err = {0};
        PIER_AUTO(pier_items) items = pier_iter_block_finish(futures[i], &err);
        assert_non_null(items);
        for (size_t at = 0; at < pier_items_count(items); at++) {
            assert_int_equal(*(const int64_t *)pier_items_at(items, at), expected++);
        }
        assert_null(pier_items_at(items, pier_items_count(items)));
    }
    assert_int_equal(expected, 8);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static void test_iter__waiting_one_that_is_cancelled_leaves_its_items_to_the_next(void **state)
{
    (void)state;
    struct producer producer = {.count = 5, .pause_after = 2};
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item) && pier_iter_next(iter, &item));
    pier_future *first = pier_iter_block_async(iter);
    pier_future *second = pier_iter_block_async(iter);
    pier_future_cancel(first);
    assert_null(pier_iter_block_finish(first, NULL));
    atomic_store(&producer.go, 1);
    PIER_AUTO(pier_items) items = pier_iter_block_finish(second, NULL);
    assert_true(pier_items_count(items) > 0);
    assert_int_equal(*(const int64_t *)pier_items_at(items, 0), 2);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static void test_iter__first_items_do_not_wait_for_a_full_block(void **state)
{
    (void)state;
    struct producer producer = {.count = 10, .pause_after = 1};
    pier_iter *iter = open_iter(&producer);
    int64_t item = -1;
    assert_true(pier_iter_next(iter, &item)); /* the producer waits meanwhile */
    assert_int_equal(item, 0);
    assert_int_equal(atomic_load(&producer.ended), 0);
    atomic_store(&producer.go, 1);
    assert_int_equal(pier_iter_next(iter, &item), true);
    assert_int_equal(item, 1);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static void test_iter__empty_one_gives_nothing(void **state)
{
    (void)state;
    struct producer producer = {.count = 0};
    pier_iter *iter = open_iter(&producer);
    int64_t item = 7;
    assert_false(pier_iter_next(iter, &item));
    assert_false(pier_iter_next(iter, &item));
    assert_int_equal(item, 7);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

/* ---- Copies, sizes ------------------------------------------------------------------------ */

struct large {
    char bytes[100000];
};

static int put_large(pier_task *self, void *arg, pier_error *err)
{
    struct large *large = arg;
    int status = 0;
    for (int i = 0; status == 0 && i < 10; i++) {
        memset(large->bytes, 'a' + i, sizeof large->bytes);
        status = pier_iter_put(self, large, err);
    }
    return status;
}

static void test_iter__copies_each_item_whatever_its_size(void **state)
{
    (void)state;
    static struct large source, item;
    pier_iter *iter = pier_iter_open(runner, sizeof item, put_large, &source, NULL);
    for (int i = 0; i < 10; i++) {
        assert_true(pier_iter_next(iter, &item));
        assert_int_equal(item.bytes[0], 'a' + i);
        assert_int_equal(item.bytes[sizeof item.bytes - 1], 'a' + i);
    }
    assert_false(pier_iter_next(iter, &item));
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static void test_iter__refuses_items_without_size_and_no_producer(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_iter_open(runner, 0, produce, NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    err = (pier_error){0};
    assert_null(pier_iter_open(runner, 1, NULL, NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(pier_iter_open(NULL, 1, produce, NULL, NULL));
}

static void test_iter__null_passes_through(void **state)
{
    (void)state;
    pier_error err = {0};
    int item;
    assert_false(pier_iter_next(NULL, &item));
    assert_null(pier_iter_item(NULL));
    assert_null(pier_iter_block(NULL, &err));
    assert_int_equal(pier_iter_close(NULL, &err), PIER_EINVAL);
    assert_int_equal(pier_iter_put(NULL, &item, &err), PIER_EINVAL);
    assert_int_equal(pier_items_count(NULL), 0);
    assert_null(pier_items_at(NULL, 0));
    pier_items_free(NULL);
}

static int put_outside(pier_task *self, void *arg, pier_error *err)
{
    return pier_iter_put(self, arg, err);
}

static void test_put__is_refused_outside_a_producer(void **state)
{
    (void)state;
    int item = 0;
    pier_error err = {0};
    assert_int_equal(pier_task_run(runner, put_outside, &item, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "outside the producer"));
}

/* ---- Ahead -------------------------------------------------------------------------------- */

static int sleep_a_little(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, 20, err);
}

static void test_iter__producer_starts_with_the_first_wait(void **state)
{
    (void)state;
    struct producer producer = {.count = 10};
    pier_iter *iter = open_iter(&producer);
    assert_int_equal(pier_task_run(runner, sleep_a_little, NULL, NULL), 0);
    assert_int_equal(atomic_load(&producer.started), 0);
    assert_int_equal(pier_iter_close(iter, NULL), 0); /* never started, nothing to end */
    assert_int_equal(atomic_load(&producer.started), 0);
}

static void test_iter__producer_runs_ahead_by_a_bounded_number_of_blocks(void **state)
{
    (void)state;
    struct producer producer = {.count = 1 << 20};
    pier_iter *iter = open_iter(&producer);
    PIER_AUTO(pier_items) items = pier_iter_block(iter, NULL);
    assert_true(pier_items_count(items) > 0);
    int taken = (int)pier_items_count(items);
    /* Time for more, if nothing held it back. */
    assert_int_equal(pier_task_run(runner, sleep_a_little, NULL, NULL), 0);
    assert_true(atomic_load(&producer.put) - taken <= 3 * 1024);
    assert_true(atomic_load(&producer.put) - taken > 0);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static int count_turns(pier_task *self, void *arg, pier_error *err)
{
    int turns = 0;
    while (!atomic_load((atomic_int *)arg)) {
        int status = pier_task_sleep(self, 0, err);
        if (status < 0) {
            return status;
        }
        turns++;
    }
    return turns;
}

static void test_put__lets_the_loop_do_other_things_after_each_block(void **state)
{
    (void)state;
    atomic_int done = 0;
    pier_future *other = pier_task_start(runner, count_turns, &done);
    struct producer producer = {.count = 100 * 1024};
    pier_iter *iter = open_iter(&producer);
    assert_int_equal(drain(iter), 100 * 1024);
    atomic_store(&done, 1);
    int turns = pier_task_finish(other, NULL);
    assert_in_range(turns, 99, INT32_MAX);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

/* ---- Failing ------------------------------------------------------------------------------ */

static void test_close__reports_the_failure_of_the_producer_after_its_items(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 5000, .fails_with = PIER_EUSER};
    pier_iter *iter = open_iter(&producer);
    assert_int_equal(drain(iter), 5000);
    assert_int_equal(pier_iter_close(iter, &err), PIER_EUSER);
    assert_string_equal(err.message, "the well is dry");
}

static void test_close__reports_a_failure_that_nobody_had_read(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 5, .fails_with = PIER_EUSER};
    pier_iter *iter = open_iter(&producer);
    pier_items_free(pier_iter_block(iter, NULL));
    assert_true(unit_await(&producer.ended));
    /* The task has returned, or is about to: its own failure, or merely cancelled. */
    while (pier_iter_item(iter)) {
    }
    assert_int_equal(pier_iter_close(iter, &err), PIER_EUSER);
}

static void test_block__gives_the_failure_to_callbacks_again_and_again(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.fails_with = PIER_EUSER};
    struct chain chain = {.iter = open_iter(&producer)};
    pier_future_then(pier_iter_block_async(chain.iter), on_block, &chain);
    assert_true(unit_await(&chain.done));
    assert_int_equal(chain.status, PIER_EUSER);
    assert_null(pier_iter_block(chain.iter, &err));
    assert_int_equal(err.status, PIER_EUSER);
    assert_int_equal(pier_iter_close(chain.iter, NULL), PIER_EUSER);
}

/* ---- Leaving ------------------------------------------------------------------------------ */

static void test_close__cancels_the_producer_and_waits_for_its_clean_up(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 1 << 30, .cleanup_ms = 20};
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    assert_int_equal(pier_iter_close(iter, &err), 0);
    assert_int_equal(err.status, 0);
    assert_int_equal(atomic_load(&producer.ended), 1);
    assert_int_equal(atomic_load(&producer.put_status), PIER_ECANCELLED);
}

static void test_close__cancels_a_producer_that_waits_for_something_else(void **state)
{
    (void)state;
    struct producer producer = {.count = 10, .pause_after = 1};
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    assert_int_equal(pier_iter_close(iter, NULL), 0);
    assert_int_equal(atomic_load(&producer.put_status), PIER_ECANCELLED);
}

static void test_close__reports_a_clean_up_that_failed(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 1 << 30, .cleanup_status = PIER_EUSER};
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    assert_int_equal(pier_iter_close(iter, &err), PIER_EUSER);
    assert_string_equal(err.message, "the clean-up failed");
}

static void test_close__ends_those_who_wait_for_a_block(void **state)
{
    (void)state;
    struct producer producer = {.count = 10, .pause_after = 1};
    pier_iter *iter = open_iter(&producer);
    pier_items_free(pier_iter_block(iter, NULL));
    pier_future *waiting = pier_iter_block_async(iter);
    pier_future *close = pier_iter_close_async(iter);
    pier_error err = {0};
    assert_null(pier_iter_block_finish(waiting, &err));
    assert_int_equal(err.status, PIER_ECANCELLED);
    assert_int_equal(pier_iter_close_finish(close, NULL), 0);
}

static int leave_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    int64_t item;
    pier_iter_next(arg, &item);
    return pier_iter_close(arg, err);
}

static void test_close__in_a_task_waits_for_the_producer(void **state)
{
    (void)state;
    struct producer producer = {.count = 1 << 30};
    assert_int_equal(pier_task_run(runner, leave_in_task, open_iter(&producer), NULL), 0);
    assert_int_equal(atomic_load(&producer.ended), 1);
}

static int unobserved_status;

static void on_unobserved(const pier_error *err, void *user_data)
{
    (void)user_data;
    unobserved_status = err->status;
}

static void test_runner_close__ends_an_abandoned_one(void **state)
{
    (void)state;
    struct producer producer = {.count = 1 << 30}, waits = {.count = 2, .pause_after = 1};
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_iter *busy = pier_iter_open(own, sizeof(int64_t), produce, &producer, NULL);
    pier_iter *idle = pier_iter_open(own, sizeof(int64_t), produce, &waits, NULL);
    int64_t item;
    assert_true(pier_iter_next(busy, &item) && pier_iter_next(idle, &item));
    pier_runner_close(own);
    assert_int_equal(atomic_load(&producer.ended), 1);
    assert_int_equal(atomic_load(&waits.ended), 1);
}

static void test_runner_close__tells_the_failure_of_an_abandoned_one(void **state)
{
    (void)state;
    struct producer producer = {.count = 1 << 30, .cleanup_status = PIER_EUSER};
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_iter *iter = pier_iter_open(own, sizeof(int64_t), produce, &producer, NULL);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    unobserved_status = 0;
    pier_unobserved_set(on_unobserved, NULL);
    pier_runner_close(own);
    pier_unobserved_set(NULL, NULL);
    assert_int_equal(unobserved_status, PIER_EUSER);
}

struct blocked {
    pier_iter *iter;
    bool got;
};

static void *wait_for_item(void *arg)
{
    struct blocked *blocked = arg;
    int64_t item;
    blocked->got = pier_iter_next(blocked->iter, &item);
    return NULL;
}

static void test_runner_close__wakes_a_thread_that_waits_for_an_item(void **state)
{
    (void)state;
    pthread_t thread;
    struct producer producer = {.count = 2, .pause_after = 1};
    pier_runner *own = pier_runner_open(NULL, NULL);
    struct blocked blocked = {pier_iter_open(own, sizeof(int64_t), produce, &producer, NULL), true};
    int64_t item;
    assert_true(pier_iter_next(blocked.iter, &item));
    assert_int_equal(pthread_create(&thread, NULL, wait_for_item, &blocked), 0);
    assert_true(unit_await(&own->threads)); /* it is inside */
    pier_runner_close(own);
    pthread_join(thread, NULL);
    assert_false(blocked.got);
}

/* ---- Scopes ------------------------------------------------------------------------------- */

static void test_iter__consumer_obeys_its_scope_and_close_says_so(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 10, .pause_after = 1};
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    assert_false(pier_iter_next(iter, &item));
    assert_int_equal(pier_iter_close(iter, &err), PIER_ETIMEDOUT);
    pier_scope_close(scope);
    assert_int_equal(atomic_load(&producer.ended), 1);
}

static void test_iter__producer_is_in_the_scope_that_it_was_opened_in(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 10, .pause_after = 1};
    time_stop(); /* until it has made one */
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 30), NULL);
    pier_iter *iter = open_iter(&producer);
    pier_scope_close(scope);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    time_go_on();
    assert_false(pier_iter_next(iter, &item)); /* outside of it, and without a bound here */
    assert_int_equal(pier_iter_close(iter, &err), PIER_ETIMEDOUT);
    assert_int_equal(atomic_load(&producer.put_status), PIER_ETIMEDOUT);
}

static void test_iter__cancelled_scope_ends_a_busy_producer(void **state)
{
    (void)state;
    pier_error err = {0};
    struct producer producer = {.count = 1 << 30};
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    pier_scope_cancel(scope);
    while (pier_iter_next(iter, &item)) {
    }
    assert_int_equal(pier_iter_close(iter, &err), PIER_ECANCELLED);
    pier_scope_close(scope);
    assert_int_equal(atomic_load(&producer.ended), 1);
}

struct own {
    pier_iter *iter;
    int close_status, next_status;
};

static int wait_for_itself(pier_task *self, void *arg, pier_error *err)
{
    struct own *own = arg;
    int64_t item = 1;
    pier_error refused = {0};
    pier_items *items = pier_iter_block(own->iter, &refused);
    own->next_status = items ? 0 : refused.status;
    own->close_status = pier_iter_close(own->iter, NULL);
    return pier_iter_put(self, &item, err);
}

static void test_iter__producer_that_waits_for_itself_is_refused(void **state)
{
    (void)state;
    struct own own = {0};
    int64_t item;
    own.iter = pier_iter_open(runner, sizeof(int64_t), wait_for_itself, &own, NULL);
    assert_true(pier_iter_next(own.iter, &item));
    assert_int_equal(pier_iter_close(own.iter, NULL), 0);
    assert_int_equal(own.next_status, PIER_EDEADLOCK);
    assert_int_equal(own.close_status, PIER_EDEADLOCK);
}

/* ---- Nested ------------------------------------------------------------------------------- */

struct nested {
    struct producer inner;
    atomic_int ended;
    int inner_status;
};

static int double_each(pier_task *self, void *arg, pier_error *err)
{
    struct nested *nested = arg;
    pier_iter *inner =
        pier_iter_open(pier_task_runner(self), sizeof(int64_t), produce, &nested->inner, err);
    int status = 0;
    for (int64_t item; status == 0 && pier_iter_next(inner, &item);) {
        item *= 2;
        status = pier_iter_put(self, &item, err);
    }
    nested->inner_status = pier_iter_close(inner, status < 0 ? NULL : err);
    atomic_store(&nested->ended, 1);
    return status < 0 ? status : nested->inner_status;
}

static void test_iter__producer_that_consumes_another(void **state)
{
    (void)state;
    struct nested nested = {.inner = {.count = 20000}};
    pier_iter *iter = pier_iter_open(runner, sizeof(int64_t), double_each, &nested, NULL);
    int64_t item, expected = 0;
    while (pier_iter_next(iter, &item)) {
        assert_int_equal(item, expected);
        expected += 2;
    }
    assert_int_equal(expected, 40000);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

static void test_iter__leaving_a_nested_one_ends_both(void **state)
{
    (void)state;
    struct nested nested = {.inner = {.count = 1 << 30}};
    pier_iter *iter = pier_iter_open(runner, sizeof(int64_t), double_each, &nested, NULL);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    assert_int_equal(pier_iter_close(iter, NULL), 0);
    assert_int_equal(atomic_load(&nested.ended), 1);
    assert_int_equal(atomic_load(&nested.inner.ended), 1);
}

static void test_iter__failure_of_a_nested_one_reaches_the_consumer(void **state)
{
    (void)state;
    pier_error err = {0};
    struct nested nested = {.inner = {.count = 10, .fails_with = PIER_EUSER}};
    pier_iter *iter = pier_iter_open(runner, sizeof(int64_t), double_each, &nested, NULL);
    int64_t item;
    while (pier_iter_next(iter, &item)) {
    }
    assert_int_equal(pier_iter_close(iter, &err), PIER_EUSER);
    assert_string_equal(err.message, "the well is dry");
}

static void test_runner_close__ends_a_nested_one(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct nested nested = {.inner = {.count = 1 << 30}};
        pier_runner *own = pier_runner_open(NULL, NULL);
        pier_iter *iter = pier_iter_open(own, sizeof(int64_t), double_each, &nested, NULL);
        int64_t item;
        assert_true(pier_iter_next(iter, &item));
        pier_runner_close(own);
        assert_int_equal(atomic_load(&nested.ended), 1);
        assert_int_equal(atomic_load(&nested.inner.ended), 1);
    }
}

/* ---- Memory, fork ------------------------------------------------------------------------- */

static atomic_int left; /* allocations before the one that fails */
static atomic_int failed;

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_fetch_sub(&left, 1) != 0) {
        return false;
    }
    atomic_store(&failed, 1);
    return true;
}

/* 0, or the status that it failed with; no item is lost or out of order. */
static int iterate(struct producer *producer)
{
    pier_error err = {0};
    pier_iter *iter = pier_iter_open(runner, sizeof(int64_t), produce, producer, &err);
    if (!iter) {
        return err.status;
    }
    int64_t count = drain(iter);
    int status = pier_iter_close(iter, &err);
    return status < 0 ? status : count == producer->count ? 0 : PIER_EUSER;
}

static void test_iter__survives_each_failing_allocation(void **state)
{
    (void)state;
    int failures = 0;
    for (int number = 0;; number++) {
        struct producer producer = {.count = 2100};
        atomic_store(&left, number);
        atomic_store(&failed, 0);
        pier__alloc_set_gate(fail_one);
        int status = iterate(&producer);
        pier__alloc_set_gate(NULL);
        assert_true(status == 0 || status == PIER_ENOMEM);
        if (!atomic_load(&failed)) {
            assert_int_equal(status, 0);
            break;
        }
        failures++;
    }
    assert_true(failures >= 6);
}

static void test_iter__in_a_forked_child_everything_is_refused(void **state)
{
    (void)state;
    struct producer producer = {.count = 10, .pause_after = 1};
    pier_iter *iter = open_iter(&producer);
    int64_t item;
    assert_true(pier_iter_next(iter, &item));
    pid_t child = fork();
    if (child == 0) {
        pier_error err = {0};
        bool refused = !pier_iter_next(iter, &item) && !pier_iter_block(iter, &err) &&
                       err.status == PIER_EFORKED && pier_iter_close(iter, NULL) == PIER_EFORKED &&
                       !pier_iter_open(runner, 1, produce, NULL, NULL);
        _exit(refused ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(pier_iter_close(iter, NULL), 0);
}

/* ---- Many --------------------------------------------------------------------------------- */

static void *iterate_often(void *arg)
{
    pier_runner *shared = arg;
    for (int i = 0; i < 50; i++) {
        struct producer producer = {.count = 1 << (i % 12)};
        pier_iter *iter = pier_iter_open(shared, sizeof(int64_t), produce, &producer, NULL);
        int64_t item;
        for (int taken = 0; taken < 1 << (i % 7) && pier_iter_next(iter, &item); taken++) {
        }
        if (pier_iter_close(iter, NULL) != 0) {
            return arg;
        }
    }
    return NULL;
}

static void test_iter__many_threads_that_leave_at_any_time(void **state)
{
    (void)state;
    pthread_t threads[8];
    for (int i = 0; i < 8; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, iterate_often, runner), 0);
    }
    for (int i = 0; i < 8; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        assert_null(bad);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_iter__gives_a_thread_all_items_in_order),
        WITH_RUNNER(test_iter__gives_a_task_all_items_in_order),
        WITH_RUNNER(test_iter__gives_callbacks_blocks_until_an_empty_one),
        WITH_RUNNER(test_iter__gives_items_where_they_stand),
        WITH_RUNNER(test_iter__several_blocks_asked_for_at_once_come_in_order),
        WITH_RUNNER(test_iter__waiting_one_that_is_cancelled_leaves_its_items_to_the_next),
        WITH_RUNNER(test_iter__first_items_do_not_wait_for_a_full_block),
        WITH_RUNNER(test_iter__empty_one_gives_nothing),
        WITH_RUNNER(test_iter__copies_each_item_whatever_its_size),
        WITH_RUNNER(test_iter__refuses_items_without_size_and_no_producer),
        WITH_RUNNER(test_iter__null_passes_through),
        WITH_RUNNER(test_put__is_refused_outside_a_producer),
        WITH_RUNNER(test_iter__producer_starts_with_the_first_wait),
        WITH_RUNNER(test_iter__producer_runs_ahead_by_a_bounded_number_of_blocks),
        WITH_RUNNER(test_put__lets_the_loop_do_other_things_after_each_block),
        WITH_RUNNER(test_close__reports_the_failure_of_the_producer_after_its_items),
        WITH_RUNNER(test_close__reports_a_failure_that_nobody_had_read),
        WITH_RUNNER(test_block__gives_the_failure_to_callbacks_again_and_again),
        WITH_RUNNER(test_close__cancels_the_producer_and_waits_for_its_clean_up),
        WITH_RUNNER(test_close__cancels_a_producer_that_waits_for_something_else),
        WITH_RUNNER(test_close__reports_a_clean_up_that_failed),
        WITH_RUNNER(test_close__ends_those_who_wait_for_a_block),
        WITH_RUNNER(test_close__in_a_task_waits_for_the_producer),
        WITH_RUNNER(test_runner_close__ends_an_abandoned_one),
        WITH_RUNNER(test_runner_close__tells_the_failure_of_an_abandoned_one),
        WITH_RUNNER(test_runner_close__wakes_a_thread_that_waits_for_an_item),
        WITH_RUNNER(test_iter__consumer_obeys_its_scope_and_close_says_so),
        WITH_RUNNER(test_iter__producer_is_in_the_scope_that_it_was_opened_in),
        WITH_RUNNER(test_iter__cancelled_scope_ends_a_busy_producer),
        WITH_RUNNER(test_iter__producer_that_waits_for_itself_is_refused),
        WITH_RUNNER(test_iter__producer_that_consumes_another),
        WITH_RUNNER(test_iter__leaving_a_nested_one_ends_both),
        WITH_RUNNER(test_iter__failure_of_a_nested_one_reaches_the_consumer),
        WITH_RUNNER(test_runner_close__ends_a_nested_one),
        WITH_RUNNER(test_iter__survives_each_failing_allocation),
        WITH_RUNNER(test_iter__in_a_forked_child_everything_is_refused),
        WITH_RUNNER(test_iter__many_threads_that_leave_at_any_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
