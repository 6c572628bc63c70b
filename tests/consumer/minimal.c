/* The least that a user's program can be: it opens and closes a runner. */
#include <pier/pier.h>
#include <stdio.h>

int main(void)
{
    pier_error err = {0};
    pier_runner *runner = pier_runner_open(NULL, &err);
    if (!runner) {
        fprintf(stderr, "%s\n", err.message);
    }
    int rc = !runner;
    pier_runner_close(runner);
    return rc;
}
