#ifndef PIER_DRIVERS_HTTP_NAMES_H
#define PIER_DRIVERS_HTTP_NAMES_H
/*
 * The session's lookups of names: one for all who want the same name now, kept for ten seconds.
 * libcurl is given the addresses and never looks up a name itself, because removing a transfer
 * would wait for that.
 */
#include "sdk/op.h"
#include "sdk/resolve.h"
#include <curl/curl.h>

typedef struct pier__name pier__name;

/* An operation that wants a name, and keeps it while a transfer uses it. */
typedef struct pier__name_user {
    struct pier__name_user *next;
    pier__op *op;
    pier__name *name; /* holds a reference; NULL: it wants none */
    bool queued;
} pier__name_user;

typedef struct pier__names {
    pthread_mutex_t lock;
    /* Guarded by lock. */
    pier__name *all; /* newest first */
    uint64_t last_id;
} pier__names;

void pier__names_init(pier__names *names);
/* Nobody uses one any more. */
void pier__names_fini(pier__names *names);

/* Asks for the addresses. 1: user->name has them. 0: wait to be woken, then pier__names_check. A
 * status: failed. */
int pier__names_ask(pier__names *names, pier__name_user *user, const char *host, const char *port,
                    pier_error *err);
int pier__names_check(pier__names *names, pier__name_user *user, pier_error *err);
/* Ends waiting or use. Harmless where there is none. */
void pier__names_leave(pier__names *names, pier__name_user *user);

/* What CURLOPT_RESOLVE takes; lives as long as the name is used. */
struct curl_slist *pier__name_resolve_list(pier__name *name);
/* Another number for each lookup, never 0. */
uint64_t pier__name_id(const pier__name *name);

#endif
