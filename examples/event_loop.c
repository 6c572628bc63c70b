/*
 * Pier on a loop of your own: everything that this program does happens in callbacks, on the thread
 * that runs the loop.
 *
 *   event_loop [DATABASE-URL]
 *
 * Each callback takes the result of the future that it was given and starts the next step. The
 * last one stops the runner; then nothing keeps the loop alive, and uv_run returns.
 */
#include <pier/pier.h>
#include <stdio.h>
#include <uv.h>

struct app {
    pier_runner *runner;
    pier_db *db;
    pier_cursor *cursor;
    pier_error err;
};

/* What went wrong is printed here, once, wherever it did. */
static void stop(struct app *app)
{
    if (app->err.status < 0) {
        fprintf(stderr, "event_loop: %s\n", app->err.message);
    }
    pier_runner_stop(app->runner, NULL, NULL);
}

static void on_cursor_closed(pier_future *future, void *user_data)
{
    struct app *app = user_data;
    int status = pier_cursor_close_finish(future, &app->err);
    (void)status; /* it is in app->err too */
    stop(app);
}

static void on_block(pier_future *future, void *user_data)
{
    struct app *app = user_data;
    PIER_AUTO(pier_result) block = pier_cursor_block_finish(future, &app->err);
    for (size_t i = 0; i < pier_result_count(block); i++) {
        puts(pier_row_text(pier_result_row(block, i), 0));
    }
    if (pier_result_count(block) > 0) {
        pier_future_then(pier_cursor_block_async(app->cursor), on_block, app);
    } else {
        pier_future_then(pier_cursor_close_async(app->cursor), on_cursor_closed, app);
    }
}

static void on_table(pier_future *future, void *user_data)
{
    struct app *app = user_data;
    if (pier_db_execute_script_finish(future, &app->err) < 0) {
        stop(app);
        return;
    }
    /* This waits for nothing, so it needs no future. */
    app->cursor =
        pier_db_cursor(app->db, "select name from loop_harbours order by name", NULL, &app->err);
    pier_future_then(pier_cursor_block_async(app->cursor), on_block, app);
}

static void on_open(pier_future *future, void *user_data)
{
    struct app *app = user_data;
    app->db = pier_db_open_finish(future, &app->err);
    if (!app->db) {
        stop(app);
        return;
    }
    const char *script = "drop table if exists loop_harbours;"
                         "create table loop_harbours(name text);"
                         "insert into loop_harbours values ('Aden'), ('Bergen'), ('Callao')";
    pier_future_then(pier_db_execute_script_async(app->db, script), on_table, app);
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
    if (argc > 2 || url[0] == '-') {
        fprintf(stderr, "usage: %s [DATABASE-URL]\n", argv[0]);
        return 2;
    }
    struct app app = {0};
    uv_loop_t loop;
    if (uv_loop_init(&loop) != 0) {
        return 1;
    }
    app.runner = pier_runner_open(PIER_RUNNER_OPTIONS(.loop = &loop), &app.err);
    if (!app.runner) {
        fprintf(stderr, "event_loop: %s\n", app.err.message);
        return 1;
    }
    pier_future_then(pier_db_open_async(app.runner, url, NULL), on_open, &app);
    uv_run(&loop, UV_RUN_DEFAULT);
    return uv_loop_close(&loop) != 0 || app.err.status != 0;
}
