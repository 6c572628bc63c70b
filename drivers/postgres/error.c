/*
 * SQLSTATEs and libpq's texts as errors. Programs decide by status and SQLSTATE; the texts may be
 * in the server's language.
 */
#include "drivers/postgres/error.h"

#include <stdio.h>
#include <string.h>

enum { EXCERPT_MAX = 120 }; /* bytes of a statement in a message */

typedef struct meaning {
    const char *sqlstate; /* all of it, or the two characters of its class */
    int status;
} meaning;

/* The first that matches. */
static const meaning meanings[] = {
    {"23", PIER_ECONSTRAINT},
    {"40001", PIER_ESERIALIZATION},
    {"40P01", PIER_ESERIALIZATION}, /* deadlock */
    {"55P03", PIER_EBUSY},          /* lock not available */
    {"22003", PIER_ERANGE},         /* numeric value out of range */
    {"57P01", PIER_EIO},            /* shut down by an administrator */
    {"57P02", PIER_EIO},            /* after another backend's crash */
    {"57P03", PIER_EIO},
    {"57P05", PIER_EIO}, /* idle for too long */
};

int pier__postgres_status(const char *sqlstate)
{
    for (size_t i = 0; i < sizeof meanings / sizeof *meanings; i++) {
        if (strncmp(sqlstate, meanings[i].sqlstate, strlen(meanings[i].sqlstate)) == 0) {
            return meanings[i].status;
        }
    }
    return PIER_ESQL;
}

const char *pier__postgres_sqlstate(const PGresult *result)
{
    const char *sqlstate = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    return sqlstate ? sqlstate : "";
}

bool pier__postgres_is_fatal(const PGresult *result)
{
    const char *severity = PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

/* Copies at most `size` - 1 bytes, every run of white space as one space, none at the ends, and no
 * half character. Gives the number of bytes read. */
static size_t fold(char *to, size_t size, const char *from, size_t from_size)
{
    size_t length = 0, read = 0;
    for (; read < from_size && from[read]; read++) {
        bool space = is_space(from[read]);
        if (space && (length == 0 || to[length - 1] == ' ')) {
            continue;
        }
        if (length + 1 >= size) {
            break;
        }
        to[length++] = space ? ' ' : from[read];
    }
    if (read < from_size && from[read]) {
        while (length && ((unsigned char)from[read] & 0xC0) == 0x80) {
            length--;
            read--;
        }
    }
    while (length && to[length - 1] == ' ') {
        length--;
    }
    to[length] = 0;
    return read;
}

void pier__postgres_one_line(char *line, size_t size, const char *text)
{
    fold(line, size, text, strlen(text));
}

void pier__postgres_error_add_sql(pier_error *err, const char *sql, size_t sql_size)
{
    char excerpt[EXCERPT_MAX + 1];
    size_t length = strlen(err->message);
    if (!sql) {
        return;
    }
    bool cut = fold(excerpt, sizeof excerpt, sql, sql_size) < sql_size;
    if (*excerpt && length + 8 < sizeof err->message) {
        snprintf(err->message + length, sizeof err->message - length, ": %s%s", excerpt,
                 cut ? "..." : "");
    }
}

static void add_fields(pier_error *err, const PGresult *result)
{
    static const struct {
        pier_field field;
        int code;
    } fields[] = {
        {PIER_FIELD_SEVERITY, PG_DIAG_SEVERITY_NONLOCALIZED},
        {PIER_FIELD_POSITION, PG_DIAG_STATEMENT_POSITION},
        {PIER_FIELD_SCHEMA, PG_DIAG_SCHEMA_NAME},
        {PIER_FIELD_TABLE, PG_DIAG_TABLE_NAME},
        {PIER_FIELD_COLUMN, PG_DIAG_COLUMN_NAME},
        {PIER_FIELD_DETAIL, PG_DIAG_MESSAGE_DETAIL},
        {PIER_FIELD_HINT, PG_DIAG_MESSAGE_HINT},
        {PIER_FIELD_CONTEXT, PG_DIAG_CONTEXT},
    };
    /* The short ones first, because room ends with a long one. */
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        pier__error_add_field(err, fields[i].field, PQresultErrorField(result, fields[i].code));
    }
}

void pier__postgres_error(pier_error *err, const PGresult *result, const char *sql, size_t sql_size)
{
    const char *sqlstate = pier__postgres_sqlstate(result);
    const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
    char line[300];
    /* Errors that libpq makes itself have no fields. */
    pier__postgres_one_line(line, sizeof line, primary ? primary : PQresultErrorMessage(result));
    bool fatal = pier__postgres_is_fatal(result);
    int status = fatal || !*sqlstate ? PIER_EIO : pier__postgres_status(sqlstate);
    pier_error_set(err, status, "%s", *line ? line : "Postgres gave no reason");
    if (fatal) {
        size_t length = strlen(err->message);
        snprintf(err->message + length, sizeof err->message - length,
                 "; the server ended the connection, the next call makes a new one");
    }
    pier__postgres_error_add_sql(err, sql, sql_size);
    err->origin = PIER_ORIGIN_POSTGRES;
    snprintf(err->sqlstate, sizeof err->sqlstate, "%s", sqlstate);
    const char *constraint = PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME);
    snprintf(err->constraint, sizeof err->constraint, "%.63s", constraint ? constraint : "");
    add_fields(err, result);
}

/* With verbose errors libpq writes "FATAL:  28P01: password authentication failed ...", whatever
 * the language. Gives where the SQLSTATE stands; NULL: the server sent no error. */
static const char *find_sqlstate(const char *text)
{
    for (const char *at = strstr(text, ":  "); at; at = strstr(at + 1, ":  ")) {
        const char *code = at + 3;
        if (strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5 && code[5] == ':' &&
            code[6] == ' ') {
            return code;
        }
    }
    return NULL;
}

static const char *connect_remedy(const char *sqlstate)
{
    static const struct {
        const char *sqlstate, *remedy;
    } remedies[] = {
        {"28", "; check user and password in the URL, PGPASSWORD or ~/.pgpass"},
        {"3D000", "; create the database, or correct its name in the URL"},
        {"53300", "; lower pool_max, or raise the server's max_connections"},
        {"57P03", "; try again when the server is ready"},
    };
    for (size_t i = 0; i < sizeof remedies / sizeof *remedies; i++) {
        if (strncmp(sqlstate, remedies[i].sqlstate, strlen(remedies[i].sqlstate)) == 0) {
            return remedies[i].remedy;
        }
    }
    return "";
}

void pier__postgres_connect_error(pier_error *err, const char *name, const char *text)
{
    char line[280], sqlstate[6] = "";
    const char *code = find_sqlstate(text);
    if (code) {
        memcpy(sqlstate, code, 5);
        text = code + 7;
    }
    /* What is behind the first line of a server's error is the place in its source. */
    size_t size = code ? strcspn(text, "\n") : strlen(text);
    fold(line, sizeof line, text, size);
    pier_error_set(err, PIER_ECONNECT, "could not connect to %.120s: %s%s", name,
                   *line ? line : "libpq gave no reason", connect_remedy(sqlstate));
    err->origin = PIER_ORIGIN_POSTGRES;
    memcpy(err->sqlstate, sqlstate, sizeof sqlstate);
}
