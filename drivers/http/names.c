/*
 * Lookups of names. The first operation that wants a name leads: the lookup wakes it, and it tells
 * the others. When it leaves early, the next one leads and begins anew.
 */
#include "drivers/http/names.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* How long addresses are believed, as in aiohttp; how many names and addresses are kept. */
static const int64_t keep_ns = INT64_C(10) * 1000000000;
enum { NAMES_MAX = 256, ADDRESSES_MAX = 16 };

struct pier__name {
    /* Guarded by the lock of the names. */
    pier__name *next;
    int refs; /* users, and the list */
    bool listed;
    pier__lookup *lookup;
    pier__op *leader;
    pier__name_user *waiting;
    bool done;
    int64_t until;
    int status; /* negative where it has no addresses */
    char failure[160];
    /* Immutable when done. */
    struct curl_slist resolve;
    /* Immutable. */
    uint64_t id;
    const char *port;
    char host[];
};

void pier__names_init(pier__names *names)
{
    pthread_mutex_init(&names->lock, NULL);
    names->all = NULL;
    names->last_id = 0;
}

static void unref(pier__name *name)
{
    if (--name->refs == 0) {
        pier__lookup_free(name->lookup);
        pier__free(name->resolve.data);
        pier__free(name);
    }
}

/* Takes a name out of the list; those who use it keep it. */
static void unlist(pier__names *names, pier__name *name)
{
    if (!name->listed) {
        return;
    }
    name->listed = false;
    for (pier__name **at = &names->all; *at; at = &(*at)->next) {
        if (*at == name) {
            *at = name->next;
            break;
        }
    }
    unref(name);
}

void pier__names_fini(pier__names *names)
{
    while (names->all) {
        unlist(names, names->all);
    }
    pthread_mutex_destroy(&names->lock);
}

/* ---- Results ------------------------------------------------------------------------------ */

/* "host:port:[address],address"; NULL: no memory. */
static char *format_resolve(const pier__name *name, const struct addrinfo *addresses)
{
    size_t size = strlen(name->host) + 8 + ADDRESSES_MAX * (INET6_ADDRSTRLEN + 3);
    char *text = pier__malloc(size);
    if (!text) {
        return NULL;
    }
    size_t length = (size_t)snprintf(text, size, "%s:%s:", name->host, name->port);
    int count = 0;
    for (; addresses && count < ADDRESSES_MAX; addresses = addresses->ai_next) {
        char address[INET6_ADDRSTRLEN];
        bool six = addresses->ai_family == AF_INET6;
        const void *raw =
            six ? (const void *)&((struct sockaddr_in6 *)(void *)addresses->ai_addr)->sin6_addr
                : (const void *)&((struct sockaddr_in *)(void *)addresses->ai_addr)->sin_addr;
        if (inet_ntop(addresses->ai_family, raw, address, sizeof address)) {
            length += (size_t)snprintf(text + length, size - length, six ? "%s[%s]" : "%s%s",
                                       count ? "," : "", address);
            count++;
        }
    }
    return text;
}

/* The lookup has ended: keeps its result and tells all who wait. */
static void complete(pier__names *names, pier__name *name)
{
    const char *why = NULL;
    const struct addrinfo *addresses = pier__lookup_result(name->lookup, &why);
    name->status = PIER_ECONNECT;
    if (addresses) {
        name->resolve.data = format_resolve(name, addresses);
        name->status = name->resolve.data ? 0 : PIER_ENOMEM;
        why = "out of memory";
    }
    snprintf(name->failure, sizeof name->failure, "%s", why ? why : "no address");
    name->done = true;
    name->leader = NULL;
    name->until = pier__now() + keep_ns;
    pier__lookup_free(name->lookup);
    name->lookup = NULL;
    for (pier__name_user *user = name->waiting; user; user = user->next) {
        pier__op_wake(user->op);
    }
    if (name->status < 0) {
        unlist(names, name); /* a failure is not believed for later requests */
    }
}

static void stop_waiting(pier__name_user *user)
{
    if (!user->queued) {
        return;
    }
    user->queued = false;
    for (pier__name_user **at = &user->name->waiting; *at; at = &(*at)->next) {
        if (*at == user) {
            *at = user->next;
            return;
        }
    }
}

/* ---- Asking ------------------------------------------------------------------------------- */

/* Leads if nobody does; gives the state for `user`. */
static int look(pier__names *names, pier__name_user *user, pier_error *err)
{
    pier__name *name = user->name;
    if (!name->done && !name->leader) {
        name->leader = user->op;
        name->lookup = pier__lookup_start(user->op, name->host, name->port);
        if (!name->lookup) {
            name->leader = NULL;
            return pier_error_set(err, PIER_ENOMEM, "no memory or thread to look up %.100s",
                                  name->host);
        }
    }
    if (!name->done && name->leader == user->op && pier__lookup_done(name->lookup)) {
        complete(names, name);
    }
    if (!name->done) {
        return 0;
    }
    stop_waiting(user);
    if (name->status < 0) {
        return pier_error_set(err, name->status, "the name %.100s could not be looked up: %s",
                              name->host, name->failure);
    }
    return 1;
}

static pier__name *find(pier__names *names, const char *host, const char *port)
{
    int64_t now = pier__now();
    int count = 0;
    pier__name *found = NULL;
    for (pier__name *name = names->all, *next; name; name = next) {
        next = name->next;
        bool stale = name->done && now >= name->until;
        if (stale || (++count >= NAMES_MAX && name->done)) {
            unlist(names, name);
        } else if (!strcasecmp(name->host, host) && !strcmp(name->port, port)) {
            found = name;
        }
    }
    return found;
}

static pier__name *add(pier__names *names, const char *host, const char *port)
{
    size_t host_size = strlen(host) + 1, port_size = strlen(port) + 1;
    pier__name *name = pier__calloc(1, sizeof *name + host_size + port_size);
    if (!name) {
        return NULL;
    }
    memcpy(name->host, host, host_size);
    name->port = memcpy(name->host + host_size, port, port_size);
    name->id = ++names->last_id;
    name->refs = 1;
    name->listed = true;
    name->next = names->all;
    names->all = name;
    return name;
}

/* Ends waiting or use; whoever waits next leads where this one did. */
static void leave(pier__names *names, pier__name_user *user)
{
    pier__name *name = user->name;
    stop_waiting(user);
    if (!name->done && name->leader == user->op) {
        name->leader = NULL;
        pier__lookup_free(name->lookup);
        name->lookup = NULL;
        if (name->waiting) {
            pier__op_wake(name->waiting->op);
        }
    }
    if (!name->done && !name->waiting) {
        unlist(names, name);
    }
    user->name = NULL;
    unref(name);
}

int pier__names_ask(pier__names *names, pier__name_user *user, const char *host, const char *port,
                    pier_error *err)
{
    pthread_mutex_lock(&names->lock);
    pier__name *name = find(names, host, port);
    if (!name) {
        name = add(names, host, port);
    }
    int status = PIER_ENOMEM;
    if (name) {
        name->refs++;
        user->name = name;
        user->next = name->waiting;
        user->queued = true;
        name->waiting = user;
        status = look(names, user, err);
        if (status < 0) {
            leave(names, user);
        }
    } else {
        pier_error_set(err, PIER_ENOMEM, "out of memory to look up a name");
    }
    pthread_mutex_unlock(&names->lock);
    return status;
}

int pier__names_check(pier__names *names, pier__name_user *user, pier_error *err)
{
    pthread_mutex_lock(&names->lock);
    int status = look(names, user, err);
    if (status < 0) {
        leave(names, user);
    }
    pthread_mutex_unlock(&names->lock);
    return status;
}

void pier__names_leave(pier__names *names, pier__name_user *user)
{
    if (!user->name) {
        return;
    }
    pthread_mutex_lock(&names->lock);
    leave(names, user);
    pthread_mutex_unlock(&names->lock);
}

struct curl_slist *pier__name_resolve_list(pier__name *name)
{
    return &name->resolve;
}

uint64_t pier__name_id(const pier__name *name)
{
    return name->id;
}
