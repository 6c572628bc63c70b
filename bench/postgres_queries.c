/*
 * The queries of MagicStack's pgbench, and a point query, from many at once: threads of blocking
 * libpq with a connection each, binary, against as many threads of Pier's blocking calls on one
 * pool, and against as many tasks on its loop. One operation is a number of calls by each of them,
 * by which the script beside this file divides. Without a URL it starts a private cluster.
 */
#include "support.h"

#include <endian.h>
#include <libpq-fe.h>
#include <pier/pier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MANY = 1000, POINTS = 10000, WORKERS_MAX = 64 };
enum { BOOLOID = 16, INT8OID = 20, INT4OID = 23, TEXTOID = 25, FLOAT8OID = 701 };

/* ---- What is asked -------------------------------------------------------------------------- */

struct query {
    const char *name, *sql;
    /* How each column is read: i an integer, b a boolean, t as text, x as bytes. */
    const char *columns;
    int rows; /* of an answer */
    int ops;  /* in a round */
    const char *set_up;
    /* Of libpq's: binary arguments. Pier's are made in `ask`. */
    int arguments;
    Oid types[7];
};

static const struct query queries[] = {
    {"point",
     "select id, name from bench_point where id = $1",
     "it",
     1,
     1,
     "create table bench_point(id bigint primary key, name text);"
     "insert into bench_point select i, 'name ' || i from generate_series(1, 10000) i;"
     "analyze bench_point",
     1,
     {INT8OID}},
    {"pg_type",
     "select typname, typnamespace, typowner, typlen, typbyval, typcategory, typispreferred,"
     " typisdefined, typdelim, typrelid, typelem, typarray from pg_type"
     " where typtypmod = $1 and typisdefined = $2",
     "tiiibtbbtiii",
     0,
     3,
     NULL,
     2,
     {INT4OID, BOOLOID}},
    {"generate_series",
     "select i from generate_series(1, $1) as i",
     "i",
     1000,
     5,
     NULL,
     1,
     {INT4OID}},
    {"large_object",
     "select b from bench_bytes",
     "x",
     100,
     10,
     "create table bench_bytes(b bytea);"
     "insert into bench_bytes select repeat('a', 1000)::bytea from generate_series(1, 100)",
     0,
     {0}},
    {"arrays",
     "select a from bench_arrays",
     "t",
     100,
     5,
     "create table bench_arrays(a int[]);"
     "insert into bench_arrays select array(select generate_series(1, 100))"
     " from generate_series(1, 100)",
     0,
     {0}},
    {"batch",
     "insert into bench_batch values ($1, $2, $3, $4, $5, $6, $7)",
     "",
     0,
     1,
     "create unlogged table bench_batch(a int, b int, c int, d varchar, e float8, f int, g "
     "varchar)",
     7,
     {INT4OID, INT4OID, INT4OID, TEXTOID, FLOAT8OID, INT4OID, TEXTOID}},
    {"one_plus_one", "select 1 + 1", "i", 1, 1, NULL, 0, {0}},
};

static const struct query *query;
static const char *url;
static int workers = 10, connections;
static int calls_each; /* of a worker, in an operation */

static int64_t key(int64_t i)
{
    return i * 7919 % POINTS + 1;
}

static bool is(const char *name)
{
    return strcmp(query->name, name) == 0;
}

/* ---- libpq ---------------------------------------------------------------------------------- */

struct arguments {
    const char *values[7];
    int lengths[7], formats[7];
    uint32_t ints[4];
    uint64_t longs[1];
    char flag;
};

static void add(struct arguments *to, int at, const void *value, int length)
{
    to->values[at] = value;
    to->lengths[at] = length;
    to->formats[at] = 1;
}

static void fill(struct arguments *to, int64_t i)
{
    const double weight = 10.333;
    if (is("point")) {
        to->longs[0] = htobe64((uint64_t)key(i));
        add(to, 0, &to->longs[0], 8);
    } else if (is("pg_type")) {
        to->ints[0] = htobe32((uint32_t)-1);
        to->flag = 1;
        add(to, 0, &to->ints[0], 4);
        add(to, 1, &to->flag, 1);
    } else if (is("generate_series")) {
        to->ints[0] = htobe32(1000);
        add(to, 0, &to->ints[0], 4);
    } else if (is("batch")) {
        const uint32_t ints[] = {10, 11, 10, 12341234};
        for (int at = 0; at < 4; at++) {
            to->ints[at] = htobe32(ints[at]);
            add(to, at < 3 ? at : 5, &to->ints[at], 4);
        }
        memcpy(&to->longs[0], &weight, sizeof weight);
        to->longs[0] = htobe64(to->longs[0]);
        add(to, 3, "TESTTESTTEST", 12);
        add(to, 4, &to->longs[0], 8);
        add(to, 6, "123412341234", 12);
    }
}

static int64_t read_int(const char *value, int length)
{
    uint64_t number = 0;
    for (int at = 0; at < length; at++) {
        number = number << 8 | (unsigned char)value[at];
    }
    return length == 4 ? (int32_t)number : length == 2 ? (int16_t)number : (int64_t)number;
}

static int64_t touch_raw(const PGresult *result, int row, int column)
{
    const char *value = PQgetvalue(result, row, column);
    int length = PQgetlength(result, row, column);
    switch (query->columns[column]) {
    case 'i':
        return read_int(value, length);
    case 'b':
        return *value;
    default:
        return length ? value[length - 1] : 0;
    }
}

static void must_raw(bool held, PGconn *conn)
{
    if (!held) {
        bench_fail("postgres_queries: %s", PQerrorMessage(conn));
    }
}

static _Thread_local volatile int64_t sink;

static void check_rows(int rows)
{
    if (query->rows ? rows != query->rows : rows < 100) {
        bench_fail("postgres_queries: %d rows of %s", rows, query->name);
    }
}

/* All rows in one pipeline with one Sync. */
static void batch_raw(PGconn *conn, int64_t i)
{
    struct arguments a;
    fill(&a, i);
    must_raw(PQenterPipelineMode(conn), conn);
    for (int row = 0; row < MANY; row++) {
        must_raw(PQsendQueryPrepared(conn, "q", query->arguments, a.values, a.lengths, a.formats,
                                     1),
                 conn);
    }
    must_raw(PQpipelineSync(conn), conn);
    for (int row = 0; row < MANY; row++) {
        PGresult *result = PQgetResult(conn);
        must_raw(PQresultStatus(result) == PGRES_COMMAND_OK, conn);
        PQclear(result);
        PQgetResult(conn);
    }
    PQclear(PQgetResult(conn));
    must_raw(PQexitPipelineMode(conn), conn);
}

static void ask_raw(void *context, int64_t i)
{
    PGconn *conn = context;
    struct arguments a;
    if (is("batch")) {
        batch_raw(conn, i);
        return;
    }
    fill(&a, i);
    PGresult *result =
        PQexecPrepared(conn, "q", query->arguments, a.values, a.lengths, a.formats, 1);
    must_raw(PQresultStatus(result) == PGRES_TUPLES_OK, conn);
    int rows = PQntuples(result), columns = PQnfields(result);
    int64_t sum = 0;
    for (int row = 0; row < rows; row++) {
        for (int column = 0; column < columns; column++) {
            sum += touch_raw(result, row, column);
        }
    }
    sink = sum;
    check_rows(rows);
    PQclear(result);
}

static PGconn *open_raw(void)
{
    PGconn *conn = PQconnectdb(url);
    must_raw(PQstatus(conn) == CONNECTION_OK, conn);
    PGresult *result = PQprepare(conn, "q", query->sql, query->arguments, query->types);
    must_raw(PQresultStatus(result) == PGRES_COMMAND_OK, conn);
    PQclear(result);
    return conn;
}

static void set_up(void)
{
    PGconn *conn = PQconnectdb(url);
    must_raw(PQstatus(conn) == CONNECTION_OK, conn);
    char drop[] =
        "set client_min_messages = warning; drop table if exists bench_point, bench_bytes,"
        " bench_arrays, bench_batch";
    const char *const scripts[] = {drop, query->set_up};
    for (int at = 0; at < 2 && scripts[at]; at++) {
        PGresult *result = PQexec(conn, scripts[at]);
        must_raw(PQresultStatus(result) == PGRES_COMMAND_OK, conn);
        PQclear(result);
    }
    PQfinish(conn);
}

/* ---- Pier ----------------------------------------------------------------------------------- */

static pier_runner *runner;
/* Each way has sessions of its own, as libpq's threads have: a server that has just worked for the
 * loop sits on the loop's core, and would be slower for a thread until the scheduler has moved it.
 */
static pier_db *pool_of_threads, *pool_of_tasks;
enum { LEASES = 4 };
/* For tasks that share them: several queries are on the wire at once. */
static pier_db *leases[LEASES];

static int64_t touch(const pier_row *row, int column)
{
    size_t size;
    const char *text;
    switch (query->columns[column]) {
    case 'i':
        return pier_row_int64(row, column);
    case 'b':
        return pier_row_bool(row, column);
    case 'x':
        text = pier_row_bytes(row, column, &size);
        return size ? text[size - 1] : 0;
    default:
        text = pier_row_text(row, column);
        return text ? *text : 0;
    }
}

static pier_result *fetch(pier_db *db, int64_t i, pier_error *err)
{
    if (is("point")) {
        return pier_db_fetch(db, query->sql, PIER_ARGS(key(i)), err);
    }
    if (is("pg_type")) {
        return pier_db_fetch(db, query->sql, PIER_ARGS(-1, true), err);
    }
    if (is("generate_series")) {
        return pier_db_fetch(db, query->sql, PIER_ARGS(1000), err);
    }
    return pier_db_fetch(db, query->sql, NULL, err);
}

static void ask(void *context, int64_t i)
{
    pier_error err = {0};
    pier_db *db = context;
    if (is("batch")) {
        const pier_args *row =
            PIER_ARGS(10, 11, 10, "TESTTESTTEST", 10.333, 12341234, "123412341234");
        pier_args all[MANY];
        for (int at = 0; at < MANY; at++) {
            all[at] = *row;
        }
        if (pier_db_execute_many(db, query->sql, all, MANY, &err) != MANY) {
            bench_fail("postgres_queries: %s", err.message);
        }
        return;
    }
    pier_result *result = fetch(db, i, &err);
    if (!result) {
        bench_fail("postgres_queries: %s", err.message);
    }
    int64_t sum = 0;
    size_t count = pier_result_count(result);
    int columns = pier_result_columns(result);
    for (size_t at = 0; at < count; at++) {
        const pier_row *row = pier_result_row(result, at);
        for (int column = 0; column < columns; column++) {
            sum += touch(row, column);
        }
    }
    sink = sum;
    check_rows((int)count);
    pier_result_free(result);
}

/* ---- Many at once --------------------------------------------------------------------------- */

/* Threads that wait for each operation of the harness, and then make their calls. */
struct crew {
    void (*ask)(void *context, int64_t i);
    void *contexts[WORKERS_MAX];
    pthread_barrier_t start, end;
    int64_t i;
};

struct worker {
    struct crew *crew;
    int number;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct crew *crew = worker->crew;
    for (;;) {
        pthread_barrier_wait(&crew->start);
        int64_t first = (crew->i * workers + worker->number) * calls_each;
        for (int call = 0; call < calls_each; call++) {
            crew->ask(crew->contexts[worker->number], first + call);
        }
        pthread_barrier_wait(&crew->end);
    }
    return NULL;
}

/* `shared`: what all of them ask, or NULL for a libpq connection of each one's own. */
static void start_crew(struct crew *crew, void (*ask_one)(void *, int64_t), pier_db *shared)
{
    static struct worker all[2][WORKERS_MAX];
    struct worker *of = all[shared != NULL];
    crew->ask = ask_one;
    pthread_barrier_init(&crew->start, NULL, (unsigned)workers + 1);
    pthread_barrier_init(&crew->end, NULL, (unsigned)workers + 1);
    for (int at = 0; at < workers; at++) {
        pthread_t thread;
        crew->contexts[at] = shared ? (void *)shared : open_raw();
        of[at] = (struct worker){crew, at};
        if (pthread_create(&thread, NULL, work, &of[at]) != 0) {
            bench_fail("postgres_queries: cannot start a thread");
        }
        pthread_detach(thread);
    }
}

static void run_crew(void *context, int64_t i)
{
    struct crew *crew = context;
    crew->i = i;
    pthread_barrier_wait(&crew->start);
    pthread_barrier_wait(&crew->end);
}

struct calls {
    pier_db *db;
    int64_t first;
};

static pier_db *open_pool(int max)
{
    pier_error err = {0};
    pier_db *db = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = max), &err);
    if (!db) {
        bench_fail("postgres_queries: %s", err.message);
    }
    return db;
}

static int one_task(pier_task *self, void *arg, pier_error *err)
{
    const struct calls *calls = arg;
    (void)self;
    (void)err;
    for (int call = 0; call < calls_each; call++) {
        ask(calls->db, calls->first + call);
    }
    return 0;
}

/* `context`: the leases, or NULL for the pool. */
static void run_tasks(void *context, int64_t i)
{
    pier_db **shared = context;
    pier_error err = {0};
    struct calls calls[WORKERS_MAX];
    pier_group *group = pier_group_open(runner, NULL, &err);
    for (int at = 0; at < workers; at++) {
        calls[at] = (struct calls){shared ? shared[at % LEASES] : pool_of_tasks,
                                   (i * workers + at) * calls_each};
        pier_group_start(group, one_task, &calls[at]);
    }
    if (pier_group_close(group, &err) < 0) {
        bench_fail("postgres_queries: %s", err.message);
    }
}

/* ---- Setting up ----------------------------------------------------------------------------- */

static void choose(const struct bench_options *options)
{
    const char *name = options->work ? options->work : "point";
    for (size_t at = 0; at < sizeof queries / sizeof *queries; at++) {
        if (strcmp(queries[at].name, name) == 0) {
            query = &queries[at];
        }
    }
    workers = options->threads ? options->threads : workers;
    connections = options->connections ? options->connections : workers;
    if (!query || workers > WORKERS_MAX) {
        bench_fail("postgres_queries: --work is point, pg_type, generate_series, large_object,"
                   " arrays, batch or one_plus_one; --threads %d at most",
                   WORKERS_MAX);
    }
    /* So many that what begins and ends an operation, the waking of everybody, does not count. */
    calls_each = is("point") || is("one_plus_one") ? 1000 : 10;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 0);
    static struct crew raw, blocking;
    pier_error err = {0};
    char group[80];
    choose(&options);
    options.latency = false;
    options.ops = options.ops ? options.ops : query->ops;
    url = options.url ? options.url : bench_postgres();
    if (!options.list) {
        set_up();
        runner = pier_runner_open(NULL, &err);
        if (!runner) {
            bench_fail("postgres_queries: %s", err.message);
        }
        pool_of_threads = open_pool(connections);
        pool_of_tasks = open_pool(connections);
        pier_db *leased = open_pool(LEASES);
        for (int at = 0; at < LEASES; at++) {
            leases[at] = pier_db_lease(leased, &err);
        }
        start_crew(&raw, ask_raw, NULL);
        start_crew(&blocking, ask, pool_of_threads);
    }
    const struct bench_way ways[] = {
        {"libpq", run_crew, &raw},
        {"pier blocking", run_crew, &blocking},
        {"pier tasks", run_tasks, NULL},
        {"pier tasks, 4 leases", run_tasks, leases},
    };
    snprintf(group, sizeof group, "%s of %d x %d", query->name, workers, workers * calls_each);
    bench_run(group, &options, ways, sizeof ways / sizeof *ways);
    return 0;
}
