#include "tests/support/process.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { ARGUMENTS_MAX = 64 };

static int complain(const char *what)
{
    fprintf(stderr, "support: %s: %s\n", what, strerror(errno));
    return -1;
}

static void reap(pid_t guard)
{
    while (waitpid(guard, NULL, 0) < 0 && errno == EINTR) {
    }
}

static pid_t spawn_guard(const char **argv, int input, int output)
{
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, input, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    pid_t pid;
    int rc = posix_spawn(&pid, argv[0], &actions, NULL, (char **)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc) {
        errno = rc;
        return complain(argv[0]);
    }
    return pid;
}

static pid_t read_pid(int fd)
{
    char line[16] = "";
    for (size_t i = 0; i < sizeof line - 1; i++) {
        if (read(fd, &line[i], 1) != 1) {
            return -1;
        }
        if (line[i] == '\n') {
            break;
        }
    }
    return (pid_t)atoi(line);
}

static void build_arguments(const char **argv, const struct support_process_options *options,
                            char *stop_signal)
{
    size_t n = 0;
    argv[n++] = PIER_TEST_GUARD;
    argv[n++] = "--stop";
    argv[n++] = stop_signal;
    if (options->user) {
        argv[n++] = "--user";
        argv[n++] = options->user;
    }
    if (options->log) {
        argv[n++] = "--log";
        argv[n++] = options->log;
    }
    if (options->remove) {
        argv[n++] = "--remove";
        argv[n++] = options->remove;
    }
    argv[n++] = "--";
    for (size_t i = 0; options->argv[i] && n < ARGUMENTS_MAX - 1; i++) {
        argv[n++] = options->argv[i];
    }
    argv[n] = NULL;
}

int support_process_start(struct support_process *process,
                          const struct support_process_options *options)
{
    char stop_signal[16];
    snprintf(stop_signal, sizeof stop_signal, "%d",
             options->stop_signal ? options->stop_signal : SIGTERM);
    const char *argv[ARGUMENTS_MAX];
    build_arguments(argv, options, stop_signal);
    int command[2], answer[2];
    if (pipe2(command, O_CLOEXEC) < 0) {
        return complain("pipe");
    }
    if (pipe2(answer, O_CLOEXEC) < 0) {
        close(command[0]);
        close(command[1]);
        return complain("pipe");
    }
    pid_t guard = spawn_guard(argv, command[0], answer[1]);
    close(command[0]);
    close(answer[1]);
    pid_t pid = guard > 0 ? read_pid(answer[0]) : -1;
    if (pid <= 0) {
        close(command[1]);
        close(answer[0]);
        if (guard > 0) {
            reap(guard);
        }
        return -1;
    }
    *process = (struct support_process){
        .pid = pid, .guard = guard, .command_fd = command[1], .answer_fd = answer[0]};
    return 0;
}

static bool ask(struct support_process *process, char command)
{
    char answer = 0;
    if (process->pid == 0) {
        return false;
    }
    ssize_t sent;
    while ((sent = write(process->command_fd, &command, 1)) < 0 && errno == EINTR) {
    }
    if (sent != 1) {
        return false;
    }
    ssize_t got;
    while ((got = read(process->answer_fd, &answer, 1)) < 0 && errno == EINTR) {
    }
    return got == 1 && answer == '+';
}

bool support_process_alive(struct support_process *process)
{
    return ask(process, 'A');
}

int support_process_pause(struct support_process *process)
{
    return ask(process, 'P') ? 0 : -1;
}

int support_process_resume(struct support_process *process)
{
    return ask(process, 'R') ? 0 : -1;
}

static int end_process(struct support_process *process, char command)
{
    if (process->pid == 0) {
        return 0;
    }
    bool ended = ask(process, command);
    close(process->command_fd);
    close(process->answer_fd);
    reap(process->guard);
    *process = (struct support_process){0};
    return ended ? 0 : -1;
}

int support_process_stop(struct support_process *process)
{
    return end_process(process, 'S');
}

int support_process_kill(struct support_process *process)
{
    return end_process(process, 'K');
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status;
    (void)type;
    (void)walk;
    remove(path);
    return 0;
}

/* A killed Postgres leaves the System V segment that guards its data directory: 56 bytes, but for
 * ever. The seventh line of its postmaster.pid names it. */
static void remove_shared_memory(const char *path)
{
    char name[512], line[256];
    snprintf(name, sizeof name, "%s/data/postmaster.pid", path);
    FILE *file = fopen(name, "re");
    if (!file) {
        return;
    }
    unsigned long key;
    int id, number = 0;
    while (number < 7 && fgets(line, sizeof line, file)) {
        number++;
    }
    fclose(file);
    struct shmid_ds segment;
    if (number == 7 && sscanf(line, "%lu %d", &key, &id) == 2 &&
        shmctl(id, IPC_STAT, &segment) == 0 && segment.shm_nattch == 0) {
        shmctl(id, IPC_RMID, NULL);
    }
}

void support_directory_remove(const char *path)
{
    if (path && *path) {
        remove_shared_memory(path);
        nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

static bool is_ours(const struct stat *status)
{
    const struct passwd *postgres = geteuid() == 0 ? getpwnam("postgres") : NULL;
    return S_ISDIR(status->st_mode) &&
           (status->st_uid == geteuid() || (postgres && status->st_uid == postgres->pw_uid));
}

/* Removes the directories of tests that do not live any more; their names hold the test's process
 * id. */
static void remove_abandoned(const char *base)
{
    DIR *directory = opendir(base);
    if (!directory) {
        return;
    }
    for (const struct dirent *entry; (entry = readdir(directory));) {
        char path[512];
        struct stat status;
        int pid = 0;
        snprintf(path, sizeof path, "%s/%s", base, entry->d_name);
        if (sscanf(entry->d_name, "pier-test-%*[a-z]-%d-", &pid) == 1 && pid > 0 &&
            kill(pid, 0) < 0 && errno == ESRCH && lstat(path, &status) == 0 && is_ours(&status)) {
            support_directory_remove(path);
        }
    }
    closedir(directory);
}

int support_directory_make(char *path, size_t size, const char *name)
{
    static bool removed;
    const char *base = getenv("TMPDIR");
    base = base && *base ? base : "/tmp";
    if (!removed) {
        removed = true;
        remove_abandoned(base);
    }
    int length = snprintf(path, size, "%s/pier-test-%s-%d-XXXXXX", base, name, (int)getpid());
    if (length < 0 || (size_t)length >= size || !mkdtemp(path) || chmod(path, 0755) < 0) {
        return complain(path);
    }
    return 0;
}

int support_file_write(const char *directory, const char *name, const void *data, size_t size)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    if (!file) {
        return complain(path);
    }
    size_t written = size ? fwrite(data, 1, size, file) : 0;
    if (fclose(file) || written != size) {
        return complain(path);
    }
    return 0;
}

void support_file_print(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return;
    }
    char text[4096];
    fseek(file, 0, SEEK_END);
    long end = ftell(file);
    fseek(file, end > (long)sizeof text ? end - (long)sizeof text : 0, SEEK_SET);
    size_t length = fread(text, 1, sizeof text, file);
    fwrite(text, 1, length, stderr);
    fclose(file);
}

int support_port_reserve(int *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return complain("socket");
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) < 0 ||
        bind(fd, (struct sockaddr *)&address, length) < 0 ||
        getsockname(fd, (struct sockaddr *)&address, &length) < 0) {
        complain("bind");
        close(fd);
        return -1;
    }
    *port = ntohs(address.sin_port);
    return fd;
}

/* Reserved for as long as the program runs, before any test counts descriptors: a port that is let
 * go could be another program's the next moment. */
static int refused_port = -1;

__attribute__((constructor)) static void reserve_refused_port(void)
{
    (void)!support_port_reserve(&refused_port);
}

int support_port_refused(void)
{
    return refused_port;
}

bool support_port_answers(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    bool answers = fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return answers;
}
