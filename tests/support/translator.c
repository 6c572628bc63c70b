#include "tests/support/translator.h"

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, BUFFER_SIZE = 32768, CLIENT = 0, SERVER };

struct connection {
    pthread_t thread;
    struct support_translator *translator;
    int fd[2];
    bool used, done; /* guarded by the lock of the translator */
    /* From the server. */
    size_t size; /* bytes in the buffer */
    size_t pass; /* of them and those to come, to be forwarded as they are */
    char buffer[BUFFER_SIZE];
};

struct support_translator {
    pthread_t thread;
    pthread_mutex_t lock;
    int listener, port, target_port;
    struct connection *connections;
};

static bool send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent <= 0) {
            return false;
        }
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* What stands in a field of an error. The text looks, behind its beginning, as libpq writes the
 * SQLSTATE of an error. */
static const char *translate(char code, const char *text)
{
    switch (code) {
    case 'S':
        return "F\xc4HLER";
    case 'M':
        return "\xdc"
               "bersetzt:  00000: \xbb"
               "das ging nicht\xab";
    case 'D':
    case 'H':
    case 'W':
        return "n\xe4"
               "her erkl\xe4rt";
    default:
        return text;
    }
}

static bool send_translated(int fd, const char *message, size_t size)
{
    char out[2 * BUFFER_SIZE] = {message[0]};
    size_t length = 5;
    for (size_t at = 5; at < size && message[at]; at += 2 + strlen(message + at + 1)) {
        const char *text = translate(message[at], message + at + 1);
        out[length++] = message[at];
        memcpy(out + length, text, strlen(text) + 1);
        length += strlen(text) + 1;
    }
    out[length++] = 0;
    uint32_t count = htonl((uint32_t)length - 1);
    memcpy(out + 1, &count, sizeof count);
    return send_all(fd, out, length);
}

static void drop(struct connection *connection, size_t size)
{
    connection->size -= size;
    memmove(connection->buffer, connection->buffer + size, connection->size);
}

/* Forwards what is complete enough. */
static bool forward_messages(struct connection *connection)
{
    for (;;) {
        if (connection->pass) {
            size_t size = connection->pass < connection->size ? connection->pass : connection->size;
            if (size == 0) {
                return true;
            }
            if (!send_all(connection->fd[CLIENT], connection->buffer, size)) {
                return false;
            }
            connection->pass -= size;
            drop(connection, size);
            continue;
        }
        uint32_t count;
        if (connection->size < 5) {
            return true;
        }
        memcpy(&count, connection->buffer + 1, sizeof count);
        size_t whole = 1 + (size_t)ntohl(count);
        bool for_people = connection->buffer[0] == 'E' || connection->buffer[0] == 'N';
        if (!for_people || whole > BUFFER_SIZE) {
            connection->pass = whole;
        } else if (connection->size < whole) {
            return true;
        } else {
            if (!send_translated(connection->fd[CLIENT], connection->buffer, whole)) {
                return false;
            }
            drop(connection, whole);
        }
    }
}

static bool serve(struct connection *connection, int side)
{
    bool from_client = side == CLIENT;
    char copy[4096];
    char *to = from_client ? copy : connection->buffer + connection->size;
    size_t room = from_client ? sizeof copy : BUFFER_SIZE - connection->size;
    ssize_t got = read(connection->fd[side], to, room);
    if (got <= 0) {
        return false;
    }
    if (from_client) {
        return send_all(connection->fd[SERVER], copy, (size_t)got);
    }
    connection->size += (size_t)got;
    return forward_messages(connection);
}

static void *run_connection(void *arg)
{
    struct connection *connection = arg;
    bool goes_on = true;
    while (goes_on) {
        struct pollfd polled[2] = {{.fd = connection->fd[CLIENT], .events = POLLIN},
                                   {.fd = connection->fd[SERVER], .events = POLLIN}};
        poll(polled, 2, -1);
        for (int side = 0; side < 2 && goes_on; side++) {
            goes_on = !polled[side].revents || serve(connection, side);
        }
    }
    pthread_mutex_lock(&connection->translator->lock);
    close(connection->fd[CLIENT]);
    close(connection->fd[SERVER]);
    connection->done = true;
    pthread_mutex_unlock(&connection->translator->lock);
    return NULL;
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Under the lock: a place for a connection; NULL: all are taken. */
static struct connection *find_place(struct support_translator *translator)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &translator->connections[i];
        if (connection->used && connection->done) {
            pthread_join(connection->thread, NULL);
            memset(connection, 0, sizeof *connection);
        }
        if (!connection->used) {
            return connection;
        }
    }
    return NULL;
}

static void take_in(struct support_translator *translator, int fd)
{
    int server = connect_to(translator->target_port);
    pthread_mutex_lock(&translator->lock);
    struct connection *connection = server < 0 ? NULL : find_place(translator);
    if (connection) {
        connection->translator = translator;
        connection->fd[CLIENT] = fd;
        connection->fd[SERVER] = server;
        connection->used =
            pthread_create(&connection->thread, NULL, run_connection, connection) == 0;
    }
    bool taken = connection && connection->used;
    pthread_mutex_unlock(&translator->lock);
    if (!taken) {
        close(fd);
        if (server >= 0) {
            close(server);
        }
    }
}

static void *run(void *arg)
{
    struct support_translator *translator = arg;
    /* Until the listener is shut down. */
    for (int fd; (fd = accept4(translator->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0;) {
        take_in(translator, fd);
    }
    return NULL;
}

static int listen_somewhere(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 64) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        perror("support: listen");
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

struct support_translator *support_translator_start(int target_port)
{
    struct support_translator *translator = calloc(1, sizeof *translator);
    struct connection *connections = calloc(CONNECTIONS_MAX, sizeof *connections);
    int port = 0, fd = translator && connections ? listen_somewhere(&port) : -1;
    sigset_t all, old;
    if (fd < 0) {
        free(translator);
        free(connections);
        return NULL;
    }
    *translator = (struct support_translator){
        .listener = fd, .port = port, .target_port = target_port, .connections = connections};
    pthread_mutex_init(&translator->lock, NULL);
    /* Signals are for the threads under test. */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&translator->thread, NULL, run, translator);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc) {
        close(fd);
        free(connections);
        free(translator);
        return NULL;
    }
    return translator;
}

int support_translator_port(const struct support_translator *translator)
{
    return translator->port;
}

void support_translator_stop(struct support_translator *translator)
{
    if (!translator) {
        return;
    }
    shutdown(translator->listener, SHUT_RDWR);
    pthread_join(translator->thread, NULL);
    close(translator->listener);
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        struct connection *connection = &translator->connections[i];
        pthread_mutex_lock(&translator->lock);
        bool used = connection->used;
        if (used && !connection->done) {
            shutdown(connection->fd[CLIENT], SHUT_RDWR);
        }
        pthread_mutex_unlock(&translator->lock);
        if (used) {
            pthread_join(connection->thread, NULL);
        }
    }
    pthread_mutex_destroy(&translator->lock);
    free(translator->connections);
    free(translator);
}
