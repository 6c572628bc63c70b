/*
 * A server in the old style, a blocking thread for each connection, on a database pool that all
 * threads share. Each request has 2 s: then its query is cancelled on the server, its connection
 * cleaned up behind it, and the client told to come back.
 *
 *   threaded_server [DATABASE-URL [PORT [REQUESTS]]]
 *
 * PORT 0 is a free one, which it prints. With REQUESTS it ends after so many; otherwise it serves
 * until it is killed. Try: curl http://127.0.0.1:PORT/users/1
 */
#include <arpa/inet.h>
#include <pier/pier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { THREADS = 16, REQUEST_MS = 2000 };

struct app {
    pier_runner *runner;
    pier_db *db;
    int listener;
    atomic_long left; /* requests to serve; below 0: without end */
};

static void reply(int fd, const char *status, const char *body)
{
    dprintf(fd, "HTTP/1.0 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n%s", status,
            strlen(body), body);
}

static void handle(struct app *app, int fd)
{
    char request[1024], name[128];
    ssize_t size = read(fd, request, sizeof request - 1);
    if (size <= 0) {
        return;
    }
    request[size] = 0;
    long id = 0;
    sscanf(request, "GET /users/%ld", &id);

    pier_error err = {0};
    PIER_AUTO(pier_scope)
    scope = pier_scope_open(app->runner, PIER_SCOPE_OPTIONS(.timeout_ms = REQUEST_MS), &err);
    int got =
        pier_db_fetch_into(app->db, "select name from server_users where id = $1", PIER_ARGS(id),
                           PIER_INTO(pier_into_buffer(name, sizeof name)), &err);
    if (got > 0) {
        reply(fd, "200 OK", name);
    } else if (got == 0) {
        reply(fd, "404 Not Found", "no such user\n");
    } else {
        bool busy = got == PIER_ETIMEDOUT || got == PIER_EPOOL;
        reply(fd, busy ? "503 Service Unavailable" : "500 Internal Server Error", "");
        fprintf(stderr, "threaded_server: %s\n", err.message);
    }
}

static void *serve(void *arg)
{
    struct app *app = arg;
    for (int fd; (fd = accept(app->listener, NULL, NULL)) >= 0;) {
        handle(app, fd);
        close(fd);
        if (atomic_fetch_sub(&app->left, 1) == 1) {
            /* The last of REQUESTS: this fails the accept of all threads. */
            shutdown(app->listener, SHUT_RDWR);
        }
    }
    return NULL;
}

/* Gives the port, or 0. */
static int listen_on(struct app *app, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    app->listener = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(app->listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(app->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(app->listener, 64) != 0 ||
        getsockname(app->listener, (struct sockaddr *)&address, &size) != 0) {
        perror("threaded_server: listen");
        return 0;
    }
    return ntohs(address.sin_port);
}

static bool make_users(struct app *app)
{
    pier_error err = {0};
    const char *script = "drop table if exists server_users;"
                         "create table server_users(id bigint primary key, name text);"
                         "insert into server_users values (1, 'ada'), (2, 'bob')";
    if (pier_db_execute_script(app->db, script, &err) < 0) {
        fprintf(stderr, "threaded_server: %s\n", err.message);
        return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
    int port = argc > 2 ? atoi(argv[2]) : 8080;
    if (argc > 4 || port < 0 || port > 65535 || url[0] == '-') {
        fprintf(stderr, "usage: %s [DATABASE-URL [PORT [REQUESTS]]]\n", argv[0]);
        return 2;
    }
    struct app app = {.left = argc > 3 ? atol(argv[3]) : -1};
    pier_error err = {0};
    app.runner = pier_runner_open(NULL, &err);
    app.db = pier_db_open(app.runner, url,
                          PIER_DB_OPTIONS(.pool_max = 8, .acquire_timeout_ms = REQUEST_MS), &err);
    if (!app.db) {
        fprintf(stderr, "threaded_server: %s\n", err.message);
    }
    bool ok = app.db && make_users(&app) && (port = listen_on(&app, port)) != 0;
    if (ok) {
        printf("listening on http://127.0.0.1:%d\n", port);
        fflush(stdout);
        pthread_t threads[THREADS];
        int started = 0;
        while (started < THREADS && pthread_create(&threads[started], NULL, serve, &app) == 0) {
            started++;
        }
        while (started > 0) {
            pthread_join(threads[--started], NULL);
        }
        puts("done");
    }
    pier_runner_close(app.runner);
    return !ok;
}
