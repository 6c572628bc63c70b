/*
 * Dumps: what a runner does, as lines of text. Lists are copied under their lock, formatted and
 * handed out under none. Nothing here waits for the loop.
 */
#include "sdk/dump.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/db.h"
#include "sdk/runner.h"
#include "sdk/task.h"
#include <errno.h>
#include <pier/debug.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct pier__dump {
    char *text; /* lines, each ended by a NUL */
    size_t length, size;
    int64_t now;
    bool short_of_memory;
};

/* ---- Text --------------------------------------------------------------------------------- */

static void append(pier__dump *dump, const char *line)
{
    size_t length = strlen(line) + 1;
    if (dump->length + length > dump->size) {
        size_t size = dump->size ? dump->size * 2 : 4096;
        char *text = pier__realloc(dump->text, size);
        if (!text) {
            dump->short_of_memory = true;
            return;
        }
        dump->text = text;
        dump->size = size;
    }
    memcpy(dump->text + dump->length, line, length);
    dump->length += length;
}

/* A name may hold anything. */
static void keep_to_one_line(char *line)
{
    for (; *line; line++) {
        if ((unsigned char)*line < ' ' || *line == 127) {
            *line = '?';
        }
    }
}

void pier__dump_line(pier__dump *dump, int64_t since, const char *format, ...)
{
    char line[600];
    va_list list;
    va_start(list, format);
    vsnprintf(line, sizeof line - 40, format, list);
    va_end(list);
    keep_to_one_line(line);
    if (since) {
        size_t length = strlen(line);
        int64_t ms = dump->now > since ? (dump->now - since) / 1000000 : 0;
        snprintf(line + length, sizeof line - length, ", for %" PRId64 " ms", ms);
    }
    append(dump, line);
}

/* ---- The loop's operations ---------------------------------------------------------------- */

struct item {
    const void *self, *holder;
    const char *name, *doing;
    int64_t since;
    int status;
    bool task, cancelled;
    char text[96]; /* the subject; of a task its name */
};

struct items {
    struct item *all;
    size_t count, room;
};

#if defined(__SANITIZE_THREAD__)
#define UNSYNCHRONISED __attribute__((no_sanitize_thread, noinline))
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNSYNCHRONISED __attribute__((no_sanitize("thread"), noinline))
#endif
#endif
#ifndef UNSYNCHRONISED
#define UNSYNCHRONISED
#endif

/* `doing`, `holder` and `cancelled` belong to whoever steps the operation. They are words that are
 * written in one go, constants or only compared: what is read may be old, never wrong. Having each
 * step write them otherwise would cost every operation for the sake of a dump. */
UNSYNCHRONISED static void copy_words(struct item *item, const pier__op *op)
{
    item->doing = *(const char *const volatile *)&op->doing;
    item->holder = *(const void *const volatile *)&op->holder;
    item->cancelled = *(const volatile int *)&op->cancelled != 0;
}

/* Under ops_lock, or the lock of the list of threads that wait, so that it lives. */
static void copy_op(struct item *item, const pier__op *op)
{
    memset(item, 0, sizeof *item);
    copy_words(item, op);
    item->self = op;
    item->name = op->cls->name;
    item->task = op->cls->is_task;
    const char *text = item->task ? pier__task_name((const struct pier_task *)op)
                       : op->cls->subject && !op->cls->moving_subject ? op->cls->subject(op)
                                                                      : NULL;
    snprintf(item->text, sizeof item->text, "%s", text ? text : "");
}

/* A copy of a list; with less than all where it has grown meanwhile. */
static bool copy_list(pier_runner *runner, bool unread, struct items *items)
{
    pthread_mutex_lock(&runner->ops_lock);
    items->room = (size_t)(unread ? runner->unread_count : runner->ops_count) + 16;
    pthread_mutex_unlock(&runner->ops_lock);
    items->count = 0;
    items->all = pier__malloc(items->room * sizeof *items->all);
    if (!items->all) {
        return false;
    }
    pthread_mutex_lock(&runner->ops_lock);
    const pier__op *op = unread ? runner->unread : runner->ops;
    for (; op && items->count < items->room; op = op->next) {
        struct item *item = &items->all[items->count++];
        copy_op(item, op);
        item->since = op->since;
        item->status = unread ? op->status : 0;
    }
    pthread_mutex_unlock(&runner->ops_lock);
    return true;
}

static int by_holder(const void *a, const void *b)
{
    uintptr_t left = (uintptr_t)((const struct item *)a)->holder;
    uintptr_t right = (uintptr_t)((const struct item *)b)->holder;
    return (left > right) - (left < right);
}

/* The operation that a task is suspended in; NULL: it runs, or is about to. */
static const struct item *awaited_by(const struct items *items, const struct item *task)
{
    struct item key = {.holder = task->self};
    return bsearch(&key, items->all, items->count, sizeof *items->all, by_holder);
}

static const struct item *find_self(const struct items *items, const void *self)
{
    for (size_t i = 0; i < items->count; i++) {
        if (items->all[i].self == self) {
            return &items->all[i];
        }
    }
    return NULL;
}

static void dump_task(pier__dump *dump, const struct items *items, const struct item *task)
{
    const char *cancelled = task->cancelled ? ", cancelled" : "";
    const struct item *awaited = awaited_by(items, task);
    if (!awaited) {
        pier__dump_line(dump, task->since, "task \"%s\" %p: running%s", task->text, task->self,
                        cancelled);
    } else {
        pier__dump_line(dump, awaited->since, "task \"%s\" %p: suspended in %s%s%s, %s%s",
                        task->text, task->self, awaited->name, *awaited->text ? " " : "",
                        awaited->text, awaited->doing ? awaited->doing : "waiting", cancelled);
    }
}

static void dump_operation(pier__dump *dump, const struct items *items, const struct item *item)
{
    const struct item *task = item->holder ? find_self(items, item->holder) : NULL;
    pier__dump_line(dump, item->since, "operation %s%s%s: %s%s%s%s%s", item->name,
                    *item->text ? " " : "", item->text, item->doing ? item->doing : "waiting",
                    item->cancelled ? ", cancelled" : "", task ? ", task \"" : ", loop",
                    task ? task->text : "", task ? "\"" : "");
}

static void dump_operations(pier__dump *dump, pier_runner *runner)
{
    struct items items;
    if (!copy_list(runner, false, &items)) {
        dump->short_of_memory = true;
        return;
    }
    qsort(items.all, items.count, sizeof *items.all, by_holder);
    for (size_t i = 0; i < items.count; i++) {
        if (items.all[i].task) {
            dump_task(dump, &items, &items.all[i]);
        }
    }
    for (size_t i = 0; i < items.count; i++) {
        if (!items.all[i].task) {
            dump_operation(dump, &items, &items.all[i]);
        }
    }
    pier__free(items.all);
}

static void dump_futures(pier__dump *dump, pier_runner *runner)
{
    struct items items;
    if (!copy_list(runner, true, &items)) {
        dump->short_of_memory = true;
        return;
    }
    for (size_t i = 0; i < items.count; i++) {
        const struct item *item = &items.all[i];
        pier__dump_line(dump, item->since, "future %s%s%s: ended%s%s, nobody has taken it",
                        item->name, *item->text ? " " : "", item->text,
                        item->status < 0 ? " with " : "",
                        item->status < 0 ? pier_status_name(item->status) : "");
    }
    pier__free(items.all);
}

/* ---- Threads, handles, the loop ----------------------------------------------------------- */

static void dump_threads_and_handles(pier__dump *dump, pier_runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    for (struct pier__waiting *at = runner->waiting; at; at = at->next) {
        struct item item;
        copy_op(&item, at->op);
        pier__dump_line(dump, at->since, "thread %d: in %s%s%s, %s", at->tid, item.name,
                        *item.text ? " " : "", item.text, item.doing ? item.doing : "waiting");
    }
    for (pier__handle *handle = runner->newest; handle; handle = handle->older) {
        if (handle->describe) {
            handle->describe(handle, dump);
        }
    }
    pthread_mutex_unlock(&runner->lock);
}

const void *pier__dump_holder(const pier__op *op)
{
    struct item item;
    copy_words(&item, op);
    return item.holder;
}

/* A thread is known by its number while it waits itself. */
void pier__dump_who(pier_runner *runner, const void *holder, char *text, size_t size)
{
    snprintf(text, size, "a thread or task that does not wait");
    for (struct pier__waiting *at = runner->waiting; at; at = at->next) {
        if (pier__dump_holder(at->op) == holder) {
            snprintf(text, size, "thread %d", at->tid);
            return;
        }
    }
    pthread_mutex_lock(&runner->ops_lock);
    for (const pier__op *op = runner->ops; op; op = op->next) {
        if (op == holder && op->cls->is_task) {
            snprintf(text, size, "task \"%s\" %p", pier__task_name((const struct pier_task *)op),
                     holder);
            break;
        }
    }
    pthread_mutex_unlock(&runner->ops_lock);
}

static void describe_thing(pier__pooled *thing, void *data)
{
    char who[64] = "";
    if (thing->held_by) {
        snprintf(who, sizeof who, " of thread %d", thing->held_by);
    } else if (thing->holder) {
        snprintf(who, sizeof who, " of task %p", thing->holder);
    }
    pier__dump_line(data, thing->held_since, "connection %p: %s%s", (void *)thing,
                    thing->holder_what ? thing->holder_what : "idle, or in use by one call", who);
}

static void describe_pool(pier__pool *pool, const char *name, pier__dump *dump)
{
    pier_pool_stats stats = {0};
    pier__pool_add_stats(pool, &stats);
    pier__dump_line(dump, 0, "pool %s: %d of %d %ss, %d of them idle, %d waiting for one", name,
                    stats.size, stats.max, pool->what, stats.idle, stats.waiting);
    pier__pool_each(pool, describe_thing, dump);
}

void pier__db_describe(pier__handle *handle, pier__dump *dump)
{
    pier_db *root = (pier_db *)handle;
    describe_pool(&root->pool, root->name, dump);
    if (root->readers) {
        describe_pool(root->readers, root->name, dump);
    }
}

/* The name of the task that the loop is in: of one that is in the list, so that it lives. */
static void name_task(pier_runner *runner, const void *op, char *name, size_t size)
{
    pthread_mutex_lock(&runner->ops_lock);
    for (const pier__op *at = runner->ops; at; at = at->next) {
        if (at == op && at->cls->is_task) {
            snprintf(name, size, " \"%s\"", pier__task_name((const struct pier_task *)at));
        }
    }
    pthread_mutex_unlock(&runner->ops_lock);
}

static void dump_loop(pier__dump *dump, pier_runner *runner)
{
    static const char *const states[] = {"open", "closing", "closed"};
    pier_loop_stats stats;
    pier_runner_stats(runner, &stats);
    pier__dump_line(dump, 0,
                    "runner %s: %s, %" PRId64 " tasks, %" PRId64 " operations, %" PRId64
                    " threads in calls, %" PRId64 " futures that nobody has taken",
                    runner->name, states[atomic_load(&runner->state)], stats.tasks,
                    stats.operations, stats.threads, stats.futures);
    char task[80] = "";
    const char *kind = atomic_load(&runner->seen.kind);
    if (kind) {
        name_task(runner, atomic_load(&runner->seen.op), task, sizeof task);
        pier__dump_line(dump, atomic_load(&runner->seen.since), "loop: in %s %s%s", kind,
                        atomic_load(&runner->seen.name), task);
    } else {
        pier__dump_line(dump, atomic_load(&runner->seen.since), "loop: %s",
                        stats.busy_us ? "at work" : "waiting for events");
    }
    if (stats.waiting_us) {
        pier__dump_line(dump, dump->now - stats.waiting_us * 1000,
                        "loop: has not come to what other threads have given it");
    }
}

/* ---- Public ------------------------------------------------------------------------------- */

void pier_runner_stats(pier_runner *runner, pier_loop_stats *stats)
{
    memset(stats, 0, sizeof *stats);
    if (!runner || pier__runner_forked(runner)) {
        return;
    }
    struct pier__loop_state *seen = &runner->seen;
    stats->steps = atomic_load(&seen->steps);
    stats->callbacks = atomic_load(&seen->callbacks);
    stats->slow = atomic_load(&seen->slow);
    stats->slowest_us = atomic_load(&seen->slowest) / 1000;
    stats->lag_us = atomic_load(&seen->lag) / 1000;
    stats->lag_max_us = atomic_load(&seen->lag_max) / 1000;
    int64_t since = atomic_load(&seen->since);
    int64_t now = pier__now();
    stats->busy_us = since && now > since ? (now - since) / 1000 : 0;
    pthread_mutex_lock(&runner->lock);
    stats->waiting_us = runner->inbox ? (now - runner->inbox_since) / 1000 : 0;
    pthread_mutex_unlock(&runner->lock);
    pthread_mutex_lock(&runner->ops_lock);
    stats->tasks = runner->tasks_count;
    stats->operations = runner->ops_count;
    stats->futures = runner->unread_count;
    pthread_mutex_unlock(&runner->ops_lock);
    stats->threads = atomic_load(&runner->threads);
}

int pier_runner_dump(pier_runner *runner, pier_dump_fn fn, void *user_data)
{
    if (!runner || !fn) {
        return PIER_EINVAL;
    }
    if (pier__runner_forked(runner)) {
        return PIER_EFORKED;
    }
    pier__dump dump = {.now = pier__now()};
    pier__runner_ref(runner);
    dump_loop(&dump, runner);
    dump_operations(&dump, runner);
    dump_threads_and_handles(&dump, runner);
    pier__groups_describe(runner, &dump);
    dump_futures(&dump, runner);
    pier__runner_unref(runner);
    for (size_t at = 0; at < dump.length; at += strlen(dump.text + at) + 1) {
        fn(dump.text + at, user_data);
    }
    pier__free(dump.text);
    return dump.short_of_memory ? PIER_ENOMEM : 0;
}

struct sink {
    int fd;
    int status;
};

static void write_all(struct sink *sink, const char *text, size_t size)
{
    while (size && sink->status == 0) {
        ssize_t written = write(sink->fd, text, size);
        if (written < 0 && errno != EINTR) {
            sink->status = PIER_EIO;
        } else if (written > 0) {
            text += written;
            size -= (size_t)written;
        }
    }
}

static void write_line(const char *line, void *user_data)
{
    write_all(user_data, line, strlen(line));
    write_all(user_data, "\n", 1);
}

int pier_runner_dump_fd(pier_runner *runner, int fd)
{
    struct sink sink = {.fd = fd};
    int status = pier_runner_dump(runner, write_line, &sink);
    return status < 0 ? status : sink.status;
}
