/*
 * Patterns: the four things that ThreadRunner does for blocking code. run, wrap_context,
 * enter_context, wrap_iter.
 */
#include <pier/pier.h>
#include <stdio.h>

/* [runner_run] */
static int ask(pier_task *self, void *db, pier_error *err)
{
    (void)self;
    char text[64];
    int got = pier_db_fetch_into(db, "select 'a row for ' || $1", PIER_ARGS("a task"),
                                 PIER_INTO(pier_into_buffer(text, sizeof text)), err);
    if (got > 0) {
        printf("run: %s\n", text);
    }
    return got;
}

static int runner_run(pier_runner *runner, pier_db *db, pier_error *err)
{
    return pier_task_run(runner, ask, db, err);
}
/* [/runner_run] */

/* [wrap_context] */
/* The way out of a context of our own. It may wait, and runs even if all around it was cancelled.
 */
static void leave_the_book(void *db)
{
    pier_error err = {0};
    if (pier_db_execute(db, "delete from guests where name = 'ada'", NULL, &err) >= 0) {
        puts("wrap_context: left");
    }
}

static int wrap_context(pier_runner *runner, pier_db *db, pier_error *err)
{
    PIER_AUTO(pier_scope) book = pier_scope_open(runner, NULL, err);
    if (pier_db_execute(db, "insert into guests values ('ada')", NULL, err) < 0) {
        return err->status;
    }
    int status = pier_scope_enter(book, db, leave_the_book, err); /* at the end of the block */
    int64_t guests;
    if (status == 0) {
        status =
            pier_db_fetch_into(db, "select count(*) from guests", NULL, PIER_INTO(&guests), err);
    }
    if (status > 0) {
        printf("wrap_context: %" PRId64 " in the book\n", guests);
    }
    return status;
}
/* [/wrap_context] */

/* [enter_context] */
static void close_log(void *file)
{
    fputs("enter_context: closed with the runner\n", file);
    fclose(file);
}

/* Not closed here: the runner closes it, before the handles that were opened earlier. */
static int enter_context(pier_runner *runner, const char *path, pier_error *err)
{
    FILE *file = fopen(path, "we");
    if (!file) {
        return pier_error_set(err, PIER_EIO, "%s cannot be opened", path);
    }
    fputs("enter_context: opened\n", file);
    return pier_runner_enter(runner, file, close_log, err);
}
/* [/enter_context] */

/* [wrap_iter] */
static int countdown(pier_task *self, void *from, pier_error *err)
{
    int status = 0;
    for (int i = *(int *)from; i > 0 && status == 0; i--) {
        status = pier_task_sleep(self, 1, err); /* whatever a task may wait for */
        status = status < 0 ? status : pier_iter_put(self, &i, err);
    }
    return status;
}

static int wrap_iter(pier_runner *runner, pier_error *err)
{
    int from = 3;
    pier_iter *iter = pier_iter_open(runner, sizeof(int), countdown, &from, err);
    for (int i; pier_iter_next(iter, &i);) {
        printf("wrap_iter: %d\n", i);
    }
    return pier_iter_close(iter, err);
}
/* [/wrap_iter] */

int main(int argc, char **argv)
{
    if (argc != 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s LOG-FILE\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, "sqlite::memory:", NULL, &err);
    int status = pier_db_execute_script(db, "create table guests(name text)", &err);
    status = status < 0 ? status : runner_run(runner, db, &err);
    status = status < 0 ? status : wrap_context(runner, db, &err);
    status = status < 0 ? status : enter_context(runner, argv[1], &err);
    status = status < 0 ? status : wrap_iter(runner, &err);
    if (status < 0) {
        fprintf(stderr, "thread_runner: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
