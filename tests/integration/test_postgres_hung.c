/*
 * A primary that hangs instead of dying: its processes are stopped, while its kernel goes on taking
 * connections and bytes. Nothing but deadlines can tell. A replica takes over meanwhile.
 */
#include "tests/integration/postgres_fixture.h"

enum {
    POOL = 3,
    CALL_MS = 500,
    CONNECT_MS = 2000,
    SHARE_MS = CONNECT_MS / 2, /* of the first of two hosts */
    /* A call that is cancelled gives its connection up after 5 s, and each that is idle costs one
     * call. */
    RECOVERY_MS = 5000 + (POOL + 2) * CALL_MS + AT_ONCE_MS
};

static struct support_postgres replica;

/* A pair of its own for each test: afterwards one hangs, and the other is a primary. */
static int open_pair(void **state)
{
    return start_own_server(state) || support_postgres_start_replica(&replica, &server, NULL) ||
                   open_db(state)
               ? -1
               : 0;
}

static int close_pair(void **state)
{
    pier_runner_close(runner);
    runner = NULL;
    /* Threads that cancel there wait for an answer. */
    int status = support_postgres_resume(&server);
    status = close_db(state) || status ? -1 : 0;
    support_postgres_stop(&replica);
    return stop_server(state) || status ? -1 : 0;
}

/* The first one hangs, and the other takes over. False: it does not. */
static bool fail_over(void)
{
    /* What has been written is on the replica too. */
    if (!await_int("select count(*) from pg_stat_replication where replay_lsn >= "
                   "pg_current_wal_lsn()",
                   1) ||
        support_postgres_pause(&server) || support_postgres_promote(&replica)) {
        return false;
    }
    PGconn *usual = observer;
    observer = PQconnectdb(replica.url_unix);
    bool promoted = await_int("select pg_is_in_recovery()::int", 0);
    PQfinish(observer);
    observer = usual;
    return promoted;
}

/* With the primary first. Nothing is sent when a connection is given back, so that each test knows
 * what is under way when the primary stops. */
static pier_db *open_both(int connect_timeout_ms, pier_error *err)
{
    char url[256];
    snprintf(url, sizeof url,
             "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres?"
             "target_session_attrs=read-write",
             server.port, replica.port);
    return pier_db_open(runner, url,
                        PIER_DB_OPTIONS(.pool_max = POOL, .reset = PIER_RESET_NONE,
                                        .connect_timeout_ms = connect_timeout_ms),
                        err);
}

static int64_t insert(pier_db *at, pier_error *err)
{
    memset(err, 0, sizeof *err);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = CALL_MS), NULL);
    int64_t status = pier_db_execute(at, "insert into written values (1)", NULL, err);
    pier_scope_close(scope);
    return status;
}

/* All its connections are made, and idle. */
static int fill(pier_db *pool, pier_error *err)
{
    pier_db *leases[POOL];
    pier_error e = {0};
    EXPECT(pier_db_execute(pool, "create table written(x int)", NULL, &e) == 0);
    for (int i = 0; i < POOL; i++) {
        leases[i] = pier_db_lease(pool, &e);
        EXPECT(leases[i]);
    }
    for (int i = 0; i < POOL; i++) {
        pier_db_close(leases[i]);
    }
    return 0;
}

/* How long it takes until a call succeeds; negative: none does. */
static int64_t recover(pier_db *pool, pier_error *err)
{
    int64_t started = support_now_ms();
    while (support_now_ms() - started < RECOVERY_MS + BOUND_MS) {
        if (insert(pool, err) == 1) {
            return support_now_ms() - started;
        }
        if (err->status != PIER_ETIMEDOUT) {
            break;
        }
    }
    return -1;
}

/* The time to connect is 30 s, of which the primary that hangs would have half, and no call has so
 * much: the first one that tries leaves its connection to those that come. */
SCENARIO(test_hung__the_pool_comes_to_the_new_primary)
{
    (void)pool;
    pier_error e = {0};
    pier_db *both = open_both(0, &e);
    EXPECT(both && fill(both, &e) == 0);
    pier_db *tx = pier_db_begin(both, NULL, &e);
    EXPECT(insert(tx, &e) == 1);
    EXPECT(fail_over());
    /* In use. */
    int64_t started = support_now_ms();
    EXPECT(insert(tx, &e) == PIER_ETIMEDOUT);
    pier_db_close(tx);
    EXPECT(support_now_ms() - started < 5000 + CALL_MS + AT_ONCE_MS);
    /* Idle. */
    int64_t took = recover(both, &e);
    EXPECT(took >= 0 && took < RECOVERY_MS);
    /* New connections come to the right one without delay. */
    pier_db_expire(both);
    for (int i = 0; i < 5; i++) {
        int port = 0;
        started = support_now_ms();
        pier_db *lease = pier_db_lease(both, &e);
        EXPECT(pier_db_fetch_into(lease, "select inet_server_port()", NULL, PIER_INTO(&port), &e) ==
               1);
        EXPECT(port == replica.port && support_now_ms() - started < AT_ONCE_MS);
        pier_db_expire(both);
        pier_db_close(lease);
    }
    pier_db_close(both);
    return 0;
}

/* Where all connections are given up at once, those that come wait until the first one is gone. */
static void test_hung__all_connections_are_in_use(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *futures[POOL];
    pier_db *both = open_both(0, &err);
    assert_int_equal(fill(both, &err), 0);
    assert_true(fail_over());
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = CALL_MS), NULL);
    for (int i = 0; i < POOL; i++) {
        futures[i] = pier_db_execute_async(both, "insert into written values (1)", NULL);
    }
    pier_scope_close(scope);
    int64_t took = recover(both, &err);
    for (int i = 0; i < POOL; i++) {
        pier_error why = {0};
        assert_int_equal(pier_db_execute_finish(futures[i], &why), PIER_ETIMEDOUT);
    }
    pier_db_close(both);
    assert_in_range(took, 0, RECOVERY_MS);
}

/* Calls without a deadline of their own, on a new pool: the primary has its share. */
SCENARIO(test_hung__connecting_goes_on_to_the_new_primary)
{
    (void)pool;
    pier_error e = {0};
    EXPECT(fail_over());
    int64_t started = support_now_ms(), took;
    pier_db *both = open_both(CONNECT_MS, &e);
    took = support_now_ms() - started;
    EXPECT(both && took > SHARE_MS - 50 && took < CONNECT_MS);
    pier_db *leases[POOL];
    started = support_now_ms();
    for (int i = 0; i < POOL; i++) {
        leases[i] = pier_db_lease(both, &e);
        EXPECT(leases[i]);
    }
    took = support_now_ms() - started;
    for (int i = 0; i < POOL; i++) {
        pier_db_close(leases[i]);
    }
    pier_db_close(both);
    EXPECT(took < SHARE_MS - 50);
    return 0;
}

/* What the pool has from before is not kept for idle callers to find: pier_db_expire ends it. */
SCENARIO(test_hung__expire_spares_calls_the_idle_connections)
{
    (void)pool;
    pier_error e = {0};
    pier_db *both = open_both(CONNECT_MS, &e);
    EXPECT(both && fill(both, &e) == 0);
    EXPECT(fail_over());
    pier_db_expire(both);
    int64_t started = support_now_ms();
    EXPECT(pier_db_execute(both, "insert into written values (1)", NULL, &e) == 1);
    EXPECT(support_now_ms() - started < CONNECT_MS);
    pier_db_close(both);
    return 0;
}

/* How long a lease takes to come, and how many connections the proxy has taken by then. */
static pier_db *lease_through(pier_db *pool, struct support_proxy *proxy, int64_t *took,
                              int *accepted)
{
    pier_error err = {0};
    int64_t started = support_now_ms();
    pier_db *lease = pier_db_lease(pool, &err);
    *took = support_now_ms() - started;
    *accepted = support_proxy_accepted(proxy);
    if (!lease) {
        fprintf(stderr, "%s\n", err.message);
    }
    return lease;
}

/* What undoes a lease is sent when it is given back, and whoever borrows next reads the answer,
 * which does not come here. Were the connection kept, it would cost call after call its deadline.
 */
static void test_hung__during_a_reset(void **state)
{
    (void)state;
    pier_error err = {0};
    struct support_proxy *proxy = support_proxy_start(server.port);
    pier_pool_stats stats;
    char url[160];
    int number = 0;
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(proxy));
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err);
    pier_db *lease = pier_db_lease(pool, &err);
    assert_int_equal(pier_db_execute(lease, "set lock_timeout = 1000", NULL, &err), 0);
    support_proxy_pause(proxy);
    pier_db_close(lease);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 200), NULL);
    int64_t done = pier_db_execute(pool, "select 1", NULL, &err);
    pier_scope_close(scope);
    support_proxy_resume(proxy);
    int got = pier_db_fetch_into(pool, "select 7", NULL, PIER_INTO(&number), NULL);
    pier_db_stats(pool, &stats);
    pier_db_close(pool);
    support_proxy_stop(proxy);
    assert_int_equal(done, PIER_ETIMEDOUT);
    assert_int_equal(got, 1);
    assert_int_equal(number, 7);
    assert_int_equal(stats.made, 2);
}

/* A host that did not answer in time is not tried again where another one does; when that one is
 * gone, it is. */
static void test_hung__a_host_is_tried_last(void **state)
{
    (void)state;
    enum { LEASES = 4 };
    char url[256];
    pier_error err = {0};
    struct support_proxy *first = support_proxy_start(server.port);
    struct support_proxy *second = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d,127.0.0.1:%d/postgres",
             support_proxy_port(first), support_proxy_port(second));
    pier_db *leases[LEASES];
    int64_t took[LEASES];
    int accepted[LEASES];
    pier_db *pool = pier_db_open(
        runner, url, PIER_DB_OPTIONS(.pool_max = LEASES, .connect_timeout_ms = CONNECT_MS), &err);
    assert_string_equal(err.message, "");
    leases[0] = lease_through(pool, first, &took[0], &accepted[0]);
    support_proxy_pause(first);
    leases[1] = lease_through(pool, first, &took[1], &accepted[1]);
    support_proxy_resume(first);
    bool back = support_proxy_wait_accepted(first, 2, BOUND_MS); /* it takes the one in its queue */
    leases[2] = lease_through(pool, first, &took[2], &accepted[2]);
    support_proxy_stop(second);
    leases[3] = lease_through(pool, first, &took[3], &accepted[3]);
    for (int i = 0; i < LEASES; i++) {
        pier_db_close(leases[i]);
    }
    pier_db_close(pool);
    support_proxy_stop(first);
    assert_true(back);
    assert_true(leases[1] && leases[2] && leases[3]);
    assert_in_range(took[1], SHARE_MS - 50, CONNECT_MS);
    assert_int_equal(accepted[2], 2);
    assert_int_equal(accepted[3], 3);
    assert_true(took[2] < SHARE_MS - 50 && took[3] < SHARE_MS - 50);
}

#define PAIR(name) cmocka_unit_test_setup_teardown(name, open_pair, close_pair)
#define PAIRS(name) PAIR(name), PAIR(name##__in_a_task)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PAIRS(test_hung__the_pool_comes_to_the_new_primary),
        PAIR(test_hung__all_connections_are_in_use),
        PAIRS(test_hung__connecting_goes_on_to_the_new_primary),
        PAIRS(test_hung__expire_spares_calls_the_idle_connections),
        PAIR(test_hung__during_a_reset),
        PAIR(test_hung__a_host_is_tried_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
