/* The rules of redirects. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/http/redirect.h"
#include <string.h>

static void test_redirect__follows_these_statuses_only(void **state)
{
    (void)state;
    static const int followed[] = {301, 302, 303, 307, 308};
    int count = 0;
    for (int status = 200; status < 600; status++) {
        bool is = pier__redirect_is(status);
        assert_true(!is || followed[count] == status);
        count += is;
    }
    assert_int_equal(count, 5);
}

static void test_redirect__turns_methods_into_get_as_browsers_do(void **state)
{
    (void)state;
    assert_true(pier__redirect_becomes_get(301, "POST"));
    assert_true(pier__redirect_becomes_get(302, "POST"));
    assert_false(pier__redirect_becomes_get(301, "PUT"));
    assert_false(pier__redirect_becomes_get(302, "DELETE"));
    assert_true(pier__redirect_becomes_get(303, "POST"));
    assert_true(pier__redirect_becomes_get(303, "PUT"));
    assert_false(pier__redirect_becomes_get(303, "HEAD"));
    assert_false(pier__redirect_becomes_get(307, "POST"));
    assert_false(pier__redirect_becomes_get(308, "POST"));
}

static void test_redirect__knows_what_must_not_leave_the_origin(void **state)
{
    (void)state;
    assert_true(pier__redirect_is_secret("authorization: Bearer x"));
    assert_true(pier__redirect_is_secret("Cookie: a=b"));
    assert_true(pier__redirect_is_secret("Proxy-Authorization: x"));
    assert_true(pier__redirect_is_secret("x-api-key;"));
    assert_true(pier__redirect_is_secret("Host: inside"));
    assert_false(pier__redirect_is_secret("Cookies: a"));
    assert_false(pier__redirect_is_secret("Accept: a"));
    assert_true(pier__redirect_is_of_body("content-type: a"));
    assert_false(pier__redirect_is_of_body("Accept: a"));
}

static int follow(const char *from, const char *location, pier__url *url, bool *other_origin)
{
    pier_error err = {0};
    assert_int_equal(pier__url_make(url, NULL, from, NULL, &err), 0);
    int status = pier__redirect_follow(url, location, other_origin, &err);
    assert_int_equal(err.status, status);
    return status;
}

static void test_redirect__keeps_the_user_within_the_origin(void **state)
{
    (void)state;
    pier__url url;
    bool other;
    assert_int_equal(follow("http://me:pw@h/a/b", "../c", &url, &other), 0);
    assert_string_equal(url.text, "http://h/c");
    assert_string_equal(url.user, "me");
    assert_string_equal(url.password, "pw");
    assert_false(other);
    pier__url_fini(&url);
    assert_int_equal(follow("http://me:pw@h/a/b", "http://h/c", &url, &other), 0);
    assert_string_equal(url.user, "me");
    pier__url_fini(&url);
}

static void test_redirect__bears_spaces(void **state)
{
    (void)state;
    pier__url url;
    bool other;
    assert_int_equal(follow("http://h/a", "/b c?d e", &url, &other), 0);
    assert_string_equal(url.text, "http://h/b%20c?d%20e");
    pier__url_fini(&url);
}

static void test_redirect__drops_the_user_on_the_way_to_another_origin(void **state)
{
    (void)state;
    pier__url url;
    bool other;
    static const char *const elsewhere[] = {"http://other/c", "//other/c", "http://h:81/c",
                                            "https://h/c"};
    for (size_t i = 0; i < sizeof elsewhere / sizeof *elsewhere; i++) {
        assert_int_equal(follow("http://me:pw@h/a/b", elsewhere[i], &url, &other), 0);
        assert_true(other);
        assert_null(url.user);
        assert_null(url.password);
        pier__url_fini(&url);
    }
}

static void test_redirect__refuses_to_leave_https_and_odd_places(void **state)
{
    (void)state;
    pier__url url;
    bool other;
    static const char *const refused[] = {"http://h/c", "ftp://h/", "file:///etc/passwd",
                                          "https://h/a\tb", "https:///"};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        assert_int_equal(follow("https://h/a", refused[i], &url, &other), PIER_EPROTOCOL);
        assert_string_equal(url.text, "https://h/a");
        pier__url_fini(&url);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_redirect__follows_these_statuses_only),
        cmocka_unit_test(test_redirect__turns_methods_into_get_as_browsers_do),
        cmocka_unit_test(test_redirect__knows_what_must_not_leave_the_origin),
        cmocka_unit_test(test_redirect__keeps_the_user_within_the_origin),
        cmocka_unit_test(test_redirect__bears_spaces),
        cmocka_unit_test(test_redirect__drops_the_user_on_the_way_to_another_origin),
        cmocka_unit_test(test_redirect__refuses_to_leave_https_and_odd_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
