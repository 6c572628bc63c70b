#ifndef PIER_DRIVERS_POSTGRES_START_H
#define PIER_DRIVERS_POSTGRES_START_H
/*
 * The first step of an attempt to connect: the user's function for passwords, and libpq's start,
 * which reads a service file and a pass file; and before the first attempt, what the service file
 * says about the servers. All of that blocks, so it never runs on the loop.
 */
#include "sdk/op.h"
#include <libpq-fe.h>

struct pier__postgres_db;

/* Where to, and as what. Borrowed, and copied where that is needed. */
typedef struct pier__postgres_target {
    int host;               /* of the database's */
    const char *address;    /* NULL: the host's own, or its unix socket */
    const char *attributes; /* a constant, or of the database: target_session_attrs; NULL: any */
    const char *password;   /* NULL: that of the options, or the function's */
} pier__postgres_target;

typedef struct pier__postgres_start pier__postgres_start;

/* Starts; `op` is woken if that is not done at once. NULL: no memory. */
pier__postgres_start *pier__postgres_start_new(struct pier__postgres_db *db, pier__op *op,
                                               const pier__postgres_target *target);
/* The same for reading the URL's service. */
pier__postgres_start *pier__postgres_start_reading(struct pier__postgres_db *db, pier__op *op);
bool pier__postgres_start_done(pier__postgres_start *start);
/* What came of it: a connection in whatever state, owned; or NULL with `err` filled. */
PGconn *pier__postgres_start_take(pier__postgres_start *start, pier_error *err);
/* The password that the function gave: owned, pier__postgres_password_free; NULL: none. */
char *pier__postgres_start_password(pier__postgres_start *start);
/* What was read: owned, PQconninfoFree; NULL: no memory. */
PQconninfoOption *pier__postgres_start_options(pier__postgres_start *start);
/* Nobody waits for it any more. NULL is harmless. */
void pier__postgres_start_free(pier__postgres_start *start);

/* Wipes it first. NULL is harmless. */
void pier__postgres_password_free(char *password);

#endif
