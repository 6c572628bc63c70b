#ifndef PIER_DRIVERS_POSTGRES_TEXT_H
#define PIER_DRIVERS_POSTGRES_TEXT_H
/*
 * Text that a server sends about itself: in its own encoding until the session has one, in any
 * language, of any length.
 */
#include <stddef.h>

/* The bytes of the character that `text` begins with; 0: it is no UTF-8. */
size_t pier__postgres_utf8_width(const char *text, size_t size);

/* Copies at most `size` - 1 bytes, with '?' for each byte that is no UTF-8, and no half character.
 */
void pier__postgres_clean(char *to, size_t size, const char *from);

/* The same with every run of white space as one space, and none at the ends. Gives the number of
 * bytes read of `from_size`, or up to a zero. */
size_t pier__postgres_fold(char *to, size_t size, const char *from, size_t from_size);

#endif
