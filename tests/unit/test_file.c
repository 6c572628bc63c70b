/* Files, read and written by threads, tasks and callbacks. */
#include "tests/unit/unit.h"

#include "sdk/alloc.h"
#include <errno.h>
#include <fcntl.h>
#include <pier/executor.h>
#include <pier/file.h>
#include <pier/scope.h>
#include <pier/task.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64], path[96];

static int set_up(void **state)
{
    snprintf(directory, sizeof directory, "/tmp/pier-file-XXXXXX");
    if (!mkdtemp(directory)) {
        return -1;
    }
    snprintf(path, sizeof path, "%s/file", directory);
    return open_runner(state);
}

static int tear_down(void **state)
{
    close_runner(state);
    unlink(path);
    return rmdir(directory); /* nothing else may have been left in it */
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* Each body runs on the test's thread and in a task. */
struct checks {
    void (*body)(struct checks *checks);
    int line; /* the first that did not hold; 0: all did */
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition) && !checks->line) {                                                       \
            checks->line = __LINE__;                                                               \
        }                                                                                          \
    } while (0)

static int run_body(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    struct checks *given = arg;
    given->body(given);
    return 0;
}

static void on_both(void (*body)(struct checks *checks))
{
    struct checks thread = {body, 0}, task = {body, 0};
    body(&thread);
    assert_int_equal(thread.line, 0);
    unlink(path);
    assert_int_equal(pier_task_run(runner, run_body, &task, NULL), 0);
    assert_int_equal(task.line, 0);
}

static void write_file(const char *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

/* ---- Reading and writing ------------------------------------------------------------------ */

static void write_then_read(struct checks *checks)
{
    pier_error err = {0};
    pier_file *file = pier_file_open(runner, path, "w+", NULL, &err);
    CHECK(pier_file_write(file, "hello, ", 7, &err) == 7);
    CHECK(pier_file_write(file, "sea", 3, &err) == 3);
    CHECK(pier_file_sync(file, &err) == 0);
    CHECK(pier_file_seek(file, 7, SEEK_SET, &err) == 7);
    pier_buffer *buffer = pier_file_read(file, 100, &err);
    CHECK(buffer && buffer->size == 3 && memcmp(buffer->data, "sea", 3) == 0);
    pier_buffer_free(buffer);
    buffer = pier_file_read(file, 100, &err);
    CHECK(buffer && buffer->size == 0);
    pier_buffer_free(buffer);
    CHECK(pier_file_seek(file, -3, SEEK_END, &err) == 7);
    CHECK(pier_file_close(file, &err) == 0);
    CHECK(err.status == 0);
}

static void test_file__reads_what_was_written(void **state)
{
    (void)state;
    on_both(write_then_read);
}

static void append_and_create(struct checks *checks)
{
    pier_error err = {0};
    pier_file *file =
        pier_file_open(runner, path, "wx", PIER_FILE_OPTIONS(.permissions = 0600), &err);
    CHECK(pier_file_write(file, "a", 1, &err) == 1 && pier_file_close(file, &err) == 0);
    struct stat info;
    CHECK(stat(path, &info) == 0 && (info.st_mode & 0777) == 0600);
    CHECK(!pier_file_open(runner, path, "wx", NULL, &err) && err.native == EEXIST);
    file = pier_file_open(runner, path, "a", NULL, &err);
    CHECK(pier_file_write(file, "b", 1, &err) == 1 && pier_file_close(file, NULL) == 0);
    pier_buffer *buffer = pier_file_load(runner, path, 100, &err);
    CHECK(buffer && buffer->size == 2 && memcmp(buffer->data, "ab", 2) == 0);
    pier_buffer_free(buffer);
}

static void test_file__appends_and_creates_anew(void **state)
{
    (void)state;
    on_both(append_and_create);
}

static void fail_clearly(struct checks *checks)
{
    pier_error err = {0};
    CHECK(!pier_file_open(runner, "/no/such/file", "r", NULL, &err));
    CHECK(err.status == PIER_EIO && err.native == ENOENT && strstr(err.message, "/no/such/file"));
    CHECK(!pier_file_open(runner, directory, "r", NULL, &err) && err.native == EISDIR);
    CHECK(!pier_file_load(runner, directory, 100, &err) && err.native == EISDIR);
    CHECK(!pier_file_open(runner, path, "q", NULL, &err) && err.status == PIER_EINVAL);
    CHECK(!pier_file_open(runner, path, NULL, NULL, &err) && err.status == PIER_EINVAL);
    CHECK(!pier_file_open(runner, NULL, "r", NULL, &err) && err.status == PIER_EINVAL);
    pier_file *full = pier_file_open(runner, "/dev/full", "w", NULL, &err);
    CHECK(pier_file_write(full, "x", 1, &err) == PIER_EIO && err.native == ENOSPC);
    CHECK(strstr(err.message, "/dev/full") && strstr(err.message, "write"));
    CHECK(!pier_file_read(full, 1, &err) && err.native == EBADF);
    CHECK(pier_file_write(full, NULL, 1, &err) == PIER_EINVAL);
    CHECK(pier_file_seek(full, -1, 99, &err) == PIER_EIO && err.native == EINVAL);
    CHECK(pier_file_close(full, NULL) == 0);
}

static void test_file__failures_name_the_path_and_the_errno(void **state)
{
    (void)state;
    on_both(fail_clearly);
}

static void pass_null(struct checks *checks)
{
    pier_error err = {0};
    size_t size;
    pier_error_set(&err, PIER_EIO, "it was not opened");
    CHECK(!pier_file_read(NULL, 1, &err) && !pier_file_block(NULL, &err));
    CHECK(pier_file_write(NULL, "", 0, &err) == PIER_EIO && pier_file_sync(NULL, &err) == PIER_EIO);
    CHECK(!pier_file_line(NULL, &size) && !pier_file_next(NULL, &size));
    CHECK(pier_file_close(NULL, &err) == PIER_EIO);
    CHECK(strcmp(err.message, "it was not opened") == 0);
    CHECK(!pier_file_open(NULL, path, "r", NULL, NULL) && !pier_file_load(NULL, path, 1, NULL));
}

static void test_file__null_passes_through(void **state)
{
    (void)state;
    on_both(pass_null);
}

static void test_file__what_would_wait_for_others_fails(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(mkfifo(path, 0600), 0);
    int writer = open(path, O_RDWR | O_CLOEXEC);
    pier_file *file = pier_file_open(runner, path, "r", NULL, &err);
    assert_non_null(file);
    assert_null(pier_file_read(file, 1, &err));
    assert_int_equal(err.native, EAGAIN);
    assert_int_equal(pier_file_close(file, NULL), 0);
    close(writer);
}

static void large(struct checks *checks)
{
    enum { SIZE = 5 * 1024 * 1024 + 17 };
    pier_error err = {0};
    char *data = malloc(SIZE);
    for (int i = 0; data && i < SIZE; i++) {
        data[i] = (char)(i * 7 + i / 1000);
    }
    CHECK(pier_file_save(runner, path, data, SIZE, &err) == 0);
    pier_buffer *buffer = pier_file_load(runner, path, SIZE, &err);
    CHECK(buffer && buffer->size == SIZE && memcmp(buffer->data, data, SIZE) == 0);
    pier_buffer_free(buffer);
    CHECK(!pier_file_load(runner, path, SIZE - 1, &err) && err.status == PIER_ERANGE);
    pier_file *file = pier_file_open(runner, path, "r", NULL, NULL);
    size_t total = 0, size;
    for (const char *piece; (piece = pier_file_next(file, &size)); total += size) {
        CHECK(memcmp(piece, data + total, size) == 0);
    }
    CHECK(total == SIZE && pier_file_close(file, NULL) == 0);
    free(data);
}

static void test_file__large_ones_come_in_pieces(void **state)
{
    (void)state;
    on_both(large);
}

/* ---- Whole files -------------------------------------------------------------------------- */

static int count_entries(void)
{
    char command[128];
    int count = -1;
    snprintf(command, sizeof command, "ls -A %s | wc -l", directory);
    FILE *pipe = popen(command, "re");
    if (!pipe || fscanf(pipe, "%d", &count) != 1) {
        count = -1;
    }
    if (pipe) {
        pclose(pipe);
    }
    return count;
}

static void test_save__replaces_at_once_and_keeps_the_permissions(void **state)
{
    (void)state;
    struct stat info;
    write_file("old", 3);
    chmod(path, 0640);
    int before = open(path, O_RDONLY | O_CLOEXEC);
    assert_int_equal(pier_file_save(runner, path, "new", 3, NULL), 0);
    char text[4] = "";
    assert_int_equal(read(before, text, 3), 3); /* who has the old one open still has it */
    assert_string_equal(text, "old");
    close(before);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_int_equal(count_entries(), 1);
    assert_int_equal(pier_file_save(runner, path, NULL, 0, NULL), 0);
    pier_buffer *buffer = pier_file_load(runner, path, 10, NULL);
    assert_int_equal(buffer->size, 0);
    pier_buffer_free(buffer);
}

static void test_save__that_fails_leaves_the_old_file_and_nothing_else(void **state)
{
    (void)state;
    pier_error err = {0};
    static char data[4096];
    struct rlimit before, limit;
    write_file("old", 3);
    /* The disk is full, as far as this process can see. */
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    limit = before;
    limit.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &limit);
    int status = pier_file_save(runner, path, data, sizeof data, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    assert_int_equal(status, PIER_EIO);
    assert_int_equal(err.native, EFBIG);
    assert_int_equal(count_entries(), 1);
    pier_buffer *buffer = pier_file_load(runner, path, 10, NULL);
    assert_memory_equal(buffer->data, "old", 3);
    pier_buffer_free(buffer);
    assert_int_equal(pier_file_save(runner, "/no/such/directory/file", "", 0, &err), PIER_EIO);
    assert_int_equal(err.native, ENOENT);
}

/* ---- Lines -------------------------------------------------------------------------------- */

static void read_lines(struct checks *checks)
{
    static const char text[] = "first\n\nthird\r\nwith\0zero\nlast";
    static const char *const lines[] = {"first", "", "third\r", "with\0zero", "last"};
    static const size_t lengths[] = {5, 0, 6, 9, 4};
    size_t length, count = 0;
    CHECK(pier_file_save(runner, path, text, sizeof text - 1, NULL) == 0);
    pier_file *file = pier_file_open(runner, path, "r", NULL, NULL);
    for (const char *line; (line = pier_file_line(file, &length)); count++) {
        CHECK(count < 5 && length == lengths[count] && memcmp(line, lines[count], length + 1) == 0);
    }
    CHECK(count == 5);
    CHECK(!pier_file_line(file, &length));
    CHECK(pier_file_close(file, NULL) == 0);
}

static void test_line__gives_each_with_its_length(void **state)
{
    (void)state;
    on_both(read_lines);
}

static void test_line__crosses_blocks(void **state)
{
    (void)state;
    FILE *out = fopen(path, "w");
    for (int i = 0; i < 30000; i++) {
        fprintf(out, "line number %d\n", i);
    }
    fprintf(out, "%0200000d\n", 7);
    fclose(out);
    pier_file *file = pier_file_open(runner, path, "r", NULL, NULL);
    char expected[32];
    size_t length;
    for (int i = 0; i < 30000; i++) {
        const char *line = pier_file_line(file, &length);
        snprintf(expected, sizeof expected, "line number %d", i);
        assert_string_equal(line, expected);
    }
    const char *line = pier_file_line(file, &length);
    assert_int_equal(length, 200000);
    assert_int_equal(line[199999], '7');
    assert_null(pier_file_line(file, &length));
    assert_int_equal(pier_file_close(file, NULL), 0);
}

static void test_line__too_long_is_a_failure_that_close_reports(void **state)
{
    (void)state;
    pier_error err = {0};
    size_t length;
    write_file("12345\n123456\nx\n", 15);
    pier_file *file = pier_file_open(runner, path, "r", PIER_FILE_OPTIONS(.line_max = 5), NULL);
    assert_string_equal(pier_file_line(file, &length), "12345");
    assert_null(pier_file_line(file, &length));
    assert_null(pier_file_line(file, &length));
    assert_int_equal(pier_file_close(file, &err), PIER_ERANGE);
    assert_non_null(strstr(err.message, "longer than 5 bytes"));
    assert_non_null(strstr(err.message, path));
}

static void test_line__of_an_empty_file_is_none(void **state)
{
    (void)state;
    size_t length;
    write_file("", 0);
    pier_file *file = pier_file_open(runner, path, "r", NULL, NULL);
    assert_null(pier_file_line(file, &length));
    assert_int_equal(pier_file_close(file, NULL), 0);
}

/* ---- Order, cancelling -------------------------------------------------------------------- */

static void test_write__several_at_once_happen_in_order(void **state)
{
    (void)state;
    pier_file *file = pier_file_open(runner, path, "w", NULL, NULL);
    pier_future *futures[100];
    for (int i = 0; i < 100; i++) {
        char text[8];
        int size = snprintf(text, sizeof text, "%d,", i);
        futures[i] = pier_file_write_async(file, text, (size_t)size); /* copied */
    }
    for (int i = 0; i < 100; i++) {
        assert_true(pier_file_write_finish(futures[i], NULL) > 0);
    }
    assert_int_equal(pier_file_close(file, NULL), 0);
    pier_buffer *buffer = pier_file_load(runner, path, 1000, NULL);
    assert_int_equal(buffer->size, 10 * 2 + 90 * 3);
    const char *at = buffer->data;
    assert_int_equal(at[buffer->size], 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(strtol(at, (char **)&at, 10), i);
        at++;
    }
    pier_buffer_free(buffer);
}

static void test_close__waits_for_what_was_begun(void **state)
{
    (void)state;
    static char data[1 << 20];
    pier_file *file = pier_file_open(runner, path, "w", NULL, NULL);
    pier_future *written = pier_file_write_async(file, data, sizeof data);
    pier_future *closed = pier_file_close_async(file);
    assert_int_equal(pier_file_close_finish(closed, NULL), 0);
    assert_int_equal(pier_file_write_finish(written, NULL), sizeof data);
}

/* Keeps each thread of the runner's own executor busy. */
struct gate {
    atomic_int running, open;
};

static int hold(void *arg, pier_error *err)
{
    struct gate *gate = arg;
    (void)err;
    atomic_fetch_add(&gate->running, 1);
    support_wait_until(unit_is_set, &gate->open, BOUND_MS);
    return 0;
}

static int cores_and_four(void)
{
    return (int)sysconf(_SC_NPROCESSORS_ONLN) + 4;
}

static bool all_run(void *user_data)
{
    return atomic_load(&((struct gate *)user_data)->running) == cores_and_four();
}

static int read_in_scope(pier_task *self, void *arg, pier_error *err)
{
    pier_scope *scope =
        pier_scope_open(pier_task_runner(self), PIER_SCOPE_OPTIONS(.timeout_ms = 20), NULL);
    pier_buffer *buffer = pier_file_read(arg, 10, err);
    pier_scope_close(scope);
    pier_buffer_free(buffer);
    return buffer ? 0 : err->status;
}

static void test_read__in_a_task_is_left_at_its_deadline(void **state)
{
    (void)state;
    struct gate gate = {0};
    pier_future *held[64];
    int count = cores_and_four() < 64 ? cores_and_four() : 64;
    write_file("0123456789", 10);
    pier_file *file = pier_file_open(runner, path, "r", NULL, NULL);
    for (int i = 0; i < count; i++) {
        held[i] = pier_to_thread_async(runner, hold, &gate);
    }
    assert_true(support_wait_until(all_run, &gate, BOUND_MS));
    assert_int_equal(pier_task_run(runner, read_in_scope, file, NULL), PIER_ETIMEDOUT);
    pier_future *waits = pier_file_read_async(file, 4), *behind = pier_file_read_async(file, 4);
    pier_future_cancel(waits);
    assert_null(pier_file_read_finish(waits, NULL));
    atomic_store(&gate.open, 1);
    pier_buffer *buffer = pier_file_read_finish(behind, NULL);
    assert_int_equal(buffer->size, 4);
    assert_memory_equal(buffer->data, "0123", 4); /* what was cancelled read nothing */
    pier_buffer_free(buffer);
    for (int i = 0; i < count; i++) {
        pier_to_thread_finish(held[i], NULL);
    }
    assert_int_equal(pier_file_close(file, NULL), 0);
}

static void test_file__calls_in_a_cancelled_scope_fail(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_file *file = pier_file_open(runner, path, "w", NULL, NULL);
    pier_scope *scope = pier_scope_open(runner, NULL, NULL);
    pier_scope_cancel(scope);
    assert_int_equal(pier_file_write(file, "x", 1, &err), PIER_ECANCELLED);
    assert_null(pier_file_open(runner, path, "r", NULL, &err));
    assert_int_equal(err.status, PIER_ECANCELLED);
    assert_int_equal(pier_file_close(file, &err), 0);
    pier_scope_close(scope);
}

/* ---- Callbacks ---------------------------------------------------------------------------- */

struct chain {
    pier_file *file;
    size_t total;
    int status;
    atomic_int done;
};

static void on_closed(pier_future *future, void *user_data)
{
    struct chain *chain = user_data;
    chain->status = pier_file_close_finish(future, NULL);
    atomic_store(&chain->done, 1);
}

static void on_block(pier_future *future, void *user_data)
{
    struct chain *chain = user_data;
    pier_buffer *buffer = pier_file_block_finish(future, NULL);
    size_t size = buffer ? buffer->size : 0;
    pier_buffer_free(buffer);
    chain->total += size;
    if (size) {
        pier_future_then(pier_file_block_async(chain->file), on_block, chain);
    } else {
        pier_future_then(pier_file_close_async(chain->file), on_closed, chain);
    }
}

static void on_opened(pier_future *future, void *user_data)
{
    struct chain *chain = user_data;
    chain->file = pier_file_open_finish(future, NULL);
    pier_future_then(pier_file_block_async(chain->file), on_block, chain);
}

static void test_file__read_by_callbacks(void **state)
{
    (void)state;
    static char data[300000];
    struct chain chain = {.status = 1};
    write_file(data, sizeof data);
    pier_future_then(pier_file_open_async(runner, path, "r", NULL), on_opened, &chain);
    assert_true(unit_await(&chain.done));
    assert_int_equal(chain.total, sizeof data);
    assert_int_equal(chain.status, 0);
}

/* ---- The end ------------------------------------------------------------------------------ */

static int open_in_task(pier_task *self, void *arg, pier_error *err)
{
    *(pier_file **)arg = pier_file_open(pier_task_runner(self), path, "w", NULL, err);
    pier_future_free(pier_file_write_async(*(pier_file **)arg, "x", 1));
    return pier_task_sleep(self, PIER_FOREVER, err);
}

static void test_runner_close__closes_open_files(void **state)
{
    (void)state;
    int before = support_fd_count();
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_file *files[3] = {pier_file_open(own, path, "w", NULL, NULL)};
    assert_non_null(files[0]);
    pier_future_free(pier_file_open_async(own, path, "r", NULL)); /* nobody takes it */
    pier_future *task = pier_task_start(own, open_in_task, &files[1]);
    assert_int_equal(pier_file_write(files[0], "x", 1, NULL), 1);
    pier_runner_close(own);
    assert_true(pier_task_finish(task, NULL) < 0);
    assert_true(support_wait_fds(before, BOUND_MS));
}

static int close_at_the_end(pier_task *self, void *arg, pier_error *err)
{
    pier_file *file = pier_file_open(pier_task_runner(self), path, "w", NULL, err);
    int status = pier_file_write(file, "x", 1, err) == 1 ? 0 : -1;
    atomic_store((atomic_int *)arg, 1);
    pier_task_sleep(self, PIER_FOREVER, NULL);
    return pier_file_close(file, err) == 0 ? status : -1;
}

static void test_runner_close__lets_a_task_close_its_file(void **state)
{
    (void)state;
    atomic_int opened = 0;
    pier_error err = {0};
    pier_runner *own = pier_runner_open(NULL, NULL);
    pier_future *task = pier_task_start(own, close_at_the_end, &opened);
    assert_true(unit_await(&opened));
    pier_runner_close(own);
    assert_int_equal(pier_task_finish(task, &err), 0);
}

static void test_fork__child_is_refused(void **state)
{
    (void)state;
    pier_file *file = pier_file_open(runner, path, "w", NULL, NULL);
    pid_t child = fork();
    if (child == 0) {
        bool right = pier_file_write(file, "x", 1, NULL) == PIER_EFORKED &&
                     pier_file_close(file, NULL) == PIER_EFORKED &&
                     !pier_file_load(runner, path, 1, NULL);
        _exit(right ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(pier_file_write(file, "x", 1, NULL), 1);
    assert_int_equal(pier_file_close(file, NULL), 0);
}

static atomic_int left; /* allocations before the one that fails */
static atomic_int failed;

static bool fail_one(size_t size)
{
    (void)size;
    if (atomic_fetch_sub(&left, 1) != 0) {
        return false;
    }
    atomic_store(&failed, 1);
    return true;
}

static int use_all(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    size_t length;
    int status = pier_file_save(runner, path, "one\ntwo\n", 8, err);
    if (status < 0) {
        return status;
    }
    pier_buffer_free(pier_file_load(runner, path, 100, err));
    pier_file *file = pier_file_open(runner, path, "r+", NULL, err);
    pier_buffer_free(pier_file_read(file, 1, err));
    pier_file_write(file, "x", 1, err);
    pier_file_seek(file, 0, SEEK_SET, err);
    while (pier_file_line(file, &length)) {
    }
    status = pier_file_close(file, err);
    return err->status < 0 ? err->status : status;
}

/* How often it failed: with each allocation in turn. */
static int fail_each(bool in_task)
{
    int failures = 0;
    for (int number = 0;; number++) {
        pier_error err = {0};
        atomic_store(&left, number);
        atomic_store(&failed, 0);
        pier__alloc_set_gate(fail_one);
        int status =
            in_task ? pier_task_run(runner, use_all, NULL, &err) : use_all(NULL, NULL, &err);
        pier__alloc_set_gate(NULL);
        if (!atomic_load(&failed)) {
            assert_int_equal(status, 0);
            return failures;
        }
        assert_true(status >= 0 || status == PIER_ENOMEM || status == PIER_EIO);
        failures += status < 0;
    }
}

static void test_file__survives_each_failing_allocation(void **state)
{
    (void)state;
    assert_in_range(fail_each(false), 15, 1000);
    assert_in_range(fail_each(true), 25, 1000);
    assert_int_equal(count_entries(), 1);
}

static void *use_shared(void *arg)
{
    for (int i = 0; i < 200; i++) {
        if (pier_file_write(arg, "0123456789", 10, NULL) != 10) {
            return arg;
        }
    }
    return NULL;
}

static int use_shared_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    return use_shared(arg) ? -1 : 0;
}

static void test_file__shared_by_threads_and_tasks(void **state)
{
    (void)state;
    pthread_t threads[4];
    pier_future *tasks[4];
    pier_file *file = pier_file_open(runner, path, "a", NULL, NULL);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, use_shared, file), 0);
        tasks[i] = pier_task_start(runner, use_shared_in_task, file);
    }
    for (int i = 0; i < 4; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        assert_null(bad);
        assert_int_equal(pier_task_finish(tasks[i], NULL), 0);
    }
    assert_int_equal(pier_file_close(file, NULL), 0);
    pier_buffer *buffer = pier_file_load(runner, path, 100000, NULL);
    assert_int_equal(buffer->size, 8 * 200 * 10);
    for (size_t i = 0; i < buffer->size; i++) {
        assert_int_equal(((const char *)buffer->data)[i], '0' + (int)(i % 10));
    }
    pier_buffer_free(buffer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FILE(test_file__reads_what_was_written),
        WITH_FILE(test_file__appends_and_creates_anew),
        WITH_FILE(test_file__failures_name_the_path_and_the_errno),
        WITH_FILE(test_file__null_passes_through),
        WITH_FILE(test_file__what_would_wait_for_others_fails),
        WITH_FILE(test_file__large_ones_come_in_pieces),
        WITH_FILE(test_save__replaces_at_once_and_keeps_the_permissions),
        WITH_FILE(test_save__that_fails_leaves_the_old_file_and_nothing_else),
        WITH_FILE(test_line__gives_each_with_its_length),
        WITH_FILE(test_line__crosses_blocks),
        WITH_FILE(test_line__too_long_is_a_failure_that_close_reports),
        WITH_FILE(test_line__of_an_empty_file_is_none),
        WITH_FILE(test_write__several_at_once_happen_in_order),
        WITH_FILE(test_close__waits_for_what_was_begun),
        WITH_FILE(test_read__in_a_task_is_left_at_its_deadline),
        WITH_FILE(test_file__calls_in_a_cancelled_scope_fail),
        WITH_FILE(test_file__read_by_callbacks),
        WITH_FILE(test_runner_close__closes_open_files),
        WITH_FILE(test_runner_close__lets_a_task_close_its_file),
        WITH_FILE(test_fork__child_is_refused),
        WITH_FILE(test_file__survives_each_failing_allocation),
        WITH_FILE(test_file__shared_by_threads_and_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
