/*
 * Name lookup on threads that own themselves. What a thread and the one who asked share is counted,
 * so that either may go first: getaddrinfo has no end that one could rely on.
 */
#include "sdk/resolve.h"

#include "sdk/alloc.h"
#include "sdk/runner.h"
#include <errno.h>
#include <string.h>

struct start {
    void (*fn)(void *arg);
    void *arg;
};

static void *run_detached(void *memory)
{
    struct start start = *(struct start *)memory;
    pier__free(memory);
    start.fn(start.arg);
    return NULL;
}

bool pier__thread_detached(const char *name, void (*fn)(void *arg), void *arg)
{
    struct start *start = pier__malloc(sizeof *start);
    if (!start) {
        return false;
    }
    start->fn = fn;
    start->arg = arg;
    pthread_t thread;
    if (pier__thread_start(&thread, name, run_detached, start)) {
        pier__free(start);
        return false;
    }
    pthread_detach(thread);
    return true;
}

struct pier__lookup {
    atomic_int refs; /* the asker's and the thread's */
    atomic_bool done;
    pthread_mutex_t lock;
    pier__op *op; /* guarded by lock; NULL once abandoned */
    char *host, *port;
    struct addrinfo *list;
    int rc, saved_errno;
};

static const struct addrinfo hints = {
    .ai_family = AF_UNSPEC,
    .ai_socktype = SOCK_STREAM,
    .ai_flags = AI_ADDRCONFIG,
};

static void unref_lookup(pier__lookup *lookup)
{
    if (atomic_fetch_sub(&lookup->refs, 1) == 1) {
        if (lookup->list) {
            freeaddrinfo(lookup->list);
        }
        pier__free(lookup->host);
        pier__free(lookup->port);
        pthread_mutex_destroy(&lookup->lock);
        pier__free(lookup);
    }
}

static void look_up(void *arg)
{
    pier__lookup *lookup = arg;
    lookup->rc = getaddrinfo(lookup->host, lookup->port, &hints, &lookup->list);
    lookup->saved_errno = errno;
    atomic_store(&lookup->done, true);
    pthread_mutex_lock(&lookup->lock);
    if (lookup->op) {
        pier__op_wake(lookup->op);
    }
    pthread_mutex_unlock(&lookup->lock);
    unref_lookup(lookup);
}

pier__lookup *pier__lookup_start(pier__op *op, const char *host, const char *port)
{
    pier__lookup *lookup = pier__calloc(1, sizeof *lookup);
    if (!lookup) {
        return NULL;
    }
    atomic_init(&lookup->refs, 1);
    pthread_mutex_init(&lookup->lock, NULL);
    lookup->op = op;
    lookup->host = pier__strdup(host);
    lookup->port = pier__strdup(port);
    if (!lookup->host || !lookup->port) {
        unref_lookup(lookup);
        return NULL;
    }
    struct addrinfo numeric = hints;
    numeric.ai_flags = AI_NUMERICHOST;
    if (getaddrinfo(host, port, &numeric, &lookup->list) == 0) {
        atomic_store(&lookup->done, true);
        return lookup;
    }
    atomic_fetch_add(&lookup->refs, 1);
    if (!pier__thread_detached("pier-lookup", look_up, lookup)) {
        atomic_fetch_sub(&lookup->refs, 1);
        unref_lookup(lookup);
        return NULL;
    }
    return lookup;
}

bool pier__lookup_done(pier__lookup *lookup)
{
    return atomic_load(&lookup->done);
}

const struct addrinfo *pier__lookup_result(pier__lookup *lookup, const char **why)
{
    if (lookup->rc) {
        *why = lookup->rc == EAI_SYSTEM ? strerror(lookup->saved_errno) : gai_strerror(lookup->rc);
        return NULL;
    }
    return lookup->list;
}

void pier__lookup_free(pier__lookup *lookup)
{
    if (lookup) {
        pthread_mutex_lock(&lookup->lock);
        lookup->op = NULL;
        pthread_mutex_unlock(&lookup->lock);
        unref_lookup(lookup);
    }
}
