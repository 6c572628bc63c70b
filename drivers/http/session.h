#ifndef PIER_DRIVERS_HTTP_SESSION_H
#define PIER_DRIVERS_HTTP_SESSION_H
/*
 * A session: options, the pool of slots, the names looked up, and the requests under way.
 */
#include "drivers/http/names.h"
#include "drivers/http/url.h"
#include "sdk/handle.h"
#include "sdk/pool.h"

struct pier__exchange;
struct pier__http_multi;

struct pier_http {
    pier__handle handle;
    atomic_int refs;    /* the user, each exchange and each stream */
    void *close_memory; /* memory for the operation that closes it, which must not fail */

    /* Immutable after open. */
    pier_runner *runner; /* may be gone when the last future that holds the session is freed */
    unsigned fork_generation;
    CURLU *base;                /* NULL: none */
    pier__origin *base_origin;  /* may be NULL, like the next */
    struct curl_slist *headers; /* one piece of memory; NULL: none */
    int64_t timeout_ms, connect_timeout_ms;
    int64_t body_max; /* -1: no bound */
    char *ca_file;    /* "": as libcurl finds them */

    /* Locked by themselves. */
    CURLSH *share; /* TLS sessions */
    pthread_mutex_t share_lock;
    pier__pool pool;
    pier__names names;
    atomic_bool closing;

    /* Guarded by lock. */
    pthread_mutex_t lock;
    struct pier__exchange *exchanges; /* all that are under way */
    pier__op *closer;                 /* woken when the last of them has ended */
    pier__origin *last_origin;        /* of an absolute URL that was asked for lately */

    /* Loop thread. */
    struct pier__http_multi *multi;
};

pier_http *pier__http_ref(pier_http *http);
void pier__http_unref(pier_http *http);

/* In drivers/registry.c's list: libcurl's own set-up. 0 or a status. */
int pier__http_init(void);

#endif
