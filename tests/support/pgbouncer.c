#include "tests/support/pgbouncer.h"
#include "tests/support/wait.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 20000 };

/* Debian has it where only root looks. */
static const char *find_program(void)
{
    static const char *const places[] = {"/usr/sbin/pgbouncer", "/usr/bin/pgbouncer",
                                         "/usr/local/bin/pgbouncer"};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        if (access(places[i], X_OK) == 0) {
            return places[i];
        }
    }
    fprintf(stderr, "support: there is no pgbouncer; run scripts/install-deps test\n");
    return NULL;
}

static int write_configuration(const struct support_pgbouncer *bouncer,
                               const struct support_postgres *server, const char *pool_mode,
                               int server_connections)
{
    char text[1024];
    int size = snprintf(text, sizeof text,
                        "[databases]\n"
                        "postgres = host=127.0.0.1 port=%d user=postgres\n"
                        "[pgbouncer]\n"
                        "listen_addr = 127.0.0.1\n"
                        "listen_port = %d\n"
                        "unix_socket_dir =\n"
                        "auth_type = any\n"
                        "pool_mode = %s\n"
                        "default_pool_size = %d\n"
                        "max_client_conn = 100\n",
                        server->port, bouncer->port, pool_mode, server_connections);
    return support_file_write(bouncer->directory, "pgbouncer.ini", text, (size_t)size);
}

static bool answers_or_is_dead(void *user_data)
{
    struct support_pgbouncer *bouncer = user_data;
    return support_port_answers(bouncer->port) || !support_process_alive(&bouncer->process);
}

static int launch(struct support_pgbouncer *bouncer, const struct support_postgres *server)
{
    char configuration[300], log[300];
    snprintf(configuration, sizeof configuration, "%s/pgbouncer.ini", bouncer->directory);
    snprintf(log, sizeof log, "%s/pgbouncer.log", bouncer->directory);
    const char *program = find_program();
    const char *argv[] = {program, configuration, NULL};
    /* It refuses to run as root. */
    const struct support_process_options options = {
        .user = server->user, .log = log, .remove = bouncer->directory, .argv = argv};
    if (!program || support_process_start(&bouncer->process, &options) < 0) {
        return -1;
    }
    if (!support_wait_until(answers_or_is_dead, bouncer, START_TIMEOUT_MS) ||
        !support_process_alive(&bouncer->process)) {
        fprintf(stderr, "support: PgBouncer did not start in %s\n", bouncer->directory);
        support_file_print(log);
        return -1;
    }
    return 0;
}

int support_pgbouncer_start(struct support_pgbouncer *bouncer,
                            const struct support_postgres *server, const char *pool_mode,
                            int server_connections)
{
    *bouncer = (struct support_pgbouncer){.port_fd = -1};
    bouncer->port_fd = support_port_reserve(&bouncer->port);
    if (bouncer->port_fd < 0 ||
        support_directory_make(bouncer->directory, sizeof bouncer->directory, "pgbouncer") < 0 ||
        write_configuration(bouncer, server, pool_mode, server_connections) < 0 ||
        launch(bouncer, server) < 0) {
        support_pgbouncer_stop(bouncer);
        return -1;
    }
    snprintf(bouncer->url, sizeof bouncer->url,
             "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable", bouncer->port);
    return 0;
}

void support_pgbouncer_stop(struct support_pgbouncer *bouncer)
{
    support_process_stop(&bouncer->process);
    if (*bouncer->directory) {
        support_directory_remove(bouncer->directory);
    }
    if (bouncer->port_fd > 0) {
        close(bouncer->port_fd);
    }
    *bouncer = (struct support_pgbouncer){.port_fd = -1};
}
