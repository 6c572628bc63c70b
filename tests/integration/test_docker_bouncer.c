/*
 * PgBouncer in front of the server, in both modes, with three connections to it. In session mode a
 * client keeps one of them; in transaction mode each transaction may run on another one.
 */
#include "tests/integration/docker_fixture.h"

#include <pthread.h>

enum { THREADS = 8, ROUNDS = 40, SERVERS = 3 /* of docker/pgbouncer/entrypoint */ };

/* Where the connection to the server changes, nothing is prepared by name. */
static const char unnamed[] = "?pier_statements=unnamed";

struct worker {
    pthread_t thread;
    pier_db *db;
    int number;
    pier_error err;
    int64_t sum;
};

/* Eight threads on as many connections as the pool may have. */
static void run_workers(pier_db *db, void *(*work)(void *), struct worker workers[THREADS])
{
    for (int i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.db = db, .number = i};
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_string_equal(workers[i].err.message, "");
    }
}

static void *add_up(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < ROUNDS && worker->err.status == 0; i++) {
        int64_t value = 0;
        pier_db *tx = pier_db_begin(worker->db, NULL, &worker->err);
        if (pier_db_fetch_into(tx, "select $1::int8 + $2::int8", PIER_ARGS(worker->number, i),
                               PIER_INTO(&value), &worker->err) == 1 &&
            pier_db_commit(tx, &worker->err) == 0) {
            worker->sum += value;
        }
        pier_db_close(tx);
    }
    return NULL;
}

/* With arguments, so that statements are prepared where the driver may. */
static void share(const char *service, const char *more, int pool_max)
{
    struct worker workers[THREADS];
    pier_db *db = open_service_with(service, more, pool_max);
    run_workers(db, add_up, workers);
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(workers[i].sum, ROUNDS * (ROUNDS - 1) / 2 + ROUNDS * i);
    }
    pier_db_close(db);
}

static void test_session_mode__threads_share_a_pool(void **state)
{
    (void)state;
    share("BOUNCER_SESSION", "", SERVERS);
}

/* Each client's statements come to all servers in turn. */
static void test_transaction_mode__arguments_of_more_clients_than_connections(void **state)
{
    (void)state;
    share("BOUNCER_TRANSACTION", unnamed, THREADS);
}

static int64_t add_one(pier_db *db, pier_error *err)
{
    int64_t sum = 0;
    int got = pier_db_fetch_into(db, "select $1::int8 + 1", PIER_ARGS(41), PIER_INTO(&sum), err);
    return got == 1 ? sum : got;
}

/* Holds all servers but one, which is not the `other`: so the next transaction runs there. */
static void leave_one_server_but(pier_db *holders, int64_t other, pier_db *held[SERVERS])
{
    int64_t pids[SERVERS];
    for (int i = 0; i < SERVERS; i++) {
        held[i] = pier_db_begin(holders, NULL, NULL);
        pids[i] = ask(held[i], "select pg_backend_pid()");
    }
    int left = pids[0] == other;
    pier_db_close(held[left]);
    held[left] = NULL;
}

static void test_transaction_mode__a_lost_statement_tells_of_the_keyword(void **state)
{
    (void)state;
    pier_db *held[SERVERS];
    pier_error err = {0};
    pier_db *db = open_service("BOUNCER_TRANSACTION", 1),
            *holders = open_service_with("BOUNCER_TRANSACTION", unnamed, SERVERS);
    pier_db *tx = pier_db_begin(db, NULL, &err);
    int64_t first = ask(tx, "select pg_backend_pid()");
    assert_int_equal(add_one(tx, &err), 42);
    assert_int_equal(pier_db_commit(tx, &err), 0);
    pier_db_close(tx);
    leave_one_server_but(holders, first, held);
    /* Within a transaction it cannot be prepared again, since that one has failed. */
    tx = pier_db_begin(db, NULL, &err);
    assert_int_equal(add_one(tx, &err), PIER_ESQL);
    assert_string_equal(err.sqlstate, "26000");
    assert_non_null(strstr(err.message, "add pier_statements=unnamed to the URL"));
    pier_db_close(tx);
    /* Outside of one it is. */
    memset(&err, 0, sizeof err);
    assert_int_equal(add_one(db, &err), 42);
    for (int i = 0; i < SERVERS; i++) {
        pier_db_close(held[i]);
    }
    pier_db_close(db);
    pier_db_close(holders);
}

static void *insert(void *arg)
{
    struct worker *worker = arg;
    for (int i = 0; i < ROUNDS && worker->err.status == 0; i++) {
        pier_db *tx = pier_db_begin(worker->db, NULL, &worker->err);
        if (pier_db_execute_script(tx, "insert into bounced values (1); select txid_current()",
                                   &worker->err) == 0 &&
            pier_db_commit(tx, &worker->err) == 0) {
            worker->sum++;
        }
        pier_db_close(tx);
    }
    return NULL;
}

/* More clients than PgBouncer has connections, so that these do change hands. */
static void test_transaction_mode__more_clients_than_connections(void **state)
{
    (void)state;
    struct worker workers[THREADS];
    pier_error err = {0};
    pier_db *db = open_service("BOUNCER_TRANSACTION", THREADS),
            *direct = open_service("POSTGRES", 1);
    assert_int_equal(pier_db_execute_script(
                         direct, "drop table if exists bounced; create table bounced(x int)", &err),
                     0);
    run_workers(db, insert, workers);
    assert_int_equal(ask(direct, "select count(*) from bounced"), THREADS * ROUNDS);
    assert_int_equal(pier_db_execute_script(direct, "drop table bounced", &err), 0);
    pier_db_close(db);
    pier_db_close(direct);
}

/* The cursor's rows come as they are read, in one transaction or one statement. */
static void stream(const char *service)
{
    pier_db *db = open_service(service, 2);
    pier_error err = {0};
    pier_cursor *cursor = pier_db_cursor(db, "select generate_series(1, 5000)", NULL, &err);
    int64_t sum = 0;
    for (const pier_row *row; (row = pier_cursor_next(cursor));) {
        sum += pier_row_int64(row, 0);
    }
    assert_int_equal(pier_cursor_close(cursor, &err), 0);
    assert_int_equal(sum, 5000 * 5001 / 2);
    pier_db_close(db);
}

static void test_session_mode__cursors_stream(void **state)
{
    (void)state;
    stream("BOUNCER_SESSION");
}

static void test_transaction_mode__cursors_stream(void **state)
{
    (void)state;
    stream("BOUNCER_TRANSACTION");
}

static void test_transaction_mode__transactions_stay_together(void **state)
{
    (void)state;
    pier_db *db = open_service("BOUNCER_TRANSACTION", 4);
    pier_error err = {0};
    pier_db *tx = pier_db_begin(db, NULL, &err);
    assert_non_null(tx);
    int64_t first = ask(tx, "select pg_backend_pid()");
    for (int i = 0; i < 20; i++) {
        assert_int_equal(ask(db, "select 1"), 1);
        assert_int_equal(ask(tx, "select pg_backend_pid()"), first);
    }
    assert_int_equal(pier_db_commit(tx, &err), 0);
    pier_db_close(tx);
    pier_db_close(db);
}

static void test_transaction_mode__a_deadline_cancels_on_the_server(void **state)
{
    (void)state;
    pier_db *db = open_service("BOUNCER_TRANSACTION", 1), *direct = open_service("POSTGRES", 1);
    pier_error err = {0};
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 300), NULL);
    int64_t status = pier_db_execute(db, "select pg_sleep(50.25)", NULL, &err);
    pier_scope_close(scope);
    assert_int_equal(status, PIER_ETIMEDOUT);
    int64_t end = support_now_ms() + BOUND_MS;
    while (ask(direct,
               "select count(*) from pg_stat_activity where query like '%pg_sleep(50.2%' and "
               "state = 'active' and pid <> pg_backend_pid()") &&
           support_now_ms() < end) {
    }
    assert_true(support_now_ms() < end);
    assert_int_equal(ask(db, "select 7"), 7);
    pier_db_close(db);
    pier_db_close(direct);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_session_mode__threads_share_a_pool),
        TEST(test_session_mode__cursors_stream),
        TEST(test_transaction_mode__cursors_stream),
        TEST(test_transaction_mode__transactions_stay_together),
        TEST(test_transaction_mode__a_deadline_cancels_on_the_server),
        TEST(test_transaction_mode__more_clients_than_connections),
        TEST(test_transaction_mode__arguments_of_more_clients_than_connections),
        TEST(test_transaction_mode__a_lost_statement_tells_of_the_keyword),
    };
    return cmocka_run_group_tests(tests, needs_containers, NULL);
}
