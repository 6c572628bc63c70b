/*
 * One thread polls all sockets. It holds the lock except while it polls; every socket is
 * non-blocking, so the lock is never held for long. Other threads change settings under the lock,
 * wake the thread and wait until it has applied them.
 */
#include "tests/support/tcp.h"
#include "tests/support/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 1024, BUFFER_SIZE = 16384 };

/* One direction of a connection: what was read from one socket and waits to be written to the
 * other. */
struct flow {
    int64_t left; /* bytes until the cut; negative: no limit */
    size_t begin;
    size_t end;
    bool eof;      /* read from the source */
    bool finished; /* and passed on */
    char buffer[BUFFER_SIZE];
};

struct connection {
    int fd[2];           /* client, server; the server's is -1 for a silent server */
    struct flow flow[2]; /* by direction: flow[d] goes from fd[d] to fd[!d] */
    bool dead;
};

struct support_proxy {
    /* Immutable after start. */
    pthread_t thread;
    int listener;
    int wake;
    int port;
    /* Guarded by lock. */
    pthread_mutex_t lock;
    pthread_cond_t applied;
    unsigned requested;
    unsigned done;
    int target_port; /* 0: never answer */
    int64_t cut_after[2];
    bool cut_changed[2];
    bool reset;
    bool paused;
    bool kill;
    bool stop;
    int accepted;
    int64_t bytes[2];
    size_t count;
    struct connection *connections[CONNECTIONS_MAX];
};

static void close_socket(int fd, bool reset)
{
    if (fd < 0) {
        return;
    }
    if (reset) {
        const struct linger linger = {.l_onoff = 1, .l_linger = 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    close(fd);
}

static void close_connection(struct connection *connection, bool reset)
{
    close_socket(connection->fd[0], reset);
    close_socket(connection->fd[1], reset);
    free(connection);
}

static void sweep(struct support_proxy *proxy, bool all)
{
    size_t kept = 0;
    for (size_t i = 0; i < proxy->count; i++) {
        if (all || proxy->connections[i]->dead) {
            close_connection(proxy->connections[i], proxy->reset);
        } else {
            proxy->connections[kept++] = proxy->connections[i];
        }
    }
    proxy->count = kept;
}

static int connect_to(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) < 0 &&
        errno != EINPROGRESS) {
        close(fd);
        return -1;
    }
    return fd;
}

static void accept_all(struct support_proxy *proxy)
{
    while (proxy->count < CONNECTIONS_MAX) {
        int fd = accept4(proxy->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        proxy->accepted++;
        int server = proxy->target_port ? connect_to(proxy->target_port) : -1;
        struct connection *connection = calloc(1, sizeof *connection);
        if (!connection || (proxy->target_port && server < 0)) {
            close_socket(fd, true);
            close_socket(server, true);
            free(connection);
            continue;
        }
        connection->fd[0] = fd;
        connection->fd[1] = server;
        connection->flow[0].left = proxy->cut_after[0];
        connection->flow[1].left = proxy->cut_after[1];
        proxy->connections[proxy->count++] = connection;
    }
}

static void read_flow(struct connection *connection, int direction)
{
    struct flow *flow = &connection->flow[direction];
    ssize_t got = read(connection->fd[direction], flow->buffer, sizeof flow->buffer);
    if (got > 0) {
        flow->begin = 0;
        flow->end = (size_t)got;
    } else if (got == 0) {
        flow->eof = true;
    } else if (errno != EAGAIN && errno != EINTR) {
        connection->dead = true;
    }
}

static void write_flow(struct support_proxy *proxy, struct connection *connection, int direction)
{
    struct flow *flow = &connection->flow[direction];
    size_t size = flow->end - flow->begin;
    if (flow->left >= 0 && (int64_t)size > flow->left) {
        size = (size_t)flow->left;
    }
    if (size > 0) {
        ssize_t sent =
            send(connection->fd[!direction], flow->buffer + flow->begin, size, MSG_NOSIGNAL);
        if (sent > 0) {
            flow->begin += (size_t)sent;
            flow->left -= flow->left >= 0 ? sent : 0;
            proxy->bytes[direction] += sent;
        } else if (errno != EAGAIN && errno != EINTR) {
            connection->dead = true;
        }
    }
    if (flow->left == 0) {
        connection->dead = true;
    }
    if (flow->eof && flow->begin == flow->end && !flow->finished) {
        flow->finished = true;
        shutdown(connection->fd[!direction], SHUT_WR);
    }
}

/* A silent server's connection is read, so that a closing client is noticed, and the bytes are
 * dropped. */
static void serve_silent(struct support_proxy *proxy, struct connection *connection, short revents)
{
    if (revents) {
        read_flow(connection, 0);
        struct flow *flow = &connection->flow[0];
        proxy->bytes[0] += (int64_t)(flow->end - flow->begin);
        flow->begin = flow->end = 0;
        connection->dead |= flow->eof;
    }
}

static void serve(struct support_proxy *proxy, struct connection *connection,
                  const struct pollfd *polled)
{
    if (connection->fd[1] < 0) {
        serve_silent(proxy, connection, polled[0].revents);
        return;
    }
    for (int direction = 0; direction < 2 && !connection->dead; direction++) {
        struct flow *flow = &connection->flow[direction];
        if ((polled[direction].revents & (POLLIN | POLLHUP | POLLERR)) &&
            flow->begin == flow->end && !flow->eof) {
            read_flow(connection, direction);
        }
        if (flow->begin < flow->end || flow->eof || flow->left == 0) {
            write_flow(proxy, connection, direction);
        }
    }
    if (connection->flow[0].finished && connection->flow[1].finished) {
        connection->dead = true;
    }
}

/* Applies what other threads asked for. */
static void apply(struct support_proxy *proxy)
{
    for (int direction = 0; direction < 2; direction++) {
        if (!proxy->cut_changed[direction]) {
            continue;
        }
        proxy->cut_changed[direction] = false;
        for (size_t i = 0; i < proxy->count; i++) {
            proxy->connections[i]->flow[direction].left = proxy->cut_after[direction];
            proxy->connections[i]->dead |= proxy->cut_after[direction] == 0;
        }
    }
    if (proxy->kill) {
        proxy->kill = false;
        accept_all(proxy);
        sweep(proxy, true);
    }
    sweep(proxy, false);
    proxy->done = proxy->requested;
    pthread_cond_broadcast(&proxy->applied);
}

static void prepare_poll(const struct support_proxy *proxy, struct pollfd *polled)
{
    polled[0] = (struct pollfd){.fd = proxy->wake, .events = POLLIN};
    /* A negative descriptor is ignored by poll. */
    polled[1] = (struct pollfd){.fd = proxy->paused ? -1 : proxy->listener, .events = POLLIN};
    for (size_t i = 0; i < proxy->count; i++) {
        const struct connection *connection = proxy->connections[i];
        for (int side = 0; side < 2; side++) {
            const struct flow *from = &connection->flow[side], *to = &connection->flow[!side];
            short events = 0;
            events |= from->begin == from->end && !from->eof ? POLLIN : 0;
            events |= to->begin < to->end ? POLLOUT : 0;
            /* POLLHUP cannot be masked: with nothing to do this side would spin. */
            bool idle = proxy->paused || !events;
            polled[2 + 2 * i + (size_t)side] =
                (struct pollfd){.fd = idle ? -1 : connection->fd[side], .events = events};
        }
    }
}

static void *run(void *user_data)
{
    struct support_proxy *proxy = user_data;
    struct pollfd *polled = calloc(2 + 2 * CONNECTIONS_MAX, sizeof *polled);
    pthread_mutex_lock(&proxy->lock);
    while (polled && !proxy->stop) {
        prepare_poll(proxy, polled);
        size_t count = proxy->count;
        pthread_mutex_unlock(&proxy->lock);
        int ready = poll(polled, 2 + 2 * count, -1);
        pthread_mutex_lock(&proxy->lock);
        if (ready <= 0) {
            continue;
        }
        uint64_t ignored;
        if (polled[0].revents && read(proxy->wake, &ignored, sizeof ignored) < 0) {
            continue;
        }
        /* Paused since the poll began: what it saw waits. */
        for (size_t i = 0; i < count && !proxy->paused; i++) {
            serve(proxy, proxy->connections[i], &polled[2 + 2 * i]);
        }
        if (polled[1].revents && !proxy->paused) {
            accept_all(proxy);
        }
        apply(proxy);
    }
    sweep(proxy, true);
    proxy->done = proxy->requested;
    pthread_cond_broadcast(&proxy->applied);
    pthread_mutex_unlock(&proxy->lock);
    free(polled);
    return NULL;
}

static void wake(struct support_proxy *proxy)
{
    if (write(proxy->wake, &(uint64_t){1}, sizeof(uint64_t)) < 0) {
        perror("support: eventfd");
    }
}

/* Ends a change that was made under the lock: returns, unlocked, when the thread has applied it. */
static void commit(struct support_proxy *proxy)
{
    unsigned request = ++proxy->requested;
    wake(proxy);
    while ((int)(proxy->done - request) < 0 && !proxy->stop) {
        pthread_cond_wait(&proxy->applied, &proxy->lock);
    }
    pthread_mutex_unlock(&proxy->lock);
}

static int listen_somewhere(int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, length) < 0 || listen(fd, 1024) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        perror("support: listen");
        close_socket(fd, false);
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static void free_proxy(struct support_proxy *proxy)
{
    close_socket(proxy->listener, false);
    close_socket(proxy->wake, false);
    pthread_cond_destroy(&proxy->applied);
    pthread_mutex_destroy(&proxy->lock);
    free(proxy);
}

static int start_thread(struct support_proxy *proxy)
{
    /* Signals are for the threads under test. */
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    int rc = pthread_create(&proxy->thread, NULL, run, proxy);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return rc;
}

struct support_proxy *support_proxy_start(int target_port)
{
    struct support_proxy *proxy = calloc(1, sizeof *proxy);
    if (!proxy) {
        return NULL;
    }
    pthread_mutex_init(&proxy->lock, NULL);
    pthread_cond_init(&proxy->applied, NULL);
    proxy->target_port = target_port;
    proxy->cut_after[0] = proxy->cut_after[1] = -1;
    proxy->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    proxy->listener = listen_somewhere(&proxy->port);
    if (proxy->wake < 0 || proxy->listener < 0 || start_thread(proxy) != 0) {
        fprintf(stderr, "support: the proxy did not start\n");
        free_proxy(proxy);
        return NULL;
    }
    return proxy;
}

void support_proxy_stop(struct support_proxy *proxy)
{
    if (!proxy) {
        return;
    }
    pthread_mutex_lock(&proxy->lock);
    proxy->stop = true;
    wake(proxy);
    pthread_mutex_unlock(&proxy->lock);
    pthread_join(proxy->thread, NULL);
    free_proxy(proxy);
}

int support_proxy_port(const struct support_proxy *proxy)
{
    return proxy->port;
}

void support_proxy_set_target(struct support_proxy *proxy, int target_port)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->target_port = target_port;
    commit(proxy);
}

void support_proxy_cut_after(struct support_proxy *proxy, enum support_direction direction,
                             int64_t bytes_max)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->cut_after[direction] = bytes_max;
    proxy->cut_changed[direction] = true;
    commit(proxy);
}

void support_proxy_use_reset(struct support_proxy *proxy, bool reset)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->reset = reset;
    commit(proxy);
}

void support_proxy_pause(struct support_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->paused = true;
    commit(proxy);
}

void support_proxy_resume(struct support_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->paused = false;
    commit(proxy);
}

void support_proxy_kill_connections(struct support_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    proxy->kill = true;
    commit(proxy);
}

int support_proxy_accepted(struct support_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    int accepted = proxy->accepted;
    pthread_mutex_unlock(&proxy->lock);
    return accepted;
}

int support_proxy_open(struct support_proxy *proxy)
{
    pthread_mutex_lock(&proxy->lock);
    int count = (int)proxy->count;
    pthread_mutex_unlock(&proxy->lock);
    return count;
}

int64_t support_proxy_bytes(struct support_proxy *proxy, enum support_direction direction)
{
    pthread_mutex_lock(&proxy->lock);
    int64_t bytes = proxy->bytes[direction];
    pthread_mutex_unlock(&proxy->lock);
    return bytes;
}

struct expectation {
    struct support_proxy *proxy;
    int count;
};

static bool accepted_at_least(void *user_data)
{
    const struct expectation *expected = user_data;
    return support_proxy_accepted(expected->proxy) >= expected->count;
}

static bool open_at_most(void *user_data)
{
    const struct expectation *expected = user_data;
    return support_proxy_open(expected->proxy) <= expected->count;
}

bool support_proxy_wait_accepted(struct support_proxy *proxy, int count_min, int timeout_ms)
{
    return support_wait_until(accepted_at_least, &(struct expectation){proxy, count_min},
                              timeout_ms);
}

bool support_proxy_wait_open(struct support_proxy *proxy, int count_max, int timeout_ms)
{
    return support_wait_until(open_at_most, &(struct expectation){proxy, count_max}, timeout_ms);
}

int support_silent_server_start(struct support_silent_server *server)
{
    server->proxy = support_proxy_start(0);
    server->port = server->proxy ? support_proxy_port(server->proxy) : 0;
    return server->proxy ? 0 : -1;
}

void support_silent_server_stop(struct support_silent_server *server)
{
    support_proxy_stop(server->proxy);
    *server = (struct support_silent_server){0};
}
