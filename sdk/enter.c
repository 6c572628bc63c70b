/*
 * Things of the user's that a runner or a scope closes. Each brings the scope that its close
 * function runs in: outside of all others, with a deadline of its own, and marked `closes`, so that
 * operations start in it while the runner closes.
 */
#include "sdk/enter.h"

#include "sdk/alloc.h"
#include "sdk/clock.h"
#include "sdk/context.h"
#include "sdk/runner.h"
#include <pier/enter.h>

/* How long what is entered into a scope may take to close; as for lanes and executors. */
enum { CLOSE_TIMEOUT_MS = 10000 };

struct pier__entered {
    pier__handle handle;         /* first; of a runner's */
    struct pier__entered *older; /* of a scope's */
    void *thing;
    pier_close_fn close_fn;
    pier_scope *scope; /* that close_fn runs in */
};

static struct pier__entered *new_entered(pier_runner *runner, void *thing, pier_close_fn close_fn)
{
    struct pier__entered *entered = pier__calloc(1, sizeof *entered);
    pier_scope *scope = entered ? pier__scope_new(runner, NULL, 0) : NULL;
    if (!scope) {
        pier__free(entered);
        return NULL;
    }
    scope->shield = scope->shielded = true;
    pier__runner_ref(runner);
    entered->thing = thing;
    entered->close_fn = close_fn;
    entered->scope = scope;
    return entered;
}

static void free_entered(struct pier__entered *entered)
{
    pier__runner_unref(entered->scope->runner);
    pier__scope_unref(entered->scope);
    pier__free(entered);
}

/* Calls the close function, and frees the entry. */
static void close_thing(struct pier__entered *entered, int64_t deadline)
{
    pier_scope *scope = entered->scope, *ambient = pier__here.scope;
    scope->deadline = deadline;
    scope->parker = pier__here.task ? NULL : pier__parker_self();
    pier__here.scope = scope;
    entered->close_fn(entered->thing);
    while (pier__here.scope && pier__here.scope != scope) {
        pier_scope_close(pier__here.scope); /* one that the function forgot */
    }
    pier__here.scope = ambient;
    free_entered(entered);
}

/* The same where the runner may begin to close meanwhile: it waits. */
static void close_in_time(struct pier__entered *entered)
{
    pier_runner *runner = entered->scope->runner;
    int64_t deadline = pier__deadline(CLOSE_TIMEOUT_MS, 0);
    pier__runner_shield(runner, deadline);
    close_thing(entered, deadline);
    pier__runner_unshield(runner);
}

/* ---- Runners ------------------------------------------------------------------------------ */

static void close_handle(pier__handle *handle)
{
    if (pier__handle_leave(handle)) {
        close_thing((struct pier__entered *)handle, handle->runner->close_until);
    }
}

int pier_runner_enter(pier_runner *runner, void *thing, pier_close_fn close_fn, pier_error *err)
{
    if (!thing || !close_fn) {
        return pier__error_null(err, thing ? "pier_runner_enter: the close function"
                                           : "pier_runner_enter: what is to be entered");
    }
    int status = pier__runner_check(runner, "pier_runner_enter: the runner", err);
    struct pier__entered *entered = status < 0 ? NULL : new_entered(runner, thing, close_fn);
    if (entered && pier__handle_open(&entered->handle, runner, close_handle)) {
        return 0;
    }
    if (entered) {
        status = pier_error_set(err, PIER_ECLOSED, "pier_runner_enter: the runner is closed");
        free_entered(entered);
    } else if (status == 0) {
        status = pier_error_set(err, PIER_ENOMEM, "pier_runner_enter: out of memory");
    }
    close_fn(thing);
    return status;
}

static bool is_of(const pier__handle *handle, const void *thing)
{
    return handle->close == close_handle && ((const struct pier__entered *)handle)->thing == thing;
}

int pier_runner_leave(pier_runner *runner, void *thing, pier_error *err)
{
    if (!runner || !thing) {
        return pier__error_null(err, "pier_runner_leave: the runner or what was entered");
    }
    if (pier__runner_forked(runner)) {
        return pier__runner_check(runner, "", err);
    }
    struct pier__entered *entered = (struct pier__entered *)pier__handle_take(runner, is_of, thing);
    if (!entered) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_runner_leave: not in the runner, or closed already");
    }
    close_in_time(entered);
    return 0;
}

/* ---- Scopes ------------------------------------------------------------------------------- */

int pier_scope_enter(pier_scope *scope, void *thing, pier_close_fn close_fn, pier_error *err)
{
    if (!thing || !close_fn) {
        return pier__error_null(err, thing ? "pier_scope_enter: the close function"
                                           : "pier_scope_enter: what is to be entered");
    }
    int status = 0;
    struct pier__entered *entered = NULL;
    if (!scope) {
        status = pier__error_null(err, "pier_scope_enter: the scope");
    } else if (pier__runner_forked(scope->runner)) {
        status = pier__runner_check(scope->runner, "", err);
    } else if (!(entered = new_entered(scope->runner, thing, close_fn))) {
        status = pier_error_set(err, PIER_ENOMEM, "pier_scope_enter: out of memory");
    }
    if (!entered) {
        close_fn(thing);
        return status;
    }
    entered->older = scope->entered;
    scope->entered = entered;
    return 0;
}

int pier_scope_leave(pier_scope *scope, void *thing, pier_error *err)
{
    if (!scope || !thing) {
        return pier__error_null(err, "pier_scope_leave: the scope or what was entered");
    }
    struct pier__entered **at = &scope->entered;
    while (*at && (*at)->thing != thing) {
        at = &(*at)->older;
    }
    struct pier__entered *entered = *at;
    if (!entered) {
        return pier_error_set(err, PIER_EINVAL,
                              "pier_scope_leave: not in the scope, or closed already");
    }
    if (pier__runner_forked(scope->runner)) {
        return pier__runner_check(scope->runner, "", err);
    }
    *at = entered->older;
    close_in_time(entered);
    return 0;
}

static void close_entered(pier_scope *scope)
{
    for (struct pier__entered *entered; (entered = scope->entered);) {
        scope->entered = entered->older;
        if (pier__runner_forked(scope->runner)) {
            pier__free(entered->scope);
            pier__free(entered); /* the thing is the parent's */
        } else {
            close_in_time(entered);
        }
    }
}

void pier__scope_close_entered(pier_scope *scope)
{
    const pier_scope *outer = pier__here.scope;
    while (outer && outer != scope) {
        outer = outer->parent;
    }
    for (pier_scope *inner = pier__here.scope; outer && inner != scope; inner = inner->parent) {
        close_entered(inner);
    }
    close_entered(scope);
}
