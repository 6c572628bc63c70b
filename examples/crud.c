/*
 * Create, read, update, delete: the same program on SQLite and on Postgres.
 *
 *   crud [DATABASE-URL]
 *
 * How little error handling it takes: integers are negative and pointers NULL on failure, a NULL
 * handle passes through and keeps the error that is already there, and a statement that fails dooms
 * its transaction, so that commit reports it.
 */
#include <pier/pier.h>
#include <stdio.h>
#include <string.h>

/* A key that counts by itself is what the two databases spell differently. */
static int make_table(pier_db *db, const char *url, pier_error *err)
{
    if (strncmp(url, "sqlite:", 7) == 0) {
        return pier_db_execute_script(db,
                                      "drop table if exists crud_users;"
                                      "create table crud_users(id integer primary key,"
                                      " name text not null, age integer)",
                                      err);
    }
    return pier_db_execute_script(db,
                                  "drop table if exists crud_users;"
                                  "create table crud_users("
                                  " id bigint generated always as identity primary key,"
                                  " name text not null, age integer)",
                                  err);
}

/* Two rows or none: what is not committed is rolled back by close. */
static int create(pier_db *db, int64_t *id, pier_error *err)
{
    pier_db *tx = pier_db_begin(db, NULL, err);
    const char *insert = "insert into crud_users(name, age) values ($1, $2) returning id";
    pier_db_execute(tx, insert, PIER_ARGS("ada", NULL), err);
    int got = pier_db_fetch_into(tx, insert, PIER_ARGS("bob", 40), PIER_INTO(id), err);
    int status = pier_db_commit(tx, err);
    pier_db_close(tx);
    return got < 0 ? got : status;
}

/* A cursor gives rows as they come. What fails on the way, the cursor itself (which is NULL then)
 * included, is reported where it is closed. */
static int print_all(pier_db *db, pier_error *err)
{
    pier_cursor *cursor =
        pier_db_cursor(db, "select id, name, age from crud_users order by id", NULL, err);
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        printf("%" PRId64 " %s ", pier_row_int64(row, 0), pier_row_text(row, 1));
        if (pier_row_is_null(row, 2)) {
            puts("of unknown age");
        } else {
            printf("aged %" PRId64 "\n", pier_row_int64(row, 2));
        }
    }
    return pier_cursor_close(cursor, err);
}

static int update_and_delete(pier_db *db, int64_t id, pier_error *err)
{
    int64_t updated = pier_db_execute(db, "update crud_users set age = coalesce(age, $1) + 1",
                                      PIER_ARGS(36), err);
    int64_t deleted =
        pier_db_execute(db, "delete from crud_users where id = $1", PIER_ARGS(id), err);
    if (updated < 0 || deleted < 0) {
        return err->status;
    }
    printf("%" PRId64 " updated, %" PRId64 " deleted\n", updated, deleted);
    return 0;
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
    if (argc > 2 || url[0] == '-') {
        fprintf(stderr, "usage: %s [DATABASE-URL]\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    int64_t id = 0;
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 4), &err);
    bool failed = make_table(db, url, &err) < 0 || create(db, &id, &err) < 0 ||
                  print_all(db, &err) < 0 || update_and_delete(db, id, &err) < 0 ||
                  print_all(db, &err) < 0;
    if (failed) {
        fprintf(stderr, "crud: %s\n", err.message);
    }
    pier_runner_close(runner);
    return failed;
}
