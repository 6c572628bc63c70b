/*
 * White space, comments and first words, as Postgres reads them.
 */
#include "drivers/postgres/sql.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* Behind a comment that begins here; it may hold others. */
static const char *skip_block(const char *sql)
{
    int depth = 0;
    do {
        if (strncmp(sql, "/*", 2) == 0) {
            depth++;
            sql += 2;
        } else if (strncmp(sql, "*/", 2) == 0) {
            depth--;
            sql += 2;
        } else {
            sql++;
        }
    } while (depth > 0 && *sql);
    return sql;
}

const char *pier__postgres_sql_start(const char *sql)
{
    for (;;) {
        sql += strspn(sql, " \t\r\n\f\v");
        if (strncmp(sql, "--", 2) == 0) {
            sql += strcspn(sql, "\r\n");
        } else if (strncmp(sql, "/*", 2) == 0) {
            sql = skip_block(sql);
        } else {
            return sql;
        }
    }
}

bool pier__postgres_sql_begins(const char *sql, const char *word)
{
    size_t length = strlen(word);
    /* Above ASCII letters go on, and so do $ and digits. */
    return strncasecmp(sql, word, length) == 0 && !isalnum((unsigned char)sql[length]) &&
           sql[length] != '_' && sql[length] != '$' && (unsigned char)sql[length] < 0x80;
}

bool pier__postgres_has_settled_columns(const char *sql)
{
    static const char *const words[] = {"select", "insert", "update", "delete",
                                        "with",   "values", "table",  "merge"};
    sql = pier__postgres_sql_start(sql);
    while (*sql == '(') {
        sql = pier__postgres_sql_start(sql + 1);
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (pier__postgres_sql_begins(sql, words[i])) {
            return true;
        }
    }
    return false;
}
