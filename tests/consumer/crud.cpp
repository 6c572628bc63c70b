// Create, read, update, delete from C++17: PIER_ARGS and PIER_INTO deduce their types by overloads,
// options are pier::options<>, SQL's NULL is nullptr.
#include <pier/pier.h>

#include <cstdio>
#include <string>

static int print_all(pier_db *db, pier_error *err)
{
    pier_cursor *cursor =
        pier_db_cursor(db, "select id, name, age from users where age > $1", PIER_ARGS(18), err);
    int rows = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor)) != nullptr; rows++) {
        std::printf("%" PRId64 " %s %" PRId64 "\n", pier_row_int64(row, 0), pier_row_text(row, 1),
                    pier_row_int64(row, 2));
    }
    int status = pier_cursor_close(cursor, err);
    return status < 0 ? status : rows;
}

int main(int argc, char **argv)
{
    pier_error err = {};
    pier_runner *runner = pier_runner_open(nullptr, &err);
    pier::options<pier_db_options> options;
    options.pool_max = 4;
    pier_db *db = pier_db_open(runner, argc > 1 ? argv[1] : "sqlite::memory:", &options, &err);
    pier_db_execute_script(
        db, "create table users(id integer primary key, name text, age integer, note text)", &err);

    pier_db *tx = pier_db_begin(db, nullptr, &err);
    const char *insert = "insert into users(id, name, age, note) values ($1, $2, $3, $4)";
    std::string ada = "ada";
    pier_db_execute(tx, insert, PIER_ARGS(1, ada.c_str(), 36L, nullptr), &err);
    pier_db_execute(tx, insert, PIER_ARGS(INT64_C(2), "bob", 40u, true ? "a note" : nullptr), &err);
    int64_t changed =
        pier_db_execute(tx, "update users set age = age + 1 where id = $1", PIER_ARGS(2), &err);
    int status = pier_db_commit(tx, &err);
    pier_db_close(tx);

    int age = 0;
    char name[16];
    int got = pier_db_fetch_into(db, "select name, age from users where note is not null", nullptr,
                                 PIER_INTO(pier_into_buffer(name, sizeof name), &age), &err);
    int rows = print_all(db, &err);
    if (err.status < 0) {
        std::fprintf(stderr, "crud: %s\n", err.message);
    }
    pier_runner_close(runner);
    bool ok = status == 0 && changed == 1 && got == 1 && age == 41 && name == std::string("bob") &&
              rows == 2;
    return ok ? 0 : 1;
}
