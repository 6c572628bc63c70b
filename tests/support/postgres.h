/* A private Postgres server, on a free port of 127.0.0.1 and on a unix socket. */
#ifndef PIER_TESTS_SUPPORT_POSTGRES_H
#define PIER_TESTS_SUPPORT_POSTGRES_H

#include "tests/support/process.h"

struct support_postgres {
    char url_unix[512]; /* user and database postgres, no password */
    char url_tcp[512];
    int port;
    pid_t pid;     /* the postmaster; 0 while it is down */
    bool external; /* PIER_TEST_POSTGRES named a server: only start and stop work, and do nothing to
                      it */

    char directory[256];
    char binary[256];
    char user[64];
    char settings[16][256];
    struct support_process process;
    int port_fd;
};

/*
 * Starts a new, empty cluster and waits until it takes connections. settings are "name=value"
 * strings, up to 15 and a NULL, or NULL. Where PIER_TEST_POSTGRES is set, both URLs are its value
 * and nothing is started.
 */
int support_postgres_start(struct support_postgres *server, const char *const *settings);
/* The same, whatever the environment says: for tests that end or pause the server. */
int support_postgres_start_own(struct support_postgres *server, const char *const *settings);
/*
 * Starts a streaming replica of a server of ours, on a copy of its data. A setting
 * "hot_standby=off" makes it one that is up but lets nobody in (57P03) until it is promoted. Fails
 * where PIER_TEST_POSTGRES named the primary.
 */
int support_postgres_start_replica(struct support_postgres *replica,
                                   const struct support_postgres *primary,
                                   const char *const *settings);
/* Asks a replica to become a server of its own; it does so some time later. */
int support_postgres_promote(struct support_postgres *replica);
/* Fast shutdown, and removes the cluster. */
void support_postgres_stop(struct support_postgres *server);
/* As a machine that loses power: SIGKILL for the postmaster and every backend. The data stay. */
int support_postgres_kill9(struct support_postgres *server);
/* Fast shutdown if it runs, then start on the same data, port and URLs. */
int support_postgres_restart(struct support_postgres *server);
/* SIGSTOP and SIGCONT for the postmaster and every backend: connections hang, none is closed. */
int support_postgres_pause(struct support_postgres *server);
int support_postgres_resume(struct support_postgres *server);

#endif
