#ifndef PIER_SDK_MUTEX_H
#define PIER_SDK_MUTEX_H
/*
 * The inside of mutexes, for conditions.
 */
#include "sdk/gate.h"
#include <pier/mutex.h>

/* Who holds what a future or a callback has locked. */
#define PIER__NOBODY ((const void *)&pier__nobody)
extern const uintptr_t pier__nobody;

/* Does `holder` hold it? */
bool pier__mutex_is_held_by(pier_mutex *mutex, const void *holder);
/* Asks for it. QUEUED: wait to be woken, then look. */
pier__waiter_state pier__mutex_take(pier_mutex *mutex, pier__waiter *waiter, const void *holder);
/* What a step finds; PIER__CANCEL gives the wait up. */
pier__waiter_state pier__mutex_look(pier_mutex *mutex, pier__waiter *waiter, unsigned events);
/* Hands it to the next, whoever holds it. */
void pier__mutex_give(pier_mutex *mutex);
pier_runner *pier__mutex_runner(const pier_mutex *mutex);
pier_mutex *pier__mutex_ref(pier_mutex *mutex);
void pier__mutex_unref(pier_mutex *mutex);

/* A cold operation that locks it, heeds neither scopes nor cancelling, and fails with PIER_ECLOSED
 * soon after the runner has begun to close. */
pier__op *pier__mutex_relock_op(pier_mutex *mutex);

#endif
