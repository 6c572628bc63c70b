/*
 * Groups. Each member has a listener on its future; what settles moves from the pending list to the
 * ready list and wakes whoever is in pier_group_next. The group is kept alive by its members.
 *
 * In a group with a limit, tasks that may not run yet are in a queue, and whoever starts one that
 * does not fit there waits (pier_group_start). `pump` moves them on: each time a task has ended,
 * and when the group is cancelled, then all of them, whose tasks find their scope cancelled and end
 * without having begun.
 */
#include <pier/group.h>

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/dump.h"
#include "sdk/op.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sdk/scope.h"

struct member {
    struct member *prev, *next;
    pier__listener listener;
    pier_group *group;
    pier_future *future; /* guarded by the group's lock until it is listened to; NULL: queued */
    void *tag;
    pier_task_fn fn; /* of a task; counts against the limit */
};

struct start_op;

/* How many tasks wait to run before starting another one waits. */
enum { QUEUE_MAX = 1000 };

struct pier_group {
    /* Immutable after open. */
    pier_runner *runner;
    bool collect;
    int limit;     /* 0: none */
    int queue_max; /* with a limit */
    int64_t deadline;
    pier_group *older, *newer; /* of the runner; guarded by its lock */
    bool listed;               /* there */
    pier_scope *scope;         /* of the tasks that are started in it */
    pier_future *timer; /* ends it at its deadline, whoever waits or not; NULL: no deadline */

    atomic_int refs; /* the user's, and one for each pending member */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    struct member *pending;
    struct member *ready, **ready_tail;
    struct member *queue, **queue_tail; /* tasks that may not run yet */
    int running, queued;
    bool pumping; /* somebody is in `pump`, and will see what has changed */
    struct start_op *starters, **starters_tail; /* wait for room in the queue */
    pier__op *waiting;                          /* in pier_group_next; holds a reference */
    bool cancelled;                             /* members that come are cancelled at once */
    bool closed;                                /* nobody will take what becomes ready */
    pier_error err;                             /* the first failure */
};

static void list_group(pier_group *group)
{
    pier_runner *runner = group->runner;
    pthread_mutex_lock(&runner->lock);
    group->listed = true;
    group->older = runner->groups;
    if (group->older) {
        group->older->newer = group;
    }
    runner->groups = group;
    pthread_mutex_unlock(&runner->lock);
}

static void unlist_group(pier_group *group)
{
    pier_runner *runner = group->runner;
    if (!group->listed || pier__runner_forked(runner)) {
        return; /* in a child a thread of the parent's may have had the lock */
    }
    pthread_mutex_lock(&runner->lock);
    *(group->newer ? &group->newer->older : &runner->groups) = group->older;
    if (group->older) {
        group->older->newer = group->newer;
    }
    pthread_mutex_unlock(&runner->lock);
}

static void unref_group(pier_group *group)
{
    if (atomic_fetch_sub(&group->refs, 1) == 1) {
        unlist_group(group);
        pier_future_free(group->timer);
        pier__runner_unref(group->runner);
        pier__scope_unref(group->scope);
        pthread_mutex_destroy(&group->lock);
        pier__free(group);
    }
}

/* ---- The queue ---------------------------------------------------------------------------- */

/* pier_group_start, where there is no room. */
struct start_op {
    pier__op op;
    struct start_op *next;
    pier_group *group;     /* holds a reference */
    struct member *member; /* NULL: it is in the queue */
    bool listed;
};

/* Under the lock. */
static void enqueue(pier_group *group, struct member *member)
{
    member->next = NULL;
    *group->queue_tail = member;
    group->queue_tail = &member->next;
    group->queued++;
}

/* Under the lock. */
static bool has_room(const pier_group *group)
{
    return group->cancelled || group->running + group->queued < group->limit + group->queue_max;
}

/* Under the lock: takes in whoever waits for room, first come first served. */
static void admit(pier_group *group)
{
    while (group->starters && has_room(group)) {
        struct start_op *start = group->starters;
        group->starters = start->next;
        if (!group->starters) {
            group->starters_tail = &group->starters;
        }
        start->listed = false;
        enqueue(group, start->member);
        start->member = NULL;
        pier__op_wake(&start->op);
    }
}

/* Under the lock. */
static void link_pending(pier_group *group, struct member *member)
{
    member->prev = NULL;
    member->next = group->pending;
    if (member->next) {
        member->next->prev = member;
    }
    group->pending = member;
}

/* Watches the member's future. It is pending. */
static void watch(struct member *member, pier_future *future)
{
    pier_group *group = member->group;
    pthread_mutex_lock(&group->lock);
    member->future = future;
    bool cancelled = group->cancelled;
    pthread_mutex_unlock(&group->lock);
    if (cancelled) {
        pier_future_cancel(future);
    }
    pier__op_listen(future, &member->listener);
}

static void run_member(struct member *member)
{
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = member->group->scope;
    pier_future *future = pier_task_start(member->group->runner, member->fn, member->tag);
    pier__here.scope = ambient;
    watch(member, future);
}

/* Starts what may run. The caller holds a reference to the group. Not by recursion: where a task
 * fails at once, on_settled comes here, sees that it is being done, and leaves. */
static void pump(pier_group *group)
{
    pthread_mutex_lock(&group->lock);
    if (!group->pumping) {
        group->pumping = true;
        admit(group);
        for (; group->queue && (group->cancelled || group->running < group->limit); admit(group)) {
            struct member *member = group->queue;
            group->queue = member->next;
            if (!group->queue) {
                group->queue_tail = &group->queue;
            }
            group->queued--;
            group->running++;
            link_pending(group, member);
            pthread_mutex_unlock(&group->lock);
            run_member(member);
            pthread_mutex_lock(&group->lock);
        }
        group->pumping = false;
    }
    pthread_mutex_unlock(&group->lock);
}

/* Under the lock. Cancelling only asks, so nothing settles in here; `pump` must follow. */
static void cancel_all(pier_group *group)
{
    group->cancelled = true;
    pier__scope_cancel_with(group->scope, PIER_ECANCELLED);
    for (struct member *member = group->pending; member; member = member->next) {
        pier_future_cancel(member->future);
    }
    admit(group);
}

/* Under the lock: is anything left that will become ready? */
static bool is_busy(const pier_group *group)
{
    return group->pending || group->queue || group->starters;
}

static void fail(pier_group *group, const pier_error *err)
{
    if (group->err.status == 0) {
        group->err = *err;
    }
}

static void note_failure(pier_group *group, pier__op *op)
{
    if (op->runner) {
        op->observed = true;
    }
    pier_error err = {0};
    if (op->err) {
        err = *op->err;
    } else {
        pier_error_set(&err, op->status, "%s failed with %s", op->cls->name,
                       pier_status_name(op->status));
    }
    fail(group, &err);
}

/* Under the lock. */
static void expire(pier_group *group)
{
    pier_error err;
    pier_error_set(&err, PIER_ETIMEDOUT, "the group's time is over; the rest was cancelled");
    fail(group, &err);
    cancel_all(group);
}

/* Under the lock. Its tasks have the group's deadline in their scope: where they end by it before
 * whoever waits has seen that the time is over, it is over all the same. */
static bool ended_by_deadline(const pier_group *group, const pier__op *op)
{
    return op->status == PIER_ETIMEDOUT && !group->cancelled && group->deadline &&
           pier__now() >= group->deadline;
}

/* ---- The deadline ------------------------------------------------------------------------- */

static void time_out(pier_group *group)
{
    pthread_mutex_lock(&group->lock);
    if (is_busy(group)) {
        expire(group);
    }
    pthread_mutex_unlock(&group->lock);
    pump(group);
}

struct timer_op {
    pier__op op;
    pier_group *group; /* holds a reference until it ends */
};

static void release_timer(pier__op *op, const pier_error *err)
{
    (void)err;
    struct timer_op *timer = (struct timer_op *)op;
    pier_group *group = timer->group;
    timer->group = NULL;
    unref_group(group);
}

static void timer_step(pier__op *op, unsigned events)
{
    pier_group *group = ((struct timer_op *)op)->group;
    if (events & PIER__START) {
        op->doing = "waiting for the end of a group's time";
        op->wait.until = group->deadline;
        return;
    }
    if (events & PIER__EXPIRED) {
        time_out(group);
    }
    pier__op_succeed_int(op, 0);
    release_timer(op, NULL);
}

static const pier__op_class timer_class = {
    .name = "pier_group_open",
    .result = "int",
    .size = sizeof(struct timer_op),
    .loop_only = true,
    .step = timer_step,
    .unstarted = release_timer,
};

/* Outside of all scopes: it must go on when those end. False: no memory, or the runner closes. */
static bool start_timer(pier_group *group)
{
    pier__op *failed = NULL;
    struct timer_op *timer = pier__op_new(&timer_class, group->runner, &failed);
    if (!timer) {
        return false;
    }
    timer->group = group;
    atomic_fetch_add(&group->refs, 1);
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = NULL;
    group->timer = pier__op_submit(&timer->op);
    pier__here.scope = ambient;
    return true;
}

/* ---- Opening, and members ----------------------------------------------------------------- */

static int read_options(pier_group_options *read, const pier_group_options *given, pier_error *err)
{
    if (pier__options_read(read, sizeof *read, given, "PIER_GROUP_OPTIONS", err) < 0) {
        return PIER_EINVAL;
    }
    if (read->limit < 0 || read->queue_max < PIER_NONE) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_group_open: limit and queue_max must not be negative");
    }
    return 0;
}

pier_group *pier_group_open(pier_runner *runner, const pier_group_options *options, pier_error *err)
{
    pier_group_options read = {.struct_size = 0};
    if (pier__runner_check(runner, "pier_group_open: the runner", err) < 0 ||
        read_options(&read, options, err) < 0) {
        return NULL;
    }
    int64_t deadline = read.timeout_ms ? pier__deadline(read.timeout_ms, 0) : 0;
    pier_group *group = pier__calloc(1, sizeof *group);
    pier_scope *scope = group ? pier__scope_new(runner, pier__here.scope, deadline) : NULL;
    if (!scope) {
        pier__free(group);
        pier_error_set(err, PIER_ENOMEM, "pier_group_open: out of memory");
        return NULL;
    }
    group->runner = runner;
    pier__runner_ref(runner); /* a group may be closed after its runner */
    group->collect = read.collect;
    group->limit = read.limit;
    group->queue_max = read.queue_max == PIER_NONE ? 0
                       : read.queue_max            ? read.queue_max
                                                   : QUEUE_MAX;
    group->deadline = deadline;
    group->scope = scope;
    atomic_init(&group->refs, 1);
    group->ready_tail = &group->ready;
    group->queue_tail = &group->queue;
    group->starters_tail = &group->starters;
    pthread_mutex_init(&group->lock, NULL);
    if (deadline && !start_timer(group)) {
        unref_group(group);
        pier_error_set(err, PIER_ENOMEM, "pier_group_open: out of memory");
        return NULL;
    }
    list_group(group);
    return group;
}

static void on_settled(pier__listener *listener, pier__op *op)
{
    struct member *member = (struct member *)((char *)listener - offsetof(struct member, listener));
    pier_group *group = member->group;
    pthread_mutex_lock(&group->lock);
    *(member->prev ? &member->prev->next : &group->pending) = member->next;
    if (member->next) {
        member->next->prev = member->prev;
    }
    group->running -= member->fn != NULL;
    bool keep = !group->closed && (group->collect || op->status >= 0);
    if (keep) {
        member->next = NULL;
        *group->ready_tail = member;
        group->ready_tail = &member->next;
    }
    if (ended_by_deadline(group, op)) {
        expire(group);
    }
    if (op->status < 0 && !group->collect) {
        note_failure(group, op);
        if (!group->cancelled) {
            cancel_all(group);
        }
    }
    pier__op *waiting = group->waiting ? pier__op_ref(group->waiting) : NULL;
    pthread_mutex_unlock(&group->lock);
    if (waiting) {
        pier__op_wake(waiting);
        pier__op_unref(waiting);
    }
    if (!keep) {
        pier_future_free(op);
        pier__free(member);
    }
    if (group->limit) {
        pump(group);
    }
    unref_group(group);
}

static struct member *new_member(pier_group *group, pier_task_fn fn, void *tag)
{
    struct member *member = pier__calloc(1, sizeof *member);
    if (member) {
        member->group = group;
        member->tag = tag;
        member->fn = fn;
        member->listener.settled = on_settled;
        atomic_fetch_add(&group->refs, 1);
    }
    return member;
}

static void free_member(struct member *member)
{
    if (member) {
        unref_group(member->group);
        pier__free(member);
    }
}

/* Notes a failure of adding, which close reports too. */
static int refuse(pier_group *group, const pier_error *err)
{
    pthread_mutex_lock(&group->lock);
    fail(group, err);
    pthread_mutex_unlock(&group->lock);
    return err->status;
}

static int refuse_nomem(pier_group *group, const char *name)
{
    pier_error err;
    pier_error_set(&err, PIER_ENOMEM, "%s: out of memory", name);
    return refuse(group, &err);
}

int pier_group_add(pier_group *group, pier_future *future, void *tag)
{
    if (group && pier__runner_forked(group->runner)) {
        pier_future_free(future);
        return PIER_EFORKED;
    }
    struct member *member = group ? new_member(group, NULL, tag) : NULL;
    if (!member) {
        pier_future_cancel(future);
        pier_future_free(future);
        return group ? refuse_nomem(group, "pier_group_add") : PIER_EINVAL;
    }
    future = future ? future : pier__op_null();
    pthread_mutex_lock(&group->lock);
    link_pending(group, member);
    /* The timer has told only those that were there. */
    if (group->deadline && !group->cancelled && !pier__op_settled(future) &&
        pier__now() >= group->deadline) {
        expire(group);
    }
    pthread_mutex_unlock(&group->lock);
    watch(member, future);
    return 0;
}

/* May one of the members end? */
static bool any_goes_on(pier_group *group, pier__walk *walk)
{
    if (pthread_mutex_trylock(&group->lock)) {
        return true; /* somebody is at work on it */
    }
    bool goes_on = group->ready || !group->pending;
    for (struct member *member = group->pending; member && !goes_on; member = member->next) {
        goes_on = !member->future || pier__walk_op(walk, member->future);
    }
    pthread_mutex_unlock(&group->lock);
    return goes_on;
}

/* Is the caller a member of the group, or started by one? */
static bool is_inside(const pier_group *group)
{
    const pier_scope *scope = pier__here.scope;
    while (scope && scope != group->scope) {
        scope = scope->parent;
    }
    return scope != NULL;
}

/* Under the lock: takes a task in, where there is room. */
static bool take_in(pier_group *group, struct member *member)
{
    bool room = group->cancelled || (!group->starters && has_room(group));
    if (room) {
        enqueue(group, member);
    }
    return room;
}

/* Under the lock. */
static void unlist(struct start_op *start)
{
    pier_group *group = start->group;
    struct start_op **at = &group->starters;
    while (*at != start) {
        at = &(*at)->next;
    }
    *at = start->next;
    if (!start->next) {
        group->starters_tail = at;
    }
    start->listed = false;
}

static void start_step(pier__op *op, unsigned events)
{
    struct start_op *start = (struct start_op *)op;
    pier_group *group = start->group;
    pthread_mutex_lock(&group->lock);
    if (events & PIER__START) {
        op->doing = "waiting for room in a group";
        if (take_in(group, start->member)) {
            start->member = NULL;
        } else {
            *group->starters_tail = start;
            group->starters_tail = &start->next;
            start->listed = true;
        }
    } else if (events & PIER__CANCEL && start->listed) {
        unlist(start);
    }
    bool taken = !start->member, listed = start->listed;
    pthread_mutex_unlock(&group->lock);
    if (taken) {
        pump(group);
        pier__op_succeed_int(op, 0);
    } else if (!listed) {
        pier__op_fail_cancelled(op);
    }
}

static void start_fini(pier__op *op)
{
    struct start_op *start = (struct start_op *)op;
    free_member(start->member);
    unref_group(start->group);
}

/* Any of the members may make room. */
static bool start_waits_for(pier__op *op, pier__walk *walk)
{
    return any_goes_on(((struct start_op *)op)->group, walk);
}

static const pier__op_class start_class = {
    .name = "pier_group_start",
    .result = "int",
    .size = sizeof(struct start_op),
    .step = start_step,
    .fini = start_fini,
    .waits_for = start_waits_for,
};

/* Takes the member. */
static int wait_for_room(pier_group *group, struct member *member)
{
    pier_error err = {0};
    pier__op *failed = NULL;
    struct start_op *start = NULL;
    if (is_inside(group)) {
        pier_error_set(
            &err, PIER_EDEADLOCK,
            "pier_group_start: the group's queue of %d is full, and a member cannot wait "
            "for room that only members make; open it with a larger queue_max",
            group->queue_max);
    } else {
        start = pier__op_new(&start_class, group->runner, &failed);
    }
    if (!start) {
        free_member(member);
        if (failed) {
            pier__op_take_int(failed, "int", &err);
        }
        return refuse(group, &err);
    }
    start->group = group;
    atomic_fetch_add(&group->refs, 1);
    start->member = member;
    int status = pier__op_take_int(pier__op_run(&start->op, &err), "int", &err);
    return status < 0 ? refuse(group, &err) : 0;
}

int pier_group_start(pier_group *group, pier_task_fn fn, void *arg)
{
    if (!group) {
        return PIER_EINVAL;
    }
    if (pier__runner_forked(group->runner)) {
        return PIER_EFORKED;
    }
    struct member *member = new_member(group, fn, arg);
    if (!member) {
        return refuse_nomem(group, "pier_group_start");
    }
    pthread_mutex_lock(&group->lock);
    bool runs = !group->limit;
    if (runs) {
        group->running++;
        link_pending(group, member);
    }
    bool queued = !runs && take_in(group, member);
    pthread_mutex_unlock(&group->lock);
    if (runs) {
        run_member(member);
    } else if (queued) {
        pump(group);
    } else {
        return wait_for_room(group, member);
    }
    return 0;
}

/* ---- Waiting for the next ----------------------------------------------------------------- */

struct next_op {
    pier__op op;
    pier_group *group;
};

/* 1: something is ready; 0: nothing is left; -1: wait. */
static int look(pier_group *group, pier__op *op)
{
    pthread_mutex_lock(&group->lock);
    int found = group->ready ? 1 : is_busy(group) ? -1 : 0;
    group->waiting = found < 0 ? op : NULL;
    pthread_mutex_unlock(&group->lock);
    return found;
}

static void stop_waiting(pier_group *group)
{
    pthread_mutex_lock(&group->lock);
    group->waiting = NULL;
    pthread_mutex_unlock(&group->lock);
}

static void next_step(pier__op *op, unsigned events)
{
    pier_group *group = ((struct next_op *)op)->group;
    if (events & PIER__START) {
        op->doing = "waiting for the members of a group";
        pthread_mutex_lock(&group->lock);
        op->wait.until = group->cancelled ? 0 : group->deadline;
        pthread_mutex_unlock(&group->lock);
    }
    if (events & PIER__EXPIRED) {
        time_out(group);
    }
    int found = look(group, op);
    if (found >= 0) {
        pier__op_succeed_int(op, found);
    } else if (events & PIER__CANCEL) {
        stop_waiting(group);
        pier__op_fail_cancelled(op);
    }
}

/* Any of the members may end the wait. */
static bool next_waits_for(pier__op *op, pier__walk *walk)
{
    return any_goes_on(((struct next_op *)op)->group, walk);
}

static const pier__op_class next_class = {
    .name = "pier_group_next",
    .result = "int",
    .size = sizeof(struct next_op),
    .step = next_step,
    .waits_for = next_waits_for,
};

/* For close, once the rest has been cancelled. */
static const pier__op_class settle_class = {
    .name = "pier_group_close",
    .result = "int",
    .size = sizeof(struct next_op),
    .shielded = true,
    .step = next_step,
    .waits_for = next_waits_for,
};

static int wait_for_next(const pier__op_class *cls, pier_group *group, pier_error *err)
{
    pier__op *failed = NULL;
    struct next_op *next = pier__op_new(cls, group->runner, &failed);
    if (!next) {
        return pier__op_take_int(failed, "int", err);
    }
    next->group = group;
    return pier__op_take_int(pier__op_run(&next->op, err), "int", err);
}

static struct member *pop_ready(pier_group *group)
{
    pthread_mutex_lock(&group->lock);
    struct member *member = group->ready;
    if (member) {
        group->ready = member->next;
        if (!group->ready) {
            group->ready_tail = &group->ready;
        }
    }
    pthread_mutex_unlock(&group->lock);
    return member;
}

pier_future *pier_group_next(pier_group *group, void **tag)
{
    if (!group || pier__runner_forked(group->runner)) {
        return NULL;
    }
    struct member *member = pop_ready(group);
    if (!member) {
        pier_error err = {0};
        int found = wait_for_next(&next_class, group, &err);
        if (found < 0) {
            pthread_mutex_lock(&group->lock);
            fail(group, &err);
            pthread_mutex_unlock(&group->lock);
        }
        member = found > 0 ? pop_ready(group) : NULL;
        if (!member) {
            return NULL;
        }
    }
    pier_future *future = member->future;
    if (tag) {
        *tag = member->tag;
    }
    pier__free(member);
    return future;
}

static void free_ready(pier_group *group)
{
    for (struct member *member; (member = pop_ready(group));) {
        pier_future_free(member->future);
        pier__free(member);
    }
}

int pier_group_close(pier_group *group, pier_error *err)
{
    if (!group) {
        return pier__error_null(err, "pier_group_close: the group");
    }
    if (pier__runner_forked(group->runner)) {
        /* A thread of the parent's may have held its lock: it is left alone, with its members. */
        return pier__runner_check(group->runner, "", err);
    }
    /* It waits more than once, and close must not come in between. */
    pier_runner *runner = group->runner;
    pier__runner_enter(runner);
    const pier__op_class *cls = &next_class;
    for (int found = 1; found;) {
        free_ready(group);
        pier_error failure = {0};
        found = is_inside(group)
                    ? pier_error_set(&failure, PIER_EDEADLOCK,
                                     "pier_group_close: called by a member of the group, which "
                                     "would wait for itself; all members are cancelled")
                    : wait_for_next(cls, group, &failure);
        if (found < 0) {
            pthread_mutex_lock(&group->lock);
            fail(group, &failure);
            cancel_all(group);
            pthread_mutex_unlock(&group->lock);
            pump(group);
            if (found == PIER_EDEADLOCK || (found == PIER_ECLOSED && cls == &settle_class)) {
                break; /* on the loop thread, or it has ended: the members end without us */
            }
            cls = &settle_class;
        }
    }
    pthread_mutex_lock(&group->lock);
    group->closed = true;
    int status = group->err.status;
    if (status && err) {
        *err = group->err;
    }
    pthread_mutex_unlock(&group->lock);
    free_ready(group);
    pier_future_cancel(group->timer);
    unref_group(group);
    pier__runner_leave(runner);
    return status;
}

/* ---- In a dump ---------------------------------------------------------------------------- */

/* The next of a runner's groups after one that the caller has a reference to (NULL: the first),
 * with a reference. Not those whose last reference has gone. */
static pier_group *next_group(pier_runner *runner, const pier_group *group)
{
    pthread_mutex_lock(&runner->lock);
    pier_group *next = group ? group->older : runner->groups;
    for (; next; next = next->older) {
        int refs = atomic_load(&next->refs);
        while (refs && !atomic_compare_exchange_weak(&next->refs, &refs, refs + 1)) {
        }
        if (refs) {
            break;
        }
    }
    pthread_mutex_unlock(&runner->lock);
    return next;
}

static int count_members(const struct member *member)
{
    int count = 0;
    for (; member; member = member->next) {
        count++;
    }
    return count;
}

static void describe(pier_group *group, pier__dump *dump)
{
    int starters = 0;
    pthread_mutex_lock(&group->lock);
    int pending = count_members(group->pending), ready = count_members(group->ready);
    int queued = group->queued;
    for (const struct start_op *start = group->starters; start; start = start->next) {
        starters++;
    }
    bool cancelled = group->cancelled, closed = group->closed, waits = group->waiting;
    const void *holder = waits ? pier__dump_holder(group->waiting) : NULL;
    pthread_mutex_unlock(&group->lock);
    char who[96] = "";
    if (holder) {
        pthread_mutex_lock(&group->runner->lock);
        pier__dump_who(group->runner, holder, who, sizeof who);
        pthread_mutex_unlock(&group->runner->lock);
    }
    pier__dump_line(
        dump, 0,
        "group %p: %d under way, %d queued, %d waiting to be started, %d have ended and "
        "were not taken%s%s%s%s",
        (void *)group, pending, queued, starters, ready, cancelled ? ", cancelled" : "",
        closed ? ", closed" : "", holder ? ", waited for by " : "", who);
}

void pier__groups_describe(pier_runner *runner, pier__dump *dump)
{
    for (pier_group *group = next_group(runner, NULL); group;) {
        describe(group, dump);
        pier_group *next = next_group(runner, group);
        unref_group(group);
        group = next;
    }
}
