/* What a dump shows of mutexes, queues and groups. */
#include "tests/unit/unit.h"

#include <pier/debug.h>
#include <pier/group.h>
#include <pier/mutex.h>
#include <pier/queue.h>
#include <pier/task.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct line {
    const char *begins, *says;
    bool found;
};

static void look_at(const char *text, void *user_data)
{
    struct line *line = user_data;
    line->found |= !strncmp(text, line->begins, strlen(line->begins)) && strstr(text, line->says);
}

static bool line_is_there(void *arg)
{
    struct line *line = arg;
    line->found = false;
    return pier_runner_dump(runner, look_at, line) == 0 && line->found;
}

static bool shows(const char *begins, const char *says)
{
    return line_is_there(&(struct line){.begins = begins, .says = says});
}

static bool comes(const char *begins, const char *says)
{
    struct line line = {.begins = begins, .says = says};
    return support_wait_until(line_is_there, &line, BOUND_MS);
}

static int sleep_for_ever(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, PIER_FOREVER, err);
}

static void end_task(pier_future *future, int status)
{
    pier_future_cancel(future);
    assert_int_equal(pier_task_finish(future, NULL), status);
}

/* ---- Mutexes ------------------------------------------------------------------------------ */

static int hold(pier_task *self, void *arg, pier_error *err)
{
    int status = pier_mutex_lock(arg, err);
    status = status < 0 ? status : pier_task_sleep(self, PIER_FOREVER, err);
    pier_mutex_unlock(arg, NULL);
    return status;
}

static int lock(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    int status = pier_mutex_lock(arg, err);
    return status < 0 ? status : pier_mutex_unlock(arg, err);
}

static void test_dump__says_who_holds_a_mutex_and_how_many_wait(void **state)
{
    (void)state;
    pier_mutex *mutex = pier_mutex_new(runner, "money", NULL);
    assert_false(shows("mutex", ""));
    pier_future *holder =
        pier_task_start_with(runner, hold, mutex, PIER_TASK_OPTIONS(.name = "cashier"));
    assert_true(comes("mutex \"money\"", "held by task \"cashier\""));
    pier_future *waiter = pier_task_start(runner, lock, mutex);
    assert_true(comes("mutex \"money\"", ", 1 waiting"));
    end_task(holder, PIER_ECANCELLED);
    assert_int_equal(pier_task_finish(waiter, NULL), 0);
    assert_int_equal(pier_mutex_lock_finish(pier_mutex_lock_async(mutex), NULL), 0);
    assert_true(shows("mutex \"money\"", "held by a future or a callback, 0 waiting"));
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_int_equal(pier_mutex_lock(mutex, NULL), 0);
    assert_true(shows("mutex \"money\"", "held by a thread or task that does not wait"));
    assert_int_equal(pier_mutex_unlock(mutex, NULL), 0);
    assert_false(shows("mutex", ""));
    pier_mutex_free(mutex);
}

struct holder {
    pier_mutex *mutex;
    pier_queue *queue;
    int got;
};

static void *hold_and_wait(void *arg)
{
    struct holder *holder = arg;
    int item;
    holder->got = pier_mutex_lock(holder->mutex, NULL);
    holder->got = pier_queue_get(holder->queue, &item, NULL);
    pier_mutex_unlock(holder->mutex, NULL);
    return NULL;
}

static void test_dump__says_which_waiting_thread_holds_a_mutex(void **state)
{
    (void)state;
    struct holder holder = {.mutex = pier_mutex_new(runner, NULL, NULL),
                            .queue = pier_queue_new(runner, sizeof(int), 1, NULL, NULL)};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, hold_and_wait, &holder), 0);
    assert_true(comes("mutex \"\"", "held by thread "));
    pier_queue_end(holder.queue);
    pthread_join(thread, NULL);
    assert_int_equal(holder.got, 0);
    pier_queue_free(holder.queue);
    pier_mutex_free(holder.mutex);
}

/* ---- Queues ------------------------------------------------------------------------------- */

static void test_dump__says_how_full_a_queue_is_and_how_many_wait(void **state)
{
    (void)state;
    int item = 1;
    pier_queue *queue = pier_queue_new(runner, sizeof item, 2, NULL, NULL);
    assert_false(shows("queue", ""));
    pier_future *getter = pier_queue_get_async(queue, &item);
    assert_true(comes("queue", "0 of 2 items, 1 waiting to get one, 0 to put one"));
    assert_int_equal(pier_queue_put(queue, &item, NULL), 0);
    assert_int_equal(pier_queue_get_finish(getter, NULL), 1);
    pier_queue_put(queue, &item, NULL);
    pier_queue_put(queue, &item, NULL);
    pier_future *putter = pier_queue_put_async(queue, &item);
    assert_true(comes("queue", "2 of 2 items, 0 waiting to get one, 1 to put one"));
    pier_queue_end(queue);
    assert_int_equal(pier_queue_put_finish(putter, NULL), PIER_ECLOSED);
    assert_true(shows("queue", "2 of 2 items, ended"));
    pier_queue_free(queue);
    assert_false(shows("queue", ""));
}

/* ---- Groups ------------------------------------------------------------------------------- */

static int return_at_once(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

static int close_group(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return pier_group_close(arg, NULL) == PIER_ECANCELLED ? 7 : 0;
}

static void test_dump__says_what_the_members_of_a_group_do(void **state)
{
    (void)state;
    assert_false(shows("group", ""));
    pier_group *group = pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = 2), NULL);
    assert_int_equal(pier_group_start(group, return_at_once, NULL), 0);
    assert_true(comes("group", "0 under way, 0 queued, 0 waiting to be started, 1 have ended"));
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pier_group_start(group, sleep_for_ever, NULL), 0);
    }
    assert_true(comes("group", "2 under way, 1 queued, 0 waiting to be started, 1 have ended"));
    pier_future *closer =
        pier_task_start_with(runner, close_group, group, PIER_TASK_OPTIONS(.name = "closer"));
    assert_true(comes("group", ", waited for by task \"closer\""));
    end_task(closer, 7);
    assert_true(comes("runner", "0 tasks"));
    assert_false(shows("group", ""));
}

/* ---- While they come and go --------------------------------------------------------------- */

enum { ROUNDS = 200 };

struct traffic {
    atomic_int stop, rounds;
};

static void *come_and_go(void *arg)
{
    struct traffic *traffic = arg;
    while (!atomic_load(&traffic->stop)) {
        int item = 0;
        pier_mutex *mutex = pier_mutex_new(runner, "m", NULL);
        pier_queue *queue = pier_queue_new(runner, sizeof item, 4, NULL, NULL);
        pier_group *group = pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = 1), NULL);
        bool right = pier_mutex_lock(mutex, NULL) == 0;
        pier_queue_put(queue, &item, NULL);
        pier_group_start(group, return_at_once, NULL);
        pier_group_start(group, return_at_once, NULL);
        pier_mutex_unlock(mutex, NULL);
        right = pier_group_close(group, NULL) == 0 && right;
        pier_queue_free(queue);
        pier_mutex_free(mutex);
        atomic_fetch_add(&traffic->rounds, right);
    }
    return NULL;
}

static void test_dump__can_be_made_while_mutexes_queues_and_groups_come_and_go(void **state)
{
    (void)state;
    struct traffic traffic = {.rounds = 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, come_and_go, &traffic), 0);
    int64_t until = support_now_ms() + BOUND_MS;
    while (atomic_load(&traffic.rounds) < ROUNDS && support_now_ms() < until) {
        shows("group", "under way");
    }
    atomic_store(&traffic.stop, 1);
    pthread_join(thread, NULL);
    assert_true(traffic.rounds >= ROUNDS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_RUNNER(test_dump__says_who_holds_a_mutex_and_how_many_wait),
        WITH_RUNNER(test_dump__says_which_waiting_thread_holds_a_mutex),
        WITH_RUNNER(test_dump__says_how_full_a_queue_is_and_how_many_wait),
        WITH_RUNNER(test_dump__says_what_the_members_of_a_group_do),
        WITH_RUNNER(test_dump__can_be_made_while_mutexes_queues_and_groups_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
