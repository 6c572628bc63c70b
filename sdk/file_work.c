/*
 * The system calls of files. They run on whichever thread does the work, one operation of a file at
 * a time, and block; between pieces they look whether anybody still wants the result.
 */
#include "sdk/file.h"

#include "sdk/alloc.h"
#include "sdk/buffer.h"
#include "sdk/clock.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* How much one system call moves: a cancelled operation goes on for so long. */
enum { PIECE = 1024 * 1024, FIRST_ROOM = 64 * 1024, NAMES_MAX = 100 };

/* Always: what would wait for somebody else fails instead. */
enum { COMMON_FLAGS = O_CLOEXEC | O_NONBLOCK | O_NOCTTY };

static void fail_system(pier__file_op *self, const char *verb)
{
    self->number = errno;
    self->verb = verb;
}

int pier__file_flags(const char *mode)
{
    if (!mode || !*mode || !strchr("rwa", *mode)) {
        return -1;
    }
    bool both = strchr(mode, '+') != NULL;
    int flags = both ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    flags |= *mode == 'r' ? 0 : O_CREAT;
    flags |= *mode == 'w' ? O_TRUNC : *mode == 'a' ? O_APPEND : 0;
    for (const char *at = mode + 1; *at; at++) {
        if (*at == 'x' && *mode != 'r') {
            flags |= O_EXCL;
        } else if (!strchr("+be", *at)) {
            return -1;
        }
    }
    return flags;
}

static int open_again(const char *path, int flags, int permissions)
{
    int fd;
    do {
        fd = open(path, flags | COMMON_FLAGS, permissions);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static bool is_directory(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && S_ISDIR(info.st_mode);
}

void pier__file_work_open(pier__file_op *self)
{
    int fd = open_again(self->path, self->flags, self->permissions);
    if (fd >= 0 && is_directory(fd)) {
        close(fd);
        errno = EISDIR;
        fd = -1;
    }
    if (fd < 0) {
        fail_system(self, "open");
    }
    self->file->fd = fd;
}

/* ---- Reading ------------------------------------------------------------------------------ */

/* Makes room for more in `*data`, and for a zero byte behind; false: no memory. */
static bool grow(char **data, size_t *room, size_t size)
{
    size_t wanted = *room > size / 2 ? size : *room * 2;
    wanted = wanted < FIRST_ROOM ? FIRST_ROOM : wanted;
    wanted = wanted > size ? size : wanted;
    char *grown = wanted < SIZE_MAX ? pier__realloc(*data, wanted + 1) : NULL;
    if (grown) {
        *data = grown;
        *room = wanted;
    }
    return grown != NULL;
}

/* Reads `size` bytes, or up to the end. Gives how many; what stopped it is in `self`. */
static size_t read_into(pier__file_op *self, int fd, size_t size, char **data)
{
    size_t got = 0, room = 0;
    while (got < size) {
        if ((self->status = pier__op_interrupted(&self->op)) < 0) {
            break;
        }
        if (got == room && !grow(data, &room, size)) {
            self->status = PIER_ENOMEM;
            break;
        }
        size_t piece = room - got < PIECE ? room - got : PIECE;
        ssize_t count = read(fd, *data + got, piece);
        if (count > 0) {
            got += (size_t)count;
        } else if (count == 0) {
            break;
        } else if (errno != EINTR) {
            fail_system(self, "read");
            break;
        }
    }
    return got;
}

static void read_all(pier__file_op *self, int fd, size_t size)
{
    char *data = NULL;
    size_t got = read_into(self, fd, size, &data);
    if (self->number || self->status) {
        if (got && self->file && lseek(fd, -(off_t)got, SEEK_CUR) < 0) {
            /* Only the position is lost, of what has none. */
        }
        pier__free(data);
        return;
    }
    if (!data && !(data = pier__malloc(1))) {
        self->status = PIER_ENOMEM;
        return;
    }
    data[got] = 0;
    self->buffer = pier__buffer_adopt(data, got, pier__free);
    if (!self->buffer) {
        self->status = PIER_ENOMEM;
    }
}

void pier__file_work_read(pier__file_op *self)
{
    read_all(self, self->file->fd, self->size);
}

void pier__file_work_load(pier__file_op *self)
{
    int fd = open_again(self->path, O_RDONLY, 0);
    if (fd < 0) {
        fail_system(self, "open");
        return;
    }
    read_all(self, fd, self->size < SIZE_MAX ? self->size + 1 : SIZE_MAX);
    close(fd);
    if (self->buffer && self->buffer->size > self->size) {
        self->status = PIER_ERANGE;
    }
}

/* ---- Writing ------------------------------------------------------------------------------ */

static bool write_all(pier__file_op *self, int fd)
{
    const char *data = self->data;
    size_t done = 0;
    while (done < self->size) {
        if ((self->status = pier__op_interrupted(&self->op)) < 0) {
            return false;
        }
        size_t piece = self->size - done < PIECE ? self->size - done : PIECE;
        ssize_t count = write(fd, data + done, piece);
        if (count >= 0) {
            done += (size_t)count;
        } else if (errno != EINTR) {
            fail_system(self, "write");
            return false;
        }
    }
    return true;
}

void pier__file_work_write(pier__file_op *self)
{
    write_all(self, self->file->fd);
    self->integer = (int64_t)self->size;
}

void pier__file_work_seek(pier__file_op *self)
{
    self->integer = lseek(self->file->fd, (off_t)self->offset, self->whence);
    if (self->integer < 0) {
        fail_system(self, "move in");
    }
}

static bool sync_again(int fd)
{
    int rc;
    do {
        rc = fsync(fd);
    } while (rc < 0 && errno == EINTR);
    /* EINVAL: what has no disk below it, such as /dev/null. */
    return rc == 0 || errno == EINVAL;
}

void pier__file_work_sync(pier__file_op *self)
{
    if (!sync_again(self->file->fd)) {
        fail_system(self, "sync");
    }
}

void pier__file_work_close(pier__file_op *self)
{
    int fd = self->file->fd;
    self->file->fd = -1;
    /* After EINTR the descriptor is closed all the same, on Linux. */
    if (fd >= 0 && close(fd) < 0 && errno != EINTR) {
        fail_system(self, "close");
    }
}

/* ---- Replacing ---------------------------------------------------------------------------- */

/* A file of a new name beside the path. `name` has room. */
static int open_temporary(const char *path, char *name, size_t room)
{
    static atomic_uint counter;
    int fd = -1;
    for (int i = 0; i < NAMES_MAX && fd < 0; i++) {
        unsigned number = atomic_fetch_add(&counter, 1) + (unsigned)pier__now();
        snprintf(name, room, "%s.%x-%x.tmp", path, (unsigned)getpid(), number);
        fd = open_again(name, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (fd < 0 && errno != EEXIST) {
            break;
        }
    }
    return fd;
}

/* The rename is on the disk once its directory is. */
static bool sync_directory(char *path)
{
    char *slash = strrchr(path, '/');
    const char *directory = !slash ? "." : slash == path ? "/" : path;
    if (slash && slash != path) {
        *slash = 0;
    }
    int fd = open_again(directory, O_RDONLY | O_DIRECTORY, 0);
    bool synced = fd >= 0 && sync_again(fd);
    int number = errno;
    if (fd >= 0) {
        close(fd);
    }
    errno = number;
    return synced;
}

static bool fill(pier__file_op *self, int fd)
{
    struct stat old;
    if (stat(self->path, &old) == 0 && fchmod(fd, old.st_mode & 07777) < 0) {
        fail_system(self, "keep the permissions of");
        return false;
    }
    if (!write_all(self, fd)) {
        return false;
    }
    if (!sync_again(fd)) {
        fail_system(self, "sync");
        return false;
    }
    return true;
}

void pier__file_work_save(pier__file_op *self)
{
    size_t room = strlen(self->path) + 40;
    char *name = pier__malloc(room);
    if (!name) {
        self->status = PIER_ENOMEM;
        return;
    }
    int fd = open_temporary(self->path, name, room);
    if (fd < 0) {
        fail_system(self, "make a file beside");
        pier__free(name);
        return;
    }
    bool filled = fill(self, fd);
    if (close(fd) < 0 && filled) {
        fail_system(self, "close");
        filled = false;
    }
    if (filled && rename(name, self->path) < 0) {
        fail_system(self, "replace");
        filled = false;
    }
    if (!filled) {
        unlink(name);
    } else if (!sync_directory(name)) {
        fail_system(self, "sync the directory of");
    }
    pier__free(name);
}
