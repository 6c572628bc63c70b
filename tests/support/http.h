/* HTTP servers: nginx over static files, and http_app.py, which answers in all the ways a client
 * must bear. */
#ifndef PIER_TESTS_SUPPORT_HTTP_H
#define PIER_TESTS_SUPPORT_HTTP_H

#include "tests/support/process.h"

enum { SUPPORT_HTTP_APP = 1, SUPPORT_HTTP_NGINX = 2 };

struct support_http {
    char url[64]; /* of http_app.py, without a slash at the end; its routes are listed there */
    char url_nginx[64]; /* of nginx, likewise */
    int port;
    int port_nginx;
    char root[256]; /* what nginx serves: add files with support_file_write */

    char directory[256];
    struct support_process app;
    struct support_process nginx;
    int nginx_port_fd;
};

/* Starts the servers of which, SUPPORT_HTTP_APP | SUPPORT_HTTP_NGINX, and waits until they answer.
 */
int support_http_start(struct support_http *http, unsigned which);
void support_http_stop(struct support_http *http);

#endif
