/* Headers: what may be sent, how lists are joined, and what is kept of those that came. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/http/headers.h"
#include "drivers/http/response.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>

static int make(struct curl_slist **list, const struct curl_slist *first, const pier_pair *pairs)
{
    pier_error err = {0};
    *list = NULL;
    return pier__header_list(list, first, pairs, PIER__BODY_NONE, &err);
}

static void test_headers__refuses_names_and_values_that_would_add_lines(void **state)
{
    (void)state;
    struct curl_slist *list;
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X-A\r\nX-B", "1"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X A", "1"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X:A", "1"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"", "1"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X-A", "1\r\nX-B: 2"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X-A", "1\n"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X-A", "\x7f"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"X-A", NULL})), PIER_EINVAL);
    assert_null(list);
}

static void test_headers__refuses_those_that_frame_the_message(void **state)
{
    (void)state;
    struct curl_slist *list;
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"content-length", "1"})), PIER_EINVAL);
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"Transfer-Encoding", "chunked"})), PIER_EINVAL);
}

static void assert_lines(const struct curl_slist *list, const char *const *expected)
{
    for (; *expected; expected++, list = list->next) {
        assert_non_null(list);
        assert_string_equal(list->data, *expected);
    }
    assert_null(list);
}

static void test_headers__replaces_those_of_the_session(void **state)
{
    (void)state;
    struct curl_slist *session, *list;
    assert_int_equal(make(&session, NULL, PIER_PAIRS({"Accept", "a"}, {"X-B", "b"}, {"X-B", "b2"})),
                     0);
    assert_int_equal(make(&list, session, PIER_PAIRS({"accept", "mine"}, {"X-Empty", ""})), 0);
    assert_lines(list,
                 (const char *const[]){"X-B: b", "X-B: b2", "accept: mine", "X-Empty;", NULL});
    pier__free(list);
    assert_int_equal(make(&list, session, PIER_PAIRS({"X-B", "c"})), 0);
    assert_lines(list, (const char *const[]){"Accept: a", "X-B: c", NULL});
    pier__free(list);
    pier__free(session);
}

static void test_headers__adds_the_type_of_the_body_unless_it_is_given(void **state)
{
    (void)state;
    struct curl_slist *list;
    assert_int_equal(pier__header_list(&list, NULL, NULL, PIER__BODY_JSON, NULL), 0);
    assert_lines(list, (const char *const[]){"Content-Type: application/json", "Expect:", NULL});
    pier__free(list);
    assert_int_equal(pier__header_list(&list, NULL, PIER_PAIRS({"content-type", "text/x"}),
                                       PIER__BODY_BYTES, NULL),
                     0);
    assert_lines(list, (const char *const[]){"content-type: text/x", "Expect:", NULL});
    pier__free(list);
}

static bool is_b(const char *line)
{
    return !strncmp(line, "B:", 2);
}

static void test_headers__drops_lines_from_a_copy(void **state)
{
    (void)state;
    struct curl_slist *list, *copy;
    assert_int_equal(make(&list, NULL, PIER_PAIRS({"A", "1"}, {"B", "2"}, {"C", "3"})), 0);
    assert_int_equal(pier__header_list_without(&copy, list, is_b, NULL), 0);
    assert_lines(copy, (const char *const[]){"A: 1", "C: 3", NULL});
    pier__free(copy);
    pier__free(list);
    assert_int_equal(pier__header_list_without(&copy, NULL, is_b, NULL), 0);
    assert_null(copy);
}

static bool add(pier__header_store *store, const char *line)
{
    return pier__header_store_add(store, line, strlen(line));
}

static void test_headers__finds_the_last_of_a_name_in_any_case(void **state)
{
    (void)state;
    pier__header_store store = {0};
    assert_true(add(&store, "Content-Type: text/plain \r\n"));
    assert_true(add(&store, "X-A:1\r\n"));
    assert_true(add(&store, "x-a: \t2\n"));
    assert_true(add(&store, "X-Ab: 3\r\n"));
    assert_true(add(&store, "X-Empty:\r\n"));
    assert_string_equal(pier__header_store_find(&store, "content-type"), "text/plain");
    assert_string_equal(pier__header_store_find(&store, "X-A"), "2");
    assert_string_equal(pier__header_store_find(&store, "X-EMPTY"), "");
    assert_null(pier__header_store_find(&store, "X"));
    assert_null(pier__header_store_find(&store, "missing"));
    pier__header_store_clear(&store);
    assert_null(pier__header_store_find(&store, "X-A"));
    pier__header_store_fini(&store);
}

static void test_headers__joins_folded_lines(void **state)
{
    (void)state;
    pier__header_store store = {0};
    assert_true(add(&store, " lost\r\n"));
    assert_true(add(&store, "X-A: one\r\n"));
    assert_true(add(&store, "\t two\r\n"));
    assert_string_equal(pier__header_store_find(&store, "X-A"), "one two");
    pier__header_store_fini(&store);
}

static void test_headers__bounds_their_number_and_size(void **state)
{
    (void)state;
    pier__header_store store = {0};
    for (int i = 0; i < PIER__HEADERS_MAX; i++) {
        assert_true(add(&store, "X-A: 1\r\n"));
    }
    assert_false(add(&store, "X-A: 1\r\n"));
    pier__header_store_fini(&store);
    static char line[PIER__HEADERS_SIZE_MAX / 4];
    memset(line, 'x', sizeof line);
    line[1] = ':';
    for (int i = 0; i < 3; i++) {
        assert_true(pier__header_store_add(&store, line, sizeof line));
    }
    assert_false(pier__header_store_add(&store, line, sizeof line));
    pier__header_store_fini(&store);
}

static void assert_status(const char *line, int status, const char *reason)
{
    pier_response *response = pier__response_new();
    assert_true(pier__response_begin(response, line, strlen(line)));
    assert_int_equal(pier_response_status(response), status);
    assert_string_equal(response->reason, reason);
    pier_response_free(response);
}

static void test_response__reads_status_lines(void **state)
{
    (void)state;
    assert_status("HTTP/1.1 404 Not Found\r\n", 404, "Not Found");
    assert_status("HTTP/1.1 200\r\n", 200, "");
    assert_status("HTTP/2 200 \r\n", 200, "");
    assert_status("HTTP/1.1\r\n", 0, "");
    assert_status("HTTP/1.1 500 a\x1b[31mb\r\n", 500, "a?[31mb");
    pier_response *response = pier__response_new();
    assert_false(pier__response_begin(response, "Server: x\r\n", 11));
    pier_response_free(response);
}

static void test_response__is_zero_terminated_and_bears_null(void **state)
{
    (void)state;
    size_t size = 7;
    pier_response *response = pier__response_new();
    assert_string_equal(pier_response_text(response, &size), "");
    assert_int_equal(size, 0);
    for (int i = 0; i < 1000; i++) {
        assert_true(pier__response_append(response, "0123456789", 10));
    }
    const char *text = pier_response_text(response, &size);
    assert_int_equal(size, 10000);
    assert_int_equal(text[10000], 0);
    pier_response_free(response);
    pier_response_free(NULL);
    assert_int_equal(pier_response_status(NULL), 0);
    assert_null(pier_response_text(NULL, &size));
    assert_null(pier_response_header(NULL, "a"));
    assert_null(pier_response_url(NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers__refuses_names_and_values_that_would_add_lines),
        cmocka_unit_test(test_headers__refuses_those_that_frame_the_message),
        cmocka_unit_test(test_headers__replaces_those_of_the_session),
        cmocka_unit_test(test_headers__adds_the_type_of_the_body_unless_it_is_given),
        cmocka_unit_test(test_headers__drops_lines_from_a_copy),
        cmocka_unit_test(test_headers__finds_the_last_of_a_name_in_any_case),
        cmocka_unit_test(test_headers__joins_folded_lines),
        cmocka_unit_test(test_headers__bounds_their_number_and_size),
        cmocka_unit_test(test_response__reads_status_lines),
        cmocka_unit_test(test_response__is_zero_terminated_and_bears_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
