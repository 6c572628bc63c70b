/*
 * Pieces and lines of a file, taken one by one from the blocks that were read.
 */
#include "sdk/file.h"

#include "sdk/alloc.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <string.h>

static void drop_block(pier_file *file)
{
    pier_buffer_free(file->block);
    file->block = NULL;
    file->at = 0;
}

/* True: an item, or the end, is there. False: a block must be fetched. */
static bool answer(pier_file *file, bool done)
{
    return pier__runner_iterate(file->handle.runner, &file->fetching, done);
}

bool pier__file_next_take(pier_file *file, size_t *size, const void **item)
{
    *item = NULL;
    *size = 0;
    if (!file) {
        return true;
    }
    if (file->block && file->at < file->block->size) {
        *item = (const char *)file->block->data + file->at;
        *size = file->block->size - file->at;
        file->at = file->block->size;
        return answer(file, true);
    }
    drop_block(file);
    return answer(file, file->finished);
}

static void fail(pier_file *file, int status, const char *format, ...) PIER_PRINTF(3, 4);

static void fail(pier_file *file, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    if (!file->failure.status) {
        pier__error_setv(&file->failure, status, format, list);
    }
    va_end(list);
    file->finished = true;
    file->line_size = 0;
    drop_block(file);
}

/* Adds to the line, with room for the zero behind it. */
static bool append(pier_file *file, const char *bytes, size_t size)
{
    if (size > file->line_max - file->line_size) {
        fail(file, PIER_ERANGE,
             "pier_file_line: a line of %.500s is longer than %zu bytes; give a larger line_max",
             file->path, file->line_max);
        return false;
    }
    size_t needed = file->line_size + size + 1;
    if (needed > file->line_room) {
        size_t room = needed + needed / 2;
        char *grown = pier__realloc(file->line, room);
        if (!grown) {
            fail(file, PIER_ENOMEM, "pier_file_line: out of memory");
            return false;
        }
        file->line = grown;
        file->line_room = room;
    }
    memcpy(file->line + file->line_size, bytes, size);
    file->line_size += size;
    file->line[file->line_size] = 0;
    return true;
}

/* Takes the block's bytes up to the next line feed; true: there was one. */
static bool take_line(pier_file *file)
{
    const char *bytes = (const char *)file->block->data + file->at;
    size_t size = file->block->size - file->at;
    const char *end = memchr(bytes, '\n', size);
    if (!append(file, bytes, end ? (size_t)(end - bytes) : size)) {
        return false;
    }
    file->at += end ? (size_t)(end - bytes) + 1 : size;
    return end != NULL;
}

bool pier__file_line_take(pier_file *file, size_t *length, const char **item)
{
    *item = NULL;
    *length = 0;
    if (!file) {
        return true;
    }
    if (file->line_given) {
        file->line_given = false;
        file->line_size = 0;
    }
    bool whole = file->block && file->at < file->block->size && take_line(file);
    if (!whole) {
        drop_block(file);
        if (!file->finished) {
            return answer(file, false);
        }
        /* The last one may lack its line feed; after a failure half a line is none. */
        whole = file->line_size > 0 && !file->failure.status;
    }
    if (whole) {
        file->line_given = true;
        *item = file->line;
        *length = file->line_size;
    }
    return answer(file, true);
}

void pier__file_block_put(pier_file *file, pier_buffer *block)
{
    file->finished = !block || block->size == 0;
    file->block = block;
    file->at = 0;
}

pier_error *pier__file_error(pier_file *file)
{
    return &file->failure;
}
