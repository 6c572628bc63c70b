/*
 * URLs of databases: sqlite:path, sqlite:///absolute/path, sqlite::memory:, each with
 * ?mode=ro|rw|rwc&busy_timeout_ms=5000. The path is taken as it is, without percent-decoding.
 */
#include "drivers/sqlite/driver.h"

#include <sqlite3.h>
#include <string.h>

/* What most programs that use SQLite wait for a lock. */
enum { BUSY_TIMEOUT_MS = 5000 };

static bool is(const char *text, size_t size, const char *word)
{
    return size == strlen(word) && !memcmp(text, word, size);
}

static int read_mode(pier__sqlite_url *url, const char *value, size_t size, pier_error *err)
{
    if (is(value, size, "ro")) {
        url->open_flags = SQLITE_OPEN_READONLY;
    } else if (is(value, size, "rw")) {
        url->open_flags = SQLITE_OPEN_READWRITE;
    } else if (is(value, size, "rwc")) {
        url->open_flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    } else {
        return pier_error_set(err, PIER_EINVAL, "mode=%.*s in the URL: it is ro, rw or rwc",
                              (int)(size < 40 ? size : 40), value);
    }
    return 0;
}

static int read_timeout(pier__sqlite_url *url, const char *value, size_t size, pier_error *err)
{
    int number = 0;
    size_t i = 0;
    for (; i < size && value[i] >= '0' && value[i] <= '9' && number < 100000000; i++) {
        number = number * 10 + (value[i] - '0');
    }
    if (!size || i < size) {
        return pier_error_set(err, PIER_EINVAL,
                              "busy_timeout_ms=%.*s in the URL: it is a number of milliseconds, "
                              "0 for not waiting at all",
                              (int)(size < 40 ? size : 40), value);
    }
    url->busy_timeout_ms = number;
    return 0;
}

static int read_pair(pier__sqlite_url *url, const char *pair, size_t size, pier_error *err)
{
    const char *equals = memchr(pair, '=', size);
    size_t key_size = equals ? (size_t)(equals - pair) : size;
    const char *value = equals ? equals + 1 : pair + size;
    size_t value_size = (size_t)(pair + size - value);
    if (is(pair, key_size, "mode")) {
        return read_mode(url, value, value_size, err);
    }
    if (is(pair, key_size, "busy_timeout_ms")) {
        return read_timeout(url, value, value_size, err);
    }
    return pier_error_set(err, PIER_EINVAL,
                          "the URL has an unknown key \"%.*s\"; known are mode and busy_timeout_ms",
                          (int)(key_size < 40 ? key_size : 40), pair);
}

static int read_query(pier__sqlite_url *url, const char *query, pier_error *err)
{
    while (*query) {
        size_t size = strcspn(query, "&");
        int status = size ? read_pair(url, query, size, err) : 0;
        if (status < 0) {
            return status;
        }
        query += size + (query[size] == '&');
    }
    return 0;
}

int pier__sqlite_url_read(pier__sqlite_url *url, const char *text, pier_error *err)
{
    static const char scheme[] = "sqlite:";
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
    url->busy_timeout_ms = BUSY_TIMEOUT_MS;
    if (!url->path_size) {
        return pier_error_set(err, PIER_EINVAL,
                              "the URL has no path; write sqlite:path or sqlite::memory:");
    }
    return path[url->path_size] ? read_query(url, path + url->path_size + 1, err) : 0;
}
