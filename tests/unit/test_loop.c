/* In which order the loop does what is ready, and what is late; what can be seen of it meanwhile.
 */
#include "sdk/loop_internal.h" /* its parameters would shadow `runner` below */
#include "tests/unit/unit.h"

#include "sdk/clock.h"
#include <pier/debug.h>
#include <pier/task.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LOG = 512, READY = 200 };

static char notes[LOG + 1];
static int noted, to_run;

static void note(char what)
{
    if (noted < LOG) {
        notes[noted++] = what;
        notes[noted] = 0;
    }
}

static void run_late(pier__post *post)
{
    (void)post;
    note('l');
}

/* Keeps something ready. */
static void run_ready(pier__post *post)
{
    note('r');
    if (--to_run > 0) {
        pier__loop_push_on_loop(runner, post);
    }
}

struct posts {
    pier__post first_late, second_late, ready;
};

static int push(pier_task *self, void *arg, pier_error *err)
{
    struct posts *posts = arg;
    pier__loop_push_late_on_loop(runner, &posts->first_late);
    pier__loop_push_late_on_loop(runner, &posts->second_late);
    pier__loop_push_on_loop(runner, &posts->ready);
    return pier_task_sleep(self, 1, err);
}

static int rest(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    return pier_task_sleep(self, 1, err);
}

static const char *run(int ready)
{
    struct posts posts = {{.run = run_late}, {.run = run_late}, {.run = run_ready}};
    pier_error err = {0};
    to_run = ready;
    noted = 0;
    assert_int_equal(pier_task_run(runner, push, &posts, &err), 0);
    assert_int_equal(noted, ready + 2);
    return notes;
}

static void test_loop__what_is_late_runs_behind_all_that_is_ready(void **state)
{
    (void)state;
    assert_string_equal(run(3), "rrrll");
}

static void test_loop__what_is_late_does_not_wait_for_ever(void **state)
{
    (void)state;
    const char *order = run(READY);
    const char *late = strchr(order, 'l');
    assert_non_null(late);
    assert_in_range(late - order, 1, 64);
    assert_memory_equal(late, "llr", 3);
}

/* ---- What can be seen between the descriptors of a round and what they made ready ---------- */

/* Reads a byte when it is there. */
struct reader {
    pier__op op;
    int fd;
};

static void reader_step(pier__op *op, unsigned events)
{
    struct reader *reader = (struct reader *)op;
    char byte;
    if (events & PIER__CANCEL) {
        pier__op_fail_cancelled(op);
    } else if (recv(reader->fd, &byte, 1, MSG_DONTWAIT) == 1) {
        op->wait.kind = PIER__WAIT_WAKE;
        pier__op_succeed_int(op, byte);
    } else {
        op->doing = "reading";
        op->wait.kind = PIER__WAIT_FD;
        op->wait.fd = reader->fd;
        op->wait.events = PIER__READABLE;
    }
}

static const pier__op_class reader_class = {
    .name = "reader", .result = "int", .size = sizeof(struct reader), .step = reader_step};

static pier_future *start_reader(pier_runner *on, int fd)
{
    pier__op *failed = NULL;
    struct reader *reader = pier__op_new(&reader_class, on, &failed);
    reader->fd = fd;
    return pier__op_submit(&reader->op);
}

static bool write_byte(int fd)
{
    return send(fd, "x", 1, MSG_DONTWAIT) == 1;
}

static int pairs[2][2]; /* the loop reads from the first of each */

static void open_pairs(void)
{
    for (int i = 0; i < 2; i++) {
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pairs[i]), 0);
    }
}

static void close_pairs(void)
{
    for (int i = 0; i < 4; i++) {
        close(pairs[i / 2][i % 2]);
    }
}

/* Each is set by one side for the other. */
static atomic_int held, let_go, in_callback, leave_callback;

/* Behind a timer, so that nothing is left of the inbox. */
static int hold(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    int status = pier_task_sleep(self, 1, err);
    atomic_store(&held, 1);
    unit_await(&let_go);
    return status;
}

static void do_nothing(pier__post *post)
{
    (void)post;
}

static void stay(pier_future *future, void *data)
{
    (void)future;
    (void)data;
    atomic_store(&in_callback, 1);
    unit_await(&leave_callback);
}

static void leave_at_once(pier_future *future, void *data)
{
    (void)future;
    (void)data;
}

static bool is_seen_busy(void *user_data)
{
    (void)user_data;
    pier_loop_stats stats;
    pier_runner_stats(runner, &stats);
    return stats.busy_us > 0;
}

/* The inbox, which comes between two descriptors of a round, does not make it look idle. */
static void test_loop__is_busy_with_what_a_round_has_made_ready(void **state)
{
    (void)state;
    pier__post nothing = {.run = do_nothing};
    pier_error err = {0};
    open_pairs();
    atomic_store(&held, 0);
    atomic_store(&let_go, 0);
    atomic_store(&in_callback, 0);
    atomic_store(&leave_callback, 0);
    pier_future_then(start_reader(runner, pairs[0][0]), leave_at_once, NULL);
    pier_future_then(start_reader(runner, pairs[1][0]), stay, NULL);
    assert_int_equal(pier_task_run(runner, rest, NULL, &err), 0); /* it watches both behind that */
    pier_future *holding = pier_task_start(runner, hold, NULL);
    assert_true(unit_await(&held));
    assert_true(write_byte(pairs[0][1]));
    assert_true(pier__loop_post(runner, &nothing));
    assert_true(write_byte(pairs[1][1]));
    atomic_store(&let_go, 1);
    bool came = unit_await(&in_callback);
    bool seen = came && support_wait_until(is_seen_busy, NULL, BOUND_MS);
    atomic_store(&leave_callback, 1);
    assert_int_equal(pier_task_finish(holding, &err), 0);
    assert_true(came);
    assert_true(seen);
    close_pairs();
}

/* ---- A loop of the program's own ---------------------------------------------------------- */

static pier_runner *guest;
static uv_poll_t own_poll;
static int64_t own_at; /* when the program's own business was done; 0: not yet */
static bool blamed_meanwhile, blamed_behind;

/* The program's own business, between a descriptor of Pier's and what that has made ready. */
static void on_own(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    blamed_meanwhile = atomic_load(&guest->seen.since) != 0;
    own_at = pier__now();
    uv_close((uv_handle_t *)poll, NULL);
    pier_runner_stop(guest, NULL, NULL);
}

/* What comes behind it is counted from then on. */
static void look_behind(pier_future *future, void *data)
{
    (void)future;
    (void)data;
    blamed_behind = !own_at || guest->clock < own_at;
}

/* One round finds both. */
static int write_both(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    pier_future_then(start_reader(guest, pairs[0][0]), look_behind, NULL);
    pier_task_sleep(self, 1, err);
    return write_byte(pairs[0][1]) && write_byte(pairs[1][1]) ? 0 : PIER_EIO;
}

static void test_loop__blames_nobody_for_what_the_program_does_between(void **state)
{
    (void)state;
    uv_loop_t loop;
    open_pairs();
    uv_loop_init(&loop);
    uv_poll_init(&loop, &own_poll, pairs[1][0]);
    uv_poll_start(&own_poll, UV_READABLE, on_own);
    guest = pier_runner_open(PIER_RUNNER_OPTIONS(.loop = &loop), NULL);
    assert_non_null(guest);
    own_at = 0;
    blamed_behind = true;
    pier_future_free(pier_task_start(guest, write_both, NULL));
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_false(blamed_meanwhile);
    assert_false(blamed_behind);
    close_pairs();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_loop__what_is_late_runs_behind_all_that_is_ready,
                                        open_runner, close_runner),
        cmocka_unit_test_setup_teardown(test_loop__what_is_late_does_not_wait_for_ever, open_runner,
                                        close_runner),
        cmocka_unit_test_setup_teardown(test_loop__is_busy_with_what_a_round_has_made_ready,
                                        open_runner, close_runner),
        cmocka_unit_test(test_loop__blames_nobody_for_what_the_program_does_between),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
