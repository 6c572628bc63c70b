/*
 * Copies: the file that is made under a temporary name, and the steps of sqlite3_backup.
 */
#include "drivers/sqlite/copy.h"

#include "drivers/sqlite/error.h"
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/options.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 4 MB of the usual pages: a few milliseconds on a disk, in which nobody else has the connection.
 */
enum { PAGES = 1000 };

/* What SQLite may leave beside a database. */
static const char *const companions[] = {"-journal", "-wal", "-shm"};
enum { COMPANIONS = sizeof companions / sizeof *companions };

/* ---- Files -------------------------------------------------------------------------------- */

char *pier__sqlite_absolute_path(const char *path)
{
    char directory[4096] = "";
    if (path[0] != '/' && !getcwd(directory, sizeof directory)) {
        strcpy(directory, ".");
    }
    size_t room = strlen(directory) + 1 + strlen(path) + 1;
    char *made = pier__malloc(room);
    if (made) {
        snprintf(made, room, "%s%s%s", directory, *directory ? "/" : "", path);
    }
    return made;
}

bool pier__sqlite_target_init(pier__sqlite_target *target, const char *path, bool replace)
{
    static atomic_uint count;
    target->replace = replace;
    target->path = pier__sqlite_absolute_path(path);
    size_t room = target->path ? strlen(target->path) + 64 : 0;
    target->temporary = room ? pier__malloc(room) : NULL;
    if (!target->temporary) {
        return false;
    }
    snprintf(target->temporary, room, "%s.pier-%ld-%u-%08x", target->path, (long)getpid(),
             atomic_fetch_add(&count, 1), (unsigned)pier__now());
    return true;
}

void pier__sqlite_target_remove(pier__sqlite_target *target)
{
    char name[4200];
    if (!target->temporary || target->published) {
        return;
    }
    unlink(target->temporary);
    for (int i = 0; i < COMPANIONS; i++) {
        snprintf(name, sizeof name, "%s%s", target->temporary, companions[i]);
        unlink(name);
    }
}

void pier__sqlite_target_fini(pier__sqlite_target *target)
{
    pier__free(target->path);
    pier__free(target->temporary);
    *target = (pier__sqlite_target){0};
}

static bool fail_file(pier__sqlite_conn *conn, const char *path, int number, const char *what)
{
    pier__error_system(&conn->failure, PIER_EIO, number, "%s %.200s", what, path);
    return false;
}

static bool is_source(const pier__sqlite_conn *conn, const struct stat *info)
{
    const char *source = sqlite3_db_filename(conn->sqlite, "main");
    struct stat other;
    return source && *source && !stat(source, &other) && other.st_dev == info->st_dev &&
           other.st_ino == info->st_ino;
}

/* A database that is replaced while it is open would be repaired by a journal of its old self. */
static bool check_companions(pier__sqlite_conn *conn, const pier__sqlite_target *target)
{
    char name[4200];
    struct stat info;
    for (int i = 0; i < COMPANIONS; i++) {
        snprintf(name, sizeof name, "%s%s", target->path, companions[i]);
        if (!stat(name, &info) && info.st_size > 0) {
            return pier__sqlite_refuse(
                conn, PIER_EBUSY,
                "%.200s is in use, or was not closed properly: there is its %s; close it first, "
                "or open and close it",
                target->path, companions[i]);
        }
    }
    return true;
}

bool pier__sqlite_target_check(pier__sqlite_conn *conn, pier__sqlite_target *target)
{
    struct stat info;
    if (strlen(target->path) > 4000) {
        return fail_file(conn, target->path, ENAMETOOLONG, "cannot make");
    }
    if (!stat(target->path, &info)) {
        if (!target->replace) {
            return fail_file(conn, target->path, EEXIST, "will not replace");
        }
        if (!S_ISREG(info.st_mode)) {
            return fail_file(conn, target->path, S_ISDIR(info.st_mode) ? EISDIR : EINVAL,
                             "will not replace");
        }
        if (is_source(conn, &info)) {
            return pier__sqlite_refuse(conn, PIER_EINVAL, "%.200s is the database itself",
                                       target->path);
        }
    }
    /* SQLite says of every failure only that it cannot open the file. */
    int fd = open(target->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return fail_file(conn, target->path, errno, "cannot make");
    }
    close(fd);
    return check_companions(conn, target);
}

/* On the disk, as far as the system says so. */
static bool synchronise(const char *path, int flags)
{
    int fd = open(path, flags | O_CLOEXEC);
    bool done = fd >= 0 && !fsync(fd);
    int number = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = number;
    return done;
}

static bool give_name(const pier__sqlite_target *target)
{
    if (target->replace) {
        return !rename(target->temporary, target->path);
    }
    if (!link(target->temporary, target->path)) {
        unlink(target->temporary);
        return true;
    }
    /* A file system without links: rename would replace what has come meanwhile. */
    return errno != EEXIST && access(target->path, F_OK) &&
           !rename(target->temporary, target->path);
}

bool pier__sqlite_target_publish(pier__sqlite_conn *conn, pier__sqlite_target *target)
{
    if (!synchronise(target->temporary, O_RDONLY)) {
        return fail_file(conn, target->path, errno, "cannot write");
    }
    if (target->replace && !check_companions(conn, target)) {
        return false;
    }
    if (!give_name(target)) {
        return fail_file(conn, target->path, errno, "cannot make");
    }
    target->published = true;
    char directory[4200];
    snprintf(directory, sizeof directory, "%s", target->path);
    *(strrchr(directory, '/') + 1) = 0;
    synchronise(directory, O_RDONLY | O_DIRECTORY);
    return true;
}

/* ---- Steps -------------------------------------------------------------------------------- */

int pier__sqlite_backup_options_read(pier_sqlite_backup_options *options,
                                     const pier_sqlite_backup_options *given, pier_error *err)
{
    memset(options, 0, sizeof *options);
    int status =
        pier__options_read(options, sizeof *options, given, "PIER_SQLITE_BACKUP_OPTIONS", err);
    if (status < 0) {
        return status;
    }
    if (options->pages < PIER_NONE || options->pause_ms < 0) {
        return pier_error_set(err, PIER_EINVAL,
                              "pages is %d and pause_ms %lld; neither can be negative, but pages "
                              "can be PIER_NONE",
                              options->pages, (long long)options->pause_ms);
    }
    options->pages = options->pages ? options->pages : PAGES;
    return 0;
}

bool pier__sqlite_copy_fail(pier__sqlite_conn *conn, sqlite3 *to, int code, const char *what)
{
    pier__sqlite_error(&conn->failure, to, code, "", "");
    char message[sizeof conn->failure.message];
    const char *why = "";
    if (code == SQLITE_READONLY) {
        why = " (it cannot be written, or the page sizes differ, which a database in memory and "
              "one with a write-ahead log cannot change)";
    } else if (code == SQLITE_LOCKED) {
        why = " (a statement is open on it)";
    }
    snprintf(message, sizeof message, "%.120s: %.120s%s", what, conn->failure.message, why);
    memcpy(conn->failure.message, message, sizeof message);
    return false;
}

bool pier__sqlite_copy_may_read(pier__sqlite_conn *conn)
{
    return sqlite3_txn_state(conn->sqlite, "main") != SQLITE_TXN_WRITE ||
           pier__sqlite_refuse(conn, PIER_EBUSY,
                               "the connection is in a transaction that has written; commit it "
                               "first, or copy from the pool");
}

pier__sqlite_step pier__sqlite_copy_step(pier__sqlite_conn *conn, sqlite3_backup *backup,
                                         const pier_sqlite_backup_options *options)
{
    if (pier__sqlite_is_interrupted(conn)) {
        pier__sqlite_fail(conn, SQLITE_INTERRUPT, "", "");
        return PIER__SQLITE_STEP_FAILED;
    }
    int code = sqlite3_backup_step(backup, options->pages);
    for (int i = 0; code == SQLITE_BUSY && pier__sqlite_wait_lock(conn, i); i++) {
        code = sqlite3_backup_step(backup, options->pages);
    }
    if (code != SQLITE_OK && code != SQLITE_DONE) {
        if (conn->interrupted) {
            pier__sqlite_fail(conn, SQLITE_INTERRUPT, "", "");
        } else {
            pier__sqlite_copy_fail(conn, NULL, code, "the copy failed");
        }
        return PIER__SQLITE_STEP_FAILED;
    }
    if (options->progress && options->progress(options->user_data, sqlite3_backup_remaining(backup),
                                               sqlite3_backup_pagecount(backup)) < 0) {
        pier__sqlite_refuse(conn, PIER_ECANCELLED, "the copy was stopped by its progress function");
        return PIER__SQLITE_STEP_FAILED;
    }
    return code == SQLITE_DONE ? PIER__SQLITE_STEP_DONE : PIER__SQLITE_STEP_MORE;
}

bool pier__sqlite_copy_all(pier__sqlite_conn *conn, sqlite3 *to, sqlite3 *from,
                           const pier_sqlite_backup_options *options, int64_t *pages)
{
    sqlite3_backup *backup = sqlite3_backup_init(to, "main", from, "main");
    if (!backup) {
        return pier__sqlite_copy_fail(conn, to, sqlite3_extended_errcode(to),
                                      "the copy cannot begin");
    }
    pier__sqlite_step step;
    do {
        step = pier__sqlite_copy_step(conn, backup, options);
    } while (step == PIER__SQLITE_STEP_MORE);
    *pages = sqlite3_backup_pagecount(backup);
    int code = sqlite3_backup_finish(backup);
    if (step == PIER__SQLITE_STEP_DONE && code != SQLITE_OK) {
        return pier__sqlite_copy_fail(conn, to, code, "the copy failed");
    }
    return step == PIER__SQLITE_STEP_DONE;
}

bool pier__sqlite_copy_may_replace(pier__sqlite_conn *conn, const pier__sqlite_conn *over,
                                   const char *what)
{
    if (!sqlite3_get_autocommit(over->sqlite)) {
        return pier__sqlite_refuse(conn, PIER_EINVAL,
                                   "%s is in a transaction; commit or roll it back first", what);
    }
    if (over->held || over->attached) {
        return pier__sqlite_refuse(conn, PIER_EINVAL,
                                   "%s has an open cursor or blob; close it first", what);
    }
    return true;
}
