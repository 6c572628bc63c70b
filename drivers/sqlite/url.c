/*
 * URLs of databases: sqlite:path, sqlite:///absolute/path, sqlite::memory:, each with options such
 * as ?mode=ro&busy_timeout_ms=5000; pier/async/sqlite.h lists them. The path is taken as it is,
 * without percent-decoding.
 */
#include "drivers/sqlite/driver.h"

#include "drivers/sqlite/statement.h"
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>

enum {
    BUSY_TIMEOUT_MS = 5000, /* what most programs that use SQLite wait for a lock */
    SERVICE_READERS = 5     /* as GRDB's DatabasePool */
};
static const int64_t SERVICE_JOURNAL_SIZE = 64 * 1024 * 1024;

/* ---- Values ------------------------------------------------------------------------------- */

typedef struct span {
    const char *at;
    size_t size;
} span;

static bool is(span text, const char *word)
{
    return text.size == strlen(word) && !memcmp(text.at, word, text.size);
}

static int refuse(span key, span value, const char *known, pier_error *err)
{
    return pier_error_set(err, PIER_EINVAL, "%.*s=%.*s in the URL: it is %s", (int)key.size, key.at,
                          (int)(value.size < 40 ? value.size : 40), value.at, known);
}

/* One of the words, a list that ends with NULL: its place in it, or a status. */
static int read_word(span key, span value, const char *const *words, const char *known,
                     pier_error *err)
{
    for (int i = 0; words[i]; i++) {
        if (is(value, words[i])) {
            return i;
        }
    }
    return refuse(key, value, known, err);
}

static int read_switch(span key, span value, bool *to, pier_error *err)
{
    static const char *const words[] = {"off", "on", "0", "1", NULL};
    int found = read_word(key, value, words, "on or off", err);
    if (found >= 0) {
        *to = found & 1;
    }
    return found < 0 ? found : 0;
}

static int read_number(span key, span value, int64_t max, int64_t *to, pier_error *err)
{
    int64_t number = 0;
    size_t i = 0;
    for (; i < value.size && value.at[i] >= '0' && value.at[i] <= '9' && number <= max; i++) {
        number = number * 10 + (value.at[i] - '0');
    }
    if (!value.size || i < value.size || number > max) {
        char known[60];
        snprintf(known, sizeof known, "a number from 0 to %" PRId64, max);
        return refuse(key, value, known, err);
    }
    *to = number;
    return 0;
}

static int read_int(span key, span value, int max, int *to, pier_error *err)
{
    int64_t number = 0;
    int status = read_number(key, value, max, &number, err);
    if (status == 0) {
        *to = (int)number;
    }
    return status;
}

/* ---- Keys --------------------------------------------------------------------------------- */

static int read_mode(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    static const char *const words[] = {"ro", "rw", "rwc", "memory", NULL};
    static const int flags[] = {SQLITE_OPEN_READONLY, SQLITE_OPEN_READWRITE,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
                                SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_MEMORY};
    int found = read_word(key, value, words, "ro, rw, rwc or memory", err);
    if (found >= 0) {
        url->open_flags = flags[found];
        url->memory = url->memory || found == 3;
    }
    return found < 0 ? found : 0;
}

static int read_preset(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    (void)url; /* it has been obeyed before the others */
    return is(value, "service") ? 0 : refuse(key, value, "service", err);
}

static int read_busy_timeout(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_int(key, value, 100000000, &url->busy_timeout_ms, err);
}

static int read_readers(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_int(key, value, PIER__SQLITE_READERS_MAX, &url->readers, err);
}

static int read_cache(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_int(key, value, 100000, &url->setup.statement_cache, err);
}

static int read_tx_max(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_int(key, value, 100000000, &url->setup.read_tx_max_ms, err);
}

static int read_journal_mode(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    static const char *const words[] = {"delete", "truncate", "persist", "memory",
                                        "wal",    "off",      NULL};
    int found = read_word(key, value, words, "delete, truncate, persist, memory, wal or off", err);
    if (found >= 0) {
        url->setup.journal_mode = words[found];
    }
    return found < 0 ? found : 0;
}

static int read_synchronous(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    static const char *const words[] = {"off", "normal", "full", "extra", NULL};
    int found = read_word(key, value, words, "off, normal, full or extra", err);
    if (found >= 0) {
        url->setup.synchronous = words[found];
    }
    return found < 0 ? found : 0;
}

static int read_foreign_keys(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    bool on = false;
    int status = read_switch(key, value, &on, err);
    if (status == 0) {
        url->setup.foreign_keys = on ? "on" : "off";
    }
    return status;
}

static int read_journal_size(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_number(key, value, INT64_C(1) << 50, &url->setup.journal_size_limit, err);
}

static int read_autocheckpoint(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_int(key, value, 1000000000, &url->setup.wal_autocheckpoint, err);
}

static int read_extensions(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_switch(key, value, &url->setup.extensions, err);
}

static int read_immutable(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_switch(key, value, &url->immutable, err);
}

static int read_nolock(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    return read_switch(key, value, &url->nolock, err);
}

static int read_vfs(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    if (!value.size || value.size >= sizeof url->vfs) {
        return refuse(key, value, "the name of a VFS", err);
    }
    memcpy(url->vfs, value.at, value.size);
    url->vfs[value.size] = 0;
    return sqlite3_vfs_find(url->vfs)
               ? 0
               : refuse(key, value, "the name of a VFS, and there is none of this name", err);
}

static const struct {
    const char *name;
    int (*read)(pier__sqlite_url *url, span key, span value, pier_error *err);
} keys[] = {
    {"mode", read_mode},
    {"preset", read_preset},
    {"readers", read_readers},
    {"busy_timeout_ms", read_busy_timeout},
    {"statement_cache", read_cache},
    {"read_tx_max_ms", read_tx_max},
    {"journal_mode", read_journal_mode},
    {"synchronous", read_synchronous},
    {"foreign_keys", read_foreign_keys},
    {"journal_size_limit", read_journal_size},
    {"wal_autocheckpoint", read_autocheckpoint},
    {"extensions", read_extensions},
    {"immutable", read_immutable},
    {"nolock", read_nolock},
    {"vfs", read_vfs},
};
enum { KEYS = sizeof keys / sizeof *keys };

static int refuse_key(span key, pier_error *err)
{
    char known[240] = "";
    size_t at = 0;
    for (int i = 0; i < KEYS && at < sizeof known; i++) {
        at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", keys[i].name);
    }
    return pier_error_set(err, PIER_EINVAL, "the URL has an unknown key \"%.*s\"; known are %s",
                          (int)(key.size < 40 ? key.size : 40), key.at, known);
}

/* ---- The whole ---------------------------------------------------------------------------- */

static int read_pair(pier__sqlite_url *url, span key, span value, pier_error *err)
{
    for (int i = 0; i < KEYS; i++) {
        if (is(key, keys[i].name)) {
            return keys[i].read(url, key, value, err);
        }
    }
    return refuse_key(key, err);
}

static void take_service_preset(pier__sqlite_url *url, span key, span value)
{
    if (is(key, "preset") && is(value, "service")) {
        url->readers = SERVICE_READERS;
        url->setup.journal_mode = "wal";
        url->setup.synchronous = "normal";
        url->setup.foreign_keys = "on";
        url->setup.journal_size_limit = SERVICE_JOURNAL_SIZE;
    }
}

/* Twice: a preset first, so that what else is there changes it wherever it stands. */
static int read_query(pier__sqlite_url *url, const char *query, bool presets, pier_error *err)
{
    for (size_t size; *query; query += size + (query[size] == '&')) {
        size = strcspn(query, "&");
        const char *equals = memchr(query, '=', size);
        span key = {query, equals ? (size_t)(equals - query) : size};
        span value = {query + key.size + (equals != NULL), size - key.size - (equals != NULL)};
        if (presets) {
            take_service_preset(url, key, value);
        } else if (size) {
            int status = read_pair(url, key, value, err);
            if (status < 0) {
                return status;
            }
        }
    }
    return 0;
}

/* What cannot be meant together. */
static int check(const pier__sqlite_url *url, pier_error *err)
{
    bool read_only = url->open_flags & SQLITE_OPEN_READONLY;
    if (url->memory && (url->readers || url->setup.journal_mode)) {
        return pier_error_set(err, PIER_EINVAL,
                              "a database in memory has no readers and no journal to choose: each "
                              "connection would see a database of its own; leave readers, preset "
                              "and journal_mode out, or use a file");
    }
    if ((url->immutable || url->nolock) && url->readers) {
        return pier_error_set(err, PIER_EINVAL,
                              "readers beside a writer need locks: leave readers and preset out, "
                              "or immutable and nolock");
    }
    if (read_only && url->setup.journal_mode) {
        return pier_error_set(err, PIER_EINVAL,
                              "mode=ro cannot set a journal_mode; leave preset and journal_mode "
                              "out (readers=N is possible)");
    }
    if (url->setup.read_tx_max_ms && !url->readers) {
        return pier_error_set(err, PIER_EINVAL,
                              "read_tx_max_ms bounds the read transactions of readers, of which "
                              "there are none; add readers=N");
    }
    return 0;
}

int pier__sqlite_url_read(pier__sqlite_url *url, const char *text, pier_error *err)
{
    static const char scheme[] = "sqlite:";
    memset(url, 0, sizeof *url);
    if (strncmp(text, scheme, sizeof scheme - 1)) {
        return pier_error_set(err, PIER_EINVAL, "the URL does not begin with sqlite:");
    }
    const char *path = text + sizeof scheme - 1;
    if (!strncmp(path, "//", 2)) {
        path += 2;
        if (*path != '/') {
            return pier_error_set(err, PIER_EINVAL,
                                  "%.120s names a host; write sqlite:path or "
                                  "sqlite:///absolute/path",
                                  text);
        }
    }
    url->path = path;
    url->path_size = strcspn(path, "?");
    url->open_flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    url->memory = is((span){path, url->path_size}, ":memory:");
    url->busy_timeout_ms = BUSY_TIMEOUT_MS;
    url->setup.statement_cache = PIER__SQLITE_CACHE_MAX;
    url->setup.journal_size_limit = url->setup.wal_autocheckpoint = -1;
    if (!url->path_size) {
        return pier_error_set(err, PIER_EINVAL,
                              "the URL has no path; write sqlite:path or sqlite::memory:");
    }
    const char *query = path + url->path_size + (path[url->path_size] == '?');
    int status = read_query(url, query, true, err);
    status = status < 0 ? status : read_query(url, query, false, err);
    return status < 0 ? status : check(url, err);
}
