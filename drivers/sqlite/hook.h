#ifndef PIER_DRIVERS_SQLITE_HOOK_H
#define PIER_DRIVERS_SQLITE_HOOK_H
/*
 * A connection's hooks: SQLite has one place for each, which users, the handlers that cancel and
 * the notifications of changes share.
 */
#include "drivers/sqlite/registry.h"

enum { PIER__SQLITE_TIMED = 8 }; /* statements whose time is taken at once; others are rougher */

typedef struct pier__sqlite_hooks {
    pier__sqlite_registration *set[PIER__SQLITE_HOOKS]; /* a reference each; NULL: not set */
    int progress_every, progress_left;                  /* calls of the handler for one of theirs */
    int64_t busy_since;
    bool dropping;    /* the next DELETE to be authorized is a part of DROP TABLE */
    bool authorizing; /* SQLite has an authorizer */
    bool refused;     /* the commit hook has turned a commit into a rollback */
    char denied[128]; /* what the authorizer has denied; "": nothing */
    struct {
        sqlite3_stmt *stmt;
        int64_t since;
    } timed[PIER__SQLITE_TIMED];
    int timed_next;
} pier__sqlite_hooks;

/* Should the statement be stopped? */
bool pier__sqlite_hook_progress(struct pier__sqlite_conn *conn);
/* Milliseconds to wait; 0: as usual; negative: give up. There is a busy hook. */
int pier__sqlite_hook_busy(struct pier__sqlite_conn *conn, int count, int64_t now);
/* Forgets what hooks have said to the request before. */
static inline void pier__sqlite_hooks_begin(pier__sqlite_hooks *hooks)
{
    hooks->denied[0] = 0;
    hooks->refused = false;
}
/* Says in a failure what a hook has to do with it. */
void pier__sqlite_hook_explain(const struct pier__sqlite_conn *conn, pier_error *err);
/* Sets SQLite's hooks as they are needed now. */
void pier__sqlite_hooks_refresh(struct pier__sqlite_conn *conn);
/* The same when somebody else may have set them. */
void pier__sqlite_hooks_install(struct pier__sqlite_conn *conn);
void pier__sqlite_hooks_fini(struct pier__sqlite_conn *conn);

#endif
