#ifndef PIER_QUERY_LOG_H
#define PIER_QUERY_LOG_H
/*
 * A log of queries: each request of a database, with its times. It belongs to the process, as the
 * hooks of pier/hooks.h do. Without it a request pays one load.
 */
#include <pier/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What of a statement is shown. Its arguments never are. */
typedef enum pier_query_sql {
    PIER_QUERY_SQL_NONE = 0,
    PIER_QUERY_SQL_MASKED = 1, /* its beginning, 2,000 bytes at most, with ? for each string and
                                  number in it, and without comments. What stands in double quotes
                                  is taken for a name */
    PIER_QUERY_SQL_WHOLE = 2   /* as it was given */
} pier_query_sql;

/* One request has ended. Texts are borrowed until the function returns. */
typedef struct pier_query {
    const char *operation; /* "pier_db_fetch" */
    const char *database;  /* its URL without secrets */
    const char *sql;       /* NULL: not asked for; none; or it was cancelled and the text is gone */
    const pier_error *err; /* how it failed; NULL: it did not, or for want of memory */
    int status;            /* 0, or the status that it failed with */
    int connection;        /* Postgres: the session's process on the server; 0: there is none, or
                              none was had */
    int64_t rows;          /* that it fetched or changed */
    int64_t waited_ns;     /* for a connection, connecting included, and for its turn on it */
    int64_t ran_ns;        /* on the connection */
    bool on_loop;          /* stepped by the loop, else by the thread that waited */
} pier_query;

/* `query` is borrowed until it returns. It runs where the request ends, before its caller goes on,
 * under no lock; it must be thread-safe, must not wait, and must not call Pier. */
typedef void (*pier_query_fn)(const pier_query *query, void *user_data);

typedef struct pier_query_log_options {
    size_t struct_size; /* set by PIER_QUERY_LOG_OPTIONS */
    int sql;            /* a pier_query_sql */
    int64_t slow_ms;    /* only those that took as long, waiting included; 0: all */
} PIER_DESIGNATED pier_query_log_options;

/* pier_query_log_set(fn, data, PIER_QUERY_LOG_OPTIONS(.slow_ms = 200), &err) */
#define PIER_QUERY_LOG_OPTIONS(...)                                                                \
    (&(const pier_query_log_options){.struct_size = sizeof(pier_query_log_options), __VA_ARGS__})

/**
 * Sets what is called for each request of a database that has ended: queries, the requests of
 * cursors, writers and transactions, also those that Pier makes to end them. Requests that were
 * under way when it was set are left out, and those that were refused before they began.
 *
 * @param fn         shared: NULL ends the log
 * @param user_data  shared: handed to `fn`
 * @param options    copied: NULL for the defaults
 * @param err        borrowed until the call returns: filled on failure, or NULL
 * @return 0, or PIER_EINVAL and nothing has changed
 *
 * Threads: any; a function that was replaced may still be running when this returns.
 * Mirrors: asyncpg `add_query_logger`, Postgres `log_min_duration_statement`.
 */
PIER_API int pier_query_log_set(pier_query_fn fn, void *user_data,
                                const pier_query_log_options *options, pier_error *err);

#ifdef __cplusplus
}
#endif
#endif
