/*
 * A prepared point query to Postgres over a unix socket: blocking libpq (PQexecPrepared, binary)
 * against the blocking calls of Pier. Without a URL it starts a private cluster.
 */
#include "support.h"

#include <endian.h>
#include <libpq-fe.h>
#include <pier/pier.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 10000, INT8 = 20 };

static const char sql[] = "select id, name from bench_point where id = $1";

static int64_t key(int64_t i)
{
    return i * 7919 % ROWS + 1;
}

static void check(int64_t i, int64_t id, const char *name)
{
    if (id != key(i) || !name || strncmp(name, "name ", 5) != 0) {
        bench_fail("postgres_point: read row %lld for %lld", (long long)id, (long long)key(i));
    }
}

static void run_raw(void *context, int64_t i)
{
    uint64_t argument = htobe64((uint64_t)key(i)), id;
    const char *values[] = {(const char *)&argument};
    const int lengths[] = {sizeof argument}, formats[] = {1};
    char name[32];
    PGresult *result = PQexecPrepared(context, "point", 1, values, lengths, formats, 1);
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) != 1) {
        bench_fail("postgres_point: %s", PQerrorMessage(context));
    }
    memcpy(&id, PQgetvalue(result, 0, 0), sizeof id);
    size_t size = (size_t)PQgetlength(result, 0, 1);
    memcpy(name, PQgetvalue(result, 0, 1), size < sizeof name ? size + 1 : sizeof name);
    PQclear(result);
    check(i, (int64_t)be64toh(id), name);
}

static void run_fetch_into(void *context, int64_t i)
{
    pier_error err = {0};
    int64_t id = 0;
    char name[32];
    if (pier_db_fetch_into(context, sql, PIER_ARGS(key(i)),
                           PIER_INTO(&id, pier_into_buffer(name, sizeof name)), &err) != 1) {
        bench_fail("postgres_point: %s", err.message);
    }
    check(i, id, name);
}

static void run_fetch(void *context, int64_t i)
{
    pier_error err = {0};
    pier_result *result = pier_db_fetch(context, sql, PIER_ARGS(key(i)), &err);
    if (!result) {
        bench_fail("postgres_point: %s", err.message);
    }
    const pier_row *row = pier_result_row(result, 0);
    check(i, pier_row_int64(row, 0), pier_row_text(row, 1));
    pier_result_free(result);
}

static PGconn *open_raw(const char *url)
{
    static const char *const script[] = {
        "set client_min_messages = warning",
        "drop table if exists bench_point",
        "create table bench_point(id bigint primary key, name text)",
        "insert into bench_point select i, 'name ' || i from generate_series(1, 10000) i",
        "vacuum analyze bench_point",
    };
    PGconn *connection = PQconnectdb(url);
    for (size_t i = 0; i < sizeof script / sizeof script[0]; i++) {
        PGresult *result = PQexec(connection, script[i]);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            bench_fail("postgres_point: %s", PQerrorMessage(connection));
        }
        PQclear(result);
    }
    const Oid type = INT8;
    PGresult *result = PQprepare(connection, "point", sql, 1, &type);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        bench_fail("postgres_point: %s", PQerrorMessage(connection));
    }
    PQclear(result);
    return connection;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 4000);
    pier_error err = {0};
    const char *url = options.url ? options.url : bench_postgres();
    PGconn *raw = open_raw(url);
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    if (!db) {
        bench_fail("postgres_point: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"libpq", run_raw, raw},
        {"pier_db_fetch_into", run_fetch_into, db},
        {"pier_db_fetch", run_fetch, db},
    };
    bench_run("postgres_point", &options, ways, 3);
    pier_runner_close(runner);
    PQfinish(raw);
    return 0;
}
