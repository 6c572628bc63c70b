/*
 * A pipeline: one task reads lines from a web server as they come, another one stores them in a
 * database, and a queue between them holds 128 at most, so that the faster waits for the slower.
 *
 *   pipeline [URL [DATABASE-URL]]
 *
 * All is stored or nothing: when one of them fails the group cancels the other, and the transaction
 * is rolled back. The queue drops what nobody will get, so that no line is lost or freed twice.
 */
#include <pier/pier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct app {
    const char *url;
    pier_http *http;
    pier_db *db;
    pier_queue *queue;
    int64_t stored;
};

static void drop_line(void *item)
{
    free(*(char **)item);
}

static int produce(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct app *app = arg;
    pier_stream *stream = pier_http_stream(app->http, "GET", app->url, NULL, err);
    int status = 0;
    for (const char *line; status >= 0 && (line = pier_stream_line(stream, NULL));) {
        char *copy = strdup(line);
        status = copy ? pier_queue_put(app->queue, &copy, err) /* taken, also where it fails */
                      : pier_error_set(err, PIER_ENOMEM, "no memory for a line");
    }
    int closed = pier_stream_close(stream, status < 0 ? NULL : err);
    status = status < 0 ? status : closed;
    if (status >= 0) {
        pier_queue_end(app->queue); /* else the consumer must not take this for the end */
    }
    return status;
}

static int store(struct app *app, pier_db *tx, pier_error *err)
{
    char *line;
    int status;
    while ((status = pier_queue_get(app->queue, &line, err)) > 0) {
        int64_t rows =
            pier_db_execute(tx, "insert into events(body) values ($1)", PIER_ARGS(line), err);
        free(line);
        if (rows < 0) {
            return (int)rows;
        }
        app->stored += rows;
    }
    return status;
}

static int consume(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    struct app *app = arg;
    if (pier_db_execute_script(
            app->db, "drop table if exists events; create table events(body text)", err) < 0) {
        return err->status;
    }
    PIER_AUTO(pier_db) tx = pier_db_begin(app->db, NULL, err);
    int status = tx ? store(app, tx, err) : err->status;
    return status < 0 ? status : pier_db_commit(tx, err);
}

int main(int argc, char **argv)
{
    struct app app = {.url = argc > 1 ? argv[1] : "https://example.org"};
    const char *database = argc > 2 ? argv[2] : "sqlite::memory:";
    if (argc > 3 || app.url[0] == '-') {
        fprintf(stderr, "usage: %s [URL [DATABASE-URL]]\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    app.http = pier_http_open(runner, NULL, &err);
    app.db = pier_db_open(runner, database, NULL, &err);
    app.queue = pier_queue_new(runner, sizeof(char *), 128, drop_line, &err);
    pier_group *group = pier_group_open(runner, PIER_GROUP_OPTIONS(.timeout_ms = 30000), &err);
    if (!err.status) {
        pier_group_start(group, produce, &app);
        pier_group_start(group, consume, &app);
    }
    if (pier_group_close(group, &err) < 0 || err.status) {
        fprintf(stderr, "pipeline: %s\n", err.message);
    } else {
        printf("%" PRId64 " lines stored\n", app.stored);
    }
    pier_queue_free(app.queue);
    pier_runner_close(runner);
    return err.status < 0;
}
