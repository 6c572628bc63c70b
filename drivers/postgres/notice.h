#ifndef PIER_DRIVERS_POSTGRES_NOTICE_H
#define PIER_DRIVERS_POSTGRES_NOTICE_H
/*
 * What a server says unasked: notices, and its last words before it ends a session. They come in
 * the midst of other messages, so they are copied then and told when those have been taken.
 */
#include "drivers/postgres/report.h"
#include <libpq-fe.h>
#include <pier/async/postgres_hook.h>
#include <stdatomic.h>

struct pier__postgres_conn;

/* Of a pool. */
typedef struct pier__postgres_hooks {
    atomic_bool noticing; /* is there a hook for notices? */
    /* Guarded by the lock in notice.c. */
    pier_postgres_notice_fn notice;
    void *notice_data;
    pier_postgres_end_fn end;
    void *end_data;
} pier__postgres_hooks;

/* Of a connection, and of whoever has its turn. */
typedef struct pier__postgres_said {
    struct pier__postgres_item *head, *tail; /* notices that are to be told */
    size_t size;                             /* of them */
    int64_t dropped;
    int pid;         /* of the server's process */
    bool end_told;   /* the session has ended, and that has been told */
    char state[6];   /* SQLSTATE of the server's last words; "": there were none */
    char words[200]; /* and they */
} pier__postgres_said;

/* Takes one from the server. */
void pier__postgres_take_notice(struct pier__postgres_conn *conn,
                                const pier__postgres_report *notice);
/* The same from libpq while it connects: its notice receiver, `arg` is the connection. */
void pier__postgres_take_early_notice(void *arg, const PGresult *notice);
/* Tells what has been taken. */
void pier__postgres_tell(struct pier__postgres_conn *conn);
/* A new session begins, or nobody is to be told any more. */
void pier__postgres_said_clear(pier__postgres_said *said);
/* The session has ended and not by us: tells that, once. `idle`: nobody used it. */
void pier__postgres_session_ended(struct pier__postgres_conn *conn, bool idle);

#endif
