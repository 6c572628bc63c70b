/*
 * Interleaved runs: in each round every way does the same number of operations, beginning with
 * another one each time, so that what drifts (clock rates, caches, neighbours) meets all of them.
 * Ratios are taken within a round and only then summed up, by their median.
 */
#include "support.h"

#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Set by bench_parse: the processor of a server that is started, or -1. */
static int server_cpu = -1, spinner_cpu = -1;

enum { WAYS_MAX = 8, ROUNDS_MAX = 1000, BAR = 40 };

/* What is measured, in nanoseconds an operation. */
enum measure { WALL, P50, CPU, MEASURES };
static const char *const measure_names[MEASURES] = {"wall", "p50", "cpu"};

struct figures {
    double ns[MEASURES][ROUNDS_MAX];
    double ratio[MEASURES][ROUNDS_MAX]; /* to the first way, in the same round */
};

struct summary {
    double median, low, high;
};

_Noreturn void bench_fail(const char *format, ...)
{
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    va_end(list);
    fputc('\n', stderr);
    exit(1);
}

static _Noreturn void usage(const char *program, int code)
{
    fprintf(
        code ? stderr : stdout,
        "usage: %s [--rounds N] [--ops N] [--warmup N] [--no-latency] [--place WHERE] [--busy]\n"
        "       [--json FILE] [--only NAME] [--list] [--work NAME] [--threads N]\n"
        "       [--connections N] [URL]\n\n"
        "--ops N       operations in a round\n"
        "--warmup N    operations before the first round (default: a tenth of a round)\n"
        "--no-latency  take no time after each operation: no p50, and less overhead\n"
        "--place apart     run on one core, the server that is started on another (default)\n"
        "--place together  both on one core\n"
        "--place free      as the scheduler likes\n"
        "--busy        like together, and another core is kept busy meanwhile\n"
        "--json FILE   write the figures there\n"
        "--only NAME   run one way alone, for profilers; --list names them\n"
        "--work NAME, --threads N, --connections N: for programs with several workloads\n",
        program);
    exit(code);
}

static int64_t number(const char *program, const char *text, int64_t low, int64_t high)
{
    char *end;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end || value < low || value > high) {
        usage(program, 2);
    }
    return value;
}

static int place(const char *program, const char *text)
{
    static const char *const names[] = {"apart", "together", "free"};
    for (int i = 0; i < 3; i++) {
        if (strcmp(text, names[i]) == 0) {
            return i;
        }
    }
    usage(program, 2);
}

static void pin_to(int cpu)
{
    if (cpu < 0) {
        return;
    }
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        bench_fail("bench: cannot run on processor %d", cpu);
    }
}

/* Chooses processors, and goes to its own. Threads that are started later are there too. */
static void take_place(const struct bench_options *options)
{
    cpu_set_t allowed;
    int cpus[2] = {-1, -1}, count = 0;
    sched_getaffinity(0, sizeof allowed, &allowed);
    for (int cpu = 0; cpu < CPU_SETSIZE && count < 2; cpu++) {
        if (CPU_ISSET(cpu, &allowed)) {
            cpus[count++] = cpu;
        }
    }
    if (options->place == BENCH_FREE || count < 2) {
        return;
    }
    /* The first processor is the one that devices interrupt. */
    server_cpu = cpus[options->place == BENCH_APART ? 0 : 1];
    spinner_cpu = cpus[0];
    pin_to(cpus[1]);
}

struct bench_options bench_parse(int argc, char **argv, int64_t ops)
{
    static const struct option names[] = {
        {"rounds", required_argument, NULL, 'r'},  {"ops", required_argument, NULL, 'o'},
        {"warmup", required_argument, NULL, 'w'},  {"no-latency", no_argument, NULL, 'n'},
        {"busy", no_argument, NULL, 'b'},          {"json", required_argument, NULL, 'j'},
        {"place", required_argument, NULL, 'p'},   {"only", required_argument, NULL, 'y'},
        {"list", no_argument, NULL, 'l'},          {"work", required_argument, NULL, 'k'},
        {"threads", required_argument, NULL, 't'}, {"connections", required_argument, NULL, 'c'},
        {"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0}};
    struct bench_options options = {.ops = ops, .warmup = -1, .rounds = 15, .latency = true};
    for (int c; (c = getopt_long(argc, argv, "h", names, NULL)) != -1;) {
        switch (c) {
        case 'r':
            options.rounds = (int)number(argv[0], optarg, 1, ROUNDS_MAX);
            break;
        case 'o':
            options.ops = number(argv[0], optarg, 1, 1000000000);
            break;
        case 'w':
            options.warmup = number(argv[0], optarg, 0, 1000000000);
            break;
        case 'n':
            options.latency = false;
            break;
        case 'b':
            options.busy = true;
            options.place = BENCH_TOGETHER;
            break;
        case 'p':
            options.place = place(argv[0], optarg);
            break;
        case 'j':
            options.json = optarg;
            break;
        case 'y':
            options.only = optarg;
            break;
        case 'l':
            options.list = true;
            break;
        case 'k':
            options.work = optarg;
            break;
        case 't':
            options.threads = (int)number(argv[0], optarg, 1, 1000);
            break;
        case 'c':
            options.connections = (int)number(argv[0], optarg, 1, 1000);
            break;
        default:
            usage(argv[0], c == 'h' ? 0 : 2);
        }
    }
    if (argc - optind > 1) {
        usage(argv[0], 2);
    }
    options.url = argv[optind];
    options.warmup = options.warmup < 0 ? options.ops / 10 + 1 : options.warmup;
    take_place(&options);
    return options;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* User and system time of all threads of this process. */
static int64_t cpu_ns(void)
{
    struct rusage usage_now;
    getrusage(RUSAGE_SELF, &usage_now);
    const struct timeval *user = &usage_now.ru_utime, *system = &usage_now.ru_stime;
    return ((int64_t)user->tv_sec + system->tv_sec) * 1000000000 +
           ((int64_t)user->tv_usec + system->tv_usec) * 1000;
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static int compare_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One round of one way. The end of an operation is the start of the next: one clock call each. */
static void time_round(const struct bench_way *way, const struct bench_options *options, int round,
                       uint32_t *latencies, struct figures *figures)
{
    int64_t base = (int64_t)round * options->ops;
    int64_t cpu = cpu_ns();
    int64_t start = now_ns(CLOCK_MONOTONIC);
    if (options->latency) {
        int64_t before = start;
        for (int64_t i = 0; i < options->ops; i++) {
            way->run(way->context, base + i);
            int64_t after = now_ns(CLOCK_MONOTONIC);
            latencies[i] = after - before > UINT32_MAX ? UINT32_MAX : (uint32_t)(after - before);
            before = after;
        }
    } else {
        for (int64_t i = 0; i < options->ops; i++) {
            way->run(way->context, base + i);
        }
    }
    double ops = (double)options->ops;
    figures->ns[WALL][round] = (double)(now_ns(CLOCK_MONOTONIC) - start) / ops;
    figures->ns[CPU][round] = (double)(cpu_ns() - cpu) / ops;
    figures->ns[P50][round] = 0;
    if (options->latency) {
        qsort(latencies, (size_t)options->ops, sizeof *latencies, compare_u32);
        figures->ns[P50][round] = latencies[options->ops / 2];
    }
}

static struct summary sum_up(const double *values, int count)
{
    double sorted[ROUNDS_MAX];
    memcpy(sorted, values, (size_t)count * sizeof *values);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_double);
    double median = count % 2 ? sorted[count / 2] : (sorted[count / 2 - 1] + sorted[count / 2]) / 2;
    return (struct summary){median, sorted[0], sorted[count - 1]};
}

/* A child that does nothing but run, until it is killed; it dies with this process too. */
static pid_t start_spinner(void)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0) {
        bench_fail("bench: cannot fork");
    }
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        pin_to(spinner_cpu);
        for (volatile uint64_t n = 0; n > 0 || getppid() == parent; n++) {
        }
        _exit(0);
    }
    return child;
}

static void print_measure(enum measure measure, const struct bench_way *ways,
                          const struct figures *figures, int count, int rounds)
{
    double longest = 0;
    for (int i = 0; i < count; i++) {
        longest = fmax(longest, sum_up(figures[i].ns[measure], rounds).median);
    }
    if (longest <= 0) {
        return;
    }
    printf("\n  %-22s %10s %21s %7s %15s\n", measure_names[measure], "ns/op", "min - max", "ratio",
           "min - max");
    for (int i = 0; i < count; i++) {
        struct summary ns = sum_up(figures[i].ns[measure], rounds);
        struct summary ratio = sum_up(figures[i].ratio[measure], rounds);
        printf("  %-22s %10.0f %10.0f - %8.0f %7.3f %6.3f - %6.3f ", ways[i].name, ns.median,
               ns.low, ns.high, ratio.median, ratio.low, ratio.high);
        for (int bar = (int)(ns.median / longest * BAR + 0.5); bar > 0; bar--) {
            putchar('#');
        }
        putchar('\n');
    }
}

static void write_summary(FILE *out, const char *name, struct summary s)
{
    fprintf(out, "\"%s\": {\"median\": %.4f, \"min\": %.4f, \"max\": %.4f}", name, s.median, s.low,
            s.high);
}

static void write_json(const char *group, const struct bench_options *options,
                       const struct bench_way *ways, const struct figures *figures, int count)
{
    FILE *out = fopen(options->json, "w");
    if (!out) {
        bench_fail("bench: cannot write %s", options->json);
    }
    fprintf(out, "{\"group\": \"%s\", \"rounds\": %d, \"ops\": %lld, \"busy\": %s, \"ways\": [",
            group, options->rounds, (long long)options->ops, options->busy ? "true" : "false");
    for (int i = 0; i < count; i++) {
        fprintf(out, "%s\n  {\"name\": \"%s\"", i ? "," : "", ways[i].name);
        for (int m = 0; m < MEASURES; m++) {
            char name[32];
            snprintf(name, sizeof name, "%s_ns", measure_names[m]);
            fputs(",\n   ", out);
            write_summary(out, name, sum_up(figures[i].ns[m], options->rounds));
            snprintf(name, sizeof name, "%s_ratio", measure_names[m]);
            fputs(", ", out);
            write_summary(out, name, sum_up(figures[i].ratio[m], options->rounds));
        }
        fputc('}', out);
    }
    fputs("\n]}\n", out);
    if (fclose(out) != 0) {
        bench_fail("bench: cannot write %s", options->json);
    }
}

static void run_rounds(const struct bench_options *options, const struct bench_way *ways,
                       struct figures *figures, int count)
{
    uint32_t *latencies = malloc((size_t)options->ops * sizeof *latencies);
    if (!latencies) {
        bench_fail("bench: no memory for %lld latencies", (long long)options->ops);
    }
    for (int w = 0; w < count; w++) {
        for (int64_t i = 0; i < options->warmup; i++) {
            ways[w].run(ways[w].context, i);
        }
    }
    for (int round = 0; round < options->rounds; round++) {
        for (int i = 0; i < count; i++) {
            int w = (round + i) % count;
            time_round(&ways[w], options, round, latencies, &figures[w]);
        }
        for (int w = 0; w < count; w++) {
            for (int m = 0; m < MEASURES; m++) {
                double raw = figures[0].ns[m][round];
                figures[w].ratio[m][round] = raw > 0 ? figures[w].ns[m][round] / raw : 0;
            }
        }
    }
    free(latencies);
}

void bench_run(const char *group, const struct bench_options *options, const struct bench_way *ways,
               int count)
{
    struct bench_way chosen[WAYS_MAX];
    int n = 0;
    for (int i = 0; i < count && i < WAYS_MAX; i++) {
        if (options->list) {
            puts(ways[i].name);
        } else if (!options->only || strcmp(options->only, ways[i].name) == 0) {
            chosen[n++] = ways[i];
        }
    }
    if (options->list) {
        return;
    }
    if (n == 0) {
        bench_fail("bench: %s has no way named %s; --list names them", group, options->only);
    }
    struct figures *figures = calloc((size_t)n, sizeof *figures);
    if (!figures) {
        bench_fail("bench: out of memory");
    }
    pid_t spinner = options->busy ? start_spinner() : 0;
    run_rounds(options, chosen, figures, n);
    if (spinner) {
        kill(spinner, SIGKILL);
        waitpid(spinner, NULL, 0);
    }
    static const char *const places[] = {"on two cores", "on one core", "placed by the scheduler"};
    printf("%s: %d rounds of %lld operations, %s%s\n", group, options->rounds,
           (long long)options->ops, places[options->place],
           options->busy ? ", the other one busy" : "");
    for (int m = 0; m < MEASURES; m++) {
        print_measure((enum measure)m, chosen, figures, n, options->rounds);
    }
    if (options->json) {
        write_json(group, options, chosen, figures, n);
    }
    free(figures);
}

const char *bench_server(const char *command)
{
    int in[2], out[2];
    if (pipe(in) != 0 || pipe(out) != 0) {
        bench_fail("bench: cannot make a pipe");
    }
    pid_t child = fork();
    if (child < 0) {
        bench_fail("bench: cannot fork");
    }
    if (child == 0) {
        /* Out of the terminal's group: Ctrl-C is for the bench; this one cleans up behind it. */
        setsid();
        pin_to(server_cpu);
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        close(in[0]);
        close(in[1]);
        close(out[0]);
        close(out[1]);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    /* in[1] stays open, and is not inherited, for as long as this process lives. */
    fcntl(in[1], F_SETFD, FD_CLOEXEC);
    static char url[512];
    FILE *answer = fdopen(out[0], "r");
    if (!answer || !fgets(url, sizeof url, answer) || url[0] == '\n') {
        bench_fail("bench: the server did not start: %s", command);
    }
    fclose(answer);
    url[strcspn(url, "\n")] = 0;
    return url;
}

const char *bench_source_dir(void)
{
    static char directory[sizeof __FILE__ + 8];
    /* CMake compiles by absolute paths: TOP/bench/support.c. */
    snprintf(directory, sizeof directory, "%s", __FILE__);
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(directory, '/');
        if (slash) {
            *slash = 0;
        }
    }
    return directory;
}

/* The first line that local-postgres prints is the URL of its unix socket. */
const char *bench_postgres(void)
{
    char command[1024];
    const char *top = bench_source_dir();
    snprintf(command, sizeof command,
             "d=$(mktemp -d \"${TMPDIR:-/tmp}/pier-bench-XXXXXX\") && chmod 755 \"$d\" &&"
             " '%s/scripts/local-postgres' start \"$d/pg\" max_connections=300 && exec >/dev/null; "
             "cat >/dev/null;"
             " '%s/scripts/local-postgres' stop \"$d/pg\"; rm -rf \"$d\"",
             top, top);
    return bench_server(command);
}
