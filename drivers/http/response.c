/*
 * Responses.
 */
#include "drivers/http/response.h"

#include "sdk/alloc.h"
#include <stdlib.h>
#include <string.h>

pier_response *pier__response_new(void)
{
    return pier__calloc(1, sizeof(pier_response));
}

bool pier__response_begin(pier_response *response, const char *line, size_t size)
{
    if (size < 5 || memcmp(line, "HTTP/", 5)) {
        return false;
    }
    while (size && (line[size - 1] == '\n' || line[size - 1] == '\r')) {
        size--;
    }
    const char *space = memchr(line, ' ', size);
    const char *end = line + size;
    int status = 0;
    const char *at = space ? space + 1 : end;
    for (; at < end && *at >= '0' && *at <= '9' && status < 1000; at++) {
        status = 10 * status + (*at - '0');
    }
    at += at < end;
    response->status = status;
    size_t length = (size_t)(end - at);
    if (length >= sizeof response->reason) {
        length = sizeof response->reason - 1;
    }
    memcpy(response->reason, at, length);
    response->reason[length] = 0;
    for (char *byte = response->reason; *byte; byte++) {
        if ((unsigned char)*byte < ' ' || *byte == 127) {
            *byte = '?';
        }
    }
    pier__header_store_clear(&response->headers);
    return true;
}

bool pier__response_reserve(pier_response *response, size_t size)
{
    if (size < response->capacity) {
        return true;
    }
    char *body = pier__realloc(response->body, size + 1);
    if (!body) {
        return false;
    }
    response->body = body;
    response->capacity = size + 1;
    return true;
}

bool pier__response_append(pier_response *response, const void *data, size_t size)
{
    size_t needed = response->size + size;
    if (needed >= response->capacity) {
        size_t doubled = 2 * response->capacity;
        if (!pier__response_reserve(response, needed > doubled ? needed : doubled)) {
            return false;
        }
    }
    memcpy(response->body + response->size, data, size);
    response->size = needed;
    response->body[needed] = 0;
    return true;
}

const char *pier__response_reason(const pier_response *response)
{
    static const struct {
        int status;
        const char *reason;
    } reasons[] = {
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {409, "Conflict"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {422, "Unprocessable Content"},
        {429, "Too Many Requests"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    if (*response->reason) {
        return response->reason;
    }
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        if (reasons[i].status == response->status) {
            return reasons[i].reason;
        }
    }
    return "";
}

/* ---- Public ------------------------------------------------------------------------------- */

int pier_response_status(const pier_response *response)
{
    return response ? response->status : 0;
}

const char *pier_response_header(const pier_response *response, const char *name)
{
    return response && name ? pier__header_store_find(&response->headers, name) : NULL;
}

const char *pier_response_text(const pier_response *response, size_t *size)
{
    if (size) {
        *size = response ? response->size : 0;
    }
    if (!response) {
        return NULL;
    }
    return response->body ? response->body : "";
}

const char *pier_response_url(const pier_response *response)
{
    return response ? response->url : NULL;
}

void pier_response_free(pier_response *response)
{
    if (response) {
        pier__header_store_fini(&response->headers);
        pier__free(response->url);
        pier__free(response->body);
        pier__free(response);
    }
}
