#ifndef PIER_DRIVERS_HTTP_ERROR_H
#define PIER_DRIVERS_HTTP_ERROR_H
/*
 * What libcurl's failures are in Pier's words. Any thread.
 */
#include <curl/curl.h>
#include <pier/error.h>

/* The pier_status for a failed transfer. */
int pier__http_status_of(CURLcode code);

/* "GET url: what happened"; `detail` is libcurl's own text, "" where it has none. */
int pier__http_error(pier_error *err, CURLcode code, const char *subject, const char *detail);

#endif
