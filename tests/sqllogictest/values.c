/* Lists of strings. Positions are kept instead of pointers, since the text moves as it grows. */
#include "tests/sqllogictest/values.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void slt_check_memory(const void *memory)
{
    if (!memory) {
        fputs("sqllogictest: out of memory\n", stderr);
        exit(1);
    }
}

void *slt_allocate(size_t size)
{
    void *memory = calloc(1, size);
    slt_check_memory(memory);
    return memory;
}

char *slt_copy(const char *text)
{
    char *copy = strdup(text);
    slt_check_memory(copy);
    return copy;
}

static void *grow(void *old, size_t *capacity, size_t needed, size_t item)
{
    if (needed <= *capacity) {
        return old;
    }
    size_t count = *capacity ? *capacity : 64;
    while (count < needed && count <= SIZE_MAX / 2) {
        count *= 2;
    }
    void *memory = count >= needed && count <= SIZE_MAX / item ? realloc(old, count * item) : NULL;
    slt_check_memory(memory);
    *capacity = count;
    return memory;
}

void slt_buffer_add(struct slt_buffer *buffer, const char *data, size_t size)
{
    buffer->data = grow(buffer->data, &buffer->capacity, buffer->size + size + 1, 1);
    if (size) {
        memcpy(buffer->data + buffer->size, data, size);
    }
    buffer->size += size;
    buffer->data[buffer->size] = 0;
}

void slt_buffer_print(struct slt_buffer *buffer, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int size = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (size > 0) {
        buffer->data = grow(buffer->data, &buffer->capacity, buffer->size + (size_t)size + 1, 1);
        vsnprintf(buffer->data + buffer->size, (size_t)size + 1, format, again);
        buffer->size += (size_t)size;
    }
    va_end(again);
}

void slt_buffer_clear(struct slt_buffer *buffer)
{
    buffer->size = 0;
    slt_buffer_add(buffer, "", 0);
}

void slt_buffer_fini(struct slt_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct slt_buffer){0};
}

void slt_values_add(struct slt_values *values, const char *text, size_t size)
{
    values->starts =
        grow(values->starts, &values->capacity, values->count + 1, sizeof *values->starts);
    values->starts[values->count++] = values->text.size;
    slt_buffer_add(&values->text, text, size);
    values->text.size++; /* keeps the zero byte */
}

const char *slt_values_at(const struct slt_values *values, size_t index)
{
    return values->text.data + values->starts[index];
}

struct order {
    const char *text;
    size_t columns;
};

static int compare_rows(const void *left, const void *right, void *user_data)
{
    const struct order *order = user_data;
    const size_t *a = left, *b = right;
    int result = 0;
    for (size_t i = 0; i < order->columns && !result; i++) {
        result = strcmp(order->text + a[i], order->text + b[i]);
    }
    return result;
}

void slt_values_sort(struct slt_values *values, size_t columns)
{
    struct order order = {values->text.data, columns};
    if (values->count > columns) {
        qsort_r(values->starts, values->count / columns, columns * sizeof *values->starts,
                compare_rows, &order);
    }
}

void slt_values_hash(const struct slt_values *values, char hash[SLT_MD5_TEXT])
{
    struct slt_md5 md5;
    slt_md5_init(&md5);
    for (size_t i = 0; i < values->count; i++) {
        const char *value = slt_values_at(values, i);
        slt_md5_update(&md5, value, strlen(value));
        slt_md5_update(&md5, "\n", 1);
    }
    slt_md5_finish(&md5, hash);
}

static size_t split_row(const char *line, struct slt_values *to)
{
    bool tabs = strchr(line, '\t') != NULL;
    const char *separators = tabs ? "\t" : " \v\f";
    size_t count = 0;
    for (;;) {
        /* Between two tabs there may be nothing, between two words there is as much as one likes.
         */
        line += tabs ? 0 : strspn(line, separators);
        if (!tabs && !*line) {
            return count;
        }
        size_t size = strcspn(line, separators);
        slt_values_add(to, line, size);
        count++;
        line += size;
        if (!*line) {
            return count;
        }
        line++;
    }
}

bool slt_values_split_rows(const struct slt_values *lines, size_t columns, struct slt_values *to)
{
    slt_values_clear(to);
    for (size_t i = 0; i < lines->count; i++) {
        if (split_row(slt_values_at(lines, i), to) != columns) {
            return false;
        }
    }
    return true;
}

void slt_values_clear(struct slt_values *values)
{
    values->count = 0;
    values->text.size = 0;
}

void slt_values_fini(struct slt_values *values)
{
    slt_buffer_fini(&values->text);
    free(values->starts);
    *values = (struct slt_values){0};
}
