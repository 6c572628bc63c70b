#ifndef PIER_SQLITE_DRIVER_H
#define PIER_SQLITE_DRIVER_H
/*
 * The driver's face to the SDK, and its URLs.
 */
#include "sdk/db.h"

extern const pier__db_driver pier__sqlite_driver;

/* A URL taken apart. */
typedef struct pier__sqlite_url {
    const char *path; /* in the URL, not terminated */
    size_t path_size;
    int open_flags; /* of sqlite3_open_v2 */
    int busy_timeout_ms;
} pier__sqlite_url;

/* Reads `sqlite:path?key=value&...`. 0 or a status. */
int pier__sqlite_url_read(pier__sqlite_url *url, const char *text, pier_error *err);

#endif
