/*
 * Fifty GET requests, ten at a time over pooled connections, handled as they finish. A blocking
 * program: no callback, no thread of its own.
 *
 *   fifty_requests [BASE-URL]
 *
 * It asks for item/0 to item/49, relative to the base URL as links in a page are: where that has a
 * path, let it end with a slash.
 */
#include <pier/pier.h>
#include <stdio.h>

enum { REQUESTS = 50 };

/* Prints the answers in the order in which they come, and counts those that are none. */
static int print_answers(pier_group *group)
{
    int failed = 0;
    void *path;
    for (pier_future *future; (future = pier_group_next(group, &path));) {
        pier_error err = {0};
        PIER_AUTO(pier_response) response = pier_http_get_finish(future, &err);
        if (response) {
            printf("%s: %.40s\n", (char *)path, pier_response_text(response, NULL));
        } else {
            printf("%s: failed: %s\n", (char *)path, err.message);
            failed++;
        }
    }
    return failed;
}

int main(int argc, char **argv)
{
    const char *base = argc > 1 ? argv[1] : "https://example.org";
    if (argc > 2 || base[0] == '-') {
        fprintf(stderr, "usage: %s [BASE-URL]\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_http *http =
        pier_http_open(runner, PIER_HTTP_OPTIONS(.base_url = base, .limit = 10), &err);
    /* A group that collects goes on when one fails; the others fail fast. */
    pier_group *group =
        pier_group_open(runner, PIER_GROUP_OPTIONS(.collect = true, .timeout_ms = 60000), &err);
    char paths[REQUESTS][24];
    for (int i = 0; i < REQUESTS; i++) {
        snprintf(paths[i], sizeof paths[i], "item/%d", i);
        pier_group_add(group, pier_http_get_async(http, paths[i], NULL), paths[i]);
    }
    int failed = print_answers(group);
    int status = pier_group_close(group, &err);
    if (status < 0) {
        fprintf(stderr, "fifty_requests: %s\n", err.message);
    }
    printf("%d requests, %d failed\n", REQUESTS, failed);
    pier_runner_close(runner);
    return status < 0 || failed > 0;
}
