#ifndef PIER_SDK_POOL_H
#define PIER_SDK_POOL_H
/*
 * A bounded pool of things that operations borrow: connections, HTTP slots. Waiters are served in
 * FIFO order, each handed a thing directly by whoever gives one back, and then work themselves.
 *
 * The pool counts and hands out; making and ending things is its user's business. It knows who
 * holds each thing, so that waiting for oneself is refused instead of hanging.
 *
 * Where it is told to (`backs_off`), it knows whether things can be made at all: after a failure
 * one attempt at a time is made, with pauses between them, whoever comes meanwhile waits for how
 * that ends, and where nothing is in use that could come back, everybody fails with its error.
 */
#include "sdk/op.h"
#include <pier/async/db.h>

/* Embedded first in each pooled thing. */
typedef struct pier__pooled {
    struct pier__pooled *next; /* idle list; all list */
    struct pier__pooled *all_next;
    const void *holder;      /* of a lease that lasts: a thread's or task's identity; else NULL */
    const char *holder_what; /* "a transaction", "a lease", "a cursor": for messages */
    int64_t held_since;      /* by the holder */
    int held_by;             /* the holder's thread, where it is one */
    bool on_loop;            /* where it was last used: its home */
    bool opened;             /* it can be used; guarded by the pool's lock */
    bool shared;             /* more than its borrower may have asked for its turn */
    bool retired;            /* it ends because its time has come, not because it broke */
    bool was_reset;      /* something was sent to make it clean; counted when it is given back */
    bool replaced;       /* its place is taken: its end is not to be told to the pool */
    unsigned generation; /* of the pool when it was made */
    int uses;            /* how often it was given back */
    atomic_int_least64_t acquires; /* without the lock, by whoever has it */
    int64_t idle_since;
    int64_t ends_at; /* when it is to be replaced; 0: never */
} pier__pooled;

typedef struct pier__ticket {
    struct pier__ticket *next;
    pier__op *op;
    pier__pooled *got; /* set when served with an idle thing */
    bool served;       /* with `got` NULL: it may make a new one */
    bool closed;       /* woken because the pool was closed: it has been given nothing */
    bool failed;       /* woken because things cannot be made: it has been given nothing */
    bool queued;
    int64_t since; /* when it began to wait */
} pier__ticket;

/* More threads than that share places. */
enum { PIER__POOL_PLACES = 64 };

/*
 * A thread has a place of its own, where what it gives back waits for it with one instruction each
 * way: it gets the same thing again, which is in its core's caches, whose server knows that core,
 * too. With 64 threads that saves a sixth of all time. Where its place is empty it looks at the
 * others, and where all are, it takes the lock.
 *
 * A place holds an idle thing, or NULL where one may be put. It holds &pier__pool_slow while
 * somebody has the lock, while somebody waits, and from the first time on that things were refused
 * (the pool was closed, or they expired). So who has the lock finds all idle things in the list and
 * can rely on nothing coming or going meanwhile.
 */
typedef struct pier__pool {
    pthread_mutex_t lock; /* by pier__pool_lock */
    _Atomic(pier__pooled *) places[PIER__POOL_PLACES];
    atomic_int place_count; /* that threads use; grows under the lock */
    const char *what;       /* "connection", for messages; a constant */
    int max;
    /* Set between init and its first use. */
    int min;         /* things to have, also when nobody asks */
    int waiting_max; /* who may wait; 0: any number, negative: nobody */
    bool backs_off;
    pier__op *keeper; /* woken when something is to be made or tried again; NULL: none */
    atomic_int total; /* made or being made; changed under the lock */
    /* Guarded by lock. */
    int open; /* of them those that can be used */
    int waiting;
    bool closed;
    bool refuses; /* things that are given back, or some of them */
    bool barred;  /* the places hold &pier__pool_slow */
    unsigned generation;
    int failures;         /* to make a thing, one after the other; 0: it can be done */
    bool probing;         /* after failures: one attempt is under way */
    int64_t retry_at;     /* after failures: when the next attempt may be made */
    pier_error *failure;  /* the last one; NULL: there was no memory for it */
    pier__ticket *enders; /* wait until it is closed and empty */
    pier__pooled *idle;   /* newest first */
    pier__pooled *all;
    pier__ticket *head, **tail;
    /* Since it was made. The clock is read only where somebody waits. */
    int64_t made, lost, acquires, waits;
    int64_t waited, waited_max; /* nanoseconds, by those who have stopped waiting */
    int64_t failed, refused, resets, idle_ended, retired;
} pier__pool;

typedef enum pier__pool_answer {
    PIER__POOL_GOT,  /* ticket->got */
    PIER__POOL_MAKE, /* make one; then pier__pool_made, or pier__pool_lost if that fails */
    PIER__POOL_WAIT, /* wait to be woken; then ticket->got, or make one */
    PIER__POOL_CLOSED,
    PIER__POOL_FULL, /* as many as may wait do so already */
    PIER__POOL_SELF  /* all are held by the caller: waiting would never end */
} pier__pool_answer;

extern pier__pooled pier__pool_slow;
void pier__pool_lock(pier__pool *pool);
void pier__pool_unlock(pier__pool *pool);
/* The calling thread's place; it may be beyond those in use. */
int pier__pool_place(void);

void pier__pool_init(pier__pool *pool, const char *what, int max);
void pier__pool_fini(pier__pool *pool);

pier__pool_answer pier__pool_take(pier__pool *pool, pier__ticket *ticket);
/* Stops waiting. True: it was still waiting, or found the pool closed. False: it has been served
 * and must give that back (pier__pool_give, or pier__pool_lost where it may make one). */
bool pier__pool_leave(pier__pool *pool, pier__ticket *ticket);
/* Does it wait still? */
bool pier__pool_is_queued(pier__pool *pool, const pier__ticket *ticket);
/* A new thing joins; its maker holds it. */
void pier__pool_made(pier__pool *pool, pier__pooled *thing);
/* It can be used: others may be made as well. */
void pier__pool_opened(pier__pool *pool, pier__pooled *thing);
/* A thing that joined could not be opened; pier__pool_lost must follow. `probed`: what
 * pier__pool_probes said when it joined. */
void pier__pool_failed(pier__pool *pool, const pier_error *err, bool probed);
/* Have things failed to be made, so that the one being made now is a trial? */
bool pier__pool_probes(pier__pool *pool);
/* Copies why the last thing could not be made. */
void pier__pool_failure(pier__pool *pool, pier_error *err);
/* A borrowed thing turns out to be broken before it was used: takes it out, and asks for another
 * before all who wait. MAKE, or WAIT; the thing must be ended, with `replaced` set. */
pier__pool_answer pier__pool_exchange(pier__pool *pool, pier__pooled *thing, pier__ticket *ticket);
/* False: the pool is closed or the thing is too old, and the caller must end it and say so with
 * pier__pool_lost. */
bool pier__pool_give(pier__pool *pool, pier__pooled *thing);
/* One less: it broke, or could not be made. `thing` (NULL if it was never made) leaves the pool;
 * whoever waits may make another. */
void pier__pool_lost(pier__pool *pool, pier__pooled *thing);

/* For the keeper: how many are to be made, for the minimum, or, after failures, for those who wait.
 * Each then counts as being made. */
int pier__pool_refill(pier__pool *pool);
/* When pier__pool_refill must be called next; 0: there is no such moment. */
int64_t pier__pool_next(pier__pool *pool);
/* Takes out, as pier__pool_close does, idle things that are too old, and those that have been idle
 * for longer than `idle_ns` (0: any time is right) while there are more than the minimum. */
pier__pooled *pier__pool_sweep(pier__pool *pool, int64_t now, int64_t idle_ns);
/* Takes out idle things of which `is` says so, under the lock, as pier__pool_close does; they count
 * as borrowed. */
pier__pooled *pier__pool_take_those(pier__pool *pool, bool (*is)(const pier__pooled *thing));
/* All things that there are now are not to be used again: those that are idle are taken out as by
 * pier__pool_close, the others are refused by pier__pool_give. */
pier__pooled *pier__pool_expire(pier__pool *pool);

/* Who holds it for longer than one operation, from now on; NULL: nobody. */
void pier__pool_hold(pier__pool *pool, pier__pooled *thing, const void *holder, const char *what);
/* The identity of the calling thread or task, for pier__pool_hold. */
const void *pier__pool_holder(void);
/* Does it hold any of them? */
bool pier__pool_is_held(pier__pool *pool, const void *holder);
/* Calls `each` for all things that there are, under the lock. */
void pier__pool_each(pier__pool *pool, void (*each)(pier__pooled *thing, void *data), void *data);
/* Writes who holds what, as the asker sees it: "2 transactions and a lease of this thread, 3 calls
 * of others". `asker` NULL: nobody's are told apart. */
void pier__pool_describe(pier__pool *pool, const pier__op *asker, char *buffer, size_t size);

/* Adds its figures to `stats`. */
void pier__pool_add_stats(pier__pool *pool, pier_pool_stats *stats);

/* No more is handed out; those who wait are woken and find it closed. Idle things are taken out and
 * returned as a list linked by `next`; each must still be given to pier__pool_lost. */
pier__pooled *pier__pool_close(pier__pool *pool);

/* Waits until a closed pool is empty. True: it is. False: the ticket's operation is woken then. */
bool pier__pool_await_end(pier__pool *pool, pier__ticket *ticket);
/* Stops waiting for that. */
void pier__pool_leave_end(pier__pool *pool, pier__ticket *ticket);

#endif
