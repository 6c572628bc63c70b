/* Host names that are looked up slowly, which nothing can hurry: how long is waited for them, and
 * what goes on meanwhile. */
#include "tests/integration/postgres_fixture.h"

#include <dlfcn.h>
#include <netdb.h>
#include <time.h>

/* ---- A resolver that can be slow ---------------------------------------------------------- */

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int begun, under_way;
    bool held;
} resolver = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

typedef int (*lookup_fn)(const char *, const char *, const struct addrinfo *, struct addrinfo **);

static bool ends_with(const char *name, const char *end)
{
    size_t length = name ? strlen(name) : 0;
    return length > strlen(end) && strcmp(name + length - strlen(end), end) == 0;
}

/* With a bound, so that a test fails where the loop or the test itself has to look names up. */
static void wait_until_let(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += BOUND_MS / 1000;
    pthread_mutex_lock(&resolver.lock);
    resolver.begun++;
    resolver.under_way++;
    while (resolver.held &&
           pthread_cond_timedwait(&resolver.changed, &resolver.lock, &until) == 0) {
    }
    resolver.under_way--;
    pthread_mutex_unlock(&resolver.lock);
}

/* In the place of the C library's, for the whole program, libpq included. Names ending in ".slow"
 * are 127.0.0.1, but not before the test lets them; those in ".two" are an address on which nobody
 * listens, and that one. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **list)
{
    lookup_fn real;
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    bool slow = ends_with(name, ".slow"), two = ends_with(name, ".two");
    if (!slow && !two) {
        return real(name, service, hints, list);
    }
    if (hints && hints->ai_flags & AI_NUMERICHOST) {
        return EAI_NONAME;
    }
    if (slow) {
        wait_until_let();
        return real("127.0.0.1", service, hints, list);
    }
    int rc = real("127.0.0.2", service, hints, list);
    return rc ? rc : real("127.0.0.1", service, hints, &(*list)->ai_next);
}

static void hold_lookups(bool held)
{
    pthread_mutex_lock(&resolver.lock);
    resolver.held = held;
    pthread_cond_broadcast(&resolver.changed);
    pthread_mutex_unlock(&resolver.lock);
}

static int count_begun(void)
{
    pthread_mutex_lock(&resolver.lock);
    int begun = resolver.begun;
    pthread_mutex_unlock(&resolver.lock);
    return begun;
}

static bool is_under_way(void *wanted)
{
    pthread_mutex_lock(&resolver.lock);
    bool is = resolver.under_way == *(int *)wanted;
    pthread_mutex_unlock(&resolver.lock);
    return is;
}

static bool await_under_way(int count)
{
    return support_wait_until(is_under_way, &count, BOUND_MS);
}

/* ---- Opening ------------------------------------------------------------------------------ */

enum how { HERE, IN_TASK, AS_FUTURE, WAYS };

struct opening {
    char url[200];
    int connect_timeout_ms, deadline_ms;
    pier_db *pool;
    int64_t took_ms;
    pier_error err;
};

/* At the server's port on each host of a list. */
static struct opening opening_of(const char *hosts)
{
    struct opening opening = {.pool = NULL};
    snprintf(opening.url, sizeof opening.url,
             "postgresql://postgres@/postgres?host=%s&port=%d&password=s3cret", hosts, server.port);
    return opening;
}

static int do_open(pier_task *self, void *arg, pier_error *err)
{
    (void)self, (void)err;
    struct opening *opening = arg;
    opening->pool = pier_db_open(runner, opening->url,
                                 PIER_DB_OPTIONS(.pool_max = 2,
                                                 .connect_timeout_ms = opening->connect_timeout_ms),
                                 &opening->err);
    return 0;
}

static void open_in(enum how how, struct opening *opening)
{
    memset(&opening->err, 0, sizeof opening->err);
    opening->pool = NULL;
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = opening->deadline_ms), NULL);
    int64_t started = support_now_ms();
    if (how == HERE) {
        do_open(NULL, opening, NULL);
    } else if (how == IN_TASK) {
        (void)pier_task_run(runner, do_open, opening, &opening->err);
    } else {
        pier_future *future = pier_db_open_async(
            runner, opening->url,
            PIER_DB_OPTIONS(.pool_max = 2, .connect_timeout_ms = opening->connect_timeout_ms));
        opening->pool = pier_db_open_finish(future, &opening->err);
    }
    opening->took_ms = support_now_ms() - started;
    pier_scope_close(scope);
}

static void assert_took(const struct opening *opening, int bound_ms)
{
    assert_in_range(opening->took_ms, bound_ms - 20, bound_ms + AT_ONCE_MS);
}

/* ---- Tests -------------------------------------------------------------------------------- */

static void test_names__a_slow_lookup_costs_the_time_to_connect_and_no_more(void **state)
{
    (void)state;
    needs_own_server();
    struct opening opening = opening_of("db.slow");
    opening.connect_timeout_ms = 200;
    hold_lookups(true);
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_ECONNECT);
        assert_non_null(strstr(opening.err.message, "looking up db.slow took too long"));
        assert_took(&opening, 200);
    }
    assert_true(await_under_way(WAYS)); /* they have not ended, and nobody waits for them */
    hold_lookups(false);
    assert_true(await_under_way(0));
}

static void test_names__a_deadline_ends_the_wait_for_a_lookup(void **state)
{
    (void)state;
    needs_own_server();
    struct opening opening = opening_of("db.slow");
    opening.deadline_ms = 150;
    hold_lookups(true);
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_ETIMEDOUT);
        assert_took(&opening, 150);
    }
    hold_lookups(false);
    assert_true(await_under_way(0));
}

static int query_on_the_loop(pier_task *self, void *arg, pier_error *err)
{
    (void)self, (void)arg;
    return (int)pier_db_execute(db, "select 1", NULL, err);
}

/* While one lookup is under way for a future and one for a task: nothing of what else is asked of
 * the loop waits for them. When they end, both are connected. */
static void test_names__the_loop_goes_on_during_a_lookup(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    struct opening in_task = opening_of("db.slow");
    int begun = count_begun();
    hold_lookups(true);
    pier_future *future = pier_db_open_async(runner, in_task.url, NULL);
    pier_future *task = pier_task_start(runner, do_open, &in_task);
    assert_true(await_under_way(2));
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pier_db_execute_finish(pier_db_execute_async(db, "select 1", NULL), &err),
                         0);
        assert_int_equal(pier_task_run(runner, query_on_the_loop, NULL, &err), 0);
        assert_int_equal(pier_db_execute(db, "select 1", NULL, &err), 0);
    }
    assert_true(await_under_way(2));
    hold_lookups(false);
    pier_db *pool = pier_db_open_finish(future, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(pier_task_finish(task, &err), 0);
    assert_string_equal(in_task.err.message, "");
    assert_int_equal(count_begun() - begun, 2); /* libpq does not look up what has been */
    pier_db_close(pool);
    pier_db_close(in_task.pool);
}

/* The first host has its share of the time, as one that does not answer has. */
static void test_names__the_next_host_is_tried_after_a_slow_one(void **state)
{
    (void)state;
    needs_own_server();
    struct opening opening = opening_of("db.slow,127.0.0.1");
    opening.connect_timeout_ms = 2000;
    hold_lookups(true);
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_string_equal(opening.err.message, "");
        assert_in_range(opening.took_ms, 900, 2000);
        pier_db_close(opening.pool);
    }
    hold_lookups(false);
    assert_true(await_under_way(0));
}

static void test_names__each_address_is_tried(void **state)
{
    (void)state;
    needs_own_server();
    struct opening opening = opening_of("db.two");
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_string_equal(opening.err.message, "");
        pier_db_close(opening.pool);
    }
}

static void test_names__closing_the_pool_waits_for_no_lookup(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    struct opening opening = opening_of("db.slow");
    open_in(HERE, &opening);
    assert_string_equal(opening.err.message, "");
    pier_db *one = pier_db_lease(opening.pool, &err);
    hold_lookups(true);
    pier_future *two = pier_db_lease_async(opening.pool);
    assert_true(await_under_way(1));
    int64_t started = support_now_ms();
    pier_db_close(one);
    pier_db_close(opening.pool);
    assert_true(support_now_ms() - started < AT_ONCE_MS);
    pier_future_cancel(two);
    assert_null(pier_db_lease_finish(two, &err));
    assert_true(support_now_ms() - started < AT_ONCE_MS);
    hold_lookups(false);
    assert_true(await_under_way(0));
}

static void test_names__closing_the_runner_waits_for_no_lookup(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    struct opening opening = opening_of("db.slow");
    hold_lookups(true);
    pier_future *future = pier_db_open_async(runner, opening.url, NULL);
    assert_true(await_under_way(1));
    int64_t started = support_now_ms();
    pier_runner_close(runner);
    runner = NULL;
    assert_true(support_now_ms() - started < AT_ONCE_MS);
    assert_null(pier_db_open_finish(future, &err));
    assert_int_equal(err.status, PIER_ECLOSED);
    /* What it finds, nobody asks for any more. */
    hold_lookups(false);
    assert_true(await_under_way(0));
}

static int let_and_close(void **state)
{
    hold_lookups(false); /* a test that failed has not */
    return close_db(state);
}

#define NAMES(name) cmocka_unit_test_setup_teardown(name, open_db, let_and_close)

int main(void)
{
    const struct CMUnitTest tests[] = {
        NAMES(test_names__a_slow_lookup_costs_the_time_to_connect_and_no_more),
        NAMES(test_names__a_deadline_ends_the_wait_for_a_lookup),
        NAMES(test_names__the_loop_goes_on_during_a_lookup),
        NAMES(test_names__the_next_host_is_tried_after_a_slow_one),
        NAMES(test_names__each_address_is_tried),
        NAMES(test_names__closing_the_pool_waits_for_no_lookup),
        NAMES(test_names__closing_the_runner_waits_for_no_lookup),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
