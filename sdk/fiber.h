#ifndef PIER_SDK_FIBER_H
#define PIER_SDK_FIBER_H
/*
 * Stacks to switch between, on one thread. The sanitizers and valgrind are told of each switch.
 */
#include <pier/base.h>

typedef struct pier__fiber pier__fiber;
typedef struct pier__fiber_pool pier__fiber_pool;

enum {
    PIER__STACK_SIZE = 256 * 1024,
    /* Of stacks in use at once. Each takes two of the process's mappings, of which Linux allows
     * 65,530: what is left is for the program. */
    PIER__STACKS_MAX = 30000
};

/* Of one loop; not thread-safe. 0: the defaults above. NULL: no memory. */
pier__fiber_pool *pier__fiber_pool_new(size_t stack_size, int stacks_max);
void pier__fiber_pool_free(pier__fiber_pool *pool);
/* How many fibers there are, and may be. */
int pier__fiber_count(const pier__fiber_pool *pool);
int pier__fiber_max(const pier__fiber_pool *pool);

/* A fiber that will run `fn(arg)`; NULL: as many as may be, no memory, or no mapping left. */
pier__fiber *pier__fiber_new(pier__fiber_pool *pool, void (*fn)(void *arg), void *arg);
/* Gives the stack back; the fiber must have ended. */
void pier__fiber_free(pier__fiber_pool *pool, pier__fiber *fiber);

/* Runs the fiber until it suspends (false) or its function has returned (true). */
bool pier__fiber_resume(pier__fiber *fiber);
/* In a fiber: goes back to whoever resumed it. */
void pier__fiber_suspend(pier__fiber *fiber);

#endif
