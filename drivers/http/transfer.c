/*
 * Transfers: what libcurl is told, and what it tells.
 *
 * The callbacks run inside libcurl, on the thread that steps the exchange. They may not call
 * libcurl's multi interface, and settle nothing: they record, and wake at most.
 */
#include "drivers/http/transfer.h"

#include "drivers/http/multi.h"
#include "drivers/http/redirect.h"
#include "sdk/clock.h"
#include "sdk/error.h"
#include <stdlib.h>
#include <string.h>

/* libcurl reads this much at once, into a buffer that it allocates for each transfer. Up to 64 KiB
 * malloc gives that for nothing; above, it would tidy up and cost a short request 1 us. For long
 * bodies, which a slot's last request announces, more is faster. */
enum { BUFFER_SIZE = 60 * 1024, BUFFER_SIZE_LARGE = 512 * 1024 };
/* Of a body that nobody wants, read this much to keep the connection. */
enum { DISCARD_MAX = 64 * 1024 };
/* ... and keep the beginning, to explain an error status. */
enum { DETAIL_MAX = 400 };
/* A body is reserved as its Content-Length says, up to this. */
enum { RESERVE_MAX = 8 * 1024 * 1024 };
/* An idle connection is not used again after so many seconds, as in aiohttp: many servers close
 * theirs soon after, and a request in that moment would fail. */
enum { IDLE_MAX_S = 15 };

/* ---- Callbacks ---------------------------------------------------------------------------- */

/* The final headers are there: says what becomes of the body. */
static void complete_head(pier__exchange *exchange)
{
    const pier_response *response = exchange->response;
    exchange->head_complete = true;
    exchange->op->doing = "reading the body";
    bool redirects = pier__redirect_is(response->status) &&
                     pier__header_store_find(&response->headers, "Location");
    bool fails = response->status >= 400 && !exchange->any_status;
    exchange->discards = redirects || fails;
    if (exchange->is_stream && !exchange->discards) {
        exchange->head_ready = true;
        pier__op_wake(exchange->op);
    }
}

static size_t on_header(char *line, size_t unit, size_t count, void *data)
{
    pier__exchange *exchange = ((pier__slot *)data)->exchange;
    size_t size = unit * count;
    if (exchange->head_complete) {
        return size; /* a trailer */
    }
    pier_response *response = exchange->response;
    if (pier__response_begin(response, line, size)) {
        return size;
    }
    if (size && (*line == '\r' || *line == '\n')) {
        if (response->status >= 200 || response->status == 101) {
            complete_head(exchange);
        }
        return size;
    }
    if (!pier__header_store_add(&response->headers, line, size)) {
        exchange->refusal = PIER__REFUSAL_HEADERS;
        return 0;
    }
    return size;
}

static size_t discard(pier__exchange *exchange, const char *text, size_t size)
{
    pier_response *response = exchange->response;
    size_t room = response->size < DETAIL_MAX ? DETAIL_MAX - response->size : 0;
    pier__response_append(response, text, size < room ? size : room);
    exchange->discarded += size;
    if (exchange->discarded > DISCARD_MAX) {
        exchange->refusal = PIER__REFUSAL_ENOUGH;
        return 0;
    }
    return size;
}

/* The first bytes of a whole body: makes room for all of it. */
static bool expect_body(pier__exchange *exchange)
{
    curl_off_t length = -1;
    curl_easy_getinfo(exchange->slot->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length < 0) {
        return true;
    }
    if (exchange->body_max >= 0 && length > exchange->body_max) {
        exchange->refusal = PIER__REFUSAL_BODY;
        return false;
    }
    if (!pier__response_reserve(exchange->response,
                                length > RESERVE_MAX ? RESERVE_MAX : (size_t)length)) {
        exchange->refusal = PIER__REFUSAL_MEMORY;
        return false;
    }
    return true;
}

static size_t collect(pier__exchange *exchange, const char *text, size_t size)
{
    pier_response *response = exchange->response;
    if (!response->body && !expect_body(exchange)) {
        return 0;
    }
    if (exchange->body_max >= 0 && size > (uint64_t)exchange->body_max - response->size) {
        exchange->refusal = PIER__REFUSAL_BODY;
        return 0;
    }
    if (!pier__response_append(response, text, size)) {
        exchange->refusal = PIER__REFUSAL_MEMORY;
        return 0;
    }
    return size;
}

static size_t on_body(char *text, size_t unit, size_t count, void *data)
{
    pier__exchange *exchange = ((pier__slot *)data)->exchange;
    size_t size = unit * count;
    if (exchange->discards) {
        return discard(exchange, text, size);
    }
    return exchange->sink ? exchange->sink(exchange, text, size) : collect(exchange, text, size);
}

static bool is_idempotent(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        if (!strcmp(method, methods[i])) {
            return true;
        }
    }
    return false;
}

/* Called before each sending. libcurl sends any method again when a kept connection turns out to
 * be closed; what may have been carried out must not be sent twice. */
static int on_send(void *data, char *server, char *local, int server_port, int local_port)
{
    (void)server, (void)local, (void)server_port, (void)local_port;
    pier__exchange *exchange = ((pier__slot *)data)->exchange;
    exchange->op->doing = "waiting for the answer";
    if (exchange->name.name) {
        exchange->slot->known_name[exchange->on_loop] = pier__name_id(exchange->name.name);
    }
    if (++exchange->sends > 1 && !is_idempotent(exchange->method)) {
        exchange->refusal = PIER__REFUSAL_RESEND;
        return CURL_PREREQFUNC_ABORT;
    }
    return CURL_PREREQFUNC_OK;
}

/* ---- Options ------------------------------------------------------------------------------ */

/* Stops at the first option that fails. */
#define SET(option, value)                                                                         \
    do {                                                                                           \
        if (!code) {                                                                               \
            code = curl_easy_setopt(easy, option, value);                                          \
        }                                                                                          \
    } while (0)

CURLcode pier__transfer_set_up(pier__slot *slot, const pier_http *http)
{
    CURL *easy = slot->easy;
    CURLcode code = CURLE_OK;
    SET(CURLOPT_PRIVATE, slot);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_ERRORBUFFER, slot->error);
    SET(CURLOPT_HEADERFUNCTION, on_header);
    SET(CURLOPT_HEADERDATA, slot);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_WRITEDATA, slot);
    SET(CURLOPT_PREREQFUNCTION, on_send);
    SET(CURLOPT_PREREQDATA, slot);
    SET(CURLOPT_NOPROGRESS, 1L);
    /* Only what has been asked for: nothing from the environment, no other protocol. */
    SET(CURLOPT_PROTOCOLS_STR, "http,https");
    SET(CURLOPT_FOLLOWLOCATION, 0L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_HTTPAUTH, (long)CURLAUTH_BASIC);
    /* A paused HTTP/2 stream would buffer up to 32 MB. */
    SET(CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    if (*http->ca_file) {
        /* A directory of certificates would switch off libcurl's cache of them: 16 ms for each
         * new connection. */
        SET(CURLOPT_CAINFO, http->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
    SET(CURLOPT_SHARE, http->share);
    /* Decode what comes; the header that asks for it is in the session's list, which costs libcurl
     * less than making it. */
    SET(CURLOPT_ACCEPT_ENCODING, "");
    SET(CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
    SET(CURLOPT_TCP_KEEPALIVE, 1L);
    SET(CURLOPT_MAXAGE_CONN, (long)IDLE_MAX_S);
    return code;
}

static CURLcode set_method(CURL *easy, const pier__exchange *exchange)
{
    CURLcode code = CURLE_OK;
    const char *method = exchange->method, *standard;
    if (exchange->body_kind != PIER__BODY_NONE) {
        standard = "POST";
        SET(CURLOPT_POST, 1L);
        SET(CURLOPT_POSTFIELDS, exchange->body ? exchange->body : "");
        SET(CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)exchange->body_size);
    } else if (!strcmp(method, "HEAD")) {
        standard = "HEAD";
        SET(CURLOPT_NOBODY, 1L);
    } else {
        standard = "GET";
        SET(CURLOPT_HTTPGET, 1L);
    }
    SET(CURLOPT_CUSTOMREQUEST, strcmp(method, standard) ? method : NULL);
    return code;
}

static long ms_until(int64_t moment)
{
    int64_t left = (moment - pier__now()) / 1000000;
    return left < 1 ? 1 : left > INT32_MAX ? INT32_MAX : (long)left;
}

static CURLcode set_times(CURL *easy, const pier__exchange *exchange)
{
    CURLcode code = CURLE_OK;
    int64_t connect_ms = exchange->http->connect_timeout_ms;
    if (connect_ms < 0 || connect_ms > INT32_MAX) {
        connect_ms = INT32_MAX; /* 0 would mean 300 s */
    }
    connect_ms -= exchange->lookup_ns / 1000000;
    SET(CURLOPT_CONNECTTIMEOUT_MS, connect_ms < 1 ? 1L : (long)connect_ms);
    /* Nobody waits for the end of a stream's transfer, so libcurl must. */
    bool bounded = exchange->is_stream && exchange->deadline;
    SET(CURLOPT_TIMEOUT_MS, bounded ? ms_until(exchange->deadline) : 0L);
    return code;
}

static CURLcode set_request(pier__exchange *exchange)
{
    pier__slot *slot = exchange->slot;
    CURL *easy = slot->easy;
    CURLcode code = set_method(easy, exchange);
    /* Of the two libcurl takes the parsed one, where there is one. */
    SET(CURLOPT_URL, exchange->url.text);
    SET(CURLOPT_CURLU, exchange->url.parsed);
    SET(CURLOPT_HTTPHEADER, exchange->headers);
    SET(CURLOPT_USERNAME, exchange->url.user);
    SET(CURLOPT_PASSWORD, exchange->url.password);
    /* Addresses stay in the multi. */
    pier__name *name = exchange->name.name;
    bool known = !name || slot->known_name[exchange->on_loop] == pier__name_id(name);
    SET(CURLOPT_RESOLVE, known ? NULL : pier__name_resolve_list(name));
    if (slot->closes_on_loop != exchange->on_loop) {
        SET(CURLOPT_CLOSESOCKETFUNCTION, exchange->on_loop ? pier__http_multi_close_socket : NULL);
        SET(CURLOPT_CLOSESOCKETDATA, exchange->on_loop ? exchange->http->multi : NULL);
        slot->closes_on_loop = exchange->on_loop;
    }
    /* libcurl reads up to 100 times in a row. A thread can afford that with the large buffer; on
     * the loop all others would wait, but a stream is paused long before. */
    bool large = exchange->is_stream || (slot->had_large && !exchange->on_loop);
    if (slot->reads_large != large) {
        SET(CURLOPT_BUFFERSIZE, large ? (long)BUFFER_SIZE_LARGE : (long)BUFFER_SIZE);
        slot->reads_large = large;
    }
    return code ? code : set_times(easy, exchange);
}

/* ---- Driving ------------------------------------------------------------------------------ */

static int fail_start(CURLcode code, pier_error *err)
{
    if (code == CURLE_OUT_OF_MEMORY) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for a request");
    }
    pier_error_set(err, PIER_EIO, "libcurl refused the request: %s", curl_easy_strerror(code));
    err->origin = PIER_ORIGIN_HTTP;
    err->native = (int)code;
    return PIER_EIO;
}

static void set_blocked_in(pier__exchange *exchange, CURLM *multi)
{
    pthread_mutex_lock(&exchange->op->lock);
    exchange->blocked_in = multi;
    pthread_mutex_unlock(&exchange->op->lock);
}

static void forget_response(pier__exchange *exchange)
{
    pier_response *response = exchange->response;
    response->size = 0;
    if (response->body) {
        response->body[0] = 0;
    }
    exchange->done = exchange->head_complete = exchange->discards = false;
    exchange->discarded = 0;
    exchange->refusal = PIER__REFUSAL_NONE;
    exchange->sends = 0;
    exchange->slot->error[0] = 0;
}

int pier__transfer_begin(pier__exchange *exchange, pier_error *err)
{
    pier__slot *slot = exchange->slot;
    slot->exchange = exchange;
    exchange->on_loop = exchange->op->on_loop;
    forget_response(exchange);
    if (exchange->on_loop ? !pier__http_multi_open_on_loop(exchange->http)
                          : !pier__slot_has_multi(slot)) {
        return fail_start(CURLE_OUT_OF_MEMORY, err);
    }
    CURLcode code = set_request(exchange);
    if (code) {
        return fail_start(code, err);
    }
    exchange->op->doing = "connecting";
    exchange->added = true;
    if (exchange->on_loop) {
        code = pier__http_multi_add_on_loop(exchange->http->multi, exchange);
    } else if (curl_multi_add_handle(slot->multi, slot->easy)) {
        code = CURLE_OUT_OF_MEMORY;
    } else {
        set_blocked_in(exchange, slot->multi);
    }
    exchange->added = exchange->added && !code;
    return code ? fail_start(code, err) : 0;
}

void pier__transfer_advance(pier__exchange *exchange)
{
    CURLM *multi = exchange->slot->multi;
    int running, left;
    CURLMcode code = curl_multi_perform(multi, &running);
    if (code) {
        exchange->code = CURLE_OUT_OF_MEMORY;
        exchange->done = true;
        return;
    }
    if (running) {
        return;
    }
    const CURLMsg *message = curl_multi_info_read(multi, &left);
    if (message && message->msg == CURLMSG_DONE) {
        exchange->code = message->data.result;
        exchange->done = true;
    }
}

void pier__transfer_end(pier__exchange *exchange)
{
    if (!exchange->added) {
        return;
    }
    exchange->added = false;
    if (exchange->on_loop) {
        pier__http_multi_remove_on_loop(exchange->http->multi, exchange);
    } else {
        set_blocked_in(exchange, NULL);
        curl_multi_remove_handle(exchange->slot->multi, exchange->slot->easy);
    }
}
