#ifndef PIER_TESTS_HTTP_FIXTURE_H
#define PIER_TESTS_HTTP_FIXTURE_H
/*
 * What the tests of HTTP share: the servers, a runner and a session for each test, and one call for
 * the three ways to make a request: blocking, asynchronous, in a task.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/server.h"
#include <pier/debug.h>
#include <pier/http.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BOUND_MS = 20000 };

static struct support_http servers;
static pier_runner *runner;
static pier_http *http; /* its base is the app */
static int fds_before, threads_before;

static __attribute__((unused)) int start_servers(void **state)
{
    (void)state;
    /* libuv keeps a pipe for the process once a loop has been opened. */
    pier_runner_close(pier_runner_open(NULL, NULL));
    return support_http_start(&servers, SUPPORT_HTTP_APP | SUPPORT_HTTP_NGINX);
}

static __attribute__((unused)) int stop_servers(void **state)
{
    (void)state;
    support_http_stop(&servers);
    return 0;
}

static __attribute__((unused)) int open_session(void **state)
{
    (void)state;
    pier_error err = {0};
    fds_before = support_fd_count();
    threads_before = support_thread_count();
    runner = pier_runner_open(NULL, &err);
    http = pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = *servers.url ? servers.url : NULL),
                          &err);
    if (!http) {
        fprintf(stderr, "%s\n", err.message);
    }
    return http ? 0 : -1;
}

/* Whatever a test did, closing the runner leaves no descriptor and no thread. */
static __attribute__((unused)) int close_session(void **state)
{
    (void)state;
    pier_runner_close(runner);
    if (!support_wait_fds(fds_before, 5000)) {
        support_print_fds();
        return -1;
    }
    return support_wait_threads(threads_before, 5000) ? 0 : -1;
}

#define HTTP_TEST(name) cmocka_unit_test_setup_teardown(name, open_session, close_session)

/* ---- Three faces -------------------------------------------------------------------------- */

typedef enum face_kind { BLOCKING, ASYNC, TASK, FACES } face_kind;

struct call {
    pier_http *http;
    const char *method, *url;
    const pier_request_options *options;
    pier_response *response;
};

static int call_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct call *call = arg;
    call->response = pier_http_request(call->http, call->method, call->url, call->options, err);
    return call->response ? 0 : err->status;
}

static __attribute__((unused)) pier_response *request_of(pier_http *session, face_kind face,
                                                         const char *method, const char *url,
                                                         const pier_request_options *options,
                                                         pier_error *err)
{
    if (face == BLOCKING) {
        return pier_http_request(session, method, url, options, err);
    }
    if (face == ASYNC) {
        return pier_http_request_finish(pier_http_request_async(session, method, url, options),
                                        err);
    }
    struct call call = {session, method, url, options, NULL};
    pier_task_run(runner, call_in_task, &call, err);
    return call.response;
}

static __attribute__((unused)) pier_response *request(face_kind face, const char *method,
                                                      const char *url,
                                                      const pier_request_options *options,
                                                      pier_error *err)
{
    return request_of(http, face, method, url, options, err);
}

/* Is a thread in a call on this runner? */
static __attribute__((unused)) bool is_inside(void *of)
{
    pier_loop_stats stats;
    pier_runner_stats(of, &stats);
    return stats.threads > 0;
}

/* Lets the answer to /gated/KEY go on. */
static __attribute__((unused)) void open_gate(const char *key)
{
    char url[40];
    pier_error err = {0};
    snprintf(url, sizeof url, "/open/%s", key);
    pier_response *response = request(BLOCKING, "GET", url, NULL, &err);
    assert_string_equal(err.message, "");
    pier_response_free(response);
}

#define assert_ok(response, err)                                                                   \
    do {                                                                                           \
        if (!(response)) {                                                                         \
            fail_msg("%s", (err).message);                                                         \
        }                                                                                          \
    } while (0)

#define assert_contains(text, part)                                                                \
    do {                                                                                           \
        if (!strstr((text), (part))) {                                                             \
            fail_msg("\"%s\" is not in \"%s\"", (part), (text));                                   \
        }                                                                                          \
    } while (0)

#define assert_lacks(text, part)                                                                   \
    do {                                                                                           \
        if (strstr((text), (part))) {                                                              \
            fail_msg("\"%s\" is in \"%s\"", (part), (text));                                       \
        }                                                                                          \
    } while (0)

#endif
