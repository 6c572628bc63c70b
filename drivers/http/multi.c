/*
 * The shared multi, on uv_poll.
 *
 * Arming a uv_poll costs two epoll_ctl and disarming it one, which was a third of a request. So a
 * watch lives as long as its descriptor; reading stays armed when libcurl has lost interest, and is
 * stopped only when something arrives that nobody wants. What libcurl wants is written down while
 * it calls us, and applied once when it has returned.
 *
 * libcurl must not be called from inside its callbacks; operations are only woken, never stepped,
 * while it runs.
 */
#include "drivers/http/multi.h"

#include "sdk/alloc.h"
#include "sdk/loop.h"
#include <string.h>
#include <unistd.h>

typedef struct watch {
    uv_poll_t poll;
    pier__http_multi *multi;
    int fd;
    int armed;  /* UV_READABLE and UV_WRITABLE, as libuv has it */
    int wanted; /* as libcurl has it */
    bool dirty;
    struct watch *next_dirty;
} watch;

struct pier__http_multi {
    pier_http *http;
    pier_runner *runner;
    CURLM *curl;
    uv_timer_t timer;
    watch **watches; /* by descriptor; NULL where there is none */
    size_t watches_size;
    watch *dirty;
    pier__exchange *adding; /* its own step looks whether it is done */
    pier__op *closer;
};

/* ---- Ended transfers ---------------------------------------------------------------------- */

static void end(pier__exchange *exchange, CURLcode code)
{
    exchange->code = code;
    pier__http_multi *multi = exchange->http->multi;
    exchange->added = false;
    curl_multi_remove_handle(multi->curl, exchange->slot->easy);
    exchange->done = true;
    if (exchange == multi->adding) {
        return;
    }
    if (exchange->op) {
        pier__op_wake(exchange->op);
    } else {
        exchange->ended(exchange);
    }
}

static void drain(pier__http_multi *multi)
{
    int left;
    CURLMsg *message;
    while ((message = curl_multi_info_read(multi->curl, &left))) {
        pier__slot *slot = NULL;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&slot);
        end(slot->exchange, message->data.result);
    }
}

/* libcurl has given up for want of memory: so do all transfers. */
static void fail_all(pier__http_multi *multi)
{
    pier_http *http = multi->http;
    for (;;) {
        pthread_mutex_lock(&http->lock);
        pier__exchange *exchange = http->exchanges;
        while (exchange && !(exchange->added && exchange->on_loop)) {
            exchange = exchange->next;
        }
        pthread_mutex_unlock(&http->lock);
        if (!exchange) {
            return;
        }
        end(exchange, CURLE_OUT_OF_MEMORY);
    }
}

/* ---- Watches ------------------------------------------------------------------------------ */

static void act(pier__http_multi *multi, curl_socket_t fd, int events);

static void on_poll(uv_poll_t *poll, int status, int events)
{
    watch *self = poll->data;
    pier__http_multi *multi = self->multi;
    int action = 0;
    if (status < 0) {
        /* libuv has stopped it. A refused connection arrives here, as UV_EBADF. */
        self->armed = 0;
        action = CURL_CSELECT_ERR;
    }
    if (events & self->wanted & UV_READABLE) {
        action |= CURL_CSELECT_IN;
    }
    if (events & self->wanted & UV_WRITABLE) {
        action |= CURL_CSELECT_OUT;
    }
    if (!action) {
        self->armed = 0;
        uv_poll_stop(poll);
        return;
    }
    pier__loop_enter_on_loop(multi->runner);
    act(multi, self->fd, action);
    pier__loop_leave_on_loop(multi->runner);
}

/* Brings libuv up to date with what libcurl wants. False: the descriptor cannot be watched. */
static bool apply_one(watch *self)
{
    int target = self->wanted | (self->armed & UV_READABLE);
    if (target == self->armed) {
        return true;
    }
    self->armed = target;
    return target ? uv_poll_start(&self->poll, target, on_poll) == 0
                  : uv_poll_stop(&self->poll) == 0;
}

/* True: libcurl was told of a failure, so that there may be ended transfers. */
static bool apply(pier__http_multi *multi)
{
    bool failed = false;
    while (multi->dirty) {
        watch *self = multi->dirty;
        multi->dirty = self->next_dirty;
        self->dirty = false;
        if (!apply_one(self)) {
            int running;
            self->armed = 0;
            failed = true;
            curl_multi_socket_action(multi->curl, self->fd, CURL_CSELECT_ERR, &running);
        }
    }
    return failed;
}

static void follow_up(pier__http_multi *multi)
{
    do {
        drain(multi);
    } while (apply(multi));
}

/* Lets libcurl act, and does what follows from it. */
static void act(pier__http_multi *multi, curl_socket_t fd, int events)
{
    int running;
    if (curl_multi_socket_action(multi->curl, fd, events, &running)) {
        fail_all(multi);
    }
    follow_up(multi);
}

static void on_watch_closed(uv_handle_t *handle)
{
    pier__free(handle->data);
}

static void close_watch(pier__http_multi *multi, watch *self)
{
    for (watch **at = &multi->dirty; *at; at = &(*at)->next_dirty) {
        if (*at == self) {
            *at = self->next_dirty;
            break;
        }
    }
    multi->watches[self->fd] = NULL;
    uv_close((uv_handle_t *)&self->poll, on_watch_closed);
}

static bool make_room(pier__http_multi *multi, size_t fd)
{
    if (fd < multi->watches_size) {
        return true;
    }
    size_t size = multi->watches_size ? multi->watches_size : 64;
    while (size <= fd) {
        size *= 2;
    }
    watch **watches = pier__realloc(multi->watches, size * sizeof(watch *));
    if (!watches) {
        return false;
    }
    memset(watches + multi->watches_size, 0, (size - multi->watches_size) * sizeof(watch *));
    multi->watches = watches;
    multi->watches_size = size;
    return true;
}

static watch *open_watch(pier__http_multi *multi, int fd)
{
    if (!make_room(multi, (size_t)fd)) {
        return NULL;
    }
    watch *self = pier__calloc(1, sizeof *self);
    if (!self) {
        return NULL;
    }
    if (uv_poll_init(pier__loop_uv_on_loop(multi->runner), &self->poll, fd)) {
        pier__free(self);
        return NULL;
    }
    self->poll.data = self;
    self->multi = multi;
    self->fd = fd;
    multi->watches[fd] = self;
    return self;
}

/* libcurl says what it wants of a descriptor. */
static int on_socket(CURL *easy, curl_socket_t fd, int what, void *data, void *ignored)
{
    (void)easy, (void)ignored;
    pier__http_multi *multi = data;
    watch *self = (size_t)fd < multi->watches_size ? multi->watches[fd] : NULL;
    if (!self) {
        if (what == CURL_POLL_REMOVE) {
            return 0;
        }
        self = open_watch(multi, fd);
        if (!self) {
            return -1;
        }
    }
    bool in = what == CURL_POLL_IN || what == CURL_POLL_INOUT;
    bool out = what == CURL_POLL_OUT || what == CURL_POLL_INOUT;
    self->wanted = (in ? UV_READABLE : 0) | (out ? UV_WRITABLE : 0);
    if (!self->dirty) {
        self->dirty = true;
        self->next_dirty = multi->dirty;
        multi->dirty = self;
    }
    return 0;
}

int pier__http_multi_close_socket(void *data, curl_socket_t fd)
{
    pier__http_multi *multi = data;
    watch *self = (size_t)fd < multi->watches_size ? multi->watches[fd] : NULL;
    if (self) {
        close_watch(multi, self);
    }
    return close(fd);
}

/* ---- The timer ---------------------------------------------------------------------------- */

static void on_timer(uv_timer_t *timer)
{
    pier__http_multi *multi = timer->data;
    pier__loop_enter_on_loop(multi->runner);
    act(multi, CURL_SOCKET_TIMEOUT, 0);
    pier__loop_leave_on_loop(multi->runner);
}

static int on_set_timer(CURLM *curl, long timeout_ms, void *data)
{
    (void)curl;
    pier__http_multi *multi = data;
    if (timeout_ms < 0) {
        uv_timer_stop(&multi->timer);
    } else {
        /* 0 means now, and libuv takes it so: not 1 ms, which would be 20 times slower. */
        uv_timer_start(&multi->timer, on_timer, (uint64_t)timeout_ms, 0);
    }
    return 0;
}

/* ---- Opening and closing ------------------------------------------------------------------ */

bool pier__http_multi_open_on_loop(pier_http *http)
{
    if (http->multi) {
        return true;
    }
    pier__http_multi *multi = pier__calloc(1, sizeof *multi);
    CURLM *curl = multi ? curl_multi_init() : NULL;
    if (!curl) {
        pier__free(multi);
        return false;
    }
    multi->http = http;
    multi->runner = http->runner;
    multi->curl = curl;
    curl_multi_setopt(curl, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(curl, CURLMOPT_SOCKETDATA, multi);
    curl_multi_setopt(curl, CURLMOPT_TIMERFUNCTION, on_set_timer);
    curl_multi_setopt(curl, CURLMOPT_TIMERDATA, multi);
    /* Fewer than there can be requests would close a connection after each of them. */
    curl_multi_setopt(curl, CURLMOPT_MAXCONNECTS, (long)http->pool.max);
    uv_timer_init(pier__loop_uv_on_loop(http->runner), &multi->timer);
    multi->timer.data = multi;
    http->multi = multi;
    return true;
}

static void on_timer_closed(uv_handle_t *handle)
{
    pier__http_multi *multi = handle->data;
    pier__op *closer = multi->closer;
    pier__loop_enter_on_loop(multi->runner);
    multi->http->multi = NULL;
    pier_runner *runner = multi->runner;
    pier__free(multi->watches);
    pier__free(multi);
    pier__op_wake(closer);
    pier__loop_leave_on_loop(runner);
}

void pier__http_multi_close_on_loop(pier_http *http, pier__op *op)
{
    pier__http_multi *multi = http->multi;
    multi->closer = op;
    /* Closes the connections, and with them the watches. */
    curl_multi_cleanup(multi->curl);
    for (size_t fd = 0; fd < multi->watches_size; fd++) {
        if (multi->watches[fd]) {
            close_watch(multi, multi->watches[fd]);
        }
    }
    /* Watches free themselves, in whatever order libuv closes them. */
    uv_close((uv_handle_t *)&multi->timer, on_timer_closed);
}

/* ---- Transfers ---------------------------------------------------------------------------- */

CURLcode pier__http_multi_add_on_loop(pier__http_multi *multi, pier__exchange *exchange)
{
    if (curl_multi_add_handle(multi->curl, exchange->slot->easy)) {
        return CURLE_OUT_OF_MEMORY;
    }
    /* Begins at once, instead of when the timer that this has set fires. */
    pier__exchange *outer = multi->adding;
    multi->adding = exchange;
    act(multi, CURL_SOCKET_TIMEOUT, 0);
    multi->adding = outer;
    return CURLE_OK;
}

void pier__http_multi_remove_on_loop(pier__http_multi *multi, pier__exchange *exchange)
{
    curl_multi_remove_handle(multi->curl, exchange->slot->easy);
    follow_up(multi);
}

void pier__http_multi_resume_on_loop(pier__http_multi *multi, pier__exchange *exchange)
{
    curl_easy_pause(exchange->slot->easy, CURLPAUSE_CONT);
    act(multi, CURL_SOCKET_TIMEOUT, 0);
}
