/*
 * Reading and writing a session's socket, plain or through the TLS session that libpq has made.
 *
 * Nothing of the session may be left inside libpq when it is taken over. Its last message is
 * ReadyForQuery, behind which a server says nothing unasked but a notification, which needs a
 * LISTEN first, and its last words. libpq has read those, at most: PQnotifies takes them.
 */
#include "drivers/postgres/transport.h"

#include "sdk/alloc.h"
#include "sdk/park.h"
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

enum {
    ROOM = 16 * 1024,       /* of both buffers at first; a server's buffer is half of that */
    ROOM_KEPT = 256 * 1024, /* by a connection at rest */
    EXPECTED_MAX = 2 * 1024 * 1024
};

/* ---- TLS ---------------------------------------------------------------------------------- */

/* OpenSSL is libpq's dependency, not ours, and libpq may have been built without it: its functions
 * are found among what libpq has loaded. */
static struct {
    int (*read)(void *ssl, void *buffer, int size);
    int (*write)(void *ssl, const void *buffer, int size);
    int (*pending)(const void *ssl);
    int (*get_error)(const void *ssl, int result);
    void (*clear_error)(void);
} openssl;

/* OpenSSL's own numbers, which are part of its interface. */
enum { WANT_READ = 2, WANT_WRITE = 3, SYSCALL_FAILED = 5, CLOSED = 6 };

static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void *library, const char *name, void *place)
{
    void *found = library ? dlsym(library, name) : NULL;
    if (!found) {
        found = dlsym(RTLD_DEFAULT, name); /* libpq is linked statically */
    }
    memcpy(place, &found, sizeof found);
}

static void find_openssl(void)
{
    Dl_info info;
    void *libpq = dladdr((void *)&PQconnectPoll, &info) && info.dli_fname
                      ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)
                      : NULL;
    find(libpq, "SSL_read", &openssl.read);
    find(libpq, "SSL_write", &openssl.write);
    find(libpq, "SSL_pending", &openssl.pending);
    find(libpq, "SSL_get_error", &openssl.get_error);
    find(libpq, "ERR_clear_error", &openssl.clear_error);
    if (libpq) {
        dlclose(libpq);
    }
}

static bool find_tls(pier__postgres_transport *transport, PGconn *pg)
{
    transport->ssl = PQsslStruct(pg, "OpenSSL");
    pthread_once(&once, find_openssl);
    if (transport->ssl && openssl.read && openssl.write && openssl.pending && openssl.get_error &&
        openssl.clear_error) {
        return true;
    }
    snprintf(transport->why, sizeof transport->why,
             "libpq has not encrypted the session with OpenSSL 1.1 or newer");
    return false;
}

/* As recv and send do: sets errno. */
static ssize_t tls_failed(pier__postgres_transport *transport, int result)
{
    int saved = errno;
    switch (openssl.get_error(transport->ssl, result)) {
    case WANT_READ:
    case WANT_WRITE: /* of reading: a new key, which is a few bytes, and goes with what is next */
        errno = EAGAIN;
        return -1;
    case CLOSED:
        return 0;
    case SYSCALL_FAILED:
        errno = saved ? saved : ECONNRESET;
        return -1;
    default:
        errno = EPROTO;
        return -1;
    }
}

static ssize_t tls_read(pier__postgres_transport *transport, char *to, size_t room)
{
    size_t got = 0;
    do {
        openssl.clear_error();
        errno = 0;
        size_t part = room - got < ROOM ? room - got : ROOM;
        int result = openssl.read(transport->ssl, to + got, (int)part);
        if (result <= 0) {
            return got ? (ssize_t)got : tls_failed(transport, result);
        }
        got += (size_t)result;
        /* What is left inside of OpenSSL wakes nobody. */
    } while (got < room && openssl.pending(transport->ssl) > 0);
    return (ssize_t)got;
}

static ssize_t tls_write(pier__postgres_transport *transport, const char *from, size_t size)
{
    openssl.clear_error();
    errno = 0;
    /* The same bytes again, and more behind them, where it could not be written: libpq has allowed
     * that the buffer moves. */
    int result = openssl.write(transport->ssl, from, size < ROOM ? (int)size : ROOM);
    return result > 0 ? result : tls_failed(transport, result);
}

/* ---- The socket --------------------------------------------------------------------------- */

static ssize_t read_some(pier__postgres_transport *transport, char *to, size_t room)
{
    ssize_t got;
    do {
        got = transport->ssl ? tls_read(transport, to, room)
                             : recv(transport->fd, to, room, MSG_DONTWAIT);
    } while (got < 0 && errno == EINTR);
    return got;
}

static ssize_t write_some(pier__postgres_transport *transport, const char *from, size_t size)
{
    return transport->ssl ? tls_write(transport, from, size)
                          : send(transport->fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void note_failure(pier__postgres_transport *transport, ssize_t result)
{
    if (*transport->why) {
        return;
    }
    if (result == 0) {
        snprintf(transport->why, sizeof transport->why, "the server closed the connection");
    } else {
        char buffer[80];
        snprintf(transport->why, sizeof transport->why, "%s",
                 strerror_r(errno, buffer, sizeof buffer));
    }
}

/* A thread that has the connection to itself waits for an answer by reading it, which saves a
 * system call, and the timer of poll(2), which costs more than that of a socket. Everybody else
 * says with each call that it is not to block. Not through TLS, where libpq's functions read. */
static void let_block(pier__postgres_transport *transport)
{
    const struct timeval most = {.tv_usec = PIER__PARK_QUICK_MS * 1000};
    int flags = fcntl(transport->fd, F_GETFL);
    struct sockaddr address = {.sa_family = AF_UNSPEC};
    socklen_t size = sizeof address;
    getsockname(transport->fd, &address, &size);
    transport->local = address.sa_family == AF_UNIX;
    transport->may_block =
        !transport->ssl && flags >= 0 &&
        setsockopt(transport->fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most) == 0 &&
        fcntl(transport->fd, F_SETFL, flags & ~O_NONBLOCK) == 0;
}

void pier__postgres_transport_give_back(pier__postgres_transport *transport)
{
    if (transport->may_block) {
        fcntl(transport->fd, F_SETFL, fcntl(transport->fd, F_GETFL) | O_NONBLOCK);
        transport->may_block = false;
    }
}

bool pier__postgres_transport_open(pier__postgres_transport *transport, PGconn *pg)
{
    memset(transport, 0, sizeof *transport);
    transport->fd = PQsocket(pg);
    transport->in_hint = ROOM;
    for (PGnotify *notify; (notify = PQnotifies(pg));) {
        PQfreemem(notify);
    }
    if (PQgssEncInUse(pg)) {
        snprintf(transport->why, sizeof transport->why,
                 "sessions that GSSAPI encrypts cannot be used; use TLS, or gssencmode=disable");
        return false;
    }
    if (PQsslInUse(pg) && !find_tls(transport, pg)) {
        return false;
    }
    let_block(transport);
    return true;
}

void pier__postgres_transport_fini(pier__postgres_transport *transport)
{
    pier__free(transport->in);
    pier__free(transport->out);
    memset(transport, 0, sizeof *transport);
    transport->fd = -1;
}

/* ---- Sending ------------------------------------------------------------------------------ */

static void note_memory(pier__postgres_transport *transport)
{
    transport->short_of_memory = true;
    snprintf(transport->why, sizeof transport->why, "out of memory");
}

static bool make_out_room(pier__postgres_transport *transport, size_t size)
{
    if (transport->out_sent > 0) {
        memmove(transport->out, transport->out + transport->out_sent,
                transport->out_size - transport->out_sent);
        transport->out_size -= transport->out_sent;
        transport->out_sent = 0;
    }
    size_t room = transport->out_room ? transport->out_room : ROOM;
    while (room - transport->out_size < size) {
        room *= 2;
    }
    if (room == transport->out_room) {
        return true;
    }
    char *out = pier__realloc(transport->out, room);
    if (!out) {
        note_memory(transport);
        return false;
    }
    transport->out = out;
    transport->out_room = room;
    return true;
}

char *pier__postgres_transport_add(pier__postgres_transport *transport, size_t size)
{
    if (transport->short_of_memory ||
        (transport->out_room - transport->out_size < size && !make_out_room(transport, size))) {
        return NULL;
    }
    char *at = transport->out + transport->out_size;
    transport->out_size += size;
    return at;
}

char *pier__postgres_transport_refuse(pier__postgres_transport *transport)
{
    note_memory(transport);
    return NULL;
}

int pier__postgres_transport_flush(pier__postgres_transport *transport)
{
    if (transport->short_of_memory) {
        return -1;
    }
    while (transport->out_sent < transport->out_size) {
        ssize_t sent = write_some(transport, transport->out + transport->out_sent,
                                  transport->out_size - transport->out_sent);
        if (sent > 0) {
            transport->out_sent += (size_t)sent;
        } else if (sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            return 1;
        } else if (sent == 0 || errno != EINTR) {
            note_failure(transport, sent);
            return -1;
        }
    }
    transport->out_sent = transport->out_size = 0;
    return 0;
}

/* ---- Receiving ---------------------------------------------------------------------------- */

/* Nobody needs what stands before `in_keep`. */
static void close_up(pier__postgres_transport *transport)
{
    size_t gone = transport->in_keep;
    if (gone > 0) {
        memmove(transport->in, transport->in + gone, transport->in_size - gone);
        transport->in_keep = 0;
        transport->in_at -= gone;
        transport->in_size -= gone;
    }
}

static bool make_in_room(pier__postgres_transport *transport, size_t wanted)
{
    size_t room = transport->in_room ? transport->in_room : transport->in_hint;
    if (transport->in_keep == transport->in_size) {
        transport->in_keep = transport->in_at = transport->in_size = 0;
    }
    size_t needed = transport->in_at - transport->in_keep + wanted;
    if (transport->in && transport->in_room - transport->in_size >= transport->in_room / 2) {
        return true;
    }
    close_up(transport);
    /* What the peer says of a message's size is not believed at once: it is to send half of it
     * before there is room for the rest. */
    while (room - transport->in_size < room / 4 ||
           (room < needed && transport->in_size > room / 2)) {
        room *= 2;
    }
    if (room == transport->in_room) {
        return true;
    }
    char *in = pier__realloc(transport->in, room + 1);
    if (!in) {
        note_memory(transport);
        return false;
    }
    transport->in = in;
    transport->in_room = room;
    return true;
}

static pier__postgres_came receive(pier__postgres_transport *transport, size_t wanted, bool waits)
{
    if (!make_in_room(transport, wanted)) {
        return PIER__CAME_END;
    }
    char *to = transport->in + transport->in_size;
    size_t room = transport->in_room - transport->in_size;
    ssize_t got = waits ? recv(transport->fd, to, room, 0) : read_some(transport, to, room);
    if (got > 0) {
        transport->in_size += (size_t)got;
        transport->in_total += (size_t)got;
        return (size_t)got == room ? PIER__CAME_SOME : PIER__CAME_ALL;
    }
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) {
        return PIER__CAME_NOTHING;
    }
    note_failure(transport, got);
    return PIER__CAME_END;
}

pier__postgres_came pier__postgres_transport_receive(pier__postgres_transport *transport,
                                                     size_t wanted)
{
    return receive(transport, wanted, false);
}

pier__postgres_came pier__postgres_transport_await(pier__postgres_transport *transport,
                                                   size_t wanted)
{
    return receive(transport, wanted, true);
}

char *pier__postgres_transport_take(pier__postgres_transport *transport)
{
    size_t rest = transport->in_size - transport->in_at;
    size_t room = transport->in_hint;
    while (room < rest) {
        room *= 2;
    }
    char *in = pier__malloc(room + 1);
    if (!in) {
        return NULL;
    }
    char *taken = transport->in;
    memcpy(in, taken + transport->in_at, rest);
    taken[transport->in_at] = 0;
    transport->in = in;
    transport->in_keep = transport->in_at = 0;
    transport->in_size = rest;
    transport->in_room = room;
    return taken;
}

void pier__postgres_transport_expect(pier__postgres_transport *transport, size_t size)
{
    transport->in_hint = size < ROOM ? ROOM : size < EXPECTED_MAX ? size : EXPECTED_MAX;
}

void pier__postgres_transport_rest(pier__postgres_transport *transport)
{
    if (transport->in_room > ROOM_KEPT && transport->in_at == transport->in_size) {
        pier__free(transport->in);
        transport->in = NULL;
        transport->in_keep = transport->in_at = transport->in_size = transport->in_room = 0;
    }
    if (transport->out_room > ROOM_KEPT && transport->out_size == 0) {
        pier__free(transport->out);
        transport->out = NULL;
        transport->out_room = 0;
    }
}
