/* Connecting to Postgres: what can go wrong, how long it may take, and what the message says. */
#include "tests/integration/postgres_fixture.h"

#include <unistd.h>

/* Opens a pool within a deadline, on a thread or in a task. */
struct opening {
    const char *url;
    int connect_timeout_ms, deadline_ms;
    int64_t took_ms;
    pier_error err; /* why it failed */
};

static int try_to_open(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct opening *opening = arg;
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = opening->deadline_ms), NULL);
    int64_t started = support_now_ms();
    pier_db *pool = pier_db_open(runner, opening->url,
                                 PIER_DB_OPTIONS(.connect_timeout_ms = opening->connect_timeout_ms),
                                 &opening->err);
    opening->took_ms = support_now_ms() - started;
    pier_scope_close(scope);
    pier_db_close(pool);
    return 0;
}

/* All three ways must fail in the same way, and at once after `bound_ms`. */
static pier_error fail_to_open(struct opening how, int status, int bound_ms)
{
    struct opening here = how, in_task = how;
    pier_error later = {0};
    try_to_open(NULL, &here, NULL);
    assert_int_equal(here.err.status, status);
    assert_true(here.took_ms >= bound_ms - 20 && here.took_ms < bound_ms + AT_ONCE_MS);
    assert_int_equal(pier_task_run(runner, try_to_open, &in_task, NULL), 0);
    assert_int_equal(in_task.err.status, status);
    assert_true(in_task.took_ms >= bound_ms - 20 && in_task.took_ms < bound_ms + AT_ONCE_MS);
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = how.deadline_ms), NULL);
    pier_future *future = pier_db_open_async(
        runner, how.url, PIER_DB_OPTIONS(.connect_timeout_ms = how.connect_timeout_ms));
    pier_scope_close(scope);
    assert_null(pier_db_open_finish(future, &later));
    assert_int_equal(later.status, status);
    return here.err;
}

static void test_connect__nobody_listens(void **state)
{
    (void)state;
    char url[128], expected[128];
    int port = support_port_refused();
    snprintf(url, sizeof url, "postgresql://ada:s3cret@127.0.0.1:%d/app", port);
    pier_error err = fail_to_open((struct opening){.url = url}, PIER_ECONNECT, 0);
    snprintf(expected, sizeof expected, "could not connect to postgresql://ada@127.0.0.1:%d/app",
             port);
    assert_non_null(strstr(err.message, expected));
    assert_non_null(strstr(err.message, "Connection refused"));
    assert_non_null(strstr(err.message, "Is the server running"));
    assert_null(strstr(err.message, "s3cret"));
}

static void test_connect__no_such_socket(void **state)
{
    (void)state;
    pier_error err =
        fail_to_open((struct opening){.url = "postgresql:///app?host=/nowhere"}, PIER_ECONNECT, 0);
    assert_non_null(strstr(err.message, "/nowhere"));
}

static void test_connect__no_such_database(void **state)
{
    (void)state;
    needs_own_server();
    char url[128];
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/nowhere", server.port);
    pier_error err = fail_to_open((struct opening){.url = url}, PIER_ECONNECT, 0);
    assert_string_equal(err.sqlstate, "3D000");
    assert_non_null(strstr(err.message, "create the database"));
}

static int require_passwords(void)
{
    char text[256], path[320];
    snprintf(path, sizeof path, "%s/data/pg_hba.conf", server.directory);
    FILE *file = fopen(path, "we");
    if (!file) {
        return -1;
    }
    fprintf(file, "host all ada 127.0.0.1/32 scram-sha-256\n"
                  "local all all trust\nhost all all 127.0.0.1/32 trust\n");
    fclose(file);
    look(text, sizeof text,
         "do $$ begin if not exists (select from pg_roles where rolname = 'ada') "
         "then create role ada login password 's3cret'; end if; end $$");
    look(text, sizeof text, "select pg_reload_conf()");
    /* The postmaster reads it some time later. */
    return await_int("select count(*) from pg_hba_file_rules where user_name = '{ada}'", 1) ? 0
                                                                                            : -1;
}

static void test_connect__passwords(void **state)
{
    (void)state;
    char url[128];
    pier_error err = {0};
    needs_own_server();
    assert_int_equal(require_passwords(), 0);
    snprintf(url, sizeof url, "postgresql://ada:wr0ng@127.0.0.1:%d/postgres", server.port);
    err = fail_to_open((struct opening){.url = url}, PIER_ECONNECT, 0);
    assert_string_equal(err.sqlstate, "28P01");
    assert_non_null(strstr(err.message, "check user and password"));
    assert_null(strstr(err.message, "wr0ng"));
    snprintf(url, sizeof url, "postgresql://ada:s3cret@127.0.0.1:%d/postgres", server.port);
    memset(&err, 0, sizeof err);
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    assert_string_equal(err.message, "");
    pier_db_close(pool);
}

static void test_connect__a_silent_server_costs_the_deadline_and_no_more(void **state)
{
    (void)state;
    struct support_silent_server silent;
    char url[128];
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(url, sizeof url, "postgresql://ada:s3cret@127.0.0.1:%d/app", silent.port);
    fail_to_open((struct opening){.url = url, .deadline_ms = 150}, PIER_ETIMEDOUT, 150);
    pier_error err =
        fail_to_open((struct opening){.url = url, .connect_timeout_ms = 150}, PIER_ECONNECT, 150);
    assert_non_null(strstr(err.message, "no answer in time"));
    /* libpq's own option is in seconds. */
    snprintf(url, sizeof url, "postgresql://127.0.0.1:%d/app?connect_timeout=1", silent.port);
    fail_to_open((struct opening){.url = url}, PIER_ECONNECT, 1000);
    support_silent_server_stop(&silent);
}

static void test_connect__a_server_that_hangs_up(void **state)
{
    (void)state;
    needs_own_server();
    char url[128];
    struct support_proxy *proxy = support_proxy_start(server.port);
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, 0);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(proxy));
    fail_to_open((struct opening){.url = url}, PIER_ECONNECT, 0);
    support_proxy_stop(proxy);
}

static void test_connect__a_name_that_does_not_resolve(void **state)
{
    (void)state;
    pier_error err = {0};
    /* How long that takes is up to the resolver of the machine. */
    assert_null(pier_db_open(runner, "postgresql://ada@no-such-host.invalid/app", NULL, &err));
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_non_null(strstr(err.message, "no-such-host.invalid"));
    assert_non_null(strstr(err.message, "name of the host was not found"));
}

static void test_connect__by_name(void **state)
{
    (void)state;
    needs_own_server();
    char url[128];
    pier_error err = {0};
    snprintf(url, sizeof url, "postgresql://postgres@localhost:%d/postgres", server.port);
    pier_db *pool = pier_db_open(runner, url, NULL, &err);
    assert_string_equal(err.message, "");
    pier_db_close(pool);
    pool = pier_db_open_finish(pier_db_open_async(runner, url, NULL), &err);
    assert_string_equal(err.message, "");
    pier_db_close(pool);
}

static void test_connect__goes_on_to_the_host_that_answers(void **state)
{
    (void)state;
    needs_own_server();
    char url[256];
    pier_error err = {0};
    struct support_silent_server silent;
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(url, sizeof url,
             "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d,127.0.0.1:%d/postgres",
             support_port_refused(), silent.port, server.port);
    for (int async = 0; async < 2; async++) {
        /* Half of it is for the one that answers, a second even where the machine is busy. */
        const pier_db_options *options = PIER_DB_OPTIONS(.connect_timeout_ms = 2000);
        pier_db *pool = async ? pier_db_open_finish(pier_db_open_async(runner, url, options), &err)
                              : pier_db_open(runner, url, options, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), 0);
        pier_db_close(pool);
    }
    support_silent_server_stop(&silent);
}

static void test_connect__too_many_connections(void **state)
{
    (void)state;
    needs_own_server();
    enum { MANY = 70 };
    pier_error err = {0};
    pier_db *pool = open_pool(MANY), *leases[MANY];
    int count = 0;
    while (count < MANY && (leases[count] = pier_db_lease(pool, &err))) {
        count++;
    }
    assert_in_range(count, 40, 60);
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_string_equal(err.sqlstate, "53300");
    assert_non_null(strstr(err.message, "lower pool_max"));
    for (int i = 0; i < count; i++) {
        pier_db_close(leases[i]);
    }
    pier_db_close(pool);
}

static void test_connect__nonsense_in_the_url(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_db_open(runner, "postgresql://ada:s3cret@h/app?nonsense=1", NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_non_null(strstr(err.message, "nonsense"));
    assert_null(strstr(err.message, "s3cret"));
}

/* They are there from the beginning, and again after a reset. */
static void test_connect__settings_of_the_server(void **state)
{
    (void)state;
    const char *const settings[] = {"statement_timeout=12345", "search_path=one, two", NULL};
    pier_error err = {0};
    char *text = NULL;
    pier_db *pool =
        pier_db_open(runner, server.url_unix,
                     PIER_DB_OPTIONS(.pool_max = 1, .reset = PIER_RESET_ALWAYS,
                                     .postgres = PIER_POSTGRES_OPTIONS(.settings = settings)),
                     &err);
    pier_db_execute(pool, "set statement_timeout = 0", NULL, &err);
    int got = pier_db_fetch_into(
        pool, "select current_setting('statement_timeout') || current_setting('search_path')", NULL,
        PIER_INTO(&text), &err);
    pier_db_close(pool);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    assert_string_equal(text, "12345msone, two");
    free(text);
}

/* A certificate of its own; false where openssl(1) is missing. From then on the server talks TLS.
 */
static bool enable_tls(void)
{
    char command[1024], text[64];
    snprintf(
        command, sizeof command,
        "cd '%s/data' && openssl req -new -x509 -days 2 -nodes -subj /CN=localhost -out server.crt "
        "-keyout server.key 2>/dev/null && chmod 600 server.key && chown '%s' server.crt "
        "server.key",
        server.directory, server.user);
    if (system(command) != 0) {
        return false;
    }
    look(text, sizeof text, "alter system set ssl = on");
    look(text, sizeof text, "select pg_reload_conf()");
    return await_int("select count(*) from pg_settings where name = 'ssl' and setting = 'on'", 1);
}

static int use_tls(pier_db *pool, pier_error *err)
{
    bool tls = false;
    char *text = NULL;
    pier_error e = {0};
    EXPECT(pier_db_fetch_into(pool, "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
                              NULL, PIER_INTO(&tls), &e) == 1);
    EXPECT(tls);
    for (int size = 1; size < 200000; size = size * 3 + 1) {
        EXPECT(pier_db_fetch_into(pool, "select repeat('x', $1)", PIER_ARGS(size), PIER_INTO(&text),
                                  &e) == 1);
        bool right = strlen(text) == (size_t)size;
        free(text);
        EXPECT(right);
    }
    pier_cursor *cursor =
        pier_db_cursor(pool, "select generate_series(1, 50000), repeat('x', 99)", NULL, &e);
    int count = 0;
    for (; pier_cursor_next(cursor); count++) {
    }
    EXPECT(pier_cursor_close(cursor, &e) == 0 && count == 50000);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 100), NULL);
    int64_t status = pier_db_execute(pool, "select pg_sleep(30)", NULL, &e);
    pier_scope_close(scope);
    EXPECT(status == PIER_ETIMEDOUT);
    return 0;
}

static void test_connect__with_tls(void **state)
{
    (void)state;
    needs_own_server();
    char url[128];
    pier_error err = {0};
    if (!enable_tls()) {
        print_message("openssl(1) is missing: TLS is not tested\n");
        skip();
    }
    snprintf(url, sizeof url, "postgresql://postgres@localhost:%d/postgres?sslmode=require",
             server.port);
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err), *usual = db;
    assert_string_equal(err.message, "");
    db = pool;
    run_here(use_tls);
    assert_true(await_running("pg_sleep", 0));
    run_in_task(use_tls);
    assert_true(await_running("pg_sleep", 0));
    db = usual;
    pier_db_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_connect__nobody_listens),
        TEST(test_connect__no_such_socket),
        TEST(test_connect__no_such_database),
        TEST(test_connect__passwords),
        TEST(test_connect__a_silent_server_costs_the_deadline_and_no_more),
        TEST(test_connect__a_server_that_hangs_up),
        TEST(test_connect__a_name_that_does_not_resolve),
        TEST(test_connect__by_name),
        TEST(test_connect__goes_on_to_the_host_that_answers),
        TEST(test_connect__too_many_connections),
        TEST(test_connect__nonsense_in_the_url),
        TEST(test_connect__settings_of_the_server),
        TEST(test_connect__with_tls), /* last: it changes the server */
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
