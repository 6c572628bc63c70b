/*
 * sqllogictest: runs test files of SQLite's sqllogictest format through Pier. See README.md.
 *
 * One job runs its files on the main thread with blocking calls; more of them are tasks on the
 * loop, so that the same files go through both faces of the library.
 */
#include "tests/sqllogictest/run.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <pier/group.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EXIT_USAGE = 2 };

/* Each job listens to SIGINT, and a process has 64 places for that. */
enum { JOBS_MAX = 32 };

struct program {
    struct slt_suite suite;
    const char *url;
    bool quiet;
    bool verbose;
    long jobs;
    struct slt_values paths;
    atomic_size_t next; /* path */
};

static const char usage_text[] =
    "usage: sqllogictest [OPTION...] FILE|DIRECTORY...\n"
    "\n"
    "Runs test files in the format of SQLite's sqllogictest, each on a fresh database. Of a\n"
    "directory and those below it, *.test are taken.\n"
    "\n"
    "--db URL           sqlite::memory: (which is the default), sqlite:DIRECTORY for files made "
    "in\n"
    "                   that directory, or postgresql://... for schemas made in that database\n"
    "--jobs N           run N files at once, as tasks on the event loop; 1 (the default) runs "
    "them\n"
    "                   on the main thread with blocking calls\n"
    "--cursor           read results through cursors\n"
    "--halt             stop at the first failure\n"
    "--hash-threshold N report results with more values than this as a hash; 0: never\n"
    "--quiet            a line for each failure, no details and no progress\n"
    "--verbose          a line for each file\n"
    "\n"
    "Exit codes: 0 all passed, 1 something failed, 2 wrong usage.\n";

/* ---- Arguments ---------------------------------------------------------------------------- */

static bool read_number(const char *text, long min, long max, long *number)
{
    char *end;
    errno = 0;
    *number = strtol(text, &end, 10);
    return !errno && *text && !*end && *number >= min && *number <= max;
}

static int complain(const char *what, const char *about)
{
    fprintf(stderr, "sqllogictest: %s: %s\n", about, what);
    return EXIT_USAGE;
}

static int take_option(struct program *program, int option)
{
    long number;
    switch (option) {
    case 'd':
        program->url = optarg;
        return 0;
    case 't':
        if (!read_number(optarg, 0, LONG_MAX, &number)) {
            return complain("a hash threshold is a number of values", optarg);
        }
        program->suite.threshold = number;
        return 0;
    case 'j':
        return read_number(optarg, 1, JOBS_MAX, &program->jobs)
                   ? 0
                   : complain("the number of jobs is 1 to 32", optarg);
    case 'c':
        program->suite.cursor = true;
        return 0;
    case 'e':
        program->suite.halt = true;
        return 0;
    case 'q':
        program->quiet = true;
        return 0;
    case 'v':
        program->verbose = true;
        return 0;
    default:
        fputs(usage_text, stderr);
        return EXIT_USAGE;
    }
}

/* Whether to go on; else the exit code is in `code`. */
static bool read_options(struct program *program, int argc, char **argv, int *code)
{
    static const struct option options[] = {{"db", required_argument, NULL, 'd'},
                                            {"hash-threshold", required_argument, NULL, 't'},
                                            {"jobs", required_argument, NULL, 'j'},
                                            {"cursor", no_argument, NULL, 'c'},
                                            {"halt", no_argument, NULL, 'e'},
                                            {"quiet", no_argument, NULL, 'q'},
                                            {"verbose", no_argument, NULL, 'v'},
                                            {"help", no_argument, NULL, 'h'},
                                            {NULL, 0, NULL, 0}};
    for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (option == 'h') {
            fputs(usage_text, stdout);
            *code = 0;
            return false;
        }
        *code = take_option(program, option);
        if (*code) {
            return false;
        }
    }
    if (optind == argc) {
        fputs(usage_text, stderr);
        *code = EXIT_USAGE;
        return false;
    }
    return true;
}

/* ---- Files -------------------------------------------------------------------------------- */

static bool is_test(const char *name)
{
    size_t size = strlen(name);
    return size > strlen(".test") && !strcmp(name + size - strlen(".test"), ".test");
}

static int add_path(struct program *program, const char *path, bool named);

static int add_directory(struct program *program, const char *path)
{
    struct dirent **entries;
    int count = scandir(path, &entries, NULL, alphasort);
    if (count < 0) {
        return complain(strerror(errno), path);
    }
    int code = 0;
    struct slt_buffer child = {0};
    for (int i = 0; i < count; i++) {
        if (!code && entries[i]->d_name[0] != '.') {
            slt_buffer_clear(&child);
            slt_buffer_print(&child, "%s/%s", path, entries[i]->d_name);
            code = add_path(program, child.data, false);
        }
        free(entries[i]);
    }
    free(entries);
    slt_buffer_fini(&child);
    return code;
}

/* A file that was named is taken whatever it is called. */
static int add_path(struct program *program, const char *path, bool named)
{
    struct stat status;
    if (stat(path, &status) < 0) {
        return complain(strerror(errno), path);
    }
    if (S_ISDIR(status.st_mode)) {
        return add_directory(program, path);
    }
    if (named || is_test(path)) {
        slt_values_add(&program->paths, path, strlen(path));
    }
    return 0;
}

static int find_files(struct program *program, char **paths)
{
    for (; *paths; paths++) {
        size_t before = program->paths.count;
        int code = add_path(program, *paths, true);
        if (code) {
            return code;
        }
        if (program->paths.count == before) {
            return complain("there is no *.test in it", *paths);
        }
    }
    return 0;
}

/* ---- Running ------------------------------------------------------------------------------ */

/* While a file runs its scope takes SIGINT over; between files this does. A second one does not
 * wait for databases to be dropped. */
static void on_interrupt(int number)
{
    (void)number;
    if (atomic_exchange(&slt_interrupted, true)) {
        _exit(1);
    }
}

static void run_files(struct program *program)
{
    size_t i;
    while (!atomic_load(&slt_interrupted) && !atomic_load(&program->suite.stop) &&
           (i = atomic_fetch_add(&program->next, 1)) < program->paths.count) {
        slt_run_file(&program->suite, slt_values_at(&program->paths, i));
    }
}

static int run_files_in_task(pier_task *self, void *arg, pier_error *err)
{
    (void)self;
    (void)err;
    run_files(arg);
    return 0;
}

static int run_in_tasks(struct program *program, pier_error *err)
{
    pier_group *group = pier_group_open(program->suite.runner, NULL, err);
    for (long i = 0; i < program->jobs; i++) {
        pier_group_start(group, run_files_in_task, program);
    }
    return pier_group_close(group, err);
}

static int run_all(struct program *program)
{
    struct slt_suite *suite = &program->suite;
    pier_error err = {0};
    suite->runner = pier_runner_open(NULL, &err);
    if (suite->runner) {
        slt_report_init(&suite->report, program->quiet, program->verbose, program->paths.count);
        if (program->jobs == 1) {
            run_files(program);
        } else {
            run_in_tasks(program, &err);
        }
    }
    if (err.status) {
        fprintf(stderr, "sqllogictest: %s\n", err.message);
    }
    pier_runner_close(suite->runner);
    bool stopped = atomic_load(&slt_interrupted) || atomic_load(&suite->interrupted);
    if (stopped) {
        fputs("sqllogictest: interrupted\n", stderr);
    }
    int code = suite->runner ? slt_report_end(&suite->report) : 1;
    return err.status || stopped ? 1 : code;
}

int main(int argc, char **argv)
{
    struct program program = {.suite.threshold = -1, .url = "sqlite::memory:", .jobs = 1};
    int code = 0;
    if (read_options(&program, argc, argv, &code)) {
        pier_error err = {0};
        code = find_files(&program, argv + optind);
        if (!code && slt_target_init(&program.suite.target, program.url, &err) < 0) {
            code = complain(err.message, "--db");
        }
        if (!code) {
            signal(SIGINT, on_interrupt);
            code = run_all(&program);
        }
        slt_target_fini(&program.suite.target);
    }
    slt_values_fini(&program.paths);
    return code;
}
