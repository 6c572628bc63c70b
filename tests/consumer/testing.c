/* A throw-away database, from the library that is beside Pier's own. */
#include <pier/pier.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    pier_error err = {0};
    int64_t answer = 0;
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_testdb *testdb = pier_testdb_open_with(
        "sqlite",
        PIER_TESTDB_OPTIONS(.template_sql = "create table t(x int); insert into t values (42)"),
        &err);
    char *url = pier_testdb_fresh(testdb, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    int got = pier_db_fetch_into(db, "select x from t", NULL, PIER_INTO(&answer), &err);
    if (got < 0) {
        fprintf(stderr, "%s\n", err.message);
    }
    pier_runner_close(runner);
    pier_testdb_close(testdb);
    free(url);
    return got == 1 && answer == 42 ? 0 : 1;
}
