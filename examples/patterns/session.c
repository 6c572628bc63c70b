/*
 * Patterns: one HTTP session for the whole program. Its connections are used again.
 *
 *   session BASE-URL
 */
#include <pier/pier.h>
#include <stdio.h>

/* [session] */
struct api {
    pier_runner *runner;
    pier_http *http; /* open as long as the program runs, shared by all threads and tasks */
};

static int api_open(struct api *api, const char *url, pier_error *err)
{
    api->runner = pier_runner_open(NULL, err);
    api->http = pier_http_open(api->runner, PIER_HTTP_OPTIONS(.base_url = url, .limit = 10), err);
    return api->http ? 0 : err->status;
}

static int api_print_item(struct api *api, int number, pier_error *err)
{
    char path[32];
    snprintf(path, sizeof path, "item/%d", number);
    PIER_AUTO(pier_response) response = pier_http_get(api->http, path, NULL, err);
    if (!response) {
        return err->status;
    }
    printf("%s\n", pier_response_text(response, NULL));
    return 0;
}

static void api_close(struct api *api)
{
    pier_runner_close(api->runner); /* the session with it */
}
/* [/session] */

int main(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s BASE-URL\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    struct api api = {0};
    int status = api_open(&api, argv[1], &err);
    for (int i = 1; i <= 3 && status == 0; i++) {
        status = api_print_item(&api, i, &err);
    }
    if (status < 0) {
        fprintf(stderr, "session: %s\n", err.message);
    }
    api_close(&api);
    return status < 0;
}
