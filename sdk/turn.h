#ifndef PIER_SDK_TURN_H
#define PIER_SDK_TURN_H
/*
 * A turn gives one operation at a time the use of something, in the order of asking. It is handed
 * over directly: when one ends, the next already has it. Threads and the loop wait for it alike.
 */
#include "sdk/op.h"

typedef struct pier__turn_waiter {
    struct pier__turn_waiter *next;
    pier__op *op;
    const pier__op *before; /* who had the turn, or waited, last when it came; may be gone: only to
                               be compared */
    bool queued;
} pier__turn_waiter;

typedef struct pier__turn {
    /* The operation that has it, which lives at least until it has given it back, and the lowest
     * bit while somebody waits. Without waiters it is taken and given by one instruction each; the
     * bit is set and cleared under the lock. */
    atomic_uintptr_t owner;
    pthread_mutex_t lock;
    /* Guarded by lock. */
    pier__turn_waiter *head, **tail;
} pier__turn;

void pier__turn_init(pier__turn *turn);
void pier__turn_fini(pier__turn *turn);

/* True: `waiter->op` has it now. False: wait to be woken, then it has it. */
bool pier__turn_take(pier__turn *turn, pier__turn_waiter *waiter);
/* The same where nobody else can ask for it meanwhile: no locked instructions. */
static inline void pier__turn_take_alone(pier__turn *turn, const pier__turn_waiter *waiter)
{
    atomic_store_explicit(&turn->owner, (uintptr_t)waiter->op, memory_order_relaxed);
}
static inline void pier__turn_give_alone(pier__turn *turn)
{
    atomic_store_explicit(&turn->owner, 0, memory_order_relaxed);
}

/* Stops waiting. True: it was still waiting. False: it has been given the turn and must give it
 * back. */
bool pier__turn_leave(pier__turn *turn, pier__turn_waiter *waiter);
/* Who has it, while somebody waits: with a reference; NULL: nobody waits. */
pier__op *pier__turn_owner(pier__turn *turn);
/* The owner, waited for or not, where only the loop can have it. NULL: nobody has it. */
pier__op *pier__turn_owner_on_loop(pier__turn *turn);
/* Asks whoever has it to wind up. */
void pier__turn_cancel_owner(pier__turn *turn);
/* Hands it to the next. */
void pier__turn_give(pier__turn *turn);

#endif
