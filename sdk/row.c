/*
 * Reading rows: conversions between what a cell holds and what is asked for, and the recording of
 * what could not be delivered. The drivers only say what is in a cell.
 */
#include "sdk/row.h"

#include "sdk/alloc.h"
#include "sdk/number.h"
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct pier__scratch {
    struct pier__scratch *next;
    char bytes[];
};

bool pier__result_init(pier_result *block, const pier__rows_class *cls, size_t count, int columns)
{
    atomic_init(&block->failure, NULL);
    atomic_init(&block->scratch, NULL);
    block->cls = cls;
    block->count = count;
    block->columns = columns;
    block->embedded = false;
    block->changes = block->last_id = 0;
    block->rows = count == 1 ? &block->only
                  : count    ? pier__malloc(count * sizeof *block->rows)
                             : NULL;
    if (count && !block->rows) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        block->rows[i].block = block;
    }
    return true;
}

void pier_result_free(pier_result *result)
{
    if (!result) {
        return;
    }
    result->cls->free(result);
    for (struct pier__scratch *scratch = atomic_load(&result->scratch); scratch;) {
        struct pier__scratch *next = scratch->next;
        pier__free(scratch);
        scratch = next;
    }
    pier__free(atomic_load(&result->failure));
    if (result->rows != &result->only) {
        pier__free(result->rows);
    }
    if (!result->embedded) {
        pier__free(result);
    }
}

void *pier__result_scratch(const pier_result *block, size_t size)
{
    pier_result *result = (pier_result *)block;
    struct pier__scratch *scratch = pier__malloc(sizeof *scratch + size);
    if (!scratch) {
        return NULL;
    }
    scratch->next = atomic_load(&result->scratch);
    while (!atomic_compare_exchange_weak(&result->scratch, &scratch->next, scratch)) {
    }
    return scratch->bytes;
}

/* ---- Failures ----------------------------------------------------------------------------- */

static void record(const pier_result *block, const pier_error *err)
{
    pier_result *result = (pier_result *)block;
    if (atomic_load(&result->failure)) {
        return;
    }
    pier_error *copy = pier__malloc(sizeof *copy);
    if (copy) {
        *copy = *err;
        pier_error *expected = NULL;
        if (!atomic_compare_exchange_strong(&result->failure, &expected, copy)) {
            pier__free(copy);
        }
    }
}

static const char *type_name(int type)
{
    static const char *const names[] = {"NULL",       "a boolean",
                                        "an integer", "a floating-point number",
                                        "text",       "bytes",
                                        "a number",   "nothing"};
    return names[type >= 0 && type <= PIER_INVALID ? type : PIER_INVALID];
}

static const char *name_of(const pier_result *block, int column)
{
    const char *name =
        column >= 0 && column < block->columns ? block->cls->column_name(block, column) : NULL;
    return name ? name : "?";
}

static int cannot(const pier_result *block, int column, const pier_value *value, const char *wanted,
                  int status, pier_error *err)
{
    const char *remedy = value->type == PIER_NULL ? "; look with pier_row_is_null first" : "";
    return pier_error_set(err, status, "column %d (%s) holds %s, which is not %s%s", column,
                          name_of(block, column), type_name(value->type), wanted, remedy);
}

static bool refuse_cell(const pier_row *row, int column, pier_error *err)
{
    if (!row) {
        pier_error_set(err, PIER_EINVAL, "there is no row");
    } else {
        pier_error_set(err, PIER_ERANGE, "there is no column %d; the row has %d, from 0", column,
                       row->block->columns);
    }
    return false;
}

/* Reads a cell; false with `err` filled where there is none. A part of each getter: with a million
 * rows a call shows. */
static inline bool read_cell(const pier_row *row, int column, pier_value *value, pier_error *err)
{
    *value = pier_null();
    if (!row || column < 0 || column >= row->block->columns) {
        return refuse_cell(row, column, err);
    }
    return row->block->cls->cell(row->block, pier__row_index(row), column, value, err);
}

/* ---- Conversions: 0, or a status with `err` filled ---------------------------------------- */

static int integer_of_double(const pier_result *block, int column, const pier_value *value,
                             double d, int64_t *to, pier_error *err)
{
    /* 2^63 is the first double that does not fit; NaN fails both comparisons. */
    if (!(d >= -9223372036854775808.0 && d < 9223372036854775808.0) || d != floor(d)) {
        return cannot(block, column, value, "a whole number that fits 64 bits", PIER_ERANGE, err);
    }
    *to = (int64_t)d;
    return 0;
}

static int to_int64(const pier_result *block, int column, const pier_value *value, int64_t *to,
                    pier_error *err)
{
    switch (value->type) {
    case PIER_INT64:
        *to = value->as.i;
        return 0;
    case PIER_BOOL:
        *to = value->as.b;
        return 0;
    case PIER_DOUBLE:
        return integer_of_double(block, column, value, value->as.d, to, err);
    case PIER_NUMERIC: {
        char *end;
        errno = 0;
        long long number = strtoll(value->as.p.data, &end, 10);
        if (*end == '.') {
            end += 1 + strspn(end + 1, "0");
        }
        if (errno || *end || end == value->as.p.data) {
            return cannot(block, column, value, "a whole number that fits 64 bits", PIER_ERANGE,
                          err);
        }
        *to = number;
        return 0;
    }
    default:
        return cannot(block, column, value, "an integer", PIER_ETYPE, err);
    }
}

static int to_double(const pier_result *block, int column, const pier_value *value, double *to,
                     pier_error *err)
{
    switch (value->type) {
    case PIER_DOUBLE:
        *to = value->as.d;
        return 0;
    case PIER_INT64:
        *to = (double)value->as.i;
        return 0;
    case PIER_BOOL:
        *to = value->as.b;
        return 0;
    case PIER_NUMERIC:
        *to = pier__double_read(value->as.p.data, NULL);
        return 0;
    default:
        return cannot(block, column, value, "a number", PIER_ETYPE, err);
    }
}

static int to_bool(const pier_result *block, int column, const pier_value *value, bool *to,
                   pier_error *err)
{
    switch (value->type) {
    case PIER_BOOL:
        *to = value->as.b;
        return 0;
    case PIER_INT64:
        *to = value->as.i != 0;
        return 0;
    case PIER_DOUBLE:
        *to = value->as.d != 0;
        return 0;
    case PIER_NUMERIC:
        *to = strpbrk(value->as.p.data, "123456789NI") != NULL; /* NaN and Infinity are not 0 */
        return 0;
    default:
        return cannot(block, column, value, "a boolean", PIER_ETYPE, err);
    }
}

/* ---- Text as what it says: the value becomes that, or stays where it is no text ------------ */

/* Only what a decimal number is written with: strtod takes "0x1p3" and "nan" too. */
static bool is_decimal(const pier_value *value)
{
    const char *text = value->as.p.data;
    return value->as.p.size && strspn(text, "0123456789+-.eE") == value->as.p.size;
}

static int parse_int64(const pier_result *block, int column, pier_value *value, pier_error *err)
{
    if (value->type != PIER_TEXT) {
        return 0;
    }
    const char *text = value->as.p.data;
    char *end = NULL;
    errno = 0;
    long long number = is_decimal(value) ? strtoll(text, &end, 10) : 0;
    if (end && end != text && *end == '.') {
        end += 1 + strspn(end + 1, "0");
    }
    if (!end || end == text || *end) {
        return cannot(block, column, value, "a whole number", PIER_ETYPE, err);
    }
    if (errno) {
        return cannot(block, column, value, "a number that fits 64 bits", PIER_ERANGE, err);
    }
    *value = pier_int64(number);
    return 0;
}

static int parse_double(const pier_result *block, int column, pier_value *value, pier_error *err)
{
    if (value->type != PIER_TEXT) {
        return 0;
    }
    const char *text = value->as.p.data;
    const char *end = NULL;
    double number = is_decimal(value) ? pier__double_read(text, &end) : 0;
    if (!end || end == text || *end) {
        return cannot(block, column, value, "a number", PIER_ETYPE, err);
    }
    if (isinf(number)) {
        return cannot(block, column, value, "a number in the range of a double", PIER_ERANGE, err);
    }
    *value = pier_double(number);
    return 0;
}

static int parse_bool(const pier_result *block, int column, pier_value *value, pier_error *err)
{
    static const char *const words[] = {"false", "true", "f",   "t",  "no", "yes",
                                        "n",     "y",    "off", "on", "0",  "1"};
    if (value->type != PIER_TEXT) {
        return 0;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        if (value->as.p.size == strlen(words[i]) && !strcasecmp(value->as.p.data, words[i])) {
            *value = pier_bool(i % 2);
            return 0;
        }
    }
    return cannot(block, column, value, "a boolean", PIER_ETYPE, err);
}

/* Writes a number or boolean out; the text lives as long as the block. */
static const char *write_out(const pier_result *block, const pier_value *value, size_t *size,
                             pier_error *err)
{
    char buffer[40];
    int length = 0;
    if (value->type == PIER_INT64) {
        length = snprintf(buffer, sizeof buffer, "%" PRId64, value->as.i);
    } else if (value->type == PIER_DOUBLE) {
        length = value->flags & PIER__VALUE_SINGLE
                     ? (int)pier__float_write(buffer, sizeof buffer, (float)value->as.d)
                     : (int)pier__double_write(buffer, sizeof buffer, value->as.d);
    } else {
        length = snprintf(buffer, sizeof buffer, "%s", value->as.b ? "true" : "false");
    }
    char *text = pier__result_scratch(block, (size_t)length + 1);
    if (!text) {
        pier_error_set(err, PIER_ENOMEM, "out of memory");
        return NULL;
    }
    memcpy(text, buffer, (size_t)length + 1);
    *size = (size_t)length;
    return text;
}

/* Text of any value; NULL for SQL's NULL (status 0) or a failure. */
static int to_text(const pier_result *block, const pier_value *value, const char **text,
                   size_t *size, pier_error *err)
{
    *text = NULL;
    *size = 0;
    switch (value->type) {
    case PIER_NULL:
        return 0;
    case PIER_TEXT:
    case PIER_BYTES:
    case PIER_NUMERIC:
        *text = value->as.p.data ? value->as.p.data : "";
        *size = value->as.p.size;
        return 0;
    default:
        *text = write_out(block, value, size, err);
        return *text ? 0 : PIER_ENOMEM;
    }
}

/* ---- Public getters ----------------------------------------------------------------------- */

bool pier_row_is_null(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    if (!read_cell(row, column, &value, &err)) {
        if (row) {
            record(row->block, &err);
        }
        return false;
    }
    return value.type == PIER_NULL;
}

bool pier_row_bool(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    bool to = false;
    if ((!read_cell(row, column, &value, &err) ||
         to_bool(row->block, column, &value, &to, &err) < 0) &&
        row) {
        record(row->block, &err);
    }
    return to;
}

int64_t pier_row_int64(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    int64_t to = 0;
    bool read = read_cell(row, column, &value, &err);
    if (read && value.type == PIER_INT64) {
        return value.as.i; /* mostly; all the rest is for other types, and failures */
    }
    if ((!read || to_int64(row->block, column, &value, &to, &err) < 0) && row) {
        record(row->block, &err);
    }
    return to;
}

double pier_row_double(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    double to = 0;
    bool read = read_cell(row, column, &value, &err);
    if (read && value.type == PIER_DOUBLE) {
        return value.as.d;
    }
    if ((!read || to_double(row->block, column, &value, &to, &err) < 0) && row) {
        record(row->block, &err);
    }
    return to;
}

int64_t pier_row_as_int64(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    int64_t to = 0;
    if ((!read_cell(row, column, &value, &err) ||
         parse_int64(row->block, column, &value, &err) < 0 ||
         to_int64(row->block, column, &value, &to, &err) < 0) &&
        row) {
        record(row->block, &err);
    }
    return to;
}

double pier_row_as_double(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    double to = 0;
    if ((!read_cell(row, column, &value, &err) ||
         parse_double(row->block, column, &value, &err) < 0 ||
         to_double(row->block, column, &value, &to, &err) < 0) &&
        row) {
        record(row->block, &err);
    }
    return to;
}

bool pier_row_as_bool(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    bool to = false;
    if ((!read_cell(row, column, &value, &err) ||
         parse_bool(row->block, column, &value, &err) < 0 ||
         to_bool(row->block, column, &value, &to, &err) < 0) &&
        row) {
        record(row->block, &err);
    }
    return to;
}

const char *pier_row_text(const pier_row *row, int column)
{
    size_t size;
    return pier_row_bytes(row, column, &size);
}

const void *pier_row_bytes(const pier_row *row, int column, size_t *size)
{
    pier_error err;
    pier_value value;
    const char *text = NULL;
    size_t length = 0;
    if ((!read_cell(row, column, &value, &err) ||
         to_text(row->block, &value, &text, &length, &err) < 0) &&
        row) {
        record(row->block, &err);
    }
    if (size) {
        *size = length;
    }
    return text;
}

pier_value pier_row_value(const pier_row *row, int column)
{
    pier_error err;
    pier_value value;
    if (!read_cell(row, column, &value, &err)) {
        if (row) {
            record(row->block, &err);
        }
        value.type = PIER_INVALID;
        value.as.why = "there is no such column";
    }
    value.flags = 0;
    return value;
}

/* ---- Reading into variables --------------------------------------------------------------- */

union place {
    bool b;
    int32_t i32;
    int64_t i64;
    double d;
    char *text; /* owned until it is handed over */
    struct {
        const char *data;
        size_t size;
    } borrowed;
};

/* From malloc, whatever allocator the library uses: the user will call free(). */
static char *dup_for_user(const char *text, size_t size)
{
    char *copy = malloc(size + 1);
    if (copy) {
        memcpy(copy, text, size);
        copy[size] = '\0';
    }
    return copy;
}

static int read_text_place(const pier_result *block, int column, const pier_into *into,
                           const pier_value *value, union place *place, pier_error *err)
{
    const char *text;
    size_t size;
    int status = to_text(block, value, &text, &size, err);
    if (status < 0) {
        return status;
    }
    if (into->type == PIER__INTO_TEXT) {
        place->text = text ? dup_for_user(text, size) : NULL;
        return text && !place->text ? pier_error_set(err, PIER_ENOMEM, "out of memory") : 0;
    }
    if (!text) {
        return cannot(block, column, value, "text", PIER_ETYPE, err);
    }
    if (size >= into->size) {
        return pier_error_set(err, PIER_ERANGE,
                              "column %d (%s) holds %zu bytes; the buffer has room for %zu", column,
                              name_of(block, column), size, into->size ? into->size - 1 : 0);
    }
    place->borrowed.data = text;
    place->borrowed.size = size;
    return 0;
}

static int read_place(const pier_row *row, int column, const pier_into *into, union place *place,
                      pier_error *err)
{
    pier_value value;
    if (!read_cell(row, column, &value, err)) {
        return err->status;
    }
    const pier_result *block = row->block;
    if (into->type == PIER__INTO_INT64 && value.type == PIER_INT64) {
        place->i64 = value.as.i;
        return 0;
    }
    switch (into->type) {
    case PIER__INTO_BOOL:
        return to_bool(block, column, &value, &place->b, err);
    case PIER__INTO_INT32: {
        int64_t wide = 0;
        int status = to_int64(block, column, &value, &wide, err);
        if (status == 0 && (wide < INT32_MIN || wide > INT32_MAX)) {
            return pier_error_set(err, PIER_ERANGE,
                                  "column %d (%s) holds %" PRId64 ", which does not fit an int",
                                  column, name_of(block, column), wide);
        }
        place->i32 = (int32_t)wide;
        return status;
    }
    case PIER__INTO_INT64:
        return to_int64(block, column, &value, &place->i64, err);
    case PIER__INTO_DOUBLE:
        return to_double(block, column, &value, &place->d, err);
    case PIER__INTO_SKIP:
        return 0;
    default:
        return read_text_place(block, column, into, &value, place, err);
    }
}

static void write_place(const pier_into *into, const union place *place)
{
    switch (into->type) {
    case PIER__INTO_BOOL:
        *(bool *)into->to = place->b;
        break;
    case PIER__INTO_INT32:
        *(int32_t *)into->to = place->i32;
        break;
    case PIER__INTO_INT64:
        *(int64_t *)into->to = place->i64;
        break;
    case PIER__INTO_DOUBLE:
        *(double *)into->to = place->d;
        break;
    case PIER__INTO_TEXT:
        *(char **)into->to = place->text;
        break;
    case PIER__INTO_BUFFER:
        memcpy(into->to, place->borrowed.data, place->borrowed.size);
        ((char *)into->to)[place->borrowed.size] = '\0';
        break;
    default:
        break;
    }
}

enum { PLACES_MAX = 64 };

int pier__row_read(const pier_row *row, const pier_into *items, const int *columns, size_t count,
                   pier_error *err)
{
    pier_error local;
    pier_error *failure = err ? err : &local;
    /* All are read before the first is written. */
    union place places[PLACES_MAX];
    int status = 0;
    size_t read = 0;
    for (; read < count && status == 0; read++) {
        places[read].text = NULL;
        status = read_place(row, columns ? columns[read] : (int)read, &items[read], &places[read],
                            failure);
    }
    for (size_t i = 0; i < read; i++) {
        if (status == 0) {
            write_place(&items[i], &places[i]);
        } else if (items[i].type == PIER__INTO_TEXT) {
            free(places[i].text);
        }
    }
    return status;
}

int pier_row_into(const pier_row *row, const pier_intos *into, pier_error *err)
{
    if (!row || !into) {
        return pier__error_null(err, row ? "pier_row_into: the list of places" : "the row");
    }
    if (into->count > PLACES_MAX || into->count > (size_t)row->block->columns) {
        return pier_error_set(err, PIER_EINVAL, "%zu variables, but the row has %d columns",
                              into->count, row->block->columns);
    }
    return pier__row_read(row, into->items, NULL, into->count, err);
}

/* ---- Results ------------------------------------------------------------------------------ */

size_t pier_result_count(const pier_result *result)
{
    return result ? result->count : 0;
}

const pier_row *pier_result_row(const pier_result *result, size_t index)
{
    return result && index < result->count ? &result->rows[index] : NULL;
}

int64_t pier_result_changes(const pier_result *result)
{
    return result ? result->changes : 0;
}

int64_t pier_result_last_id(const pier_result *result)
{
    return result ? result->last_id : 0;
}

int pier_result_columns(const pier_result *result)
{
    return result ? result->columns : 0;
}

const char *pier_result_column_name(const pier_result *result, int column)
{
    return result && column >= 0 && column < result->columns
               ? result->cls->column_name(result, column)
               : NULL;
}

int pier_result_column(const pier_result *result, const char *name)
{
    for (int i = 0; i < pier_result_columns(result); i++) {
        const char *candidate = result->cls->column_name(result, i);
        if (candidate && strcmp(candidate, name) == 0) {
            return i;
        }
    }
    if (result) {
        pier_error err;
        pier_error_set(&err, PIER_EINVAL, "there is no column \"%s\"", name);
        record(result, &err);
    }
    return -1;
}

int pier_result_check(const pier_result *result, pier_error *err)
{
    if (!result) {
        return pier__error_null(err, "the result");
    }
    const pier_error *failure = atomic_load(&((pier_result *)result)->failure);
    if (failure && err) {
        *err = *failure;
    }
    return failure ? failure->status : 0;
}
