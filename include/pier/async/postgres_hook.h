#ifndef PIER_ASYNC_POSTGRES_HOOK_H
#define PIER_ASYNC_POSTGRES_HOOK_H
/*
 * What a Postgres server says besides its answers: notices, and that it ends a session. The hooks
 * belong to the pool, whichever handle of it is given, and to all its connections; setting another
 * one replaces it and setting NULL removes it. Nothing here waits.
 *
 * A hook runs where the connection is being worked on: on the thread that blocks in a call, or on
 * the loop thread, under no lock of Pier's. What a statement has caused is told before the call or
 * the future of it ends, unless that was cancelled. Several connections call at once. A hook must
 * not wait for anything: no blocking function of Pier, and no long work.
 */
#include <pier/async/db.h>
#include <pier/hooks.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Texts are UTF-8, borrowed until the hook returns; of more than 64 KB they are cut. */
typedef struct pier_postgres_notice {
    int level; /* a pier_log_level: PIER_LOG_WARNING, _INFO (NOTICE, INFO, LOG) or _DEBUG */
    int pid;   /* of the session's process on the server: pg_backend_pid() */
    const char *severity; /* "NOTICE", never translated */
    const char *sqlstate; /* "00000" where there is nothing more to say */
    const char *message;
    const char *detail;  /* NULL: there is none */
    const char *hint;    /* NULL: there is none */
    const char *context; /* the functions that it comes from; NULL: none */
    int64_t dropped;     /* notices before this one on its connection, for want of memory, or
                            because they came too fast: more than 1 MB in one piece */
} pier_postgres_notice;

/* `notice` is borrowed until the hook returns. */
typedef void (*pier_postgres_notice_fn)(const pier_postgres_notice *notice, void *user_data);

/* Texts are borrowed until the hook returns. */
typedef struct pier_postgres_end {
    int pid;              /* of the session's process on the server */
    bool idle;            /* nobody used it: it was in the pool */
    bool in_transaction;  /* it was in a transaction, which is lost */
    const char *sqlstate; /* 57P01 ended by an administrator, 57P02 after a crash, 57P05
                             idle_session_timeout, 25P03 idle_in_transaction_session_timeout; "":
                             the connection broke without a word */
    const char *message;  /* what the server said last, or how the connection broke */
} pier_postgres_end;

/* `end` is borrowed until the hook returns. */
typedef void (*pier_postgres_end_fn)(const pier_postgres_end *end, void *user_data);

/**
 * Sets what is called with each notice and warning: RAISE NOTICE, `create table if not exists`.
 * Which ones the server sends is its setting client_min_messages. Without a hook they go to the log
 * hook (pier_log_set), with their level.
 *
 * @param db         borrowed until the call returns: any handle of a Postgres pool
 * @param fn         borrowed until it is replaced or the pool is closed: NULL: the log has them
 * @param user_data  shared: handed to `fn`
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return 0; PIER_EINVAL for a database that is no Postgres
 *
 * Threads: any; a hook that was replaced may still be running when this returns.
 * Mirrors: `PQsetNoticeReceiver`, asyncpg `Connection.add_log_listener`.
 */
PIER_API int pier_postgres_on_notice(pier_db *db, pier_postgres_notice_fn fn, void *user_data,
                                     pier_error *err);

/**
 * Sets what is called when a session ends that Pier has not ended: by an administrator, a timeout
 * of the server's, a crash, or because the network broke. Once for each. Without a hook it goes to
 * the log, as a warning.
 *
 * The pool drops such a connection and makes another when one is needed. The end of one that was
 * used is noticed with the next answer that it owes. One that was idle is looked at when it is
 * borrowed after a second or more, and by the pool every 15 seconds, or four times in its
 * idle_timeout_ms or lifetime_ms where those are shorter.
 *
 * @param db         borrowed until the call returns: any handle of a Postgres pool
 * @param fn         borrowed until it is replaced or the pool is closed: NULL: the log has them
 * @param user_data  shared: handed to `fn`
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return 0; PIER_EINVAL for a database that is no Postgres
 *
 * Threads: any; a hook that was replaced may still be running when this returns.
 * Mirrors: asyncpg `Connection.add_termination_listener`.
 */
PIER_API int pier_postgres_on_session_end(pier_db *db, pier_postgres_end_fn fn, void *user_data,
                                          pier_error *err);

#ifdef __cplusplus
}
#endif
#endif
