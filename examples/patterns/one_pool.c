/*
 * Patterns: one runner for the process, one pool on it. Something else during a query, and many
 * threads on the pool.
 *
 *   one_pool [DATABASE-URL]
 */
#include <pier/pier.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

/* [long_lived] */
static struct {
    pthread_once_t once;
    pier_runner *runner;
    pier_error err;
} app = {.once = PTHREAD_ONCE_INIT};

static void close_app(void)
{
    pier_runner_close(app.runner); /* and everything that was opened on it */
}

static void open_app(void)
{
    app.runner = pier_runner_open(PIER_RUNNER_OPTIONS(.name = "app"), &app.err);
    if (app.runner) {
        atexit(close_app);
    }
}

/* The one loop of the process, whoever asks first. */
static pier_runner *app_runner(pier_error *err)
{
    pthread_once(&app.once, open_app);
    if (!app.runner) {
        *err = app.err;
    }
    return app.runner;
}
/* [/long_lived] */

/* [meanwhile] */
static int meanwhile(pier_db *db, pier_error *err)
{
    pier_future *rows = pier_db_fetch_async(db, "select 6 * 7", NULL); /* on its way */
    puts("something else");
    PIER_AUTO(pier_result) result = pier_db_fetch_finish(rows, err);
    if (!result) {
        return err->status;
    }
    printf("the answer: %" PRId64 "\n", pier_row_int64(pier_result_row(result, 0), 0));
    return 0;
}
/* [/meanwhile] */

/* [many_threads] */
enum { THREADS = 8, INSERTS = 5 };

static void *insert(void *db)
{
    pier_error err = {0};
    for (int i = 0; i < INSERTS && err.status == 0; i++) {
        pier_db_execute(db, "insert into pool_visits(visitor) values ($1)", PIER_ARGS(i), &err);
    }
    if (err.status < 0) {
        fprintf(stderr, "insert: %s\n", err.message);
    }
    return NULL;
}

/* No thread has a connection of its own: each takes a free one for a statement, in turn. */
static int many_threads(pier_db *db, pier_error *err)
{
    pthread_t threads[THREADS];
    int started = 0, count;
    while (started < THREADS && pthread_create(&threads[started], NULL, insert, db) == 0) {
        started++;
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
    }
    int got =
        pier_db_fetch_into(db, "select count(*) from pool_visits", NULL, PIER_INTO(&count), err);
    if (got > 0) {
        printf("%d threads, %d rows\n", started, count);
    }
    return got < 0 ? got : 0;
}
/* [/many_threads] */

int main(int argc, char **argv)
{
    pier_error err = {0};
    pier_db *db =
        pier_db_open(app_runner(&err),
                     argc > 1 ? argv[1] : "sqlite::memory:", PIER_DB_OPTIONS(.pool_max = 4), &err);
    int status = pier_db_execute_script(db,
                                        "drop table if exists pool_visits;"
                                        "create table pool_visits(visitor int)",
                                        &err);
    status = status < 0 ? status : meanwhile(db, &err);
    status = status < 0 ? status : many_threads(db, &err);
    if (status < 0) {
        fprintf(stderr, "one_pool: %s\n", err.message);
    }
    return status < 0;
}
