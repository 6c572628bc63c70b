#ifndef PIER_DRIVERS_POSTGRES_CONN_H
#define PIER_DRIVERS_POSTGRES_CONN_H
/*
 * A database, a connection and a cursor of this driver, and how its files divide the work:
 *
 *   driver.c   what the sdk calls             url.c      which servers, with which options
 *   connect.c  opening a connection           session.c  a connection between requests
 *   query.c    a request, from send to end    prepare.c  preparing its statement
 *   results.c  taking what the server sends   cursor.c   the requests of cursors
 *   cancel.c   stopping what runs there       many.c     one statement and many rows
 *   describe.c what a statement takes and gives
 *   start.c    what of connecting blocks     target.c   which server is wanted
 *   settings.c settings for each session
 *   by_name.c  arguments by name             names.c    names in a statement's text
 *   scan.c     a statement's text, token by token
 *   notice.c   what the server says unasked  text.c     its texts, made fit for messages
 */
#include "drivers/postgres/cancel.h"
#include "drivers/postgres/encode.h"
#include "drivers/postgres/notice.h"
#include "drivers/postgres/rows.h"
#include "drivers/postgres/start.h"
#include "drivers/postgres/statement_cache.h"
#include "sdk/db.h"
#include "sdk/resolve.h"
#include <pier/async/postgres.h>

/* One server to try. NULL: libpq's default. */
typedef struct pier__postgres_host {
    char *host; /* a name, an address, or the directory of a unix socket */
    char *address;
    char *port;
} pier__postgres_host;

enum { PIER__POSTGRES_OPTIONS_MAX = 64 }; /* libpq 15 has 44 */

/* Which servers are wanted; the order of libpq's words for them. */
typedef enum pier__postgres_wanted {
    PIER__WANTED_ANY = 0,
    PIER__WANTED_WRITABLE, /* read-write and primary */
    PIER__WANTED_STANDBY_FIRST,
    PIER__WANTED_OTHER
} pier__postgres_wanted;

/* Immutable after db_init, but for `suspect` and `hooks`. */
typedef struct pier__postgres_db {
    pier_db base; /* first */
    /* For PQconnectStartParams, without what is in `hosts`. */
    char *keywords[PIER__POSTGRES_OPTIONS_MAX], *values[PIER__POSTGRES_OPTIONS_MAX];
    int option_count;
    pier__postgres_host *hosts;
    int host_count;
    char *attributes; /* target_session_attrs; NULL: any */
    pier__postgres_wanted wanted;
    bool random;                     /* hosts and their addresses are tried in random order */
    bool reads_files;                /* libpq looks for a pass file or a service file each time */
    pier_postgres_password password; /* NULL: there is no such function */
    void *password_data;
    int cache_max; /* statements known on a connection */
    bool unnamed;  /* nothing is prepared on the server: for poolers that change it between
                      transactions. What was described once is still known, and sent along */
    _Atomic int64_t suspect; /* connections used last before this moment may have been closed */
    pier__postgres_hooks hooks;
} pier__postgres_db;

typedef struct pier__postgres_connecting {
    int phase;
    int *order;                  /* of the hosts; NULL: as in the URL */
    int entered;                 /* hosts tried in this pass; the last of them is being tried */
    bool second_pass;            /* prefer-standby, and there is none: any will do */
    pier__lookup *lookup;        /* of its name */
    const struct addrinfo *next; /* its address to try next */
    int addresses;               /* that are left, `next` included */
    char *password;              /* that the function gave for this host */
    pier__postgres_start *start; /* of the attempt under way */
    int64_t attempt_until;       /* its bound */
    bool final;                  /* no other address or host can do better */
    bool not_ready;              /* a server said that it is starting up or shutting down */
    int64_t pause;               /* before all are tried again because of that */
    uint64_t random;
    pier_error failure; /* of the last one */
} pier__postgres_connecting;

typedef struct pier__postgres_cursor pier__postgres_cursor;

/* One statement that runs for many rows; the failure stands last, because it is large. */
typedef struct pier__postgres_many {
    bool counting;       /* answers are counted and dropped */
    bool in_savepoint;   /* in a transaction that the user has begun on a lease */
    bool complete;       /* all rows were sent, and what commits them */
    size_t sent;         /* rows */
    int64_t lead;        /* what was sent before them */
    int64_t changed;     /* rows in the table */
    int64_t rows_before; /* of the writer's, for messages */
    pier_error failure;  /* of a row that could not be bound */
} pier__postgres_many;

/* Of whoever has the connection's turn. */
typedef struct pier__postgres_conn {
    pier__conn base; /* first */
    PGconn *pg;      /* NULL while it is not connected */
    int fd;
    bool tls;
    bool idle;         /* has been in the pool since its last request */
    bool said_goodbye; /* the server is about to end the session */
    pier__postgres_said said;
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
    const char *text; /* the user's */
    size_t text_size;
    const char *sql; /* what is sent: the same, unless its arguments have names */
    size_t sql_size;
    const pier_args *args;                    /* in the order of $1, $2, ... */
    const struct pier__postgres_names *names; /* of the arguments; NULL: they are numbered */
    struct pier__postgres_by_name *by_name;   /* NULL: none has had names yet */
    pier__postgres_statement *statement;      /* in the cache, or `unnamed` */
    pier__postgres_statement *preparing;      /* not described yet, and so in neither */
    bool flushing;                            /* part of it is not sent yet */
    bool answered;                            /* the server is ready for the next one */
    int syncs;                                /* in pipeline mode: how many are still to come */
    int64_t part;                             /* in pipeline mode: which answer comes next */
    bool housekeeping;                        /* in pipeline mode: what comes concerns nobody */
    bool whole;          /* what is being prepared is executed in the same round trip */
    bool copying;        /* COPY out that nobody asked for in this way */
    PGresult *described; /* from preparing */
    PGresult *result;    /* the last one without an error */
    PGresult *error;     /* the first error */
    int64_t error_part;  /* which answer it was */
    pier__postgres_many many;
    pier__postgres_cancel *cancel;
    int64_t until;                   /* the bound of cleaning up; 0: none */
    int64_t cancel_at, cancel_pause; /* when to cancel again */

    /* Between requests. */
    bool named;         /* prepared statements of the user's may be there */
    unsigned rollbacks; /* seen; each may have ended cursors */
    unsigned tx_count;  /* transactions that have ended */
    uint64_t cursors;   /* the numbers of those that are declared */
    bool closing;       /* the answer to the CLOSE of one is still to come */

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
    size_t prefix; /* what of it stands before the user's, all in ASCII */
    bool declared, binary;
    bool exhausted;               /* the server has no more rows; to be closed there */
    unsigned rollbacks, tx_count; /* of the connection when it was declared */
    int fetch_rows;               /* how many it asks for at once */
};

static inline pier__postgres_conn *pier__postgres_conn_of(const pier__db_op *op)
{
    return (pier__postgres_conn *)op->conn;
}

static inline bool pier__postgres_is_unnamed(const pier__postgres_conn *conn)
{
    return ((const pier__postgres_db *)conn->base.db)->unnamed;
}

/* Is a statement of this size kept in the cache? */
static inline bool pier__postgres_is_cached(const pier__postgres_conn *conn, size_t sql_size)
{
    return sql_size <= PIER__POSTGRES_CACHE_SQL_MAX && conn->statements.max > 0;
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

/* target.c */

/* The error of a request: has the server become read-only, where one is wanted that is not? Then
 * the connections that the pool has are not used again, and `err` says so. */
void pier__postgres_check_target(pier__db_op *op, pier_error *err);
/* The index of the host that is tried as number `entered`, from 1. */
int pier__postgres_host_index(const pier__postgres_conn *conn);
/* Mixes the hosts, where they are to be. False: no memory. */
bool pier__postgres_mix_hosts(pier__postgres_conn *conn);
/* The first and the following addresses of a host, in the order in which they are to be tried. */
void pier__postgres_first_address(pier__postgres_conn *conn, const struct addrinfo *list);
void pier__postgres_next_address(pier__postgres_conn *conn);
/* What is asked of the server that is being tried: a value of target_session_attrs. */
const char *pier__postgres_attributes(const pier__postgres_conn *conn);
/* Begins to try all hosts once more with less asked of them. False: it has been done, or there is
 * nothing less. */
bool pier__postgres_next_pass(pier__postgres_conn *conn);

/* session.c */

/* Has a connection that comes out of the pool been lost meanwhile? */
bool pier__postgres_is_stale(pier__postgres_conn *conn);
/* Has anything arrived on one that is in the pool? Does not look at it. */
bool pier__postgres_stirs(const pier__postgres_conn *conn);
/* Does: has its session ended? */
bool pier__postgres_was_left(pier__postgres_conn *conn);
/* All connections of the pool that are idle now are to be looked at before they are used. */
void pier__postgres_suspect(pier__postgres_conn *conn);
/* Ends the session and forgets all that belonged to it. `conn->base.watch` must be closed. */
void pier__postgres_disconnect(pier__postgres_conn *conn);
/* Makes the connection clean without waiting. False: it cannot be used again. */
bool pier__postgres_reset(pier__postgres_conn *conn);
/* Has the session ended, as far as what has been read tells? */
bool pier__postgres_has_left(pier__postgres_conn *conn);
/* The server has refused that: says so in the log. */
void pier__postgres_reset_failed(const pier__postgres_conn *conn);
/* Notes what is run, so that it can be undone. */
void pier__postgres_note_effects(pier__postgres_conn *conn, unsigned effects);
void pier__postgres_note_script(pier__postgres_conn *conn, const char *sql);
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
/* In a result that has come: is a type in it that cannot be read, because columns have changed
 * since the statement was described? Then it is forgotten, and the operation has failed. */
bool pier__postgres_is_misread(pier__db_op *op, const PGresult *result);
/* Forgets what is known of conn->sql. */
void pier__postgres_forget(pier__postgres_conn *conn);

/* query.c: requests. In a step each of the functions below that ends it comes last. */

void pier__postgres_run_step(pier__db_op *op, unsigned events);

/* Sends conn->statement with conn->args. False: the operation has failed. */
bool pier__postgres_execute_send(pier__db_op *op);
/* Sends conn->statement with what has been encoded; as PQsendQueryPrepared. */
int pier__postgres_send_encoded(pier__postgres_conn *conn, bool binary);
/* Checks what PQsend... returned. False: the operation has failed. */
bool pier__postgres_sent(pier__db_op *op, int sent);
/* Ends the step: waits for the answer to what was sent, which is dealt with in `step`. */
void pier__postgres_await(pier__db_op *op, int step);
/* Finds or prepares conn->sql, and goes on with pier__postgres_cursor_prepared or the request. */
void pier__postgres_prepare(pier__db_op *op, bool whole);
/* Starts to cancel on the server what the connection does, with a bound. */
void pier__postgres_stop(pier__db_op *op);

/* How many rows a statement changed: those that it only read are no change. */
int64_t pier__postgres_count_changes(PGresult *result);

void pier__postgres_succeed(pier__db_op *op);
void pier__postgres_fail(pier__db_op *op, const pier_error *err);
void pier__postgres_fail_sql(pier__db_op *op); /* with conn->error */
void pier__postgres_fail_cancelled(pier__db_op *op);
void pier__postgres_fail_broken(pier__db_op *op); /* the connection is lost */
void pier__postgres_fail_nomem(pier__db_op *op);

/* Steps of a request, in op->scratch.step. */
enum {
    PIER__STEP_START = 0,
    PIER__STEP_RESETTING, /* waiting for the answer to what was sent to make it clean */
    PIER__STEP_PREPARING,
    PIER__STEP_EXECUTING,
    PIER__STEP_STREAMING, /* rows of a cursor are coming */
    PIER__STEP_DECLARING, /* a server cursor */
    PIER__STEP_FETCHING,
    PIER__STEP_CLOSING,
    PIER__STEP_CLOSED,  /* one that was closed before: its answer comes first */
    PIER__STEP_SENDING, /* rows that are not all sent yet */
    PIER__STEP_MANY,    /* all are */
    PIER__STEP_UNDOING, /* what they have done */
    PIER__STEP_DESCRIBING,
    PIER__STEP_NAMING /* types */
};

/* by_name.c */

/* Notes what a request runs, with numbers for names. False: the operation has failed. */
bool pier__postgres_take_request(pier__db_op *op);
/* Encodes arguments for conn->statement: conn->args, or a row. 0, or a status with all of `err`. */
int pier__postgres_bind(pier__postgres_conn *conn, const pier_args *args, pier_error *err);
void pier__postgres_by_name_free(struct pier__postgres_by_name *by_name);

/* cursor.c */

void pier__postgres_cursor_start(pier__db_op *op);
void pier__postgres_cursor_prepared(pier__db_op *op);
/* The server has answered, or a block of rows is there. */
void pier__postgres_cursor_step(pier__db_op *op);
void pier__postgres_cursor_fini(pier_cursor *cursor);

/* many.c */

void pier__postgres_many_start(pier__db_op *op);
void pier__postgres_many_prepared(pier__db_op *op);
/* The socket takes more. */
void pier__postgres_many_go_on(pier__db_op *op);
/* The server has answered. */
void pier__postgres_many_step(pier__db_op *op);

/* describe.c */

void pier__postgres_describe_start(pier__db_op *op);
void pier__postgres_describe_prepared(pier__db_op *op);
void pier__postgres_describe_step(pier__db_op *op);

#endif
