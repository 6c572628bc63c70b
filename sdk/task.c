/*
 * Tasks. A task is an operation that the loop steps: its first step makes a fiber, each wake-up
 * resumes it, and it settles when the function has returned. Its function runs in a scope of the
 * task's own, so that cancelling the future cancels what the task does now and all it does later.
 */
#include "sdk/task.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/fiber.h"
#include "sdk/loop_internal.h"
#include "sdk/scope.h"
#include <assert.h>
#include <string.h>

struct pier_task {
    pier__op op; /* first */
    /* Immutable. */
    pier_task_fn fn;
    void *arg;
    /* Loop thread. */
    pier__fiber *fiber;
    pier_scope *scope;   /* the task's own */
    pier_scope *ambient; /* innermost, while the task is suspended */
    pier__op *awaited;   /* what it is suspended for */
    bool answered;       /* that has settled, or been abandoned */
    int returned;
    pier_error err;
};

/* ---- In the fiber ------------------------------------------------------------------------- */

static void run_fiber(void *arg)
{
    pier_task *task = arg;
    task->returned = task->fn(task, task->arg, &task->err);
}

static void answer(pier_task *task)
{
    if (!task->answered) {
        task->answered = true;
        pier__op_wake(&task->op);
    }
}

struct waiter {
    pier__listener listener;
    pier_task *task;
};

static void on_settled(pier__listener *listener, pier__op *op)
{
    (void)op;
    answer(((struct waiter *)listener)->task);
}

/* The operation has been cancelled and cleans up: the task need not wait for that. */
static void on_abandoned(pier__op *op)
{
    answer(op->abandon_data);
}

pier_future *pier__task_run_op(pier__op *op, pier_error *err)
{
    pier_task *task = pier__here.task;
    if (!op->cls->shielded && pier__here.scope) {
        op->scope = pier__scope_ref(pier__here.scope);
        op->deadline = op->scope->deadline;
    }
    op->on_loop = true;
    op->holder = task;
    pier__op_trace_begin(op);
    atomic_store(&op->mail, PIER__MAIL_LOOP);
    pier__loop_start_on_loop(op);
    if (pier__op_settled(op)) {
        return op;
    }
    struct waiter waiter = {.listener.settled = on_settled, .task = task};
    pier__op_listen(op, &waiter.listener);
    if (!op->cls->joins && !op->cls->shielded) {
        op->abandon = on_abandoned;
        op->abandon_data = task;
    }
    task->awaited = op;
    task->answered = false;
    while (!task->answered) {
        pier__fiber_suspend(task->fiber);
    }
    task->awaited = NULL;
    op->abandon = NULL;
    if (pier__op_settled(op)) {
        return op;
    }
    pier__op_unlisten(op, &waiter.listener);
    pier__op_cancelled_error(op, err ? err : &(pier_error){0});
    op->holder = NULL;
    op->observed = true; /* the caller is told that it was cancelled */
    pier__op_unref(op);
    return NULL;
}

/* ---- As an operation ---------------------------------------------------------------------- */

/* Runs the task's code until it suspends; true when it has ended. */
static bool resume(pier_task *task)
{
    pier_scope *scope = pier__here.scope;
    struct pier_task *outer = pier__here.task;
    pier__here.scope = task->ambient;
    pier__here.task = task;
    bool ended = pier__fiber_resume(task->fiber);
    task->ambient = pier__here.scope;
    pier__here.scope = scope;
    pier__here.task = outer;
    return ended;
}

static void end(pier_task *task)
{
    pier__fiber_free(task->op.runner->fibers, task->fiber);
    task->fiber = NULL;
    /* Scopes that the function forgot. */
    while (task->ambient != task->scope) {
        pier_scope *inner = task->ambient;
        task->ambient = inner->parent;
        if (inner->signal) {
            pier__signal_unlisten(inner);
        }
        pier__scope_unref(inner);
    }
    if (task->returned >= 0) {
        pier__op_succeed_int(&task->op, task->returned);
        return;
    }
    if (task->err.status >= 0) {
        pier_error_set(&task->err, task->returned, "a task failed with %s and no message",
                       pier_status_name(task->returned));
    }
    task->err.status = task->returned;
    pier__op_fail_with(&task->op, &task->err);
}

static bool begin(pier_task *task)
{
    task->scope = pier__scope_new(task->op.runner, task->op.scope, task->op.deadline);
    if (!task->scope) {
        return false;
    }
    task->ambient = task->scope;
    task->fiber = pier__fiber_new(task->op.runner->fibers, run_fiber, task);
    return task->fiber != NULL;
}

static void task_step(pier__op *op, unsigned events)
{
    pier_task *task = (pier_task *)op;
    if (events & PIER__CANCEL) {
        pier__scope_cancel_with(task->scope, op->cancelled);
        if (task->awaited) {
            pier__loop_cancel_on_loop(task->awaited, op->cancelled);
        }
        return;
    }
    if (events & PIER__START) {
        op->doing = "running";
        if (!begin(task)) {
            pier__op_fail(op, PIER_ENOMEM,
                          "pier_task_start: no memory for another stack; fewer tasks at once, or a "
                          "higher vm.max_map_count");
            return;
        }
    }
    if (resume(task)) {
        end(task);
    }
}

static void task_fini(pier__op *op)
{
    pier__scope_unref(((pier_task *)op)->scope);
}

static const pier__op_class task_class = {
    .name = "pier_task",
    .result = "int",
    .size = sizeof(pier_task),
    .loop_only = true,
    .joins = true,
    .step = task_step,
    .fini = task_fini,
};

static pier__op *task_op(pier_runner *runner, pier_task_fn fn, void *arg)
{
    if (!runner) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    pier_task *task = pier__op_new(&task_class, runner, &failed);
    if (!task) {
        return failed;
    }
    task->fn = fn;
    task->arg = arg;
    return &task->op;
}

/* ---- Public ------------------------------------------------------------------------------- */

pier_future *pier_task_start(pier_runner *runner, pier_task_fn fn, void *arg)
{
    return pier__op_submit(task_op(runner, fn, arg));
}

int pier_task_finish(pier_future *future, pier_error *err)
{
    return pier__op_take_int(future, "int", err);
}

int pier_task_run(pier_runner *runner, pier_task_fn fn, void *arg, pier_error *err)
{
    return pier_task_finish(pier__op_run(task_op(runner, fn, arg), err), err);
}

pier_runner *pier_task_runner(const pier_task *self)
{
    return self->op.runner;
}

/* Until which moment a sleep of 0 lasts. */
#define YIELD INT64_C(-1)

static void sleep_step(pier__op *op, unsigned events)
{
    if (events & PIER__CANCEL) {
        pier__op_fail_cancelled(op);
    } else if (events & (PIER__EXPIRED | PIER__WOKEN)) {
        pier__op_succeed_int(op, 0);
    } else if (events & PIER__START) {
        op->doing = "sleeping";
        op->wait.until = op->result.integer;
        if (op->result.integer == YIELD) {
            /* Behind all that is ready; the clock's resolution would be a millisecond. */
            op->wait.until = 0;
            pier__op_wake(op);
        }
    }
}

static const pier__op_class sleep_class = {
    .name = "pier_task_sleep",
    .result = "int",
    .size = sizeof(pier__op),
    .step = sleep_step,
};

int pier_task_sleep(pier_task *self, int64_t ms, pier_error *err)
{
    pier__op *failed = NULL;
    pier__op *op = pier__op_new(&sleep_class, self->op.runner, &failed);
    if (!op) {
        return pier__op_take_int(failed, "int", err);
    }
    op->result.integer = ms ? pier__deadline(ms, 0) : YIELD;
    return pier__op_take_int(pier__op_run(op, err), "int", err);
}
