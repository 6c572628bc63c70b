#ifndef PIER_DRIVERS_POSTGRES_CONN_H
#define PIER_DRIVERS_POSTGRES_CONN_H
/*
 * A database, a connection and a cursor of this driver, and how its files divide the work:
 *
 *   driver.c    what the sdk calls             url.c      which servers, with which options
 *   connect.c   opening a connection           start.c    what of that blocks
 *   target.c    which server is wanted         settings.c settings for each session
 *   session.c   a connection between requests  cancel.c   stopping what runs there
 *   query.c     a request, from send to end    prepare.c  preparing its statement
 *   many.c      one statement and many rows    cursor.c   the requests of cursors
 *   describe.c  what a statement takes and gives
 *   ahead.c     requests on the wire behind others
 *   cork.c      sending at the end of the loop's round
 *   by_name.c   arguments by name              names.c    names in a statement's text
 *   scan.c      a statement's text, token by token
 *
 *   transport.c bytes, to and from the server  message.c  what is sent
 *   results.c   what comes                     rows.c     blocks of rows of it
 *   columns.c   what they consist of           report.c   errors and notices
 *   notice.c    what the server says unasked   text.c     its texts, made fit for messages
 */
#include "drivers/postgres/cancel.h"
#include "drivers/postgres/encode.h"
#include "drivers/postgres/message.h"
#include "drivers/postgres/notice.h"
#include "drivers/postgres/report.h"
#include "drivers/postgres/rows.h"
#include "drivers/postgres/start.h"
#include "drivers/postgres/statement_cache.h"
#include "drivers/postgres/transport.h"
#include "sdk/db.h"
#include "sdk/resolve.h"
#include <pier/async/postgres.h>

/* One server to try. NULL: libpq's default. */
typedef struct pier__postgres_host {
    char *host; /* a name, an address, or the directory of a unix socket */
    char *address;
    char *port;
} pier__postgres_host;

enum { PIER__POSTGRES_OPTIONS_MAX = 64 };           /* libpq 15 has 44 */
enum { PIER__POSTGRES_SQL_MAX = (1 << 30) - 1024 }; /* bytes; a message has 1 GB at most */

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
    bool counting;       /* the answers are added up */
    bool in_savepoint;   /* in a transaction that the user has begun on a lease */
    bool complete;       /* all rows were sent, and what commits them */
    size_t sent;         /* rows */
    int64_t lead;        /* statements that were sent before them */
    int64_t rows_before; /* of the writer's, for messages */
    pier_error failure;  /* of a row that could not be bound */
} pier__postgres_many;

/* Of whoever has the connection's turn. */
typedef struct pier__postgres_conn {
    pier__conn base; /* first */
    PGconn *pg;      /* opens it, cancels and ends it; NULL while it is not connected */
    int fd;
    pier__postgres_transport transport; /* while it is open */
    char tx; /* in the server's words: I outside a transaction, T in one, E in one that
                has failed */
    /* What the server reports of the session; "": nothing. */
    char encoding[24];
    char standby[4];    /* "on" or "off": in_hot_standby, */
    char reads_only[4]; /* default_transaction_read_only, */
    char conforming[4]; /* and standard_conforming_strings */
    bool idle;          /* has been in the pool since its last request */
    bool said_goodbye;  /* the server is about to end the session */
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

    struct pier__postgres_by_name *by_name; /* NULL: no arguments have had names yet */

    /* The request under way. */
    const char *text; /* the user's */
    size_t text_size;
    const struct pier__postgres_names *names; /* of its arguments; NULL: they are numbered */
    const char *sql; /* what is sent: the text, or what became of it without names */
    size_t sql_size;
    const pier_args *args;               /* in the order of $1, $2, ... */
    pier__postgres_statement *statement; /* in the cache, or `unnamed` */
    pier__postgres_statement *preparing; /* not described yet, and so in neither */
    bool flushing;                       /* part of it is not sent yet */
    bool paused;                         /* it waits for more of a long answer to come */
    bool simple;                         /* it is a Query, without a Sync of its own */
    bool whole;                          /* what is being prepared is executed with that */

    /* Its answer, as far as it has come. */
    int syncs;        /* ReadyForQuery messages that are still to come */
    bool answered;    /* all have, or the session has ended */
    bool bound;       /* what was bound was taken */
    bool lost;        /* the session has ended, or cannot be understood; the transport says why */
    bool keeping;     /* rows are collected, else they are dropped */
    bool completed;   /* a statement has ended well, */
    bool suspended;   /* though there may be more of its rows, */
    bool rolled_back; /* and was a rollback, asked for or not */
    int64_t changed;  /* rows, by it, or by many */
    int64_t part;     /* statements that have ended */
    size_t wanted;    /* bytes of the message that has not come as a whole */
    size_t skipping;  /* bytes of a message that nobody wants and that are still to come */
    bool described;   /* what it takes and gives is known: */
    int param_count;
    Oid *param_types;
    pier__postgres_columns *columns; /* of the rows; NULL: there are none */
    const unsigned char *kinds;      /* one of their arrays */
    pier__postgres_builder builder;  /* and the rows */
    bool out_of_memory, too_much;    /* why they are dropped */
    pier__postgres_report *error;    /* the first */
    int64_t error_part;              /* how many statements had ended before it */
    pier__postgres_many many;
    pier__postgres_cancel *cancel;
    int64_t until;                   /* the bound of cleaning up; 0: none */
    int64_t cancel_at, cancel_pause; /* when to cancel again */

    /* Between requests. */
    bool named;        /* prepared statements of the user's may be there */
    unsigned tx_count; /* transactions that have ended */
    uint64_t portals;  /* the numbers of those that cursors have open */
    bool closing;      /* the answer to the end of one is still to come */

    /* Requests that were sent before their turn, ever, and how many of their answers have been
     * read, or are being read; the columns of the others, each at its number. */
    int64_t ahead, ahead_read;
    pier__postgres_columns **ahead_columns; /* NULL: there was none ever */
    bool corked; /* requests are not sent yet: until the loop has nothing more urgent to do */
    pier__post uncork;

    /* Rows of a cursor that occupies the connection. It may be freed before they have ended, so it
     * is known by a number; 0: no rows are coming. */
    unsigned stream, stream_count;
    size_t goal; /* rows of a full block */
} pier__postgres_conn;

typedef enum pier__postgres_cursor_mode {
    PIER__CURSOR_NEW = 0,
    PIER__CURSOR_STREAM, /* rows come as fast as they are read, and occupy the connection */
    PIER__CURSOR_PORTAL  /* so many at a time, so that other statements can run between */
} pier__postgres_cursor_mode;

struct pier__postgres_cursor {
    pier_cursor base; /* first */
    pier__postgres_cursor_mode mode;
    /* STREAM */
    unsigned stream;               /* its number on the connection */
    pier__postgres_report *failed; /* an error behind rows that had to be delivered first */
    /* PORTAL */
    int number;        /* in its name, pier_c<number> */
    bool open;         /* on the server */
    bool exhausted;    /* the server has no more rows; to be closed there */
    unsigned tx_count; /* of the connection when it was opened */
    int fetch_rows;    /* how many it asks for at once */
    pier__postgres_columns *columns;
    const unsigned char *kinds;
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
/* The server reports a setting. */
void pier__postgres_note_parameter(pier__postgres_conn *conn, const char *name, const char *value);
/* Notes what state a request has left the session in. */
void pier__postgres_settle(pier__postgres_conn *conn);

/* results.c: what the server answers. */

/* Sends what is left to be sent, reads what has come and takes it, up to a full block of rows or
 * the end of the answer. */
void pier__postgres_receive(pier__postgres_conn *conn);
/* Takes what has been read. */
void pier__postgres_collect(pier__postgres_conn *conn);
/* The same between requests. */
void pier__postgres_collect_unasked(pier__postgres_conn *conn);
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
/* Is a type in the columns that have come that cannot be read, because they have changed since the
 * statement was described? Then it is forgotten, and the operation has failed. */
bool pier__postgres_is_misread(pier__db_op *op);
/* Forgets what is known of conn->sql. */
void pier__postgres_forget(pier__postgres_conn *conn);

/* query.c: requests. In a step each of the functions below that ends it comes last. */

void pier__postgres_run_step(pier__db_op *op, unsigned events);

/* Begins something that is sent: nothing of its answer has come. Each of the following fills the
 * transport's buffer, and says false where there is no memory. */
void pier__postgres_begin(pier__postgres_conn *conn);
/* A Query. */
bool pier__postgres_add_query(pier__postgres_conn *conn, const char *sql);
/* conn->statement with what has been encoded, in a portal, of which `rows_max` rows are wanted at
 * first (0: all). */
bool pier__postgres_add_statement(pier__postgres_conn *conn, const char *portal, int rows_max);
/* The end of what is answered at once. */
bool pier__postgres_add_sync(pier__postgres_conn *conn);
/* Sends it, unless `added` says that it could not be added. False: the operation has failed. */
bool pier__postgres_send(pier__db_op *op, bool added);
/* The same, on the loop at the end of its round. */
bool pier__postgres_send_soon(pier__db_op *op, bool added);
/* Encodes conn->args for conn->statement, and sends that with a Sync. False: the operation has
 * failed. */
bool pier__postgres_execute_send(pier__db_op *op, const char *portal, int rows_max);
/* Fails it where the server has answered something else; the connection is lost. */
void pier__postgres_misled(pier__db_op *op);
/* Does whoever waits for the answer want its rows? */
bool pier__postgres_wants_rows(const pier__db_op *op);
/* Ends the step: waits for the answer to what was sent, which is dealt with in `step`. */
void pier__postgres_await(pier__db_op *op, int step);
/* Finds or prepares conn->sql, and goes on with pier__postgres_cursor_prepared or the request. */
void pier__postgres_prepare(pier__db_op *op, bool whole);
/* Starts to cancel on the server what the connection does, with a bound. */
void pier__postgres_stop(pier__db_op *op);

/* Makes op->block of the rows that have come. False: the operation has failed. */
bool pier__postgres_make_block(pier__db_op *op);

void pier__postgres_succeed(pier__db_op *op);
void pier__postgres_fail(pier__db_op *op, const pier_error *err);
void pier__postgres_fail_sql(pier__db_op *op); /* with conn->error */
void pier__postgres_fail_cancelled(pier__db_op *op);
void pier__postgres_fail_broken(pier__db_op *op); /* the connection is lost */
void pier__postgres_fail_nomem(pier__db_op *op);

/* Steps of a request, in op->scratch.step. */
enum {
    PIER__STEP_START = 0,
    PIER__STEP_SKIPPING,  /* answers that nobody wants */
    PIER__STEP_RESETTING, /* waiting for the answer to what was sent to make it clean */
    PIER__STEP_PREPARING,
    PIER__STEP_EXECUTING,
    PIER__STEP_STREAMING, /* rows of a cursor are coming */
    PIER__STEP_FETCHING,  /* from a portal */
    PIER__STEP_CLOSING,
    PIER__STEP_CLOSED,  /* one that was closed before: its answer comes first */
    PIER__STEP_SENDING, /* rows that are not all sent yet */
    PIER__STEP_MANY,    /* all are */
    PIER__STEP_UNDOING, /* what they have done */
    PIER__STEP_NAMING   /* types */
};

/* by_name.c */

/* Notes what a request runs, with numbers for names. False: the operation has failed. */
bool pier__postgres_take_request(pier__db_op *op);
/* Encodes arguments for conn->statement: conn->args, or a row. 0, or a status with all of `err`. */
int pier__postgres_bind(pier__postgres_conn *conn, const pier_args *args, pier_error *err);
void pier__postgres_by_name_free(struct pier__postgres_by_name *by_name);

/* ahead.c: requests that are sent before their turn. */

bool pier__postgres_send_ahead(pier__db_op *op);
void pier__postgres_leave_ahead(pier__db_op *op);
/* The session has ended: forgets them. */
void pier__postgres_forget_ahead(pier__postgres_conn *conn);
/* A request begins: how many answers come before its own that nobody wants. */
int pier__postgres_unwanted(const pier__db_op *op);
/* Waits for them, in the step SKIPPING. */
void pier__postgres_skip(pier__db_op *op, int count);
/* Reads the answer to a request that was sent before its turn. */
void pier__postgres_take_up(pier__db_op *op);

/* cork.c: loop thread, and only while an operation of the loop has the turn. */

/* What the transport holds is sent when the loop has nothing more urgent to do; */
void pier__postgres_cork(pier__postgres_conn *conn);
/* or now, where it has not been. */
void pier__postgres_uncork(pier__postgres_conn *conn);

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
