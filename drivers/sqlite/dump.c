/*
 * Dumps. Each call of `produce` makes one statement in `text`; which kind comes next is the phase.
 * The statements that walk the schema and the rows are held by the connection as those of cursors
 * are, so that they end with it.
 */
#include "drivers/sqlite/dump.h"

#include "drivers/sqlite/error.h"
#include "drivers/sqlite/literal.h"
#include "drivers/sqlite/request.h"
#include "sdk/alloc.h"
#include <pier/async/sqlite_copy.h>
#include <stdio.h>
#include <string.h>

/* As blocks of cursors, but rows of a dump are longer. A statement is as long as SQLite can read at
 * most. */
enum { ROWS_MAX = 1024, BYTES_MAX = 256 * 1024, STATEMENT_MAX = 1000000000 };

typedef enum phase {
    BEGIN = 0,
    DEFER,
    USER_VERSION,
    APPLICATION_ID,
    TABLES, /* all of them before any row, which may refer to a later one */
    DATA,
    ROWS,
    SEQUENCE,
    SEQUENCE_ROWS,
    VIRTUALS,
    OTHERS,
    COMMIT,
    END
} phase;

struct pier__sqlite_dump {
    phase phase;
    bool began;                    /* the transaction is the dump's own */
    bool autoincrement;            /* some table counts */
    pier__sqlite_statement *walk;  /* of the schema */
    pier__sqlite_statement *rows;  /* of the table that `walk` stands on */
    pier__sqlite_statement *check; /* of numbers; taken and given back in each block */
    pier__sqlite_text insert;      /* INSERT INTO "t" VALUES( */
    pier__sqlite_text text;        /* the statement being made */
};

void pier__sqlite_dump_free(pier__sqlite_dump *dump)
{
    if (dump) {
        pier__sqlite_statement_unref(dump->walk);
        pier__sqlite_statement_unref(dump->rows);
        pier__sqlite_text_fini(&dump->insert);
        pier__sqlite_text_fini(&dump->text);
        pier__free(dump);
    }
}

/* ---- Statements --------------------------------------------------------------------------- */

static void let_go(pier__sqlite_conn *conn, pier__sqlite_statement **statement)
{
    if (*statement) {
        pier__sqlite_unhold(conn, *statement);
        *statement = NULL;
    }
}

static bool take(pier__sqlite_conn *conn, pier__sqlite_statement **statement, const char *sql)
{
    let_go(conn, statement);
    *statement = pier__sqlite_statement_begin(conn, sql, strlen(sql), NULL);
    if (!*statement) {
        return false;
    }
    pier__sqlite_hold(conn, *statement);
    return true;
}

/* SQLITE_ROW, SQLITE_DONE, or 0: the connection's failure is filled. */
static int step(pier__sqlite_conn *conn, const pier__sqlite_statement *statement)
{
    int code = sqlite3_step(statement->stmt);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        pier__sqlite_fail(conn, code, statement->sql, statement->sql);
        return 0;
    }
    return code;
}

static void set(pier__sqlite_dump *dump, const char *text)
{
    dump->text.size = 0;
    pier__sqlite_text_add_string(&dump->text, text);
}

/* ---- The schema --------------------------------------------------------------------------- */

/* Shadow tables are those of virtual ones, which know best how to make them. */
#define NOT_INTERNAL "sql is not null and substr(name, 1, 7) <> 'sqlite_'"
#define NOT_VIRTUAL "upper(substr(sql, 1, 14)) <> 'CREATE VIRTUAL'"
#define NOT_SHADOW                                                                                 \
    "name not in (select name from pragma_table_list where schema = 'main' and type = 'shadow')"

static const char tables_sql[] =
    "select name, sql from main.sqlite_master where type = 'table' and " NOT_INTERNAL
    " and " NOT_VIRTUAL " and " NOT_SHADOW " order by rowid";
/* Before 3.37 nobody says which tables are shadows; `produce` refuses virtual tables then. */
static const char old_tables_sql[] =
    "select name, sql from main.sqlite_master where type = 'table' and " NOT_INTERNAL
    " and " NOT_VIRTUAL " order by rowid";
static const char virtuals_sql[] =
    "select name, sql from main.sqlite_master where type = 'table' and " NOT_INTERNAL
    " and not " NOT_VIRTUAL " order by rowid";
static const char others_sql[] =
    "select name, sql from main.sqlite_master where type <> 'table' and " NOT_INTERNAL
    " order by case type when 'index' then 0 when 'view' then 1 else 2 end, rowid";
static const char sequence_sql[] =
    "select name, seq from main.sqlite_sequence where name in "
    "(select name from main.sqlite_master where type = 'table') order by rowid";

static bool knows_shadows(void)
{
    return sqlite3_libversion_number() >= 3037000;
}

/* Makes `insert` and gives the SELECT that reads the table: all columns but generated ones. */
static bool read_columns(pier__sqlite_conn *conn, pier__sqlite_dump *dump, const char *table,
                         pier__sqlite_text *select)
{
    static const char sql[] = "select name, hidden from pragma_table_xinfo($1, 'main')";
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, sql, -1, &stmt, NULL);
    if (code == SQLITE_OK) {
        code = sqlite3_bind_text(stmt, 1, table, -1, SQLITE_STATIC);
    }
    pier__sqlite_text names = {0};
    bool hidden = false;
    while ((code == SQLITE_OK || code == SQLITE_ROW) && (code = sqlite3_step(stmt)) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(stmt, 0);
        int counts = 0;
        if (sqlite3_column_int(stmt, 1) || !name) {
            hidden = true;
            continue;
        }
        pier__sqlite_text_add_string(&names, names.size ? "," : "");
        pier__sqlite_text_add_name(&names, name);
        sqlite3_table_column_metadata(conn->sqlite, "main", table, name, NULL, NULL, NULL, NULL,
                                      &counts);
        dump->autoincrement = dump->autoincrement || counts;
    }
    if (code != SQLITE_DONE) {
        pier__sqlite_fail(conn, code, sql, sql);
    }
    sqlite3_finalize(stmt);
    pier__sqlite_text_add_string(select, "select ");
    pier__sqlite_text_add(select, names.data, names.size);
    pier__sqlite_text_add_string(select, " from main.");
    pier__sqlite_text_add_name(select, table);
    /* An index that has all columns would give another order. */
    pier__sqlite_text_add(select, " not indexed", sizeof " not indexed");
    dump->insert.size = 0;
    pier__sqlite_text_add_string(&dump->insert, "INSERT INTO ");
    pier__sqlite_text_add_name(&dump->insert, table);
    if (hidden) {
        pier__sqlite_text_add_string(&dump->insert, "(");
        pier__sqlite_text_add(&dump->insert, names.data, names.size);
        pier__sqlite_text_add_string(&dump->insert, ")");
    }
    pier__sqlite_text_add_string(&dump->insert, " VALUES(");
    bool room = !names.failed && !select->failed && !dump->insert.failed;
    pier__sqlite_text_fini(&names);
    return code == SQLITE_DONE && (room || pier__sqlite_fail(conn, SQLITE_NOMEM, "", ""));
}

/* The statement that makes what `walk` stands on. */
static bool make_creation(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    const char *sql = (const char *)sqlite3_column_text(dump->walk->stmt, 1);
    if (!sql) {
        return pier__sqlite_fail(conn, SQLITE_NOMEM, "", "");
    }
    set(dump, sql);
    pier__sqlite_text_add_string(&dump->text, ";");
    return true;
}

static bool begin_rows(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    const char *name = (const char *)sqlite3_column_text(dump->walk->stmt, 0);
    pier__sqlite_text select = {0};
    bool done =
        name ? read_columns(conn, dump, name, &select) && take(conn, &dump->rows, select.data)
             : pier__sqlite_fail(conn, SQLITE_NOMEM, "", "");
    pier__sqlite_text_fini(&select);
    return done;
}

/* ---- Rows --------------------------------------------------------------------------------- */

static bool add_value(pier__sqlite_dump *dump, sqlite3_stmt *stmt, int column)
{
    char number[32];
    const void *data;
    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_INTEGER:
        snprintf(number, sizeof number, "%lld", (long long)sqlite3_column_int64(stmt, column));
        pier__sqlite_text_add_string(&dump->text, number);
        return true;
    case SQLITE_FLOAT:
        pier__sqlite_text_add_real(&dump->text, sqlite3_column_double(stmt, column),
                                   dump->check->stmt);
        return true;
    case SQLITE_TEXT:
        data = sqlite3_column_text(stmt, column);
        if (data) {
            pier__sqlite_text_add_text(&dump->text, data,
                                       (size_t)sqlite3_column_bytes(stmt, column));
        }
        return data != NULL;
    case SQLITE_BLOB:
        data = sqlite3_column_blob(stmt, column);
        pier__sqlite_text_add_bytes(&dump->text, data, (size_t)sqlite3_column_bytes(stmt, column));
        return data || !sqlite3_column_bytes(stmt, column);
    default:
        pier__sqlite_text_add_string(&dump->text, "NULL");
        return true;
    }
}

static bool make_row(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    sqlite3_stmt *stmt = dump->rows->stmt;
    int columns = sqlite3_column_count(stmt);
    dump->text.size = 0;
    pier__sqlite_text_add(&dump->text, dump->insert.data, dump->insert.size);
    for (int i = 0; i < columns; i++) {
        pier__sqlite_text_add_string(&dump->text, i ? "," : "");
        if (!add_value(dump, stmt, i)) {
            return pier__sqlite_fail(conn, SQLITE_NOMEM, "", "");
        }
    }
    pier__sqlite_text_add_string(&dump->text, ");");
    return true;
}

/* ---- Order -------------------------------------------------------------------------------- */

static bool read_number(pier__sqlite_conn *conn, const char *pragma, int64_t *number)
{
    sqlite3_stmt *stmt = NULL;
    int code = sqlite3_prepare_v2(conn->sqlite, pragma, -1, &stmt, NULL);
    code = code == SQLITE_OK ? sqlite3_step(stmt) : code;
    if (code == SQLITE_ROW) {
        *number = sqlite3_column_int64(stmt, 0);
    } else {
        pier__sqlite_fail(conn, code, pragma, pragma);
    }
    sqlite3_finalize(stmt);
    return code == SQLITE_ROW;
}

/* A number in the header, where it is not 0. */
static bool make_number(pier__sqlite_conn *conn, pier__sqlite_dump *dump, const char *pragma)
{
    int64_t number = 0;
    if (!read_number(conn, pragma, &number)) {
        return false;
    }
    dump->text.size = 0;
    if (number) {
        char text[64];
        snprintf(text, sizeof text, "PRAGMA %s=%lld;", strchr(pragma, '.') + 1, (long long)number);
        set(dump, text);
    }
    return true;
}

/* The snapshot is taken by the first statement that reads. */
static bool begin(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    if (sqlite3_get_autocommit(conn->sqlite)) {
        int code = sqlite3_exec(conn->sqlite, "begin", NULL, NULL, NULL);
        if (code != SQLITE_OK) {
            return pier__sqlite_fail(conn, code, "begin", "begin");
        }
        dump->began = true;
    }
    set(dump, "BEGIN TRANSACTION;");
    return true;
}

static bool walk_tables(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    return take(conn, &dump->walk, knows_shadows() ? tables_sql : old_tables_sql);
}

static bool begin_tables(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    if (!knows_shadows()) {
        if (!take(conn, &dump->walk, virtuals_sql)) {
            return false;
        }
        int code = step(conn, dump->walk);
        if (code == SQLITE_ROW) {
            pier_error_set(&conn->failure, PIER_EINVAL,
                           "a database with virtual tables can be dumped with SQLite 3.37 and "
                           "newer, and this is %s",
                           sqlite3_libversion());
        }
        if (code != SQLITE_DONE) {
            return false;
        }
    }
    return walk_tables(conn, dump);
}

static bool next_data(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    int code = step(conn, dump->walk);
    if (code == SQLITE_ROW) {
        dump->phase = ROWS;
        return begin_rows(conn, dump);
    }
    dump->phase = SEQUENCE;
    return code == SQLITE_DONE;
}

static bool next_row(pier__sqlite_conn *conn, pier__sqlite_dump *dump, phase after)
{
    int code = step(conn, dump->rows);
    if (code == SQLITE_ROW) {
        return make_row(conn, dump);
    }
    dump->phase = after;
    let_go(conn, &dump->rows);
    return code == SQLITE_DONE;
}

static bool begin_sequence(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    dump->phase = dump->autoincrement ? SEQUENCE_ROWS : VIRTUALS;
    if (!dump->autoincrement) {
        return take(conn, &dump->walk, virtuals_sql);
    }
    set(dump, "DELETE FROM sqlite_sequence;");
    dump->insert.size = 0;
    pier__sqlite_text_add_string(&dump->insert, "INSERT INTO \"sqlite_sequence\" VALUES(");
    return take(conn, &dump->walk, virtuals_sql) && take(conn, &dump->rows, sequence_sql);
}

static bool next_creation(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    int code = step(conn, dump->walk);
    if (code == SQLITE_ROW) {
        return make_creation(conn, dump);
    }
    if (code != SQLITE_DONE) {
        return false;
    }
    if (dump->phase == TABLES) {
        dump->phase = DATA;
        return walk_tables(conn, dump);
    }
    bool more = dump->phase == VIRTUALS;
    dump->phase = more ? OTHERS : COMMIT;
    return !more || take(conn, &dump->walk, others_sql);
}

/* Makes the next statement, or none, with the next phase. */
static bool produce(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    dump->text.size = 0;
    switch (dump->phase) {
    case BEGIN:
        dump->phase = DEFER;
        return begin(conn, dump);
    case DEFER:
        /* Rows come in the order of their tables; it holds until the COMMIT. */
        dump->phase = USER_VERSION;
        set(dump, "PRAGMA defer_foreign_keys=ON;");
        return true;
    case USER_VERSION:
        dump->phase = APPLICATION_ID;
        return make_number(conn, dump, "pragma main.user_version");
    case APPLICATION_ID:
        dump->phase = TABLES;
        return make_number(conn, dump, "pragma main.application_id") && begin_tables(conn, dump);
    case DATA:
        return next_data(conn, dump);
    case ROWS:
        return next_row(conn, dump, DATA);
    case SEQUENCE:
        return begin_sequence(conn, dump);
    case SEQUENCE_ROWS:
        return next_row(conn, dump, VIRTUALS);
    case TABLES:
    case VIRTUALS:
    case OTHERS:
        return next_creation(conn, dump);
    case COMMIT:
        dump->phase = END;
        set(dump, "COMMIT;");
        return true;
    case END:
    default:
        return true;
    }
}

/* ---- Blocks ------------------------------------------------------------------------------- */

void pier__sqlite_dump_end(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    let_go(conn, &dump->rows);
    let_go(conn, &dump->walk);
    if (dump->began && !sqlite3_get_autocommit(conn->sqlite)) {
        sqlite3_exec(conn->sqlite, "rollback", NULL, NULL, NULL);
    }
    dump->began = false;
    dump->phase = END;
}

static bool add_statement(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    if (dump->text.failed) {
        return pier__sqlite_fail(conn, SQLITE_NOMEM, "", "");
    }
    if (dump->text.size > STATEMENT_MAX) {
        pier_error_set(&conn->failure, PIER_ERANGE,
                       "a row needs a statement of %zu bytes, which SQLite could not read: %.100s",
                       dump->text.size, dump->insert.data);
        return false;
    }
    return !dump->text.size ||
           pier__sqlite_builder_add_text(&conn->builder, dump->text.data, dump->text.size) ||
           pier__sqlite_fail(conn, SQLITE_NOMEM, "", "");
}

static bool is_lost(const pier__sqlite_dump *dump)
{
    return (dump->walk && !dump->walk->stmt) || (dump->rows && !dump->rows->stmt);
}

static bool fill(pier__sqlite_conn *conn, pier__sqlite_dump *dump)
{
    while (dump->phase != END && conn->builder.rows < ROWS_MAX &&
           pier__sqlite_builder_bytes(&conn->builder) < BYTES_MAX) {
        if (pier__sqlite_is_interrupted(conn)) {
            return pier__sqlite_fail(conn, SQLITE_INTERRUPT, "", "");
        }
        if (!produce(conn, dump) || !add_statement(conn, dump)) {
            return false;
        }
    }
    return true;
}

bool pier__sqlite_dump_collect(pier__sqlite_conn *conn, pier__sqlite_cursor *cursor)
{
    static const char check[] = "select cast($1 as real)";
    pier__sqlite_dump *dump = cursor->dump;
    if (is_lost(dump)) {
        pier_error_set(&conn->failure, PIER_ECLOSED,
                       "the connection was closed while a dump was open on it");
        return false;
    }
    dump->check = pier__sqlite_cache_take(&conn->cache, conn->sqlite, check, sizeof check - 1,
                                          &conn->failure);
    if (!dump->check) {
        return false;
    }
    bool done = fill(conn, dump);
    pier__sqlite_cache_give(&conn->cache, dump->check);
    dump->check = NULL;
    if (done && dump->phase == END) {
        pier__sqlite_dump_end(conn, dump);
        cursor->base.ended = true;
    }
    return done;
}

/* ---- Public ------------------------------------------------------------------------------- */

pier_cursor *pier_sqlite_dump(pier_db *db, pier_error *err)
{
    if (db && db->driver != &pier__sqlite_driver) {
        pier_error_set(err, PIER_EINVAL, "pier_sqlite_dump: %s is no SQLite database",
                       db->root->name);
        return NULL;
    }
    /* The statement says where it goes, which is where a reader goes; it is never run. */
    pier_cursor *base = pier_db_cursor(db, "select sql from sqlite_master", NULL, err);
    if (!base) {
        return NULL;
    }
    pier__sqlite_cursor *cursor = (pier__sqlite_cursor *)base;
    cursor->dump = pier__calloc(1, sizeof *cursor->dump);
    cursor->names = pier__sqlite_names_of("sql");
    if (!cursor->dump || !cursor->names) {
        pier_error_set(err, PIER_ENOMEM, "pier_sqlite_dump: out of memory");
        pier__handle_leave(&base->handle);
        pier__cursor_unref(base);
        return NULL;
    }
    base->keeps_conn = true;
    return base;
}
