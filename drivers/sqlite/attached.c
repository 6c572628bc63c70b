/*
 * What stays open on a connection between requests, and the making of requests that only this
 * driver has.
 */
#include "drivers/sqlite/attached.h"

#include "sdk/alloc.h"
#include <stdarg.h>

void pier__sqlite_attach(pier__sqlite_conn *conn, pier__sqlite_attached *attached)
{
    atomic_init(&attached->refs, 2);
    attached->next = conn->attached;
    conn->attached = attached;
}

void pier__sqlite_attached_unref(pier__sqlite_attached *attached)
{
    if (attached && atomic_fetch_sub_explicit(&attached->refs, 1, memory_order_acq_rel) == 1) {
        pier__free(attached);
    }
}

/* Takes out and ends what stands at `*at` in the list. */
static void end_at(pier__sqlite_attached **at, bool forked)
{
    pier__sqlite_attached *attached = *at;
    *at = attached->next;
    attached->ended = true;
    if (!forked) {
        attached->end(attached);
    }
    pier__sqlite_attached_unref(attached);
}

void pier__sqlite_detach(pier__sqlite_conn *conn, pier__sqlite_attached *attached)
{
    for (pier__sqlite_attached **at = &conn->attached; *at; at = &(*at)->next) {
        if (*at == attached) {
            end_at(at, false);
            return;
        }
    }
}

void pier__sqlite_attached_reclaim(pier__sqlite_conn *conn)
{
    for (pier__sqlite_attached **at = &conn->attached; *at;) {
        if (atomic_load_explicit(&(*at)->refs, memory_order_acquire) == 1) {
            end_at(at, false);
        } else {
            at = &(*at)->next;
        }
    }
}

void pier__sqlite_attached_end_all(pier__sqlite_conn *conn, bool forked)
{
    while (conn->attached) {
        end_at(&conn->attached, forked);
    }
}

/* ---- Requests of this driver's own -------------------------------------------------------- */

void *pier__sqlite_own_new(const pier__op_class *cls, pier_db *db,
                           bool (*run)(pier__sqlite_conn *conn, pier__sqlite_own *own),
                           pier__op **failed)
{
    if (!db) {
        *failed = pier__op_null();
        return NULL;
    }
    pier__sqlite_own *own = (pier__sqlite_own *)pier__db_op_new(cls, PIER__OWN, db, failed);
    if (own && db->driver != &pier__sqlite_driver) {
        *failed = pier__op_refuse(&own->base.op, PIER_EINVAL, "%s: %s is no SQLite database",
                                  cls->name, db->root->name);
        return NULL;
    }
    if (own) {
        own->run = run;
    }
    return own;
}

bool pier__sqlite_refuse(pier__sqlite_conn *conn, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    pier__error_setv(&conn->failure, status, format, list);
    va_end(list);
    return false;
}
