/*
 * Parking threads: a one-word futex where nothing but another thread is awaited, poll(2) with an
 * eventfd where a descriptor is. Elsewhere than on Linux a mutex and condition, and a pipe.
 */
#include "sdk/park.h"

#include "sdk/clock.h"
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#else
#include <fcntl.h>
#endif

enum { EMPTY, NOTIFIED, PARKED, POLLING };

/* No wait is longer, so that nothing hangs on a wake-up that was lost. */
#define LONGEST INT64_C(1000000000)
#define QUICK (PIER__PARK_QUICK_MS * INT64_C(1000000))

struct pier__parker {
    atomic_uint state; /* EMPTY, NOTIFIED before or during a wait, PARKED or POLLING during one */
    int wake_fd;       /* read end; -1 until the first poll */
    int wake_write_fd;
    pier__parker *next;
};

/* Parkers whose threads have ended, for the next thread; the list lives as long as the process. */
static pthread_mutex_t spare_lock = PTHREAD_MUTEX_INITIALIZER;
static pier__parker *spare;
static pthread_key_t key;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local pier__parker *mine __attribute__((tls_model("initial-exec")));

static void give_back(void *memory)
{
    pier__parker *parker = memory;
    mine = NULL;
    pthread_mutex_lock(&spare_lock);
    parker->next = spare;
    spare = parker;
    pthread_mutex_unlock(&spare_lock);
}

static void make_key(void)
{
    pthread_key_create(&key, give_back);
}

/* A process that ends, or unloads the library, has no late wake-ups to fear any more. */
__attribute__((destructor)) static void free_spares(void)
{
    pthread_mutex_lock(&spare_lock);
    while (spare) {
        pier__parker *parker = spare;
        spare = parker->next;
        if (parker->wake_fd >= 0) {
            close(parker->wake_fd);
            if (parker->wake_write_fd != parker->wake_fd) {
                close(parker->wake_write_fd);
            }
        }
        free(parker);
    }
    pthread_mutex_unlock(&spare_lock);
}

pier__parker *pier__parker_self(void)
{
    if (mine) {
        return mine;
    }
    pthread_once(&once, make_key);
    pthread_mutex_lock(&spare_lock);
    pier__parker *parker = spare;
    if (parker) {
        spare = parker->next;
    }
    pthread_mutex_unlock(&spare_lock);
    if (!parker) {
        parker = calloc(1, sizeof *parker);
        if (!parker) {
            return NULL;
        }
        parker->wake_fd = parker->wake_write_fd = -1;
    }
    pthread_setspecific(key, parker);
    mine = parker;
    return parker;
}

/* How long to wait for `until`, at most `longest`; negative when it has passed. */
static int64_t remaining(int64_t until, int64_t longest)
{
    if (!until) {
        return longest;
    }
    int64_t left = until - pier__now();
    return left < longest ? left : longest;
}

#if defined(__linux__)

void pier__word_wait(const void *word, uint32_t expected, int64_t until)
{
    int64_t left = remaining(until, LONGEST);
    if (left > 0) {
        struct timespec wait = {left / 1000000000, left % 1000000000};
        syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &wait, NULL, 0);
    }
}

void pier__word_wake(const void *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static bool open_wake(pier__parker *parker)
{
    parker->wake_fd = parker->wake_write_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return parker->wake_fd >= 0;
}

#else

static pthread_mutex_t word_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t word_cond = PTHREAD_COND_INITIALIZER;

void pier__word_wait(const void *word, uint32_t expected, int64_t until)
{
    /* 5 ms at most: a wake-up from a signal handler cannot take the lock, and may come between
     * the look and the wait. */
    int64_t left = remaining(until, 5000000);
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_nsec += left > 0 ? left : 0;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    pthread_mutex_lock(&word_lock);
    if (left > 0 && atomic_load((const atomic_uint *)word) == expected) {
        pthread_cond_timedwait(&word_cond, &word_lock, &at);
    }
    pthread_mutex_unlock(&word_lock);
}

void pier__word_wake(const void *word)
{
    (void)word;
    pthread_cond_broadcast(&word_cond);
}

static bool open_wake(pier__parker *parker)
{
    int ends[2];
    if (pipe(ends)) {
        return false;
    }
    for (int i = 0; i < 2; i++) {
        fcntl(ends[i], F_SETFL, O_NONBLOCK);
        fcntl(ends[i], F_SETFD, FD_CLOEXEC);
    }
    parker->wake_fd = ends[0];
    parker->wake_write_fd = ends[1];
    return true;
}

#endif

void pier__park(pier__parker *parker, int64_t until)
{
    unsigned expected = EMPTY;
    if (atomic_compare_exchange_strong(&parker->state, &expected, PARKED)) {
        pier__word_wait(&parker->state, PARKED, until);
    }
    atomic_store(&parker->state, EMPTY);
}

static int poll_timeout(int64_t left)
{
    /* Rounded up: waking a little late beats a spin for the last fraction of a millisecond. */
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

static unsigned ready(const struct pollfd *item)
{
    unsigned events = 0;
    /* Errors and hang-ups are found by reading and by writing alike. */
    if (item->revents & (POLLIN | POLLERR | POLLHUP | POLLNVAL)) {
        events |= PIER__PARK_READ;
    }
    if (item->revents & (POLLOUT | POLLERR | POLLHUP | POLLNVAL)) {
        events |= PIER__PARK_WRITE;
    }
    return events;
}

static void drain(int fd)
{
    char bytes[64];
    while (read(fd, bytes, sizeof bytes) > 0) {
    }
}

unsigned pier__park_poll(pier__parker *parker, int fd, unsigned events, int64_t until, bool quick)
{
    struct pollfd items[2] = {
        {.fd = fd,
         .events = (short)((events & PIER__PARK_READ ? POLLIN : 0) |
                           (events & PIER__PARK_WRITE ? POLLOUT : 0))},
        {.fd = -1, .events = POLLIN},
    };
    if (quick || (parker->wake_fd < 0 && !open_wake(parker))) {
        int count = poll(items, 1, poll_timeout(remaining(until, QUICK)));
        return count > 0 ? ready(&items[0]) & events : 0;
    }
    items[1].fd = parker->wake_fd;
    unsigned expected = EMPTY;
    int count = 0;
    if (atomic_compare_exchange_strong(&parker->state, &expected, POLLING)) {
        count = poll(items, 2, poll_timeout(remaining(until, LONGEST)));
    }
    unsigned before = atomic_exchange(&parker->state, EMPTY);
    /* A wake-up that saw POLLING writes, perhaps only now: then the next poll ends early once. */
    if (before == NOTIFIED || (count > 0 && items[1].revents)) {
        drain(parker->wake_fd);
    }
    return count > 0 ? ready(&items[0]) & events : 0;
}

void pier__unpark(pier__parker *parker)
{
    if (!parker) {
        return;
    }
    unsigned before = atomic_exchange(&parker->state, NOTIFIED);
    if (before == PARKED) {
        pier__word_wake(&parker->state);
    } else if (before == POLLING) {
        int saved = errno;
        uint64_t one = 1;
        ssize_t written = write(parker->wake_write_fd, &one, sizeof one);
        (void)written; /* a full pipe wakes as well */
        errno = saved;
    }
}
