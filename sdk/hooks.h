#ifndef PIER_SDK_HOOKS_H
#define PIER_SDK_HOOKS_H
/*
 * Telling the program's hooks. Each costs one load where there is no hook.
 */
#include <pier/hooks.h>
#include <stdatomic.h>

/* Is anybody interested? */
extern atomic_bool pier__tracing;

/* Would pier__log tell anybody? For messages that cost something to make. */
bool pier__log_wants(pier_log_level level);
void pier__log(pier_log_level level, const char *format, ...) PIER_PRINTF(2, 3);
void pier__trace_end(const pier_trace *trace);
void pier__unobserved(const pier_error *err);

#endif
