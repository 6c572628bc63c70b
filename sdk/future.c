/*
 * The public face of operations that were submitted.
 */
#include <pier/future.h>

#include "sdk/clock.h"
#include "sdk/seen.h"
#include "sdk/loop.h"
#include "sdk/runner.h"

bool pier_future_done(const pier_future *future)
{
    return future && pier__op_settled(future);
}

int pier_future_wait(pier_future *future, int64_t timeout_ms, pier_error *err)
{
    if (!future) {
        return pier__error_null(err, "pier_future_wait: the future");
    }
    if (pier__op_settled(future)) {
        return 1;
    }
    if (timeout_ms == 0) {
        return 0;
    }
    return pier__op_await(future, pier__deadline(timeout_ms, 0), err);
}

int pier_future_wait_all(pier_future *const *futures, size_t count, int64_t timeout_ms,
                         pier_error *err)
{
    int64_t until = timeout_ms ? pier__deadline(timeout_ms, 0) : 1;
    for (size_t i = 0; i < count; i++) {
        if (!futures[i]) {
            return pier__error_null(err, "pier_future_wait_all: a future");
        }
        if (pier__op_settled(futures[i])) {
            continue;
        }
        int status = timeout_ms ? pier__op_await(futures[i], until, err) : 0;
        if (status <= 0) {
            return status;
        }
    }
    return 1;
}

static int wait_several(const char *name, pier_future *const *futures, size_t count, bool any,
                        int64_t timeout_ms, size_t *index, pier_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (!futures[i]) {
            return pier__error_null(err, name);
        }
    }
    /* A moment that has passed: it looks, and does not wait. */
    int64_t until = timeout_ms ? pier__deadline(timeout_ms, 0) : 1;
    return pier__op_await_several(futures, count, any, until, index, err);
}

int pier_future_wait_any(pier_future *const *futures, size_t count, int64_t timeout_ms,
                         size_t *index, pier_error *err)
{
    if (count == 0) {
        return pier_error_set(err, PIER_EINVAL, "pier_future_wait_any: there is no future");
    }
    return wait_several("pier_future_wait_any: a future", futures, count, true, timeout_ms, index,
                        err);
}

int pier_future_wait_first_error(pier_future *const *futures, size_t count, int64_t timeout_ms,
                                 size_t *index, pier_error *err)
{
    return wait_several("pier_future_wait_first_error: a future", futures, count, false, timeout_ms,
                        index, err);
}

/* The loop has a reference for the callback's sake; the user's is dropped by whoever takes the
 * future in the callback, else here. */
static void run_then(pier__post *post)
{
    pier__op *op = (pier__op *)((char *)post - offsetof(pier__op, then_post));
    pier_runner *runner = op->runner;
    pier__seen_begin(runner, "a callback of", op);
    op->then_cb(op, op->then_data);
    pier__seen_count(&runner->seen.callbacks);
    pier__seen_end(runner, op);
    if (!op->taken) {
        pier__op_unref(op);
    }
    pier__op_unref(op);
}

static void on_settled(pier__listener *listener, pier__op *op)
{
    (void)listener;
    op->then_post.run = run_then;
    if (!pier__loop_post(op->runner, &op->then_post)) {
        /* The loop has ended; nothing of its callbacks runs any more. */
        pier__op_unref(op);
        pier__op_unref(op);
    }
}

void pier_future_then(pier_future *future, pier_future_cb cb, void *user_data)
{
    if (!future) {
        return;
    }
    if (!future->runner) {
        cb(future, user_data);
        return;
    }
    pier__op_ref(future);
    if (pier__runner_forked(future->runner)) {
        cb(future, user_data);
        if (!future->taken) {
            pier__op_unref(future);
        }
        pier__op_unref(future);
        return;
    }
    future->then_cb = cb;
    future->then_data = user_data;
    future->then.settled = on_settled;
    pier__op_listen(future, &future->then);
}

void pier_future_cancel(pier_future *future)
{
    if (future && !future->cls->shielded) {
        pier__op_cancel(future, PIER_ECANCELLED);
    }
}

void pier_future_free(pier_future *future)
{
    if (future && future->runner) {
        future->taken = true;
        pier__op_unref(future);
    }
}

void pier_future_detach(pier_future *future)
{
    if (future && future->runner) {
        future->detached = true;
        pier_future_free(future);
    }
}
