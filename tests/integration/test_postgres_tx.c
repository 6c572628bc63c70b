/* Transactions on Postgres: what they are begun with, and when they are tried again. */
#include "tests/integration/postgres_fixture.h"

static void make_table(void)
{
    PQclear(PQexec(observer, "drop table if exists t;"
                             "create table t(id int primary key, n int);"
                             "insert into t values (1, 0), (2, 0)"));
}

static int open_table(void **state)
{
    if (open_db(state)) {
        return -1;
    }
    make_table();
    return 0;
}

#define TABLE(name) cmocka_unit_test_setup_teardown(name, open_table, close_db)
#define BOTH_TABLE(name) TABLE(name), TABLE(name##__in_a_task)

/* ---- Beginning ---------------------------------------------------------------------------- */

static bool is_begun(pier_db *pool, const pier_tx_options *options, const char *expected,
                     pier_error *err)
{
    char seen[64] = "";
    pier_db *tx = pier_db_begin(pool, options, err);
    int got = pier_db_fetch_into(tx,
                                 "select current_setting('transaction_isolation') || ' ' ||"
                                 "current_setting('transaction_read_only') || ' ' ||"
                                 "current_setting('transaction_deferrable')",
                                 NULL, PIER_INTO(pier_into_buffer(seen, sizeof seen)), err);
    pier_db_close(tx);
    return got == 1 && strcmp(seen, expected) == 0;
}

SCENARIO(test_begin__says_what_it_was_asked_for)
{
    pier_error e = {0};
    EXPECT(is_begun(pool, NULL, "read committed off off", &e));
    EXPECT(is_begun(pool, PIER_TX_OPTIONS(.read_only = true), "read committed on off", &e));
    EXPECT(is_begun(pool, PIER_TX_OPTIONS(.isolation = PIER_READ_COMMITTED),
                    "read committed off off", &e));
    EXPECT(is_begun(pool, PIER_TX_OPTIONS(.isolation = PIER_REPEATABLE_READ),
                    "repeatable read off off", &e));
    EXPECT(is_begun(pool, PIER_TX_OPTIONS(.isolation = PIER_SERIALIZABLE), "serializable off off",
                    &e));
    EXPECT(is_begun(pool,
                    PIER_TX_OPTIONS(.isolation = PIER_SERIALIZABLE, .read_only = true,
                                    .deferrable = true),
                    "serializable on on", &e));
    return 0;
}

static void test_begin__refuses_what_has_no_meaning(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_null(pier_db_begin(db, PIER_TX_OPTIONS(.isolation = 4), &err));
    assert_int_equal(err.status, PIER_EINVAL);
    memset(&err, 0, sizeof err);
    assert_null(pier_db_begin(db, PIER_TX_OPTIONS(.deferrable = true, .read_only = true), &err));
    assert_int_equal(err.status, PIER_EINVAL);
    assert_non_null(strstr(err.message, "deferrable goes with"));
}

SCENARIO(test_begin__a_read_only_one_does_not_write)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, PIER_TX_OPTIONS(.read_only = true), &e);
    EXPECT(pier_db_execute(tx, "update t set n = 1", NULL, &e) == PIER_ESQL);
    EXPECT(strcmp(e.sqlstate, "25006") == 0);
    pier_db_close(tx);
    return 0;
}

/* A deferrable one waits for a writer that could make it fail, and obeys its deadline meanwhile. */
static void test_begin__a_deferrable_one_waits_for_a_safe_state(void **state)
{
    (void)state;
    pier_error err = {0};
    int64_t n = -1;
    PQclear(PQexec(observer, "begin isolation level serializable; update t set n = 5"));
    pier_db *tx = pier_db_begin(
        db, PIER_TX_OPTIONS(.isolation = PIER_SERIALIZABLE, .read_only = true, .deferrable = true),
        &err);
    pier_future *future = pier_db_fetch_async(tx, "select sum(n) from t", NULL);
    assert_true(
        await_int("select count(*) from pg_stat_activity where wait_event = 'SafeSnapshot'", 1));
    PQclear(PQexec(observer, "commit"));
    pier_result *result = pier_db_fetch_finish(future, &err);
    assert_int_equal(err.status, 0);
    n = pier_row_int64(pier_result_row(result, 0), 0);
    assert_true(n == 0 || n == 10);
    pier_result_free(result);
    pier_db_close(tx);
}

/* ---- Savepoints --------------------------------------------------------------------------- */

SCENARIO(test_savepoint__takes_back_what_was_done_in_it)
{
    pier_error e = {0};
    pier_db *tx = pier_db_begin(pool, NULL, &e);
    EXPECT(pier_db_execute(tx, "update t set n = 1 where id = 1", NULL, &e) == 1);
    pier_db *outer = pier_db_begin(tx, NULL, &e);
    EXPECT(pier_db_execute(outer, "update t set n = 2 where id = 1", NULL, &e) == 1);
    pier_db *inner = pier_db_begin(outer, NULL, &e);
    EXPECT(pier_db_execute(inner, "select 1 / 0", NULL, &e) == PIER_ESQL);
    memset(&e, 0, sizeof e);
    pier_db_close(inner);
    inner = pier_db_begin(outer, NULL, &e);
    EXPECT(pier_db_execute(inner, "update t set n = 9 where id = 2", NULL, &e) == 1);
    EXPECT(pier_db_commit(inner, &e) == 0);
    pier_db_close(inner);
    pier_db_close(outer); /* the inner one as well */
    EXPECT(pier_db_commit(tx, &e) == 0);
    pier_db_close(tx);
    int64_t first = 0, second = 0;
    EXPECT(pier_db_fetch_into(pool,
                              "select n::int8, (select n::int8 from t where id = 2) from t "
                              "where id = 1",
                              NULL, PIER_INTO(&first, &second), &e) == 1);
    EXPECT(first == 1 && second == 0);
    return 0;
}

/* ---- Tried again -------------------------------------------------------------------------- */

struct attempt {
    int count;
};

/* Another session changes the row between the snapshot and the update, the first time. */
static int update_what_was_read(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    int64_t n = 0;
    if (pier_db_fetch_into(tx, "select n::int8 from t where id = 1", NULL, PIER_INTO(&n), err) <
        0) {
        return err->status;
    }
    if (attempt->count++ == 0) {
        PQclear(PQexec(observer, "update t set n = n + 10 where id = 1"));
    }
    int64_t done = pier_db_execute(tx, "update t set n = $1 where id = 1", PIER_ARGS(n + 1), err);
    return done < 0 ? (int)done : 7;
}

SCENARIO(test_transaction__is_tried_again_after_a_serialization_failure)
{
    pier_error e = {0};
    struct attempt attempt = {0};
    int status =
        pier_db_transaction(pool, PIER_TX_OPTIONS(.isolation = PIER_REPEATABLE_READ, .attempts = 3),
                            update_what_was_read, &attempt, &e);
    EXPECT(status == 7 && attempt.count == 2 && e.status == 0);
    int64_t n = 0;
    EXPECT(pier_db_fetch_into(pool, "select n::int8 from t where id = 1", NULL, PIER_INTO(&n),
                              &e) == 1);
    EXPECT(n == 11);
    return 0;
}

SCENARIO(test_transaction__without_attempts_the_failure_is_reported)
{
    pier_error e = {0};
    struct attempt attempt = {0};
    EXPECT(pier_db_transaction(pool, PIER_TX_OPTIONS(.isolation = PIER_REPEATABLE_READ),
                               update_what_was_read, &attempt, &e) == PIER_ESERIALIZATION);
    EXPECT(attempt.count == 1 && strcmp(e.sqlstate, "40001") == 0);
    return 0;
}

/* Each reads what the other writes, so only one of them may commit; which statement of the second
 * one fails, or its commit, is the server's choice. */
static int skew(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    pier_result *result = pier_db_fetch(tx, "select sum(n) from t where id = 1", NULL, err);
    pier_result_free(result);
    if (attempt->count++ == 0) {
        PQclear(PQexec(observer, "begin isolation level serializable;"
                                 "select sum(n) from t where id = 2;"
                                 "update t set n = n + 1 where id = 1;"
                                 "commit"));
    }
    return (int)pier_db_execute(tx, "update t set n = n + 1 where id = 2", NULL, err);
}

SCENARIO(test_transaction__is_tried_again_where_the_order_is_impossible)
{
    pier_error e = {0};
    struct attempt attempt = {0};
    EXPECT(pier_db_transaction(pool, PIER_TX_OPTIONS(.isolation = PIER_SERIALIZABLE, .attempts = 5),
                               skew, &attempt, &e) == 1);
    EXPECT(attempt.count == 2);
    return 0;
}

/* The other session waits for our row first, and never looks for a deadlock; we look soon, and so
 * are the one that is given up. */
static int collide(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    pier_db_execute(tx, "set local deadlock_timeout = '10ms'", NULL, err);
    int64_t done = pier_db_execute(tx, "update t set n = n + 1 where id = 1", NULL, err);
    if (attempt->count++ == 0) {
        PQclear(PQexec(observer, "set deadlock_timeout = '1h'"));
        PQclear(PQexec(observer, "begin; update t set n = n + 10 where id = 2"));
        PQsendQuery(observer, "update t set n = n + 10 where id = 1");
        int64_t waiting = 0;
        while (done >= 0 && !waiting) {
            done = pier_db_fetch_into(tx, "select count(*) from pg_locks where not granted", NULL,
                                      PIER_INTO(&waiting), err);
        }
    }
    return done < 0 ? (int)done
                    : (int)pier_db_execute(tx, "update t set n = n + 1 where id = 2", NULL, err);
}

static void end_observer(void)
{
    for (PGresult *result; (result = PQgetResult(observer));) {
        PQclear(result);
    }
    PQclear(PQexec(observer, "commit; reset deadlock_timeout"));
}

/* The row that the first attempt had is the observer's now until it commits, so the second attempt
 * must let it do that first. */
static int collide_once(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    if (attempt->count == 1) {
        end_observer();
    }
    return collide(tx, arg, err);
}

/* On the test's thread alone: the observer blocks it. */
static void test_transaction__is_tried_again_after_a_deadlock(void **state)
{
    (void)state;
    pier_error e = {0};
    struct attempt attempt = {0};
    int status =
        pier_db_transaction(db, PIER_TX_OPTIONS(.attempts = 3), collide_once, &attempt, &e);
    end_observer();
    assert_int_equal(status, 1);
    assert_int_equal(attempt.count, 2);
    assert_int_equal(look_int("select sum(n) from t"), 22);
}

static int always_in_conflict(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    attempt->count++;
    return (int)pier_db_execute(
        tx, "do $$ begin raise exception 'no' using errcode = 'serialization_failure'; end $$",
        NULL, err);
}

SCENARIO(test_transaction__is_not_tried_for_ever)
{
    pier_error e = {0};
    struct attempt attempt = {0};
    EXPECT(pier_db_transaction(pool, PIER_TX_OPTIONS(.attempts = 4), always_in_conflict, &attempt,
                               &e) == PIER_ESERIALIZATION);
    EXPECT(attempt.count == 4);
    return 0;
}

static int breaks_a_rule(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    attempt->count++;
    return (int)pier_db_execute(tx, "insert into t values (1, 1)", NULL, err);
}

SCENARIO(test_transaction__other_failures_are_not_tried_again)
{
    pier_error e = {0};
    struct attempt attempt = {0};
    EXPECT(pier_db_transaction(pool, PIER_TX_OPTIONS(.attempts = 4), breaks_a_rule, &attempt, &e) ==
           PIER_ECONSTRAINT);
    EXPECT(attempt.count == 1);
    return 0;
}

/* ---- A commit whose answer is lost --------------------------------------------------------- */

static struct support_proxy *proxy;

static pier_db *open_through_proxy(pier_error *err)
{
    char url[128];
    proxy = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(proxy));
    return pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), err);
}

static int count_and_cut(pier_db *tx, void *arg, pier_error *err)
{
    struct attempt *attempt = arg;
    attempt->count++;
    int64_t done = pier_db_execute(tx, "update t set n = n + 1 where id = 1", NULL, err);
    /* The commit arrives; what is said to it does not, but for a byte. */
    support_proxy_cut_after(proxy, SUPPORT_TO_CLIENT, 1);
    return (int)done;
}

static void test_commit__whose_answer_is_lost_is_not_tried_again(void **state)
{
    (void)state;
    needs_own_server();
    make_table();
    pier_error err = {0};
    struct attempt attempt = {0};
    pier_db *pool = open_through_proxy(&err);
    assert_non_null(pool);
    assert_int_equal(pier_db_transaction(pool, PIER_TX_OPTIONS(.attempts = 5), count_and_cut,
                                         &attempt, &err),
                     PIER_EIO);
    assert_int_equal(attempt.count, 1);
    assert_non_null(strstr(err.message, "whether it took effect is not known"));
    assert_true(await_int("select n from t where id = 1", 1));
    pier_db_close(pool);
    support_proxy_stop(proxy);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH_TABLE(test_begin__says_what_it_was_asked_for),
        TABLE(test_begin__refuses_what_has_no_meaning),
        BOTH_TABLE(test_begin__a_read_only_one_does_not_write),
        TABLE(test_begin__a_deferrable_one_waits_for_a_safe_state),
        BOTH_TABLE(test_savepoint__takes_back_what_was_done_in_it),
        BOTH_TABLE(test_transaction__is_tried_again_after_a_serialization_failure),
        BOTH_TABLE(test_transaction__without_attempts_the_failure_is_reported),
        BOTH_TABLE(test_transaction__is_tried_again_where_the_order_is_impossible),
        TABLE(test_transaction__is_tried_again_after_a_deadlock),
        BOTH_TABLE(test_transaction__is_not_tried_for_ever),
        BOTH_TABLE(test_transaction__other_failures_are_not_tried_again),
        TABLE(test_commit__whose_answer_is_lost_is_not_tried_again),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
