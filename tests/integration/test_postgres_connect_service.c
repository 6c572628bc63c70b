/*
 * Service files. Each is a FIFO here, whose reader waits for a writer as for a file server that
 * does not answer: who waits for it, for how long, and what the file says in the end.
 */
#include "tests/integration/postgres_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

static char fifo[320], next_fifo[330];

/* ---- Writing it ---------------------------------------------------------------------------- */

static struct {
    pthread_t thread;
    char text[600];
    atomic_bool over;
    bool runs;
} writer;

/* Serves whoever opens the FIFO for reading, one at a time. Each has it to himself: by the time he
 * reads there is another in its place, or the next would meet what he left, an end without a text.
 */
static void *write_on(void *unused)
{
    (void)unused;
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    while (!atomic_load(&writer.over)) {
        int fd = open(fifo, O_WRONLY | O_CLOEXEC);
        if (!atomic_load(&writer.over) && mkfifo(next_fifo, 0600) == 0 &&
            rename(next_fifo, fifo) == 0) {
            (void)!write(fd, writer.text, strlen(writer.text));
        }
        close(fd);
    }
    return NULL;
}

/* From now on there is this service, for user postgres, with these lines. */
static void let_it_be_read(const char *service, const char *lines)
{
    snprintf(writer.text, sizeof writer.text, "[%s]\nuser=postgres\ndbname=postgres\n%s", service,
             lines);
    atomic_store(&writer.over, false);
    assert_int_equal(pthread_create(&writer.thread, NULL, write_on, NULL), 0);
    writer.runs = true;
}

static char *where_the_server_is(void)
{
    static char lines[160];
    snprintf(lines, sizeof lines, "host=127.0.0.1\nport=%d\n", server.port);
    return lines;
}

static void stop_writing(void)
{
    if (writer.runs) {
        atomic_store(&writer.over, true);
        int fd = open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* one who waits for a reader */
        pthread_join(writer.thread, NULL);
        close(fd);
        writer.runs = false;
    }
}

/* ---- Before and after ----------------------------------------------------------------------- */

enum { HUNG_S = 40 };

static int open_fifo(void **state)
{
    if (open_db(state)) {
        return -1;
    }
    needs_own_server();
    snprintf(fifo, sizeof fifo, "%s/services", server.directory);
    snprintf(next_fifo, sizeof next_fifo, "%s.next", fifo);
    setenv("PGSERVICEFILE", fifo, 1);
    alarm(HUNG_S); /* where the loop or the test itself reads the file, nothing else ends that */
    return mkfifo(fifo, 0600);
}

/* Nobody waits for them any more, but they wait for a writer. */
static bool are_readers_gone(void *unused)
{
    (void)unused;
    close(open(fifo, O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    return support_thread_count() <= threads_before;
}

static int close_fifo(void **state)
{
    pier_runner_close(runner);
    runner = NULL;
    stop_writing();
    bool gone = support_wait_until(are_readers_gone, NULL, BOUND_MS);
    alarm(0);
    unlink(fifo);
    return close_db(state) || !gone ? -1 : 0;
}

/* ---- Opening ------------------------------------------------------------------------------ */

enum how { HERE, IN_TASK, AS_FUTURE, WAYS };

struct opening {
    int connect_timeout_ms, deadline_ms;
    const pier_postgres_options *postgres;
    pier_db *pool;
    int64_t took_ms;
    pier_error err;
};

static const char url[] = "postgresql:///?service=ada";

static int do_open(pier_task *self, void *arg, pier_error *err)
{
    (void)self, (void)err;
    struct opening *opening = arg;
    opening->pool = pier_db_open(runner, url,
                                 PIER_DB_OPTIONS(.pool_max = 2, .postgres = opening->postgres,
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
        pier_future *future =
            pier_db_open_async(runner, url,
                               PIER_DB_OPTIONS(.pool_max = 2, .postgres = opening->postgres,
                                               .connect_timeout_ms = opening->connect_timeout_ms));
        opening->pool = pier_db_open_finish(future, &opening->err);
    }
    opening->took_ms = support_now_ms() - started;
    pier_scope_close(scope);
}

/* ---- Tests -------------------------------------------------------------------------------- */

static int query_on_the_loop(pier_task *self, void *arg, pier_error *err)
{
    (void)self, (void)arg;
    return (int)pier_db_execute(db, "select 1", NULL, err);
}

static void go_on_during(pier_future *opening)
{
    pier_error err = {0};
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pier_db_execute_finish(pier_db_execute_async(db, "select 1", NULL), &err),
                         0);
        assert_int_equal(pier_task_run(runner, query_on_the_loop, NULL, &err), 0);
    }
    assert_false(pier_future_done(opening));
    let_it_be_read("ada", where_the_server_is());
}

static void test_service__the_loop_goes_on_while_its_file_is_read(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *future = pier_db_open_async(runner, url, NULL);
    go_on_during(future);
    pier_db *pool = pier_db_open_finish(future, &err);
    assert_string_equal(err.message, "");
    pier_db_close(pool);
}

static void test_service__the_loop_goes_on_while_a_task_reads_its_file(void **state)
{
    (void)state;
    pier_error err = {0};
    struct opening in_task = {.pool = NULL};
    pier_future *task = pier_task_start(runner, do_open, &in_task);
    go_on_during(task);
    assert_int_equal(pier_task_finish(task, &err), 0);
    assert_string_equal(in_task.err.message, "");
    pier_db_close(in_task.pool);
}

static void test_service__a_file_costs_the_time_to_connect_and_no_more(void **state)
{
    (void)state;
    struct opening opening = {.connect_timeout_ms = 200};
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_ECONNECT);
        assert_non_null(strstr(opening.err.message, "reading the service file took too long"));
        assert_in_range(opening.took_ms, 180, 200 + AT_ONCE_MS);
    }
}

static void test_service__a_deadline_ends_the_wait_for_the_file(void **state)
{
    (void)state;
    struct opening opening = {.deadline_ms = 150};
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_ETIMEDOUT);
        assert_in_range(opening.took_ms, 130, 150 + AT_ONCE_MS);
    }
}

/* The file is read again for each connection; that of a pool which is open already hangs too. */
static void test_service__later_connections_wait_no_longer_either(void **state)
{
    (void)state;
    struct opening opening = {.connect_timeout_ms = 1500};
    pier_error err = {0};
    let_it_be_read("ada", where_the_server_is());
    open_in(HERE, &opening);
    assert_string_equal(opening.err.message, "");
    stop_writing();
    pier_db *one = pier_db_lease(opening.pool, &err);
    int64_t started = support_now_ms();
    assert_null(pier_db_lease(opening.pool, &err));
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_in_range(support_now_ms() - started, 1450, 1500 + AT_ONCE_MS);
    pier_db_close(one);
    pier_db_close(opening.pool);
}

static void test_service__closing_the_runner_does_not_wait_for_the_file(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_future *future = pier_db_open_async(runner, url, NULL);
    assert_int_equal(pier_db_execute_finish(pier_db_execute_async(db, "select 1", NULL), &err), 0);
    int64_t started = support_now_ms();
    pier_runner_close(runner);
    runner = NULL;
    assert_true(support_now_ms() - started < AT_ONCE_MS);
    assert_null(pier_db_open_finish(future, &err));
    assert_int_equal(err.status, PIER_ECLOSED);
}

static void test_service__says_as_much_as_a_url(void **state)
{
    (void)state;
    char lines[400];
    const char *const settings[] = {"lock_timeout=4321", NULL};
    const pier_postgres_options *postgres = PIER_POSTGRES_OPTIONS(.settings = settings);
    struct opening opening = {.postgres = postgres};
    snprintf(lines, sizeof lines,
             "host=127.0.0.1,127.0.0.1\nport=%d,%d\ntarget_session_attrs=read-write\n"
             "options=-c statement_timeout=1234\napplication_name=of the file\n",
             support_port_refused(), server.port);
    let_it_be_read("ada", lines);
    for (enum how how = HERE; how < WAYS; how++) {
        pier_error err = {0};
        char text[100] = "";
        open_in(how, &opening);
        assert_string_equal(opening.err.message, "");
        int got = pier_db_fetch_into(opening.pool,
                                     "select concat_ws(' ', current_setting('statement_timeout'), "
                                     "current_setting('lock_timeout'), "
                                     "current_setting('application_name'))",
                                     NULL, PIER_INTO(pier_into_buffer(text, sizeof text)), &err);
        assert_int_equal(got, 1);
        assert_string_equal(text, "1234ms 4321ms of the file");
        pier_db_close(opening.pool);
    }
}

static void test_service__says_how_long_connecting_may_take(void **state)
{
    (void)state;
    char lines[160];
    struct support_silent_server silent;
    struct opening opening = {.pool = NULL};
    assert_int_equal(support_silent_server_start(&silent), 0);
    snprintf(lines, sizeof lines, "host=127.0.0.1\nport=%d\nconnect_timeout=1\n", silent.port);
    let_it_be_read("ada", lines);
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_ECONNECT);
        assert_in_range(opening.took_ms, 980, 1000 + AT_ONCE_MS);
    }
    support_silent_server_stop(&silent);
}

static void test_service__that_the_file_does_not_have(void **state)
{
    (void)state;
    struct opening opening = {.pool = NULL};
    let_it_be_read("bob", "");
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_ECONNECT);
        assert_non_null(strstr(opening.err.message, "?service=ada: definition of service \"ada\""));
    }
}

static void test_service__whose_servers_make_no_sense(void **state)
{
    (void)state;
    struct opening opening = {.pool = NULL};
    let_it_be_read("ada", "host=one,two,three\nport=1,2\n");
    for (enum how how = HERE; how < WAYS; how++) {
        open_in(how, &opening);
        assert_int_equal(opening.err.status, PIER_EINVAL);
        assert_non_null(strstr(opening.err.message, "names 3 hosts"));
    }
}

#define FIFO(name) cmocka_unit_test_setup_teardown(name, open_fifo, close_fifo)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FIFO(test_service__the_loop_goes_on_while_its_file_is_read),
        FIFO(test_service__the_loop_goes_on_while_a_task_reads_its_file),
        FIFO(test_service__a_file_costs_the_time_to_connect_and_no_more),
        FIFO(test_service__a_deadline_ends_the_wait_for_the_file),
        FIFO(test_service__later_connections_wait_no_longer_either),
        FIFO(test_service__closing_the_runner_does_not_wait_for_the_file),
        FIFO(test_service__says_as_much_as_a_url),
        FIFO(test_service__says_how_long_connecting_may_take),
        FIFO(test_service__that_the_file_does_not_have),
        FIFO(test_service__whose_servers_make_no_sense),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
