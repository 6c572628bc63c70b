#ifndef PIER_SDK_OPTIONS_H
#define PIER_SDK_OPTIONS_H
/*
 * Reading options structs of callers that were compiled against an older or newer header.
 */
#include "sdk/error.h"
#include <string.h>

/*
 * Copies the caller's options over `options`, which is `size` zero bytes: fields that the caller
 * does not know keep their default, those that this library does not know must be 0.
 */
static inline int pier__options_read(void *options, size_t size, const void *given,
                                     const char *macro, pier_error *err)
{
    if (!given) {
        return 0;
    }
    size_t given_size = *(const size_t *)given;
    if (given_size < sizeof(size_t)) {
        return pier_error_set(err, PIER_EINVAL, "options without a struct_size; make them with %s",
                              macro);
    }
    const unsigned char *bytes = given;
    for (size_t i = size; i < given_size; i++) {
        if (bytes[i]) {
            return pier_error_set(err, PIER_EINVAL,
                                  "%s sets an option that this version of Pier does not know",
                                  macro);
        }
    }
    memcpy(options, given, given_size < size ? given_size : size);
    return 0;
}

#endif
