/* Parkers: how a thread waits for another, for a descriptor, or for both. */
#include "tests/unit/unit.h"

#include "sdk/clock.h"
#include "sdk/park.h"
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

/* A thread that waits again and again until it is told to end, and how often it woke. */
struct waiter {
    pthread_t thread;
    _Atomic(pier__parker *) parker;
    int fd; /* polled, or -1 */
    atomic_int ready, rounds, stop;
};

static void *wait_again(void *arg)
{
    struct waiter *waiter = arg;
    atomic_store(&waiter->parker, pier__parker_self());
    atomic_store(&waiter->ready, 1);
    while (!atomic_load(&waiter->stop)) {
        int64_t until = pier__now() + 60 * SECOND;
        if (waiter->fd < 0) {
            pier__park(waiter->parker, until);
        } else {
            pier__park_poll(waiter->parker, waiter->fd, PIER__PARK_READ, until, false);
        }
        atomic_fetch_add(&waiter->rounds, 1);
    }
    return NULL;
}

static void start(struct waiter *waiter, int fd)
{
    memset(waiter, 0, sizeof *waiter);
    waiter->fd = fd;
    assert_int_equal(pthread_create(&waiter->thread, NULL, wait_again, waiter), 0);
    assert_true(unit_await(&waiter->ready));
}

static void stop(struct waiter *waiter)
{
    atomic_store(&waiter->stop, 1);
    pier__unpark(waiter->parker);
    pthread_join(waiter->thread, NULL);
}

/* No wait is longer than a second, so what is faster has been woken. */
static void assert_each_wake_ends_a_wait(struct waiter *waiter)
{
    int64_t started = support_now_ms();
    for (int i = 0; i < 20; i++) {
        int before = atomic_load(&waiter->rounds);
        pier__unpark(waiter->parker);
        while (atomic_load(&waiter->rounds) == before && support_now_ms() < started + BOUND_MS) {
            usleep(50);
        }
    }
    assert_true(support_now_ms() - started < 10000);
}

static void test_park__ends_at_once_after_an_earlier_wake(void **state)
{
    (void)state;
    pier__parker *self = pier__parker_self();
    pier__unpark(self);
    int64_t started = pier__now();
    pier__park(self, started + 60 * SECOND);
    assert_true(pier__now() - started < SECOND / 2);
}

static void test_park__ends_at_its_moment(void **state)
{
    (void)state;
    int64_t started = pier__now();
    pier__park(pier__parker_self(), started + SECOND / 50);
    assert_true(pier__now() >= started + SECOND / 50);
    pier__park(pier__parker_self(), started); /* a moment that has passed */
    assert_true(pier__now() < started + SECOND * 10);
}

static void test_unpark__wakes_a_thread_that_waits(void **state)
{
    (void)state;
    struct waiter waiter;
    start(&waiter, -1);
    assert_each_wake_ends_a_wait(&waiter);
    stop(&waiter);
}

static void test_unpark__wakes_a_thread_that_polls(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct waiter waiter;
    start(&waiter, ends[0]);
    assert_each_wake_ends_a_wait(&waiter);
    stop(&waiter);
    close(ends[0]);
    close(ends[1]);
}

static void test_unpark__is_harmless_for_null_and_for_threads_that_ended(void **state)
{
    (void)state;
    struct waiter waiter;
    start(&waiter, -1);
    pier__parker *parker = waiter.parker;
    stop(&waiter);
    pier__unpark(parker);
    pier__unpark(NULL);
    start(&waiter, -1);
    assert_ptr_equal(waiter.parker, parker); /* used again, with a wake-up in it */
    stop(&waiter);
}

static void test_poll__says_what_became_ready(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pier__parker *self = pier__parker_self();
    unsigned both = PIER__PARK_READ | PIER__PARK_WRITE;
    for (int quick = 0; quick < 2; quick++) {
        int64_t soon = pier__now() + SECOND / 100;
        assert_int_equal(pier__park_poll(self, ends[0], PIER__PARK_READ, soon, quick), 0);
        assert_int_equal(pier__park_poll(self, ends[1], both, 0, quick), PIER__PARK_WRITE);
    }
    assert_int_equal(write(ends[1], "x", 1), 1);
    assert_int_equal(pier__park_poll(self, ends[0], PIER__PARK_READ, 0, false), PIER__PARK_READ);
    close(ends[1]);
    assert_int_equal(pier__park_poll(self, ends[0], both, 0, false), both); /* it hung up */
    close(ends[0]);
}

static void test_poll__ends_at_once_after_an_earlier_wake(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pier__parker *self = pier__parker_self();
    pier__unpark(self);
    int64_t started = pier__now();
    pier__park_poll(self, ends[0], PIER__PARK_READ, started + 60 * SECOND, false);
    assert_true(pier__now() - started < SECOND / 2);
    close(ends[0]);
    close(ends[1]);
}

static atomic_int signals;

static void on_signal(int number)
{
    (void)number;
    atomic_fetch_add(&signals, 1);
}

static void assert_signals_end_waits(int fd)
{
    struct waiter waiter;
    start(&waiter, fd);
    int64_t started = support_now_ms();
    for (int i = 0; i < 20; i++) {
        int before = atomic_load(&waiter.rounds);
        pthread_kill(waiter.thread, SIGUSR1);
        while (atomic_load(&waiter.rounds) == before && support_now_ms() < started + BOUND_MS) {
            usleep(50);
        }
    }
    assert_true(support_now_ms() - started < 10000);
    stop(&waiter);
}

static void test_wait__ends_early_by_a_signal(void **state)
{
    (void)state;
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    struct sigaction action = {.sa_handler = on_signal}, before;
    sigaction(SIGUSR1, &action, &before);
    assert_signals_end_waits(-1);
    assert_signals_end_waits(ends[0]);
    sigaction(SIGUSR1, &before, NULL);
    assert_true(atomic_load(&signals) > 0);
    close(ends[0]);
    close(ends[1]);
}

static void *wake_word(void *arg)
{
    atomic_store((atomic_uint *)arg, 1);
    pier__word_wake(arg);
    return NULL;
}

static void test_word_wait__ends_when_the_word_changes(void **state)
{
    (void)state;
    atomic_uint word = 0;
    pthread_t thread;
    pthread_create(&thread, NULL, wake_word, &word);
    int64_t until = pier__now() + 20 * SECOND;
    while (!atomic_load(&word) && pier__now() < until) {
        pier__word_wait(&word, 0, until);
    }
    assert_int_equal(word, 1);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_park__ends_at_once_after_an_earlier_wake),
        cmocka_unit_test(test_park__ends_at_its_moment),
        cmocka_unit_test(test_unpark__wakes_a_thread_that_waits),
        cmocka_unit_test(test_unpark__wakes_a_thread_that_polls),
        cmocka_unit_test(test_unpark__is_harmless_for_null_and_for_threads_that_ended),
        cmocka_unit_test(test_poll__says_what_became_ready),
        cmocka_unit_test(test_poll__ends_at_once_after_an_earlier_wake),
        cmocka_unit_test(test_wait__ends_early_by_a_signal),
        cmocka_unit_test(test_word_wait__ends_when_the_word_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
