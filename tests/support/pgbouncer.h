/* A private PgBouncer in front of a private Postgres server. */
#ifndef PIER_TESTS_SUPPORT_PGBOUNCER_H
#define PIER_TESTS_SUPPORT_PGBOUNCER_H

#include "tests/support/postgres.h"

struct support_pgbouncer {
    char url[128]; /* user and database postgres, no password */
    int port;

    char directory[256];
    struct support_process process;
    int port_fd;
};

/* pool_mode is "session" or "transaction"; all clients together have that many connections to the
 * server, which must be one that support_postgres_start has started. */
int support_pgbouncer_start(struct support_pgbouncer *bouncer,
                            const struct support_postgres *server, const char *pool_mode,
                            int server_connections);
void support_pgbouncer_stop(struct support_pgbouncer *bouncer);

#endif
