/*
 * Offloaded calls: a copy of the arguments on which whoever is allowed to block does the work.
 */
#include "sdk/alloc.h"
#include "sdk/buffer.h"
#include "sdk/job.h"
#include "sync/ops.h"
#include <pier/async/offload.h>
#include <string.h>

struct offload_op {
    pier__op op; /* first */
    pier_offload_fn fn;
    pier_buffer *call; /* the copy, until it is the result */
    pier_error err;    /* what `fn` failed with */
    pier__job job;     /* on the loop */
};

static int run(void *arg, pier_error *err)
{
    struct offload_op *self = arg;
    (void)err;
    self->fn((void *)(uintptr_t)self->call->data, &self->err);
    return 0;
}

static void work(pier__op *op)
{
    run(op, NULL);
}

static void settle(struct offload_op *self)
{
    if (self->err.status < 0) {
        pier__op_fail_with(&self->op, &self->err);
        return;
    }
    pier_buffer *result = self->call;
    self->call = NULL;
    pier__op_succeed(&self->op, result);
}

static void end_job(struct offload_op *self)
{
    pier_error err = {0};
    if (pier__job_end(&self->job, &err) == 0) {
        settle(self);
    } else if (self->op.cancelled) {
        pier__op_fail_cancelled(&self->op);
    } else {
        pier__op_fail_with(&self->op, &err);
    }
}

static void offload_step(pier__op *op, unsigned events)
{
    struct offload_op *self = (struct offload_op *)op;
    if (events & PIER__START && op->on_loop) {
        op->doing = "running in a thread";
        pier__job_start(&self->job, op, run, self);
    } else if (events & PIER__START) {
        op->wait.kind = PIER__WAIT_WORK;
        op->wait.work = work;
    } else if (events & PIER__WORKED) {
        settle(self);
    } else if (pier__op_settled(self->job.op)) {
        end_job(self);
    } else if (events & PIER__CANCEL) {
        pier__op_cancel(self->job.op, op->cancelled); /* it goes on, if it has begun */
    }
}

static void offload_drop(pier__op *op)
{
    pier_buffer_free(op->result.pointer);
}

static void offload_fini(pier__op *op)
{
    pier_buffer_free(((struct offload_op *)op)->call);
}

static const pier__op_class offload_class = {
    .name = "pier_offload",
    .result = "pier_buffer *",
    .size = sizeof(struct offload_op),
    .step = offload_step,
    .drop = offload_drop,
    .fini = offload_fini,
};

pier_future *pier__offload_op(pier_runner *runner, pier_offload_fn fn, const void *call,
                              size_t size)
{
    if (!runner) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct offload_op *self = pier__op_new(&offload_class, runner, &failed);
    if (!self) {
        return failed;
    }
    if (!fn || (!call && size)) {
        return pier__op_refuse(&self->op, PIER_EINVAL, "pier_offload: the %s is NULL",
                               fn ? "call" : "function");
    }
    self->fn = fn;
    self->call = pier__buffer_new(size);
    if (!self->call) {
        return pier__op_refuse(&self->op, PIER_ENOMEM, "pier_offload: out of memory");
    }
    memcpy((void *)(uintptr_t)self->call->data, size ? call : "", size);
    return &self->op;
}
