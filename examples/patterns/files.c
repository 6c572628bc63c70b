/*
 * Patterns: files, read without holding up the loop.
 *
 *   files FILE...
 */
#include <pier/pier.h>
#include <stdio.h>

/* [file] */
static int longest_line(pier_task *self, void *path, pier_error *err)
{
    pier_file *file = pier_file_open(pier_task_runner(self), path, "r", NULL, err);
    size_t length, longest = 0;
    while (pier_file_line(file, &length)) {
        longest = length > longest ? length : longest;
    }
    int status = pier_file_close(file, err); /* reports all that failed, from opening on */
    if (status == 0) {
        printf("%s: %zu\n", (char *)path, longest);
    }
    return status;
}

static int all_at_once(pier_runner *runner, char **paths, pier_error *err)
{
    pier_group *group = pier_group_open(runner, PIER_GROUP_OPTIONS(.limit = 8), err);
    for (; *paths; paths++) {
        pier_group_start(group, longest_line, *paths);
    }
    return pier_group_close(group, err);
}
/* [/file] */

int main(int argc, char **argv)
{
    if (argc < 2 || argv[1][0] == '-') {
        fprintf(stderr, "usage: %s FILE...\n", argv[0]);
        return 2;
    }
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    int status = all_at_once(runner, argv + 1, &err);
    if (status < 0) {
        fprintf(stderr, "files: %s\n", err.message);
    }
    pier_runner_close(runner);
    return status < 0;
}
