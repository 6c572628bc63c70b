/*
 * Growing memory, and lists of strings that share one: the values of a result, or the lines that a
 * file expects. A test program has nothing better to do without memory than to end.
 */
#ifndef PIER_TESTS_SQLLOGICTEST_VALUES_H
#define PIER_TESTS_SQLLOGICTEST_VALUES_H

#include "tests/sqllogictest/md5.h"

#include <stdbool.h>
#include <stddef.h>

/* Text that grows; always ends with a zero byte once something was added. */
struct slt_buffer {
    char *data;
    size_t size;
    size_t capacity;
};

void slt_buffer_add(struct slt_buffer *buffer, const char *data, size_t size);
void slt_buffer_print(struct slt_buffer *buffer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Empties it; the memory stays for the next use. */
void slt_buffer_clear(struct slt_buffer *buffer);
void slt_buffer_fini(struct slt_buffer *buffer);

/* Both for free(); the memory of the first is zero. */
void *slt_allocate(size_t size);
char *slt_copy(const char *text);
/* Ends the program for a NULL that the C library gave for want of memory. */
void slt_check_memory(const void *memory);

struct slt_values {
    struct slt_buffer text; /* the strings, each with its zero byte */
    size_t *starts;         /* where each of them begins in text */
    size_t count;
    size_t capacity;
};

void slt_values_add(struct slt_values *values, const char *text, size_t size);
/* Borrowed until something is added. */
const char *slt_values_at(const struct slt_values *values, size_t index);
/* By rows of that many columns, comparing bytes; 1 sorts single values. */
void slt_values_sort(struct slt_values *values, size_t columns);
/* Of each value and a line feed behind it, which is how the files have it. */
void slt_values_hash(const struct slt_values *values, char hash[SLT_MD5_TEXT]);
/* Takes lines apart that hold a row each, at tabs where there are any, else at white space. False:
 * a line has not that many columns, and to is of no use. */
bool slt_values_split_rows(const struct slt_values *lines, size_t columns, struct slt_values *to);
void slt_values_clear(struct slt_values *values);
void slt_values_fini(struct slt_values *values);

#endif
