/*
 * SQLite on a disk that is full, or fails: a VFS beneath SQLite that lets so many bytes through and
 * then answers every write, or every fsync, with an error.
 */
#include "tests/integration/sqlite_fixture.h"

#include <dirent.h>
#include <sys/stat.h>

/* ---- The disk ----------------------------------------------------------------------------- */

/* What the VFS does, for the files whose path has `match` in it. */
static struct {
    char match[64];
    int types;         /* of those, only these (SQLITE_OPEN_MAIN_DB, ...); 0: all */
    atomic_int left;   /* bytes that can still be written; negative: any number */
    atomic_int code;   /* of what is written beyond that */
    atomic_int sync;   /* of every fsync; 0: they work */
    atomic_int failed; /* how many calls have failed */
} disk;

static sqlite3_vfs *below; /* the ordinary VFS */

typedef struct disk_file {
    sqlite3_file base;
    bool watched;
    _Alignas(sqlite3_int64) unsigned char real[]; /* the ordinary VFS's file */
} disk_file;

static sqlite3_file *real(sqlite3_file *file)
{
    return (sqlite3_file *)((disk_file *)file)->real;
}

static int disk_close(sqlite3_file *file)
{
    return real(file)->pMethods->xClose(real(file));
}

static int disk_read(sqlite3_file *file, void *data, int size, sqlite3_int64 at)
{
    return real(file)->pMethods->xRead(real(file), data, size, at);
}

static int fails(int code)
{
    atomic_fetch_add(&disk.failed, 1);
    return code;
}

static int disk_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 at)
{
    if (((disk_file *)file)->watched && atomic_load(&disk.left) >= 0) {
        if (atomic_fetch_sub(&disk.left, size) < size) {
            atomic_store(&disk.left, 0);
            return fails(atomic_load(&disk.code));
        }
    }
    return real(file)->pMethods->xWrite(real(file), data, size, at);
}

static int disk_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    return real(file)->pMethods->xTruncate(real(file), size);
}

static int disk_sync(sqlite3_file *file, int flags)
{
    int code = ((disk_file *)file)->watched ? atomic_load(&disk.sync) : 0;
    return code ? fails(code) : real(file)->pMethods->xSync(real(file), flags);
}

static int disk_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real(file)->pMethods->xFileSize(real(file), size);
}

static int disk_lock(sqlite3_file *file, int lock)
{
    return real(file)->pMethods->xLock(real(file), lock);
}

static int disk_unlock(sqlite3_file *file, int lock)
{
    return real(file)->pMethods->xUnlock(real(file), lock);
}

static int disk_is_reserved(sqlite3_file *file, int *reserved)
{
    return real(file)->pMethods->xCheckReservedLock(real(file), reserved);
}

/* SQLite would write in advance what it says it will need. */
static int disk_control(sqlite3_file *file, int what, void *data)
{
    return what == SQLITE_FCNTL_SIZE_HINT
               ? SQLITE_OK
               : real(file)->pMethods->xFileControl(real(file), what, data);
}

static int disk_sector(sqlite3_file *file)
{
    return real(file)->pMethods->xSectorSize(real(file));
}

static int disk_traits(sqlite3_file *file)
{
    return real(file)->pMethods->xDeviceCharacteristics(real(file));
}

static int disk_map(sqlite3_file *file, int page, int size, int extend, void volatile **memory)
{
    return real(file)->pMethods->xShmMap(real(file), page, size, extend, memory);
}

static int disk_map_lock(sqlite3_file *file, int at, int count, int flags)
{
    return real(file)->pMethods->xShmLock(real(file), at, count, flags);
}

static void disk_map_barrier(sqlite3_file *file)
{
    real(file)->pMethods->xShmBarrier(real(file));
}

static int disk_unmap(sqlite3_file *file, int remove)
{
    return real(file)->pMethods->xShmUnmap(real(file), remove);
}

static const sqlite3_io_methods disk_methods = {
    .iVersion = 2,
    .xClose = disk_close,
    .xRead = disk_read,
    .xWrite = disk_write,
    .xTruncate = disk_truncate,
    .xSync = disk_sync,
    .xFileSize = disk_size,
    .xLock = disk_lock,
    .xUnlock = disk_unlock,
    .xCheckReservedLock = disk_is_reserved,
    .xFileControl = disk_control,
    .xSectorSize = disk_sector,
    .xDeviceCharacteristics = disk_traits,
    .xShmMap = disk_map,
    .xShmLock = disk_map_lock,
    .xShmBarrier = disk_map_barrier,
    .xShmUnmap = disk_unmap,
};

static int disk_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *opened)
{
    (void)vfs;
    disk_file *made = (disk_file *)file;
    int code = below->xOpen(below, name, real(file), flags, opened);
    made->watched =
        name && *disk.match && strstr(name, disk.match) && (!disk.types || flags & disk.types);
    /* A file with methods is closed, also where it could not be opened. */
    made->base.pMethods = real(file)->pMethods ? &disk_methods : NULL;
    return code;
}

static sqlite3_vfs disk_vfs;

/* From now on it is the ordinary one. */
static int disk_set_up(void **state)
{
    memset(&disk, 0, sizeof disk);
    atomic_store(&disk.left, -1);
    below = sqlite3_vfs_find(NULL);
    disk_vfs = *below;
    disk_vfs.zName = "disk";
    disk_vfs.szOsFile = (int)sizeof(disk_file) + below->szOsFile;
    disk_vfs.xOpen = disk_open;
    sqlite3_vfs_register(&disk_vfs, 1);
    return fixture_set_up(state);
}

static int disk_tear_down(void **state)
{
    int status = fixture_tear_down(state);
    sqlite3_vfs_unregister(&disk_vfs);
    sqlite3_vfs_register(below, 1);
    return status;
}

#define DISK_TEST(name) cmocka_unit_test_setup_teardown(name, disk_set_up, disk_tear_down)

/* Files with this in their paths take so many bytes more. */
static void disk_fills_up(const char *match, int left, int code)
{
    snprintf(disk.match, sizeof disk.match, "%s", match);
    atomic_store(&disk.code, code);
    atomic_store(&disk.left, left);
}

static void disk_has_room(void)
{
    atomic_store(&disk.left, -1);
    atomic_store(&disk.sync, 0);
    assert_true(atomic_exchange(&disk.failed, 0) > 0);
}

/* ---- Statements and transactions ---------------------------------------------------------- */

enum { ROWS = 200 }; /* of 400 bytes */

static pier_db *open_watched(struct fixture *f, const char *match, const char *options)
{
    char url[800];
    snprintf(disk.match, sizeof disk.match, "%s", match); /* which is looked at when it is opened */
    snprintf(url, sizeof url, "%s?%s", f->url, options);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    return db;
}

static int64_t insert_rows(pier_db *db, pier_error *err)
{
    return pier_db_execute(db,
                           ENDLESS "insert into t(name) select hex(randomblob(200)) from n "
                                   "limit $1",
                           PIER_ARGS(ROWS), err);
}

static void assert_whole(struct fixture *f, pier_db *db, int64_t rows)
{
    char answer[16] = "";
    assert_int_equal(pier_db_fetch_into(db, "pragma integrity_check", NULL,
                                        PIER_INTO(pier_into_buffer(answer, sizeof answer)),
                                        &f->err),
                     1);
    assert_ok(&f->err);
    assert_string_equal(answer, "ok");
    assert_int_equal(number_of(db, "select count(*) from t"), rows);
}

/* At each amount of room, as long as it does not suffice. */
static void insert_at_each_size(struct fixture *f, const char *match, const char *options, int code)
{
    pier_db *db = open_watched(f, match, options);
    int failures = 0;
    for (int room = 0;; room += 7001) {
        disk_fills_up(match, room, code);
        int64_t inserted = insert_rows(db, &f->err);
        if (inserted == ROWS) {
            break;
        }
        assert_int_equal(f->err.native & 0xFF, code & 0xFF);
        assert_error(&f->err, PIER_EIO, "insert into t");
        failures++;
        disk_has_room();
        assert_whole(f, db, 0);
    }
    atomic_store(&disk.left, -1);
    assert_true(failures > 2);
    assert_whole(f, db, ROWS);
    pier_db_close(db);
}

static void test_insert__into_a_full_disk_is_an_error_and_changes_nothing(void **state)
{
    insert_at_each_size(*state, "test.db", "", SQLITE_FULL);
}

static void test_insert__into_a_full_disk_with_a_log(void **state)
{
    insert_at_each_size(*state, "test.db-wal", "journal_mode=wal", SQLITE_FULL);
}

static void test_insert__into_a_disk_that_fails(void **state)
{
    insert_at_each_size(*state, "test.db", "", SQLITE_IOERR_WRITE);
}

/* What a transaction writes stays in memory until it commits. */
static void commit_at_each_size(struct fixture *f, const char *match, const char *options)
{
    pier_db *db = open_watched(f, match, options);
    int failures = 0;
    for (int room = 0;; room += 20011) {
        pier_db *tx = pier_db_begin(db, NULL, &f->err);
        assert_int_equal(insert_rows(tx, &f->err), ROWS);
        disk_fills_up(match, room, SQLITE_FULL);
        int status = pier_db_commit(tx, &f->err);
        atomic_store(&disk.left, -1);
        pier_db_close(tx);
        if (status == 0) {
            break;
        }
        assert_int_equal(f->err.native, SQLITE_FULL);
        assert_error(&f->err, PIER_EIO, "full");
        failures++;
        disk_has_room();
        assert_whole(f, db, 0);
    }
    assert_true(failures > 2);
    assert_whole(f, db, ROWS);
    pier_db_close(db);
}

static void test_commit__into_a_full_disk_is_an_error_and_rolls_back(void **state)
{
    commit_at_each_size(*state, "test.db", "");
}

static void test_commit__into_a_full_disk_with_a_log(void **state)
{
    commit_at_each_size(*state, "test.db-wal", "preset=service");
}

static void test_commit__that_cannot_be_synchronised_is_an_error(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_watched(f, "test.db", "");
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    assert_int_equal(insert_rows(tx, &f->err), ROWS);
    atomic_store(&disk.sync, SQLITE_IOERR_FSYNC);
    assert_int_equal(pier_db_commit(tx, &f->err), PIER_EIO);
    assert_int_equal(f->err.native, SQLITE_IOERR_FSYNC);
    assert_error(&f->err, PIER_EIO, NULL);
    disk_has_room();
    pier_db_close(tx);
    assert_whole(f, db, 0);
    execute(db, "insert into t values (1, 'after')", NULL);
    pier_db_close(db);
}

/* The asynchronous face, in which the lane does the work. */
static void test_commit__into_a_full_disk_asynchronously(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_watched(f, "test.db", "");
    pier_db *tx = pier_db_begin_finish(pier_db_begin_async(db, NULL), &f->err);
    assert_int_equal(insert_rows(tx, &f->err), ROWS);
    disk_fills_up("test.db", 0, SQLITE_FULL);
    assert_int_equal(pier_db_commit_finish(pier_db_commit_async(tx), &f->err), PIER_EIO);
    assert_error(&f->err, PIER_EIO, "full");
    disk_has_room();
    pier_db_close(tx);
    assert_whole(f, db, 0);
    pier_db_close(db);
}

/* ---- Checkpoints -------------------------------------------------------------------------- */

static void test_checkpoint__into_a_full_disk_loses_nothing(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_watched(f, "test.db", "preset=service&wal_autocheckpoint=0");
    assert_int_equal(insert_rows(db, &f->err), ROWS);
    disk_fills_up("test.db", 10000, SQLITE_FULL);
    assert_null(pier_sqlite_checkpoint(db, PIER_SQLITE_TRUNCATE, &f->err));
    assert_int_equal(f->err.native, SQLITE_FULL);
    assert_error(&f->err, PIER_EIO, "full");
    assert_int_equal(number_of(db, "select count(*) from t"), ROWS); /* by a reader */
    disk_has_room();
    pier_result *result = pier_sqlite_checkpoint(db, PIER_SQLITE_TRUNCATE, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_row_int64(pier_result_row(result, 0), 0), 0);
    pier_result_free(result);
    assert_whole(f, db, ROWS);
    pier_db_close(db);
}

/* The checkpoint that a commit starts may fail; what it has committed is in the log. */
static void test_commit__succeeds_where_only_its_checkpoint_fails(void **state)
{
    struct fixture *f = *state;
    disk.types = SQLITE_OPEN_MAIN_DB;
    pier_db *db = open_watched(f, "test.db", "journal_mode=wal&wal_autocheckpoint=1");
    disk_fills_up("test.db", 10000, SQLITE_FULL);
    assert_int_equal(insert_rows(db, &f->err), ROWS);
    assert_ok(&f->err);
    disk_has_room();
    assert_whole(f, db, ROWS);
    pier_db_close(db);
}

/* ---- Copies ------------------------------------------------------------------------------- */

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

static void copy_at_each_size(struct fixture *f, const char *match,
                              int64_t (*copy)(struct fixture *f, const char *path))
{
    char path[600];
    int failures = 0;
    assert_int_equal(insert_rows(f->db, &f->err), ROWS);
    snprintf(path, sizeof path, "%s/copy.db", f->directory);
    for (int room = 0;; room += 30011) {
        disk_fills_up(match, room, SQLITE_FULL);
        int64_t status = copy(f, path);
        atomic_store(&disk.left, -1);
        if (status >= 0) {
            break;
        }
        assert_int_equal(f->err.native, SQLITE_FULL);
        assert_error(&f->err, PIER_EIO, "full");
        failures++;
        disk_has_room();
        assert_int_equal(files(f, "copy.db"), 0);
        assert_whole(f, f->db, ROWS);
    }
    assert_true(failures > 2);
    assert_int_equal(files(f, "copy.db"), 1);
    char url[700];
    snprintf(url, sizeof url, "sqlite:%s", path);
    pier_db *made = pier_db_open(f->runner, url, NULL, &f->err);
    assert_whole(f, made, ROWS);
    pier_db_close(made);
}

static int64_t back_up(struct fixture *f, const char *path)
{
    return pier_sqlite_backup(f->db, path, PIER_SQLITE_BACKUP_OPTIONS(.pages = 5), &f->err);
}

static void test_backup__into_a_full_disk_leaves_nothing(void **state)
{
    copy_at_each_size(*state, "copy.db", back_up);
}

static int64_t vacuum(struct fixture *f, const char *path)
{
    return pier_sqlite_vacuum_into(f->db, path, &f->err);
}

static void test_vacuum_into__a_full_disk_leaves_nothing(void **state)
{
    copy_at_each_size(*state, "copy.db", vacuum);
}

static void test_restore__onto_a_full_disk_changes_nothing(void **state)
{
    struct fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/copy.db", f->directory);
    assert_int_equal(insert_rows(f->db, &f->err), ROWS);
    assert_true(back_up(f, path) > 0);
    execute(f->db, "delete from t", NULL);
    execute(f->db, "insert into t values (1, 'kept')", NULL);
    execute(f->db, "vacuum", NULL);
    pier_db *db = open_watched(f, "test.db", "");
    disk_fills_up("test.db", 40000, SQLITE_FULL);
    assert_true(pier_sqlite_restore(db, path, NULL, &f->err) < 0);
    assert_int_equal(f->err.native, SQLITE_FULL);
    assert_error(&f->err, PIER_EIO, "full");
    disk_has_room();
    assert_whole(f, db, 1);
    assert_true(pier_sqlite_restore(db, path, NULL, &f->err) > 0);
    assert_whole(f, db, ROWS);
    pier_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        DISK_TEST(test_insert__into_a_full_disk_is_an_error_and_changes_nothing),
        DISK_TEST(test_insert__into_a_full_disk_with_a_log),
        DISK_TEST(test_insert__into_a_disk_that_fails),
        DISK_TEST(test_commit__into_a_full_disk_is_an_error_and_rolls_back),
        DISK_TEST(test_commit__into_a_full_disk_with_a_log),
        DISK_TEST(test_commit__that_cannot_be_synchronised_is_an_error),
        DISK_TEST(test_commit__into_a_full_disk_asynchronously),
        DISK_TEST(test_checkpoint__into_a_full_disk_loses_nothing),
        DISK_TEST(test_commit__succeeds_where_only_its_checkpoint_fails),
        DISK_TEST(test_backup__into_a_full_disk_leaves_nothing),
        DISK_TEST(test_vacuum_into__a_full_disk_leaves_nothing),
        DISK_TEST(test_restore__onto_a_full_disk_changes_nothing),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
