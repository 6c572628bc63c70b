/*
 * Scopes. They are kept alive by the operations that obey them, so that one may be closed while
 * futures submitted in it are still under way.
 */
#include "sdk/scope.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/options.h"
#include "sdk/runner.h"

pier_scope *pier__scope_new(pier_runner *runner, pier_scope *parent, int64_t deadline)
{
    pier_scope *scope = pier__calloc(1, sizeof *scope);
    if (scope) {
        scope->runner = runner;
        scope->parent = parent ? pier__scope_ref(parent) : NULL;
        scope->deadline = pier__earlier(deadline, parent ? parent->deadline : 0);
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
        pier__free(scope);
        scope = parent;
    }
}

int pier__scope_cancelled(const pier_scope *scope)
{
    for (; scope; scope = scope->parent) {
        int status = atomic_load_explicit(&((pier_scope *)scope)->cancelled, memory_order_acquire);
        if (status) {
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
    }
}

pier_scope *pier_scope_open(pier_runner *runner, const pier_scope_options *options, pier_error *err)
{
    pier_scope_options read = {.struct_size = 0};
    if (pier__runner_check(runner, "pier_scope_open: the runner", err) < 0 ||
        pier__options_read(&read, sizeof read, options, "PIER_SCOPE_OPTIONS", err) < 0) {
        return NULL;
    }
    int64_t deadline = read.timeout_ms ? pier__deadline(read.timeout_ms, 0) : 0;
    pier_scope *scope = pier__scope_new(runner, pier__here.scope, deadline);
    if (!scope) {
        pier_error_set(err, PIER_ENOMEM, "pier_scope_open: out of memory");
        return NULL;
    }
    scope->parker = pier__here.task ? NULL : pier__parker_self();
    if (read.signal && pier__signal_listen(scope, read.signal, err) < 0) {
        pier__scope_unref(scope);
        return NULL;
    }
    pier__here.scope = scope;
    return scope;
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
    if (scope->signal) {
        pier__signal_unlisten(scope);
    }
    /* Inner scopes that were forgotten end with this one; closed out of order, it just leaves. */
    for (pier_scope *inner = pier__here.scope; inner; inner = inner->parent) {
        if (inner == scope) {
            pier__here.scope = scope->parent;
            break;
        }
    }
    pier__scope_unref(scope);
}
