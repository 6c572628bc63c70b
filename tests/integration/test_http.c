/* Requests against real servers: what is sent, what comes back, and how it fails. */
#include "tests/integration/http_fixture.h"

/* ---- What is sent ------------------------------------------------------------------------- */

static void test_get__gives_status_headers_and_body(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", "/bytes/1000", NULL, &err);
        assert_ok(response, err);
        assert_int_equal(pier_response_status(response), 200);
        assert_string_equal(pier_response_header(response, "content-LENGTH"), "1000");
        assert_null(pier_response_header(response, "X-Missing"));
        size_t size;
        const char *text = pier_response_text(response, &size);
        assert_int_equal(size, 1000);
        assert_int_equal((unsigned char)text[999], 999 % 251);
        assert_int_equal(text[1000], 0);
        assert_contains(pier_response_url(response), "/bytes/1000");
        pier_response_free(response);
    }
}

static void test_get__sends_headers_and_query(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response =
            request(face, "GET", "/get?x=1",
                    PIER_REQUEST_OPTIONS(.headers = PIER_PAIRS({"X-Mine", "yes"}, {"X-Empty", ""}),
                                         .query = PIER_PAIRS({"q", "a b&c"})),
                    &err);
        assert_ok(response, err);
        const char *text = pier_response_text(response, NULL);
        assert_contains(text, "\"X-Mine\": \"yes\"");
        assert_contains(text, "\"X-Empty\": \"\"");
        assert_contains(text, "\"query\": {\"x\": \"1\", \"q\": \"a b&c\"}");
        assert_contains(text, "\"User-Agent\": \"pier/");
        assert_contains(text, "\"Accept\": \"*/*\"");
        pier_response_free(response);
    }
}

static void test_session__headers_are_sent_and_replaced(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_http *session = pier_http_open(
        runner,
        PIER_HTTP_OPTIONS(.base_url = servers.url,
                          .headers = PIER_PAIRS({"X-A", "session"}, {"User-Agent", "mine"})),
        &err);
    pier_response *response = pier_http_get(session, "/headers", NULL, &err);
    assert_ok(response, err);
    assert_contains(pier_response_text(response, NULL), "[\"X-A\", \"session\"]");
    assert_contains(pier_response_text(response, NULL), "[\"User-Agent\", \"mine\"]");
    assert_lacks(pier_response_text(response, NULL), "pier/");
    pier_response_free(response);
    response = pier_http_get(session, "/headers",
                             PIER_REQUEST_OPTIONS(.headers = PIER_PAIRS({"x-a", "request"})), &err);
    assert_ok(response, err);
    assert_contains(pier_response_text(response, NULL), "[\"x-a\", \"request\"]");
    assert_lacks(pier_response_text(response, NULL), "session");
    pier_response_free(response);
    pier_http_close(session);
}

static void test_post__sends_json(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response =
            request(face, "POST", "/post", PIER_REQUEST_OPTIONS(.json = "{\"a\":1}"), &err);
        assert_ok(response, err);
        const char *text = pier_response_text(response, NULL);
        assert_contains(text, "\"method\": \"POST\"");
        assert_contains(text, "\"Content-Type\": \"application/json\"");
        assert_contains(text, "\"Content-Length\": \"7\"");
        assert_contains(text, "{\\\"a\\\":1}");
        assert_lacks(text, "Expect");
        pier_response_free(response);
    }
}

static void test_post__sends_bytes_of_any_size_and_value(void **state)
{
    (void)state;
    enum { SIZE = 3000000 };
    char *body = malloc(SIZE);
    for (int i = 0; i < SIZE; i++) {
        body[i] = (char)(i * 7);
    }
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        size_t size;
        pier_response *response = request(
            face, "PUT", "/body", PIER_REQUEST_OPTIONS(.body = body, .body_size = SIZE), &err);
        assert_ok(response, err);
        assert_memory_equal(pier_response_text(response, &size), body, SIZE);
        assert_int_equal(size, SIZE);
        assert_string_equal(pier_response_header(response, "Content-Type"),
                            "application/octet-stream");
        pier_response_free(response);
    }
    free(body);
}

static void test_post__without_a_body_sends_an_empty_one(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_response *response = pier_http_post(http, "/echo", NULL, &err);
    assert_ok(response, err);
    assert_contains(pier_response_text(response, NULL), "\"Content-Length\": \"0\"");
    assert_lacks(pier_response_text(response, NULL), "Content-Type");
    pier_response_free(response);
}

static void test_request__sends_any_method_one_after_the_other(void **state)
{
    (void)state;
    static const char *const methods[] = {"DELETE", "GET", "PATCH", "OPTIONS", "POST", "GET"};
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        pier_error err = {0};
        char expected[40];
        snprintf(expected, sizeof expected, "\"method\": \"%s\"", methods[i]);
        pier_response *response = pier_http_request(http, methods[i], "/echo", NULL, &err);
        assert_ok(response, err);
        assert_contains(pier_response_text(response, NULL), expected);
        pier_response_free(response);
        response = pier_http_request(http, "HEAD", "/bytes/1000", NULL, &err);
        assert_ok(response, err);
        assert_string_equal(pier_response_text(response, NULL), "");
        assert_string_equal(pier_response_header(response, "Content-Length"), "1000");
        pier_response_free(response);
    }
}

static void test_request__body_is_copied_by_the_asynchronous_form(void **state)
{
    (void)state;
    pier_error err = {0};
    char body[] = "before", url[] = "/body", method[] = "POST", value[] = "text/x";
    pier_pair headers[] = {{"Content-Type", value}, {NULL, NULL}};
    pier_future *future = pier_http_request_async(
        http, method, url,
        PIER_REQUEST_OPTIONS(.headers = headers, .body = body, .body_size = strlen(body)));
    memset(body, 'x', sizeof body - 1);
    memset(url, 'x', sizeof url - 1);
    memset(method, 'x', sizeof method - 1);
    memset(value, 'x', sizeof value - 1);
    pier_response *response = pier_http_request_finish(future, &err);
    assert_ok(response, err);
    assert_string_equal(pier_response_text(response, NULL), "before");
    assert_string_equal(pier_response_header(response, "Content-Type"), "text/x");
    pier_response_free(response);
}

static void test_request__sends_the_user_of_the_url_and_shows_none(void **state)
{
    (void)state;
    pier_error err = {0};
    char url[100];
    snprintf(url, sizeof url, "http://user:secret@127.0.0.1:%d/auth", servers.port);
    pier_response *response = pier_http_get(http, url, NULL, &err);
    assert_ok(response, err);
    assert_lacks(pier_response_url(response), "secret");
    pier_response_free(response);
    snprintf(url, sizeof url, "http://user:wrong@127.0.0.1:%d/auth?token=wrong", servers.port);
    assert_null(pier_http_get(http, url, NULL, &err));
    assert_int_equal(err.http_status, 401);
    assert_lacks(err.message, "wrong");
}

/* ---- What is refused ---------------------------------------------------------------------- */

static void assert_refused(const char *method, const char *url, const pier_request_options *options)
{
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request(face, method, url, options, &err));
        assert_int_equal(err.status, PIER_EINVAL);
        assert_int_not_equal(err.message[0], 0);
    }
}

static void test_request__refuses_to_be_split_in_two(void **state)
{
    (void)state;
    assert_refused("GET\r\nX: y", "/get", NULL);
    assert_refused("GET /", "/get", NULL);
    assert_refused("", "/get", NULL);
    assert_refused(NULL, "/get", NULL);
    assert_refused("GET", NULL, NULL);
    assert_refused("GET", "/get HTTP/1.1\r\nX: y", NULL);
    assert_refused("GET", "/get\nX: y", NULL);
    assert_refused("GET", "/get",
                   PIER_REQUEST_OPTIONS(.headers = PIER_PAIRS({"X-A", "1\r\nX-B: 2"})));
    assert_refused("GET", "/get",
                   PIER_REQUEST_OPTIONS(.headers = PIER_PAIRS({"X-A: 1\r\nX", "1"})));
    assert_refused("GET", "/get", PIER_REQUEST_OPTIONS(.headers = PIER_PAIRS({"X A", "1"})));
}

static void test_request__refuses_options_that_cannot_be_right(void **state)
{
    (void)state;
    assert_refused("POST", "/post",
                   PIER_REQUEST_OPTIONS(.json = "{}", .body = "x", .body_size = 1));
    assert_refused("POST", "/post", PIER_REQUEST_OPTIONS(.body_size = 1));
    assert_refused("HEAD", "/get", PIER_REQUEST_OPTIONS(.json = "{}"));
    assert_refused("GET", "/get", PIER_REQUEST_OPTIONS(.timeout_ms = -2));
    assert_refused("GET", "/get", &(const pier_request_options){.struct_size = 0, .json = ""});
    assert_refused("GET", "ftp://127.0.0.1/", NULL);
    assert_refused("GET", "file:///etc/passwd", NULL);
}

static void test_open__refuses_options_that_cannot_be_right(void **state)
{
    (void)state;
    const pier_http_options *const wrong[] = {
        PIER_HTTP_OPTIONS(.base_url = "/relative"),
        PIER_HTTP_OPTIONS(.base_url = "ftp://example.org"),
        PIER_HTTP_OPTIONS(.headers = PIER_PAIRS({"X\n", "1"})),
        PIER_HTTP_OPTIONS(.limit = -1),
        PIER_HTTP_OPTIONS(.ca_file = "/no/such/file.pem"),
    };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        pier_error err = {0};
        assert_null(pier_http_open(runner, wrong[i], &err));
        assert_int_equal(err.status, PIER_EINVAL);
    }
    pier_error err = {0};
    assert_null(pier_http_open(NULL, NULL, &err));
    assert_int_equal(err.status, PIER_EINVAL);
}

static void test_null__passes_through_with_the_first_error(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_EUSER, "the first");
    assert_null(pier_http_get(NULL, "/", NULL, &err));
    assert_null(pier_http_stream(NULL, "GET", "/", NULL, &err));
    assert_null(pier_stream_chunk(NULL, NULL));
    assert_null(pier_stream_line(NULL, NULL));
    assert_int_equal(pier_stream_close(NULL, &err), PIER_EUSER);
    assert_string_equal(err.message, "the first");
    pier_http_close(NULL);
    pier_chunk_free(NULL);
    pier_response_free(NULL);
}

/* ---- Status and redirects ----------------------------------------------------------------- */

static void test_status__of_400_and_more_is_a_failure(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request(face, "GET", "/status/404?key=secret", NULL, &err));
        assert_int_equal(err.status, PIER_EHTTP_STATUS);
        assert_int_equal(err.http_status, 404);
        assert_contains(err.message, "GET http://127.0.0.1:");
        assert_contains(err.message, "/status/404?...: 404 Not Found");
        assert_string_equal(pier_error_field(&err, PIER_FIELD_DETAIL), "status 404 ");
        err = (pier_error){0};
        pier_response *response =
            request(face, "GET", "/status/503", PIER_REQUEST_OPTIONS(.any_status = true), &err);
        assert_ok(response, err);
        assert_int_equal(pier_response_status(response), 503);
        assert_string_equal(pier_response_text(response, NULL), "status 503\n");
        pier_response_free(response);
    }
}

static void test_status__failure_keeps_the_connection(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/status/500", support_proxy_port(proxy));
    for (int i = 0; i < 5; i++) {
        pier_error err = {0};
        assert_null(pier_http_get(http, url, NULL, &err));
        assert_int_equal(err.http_status, 500);
    }
    assert_int_equal(support_proxy_accepted(proxy), 1);
    support_proxy_stop(proxy);
}

static void test_redirect__is_followed_with_the_url_that_answered(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", "/redirect/3", NULL, &err);
        assert_ok(response, err);
        assert_contains(pier_response_url(response), "/get");
        assert_contains(pier_response_text(response, NULL), "\"path\": \"/get\"");
        pier_response_free(response);
    }
}

static void test_redirect__ends_after_ten(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", "/redirect/10", NULL, &err);
        assert_ok(response, err);
        pier_response_free(response);
        assert_null(request(face, "GET", "/redirect/11", NULL, &err));
        assert_int_equal(err.status, PIER_EPROTOCOL);
        assert_contains(err.message, "redirected more than 10 times");
    }
}

static void test_redirect__changes_method_and_body_by_its_status(void **state)
{
    (void)state;
    static const struct {
        int code;
        const char *method, *expected;
        bool has_body;
    } cases[] = {
        {301, "POST", "GET", false}, {302, "POST", "GET", false}, {303, "POST", "GET", false},
        {303, "PUT", "GET", false},  {302, "PUT", "PUT", true},   {307, "POST", "POST", true},
        {308, "POST", "POST", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pier_error err = {0};
        char url[100], method[40];
        snprintf(url, sizeof url, "/redirect/1?code=%d", cases[i].code);
        snprintf(method, sizeof method, "\"method\": \"%s\"", cases[i].expected);
        pier_response *response = pier_http_request(http, cases[i].method, url,
                                                    PIER_REQUEST_OPTIONS(.json = "[7]"), &err);
        assert_ok(response, err);
        const char *text = pier_response_text(response, NULL);
        assert_contains(text, method);
        assert_int_equal(strstr(text, "[7]") != NULL, cases[i].has_body);
        assert_int_equal(strstr(text, "application/json") != NULL, cases[i].has_body);
        pier_response_free(response);
    }
}

static void get_redirected(const char *host, bool secrets_arrive)
{
    char target[100], url[200];
    snprintf(target, sizeof target, "http://%s:%d/headers", host, servers.port);
    snprintf(url, sizeof url, "/redirect-to");
    pier_error err = {0};
    pier_response *response = pier_http_get(
        http, url,
        PIER_REQUEST_OPTIONS(.query = PIER_PAIRS({"url", target}),
                             .headers = PIER_PAIRS({"Authorization", "Bearer secret"},
                                                   {"cookie", "a=secret"}, {"X-API-Key", "secret"},
                                                   {"X-Other", "kept"})),
        &err);
    assert_ok(response, err);
    const char *text = pier_response_text(response, NULL);
    assert_contains(text, "kept");
    assert_int_equal(strstr(text, "secret") != NULL, secrets_arrive);
    pier_response_free(response);
}

static void test_redirect__strips_secrets_on_the_way_to_another_origin(void **state)
{
    (void)state;
    get_redirected("127.0.0.1", true);
    get_redirected("localhost", false);
}

static void test_redirect__leads_to_http_only(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_http_get(
        http, "/redirect-to",
        PIER_REQUEST_OPTIONS(.query = PIER_PAIRS({"url", "file:///etc/passwd"})), &err));
    assert_int_equal(err.status, PIER_EPROTOCOL);
}

/* ---- Bodies ------------------------------------------------------------------------------- */

static void test_body__is_decoded(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", "/gzip", NULL, &err);
        assert_ok(response, err);
        assert_contains(pier_response_text(response, NULL), "\"compressed\": true");
        pier_response_free(response);
        response = request(face, "GET", "/deflate", NULL, &err);
        assert_ok(response, err);
        assert_contains(pier_response_text(response, NULL), "\"compressed\": true");
        pier_response_free(response);
    }
}

static void test_body__has_a_bound_that_counts_decoded_bytes(void **state)
{
    (void)state;
    static const char *const urls[] = {"/bytes/2000", "/gzip?size=100000000", "/lines/1000"};
    for (face_kind face = 0; face < FACES; face++) {
        for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
            pier_error err = {0};
            assert_null(
                request(face, "GET", urls[i], PIER_REQUEST_OPTIONS(.body_max = 1999), &err));
            assert_int_equal(err.status, PIER_ERANGE);
            assert_contains(err.message, "body_max");
        }
        pier_error err = {0};
        pier_response *response =
            request(face, "GET", "/bytes/1999", PIER_REQUEST_OPTIONS(.body_max = 1999), &err);
        assert_ok(response, err);
        pier_response_free(response);
    }
}

static void test_body__ends_with_the_connection_where_nothing_else_says_so(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", "/no-length", NULL, &err);
        assert_ok(response, err);
        assert_string_equal(pier_response_text(response, NULL), "until the end\n");
        pier_response_free(response);
    }
}

static void test_body__cut_short_is_a_failure(void **state)
{
    (void)state;
    static const char *const urls[] = {"/close-early?n=1000", "/close-chunked", "/garbage"};
    for (face_kind face = 0; face < FACES; face++) {
        for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
            pier_error err = {0};
            assert_null(request(face, "GET", urls[i], NULL, &err));
            if (strcmp(urls[i], "/garbage") || err.status != PIER_EINVAL) {
                assert_int_equal(err.status, PIER_EPROTOCOL);
            }
            assert_int_equal(err.origin, PIER_ORIGIN_HTTP);
            assert_contains(err.message, "GET http://127.0.0.1:");
        }
    }
}

static void test_body__of_a_mebibyte_is_whole(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++) {
        for (face_kind face = 0; face < FACES; face++) {
            pier_error err = {0};
            size_t size;
            pier_response *response = request(face, "GET", "/bytes/5000000", NULL, &err);
            assert_ok(response, err);
            const char *text = pier_response_text(response, &size);
            assert_int_equal(size, 5000000);
            for (size_t at = 0; at < size; at += 4999) {
                assert_int_equal((unsigned char)text[at], at % 251);
            }
            pier_response_free(response);
        }
    }
}

/* ---- Connections -------------------------------------------------------------------------- */

static void test_connection__is_used_again(void **state)
{
    (void)state;
    char url[100];
    for (face_kind face = 0; face < FACES; face++) {
        struct support_proxy *proxy = support_proxy_start(servers.port);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/get", support_proxy_port(proxy));
        for (int i = 0; i < 20; i++) {
            pier_error err = {0};
            pier_response *response = request(face, "GET", url, NULL, &err);
            assert_ok(response, err);
            pier_response_free(response);
        }
        assert_int_equal(support_proxy_accepted(proxy), 1);
        support_proxy_stop(proxy);
    }
}

static void test_connection__that_died_is_replaced(void **state)
{
    (void)state;
    char url[100];
    for (face_kind face = 0; face < FACES; face++) {
        struct support_proxy *proxy = support_proxy_start(servers.port);
        snprintf(url, sizeof url, "http://127.0.0.1:%d/get", support_proxy_port(proxy));
        for (int i = 0; i < 3; i++) {
            pier_error err = {0};
            pier_response *response = request(face, "GET", url, NULL, &err);
            assert_ok(response, err);
            pier_response_free(response);
            support_proxy_kill_connections(proxy);
        }
        assert_int_equal(support_proxy_accepted(proxy), 3);
        support_proxy_stop(proxy);
    }
}

static void test_connection__refused_is_reported(void **state)
{
    (void)state;
    char url[100];
    snprintf(url, sizeof url, "http://127.0.0.1:%d/get", support_port_refused());
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request(face, "GET", url, NULL, &err));
        assert_int_equal(err.status, PIER_ECONNECT);
        assert_int_equal(err.origin, PIER_ORIGIN_HTTP);
        assert_contains(err.message, url);
    }
}

static void test_connection__reset_is_reported(void **state)
{
    (void)state;
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        assert_null(request(face, "GET", "/reset", NULL, &err));
        assert_int_equal(err.status, PIER_EPROTOCOL);
        assert_int_equal(err.origin, PIER_ORIGIN_HTTP);
    }
}

static void test_name__is_looked_up_and_one_that_does_not_exist_reported(void **state)
{
    (void)state;
    char url[100];
    snprintf(url, sizeof url, "http://localhost:%d/get", servers.port);
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", url, NULL, &err);
        assert_ok(response, err);
        pier_response_free(response);
        assert_null(request(face, "GET", "http://no-such-name.invalid/", NULL, &err));
        assert_int_equal(err.status, PIER_ECONNECT);
        assert_contains(err.message, "no-such-name.invalid");
    }
}

static void test_environment__proxy_is_ignored(void **state)
{
    (void)state;
    static const char *const names[] = {"http_proxy", "ALL_PROXY"};
    for (int i = 0; i < 2; i++) {
        setenv(names[i], "http://127.0.0.1:1", 1);
    }
    for (face_kind face = 0; face < FACES; face++) {
        pier_error err = {0};
        pier_response *response = request(face, "GET", "/get", NULL, &err);
        assert_ok(response, err);
        pier_response_free(response);
    }
    for (int i = 0; i < 2; i++) {
        unsetenv(names[i]);
    }
}

/*
 * The kept connection dies with the request, as it does when a server ends it in that moment:
 * libcurl would send again whatever it was.
 */
static void test_post__is_not_sent_twice(void **state)
{
    (void)state;
    char url[160], count[100];
    for (face_kind face = 0; face < FACES; face++) {
        struct support_proxy *proxy = support_proxy_start(servers.port);
        snprintf(count, sizeof count, "/count/posts-%d", face);
        snprintf(url, sizeof url, "http://127.0.0.1:%d%s", support_proxy_port(proxy), count);
        pier_error err = {0};
        pier_response *response = request(face, "GET", url, NULL, &err);
        assert_ok(response, err);
        pier_response_free(response);
        /* What the server answers from now on is lost, on the kept connection alone. */
        support_proxy_use_reset(proxy, false);
        int64_t sent = support_proxy_bytes(proxy, SUPPORT_TO_SERVER);
        support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, 10);
        assert_null(request(face, "POST", url, PIER_REQUEST_OPTIONS(.json = "{}"), &err));
        assert_int_equal(err.status, PIER_EIO);
        assert_contains(err.message, "not sent again");
        /* libcurl had connected anew before it was stopped, but sent nothing there. */
        assert_true(support_proxy_bytes(proxy, SUPPORT_TO_SERVER) <= sent + 10);
        support_proxy_stop(proxy);
    }
}

static void test_get__is_sent_again_when_the_kept_connection_had_died(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/get", support_proxy_port(proxy));
    pier_error err = {0};
    pier_response *response = pier_http_get(http, url, NULL, &err);
    assert_ok(response, err);
    pier_response_free(response);
    support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, 10);
    pier_future *future = pier_http_get_async(http, url, NULL);
    pier_future_wait(future, 50, &err);
    support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, -1);
    response = pier_http_get_finish(future, &err);
    if (!response) {
        assert_int_equal(err.status, PIER_EPROTOCOL); /* when the second was cut as well */
    }
    pier_response_free(response);
    support_proxy_stop(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_get__gives_status_headers_and_body),
        HTTP_TEST(test_get__sends_headers_and_query),
        HTTP_TEST(test_session__headers_are_sent_and_replaced),
        HTTP_TEST(test_post__sends_json),
        HTTP_TEST(test_post__sends_bytes_of_any_size_and_value),
        HTTP_TEST(test_post__without_a_body_sends_an_empty_one),
        HTTP_TEST(test_request__sends_any_method_one_after_the_other),
        HTTP_TEST(test_request__body_is_copied_by_the_asynchronous_form),
        HTTP_TEST(test_request__sends_the_user_of_the_url_and_shows_none),
        HTTP_TEST(test_request__refuses_to_be_split_in_two),
        HTTP_TEST(test_request__refuses_options_that_cannot_be_right),
        HTTP_TEST(test_open__refuses_options_that_cannot_be_right),
        HTTP_TEST(test_null__passes_through_with_the_first_error),
        HTTP_TEST(test_status__of_400_and_more_is_a_failure),
        HTTP_TEST(test_status__failure_keeps_the_connection),
        HTTP_TEST(test_redirect__is_followed_with_the_url_that_answered),
        HTTP_TEST(test_redirect__ends_after_ten),
        HTTP_TEST(test_redirect__changes_method_and_body_by_its_status),
        HTTP_TEST(test_redirect__strips_secrets_on_the_way_to_another_origin),
        HTTP_TEST(test_redirect__leads_to_http_only),
        HTTP_TEST(test_body__is_decoded),
        HTTP_TEST(test_body__has_a_bound_that_counts_decoded_bytes),
        HTTP_TEST(test_body__ends_with_the_connection_where_nothing_else_says_so),
        HTTP_TEST(test_body__cut_short_is_a_failure),
        HTTP_TEST(test_body__of_a_mebibyte_is_whole),
        HTTP_TEST(test_connection__is_used_again),
        HTTP_TEST(test_connection__that_died_is_replaced),
        HTTP_TEST(test_connection__refused_is_reported),
        HTTP_TEST(test_connection__reset_is_reported),
        HTTP_TEST(test_name__is_looked_up_and_one_that_does_not_exist_reported),
        HTTP_TEST(test_environment__proxy_is_ignored),
        HTTP_TEST(test_post__is_not_sent_twice),
        HTTP_TEST(test_get__is_sent_again_when_the_kept_connection_had_died),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
