/*
 * Databases that live as long as one test file: SQLite in memory or in a directory made for it,
 * Postgres as a schema, which is ten times faster than a database and needs fewer rights.
 */
#include "tests/sqllogictest/target.h"

#include "tests/sqllogictest/values.h"

#include <errno.h>
#include <pier/scope.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *const sqlite_names[] = {"sqlite", "sqlite3", NULL};
static const char *const postgres_names[] = {"postgresql", "postgres", "pgsql", "pg", NULL};

static bool begins(const char *text, const char *with)
{
    return !strncmp(text, with, strlen(with));
}

/* ---- The target --------------------------------------------------------------------------- */

static int init_sqlite_files(struct slt_target *target, const char *path, pier_error *err)
{
    struct stat status;
    if (begins(path, "///")) {
        path += 2;
    }
    size_t size = strcspn(path, "?");
    target->query = path + size;
    target->directory = size ? strndup(path, size) : slt_copy(".");
    slt_check_memory(target->directory);
    if (stat(target->directory, &status) < 0) {
        return pier_error_set(err, PIER_EINVAL, "%s: %s", target->directory, strerror(errno));
    }
    if (!S_ISDIR(status.st_mode)) {
        return pier_error_set(err, PIER_EINVAL,
                              "%s is not a directory; each test file gets a database of its own",
                              target->directory);
    }
    return 0;
}

int slt_target_init(struct slt_target *target, const char *url, pier_error *err)
{
    *target = (struct slt_target){.url = url, .names = sqlite_names};
    if (begins(url, "postgresql:") || begins(url, "postgres:")) {
        target->names = postgres_names;
        return 0;
    }
    if (!begins(url, "sqlite:")) {
        return pier_error_set(err, PIER_EINVAL,
                              "the URL is sqlite::memory:, sqlite:DIRECTORY or postgresql://...");
    }
    return begins(url, "sqlite::memory:") ? 0
                                          : init_sqlite_files(target, url + strlen("sqlite:"), err);
}

void slt_target_fini(struct slt_target *target)
{
    free(target->directory);
    *target = (struct slt_target){0};
}

/* ---- SQLite ------------------------------------------------------------------------------- */

/* Shielded from Ctrl-C: SQLite cannot be stopped while it opens a file, and one that nobody waits
 * for would come into being after its directory has been emptied. */
static int connect_sqlite(struct slt_session *session, const char *url, pier_runner *runner,
                          pier_error *err)
{
    enum { MADE_MS = 60000 }; /* far longer than it takes: nobody else has the file */
    pier_scope *shield =
        pier_scope_open(runner, PIER_SCOPE_OPTIONS(.shield = true, .timeout_ms = MADE_MS), err);
    if (!shield) {
        return err->status;
    }
    session->pool = pier_db_open(runner, url, NULL, err);
    session->db = pier_db_lease(session->pool, err);
    /* Nobody misses these files after a power failure, and waiting for the disk is most of the
     * time. */
    int64_t status = pier_db_execute(session->db, "pragma synchronous = off", NULL, err);
    pier_scope_close(shield);
    return status < 0 ? (int)status : 0;
}

static int open_sqlite(struct slt_session *session, const struct slt_target *target,
                       pier_runner *runner, pier_error *err)
{
    struct slt_buffer url = {0};
    if (target->directory) {
        slt_buffer_print(&url, "%s/sqllogictest-XXXXXX", target->directory);
        if (!mkdtemp(url.data)) {
            int status = pier_error_set(err, PIER_EIO, "%s: %s", url.data, strerror(errno));
            slt_buffer_fini(&url);
            return status;
        }
        session->directory = slt_copy(url.data);
        slt_buffer_clear(&url);
        slt_buffer_print(&url, "sqlite:%s/test.db%s", session->directory, target->query);
    }
    int status = connect_sqlite(session, url.data ? url.data : target->url, runner, err);
    slt_buffer_fini(&url);
    return status;
}

static void remove_files(const char *directory)
{
    static const char *const suffixes[] = {"", "-journal", "-wal", "-shm"};
    struct slt_buffer path = {0};
    for (size_t i = 0; i < sizeof suffixes / sizeof *suffixes; i++) {
        slt_buffer_clear(&path);
        slt_buffer_print(&path, "%s/test.db%s", directory, suffixes[i]);
        unlink(path.data);
    }
    slt_buffer_fini(&path);
}

static int remove_directory(const char *directory, pier_error *err)
{
    remove_files(directory);
    if (rmdir(directory) < 0) {
        return pier_error_set(err, PIER_EIO, "%s: %s", directory, strerror(errno));
    }
    return 0;
}

/* ---- Postgres ----------------------------------------------------------------------------- */

static int64_t execute_with_schema(pier_db *db, const char *format, const char *schema,
                                   pier_error *err)
{
    struct slt_buffer sql = {0};
    for (const char *at = format; *at; at++) {
        slt_buffer_add(&sql, *at == '%' ? schema : at, *at == '%' ? strlen(schema) : 1);
    }
    int64_t status = pier_db_execute(db, sql.data, NULL, err);
    slt_buffer_fini(&sql);
    return status;
}

static int open_postgres(struct slt_session *session, const struct slt_target *target,
                         pier_runner *runner, pier_error *err)
{
    static atomic_uint sessions;
    session->pool = pier_db_open(runner, target->url, PIER_DB_OPTIONS(.pool_max = 1), err);
    if (!session->pool) {
        return err->status;
    }
    /* Other runs, on other machines too, may use the same server. It is noted before it is made,
     * because the server may have made it where Ctrl-C ends the statement. */
    snprintf(session->schema, sizeof session->schema, "sqllogictest_%lld_%ld_%u",
             (long long)time(NULL), (long)getpid(), atomic_fetch_add(&sessions, 1));
    int64_t status = execute_with_schema(session->pool, "create schema %", session->schema, err);
    if (status < 0) {
        return (int)status;
    }
    session->db = pier_db_lease(session->pool, err);
    status = execute_with_schema(session->db, "set search_path to %", session->schema, err);
    return status < 0 ? (int)status : 0;
}

/* ---- Sessions ----------------------------------------------------------------------------- */

int slt_session_open(struct slt_session *session, const struct slt_target *target,
                     pier_runner *runner, pier_error *err)
{
    *session = (struct slt_session){0};
    return target->names == postgres_names ? open_postgres(session, target, runner, err)
                                           : open_sqlite(session, target, runner, err);
}

int slt_session_close(struct slt_session *session, pier_error *err)
{
    int64_t status = 0;
    pier_db_close(session->db);
    if (session->schema[0]) {
        status = execute_with_schema(session->pool, "drop schema if exists % cascade",
                                     session->schema, err);
    }
    pier_db_close(session->pool);
    if (session->directory) {
        status = remove_directory(session->directory, err);
        free(session->directory);
    }
    *session = (struct slt_session){0};
    return status < 0 ? (int)status : 0;
}
