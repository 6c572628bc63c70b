/* The smallest program: opens a database, asks it something, prints the answer. */
#include <pier/pier.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    char hello[64];
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, argc > 1 ? argv[1] : "sqlite::memory:", NULL, &err);
    int got = pier_db_fetch_into(db, "select 'hello, ' || $1", PIER_ARGS("sea"),
                                 PIER_INTO(pier_into_buffer(hello, sizeof hello)), &err);
    puts(got == 1 ? hello : err.message);
    pier_runner_close(runner);
    return got != 1;
}
