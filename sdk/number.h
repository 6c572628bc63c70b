#ifndef PIER_SDK_NUMBER_H
#define PIER_SDK_NUMBER_H
/*
 * Floating point as text, as C writes it, whatever the program's locale is.
 */
#include <stddef.h>

/* The shortest text that reads back as the same number; NaN, Infinity and -Infinity. Gives its
 * length. */
size_t pier__double_write(char *to, size_t size, double number);
size_t pier__float_write(char *to, size_t size, float number);
/* `*end` is set behind what was read; NULL: nobody asks. */
double pier__double_read(const char *text, const char **end);
float pier__float_read(const char *text, const char **end);

#endif
