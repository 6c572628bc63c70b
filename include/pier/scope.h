#ifndef PIER_SCOPE_H
#define PIER_SCOPE_H
/*
 * A scope is a deadline and a cancel switch for everything that its thread or task does until it
 * is closed. Scopes nest; an inner one cannot outlast an outer one, unless it is a shield.
 *
 * Cancelling is a state, not an event: in a cancelled scope every call fails, also the next one.
 * Cleaning up that needs calls of its own goes into a shield, which obeys only its own time, also
 * while the runner closes:
 *
 *     pier_scope *shield = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.shield = true), NULL);
 *     pier_db_execute(db, "delete from claims where worker = $1", PIER_ARGS(worker), NULL);
 *     pier_scope_close(shield);
 */
#include <pier/runner.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_scope pier_scope;

typedef struct pier_scope_options {
    size_t struct_size; /* set by PIER_SCOPE_OPTIONS */
    int64_t timeout_ms; /* from now; 0 or PIER_FOREVER: no deadline of its own */
    int signal;         /* cancelled when this signal arrives, SIGINT for example; 0: none */
    bool shield;        /* ignores the scopes around it; timeout_ms bounds it, 0: 5,000 */
    bool reserved[3];   /* false */
} PIER_DESIGNATED pier_scope_options;

/* pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 200), &err) */
#define PIER_SCOPE_OPTIONS(...)                                                                    \
    (&(const pier_scope_options){.struct_size = sizeof(pier_scope_options), __VA_ARGS__})

/**
 * Opens a scope on the calling thread or task: each operation started there until it is closed
 * obeys its deadline and its cancel switch.
 *
 * At the deadline a blocked call returns PIER_ETIMEDOUT at once; what it had begun is cancelled on
 * the server and cleaned up behind it.
 *
 * @param runner   borrowed until the scope is closed
 * @param options  borrowed until the call returns: NULL for a mere cancel switch
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_scope_close, on the same thread or task, innermost first; NULL on failure
 *
 * A shield can be opened while the runner closes; closing waits for it, and for what runs in it,
 * as long as its time and the runner's `close_timeout_ms` allow, before it closes other handles.
 *
 * Errors: PIER_ENOMEM, PIER_EINVAL (a signal that cannot be handled, a shield without a bound).
 * Threads: any. Mirrors: anyio `CancelScope` (and its `shield`, which has no bound),
 * `asyncio.timeout`.
 */
PIER_API pier_scope *pier_scope_open(pier_runner *runner, const pier_scope_options *options,
                                     pier_error *err);

/**
 * Cancels everything that runs in the scope, now and later: calls there fail with PIER_ECANCELLED.
 * On whichever runner they run; shields inside it are not reached.
 *
 * @param scope  borrowed until the call returns: NULL is harmless
 *
 * Threads: any. Async-signal-safe: it may be called from a signal handler.
 */
PIER_API void pier_scope_cancel(pier_scope *scope);

/**
 * Says whether the scope, or one around it, has been cancelled or has passed its deadline.
 *
 * @param scope  borrowed until the call returns
 * @return 0, PIER_ECANCELLED or PIER_ETIMEDOUT
 *
 * Threads: any.
 */
PIER_API int pier_scope_status(const pier_scope *scope);

/**
 * Leaves the scope. Futures that were submitted in it keep its deadline and its cancel switch.
 *
 * @param scope  taken: NULL is harmless
 *
 * Threads: the one, or the task, that opened it.
 */
PIER_API void pier_scope_close(pier_scope *scope);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_scope, pier_scope_close)
#endif
#endif
