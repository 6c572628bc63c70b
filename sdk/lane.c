/*
 * Lanes. The thread and the user share the lane; whoever lets go last frees it, so that a job which
 * never ends keeps nothing but itself.
 */
#include "sdk/lane.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/dump.h"
#include "sdk/handle.h"
#include "sdk/runner.h"
#include "sync/ops.h"
#include <stdio.h>
#include <string.h>

/* How long the end of a lane waits for the job that runs, before it leaves the thread alone. */
enum { END_TIMEOUT_MS = 10000 };

/* Jobs that a lane takes before it refuses more, as many as an executor does by default. */
enum { JOBS_MAX = 1024 };

struct pier_lane {
    pier__handle handle;
    pier_runner *runner;
    char name[16];
    atomic_int refs;
    pthread_mutex_t lock;
    atomic_uint ended; /* the thread has done its last job */
    atomic_int coming; /* jobs submitted that the loop has not queued here yet */
    atomic_int jobs;   /* the user's that have not ended */
    /* Guarded by lock. */
    pthread_t thread;
    bool started, ending;
    bool alone;             /* nobody will join the thread */
    pier__parker *idle;     /* of the thread, while it waits for a job */
    pier__op *head, **tail; /* each holds a reference */
    const char *running;    /* the name of the job under way; NULL: none */
    int64_t running_since;

    pier__post last; /* close: behind the jobs that the loop has not queued here yet */
};

static void unref_lane(pier_lane *lane)
{
    if (atomic_fetch_sub(&lane->refs, 1) == 1) {
        pthread_mutex_destroy(&lane->lock);
        pier__free(lane);
    }
}

static void describe(pier__handle *handle, pier__dump *dump)
{
    pier_lane *lane = (pier_lane *)handle;
    int queued = 0;
    pthread_mutex_lock(&lane->lock);
    for (const pier__op *op = lane->head; op; op = op->lane_next) {
        queued++;
    }
    const char *running = lane->running;
    int64_t since = lane->running_since;
    pthread_mutex_unlock(&lane->lock);
    pier__dump_line(dump, since, "lane %s: %d queued, %s%s", lane->name, queued,
                    running ? "running " : "idle", running ? running : "");
}

pier_lane *pier__lane_new(pier_runner *runner, const char *name)
{
    pier_lane *lane = pier__calloc(1, sizeof *lane);
    if (lane) {
        lane->runner = runner;
        lane->handle.describe = describe;
        snprintf(lane->name, sizeof lane->name, "%s", name ? name : "pier-lane");
        atomic_init(&lane->refs, 1);
        pthread_mutex_init(&lane->lock, NULL);
        lane->tail = &lane->head;
    }
    return lane;
}

/* The next job; NULL: there is none. `*ending`: none will come. */
static pier__op *next_job(pier_lane *lane, pier__parker *parker, bool *ending)
{
    pthread_mutex_lock(&lane->lock);
    pier__op *op = lane->head;
    if (op) {
        lane->head = op->lane_next;
        if (!lane->head) {
            lane->tail = &lane->head;
        }
    }
    lane->idle = op ? NULL : parker;
    lane->running = op ? op->cls->name : NULL;
    lane->running_since = op ? pier__now() : 0;
    *ending = lane->ending;
    pthread_mutex_unlock(&lane->lock);
    return op;
}

static void do_job(pier__op *op)
{
    struct pier__working working = {.op = op};
    pier__here.working = &working;
    op->wait.work(op);
    pier__here.working = NULL;
    pier__op_mail(op, PIER__WORKED);
    pier__op_unref(op);
}

static void *run(void *arg)
{
    pier_lane *lane = arg;
    pier__here.lane = lane;
    pier__parker *parker = pier__parker_self();
    for (bool ending = false;;) {
        pier__op *op = next_job(lane, parker, &ending);
        if (op) {
            do_job(op);
        } else if (ending) {
            break;
        } else if (parker) {
            pier__park(parker, 0);
        } else {
            /* No memory for a parker: looks again when a second is over, or is asked to. */
            pier__word_wait(&lane->ended, 0, 0);
        }
    }
    pthread_mutex_lock(&lane->lock);
    atomic_store(&lane->ended, 1);
    bool alone = lane->alone;
    pthread_mutex_unlock(&lane->lock);
    pier__word_wake(&lane->ended);
    if (alone) {
        pthread_detach(pthread_self());
    }
    unref_lane(lane);
    return NULL;
}

/* Under the lock: who is to be woken once it has been released. */
static pier__parker *take_idle(pier_lane *lane)
{
    pier__parker *parker = lane->idle;
    lane->idle = NULL;
    return parker;
}

bool pier__lane_post(pier_lane *lane, pier__op *op)
{
    pthread_mutex_lock(&lane->lock);
    if (!lane->started) {
        atomic_fetch_add(&lane->refs, 1);
        lane->started = pier__thread_start(&lane->thread, lane->name, run, lane) == 0;
        if (!lane->started) {
            atomic_fetch_sub(&lane->refs, 1);
        }
    }
    bool posted = lane->started && !lane->ending;
    pier__parker *idle = NULL;
    if (posted) {
        op->lane_next = NULL;
        *lane->tail = pier__op_ref(op);
        lane->tail = &op->lane_next;
        idle = take_idle(lane);
    }
    pthread_mutex_unlock(&lane->lock);
    pier__unpark(idle);
    return posted;
}

bool pier__lane_unpost(pier_lane *lane, pier__op *op)
{
    bool found = false;
    pthread_mutex_lock(&lane->lock);
    for (pier__op **at = &lane->head; *at; at = &(*at)->lane_next) {
        if (*at == op) {
            found = true;
            *at = op->lane_next;
            if (lane->tail == &op->lane_next) {
                lane->tail = at;
            }
            break;
        }
    }
    pthread_mutex_unlock(&lane->lock);
    if (found) {
        pier__op_unref(op);
    }
    return found;
}

bool pier__lane_is_here(const pier_lane *lane)
{
    return pier__here.lane == lane;
}

/* Has the thread end after the jobs queued. */
static void end_lane(pier_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->ending = true;
    bool started = lane->started;
    pier__parker *idle = take_idle(lane);
    pthread_mutex_unlock(&lane->lock);
    pier__unpark(idle);
    if (!started) {
        atomic_store(&lane->ended, 1);
        pier__word_wake(&lane->ended);
    }
}

/* Drops the lane: joins its thread if that ends before `until` (0: does not wait), else leaves it
 * to itself. */
static void leave_lane(pier_lane *lane, int64_t until)
{
    while (!atomic_load(&lane->ended) && pier__now() < until) {
        pier__word_wait(&lane->ended, 0, until);
    }
    pthread_mutex_lock(&lane->lock);
    bool join = lane->started && atomic_load(&lane->ended);
    lane->alone = !join;
    pthread_t thread = lane->thread;
    pthread_mutex_unlock(&lane->lock);
    if (join) {
        pthread_join(thread, NULL);
    }
    unref_lane(lane);
}

static void on_last(pier__post *post)
{
    pier_lane *lane = (pier_lane *)((char *)post - offsetof(pier_lane, last));
    end_lane(lane);
    unref_lane(lane);
}

/* Jobs submitted before this call may still be in the loop's inbox: the end queues behind them. */
static void end_behind_jobs(pier_lane *lane)
{
    atomic_fetch_add(&lane->refs, 1);
    lane->last.run = on_last;
    if (!pier__loop_post(lane->runner, &lane->last)) {
        on_last(&lane->last);
    }
}

void pier__lane_free(pier_lane *lane)
{
    if (!lane) {
        return;
    }
    if (pier__runner_forked(lane->runner)) {
        lane->started = false; /* the thread stayed in the parent */
        pier__free(lane);
        return;
    }
    end_lane(lane);
    leave_lane(lane, pier__lane_is_here(lane) ? 0 : pier__deadline(END_TIMEOUT_MS, 0));
}

/* ---- Public ------------------------------------------------------------------------------- */

static void close_handle(pier__handle *handle)
{
    pier_lane *lane = (pier_lane *)handle;
    if (pier__handle_leave(handle)) {
        end_behind_jobs(lane);
        leave_lane(lane,
                   pier__earlier(pier__deadline(END_TIMEOUT_MS, 0), lane->runner->close_until));
    }
}

pier_lane *pier_lane_open(pier_runner *runner, const char *name, pier_error *err)
{
    if (pier__runner_check(runner, "pier_lane_open: the runner", err) < 0) {
        return NULL;
    }
    pier_lane *lane = pier__lane_new(runner, name);
    if (!lane) {
        pier_error_set(err, PIER_ENOMEM, "pier_lane_open: out of memory");
    } else if (!pier__handle_open(&lane->handle, runner, close_handle)) {
        unref_lane(lane);
        lane = NULL;
        pier_error_set(err, PIER_ECLOSED, "pier_lane_open: the runner is closed");
    }
    return lane;
}

void pier_lane_close(pier_lane *lane)
{
    if (!lane) {
        return;
    }
    if (pier__runner_forked(lane->runner)) {
        pier__free(lane);
    } else if (pier__handle_leave(&lane->handle)) {
        bool wait = !pier__here.loops && !pier__lane_is_here(lane);
        end_behind_jobs(lane);
        leave_lane(lane, wait ? pier__deadline(END_TIMEOUT_MS, 0) : 0);
    }
}

struct lane_op {
    pier__op op;
    pier_lane *lane; /* holds a reference */
    pier_lane_fn fn;
    void *arg;
    int returned;
    bool counted; /* in the lane's `jobs` */
    pier_error err;
};

static void lane_work(pier__op *op)
{
    struct lane_op *job = (struct lane_op *)op;
    job->returned = job->fn(job->arg, &job->err);
}

/* On a thread, whoever steps it queues it; the loop does so here, before it says so. */
static void queue_job(struct lane_op *job)
{
    pier__op *op = &job->op;
    op->wait.kind = PIER__WAIT_LANE;
    op->wait.lane = job->lane;
    op->wait.work = lane_work;
    op->working = op->on_loop && pier__lane_post(job->lane, op);
    if (op->owns) {
        atomic_fetch_sub(&job->lane->coming, 1);
    }
    if (op->on_loop && !op->working) {
        pier__op_fail(op, PIER_EIO, "pier_lane_run: the lane's thread could not be started");
    }
}

static void uncount(struct lane_op *job)
{
    if (job->counted) {
        job->counted = false;
        atomic_fetch_sub(&job->lane->jobs, 1);
    }
}

static void lane_step(pier__op *op, unsigned events)
{
    struct lane_op *job = (struct lane_op *)op;
    if (events & (PIER__WORKED | PIER__CANCEL)) {
        uncount(job);
    }
    if (events & PIER__START) {
        op->doing = "waiting for its lane";
        if (op->on_loop && !op->owns) {
            pier__op_wake(op); /* a task's call: behind what the task has submitted */
        } else {
            queue_job(job);
        }
    } else if (events & PIER__WOKEN && op->wait.kind == PIER__WAIT_WAKE) {
        queue_job(job);
    } else if (events & PIER__WORKED) {
        if (job->returned >= 0) {
            pier__op_succeed_int(op, job->returned);
            return;
        }
        if (job->err.status >= 0) {
            pier_error_set(&job->err, job->returned, "a job failed with %s and no message",
                           pier_status_name(job->returned));
        }
        job->err.status = job->returned;
        pier__op_fail_with(op, &job->err);
    } else if (events & PIER__CANCEL) {
        pier__op_fail_cancelled(op);
    }
}

static bool lane_own(pier__op *op)
{
    atomic_fetch_add(&((struct lane_op *)op)->lane->coming, 1);
    return true;
}

static void lane_unstarted(pier__op *op, const pier_error *err)
{
    (void)err;
    if (op->owns) {
        atomic_fetch_sub(&((struct lane_op *)op)->lane->coming, 1);
    }
}

static void lane_fini(pier__op *op)
{
    uncount((struct lane_op *)op);
    unref_lane(((struct lane_op *)op)->lane);
}

static const pier__op_class lane_class = {
    .name = "pier_lane_run",
    .result = "int",
    .size = sizeof(struct lane_op),
    .step = lane_step,
    .own = lane_own,
    .unstarted = lane_unstarted,
    .fini = lane_fini,
};

/* For a call that must not overtake jobs which are on their way through the loop. */
static const pier__op_class late_lane_class = {
    .name = "pier_lane_run",
    .result = "int",
    .size = sizeof(struct lane_op),
    .loop_only = true,
    .step = lane_step,
    .own = lane_own,
    .unstarted = lane_unstarted,
    .fini = lane_fini,
};

pier_future *pier__lane_run_op(pier_lane *lane, pier_lane_fn fn, void *arg)
{
    if (!lane) {
        return pier__op_null();
    }
    pier__op *failed = NULL;
    const pier__op_class *cls = atomic_load(&lane->coming) ? &late_lane_class : &lane_class;
    struct lane_op *job = pier__op_new(cls, lane->runner, &failed);
    if (!job) {
        return failed;
    }
    atomic_fetch_add(&lane->refs, 1);
    job->lane = lane;
    job->op.needs_lane = lane;
    job->fn = fn;
    job->arg = arg;
    job->counted = true;
    if (atomic_fetch_add(&lane->jobs, 1) >= JOBS_MAX) {
        return pier__op_refuse(&job->op, PIER_EBUSY,
                               "pier_lane_run: %d jobs wait in lane %s already; wait for some of "
                               "them first",
                               JOBS_MAX, lane->name);
    }
    return &job->op;
}
