#ifndef PIER_SDK_PARK_H
#define PIER_SDK_PARK_H
/*
 * How a thread waits for another one: a parker, one for each thread that ever waited. Its memory is
 * never given back while the process lives, so that a late wake-up can only be spurious, never
 * touch freed memory. A wake-up that comes before the wait ends it at once.
 */
#include <pier/base.h>

typedef struct pier__parker pier__parker;

/* The calling thread's; NULL when there is no memory for one. */
pier__parker *pier__parker_self(void);

/* Waits for a wake-up until `until` (0: a second at most). May return early for any reason. */
void pier__park(pier__parker *parker, int64_t until);

enum { PIER__PARK_READ = 1, PIER__PARK_WRITE = 2 };
enum { PIER__PARK_QUICK_MS = 10 };

/* Waits for a descriptor as well. With `quick` only for that, and PIER__PARK_QUICK_MS at most: most
 * answers come in that time, and a second descriptor costs each of them 8 %. Gives what became
 * ready, or 0. */
unsigned pier__park_poll(pier__parker *parker, int fd, unsigned events, int64_t until, bool quick);

/* Wakes the thread that waits, or is about to. Any thread; async-signal-safe. NULL is harmless. */
void pier__unpark(pier__parker *parker);

/* Waiting for a word of memory to change: wakes come from pier__word_wake. Bounded by a second. */
void pier__word_wait(const void *word, uint32_t expected, int64_t until);
void pier__word_wake(const void *word);

#endif
