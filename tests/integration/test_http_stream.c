/* Streams against real servers: bodies that come in parts, back-pressure, and their ends. */
#include "tests/integration/http_fixture.h"

#include <unistd.h>

/* ---- Helpers ------------------------------------------------------------------------------ */

enum { BIG = 100 * 1024 * 1024 };

static int start_servers_with_big_file(void **state)
{
    if (start_servers(state) < 0) {
        return -1;
    }
    char *data = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) {
        data[i] = (char)(i % 251);
    }
    int rc = support_file_write(servers.root, "big.bin", data, BIG);
    free(data);
    return rc;
}

static long resident_kib(void)
{
    long pages = 0;
    FILE *file = fopen("/proc/self/statm", "re");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Reads all of it, checking byte i against i % 251; gives how many there were. */
static size_t read_all(pier_stream *stream, size_t at)
{
    size_t size;
    const unsigned char *chunk;
    while ((chunk = pier_stream_chunk(stream, &size))) {
        for (size_t i = 0; i < size; i += 97) {
            if (chunk[i] != (at + i) % 251) {
                return 0;
            }
        }
        at += size;
    }
    return at;
}

static void big_url(char *url, size_t size, int port)
{
    snprintf(url, size, "http://127.0.0.1:%d/big.bin", port);
}

/* Runs `fn` blocking, then in a task; it asserts nothing in the task, but returns a text. */
typedef const char *(*body_fn)(void);

static int run_body(pier_task *self, void *arg, pier_error *err)
{
    (void)self, (void)err;
    body_fn *fn = arg;
    const char *complaint = (*fn)();
    if (complaint) {
        return pier_error_set(err, PIER_EUSER, "%s", complaint);
    }
    return 0;
}

static void run_both(body_fn fn)
{
    const char *complaint = fn();
    if (complaint) {
        fail_msg("blocking: %s", complaint);
    }
    pier_error err = {0};
    if (pier_task_run(runner, run_body, &fn, &err) < 0) {
        fail_msg("in a task: %s", err.message);
    }
}

static const char *complain(pier_stream *stream, const char *what)
{
    pier_error err = {0};
    (void)!pier_stream_close(stream, &err);
    static char text[600];
    snprintf(text, sizeof text, "%s (%s)", what, err.message);
    return text;
}

/* ---- Reading ------------------------------------------------------------------------------ */

static const char *stream_chunks(void)
{
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", "/bytes/3000000", NULL, &err);
    if (pier_stream_status(stream) != 200 ||
        strcmp(pier_stream_header(stream, "content-length"), "3000000") != 0) {
        return complain(stream, "no headers");
    }
    if (read_all(stream, 0) != 3000000) {
        return complain(stream, "another body");
    }
    if (pier_stream_chunk(stream, NULL)) {
        return complain(stream, "a chunk behind the end");
    }
    return pier_stream_close(stream, &err) == 0 ? NULL : "close failed";
}

static void test_stream__gives_the_body_in_chunks(void **state)
{
    (void)state;
    run_both(stream_chunks);
}

static const char *stream_lines(void)
{
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", "/lines/50000", NULL, &err);
    size_t length;
    const char *line;
    char expected[40];
    int count = 0;
    while ((line = pier_stream_line(stream, &length))) {
        int expected_length = snprintf(expected, sizeof expected, "{\"n\": %d}", count++);
        if (strcmp(line, expected) != 0 || length != (size_t)expected_length) {
            return complain(stream, line);
        }
    }
    if (count != 50000) {
        return complain(stream, "not all lines");
    }
    return pier_stream_close(stream, &err) == 0 ? NULL : "close failed";
}

static void test_stream__gives_lines(void **state)
{
    (void)state;
    run_both(stream_lines);
}

static const char *stream_drip(void)
{
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", "/drip?n=5&ms=20", NULL, &err);
    size_t size, total = 0;
    while (pier_stream_chunk(stream, &size)) {
        total += size;
    }
    if (total != 5) {
        return complain(stream, "not five bytes");
    }
    return pier_stream_close(stream, &err) == 0 ? NULL : "close failed";
}

static void test_stream__gives_bytes_as_they_come(void **state)
{
    (void)state;
    run_both(stream_drip);
}

static void test_stream__without_a_body_is_at_its_end(void **state)
{
    (void)state;
    static const char *const urls[] = {"/bytes/0", "/status/204"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        pier_error err = {0};
        pier_stream *stream = pier_http_stream(http, "GET", urls[i], NULL, &err);
        assert_ok(stream, err);
        assert_null(pier_stream_chunk(stream, NULL));
        assert_null(pier_stream_line(stream, NULL));
        assert_int_equal(pier_stream_close(stream, &err), 0);
    }
}

static void test_stream__follows_redirects_and_sends_bodies(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "POST", "/redirect/2?code=307",
                                           PIER_REQUEST_OPTIONS(.json = "[\"sent\"]"), &err);
    assert_ok(stream, err);
    const char *line = pier_stream_line(stream, NULL);
    assert_non_null(line);
    assert_contains(line, "[\\\"sent\\\"]");
    assert_int_equal(pier_stream_close(stream, &err), 0);
}

static void test_stream__decodes(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", "/gzip?size=20000000", NULL, &err);
    assert_ok(stream, err);
    size_t size, total = 0;
    while (pier_stream_chunk(stream, &size)) {
        total += size;
    }
    assert_int_equal(total, 20000000);
    assert_int_equal(pier_stream_close(stream, &err), 0);
}

static void test_stream__of_an_error_status_fails(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_http_stream(http, "GET", "/status/500", NULL, &err));
    assert_int_equal(err.http_status, 500);
    assert_string_equal(pier_error_field(&err, PIER_FIELD_DETAIL), "status 500 ");
    pier_stream *stream = pier_http_stream(http, "GET", "/status/500",
                                           PIER_REQUEST_OPTIONS(.any_status = true), &err);
    assert_int_equal(pier_stream_status(stream), 500);
    assert_string_equal(pier_stream_line(stream, NULL), "status 500");
    assert_int_equal(pier_stream_close(stream, &err), 0);
}

static void test_stream__blocks_come_as_futures(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_stream *stream =
        pier_http_stream_finish(pier_http_stream_async(http, "GET", "/bytes/2000000", NULL), &err);
    assert_ok(stream, err);
    size_t total = 0, size = 1;
    while (size) {
        pier_chunk *chunk = pier_stream_block_finish(pier_stream_block_async(stream), &err);
        assert_ok(chunk, err);
        const unsigned char *data = pier_chunk_data(chunk, &size);
        assert_true(!size || data[0] == total % 251);
        total += size;
        pier_chunk_free(chunk);
    }
    assert_int_equal(total, 2000000);
    assert_int_equal(pier_stream_close_finish(pier_stream_close_async(stream), &err), 0);
}

static void test_stream__is_read_by_one_at_a_time(void **state)
{
    (void)state;
    pier_error err = {0}, second_err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", "/gated/readers", NULL, &err);
    assert_ok(stream, err);
    pier_chunk_free(pier_stream_block(stream, &err));
    pier_future *first = pier_stream_block_async(stream);
    pier_future *second = pier_stream_block_async(stream);
    assert_null(pier_stream_block_finish(second, &second_err));
    assert_int_equal(second_err.status, PIER_EBUSY);
    open_gate("readers");
    pier_chunk *chunk = pier_stream_block_finish(first, &err);
    assert_ok(chunk, err);
    pier_chunk_free(chunk);
    assert_int_equal(pier_stream_close(stream, &err), 0);
}

/* ---- Memory and back-pressure ------------------------------------------------------------- */

static void test_stream__of_100_mib_needs_little_memory(void **state)
{
    (void)state;
    char url[100];
    big_url(url, sizeof url, servers.port_nginx);
    long before = resident_kib();
    for (int i = 0; i < 2; i++) {
        pier_error err = {0};
        pier_stream *stream = pier_http_stream(http, "GET", url, NULL, &err);
        assert_ok(stream, err);
        assert_int_equal(read_all(stream, 0), BIG);
        assert_int_equal(pier_stream_close(stream, &err), 0);
    }
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    (void)before; /* their own memory is counted too */
#else
    assert_true(resident_kib() - before < 16 * 1024);
#endif
}

struct flow {
    struct support_proxy *proxy;
    int64_t bytes;
    int same;
};

/* Nothing has moved for 100 ms. */
static bool has_stopped(void *user_data)
{
    struct flow *flow = user_data;
    int64_t bytes = support_proxy_bytes(flow->proxy, SUPPORT_TO_CLIENT);
    flow->same = bytes && bytes == flow->bytes ? flow->same + 1 : 0;
    flow->bytes = bytes;
    return flow->same >= 50;
}

static void test_stream__unread_makes_the_server_wait(void **state)
{
    (void)state;
    char url[100];
    struct flow flow = {.proxy = support_proxy_start(servers.port_nginx)};
    big_url(url, sizeof url, support_proxy_port(flow.proxy));
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", url, NULL, &err);
    assert_ok(stream, err);
    for (int i = 0; i < 3; i++) {
        flow.same = 0;
        assert_true(support_wait_until(has_stopped, &flow, BOUND_MS));
        assert_true(flow.bytes < BIG / 2); /* what the kernel buffers is not ours to bound */
    }
    assert_int_equal(read_all(stream, 0), BIG);
    assert_int_equal(pier_stream_close(stream, &err), 0);
    support_proxy_stop(flow.proxy);
}

static void test_stream__unread_does_not_hold_up_others(void **state)
{
    (void)state;
    char url[100];
    big_url(url, sizeof url, servers.port_nginx);
    enum { STREAMS = 20 };
    pier_stream *streams[STREAMS];
    pier_error err = {0};
    for (int i = 0; i < STREAMS; i++) {
        streams[i] = pier_http_stream(http, "GET", url, NULL, &err);
        assert_ok(streams[i], err);
    }
    pier_response *response = pier_http_get_finish(pier_http_get_async(http, "/get", NULL), &err);
    assert_ok(response, err);
    pier_response_free(response);
    for (int i = 0; i < STREAMS; i++) {
        assert_int_equal(pier_stream_close(streams[i], &err), 0);
    }
}

/* ---- Ends --------------------------------------------------------------------------------- */

static void test_stream__abandoned_gives_its_slot_back(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port_nginx);
    big_url(url, sizeof url, support_proxy_port(proxy));
    pier_error err = {0};
    pier_http *session =
        pier_http_open(runner, PIER_HTTP_OPTIONS(.limit = 1, .connect_timeout_ms = 5000), &err);
    for (int i = 0; i < 3; i++) {
        pier_stream *stream = pier_http_stream(session, "GET", url, NULL, &err);
        assert_ok(stream, err);
        assert_non_null(pier_stream_chunk(stream, NULL));
        assert_int_equal(pier_stream_close(stream, &err), 0);
        assert_true(support_proxy_wait_open(proxy, 0, BOUND_MS));
    }
    pier_http_close(session);
    support_proxy_stop(proxy);
}

static void test_stream__read_to_its_end_keeps_the_connection(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/bytes/100000", support_proxy_port(proxy));
    for (int i = 0; i < 5; i++) {
        pier_error err = {0};
        pier_stream *stream = pier_http_stream(http, "GET", url, NULL, &err);
        assert_int_equal(read_all(stream, 0), 100000);
        assert_int_equal(pier_stream_close(stream, &err), 0);
    }
    assert_int_equal(support_proxy_accepted(proxy), 1);
    support_proxy_stop(proxy);
}

static void test_stream__that_nobody_takes_is_ended(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port_nginx);
    big_url(url, sizeof url, support_proxy_port(proxy));
    pier_error err = {0};
    pier_future *future = pier_http_stream_async(http, "GET", url, NULL);
    assert_int_equal(pier_future_wait(future, BOUND_MS, &err), 1);
    pier_future_free(future);
    assert_true(support_proxy_wait_open(proxy, 0, BOUND_MS));
    support_proxy_stop(proxy);
}

static void test_stream__cut_short_fails_at_its_close(void **state)
{
    (void)state;
    static const char *const urls[] = {"/close-early?n=1000", "/close-chunked"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        pier_error err = {0};
        pier_stream *stream = pier_http_stream(http, "GET", urls[i], NULL, &err);
        assert_ok(stream, err);
        size_t size, total = 0;
        while (pier_stream_chunk(stream, &size)) {
            total += size;
        }
        assert_true(total > 0); /* what came before the cut is given */
        assert_int_equal(pier_stream_close(stream, &err), PIER_EPROTOCOL);
        assert_int_equal(err.origin, PIER_ORIGIN_HTTP);
    }
}

static void test_stream__has_one_deadline_for_all_of_it(void **state)
{
    (void)state;
    pier_error err = {0};
    int64_t start = support_now_ms();
    pier_stream *stream = pier_http_stream(http, "GET", "/drip?n=1000&ms=10",
                                           PIER_REQUEST_OPTIONS(.timeout_ms = 300), &err);
    assert_ok(stream, err);
    while (pier_stream_chunk(stream, NULL)) {
    }
    assert_int_equal(pier_stream_close(stream, &err), PIER_ETIMEDOUT);
    assert_in_range(support_now_ms() - start, 250, 2000);
}

static void test_stream__deadline_ends_one_that_is_not_read(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port_nginx);
    big_url(url, sizeof url, support_proxy_port(proxy));
    pier_error err = {0};
    pier_stream *stream =
        pier_http_stream(http, "GET", url, PIER_REQUEST_OPTIONS(.timeout_ms = 300), &err);
    assert_ok(stream, err);
    assert_true(support_proxy_wait_open(proxy, 0, BOUND_MS));
    assert_true(read_all(stream, 0) > 0);
    assert_int_equal(pier_stream_close(stream, &err), PIER_ETIMEDOUT);
    support_proxy_stop(proxy);
}

static void test_stream__read_obeys_the_scope_and_can_go_on(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_stream *stream = pier_http_stream(http, "GET", "/gated/scope", NULL, &err);
    assert_ok(stream, err);
    pier_chunk_free(pier_stream_block(stream, &err)); /* comes with the headers */
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &err);
    int64_t start = support_now_ms();
    assert_null(pier_stream_block(stream, &err));
    assert_int_equal(err.status, PIER_ETIMEDOUT);
    assert_in_range(support_now_ms() - start, 40, 2000);
    pier_scope_close(scope);
    open_gate("scope");
    pier_chunk *chunk = pier_stream_block(stream, &err);
    assert_ok(chunk, err);
    pier_chunk_free(chunk);
    assert_int_equal(pier_stream_close(stream, &err), 0);
}

static void test_stream__scope_ends_the_wait_for_headers(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 100), &err);
    int64_t start = support_now_ms();
    assert_null(pier_http_stream(http, "GET", "/hang", NULL, &err));
    assert_int_equal(err.status, PIER_ETIMEDOUT);
    assert_true(support_now_ms() - start < 2000);
    pier_scope_close(scope);
}

static void test_stream__of_a_closed_session_fails(void **state)
{
    (void)state;
    char url[100];
    big_url(url, sizeof url, servers.port_nginx);
    pier_error err = {0};
    pier_http *session = pier_http_open(runner, NULL, &err);
    pier_stream *stream = pier_http_stream(session, "GET", url, NULL, &err);
    assert_ok(stream, err);
    pier_http_close(session);
    assert_true(read_all(stream, 0) < BIG);
    assert_int_equal(pier_stream_close(stream, &err), PIER_ECLOSED);
}

static void test_stream__left_open_is_ended_with_the_runner(void **state)
{
    (void)state;
    char url[100];
    big_url(url, sizeof url, servers.port_nginx);
    pier_error err = {0};
    pier_runner *own = pier_runner_open(NULL, &err);
    pier_http *session = pier_http_open(own, NULL, &err);
    for (int i = 0; i < 5; i++) {
        pier_stream *stream = pier_http_stream(session, "GET", url, NULL, &err);
        assert_ok(stream, err);
        assert_non_null(pier_stream_chunk(stream, NULL));
    }
    int64_t start = support_now_ms();
    pier_runner_close(own);
    assert_true(support_now_ms() - start < 2000);
}

static void *read_chunk_on_thread(void *stream)
{
    return pier_stream_chunk(stream, NULL) ? NULL : stream;
}

static void *read_line_on_thread(void *stream)
{
    return pier_stream_line(stream, NULL) ? NULL : stream;
}

/* The stream lives until the thread has left it. */
static void close_while_inside(void *(*read)(void *))
{
    char url[300];
    snprintf(url, sizeof url, "%s/drip?n=2&ms=2000", servers.url);
    pier_error err = {0};
    pier_runner *own = pier_runner_open(NULL, &err);
    pier_http *session = pier_http_open(own, NULL, &err);
    pier_stream *stream = pier_http_stream(session, "GET", url, NULL, &err);
    assert_ok(stream, err);
    assert_non_null(pier_stream_chunk(stream, NULL)); /* the next byte comes much later */
    pthread_t thread;
    void *ended = NULL;
    assert_int_equal(pthread_create(&thread, NULL, read, stream), 0);
    bool inside = support_wait_until(is_inside, own, 5000);
    pier_runner_close(own);
    pthread_join(thread, &ended);
    assert_true(inside);
    assert_ptr_equal(ended, stream);
}

static void test_stream__is_left_before_the_close_of_the_runner_frees_it(void **state)
{
    (void)state;
    close_while_inside(read_chunk_on_thread);
    close_while_inside(read_line_on_thread);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_stream__gives_the_body_in_chunks),
        HTTP_TEST(test_stream__gives_lines),
        HTTP_TEST(test_stream__gives_bytes_as_they_come),
        HTTP_TEST(test_stream__without_a_body_is_at_its_end),
        HTTP_TEST(test_stream__follows_redirects_and_sends_bodies),
        HTTP_TEST(test_stream__decodes),
        HTTP_TEST(test_stream__of_an_error_status_fails),
        HTTP_TEST(test_stream__blocks_come_as_futures),
        HTTP_TEST(test_stream__is_read_by_one_at_a_time),
        HTTP_TEST(test_stream__of_100_mib_needs_little_memory),
        HTTP_TEST(test_stream__unread_makes_the_server_wait),
        HTTP_TEST(test_stream__unread_does_not_hold_up_others),
        HTTP_TEST(test_stream__abandoned_gives_its_slot_back),
        HTTP_TEST(test_stream__read_to_its_end_keeps_the_connection),
        HTTP_TEST(test_stream__that_nobody_takes_is_ended),
        HTTP_TEST(test_stream__cut_short_fails_at_its_close),
        HTTP_TEST(test_stream__has_one_deadline_for_all_of_it),
        HTTP_TEST(test_stream__deadline_ends_one_that_is_not_read),
        HTTP_TEST(test_stream__read_obeys_the_scope_and_can_go_on),
        HTTP_TEST(test_stream__scope_ends_the_wait_for_headers),
        HTTP_TEST(test_stream__of_a_closed_session_fails),
        HTTP_TEST(test_stream__left_open_is_ended_with_the_runner),
        HTTP_TEST(test_stream__is_left_before_the_close_of_the_runner_frees_it),
    };
    return cmocka_run_group_tests(tests, start_servers_with_big_file, stop_servers);
}
