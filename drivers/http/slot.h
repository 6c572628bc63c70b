#ifndef PIER_DRIVERS_HTTP_SLOT_H
#define PIER_DRIVERS_HTTP_SLOT_H
/*
 * A slot: an easy handle that requests borrow from the session's pool, with a small multi of its
 * own for threads. Driven by the loop, the handle is in the session's shared multi instead, and so
 * are its connections.
 */
#include "drivers/http/session.h"

typedef struct pier__slot {
    pier__pooled pooled; /* first */
    CURL *easy;
    CURLM *multi;                     /* made for the first thread; kept */
    struct pier__exchange *exchange;  /* whose transfer it carries */
    bool closes_on_loop, reads_large; /* how the easy handle is set */
    bool had_large;                   /* the last body was a long one */
    uint64_t known_name[2]; /* by on_loop: whose addresses that multi has got from this slot */
    char error[CURL_ERROR_SIZE];
} pier__slot;

/* NULL: no memory. */
pier__slot *pier__slot_new(pier_http *http);
/* Closes its own connections. NULL is harmless. */
void pier__slot_free(pier__slot *slot);
/* Has its own multi made. False: no memory. */
bool pier__slot_has_multi(pier__slot *slot);

#endif
