#ifndef PIER_DRIVERS_HTTP_EXCHANGE_H
#define PIER_DRIVERS_HTTP_EXCHANGE_H
/*
 * An exchange: one request with its redirects, until the final response has been received. It is
 * embedded in the operation of a whole request, or in a stream, and stepped by an operation.
 *
 * LOOKUP the name, ACQUIRE a slot, TRANSFER; a redirect goes back to LOOKUP and keeps the slot.
 */
#include "drivers/http/response.h"
#include "drivers/http/session.h"
#include "drivers/http/slot.h"

typedef struct pier__exchange pier__exchange;

typedef enum pier__exchange_phase {
    PIER__EXCHANGE_NEW,
    PIER__EXCHANGE_LOOKUP,
    PIER__EXCHANGE_ACQUIRE,
    PIER__EXCHANGE_TRANSFER,
    PIER__EXCHANGE_ENDED
} pier__exchange_phase;

/* Why a callback of ours ended a transfer. */
typedef enum pier__refusal {
    PIER__REFUSAL_NONE,
    PIER__REFUSAL_ENOUGH,  /* the rest of a body that nobody wants */
    PIER__REFUSAL_BODY,    /* more than body_max */
    PIER__REFUSAL_HEADERS, /* too many or too large */
    PIER__REFUSAL_MEMORY,
    PIER__REFUSAL_RESEND, /* libcurl wanted to send it once more */
    PIER__REFUSAL_CLOSED  /* the session is being closed */
} pier__refusal;

struct pier__exchange {
    pier_http *http; /* holds a reference; NULL: never set up */
    pier__op *op;    /* that steps it; NULL for a stream that has been handed out */
    pier__exchange_phase phase;

    /* The request: Immutable but for redirects. */
    char method[24];
    pier__url url;
    struct curl_slist *headers;
    bool owns_headers;
    pier__body_kind body_kind;
    const void *body; /* the caller's until `owns_body` */
    size_t body_size;
    bool owns_body;
    bool any_status;
    bool is_stream;
    int64_t body_max; /* -1: no bound */
    int64_t timeout_ms;
    int64_t deadline;
    int redirects;

    /* LOOKUP and ACQUIRE. */
    pier__name_user name;
    pier__ticket ticket;
    int64_t phase_until;
    int64_t lookup_start, lookup_ns; /* what it took is not left for connecting */

    /* TRANSFER. */
    pier__slot *slot;
    bool added;   /* the easy handle is in a multi */
    bool on_loop; /* in the shared one */
    bool done;    /* `code` says how the transfer ended */
    CURLcode code;
    pier__refusal refusal;
    int sends; /* how often this hop was sent */

    /* The response, as far as it has come. */
    pier_response *response;
    bool head_complete; /* of the final answer of this hop */
    bool discards;      /* the body is not what the caller asked for */
    bool head_ready;    /* it is: a stream can be handed out */
    size_t discarded;
    size_t (*sink)(pier__exchange *exchange, const char *data, size_t size);
    /* Streams: the transfer has ended after the stream was handed out. Loop thread. */
    void (*ended)(pier__exchange *exchange);

    /* Guarded by op->lock: the multi that pier__op_wake interrupts. */
    CURLM *blocked_in;
    /* Guarded by http->lock. */
    pier__exchange *prev, *next;
    bool linked;

    char subject[200]; /* "GET url", made when needed */
};

/* Reads and checks the request; 0 or a status. pier__exchange_fini ends it in any case. */
int pier__exchange_init(pier__exchange *exchange, pier__op *op, pier_http *http, const char *method,
                        const char *url, const pier_request_options *options, pier_error *err);
/* Copies the body. False: no memory. */
bool pier__exchange_own(pier__exchange *exchange);
/* Leaves out the headers for which `drop` holds. 0 or a status. */
int pier__exchange_drop_headers(pier__exchange *exchange, bool (*drop)(const char *line),
                                pier_error *err);
/* Releases everything; not while a transfer is under way. */
void pier__exchange_fini(pier__exchange *exchange);

/*
 * One step. 1: the response is complete. 0: op->wait says what for, or, for a stream, head_ready is
 * set. A status: failed. Unless it gives 0, slot and name are released.
 */
int pier__exchange_step(pier__exchange *exchange, unsigned events, pier_error *err);

/* Ends it wherever it stands and releases slot and name. Harmless when it has ended. */
void pier__exchange_release(pier__exchange *exchange);

/* "GET url", without secrets. */
const char *pier__exchange_subject(pier__exchange *exchange);
/* Writes why the transfer, which is done, failed; 0 when it did not. */
int pier__exchange_error(pier__exchange *exchange, pier_error *err);

#endif
