/*
 * GETs of 100 bytes over a kept connection: a reused curl easy handle against the blocking call of
 * Pier. Without a URL it starts nginx on a free port of the loopback interface.
 */
#include "support.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <pier/pier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY = 100 };

/* A body as its user wants it: in memory of its own, with a zero byte behind it. */
struct body {
    CURL *easy;
    char *data;
    size_t size;
};

static size_t on_data(char *data, size_t one, size_t size, void *user_data)
{
    struct body *body = user_data;
    body->data = realloc(body->data, body->size + size + 1);
    if (!body->data) {
        return 0;
    }
    memcpy(body->data + body->size, data, one * size);
    body->size += size;
    body->data[body->size] = 0;
    return size;
}

static void run_raw(void *context, int64_t i)
{
    (void)i;
    struct body *body = context;
    long status = 0;
    CURLcode code = curl_easy_perform(body->easy);
    curl_easy_getinfo(body->easy, CURLINFO_RESPONSE_CODE, &status);
    if (code != CURLE_OK || status != 200 || body->size != BODY) {
        bench_fail("http_get: %s, status %ld, %zu bytes", curl_easy_strerror(code), status,
                   body->size);
    }
    free(body->data);
    body->data = NULL;
    body->size = 0;
}

struct target {
    pier_http *http;
    const char *url;
};

static void run_get(void *context, int64_t i)
{
    (void)i;
    const struct target *target = context;
    pier_error err = {0};
    size_t size = 0;
    pier_response *response = pier_http_get(target->http, target->url, NULL, &err);
    if (!pier_response_text(response, &size) || size != BODY) {
        bench_fail("http_get: %zu bytes. %s", size, err.message);
    }
    pier_response_free(response);
}

static int free_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, size) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        bench_fail("http_get: no free port");
    }
    close(fd);
    return ntohs(address.sin_port);
}

static const char *start_nginx(void)
{
    char command[2048];
    int port = free_port();
    snprintf(command, sizeof command,
             "d=$(mktemp -d \"${TMPDIR:-/tmp}/pier-bench-XXXXXX\") && chmod 755 \"$d\" || exit 1\n"
             "PATH=$PATH:/usr/sbin\n"
             "cat >\"$d/nginx.conf\" <<END\n"
             "daemon off; worker_processes 1; pid $d/pid; error_log $d/error.log;\n"
             "events { worker_connections 1024; }\n"
             "http { access_log off; keepalive_requests 1000000000; keepalive_timeout 1h;\n"
             "  client_body_temp_path $d; proxy_temp_path $d; fastcgi_temp_path $d;\n"
             "  uwsgi_temp_path $d; scgi_temp_path $d; default_type text/plain;\n"
             "  server { listen 127.0.0.1:%d; location / { return 200 '%0*d'; } } }\n"
             "END\n"
             "nginx -p \"$d\" -c \"$d/nginx.conf\" >\"$d/log\" 2>&1 </dev/null &\n"
             "while [ ! -s \"$d/pid\" ] && kill -0 $! 2>/dev/null; do sleep 0.01; done\n"
             "if [ -s \"$d/pid\" ]; then echo http://127.0.0.1:%d/; else cat \"$d/log\" >&2; fi\n"
             "exec >/dev/null; cat >/dev/null; kill $!; wait; rm -rf \"$d\"",
             port, BODY, 0, port);
    return bench_server(command);
}

static CURL *open_raw(const char *url, struct body *body)
{
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, url);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, body);
    return easy;
}

int main(int argc, char **argv)
{
    struct bench_options options = bench_parse(argc, argv, 3000);
    pier_error err = {0};
    struct target target = {.url = options.url ? options.url : start_nginx()};
    struct body body = {0};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    body.easy = open_raw(target.url, &body);
    pier_runner *runner = pier_runner_open(NULL, &err);
    target.http = pier_http_open(runner, NULL, &err);
    if (!target.http) {
        bench_fail("http_get: %s", err.message);
    }
    const struct bench_way ways[] = {
        {"curl_easy", run_raw, &body},
        {"pier_http_get", run_get, &target},
    };
    bench_run("http_get", &options, ways, 2);
    pier_runner_close(runner);
    curl_easy_cleanup(body.easy);
    curl_global_cleanup();
    return 0;
}
