/* URLs: joining, queries, what is refused, origins, and what messages show. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "drivers/http/url.h"
#include <string.h>

static void assert_joined(const char *base_text, const char *reference, const char *expected)
{
    pier_error err = {0};
    pier__origin *origin = NULL;
    CURLU *base = base_text ? pier__url_base(base_text, &origin, &err) : NULL;
    pier__url url;
    if (pier__url_make(&url, base, reference, NULL, &err) < 0) {
        fail_msg("%s + %s: %s", base_text ? base_text : "", reference, err.message);
    }
    assert_string_equal(url.text, expected);
    pier__url_fini(&url);
    int made = pier__url_make_quickly(&url, origin, true, reference, NULL, &err);
    assert_true(made >= 0);
    if (made) { /* the way without the parser must not differ */
        assert_string_equal(url.text, expected);
        pier__url_fini(&url);
    }
    pier__origin_unref(origin);
    curl_url_cleanup(base);
}

static void test_url__joins_references_with_the_base(void **state)
{
    (void)state;
    assert_joined(NULL, "http://example.org", "http://example.org/");
    assert_joined("http://example.org", "/orders", "http://example.org/orders");
    assert_joined("http://example.org/api/", "orders?x=1", "http://example.org/api/orders?x=1");
    assert_joined("http://example.org/api/v1", "orders", "http://example.org/api/orders");
    assert_joined("http://example.org/api/v1", "/orders", "http://example.org/orders");
    assert_joined("http://example.org/api/v1", "../up", "http://example.org/up");
    assert_joined("http://example.org/api", "?q=2", "http://example.org/api?q=2");
    assert_joined("http://example.org/api", "", "http://example.org/api");
    assert_joined("http://example.org/api", "#top", "http://example.org/api");
    assert_joined("http://example.org/api", "//other.org/x", "http://other.org/x");
    assert_joined("http://example.org/api", "https://other.org/x", "https://other.org/x");
    assert_joined("http://example.org:8080/", "/a%2Fb", "http://example.org:8080/a%2Fb");
    assert_joined(NULL, "http://[::1]:8080/x", "http://[::1]:8080/x");
}

static void test_url__drops_fragments_and_encodes_what_is_not_ascii(void **state)
{
    (void)state;
    assert_joined(NULL, "http://example.org/a#b", "http://example.org/a");
    assert_joined("http://example.org", "/caf\xc3\xa9?n=\xc3\xbc",
                  "http://example.org/caf%C3%A9?n=%C3%BC");
}

static void assert_refused(const char *base_text, const char *reference)
{
    pier_error err = {0};
    pier__origin *origin = NULL;
    CURLU *base = base_text ? pier__url_base(base_text, &origin, &err) : NULL;
    pier__url url;
    assert_int_equal(pier__url_make(&url, base, reference, NULL, &err), PIER_EINVAL);
    assert_int_equal(err.status, PIER_EINVAL);
    assert_null(strstr(err.message, "secret"));
    assert_true(pier__url_make_quickly(&url, origin, true, reference, NULL, &err) <= 0);
    pier__origin_unref(origin);
    curl_url_cleanup(base);
}

static void test_url__refuses_what_would_break_the_request_line(void **state)
{
    (void)state;
    assert_refused(NULL, "http://example.org/a b");
    assert_refused(NULL, "http://example.org/a\r\nX: y");
    assert_refused("http://example.org", "/a\nb");
    assert_refused("http://example.org", "/a\tb");
    assert_refused("http://example.org", "/a\x7f");
    assert_refused(NULL, "http://exa mple.org/");
    assert_refused(NULL, "http://caf\xc3\xa9.org/");
}

static void test_url__refuses_other_schemes_and_relative_urls_without_a_base(void **state)
{
    (void)state;
    assert_refused(NULL, "ftp://example.org/");
    assert_refused(NULL, "file:///etc/passwd");
    assert_refused(NULL, "example.org/");
    assert_refused(NULL, "/orders");
    assert_refused(NULL, "");
    assert_refused(NULL, "http://");
    assert_refused(NULL, "http://user:secret@example.org:99999/");
}

static void test_url__appends_the_query_percent_encoded(void **state)
{
    (void)state;
    pier_error err = {0};
    pier__url url;
    const pier_pair *query = PIER_PAIRS({"a b", "1&2"}, {"c", "=/?\xc3\xbc"}, {"d", ""});
    assert_int_equal(pier__url_make(&url, NULL, "http://h/p?x=1#f", query, &err), 0);
    assert_string_equal(url.text, "http://h/p?x=1&a%20b=1%262&c=%3D%2F%3F%C3%BC&d=");
    pier__url_fini(&url);
    assert_int_equal(pier__url_make(&url, NULL, "http://h", PIER_PAIRS({"a", "b"}), &err), 0);
    assert_string_equal(url.text, "http://h/?a=b");
    pier__url_fini(&url);
}

static void test_url__separates_user_and_password(void **state)
{
    (void)state;
    pier_error err = {0};
    pier__url url;
    assert_int_equal(pier__url_make(&url, NULL, "http://me:s%40cret@h:81/p", NULL, &err), 0);
    assert_string_equal(url.text, "http://h:81/p");
    assert_string_equal(url.user, "me");
    assert_string_equal(url.password, "s@cret");
    assert_string_equal(url.host, "h");
    assert_string_equal(url.port, "81");
    assert_false(url.numeric);
    pier__url_fini(&url);
}

static void test_url__knows_addresses_and_default_ports(void **state)
{
    (void)state;
    pier_error err = {0};
    pier__url url;
    assert_int_equal(pier__url_make(&url, NULL, "https://[::1]/", NULL, &err), 0);
    assert_string_equal(url.host, "::1");
    assert_string_equal(url.port, "443");
    assert_true(url.numeric && url.https);
    pier__url_fini(&url);
    assert_int_equal(pier__url_make(&url, NULL, "http://127.0.0.1/", NULL, &err), 0);
    assert_string_equal(url.port, "80");
    assert_true(url.numeric && !url.https);
    pier__url_fini(&url);
}

static bool same_origin(const char *a_text, const char *b_text)
{
    pier__url a, b;
    assert_int_equal(pier__url_make(&a, NULL, a_text, NULL, NULL), 0);
    assert_int_equal(pier__url_make(&b, NULL, b_text, NULL, NULL), 0);
    bool same = pier__url_same_origin(&a, &b);
    pier__url_fini(&a);
    pier__url_fini(&b);
    return same;
}

static void test_url__compares_origins(void **state)
{
    (void)state;
    assert_true(same_origin("http://h/a", "http://H:80/b?c"));
    assert_true(same_origin("https://h", "https://h:443"));
    assert_false(same_origin("http://h", "https://h"));
    assert_false(same_origin("http://h", "http://h:81"));
    assert_false(same_origin("http://h", "http://h.org"));
}

static void assert_masked(const char *text, const char *expected)
{
    char buffer[80];
    pier__url_mask(buffer, sizeof buffer, text);
    assert_string_equal(buffer, expected);
}

static void test_url__shows_no_secrets(void **state)
{
    (void)state;
    assert_masked("http://user:secret@h/p?token=secret#f", "http://h/p?...");
    assert_masked("http://user:sec@ret@h/p", "http://h/p");
    assert_masked("/p?token=1", "/p?...");
    assert_masked("http://h/a@b", "http://h/a@b");
    assert_masked("http://h/a\r\nb", "http://h/a??b");
}

static void test_url__finds_that_an_origin_covers_only_its_own(void **state)
{
    (void)state;
    pier_error err = {0};
    pier__origin *origin = NULL;
    CURLU *base = pier__url_base("http://h:80", &origin, &err);
    pier__url url;
    static const char *const others[] = {"http://h:8080/",    "http://h:80.org/",
                                         "http://h:80@evil/", "http://h:80\\@evil/",
                                         "//evil/",           "relative"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_int_equal(pier__url_make_quickly(&url, origin, true, others[i], NULL, &err), 0);
    }
    assert_int_equal(pier__url_make_quickly(&url, origin, false, "/path", NULL, &err), 0);
    assert_int_equal(pier__url_make_quickly(&url, origin, false, "http://h:80/p", NULL, &err), 1);
    assert_string_equal(url.host, "h");
    pier__url_fini(&url);
    pier__origin_unref(origin);
    curl_url_cleanup(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url__joins_references_with_the_base),
        cmocka_unit_test(test_url__drops_fragments_and_encodes_what_is_not_ascii),
        cmocka_unit_test(test_url__refuses_what_would_break_the_request_line),
        cmocka_unit_test(test_url__refuses_other_schemes_and_relative_urls_without_a_base),
        cmocka_unit_test(test_url__appends_the_query_percent_encoded),
        cmocka_unit_test(test_url__separates_user_and_password),
        cmocka_unit_test(test_url__knows_addresses_and_default_ports),
        cmocka_unit_test(test_url__compares_origins),
        cmocka_unit_test(test_url__shows_no_secrets),
        cmocka_unit_test(test_url__finds_that_an_origin_covers_only_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
