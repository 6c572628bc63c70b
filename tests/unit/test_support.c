/* What the other tests stand on: servers that start, misbehave on demand and never outlive their
 * test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/server.h"

enum { BOUND_MS = 20000 };

static int connect_local(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval bound = {.tv_sec = BOUND_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &bound, sizeof bound);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_text(int fd, const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Reads until size bytes are there or the other side ended; returns how many, or -1 and errno. */
static ssize_t receive(int fd, char *buffer, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t got = recv(fd, buffer + have, size - have, 0);
        if (got < 0 && errno == EINTR) {
            continue; /* a bounded recv is not begun again after the process has been stopped */
        }
        if (got < 0) {
            return -1;
        }
        if (got == 0) {
            break;
        }
        have += (size_t)got;
    }
    return (ssize_t)have;
}

static bool is_readable(int fd, int timeout_ms)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, timeout_ms) == 1;
}

/* One request on a connection of its own; the whole answer ends up in buffer. */
static ssize_t request(int port, const char *path, char *buffer, size_t size)
{
    int fd = connect_local(port);
    char text[256];
    snprintf(text, sizeof text, "GET %s HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n", path);
    send_text(fd, text);
    ssize_t got = receive(fd, buffer, size - 1);
    buffer[got > 0 ? got : 0] = 0;
    close(fd);
    return got;
}

static bool is_gone(void *user_data)
{
    return kill(*(pid_t *)user_data, 0) < 0 && errno == ESRCH;
}

/* The start of a Postgres session as user postgres; the answer begins with R when the server took
 * it. */
static char postgres_greeting(int port)
{
    /* Length, protocol 3.0, user=postgres; the literal's own zero is the empty name that ends the
     * list. */
    static const char startup[23] = "\0\0\0\x17\0\3\0\0user\0postgres\0";
    int fd = connect_local(port);
    assert_int_equal(send(fd, startup, sizeof startup, MSG_NOSIGNAL), sizeof startup);
    char first = 0;
    receive(fd, &first, 1);
    close(fd);
    return first;
}

static void test_wait__gives_up_at_its_bound(void **state)
{
    (void)state;
    pid_t self = getpid();
    int64_t begin = support_now_ms();
    assert_false(support_wait_until(is_gone, &self, 30));
    assert_true(support_now_ms() - begin >= 30);
}

static void test_fd_count__sees_a_descriptor_come_and_go(void **state)
{
    (void)state;
    int before = support_fd_count();
    int fd = dup(2);
    assert_int_equal(support_fd_count(), before + 1);
    assert_false(support_wait_fds(before, 10));
    close(fd);
    assert_true(support_wait_fds(before, 0));
}

static void test_port__reserved_is_given_to_nobody_else(void **state)
{
    (void)state;
    int port;
    int fd = support_port_reserve(&port);
    assert_true(fd >= 0);
    assert_false(support_port_answers(port));
    for (int i = 0; i < 200; i++) {
        int other_port;
        int other = support_port_reserve(&other_port);
        assert_int_not_equal(other_port, port);
        close(other);
    }
    close(fd);
    assert_false(support_port_answers(support_port_refused()));
}

static void test_silent_server__accepts_and_never_answers(void **state)
{
    (void)state;
    int threads = support_thread_count(), fds = support_fd_count();
    struct support_silent_server server;
    assert_int_equal(support_silent_server_start(&server), 0);
    int fd = connect_local(server.port);
    send_text(fd, "hello");
    assert_true(support_proxy_wait_accepted(server.proxy, 1, BOUND_MS));
    assert_false(is_readable(fd, 50));
    close(fd);
    assert_true(support_proxy_wait_open(server.proxy, 0, BOUND_MS));
    support_silent_server_stop(&server);
    assert_true(support_wait_threads(threads, BOUND_MS));
    assert_int_equal(support_fd_count(), fds);
}

static struct support_http http;
static struct support_proxy *proxy;

static int start_http(void **state)
{
    (void)state;
    return support_http_start(&http, SUPPORT_HTTP_APP | SUPPORT_HTTP_NGINX);
}

static int stop_http(void **state)
{
    (void)state;
    support_http_stop(&http);
    return 0;
}

static int start_proxy(void **state)
{
    (void)state;
    proxy = support_proxy_start(http.port);
    return proxy ? 0 : -1;
}

static int stop_proxy(void **state)
{
    (void)state;
    support_proxy_stop(proxy);
    proxy = NULL;
    return 0;
}

static void test_http_app__answers_over_one_connection(void **state)
{
    (void)state;
    static const char text[] =
        "POST /echo?a=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody"
        "GET /get HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
    char answer[4096] = "";
    int fd = connect_local(http.port);
    send_text(fd, text);
    assert_true(receive(fd, answer, sizeof answer - 1) > 0);
    close(fd);
    assert_non_null(strstr(answer, "\"body\": \"body\""));
    assert_non_null(strstr(answer, "\"path\": \"/get\""));
}

static void test_http_app__closes_early_and_resets(void **state)
{
    (void)state;
    char answer[4096];
    assert_true(request(http.port, "/close-early?n=1000", answer, sizeof answer) > 0);
    const char *body = strstr(answer, "\r\n\r\n");
    assert_non_null(body);
    assert_int_equal(strlen(body + 4), 500);
    assert_int_equal(request(http.port, "/reset", answer, sizeof answer), -1);
    assert_int_equal(errno, ECONNRESET);
}

static void test_http_app__streams_lines_in_chunks(void **state)
{
    (void)state;
    static char answer[65536];
    assert_true(request(http.port, "/lines/1200", answer, sizeof answer) > 0);
    assert_non_null(strstr(answer, "Transfer-Encoding: chunked"));
    assert_non_null(strstr(answer, "{\"n\": 1199}\n"));
    assert_non_null(strstr(answer, "\r\n0\r\n\r\n"));
}

static void test_nginx__serves_the_files_of_its_root(void **state)
{
    (void)state;
    char answer[4096];
    assert_int_equal(support_file_write(http.root, "a.txt", "static", 6), 0);
    assert_true(request(http.port_nginx, "/a.txt", answer, sizeof answer) > 0);
    assert_non_null(strstr(answer, "200 OK"));
    assert_non_null(strstr(answer, "\r\n\r\nstatic"));
}

static void test_proxy__forwards_both_ways(void **state)
{
    (void)state;
    static char answer[400000];
    ssize_t got = request(support_proxy_port(proxy), "/bytes/300000", answer, sizeof answer);
    assert_true(got > 300000);
    assert_int_equal(support_proxy_bytes(proxy, SUPPORT_TO_CLIENT), got);
    assert_int_equal(support_proxy_accepted(proxy), 1);
    assert_true(support_proxy_wait_open(proxy, 0, BOUND_MS));
}

static void test_proxy__cuts_after_a_number_of_bytes(void **state)
{
    (void)state;
    static char answer[400000];
    int port = support_proxy_port(proxy);
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, 1234);
    assert_int_equal(request(port, "/bytes/300000", answer, sizeof answer), 1234);
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, -1);
    support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, 10);
    assert_true(request(port, "/", answer, sizeof answer) <= 0);
    support_proxy_cut_after(proxy, SUPPORT_TO_SERVER, -1);
    assert_true(request(port, "/", answer, sizeof answer) > 0);
}

static void test_proxy__paused_keeps_bytes_until_resumed(void **state)
{
    (void)state;
    char byte;
    int fd = connect_local(support_proxy_port(proxy));
    assert_true(support_proxy_wait_accepted(proxy, 1, BOUND_MS));
    support_proxy_pause(proxy);
    send_text(fd, "GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_false(is_readable(fd, 50));
    support_proxy_resume(proxy);
    assert_int_equal(receive(fd, &byte, 1), 1);
    close(fd);
}

static void test_proxy__kills_connections_by_fin_and_by_reset(void **state)
{
    (void)state;
    char byte;
    int closed = connect_local(support_proxy_port(proxy));
    support_proxy_kill_connections(proxy);
    assert_int_equal(support_proxy_open(proxy), 0);
    assert_int_equal(receive(closed, &byte, 1), 0);
    int reset = connect_local(support_proxy_port(proxy));
    support_proxy_use_reset(proxy, true);
    support_proxy_kill_connections(proxy);
    assert_int_equal(receive(reset, &byte, 1), -1);
    assert_int_equal(errno, ECONNRESET);
    close(closed);
    close(reset);
}

static struct support_postgres postgres;

static int start_postgres(void **state)
{
    (void)state;
    /* Only a server of our own may be paused and killed. */
    unsetenv("PIER_TEST_POSTGRES");
    const char *settings[] = {"max_connections=20", NULL};
    return support_postgres_start(&postgres, settings);
}

static int stop_postgres(void **state)
{
    (void)state;
    support_postgres_stop(&postgres);
    return 0;
}

static void test_postgres__takes_connections_after_start_and_restart(void **state)
{
    (void)state;
    assert_int_equal(postgres_greeting(postgres.port), 'R');
    pid_t first = postgres.pid;
    assert_int_equal(support_postgres_restart(&postgres), 0);
    assert_int_not_equal(postgres.pid, first);
    assert_true(is_gone(&first));
    assert_int_equal(postgres_greeting(postgres.port), 'R');
}

static void test_postgres__killed_is_gone_and_starts_again_on_its_port(void **state)
{
    (void)state;
    pid_t first = postgres.pid;
    assert_int_equal(support_postgres_kill9(&postgres), 0);
    assert_true(is_gone(&first));
    assert_false(support_port_answers(postgres.port));
    assert_int_equal(support_postgres_restart(&postgres), 0);
    assert_int_equal(postgres_greeting(postgres.port), 'R');
}

static void test_postgres__paused_says_nothing_until_resumed(void **state)
{
    (void)state;
    static const char ssl_request[8] = {0, 0, 0, 8, 4, (char)0xd2, 0x16, 0x2f};
    char answer;
    assert_int_equal(support_postgres_pause(&postgres), 0);
    int fd = connect_local(postgres.port);
    assert_int_equal(send(fd, ssl_request, sizeof ssl_request, MSG_NOSIGNAL), sizeof ssl_request);
    assert_false(is_readable(fd, 50));
    assert_int_equal(support_postgres_resume(&postgres), 0);
    assert_int_equal(receive(fd, &answer, 1), 1);
    close(fd);
}

static void test_postgres__of_the_environment_is_left_alone(void **state)
{
    (void)state;
    struct support_postgres other;
    setenv("PIER_TEST_POSTGRES", "postgresql://example/db", 1);
    assert_int_equal(support_postgres_start(&other, NULL), 0);
    unsetenv("PIER_TEST_POSTGRES");
    assert_true(other.external);
    assert_string_equal(other.url_tcp, "postgresql://example/db");
    assert_int_equal(support_postgres_kill9(&other), -1);
    support_postgres_stop(&other);
}

struct orphan {
    pid_t pid;
    char directory[256];
};

static bool is_orphan_removed(void *user_data)
{
    struct orphan *orphan = user_data;
    struct stat status;
    return is_gone(&orphan->pid) && stat(orphan->directory, &status) < 0;
}

/* The child starts a server, pauses it, which no signal but SIGKILL would end, and dies at once. */
static void start_server_and_die(int output)
{
    struct support_postgres server;
    struct orphan orphan = {0};
    if (support_postgres_start(&server, NULL) == 0 && support_postgres_pause(&server) == 0) {
        orphan.pid = server.pid;
        snprintf(orphan.directory, sizeof orphan.directory, "%s", server.directory);
        if (write(output, &orphan, sizeof orphan) < 0) {
            perror("write");
        }
    }
    raise(SIGKILL);
}

static void test_postgres__ends_and_is_removed_when_its_test_is_killed(void **state)
{
    (void)state;
    struct orphan orphan;
    int fds[2], status;
    assert_int_equal(pipe(fds), 0);
    /* The guard, orphaned, becomes a child of this process, so that nothing is left of it in the
     * end. */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t child = fork();
    if (child == 0) {
        start_server_and_die(fds[1]);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &orphan, sizeof orphan), sizeof orphan);
    close(fds[0]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(support_wait_until(is_orphan_removed, &orphan, BOUND_MS));
    assert_true(waitpid(-1, &status, 0) > 0);
}

int main(void)
{
    const struct CMUnitTest plain[] = {
        cmocka_unit_test(test_wait__gives_up_at_its_bound),
        cmocka_unit_test(test_fd_count__sees_a_descriptor_come_and_go),
        cmocka_unit_test(test_port__reserved_is_given_to_nobody_else),
        cmocka_unit_test(test_silent_server__accepts_and_never_answers),
    };
    const struct CMUnitTest over_http[] = {
        cmocka_unit_test(test_http_app__answers_over_one_connection),
        cmocka_unit_test(test_http_app__closes_early_and_resets),
        cmocka_unit_test(test_http_app__streams_lines_in_chunks),
        cmocka_unit_test(test_nginx__serves_the_files_of_its_root),
        cmocka_unit_test_setup_teardown(test_proxy__forwards_both_ways, start_proxy, stop_proxy),
        cmocka_unit_test_setup_teardown(test_proxy__cuts_after_a_number_of_bytes, start_proxy,
                                        stop_proxy),
        cmocka_unit_test_setup_teardown(test_proxy__paused_keeps_bytes_until_resumed, start_proxy,
                                        stop_proxy),
        cmocka_unit_test_setup_teardown(test_proxy__kills_connections_by_fin_and_by_reset,
                                        start_proxy, stop_proxy),
    };
    const struct CMUnitTest over_postgres[] = {
        cmocka_unit_test(test_postgres__takes_connections_after_start_and_restart),
        cmocka_unit_test(test_postgres__killed_is_gone_and_starts_again_on_its_port),
        cmocka_unit_test(test_postgres__paused_says_nothing_until_resumed),
        cmocka_unit_test(test_postgres__of_the_environment_is_left_alone),
        cmocka_unit_test(test_postgres__ends_and_is_removed_when_its_test_is_killed),
    };
    int before = support_fd_count();
    int failed = cmocka_run_group_tests(plain, NULL, NULL);
    failed += cmocka_run_group_tests(over_http, start_http, stop_http);
    failed += cmocka_run_group_tests(over_postgres, start_postgres, stop_postgres);
    if (support_fd_count() > before) {
        support_print_fds();
        failed++;
    }
    return failed;
}
