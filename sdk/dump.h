#ifndef PIER_SDK_DUMP_H
#define PIER_SDK_DUMP_H
/*
 * Collecting what pier_runner_dump says.
 */
#include "sdk/handle.h"

typedef struct pier__dump pier__dump;

/* Adds a line, and for how long that is so: since `since` (0: it does not say). */
void pier__dump_line(pier__dump *dump, int64_t since, const char *format, ...) PIER_PRINTF(3, 4);

/* sdk/dump.c: a pool of connections. */
void pier__db_describe(pier__handle *handle, pier__dump *dump);

#endif
