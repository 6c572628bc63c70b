#ifndef PIER_SDK_SCOPE_H
#define PIER_SDK_SCOPE_H
/*
 * The inside of scopes. The chain of parents is immutable; cancelling sets one word.
 */
#include "sdk/op.h"
#include <pier/scope.h>

struct pier_scope {
    /* Immutable after open. */
    pier_runner *runner;
    pier_scope *parent;   /* shared */
    int64_t deadline;     /* the earliest of its own and its parents'; 0: none */
    pier__parker *parker; /* of the thread that it is ambient for; NULL in a task */
    int signal;
    bool shield;                   /* what cancels its parents does not reach it */
    bool shielded;                 /* it, or one around it, is a shield */
    struct pier__entered *entered; /* newest first; of whoever opened it (sdk/enter.c) */

    atomic_int refs;
    atomic_int cancelled; /* 0 or a status */
    /* Other runners that step operations of this scope; only grows. Each holds the memory of its
     * runner, so that a signal handler may walk it. */
    _Atomic(struct pier__elsewhere *) elsewhere;
};

/* A scope inside `parent` (may be NULL), not ambient anywhere; NULL: no memory. */
pier_scope *pier__scope_new(pier_runner *runner, pier_scope *parent, int64_t deadline);
pier_scope *pier__scope_ref(pier_scope *scope);
void pier__scope_unref(pier_scope *scope);

/* An operation of this scope is about to be stepped by the runner's loop: has that told when the
 * scope, or one around it, is cancelled. False: no memory. */
bool pier__scope_tell(pier_scope *scope, pier_runner *runner);
/* The scope is ambient no more. */
void pier__scope_left(pier_scope *scope);

/* Was it, or one around it, cancelled? Does not look at the clock. */
int pier__scope_cancelled(const pier_scope *scope);
/* Cancels with another status than PIER_ECANCELLED. Async-signal-safe. */
void pier__scope_cancel_with(pier_scope *scope, int status);

/* sdk/signal.c: has the scope cancelled when the signal comes. */
int pier__signal_listen(pier_scope *scope, int number, pier_error *err);
void pier__signal_unlisten(pier_scope *scope);

/* Has the loop look at the scopes of all its operations. Async-signal-safe. */
void pier__loop_scopes_changed(pier_runner *runner);

#endif
