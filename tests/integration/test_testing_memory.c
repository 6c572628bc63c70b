/* The test kit while each allocation of it, and of what it uses of Pier, fails in turn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/process.h"
#include "tests/support/wait.h"
#include <dirent.h>
#include <pier/pier.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOUND_MS = 30000, ALLOCATIONS_MAX = 3000 };

/* ---- The allocator, which the linker puts in the place of the real one --------------------- */

static atomic_int failing; /* the allocation that fails, from 1; 0: none */
static atomic_bool failed; /* it has been reached */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

static bool refuse(void)
{
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

void *__wrap_malloc(size_t size)
{
    return refuse() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return refuse() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return refuse() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text)
{
    char *copy = refuse() ? NULL : __real_malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static void begin_failing(int n)
{
    atomic_store(&failed, false);
    atomic_store(&failing, n);
}

static void end_failing(void)
{
    atomic_store(&failing, 0);
}

/* ---- What is left ------------------------------------------------------------------------- */

static bool is_empty(void *path)
{
    DIR *directory = opendir(path);
    bool empty = directory != NULL;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        empty = empty && entry->d_name[0] == '.';
    }
    if (directory) {
        closedir(directory);
    }
    return empty;
}

/* A database made and removed: what fails says so, and gives no URL. */
static void use(pier_testdb *testdb, pier_error *err)
{
    char *url = pier_testdb_fresh(testdb, err);
    assert_true((url != NULL) == (err->status == 0));
    if (url && pier_testdb_drop(testdb, url, err) < 0) {
        assert_true(err->status < 0);
    }
    free(url);
}

/* Fails with one error alone, if at all: some that are refused are done without. */
static void check_error(int n, const pier_error *err)
{
    if (err->status != 0 && err->status != PIER_ENOMEM) {
        fail_msg("allocation %d: %d, %s", n, err->status, err->message);
    }
}

static void use_sqlite(int n)
{
    pier_error err = {0};
    begin_failing(n);
    pier_testdb *testdb = pier_testdb_open_with(
        "sqlite", PIER_TESTDB_OPTIONS(.template_sql = "create table t(x int)"), &err);
    use(testdb, &err);
    pier_testdb_close(testdb);
    end_failing();
    check_error(n, &err);
}

static void test_sqlite__each_allocation_may_fail(void **state)
{
    (void)state;
    char base[256];
    assert_int_equal(support_directory_make(base, sizeof base, "testing-memory"), 0);
    setenv("TMPDIR", base, 1);
    use_sqlite(0); /* what libuv keeps for good is there then */
    int fds = support_fd_count(), threads = support_thread_count(), n = 0;
    do {
        use_sqlite(++n);
        /* Also where there was no memory to wait for it. */
        assert_true(support_wait_until(is_empty, base, BOUND_MS));
    } while (atomic_load(&failed) && n < ALLOCATIONS_MAX);
    unsetenv("TMPDIR");
    support_directory_remove(base);
    assert_in_range(n, 20, ALLOCATIONS_MAX - 1);
    assert_true(support_wait_fds(fds + 1, BOUND_MS));
    assert_true(support_wait_threads(threads, BOUND_MS));
}

static int64_t count_databases(const char *url)
{
    pier_error err = {0};
    int64_t count = -1;
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    const char *sql = "select count(*) from pg_database where datname like 'pier_test_%'";
    int got = pier_db_fetch_into(db, sql, NULL, PIER_INTO(&count), &err);
    pier_db_close(db);
    pier_runner_close(runner);
    return got == 1 ? count : -1;
}

static void test_postgres__each_allocation_may_fail(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_testdb *server =
        pier_testdb_open_with("postgresql", PIER_TESTDB_OPTIONS(.server = "local"), &err);
    assert_string_equal(err.message, "");
    /* On the server of somebody else, where databases are dropped one by one. */
    pier_testdb *testdb = pier_testdb_open_with(
        "postgresql",
        PIER_TESTDB_OPTIONS(.server = pier_testdb_url(server), .template_sql = "create table t()"),
        &err);
    assert_string_equal(err.message, "");
    int n = 0;
    do {
        memset(&err, 0, sizeof err);
        begin_failing(++n);
        use(testdb, &err);
        end_failing();
        check_error(n, &err);
    } while (atomic_load(&failed) && n < ALLOCATIONS_MAX);
    assert_in_range(n, 3, ALLOCATIONS_MAX - 1);
    pier_testdb_close(testdb);
    assert_int_equal(count_databases(pier_testdb_url(server)), 0);
    pier_testdb_close(server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sqlite__each_allocation_may_fail),
        cmocka_unit_test(test_postgres__each_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
