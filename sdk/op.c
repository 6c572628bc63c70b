/*
 * The life of an operation: made cold, settled once, its result taken once. How it is stepped in
 * between is in op_run.c (threads and tasks) and loop.c.
 */
#include "sdk/op.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/hooks.h"
#include "sdk/loop_internal.h"
#include "sdk/runner.h"
#include "sdk/scope.h"
#include "sdk/seen.h"
#include <assert.h>
#include <stdio.h>
#include <string.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

_Thread_local pier__context pier__here __attribute__((tls_model("initial-exec")));

int pier__tid(void)
{
#if defined(__linux__)
    if (!pier__here.tid) {
        pier__here.tid = (int)syscall(SYS_gettid);
    }
#endif
    return pier__here.tid;
}

/* ---- Constants: operations that failed before there was one ------------------------------- */

static const pier__op_class constant_class = {
    .name = "pier", .result = "", .size = sizeof(pier__op)};

#define CONSTANT(number)                                                                           \
    {                                                                                              \
        .cls = &constant_class, .refs = 1, .state = PIER__SETTLED, .status = (number),             \
        .lock = PTHREAD_MUTEX_INITIALIZER                                                          \
    }

static pier__op null_handle = CONSTANT(PIER_EINVAL);
static pier__op no_memory = CONSTANT(PIER_ENOMEM);
static pier__op forked = CONSTANT(PIER_EFORKED);
static pier__op closed = CONSTANT(PIER_ECLOSED);
static pier__op timed_out = CONSTANT(PIER_ETIMEDOUT);
static pier__op cancelled = CONSTANT(PIER_ECANCELLED);
static pier__op deadlock = CONSTANT(PIER_EDEADLOCK);

static bool is_constant(const pier__op *op)
{
    return op->cls == &constant_class;
}

pier__op *pier__op_null(void)
{
    return &null_handle;
}

pier__op *pier__op_forked(void)
{
    return &forked;
}

pier__op *pier__op_nomem(void)
{
    return &no_memory;
}

pier__op *pier__op_failed(int status)
{
    pier__op *const all[] = {&no_memory, &forked, &closed, &timed_out, &cancelled, &deadlock};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        if (all[i]->status == status) {
            return all[i];
        }
    }
    return NULL;
}

/* ---- Making and freeing ------------------------------------------------------------------- */

pier__op *pier__op_cannot_begin(const pier__op_class *cls, const pier_runner *runner)
{
    if (pier__runner_forked(runner)) {
        return &forked;
    }
    int state = atomic_load_explicit(&((pier_runner *)runner)->state, memory_order_relaxed);
    bool shielded = cls->shielded || (pier__here.scope && pier__here.scope->shielded);
    return state == PIER__CLOSED || (state == PIER__CLOSING && !shielded) ? &closed : NULL;
}

void *pier__op_new(const pier__op_class *cls, pier_runner *runner, pier__op **failed)
{
    pier__op *refused = pier__op_cannot_begin(cls, runner);
    pier__op *op = refused ? NULL : pier__calloc(1, cls->size);
    if (op) {
        pier__op_init(op, cls, runner);
    } else {
        *failed = refused ? refused : &no_memory;
    }
    return op;
}

void pier__op_init(pier__op *op, const pier__op_class *cls, pier_runner *runner)
{
    pier__runner_ref(runner);
    pier__op_init_again(op, cls, runner);
}

void pier__op_init_again(pier__op *op, const pier__op_class *cls, pier_runner *runner)
{
    op->cls = cls;
    op->runner = runner;
    atomic_init(&op->refs, 1);
    op->wait.fd = -1;
    pier__op_init_post(op);
    op->lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

pier__op *pier__op_ref(pier__op *op)
{
    if (!is_constant(op)) {
        atomic_fetch_add_explicit(&op->refs, 1, memory_order_relaxed);
    }
    return op;
}

static void tell_unobserved(const pier__op *op)
{
    pier_error err;
    if (op->err) {
        err = *op->err;
    } else {
        pier_error_set(&err, op->status, "%s failed", op->cls->name);
    }
    pier__unobserved(&err);
}

/* Who has the only reference need not say so to anybody: looking costs a fifth of subtracting. */
static bool drop_reference(pier__op *op)
{
    return atomic_load_explicit(&op->refs, memory_order_acquire) == 1 ||
           atomic_fetch_sub_explicit(&op->refs, 1, memory_order_acq_rel) == 1;
}

void pier__op_unref(pier__op *op)
{
    if (is_constant(op) || !drop_reference(op)) {
        return;
    }
    assert(!op->linked && !op->listeners);
    if (op->cls->drop && pier__op_settled(op) && op->status >= 0) {
        op->cls->drop(op);
    }
    bool expected = !op->detached && (op->status == PIER_ECANCELLED || op->status == PIER_ECLOSED);
    if (op->status < 0 && !op->observed && op->on_loop && !expected) {
        tell_unobserved(op);
    }
    pier__seen_taken(op);
    if (op->cls->fini) {
        op->cls->fini(op);
    }
    if (op->on_loop && op->scope) {
        pier__scope_unref(op->scope);
    }
    if (op->status < 0 || op->stuck) {
        pier__free(op->err);
        pier__free(op->stuck);
    }
    pthread_mutex_destroy(&op->lock);
    if (op->cls->retire) {
        op->cls->retire(op);
    } else {
        pier__op_free(op);
    }
}

void pier__op_free(pier__op *op)
{
    pier_runner *runner = op->runner;
    pier__free(op);
    pier__runner_unref(runner);
}

/* ---- Settling ----------------------------------------------------------------------------- */

static const char *subject(const pier__op *op)
{
    const char *text = op->cls->subject ? op->cls->subject(op) : NULL;
    return text ? text : "";
}

void pier__op_trace_begin(pier__op *op)
{
    if (atomic_load_explicit(&pier__tracing, memory_order_relaxed)) {
        op->began = pier__now();
    }
}

static void trace_end(const pier__op *op)
{
    pier_trace trace = {
        .operation = op->cls->name,
        .subject = subject(op),
        .status = op->status,
        .duration_ns = pier__now() - op->began,
        .on_loop = op->on_loop,
    };
    pier__trace_end(&trace);
}

static void lock(pier__op *op)
{
    if (!op->apart) {
        pthread_mutex_lock(&op->lock);
    }
}

static void unlock(pier__op *op)
{
    if (!op->apart) {
        pthread_mutex_unlock(&op->lock);
    }
}

static void settle(pier__op *op)
{
    if (op->began) {
        trace_end(op);
    }
    if (!op->on_loop) {
        /* A thread steps it, so nobody else can listen yet. */
        atomic_store_explicit(&op->state, PIER__SETTLED, memory_order_release);
        return;
    }
    lock(op);
    atomic_store_explicit(&op->state, PIER__SETTLED, memory_order_release);
    pier__listener *listener = op->listeners;
    op->listeners = NULL;
    unlock(op);
    while (listener) {
        pier__listener *next = listener->next;
        listener->settled(listener, op);
        listener = next;
    }
}

void pier__op_succeed(pier__op *op, void *pointer)
{
    assert(!pier__op_settled(op));
    op->result.pointer = pointer;
    settle(op);
}

void pier__op_succeed_int(pier__op *op, int64_t integer)
{
    assert(!pier__op_settled(op));
    op->result.integer = integer;
    settle(op);
}

void pier__op_fail_with(pier__op *op, const pier_error *err)
{
    assert(!pier__op_settled(op));
    op->err = pier__malloc(sizeof *op->err);
    if (op->err) {
        *op->err = *err;
    }
    op->status = err->status < 0 ? err->status : PIER_EINVAL;
    settle(op);
}

void pier__op_fail(pier__op *op, int status, const char *format, ...)
{
    pier_error err;
    char message[sizeof err.message];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    const char *on = subject(op);
    pier_error_set(&err, status, "%s%s%.120s", message, *on ? ": " : "", on);
    pier__op_fail_with(op, &err);
}

void pier__op_cancelled_error(const pier__op *op, pier_error *err)
{
    if (op->cancelled == PIER_EDEADLOCK) {
        pier_error_set(err, PIER_EDEADLOCK, "%s: %s", op->cls->name, pier__deadlock_why(op));
        return;
    }
    const char *why = op->cancelled == PIER_ETIMEDOUT ? "the deadline passed"
                      : op->cancelled == PIER_ECLOSED ? "it was closed"
                      : op->cancelled == PIER_ENOMEM  ? "out of memory"
                                                      : "cancelled";
    const char *doing = op->doing ? op->doing : "waiting";
    const char *on = subject(op);
    pier_error_set(err, op->cancelled ? op->cancelled : PIER_ECANCELLED, "%s: %s while %s%s%.120s",
                   op->cls->name, why, doing, *on ? ": " : "", on);
}

void pier__op_fail_cancelled(pier__op *op)
{
    pier_error err;
    pier__op_cancelled_error(op, &err);
    pier__op_fail_with(op, &err);
}

void pier__op_fail_unstarted(pier__op *op, int status)
{
    pier_error err;
    op->cancelled = status;
    op->doing = "starting";
    pier__op_cancelled_error(op, &err);
    if (op->cls->unstarted) {
        op->cls->unstarted(op, &err);
    }
    pier__op_fail_with(op, &err);
}

pier__op *pier__op_refuse(pier__op *op, int status, const char *format, ...)
{
    pier_error err;
    va_list list;
    va_start(list, format);
    pier__error_setv(&err, status, format, list);
    va_end(list);
    if (op->cls->unstarted) {
        op->cls->unstarted(op, &err);
    }
    pier__op_fail_with(op, &err);
    return op;
}

/* ---- Listening ---------------------------------------------------------------------------- */

void pier__op_listen(pier__op *op, pier__listener *listener)
{
    lock(op);
    bool settled = pier__op_settled(op);
    if (!settled) {
        listener->next = op->listeners;
        op->listeners = listener;
    }
    unlock(op);
    if (settled) {
        listener->settled(listener, op);
    }
}

bool pier__op_unlisten(pier__op *op, pier__listener *listener)
{
    bool found = false;
    lock(op);
    for (pier__listener **at = &op->listeners; *at; at = &(*at)->next) {
        if (*at == listener) {
            *at = listener->next;
            found = true;
            break;
        }
    }
    unlock(op);
    return found;
}

/* ---- Mail and interruption ---------------------------------------------------------------- */

void pier__op_mail(pier__op *op, unsigned events)
{
    unsigned old = atomic_load(&op->mail);
    unsigned new_mail;
    do {
        new_mail = old | events | (old & PIER__MAIL_LOOP ? PIER__MAIL_QUEUED : 0);
    } while (!atomic_compare_exchange_weak(&op->mail, &old, new_mail));
    if (!(old & PIER__MAIL_LOOP)) {
        pier__unpark(op->parker);
        if (op->cls->unblock) {
            op->cls->unblock(op);
        }
    } else if (!(old & PIER__MAIL_QUEUED)) {
        pier__op_ref(op);
        if (!pier__loop_post(op->runner, &op->post)) {
            pier__op_unref(op);
        }
    }
}

void pier__op_wake(pier__op *op)
{
    pier__op_mail(op, PIER__WOKEN);
}

void pier__op_cancel(pier__op *op, int status)
{
    int expected = 0;
    if (!pier__op_settled(op) && !pier__runner_forked(op->runner) &&
        atomic_compare_exchange_strong(&op->cancel_wanted, &expected, status)) {
        pier__op_mail(op, PIER__MAIL_ASKED);
    }
}

int pier__op_interrupted(const pier__op *op)
{
    int status = atomic_load_explicit(&((pier__op *)op)->cancel_wanted, memory_order_relaxed);
    if (status || op->cls->shielded) {
        return status;
    }
    if (op->scope) {
        status = pier__scope_cancelled(op->scope);
        if (!status && op->deadline && pier__now() >= op->deadline) {
            status = PIER_ETIMEDOUT;
        }
        if (status || op->scope->shielded) {
            return status;
        }
    }
    bool closing = atomic_load_explicit(&op->runner->state, memory_order_acquire);
    return closing && !op->cls->joins ? PIER_ECLOSED : 0;
}

/* ---- Taking ------------------------------------------------------------------------------- */

static void copy_error(const pier__op *op, pier_error *err)
{
    if (!err) {
        return;
    }
    if (op->err) {
        *err = *op->err;
    } else if (op == &null_handle) {
        pier__error_null(err, "the handle");
    } else if (op == &forked) {
        pier_error_set(err, PIER_EFORKED,
                       "this process was forked after the runner was opened; open a new one here");
    } else if (op == &closed) {
        pier_error_set(err, PIER_ECLOSED, "the runner is closed");
    } else if (op->status == PIER_ENOMEM || op == &no_memory) {
        pier_error_set(err, PIER_ENOMEM, "%s: out of memory", op->cls->name);
    } else {
        pier_error_set(err, op->status, "%s failed; there was no memory for the particulars",
                       op->cls->name);
    }
}

/* Drops the user's reference. In a `then` callback the loop drops it, after the callback. */
static void drop_taken(pier__op *op)
{
    if (is_constant(op)) {
        return;
    }
    op->taken = true;
    pier__op_unref(op);
}

/* Makes the result of `future` ready to be taken. Otherwise drops it and gives a status. */
static int open_result(pier_future *future, const char *type, pier_error *err)
{
    if (!future) {
        return pier__error_null(err, "the future");
    }
    int status = 0;
    if (!pier__op_settled(future)) {
        status = pier__op_await(future, 0, err);
        if (status < 0) {
            /* A runner that closes cancels all by itself, and may be gone by now. */
            if (status != PIER_ECLOSED || pier__here.task) {
                pier_future_cancel(future);
            }
            drop_taken(future);
            return status;
        }
    }
    /* Within the library equal constants are one, so that strings are compared only on errors. */
    if (!is_constant(future) && future->cls->result != type && strcmp(future->cls->result, type)) {
        status = pier_error_set(err, PIER_EINVAL,
                                "the future of %s holds %s, not %s; use its own _finish",
                                future->cls->name, future->cls->result, type);
    } else if (future->status < 0) {
        if (!is_constant(future)) {
            future->observed = true;
        }
        copy_error(future, err);
        status = future == &null_handle && err ? err->status : future->status;
    } else {
        return 0;
    }
    drop_taken(future);
    return status;
}

void *pier__op_look_pointer(pier_future *future, const char *type, pier_error *err)
{
    return open_result(future, type, err) < 0 ? NULL : future->result.pointer;
}

void pier__op_taken(pier_future *future)
{
    drop_taken(future);
}

void *pier__op_take_pointer(pier_future *future, const char *type, pier_error *err)
{
    if (open_result(future, type, err) < 0) {
        return NULL;
    }
    void *pointer = future->result.pointer;
    future->result.pointer = NULL;
    drop_taken(future);
    return pointer;
}

int64_t pier__op_take_int64(pier_future *future, const char *type, pier_error *err)
{
    int status = open_result(future, type, err);
    if (status < 0) {
        return status;
    }
    int64_t integer = future->result.integer;
    if (future->cls->claim) {
        future->cls->claim(future);
    }
    drop_taken(future);
    return integer;
}

int pier__op_take_int(pier_future *future, const char *type, pier_error *err)
{
    return (int)pier__op_take_int64(future, type, err);
}

void pier__op_take_void(pier_future *future)
{
    if (future && open_result(future, "void", NULL) == 0) {
        drop_taken(future);
    }
}
