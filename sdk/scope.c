/*
 * Scopes. They are kept alive by the operations that obey them, so that one may be closed while
 * futures submitted in it are still under way.
 *
 * A shield is a scope that takes neither cancelling nor deadlines from those around it. It always
 * has a deadline of its own, and a runner that closes waits for it (pier__runner_shields).
 */
#include "sdk/scope.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/enter.h"
#include "sdk/options.h"
#include "sdk/runner.h"

/* How long a shield may last that does not say. */
enum { SHIELD_MS = 5000 };

struct pier__elsewhere {
    struct pier__elsewhere *next;
    pier_runner *runner; /* holds a reference */
};

pier_scope *pier__scope_new(pier_runner *runner, pier_scope *parent, int64_t deadline)
{
    pier_scope *scope = pier__calloc(1, sizeof *scope);
    if (scope) {
        scope->runner = runner;
        scope->parent = parent ? pier__scope_ref(parent) : NULL;
        scope->deadline = pier__earlier(deadline, parent ? parent->deadline : 0);
        scope->shielded = parent && parent->shielded;
        atomic_init(&scope->refs, 1);
    }
    return scope;
}

pier_scope *pier__scope_ref(pier_scope *scope)
{
    atomic_fetch_add_explicit(&scope->refs, 1, memory_order_relaxed);
    return scope;
}

void pier__scope_unref(pier_scope *scope)
{
    while (scope && atomic_fetch_sub_explicit(&scope->refs, 1, memory_order_acq_rel) == 1) {
        pier_scope *parent = scope->parent;
        for (struct pier__elsewhere *at = scope->elsewhere, *next; at; at = next) {
            next = at->next;
            pier__runner_unref(at->runner);
            pier__free(at);
        }
        pier__free(scope);
        scope = parent;
    }
}

int pier__scope_cancelled(const pier_scope *scope)
{
    for (; scope; scope = scope->parent) {
        int status = atomic_load_explicit(&((pier_scope *)scope)->cancelled, memory_order_acquire);
        if (status || scope->shield) {
            return status;
        }
    }
    return 0;
}

void pier__scope_cancel_with(pier_scope *scope, int status)
{
    int expected = 0;
    if (atomic_compare_exchange_strong(&scope->cancelled, &expected, status)) {
        pier__unpark(scope->parker);
        pier__loop_scopes_changed(scope->runner);
        for (struct pier__elsewhere *at = scope->elsewhere; at; at = at->next) {
            pier__loop_scopes_changed(at->runner);
        }
    }
}

/* Whoever cancels sets the flag first and looks at the list then; this adds to the list first and
 * the loop looks at the flag then: one of them sees the other. */
static bool tell_of(pier_scope *scope, pier_runner *runner)
{
    struct pier__elsewhere *first = atomic_load(&scope->elsewhere);
    for (const struct pier__elsewhere *at = first; at; at = at->next) {
        if (at->runner == runner) {
            return true;
        }
    }
    struct pier__elsewhere *mine = pier__malloc(sizeof *mine);
    if (!mine) {
        return false;
    }
    mine->runner = runner;
    pier__runner_ref(runner);
    mine->next = first;
    while (!atomic_compare_exchange_weak(&scope->elsewhere, &mine->next, mine)) {
    }
    return true;
}

bool pier__scope_tell(pier_scope *scope, pier_runner *runner)
{
    for (; scope; scope = scope->shield ? NULL : scope->parent) {
        if (scope->runner != runner && !tell_of(scope, runner)) {
            return false;
        }
    }
    return true;
}

/* Where a shield may still be opened: while its runner closes, too. */
static int check_runner(const pier_runner *runner, bool shield, pier_error *err)
{
    if (shield && runner && !pier__runner_forked(runner) &&
        atomic_load(&((pier_runner *)runner)->state) == PIER__CLOSING) {
        return 0;
    }
    return pier__runner_check(runner, "pier_scope_open: the runner", err);
}

static int check_options(const pier_scope_options *options, pier_error *err)
{
    if (options->shield && (options->timeout_ms < 0 ||
                            (options->timeout_ms && !pier__deadline(options->timeout_ms, 0)))) {
        return pier_error_set(
            err, PIER_EINVAL,
            "pier_scope_open: a shield needs a bound; give a timeout_ms, or 0 for "
            "%d",
            SHIELD_MS);
    }
    return 0;
}

pier_scope *pier_scope_open(pier_runner *runner, const pier_scope_options *options, pier_error *err)
{
    pier_scope_options read = {.struct_size = 0};
    if (pier__options_read(&read, sizeof read, options, "PIER_SCOPE_OPTIONS", err) < 0 ||
        check_runner(runner, read.shield, err) < 0 || check_options(&read, err) < 0) {
        return NULL;
    }
    int64_t deadline = read.timeout_ms || read.shield
                           ? pier__deadline(read.timeout_ms, read.shield ? SHIELD_MS : 0)
                           : 0;
    pier_scope *scope = pier__scope_new(runner, pier__here.scope, deadline);
    if (!scope) {
        pier_error_set(err, PIER_ENOMEM, "pier_scope_open: out of memory");
        return NULL;
    }
    if (read.shield) {
        scope->shield = scope->shielded = true;
        scope->deadline = deadline;
        pier__runner_shield(runner, deadline);
    }
    scope->parker = pier__here.task ? NULL : pier__parker_self();
    if (read.signal && pier__signal_listen(scope, read.signal, err) < 0) {
        pier__scope_left(scope);
        pier__scope_unref(scope);
        return NULL;
    }
    pier__here.scope = scope;
    return scope;
}

void pier__scope_left(pier_scope *scope)
{
    if (scope->signal) {
        pier__signal_unlisten(scope);
    }
    if (scope->shield) {
        pier__runner_unshield(scope->runner);
    }
}

void pier_scope_cancel(pier_scope *scope)
{
    if (scope) {
        pier__scope_cancel_with(scope, PIER_ECANCELLED);
    }
}

int pier_scope_status(const pier_scope *scope)
{
    int status = pier__scope_cancelled(scope);
    if (!status && scope && scope->deadline && pier__now() >= scope->deadline) {
        status = PIER_ETIMEDOUT;
    }
    return status;
}

void pier_scope_close(pier_scope *scope)
{
    if (!scope) {
        return;
    }
    pier__scope_close_entered(scope);
    pier__scope_left(scope);
    /* Inner scopes that were forgotten end with this one; closed out of order, it just leaves. */
    for (pier_scope *inner = pier__here.scope; inner; inner = inner->parent) {
        if (inner == scope) {
            pier__here.scope = scope->parent;
            break;
        }
    }
    pier__scope_unref(scope);
}
