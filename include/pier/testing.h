#ifndef PIER_TESTING_H
#define PIER_TESTING_H
/*
 * Throw-away databases for tests. These functions are in a library of their own: link Pier::testing
 * (CMake) or pier-testing (pkg-config) beside Pier.
 */
#include <pier/db.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_testdb pier_testdb;

typedef struct pier_testdb_options {
    size_t struct_size; /* set by PIER_TESTDB_OPTIONS */
    /* Which Postgres: "local", a private server; "docker:IMAGE", a container; or the URL of a
     * server that runs. NULL: what the environment variable PIER_TEST_POSTGRES says, else "local".
     */
    const char *server;
    const char *template_sql; /* a script that every fresh database has seen; NULL: none */
    pier_tx_fn template_fn;   /* fills the template after the script; NULL: none */
    void *user_data;          /* handed to template_fn */
    /* "name=value" for a server that is started, and a NULL at the end; NULL: none */
    const char *const *settings;
    int64_t start_timeout_ms; /* until the server is ready; 0: 60,000 */
} PIER_DESIGNATED pier_testdb_options;

/* pier_testdb_open_with("postgresql", PIER_TESTDB_OPTIONS(.template_sql = schema), &err) */
#define PIER_TESTDB_OPTIONS(...)                                                                   \
    (&(const pier_testdb_options){.struct_size = sizeof(pier_testdb_options), __VA_ARGS__})

/**
 * Opens a source of throw-away databases, with the defaults of pier_testdb_open_with.
 *
 * @param kind  borrowed until the call returns: "postgresql" or "sqlite"
 * @param err   borrowed until the call returns: filled on failure, or NULL
 * @return owned: ended by pier_testdb_close; NULL on failure
 *
 * Errors: as of pier_testdb_open_with.
 * Threads: any, several at once; in a task it suspends; PIER_EDEADLOCK on a loop thread.
 */
PIER_API pier_testdb *pier_testdb_open(const char *kind, pier_error *err);

/**
 * Opens a source of throw-away databases.
 *
 * "sqlite" makes a temporary directory, in which each fresh database is a file. "postgresql" takes
 * the server that `options->server` names. A private server is made with initdb in a temporary
 * directory, as user postgres where the program runs as root, reachable by a unix socket in that
 * directory alone, without fsync. Those directories, servers and containers are removed at close,
 * and when the program ends in any other way, SIGKILL included. In a server of yours databases
 * named pier_test_... are created; they are dropped at close, and stay where the program is killed.
 *
 * Where there is a template it is filled now, once, and every fresh database is a copy of it.
 *
 * @param kind     borrowed until the call returns: "postgresql" or "sqlite"
 * @param options  borrowed until the call returns: NULL for the defaults
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: ended by pier_testdb_close; NULL on failure
 *
 * Errors: PIER_EIO (there is no Postgres here, or it does not start: the message says what to
 * install), PIER_ECONNECT, PIER_ETIMEDOUT.
 * Threads: any, several at once; in a task it suspends; PIER_EDEADLOCK on a loop thread.
 * Mirrors: testing.postgresql, Testcontainers.
 */
PIER_API pier_testdb *pier_testdb_open_with(const char *kind, const pier_testdb_options *options,
                                            pier_error *err);

/**
 * Makes a new database: empty, or a copy of the template.
 *
 * The copy of a SQLite template is made by `vacuum into`, which does not keep its journal mode.
 *
 * @param testdb  borrowed until the call returns
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return owned: its URL for pier_db_open, freed with free(); NULL on failure
 *
 * Errors: PIER_ESQL, PIER_ECONNECT, PIER_EFORKED.
 * Threads: any, several at once; in a task it suspends; PIER_EDEADLOCK on a loop thread.
 */
PIER_API char *pier_testdb_fresh(pier_testdb *testdb, pier_error *err);

/**
 * Removes a database before pier_testdb_close does, so that many tests need little room. On
 * Postgres it ends the sessions in it.
 *
 * @param testdb  borrowed until the call returns
 * @param url     borrowed until the call returns: from pier_testdb_fresh
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status on failure
 *
 * Errors: PIER_EINVAL (a URL that is not of this source, or has been dropped), PIER_ESQL,
 * PIER_EFORKED.
 * Threads: any, several at once; in a task it suspends; PIER_EDEADLOCK on a loop thread.
 */
PIER_API int pier_testdb_drop(pier_testdb *testdb, const char *url, pier_error *err);

/**
 * Gives the URL of the server itself, for what concerns more than one database.
 *
 * @param testdb  borrowed until the call returns
 * @return borrowed until `testdb` is closed: of its maintenance database; NULL for SQLite
 *
 * Threads: any.
 */
PIER_API const char *pier_testdb_url(const pier_testdb *testdb);

/**
 * Removes all that the source has made, and waits until it is gone, for 30 s at most. Where it may
 * not wait (on a loop thread, in a scope that has been cancelled) what it has started goes on its
 * own. In a forked child it frees memory only.
 *
 * @param testdb  taken: NULL is harmless
 *
 * Threads: any, once; in a task it suspends.
 */
PIER_API void pier_testdb_close(pier_testdb *testdb);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_testdb, pier_testdb_close)
#endif
#endif
