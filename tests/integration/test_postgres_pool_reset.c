/* Postgres: what a borrower does to its session is undone before the next one gets it. */
#include "tests/integration/postgres_fixture.h"

#include "drivers/postgres/conn.h"
#include <sys/ioctl.h>

/* The pool has one connection, so that whoever comes next gets the same. */
static pier_db *open_one(int reset)
{
    pier_error err = {0};
    pier_db *one =
        pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = 1, .reset = reset), &err);
    assert_string_equal(err.message, "");
    return one;
}

static void read_text(pier_db *scope, const char *sql, char *text, size_t size)
{
    pier_error err = {0};
    int got = pier_db_fetch_into(scope, sql, NULL, PIER_INTO(pier_into_buffer(text, size)), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
}

static int read_int(pier_db *scope, const char *sql)
{
    pier_error err = {0};
    int number = 0;
    int got = pier_db_fetch_into(scope, sql, NULL, PIER_INTO(&number), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    return number;
}

static int64_t count_resets(pier_db *pool)
{
    pier_pool_stats stats;
    pier_db_stats(pool, &stats);
    return stats.resets;
}

static void run(pier_db *scope, const char *sql)
{
    pier_error err = {0};
    assert_true(pier_db_execute(scope, sql, NULL, &err) >= 0 || !printf("%s\n", err.message));
}

static void assert_setting(pier_db *scope, const char *expected)
{
    char text[64];
    read_text(scope, "select coalesce(current_setting('pier.test', true), '')", text, sizeof text);
    assert_string_equal(text, expected);
}

static void leave_traces(pier_db *lease)
{
    static const char *const statements[] = {
        "set pier.test = 'left'",
        "set statement_timeout = 12345",
        "set role guest",
        "reset role",
        "create temp table left_behind(a int)",
        "select pg_advisory_lock(77)",
        "listen left_behind",
        "prepare left_behind as select 1",
        "select nextval('counter')",
        "declare left_behind cursor with hold for select 1",
        "set role guest",
    };
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        run(lease, statements[i]);
    }
}

static void make_guest(void)
{
    look_int("do $$ begin create role guest login; exception when others then null; end $$");
    look_int("create sequence if not exists counter");
}

static void test_reset__a_lease_leaves_nothing_behind(void **state)
{
    (void)state;
    pier_error err = {0};
    make_guest();
    pier_db *pool = open_one(0);
    pier_db *lease = pier_db_lease(pool, &err);
    int pid = read_int(lease, "select pg_backend_pid()");
    leave_traces(lease);
    pier_db_close(lease);
    assert_int_equal(read_int(pool, "select pg_backend_pid()"), pid);
    assert_setting(pool, "");
    static const char *const left[] = {
        "select count(*)::int from pg_settings where name = 'statement_timeout' and setting <> '0'",
        "select (current_user <> session_user)::int",
        "select count(*)::int from pg_class where relname = 'left_behind'",
        "select count(*)::int from pg_locks where locktype = 'advisory'",
        "select count(*)::int from pg_listening_channels()",
        "select count(*)::int from pg_prepared_statements where name = 'left_behind'",
        "select count(*)::int from pg_cursors where name = 'left_behind'",
    };
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        if (read_int(pool, left[i])) {
            fail_msg("%s", left[i]);
        }
    }
    assert_true(pier_db_execute(pool, "select lastval()", NULL, &err) < 0);
    pier_db_close(pool);
}

static void test_reset__set_config_on_the_pool(void **state)
{
    (void)state;
    pier_db *pool = open_one(0);
    run(pool, "select set_config('pier.test', 'left', false)");
    assert_setting(pool, "");
    run(pool, "set pier.test = 'left'");
    assert_setting(pool, "");
    pier_error err = {0};
    assert_int_equal(pier_db_execute_script(pool, "select 1; set pier.test = 'left'", &err), 0);
    assert_setting(pool, "");
    pier_cursor *cursor =
        pier_db_cursor(pool, "select set_config('pier.test', 'left', false)", NULL, &err);
    assert_non_null(pier_cursor_next(cursor));
    assert_int_equal(pier_cursor_close(cursor, &err), 0);
    assert_setting(pool, "");
    pier_db_close(pool);
}

static void test_reset__a_setting_that_a_transaction_committed(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_one(0);
    pier_db *tx = pier_db_begin(pool, NULL, &err);
    run(tx, "set pier.test = 'left'");
    assert_int_equal(pier_db_commit(tx, &err), 0);
    pier_db_close(tx);
    assert_setting(pool, "");
    assert_int_equal(count_resets(pool), 1);
    pier_db_close(pool);
}

static void test_reset__plain_work_costs_none(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_one(0);
    look_int("create table plain(a int, b text)");
    for (int i = 0; i < 3; i++) {
        run(pool, "insert into plain(a, b) values (1, 'x')");
        run(pool, "select count(*) from plain where a in (1, 2)");
        pier_db *tx = pier_db_begin(pool, NULL, &err);
        run(tx, "set local pier.test = 'local'");
        run(tx, "update plain set a = (a + 1)");
        assert_int_equal(pier_db_commit(tx, &err), 0);
        pier_db_close(tx);
    }
    assert_int_equal(count_resets(pool), 0);
    pier_db_close(pool);
}

static void test_reset__keeps_what_the_driver_has_prepared(void **state)
{
    (void)state;
    static const char sql[] = "select count(*)::int from pg_prepared_statements";
    pier_error err = {0};
    pier_db *pool = open_one(0);
    int before = read_int(pool, sql);
    before = read_int(pool, sql);
    pier_db_close(pier_db_lease(pool, &err));
    assert_int_equal(read_int(pool, sql), before);
    assert_int_equal(count_resets(pool), 1);
    pier_db_close(pool);
}

static void test_reset__after_prepare_the_driver_prepares_again(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_one(0);
    assert_int_equal(read_int(pool, "select 7"), 7);
    assert_int_equal(pier_db_execute_script(pool, "prepare mine as select 1; select 1", &err), 0);
    assert_int_equal(read_int(pool, "select 7"), 7);
    assert_int_equal(pier_db_execute_script(pool, "prepare mine as select 1", &err), 0);
    pier_db_close(pool);
}

static void test_reset__as_often_as_asked_for(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *always = open_one(PIER_RESET_ALWAYS);
    int64_t before = count_resets(always);
    run(always, "select 1");
    run(always, "select 1");
    assert_int_equal(count_resets(always) - before, 2);
    pier_db_close(always);
    pier_db *none = open_one(PIER_RESET_NONE);
    pier_db *lease = pier_db_lease(none, &err);
    run(lease, "set pier.test = 'left'");
    pier_db_close(lease);
    assert_setting(none, "left");
    assert_int_equal(count_resets(none), 0);
    pier_db_close(none);
    assert_null(pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.reset = 3), &err));
    assert_int_equal(err.status, PIER_EINVAL);
}

/* The answer has not been read when the session ends: nothing of the next request was lost. */
static void test_reset__whose_session_ends_costs_the_next_nothing(void **state)
{
    (void)state;
    pier_error err = {0};
    /* By a unix socket the end has come when the server says so; by TCP it may still be under way.
     */
    needs_own_server();
    pier_db *pool = open_one(0);
    for (int i = 0; i < 5; i++) {
        char sql[80];
        pier_db *lease = pier_db_lease(pool, &err);
        int pid = read_int(lease, "select pg_backend_pid()");
        pier_db_close(lease);
        snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
        look_int(sql);
        snprintf(sql, sizeof sql, "select count(*) from pg_stat_activity where pid = %d", pid);
        assert_true(await_int(sql, 0));
        if (i % 2) {
            lease = pier_db_lease(pool, &err);
            assert_int_equal(read_int(lease, "select 1"), 1);
            pier_db_close(lease);
        } else {
            assert_int_equal(read_int(pool, "select 1"), 1);
        }
    }
    pier_db_close(pool);
}

static bool has_unread(void *user_data)
{
    int size = 0;
    return ioctl(*(int *)user_data, FIONREAD, &size) == 0 && size > 0;
}

static int do_nothing(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    return 0;
}

/* The same where the keeper has read the answer, and the session ends behind that. */
static void test_reset__that_the_keeper_has_seen_costs_the_next_nothing(void **state)
{
    (void)state;
    pier_error err = {0};
    char sql[80];
    needs_own_server();
    pier_db *pool = open_one(0);
    /* The keeper's own first look comes before this. */
    assert_int_equal(pier_task_run(runner, do_nothing, NULL, &err), 0);
    pier_db *lease = pier_db_lease(pool, &err);
    int fd = ((const pier__postgres_conn *)lease->conn)->fd;
    int pid = read_int(lease, "select pg_backend_pid()");
    run(lease, "set pier.test = 'left'");
    pier_db_close(lease);
    assert_true(support_wait_until(has_unread, &fd, BOUND_MS));
    pier__db_look_at_idle(pool);
    assert_false(has_unread(&fd));
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    look_int(sql);
    assert_true(support_wait_until(has_unread, &fd, BOUND_MS));
    assert_int_not_equal(read_int(pool, "select pg_backend_pid()"), pid);
    pier_db_close(pool);
}

static atomic_int warnings;

static void count_warning(pier_log_level level, const char *message, void *user_data)
{
    (void)level;
    (void)user_data;
    atomic_fetch_add(&warnings, strstr(message, "PIER_RESET_NONE") != NULL);
}

/* Gives the URL of a user whose sessions the server does not reset. */
static void refuse_resets(char *url, size_t size)
{
    make_guest();
    look_int("revoke execute on function pg_advisory_unlock_all() from public");
    const char *at = strstr(server.url_unix, "postgres@");
    assert_non_null(at);
    snprintf(url, size, "%.*sguest@%s", (int)(at - server.url_unix), server.url_unix,
             at + strlen("postgres@"));
}

static void test_reset__that_the_server_refuses_closes_the_connection(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    char url[600];
    refuse_resets(url, sizeof url);
    pier_db *pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err);
    assert_string_equal(err.message, "");
    atomic_store(&warnings, 0);
    pier_log_set(count_warning, PIER_LOG_WARNING, NULL);
    pier_db *lease = pier_db_lease(pool, &err);
    run(lease, "set pier.test = 'left'");
    int pid = read_int(lease, "select pg_backend_pid()");
    pier_db_close(lease);
    assert_setting(pool, "");
    pier_log_set(NULL, PIER_LOG_WARNING, NULL);
    assert_int_not_equal(read_int(pool, "select pg_backend_pid()"), pid);
    assert_int_equal(warnings, 1);
    pier_db_close(pool);
    look_int("grant execute on function pg_advisory_unlock_all() to public");
}

static int set_up_with_a_query(pier_db *connection, void *user_data, pier_error *err)
{
    int number = 0;
    (void)user_data;
    return pier_db_fetch_into(connection, "select 1", NULL, PIER_INTO(&number), err) == 1 ? 0 : -1;
}

/* The setup hook is the first to find that out; whoever borrows gets another connection all the
 * same. */
static void test_reset__that_the_server_refuses_before_a_setup_hook(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    char url[600];
    refuse_resets(url, sizeof url);
    pier_db *pool = pier_db_open(runner, url,
                                 PIER_DB_OPTIONS(.pool_max = 1, .reset = PIER_RESET_ALWAYS,
                                                 .setup = set_up_with_a_query),
                                 &err);
    assert_string_equal(err.message, "");
    pier_log_set(count_warning, PIER_LOG_WARNING, NULL);
    for (int i = 0; i < 4; i++) {
        run(pool, "select 'a text that is long enough to stand in memory of its own'");
    }
    pier_log_set(NULL, PIER_LOG_WARNING, NULL);
    pier_db_close(pool);
    look_int("grant execute on function pg_advisory_unlock_all() to public");
}

/* The borrower's own read-only default must not keep it from being undone. */
static void test_reset__a_session_that_is_read_only(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_one(0);
    pier_db *lease = pier_db_lease(pool, &err);
    int pid = read_int(lease, "select pg_backend_pid()");
    run(lease, "create temp table left_behind(a int)");
    run(lease, "set default_transaction_read_only = on");
    run(lease, "set default_transaction_isolation = 'serializable'");
    pier_db_close(lease);
    assert_int_equal(read_int(pool, "select pg_backend_pid()"), pid);
    char text[16];
    read_text(pool, "show transaction_read_only", text, sizeof text);
    assert_string_equal(text, "off");
    pier_db_close(pool);
}

/* A connection that was idle for more than a second is looked at before it is used, which may read
 * the answer. */
static void test_reset__answered_when_the_connection_is_looked_at(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *pool = open_one(0);
    pier_db *lease = pier_db_lease(pool, &err);
    run(lease, "set pier.test = 'left'");
    pier_db_close(lease);
    look_int("select 1 from pg_sleep(1.2)");
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 10000), &err);
    assert_setting(pool, "");
    pier_scope_close(scope);
    assert_int_equal(count_resets(pool), 1);
    pier_db_close(pool);
}

SCENARIO(test_reset__on_whatever_steps_it)
{
    pier_error e = {0};
    char text[16] = "";
    for (int i = 0; i < 20; i++) {
        pier_db *lease = pier_db_lease(pool, &e);
        EXPECT(pier_db_execute(lease, "set pier.test = 'left'", NULL, &e) == 0);
        pier_db_close(lease);
        EXPECT(pier_db_fetch_into(pool, "select coalesce(current_setting('pier.test', true), '')",
                                  NULL, PIER_INTO(pier_into_buffer(text, sizeof text)), &e) == 1);
        EXPECT(!*text);
    }
    pier_pool_stats stats;
    pier_db_stats(pool, &stats);
    EXPECT(stats.resets >= 20 && stats.made == 1);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_reset__a_lease_leaves_nothing_behind),
        TEST(test_reset__set_config_on_the_pool),
        TEST(test_reset__a_setting_that_a_transaction_committed),
        TEST(test_reset__plain_work_costs_none),
        TEST(test_reset__keeps_what_the_driver_has_prepared),
        TEST(test_reset__after_prepare_the_driver_prepares_again),
        TEST(test_reset__as_often_as_asked_for),
        TEST(test_reset__whose_session_ends_costs_the_next_nothing),
        TEST(test_reset__that_the_keeper_has_seen_costs_the_next_nothing),
        TEST(test_reset__that_the_server_refuses_closes_the_connection),
        TEST(test_reset__that_the_server_refuses_before_a_setup_hook),
        TEST(test_reset__a_session_that_is_read_only),
        TEST(test_reset__answered_when_the_connection_is_looked_at),
        BOTH(test_reset__on_whatever_steps_it),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
