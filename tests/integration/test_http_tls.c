/* TLS against nginx: what is trusted, what is refused, and what a connection costs. */
#include "tests/integration/http_fixture.h"

#include <unistd.h>

static struct {
    char directory[256], certificate[300], url[64], url_by_name[64];
    int port, port_fd;
    struct support_process process;
} tls = {.port_fd = -1};

/* Paths in full, and every directory below ours, so that it runs without root's rights. */
static const char configuration[] =
    "daemon off; worker_processes 1; pid %1$s/nginx.pid; error_log %1$s/nginx.log;\n"
    "events { worker_connections 256; }\n"
    "http {\n"
    "    access_log off; client_body_temp_path %1$s/body; proxy_temp_path %1$s/proxy;\n"
    "    fastcgi_temp_path %1$s/fastcgi; uwsgi_temp_path %1$s/uwsgi; scgi_temp_path %1$s/scgi;\n"
    "    server {\n"
    "        listen 127.0.0.1:%2$d ssl; listen 127.0.0.2:%2$d ssl;\n"
    "        ssl_certificate %1$s/cert.pem; ssl_certificate_key %1$s/key.pem;\n"
    "        ssl_protocols TLSv1.2 TLSv1.3;\n"
    "        location /reused { return 200 \"$ssl_session_reused $ssl_protocol\"; }\n"
    "        location /close { keepalive_timeout 0; return 200 \"$ssl_session_reused\"; }\n"
    "        location /to-http { return 302 http://127.0.0.1:%2$d/reused; }\n"
    "        location / { return 200 secret; }\n"
    "    }\n"
    "}\n";

static int make_certificate(void)
{
    char command[1000];
    int length = snprintf(command, sizeof command,
                          "cd '%s' && openssl req -x509 -newkey rsa:2048 -nodes -days 2 "
                          "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 "
                          "-keyout key.pem -out cert.pem 2>openssl.log && chmod 644 key.pem",
                          tls.directory);
    return length < (int)sizeof command ? system(command) : -1;
}

static bool answers(void *user_data)
{
    (void)user_data;
    return support_port_answers(tls.port) || !support_process_alive(&tls.process);
}

static int start_nginx(void **state)
{
    (void)state;
    pier_runner_close(pier_runner_open(NULL, NULL));
    if (support_directory_make(tls.directory, sizeof tls.directory, "tls") < 0) {
        return -1;
    }
    if (make_certificate() != 0) {
        fprintf(stderr, "SKIPPED: all of TLS, because openssl could not make a certificate\n");
        support_directory_remove(tls.directory);
        exit(77);
    }
    tls.port_fd = support_port_reserve(&tls.port);
    char text[4096], path[300], log[300];
    snprintf(text, sizeof text, configuration, tls.directory, tls.port);
    snprintf(path, sizeof path, "%s/nginx.conf", tls.directory);
    snprintf(log, sizeof log, "%s/nginx.log", tls.directory);
    snprintf(tls.certificate, sizeof tls.certificate, "%s/cert.pem", tls.directory);
    snprintf(tls.url, sizeof tls.url, "https://127.0.0.1:%d", tls.port);
    snprintf(tls.url_by_name, sizeof tls.url_by_name, "https://localhost:%d", tls.port);
    support_file_write(tls.directory, "nginx.conf", text, strlen(text));
    const char *binary = access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "nginx";
    const char *argv[] = {binary, "-p", tls.directory, "-c", path, "-e", log, NULL};
    const struct support_process_options options = {
        .log = log, .remove = tls.directory, .argv = argv};
    if (support_process_start(&tls.process, &options) < 0 ||
        !support_wait_until(answers, NULL, BOUND_MS) || !support_process_alive(&tls.process)) {
        support_file_print(log);
        return -1;
    }
    return 0;
}

static int stop_nginx(void **state)
{
    (void)state;
    support_process_stop(&tls.process);
    support_directory_remove(tls.directory);
    close(tls.port_fd);
    return 0;
}

static pier_http *open_trusting(const char *base)
{
    pier_error err = {0};
    pier_http *session = pier_http_open(
        runner, PIER_HTTP_OPTIONS(.base_url = base, .ca_file = tls.certificate), &err);
    assert_ok(session, err);
    return session;
}

static void test_tls__trusts_the_certificates_it_is_given(void **state)
{
    (void)state;
    const char *const bases[] = {tls.url, tls.url_by_name};
    for (int i = 0; i < 2; i++) {
        pier_http *session = open_trusting(bases[i]);
        for (face_kind face = 0; face < FACES; face++) {
            pier_error err = {0};
            pier_response *response = request_of(session, face, "GET", "/", NULL, &err);
            assert_ok(response, err);
            assert_string_equal(pier_response_text(response, NULL), "secret");
            pier_response_free(response);
        }
        pier_http_close(session);
    }
}

static void test_tls__refuses_what_nobody_it_trusts_has_signed(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request(face, "GET", tls.url, NULL, &err));
        assert_int_equal(err.status, PIER_ECONNECT);
        assert_int_equal(err.origin, PIER_ORIGIN_HTTP);
        assert_contains(err.message, "certificate");
    }
}

static void test_tls__refuses_a_certificate_for_another_name(void **state)
{
    (void)state;
    char url[100];
    snprintf(url, sizeof url, "https://127.0.0.2:%d/", tls.port);
    pier_http *session = open_trusting(NULL);
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request_of(session, face, "GET", url, NULL, &err));
        assert_int_equal(err.status, PIER_ECONNECT);
        assert_contains(err.message, "127.0.0.2");
    }
    pier_http_close(session);
}

static void test_tls__resumes_sessions_across_connections(void **state)
{
    (void)state;
    pier_http *session = open_trusting(tls.url);
    int reused = 0;
    for (int i = 0; i < 6; i++) {
        pier_error err = {0};
        pier_response *response =
            request_of(session, i % 2 ? ASYNC : BLOCKING, "GET", "/close", NULL, &err);
        assert_ok(response, err);
        reused += !strcmp(pier_response_text(response, NULL), "r");
        pier_response_free(response);
    }
    assert_true(reused >= 4); /* all but the first, unless its ticket came late */
    pier_http_close(session);
}

static void test_tls__redirect_to_http_is_not_followed(void **state)
{
    (void)state;
    pier_http *session = open_trusting(tls.url);
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request_of(session, face, "GET", "/to-http", NULL, &err));
        assert_int_equal(err.status, PIER_EPROTOCOL);
        assert_contains(err.message, "https to http");
    }
    pier_http_close(session);
}

static void test_tls__streams(void **state)
{
    (void)state;
    pier_http *session = open_trusting(tls.url);
    pier_error err = {0};
    for (int i = 0; i < 3; i++) {
        pier_stream *stream = pier_http_stream(session, "GET", "/", NULL, &err);
        assert_ok(stream, err);
        assert_string_equal(pier_stream_line(stream, NULL), "secret");
        assert_int_equal(pier_stream_close(stream, &err), 0);
    }
    pier_http_close(session);
}

static void test_tls__plain_http_to_its_port_is_an_error(void **state)
{
    (void)state;
    char url[100];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", tls.port);
    pier_error err = {0};
    assert_null(pier_http_get(http, url, NULL, &err));
    assert_int_equal(err.http_status, 400);
}

static void test_tls__many_at_once(void **state)
{
    (void)state;
    enum { REQUESTS = 60 };
    pier_http *session = open_trusting(tls.url_by_name);
    pier_future *futures[REQUESTS];
    pier_error err = {0};
    for (int i = 0; i < REQUESTS; i++) {
        futures[i] = pier_http_get_async(session, "/", NULL);
    }
    for (int i = 0; i < REQUESTS; i++) {
        pier_response *response = pier_http_get_finish(futures[i], &err);
        assert_ok(response, err);
        pier_response_free(response);
    }
    pier_http_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_tls__trusts_the_certificates_it_is_given),
        HTTP_TEST(test_tls__refuses_what_nobody_it_trusts_has_signed),
        HTTP_TEST(test_tls__refuses_a_certificate_for_another_name),
        HTTP_TEST(test_tls__resumes_sessions_across_connections),
        HTTP_TEST(test_tls__redirect_to_http_is_not_followed),
        HTTP_TEST(test_tls__streams),
        HTTP_TEST(test_tls__plain_http_to_its_port_is_an_error),
        HTTP_TEST(test_tls__many_at_once),
    };
    return cmocka_run_group_tests(tests, start_nginx, stop_nginx);
}
