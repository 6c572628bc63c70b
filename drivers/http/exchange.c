/*
 * Exchanges: the state machine of a request and its redirects.
 */
#include "drivers/http/exchange.h"

#include "drivers/http/error.h"
#include "drivers/http/redirect.h"
#include "drivers/http/transfer.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/error.h"
#include <stdio.h>
#include <string.h>

/* What a phase gives: negative is a status. */
enum { WAIT = 0, COMPLETE = 1, NEXT = 2 };

/* ---- The session's list ------------------------------------------------------------------- */

static bool link_exchange(pier__exchange *exchange)
{
    pier_http *http = exchange->http;
    pthread_mutex_lock(&http->lock);
    bool open = !atomic_load_explicit(&http->closing, memory_order_relaxed);
    if (open) {
        exchange->linked = true;
        exchange->prev = NULL;
        exchange->next = http->exchanges;
        if (exchange->next) {
            exchange->next->prev = exchange;
        }
        http->exchanges = exchange;
    }
    pthread_mutex_unlock(&http->lock);
    return open;
}

static void unlink_exchange(pier__exchange *exchange)
{
    pier_http *http = exchange->http;
    if (!exchange->linked) {
        return;
    }
    pthread_mutex_lock(&http->lock);
    exchange->linked = false;
    *(exchange->prev ? &exchange->prev->next : &http->exchanges) = exchange->next;
    if (exchange->next) {
        exchange->next->prev = exchange->prev;
    }
    if (!http->exchanges && http->closer) {
        pier__op_wake(http->closer);
    }
    pthread_mutex_unlock(&http->lock);
}

/* ---- Messages ----------------------------------------------------------------------------- */

const char *pier__exchange_subject(pier__exchange *exchange)
{
    int length = snprintf(exchange->subject, sizeof exchange->subject, "%s ", exchange->method);
    /* The URL that answered belongs to the response. */
    const char *url = exchange->url.text   ? exchange->url.text
                      : exchange->response ? exchange->response->url
                                           : NULL;
    if (url) {
        pier__url_mask(exchange->subject + length, sizeof exchange->subject - (size_t)length, url);
    }
    return exchange->subject;
}

static int fail_refused(pier__exchange *exchange, pier_error *err)
{
    if (exchange->refusal == PIER__REFUSAL_NONE || exchange->refusal == PIER__REFUSAL_ENOUGH) {
        return 0;
    }
    const char *subject = pier__exchange_subject(exchange);
    switch (exchange->refusal) {
    case PIER__REFUSAL_BODY:
        return pier_error_set(err, PIER_ERANGE,
                              "%s: the body has more than %lld bytes; raise body_max, or read it "
                              "with pier_http_stream",
                              subject, (long long)exchange->body_max);
    case PIER__REFUSAL_HEADERS:
        return pier_error_set(err, PIER_EPROTOCOL,
                              "%s: the answer has more than %d headers or %d bytes of them, or one "
                              "that is malformed",
                              subject, PIER__HEADERS_MAX, PIER__HEADERS_SIZE_MAX);
    case PIER__REFUSAL_MEMORY:
        return pier_error_set(err, PIER_ENOMEM, "%s: out of memory for the answer", subject);
    case PIER__REFUSAL_RESEND:
        return pier_error_set(
            err, PIER_EIO,
            "%s: the kept connection was closed before an answer came; it was not "
            "sent again, since it may have been carried out",
            subject);
    case PIER__REFUSAL_CLOSED:
        return pier_error_set(err, PIER_ECLOSED, "%s: the session was closed", subject);
    case PIER__REFUSAL_NONE:
    case PIER__REFUSAL_ENOUGH:
    default:
        return 0;
    }
}

static int fail_closed(pier__exchange *exchange, pier_error *err)
{
    exchange->refusal = PIER__REFUSAL_CLOSED;
    return fail_refused(exchange, err);
}

int pier__exchange_error(pier__exchange *exchange, pier_error *err)
{
    int status = fail_refused(exchange, err);
    if (status < 0 || !exchange->code || exchange->refusal == PIER__REFUSAL_ENOUGH) {
        return status;
    }
    return pier__http_error(err, exchange->code, pier__exchange_subject(exchange),
                            exchange->slot ? exchange->slot->error : "");
}

/* The beginning of the body tells more than the status; control characters stay out. */
static void add_detail(pier_error *err, const pier_response *response)
{
    char *text = response->body;
    if (!err || !text || pier__header_store_find(&response->headers, "Content-Encoding")) {
        return;
    }
    for (char *at = text; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 127) {
            *at = ' ';
        }
    }
    pier__error_add_field(err, PIER_FIELD_DETAIL, text);
}

static int fail_status(pier__exchange *exchange, pier_error *err)
{
    const pier_response *response = exchange->response;
    const char *reason = pier__response_reason(response);
    int status =
        pier_error_set(err, PIER_EHTTP_STATUS, "%s: %d%s%s", pier__exchange_subject(exchange),
                       response->status, *reason ? " " : "", reason);
    if (err) {
        err->http_status = response->status;
    }
    add_detail(err, response);
    return status;
}

static int fail_timeout(pier__exchange *exchange, pier_error *err)
{
    return pier_error_set(err, PIER_ETIMEDOUT, "%s: %lld ms passed while %s",
                          pier__exchange_subject(exchange), (long long)exchange->timeout_ms,
                          exchange->op->doing ? exchange->op->doing : "starting");
}

/* ---- Phases ------------------------------------------------------------------------------- */

static int wait_for(pier__exchange *exchange, pier__wait_kind kind, int64_t phase_until)
{
    exchange->op->wait.kind = kind;
    exchange->op->wait.until = pier__earlier(exchange->deadline, phase_until);
    return WAIT;
}

static void enter(pier__exchange *exchange, pier__exchange_phase phase)
{
    exchange->phase = phase;
    exchange->phase_until = 0;
    if (phase == PIER__EXCHANGE_LOOKUP) {
        exchange->lookup_ns = 0;
    }
}

static int start(pier__exchange *exchange, pier_error *err)
{
    exchange->deadline = pier__deadline(exchange->timeout_ms, 0);
    if (!link_exchange(exchange)) {
        return fail_closed(exchange, err);
    }
    enter(exchange, PIER__EXCHANGE_LOOKUP);
    return NEXT;
}

static int lookup(pier__exchange *exchange, pier_error *err)
{
    const pier__url *url = &exchange->url;
    pier__name_user *user = &exchange->name;
    pier__names *names = &exchange->http->names;
    if (url->numeric) {
        enter(exchange, PIER__EXCHANGE_ACQUIRE);
        return NEXT;
    }
    int status;
    if (user->name) {
        status = pier__names_check(names, user, err);
        exchange->lookup_ns = pier__now() - exchange->lookup_start;
    } else {
        user->op = exchange->op;
        exchange->op->doing = "looking up the name";
        exchange->lookup_start = pier__now();
        exchange->phase_until = pier__deadline(exchange->http->connect_timeout_ms, 0);
        status = pier__names_ask(names, user, url->host, url->port, err);
    }
    if (status == 0) {
        return wait_for(exchange, PIER__WAIT_WAKE, exchange->phase_until);
    }
    if (status < 0) {
        char reason[200];
        snprintf(reason, sizeof reason, "%.199s", err ? err->message : "");
        return pier_error_set(err, status, "%s: %s", pier__exchange_subject(exchange), reason);
    }
    enter(exchange, PIER__EXCHANGE_ACQUIRE);
    return NEXT;
}

static int make_slot(pier__exchange *exchange, pier_error *err)
{
    pier_http *http = exchange->http;
    exchange->slot = pier__slot_new(http);
    if (!exchange->slot) {
        pier__pool_lost(&http->pool, NULL);
        return pier_error_set(err, PIER_ENOMEM, "out of memory for a connection");
    }
    pier__pool_made(&http->pool, &exchange->slot->pooled);
    return NEXT;
}

/* What the pool has given, or allows: takes it. */
static int take_slot(pier__exchange *exchange, pier_error *err)
{
    enter(exchange, PIER__EXCHANGE_TRANSFER);
    if (exchange->ticket.got) {
        exchange->slot = (pier__slot *)exchange->ticket.got;
        return NEXT;
    }
    return make_slot(exchange, err);
}

static int acquire(pier__exchange *exchange, pier_error *err)
{
    pier__pool *pool = &exchange->http->pool;
    pier__ticket *ticket = &exchange->ticket;
    if (exchange->slot) { /* kept through a redirect */
        enter(exchange, PIER__EXCHANGE_TRANSFER);
        return NEXT;
    }
    if (ticket->op) {
        /* Woken, but not always by the pool. */
        if (pier__pool_is_queued(pool, ticket)) {
            return wait_for(exchange, PIER__WAIT_WAKE, exchange->phase_until);
        }
        return ticket->closed ? fail_closed(exchange, err) : take_slot(exchange, err);
    }
    ticket->op = exchange->op;
    switch (pier__pool_take(pool, ticket)) {
    case PIER__POOL_GOT:
    case PIER__POOL_MAKE:
        return take_slot(exchange, err);
    case PIER__POOL_WAIT:
        exchange->op->doing = "waiting for other requests of the session to end";
        exchange->phase_until = pier__deadline(exchange->http->connect_timeout_ms, 0);
        return wait_for(exchange, PIER__WAIT_WAKE, exchange->phase_until);
    case PIER__POOL_CLOSED:
    case PIER__POOL_SELF:
    default:
        ticket->op = NULL;
        return fail_closed(exchange, err);
    }
}

/* Changes the request into the one that follows from a redirect. */
static int redirect(pier__exchange *exchange, pier_error *err)
{
    const pier_response *response = exchange->response;
    if (++exchange->redirects > PIER__REDIRECTS_MAX) {
        return pier_error_set(err, PIER_EPROTOCOL, "%s: redirected more than %d times",
                              pier__exchange_subject(exchange), PIER__REDIRECTS_MAX);
    }
    bool other_origin = false, drops_body = false;
    const char *location = pier__header_store_find(&response->headers, "Location");
    int status = pier__redirect_follow(&exchange->url, location, &other_origin, err);
    if (status < 0) {
        return status;
    }
    if (pier__redirect_becomes_get(response->status, exchange->method)) {
        drops_body = exchange->body_kind != PIER__BODY_NONE;
        exchange->body_kind = PIER__BODY_NONE;
        snprintf(exchange->method, sizeof exchange->method, "GET");
    }
    if (drops_body) {
        status = pier__exchange_drop_headers(exchange, pier__redirect_is_of_body, err);
    }
    if (other_origin && status >= 0) {
        status = pier__exchange_drop_headers(exchange, pier__redirect_is_secret, err);
    }
    pier__names_leave(&exchange->http->names, &exchange->name);
    exchange->done = false;
    enter(exchange, PIER__EXCHANGE_LOOKUP);
    return status < 0 ? status : NEXT;
}

/* The transfer of a hop has ended. */
static int finish_hop(pier__exchange *exchange, pier_error *err)
{
    pier__transfer_end(exchange);
    int status = pier__exchange_error(exchange, err);
    if (status < 0) {
        return status;
    }
    if (!exchange->discards) {
        exchange->slot->had_large = exchange->response->size >= PIER__BODY_LARGE;
        exchange->response->url = exchange->url.text;
        exchange->url.text = NULL;
        return COMPLETE;
    }
    if (exchange->response->status >= 400) {
        return fail_status(exchange, err);
    }
    return redirect(exchange, err);
}

static int transfer(pier__exchange *exchange, pier_error *err)
{
    if (!exchange->added && !exchange->done) {
        int status = pier__transfer_begin(exchange, err);
        if (status < 0) {
            return status;
        }
    }
    if (exchange->added && !exchange->on_loop) {
        pier__transfer_advance(exchange);
    }
    if (exchange->done) {
        return finish_hop(exchange, err);
    }
    return wait_for(exchange, exchange->on_loop ? PIER__WAIT_WAKE : PIER__WAIT_BLOCK, 0);
}

/* ---- Stepping ----------------------------------------------------------------------------- */

static int expire(pier__exchange *exchange, pier_error *err)
{
    int64_t now = pier__now();
    if (exchange->deadline && now >= exchange->deadline) {
        return fail_timeout(exchange, err);
    }
    if (!exchange->phase_until || now < exchange->phase_until) {
        return 0;
    }
    int64_t ms = exchange->http->connect_timeout_ms;
    if (exchange->phase == PIER__EXCHANGE_ACQUIRE) {
        return pier_error_set(err, PIER_EPOOL,
                              "%s: %lld ms passed while %d other requests of the session went on; "
                              "raise limit",
                              pier__exchange_subject(exchange), (long long)ms,
                              exchange->http->pool.max);
    }
    return pier_error_set(err, PIER_ETIMEDOUT, "%s: %lld ms passed while looking up the name",
                          pier__exchange_subject(exchange), (long long)ms);
}

static int step(pier__exchange *exchange, unsigned events, pier_error *err)
{
    if (exchange->phase != PIER__EXCHANGE_NEW &&
        atomic_load_explicit(&exchange->http->closing, memory_order_relaxed)) {
        return fail_closed(exchange, err);
    }
    /* What is complete is not late. */
    int status = events & PIER__EXPIRED && !exchange->done ? expire(exchange, err) : 0;
    if (status < 0) {
        return status;
    }
    static int (*const phases[])(pier__exchange *, pier_error *) = {
        [PIER__EXCHANGE_NEW] = start,
        [PIER__EXCHANGE_LOOKUP] = lookup,
        [PIER__EXCHANGE_ACQUIRE] = acquire,
        [PIER__EXCHANGE_TRANSFER] = transfer,
    };
    do {
        status = phases[exchange->phase](exchange, err);
    } while (status == NEXT);
    return status;
}

int pier__exchange_step(pier__exchange *exchange, unsigned events, pier_error *err)
{
    int status = step(exchange, events, err);
    if (status != WAIT) {
        pier__exchange_release(exchange);
    }
    return status;
}

static void give_slot(pier_http *http, pier__slot *slot)
{
    if (!pier__pool_give(&http->pool, &slot->pooled)) {
        pier__pool_lost(&http->pool, &slot->pooled);
        pier__slot_free(slot);
    }
}

/* Gives up a place in the queue, or what it has led to already. */
static void leave_pool(pier__exchange *exchange)
{
    pier_http *http = exchange->http;
    pier__ticket *ticket = &exchange->ticket;
    if (ticket->op && !pier__pool_leave(&http->pool, ticket)) {
        if (ticket->got) {
            give_slot(http, (pier__slot *)ticket->got);
        } else {
            pier__pool_lost(&http->pool, NULL);
        }
    }
}

void pier__exchange_release(pier__exchange *exchange)
{
    if (exchange->phase == PIER__EXCHANGE_ENDED || exchange->phase == PIER__EXCHANGE_NEW) {
        return;
    }
    pier__transfer_end(exchange);
    if (exchange->phase == PIER__EXCHANGE_ACQUIRE && !exchange->slot) {
        leave_pool(exchange);
    }
    if (exchange->slot) {
        pier__slot *slot = exchange->slot;
        exchange->slot = NULL;
        slot->exchange = NULL;
        slot->pooled.on_loop = exchange->on_loop;
        give_slot(exchange->http, slot);
    }
    pier__names_leave(&exchange->http->names, &exchange->name);
    exchange->phase = PIER__EXCHANGE_ENDED;
    /* Last: closing the session waits for it, and for all that was given back before. */
    unlink_exchange(exchange);
}
