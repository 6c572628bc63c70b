#ifndef PIER_ROW_H
#define PIER_ROW_H
/*
 * Rows and results, and the typed reading of their columns. Columns count from 0.
 *
 * A getter that cannot deliver (NULL, another type, out of range, no such column) returns 0, false
 * or NULL and records the first such failure: pier_cursor_close and pier_result_check report it.
 * A NULL row fails in the same way, with nothing to record it in.
 */
#include <pier/value.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pier_row pier_row;
typedef struct pier_result pier_result;

/**
 * Says whether a column is SQL's NULL.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row.
 */
PIER_API bool pier_row_is_null(const pier_row *row, int column);

/**
 * Reads a boolean; numbers are true where they are not 0.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row.
 */
PIER_API bool pier_row_bool(const pier_row *row, int column);

/**
 * Reads an integer. A floating-point or numeric value is delivered where it is a whole number in
 * range; text is not parsed.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row.
 */
PIER_API int64_t pier_row_int64(const pier_row *row, int column);

/**
 * Reads a number as floating point; text is not parsed.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row.
 */
PIER_API double pier_row_double(const pier_row *row, int column);

/**
 * Reads text; numbers and booleans are written out. SQL's NULL gives NULL and is no failure.
 *
 * @param row     borrowed until the returned text is no longer used
 * @param column  from 0
 * @return borrowed until the row ends: UTF-8, zero-terminated
 *
 * Threads: any that may read the row.
 */
PIER_API const char *pier_row_text(const pier_row *row, int column);

/**
 * Reads bytes, or text with its size. SQL's NULL gives NULL and is no failure.
 *
 * @param row     borrowed until the returned bytes are no longer used
 * @param column  from 0
 * @param size    borrowed until the call returns: set to the number of bytes; may be NULL
 * @return borrowed until the row ends: never NULL for a value of no bytes
 *
 * Threads: any that may read the row.
 */
PIER_API const void *pier_row_bytes(const pier_row *row, int column, size_t *size);

/**
 * Reads an integer as pier_row_int64 does, and from text: a decimal number, all of it, with a sign
 * and zeros behind a point at most: "7", "-7", "7.00". No spaces.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row.
 */
PIER_API int64_t pier_row_as_int64(const pier_row *row, int column);

/**
 * Reads floating point as pier_row_double does, and from text: a decimal number, all of it:
 * "-1.5", "1e3". No spaces.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row.
 */
PIER_API double pier_row_as_double(const pier_row *row, int column);

/**
 * Reads a boolean as pier_row_bool does, and from text: true, t, yes, y, on, 1, or false, f, no, n,
 * off, 0, in any case.
 *
 * @param row     borrowed until the call returns
 * @param column  from 0
 *
 * Threads: any that may read the row. Mirrors: Postgres's input of booleans.
 */
PIER_API bool pier_row_as_bool(const pier_row *row, int column);

/**
 * Reads a column as it is.
 *
 * @param row     borrowed until the value is no longer used
 * @param column  from 0
 * @return the value; its text and bytes are borrowed until the row ends; PIER_INVALID where there
 *         is no such column
 *
 * Threads: any that may read the row.
 */
PIER_API pier_value pier_row_value(const pier_row *row, int column);

/**
 * Reads the first columns of a row into variables.
 *
 * @param row   borrowed until the call returns
 * @param into  borrowed until the call returns: from PIER_INTO; a `char *` in it becomes yours, to
 *              be freed with free()
 * @param err   borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status, and then no variable has been written
 *
 * Errors: PIER_ETYPE, PIER_ERANGE, PIER_EINVAL (more places than columns).
 * Threads: any that may read the row.
 */
PIER_API int pier_row_into(const pier_row *row, const pier_intos *into, pier_error *err);

/**
 * Counts the rows.
 *
 * @param result  borrowed until the call returns: NULL has none
 *
 * Threads: any.
 */
PIER_API size_t pier_result_count(const pier_result *result);

/**
 * Gives a row.
 *
 * @param result  borrowed until the row is no longer used
 * @param index   from 0
 * @return borrowed until the result is freed; NULL where there is no such row
 *
 * Threads: any.
 */
PIER_API const pier_row *pier_result_row(const pier_result *result, size_t index);

/**
 * Counts the rows that the statement changed: those of an insert, update or delete with
 * `returning`. It is 0 for every other statement, and in the blocks of a cursor.
 *
 * @param result  borrowed until the call returns: NULL has changed none
 *
 * Threads: any. Mirrors: DB-API `rowcount`, for what was written.
 */
PIER_API int64_t pier_result_changes(const pier_result *result);

/**
 * Gives the row id of the row that the statement inserted last, by the rules of pier_db_insert.
 *
 * @param result  borrowed until the call returns
 * @return the row id; 0 where there is none, on Postgres, and in the blocks of a cursor
 *
 * Threads: any. Mirrors: DB-API `lastrowid`.
 */
PIER_API int64_t pier_result_last_id(const pier_result *result);

/**
 * Counts the columns.
 *
 * @param result  borrowed until the call returns: NULL has none
 *
 * Threads: any.
 */
PIER_API int pier_result_columns(const pier_result *result);

/**
 * Names a column.
 *
 * @param result  borrowed until the returned name is no longer used
 * @param column  from 0
 * @return borrowed until the result is freed; NULL where there is no such column
 *
 * Threads: any.
 */
PIER_API const char *pier_result_column_name(const pier_result *result, int column);

/**
 * Finds a column by its name.
 *
 * @param result  borrowed until the call returns
 * @param name    borrowed until the call returns
 * @return its number; -1 where there is none, which is recorded as a failure of a getter
 *
 * Threads: any.
 */
PIER_API int pier_result_column(const pier_result *result, const char *name);

/**
 * Reports the first getter on the result's rows that could not deliver.
 *
 * @param result  borrowed until the call returns: NULL passes through
 * @param err     borrowed until the call returns: filled on failure, or NULL
 * @return 0; what the getter failed with
 *
 * Threads: any.
 */
PIER_API int pier_result_check(const pier_result *result, pier_error *err);

/**
 * Frees a result and its rows.
 *
 * @param result  taken: NULL is harmless
 *
 * Threads: any.
 */
PIER_API void pier_result_free(pier_result *result);

#ifdef __cplusplus
}
#endif

#if defined(PIER_AUTO)
PIER__AUTO_DEFINE(pier_result, pier_result_free)
#endif
#endif
