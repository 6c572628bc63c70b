/*
 * Looks at a statement's words. Its first one must be that of a plain statement, and whatever
 * stands before a parenthesis must be known: a keyword, a type, a function that changes nothing.
 */
#include "drivers/postgres/effects.h"

#include "drivers/postgres/scan.h"
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

typedef pier__postgres_scanner scanner;

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
    char first[PIER__SCAN_WORD_MAX];
    memcpy(first, s->word, sizeof first);
    if (IS_IN(first, plain)) {
        return true;
    }
    pier__postgres_scan(s);
    if (strcmp(first, "set") == 0) { /* until the transaction ends */
        return !strcmp(s->word, "local") || !strcmp(s->word, "transaction");
    }
    /* The driver's own cursors, which end with their transaction. */
    return strcmp(first, "declare") == 0 && strncmp(s->word, "pier_c", 6) == 0;
}

/* Is there a call of something unknown, or a table made by SELECT INTO? */
static bool calls_unknown(scanner *s)
{
    bool known = true;     /* the last word may stand before a parenthesis */
    bool inserts = false;  /* it was the word before INTO */
    bool in_table = false; /* the name of the table behind INTO: columns may follow */
    bool named = false;    /* of which a part has come */
    char before = 'w';
    for (char c; (c = pier__postgres_scan(s)); before = c) {
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
    if (pier__postgres_scan(&s) != 'w') {
        return s.at < s.end ? PIER__EFFECT_SESSION : 0; /* in parentheses, for example */
    }
    if (strcmp(s.word, "prepare") == 0) {
        return PIER__EFFECT_SESSION | PIER__EFFECT_NAMES;
    }
    scanner all = {.at = sql, .end = sql + size};
    return begins_plain(&s) && !calls_unknown(&all) ? 0 : PIER__EFFECT_SESSION;
}
