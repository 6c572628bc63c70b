#ifndef PIER_DRIVERS_HTTP_URL_H
#define PIER_DRIVERS_HTTP_URL_H
/*
 * URLs, by libcurl's parser: joined with the base, checked, and taken apart. Any thread.
 */
#include <curl/curl.h>
#include <pier/async/http.h>

typedef struct pier__url {
    char *text;            /* what is requested: without user, password and fragment */
    CURLU *parsed;         /* the same, so that libcurl need not parse it again; or NULL */
    char *host;            /* without brackets */
    char *user, *password; /* NULL: none */
    char port[8];
    bool https;
    bool numeric; /* the host is an address, so there is nothing to look up */
} pier__url;

/* A scheme and authority that has been parsed: what begins with the same text needs no parser. Most
 * requests of a session do, and parsing and formatting was an eighth of their instructions.
 * Immutable, counted. */
typedef struct pier__origin pier__origin;

/* The origin of a URL. NULL: it has a user, or there is no memory. */
pier__origin *pier__origin_new(const pier__url *url);
pier__origin *pier__origin_ref(pier__origin *origin);
void pier__origin_unref(pier__origin *origin);

/*
 * Reads `reference`, relative to `base` (may be NULL) unless it is absolute, and appends the query.
 * 0 or a status; after a failure `url` is empty. Secrets are never part of the message.
 */
int pier__url_make(pier__url *url, const CURLU *base, const char *reference, const pier_pair *query,
                   pier_error *err);
/* The same without libcurl's parser, for what `origin` (may be NULL) covers: an absolute URL that
 * begins with it, or, where `is_base`, an absolute path. 1: made; 0: not covered. */
int pier__url_make_quickly(pier__url *url, const pier__origin *origin, bool is_base,
                           const char *reference, const pier_pair *query, pier_error *err);
void pier__url_fini(pier__url *url);

bool pier__url_same_origin(const pier__url *a, const pier__url *b);

/* Parses a base URL for pier__url_make, and makes its origin. NULL on failure; ended by
 * curl_url_cleanup. */
CURLU *pier__url_base(const char *text, pier__origin **origin, pier_error *err);

/* Copies a URL for messages: without user, password and query. */
void pier__url_mask(char *buffer, size_t size, const char *text);

#endif
