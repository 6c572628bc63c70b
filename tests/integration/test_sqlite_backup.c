/* Copies of databases: backup, restore, VACUUM INTO, images. */
#include "tests/integration/sqlite_fixture.h"
#include "tests/unit/passing_time.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

/* Some hundred pages. */
static void fill(pier_db *db, int rows)
{
    execute(db, "create table if not exists d(id integer primary key, data)", NULL);
    execute(db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) "
            "insert into d(data) select zeroblob(2000) from n",
            PIER_ARGS(rows));
}

static char *beside(struct fixture *f, char path[600], const char *name)
{
    snprintf(path, 600, "%s/%s", f->directory, name);
    return path;
}

/* How many files of this beginning are there? */
static int files(struct fixture *f, const char *begin)
{
    int count = 0;
    DIR *directory = opendir(f->directory);
    for (struct dirent *entry; (entry = readdir(directory));) {
        count += !strncmp(entry->d_name, begin, strlen(begin));
    }
    closedir(directory);
    return count;
}

/* A number from a file, read by SQLite alone. */
static int64_t outside_number(const char *path, const char *sql)
{
    sqlite3 *outside = NULL;
    sqlite3_stmt *stmt = NULL;
    int64_t number = -1;
    if (sqlite3_open_v2(path, &outside, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK &&
        sqlite3_prepare_v2(outside, sql, -1, &stmt, NULL) == SQLITE_OK &&
        sqlite3_step(stmt) == SQLITE_ROW) {
        number = sqlite3_column_int64(stmt, 0);
    }
    sqlite3_finalize(stmt);
    sqlite3_close(outside);
    return number;
}

struct told {
    struct fixture *f;
    int calls;
    int64_t left, total;
    int (*then)(struct told *told);
    pier_error err;
    pier_scope *scope;
};

static int tell(void *user_data, int64_t left, int64_t total)
{
    struct told *told = user_data;
    told->calls++;
    told->left = left;
    told->total = total;
    return told->then ? told->then(told) : 0;
}

/* ---- Backup ------------------------------------------------------------------------------- */

static void test_backup__is_the_same_database(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f};
    fill(f->db, 200);
    int64_t pages = pier_sqlite_backup(
        f->db, beside(f, path, "copy.db"),
        PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell, .user_data = &told), &f->err);
    assert_ok(&f->err);
    assert_int_equal(pages, number_of(f->db, "pragma page_count"));
    assert_int_equal(told.calls, (pages + 9) / 10);
    assert_int_equal(told.left, 0);
    assert_int_equal(told.total, pages);
    assert_int_equal(outside_number(path, "select count(*) from d"), 200);
    assert_int_equal(files(f, "copy.db"), 1);
}

static void test_backup__asynchronously_and_of_memory(void **state)
{
    struct fixture *f = *state;
    char path[600];
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    fill(memory, 50);
    pier_future *future = pier_sqlite_backup_async(memory, beside(f, path, "copy.db"), NULL);
    assert_true(pier_sqlite_backup_finish(future, &f->err) > 0);
    assert_int_equal(outside_number(path, "select count(*) from d"), 50);
    pier_db_close(memory);
}

static void test_backup__will_not_replace_unless_told(void **state)
{
    struct fixture *f = *state;
    char path[600], journal[600];
    beside(f, path, "copy.db");
    fill(f->db, 5);
    support_file_write(f->directory, "copy.db", "precious", 8);
    assert_true(pier_sqlite_backup(f->db, path, NULL, &f->err) < 0);
    assert_int_equal(f->err.native, EEXIST);
    assert_error(&f->err, PIER_EIO, "copy.db");
    const pier_sqlite_backup_options *replace = PIER_SQLITE_BACKUP_OPTIONS(.replace = true);
    support_file_write(f->directory, "copy.db-journal", "hot", 3);
    assert_true(pier_sqlite_backup(f->db, path, replace, &f->err) < 0);
    assert_error(&f->err, PIER_EBUSY, "-journal");
    unlink(beside(f, journal, "copy.db-journal"));
    assert_true(pier_sqlite_backup(f->db, path, replace, &f->err) > 0);
    assert_int_equal(outside_number(path, "select count(*) from d"), 5);
    assert_true(pier_sqlite_backup(f->db, f->path, replace, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "the database itself");
    assert_int_equal(files(f, "copy.db"), 1);
}

static void test_backup__says_why_it_cannot_make_the_file(void **state)
{
    struct fixture *f = *state;
    char path[600];
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "no/copy.db"), NULL, &f->err) < 0);
    assert_int_equal(f->err.native, ENOENT);
    assert_error(&f->err, PIER_EIO, "No such file or directory");
    assert_true(pier_sqlite_backup(f->db, "/proc/copy.db", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "cannot make");
    assert_true(pier_sqlite_backup(f->db, "", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "no path");
    assert_true(pier_sqlite_backup(f->db, path, PIER_SQLITE_BACKUP_OPTIONS(.pages = -2), &f->err) <
                0);
    assert_error(&f->err, PIER_EINVAL, "pages is -2");
    assert_true(pier_sqlite_backup(NULL, path, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, NULL);
}

static int stop_at_second(struct told *told)
{
    return told->calls == 2 ? -1 : 0;
}

static void test_backup__stopped_by_its_progress_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = stop_at_second};
    fill(f->db, 200);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"),
                                   PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell,
                                                              .user_data = &told),
                                   &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, "stopped by its progress function");
    assert_int_equal(told.calls, 2);
    assert_int_equal(files(f, "copy.db"), 0);
    execute(f->db, "drop table d", NULL);
}

static int cancel_now(struct told *told)
{
    pier_scope_cancel(told->scope);
    return 0;
}

/* In the pause, and in the next step. */
static void test_backup__cancelled_half_way_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    for (int pause = 0; pause < 2; pause++) {
        struct told told = {.f = f, .then = cancel_now};
        told.scope = pier_scope_open(f->runner, NULL, &f->err);
        assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"),
                                       PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell,
                                                                  .user_data = &told,
                                                                  .pause_ms = pause ? 100000 : 0),
                                       &f->err) < 0);
        pier_scope_close(told.scope);
        assert_error(&f->err, PIER_ECANCELLED, "pier_sqlite_backup: cancelled");
        assert_int_equal(told.calls, 1);
        assert_int_equal(files(f, "copy.db"), 0);
        fill(f->db, 1);
    }
}

static void test_backup__asynchronously_cancelled_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    pier_future *future =
        pier_sqlite_backup_async(f->db, beside(f, path, "copy.db"),
                                 PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .pause_ms = 100000));
    while (number_of(f->db, "select count(*) from d") == 200 && !files(f, "copy.db")) {
        fill(f->db, 1); /* which has its turn between */
    }
    pier_future_cancel(future);
    assert_true(pier_sqlite_backup_finish(future, &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    assert_int_equal(files(f, "copy.db"), 0);
    fill(f->db, 1);
}

static void test_backup__obeys_a_deadline(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &f->err);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"),
                                   PIER_SQLITE_BACKUP_OPTIONS(.pages = 1, .pause_ms = 10),
                                   &f->err) < 0);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
    assert_int_equal(files(f, "copy.db"), 0);
}

static bool has_begun(void *user_data)
{
    return files(user_data, "copy.db") > 0;
}

static void test_backup__has_what_is_written_meanwhile(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    time_stop(); /* it stays in its first pause */
    pier_future *future = pier_sqlite_backup_async(
        f->db, beside(f, path, "copy.db"), PIER_SQLITE_BACKUP_OPTIONS(.pages = 20, .pause_ms = 20));
    assert_true(support_wait_until(has_begun, f, BOUND_MS));
    execute(f->db, "update d set data = 'new' where id in (1, 200)", NULL);
    execute(f->db, "insert into t values (7, 'meanwhile')", NULL);
    time_go_on();
    assert_true(pier_sqlite_backup_finish(future, &f->err) > 0);
    assert_int_equal(outside_number(path, "select count(*) from d where data = 'new'"), 2);
    assert_int_equal(outside_number(path, "select count(*) from t"), 1);
    assert_int_equal(outside_number(path, "select count(*) from pragma_integrity_check "
                                          "where integrity_check = 'ok'"),
                     1);
}

static void test_backup__begins_anew_when_another_connection_writes(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    time_stop();
    pier_future *future = pier_sqlite_backup_async(
        f->db, beside(f, path, "copy.db"), PIER_SQLITE_BACKUP_OPTIONS(.pages = 20, .pause_ms = 20));
    assert_true(support_wait_until(has_begun, f, BOUND_MS));
    assert_int_equal(outside_number(f->path, "delete from d where id < 200 returning 1"), 1);
    time_go_on();
    assert_true(pier_sqlite_backup_finish(future, &f->err) > 0);
    assert_int_equal(outside_number(path, "select count(*) from d"),
                     outside_number(f->path, "select count(*) from d"));
}

static void test_backup__in_a_transaction_that_has_written_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[600];
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    assert_true(pier_sqlite_backup(tx, beside(f, path, "copy.db"), NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EBUSY, "has written");
    pier_db_close(tx);
    assert_int_equal(files(f, "copy.db"), 0);
}

static void test_backup__ends_with_its_runner(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    pier_future *future =
        pier_sqlite_backup_async(f->db, beside(f, path, "copy.db"),
                                 PIER_SQLITE_BACKUP_OPTIONS(.pages = 1, .pause_ms = 100000));
    assert_true(support_wait_until(has_begun, f, BOUND_MS));
    pier_db_close(f->db);
    pier_runner_close(f->runner);
    f->db = NULL;
    f->runner = NULL;
    assert_true(pier_sqlite_backup_finish(future, &f->err) < 0);
    assert_error(&f->err, PIER_ECLOSED, NULL);
    assert_int_equal(files(f, "copy.db"), 0);
}

static int use_database(struct told *told)
{
    return (int)pier_db_execute(told->f->db, "select 1", NULL, &told->err) < 0 ? -1 : 0;
}

static void test_backup__whose_progress_uses_the_database_is_refused(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = use_database};
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"),
                                   PIER_SQLITE_BACKUP_OPTIONS(.progress = tell, .user_data = &told),
                                   &f->err) < 0);
    assert_error(&told.err, PIER_EDEADLOCK, NULL);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
}

static int close_database(struct told *told)
{
    pier_db_close(told->f->db);
    told->f->db = NULL;
    return 0;
}

/* In the middle: the next step finds the pool closed. */
static void test_backup__whose_progress_closes_the_pool_fails(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = close_database};
    const pier_sqlite_backup_options *options =
        PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell, .user_data = &told);
    fill(f->db, 200);
    assert_int_equal(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), options, &f->err),
                     PIER_ECLOSED);
    assert_error(&f->err, PIER_ECLOSED, "is closed");
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    pier_future *future = pier_sqlite_backup_async(f->db, path, options);
    assert_int_equal(pier_sqlite_backup_finish(future, &f->err), PIER_ECLOSED);
    assert_error(&f->err, PIER_ECLOSED, "is closed");
    assert_int_equal(told.calls, 2);
    assert_int_equal(files(f, "copy.db"), 0);
}

/* What has the connection until its end goes on, as everything does that is under way. */
static void test_backup__whose_progress_closes_the_pool_at_its_end_has_succeeded(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = close_database};
    const pier_sqlite_backup_options *options =
        PIER_SQLITE_BACKUP_OPTIONS(.pages = PIER_NONE, .replace = true, .progress = tell,
                                   .user_data = &told);
    fill(f->db, 200);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), options, &f->err) > 0);
    assert_int_equal(outside_number(path, "select count(*) from d"), 200);
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    pier_future *future = pier_sqlite_backup_async(f->db, path, options);
    assert_true(pier_sqlite_backup_finish(future, &f->err) > 0);
    assert_int_equal(outside_number(path, "select count(*) from d"), 200);
    assert_int_equal(files(f, "copy.db"), 1);
}

static int close_database_once(struct told *told)
{
    return told->f->db ? close_database(told) : 0;
}

static void test_backup__of_a_lease_outlives_the_pool(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = close_database_once};
    const pier_sqlite_backup_options *options =
        PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell, .user_data = &told);
    fill(f->db, 200);
    pier_db *lease = pier_db_lease(f->db, &f->err);
    assert_true(pier_sqlite_backup(lease, beside(f, path, "copy.db"), options, &f->err) > 0);
    assert_null(f->db);
    pier_db_close(lease);
    assert_int_equal(outside_number(path, "select count(*) from d"), 200);
}

/* ---- Into another database ---------------------------------------------------------------- */

static void test_backup_to__copies_over_a_lease(void **state)
{
    struct fixture *f = *state;
    fill(f->db, 200);
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    execute(memory, "create table old(a)", NULL);
    assert_true(pier_sqlite_backup_to(f->db, memory, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "no lease");
    pier_db *target = pier_db_lease(memory, &f->err);
    assert_true(pier_sqlite_backup_to(f->db, target, NULL, &f->err) > 0);
    assert_int_equal(number_of(target, "select count(*) from d"), 200);
    pier_db *source = pier_db_lease(f->db, &f->err);
    assert_true(pier_sqlite_backup_to(source, source, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "one connection");
    pier_cursor *cursor = pier_db_cursor(target, "select id from d", NULL, &f->err);
    pier_cursor_next(cursor);
    assert_true(pier_sqlite_backup_to(source, target, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "open cursor");
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    execute(target, "begin", NULL);
    assert_true(pier_sqlite_backup_to(source, target, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "in a transaction");
    pier_db_close(source);
    pier_db_close(target);
    pier_db_close(memory);
}

/* ---- Restore ------------------------------------------------------------------------------ */

static void test_restore__replaces_the_whole_database(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 50);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), NULL, &f->err) > 0);
    execute(f->db, "drop table d", NULL);
    execute(f->db, "insert into t values (1, 'a')", NULL);
    assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) > 0);
    assert_int_equal(number_of(f->db, "select count(*) from d"), 50);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    pier_future *future = pier_sqlite_restore_async(f->db, path, NULL);
    assert_true(pier_sqlite_restore_finish(future, &f->err) > 0);
}

static void test_restore__of_what_is_no_database_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    beside(f, path, "bad.db");
    execute(f->db, "insert into t values (1, 'a')", NULL);
    assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "bad.db: unable to open database file");
    char text[2000];
    memset(text, 'x', sizeof text);
    support_file_write(f->directory, "bad.db", text, sizeof text);
    assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "bad.db: file is not a database");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1);
}

static void test_restore__into_a_full_disk_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 200);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), NULL, &f->err) > 0);
    execute(f->db, "drop table d", NULL);
    execute(f->db, "insert into t values (1, 'a')", NULL);
    execute(f->db, "vacuum", NULL);
    execute(f->db, "pragma max_page_count = 20", NULL);
    assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) < 0);
    assert_int_equal(f->err.native & 0xFF, SQLITE_FULL);
    assert_error(&f->err, PIER_EIO, "full");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1);
    assert_int_equal(number_of(f->db, "select count(*) from pragma_integrity_check "
                                      "where integrity_check = 'ok'"),
                     1);
}

static void test_restore__stopped_half_way_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = stop_at_second};
    fill(f->db, 200);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), NULL, &f->err) > 0);
    execute(f->db, "update d set data = 1", NULL);
    assert_true(pier_sqlite_restore(f->db, path,
                                    PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell,
                                                               .user_data = &told),
                                    &f->err) < 0);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    assert_int_equal(number_of(f->db, "select sum(data) from d"), 200);
}

static void test_restore__is_refused_in_a_transaction(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_true(pier_sqlite_restore(tx, f->path, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "in a transaction");
    pier_db_close(tx);
}

static void test_restore__whose_progress_closes_the_pool_goes_on(void **state)
{
    struct fixture *f = *state;
    char path[600];
    struct told told = {.f = f, .then = close_database_once};
    fill(f->db, 200);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), NULL, &f->err) > 0);
    execute(f->db, "drop table d", NULL);
    assert_true(pier_sqlite_restore(f->db, path,
                                    PIER_SQLITE_BACKUP_OPTIONS(.pages = 10, .progress = tell,
                                                               .user_data = &told),
                                    &f->err) > 0);
    assert_null(f->db);
    assert_true(told.calls > 1);
    assert_int_equal(outside_number(f->path, "select count(*) from d"), 200);
}

/* ---- VACUUM INTO -------------------------------------------------------------------------- */

static void test_vacuum_into__binds_its_path(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db, 50);
    execute(f->db, "delete from d where id > 5", NULL);
    beside(f, path, "o'dd \"name\"; drop table d.db");
    assert_int_equal(pier_sqlite_vacuum_into(f->db, path, &f->err), 0);
    assert_ok(&f->err);
    assert_int_equal(outside_number(path, "select count(*) from d"), 5);
    assert_true(outside_number(path, "pragma page_count") <
                number_of(f->db, "select page_count from pragma_page_count"));
    assert_true(pier_sqlite_vacuum_into(f->db, path, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "will not replace");
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_true(pier_sqlite_vacuum_into(tx, beside(f, path, "copy.db"), &f->err) < 0);
    assert_error(&f->err, PIER_ESQL, "transaction");
    pier_db_close(tx);
    assert_int_equal(files(f, "copy.db"), 0);
}

/* ---- Images ------------------------------------------------------------------------------- */

static void test_serialize__gives_what_deserialize_takes(void **state)
{
    struct fixture *f = *state;
    execute(f->db, "pragma journal_mode = wal", NULL);
    fill(f->db, 50);
    pier_buffer *image = pier_sqlite_serialize(f->db, 0, &f->err);
    assert_ok(&f->err);
    assert_memory_equal(image->data, "SQLite format 3", 16);
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    assert_true(pier_sqlite_deserialize(memory, image->data, image->size, &f->err) > 0);
    assert_int_equal(number_of(memory, "select count(*) from d"), 50);
    execute(memory, "insert into d(data) values (1)", NULL);
    pier_db_close(memory);
    pier_buffer_free(image);
}

static void test_deserialize__asynchronously_copies_and_writes_the_file(void **state)
{
    struct fixture *f = *state;
    fill(f->db, 50);
    pier_buffer *image =
        pier_sqlite_serialize_finish(pier_sqlite_serialize_async(f->db, 0), &f->err);
    execute(f->db, "delete from d", NULL);
    pier_future *future = pier_sqlite_deserialize_async(f->db, image->data, image->size);
    pier_buffer_free(image);
    assert_true(pier_sqlite_deserialize_finish(future, &f->err) > 0);
    assert_int_equal(outside_number(f->path, "select count(*) from d"), 50);
}

static void test_serialize__has_a_bound(void **state)
{
    struct fixture *f = *state;
    fill(f->db, 50);
    assert_null(pier_sqlite_serialize(f->db, 10000, &f->err));
    assert_error(&f->err, PIER_ERANGE, "size_max is 10000");
    assert_null(pier_sqlite_serialize(f->db, -1, &f->err));
    assert_error(&f->err, PIER_EINVAL, "negative");
}

static void test_serialize__of_an_empty_database(void **state)
{
    struct fixture *f = *state;
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    pier_buffer *image = pier_sqlite_serialize(memory, 0, &f->err);
    assert_ok(&f->err);
    execute(memory, "create table a(b)", NULL);
    assert_true(pier_sqlite_deserialize(memory, image->data, image->size, &f->err) >= 0);
    assert_ok(&f->err);
    assert_int_equal(number_of(memory, "select count(*) from sqlite_master"), 0);
    pier_buffer_free(image);
    pier_db_close(memory);
}

static void test_deserialize__of_what_is_no_image_changes_nothing(void **state)
{
    struct fixture *f = *state;
    static char junk[4096] = "SQLite format 4";
    execute(f->db, "insert into t values (1, 'a')", NULL);
    assert_true(pier_sqlite_deserialize(f->db, junk, sizeof junk, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "not a database");
    assert_true(pier_sqlite_deserialize(f->db, junk, 5, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "no image");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 1);
}

static void test_deserialize__of_other_pages_says_so(void **state)
{
    struct fixture *f = *state;
    pier_db *memory = pier_db_open(f->runner, "sqlite::memory:", NULL, &f->err);
    execute(memory, "pragma page_size = 1024", NULL);
    execute(memory, "create table a(b)", NULL);
    pier_buffer *image = pier_sqlite_serialize(f->db, 0, &f->err);
    assert_true(pier_sqlite_deserialize(memory, image->data, image->size, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "page sizes differ");
    pier_buffer_free(image);
    pier_db_close(memory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_backup__is_the_same_database),
        TEST(test_backup__asynchronously_and_of_memory),
        TEST(test_backup__will_not_replace_unless_told),
        TEST(test_backup__says_why_it_cannot_make_the_file),
        TEST(test_backup__stopped_by_its_progress_leaves_nothing),
        TEST(test_backup__cancelled_half_way_leaves_nothing),
        TEST(test_backup__asynchronously_cancelled_leaves_nothing),
        TEST(test_backup__obeys_a_deadline),
        TEST(test_backup__has_what_is_written_meanwhile),
        TEST(test_backup__begins_anew_when_another_connection_writes),
        TEST(test_backup__in_a_transaction_that_has_written_is_refused),
        TEST(test_backup__ends_with_its_runner),
        TEST(test_backup__whose_progress_uses_the_database_is_refused),
        TEST(test_backup__whose_progress_closes_the_pool_fails),
        TEST(test_backup__whose_progress_closes_the_pool_at_its_end_has_succeeded),
        TEST(test_backup__of_a_lease_outlives_the_pool),
        TEST(test_backup_to__copies_over_a_lease),
        TEST(test_restore__replaces_the_whole_database),
        TEST(test_restore__of_what_is_no_database_changes_nothing),
        TEST(test_restore__into_a_full_disk_changes_nothing),
        TEST(test_restore__stopped_half_way_changes_nothing),
        TEST(test_restore__is_refused_in_a_transaction),
        TEST(test_restore__whose_progress_closes_the_pool_goes_on),
        TEST(test_vacuum_into__binds_its_path),
        TEST(test_serialize__gives_what_deserialize_takes),
        TEST(test_deserialize__asynchronously_copies_and_writes_the_file),
        TEST(test_serialize__has_a_bound),
        TEST(test_serialize__of_an_empty_database),
        TEST(test_deserialize__of_what_is_no_image_changes_nothing),
        TEST(test_deserialize__of_other_pages_says_so),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
