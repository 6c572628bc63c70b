/*
 * Runners: opening, the loop's thread, and closing.
 *
 * Close always runs on a plain thread: the caller's, or one made for it when the caller is on the
 * loop thread. It refuses new work, cancels what is under way, waits for it within its bound,
 * closes the handles newest first, and then lets the loop end. What cannot be ended in time keeps
 * the runner's memory and thread until it ends by itself.
 */
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/fiber.h"
#include "sdk/hooks.h"
#include "sdk/loop_internal.h"
#include "sdk/options.h"
#include "sdk/resolve.h"
#include "sdk/seen.h"
#include "sdk/scope.h"
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

enum { CLOSE_TIMEOUT_MS = 10000, STACK_SIZE_MIN = 16 * 1024, STACK_SIZE_MAX = 1 << 30 };
/* What is longer is never. */
enum { SLOW_MS = 100, SLOW_MAX_MS = 1000000000 };

unsigned pier__fork_generation;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int init_status;

static void in_child(void)
{
    pier__fork_generation++;
    memset(&pier__here, 0, sizeof pier__here);
    pier__blocked_forked();
    pier__seen_forked();
}

static void init_process(void)
{
    pthread_atfork(NULL, NULL, in_child);
    for (int (*const *init)(void) = pier__driver_inits; *init && !init_status; init++) {
        init_status = (*init)();
    }
}

/* Is the caller in a shield, where work starts while the runner closes? */
static bool is_shielded(void)
{
    return pier__here.scope && pier__here.scope->shielded;
}

int pier__runner_check(const pier_runner *runner, const char *what, pier_error *err)
{
    if (!runner) {
        return pier__error_null(err, what);
    }
    if (pier__runner_forked(runner)) {
        return pier_error_set(
            err, PIER_EFORKED,
            "this process was forked after the runner was opened; open a new one here");
    }
    int state = atomic_load_explicit(&((pier_runner *)runner)->state, memory_order_acquire);
    if (state && !(state == PIER__CLOSING && is_shielded())) {
        return pier_error_set(err, PIER_ECLOSED, "the runner is closed");
    }
    return 0;
}

/* ---- Opening ------------------------------------------------------------------------------ */

void pier__runner_unref(pier_runner *runner)
{
    if (atomic_fetch_sub_explicit(&runner->refs, 1, memory_order_acq_rel) == 1) {
        if (runner->executor) {
            pier__executor_unref(runner->executor);
        }
        pier__gates_free(runner->dead);
        pthread_mutex_destroy(&runner->lock);
        pthread_mutex_destroy(&runner->ops_lock);
        pier__seen_freed(runner);
        pier__free(runner);
    }
}

/* Nothing runs on it any more. */
static void free_runner(pier_runner *runner)
{
    pier__fiber_pool_free(runner->fibers);
    runner->fibers = NULL;
    pier__runner_unref(runner);
}

static int init_handles(pier_runner *runner)
{
    int rc = uv_async_init(runner->uv, &runner->async, pier__loop_on_async);
    if (rc == 0) {
        uv_timer_init(runner->uv, &runner->timer);
        uv_idle_init(runner->uv, &runner->idle);
        uv_check_init(runner->uv, &runner->check);
        uv_check_start(&runner->check, pier__loop_on_check);
        runner->async.data = runner->timer.data = runner->idle.data = runner->check.data = runner;
        runner->handles = 4;
        atomic_store(&runner->async_open, true);
        runner->inbox_open = true;
        /* The inbox keeps a user's loop alive until the runner is stopped; the others need not. */
        uv_unref((uv_handle_t *)&runner->timer);
        uv_unref((uv_handle_t *)&runner->idle);
        uv_unref((uv_handle_t *)&runner->check);
    }
    return rc;
}

struct start {
    pier_runner *runner;
    atomic_uint ready;
};

static void *run_loop(void *arg)
{
    struct start *start = arg;
    pier_runner *runner = start->runner;
    runner->thread = pthread_self();
    pier__here.loops = 1;
    atomic_store(&start->ready, 1);
    pier__word_wake(&start->ready);
    uv_run(&runner->own_loop, UV_RUN_DEFAULT);
    /* The last handle's close callback ended the run. Nothing can be left in the loop. */
    pier__runner_loop_ended(runner);
    return NULL;
}

int pier__thread_start(pthread_t *thread, const char *name, void *(*run)(void *arg), void *arg)
{
    /* Signals are the application's: no thread of the library takes any. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
#if defined(__linux__)
    if (rc == 0) {
        pthread_setname_np(*thread, name);
    }
#endif
    return rc;
}

static int start_thread(pier_runner *runner)
{
    struct start start = {.runner = runner};
    pthread_t thread;
    int rc = pier__thread_start(&thread, runner->name, run_loop, &start);
    if (rc == 0) {
        while (!atomic_load(&start.ready)) {
            pier__word_wait(&start.ready, 0, 0);
        }
    }
    return rc;
}

static pier_runner *new_runner(const pier_runner_options *options, pier_error *err)
{
    if (options->tasks_max < 0 || (options->stack_size && (options->stack_size < STACK_SIZE_MIN ||
                                                           options->stack_size > STACK_SIZE_MAX))) {
        pier_error_set(
            err, PIER_EINVAL,
            "pier_runner_open: tasks_max must not be negative, stack_size be from 16 KiB "
            "to 1 GiB");
        return NULL;
    }
    pier_runner *runner = pier__calloc(1, sizeof *runner);
    struct pier__fiber_pool *fibers =
        runner ? pier__fiber_pool_new(options->stack_size, options->tasks_max) : NULL;
    if (!fibers) {
        pier__free(runner);
        pier_error_set(err, PIER_ENOMEM, "pier_runner_open: out of memory");
        return NULL;
    }
    snprintf(runner->name, sizeof runner->name, "%s", options->name ? options->name : "pier");
    runner->fibers = fibers;
    runner->uv = options->loop ? options->loop : &runner->own_loop;
    runner->owns_loop = !options->loop;
    runner->close_timeout_ms =
        options->close_timeout_ms ? options->close_timeout_ms : CLOSE_TIMEOUT_MS;
    atomic_init(&runner->refs, 1);
    runner->fork_generation = pier__fork_generation;
    runner->inbox_tail = &runner->inbox;
    runner->ready_tail = &runner->ready;
    runner->late_tail = &runner->late;
    pthread_mutex_init(&runner->lock, NULL);
    pthread_mutex_init(&runner->ops_lock, NULL);
    pier__seen_opened(runner);
    int64_t slow_ms = options->slow_ms ? options->slow_ms : SLOW_MS;
    runner->slow_ns = slow_ms < 0 ? 0 : slow_ms < SLOW_MAX_MS ? slow_ms * 1000000 : INT64_MAX;
    return runner;
}

static pier_runner *open_on_own_loop(pier_runner *runner, pier_error *err)
{
    int rc = uv_loop_init(&runner->own_loop);
    if (rc == 0) {
        rc = init_handles(runner);
        if (rc == 0) {
            rc = -start_thread(runner);
            if (rc == 0) {
                return runner;
            }
            uv_close((uv_handle_t *)&runner->async, NULL);
            uv_close((uv_handle_t *)&runner->timer, NULL);
            uv_close((uv_handle_t *)&runner->idle, NULL);
            uv_close((uv_handle_t *)&runner->check, NULL);
            uv_run(&runner->own_loop, UV_RUN_DEFAULT);
        }
        uv_loop_close(&runner->own_loop);
    }
    pier__error_system(err, PIER_EIO, -rc, "pier_runner_open: no event loop");
    free_runner(runner);
    return NULL;
}

pier_runner *pier_runner_open(const pier_runner_options *options, pier_error *err)
{
    pier_runner_options read = {.struct_size = 0};
    if (pier__options_read(&read, sizeof read, options, "PIER_RUNNER_OPTIONS", err) < 0) {
        return NULL;
    }
    pier__alloc_in_use();
    pthread_once(&once, init_process);
    if (init_status) {
        pier_error_set(err, PIER_EIO, "pier_runner_open: a library below could not be set up");
        return NULL;
    }
    pier_runner *runner = new_runner(&read, err);
    if (!runner || runner->owns_loop) {
        return runner ? open_on_own_loop(runner, err) : NULL;
    }
    int rc = init_handles(runner);
    if (rc) {
        pier__error_system(err, PIER_EIO, -rc, "pier_runner_open: the loop takes no handle");
        free_runner(runner);
        return NULL;
    }
    runner->thread = pthread_self();
    pier__here.loops++;
    return runner;
}

/* ---- Handles ------------------------------------------------------------------------------ */

bool pier__handle_open(pier__handle *handle, pier_runner *runner,
                       void (*close)(pier__handle *handle))
{
    handle->runner = runner;
    handle->close = close;
    handle->newer = NULL;
    pthread_mutex_lock(&runner->lock);
    int state = atomic_load(&runner->state);
    bool open = !state || (state == PIER__CLOSING && !runner->handles_closed && is_shielded());
    if (open) {
        handle->older = runner->newest;
        if (handle->older) {
            handle->older->newer = handle;
        }
        runner->newest = handle;
    } else {
        handle->close = NULL;
    }
    pthread_mutex_unlock(&runner->lock);
    return open;
}

/* Under the lock. */
static void take_out(pier__handle *handle)
{
    handle->close = NULL;
    *(handle->newer ? &handle->newer->older : &handle->runner->newest) = handle->older;
    if (handle->older) {
        handle->older->newer = handle->newer;
    }
}

pier__handle *pier__handle_take(pier_runner *runner,
                                bool (*is)(const pier__handle *handle, const void *data),
                                const void *data)
{
    pthread_mutex_lock(&runner->lock);
    pier__handle *handle = runner->newest;
    while (handle && !is(handle, data)) {
        handle = handle->older;
    }
    if (handle) {
        take_out(handle);
    }
    pthread_mutex_unlock(&runner->lock);
    return handle;
}

bool pier__handle_leave(pier__handle *handle)
{
    pier_runner *runner = handle->runner;
    pthread_mutex_lock(&runner->lock);
    bool was_in = handle->close != NULL;
    if (was_in) {
        take_out(handle);
    }
    pthread_mutex_unlock(&runner->lock);
    return was_in;
}

/* ---- Closing ------------------------------------------------------------------------------ */

/* Shared by who closes and the loop's last callback; freed by whoever lets go last. */
struct pier__closer {
    atomic_int refs;
    atomic_uint gone; /* the runner has been freed */
};

static void unref_closer(struct pier__closer *closer)
{
    if (closer && atomic_fetch_sub(&closer->refs, 1) == 1) {
        pier__free(closer);
    }
}

static void pause_briefly(void)
{
    struct timespec pause = {0, 1000000};
    nanosleep(&pause, NULL);
}

/* The loop has no handle of the runner's left: its last moment, on the loop thread. */
void pier__runner_loop_ended(pier_runner *runner)
{
    struct pier__closer *closer = runner->closer;
    pier_runner_stop_cb cb = runner->stop_cb;
    void *data = runner->stop_data;
    if (runner->owns_loop) {
        uv_loop_close(&runner->own_loop);
    }
    pier__here.loops--;
    free_runner(runner);
    if (cb) {
        cb(data);
    }
    if (closer) {
        atomic_store(&closer->gone, 1);
        pier__word_wake(&closer->gone);
        unref_closer(closer);
    }
}

static void on_handle_closed(uv_handle_t *handle)
{
    pier_runner *runner = handle->data;
    if (--runner->handles == 0 && !runner->owns_loop) {
        pier__runner_loop_ended(runner);
    }
}

/* Shuts the inbox; false: something is in it still. */
static bool shut_inbox(pier_runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    bool empty = !runner->inbox;
    if (empty) {
        runner->inbox_open = false;
    }
    pthread_mutex_unlock(&runner->lock);
    return empty;
}

static void end_loop(pier_runner *runner)
{
    atomic_store(&runner->async_open, false);
    while (atomic_load(&runner->senders)) {
        /* A signal handler on another thread is inside uv_async_send: a write, then it leaves. */
    }
    uv_close((uv_handle_t *)&runner->async, on_handle_closed);
    uv_close((uv_handle_t *)&runner->timer, on_handle_closed);
    uv_close((uv_handle_t *)&runner->idle, on_handle_closed);
    uv_close((uv_handle_t *)&runner->check, on_handle_closed);
}

static bool has_tasks(const pier_runner *runner)
{
    const pier__op *op = runner->ops;
    while (op && !op->cls->joins) {
        op = op->next;
    }
    return op != NULL;
}

/* Called whenever an operation has left the loop's list, and by close. */
void pier__runner_op_ended(pier_runner *runner)
{
    if (runner->awaits_tasks && !has_tasks(runner)) {
        runner->awaits_tasks = false;
        atomic_store(&runner->tasks_gone, 1);
        pier__word_wake(&runner->tasks_gone);
    }
    if (!runner->draining || runner->ops) {
        return;
    }
    if (runner->end_later) {
        /* Posted, because callbacks of that operation are ready now. */
        pier__loop_post(runner, runner->end_later);
        runner->end_later = NULL;
    } else {
        atomic_store(&runner->drained, 1);
        pier__word_wake(&runner->drained);
    }
}

struct request {
    pier__post post;
    pier_runner *runner;
};

static void on_cancel_all(pier__post *post)
{
    pier_runner *runner = ((struct request *)post)->runner;
    pier__free(post);
    pier__loop_look_at_all(runner);
}

static void on_await_tasks(pier__post *post)
{
    pier_runner *runner = ((struct request *)post)->runner;
    pier__free(post);
    runner->awaits_tasks = true;
    pier__runner_op_ended(runner);
}

static void on_drain(pier__post *post)
{
    pier_runner *runner = ((struct request *)post)->runner;
    pier__free(post);
    runner->draining = true;
    pier__runner_op_ended(runner);
}

/* What close could not wait for any longer. */
static void log_left(const pier_runner *runner)
{
    for (const pier__op *op = runner->ops; op; op = op->next) {
        pier__log(PIER_LOG_WARNING, "%s: closed while %s, still %s; left to end by itself",
                  runner->name, op->cls->name, op->doing ? op->doing : "waiting");
    }
}

static void on_end(pier__post *post)
{
    pier_runner *runner = ((struct request *)post)->runner;
    /* Where something is left (close gave up waiting for it, or a callback began to close a
     * handle), the loop ends with its last operation. */
    if (runner->ops) {
        log_left(runner);
        runner->end_later = post;
    } else if (runner->ready || !shut_inbox(runner)) {
        /* Callbacks first: none is lost, and none may run when the handles are closing. */
        pier__loop_post(runner, post);
    } else {
        pier__free(post);
        end_loop(runner);
    }
}

/* Requests are made when the runner closes, so a failure is waited out rather than reported. */
static void ask_loop(pier_runner *runner, void (*run)(pier__post *post))
{
    struct request *request;
    while (!(request = pier__malloc(sizeof *request))) {
        pause_briefly();
    }
    request->post.run = run;
    request->runner = runner;
    if (!pier__loop_post(runner, &request->post)) {
        pier__free(request);
    }
}

static void wake_waiting(pier_runner *runner)
{
    pthread_mutex_lock(&runner->lock);
    for (struct pier__waiting *entry = runner->waiting; entry; entry = entry->next) {
        pier__unpark(entry->parker);
    }
    pthread_mutex_unlock(&runner->lock);
}

static void wait_for_threads(pier_runner *runner, int64_t until)
{
    for (int count; (count = atomic_load(&runner->threads)) > 0;) {
        if (pier__now() >= until) {
            return;
        }
        wake_waiting(runner);
        pier__word_wait(&runner->threads, (uint32_t)count,
                        pier__earlier(until, pier__now() + 20000000));
    }
}

/* ---- Shields ------------------------------------------------------------------------------ */

void pier__runner_shield(pier_runner *runner, int64_t until)
{
    pier__runner_ref(runner);
    int64_t latest = atomic_load(&runner->shielded_until);
    while (latest < until &&
           !atomic_compare_exchange_weak(&runner->shielded_until, &latest, until)) {
    }
    atomic_fetch_add(&runner->shields, 1);
}

void pier__runner_unshield(pier_runner *runner)
{
    if (!pier__runner_forked(runner)) {
        atomic_fetch_sub(&runner->shields, 1);
        pier__word_wake(&runner->shields);
    }
    pier__runner_unref(runner);
}

/* Shields of the thread that closes, which it cannot wait for. */
static int own_shields(const pier_runner *runner)
{
    int count = 0;
    for (const pier_scope *scope = pier__here.scope; scope; scope = scope->parent) {
        count += scope->shield && scope->runner == runner;
    }
    return count;
}

/* Those of other threads, between two calls; tasks have been waited for. */
static void wait_for_shields(pier_runner *runner, int64_t until)
{
    int own = own_shields(runner);
    for (int count; (count = atomic_load(&runner->shields)) > own;) {
        int64_t end = pier__earlier(until, atomic_load(&runner->shielded_until));
        if (pier__now() >= end) {
            return;
        }
        pier__word_wait(&runner->shields, (uint32_t)count, end);
    }
}

/* Tasks clean up with the handles that they opened, which must be there still. Half of the time
 * that is left is for them. */
static void wait_for_tasks(pier_runner *runner, int64_t until)
{
    int64_t now = pier__now();
    int64_t half = until == INT64_MAX ? until : now + (until - now) / 2;
    ask_loop(runner, on_await_tasks);
    while (!atomic_load(&runner->tasks_gone) && pier__now() < half) {
        pier__word_wait(&runner->tasks_gone, 0, half);
    }
}

static void close_handles(pier_runner *runner)
{
    for (;;) {
        pthread_mutex_lock(&runner->lock);
        pier__handle *handle = runner->newest;
        void (*close)(pier__handle *) = handle ? handle->close : NULL;
        runner->handles_closed = !handle;
        pthread_mutex_unlock(&runner->lock);
        if (!handle) {
            return;
        }
        close(handle);
    }
}

/* True: the loop has nothing left to step. */
static bool wait_for_loop(pier_runner *runner, int64_t until)
{
    ask_loop(runner, on_drain);
    while (!atomic_load(&runner->drained) && pier__now() < until) {
        pier__word_wait(&runner->drained, 0, until);
    }
    return atomic_load(&runner->drained);
}

/* On a plain thread, after the state has become PIER__CLOSING. */
static void close_here(pier_runner *runner)
{
    struct pier__closer *closer = pier__calloc(1, sizeof *closer);
    if (closer) {
        atomic_init(&closer->refs, 2);
    }
    pthread_t thread = runner->thread;
    bool owns_loop = runner->owns_loop;
    int64_t until = pier__deadline(runner->close_timeout_ms, 0);
    runner->close_until = until;
    until = until ? until : INT64_MAX;
    ask_loop(runner, on_cancel_all);
    wait_for_threads(runner, until);
    ask_loop(runner, on_cancel_all); /* what those threads left to the loop */
    wait_for_tasks(runner, until);
    wait_for_shields(runner, until);
    close_handles(runner);
    bool drained = wait_for_loop(runner, until);
    runner->closer = closer;
    atomic_store(&runner->state, PIER__CLOSED);
    ask_loop(runner, on_end);
    if (owns_loop && drained) {
        pthread_join(thread, NULL);
    } else if (owns_loop) {
        pthread_detach(thread);
    } else {
        /* A user's loop that is not running frees the runner when it runs again. */
        while (closer && !atomic_load(&closer->gone) && pier__now() < until) {
            pier__word_wait(&closer->gone, 0, until);
        }
    }
    unref_closer(closer);
}

static bool begin_close(pier_runner *runner)
{
    int expected = PIER__OPEN_RUNNER;
    /* Under the lock, so that no handle is opened once the state has changed. */
    pthread_mutex_lock(&runner->lock);
    bool mine = atomic_compare_exchange_strong(&runner->state, &expected, PIER__CLOSING);
    pthread_mutex_unlock(&runner->lock);
    return mine;
}

static void close_detached(void *arg)
{
    close_here(arg);
}

void pier_runner_stop(pier_runner *runner, pier_runner_stop_cb cb, void *user_data)
{
    if (!runner) {
        return;
    }
    if (pier__runner_forked(runner)) {
        /* The loop's descriptors and thread are the parent's; only the memory is ours. */
        free_runner(runner);
        return;
    }
    if (begin_close(runner)) {
        runner->stop_cb = cb;
        runner->stop_data = user_data;
        while (!pier__thread_detached("pier-close", close_detached, runner)) {
            pause_briefly();
        }
    }
}

void pier_runner_close(pier_runner *runner)
{
    if (!runner) {
        return;
    }
    /* Whoever is part of what must end cannot wait for its end. */
    if (pier__loop_is_any() || pier__here.lane || pier__here.working ||
        pier__runner_forked(runner)) {
        pier_runner_stop(runner, NULL, NULL);
    } else if (begin_close(runner)) {
        close_here(runner);
    }
}
