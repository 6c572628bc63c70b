#ifndef PIER_DRIVERS_HTTP_TRANSFER_H
#define PIER_DRIVERS_HTTP_TRANSFER_H
/*
 * One transfer: a hop of an exchange on the easy handle of its slot. Whoever steps the exchange.
 */
#include "drivers/http/exchange.h"

/* Behind a body of this many bytes a slot expects another, and reads in larger pieces. */
enum { PIER__BODY_LARGE = 256 * 1024 };

/* What never changes on a slot's easy handle; `data` of all callbacks is the slot. */
CURLcode pier__transfer_set_up(pier__slot *slot, const pier_http *http);

/* Sets the request and starts it, on the loop or in the slot's own multi. 0 or a status. */
int pier__transfer_begin(pier__exchange *exchange, pier_error *err);
/* As a thread: does what can be done now without waiting; then `done` says whether it has ended. */
void pier__transfer_advance(pier__exchange *exchange);
/* Takes the easy handle out of its multi, which ends a transfer at once. Harmless afterwards. */
void pier__transfer_end(pier__exchange *exchange);

#endif
