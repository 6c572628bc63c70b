/* The test kit: throw-away databases on SQLite, on a private Postgres, and on a server of others.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "sdk/testing/url.h"
#include "tests/support/process.h"
#include "tests/support/wait.h"
#include <fcntl.h>
#include <pier/pier.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BOUND_MS = 30000, THREADS = 4 };

static const char schema[] = "create table t(x int); insert into t values (7)";

/* A private server that most tests share; what the environment names is not what they are about. */
static pier_testdb *shared;

static int open_shared(void **state)
{
    (void)state;
    pier_error err = {0};
    shared = pier_testdb_open_with("postgresql", PIER_TESTDB_OPTIONS(.server = "local"), &err);
    if (!shared) {
        fprintf(stderr, "%s\n", err.message);
    }
    return shared ? 0 : -1;
}

static int close_shared(void **state)
{
    (void)state;
    pier_testdb_close(shared);
    return 0;
}

static pier_testdb *open_one(const char *kind, const char *sql)
{
    pier_error err = {0};
    pier_testdb *testdb = pier_testdb_open_with(
        kind, PIER_TESTDB_OPTIONS(.server = pier_testdb_url(shared), .template_sql = sql), &err);
    if (!testdb) {
        fail_msg("%s", err.message);
    }
    return testdb;
}

static pier_testdb *open_local(const char *kind, const char *sql)
{
    pier_error err = {0};
    pier_testdb *testdb = pier_testdb_open_with(
        kind, PIER_TESTDB_OPTIONS(.server = "local", .template_sql = sql), &err);
    if (!testdb) {
        fail_msg("%s", err.message);
    }
    return testdb;
}

static char *fresh(pier_testdb *testdb)
{
    pier_error err = {0};
    char *url = pier_testdb_fresh(testdb, &err);
    if (!url) {
        fail_msg("%s", err.message);
    }
    return url;
}

/* Runs a script in the database and gives the first column of a query. */
static int64_t run(const char *url, const char *script, const char *query, pier_error *err)
{
    int64_t value = -1;
    pier_runner *runner = pier_runner_open(NULL, err);
    pier_db *db = pier_db_open(runner, url, NULL, err);
    if (script) {
        pier_db_execute_script(db, script, err);
    }
    int got = pier_db_fetch_into(db, query, NULL, PIER_INTO(&value), err);
    pier_runner_close(runner);
    return got == 1 && err->status == 0 ? value : -1;
}

/* The directory in a URL, which is there exactly as long as the source is. */
static char *directory_of(char *path, size_t size, const char *url)
{
    const char *at = strncmp(url, "sqlite:", 7) == 0 ? url + 7 : strstr(url, "host=") + 5;
    snprintf(path, size, "%s", at);
    if (url[0] == 's') {
        *strrchr(path, '/') = 0;
    } else {
        path[strcspn(path, "&")] = 0;
    }
    return path;
}

static bool exists(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0;
}

static bool is_removed(void *path)
{
    return !exists(path);
}

/* ---- Both kinds --------------------------------------------------------------------------- */

static void keep_apart(const char *kind)
{
    pier_error err = {0};
    pier_testdb *testdb = open_one(kind, NULL);
    char *one = fresh(testdb), *two = fresh(testdb);
    assert_string_not_equal(one, two);
    const char *script = "create table t(x int); insert into t values (1)";
    assert_int_equal(run(one, script, "select count(*) from t", &err), 1);
    assert_int_equal(run(two, script, "select count(*) from t", &err), 1);
    assert_string_equal(err.message, "");
    free(one);
    free(two);
    pier_testdb_close(testdb);
}

static void copy_template(const char *kind)
{
    pier_error err = {0};
    pier_testdb *testdb = open_one(kind, schema);
    for (int i = 0; i < 3; i++) {
        char *url = fresh(testdb);
        assert_int_equal(run(url, "insert into t values (1)", "select sum(x) from t", &err), 8);
        free(url);
    }
    assert_string_equal(err.message, "");
    pier_testdb_close(testdb);
}

static int fill(pier_db *db, void *user_data, pier_error *err)
{
    return (int)pier_db_execute(db, "insert into t values ($1)", PIER_ARGS(*(int *)user_data), err);
}

static void fill_template(const char *kind)
{
    pier_error err = {0};
    int number = 35;
    pier_testdb *testdb = pier_testdb_open_with(
        kind,
        PIER_TESTDB_OPTIONS(.server = pier_testdb_url(shared), .template_sql = schema,
                            .template_fn = fill, .user_data = &number),
        &err);
    char *url = fresh(testdb);
    assert_int_equal(run(url, NULL, "select sum(x) from t", &err), 42);
    free(url);
    pier_testdb_close(testdb);
}

static void refuse_template(const char *kind)
{
    pier_error err = {0};
    assert_null(pier_testdb_open_with(kind,
                                      PIER_TESTDB_OPTIONS(.server = pier_testdb_url(shared),
                                                          .template_sql = "create tabel t(x int)"),
                                      &err));
    assert_int_equal(err.status, PIER_ESQL);
    assert_non_null(strstr(err.message, "tabel"));
}

static void leave_nothing(const char *kind)
{
    char path[300];
    int fds = support_fd_count(), threads = support_thread_count();
    pier_testdb *testdb = open_local(kind, schema);
    char *url = fresh(testdb);
    assert_true(exists(directory_of(path, sizeof path, url)));
    free(url);
    pier_testdb_close(testdb);
    assert_false(exists(path));
    /* Who waited is woken through a descriptor that is kept for the next thread. */
    assert_true(support_wait_fds(fds + 1, BOUND_MS));
    assert_true(support_wait_threads(threads, BOUND_MS));
}

static void drop_one(const char *kind)
{
    pier_error err = {0};
    pier_testdb *testdb = open_one(kind, schema);
    char *kept = fresh(testdb), *dropped = fresh(testdb);
    assert_int_equal(run(dropped, NULL, "select x from t", &err), 7);
    assert_int_equal(pier_testdb_drop(testdb, dropped, &err), 0);
    assert_int_equal(run(kept, NULL, "select x from t", &err), 7);
    assert_int_equal(run(dropped, NULL, "select x from t", &err), -1);
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_testdb_drop(testdb, dropped, &err), PIER_EINVAL);
    assert_int_equal(pier_testdb_drop(testdb, NULL, NULL), PIER_EINVAL);
    free(kept);
    free(dropped);
    pier_testdb_close(testdb);
}

enum { EACH = 3 };

struct copier {
    pthread_t thread;
    pier_testdb *testdb;
    char *urls[EACH];
};

static void *make_some(void *arg)
{
    struct copier *copier = arg;
    for (int i = 0; i < EACH; i++) {
        char *dropped = pier_testdb_fresh(copier->testdb, NULL);
        copier->urls[i] = pier_testdb_fresh(copier->testdb, NULL);
        pier_testdb_drop(copier->testdb, dropped, NULL);
        free(dropped);
    }
    return NULL;
}

static void serve_threads(const char *kind)
{
    pier_error err = {0};
    struct copier copiers[THREADS] = {{0}};
    pier_testdb *testdb = open_one(kind, schema);
    for (int i = 0; i < THREADS; i++) {
        copiers[i].testdb = testdb;
        assert_int_equal(pthread_create(&copiers[i].thread, NULL, make_some, &copiers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(copiers[i].thread, NULL);
    }
    for (int i = 0; i < THREADS * EACH; i++) {
        char *url = copiers[i / EACH].urls[i % EACH];
        assert_non_null(url);
        assert_int_equal(run(url, "insert into t values (1)", "select sum(x) from t", &err), 8);
        free(url);
    }
    pier_testdb_close(testdb);
}

/* All of it in a task of another runner, whose loop goes on meanwhile. */
static int use_in_task(pier_task *self, void *kind, pier_error *err)
{
    int64_t value = 0;
    pier_testdb *testdb = pier_testdb_open_with(
        kind, PIER_TESTDB_OPTIONS(.server = "local", .template_sql = schema), err);
    char *url = pier_testdb_fresh(testdb, err);
    pier_db *db = pier_db_open(pier_task_runner(self), url, NULL, err);
    int got = pier_db_fetch_into(db, "select x from t", NULL, PIER_INTO(&value), err);
    pier_db_close(db);
    free(url);
    pier_testdb_close(testdb);
    return got < 0 ? got : (int)value;
}

static int tick(pier_task *self, void *arg, pier_error *err)
{
    while (pier_task_sleep(self, 1, err) == 0) {
        ++*(int *)arg;
    }
    return 0;
}

static void suspend_task(const char *kind)
{
    pier_error err = {0};
    int ticks = 0;
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_future *clock = pier_task_start(runner, tick, &ticks);
    assert_int_equal(pier_task_run(runner, use_in_task, (void *)kind, &err), 7);
    pier_runner_close(runner);
    pier_future_free(clock);
    assert_true(ticks > 3);
}

/* What this program does when it is run as `test_testing die KIND`: says where, and is killed. */
static int open_and_die(const char *kind)
{
    pier_error err = {0};
    char path[300];
    pier_testdb *testdb = pier_testdb_open_with(
        kind, PIER_TESTDB_OPTIONS(.server = "local", .template_sql = schema), &err);
    char *url = pier_testdb_fresh(testdb, &err);
    if (url && write(1, directory_of(path, sizeof path, url), sizeof path) > 0) {
        raise(SIGKILL);
    }
    return 1;
}

static void survive_kill(const char *kind)
{
    int ends[2];
    char path[300] = "";
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        execl("/proc/self/exe", "test_testing", "die", kind, (char *)NULL);
        _exit(1);
    }
    close(ends[1]);
    assert_int_equal(read(ends[0], path, sizeof path), sizeof path);
    close(ends[0]);
    waitpid(child, NULL, 0);
    assert_true(path[0] == '/');
    assert_true(support_wait_until(is_removed, path, BOUND_MS));
}

/* The child's close must not take anything from the parent. */
static void stay_with_parent(const char *kind)
{
    pier_testdb *testdb = open_one(kind, schema);
    pid_t child = fork();
    if (child == 0) {
        pier_error err = {0};
        bool right = !pier_testdb_fresh(testdb, &err) && err.status == PIER_EFORKED &&
                     pier_testdb_drop(testdb, "x", NULL) == PIER_EFORKED;
        pier_testdb_close(testdb);
        _exit(right ? 0 : 1);
    }
    int status;
    waitpid(child, &status, 0);
    assert_int_equal(status, 0);
    pier_error err = {0};
    char *url = fresh(testdb);
    assert_int_equal(run(url, NULL, "select x from t", &err), 7);
    free(url);
    pier_testdb_close(testdb);
}

static void obey_scope(const char *kind)
{
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, NULL);
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_cancel(scope);
    assert_null(pier_testdb_open_with(kind, PIER_TESTDB_OPTIONS(.server = "local"), &err));
    assert_int_equal(err.status, PIER_ECANCELLED);
    pier_scope_close(scope);
    pier_runner_close(runner);
}

#define BOTH(name)                                                                                 \
    static void test_sqlite__##name(void **state)                                                  \
    {                                                                                              \
        (void)state;                                                                               \
        name("sqlite");                                                                            \
    }                                                                                              \
    static void test_postgres__##name(void **state)                                                \
    {                                                                                              \
        (void)state;                                                                               \
        name("postgresql");                                                                        \
    }

BOTH(keep_apart)
BOTH(copy_template)
BOTH(fill_template)
BOTH(refuse_template)
BOTH(leave_nothing)
BOTH(drop_one)
BOTH(serve_threads)
BOTH(suspend_task)
BOTH(survive_kill)
BOTH(stay_with_parent)
BOTH(obey_scope)

/* ---- Postgres ----------------------------------------------------------------------------- */

static void test_postgres__settings_reach_the_server(void **state)
{
    (void)state;
    pier_error err = {0};
    const char *settings[] = {"max_connections=17", NULL};
    pier_testdb *testdb = pier_testdb_open_with(
        "postgresql", PIER_TESTDB_OPTIONS(.server = "local", .settings = settings), &err);
    assert_int_equal(run(pier_testdb_url(testdb), NULL,
                         "select current_setting('max_connections')::int", &err),
                     17);
    pier_testdb_close(testdb);
}

static void test_postgres__a_setting_that_is_wrong_is_in_the_error(void **state)
{
    (void)state;
    pier_error err = {0};
    const char *settings[] = {"max_conections=17", NULL};
    assert_null(pier_testdb_open_with(
        "postgresql", PIER_TESTDB_OPTIONS(.server = "local", .settings = settings), &err));
    assert_int_equal(err.status, PIER_EIO);
    assert_non_null(strstr(err.message, "max_conections"));
}

/* A private server plays the part of the one in the environment. */
static void test_postgres__of_the_environment_is_only_borrowed(void **state)
{
    (void)state;
    pier_error err = {0};
    const char *count = "select count(*) from pg_database where datname like 'pier_test_%'";
    setenv("PIER_TEST_POSTGRES", pier_testdb_url(shared), 1);
    pier_testdb *guest =
        pier_testdb_open_with("postgresql", PIER_TESTDB_OPTIONS(.template_sql = schema), &err);
    unsetenv("PIER_TEST_POSTGRES");
    assert_string_equal(err.message, "");
    assert_string_equal(pier_testdb_url(guest), pier_testdb_url(shared));
    char *one = fresh(guest), *two = fresh(guest);
    assert_int_equal(run(one, NULL, "select x from t", &err), 7);
    assert_int_equal(run(pier_testdb_url(shared), NULL, count, &err), 3);
    pier_testdb_close(guest);
    assert_int_equal(run(pier_testdb_url(shared), NULL, count, &err), 0);
    free(one);
    free(two);
}

static void test_postgres__that_runs_takes_no_settings(void **state)
{
    (void)state;
    pier_error err = {0};
    const char *settings[] = {"max_connections=17", NULL};
    assert_null(pier_testdb_open_with(
        "postgresql", PIER_TESTDB_OPTIONS(.server = "postgresql://nowhere/", .settings = settings),
        &err));
    assert_int_equal(err.status, PIER_EINVAL);
}

static void test_postgres__without_one_the_error_says_what_to_install(void **state)
{
    (void)state;
    pier_error err = {0};
    char path[256], command[1024], *before = strdup(getenv("PATH"));
    assert_int_equal(support_directory_make(path, sizeof path, "testing"), 0);
    /* What the script needs, and neither docker nor anything of Postgres. */
    snprintf(command, sizeof command,
             "for tool in mktemp mv rm sh head sed grep tail tr cut cat sort id dirname; do "
             "ln -s \"$(command -v $tool)\" '%s'; done",
             path);
    assert_int_equal(system(command), 0);
    setenv("PATH", path, 1);
    assert_null(
        pier_testdb_open_with("postgresql", PIER_TESTDB_OPTIONS(.server = "docker:any"), &err));
    setenv("PATH", before, 1);
    free(before);
    support_directory_remove(path);
    assert_int_equal(err.status, PIER_EIO);
    assert_non_null(strstr(err.message, "docker.io"));
}

static void test_postgres__where_its_programs_are_not_is_in_the_error(void **state)
{
    (void)state;
    pier_error err = {0};
    setenv("PIER_POSTGRES_BIN", "/no/such/directory", 1);
    assert_null(pier_testdb_open_with("postgresql", PIER_TESTDB_OPTIONS(.server = "local"), &err));
    unsetenv("PIER_POSTGRES_BIN");
    assert_int_equal(err.status, PIER_EIO);
    assert_non_null(strstr(err.message, "PIER_POSTGRES_BIN is /no/such/directory"));
}

static void *open_and_use(void *kind)
{
    pier_error err = {0};
    pier_testdb *testdb = pier_testdb_open_with(
        kind, PIER_TESTDB_OPTIONS(.server = "local", .template_sql = schema), &err);
    char *url = pier_testdb_fresh(testdb, &err);
    int64_t sum = url ? run(url, "insert into t values (1)", "select sum(x) from t", &err) : -1;
    free(url);
    pier_testdb_close(testdb);
    return (void *)(intptr_t)sum;
}

/* Several programs do so too, each with directories and servers of its own. */
static void test_open__several_at_once(void **state)
{
    (void)state;
    static char kinds[THREADS][16] = {"postgresql", "sqlite", "postgresql", "sqlite"};
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, open_and_use, kinds[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *sum;
        pthread_join(threads[i], &sum);
        assert_int_equal((intptr_t)sum, 8);
    }
}

static void test_open__knows_two_kinds(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_testdb_open("mysql", &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_non_null(strstr(err.message, "mysql"));
    assert_null(pier_testdb_open(NULL, NULL));
}

static void test_null__passes_through(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_EUSER, "first");
    assert_null(pier_testdb_fresh(NULL, &err));
    assert_int_equal(pier_testdb_drop(NULL, "x", &err), PIER_EUSER);
    assert_string_equal(err.message, "first");
    assert_null(pier_testdb_url(NULL));
    assert_null(pier_testdb_fresh(NULL, NULL));
    pier_testdb_close(NULL);
}

static void assert_url(const char *server, const char *expected)
{
    char *url = pier__testing_url_of(server, "new");
    assert_string_equal(url, expected);
    free(url);
}

static void test_url__keeps_all_but_the_database(void **state)
{
    (void)state;
    assert_url("postgresql://u:p@h:1/old?a=b&c=d", "postgresql://u:p@h:1/new?a=b&c=d");
    assert_url("postgresql://h", "postgresql://h/new");
    assert_url("postgresql://h?a=b", "postgresql://h/new?a=b");
    assert_url("postgres:///old", "postgres:///new");
    assert_url("postgresql://h/?dbname=old&a=b&dbname=x", "postgresql://h/new?a=b");
    assert_url("postgresql://h/old?dbname=old", "postgresql://h/new");
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "die") == 0) {
        return open_and_die(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sqlite__keep_apart),
        cmocka_unit_test(test_postgres__keep_apart),
        cmocka_unit_test(test_sqlite__copy_template),
        cmocka_unit_test(test_postgres__copy_template),
        cmocka_unit_test(test_sqlite__fill_template),
        cmocka_unit_test(test_postgres__fill_template),
        cmocka_unit_test(test_sqlite__refuse_template),
        cmocka_unit_test(test_postgres__refuse_template),
        cmocka_unit_test(test_sqlite__leave_nothing),
        cmocka_unit_test(test_postgres__leave_nothing),
        cmocka_unit_test(test_sqlite__drop_one),
        cmocka_unit_test(test_postgres__drop_one),
        cmocka_unit_test(test_sqlite__serve_threads),
        cmocka_unit_test(test_postgres__serve_threads),
        cmocka_unit_test(test_sqlite__suspend_task),
        cmocka_unit_test(test_postgres__suspend_task),
        cmocka_unit_test(test_sqlite__survive_kill),
        cmocka_unit_test(test_postgres__survive_kill),
        cmocka_unit_test(test_sqlite__stay_with_parent),
        cmocka_unit_test(test_postgres__stay_with_parent),
        cmocka_unit_test(test_sqlite__obey_scope),
        cmocka_unit_test(test_postgres__obey_scope),
        cmocka_unit_test(test_postgres__settings_reach_the_server),
        cmocka_unit_test(test_postgres__a_setting_that_is_wrong_is_in_the_error),
        cmocka_unit_test(test_postgres__of_the_environment_is_only_borrowed),
        cmocka_unit_test(test_postgres__that_runs_takes_no_settings),
        cmocka_unit_test(test_postgres__without_one_the_error_says_what_to_install),
        cmocka_unit_test(test_postgres__where_its_programs_are_not_is_in_the_error),
        cmocka_unit_test(test_open__several_at_once),
        cmocka_unit_test(test_open__knows_two_kinds),
        cmocka_unit_test(test_null__passes_through),
        cmocka_unit_test(test_url__keeps_all_but_the_database),
    };
    return cmocka_run_group_tests(tests, open_shared, close_shared);
}
