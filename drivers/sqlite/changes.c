/*
 * Collecting changes on a connection, with its turn. Savepoints are followed by reading each
 * statement that has run: Pier's own and the user's look the same. A savepoint that was made before
 * collecting began is not known; going back to it drops all that was collected.
 */
#include "drivers/sqlite/changes.h"

#include "drivers/sqlite/batch.h"
#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/sql.h"
#include "sdk/alloc.h"
#include <string.h>
#include <strings.h>

/* ---- The buffer --------------------------------------------------------------------------- */

static void drop_marks(pier__sqlite_buffer *buffer, size_t count)
{
    while (buffer->mark_count > count) {
        pier__free(buffer->marks[--buffer->mark_count].name);
    }
}

static void clear(pier__sqlite_buffer *buffer)
{
    drop_marks(buffer, 0);
    while (buffer->name_count) {
        pier__free(buffer->names[--buffer->name_count]);
    }
    buffer->count = 0;
    buffer->overflowed = buffer->blind = buffer->committing = false;
    buffer->statement.count = 0;
    buffer->statement.overflowed = false;
}

void pier__sqlite_buffer_fini(pier__sqlite_buffer *buffer)
{
    clear(buffer);
    pier__free(buffer->changes);
    pier__free(buffer->names);
    pier__free(buffer->marks);
    memset(buffer, 0, sizeof *buffer);
}

/* Goes back to how it was then. */
static void go_back(pier__sqlite_buffer *buffer, const pier__sqlite_mark *mark)
{
    buffer->count = mark->count;
    buffer->overflowed = mark->overflowed;
}

static bool is_name(const char *name, const pier_sqlite_change *change)
{
    return !strcmp(name, change->database) && !strcmp(name + strlen(name) + 1, change->table);
}

/* The number of a table's name; the count of names where there was no memory. A transaction
 * changes few tables, most often the same one again. */
static size_t find_name(pier__sqlite_buffer *buffer, const pier_sqlite_change *change)
{
    if (buffer->count) {
        size_t last = buffer->changes[buffer->count - 1].name;
        if (is_name(buffer->names[last], change)) {
            return last;
        }
    }
    size_t at = 0;
    while (at < buffer->name_count && !is_name(buffer->names[at], change)) {
        at++;
    }
    if (at < buffer->name_count) {
        return at;
    }
    char **names = pier__realloc(buffer->names, (at + 1) * sizeof *names);
    if (!names) {
        return at;
    }
    buffer->names = names;
    size_t head = strlen(change->database) + 1;
    size_t tail = strlen(change->table) + 1;
    names[at] = pier__malloc(head + tail);
    if (names[at]) {
        memcpy(names[at], change->database, head);
        memcpy(names[at] + head, change->table, tail);
        buffer->name_count++;
    }
    return at;
}

static bool has_room(pier__sqlite_buffer *buffer)
{
    if (buffer->count < buffer->room) {
        return true;
    }
    size_t room = buffer->room ? 2 * buffer->room : 64;
    room = room < buffer->max ? room : buffer->max;
    pier__sqlite_change *changes =
        buffer->count < room ? pier__realloc(buffer->changes, room * sizeof *changes) : NULL;
    if (changes) {
        buffer->changes = changes;
        buffer->room = room;
    }
    return changes;
}

void pier__sqlite_changes_add(pier__sqlite_conn *conn, const pier_sqlite_change *change)
{
    pier__sqlite_buffer *buffer = &conn->changes;
    size_t name = 0;
    bool fits = !buffer->overflowed && buffer->count < buffer->max && has_room(buffer);
    if (fits) {
        name = find_name(buffer, change);
        fits = name < buffer->name_count;
    }
    if (!fits) {
        buffer->overflowed = true;
        return;
    }
    buffer->changes[buffer->count++] = (pier__sqlite_change){
        .rowid = change->rowid, .kind = (uint32_t)change->kind, .name = (uint32_t)name};
}

void pier__sqlite_changes_roll_back(pier__sqlite_conn *conn)
{
    clear(&conn->changes);
}

/* ---- Savepoints --------------------------------------------------------------------------- */

enum { NONE, SAVEPOINT, RELEASE, ROLLBACK_TO };

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '$' || (unsigned char)c >= 0x80;
}

/* Moves behind a keyword; false: something else is there. */
static bool skip_word(const char **at, const char *word)
{
    const char *sql = pier__sqlite_sql_skip(*at);
    size_t size = strlen(word);
    if (strncasecmp(sql, word, size) || is_letter(sql[size])) {
        return false;
    }
    *at = sql + size;
    return true;
}

/* What a statement does to savepoints; `*at` is then where the name is. */
static int classify(const char **at)
{
    if (skip_word(at, "savepoint")) {
        return SAVEPOINT;
    }
    if (skip_word(at, "release")) {
        skip_word(at, "savepoint");
        return RELEASE;
    }
    if (skip_word(at, "rollback")) {
        skip_word(at, "transaction");
        if (skip_word(at, "to")) {
            skip_word(at, "savepoint");
            return ROLLBACK_TO;
        }
    }
    return NONE;
}

/* A name as SQLite compares it: without quotes, in lower case. NULL: no memory. */
static char *read_name(const char *sql)
{
    sql = pier__sqlite_sql_skip(sql);
    char quote = *sql == '[' ? ']' : strchr("\"'`", *sql) ? *sql : 0;
    char *name = pier__malloc(strlen(sql) + 1);
    size_t size = 0;
    if (!name) {
        return NULL;
    }
    if (!quote) {
        while (is_letter(sql[size])) {
            name[size] = sql[size];
            size++;
        }
    } else {
        for (sql++; *sql && (*sql != quote || (quote != ']' && sql[1] == quote)); sql++) {
            sql += *sql == quote;
            name[size++] = *sql;
        }
    }
    name[size] = 0;
    for (char *c = name; *c; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c | 32) : *c;
    }
    return name;
}

static void add_mark(pier__sqlite_buffer *buffer, char *name)
{
    if (buffer->mark_count == buffer->mark_room) {
        size_t room = buffer->mark_room ? 2 * buffer->mark_room : 8;
        pier__sqlite_mark *marks = pier__realloc(buffer->marks, room * sizeof *marks);
        if (!marks) {
            buffer->blind = true;
            pier__free(name);
            return;
        }
        buffer->marks = marks;
        buffer->mark_room = room;
    }
    buffer->marks[buffer->mark_count++] =
        (pier__sqlite_mark){.name = name, .count = buffer->count, .overflowed = buffer->overflowed};
}

/* The innermost of that name, from 1; 0: it is not known. */
static size_t find_mark(const pier__sqlite_buffer *buffer, const char *name)
{
    size_t at = buffer->mark_count;
    while (at &&
           (!name || !buffer->marks[at - 1].name || strcmp(buffer->marks[at - 1].name, name))) {
        at--;
    }
    return at;
}

static void follow_savepoint(pier__sqlite_buffer *buffer, const char *sql)
{
    int what = classify(&sql);
    if (what == NONE) {
        return;
    }
    char *name = read_name(sql);
    buffer->blind = buffer->blind || !name;
    if (what == SAVEPOINT) {
        add_mark(buffer, name);
        return;
    }
    size_t at = find_mark(buffer, name);
    if (what == RELEASE) {
        drop_marks(buffer, at ? at - 1 : 0);
    } else if (at) {
        go_back(buffer, &buffer->marks[at - 1]);
        drop_marks(buffer, at);
    } else {
        static const pier__sqlite_mark beginning = {.count = 0};
        go_back(buffer, &beginning);
        drop_marks(buffer, 0);
    }
    pier__free(name);
}

/* ---- Around statements -------------------------------------------------------------------- */

/* What a statement that failed has done is undone, unless it was told to FAIL instead of ABORT:
 * then SQLite counts what it has done. */
static void follow_failure(pier__sqlite_conn *conn)
{
    pier__sqlite_buffer *buffer = &conn->changes;
    if (buffer->count > buffer->statement.count && !sqlite3_changes(conn->sqlite)) {
        go_back(buffer, &buffer->statement);
    }
}

void pier__sqlite_changes_end(pier__sqlite_conn *conn, const char *sql, bool done)
{
    if (done) {
        follow_savepoint(&conn->changes, sql);
    } else {
        follow_failure(conn);
    }
    pier__sqlite_changes_settle(conn);
}

void pier__sqlite_changes_settle(pier__sqlite_conn *conn)
{
    pier__sqlite_buffer *buffer = &conn->changes;
    if (!sqlite3_get_autocommit(conn->sqlite)) {
        buffer->committing = false; /* the commit has failed, and may be tried again */
    } else if (buffer->committing) {
        if (buffer->count || buffer->overflowed || buffer->blind) {
            pier__sqlite_batch_deliver(conn);
        }
        clear(buffer);
    }
}

void pier__sqlite_changes_watch(pier__sqlite_conn *conn)
{
    pier__sqlite_registry *registry = &((pier__sqlite_db *)conn->base.db)->registry;
    pthread_mutex_lock(&registry->lock);
    bool watching = registry->subscribers;
    conn->changes.max = (size_t)registry->changes_max;
    pthread_mutex_unlock(&registry->lock);
    if (watching != conn->changes.watching) {
        conn->changes.watching = watching;
        pier__sqlite_hooks_refresh(conn);
    }
    if (!watching) {
        pier__sqlite_buffer_fini(&conn->changes);
    }
}
