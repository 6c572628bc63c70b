/* Incremental I/O on blobs. */
#include "tests/integration/sqlite_fixture.h"

#include "tests/support/valgrind.h"
#include <sys/resource.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { LARGE_MIB = 16 };
#else
/* 0.999 GB: with its record it just fits what SQLite holds in one row, 1,000,000,000 bytes. */
enum { LARGE_MIB = 953 };
#endif
enum { MIB = 1024 * 1024 };

static void make_blob(struct fixture *f, int64_t rowid, int64_t size)
{
    execute(f->db, "create table if not exists b(id integer primary key, data)", NULL);
    execute(f->db, "insert or replace into b values ($1, zeroblob($2))", PIER_ARGS(rowid, size));
}

static void test_blob__is_written_and_read_in_pieces(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 10);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(f->db, "b", "data", 1, true, &f->err);
    assert_ok(&f->err);
    assert_int_equal(pier_sqlite_blob_size(blob), 10);
    assert_int_equal(pier_sqlite_blob_write_at(blob, 0, "hello", 5, &f->err), 0);
    assert_int_equal(pier_sqlite_blob_write_at(blob, 5, "world", 5, &f->err), 0);
    pier_buffer *piece = pier_sqlite_blob_read_at(blob, 3, 4, &f->err);
    assert_memory_equal(piece->data, "lowo", 4);
    assert_int_equal(piece->size, 4);
    pier_buffer *last = pier_sqlite_blob_read_at(blob, 8, 100, &f->err);
    assert_int_equal(last->size, 2);
    pier_buffer *beyond = pier_sqlite_blob_read_at(blob, 10, 100, &f->err);
    assert_int_equal(beyond->size, 0);
    pier_buffer_free(piece);
    pier_buffer_free(last);
    pier_buffer_free(beyond);
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    assert_int_equal(number_of(f->db, "select data = X'68656c6c6f776f726c64' from b"), 1);
}

static void test_blob__asynchronously(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_sqlite_blob *blob = pier_sqlite_blob_open_finish(
        pier_sqlite_blob_open_async(f->db, "b", "data", 1, true), &f->err);
    assert_ok(&f->err);
    char data[] = "abcd";
    pier_future *write = pier_sqlite_blob_write_at_async(blob, 0, data, 4);
    memset(data, 'x', 4); /* copied */
    assert_int_equal(pier_sqlite_blob_write_at_finish(write, &f->err), 0);
    pier_future *read = pier_sqlite_blob_read_at_async(blob, 0, 4);
    pier_buffer *piece = pier_sqlite_blob_read_at_finish(read, &f->err);
    assert_memory_equal(piece->data, "abcd", 4);
    pier_buffer_free(piece);
    assert_int_equal(pier_sqlite_blob_close_finish(pier_sqlite_blob_close_async(blob), &f->err), 0);
}

static void test_blob__cannot_grow(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(f->db, "b", "data", 1, true, &f->err);
    assert_true(pier_sqlite_blob_write_at(blob, 2, "abc", 3, &f->err) < 0);
    assert_error(&f->err, PIER_ERANGE, "cannot grow");
    assert_true(pier_sqlite_blob_write_at(blob, INT64_MAX, "abc", 3, &f->err) < 0);
    assert_error(&f->err, PIER_ERANGE, "cannot grow");
    assert_true(pier_sqlite_blob_write_at(blob, -1, "abc", 3, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "negative");
    assert_null(pier_sqlite_blob_read_at(blob, -1, 3, &f->err));
    assert_error(&f->err, PIER_EINVAL, "negative");
    assert_int_equal(pier_sqlite_blob_write_at(blob, 1, "abc", 3, &f->err), 0);
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
}

static void test_open__says_what_is_missing(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    execute(f->db, "insert into b values (2, 17), (3, null)", NULL);
    assert_null(pier_sqlite_blob_open(f->db, "nothing", "data", 1, false, &f->err));
    assert_error(&f->err, PIER_ESQL, "no such table: main.nothing");
    assert_null(pier_sqlite_blob_open(f->db, "b", "x\"; drop table b; --", 1, false, &f->err));
    assert_error(&f->err, PIER_ESQL, "no such column");
    assert_null(pier_sqlite_blob_open(f->db, "b", "data", 99, false, &f->err));
    assert_error(&f->err, PIER_ESQL, "no such rowid: 99");
    assert_null(pier_sqlite_blob_open(f->db, "b", "data", 2, false, &f->err));
    assert_error(&f->err, PIER_ESQL, "cannot open value of type integer");
    assert_null(pier_sqlite_blob_open(f->db, "b", "data", 3, false, &f->err));
    assert_error(&f->err, PIER_ESQL, "cannot open value of type null");
    assert_null(pier_sqlite_blob_open(f->db, NULL, "data", 3, false, &f->err));
    assert_error(&f->err, PIER_EINVAL, "table is NULL");
    assert_int_equal(number_of(f->db, "select count(*) from b"), 3);
}

static void test_open__for_reading_cannot_write(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(f->db, "b", "data", 1, false, &f->err);
    assert_true(pier_sqlite_blob_write_at(blob, 0, "a", 1, &f->err) < 0);
    assert_error(&f->err, PIER_ESQL, "opened for reading");
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
}

static void test_blob__on_the_pool_keeps_its_connection(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(f->db, "b", "data", 1, false, &f->err);
    assert_true(pier_db_execute(f->db, "select 1", NULL, &f->err) < 0);
    assert_error(&f->err, PIER_EDEADLOCK, "blob");
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    assert_int_equal(number_of(f->db, "select 7"), 7);
}

static void test_blob__whose_row_changed_has_expired_until_it_is_reopened(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    make_blob(f, 2, 6);
    pier_db *lease = pier_db_lease(f->db, &f->err);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(lease, "b", "data", 1, false, &f->err);
    execute(lease, "update b set data = 'other' where id = 1", NULL);
    assert_null(pier_sqlite_blob_read_at(blob, 0, 4, &f->err));
    assert_int_equal(f->err.native, SQLITE_ABORT);
    assert_error(&f->err, PIER_ESQL, "expired");
    assert_int_equal(pier_sqlite_blob_reopen(blob, 2, &f->err), 0);
    assert_int_equal(pier_sqlite_blob_size(blob), 6);
    assert_true(pier_sqlite_blob_reopen(blob, 99, &f->err) < 0);
    assert_error(&f->err, PIER_ESQL, "no such rowid: 99");
    assert_int_equal(pier_sqlite_blob_size(blob), 0);
    assert_int_equal(pier_sqlite_blob_reopen(blob, 1, &f->err), 0);
    pier_buffer *piece = pier_sqlite_blob_read_at(blob, 0, 5, &f->err);
    assert_memory_equal(piece->data, "other", 5);
    pier_buffer_free(piece);
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    pier_db_close(lease);
}

static void test_blob__in_a_transaction_is_rolled_back_with_it(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(tx, "b", "data", 1, true, &f->err);
    assert_int_equal(pier_sqlite_blob_write_at(blob, 0, "abcd", 4, &f->err), 0);
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select data = zeroblob(4) from b"), 1);
}

static void test_blob__outlives_its_transaction_harmlessly(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(tx, "b", "data", 1, true, &f->err);
    assert_int_equal(pier_sqlite_blob_write_at(blob, 0, "abcd", 4, &f->err), 0);
    pier_db_close(tx);
    assert_true(pier_sqlite_blob_write_at(blob, 0, "abcd", 4, &f->err) < 0);
    assert_error(&f->err, PIER_EINVAL, "has ended");
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    assert_int_equal(number_of(f->db, "select data = zeroblob(4) from b"), 1);
}

static void test_blob__left_open_is_closed_with_the_runner(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(f->db, "b", "data", 1, true, &f->err);
    assert_int_equal(pier_sqlite_blob_write_at(blob, 0, "abcd", 4, &f->err), 0);
    pier_db_close(f->db);
    pier_runner_close(f->runner);
    f->db = NULL;
    f->runner = NULL;
    sqlite3 *outside = NULL;
    assert_int_equal(sqlite3_open(f->path, &outside), SQLITE_OK);
    assert_int_equal(sqlite3_exec(outside, "begin exclusive", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(outside);
}

static void test_blob__that_nobody_took_gives_its_connection_back(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, 4);
    pier_future *future = pier_sqlite_blob_open_async(f->db, "b", "data", 1, true);
    assert_int_equal(pier_future_wait(future, BOUND_MS, &f->err), 1);
    pier_future_free(future);
    assert_int_equal(number_of(f->db, "select count(*) from b"), 1);
}

static long resident_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

static void test_blob__of_any_size_is_streamed_in_flat_memory(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, (int64_t)LARGE_MIB * MIB);
    char *chunk = malloc(MIB);
    long before = resident_kib();
    pier_sqlite_blob *blob = pier_sqlite_blob_open(f->db, "b", "data", 1, true, &f->err);
    assert_ok(&f->err);
    for (int i = 0; i < LARGE_MIB; i++) {
        memset(chunk, 'a' + i % 26, MIB);
        assert_int_equal(pier_sqlite_blob_write_at(blob, (int64_t)i * MIB, chunk, MIB, &f->err), 0);
    }
    int64_t total = 0;
    size_t size;
    for (const char *data; (data = pier_sqlite_blob_next(blob, &size)); total += (int64_t)size) {
        assert_int_equal(data[0], 'a' + total / MIB % 26);
        assert_int_equal(data[size - 1], 'a' + (total + (int64_t)size - 1) / MIB % 26);
    }
    assert_int_equal(total, (int64_t)LARGE_MIB * MIB);
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    free(chunk);
#if !defined(__SANITIZE_ADDRESS__) /* which keeps what was freed */
    /* So does valgrind, but no more than 20 MB of it, beside its shadow memory. */
    long growth_max = (support_on_valgrind() ? 96 : 12) * 1024;
    assert_true(resident_kib() - before < growth_max);
#else
    (void)before;
#endif
}

static void test_next__reports_at_close_what_failed(void **state)
{
    struct fixture *f = *state;
    make_blob(f, 1, MIB);
    pier_db *lease = pier_db_lease(f->db, &f->err);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(lease, "b", "data", 1, false, &f->err);
    size_t size;
    assert_non_null(pier_sqlite_blob_next(blob, &size));
    execute(lease, "delete from b", NULL);
    assert_null(pier_sqlite_blob_next(blob, &size));
    assert_null(pier_sqlite_blob_next(blob, &size));
    assert_int_equal(size, 0);
    assert_true(pier_sqlite_blob_close(blob, &f->err) < 0);
    assert_error(&f->err, PIER_ESQL, "expired");
    pier_db_close(lease);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_blob__is_written_and_read_in_pieces),
        TEST(test_blob__asynchronously),
        TEST(test_blob__cannot_grow),
        TEST(test_open__says_what_is_missing),
        TEST(test_open__for_reading_cannot_write),
        TEST(test_blob__on_the_pool_keeps_its_connection),
        TEST(test_blob__whose_row_changed_has_expired_until_it_is_reopened),
        TEST(test_blob__in_a_transaction_is_rolled_back_with_it),
        TEST(test_blob__outlives_its_transaction_harmlessly),
        TEST(test_blob__left_open_is_closed_with_the_runner),
        TEST(test_blob__that_nobody_took_gives_its_connection_back),
        TEST(test_blob__of_any_size_is_streamed_in_flat_memory),
        TEST(test_next__reports_at_close_what_failed),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
