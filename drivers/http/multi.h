#ifndef PIER_DRIVERS_HTTP_MULTI_H
#define PIER_DRIVERS_HTTP_MULTI_H
/*
 * The loop's shared multi: all transfers of a session that the loop drives, and their connections.
 * Loop thread.
 */
#include "drivers/http/exchange.h"

typedef struct pier__http_multi pier__http_multi;

/* Makes the session's, if there is none yet. False: no memory. */
bool pier__http_multi_open_on_loop(pier_http *http);

/* Starts the transfer of an exchange, which may be done when this returns. Later its operation is
 * woken with `done` set, or, where it has none, its `ended` called. */
CURLcode pier__http_multi_add_on_loop(pier__http_multi *multi, pier__exchange *exchange);
void pier__http_multi_remove_on_loop(pier__http_multi *multi, pier__exchange *exchange);
/* Goes on with a transfer whose sink has paused it. */
void pier__http_multi_resume_on_loop(pier__http_multi *multi, pier__exchange *exchange);

/* Closes all connections and handles; no transfer is left. `op` is woken when that is done and
 * http->multi is NULL. */
void pier__http_multi_close_on_loop(pier_http *http, pier__op *op);

/* CURLOPT_CLOSESOCKETFUNCTION; its data is the multi. */
int pier__http_multi_close_socket(void *data, curl_socket_t fd);

#endif
