/* Threads and tasks that wait side by side at a queue, mutex, semaphore, event or condition. */
#ifndef PIER_TESTS_UNIT_CROWD_H
#define PIER_TESTS_UNIT_CROWD_H

#include "sdk/gate.h" /* its functions have locals that would shadow `runner` of unit.h */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include <pier/future.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* One of them: makes a call, and keeps what it gave. */
struct member {
    int (*call)(struct member *member, pier_error *err);
    int64_t item;
    int status;
    pier_error err;
    atomic_int done;
    bool is_task;
    int64_t timeout_ms; /* of a scope around the call; 0: none */
    bool cancels;       /* the test cancels that scope */
    _Atomic(pier_scope *) scope;
    atomic_int cancelled;
    pthread_t thread;
    pier_future *task;
};

static inline void run_member(struct member *member)
{
    pier_scope *scope = NULL;
    if (member->timeout_ms) {
        scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = member->timeout_ms), NULL);
        atomic_store(&member->scope, scope);
    }
    member->status = member->call(member, &member->err);
    if (member->cancels) {
        unit_await(&member->cancelled); /* it must not be closed before */
    }
    pier_scope_close(scope);
    atomic_store(&member->done, 1);
}

static inline void *member_thread(void *arg)
{
    run_member(arg);
    return NULL;
}

static inline int member_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    run_member(arg);
    return 0;
}

/* Every other one is a task. */
static inline void start_member(struct member *member, int number)
{
    member->is_task = number % 2;
    if (member->is_task) {
        member->task = pier_task_start(runner, member_task, member);
    } else if (pthread_create(&member->thread, NULL, member_thread, member)) {
        abort();
    }
}

static inline void join_member(struct member *member)
{
    if (member->is_task) {
        pier_task_finish(member->task, NULL);
    } else {
        pthread_join(member->thread, NULL);
    }
}

static inline bool await_member(struct member *member)
{
    return unit_await(&member->done);
}

/* How many wait at a gate, which every queue, mutex, ... begins with. */
struct waiting {
    pier__gate *gate;
    int count;
};

static inline int count_waiting(void *thing)
{
    pier__gate *gate = thing;
    int count = 0;
    pthread_mutex_lock(&gate->lock);
    for (pier__waiter *waiter = gate->waiters.head; waiter; waiter = waiter->next) {
        count++;
    }
    for (pier__waiter *waiter = gate->putters.head; waiter; waiter = waiter->next) {
        count++;
    }
    pthread_mutex_unlock(&gate->lock);
    return count;
}

static inline bool so_many_wait(void *user_data)
{
    struct waiting *waiting = user_data;
    return count_waiting(waiting->gate) == waiting->count;
}

static inline bool await_waiting(void *thing, int count)
{
    struct waiting waiting = {thing, count};
    return support_wait_until(so_many_wait, &waiting, BOUND_MS);
}

/* Starts them one after the other, so that they wait in that order. */
static inline bool start_in_order(struct member *members, int count, void *thing)
{
    for (int i = 0; i < count; i++) {
        start_member(&members[i], i);
        if (!await_waiting(thing, i + 1)) {
            return false;
        }
    }
    return true;
}

static inline void cancel_member(struct member *member)
{
    pier_scope_cancel(atomic_load(&member->scope));
    atomic_store(&member->cancelled, 1);
}

/* Joins all; true: each has failed with `status`. */
static inline bool all_ended_with(struct member *members, int count, int status)
{
    bool all = true;
    for (int i = 0; i < count; i++) {
        join_member(&members[i]);
        all =
            all && members[i].status == status && (status >= 0 || members[i].err.status == status);
    }
    return all;
}

/* ---- Want of memory ----------------------------------------------------------------------- */

static atomic_int allocations_left;
static atomic_int allocation_failed;

static inline bool fail_one(size_t size)
{
    (void)size;
    if (atomic_fetch_sub(&allocations_left, 1) != 0) {
        return false;
    }
    atomic_store(&allocation_failed, 1);
    return true;
}

/* Makes a call again and again, with another allocation failing each time, until none fails. It
 * gives 0 or a status. Gives how many have failed; -1 when a status was neither 0 nor
 * PIER_ENOMEM. */
static inline int fail_each(int (*call)(void))
{
    for (int number = 0;; number++) {
        atomic_store(&allocations_left, number);
        atomic_store(&allocation_failed, 0);
        pier__alloc_set_gate(fail_one);
        int status = call();
        pier__alloc_set_gate(NULL);
        if (!atomic_load(&allocation_failed)) {
            return status ? -1 : number;
        }
        if (status && status != PIER_ENOMEM) {
            return -1;
        }
    }
}

/* ---- In a forked child -------------------------------------------------------------------- */

static bool in_child;

/* The leak check of a child would count what threads of the parent own. */
int __lsan_is_turned_off(void);
int __lsan_is_turned_off(void)
{
    return in_child;
}

/* Gives the exit code of a check that runs in a child; -1 when it hung or crashed. */
static inline int in_a_child(int (*check)(void))
{
    pid_t child = fork();
    if (child == 0) {
        in_child = true;
        alarm(BOUND_MS / 1000);
        _exit(check());
    }
    int status = 0;
    waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* In a check: gives the line that failed. */
#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return __LINE__ % 255 + 1;                                                             \
        }                                                                                          \
    } while (0)

#endif
