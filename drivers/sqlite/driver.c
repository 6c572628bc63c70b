/*
 * The SQLite driver as the SDK sees it.
 */
#include "drivers/sqlite/driver.h"

#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/cursor.h"
#include "drivers/sqlite/request.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The path as it means the same file whatever the working directory will be; "file:" would make
 * SQLite read it as a URI. NULL: no memory. */
static char *fixed_path(const char *path, size_t size)
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
    pier__sqlite_url url;
    int status = pier__sqlite_url_read(&url, text, err);
    if (status < 0) {
        return status;
    }
    if (!sqlite3_threadsafe()) {
        return pier_error_set(err, PIER_EINVAL,
                              "this SQLite was built without threads (SQLITE_THREADSAFE=0)");
    }
    db->path = fixed_path(url.path, url.path_size);
    size_t room = strlen("sqlite:") + url.path_size + 1;
    root->name = pier__malloc(room);
    if (!db->path || !root->name) {
        return pier_error_set(err, PIER_ENOMEM, "out of memory");
    }
    snprintf(root->name, room, "sqlite:%.*s", (int)url.path_size, url.path);
    db->open_flags = url.open_flags;
    db->busy_timeout_ms = url.busy_timeout_ms;
    /* Without a write-ahead log readers and writers exclude each other; and each connection to
     * :memory: would see a database of its own. */
    root->settings.pool_max = 1;
    return 0;
}

static void db_fini(pier_db *root)
{
    pier__sqlite_db *db = (pier__sqlite_db *)root;
    pier__free(db->path);
    db->path = NULL;
}

static const char *begin_sql(const pier_tx_options *options)
{
    /* A transaction that begins as a reader and then writes can fail at once, whatever the busy
     * timeout, so only one that will not write begins as one. */
    return options && options->read_only ? "begin deferred" : "begin immediate";
}

static const char *const schemes[] = {"sqlite", NULL};

const pier__db_driver pier__sqlite_driver = {
    .schemes = schemes,
    .db_size = sizeof(pier__sqlite_db),
    .conn_size = sizeof(pier__sqlite_conn),
    .cursor_size = sizeof(pier__sqlite_cursor),
    .db_init = db_init,
    .db_fini = db_fini,
    .conn_init = pier__sqlite_conn_init,
    .open_step = pier__sqlite_open_step,
    .run_step = pier__sqlite_run_step,
    .conn_release = pier__sqlite_conn_release,
    .conn_fini = pier__sqlite_conn_fini,
    .close_blocks = true,
    .conn_lane = pier__sqlite_conn_lane,
    .begin_sql = begin_sql,
    .cursor_fini = pier__sqlite_cursor_fini,
    .cursor_keeps_conn = false,
};
