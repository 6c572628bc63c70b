#ifndef PIER_SDK_QUERY_LOG_H
#define PIER_SDK_QUERY_LOG_H
/*
 * Telling the log of queries. One load where there is none.
 */
#include "sdk/db.h"
#include <pier/query_log.h>

/* Is anybody interested? */
extern atomic_bool pier__query_logging;

/* The request takes its first step. */
void pier__query_begin(pier__db_op *op);
/* It has its connection and the turn on it. */
void pier__query_runs(pier__db_op *op);
/* It has ended, and is about to settle. */
void pier__query_end(pier__db_op *op);

/* Copies a statement with ? for each literal in it, and without comments. */
void pier__query_mask(char *to, size_t size, const char *sql, size_t sql_size);

#endif
