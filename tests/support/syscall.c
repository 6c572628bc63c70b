/*
 * libuv closes its descriptors with syscall(2), which ThreadSanitizer does not see: it would take
 * the next user of a number, in whatever thread, for a second user of libuv's descriptor. Under it
 * each test program has a syscall() of its own that tells.
 */
#include "tests/support/tsan.h"

#ifdef SUPPORT_TSAN
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Of the sanitizers' linux_syscall_hooks.h, which not each compiler comes with. */
void __sanitizer_syscall_pre_impl_close(long fd);

__attribute__((no_sanitize("thread"))) long syscall(long number, ...)
{
    enum { MOST = 6 };
    long args[MOST];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < MOST; i++) {
        args[i] = va_arg(list, long); /* those that were not given are not looked at */
    }
    va_end(list);
    if (number == SYS_close) {
        __sanitizer_syscall_pre_impl_close(args[0]);
    }
    long (*next)(long, ...) = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(number, args[0], args[1], args[2], args[3], args[4], args[5]);
}
#else
/* ISO C forbids a file without a declaration. */
typedef int support_no_syscall;
#endif
