/*
 * A cancel request and its thread share a small struct; whoever lets go of it last frees it.
 *
 * The request ends when the server has closed its connection, which it does after it has sent its
 * signal. From libpq 17 on it goes to the same server in the same way as the session did, encrypted
 * where that is; before, in plain text, though with a secret that is of use for nothing else. libpq
 * 17 could also send it on the loop; that is one more state machine with sockets of its own, and
 * this one must stay for 14 to 16.
 */
#include "drivers/postgres/cancel.h"

#include "sdk/alloc.h"
#include "sdk/resolve.h"

#ifdef LIBPQ_HAS_ASYNC_CANCEL
typedef PGcancelConn request;

static request *new_request(PGconn *pg)
{
    return PQcancelCreate(pg);
}

static void run_request(request *of)
{
    (void)PQcancelBlocking(of);
}

static void free_request(request *of)
{
    PQcancelFinish(of);
}
#else
typedef PGcancel request;

static request *new_request(PGconn *pg)
{
    return PQgetCancel(pg);
}

static void run_request(request *of)
{
    char reason[256];
    (void)PQcancel(of, reason, sizeof reason);
}

static void free_request(request *of)
{
    PQfreeCancel(of);
}
#endif

struct pier__postgres_cancel {
    request *request;
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
        free_request(cancel->request);
        pthread_mutex_destroy(&cancel->lock);
        pier__free(cancel);
    }
}

static void run(void *arg)
{
    pier__postgres_cancel *cancel = arg;
    /* A request that failed changes nothing: whoever waits for the answer has a bound. */
    run_request(cancel->request);
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
    cancel->request = new_request(pg);
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
