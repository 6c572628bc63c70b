/*
 * The program's hooks. A hook and its user_data are set together under a lock and copied under it,
 * so that one is never called with the other's data; they are called outside of it.
 */
#include "sdk/hooks.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
/* Guarded by lock. */
static struct {
    pier_log_fn log;
    void *log_data;
    pier_trace_fn trace;
    void *trace_data;
    pier_unobserved_fn unobserved;
    void *unobserved_data;
} hooks;

/* Looked at before the lock is taken. */
static atomic_int log_level;
atomic_bool pier__tracing;

void pier_log_set(pier_log_fn fn, pier_log_level level, void *user_data)
{
    pthread_mutex_lock(&lock);
    hooks.log = fn;
    hooks.log_data = user_data;
    atomic_store(&log_level, fn ? (int)level : 0);
    pthread_mutex_unlock(&lock);
}

void pier_trace_set(pier_trace_fn fn, void *user_data)
{
    pthread_mutex_lock(&lock);
    hooks.trace = fn;
    hooks.trace_data = user_data;
    atomic_store(&pier__tracing, fn != NULL);
    pthread_mutex_unlock(&lock);
}

void pier_unobserved_set(pier_unobserved_fn fn, void *user_data)
{
    pthread_mutex_lock(&lock);
    hooks.unobserved = fn;
    hooks.unobserved_data = user_data;
    pthread_mutex_unlock(&lock);
}

bool pier__log_wants(pier_log_level level)
{
    return (int)level <= atomic_load_explicit(&log_level, memory_order_relaxed);
}

void pier__log(pier_log_level level, const char *format, ...)
{
    if (!pier__log_wants(level)) {
        return;
    }
    char message[512];
    va_list list;
    va_start(list, format);
    vsnprintf(message, sizeof message, format, list);
    va_end(list);
    pthread_mutex_lock(&lock);
    pier_log_fn fn = hooks.log;
    void *data = hooks.log_data;
    pthread_mutex_unlock(&lock);
    if (fn) {
        fn(level, message, data);
    }
}

void pier__trace_end(const pier_trace *trace)
{
    pthread_mutex_lock(&lock);
    pier_trace_fn fn = hooks.trace;
    void *data = hooks.trace_data;
    pthread_mutex_unlock(&lock);
    if (fn) {
        fn(trace, data);
    }
}

void pier__unobserved(const pier_error *err)
{
    pthread_mutex_lock(&lock);
    pier_unobserved_fn fn = hooks.unobserved;
    void *data = hooks.unobserved_data;
    pthread_mutex_unlock(&lock);
    if (fn) {
        fn(err, data);
    } else {
        pier__log(PIER_LOG_WARNING, "nobody looked at this failure: %s", err->message);
    }
}
