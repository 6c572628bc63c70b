/* HTTP when memory runs out: each allocation of a small program fails in turn. */
#include "tests/integration/http_fixture.h"

#include "sdk/alloc.h"
#include <stdatomic.h>

static atomic_int failing; /* the allocation that fails, from 1; 0: none */
static atomic_bool failed;

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1) {
        atomic_store(&failed, true);
        return true;
    }
    return false;
}

/* What a program does on one face; gives how much of it went well, of 4. */
static int work(face_kind face, pier_error *err)
{
    char url[100];
    snprintf(url, sizeof url, "http://localhost:%d/redirect-to?url=/gzip", servers.port);
    pier_http *session = pier_http_open(
        runner, PIER_HTTP_OPTIONS(.base_url = servers.url, .headers = PIER_PAIRS({"X-A", "1"})),
        err);
    if (!session) {
        return 0;
    }
    int good = 1;
    pier_response *response =
        request_of(session, face, "POST", "/post",
                   PIER_REQUEST_OPTIONS(.json = "{}", .query = PIER_PAIRS({"a", "b"}),
                                        .headers = PIER_PAIRS({"X-B", "2"})),
                   err);
    good += response != NULL;
    pier_response_free(response);
    response = request_of(session, face, "GET", url, NULL, err);
    good += response != NULL;
    pier_response_free(response);
    pier_stream *stream = pier_http_stream(session, "GET", "/lines/20000", NULL, err);
    int lines = 0;
    while (pier_stream_line(stream, NULL)) {
        lines++;
    }
    int status = pier_stream_close(stream, err);
    good += status == 0 && lines == 20000;
    if (status == 0 && lines != 20000) {
        pier_error_set(err, PIER_EUSER, "%d lines and no failure", lines);
    }
    pier_http_close(session);
    return good;
}

static void fail_each(face_kind face)
{
    int n = 0, good;
    do {
        pier_error err = {0};
        atomic_store(&failed, false);
        atomic_store(&failing, ++n);
        pier__alloc_set_gate(fail_one);
        good = work(face, &err);
        pier__alloc_set_gate(NULL);
        atomic_store(&failing, 0);
        if (good < 4 && err.status != PIER_ENOMEM && err.status != PIER_EPROTOCOL) {
            fail_msg("allocation %d: %d of 4, %d %s", n, good, err.status, err.message);
        }
    } while (atomic_load(&failed));
    assert_int_equal(good, 4);
    assert_true(n > 20);
}

static void test_memory__each_failed_allocation_of_a_thread_is_reported(void **state)
{
    (void)state;
    fail_each(BLOCKING);
}

static void test_memory__each_failed_allocation_of_a_future_is_reported(void **state)
{
    (void)state;
    fail_each(ASYNC);
}

static void test_memory__each_failed_allocation_of_a_task_is_reported(void **state)
{
    (void)state;
    fail_each(TASK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_memory__each_failed_allocation_of_a_thread_is_reported),
        HTTP_TEST(test_memory__each_failed_allocation_of_a_future_is_reported),
        HTTP_TEST(test_memory__each_failed_allocation_of_a_task_is_reported),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
