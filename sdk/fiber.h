#ifndef PIER_SDK_FIBER_H
#define PIER_SDK_FIBER_H
/*
 * Stacks to switch between, on one thread. The sanitizers and valgrind are told of each switch.
 */
#include <pier/base.h>

typedef struct pier__fiber pier__fiber;
typedef struct pier__fiber_pool pier__fiber_pool;

/* Of one loop; not thread-safe. NULL: no memory. */
pier__fiber_pool *pier__fiber_pool_new(void);
void pier__fiber_pool_free(pier__fiber_pool *pool);

/* A fiber that will run `fn(arg)`; NULL: no memory, or no room for another stack. */
pier__fiber *pier__fiber_new(pier__fiber_pool *pool, void (*fn)(void *arg), void *arg);
/* Gives the stack back; the fiber must have ended. */
void pier__fiber_free(pier__fiber_pool *pool, pier__fiber *fiber);

/* Runs the fiber until it suspends (false) or its function has returned (true). */
bool pier__fiber_resume(pier__fiber *fiber);
/* In a fiber: goes back to whoever resumed it. */
void pier__fiber_suspend(pier__fiber *fiber);

#endif
