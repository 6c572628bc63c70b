/*
 * Files. An operation waits for its turn, then its work is done: by the thread that steps it, or,
 * where the loop steps it, by a thread of the runner's executor.
 */
#include "sdk/file.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/deadlock.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <fcntl.h>
#include <unistd.h>

enum { BLOCK_SIZE = 64 * 1024, LINE_MAX_DEFAULT = 1024 * 1024, END_TIMEOUT_MS = 10000 };

static pier_file *ref(pier_file *file)
{
    atomic_fetch_add_explicit(&file->refs, 1, memory_order_relaxed);
    return file;
}

void pier__file_unref(pier_file *file)
{
    if (atomic_fetch_sub_explicit(&file->refs, 1, memory_order_acq_rel) == 1) {
        if (file->fd >= 0) {
            close(file->fd);
        }
        pier_buffer_free(file->block);
        pier__turn_fini(&file->turn);
        pier__free(file->close_memory);
        pier__free(file->line);
        pier__free(file->path);
        pier__free(file);
    }
}

/* ---- Settling ----------------------------------------------------------------------------- */

static const char *path_of(const pier__file_op *self)
{
    return self->path ? self->path : self->file->path;
}

static void fail(pier__file_op *self)
{
    pier_error err = {0};
    if (self->number) {
        pier__error_system(&err, PIER_EIO, self->number, "%s: cannot %s %.500s", self->op.cls->name,
                           self->verb, path_of(self));
    } else if (self->status == PIER_ERANGE) {
        pier_error_set(&err, self->status, "%s: %.500s is larger than %zu bytes",
                       self->op.cls->name, path_of(self), self->size);
    } else if (self->status == PIER_ENOMEM) {
        pier_error_set(&err, self->status, "%s: out of memory", self->op.cls->name);
    } else {
        self->op.cancelled = self->status;
        pier__op_cancelled_error(&self->op, &err);
    }
    pier__op_fail_with(&self->op, &err);
}

static void close_handle(pier__handle *handle);

static void succeed_open(pier__file_op *self)
{
    pier_file *file = self->file;
    if (!pier__handle_open(&file->handle, self->op.runner, close_handle)) {
        pier__op_fail(&self->op, PIER_ECLOSED, "pier_file_open: the runner is closed");
        return;
    }
    self->file = NULL; /* the user's reference now */
    pier__op_succeed(&self->op, file);
}

static void succeed(pier__file_op *self)
{
    if (self->work == pier__file_work_open) {
        succeed_open(self);
    } else if (self->buffer) {
        pier_buffer *buffer = self->buffer;
        self->buffer = NULL;
        pier__op_succeed(&self->op, buffer);
    } else {
        pier__op_succeed_int(&self->op, self->integer);
    }
}

/* What the pieces and lines failed with comes first. */
static void settle_close(pier__file_op *self)
{
    pier_file *file = self->file;
    pier_error failure = file->failure;
    bool failed = failure.status < 0;
    pier__file_unref(file); /* the user's */
    if (failed) {
        pier__op_fail_with(&self->op, &failure);
    } else if (self->number || self->status) {
        fail(self);
    } else {
        pier__op_succeed_int(&self->op, 0);
    }
}

static void give_turn(pier__file_op *self)
{
    if (self->has_turn) {
        self->has_turn = false;
        pier__turn_give(&self->file->turn);
    }
}

static void settle(pier__file_op *self)
{
    give_turn(self);
    if (self->op.cls->shielded) {
        settle_close(self);
    } else if (self->number || self->status) {
        fail(self);
    } else {
        succeed(self);
    }
}

/* ---- Working ------------------------------------------------------------------------------ */

static void work(pier__op *op)
{
    pier__file_op *self = (pier__file_op *)op;
    self->work(self);
}

static int run_job(void *arg, pier_error *err)
{
    (void)err;
    work(arg);
    return 0;
}

static bool own_arguments(pier__op *op)
{
    return !op->cls->own || op->owns || (op->owns = true, op->cls->own(op));
}

/* On the loop. The job needs nothing of the caller's, who need not wait for it. */
static void start_job(pier__file_op *self)
{
    if (!own_arguments(&self->op)) {
        self->status = PIER_ENOMEM;
        settle(self);
        return;
    }
    pier__job_start(&self->job, &self->op, run_job, self);
}

/* The job has been done, or could not be. */
static void end_job(pier__file_op *self)
{
    pier_error err = {0};
    if (pier__job_end(&self->job, &err) == 0) {
        settle(self);
    } else if (self->op.cls->shielded) {
        self->work(self); /* no thread for it any more: closing is quick */
        settle(self);
    } else {
        give_turn(self);
        if (self->op.cancelled) {
            pier__op_fail_cancelled(&self->op);
        } else {
            pier__op_fail_with(&self->op, &err);
        }
    }
}

static void begin(pier__file_op *self)
{
    self->op.doing = "working on a file";
    self->op.wait.until = 0;
    if (self->op.on_loop) {
        start_job(self);
    } else {
        self->op.wait.kind = PIER__WAIT_WORK;
        self->op.wait.work = work;
    }
}

static void take_turn(pier__file_op *self)
{
    if (self->file) {
        self->op.doing = "waiting for another operation on the file";
        self->waiter.op = &self->op;
        self->has_turn = pier__turn_take(&self->file->turn, &self->waiter);
    }
    if (!self->file || self->has_turn) {
        begin(self);
    }
}

/* Its bound is over, or it is not wanted any more, before its turn. False: it has the turn. */
static bool leave_turn(pier__file_op *self)
{
    return !self->has_turn && self->file && pier__turn_leave(&self->file->turn, &self->waiter);
}

static void cancel(pier__file_op *self)
{
    if (self->job.op) {
        pier__op_cancel(self->job.op, self->op.cancelled); /* it goes on, if it has begun */
        return;
    }
    self->has_turn = !leave_turn(self) && self->file;
    give_turn(self);
    pier__op_fail_cancelled(&self->op);
}

static void file_step(pier__op *op, unsigned events)
{
    pier__file_op *self = (pier__file_op *)op;
    if (events & PIER__START) {
        take_turn(self);
    } else if (events & PIER__WORKED) {
        settle(self);
    } else if (self->job.op) {
        if (pier__op_settled(self->job.op)) {
            end_job(self);
        } else if (events & PIER__CANCEL) {
            cancel(self);
        }
    } else if (events & PIER__CANCEL && !op->cls->shielded) {
        cancel(self);
    } else if (events & PIER__EXPIRED && leave_turn(self)) {
        self->status = PIER_ETIMEDOUT;
        settle(self);
    } else if (events & PIER__WOKEN && !self->has_turn) {
        self->has_turn = true;
        begin(self);
    }
}

/* ---- Making them -------------------------------------------------------------------------- */

static bool own_data(pier__op *op)
{
    pier__file_op *self = (pier__file_op *)op;
    self->data = self->copy = pier__memdup(self->data, self->size);
    return self->copy != NULL;
}

static void drop_buffer(pier__op *op)
{
    pier_buffer_free(op->result.pointer);
}

static void drop_file(pier__op *op)
{
    if (op->result.pointer) {
        pier_future_free(pier__op_submit(pier__file_close_op(op->result.pointer)));
    }
}

static void file_fini(pier__op *op)
{
    pier__file_op *self = (pier__file_op *)op;
    pier_buffer_free(self->buffer);
    pier__free(self->copy);
    pier__free(self->path);
    if (self->file) {
        pier__file_unref(self->file);
    }
}

static const char *file_subject(const pier__op *op)
{
    const pier__file_op *self = (const pier__file_op *)op;
    return self->path || self->file ? path_of(self) : NULL;
}

/* The turn, then a thread of the executor. */
static bool file_waits_for(pier__op *op, pier__walk *walk)
{
    pier__file_op *self = (pier__file_op *)op;
    if (self->job.op) {
        return pier__walk_op(walk, self->job.op);
    }
    return self->has_turn || !self->file || pier__walk_turn(walk, op, &self->file->turn);
}

#define FILE_CLASS(function, type, ...)                                                            \
    {                                                                                              \
        .name = function, .result = type, .size = sizeof(pier__file_op), .step = file_step,        \
        .fini = file_fini, .subject = file_subject, .waits_for = file_waits_for, __VA_ARGS__       \
    }

static const pier__op_class open_class =
    FILE_CLASS("pier_file_open", "pier_file *", .drop = drop_file);
static const pier__op_class read_class =
    FILE_CLASS("pier_file_read", "pier_buffer *", .drop = drop_buffer);
static const pier__op_class block_class =
    FILE_CLASS("pier_file_block", "pier_buffer *", .drop = drop_buffer);
static const pier__op_class write_class = FILE_CLASS("pier_file_write", "int64_t", .own = own_data);
static const pier__op_class seek_class = FILE_CLASS("pier_file_seek", "int64_t", .own = NULL);
static const pier__op_class sync_class = FILE_CLASS("pier_file_sync", "int", .own = NULL);
static const pier__op_class close_class = FILE_CLASS("pier_file_close", "int", .shielded = true);
static const pier__op_class load_class =
    FILE_CLASS("pier_file_load", "pier_buffer *", .drop = drop_buffer);
static const pier__op_class save_class = FILE_CLASS("pier_file_save", "int", .own = own_data);

/* An operation on an open file; NULL with `*failed` set. */
static pier__file_op *new_op(const pier__op_class *cls, pier_file *file,
                             void (*does)(pier__file_op *self), pier__op **failed)
{
    if (!file) {
        *failed = pier__op_null();
        return NULL;
    }
    pier__file_op *self = pier__op_new(cls, file->handle.runner, failed);
    if (self) {
        self->file = ref(file);
        self->work = does;
    }
    return self;
}

/* The same on a path. */
static pier__file_op *new_path_op(const pier__op_class *cls, pier_runner *runner, const char *path,
                                  void (*does)(pier__file_op *self), pier__op **failed)
{
    if (!runner) {
        *failed = pier__op_null();
        return NULL;
    }
    pier__file_op *self = pier__op_new(cls, runner, failed);
    if (!self) {
        return NULL;
    }
    self->work = does;
    self->path = path ? pier__strdup(path) : NULL;
    if (!self->path) {
        *failed = pier__op_refuse(&self->op, path ? PIER_ENOMEM : PIER_EINVAL,
                                  path ? "%s: out of memory" : "%s: the path is NULL", cls->name);
        return NULL;
    }
    return self;
}

static pier_file *new_file(pier_runner *runner, const char *path, size_t line_max)
{
    pier_file *file = pier__calloc(1, sizeof *file);
    if (!file) {
        return NULL;
    }
    file->handle.runner = runner;
    file->fd = -1;
    file->line_max = line_max ? line_max : LINE_MAX_DEFAULT;
    atomic_init(&file->refs, 1);
    pier__turn_init(&file->turn);
    file->path = pier__strdup(path);
    file->close_memory = pier__calloc(1, sizeof(pier__file_op));
    if (!file->path || !file->close_memory) {
        pier__file_unref(file);
        return NULL;
    }
    return file;
}

pier_future *pier__file_open_op(pier_runner *runner, const char *path, const char *mode,
                                const pier_file_options *options)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_path_op(&open_class, runner, path, pier__file_work_open, &failed);
    if (!self) {
        return failed;
    }
    pier_error err = {0};
    pier_file_options read = {.struct_size = 0};
    if (pier__options_read(&read, sizeof read, options, "PIER_FILE_OPTIONS", &err) < 0) {
        return pier__op_refuse(&self->op, err.status, "%s", err.message);
    }
    self->flags = pier__file_flags(mode);
    self->permissions = read.permissions ? read.permissions : 0666;
    if (self->flags < 0) {
        return pier__op_refuse(&self->op, PIER_EINVAL,
                               "pier_file_open: the mode is \"%.20s\"; r, w or a, with + and x",
                               mode ? mode : "");
    }
    self->file = new_file(runner, path, read.line_max);
    if (!self->file) {
        return pier__op_refuse(&self->op, PIER_ENOMEM, "pier_file_open: out of memory");
    }
    return &self->op;
}

pier_future *pier__file_read_op(pier_file *file, size_t size)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_op(&read_class, file, pier__file_work_read, &failed);
    if (!self) {
        return failed;
    }
    self->size = size;
    return &self->op;
}

pier_future *pier__file_block_op(pier_file *file)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_op(&block_class, file, pier__file_work_read, &failed);
    if (!self) {
        return failed;
    }
    self->size = BLOCK_SIZE;
    return &self->op;
}

pier_future *pier__file_write_op(pier_file *file, const void *data, size_t size)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_op(&write_class, file, pier__file_work_write, &failed);
    if (!self) {
        return failed;
    }
    if (!data && size) {
        return pier__op_refuse(&self->op, PIER_EINVAL, "pier_file_write: the data is NULL");
    }
    self->data = data ? data : "";
    self->size = size;
    return &self->op;
}

pier_future *pier__file_seek_op(pier_file *file, int64_t offset, int whence)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_op(&seek_class, file, pier__file_work_seek, &failed);
    if (!self) {
        return failed;
    }
    self->offset = offset;
    self->whence = whence;
    return &self->op;
}

pier_future *pier__file_sync_op(pier_file *file)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_op(&sync_class, file, pier__file_work_sync, &failed);
    return self ? &self->op : failed;
}

pier_future *pier__file_close_op(pier_file *file)
{
    if (!file) {
        return pier__op_null();
    }
    if (pier__runner_forked(file->handle.runner)) {
        return pier__op_forked(); /* the descriptor's state is shared with the parent */
    }
    if (!pier__handle_leave(&file->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    pier__file_op *self = file->close_memory;
    file->close_memory = NULL;
    pier__op_init(&self->op, &close_class, file->handle.runner);
    self->file = ref(file);
    self->work = pier__file_work_close;
    self->op.wait.until =
        pier__earlier(pier__deadline(END_TIMEOUT_MS, 0), file->handle.runner->close_until);
    return &self->op;
}

static void close_handle(pier__handle *handle)
{
    pier__op_take_int(pier__op_run(pier__file_close_op((pier_file *)handle), NULL), "int", NULL);
}

pier_future *pier__file_load_op(pier_runner *runner, const char *path, size_t size_max)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_path_op(&load_class, runner, path, pier__file_work_load, &failed);
    if (!self) {
        return failed;
    }
    self->size = size_max;
    return &self->op;
}

pier_future *pier__file_save_op(pier_runner *runner, const char *path, const void *data,
                                size_t size)
{
    pier__op *failed = NULL;
    pier__file_op *self = new_path_op(&save_class, runner, path, pier__file_work_save, &failed);
    if (!self) {
        return failed;
    }
    if (!data && size) {
        return pier__op_refuse(&self->op, PIER_EINVAL, "pier_file_save: the data is NULL");
    }
    self->data = data ? data : "";
    self->size = size;
    return &self->op;
}
