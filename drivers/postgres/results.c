/*
 * Taking results from libpq as they come. The request keeps what it needs: the description of a
 * statement, the last result, the first error, rows of a stream.
 */
#include "drivers/postgres/conn.h"

#include "drivers/postgres/error.h"
#include "drivers/postgres/tls.h"
#include <string.h>

enum { PART_DESCRIPTION = 1 }; /* which answer of a pipeline it is */

enum { BLOCK_BYTES_MAX = 1 << 20 };

bool pier__postgres_receive(pier__postgres_conn *conn)
{
    do {
        if (!PQconsumeInput(conn->pg)) {
            return false;
        }
    } while (conn->tls && pier__postgres_tls_pending(conn->pg));
    if (conn->flushing) {
        int left = PQflush(conn->pg);
        conn->flushing = left > 0;
        return left >= 0;
    }
    return true;
}

bool pier__postgres_block_is_full(const pier__postgres_conn *conn)
{
    return conn->builder.count >= conn->goal || conn->builder.data_size >= BLOCK_BYTES_MAX;
}

bool pier__postgres_receive_rows(pier__postgres_conn *conn)
{
    /* libpq reads 16 KB at most, and a block that small costs more than the system call that finds
     * out whether there is more. */
    size_t before;
    do {
        before = conn->builder.count;
        if (!pier__postgres_receive(conn)) {
            return false;
        }
        pier__postgres_collect(conn);
    } while (!conn->answered && conn->builder.count > before &&
             !pier__postgres_block_is_full(conn));
    return true;
}

void pier__postgres_results_clear(pier__postgres_conn *conn)
{
    if (conn->described || conn->result || conn->error) {
        PQclear(conn->described);
        PQclear(conn->result);
        PQclear(conn->error);
        conn->described = conn->result = conn->error = NULL;
    }
    conn->part = 0;
    conn->housekeeping = false;
}

static void keep(PGresult **place, PGresult *result)
{
    if (*place) {
        PQclear(*place);
    }
    *place = result;
}

static void take_success(pier__postgres_conn *conn, PGresult *result)
{
    const char *tag = PQcmdStatus(result);
    if (tag[0] == 'R' && strcmp(tag, "ROLLBACK") == 0) {
        conn->rollbacks++;
    }
    if (conn->many.counting) {
        /* What most rows do needs no reading of a number. */
        bool one = strcmp(tag, "INSERT 0 1") == 0;
        conn->many.changed += one ? 1 : pier__postgres_count_changes(result);
        PQclear(result);
    } else if (!conn->syncs) {
        keep(&conn->result, result);
    } else if (conn->housekeeping) {
        PQclear(result);
    } else {
        keep(conn->part == PART_DESCRIPTION ? &conn->described : &conn->result, result);
    }
}

static void take_error(pier__postgres_conn *conn, PGresult *result)
{
    if (pier__postgres_is_fatal(result)) {
        /* Nothing follows but the end of the connection. */
        conn->base.dead = true;
        conn->answered = true;
        keep(&conn->error, result);
    } else if (conn->error || (conn->syncs && conn->housekeeping)) {
        PQclear(result);
    } else {
        conn->error = result;
        conn->error_part = conn->part;
    }
}

static void take_row(pier__postgres_conn *conn, PGresult *row)
{
    if (conn->dropping || !conn->stream) {
        PQclear(row);
    } else if (!pier__postgres_builder_add(&conn->builder, row)) {
        conn->dropping = true;
        conn->out_of_memory = true;
    }
}

static void take_sync(pier__postgres_conn *conn, PGresult *result)
{
    PQclear(result);
    conn->housekeeping = true; /* what comes after the first Sync */
    if (--conn->syncs == 0) {
        PQexitPipelineMode(conn->pg);
        conn->answered = true;
    }
}

/* Rows are not expected by whoever executes COPY as a statement, and are dropped as others are.
 * False: more is to come. */
static bool drop_copy(pier__postgres_conn *conn)
{
    char *data;
    int size;
    while ((size = PQgetCopyData(conn->pg, &data, 1)) > 0) {
        PQfreemem(data);
    }
    conn->copying = size == 0;
    return !conn->copying;
}

static void refuse_copy(pier__postgres_conn *conn, PGresult *result)
{
    PQclear(result);
    PQputCopyEnd(conn->pg, "COPY FROM STDIN needs a writer; insert the rows instead");
    conn->flushing = PQflush(conn->pg) > 0;
}

static void take(pier__postgres_conn *conn, PGresult *result)
{
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
        take_success(conn, result);
        break;
    case PGRES_SINGLE_TUPLE:
        take_row(conn, result);
        break;
    case PGRES_PIPELINE_SYNC:
        take_sync(conn, result);
        break;
    case PGRES_PIPELINE_ABORTED:
        PQclear(result);
        break;
    case PGRES_COPY_OUT:
        conn->copying = true;
        PQclear(result);
        break;
    case PGRES_COPY_IN:
        refuse_copy(conn, result);
        break;
    default:
        take_error(conn, result);
        break;
    }
}

/* The NULL that stands behind it in a pipeline need not be waited for. */
static bool is_whole_answer(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result); /* of NULL: an error */
    return result && (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK ||
                      status == PGRES_FATAL_ERROR || status == PGRES_PIPELINE_ABORTED);
}

void pier__postgres_collect(pier__postgres_conn *conn)
{
    while (!conn->answered && !(conn->copying && !drop_copy(conn)) && !PQisBusy(conn->pg)) {
        if (conn->stream && pier__postgres_block_is_full(conn)) {
            return;
        }
        PGresult *result = PQgetResult(conn->pg);
        if (conn->many.counting && is_whole_answer(result)) {
            take(conn, result);
            result = conn->answered ? NULL : PQgetResult(conn->pg);
        }
        if (conn->answered) {
            PQclear(result);
        } else if (result) {
            take(conn, result);
        } else if (!conn->syncs || PQstatus(conn->pg) != CONNECTION_OK) {
            conn->answered = true;
        } else {
            conn->part++; /* in a pipeline NULL stands between the answers */
        }
    }
    if (conn->said.head) {
        pier__postgres_tell(conn);
    }
}
