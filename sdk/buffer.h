#ifndef PIER_SDK_BUFFER_H
#define PIER_SDK_BUFFER_H
/*
 * Making the bytes that functions hand over.
 */
#include <pier/buffer.h>

/* Room for `size` bytes behind the struct, to be filled by the caller; NULL: no memory. */
pier_buffer *pier__buffer_new(size_t size);
/* Takes over memory that `release` frees; NULL: no memory, and it has been released. */
pier_buffer *pier__buffer_adopt(void *data, size_t size, void (*release)(void *data));

#endif
