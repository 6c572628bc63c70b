#ifndef PIER_SDK_OP_H
#define PIER_SDK_OP_H
/*
 * Operations. An operation is a state machine that is stepped by whoever waits for it: the thread
 * that makes a blocking call, or the loop. It is cold until it is run or submitted; submitted, it
 * is the user's pier_future.
 *
 * A step either settles the operation (pier__op_succeed, pier__op_fail) or says in `op->wait` what
 * it waits for. Only one thread steps an operation at a time; which one may change between steps.
 * `op->on_loop` says whether it is the loop thread now.
 *
 * Cancelling (a deadline, a scope, pier_future_cancel, the runner's close) is one step with
 * PIER__CANCEL, at most once, `op->cancelled` holding the status. The operation may settle in that
 * step, or go on to clean up, bounding itself with wait.until. A blocked caller does not wait for
 * the clean-up: it returns, and the loop adopts the operation. Hence the rule: from PIER__CANCEL on
 * no step may touch the arguments, which were the caller's.
 *
 * While a lane runs wait.work the operation is not stepped: if it is cancelled meanwhile,
 * `cancelled` is set, pier__op_interrupted says so to the work, and the step with PIER__WORKED
 * finds both.
 */
#include "sdk/error.h"
#include "sdk/park.h"
#include <pier/future.h>
#include <pier/scope.h>
#include <pthread.h>
#include <stdatomic.h>

typedef struct pier_future pier__op;
typedef struct pier__watch pier__watch;
typedef struct pier__op_class pier__op_class;
struct pier_lane;
struct pier__walk;

/* Why a step is made: a set. */
enum {
    PIER__START = 1,    /* the first */
    PIER__READABLE = 2, /* wait.fd */
    PIER__WRITABLE = 4, /* wait.fd */
    PIER__WOKEN = 8,    /* pier__op_wake was called */
    PIER__WORKED = 16,  /* wait.work has returned */
    PIER__EXPIRED = 32, /* wait.until has passed */
    PIER__CANCEL = 64,  /* wind up; see above */
    PIER__BLOCKED = 128 /* the class's `block` has returned */
};

typedef enum pier__wait_kind {
    PIER__WAIT_WAKE = 0, /* pier__op_wake alone: a pool, a turn, a lookup */
    PIER__WAIT_FD,       /* wait.fd to become wait.events */
    PIER__WAIT_WORK,     /* wait.work(op), which blocks: a thread runs it itself, the loop has
                            wait.lane run it */
    PIER__WAIT_LANE,     /* wait.work(op) on wait.lane's own thread, whoever waits */
    PIER__WAIT_BLOCK     /* class->block(op), threads only */
} pier__wait_kind;

/* Further bits of `mail`. */
enum {
    PIER__MAIL_ASKED = 1 << 8,   /* pier_future_cancel was called */
    PIER__MAIL_ADOPT = 1 << 9,   /* a thread has left it to the loop */
    PIER__MAIL_LOOP = 1 << 16,   /* the loop steps it, so mail goes through the inbox */
    PIER__MAIL_QUEUED = 1 << 17, /* it is in the inbox */
    PIER__MAIL_EVENTS = 0xFFFF
};

/* What an operation waits for. pier__op_wake, and `until`, end every kind of wait but WORK. */
typedef struct pier__wait {
    pier__wait_kind kind;
    int fd;
    unsigned events;     /* PIER__READABLE | PIER__WRITABLE */
    pier__watch **watch; /* the loop's watch of a connection, kept between operations; NULL: one
                            for this wait alone, as sockets that are being connected need */
    /* How a thread waits for events that are PIER__READABLE alone, at first: reads, and blocks in
     * that for PIER__PARK_QUICK_MS at most. True: something has come, even if it is the end. A
     * system call less than to wait and then to read. NULL: the thread only waits. */
    bool (*receive)(pier__op *op);
    int64_t until; /* a moment (pier__now); 0: none */
    void (*work)(pier__op *op);
    struct pier_lane *lane;
} pier__wait;

/* What operations of one kind share. */
struct pier__op_class {
    const char *name;   /* the public function, for messages: "pier_db_fetch" */
    const char *result; /* the type `_finish` takes: "pier_result *", "int", "int64_t", "void" */
    size_t size;        /* of the struct that begins with a pier__op */
    bool shielded;      /* ignores scopes and the runner's close; must bound itself */
    bool loop_only;     /* stepped by the loop alone: a blocking call hands it over and waits */
    bool joins;         /* a blocking call waits for its end even when it has been cancelled */
    void (*step)(pier__op *op, unsigned events);
    /* Copies what is borrowed from the caller, before the caller returns or another thread needs
     * it. Called at most once. False: no memory. NULL: nothing is borrowed. */
    bool (*own)(pier__op *op);
    /* The caller of `_finish` gets an integer that means more than itself: a lock, an item. On his
     * thread; `drop` comes all the same. NULL: nothing to do. */
    void (*claim)(pier__op *op);
    /* Frees a result that nobody took. NULL: nothing to free. */
    void (*drop)(pier__op *op);
    /* Frees what the operation holds, but not itself. NULL: nothing. */
    void (*fini)(pier__op *op);
    /* Behind `fini`: keeps the memory, with its reference to the runner, for another one of
     * pier__op_init_again, or calls pier__op_free. NULL: the latter. */
    void (*retire)(pier__op *op);
    /* It is about to fail with `err` without having been stepped at all. NULL: nothing to do. */
    void (*unstarted)(pier__op *op, const pier_error *err);
    /* PIER__WAIT_BLOCK: blocks the calling thread for `timeout_ms` at most (never negative), or
     * until something that wait is for has happened, or until `unblock`. */
    void (*block)(pier__op *op, int timeout_ms);
    void (*unblock)(pier__op *op);
    /* What it works on, for messages: SQL, a URL without secrets. NULL: nothing to say. A dump
     * calls it on any thread while the operation lives, unless `moving_subject`. */
    const char *(*subject)(const pier__op *op);
    /* For the check that finds waits which can never end (sdk/deadlock.h): may what it waits for
     * now come from anybody but those who wait for it? Asks that of each thing that could let it go
     * on, through pier__walk_..., until one says yes. Called under that check's lock, on the loop
     * thread, while nobody steps the operation; reads only, keeps no lock of its own while it asks.
     * NULL: yes, always (a descriptor, a timer). What a lane works on is known without. */
    bool (*waits_for)(pier__op *op, struct pier__walk *walk);
    bool moving_subject; /* `subject` may be called by whoever steps it alone: not in a dump */
    bool is_task;        /* sdk/task.c: for a dump */
};

typedef struct pier__listener {
    struct pier__listener *next;
    /* Called once, when the operation has settled, by the thread that settled it. */
    void (*settled)(struct pier__listener *listener, pier__op *op);
} pier__listener;

/* Something for the loop thread to do. */
typedef struct pier__post {
    struct pier__post *next;
    void (*run)(struct pier__post *post);
} pier__post;

struct pier_future {
    /* Immutable after new. */
    const pier__op_class *cls;
    pier_runner *runner;          /* NULL in the constants for NULL handles and no memory */
    struct pier_lane *needs_lane; /* it cannot end before this lane is free; set by new's caller */

    atomic_int refs;
    atomic_uint state; /* 0 or PIER__SETTLED */
    atomic_uint mail;  /* what happened since the last step, whether the loop is to be told, and
                          whether it has been */
    atomic_int cancel_wanted; /* a status, by pier_future_cancel or the runner's close */

    /* Whoever steps. */
    pier__parker *parker; /* of the thread that steps it; set before the first step */
    pier_scope *scope;    /* shared while the loop steps it, borrowed while a thread does */
    int64_t deadline;     /* of its scope */
    int cancelled;        /* the status that PIER__CANCEL came with */
    bool on_loop;
    bool apart;          /* one that only the loop thread knows: the task that waits in it has no
                            future of it */
    bool owns;           /* `own` has been called */
    bool working;        /* wait.work is queued on, or run by, a lane */
    pier__op *lane_next; /* guarded by that lane's lock */
    bool taken;          /* `_finish` or free took the user's reference */
    bool observed;       /* somebody has seen how it ended, or need not */
    bool detached;       /* nobody will look, but even its being cancelled is worth a report */
    int64_t began;       /* while operations are traced */
    pier__wait wait;
    const char *doing;             /* a constant: "waiting for a connection"; for messages */
    const void *holder;            /* the thread or task that blocks in it; NULL: nobody does */
    struct pier__waiting *waiting; /* the thread's entry in the runner's list of long waits */
    int64_t since;   /* when the loop took it on, or it settled; guarded by ops_lock */
    char *stuck;     /* why it can never end, where that was found */
    uint64_t walked; /* guarded by the lock of sdk/deadlock.c: the last walk here */

    /* Written before it settles, read after. */
    int status;
    pier_error *err; /* NULL: no failure, or no memory for the particulars */
    union {
        void *pointer;
        int64_t integer;
    } result;

    /* Guarded by lock. */
    pthread_mutex_t lock;
    pier__listener *listeners;

    /* Loop thread. */
    pier__post post;     /* mail */
    pier__listener then; /* the user's callback */
    pier__post then_post;
    pier_future_cb then_cb;
    void *then_data;
    pier__op *prev, *next; /* all that the loop steps, or that is unread; changed under ops_lock */
    bool linked;
    bool unread; /* it has settled, and stands in the runner's list of such; guarded by ops_lock */
    struct pier__timer {
        struct pier__timer *child, *sibling, *parent; /* a pairing heap */
        int64_t when;                                 /* 0: not in it */
    } timer;
    pier__watch *own_watch;        /* the watch of one wait */
    pier__watch *watching;         /* the one that reports to this operation now */
    void (*abandon)(pier__op *op); /* a task is told that it need not wait for the clean-up */
    void *abandon_data;
};

enum { PIER__SETTLED = 1 };

/* ---- Making them -------------------------------------------------------------------------- */

/*
 * A cold operation, zeroed, with one reference, for a class of the given size. Never returns NULL:
 * where the runner is closing, belongs to the parent process, or there is no memory, `*failed` is
 * set and the return is NULL; hand `*failed` to the caller.
 */
void *pier__op_new(const pier__op_class *cls, pier_runner *runner, pier__op **failed);
/* The same in zeroed memory of pier__malloc that was set aside, for what must not fail: closing.
 * The operation owns the memory from now on. */
void pier__op_init(pier__op *op, const pier__op_class *cls, pier_runner *runner);
/* The same in the memory of one on the same runner that has ended, whose reference to it stays. */
void pier__op_init_again(pier__op *op, const pier__op_class *cls, pier_runner *runner);
/* Frees the memory and drops the reference to the runner; nothing else. */
void pier__op_free(pier__op *op);
/* NULL; or the constant to be given back because the runner is closing or the parent's. */
pier__op *pier__op_cannot_begin(const pier__op_class *cls, const pier_runner *runner);

/* A constant that has failed because its handle was NULL; `_finish` keeps the error before it. */
pier__op *pier__op_null(void);
/* A constant that has failed because this is a forked child. */
pier__op *pier__op_forked(void);
/* A constant that has failed for want of memory. */
pier__op *pier__op_nomem(void);
/* A constant that says only with which status a caller was given back; NULL: there is none. */
pier__op *pier__op_failed(int status);
/* Fails a cold operation that need not be run: `return pier__op_refuse(op, PIER_EINVAL, ...)`. */
PIER_COLD pier__op *pier__op_refuse(pier__op *op, int status, const char *format, ...)
    PIER_PRINTF(3, 4);

pier__op *pier__op_ref(pier__op *op);
void pier__op_unref(pier__op *op);

/* ---- In a step ---------------------------------------------------------------------------- */

void pier__op_succeed(pier__op *op, void *pointer);
void pier__op_succeed_int(pier__op *op, int64_t integer);
/* Settles with `status`; the message is set in front of the subject. */
PIER_COLD void pier__op_fail(pier__op *op, int status, const char *format, ...) PIER_PRINTF(3, 4);
PIER_COLD void pier__op_fail_with(pier__op *op, const pier_error *err);
/* Settles as cancelled (op->cancelled): the deadline passed, a scope was cancelled, ... while
 * op->doing. */
PIER_COLD void pier__op_fail_cancelled(pier__op *op);
/* The same before its first step. */
PIER_COLD void pier__op_fail_unstarted(pier__op *op, int status);
/* Writes the error that pier__op_fail_cancelled would settle with. */
PIER_COLD void pier__op_cancelled_error(const pier__op *op, pier_error *err);

static inline bool pier__op_settled(const pier__op *op)
{
    return atomic_load_explicit(&((pier__op *)op)->state, memory_order_acquire) & PIER__SETTLED;
}

/* Has it been asked to stop? For work that blocks, from whichever thread does it: looks at the
 * scope, its deadline, the future's cancel and the runner's close. 0 or a status. */
int pier__op_interrupted(const pier__op *op);

/* Does work that blocks, as PIER__WAIT_WORK would have it done, but within the step: for a thread
 * that steps it (not `on_loop`), which is asked only by the work itself whether it is to stop. */
void pier__op_work_here(pier__op *op, void (*work)(pier__op *op));

/* Begins its trace, where there is a hook for it. */
void pier__op_trace_begin(pier__op *op);

/* ---- From outside ------------------------------------------------------------------------- */

/* Has it stepped with PIER__WOKEN. Any thread; the caller must hold a reference or know by other
 * means that the operation lives. */
void pier__op_wake(pier__op *op);
void pier__op_mail(pier__op *op, unsigned events);

/* Asks for it to be cancelled, with `status`. Any thread that holds a reference. */
void pier__op_cancel(pier__op *op, int status);

/* Hands it to the loop and gives it back: the user's future. Copies what it borrows. */
pier_future *pier__op_submit(pier__op *op);

/*
 * The one place that decides how to wait. Takes the reference; gives back the settled operation
 * for `_finish`, or NULL with `err` filled when the caller need not, or must not, wait for it; a
 * constant with the status where `err` is NULL.
 */
pier_future *pier__op_run(pier__op *op, pier_error *err);

/* Adds a listener, called at once where the operation has settled already. */
void pier__op_listen(pier__op *op, pier__listener *listener);
/* Takes it back; false: it has been called, or is being called. */
bool pier__op_unlisten(pier__op *op, pier__listener *listener);

/* Waits until it has settled, or `until`, or the ambient scope ends. 1, 0 or a negative status. */
int pier__op_await(pier__op *op, int64_t until, pier_error *err);
/* Waits until one of several has settled (`any`), or until all have or one has failed. Sets
 * `*index` to that one, or to `count`. 1, 0 or a negative status. */
int pier__op_await_several(pier__op *const *ops, size_t count, bool any, int64_t until,
                           size_t *index, pier_error *err);
/* The same without end and outside every scope; false: no memory, try again. */
bool pier__op_await_shielded(pier__op *op);

/* The same as pier__op_take_pointer, but the result stays the operation's: until
 * pier__op_taken, which is to follow unless this returns NULL. */
void *pier__op_look_pointer(pier_future *future, const char *type, pier_error *err);
void pier__op_taken(pier_future *future);

/* The bodies of `_finish`: wait if need be, check the type, take the result, drop the reference. */
void *pier__op_take_pointer(pier_future *future, const char *type, pier_error *err);
int pier__op_take_int(pier_future *future, const char *type, pier_error *err);
int64_t pier__op_take_int64(pier_future *future, const char *type, pier_error *err);
void pier__op_take_void(pier_future *future);

#endif
