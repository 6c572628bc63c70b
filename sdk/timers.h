#ifndef PIER_SDK_TIMERS_H
#define PIER_SDK_TIMERS_H
/*
 * Moments at which operations must be looked at: a pairing heap that lives in the operations
 * themselves, so that setting one cannot fail. Loop thread.
 */
#include "sdk/op.h"

/* Sets or moves it; 0 takes it out. */
void pier__timer_set(struct pier__timer **heap, struct pier__timer *timer, int64_t when);
/* The operation that a timer is part of. */
pier__op *pier__timer_op(struct pier__timer *timer);

#endif
