/*
 * Groups. Each member has a listener on its future; what settles moves from the pending list to the
 * ready list and wakes whoever is in pier_group_next. The group is kept alive by its members.
 */
#include <pier/group.h>

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/op.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sdk/scope.h"

struct member {
    struct member *prev, *next;
    pier__listener listener;
    pier_group *group;
    pier_future *future;
    void *tag;
};

struct pier_group {
    /* Immutable after open. */
    pier_runner *runner;
    bool collect;
    int64_t deadline;
    pier_scope *scope; /* of the tasks that are started in it */

    atomic_int refs; /* the user's, and one for each pending member */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    struct member *pending;
    struct member *ready, **ready_tail;
    pier__op *waiting; /* in pier_group_next; holds a reference */
    bool cancelled;    /* members that come are cancelled at once */
    bool closed;       /* nobody will take what becomes ready */
    pier_error err;    /* the first failure */
};

static void unref_group(pier_group *group)
{
    if (atomic_fetch_sub(&group->refs, 1) == 1) {
        pier__scope_unref(group->scope);
        pthread_mutex_destroy(&group->lock);
        pier__free(group);
    }
}

pier_group *pier_group_open(pier_runner *runner, const pier_group_options *options, pier_error *err)
{
    pier_group_options read = {.struct_size = 0};
    if (pier__runner_check(runner, "pier_group_open: the runner", err) < 0 ||
        pier__options_read(&read, sizeof read, options, "PIER_GROUP_OPTIONS", err) < 0) {
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
    group->collect = read.collect;
    group->deadline = deadline;
    group->scope = scope;
    atomic_init(&group->refs, 1);
    group->ready_tail = &group->ready;
    pthread_mutex_init(&group->lock, NULL);
    return group;
}

/* Under the lock. Cancelling only asks, so nothing settles in here. */
static void cancel_all(pier_group *group)
{
    group->cancelled = true;
    pier__scope_cancel_with(group->scope, PIER_ECANCELLED);
    for (struct member *member = group->pending; member; member = member->next) {
        pier_future_cancel(member->future);
    }
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

static void on_settled(pier__listener *listener, pier__op *op)
{
    struct member *member = (struct member *)((char *)listener - offsetof(struct member, listener));
    pier_group *group = member->group;
    pthread_mutex_lock(&group->lock);
    *(member->prev ? &member->prev->next : &group->pending) = member->next;
    if (member->next) {
        member->next->prev = member->prev;
    }
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
        pier_future_free(member->future);
        pier__free(member);
    }
    unref_group(group);
}

int pier_group_add(pier_group *group, pier_future *future, void *tag)
{
    if (group && pier__runner_forked(group->runner)) {
        pier_future_free(future);
        return PIER_EFORKED;
    }
    struct member *member = group ? pier__calloc(1, sizeof *member) : NULL;
    if (!member) {
        pier_future_cancel(future);
        pier_future_free(future);
        pier_error err;
        if (group) {
            pier_error_set(&err, PIER_ENOMEM, "pier_group_add: out of memory");
            pthread_mutex_lock(&group->lock);
            fail(group, &err);
            pthread_mutex_unlock(&group->lock);
        }
        return group ? PIER_ENOMEM : PIER_EINVAL;
    }
    member->group = group;
    member->future = future ? future : pier__op_null();
    member->tag = tag;
    member->listener.settled = on_settled;
    atomic_fetch_add(&group->refs, 1);
    pthread_mutex_lock(&group->lock);
    member->next = group->pending;
    if (member->next) {
        member->next->prev = member;
    }
    group->pending = member;
    bool cancelled = group->cancelled;
    pthread_mutex_unlock(&group->lock);
    if (cancelled) {
        pier_future_cancel(member->future);
    }
    pier__op_listen(member->future, &member->listener);
    return 0;
}

int pier_group_start(pier_group *group, pier_task_fn fn, void *arg)
{
    if (!group) {
        return PIER_EINVAL;
    }
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = group->scope;
    pier_future *future = pier_task_start(group->runner, fn, arg);
    pier__here.scope = ambient;
    return pier_group_add(group, future, arg);
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
    int found = group->ready ? 1 : group->pending ? -1 : 0;
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

static void time_out(pier_group *group)
{
    pthread_mutex_lock(&group->lock);
    expire(group);
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

static const pier__op_class next_class = {
    .name = "pier_group_next",
    .result = "int",
    .size = sizeof(struct next_op),
    .step = next_step,
};

/* For close, once the rest has been cancelled. */
static const pier__op_class settle_class = {
    .name = "pier_group_close",
    .result = "int",
    .size = sizeof(struct next_op),
    .shielded = true,
    .step = next_step,
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
        found = wait_for_next(cls, group, &failure);
        if (found < 0) {
            pthread_mutex_lock(&group->lock);
            fail(group, &failure);
            cancel_all(group);
            pthread_mutex_unlock(&group->lock);
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
    unref_group(group);
    pier__runner_leave(runner);
    return status;
}
