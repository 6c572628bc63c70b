/* Rendering: what SQLite's own runner gets from sqlite3_column_int, _double and _text, for values
 * of all types that Pier knows. */
#include "tests/sqllogictest/render.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* As SQLite casts: towards zero, and to the nearest end of the range. */
static int64_t integer_of_double(double d)
{
    if (d != d) {
        return 0;
    }
    /* 2^63, the first double that does not fit. */
    if (d >= 9223372036854775808.0) {
        return INT64_MAX;
    }
    return d <= -9223372036854775808.0 ? INT64_MIN : (int64_t)d;
}

static int64_t to_integer(const pier_row *row, int column, pier_value value)
{
    switch (value.type) {
    case PIER_DOUBLE:
        return integer_of_double(value.as.d);
    case PIER_NUMERIC:
    case PIER_TEXT:
        return strtoll(value.as.p.data, NULL, 10);
    case PIER_BYTES:
        return 0;
    default:
        return pier_row_int64(row, column);
    }
}

static double to_double(const pier_row *row, int column, pier_value value)
{
    double d = value.type == PIER_TEXT    ? strtod(value.as.p.data, NULL)
               : value.type == PIER_BYTES ? 0
                                          : pier_row_double(row, column);
    return d == 0 ? 0 : d; /* the databases do not agree on when a zero has a sign */
}

/* "%.3f" as SQLite's printf has it: of numbers with more than 16 digits before the point, the rest
 * is zeros. */
static void add_real(struct slt_values *to, double d)
{
    /* The greatest double has 309 digits before the point. */
    char number[400];
    char mantissa[32];
    int size = snprintf(number, sizeof number, "%.3f", d);
    if (fabs(d) >= 1e16 && fabs(d) <= DBL_MAX) {
        snprintf(mantissa, sizeof mantissa, "%.15e", fabs(d));
        int zeros = atoi(strchr(mantissa, 'e') + 1) - 15;
        size = snprintf(number, sizeof number, "%s%c%.15s%0*d.000", d < 0 ? "-" : "", mantissa[0],
                        mantissa + 2, zeros, 0);
    }
    slt_values_add(to, number, (size_t)size);
}

static void add_text(struct slt_values *to, const char *text, size_t size)
{
    if (!size) {
        slt_values_add(to, "(empty)", strlen("(empty)"));
        return;
    }
    slt_values_add(to, text, size);
    char *at = to->text.data + to->starts[to->count - 1];
    for (size_t i = 0; i < size; i++) {
        if (at[i] < ' ' || at[i] > '~') {
            at[i] = '@';
        }
    }
}

void slt_render(struct slt_values *to, char type, const pier_row *row, int column)
{
    pier_value value = pier_row_value(row, column);
    if (value.type == PIER_NULL) {
        slt_values_add(to, "NULL", strlen("NULL"));
    } else if (type == 'I') {
        char number[24];
        int size = snprintf(number, sizeof number, "%" PRId64, to_integer(row, column, value));
        slt_values_add(to, number, (size_t)size);
    } else if (type == 'R') {
        add_real(to, to_double(row, column, value));
    } else {
        size_t size = 0;
        const void *text = pier_row_bytes(row, column, &size);
        add_text(to, text ? text : "", size);
    }
}
