#ifndef PIER_SDK_TESTING_SERVER_H
#define PIER_SDK_TESTING_SERVER_H
/* The shell that makes a throw-away server or directory and guards it: see server.sh. */
#include <pier/task.h>

typedef struct pier__testing_server {
    int fd; /* to the shell: a line, or its end, has it clean up, and it ends after that; -1: none
             */
    int64_t timeout_ms;
    size_t length;
    char answer[640]; /* the line read so far, then without its first word */
} pier__testing_server;

/* Starts the shell. `kind`, `image` and `settings` are its arguments. */
int pier__testing_server_start(pier__testing_server *server, const char *kind, const char *image,
                               const char *const *settings, pier_error *err);
/* Waits for the answer, which is then in server->answer. `server` must outlive `runner`. */
int pier__testing_server_wait(pier__testing_server *server, pier_runner *runner, pier_error *err);
/* Tells the shell to clean up, and waits for that where it may. */
void pier__testing_server_stop(pier__testing_server *server, pier_runner *runner);
/* Only closes the socket: the shell, told by its end, goes on alone. */
void pier__testing_server_abandon(pier__testing_server *server);

#endif
