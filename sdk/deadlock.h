#ifndef PIER_SDK_DEADLOCK_H
#define PIER_SDK_DEADLOCK_H
/*
 * Finding waits that can never end. A wait is refused with PIER_EDEADLOCK when nothing outside of
 * it can let it go on: one walks from the operation that is waited in to what it needs
 * (pier__op_class.waits_for), to who holds that, to what that thread or task waits for itself, and
 * so on. Where one branch ends at somebody who is at work, at a descriptor or at a timer, the wait
 * may end; where all lead back to where one has been, it cannot. Refused is only who is part of
 * such a circle himself: whoever waits for those goes on when one of them has been told.
 *
 * All walks are made on the loop thread of the operation's runner: nobody steps the loop's
 * operations and tasks meanwhile, and a thread that is entered here as blocked cannot leave before
 * the walk is over. So what a walk finds was true at one moment, and stays true. Operations of
 * another runner count as able to go on.
 *
 * A wait with a limit (a timeout, a scope's deadline) ends by itself, so a cycle through it is not
 * refused, except where the one who waits needs nobody else for it: whoever waits for what only
 * he himself can bring about is told so at once. That somebody might cancel one of them does not
 * count.
 *
 * A thread is entered, and looked after, once a wait has taken 10 ms; a task when it suspends.
 */
#include "sdk/op.h"

struct pier__context;
struct pier_executor;
struct pier__turn;

typedef struct pier__walk pier__walk;

/* A thread that is blocked, on its stack. Guarded by the lock of deadlock.c. */
typedef struct pier__blocked {
    struct pier__blocked *prev, *next;
    uint64_t id;
    pier__op *op;                       /* that it is blocked in */
    const struct pier__context *thread; /* its context */
    int tid;
    bool entered;
} pier__blocked;

/* Brackets a long wait of the calling thread, and has the loop look whether it can end. */
void pier__blocked_enter(pier__blocked *blocked, pier__op *op);
void pier__blocked_leave(pier__blocked *blocked);
/* In a forked child: the other threads are gone, one of them perhaps with the lock. */
void pier__blocked_forked(void);

/* Loop thread: looks at an operation that a task waits in, and cancels it when it cannot end. */
void pier__deadlock_look_on_loop(pier__op *op);
/* The message, in front of which stands the operation's name. */
const char *pier__deadlock_why(const pier__op *op);

/* For waits_for, each under the walk's lock: may this let the wait go on? */

/* The end of another operation on which the caller has a reference. */
bool pier__walk_op(pier__walk *walk, pier__op *op);
/* The owner of a turn that `waiter` waits for. */
bool pier__walk_turn(pier__walk *walk, const pier__op *waiter, struct pier__turn *turn);
/* Whoever does the work of an operation that may have gone meanwhile: only compared. */
bool pier__walk_worker(pier__walk *walk, const pier__op *op);
/* The next job of a lane, or the end of the one under way. */
bool pier__walk_lane(pier__walk *walk, const struct pier_lane *lane);
/* One of the threads of an executor, of which there are so many. */
bool pier__walk_executor(pier__walk *walk, const struct pier_executor *executor, int threads);
/* What a thread or task (pier__pool_holder) holds. */
bool pier__walk_holder(pier__walk *walk, const void *holder);
/* A task that is suspended in `awaited`. */
bool pier__walk_task(pier__walk *walk, pier__op *awaited);

#endif
