/* Errors: setting, packing of further fields, and how options structs are read. */
#include "tests/unit/unit.h"

#include "sdk/error.h"
#include "sdk/options.h"
#include <errno.h>
#include <string.h>

static void test_error_set__replaces_all_of_an_earlier_error(void **state)
{
    (void)state;
    pier_error err = {.origin = PIER_ORIGIN_HTTP, .native = 7, .http_status = 500};
    pier__error_add_field(&err, PIER_FIELD_HINT, "try again");
    assert_int_equal(pier_error_set(&err, PIER_EUSER, "%s %d", "number", 5), PIER_EUSER);
    assert_int_equal(err.status, PIER_EUSER);
    assert_int_equal(err.origin, PIER_ORIGIN_PIER);
    assert_int_equal(err.native, 0);
    assert_int_equal(err.http_status, 0);
    assert_string_equal(err.message, "number 5");
    assert_null(pier_error_field(&err, PIER_FIELD_HINT));
}

static void test_error_set__can_quote_the_message_that_it_replaces(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_EIO, "inner");
    pier_error_set(&err, PIER_EUSER, "outer: %s", err.message);
    assert_string_equal(err.message, "outer: inner");
}

static void test_error__may_be_null_everywhere(void **state)
{
    (void)state;
    assert_int_equal(pier_error_set(NULL, PIER_EUSER, "x"), PIER_EUSER);
    assert_int_equal(pier__error_system(NULL, PIER_EIO, ENOENT, "x"), PIER_EIO);
    assert_int_equal(pier__error_null(NULL, "x"), PIER_EINVAL);
    pier__error_add_field(NULL, PIER_FIELD_HINT, "x");
    assert_null(pier_error_field(NULL, PIER_FIELD_HINT));
}

static void test_message__is_cut_before_a_character_that_does_not_fit(void **state)
{
    (void)state;
    char text[sizeof((pier_error *)0)->message + 8];
    /* The last byte of the room is the first of a character of three. */
    size_t fits = sizeof((pier_error *)0)->message - 2;
    memset(text, 'a', fits);
    strcpy(text + fits, "\xe2\x82\xac!");
    pier_error err = {0};
    pier_error_set(&err, PIER_EUSER, "%s", text);
    assert_int_equal(strlen(err.message), fits);
    pier_error_set(&err, PIER_EUSER, "%s", text + 2);
    assert_string_equal(err.message + fits - 2, "\xe2\x82\xac");
    assert_int_equal(strlen(err.message), fits + 1);
}

static void test_system_error__has_the_number_and_its_text(void **state)
{
    (void)state;
    pier_error err = {0};
    assert_int_equal(pier__error_system(&err, PIER_EIO, ENOENT, "no %s", "file"), PIER_EIO);
    assert_int_equal(err.origin, PIER_ORIGIN_SYSTEM);
    assert_int_equal(err.native, ENOENT);
    assert_string_equal(err.message, "no file: No such file or directory");
}

static void test_field__comes_back_as_it_was_added(void **state)
{
    (void)state;
    pier_error err = {0};
    pier__error_add_field(&err, PIER_FIELD_DETAIL, "Key (id)=(1) exists.");
    pier__error_add_field(&err, PIER_FIELD_TABLE, "person");
    pier__error_add_field(&err, PIER_FIELD_HINT, "");
    pier__error_add_field(&err, PIER_FIELD_SCHEMA, NULL);
    assert_string_equal(pier_error_field(&err, PIER_FIELD_DETAIL), "Key (id)=(1) exists.");
    assert_string_equal(pier_error_field(&err, PIER_FIELD_TABLE), "person");
    assert_null(pier_error_field(&err, PIER_FIELD_HINT));
    assert_null(pier_error_field(&err, PIER_FIELD_SCHEMA));
}

/* Any length of an earlier field, so that each boundary of the room is met. */
static void test_field__is_cut_where_the_room_ends(void **state)
{
    (void)state;
    char first[512], second[512];
    memset(second, 'b', sizeof second);
    second[sizeof second - 1] = '\0';
    for (size_t length = 480; length < sizeof first; length++) {
        memset(first, 'a', length);
        first[length] = '\0';
        pier_error err = {0};
        pier__error_add_field(&err, PIER_FIELD_DETAIL, first);
        pier__error_add_field(&err, PIER_FIELD_HINT, second);
        pier__error_add_field(&err, PIER_FIELD_TABLE, second);
        const char *detail = pier_error_field(&err, PIER_FIELD_DETAIL);
        const char *hint = pier_error_field(&err, PIER_FIELD_HINT);
        size_t total = strlen(detail) + 2 + (hint ? strlen(hint) + 2 : 0);
        assert_int_equal(strncmp(detail, first, strlen(detail)), 0);
        assert_true(total < sizeof err.packed);
        assert_true(total >= sizeof err.packed - 4);
        assert_int_equal(err.packed[sizeof err.packed - 1], 0);
        assert_null(pier_error_field(&err, PIER_FIELD_TABLE));
    }
}

static void test_field__is_cut_before_a_character_that_does_not_fit(void **state)
{
    (void)state;
    char text[600];
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'a', shift);
        for (size_t i = shift; i + 3 < sizeof text; i += 3) {
            memcpy(text + i, "\xe2\x82\xac", 4);
        }
        pier_error err = {0};
        pier__error_add_field(&err, PIER_FIELD_CONTEXT, text);
        size_t length = strlen(pier_error_field(&err, PIER_FIELD_CONTEXT));
        assert_int_equal((length - shift) % 3, 0);
        assert_true(length >= sizeof err.packed - 6);
    }
}

static void test_null_handle__keeps_the_error_that_explains_it(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_error_set(&err, PIER_ECONNECT, "no server");
    assert_int_equal(pier__error_null(&err, "the database"), PIER_ECONNECT);
    assert_string_equal(err.message, "no server");
    pier_error fresh = {0};
    assert_int_equal(pier__error_null(&fresh, "the database"), PIER_EINVAL);
    assert_non_null(strstr(fresh.message, "the database is NULL"));
}

static void test_status_name__knows_each_status(void **state)
{
    (void)state;
    assert_string_equal(pier_status_name(PIER_OK), "PIER_OK");
    assert_string_equal(pier_status_name(PIER_ETIMEDOUT), "PIER_ETIMEDOUT");
    assert_string_equal(pier_status_name(PIER_ESERIALIZATION), "PIER_ESERIALIZATION");
    assert_string_equal(pier_status_name(PIER_EUSER), "PIER_EUSER");
    assert_string_equal(pier_status_name(PIER_EUSER - 1), "PIER_?");
    assert_string_equal(pier_status_name(1), "PIER_?");
    assert_string_equal(pier_status_name(INT32_MIN), "PIER_?");
}

struct old_options {
    size_t struct_size;
    int64_t a;
};

struct options {
    size_t struct_size;
    int64_t a;
    int64_t b;
};

struct new_options {
    struct options known;
    int64_t unknown;
};

static int read_options(struct options *read, const void *given, pier_error *err)
{
    memset(read, 0, sizeof *read);
    return pier__options_read(read, sizeof *read, given, "OPTIONS", err);
}

static void test_options__without_a_size_are_refused(void **state)
{
    (void)state;
    struct options read;
    pier_error err = {0};
    assert_int_equal(read_options(&read, &(struct options){.a = 1}, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "struct_size"));
    assert_non_null(strstr(err.message, "OPTIONS"));
}

static void test_options__of_an_older_caller_leave_later_fields_at_their_default(void **state)
{
    (void)state;
    struct options read;
    struct old_options old = {.struct_size = sizeof old, .a = 3};
    assert_int_equal(read_options(&read, &old, NULL), 0);
    assert_int_equal(read.a, 3);
    assert_int_equal(read.b, 0);
    assert_int_equal(read_options(&read, NULL, NULL), 0);
    assert_int_equal(read.a, 0);
}

static void test_options__of_a_newer_caller_are_read_unless_they_set_what_is_unknown(void **state)
{
    (void)state;
    struct options read;
    struct new_options given = {.known = {.struct_size = sizeof given, .a = 3, .b = 4}};
    assert_int_equal(read_options(&read, &given, NULL), 0);
    assert_int_equal(read.b, 4);
    given.unknown = 1;
    assert_int_equal(read_options(&read, &given, NULL), PIER_EINVAL);
}

static void test_options__are_checked_by_what_is_opened_with_them(void **state)
{
    (void)state;
    pier_error err = {0};
    pier_runner_options options = {.name = "x"};
    assert_null(pier_runner_open(&options, &err));
    assert_int_equal(err.status, PIER_EINVAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_set__replaces_all_of_an_earlier_error),
        cmocka_unit_test(test_error_set__can_quote_the_message_that_it_replaces),
        cmocka_unit_test(test_error__may_be_null_everywhere),
        cmocka_unit_test(test_message__is_cut_before_a_character_that_does_not_fit),
        cmocka_unit_test(test_system_error__has_the_number_and_its_text),
        cmocka_unit_test(test_field__comes_back_as_it_was_added),
        cmocka_unit_test(test_field__is_cut_where_the_room_ends),
        cmocka_unit_test(test_field__is_cut_before_a_character_that_does_not_fit),
        cmocka_unit_test(test_null_handle__keeps_the_error_that_explains_it),
        cmocka_unit_test(test_status_name__knows_each_status),
        cmocka_unit_test(test_options__without_a_size_are_refused),
        cmocka_unit_test(test_options__of_an_older_caller_leave_later_fields_at_their_default),
        cmocka_unit_test(test_options__of_a_newer_caller_are_read_unless_they_set_what_is_unknown),
        cmocka_unit_test(test_options__are_checked_by_what_is_opened_with_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
