/*
 * Everything at once on one pool: leases that change their session, cursors left early, many rows
 * at once, serializable transfers that are tried again, and a pool that is expired at random, and
 * drained in the end. What a borrower finds is checked each time, the sums at the end.
 */
#include "tests/integration/postgres_fixture.h"
#include "tests/torture/torture.h"

enum {
    POOL = 4,
    WORKERS = 12,
    THREADS = 6,
    ACCOUNTS = 8,
    SUM = 8000,
    SOAK_MS = 12000,
    SOAK_SANITIZED_MS = 5000,
    CALL_MS = 15000,
    LOCK_KEY = 7331
};

static struct {
    struct torture_wrong wrong;
    uint64_t seed;
    int64_t until;
    atomic_int leases, cursors, rows, transfers, gave_up, expired;
} torture = {.wrong = TORTURE_WRONG};

static void note_failure(const char *what, const pier_error *err)
{
    torture_note(&torture.wrong, "%s: %s (%s) %s", what, pier_status_name(err->status),
                 err->sqlstate, err->message);
}

/* ---- Sessions ------------------------------------------------------------------------------- */

/* A session as it was when it was new: no setting, temporary table, advisory lock, listener or
 * statement of another borrower's. */
static void check_session(pier_db *lease)
{
    pier_error err = {0};
    char *setting = NULL;
    int64_t tables = -1, locks = -1, listens = -1, statements = -1;
    int got = pier_db_fetch_into(
        lease,
        "select current_setting('search_path') || '/' || current_setting('work_mem') || '/' || "
        "coalesce(current_setting('soak.mark', true), ''), "
        "(select count(*) from pg_class where relpersistence = 't' and relname = 'scratch' and "
        "pg_table_is_visible(oid)), "
        "(select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()), "
        "(select count(*) from pg_listening_channels()), "
        "(select count(*) from pg_prepared_statements where name = 'mine')",
        NULL, PIER_INTO(&setting, &tables, &locks, &listens, &statements), &err);
    if (got != 1) {
        note_failure("looking at a session", &err);
    } else if (strcmp(setting, "\"$user\", public/4MB/") != 0 || tables || locks || listens ||
               statements) {
        torture_note(&torture.wrong,
                     "a session is not clean: %s, %d tables, %d locks, %d channels, %d statements",
                     setting, (int)tables, (int)locks, (int)listens, (int)statements);
    }
    free(setting);
}

static void change_session(pier_db *lease, struct torture_random *random)
{
    static const char *const changes[] = {
        "set search_path = pg_catalog",
        "set work_mem = '1MB'",
        "select set_config('soak.mark', 'here', false)",
        "create temp table scratch(x int)",
        "listen soak",
        "prepare mine as select 1",
        "begin",
    };
    pier_error err = {0};
    for (int i = torture_below(random, 4); i > 0; i--) {
        int which = torture_below(random, (int)(sizeof changes / sizeof *changes));
        pier_db_execute(lease, changes[which], NULL, NULL); /* the second of a kind may fail */
    }
    /* Each its own key, so that nobody waits for it. */
    if (pier_db_execute(lease, "select pg_advisory_lock($1, pg_backend_pid())", PIER_ARGS(LOCK_KEY),
                        &err) < 0 &&
        strcmp(err.sqlstate, "25P02") != 0) {
        note_failure("a lock", &err);
    }
}

static void use_a_lease(struct torture_random *random)
{
    pier_error err = {0};
    pier_db *lease = pier_db_lease(db, &err);
    if (!lease) {
        note_failure("a lease", &err);
        return;
    }
    check_session(lease);
    change_session(lease, random);
    pier_db_close(lease);
    atomic_fetch_add(&torture.leases, 1);
}

/* What the pool itself is asked must not run in a session that somebody has changed either; the
 * connection is chosen for each. */
static void use_the_pool(struct torture_random *random)
{
    pier_error err = {0};
    if (torture_below(random, 2)) {
        check_session(db);
    } else if (pier_db_execute(db, "select set_config('soak.mark', 'pool', false)", NULL, &err) <
               0) {
        note_failure("a setting", &err);
    }
}

/* ---- Rows ----------------------------------------------------------------------------------- */

static void leave_a_cursor(struct torture_random *random)
{
    pier_error err = {0};
    int wanted = torture_below(random, 3000), got = 0;
    pier_cursor *cursor =
        pier_db_cursor(db, "select g from generate_series(1, $1::int) g", PIER_ARGS(5000), &err);
    for (const pier_row *row; got < wanted && (row = pier_cursor_next(cursor));) {
        if (pier_row_int64(row, 0) != ++got) {
            torture_note(&torture.wrong, "row %d of a cursor is another", got);
        }
    }
    if (pier_cursor_close(cursor, &err) < 0) {
        note_failure("a cursor", &err);
    }
    atomic_fetch_add(&torture.cursors, 1);
}

/* All rows or none: one of a batch in four is refused. */
static void add_many(struct torture_random *random)
{
    enum { BATCH = 20 };
    pier_args rows[BATCH];
    pier_value values[BATCH];
    pier_error err = {0};
    int wrong = torture_below(random, 4 * BATCH);
    for (int i = 0; i < BATCH; i++) {
        values[i] = PIER_VALUE(i == wrong ? -1 : 1);
        rows[i] = (pier_args){.values = &values[i], .count = 1};
    }
    int64_t added =
        pier_db_execute_many(db, "insert into added(n) values ($1::int)", rows, BATCH, &err);
    if (added != (wrong < BATCH ? PIER_ECONSTRAINT : BATCH)) {
        note_failure("many rows", &err);
    }
    if (added == BATCH) {
        atomic_fetch_add(&torture.rows, BATCH);
    }
}

struct transfer {
    int from, to, amount;
};

static int transfer(pier_db *tx, void *arg, pier_error *err)
{
    const struct transfer *move = arg;
    int64_t left = 0;
    if (pier_db_fetch_into(tx, "select balance from accounts where id = $1", PIER_ARGS(move->from),
                           PIER_INTO(&left), err) != 1) {
        return err->status;
    }
    if (left < move->amount) {
        return 0;
    }
    if (pier_db_execute(tx, "update accounts set balance = balance - $2 where id = $1",
                        PIER_ARGS(move->from, move->amount), err) < 0) {
        return err->status;
    }
    return (int)pier_db_execute(tx, "update accounts set balance = balance + $2 where id = $1",
                                PIER_ARGS(move->to, move->amount), err);
}

static void move_money(struct torture_random *random)
{
    pier_error err = {0};
    struct transfer move = {.from = torture_below(random, ACCOUNTS),
                            .to = torture_below(random, ACCOUNTS),
                            .amount = 1 + torture_below(random, 50)};
    int status = pier_db_transaction(
        db, PIER_TX_OPTIONS(.isolation = PIER_SERIALIZABLE, .attempts = 10), transfer, &move, &err);
    if (status == PIER_ESERIALIZATION) {
        atomic_fetch_add(&torture.gave_up, 1); /* ten times somebody else was first */
    } else if (status < 0) {
        note_failure("a transfer", &err);
    } else {
        atomic_fetch_add(&torture.transfers, 1);
    }
}

static void work(void *user_data, int number, pier_task *self)
{
    (void)user_data, (void)self;
    struct torture_random random = torture_random_of(torture.seed, number);
    while (support_now_ms() < torture.until && !atomic_load(&torture.wrong.count)) {
        pier_scope *scope =
            pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = CALL_MS), NULL);
        switch (torture_below(&random, 6)) {
        case 0:
            use_a_lease(&random);
            break;
        case 1:
            use_the_pool(&random);
            break;
        case 2:
            leave_a_cursor(&random);
            break;
        case 3:
            add_many(&random);
            break;
        default:
            move_money(&random);
            break;
        }
        if (torture_below(&random, 100) == 0) {
            pier_db_expire(db);
            atomic_fetch_add(&torture.expired, 1);
        }
        pier_scope_close(scope);
    }
}

/* ---- Afterwards ----------------------------------------------------------------------------- */

static void check_sums(void)
{
    char sql[120];
    assert_int_equal(look_int("select sum(balance) from accounts"), SUM);
    assert_int_equal(look_int("select count(*) from accounts where balance < 0"), 0);
    snprintf(sql, sizeof sql, "select count(*) - %d from added", atomic_load(&torture.rows));
    assert_int_equal(look_int(sql), 0);
    assert_int_equal(look_int(
                         "select count(*) from pg_locks join pg_database d on d.oid = database "
                         "where locktype = 'advisory' and datname = current_database()"),
                     0);
}

static void make_tables(void)
{
    look_int("create table added(n int check (n > 0))");
    look_int("create table accounts(id int primary key, balance bigint)");
    look_int("insert into accounts select g, 1000 from generate_series(0, 7) g");
}

static void test_soak__sessions_stay_apart_and_sums_stay_right(void **state)
{
    (void)state;
    pier_error err = {0};
    make_tables();
    torture.seed = torture_seed();
    torture.until = support_now_ms() + torture_amount("ms", SOAK_MS, SOAK_SANITIZED_MS);
    struct torture_crowd crowd = {.body = work, .count = WORKERS, .threads = THREADS};
    torture_crowd_start(&crowd, runner);
    assert_int_equal(torture_crowd_join(&crowd, &err), 0);
    ASSERT_NOTHING_WRONG(&torture.wrong);
    assert_int_equal(pier_db_drain(db, BOUND_MS, &err), 0);
    assert_true(await_connections(0));
    check_sums();
    fprintf(stderr,
            "%d leases, %d cursors, %d rows, %d transfers and %d given up, expired %d times\n",
            atomic_load(&torture.leases), atomic_load(&torture.cursors), atomic_load(&torture.rows),
            atomic_load(&torture.transfers), atomic_load(&torture.gave_up),
            atomic_load(&torture.expired));
    assert_true(atomic_load(&torture.leases) > 0 && atomic_load(&torture.transfers) > 0);
}

/* Drained while all work: each call either ends as it should or finds the pool closed. */
static void drained_call(void *user_data, int number, pier_task *self)
{
    (void)user_data, (void)self;
    struct torture_random random = torture_random_of(torture.seed, number);
    for (;;) {
        pier_error err = {0};
        int64_t n = 0, id = torture_below(&random, 1000000);
        pier_db *tx = pier_db_begin(db, NULL, &err);
        int got = pier_db_fetch_into(tx, "select $1::bigint", PIER_ARGS(id), PIER_INTO(&n), &err);
        int status = got == 1 ? pier_db_commit(tx, &err) : err.status;
        pier_db_close(tx);
        if (status == PIER_ECLOSED && !tx) {
            return;
        }
        if (status < 0 || n != id) {
            note_failure("while it is drained", &err);
            return;
        }
        atomic_fetch_add(&torture.transfers, 1);
    }
}

static bool has_begun(void *before)
{
    return atomic_load(&torture.transfers) > *(int *)before;
}

static void test_soak__a_pool_is_drained_under_load(void **state)
{
    (void)state;
    torture.seed = torture_seed();
    torture.wrong = (struct torture_wrong)TORTURE_WRONG;
    struct torture_random random = torture_random_of(torture.seed, WORKERS);
    for (int i = torture_amount("drains", 30, 8); i > 0; i--) {
        pier_error err = {0};
        struct torture_crowd crowd = {.body = drained_call, .count = WORKERS, .threads = THREADS};
        int before = atomic_load(&torture.transfers) + torture_below(&random, 100);
        torture_crowd_start(&crowd, runner);
        assert_true(support_wait_until(has_begun, &before, BOUND_MS));
        assert_int_equal(pier_db_drain(db, BOUND_MS, &err), 0);
        assert_int_equal(torture_crowd_join(&crowd, &err), 0);
        ASSERT_NOTHING_WRONG(&torture.wrong);
        assert_true(await_connections(0));
        pier_db_close(db);
        db = open_pool(POOL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_soak__sessions_stay_apart_and_sums_stay_right),
        TEST(test_soak__a_pool_is_drained_under_load),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
