#ifndef PIER_BASE_H
#define PIER_BASE_H
/* A stub of the real header: what the fixture and what is generated from it need. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PIER_API
#define PIER_CHECKED __attribute__((warn_unused_result))
#define PIER_SYNC(...)
#define PIER_SYNC_ITERATOR(...)
#define PIER_ASYNC_ONLY(reason)

typedef struct pier_error pier_error;
typedef struct pier_future pier_future;

#endif
