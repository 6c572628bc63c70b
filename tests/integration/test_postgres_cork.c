/*
 * What the loop sends, and when: behind everything that it has read and run in the same round. What
 * it reads and sends is seen by functions that stand before those of the C library.
 */
#include "sdk/loop_internal.h" /* its parameters would shadow `runner` below */
#include "tests/integration/postgres_fixture.h"

#include "drivers/postgres/conn.h"
#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { LEASES = 3, LOG = 64 };

#define SQL_ECHO "select $1::int"

/* ---- What the loop does with the sockets of the leases ------------------------------------ */

static _Thread_local bool is_loop;
static atomic_int sockets[LEASES];
static char notes[LOG + 1]; /* r: read, c: a callback, s: sent; the loop's */
static int noted;
static int answer_size;                  /* of the last one */
static atomic_int refused, refused_with; /* sends still to be refused, and the error, */
static int let_pass;                     /* behind so many that are not; the loop's */

static void note(char what)
{
    if (noted < LOG) {
        notes[noted++] = what;
        notes[noted] = 0;
    }
}

static bool is_watched(int fd)
{
    bool is = false;
    for (int i = 0; i < LEASES && is_loop; i++) {
        is |= atomic_load(&sockets[i]) == fd;
    }
    return is;
}

ssize_t recv(int fd, void *to, size_t size, int flags)
{
    ssize_t got = recvfrom(fd, to, size, flags, NULL, NULL);
    if (is_watched(fd) && got > 0) {
        note('r');
        answer_size = (int)got;
    }
    return got;
}

ssize_t send(int fd, const void *from, size_t size, int flags)
{
    if (is_watched(fd)) {
        if (let_pass > 0) {
            let_pass--;
        } else if (atomic_load(&refused) > 0) {
            atomic_fetch_sub(&refused, 1);
            errno = atomic_load(&refused_with);
            return -1;
        }
        note('s');
    }
    return sendto(fd, from, size, flags, NULL, 0);
}

/* ---- Leases whose statement is prepared --------------------------------------------------- */

static pier_db *pool, *leases[LEASES];

static int echo(pier_db *lease, int number, pier_error *err)
{
    int answer = 0;
    *err = (pier_error){0};
    int got = pier_db_fetch_into(lease, SQL_ECHO, PIER_ARGS(number), PIER_INTO(&answer), err);
    return got < 0 ? got : answer;
}

static int note_loop(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    is_loop = true;
    return 0;
}

static void open_leases(void)
{
    pier_error err = {0};
    needs_own_server();
    pool = pier_db_open(runner, server.url_unix, PIER_DB_OPTIONS(.pool_max = LEASES), &err);
    for (int i = 0; i < LEASES; i++) {
        leases[i] = pier_db_lease(pool, &err);
        assert_string_equal(err.message, "");
        assert_int_equal(echo(leases[i], i, &err), i);
        atomic_store(&sockets[i], ((const pier__postgres_conn *)leases[i]->conn)->fd);
    }
    noted = 0;
    assert_int_equal(pier_task_run(runner, note_loop, NULL, &err), 0);
}

static void close_leases(void)
{
    atomic_store(&refused, 0);
    for (int i = 0; i < LEASES; i++) {
        pier_db_close(leases[i]);
        atomic_store(&sockets[i], -1);
    }
    pier_db_close(pool);
}

/* ---- Rounds ------------------------------------------------------------------------------- */

struct chain {
    pier_future *again[LEASES];
    int answered; /* of the first ones */
};

static struct chain chain;

static int finish(pier_future *future, pier_error *err)
{
    *err = (pier_error){0};
    pier_result *result = pier_db_fetch_finish(future, err);
    int number = result ? (int)pier_row_int64(pier_result_row(result, 0), 0) : err->status;
    pier_result_free(result);
    return number;
}

/* Asks again as soon as there is an answer. */
static void ask_again(pier_future *future, void *data)
{
    pier_error err;
    int at = (int)(intptr_t)data;
    note('c');
    chain.answered += finish(future, &err) == at;
    chain.again[at] = pier_db_fetch_async(leases[at], SQL_ECHO, PIER_ARGS(10 + at));
}

/* Behind what the round sends: keeps the loop until so much of the answers is there on each socket
 * that it has sent to, so that the next round finds all of them. */
struct hold {
    pier__post post;
    int count, bytes;
    int noted;
};

static int unread(int fd)
{
    int size = 0;
    return ioctl(fd, FIONREAD, &size) == 0 ? size : 0;
}

static void hold_loop(pier__post *post)
{
    struct hold *hold = (struct hold *)(void *)post;
    int64_t until = support_now_ms() + BOUND_MS;
    for (int i = 0; i < hold->count; i++) {
        int fd = atomic_load(&sockets[i]);
        while (unread(fd) < hold->bytes && support_now_ms() < until) {
            struct pollfd item = {.fd = fd, .events = POLLIN};
            poll(&item, 1, 1);
        }
    }
    hold->noted = noted;
    noted = 0;
}

/* What has been started so far is sent in this round, and answered behind it. */
static void hold_behind_sending(pier_task *self, struct hold *hold, pier_error *err)
{
    hold->post.run = hold_loop;
    pier_task_sleep(self, 0, err);
    pier__loop_push_late_on_loop(pier_task_runner(self), &hold->post);
}

static int ask_twice(pier_task *self, void *arg, pier_error *err)
{
    struct hold hold = {.count = LEASES, .bytes = 1};
    (void)arg;
    for (int i = 0; i < LEASES; i++) {
        pier_future_then(pier_db_fetch_async(leases[i], SQL_ECHO, PIER_ARGS(i)), ask_again,
                         (void *)(intptr_t)i);
    }
    hold_behind_sending(self, &hold, err);
    while (chain.answered < LEASES && pier_task_sleep(self, 1, err) == 0) {
    }
    return 0;
}

static void test_cork__a_round_reads_then_runs_then_sends(void **state)
{
    (void)state;
    pier_error err = {0};
    open_leases();
    chain = (struct chain){.answered = 0};
    pier_future *future = pier_task_start(runner, ask_twice, NULL);
    assert_int_equal(pier_future_wait(future, BOUND_MS, &err), 1);
    assert_int_equal(pier_task_finish(future, &err), 0);
    for (int i = 0; i < LEASES; i++) {
        assert_int_equal(finish(chain.again[i], &err), 10 + i);
    }
    assert_int_equal(chain.answered, LEASES);
    notes[3 * LEASES] = 0; /* behind that come the last answers */
    assert_string_equal(notes, "rrrcccsss");
    close_leases();
}

#define SQL_LARGE "select repeat('x', 40000)"
enum { LARGE_BYTES = 40000 };

static int large_answers;

static void take_large(pier_future *future, void *data)
{
    pier_error err = {0};
    (void)data;
    note('c');
    pier_result *result = pier_db_fetch_finish(future, &err);
    large_answers += result != NULL;
    pier_result_free(result);
}

static int ask_for_much(pier_task *self, void *arg, pier_error *err)
{
    struct hold hold = {.count = LEASES, .bytes = LARGE_BYTES};
    (void)arg;
    for (int i = 0; i < LEASES; i++) {
        pier_result_free(pier_db_fetch(leases[i], SQL_LARGE, NULL, err));
    }
    for (int i = 0; i < LEASES; i++) {
        pier_future_then(pier_db_fetch_async(leases[i], SQL_LARGE, NULL), take_large, NULL);
    }
    hold_behind_sending(self, &hold, err);
    while (large_answers < LEASES && pier_task_sleep(self, 1, err) == 0) {
    }
    return 0;
}

/* Else a round would hold all of them at once, and find none in the caches. */
static void test_cork__what_is_large_is_taken_before_more_is_read(void **state)
{
    (void)state;
    pier_error err = {0};
    open_leases();
    large_answers = 0;
    assert_int_equal(pier_task_run(runner, ask_for_much, NULL, &err), 0);
    const char *first = strchr(notes, 'c');
    assert_non_null(first);
    const char *last = strrchr(notes, 'r');
    assert_true(last > first);
    assert_int_equal(notes[0], 'r');
    close_leases();
}

/* ---- Sending that fails ------------------------------------------------------------------- */

static int echo_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    return echo(leases[0], *(const int *)arg, err);
}

static void test_cork__what_the_socket_does_not_take_is_sent_later(void **state)
{
    (void)state;
    pier_error err = {0};
    int number = 7;
    open_leases();
    atomic_store(&refused_with, EAGAIN);
    atomic_store(&refused, 3);
    assert_int_equal(pier_task_run(runner, echo_in_task, &number, &err), 7);
    assert_int_equal(atomic_load(&refused), 0);
    close_leases();
}

static void test_cork__a_connection_that_breaks_is_told(void **state)
{
    (void)state;
    pier_error err = {0};
    int number = 7;
    open_leases();
    atomic_store(&refused_with, EPIPE);
    atomic_store(&refused, LOG);
    int64_t started = support_now_ms();
    assert_int_equal(pier_task_run(runner, echo_in_task, &number, &err), PIER_EIO);
    assert_in_range(support_now_ms() - started, 0, AT_ONCE_MS);
    assert_non_null(strstr(err.message, "Broken pipe"));
    close_leases();
}

/* Reads a cursor to its end, where its portal is closed; that is what is not sent. */
static int read_to_the_end(pier_task *self, void *arg, pier_error *err)
{
    int *answers = arg;
    (void)self;
    pier_db *tx = pier_db_begin(leases[0], NULL, err);
    pier_cursor *cursor = pier_db_cursor(tx, "select generate_series(1, 3)", NULL, err);
    let_pass = 2; /* what prepares it, and what asks for its rows */
    atomic_store(&refused_with, ENOBUFS);
    atomic_store(&refused, 1);
    while (pier_cursor_next(cursor)) {
        answers[0]++;
    }
    answers[1] = atomic_load(&refused);
    answers[3] = pier_cursor_close(cursor, err);
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = AT_ONCE_MS), NULL);
    answers[2] = echo(tx, 8, err);
    pier_scope_close(scope);
    pier_db_close(tx);
    return 0;
}

static void test_cork__the_end_of_a_portal_that_is_not_sent_is_made_up_for(void **state)
{
    (void)state;
    pier_error err = {0};
    int answers[4] = {0};
    open_leases();
    assert_int_equal(pier_task_run(runner, read_to_the_end, answers, &err), 0);
    assert_int_equal(answers[0], 3);
    assert_int_equal(answers[1], 0);
    assert_int_equal(answers[2], 8);
    assert_int_equal(answers[3], 0);
    close_leases();
}

/* ---- Cancelling what is not sent ---------------------------------------------------------- */

struct cancelled {
    int sent_before, sent_behind; /* the cancelling */
    int status, answer;
};

/* The round does not end while somebody is ready, as this task is. */
static int cancel_at_once(pier_task *self, void *arg, pier_error *err)
{
    struct cancelled *cancelled = arg;
    pier_error failed;
    pier_future *future = pier_db_fetch_async(leases[0], "select pg_sleep(30)", NULL);
    pier_task_sleep(self, 0, err);
    cancelled->sent_before = noted;
    pier_future_cancel(future);
    pier_task_sleep(self, 0, err);
    cancelled->sent_behind = noted;
    cancelled->status = finish(future, &failed);
    cancelled->answer = echo(leases[0], 5, &failed);
    return 0;
}

static void test_cork__the_server_has_what_it_is_to_cancel(void **state)
{
    (void)state;
    pier_error err = {0};
    struct cancelled cancelled;
    open_leases();
    pier_db_execute(leases[0], "select pg_sleep(0)", NULL, &err);
    noted = 0;
    int64_t started = support_now_ms();
    assert_int_equal(pier_task_run(runner, cancel_at_once, &cancelled, &err), 0);
    assert_in_range(support_now_ms() - started, 0, AT_ONCE_MS);
    assert_int_equal(cancelled.sent_before, 0);
    assert_int_equal(cancelled.sent_behind, 1);
    assert_int_equal(cancelled.status, PIER_ECANCELLED);
    assert_int_equal(cancelled.answer, 5);
    close_leases();
}

struct given_up {
    int status, sent;
};

/* What undoes the transaction is not sent when it is cancelled: the end of the session undoes it.
 */
static int give_up(pier_task *self, void *arg, pier_error *err)
{
    struct given_up *given_up = arg;
    pier_error failed = {0};
    pier_db *tx = pier_db_begin(leases[0], NULL, err);
    pier_db_execute(tx, "select 1 / 0", NULL, &failed);
    noted = 0;
    pier_future *future = pier_db_commit_async(tx);
    pier_task_sleep(self, 0, err);
    pier_future_cancel(future);
    pier_task_sleep(self, 0, err);
    given_up->status = pier_db_commit_finish(future, &failed);
    pier_task_sleep(self, 1, err);
    given_up->sent = noted;
    pier_db_close(tx);
    return 0;
}

static void test_cork__nothing_is_sent_by_a_connection_that_was_given_up(void **state)
{
    (void)state;
    pier_error err = {0};
    struct given_up given_up;
    open_leases();
    assert_int_equal(pier_task_run(runner, give_up, &given_up, &err), 0);
    assert_true(given_up.status < 0);
    assert_int_equal(given_up.sent, 0);
    close_leases();
}

/* ---- Requests behind others --------------------------------------------------------------- */

enum { BEHIND = 5 };

struct queue {
    pier_future *again[BEHIND];
    int answered, sent, sent_again;
};

static struct queue queue;

static void queue_again(pier_future *future, void *data)
{
    pier_error err;
    int at = (int)(intptr_t)data;
    queue.answered += finish(future, &err) == 20 + at;
    queue.again[at] = pier_db_fetch_async(leases[0], SQL_ECHO, PIER_ARGS(30 + at));
}

static int ask_behind(pier_task *self, void *arg, pier_error *err)
{
    pier_error failed;
    (void)arg;
    echo(leases[0], 19, &failed);
    struct hold hold = {.count = 1, .bytes = BEHIND * answer_size};
    noted = 0;
    for (int i = 0; i < BEHIND; i++) {
        pier_future_then(pier_db_fetch_async(leases[0], SQL_ECHO, PIER_ARGS(20 + i)), queue_again,
                         (void *)(intptr_t)i);
    }
    hold_behind_sending(self, &hold, err);
    while (queue.answered < BEHIND && pier_task_sleep(self, 1, err) == 0) {
    }
    queue.sent = hold.noted;
    for (int i = 0; i < BEHIND; i++) {
        queue.answered += finish(queue.again[i], &failed) == 30 + i;
    }
    for (int i = 0; i < noted; i++) {
        queue.sent_again += notes[i] == 's';
    }
    return 0;
}

static void test_cork__requests_of_one_connection_are_sent_as_one(void **state)
{
    (void)state;
    pier_error err = {0};
    open_leases();
    queue = (struct queue){.answered = 0};
    assert_int_equal(pier_task_run(runner, ask_behind, NULL, &err), 0);
    assert_int_equal(queue.answered, 2 * BEHIND);
    assert_int_equal(queue.sent, 1);
    assert_int_equal(queue.sent_again, 1);
    close_leases();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cork__a_round_reads_then_runs_then_sends),
        TEST(test_cork__what_is_large_is_taken_before_more_is_read),
        TEST(test_cork__what_the_socket_does_not_take_is_sent_later),
        TEST(test_cork__a_connection_that_breaks_is_told),
        TEST(test_cork__the_end_of_a_portal_that_is_not_sent_is_made_up_for),
        TEST(test_cork__the_server_has_what_it_is_to_cancel),
        TEST(test_cork__nothing_is_sent_by_a_connection_that_was_given_up),
        TEST(test_cork__requests_of_one_connection_are_sent_as_one),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
