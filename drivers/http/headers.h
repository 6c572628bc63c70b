#ifndef PIER_DRIVERS_HTTP_HEADERS_H
#define PIER_DRIVERS_HTTP_HEADERS_H
/*
 * Headers: checking those that are sent, so that no value can smuggle in a line of its own, and
 * keeping those that came. Any thread; a store belongs to whoever fills it.
 */
#include <curl/curl.h>
#include <pier/async/http.h>

/* May it be a method or the name of a header? */
bool pier__header_is_token(const char *text);
/* May it be the value of a header? */
bool pier__header_is_value(const char *text);

/* What a request has for a body. */
typedef enum pier__body_kind {
    PIER__BODY_NONE,  /* none; GET, HEAD, ... */
    PIER__BODY_EMPTY, /* one of no bytes: POST without a body */
    PIER__BODY_BYTES,
    PIER__BODY_JSON
} pier__body_kind;

/*
 * Makes the list that libcurl takes: `first` (may be NULL) without what `pairs` replaces, then
 * `pairs`, then what the body needs. One allocation, ended by pier__free(*list); NULL for an empty
 * list. 0 or a status.
 */
int pier__header_list(struct curl_slist **list, const struct curl_slist *first,
                      const pier_pair *pairs, pier__body_kind body, pier_error *err);
/* A copy without the lines for which `drop` holds. 0 or a status. */
int pier__header_list_without(struct curl_slist **list, const struct curl_slist *from,
                              bool (*drop)(const char *line), pier_error *err);

/* The headers of one response. */
typedef struct pier__header_store {
    char *text; /* lines as they came, a zero byte behind each */
    size_t size, capacity;
    unsigned count;
} pier__header_store;

/* As much of them at most. */
enum { PIER__HEADERS_MAX = 256, PIER__HEADERS_SIZE_MAX = 256 * 1024 };

/* Adds a line as it came, line end included. False: too many, too large, or no memory. */
bool pier__header_store_add(pier__header_store *store, const char *line, size_t size);
/* The value of the last header of this name, in any case; NULL: none. */
const char *pier__header_store_find(const pier__header_store *store, const char *name);
void pier__header_store_clear(pier__header_store *store);
void pier__header_store_fini(pier__header_store *store);

#endif
