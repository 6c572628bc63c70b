/* Deadlines, cancelling, limits, threads, closing and forking. */
#include "tests/integration/http_fixture.h"

#include <arpa/inet.h>
#include <dlfcn.h>
#include <netdb.h>
#include <pier/group.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

/* ---- A resolver that can be slow ---------------------------------------------------------- */

static atomic_int lookups;
static atomic_bool lookups_held;

/* In the place of the C library's, for the whole program: names ending in ".slow" are 127.0.0.1,
 * but not before the test lets them. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    static int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!real) {
        *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    }
    size_t length = name ? strlen(name) : 0;
    if (length < 5 || strcmp(name + length - 5, ".slow") != 0) {
        return real(name, service, hints, list);
    }
    if (hints && hints->ai_flags & AI_NUMERICHOST) {
        return EAI_NONAME;
    }
    atomic_fetch_add(&lookups, 1);
    while (atomic_load(&lookups_held)) {
        usleep(2000);
    }
    return real("127.0.0.1", service, hints, list);
}

/* ---- Deadlines ---------------------------------------------------------------------------- */

/* Fails after so many milliseconds, by the request's own timeout. False: it was doing something
 * else then. */
static bool ends_while(const char *doing, int ms, face_kind face, const char *url)
{
    char passed[40];
    pier_error err = {0};
    int64_t start = support_now_ms();
    assert_null(request(face, "GET", url, PIER_REQUEST_OPTIONS(.timeout_ms = ms), &err));
    assert_in_range(support_now_ms() - start, ms - 50, ms + 1850);
    assert_int_equal(err.status, PIER_ETIMEDOUT);
    snprintf(passed, sizeof passed, "%d ms passed while ", ms);
    assert_contains(err.message, passed);
    return strstr(err.message, doing) != NULL;
}

/* Fails in time, by the request's own timeout and by a scope, on each face. On a busy machine it
 * may take longer than usual until it does what it is to be ended in. */
static void assert_ends_in_time(const char *url, const char *doing)
{
    for (face_kind face = 0; face < FACES; face++) {
        int ms = 150;
        while (!ends_while(doing, ms, face, url)) {
            ms *= 2;
            assert_true(ms < BOUND_MS);
        }
        pier_error err = {0};
        pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 150), &err);
        int64_t start = support_now_ms();
        assert_null(request(face, "GET", url, NULL, &err));
        assert_in_range(support_now_ms() - start, 100, 2000);
        assert_int_equal(err.status, PIER_ETIMEDOUT);
        pier_scope_close(scope);
    }
}

static void test_deadline__ends_a_name_lookup(void **state)
{
    (void)state;
    atomic_store(&lookups_held, true);
    assert_ends_in_time("http://name.slow/", "looking up the name");
    atomic_store(&lookups_held, false);
}

/* A listener whose queue is full: further connects get no answer. */
static int full_listener(int *port, int *clients, int count)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &length), 0);
    for (int i = 0; i < count; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        connect(clients[i], (struct sockaddr *)&address, length);
    }
    *port = ntohs(address.sin_port);
    return fd;
}

static void test_deadline__ends_a_connect(void **state)
{
    (void)state;
    int port, clients[4];
    char url[100];
    int fd = full_listener(&port, clients, 4);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", port);
    assert_ends_in_time(url, "connecting");
    pier_error err = {0};
    pier_http *session = pier_http_open(runner, PIER_HTTP_OPTIONS(.connect_timeout_ms = 150), &err);
    for (face_kind face = 0; face < FACES; face++) {
        int64_t start = support_now_ms();
        assert_null(request_of(session, face, "GET", url, NULL, &err));
        assert_in_range(support_now_ms() - start, 100, 2000);
        assert_int_equal(err.status, PIER_ETIMEDOUT);
    }
    pier_http_close(session);
    for (int i = 0; i < 4; i++) {
        close(clients[i]);
    }
    close(fd);
}

static void test_deadline__ends_the_wait_for_an_answer(void **state)
{
    (void)state;
    assert_ends_in_time("/hang", "waiting for the answer");
    struct support_silent_server silent;
    char url[100];
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", silent.port);
    assert_ends_in_time(url, "waiting for the answer");
    /* The connections are closed, not kept. */
    assert_true(support_proxy_wait_open(silent.proxy, 0, BOUND_MS));
    support_silent_server_stop(&silent);
}

static void test_deadline__covers_the_whole_body(void **state)
{
    (void)state;
    assert_ends_in_time("/drip?n=10000&ms=10", "reading the body");
}

static void test_deadline__covers_redirects(void **state)
{
    (void)state;
    assert_ends_in_time("/redirect-to?url=/hang", "waiting for the answer");
}

static void test_deadline__of_a_wait_leaves_the_request_alone(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *future = pier_http_get_async(http, "/gated/wait", NULL);
    assert_int_equal(pier_future_wait(future, 20, &err), 0);
    open_gate("wait");
    pier_response *response = pier_http_get_finish(future, &err);
    assert_ok(response, err);
    pier_response_free(response);
}

/* ---- Cancelling --------------------------------------------------------------------------- */

struct canceller {
    pier_scope *scope;
    struct support_proxy *proxy;
};

/* Once the server has the connection: the request is under way then, wherever it stands. */
static void *cancel_when_connected(void *arg)
{
    struct canceller *canceller = arg;
    support_proxy_wait_accepted(canceller->proxy, 1, BOUND_MS);
    pier_scope_cancel(canceller->scope);
    return NULL;
}

static void test_cancel__from_another_thread_ends_a_blocking_call(void **state)
{
    (void)state;
    struct support_silent_server silent;
    char url[100];
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", silent.port);
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, NULL, &err);
    pthread_t thread;
    struct canceller canceller = {scope, silent.proxy};
    pthread_create(&thread, NULL, cancel_when_connected, &canceller);
    int64_t start = support_now_ms();
    assert_null(pier_http_get(http, url, NULL, &err));
    assert_true(support_now_ms() - start < 2000);
    assert_int_equal(err.status, PIER_ECANCELLED);
    assert_contains(err.message, "cancelled while");
    pthread_join(thread, NULL);
    pier_scope_close(scope);
    assert_true(support_proxy_wait_open(silent.proxy, 0, BOUND_MS));
    support_silent_server_stop(&silent);
}

static void test_cancel__of_a_future_ends_the_transfer(void **state)
{
    (void)state;
    struct support_silent_server silent;
    char url[100];
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", silent.port);
    pier_error err = {0};
    pier_future *future = pier_http_get_async(http, url, NULL);
    assert_true(support_proxy_wait_accepted(silent.proxy, 1, BOUND_MS));
    pier_future_cancel(future);
    assert_null(pier_http_get_finish(future, &err));
    assert_int_equal(err.status, PIER_ECANCELLED);
    assert_true(support_proxy_wait_open(silent.proxy, 0, BOUND_MS));
    support_silent_server_stop(&silent);
}

static void test_cancel__in_each_phase_leaves_the_session_usable(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_http *session =
        pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = servers.url, .limit = 2), &err);
    atomic_store(&lookups_held, true);
    for (int i = 0; i < 30; i++) {
        /* Two under way, one that waits for a slot, one that waits for a name. */
        pier_future *futures[4] = {pier_http_get_async(session, "/hang", NULL),
                                   pier_http_get_async(session, "/drip?n=100&ms=5", NULL),
                                   pier_http_get_async(session, "/get", NULL),
                                   pier_http_get_async(session, "http://some.slow/", NULL)};
        pier_future_wait(futures[0], i % 5, &err);
        for (int k = 0; k < 4; k++) {
            pier_future_cancel(futures[(k + i) % 4]);
        }
        for (int k = 0; k < 4; k++) {
            pier_response *response = pier_http_get_finish(futures[k], &err);
            assert_true(response || err.status == PIER_ECANCELLED);
            pier_response_free(response);
        }
    }
    atomic_store(&lookups_held, false);
    pier_response *response = pier_http_get(session, "/get", NULL, &err);
    assert_ok(response, err);
    pier_response_free(response);
    pier_http_close(session);
}

/* ---- Names -------------------------------------------------------------------------------- */

static void test_name__is_looked_up_once_for_all_who_want_it(void **state)
{
    (void)state;
    enum { REQUESTS = 200 };
    char url[100];
    snprintf(url, sizeof url, "http://shared.slow:%d/get", servers.port);
    pier_error err = {0};
    pier_future *futures[REQUESTS];
    atomic_store(&lookups, 0);
    atomic_store(&lookups_held, true);
    for (int i = 0; i < REQUESTS; i++) {
        futures[i] = pier_http_get_async(http, url, NULL);
    }
    assert_int_equal(pier_future_wait(futures[REQUESTS - 1], 50, &err), 0);
    atomic_store(&lookups_held, false);
    for (int i = 0; i < REQUESTS; i++) {
        pier_response *response = pier_http_get_finish(futures[i], &err);
        assert_ok(response, err);
        pier_response_free(response);
    }
    for (int i = 0; i < 3; i++) { /* and kept for a while */
        pier_response *response = pier_http_get(http, url, NULL, &err);
        assert_ok(response, err);
        pier_response_free(response);
    }
    assert_int_equal(atomic_load(&lookups), 1);
}

static void test_name__lookup_goes_on_when_its_first_asker_leaves(void **state)
{
    (void)state;
    char url[100];
    snprintf(url, sizeof url, "http://handed-on.slow:%d/get", servers.port);
    pier_error err = {0};
    atomic_store(&lookups_held, true);
    pier_future *first = pier_http_get_async(http, url, NULL);
    pier_future *second = pier_http_get_async(http, url, NULL);
    assert_int_equal(pier_future_wait(second, 30, &err), 0);
    pier_future_cancel(first);
    assert_null(pier_http_get_finish(first, &err));
    atomic_store(&lookups_held, false);
    pier_response *response = pier_http_get_finish(second, &err);
    assert_ok(response, err);
    pier_response_free(response);
}

/* ---- Limits and concurrency --------------------------------------------------------------- */

enum { IN_ORDER = 21 };

static int finished[IN_ORDER];
static atomic_int finished_count;

static void on_finished(pier_future *future, void *user_data)
{
    pier_response *response = pier_http_get_finish(future, NULL);
    finished[atomic_load(&finished_count)] = response ? *(int *)user_data : -1;
    pier_response_free(response);
    atomic_fetch_add(&finished_count, 1);
}

static bool all_finished(void *user_data)
{
    (void)user_data;
    return atomic_load(&finished_count) == IN_ORDER;
}

/* The last one has a callback too: a thread that waited for it might go on before the callback of
 * the one before it is called. */
static void test_limit__is_honoured_in_the_order_of_asking(void **state)
{
    (void)state;
    char base[100];
    struct support_proxy *proxy = support_proxy_start(servers.port);
    snprintf(base, sizeof base, "http://127.0.0.1:%d", support_proxy_port(proxy));
    pier_error err = {0};
    pier_http *session =
        pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = base, .limit = 1), &err);
    int numbers[IN_ORDER];
    atomic_store(&finished_count, 0);
    for (int i = 0; i < IN_ORDER; i++) {
        numbers[i] = i;
        const char *path = i < IN_ORDER - 1 ? "/slow?ms=2" : "/get";
        pier_future_then(pier_http_get_async(session, path, NULL), on_finished, &numbers[i]);
    }
    assert_true(support_wait_until(all_finished, NULL, BOUND_MS));
    for (int i = 0; i < IN_ORDER; i++) {
        assert_int_equal(finished[i], i);
    }
    assert_int_equal(support_proxy_accepted(proxy), 1);
    pier_http_close(session);
    support_proxy_stop(proxy);
}

static void test_limit__waiting_for_a_slot_has_an_end(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_http *session = pier_http_open(
        runner, PIER_HTTP_OPTIONS(.base_url = servers.url, .limit = 1, .connect_timeout_ms = 150),
        &err);
    pier_future *hanging = pier_http_get_async(session, "/hang", NULL);
    while (pier_future_wait(hanging, 300, &err) == 1) { /* it could not connect in time itself */
        pier_future_free(hanging);
        hanging = pier_http_get_async(session, "/hang", NULL);
    }
    for (face_kind face = 0; face < FACES; face++) {
        int64_t start = support_now_ms();
        assert_null(request_of(session, face, "GET", "/get", NULL, &err));
        assert_int_equal(err.status, PIER_EPOOL);
        assert_in_range(support_now_ms() - start, 100, 2000);
    }
    pier_future_cancel(hanging);
    pier_future_free(hanging);
    pier_response *response = pier_http_get(session, "/get", NULL, &err);
    assert_ok(response, err);
    pier_response_free(response);
    pier_http_close(session);
}

static void test_many__asynchronous_requests_share_the_connections(void **state)
{
    (void)state;
    enum { REQUESTS = 200 };
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/slow?ms=20", support_proxy_port(proxy));
    pier_future *futures[REQUESTS];
    pier_error err = {0};
    for (int i = 0; i < REQUESTS; i++) {
        futures[i] = pier_http_get_async(http, url, NULL);
    }
    for (int i = 0; i < REQUESTS; i++) {
        pier_response *response = pier_http_get_finish(futures[i], &err);
        assert_ok(response, err);
        pier_response_free(response);
    }
    assert_true(support_proxy_accepted(proxy) <= 100);
    support_proxy_stop(proxy);
}

struct worker {
    pthread_t thread;
    const char *url;
    pier_http *http;
    int count, good;
    pier_error err;
};

static void *work(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < worker->count; i++) {
        pier_response *response = pier_http_get(worker->http, worker->url, NULL, &worker->err);
        worker->good += response && pier_response_status(response) == 200;
        pier_response_free(response);
    }
    return NULL;
}

static void run_threads(pier_http *session, const char *url, int count)
{
    enum { THREADS = 16 };
    struct worker workers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.url = url, .http = session, .count = count};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        if (workers[i].good != count) {
            fail_msg("%d of %d: %s", workers[i].good, count, workers[i].err.message);
        }
    }
}

static void test_many__threads_share_a_session(void **state)
{
    (void)state;
    char url[100];
    struct support_proxy *proxy = support_proxy_start(servers.port);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/get", support_proxy_port(proxy));
    run_threads(http, url, 50);
    assert_true(support_proxy_accepted(proxy) <= 16);
    pier_error err = {0};
    pier_http *session = pier_http_open(runner, PIER_HTTP_OPTIONS(.limit = 3), &err);
    run_threads(session, url, 20);
    pier_http_close(session);
    support_proxy_stop(proxy);
}

static void test_many__threads_and_the_loop_share_a_session(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_http *session =
        pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = servers.url, .limit = 8), &err);
    pier_group *group = pier_group_open(runner, NULL, &err);
    for (int i = 0; i < 200; i++) {
        pier_group_add(group, pier_http_get_async(session, "/get", NULL), NULL);
    }
    run_threads(session, "/get", 20);
    if (pier_group_close(group, &err) < 0) {
        fail_msg("%s", err.message);
    }
    pier_http_close(session);
}

/* ---- Closing ------------------------------------------------------------------------------ */

static void test_close__ends_requests_under_way(void **state)
{
    (void)state;
    struct support_silent_server silent;
    char url[100];
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", silent.port);
    pier_error err = {0};
    pier_http *session = pier_http_open(runner, PIER_HTTP_OPTIONS(.limit = 8), &err);
    struct worker workers[6];
    pier_future *futures[6];
    for (int i = 0; i < 6; i++) { /* eight get a slot, four wait for one */
        workers[i] = (struct worker){.url = url, .http = session, .count = 1};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
        futures[i] = pier_http_get_async(session, url, NULL);
    }
    assert_true(support_proxy_wait_accepted(silent.proxy, 8, BOUND_MS));
    int64_t start = support_now_ms();
    pier_http_close(session);
    assert_true(support_now_ms() - start < 2000);
    for (int i = 0; i < 6; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].good, 0);
        assert_int_equal(workers[i].err.status, PIER_ECLOSED);
        assert_null(pier_http_get_finish(futures[i], &err));
        assert_int_equal(err.status, PIER_ECLOSED);
    }
    assert_true(support_proxy_wait_open(silent.proxy, 0, BOUND_MS));
    support_silent_server_stop(&silent);
}

static void test_close__of_the_runner_ends_requests_under_way(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner *own = pier_runner_open(NULL, &err);
    pier_http *session = pier_http_open(own, PIER_HTTP_OPTIONS(.base_url = servers.url), &err);
    pier_future *futures[20];
    for (int i = 0; i < 20; i++) {
        futures[i] = pier_http_get_async(session, i % 2 ? "/hang" : "/drip?n=1000&ms=10", NULL);
    }
    struct worker worker = {.url = "/hang", .http = session, .count = 1};
    pthread_create(&worker.thread, NULL, work, &worker);
    assert_true(support_wait_until(is_inside, own, BOUND_MS)); /* the close frees the session */
    pier_future_wait(futures[0], 50, &err);
    int64_t start = support_now_ms();
    pier_runner_close(own);
    assert_true(support_now_ms() - start < 2000);
    pthread_join(worker.thread, NULL);
    assert_int_equal(worker.err.status, PIER_ECLOSED);
    for (int i = 0; i < 20; i++) {
        assert_true(pier_future_done(futures[i]));
        assert_null(pier_http_get_finish(futures[i], &err));
        assert_int_equal(err.status, PIER_ECLOSED);
    }
}

static void test_close__keeps_nothing_open(void **state)
{
    (void)state;
    pier_error err = {0};
    int fds = support_fd_count();
    for (int i = 0; i < 5; i++) {
        pier_http *session =
            pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = servers.url), &err);
        for (face_kind face = 0; face < FACES; face++) {
            pier_response *response = request_of(session, face, "GET", "/get", NULL, &err);
            assert_ok(response, err);
            pier_response_free(response);
        }
        pier_future_free(pier_http_close_async(session));
        session = pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = servers.url), &err);
        pier_http_close(session);
    }
    assert_true(support_wait_fds(fds, BOUND_MS));
}

/* ---- A loop of one's own ------------------------------------------------------------------ */

struct visit {
    pier_runner *runner;
    pier_http *http;
    int left, good;
};

static void on_visited(pier_future *future, void *user_data)
{
    struct visit *visit = user_data;
    pier_response *response = pier_http_get_finish(future, NULL);
    visit->good += response != NULL;
    pier_response_free(response);
    if (--visit->left > 0) {
        pier_future_then(pier_http_get_async(visit->http, "/get", NULL), on_visited, visit);
    } else {
        pier_runner_stop(visit->runner, NULL, NULL);
    }
}

static void test_own_loop__runs_requests_and_ends(void **state)
{
    (void)state;
    uv_loop_t loop;
    pier_error err = {0};
    assert_int_equal(uv_loop_init(&loop), 0);
    struct visit visit = {.left = 20};
    visit.runner = pier_runner_open(PIER_RUNNER_OPTIONS(.loop = &loop), &err);
    visit.http = pier_http_open(visit.runner, PIER_HTTP_OPTIONS(.base_url = servers.url), &err);
    assert_ok(visit.http, err);
    assert_null(pier_http_get(visit.http, "/get", NULL, &err));
    assert_int_equal(err.status, PIER_EDEADLOCK);
    pier_future_then(pier_http_get_async(visit.http, "/get", NULL), on_visited, &visit);
    assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
    assert_int_equal(visit.good, 20);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---- Forking ------------------------------------------------------------------------------ */

static int in_child(pier_stream *stream)
{
    pier_error err = {0};
    if (pier_http_get(http, "/get", NULL, &err) || err.status != PIER_EFORKED) {
        return 1;
    }
    if (pier_http_open(runner, NULL, &err) || err.status != PIER_EFORKED) {
        return 2;
    }
    if (pier_stream_close(stream, &err) != PIER_EFORKED) {
        return 3;
    }
    pier_http_close(http);
    pier_runner_close(runner);
#if !defined(__SANITIZE_THREAD__) /* which bears no threads in a child */
    pier_runner *own = pier_runner_open(NULL, &err);
    pier_http *session = pier_http_open(own, PIER_HTTP_OPTIONS(.base_url = servers.url), &err);
    pier_response *response = pier_http_get(session, "/get", NULL, &err);
    if (!response) {
        return 4;
    }
    pier_response_free(response);
    pier_runner_close(own);
#endif
    return 0;
}

static void test_fork__child_is_refused_and_leaves_the_parent_alone(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_response *response = pier_http_get(http, "/get", NULL, &err);
    assert_ok(response, err);
    pier_response_free(response);
    pier_stream *stream = pier_http_stream(http, "GET", "/drip?n=20&ms=10", NULL, &err);
    assert_ok(stream, err);
    pid_t child = fork();
    if (child == 0) {
        alarm(20);
        _exit(in_child(stream));
    }
    int child_status;
    assert_int_equal(waitpid(child, &child_status, 0), child);
    assert_int_equal(child_status, 0);
    size_t size, total = 0;
    while (pier_stream_chunk(stream, &size)) {
        total += size;
    }
    assert_int_equal(total, 20);
    assert_int_equal(pier_stream_close(stream, &err), 0);
    response = pier_http_get(http, "/get", NULL, &err);
    assert_ok(response, err);
    pier_response_free(response);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        HTTP_TEST(test_deadline__ends_a_name_lookup),
        HTTP_TEST(test_deadline__ends_a_connect),
        HTTP_TEST(test_deadline__ends_the_wait_for_an_answer),
        HTTP_TEST(test_deadline__covers_the_whole_body),
        HTTP_TEST(test_deadline__covers_redirects),
        HTTP_TEST(test_deadline__of_a_wait_leaves_the_request_alone),
        HTTP_TEST(test_cancel__from_another_thread_ends_a_blocking_call),
        HTTP_TEST(test_cancel__of_a_future_ends_the_transfer),
        HTTP_TEST(test_cancel__in_each_phase_leaves_the_session_usable),
        HTTP_TEST(test_name__is_looked_up_once_for_all_who_want_it),
        HTTP_TEST(test_name__lookup_goes_on_when_its_first_asker_leaves),
        HTTP_TEST(test_limit__is_honoured_in_the_order_of_asking),
        HTTP_TEST(test_limit__waiting_for_a_slot_has_an_end),
        HTTP_TEST(test_many__asynchronous_requests_share_the_connections),
        HTTP_TEST(test_many__threads_share_a_session),
        HTTP_TEST(test_many__threads_and_the_loop_share_a_session),
        HTTP_TEST(test_close__ends_requests_under_way),
        HTTP_TEST(test_close__of_the_runner_ends_requests_under_way),
        HTTP_TEST(test_close__keeps_nothing_open),
        HTTP_TEST(test_own_loop__runs_requests_and_ends),
        HTTP_TEST(test_fork__child_is_refused_and_leaves_the_parent_alone),
    };
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
