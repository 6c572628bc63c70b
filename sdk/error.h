#ifndef PIER_SDK_ERROR_H
#define PIER_SDK_ERROR_H
/*
 * Filling a pier_error from inside the library. All tolerate a NULL `err`.
 */
#include <pier/error.h>
#include <stdarg.h>

PIER_COLD int pier__error_setv(pier_error *err, int status, const char *format, va_list list)
    PIER_PRINTF(3, 0);

/* An errno: origin, native and its text behind the message. */
PIER_COLD int pier__error_system(pier_error *err, int status, int number, const char *format, ...)
    PIER_PRINTF(4, 5);

/* Adds a further field; cut where the room ends. NULL and "" add nothing. */
void pier__error_add_field(pier_error *err, pier_field field, const char *text);

/* Fails because a handle was NULL: keeps the error that is there already, which explains it. Gives
 * the status of whichever error is in `err`. */
PIER_COLD int pier__error_null(pier_error *err, const char *what);

#endif
