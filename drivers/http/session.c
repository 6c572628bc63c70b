/*
 * Sessions: opening with their options, and closing with all that is under way.
 */
#include "drivers/http/session.h"

#include "drivers/http/exchange.h"
#include "drivers/http/multi.h"
#include "sdk/alloc.h"
#include "sdk/error.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <string.h>
#include <unistd.h>

enum { LIMIT = 100, TIMEOUT_MS = 300000, CONNECT_TIMEOUT_MS = 30000, BODY_MAX = 64 * 1024 * 1024 };

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number
#define USER_AGENT                                                                                 \
    "pier/" TEXT(PIER_VERSION_MAJOR) "." TEXT(PIER_VERSION_MINOR) "." TEXT(PIER_VERSION_PATCH)

int pier__http_init(void)
{
    return curl_global_init(CURL_GLOBAL_DEFAULT) ? PIER_EIO : 0;
}

/* ---- What its handles share --------------------------------------------------------------- */

static void lock_share(CURL *easy, curl_lock_data what, curl_lock_access access, void *data)
{
    (void)easy, (void)what, (void)access;
    pthread_mutex_lock(&((pier_http *)data)->share_lock);
}

static void unlock_share(CURL *easy, curl_lock_data what, void *data)
{
    (void)easy, (void)what;
    pthread_mutex_unlock(&((pier_http *)data)->share_lock);
}

/* TLS sessions alone: sharing connections between threads is broken in libcurl, and names are
 * looked up here. */
static bool make_share(pier_http *http)
{
    http->share = curl_share_init();
    return http->share && !curl_share_setopt(http->share, CURLSHOPT_LOCKFUNC, lock_share) &&
           !curl_share_setopt(http->share, CURLSHOPT_UNLOCKFUNC, unlock_share) &&
           !curl_share_setopt(http->share, CURLSHOPT_USERDATA, http) &&
           !curl_share_setopt(http->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
}

/* The system's certificates in one file; NULL: not found, so libcurl's own way is left to it. */
static const char *system_certificates(void)
{
    static const char *const files[] = {"/etc/ssl/certs/ca-certificates.crt",
                                        "/etc/pki/tls/certs/ca-bundle.crt",
                                        "/etc/ssl/ca-bundle.pem", "/etc/ssl/cert.pem"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        if (access(files[i], R_OK) == 0) {
            return files[i];
        }
    }
    return NULL;
}

typedef struct close_op {
    pier__op op;     /* first */
    pier_http *http; /* holds the user's reference */
    bool multi_closing;
} close_op;

/* ---- Life --------------------------------------------------------------------------------- */

static void free_session(pier_http *http)
{
    /* In a forked child libcurl's handles are the parent's: only memory of our own is freed. */
    if (http->fork_generation == pier__fork_generation) {
        curl_url_cleanup(http->base);
        pier__origin_unref(http->base_origin);
        pier__origin_unref(http->last_origin);
        curl_share_cleanup(http->share);
    }
    pier__names_fini(&http->names);
    pier__pool_fini(&http->pool);
    pthread_mutex_destroy(&http->share_lock);
    pthread_mutex_destroy(&http->lock);
    pier__free(http->headers);
    pier__free(http->ca_file);
    pier__free(http->close_memory);
    pier__free(http);
}

pier_http *pier__http_ref(pier_http *http)
{
    atomic_fetch_add_explicit(&http->refs, 1, memory_order_relaxed);
    return http;
}

void pier__http_unref(pier_http *http)
{
    if (http && atomic_fetch_sub_explicit(&http->refs, 1, memory_order_acq_rel) == 1) {
        free_session(http);
    }
}

static int check_numbers(const pier_http_options *options, pier_error *err)
{
    if (options->limit < 0 || options->timeout_ms < PIER_FOREVER ||
        options->connect_timeout_ms < PIER_FOREVER || options->body_max < PIER_NONE) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_http_open: a limit or time in the options is negative");
    }
    return 0;
}

/* What is asked for, out of what libcurl can decode. Each byte of a header costs libcurl 50
 * instructions a request, so the encodings that servers rarely have alone are not named. */
static const char *encodings(void)
{
    int features = curl_version_info(CURLVERSION_NOW)->features;
    if (!(features & CURL_VERSION_LIBZ)) {
        return "identity";
    }
    return features & CURL_VERSION_BROTLI ? "gzip, br" : "gzip";
}

static int make_headers(pier_http *http, const pier_pair *given, pier_error *err)
{
    struct curl_slist *standard;
    int status =
        pier__header_list(&standard, NULL,
                          PIER_PAIRS({"User-Agent", USER_AGENT}, {"Accept-Encoding", encodings()}),
                          PIER__BODY_NONE, err);
    if (status == 0) {
        status = pier__header_list(&http->headers, standard, given, PIER__BODY_NONE, err);
        pier__free(standard);
    }
    return status;
}

static int read_options(pier_http *http, const pier_http_options *options, pier_error *err)
{
    http->timeout_ms = options->timeout_ms ? options->timeout_ms : TIMEOUT_MS;
    http->connect_timeout_ms =
        options->connect_timeout_ms ? options->connect_timeout_ms : CONNECT_TIMEOUT_MS;
    http->body_max = options->body_max ? options->body_max : BODY_MAX;
    if (options->base_url) {
        http->base = pier__url_base(options->base_url, &http->base_origin, err);
        if (!http->base) {
            return PIER_EINVAL;
        }
    }
    int status = make_headers(http, options->headers, err);
    if (status < 0) {
        return status;
    }
    if (options->ca_file && access(options->ca_file, R_OK)) {
        return pier_error_set(err, PIER_EINVAL, "pier_http_open: ca_file \"%.200s\" cannot be read",
                              options->ca_file);
    }
    const char *certificates = options->ca_file ? options->ca_file : system_certificates();
    http->ca_file = pier__strdup(certificates ? certificates : "");
    if (!http->ca_file || !make_share(http)) {
        return pier_error_set(err, PIER_ENOMEM, "pier_http_open: out of memory");
    }
    return 0;
}

static pier_http *new_session(pier_runner *runner, int limit)
{
    pier_http *http = pier__calloc(1, sizeof *http);
    if (http) {
        http->runner = runner;
        http->fork_generation = pier__fork_generation;
        atomic_init(&http->refs, 1);
        pthread_mutex_init(&http->lock, NULL);
        pthread_mutex_init(&http->share_lock, NULL);
        pier__pool_init(&http->pool, "slot", limit ? limit : LIMIT);
        pier__names_init(&http->names);
        http->close_memory = pier__calloc(1, sizeof(close_op));
        if (!http->close_memory) {
            pier__http_unref(http);
            return NULL;
        }
    }
    return http;
}

/* ---- Closing ------------------------------------------------------------------------------ */

/* Ends the streams that have been handed out, and has the steps of all others see `closing`. */
static void end_exchanges(pier_http *http, pier__op *closer)
{
    pier__exchange *stream;
    do {
        stream = NULL;
        pthread_mutex_lock(&http->lock);
        atomic_store(&http->closing, true);
        http->closer = closer;
        for (pier__exchange *each = http->exchanges; each; each = each->next) {
            if (each->op) {
                pier__op_wake(each->op);
            } else {
                stream = each;
            }
        }
        pthread_mutex_unlock(&http->lock);
        if (stream) {
            stream->refusal = PIER__REFUSAL_CLOSED;
            stream->ended(stream);
        }
    } while (stream);
}

static bool all_ended(pier_http *http)
{
    pthread_mutex_lock(&http->lock);
    bool ended = !http->exchanges;
    pthread_mutex_unlock(&http->lock);
    return ended;
}

static void close_idle(pier_http *http)
{
    for (pier__pooled *thing = pier__pool_close(&http->pool), *next; thing; thing = next) {
        next = thing->next;
        pier__pool_lost(&http->pool, thing);
        pier__slot_free((pier__slot *)thing);
    }
}

static void close_step(pier__op *op, unsigned events)
{
    close_op *self = (close_op *)op;
    pier_http *http = self->http;
    op->doing = "ending its requests";
    op->wait.kind = PIER__WAIT_WAKE;
    if (events & PIER__START) {
        end_exchanges(http, op);
    }
    if (!all_ended(http)) {
        return;
    }
    close_idle(http);
    if (http->multi) {
        if (!self->multi_closing) {
            self->multi_closing = true;
            pier__http_multi_close_on_loop(http, op);
        }
        return;
    }
    self->http = NULL;
    pier__http_unref(http);
    pier__op_succeed(op, NULL);
}

static const pier__op_class close_class = {
    .name = "pier_http_close",
    .result = "void",
    .size = sizeof(close_op),
    .shielded = true,
    .loop_only = true,
    .step = close_step,
};

pier_future *pier__http_close_op(pier_http *http)
{
    if (!http) {
        return pier__op_null();
    }
    if (http->fork_generation != pier__fork_generation) {
        return pier__op_forked(); /* it is the parent's */
    }
    if (!pier__handle_leave(&http->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    close_op *self = http->close_memory;
    http->close_memory = NULL;
    pier__op_init(&self->op, &close_class, http->runner);
    self->http = http;
    return &self->op;
}

/* The runner is being closed. */
static void on_runner_close(pier__handle *handle)
{
    pier_http *http = (pier_http *)handle;
    pier__op_take_void(pier__op_run(pier__http_close_op(http), NULL));
}

/* ---- Public ------------------------------------------------------------------------------- */

pier_http *pier_http_open(pier_runner *runner, const pier_http_options *given, pier_error *err)
{
    pier_http_options options = {.struct_size = 0};
    if (pier__runner_check(runner, "the runner", err) < 0 ||
        pier__options_read(&options, sizeof options, given, "PIER_HTTP_OPTIONS", err) < 0 ||
        check_numbers(&options, err) < 0) {
        return NULL;
    }
    pier_http *http = new_session(runner, options.limit);
    if (!http) {
        pier_error_set(err, PIER_ENOMEM, "pier_http_open: out of memory");
        return NULL;
    }
    if (read_options(http, &options, err) < 0) {
        pier__http_unref(http);
        return NULL;
    }
    if (!pier__handle_open(&http->handle, runner, on_runner_close)) {
        pier_error_set(err, PIER_ECLOSED, "pier_http_open: the runner is closed");
        pier__http_unref(http);
        return NULL;
    }
    return http;
}
