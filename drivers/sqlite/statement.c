/*
 * Statements: preparing, caching, binding.
 */
#include "drivers/sqlite/statement.h"

#include "drivers/sqlite/error.h"
#include "drivers/sqlite/sql.h"
#include "sdk/alloc.h"
#include <math.h>
#include <string.h>

/* ---- Making and ending -------------------------------------------------------------------- */

void pier__sqlite_statement_unref(pier__sqlite_statement *statement)
{
    if (!statement || atomic_fetch_sub_explicit(&statement->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    sqlite3_finalize(statement->stmt);
    pier__sqlite_names_unref(statement->names);
    pier__free(statement->arguments);
    pier__free(statement);
}

/* SQLite numbers parameters as they come: in `select $2, $1` the first one is $2. */
static bool map_parameter(pier__sqlite_statement *statement, int parameter, int argument,
                          pier_error *err)
{
    if (argument == parameter && !statement->arguments) {
        return true;
    }
    if (!statement->arguments) {
        size_t count = (size_t)statement->parameters;
        statement->arguments = pier__malloc(count * sizeof *statement->arguments);
        if (!statement->arguments) {
            pier_error_set(err, PIER_ENOMEM, "out of memory");
            return false;
        }
        for (int i = 0; i < parameter; i++) {
            statement->arguments[i] = i;
        }
    }
    statement->arguments[parameter] = argument;
    return true;
}

static bool read_parameters(pier__sqlite_statement *statement, pier_error *err)
{
    bool marks = false, numbers = false, names = false;
    for (int i = 0; i < statement->parameters; i++) {
        int number =
            pier__sqlite_sql_argument(sqlite3_bind_parameter_name(statement->stmt, i + 1), err);
        if (number < 0) {
            return false;
        }
        *(number == PIER__SQLITE_NAMED ? &names : number ? &numbers : &marks) = true;
        if (marks + numbers + names > 1) {
            pier_error_set(err, PIER_EINVAL,
                           "parameters written ?, $1 and :name are mixed; write $1, $2, ... only, "
                           "or names only");
            return false;
        }
        number = number && !names ? number : i + 1;
        if (!map_parameter(statement, i, number - 1, err)) {
            return false;
        }
        statement->needed = number > statement->needed ? number : statement->needed;
    }
    statement->named = names;
    return true;
}

static pier__sqlite_statement *new_statement(const char *sql, size_t size)
{
    pier__sqlite_statement *statement = pier__malloc(sizeof *statement + size + 1);
    if (statement) {
        memset(statement, 0, sizeof *statement);
        memcpy(statement->sql, sql, size);
        statement->sql[size] = 0;
        statement->sql_size = size;
        atomic_init(&statement->refs, 1);
    }
    return statement;
}

/* Looks at what was prepared: exactly one statement, with parameters that can be bound. */
static bool check_statement(pier__sqlite_statement *statement, const char *tail, pier_error *err)
{
    if (!statement->stmt) {
        pier_error_set(err, PIER_EINVAL, "there is no statement in the SQL");
        return false;
    }
    if (*pier__sqlite_sql_skip(tail)) {
        pier_error_set(err, PIER_EINVAL,
                       "there is a second statement in the SQL; use pier_db_execute_script");
        return false;
    }
    statement->parameters = sqlite3_bind_parameter_count(statement->stmt);
    statement->read_only = sqlite3_stmt_readonly(statement->stmt);
    statement->inserts = !statement->read_only && pier__sqlite_sql_inserts(statement->sql);
    return read_parameters(statement, err);
}

/* Errors of ours get the beginning of the statement behind them, as SQLite's do. */
static void add_excerpt(pier_error *err, const char *sql)
{
    char excerpt[PIER__SQLITE_EXCERPT];
    pier__sqlite_sql_excerpt(excerpt, sql);
    if (*excerpt) {
        pier__sqlite_error_append(err, ": ");
        pier__sqlite_error_append(err, excerpt);
    }
}

/* `flags` are those of sqlite3_prepare_v3. */
static pier__sqlite_statement *prepare(sqlite3 *sqlite, const char *sql, size_t size,
                                       unsigned flags, pier_error *err)
{
    pier__sqlite_statement *statement = size < INT32_MAX ? new_statement(sql, size) : NULL;
    if (!statement) {
        pier_error_set(err, PIER_ENOMEM, "out of memory for a statement of %zu bytes", size);
        return NULL;
    }
    const char *tail;
    int code =
        sqlite3_prepare_v3(sqlite, statement->sql, (int)size + 1, flags, &statement->stmt, &tail);
    if (code != SQLITE_OK) {
        pier__sqlite_error(err, sqlite, code, statement->sql, statement->sql);
    } else if (check_statement(statement, tail, err)) {
        return statement;
    } else {
        add_excerpt(err, statement->sql);
    }
    pier__sqlite_statement_unref(statement);
    return NULL;
}

/* ---- The cache ---------------------------------------------------------------------------- */

/* FNV-1a over words: statements differ, if at all, mostly near their end, so all of it counts. */
static uint32_t hash_sql(const char *sql, size_t size)
{
    uint64_t hash = UINT64_C(14695981039346656037) ^ size;
    for (; size >= 8; sql += 8, size -= 8) {
        uint64_t word;
        memcpy(&word, sql, 8);
        hash = (hash ^ word) * UINT64_C(1099511628211);
        hash ^= hash >> 29;
    }
    for (; size; sql++, size--) {
        hash = (hash ^ (unsigned char)*sql) * UINT64_C(1099511628211);
    }
    return (uint32_t)(hash ^ hash >> 32);
}

static pier__sqlite_statement **bucket(pier__sqlite_cache *cache, uint32_t hash)
{
    return &cache->buckets[hash % PIER__SQLITE_CACHE_BUCKETS];
}

static void link_newest(pier__sqlite_cache *cache, pier__sqlite_statement *statement)
{
    statement->newer = NULL;
    statement->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = statement;
    cache->newest = statement;
}

static void unlink_used(pier__sqlite_cache *cache, pier__sqlite_statement *statement)
{
    *(statement->newer ? &statement->newer->older : &cache->newest) = statement->older;
    *(statement->older ? &statement->older->newer : &cache->oldest) = statement->newer;
}

static void insert(pier__sqlite_cache *cache, pier__sqlite_statement *statement)
{
    pier__sqlite_statement **at = bucket(cache, statement->hash);
    statement->next_in_bucket = *at;
    *at = statement;
    statement->cached = true;
    link_newest(cache, statement);
    cache->count++;
}

static void take_out(pier__sqlite_cache *cache, pier__sqlite_statement *statement)
{
    pier__sqlite_statement **at = bucket(cache, statement->hash);
    while (*at != statement) {
        at = &(*at)->next_in_bucket;
    }
    *at = statement->next_in_bucket;
    statement->cached = false;
    unlink_used(cache, statement);
    cache->count--;
}

/* Ends the statements used longest ago, as far as they are not in use. */
static void evict(pier__sqlite_cache *cache)
{
    pier__sqlite_statement *statement = cache->oldest;
    while (statement && cache->count > cache->max) {
        pier__sqlite_statement *newer = statement->newer;
        if (!statement->in_use) {
            take_out(cache, statement);
            pier__sqlite_statement_unref(statement);
        }
        statement = newer;
    }
}

void pier__sqlite_cache_init(pier__sqlite_cache *cache, int max)
{
    cache->max = max;
}

void pier__sqlite_cache_fini(pier__sqlite_cache *cache)
{
    cache->max = 0;
    evict(cache);
}

void pier__sqlite_cache_forget(pier__sqlite_cache *cache)
{
    for (pier__sqlite_statement *at = cache->newest; at; at = at->older) {
        at->stmt = NULL;
    }
    pier__sqlite_cache_fini(cache);
}

void pier__sqlite_cache_flush(pier__sqlite_cache *cache)
{
    while (cache->newest) {
        pier__sqlite_statement *statement = cache->newest;
        take_out(cache, statement);
        if (!statement->in_use) {
            pier__sqlite_statement_unref(statement);
        }
    }
}

static bool is_same(const pier__sqlite_statement *statement, const char *sql, size_t size)
{
    return statement->sql_size == size && !memcmp(statement->sql, sql, size);
}

static pier__sqlite_statement *find(pier__sqlite_cache *cache, const char *sql, size_t size,
                                    uint32_t hash)
{
    for (pier__sqlite_statement *at = *bucket(cache, hash); at; at = at->next_in_bucket) {
        if (at->hash == hash && !at->in_use && is_same(at, sql, size)) {
            return at;
        }
    }
    return NULL;
}

static pier__sqlite_statement *prepare_uncached(sqlite3 *sqlite, const char *sql, size_t size,
                                                pier_error *err)
{
    if (pier__sqlite_sql_check_pragma(sql, err) < 0) {
        return NULL;
    }
    return prepare(sqlite, sql, size, 0, err);
}

/* Finds a statement or prepares it and puts it in, where it may make room by evicting others. */
static pier__sqlite_statement *look_up(pier__sqlite_cache *cache, sqlite3 *sqlite, const char *sql,
                                       size_t size, pier_error *err)
{
    uint32_t hash = hash_sql(sql, size);
    pier__sqlite_statement *statement = find(cache, sql, size, hash);
    if (statement) {
        unlink_used(cache, statement);
        link_newest(cache, statement);
        return statement;
    }
    if (pier__sqlite_sql_is_pragma(sql)) {
        return prepare_uncached(sqlite, sql, size, err);
    }
    statement = prepare(sqlite, sql, size, SQLITE_PREPARE_PERSISTENT, err);
    if (statement) {
        statement->hash = hash;
        insert(cache, statement);
    }
    return statement;
}

pier__sqlite_statement *pier__sqlite_cache_take(pier__sqlite_cache *cache, sqlite3 *sqlite,
                                                const char *sql, size_t size, pier_error *err)
{
    /* A loop runs the same statement over and over: no hash, no list. */
    pier__sqlite_statement *statement = cache->newest;
    if (!statement || statement->in_use || !is_same(statement, sql, size)) {
        statement = look_up(cache, sqlite, sql, size, err);
    }
    if (statement) {
        statement->in_use = true;
    }
    return statement;
}

void pier__sqlite_cache_give(pier__sqlite_cache *cache, pier__sqlite_statement *statement)
{
    /* What reset returns is the last step's failure, which has been reported. */
    sqlite3_reset(statement->stmt);
    if (statement->borrows) {
        sqlite3_clear_bindings(statement->stmt);
        statement->borrows = false;
    }
    statement->in_use = false;
    if (!statement->cached) {
        pier__sqlite_statement_unref(statement);
    } else if (cache->count > cache->max) {
        evict(cache);
    }
}

/* ---- Binding ------------------------------------------------------------------------------ */

static int bind_text(sqlite3_stmt *stmt, int index, const void *data, size_t size)
{
    return sqlite3_bind_text64(stmt, index, data ? data : "", size, SQLITE_STATIC, SQLITE_UTF8);
}

/* Beside SQLite's codes: it would take the value for something else, or not at all. */
enum { CANNOT_BIND = -1 };

static int bind_value(sqlite3_stmt *stmt, int index, const pier_value *value)
{
    switch (value->type) {
    case PIER_NULL:
        return sqlite3_bind_null(stmt, index);
    case PIER_BOOL:
        return sqlite3_bind_int(stmt, index, value->as.b);
    case PIER_INT64:
        return sqlite3_bind_int64(stmt, index, value->as.i);
    case PIER_DOUBLE:
        return isnan(value->as.d) ? CANNOT_BIND : sqlite3_bind_double(stmt, index, value->as.d);
    case PIER_TEXT:
    case PIER_NUMERIC: /* becomes a number where the column's affinity says so */
        return bind_text(stmt, index, value->as.p.data, value->as.p.size);
    case PIER_BYTES:
        /* A NULL pointer would be SQL's NULL. */
        return sqlite3_bind_blob64(stmt, index, value->as.p.data ? value->as.p.data : "",
                                   value->as.p.size, SQLITE_STATIC);
    default:
        return CANNOT_BIND;
    }
}

/* Says why a value could not be bound. */
static bool fail_value(int code, const pier_value *value, size_t argument, pier_error *err)
{
    if (code != CANNOT_BIND) {
        pier_error_set(err, pier__sqlite_status(code), "argument $%zu: %s", argument + 1,
                       sqlite3_errstr(code));
        err->origin = PIER_ORIGIN_SQLITE;
        err->native = code;
    } else if (value->type == PIER_DOUBLE) {
        pier_error_set(err, PIER_EINVAL,
                       "argument $%zu is not a number, which SQLite would store as NULL; bind "
                       "pier_null() if that is meant",
                       argument + 1);
    } else {
        const char *why = value->type == PIER_INVALID ? value->as.why : NULL;
        pier_error_set(err, PIER_EINVAL, "argument $%zu cannot be bound: %s", argument + 1,
                       why ? why : "it has an unknown type");
    }
    return false;
}

static inline bool bind_one(pier__sqlite_statement *statement, int parameter,
                            const pier_value *value, size_t argument, pier_error *err)
{
    statement->borrows |= value->type >= PIER_TEXT;
    int code = bind_value(statement->stmt, parameter + 1, value);
    return code == SQLITE_OK || fail_value(code, value, argument, err);
}

static bool bind_all(pier__sqlite_statement *statement, const pier_args *args, pier_error *err)
{
    for (int i = 0; i < statement->parameters; i++) {
        size_t argument = (size_t)(statement->arguments ? statement->arguments[i] : i);
        if (!bind_one(statement, i, &args->values[argument], argument, err)) {
            return false;
        }
    }
    return true;
}

/* The argument of a name; args->count: there is none. Usually they are in the statement's order. */
static size_t find_name(const pier_args *args, const char *name, size_t likely)
{
    if (likely < args->count && !strcmp(args->names[likely], name)) {
        return likely;
    }
    size_t i = 0;
    while (i < args->count && strcmp(args->names[i], name) != 0) {
        i++;
    }
    return i;
}

/* Does the statement have a parameter of the name? */
static bool takes_name(const pier__sqlite_statement *statement, const char *name)
{
    for (int i = 1; i <= statement->parameters; i++) {
        if (!strcmp(sqlite3_bind_parameter_name(statement->stmt, i) + 1, name)) {
            return true;
        }
    }
    return false;
}

/* Each argument must be one that the statement takes, and come once. */
static bool check_names(const pier__sqlite_statement *statement, const pier_args *args,
                        pier_error *err)
{
    for (size_t i = 0; i < args->count; i++) {
        if (!takes_name(statement, args->names[i])) {
            pier_error_set(err, PIER_EINVAL, "the statement has no parameter named \"%.60s\"",
                           args->names[i]);
            return false;
        }
        if (find_name(args, args->names[i], args->count) != i) {
            pier_error_set(err, PIER_EINVAL, "the argument \"%.60s\" is given twice",
                           args->names[i]);
            return false;
        }
    }
    return true;
}

static bool bind_names(pier__sqlite_statement *statement, const pier_args *args, pier_error *err)
{
    bool in_order = args->count == (size_t)statement->parameters;
    for (int i = 0; i < statement->parameters; i++) {
        const char *name = sqlite3_bind_parameter_name(statement->stmt, i + 1);
        size_t argument = find_name(args, name + 1, (size_t)i);
        in_order = in_order && argument == (size_t)i;
        if (argument == args->count) {
            pier_error_set(err, PIER_EINVAL,
                           "the parameter %.60s has no argument; add it to PIER_NAMED", name);
            return false;
        }
        if (!bind_one(statement, i, &args->values[argument], argument, err)) {
            return false;
        }
    }
    return in_order || check_names(statement, args, err);
}

/* Names are given to what has names, and numbers to what has numbers. */
static bool check_kind(const pier__sqlite_statement *statement, const pier_args *args,
                       pier_error *err)
{
    size_t given = args ? args->count : 0;
    if (statement->named && given && !args->names) {
        pier_error_set(err, PIER_EINVAL,
                       "the parameter %.60s has a name; give the arguments with PIER_NAMED",
                       sqlite3_bind_parameter_name(statement->stmt, 1));
    } else if (!statement->named && given && args->names) {
        pier_error_set(err, PIER_EINVAL,
                       "the statement has no parameter named \"%.60s\"; write :%.60s, or give the "
                       "arguments with PIER_ARGS",
                       args->names[0], args->names[0]);
    } else if (!statement->named && given != (size_t)statement->needed) {
        pier_error_set(err, PIER_EINVAL, "the statement needs %d argument%s and was given %zu",
                       statement->needed, statement->needed == 1 ? "" : "s", given);
    } else {
        return true;
    }
    return false;
}

bool pier__sqlite_statement_bind(pier__sqlite_statement *statement, const pier_args *args,
                                 pier_error *err)
{
    static const pier_args none = {0, NULL, NULL};
    bool bound = check_kind(statement, args, err);
    if (bound && statement->named) {
        bound = bind_names(statement, args ? args : &none, err);
    } else if (bound && args) {
        bound = bind_all(statement, args, err);
    }
    if (!bound) {
        add_excerpt(err, statement->sql);
    }
    return bound;
}

/* ---- Rows --------------------------------------------------------------------------------- */

int pier__sqlite_statement_collect(pier__sqlite_statement *statement, pier__sqlite_builder *builder,
                                   size_t rows_max, size_t bytes_max)
{
    int code = sqlite3_step(statement->stmt);
    /* The first step may find that the schema has changed, and other columns with it. */
    int columns = sqlite3_column_count(statement->stmt);
    while (code == SQLITE_ROW) {
        if (!pier__sqlite_builder_add(builder, statement->stmt, columns)) {
            return SQLITE_NOMEM;
        }
        if (builder->rows >= rows_max || pier__sqlite_builder_bytes(builder) >= bytes_max) {
            break;
        }
        code = sqlite3_step(statement->stmt);
    }
    return code;
}

pier__sqlite_names *pier__sqlite_statement_names(pier__sqlite_statement *statement)
{
    /* A change of the schema can change the columns: `select *`. */
    int reprepared = sqlite3_stmt_status(statement->stmt, SQLITE_STMTSTATUS_REPREPARE, 0);
    if (statement->names && statement->reprepared != reprepared) {
        pier__sqlite_names_unref(statement->names);
        statement->names = NULL;
    }
    if (!statement->names) {
        statement->names = pier__sqlite_names_new(statement->stmt);
        statement->reprepared = reprepared;
    }
    return statement->names;
}
