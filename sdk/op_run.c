/*
 * pier__op_run: the one place that decides how to wait for an operation. On a plain thread it is
 * worked on here, until it is settled or the caller's time is up; then the loop adopts it. In a
 * task it is handed to the loop and the task suspends. On a loop thread outside a task it is
 * refused, in release builds too.
 */
#include "sdk/op.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/lane.h"
#include "sdk/loop.h"
#include "sdk/pool.h"
#include "sdk/runner.h"
#include "sdk/scope.h"
#include "sdk/task.h"

/* How long a thread blocks inside a library (PIER__WAIT_BLOCK) before it looks at its scope. */
enum { SLICE_MS = 10 };

/* ---- Waiting as a thread ------------------------------------------------------------------ */

/* Enters the list of threads that close wakes; done once a wait has taken a while. */
static void enter_long_wait(pier__op *op, struct pier__waiting *entry)
{
    if (op->waiting) {
        return;
    }
    op->waiting = entry;
    entry->parker = op->parker;
    entry->op = op;
    entry->since = pier__now();
    entry->tid = pier__tid();
    pier_runner *runner = op->runner;
    pthread_mutex_lock(&runner->lock);
    entry->prev = NULL;
    entry->next = runner->waiting;
    if (entry->next) {
        entry->next->prev = entry;
    }
    runner->waiting = entry;
    pthread_mutex_unlock(&runner->lock);
}

static void leave_long_wait(pier__op *op)
{
    struct pier__waiting *entry = op->waiting;
    if (!entry) {
        return;
    }
    op->waiting = NULL;
    pier_runner *runner = op->runner;
    pthread_mutex_lock(&runner->lock);
    *(entry->prev ? &entry->prev->next : &runner->waiting) = entry->next;
    if (entry->next) {
        entry->next->prev = entry->prev;
    }
    pthread_mutex_unlock(&runner->lock);
}

void pier__op_work_here(pier__op *op, void (*work)(pier__op *op))
{
    struct pier__working working = {.outer = pier__here.working, .op = op};
    pier__here.working = &working;
    work(op);
    pier__here.working = working.outer;
}

/* Lets the class block in its library for a short while. */
static void block_here(pier__op *op, int64_t until)
{
    int64_t ms = SLICE_MS;
    if (until) {
        int64_t left = (until - pier__now() + 999999) / 1000000;
        ms = left < 0 ? 0 : left < ms ? left : ms;
    }
    op->cls->block(op, (int)ms);
}

/* Waits for the descriptor. Gives events, or 0. */
static unsigned await_fd(pier__op *op, int64_t until, bool quick)
{
    /* The system counts a socket's time in ticks, of 10 ms at most. */
    const int64_t receiving = (PIER__PARK_QUICK_MS + 10) * INT64_C(1000000);
    if (quick && op->wait.receive && (!until || until - pier__now() >= receiving)) {
        return op->wait.receive(op) ? PIER__READABLE : 0;
    }
    return pier__park_poll(op->parker, op->wait.fd, op->wait.events >> 1, until, quick) << 1;
}

/* Sleeps until whatever ends the wait, or earlier. Gives events, or 0. */
static unsigned sleep_here(pier__op *op, int64_t until, bool quick)
{
    pier__blocked blocked = {.entered = false};
    unsigned events = 0;
    if (!quick) {
        pier__blocked_enter(&blocked, op);
    }
    if (op->wait.kind == PIER__WAIT_FD) {
        events = await_fd(op, until, quick);
    } else if (op->wait.kind == PIER__WAIT_BLOCK) {
        block_here(op, until);
        events = PIER__BLOCKED;
    } else {
        /* The first wait is short, so that it ends before close must know of it. */
        int64_t soon = pier__now() + PIER__PARK_QUICK_MS * INT64_C(1000000);
        pier__park(op->parker, quick ? pier__earlier(until, soon) : until);
    }
    pier__blocked_leave(&blocked);
    return events;
}

/* Waits for what op->wait says. Gives the events to step with; PIER__CANCEL with op->cancelled
 * set when it must wind up instead. */
static unsigned wait_here(pier__op *op, struct pier__waiting *entry)
{
    for (bool quick = true;; quick = false) {
        /* Looking first is cheaper where nothing has come, which is as a rule. */
        if (atomic_load(&op->mail)) {
            unsigned mail = atomic_exchange(&op->mail, 0) & PIER__MAIL_EVENTS;
            if (mail) {
                return mail;
            }
        }
        if (op->wait.kind == PIER__WAIT_WORK) {
            pier__op_work_here(op, op->wait.work);
            return PIER__WORKED;
        }
        int status = pier__op_interrupted(op);
        if (status) {
            op->cancelled = status;
            return PIER__CANCEL;
        }
        if (op->wait.until && pier__now() >= op->wait.until) {
            op->wait.until = 0;
            return PIER__EXPIRED;
        }
        if (!quick) {
            enter_long_wait(op, entry);
            if (pier__op_interrupted(op)) {
                continue;
            }
        }
        int64_t until = pier__earlier(op->wait.until, op->cls->shielded ? 0 : op->deadline);
        unsigned events = sleep_here(op, until, quick);
        if (events) {
            return events;
        }
    }
}
_Static_assert(PIER__READABLE >> 1 == PIER__PARK_READ && PIER__WRITABLE >> 1 == PIER__PARK_WRITE,
               "events of parkers are those of operations, one bit down");

/* ---- Working on it as a thread ------------------------------------------------------------ */

/* Leaves an operation that cleans up to the loop, with the caller's reference. */
static void give_to_loop(pier__op *op)
{
    if (op->scope) {
        pier__scope_ref(op->scope);
    }
    op->on_loop = true;
    op->observed = true; /* the caller is told that it was cancelled */
    op->holder = NULL;
    unsigned old = atomic_load(&op->mail);
    while (!atomic_compare_exchange_weak(
        &op->mail, &old, old | PIER__MAIL_LOOP | PIER__MAIL_QUEUED | PIER__MAIL_ADOPT)) {
    }
    /* The inbox is open as long as a thread is inside an operation. */
    pier__op_ref(op);
    if (!pier__loop_post(op->runner, &op->post)) {
        pier__op_unref(op);
    }
}

/* Starts what must run on a lane's own thread. False: settled with a failure. */
static bool post_to_lane(pier__op *op)
{
    if (op->working || op->wait.kind != PIER__WAIT_LANE) {
        return true;
    }
    if (pier__lane_is_here(op->wait.lane)) {
        pier__op_fail(op, PIER_EDEADLOCK,
                      "%s: called in a job of the lane that it needs, which would wait for itself",
                      op->cls->name);
        return false;
    }
    op->working = true;
    if (!pier__lane_post(op->wait.lane, op)) {
        op->working = false;
        pier__op_fail(op, PIER_EIO, "%s: the lane's thread could not be started", op->cls->name);
        return false;
    }
    return true;
}

/* Steps with PIER__CANCEL unless a lane is at work on it. True: settled. */
static bool cancel_here(pier__op *op)
{
    atomic_store(&op->cancel_wanted, op->cancelled);
    if (op->working) {
        if (!pier__lane_unpost(op->wait.lane, op)) {
            return false;
        }
        op->working = false;
    }
    op->cls->step(op, PIER__CANCEL);
    return pier__op_settled(op);
}

/* Steps it until it is settled (true) or has been left to the loop (false, `err` filled). */
static bool step_here(pier__op *op, pier_error *err)
{
    struct pier__waiting entry;
    unsigned events = PIER__START;
    for (;;) {
        if (events & PIER__WORKED) {
            op->working = false;
        }
        op->cls->step(op, events);
        if (pier__op_settled(op) || !post_to_lane(op)) {
            break;
        }
        events = wait_here(op, &entry);
        if (events == PIER__CANCEL) {
            if (cancel_here(op)) {
                break;
            }
            pier__op_cancelled_error(op, err ? err : &(pier_error){0});
            leave_long_wait(op);
            pier__runner_ref(op->runner); /* the operation may be gone before this thread leaves */
            give_to_loop(op);
            return false;
        }
    }
    leave_long_wait(op);
    return true;
}

static pier_future *run_here(pier__op *op, pier_error *err)
{
    op->parker = pier__parker_self();
    if (!op->parker) {
        return pier__op_refuse(op, PIER_ENOMEM, "%s: out of memory", op->cls->name);
    }
    op->holder = pier__pool_holder();
    pier__op_trace_begin(op);
    if (!op->cls->shielded && pier__here.scope) {
        op->scope = pier__here.scope;
        op->deadline = op->scope->deadline;
    }
    pier_runner *runner = op->runner;
    pier__runner_enter_kept(runner);
    bool settled = true;
    int status = pier__op_interrupted(op);
    if (status) {
        pier__op_fail_unstarted(op, status);
    } else {
        settled = step_here(op, err);
    }
    if (!settled) {
        pier__runner_leave(runner);
        return NULL;
    }
    op->scope = NULL;
    pier__runner_leave_kept(runner);
    return op;
}

/* ---- Handing it over ---------------------------------------------------------------------- */

static pier_future *submit_and_wait(pier__op *op, pier_error *err)
{
    bool joins = op->cls->joins || op->cls->shielded;
    pier_future *future = pier__op_submit(op);
    /* One that joins gives its own result or error, whatever ended the first wait. */
    int status = pier__op_await(future, 0, joins ? NULL : err);
    if (status > 0) {
        return future;
    }
    if (!future->cls->shielded) { /* what ends a handle must not be ended before it began */
        pier__op_cancel(future, status);
    }
    while (joins) {
        if (pier__op_await_shielded(future)) {
            return future;
        }
    }
    future->observed = true; /* `err` has told the caller */
    pier_future_free(future);
    return NULL;
}

/* For what only the loop can step. It may wait twice, and close must not come in between. */
static pier_future *run_on_loop(pier__op *op, pier_error *err)
{
    pier_runner *runner = op->runner;
    pier__runner_enter(runner);
    pier_future *future = submit_and_wait(op, err);
    pier__runner_leave(runner);
    return future;
}

static pier_future *refuse_on_loop(pier__op *op, pier_error *err)
{
    pier_error_set(err, PIER_EDEADLOCK,
                   "%s would block the loop thread; use %s_async here, or a task", op->cls->name,
                   op->cls->name);
    if (op->cls->shielded) {
        /* What ends a handle has taken it, so it is ended all the same. */
        pier_future_free(pier__op_submit(op));
    } else {
        pier__op_unref(op);
    }
    return NULL;
}

static pier_future *run_where_it_belongs(pier__op *op, pier_error *err)
{
    if (pier__here.task) {
        return pier__loop_is_here(op->runner) ? pier__task_run_op(op, err) : run_on_loop(op, err);
    }
    if (pier__here.loops) {
        return refuse_on_loop(op, err);
    }
    return op->cls->loop_only ? run_on_loop(op, err) : run_here(op, err);
}

pier_future *pier__op_run(pier__op *op, pier_error *err)
{
    if (pier__op_settled(op)) {
        return op;
    }
    if (err) {
        return run_where_it_belongs(op, err);
    }
    pier_error local;
    local.status = 0;
    pier_future *future = run_where_it_belongs(op, &local);
    return future ? future : pier__op_failed(local.status);
}

pier_future *pier__op_submit(pier__op *op)
{
    if (pier__op_settled(op)) {
        return op;
    }
    if (op->cls->own && !op->owns) {
        op->owns = true;
        if (!op->cls->own(op)) {
            return pier__op_refuse(op, PIER_ENOMEM, "%s: out of memory", op->cls->name);
        }
    }
    if (!op->cls->shielded && pier__here.scope) {
        if (!pier__scope_tell(pier__here.scope, op->runner)) {
            return pier__op_refuse(op, PIER_ENOMEM, "%s: out of memory", op->cls->name);
        }
        op->scope = pier__scope_ref(pier__here.scope);
        op->deadline = op->scope->deadline;
    }
    op->on_loop = true;
    pier__op_trace_begin(op);
    atomic_store(&op->mail, PIER__MAIL_LOOP | PIER__MAIL_QUEUED | PIER__START);
    pier__op_ref(op);
    if (!pier__loop_post(op->runner, &op->post)) {
        pier__op_unref(op);
        return pier__op_refuse(op, PIER_ECLOSED, "%s: the runner is closed", op->cls->name);
    }
    return op;
}

/* ---- Awaiting another operation ----------------------------------------------------------- */

/* Itself an operation, so that threads, tasks, deadlines and scopes need no second way to wait. */
struct await_op {
    pier__op op;
    pier__op *target; /* holds a reference */
    int64_t until;
    pier__listener listener; /* holds a reference to this while the target may call it */
};

static void on_target_settled(pier__listener *listener, pier__op *target)
{
    (void)target;
    struct await_op *await =
        (struct await_op *)((char *)listener - offsetof(struct await_op, listener));
    pier__op_wake(&await->op);
    pier__op_unref(&await->op);
}

/* Stops listening; a listener that is being called drops its reference itself. */
static void stop_listening(struct await_op *await)
{
    if (pier__op_unlisten(await->target, &await->listener)) {
        pier__op_unref(&await->op);
    }
}

static void await_step(pier__op *op, unsigned events)
{
    struct await_op *await = (struct await_op *)op;
    if (events & PIER__START) {
        op->doing = "waiting for a future";
        op->wait.until = await->until;
        pier__op_ref(op);
        await->listener.settled = on_target_settled;
        pier__op_listen(await->target, &await->listener);
        return;
    }
    if (pier__op_settled(await->target)) {
        stop_listening(await);
        pier__op_succeed_int(op, 1);
    } else if (events & PIER__CANCEL) {
        stop_listening(await);
        pier__op_fail_cancelled(op);
    } else if (events & PIER__EXPIRED) {
        stop_listening(await);
        pier__op_succeed_int(op, 0);
    }
}

static void await_fini(pier__op *op)
{
    pier__op_unref(((struct await_op *)op)->target);
}

static bool await_waits_for(pier__op *op, pier__walk *walk)
{
    return pier__walk_op(walk, ((struct await_op *)op)->target);
}

static const char *await_subject(const pier__op *op)
{
    return ((const struct await_op *)op)->target->cls->name;
}

static const pier__op_class await_class = {
    .name = "pier_future_wait",
    .result = "int",
    .size = sizeof(struct await_op),
    .step = await_step,
    .fini = await_fini,
    .subject = await_subject,
    .waits_for = await_waits_for,
};

/* The same outside every scope, for those who must not leave before it has ended. */
static const pier__op_class await_shielded_class = {
    .name = "pier_future_wait",
    .result = "int",
    .size = sizeof(struct await_op),
    .shielded = true,
    .step = await_step,
    .fini = await_fini,
    .subject = await_subject,
    .waits_for = await_waits_for,
};

static int await_as(const pier__op_class *cls, pier__op *target, int64_t until, pier_error *err)
{
    if (pier__op_settled(target)) {
        return 1;
    }
    if (target->needs_lane && target->needs_lane == pier__here.lane) {
        return pier_error_set(err, PIER_EDEADLOCK,
                              "%s: waited for in a job of the lane that it needs",
                              target->cls->name);
    }
    /* The runner that waits is the one this thread or task belongs to, if any. */
    pier__op *failed = NULL;
    struct await_op *await = pier__op_new(
        cls, pier__here.task ? pier_task_runner(pier__here.task) : target->runner, &failed);
    if (!await) {
        return pier__op_take_int(failed, "int", err);
    }
    await->target = pier__op_ref(target);
    await->until = until;
    return pier__op_take_int(pier__op_run(&await->op, err), "int", err);
}

int pier__op_await(pier__op *op, int64_t until, pier_error *err)
{
    return await_as(&await_class, op, until, err);
}

bool pier__op_await_shielded(pier__op *op)
{
    return await_as(&await_shielded_class, op, 0, NULL) > 0;
}
