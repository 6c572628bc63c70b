/* Deadlines and cancelling on Postgres: the caller is back at once, the work is gone from the
 * server soon after, and the pool is as good as before. */
#include "tests/integration/postgres_fixture.h"

#include <signal.h>

/* Who holds something in the way of the test: a thread of its own. */
struct holder {
    pthread_t thread;
    const char *sql;  /* run in a transaction that stays open */
    atomic_int state; /* 1: it holds; 2: it is to let go */
};

static bool has_state(void *user_data)
{
    return atomic_load(&((struct holder *)user_data)->state) == 1;
}

static bool is_released(void *user_data)
{
    return atomic_load(&((struct holder *)user_data)->state) == 2;
}

static void *hold(void *arg)
{
    struct holder *holder = arg;
    pier_db *tx = pier_db_begin(db, NULL, NULL);
    pier_db_execute(tx, holder->sql, NULL, NULL);
    atomic_store(&holder->state, 1);
    support_wait_until(is_released, holder, 2 * BOUND_MS);
    pier_db_close(tx);
    return NULL;
}

static void start_holding(struct holder *holder, const char *sql)
{
    holder->sql = sql;
    atomic_init(&holder->state, 0);
    assert_int_equal(pthread_create(&holder->thread, NULL, hold, holder), 0);
    assert_true(support_wait_until(has_state, holder, BOUND_MS));
}

static void stop_holding(struct holder *holder)
{
    atomic_store(&holder->state, 2);
    pthread_join(holder->thread, NULL);
}

static void assert_usable(pier_db *pool)
{
    pier_error err = {0};
    for (int i = 0; i < 8; i++) {
        int number = 0;
        int got =
            pier_db_fetch_into(pool, "select $1::int", PIER_ARGS(i), PIER_INTO(&number), &err);
        assert_string_equal(err.message, "");
        assert_int_equal(got, 1);
        assert_int_equal(number, i);
    }
}

/* One phase of a request that a deadline ends, on a thread and in a task. */
struct phase {
    int (*run)(pier_db *pool, pier_error *err); /* what must end early */
    pier_db *pool;
    int status;
    int64_t took_ms;
    pier_error err;
};

enum { DEADLINE_MS = 150 };

static int run_phase(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct phase *phase = arg;
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = DEADLINE_MS), NULL);
    int64_t started = support_now_ms();
    phase->status = phase->run(phase->pool, &phase->err);
    phase->took_ms = support_now_ms() - started;
    pier_scope_close(scope);
    return 0;
}

static void assert_ended_at_once(const struct phase *phase)
{
    if (phase->status != PIER_ETIMEDOUT) {
        fail_msg("%s: %s", pier_status_name(phase->status), phase->err.message);
    }
    assert_int_equal(phase->err.status, PIER_ETIMEDOUT);
    assert_in_range(phase->took_ms, DEADLINE_MS - 20, DEADLINE_MS + AT_ONCE_MS);
}

static void end_by_deadline(pier_db *pool, int (*run)(pier_db *pool, pier_error *err),
                            const char *gone)
{
    for (int in_task = 0; in_task < 2; in_task++) {
        struct phase phase = {.run = run, .pool = pool};
        if (in_task) {
            assert_int_equal(pier_task_run(runner, run_phase, &phase, NULL), 0);
        } else {
            run_phase(NULL, &phase, NULL);
        }
        assert_ended_at_once(&phase);
        if (gone) {
            assert_true(await_running(gone, 0));
        }
    }
}

static int run_sleep(pier_db *pool, pier_error *err)
{
    return (int)pier_db_execute(pool, "select pg_sleep(30)", NULL, err);
}

static int run_stream(pier_db *pool, pier_error *err)
{
    pier_cursor *cursor = pier_db_cursor(
        pool, "select g, pg_sleep(0.005) from generate_series(1, 100000) g", NULL, err);
    while (pier_cursor_next(cursor)) {
    }
    return pier_cursor_close(cursor, err);
}

static int run_sleep_with_argument(pier_db *pool, pier_error *err)
{
    pier_result *rows = pier_db_fetch(pool, "select pg_sleep($1)", PIER_ARGS(30.0), err);
    pier_result_free(rows);
    return rows ? 0 : err->status;
}

static void test_deadline__of_a_query(void **state)
{
    (void)state;
    end_by_deadline(db, run_sleep, "pg_sleep");
    end_by_deadline(db, run_sleep_with_argument, "pg_sleep");
    assert_usable(db);
}

static int backend_of(pier_db *pool)
{
    int pid = 0;
    pier_error err = {0};
    (void)!pier_db_fetch_into(pool, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err);
    assert_string_equal(err.message, "");
    return pid;
}

static void test_deadline__keeps_the_connection(void **state)
{
    (void)state;
    pier_db *pool = open_pool(1);
    int before = backend_of(pool);
    end_by_deadline(pool, run_sleep, "pg_sleep");
    end_by_deadline(pool, run_stream, "pg_sleep");
    assert_int_equal(backend_of(pool), before);
    pier_db_close(pool);
}

static int run_script(pier_db *pool, pier_error *err)
{
    return pier_db_execute_script(pool,
                                  "create table if not exists s(id int); insert into s values(1);"
                                  "select pg_sleep(30); insert into s values(2)",
                                  err);
}

static void test_deadline__of_a_script(void **state)
{
    (void)state;
    end_by_deadline(db, run_script, "pg_sleep");
    assert_usable(db);
}

static int run_any(pier_db *pool, pier_error *err)
{
    return (int)pier_db_execute(pool, "select 1", NULL, err);
}

static void test_deadline__of_waiting_for_a_connection(void **state)
{
    (void)state;
    struct holder holders[4];
    for (int i = 0; i < 4; i++) {
        start_holding(&holders[i], "select 1");
    }
    end_by_deadline(db, run_any, NULL);
    for (int i = 0; i < 4; i++) {
        stop_holding(&holders[i]);
    }
    assert_usable(db);
}

static void test_deadline__of_waiting_for_a_connection_by_the_pool(void **state)
{
    (void)state;
    pier_error err = {0};
    struct holder holder;
    pier_db *usual = db;
    db = pier_db_open(runner, server.url_unix,
                      PIER_DB_OPTIONS(.pool_max = 1, .acquire_timeout_ms = 100), &err);
    start_holding(&holder, "select 1");
    assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), PIER_EPOOL);
    stop_holding(&holder);
    assert_usable(db);
    pier_db_close(db);
    db = usual;
}

static void test_deadline__of_streaming(void **state)
{
    (void)state;
    end_by_deadline(db, run_stream, "pg_sleep");
    assert_usable(db);
}

static int run_server_cursor(pier_db *pool, pier_error *err)
{
    pier_db *tx = pier_db_begin(pool, NULL, err);
    int status = run_stream(tx, err);
    pier_db_close(tx);
    return status;
}

static void test_deadline__of_a_cursor_in_a_transaction(void **state)
{
    (void)state;
    end_by_deadline(db, run_server_cursor, "pg_sleep");
    assert_usable(db);
}

static int run_prepare(pier_db *pool, pier_error *err)
{
    return (int)pier_db_execute(pool, "select * from locked where id = $1", PIER_ARGS(1), err);
}

static void test_deadline__of_preparing(void **state)
{
    (void)state;
    pier_error err = {0};
    struct holder holder;
    assert_int_equal(pier_db_execute(db, "create table locked(id int)", NULL, &err), 0);
    start_holding(&holder, "lock table locked in access exclusive mode");
    end_by_deadline(db, run_prepare, "locked where id");
    stop_holding(&holder);
    assert_int_equal(run_prepare(db, &err), 0);
    assert_usable(db);
}

static int run_commit(pier_db *pool, pier_error *err)
{
    pier_db *tx = pier_db_begin(pool, NULL, err);
    int status = (int)pier_db_execute(tx, "insert into deferred values(1)", NULL, err);
    if (status == 1) {
        status = pier_db_commit(tx, err);
    }
    pier_db_close(tx);
    return status;
}

static void test_deadline__of_a_commit_that_waits_for_a_lock(void **state)
{
    (void)state;
    pier_error err = {0};
    struct holder holder;
    assert_int_equal(
        pier_db_execute_script(
            db,
            "create table deferred(id int);"
            "create function wait() returns trigger language plpgsql as $$ begin "
            "perform pg_advisory_xact_lock(42); return null; end $$;"
            "create constraint trigger waits after insert on deferred deferrable initially "
            "deferred for each row execute function wait()",
            &err),
        0);
    start_holding(&holder, "select pg_advisory_xact_lock(42)");
    end_by_deadline(db, run_commit, "COMMIT");
    stop_holding(&holder);
    assert_int_equal(look_int("select count(*) from deferred"), 0);
    assert_int_equal(run_commit(db, &err), 0);
    assert_int_equal(look_int("select count(*) from deferred"), 1);
    assert_usable(db);
}

static void test_deadline__in_a_transaction_dooms_it(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *tx = pier_db_begin(db, NULL, &err);
    struct phase phase = {.run = run_sleep, .pool = tx};
    run_phase(NULL, &phase, NULL);
    assert_ended_at_once(&phase);
    assert_true(await_running("pg_sleep", 0));
    assert_true(pier_db_execute(tx, "select 1", NULL, &err) < 0);
    assert_true(pier_db_commit(tx, &err) < 0);
    pier_db_close(tx);
    assert_usable(db);
}

static void test_deadline__against_a_server_that_does_not_answer_any_more(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    char url[128];
    struct support_proxy *proxy = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres",
             support_proxy_port(proxy));
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 2), &err);
    assert_non_null(pool);
    assert_usable(pool);
    support_proxy_pause(proxy);
    struct phase phase = {.run = run_any, .pool = pool};
    run_phase(NULL, &phase, NULL);
    assert_ended_at_once(&phase);
    support_proxy_resume(proxy);
    support_proxy_kill_connections(proxy);
    assert_usable(pool);
    pier_db_close(pool);
    support_proxy_stop(proxy);
}

/* Ending a scope ignores deadlines, but not for ever: 5 s until it is cancelled, 5 s for that. */
static void test_deadline__of_ending_scopes_on_a_server_that_does_not_answer_any_more(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    char url[128];
    struct support_proxy *proxy = support_proxy_start(server.port);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres",
             support_proxy_port(proxy));
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 3), &err);
    pier_db *tx = pier_db_begin(pool, NULL, &err), *lease = pier_db_lease(pool, &err);
    assert_int_equal(pier_db_execute(tx, "select 1", NULL, &err), 0);
    pier_cursor *cursor = pier_db_cursor(pool, "select generate_series(1, 10000000)", NULL, &err);
    assert_non_null(pier_cursor_next(cursor));
    support_proxy_pause(proxy);
    int64_t started = support_now_ms();
    pier_db_close(lease);
    (void)!pier_cursor_close(cursor, &err);
    pier_db_close(tx);
    pier_db_close(pool);
    assert_true(support_now_ms() - started < 2 * BOUND_MS);
    support_proxy_stop(proxy);
}

/* Cancelling from elsewhere. */

struct cancelled {
    pthread_t thread;
    _Atomic(pier_scope *) scope;
    atomic_bool left, told;
    int64_t status;
    pier_error err;
};

static bool has_scope(void *user_data)
{
    return atomic_load(&((struct cancelled *)user_data)->scope) != NULL;
}

static bool has_left(void *user_data)
{
    return atomic_load(&((struct cancelled *)user_data)->left);
}

static bool is_told(void *user_data)
{
    return atomic_load(&((struct cancelled *)user_data)->told);
}

static void *run_in_scope(void *arg)
{
    struct cancelled *cancelled = arg;
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    atomic_store(&cancelled->scope, scope);
    cancelled->status = pier_db_execute(db, "select pg_sleep(30)", NULL, &cancelled->err);
    atomic_store(&cancelled->left, true);
    support_wait_until(is_told, cancelled, BOUND_MS); /* it must not be closed before */
    pier_scope_close(scope);
    return NULL;
}

static void test_cancel__of_a_scope_by_another_thread(void **state)
{
    (void)state;
    struct cancelled cancelled = {0};
    assert_int_equal(pthread_create(&cancelled.thread, NULL, run_in_scope, &cancelled), 0);
    assert_true(support_wait_until(has_scope, &cancelled, BOUND_MS));
    assert_true(await_running("pg_sleep", 1));
    int64_t started = support_now_ms();
    pier_scope_cancel(atomic_load(&cancelled.scope));
    atomic_store(&cancelled.told, true);
    assert_true(support_wait_until(has_left, &cancelled, BOUND_MS));
    assert_true(support_now_ms() - started < AT_ONCE_MS);
    pthread_join(cancelled.thread, NULL);
    assert_int_equal(cancelled.status, PIER_ECANCELLED);
    assert_true(await_running("pg_sleep", 0));
    assert_usable(db);
}

static void test_cancel__of_futures(void **state)
{
    (void)state;
    enum { MANY = 12 }; /* four run, the others wait */
    pier_future *futures[MANY];
    pier_error err = {0};
    for (int i = 0; i < MANY; i++) {
        futures[i] = pier_db_execute_async(db, "select pg_sleep(30)", NULL);
    }
    assert_true(await_running("pg_sleep", 4));
    for (int i = 0; i < MANY; i++) {
        pier_future_cancel(futures[i]);
        pier_future_cancel(futures[i]);
    }
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(pier_db_execute_finish(futures[i], &err), PIER_ECANCELLED);
    }
    /* A future settles when its work is gone. */
    assert_int_equal(look_int("select count(*) from pg_stat_activity where state = 'active' and "
                              "query like '%pg_sleep%' and pid <> pg_backend_pid()"),
                     0);
    assert_usable(db);
}

static void test_cancel__that_comes_late_never_hits_the_next_query(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_pool(1);
    unsigned random = 12345;
    int ended_early = 0;
    for (int i = 0; i < 200; i++) {
        random = random * 1103515245 + 12345;
        char sql[64];
        snprintf(sql, sizeof sql, "select pg_sleep(%f)", (random >> 16) % 4000 / 1e6);
        pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 2), NULL);
        ended_early += pier_db_execute(pool, sql, NULL, NULL) < 0;
        pier_scope_close(scope);
        int number = 0;
        int got = pier_db_fetch_into(pool, "select $1::int from pg_sleep(0.0005)", PIER_ARGS(i),
                                     PIER_INTO(&number), &err);
        assert_string_equal(err.message, "");
        assert_int_equal(got, 1);
        assert_int_equal(number, i);
    }
    assert_in_range(ended_early, 5, 195);
    pier_db_close(pool);
}

/* A backend that is stopped gets the cancel request before it reads the statement, and drops it. */
static void test_cancel__that_comes_before_the_statement_is_repeated(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_db *pool = open_pool(1);
    int backend = backend_of(pool);
    if (kill(backend, SIGSTOP) != 0) {
        print_message("the server belongs to another user: skipped\n");
        skip();
    }
    struct phase phase = {.run = run_sleep, .pool = pool};
    run_phase(NULL, &phase, NULL);
    /* How many requests were made cannot be seen; the first comes with the deadline. */
    look_int("select pg_sleep(0.3)");
    kill(backend, SIGCONT);
    assert_ended_at_once(&phase);
    int number = 0;
    int got = pier_db_fetch_into(pool, "select 42", NULL, PIER_INTO(&number), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    assert_int_equal(backend_of(pool), backend);
    pier_db_close(pool);
}

static void test_cancel__of_a_future_that_has_its_result_is_harmless(void **state)
{
    (void)state;
    pier_error err = {0};
    for (int i = 0; i < 100; i++) {
        pier_future *future = pier_db_fetch_async(db, "select 42", NULL);
        pier_future_cancel(future);
        pier_result *rows = pier_db_fetch_finish(future, &err);
        assert_true(rows || err.status == PIER_ECANCELLED);
        pier_result_free(rows);
    }
    assert_usable(db);
}

/* Waiting for oneself. */

static void test_deadlock__with_oneself_is_refused(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_pool(1);
    pier_db *lease = pier_db_lease(pool, &err);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), PIER_EDEADLOCK);
    assert_null(pier_db_begin(pool, NULL, &err));
    assert_int_equal(err.status, PIER_EDEADLOCK);
    pier_db_close(lease);
    pier_db *tx = pier_db_begin(pool, NULL, &err);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), PIER_EDEADLOCK);
    assert_non_null(strstr(err.message, "transaction"));
    pier_db_close(tx);
    pier_cursor *cursor = pier_db_cursor(pool, "select generate_series(1, 100000)", NULL, &err);
    assert_non_null(pier_cursor_next(cursor));
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), PIER_EDEADLOCK);
    assert_int_equal(pier_cursor_close(cursor, &err), 0);
    assert_usable(pool);
    pier_db_close(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_deadline__of_a_query),
        TEST(test_deadline__keeps_the_connection),
        TEST(test_deadline__of_a_script),
        TEST(test_deadline__of_waiting_for_a_connection),
        TEST(test_deadline__of_waiting_for_a_connection_by_the_pool),
        TEST(test_deadline__of_streaming),
        TEST(test_deadline__of_a_cursor_in_a_transaction),
        TEST(test_deadline__of_preparing),
        TEST(test_deadline__of_a_commit_that_waits_for_a_lock),
        TEST(test_deadline__in_a_transaction_dooms_it),
        TEST(test_deadline__against_a_server_that_does_not_answer_any_more),
        TEST(test_deadline__of_ending_scopes_on_a_server_that_does_not_answer_any_more),
        TEST(test_cancel__of_a_scope_by_another_thread),
        TEST(test_cancel__of_futures),
        TEST(test_cancel__that_comes_late_never_hits_the_next_query),
        TEST(test_cancel__that_comes_before_the_statement_is_repeated),
        TEST(test_cancel__of_a_future_that_has_its_result_is_harmless),
        TEST(test_deadlock__with_oneself_is_refused),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
