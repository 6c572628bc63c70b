#ifndef PIER_PIER_H
#define PIER_PIER_H
/* All of Pier: both faces of the databases and of HTTP, and the bridge between them. */
#include <pier/buffer.h>
#include <pier/condition.h>
#include <pier/db.h>
#include <pier/debug.h>
#include <pier/enter.h>
#include <pier/error.h>
#include <pier/event.h>
#include <pier/executor.h>
#include <pier/file.h>
#include <pier/future.h>
#include <pier/group.h>
#include <pier/hooks.h>
#include <pier/http.h>
#include <pier/iter.h>
#include <pier/lane.h>
#include <pier/mutex.h>
#include <pier/postgres.h>
#include <pier/query_log.h>
#include <pier/queue.h>
#include <pier/offload.h>
#include <pier/row.h>
#include <pier/runner.h>
#include <pier/scope.h>
#include <pier/semaphore.h>
#include <pier/sqlite.h>
#include <pier/sqlite_changes.h>
#include <pier/sqlite_function.h>
#include <pier/sqlite_hook.h>
#include <pier/sqlite_blob.h>
#include <pier/sqlite_copy.h>
#include <pier/sqlite_run.h>
#include <pier/struct.h>
#include <pier/task.h>
#include <pier/testing.h>
#include <pier/value.h>

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_buffer, pier_buffer_free)
PIER__AUTO_DEFINE(pier_db, pier_db_close)
PIER__AUTO_DEFINE(pier_http, pier_http_close)
#endif
#endif
