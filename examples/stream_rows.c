/*
 * Streams a table of any size into a file of tab-separated lines, in constant memory.
 *
 *   stream_rows [DATABASE-URL [FILE [ROWS]]]      FILE "-": standard output
 *
 * Columns are found by name, once. A missing column, a NULL where a number is asked for, a
 * connection that is cut: all of them end the loop or are recorded, and pier_cursor_close reports
 * the first.
 */
#include <errno.h>
#include <pier/pier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int64_t fill(pier_db *db, int64_t rows, pier_error *err)
{
    if (pier_db_execute_script(db,
                               "drop table if exists stream_scores;"
                               "create table stream_scores(id bigint primary key, name text,"
                               " score double precision)",
                               err) < 0) {
        return err->status;
    }
    return pier_db_execute(db,
                           "with recursive n(i) as"
                           " (select 1 union all select i + 1 from n where i < $1)"
                           " insert into stream_scores select i,"
                           " case when i % 10 = 0 then null else 'name ' || i end, i / 8.0 from n",
                           PIER_ARGS(rows), err);
}

/* Gives 0, also where it is the file that cannot be written: then *failure is the errno. */
static int stream(pier_db *db, FILE *out, int *failure, pier_error *err)
{
    pier_cursor *cursor =
        pier_db_cursor(db, "select id, name, score from stream_scores order by id", NULL, err);
    int id = pier_cursor_column(cursor, "id");
    int name = pier_cursor_column(cursor, "name");
    int score = pier_cursor_column(cursor, "score");
    for (const pier_row *row; !ferror(out) && (row = pier_cursor_next(cursor));) {
        const char *text = pier_row_text(row, name);
        fprintf(out, "%" PRId64 "\t%s\t%g\n", pier_row_int64(row, id), text ? text : "\\N",
                pier_row_double(row, score));
    }
    *failure = ferror(out) ? errno : 0;
    return pier_cursor_close(cursor, err);
}

int main(int argc, char **argv)
{
    const char *url = argc > 1 ? argv[1] : "sqlite::memory:";
    const char *file = argc > 2 ? argv[2] : "-";
    long rows = argc > 3 ? strtol(argv[3], NULL, 10) : 1000;
    if (argc > 4 || rows < 1 || url[0] == '-') {
        fprintf(stderr, "usage: %s [DATABASE-URL [FILE [ROWS]]]\n", argv[0]);
        return 2;
    }
    FILE *out = strcmp(file, "-") == 0 ? stdout : fopen(file, "w");
    if (!out) {
        perror(file);
        return 1;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    int failure = 0;
    int status = fill(db, rows, &err) < 0 ? err.status : stream(db, out, &failure, &err);
    /* A full disk may show only here. */
    if (fclose(out) != 0 && !failure) {
        failure = errno;
    }
    if (failure && status >= 0) {
        status = pier_error_set(&err, PIER_EIO, "%s: %s", file, strerror(failure));
    }
    if (status < 0) {
        fprintf(stderr, "stream_rows: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
