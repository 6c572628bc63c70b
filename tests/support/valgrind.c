#include "tests/support/valgrind.h"

#include <stdio.h>
#include <unistd.h>

#ifdef __has_include
#if __has_include(<valgrind/valgrind.h>) && !defined(NVALGRIND)
#include <valgrind/valgrind.h>
#endif
#endif

bool support_on_valgrind(void)
{
#ifdef RUNNING_ON_VALGRIND
    return RUNNING_ON_VALGRIND != 0;
#else
    return false;
#endif
}

void support_leave_valgrind(int status)
{
#ifdef RUNNING_ON_VALGRIND
    if (support_on_valgrind()) {
        /* Another program takes the process over, which valgrind does not follow. */
        char command[32];
        fflush(NULL);
        snprintf(command, sizeof command, "exit %d", status || !VALGRIND_COUNT_ERRORS ? status : 9);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
    }
#else
    (void)status;
#endif
}
