#ifndef PIER_TESTS_SUPPORT_ANSWER_H
#define PIER_TESTS_SUPPORT_ANSWER_H
/*
 * A connection of the Postgres driver without a server: what a test writes into a socket is what
 * the server says.
 */
#include "drivers/postgres/conn.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What a server says, message by message. */
typedef struct answer {
    char bytes[64 * 1024];
    size_t size;
} answer;

static inline void answer_put(answer *to, char letter, const void *body, size_t size)
{
    char *at = to->bytes + to->size;
    uint32_t length = (uint32_t)size + 4;
    at[0] = letter;
    at[1] = (char)(length >> 24);
    at[2] = (char)(length >> 16);
    at[3] = (char)(length >> 8);
    at[4] = (char)length;
    if (size > 0) {
        memcpy(at + 5, body, size);
    }
    to->size += size + 5;
}

/* A string literal as a body, without the zero byte that C puts behind it. */
#define ANSWER(to, letter, literal) answer_put(to, letter, literal, sizeof(literal) - 1)

/* Two columns in text: "id" is an int4, "name" a text. */
#define ANSWER_COLUMNS                                                                             \
    "\0\2id\0\0\0\0\0\0\0\0\0\0\27\0\4\377\377\377\377\0\0"                                        \
    "name\0\0\0\0\0\0\0\0\0\0\31\377\377\377\377\377\377\0\0"

typedef struct listener {
    pier__postgres_db db;
    pier__postgres_conn conn;
    int server; /* the other end of its socket */
} listener;

/* One that waits for the answer to a statement whose rows it wants. False: the system has no
 * socket. */
static inline bool listener_open(listener *self)
{
    int ends[2];
    memset(self, 0, sizeof *self);
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends)) {
        return false;
    }
    self->db.base.name = (char *)"a test";
    self->server = ends[1];
    self->conn.base.db = &self->db.base;
    self->conn.fd = self->conn.transport.fd = ends[0];
    self->conn.transport.in_hint = 64;
    self->conn.tx = 'I';
    self->conn.syncs = 1;
    self->conn.keeping = true;
    return true;
}

static inline void listener_close(listener *self)
{
    pier__postgres_conn *conn = &self->conn;
    close(conn->fd);
    if (self->server >= 0) {
        close(self->server);
    }
    conn->stream = 0;
    pier__postgres_results_clear(conn);
    pier__postgres_said_clear(&conn->said);
    pier__postgres_builder_fini(&conn->builder);
    pier__postgres_transport_fini(&conn->transport);
}

/* The server says that. */
static inline bool listener_hear(listener *self, const char *bytes, size_t size)
{
    return write(self->server, bytes, size) == (ssize_t)size;
}

static inline void listener_hang_up(listener *self)
{
    close(self->server);
    self->server = -1;
}

#endif
