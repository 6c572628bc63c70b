#ifndef PIER_SDK_TASK_H
#define PIER_SDK_TASK_H
/*
 * Tasks: operations whose steps resume a fiber.
 */
#include "sdk/op.h"
#include <pier/task.h>

/* In a task: starts the operation on the loop and suspends until it has settled, or until the
 * caller need not wait for it. Like pier__op_run. */
pier_future *pier__task_run_op(pier__op *op, pier_error *err);

/* What the task was named; "" where it was not. Borrowed: lives as long as the task. */
const char *pier__task_name(const struct pier_task *task);

/* The argument of a task whose function is `fn`; NULL for another task. */
void *pier__task_arg(const struct pier_task *task, pier_task_fn fn);

#endif
