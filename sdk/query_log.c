/*
 * The log of queries: a few numbers noted in each request while there is one, told when it ends, by
 * whoever ends it.
 */
#include "sdk/query_log.h"

#include "sdk/clock.h"
#include "sdk/options.h"
#include <pthread.h>

enum { MASKED_MAX = 2000 };

atomic_bool pier__query_logging;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by lock. */
static struct {
    pier_query_fn fn;
    void *user_data;
    pier_query_log_options options;
} set;

int pier_query_log_set(pier_query_fn fn, void *user_data, const pier_query_log_options *given,
                       pier_error *err)
{
    pier_query_log_options options = {.struct_size = 0};
    int status = pier__options_read(&options, sizeof options, given, "PIER_QUERY_LOG_OPTIONS", err);
    if (status < 0) {
        return status;
    }
    if (options.sql < PIER_QUERY_SQL_NONE || options.sql > PIER_QUERY_SQL_WHOLE ||
        options.slow_ms < 0) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_query_log_set: sql is a pier_query_sql, slow_ms 0 or more");
    }
    pthread_mutex_lock(&lock);
    set.fn = fn;
    set.user_data = user_data;
    set.options = options;
    atomic_store(&pier__query_logging, fn != NULL);
    pthread_mutex_unlock(&lock);
    return 0;
}

/* ---- Masking ------------------------------------------------------------------------------ */

static bool is_word(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (unsigned char)c >= 0x80;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Behind a string that begins at `at`. */
static const char *skip_string(const char *at, const char *end, bool escapes)
{
    for (at++; at < end; at++) {
        if (escapes && *at == '\\') {
            at++;
        } else if (*at == '\'' && at + 1 < end && at[1] == '\'') {
            at++;
        } else if (*at == '\'') {
            return at + 1;
        }
    }
    return end;
}

/* Behind $tag$...$tag$; `at` itself where that is no such string. */
static const char *skip_dollar(const char *at, const char *end)
{
    const char *tag = at + 1;
    while (tag < end && is_word(*tag) && !(tag == at + 1 && is_digit(*tag))) {
        tag++;
    }
    if (tag >= end || *tag != '$') {
        return at;
    }
    size_t size = (size_t)(tag + 1 - at);
    for (const char *close = tag + 1; close + size <= end; close++) {
        if (memcmp(close, at, size) == 0) {
            return close + size;
        }
    }
    return end;
}

static const char *skip_number(const char *at, const char *end)
{
    while (at < end && (is_word(*at) || *at == '.' ||
                        ((*at == '+' || *at == '-') && (at[-1] == 'e' || at[-1] == 'E')))) {
        at++;
    }
    return at;
}

/* Behind a comment; `at` itself where there is none. Those of Postgres nest. */
static const char *skip_comment(const char *at, const char *end)
{
    if (end - at >= 2 && at[0] == '-' && at[1] == '-') {
        const char *line = memchr(at, '\n', (size_t)(end - at));
        return line ? line : end;
    }
    if (end - at < 2 || at[0] != '/' || at[1] != '*') {
        return at;
    }
    for (int depth = 0; at < end;) {
        bool opens = end - at >= 2 && at[0] == '/' && at[1] == '*';
        bool closes = end - at >= 2 && at[0] == '*' && at[1] == '/';
        depth += opens - closes;
        at += opens || closes ? 2 : 1;
        if (closes && depth == 0) {
            break;
        }
    }
    return at;
}

static const char *skip_name(const char *at, const char *end)
{
    const char *close = memchr(at + 1, '"', (size_t)(end - at - 1));
    return close ? close + 1 : end;
}

/* Behind the literal at `at`; `at` itself where none begins there. */
static const char *skip_literal(const char *sql, const char *at, const char *end)
{
    char before = at > sql ? at[-1] : ' ';
    if (*at == '\'') {
        bool escapes = (before == 'e' || before == 'E') && !(at - sql > 1 && is_word(at[-2]));
        return skip_string(at, end, escapes);
    }
    if (*at == '$' && !is_word(before)) {
        return skip_dollar(at, end);
    }
    bool starts =
        !is_word(before) && before != '$' && before != '?' && before != ':' && before != '@';
    bool number = is_digit(*at) || (*at == '.' && at + 1 < end && is_digit(at[1]));
    return starts && number ? skip_number(at, end) : at;
}

void pier__query_mask(char *to, size_t size, const char *sql, size_t sql_size)
{
    const char *at = sql, *end = sql + sql_size;
    size_t length = 0;
    while (at < end && length + 1 < size) {
        const char *behind = skip_comment(at, end);
        if (behind > at) {
            at = behind;
            to[length++] = ' ';
            continue;
        }
        behind = skip_literal(sql, at, end);
        if (behind > at) {
            at = behind;
            to[length++] = '?';
            continue;
        }
        behind = *at == '"' ? skip_name(at, end) : at + 1;
        while (at < behind && length + 1 < size) {
            to[length++] = *at++;
        }
    }
    /* No half character at the end. */
    while (at < end && length && ((unsigned char)*at & 0xC0) == 0x80) {
        length--;
        at--;
    }
    to[length] = 0;
}

/* ---- Noting and telling ------------------------------------------------------------------- */

void pier__query_begin(pier__db_op *op)
{
    op->log.began = pier__now();
}

void pier__query_runs(pier__db_op *op)
{
    const pier__db_driver *driver = op->db->driver;
    op->log.connection = driver->conn_id ? driver->conn_id(op->conn) : 0;
    if (!op->log.ran) {
        op->log.ran = pier__now();
    }
}

/* What was cancelled may have lost its text with its caller. */
static bool find_sql(const pier__db_op *op, const char **sql, size_t *size)
{
    if (op->cursor) {
        *sql = op->cursor->sql;
        *size = *sql ? strlen(*sql) : 0;
    } else {
        *sql = op->op.cancelled ? op->own_sql : op->sql;
        *size = op->sql_size;
    }
    return *sql && *size;
}

static void tell(pier__db_op *op, pier_query_fn fn, void *user_data, int shown, int64_t now)
{
    char masked[MASKED_MAX];
    const char *sql = NULL;
    size_t size = 0;
    if (!shown || !find_sql(op, &sql, &size)) {
        sql = NULL;
    } else if (shown == PIER_QUERY_SQL_MASKED) {
        pier__query_mask(masked, sizeof masked, sql, size);
        sql = masked;
    }
    int64_t ran = op->log.ran ? op->log.ran : now;
    pier_query query = {
        .operation = op->op.cls->name,
        .database = op->db->root->name,
        .sql = sql,
        .err = op->failure,
        .status = op->failed,
        .connection = op->log.connection,
        .rows = op->block ? (int64_t)op->block->count : op->count,
        .waited_ns = ran - op->log.began,
        .ran_ns = now - ran,
        .on_loop = op->op.on_loop,
    };
    fn(&query, user_data);
}

void pier__query_end(pier__db_op *op)
{
    int64_t now = pier__now();
    pthread_mutex_lock(&lock);
    pier_query_fn fn = set.fn;
    void *user_data = set.user_data;
    pier_query_log_options options = set.options;
    pthread_mutex_unlock(&lock);
    if (fn && now - op->log.began >= options.slow_ms * 1000000) {
        tell(op, fn, user_data, options.sql, now);
    }
    op->log.began = 0;
}
