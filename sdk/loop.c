/*
 * The loop as a stepper of operations. All but the inbox belongs to the loop thread.
 *
 * What becomes ready while libuv calls us (operations woken, callbacks, tasks to resume) is queued
 * and runs when the outermost of our callbacks ends, never inside another step. Where descriptors
 * call it runs behind the last of them, and what it wants sent is sent behind that: a server that
 * is woken by it takes the core at once, as a rule, and leaves little of what was in its caches.
 */
#include "sdk/loop_internal.h"

#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/lane.h"
#include "sdk/scope.h"
#include "sdk/seen.h"
#include "sdk/timers.h"
#include "sdk/watch.h"
#include <assert.h>

enum {
    /* How much that is ready runs before libuv may look at its descriptors again, */
    READY_MAX = 256,
    /* and before what is late need not wait any longer. */
    LATE_EVERY = 64
};

bool pier__loop_is_here(const pier_runner *runner)
{
    return pier__here.loops && pthread_equal(runner->thread, pthread_self());
}

bool pier__loop_is_any(void)
{
    return pier__here.loops > 0;
}

uv_loop_t *pier__loop_uv_on_loop(pier_runner *runner)
{
    assert(pier__loop_is_here(runner));
    return runner->uv;
}

/* ---- The inbox ---------------------------------------------------------------------------- */

bool pier__loop_post(pier_runner *runner, pier__post *post)
{
    if (pier__runner_forked(runner)) {
        return false;
    }
    if (pier__loop_is_here(runner) && runner->depth > 0) {
        pier__loop_push_on_loop(runner, post);
        return true;
    }
    pthread_mutex_lock(&runner->lock);
    bool open = runner->inbox_open;
    if (open) {
        bool was_empty = !runner->inbox;
        post->next = NULL;
        *runner->inbox_tail = post;
        runner->inbox_tail = &post->next;
        if (was_empty) {
            runner->inbox_since = pier__now();
            /* Under the lock, because close shuts the inbox under it before the handle. */
            uv_async_send(&runner->async);
        }
    }
    pthread_mutex_unlock(&runner->lock);
    return open;
}

void pier__loop_scopes_changed(pier_runner *runner)
{
    if (pier__runner_forked(runner)) {
        return; /* the loop, and what wakes it, are the parent's */
    }
    atomic_fetch_add(&runner->senders, 1);
    if (atomic_load(&runner->async_open)) {
        atomic_store(&runner->scopes_changed, true);
        uv_async_send(&runner->async);
    }
    atomic_fetch_sub(&runner->senders, 1);
}

static void take_inbox(pier_runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    if (runner->inbox) {
        pier__seen_lag(runner, runner->inbox_since);
        *runner->ready_tail = runner->inbox;
        runner->ready_tail = runner->inbox_tail;
        runner->inbox = NULL;
        runner->inbox_tail = &runner->inbox;
    }
    pthread_mutex_unlock(&runner->lock);
}

/* ---- Running what is ready ---------------------------------------------------------------- */

static void on_idle(uv_idle_t *idle)
{
    pier_runner *runner = idle->data;
    pier__loop_enter_on_loop(runner);
    pier__loop_leave_on_loop(runner);
}

static void run_late(pier_runner *runner)
{
    for (pier__post *post; (post = runner->late);) {
        runner->late = post->next;
        if (!runner->late) {
            runner->late_tail = &runner->late;
        }
        post->run(post);
    }
}

static void run_ready(pier_runner *runner)
{
    for (int i = 1; runner->ready && i <= READY_MAX; i++) {
        pier__post *post = runner->ready;
        runner->ready = post->next;
        if (!runner->ready) {
            runner->ready_tail = &runner->ready;
        }
        post->run(post);
        if (i % LATE_EVERY == 0) {
            run_late(runner);
        }
    }
    run_late(runner);
}

/* On a user's loop, what comes between the descriptors of a round may be the program's own. */
static bool stays_awake(const pier_runner *runner)
{
    return runner->deferred && runner->owns_loop;
}

void pier__loop_enter_on_loop(pier_runner *runner)
{
    assert(pier__loop_is_here(runner));
    if (runner->depth++ == 0 && !stays_awake(runner)) {
        pier__seen_wake(runner);
    }
}

void pier__loop_leave_on_loop(pier_runner *runner)
{
    if (runner->depth == 1) {
        run_ready(runner);
        if (runner->handles) {
            if (runner->ready) {
                uv_idle_start(&runner->idle, on_idle);
            } else {
                uv_idle_stop(&runner->idle);
            }
            pier__loop_set_timer(runner);
        }
        if (!stays_awake(runner)) {
            pier__seen_sleep(runner);
        }
    }
    runner->depth--;
}

void pier__loop_leave_later_on_loop(pier_runner *runner)
{
    bool bulky = runner->bulky;
    runner->bulky = false;
    if (runner->depth > 1 || !runner->handles || bulky) {
        pier__loop_leave_on_loop(runner);
        return;
    }
    runner->deferred = true;
    if (!stays_awake(runner)) {
        pier__seen_sleep(runner);
    }
    runner->depth--;
}

void pier__loop_take_bulk_on_loop(pier_runner *runner)
{
    runner->bulky = true;
}

/* Comes behind the descriptors, in each round. */
void pier__loop_on_check(uv_check_t *check)
{
    pier_runner *runner = check->data;
    if (runner->deferred) {
        pier__loop_enter_on_loop(runner);
        runner->deferred = false;
        pier__loop_leave_on_loop(runner);
    }
}

/* ---- Stepping ----------------------------------------------------------------------------- */

static void link_op(pier__op *op)
{
    op->linked = true;
    pier__seen_started(op);
}

static void unlink_op(pier__op *op)
{
    op->linked = false;
    pier__seen_ended(op);
}

/* Ends the watching of the last step. A watch of one wait is closed before anything else happens,
 * because a socket that is being connected may be another one after the step. */
static void rest(pier__op *op)
{
    if (op->own_watch) {
        pier__watch_close_on_loop(&op->own_watch);
    } else if (op->watching) {
        pier__watch_rest_on_loop(op->watching);
    }
    op->watching = NULL;
}

static void finish(pier__op *op)
{
    rest(op);
    pier__timer_set(&op->runner->timers, &op->timer, 0);
    unlink_op(op);
    pier__runner_op_ended(op->runner);
    pier__op_unref(op);
}

static bool arm_watch(pier__op *op)
{
    pier__watch **slot = op->wait.watch ? op->wait.watch : &op->own_watch;
    if (!*slot) {
        *slot = pier__watch_open_on_loop(op->runner, op->wait.fd);
    }
    op->watching = *slot;
    return *slot && pier__watch_arm_on_loop(*slot, op, op->wait.events);
}

static bool arm_work(pier__op *op)
{
    if (op->working) {
        return true;
    }
    if (op->cls->own && !op->owns) {
        op->owns = true;
        if (!op->cls->own(op)) {
            return false;
        }
    }
    op->working = true;
    if (!pier__lane_post(op->wait.lane, op)) {
        op->working = false;
        return false;
    }
    return true;
}

static bool arm(pier__op *op)
{
    switch (op->wait.kind) {
    case PIER__WAIT_FD:
        return arm_watch(op);
    case PIER__WAIT_WORK:
    case PIER__WAIT_LANE:
        return op->wait.lane && arm_work(op);
    case PIER__WAIT_BLOCK:
        return false;
    case PIER__WAIT_WAKE:
    default:
        return true;
    }
}

/* One step and what follows from it. The caller holds a reference. */
static void step(pier__op *op, unsigned events)
{
    if (op->wait.kind != PIER__WAIT_WAKE) {
        rest(op);
    }
    pier__seen_begin(op->runner, "a step of", op);
    op->cls->step(op, events);
    pier__seen_count(&op->runner->seen.steps);
    pier__seen_end_quickly(op->runner, op);
    if (!pier__op_settled(op) && !arm(op)) {
        /* Nothing was started, so it can end where it stands. */
        op->cancelled = PIER_ENOMEM;
        op->wait.kind = PIER__WAIT_WAKE;
        op->cls->step(op, PIER__CANCEL);
    }
    if (pier__op_settled(op)) {
        finish(op);
        return;
    }
    int64_t deadline = op->cancelled || op->cls->shielded ? 0 : op->deadline;
    pier__timer_set(&op->runner->timers, &op->timer, pier__earlier(op->wait.until, deadline));
    if (op->cls->waits_for && op->holder && !(events & PIER__START)) {
        pier__deadlock_look_on_loop(op); /* a task waits in it, for something else than before */
    }
}

void pier__loop_cancel_on_loop(pier__op *op, int status)
{
    if (op->cancelled || pier__op_settled(op) || !op->linked) {
        return;
    }
    pier__op_ref(op);
    op->cancelled = status;
    atomic_store(&op->cancel_wanted, status);
    bool at_work = op->working && !pier__lane_unpost(op->wait.lane, op);
    if (at_work) {
        pier__timer_set(&op->runner->timers, &op->timer, op->wait.until);
    } else {
        op->working = false;
        step(op, PIER__CANCEL);
    }
    if (!pier__op_settled(op) && op->abandon) {
        op->abandon(op);
    }
    pier__op_unref(op);
}

/* Cancels it if it has been asked for, or its scope has been cancelled. */
static void look_at_cancel(pier__op *op)
{
    if (!op->cancelled) {
        int status = pier__op_interrupted(op);
        if (status) {
            pier__loop_cancel_on_loop(op, status);
        }
    }
}

static void on_mail(pier__post *post)
{
    pier__op *op = (pier__op *)((char *)post - offsetof(pier__op, post));
    unsigned mail = atomic_fetch_and(&op->mail, PIER__MAIL_LOOP);
    unsigned events = mail & 0xFF;
    if (!pier__op_settled(op)) {
        if (!op->linked) {
            link_op(op);
            if (events & PIER__START) {
                pier__op_ref(op); /* the loop's own; an adopted one brings the caller's */
            }
        }
        if (events & PIER__WORKED) {
            op->working = false;
        }
        int status = events & PIER__START ? pier__op_interrupted(op) : 0;
        if (status) {
            pier__op_fail_unstarted(op, status);
            finish(op);
        } else if (mail & PIER__MAIL_ADOPT && !events) {
            pier__loop_adopt(op);
        } else if (events) {
            step(op, events);
        }
        if (!pier__op_settled(op)) {
            look_at_cancel(op);
        }
    }
    pier__op_unref(op);
}

/* Arms what an operation waits for that a thread has left here. */
void pier__loop_adopt(pier__op *op)
{
    if (!arm(op)) {
        op->cls->step(op, PIER__EXPIRED); /* no memory to wait with: its bound is over */
    }
    if (pier__op_settled(op)) {
        finish(op);
    } else {
        pier__timer_set(&op->runner->timers, &op->timer, op->wait.until);
    }
}

void pier__loop_step_on_loop(pier__op *op, unsigned events)
{
    if (!pier__op_settled(op)) {
        pier__op_ref(op);
        step(op, events);
        pier__op_unref(op);
    }
}

void pier__loop_start_on_loop(pier__op *op)
{
    link_op(op);
    pier__op_ref(op);
    int status = pier__op_interrupted(op);
    if (status) {
        pier__op_fail_unstarted(op, status);
        finish(op);
    } else {
        pier__loop_step_on_loop(op, PIER__START);
    }
}

void pier__op_init_post(pier__op *op)
{
    op->post.run = on_mail;
}

/* ---- libuv's callbacks -------------------------------------------------------------------- */

void pier__loop_look_at_all(pier_runner *runner)
{
    /* By mail, because cancelling one may end others in the list. */
    for (pier__op *op = runner->ops; op; op = op->next) {
        if (!op->cancelled && pier__op_interrupted(op)) {
            pier__op_mail(op, PIER__MAIL_ASKED);
        }
    }
}

void pier__loop_on_async(uv_async_t *async)
{
    pier_runner *runner = async->data;
    pier__loop_enter_on_loop(runner);
    take_inbox(runner);
    if (atomic_exchange(&runner->scopes_changed, false)) {
        pier__loop_look_at_all(runner);
    }
    pier__loop_leave_on_loop(runner);
}

void pier__loop_on_timer(uv_timer_t *timer)
{
    pier_runner *runner = timer->data;
    runner->timer_set = 0;
    pier__loop_enter_on_loop(runner);
    int64_t now = pier__now();
    if (runner->timers && runner->timers->when <= now) {
        pier__seen_lag(runner, runner->timers->when);
    }
    while (runner->timers && runner->timers->when <= now) {
        pier__op *op = pier__timer_op(runner->timers);
        pier__timer_set(&runner->timers, &op->timer, 0);
        if (!op->cancelled && !op->cls->shielded && op->deadline && op->deadline <= now) {
            pier__loop_cancel_on_loop(op, PIER_ETIMEDOUT);
        } else {
            op->wait.until = 0;
            pier__loop_step_on_loop(op, PIER__EXPIRED);
        }
    }
    pier__loop_leave_on_loop(runner);
}

void pier__loop_set_timer(pier_runner *runner)
{
    int64_t when = runner->timers ? runner->timers->when : 0;
    if (when == runner->timer_set) {
        return;
    }
    runner->timer_set = when;
    if (!when) {
        uv_timer_stop(&runner->timer);
        return;
    }
    /* libuv's clock is in milliseconds and may be behind: rounding up, and looking at the real
     * clock when it fires, makes that harmless. */
    uint64_t at = (uint64_t)(when + 999999) / 1000000;
    uint64_t now = uv_now(runner->uv);
    uv_timer_start(&runner->timer, pier__loop_on_timer, at > now ? at - now : 0, 0);
}
