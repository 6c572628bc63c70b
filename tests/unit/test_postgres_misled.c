/*
 * A Postgres server that answers something else than it was asked, from its greeting on a whole
 * one: what is missing in a description or a result is never made up, and the next call gets
 * another connection. In pieces, too, which whoever waits for them by reading puts together.
 */
#include "tests/unit/unit.h"

#include "tests/support/answer.h"
#include <arpa/inet.h>
#include <pier/pier.h>

enum { ANSWERS_MAX = 4, ONE_PIECE = 0 };

/* What the server says to one Sync after the other, on the first connection and then on others. */
static struct {
    pthread_t thread;
    int listening, port;
    pthread_mutex_t lock;
    /* Guarded by lock. */
    answer answers[ANSWERS_MAX];
    int count, asked;
    size_t piece_size; /* ONE_PIECE, or so many bytes at a time */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- The server --------------------------------------------------------------------------- */

static bool receive_all(int fd, void *to, size_t size)
{
    return size == 0 || recv(fd, to, size, MSG_WAITALL) == (ssize_t)size;
}

/* Reads the size of a message, which counts itself, and drops the rest. */
static bool drop_message(int fd)
{
    char rest[4096];
    uint32_t size;
    if (!receive_all(fd, &size, sizeof size)) {
        return false;
    }
    size = ntohl(size) - (uint32_t)sizeof size;
    return size <= sizeof rest && receive_all(fd, rest, size);
}

static bool say(int fd, const answer *what, size_t piece_size)
{
    size_t piece = piece_size == ONE_PIECE ? what->size : piece_size;
    for (size_t at = 0; at < what->size; at += piece) {
        size_t size = what->size - at < piece ? what->size - at : piece;
        if (send(fd, what->bytes + at, size, MSG_NOSIGNAL) != (ssize_t)size) {
            return false;
        }
        if (piece_size != ONE_PIECE) {
            usleep(300); /* so that it is read by itself, mostly */
        }
    }
    return true;
}

static bool greet(int fd)
{
    static answer greeting;
    greeting.size = 0;
    ANSWER(&greeting, 'R', "\0\0\0\0");
    ANSWER(&greeting, 'S', "client_encoding\0UTF8\0");
    ANSWER(&greeting, 'S', "standard_conforming_strings\0on\0");
    ANSWER(&greeting, 'K', "\0\0\0\7\0\0\0\7");
    ANSWER(&greeting, 'Z', "I");
    return drop_message(fd) && say(fd, &greeting, ONE_PIECE);
}

static void serve(int fd)
{
    char letter;
    bool goes_on = greet(fd);
    while (goes_on && receive_all(fd, &letter, 1) && letter != 'X' && drop_message(fd)) {
        if (letter == 'S') {
            pthread_mutex_lock(&server.lock);
            goes_on = server.asked < server.count &&
                      say(fd, &server.answers[server.asked++], server.piece_size);
            pthread_mutex_unlock(&server.lock);
        }
    }
}

static void *serve_all(void *arg)
{
    (void)arg;
    int fd;
    while ((fd = accept(server.listening, NULL, NULL)) >= 0) {
        serve(fd);
        close(fd);
    }
    return NULL;
}

static int start_server(void **state)
{
    (void)state;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    server.listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server.listening < 0 || bind(server.listening, (struct sockaddr *)&address, size) ||
        listen(server.listening, 8) ||
        getsockname(server.listening, (struct sockaddr *)&address, &size)) {
        return -1;
    }
    server.port = ntohs(address.sin_port);
    return pthread_create(&server.thread, NULL, serve_all, NULL) ? -1 : 0;
}

static int stop_server(void **state)
{
    (void)state;
    shutdown(server.listening, SHUT_RDWR);
    pthread_join(server.thread, NULL);
    close(server.listening);
    return 0;
}

/* ---- What it says ------------------------------------------------------------------------- */

#define INT4 "\0\0\0\27"

/* Begins with what it says to the next Sync. Under the lock. */
static answer *next_answer(void)
{
    answer *next = &server.answers[server.count++];
    next->size = 0;
    return next;
}

/* One parameter, no rows. */
static void describe_well(void)
{
    answer *to = next_answer();
    ANSWER(to, '1', "");
    ANSWER(to, 't', "\0\1" INT4);
    ANSWER(to, 'n', "");
    ANSWER(to, 'Z', "I");
}

static void execute_well(void)
{
    answer *to = next_answer();
    ANSWER(to, '2', "");
    ANSWER(to, 'C', "INSERT 0 1\0");
    ANSWER(to, 'Z', "I");
}

static void answer_well(void)
{
    describe_well();
    execute_well();
}

static void answer_with(void (*prepare)(void))
{
    pthread_mutex_lock(&server.lock);
    server.asked = server.count = 0;
    prepare();
    pthread_mutex_unlock(&server.lock);
}

struct call {
    pier_db *pool;
    int64_t status;
    pier_error err;
};

static int insert(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct call *call = arg;
    call->err = (pier_error){0};
    call->status =
        pier_db_execute(call->pool, "insert into t values ($1)", PIER_ARGS(7), &call->err);
    return 0;
}

/* Runs it with what the server is to say, on a thread or in a task; and once more, behind that,
 * when the server answers as it should. */
static struct call run(void (*prepare)(void), bool in_task)
{
    answer_with(prepare);
    char url[120];
    pier_error err = {0};
    snprintf(url, sizeof url, "postgresql://nobody@127.0.0.1:%d/none?sslmode=disable", server.port);
    struct call call = {.pool = pier_db_open(runner, url, PIER_DB_OPTIONS(.pool_max = 1), &err)};
    assert_string_equal(err.message, "");
    in_task ? (void)!pier_task_run(runner, insert, &call, NULL) : (void)insert(NULL, &call, NULL);
    struct call result = call;
    if (result.status < 0) {
        answer_with(answer_well);
        insert(NULL, &call, NULL);
        assert_string_equal(call.err.message, "");
        assert_int_equal(call.status, 1);
    }
    pier_db_close(call.pool);
    return result;
}

static void expect_misled(void (*prepare)(void))
{
    for (int in_task = 0; in_task < 2; in_task++) {
        struct call call = run(prepare, in_task);
        assert_int_equal(call.status, PIER_EIO);
        assert_non_null(
            strstr(call.err.message, "the server's answer is not to what it was asked"));
    }
}

static void describe_without_parameters(void)
{
    answer *to = next_answer();
    ANSWER(to, '1', "");
    ANSWER(to, 'n', "");
    ANSWER(to, 'Z', "I");
    execute_well();
}

static void describe_without_columns(void)
{
    answer *to = next_answer();
    ANSWER(to, '1', "");
    ANSWER(to, 't', "\0\1" INT4);
    ANSWER(to, 'Z', "I");
    execute_well();
}

static void describe_nothing(void)
{
    answer *to = next_answer();
    ANSWER(to, 'Z', "I");
    execute_well();
}

static void test_misled__by_a_description_in_which_something_is_missing(void **state)
{
    (void)state;
    expect_misled(describe_without_parameters);
    expect_misled(describe_without_columns);
    expect_misled(describe_nothing);
}

static void execute_what_was_not_bound(void)
{
    describe_well();
    answer *to = next_answer();
    ANSWER(to, 'C', "INSERT 0 1\0");
    ANSWER(to, 'Z', "I");
}

static void execute_without_an_end(void)
{
    describe_well();
    answer *to = next_answer();
    ANSWER(to, '2', "");
    ANSWER(to, 'Z', "I");
}

static void test_misled__by_a_result_in_which_something_is_missing(void **state)
{
    (void)state;
    expect_misled(execute_what_was_not_bound);
    expect_misled(execute_without_an_end);
}

/* Where it says nothing more it hangs up. */
static void test_misled__by_a_server_that_hangs_up(void **state)
{
    (void)state;
    for (int in_task = 0; in_task < 2; in_task++) {
        struct call call = run(describe_well, in_task);
        assert_int_equal(call.status, PIER_EIO);
        assert_non_null(strstr(call.err.message, "the server closed the connection"));
    }
}

static void set_piece_size(size_t size)
{
    pthread_mutex_lock(&server.lock);
    server.piece_size = size;
    pthread_mutex_unlock(&server.lock);
}

static void test_misled__is_not_who_gets_an_answer_in_pieces(void **state)
{
    (void)state;
    for (size_t size = 1; size < 12; size++) {
        set_piece_size(size);
        struct call call = run(answer_well, size % 2);
        assert_string_equal(call.err.message, "");
        assert_int_equal(call.status, 1);
    }
    set_piece_size(ONE_PIECE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_runner, close_runner)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_misled__by_a_description_in_which_something_is_missing),
        TEST(test_misled__by_a_result_in_which_something_is_missing),
        TEST(test_misled__by_a_server_that_hangs_up),
        TEST(test_misled__is_not_who_gets_an_answer_in_pieces),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
