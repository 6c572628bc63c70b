#ifndef PIER_SDK_OP_H
#define PIER_SDK_OP_H
/* A stub of the real header. */
#include <pier/base.h>

pier_future *pier__op_submit(pier_future *operation);
pier_future *pier__op_run(pier_future *operation, pier_error *err);
void *pier__op_take_pointer(pier_future *future, const char *type, pier_error *err);
int pier__op_take_int(pier_future *future, const char *type, pier_error *err);
int64_t pier__op_take_int64(pier_future *future, const char *type, pier_error *err);
void pier__op_take_void(pier_future *future);

#endif
