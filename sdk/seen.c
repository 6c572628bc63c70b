/*
 * The lists of a runner's operations and what the loop is in, for those who look from outside.
 */
#include "sdk/seen.h"

#include "sdk/hooks.h"
#include "sdk/task.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
pier_runner *pier__runners; /* guarded by lock */

void pier__seen_opened(pier_runner *runner)
{
    pthread_mutex_lock(&lock);
    runner->next_runner = pier__runners;
    if (pier__runners) {
        pier__runners->previous_runner = runner;
    }
    pier__runners = runner;
    pthread_mutex_unlock(&lock);
}

void pier__seen_freed(pier_runner *runner)
{
    if (pier__runner_forked(runner)) {
        return;
    }
    pthread_mutex_lock(&lock);
    *(runner->previous_runner ? &runner->previous_runner->next_runner : &pier__runners) =
        runner->next_runner;
    if (runner->next_runner) {
        runner->next_runner->previous_runner = runner->previous_runner;
    }
    pthread_mutex_unlock(&lock);
}

/* Another thread may have had the lock, and been in the middle: the list begins anew,
 * without the parent's runners. */
void pier__seen_forked(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    pier__runners = NULL;
}

/* ---- Lists, under ops_lock ---------------------------------------------------------------- */

static void enter(pier__op **list, pier__op *op)
{
    op->prev = NULL;
    op->next = *list;
    if (op->next) {
        op->next->prev = op;
    }
    *list = op;
}

static void leave(pier__op **list, pier__op *op)
{
    *(op->prev ? &op->prev->next : list) = op->next;
    if (op->next) {
        op->next->prev = op->prev;
    }
}

void pier__seen_started(pier__op *op)
{
    pier_runner *runner = op->runner;
    pthread_mutex_lock(&runner->ops_lock);
    op->since = runner->clock;
    enter(&runner->ops, op);
    runner->ops_count++;
    runner->tasks_count += op->cls->is_task;
    pthread_mutex_unlock(&runner->ops_lock);
}

/* What a task waits in is taken at once; a future may stay. Two references are the loop's. */
void pier__seen_ended(pier__op *op)
{
    pier_runner *runner = op->runner;
    pthread_mutex_lock(&runner->ops_lock);
    leave(&runner->ops, op);
    runner->ops_count--;
    runner->tasks_count -= op->cls->is_task;
    op->unread = !op->holder && atomic_load_explicit(&op->refs, memory_order_relaxed) > 2;
    if (op->unread) {
        op->since = runner->clock;
        enter(&runner->unread, op);
        runner->unread_count++;
    }
    pthread_mutex_unlock(&runner->ops_lock);
}

void pier__seen_unlist(pier__op *op)
{
    pier_runner *runner = op->runner;
    if (pier__runner_forked(runner)) {
        return; /* a thread of the parent's may have had the lock */
    }
    pthread_mutex_lock(&runner->ops_lock);
    leave(&runner->unread, op);
    runner->unread_count--;
    pthread_mutex_unlock(&runner->ops_lock);
}

/* ---- What it is in ------------------------------------------------------------------------ */

void pier__seen_slow(pier_runner *runner, const pier__op *op, int64_t took)
{
    const char *kind = atomic_load_explicit(&runner->seen.kind, memory_order_relaxed);
    const char *name = op->cls->is_task ? pier__task_name((const struct pier_task *)op) : "";
    pier__seen_count(&runner->seen.slow);
    pier__log(PIER_LOG_WARNING, "%s: %s %s%s%s kept the loop for %lld ms", runner->name, kind,
              op->cls->name, *name ? " " : "", name, (long long)(took / 1000000));
}

void pier__seen_lag(pier_runner *runner, int64_t since)
{
    int64_t lag = runner->slow_ns ? runner->clock - since : 0;
    lag = lag > 0 ? lag : 0;
    atomic_store_explicit(&runner->seen.lag, lag, memory_order_relaxed);
    if (lag > atomic_load_explicit(&runner->seen.lag_max, memory_order_relaxed)) {
        atomic_store_explicit(&runner->seen.lag_max, lag, memory_order_relaxed);
    }
}
