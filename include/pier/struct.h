#ifndef PIER_STRUCT_H
#define PIER_STRUCT_H
/*
 * Rows into structs of yours, by the names of their columns:
 *
 *     struct user { int64_t id; char *name; double score; };
 *     static const pier_member members[] = {
 *         PIER_MEMBER(struct user, id),
 *         PIER_MEMBER(struct user, name),
 *         PIER_MEMBER(struct user, score)};
 *     void *array;
 *     int64_t count = pier_result_structs(result, members, 3, sizeof(struct user), &array, &err);
 *     struct user *users = array;
 *     ...
 *     pier_structs_free(members, 3, sizeof *users, users, count);
 */
#include <pier/row.h>

#ifdef __cplusplus
extern "C" {
#endif

/* How a column becomes a member. Make it with PIER_MEMBER or PIER_MEMBER_AS. */
typedef struct pier_member {
    const char *column;
    int type; /* as of a pier_into */
    size_t offset;
    size_t size;
} pier_member;

/**
 * Reads a row into a struct. Columns without a member are passed over.
 *
 * A `char *` member becomes the caller's, to be freed with free() or pier_structs_free; it is NULL
 * for SQL's NULL. A `char[N]` member takes text that fits.
 *
 * @param row      borrowed until the call returns
 * @param members  borrowed until the call returns
 * @param count    how many members
 * @param to       borrowed until the call returns: the struct
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return 0; a negative pier_status, and then no member has been written
 *
 * Errors: PIER_EINVAL (no such column), PIER_ETYPE, PIER_ERANGE.
 * Threads: any that may read the row. Mirrors: psycopg `class_row`, pgx `RowToStructByName`.
 */
PIER_API int pier_row_struct(const pier_row *row, const pier_member *members, size_t count,
                             void *to, pier_error *err);

/**
 * Reads a whole result into an array of structs.
 *
 * @param result   borrowed until the call returns
 * @param members  borrowed until the call returns
 * @param count    how many members
 * @param size     of one struct
 * @param array    borrowed until the call returns: set to the array, owned by the caller,
 *                 pier_structs_free; NULL where there are no rows
 * @param err      borrowed until the call returns: filled on failure, or NULL
 * @return how many structs; a negative pier_status, and then there is no array
 *
 * Errors: as of pier_row_struct; PIER_ENOMEM.
 * Threads: any.
 */
PIER_API int64_t pier_result_structs(const pier_result *result, const pier_member *members,
                                     size_t count, size_t size, void **array, pier_error *err);

/**
 * Frees an array of structs and the texts in it.
 *
 * @param members   borrowed until the call returns
 * @param count     how many members
 * @param size      of one struct
 * @param array     taken: NULL is harmless
 * @param elements  how many structs
 *
 * Threads: any.
 */
PIER_API void pier_structs_free(const pier_member *members, size_t count, size_t size, void *array,
                                int64_t elements);

#ifdef __cplusplus
}
#endif

#ifndef __cplusplus
/* Anything but these types must be an array of char. */
#define PIER__MEMBER_TYPE(pointer)                                                                 \
    _Generic((pointer),                                                                            \
        bool *: PIER__INTO_BOOL,                                                                   \
        int *: PIER__INTO_INT32,                                                                   \
        long *: sizeof(long) == 8 ? PIER__INTO_INT64 : PIER__INTO_INT32,                           \
        long long *: PIER__INTO_INT64,                                                             \
        double *: PIER__INTO_DOUBLE,                                                               \
        char **: PIER__INTO_TEXT,                                                                  \
        default: PIER__INTO_BUFFER)
#else
template <class T> struct pier__member_type;
template <> struct pier__member_type<bool> {
    static const int value = PIER__INTO_BOOL;
};
template <> struct pier__member_type<int> {
    static const int value = PIER__INTO_INT32;
};
template <> struct pier__member_type<long> {
    static const int value = sizeof(long) == 8 ? PIER__INTO_INT64 : PIER__INTO_INT32;
};
template <> struct pier__member_type<long long> {
    static const int value = PIER__INTO_INT64;
};
template <> struct pier__member_type<double> {
    static const int value = PIER__INTO_DOUBLE;
};
template <> struct pier__member_type<char *> {
    static const int value = PIER__INTO_TEXT;
};
template <size_t N> struct pier__member_type<char[N]> {
    static const int value = PIER__INTO_BUFFER;
};
template <class T> int pier__member_type_of(T *)
{
    return pier__member_type<T>::value;
}
#define PIER__MEMBER_TYPE(pointer) pier__member_type_of(pointer)
#endif

/* A member that has the name of its column. */
#define PIER_MEMBER(type, member) PIER_MEMBER_AS(type, member, #member)
/* A member with a column of another name. */
#define PIER_MEMBER_AS(type, member, column)                                                       \
    {                                                                                              \
        column, PIER__MEMBER_TYPE(&((type *)0)->member), offsetof(type, member),                   \
            sizeof(((type *)0)->member)                                                            \
    }

#endif
