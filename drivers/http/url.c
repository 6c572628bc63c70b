/*
 * URLs. libcurl's parser decides what a URL is, so that what is checked here and what is sent can
 * never be two different things.
 */
#include "drivers/http/url.h"

#include "sdk/alloc.h"
#include "sdk/error.h"
#include <arpa/inet.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* What a server is asked for is bounded; libcurl's own limit is 8 MB. */
enum { URL_MAX = 64 * 1024 };

/* ---- Text --------------------------------------------------------------------------------- */

void pier__url_mask(char *buffer, size_t size, const char *text)
{
    size_t length = strcspn(text, "?#");
    const char *slashes = strstr(text, "//");
    const char *authority = slashes && slashes < text + length ? slashes + 2 : text;
    size_t authority_length = strcspn(authority, "/?#");
    const char *after_user = authority;
    for (size_t i = 0; i < authority_length; i++) {
        if (authority[i] == '@') {
            after_user = authority + i + 1;
        }
    }
    snprintf(buffer, size, "%.*s%.*s%s", (int)(authority - text), text,
             (int)(length - (size_t)(after_user - text)), after_user,
             text[length] == '?' ? "?..." : "");
    for (char *at = buffer; *at; at++) {
        if ((unsigned char)*at < ' ' || *at == 127) {
            *at = '?';
        }
    }
}

static bool is_unreserved(unsigned char byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || byte == '-' || byte == '.' || byte == '_' || byte == '~';
}

static char *put_percent(char *out, unsigned char byte)
{
    static const char digits[] = "0123456789ABCDEF";
    *out++ = '%';
    *out++ = digits[byte >> 4];
    *out++ = digits[byte & 15];
    return out;
}

static char *put_encoded(char *out, const char *text)
{
    for (; *text; text++) {
        if (is_unreserved((unsigned char)*text)) {
            *out++ = *text;
        } else {
            out = put_percent(out, (unsigned char)*text);
        }
    }
    return out;
}

/* "a=1&b=2", percent-encoded; NULL: no memory. */
static char *encode_query(const pier_pair *query)
{
    size_t size = 1;
    for (const pier_pair *pair = query; pair->name; pair++) {
        size += 3 * (strlen(pair->name) + (pair->value ? strlen(pair->value) : 0)) + 2;
    }
    char *text = pier__malloc(size);
    if (!text) {
        return NULL;
    }
    char *out = text;
    for (const pier_pair *pair = query; pair->name; pair++) {
        if (out != text) {
            *out++ = '&';
        }
        out = put_encoded(out, pair->name);
        *out++ = '=';
        out = put_encoded(out, pair->value ? pair->value : "");
    }
    *out = 0;
    return text;
}

/* Where the path begins, or the end. */
static const char *skip_authority(const char *reference)
{
    const char *slashes = strstr(reference, "//");
    if (!slashes || strcspn(reference, "/?#") < (size_t)(slashes - reference)) {
        return reference;
    }
    return slashes + 2 + strcspn(slashes + 2, "/?#");
}

/* Refuses control characters and spaces, which would end up in the request line, and hosts that are
 * not ASCII. Counts the bytes that need percent-encoding. */
static int check(const char *reference, size_t length, size_t *high, pier_error *err)
{
    const char *path = skip_authority(reference);
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)reference[i];
        if (byte <= ' ' || byte == 127) {
            return pier_error_set(err, PIER_EINVAL,
                                  "the URL has a space or control character at byte %zu; "
                                  "percent-encode it",
                                  i);
        }
        if (byte > 127 && reference + i < path) {
            return pier_error_set(err, PIER_EINVAL,
                                  "the host in the URL is not ASCII; write its xn-- form");
        }
        *high += byte > 127;
    }
    return length <= URL_MAX
               ? 0
               : pier_error_set(err, PIER_EINVAL, "the URL has %zu bytes; %d are the limit", length,
                                URL_MAX);
}

/* How long it is, if nothing in it needs a second look; else 0. */
static size_t plain_length(const char *reference)
{
    size_t length = 0;
    for (unsigned char byte; (byte = (unsigned char)reference[length]) > ' ' && byte < 127;) {
        if (byte == '#') {
            return 0;
        }
        length++;
    }
    return reference[length] || length > URL_MAX ? 0 : length;
}

/* Copies a reference behind `prefix`, without its fragment and with bytes above 127
 * percent-encoded. */
static int clean(const char *reference, const char *prefix, char **copy, pier_error *err)
{
    size_t high = 0, length = plain_length(reference);
    if (!length) {
        length = strcspn(reference, "#");
        int status = check(reference, length, &high, err);
        if (status < 0) {
            return status;
        }
    }
    size_t prefix_size = strlen(prefix);
    char *out = *copy = pier__malloc(prefix_size + length + 2 * high + 1);
    if (!out) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for a URL");
    }
    memcpy(out, prefix, prefix_size);
    out += prefix_size;
    if (!high) {
        memcpy(out, reference, length);
        out[length] = 0;
        return 0;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)reference[i];
        if (byte > 127) {
            out = put_percent(out, byte);
        } else {
            *out++ = (char)byte;
        }
    }
    *out = 0;
    return 0;
}

/* ---- Parsing ------------------------------------------------------------------------------ */

static int fail_url(CURLUcode code, bool has_base, const char *reference, pier_error *err)
{
    if (code == CURLUE_OUT_OF_MEMORY) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory for a URL");
    }
    char masked[160];
    pier__url_mask(masked, sizeof masked, reference);
    if (!has_base && !strstr(reference, "://")) {
        return pier_error_set(err, PIER_EINVAL,
                              "the URL \"%s\" is not absolute, and the session has no base_url",
                              masked);
    }
    return pier_error_set(err, PIER_EINVAL, "the URL \"%s\" cannot be used: %s", masked,
                          curl_url_strerror(code));
}

/* A copy of one part, made with our allocator; NULL: there is none, or no memory. */
static CURLUcode take_part(CURLU *handle, CURLUPart part, unsigned flags, char **copy)
{
    char *text;
    CURLUcode code = curl_url_get(handle, part, &text, flags);
    if (code) {
        return code;
    }
    *copy = pier__strdup(text);
    curl_free(text);
    return *copy ? CURLUE_OK : CURLUE_OUT_OF_MEMORY;
}

static CURLUcode take_user(CURLU *handle, pier__url *url)
{
    CURLUcode code = take_part(handle, CURLUPART_USER, CURLU_URLDECODE, &url->user);
    if (code && code != CURLUE_NO_USER) {
        return code;
    }
    code = take_part(handle, CURLUPART_PASSWORD, CURLU_URLDECODE, &url->password);
    if (code && code != CURLUE_NO_PASSWORD) {
        return code;
    }
    curl_url_set(handle, CURLUPART_USER, NULL, 0);
    curl_url_set(handle, CURLUPART_PASSWORD, NULL, 0);
    return CURLUE_OK;
}

static CURLUcode take_host(CURLU *handle, pier__url *url)
{
    CURLUcode code = take_part(handle, CURLUPART_HOST, 0, &url->host);
    if (code) {
        return code;
    }
    size_t length = strlen(url->host);
    if (url->host[0] == '[' && url->host[length - 1] == ']') {
        memmove(url->host, url->host + 1, length - 2);
        url->host[length - 2] = 0;
        url->numeric = true;
        return CURLUE_OK;
    }
    struct in_addr address;
    url->numeric = inet_pton(AF_INET, url->host, &address) == 1;
    return length ? CURLUE_OK : CURLUE_NO_HOST;
}

/* Takes the parts out of a parsed URL. */
static CURLUcode take_parts(CURLU *handle, pier__url *url)
{
    char *scheme, *port;
    CURLUcode code = curl_url_get(handle, CURLUPART_SCHEME, &scheme, 0);
    if (code) {
        return code;
    }
    url->https = !strcasecmp(scheme, "https");
    bool http = url->https || !strcasecmp(scheme, "http");
    curl_free(scheme);
    if (!http) {
        return CURLUE_UNSUPPORTED_SCHEME;
    }
    if ((code = take_host(handle, url)) || (code = take_user(handle, url)) ||
        (code = curl_url_get(handle, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT))) {
        return code;
    }
    snprintf(url->port, sizeof url->port, "%s", port);
    curl_free(port);
    return take_part(handle, CURLUPART_URL, 0, &url->text);
}

/* Behind the finished URL, since libcurl would change the case of percent-encodings on the way. */
static CURLUcode append_query(pier__url *url, const pier_pair *query)
{
    if (!query || !query->name) {
        return CURLUE_OK;
    }
    char *encoded = encode_query(query);
    size_t length = strlen(url->text);
    size_t size = encoded ? length + strlen(encoded) + 2 : 0;
    char *text = encoded ? pier__malloc(size) : NULL;
    if (text) {
        const char *mark = strchr(url->text, '?');
        const char *between = !mark ? "?" : mark[1] && url->text[length - 1] != '&' ? "&" : "";
        snprintf(text, size, "%s%s%s", url->text, between, encoded);
        pier__free(url->text);
        url->text = text;
        curl_url_cleanup(url->parsed);
        url->parsed = NULL;
    }
    pier__free(encoded);
    return text ? CURLUE_OK : CURLUE_OUT_OF_MEMORY;
}

static CURLUcode make(pier__url *url, const CURLU *base, const char *reference,
                      const pier_pair *query)
{
    CURLU *handle = base ? curl_url_dup((CURLU *)base) : curl_url();
    if (!handle) {
        return CURLUE_OUT_OF_MEMORY;
    }
    /* An empty reference is the base itself; libcurl would cut its last segment off. */
    CURLUcode code =
        base && !*reference ? CURLUE_OK : curl_url_set(handle, CURLUPART_URL, reference, 0);
    if (!code) {
        code = take_parts(handle, url);
    }
    url->parsed = handle;
    return code ? code : append_query(url, query);
}

int pier__url_make(pier__url *url, const CURLU *base, const char *reference, const pier_pair *query,
                   pier_error *err)
{
    memset(url, 0, sizeof *url);
    char *cleaned;
    int status = clean(reference, "", &cleaned, err);
    if (status < 0) {
        return status;
    }
    CURLUcode code = make(url, base, cleaned, query);
    if (code == CURLUE_UNSUPPORTED_SCHEME) {
        status = pier_error_set(err, PIER_EINVAL, "only http and https are spoken here");
    } else if (code) {
        status = fail_url(code, base != NULL, reference, err);
    }
    pier__free(cleaned);
    if (status < 0) {
        pier__url_fini(url);
    }
    return status;
}

/* ---- Without the parser ------------------------------------------------------------------- */

struct pier__origin {
    atomic_int refs;
    CURLU *handle;
    char *host;
    char port[8];
    bool https, numeric;
    size_t size;
    char prefix[]; /* "http://example.org:8080" */
};

pier__origin *pier__origin_new(const pier__url *url)
{
    size_t size = (size_t)(skip_authority(url->text) - url->text);
    pier__origin *origin = url->user ? NULL : pier__calloc(1, sizeof *origin + size + 1);
    if (!origin) {
        return NULL;
    }
    atomic_init(&origin->refs, 1);
    memcpy(origin->prefix, url->text, size);
    origin->size = size;
    memcpy(origin->port, url->port, sizeof origin->port);
    origin->https = url->https;
    origin->numeric = url->numeric;
    origin->host = pier__strdup(url->host);
    origin->handle = curl_url();
    if (!origin->host || !origin->handle ||
        curl_url_set(origin->handle, CURLUPART_URL, origin->prefix, 0)) {
        pier__origin_unref(origin);
        return NULL;
    }
    return origin;
}

pier__origin *pier__origin_ref(pier__origin *origin)
{
    if (origin) {
        atomic_fetch_add_explicit(&origin->refs, 1, memory_order_relaxed);
    }
    return origin;
}

void pier__origin_unref(pier__origin *origin)
{
    if (origin && atomic_fetch_sub_explicit(&origin->refs, 1, memory_order_acq_rel) == 1) {
        curl_url_cleanup(origin->handle);
        pier__free(origin->host);
        pier__free(origin);
    }
}

/* Parses `url` from what is known: the origin, and a path and query that need no work. Where it
 * cannot, `parsed` stays NULL. */
static void parse_quickly(pier__url *url, const pier__origin *origin)
{
    char *path = url->text + origin->size;
    /* Setting a part changes percent-encodings, and leaves dots where the parser resolves them. */
    if (*path != '/' || strchr(path, '%') || strstr(path, "/.")) {
        return;
    }
    CURLU *handle = curl_url_dup(origin->handle);
    char *query = strchr(path, '?');
    if (query) {
        *query = 0;
    }
    bool made = handle && !curl_url_set(handle, CURLUPART_PATH, path, 0) &&
                (!query || !curl_url_set(handle, CURLUPART_QUERY, query + 1, 0));
    if (query) {
        *query = '?';
    }
    if (made) {
        url->parsed = handle;
    } else {
        curl_url_cleanup(handle);
    }
}

/* Nothing behind the authority can change what the authority is. */
static bool covers(const pier__origin *origin, const char *reference)
{
    return !strncmp(reference, origin->prefix, origin->size) &&
           strchr("/?#", reference[origin->size]);
}

int pier__url_make_quickly(pier__url *url, const pier__origin *origin, bool is_base,
                           const char *reference, const pier_pair *query, pier_error *err)
{
    if (!origin) {
        return 0;
    }
    bool is_path = is_base && reference[0] == '/' && reference[1] != '/';
    if (!is_path && !covers(origin, reference)) {
        return 0;
    }
    memset(url, 0, sizeof *url);
    int status = clean(reference, is_path ? origin->prefix : "", &url->text, err);
    if (status < 0) {
        return status;
    }
    url->host = pier__strdup(origin->host);
    memcpy(url->port, origin->port, sizeof url->port);
    url->https = origin->https;
    url->numeric = origin->numeric;
    if (!url->host || append_query(url, query)) {
        pier__url_fini(url);
        return pier_error_set(err, PIER_ENOMEM, "out of memory for a URL");
    }
    parse_quickly(url, origin);
    return 1;
}

void pier__url_fini(pier__url *url)
{
    curl_url_cleanup(url->parsed);
    pier__free(url->text);
    pier__free(url->host);
    pier__free(url->user);
    pier__free(url->password);
    memset(url, 0, sizeof *url);
}

bool pier__url_same_origin(const pier__url *a, const pier__url *b)
{
    return a->https == b->https && !strcasecmp(a->host, b->host) && !strcmp(a->port, b->port);
}

CURLU *pier__url_base(const char *text, pier__origin **origin, pier_error *err)
{
    pier__url url;
    if (pier__url_make(&url, NULL, text, NULL, err) < 0) {
        return NULL;
    }
    *origin = pier__origin_new(&url);
    pier__url_fini(&url);
    CURLU *base = curl_url();
    if (!base || curl_url_set(base, CURLUPART_URL, text, 0)) {
        curl_url_cleanup(base);
        pier_error_set(err, PIER_ENOMEM, "out of memory for a URL");
        return NULL;
    }
    curl_url_set(base, CURLUPART_FRAGMENT, NULL, 0);
    return base;
}
