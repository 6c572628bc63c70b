#ifndef PIER_DRIVERS_POSTGRES_MESSAGE_H
#define PIER_DRIVERS_POSTGRES_MESSAGE_H
/*
 * The messages of version 3 of Postgres' protocol that a client sends, put behind what is to be
 * sent. False: no memory, after which the transport is of no use.
 */
#include "drivers/postgres/columns.h"
#include "drivers/postgres/encode.h"
#include "drivers/postgres/transport.h"

enum { PIER__MESSAGE_STATEMENT = 'S', PIER__MESSAGE_PORTAL = 'P' };

/* One or more statements without parameters, answered with one ReadyForQuery. */
bool pier__message_query(pier__postgres_transport *transport, const char *sql);
bool pier__message_parse(pier__postgres_transport *transport, const char *name, const char *sql,
                         size_t sql_size, const Oid *types, int type_count);
bool pier__message_describe(pier__postgres_transport *transport, char what, const char *name);
bool pier__message_close(pier__postgres_transport *transport, char what, const char *name);
/* With what has been encoded for `count` parameters; `columns` are asked for in the formats that
 * they want (NULL: text). */
bool pier__message_bind(pier__postgres_transport *transport, const char *portal, const char *name,
                        const pier__postgres_encoder *encoder, int count,
                        const pier__postgres_columns *columns);
/* `rows_max` 0: all of them. */
bool pier__message_execute(pier__postgres_transport *transport, const char *portal, int rows_max);
/* Answered with a ReadyForQuery. */
bool pier__message_sync(pier__postgres_transport *transport);
bool pier__message_copy_fail(pier__postgres_transport *transport, const char *why);
/* A statement without parameters and rows, parsed, bound and executed, all unnamed. */
bool pier__message_command(pier__postgres_transport *transport, const char *sql);

#endif
