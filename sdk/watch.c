/*
 * uv_poll handles. Reading stays armed in the kernel while no operation waits; what arrives then
 * is remembered, and the watch stopped so that an unread descriptor does not spin the loop.
 */
#include "sdk/watch.h"

#include "sdk/alloc.h"
#include "sdk/loop_internal.h"
#include <fcntl.h>

struct pier__watch {
    uv_poll_t poll;
    pier_runner *runner;
    pier__op *op;    /* who is told; NULL while at rest */
    unsigned armed;  /* PIER__READABLE and PIER__WRITABLE, as libuv has it */
    unsigned wanted; /* by op */
};

static void on_poll(uv_poll_t *poll, int status, int events);

static int set_armed(pier__watch *watch, unsigned events)
{
    if (events == watch->armed) {
        return 0;
    }
    watch->armed = events;
    if (!events) {
        return uv_poll_stop(&watch->poll);
    }
    return uv_poll_start(&watch->poll,
                         (events & PIER__READABLE ? UV_READABLE : 0) |
                             (events & PIER__WRITABLE ? UV_WRITABLE : 0),
                         on_poll);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    pier__watch *watch = poll->data;
    pier_runner *runner = watch->runner;
    /* A descriptor in error is ready for everything: reading or writing it tells why. */
    unsigned ready = status < 0 ? PIER__READABLE | PIER__WRITABLE
                                : (events & UV_READABLE ? PIER__READABLE : 0u) |
                                      (events & UV_WRITABLE ? PIER__WRITABLE : 0u);
    if (status < 0) {
        watch->armed = 0; /* libuv has stopped it; who reads on, and waits again, arms it again */
    }
    if (!watch->op) {
        set_armed(watch, 0);
        return;
    }
    ready &= watch->wanted;
    if (ready) {
        pier__loop_enter_on_loop(runner);
        pier__loop_step_on_loop(watch->op, ready);
        pier__loop_leave_later_on_loop(runner);
    }
}

pier__watch *pier__watch_open_on_loop(pier_runner *runner, int fd)
{
    pier__watch *watch = pier__calloc(1, sizeof *watch);
    if (!watch) {
        return NULL;
    }
    /* libuv makes it non-blocking, but threads may want to block in it. */
    int flags = fcntl(fd, F_GETFL);
    int status = uv_poll_init(pier__loop_uv_on_loop(runner), &watch->poll, fd);
    if (flags >= 0 && !(flags & O_NONBLOCK)) {
        fcntl(fd, F_SETFL, flags);
    }
    if (status) {
        pier__free(watch);
        return NULL;
    }
    watch->poll.data = watch;
    watch->runner = runner;
    return watch;
}

bool pier__watch_arm_on_loop(pier__watch *watch, pier__op *op, unsigned events)
{
    watch->op = op;
    watch->wanted = events;
    return set_armed(watch, events | PIER__READABLE) == 0;
}

void pier__watch_rest_on_loop(pier__watch *watch)
{
    watch->op = NULL;
    watch->wanted = 0;
    if (watch->armed & PIER__WRITABLE) {
        set_armed(watch, watch->armed & ~(unsigned)PIER__WRITABLE);
    }
}

static void on_closed(uv_handle_t *handle)
{
    pier__free(handle->data);
}

void pier__watch_close_on_loop(pier__watch **watch)
{
    if (*watch) {
        set_armed(*watch, 0);
        uv_close((uv_handle_t *)&(*watch)->poll, on_closed);
        *watch = NULL;
    }
}
