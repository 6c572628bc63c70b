#ifndef PIER_SDK_WATCH_H
#define PIER_SDK_WATCH_H
/*
 * The loop's watch of one descriptor. It stays armed for reading between operations, which saves
 * three system calls for each, and is written to the kernel only when interest changes.
 */
#include "sdk/op.h"

/* Watches `fd`; NULL: no memory, or not a descriptor that can be watched. Loop thread. */
pier__watch *pier__watch_open_on_loop(pier_runner *runner, int fd);
/* Reports to `op` when the events come, until it is disarmed. Loop thread. */
bool pier__watch_arm_on_loop(pier__watch *watch, pier__op *op, unsigned events);
/* No operation is interested now; reading stays armed in the kernel. Loop thread. */
void pier__watch_rest_on_loop(pier__watch *watch);
/* Ends it before the descriptor is closed. Sets *watch to NULL. Loop thread; NULL is harmless. */
void pier__watch_close_on_loop(pier__watch **watch);

#endif
