/*
 * Idle connections whose session has ended while nobody used them: the pool's keeper looks for them
 * from time to time, so that they are noticed and replaced before somebody needs one.
 */
#include "sdk/db.h"

static bool stirs(const pier__pooled *thing)
{
    const pier__conn *conn = (const pier__conn *)thing;
    return conn->db->driver->conn_stirs(conn);
}

void pier__db_look_at_idle(pier_db *root)
{
    if (!root->driver->conn_stirs) {
        return;
    }
    pier__pooled *next = pier__pool_take_those(&root->pool, stirs);
    while (next) {
        pier__conn *conn = (pier__conn *)next;
        next = next->next;
        conn->pooled.next = NULL;
        conn->pooled.was_reset = false; /* counted before */
        if (root->driver->conn_left(conn) || !pier__pool_give(&root->pool, &conn->pooled)) {
            pier__conn_end(conn);
        }
    }
}
