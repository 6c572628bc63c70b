/*
 * Executors: threads behind one FIFO queue. A job is an operation that waits to be told that a
 * worker has run it; the queue and the workers hold references, so that a job which never ends
 * keeps nothing but itself and its executor.
 */
#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/deadlock.h"
#include "sdk/dump.h"
#include "sdk/options.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <pier/async/executor.h>
#include <stdio.h>
#include <unistd.h>

enum { QUEUE_MAX = 1024, THREADS_MAX = 1024, END_TIMEOUT_MS = 10000 };

struct worker {
    struct worker *next; /* all of the executor's */
    pier_executor *executor;
    pthread_t thread;
    struct worker *next_idle;
    pier__parker *parker;
    bool idle;  /* guarded by the executor's lock */
    bool ended; /* guarded by the executor's lock */
    bool alone; /* guarded by the executor's lock: nobody will join it */
};

struct job {
    pier__op op; /* first */
    struct job *next;
    pier_executor *executor; /* holds a reference */
    pier_executor_fn fn;
    void *arg;
    bool queued;  /* guarded by the executor's lock */
    bool counted; /* guarded by the executor's lock: among those that its workers wait for */
    int returned;
    pier_error err;
};

struct pier_executor {
    pier__handle handle;
    /* Immutable after open. */
    pier_runner *runner;
    char name[16];
    int threads_max, queue_max;

    atomic_int refs;
    atomic_uint live; /* workers that have not ended */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    struct worker *workers, *idle;
    int threads, queued;
    int self_waiting; /* workers that wait for a job of this very executor */
    bool ending;
    struct job *head, **tail;
};

void pier__executor_unref(pier_executor *executor)
{
    if (atomic_fetch_sub(&executor->refs, 1) == 1) {
        while (executor->workers) {
            struct worker *worker = executor->workers;
            executor->workers = worker->next;
            pier__free(worker);
        }
        pthread_mutex_destroy(&executor->lock);
        pier__free(executor);
    }
}

/* ---- Workers ------------------------------------------------------------------------------ */

/* Under the lock. */
static struct job *pop_job(pier_executor *executor)
{
    struct job *job = executor->head;
    if (job) {
        executor->head = job->next;
        if (!executor->head) {
            executor->tail = &executor->head;
        }
        executor->queued--;
        job->queued = false;
    }
    return job;
}

/* Under the lock. */
static void leave_idle(struct worker *worker)
{
    for (struct worker **at = &worker->executor->idle; *at; at = &(*at)->next_idle) {
        if (*at == worker) {
            *at = worker->next_idle;
            break;
        }
    }
    worker->idle = false;
}

/* The next job, NULL when the executor ends. */
static struct job *next_job(struct worker *worker)
{
    pier_executor *executor = worker->executor;
    for (;;) {
        pthread_mutex_lock(&executor->lock);
        struct job *job = pop_job(executor);
        bool ending = executor->ending;
        if ((job || ending) && worker->idle) {
            leave_idle(worker);
        } else if (!job && !ending && !worker->idle) {
            worker->idle = true;
            worker->next_idle = executor->idle;
            executor->idle = worker;
        }
        pthread_mutex_unlock(&executor->lock);
        if (job || ending) {
            return job;
        }
        pier__park(worker->parker, 0);
    }
}

/* Whoever waits for it goes on. Before that thread has been woken this one may take the next job.
 */
static void stop_counting(struct job *job)
{
    pier_executor *executor = job->executor;
    pthread_mutex_lock(&executor->lock);
    executor->self_waiting -= job->counted;
    job->counted = false;
    pthread_mutex_unlock(&executor->lock);
}

static void do_job(struct job *job)
{
    struct pier__working working = {.op = &job->op};
    pier__here.working = &working;
    job->returned = job->fn(job->arg, &job->err);
    pier__here.working = NULL;
    stop_counting(job);
    pier__op_mail(&job->op, PIER__WORKED);
    pier__op_unref(&job->op);
}

static void *run(void *arg)
{
    struct worker *worker = arg;
    pier_executor *executor = worker->executor;
    pier__here.executor = executor;
    /* Without a parker it looks for jobs again and again, a second apart. */
    worker->parker = pier__parker_self();
    for (struct job *job; (job = next_job(worker));) {
        do_job(job);
    }
    pthread_mutex_lock(&executor->lock);
    worker->ended = true;
    bool alone = worker->alone;
    pthread_mutex_unlock(&executor->lock);
    if (alone) {
        pthread_detach(pthread_self());
    }
    atomic_fetch_sub(&executor->live, 1);
    pier__word_wake(&executor->live);
    pier__executor_unref(executor);
    return NULL;
}

/* Under the lock: one more thread, if there may be one. */
static void start_worker(pier_executor *executor)
{
    struct worker *worker = pier__calloc(1, sizeof *worker);
    if (!worker) {
        return;
    }
    worker->executor = executor;
    atomic_fetch_add(&executor->refs, 1);
    atomic_fetch_add(&executor->live, 1);
    if (pier__thread_start(&worker->thread, executor->name, run, worker)) {
        atomic_fetch_sub(&executor->live, 1);
        atomic_fetch_sub(&executor->refs, 1);
        pier__free(worker);
        return;
    }
    executor->threads++;
    worker->next = executor->workers;
    executor->workers = worker;
}

/* ---- Jobs --------------------------------------------------------------------------------- */

/* Queues it and has somebody run it. 0 or a status. */
static int enqueue(pier_executor *executor, struct job *job)
{
    int status = 0;
    pier__parker *wake = NULL;
    bool here = pier__here.executor == executor && !job->op.on_loop;
    pthread_mutex_lock(&executor->lock);
    if (executor->ending) {
        status = PIER_ECLOSED;
    } else if (here && executor->self_waiting + 1 >= executor->threads_max) {
        status = PIER_EDEADLOCK;
    } else if (executor->queued >= executor->queue_max) {
        status = PIER_EBUSY;
    } else {
        if (!executor->idle && executor->threads < executor->threads_max) {
            start_worker(executor);
        }
        status = executor->threads ? 0 : PIER_EIO;
    }
    if (status == 0) {
        job->queued = true;
        job->next = NULL;
        *executor->tail = job;
        executor->tail = &job->next;
        executor->queued++;
        pier__op_ref(&job->op);
        job->counted = here;
        executor->self_waiting += here;
        struct worker *idle = executor->idle;
        if (idle) {
            leave_idle(idle);
            wake = idle->parker;
        }
    }
    pthread_mutex_unlock(&executor->lock);
    pier__unpark(wake);
    return status;
}

/* Takes it out of the queue; false: it runs, or has run. */
static bool withdraw(pier_executor *executor, struct job *job)
{
    bool found = false;
    pthread_mutex_lock(&executor->lock);
    for (struct job **at = &executor->head; job->queued && *at; at = &(*at)->next) {
        if (*at == job) {
            found = true;
            *at = job->next;
            if (executor->tail == &job->next) {
                executor->tail = at;
            }
            executor->queued--;
            job->queued = false;
            break;
        }
    }
    pthread_mutex_unlock(&executor->lock);
    if (found) {
        pier__op_unref(&job->op);
    }
    return found;
}

static void refuse(struct job *job, int status)
{
    pier_executor *executor = job->executor;
    const char *why = status == PIER_EBUSY       ? "its queue is full"
                      : status == PIER_EDEADLOCK ? "every thread of it would wait for a job behind "
                                                   "it; allow more threads"
                      : status == PIER_ECLOSED   ? "it is closed"
                                                 : "no thread could be started";
    pier__op_fail(&job->op, status, "%s: executor %s: %s", job->op.cls->name, executor->name, why);
}

static void finish(struct job *job)
{
    if (job->returned >= 0) {
        pier__op_succeed_int(&job->op, job->returned);
        return;
    }
    if (job->err.status >= 0) {
        pier_error_set(&job->err, job->returned, "a job failed with %s and no message",
                       pier_status_name(job->returned));
    }
    job->err.status = job->returned;
    pier__op_fail_with(&job->op, &job->err);
}

static void job_step(pier__op *op, unsigned events)
{
    struct job *job = (struct job *)op;
    if (events & PIER__START) {
        op->doing = "waiting for a thread of an executor";
        int status = enqueue(job->executor, job);
        if (status < 0) {
            refuse(job, status);
        }
    } else if (events & PIER__WORKED) {
        finish(job);
    } else if (events & PIER__CANCEL) {
        stop_counting(job);
        if (withdraw(job->executor, job)) {
            pier__op_fail_cancelled(op);
        }
    }
}

static void job_fini(pier__op *op)
{
    pier__executor_unref(((struct job *)op)->executor);
}

static bool job_waits_for(pier__op *op, pier__walk *walk)
{
    const struct job *job = (const struct job *)op;
    pier_executor *executor = job->executor;
    pthread_mutex_lock(&executor->lock);
    bool queued = job->queued;
    int threads = executor->threads;
    pthread_mutex_unlock(&executor->lock);
    return queued ? pier__walk_executor(walk, executor, threads) : pier__walk_worker(walk, op);
}

static const pier__op_class run_class = {
    .name = "pier_executor_run",
    .result = "int",
    .size = sizeof(struct job),
    .step = job_step,
    .fini = job_fini,
    .waits_for = job_waits_for,
};

pier_future *pier__executor_run_op(pier_executor *executor, pier_executor_fn fn, void *arg)
{
    if (!executor) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    struct job *job = pier__op_new(&run_class, executor->runner, &failed);
    if (!job) {
        return failed;
    }
    atomic_fetch_add(&executor->refs, 1);
    job->executor = executor;
    job->fn = fn;
    job->arg = arg;
    return &job->op;
}

static void describe(pier__handle *handle, pier__dump *dump)
{
    pier_executor *executor = (pier_executor *)handle;
    int idle = 0;
    pthread_mutex_lock(&executor->lock);
    for (const struct worker *worker = executor->idle; worker; worker = worker->next_idle) {
        idle++;
    }
    int threads = executor->threads;
    int queued = executor->queued;
    pthread_mutex_unlock(&executor->lock);
    pier__dump_line(dump, 0, "executor %s: %d of %d threads, %d of them idle, %d of %d jobs queued",
                    executor->name, threads, executor->threads_max, idle, queued,
                    executor->queue_max);
}

/* ---- Opening and closing ------------------------------------------------------------------ */

/* Joins the workers that end in time and leaves the others to themselves. */
static void end_executor(pier_executor *executor, bool wait)
{
    pthread_mutex_lock(&executor->lock);
    executor->ending = true;
    for (struct worker *worker = executor->idle; worker; worker = worker->next_idle) {
        pier__unpark(worker->parker);
    }
    pthread_mutex_unlock(&executor->lock);
    int64_t until = wait ? pier__deadline(END_TIMEOUT_MS, 0) : 0;
    for (unsigned live; (live = atomic_load(&executor->live)) && pier__now() < until;) {
        pier__word_wait(&executor->live, live, until);
    }
    pthread_mutex_lock(&executor->lock);
    for (struct worker *worker = executor->workers; worker; worker = worker->next) {
        if (worker->ended) {
            pthread_t thread = worker->thread;
            pthread_mutex_unlock(&executor->lock);
            pthread_join(thread, NULL);
            pthread_mutex_lock(&executor->lock);
        } else {
            worker->alone = true;
        }
    }
    pthread_mutex_unlock(&executor->lock);
    pier__executor_unref(executor);
}

static void close_handle(pier__handle *handle)
{
    if (pier__handle_leave(handle)) {
        end_executor((pier_executor *)handle, true);
    }
}

static pier_executor *new_executor(pier_runner *runner, const pier_executor_options *options)
{
    pier_executor *executor = pier__calloc(1, sizeof *executor);
    if (executor) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        executor->runner = runner;
        executor->threads_max =
            options->threads ? options->threads : (cores > 0 ? (int)cores : 1) + 4;
        executor->queue_max = options->queue_max ? options->queue_max : QUEUE_MAX;
        snprintf(executor->name, sizeof executor->name, "%s",
                 options->name ? options->name : "pier-executor");
        atomic_init(&executor->refs, 1);
        executor->handle.describe = describe;
        pthread_mutex_init(&executor->lock, NULL);
        executor->tail = &executor->head;
    }
    return executor;
}

pier_executor *pier_executor_open(pier_runner *runner, const pier_executor_options *options,
                                  pier_error *err)
{
    pier_executor_options read = {.struct_size = 0};
    if (pier__runner_check(runner, "pier_executor_open: the runner", err) < 0 ||
        pier__options_read(&read, sizeof read, options, "PIER_EXECUTOR_OPTIONS", err) < 0) {
        return NULL;
    }
    if (read.threads < 0 || read.threads > THREADS_MAX || read.queue_max < 0) {
        pier_error_set(err, PIER_EINVAL, "pier_executor_open: %d threads, a queue of %d; 1 to %d",
                       read.threads, read.queue_max, THREADS_MAX);
        return NULL;
    }
    pier_executor *executor = new_executor(runner, &read);
    if (!executor) {
        pier_error_set(err, PIER_ENOMEM, "pier_executor_open: out of memory");
    } else if (!pier__handle_open(&executor->handle, runner, close_handle)) {
        pier__executor_unref(executor);
        executor = NULL;
        pier_error_set(err, PIER_ECLOSED, "pier_executor_open: the runner is closed");
    }
    return executor;
}

void pier_executor_close(pier_executor *executor)
{
    if (!executor || pier__runner_forked(executor->runner)) {
        return; /* a forked child has none of the threads, and leaves the memory alone */
    }
    if (pier__handle_leave(&executor->handle)) {
        end_executor(executor, !pier__here.loops && pier__here.executor != executor);
    }
}

/* ---- The runner's own --------------------------------------------------------------------- */

static pier_executor *own_executor(pier_runner *runner, pier_error *err)
{
    pier_executor *executor = atomic_load(&runner->executor);
    if (executor) {
        return executor;
    }
    pier_executor *made = pier_executor_open(runner, NULL, err);
    if (made) {
        atomic_fetch_add(&made->refs, 1); /* the runner's: its memory lives as long */
    }
    if (made && !atomic_compare_exchange_strong(&runner->executor, &executor, made)) {
        pier_executor_close(made);
        pier__executor_unref(made);
        return executor;
    }
    return made;
}

pier_future *pier__to_thread_op(pier_runner *runner, pier_executor_fn fn, void *arg)
{
    if (!runner) {
        return pier__op_null();
    }
    pier_error err = {0};
    int status = pier__runner_check(runner, "pier_to_thread: the runner", &err);
    pier_executor *executor = status < 0 ? NULL : own_executor(runner, &err);
    if (executor) {
        return pier__executor_run_op(executor, fn, arg);
    }
    pier__op *constant = pier__op_failed(err.status);
    return constant ? constant : pier__op_nomem();
}
