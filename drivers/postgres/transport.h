#ifndef PIER_DRIVERS_POSTGRES_TRANSPORT_H
#define PIER_DRIVERS_POSTGRES_TRANSPORT_H
/*
 * The bytes of a session. libpq opens it, with all that belongs to that: addresses, TLS, passwords;
 * from then on its socket is read and written here, and libpq only cancels and ends it. What is to
 * be sent is collected in one buffer, what comes is read into another, from which rows are handed
 * over without being copied. Blocks only where that is said. Used by whoever has the connection's
 * turn.
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct pier__postgres_transport {
    int fd;
    void *ssl;      /* of libpq's, when the session is encrypted */
    bool may_block; /* the socket blocks, though not for long, unless a call says otherwise */
    bool local;     /* it is a unix socket */
    /* What came: bytes from `in_at` to `in_size` have not been looked at yet, those from `in_keep`
     * on must stay together, because rows in them are being collected. A byte more than `in_room`
     * is there. */
    char *in;
    size_t in_keep, in_at, in_size, in_room;
    size_t in_hint;  /* room for the next buffer */
    size_t in_total; /* bytes that have come, since its owner set it to 0 */
    /* What goes. */
    char *out;
    size_t out_sent, out_size, out_room;
    bool short_of_memory; /* why sending, or receiving, failed */
    char why[120];        /* it is broken, for messages */
} pier__postgres_transport;

typedef enum pier__postgres_came {
    PIER__CAME_NOTHING,
    PIER__CAME_SOME, /* and there may be more */
    PIER__CAME_ALL,  /* that was there */
    PIER__CAME_END   /* the session has ended, or there is no memory; `why` says so */
} pier__postgres_came;

/* Takes a session over that libpq has just opened. False: `why` says why not. */
bool pier__postgres_transport_open(pier__postgres_transport *transport, PGconn *pg);
/* Leaves the socket as libpq has made it, which ends the session next. Harmless where it was never
 * opened. */
void pier__postgres_transport_give_back(pier__postgres_transport *transport);
/* Frees what it holds; the socket stays libpq's. Harmless where it was never opened. */
void pier__postgres_transport_fini(pier__postgres_transport *transport);

/* Room for `size` bytes behind what is to be sent; the caller fills it. NULL: no memory, after
 * which nothing is sent any more. */
char *pier__postgres_transport_add(pier__postgres_transport *transport, size_t size);
/* Makes it unusable, as if there had been no memory. Gives NULL. */
char *pier__postgres_transport_refuse(pier__postgres_transport *transport);
/* Sends what it can. 1: some is left, 0: none, -1: it is broken. */
int pier__postgres_transport_flush(pier__postgres_transport *transport);
/* Reads what is there, as far as there is room; makes more for a message of `wanted` bytes, of
 * which some have come. */
pier__postgres_came pier__postgres_transport_receive(pier__postgres_transport *transport,
                                                     size_t wanted);
/* The same, but waits for something to come, for PIER__PARK_QUICK_MS at most. Needs `may_block`. */
pier__postgres_came pier__postgres_transport_await(pier__postgres_transport *transport,
                                                   size_t wanted);
/* Gives the buffer away, from `in_keep` to `in_at` with a zero byte behind it, and goes on with
 * another; the caller frees it. NULL: no memory, and nothing has changed. */
char *pier__postgres_transport_take(pier__postgres_transport *transport);
/* Says how much is to come into the next buffers. */
void pier__postgres_transport_expect(pier__postgres_transport *transport, size_t size);
/* After a request: gives back what a large one has needed. */
void pier__postgres_transport_rest(pier__postgres_transport *transport);

#endif
