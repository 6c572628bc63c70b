#ifndef PIER_DRIVERS_POSTGRES_ENCODE_H
#define PIER_DRIVERS_POSTGRES_ENCODE_H
/*
 * Arguments in the form in which they are sent: binary where the type that the server described
 * is known here, else text. The memory stays with the connection from one statement to the next.
 */
#include "sdk/error.h"
#include <pier/value.h>
#include <postgres_ext.h>

enum { PIER__POSTGRES_SLOT = 32 }; /* more than the longest number written out */

/* Zeroed memory is an encoder. */
typedef struct pier__postgres_encoder {
    int room; /* arguments that the arrays hold */
    const char **values;
    int *sizes;
    int *formats;
    char (*slots)[PIER__POSTGRES_SLOT]; /* numbers */
} pier__postgres_encoder;

/* Fills values, sizes and formats for the parameters of a statement; they refer to `args`. 0, or a
 * status with `err` filled. */
int pier__postgres_encode(pier__postgres_encoder *encoder, const pier_args *args, const Oid *types,
                          int count, pier_error *err);
void pier__postgres_encoder_fini(pier__postgres_encoder *encoder);

#endif
