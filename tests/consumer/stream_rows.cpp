// Rows of every type as they come, NULLs included, and a getter's failure reported at the end.
#include <pier/pier.h>

#include <cstdio>

int main(int argc, char **argv)
{
    pier_error err = {};
    PIER_AUTO(pier_runner) runner = pier_runner_open(nullptr, &err);
    pier_db *db = pier_db_open(runner, argc > 1 ? argv[1] : "sqlite::memory:", nullptr, &err);
    const char *sql =
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1)"
        " select i as id, case when i % 2 = 0 then 'even' end as name, i / 4.0 as score"
        " from n";
    pier_cursor *cursor = pier_db_cursor(db, sql, PIER_ARGS(5000), &err);
    int id = pier_cursor_column(cursor, "id");
    int name = pier_cursor_column(cursor, "name");
    int score = pier_cursor_column(cursor, "score");
    int64_t ids = 0, names = 0;
    double scores = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor)) != nullptr;) {
        ids += pier_row_int64(row, id);
        names += pier_row_text(row, name) == nullptr ? 0 : 1;
        scores += pier_row_double(row, score);
    }
    int status = pier_cursor_close(cursor, &err);

    pier_error mistake = {};
    cursor = pier_db_cursor(db, "select 'text'", nullptr, &mistake);
    int64_t number = pier_row_int64(pier_cursor_next(cursor), 0);
    int refused = pier_cursor_close(cursor, &mistake);
    std::printf("%" PRId64 " %" PRId64 " %g, then: %s\n", ids, names, scores, mistake.message);
    if (err.status < 0) {
        std::fprintf(stderr, "stream_rows: %s\n", err.message);
    }
    bool ok = status == 0 && ids == 12502500 && names == 2500 && scores == 12502500 / 4.0 &&
              number == 0 && refused == PIER_ETYPE;
    return ok ? 0 : 1;
}
