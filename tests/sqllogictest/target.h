/* Where test files run: a fresh database for each of them, made of one URL. */
#ifndef PIER_TESTS_SQLLOGICTEST_TARGET_H
#define PIER_TESTS_SQLLOGICTEST_TARGET_H

#include <pier/db.h>
#include <pier/runner.h>

/* Immutable once made; any thread and task may open sessions of it. */
struct slt_target {
    const char *url;          /* borrowed from the command line */
    const char *const *names; /* of the database, for skipif and onlyif */
    char *directory;          /* of SQLite's files; NULL: memory, or Postgres */
    const char *query;        /* of a SQLite URL, from its '?' on */
};

struct slt_session {
    pier_db *db; /* a lease: statements of one file share a connection */
    pier_db *pool;
    char *directory; /* made for a SQLite file, or NULL */
    char schema[64]; /* of Postgres, or empty */
};

/*
 * Understands sqlite::memory:, sqlite:DIRECTORY and postgresql:...; a negative pier_status with
 * what is wrong in `err` otherwise. Opens nothing yet.
 */
int slt_target_init(struct slt_target *target, const char *url, pier_error *err);
void slt_target_fini(struct slt_target *target);

/* Makes a database and connects; half of it is undone by close. */
int slt_session_open(struct slt_session *session, const struct slt_target *target,
                     pier_runner *runner, pier_error *err);
/* Drops what open has made. Not inside a scope that was cancelled: nothing could be dropped. */
int slt_session_close(struct slt_session *session, pier_error *err);

#endif
