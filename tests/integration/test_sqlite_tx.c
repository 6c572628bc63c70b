/* SQLite's transactions: when they take the lock, trying again, two processes, cancelling. */
#include "tests/integration/sqlite_fixture.h"

#include <sys/wait.h>
#include <unistd.h>

enum { ROUNDS = 200, PER_PROCESS = 50 };

static pier_db *open_with(struct fixture *f, const char *options)
{
    char url[800];
    snprintf(url, sizeof url, "%s?%s", f->url, options);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    return db;
}

/* ---- When the lock is taken --------------------------------------------------------------- */

static void test_deferred__an_upgrade_fails_at_once_whatever_the_busy_timeout(void **state)
{
    struct fixture *f = *state;
    pier_db *one = open_with(f, "journal_mode=wal&busy_timeout_ms=100000");
    pier_db *two = open_with(f, "busy_timeout_ms=100000");
    pier_db *tx = pier_db_begin(one, PIER_TX_OPTIONS(.lock = PIER_TX_DEFERRED), &f->err);
    assert_int_equal(number_of(tx, "select count(*) from t"), 0);
    execute(two, "insert into t values (1, 'a')", NULL);
    int64_t began = support_now_ms();
    pier_db_execute(tx, "insert into t values (2, 'b')", NULL, &f->err);
    assert_error(&f->err, PIER_EBUSY, "has written since");
    assert_true(support_now_ms() - began < BOUND_MS);
    pier_db_close(tx);
    pier_db_close(two);
    pier_db_close(one);
}

static void test_immediate__waits_and_then_cannot_fail_for_the_lock(void **state)
{
    struct fixture *f = *state;
    pier_db *one = open_with(f, "journal_mode=wal");
    pier_db *two = open_with(f, "journal_mode=wal");
    pier_db *tx = pier_db_begin(one, NULL, &f->err);
    execute(tx, "insert into t values (1, 'a')", NULL);
    pier_future *future = pier_db_begin_async(two, NULL);
    assert_int_equal(pier_future_wait(future, 30, &f->err), 0);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    tx = pier_db_begin_finish(future, &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(tx, "select count(*) from t"), 1);
    execute(tx, "insert into t values (2, 'b')", NULL);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    pier_db_close(two);
    pier_db_close(one);
}

static void test_exclusive__keeps_readers_out(void **state)
{
    struct fixture *f = *state;
    pier_db *two = open_with(f, "busy_timeout_ms=0");
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(number_of(two, "select count(*) from t"), 0);
    pier_db_close(tx);
    tx = pier_db_begin(f->db, PIER_TX_OPTIONS(.lock = PIER_TX_EXCLUSIVE), &f->err);
    pier_db_fetch(two, "select count(*) from t", NULL, &f->err);
    assert_error(&f->err, PIER_EBUSY, "locked");
    pier_db_close(tx);
    pier_db_close(two);
}

static void test_begin__refuses_a_lock_that_it_does_not_know(void **state)
{
    struct fixture *f = *state;
    assert_null(pier_db_begin(f->db, PIER_TX_OPTIONS(.lock = 3), &f->err));
    assert_error(&f->err, PIER_EINVAL, "pier_tx_lock");
    assert_null(pier_db_begin(f->db, PIER_TX_OPTIONS(.lock = PIER_TX_EXCLUSIVE, .read_only = true),
                              &f->err));
    assert_error(&f->err, PIER_EINVAL, "beside read_only");
}

/* ---- Trying again ------------------------------------------------------------------------- */

struct rival {
    pier_db *db;
    int writes; /* so many attempts find that somebody else has written */
    int calls;
};

static int read_then_write(pier_db *tx, void *arg, pier_error *err)
{
    struct rival *rival = arg;
    pier_result_free(pier_db_fetch(tx, "select count(*) from t", NULL, err));
    if (rival->calls++ < rival->writes) {
        pier_db_execute(rival->db, "insert into t(name) values ('rival')", NULL, err);
    }
    pier_db_execute(tx, "insert into t(name) values ('mine')", NULL, err);
    return err->status < 0 ? err->status : 7;
}

static void test_transaction__is_tried_again_when_it_was_busy(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "journal_mode=wal");
    struct rival rival = {.db = f->db, .writes = 2};
    assert_int_equal(pier_db_transaction(db,
                                         PIER_TX_OPTIONS(.lock = PIER_TX_DEFERRED, .attempts = 3),
                                         read_then_write, &rival, &f->err),
                     7);
    assert_ok(&f->err);
    assert_int_equal(rival.calls, 3);
    rival = (struct rival){.db = f->db, .writes = 9};
    assert_int_equal(pier_db_transaction(db,
                                         PIER_TX_OPTIONS(.lock = PIER_TX_DEFERRED, .attempts = 2),
                                         read_then_write, &rival, &f->err),
                     PIER_EBUSY);
    assert_error(&f->err, PIER_EBUSY, "has written since");
    assert_int_equal(rival.calls, 2);
    assert_int_equal(number_of(f->db, "select count(*) from t where name = 'mine'"), 1);
    pier_db_close(db);
}

static void test_transaction__stops_trying_at_the_deadline(void **state)
{
    struct fixture *f = *state;
    pier_db *db = open_with(f, "journal_mode=wal");
    struct rival rival = {.db = f->db, .writes = 1000000};
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 300), &f->err);
    int status =
        pier_db_transaction(db, PIER_TX_OPTIONS(.lock = PIER_TX_DEFERRED, .attempts = 1000000),
                            read_then_write, &rival, &f->err);
    pier_scope_close(scope);
    assert_int_equal(status, PIER_ETIMEDOUT);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
    assert_true(rival.calls > 1 && rival.calls < 60); /* it does not spin */
    pier_db_close(db);
}

/* ---- Two processes ------------------------------------------------------------------------ */

/* The other process: transactions of two rows. */
static int write_as_helper(const char *url)
{
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    pier_db *db = pier_db_open(runner, url, NULL, &err);
    for (int i = 0; i < PER_PROCESS && !err.status; i++) {
        pier_db *tx = pier_db_begin(db, NULL, &err);
        pier_db_execute(tx, "insert into t(name) values ('helper')", NULL, &err);
        pier_db_execute(tx, "insert into t(name) values ('helper')", NULL, &err);
        if (pier_db_commit(tx, &err) < 0) {
            fprintf(stderr, "helper: %s\n", err.message);
        }
        pier_db_close(tx);
    }
    pier_runner_close(runner);
    return err.status != 0;
}

static void write_beside_a_process(struct fixture *f, const char *options)
{
    char url[800];
    snprintf(url, sizeof url, "%s?synchronous=off&%s", f->url, options);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_ok(&f->err);
    /* Not /proc/self/exe itself, which under valgrind is valgrind. */
    char program[4096] = "";
    assert_true(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (!child) {
        execl(program, "test_sqlite_tx", "helper", url, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < PER_PROCESS; i++) {
        pier_db *tx = pier_db_begin(db, NULL, &f->err);
        execute(tx, "insert into t(name) values ('test')", NULL);
        assert_int_equal(number_of(tx, "select count(*) % 2 from t where name = 'helper'"), 0);
        assert_int_equal(pier_db_commit(tx, &f->err), 0);
        pier_db_close(tx);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(number_of(db, "select count(*) from t"), 3 * PER_PROCESS);
    pier_db_close(db);
}

static void test_processes__both_write_and_wait_for_each_other(void **state)
{
    write_beside_a_process(*state, "busy_timeout_ms=60000");
}

static void test_processes__both_write_with_a_log(void **state)
{
    write_beside_a_process(*state, "busy_timeout_ms=60000&journal_mode=wal");
}

/* ---- Cancelling --------------------------------------------------------------------------- */

/* A time between nothing and the longest that a transaction takes here. */
static void spin(unsigned *seed)
{
    *seed = *seed * 1103515245 + 12345;
    atomic_int rounds = (int)(*seed >> 16) % 20000;
    while (atomic_fetch_sub(&rounds, 1) > 0) {
    }
}

static pier_db *cancel_begin(pier_db *db, unsigned *seed)
{
    pier_error err = {0};
    pier_future *future = pier_db_begin_async(db, NULL);
    spin(seed);
    pier_future_cancel(future);
    pier_db *tx = pier_db_begin_finish(future, &err);
    assert_true(tx || err.status == PIER_ECANCELLED);
    return tx;
}

/* Gives whether it has been committed. */
static bool cancel_commit(pier_db *tx, unsigned *seed)
{
    pier_error err = {0};
    execute(tx, "insert into t(name) values ('x')", NULL);
    pier_future *future = pier_db_commit_async(tx);
    spin(seed);
    pier_future_cancel(future);
    int status = pier_db_commit_finish(future, &err);
    assert_true(status == 0 || status == PIER_ECANCELLED);
    return status == 0;
}

static void cancel_at_random(struct fixture *f, const char *options)
{
    unsigned seed = 1;
    int committed = 0;
    pier_db *db = open_with(f, options);
    for (int i = 0; i < ROUNDS; i++) {
        pier_db *tx = cancel_begin(db, &seed);
        if (tx && i % 2) {
            committed += cancel_commit(tx, &seed);
        }
        pier_db_close(tx);
        /* Nothing is open: this commits by itself, and another connection sees that at once. */
        execute(db, "insert into t(name) values ('round')", NULL);
        assert_int_equal(number_of(f->db, "select count(*) from t"), i + 1 + committed);
    }
    pier_db_close(db);
}

static void test_cancel__of_begin_and_commit_leaves_no_transaction(void **state)
{
    cancel_at_random(*state, "synchronous=off");
}

static void test_cancel__of_begin_and_commit_leaves_no_transaction_with_readers(void **state)
{
    cancel_at_random(*state, "preset=service");
}

/* A caller on a thread goes away; what it began is cleaned up behind it. */
static void test_cancel__a_deadline_in_begin_or_commit_leaves_no_transaction(void **state)
{
    struct fixture *f = *state;
    unsigned seed = 7;
    pier_db *db = open_with(f, "preset=service");
    for (int i = 0; i < ROUNDS; i++) {
        pier_error err = {0};
        pier_scope *scope = pier_scope_open(f->runner, NULL, &err);
        pier_future *first = pier_db_begin_async(db, NULL); /* it is never taken */
        spin(&seed);
        pier_scope_cancel(scope);
        pier_future_free(first);
        assert_null(pier_db_begin(db, NULL, &err));
        pier_scope_close(scope);
        assert_error(&err, PIER_ECANCELLED, NULL);
        execute(db, "insert into t(name) values ('round')", NULL);
        assert_int_equal(number_of(f->db, "select count(*) from t"), i + 1);
    }
    pier_db_close(db);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "helper")) {
        return write_as_helper(argv[2]);
    }
    const struct CMUnitTest tests[] = {
        TEST(test_deferred__an_upgrade_fails_at_once_whatever_the_busy_timeout),
        TEST(test_immediate__waits_and_then_cannot_fail_for_the_lock),
        TEST(test_exclusive__keeps_readers_out),
        TEST(test_begin__refuses_a_lock_that_it_does_not_know),
        TEST(test_transaction__is_tried_again_when_it_was_busy),
        TEST(test_transaction__stops_trying_at_the_deadline),
        TEST(test_processes__both_write_and_wait_for_each_other),
        TEST(test_processes__both_write_with_a_log),
        TEST(test_cancel__of_begin_and_commit_leaves_no_transaction),
        TEST(test_cancel__of_begin_and_commit_leaves_no_transaction_with_readers),
        TEST(test_cancel__a_deadline_in_begin_or_commit_leaves_no_transaction),
    };
    return cmocka_run_group_tests(tests, group_set_up, NULL);
}
