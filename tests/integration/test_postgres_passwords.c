/* Where a password comes from: a function of the user's, a pass file, a service file, the
 * environment. On a thread, in a task, and as a future. */
#include "tests/integration/postgres_fixture.h"

#include <sys/stat.h>

static int start_with_passwords(void **state)
{
    char hba[320];
    if (start_own_server(state)) {
        return -1;
    }
    snprintf(hba, sizeof hba, "%s/data/pg_hba.conf", server.directory);
    FILE *file = fopen(hba, "we");
    if (!file) {
        return -1;
    }
    fprintf(file, "host all ada 127.0.0.1/32 scram-sha-256\nlocal all all trust\n");
    fclose(file);
    PQclear(PQexec(observer, "create role ada login password 's3cret'"));
    PQclear(PQexec(observer, "select pg_reload_conf()"));
    return await_int("select count(*) from pg_hba_file_rules where user_name = '{ada}'", 1) ? 0
                                                                                            : -1;
}

/* What a password function does, and what it was asked. */
struct keeper {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char token[64];
    char asked[128]; /* the last login: user@host:port/database */
    int calls, inside;
    bool holds, fails;
};

static int give_token(const pier_postgres_login *login, char *password, size_t size,
                      void *user_data, pier_error *err)
{
    struct keeper *keeper = user_data;
    pthread_mutex_lock(&keeper->lock);
    keeper->calls++;
    keeper->inside++;
    snprintf(keeper->asked, sizeof keeper->asked, "%s@%s:%s/%s", login->user, login->host,
             login->port, login->database);
    pthread_cond_broadcast(&keeper->changed);
    while (keeper->holds) {
        pthread_cond_wait(&keeper->changed, &keeper->lock);
    }
    keeper->inside--;
    snprintf(password, size, "%s", keeper->token);
    int status = keeper->fails ? pier_error_set(err, PIER_EUSER, "the vault is sealed") : 0;
    pthread_mutex_unlock(&keeper->lock);
    return status;
}

static struct keeper keeper = {.lock = PTHREAD_MUTEX_INITIALIZER,
                               .changed = PTHREAD_COND_INITIALIZER};

static void set_keeper(const char *token, bool holds, bool fails)
{
    pthread_mutex_lock(&keeper.lock);
    snprintf(keeper.token, sizeof keeper.token, "%s", token);
    keeper.holds = holds;
    keeper.fails = fails;
    pthread_cond_broadcast(&keeper.changed);
    pthread_mutex_unlock(&keeper.lock);
}

static int get_calls(void)
{
    pthread_mutex_lock(&keeper.lock);
    int calls = keeper.calls;
    pthread_mutex_unlock(&keeper.lock);
    return calls;
}

static bool is_inside(void *wanted)
{
    pthread_mutex_lock(&keeper.lock);
    bool is = keeper.inside == *(int *)wanted;
    pthread_mutex_unlock(&keeper.lock);
    return is;
}

static bool await_inside(int count)
{
    return support_wait_until(is_inside, &count, BOUND_MS);
}

enum how { HERE, IN_TASK, AS_FUTURE, WAYS };

struct opening {
    const char *url;
    bool asks; /* with the function */
    int connect_timeout_ms;
    int deadline_ms;
    pier_db *pool;
    pier_error err;
};

static int do_open(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct opening *opening = arg;
    const pier_postgres_options *postgres =
        PIER_POSTGRES_OPTIONS(.password = give_token, .user_data = &keeper);
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = opening->deadline_ms), NULL);
    opening->pool = pier_db_open(runner, opening->url,
                                 PIER_DB_OPTIONS(.pool_max = 4,
                                                 .connect_timeout_ms = opening->connect_timeout_ms,
                                                 .postgres = opening->asks ? postgres : NULL),
                                 &opening->err);
    pier_scope_close(scope);
    return 0;
}

static void open_in(enum how how, struct opening *opening)
{
    memset(&opening->err, 0, sizeof opening->err);
    opening->pool = NULL;
    if (how == HERE) {
        do_open(NULL, opening, NULL);
    } else if (how == IN_TASK) {
        assert_int_equal(pier_task_run(runner, do_open, opening, NULL), 0);
    } else {
        const pier_postgres_options *postgres =
            PIER_POSTGRES_OPTIONS(.password = give_token, .user_data = &keeper);
        pier_scope *scope =
            pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = opening->deadline_ms), NULL);
        pier_future *future = pier_db_open_async(
            runner, opening->url,
            PIER_DB_OPTIONS(.pool_max = 4, .connect_timeout_ms = opening->connect_timeout_ms,
                            .postgres = opening->asks ? postgres : NULL));
        pier_scope_close(scope);
        opening->pool = pier_db_open_finish(future, &opening->err);
    }
}

/* All three ways end with this status; 0: they are let in, and closed again. */
static void open_all_ways(struct opening *opening, int status)
{
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, opening);
        assert_null(strstr(opening->err.message, "s3cret"));
        if (opening->err.status != status) {
            fail_msg("way %d: %s", (int)how, opening->err.message);
        }
        pier_db_close(opening->pool);
    }
}

static char *url_of_ada(const char *parameters)
{
    static char url[400];
    snprintf(url, sizeof url, "postgresql://ada@127.0.0.1:%d/postgres%s", server.port, parameters);
    return url;
}

static void test_password__is_asked_for_each_connection(void **state)
{
    (void)state;
    struct opening opening = {.url = url_of_ada(""), .asks = true};
    char expected[64];
    set_keeper("s3cret", false, false);
    snprintf(expected, sizeof expected, "ada@127.0.0.1:%d/postgres", server.port);
    for (enum how how = HERE; how < WAYS; how++) {
        int calls = get_calls();
        pier_error err = {0};
        open_in(how, &opening);
        assert_string_equal(opening.err.message, "");
        pier_db *one = pier_db_lease(opening.pool, &err), *two = pier_db_lease(opening.pool, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(get_calls() - calls, 2);
        pier_db_close(one);
        pier_db_close(two);
        pier_db_close(opening.pool);
    }
    assert_string_equal(keeper.asked, expected);
}

/* One that was right a moment ago, is wrong now, and has been renewed then. */
static void test_password__may_change(void **state)
{
    (void)state;
    struct opening opening = {.url = url_of_ada(""), .asks = true};
    pier_error err = {0};
    set_keeper("s3cret", false, false);
    open_in(HERE, &opening);
    pier_db *one = pier_db_lease(opening.pool, &err);
    assert_string_equal(err.message, "");
    PQclear(PQexec(observer, "alter role ada password 's3cret2'"));
    assert_null(pier_db_lease(opening.pool, &err));
    assert_string_equal(err.sqlstate, "28P01");
    set_keeper("s3cret2", false, false);
    memset(&err, 0, sizeof err);
    pier_db *two = pier_db_lease_finish(pier_db_lease_async(opening.pool), &err);
    PQclear(PQexec(observer, "alter role ada password 's3cret'"));
    assert_string_equal(err.message, "");
    pier_db_close(one);
    pier_db_close(two);
    pier_db_close(opening.pool);
}

static void test_password__goes_before_that_of_the_url(void **state)
{
    (void)state;
    char url[128];
    snprintf(url, sizeof url, "postgresql://ada:wr0ng@127.0.0.1:%d/postgres", server.port);
    set_keeper("s3cret", false, false);
    open_all_ways(&(struct opening){.url = url, .asks = true}, 0);
}

static void test_password__the_function_fails(void **state)
{
    (void)state;
    struct opening opening = {.url = url_of_ada(""), .asks = true};
    set_keeper("s3cret", false, true);
    open_all_ways(&opening, PIER_ECONNECT);
    assert_non_null(strstr(opening.err.message, "the password function failed: the vault is"));
}

/* While it takes its time a connection is waited for no longer than it may take, and the loop goes
 * on. */
static void test_password__the_function_hangs(void **state)
{
    (void)state;
    struct opening opening = {.url = url_of_ada(""), .asks = true, .connect_timeout_ms = 100};
    pier_error err = {0};
    int64_t started = support_now_ms();
    set_keeper("s3cret", true, false);
    open_all_ways(&opening, PIER_ECONNECT);
    assert_non_null(strstr(opening.err.message, "the password function, or"));
    assert_true(await_inside(3));
    opening = (struct opening){.url = opening.url, .asks = true, .deadline_ms = 100};
    open_in(HERE, &opening);
    assert_int_equal(opening.err.status, PIER_ETIMEDOUT);
    assert_true(support_now_ms() - started < 400 + AT_ONCE_MS);
    pier_future *query = pier_db_execute_async(db, "select 1", NULL);
    assert_int_equal(pier_db_execute_finish(query, &err), 0);
    set_keeper("s3cret", false, false);
    assert_true(await_inside(0));
}

static void test_password__a_request_is_cancelled_while_the_function_hangs(void **state)
{
    (void)state;
    pier_error err = {0};
    set_keeper("s3cret", true, false);
    pier_future *future = pier_db_open_async(
        runner, url_of_ada(""),
        PIER_DB_OPTIONS(.postgres =
                            PIER_POSTGRES_OPTIONS(.password = give_token, .user_data = &keeper)));
    assert_true(await_inside(1));
    pier_future_cancel(future);
    assert_null(pier_db_open_finish(future, &err));
    assert_int_equal(err.status, PIER_ECANCELLED);
    set_keeper("s3cret", false, false);
    assert_true(await_inside(0));
}

static int open_in_job(void *arg, pier_error *err)
{
    (void)err;
    return do_open(NULL, arg, NULL);
}

/* Were the function to wait for another thread of the executor, that would wait for this one. */
static void test_password__on_the_only_threads_of_the_executor(void **state)
{
    (void)state;
    enum { MANY = 40 };
    struct opening openings[MANY];
    pier_future *jobs[MANY];
    pier_error err = {0};
    const char *url = url_of_ada(""); /* once: jobs read it while others are started */
    set_keeper("s3cret", false, false);
    for (int i = 0; i < MANY; i++) {
        openings[i] = (struct opening){.url = url, .asks = true};
        jobs[i] = pier_to_thread_async(runner, open_in_job, &openings[i]);
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(pier_to_thread_finish(jobs[i], &err), 0);
        assert_string_equal(openings[i].err.message, "");
        pier_db_close(openings[i].pool);
    }
}

static void test_password__none(void **state)
{
    (void)state;
    struct opening opening = {.url = url_of_ada("?passfile=/nowhere")};
    open_all_ways(&opening, PIER_ECONNECT);
    assert_non_null(strstr(opening.err.message, "give a password"));
}

/* Writes a file of the server's directory, and gives its path. */
static char *write_file(const char *name, const char *text, mode_t mode)
{
    static char path[320];
    assert_int_equal(support_file_write(server.directory, name, text, strlen(text)), 0);
    snprintf(path, sizeof path, "%s/%s", server.directory, name);
    assert_int_equal(chmod(path, mode), 0);
    return path;
}

static void test_pass_file__is_read_for_each_connection(void **state)
{
    (void)state;
    char parameters[350];
    const char *right = "127.0.0.1:*:postgres:ada:s3cret\n";
    snprintf(parameters, sizeof parameters, "?passfile=%s", write_file("pass", right, 0600));
    struct opening opening = {.url = url_of_ada(parameters)};
    open_all_ways(&opening, 0);
    write_file("pass", "127.0.0.1:*:postgres:ada:wr0ng\n", 0600);
    open_all_ways(&opening, PIER_ECONNECT);
    assert_string_equal(opening.err.sqlstate, "28P01");
    write_file("pass", right, 0600);
    open_all_ways(&opening, 0);
}

static void test_pass_file__that_others_can_read_is_not_used(void **state)
{
    (void)state;
    char parameters[350];
    snprintf(parameters, sizeof parameters, "?passfile=%s",
             write_file("pass", "127.0.0.1:*:postgres:ada:s3cret\n", 0644));
    struct opening opening = {.url = url_of_ada(parameters)};
    open_all_ways(&opening, PIER_ECONNECT);
    assert_non_null(strstr(opening.err.message, "a pass file that only its owner can read"));
}

static void test_pass_file__the_environment_names_it(void **state)
{
    (void)state;
    setenv("PGPASSFILE", write_file("pass", "*:*:*:ada:s3cret\n", 0600), 1);
    struct opening opening = {.url = url_of_ada("")};
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        pier_db_close(opening.pool);
        assert_string_equal(opening.err.message, "");
    }
    unsetenv("PGPASSFILE");
}

static void test_service__names_server_and_password(void **state)
{
    (void)state;
    char text[256];
    snprintf(text, sizeof text,
             "[ada]\nhost=127.0.0.1\nport=%d\nuser=ada\ndbname=postgres\npassword=s3cret\n",
             server.port);
    setenv("PGSERVICEFILE", write_file("services", text, 0644), 1);
    struct opening opening = {.url = "postgresql:///?service=ada"};
    open_all_ways(&opening, 0);
    setenv("PGSERVICE", "ada", 1);
    opening.url = "postgresql://";
    open_all_ways(&opening, 0);
    unsetenv("PGSERVICE");
    opening.url = "postgresql:///?service=nobody";
    open_in(HERE, &opening);
    unsetenv("PGSERVICEFILE");
    assert_null(opening.pool);
    assert_non_null(strstr(opening.err.message, "service"));
}

static void test_environment__names_all_of_it(void **state)
{
    (void)state;
    char port[16];
    snprintf(port, sizeof port, "%d", server.port);
    const char *const variables[][2] = {{"PGHOST", "127.0.0.1"},
                                        {"PGPORT", port},
                                        {"PGUSER", "ada"},
                                        {"PGDATABASE", "postgres"},
                                        {"PGPASSWORD", "s3cret"}};
    for (size_t i = 0; i < 5; i++) {
        setenv(variables[i][0], variables[i][1], 1);
    }
    open_all_ways(&(struct opening){.url = "postgresql://"}, 0);
    for (size_t i = 0; i < 5; i++) {
        unsetenv(variables[i][0]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_password__is_asked_for_each_connection),
        TEST(test_password__may_change),
        TEST(test_password__goes_before_that_of_the_url),
        TEST(test_password__the_function_fails),
        TEST(test_password__the_function_hangs),
        TEST(test_password__a_request_is_cancelled_while_the_function_hangs),
        TEST(test_password__on_the_only_threads_of_the_executor),
        TEST(test_password__none),
        TEST(test_pass_file__is_read_for_each_connection),
        TEST(test_pass_file__that_others_can_read_is_not_used),
        TEST(test_pass_file__the_environment_names_it),
        TEST(test_service__names_server_and_password),
        TEST(test_environment__names_all_of_it),
    };
    return cmocka_run_group_tests(tests, start_with_passwords, stop_server);
}
