/*
 * Signals that cancel scopes. The handler walks a fixed table of atomic words, so that it needs no
 * lock; a scope leaves the table before it is freed, and waits for handlers that are in it.
 */
#include "sdk/scope.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

enum { LISTENERS_MAX = 64 };

static _Atomic(pier_scope *) table[LISTENERS_MAX];
static atomic_int handlers_inside;

/* Guarded by lock: which signals are taken over, and what was there before. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users[NSIG];
static struct sigaction before[NSIG];

static void on_signal(int number)
{
    int saved = errno;
    atomic_fetch_add(&handlers_inside, 1);
    for (int i = 0; i < LISTENERS_MAX; i++) {
        pier_scope *scope = atomic_load(&table[i]);
        if (scope && scope->signal == number) {
            pier_scope_cancel(scope);
        }
    }
    atomic_fetch_sub(&handlers_inside, 1);
    errno = saved;
}

/* Without SA_RESTART: the thread that takes the signal shall leave its poll at once. */
static int take_over(int number)
{
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    return sigaction(number, &action, &before[number]);
}

/* A scope that has left the table may still be in the hands of a handler on another thread. */
static void await_handlers(void)
{
    while (atomic_load(&handlers_inside)) {
        sched_yield();
    }
}

int pier__signal_listen(pier_scope *scope, int number, pier_error *err)
{
    if (number <= 0 || number >= NSIG) {
        return pier_error_set(err, PIER_EINVAL, "pier_scope_open: %d is no signal", number);
    }
    int status = 0;
    pthread_mutex_lock(&lock);
    int slot = 0;
    while (slot < LISTENERS_MAX && atomic_load(&table[slot])) {
        slot++;
    }
    if (slot == LISTENERS_MAX) {
        status = pier_error_set(
            err, PIER_EBUSY, "pier_scope_open: %d scopes listen to signals already", LISTENERS_MAX);
    } else {
        /* First: a signal that our handler takes finds the scope. */
        scope->signal = number;
        atomic_store(&table[slot], scope);
        if (users[number] == 0 && take_over(number)) {
            status = pier__error_system(err, PIER_EINVAL, errno,
                                        "pier_scope_open: signal %d cannot be handled", number);
            atomic_store(&table[slot], NULL);
        } else {
            users[number]++;
        }
    }
    pthread_mutex_unlock(&lock);
    if (status < 0) {
        await_handlers();
        scope->signal = 0; /* it does not listen */
    }
    return status;
}

void pier__signal_unlisten(pier_scope *scope)
{
    pthread_mutex_lock(&lock);
    /* Last out of the table: whoever takes a signal meanwhile has something to do for it. */
    if (--users[scope->signal] == 0) {
        sigaction(scope->signal, &before[scope->signal], NULL);
    }
    for (int i = 0; i < LISTENERS_MAX; i++) {
        if (atomic_load(&table[i]) == scope) {
            atomic_store(&table[i], NULL);
        }
    }
    pthread_mutex_unlock(&lock);
    await_handlers();
}
