/*
 * Scripts from files. A statement ends at the first semicolon that is in no quotes, comment or
 * trigger; only its own text is in memory.
 */
#include "drivers/sqlite/copy.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/literal.h"
#include "drivers/sqlite/request.h"
#include "drivers/sqlite/request.h"
#include "drivers/sqlite/setup.h"
#include "drivers/sqlite/sql.h"
#include "sdk/alloc.h"
#include "sync/ops.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { CHUNK = 64 * 1024, STATEMENT_MAX = 1000000000 };

typedef struct load_op {
    pier__sqlite_own own; /* first */
    char *path;
} load_op;

typedef struct reading {
    pier__sqlite_conn *conn;
    load_op *op;
    pier__sqlite_text text; /* of the statement, with what stands before it */
    char closes;            /* what ends the quotes we are in; 'n' and '*': comments; 0: none */
    char last;              /* the character before */
    int64_t line;           /* of the end of the text */
    int64_t begins;         /* the line where the statement begins; 0: it has not */
} reading;

static void load_fini(pier__op *base)
{
    pier__free(((load_op *)base)->path);
    pier__db_op_fini(base);
}

static const pier__op_class load_class =
    PIER__SQLITE_CLASS("pier_sqlite_load", "int64_t", sizeof(load_op), .fini = load_fini);

/* ---- Running ------------------------------------------------------------------------------ */

/* Puts the place in front of the message. */
static bool fail_at(reading *script)
{
    pier_error *failure = &script->conn->failure;
    char message[sizeof failure->message];
    snprintf(message, sizeof message, "%.120s:%lld: %.280s", script->op->path,
             (long long)script->begins, failure->message);
    memcpy(failure->message, message, sizeof message);
    return false;
}

static bool step_through(reading *script, sqlite3_stmt *stmt, const char *sql)
{
    pier__sqlite_conn *conn = script->conn;
    const pier_db *scope = script->op->own.base.db;
    if (sqlite3_bind_parameter_count(stmt)) {
        return pier__sqlite_refuse(conn, PIER_EINVAL, "a script cannot have parameters");
    }
    if (scope->read_only && !sqlite3_stmt_readonly(stmt)) {
        return pier__sqlite_refuse(conn, PIER_ESQL,
                                   "the transaction is read-only; begin one without read_only");
    }
    if (!pier__sqlite_step_through(conn, stmt, sql, sql)) {
        return false;
    }
    if (scope->kind == PIER__DB_TX && sqlite3_get_autocommit(conn->sqlite)) {
        return pier__sqlite_refuse(conn, PIER_EINVAL,
                                   "the statement has ended the transaction; load the file on a "
                                   "pool or a lease");
    }
    return true;
}

/* Runs what is there: one statement, as far as SQLite sees it in the same way. */
static bool run_text(reading *script)
{
    pier__sqlite_conn *conn = script->conn;
    pier__sqlite_text_add(&script->text, "", 1);
    if (script->text.failed) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory for a statement");
    }
    const char *at = pier__sqlite_sql_skip(script->text.data);
    while (*at) {
        const char *sql = at;
        sqlite3_stmt *stmt = NULL;
        if (pier__sqlite_is_interrupted(conn)) {
            return pier__sqlite_fail(conn, SQLITE_INTERRUPT, "", "");
        }
        if (pier__sqlite_sql_is_pragma(sql) &&
            pier__sqlite_sql_check_pragma(sql, &conn->failure) < 0) {
            return fail_at(script);
        }
        int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, &at);
        bool done = code == SQLITE_OK ? step_through(script, stmt, sql)
                                      : pier__sqlite_fail(conn, code, sql, sql);
        sqlite3_finalize(stmt);
        if (!done) {
            return fail_at(script);
        }
        script->op->own.base.count++;
        at = pier__sqlite_sql_skip(at);
    }
    script->text.size = 0;
    script->begins = 0;
    return true;
}

/* ---- Reading ------------------------------------------------------------------------------ */

static bool is_word(const char *at, const char *word)
{
    return !strncasecmp(at, word, strlen(word));
}

/* Does the text begin to create a trigger, which has semicolons in it? */
static bool is_trigger(const char *sql)
{
    if (!is_word(sql, "create")) {
        return false;
    }
    sql = pier__sqlite_sql_skip(sql + strlen("create"));
    if (is_word(sql, "temp")) {
        sql += is_word(sql, "temporary") ? strlen("temporary") : strlen("temp");
        sql = pier__sqlite_sql_skip(sql);
    }
    return is_word(sql, "trigger");
}

/* The text ends in a semicolon: is it a whole statement? */
static bool is_whole(reading *script)
{
    pier__sqlite_text_add(&script->text, "", 1);
    if (script->text.failed) {
        return true; /* which is found out then */
    }
    script->text.size--;
    return !is_trigger(pier__sqlite_sql_skip(script->text.data)) ||
           sqlite3_complete(script->text.data);
}

/* Follows quotes and comments. True: `c` is a semicolon in none of them. */
static bool follow(reading *script, char c)
{
    char last = script->last;
    script->last = c;
    if (script->closes == '*') {
        if (last == '*' && c == '/') {
            script->closes = script->last = 0;
        }
    } else if (script->closes) {
        if (c == (script->closes == 'n' ? '\n' : script->closes)) {
            script->closes = 0;
        }
    } else if (c == '\'' || c == '"' || c == '`') {
        script->closes = c;
    } else if (c == '[') {
        script->closes = ']';
    } else if (last == '-' && c == '-') {
        script->closes = 'n';
    } else if (last == '/' && c == '*') {
        script->closes = '*';
        script->last = 0;
    } else {
        return c == ';';
    }
    return false;
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Takes a piece of the file, running the statements that end in it. */
static bool take(reading *script, const char *piece, size_t size)
{
    size_t from = 0;
    for (size_t i = 0; i < size; i++) {
        char c = piece[i];
        script->line += c == '\n';
        if (!script->begins && !is_space(c) && c != ';') {
            script->begins = script->line;
        }
        if (!c) {
            pier__sqlite_refuse(script->conn, PIER_EINVAL, "there is a zero byte: no SQL");
            return fail_at(script);
        }
        if (!follow(script, c)) {
            continue;
        }
        pier__sqlite_text_add(&script->text, piece + from, i + 1 - from);
        from = i + 1;
        if (is_whole(script) && !run_text(script)) {
            return false;
        }
    }
    pier__sqlite_text_add(&script->text, piece + from, size - from);
    if (script->text.size > STATEMENT_MAX) {
        pier__sqlite_refuse(script->conn, PIER_ERANGE,
                            "the statement is longer than SQLite can read");
        return fail_at(script);
    }
    return true;
}

static bool read_file(reading *script, int fd, char *chunk)
{
    static const char mark[] = "\xEF\xBB\xBF"; /* which some editors put in front */
    for (bool first = true;; first = false) {
        ssize_t got = read(fd, chunk, CHUNK);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            pier__error_system(&script->conn->failure, PIER_EIO, errno, "cannot read %.200s",
                               script->op->path);
            return false;
        }
        if (!got) {
            return run_text(script);
        }
        size_t skip = first && got >= 3 && !memcmp(chunk, mark, 3) ? 3 : 0;
        if (!take(script, chunk + skip, (size_t)got - skip)) {
            return false;
        }
    }
}

static bool load_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    load_op *op = (load_op *)own;
    if (!pier__sqlite_check_file(conn)) {
        return false;
    }
    int fd = open(op->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        pier__error_system(&conn->failure, PIER_EIO, errno, "cannot read %.200s", op->path);
        return false;
    }
    reading script = {.conn = conn, .op = op, .line = 1};
    char *chunk = pier__malloc(CHUNK);
    bool done = chunk ? read_file(&script, fd, chunk)
                      : pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    conn->vanished =
        !done && own->base.db->kind == PIER__DB_TX && sqlite3_get_autocommit(conn->sqlite) != 0;
    pier__free(chunk);
    pier__sqlite_text_fini(&script.text);
    close(fd);
    return done;
}

pier_future *pier__sqlite_load_op(pier_db *db, const char *path)
{
    pier__op *failed = NULL;
    load_op *op = pier__sqlite_own_new(&load_class, db, load_run, &failed);
    if (!op) {
        return failed;
    }
    if (!path || !*path) {
        return pier__op_refuse(&op->own.base.op, PIER_EINVAL, "pier_sqlite_load: there is no path");
    }
    op->path = pier__sqlite_absolute_path(path);
    if (!op->path) {
        return pier__op_refuse(&op->own.base.op, PIER_ENOMEM, "pier_sqlite_load: out of memory");
    }
    return &op->own.base.op;
}
