/* scripts/gdb/pier.py, in gdb, on this very program: it runs there as the one to be looked at, up
 * to abort(). */
#include "tests/unit/unit.h"

#include <errno.h>
#include <pier/pier.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- The program that is looked at -------------------------------------------------------- */

static atomic_int suspended;

static __attribute__((noinline)) int sleep_in_the_sea(pier_task *self, pier_error *err)
{
    int status = pier_task_sleep(self, PIER_FOREVER, err);
    return status ? status : 1; /* no tail call: the frame stays */
}

static int diver(pier_task *self, void *arg, pier_error *err)
{
    (void)arg;
    int status = sleep_in_the_sea(self, err);
    return status ? status : 2;
}

static int look(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)arg;
    (void)err;
    atomic_store(&suspended, 1);
    return 0;
}

static int be_looked_at(void)
{
    pier_runner *mine = pier_runner_open(PIER_RUNNER_OPTIONS(.name = "deep"), NULL);
    pier_task_start_with(mine, diver, NULL, PIER_TASK_OPTIONS(.name = "diver"));
#if PIER_WITH_SQLITE
    pier_db *db = pier_db_open(mine, "sqlite::memory:", NULL, NULL);
    pier_db_begin(db, NULL, NULL);
#endif
    /* Started after it, so that it has been suspended when this one ends. */
    pier_task_run(mine, look, NULL, NULL);
    if (atomic_load(&suspended)) {
        abort();
    }
    return 1;
}

/* ---- The test ----------------------------------------------------------------------------- */

static char output[1 << 18];

static const char *script(void)
{
    static char path[1024];
    const char *file = __FILE__;
    const char *tail = strstr(file, "tests/unit/test_gdb.c");
    snprintf(path, sizeof path, "source %.*sscripts/gdb/pier.py", (int)(tail - file), file);
    return path;
}

static void run_gdb(void)
{
    char self[1024];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    assert_true(length > 0);
    self[length] = '\0';
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], 1);
        dup2(ends[1], 2);
        close(ends[0]);
        /* Leaks are not looked for in a traced process. */
        setenv("ASAN_OPTIONS", "detect_leaks=0:handle_abort=0", 1);
        execlp("gdb", "gdb", "-nx", "-batch", "-ex", "set startup-with-shell off", "-ex",
               "set debuginfod enabled off", "-ex", "handle SIGUSR1 nostop noprint pass", "-ex",
               "run", "-ex", script(), "-ex", "pier tasks -b", "-ex", "pier ops", "-ex",
               "pier pools", "--args", self, "be-looked-at", (char *)NULL);
        perror("gdb; scripts/install-deps test installs it");
        _exit(127);
    }
    close(ends[1]);
    size_t at = 0;
    for (ssize_t count; at < sizeof output - 1;) {
        count = read(ends[0], output + at, sizeof output - 1 - at);
        if (count <= 0 && !(count < 0 && errno == EINTR)) {
            break;
        }
        at += count > 0 ? (size_t)count : 0;
    }
    output[at] = '\0';
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
}

static void assert_shows(const char *says)
{
    if (!strstr(output, says)) {
        print_error("gdb does not show \"%s\":\n%s\n", says, output);
        fail();
    }
}

static void test_gdb__shows_tasks_with_their_stacks_operations_and_pools(void **state)
{
    (void)state;
    run_gdb();
    assert_shows("\"diver\": suspended in pier_task_sleep, sleeping");
    assert_shows("sleep_in_the_sea");
    assert_shows("in diver (");
    assert_shows("runner deep");
    assert_shows("operation pier_task_sleep: sleeping, task 0x");
#if PIER_WITH_SQLITE
    assert_shows("pool sqlite::memory:: 1 of 1 connections, 0 waiting");
    assert_shows("transaction of thread ");
#endif
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "be-looked-at")) {
        return be_looked_at();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gdb__shows_tasks_with_their_stacks_operations_and_pools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
