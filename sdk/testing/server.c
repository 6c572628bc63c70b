/*
 * Starts server.sh, which is compiled in, and talks to it through a socket. What waits does so in a
 * task of the kit's own runner, so that the caller may be a thread or a task, and its scope counts.
 */
#include "sdk/testing/server.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SETTINGS_MAX = 32, POLL_MS = 5, STOP_TIMEOUT_MS = 30000, GRACE_MS = 1000 };

/* Written by cmake/testing.cmake. */
extern const char pier__testing_script[];
extern char **environ;

static int fail(pier_error *err, const char *what, int code)
{
    return pier_error_set(err, PIER_EIO, "the test server cannot be started: %s: %s", what,
                          strerror(code));
}

static int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* In the shell: standard input and output are the socket; no signal is blocked or ignored; a
 * session of its own, which Ctrl-C does not reach. */
static int spawn(const char **argv, int fd, pid_t *pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int code = posix_spawn_file_actions_init(&actions);
    if (code) {
        return code;
    }
    code = posix_spawnattr_init(&attributes);
    if (!code) {
        posix_spawn_file_actions_adddup2(&actions, fd, 0);
        posix_spawn_file_actions_adddup2(&actions, fd, 1);
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
        posix_spawn_file_actions_addclosefrom_np(&actions, 3);
#endif
        posix_spawnattr_setsigmask(&attributes, &none);
        posix_spawnattr_setsigdefault(&attributes, &all);
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                  POSIX_SPAWN_SETSID);
        code = posix_spawn(pid, argv[0], &actions, &attributes, (char **)argv, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return code;
}

static int run_shell(const char **argv, int fd, pier_error *err)
{
    pid_t pid;
    int code = spawn(argv, fd, &pid);
    if (code) {
        return fail(err, argv[0], code);
    }
    /* It ends at once and leaves the script in the background. Where the program ignores SIGCHLD
     * there is nothing to wait for. */
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
    }
    return 0;
}

int pier__testing_server_start(pier__testing_server *server, const char *kind, const char *image,
                               const char *const *settings, pier_error *err)
{
    const char *base = getenv("TMPDIR");
    char seconds[24];
    const char *argv[SETTINGS_MAX + 10] = {"/bin/sh",
                                           "-c",
                                           pier__testing_script,
                                           "pier-testdb",
                                           kind,
                                           base && *base ? base : "/tmp",
                                           seconds,
                                           image ? image : ""};
    size_t count = 8;
    snprintf(seconds, sizeof seconds, "%" PRId64, (server->timeout_ms + 999) / 1000);
    for (; settings && *settings; settings++) {
        if (count == SETTINGS_MAX + 8) {
            return pier_error_set(err, PIER_EINVAL, "more than %d settings", SETTINGS_MAX);
        }
        argv[count++] = *settings;
    }
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        return fail(err, "socketpair", errno);
    }
    server->fd = ends[0];
    int status = run_shell(argv, ends[1], err);
    close(ends[1]);
    return status;
}

/* Reads what has come: 1 a whole line, 0 not yet, -1 the end. */
static int read_answer(pier__testing_server *server)
{
    size_t room = sizeof server->answer - 1 - server->length;
    ssize_t got = recv(server->fd, server->answer + server->length, room, MSG_DONTWAIT);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    server->length += (size_t)got;
    server->answer[server->length] = 0;
    char *end = strchr(server->answer, '\n');
    if (end) {
        *end = 0;
        return 1;
    }
    return got == 0 || server->length == sizeof server->answer - 1 ? -1 : 0;
}

static int await_answer(pier_task *self, void *arg, pier_error *err)
{
    pier__testing_server *server = arg;
    int64_t end = now_ms() + server->timeout_ms + GRACE_MS;
    int got, status;
    while ((got = read_answer(server)) == 0) {
        if (now_ms() >= end) {
            return pier_error_set(err, PIER_ETIMEDOUT,
                                  "the test server was not ready after %" PRId64 " ms; see "
                                  "start_timeout_ms",
                                  server->timeout_ms);
        }
        if ((status = pier_task_sleep(self, POLL_MS, err)) < 0) {
            return status;
        }
    }
    if (got < 0) {
        return pier_error_set(err, PIER_EIO, "the shell that starts test servers ended");
    }
    char *space = strchr(server->answer, ' ');
    if (!space || strncmp(server->answer, "ready ", 6) != 0) {
        return pier_error_set(err, PIER_EIO, "%s", space ? space + 1 : server->answer);
    }
    memmove(server->answer, space + 1, strlen(space + 1) + 1);
    return 0;
}

int pier__testing_server_wait(pier__testing_server *server, pier_runner *runner, pier_error *err)
{
    return pier_task_run(runner, await_answer, server, err);
}

static int await_end(pier_task *self, void *arg, pier_error *err)
{
    pier__testing_server *server = arg;
    int64_t end = now_ms() + STOP_TIMEOUT_MS;
    char more;
    ssize_t got;
    int status = 0;
    while (((got = recv(server->fd, &more, 1, MSG_DONTWAIT)) > 0 || (got < 0 && errno == EAGAIN)) &&
           now_ms() < end && status == 0) {
        status = pier_task_sleep(self, POLL_MS, err);
    }
    return status;
}

void pier__testing_server_stop(pier__testing_server *server, pier_runner *runner)
{
    if (server->fd >= 0) {
        /* Not by the socket's end alone, which a forked child may hold open. */
        if (send(server->fd, "\n", 1, MSG_NOSIGNAL) == 1) {
            pier_task_run(runner, await_end, server, NULL);
        }
    }
}

void pier__testing_server_abandon(pier__testing_server *server)
{
    if (server->fd >= 0) {
        close(server->fd);
    }
    server->fd = -1;
}
