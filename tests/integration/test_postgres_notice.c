/* Notices: each with all its fields, before the call that caused it returns; to the log where there
 * is no hook; and as many as a server likes to send. */
#include "tests/integration/postgres_fixture.h"

#include "sdk/alloc.h"
#include <sys/resource.h>

static struct {
    pthread_mutex_t lock;
    int64_t count, dropped;
    int level, pid;
    char severity[16], sqlstate[8], message[200], detail[64], hint[64], context[200];
    size_t longest;
} heard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void copy(char *to, size_t size, const char *text)
{
    snprintf(to, size, "%s", text ? text : "(none)");
}

static void on_notice(const pier_postgres_notice *notice, void *user_data)
{
    pthread_mutex_lock(&heard.lock);
    heard.count += *(int *)user_data;
    heard.dropped = notice->dropped;
    heard.level = notice->level;
    heard.pid = notice->pid;
    copy(heard.severity, sizeof heard.severity, notice->severity);
    copy(heard.sqlstate, sizeof heard.sqlstate, notice->sqlstate);
    copy(heard.message, sizeof heard.message, notice->message);
    copy(heard.detail, sizeof heard.detail, notice->detail);
    copy(heard.hint, sizeof heard.hint, notice->hint);
    copy(heard.context, sizeof heard.context, notice->context);
    heard.longest = strlen(notice->message);
    pthread_mutex_unlock(&heard.lock);
}

static int one = 1;

static int64_t count_heard(void)
{
    pthread_mutex_lock(&heard.lock);
    int64_t count = heard.count;
    pthread_mutex_unlock(&heard.lock);
    return count;
}

static int listen_to(pier_db *pool, pier_error *err)
{
    heard.count = heard.dropped = 0;
    return pier_postgres_on_notice(pool, on_notice, &one, err);
}

SCENARIO(test_notice__of_a_function_has_all_its_fields)
{
    pier_error e = {0};
    int pid = 0;
    EXPECT(listen_to(pool, &e) == 0);
    pier_db *lease = pier_db_lease(pool, &e);
    EXPECT(pier_db_execute(lease,
                           "create function f() returns int language plpgsql as $$ begin raise "
                           "notice 'look' using errcode = 'P4321', detail = 'at this', hint = "
                           "'twice'; return 1; end $$",
                           NULL, &e) == 0);
    EXPECT(count_heard() == 0);
    EXPECT(pier_db_fetch_into(lease, "select pg_backend_pid() + f() - 1", NULL, PIER_INTO(&pid),
                              &e) == 1);
    pier_db_close(lease);
    EXPECT(count_heard() == 1 && heard.level == PIER_LOG_INFO && heard.pid == pid);
    EXPECT(strcmp(heard.severity, "NOTICE") == 0 && strcmp(heard.sqlstate, "P4321") == 0);
    EXPECT(strcmp(heard.message, "look") == 0 && strcmp(heard.detail, "at this") == 0);
    EXPECT(strcmp(heard.hint, "twice") == 0 && strstr(heard.context, "function f() line 1"));
    return 0;
}

SCENARIO(test_notice__of_do_blocks_and_of_what_exists)
{
    pier_error e = {0};
    EXPECT(listen_to(pool, &e) == 0);
    EXPECT(pier_db_execute(pool, "do $$ begin raise warning 'mind the gap'; end $$", NULL, &e) ==
           0);
    EXPECT(count_heard() == 1 && heard.level == PIER_LOG_WARNING);
    EXPECT(strcmp(heard.message, "mind the gap") == 0 && strcmp(heard.hint, "(none)") == 0);
    EXPECT(strcmp(heard.sqlstate, "01000") == 0);
    EXPECT(pier_db_execute(pool, "create table if not exists t(id int)", NULL, &e) == 0);
    EXPECT(count_heard() == 1);
    EXPECT(pier_db_execute_script(pool, "create table if not exists t(id int)", &e) == 0);
    EXPECT(count_heard() == 2 && strcmp(heard.sqlstate, "42P07") == 0);
    /* And with a failure, in a cursor, asynchronously. */
    EXPECT(pier_db_execute(pool, "do $$ begin raise notice 'x'; perform 1/0; end $$", NULL, &e) <
           0);
    EXPECT(count_heard() == 3);
    pier_future *future = pier_db_execute_async(pool, "do $$ begin raise info 'y'; end $$", NULL);
    EXPECT(pier_db_execute_finish(future, &e) == 0);
    EXPECT(count_heard() == 4 && strcmp(heard.severity, "INFO") == 0);
    return 0;
}

static void test_notice__of_100_kb_is_cut_between_characters(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(listen_to(db, &err), 0);
    assert_int_equal(pier_db_execute(db,
                                     "do $$ begin raise notice '%', repeat('\xE2\x82\xAC', 35000); "
                                     "end $$",
                                     NULL, &err),
                     0);
    assert_int_equal(heard.count, 1);
    assert_int_equal(heard.longest, 65535 / 3 * 3);
}

static struct {
    int count, level;
    char text[512];
} logged;

static void on_log(pier_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    logged.count++;
    logged.level = (int)level;
    snprintf(logged.text, sizeof logged.text, "%s", message);
}

static void test_notice__goes_to_the_log_where_there_is_no_hook(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(listen_to(db, &err), 0);
    assert_int_equal(pier_postgres_on_notice(db, NULL, NULL, &err), 0);
    logged.count = 0;
    pier_log_set(on_log, PIER_LOG_INFO, NULL);
    pier_db_execute(db, "do $$ begin raise notice E'two\\nlines' using hint = 'one'; end $$", NULL,
                    &err);
    assert_int_equal(logged.count, 1);
    assert_int_equal(logged.level, PIER_LOG_INFO);
    assert_non_null(strstr(logged.text, ": NOTICE 00000: two lines; one"));
    pier_db_execute(db, "do $$ begin raise warning 'careful'; end $$", NULL, &err);
    assert_int_equal(logged.level, PIER_LOG_WARNING);
    pier_log_set(on_log, PIER_LOG_WARNING, NULL);
    pier_db_execute(db, "do $$ begin raise notice 'quiet'; end $$", NULL, &err);
    pier_log_set(NULL, PIER_LOG_ERROR, NULL);
    assert_int_equal(logged.count, 2);
    assert_int_equal(count_heard(), 0);
    assert_string_equal(err.message, "");
}

/* The hook belongs to the pool, and has connections that are made later too. */
static void test_notice__of_every_connection_of_the_pool(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *first = pier_db_lease(db, &err);
    assert_int_equal(listen_to(first, &err), 0);
    pier_db *second = pier_db_lease(db, &err);
    pier_db_execute(second, "do $$ begin raise notice 'second'; end $$", NULL, &err);
    assert_int_equal(count_heard(), 1);
    pier_db_execute(first, "do $$ begin raise notice 'first'; end $$", NULL, &err);
    assert_int_equal(count_heard(), 2);
    assert_string_equal(heard.message, "first");
    pier_db_close(first);
    pier_db_close(second);
}

static void test_notice__is_refused_for_other_databases(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_db *sqlite = pier_db_open(runner, "sqlite::memory:", NULL, &err);
    if (sqlite) { /* its driver may have been left out */
        assert_int_equal(pier_postgres_on_notice(sqlite, on_notice, &one, &err), PIER_EINVAL);
        assert_non_null(strstr(err.message, "is no Postgres database"));
        assert_int_equal(pier_postgres_on_notice(sqlite, on_notice, &one, NULL), PIER_EINVAL);
        pier_db_close(sqlite);
    }
    /* A NULL handle keeps the first error. */
    pier_error_set(&err, PIER_ECONNECT, "no connection");
    assert_int_equal(pier_postgres_on_notice(NULL, on_notice, &one, &err), PIER_ECONNECT);
    assert_int_equal(pier_postgres_on_session_end(NULL, NULL, NULL, NULL), PIER_EINVAL);
}

/* A million notices come through in bounded memory, and none is lost. */
enum { STORM = 1000000, GROWTH_MAX_KB = 48 * 1024 };

static void test_notice__a_million_of_them(void **state)
{
    (void)state;
    pier_error err = {0};
    struct rusage before, after;
    assert_int_equal(listen_to(db, &err), 0);
    getrusage(RUSAGE_SELF, &before);
    int64_t done = pier_db_execute(
        db, "do $$ begin for i in 1..1000000 loop raise notice '%', i; end loop; end $$", NULL,
        &err);
    getrusage(RUSAGE_SELF, &after);
    assert_string_equal(err.message, "");
    assert_int_equal(done, 0);
    assert_int_equal(heard.count + heard.dropped, STORM);
    assert_int_equal(heard.dropped, 0);
    assert_string_equal(heard.message, "1000000");
#if !defined(__SANITIZE_ADDRESS__) /* which keeps what was freed */
    assert_true(after.ru_maxrss - before.ru_maxrss < GROWTH_MAX_KB);
#endif
}

static bool is_heard(void *user_data)
{
    (void)user_data;
    return count_heard() > 0;
}

static void *cancel_when_heard(void *scope)
{
    bool came = support_wait_until(is_heard, NULL, BOUND_MS);
    pier_scope_cancel(scope);
    return came ? NULL : scope;
}

static void test_notice__a_storm_can_be_cancelled(void **state)
{
    (void)state;
    pier_error err = {0};
    pthread_t thread;
    void *failed = NULL;
    assert_int_equal(listen_to(db, &err), 0);
    pier_scope *scope = pier_scope_open(runner, NULL, &err);
    assert_int_equal(pthread_create(&thread, NULL, cancel_when_heard, scope), 0);
    int64_t done = pier_db_execute(
        db, "do $$ begin loop raise notice '%', repeat('x', 1000); end loop; end $$", NULL, &err);
    pthread_join(thread, &failed);
    pier_scope_close(scope);
    assert_int_equal(done, PIER_ECANCELLED);
    assert_null(failed);
    int number = 0;
    assert_int_equal(pier_db_fetch_into(db, "select 5", NULL, PIER_INTO(&number), &err), 1);
    assert_int_equal(number, 5);
}

static atomic_int failing; /* the allocation that fails, from 1 */

static bool fail_one(size_t size)
{
    (void)size;
    return atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1;
}

/* A notice that there was no memory for is counted, and fails nothing. */
static void test_notice__without_memory_is_counted(void **state)
{
    static const char three[] =
        "do $$ begin raise notice 'a'; raise notice 'b'; raise notice 'c'; end $$";
    (void)state;
    pier_error err = {0};
    pier_db *lease = pier_db_lease(db, &err);
    int failures = 0;
    assert_int_equal(pier_db_execute(lease, three, NULL, &err), 0); /* prepares it */
    assert_int_equal(listen_to(lease, &err), 0);
    for (int n = 1; n < 40; n++) {
        int64_t heard_before = heard.count, dropped_before = heard.dropped;
        atomic_store(&failing, n);
        pier__alloc_set_gate(fail_one);
        int64_t done = pier_db_execute(lease, three, NULL, &err);
        pier__alloc_set_gate(NULL);
        assert_int_equal(pier_db_execute(lease, "do $$ begin raise notice 'd'; end $$", NULL, &err),
                         0);
        int64_t all = heard.count - heard_before + heard.dropped - dropped_before;
        assert_true(done == 0 ? all == 4 : all == 4 || all == 1);
        failures += heard.dropped > dropped_before;
    }
    /* Three, as a rule; but a wait of more than 10 ms takes memory too, so the next allocation may
     * be another one than in the call before. */
    assert_true(failures > 0);
    pier_db_close(lease);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_notice__of_a_function_has_all_its_fields),
        BOTH(test_notice__of_do_blocks_and_of_what_exists),
        TEST(test_notice__of_100_kb_is_cut_between_characters),
        TEST(test_notice__goes_to_the_log_where_there_is_no_hook),
        TEST(test_notice__of_every_connection_of_the_pool),
        TEST(test_notice__is_refused_for_other_databases),
        TEST(test_notice__without_memory_is_counted),
        TEST(test_notice__a_million_of_them),
        TEST(test_notice__a_storm_can_be_cancelled),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
