/* Waits for mutexes, items of an iterator and files that can never end are refused, others not. */
#include "tests/unit/unit.h"

#include <pier/executor.h>
#include <pier/file.h>
#include <pier/iter.h>
#include <pier/mutex.h>
#include <pier/task.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

/* ---- Mutexes ------------------------------------------------------------------------------ */

/* One who locks `first`, then, once the other has locked his, `second`. */
struct side {
    pier_mutex *first, *second;
    struct side *peer;
    atomic_int has_first;
    int64_t timeout_ms; /* 0: none */
    int status;
    pier_error err;
    pthread_t thread;
};

static void lock_second(struct side *side)
{
    pier_scope *scope = NULL;
    if (side->timeout_ms) {
        scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = side->timeout_ms), NULL);
    }
    side->status = pier_mutex_lock(side->second, &side->err);
    pier_scope_close(scope);
    if (side->status == 0) {
        pier_mutex_unlock(side->second, NULL);
    }
    pier_mutex_unlock(side->first, NULL);
}

static void *lock_both_on_thread(void *arg)
{
    struct side *side = arg;
    side->status = pier_mutex_lock(side->first, NULL);
    atomic_store(&side->has_first, 1);
    unit_await(&side->peer->has_first);
    lock_second(side);
    return NULL;
}

static int lock_both_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct side *side = arg;
    side->status = pier_mutex_lock(side->first, NULL);
    atomic_store(&side->has_first, 1);
    while (!atomic_load(&side->peer->has_first)) {
        pier_task_sleep(self, 1, err);
    }
    lock_second(side);
    return 0;
}

static void open_sides(struct side sides[2])
{
    sides[0].first = sides[1].second = pier_mutex_new(runner, "a", NULL);
    sides[1].first = sides[0].second = pier_mutex_new(runner, "b", NULL);
    sides[0].peer = &sides[1];
    sides[1].peer = &sides[0];
}

static void close_sides(struct side sides[2])
{
    pier_mutex_free(sides[0].first);
    pier_mutex_free(sides[1].first);
}

/* One of them goes on when the other has been told. */
static void check_one_is_refused(struct side sides[2])
{
    int refused = sides[0].status == PIER_EDEADLOCK ? 0 : 1;
    assert_int_equal(sides[refused].status, PIER_EDEADLOCK);
    assert_int_equal(sides[!refused].status, 0);
    assert_non_null(strstr(sides[refused].err.message, "needs pier_mutex_lock"));
}

static void run_threads(struct side sides[2])
{
    open_sides(sides);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(pthread_create(&sides[i].thread, NULL, lock_both_on_thread, &sides[i]), 0);
    }
    pthread_join(sides[0].thread, NULL);
    pthread_join(sides[1].thread, NULL);
    close_sides(sides);
}

static void test_deadlock__of_two_threads_with_two_mutexes_is_refused_to_one(void **state)
{
    (void)state;
    struct side sides[2] = {{.status = 1}, {.status = 1}};
    run_threads(sides);
    check_one_is_refused(sides);
}

static void test_deadlock__of_two_tasks_with_two_mutexes_is_refused_to_one(void **state)
{
    (void)state;
    struct side sides[2] = {{.status = 1}, {.status = 1}};
    open_sides(sides);
    pier_future *one = pier_task_start(runner, lock_both_in_task, &sides[0]);
    pier_future *two = pier_task_start(runner, lock_both_in_task, &sides[1]);
    assert_int_equal(pier_task_finish(one, NULL), 0);
    assert_int_equal(pier_task_finish(two, NULL), 0);
    close_sides(sides);
    check_one_is_refused(sides);
}

static void test_deadlock__of_a_thread_and_a_task_with_two_mutexes_is_refused_to_one(void **state)
{
    (void)state;
    struct side sides[2] = {{.status = 1}, {.status = 1}};
    open_sides(sides);
    pier_future *task = pier_task_start(runner, lock_both_in_task, &sides[0]);
    lock_both_on_thread(&sides[1]);
    assert_int_equal(pier_task_finish(task, NULL), 0);
    close_sides(sides);
    check_one_is_refused(sides);
}

static void test_deadlock__with_mutexes_is_none_where_a_scope_ends_one_wait(void **state)
{
    (void)state;
    struct side sides[2] = {{.timeout_ms = 100}, {.status = 1}};
    run_threads(sides);
    assert_int_equal(sides[0].status, PIER_ETIMEDOUT);
    assert_int_equal(sides[1].status, 0);
}

static int lock_once(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    int status = pier_mutex_lock(arg, err);
    return status < 0 ? status : pier_mutex_unlock(arg, err);
}

static void test_deadlock__is_none_at_a_mutex_whose_owner_waits_for_another(void **state)
{
    (void)state;
    pier_mutex *mutex = pier_mutex_new(runner, NULL, NULL);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_future *waiter = pier_task_start(runner, lock_once, mutex);
    pier_future *other = pier_task_start(runner, lock_once, mutex);
    /* It waits for one who waits for us, but not for ever. */
    assert_int_equal(pier_future_wait(waiter, 30, NULL), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_int_equal(pier_task_finish(waiter, NULL), 0);
    assert_int_equal(pier_task_finish(other, NULL), 0);
    pier_mutex_free(mutex);
}

static void
test_deadlock__of_a_thread_with_a_task_that_needs_its_mutex_is_refused_to_one(void **state)
{
    (void)state;
    pier_mutex *mutex = pier_mutex_new(runner, NULL, NULL);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    pier_future *waiter = pier_task_start(runner, lock_once, mutex);
    pier_error err = {0};
    int waited = pier_future_wait(waiter, PIER_FOREVER, &err);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    int status = pier_task_finish(waiter, NULL);
    pier_mutex_free(mutex);
    /* Refused is whoever was the second to wait. */
    if (waited == PIER_EDEADLOCK) {
        assert_non_null(strstr(err.message, "needs pier_task"));
        assert_int_equal(status, 0);
    } else {
        assert_int_equal(waited, 1);
        assert_int_equal(status, PIER_EDEADLOCK);
    }
}

static void test_deadlock__is_none_at_a_mutex_that_a_future_has_locked(void **state)
{
    (void)state;
    pier_mutex *mutex = pier_mutex_new(runner, NULL, NULL);
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    pier_future *waiter = pier_task_start(runner, lock_once, mutex);
    assert_int_equal(pier_future_wait(waiter, 30, NULL), 0);
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_int_equal(pier_task_finish(waiter, NULL), 0);
    pier_mutex_free(mutex);
}

/* ---- Iterators ---------------------------------------------------------------------------- */

struct stream {
    pier_future *consumer;
    atomic_int has_consumer;
    int waited;
    bool got;
};

/* Waits for who waits for its items. */
static int produce(pier_task *self, void *arg, pier_error *err)
{
    struct stream *stream = arg;
    int item = 1;
    while (!atomic_load(&stream->has_consumer)) {
        pier_task_sleep(self, 1, err);
    }
    stream->waited = pier_future_wait(stream->consumer, PIER_FOREVER, NULL);
    return pier_iter_put(self, &item, err);
}

/* 7: it was refused. */
static int consume(pier_task *self, void *arg, pier_error *err)
{
    struct stream *stream = arg;
    (void)err;
    pier_error failure = {0};
    pier_iter *iter =
        pier_iter_open(pier_task_runner(self), sizeof(int), produce, stream, &failure);
    stream->got = pier_iter_item(iter) != NULL;
    return pier_iter_close(iter, &failure) == PIER_EDEADLOCK ? 7 : 0;
}

static void test_deadlock__of_a_producer_with_its_consumer_is_refused_to_one(void **state)
{
    (void)state;
    struct stream stream = {.waited = 9};
    stream.consumer = pier_task_start(runner, consume, &stream);
    atomic_store(&stream.has_consumer, 1);
    int status = pier_task_finish(stream.consumer, NULL);
    assert_true((status == 7) != (stream.waited == PIER_EDEADLOCK));
    assert_true(stream.got == (stream.waited == PIER_EDEADLOCK));
}

/* ---- Files -------------------------------------------------------------------------------- */

enum { THREADS_MAX = 256 };

/* So many has the runner's executor. */
static int count_threads(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return (cores > 0 ? (int)cores : 1) + 4;
}

struct crowd {
    pier_file *file;
    atomic_int inside, refused, done;
    int threads;
};

static bool all_inside(void *arg)
{
    struct crowd *crowd = arg;
    return atomic_load(&crowd->inside) == crowd->threads;
}

/* On a thread of the runner's executor, whose threads all wait for one of them. */
static int sync_file(void *arg, pier_error *err)
{
    struct crowd *crowd = arg;
    atomic_fetch_add(&crowd->inside, 1);
    support_wait_until(all_inside, crowd, BOUND_MS);
    int status = pier_file_sync_finish(pier_file_sync_async(crowd->file), err);
    atomic_fetch_add(status == PIER_EDEADLOCK ? &crowd->refused : &crowd->done, 1);
    return 0;
}

static void test_deadlock__of_an_executor_with_its_files_is_refused(void **state)
{
    (void)state;
    struct crowd crowd = {.threads = count_threads()};
    assert_true(crowd.threads <= THREADS_MAX);
    crowd.file = pier_file_open(runner, "/dev/null", "w", NULL, NULL);
    pier_future *jobs[THREADS_MAX];
    for (int i = 0; i < crowd.threads; i++) {
        jobs[i] = pier_to_thread_async(runner, sync_file, &crowd);
    }
    for (int i = 0; i < crowd.threads; i++) {
        assert_int_equal(pier_to_thread_finish(jobs[i], NULL), 0);
    }
    assert_int_equal(pier_file_close(crowd.file, NULL), 0);
    assert_true(crowd.refused >= 1);
    assert_int_equal(crowd.refused + crowd.done, crowd.threads);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_deadlock__of_two_threads_with_two_mutexes_is_refused_to_one),
        WITH_RUNNER(test_deadlock__of_two_tasks_with_two_mutexes_is_refused_to_one),
        WITH_RUNNER(test_deadlock__of_a_thread_and_a_task_with_two_mutexes_is_refused_to_one),
        WITH_RUNNER(test_deadlock__with_mutexes_is_none_where_a_scope_ends_one_wait),
        WITH_RUNNER(test_deadlock__is_none_at_a_mutex_whose_owner_waits_for_another),
        WITH_RUNNER(test_deadlock__of_a_thread_with_a_task_that_needs_its_mutex_is_refused_to_one),
        WITH_RUNNER(test_deadlock__is_none_at_a_mutex_that_a_future_has_locked),
        WITH_RUNNER(test_deadlock__of_a_producer_with_its_consumer_is_refused_to_one),
        WITH_RUNNER(test_deadlock__of_an_executor_with_its_files_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
