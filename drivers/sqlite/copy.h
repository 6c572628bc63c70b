#ifndef PIER_DRIVERS_SQLITE_COPY_H
#define PIER_DRIVERS_SQLITE_COPY_H
/*
 * What the ways of copying a database share: files that appear when they are complete, and the
 * steps of sqlite3_backup.
 */
#include "drivers/sqlite/attached.h"
#include <pier/async/sqlite_copy.h>

/* A file to be made. Zeroed: none. */
typedef struct pier__sqlite_target {
    char *path, *temporary; /* absolute */
    bool replace;
    bool published; /* it has its own name */
} pier__sqlite_target;

/* The same file whatever the working directory will be, and never a URI. NULL: no memory. */
char *pier__sqlite_absolute_path(const char *path);

/* False: no memory. */
bool pier__sqlite_target_init(pier__sqlite_target *target, const char *path, bool replace);
/* Removes what was not published; frees the rest in fini. */
void pier__sqlite_target_remove(pier__sqlite_target *target);
void pier__sqlite_target_fini(pier__sqlite_target *target);
/* In the work of a request: may it be made? False: the connection's failure is filled. */
bool pier__sqlite_target_check(pier__sqlite_conn *conn, pier__sqlite_target *target);
/* Gives the temporary file, which is closed, its own name. The same. */
bool pier__sqlite_target_publish(pier__sqlite_conn *conn, pier__sqlite_target *target);

/* Reads options, with their defaults filled in. 0 or a status. */
int pier__sqlite_backup_options_read(pier_sqlite_backup_options *options,
                                     const pier_sqlite_backup_options *given, pier_error *err);

/* One step: more to do, the end, or a failure (the connection's is filled). */
typedef enum pier__sqlite_step {
    PIER__SQLITE_STEP_MORE,
    PIER__SQLITE_STEP_DONE,
    PIER__SQLITE_STEP_FAILED
} pier__sqlite_step;
pier__sqlite_step pier__sqlite_copy_step(pier__sqlite_conn *conn, sqlite3_backup *backup,
                                         const pier_sqlite_backup_options *options);
/* Can it be read by a copy? Not in a transaction that has written. The same. */
bool pier__sqlite_copy_may_read(pier__sqlite_conn *conn);
/* The failure of a copy, from its code and the handle that is written. Returns false. */
bool pier__sqlite_copy_fail(pier__sqlite_conn *conn, sqlite3 *to, int code, const char *what);

/* Copies `from` over `to` in one piece of work. False: the connection's failure is filled. */
bool pier__sqlite_copy_all(pier__sqlite_conn *conn, sqlite3 *to, sqlite3 *from,
                           const pier_sqlite_backup_options *options, int64_t *pages);
/* Has nothing open that a copy over it would pull away? The same. */
bool pier__sqlite_copy_may_replace(pier__sqlite_conn *conn, const pier__sqlite_conn *over,
                                   const char *what);

#endif
