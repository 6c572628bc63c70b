#ifndef PIER_SDK_FILE_H
#define PIER_SDK_FILE_H
/*
 * Files: what the operations (file.c), the work on a thread (file_work.c) and the reading of lines
 * (file_lines.c) share.
 */
#include "sdk/handle.h"
#include "sdk/job.h"
#include "sdk/turn.h"
#include <pier/async/file.h>

struct pier_file {
    pier__handle handle; /* first */
    /* Immutable after open. */
    char *path;
    size_t line_max;

    atomic_int refs; /* the user's, and one for each operation */
    pier__turn turn;
    int fd;             /* of whoever has the turn; -1: closed */
    void *close_memory; /* for the operation that must not fail */

    /* The consumer of pieces and lines. */
    pier_buffer *block;
    size_t at; /* how much of it has been given */
    char *line;
    size_t line_size, line_room;
    bool line_given;
    bool finished;
    bool fetching; /* a thread is inside, which the runner's close waits for */
    pier_error failure;
};

typedef struct pier__file_op {
    pier__op op;     /* first */
    pier_file *file; /* holds a reference; NULL: a whole file */
    pier__turn_waiter waiter;
    bool has_turn;
    /* On a thread of whoever's: does it, and fills in the result. */
    void (*work)(struct pier__file_op *self);
    /* Arguments. */
    char *path;
    int flags, permissions;
    const void *data; /* the caller's, until it has been copied */
    void *copy;
    size_t size;
    int64_t offset;
    int whence;
    /* What became of it; 0 is success. */
    int number;       /* an errno */
    const char *verb; /* what that was about: "read" */
    int status;       /* a failure that has no errno */
    int64_t integer;
    pier_buffer *buffer;
    pier__job job; /* on the loop */
} pier__file_op;

void pier__file_unref(pier_file *file);

/* Flags for open(2); -1: no such mode. */
int pier__file_flags(const char *mode);

void pier__file_work_open(pier__file_op *self);
void pier__file_work_read(pier__file_op *self);
void pier__file_work_write(pier__file_op *self);
void pier__file_work_seek(pier__file_op *self);
void pier__file_work_sync(pier__file_op *self);
void pier__file_work_close(pier__file_op *self);
void pier__file_work_load(pier__file_op *self);
void pier__file_work_save(pier__file_op *self);

#endif
