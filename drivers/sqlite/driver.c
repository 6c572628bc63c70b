/*
 * The SQLite driver as the SDK sees it.
 */
#include "drivers/sqlite/driver.h"

#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/cursor.h"
#include "drivers/sqlite/request.h"
#include "drivers/sqlite/sql.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* As a URI, where options of SQLite's own are to be given. NULL: no memory. */
static char *make_uri(const char *path, const pier__sqlite_url *url)
{
    static const char hex[] = "0123456789ABCDEF";
    char *uri = pier__malloc(strlen("file:?immutable=1&nolock=1") + 3 * strlen(path) + 1);
    char *at = uri ? stpcpy(uri, "file:") : NULL;
    for (; at && *path; path++) {
        if (strchr("%?#", *path)) {
            *at++ = '%';
            *at++ = hex[*path >> 4];
            *at++ = hex[*path & 15];
        } else {
            *at++ = *path;
        }
    }
    if (at) {
        at = stpcpy(at, url->immutable ? "?immutable=1" : "?nolock=1");
        stpcpy(at, url->immutable && url->nolock ? "&nolock=1" : "");
    }
    return uri;
}

char *pier__sqlite_fixed_path(const char *path, size_t size)
{
    static const char memory[] = ":memory:";
    char directory[4096] = "";
    bool is_memory = size == sizeof memory - 1 && !memcmp(path, memory, size);
    if (!is_memory && path[0] != '/' && !getcwd(directory, sizeof directory)) {
        strcpy(directory, ".");
    }
    size_t room = strlen(directory) + 1 + size + 1;
    char *fixed = pier__malloc(room);
    if (fixed) {
        snprintf(fixed, room, "%s%s%.*s", directory, *directory ? "/" : "", (int)size, path);
    }
    return fixed;
}

static int db_init(pier_db *root, const char *text, pier_error *err)
{
    pier__sqlite_db *db = (pier__sqlite_db *)root;
    pier__sqlite_registry_init(&db->registry); /* first: db_fini comes also where this fails */
    pier__sqlite_url url;
    int status = pier__sqlite_url_read(&url, text, err);
    if (status < 0) {
        return status;
    }
    if (!sqlite3_threadsafe()) {
        return pier_error_set(err, PIER_EINVAL,
                              "this SQLite was built without threads (SQLITE_THREADSAFE=0)");
    }
    db->path = pier__sqlite_fixed_path(url.path, url.path_size);
    size_t room = strlen("sqlite:") + url.path_size + 1;
    root->name = pier__malloc(room);
    bool has_uri = db->path && (url.immutable || url.nolock) && !url.memory;
    db->uri = has_uri ? make_uri(db->path, &url) : NULL;
    if (!db->path || !root->name || (has_uri && !db->uri)) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory");
    }
    snprintf(root->name, room, "sqlite:%.*s", (int)url.path_size, url.path);
    db->open_flags = url.open_flags;
    db->busy_timeout_ms = url.busy_timeout_ms;
    db->setup = url.setup;
    memcpy(db->vfs, url.vfs, sizeof db->vfs);
    /* There is one writer at a time, so there is one connection to write with: who waits for it is
     * served in order. Readers are beside it, where a write-ahead log allows it. */
    root->settings.pool_max = 1;
    root->settings.readers = url.readers;
    return 0;
}

static void db_fini(pier_db *root)
{
    pier__sqlite_db *db = (pier__sqlite_db *)root;
    pier__free(db->path);
    pier__free(db->uri);
    db->path = db->uri = NULL;
    pier__sqlite_registry_fini(&db->registry);
}

static void db_closed(pier_db *root)
{
    pier__sqlite_changes_pool_closed(&((pier__sqlite_db *)root)->registry);
}

static const char *begin_sql(const pier_tx_options *options)
{
    /* A transaction that begins as a reader and then writes can fail at once, whatever the busy
     * timeout, so only one that will not write begins as one. */
    static const char *const statements[] = {"begin immediate", "begin", "begin exclusive"};
    return options && options->read_only ? "begin" : statements[options ? options->lock : 0];
}

static bool reads(const pier__db_op *op)
{
    return (op->request == PIER__FETCH || op->request == PIER__EXECUTE ||
            op->request == PIER__CURSOR_BLOCK) &&
           pier__sqlite_sql_may_read(op->sql);
}

static const char *const schemes[] = {"sqlite", NULL};

const pier__db_driver pier__sqlite_driver = {
    .schemes = schemes,
    .can = PIER__CAN_NAMES | PIER__CAN_ROW_IDS | PIER__CAN_MANY | PIER__CAN_DESCRIBE,
    .db_size = sizeof(pier__sqlite_db),
    .conn_size = sizeof(pier__sqlite_conn),
    .cursor_size = sizeof(pier__sqlite_cursor),
    .db_init = db_init,
    .db_fini = db_fini,
    .db_closed = db_closed,
    .conn_init = pier__sqlite_conn_init,
    .open_step = pier__sqlite_open_step,
    .run_step = pier__sqlite_run_step,
    .conn_release = pier__sqlite_conn_release,
    .conn_fini = pier__sqlite_conn_fini,
    .close_blocks = true,
    .conn_lane = pier__sqlite_conn_lane,
    .begin_sql = begin_sql,
    .reads = reads,
    .cursor_fini = pier__sqlite_cursor_fini,
    .cursor_keeps_conn = false,
};
