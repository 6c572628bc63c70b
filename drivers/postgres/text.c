/*
 * Making foreign text fit for messages: valid UTF-8, bounded, cut between characters.
 */
#include "drivers/postgres/text.h"

#include <stdbool.h>
#include <string.h>

size_t pier__postgres_utf8_width(const char *text, size_t size)
{
    const unsigned char *byte = (const unsigned char *)text;
    if (!size) {
        return 0;
    }
    size_t width = byte[0] < 0x80 ? 1 : byte[0] < 0xC2 ? 0 : byte[0] < 0xE0 ? 2 : 0;
    if (byte[0] >= 0xE0 && byte[0] < 0xF5) {
        width = byte[0] < 0xF0 ? 3 : 4;
    }
    if (width > size) {
        return 0;
    }
    for (size_t i = 1; i < width; i++) {
        if ((byte[i] & 0xC0) != 0x80) {
            return 0; /* also at the end of the text */
        }
    }
    bool overlong = (byte[0] == 0xE0 && byte[1] < 0xA0) || (byte[0] == 0xF0 && byte[1] < 0x90);
    bool outside = (byte[0] == 0xED && byte[1] > 0x9F) || (byte[0] == 0xF4 && byte[1] > 0x8F);
    return overlong || outside ? 0 : width;
}

/* Copies one character, or '?' for a byte. Gives its size; 0: there is no room. */
static size_t copy_one(char *to, size_t room, const char *from, size_t from_size)
{
    size_t width = pier__postgres_utf8_width(from, from_size);
    size_t size = width ? width : 1;
    if (size >= room) {
        return 0;
    }
    memcpy(to, width ? from : "?", size);
    return size;
}

void pier__postgres_clean(char *to, size_t size, const char *from)
{
    size_t length = 0;
    /* No more than this can be used, and the text may be very long. */
    size_t left = strnlen(from, size + 4);
    while (left) {
        size_t copied = copy_one(to + length, size - length, from, left);
        if (!copied) {
            break;
        }
        length += copied;
        from += copied;
        left -= copied;
    }
    to[length] = 0;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v';
}

size_t pier__postgres_fold(char *to, size_t size, const char *from, size_t from_size)
{
    size_t length = 0, read = 0;
    while (read < from_size && from[read]) {
        bool space = is_space(from[read]);
        if (space && (length == 0 || to[length - 1] == ' ')) {
            read++;
            continue;
        }
        size_t copied = space ? copy_one(to + length, size - length, " ", 1)
                              : copy_one(to + length, size - length, from + read, from_size - read);
        if (!copied) {
            break;
        }
        length += copied;
        read += copied;
    }
    while (length && to[length - 1] == ' ') {
        length--;
    }
    to[length] = 0;
    return read;
}
