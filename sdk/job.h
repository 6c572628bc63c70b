#ifndef PIER_SDK_JOB_H
#define PIER_SDK_JOB_H
/*
 * Blocking work of an operation that the loop steps: done by a thread of the runner's executor.
 */
#include "sdk/op.h"
#include <pier/async/executor.h>

typedef struct pier__job {
    pier__op *op; /* of the executor; NULL: none is under way */
    pier__op *owner;
    pier__listener listener;
} pier__job;

/* On the loop: has `fn(arg)` run, and `owner` woken when that has ended or could not begin. It
 * needs nothing of the caller's, who need not wait for it: `owner` lives until then. */
void pier__job_start(pier__job *job, pier__op *owner, pier_executor_fn fn, void *arg);

/* Once `job->op` has settled: what `fn` returned, or why it did not run. */
int pier__job_end(pier__job *job, pier_error *err);

#endif
