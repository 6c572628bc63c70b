/*
 * A Postgres server that says anything: the input is what comes through the socket, the first byte
 * in which mood it is read. Build with -DPIER_BUILD_FUZZ=ON and clang; see docs/testing.md.
 */
#include "tests/support/answer.h"

enum { PIECE = 4096 };

static void read_all(const pier_result *block)
{
    volatile size_t sum = 0;
    for (size_t i = 0; i < pier_result_count(block); i++) {
        for (int k = 0; k < pier_result_columns(block); k++) {
            const char *text = pier_row_text(pier_result_row(block, i), k);
            sum = sum + (text ? strlen(text) : 0);
        }
    }
}

static void take_block(pier__postgres_conn *conn)
{
    pier_result *block =
        pier__postgres_rows(&conn->builder, &conn->transport, conn->columns, conn->kinds, NULL, 0);
    if (block) {
        read_all(block);
    }
    pier_result_free(block);
}

/* Some of it comes before anything is asked; the rest is the answer. Gives how much. */
static size_t hear_idle(listener *peer, const uint8_t *data, size_t size)
{
    pier__postgres_conn *conn = &peer->conn;
    size_t idle = size / 2 < PIECE ? size / 2 : PIECE;
    conn->syncs = 0;
    if (!listener_hear(peer, (const char *)data, idle) || pier__postgres_was_left(conn)) {
        conn->lost = true;
    }
    conn->syncs = 1;
    return idle;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static listener peer;
    if (size == 0 || !listener_open(&peer)) {
        return 0;
    }
    pier__postgres_conn *conn = &peer.conn;
    conn->keeping = data[0] & 1;
    conn->stream = (data[0] & 3) == 3;
    conn->goal = 2;
    conn->many.counting = data[0] & 4;
    peer.db.unnamed = data[0] & 8;
    size_t at = 1 + (data[0] & 16 ? hear_idle(&peer, data + 1, size - 1) : 0);
    while (at < size && !conn->answered && !conn->lost) {
        size_t piece = size - at < PIECE ? size - at : PIECE;
        if (!listener_hear(&peer, (const char *)data + at, piece)) {
            break;
        }
        at += piece;
        if (at == size) {
            listener_hang_up(&peer);
        }
        for (int i = 0; i < 8 && !conn->answered && !conn->lost; i++) {
            pier__postgres_receive(conn);
            if (conn->columns && conn->builder.count > 0 && conn->stream) {
                take_block(conn);
                pier__postgres_collect(conn);
            }
        }
    }
    if (conn->columns) {
        take_block(conn);
    }
    listener_close(&peer);
    return 0;
}
