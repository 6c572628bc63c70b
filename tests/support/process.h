/* A server process under a guard (tests/support/guard), its directory and its port. */
#ifndef PIER_TESTS_SUPPORT_PROCESS_H
#define PIER_TESTS_SUPPORT_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct support_process {
    pid_t pid;      /* the server itself; 0 when nothing was started */
    pid_t guard;    /* its parent, a child of this process */
    int command_fd; /* to the guard; its end tells the guard that the test is gone */
    int answer_fd;
};

struct support_process_options {
    const char *user;        /* run as; NULL: as this process */
    const char *log;         /* where its output goes */
    const char *remove;      /* a directory that the guard removes if the test dies */
    int stop_signal;         /* 0: SIGTERM */
    const char *const *argv; /* ends with NULL */
};

int support_process_start(struct support_process *process,
                          const struct support_process_options *options);
bool support_process_alive(struct support_process *process);
int support_process_pause(struct support_process *process);
int support_process_resume(struct support_process *process);
/* Both return when the server and its descendants are gone and reaped. */
int support_process_stop(struct support_process *process);
int support_process_kill(struct support_process *process);

/* A temporary directory, readable by all; path needs 256 bytes. The first call removes those that
 * tests left behind which were killed together with their guards, as ctest does to one that takes
 * too long. */
int support_directory_make(char *path, size_t size, const char *name);
void support_directory_remove(const char *path);
/* Writes a file below directory; name may hold a slash where that directory exists. */
int support_file_write(const char *directory, const char *name, const void *data, size_t size);
/* Prints the last 4 KB of a file to standard error. */
void support_file_print(const char *path);

/*
 * A free port on 127.0.0.1. The returned descriptor is bound to it, but does not listen: as long as
 * it is open nobody else is given this port, while a server that sets SO_REUSEADDR can listen on
 * it.
 */
int support_port_reserve(int *port);
/* The port on which nobody listens as long as this program runs: who connects to it is refused. */
int support_port_refused(void);
/* Whether somebody listens on 127.0.0.1:port. */
bool support_port_answers(int port);

#endif
