/*
 * The smallest asynchronous program. `hello` is a task: it runs on the loop, and where a thread
 * would block it lets the loop do something else. Both queries are under way before the first is
 * waited for.
 */
#include <pier/pier.h>
#include <stdio.h>

static int hello(pier_task *self, void *url, pier_error *err)
{
    pier_db *db = pier_db_open(pier_task_runner(self), url, NULL, err);
    const char *sql = "select 'hello, ' || $1";
    pier_future *sea = pier_db_fetch_async(db, sql, PIER_ARGS("sea"));
    pier_future *shore = pier_db_fetch_async(db, sql, PIER_ARGS("shore"));
    PIER_AUTO(pier_result) first = pier_db_fetch_finish(sea, err);
    PIER_AUTO(pier_result) second = pier_db_fetch_finish(shore, err);
    if (!first || !second) {
        return err->status;
    }
    puts(pier_row_text(pier_result_row(first, 0), 0));
    puts(pier_row_text(pier_result_row(second, 0), 0));
    return 0;
}

int main(int argc, char **argv)
{
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    int status = pier_task_run(runner, hello, argc > 1 ? argv[1] : "sqlite::memory:", &err);
    if (status < 0) {
        fprintf(stderr, "%s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
