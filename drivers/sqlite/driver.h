#ifndef PIER_DRIVERS_SQLITE_DRIVER_H
#define PIER_DRIVERS_SQLITE_DRIVER_H
/*
 * The driver's face to the SDK, and its URLs.
 */
#include "sdk/db.h"

extern const pier__db_driver pier__sqlite_driver;

/* The path as it means the same file whatever the working directory will be; "file:" would make
 * SQLite read it as a URI. NULL: no memory. */
char *pier__sqlite_fixed_path(const char *path, size_t size);

enum { PIER__SQLITE_READERS_MAX = 100 };

/* What is set on each new connection. */
typedef struct pier__sqlite_setup {
    int statement_cache;                                   /* statements */
    int read_tx_max_ms;                                    /* 0: no bound */
    const char *journal_mode, *synchronous, *foreign_keys; /* constants; NULL: left as it is */
    int64_t journal_size_limit;                            /* -1: left as it is */
    int wal_autocheckpoint;                                /* the same */
    bool extensions;
} pier__sqlite_setup;

/* A URL taken apart. */
typedef struct pier__sqlite_url {
    const char *path; /* in the URL, not terminated */
    size_t path_size;
    int open_flags; /* of sqlite3_open_v2 */
    int busy_timeout_ms;
    int readers;
    bool memory;
    bool immutable, nolock;
    char vfs[64]; /* "": the default one */
    pier__sqlite_setup setup;
} pier__sqlite_url;

/* Reads `sqlite:path?key=value&...`. 0 or a status. */
int pier__sqlite_url_read(pier__sqlite_url *url, const char *text, pier_error *err);

#endif
