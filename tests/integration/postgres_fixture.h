#ifndef PIER_TESTS_POSTGRES_FIXTURE_H
#define PIER_TESTS_POSTGRES_FIXTURE_H
/*
 * What the tests of Postgres share: one server for the program; for each test a runner, a pool, and
 * a connection of plain libpq that looks on.
 *
 * A scenario is a body without assertions, so that the same one runs on the test's thread and in a
 * task on the loop; what it found wrong is asserted on the test's thread.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/server.h"
#include <libpq-fe.h>
#include <pier/pier.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BOUND_MS = 20000 };
/* "At once", on a machine that is busy with other things. */
enum { AT_ONCE_MS = 2000 };

static struct support_postgres server;
static pier_runner *runner;
static pier_db *db; /* four connections at most */
static PGconn *observer;
static int fds_before, threads_before;

/* Where PIER_TEST_POSTGRES names a server: where this program's own database there comes from, and
 * what needs_own_server has put aside. */
static pier_testdb *source;
static struct {
    struct support_postgres server;
    PGconn *observer;
} aside;

/* What the observer sees: the first column of the first row; "" where there is none. */
static inline char *look(char *answer, size_t size, const char *sql)
{
    PGresult *result = PQexec(observer, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK && PQresultStatus(result) != PGRES_COMMAND_OK) {
        fprintf(stderr, "%s: %s", sql, PQresultErrorMessage(result));
    }
    snprintf(answer, size, "%s", PQntuples(result) ? PQgetvalue(result, 0, 0) : "");
    PQclear(result);
    return answer;
}

static inline int look_int(const char *sql)
{
    char answer[64];
    return atoi(look(answer, sizeof answer, sql));
}

struct awaited {
    const char *sql;
    int expected;
};

static inline bool is_seen(void *user_data)
{
    const struct awaited *awaited = user_data;
    return look_int(awaited->sql) == awaited->expected;
}

/* Waits until the observer sees that number. */
static inline bool await_int(const char *sql, int expected)
{
    struct awaited awaited = {sql, expected};
    return support_wait_until(is_seen, &awaited, BOUND_MS);
}

/* How many statements of others with this text run now. */
static inline bool await_running(const char *text, int count)
{
    char sql[256];
    snprintf(sql, sizeof sql,
             "select count(*) from pg_stat_activity where state = 'active' and pid <> "
             "pg_backend_pid() and query like '%%%s%%'",
             text);
    return await_int(sql, count);
}

/* Waits until the pool's connections are down to so many; they are told by their name. */
static inline bool await_connections(int count)
{
    char sql[160];
    snprintf(sql, sizeof sql,
             "select greatest(count(*), %d) from pg_stat_activity where application_name = 'pier'",
             count);
    return await_int(sql, count);
}

static inline int connect_observer(void)
{
    observer = PQconnectdb(server.url_unix);
    if (PQstatus(observer) != CONNECTION_OK) {
        fprintf(stderr, "%s", PQerrorMessage(observer));
        return -1;
    }
    PQclear(PQexec(observer, "set client_min_messages = warning"));
    /* It looks at this program's database alone: others may use the same server. */
    PQclear(PQexec(observer, "create temp view pg_stat_activity as select * from "
                             "pg_catalog.pg_stat_activity where datname = current_database()"));
    return 0;
}

static inline pier_db *open_pool(int pool_max)
{
    pier_error err = {0};
    pier_db *pool =
        pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = pool_max), &err);
    if (!pool) {
        fprintf(stderr, "%s\n", err.message);
    }
    return pool;
}

/* What a process makes once and keeps, libuv's descriptors and this thread's parker, is made before
 * the tests count. */
static inline int warm_up(void)
{
    pier_error err = {0};
    runner = pier_runner_open(NULL, NULL);
    pier_db *pool = open_pool(1);
    int64_t done = pier_db_execute(pool, "select pg_sleep(0.1)", NULL, &err);
    pier_runner_close(runner);
    return done < 0 ? -1 : 0;
}

static const char *const server_settings[] = {"max_connections=60", NULL};

/* A database of its own on the server of PIER_TEST_POSTGRES, which several programs may share. */
static inline int take_database(void)
{
    pier_error err = {0};
    source = server.external ? pier_testdb_open("postgresql", &err) : NULL;
    char *url = source ? pier_testdb_fresh(source, &err) : NULL;
    if (url) {
        snprintf(server.url_unix, sizeof server.url_unix, "%s", url);
        snprintf(server.url_tcp, sizeof server.url_tcp, "%s", url);
    } else if (server.external) {
        fprintf(stderr, "%s\n", err.message);
    }
    free(url);
    return err.status;
}

static inline int start_server(void **state)
{
    (void)state;
    return support_postgres_start(&server, server_settings) || take_database() ||
           connect_observer() || warm_up();
}

/* For programs that need their own server throughout. */
static inline int start_own_server(void **state)
{
    (void)state;
    return support_postgres_start_own(&server, server_settings) || connect_observer() || warm_up();
}

static inline int stop_server(void **state)
{
    (void)state;
    PQfinish(observer);
    support_postgres_stop(&server);
    pier_testdb_close(source);
    return 0;
}

/* Open descriptors but those that threads are woken by: Pier keeps them for the next thread,
 * because a wake-up may come late. */
static inline int count_fds(void)
{
    int count = 0;
    for (int fd = 0; fd < 1024; fd++) {
        char path[32], target[64] = "";
        snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        count += readlink(path, target, sizeof target - 1) > 0 && !strstr(target, "[eventfd]");
    }
    return count;
}

static inline bool are_fds_closed(void *user_data)
{
    (void)user_data;
    return count_fds() <= fds_before;
}

static inline int open_db(void **state)
{
    (void)state;
    PQclear(PQexec(observer, "drop schema public cascade; create schema public"));
    fds_before = count_fds();
    threads_before = support_thread_count();
    runner = pier_runner_open(NULL, NULL);
    db = open_pool(4);
    return db ? 0 : -1;
}

/* For tests that need the server's port, or do to it what its owner would mind: where the server is
 * PIER_TEST_POSTGRES's, they go on with a private one. */
static inline void needs_own_server(void)
{
    if (server.external) {
        pier_runner_close(runner);
        aside.server = server;
        aside.observer = observer;
        assert_int_equal(support_postgres_start_own(&server, server_settings), 0);
        assert_int_equal(connect_observer(), 0);
        fds_before = count_fds();
        runner = pier_runner_open(NULL, NULL);
        db = open_pool(4);
        assert_non_null(db);
    }
}

static inline void put_server_back(void)
{
    if (aside.observer) {
        PQfinish(observer);
        support_postgres_stop(&server);
        server = aside.server;
        observer = aside.observer;
        aside.observer = NULL;
    }
}

/* Whatever a test did, closing the runner leaves no descriptor, no thread and no session. */
static inline int check_left_overs(void)
{
    if (!support_wait_until(are_fds_closed, NULL, 5000)) {
        support_print_fds();
        return -1;
    }
    if (!support_wait_threads(threads_before, 10000)) {
        fprintf(stderr, "a thread is left\n");
        return -1;
    }
    return await_connections(0) ? 0 : -1;
}

static inline int close_db(void **state)
{
    (void)state;
    pier_runner_close(runner);
    int status = check_left_overs();
    put_server_back();
    return status;
}

typedef int (*scenario)(pier_db *pool, pier_error *err);

static inline void run_here(scenario body)
{
    pier_error err = {0};
    if (body(db, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

static inline int task_of(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return (*(scenario *)arg)(db, err);
}

static inline void run_in_task(scenario body)
{
    pier_error err = {0};
    if (pier_task_run(runner, task_of, &body, &err) < 0) {
        fail_msg("%s", err.message);
    }
}

/* In a scenario, with `e` for what the calls in it fill. */
#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            return pier_error_set(err, PIER_EUSER, "%s:%d: %s (%s: %s)", __FILE__, __LINE__,       \
                                  #condition, pier_status_name(e.status), e.message);              \
        }                                                                                          \
    } while (0)

/* Two tests of one scenario. */
#define SCENARIO(name)                                                                             \
    static int name##_body(pier_db *pool, pier_error *err);                                        \
    static void name(void **state)                                                                 \
    {                                                                                              \
        (void)state;                                                                               \
        run_here(name##_body);                                                                     \
    }                                                                                              \
    static void name##__in_a_task(void **state)                                                    \
    {                                                                                              \
        (void)state;                                                                               \
        run_in_task(name##_body);                                                                  \
    }                                                                                              \
    static int name##_body(pier_db *pool, pier_error *err)

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_db, close_db)
#define BOTH(name) TEST(name), TEST(name##__in_a_task)

#endif
