/*
 * A blocking function with both faces: PIER_OFFLOAD. Here a task counts the words of all files at
 * once, on threads of the runner's executor, while the loop is free for other things.
 */
#include <ctype.h>
#include <errno.h>
#include <pier/pier.h>
#include <stdio.h>

/* Blocks as such functions do. Fails by filling `err`. */
static int64_t count_words(const char *path, pier_error *err)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        return pier_error_set(err, PIER_EIO, "%s cannot be opened (errno %d)", path, errno);
    }
    int64_t words = 0;
    for (int byte, before = ' '; (byte = getc(file)) != EOF; before = byte) {
        words += isspace(before) && !isspace(byte);
    }
    fclose(file);
    return words;
}

/* word_count waits; word_count_async and word_count_finish are its asynchronous form. */
PIER_OFFLOAD(int64_t, -1, word_count, count_words, (const char *, path));

enum { FILES_MAX = 64 };

static int count_all(pier_task *self, void *arg, pier_error *err)
{
    char **paths = arg;
    pier_future *futures[FILES_MAX];
    int count = 0, status = 0;
    for (; paths[count]; count++) {
        futures[count] = word_count_async(pier_task_runner(self), paths[count]);
    }
    for (int i = 0; i < count; i++) {
        int64_t words = word_count_finish(futures[i], status < 0 ? NULL : err);
        if (words >= 0) {
            printf("%" PRId64 " %s\n", words, paths[i]);
        } else if (status == 0) {
            status = err->status;
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > FILES_MAX || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    int status = pier_task_run(runner, count_all, argv + 1, &err);
    if (status < 0) {
        fprintf(stderr, "count_words: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
