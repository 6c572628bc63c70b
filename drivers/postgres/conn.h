#ifndef PIER_DRIVERS_POSTGRES_CONN_H
#define PIER_DRIVERS_POSTGRES_CONN_H
/*
 * A database, a connection and a cursor of this driver, and how its files divide the work:
 *
 *   driver.c   what the sdk calls             url.c      which servers, with which options
 *   connect.c  opening a connection           session.c  a connection between requests
 *   query.c    a request, from send to end    prepare.c  preparing its statement
 *   results.c  taking what the server sends   cursor.c   the requests of cursors
 *   cancel.c   stopping what runs there
 */
#include "drivers/postgres/cancel.h"
#include "drivers/postgres/encode.h"
#include "drivers/postgres/rows.h"
#include "drivers/postgres/statement_cache.h"
#include "sdk/db.h"
#include "sdk/resolve.h"

/* One server to try. NULL: libpq's default. */
typedef struct pier__postgres_host {
    char *host; /* a name, an address, or the directory of a unix socket */
    char *address;
    char *port;
} pier__postgres_host;

enum { PIER__POSTGRES_OPTIONS_MAX = 64 }; /* libpq 15 has 44 */

/* Immutable after db_init, but for `suspect`. */
typedef struct pier__postgres_db {
    pier_db base; /* first */
    /* For PQconnectStartParams, without what is in `hosts`. */
    char *keywords[PIER__POSTGRES_OPTIONS_MAX], *values[PIER__POSTGRES_OPTIONS_MAX];
    int option_count;
    pier__postgres_host *hosts;
    int host_count;
    _Atomic int64_t suspect; /* connections used last before this moment may have been closed */
} pier__postgres_db;

typedef struct pier__postgres_connecting {
    int phase;
    int entered;                 /* hosts tried; the last of them is being tried */
    pier__lookup *lookup;        /* of its name */
    const struct addrinfo *next; /* its address to try next */
    int64_t attempt_until;       /* the bound of the attempt under way */
    pier_error failure;          /* of the last one */
} pier__postgres_connecting;

typedef struct pier__postgres_cursor pier__postgres_cursor;

/* Of whoever has the connection's turn. */
typedef struct pier__postgres_conn {
    pier__conn base; /* first */
    PGconn *pg;      /* NULL while it is not connected */
    int fd;
    bool tls;
    bool idle;         /* has been in the pool since its last request */
    bool said_goodbye; /* the server is about to end the session */
    pier__postgres_connecting connecting;

    /* Prepared statements. */
    pier__postgres_cache statements;
    pier__postgres_statement *unnamed; /* the last one that was too long for the cache */
    uint32_t name_key;                 /* makes names unique behind a pooler */
    unsigned name_count;
    char (*forgotten)[24]; /* names of statements that are still to be closed on the server */
    size_t forgotten_count, forgotten_room;
    pier__postgres_encoder encoder;

    /* The request under way. */
    const char *sql;
    size_t sql_size;
    const pier_args *args;
    pier__postgres_statement *statement; /* in the cache, or `unnamed` */
    pier__postgres_statement *preparing; /* not described yet, and so in neither */
    bool flushing;                       /* part of it is not sent yet */
    bool answered;                       /* the server is ready for the next one */
    int syncs;                           /* in pipeline mode: how many are still to come */
    int part;                            /* in pipeline mode: which answer comes next */
    bool whole;          /* what is being prepared is executed in the same round trip */
    bool copying;        /* COPY out that nobody asked for in this way */
    PGresult *described; /* from preparing */
    PGresult *result;    /* the last one without an error */
    PGresult *error;     /* the first error */
    pier__postgres_cancel *cancel;
    int64_t until;                   /* the bound of cleaning up; 0: none */
    int64_t cancel_at, cancel_pause; /* when to cancel again */

    /* Between requests. */
    bool resetting;     /* the answer to a ROLLBACK is still to come */
    unsigned rollbacks; /* seen; each may have ended cursors */
    unsigned tx_count;  /* transactions that have ended */
    uint64_t cursors;   /* the numbers of those that are declared */

    /* Rows that come one by one, and are collected in blocks. A cursor may be freed before they
     * have ended, so it is known by a number; 0: no rows are coming. */
    unsigned stream, stream_count;
    bool dropping;      /* nobody wants them any more */
    bool out_of_memory; /* which is why */
    pier__postgres_builder builder;
    size_t goal; /* rows of a full block */
} pier__postgres_conn;

typedef enum pier__postgres_cursor_mode {
    PIER__CURSOR_NEW = 0,
    PIER__CURSOR_STREAM, /* rows come one by one, and occupy the connection */
    PIER__CURSOR_SERVER, /* DECLARE and FETCH, so that other statements can run between */
    PIER__CURSOR_WHOLE   /* all rows at once: what cannot be declared, in a transaction */
} pier__postgres_cursor_mode;

struct pier__postgres_cursor {
    pier_cursor base; /* first */
    pier__postgres_cursor_mode mode;
    /* STREAM */
    unsigned stream;  /* its number on the connection */
    PGresult *failed; /* an error behind rows that had to be delivered first */
    /* SERVER */
    int number;    /* in its name, pier_c<number> */
    char *declare; /* the statement */
    bool declared, binary;
    bool exhausted;               /* the server has no more rows; to be closed there */
    unsigned rollbacks, tx_count; /* of the connection when it was declared */
    int fetch_rows;               /* how many it asks for at once */
};

static inline pier__postgres_conn *pier__postgres_conn_of(const pier__db_op *op)
{
    return (pier__postgres_conn *)op->conn;
}

/* connect.c. Both are called with PIER__START first, and not again once they have ended. */

typedef enum pier__postgres_progress {
    PIER__STILL_WAITING, /* op->wait is set */
    PIER__DONE,
    PIER__FAILED /* `err` is filled; the connection is closed */
} pier__postgres_progress;

/* Connects, trying hosts and addresses in turn until the moment `until` (0: none). */
pier__postgres_progress pier__postgres_connect(pier__postgres_conn *conn, pier__db_op *op,
                                               int64_t until, unsigned events, pier_error *err);
/* Gives up, and frees what connecting holds. */
void pier__postgres_connect_end(pier__postgres_conn *conn);

/* session.c */

/* Must the connection be opened again before it can be used? */
bool pier__postgres_is_stale(pier__postgres_conn *conn);
/* All connections of the pool that are idle now are to be looked at before they are used. */
void pier__postgres_suspect(pier__postgres_conn *conn);
/* Ends the session and forgets all that belonged to it. `conn->base.watch` must be closed. */
void pier__postgres_disconnect(pier__postgres_conn *conn);
/* Makes the connection clean without waiting. False: it cannot be used again. */
bool pier__postgres_reset(pier__postgres_conn *conn);
/* Notes what state a request has left the session in. */
void pier__postgres_settle(pier__postgres_conn *conn);

/* results.c: what the server answers. */

/* Reads from the socket. False: the connection broke. */
bool pier__postgres_receive(pier__postgres_conn *conn);
/* The same, again and again while rows of a stream come, up to a full block. */
bool pier__postgres_receive_rows(pier__postgres_conn *conn);
/* Takes the results that have come, up to a full block of rows or the end of the answer. */
void pier__postgres_collect(pier__postgres_conn *conn);
/* Is a block of streamed rows as large as it should be? */
bool pier__postgres_block_is_full(const pier__postgres_conn *conn);
/* Frees what a request has left. */
void pier__postgres_results_clear(pier__postgres_conn *conn);

/* prepare.c */

/* Sends what prepares conn->sql, and executes it with that where it takes no arguments and `whole`
 * is true. False: the operation has failed. */
bool pier__postgres_prepare_send(pier__db_op *op, bool whole);
/* Takes the answer. False: the operation has failed. */
bool pier__postgres_prepare_end(pier__db_op *op);
/* After an error: was the statement prepared for a schema that is no more? Then it is forgotten,
 * and true says that the request can be made again. */
bool pier__postgres_prepare_again(pier__db_op *op);

/* query.c: requests. In a step each of the functions below that ends it comes last. */

void pier__postgres_run_step(pier__db_op *op, unsigned events);

/* Sends conn->statement with conn->args. False: the operation has failed. */
bool pier__postgres_execute_send(pier__db_op *op);
/* Checks what PQsend... returned. False: the operation has failed. */
bool pier__postgres_sent(pier__db_op *op, int sent);
/* Ends the step: waits for the answer to what was sent, which is dealt with in `step`. */
void pier__postgres_await(pier__db_op *op, int step);
/* Finds or prepares conn->sql, and goes on with pier__postgres_cursor_prepared or the request. */
void pier__postgres_prepare(pier__db_op *op, bool whole);
/* Starts to cancel on the server what the connection does, with a bound. */
void pier__postgres_stop(pier__db_op *op);

void pier__postgres_succeed(pier__db_op *op);
void pier__postgres_fail(pier__db_op *op, const pier_error *err);
void pier__postgres_fail_sql(pier__db_op *op); /* with conn->error */
void pier__postgres_fail_cancelled(pier__db_op *op);
void pier__postgres_fail_broken(pier__db_op *op); /* the connection is lost */
void pier__postgres_fail_nomem(pier__db_op *op);

/* Steps of a request, in op->scratch.step. */
enum {
    PIER__STEP_START = 0,
    PIER__STEP_CONNECTING, /* again, because the connection was stale */
    PIER__STEP_RESETTING,  /* waiting for the answer to a ROLLBACK sent before */
    PIER__STEP_PREPARING,
    PIER__STEP_EXECUTING,
    PIER__STEP_STREAMING, /* rows of a cursor are coming */
    PIER__STEP_DECLARING, /* a server cursor */
    PIER__STEP_FETCHING,
    PIER__STEP_CLOSING
};

/* cursor.c */

void pier__postgres_cursor_start(pier__db_op *op);
void pier__postgres_cursor_prepared(pier__db_op *op);
/* The server has answered, or a block of rows is there. */
void pier__postgres_cursor_step(pier__db_op *op);
void pier__postgres_cursor_fini(pier_cursor *cursor);

#endif
