/*
 * The rules of redirects.
 */
#include "drivers/http/redirect.h"

#include "sdk/alloc.h"
#include "sdk/error.h"
#include <string.h>
#include <strings.h>

static bool is_header(const char *line, const char *const *names)
{
    size_t length = strcspn(line, ":;");
    for (; *names; names++) {
        if (strlen(*names) == length && !strncasecmp(line, *names, length)) {
            return true;
        }
    }
    return false;
}

bool pier__redirect_is(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool pier__redirect_becomes_get(int status, const char *method)
{
    if (status == 303) {
        return strcmp(method, "HEAD") != 0 && strcmp(method, "GET") != 0;
    }
    return (status == 301 || status == 302) && !strcmp(method, "POST");
}

bool pier__redirect_is_secret(const char *line)
{
    /* Host names the old origin. */
    static const char *const names[] = {"Authorization", "Cookie", "Proxy-Authorization",
                                        "X-API-Key",     "Host",   NULL};
    return is_header(line, names);
}

bool pier__redirect_is_of_body(const char *line)
{
    static const char *const names[] = {"Content-Type",     "Content-Encoding", "Content-Language",
                                        "Content-Location", "Expect",           NULL};
    return is_header(line, names);
}

/* A copy with spaces percent-encoded, which servers send and browsers follow; NULL: no memory. */
static char *encode_spaces(const char *location)
{
    char *copy = pier__malloc(3 * strlen(location) + 1), *out = copy;
    for (; copy && *location; location++) {
        if (*location == ' ') {
            memcpy(out, "%20", 3);
            out += 3;
        } else {
            *out++ = *location;
        }
    }
    if (copy) {
        *out = 0;
    }
    return copy;
}

/* Reads where the redirect leads to. */
static int resolve(pier__url *next, const pier__url *url, const char *location, pier_error *err)
{
    char *encoded = encode_spaces(location);
    CURLU *base = curl_url();
    int status;
    if (encoded && base && !curl_url_set(base, CURLUPART_URL, url->text, 0)) {
        status = pier__url_make(next, base, encoded, NULL, err);
    } else {
        status = pier_error_set(err, PIER_ENOMEM, "out of memory for a redirect");
    }
    curl_url_cleanup(base);
    pier__free(encoded);
    if (status == PIER_EINVAL && err) {
        /* Not the caller's argument is wrong, but what the server sent. */
        char reason[sizeof err->message];
        memcpy(reason, err->message, sizeof reason);
        status = pier_error_set(err, PIER_EPROTOCOL, "redirected: %.300s", reason);
    }
    return status;
}

int pier__redirect_follow(pier__url *url, const char *location, bool *other_origin, pier_error *err)
{
    pier__url next;
    int status = resolve(&next, url, location, err);
    if (status < 0) {
        return status;
    }
    if (url->https && !next.https) {
        pier__url_fini(&next);
        return pier_error_set(err, PIER_EPROTOCOL,
                              "redirected from https to http, which is not followed");
    }
    *other_origin = !pier__url_same_origin(url, &next);
    if (!*other_origin && !next.user) {
        next.user = url->user;
        next.password = url->password;
        url->user = url->password = NULL;
    }
    pier__url_fini(url);
    *url = next;
    return 0;
}
