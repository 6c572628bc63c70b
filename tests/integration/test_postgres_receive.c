/*
 * Threads that wait for Postgres by reading: they end in time, and nobody else blocks in their
 * sockets: not the loop, not who closes a connection, not a forked child. What blocks is seen by
 * functions that stand before those of the C library.
 */
#include "tests/integration/postgres_fixture.h"

#include "drivers/postgres/conn.h"
#include "sdk/alloc.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/wait.h>

enum { ENOUGH = 50, CLEAN_UP_MS = 5000 };

/* ---- What the driver calls ---------------------------------------------------------------- */

static _Thread_local int polls_here;
static _Thread_local bool is_loop, is_watched;
static atomic_int entered; /* calls of recv that may block, by threads that are watched */
static atomic_int blocked_loop;

int poll(struct pollfd *items, nfds_t count, int timeout_ms)
{
    const struct timespec timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000000L};
    polls_here++;
    return ppoll(items, count, timeout_ms < 0 ? NULL : &timeout, NULL);
}

static bool may_block(int fd, int flags)
{
    return !(flags & MSG_DONTWAIT) && !(fcntl(fd, F_GETFL) & O_NONBLOCK);
}

ssize_t recv(int fd, void *to, size_t size, int flags)
{
    if ((is_loop || is_watched) && may_block(fd, flags)) {
        atomic_fetch_add(is_loop ? &blocked_loop : &entered, 1);
    }
    return recvfrom(fd, to, size, flags, NULL, NULL);
}

ssize_t send(int fd, const void *from, size_t size, int flags)
{
    if (is_loop && may_block(fd, flags)) {
        atomic_fetch_add(&blocked_loop, 1);
    }
    return sendto(fd, from, size, flags, NULL, 0);
}

static int note_loop(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    is_loop = true;
    atomic_store(&blocked_loop, 0);
    return 0;
}

/* ---- Connections -------------------------------------------------------------------------- */

/* A lease whose threads may wait by reading. */
struct place {
    pier_db *pool, *lease, *other;
    struct support_proxy *proxy; /* NULL: there is none */
};

static pier_db *must_open(pier_runner *on, const char *url, int pool_max)
{
    pier_error err = {0};
    pier_db *pool = pier_db_open(
        on, url, PIER_DB_OPTIONS(.pool_max = pool_max, .reset = PIER_RESET_NONE), &err);
    assert_string_equal(err.message, "");
    return pool;
}

static pier_db *must_lease(pier_db *pool)
{
    pier_error err = {0};
    pier_db *lease = pier_db_lease(pool, &err);
    assert_string_equal(err.message, "");
    return lease;
}

static struct place open_tcp(pier_runner *on)
{
    struct place place = {.pool = must_open(on, server.url_tcp, 1)};
    place.lease = must_lease(place.pool);
    return place;
}

/* Two connections, since a single one on a unix socket is polled. */
static struct place open_unix_pair(pier_runner *on)
{
    struct place place = {.pool = must_open(on, server.url_unix, 2)};
    place.lease = must_lease(place.pool);
    place.other = must_lease(place.pool);
    return place;
}

static struct place open_proxied(void)
{
    char url[160];
    struct place place = {.proxy = support_proxy_start(server.port)};
    assert_non_null(place.proxy);
    snprintf(url, sizeof url, "postgresql://postgres@127.0.0.1:%d/postgres?sslmode=disable",
             support_proxy_port(place.proxy));
    place.pool = must_open(runner, url, 1);
    place.lease = must_lease(place.pool);
    return place;
}

static void close_place(struct place *place)
{
    pier_db_close(place->other);
    pier_db_close(place->lease);
    pier_db_close(place->pool);
    support_proxy_stop(place->proxy);
}

static int socket_of(const pier_db *lease)
{
    return ((const pier__postgres_conn *)lease->conn)->fd;
}

static int backend(pier_db *lease)
{
    pier_error err = {0};
    int pid = 0;
    int got = pier_db_fetch_into(lease, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    return pid;
}

/* Does this thread wait for an answer that takes a while without polling? Where the machine is
 * busy a few may take longer than a thread reads. */
static bool waits_by_reading(pier_db *lease)
{
    for (int i = 0; i < ENOUGH; i++) {
        pier_error err = {0};
        polls_here = 0;
        pier_db_execute(lease, "select pg_sleep(0.002)", NULL, &err);
        assert_string_equal(err.message, "");
        if (polls_here == 0) {
            return true;
        }
    }
    return false;
}

static void test_receive__costs_no_poll(void **state)
{
    (void)state;
    needs_own_server();
    struct place tcp = open_tcp(runner), pair = open_unix_pair(runner);
    assert_true(waits_by_reading(tcp.lease));
    assert_true(waits_by_reading(pair.lease));
    close_place(&tcp);
    close_place(&pair);
}

static void test_receive__is_not_for_a_single_unix_socket(void **state)
{
    (void)state;
    needs_own_server();
    pier_db *pool = must_open(runner, server.url_unix, 1);
    pier_db *lease = must_lease(pool);
    atomic_store(&entered, 0);
    assert_false(waits_by_reading(lease));
    assert_int_equal(atomic_load(&entered), 0);
    pier_db_close(lease);
    pier_db_close(pool);
}

/* ---- What ends it ------------------------------------------------------------------------- */

/* Gives how many calls it has been in; a busy machine may have left too little time for one. */
static int time_out(pier_db *lease)
{
    enum { DEADLINE_MS = 50 };
    pier_error err = {0};
    atomic_store(&entered, 0);
    int64_t started = support_now_ms();
    pier_scope *scope =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = DEADLINE_MS), NULL);
    int64_t status = pier_db_execute(lease, "select pg_sleep(30)", NULL, &err);
    int64_t took = support_now_ms() - started;
    pier_scope_close(scope);
    assert_int_equal(status, PIER_ETIMEDOUT);
    assert_in_range(took, DEADLINE_MS - 1, DEADLINE_MS + AT_ONCE_MS);
    return atomic_load(&entered);
}

static void expect_timeout(struct place *place)
{
    int pid = backend(place->lease), tries = ENOUGH;
    while (time_out(place->lease) == 0 && tries > 0) {
        tries--;
    }
    assert_true(tries > 0);
    /* It has been cancelled there, and the session goes on. */
    assert_int_equal(backend(place->lease), pid);
    close_place(place);
}

static void test_receive__ends_at_a_deadline(void **state)
{
    (void)state;
    needs_own_server();
    struct place tcp = open_tcp(runner), pair = open_unix_pair(runner);
    expect_timeout(&tcp);
    expect_timeout(&pair);
}

/* The kernel's timer of a socket is coarse. */
static void test_receive__is_not_for_a_deadline_that_is_near(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    struct place place = open_tcp(runner);
    backend(place.lease);
    atomic_store(&entered, 0);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 15), NULL);
    int64_t status = pier_db_execute(place.lease, "select pg_sleep(30)", NULL, &err);
    pier_scope_close(scope);
    assert_int_equal(status, PIER_ETIMEDOUT);
    assert_int_equal(atomic_load(&entered), 0);
    close_place(&place);
}

struct waiter {
    pthread_t thread;
    pier_runner *runner;
    pier_db *lease;
    const char *sql;
    _Atomic(pier_scope *) scope;
    atomic_bool told; /* nobody uses the scope any more */
    int64_t status, ended;
    pier_error err;
};

static bool is_told(void *user_data)
{
    return atomic_load(&((struct waiter *)user_data)->told);
}

static void join(struct waiter *waiter)
{
    atomic_store(&waiter->told, true);
    pthread_join(waiter->thread, NULL);
}

static void *wait_in_scope(void *arg)
{
    struct waiter *waiter = arg;
    is_watched = true;
    pier_scope *scope = pier_scope_open(waiter->runner, NULL, NULL);
    atomic_store(&waiter->scope, scope);
    waiter->status = pier_db_execute(waiter->lease, waiter->sql, NULL, &waiter->err);
    waiter->ended = support_now_ms();
    support_wait_until(is_told, waiter, BOUND_MS);
    pier_scope_close(scope);
    return NULL;
}

/* Returns when it is about to read. */
static void start_waiter(struct waiter *waiter)
{
    int64_t until = support_now_ms() + BOUND_MS;
    backend(waiter->lease);
    atomic_store(&entered, 0);
    assert_int_equal(pthread_create(&waiter->thread, NULL, wait_in_scope, waiter), 0);
    while (atomic_load(&entered) == 0 && support_now_ms() < until) {
        sched_yield();
    }
    assert_int_equal(atomic_load(&entered), 1);
}

static void expect_cancelled(struct place *place)
{
    struct waiter waiter = {.runner = runner, .lease = place->lease, .sql = "select pg_sleep(30)"};
    int pid = backend(place->lease);
    start_waiter(&waiter);
    int64_t started = support_now_ms();
    pier_scope_cancel(atomic_load(&waiter.scope));
    join(&waiter);
    assert_int_equal(waiter.status, PIER_ECANCELLED);
    assert_in_range(waiter.ended - started, 0, AT_ONCE_MS);
    assert_int_equal(backend(place->lease), pid);
    close_place(place);
}

static void test_receive__ends_when_another_thread_cancels(void **state)
{
    (void)state;
    needs_own_server();
    struct place tcp = open_tcp(runner), pair = open_unix_pair(runner);
    expect_cancelled(&tcp);
    expect_cancelled(&pair);
}

static void expect_closed(struct place (*open)(pier_runner *on))
{
    pier_runner *other = pier_runner_open(NULL, NULL);
    struct place place = open(other);
    struct waiter waiter = {
        .runner = other, .lease = place.lease, .told = true, .sql = "select pg_sleep(30)"};
    start_waiter(&waiter);
    int64_t started = support_now_ms();
    pier_runner_close(other);
    assert_in_range(support_now_ms() - started, 0, CLEAN_UP_MS + AT_ONCE_MS);
    join(&waiter);
    assert_int_equal(waiter.status, PIER_ECLOSED);
    assert_in_range(waiter.ended - started, 0, AT_ONCE_MS);
    assert_true(await_running("pg_sleep", 0));
}

static void test_receive__ends_when_the_runner_closes(void **state)
{
    (void)state;
    needs_own_server();
    expect_closed(open_tcp);
    expect_closed(open_unix_pair);
}

static void expect_broken(bool reset)
{
    struct place place = open_proxied();
    /* The server is not told, and sleeps on. */
    struct waiter waiter = {.runner = runner, .lease = place.lease, .sql = "select pg_sleep(1)"};
    support_proxy_use_reset(place.proxy, reset);
    start_waiter(&waiter);
    int64_t started = support_now_ms();
    support_proxy_kill_connections(place.proxy);
    join(&waiter);
    assert_int_equal(waiter.status, PIER_EIO);
    assert_in_range(waiter.ended - started, 0, AT_ONCE_MS);
    assert_non_null(strstr(waiter.err.message,
                           reset ? "Connection reset" : "the server closed the connection"));
    pier_db_close(place.lease);
    place.lease = must_lease(place.pool);
    assert_true(backend(place.lease) > 0);
    close_place(&place);
}

static void test_receive__ends_with_the_connection(void **state)
{
    (void)state;
    needs_own_server();
    expect_broken(false);
    expect_broken(true);
}

static atomic_int failing; /* the allocation that fails, from 1; 0: none */

static bool fail_one(size_t size)
{
    (void)size;
    return atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1;
}

/* A call that fails for want of memory costs its connection at most: the next one succeeds. */
static void test_receive__without_memory_spoils_no_other_call(void **state)
{
    (void)state;
    needs_own_server();
    bool failed = true;
    for (int n = 1; failed; n++) {
        pier_error err = {0};
        struct place place = open_tcp(runner);
        atomic_store(&failing, n);
        pier__alloc_set_gate(fail_one);
        pier_result *result =
            pier_db_fetch(place.lease, "select repeat('x', 40000), pg_sleep(0.002)", NULL, &err);
        pier__alloc_set_gate(NULL);
        failed = atomic_exchange(&failing, 0) <= 0;
        assert_true(result || err.status == PIER_ENOMEM);
        pier_result_free(result);
        pier_db_close(place.lease);
        place.lease = must_lease(place.pool);
        assert_true(backend(place.lease) > 0);
        close_place(&place);
        assert_true(failed || n > 5);
    }
}

/* ---- The loop, which never blocks --------------------------------------------------------- */

struct clock {
    atomic_bool stop;
    atomic_int ticks;
};

static int tick(pier_task *self, void *arg, pier_error *err)
{
    struct clock *clock = arg;
    while (!atomic_load(&clock->stop) && pier_task_sleep(self, 1, err) == 0) {
        atomic_fetch_add(&clock->ticks, 1);
    }
    return 0;
}

static pier_future *start_clock(struct clock *clock)
{
    assert_int_equal(pier_task_run(runner, note_loop, NULL, NULL), 0);
    return pier_task_start(runner, tick, clock);
}

static int stop_clock(struct clock *clock, pier_future *future)
{
    pier_error err = {0};
    atomic_store(&clock->stop, true);
    assert_int_equal(pier_task_finish(future, &err), 0);
    return atomic_load(&clock->ticks);
}

/* libuv makes sockets non-blocking, for good. */
static void alternate(struct place *place)
{
    enum { FUTURES = 8 };
    pier_future *futures[FUTURES];
    pier_error err = {0};
    struct clock clock = {.stop = false};
    int64_t done = 0;
    assert_true(waits_by_reading(place->lease));
    pier_future *ticking = start_clock(&clock);
    for (int i = 0; i < FUTURES; i++) {
        futures[i] = pier_db_execute_async(place->lease, "select pg_sleep(0.03)", NULL);
    }
    for (int i = 0; i < FUTURES; i++) {
        done += pier_db_execute_finish(futures[i], &err) == 0;
    }
    int ticks = stop_clock(&clock, ticking);
    assert_string_equal(err.message, "");
    assert_int_equal(done, FUTURES);
    assert_in_range(ticks, FUTURES, 1000000);
    assert_int_equal(atomic_load(&blocked_loop), 0);
    assert_true(waits_by_reading(place->lease));
    close_place(place);
}

static void test_receive__goes_on_after_the_loop_had_the_connection(void **state)
{
    (void)state;
    needs_own_server();
    struct place tcp = open_tcp(runner), pair = open_unix_pair(runner);
    alternate(&tcp);
    alternate(&pair);
}

/* What reads before anything is known to have come, or sends a lot. */
static int do_all(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    pier_db *pool = arg, *lease = pier_db_lease(pool, err);
    pier_db_execute(lease, "set work_mem = '8MB'", NULL, err);
    pier_db_close(lease); /* the next one reads the answer to what undoes that */
    pier_db_execute(pool, "create temp table t(x text)", NULL, err);
    pier_cursor *cursor =
        pier_db_cursor(pool, "select repeat('x', 1000) from generate_series(1, 3000)", NULL, err);
    int status = pier_cursor_next(cursor) ? 0 : -1;
    int closed = pier_cursor_close(cursor, err);
    pier_db *tx = pier_db_begin(pool, NULL, err);
    pier_db_execute(tx, "select 1", NULL, err);
    pier_db_close(tx);
    return err->status ? err->status : status < 0 ? status : closed;
}

static void test_receive__the_loop_blocks_in_no_call(void **state)
{
    (void)state;
    needs_own_server();
    pier_error err = {0};
    pier_db *pool = pier_db_open(runner, server.url_tcp, PIER_DB_OPTIONS(.pool_max = 1), &err);
    assert_int_equal(pier_task_run(runner, note_loop, NULL, NULL), 0);
    assert_int_equal(pier_task_run(runner, do_all, pool, &err), 0);
    assert_string_equal(err.message, "");
    assert_int_equal(atomic_load(&blocked_loop), 0);
    pier_db_close(pool);
}

static bool has_ticked(void *clock)
{
    enum { TICKS = 30 };
    return atomic_load(&((struct clock *)clock)->ticks) >= TICKS;
}

/* More than the buffers of all sockets on the way hold, while nobody reads. */
static void test_receive__the_loop_goes_on_while_a_server_takes_nothing(void **state)
{
    (void)state;
    enum { LARGE = 32 * 1024 * 1024 };
    needs_own_server();
    pier_error err = {0};
    struct clock clock = {.stop = false};
    struct place place = open_proxied();
    char *text = malloc(LARGE + 1);
    memset(text, 'x', LARGE);
    text[LARGE] = 0;
    backend(place.lease);
    pier_future *ticking = start_clock(&clock);
    support_proxy_pause(place.proxy);
    pier_future *future =
        pier_db_execute_async(place.lease, "select length($1::text)", PIER_ARGS(text));
    assert_true(support_wait_until(has_ticked, &clock, BOUND_MS));
    support_proxy_resume(place.proxy);
    int64_t done = pier_db_execute_finish(future, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(done, 0);
    stop_clock(&clock, ticking);
    free(text);
    close_place(&place);
}

/* ---- Who ends a connection ---------------------------------------------------------------- */

/* Until not a byte more goes into it. A socket is said to be writable only when much does. */
static void fill_up(int fd)
{
    enum { ROUNDS = 20, PAUSE_US = 20000, LARGE = 64 * 1024 };
    static char bytes[LARGE];
    for (int round = 0; round < ROUNDS; round++) {
        for (size_t size = LARGE; size > 0; size /= 2) {
            while (send(fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL) > 0) {
                round = 0;
            }
            assert_int_equal(errno, EAGAIN);
        }
        usleep(PAUSE_US);
    }
}

/* libpq says goodbye. */
static void test_receive__a_connection_to_a_hung_server_is_closed_at_once(void **state)
{
    (void)state;
    needs_own_server();
    struct place place = open_proxied();
    assert_true(waits_by_reading(place.lease));
    support_proxy_pause(place.proxy);
    fill_up(socket_of(place.lease));
    int64_t started = support_now_ms();
    pier_db_close(place.lease);
    pier_db_close(place.pool);
    assert_in_range(support_now_ms() - started, 0, AT_ONCE_MS);
    support_proxy_stop(place.proxy);
}

/* The flags of a descriptor are the same in both processes. */
static void test_receive__a_forked_child_leaves_the_socket_as_it_is(void **state)
{
    (void)state;
    needs_own_server();
    struct place place = open_tcp(runner);
    int pid = backend(place.lease), status = -1;
    int flags = fcntl(socket_of(place.lease), F_GETFL);
    assert_false(flags & O_NONBLOCK);
    pid_t child = fork();
    if (child == 0) {
        close_place(&place);
        pier_db_close(db);
        pier_runner_close(runner);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(fcntl(socket_of(place.lease), F_GETFL), flags);
    assert_int_equal(backend(place.lease), pid);
    assert_true(waits_by_reading(place.lease));
    close_place(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_receive__costs_no_poll),
        TEST(test_receive__is_not_for_a_single_unix_socket),
        TEST(test_receive__ends_at_a_deadline),
        TEST(test_receive__is_not_for_a_deadline_that_is_near),
        TEST(test_receive__ends_when_another_thread_cancels),
        TEST(test_receive__ends_when_the_runner_closes),
        TEST(test_receive__ends_with_the_connection),
        TEST(test_receive__without_memory_spoils_no_other_call),
        TEST(test_receive__goes_on_after_the_loop_had_the_connection),
        TEST(test_receive__the_loop_blocks_in_no_call),
        TEST(test_receive__the_loop_goes_on_while_a_server_takes_nothing),
        TEST(test_receive__a_connection_to_a_hung_server_is_closed_at_once),
        TEST(test_receive__a_forked_child_leaves_the_socket_as_it_is),
    };
    is_watched = true;
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
