/*
 * Sending on the loop: later, with what else this round of it brings. Several requests of one
 * connection go in one piece, and those of several connections one right behind the other, when
 * the tasks that make them have run.
 *
 * While `corked` is set the turn is an operation's of the loop, whether its own request is among
 * those that are not sent or one behind it: nobody else uses the transport. Only of a connection
 * that is dead, which sends nothing any more, the turn may have gone on.
 */
#include "drivers/postgres/conn.h"

#include "sdk/loop_internal.h"

void pier__postgres_uncork(pier__postgres_conn *conn)
{
    if (!conn->corked) {
        return;
    }
    conn->corked = false;
    if (conn->base.dead) {
        return; /* whoever wanted it sent has ended, and a thread may have the turn by now */
    }
    conn->flushing = pier__postgres_transport_flush(&conn->transport) != 0;
    if (conn->flushing) {
        /* Or it is broken: whoever has the turn finds that, or waits until more can be sent. */
        pier__op *owner = pier__turn_owner_on_loop(&conn->base.turn);
        if (owner) {
            pier__op_wake(owner);
        }
    }
}

static void uncork(pier__post *post)
{
    pier__postgres_conn *conn =
        (pier__postgres_conn *)((char *)post - offsetof(pier__postgres_conn, uncork));
    post->run = NULL;
    pier__postgres_uncork(conn);
    pier__conn_unref(&conn->base);
}

void pier__postgres_cork(pier__postgres_conn *conn)
{
    conn->corked = conn->flushing = true;
    if (!conn->uncork.run) {
        conn->uncork.run = uncork;
        atomic_fetch_add(&conn->base.refs, 1);
        pier__loop_push_late_on_loop(conn->base.db->handle.runner, &conn->uncork);
    }
}
