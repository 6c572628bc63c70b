/*
 * A thousand rows into Postgres over a unix socket, in one transaction: libpq's pipeline with one
 * Sync, every row a prepared statement with binary arguments, against pier_db_execute_many and a
 * writer. Without a URL it starts a private cluster.
 */
#include "support.h"

#include <endian.h>
#include <libpq-fe.h>
#include <pier/pier.h>
#include <stdio.h>
#include <string.h>

enum { ROWS = 1000, INT4 = 23, TEXT = 25, FLOAT8 = 701 };

static const char sql[] = "insert into bench_many(name, size, weight) values ($1, $2, $3)";

static const char *name_of(int row)
{
    static char names[ROWS][16];
    if (!names[row][0]) {
        snprintf(names[row], sizeof names[row], "name %d", row);
    }
    return names[row];
}

/* ---- libpq -------------------------------------------------------------------------------- */

static void send_raw(PGconn *connection, int row)
{
    const char *name = name_of(row);
    uint32_t size = htobe32((uint32_t)row);
    double number = row * 0.5;
    uint64_t weight;
    memcpy(&weight, &number, sizeof weight);
    weight = htobe64(weight);
    const char *values[] = {name, (const char *)&size, (const char *)&weight};
    const int lengths[] = {(int)strlen(name), sizeof size, sizeof weight}, formats[] = {1, 1, 1};
    if (!PQsendQueryPrepared(connection, "many", 3, values, lengths, formats, 0)) {
        bench_fail("postgres_many: %s", PQerrorMessage(connection));
    }
}

static void run_raw(void *context, int64_t i)
{
    (void)i;
    PGconn *connection = context;
    int done = 0;
    PQenterPipelineMode(connection);
    for (int row = 0; row < ROWS; row++) {
        send_raw(connection, row);
    }
    PQpipelineSync(connection);
    for (bool synced = false; !synced;) {
        PGresult *result = PQgetResult(connection);
        ExecStatusType status = result ? PQresultStatus(result) : PGRES_FATAL_ERROR;
        synced = status == PGRES_PIPELINE_SYNC;
        done += status == PGRES_COMMAND_OK && strcmp(PQcmdTuples(result), "1") == 0;
        PQclear(result);
    }
    PQexitPipelineMode(connection);
    if (done != ROWS) {
        bench_fail("postgres_many: %d rows: %s", done, PQerrorMessage(connection));
    }
}

/* ---- Pier --------------------------------------------------------------------------------- */

static void check(int64_t rows, const pier_error *err)
{
    if (rows != ROWS) {
        bench_fail("postgres_many: %lld rows: %s", (long long)rows, err->message);
    }
}

static void run_execute_many(void *context, int64_t i)
{
    (void)i;
    static pier_value values[ROWS][3];
    static pier_args rows[ROWS];
    pier_error err = {0};
    for (int row = 0; row < ROWS; row++) {
        values[row][0] = pier_text(name_of(row));
        values[row][1] = pier_int64(row);
        values[row][2] = pier_double(row * 0.5);
        rows[row] = (pier_args){3, values[row], NULL};
    }
    check(pier_db_execute_many(context, sql, rows, ROWS, &err), &err);
}

static void run_writer(void *context, int64_t i)
{
    (void)i;
    pier_error err = {0};
    pier_writer *writer = pier_db_writer(context, sql, &err);
    for (int row = 0; row < ROWS; row++) {
        pier_writer_add(writer, PIER_ARGS(name_of(row), row, row * 0.5));
    }
    check(pier_writer_close(writer, &err), &err);
}

/* ---- Both --------------------------------------------------------------------------------- */

/* Without an index or a log, so that the server does little. */
static PGconn *open_raw(const char *url)
{
    static const char *const script[] = {
        "set client_min_messages = warning",
        "drop table if exists bench_many",
        "create unlogged table bench_many(name text, size int, weight float8)",
    };
    PGconn *connection = PQconnectdb(url);
    for (size_t i = 0; i < sizeof script / sizeof script[0]; i++) {
        PGresult *result = PQexec(connection, script[i]);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            bench_fail("postgres_many: %s", PQerrorMessage(connection));
        }
        PQclear(result);
    }
    const Oid types[] = {TEXT, INT4, FLOAT8};
    PGresult *result = PQprepare(connection, "many", sql, 3, types);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        bench_fail("postgres_many: %s", PQerrorMessage(connection));
    }
    PQclear(result);
    return connection;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 20);
    pier_error err = {0};
    const char *url = options.url ? options.url : bench_postgres();
    PGconn *raw = open_raw(url);
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    if (!db) {
        bench_fail("postgres_many: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"libpq", run_raw, raw},
        {"pier_db_execute_many", run_execute_many, db},
        {"pier_writer", run_writer, db},
    };
    bench_run("postgres_many", &options, ways, 3);
    pier_runner_close(runner);
    PQfinish(raw);
    return 0;
}
