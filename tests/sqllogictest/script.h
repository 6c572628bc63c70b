/* Reading test files: a stream of records, one of them in memory at a time. */
#ifndef PIER_TESTS_SQLLOGICTEST_SCRIPT_H
#define PIER_TESTS_SQLLOGICTEST_SCRIPT_H

#include "tests/sqllogictest/values.h"

#include <stdint.h>
#include <stdio.h>

enum slt_kind {
    SLT_END = 0,
    SLT_STATEMENT,
    SLT_QUERY,
    SLT_HASH_THRESHOLD,
    SLT_HALT,
    SLT_MALFORMED /* problem says why, line where; the next record can be read */
};

enum slt_wanted { SLT_OK, SLT_ERROR, SLT_COUNT };

enum slt_sort { SLT_NOSORT, SLT_ROWSORT, SLT_VALUESORT };

struct slt_record {
    enum slt_kind kind;
    unsigned long line; /* of "statement", "query", ... */
    bool skipped;       /* skipif or onlyif said so */

    /* Of a statement; text is what its error must contain. */
    enum slt_wanted wanted;
    struct slt_buffer text;
    int64_t count; /* rows changed; or the threshold */

    /* Of a query: a letter for each column; an empty label is none. */
    struct slt_buffer types;
    enum slt_sort sort;
    struct slt_buffer label;

    struct slt_buffer sql;

    /* Expected: lines as they are in the file, or a number of values and their hash. */
    unsigned long expected_line; /* of the first one */
    struct slt_values expected;
    bool hashed;
    uint64_t hashed_count;
    char hash[SLT_MD5_TEXT];

    char problem[160];
};

struct slt_script {
    FILE *file;
    const char *const *names; /* of the database, for skipif and onlyif; ends with NULL */
    char *line;               /* the current one, without its end */
    size_t size;
    size_t capacity;
    unsigned long number; /* of the current line, from 1 */
    bool ended;
    int failure;   /* errno of reading, until a record reports it */
    bool has_zero; /* the record has a zero byte in it */
};

/* Both strings are borrowed until the script is closed. False: errno says why. */
bool slt_script_open(struct slt_script *script, const char *path, const char *const *names);
/* Reads the next record over the one before. */
void slt_script_next(struct slt_script *script, struct slt_record *record);
void slt_script_close(struct slt_script *script);
void slt_record_fini(struct slt_record *record);

#endif
