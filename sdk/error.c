/*
 * Errors. The further fields are packed one after the other: a byte for which, the text, a zero.
 */
#include "sdk/error.h"

#include <stdio.h>
#include <string.h>

_Static_assert(sizeof(pier_error) == 1024, "the size of pier_error is part of the ABI");

/* Ends a text that was cut before a character of which not all bytes are there. */
static void end_at_character(char *text)
{
    size_t length = strlen(text), tail = 0;
    while (tail < 3 && tail < length && ((unsigned char)text[length - 1 - tail] & 0xC0) == 0x80) {
        tail++;
    }
    if (tail < length) {
        unsigned char lead = (unsigned char)text[length - 1 - tail];
        size_t expected = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
        if (tail < expected) {
            text[length - 1 - tail] = '\0';
        }
    }
}

int pier__error_setv(pier_error *err, int status, const char *format, va_list list)
{
    if (err) {
        char message[sizeof err->message]; /* `err` itself may be among the arguments */
        message[0] = '\0';                 /* where not even that can be formatted */
        vsnprintf(message, sizeof message, format, list);
        end_at_character(message);
        memset(err, 0, sizeof *err);
        err->status = status;
        memcpy(err->message, message, strlen(message) + 1); /* and nothing of this stack */
    }
    return status;
}

int pier_error_set(pier_error *err, int status, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    pier__error_setv(err, status, format, list);
    va_end(list);
    return status;
}

int pier__error_system(pier_error *err, int status, int number, const char *format, ...)
{
    if (!err) {
        return status;
    }
    va_list list;
    va_start(list, format);
    pier__error_setv(err, status, format, list);
    va_end(list);
    err->origin = PIER_ORIGIN_SYSTEM;
    err->native = number;
    char reason[96] = "";
    const char *text = strerror_r(number, reason, sizeof reason);
    size_t length = strlen(err->message);
    snprintf(err->message + length, sizeof err->message - length, ": %s", text);
    end_at_character(err->message);
    return status;
}

void pier__error_add_field(pier_error *err, pier_field field, const char *text)
{
    if (!err || !text || !*text) {
        return;
    }
    size_t at = 0;
    while (at < sizeof err->packed && err->packed[at]) {
        at += 2 + strlen((const char *)err->packed + at + 1);
    }
    size_t length = strlen(text);
    /* A zero byte must remain behind the last field. */
    if (at + 4 > sizeof err->packed) {
        return;
    }
    size_t room = sizeof err->packed - at - 3;
    if (length > room) {
        length = room;
        while (length && ((unsigned char)text[length] & 0xC0) == 0x80) {
            length--;
        }
    }
    err->packed[at] = (unsigned char)field;
    memcpy(err->packed + at + 1, text, length);
    err->packed[at + 1 + length] = 0;
}

const char *pier_error_field(const pier_error *err, pier_field field)
{
    if (!err) {
        return NULL;
    }
    for (size_t at = 0; at + 1 < sizeof err->packed && err->packed[at];) {
        const char *text = (const char *)err->packed + at + 1;
        if (err->packed[at] == (unsigned char)field) {
            return text;
        }
        at += 2 + strlen(text);
    }
    return NULL;
}

int pier__error_null(pier_error *err, const char *what)
{
    if (err && err->status < 0) {
        return err->status;
    }
    return pier_error_set(err, PIER_EINVAL,
                          "%s is NULL; what should have made it failed, or was not checked", what);
}

const char *pier_status_name(int status)
{
    static const char *const names[] = {
        "PIER_OK",           "PIER_EINVAL",         "PIER_ENOMEM",   "PIER_ETIMEDOUT",
        "PIER_ECANCELLED",   "PIER_EDEADLOCK",      "PIER_EFORKED",  "PIER_ECLOSED",
        "PIER_EBUSY",        "PIER_EPOOL",          "PIER_ECONNECT", "PIER_ESQL",
        "PIER_ECONSTRAINT",  "PIER_ESERIALIZATION", "PIER_ETYPE",    "PIER_ERANGE",
        "PIER_EHTTP_STATUS", "PIER_EPROTOCOL",      "PIER_EIO",      "PIER_EUSER",
    };
    bool known = status <= 0 && status > -(int)(sizeof names / sizeof *names);
    return known ? names[-status] : "PIER_?";
}
