#ifndef PIER_ASYNC_EVENT_H
#define PIER_ASYNC_EVENT_H
/*
 * Events between threads and tasks: a flag that can be waited for.
 */
#include <pier/future.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_event pier_event;

/**
 * Makes an event, which is not set.
 *
 * @param runner  borrowed until the event is freed
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return owned: pier_event_free; NULL on failure
 *
 * Errors: PIER_ENOMEM.
 * Threads: any. Mirrors: `asyncio.Event`.
 */
PIER_API pier_event *pier_event_new(pier_runner *runner, pier_error *err);

/**
 * Waits until the event is set. All who wait when it is set go on, also when it is cleared at once.
 *
 * @param event  borrowed until the future has settled
 * @return owned: the future of 0
 *
 * Errors: PIER_ETIMEDOUT, PIER_ECANCELLED; PIER_ECLOSED when it is freed meanwhile.
 * Threads: any. Mirrors: `asyncio.Event.wait`.
 */
PIER_SYNC(int, fast)
PIER_API pier_future *pier_event_wait_async(pier_event *event);

/**
 * Sets the event.
 *
 * @param event  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, callbacks on the loop included.
 */
PIER_API void pier_event_set(pier_event *event);

/**
 * Clears the event: who comes now waits until it is set again.
 *
 * @param event  borrowed until the call returns: NULL is harmless
 *
 * Threads: any, callbacks on the loop included.
 */
PIER_API void pier_event_clear(pier_event *event);

/**
 * Says whether the event is set.
 *
 * @param event  borrowed until the call returns
 * @return whether it is; false for NULL
 *
 * Threads: any.
 */
PIER_API bool pier_event_is_set(const pier_event *event);

/**
 * Frees an event. Those who wait for it fail with PIER_ECLOSED.
 *
 * @param event  taken: NULL is harmless
 *
 * Threads: any, callbacks on the loop included, when nobody will call it any more. What is not
 * freed is freed with the runner.
 */
PIER_API void pier_event_free(pier_event *event);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_event, pier_event_free)
#endif
#endif
