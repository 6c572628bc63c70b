/* Waiting for a condition with a bound, and the numbers that leak tests compare. */
#ifndef PIER_TESTS_SUPPORT_WAIT_H
#define PIER_TESTS_SUPPORT_WAIT_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds of the monotonic clock. */
int64_t support_now_ms(void);

/* Asks predicate(user_data) every 2 ms until it holds; false when it still does not after
 * timeout_ms. */
bool support_wait_until(bool (*predicate)(void *user_data), void *user_data, int timeout_ms);

/* Open file descriptors and threads of this process, as /proc counts them. A joined thread may be
 * counted for a moment still, and sanitizers run threads of their own: compare with a number from
 * before, through support_wait_fds and support_wait_threads, which wait until it is reached again
 * (or is below). */
int support_fd_count(void);
int support_thread_count(void);
bool support_wait_fds(int count_max, int timeout_ms);
bool support_wait_threads(int count_max, int timeout_ms);

/* Prints what each open descriptor is, for a leak test that failed. */
void support_print_fds(void);

#endif
