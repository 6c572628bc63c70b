#ifndef PIER_BENCH_SUPPORT_H
#define PIER_BENCH_SUPPORT_H
/*
 * The harness of the benchmarks: runs several ways to do the same work in turn, round by round, and
 * compares each with the first, which is the raw library.
 */
#include <stdbool.h>
#include <stdint.h>

/* One way to do the work. `run` does one operation, checks its outcome, and exits on failure. */
struct bench_way {
    const char *name;
    void (*run)(void *context, int64_t i);
    void *context;
};

/* Where the processes run. Left alone, the scheduler puts a client and its server on one core or on
 * two, for seconds at a time, and a round trip costs 12 us or 90 us accordingly. */
enum bench_place {
    BENCH_APART,    /* the bench on one core, the server that it starts on another */
    BENCH_TOGETHER, /* both on one core */
    BENCH_FREE      /* as the scheduler likes */
};

struct bench_options {
    int64_t ops;    /* in a round, of each way */
    int64_t warmup; /* operations before the first round */
    int rounds;
    bool latency;     /* take the time after each operation too */
    bool busy;        /* everything on one core, and another kept busy meanwhile */
    int place;        /* an enum bench_place */
    bool list;        /* only print the names of the ways */
    const char *only; /* one way alone */
    const char *work; /* one workload, where a program has several; NULL: its default */
    int threads;      /* 0: as many as the program likes */
    int connections;  /* 0: as many as threads */
    const char *json; /* a file for the figures */
    const char *url;  /* of the server; NULL: start one */
};

/* Reads the command line; prints the usage and exits where it is wrong. Puts this process where the
 * options say: call it first. `ops` is the default number of operations in a round: enough for
 * about a fifth of a second. */
struct bench_options bench_parse(int argc, char **argv, int64_t ops);

/* Runs the ways, the raw library first, prints a table and writes `options->json`. */
void bench_run(const char *group, const struct bench_options *options, const struct bench_way *ways,
               int count);

/* A server of the bench's own: a shell command whose first line of output is its URL. It must end
 * when its standard input does, which happens when this process ends, however that may be. Fork
 * before threads are started. Returns the URL, which lives as long as the process. */
const char *bench_server(const char *command);

/* The URL of a private Postgres cluster, started in the same way. */
const char *bench_postgres(void);

/* The top of the source tree, for scripts/local-postgres. */
const char *bench_source_dir(void);

/* Prints to standard error and exits with 1. */
_Noreturn void bench_fail(const char *format, ...) __attribute__((__format__(__printf__, 1, 2)));

#endif
