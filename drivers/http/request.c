/*
 * Requests with their whole body: what the caller asks for, read and checked, and the operations.
 */
#include "drivers/http/exchange.h"

#include "sdk/alloc.h"
#include "sdk/error.h"
#include "sdk/options.h"
#include "sync/ops.h"
#include <string.h>

/* ---- Reading what the caller asks for ----------------------------------------------------- */

static int read_method(pier__exchange *exchange, const char *method, pier_error *err)
{
    if (!method || !pier__header_is_token(method)) {
        return pier_error_set(err, PIER_EINVAL, "the method is %s; give one such as \"GET\"",
                              method ? "no word of letters" : "NULL");
    }
    size_t size = strlen(method) + 1;
    if (size > sizeof exchange->method) {
        return pier_error_set(err, PIER_EINVAL, "the method has more than %zu letters",
                              sizeof exchange->method - 1);
    }
    memcpy(exchange->method, method, size);
    return 0;
}

static pier__origin *take_last_origin(pier_http *http)
{
    pthread_mutex_lock(&http->lock);
    pier__origin *origin = pier__origin_ref(http->last_origin);
    pthread_mutex_unlock(&http->lock);
    return origin;
}

static void set_last_origin(pier_http *http, const pier__url *url)
{
    pier__origin *origin = pier__origin_new(url);
    pthread_mutex_lock(&http->lock);
    pier__origin *old = http->last_origin;
    http->last_origin = origin;
    pthread_mutex_unlock(&http->lock);
    pier__origin_unref(old);
}

/* Most requests of a session go to its base, or to where the one before went. */
static int read_url(pier__exchange *exchange, const char *text, const pier_pair *query,
                    pier_error *err)
{
    pier_http *http = exchange->http;
    pier__url *url = &exchange->url;
    if (!text) {
        return pier_error_set(err, PIER_EINVAL, "the URL is NULL");
    }
    int status = pier__url_make_quickly(url, http->base_origin, true, text, query, err);
    if (status == 0) {
        pier__origin *last = take_last_origin(http);
        status = pier__url_make_quickly(url, last, false, text, query, err);
        pier__origin_unref(last);
    }
    if (status == 0) {
        status = pier__url_make(url, http->base, text, query, err);
        if (status == 0) {
            set_last_origin(http, url);
        }
    }
    return status < 0 ? status : 0;
}

static bool sends_empty_body(const char *method)
{
    return !strcmp(method, "POST") || !strcmp(method, "PUT") || !strcmp(method, "PATCH");
}

static int read_body(pier__exchange *exchange, const pier_request_options *options, pier_error *err)
{
    if (options->json && (options->body || options->body_size)) {
        return pier_error_set(err, PIER_EINVAL, "both json and body are given; give one of them");
    }
    if (!options->body && options->body_size) {
        return pier_error_set(err, PIER_EINVAL, "body_size is given, but body is NULL");
    }
    if (options->json) {
        exchange->body_kind = PIER__BODY_JSON;
        exchange->body = options->json;
        exchange->body_size = strlen(options->json);
    } else if (options->body) {
        exchange->body_kind = PIER__BODY_BYTES;
        exchange->body = options->body;
        exchange->body_size = options->body_size;
    } else if (sends_empty_body(exchange->method)) {
        exchange->body_kind = PIER__BODY_EMPTY;
    }
    if (exchange->body_kind != PIER__BODY_NONE && !strcmp(exchange->method, "HEAD")) {
        return pier_error_set(err, PIER_EINVAL, "a HEAD request has no body");
    }
    return 0;
}

static int read_headers(pier__exchange *exchange, const pier_request_options *options,
                        pier_error *err)
{
    bool own =
        (options->headers && options->headers->name) || exchange->body_kind != PIER__BODY_NONE;
    exchange->headers = exchange->http->headers;
    if (!own) {
        return 0;
    }
    struct curl_slist *list;
    int status =
        pier__header_list(&list, exchange->headers, options->headers, exchange->body_kind, err);
    if (status == 0) {
        exchange->headers = list;
        exchange->owns_headers = true;
    }
    return status;
}

static int read_limits(pier__exchange *exchange, const pier_request_options *options,
                       pier_error *err)
{
    if (options->timeout_ms < PIER_FOREVER || options->body_max < PIER_NONE) {
        return pier_error_set(err, PIER_EINVAL, "timeout_ms or body_max is negative");
    }
    const pier_http *http = exchange->http;
    exchange->timeout_ms = options->timeout_ms ? options->timeout_ms : http->timeout_ms;
    exchange->body_max = options->body_max ? options->body_max : http->body_max;
    exchange->any_status = options->any_status;
    return 0;
}

int pier__exchange_init(pier__exchange *exchange, pier__op *op, pier_http *http, const char *method,
                        const char *url, const pier_request_options *given, pier_error *err)
{
    exchange->http = pier__http_ref(http);
    exchange->op = op;
    exchange->response = pier__response_new();
    if (!exchange->response) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for a request");
    }
    pier_request_options options = {.struct_size = 0};
    int status = pier__options_read(&options, sizeof options, given, "PIER_REQUEST_OPTIONS", err);
    if (status < 0 || (status = read_method(exchange, method, err)) < 0 ||
        (status = read_url(exchange, url, options.query, err)) < 0 ||
        (status = read_body(exchange, &options, err)) < 0 ||
        (status = read_headers(exchange, &options, err)) < 0) {
        return status;
    }
    return read_limits(exchange, &options, err);
}

bool pier__exchange_own(pier__exchange *exchange)
{
    if (!exchange->body_size || exchange->owns_body) {
        return true;
    }
    void *copy = pier__memdup(exchange->body, exchange->body_size);
    if (copy) {
        exchange->body = copy;
        exchange->owns_body = true;
    }
    return copy != NULL;
}

int pier__exchange_drop_headers(pier__exchange *exchange, bool (*drop)(const char *line),
                                pier_error *err)
{
    struct curl_slist *list;
    int status = pier__header_list_without(&list, exchange->headers, drop, err);
    if (status == 0) {
        if (exchange->owns_headers) {
            pier__free(exchange->headers);
        }
        exchange->headers = list;
        exchange->owns_headers = true;
    }
    return status;
}

void pier__exchange_fini(pier__exchange *exchange)
{
    if (exchange->owns_headers) {
        pier__free(exchange->headers);
    }
    if (exchange->owns_body) {
        pier__free((void *)exchange->body);
    }
    pier__url_fini(&exchange->url);
    pier_response_free(exchange->response);
    pier__http_unref(exchange->http);
}

/* ---- Operations --------------------------------------------------------------------------- */

typedef struct request_op {
    pier__op op; /* first */
    pier__exchange exchange;
} request_op;

static void request_step(pier__op *op, unsigned events)
{
    request_op *self = (request_op *)op;
    if (events & PIER__CANCEL) {
        pier__exchange_release(&self->exchange);
        pier__op_fail_cancelled(op);
        return;
    }
    pier_error err = {0};
    int status = pier__exchange_step(&self->exchange, events, &err);
    if (status < 0) {
        pier__op_fail_with(op, &err);
    } else if (status > 0) {
        pier_response *response = self->exchange.response;
        self->exchange.response = NULL;
        pier__op_succeed(op, response);
    }
}

static bool request_own(pier__op *op)
{
    return pier__exchange_own(&((request_op *)op)->exchange);
}

static void request_drop(pier__op *op)
{
    pier_response_free(op->result.pointer);
}

static void request_fini(pier__op *op)
{
    pier__exchange_fini(&((request_op *)op)->exchange);
}

static void request_block(pier__op *op, int timeout_ms)
{
    curl_multi_poll(((request_op *)op)->exchange.slot->multi, NULL, 0, timeout_ms, NULL);
}

static void request_unblock(pier__op *op)
{
    pthread_mutex_lock(&op->lock);
    CURLM *multi = ((request_op *)op)->exchange.blocked_in;
    if (multi) {
        curl_multi_wakeup(multi);
    }
    pthread_mutex_unlock(&op->lock);
}

static const char *request_subject(const pier__op *op)
{
    return pier__exchange_subject(&((request_op *)(pier__op *)op)->exchange);
}

#define REQUEST_CLASS(public_name)                                                                 \
    {                                                                                              \
        .name = (public_name), .result = "pier_response *", .size = sizeof(request_op),            \
        .step = request_step, .own = request_own, .drop = request_drop, .fini = request_fini,      \
        .block = request_block, .unblock = request_unblock, .subject = request_subject,            \
        .moving_subject = true,                                                                    \
    }

static const pier__op_class request_class = REQUEST_CLASS("pier_http_request");
static const pier__op_class get_class = REQUEST_CLASS("pier_http_get");
static const pier__op_class post_class = REQUEST_CLASS("pier_http_post");

static pier_future *make(const pier__op_class *cls, pier_http *http, const char *method,
                         const char *url, const pier_request_options *options)
{
    if (!http) {
        return pier__op_null();
    }
    pier__op *failed;
    request_op *self = pier__op_new(cls, http->runner, &failed);
    if (!self) {
        return failed;
    }
    pier_error err = {0};
    if (pier__exchange_init(&self->exchange, &self->op, http, method, url, options, &err) < 0) {
        pier__op_fail_with(&self->op, &err);
    }
    return &self->op;
}

pier_future *pier__http_request_op(pier_http *http, const char *method, const char *url,
                                   const pier_request_options *options)
{
    return make(&request_class, http, method, url, options);
}

pier_future *pier__http_get_op(pier_http *http, const char *url,
                               const pier_request_options *options)
{
    return make(&get_class, http, "GET", url, options);
}

pier_future *pier__http_post_op(pier_http *http, const char *url,
                                const pier_request_options *options)
{
    return make(&post_class, http, "POST", url, options);
}
