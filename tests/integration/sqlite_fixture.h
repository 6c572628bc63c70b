/* What the tests of the SQLite driver share: a runner and a database file for each test. */
#ifndef PIER_TESTS_SQLITE_FIXTURE_H
#define PIER_TESTS_SQLITE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pier/pier.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/process.h"
#include "tests/support/wait.h"

/* Longer than anything takes that works, also under valgrind. */
enum { BOUND_MS = 20000 };

/* Rows without end: whoever runs this is cancelled. */
#define ENDLESS                                                                                    \
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 1000000000000) "

struct fixture {
    pier_runner *runner;
    pier_db *db;
    char directory[256];
    char path[512];
    char url[600];
    pier_error err; /* cleared by assert_ok, filled by the calls of the test */
    int threads, fds;
};

static inline void assert_ok_at(pier_error *err, const char *file, int line)
{
    if (err->status) {
        print_error("%s: %s\n", pier_status_name(err->status), err->message);
        _assert_true(0, "success", file, line);
    }
}
#define assert_ok(err) assert_ok_at(err, __FILE__, __LINE__)

/* Has it failed so, saying that? Clears it. */
static inline void assert_error_at(pier_error *err, int status, const char *says, const char *file,
                                   int line)
{
    bool right = err->status == status && (!says || strstr(err->message, says));
    if (!right) {
        print_error("%s: \"%s\" is not %s saying \"%s\"\n", pier_status_name(err->status),
                    err->message, pier_status_name(status), says ? says : "");
        _assert_true(0, "the error expected", file, line);
    }
    memset(err, 0, sizeof *err);
}
#define assert_error(err, status, says) assert_error_at(err, status, says, __FILE__, __LINE__)

static inline int64_t number_at(pier_db *db, const char *sql, const char *file, int line)
{
    pier_error err = {0};
    int64_t number = -1;
    int found = pier_db_fetch_into(db, sql, NULL, PIER_INTO(&number), &err);
    assert_ok_at(&err, file, line);
    _assert_true(found == 1, "a row", file, line);
    return number;
}
/* The integer that a query gives. */
#define number_of(db, sql) number_at(db, sql, __FILE__, __LINE__)

static inline int64_t execute_at(pier_db *db, const char *sql, const pier_args *args,
                                 const char *file, int line)
{
    pier_error err = {0};
    int64_t count = pier_db_execute(db, sql, args, &err);
    assert_ok_at(&err, file, line);
    return count;
}
/* Runs a statement that must succeed. */
#define execute(db, sql, args) execute_at(db, sql, args, __FILE__, __LINE__)

static inline int fixture_set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    *state = f;
    f->threads = support_thread_count();
    f->fds = support_fd_count();
    if (support_directory_make(f->directory, sizeof f->directory, "sqlite")) {
        return -1;
    }
    snprintf(f->path, sizeof f->path, "%s/test.db", f->directory);
    snprintf(f->url, sizeof f->url, "sqlite:%s", f->path);
    f->runner = pier_runner_open(NULL, &f->err);
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    pier_db_execute(f->db, "create table t(id integer primary key, name text)", NULL, &f->err);
    if (f->err.status) {
        print_error("%s\n", f->err.message);
        return -1;
    }
    return 0;
}

/* Ends what the test has left, and looks for what is left of it. */
static inline int fixture_tear_down(void **state)
{
    struct fixture *f = *state;
    pier_db_close(f->db);
    pier_runner_close(f->runner);
    support_directory_remove(f->directory);
    bool clean = support_wait_threads(f->threads, BOUND_MS) && support_wait_fds(f->fds, BOUND_MS);
    if (!clean) {
        print_error("threads %d -> %d, descriptors %d -> %d\n", f->threads, support_thread_count(),
                    f->fds, support_fd_count());
        support_print_fds();
    }
    free(f);
    return clean ? 0 : -1;
}

/* libuv keeps a pipe from the first loop on. */
static inline int group_set_up(void **state)
{
    (void)state;
    pier_runner *runner = pier_runner_open(NULL, NULL);
    pier_runner_close(runner);
    return runner ? 0 : -1;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_set_up, fixture_tear_down)

#endif
