/* SQLite with readers beside the writer: who goes where, snapshots, bounds, checkpoints, figures.
 */
#include "tests/integration/sqlite_memory.h"

#include "drivers/sqlite/setup.h"
#include "sdk/op.h"

#include <sys/stat.h>
#include <unistd.h>

/* ---- Helpers ------------------------------------------------------------------------------ */

static pier_db *open_with(struct fixture *f, const char *options)
{
    char url[800];
    snprintf(url, sizeof url, "%s?%s", f->url, options);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    return db;
}

static int do_nothing(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

struct waiting {
    pier_db *db;
    int count;
};

static bool are_waiting(void *user_data)
{
    struct waiting *waiting = user_data;
    pier_pool_stats stats = {0};
    pier_db_stats(waiting->db, &stats);
    return stats.waiting == waiting->count;
}

/* Until so many wait for a connection. */
static void await_waiting(pier_db *db, int count)
{
    struct waiting waiting = {.db = db, .count = count};
    assert_true(support_wait_until(are_waiting, &waiting, BOUND_MS));
}

static pier_db *begin_read(pier_db *db)
{
    pier_error err = {0};
    pier_db *tx = pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), &err);
    assert_ok(&err);
    return tx;
}

static void assert_text(pier_db *db, const char *sql, const char *expected)
{
    pier_error err = {0};
    char text[64] = "";
    assert_int_equal(
        pier_db_fetch_into(db, sql, NULL, PIER_INTO(pier_into_buffer(text, sizeof text)), &err), 1);
    assert_ok(&err);
    assert_string_equal(text, expected);
}

/* Lets so many milliseconds pass. */
static void wait_ms(int64_t ms)
{
    int64_t until = support_now_ms() + ms;
    while (support_now_ms() <= until) {
        usleep(200);
    }
}

static int64_t log_size(struct fixture *f)
{
    char path[600];
    struct stat info;
    snprintf(path, sizeof path, "%s-wal", f->path);
    return stat(path, &info) ? -1 : (int64_t)info.st_size;
}

static void assert_checkpoint(pier_db *db, int mode, int64_t busy, int64_t log, int64_t done)
{
    pier_error err = {0};
    pier_result *result = pier_sqlite_checkpoint(db, mode, &err);
    assert_ok(&err);
    const pier_row *row = pier_result_row(result, 0);
    assert_int_equal(pier_result_column(result, "checkpointed"), 2);
    assert_int_equal(pier_row_int64(row, 0), busy);
    assert_int_equal(pier_row_int64(row, 1), log);
    assert_int_equal(pier_row_int64(row, 2), done);
    pier_result_free(result);
}

/* ---- What the URL sets -------------------------------------------------------------------- */

static void test_open__without_options_changes_no_setting(void **state)
{
    struct fixture *f = *state;
    assert_text(f->db, "pragma journal_mode", "delete");
    assert_int_equal(number_of(f->db, "pragma synchronous"), 2);
    assert_int_equal(number_of(f->db, "pragma foreign_keys"), 0);
    pier_db_fetch(f->db, "select load_extension('none')", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "not authorized");
}

static void test_open__the_service_preset_does_what_it_says(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service");
    assert_text(db, "pragma journal_mode", "wal");
    assert_int_equal(number_of(db, "pragma synchronous"), 1);
    assert_int_equal(number_of(db, "pragma foreign_keys"), 1);
    assert_int_equal(number_of(db, "pragma journal_size_limit"), 67108864);
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    assert_int_equal(stats.max, 6);
    pier_db_close(db);
    pier_db_close(f->db);
    f->db = pier_db_open(f->runner, f->url, NULL, &f->err);
    assert_text(f->db, "pragma journal_mode", "wal"); /* that stays; the others do not */
    assert_int_equal(number_of(f->db, "pragma synchronous"), 2);
}

static void test_open__sets_each_option_on_the_connection(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "wal_autocheckpoint=77&synchronous=off&foreign_keys=on&"
                               "journal_size_limit=1234&statement_cache=0&extensions=on");
    assert_int_equal(number_of(db, "pragma wal_autocheckpoint"), 77);
    assert_int_equal(number_of(db, "pragma synchronous"), 0);
    assert_int_equal(number_of(db, "pragma foreign_keys"), 1);
    assert_int_equal(number_of(db, "pragma journal_size_limit"), 1234);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(number_of(db, "select 1"), 1);
    }
    pier_db_fetch(db, "select load_extension('/nowhere/x')", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "/nowhere/x");
    pier_db_close(db);
}

static void test_open__an_immutable_file_takes_no_lock_whatever_its_name(void **state)
{
    struct fixture *f = *state;
    char from[600], url[700];
    snprintf(from, sizeof from, "%s/100%%#1.db", f->directory);
    pier_db_close(f->db);
    f->db = NULL;
    assert_int_equal(rename(f->path, from), 0);
    sqlite3 *outside;
    assert_int_equal(sqlite3_open(from, &outside), SQLITE_OK);
    assert_int_equal(sqlite3_exec(outside, "begin exclusive", NULL, NULL, NULL), SQLITE_OK);
    snprintf(url, sizeof url, "sqlite:%s?mode=ro&immutable=1&busy_timeout_ms=0", from);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    assert_ok(&f->err);
    pier_db_close(db);
    sqlite3_close(outside);
}

static char logged[512];

static void on_log(pier_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    if (level == PIER_LOG_WARNING && strstr(message, "WAL-reset")) {
        snprintf(logged, sizeof logged, "%s", message);
    }
}

static void test_open__warns_of_a_library_with_the_wal_reset_bug(void **state)
{
    struct fixture *f = *state;
    logged[0] = '\0';
    pier_log_set(on_log, PIER_LOG_WARNING, NULL);
    pier_db_close(open_with(f, "preset=service"));
    pier_log_set(NULL, PIER_LOG_ERROR, NULL);
    if (pier__sqlite_has_wal_reset_bug(sqlite3_libversion_number())) {
        assert_non_null(strstr(logged, sqlite3_libversion()));
    } else {
        assert_string_equal(logged, "");
    }
}

static void test_open__readers_need_a_log(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "%s?readers=2", f->url);
    assert_null(pier_db_open(f->runner, url, NULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, "add journal_mode=wal");
    assert_null(pier_db_open(f->runner, "sqlite::memory:?readers=2", NULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, "would see a database of its own");
}

static void test_open__waits_for_a_lock_before_it_changes_the_journal(void **state)
{
    struct fixture *f = *state;
    sqlite3 *outside;
    char url[700];
    assert_int_equal(sqlite3_open(f->path, &outside), SQLITE_OK);
    assert_int_equal(sqlite3_exec(outside, "begin immediate", NULL, NULL, NULL), SQLITE_OK);
    snprintf(url, sizeof url, "%s?preset=service&busy_timeout_ms=30", f->url);
    assert_null(pier_db_open(f->runner, url, NULL, &f->err));
    assert_error(&f->err, PIER_EBUSY, "locked");
    snprintf(url, sizeof url, "%s?preset=service", f->url);
    pier_future *opening = pier_db_open_async(f->runner, url, NULL);
    assert_int_equal(pier_future_wait(opening, 50, &f->err), 0);
    sqlite3_close(outside);
    pier_db *db = pier_db_open_finish(opening, &f->err);
    assert_ok(&f->err);
    pier_db_close(db);
}

/* SQLite itself does not wait when it leaves the log while somebody else has it open. */
static void test_open__waits_for_a_lock_before_it_leaves_the_log(void **state)
{
    struct fixture *f = *state;
    sqlite3 *outside;
    char url[700];
    pier_db_close(f->db);
    assert_int_equal(sqlite3_open(f->path, &outside), SQLITE_OK);
    assert_int_equal(sqlite3_exec(outside,
                                  "pragma journal_mode = wal; select * from t; begin; "
                                  "select * from t",
                                  NULL, NULL, NULL),
                     SQLITE_OK);
    snprintf(url, sizeof url, "%s?journal_mode=delete&busy_timeout_ms=30", f->url);
    assert_null(pier_db_open(f->runner, url, NULL, &f->err));
    assert_error(&f->err, PIER_EBUSY, "locked");
    snprintf(url, sizeof url, "%s?journal_mode=delete&busy_timeout_ms=%d", f->url, BOUND_MS);
    pier_future *opening = pier_db_open_async(f->runner, url, NULL);
    assert_int_equal(pier_future_wait(opening, 50, &f->err), 0);
    sqlite3_close(outside);
    f->db = pier_db_open_finish(opening, &f->err);
    assert_ok(&f->err);
    assert_text(f->db, "pragma journal_mode", "delete");
}

static void test_open__read_only_has_readers_too(void **state)
{
    struct fixture *f = *state;
    pier_db_close(open_with(f, "journal_mode=wal"));
    pier_db *db = open_with(f, "mode=ro&readers=2");
    pier_db *tx = begin_read(db);
    assert_int_equal(number_of(tx, "select count(*) from t"), 0);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    pier_db_execute(db, "insert into t values (1, 'a')", NULL, &f->err);
    assert_error(&f->err, PIER_EIO, "readonly");
    pier_db_close(tx);
    pier_db_close(db);
}

/* ---- Who goes where ----------------------------------------------------------------------- */

static void test_readers__read_beside_a_transaction_that_writes(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1");
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    assert_int_equal(number_of(tx, "select count(*) from t"), 1);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    assert_int_equal(number_of(db, "select count(*) from t"), 1);
    pier_db_close(tx);
    pier_db_close(db);
}

static void test_readers__a_statement_that_writes_after_all_moves_to_the_writer(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1");
    for (int i = 0; i < 3; i++) { /* also when the reader has it in its cache */
        assert_int_equal(execute(db,
                                 "with a(x) as (values ($1)) insert into t(name) select x from a",
                                 PIER_ARGS("a")),
                         1);
    }
    pier_cursor *cursor = pier_db_cursor(
        db, "with a(x) as (values (7), (8), (9)) insert into t(id) select x from a returning id",
        NULL, &f->err);
    int64_t sum = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        sum += pier_row_int64(row, 0);
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(sum, 24);
    pier_future *future = pier_db_execute_async(
        db, "with a(x) as (values (10)) insert into t(id) select x from a", NULL);
    assert_int_equal(pier_db_execute_finish(future, &f->err), 1);
    assert_int_equal(number_of(db, "select count(*) from t"), 7);
    pier_db_close(db);
}

static void test_readers__what_only_the_writer_knows_is_found_there(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1");
    execute(db, "create temp table mine(x)", NULL);
    execute(db, "insert into mine values (5)", NULL);
    assert_int_equal(number_of(db, "select x from mine"), 5);
    pier_db_fetch(db, "select x from nowhere", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "no such table: nowhere");
    pier_db_fetch(db, "select 1; select 2", NULL, &f->err);
    assert_error(&f->err, PIER_EINVAL, "second statement");
    pier_db_close(db);
}

static void
test_readers__a_statement_that_moves_waits_for_the_writer_and_can_be_cancelled(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1");
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    static const char insert[] = "with a(x) as (values (1)) insert into t(id) select x from a";
    pier_db_execute(db, insert, NULL, &f->err);
    assert_error(&f->err, PIER_EDEADLOCK, "a transaction");
    pier_future *future = pier_db_execute_async(db, insert, NULL);
    await_waiting(db, 1);
    pier_future_cancel(future);
    assert_int_equal(pier_db_execute_finish(future, &f->err), PIER_ECANCELLED);
    assert_error(&f->err, PIER_ECANCELLED, NULL);
    pier_db_close(tx);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    pier_db_close(db);
}

/* On its way from the reader to the writer it waits behind others, and is woken for nothing. */
static void test_readers__a_statement_that_moves_has_nothing_more_of_the_reader(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1");
    execute(db, ENDLESS "insert into t(id) select i from n limit 1000", NULL);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    pier_future *first = pier_db_execute_async(db, "delete from t where id = 1", NULL);
    pier_future *moved = pier_db_execute_async(
        db, "with a(x) as (values (1)) delete from t where id in (select x + 1 from a)", NULL);
    await_waiting(db, 2);
    pier_cursor *cursor = pier_db_cursor(db, "select id from t", NULL, &f->err);
    assert_non_null(pier_cursor_next(cursor)); /* it has the reader now */
    pier_pool_stats stats = {0};
    pier_db_stats(db, &stats);
    int64_t acquires = stats.acquires;
    for (int i = 0; i < 3; i++) {
        pier__op_wake(moved);
        assert_int_equal(pier_task_run(f->runner, do_nothing, NULL, &f->err), 0);
    }
    pier_db_stats(db, &stats);
    assert_int_equal(stats.acquires, acquires);
    assert_int_equal(stats.waiting, 2);
    assert_int_equal(stats.idle, 0);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(pier_db_execute_finish(first, &f->err), 1);
    assert_int_equal(pier_db_execute_finish(moved, &f->err), 1);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    pier_db_close(db);
}

static void test_readers__a_cursor_keeps_one_while_others_write(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1");
    execute(db, ENDLESS "insert into t(id) select i from n limit 1000", NULL);
    pier_cursor *cursor = pier_db_cursor(db, "select id from t", NULL, &f->err);
    assert_int_equal(pier_row_int64(pier_cursor_next(cursor), 0), 1);
    execute(db, "delete from t", NULL);
    pier_db_fetch(db, "select 1", NULL, &f->err);
    assert_error(&f->err, PIER_EDEADLOCK, "a cursor");
    pier_future *later = pier_db_fetch_async(db, "select count(*) from t", NULL);
    int64_t rows = 1;
    while (pier_cursor_next(cursor)) {
        rows++;
    }
    assert_int_equal(rows, 1000);
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    pier_result *result = pier_db_fetch_finish(later, &f->err);
    assert_int_equal(pier_row_int64(pier_result_row(result, 0), 0), 0);
    pier_result_free(result);
    pier_db_close(db);
}

static void test_writer__serves_in_the_order_of_asking(void **state)
{
    struct fixture *f = *state;
    enum { COUNT = 50 };
    pier_future *futures[COUNT];
    pier_db *db = open_with(f, "preset=service");
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = pier_db_execute_async(db, "insert into t(name) values ($1)", PIER_ARGS(i));
    }
    pier_db_close(tx);
    for (int i = 0; i < COUNT; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &f->err), 1);
    }
    assert_int_equal(number_of(db, "select count(*) from t where id - 1 = name"), COUNT);
    pier_db_close(db);
}

/* ---- Transactions that read ---------------------------------------------------------------- */

static void test_read_tx__sees_the_state_of_its_beginning(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=2");
    pier_db *tx = begin_read(db);
    execute(db, "insert into t values (1, 'a')", NULL);
    assert_int_equal(number_of(tx, "select count(*) from t"), 0);
    pier_db *inner = pier_db_begin(tx, NULL, &f->err);
    assert_int_equal(number_of(inner, "select count(*) from t"), 0);
    pier_db_close(inner);
    assert_int_equal(number_of(db, "select count(*) from t"), 1);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    pier_db_close(db);
}

static void test_read_tx__refuses_to_write_with_readers_and_without(void **state)
{
    struct fixture *f = *state;
    pier_db *service = open_with(f, "preset=service");
    pier_db *dbs[] = {f->db, service};
    for (int i = 0; i < 2; i++) {
        pier_db *tx = begin_read(dbs[i]);
        pier_db_execute(tx, "insert into t values (1, 'a')", NULL, &f->err);
        assert_error(&f->err, PIER_ESQL, "the transaction is read-only");
        pier_db_close(tx);
        tx = begin_read(dbs[i]);
        pier_db_execute_script(tx, "select 1; delete from t", &f->err);
        assert_error(&f->err, PIER_ESQL, "the transaction is read-only");
        pier_db_close(tx);
    }
    pier_db_close(service);
}

static void test_read_tx__that_is_too_old_is_interrupted(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=1&read_tx_max_ms=30");
    pier_db_fetch(db, ENDLESS "select count(*) from n", NULL, &f->err);
    assert_error(&f->err, PIER_ETIMEDOUT, "read_tx_max_ms");
    pier_db *tx = begin_read(db);
    pier_db_fetch(tx, ENDLESS "select count(*) from n", NULL, &f->err);
    assert_error(&f->err, PIER_ETIMEDOUT, "has been rolled back");
    execute(db, "insert into t values (1, 'a')", NULL);
    assert_checkpoint(db, PIER_SQLITE_TRUNCATE, 0, 0, 0); /* nobody is in the way */
    pier_db_close(tx);
    assert_int_equal(number_of(db, "select count(*) from t"), 1);
    pier_db_close(db);
}

static void test_read_tx__that_is_too_old_runs_nothing_more(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=2&read_tx_max_ms=5");
    execute(db, ENDLESS "insert into t(id) select i from n limit 1000", NULL);
    pier_db *tx = begin_read(db);
    pier_cursor *cursor = pier_db_cursor(db, "select id from t", NULL, &f->err);
    pier_cursor_next(cursor);
    wait_ms(10);
    pier_db_fetch(tx, "select 1", NULL, &f->err);
    assert_error(&f->err, PIER_ETIMEDOUT, "read_tx_max_ms");
    while (pier_cursor_next(cursor)) {
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), PIER_ETIMEDOUT);
    assert_error(&f->err, PIER_ETIMEDOUT, "read_tx_max_ms");
    pier_db_close(tx);
    tx = begin_read(db);
    wait_ms(10);
    assert_int_equal(pier_db_commit(tx, &f->err), 0); /* to end it is never too late */
    pier_db_close(tx);
    assert_int_equal(number_of(db, "select count(*) from t"), 1000);
    pier_db_close(db);
}

static void test_read_tx__that_is_too_old_and_idle_is_ended_by_the_next_write(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=2&read_tx_max_ms=100");
    execute(db, ENDLESS "insert into t(id) select i from n limit 1000", NULL);
    pier_db *tx = begin_read(db);
    pier_cursor *cursor = pier_db_cursor(db, "select id from t", NULL, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    execute(db, "delete from t", NULL);
    /* It waits for the two, which nobody uses, until they are too old. */
    assert_checkpoint(db, PIER_SQLITE_TRUNCATE, 0, 0, 0);
    assert_int_equal(pier_db_commit(tx, &f->err), PIER_ETIMEDOUT);
    assert_error(&f->err, PIER_ETIMEDOUT, "read_tx_max_ms");
    pier_db_close(tx);
    while (pier_cursor_next(cursor)) {
    }
    assert_int_equal(pier_cursor_close(cursor, &f->err), PIER_ETIMEDOUT);
    assert_error(&f->err, PIER_ETIMEDOUT, "read_tx_max_ms");
    tx = begin_read(db); /* the readers are as good as new */
    assert_int_equal(number_of(tx, "select count(*) from t"), 0);
    assert_int_equal(number_of(db, "select count(*) from t"), 0);
    pier_db_close(tx);
    pier_db_close(db);
}

static bool is_done(void *future)
{
    return pier_future_done(future);
}

/* A cursor whose next block cannot even begin gives its reader back with all that is open on it. */
static void test_reader__that_was_given_back_is_as_young_as_new(void **state)
{
    struct fixture *f = *state;
    enum { AGE_MS = 30 };
    pier_db *db = open_with(f, "preset=service&readers=1&read_tx_max_ms=30");
    execute(db, ENDLESS "insert into t(id) select i from n limit 1000", NULL);
    int n = 0;
    do {
        pier_cursor *cursor = pier_db_cursor(db, "select id from t", NULL, &f->err);
        assert_non_null(pier_cursor_next(cursor));
        begin_failing(++n);
        pier_future *block = pier_cursor_block_async(cursor);
        assert_true(support_wait_until(is_done, block, BOUND_MS)); /* without an allocation */
        end_failing();
        pier_result_free(pier_cursor_block_finish(block, NULL));
        wait_ms(AGE_MS);
        (void)!pier_cursor_close(cursor, NULL);
        assert_int_equal(number_of(db, "select count(*) from t"), 1000);
    } while (atomic_load(&failed) && n < 100);
    assert_in_range(n, 3, 99);
    pier_db_close(db);
}

/* It keeps its reader, but each look at it is as young as a statement. */
static void test_reader__of_a_blob_never_becomes_too_old(void **state)
{
    struct fixture *f = *state;
    enum { AGE_MS = 100 };
    pier_db *db = open_with(f, "preset=service&readers=1&read_tx_max_ms=100");
    execute(db, "insert into t values (1, 'abc')", NULL);
    pier_sqlite_blob *blob = pier_sqlite_blob_open(db, "t", "name", 1, false, &f->err);
    assert_ok(&f->err);
    for (int i = 0; i < 2; i++) {
        wait_ms(AGE_MS);
        execute(db, "insert into t(name) values ('beside')", NULL); /* looks for what is too old */
        pier_buffer *all = pier_sqlite_blob_read_at(blob, 0, 10, &f->err);
        assert_ok(&f->err);
        assert_int_equal(all->size, 3);
        pier_buffer_free(all);
    }
    assert_int_equal(pier_sqlite_blob_close(blob, &f->err), 0);
    pier_db_close(db);
}

/* ---- Checkpoints -------------------------------------------------------------------------- */

static void test_checkpoint__moves_the_log_into_the_file(void **state)
{
    struct fixture *f = *state;
    assert_checkpoint(f->db, PIER_SQLITE_PASSIVE, 0, -1, -1);
    pier_db *db = open_with(f, "preset=service");
    execute(db, "insert into t values (1, 'a')", NULL);
    assert_checkpoint(db, PIER_SQLITE_PASSIVE, 0, 1, 1);
    assert_true(log_size(f) > 0);
    assert_checkpoint(db, PIER_SQLITE_TRUNCATE, 0, 0, 0);
    assert_int_equal(log_size(f), 0);
    pier_result *result =
        pier_sqlite_checkpoint_finish(pier_sqlite_checkpoint_async(db, PIER_SQLITE_FULL), &f->err);
    assert_int_equal(pier_result_count(result), 1);
    pier_result_free(result);
    pier_db_close(db);
}

static void test_checkpoint__says_when_a_reader_is_in_the_way(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&busy_timeout_ms=20");
    execute(db, "insert into t values (1, 'a')", NULL);
    pier_db *tx = begin_read(db);
    execute(db, "insert into t values (2, 'b')", NULL);
    assert_checkpoint(db, PIER_SQLITE_FULL, 1, 2, 1);
    execute(db, "insert into t values (3, 'c')", NULL); /* the writer goes on */
    assert_int_equal(number_of(tx, "select count(*) from t"), 1);
    pier_db_close(tx);
    assert_checkpoint(db, PIER_SQLITE_TRUNCATE, 0, 0, 0);
    pier_db_close(db);
}

static void test_checkpoint__refuses_where_it_cannot_run(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_null(pier_sqlite_checkpoint(tx, PIER_SQLITE_FULL, &f->err));
    assert_error(&f->err, PIER_EINVAL, "in a transaction");
    pier_db_close(tx);
    assert_null(pier_sqlite_checkpoint(f->db, 4, &f->err));
    assert_error(&f->err, PIER_EINVAL, "pier_sqlite_checkpoint_mode");
    assert_null(pier_sqlite_checkpoint(NULL, 0, &f->err));
    assert_int_equal(f->err.status, PIER_EINVAL);
    memset(&f->err, 0, sizeof f->err);
}

/* ---- Figures ------------------------------------------------------------------------------ */

static bool somebody_waits(void *db)
{
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats.waiting > 0;
}

static void test_stats__count_the_writer_and_the_readers(void **state)
{
    struct fixture *f = *state;
    pier_pool_stats stats;
    pier_db *db = open_with(f, "preset=service&readers=2");
    pier_db_stats(db, &stats);
    assert_int_equal(stats.max, 3);
    assert_int_equal(stats.size, 1);
    assert_int_equal(stats.idle, 1);
    assert_int_equal(stats.acquires, 1);
    pier_db *tx = pier_db_begin(db, NULL, &f->err);
    pier_db *read = begin_read(db);
    pier_future *future = pier_db_execute_async(db, "delete from t", NULL);
    assert_true(support_wait_until(somebody_waits, db, BOUND_MS));
    wait_ms(5);
    pier_db_stats(tx, &stats);
    assert_int_equal(stats.size, 2);
    assert_int_equal(stats.leased, 2);
    assert_int_equal(stats.waiting, 1);
    assert_int_equal(stats.made, 2);
    pier_db_close(read);
    pier_db_close(tx);
    assert_int_equal(pier_db_execute_finish(future, &f->err), 0);
    pier_db_stats(db, &stats);
    assert_int_equal(stats.idle, 2);
    assert_int_equal(stats.leased, 0);
    assert_int_equal(stats.waiting, 0);
    assert_int_equal(stats.waits, 1);
    assert_int_equal(stats.lost, 0);
    assert_true(stats.wait_max_us >= 5000 && stats.wait_total_us == stats.wait_max_us);
    pier_db_close(db);
    pier_db_stats(NULL, &stats);
    assert_int_equal(stats.max, 0);
}

/* ---- Many at once ------------------------------------------------------------------------- */

enum { THREADS = 6, TURNS = 60 };

struct worker {
    pthread_t thread;
    pier_db *db;
    int number;
    int failures;
};

/* Moves what the rows hold from one to the other; their sum stays. */
static void *move_or_read(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < TURNS; i++) {
        pier_error err = {0};
        int64_t sum = 0;
        if (worker->number < 2) {
            pier_db *tx = pier_db_begin(worker->db, NULL, &err);
            pier_db_execute(tx, "update t set name = name - 1 where id = 1", NULL, &err);
            pier_db_execute(tx, "update t set name = name + 1 where id = 2", NULL, &err);
            worker->failures += pier_db_commit(tx, &err) != 0;
            pier_db_close(tx);
        } else {
            int got = pier_db_fetch_into(worker->db, "select sum(name) from t", NULL,
                                         PIER_INTO(&sum), &err);
            worker->failures += got != 1 || sum != 1000;
        }
        worker->failures += err.status != 0;
    }
    return NULL;
}

static void test_threads__readers_see_whole_transactions_only(void **state)
{
    struct fixture *f = *state;
    struct worker workers[THREADS];
    pier_db *db = open_with(f, "preset=service&readers=3");
    execute(db, "insert into t values (1, 500), (2, 500)", NULL);
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.db = db, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, move_or_read, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].failures, 0);
    }
    assert_int_equal(number_of(db, "select cast(name as integer) from t where id = 2"),
                     500 + 2 * TURNS);
    pier_db_close(db);
}

static int read_in_task(pier_task *self, void *arg, pier_error *err)
{
    enum { COUNT = 40 };
    pier_future *futures[COUNT];
    pier_db *db = arg;
    (void)self;
    pier_db *tx = pier_db_begin(db, NULL, err);
    pier_db_execute(tx, "insert into t values (1, 'a')", NULL, err);
    for (int i = 0; i < COUNT; i++) {
        futures[i] = pier_db_fetch_async(db, "select count(*) from t", NULL);
    }
    int64_t seen = 0;
    for (int i = 0; i < COUNT; i++) {
        pier_result *result = pier_db_fetch_finish(futures[i], err);
        seen += pier_row_int64(pier_result_row(result, 0), 0);
        pier_result_free(result);
    }
    if (pier_db_commit(tx, err) < 0) {
        seen = -1;
    }
    pier_db_close(tx);
    return err->status ? err->status : (int)seen;
}

static void test_tasks__read_beside_their_own_transaction(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "preset=service&readers=3");
    assert_int_equal(pier_task_run(f->runner, read_in_task, db, &f->err), 0);
    assert_ok(&f->err);
    assert_int_equal(number_of(db, "select count(*) from t"), 1);
    pier_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_open__without_options_changes_no_setting),
        TEST(test_open__the_service_preset_does_what_it_says),
        TEST(test_open__sets_each_option_on_the_connection),
        TEST(test_open__an_immutable_file_takes_no_lock_whatever_its_name),
        TEST(test_open__warns_of_a_library_with_the_wal_reset_bug),
        TEST(test_open__readers_need_a_log),
        TEST(test_open__waits_for_a_lock_before_it_changes_the_journal),
        TEST(test_open__waits_for_a_lock_before_it_leaves_the_log),
        TEST(test_open__read_only_has_readers_too),
        TEST(test_readers__read_beside_a_transaction_that_writes),
        TEST(test_readers__a_statement_that_writes_after_all_moves_to_the_writer),
        TEST(test_readers__what_only_the_writer_knows_is_found_there),
        TEST(test_readers__a_statement_that_moves_waits_for_the_writer_and_can_be_cancelled),
        TEST(test_readers__a_statement_that_moves_has_nothing_more_of_the_reader),
        TEST(test_readers__a_cursor_keeps_one_while_others_write),
        TEST(test_writer__serves_in_the_order_of_asking),
        TEST(test_read_tx__sees_the_state_of_its_beginning),
        TEST(test_read_tx__refuses_to_write_with_readers_and_without),
        TEST(test_read_tx__that_is_too_old_is_interrupted),
        TEST(test_read_tx__that_is_too_old_runs_nothing_more),
        TEST(test_read_tx__that_is_too_old_and_idle_is_ended_by_the_next_write),
        TEST(test_reader__that_was_given_back_is_as_young_as_new),
        TEST(test_reader__of_a_blob_never_becomes_too_old),
        TEST(test_checkpoint__moves_the_log_into_the_file),
        TEST(test_checkpoint__says_when_a_reader_is_in_the_way),
        TEST(test_checkpoint__refuses_where_it_cannot_run),
        TEST(test_stats__count_the_writer_and_the_readers),
        TEST(test_threads__readers_see_whole_transactions_only),
        TEST(test_tasks__read_beside_their_own_transaction),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
