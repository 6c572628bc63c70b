/*
 * Tests with a database of their own each, on cmocka: what a program that uses Pier may begin its
 * own tests with. Without arguments on a private Postgres; `integration_test sqlite` on SQLite.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pier/pier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *kind = "postgresql";
static pier_runner *runner;
static pier_testdb *server;
static pier_db *db;

/* [group] */
static const char schema[] = "create table users(name text not null unique, age int)";

/* Once: a server, and a template that has the schema. */
static int start(void **state)
{
    (void)state;
    pier_error err = {0};
    runner = pier_runner_open(NULL, &err);
    server = pier_testdb_open_with(kind, PIER_TESTDB_OPTIONS(.template_sql = schema), &err);
    if (!server) {
        fprintf(stderr, "integration_test: %s\n", err.message);
    }
    return server ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    pier_runner_close(runner);
    pier_testdb_close(server);
    return 0;
}
/* [/group] */

/* [fresh] */
/* For each test: a copy of the template. */
static int open_db(void **state)
{
    (void)state;
    pier_error err = {0};
    char *url = pier_testdb_fresh(server, &err);
    db = pier_db_open(runner, url, NULL, &err);
    free(url);
    if (!db) {
        fprintf(stderr, "integration_test: %s\n", err.message);
    }
    return db ? 0 : -1;
}

static int close_db(void **state)
{
    (void)state;
    pier_db_close(db);
    return 0;
}

static void test_users__name_is_unique(void **state)
{
    (void)state;
    pier_error err = {0};
    const char *sql = "insert into users(name) values ($1)";
    assert_int_equal(pier_db_execute(db, sql, PIER_ARGS("ada"), &err), 1);
    assert_int_equal(pier_db_execute(db, sql, PIER_ARGS("ada"), &err), PIER_ECONSTRAINT);
    assert_non_null(strstr(err.message, "users"));
}

static void test_users__are_none_at_first(void **state)
{
    (void)state;
    pier_error err = {0};
    int64_t count = -1;
    assert_int_equal(
        pier_db_fetch_into(db, "select count(*) from users", NULL, PIER_INTO(&count), &err), 1);
    assert_int_equal(count, 0);
}
/* [/fresh] */

int main(int argc, char **argv)
{
    kind = argc > 1 ? argv[1] : kind;
    if (argc > 2 || (strcmp(kind, "postgresql") != 0 && strcmp(kind, "sqlite") != 0)) {
        fprintf(stderr, "usage: %s [postgresql | sqlite]\n", argv[0]);
        return 2;
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_users__name_is_unique, open_db, close_db),
        cmocka_unit_test_setup_teardown(test_users__are_none_at_first, open_db, close_db),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
