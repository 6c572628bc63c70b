/*
 * A Postgres server that is killed fifty times under writers, and comes back each time.
 *
 * SIGKILL ends processes, not the kernel: what a process has written to a file is in the page cache
 * and will be read back from there, whether fsync was called or not. So fsync is off here and
 * nothing acknowledged may be lost all the same; synchronous_commit must be on, because without it
 * a commit is acknowledged before its WAL has left the process. Full page writes are on: a signal
 * may cut the write of a page of 8 KB between two of the kernel's of 4 KB.
 */
#include "tests/integration/postgres_fixture.h"
#include "tests/torture/torture.h"

#include <signal.h>

enum {
    KILLS = 50,
    KILLS_SANITIZED = 10,
    CRASHES = 10,
    POOL = 6,
    WRITERS = 10, /* more than connections: some always wait for one */
    THREADS = 5,
    ROWS_MAX = 1000000,   /* of each writer */
    NUMBERS = 1000000000, /* the ids of a writer begin at its number times this */
    CALL_MS = 10000,      /* no call takes so long, whatever happens to the server */
    RECOVERY_MS = 1000,   /* from the server's return to the first row */
    RECOVERY_SANITIZED_MS = 3000
};

enum { ALONE = 0, IN_TRANSACTION, MANY, KINDS };
/* Rows that are written together: all of them or none. */
static const int rows_of[KINDS] = {1, 3, 4};

enum { UNTOUCHED = 0, TRIED, ACKNOWLEDGED, FOUND = 4 };

struct writer {
    int kind;
    int64_t base;
    int next;             /* row */
    unsigned char *marks; /* of each row */
    int64_t groups, acknowledged, unanswered;
};

static struct {
    struct torture_wrong wrong;
    struct writer writers[WRITERS];
    atomic_bool over;
    atomic_int life;           /* how often the server has been killed */
    atomic_int rows;           /* acknowledged in this life, of requests begun in it */
    _Atomic int64_t first_row; /* when the first of them was; 0: not yet */
    atomic_int failures;       /* failed calls */
} torture = {.wrong = TORTURE_WRONG};

/* ---- Writing -------------------------------------------------------------------------------- */

#define INSERT "insert into kept(id) values ($1)"

static int64_t write_in_transaction(const struct writer *writer, pier_error *err)
{
    pier_db *tx = pier_db_begin(db, NULL, err);
    int64_t status = tx ? 0 : -1;
    for (int i = 0; i < rows_of[IN_TRANSACTION] && status >= 0; i++) {
        int64_t id = writer->base + writer->next + i;
        status = pier_db_execute(tx, INSERT, PIER_ARGS(id), err);
    }
    status = status < 0 ? status : pier_db_commit(tx, err);
    pier_db_close(tx);
    return status;
}

static int64_t write_group(const struct writer *writer, pier_error *err)
{
    int64_t id = writer->base + writer->next;
    switch (writer->kind) {
    case ALONE:
        return pier_db_execute(db, INSERT, PIER_ARGS(id), err);
    case MANY: {
        const pier_args rows[] = {*PIER_ARGS(id), *PIER_ARGS(id + 1), *PIER_ARGS(id + 2),
                                  *PIER_ARGS(id + 3)};
        return pier_db_execute_many(db, INSERT, rows, (size_t)rows_of[MANY], err);
    }
    default:
        return write_in_transaction(writer, err);
    }
}

/* A request that was answered before the kill says nothing about the server's return. */
static void note_answer(struct writer *writer, int life)
{
    int count = rows_of[writer->kind];
    memset(writer->marks + writer->next, ACKNOWLEDGED, (size_t)count);
    writer->acknowledged += count;
    if (life == atomic_load(&torture.life)) {
        int64_t none = 0;
        atomic_compare_exchange_strong(&torture.first_row, &none, support_now_ms());
        atomic_fetch_add(&torture.rows, count);
    }
}

static void note_failure(struct writer *writer, const pier_error *err)
{
    memset(writer->marks + writer->next, TRIED, (size_t)rows_of[writer->kind]);
    writer->unanswered += rows_of[writer->kind];
    atomic_fetch_add(&torture.failures, 1);
    if (err->status != PIER_EIO && err->status != PIER_ECONNECT) {
        torture_note(&torture.wrong, "a writer failed with %s (%s): %s",
                     pier_status_name(err->status), err->sqlstate, err->message);
    }
}

static void write_on(void *user_data, int number, pier_task *self)
{
    (void)user_data, (void)self;
    struct writer *writer = &torture.writers[number];
    while (!atomic_load(&torture.over) && writer->next + 4 < ROWS_MAX) {
        pier_error err = {0};
        int life = atomic_load(&torture.life);
        pier_scope *scope =
            pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = CALL_MS), &err);
        int64_t status = write_group(writer, &err);
        pier_scope_close(scope);
        if (status >= 0) {
            note_answer(writer, life);
        } else {
            note_failure(writer, &err);
        }
        writer->next += rows_of[writer->kind];
        writer->groups++;
    }
}

/* ---- Killing -------------------------------------------------------------------------------- */

static bool is_written(void *rows)
{
    return atomic_load(&torture.rows) >= *(int *)rows;
}

static bool is_back(void *unused)
{
    (void)unused;
    return atomic_load(&torture.first_row) != 0;
}

static bool has_tried(void *failed)
{
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats.failed >= *(int64_t *)failed;
}

static int64_t failed_attempts(void)
{
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats.failed;
}

/* Once those that had connections have each failed once, there is one attempt at a time, with a
 * pause of 25 ms and more after the first one, growing to 300 and more. */
static void assert_no_storm(int64_t attempts, int64_t took_ms)
{
    if (attempts > 2 * POOL + 4 + took_ms / 200) {
        fail_msg("%d attempts to connect in %d ms", (int)attempts, (int)took_ms);
    }
}

/* Kills the server among writers, waits for up to so many attempts to connect that fail, and has it
 * back. Gives the time from its return to the first row. */
static int kill_once(struct torture_random *random, int64_t *attempts)
{
    int rows = 20 + torture_below(random, 300);
    assert_true(support_wait_until(is_written, &rows, BOUND_MS));
    int64_t before = failed_attempts(), killed = support_now_ms();
    assert_int_equal(support_postgres_kill9(&server), 0);
    atomic_store(&torture.rows, 0);
    atomic_store(&torture.first_row, 0);
    atomic_fetch_add(&torture.life, 1);
    int64_t wanted = before + torture_below(random, 4);
    assert_true(support_wait_until(has_tried, &wanted, BOUND_MS));
    assert_int_equal(support_postgres_restart(&server), 0);
    int64_t returned = support_now_ms();
    assert_true(support_wait_until(is_back, NULL, BOUND_MS));
    int64_t back = atomic_load(&torture.first_row);
    *attempts = failed_attempts() - before;
    assert_no_storm(*attempts, back - killed);
    return back > returned ? (int)(back - returned) : 0;
}

struct backends {
    int own, checkpointer; /* that one is another after a restart */
};

static bool is_told(void *told)
{
    struct backends *backends = told;
    return pier_db_fetch_into(db,
                              "select pg_backend_pid(), pid from pg_stat_activity where "
                              "backend_type = 'checkpointer'",
                              NULL, PIER_INTO(&backends->own, &backends->checkpointer), NULL) == 1;
}

static bool has_another_checkpointer(void *before)
{
    struct backends now;
    return is_told(&now) && now.checkpointer != *(int *)before;
}

/* One backend of the pool's dies as of a bug: the server ends all the others, and starts anew. */
static void crash_a_backend(struct torture_random *random)
{
    int rows = 20 + torture_below(random, 300);
    struct backends backends;
    assert_true(support_wait_until(is_written, &rows, BOUND_MS));
    assert_true(support_wait_until(is_told, &backends, BOUND_MS));
    assert_true(backends.own > 1);
    assert_int_equal(kill(backends.own, SIGKILL), 0);
    assert_true(support_wait_until(has_another_checkpointer, &backends.checkpointer, BOUND_MS));
    atomic_store(&torture.rows, 0);
    atomic_fetch_add(&torture.life, 1);
}

/* ---- Counting ------------------------------------------------------------------------------- */

static void mark_found(int64_t id)
{
    int64_t number = id / NUMBERS, row = id % NUMBERS;
    if (number >= WRITERS || row >= torture.writers[number].next) {
        fail_msg("a row that nobody wrote: %lld", (long long)id);
    }
    unsigned char *mark = &torture.writers[number].marks[row];
    assert_false(*mark & FOUND);
    *mark |= FOUND;
}

static void find_rows(void)
{
    pier_error err = {0};
    pier_cursor *cursor = pier_db_cursor(db, "select id from kept", NULL, &err);
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        mark_found(pier_row_int64(row, 0));
    }
    int status = pier_cursor_close(cursor, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(status, 0);
}

/* Each acknowledged row is there, and of each group all rows or none. */
static void check_writer(const struct writer *writer)
{
    int count = rows_of[writer->kind];
    for (int row = 0; row < writer->next; row += count) {
        if ((writer->marks[row] & ACKNOWLEDGED) && !(writer->marks[row] & FOUND)) {
            fail_msg("a row was acknowledged and is lost: %lld", (long long)(writer->base + row));
        }
        for (int i = 1; i < count; i++) {
            if (writer->marks[row + i] != writer->marks[row]) {
                fail_msg("half of a group is there, from %lld", (long long)(writer->base + row));
            }
        }
    }
    assert_true(writer->acknowledged > 0);
}

/* All connections at once, each in somebody's hands. */
static void check_pool(void)
{
    pier_error err = {0};
    pier_db *leases[POOL];
    for (int i = 0; i < POOL; i++) {
        int number = 0;
        leases[i] = pier_db_lease(db, &err);
        assert_int_equal(pier_db_fetch_into(leases[i], "select $1::int", PIER_ARGS(i),
                                            PIER_INTO(&number), &err),
                         1);
        assert_int_equal(number, i);
    }
    for (int i = 0; i < POOL; i++) {
        pier_db_close(leases[i]);
    }
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    assert_int_equal(stats.idle, POOL);
    assert_int_equal(stats.size, POOL);
    assert_int_equal(stats.leased + stats.waiting, 0);
}

static int by_size(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

static void report(int *times, int kills, int64_t attempts, int64_t took_ms)
{
    int64_t rows = 0, unanswered = 0;
    for (int i = 0; i < WRITERS; i++) {
        rows += torture.writers[i].acknowledged;
        unanswered += torture.writers[i].unanswered;
    }
    qsort(times, (size_t)kills, sizeof *times, by_size);
    fprintf(stderr,
            "%d kills in %.1f s: %lld rows acknowledged and there, %lld without an answer, %d "
            "calls failed, %lld attempts to connect failed; from the server's return to the first "
            "row: median %d ms, worst %d ms\n",
            kills, (double)took_ms / 1000, (long long)rows, (long long)unanswered,
            atomic_load(&torture.failures), (long long)attempts, times[kills / 2],
            times[kills - 1]);
}

static void start_writing(struct torture_crowd *crowd)
{
    torture.wrong = (struct torture_wrong)TORTURE_WRONG;
    atomic_store(&torture.over, false);
    atomic_store(&torture.rows, 0);
    atomic_store(&torture.failures, 0);
    look_int("create table kept(id bigint primary key)");
    for (int i = 0; i < WRITERS; i++) {
        torture.writers[i] = (struct writer){
            .kind = i % KINDS, .base = (int64_t)i * NUMBERS, .marks = calloc(ROWS_MAX, 1)};
        assert_non_null(torture.writers[i].marks);
    }
    torture_crowd_start(crowd, runner);
}

static void stop_writing(struct torture_crowd *crowd)
{
    pier_error err = {0};
    atomic_store(&torture.over, true);
    assert_int_equal(torture_crowd_join(crowd, &err), 0);
    ASSERT_NOTHING_WRONG(&torture.wrong);
}

static void check_rows(void)
{
    find_rows();
    for (int i = 0; i < WRITERS; i++) {
        check_writer(&torture.writers[i]);
        free(torture.writers[i].marks);
    }
}

static void kill_again_and_again(void)
{
    int times[KILLS], kills = torture_amount("kills", KILLS, KILLS_SANITIZED);
    int64_t attempts = 0, began = support_now_ms();
    struct torture_random random = torture_random_of(torture_seed(), 0);
    struct torture_crowd crowd = {.body = write_on, .count = WRITERS, .threads = THREADS};
    start_writing(&crowd);
    for (int i = 0; i < kills; i++) {
        int64_t failed = 0;
        times[i] = kill_once(&random, &failed);
        attempts += failed;
    }
    int rows = 1000;
    assert_true(support_wait_until(is_written, &rows, BOUND_MS));
    stop_writing(&crowd);
    check_rows();
    check_pool();
    report(times, kills, attempts, support_now_ms() - began);
    /* Each attempt fails each writer once at most, and so does each kill. */
    assert_in_range(atomic_load(&torture.failures), kills, WRITERS * (attempts + kills));
    assert_in_range(times[kills - 1], 0, TORTURE_SANITIZED ? RECOVERY_SANITIZED_MS : RECOVERY_MS);
}

static void test_kills__no_acknowledged_row_is_lost(void **state)
{
    (void)state;
    kill_again_and_again();
}

/* Where the end of a connection is a reset, which may overtake what was sent before it. */
static void test_kills__no_acknowledged_row_is_lost_over_tcp(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db_close(db);
    db = pier_db_open(runner, server.url_tcp, PIER_DB_OPTIONS(.pool_max = POOL), &err);
    assert_string_equal(err.message, "");
    kill_again_and_again();
}

static void test_kills__a_backend_that_crashes_takes_the_others_along(void **state)
{
    (void)state;
    struct torture_random random = torture_random_of(torture_seed(), 1);
    struct torture_crowd crowd = {.body = write_on, .count = WRITERS, .threads = THREADS};
    start_writing(&crowd);
    for (int i = 0; i < CRASHES; i++) {
        crash_a_backend(&random);
    }
    int rows = 1000;
    assert_true(support_wait_until(is_written, &rows, BOUND_MS));
    stop_writing(&crowd);
    check_rows();
    check_pool();
}

/* ---- Before and after ----------------------------------------------------------------------- */

static int start_killable(void **state)
{
    (void)state;
    static const char *const settings[] = {"max_connections=60", "synchronous_commit=on",
                                           "full_page_writes=on", NULL};
    return support_postgres_start_own(&server, settings) || connect_observer() || warm_up();
}

static int open_writers_pool(void **state)
{
    int status = open_db(state);
    pier_db_close(db);
    db = open_pool(POOL);
    return status || !db ? -1 : 0;
}

static int close_writers_pool(void **state)
{
    PQfinish(observer);
    return connect_observer() ? -1 : close_db(state);
}

#define KILLED(name) cmocka_unit_test_setup_teardown(name, open_writers_pool, close_writers_pool)

int main(void)
{
    const struct CMUnitTest tests[] = {
        KILLED(test_kills__no_acknowledged_row_is_lost),
        KILLED(test_kills__no_acknowledged_row_is_lost_over_tcp),
        KILLED(test_kills__a_backend_that_crashes_takes_the_others_along),
    };
    return cmocka_run_group_tests(tests, start_killable, stop_server);
}
