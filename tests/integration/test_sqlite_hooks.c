/* Hooks of the user's into SQLite: busy, progress, trace, authorizer, changes; and interrupting. */
#include "tests/integration/sqlite_fixture.h"

#include <pier/sqlite_hook.h>

static void count_destroyed(void *user_data)
{
    atomic_fetch_add((atomic_int *)user_data, 1);
}

/* ---- Busy --------------------------------------------------------------------------------- */

struct busy {
    int calls;
    int give_up_at;
    int64_t waited_ms;
    sqlite3 *other; /* lets go of its lock in the second call */
};

static int on_busy(void *user_data, int count, int64_t waited_ms)
{
    struct busy *busy = user_data;
    busy->calls++;
    busy->waited_ms = waited_ms;
    if (busy->other && count == 1) {
        sqlite3_exec(busy->other, "rollback", NULL, NULL, NULL);
    }
    return busy->give_up_at && count >= busy->give_up_at ? -1 : 1;
}

static sqlite3 *lock_file(struct fixture *f)
{
    sqlite3 *other = NULL;
    assert_int_equal(sqlite3_open(f->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "begin immediate", NULL, NULL, NULL), SQLITE_OK);
    return other;
}

static void test_busy__gives_up_when_the_hook_says_so(void **state)
{
    struct fixture *f = *state;
    struct busy busy = {.give_up_at = 3};
    assert_int_equal(pier_sqlite_set_busy(f->db, on_busy, &busy, NULL, &f->err), 0);
    sqlite3 *other = lock_file(f);
    pier_db_execute(f->db, "insert into t(id) values (1)", NULL, &f->err);
    assert_error(&f->err, PIER_EBUSY, "locked");
    assert_int_equal(busy.calls, 4);
    assert_true(busy.waited_ms >= 2);
    sqlite3_close(other);
}

static void test_busy__goes_on_when_the_lock_is_free(void **state)
{
    struct fixture *f = *state;
    struct busy busy = {.other = lock_file(f)};
    assert_int_equal(pier_sqlite_set_busy(f->db, on_busy, &busy, NULL, &f->err), 0);
    execute(f->db, "insert into t(id) values (1)", NULL);
    assert_int_equal(busy.calls, 2);
    sqlite3_close(busy.other);
}

static int wait_for_ever(void *user_data, int count, int64_t waited_ms)
{
    (void)count;
    (void)waited_ms;
    atomic_fetch_add((atomic_int *)user_data, 1);
    return 1000000;
}

static void test_busy__obeys_the_deadline_whatever_the_hook_says(void **state)
{
    struct fixture *f = *state;
    atomic_int calls = 0;
    assert_int_equal(pier_sqlite_set_busy(f->db, wait_for_ever, &calls, NULL, &f->err), 0);
    sqlite3 *other = lock_file(f);
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 50), &f->err);
    pier_db_execute(f->db, "insert into t(id) values (1)", NULL, &f->err);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, "waiting for a lock");
    assert_true(calls > 0);
    sqlite3_close(other);
}

/* ---- Progress and interrupting ------------------------------------------------------------ */

static int stop_at_fifth(void *user_data)
{
    return ++*(int *)user_data >= 5;
}

static int count_progress(void *user_data)
{
    ++*(int *)user_data;
    return 0;
}

static void test_progress__cancels_the_statement(void **state)
{
    struct fixture *f = *state;
    int calls = 0;
    pier_sqlite_set_progress(f->db, 100, stop_at_fifth, &calls, NULL, &f->err);
    pier_db_execute(f->db, ENDLESS "select count(*) from n", NULL, &f->err);
    assert_error(&f->err, PIER_ECANCELLED, "stopped by the progress hook");
    assert_int_equal(calls, 5);
    pier_sqlite_set_progress(f->db, 0, NULL, NULL, NULL, &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select 1"), 1);
}

static int count_calls(struct fixture *f, int instructions)
{
    int calls = 0;
    pier_sqlite_set_progress(f->db, instructions, count_progress, &calls, NULL, &f->err);
    assert_ok(&f->err);
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) "
            "select count(*) from n",
            NULL);
    pier_sqlite_set_progress(f->db, 1, NULL, NULL, NULL, &f->err);
    return calls;
}

static void test_progress__is_called_as_often_as_asked(void **state)
{
    struct fixture *f = *state;
    int often = count_calls(f, 100);
    int seldom = count_calls(f, 2500);
    assert_in_range(often, 24 * seldom, 26 * seldom + 50);
}

static void test_progress__leaves_deadlines_alone(void **state)
{
    struct fixture *f = *state;
    int calls = 0;
    pier_sqlite_set_progress(f->db, 100000000, count_progress, &calls, NULL, &f->err);
    pier_scope *scope = pier_scope_open(f->runner, PIER_SCOPE_OPTIONS(.timeout_ms = 20), &f->err);
    pier_db_execute(f->db, ENDLESS "select count(*) from n", NULL, &f->err);
    pier_scope_close(scope);
    assert_error(&f->err, PIER_ETIMEDOUT, NULL);
}

/* Interrupts from within the statement, so that it surely runs. */
static int interrupt_it(void *user_data)
{
    pier_sqlite_interrupt(user_data);
    return 0;
}

static void test_interrupt__cancels_what_runs_and_nothing_later(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_set_progress(f->db, 100, interrupt_it, f->db, NULL, &f->err);
    pier_db_execute(f->db, ENDLESS "select count(*) from n", NULL, &f->err);
    assert_error(&f->err, PIER_ECANCELLED, "stopped by pier_sqlite_interrupt");
    pier_sqlite_set_progress(f->db, 1, NULL, NULL, NULL, &f->err);
    pier_sqlite_interrupt(f->db);
    pier_sqlite_interrupt(NULL);
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000) "
            "select count(*) from n",
            NULL);
}

static void test_interrupt__of_a_lease_cancels_what_runs_on_it(void **state)
{
    struct fixture *f = *state;
    pier_db *lease = pier_db_lease(f->db, &f->err);
    pier_sqlite_set_progress(lease, 100, interrupt_it, lease, NULL, &f->err);
    pier_future *future = pier_db_execute_async(lease, ENDLESS "select count(*) from n", NULL);
    pier_db_execute_finish(future, &f->err);
    assert_error(&f->err, PIER_ECANCELLED, "pier_sqlite_interrupt");
    pier_db_close(lease);
}

/* ---- Trace -------------------------------------------------------------------------------- */

struct traced {
    int counts[9];
    char first[200], last[200];
    int64_t elapsed_ns;
};

static void on_trace(void *user_data, const pier_sqlite_trace *trace)
{
    struct traced *traced = user_data;
    traced->counts[trace->event]++;
    if (trace->event == PIER_SQLITE_TRACE_STATEMENT) {
        snprintf(*traced->first ? traced->last : traced->first, sizeof traced->first, "%s",
                 trace->sql);
    } else if (trace->event == PIER_SQLITE_TRACE_PROFILE) {
        traced->elapsed_ns = trace->elapsed_ns;
    }
}

static const int all_events = PIER_SQLITE_TRACE_STATEMENT | PIER_SQLITE_TRACE_PROFILE |
                              PIER_SQLITE_TRACE_ROW | PIER_SQLITE_TRACE_CLOSE;

static void test_trace__tells_of_statements_and_masks_values(void **state)
{
    struct fixture *f = *state;
    struct traced traced = {0};
    pier_sqlite_set_trace(f->db, all_events, false, on_trace, &traced, NULL, &f->err);
    assert_ok(&f->err);
    pier_result_free(pier_db_fetch(f->db, "values ($1), ($1)", PIER_ARGS("secret"), &f->err));
    assert_string_equal(traced.first, "values ($1), ($1)");
    assert_int_equal(traced.counts[PIER_SQLITE_TRACE_ROW], 2);
    assert_int_equal(traced.counts[PIER_SQLITE_TRACE_PROFILE], 1);
    assert_in_range(traced.elapsed_ns, 1, INT64_C(20000000000));
    pier_db_close(f->db);
    f->db = NULL;
    assert_int_equal(traced.counts[PIER_SQLITE_TRACE_CLOSE], 1);
}

static void test_trace__shows_values_where_asked(void **state)
{
    struct fixture *f = *state;
    struct traced traced = {0};
    pier_sqlite_set_trace(f->db, PIER_SQLITE_TRACE_STATEMENT, true, on_trace, &traced, NULL,
                          &f->err);
    execute(f->db, "insert into t(name) values ($1)", PIER_ARGS("it's"));
    assert_string_equal(traced.first, "insert into t(name) values ('it''s')");
    assert_int_equal(traced.counts[PIER_SQLITE_TRACE_PROFILE], 0);
    pier_sqlite_set_trace(f->db, 0, false, NULL, NULL, NULL, &f->err);
    assert_ok(&f->err);
    execute(f->db, "insert into t(name) values ('b')", NULL);
    assert_int_equal(traced.counts[PIER_SQLITE_TRACE_STATEMENT], 1);
    pier_sqlite_set_trace(f->db, 64, false, on_trace, &traced, NULL, &f->err);
    assert_error(&f->err, PIER_EINVAL, "events");
}

static void test_trace__shows_triggers(void **state)
{
    struct fixture *f = *state;
    struct traced traced = {0};
    execute(f->db,
            "create trigger g after insert on t when new.id < 5 begin "
            "insert into t(id) values (new.id + 10); end",
            NULL);
    pier_sqlite_set_trace(f->db, PIER_SQLITE_TRACE_STATEMENT | PIER_SQLITE_TRACE_PROFILE, true,
                          on_trace, &traced, NULL, &f->err);
    execute(f->db, "insert into t(id) values (1)", NULL);
    assert_string_equal(traced.first, "insert into t(id) values (1)");
    assert_string_equal(traced.last, "-- insert into t(id) values (new.id + 10)");
    assert_int_equal(traced.counts[PIER_SQLITE_TRACE_PROFILE], 1);
}

/* ---- Authorizer --------------------------------------------------------------------------- */

struct rule {
    int code;
    const char *first, *second;
    int verdict;
    int asked;
};

static int on_authorize(void *user_data, const pier_sqlite_action *action)
{
    struct rule *rule = user_data;
    rule->asked++;
    bool right = action->code == rule->code &&
                 (!rule->first || (action->first && !strcmp(action->first, rule->first))) &&
                 (!rule->second || (action->second && !strcmp(action->second, rule->second)));
    return right ? rule->verdict : PIER_SQLITE_ALLOW;
}

static void test_authorizer__denies_and_says_what(void **state)
{
    struct fixture *f = *state;
    struct rule rule = {PIER_SQLITE_ACTION_READ, "t", "name", PIER_SQLITE_DENY, 0};
    execute(f->db, "select name from t", NULL); /* into the cache */
    pier_sqlite_set_authorizer(f->db, on_authorize, &rule, NULL, &f->err);
    pier_db_execute(f->db, "select name from t", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "the authorizer denied READ t.name");
    rule = (struct rule){PIER_SQLITE_ACTION_DROP_TABLE, NULL, NULL, PIER_SQLITE_DENY, 0};
    pier_db_execute_script(f->db, "select 1; drop table t", &f->err);
    assert_error(&f->err, PIER_ESQL, "the authorizer denied DROP TABLE t");
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
}

static void test_authorizer__that_ignores_reads_null_until_it_is_removed(void **state)
{
    struct fixture *f = *state;
    static atomic_int ended; /* counted when the pool is closed, after this test */
    struct rule rule = {PIER_SQLITE_ACTION_READ, "t", "name", PIER_SQLITE_IGNORE, 0};
    execute(f->db, "insert into t(name) values ('x')", NULL);
    pier_sqlite_set_authorizer(f->db, on_authorize, &rule, NULL, &f->err);
    assert_int_equal(number_of(f->db, "select name is null from t"), 1);
    pier_sqlite_set_authorizer(f->db, NULL, &ended, count_destroyed, &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(f->db, "select name is null from t"), 0);
}

static void test_authorizer__is_not_asked_about_what_pier_runs(void **state)
{
    struct fixture *f = *state;
    struct rule rule = {PIER_SQLITE_ACTION_TRANSACTION, NULL, NULL, PIER_SQLITE_DENY, 0};
    pier_sqlite_set_authorizer(f->db, on_authorize, &rule, NULL, &f->err);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t(id) values (1)", NULL);
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select id from t"), 1);
    pier_db *lease = pier_db_lease(f->db, &f->err);
    pier_db_execute(lease, "begin immediate", NULL, &f->err); /* as Pier writes it */
    assert_error(&f->err, PIER_ESQL, "the authorizer denied TRANSACTION BEGIN");
    pier_db_close(lease);
}

/* ---- Update, commit, rollback ------------------------------------------------------------- */

struct seen {
    char log[500];
    int commits, rollbacks;
    bool refuse;
};

static void on_update(void *user_data, const pier_sqlite_change *change)
{
    struct seen *seen = user_data;
    size_t size = strlen(seen->log);
    snprintf(seen->log + size, sizeof seen->log - size, "%d %s.%s %" PRId64 "\n", change->kind,
             change->database, change->table, change->rowid);
}

static int on_commit(void *user_data)
{
    struct seen *seen = user_data;
    seen->commits++;
    return seen->refuse;
}

static void on_rollback(void *user_data)
{
    ((struct seen *)user_data)->rollbacks++;
}

static void test_update__tells_of_each_row(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    pier_sqlite_set_update(f->db, on_update, &seen, NULL, &f->err);
    execute(f->db, "insert into t(id) values (7)", NULL);
    execute(f->db, "update t set name = 'x'", NULL);
    execute(f->db, "delete from t where id = 7", NULL);
    assert_string_equal(seen.log, "1 main.t 7\n2 main.t 7\n3 main.t 7\n");
}

static void test_commit__may_be_refused(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {.refuse = true};
    pier_sqlite_set_commit(f->db, on_commit, &seen, NULL, &f->err);
    pier_sqlite_set_rollback(f->db, on_rollback, &seen, NULL, &f->err);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    execute(tx, "insert into t(id) values (7)", NULL);
    assert_true(pier_db_commit(tx, &f->err) < 0);
    assert_error(&f->err, PIER_ECONSTRAINT, "the commit hook refused");
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select count(*) from t"), 0);
    assert_int_equal(seen.rollbacks, 1);
    seen.refuse = false;
    execute(f->db, "insert into t(id) values (7)", NULL);
    assert_int_equal(seen.commits, 2);
}

static void test_hook__is_ended_when_it_is_replaced_and_with_the_pool(void **state)
{
    struct fixture *f = *state;
    atomic_int first = 0, second = 0;
    struct seen seen = {0};
    pier_sqlite_set_commit(f->db, NULL, &first, count_destroyed, &f->err);
    pier_sqlite_set_commit(f->db, NULL, &second, count_destroyed, &f->err);
    pier_sqlite_set_rollback(f->db, on_rollback, &seen, NULL, &f->err);
    assert_int_equal(first, 1);
    pier_db_close(f->db);
    f->db = NULL;
    assert_int_equal(second, 1);
}

/* ---- Questions ---------------------------------------------------------------------------- */

static void test_in_transaction__tells_of_a_lease_and_a_transaction(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(pier_sqlite_in_transaction(f->db, &f->err), 0);
    pier_db *lease = pier_db_lease(f->db, &f->err);
    assert_int_equal(pier_sqlite_in_transaction(lease, &f->err), 0);
    execute(lease, "begin", NULL);
    assert_int_equal(pier_sqlite_in_transaction(lease, &f->err), 1);
    pier_db_close(lease);
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_future *future = pier_sqlite_in_transaction_async(tx);
    assert_int_equal(pier_sqlite_in_transaction_finish(future, &f->err), 1);
    pier_db_close(tx);
    assert_ok(&f->err);
}

static void test_total_changes__counts(void **state)
{
    struct fixture *f = *state;
    int64_t before = pier_sqlite_total_changes(f->db, &f->err);
    execute(f->db, "insert into t(id) values (1), (2)", NULL);
    execute(f->db, "update t set name = 'x'", NULL);
    assert_int_equal(pier_sqlite_total_changes(f->db, &f->err), before + 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_busy__gives_up_when_the_hook_says_so),
        TEST(test_busy__goes_on_when_the_lock_is_free),
        TEST(test_busy__obeys_the_deadline_whatever_the_hook_says),
        TEST(test_progress__cancels_the_statement),
        TEST(test_progress__is_called_as_often_as_asked),
        TEST(test_progress__leaves_deadlines_alone),
        TEST(test_interrupt__cancels_what_runs_and_nothing_later),
        TEST(test_interrupt__of_a_lease_cancels_what_runs_on_it),
        TEST(test_trace__tells_of_statements_and_masks_values),
        TEST(test_trace__shows_values_where_asked),
        TEST(test_trace__shows_triggers),
        TEST(test_authorizer__denies_and_says_what),
        TEST(test_authorizer__that_ignores_reads_null_until_it_is_removed),
        TEST(test_authorizer__is_not_asked_about_what_pier_runs),
        TEST(test_update__tells_of_each_row),
        TEST(test_commit__may_be_refused),
        TEST(test_hook__is_ended_when_it_is_replaced_and_with_the_pool),
        TEST(test_in_transaction__tells_of_a_lease_and_a_transaction),
        TEST(test_total_changes__counts),
    };
    return cmocka_run_group_tests_name("sqlite_hooks", tests, group_set_up, NULL);
}
