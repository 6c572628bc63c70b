#ifndef PIER_ERROR_H
#define PIER_ERROR_H
/*
 * How functions fail: a negative pier_status or NULL, and the particulars in a pier_error that the
 * caller owns. Start with `pier_error err = {0};`. Success leaves it alone.
 */
#include <pier/base.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pier_status {
    PIER_OK = 0,
    PIER_EINVAL = -1,          /* an argument that cannot be right */
    PIER_ENOMEM = -2,          /* out of memory */
    PIER_ETIMEDOUT = -3,       /* a deadline passed; the work has been cancelled */
    PIER_ECANCELLED = -4,      /* a scope, a future or a signal cancelled it */
    PIER_EDEADLOCK = -5,       /* waiting here could never end; the message says why */
    PIER_EFORKED = -6,         /* the runner belongs to the parent process */
    PIER_ECLOSED = -7,         /* the runner, database or session is closed or closing */
    PIER_EBUSY = -8,           /* locked by somebody else */
    PIER_EPOOL = -9,           /* no pooled connection became free in time */
    PIER_ECONNECT = -10,       /* no connection: name, network, authentication, TLS */
    PIER_ESQL = -11,           /* the database refused the statement */
    PIER_ECONSTRAINT = -12,    /* a constraint was violated; `constraint` may name it */
    PIER_ESERIALIZATION = -13, /* serialization failure or deadlock: try the transaction again */
    PIER_ETYPE = -14,          /* a value of another type, or NULL where a value is needed; also
                                  where the database found out (SQLSTATE 22P02, SQLITE_MISMATCH) */
    PIER_ERANGE = -15,         /* a value, an index or a size out of range */
    PIER_EHTTP_STATUS = -16,   /* an HTTP status of 400 and more; see `http_status` */
    PIER_EPROTOCOL = -17,      /* a peer broke its protocol or ended in mid-sentence */
    PIER_EIO = -18,            /* files and devices; `native` is an errno */
    PIER_EUSER = -19           /* for your own failures: pier_error_set(err, PIER_EUSER, ...) */
} pier_status;

/* Whose number `native` is. */
typedef enum pier_origin {
    PIER_ORIGIN_PIER = 0,
    PIER_ORIGIN_SYSTEM = 1,   /* errno */
    PIER_ORIGIN_POSTGRES = 2, /* none; see `sqlstate` */
    PIER_ORIGIN_SQLITE = 3,   /* an extended result code */
    PIER_ORIGIN_HTTP = 4      /* a CURLcode */
} pier_origin;

/* Further fields of an error, for pier_error_field. */
typedef enum pier_field {
    PIER_FIELD_DETAIL = 1,
    PIER_FIELD_HINT = 2,
    PIER_FIELD_SCHEMA = 3,
    PIER_FIELD_TABLE = 4,
    PIER_FIELD_COLUMN = 5,
    PIER_FIELD_POSITION = 6,
    PIER_FIELD_CONTEXT = 7,
    PIER_FIELD_SEVERITY = 8, /* "ERROR", never translated */
    PIER_FIELD_DATATYPE = 9,
    PIER_FIELD_INTERNAL_POSITION = 10, /* in the internal query */
    PIER_FIELD_INTERNAL_QUERY = 11,    /* a statement that a function on the server ran */
    PIER_FIELD_SOURCE_FILE = 12,       /* of the server's own source: which check it was */
    PIER_FIELD_SOURCE_LINE = 13,
    PIER_FIELD_SOURCE_FUNCTION = 14,
    PIER_FIELD_SEVERITY_LOCALIZED = 15 /* in the server's language */
} pier_field;

/* 1,024 bytes, now and in every later version. Copy it freely; there is nothing to free. */
typedef struct pier_error {
    int status;      /* a pier_status; 0 while nothing failed */
    int origin;      /* a pier_origin */
    int native;      /* the code of the library or system below */
    int http_status; /* of a response that was an error, else 0 */
    char sqlstate[8];
    char constraint[64];
    char message[432];         /* what failed, on what, and what to do */
    unsigned char packed[504]; /* further fields; read them with pier_error_field */
} pier_error;

/**
 * Sets status and message, for errors of your own in tasks, callbacks and transactions.
 *
 * @param err     borrowed until the call returns: NULL is allowed
 * @param status  a negative pier_status
 * @param format  borrowed until the call returns: as for printf
 * @return `status`, so that `return pier_error_set(...)` reads well
 *
 * Threads: any; `err` belongs to the caller.
 */
PIER_API PIER_COLD int pier_error_set(pier_error *err, int status, const char *format, ...)
    PIER_PRINTF(3, 4);

/**
 * Gives a further field that the database sent with the error.
 *
 * There are about 500 bytes for all of them. Names, positions and the like come first; of what is
 * left, detail, hint, context and internal query get shares in this order, and are cut where theirs
 * end, never within a character.
 *
 * @param err    borrowed until the returned text is no longer used
 * @param field  which one
 * @return borrowed until `err` changes: the text, or NULL where there is none
 *
 * Threads: any. Mirrors: libpq `PQresultErrorField`.
 */
PIER_API const char *pier_error_field(const pier_error *err, pier_field field);

/**
 * Names a status: "PIER_ETIMEDOUT".
 *
 * @param status  a pier_status
 * @return borrowed for ever: a constant; "PIER_?" for an unknown one
 *
 * Threads: any.
 */
PIER_API const char *pier_status_name(int status);

#ifdef __cplusplus
}
#endif
#endif
