/*
 * Statements as text: names of parameters, what may follow a statement, excerpts for messages. All
 * of it is pure, for any thread.
 */
#include "drivers/sqlite/sql.h"

#include <string.h>
#include <strings.h>

/* SQLite's default SQLITE_MAX_VARIABLE_NUMBER; it refuses greater numbers itself for "?n" only. */
enum { ARGUMENTS_MAX = 32766 };

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* ---- Parameters --------------------------------------------------------------------------- */

static int refuse_name(const char *name, size_t digits, pier_error *err)
{
    if (name[0] != '$') {
        return pier_error_set(err, PIER_EINVAL,
                              "the parameter %.60s is a number; write $1, $2, ..., or a name",
                              name);
    }
    if (name[1 + digits] == ':') {
        const char *type = name + 1 + digits + strspn(name + 1 + digits, ":");
        return pier_error_set(err, PIER_EINVAL,
                              "%.60s is one name to SQLite, which has no casts with colons; write "
                              "cast($%.*s as %s)",
                              name, (int)(digits < 40 ? digits : 40), name + 1,
                              !strncasecmp(type, "int", 3) ? "integer"
                              : *type                      ? type
                                                           : "integer");
    }
    return pier_error_set(err, PIER_EINVAL, "the parameter %.60s is not of the form $1, $2, ...",
                          name);
}

static bool is_letter(char c)
{
    return ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || (c & 0x80);
}

/* SQLite takes `$name::x(y)` for a name too, which nobody means. */
static int read_name(const char *name, pier_error *err)
{
    size_t size = 0;
    while (is_letter(name[1 + size]) || is_digit(name[1 + size]) || name[1 + size] == '$') {
        size++;
    }
    return name[1 + size] ? refuse_name(name, size, err) : PIER__SQLITE_NAMED;
}

int pier__sqlite_sql_argument(const char *name, pier_error *err)
{
    if (!name || name[0] == '?') {
        return 0;
    }
    if (is_letter(name[1])) {
        return read_name(name, err);
    }
    size_t digits = 0;
    int number = 0;
    if (name[0] == '$' && name[1] != '0') {
        while (is_digit(name[1 + digits]) && number <= ARGUMENTS_MAX) {
            number = number * 10 + (name[1 + digits] - '0');
            digits++;
        }
    }
    if (!digits || name[1 + digits] || number > ARGUMENTS_MAX) {
        return refuse_name(name, digits, err);
    }
    return number;
}

/* ---- White space, comments, keywords ------------------------------------------------------ */

const char *pier__sqlite_sql_skip(const char *sql)
{
    for (;;) {
        if (is_space(*sql) || *sql == ';') {
            sql++;
        } else if (sql[0] == '-' && sql[1] == '-') {
            sql += strcspn(sql, "\n");
        } else if (sql[0] == '/' && sql[1] == '*') {
            /* A comment that is not closed reaches to the end, as it does for SQLite. */
            const char *end = strstr(sql + 2, "*/");
            sql = end ? end + 2 : sql + strlen(sql);
        } else {
            return sql;
        }
    }
}

static size_t word_size(const char *sql)
{
    size_t size = 0;
    while (is_letter(sql[size]) || is_digit(sql[size]) || sql[size] == '$') {
        size++;
    }
    return size;
}

static bool is_word(const char *sql, size_t size, const char *word)
{
    return size == strlen(word) && !strncasecmp(sql, word, size);
}

/* Behind a word, a quoted name or text, or one character of anything else. */
static const char *skip_token(const char *sql, size_t size)
{
    if (size) {
        return sql + size;
    }
    char end = *sql == '[' ? ']' : strchr("'\"`", *sql) ? *sql : 0;
    const char *close = end ? strchr(sql + 1, end) : NULL;
    return close ? close + 1 : sql + 1;
}

bool pier__sqlite_sql_inserts(const char *sql)
{
    int depth = 0; /* of brackets: what counts stands in none */
    sql = pier__sqlite_sql_skip(sql);
    bool with = is_word(sql, word_size(sql), "with");
    while (*sql) {
        size_t size = word_size(sql);
        if (size && !depth && (is_word(sql, size, "insert") || is_word(sql, size, "replace"))) {
            return true;
        }
        if (!with) {
            return false;
        }
        depth += *sql == '(' ? 1 : *sql == ')' ? -1 : 0;
        sql = pier__sqlite_sql_skip(skip_token(sql, size));
    }
    return false;
}

/* Pragmas are not among them: they may change the connection, and read its settings. */
bool pier__sqlite_sql_may_read(const char *sql)
{
    static const char *const words[] = {"select", "with", "values", "explain"};
    sql = pier__sqlite_sql_skip(sql);
    size_t size = 0;
    while ((sql[size] | 32) >= 'a' && (sql[size] | 32) <= 'z') {
        size++;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (size == strlen(words[i]) && !strncasecmp(sql, words[i], size)) {
            return true;
        }
    }
    return false;
}

bool pier__sqlite_sql_is_pragma(const char *sql)
{
    return !strncasecmp(pier__sqlite_sql_skip(sql), "pragma", 6);
}

int pier__sqlite_sql_check_pragma(const char *sql, pier_error *err)
{
    static const char name[] = "busy_timeout";
    const char *at = pier__sqlite_sql_skip(sql) + strlen("pragma");
    at = pier__sqlite_sql_skip(at);
    const char *dot = at + strcspn(at, ".=(; \t\r\n");
    if (*dot == '.') {
        at = dot + 1;
    }
    if (strncasecmp(at, name, sizeof name - 1)) {
        return 0;
    }
    return pier_error_set(err, PIER_EINVAL,
                          "pragma busy_timeout would make waiting for locks deaf to deadlines; set "
                          "busy_timeout_ms in the URL: sqlite:path?busy_timeout_ms=1000");
}

/* ---- Messages ----------------------------------------------------------------------------- */

void pier__sqlite_sql_excerpt(char excerpt[PIER__SQLITE_EXCERPT], const char *sql)
{
    static const char more[] = "...";
    size_t room = PIER__SQLITE_EXCERPT - sizeof more;
    size_t size = 0;
    while (is_space(*sql)) {
        sql++;
    }
    while (*sql && size < room) {
        char c = *sql++;
        if (is_space(c)) {
            while (is_space(*sql)) {
                sql++;
            }
            if (!*sql) {
                break;
            }
            c = ' ';
        }
        excerpt[size++] = c;
    }
    if (*sql) {
        /* Not in the middle of a character. */
        while (size && ((unsigned char)*sql & 0xC0) == 0x80) {
            sql--;
            size--;
        }
        memcpy(excerpt + size, more, sizeof more - 1);
        size += sizeof more - 1;
    }
    excerpt[size] = 0;
}

size_t pier__sqlite_sql_position(const char *sql, size_t offset)
{
    size_t position = 1;
    for (size_t i = 0; i < offset && sql[i]; i++) {
        position += ((unsigned char)sql[i + 1] & 0xC0) != 0x80;
    }
    return position;
}
