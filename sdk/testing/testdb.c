/*
 * Throw-away databases. A source has a runner of its own, a shell that keeps what was made from
 * outliving the program (server.sh), and a small pool on the server, or on the template of SQLite.
 * It uses what any program can use of Pier.
 */
#include "sdk/options.h"
#include "sdk/testing/server.h"
#include "sdk/testing/url.h"
#include <pier/testing.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 60000, POOL_MAX = 2 };

struct fresh {
    struct fresh *next;
    char name[64]; /* of the database, or of the file in the directory */
    char url[];
};

struct pier_testdb {
    /* Immutable after open. */
    pid_t pid; /* of the process that opened it */
    bool sqlite;
    bool external; /* the server is not ours: databases are dropped one by one */
    bool has_template;
    unsigned stamp; /* in the names of databases */
    char *url;      /* of the server */
    pier_runner *runner;
    pier_db *admin; /* the server's own database; the template of SQLite, or NULL */
    pier__testing_server server;

    atomic_uint count;
    pthread_mutex_t lock;
    struct fresh *made; /* guarded by lock */
};

static int no_memory(pier_error *err)
{
    return pier_error_set(err, PIER_ENOMEM, "out of memory for the test databases");
}

/* What every function begins with; a NULL handle keeps the error that is there. */
static int check(const pier_testdb *testdb, pier_error *err)
{
    if (!testdb) {
        return err && err->status < 0 ? err->status
                                      : pier_error_set(err, PIER_EINVAL, "the testdb is NULL");
    }
    if (testdb->pid != getpid()) {
        return pier_error_set(err, PIER_EFORKED,
                              "the testdb belongs to the parent process; open one in this process");
    }
    return 0;
}

/* ---- Databases ---------------------------------------------------------------------------- */

static struct fresh *fresh_new(pier_testdb *testdb, const char *name)
{
    char *url;
    if (testdb->sqlite) {
        url = malloc(strlen(testdb->server.answer) + strlen(name) + 16);
        if (url) {
            sprintf(url, "sqlite:%s/%s", testdb->server.answer, name);
        }
    } else {
        url = pier__testing_url_of(testdb->url, name);
    }
    struct fresh *fresh = url ? calloc(1, sizeof *fresh + strlen(url) + 1) : NULL;
    if (fresh) {
        snprintf(fresh->name, sizeof fresh->name, "%s", name);
        strcpy(fresh->url, url);
    }
    free(url);
    return fresh;
}

static void link_fresh(pier_testdb *testdb, struct fresh *fresh)
{
    pthread_mutex_lock(&testdb->lock);
    fresh->next = testdb->made;
    testdb->made = fresh;
    pthread_mutex_unlock(&testdb->lock);
}

static struct fresh *unlink_fresh(pier_testdb *testdb, const char *url)
{
    pthread_mutex_lock(&testdb->lock);
    struct fresh **at = &testdb->made;
    while (*at && strcmp((*at)->url, url) != 0) {
        at = &(*at)->next;
    }
    struct fresh *found = *at;
    if (found) {
        *at = found->next;
    }
    pthread_mutex_unlock(&testdb->lock);
    return found;
}

static int make_postgres(pier_testdb *testdb, const char *name, pier_error *err)
{
    char sql[256];
    int length = snprintf(sql, sizeof sql, "create database %s", name);
    if (testdb->has_template) {
        snprintf(sql + length, sizeof sql - (size_t)length, " template pier_test_%08x_template",
                 testdb->stamp);
    }
    return (int)pier_db_execute(testdb->admin, sql, NULL, err);
}

static int make_sqlite(pier_testdb *testdb, const struct fresh *fresh, pier_error *err)
{
    /* A file that is not there yet is an empty database. */
    return testdb->has_template
               ? (int)pier_db_execute(testdb->admin, "vacuum into $1",
                                      PIER_ARGS(fresh->url + strlen("sqlite:")), err)
               : 0;
}

static int drop_postgres(pier_testdb *testdb, const char *name, pier_error *err)
{
    char sql[256];
    snprintf(sql, sizeof sql, "drop database if exists %s with (force)", name);
    return (int)pier_db_execute(testdb->admin, sql, NULL, err);
}

static void drop_sqlite(const struct fresh *fresh)
{
    static const char *const endings[] = {"", "-wal", "-shm", "-journal"};
    size_t size = strlen(fresh->url) + 16;
    char *path = malloc(size);
    for (size_t i = 0; path && i < sizeof endings / sizeof *endings; i++) {
        snprintf(path, size, "%s%s", fresh->url + strlen("sqlite:"), endings[i]);
        unlink(path);
    }
    free(path);
}

static struct fresh *make(pier_testdb *testdb, const char *name, pier_error *err)
{
    struct fresh *fresh = fresh_new(testdb, name);
    if (!fresh) {
        no_memory(err);
        return NULL;
    }
    /* Before it is made, so that it is dropped when the caller is cancelled in the middle. */
    link_fresh(testdb, fresh);
    int status =
        testdb->sqlite ? make_sqlite(testdb, fresh, err) : make_postgres(testdb, name, err);
    return status < 0 ? NULL : fresh;
}

char *pier_testdb_fresh(pier_testdb *testdb, pier_error *err)
{
    if (check(testdb, err) < 0) {
        return NULL;
    }
    char name[64];
    snprintf(name, sizeof name, "pier_test_%08x_%u%s", testdb->stamp,
             atomic_fetch_add(&testdb->count, 1) + 1, testdb->sqlite ? ".db" : "");
    struct fresh *fresh = make(testdb, name, err);
    char *url = fresh ? strdup(fresh->url) : NULL;
    if (fresh && !url) {
        no_memory(err);
    }
    return url;
}

int pier_testdb_drop(pier_testdb *testdb, const char *url, pier_error *err)
{
    int status = check(testdb, err);
    if (status < 0) {
        return status;
    }
    struct fresh *fresh = url ? unlink_fresh(testdb, url) : NULL;
    if (!fresh) {
        return pier_error_set(
            err, PIER_EINVAL,
            "the URL is of no database that this testdb has made and not dropped");
    }
    if (testdb->sqlite) {
        drop_sqlite(fresh);
    } else if ((status = drop_postgres(testdb, fresh->name, err)) < 0) {
        link_fresh(testdb, fresh);
        return status;
    }
    free(fresh);
    return 0;
}

const char *pier_testdb_url(const pier_testdb *testdb)
{
    return testdb ? testdb->url : NULL;
}

/* ---- The template ------------------------------------------------------------------------- */

static int fill(pier_db *db, const pier_testdb_options *options, pier_error *err)
{
    int64_t status = 0;
    if (options->template_sql) {
        status = pier_db_execute_script(db, options->template_sql, err);
    }
    if (status >= 0 && options->template_fn) {
        status = options->template_fn(db, options->user_data, err);
        if (status < 0 && err && err->status == 0) {
            pier_error_set(err, (int)status, "template_fn failed");
        }
    }
    return status < 0 ? (int)status : 0;
}

static int make_template(pier_testdb *testdb, const pier_testdb_options *options, pier_error *err)
{
    if (!options->template_sql && !options->template_fn) {
        return 0;
    }
    char name[64];
    snprintf(name, sizeof name, "pier_test_%08x_template", testdb->stamp);
    const struct fresh *made = make(testdb, name, err);
    if (!made) {
        return err->status;
    }
    pier_db *db = pier_db_open(testdb->runner, made->url, NULL, err);
    int status = db ? fill(db, options, err) : err->status;
    if (status == 0 && testdb->sqlite) {
        testdb->admin = db;
    } else {
        pier_db_close(db);
    }
    testdb->has_template = status == 0;
    return status;
}

/* ---- Opening ------------------------------------------------------------------------------ */

/* What is to be taken: "local", "docker:IMAGE" or a URL. */
static const char *choose_server(const pier_testdb_options *options)
{
    const char *server = options->server ? options->server : getenv("PIER_TEST_POSTGRES");
    return server && *server ? server : "local";
}

static int start_directory(pier_testdb *testdb, pier_error *err)
{
    int status = pier__testing_server_start(&testdb->server, "directory", NULL, NULL, err);
    if (status == 0) {
        status = pier__testing_server_wait(&testdb->server, testdb->runner, err);
    }
    char *end = strrchr(testdb->server.answer, ' ');
    if (status == 0 && end) {
        *end = 0;
    }
    if (status == 0 && strchr(testdb->server.answer, '?')) {
        return pier_error_set(err, PIER_EINVAL, "%s cannot be in the URL of a database: set TMPDIR",
                              testdb->server.answer);
    }
    return status;
}

/* The answer is a directory, or an address, and a port. */
static int read_place(pier_testdb *testdb, pier_error *err)
{
    char host[3 * sizeof testdb->server.answer], url[sizeof host + 80];
    char *port = strrchr(testdb->server.answer, ' ');
    if (!port) {
        return pier_error_set(err, PIER_EIO, "the test server did not say where it is");
    }
    *port++ = 0;
    pier__testing_url_encode(host, sizeof host, testdb->server.answer);
    snprintf(url, sizeof url, "postgresql://postgres@/postgres?host=%s&port=%s", host, port);
    testdb->url = strdup(url);
    return testdb->url ? 0 : no_memory(err);
}

static int start_postgres(pier_testdb *testdb, const pier_testdb_options *options, pier_error *err)
{
    static const char docker[] = "docker:";
    const char *server = choose_server(options);
    const char *image = strncmp(server, docker, sizeof docker - 1) == 0 ? server + 7 : NULL;
    testdb->external = !image && strcmp(server, "local") != 0;
    int status;
    if (!testdb->external) {
        status = pier__testing_server_start(&testdb->server, image ? "docker" : "cluster", image,
                                            options->settings, err);
        if (status == 0) {
            status = pier__testing_server_wait(&testdb->server, testdb->runner, err);
        }
        return status == 0 ? read_place(testdb, err) : status;
    }
    if (options->settings && *options->settings) {
        return pier_error_set(err, PIER_EINVAL,
                              "settings are for a server that is started, and the one to be used "
                              "runs already; set .server to \"local\", or leave them out");
    }
    testdb->url = strdup(server);
    return testdb->url ? 0 : no_memory(err);
}

static int start(pier_testdb *testdb, const pier_testdb_options *options, pier_error *err)
{
    testdb->runner = pier_runner_open(PIER_RUNNER_OPTIONS(.name = "pier-testdb"), err);
    if (!testdb->runner) {
        return err->status;
    }
    int status =
        testdb->sqlite ? start_directory(testdb, err) : start_postgres(testdb, options, err);
    if (status < 0) {
        return status;
    }
    if (!testdb->sqlite) {
        testdb->admin =
            pier_db_open(testdb->runner, testdb->url, PIER_DB_OPTIONS(.pool_max = POOL_MAX), err);
        if (!testdb->admin) {
            return err->status;
        }
    }
    return make_template(testdb, options, err);
}

pier_testdb *pier_testdb_open_with(const char *kind, const pier_testdb_options *options,
                                   pier_error *err)
{
    pier_testdb_options all = {.struct_size = 0};
    pier_error own = {0};
    bool sqlite = kind && strcmp(kind, "sqlite") == 0;
    err = err ? err : &own;
    if (!sqlite && (!kind || strcmp(kind, "postgresql") != 0)) {
        pier_error_set(err, PIER_EINVAL,
                       "there are test databases of the kinds postgresql and "
                       "sqlite, not of %s",
                       kind ? kind : "NULL");
        return NULL;
    }
    if (pier__options_read(&all, sizeof all, options, "PIER_TESTDB_OPTIONS", err) < 0) {
        return NULL;
    }
    pier_testdb *testdb = calloc(1, sizeof *testdb);
    if (!testdb) {
        no_memory(err);
        return NULL;
    }
    testdb->pid = getpid();
    testdb->sqlite = sqlite;
    testdb->server.fd = -1;
    testdb->server.timeout_ms = all.start_timeout_ms > 0 ? all.start_timeout_ms : START_TIMEOUT_MS;
    pthread_mutex_init(&testdb->lock, NULL);
    /* Names must differ from those of other programs on the same server. */
    if (getrandom(&testdb->stamp, sizeof testdb->stamp, 0) != sizeof testdb->stamp) {
        testdb->stamp = (unsigned)testdb->pid;
    }
    if (start(testdb, &all, err) < 0) {
        pier_testdb_close(testdb);
        return NULL;
    }
    return testdb;
}

pier_testdb *pier_testdb_open(const char *kind, pier_error *err)
{
    return pier_testdb_open_with(kind, NULL, err);
}

/* ---- Closing ------------------------------------------------------------------------------ */

void pier_testdb_close(pier_testdb *testdb)
{
    if (!testdb) {
        return;
    }
    bool ours = testdb->pid == getpid();
    for (struct fresh *fresh; (fresh = testdb->made);) {
        testdb->made = fresh->next;
        if (ours && testdb->external && testdb->admin) {
            drop_postgres(testdb, fresh->name, NULL);
        }
        free(fresh);
    }
    if (ours) {
        pier_db_close(testdb->admin);
        pier__testing_server_stop(&testdb->server, testdb->runner);
    }
    /* Ends the tasks that read from the socket, where the caller could not wait for them. */
    pier_runner_close(testdb->runner);
    pier__testing_server_abandon(&testdb->server);
    pthread_mutex_destroy(&testdb->lock);
    free(testdb->url);
    free(testdb);
}
