/*
 * Jobs of the runner's executor on behalf of an operation.
 */
#include "sdk/job.h"

#include "sdk/context.h"
#include "sync/ops.h"

static void on_settled(pier__listener *listener, pier__op *op)
{
    (void)op;
    pier__op *owner = ((pier__job *)((char *)listener - offsetof(pier__job, listener)))->owner;
    pier__op_wake(owner);
    pier__op_unref(owner);
}

void pier__job_start(pier__job *job, pier__op *owner, pier_executor_fn fn, void *arg)
{
    /* In the owner's scope, which may be a shield. */
    pier_scope *ambient = pier__here.scope;
    pier__here.scope = owner->scope;
    job->op = pier__op_submit(pier__to_thread_op(owner->runner, fn, arg));
    pier__here.scope = ambient;
    job->owner = pier__op_ref(owner);
    job->listener.settled = on_settled;
    pier__op_listen(job->op, &job->listener);
}

int pier__job_end(pier__job *job, pier_error *err)
{
    pier__op *op = job->op;
    job->op = NULL;
    return pier__op_take_int(op, "int", err);
}
