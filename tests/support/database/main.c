/*
 * A database of its own for a test that is no C program, on the server of PIER_TEST_POSTGRES, which
 * several tests may share: prints its URL, and removes it when standard input ends.
 */
#include <pier/pier.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

int main(void)
{
    pier_error err = {0};
    /* Ctrl-C reaches the test too, which then closes the input. */
    signal(SIGINT, SIG_IGN);
    pier_testdb *testdb = pier_testdb_open("postgresql", &err);
    char *url = pier_testdb_fresh(testdb, &err);
    if (url) {
        puts(url);
        fflush(stdout);
        while (getchar() != EOF) {
        }
    } else {
        fprintf(stderr, "database: %s\n", err.message);
    }
    pier_testdb_close(testdb);
    free(url);
    return err.status ? 1 : 0;
}
