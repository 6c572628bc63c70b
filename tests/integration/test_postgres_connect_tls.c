/* TLS with certificates of an authority that is made for the test: who is believed, who is not, and
 * that nothing is sent unencrypted where encryption was asked for. */
#include "tests/integration/postgres_fixture.h"

static char authority[300]; /* its certificate */
static bool has_openssl;

/* One command below the server's directory. */
PIER_PRINTF(1, 2) static bool run(const char *format, ...)
{
    char command[1200], arguments[900];
    va_list args;
    va_start(args, format);
    vsnprintf(arguments, sizeof arguments, format, args);
    va_end(args);
    snprintf(command, sizeof command, "cd '%s' && %s >openssl.log 2>&1", server.directory,
             arguments);
    return system(command) == 0;
}

/* A certificate for the names, signed by the authority, in name.crt and name.key. */
static bool make_certificate(const char *name, const char *names, const char *days)
{
    char extensions[200], file[64];
    snprintf(extensions, sizeof extensions, "subjectAltName=%s\n", names);
    snprintf(file, sizeof file, "%s.ext", name);
    return support_file_write(server.directory, file, extensions, strlen(extensions)) == 0 &&
           run("openssl req -new -nodes -newkey rsa:2048 -subj /CN=pier-%s -out %s.csr -keyout "
               "%s.key",
               name, name, name) &&
           run("openssl x509 -req -in %s.csr -CA ca.crt -CAkey ca.key -CAcreateserial -extfile "
               "%s.ext -out %s.crt -days %s",
               name, name, name, days);
}

static bool is_talking(void *expected)
{
    PGconn *pg = PQconnectdb(server.url_tcp);
    bool talks = PQstatus(pg) == CONNECTION_OK && PQsslInUse(pg) == *(bool *)expected;
    PQfinish(pg);
    return talks;
}

/* From now on the server shows this one. */
static void show_certificate(const char *name)
{
    char command[900], text[64];
    bool on = true;
    snprintf(command, sizeof command,
             "cd '%s' && install -m 600 -o '%s' %s.crt data/server.crt && install -m 600 -o '%s' "
             "%s.key data/server.key",
             server.directory, server.user, name, server.user, name);
    assert_int_equal(system(command), 0);
    look(text, sizeof text, "alter system set ssl = on");
    look(text, sizeof text, "select pg_reload_conf()");
    assert_true(support_wait_until(is_talking, &on, BOUND_MS));
}

/* Who is let in; the user ada with a password. */
static int write_hba(const char *others)
{
    char path[320], text[64];
    snprintf(path, sizeof path, "%s/data/pg_hba.conf", server.directory);
    FILE *file = fopen(path, "we");
    if (!file) {
        return -1;
    }
    fprintf(file, "host all ada 127.0.0.1/32 scram-sha-256\n%s\nlocal all all trust\n", others);
    fclose(file);
    look(text, sizeof text, "select pg_reload_conf()");
    return 0;
}

static int start_with_authority(void **state)
{
    if (start_own_server(state) || write_hba("host all all 127.0.0.1/32 trust")) {
        return -1;
    }
    PQclear(PQexec(observer, "create role ada login password 's3cret'"));
    snprintf(authority, sizeof authority, "%s/ca.crt", server.directory);
    has_openssl =
        run("openssl req -new -x509 -days 2 -nodes -newkey rsa:2048 -subj /CN=pier-authority -out "
            "ca.crt -keyout ca.key") &&
        make_certificate("right", "DNS:localhost,IP:127.0.0.1", "2") &&
        make_certificate("other", "DNS:db.example.com", "2");
    if (!has_openssl) {
        print_message("openssl(1) is missing: TLS is not tested\n");
    }
    return 0;
}

static void needs_openssl(void)
{
    if (!has_openssl) {
        skip();
    }
}

struct attempt {
    char url[500];
    bool encrypted;
    pier_error err;
};

static int try_url(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct attempt *attempt = arg;
    pier_db *pool = pier_db_open(runner, attempt->url, NULL, &attempt->err);
    int got = pier_db_fetch_into(pool, "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
                                 NULL, PIER_INTO(&attempt->encrypted), &attempt->err);
    (void)got;
    pier_db_close(pool);
    return 0;
}

/* On a thread and in a task. */
static struct attempt connect_as(const char *user, const char *host, const char *mode,
                                 const char *root)
{
    struct attempt here = {.encrypted = false}, in_task;
    snprintf(here.url, sizeof here.url, "postgresql://%s:s3cret@%s:%d/postgres?sslmode=%s%s%s",
             user, host, server.port, mode, root ? "&sslrootcert=" : "", root ? root : "");
    in_task = here;
    try_url(NULL, &here, NULL);
    assert_int_equal(pier_task_run(runner, try_url, &in_task, NULL), 0);
    assert_int_equal(here.err.status, in_task.err.status);
    assert_string_equal(here.err.message, in_task.err.message);
    assert_int_equal(here.encrypted, in_task.encrypted);
    assert_null(strstr(here.err.message, "s3cret"));
    return here;
}

static struct attempt connect_with(const char *host, const char *mode, const char *root)
{
    return connect_as("postgres", host, mode, root);
}

static void expect_encrypted(struct attempt attempt)
{
    assert_string_equal(attempt.err.message, "");
    assert_true(attempt.encrypted);
}

static void expect_refused(struct attempt attempt, const char *why)
{
    assert_int_equal(attempt.err.status, PIER_ECONNECT);
    if (!strstr(attempt.err.message, why)) {
        fail_msg("%s: %s", why, attempt.err.message);
    }
}

static void test_tls__require_never_goes_without(void **state)
{
    (void)state;
    expect_refused(connect_with("127.0.0.1", "require", NULL), "server does not support SSL");
}

static void test_tls__prefer_goes_without(void **state)
{
    (void)state;
    struct attempt attempt = connect_with("127.0.0.1", "prefer", NULL);
    assert_string_equal(attempt.err.message, "");
    assert_false(attempt.encrypted);
}

static void test_tls__verify_full_believes_a_name_and_an_address(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    expect_encrypted(connect_with("localhost", "verify-full", authority));
    expect_encrypted(connect_with("127.0.0.1", "verify-full", authority));
    expect_encrypted(connect_with("127.0.0.1", "prefer", NULL));
}

static void test_tls__verify_full_refuses_another_host(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("other");
    expect_refused(connect_with("localhost", "verify-full", authority), "does not match host name");
    expect_refused(connect_with("127.0.0.1", "verify-full", authority), "does not match host name");
    expect_encrypted(connect_with("localhost", "verify-ca", authority));
}

static void test_tls__an_unknown_authority(void **state)
{
    (void)state;
    needs_openssl();
    char root[320];
    show_certificate("right");
    snprintf(root, sizeof root, "%s/other.crt", server.directory);
    expect_refused(connect_with("localhost", "verify-ca", root), "certificate verify failed");
    expect_refused(connect_with("localhost", "verify-full", "/nowhere/root.crt"),
                   "/nowhere/root.crt");
    expect_encrypted(connect_with("localhost", "require", NULL));
}

static void test_tls__an_expired_certificate(void **state)
{
    (void)state;
    needs_openssl();
    if (!make_certificate("expired", "DNS:localhost", "-1")) {
        print_message("this openssl(1) makes no expired certificate\n");
        skip();
    }
    show_certificate("expired");
    expect_refused(connect_with("localhost", "verify-full", authority),
                   "certificate verify failed");
}

/* The authorities of the system are those that OpenSSL finds where it looks for them by default;
 * libpq before 16 would look for a file named "system", and believe anybody without one. */
static void test_tls__the_authorities_of_the_system(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    if (PQlibVersion() < 160000) {
        static const char *const modes[] = {"prefer", "require", "verify-ca", "verify-full"};
        for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
            struct attempt attempt = connect_with("localhost", modes[i], "system");
            assert_int_equal(attempt.err.status, PIER_EINVAL);
            assert_non_null(strstr(attempt.err.message, "sslrootcert=system needs libpq 16"));
            assert_non_null(strstr(attempt.err.message, "ca-certificates.crt"));
        }
        return;
    }
    expect_refused(connect_with("localhost", "verify-full", "system"), "certificate verify failed");
    expect_refused(connect_with("localhost", "require", "system"), "weak sslmode");
    setenv("SSL_CERT_FILE", authority, 1);
    struct attempt attempt = connect_with("localhost", "verify-full", "system");
    unsetenv("SSL_CERT_FILE");
    expect_encrypted(attempt);
}

static void test_tls__the_authorities_of_the_environment_are_for_tcp_alone(void **state)
{
    (void)state;
    pier_error err = {0};
    setenv("PGSSLROOTCERT", "system", 1);
    pier_db *pool = pier_db_open(runner, server.url_unix, NULL, &err);
    struct attempt attempt = connect_with("localhost", "prefer", NULL);
    unsetenv("PGSSLROOTCERT");
    assert_string_equal(err.message, "");
    pier_db_close(pool);
    assert_true(attempt.err.status < 0);
    assert_non_null(strstr(attempt.err.message, "sslrootcert=system"));
}

/* SCRAM over TLS binds the password to the connection, so that nobody can stand between. */
static void test_tls__channel_binding_with_scram(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    expect_encrypted(connect_as("ada", "127.0.0.1", "require&channel_binding=require", NULL));
    expect_encrypted(
        connect_as("ada", "localhost", "verify-full&channel_binding=require", authority));
    expect_encrypted(connect_as("ada", "127.0.0.1", "require&channel_binding=disable", NULL));
}

static void test_tls__channel_binding_without_tls(void **state)
{
    (void)state;
    needs_openssl();
    struct attempt attempt =
        connect_as("ada", "127.0.0.1", "disable&channel_binding=require", NULL);
    expect_refused(attempt, "channel binding required, but SSL not in use");
    attempt = connect_as("ada", "127.0.0.1", "disable&channel_binding=prefer", NULL);
    assert_string_equal(attempt.err.message, "");
}

/* A server that asks for no password, or takes it in the clear, may be anybody. */
static void test_tls__channel_binding_without_scram(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    expect_refused(connect_with("127.0.0.1", "require&channel_binding=require", NULL),
                   "server authenticated client without channel binding");
}

/* The bytes of a handshake end anywhere: some of its beginning, and a sample of the rest. */
static void test_tls__is_cut_during_the_handshake(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    pier_error err = {0};
    char url[200];
    struct support_proxy *proxy = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=require",
             support_proxy_port(proxy));
    pier_db_close(pier_db_open(runner, url, NULL, &err));
    int64_t all = support_proxy_bytes(proxy, SUPPORT_TO_CLIENT);
    bool failed = err.status == 0;
    for (int64_t bytes = 0; failed && bytes < all - 200; bytes += bytes < 12 ? 1 : 97) {
        support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, bytes);
        memset(&err, 0, sizeof err);
        pier_db *pool = bytes % 2
                            ? pier_db_open(runner, url, NULL, &err)
                            : pier_db_open_finish(pier_db_open_async(runner, url, NULL), &err);
        failed = !pool && err.status == PIER_ECONNECT;
        pier_db_close(pool);
    }
    support_proxy_stop(proxy);
    assert_in_range(all, 1000, 10000);
    assert_true(failed);
}

/* A block ends anywhere in what OpenSSL has decrypted; what is left inside it, often all the rest,
 * shows in no socket. A status: that of the first statement behind it. */
static int close_in_the_midst(pier_db *pool, int width, int rows, pier_error *err)
{
    int number = 0;
    pier_cursor *cursor = pier_db_cursor(pool, "select repeat('x', $1) from generate_series(1, $2)",
                                         PIER_ARGS(width, rows), err);
    if (!pier_cursor_next(cursor)) {
        return -1;
    }
    if (pier_cursor_close(cursor, err) < 0) {
        return -1;
    }
    int got = pier_db_fetch_into(pool, "select $1::int", PIER_ARGS(rows), PIER_INTO(&number), err);
    return got == 1 && number == rows ? 0 : -1;
}

static int close_many(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    enum { ROWS_OF_A_BLOCK = 256 };
    for (int width = 20; width <= 100; width += 5) {
        for (int rows = ROWS_OF_A_BLOCK; rows < 2 * ROWS_OF_A_BLOCK; rows += 16) {
            if (close_in_the_midst(arg, width, rows, err) < 0) {
                return err->status ? err->status
                                   : pier_error_set(err, PIER_EUSER, "%d rows of %d", rows, width);
            }
        }
    }
    return 0;
}

/* The process of its only connection; 0: that is not encrypted. */
static int encrypted_backend(pier_db *pool)
{
    pier_error err = {0};
    int pid = 0;
    int got =
        pier_db_fetch_into(pool, "select pid from pg_stat_ssl where pid = pg_backend_pid() and ssl",
                           NULL, PIER_INTO(&pid), &err);
    assert_string_equal(err.message, "");
    return got == 1 ? pid : 0;
}

/* Nothing is left for the next statement, and the connection stays. */
static void test_tls__cursors_are_closed_in_the_midst(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    char url[200];
    pier_error err = {0};
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=require",
             server.port);
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err);
    int pid = encrypted_backend(pool);
    int status = close_many(NULL, pool, &err);
    status |= pier_task_run(runner, close_many, pool, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, 0);
    assert_int_equal(encrypted_backend(pool), pid);
    assert_true(pid > 0);
    pier_db_close(pool);
}

static int require_tls(void)
{
    return write_hba("hostssl all all 127.0.0.1/32 trust") == 0 &&
                   await_int("select count(*) from pg_hba_file_rules where type = 'hostssl'", 1)
               ? 0
               : -1;
}

static void test_tls__the_server_requires_it(void **state)
{
    (void)state;
    needs_openssl();
    show_certificate("right");
    assert_int_equal(require_tls(), 0);
    expect_refused(connect_with("127.0.0.1", "disable", NULL), "no encryption");
    expect_encrypted(connect_with("127.0.0.1", "prefer", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tls__require_never_goes_without), /* before the server has a certificate */
        TEST(test_tls__prefer_goes_without),
        TEST(test_tls__verify_full_believes_a_name_and_an_address),
        TEST(test_tls__verify_full_refuses_another_host),
        TEST(test_tls__an_unknown_authority),
        TEST(test_tls__an_expired_certificate),
        TEST(test_tls__the_authorities_of_the_system),
        TEST(test_tls__the_authorities_of_the_environment_are_for_tcp_alone),
        TEST(test_tls__channel_binding_with_scram),
        TEST(test_tls__channel_binding_without_tls),
        TEST(test_tls__channel_binding_without_scram),
        TEST(test_tls__is_cut_during_the_handshake),
        TEST(test_tls__cursors_are_closed_in_the_midst),
        TEST(test_tls__the_server_requires_it), /* last: it changes who is let in */
    };
    return cmocka_run_group_tests(tests, start_with_authority, stop_server);
}
