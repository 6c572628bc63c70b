#include "tests/support/postgres.h"
#include "tests/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 30000 };

static int refuse_external(const struct support_postgres *server)
{
    if (server->external) {
        fprintf(stderr,
                "support: the server of PIER_TEST_POSTGRES is not ours to end or to pause\n");
        return -1;
    }
    return 0;
}

/* scripts/local-postgres makes the cluster from its template and prints the binary and the user. */
static int prepare(struct support_postgres *server)
{
    char command[1024];
    snprintf(command, sizeof command, "'%s/../../scripts/local-postgres' prepare '%s'",
             PIER_TEST_SUPPORT_DIR, server->directory);
    FILE *output = popen(command, "re");
    if (!output) {
        perror("support: popen");
        return -1;
    }
    bool complete = fgets(server->binary, sizeof server->binary, output) &&
                    fgets(server->user, sizeof server->user, output);
    server->binary[strcspn(server->binary, "\n")] = 0;
    server->user[strcspn(server->user, "\n")] = 0;
    return pclose(output) == 0 && complete ? 0 : -1;
}

/* Reads one line of postmaster.pid, counted from 1. */
static bool read_pidfile(const struct support_postgres *server, int wanted, char *line, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/data/postmaster.pid", server->directory);
    FILE *file = fopen(path, "re");
    if (!file) {
        return false;
    }
    int number = 0;
    while (number < wanted && fgets(line, (int)size, file)) {
        number++;
    }
    fclose(file);
    return number == wanted;
}

/* The file's eighth line says what pg_ctl waits for; its first must be this server's, not a dead
 * one's. */
static bool is_ready_or_dead(void *user_data)
{
    struct support_postgres *server = user_data;
    char line[256];
    if (read_pidfile(server, 1, line, sizeof line) && atoi(line) == (int)server->process.pid &&
        read_pidfile(server, 8, line, sizeof line) &&
        (strncmp(line, "ready", 5) == 0 || strncmp(line, "standby", 7) == 0)) {
        return true;
    }
    return !support_process_alive(&server->process);
}

static void add_setting(const char **argv, size_t *n, const char *setting)
{
    argv[(*n)++] = "-c";
    argv[(*n)++] = setting;
}

static int launch(struct support_postgres *server)
{
    char data[300], log[300], port[64], sockets[320];
    snprintf(data, sizeof data, "%s/data", server->directory);
    snprintf(log, sizeof log, "%s/server.log", server->directory);
    snprintf(port, sizeof port, "port=%d", server->port);
    snprintf(sockets, sizeof sockets, "unix_socket_directories=%s", server->directory);
    const char *argv[64] = {server->binary, "-D", data};
    size_t n = 3;
    add_setting(argv, &n, port);
    add_setting(argv, &n, sockets);
    add_setting(argv, &n, "listen_addresses=127.0.0.1");
    add_setting(argv, &n, "fsync=off");
    add_setting(argv, &n, "full_page_writes=off");
    add_setting(argv, &n, "shared_buffers=16MB");
    /* In the data directory, where a killed server leaves nothing behind on the machine. */
    add_setting(argv, &n, "dynamic_shared_memory_type=mmap");
    for (size_t i = 0; i < 16 && server->settings[i][0]; i++) {
        add_setting(argv, &n, server->settings[i]);
    }
    const struct support_process_options options = {.user = server->user,
                                                    .log = log,
                                                    .remove = server->directory,
                                                    .stop_signal = SIGINT, /* fast shutdown */
                                                    .argv = argv};
    if (support_process_start(&server->process, &options) < 0) {
        return -1;
    }
    if (!support_wait_until(is_ready_or_dead, server, START_TIMEOUT_MS) ||
        !support_process_alive(&server->process)) {
        fprintf(stderr, "support: Postgres did not start in %s\n", server->directory);
        support_file_print(log);
        support_process_kill(&server->process);
        return -1;
    }
    server->pid = server->process.pid;
    return 0;
}

static int start_external(struct support_postgres *server, const char *url)
{
    server->external = true;
    server->port_fd = -1;
    snprintf(server->url_unix, sizeof server->url_unix, "%s", url);
    snprintf(server->url_tcp, sizeof server->url_tcp, "%s", url);
    return 0;
}

int support_postgres_start(struct support_postgres *server, const char *const *settings)
{
    const char *url = getenv("PIER_TEST_POSTGRES");
    if (url && *url) {
        *server = (struct support_postgres){0};
        return start_external(server, url);
    }
    return support_postgres_start_own(server, settings);
}

/* A port, a directory and the URLs. */
static int set_up(struct support_postgres *server, const char *const *settings)
{
    *server = (struct support_postgres){.port_fd = -1};
    for (size_t i = 0; settings && settings[i] && i < 15; i++) {
        snprintf(server->settings[i], sizeof server->settings[i], "%s", settings[i]);
    }
    server->port_fd = support_port_reserve(&server->port);
    if (server->port_fd < 0 ||
        support_directory_make(server->directory, sizeof server->directory, "postgres") < 0) {
        return -1;
    }
    snprintf(server->url_unix, sizeof server->url_unix,
             "postgresql://postgres@/postgres?host=%s&port=%d", server->directory, server->port);
    snprintf(server->url_tcp, sizeof server->url_tcp, "postgresql://postgres@127.0.0.1:%d/postgres",
             server->port);
    return 0;
}

int support_postgres_start_own(struct support_postgres *server, const char *const *settings)
{
    if (set_up(server, settings) < 0 || prepare(server) < 0 || launch(server) < 0) {
        support_postgres_stop(server);
        return -1;
    }
    return 0;
}

/* Copies the primary's data as the user that the server runs as. */
static int copy_primary(struct support_postgres *replica, const struct support_postgres *primary)
{
    char command[2048];
    snprintf(replica->binary, sizeof replica->binary, "%s", primary->binary);
    snprintf(replica->user, sizeof replica->user, "%s", primary->user);
    const char *slash = strrchr(replica->binary, '/');
    int path = slash ? (int)(slash - replica->binary) : 0;
    snprintf(
        command, sizeof command,
        "cd / && if [ \"$(id -un)\" = '%s' ]; then as=; else as='runuser -u %s --'; chown '%s' "
        "'%s'; fi && chmod 755 '%s' && $as '%.*s/pg_basebackup' -D '%s/data' -h '%s' -p %d -U "
        "postgres -R -X stream -c fast --no-sync",
        replica->user, replica->user, replica->user, replica->directory, replica->directory, path,
        replica->binary, replica->directory, primary->directory, primary->port);
    return system(command) == 0 ? 0 : -1;
}

int support_postgres_start_replica(struct support_postgres *replica,
                                   const struct support_postgres *primary,
                                   const char *const *settings)
{
    *replica = (struct support_postgres){.port_fd = -1};
    if (refuse_external(primary) < 0) {
        return -1;
    }
    if (set_up(replica, settings) < 0 || copy_primary(replica, primary) < 0 ||
        launch(replica) < 0) {
        support_postgres_stop(replica);
        return -1;
    }
    return 0;
}

/* As pg_ctl does it. */
int support_postgres_promote(struct support_postgres *replica)
{
    return support_file_write(replica->directory, "data/promote", "", 0) == 0 &&
                   kill(replica->pid, SIGUSR1) == 0
               ? 0
               : -1;
}

void support_postgres_stop(struct support_postgres *server)
{
    support_process_stop(&server->process);
    support_directory_remove(server->directory);
    if (server->port_fd > 0) {
        close(server->port_fd);
    }
    *server = (struct support_postgres){.port_fd = -1};
}

int support_postgres_kill9(struct support_postgres *server)
{
    if (refuse_external(server) < 0) {
        return -1;
    }
    server->pid = 0;
    return support_process_kill(&server->process);
}

int support_postgres_restart(struct support_postgres *server)
{
    if (refuse_external(server) < 0) {
        return -1;
    }
    server->pid = 0;
    if (support_process_stop(&server->process) < 0) {
        return -1;
    }
    return launch(server);
}

int support_postgres_pause(struct support_postgres *server)
{
    return refuse_external(server) < 0 ? -1 : support_process_pause(&server->process);
}

int support_postgres_resume(struct support_postgres *server)
{
    return refuse_external(server) < 0 ? -1 : support_process_resume(&server->process);
}
