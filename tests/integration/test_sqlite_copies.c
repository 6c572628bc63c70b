/* Copies of databases at their edges: no memory, a fork, sources that cannot be read, closing. */
#include "tests/integration/sqlite_memory.h"

#include "tests/support/valgrind.h"
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ROWS = 40 }; /* a page each */

static void fill(pier_db *db)
{
    execute(db, ENDLESS "insert into t(name) select hex(zeroblob(1500)) from n limit $1",
            PIER_ARGS(ROWS));
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

/* A whole copy has all rows. */
static void assert_copy(struct fixture *f, const char *path)
{
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s?mode=ro", path);
    pier_db *copy = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(copy, "select count(*) from t"), ROWS);
    assert_int_equal(number_of(copy, "select count(*) from pragma_integrity_check where "
                                     "integrity_check = 'ok'"),
                     1);
    pier_db_close(copy);
}

/* ---- No memory ---------------------------------------------------------------------------- */

static int64_t back_up(struct fixture *f, pier_error *err)
{
    char path[600];
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    int64_t pages = pier_sqlite_backup(db, beside(f, path, "copy.db"),
                                       PIER_SQLITE_BACKUP_OPTIONS(.pages = 10), err);
    pier_db_close(db);
    return pages;
}

static int64_t back_up_to_another(struct fixture *f, pier_error *err)
{
    char path[600], url[700];
    snprintf(url, sizeof url, "sqlite:%s?synchronous=off", beside(f, path, "copy.db"));
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    pier_db *other = pier_db_open(f->runner, url, NULL, err);
    pier_db *lease = pier_db_lease(other, err);
    int64_t pages = pier_sqlite_backup_to(db, lease, NULL, err);
    pier_db_close(lease);
    pier_db_close(other);
    pier_db_close(db);
    return pages;
}

static int64_t vacuum(struct fixture *f, pier_error *err)
{
    char path[600];
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    int status = pier_sqlite_vacuum_into(db, beside(f, path, "copy.db"), err);
    pier_db_close(db);
    return status;
}

static int64_t restore(struct fixture *f, pier_error *err)
{
    char path[600], url[700];
    snprintf(url, sizeof url, "sqlite:%s?synchronous=off", beside(f, path, "copy.db"));
    pier_db *db = pier_db_open(f->runner, url, NULL, err);
    int64_t pages = pier_sqlite_restore(db, f->path, NULL, err);
    pier_db_close(db);
    return pages;
}

static int64_t through_an_image(struct fixture *f, pier_error *err)
{
    char path[600], url[700];
    snprintf(url, sizeof url, "sqlite:%s?synchronous=off", beside(f, path, "copy.db"));
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    pier_db *other = pier_db_open(f->runner, url, NULL, err);
    pier_buffer *image = pier_sqlite_serialize(db, 0, err);
    int64_t pages = -1;
    if (image) {
        pages = pier_sqlite_deserialize(other, image->data, image->size, err);
    }
    pier_buffer_free(image);
    pier_db_close(other);
    pier_db_close(db);
    return pages;
}

static int64_t through_a_dump(struct fixture *f, pier_error *err)
{
    char path[600], url[700];
    snprintf(url, sizeof url, "sqlite:%s?synchronous=off", beside(f, path, "copy.db"));
    pier_db *db = pier_db_open(f->runner, f->url, NULL, err);
    pier_db *other = pier_db_open(f->runner, url, NULL, err);
    pier_cursor *dump = pier_sqlite_dump(db, err);
    for (const pier_row *row; !err->status && (row = pier_cursor_next(dump));) {
        pier_db_execute_script(other, "rollback", NULL); /* so that the pool has nothing open */
        const char *sql = pier_row_text(row, 0);
        if (sql && strncmp(sql, "BEGIN", 5) && strncmp(sql, "COMMIT", 6)) {
            pier_db_execute(other, sql, NULL, err);
        }
    }
    int status = pier_cursor_close(dump, err);
    pier_db_close(other);
    pier_db_close(db);
    return err->status ? err->status : status;
}

/* All or nothing, and all where nothing is reported. */
static void fail_each(struct fixture *f, program *copy, bool leaves_nothing)
{
    char path[600];
    int n = 0;
    beside(f, path, "copy.db");
    fill(f->db);
    do {
        pier_error err = {0};
        int64_t result = run_failing(f, ++n, copy, &err);
        if (result < 0) {
            assert_int_equal(err.status, PIER_ENOMEM);
            assert_false(leaves_nothing && files(f, "copy.db"));
            assert_int_equal(files(f, "copy.db.pier"), 0);
        } else {
            assert_copy(f, path);
        }
        unlink(path);
        assert_int_equal(number_of(f->db, "select count(*) from t"), ROWS);
    } while (atomic_load(&failed));
    assert_in_range(n, 6, 999);
}

static void test_backup__each_failed_allocation_is_reported(void **state)
{
    fail_each(*state, back_up, true);
}

static void test_backup_to__each_failed_allocation_is_reported(void **state)
{
    fail_each(*state, back_up_to_another, false);
}

static void test_vacuum_into__each_failed_allocation_is_reported(void **state)
{
    fail_each(*state, vacuum, true);
}

static void test_restore__each_failed_allocation_is_reported(void **state)
{
    fail_each(*state, restore, false);
}

static void test_image__each_failed_allocation_is_reported(void **state)
{
    fail_each(*state, through_an_image, false);
}

static void test_dump__each_failed_allocation_is_reported(void **state)
{
    fail_each(*state, through_a_dump, false);
}

static int back_up_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return (int)back_up(arg, err);
}

static int64_t run_task(struct fixture *f, pier_error *err)
{
    return pier_task_run(f->runner, back_up_in_task, f, err);
}

static void test_backup__each_failed_allocation_of_a_task_is_reported(void **state)
{
    fail_each(*state, run_task, true);
}

/* ---- Fork --------------------------------------------------------------------------------- */

static bool has_begun(void *user_data)
{
    return files(user_data, "copy.db") > 0;
}

/* 0, or which of them it was that was not refused. */
static int copy_in_child(struct fixture *f, pier_future *running)
{
    char path[600];
    beside(f, path, "child.db");
    if (pier_sqlite_backup(f->db, path, NULL, NULL) != PIER_EFORKED ||
        pier_sqlite_restore(f->db, f->path, NULL, NULL) != PIER_EFORKED) {
        return 1;
    }
    if (pier_sqlite_vacuum_into(f->db, path, NULL) != PIER_EFORKED) {
        return 2;
    }
    pier_error err = {0};
    if (pier_sqlite_serialize(f->db, 0, &err) || err.status != PIER_EFORKED ||
        pier_sqlite_deserialize(f->db, "x", 1, NULL) != PIER_EFORKED) {
        return 3;
    }
    memset(&err, 0, sizeof err);
    pier_cursor *dump = pier_sqlite_dump(f->db, &err);
    if (dump || err.status != PIER_EFORKED || pier_sqlite_load(f->db, path, NULL) != PIER_EFORKED) {
        return 4;
    }
    if (pier_sqlite_backup_finish(running, NULL) != PIER_EFORKED) {
        return 5;
    }
    pier_db_close(f->db);
    pier_runner_close(f->runner);
    return files(f, "child.db") ? 6 : 0;
}

/* The child frees the copy that is under way, and leaves its file to the parent. */
static void test_fork__the_child_is_refused_and_the_copy_goes_on(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db);
    pier_future *future = pier_sqlite_backup_async(
        f->db, beside(f, path, "copy.db"), PIER_SQLITE_BACKUP_OPTIONS(.pages = 1, .pause_ms = 20));
    assert_true(support_wait_until(has_begun, f, BOUND_MS));
    pid_t child = fork();
    if (child == 0) {
        int code = copy_in_child(f, future);
        support_leave_valgrind(code);
        _exit(code);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_true(pier_sqlite_backup_finish(future, &f->err) > 0);
    assert_ok(&f->err);
    assert_copy(f, path);
}

/* ---- Sources that cannot be read ---------------------------------------------------------- */

static void overwrite(const char *path, long at, size_t size)
{
    char garbage[4096];
    memset(garbage, 0xA5, sizeof garbage);
    FILE *file = fopen(path, "r+e");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    assert_int_equal(fwrite(garbage, 1, size, file), size);
    fclose(file);
}

static void test_restore__of_what_cannot_be_read_says_so(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db);
    assert_true(pier_sqlite_restore(f->db, beside(f, path, "missing.db"), NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "missing.db");
    assert_int_equal(files(f, "missing.db"), 0);
    assert_int_equal(mkdir(beside(f, path, "directory.db"), 0700), 0);
    assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "directory.db");
    if (geteuid() != 0) { /* who may read everything */
        assert_int_equal(support_file_write(f->directory, "secret.db", "", 0), 0);
        assert_int_equal(chmod(beside(f, path, "secret.db"), 0), 0);
        assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) < 0);
        assert_error(&f->err, PIER_EIO, "secret.db");
    }
    assert_int_equal(number_of(f->db, "select count(*) from t"), ROWS);
}

/* The header is right and the schema is not. */
static void test_restore__of_a_broken_file_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"), NULL, &f->err) > 0);
    overwrite(path, 100, 3000);
    assert_true(pier_sqlite_restore(f->db, path, NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EIO, "malformed");
    assert_int_equal(number_of(f->db, "select count(*) from t"), ROWS);
}

static void test_copies__of_a_source_that_broke_leave_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db);
    pier_db_close(f->db);
    overwrite(f->path, 0, 4096);
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    memset(&f->err, 0, sizeof f->err); /* it opens with the first statement, or not */
    beside(f, path, "copy.db");
    assert_true(pier_sqlite_backup(f->db, path, NULL, &f->err) < 0);
    memset(&f->err, 0, sizeof f->err);
    assert_true(pier_sqlite_vacuum_into(f->db, path, &f->err) < 0);
    memset(&f->err, 0, sizeof f->err);
    pier_buffer_free(pier_sqlite_serialize(f->db, 0, &f->err));
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(files(f, "copy.db"), 0);
}

static void test_backup__of_a_file_that_vanished_leaves_nothing_half_done(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db);
    assert_int_equal(truncate(f->path, 8192), 0);
    assert_true(pier_sqlite_backup(f->db, beside(f, path, "copy.db"),
                                   PIER_SQLITE_BACKUP_OPTIONS(.pages = 3), &f->err) < 0);
    assert_int_equal(f->err.status, PIER_EIO);
    memset(&f->err, 0, sizeof f->err);
    assert_int_equal(files(f, "copy.db"), 0);
}

/* ---- Closing ------------------------------------------------------------------------------ */

/* Closing the pool lets nothing new begin; the copy, between two of its steps, is ended. */
static void test_backup__whose_pool_is_closed_ends_and_leaves_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    fill(f->db);
    pier_future *future = pier_sqlite_backup_async(
        f->db, beside(f, path, "copy.db"), PIER_SQLITE_BACKUP_OPTIONS(.pages = 1, .pause_ms = 10));
    assert_true(support_wait_until(has_begun, f, BOUND_MS));
    pier_db_close(f->db);
    f->db = NULL;
    int64_t pages = pier_sqlite_backup_finish(future, &f->err);
    assert_true(pages < 0);
    assert_error(&f->err, PIER_ECLOSED, "is closed");
    assert_int_equal(files(f, "copy.db"), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_backup__each_failed_allocation_is_reported),
        TEST(test_backup_to__each_failed_allocation_is_reported),
        TEST(test_vacuum_into__each_failed_allocation_is_reported),
        TEST(test_restore__each_failed_allocation_is_reported),
        TEST(test_image__each_failed_allocation_is_reported),
        TEST(test_dump__each_failed_allocation_is_reported),
        TEST(test_backup__each_failed_allocation_of_a_task_is_reported),
        TEST(test_fork__the_child_is_refused_and_the_copy_goes_on),
        TEST(test_restore__of_what_cannot_be_read_says_so),
        TEST(test_restore__of_a_broken_file_changes_nothing),
        TEST(test_copies__of_a_source_that_broke_leave_nothing),
        TEST(test_backup__of_a_file_that_vanished_leaves_nothing_half_done),
        TEST(test_backup__whose_pool_is_closed_ends_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
