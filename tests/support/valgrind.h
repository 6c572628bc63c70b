/* Whether the tests run under valgrind, for those few that measure what it changes. */
#ifndef PIER_TESTS_SUPPORT_VALGRIND_H
#define PIER_TESTS_SUPPORT_VALGRIND_H

#include <stdbool.h>

/* What differs there: the process is larger (shadow memory, and 20 MB of freed blocks that are kept
 * for reports), a `long double` is computed as a `double`, and everything takes 10 to 50 times as
 * long. Always false where the header was missing when the tests were compiled. */
bool support_on_valgrind(void);

/* Called by a forked child that is about to end. Does nothing, but under valgrind ends it at once:
 * with 9 instead of 0 where an error was found in it, and without a search for leaks, which would
 * report what only the parent's other threads knew of. */
void support_leave_valgrind(int status);

#endif
