/*
 * Images of databases in memory. Reading one is a copy from a database in memory that SQLite lays
 * over the caller's bytes, so that it works for files too, and as a whole or not at all.
 */
#include "drivers/sqlite/copy.h"
#include "drivers/sqlite/setup.h"
#include "sdk/buffer.h"
#include "sync/ops.h"
#include <string.h>

enum {
    HEADER = 100,     /* bytes of a database's header */
    VERSIONS_AT = 18, /* the two of them that are 2 for a write-ahead log and 1 for a journal */
};
static const int64_t SIZE_MAX_DEFAULT = INT64_C(1) << 30;

typedef struct serialize_op {
    pier__sqlite_own own; /* first */
    int64_t size_max;
} serialize_op;

static void drop_bytes(pier__op *op)
{
    pier_buffer_free(op->result.pointer);
}

static void serialize_fini(pier__op *base)
{
    pier_buffer_free(((pier__db_op *)base)->product);
    pier__db_op_fini(base);
}

static const pier__op_class serialize_class =
    PIER__SQLITE_CLASS("pier_sqlite_serialize", "pier_buffer *", sizeof(serialize_op),
                       .drop = drop_bytes, .fini = serialize_fini);
static const pier__op_class deserialize_class =
    PIER__SQLITE_CLASS("pier_sqlite_deserialize", "int64_t", sizeof(pier__sqlite_own),
                       .own = pier__db_op_own, .fini = pier__db_op_fini);

/* ---- Writing ------------------------------------------------------------------------------ */

static bool measure(pier__sqlite_conn *conn, sqlite3_int64 *size)
{
    static const char sql[] = "select page_count * page_size from pragma_page_count, "
                              "pragma_page_size";
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    code = code == SQLITE_OK ? sqlite3_step(stmt) : code;
    if (code == SQLITE_ROW) {
        *size = sqlite3_column_int64(stmt, 0);
    } else {
        pier__sqlite_fail(conn, code, sql, sql);
    }
    sqlite3_finalize(stmt);
    return code == SQLITE_ROW;
}

static bool serialize_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    serialize_op *op = (serialize_op *)own;
    sqlite3_int64 size = 0;
    if (!measure(conn, &size)) {
        return false;
    }
    if (size > op->size_max) {
        return pier__sqlite_refuse(conn, PIER_ERANGE,
                                   "the database has %lld bytes, and size_max is %lld",
                                   (long long)size, (long long)op->size_max);
    }
    unsigned char *data = sqlite3_serialize(conn->sqlite, "main", &size, 0);
    if (!data && !size) { /* nothing has been written to it */
        own->base.product = pier__buffer_new(0);
        return own->base.product || pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
    }
    if (!data) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory for an image of %lld bytes",
                                   (long long)size);
    }
    if (size >= HEADER) {
        data[VERSIONS_AT] = data[VERSIONS_AT + 1] = 1;
    }
    own->base.product = pier__buffer_adopt(data, (size_t)size, sqlite3_free);
    return own->base.product || pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory");
}

pier_future *pier__sqlite_serialize_op(pier_db *db, int64_t size_max)
{
    pier__op *failed = NULL;
    serialize_op *op = pier__sqlite_own_new(&serialize_class, db, serialize_run, &failed);
    if (!op) {
        return failed;
    }
    if (size_max < 0) {
        return pier__op_refuse(&op->own.base.op, PIER_EINVAL,
                               "pier_sqlite_serialize: size_max is negative");
    }
    op->size_max = size_max ? size_max : SIZE_MAX_DEFAULT;
    return &op->own.base.op;
}

/* ---- Reading ------------------------------------------------------------------------------ */

/* What SQLite may keep: the caller's bytes, or a copy of them in which a database with a log has
 * become one without, since a database in memory can have none. NULL: no memory. */
static void *readable(const void *data, size_t size, unsigned *flags)
{
    const unsigned char *bytes = data;
    *flags = SQLITE_DESERIALIZE_READONLY;
    if (size < HEADER || (bytes[VERSIONS_AT] != 2 && bytes[VERSIONS_AT + 1] != 2)) {
        return (void *)data;
    }
    unsigned char *copy = sqlite3_malloc64(size);
    if (copy) {
        memcpy(copy, data, size);
        copy[VERSIONS_AT] = copy[VERSIONS_AT + 1] = 1;
        *flags |= SQLITE_DESERIALIZE_FREEONCLOSE;
    }
    return copy;
}

/* False: the connection's failure is filled. */
static bool lay_over(pier__sqlite_conn *conn, sqlite3 *from, const pier__db_op *op)
{
    unsigned flags;
    if (!op->sql_size) {
        return true; /* the image of an empty database, as `from` is one */
    }
    void *data = readable(op->sql, op->sql_size, &flags);
    if (!data) {
        return pier__sqlite_refuse(conn, PIER_ENOMEM, "out of memory for an image of %zu bytes",
                                   op->sql_size);
    }
    sqlite3_int64 size = (sqlite3_int64)op->sql_size;
    int code = sqlite3_deserialize(from, "main", data, size, size, flags);
    if (code == SQLITE_OK) {
        code = sqlite3_exec(from, "select 1 from sqlite_master limit 0", NULL, NULL, NULL);
    }
    return code == SQLITE_OK || pier__sqlite_copy_fail(conn, from, code, "the image");
}

static bool deserialize_run(pier__sqlite_conn *conn, pier__sqlite_own *own)
{
    static const pier_sqlite_backup_options in_steps = {
        .struct_size = sizeof in_steps,
        .pages = 1000,
    };
    if (!pier__sqlite_copy_may_replace(conn, conn, "the database") ||
        !pier__sqlite_check_file(conn)) {
        return false;
    }
    sqlite3 *from = NULL;
    int code =
        sqlite3_open_v2(":memory:", &from, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    bool done = code == SQLITE_OK ? lay_over(conn, from, &own->base) &&
                                        pier__sqlite_copy_all(conn, conn->sqlite, from, &in_steps,
                                                              &own->base.count)
                                  : pier__sqlite_copy_fail(conn, from, code, "the image");
    sqlite3_close(from);
    return done;
}

pier_future *pier__sqlite_deserialize_op(pier_db *db, const void *data, size_t size)
{
    pier__op *failed = NULL;
    pier__sqlite_own *own = pier__sqlite_own_new(&deserialize_class, db, deserialize_run, &failed);
    if (!own) {
        return failed;
    }
    if (size && (!data || size < HEADER)) {
        return pier__op_refuse(&own->base.op, PIER_EINVAL,
                               "pier_sqlite_deserialize: %zu bytes are no image of a database",
                               data ? size : 0);
    }
    own->base.sql = data ? data : "";
    own->base.sql_size = size;
    return &own->base.op;
}
