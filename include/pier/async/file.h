#ifndef PIER_ASYNC_FILE_H
#define PIER_ASYNC_FILE_H
/*
 * Files, read and written without holding up the loop. A thread does the work itself; for tasks and
 * callbacks the threads of the runner's executor do it (pier_to_thread).
 *
 * The operations on one file run one at a time, in the order in which they were called. The system
 * cannot stop one that has begun: at a deadline a task goes on at once, the operation ends behind
 * it, and a thread goes on when its own has ended. What would wait for somebody else (a pipe, a
 * terminal) fails with EAGAIN.
 *
 * Failures of the system are PIER_EIO with the errno in `native` and the path in the message.
 */
#include <pier/buffer.h>
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_file pier_file;

typedef struct pier_file_options {
    size_t struct_size; /* set by PIER_FILE_OPTIONS */
    size_t line_max;    /* bytes of a line that pier_file_line accepts; 0: 1 MiB */
    int permissions;    /* of a file that is created, less the umask; 0: 0666 */
    int reserved;       /* 0 */
} PIER_DESIGNATED pier_file_options;

/* pier_file_open(runner, path, "r", PIER_FILE_OPTIONS(.line_max = 4096), &err) */
#define PIER_FILE_OPTIONS(...)                                                                     \
    (&(const pier_file_options){.struct_size = sizeof(pier_file_options), __VA_ARGS__})

/**
 * Opens a file.
 *
 * @param runner   borrowed until the file is closed
 * @param path     copied
 * @param mode     copied: "r", "w" or "a", with "+" for both ways and "x" for a file that must not
 *                 exist yet, as for fopen
 * @param options  copied: NULL for the defaults
 * @return owned: the future of a `pier_file *`, ended by pier_file_close
 *
 * Errors: PIER_EIO (ENOENT, EISDIR, EACCES, EEXIST, ...), PIER_EINVAL (the mode).
 * Threads: any. Mirrors: `aiofiles.open`, fopen.
 */
PIER_SYNC(pier_file *)
PIER_API pier_future *pier_file_open_async(pier_runner *runner, const char *path, const char *mode,
                                           const pier_file_options *options);

/**
 * Reads on from the position. Behind the bytes is a zero byte.
 *
 * @param file  borrowed until the future has settled
 * @param size  in bytes; fewer come only where the file ends
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free; without bytes at the
 * end
 *
 * Errors: PIER_EIO (EISDIR; EBADF: opened for writing), PIER_ENOMEM.
 * Threads: any.
 */
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_file_read_async(pier_file *file, size_t size);

/**
 * Reads the next piece of 64 KiB, or what is left.
 *
 * @iterator pier_file_next
 * Gives the next piece, borrowed until the next call, and its size. NULL at the end or after a
 * failure, which pier_file_close reports.
 *
 * @iterator pier_file_line
 * Gives the next line without its line feed, zero-terminated, and its length, which tells zero
 * bytes inside it; NULL at the end or after a failure, which pier_file_close reports. It is
 * borrowed until the next call. A carriage return stays. It reads ahead: do not mix it with other
 * reading.
 *
 * @param file  borrowed until the future has settled
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free; without bytes at the
 * end
 *
 * Errors: as pier_file_read; pier_file_line: PIER_ERANGE for a line longer than `line_max`.
 * Threads: any, one at a time. Mirrors: `async for line in file`.
 */
PIER_SYNC_ITERATOR(pier_file_next, const void *, size_t *size)
PIER_SYNC_ITERATOR(pier_file_line, const char *, size_t *length)
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_file_block_async(pier_file *file);

/**
 * Writes all of it at the position, or at the end of a file opened with "a".
 *
 * @param file  borrowed until the future has settled
 * @param data  copied: it may be changed as soon as this returns
 * @param size  of it in bytes
 * @return owned: the future of the number of bytes, which is `size`
 *
 * Errors: PIER_EIO (ENOSPC, EFBIG, ...): a part of it may have been written.
 * Threads: any.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_file_write_async(pier_file *file, const void *data, size_t size);

/**
 * Moves the position.
 *
 * @param file    borrowed until the future has settled
 * @param offset  in bytes
 * @param whence  SEEK_SET, SEEK_CUR or SEEK_END
 * @return owned: the future of the new position, from the beginning
 *
 * Errors: PIER_EIO (EINVAL: before the beginning).
 * Threads: any. Mirrors: lseek.
 */
PIER_SYNC(int64_t)
PIER_API pier_future *pier_file_seek_async(pier_file *file, int64_t offset, int whence);

/**
 * Has what was written put on the disk.
 *
 * @param file  borrowed until the future has settled
 * @return owned: the future of 0
 *
 * Errors: PIER_EIO: what was written since the last one may be lost.
 * Threads: any. Mirrors: fsync.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_file_sync_async(pier_file *file);

/**
 * Closes a file when the operations before it have ended, and reports what failed: its pieces and
 * lines, and what the system could only write now.
 *
 * @param file  taken: NULL passes through
 * @return owned: the future of 0
 *
 * Errors: PIER_EIO, PIER_ERANGE (a line); PIER_ETIMEDOUT when an operation before it has not ended
 * after 10 s: the file is closed when it ends.
 * Threads: any, once. The runner's close closes those that were forgotten.
 */
PIER_SYNC(int, checked)
PIER_API pier_future *pier_file_close_async(pier_file *file);

/**
 * Reads a whole file. Behind its bytes is a zero byte.
 *
 * @param runner    borrowed until the future has settled
 * @param path      copied
 * @param size_max  in bytes; what is larger is a failure
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free
 *
 * Errors: PIER_EIO, PIER_ERANGE (larger than `size_max`), PIER_ENOMEM.
 * Threads: any. Mirrors: `Path.read_bytes`.
 */
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_file_load_async(pier_runner *runner, const char *path, size_t size_max);

/**
 * Writes a whole file at once or not at all: into a temporary file beside it, which is put on the
 * disk and then takes its place. Whoever opens the path finds the old content or the new one, also
 * after a crash. The permissions of a file that is there are kept; a symbolic link is replaced.
 *
 * @param runner  borrowed until the future has settled
 * @param path    copied
 * @param data    copied
 * @param size    of it in bytes
 * @return owned: the future of 0
 *
 * Errors: PIER_EIO: then the old file is there as it was.
 * Threads: any.
 */
PIER_SYNC(int)
PIER_API pier_future *pier_file_save_async(pier_runner *runner, const char *path, const void *data,
                                           size_t size);

#ifdef __cplusplus
}
#endif
#endif
