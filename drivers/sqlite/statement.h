#ifndef PIER_DRIVERS_SQLITE_STATEMENT_H
#define PIER_DRIVERS_SQLITE_STATEMENT_H
/*
 * Prepared statements, and the cache of them that each connection has. Statements are used by
 * whoever has the connection's turn; one that a cursor holds is in use between turns as well.
 */
#include "drivers/sqlite/rows.h"
#include <pier/value.h>

typedef struct pier__sqlite_statement pier__sqlite_statement;

struct pier__sqlite_statement {
    sqlite3_stmt *stmt; /* NULL: its connection was closed while a cursor held it */
    /* The connection's, and the cursor's while it holds it. */
    atomic_int refs;
    bool in_use;
    bool read_only;
    bool inserts;
    bool named;                /* its arguments go by name */
    bool borrows;              /* memory of its arguments' */
    int parameters;            /* of SQLite, which numbers names as they come */
    int needed;                /* how many arguments */
    int *arguments;            /* for each parameter its argument, from 0; NULL: in order */
    pier__sqlite_names *names; /* NULL until rows were asked for */
    int reprepared;            /* how often SQLite had done so when the names were read */
    /* In the cache, or, with `cached` false, outside. */
    bool cached;
    uint32_t hash;
    pier__sqlite_statement *next_in_bucket;
    pier__sqlite_statement *newer, *older;
    /* In the connection's list of those that cursors hold. */
    pier__sqlite_statement *next_held;
    size_t sql_size;
    char sql[]; /* zero-terminated */
};

enum {
    PIER__SQLITE_CACHE_MAX = 128, /* as CPython; a prepare costs 9 times a cached statement */
    PIER__SQLITE_CACHE_BUCKETS = 256
};

/* A hash table and a list in the order of last use. Invariants: `count` statements are in both;
 * count <= max, unless more than max of them are in use. */
typedef struct pier__sqlite_cache {
    int count, max;
    pier__sqlite_statement *newest, *oldest;
    pier__sqlite_statement *buckets[PIER__SQLITE_CACHE_BUCKETS];
} pier__sqlite_cache;

/* `cache` is zeroed memory. */
void pier__sqlite_cache_init(pier__sqlite_cache *cache, int max);
/* Ends all statements in it; none may be in use. */
void pier__sqlite_cache_fini(pier__sqlite_cache *cache);
/* The same without telling SQLite, for a forked child. */
void pier__sqlite_cache_forget(pier__sqlite_cache *cache);

/* Forgets all statements; those that are in use end when they are given back. */
void pier__sqlite_cache_flush(pier__sqlite_cache *cache);

/* Takes a statement from the cache, or prepares it. NULL: `err` is filled. */
pier__sqlite_statement *pier__sqlite_cache_take(pier__sqlite_cache *cache, sqlite3 *sqlite,
                                                const char *sql, size_t size, pier_error *err);
/* Resets a statement, lets go of its arguments and gives it back. */
void pier__sqlite_cache_give(pier__sqlite_cache *cache, pier__sqlite_statement *statement);

/* Binds arguments, which must live until the statement is given back. False: `err` is filled. */
bool pier__sqlite_statement_bind(pier__sqlite_statement *statement, const pier_args *args,
                                 pier_error *err);
/* Steps, collecting rows, until one of the bounds is reached (SQLITE_ROW), or the end
 * (SQLITE_DONE); else gives a failure, SQLITE_NOMEM also for the builder's. */
int pier__sqlite_statement_collect(pier__sqlite_statement *statement, pier__sqlite_builder *builder,
                                   size_t rows_max, size_t bytes_max);
/* The names of the columns, borrowed until the next step; NULL: no memory. */
pier__sqlite_names *pier__sqlite_statement_names(pier__sqlite_statement *statement);
/* Drops a reference, ending the statement with the last one; it must not be in the cache. */
void pier__sqlite_statement_unref(pier__sqlite_statement *statement);

#endif
