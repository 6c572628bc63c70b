#ifndef PIER_TESTS_DOCKER_FIXTURE_H
#define PIER_TESTS_DOCKER_FIXTURE_H
/*
 * What the tests of docker/compose.yaml share. `scripts/docker run` puts ports and containers into
 * the environment; without it nothing can be tested, and the program fails.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/wait.h"
#include <pier/pier.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { BOUND_MS = 60000, AT_ONCE_MS = 2000 };

static pier_runner *runner;

/* "PRIMARY" and the like: what scripts/docker says of that service. */
static inline const char *docker_env(const char *prefix, const char *service)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", prefix, service);
    const char *value = getenv(name);
    return value ? value : "";
}

static inline const char *port_of(const char *service)
{
    return docker_env("PIER_PORT_", service);
}

/* Runs a docker command and waits for it. */
static inline int run_docker(const char *const *argv)
{
    int status = -1;
    pid_t pid;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", 1 /* O_WRONLY */, 0);
    if (posix_spawnp(&pid, "docker", &actions, NULL, (char **)argv, environ) == 0) {
        waitpid(pid, &status, 0);
    }
    posix_spawn_file_actions_destroy(&actions);
    return status;
}

/* `docker VERB CONTAINER` */
static inline int docker(const char *verb, const char *service)
{
    const char *argv[] = {"docker", verb, docker_env("PIER_DOCKER_", service), NULL};
    return run_docker(argv);
}

/* Runs a shell command in the container. */
static inline int docker_exec(const char *service, const char *command)
{
    const char *argv[] = {"docker", "exec", docker_env("PIER_DOCKER_", service), "sh", "-c",
                          command,  NULL};
    return run_docker(argv);
}

static inline char *url_of(char *url, size_t size, const char *service, const char *more)
{
    snprintf(url, size, "postgresql://postgres@127.0.0.1:%s/postgres%s", port_of(service), more);
    return url;
}

/* `more` is the URL's "?key=value", or "". */
static inline pier_db *open_service_with(const char *service, const char *more, int pool_max)
{
    char url[256];
    pier_error err = {0};
    pier_db *db = pier_db_open(runner, url_of(url, sizeof url, service, more),
                               PIER_DB_OPTIONS(.pool_max = pool_max), &err);
    if (!db) {
        fail_msg("%s", err.message);
    }
    return db;
}

static inline pier_db *open_service(const char *service, int pool_max)
{
    return open_service_with(service, "", pool_max);
}

static inline int64_t ask(pier_db *db, const char *sql)
{
    int64_t value = -1;
    pier_error err = {0};
    if (pier_db_fetch_into(db, sql, NULL, PIER_INTO(&value), &err) != 1) {
        fail_msg("%s: %s", sql, err.message);
    }
    return value;
}

static inline int open_runner(void **state)
{
    (void)state;
    runner = pier_runner_open(NULL, NULL);
    return runner ? 0 : -1;
}

static inline int close_runner(void **state)
{
    (void)state;
    pier_runner_close(runner);
    return 0;
}

static inline int needs_containers(void **state)
{
    (void)state;
    if (!*docker_env("PIER_DOCKER_", "POSTGRES")) {
        fprintf(stderr, "These tests need containers: scripts/test --docker\n");
        return -1;
    }
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_runner, close_runner)

#endif
