/*
 * A million rows of four columns from Postgres: libpq's whole result in binary against rows as they
 * come. Without a URL it starts a private cluster.
 */
#include "support.h"

#include <endian.h>
#include <libpq-fe.h>
#include <pier/pier.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { ROWS = 1000000 };

static const char sql[] = "select id, big, name, weight from bench_scan";

static void check(int64_t rows, int64_t sum, double weights)
{
    if (rows != ROWS || sum != (int64_t)ROWS * (ROWS + 1) || weights < 1) {
        bench_fail("postgres_scan: %lld rows, sum %lld", (long long)rows, (long long)sum);
    }
}

static uint64_t get64(const PGresult *result, int row, int column)
{
    uint64_t bits;
    memcpy(&bits, PQgetvalue(result, row, column), sizeof bits);
    return be64toh(bits);
}

struct sums {
    int64_t rows, sum;
    double weights;
};

static void add_rows(struct sums *sums, const PGresult *result)
{
    int rows = PQntuples(result);
    for (int row = 0; row < rows; row++) {
        uint32_t id;
        uint64_t bits = get64(result, row, 3);
        double weight;
        memcpy(&id, PQgetvalue(result, row, 0), sizeof id);
        memcpy(&weight, &bits, sizeof weight);
        sums->sum += be32toh(id) + (int64_t)get64(result, row, 1);
        sums->weights += weight + (PQgetvalue(result, row, 2)[0] == 'n');
    }
    sums->rows += rows;
}

static void run_raw(void *context, int64_t i)
{
    struct sums sums = {0};
    (void)i;
    PGresult *result = PQexecPrepared(context, "scan", 0, NULL, NULL, NULL, 1);
    add_rows(&sums, result);
    PQclear(result);
    check(sums.rows, sums.sum, sums.weights);
}

/* The floor of whoever streams with libpq. */
static void run_single_row(void *context, int64_t i)
{
    struct sums sums = {0};
    (void)i;
    PQsendQueryPrepared(context, "scan", 0, NULL, NULL, NULL, 1);
    PQsetSingleRowMode(context);
    for (PGresult *result; (result = PQgetResult(context)); PQclear(result)) {
        add_rows(&sums, result);
    }
    check(sums.rows, sums.sum, sums.weights);
}

static void run_fetch(void *context, int64_t i)
{
    struct sums sums = {0};
    (void)i;
    PQclear(PQexec(context, "begin read only"));
    PQclear(PQexec(context, "declare scan no scroll cursor for select id, big, name, weight "
                            "from bench_scan"));
    for (int rows = 1; rows;) {
        PGresult *result =
            PQexecParams(context, "fetch 2048 from scan", 0, NULL, NULL, NULL, NULL, 1);
        rows = PQntuples(result);
        add_rows(&sums, result);
        PQclear(result);
    }
    PQclear(PQexec(context, "commit"));
    check(sums.rows, sums.sum, sums.weights);
}

static void walk(pier_cursor *cursor)
{
    int64_t rows = 0, sum = 0;
    double weights = 0;
    pier_error err = {0};
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        sum += pier_row_int64(row, 0) + pier_row_int64(row, 1);
        weights += pier_row_double(row, 3) + (pier_row_text(row, 2)[0] == 'n');
    }
    if (pier_cursor_close(cursor, &err) < 0) {
        bench_fail("postgres_scan: %s", err.message);
    }
    check(rows, sum, weights);
}

static void run_cursor(void *context, int64_t i)
{
    (void)i;
    walk(pier_db_cursor(context, sql, NULL, NULL));
}

static void run_cursor_in_tx(void *context, int64_t i)
{
    (void)i;
    pier_db *tx = pier_db_begin(context, PIER_TX_OPTIONS(.read_only = true), NULL);
    walk(pier_db_cursor(tx, sql, NULL, NULL));
    pier_db_close(tx);
}

static PGconn *open_raw(const char *url)
{
    static const char insert[] =
        "insert into bench_scan"
        " select i, i, 'name of row ' || i, i * 0.5 from generate_series(1, 1000000) i";
    static const char *const script[] = {
        "set client_min_messages = warning",
        "drop table if exists bench_scan",
        "create unlogged table bench_scan(id int, big bigint, name text, weight float8)",
        insert,
        "vacuum analyze bench_scan",
    };
    PGconn *connection = PQconnectdb(url);
    for (size_t i = 0; i < sizeof script / sizeof script[0]; i++) {
        PGresult *result = PQexec(connection, script[i]);
        if (PQresultStatus(result) != PGRES_COMMAND_OK) {
            bench_fail("postgres_scan: %s", PQerrorMessage(connection));
        }
        PQclear(result);
    }
    PQclear(PQprepare(connection, "scan", sql, 0, NULL));
    return connection;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 1);
    pier_error err = {0};
    const char *url = options.url ? options.url : bench_postgres();
    PGconn *raw = open_raw(url);
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    if (!db) {
        bench_fail("postgres_scan: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"libpq", run_raw, raw},
        {"libpq_single_row", run_single_row, raw},
        {"libpq_fetch", run_fetch, raw},
        {"pier_cursor_next", run_cursor, db},
        {"pier_cursor_next_in_tx", run_cursor_in_tx, db},
    };
    bench_run("postgres_scan", &options, ways, sizeof ways / sizeof *ways);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    printf("peak resident memory: %ld MB\n", used.ru_maxrss / 1024);
    pier_runner_close(runner);
    PQfinish(raw);
    return 0;
}
