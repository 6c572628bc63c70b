/*
 * A primary that is killed under writers, and its replica that takes over, as two servers in one
 * URL. The primary commits when its replica has the WAL (synchronous_standby_names), so that
 * nothing acknowledged is lost with it. A primary whose wait for the replica is cancelled has
 * committed all the same, without the replica; so no writer gives up here.
 */
#include "tests/integration/postgres_fixture.h"
#include "tests/torture/torture.h"

enum {
    POOL = 5,
    WRITERS = 8,
    THREADS = 4,
    ROWS_MAX = 200000, /* of each writer */
    ROWS = 500,        /* before it is killed, and after that */
    CALL_MS = 20000,
    TAKEOVER_MS = 1000, /* from the replica's taking over to the first row */
    TAKEOVER_SANITIZED_MS = 3000
};

struct writer {
    int64_t base;
    int next;
    bool *acknowledged; /* each of its rows */
};

static struct support_postgres replica;

static struct {
    struct torture_wrong wrong;
    struct writer writers[WRITERS];
    atomic_bool over;
    atomic_bool killed;
    atomic_int before, after;  /* rows acknowledged; of requests begun after the kill */
    _Atomic int64_t first_row; /* of those */
    atomic_int failures;
} torture = {.wrong = TORTURE_WRONG};

/* ---- Writing -------------------------------------------------------------------------------- */

static void note_answer(bool killed)
{
    if (killed) {
        int64_t none = 0;
        atomic_compare_exchange_strong(&torture.first_row, &none, support_now_ms());
    }
    atomic_fetch_add(killed ? &torture.after : &torture.before, 1);
}

static void write_on(void *user_data, int number, pier_task *self)
{
    (void)user_data, (void)self;
    struct writer *writer = &torture.writers[number];
    for (; !atomic_load(&torture.over) && writer->next < ROWS_MAX; writer->next++) {
        pier_error err = {0};
        bool killed = atomic_load(&torture.killed);
        pier_scope *scope =
            pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = CALL_MS), NULL);
        int64_t id = writer->base + writer->next;
        int64_t status =
            pier_db_execute(db, "insert into kept(id) values ($1)", PIER_ARGS(id), &err);
        pier_scope_close(scope);
        writer->acknowledged[writer->next] = status == 1;
        if (status == 1) {
            note_answer(killed);
            continue;
        }
        atomic_fetch_add(&torture.failures, 1);
        if (err.status != PIER_EIO && err.status != PIER_ECONNECT) {
            torture_note(&torture.wrong, "%s (%s) %s", pier_status_name(err.status), err.sqlstate,
                         err.message);
        }
    }
}

static bool is_reached(void *count)
{
    return atomic_load((atomic_int *)count) >= ROWS;
}

/* ---- Counting ------------------------------------------------------------------------------- */

static void check_rows(void)
{
    pier_error err = {0};
    int64_t acknowledged = 0, found = 0;
    pier_cursor *cursor = pier_db_cursor(db, "select id from kept", NULL, &err);
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        int64_t id = pier_row_int64(row, 0);
        found += torture.writers[id / ROWS_MAX].acknowledged[id % ROWS_MAX];
    }
    assert_int_equal(pier_cursor_close(cursor, &err), 0);
    for (int i = 0; i < WRITERS; i++) {
        for (int row = 0; row < torture.writers[i].next; row++) {
            acknowledged += torture.writers[i].acknowledged[row];
        }
        free(torture.writers[i].acknowledged);
    }
    assert_int_equal(found, acknowledged);
    assert_int_equal(acknowledged, atomic_load(&torture.before) + atomic_load(&torture.after));
}

/* ---- The servers ---------------------------------------------------------------------------- */

/* From the replica's start on, a commit waits for it. */
static void pair_servers(void)
{
    int before = count_fds();
    assert_int_equal(support_postgres_start_replica(&replica, &server, NULL), 0);
    look_int("alter system set synchronous_standby_names = '*'");
    look_int("select pg_reload_conf()");
    assert_true(await_int("select count(*) from pg_stat_replication where sync_state = 'sync'", 1));
    fds_before += count_fds() - before; /* what the replica's guard is told through */
}

static pier_db *open_both(void)
{
    char url[200];
    pier_error err = {0};
    snprintf(url, sizeof url,
             "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/"
             "postgres?target_session_attrs=read-write",
             replica.port, server.port);
    pier_db *both = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = POOL), &err);
    assert_string_equal(err.message, "");
    return both;
}

static int64_t failed_attempts(void)
{
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats.failed;
}

static bool has_tried(void *failed)
{
    return failed_attempts() >= *(int64_t *)failed;
}

/* Kills the one, has the other take over, and gives the moment in which that one takes writes. */
static int64_t fail_over(struct torture_random *random)
{
    int64_t wanted = failed_attempts() + torture_below(random, 5);
    assert_int_equal(support_postgres_kill9(&server), 0);
    atomic_store(&torture.killed, true);
    assert_true(support_wait_until(has_tried, &wanted, BOUND_MS));
    assert_int_equal(support_postgres_promote(&replica), 0);
    PQfinish(observer);
    observer = PQconnectdb(replica.url_unix);
    assert_true(await_int("select pg_is_in_recovery()::int", 0));
    return support_now_ms();
}

static void start_writing(struct torture_crowd *crowd)
{
    atomic_store(&torture.over, false);
    atomic_store(&torture.killed, false);
    atomic_store(&torture.before, 0);
    atomic_store(&torture.after, 0);
    atomic_store(&torture.first_row, 0);
    atomic_store(&torture.failures, 0);
    for (int i = 0; i < WRITERS; i++) {
        torture.writers[i] = (struct writer){.base = (int64_t)i * ROWS_MAX,
                                             .acknowledged = calloc(ROWS_MAX, sizeof(bool))};
        assert_non_null(torture.writers[i].acknowledged);
    }
    torture_crowd_start(crowd, runner);
}

static void test_failover__no_acknowledged_row_is_lost(void **state)
{
    (void)state;
    pier_error err = {0};
    struct torture_random random = torture_random_of(torture_seed(), 0);
    struct torture_crowd crowd = {.body = write_on, .count = WRITERS, .threads = THREADS};
    look_int("create table kept(id bigint primary key)");
    pair_servers();
    pier_db_close(db);
    db = open_both();
    start_writing(&crowd);
    assert_true(support_wait_until(is_reached, &torture.before, BOUND_MS));
    int64_t taken_over = fail_over(&random);
    assert_true(support_wait_until(is_reached, &torture.after, BOUND_MS));
    atomic_store(&torture.over, true);
    assert_int_equal(torture_crowd_join(&crowd, &err), 0);
    ASSERT_NOTHING_WRONG(&torture.wrong);
    check_rows();
    int64_t took = atomic_load(&torture.first_row) - taken_over; /* negative: it came before the
                                                                    observer had seen it */
    fprintf(stderr,
            "%d rows before and %d after, %d calls failed, %lld attempts to connect failed, "
            "first row after %lld ms\n",
            atomic_load(&torture.before), atomic_load(&torture.after),
            atomic_load(&torture.failures), (long long)failed_attempts(), (long long)took);
    assert_true(took < (TORTURE_SANITIZED ? TAKEOVER_SANITIZED_MS : TAKEOVER_MS));
}

/* A server of its own for each test, which is dead afterwards. */
static int open_pair(void **state)
{
    return start_own_server(state) || open_db(state);
}

static int close_both(void **state)
{
    int status = close_db(state);
    support_postgres_stop(&replica);
    return stop_server(state) || status;
}

#define PAIR(name) cmocka_unit_test_setup_teardown(name, open_pair, close_both)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIR(test_failover__no_acknowledged_row_is_lost),
        PAIR(test_failover__no_acknowledged_row_is_lost), /* at another moment */
        PAIR(test_failover__no_acknowledged_row_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
