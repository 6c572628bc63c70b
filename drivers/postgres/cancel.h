#ifndef PIER_DRIVERS_POSTGRES_CANCEL_H
#define PIER_DRIVERS_POSTGRES_CANCEL_H
/*
 * Stopping what a connection does on the server. PQcancel blocks, against a silent server without
 * any bound, so it runs on a thread that owns itself and can be abandoned.
 */
#include "sdk/op.h"
#include <libpq-fe.h>

typedef struct pier__postgres_cancel pier__postgres_cancel;

/* Asks the server to stop; wakes `op` when it has been told. NULL: no memory, no thread. */
pier__postgres_cancel *pier__postgres_cancel_start(PGconn *pg, pier__op *op);
/* Has the server been told? Until then the request could hit whatever the connection does next. */
bool pier__postgres_cancel_done(pier__postgres_cancel *cancel);
/* Lets go of it; `op` is not woken any more. NULL is harmless. */
void pier__postgres_cancel_free(pier__postgres_cancel *cancel);

#endif
