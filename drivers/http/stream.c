/*
 * Streams.
 *
 * The transfer is the loop's; its sink runs inside libcurl. Consumers take what is buffered under
 * the lock, without a visit to the loop, and have it go on with a paused transfer by a post.
 */
#include "drivers/http/stream.h"

#include "drivers/http/multi.h"
#include "sdk/alloc.h"
#include "sdk/error.h"
#include "sdk/loop.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <string.h>

/* A reader is told of so many bytes while libcurl goes on receiving, so that both work at the same
 * time; of fewer when it has received what there is. */
enum { TELL_AT_ONCE = 128 * 1024 };

typedef struct close_op {
    pier__op op;         /* first */
    pier_stream *stream; /* holds the user's reference */
} close_op;

static pier_stream *ref(pier_stream *stream)
{
    atomic_fetch_add_explicit(&stream->refs, 1, memory_order_relaxed);
    return stream;
}

static void unref(pier_stream *stream)
{
    if (!stream || atomic_fetch_sub_explicit(&stream->refs, 1, memory_order_acq_rel) != 1) {
        return;
    }
    pier__exchange_fini(&stream->exchange);
    pier__free(stream->filling);
    pier__free(stream->spare);
    pier__free(stream->current);
    pier__free(stream->fault);
    pier__free(stream->close_memory);
    pier__lines_fini(&stream->lines);
    pthread_mutex_destroy(&stream->lock);
    pier__free(stream);
}

static pier_stream *stream_of(pier__exchange *exchange)
{
    return (pier_stream *)((char *)exchange - offsetof(pier_stream, exchange));
}

/* ---- Receiving, on the loop --------------------------------------------------------------- */

/* Runs when libcurl has returned, so that a reader finds all that came at once. */
static void on_tell(pier__post *post)
{
    pier_stream *stream = (pier_stream *)((char *)post - offsetof(pier_stream, tell));
    pthread_mutex_lock(&stream->lock);
    stream->telling = false;
    if (stream->reader) {
        pier__op_wake(stream->reader);
    }
    pthread_mutex_unlock(&stream->lock);
    unref(stream);
}

/* Under the lock. */
static void tell_reader(pier_stream *stream)
{
    if (stream->reader && !stream->telling) {
        stream->telling = true;
        ref(stream);
        if (!pier__loop_post(stream->handle.runner, &stream->tell)) {
            stream->telling = false;
            unref(stream);
        }
    }
}

/* Under the lock. The chunk that is being filled, with room for `more`; NULL: no memory. */
static pier_chunk *make_room(pier_stream *stream, size_t more)
{
    if (!stream->filling && stream->spare) {
        stream->filling = stream->spare;
        stream->filling->size = 0;
        stream->spare = NULL;
    }
    pier_chunk *chunk = stream->filling;
    size_t size = chunk ? chunk->size : 0;
    if (chunk && chunk->capacity - size >= more) {
        return chunk;
    }
    enum { CHUNK_MIN = 64 * 1024 - sizeof(pier_chunk) };
    size_t capacity = chunk ? 2 * chunk->capacity : CHUNK_MIN;
    while (capacity < size + more) {
        capacity *= 2;
    }
    chunk = pier__realloc(chunk, sizeof *chunk + capacity);
    if (chunk) {
        chunk->size = size;
        chunk->capacity = capacity;
        stream->filling = chunk;
    }
    return chunk;
}

/* The sink of the exchange: inside libcurl. */
static size_t receive(pier__exchange *exchange, const char *data, size_t size)
{
    pier_stream *stream = stream_of(exchange);
    pthread_mutex_lock(&stream->lock);
    if (stream->filling && stream->filling->size >= PIER__STREAM_AHEAD_MAX) {
        stream->paused = true;
        pthread_mutex_unlock(&stream->lock);
        return CURL_WRITEFUNC_PAUSE;
    }
    pier_chunk *chunk = make_room(stream, size);
    if (chunk) {
        memcpy(chunk->data + chunk->size, data, size);
        chunk->size += size;
        if (stream->reader && chunk->size >= TELL_AT_ONCE && chunk->size - size < TELL_AT_ONCE) {
            pier__op_wake(stream->reader);
        } else {
            tell_reader(stream);
        }
    } else {
        exchange->refusal = PIER__REFUSAL_MEMORY;
    }
    pthread_mutex_unlock(&stream->lock);
    return chunk ? size : 0;
}

static void on_resume(pier__post *post)
{
    pier_stream *stream = (pier_stream *)((char *)post - offsetof(pier_stream, resume));
    pthread_mutex_lock(&stream->lock);
    stream->resuming = stream->paused = false;
    pthread_mutex_unlock(&stream->lock);
    if (stream->exchange.added) {
        pier__http_multi_resume_on_loop(stream->exchange.http->multi, &stream->exchange);
    }
    unref(stream);
}

/* Under the lock, unless nobody else knows the stream yet. */
static void set_over(pier_stream *stream, int status, const pier_error *err)
{
    stream->over = true;
    if (status < 0) {
        stream->fault_status = status;
        stream->fault = pier__malloc(sizeof *err);
        if (stream->fault) {
            *stream->fault = *err;
        }
    }
}

/* The transfer has ended, however it did: records that, and gives the slot back. */
static void end_transfer(pier__exchange *exchange)
{
    pier_stream *stream = stream_of(exchange);
    pier_error err = {0};
    int status = pier__exchange_error(exchange, &err);
    pier__exchange_release(exchange);
    pthread_mutex_lock(&stream->lock);
    set_over(stream, status, &err);
    if (stream->reader) {
        pier__op_wake(stream->reader);
    }
    pthread_mutex_unlock(&stream->lock);
}

/* ---- Opening ------------------------------------------------------------------------------ */

typedef struct stream_op {
    pier__op op;         /* first */
    pier_stream *stream; /* NULL once handed out */
} stream_op;

static void on_runner_close(pier__handle *handle)
{
    pier_stream *stream = (pier_stream *)handle;
    pier__op_take_int(pier__op_run(pier__stream_close_op(stream), NULL), "int", NULL);
}

/* The headers are there: from now on the stream is the user's. */
static void hand_out(stream_op *self)
{
    pier_stream *stream = self->stream;
    pier__exchange *exchange = &stream->exchange;
    pier_http *http = exchange->http;
    if (!pier__handle_open(&stream->handle, http->runner, on_runner_close)) {
        pier__exchange_release(exchange);
        pier__op_fail(&self->op, PIER_ECLOSED, "the runner is closed");
        return;
    }
    pthread_mutex_lock(&http->lock);
    exchange->op = NULL;
    pthread_mutex_unlock(&http->lock);
    self->stream = NULL;
    pier__op_succeed(&self->op, stream);
}

static void stream_step(pier__op *op, unsigned events)
{
    stream_op *self = (stream_op *)op;
    pier__exchange *exchange = &self->stream->exchange;
    if (events & PIER__CANCEL) {
        pier__exchange_release(exchange);
        pier__op_fail_cancelled(op);
        return;
    }
    pier_error err = {0};
    int status = pier__exchange_step(exchange, events, &err);
    if (!exchange->head_ready) {
        if (status < 0) {
            pier__op_fail_with(op, &err);
        }
        return;
    }
    /* A short body may have ended, well or badly, together with its headers: that is told in its
     * place, behind the bytes that came. */
    if (status) {
        set_over(self->stream, status, &err);
    }
    hand_out(self);
}

static bool stream_own(pier__op *op)
{
    return pier__exchange_own(&((stream_op *)op)->stream->exchange);
}

static void stream_drop(pier__op *op)
{
    pier_future_free(pier__op_submit(pier__stream_close_op(op->result.pointer)));
}

static void stream_fini(pier__op *op)
{
    unref(((stream_op *)op)->stream);
}

static const char *stream_subject(const pier__op *op)
{
    pier_stream *stream = ((const stream_op *)op)->stream;
    return stream ? pier__exchange_subject(&stream->exchange) : NULL;
}

static const pier__op_class stream_class = {
    .name = "pier_http_stream",
    .result = "pier_stream *",
    .size = sizeof(stream_op),
    .loop_only = true,
    .step = stream_step,
    .own = stream_own,
    .drop = stream_drop,
    .fini = stream_fini,
    .subject = stream_subject,
    .moving_subject = true,
};

static pier_stream *new_stream(pier_http *http)
{
    pier_stream *stream = pier__calloc(1, sizeof *stream);
    void *closer = stream ? pier__calloc(1, sizeof(close_op)) : NULL;
    if (!closer) {
        pier__free(stream);
        stream = NULL;
    } else {
        stream->close_memory = closer;
        atomic_init(&stream->refs, 1);
        pthread_mutex_init(&stream->lock, NULL);
        stream->handle.runner = http->runner;
        stream->exchange.is_stream = true;
        stream->exchange.sink = receive;
        stream->exchange.ended = end_transfer;
        stream->tell.run = on_tell;
        stream->resume.run = on_resume;
    }
    return stream;
}

pier_future *pier__http_stream_op(pier_http *http, const char *method, const char *url,
                                  const pier_request_options *options)
{
    if (!http) {
        return pier__op_null();
    }
    pier__op *failed;
    stream_op *self = pier__op_new(&stream_class, http->runner, &failed);
    if (!self) {
        return failed;
    }
    self->stream = new_stream(http);
    pier_error err = {0};
    if (!self->stream) {
        return pier__op_refuse(&self->op, PIER_ENOMEM, "pier_http_stream: out of memory");
    }
    if (pier__exchange_init(&self->stream->exchange, &self->op, http, method, url, options, &err) <
        0) {
        pier__op_fail_with(&self->op, &err);
    }
    return &self->op;
}

/* ---- Reading ------------------------------------------------------------------------------ */

typedef struct block_op {
    pier__op op;         /* first */
    pier_stream *stream; /* holds a reference */
} block_op;

/* Under the lock. Has a paused transfer go on, now that there is room. */
static void resume(pier_stream *stream)
{
    if (stream->paused && !stream->resuming && !stream->over) {
        stream->resuming = true;
        ref(stream);
        if (!pier__loop_post(stream->handle.runner, &stream->resume)) {
            stream->resuming = false;
            unref(stream);
        }
    }
}

/* Under the lock. Settles the operation with what is there; false: nothing yet. */
static bool take(block_op *self)
{
    pier_stream *stream = self->stream;
    if (stream->filling) {
        pier_chunk *chunk = stream->filling;
        stream->filling = NULL;
        resume(stream);
        pier__op_succeed(&self->op, chunk);
        return true;
    }
    if (!stream->over) {
        return false;
    }
    if (stream->fault_status < 0) {
        if (stream->fault) {
            stream->failure = *stream->fault;
        } else {
            pier_error_set(&stream->failure, stream->fault_status,
                           "the stream was closed, or there "
                           "was no memory for what failed in it");
        }
        pier__op_fail_with(&self->op, &stream->failure);
        return true;
    }
    pier_chunk *end = pier__calloc(1, sizeof *end);
    if (end) {
        pier__op_succeed(&self->op, end);
    } else {
        pier__op_fail(&self->op, PIER_ENOMEM, "out of memory");
    }
    return true;
}

static void block_step(pier__op *op, unsigned events)
{
    block_op *self = (block_op *)op;
    pier_stream *stream = self->stream;
    op->doing = "waiting for more of the body";
    op->wait.kind = PIER__WAIT_WAKE;
    pthread_mutex_lock(&stream->lock);
    if (stream->reader == op) {
        stream->reader = NULL;
    }
    bool busy = stream->reader != NULL;
    if (!busy && !(events & PIER__CANCEL) && !take(self)) {
        stream->reader = op;
    }
    pthread_mutex_unlock(&stream->lock);
    if (events & PIER__CANCEL) {
        pier__op_fail_cancelled(op);
    } else if (busy) {
        pier__op_fail(op, PIER_EBUSY, "the stream is being read already; read one part at a time");
    }
}

static void block_drop(pier__op *op)
{
    pier_chunk_free(op->result.pointer);
}

static void block_fini(pier__op *op)
{
    unref(((block_op *)op)->stream);
}

static const pier__op_class block_class = {
    .name = "pier_stream_block",
    .result = "pier_chunk *",
    .size = sizeof(block_op),
    .step = block_step,
    .drop = block_drop,
    .fini = block_fini,
};

pier_future *pier__stream_block_op(pier_stream *stream)
{
    if (!stream) {
        return pier__op_null();
    }
    pier__op *failed;
    block_op *self = pier__op_new(&block_class, stream->handle.runner, &failed);
    if (!self) {
        return failed;
    }
    self->stream = ref(stream);
    /* What is there needs no visit to the loop. */
    pthread_mutex_lock(&stream->lock);
    if (!stream->reader && stream->filling) {
        take(self);
    }
    pthread_mutex_unlock(&stream->lock);
    return &self->op;
}

/* ---- Closing ------------------------------------------------------------------------------ */

static void settle_close(close_op *self)
{
    pier_error *failure = &self->stream->failure;
    if (failure->status < 0) {
        pier__op_fail_with(&self->op, failure);
    } else {
        pier__op_succeed_int(&self->op, 0);
    }
}

static void close_step(pier__op *op, unsigned events)
{
    (void)events;
    close_op *self = (close_op *)op;
    pier_stream *stream = self->stream;
    pier__exchange_release(&stream->exchange);
    pthread_mutex_lock(&stream->lock);
    if (!stream->over) {
        /* Whoever still reads must not take this for the end of the body. */
        stream->over = true;
        stream->fault_status = PIER_ECLOSED;
    }
    if (stream->reader) {
        pier__op_wake(stream->reader);
    }
    pthread_mutex_unlock(&stream->lock);
    settle_close(self);
}

static void close_fini(pier__op *op)
{
    unref(((close_op *)op)->stream);
}

static const pier__op_class close_class = {
    .name = "pier_stream_close",
    .result = "int",
    .size = sizeof(close_op),
    .shielded = true,
    .loop_only = true,
    .step = close_step,
    .fini = close_fini,
};

pier_future *pier__stream_close_op(pier_stream *stream)
{
    if (!stream) {
        return pier__op_null();
    }
    if (stream->exchange.http->fork_generation != pier__fork_generation) {
        return pier__op_forked(); /* it is the parent's */
    }
    if (!pier__handle_leave(&stream->handle)) {
        return pier__op_null(); /* the runner is closing it */
    }
    close_op *self = stream->close_memory;
    stream->close_memory = NULL;
    pier__op_init(&self->op, &close_class, stream->handle.runner);
    self->stream = stream;
    pthread_mutex_lock(&stream->lock);
    bool over = stream->over;
    pthread_mutex_unlock(&stream->lock);
    if (over) {
        settle_close(self);
    }
    return &self->op;
}

/* ---- Iterators ---------------------------------------------------------------------------- */

pier_error *pier__stream_error(pier_stream *stream)
{
    return stream ? &stream->failure : NULL;
}

void pier__stream_block_put(pier_stream *stream, pier_chunk *block)
{
    pier_chunk *old = stream->current;
    stream->current = block && block->size ? block : NULL;
    stream->at = 0;
    stream->fresh = stream->current != NULL;
    if (!block) {
        stream->failed = true;
    } else if (!block->size) {
        stream->at_end = true;
        pier__free(block);
    }
    if (old) {
        pthread_mutex_lock(&stream->lock);
        pier_chunk *useless = stream->spare;
        stream->spare = old;
        pthread_mutex_unlock(&stream->lock);
        pier__free(useless);
    }
}

static bool is_done(const pier_stream *stream)
{
    return stream->failed || stream->failure.status < 0;
}

/* True: a chunk, or the end. */
static bool take_chunk(pier_stream *stream, size_t *size, const void **item)
{
    if (is_done(stream) || stream->at_end) {
        return true;
    }
    if (!stream->fresh) {
        return false;
    }
    stream->fresh = false;
    *item = stream->current->data;
    if (size) {
        *size = stream->current->size;
    }
    return true;
}

bool pier__stream_chunk_take(pier_stream *stream, size_t *size, const void **item)
{
    *item = NULL;
    if (size) {
        *size = 0;
    }
    return !stream || pier__runner_iterate(stream->handle.runner, &stream->fetching,
                                           take_chunk(stream, size, item));
}

static bool fail_lines(pier_stream *stream, pier__lines_answer answer)
{
    stream->failed = true;
    if (answer == PIER__LINES_TOO_LONG) {
        pier_error_set(&stream->failure, PIER_ERANGE,
                       "%s: a line has more than 16 MiB; read it with pier_stream_chunk",
                       pier__exchange_subject(&stream->exchange));
    } else {
        pier_error_set(&stream->failure, PIER_ENOMEM, "out of memory for a line");
    }
    return true;
}

/* True: a line, or the end. */
static bool take_line(pier_stream *stream, size_t *length, const char **item)
{
    if (is_done(stream)) {
        return true;
    }
    char *line = NULL;
    if (stream->at_end) {
        pier__lines_last(&stream->lines, &line, length);
        *item = line;
        return true;
    }
    if (!stream->current) {
        return false;
    }
    pier__lines_answer answer = pier__lines_next(&stream->lines, stream->current->data,
                                                 stream->current->size, &stream->at, &line, length);
    *item = line;
    if (answer == PIER__LINES_TOO_LONG || answer == PIER__LINES_NO_MEMORY) {
        return fail_lines(stream, answer);
    }
    return answer == PIER__LINES_LINE;
}

bool pier__stream_line_take(pier_stream *stream, size_t *length, const char **item)
{
    size_t ignored;
    length = length ? length : &ignored;
    *length = 0;
    *item = NULL;
    return !stream || pier__runner_iterate(stream->handle.runner, &stream->fetching,
                                           take_line(stream, length, item));
}

/* ---- Public ------------------------------------------------------------------------------- */

int pier_stream_status(const pier_stream *stream)
{
    return stream ? stream->exchange.response->status : 0;
}

const char *pier_stream_header(const pier_stream *stream, const char *name)
{
    return stream && name ? pier__header_store_find(&stream->exchange.response->headers, name)
                          : NULL;
}

const void *pier_chunk_data(const pier_chunk *chunk, size_t *size)
{
    if (size) {
        *size = chunk ? chunk->size : 0;
    }
    return chunk ? chunk->data : NULL;
}

void pier_chunk_free(pier_chunk *chunk)
{
    pier__free(chunk);
}
