#ifndef PIER_DRIVERS_POSTGRES_STATEMENT_CACHE_H
#define PIER_DRIVERS_POSTGRES_STATEMENT_CACHE_H
/*
 * What one connection knows about the statements it has prepared on the server. Found by their
 * text, forgotten in the order of last use. Memory only: closing them on the server is the
 * caller's business. Used by whoever has the connection's turn.
 */
#include "drivers/postgres/columns.h"
#include <postgres_ext.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the names of prepared statements begin with. */
#define PIER__POSTGRES_NAMES "pier_"

typedef struct pier__postgres_statement pier__postgres_statement;

struct pier__postgres_statement {
    pier__postgres_statement *next;          /* in its bucket */
    pier__postgres_statement *newer, *older; /* by last use */
    uint64_t hash;
    /* From the server's description. */
    int param_count;
    Oid *param_types;
    pier__postgres_columns *columns;    /* NULL: it gives no rows */
    struct pier__postgres_names *names; /* of a text whose arguments have names; else NULL */
    /* From its text. */
    bool settled;          /* its columns stay what they are as long as it is prepared */
    unsigned char effects; /* on the session: PIER__EFFECT_... */
    char name[24];         /* on the server; "" for the unnamed one */
    size_t sql_size;
    char sql[]; /* zero-terminated */
};

enum {
    PIER__POSTGRES_CACHE_MAX = 100,       /* statements a connection, as asyncpg */
    PIER__POSTGRES_CACHE_SQL_MAX = 15360, /* longer ones are prepared each time, as asyncpg */
    PIER__POSTGRES_CACHE_BUCKETS = 256
};

/* A hash table and a list in the order of last use; each statement is in both. Zeroed memory is an
 * empty cache, but for `max`. */
typedef struct pier__postgres_cache {
    int count, max;
    pier__postgres_statement *newest, *oldest;
    pier__postgres_statement *buckets[PIER__POSTGRES_CACHE_BUCKETS];
} pier__postgres_cache;

/* A statement outside every cache; `name` is copied. NULL: no memory. */
pier__postgres_statement *pier__postgres_statement_new(const char *sql, size_t sql_size,
                                                       const char *name);
void pier__postgres_statement_free(pier__postgres_statement *statement);

/* Frees what is in it. */
void pier__postgres_cache_fini(pier__postgres_cache *cache);
/* The statement with this text, which counts as used now; NULL: there is none. */
pier__postgres_statement *pier__postgres_cache_find(pier__postgres_cache *cache, const char *sql,
                                                    size_t sql_size);
/* Puts one in that is not there yet. Gives the one that had to go for it, now the caller's. */
pier__postgres_statement *pier__postgres_cache_add(pier__postgres_cache *cache,
                                                   pier__postgres_statement *statement);
/* Takes one out; it is the caller's then. */
void pier__postgres_cache_remove(pier__postgres_cache *cache, pier__postgres_statement *statement);

#endif
