#ifndef PIER_SDK_LOOP_INTERNAL_H
#define PIER_SDK_LOOP_INTERNAL_H
/*
 * What loop.c shares with the runner, the watches and the tasks. Loop thread, all of it.
 */
#include "sdk/runner.h"

void pier__loop_on_async(uv_async_t *async);
void pier__loop_on_timer(uv_timer_t *timer);
void pier__loop_on_check(uv_check_t *check);
void pier__loop_set_timer(pier_runner *runner);

/* Puts it at the end of what is ready; from within enter and leave, as tasks are. */
static inline void pier__loop_push_on_loop(pier_runner *runner, pier__post *post)
{
    post->next = NULL;
    *runner->ready_tail = post;
    runner->ready_tail = &post->next;
}

/* Runs it when nothing is ready any more, or a good deal of that has run: what is better done for
 * all together, and last, such as sending. From within enter and leave. */
static inline void pier__loop_push_late_on_loop(pier_runner *runner, pier__post *post)
{
    post->next = NULL;
    *runner->late_tail = post;
    runner->late_tail = &post->next;
}

/* Starts a cold operation on the loop now: a task's. The caller keeps its reference. */
void pier__loop_start_on_loop(pier__op *op);
/* Delivers PIER__CANCEL, once; has whoever waits for it told. */
void pier__loop_cancel_on_loop(pier__op *op, int status);
void pier__loop_adopt(pier__op *op);
/* Cancels all that its scope, its future or the runner's close wants cancelled. */
void pier__loop_look_at_all(pier_runner *runner);

/* sdk/runner.c: an operation has left the list. */
void pier__runner_op_ended(pier_runner *runner);

/* Called by pier__op_new. */
void pier__op_init_post(pier__op *op);

#endif
