/* SQLite where things go wrong below: files that vanish or break, full disks, abandoned cursors. */
#include "tests/integration/sqlite_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static pier_db *open_with(struct fixture *f, const char *options)
{
    char url[800];
    snprintf(url, sizeof url, "%s?%s", f->url, options);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    return db;
}

static void fill(pier_db *db, int rows)
{
    execute(db, ENDLESS "insert into t select i, hex(randomblob(200)) from n limit $1",
            PIER_ARGS(rows));
}

/* ---- Files -------------------------------------------------------------------------------- */

static void test_open__a_scheme_that_nobody_knows_is_refused(void **state)
{
    struct fixture *f = *state;
    assert_null(pier_db_open(f->runner, "sqlite3:x.db", NULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, "sqlite:");
}

static void test_open__a_file_without_permission_to_write_can_be_read(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(chmod(f->path, 0444), 0);
    bool root = geteuid() == 0; /* whom no permission stops */
    assert_true(!root || seteuid(65534) == 0);
    pier_db *db = pier_db_open(f->runner, f->url, NULL, &f->err);
    int64_t count = number_of(db, "select count(*) from t");
    pier_db_execute(db, "insert into t values (1, 'a')", NULL, &f->err);
    pier_db_close(db);
    assert_true(!root || seteuid(0) == 0);
    assert_int_equal(count, 0);
    assert_error(&f->err, PIER_EIO, "readonly");
}

static void test_file__deleted_while_open_is_an_error_of_the_next_write(void **state)
{
    struct fixture *f = *state;
    static const char *const options[] = {"mode=rw", "preset=service&mode=rw"};
    for (int i = 0; i < 2; i++) {
        char log[600];
        snprintf(log, sizeof log, "%s-wal", f->path);
        pier_db *db = open_with(f, options[i]);
        execute(db, "insert into t(name) values ('a')", NULL);
        number_of(db, "select count(*) from t"); /* a reader is open */
        assert_int_equal(unlink(f->path), 0);
        unlink(log);
        pier_db_execute(db, "insert into t(name) values ('b')", NULL, &f->err);
        assert_error(&f->err, PIER_EIO, "deleted or replaced");
        assert_null(pier_db_begin(db, NULL, &f->err));
        assert_error(&f->err, PIER_EIO, "does not exist");
        pier_db_close(db);
        execute(f->db, "select 1", NULL);
        pier_db_close(f->db);
        f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
        execute(f->db, "create table t(id integer primary key, name text)", NULL);
    }
}

static void test_file__replaced_while_open_is_opened_anew_after_the_error(void **state)
{
    struct fixture *f = *state;
    char other[600], command[1400];
    pier_db *db = open_with(f, "preset=service");
    number_of(db, "select count(*) from t");
    snprintf(other, sizeof other, "%s/other.db", f->directory);
    snprintf(command, sizeof command, "sqlite:%s?journal_mode=wal", other);
    pier_db *second = pier_db_open(f->runner, command, NULL, &f->err);
    execute(second, "create table t(id integer primary key, name text)", NULL);
    execute(second, "insert into t values (1, 'other')", NULL);
    pier_db_close(second);
    assert_int_equal(rename(other, f->path), 0);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    assert_null(tx);
    assert_error(&f->err, PIER_EIO, "deleted or replaced");
    snprintf(other, sizeof other, "%s-wal", f->path);
    unlink(other);
    execute(db, "insert into t values (2, 'new')", NULL);
    assert_int_equal(number_of(db, "select count(*) from t"), 2);
    pier_db_close(db);
}

static void assert_broken(struct fixture *f, pier_db *db)
{
    pier_result *result = pier_db_fetch(db, "select count(*), max(name) from t", NULL, &f->err);
    assert_null(result);
    assert_int_equal(f->err.status, PIER_EIO);
    assert_int_equal(f->err.origin, PIER_ORIGIN_SQLITE);
    memset(&f->err, 0, sizeof f->err);
    pier_db_execute(db, "insert into t(name) values ('b')", NULL, &f->err);
    assert_int_equal(f->err.status, PIER_EIO);
    memset(&f->err, 0, sizeof f->err);
}

static void test_file__truncated_while_open_is_an_error(void **state)
{
    struct fixture *f = *state;
    fill(f->db, 2000);
    assert_int_equal(truncate(f->path, 8192), 0);
    assert_broken(f, f->db);
}

static void test_file__corrupted_while_open_is_an_error(void **state)
{
    struct fixture *f = *state;
    char garbage[4096];
    fill(f->db, 2000);
    memset(garbage, 'g', sizeof garbage);
    int fd = open(f->path, O_WRONLY);
    struct stat info;
    assert_int_equal(fstat(fd, &info), 0);
    for (off_t at = 0; at < info.st_size; at += (off_t)sizeof garbage) {
        assert_int_equal(pwrite(fd, garbage, sizeof garbage, at), sizeof garbage);
    }
    close(fd);
    assert_broken(f, f->db);
}

static void test_disk__full_is_an_error_and_rolls_back(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "insert into t values (0, 'before')", NULL);
    execute(f->db, "pragma max_page_count = 20", NULL);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_db_execute(tx, ENDLESS "insert into t select i, hex(randomblob(200)) from n", NULL,
                    &f->err);
    assert_error(&f->err, PIER_EIO, "full");
    assert_int_equal(pier_db_commit(tx, &f->err), PIER_EIO);
    assert_error(&f->err, PIER_EIO, "full");
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1);
    execute(f->db, "insert into t values (1, 'after')", NULL);
}

/* ---- Cursors ------------------------------------------------------------------------------ */

static void write_while_reading(struct fixture *f, pier_db *db)
{
    fill(db, 3000);
    int64_t rows = 0;
    pier_cursor *cursor = pier_db_cursor(db, "select id from t order by id", NULL, &f->err);
    for (const pier_row *row; (row = pier_cursor_next(cursor)); rows++) {
        if (rows % 1000 == 0) {
            execute(db, "update t set name = 'x' where id = $1", PIER_ARGS(rows + 1));
        }
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(rows, 3000);
    assert_int_equal(number_of(db, "select count(*) from t where name = 'x'"), 3);
}

static void test_cursor__and_writes_on_the_same_pool(void **state)
{
    struct fixture *f = *state;
    write_while_reading(f, f->db);
}

static void test_cursor__and_writes_on_the_same_pool_with_readers(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service");
    write_while_reading(f, db);
    pier_db_close(db);
}

static void test_cursor__over_a_million_rows_can_be_abandoned(void **state)
{
    struct fixture *f = *state;
    static const char million[] = ENDLESS "select i from n limit 1000000";
    pier_db *db = open_with(f, "preset=service&readers=1");
    pier_db *dbs[] = {f->db, db};
    for (int i = 0; i < 2; i++) {
        pier_cursor *cursor = pier_db_cursor(dbs[i], million, NULL, &f->err);
        for (int row = 0; row < 10; row++) {
            assert_non_null(pier_cursor_next(cursor));
        }
        assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
        assert_int_equal(number_of(dbs[i], "select 5"), 5);
    }
    /* And these by closing the pool under one, and the runner under both. */
    pier_cursor *left = pier_db_cursor(db, million, NULL, &f->err);
    assert_non_null(pier_cursor_next(left));
    pier_cursor *other = pier_db_cursor(f->db, million, NULL, &f->err);
    assert_non_null(pier_cursor_next(other));
    pier_db_close(db);
}

/* ---- Ends --------------------------------------------------------------------------------- */

static void assert_ended(pier_future *query)
{
    pier_error err = {0};
    assert_null(pier_db_fetch_finish(query, &err));
    assert_true(err.status == PIER_ECANCELLED || err.status == PIER_ECLOSED);
}

static void test_close__while_a_statement_is_being_interrupted(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 50; i++) {
        pier_db *db = open_with(f, i % 2 ? "mode=rw" : "preset=service");
        pier_future *query = pier_db_fetch_async(db, ENDLESS "select count(*) from n", NULL);
        pier_future *other = pier_db_fetch_async(db, ENDLESS "select sum(i) from n", NULL);
        pier_future_wait(query, i % 4 ? 1 : 0, NULL);
        if (i % 3) {
            pier_future_cancel(query);
        }
        pier_db_close(db);
        pier_future_cancel(query);
        pier_future_cancel(other);
        assert_ended(query);
        assert_ended(other);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__a_scheme_that_nobody_knows_is_refused),
        TEST(test_open__a_file_without_permission_to_write_can_be_read),
        TEST(test_file__deleted_while_open_is_an_error_of_the_next_write),
        TEST(test_file__replaced_while_open_is_opened_anew_after_the_error),
        TEST(test_file__truncated_while_open_is_an_error),
        TEST(test_file__corrupted_while_open_is_an_error),
        TEST(test_disk__full_is_an_error_and_rolls_back),
        TEST(test_cursor__and_writes_on_the_same_pool),
        TEST(test_cursor__and_writes_on_the_same_pool_with_readers),
        TEST(test_cursor__over_a_million_rows_can_be_abandoned),
        TEST(test_close__while_a_statement_is_being_interrupted),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
