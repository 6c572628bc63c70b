/*
 * The threads that are blocked, and the walk along who waits for whom. See deadlock.h.
 */
#include "sdk/deadlock.h"

#include "sdk/alloc.h"
#include "sdk/context.h"
#include "sdk/loop_internal.h"
#include "sdk/turn.h"
#include <stdio.h>

/* A walk that has been to so many places gives up, and the wait goes on. Deep ones would need more
 * stack than a task has. */
enum { VISITS_MAX = 1000, DEPTH_MAX = 64, KEPT_MAX = 16, NAMES_MAX = 4 };
/* Among so many operations a holder is looked for, whenever a task has to wait: about 10 us. */
enum { SEARCH_MAX = 4096 };

/* Before the locks of lanes, executors, pools, turns and groups; none is held when it is taken. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by lock. */
static pier__blocked *all;
static uint64_t last_id;
static uint64_t last_walk;

struct pier__walk {
    pier__op *start;
    bool alone; /* only what the one who waits does himself: others count as able to go on */
    bool back;  /* it has come back to the start */
    uint64_t mark;
    int visits, depth;
    int kept_count;
    pier__op *kept[KEPT_MAX]; /* references, dropped under no lock */
    int names;
    size_t length;
    char path[400];
};

/* ---- The threads that are blocked --------------------------------------------------------- */

struct look {
    pier__post post;
    uint64_t id;
};

static void look_on_loop(pier__post *post);

/* Without memory for it nobody looks until the next wait, a second later. */
static void ask_loop(pier__op *op, uint64_t id)
{
    struct look *look = pier__malloc(sizeof *look);
    if (look) {
        look->post.run = look_on_loop;
        look->id = id;
        if (!pier__loop_post(op->runner, &look->post)) {
            pier__free(look);
        }
    }
}

void pier__blocked_enter(pier__blocked *blocked, pier__op *op)
{
    blocked->entered = op->cls->waits_for || op->working;
    if (!blocked->entered) {
        return; /* something outside of us ends it */
    }
    blocked->op = op;
    blocked->thread = &pier__here;
    blocked->tid = pier__tid();
    blocked->prev = NULL;
    pthread_mutex_lock(&lock);
    blocked->id = ++last_id;
    blocked->next = all;
    if (all) {
        all->prev = blocked;
    }
    all = blocked;
    pthread_mutex_unlock(&lock);
    if (!op->cls->shielded) {
        ask_loop(op, blocked->id);
    }
}

void pier__blocked_leave(pier__blocked *blocked)
{
    if (!blocked->entered) {
        return;
    }
    pthread_mutex_lock(&lock);
    *(blocked->prev ? &blocked->prev->next : &all) = blocked->next;
    if (blocked->next) {
        blocked->next->prev = blocked->prev;
    }
    pthread_mutex_unlock(&lock);
}

void pier__blocked_forked(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    all = NULL;
}

static const pier__blocked *blocked_in(const pier__op *op)
{
    const pier__blocked *at = all;
    while (at && at->op != op) {
        at = at->next;
    }
    return at;
}

static const struct pier__working *work_of(const pier__blocked *blocked, const pier__op *op)
{
    const struct pier__working *at = blocked->thread->working;
    while (at && at->op != op) {
        at = at->outer;
    }
    return at;
}

/* ---- The walk ----------------------------------------------------------------------------- */

static void note(pier__walk *walk, const char *name, const char *doing)
{
    if (walk->names == NAMES_MAX || walk->length >= sizeof walk->path) {
        return;
    }
    int count =
        snprintf(walk->path + walk->length, sizeof walk->path - walk->length,
                 doing ? "%s%s (%s)" : "%s%s", walk->names ? ", which needs " : "", name, doing);
    walk->names++;
    walk->length += count > 0 ? (size_t)count : 0;
}

static bool is_bounded(const pier__op *op)
{
    return op->wait.until || (!op->cls->shielded && op->deadline);
}

/* What an operation needs that nobody steps at the moment. */
static bool walk_needs(pier__walk *walk, pier__op *op)
{
    if (op->working) {
        return pier__walk_lane(walk, op->wait.lane);
    }
    return !op->cls->waits_for || op->cls->waits_for(op, walk);
}

/* It has been there: nothing new comes of it. */
static bool turn_back(pier__walk *walk, const pier__op *op)
{
    walk->back |= op == walk->start;
    return false;
}

bool pier__walk_op(pier__walk *walk, pier__op *op)
{
    unsigned mail = atomic_load(&op->mail);
    if (op->runner == NULL || pier__op_settled(op) || (mail & PIER__MAIL_EVENTS)) {
        return true;
    }
    if (!(mail & PIER__MAIL_LOOP) && !blocked_in(op)) {
        return pier__walk_worker(walk, op);
    }
    if (mail & PIER__MAIL_LOOP && op->runner != walk->start->runner) {
        return true;
    }
    if (op->walked == walk->mark) {
        return turn_back(walk, op);
    }
    op->walked = walk->mark;
    if (++walk->visits > VISITS_MAX || walk->depth == DEPTH_MAX ||
        (!walk->alone && is_bounded(op))) {
        return true;
    }
    note(walk, op->cls->name, op->doing);
    walk->depth++;
    bool goes_on = walk_needs(walk, op);
    walk->depth--;
    return goes_on;
}

bool pier__walk_turn(pier__walk *walk, const pier__op *waiter, struct pier__turn *turn)
{
    pier__op *owner = walk->kept_count < KEPT_MAX ? pier__turn_owner(turn) : NULL;
    if (!owner) {
        return true;
    }
    walk->kept[walk->kept_count++] = owner;
    /* The waiter itself: it has been given the turn just now. */
    return owner == waiter || pier__walk_op(walk, owner);
}

/* What a blocked thread needs. */
static bool walk_thread(pier__walk *walk, const pier__blocked *blocked)
{
    if (blocked->op == walk->start) {
        return turn_back(walk, blocked->op);
    }
    return walk->alone || pier__walk_op(walk, blocked->op);
}

bool pier__walk_worker(pier__walk *walk, const pier__op *op)
{
    for (const pier__blocked *at = all; at; at = at->next) {
        if (work_of(at, op)) {
            note(walk, op->cls->name, NULL);
            return walk_thread(walk, at);
        }
    }
    return true;
}

bool pier__walk_lane(pier__walk *walk, const struct pier_lane *lane)
{
    for (const pier__blocked *at = all; at; at = at->next) {
        if (at->thread->lane == lane) {
            note(walk, "the job that its lane runs", NULL);
            return walk_thread(walk, at);
        }
    }
    return true;
}

bool pier__walk_executor(pier__walk *walk, const struct pier_executor *executor, int threads)
{
    int blocked = 0;
    for (const pier__blocked *at = all; at; at = at->next) {
        blocked += at->thread->executor == executor;
    }
    if (blocked < threads) {
        return true;
    }
    note(walk, "one of the jobs that its executor runs", NULL);
    for (const pier__blocked *at = all; at; at = at->next) {
        if (at->thread->executor == executor && walk_thread(walk, at)) {
            return true;
        }
    }
    return false;
}

bool pier__walk_holder(pier__walk *walk, const void *holder)
{
    for (const pier__blocked *at = all; at; at = at->next) {
        if (at->thread == holder) {
            return walk_thread(walk, at);
        }
    }
    /* A task: it may have ended since. */
    pier__op *op = walk->start->runner->ops;
    for (int i = 0; op && op != holder && i < SEARCH_MAX; i++) {
        op = op->next;
    }
    return op != holder || pier__walk_op(walk, op);
}

bool pier__walk_task(pier__walk *walk, pier__op *awaited)
{
    if (awaited == walk->start) {
        return turn_back(walk, awaited);
    }
    return walk->alone || pier__walk_op(walk, awaited);
}

/* Under the lock, on the loop thread. */
static bool can_go_on(pier__walk *walk, pier__op *start, bool alone)
{
    walk->start = start;
    walk->alone = alone;
    walk->visits = walk->depth = walk->names = 0;
    walk->length = 0;
    walk->back = false;
    walk->mark = ++last_walk;
    walk->path[0] = '\0';
    start->walked = walk->mark;
    /* Stuck because others are, who do not need it, it goes on when one of them has been told. */
    return walk_needs(walk, start) || !walk->back;
}

/* Is it stuck for ever? Then it has been given the reason. */
static bool is_stuck(pier__op *op, pier__walk *walk)
{
    if (op->stuck || pier__op_settled(op) || atomic_load(&op->mail) & PIER__MAIL_EVENTS) {
        return false;
    }
    if (can_go_on(walk, op, true) && (is_bounded(op) || can_go_on(walk, op, false))) {
        return false;
    }
    op->stuck = pier__malloc(sizeof walk->path + 80);
    if (op->stuck) {
        snprintf(op->stuck, sizeof walk->path + 80,
                 "would never end: it needs %s, which waits for this very call", walk->path);
    }
    return true;
}

/* Under no lock: what the walk kept may end with it. */
static void end_walk(pier__walk *walk)
{
    while (walk->kept_count) {
        pier__op_unref(walk->kept[--walk->kept_count]);
    }
}

static void look_on_loop(pier__post *post)
{
    uint64_t id = ((struct look *)post)->id;
    pier__walk walk = {.kept_count = 0};
    pier__free(post);
    pthread_mutex_lock(&lock);
    for (pier__blocked *at = all; at; at = at->next) {
        if (at->id == id) {
            if (is_stuck(at->op, &walk)) {
                pier__op_cancel(at->op, PIER_EDEADLOCK);
            }
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    end_walk(&walk);
}

void pier__deadlock_look_on_loop(pier__op *op)
{
    if (op->cls->shielded || op->cancelled || !(op->cls->waits_for || op->working) ||
        op->wait.kind == PIER__WAIT_FD) {
        return;
    }
    pier__walk walk;
    walk.kept_count = 0; /* the rest is not worth zeroing for each wait of a task */
    pthread_mutex_lock(&lock);
    bool stuck = is_stuck(op, &walk);
    pthread_mutex_unlock(&lock);
    end_walk(&walk);
    if (stuck) {
        pier__loop_cancel_on_loop(op, PIER_EDEADLOCK);
    }
}

const char *pier__deadlock_why(const pier__op *op)
{
    return op->stuck ? op->stuck : "would never end: it waits for itself";
}
