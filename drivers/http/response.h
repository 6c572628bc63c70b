#ifndef PIER_DRIVERS_HTTP_RESPONSE_H
#define PIER_DRIVERS_HTTP_RESPONSE_H
/*
 * A response: filled by whoever drives its transfer, then the user's.
 */
#include "drivers/http/headers.h"

struct pier_response {
    int status;
    char reason[64]; /* "Not Found", as the server says it; may be "" */
    pier__header_store headers;
    char *url;
    char *body; /* a zero byte behind it; NULL while empty */
    size_t size, capacity;
};

pier_response *pier__response_new(void);
/* Begins with a status line: "HTTP/1.1 404 Not Found". False: that is none. */
bool pier__response_begin(pier_response *response, const char *line, size_t size);
/* Makes room for `size` bytes of body and the zero. False: no memory. */
bool pier__response_reserve(pier_response *response, size_t size);
bool pier__response_append(pier_response *response, const void *data, size_t size);
/* The reason the server gave, or the usual one for the status. */
const char *pier__response_reason(const pier_response *response);

#endif
