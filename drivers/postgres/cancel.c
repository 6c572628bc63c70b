/*
 * A cancel request and its thread share a small struct; whoever lets go of it last frees it.
 *
 * PQcancel returns when the server has closed the connection of the request, which it does after
 * it has sent its signal. libpq 17 could do the same on the loop (PQcancelStart, which is encrypted
 * too); that is one more state machine with sockets of its own, and this one must stay for 14-16.
 */
#include "drivers/postgres/cancel.h"

#include "sdk/alloc.h"
#include "sdk/resolve.h"

struct pier__postgres_cancel {
    PGcancel *request;
    pthread_mutex_t lock;
    /* Guarded by lock. */
    pier__op *op; /* NULL once nobody waits for it */
    bool done;
    int holders;
};

static void let_go(pier__postgres_cancel *cancel)
{
    pthread_mutex_lock(&cancel->lock);
    bool last = --cancel->holders == 0;
    pthread_mutex_unlock(&cancel->lock);
    if (last) {
        PQfreeCancel(cancel->request);
        pthread_mutex_destroy(&cancel->lock);
        pier__free(cancel);
    }
}

static void run(void *arg)
{
    pier__postgres_cancel *cancel = arg;
    char reason[256];
    /* A request that failed changes nothing: whoever waits for the answer has a bound. */
    (void)PQcancel(cancel->request, reason, sizeof reason);
    pthread_mutex_lock(&cancel->lock);
    cancel->done = true;
    if (cancel->op) {
        /* Under the lock, so that it cannot end before it has been woken. */
        pier__op_wake(cancel->op);
    }
    pthread_mutex_unlock(&cancel->lock);
    let_go(cancel);
}

pier__postgres_cancel *pier__postgres_cancel_start(PGconn *pg, pier__op *op)
{
    pier__postgres_cancel *cancel = pier__calloc(1, sizeof *cancel);
    if (!cancel) {
        return NULL;
    }
    pthread_mutex_init(&cancel->lock, NULL);
    cancel->op = op;
    cancel->holders = 2;
    cancel->request = PQgetCancel(pg);
    if (!cancel->request || !pier__thread_detached("pier-cancel", run, cancel)) {
        cancel->holders = 1;
        let_go(cancel);
        return NULL;
    }
    return cancel;
}

bool pier__postgres_cancel_done(pier__postgres_cancel *cancel)
{
    pthread_mutex_lock(&cancel->lock);
    bool done = cancel->done;
    pthread_mutex_unlock(&cancel->lock);
    return done;
}

void pier__postgres_cancel_free(pier__postgres_cancel *cancel)
{
    if (cancel) {
        pthread_mutex_lock(&cancel->lock);
        cancel->op = NULL;
        pthread_mutex_unlock(&cancel->lock);
        let_go(cancel);
    }
}
