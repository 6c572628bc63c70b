/*
 * Waiting for several operations at once: an operation itself, with a listener on each of them.
 */
#include "sdk/alloc.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/op.h"
#include "sdk/task.h"
#include <string.h>

struct several_op;

struct item {
    pier__listener listener; /* holds a reference to the waiting operation while it may be called */
    struct several_op *owner;
    pier__op *target; /* holds a reference */
    bool listening;
};

struct several_op {
    pier__op op; /* first */
    bool any;
    int64_t until;
    size_t count, found;
    struct item *items;
};

static void on_settled(pier__listener *listener, pier__op *target)
{
    (void)target;
    struct several_op *several = ((struct item *)listener)->owner;
    pier__op_wake(&several->op);
    pier__op_unref(&several->op);
}

/* Is the wait over, and through which one? */
static bool is_over(struct several_op *several)
{
    size_t settled = 0;
    for (size_t i = 0; i < several->count; i++) {
        const pier__op *target = several->items[i].target;
        if (!pier__op_settled(target)) {
            continue;
        }
        settled++;
        if (several->any || target->status < 0) {
            several->found = i;
            return true;
        }
    }
    several->found = several->count;
    return settled == several->count;
}

static void stop_listening(struct several_op *several)
{
    for (size_t i = 0; i < several->count; i++) {
        struct item *item = &several->items[i];
        if (item->listening && pier__op_unlisten(item->target, &item->listener)) {
            pier__op_unref(&several->op);
        }
        item->listening = false;
    }
}

static void start_listening(struct several_op *several)
{
    for (size_t i = 0; i < several->count; i++) {
        struct item *item = &several->items[i];
        if (!pier__op_settled(item->target)) {
            item->listening = true;
            item->listener.settled = on_settled;
            pier__op_ref(&several->op);
            pier__op_listen(item->target, &item->listener);
        }
    }
}

static void several_step(pier__op *op, unsigned events)
{
    struct several_op *several = (struct several_op *)op;
    if (events & PIER__START) {
        op->doing = "waiting for futures";
        op->wait.until = several->until;
        start_listening(several);
    }
    if (is_over(several)) {
        stop_listening(several);
        pier__op_succeed_int(op, 1);
    } else if (events & PIER__CANCEL) {
        stop_listening(several);
        pier__op_fail_cancelled(op);
    } else if (events & PIER__EXPIRED) {
        stop_listening(several);
        pier__op_succeed_int(op, 0);
    }
}

static void several_fini(pier__op *op)
{
    struct several_op *several = (struct several_op *)op;
    for (size_t i = 0; i < several->count; i++) {
        pier__op_unref(several->items[i].target);
    }
    pier__free(several->items);
}

/* Each of them may end the wait for any, and by failing that for all. */
static bool several_waits_for(pier__op *op, pier__walk *walk)
{
    struct several_op *several = (struct several_op *)op;
    bool goes_on = false;
    for (size_t i = 0; i < several->count && !goes_on; i++) {
        pier__op *target = several->items[i].target;
        goes_on = !pier__op_settled(target) && pier__walk_op(walk, target);
    }
    return goes_on;
}

static const pier__op_class several_class = {
    .name = "pier_future_wait",
    .result = "int",
    .size = sizeof(struct several_op),
    .step = several_step,
    .fini = several_fini,
    .waits_for = several_waits_for,
};

static pier__op *make(pier__op *const *ops, size_t count, bool any, int64_t until)
{
    pier_runner *runner = pier__here.task ? pier_task_runner(pier__here.task) : NULL;
    for (size_t i = 0; i < count && !runner; i++) {
        runner = ops[i]->runner;
    }
    if (!runner) {
        return NULL; /* all are constants, which have settled */
    }
    pier__op *failed = NULL;
    struct several_op *several = pier__op_new(&several_class, runner, &failed);
    if (!several) {
        return failed;
    }
    several->items = pier__calloc(count, sizeof *several->items);
    if (!several->items) {
        return pier__op_refuse(&several->op, PIER_ENOMEM, "pier_future_wait: out of memory");
    }
    several->any = any;
    several->until = until;
    several->count = count;
    for (size_t i = 0; i < count; i++) {
        several->items[i].owner = several;
        several->items[i].target = pier__op_ref(ops[i]);
    }
    return &several->op;
}

int pier__op_await_several(pier__op *const *ops, size_t count, bool any, int64_t until,
                           size_t *index, pier_error *err)
{
    pier__op *op = make(ops, count, any, until);
    if (!op) {
        *index = any || count ? 0 : count;
        return 1;
    }
    /* Kept, because the index is read after the operation has been taken. */
    bool real = op->cls == &several_class;
    if (real) {
        pier__op_ref(op);
    }
    int status = pier__op_take_int(pier__op_run(op, err), "int", err);
    if (real) {
        if (status > 0) {
            *index = ((struct several_op *)op)->found;
        }
        pier__op_unref(op);
    }
    return status;
}
