/*
 * SQLSTATEs and texts, the server's and libpq's, as errors. Programs decide by status and SQLSTATE;
 * the texts may be in the server's language.
 */
#include "drivers/postgres/error.h"

#include "drivers/postgres/names.h"
#include "drivers/postgres/statement_cache.h"
#include "drivers/postgres/text.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MESSAGE_MAX = 280, /* bytes of the server's message in ours */
    EXCERPT_MAX = 120  /* and of the statement */
};

typedef struct meaning {
    const char *sqlstate; /* all of it, or the two characters of its class */
    int status;
} meaning;

/* The first that matches; docs/postgres.md has the table. What ends a session is PIER_EIO. */
static const meaning meanings[] = {
    {"23", PIER_ECONSTRAINT},
    {"40002", PIER_ECONSTRAINT}, /* of the whole transaction */
    {"40001", PIER_ESERIALIZATION},
    {"40P01", PIER_ESERIALIZATION}, /* deadlock */
    {"55P03", PIER_EBUSY},          /* lock not available */
    {"55006", PIER_EBUSY},          /* object in use */
    {"22001", PIER_ERANGE},         /* a text that is too long */
    {"22003", PIER_ERANGE},         /* numeric value out of range */
    {"22008", PIER_ERANGE},         /* a date or time out of range */
    {"22P02", PIER_ETYPE},          /* text that is no value of the type that is wanted */
    {"22P03", PIER_ETYPE},          /* the same of bytes */
    {"22007", PIER_ETYPE},          /* the same of a date or time */
    {"53", PIER_EIO},               /* disk full, out of memory: the server's */
    {"57P", PIER_EIO},              /* shut down, crashed, not ready, idle for too long */
    {"58", PIER_EIO},               /* files of the server's */
    {"XX001", PIER_EIO},            /* which are damaged */
    {"XX002", PIER_EIO},
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

void pier__postgres_one_line(char *line, size_t size, const char *text)
{
    pier__postgres_fold(line, size, text, strlen(text));
}

void pier__postgres_error_add_sql(pier_error *err, const char *sql, size_t sql_size)
{
    enum { AROUND = 6 }; /* ": ", "..." and the zero */
    char excerpt[EXCERPT_MAX + 1];
    size_t length = strlen(err->message);
    if (!sql || length + AROUND + 2 > sizeof err->message) {
        return;
    }
    size_t room = sizeof err->message - length - AROUND + 1;
    size_t size = room < sizeof excerpt ? room : sizeof excerpt;
    bool cut = pier__postgres_fold(excerpt, size, sql, sql_size) < sql_size;
    if (*excerpt) {
        snprintf(err->message + length, sizeof err->message - length, ": %s%s", excerpt,
                 cut ? "..." : "");
    }
}

static void add_text(pier_error *err, pier_field field, const char *text, size_t size)
{
    char clean[sizeof err->packed];
    if (text && *text && size > 1) {
        pier__postgres_clean(clean, size < sizeof clean ? size : sizeof clean, text);
        pier__error_add_field(err, field, clean);
    }
}

/* What is short, and tells most. */
static void add_names(pier_error *err, const pier__postgres_report *report)
{
    static const struct {
        pier_field field;
        int code;
    } fields[] = {
        {PIER_FIELD_SEVERITY, PG_DIAG_SEVERITY_NONLOCALIZED},
        {PIER_FIELD_INTERNAL_POSITION, PG_DIAG_INTERNAL_POSITION},
        {PIER_FIELD_SCHEMA, PG_DIAG_SCHEMA_NAME},
        {PIER_FIELD_TABLE, PG_DIAG_TABLE_NAME},
        {PIER_FIELD_COLUMN, PG_DIAG_COLUMN_NAME},
        {PIER_FIELD_DATATYPE, PG_DIAG_DATATYPE_NAME},
        {PIER_FIELD_SOURCE_FUNCTION, PG_DIAG_SOURCE_FUNCTION},
        {PIER_FIELD_SOURCE_FILE, PG_DIAG_SOURCE_FILE},
        {PIER_FIELD_SOURCE_LINE, PG_DIAG_SOURCE_LINE},
        {PIER_FIELD_SEVERITY_LOCALIZED, PG_DIAG_SEVERITY},
    };
    enum {
        NAME_SIZE = 64
    }; /* as long as names are in Postgres; a function of the user's can send
          longer ones */
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) {
        add_text(err, fields[i].field, pier__postgres_report_text(report, fields[i].code),
                 NAME_SIZE);
    }
}

static size_t used(const pier_error *err)
{
    size_t at = 0;
    while (at < sizeof err->packed && err->packed[at]) {
        at += 2 + strlen((const char *)err->packed + at + 1);
    }
    return at;
}

/* What may be long: each leaves something for those behind it, but no more than half. */
static void add_texts(pier_error *err, const pier__postgres_report *report)
{
    static const struct {
        pier_field field;
        int code;
        size_t share; /* that is left for it */
    } fields[] = {
        {PIER_FIELD_DETAIL, PG_DIAG_MESSAGE_DETAIL, 0},
        {PIER_FIELD_HINT, PG_DIAG_MESSAGE_HINT, 100},
        {PIER_FIELD_CONTEXT, PG_DIAG_CONTEXT, 60},
        {PIER_FIELD_INTERNAL_QUERY, PG_DIAG_INTERNAL_QUERY, 40},
    };
    enum { COUNT = sizeof fields / sizeof *fields };
    for (size_t i = 0; i < COUNT; i++) {
        size_t room = sizeof err->packed - 1 - used(err), left = 0;
        room = room > 2 ? room - 2 : 0;
        for (size_t k = i + 1; k < COUNT; k++) {
            const char *text = pier__postgres_report_text(report, fields[k].code);
            size_t length = text ? strnlen(text, fields[k].share) : 0;
            left += length ? length + 2 : 0;
        }
        size_t size = room > 2 * left ? room - left : room / 2;
        add_text(err, fields[i].field, pier__postgres_report_text(report, fields[i].code), size);
    }
}

/* The server stumbles over a mark with a name behind it, and has read strings, comments and casts
 * before it says so: in a statement that was sent without names that is meant as one. */
static void add_names_remedy(pier_error *err, const pier__postgres_report *report, const char *at,
                             size_t size)
{
    if (size > 1 && (*at == ':' || *at == '$') && (isalpha((unsigned char)at[1]) || at[1] == '_') &&
        strcmp(pier__postgres_sqlstate(report), "42601") == 0) {
        size_t length = strlen(err->message);
        snprintf(err->message + length, sizeof err->message - length,
                 "; arguments by name are given with PIER_NAMED");
    }
}

/* The server counts characters from 1. Where the statement has lines, the message names the place.
 */
static void add_position(pier_error *err, const pier__postgres_report *report, const char *sql,
                         size_t sql_size, const pier__postgres_names *names)
{
    const char *text = pier__postgres_report_text(report, PG_DIAG_STATEMENT_POSITION);
    unsigned long position = text ? strtoul(text, NULL, 10) : 0;
    char number[24];
    if (position == 0) {
        return;
    }
    position = names ? pier__postgres_names_position(names, position) : position;
    snprintf(number, sizeof number, "%lu", position);
    pier__error_add_field(err, PIER_FIELD_POSITION, number);
    unsigned long line = 1, column = 1;
    size_t at = 0;
    for (; sql && at < sql_size && position > 1; position--) {
        size_t width = pier__postgres_utf8_width(sql + at, sql_size - at);
        bool ends = sql[at] == '\n';
        line += ends;
        column = ends ? 1 : column + 1;
        at += width ? width : 1;
    }
    size_t length = strlen(err->message);
    if (line > 1) {
        snprintf(err->message + length, sizeof err->message - length, " (line %lu, column %lu)",
                 line, column);
    }
    if (!names && sql && at < sql_size) {
        add_names_remedy(err, report, sql + at, sql_size - at);
    }
}

/* A statement that the driver has prepared is gone, and was gone again when it had been prepared
 * anew, or was lost within a transaction: its session changes between requests. Its name is in the
 * message in every language. */
static void add_pooler_remedy(pier_error *err, const char *sqlstate, const char *primary)
{
    if (strcmp(sqlstate, "26000") == 0 && primary && strstr(primary, PIER__POSTGRES_NAMES)) {
        size_t length = strlen(err->message);
        snprintf(err->message + length, sizeof err->message - length,
                 "; behind a pooler in transaction mode add pier_statements=unnamed to the URL");
    }
}

void pier__postgres_error(pier_error *err, const pier__postgres_report *report, const char *sql,
                          size_t sql_size, const pier__postgres_names *names)
{
    const char *sqlstate = pier__postgres_sqlstate(report);
    const char *primary = pier__postgres_report_text(report, PG_DIAG_MESSAGE_PRIMARY);
    char line[MESSAGE_MAX];
    pier__postgres_one_line(line, sizeof line, primary ? primary : "");
    bool fatal = pier__postgres_is_fatal(report);
    int status = pier__postgres_is_nomem(report) ? PIER_ENOMEM
                 : fatal || !*sqlstate           ? PIER_EIO
                                                 : pier__postgres_status(sqlstate);
    pier_error_set(err, status, "%s", *line ? line : "Postgres gave no reason");
    add_position(err, report, sql, sql_size, names);
    if (fatal) {
        size_t length = strlen(err->message);
        snprintf(err->message + length, sizeof err->message - length,
                 "; the server ended the connection, the next call makes a new one");
    }
    add_pooler_remedy(err, sqlstate, primary);
    pier__postgres_error_add_sql(err, sql, sql_size);
    err->origin = PIER_ORIGIN_POSTGRES;
    snprintf(err->sqlstate, sizeof err->sqlstate, "%s", sqlstate);
    const char *constraint = pier__postgres_report_text(report, PG_DIAG_CONSTRAINT_NAME);
    pier__postgres_clean(err->constraint, sizeof err->constraint, constraint ? constraint : "");
    add_names(err, report);
    add_texts(err, report);
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
    pier__postgres_fold(line, sizeof line, text, size);
    pier_error_set(err, PIER_ECONNECT, "could not connect to %.120s: %s%s", name,
                   *line ? line : "libpq gave no reason", connect_remedy(sqlstate));
    err->origin = PIER_ORIGIN_POSTGRES;
    memcpy(err->sqlstate, sqlstate, sizeof sqlstate);
}
