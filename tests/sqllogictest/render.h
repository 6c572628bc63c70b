/* How the format writes a value, by the letter of its column. */
#ifndef PIER_TESTS_SQLLOGICTEST_RENDER_H
#define PIER_TESTS_SQLLOGICTEST_RENDER_H

#include "tests/sqllogictest/values.h"

#include <pier/row.h>

/*
 * Adds one value. I: an integer; what follows the point is dropped, text that is no number is 0.
 * R: three digits after the point. T: text; bytes outside of printable ASCII are '@'. What cannot
 * be read is recorded in the row's result, for pier_result_check.
 */
void slt_render(struct slt_values *to, char type, const pier_row *row, int column);

#endif
