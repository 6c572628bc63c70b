/* TLS to a server that insists on it, with a certificate for localhost of an authority of its own.
 */
#include "tests/integration/docker_fixture.h"

/* Opens and asks; the status of what failed. */
static int try_url(const char *host, const char *parameters, pier_error *err)
{
    char url[512];
    snprintf(url, sizeof url, "postgresql://postgres:pier@%s:%s/postgres%s", host, port_of("TLS"),
             parameters);
    pier_db *db = pier_db_open(runner, url, NULL, err);
    bool encrypted = false;
    int got = pier_db_fetch_into(db, "select ssl from pg_stat_ssl where pid = pg_backend_pid()",
                                 NULL, PIER_INTO(&encrypted), err);
    pier_db_close(db);
    return got < 0 ? got : encrypted ? 0 : PIER_EUSER;
}

/* Parameters with the authority's certificate, which scripts/docker has taken out. */
static char *verifying(char *parameters, size_t size, const char *mode)
{
    snprintf(parameters, size, "?sslmode=%s&sslrootcert=%s", mode, getenv("PIER_DOCKER_CA"));
    return parameters;
}

static void test_tls__require_encrypts(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(try_url("127.0.0.1", "?sslmode=require", &err), 0);
}

static void test_tls__prefer_finds_out_that_the_server_insists(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(try_url("127.0.0.1", "?sslmode=prefer", &err), 0);
}

static void test_tls__without_it_the_server_lets_nobody_in(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(try_url("127.0.0.1", "?sslmode=disable", &err), PIER_ECONNECT);
    assert_non_null(strstr(err.message, "no encryption"));
    assert_null(strstr(err.message, "postgres:pier"));
}

static void test_tls__verify_full_takes_the_name_in_the_certificate(void **state)
{
    (void)state;
    char parameters[300];
    pier_error err = {0};
    assert_int_equal(
        try_url("localhost", verifying(parameters, sizeof parameters, "verify-full"), &err), 0);
}

static void test_tls__verify_full_refuses_another_name(void **state)
{
    (void)state;
    char parameters[300];
    pier_error err = {0};
    assert_int_equal(try_url("127.0.0.1", verifying(parameters, sizeof parameters, "verify-full"),
                             &err),
                     PIER_ECONNECT);
    assert_non_null(strstr(err.message, "does not match host name"));
}

static void test_tls__verify_ca_does_not_look_at_the_name(void **state)
{
    (void)state;
    char parameters[300];
    pier_error err = {0};
    assert_int_equal(
        try_url("127.0.0.1", verifying(parameters, sizeof parameters, "verify-ca"), &err), 0);
}

static void test_tls__an_unknown_authority_is_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    /* Of Debian's authorities none has signed it. */
    assert_int_equal(try_url("localhost",
                             "?sslmode=verify-full&sslrootcert=/etc/ssl/certs/ca-certificates.crt",
                             &err),
                     PIER_ECONNECT);
    assert_non_null(strstr(err.message, "certificate"));
}

static int use_tls(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return try_url("localhost", arg, err);
}

static void test_tls__verify_full_in_a_task(void **state)
{
    (void)state;
    char parameters[300];
    pier_error err = {0};
    verifying(parameters, sizeof parameters, "verify-full");
    assert_int_equal(pier_task_run(runner, use_tls, parameters, &err), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_tls__require_encrypts),
        TEST(test_tls__prefer_finds_out_that_the_server_insists),
        TEST(test_tls__without_it_the_server_lets_nobody_in),
        TEST(test_tls__verify_full_takes_the_name_in_the_certificate),
        TEST(test_tls__verify_full_refuses_another_name),
        TEST(test_tls__verify_ca_does_not_look_at_the_name),
        TEST(test_tls__an_unknown_authority_is_refused),
        TEST(test_tls__verify_full_in_a_task),
    };
    return cmocka_run_group_tests(tests, needs_containers, NULL);
}
