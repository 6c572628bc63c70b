/*
 * Tasks. A task is an operation that the loop steps: its first step makes a fiber, each wake-up
 * resumes it, and it settles when the function has returned. Its function runs in a scope of the
 * task's own, so that cancelling the future cancels what the task does now and all it does later.
 *
 * Yielding (a sleep of 0) is no operation: the task puts itself at the end of what is ready.
 */
#include "sdk/task.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/enter.h"
#include "sdk/fiber.h"
#include "sdk/hooks.h"
#include "sdk/loop_internal.h"
#include "sdk/options.h"
#include "sdk/scope.h"
#include "sdk/seen.h"
#include <assert.h>
#include <string.h>

/* Bytes of a name that are kept. */
enum { PIER__TASK_NAME_MAX = 31 };

struct pier_task {
    pier__op op; /* first */
    /* Immutable. */
    pier_task_fn fn;
    void *arg;
    char name[PIER__TASK_NAME_MAX + 1]; /* "": none */
    /* Loop thread. */
    pier__fiber *fiber;
    pier_scope *scope;   /* the task's own */
    pier_scope *ambient; /* innermost, while the task is suspended */
    pier__op *awaited;   /* what it is suspended for */
    bool suspended;      /* for that */
    bool answered;       /* that has settled, or been abandoned */
    bool yielding;       /* it waits for its turn, for nothing else */
    bool ended;          /* its function has returned */
    int returned;
    pier_error *err; /* of a function that failed; NULL: no memory for it */
    pier__post turn; /* it goes on: while it yields, or is suspended and has been answered */
};

/* ---- In the fiber ------------------------------------------------------------------------- */

static void run_fiber(void *arg)
{
    pier_task *task = arg;
    pier_error err = {0};
    task->returned = task->fn(task, task->arg, &err);
    pier__scope_close_entered(task->scope); /* of scopes that it forgot */
    if (task->returned >= 0) {
        return;
    }
    if (err.status >= 0) {
        pier_error_set(&err, task->returned, "%s%s failed with %s and no message",
                       *task->name ? "the task " : "a task", task->name,
                       pier_status_name(task->returned));
    }
    err.status = task->returned;
    task->err = (pier_error *)(void *)pier__memdup(&err, sizeof err);
}

static void take_turn(pier__post *post);

/* Within a step, as a rule; then it need not go through its mail. */
static void answer(pier_task *task)
{
    if (task->answered) {
        return;
    }
    task->answered = true;
    if (!task->suspended) {
        return; /* it finds out by itself */
    }
    if (task->op.runner->depth > 0) {
        task->turn.run = take_turn;
        pier__loop_push_on_loop(task->op.runner, &task->turn);
    } else {
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
        if (!pier__scope_tell(pier__here.scope, op->runner)) {
            return pier__op_refuse(op, PIER_ENOMEM, "%s: out of memory", op->cls->name);
        }
        op->scope = pier__scope_ref(pier__here.scope);
        op->deadline = op->scope->deadline;
    }
    op->on_loop = true;
    op->apart = true;
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
    pier__deadlock_look_on_loop(op);
    task->suspended = true;
    while (!task->answered) {
        pier__fiber_suspend(task->fiber);
    }
    task->suspended = false;
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
        pier__scope_left(inner);
        pier__scope_unref(inner);
    }
    if (task->returned >= 0) {
        pier__op_succeed_int(&task->op, task->returned);
    } else if (task->err) {
        pier__op_fail_with(&task->op, task->err);
    } else {
        pier__op_fail(&task->op, task->returned, "a task failed; no memory was left to say how");
    }
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

static void fail_to_begin(pier_task *task)
{
    const pier__fiber_pool *fibers = task->op.runner->fibers;
    int count = pier__fiber_count(fibers);
    if (count >= pier__fiber_max(fibers)) {
        pier__op_fail(
            &task->op, PIER_ENOMEM,
            "pier_task_start: %d tasks are alive, as many as the runner's tasks_max; start "
            "fewer at once, in a group with a limit, or open the runner with more",
            count);
    } else {
        pier__op_fail(
            &task->op, PIER_ENOMEM,
            "pier_task_start: no memory for another stack beside %d; start fewer tasks at "
            "once, or raise vm.max_map_count, of which each takes two",
            count);
    }
}

static void task_step(pier__op *op, unsigned events)
{
    pier_task *task = (pier_task *)op;
    if (events & PIER__CANCEL) {
        pier__scope_cancel_with(task->scope, op->cancelled);
        /* Not what it waits for inside a shield, which has not been told. */
        if (task->awaited && (task->awaited->cls->shielded || !task->awaited->scope ||
                              pier__scope_cancelled(task->awaited->scope))) {
            pier__loop_cancel_on_loop(task->awaited, op->cancelled);
        }
        return;
    }
    if (events & PIER__START) {
        op->doing = "running";
        if (!begin(task)) {
            fail_to_begin(task);
            return;
        }
    }
    if (task->ended || resume(task)) {
        end(task);
    }
}

static void task_fini(pier__op *op)
{
    pier_task *task = (pier_task *)op;
    pier__scope_unref(task->scope);
    pier__free(task->err);
}

static const char *task_subject(const pier__op *op)
{
    return ((const pier_task *)op)->name;
}

static bool task_waits_for(pier__op *op, pier__walk *walk)
{
    const pier_task *task = (const pier_task *)op;
    return !task->awaited || task->answered || pier__walk_task(walk, task->awaited);
}

static const pier__op_class task_class = {
    .name = "pier_task",
    .result = "int",
    .size = sizeof(pier_task),
    .loop_only = true,
    .joins = true,
    .step = task_step,
    .fini = task_fini,
    .subject = task_subject,
    .waits_for = task_waits_for,
    .is_task = true,
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

static pier__op *task_op_with(pier_runner *runner, pier_task_fn fn, void *arg,
                              const pier_task_options *options)
{
    pier__op *op = task_op(runner, fn, arg);
    if (options->name && op->cls == &task_class) {
        size_t size = strnlen(options->name, PIER__TASK_NAME_MAX);
        memcpy(((pier_task *)op)->name, options->name, size); /* zeroed before */
    }
    return op;
}

pier_future *pier_task_start_with(pier_runner *runner, pier_task_fn fn, void *arg,
                                  const pier_task_options *options)
{
    pier_error err = {0};
    pier_task_options read = {.struct_size = 0};
    int status = pier__options_read(&read, sizeof read, options, "PIER_TASK_OPTIONS", &err);
    pier__op *op = task_op_with(runner, fn, arg, &read);
    if (status < 0) {
        return pier__op_settled(op) ? op : pier__op_refuse(op, status, "%s", err.message);
    }
    pier_scope *ambient = pier__here.scope;
    if (read.detached) {
        pier__here.scope = NULL;
    }
    pier_future *future = pier__op_submit(op);
    pier__here.scope = ambient;
    return future;
}

int pier_task_finish(pier_future *future, pier_error *err)
{
    return pier__op_take_int(future, "int", err);
}

int pier_task_run(pier_runner *runner, pier_task_fn fn, void *arg, pier_error *err)
{
    return pier_task_finish(pier__op_run(task_op(runner, fn, arg), err), err);
}

const char *pier__task_name(const pier_task *task)
{
    return task->name;
}

void *pier__task_arg(const pier_task *task, pier_task_fn fn)
{
    return task->fn == fn ? task->arg : NULL;
}

const char *pier_task_name(const pier_task *self)
{
    return pier__task_name(self);
}

pier_runner *pier_task_runner(const pier_task *self)
{
    return self->op.runner;
}

/* Would an operation be started here, and now? */
static bool may_go_on(const pier_task *task)
{
    const pier_scope *scope = pier__here.scope;
    return !pier__scope_cancelled(scope) && (!scope->deadline || pier__now() < scope->deadline) &&
           (scope->shielded ||
            !atomic_load_explicit(&task->op.runner->state, memory_order_acquire));
}

static void take_turn(pier__post *post)
{
    pier_task *task = (pier_task *)((char *)post - offsetof(pier_task, turn));
    task->yielding = false;
    pier__seen_begin(task->op.runner, "a step of", &task->op);
    task->ended = resume(task);
    pier__seen_count(&task->op.runner->seen.steps);
    pier__seen_end_quickly(task->op.runner, &task->op);
    if (task->ended) {
        pier__loop_step_on_loop(&task->op, PIER__WOKEN);
    }
}

/* Lets everything run that is ready. */
static void yield(pier_task *task)
{
    task->yielding = true;
    task->turn.run = take_turn;
    pier__loop_push_on_loop(task->op.runner, &task->turn);
    while (task->yielding) {
        pier__fiber_suspend(task->fiber);
    }
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
    /* Without an operation where nobody could tell. */
    if (ms == 0 && self == pier__here.task &&
        !atomic_load_explicit(&pier__tracing, memory_order_relaxed)) {
        yield(self);
        if (may_go_on(self)) {
            return 0;
        }
    }
    pier__op *failed = NULL;
    pier__op *op = pier__op_new(&sleep_class, self->op.runner, &failed);
    if (!op) {
        return pier__op_take_int(failed, "int", err);
    }
    op->result.integer = ms ? pier__deadline(ms, 0) : YIELD;
    return pier__op_take_int(pier__op_run(op, err), "int", err);
}
