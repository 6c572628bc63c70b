/* The loop's watch of a descriptor that is kept between operations. */
#include "tests/unit/unit.h"

#include "sdk/op.h"
#include "sdk/watch.h"
#include <pier/future.h>
#include <sys/socket.h>
#include <unistd.h>

static pier__watch *watch; /* the loop's, as a connection's is */

/* Reads one byte each time it is told that there is something, until the end. Gives how many bytes
 * there were. */
struct reader {
    pier__op op;
    int fd;
    int count;
};

static void wait_to_read(struct reader *reader)
{
    reader->op.doing = "reading";
    reader->op.wait.kind = PIER__WAIT_FD;
    reader->op.wait.fd = reader->fd;
    reader->op.wait.events = PIER__READABLE;
    reader->op.wait.watch = &watch;
}

static void reader_step(pier__op *op, unsigned events)
{
    struct reader *reader = (struct reader *)op;
    char byte;
    if (events & PIER__CANCEL) {
        pier__watch_close_on_loop(&watch);
        pier__op_fail_cancelled(op);
    } else if (events & PIER__START) {
        wait_to_read(reader);
    } else if (recv(reader->fd, &byte, 1, MSG_DONTWAIT) == 1) {
        reader->count++;
        wait_to_read(reader);
    } else {
        pier__watch_close_on_loop(&watch);
        op->wait.kind = PIER__WAIT_WAKE;
        pier__op_succeed_int(op, reader->count);
    }
}

static const pier__op_class reader_class = {
    .name = "reader", .result = "int64_t", .size = sizeof(struct reader), .step = reader_step};

static struct reader *new_reader(int fd)
{
    pier__op *failed = NULL;
    struct reader *reader = pier__op_new(&reader_class, runner, &failed);
    reader->fd = fd;
    return reader;
}

/* Of a socket whose peer closed it without having read everything, libuv reports an error, and
 * stops watching it; but bytes that came before are still there, and then the error. */
static void test_watch__goes_on_behind_an_error(void **state)
{
    (void)state;
    int ends[2];
    pier_error err = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    assert_int_equal(write(ends[0], "never read", 10), 10);
    assert_int_equal(write(ends[1], "four", 4), 4);
    close(ends[1]);
    pier_future *future = pier__op_submit(&new_reader(ends[0])->op);
    assert_int_equal(pier_future_wait(future, BOUND_MS, &err), 1);
    assert_int_equal(pier__op_take_int(future, "int64_t", &err), 4);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_watch__goes_on_behind_an_error, open_runner,
                                        close_runner),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
