#ifndef PIER_SDK_LOOP_H
#define PIER_SDK_LOOP_H
/*
 * The loop: libuv's, with an inbox for other threads, a queue of what is ready, timers, and the
 * operations that it steps. libuv's own thread pool is never used: it breaks fork.
 */
#include "sdk/op.h"
#include <uv.h>

/* Has `post->run` called on the loop thread, later. Any thread. False: the loop has ended. A post
 * must not be posted again before it ran. */
bool pier__loop_post(pier_runner *runner, pier__post *post);

/* Is the calling thread the one that runs this runner's loop? */
bool pier__loop_is_here(const pier_runner *runner);
/* Is it one that runs any runner's loop? */
bool pier__loop_is_any(void);

/* For drivers with handles of their own. Handles must be closed before the runner's close ends,
 * with their memory freed in the close callback. */
uv_loop_t *pier__loop_uv_on_loop(pier_runner *runner);
/* Brackets each libuv callback of a driver: what became ready in it (operations woken, callbacks,
 * tasks) runs in leave. */
void pier__loop_enter_on_loop(pier_runner *runner);
void pier__loop_leave_on_loop(pier_runner *runner);
/* The same in the callback of a descriptor: what became ready runs when all the descriptors of this
 * round have been heard. */
void pier__loop_leave_later_on_loop(pier_runner *runner);
/* Something large has come, and whoever waits for it takes it at once, while it is in the caches,
 * and before more of it comes: leave does not put it off. From within enter and leave. */
void pier__loop_take_bulk_on_loop(pier_runner *runner);

/* Steps an operation on the loop now, from within a driver's libuv callback (between enter and
 * leave), and arms what it waits for next. */
void pier__loop_step_on_loop(pier__op *op, unsigned events);

#endif
