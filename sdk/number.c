/*
 * Floating point as text, independent of the locale.
 */
#include "sdk/number.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t c_locale;

static void make_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

static locale_t enter_c_locale(void)
{
    pthread_once(&once, make_locale);
    return c_locale ? uselocale(c_locale) : (locale_t)0;
}

static void leave_c_locale(locale_t old)
{
    if (old) {
        uselocale(old);
    }
}

static size_t write_special(char *to, size_t size, double number)
{
    return (size_t)snprintf(to, size, "%s",
                            isnan(number) ? "NaN"
                            : number > 0  ? "Infinity"
                                          : "-Infinity");
}

size_t pier__float_write(char *to, size_t size, float number)
{
    if (!isfinite(number)) {
        return write_special(to, size, number);
    }
    locale_t old = enter_c_locale();
    int length = 0;
    /* 6 digits survive every float, 9 tell every two of them apart. */
    for (int digits = 6; digits <= 9; digits++) {
        length = snprintf(to, size, "%.*g", digits, (double)number);
        if (strtof(to, NULL) == number) {
            break;
        }
    }
    leave_c_locale(old);
    return (size_t)length;
}

size_t pier__double_write(char *to, size_t size, double number)
{
    if (!isfinite(number)) {
        return write_special(to, size, number);
    }
    locale_t old = enter_c_locale();
    int length = 0;
    /* 15 digits survive every double, 17 tell every two of them apart. */
    for (int digits = 15; digits <= 17; digits++) {
        length = snprintf(to, size, "%.*g", digits, number);
        if (strtod(to, NULL) == number) {
            break;
        }
    }
    leave_c_locale(old);
    return (size_t)length;
}

double pier__double_read(const char *text, const char **end)
{
    locale_t old = enter_c_locale();
    double number = strtod(text, (char **)end);
    leave_c_locale(old);
    return number;
}

float pier__float_read(const char *text, const char **end)
{
    locale_t old = enter_c_locale();
    float number = strtof(text, (char **)end);
    leave_c_locale(old);
    return number;
}
