#include "tests/support/http.h"
#include "tests/support/wait.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 20000 };

/* Every path lies below the server's own directory, so that it runs without root's rights. */
static const char nginx_configuration[] =
    "daemon off;\n"
    "worker_processes 1;\n"
    "pid %1$s/nginx.pid;\n"
    "error_log %1$s/nginx.log;\n"
    "events { worker_connections 1024; }\n"
    "http {\n"
    "    access_log off;\n"
    "    client_body_temp_path %1$s/body;\n"
    "    proxy_temp_path %1$s/proxy;\n"
    "    fastcgi_temp_path %1$s/fastcgi;\n"
    "    uwsgi_temp_path %1$s/uwsgi;\n"
    "    scgi_temp_path %1$s/scgi;\n"
    "    types { text/html html; text/plain txt; application/json json; }\n"
    "    default_type application/octet-stream;\n"
    "    keepalive_timeout 60s;\n"
    "    keepalive_requests 1000000;\n"
    "    server {\n"
    "        listen 127.0.0.1:%2$d;\n"
    "        root %1$s/root;\n"
    "    }\n"
    "}\n";

static bool app_wrote_port(void *user_data)
{
    struct support_http *http = user_data;
    char path[320];
    snprintf(path, sizeof path, "%s/port", http->directory);
    FILE *file = fopen(path, "re");
    if (!file) {
        return !support_process_alive(&http->app);
    }
    bool complete = fscanf(file, "%d", &http->port) == 1;
    fclose(file);
    return complete;
}

static int start_app(struct support_http *http)
{
    char script[512], port_file[320], log[320];
    snprintf(script, sizeof script, "%s/http_app.py", PIER_TEST_SUPPORT_DIR);
    snprintf(port_file, sizeof port_file, "%s/port", http->directory);
    snprintf(log, sizeof log, "%s/app.log", http->directory);
    const char *argv[] = {PIER_TEST_PYTHON, script, "--port-file", port_file, NULL};
    const struct support_process_options options = {
        .log = log, .remove = http->directory, .argv = argv};
    if (support_process_start(&http->app, &options) < 0) {
        return -1;
    }
    if (!support_wait_until(app_wrote_port, http, START_TIMEOUT_MS) || http->port == 0) {
        fprintf(stderr, "support: http_app.py did not start\n");
        support_file_print(log);
        return -1;
    }
    snprintf(http->url, sizeof http->url, "http://127.0.0.1:%d", http->port);
    return 0;
}

static bool nginx_answers_or_died(void *user_data)
{
    struct support_http *http = user_data;
    return support_port_answers(http->port_nginx) || !support_process_alive(&http->nginx);
}

static const char *nginx_binary(void)
{
    /* Debian's /usr/sbin is not in the PATH of ordinary users. */
    return access("/usr/sbin/nginx", X_OK) == 0 ? "/usr/sbin/nginx" : "nginx";
}

static int start_nginx(struct support_http *http)
{
    http->nginx_port_fd = support_port_reserve(&http->port_nginx);
    char text[4096], path[320], log[320];
    snprintf(text, sizeof text, nginx_configuration, http->directory, http->port_nginx);
    snprintf(path, sizeof path, "%s/nginx.conf", http->directory);
    snprintf(log, sizeof log, "%s/nginx.log", http->directory);
    if (http->nginx_port_fd < 0 ||
        support_file_write(http->directory, "nginx.conf", text, strlen(text)) < 0) {
        return -1;
    }
    /* Without -e nginx opens its log below /var before it reads any configuration. */
    const char *argv[] = {nginx_binary(), "-p", http->directory, "-c", path, "-e", log, NULL};
    const struct support_process_options options = {
        .log = log, .remove = http->directory, .argv = argv};
    if (support_process_start(&http->nginx, &options) < 0) {
        return -1;
    }
    if (!support_wait_until(nginx_answers_or_died, http, START_TIMEOUT_MS) ||
        !support_process_alive(&http->nginx)) {
        fprintf(stderr, "support: nginx did not start (Debian: nginx-light)\n");
        support_file_print(log);
        return -1;
    }
    snprintf(http->url_nginx, sizeof http->url_nginx, "http://127.0.0.1:%d", http->port_nginx);
    return 0;
}

int support_http_start(struct support_http *http, unsigned which)
{
    *http = (struct support_http){.nginx_port_fd = -1};
    if (support_directory_make(http->directory, sizeof http->directory, "http") < 0) {
        return -1;
    }
    int length = snprintf(http->root, sizeof http->root, "%s/root", http->directory);
    if (length < 0 || (size_t)length >= sizeof http->root || mkdir(http->root, 0755) < 0 ||
        ((which & SUPPORT_HTTP_APP) && start_app(http) < 0) ||
        ((which & SUPPORT_HTTP_NGINX) && start_nginx(http) < 0)) {
        support_http_stop(http);
        return -1;
    }
    return 0;
}

void support_http_stop(struct support_http *http)
{
    support_process_stop(&http->nginx);
    support_process_stop(&http->app);
    support_directory_remove(http->directory);
    if (http->nginx_port_fd > 0) {
        close(http->nginx_port_fd);
    }
    *http = (struct support_http){.nginx_port_fd = -1};
}
