/*
 * The reader. Comment lines are gone before anything else looks, as they are for SQLite's runner:
 * also in the middle of a statement or of results. A line of white space is an empty line, which
 * ends a record. After a malformed record reading goes on behind the next empty line.
 */
#include "tests/sqllogictest/script.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- Lines -------------------------------------------------------------------------------- */

/* False at the end of the file; the line is empty then. */
static bool read_any_line(struct slt_script *script)
{
    script->size = 0;
    ssize_t size = script->ended ? -1 : getline(&script->line, &script->capacity, script->file);
    if (size < 0) {
        script->failure = !script->ended && ferror(script->file) ? errno : script->failure;
        script->ended = true;
        return false;
    }
    script->number++;
    size -= size && script->line[size - 1] == '\n';
    size -= size && script->line[size - 1] == '\r';
    script->line[size] = 0;
    script->size = (size_t)size;
    static const char mark[] = "\xef\xbb\xbf"; /* that editors put before UTF-8 */
    if (script->number == 1 && !strncmp(script->line, mark, sizeof mark - 1)) {
        script->size -= sizeof mark - 1;
        memmove(script->line, script->line + sizeof mark - 1, script->size + 1);
    }
    return true;
}

static bool next_line(struct slt_script *script)
{
    do {
        if (!read_any_line(script)) {
            return false;
        }
    } while (script->line[0] == '#');
    script->has_zero |= strlen(script->line) != script->size;
    if (script->line[strspn(script->line, " \t\v\f\r")] == 0) {
        script->size = 0;
    }
    return true;
}

/* Moves to the next line of the same record. */
static bool next_of_record(struct slt_script *script)
{
    return next_line(script) && script->size;
}

static void skip_record(struct slt_script *script)
{
    while (script->size && next_line(script)) {
    }
}

/* ---- Words -------------------------------------------------------------------------------- */

struct word {
    const char *text;
    size_t size;
};

static struct word next_word(const char **at)
{
    struct word word;
    word.text = *at + strspn(*at, " \t\v\f\r");
    word.size = strcspn(word.text, " \t\v\f\r");
    *at = word.text + word.size;
    return word;
}

static bool is(struct word word, const char *text)
{
    return word.size == strlen(text) && !memcmp(word.text, text, word.size);
}

/* Nothing, or a comment. */
static bool is_end(struct word word)
{
    return !word.size || word.text[0] == '#';
}

static bool read_number(struct word word, int64_t *number)
{
    if (!word.size || strspn(word.text, "0123456789") < word.size) {
        return false;
    }
    errno = 0;
    *number = strtoll(word.text, NULL, 10);
    return errno == 0;
}

static void keep(struct slt_buffer *buffer, struct word word)
{
    slt_buffer_clear(buffer);
    slt_buffer_add(buffer, word.text, word.size);
}

__attribute__((format(printf, 3, 4))) static bool
malformed(struct slt_record *record, unsigned long line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(record->problem, sizeof record->problem, format, arguments);
    va_end(arguments);
    for (char *c = record->problem; *c; c++) {
        *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c; /* nothing a terminal would obey */
    }
    record->kind = SLT_MALFORMED;
    record->line = line;
    return false;
}

/* How much of a word a message shows. */
static int shown(struct word word)
{
    return word.size < 40 ? (int)word.size : 40;
}

/* ---- The lines below the first ------------------------------------------------------------ */

static bool is_separator(const char *line)
{
    return !strncmp(line, "----", 4) && line[4 + strspn(line + 4, " \t")] == 0;
}

/* Stops at "----" or behind the record. */
static bool read_sql(struct slt_script *script, struct slt_record *record)
{
    slt_buffer_clear(&record->sql);
    while (next_of_record(script) && !is_separator(script->line)) {
        if (record->sql.size) {
            slt_buffer_add(&record->sql, "\n", 1);
        }
        slt_buffer_add(&record->sql, script->line, script->size);
    }
    return record->sql.size || malformed(record, record->line, "there is no SQL below this line");
}

/* "N values hashing to H" alone is not a value. */
static bool read_hash(struct slt_record *record)
{
    static const char between[] = " values hashing to ";
    const char *line = record->expected.count == 1 ? slt_values_at(&record->expected, 0) : "";
    size_t digits = strspn(line, "0123456789");
    if (!digits || strncmp(line + digits, between, sizeof between - 1)) {
        return true;
    }
    const char *hash = line + digits + sizeof between - 1;
    size_t size = strspn(hash, "0123456789abcdefABCDEF");
    int64_t count;
    if (size != SLT_MD5_TEXT - 1 || hash[size + strspn(hash + size, " \t")] ||
        !read_number((struct word){line, digits}, &count)) {
        return malformed(record, record->expected_line, "this is not N values hashing to an MD5");
    }
    record->hashed = true;
    record->hashed_count = (uint64_t)count;
    for (size_t i = 0; i < size; i++) {
        record->hash[i] = (char)tolower((unsigned char)hash[i]);
    }
    record->hash[size] = 0;
    return true;
}

static bool read_expected(struct slt_script *script, struct slt_record *record)
{
    record->expected_line = script->number;
    if (!is_separator(script->line) || !script->size) {
        return true;
    }
    while (next_of_record(script)) {
        if (!record->expected.count) {
            record->expected_line = script->number;
        }
        slt_values_add(&record->expected, script->line, script->size);
    }
    return read_hash(record);
}

/* ---- Records ------------------------------------------------------------------------------ */

static bool read_statement(struct slt_script *script, struct slt_record *record, const char *at)
{
    struct word word = next_word(&at);
    slt_buffer_clear(&record->text);
    if (is(word, "ok")) {
        record->wanted = SLT_OK;
    } else if (is(word, "error")) {
        record->wanted = SLT_ERROR;
        struct word rest = {at + strspn(at, " \t"), 0};
        rest.size = strlen(rest.text);
        while (rest.size && isspace((unsigned char)rest.text[rest.size - 1])) {
            rest.size--;
        }
        keep(&record->text, rest);
        at += strlen(at);
    } else if (is(word, "count")) {
        record->wanted = SLT_COUNT;
        if (!read_number(next_word(&at), &record->count)) {
            return malformed(record, record->line, "statement count needs a number of rows");
        }
    } else {
        return malformed(record, record->line, "a statement is ok, error or count, not \"%.*s\"",
                         shown(word), word.text);
    }
    word = next_word(&at);
    if (!is_end(word)) {
        return malformed(record, record->line, "\"%.*s\" is one word too many", shown(word),
                         word.text);
    }
    record->kind = SLT_STATEMENT;
    return read_sql(script, record) &&
           (!script->size || malformed(record, script->number, "a statement has no results"));
}

static bool read_sort(struct slt_record *record, struct word word)
{
    static const char *const sorts[] = {
        [SLT_NOSORT] = "nosort", [SLT_ROWSORT] = "rowsort", [SLT_VALUESORT] = "valuesort"};
    record->sort = SLT_NOSORT;
    for (int i = SLT_NOSORT; i <= SLT_VALUESORT; i++) {
        if (is(word, sorts[i])) {
            record->sort = (enum slt_sort)i;
            return true;
        }
    }
    return is_end(word) || malformed(record, record->line,
                                     "the order is nosort, rowsort or valuesort, not \"%.*s\"",
                                     shown(word), word.text);
}

static bool read_query(struct slt_script *script, struct slt_record *record, const char *at)
{
    struct word types = next_word(&at);
    size_t known = is_end(types) ? 0 : strspn(types.text, "TIR");
    if (!known || known != types.size) {
        return malformed(record, record->line,
                         "a query needs a letter T, I or R for each column, not \"%.*s\"",
                         shown(types), types.text);
    }
    keep(&record->types, types);
    struct word sort = next_word(&at), label = {"", 0}, more = {"", 0};
    if (!read_sort(record, sort)) {
        return false;
    }
    if (!is_end(sort)) {
        label = next_word(&at);
    }
    if (!is_end(label)) {
        more = next_word(&at);
    }
    if (!is_end(more)) {
        return malformed(record, record->line, "\"%.*s\" is one word too many", shown(more),
                         more.text);
    }
    keep(&record->label, is_end(label) ? (struct word){"", 0} : label);
    record->kind = SLT_QUERY;
    return read_sql(script, record) && read_expected(script, record);
}

static bool read_control(struct slt_record *record, struct word word, const char *at)
{
    record->kind = SLT_HALT;
    if (is(word, "hash-threshold")) {
        record->kind = SLT_HASH_THRESHOLD;
        if (!read_number(next_word(&at), &record->count)) {
            return malformed(record, record->line, "hash-threshold needs a number of values");
        }
    } else if (!is(word, "halt")) {
        return malformed(record, record->line, "\"%.*s\" is not a kind of record", shown(word),
                         word.text);
    }
    return true;
}

static bool names_database(const struct slt_script *script, struct word word)
{
    for (size_t i = 0; script->names[i]; i++) {
        if (strlen(script->names[i]) == word.size &&
            !strncasecmp(script->names[i], word.text, word.size)) {
            return true;
        }
    }
    return false;
}

/* Stops at the first line that is no condition. */
static bool read_conditions(struct slt_script *script, struct slt_record *record)
{
    for (;;) {
        const char *at = script->line;
        struct word word = next_word(&at);
        bool only = is(word, "onlyif");
        if (!only && !is(word, "skipif")) {
            return true;
        }
        struct word name = next_word(&at);
        if (is_end(name)) {
            return malformed(record, script->number, "%s needs the name of a database",
                             only ? "onlyif" : "skipif");
        }
        record->skipped |= names_database(script, name) != only;
        unsigned long line = script->number;
        if (!next_of_record(script)) {
            return malformed(record, line, "there is no record below this line");
        }
    }
}

static bool read_record(struct slt_script *script, struct slt_record *record)
{
    if (!read_conditions(script, record)) {
        return false;
    }
    record->line = script->number;
    const char *at = script->line;
    struct word word = next_word(&at);
    if (is(word, "statement")) {
        return read_statement(script, record, at);
    }
    if (is(word, "query")) {
        return read_query(script, record, at);
    }
    return read_control(record, word, at);
}

bool slt_script_open(struct slt_script *script, const char *path, const char *const *names)
{
    *script = (struct slt_script){.file = fopen(path, "re"), .names = names};
    return script->file != NULL;
}

void slt_script_next(struct slt_script *script, struct slt_record *record)
{
    record->kind = SLT_END;
    record->skipped = false;
    record->hashed = false;
    record->count = 0;
    slt_values_clear(&record->expected);
    script->has_zero = false;
    while (!script->size && next_line(script)) {
    }
    if (script->size) {
        read_record(script, record);
        skip_record(script);
        if (script->has_zero) {
            malformed(record, record->line, "there is a zero byte in this record");
        }
    } else if (script->failure) {
        malformed(record, script->number, "cannot read further: %s", strerror(script->failure));
        script->failure = 0;
    }
}

void slt_script_close(struct slt_script *script)
{
    if (script->file) {
        fclose(script->file);
    }
    free(script->line);
    *script = (struct slt_script){0};
}

void slt_record_fini(struct slt_record *record)
{
    slt_buffer_fini(&record->text);
    slt_buffer_fini(&record->types);
    slt_buffer_fini(&record->label);
    slt_buffer_fini(&record->sql);
    slt_values_fini(&record->expected);
    *record = (struct slt_record){0};
}
