#ifndef PIER_SDK_LANE_H
#define PIER_SDK_LANE_H
/*
 * A lane: one thread, started with the first job, and a FIFO queue of operations whose `wait.work`
 * it runs. A job done is mailed to its operation as PIER__WORKED.
 */
#include "sdk/op.h"
#include <pier/async/lane.h>

/* A lane that is not entered in the runner's list of handles: a driver's own. */
pier_lane *pier__lane_new(pier_runner *runner, const char *name);
/* Ends it after the jobs queued; joins the thread unless the caller is it. NULL is harmless. */
void pier__lane_free(pier_lane *lane);

/* Queues `op->wait.work`. False: no thread could be started. Holds a reference until it is done. */
bool pier__lane_post(pier_lane *lane, pier__op *op);
/* Takes a job back that has not started. False: it has, or is done. */
bool pier__lane_unpost(pier_lane *lane, pier__op *op);
/* Is the calling thread this lane's? */
bool pier__lane_is_here(const pier_lane *lane);

#endif
