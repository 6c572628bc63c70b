// Arguments by name, a statement handle and a writer from C++17.
#include <pier/pier.h>

#include <cstdio>
#include <string>

int main()
{
    pier_error err = {};
    pier_runner *runner = pier_runner_open(nullptr, &err);
    pier_db *db = pier_db_open(runner, "sqlite::memory:", nullptr, &err);
    pier_db_execute_script(db, "create table users(id integer primary key, name text, age real)",
                           &err);
    const std::string ada = "ada";
    pier_db_execute(db, "insert into users(id, name, age) values (:id, :name, :age)",
                    PIER_NAMED("id", 7, "name", ada.c_str(), "age", 36.5), &err);
    pier_statement *statement =
        pier_db_prepare(db, "insert into users(name, age) values ($name, $age)", &err);
    for (const char *name : {"bob", "eve"}) {
        pier_statement_execute(statement, PIER_NAMED("age", nullptr, "name", name), &err);
    }
    pier_statement_close(statement);
    pier_writer *writer = pier_db_writer(db, "insert into users(name) values (@name)", &err);
    for (int i = 0; i < 1000; i++) {
        pier_writer_add(writer, PIER_NAMED("name", std::to_string(i).c_str()));
    }
    int64_t written = pier_writer_close(writer, &err);

    int64_t id = 0, rows = 0;
    int found = pier_db_fetch_into(db, "select id from users where name = :name and age > :age",
                                   PIER_NAMED("name", "ada", "age", 36u), PIER_INTO(&id), &err);
    int counted =
        pier_db_fetch_into(db, "select count(*) from users", nullptr, PIER_INTO(&rows), &err);
    if (err.status < 0) {
        std::fprintf(stderr, "named_arguments: %s\n", err.message);
    }
    pier_runner_close(runner);
    bool ok = written == 1000 && found == 1 && counted == 1 && id == 7 && rows == 1003;
    return ok ? 0 : 1;
}
