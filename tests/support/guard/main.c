/*
 * The parent of one server that a test started: it ends the server, and all that the server
 * started, when told to or when the test is gone, however the test went. A test that dies of a
 * signal runs no clean-up, and PR_SET_PDEATHSIG alone would miss grandchildren and processes that
 * are stopped.
 *
 * usage: guard [--user NAME] [--log FILE] [--remove DIR] [--stop SIGNUM] -- COMMAND...
 *
 * The first line on standard output is the server's process id. Then each byte on standard input is
 * a command, answered by one byte, '+' or '-': A  is the server alive?                 P / R
 * SIGSTOP / SIGCONT for the server and its descendants K  SIGKILL for all of them              S
 * the stop signal; after 10 s SIGKILL End of input ends the server. Without a K or S before it the
 * test died, and DIR is removed as well.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct guard {
    const char *user;
    const char *log;
    const char *remove;
    int stop_signal;
    char **command;
    pid_t server;
    bool server_alive;
};

static void die(const char *what)
{
    fprintf(stderr, "guard: %s: %s\n", what, strerror(errno));
    _exit(127);
}

/* Signals the children of parent and theirs, parents first; returns how many there are. 0 only
 * counts them. */
static int signal_descendants(pid_t parent, int signal_number, int depth)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)parent, (int)parent);
    FILE *file = fopen(path, "re");
    if (!file) {
        return 0;
    }
    int count = 0;
    for (int child; fscanf(file, "%d", &child) == 1;) {
        count++;
        if (signal_number) {
            kill(child, signal_number);
        }
        /* Deeper than any server here nests; a bound against endless recursion. */
        if (depth < 8) {
            count += signal_descendants(child, signal_number, depth + 1);
        }
    }
    fclose(file);
    return count;
}

static void reap(struct guard *guard)
{
    for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;) {
        if (pid == guard->server) {
            guard->server_alive = false;
        }
    }
}

/* Waits until this process has no descendants; as a subreaper it inherits those whose parent died.
 */
static bool wait_for_all(struct guard *guard, int timeout_ms, int repeat_signal)
{
    const struct timespec pause = {.tv_nsec = 2000000};
    for (int waited = 0; waited <= timeout_ms; waited += 2) {
        reap(guard);
        if (signal_descendants(getpid(), repeat_signal, 0) == 0) {
            return true;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

static bool kill_all(struct guard *guard)
{
    if (guard->server_alive) {
        /* The server first, so that it starts no replacement for a child. */
        kill(guard->server, SIGKILL);
    }
    return wait_for_all(guard, 10000, SIGKILL);
}

static bool stop(struct guard *guard)
{
    signal_descendants(getpid(), SIGCONT, 0);
    reap(guard);
    if (guard->server_alive) {
        kill(guard->server, guard->stop_signal);
        if (wait_for_all(guard, 10000, 0)) {
            return true;
        }
    }
    return kill_all(guard);
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    remove(path);
    return 0;
}

static bool obey(struct guard *guard, char command)
{
    reap(guard);
    switch (command) {
    case 'A':
        return guard->server_alive;
    case 'P':
        return signal_descendants(getpid(), SIGSTOP, 0) > 0;
    case 'R':
        return signal_descendants(getpid(), SIGCONT, 0) > 0;
    case 'K':
        return kill_all(guard);
    case 'S':
        return stop(guard);
    default:
        return false;
    }
}

static void become_user(const char *name)
{
    const struct passwd *entry = getpwnam(name);
    if (!entry) {
        die(name);
    }
    if (entry->pw_uid == geteuid()) {
        return;
    }
    if (initgroups(name, entry->pw_gid) || setgid(entry->pw_gid) || setuid(entry->pw_uid)) {
        die(name);
    }
    setenv("HOME", entry->pw_dir, 1);
}

static void run_server(const struct guard *guard, pid_t parent)
{
    int input = open("/dev/null", O_RDONLY);
    int output = open(guard->log, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (input < 0 || output < 0) {
        die(guard->log);
    }
    dup2(input, 0);
    dup2(output, 1);
    dup2(output, 2);
    close(input);
    close(output);
    if (guard->user) {
        become_user(guard->user);
    }
    /* After the change of user, which clears it; the guard has one thread, so it fires only with
     * the guard. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    execvp(guard->command[0], guard->command);
    die(guard->command[0]);
}

static void serve_commands(struct guard *guard)
{
    bool ended = false;
    for (;;) {
        struct pollfd input = {.fd = 0, .events = POLLIN};
        /* The timeout reaps children that died meanwhile. */
        if (poll(&input, 1, 100) <= 0) {
            reap(guard);
            continue;
        }
        char command;
        ssize_t got = read(0, &command, 1);
        if (got <= 0) {
            break;
        }
        ended = command == 'K' || command == 'S';
        char answer = obey(guard, command) ? '+' : '-';
        if (write(1, &answer, 1) < 0) {
            break;
        }
    }
    if (!ended) {
        stop(guard);
        if (guard->remove) {
            nftw(guard->remove, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
        }
    }
}

static void parse(struct guard *guard, char **argv)
{
    for (argv++; *argv && strcmp(*argv, "--") != 0 && argv[1]; argv += 2) {
        if (strcmp(*argv, "--user") == 0) {
            guard->user = argv[1];
        } else if (strcmp(*argv, "--log") == 0) {
            guard->log = argv[1];
        } else if (strcmp(*argv, "--remove") == 0) {
            guard->remove = argv[1];
        } else if (strcmp(*argv, "--stop") == 0) {
            guard->stop_signal = atoi(argv[1]);
        }
    }
    if (!*argv || !argv[1]) {
        fprintf(stderr, "usage: guard [--user NAME] [--log FILE] [--remove DIR] [--stop SIGNUM] -- "
                        "COMMAND...\n");
        exit(2);
    }
    guard->command = argv + 1;
}

int main(int argc, char **argv)
{
    (void)argc;
    struct guard guard = {.log = "/dev/null", .stop_signal = SIGTERM};
    parse(&guard, argv);
    close_range(3, ~0U, 0);
    signal(SIGPIPE, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    /* Ctrl-C goes to the test, which then ends its servers, or dies and leaves that to the guard.
     */
    setsid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    pid_t self = getpid();
    guard.server = fork();
    if (guard.server < 0) {
        die("fork");
    }
    if (guard.server == 0) {
        signal(SIGPIPE, SIG_DFL);
        run_server(&guard, self);
    }
    guard.server_alive = true;
    dprintf(1, "%d\n", (int)guard.server);
    int null = open("/dev/null", O_WRONLY);
    dup2(null, 2);
    if (chdir("/") < 0) {
        die("/");
    }
    serve_commands(&guard);
    return 0;
}
