#ifndef PIER_SDK_DUMP_H
#define PIER_SDK_DUMP_H
/*
 * Collecting what pier_runner_dump says.
 */
#include "sdk/handle.h"
#include "sdk/op.h"

typedef struct pier__dump pier__dump;

/* Adds a line, and for how long that is so: since `since` (0: it does not say). */
void pier__dump_line(pier__dump *dump, int64_t since, const char *format, ...) PIER_PRINTF(3, 4);

/* Who a thread or task (pier__pool_holder) is; it may have ended. Under the runner's lock. */
void pier__dump_who(pier_runner *runner, const void *holder, char *text, size_t size);
/* Who blocks in an operation that lives, whoever steps it now; NULL: nobody. */
const void *pier__dump_holder(const pier__op *op);

/* sdk/group.c: the groups of a runner. Under no lock. */
void pier__groups_describe(pier_runner *runner, pier__dump *dump);
/* sdk/dump.c: a pool of connections. */
void pier__db_describe(pier__handle *handle, pier__dump *dump);

#endif
