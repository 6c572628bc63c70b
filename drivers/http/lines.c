/*
 * Cutting a body into lines. Within a chunk a line is terminated where it stands; one that crosses
 * chunks is put together in a buffer of its own.
 */
#include "drivers/http/stream.h"

#include "sdk/alloc.h"
#include <string.h>

static pier__lines_answer carry(pier__lines *lines, const char *data, size_t size)
{
    size_t needed = lines->size + size + 1;
    if (needed > (size_t)PIER__LINE_MAX + 2) { /* its end may be two bytes, and the zero is one */
        return PIER__LINES_TOO_LONG;
    }
    if (needed > lines->capacity) {
        size_t capacity = 2 * lines->capacity > needed ? 2 * lines->capacity : needed;
        char *text = pier__realloc(lines->carry, capacity);
        if (!text) {
            return PIER__LINES_NO_MEMORY;
        }
        lines->carry = text;
        lines->capacity = capacity;
    }
    memcpy(lines->carry + lines->size, data, size);
    lines->size += size;
    return PIER__LINES_MORE;
}

static void terminate(char *line, size_t length, char **out, size_t *out_length)
{
    if (length && line[length - 1] == '\r') {
        length--;
    }
    line[length] = 0;
    *out = line;
    *out_length = length;
}

pier__lines_answer pier__lines_next(pier__lines *lines, char *data, size_t size, size_t *at,
                                    char **line, size_t *length)
{
    char *begin = data + *at;
    size_t left = size - *at;
    char *end = left ? memchr(begin, '\n', left) : NULL;
    *at = end ? (size_t)(end - data) + 1 : size;
    if (!end) {
        return left ? carry(lines, begin, left) : PIER__LINES_MORE;
    }
    if (!lines->size) {
        if (end - begin > PIER__LINE_MAX + 1) {
            return PIER__LINES_TOO_LONG;
        }
        terminate(begin, (size_t)(end - begin), line, length);
        return PIER__LINES_LINE;
    }
    pier__lines_answer answer = carry(lines, begin, (size_t)(end - begin));
    if (answer != PIER__LINES_MORE) {
        return answer;
    }
    terminate(lines->carry, lines->size, line, length);
    lines->size = 0;
    return PIER__LINES_LINE;
}

bool pier__lines_last(pier__lines *lines, char **line, size_t *length)
{
    if (!lines->size) {
        return false;
    }
    /* A '\r' without '\n' belongs to the line. */
    lines->carry[lines->size] = 0;
    *line = lines->carry;
    *length = lines->size;
    lines->size = 0;
    return true;
}

void pier__lines_fini(pier__lines *lines)
{
    pier__free(lines->carry);
    memset(lines, 0, sizeof *lines);
}
