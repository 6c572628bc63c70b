/*
 * Limits, extensions, attached databases, and questions to a connection.
 */
#include "drivers/sqlite/connection.h"
#include "drivers/sqlite/error.h"
#include "drivers/sqlite/own.h"
#include "drivers/sqlite/registry.h"
#include "sdk/alloc.h"
#include "sync/ops.h"
#include <stdio.h>
#include <string.h>

#if SQLITE_VERSION_NUMBER < 3037000
#define sqlite3_total_changes64 sqlite3_total_changes
#endif

/* ---- Limits ------------------------------------------------------------------------------- */

enum { LIMITS = SQLITE_LIMIT_WORKER_THREADS + 1 };

static const pier__op_class limit_class = PIER__SQLITE_ASK_CLASS("pier_sqlite_limit", "int");
static const pier__op_class set_limit_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_set_limit", "int");

static const char *check_limit(int id)
{
    return id < 0 || id >= LIMITS ? "there is no such limit; see pier_sqlite_limit_id" : NULL;
}

static bool read_limit(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    own->base.count = sqlite3_limit(conn->sqlite, pier__sqlite_asked(own), -1);
    return true;
}

pier_future *pier__sqlite_limit_op(pier_db *db, pier_sqlite_limit_id id)
{
    return pier__sqlite_ask_op(&limit_class, db, read_limit, (int)id, check_limit((int)id));
}

int pier__sqlite_limit_apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    int before = sqlite3_limit(conn->sqlite, registration->number, registration->value);
    if (!registration->sequence) { /* it is not in the list yet */
        registration->answer = before;
    }
    return SQLITE_OK;
}

pier_future *pier__sqlite_set_limit_op(pier_db *db, pier_sqlite_limit_id id, int value)
{
    const char *refusal = check_limit((int)id);
    pier__sqlite_registration *registration =
        pier__sqlite_registration_new(PIER__SQLITE_LIMIT, NULL, NULL);
    if (registration) {
        registration->number = (int)id;
        registration->value = value;
    }
    return pier__sqlite_register_op(&set_limit_class, db, registration,
                                    refusal     ? refusal
                                    : value < 0 ? "the value is negative"
                                                : NULL);
}

/* ---- Extensions --------------------------------------------------------------------------- */

static const pier__op_class extension_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_load_extension", "int");

int pier__sqlite_extension_apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
#ifndef SQLITE_OMIT_LOAD_EXTENSION
    char *message = NULL;
    int code =
        sqlite3_load_extension(conn->sqlite, registration->name, registration->text, &message);
    if (code != SQLITE_OK) {
        pier_error_set(&conn->failure, PIER_ESQL, "the extension %.120s: %.250s",
                       registration->name, message ? message : sqlite3_errstr(code));
        conn->failure.origin = PIER_ORIGIN_SQLITE;
        conn->failure.native = code;
        sqlite3_free(message);
    }
    return code == SQLITE_OK ? SQLITE_OK : SQLITE_ERROR;
#else
    (void)registration;
    pier_error_set(&conn->failure, PIER_EINVAL, "this SQLite was built without extensions");
    return SQLITE_ERROR;
#endif
}

/* With copies of both texts; NULL: no memory. */
static pier__sqlite_registration *new_named(pier__sqlite_kind kind, const char *name,
                                            const char *text)
{
    pier__sqlite_registration *registration = pier__sqlite_registration_new(kind, NULL, NULL);
    if (registration) {
        registration->name = pier__strdup(name ? name : "");
        registration->text = text ? pier__strdup(text) : NULL;
        if (!registration->name || (text && !registration->text)) {
            pier__sqlite_registration_unref(registration);
            registration = NULL;
        }
    }
    return registration;
}

pier_future *pier__sqlite_load_extension_op(pier_db *db, const char *path, const char *entry_point)
{
    const char *refusal = NULL;
    if (!path || !*path) {
        refusal = "the path is empty";
    } else if (db && db->driver == &pier__sqlite_driver &&
               !((pier__sqlite_db *)db->root)->setup.extensions) {
        refusal = "extensions are not enabled; open the pool with ?extensions=on in its URL";
    }
    return pier__sqlite_register_op(&extension_class, db,
                                    new_named(PIER__SQLITE_EXTENSION, path, entry_point), refusal);
}

/* ---- Attached databases ------------------------------------------------------------------- */

static const pier__op_class attach_class = PIER__SQLITE_ASK_CLASS("pier_sqlite_attach", "int");
static const pier__op_class detach_class = PIER__SQLITE_ASK_CLASS("pier_sqlite_detach", "int");

static int run_attach(pier__sqlite_conn *conn, const pier__sqlite_registration *registration,
                      const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK) {
        sqlite3_bind_text(stmt, 1, registration->name, -1, SQLITE_STATIC);
        if (!registration->removes) {
            sqlite3_bind_text(stmt, 2, registration->text, -1, SQLITE_STATIC);
        }
        code = sqlite3_step(stmt);
    }
    if (code != SQLITE_DONE) {
        pier__sqlite_fail(conn, code, sql, "");
    }
    sqlite3_finalize(stmt);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

/* A database that is in use cannot be detached: on other connections that waits until it is not;
 * one that they have not got need not be. */
int pier__sqlite_attach_apply(pier__sqlite_conn *conn, pier__sqlite_registration *registration)
{
    if (!registration->removes) {
        return run_attach(conn, registration, "attach database ?2 as ?1");
    }
    bool listed = registration->sequence != 0;
    if (listed && sqlite3_db_readonly(conn->sqlite, registration->name) == -1) {
        return SQLITE_OK;
    }
    int code = run_attach(conn, registration, "detach database ?1");
    return code != SQLITE_OK && listed ? SQLITE_BUSY : code;
}

pier_future *pier__sqlite_attach_op(pier_db *db, const char *path, const char *schema)
{
    const char *refusal = !path                 ? "the path is NULL"
                          : !schema || !*schema ? "the name of the schema is empty"
                                                : NULL;
    char *fixed = path ? pier__sqlite_fixed_path(path, strlen(path)) : NULL;
    pier__sqlite_registration *registration =
        fixed ? new_named(PIER__SQLITE_ATTACHED, schema, fixed) : NULL;
    pier__free(fixed);
    return pier__sqlite_register_op(&attach_class, db, registration, refusal);
}

pier_future *pier__sqlite_detach_op(pier_db *db, const char *schema)
{
    pier__sqlite_registration *registration = new_named(PIER__SQLITE_ATTACHED, schema, NULL);
    if (registration) {
        registration->removes = true;
    }
    return pier__sqlite_register_op(&detach_class, db, registration,
                                    schema && *schema ? NULL : "the name of the schema is empty");
}

/* ---- Questions ---------------------------------------------------------------------------- */

static const pier__op_class in_transaction_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_in_transaction", "int");
static const pier__op_class total_changes_class =
    PIER__SQLITE_ASK_CLASS("pier_sqlite_total_changes", "int64_t");

static bool read_in_transaction(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    own->base.count = own->base.db->kind != PIER__DB_POOL && !sqlite3_get_autocommit(conn->sqlite);
    return true;
}

pier_future *pier__sqlite_in_transaction_op(pier_db *db)
{
    return pier__sqlite_ask_op(&in_transaction_class, db, read_in_transaction, 0, NULL);
}

static bool read_total_changes(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    own->base.count = sqlite3_total_changes64(conn->sqlite);
    return true;
}

pier_future *pier__sqlite_total_changes_op(pier_db *db)
{
    return pier__sqlite_ask_op(&total_changes_class, db, read_total_changes, 0, NULL);
}

void pier_sqlite_interrupt(pier_db *db)
{
    if (!db || db->driver != &pier__sqlite_driver) {
        return;
    }
    if (db->kind == PIER__DB_POOL) {
        atomic_fetch_add(&((pier__sqlite_db *)db)->registry.interrupts, 1);
    } else {
        atomic_fetch_add(&((pier__sqlite_conn *)db->conn)->interrupts, 1);
    }
}
