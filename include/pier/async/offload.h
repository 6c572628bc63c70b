#ifndef PIER_ASYNC_OFFLOAD_H
#define PIER_ASYNC_OFFLOAD_H
/*
 * Offloading: a blocking function of yours gets both faces. On a thread it is just called; for
 * tasks and callbacks a thread of the runner's executor calls it, and the loop goes on meanwhile.
 *
 *     static int64_t count_words(const char *path, int least, pier_error *err);
 *
 *     PIER_OFFLOAD(int64_t, -1, word_count, count_words, (const char *, path), (int, least));
 *
 * defines, after an include of pier/offload.h,
 *
 *     int64_t word_count(pier_runner *runner, const char *path, int least, pier_error *err);
 *     pier_future *word_count_async(pier_runner *runner, const char *path, int least);
 *     int64_t word_count_finish(pier_future *future, pier_error *err);
 */
#include <pier/buffer.h>
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Does the work: `call` holds the arguments and takes the result. It fails by filling `err`. */
typedef void (*pier_offload_fn)(void *call, pier_error *err);

/**
 * Runs `fn` on a copy of `call`. The asynchronous form, and the blocking one in a task, have a
 * thread of the runner's executor do it (as pier_to_thread); on a thread the caller does it itself.
 *
 * What runs cannot be stopped: at a deadline a task goes on at once, and the copy lives until `fn`
 * has returned. What pointers in it point to is yours, and must live as long.
 *
 * @param runner  borrowed until the future has settled
 * @param fn      borrowed until the future has settled
 * @param call    copied: arguments, and room for the result
 * @param size    of it in bytes
 * @return owned: the future of a `pier_buffer *`, freed by pier_buffer_free: the copy, as `fn` left
 *         it
 *
 * Errors: what `fn` failed with; PIER_EBUSY (the queue is full).
 * Threads: any. Mirrors: a decorator around `asyncio.to_thread`.
 */
PIER_SYNC(pier_buffer *)
PIER_API pier_future *pier_offload_async(pier_runner *runner, pier_offload_fn fn, const void *call,
                                         size_t size);

#ifdef __cplusplus
}
#endif

/*
 * PIER_OFFLOAD(result, failed, name, function, (type, argument), ...); with one to six arguments:
 * defines `name`, `name_async` and `name_finish` at file scope, over `function`, which takes the
 * arguments and a pier_error *. They give `failed` when it filled the error, or could not be
 * called. Arguments are copied by value; a result that owns something is lost with a future that
 * nobody finishes.
 */
#define PIER_OFFLOAD(result_type, failed, name, function, ...)                                     \
    struct name##_call {                                                                           \
        PIER__OFFLOAD_EACH(PIER__OFFLOAD_FIELD, __VA_ARGS__)                                       \
        result_type result_;                                                                       \
    };                                                                                             \
    static void name##_run(void *memory_, pier_error *err_)                                        \
    {                                                                                              \
        struct name##_call *call_ = (struct name##_call *)memory_;                                 \
        call_->result_ = function(PIER__OFFLOAD_EACH(PIER__OFFLOAD_PASS, __VA_ARGS__) err_);       \
    }                                                                                              \
    static inline __attribute__((unused)) result_type name##_take(pier_buffer *taken_)             \
    {                                                                                              \
        result_type result_ =                                                                      \
            taken_ ? ((const struct name##_call *)taken_->data)->result_ : (failed);               \
        pier_buffer_free(taken_);                                                                  \
        return result_;                                                                            \
    }                                                                                              \
    static inline __attribute__((unused)) pier_future *name##_async(                               \
        pier_runner *runner_ PIER__OFFLOAD_EACH(PIER__OFFLOAD_AND, __VA_ARGS__))                   \
    {                                                                                              \
        struct name##_call call_;                                                                  \
        PIER__OFFLOAD_EACH(PIER__OFFLOAD_SET, __VA_ARGS__)                                         \
        call_.result_ = (failed);                                                                  \
        return pier_offload_async(runner_, name##_run, &call_, sizeof call_);                      \
    }                                                                                              \
    static inline __attribute__((unused))                                                          \
    result_type name##_finish(pier_future *future_, pier_error *err_)                              \
    {                                                                                              \
        return name##_take(pier_offload_finish(future_, err_));                                    \
    }                                                                                              \
    static inline __attribute__((unused)) result_type name(                                        \
        pier_runner *runner_,                                                                      \
        PIER__OFFLOAD_EACH(PIER__OFFLOAD_PARAMETER, __VA_ARGS__) pier_error *err_)                 \
    {                                                                                              \
        struct name##_call call_;                                                                  \
        PIER__OFFLOAD_EACH(PIER__OFFLOAD_SET, __VA_ARGS__)                                         \
        call_.result_ = (failed);                                                                  \
        return name##_take(pier_offload(runner_, name##_run, &call_, sizeof call_, err_));         \
    }                                                                                              \
    struct name##_call /* takes the semicolon */

#define PIER__OFFLOAD_FIELD(type, argument) type argument;
#define PIER__OFFLOAD_PARAMETER(type, argument) type argument,
#define PIER__OFFLOAD_AND(type, argument) , type argument
#define PIER__OFFLOAD_SET(type, argument) call_.argument = argument;
#define PIER__OFFLOAD_PASS(type, argument) call_->argument,

/* Applies a macro to each of one to six pairs. */
#define PIER__OFFLOAD_EACH(macro, ...)                                                             \
    PIER__OFFLOAD_EACH_OF(__VA_ARGS__, PIER__OFFLOAD_EACH_6, PIER__OFFLOAD_EACH_5,                 \
                          PIER__OFFLOAD_EACH_4, PIER__OFFLOAD_EACH_3, PIER__OFFLOAD_EACH_2,        \
                          PIER__OFFLOAD_EACH_1, )                                                  \
    (macro, __VA_ARGS__)
#define PIER__OFFLOAD_EACH_OF(a, b, c, d, e, f, chosen, ...) chosen
#define PIER__OFFLOAD_EACH_1(macro, a) macro a
#define PIER__OFFLOAD_EACH_2(macro, a, ...) macro a PIER__OFFLOAD_EACH_1(macro, __VA_ARGS__)
#define PIER__OFFLOAD_EACH_3(macro, a, ...) macro a PIER__OFFLOAD_EACH_2(macro, __VA_ARGS__)
#define PIER__OFFLOAD_EACH_4(macro, a, ...) macro a PIER__OFFLOAD_EACH_3(macro, __VA_ARGS__)
#define PIER__OFFLOAD_EACH_5(macro, a, ...) macro a PIER__OFFLOAD_EACH_4(macro, __VA_ARGS__)
#define PIER__OFFLOAD_EACH_6(macro, a, ...) macro a PIER__OFFLOAD_EACH_5(macro, __VA_ARGS__)
#endif
