#ifndef PIER_DRIVERS_SQLITE_CHANGES_H
#define PIER_DRIVERS_SQLITE_CHANGES_H
/*
 * Committed changes. A connection collects the changes of its transaction, forgets those that are
 * rolled back, and hands what is committed to the pool's subscribers as one block.
 */
#include "drivers/sqlite/registry.h"

typedef struct pier__sqlite_change {
    int64_t rowid;
    uint32_t kind;
    uint32_t name; /* index in the names */
} pier__sqlite_change;

/* A savepoint: how far the changes had come. */
typedef struct pier__sqlite_mark {
    char *name; /* in lower case; NULL: there was no memory for it, and none has this name */
    size_t count;
    bool overflowed;
} pier__sqlite_mark;

/* Used with the connection's turn. Invariant: the counts of the marks do not fall. */
typedef struct pier__sqlite_buffer {
    bool watching;   /* there are subscribers */
    bool committing; /* SQLite is about to commit, or has */
    bool overflowed; /* there were more changes than fit */
    bool blind;      /* no memory for a savepoint: what is kept of the transaction is unknown */
    size_t max;
    pier__sqlite_change *changes;
    size_t count, room;
    char **names; /* of database and table, with a zero byte between */
    size_t name_count;
    pier__sqlite_mark *marks;
    size_t mark_count, mark_room;
    pier__sqlite_mark statement; /* before the statement that runs; without a name */
} pier__sqlite_buffer;

/* Begins or ends collecting, as there are subscribers or not. */
void pier__sqlite_changes_watch(struct pier__sqlite_conn *conn);

/* From SQLite's hooks. */
void pier__sqlite_changes_add(struct pier__sqlite_conn *conn, const pier_sqlite_change *change);
void pier__sqlite_changes_roll_back(struct pier__sqlite_conn *conn);

/* Around each statement of a connection that collects. */
static inline void pier__sqlite_changes_begin(pier__sqlite_buffer *buffer)
{
    buffer->statement.count = buffer->count;
    buffer->statement.overflowed = buffer->overflowed;
}
void pier__sqlite_changes_end(struct pier__sqlite_conn *conn, const char *sql, bool done);
/* Delivers what has been committed. */
void pier__sqlite_changes_settle(struct pier__sqlite_conn *conn);

void pier__sqlite_buffer_fini(pier__sqlite_buffer *buffer);
/* The pool is closed: ends the subscriptions. */
void pier__sqlite_changes_pool_closed(pier__sqlite_registry *registry);

#endif
