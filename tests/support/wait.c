#include "tests/support/wait.h"

#include "tests/support/tsan.h"
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

int64_t support_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool support_wait_until(bool (*predicate)(void *user_data), void *user_data, int timeout_ms)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    int64_t end = support_now_ms() + timeout_ms;
    while (!predicate(user_data)) {
        if (support_now_ms() >= end) {
            return false;
        }
        nanosleep(&pause, NULL);
    }
    return true;
}

static int count_entries(const char *path)
{
    DIR *directory = opendir(path);
    if (!directory) {
        return -1;
    }
    int count = 0;
    for (const struct dirent *entry; (entry = readdir(directory));) {
        count += entry->d_name[0] != '.';
    }
    closedir(directory);
    return count;
}

int support_fd_count(void)
{
    /* Less the one that reads the directory. */
    return count_entries("/proc/self/fd") - 1;
}

#ifdef SUPPORT_TSAN
static void *do_nothing(void *user_data)
{
    return user_data;
}
#endif

/* TSan starts a thread of its own with the program's first, which would look like a leak. */
static void settle_sanitizer(void)
{
#ifdef SUPPORT_TSAN
    static bool settled;
    pthread_t thread;
    if (!settled && pthread_create(&thread, NULL, do_nothing, NULL) == 0) {
        pthread_join(thread, NULL);
        settled = true;
    }
#endif
}

int support_thread_count(void)
{
    settle_sanitizer();
    return count_entries("/proc/self/task");
}

static bool fds_at_most(void *user_data)
{
    return support_fd_count() <= *(int *)user_data;
}

static bool threads_at_most(void *user_data)
{
    return support_thread_count() <= *(int *)user_data;
}

bool support_wait_fds(int count_max, int timeout_ms)
{
    return support_wait_until(fds_at_most, &count_max, timeout_ms);
}

bool support_wait_threads(int count_max, int timeout_ms)
{
    return support_wait_until(threads_at_most, &count_max, timeout_ms);
}

void support_print_fds(void)
{
    for (int fd = 0; fd < 1024; fd++) {
        char path[64], target[256];
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(path, target, sizeof target - 1);
        if (length >= 0) {
            target[length] = 0;
            fprintf(stderr, "fd %d: %s\n", fd, target);
        }
    }
}
