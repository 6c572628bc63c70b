#ifndef PIER_SDK_RESOLVE_H
#define PIER_SDK_RESOLVE_H
/*
 * Name lookup that never blocks the loop and can be abandoned: getaddrinfo on a thread that owns
 * itself. Numeric addresses are answered at once.
 */
#include "sdk/op.h"
#include <netdb.h>

typedef struct pier__lookup pier__lookup;

/* Starts a lookup of TCP addresses; `op` is woken when it is done. NULL: no memory, no thread. */
pier__lookup *pier__lookup_start(pier__op *op, const char *host, const char *port);
bool pier__lookup_done(pier__lookup *lookup);
/* The addresses, borrowed until the lookup is freed; or NULL with `*why` set to a text. */
const struct addrinfo *pier__lookup_result(pier__lookup *lookup, const char **why);
/* Abandons it if it has not ended. NULL is harmless. */
void pier__lookup_free(pier__lookup *lookup);

/* Runs `fn(arg)` on a detached thread with all signals blocked: for calls that block and cannot be
 * cancelled. `fn` must own all it touches. False: no thread. */
bool pier__thread_detached(const char *name, void (*fn)(void *arg), void *arg);

#endif
