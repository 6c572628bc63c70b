/*
 * Threads, tasks and futures at queues, mutexes, semaphores, conditions, events, iterators and
 * groups, with cancels and deadlines at random, and a close of the runner at a random moment. Each
 * round has a seed, which is printed when it fails; PIER_TORTURE_SEED begins with that one,
 * PIER_TORTURE_MS says for how long. A round that hangs prints a dump and ends the program.
 */
#include <stdarg.h>

#include "tests/torture/torture.h" /* its functions have locals that would shadow `runner` */
#include "tests/unit/unit.h"

#include <pier/condition.h>
#include <pier/debug.h>
#include <pier/event.h>
#include <pier/future.h>
#include <pier/group.h>
#include <pier/iter.h>
#include <pier/mutex.h>
#include <pier/queue.h>
#include <pier/scope.h>
#include <pier/semaphore.h>
#include <pier/task.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { THREADS = 4, TASKS = 8, SLOTS = 64, PERMITS = 2, HANG_MS = 20000 };
enum { TIME_MS = SANITIZED ? 20000 : 8000 };

/* ---- Of one round ------------------------------------------------------------------------- */

struct worker {
    uint64_t random;
    pier_task *task; /* NULL: a thread */
    pthread_t thread;
    pthread_mutex_t lock;
    pier_scope *scope; /* guarded by lock: what may be cancelled */
};

static pier_queue *queue;
static pier_mutex *mutex, *condition_mutex;
static pier_semaphore *semaphore;
static pier_condition *condition;
static pier_event *event;
static long counted; /* guarded by the mutex */
static bool flag;    /* guarded by condition_mutex */
static atomic_int inside, most_inside;
static atomic_long locked, made, got, dropped, operations;
static atomic_int stop, wrong;
static int64_t slots[SLOTS];
static atomic_int next_slot;

static uint32_t roll(uint64_t *random, uint32_t sides)
{
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    return (uint32_t)(*random >> 32) % sides;
}

static void drop_item(void *item)
{
    (void)item;
    atomic_fetch_add(&dropped, 1);
}

/* Nothing here waits for itself, so nothing may be refused. */
static int check(int status)
{
    atomic_fetch_add(&operations, 1);
    if (status == PIER_EDEADLOCK || status == PIER_EINVAL || status == PIER_ENOMEM) {
        atomic_store(&wrong, status);
    }
    return status;
}

/* ---- What a worker does ------------------------------------------------------------------- */

static void put_one(struct worker *worker)
{
    int64_t item = (int64_t)roll(&worker->random, 1000);
    atomic_fetch_add(&made, 1);
    check(pier_queue_put(queue, &item, NULL));
}

static void get_one(struct worker *worker)
{
    int64_t item;
    (void)worker;
    if (check(pier_queue_get(queue, &item, NULL)) == 1) {
        atomic_fetch_add(&got, 1);
    }
}

static void count_under_lock(struct worker *worker)
{
    (void)worker;
    if (check(pier_mutex_lock(mutex, NULL)) == 0) {
        counted++;
        atomic_fetch_add(&locked, 1);
        check(pier_mutex_unlock(mutex, NULL));
    }
}

/* It has the lock, or not, although it is cancelled at the same time. */
static void lock_and_cancel(struct worker *worker)
{
    pier_future *future = pier_mutex_lock_async(mutex);
    if (roll(&worker->random, 2)) {
        pier_future_cancel(future);
    }
    if (roll(&worker->random, 4) == 0) {
        pier_future_free(future);
    } else if (check(pier_mutex_lock_finish(future, NULL)) == 0) {
        counted++;
        atomic_fetch_add(&locked, 1);
        check(pier_mutex_unlock(mutex, NULL));
    }
}

static void get_and_cancel(struct worker *worker)
{
    int64_t item;
    pier_future *future = pier_queue_get_async(queue, &item);
    if (roll(&worker->random, 2)) {
        pier_future_cancel(future);
    }
    if (check(pier_queue_get_finish(future, NULL)) == 1) {
        atomic_fetch_add(&got, 1);
    }
}

static void on_got(pier_future *future, void *user_data)
{
    (void)user_data;
    if (check(pier_queue_get_finish(future, NULL)) == 1) {
        atomic_fetch_add(&got, 1);
    }
}

static void get_by_callback(struct worker *worker)
{
    int64_t *slot = &slots[atomic_fetch_add(&next_slot, 1) % SLOTS];
    pier_future *future = pier_queue_get_async(queue, slot);
    if (roll(&worker->random, 2)) {
        pier_future_cancel(future);
    }
    pier_future_then(future, on_got, NULL);
}

static void enter_semaphore(struct worker *worker)
{
    if (check(pier_semaphore_acquire(semaphore, NULL)) == 0) {
        int count = atomic_fetch_add(&inside, 1) + 1;
        if (count > PERMITS) {
            atomic_store(&most_inside, count);
        }
        if (worker->task) {
            pier_task_sleep(worker->task, 0, NULL);
        }
        atomic_fetch_sub(&inside, 1);
        pier_semaphore_release(semaphore);
    }
}

static void wait_for_flag(struct worker *worker)
{
    if (check(pier_mutex_lock(condition_mutex, NULL)) < 0) {
        return;
    }
    int status = 0;
    if (roll(&worker->random, 2)) {
        flag = !flag;
        pier_condition_notify_all(condition);
    } else {
        bool before = flag;
        while (status == 0 && flag == before) {
            status = check(pier_condition_wait(condition, condition_mutex, NULL));
        }
    }
    if (status != PIER_ECLOSED) {
        check(pier_mutex_unlock(condition_mutex, NULL));
    }
}

static void use_event(struct worker *worker)
{
    switch (roll(&worker->random, 3)) {
    case 0:
        pier_event_set(event);
        break;
    case 1:
        pier_event_clear(event);
        break;
    default:
        check(pier_event_wait(event, NULL));
    }
}

static int produce(pier_task *self, void *arg, pier_error *err)
{
    int status = 0;
    for (int64_t i = 0; status == 0 && i < 3000; i++) {
        status = pier_iter_put(self, &i, err);
    }
    (void)arg;
    return status;
}

/* The runner's close would free the iterator, so that it must not come in between. */
static void iterate(struct worker *worker)
{
    pier__runner_enter(runner);
    pier_iter *iter = pier_iter_open(runner, sizeof(int64_t), produce, NULL, NULL);
    int64_t expected = 0, item;
    for (uint32_t left = roll(&worker->random, 4000); iter && left; left--) {
        if (!pier_iter_next(iter, &item)) {
            break;
        }
        if (item != expected++) {
            atomic_store(&wrong, 1);
        }
    }
    if (iter) {
        check(pier_iter_close(iter, NULL));
    }
    pier__runner_leave(runner);
}

static int be_member(pier_task *self, void *arg, pier_error *err)
{
    return pier_task_sleep(self, (int64_t)(uintptr_t)arg, err);
}

static void run_group(struct worker *worker)
{
    pier_group *group = pier_group_open(
        runner, PIER_GROUP_OPTIONS(.limit = 2, .queue_max = 2, .timeout_ms = 5), NULL);
    for (uint32_t left = roll(&worker->random, 8); group && left; left--) {
        pier_group_start(group, be_member, (void *)(uintptr_t)roll(&worker->random, 3));
    }
    if (group) {
        check(pier_group_close(group, NULL));
    }
}

/* ---- Workers ------------------------------------------------------------------------------ */

static void (*const calls[])(struct worker *) = {
    put_one,          put_one,         get_one,   count_under_lock, lock_and_cancel,
    get_and_cancel,   get_by_callback, use_event, enter_semaphore,  wait_for_flag,
    count_under_lock, iterate,         run_group, put_one,
};

static void publish(struct worker *worker, pier_scope *scope)
{
    pthread_mutex_lock(&worker->lock);
    worker->scope = scope;
    pthread_mutex_unlock(&worker->lock);
}

/* One call in a scope with a deadline. False: the runner closes. */
static bool call_once(struct worker *worker)
{
    int64_t ms = 1 + roll(&worker->random, 8);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = ms), NULL);
    if (!scope) {
        return false;
    }
    publish(worker, scope);
    calls[roll(&worker->random, sizeof calls / sizeof *calls)](worker);
    publish(worker, NULL);
    pier_scope_close(scope);
    return true;
}

static void *work_on_thread(void *arg)
{
    while (!atomic_load(&stop) && call_once(arg)) {
    }
    return NULL;
}

static int work_in_task(pier_task *self, void *arg, pier_error *err)
{
    struct worker *worker = arg;
    worker->task = self;
    int status = 0;
    while (status == 0 && !atomic_load(&stop) && call_once(worker)) {
        status = pier_task_sleep(self, roll(&worker->random, 2), err);
    }
    return status;
}

/* ---- The watch ---------------------------------------------------------------------------- */

static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t watch_over = PTHREAD_COND_INITIALIZER;
static bool round_is_over; /* guarded by watch_lock */

static void *watch(void *arg)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += HANG_MS / 1000;
    pthread_mutex_lock(&watch_lock);
    int rc = 0;
    while (!round_is_over && rc == 0) {
        rc = pthread_cond_timedwait(&watch_over, &watch_lock, &until);
    }
    if (!round_is_over) {
        fprintf(stderr, "the round with PIER_TORTURE_SEED=%llu hangs\n",
                *(unsigned long long *)arg);
        pier_runner_dump_fd(runner, 2);
        abort();
    }
    pthread_mutex_unlock(&watch_lock);
    return NULL;
}

/* ---- A round ------------------------------------------------------------------------------ */

static void open_round(void)
{
    runner = pier_runner_open(NULL, NULL);
    pier__runner_ref(runner); /* what waits is called until all threads have seen the close */
    queue = pier_queue_new(runner, sizeof(int64_t), 4, drop_item, NULL);
    mutex = pier_mutex_new(runner, "count", NULL);
    condition_mutex = pier_mutex_new(runner, "flag", NULL);
    semaphore = pier_semaphore_new(runner, PERMITS, NULL);
    condition = pier_condition_new(runner, NULL);
    event = pier_event_new(runner, NULL);
    counted = 0;
    atomic_long *const zero[] = {&locked, &made, &got, &dropped};
    for (size_t i = 0; i < sizeof zero / sizeof *zero; i++) {
        atomic_store(zero[i], 0);
    }
    atomic_store(&stop, 0);
    atomic_store(&most_inside, 0);
    round_is_over = false;
}

static void cancel_scope(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    pier_scope_cancel(worker->scope);
    pthread_mutex_unlock(&worker->lock);
}

/* Cancels one after the other, and starts again what that ends. */
static void disturb(struct worker *workers, pier_future **tasks, uint64_t *random)
{
    for (uint32_t left = 5 + roll(random, 60); left; left--) {
        nanosleep(&(struct timespec){0, 10000 + (long)roll(random, 1000000)}, NULL);
        uint32_t number = roll(random, TASKS);
        cancel_scope(&workers[TASKS + roll(random, THREADS)]);
        if (roll(random, 4) == 0) {
            pier_future_cancel(tasks[number]);
            pier_task_finish(tasks[number], NULL);
            tasks[number] = pier_task_start(runner, work_in_task, &workers[number]);
        }
    }
}

static void run_round(uint64_t seed)
{
    uint64_t random = seed * 0x9E3779B97F4A7C15u + 1;
    static struct worker workers[TASKS + THREADS];
    pier_future *tasks[TASKS];
    pthread_t watcher;
    open_round();
    assert_int_equal(pthread_create(&watcher, NULL, watch, &seed), 0);
    for (int i = 0; i < TASKS + THREADS; i++) {
        workers[i] = (struct worker){.random = random + (uint64_t)i * 0x1234567, .task = NULL};
        pthread_mutex_init(&workers[i].lock, NULL);
        if (i < TASKS) {
            tasks[i] = pier_task_start(runner, work_in_task, &workers[i]);
        } else {
            pthread_create(&workers[i].thread, NULL, work_on_thread, &workers[i]);
        }
    }
    disturb(workers, tasks, &random);
    atomic_store(&stop, (int)roll(&random, 2)); /* half of the rounds end by the close alone */
    pier_runner_close(runner);
    for (int i = 0; i < TASKS; i++) {
        pier_task_finish(tasks[i], NULL);
    }
    for (int i = TASKS; i < TASKS + THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    pier__runner_unref(runner);
    pthread_mutex_lock(&watch_lock);
    round_is_over = true;
    pthread_cond_signal(&watch_over);
    pthread_mutex_unlock(&watch_lock);
    pthread_join(watcher, NULL);
    for (int i = 0; i < TASKS + THREADS; i++) {
        pthread_mutex_destroy(&workers[i].lock);
    }
}

static void check_round(void)
{
    assert_int_equal(atomic_load(&wrong), 0);
    assert_int_equal(atomic_load(&most_inside), 0);
    assert_int_equal(counted, atomic_load(&locked));
    assert_int_equal(atomic_load(&made), atomic_load(&got) + atomic_load(&dropped));
}

static uint64_t number_from(const char *name, uint64_t standard)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : standard;
}

static void test_bridge__survives_cancels_and_close_at_any_moment(void **state)
{
    (void)state;
    uint64_t seed = torture_seed();
    int64_t until = support_now_ms() + (int64_t)number_from("PIER_TORTURE_MS", TIME_MS);
    int rounds = 0;
    for (; support_now_ms() < until; seed++, rounds++) {
        run_round(seed);
        if (atomic_load(&wrong) ||
            atomic_load(&made) != atomic_load(&got) + atomic_load(&dropped)) {
            print_error(
                "wrong in the round with PIER_TORTURE_SEED=%llu: status %d, %ld items made, "
                "%ld taken, %ld dropped\n",
                (unsigned long long)seed, atomic_load(&wrong), atomic_load(&made),
                atomic_load(&got), atomic_load(&dropped));
        }
        check_round();
    }
    printf("%d rounds, %ld operations\n", rounds, atomic_load(&operations));
    assert_true(rounds > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bridge__survives_cancels_and_close_at_any_moment),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
