/*
 * Looks at a statement's words. Its first one must be that of a plain statement, and whatever
 * stands before a parenthesis must be known: a keyword, a type, a function that changes nothing.
 */
#include "drivers/postgres/effects.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { WORD_MAX = 32 };

typedef struct scanner {
    const char *at, *end;
    char word[WORD_MAX]; /* in lower case; "" for one that is too long or quoted */
    bool is_word;
} scanner;

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

static bool is_inner(char c)
{
    return is_letter(c) || (c >= '0' && c <= '9') || c == '$';
}

static void skip_line(scanner *s)
{
    while (s->at < s->end && *s->at != '\n') {
        s->at++;
    }
}

static void skip_comment(scanner *s)
{
    int depth = 0;
    while (s->at < s->end) {
        bool two = s->at + 1 < s->end;
        if (two && s->at[0] == '/' && s->at[1] == '*') {
            depth++;
            s->at += 2;
        } else if (two && s->at[0] == '*' && s->at[1] == '/') {
            s->at += 2;
            if (--depth == 0) {
                return;
            }
        } else {
            s->at++;
        }
    }
}

static void skip_blanks(scanner *s)
{
    while (s->at < s->end) {
        bool two = s->at + 1 < s->end;
        if (strchr(" \t\r\n\f\v", *s->at)) {
            s->at++;
        } else if (two && s->at[0] == '-' && s->at[1] == '-') {
            skip_line(s);
        } else if (two && s->at[0] == '/' && s->at[1] == '*') {
            skip_comment(s);
        } else {
            return;
        }
    }
}

/* A backslash is taken to escape only behind E: whoever has turned standard_conforming_strings off
 * has changed the session. */
static void skip_quoted(scanner *s, bool escapes)
{
    char quote = *s->at++;
    while (s->at < s->end) {
        char c = *s->at++;
        if (escapes && c == '\\' && s->at < s->end) {
            s->at++;
        } else if (c == quote) {
            return;
        }
    }
}

/* $tag$...$tag$; false: it is no such string. */
static bool skip_dollars(scanner *s)
{
    const char *tag_end = s->at + 1;
    while (tag_end < s->end && *tag_end != '$' && is_inner(*tag_end)) {
        tag_end++;
    }
    if (tag_end >= s->end || *tag_end != '$' || (s->at[1] >= '0' && s->at[1] <= '9')) {
        return false;
    }
    size_t size = (size_t)(tag_end + 1 - s->at);
    const char *tag = s->at;
    for (s->at += size; s->at + size <= s->end; s->at++) {
        if (memcmp(s->at, tag, size) == 0) {
            s->at += size;
            return true;
        }
    }
    s->at = s->end;
    return true;
}

static void take_word(scanner *s)
{
    size_t size = 0;
    for (; s->at < s->end && is_inner(*s->at); s->at++) {
        if (size < sizeof s->word) {
            char c = *s->at;
            s->word[size] = (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
        }
        size++;
    }
    s->word[size < sizeof s->word ? size : 0] = '\0';
    s->is_word = true;
}

/* The next word or character; strings are one character. 0: the end. */
static char next(scanner *s)
{
    skip_blanks(s);
    s->is_word = false;
    if (s->at >= s->end) {
        return 0;
    }
    char c = *s->at;
    if (is_letter(c)) {
        take_word(s);
        bool escapes = strcmp(s->word, "e") == 0;
        if (s->at < s->end && *s->at == '\'' && s->word[0] && !s->word[1]) {
            skip_quoted(s, escapes);
            s->is_word = false;
            return '\'';
        }
        return 'w';
    }
    if (c == '"') {
        skip_quoted(s, false);
        s->word[0] = '\0';
        s->is_word = true;
        return 'w';
    }
    if (c == '\'') {
        skip_quoted(s, false);
    } else if (c != '$' || !skip_dollars(s)) {
        s->at++;
    }
    return c;
}

static int compare(const void *word, const void *entry)
{
    return strcmp(word, *(const char *const *)entry);
}

static bool is_in(const char *word, const char *const *list, size_t count)
{
    return bsearch(word, list, count, sizeof *list, compare) != NULL;
}

#define IS_IN(word, list) is_in(word, list, sizeof(list) / sizeof *(list))

/* Each list is in the order of strcmp. */
static const char *const plain[] = {
    "abort",  "begin", "commit", "copy",  "delete",   "end",     "explain",  "fetch",
    "insert", "lock",  "merge",  "move",  "notify",   "release", "rollback", "savepoint",
    "select", "show",  "start",  "table", "truncate", "update",  "values",   "with",
};

/* What may stand before a parenthesis: keywords, types, and functions that change no session. */
static const char *const harmless[] = {
    "abs",
    "age",
    "all",
    "and",
    "any",
    "array",
    "array_agg",
    "array_append",
    "array_cat",
    "array_length",
    "array_position",
    "array_remove",
    "array_to_string",
    "as",
    "ascii",
    "avg",
    "between",
    "bigint",
    "bit",
    "bit_length",
    "bool_and",
    "bool_or",
    "btrim",
    "by",
    "bytea",
    "cardinality",
    "case",
    "cast",
    "cbrt",
    "ceil",
    "ceiling",
    "char",
    "char_length",
    "character",
    "check",
    "chr",
    "clock_timestamp",
    "coalesce",
    "concat",
    "concat_ws",
    "conflict",
    "copy",
    "cos",
    "count",
    "cube",
    "current_database",
    "current_setting",
    "current_timestamp",
    "currval",
    "date",
    "date_part",
    "date_trunc",
    "decimal",
    "decode",
    "degrees",
    "dense_rank",
    "distinct",
    "div",
    "else",
    "encode",
    "every",
    "except",
    "exists",
    "exp",
    "explain",
    "extract",
    "filter",
    "first_value",
    "float",
    "floor",
    "format",
    "from",
    "gcd",
    "gen_random_uuid",
    "generate_series",
    "get_byte",
    "greatest",
    "group",
    "grouping",
    "having",
    "in",
    "initcap",
    "insert",
    "intersect",
    "interval",
    "is",
    "isfinite",
    "join",
    "json_agg",
    "json_array_elements",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_object_agg",
    "jsonb_set",
    "justify_interval",
    "key",
    "lag",
    "last_value",
    "lastval",
    "lateral",
    "lead",
    "least",
    "left",
    "length",
    "like",
    "limit",
    "ln",
    "localtimestamp",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "materialized",
    "max",
    "md5",
    "merge",
    "min",
    "mod",
    "nextval",
    "not",
    "now",
    "ntile",
    "nullif",
    "num_nulls",
    "numeric",
    "octet_length",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "overlay",
    "partition",
    "percentile_cont",
    "pg_backend_pid",
    "pg_database_size",
    "pg_get_userbyid",
    "pg_relation_size",
    "pg_sleep",
    "pg_table_size",
    "pg_total_relation_size",
    "pg_typeof",
    "pi",
    "position",
    "power",
    "quote_ident",
    "quote_literal",
    "quote_nullable",
    "radians",
    "random",
    "rank",
    "regexp_match",
    "regexp_matches",
    "regexp_replace",
    "regexp_split_to_array",
    "repeat",
    "replace",
    "returning",
    "reverse",
    "right",
    "rollup",
    "round",
    "row",
    "row_number",
    "row_to_json",
    "rpad",
    "rtrim",
    "select",
    "set",
    "setval",
    "sha256",
    "sign",
    "similar",
    "sin",
    "some",
    "split_part",
    "sqrt",
    "starts_with",
    "statement_timestamp",
    "stddev",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "table",
    "then",
    "time",
    "timestamp",
    "timestamptz",
    "to_char",
    "to_date",
    "to_hex",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_regclass",
    "to_timestamp",
    "transaction_timestamp",
    "translate",
    "trim",
    "trunc",
    "union",
    "unnest",
    "update",
    "upper",
    "using",
    "values",
    "varchar",
    "variance",
    "version",
    "when",
    "where",
    "width_bucket",
    "window",
    "with",
    "within",
};

/* Statements whose first word alone does not say it. */
static bool begins_plain(scanner *s)
{
    char first[WORD_MAX];
    memcpy(first, s->word, sizeof first);
    if (IS_IN(first, plain)) {
        return true;
    }
    next(s);
    if (strcmp(first, "set") == 0) { /* until the transaction ends */
        return s->is_word && (!strcmp(s->word, "local") || !strcmp(s->word, "transaction"));
    }
    /* The driver's own cursors, which end with their transaction. */
    return strcmp(first, "declare") == 0 && s->is_word && strncmp(s->word, "pier_c", 6) == 0;
}

/* Is there a call of something unknown, or a table made by SELECT INTO? */
static bool calls_unknown(scanner *s)
{
    bool known = true;     /* the last word may stand before a parenthesis */
    bool inserts = false;  /* it was the word before INTO */
    bool in_table = false; /* the name of the table behind INTO: columns may follow */
    bool named = false;    /* of which a part has come */
    char before = 'w';
    for (char c; (c = next(s)); before = c) {
        if (c == '(' && before == 'w' && !in_table && !known) {
            return true;
        }
        if (c != 'w') {
            in_table = in_table && c == '.';
            continue;
        }
        bool part = before == '.' || !s->word[0];
        if (!part && strcmp(s->word, "into") == 0) {
            if (!inserts) {
                return true;
            }
            in_table = true;
            named = false;
        } else {
            in_table = in_table && (!named || before == '.');
            named = true;
        }
        known = !part && IS_IN(s->word, harmless);
        inserts = !part && (strcmp(s->word, "insert") == 0 || strcmp(s->word, "merge") == 0);
    }
    return false;
}

unsigned pier__postgres_effects(const char *sql, size_t size)
{
    scanner s = {.at = sql, .end = sql + size};
    if (next(&s) != 'w') {
        return s.at < s.end ? PIER__EFFECT_SESSION : 0; /* in parentheses, for example */
    }
    if (strcmp(s.word, "prepare") == 0) {
        return PIER__EFFECT_SESSION | PIER__EFFECT_NAMES;
    }
    scanner all = {.at = sql, .end = sql + size};
    return begins_plain(&s) && !calls_unknown(&all) ? 0 : PIER__EFFECT_SESSION;
}
