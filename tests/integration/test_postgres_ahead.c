/* Requests of the loop's on one connection are on the wire behind each other, before the first is
 * answered; each gets its own answer, whatever becomes of the others. */
#include "tests/integration/postgres_fixture.h"
#include "tests/support/tcp.h"

#include "sdk/alloc.h"

enum { BEHIND = 8, GATE = 5, REQUEST_BYTES = 30 /* at least, on the wire */ };

#define SQL_GATE "select pg_advisory_xact_lock($1)"
#define SQL_ECHO "select $1::int"
#define SQL_DIVIDE "select 10 / $1::int"

static struct support_proxy *proxy;
static pier_db *pool, *lease;

/* A lease through a proxy, which has the statements above prepared. */
static void open_lease(void)
{
    char url[256];
    pier_error err = {0};
    needs_own_server();
    proxy = support_proxy_start(server.port);
    assert_non_null(proxy);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres",
             support_proxy_port(proxy));
    pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err);
    lease = pier_db_lease(pool, &err);
    assert_string_equal(err.message, "");
    pier_db_execute(lease, SQL_GATE, PIER_ARGS(GATE), &err);
    pier_db_execute(lease, SQL_ECHO, PIER_ARGS(1), &err);
    pier_db_execute(lease, SQL_DIVIDE, PIER_ARGS(1), &err);
    assert_string_equal(err.message, "");
}

static void close_lease(void)
{
    pier_db_close(lease);
    pier_db_close(pool);
    support_proxy_stop(proxy);
}

static void shut_gate(void)
{
    look_int("select pg_advisory_lock(5)");
}

static void open_gate(void)
{
    look_int("select pg_advisory_unlock(5)");
}

struct sent {
    int64_t bytes;
};

static bool has_sent(void *user_data)
{
    return support_proxy_bytes(proxy, SUPPORT_TO_SERVER) >= ((struct sent *)user_data)->bytes;
}

/* Waits until so many more requests are on the wire. */
static bool await_sent(int64_t before, int count)
{
    struct sent sent = {before + (int64_t)count * REQUEST_BYTES};
    return support_wait_until(has_sent, &sent, BOUND_MS);
}

static int64_t count_bytes(void)
{
    return support_proxy_bytes(proxy, SUPPORT_TO_SERVER);
}

static pier_future *echo(pier_db *scope, int number)
{
    return pier_db_fetch_async(scope, SQL_ECHO, PIER_ARGS(number));
}

/* The number that it gives; negative: it failed with `err`. */
static int finish(pier_future *future, pier_error *err)
{
    *err = (pier_error){0};
    pier_result *result = pier_db_fetch_finish(future, err);
    int number = result ? (int)pier_row_int64(pier_result_row(result, 0), 0) : err->status;
    pier_result_free(result);
    return number;
}

/* One that the server does not answer before open_gate, and is running. */
static pier_future *start_gate(pier_db *scope)
{
    pier_future *future = pier_db_execute_async(scope, SQL_GATE, PIER_ARGS(GATE));
    assert_true(await_running("pg_advisory_xact_lock($1)", 1));
    return future;
}

static int64_t finish_gate(pier_future *future)
{
    pier_error err = {0};
    return pier_db_execute_finish(future, &err) < 0 ? err.status : 0;
}

static int backend(void)
{
    pier_error err = {0};
    int pid = 0;
    int got = pier_db_fetch_into(lease, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    return pid;
}

static void test_ahead__all_are_on_the_wire_before_the_first_is_answered(void **state)
{
    (void)state;
    pier_error err;
    pier_future *futures[BEHIND];
    open_lease();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    for (int i = 0; i < BEHIND; i++) {
        futures[i] = echo(lease, 100 + i);
    }
    bool sent = await_sent(before, BEHIND);
    open_gate();
    assert_true(sent);
    assert_int_equal(finish_gate(gate), 0);
    for (int i = 0; i < BEHIND; i++) {
        assert_int_equal(finish(futures[i], &err), 100 + i);
    }
    close_lease();
}

static void test_ahead__one_that_fails_fails_alone(void **state)
{
    (void)state;
    pier_error err;
    open_lease();
    shut_gate();
    pier_future *gate = start_gate(lease);
    pier_future *first = echo(lease, 1);
    pier_future *wrong = pier_db_fetch_async(lease, SQL_DIVIDE, PIER_ARGS(0));
    pier_future *last = echo(lease, 3);
    open_gate();
    assert_int_equal(finish_gate(gate), 0);
    assert_int_equal(finish(first, &err), 1);
    assert_int_equal(finish(wrong, &err), PIER_ESQL);
    assert_string_equal(err.sqlstate, "22012");
    assert_int_equal(finish(last, &err), 3);
    close_lease();
}

static void test_ahead__in_a_transaction_those_behind_a_failure_tell_of_it(void **state)
{
    (void)state;
    pier_error err = {0};
    open_lease();
    pier_db_execute(lease, "create table t(id int)", NULL, &err);
    pier_db *tx = pier_db_begin(lease, NULL, &err);
    assert_int_equal(pier_db_execute(tx, "insert into t values($1)", PIER_ARGS(1), &err), 1);
    shut_gate();
    pier_future *gate = start_gate(tx);
    int64_t before = count_bytes();
    pier_future *wrong = pier_db_fetch_async(tx, SQL_DIVIDE, PIER_ARGS(0));
    pier_future *behind = pier_db_execute_async(tx, "insert into t values($1)", PIER_ARGS(2));
    pier_future *last = echo(tx, 3);
    bool sent = await_sent(before, 3);
    open_gate();
    assert_true(sent);
    assert_int_equal(finish_gate(gate), 0);
    assert_int_equal(finish(wrong, &err), PIER_ESQL);
    assert_string_equal(err.sqlstate, "22012");
    err = (pier_error){0};
    assert_true(pier_db_execute_finish(behind, &err) < 0);
    assert_string_equal(err.sqlstate, "22012"); /* what happened, not that the rest was refused */
    assert_true(finish(last, &err) < 0);
    assert_string_equal(err.sqlstate, "22012");
    err = (pier_error){0};
    assert_true(pier_db_commit(tx, &err) < 0);
    assert_string_equal(err.sqlstate, "22012");
    pier_db_close(tx);
    assert_int_equal(look_int("select count(*) from t"), 0);
    close_lease();
}

static void test_ahead__who_is_cancelled_leaves_at_once_and_the_others_get_their_own(void **state)
{
    (void)state;
    pier_error err;
    open_lease();
    int pid = backend();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *first = echo(lease, 1), *second = echo(lease, 2), *third = echo(lease, 3);
    pier_future *fourth = echo(lease, 4);
    bool sent = await_sent(before, 4);
    pier_future_cancel(second);
    pier_future_cancel(fourth);
    int settled =
        pier_future_wait(second, BOUND_MS, &err) + pier_future_wait(fourth, BOUND_MS, &err);
    bool gate_waits = !pier_future_done(gate);
    open_gate();
    assert_true(sent && gate_waits);
    assert_int_equal(settled, 2);
    assert_int_equal(finish(second, &err), PIER_ECANCELLED);
    assert_int_equal(finish(fourth, &err), PIER_ECANCELLED);
    assert_int_equal(finish_gate(gate), 0);
    assert_int_equal(finish(first, &err), 1);
    assert_int_equal(finish(third, &err), 3);
    assert_int_equal(backend(), pid);
    close_lease();
}

static void test_ahead__cancelling_one_does_not_cancel_those_behind_it(void **state)
{
    (void)state;
    pier_error err;
    open_lease();
    int pid = backend();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *first = echo(lease, 1), *second = echo(lease, 2);
    bool sent = await_sent(before, 2);
    int accepted = support_proxy_accepted(proxy);
    pier_future_cancel(gate);
    /* That nothing happens has no event: a cancel request would be under way at once, and after 20
     * ms again. A machine that is slow can only hide a failure here, not make one. */
    usleep(100000);
    bool cancels = support_proxy_accepted(proxy) > accepted;
    open_gate();
    assert_true(sent);
    assert_false(cancels);
    finish_gate(gate);
    assert_int_equal(finish(first, &err), 1);
    assert_int_equal(finish(second, &err), 2);
    assert_int_equal(backend(), pid);
    close_lease();
}

static void test_ahead__cancelling_all_cancels_on_the_server(void **state)
{
    (void)state;
    pier_error err;
    open_lease();
    int pid = backend();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *first = echo(lease, 1), *second = echo(lease, 2);
    bool sent = await_sent(before, 2);
    pier_future_cancel(gate);
    pier_future_cancel(first);
    pier_future_cancel(second);
    bool settled = pier_future_wait(gate, BOUND_MS, &err) == 1;
    open_gate();
    assert_true(sent && settled);
    assert_int_equal(finish_gate(gate), PIER_ECANCELLED);
    assert_int_equal(finish(first, &err), PIER_ECANCELLED);
    assert_int_equal(finish(second, &err), PIER_ECANCELLED);
    assert_int_equal(backend(), pid);
    close_lease();
}

/* What was sent for somebody who has left does not hold up the next one for long. */
static void test_ahead__what_nobody_wants_is_cancelled_for_the_next(void **state)
{
    (void)state;
    pier_error err = {0};
    open_lease();
    int pid = backend();
    pier_db_execute(lease, "select pg_sleep($1::float8)", PIER_ARGS(0.0), &err);
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *slow =
        pier_db_execute_async(lease, "select pg_sleep($1::float8)", PIER_ARGS(600.0));
    bool sent = await_sent(before, 1);
    pier_future_cancel(slow);
    open_gate();
    assert_true(sent);
    assert_int_equal(finish_gate(gate), 0);
    assert_true(pier_db_execute_finish(slow, &err) < 0);
    assert_int_equal(finish(echo(lease, 7), &err), 7);
    assert_int_equal(backend(), pid);
    close_lease();
}

static void test_ahead__a_changed_table_is_prepared_anew(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *futures[BEHIND];
    const char *sql = "select * from t where id = $1";
    open_lease();
    pier_db_execute_script(lease, "create table t(id int); insert into t values(1)", &err);
    pier_result_free(pier_db_fetch(lease, sql, PIER_ARGS(1), &err));
    look_int("alter table t add column more text default 'new'");
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    for (int i = 0; i < BEHIND; i++) {
        futures[i] = pier_db_fetch_async(lease, sql, PIER_ARGS(1));
    }
    bool sent = await_sent(before, BEHIND);
    open_gate();
    assert_true(sent);
    assert_int_equal(finish_gate(gate), 0);
    for (int i = 0; i < BEHIND; i++) {
        pier_result *result = pier_db_fetch_finish(futures[i], &err);
        assert_string_equal(err.message, "");
        assert_int_equal(pier_result_columns(result), 2);
        assert_string_equal(pier_row_text(pier_result_row(result, 0), 1), "new");
        pier_result_free(result);
    }
    close_lease();
}

static void test_ahead__a_session_that_ends_ends_them_all(void **state)
{
    (void)state;
    pier_error err;
    pier_future *futures[BEHIND];
    char sql[64];
    open_lease();
    int pid = backend();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    for (int i = 0; i < BEHIND; i++) {
        futures[i] = echo(lease, i);
    }
    bool sent = await_sent(before, BEHIND);
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    look_int(sql);
    int64_t status = finish_gate(gate);
    open_gate();
    assert_true(sent);
    assert_int_equal(status, PIER_EIO);
    for (int i = 0; i < BEHIND; i++) {
        assert_int_equal(finish(futures[i], &err), PIER_EIO);
    }
    pier_db_close(lease);
    lease = NULL;
    assert_int_equal(finish(echo(pool, 9), &err), 9);
    close_lease();
}

/* Its answer would be read by the next borrower. */
static void test_ahead__a_lease_that_is_closed_leaves_no_answer_behind(void **state)
{
    (void)state;
    pier_error err;
    open_lease();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *first = echo(lease, 1);
    bool sent = await_sent(before, 1);
    pier_future_cancel(first);
    int status = finish(first, &err);
    open_gate();
    assert_true(sent);
    assert_int_equal(status, PIER_ECANCELLED);
    assert_int_equal(finish_gate(gate), 0);
    pier_db_close(lease);
    lease = NULL;
    for (int i = 0; i < 4; i++) {
        assert_int_equal(finish(echo(pool, 40 + i), &err), 40 + i);
    }
    close_lease();
}

/* Its end is not waited for forever, and nobody behind it is told another one's answer. */
static void test_ahead__what_cannot_be_cancelled_is_given_up(void **state)
{
    (void)state;
    pier_error err;
    open_lease();
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *first = echo(lease, 1), *second = echo(lease, 2);
    bool sent = await_sent(before, 2);
    pier_future_cancel(gate);
    bool settled = pier_future_wait(gate, BOUND_MS, &err) == 1;
    int ends[] = {finish(first, &err), finish(second, &err)};
    open_gate();
    assert_true(sent && settled);
    assert_int_equal(finish_gate(gate), PIER_ECANCELLED);
    assert_int_equal(ends[0], PIER_EIO);
    assert_int_equal(ends[1], PIER_EIO);
    assert_non_null(strstr(err.message, "could not be cancelled"));
    pier_db_close(lease);
    lease = NULL;
    assert_int_equal(finish(echo(pool, 9), &err), 9);
    close_lease();
}

/* ---- Reading behind what nobody wants -------------------------------------------------------- */

#define SQL_SLEEP "select pg_sleep($1::float8)"

/* The gate, behind it one that takes forever and is not wanted any more, and one that reads behind
 * that: it has its turn, and waits for an answer that is not its own. */
static pier_future *start_behind_unwanted(const char *sql, const pier_args *args,
                                          const char *before_sql, const pier_args *before_args)
{
    pier_error err = {0};
    pier_db_execute(lease, SQL_SLEEP, PIER_ARGS(0.0), &err);
    shut_gate();
    pier_future *gate = start_gate(lease);
    int64_t before = count_bytes();
    pier_future *failing = pier_db_execute_async(lease, before_sql, before_args);
    pier_future *slow = pier_db_execute_async(lease, SQL_SLEEP, PIER_ARGS(600.0));
    pier_future *future = pier_db_execute_async(lease, sql, args);
    bool sent = await_sent(before, 3);
    pier_future_cancel(failing);
    pier_future_cancel(slow);
    open_gate();
    assert_true(sent);
    assert_int_equal(finish_gate(gate), 0);
    assert_true(pier_db_execute_finish(failing, &err) < 0);
    assert_true(pier_db_execute_finish(slow, &err) < 0);
    assert_true(await_running("pg_sleep($1::float8)", 1));
    return future;
}

static void test_ahead__who_is_cancelled_while_it_reads_for_others_ends_at_once(void **state)
{
    (void)state;
    pier_error err = {0};
    open_lease();
    int pid = backend();
    pier_future *future =
        start_behind_unwanted(SQL_SLEEP, PIER_ARGS(600.0), SQL_ECHO, PIER_ARGS(1));
    int64_t started = support_now_ms();
    pier_future_cancel(future);
    assert_true(pier_db_execute_finish(future, &err) < 0);
    assert_int_equal(err.status, PIER_ECANCELLED);
    assert_true(support_now_ms() - started < AT_ONCE_MS);
    assert_int_equal(backend(), pid);
    close_lease();
}

static void test_ahead__an_error_that_nobody_wanted_is_not_told_to_others(void **state)
{
    (void)state;
    pier_error err = {0};
    char sql[64];
    open_lease();
    int pid = backend();
    pier_future *future = start_behind_unwanted(SQL_ECHO, PIER_ARGS(5), SQL_DIVIDE, PIER_ARGS(0));
    support_proxy_kill_connections(proxy);
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid); /* it sleeps on */
    look_int(sql);
    assert_true(pier_db_execute_finish(future, &err) < 0);
    assert_int_equal(err.status, PIER_EIO);
    assert_null(strstr(err.message, "division"));
    assert_string_equal(err.sqlstate, "");
    pier_db_close(lease);
    lease = NULL;
    close_lease();
}

static void test_ahead__last_words_that_come_with_another_answer_are_told(void **state)
{
    (void)state;
    pier_error err = {0};
    char sql[64];
    open_lease();
    int pid = backend();
    pier_future *future = start_behind_unwanted(SQL_ECHO, PIER_ARGS(5), SQL_ECHO, PIER_ARGS(1));
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    look_int(sql);
    assert_true(pier_db_execute_finish(future, &err) < 0);
    assert_int_equal(err.status, PIER_EIO);
    assert_string_equal(err.sqlstate, "57P01");
    pier_db_close(lease);
    lease = NULL;
    close_lease();
}

/* What stood behind it would be read as its data. */
static void test_ahead__nothing_follows_a_copy(void **state)
{
    (void)state;
    pier_error err = {0};
    open_lease();
    int pid = backend();
    pier_db_execute(lease, "create table t(id int)", NULL, &err);
    for (int i = 0; i < 3; i++) {
        pier_future *copy = pier_db_execute_async(lease, "copy t from stdin", NULL);
        pier_future *behind = echo(lease, i);
        assert_true(pier_db_execute_finish(copy, &err) < 0);
        assert_int_equal(err.status, PIER_ESQL);
        assert_int_equal(finish(behind, &err), i);
    }
    assert_int_equal(backend(), pid);
    close_lease();
}

/* ---- Without memory ----------------------------------------------------------------------- */

static atomic_int failing; /* the allocation that fails, from 1; 0: none */

static bool fail_one(size_t size)
{
    (void)size;
    return atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1;
}

/* Several at once, twice: a failure may cost the connection, and with it all that use it. */
static void run_without(int n, bool *failed)
{
    pier_error err = {0};
    pier_future *futures[BEHIND];
    pier_db *own = pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 1), &err);
    pier_db *one = pier_db_lease(own, &err);
    pier_result_free(pier_db_fetch(one, SQL_ECHO, PIER_ARGS(1), &err));
    assert_string_equal(err.message, "");
    atomic_store(&failing, n);
    pier__alloc_set_gate(fail_one);
    for (int i = 0; i < BEHIND; i++) {
        futures[i] = echo(one, i);
    }
    for (int i = 0; i < BEHIND; i++) {
        int number = finish(futures[i], &err);
        *failed = *failed || number < 0;
        assert_true(number == i || number == PIER_ENOMEM || number == PIER_EIO);
    }
    pier__alloc_set_gate(NULL);
    *failed = *failed || atomic_load(&failing) <= 0;
    atomic_store(&failing, 0);
    pier_db_close(one);
    assert_int_equal(finish(echo(own, 9), &err), 9);
    pier_db_close(own);
}

static void test_ahead__each_allocation_may_fail(void **state)
{
    (void)state;
    bool failed = true;
    int n = 0;
    while (failed) {
        failed = false;
        run_without(++n, &failed);
    }
    assert_true(n > 15);
}

/* ---- Many --------------------------------------------------------------------------------- */

static uint32_t draw(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;
    return *seed;
}

/* More than may be on the wire at once, with failures, cancels and other requests among them. */
static void test_ahead__each_gets_its_own_answer(void **state)
{
    (void)state;
    enum { MANY = 300, ROUNDS = 8 };
    static pier_future *futures[MANY];
    static uint32_t kinds[MANY];
    uint32_t seed = 88172645;
    pier_error err;
    open_lease();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < MANY; i++) {
            kinds[i] = draw(&seed) % 16;
            futures[i] = kinds[i] == 0   ? pier_db_fetch_async(lease, SQL_DIVIDE, PIER_ARGS(0))
                         : kinds[i] == 1 ? pier_db_fetch_async(lease, "select 1000", NULL)
                                         : echo(lease, i);
            if (kinds[i] == 2) {
                pier_future_cancel(futures[i / 2 + draw(&seed) % (uint32_t)(i / 2 + 1)]);
                kinds[i] = 3;
            }
        }
        for (int i = 0; i < MANY; i++) {
            int got = finish(futures[i], &err);
            int wanted = kinds[i] == 0 ? PIER_ESQL : kinds[i] == 1 ? 1000 : i;
            assert_true(got == wanted || got == PIER_ECANCELLED);
        }
    }
    close_lease();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_ahead__all_are_on_the_wire_before_the_first_is_answered),
        TEST(test_ahead__one_that_fails_fails_alone),
        TEST(test_ahead__in_a_transaction_those_behind_a_failure_tell_of_it),
        TEST(test_ahead__who_is_cancelled_leaves_at_once_and_the_others_get_their_own),
        TEST(test_ahead__cancelling_one_does_not_cancel_those_behind_it),
        TEST(test_ahead__cancelling_all_cancels_on_the_server),
        TEST(test_ahead__what_nobody_wants_is_cancelled_for_the_next),
        TEST(test_ahead__a_changed_table_is_prepared_anew),
        TEST(test_ahead__a_session_that_ends_ends_them_all),
        TEST(test_ahead__a_lease_that_is_closed_leaves_no_answer_behind),
        TEST(test_ahead__what_cannot_be_cancelled_is_given_up),
        TEST(test_ahead__who_is_cancelled_while_it_reads_for_others_ends_at_once),
        TEST(test_ahead__an_error_that_nobody_wanted_is_not_told_to_others),
        TEST(test_ahead__last_words_that_come_with_another_answer_are_told),
        TEST(test_ahead__nothing_follows_a_copy),
        TEST(test_ahead__each_allocation_may_fail),
        TEST(test_ahead__each_gets_its_own_answer),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
