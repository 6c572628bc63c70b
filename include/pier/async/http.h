#ifndef PIER_ASYNC_HTTP_H
#define PIER_ASYNC_HTTP_H
/*
 * HTTP: a session with pooled connections, responses with their whole body, and streams whose body
 * is read as it comes. The blocking functions are in pier/http.h.
 *
 * Safe by default: TLS is verified, only http and https are spoken, no proxy and no credentials are
 * taken from the environment, redirects are limited and lose secrets when they leave the origin.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_http pier_http;
typedef struct pier_response pier_response;
typedef struct pier_stream pier_stream;
typedef struct pier_chunk pier_chunk;

/* A header or a query parameter; lists end with a NULL name. */
typedef struct pier_pair {
    const char *name;
    const char *value;
} pier_pair;

/* .headers = PIER_PAIRS({"Accept", "text/plain"}, {"X-Request-Id", id}) */
#define PIER_PAIRS(...) ((const pier_pair[]){__VA_ARGS__, {NULL, NULL}})

typedef struct pier_http_options {
    size_t struct_size;         /* set by PIER_HTTP_OPTIONS */
    const char *base_url;       /* what relative URLs are relative to */
    const pier_pair *headers;   /* sent with each request */
    int limit;                  /* requests under way at most; 0: 100 */
    int64_t timeout_ms;         /* of a whole request; 0: 300,000 */
    int64_t connect_timeout_ms; /* name, connection, TLS; 0: 30,000 */
    int64_t body_max;           /* bytes of a whole body at most; 0: 64 MiB; PIER_NONE: no bound */
    const char *ca_file;        /* certificates to trust instead of the system's, PEM */
} PIER_DESIGNATED pier_http_options;

/* pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = "https://example.org"), &err) */
#define PIER_HTTP_OPTIONS(...)                                                                     \
    (&(const pier_http_options){.struct_size = sizeof(pier_http_options), __VA_ARGS__})

typedef struct pier_request_options {
    size_t struct_size;       /* set by PIER_REQUEST_OPTIONS */
    const pier_pair *headers; /* added to the session's; the same name replaces */
    const pier_pair *query;   /* appended to the URL, percent-encoded */
    const char *json;         /* a body, sent as application/json */
    const void *body;         /* or any other body */
    size_t body_size;
    bool any_status;    /* a status of 400 and more is no failure */
    int64_t timeout_ms; /* of this request; 0: the session's */
    int64_t body_max;   /* bytes of this response; 0: the session's */
} PIER_DESIGNATED pier_request_options;

/* pier_http_post(http, "/orders", PIER_REQUEST_OPTIONS(.json = "{}"), &err) */
#define PIER_REQUEST_OPTIONS(...)                                                                  \
    (&(const pier_request_options){.struct_size = sizeof(pier_request_options), __VA_ARGS__})

/**
 * Opens a session. It connects to nothing yet.
 *
 * @param runner   borrowed until the session is closed
 * @param options  copied: NULL for the defaults
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_http_close; NULL on failure
 *
 * Errors: PIER_EINVAL (the base URL, a header), PIER_ENOMEM.
 * Threads: any, also on the loop thread. Mirrors: aiohttp `ClientSession`.
 */
PIER_API pier_http *pier_http_open(pier_runner *runner, const pier_http_options *options,
                                   pier_error *err);

/**
 * Ends a session: cancels its requests and closes its connections.
 *
 * @param http  taken: NULL is harmless
 * @return owned: the future of nothing
 *
 * Threads: any, once.
 */
PIER_SYNC(void)
PIER_API pier_future *pier_http_close_async(pier_http *http);

/**
 * Requests `url` with any method and collects the response with its whole body.
 *
 * @param http     borrowed until the future has settled
 * @param method   copied: GET, POST, PUT, ...
 * @param url      copied: absolute, or relative to the session's base URL
 * @param options  copied, its body too: NULL for the defaults
 * @return owned: the future of a `pier_response *`, freed by pier_response_free
 *
 * Errors: PIER_EHTTP_STATUS (with `http_status`), PIER_ECONNECT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: aiohttp `ClientSession.request`.
 */
PIER_SYNC(pier_response *)
PIER_API pier_future *pier_http_request_async(pier_http *http, const char *method, const char *url,
                                              const pier_request_options *options);

/**
 * Requests `url` with GET and collects the response with its whole body.
 *
 * @param http     borrowed until the future has settled
 * @param url      copied: absolute, or relative to the session's base URL
 * @param options  copied: NULL for the defaults
 * @return owned: the future of a `pier_response *`, freed by pier_response_free
 *
 * Errors: PIER_EHTTP_STATUS (with `http_status`), PIER_ECONNECT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: aiohttp `ClientSession.get`.
 */
PIER_SYNC(pier_response *)
PIER_API pier_future *pier_http_get_async(pier_http *http, const char *url,
                                          const pier_request_options *options);

/**
 * Requests `url` with POST and collects the response with its whole body.
 *
 * @param http     borrowed until the future has settled
 * @param url      copied: absolute, or relative to the session's base URL
 * @param options  copied, its body too: NULL for the defaults
 * @return owned: the future of a `pier_response *`, freed by pier_response_free
 *
 * Errors: PIER_EHTTP_STATUS (with `http_status`), PIER_ECONNECT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: aiohttp `ClientSession.post`.
 */
PIER_SYNC(pier_response *)
PIER_API pier_future *pier_http_post_async(pier_http *http, const char *url,
                                           const pier_request_options *options);

/**
 * Gives the status, 200 for example.
 *
 * @param response  borrowed until the call returns
 * @return the status; 0 for NULL
 *
 * Threads: any.
 */
PIER_API int pier_response_status(const pier_response *response);

/**
 * Gives a header of the response; where one came several times, the last.
 *
 * @param response  borrowed until the returned text is no longer used
 * @param name      borrowed until the call returns: in any case
 * @return borrowed until the response is freed; NULL where there is none
 *
 * Threads: any.
 */
PIER_API const char *pier_response_header(const pier_response *response, const char *name);

/**
 * Gives the whole body, with a zero byte behind it.
 *
 * @param response  borrowed until the returned body is no longer used
 * @param size      borrowed until the call returns: set to the number of bytes; may be NULL
 * @return borrowed until the response is freed; NULL for NULL
 *
 * Threads: any.
 */
PIER_API const char *pier_response_text(const pier_response *response, size_t *size);

/**
 * Gives the URL that answered, after redirects.
 *
 * @param response  borrowed until the returned text is no longer used
 * @return borrowed until the response is freed; NULL for NULL
 *
 * Threads: any.
 */
PIER_API const char *pier_response_url(const pier_response *response);

/**
 * Frees a response.
 *
 * @param response  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_response_free(pier_response *response);

/**
 * Requests `url` and gives the response as soon as its headers are there; the body is read with
 * pier_stream_chunk or pier_stream_line. What has not been read is bounded: the server waits.
 *
 * @param http     borrowed until the stream is closed
 * @param method   copied: GET, POST, PUT, ...
 * @param url      copied: absolute, or relative to the session's base URL
 * @param options  copied, its body too: NULL for the defaults
 * @return owned: the future of a `pier_stream *`, ended by pier_stream_close
 *
 * Errors: PIER_EHTTP_STATUS (with `http_status`), PIER_ECONNECT, PIER_ETIMEDOUT.
 * Threads: any. Mirrors: aiohttp `ClientResponse.content`.
 */
PIER_SYNC(pier_stream *)
PIER_API pier_future *pier_http_stream_async(pier_http *http, const char *method, const char *url,
                                             const pier_request_options *options);

/**
 * Gives the status, 200 for example.
 *
 * @param stream  borrowed until the call returns
 * @return the status; 0 for NULL
 *
 * Threads: any.
 */
PIER_API int pier_stream_status(const pier_stream *stream);

/**
 * Gives a header of the response; where one came several times, the last.
 *
 * @param stream  borrowed until the returned text is no longer used
 * @param name    borrowed until the call returns: in any case
 * @return borrowed until the stream is closed; NULL where there is none
 *
 * Threads: any.
 */
PIER_API const char *pier_stream_header(const pier_stream *stream, const char *name);

/**
 * Fetches the next part of the body, as much as is there.
 *
 * @iterator pier_stream_chunk
 * Gives the next part of the body, and its size; NULL at its end or after a failure, which
 * pier_stream_close reports. It is borrowed until the next call.
 *
 * @iterator pier_stream_line
 * Gives the next line of the body without its line end, zero-terminated, and its length; NULL at
 * the end or after a failure, which pier_stream_close reports. It is borrowed until the next call.
 * Lines of more than 16 MiB are a failure. Do not mix with pier_stream_chunk.
 *
 * @param stream  borrowed until the future has settled
 * @return owned: the future of a `pier_chunk *`, freed by pier_chunk_free; one without bytes is the
 *         end
 *
 * Errors: PIER_EPROTOCOL, PIER_ETIMEDOUT.
 * Threads: any, one at a time. Mirrors: aiohttp `StreamReader.iter_any`.
 */
PIER_SYNC_ITERATOR(pier_stream_chunk, const void *, size_t *size)
PIER_SYNC_ITERATOR(pier_stream_line, const char *, size_t *length)
PIER_SYNC(pier_chunk *)
PIER_API pier_future *pier_stream_block_async(pier_stream *stream);

/**
 * Gives the bytes of a part.
 *
 * @param chunk  borrowed until the returned bytes are no longer used
 * @param size   borrowed until the call returns: set to the number of bytes
 * @return borrowed until the chunk is freed; NULL for NULL
 *
 * Threads: any.
 */
PIER_API const void *pier_chunk_data(const pier_chunk *chunk, size_t *size);

/**
 * Frees a part.
 *
 * @param chunk  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_chunk_free(pier_chunk *chunk);

/**
 * Ends a stream, wherever it stands, frees it and reports what failed in it.
 *
 * @param stream  taken: NULL passes through
 * @return owned: the future of 0
 *
 * Errors: PIER_EPROTOCOL, PIER_ETIMEDOUT.
 * Threads: any, once.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_stream_close_async(pier_stream *stream);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_chunk, pier_chunk_free)
PIER__AUTO_DEFINE(pier_response, pier_response_free)
#endif
#endif
