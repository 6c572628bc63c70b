#ifndef PIER_VALUE_H
#define PIER_VALUE_H
/*
 * Values that go into statements, places that values are read into, and the macros that make lists
 * of both: PIER_ARGS("ada", 36) and PIER_INTO(&id, &name).
 */
#include <pier/error.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum pier_type {
    PIER_NULL = 0,
    PIER_BOOL = 1,
    PIER_INT64 = 2,
    PIER_DOUBLE = 3,
    PIER_TEXT = 4, /* UTF-8, of a given size, with a zero byte behind it when it is read */
    PIER_BYTES = 5,
    PIER_NUMERIC = 6, /* a number of any precision, as text: Postgres numeric */
    PIER_INVALID = 7  /* cannot be bound: the statement fails and says so */
} pier_type;

/* One value. Make it with the functions below, or let PIER_ARGS do so. Text and bytes are borrowed
 * for as long as the value is in use. */
typedef struct pier_value {
    int type; /* a pier_type */
    uint32_t flags;
    union {
        bool b;
        int64_t i;
        double d;
        struct {
            const void *data;
            size_t size;
        } p;
        const char *why; /* of an invalid value */
    } as;
} pier_value;

/* Arguments of a statement, in the order of $1, $2, ..., or by their names. */
typedef struct pier_args {
    size_t count;
    const pier_value *values;
    const char *const *names; /* as many, without $, : or @; NULL: the arguments are numbered */
} pier_args;

static inline pier_value pier_null(void)
{
    pier_value value;
    memset(&value, 0, sizeof value);
    return value;
}

static inline pier_value pier_bool(bool b)
{
    pier_value value = pier_null();
    value.type = PIER_BOOL;
    value.as.b = b;
    return value;
}

static inline pier_value pier_int64(int64_t i)
{
    pier_value value = pier_null();
    value.type = PIER_INT64;
    value.as.i = i;
    return value;
}

/* Neither database has an unsigned 64-bit integer: above INT64_MAX the statement fails. */
static inline pier_value pier_uint64(uint64_t u)
{
    pier_value value = pier_int64((int64_t)u);
    if (u > (uint64_t)INT64_MAX) {
        value.type = PIER_INVALID;
        value.as.why = "an unsigned integer above INT64_MAX; bind it as text";
    }
    return value;
}

static inline pier_value pier_double(double d)
{
    pier_value value = pier_null();
    value.type = PIER_DOUBLE;
    value.as.d = d;
    return value;
}

/* A zero-terminated string; NULL is SQL's NULL. */
static inline pier_value pier_text(const char *text)
{
    pier_value value = pier_null();
    if (text) {
        value.type = PIER_TEXT;
        value.as.p.data = text;
        value.as.p.size = strlen(text);
    }
    return value;
}

static inline pier_value pier_text_sized(const char *text, size_t size)
{
    pier_value value = pier_null();
    value.type = PIER_TEXT;
    value.as.p.data = text;
    value.as.p.size = size;
    return value;
}

static inline pier_value pier_bytes(const void *data, size_t size)
{
    pier_value value = pier_null();
    value.type = PIER_BYTES;
    value.as.p.data = data;
    value.as.p.size = size;
    return value;
}

/* NULL as an argument has the type void *; another void * says nothing about its size. */
static inline pier_value pier__bind_null(const void *null_only)
{
    pier_value value = pier_null();
    if (null_only) {
        value.type = PIER_INVALID;
        value.as.why = "a void * has no size; bind it with pier_bytes(data, size)";
    }
    return value;
}

static inline pier_value pier__bind_same(pier_value value)
{
    return value;
}

/* A place that one column is read into. Made by PIER_INTO and the functions below. */
typedef struct pier_into {
    int type;
    void *to;
    size_t size;
} pier_into;

typedef struct pier_intos {
    size_t count;
    const pier_into *items;
} pier_intos;

enum {
    PIER__INTO_BOOL = 1,
    PIER__INTO_INT32 = 2,
    PIER__INTO_INT64 = 3,
    PIER__INTO_DOUBLE = 4,
    PIER__INTO_TEXT = 5,
    PIER__INTO_BUFFER = 6,
    PIER__INTO_SKIP = 7
};

static inline pier_into pier__into(int type, void *to, size_t size)
{
    pier_into into;
    into.type = type;
    into.to = to;
    into.size = size;
    return into;
}

/* Text into a buffer of yours, zero-terminated; PIER_ERANGE where it does not fit. NULL in the
 * database becomes an empty string only if you ask for it with coalesce(): it is PIER_ETYPE. */
static inline pier_into pier_into_buffer(char *buffer, size_t size)
{
    return pier__into(PIER__INTO_BUFFER, buffer, size);
}

/* Passes over a column. */
static inline pier_into pier_into_skip(void)
{
    return pier__into(PIER__INTO_SKIP, NULL, 0);
}

static inline pier_into pier__into_bool(bool *to)
{
    return pier__into(PIER__INTO_BOOL, to, sizeof *to);
}

static inline pier_into pier__into_int(int *to)
{
    return pier__into(PIER__INTO_INT32, to, sizeof *to);
}

static inline pier_into pier__into_long(long *to)
{
    return pier__into(sizeof *to == 8 ? PIER__INTO_INT64 : PIER__INTO_INT32, to, sizeof *to);
}

static inline pier_into pier__into_llong(long long *to)
{
    return pier__into(PIER__INTO_INT64, to, sizeof *to);
}

static inline pier_into pier__into_double(double *to)
{
    return pier__into(PIER__INTO_DOUBLE, to, sizeof *to);
}

/* The text becomes the caller's, to be freed with free(); NULL for SQL's NULL. */
static inline pier_into pier__into_text(char **to)
{
    return pier__into(PIER__INTO_TEXT, to, sizeof *to);
}

static inline pier_into pier__into_same(pier_into into)
{
    return into;
}

#ifdef __cplusplus
}
#endif

#ifndef __cplusplus
/* Not defined: an argument of a type that cannot be bound fails to compile, naming the remedy. */
struct pier__cast_it_or_use_pier_bytes_or_another_pier_value_function {
    int unused;
};
pier_value
pier__cannot_bind(struct pier__cast_it_or_use_pier_bytes_or_another_pier_value_function value);

/* `char` is left out on purpose: a letter or a small number? Cast it, or bind a string. */
#define PIER_VALUE(x)                                                                              \
    _Generic((x),                                                                                  \
        bool: pier_bool,                                                                           \
        signed char: pier_int64,                                                                   \
        unsigned char: pier_int64,                                                                 \
        short: pier_int64,                                                                         \
        unsigned short: pier_int64,                                                                \
        int: pier_int64,                                                                           \
        unsigned: pier_int64,                                                                      \
        long: pier_int64,                                                                          \
        long long: pier_int64,                                                                     \
        unsigned long: pier_uint64,                                                                \
        unsigned long long: pier_uint64,                                                           \
        float: pier_double,                                                                        \
        double: pier_double,                                                                       \
        char *: pier_text,                                                                         \
        const char *: pier_text,                                                                   \
        void *: pier__bind_null,                                                                   \
        pier_value: pier__bind_same,                                                               \
        default: pier__cannot_bind)(x)

struct pier__use_a_pointer_to_bool_int_int64_double_or_char_pointer {
    int unused;
};
pier_into
pier__cannot_read_into(struct pier__use_a_pointer_to_bool_int_int64_double_or_char_pointer place);

#define PIER__INTO1(x)                                                                             \
    _Generic((x),                                                                                  \
        bool *: pier__into_bool,                                                                   \
        int *: pier__into_int,                                                                     \
        long *: pier__into_long,                                                                   \
        long long *: pier__into_llong,                                                             \
        double *: pier__into_double,                                                               \
        char **: pier__into_text,                                                                  \
        pier_into: pier__into_same,                                                                \
        default: pier__cannot_read_into)(x)

/* Applies f to each of 1 to 40 arguments. */
#define PIER__M1(f, x) f(x)
#define PIER__M2(f, x, ...) f(x), PIER__M1(f, __VA_ARGS__)
#define PIER__M3(f, x, ...) f(x), PIER__M2(f, __VA_ARGS__)
#define PIER__M4(f, x, ...) f(x), PIER__M3(f, __VA_ARGS__)
#define PIER__M5(f, x, ...) f(x), PIER__M4(f, __VA_ARGS__)
#define PIER__M6(f, x, ...) f(x), PIER__M5(f, __VA_ARGS__)
#define PIER__M7(f, x, ...) f(x), PIER__M6(f, __VA_ARGS__)
#define PIER__M8(f, x, ...) f(x), PIER__M7(f, __VA_ARGS__)
#define PIER__M9(f, x, ...) f(x), PIER__M8(f, __VA_ARGS__)
#define PIER__M10(f, x, ...) f(x), PIER__M9(f, __VA_ARGS__)
#define PIER__M11(f, x, ...) f(x), PIER__M10(f, __VA_ARGS__)
#define PIER__M12(f, x, ...) f(x), PIER__M11(f, __VA_ARGS__)
#define PIER__M13(f, x, ...) f(x), PIER__M12(f, __VA_ARGS__)
#define PIER__M14(f, x, ...) f(x), PIER__M13(f, __VA_ARGS__)
#define PIER__M15(f, x, ...) f(x), PIER__M14(f, __VA_ARGS__)
#define PIER__M16(f, x, ...) f(x), PIER__M15(f, __VA_ARGS__)
#define PIER__M17(f, x, ...) f(x), PIER__M16(f, __VA_ARGS__)
#define PIER__M18(f, x, ...) f(x), PIER__M17(f, __VA_ARGS__)
#define PIER__M19(f, x, ...) f(x), PIER__M18(f, __VA_ARGS__)
#define PIER__M20(f, x, ...) f(x), PIER__M19(f, __VA_ARGS__)
#define PIER__M21(f, x, ...) f(x), PIER__M20(f, __VA_ARGS__)
#define PIER__M22(f, x, ...) f(x), PIER__M21(f, __VA_ARGS__)
#define PIER__M23(f, x, ...) f(x), PIER__M22(f, __VA_ARGS__)
#define PIER__M24(f, x, ...) f(x), PIER__M23(f, __VA_ARGS__)
#define PIER__M25(f, x, ...) f(x), PIER__M24(f, __VA_ARGS__)
#define PIER__M26(f, x, ...) f(x), PIER__M25(f, __VA_ARGS__)
#define PIER__M27(f, x, ...) f(x), PIER__M26(f, __VA_ARGS__)
#define PIER__M28(f, x, ...) f(x), PIER__M27(f, __VA_ARGS__)
#define PIER__M29(f, x, ...) f(x), PIER__M28(f, __VA_ARGS__)
#define PIER__M30(f, x, ...) f(x), PIER__M29(f, __VA_ARGS__)
#define PIER__M31(f, x, ...) f(x), PIER__M30(f, __VA_ARGS__)
#define PIER__M32(f, x, ...) f(x), PIER__M31(f, __VA_ARGS__)
#define PIER__M33(f, x, ...) f(x), PIER__M32(f, __VA_ARGS__)
#define PIER__M34(f, x, ...) f(x), PIER__M33(f, __VA_ARGS__)
#define PIER__M35(f, x, ...) f(x), PIER__M34(f, __VA_ARGS__)
#define PIER__M36(f, x, ...) f(x), PIER__M35(f, __VA_ARGS__)
#define PIER__M37(f, x, ...) f(x), PIER__M36(f, __VA_ARGS__)
#define PIER__M38(f, x, ...) f(x), PIER__M37(f, __VA_ARGS__)
#define PIER__M39(f, x, ...) f(x), PIER__M38(f, __VA_ARGS__)
#define PIER__M40(f, x, ...) f(x), PIER__M39(f, __VA_ARGS__)
#define PIER__PICK(a1, a2, a3, a4, a5, a6, a7, a8, a9, a10, a11, a12, a13, a14, a15, a16, a17,     \
                   a18, a19, a20, a21, a22, a23, a24, a25, a26, a27, a28, a29, a30, a31, a32, a33, \
                   a34, a35, a36, a37, a38, a39, a40, n, ...)                                      \
    n
#define PIER__COUNT(...)                                                                           \
    PIER__PICK(__VA_ARGS__, 40, 39, 38, 37, 36, 35, 34, 33, 32, 31, 30, 29, 28, 27, 26, 25, 24,    \
               23, 22, 21, 20, 19, 18, 17, 16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1,  \
               0)
#define PIER__CAT_(a, b) a##b
#define PIER__CAT(a, b) PIER__CAT_(a, b)
#define PIER__EACH(f, ...) PIER__CAT(PIER__M, PIER__COUNT(__VA_ARGS__))(f, __VA_ARGS__)

/* The arguments of a statement: 1 to 40 of numbers, strings, NULL, bool and pier_value. They live
 * as long as the block around them: do not keep them across the iterations of a loop. */
#define PIER_ARGS(...)                                                                             \
    (&(const pier_args){PIER__COUNT(__VA_ARGS__),                                                  \
                        (const pier_value[]){PIER__EACH(PIER_VALUE, __VA_ARGS__)}, NULL})

/* Applies f to each of 1 to 20 pairs. An odd number of arguments leaves the name of f behind, which
 * is what the compiler then complains of. */
#define PIER__P2(f, name, x) f(name, x)
#define PIER__P4(f, name, x, ...) f(name, x), PIER__P2(f, __VA_ARGS__)
#define PIER__P6(f, name, x, ...) f(name, x), PIER__P4(f, __VA_ARGS__)
#define PIER__P8(f, name, x, ...) f(name, x), PIER__P6(f, __VA_ARGS__)
#define PIER__P10(f, name, x, ...) f(name, x), PIER__P8(f, __VA_ARGS__)
#define PIER__P12(f, name, x, ...) f(name, x), PIER__P10(f, __VA_ARGS__)
#define PIER__P14(f, name, x, ...) f(name, x), PIER__P12(f, __VA_ARGS__)
#define PIER__P16(f, name, x, ...) f(name, x), PIER__P14(f, __VA_ARGS__)
#define PIER__P18(f, name, x, ...) f(name, x), PIER__P16(f, __VA_ARGS__)
#define PIER__P20(f, name, x, ...) f(name, x), PIER__P18(f, __VA_ARGS__)
#define PIER__P22(f, name, x, ...) f(name, x), PIER__P20(f, __VA_ARGS__)
#define PIER__P24(f, name, x, ...) f(name, x), PIER__P22(f, __VA_ARGS__)
#define PIER__P26(f, name, x, ...) f(name, x), PIER__P24(f, __VA_ARGS__)
#define PIER__P28(f, name, x, ...) f(name, x), PIER__P26(f, __VA_ARGS__)
#define PIER__P30(f, name, x, ...) f(name, x), PIER__P28(f, __VA_ARGS__)
#define PIER__P32(f, name, x, ...) f(name, x), PIER__P30(f, __VA_ARGS__)
#define PIER__P34(f, name, x, ...) f(name, x), PIER__P32(f, __VA_ARGS__)
#define PIER__P36(f, name, x, ...) f(name, x), PIER__P34(f, __VA_ARGS__)
#define PIER__P38(f, name, x, ...) f(name, x), PIER__P36(f, __VA_ARGS__)
#define PIER__P40(f, name, x, ...) f(name, x), PIER__P38(f, __VA_ARGS__)
#define PIER__EACH_NAME_NEEDS_A_VALUE(name, x) name
#define PIER__VALUE_OF_NAME(name, x) PIER_VALUE(x)
#define PIER__PAIRS(f, ...) PIER__CAT(PIER__P, PIER__COUNT(__VA_ARGS__))(f, __VA_ARGS__)

/* Arguments by name, for :name and $name (SQLite: @name, too): PIER_NAMED("id", 7, "name", "ada").
 * 1 to 20 names, which are strings, each followed by its value. */
#define PIER_NAMED(...)                                                                            \
    (&(const pier_args){                                                                           \
        PIER__COUNT(__VA_ARGS__) / 2,                                                              \
        (const pier_value[]){PIER__PAIRS(PIER__VALUE_OF_NAME, __VA_ARGS__)},                       \
        (const char *const[]){PIER__PAIRS(PIER__EACH_NAME_NEEDS_A_VALUE, __VA_ARGS__)}})

/* The places that the columns of a row are read into, in their order. */
#define PIER_INTO(...)                                                                             \
    (&(const pier_intos){PIER__COUNT(__VA_ARGS__),                                                 \
                         (const pier_into[]){PIER__EACH(PIER__INTO1, __VA_ARGS__)}})
#else
#include <pier/value.hpp>
#endif

#endif
