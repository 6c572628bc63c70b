#ifndef PIER_SDK_POOL_H
#define PIER_SDK_POOL_H
/*
 * A bounded pool of things that operations borrow: connections, HTTP slots. Waiters are served in
 * FIFO order, each handed a thing directly by whoever gives one back, and then work themselves.
 *
 * The pool counts and hands out; making and ending things is its user's business. It knows who
 * holds each thing, so that waiting for oneself is refused instead of hanging.
 */
#include "sdk/op.h"
#include <pier/async/db.h>

/* Embedded first in each pooled thing. */
typedef struct pier__pooled {
    struct pier__pooled *next; /* idle list; all list */
    struct pier__pooled *all_next;
    const void *holder;      /* of a lease that lasts: a thread's or task's identity; else NULL */
    const char *holder_what; /* "transaction", "lease", "cursor": for messages */
    bool on_loop;            /* where it was last used: its home */
    int64_t idle_since;
} pier__pooled;

typedef struct pier__ticket {
    struct pier__ticket *next;
    pier__op *op;
    pier__pooled *got; /* set when served with an idle thing */
    bool served;       /* with `got` NULL: it may make a new one */
    bool closed;       /* woken because the pool was closed: it has been given nothing */
    bool queued;
    int64_t since; /* when it began to wait */
} pier__ticket;

typedef struct pier__pool {
    pthread_mutex_t lock;
    const char *what; /* "connection", for messages; a constant */
    int max;
    /* Guarded by lock. */
    int total; /* made or being made */
    int waiting;
    bool closed;
    pier__pooled *idle; /* newest first */
    pier__pooled *all;
    pier__ticket *head, **tail;
    /* Since it was made. The clock is read only where somebody waits. */
    int64_t made, lost, acquires, waits;
    int64_t waited, waited_max; /* nanoseconds, by those who have stopped waiting */
} pier__pool;

typedef enum pier__pool_answer {
    PIER__POOL_GOT,  /* ticket->got */
    PIER__POOL_MAKE, /* make one; then pier__pool_made, or pier__pool_lost if that fails */
    PIER__POOL_WAIT, /* wait to be woken; then ticket->got, or make one */
    PIER__POOL_CLOSED,
    PIER__POOL_SELF /* all are held by the caller: waiting would never end */
} pier__pool_answer;

void pier__pool_init(pier__pool *pool, const char *what, int max);
void pier__pool_fini(pier__pool *pool);

pier__pool_answer pier__pool_take(pier__pool *pool, pier__ticket *ticket);
/* Stops waiting. True: it was still waiting, or found the pool closed. False: it has been served
 * and must give that back (pier__pool_give, or pier__pool_lost where it may make one). */
bool pier__pool_leave(pier__pool *pool, pier__ticket *ticket);
/* A new thing joins; its maker holds it. */
void pier__pool_made(pier__pool *pool, pier__pooled *thing);
/* False: the pool is closed, and the caller must end the thing and say so with pier__pool_lost. */
bool pier__pool_give(pier__pool *pool, pier__pooled *thing);
/* One less: it broke, or could not be made. `thing` (NULL if it was never made) leaves the pool;
 * whoever waits may make another. */
void pier__pool_lost(pier__pool *pool, pier__pooled *thing);

/* Who holds it for longer than one operation, from now on; NULL: nobody. */
void pier__pool_hold(pier__pool *pool, pier__pooled *thing, const void *holder, const char *what);
/* The identity of the calling thread or task, for pier__pool_hold. */
const void *pier__pool_holder(void);
/* Calls `each` for all things that there are, under the lock. */
void pier__pool_each(pier__pool *pool, void (*each)(pier__pooled *thing, void *data), void *data);
/* Writes who holds what: "3 transactions and 1 lease of this thread". */
void pier__pool_describe(pier__pool *pool, char *buffer, size_t size);

/* Adds its figures to `stats`. */
void pier__pool_add_stats(pier__pool *pool, pier_pool_stats *stats);

/* No more is handed out; those who wait are woken and find it closed. Idle things are taken out and
 * returned as a list linked by `next`; each must still be given to pier__pool_lost. */
pier__pooled *pier__pool_close(pier__pool *pool);

#endif
