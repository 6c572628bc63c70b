/* URLs of Postgres databases: which servers they name, what messages may show of them, and the
 * errors that tell what is wrong without the password. Nothing here goes to the network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drivers/postgres/error.h"
#include "drivers/postgres/url.h"
#include "sdk/alloc.h"

static pier__postgres_db *db;
static pier_error err;

static int set_up(void **state)
{
    (void)state;
    static const char *const variables[] = {"PGHOST",
                                            "PGHOSTADDR",
                                            "PGPORT",
                                            "PGUSER",
                                            "PGDATABASE",
                                            "PGSERVICE",
                                            "PGCONNECT_TIMEOUT",
                                            "PGGSSENCMODE",
                                            "PGTARGETSESSIONATTRS",
                                            "PGLOADBALANCEHOSTS",
                                            "PGPASSWORD",
                                            "PGOPTIONS"};
    for (size_t i = 0; i < sizeof variables / sizeof *variables; i++) {
        unsetenv(variables[i]);
    }
    memset(&err, 0, sizeof err);
    db = calloc(1, sizeof *db);
    db->base.settings.connect_timeout_ms = 30000;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    pier__postgres_url_fini(db);
    pier__free(db->base.name);
    free(db);
    return 0;
}

static void read_url(const char *url)
{
    if (pier__postgres_url_read(db, url, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

static const char *option(const char *keyword)
{
    for (int i = 0; i < db->option_count; i++) {
        if (strcmp(db->keywords[i], keyword) == 0) {
            return db->values[i];
        }
    }
    return "";
}

static void test_url__names_the_server_without_secrets(void **state)
{
    (void)state;
    read_url("postgresql://ada:s3cret@db.example.com:6543/app?sslpassword=s3cret");
    assert_string_equal(db->base.name, "postgresql://ada@db.example.com:6543/app");
    assert_string_equal(option("password"), "s3cret");
    assert_int_equal(db->host_count, 1);
    assert_string_equal(db->hosts[0].host, "db.example.com");
    assert_string_equal(db->hosts[0].port, "6543");
    assert_null(db->hosts[0].address);
}

static void test_url__says_which_servers_are_wanted(void **state)
{
    (void)state;
    read_url("postgresql://one,two/app?load_balance_hosts=random&target_session_attrs=primary");
    assert_true(db->random);
    assert_int_equal(db->wanted, PIER__WANTED_WRITABLE);
    assert_string_equal(db->attributes, "primary");
    assert_string_equal(option("target_session_attrs"), "");
}

static void test_url__the_environment_balances(void **state)
{
    (void)state;
    setenv("PGLOADBALANCEHOSTS", "random", 1);
    read_url("postgresql://one,two/app");
    assert_true(db->random);
    unsetenv("PGLOADBALANCEHOSTS");
}

static void test_url__its_own_choice_goes_before_the_environment(void **state)
{
    (void)state;
    setenv("PGLOADBALANCEHOSTS", "random", 1);
    read_url("postgresql://one,two/app?load_balance_hosts=disable");
    assert_false(db->random);
    unsetenv("PGLOADBALANCEHOSTS");
}

static void test_url__a_password_needs_no_files(void **state)
{
    (void)state;
    read_url("postgresql://ada:s3cret@one/app");
    assert_false(db->reads_files);
}

static void test_url__without_a_password_files_are_read(void **state)
{
    (void)state;
    read_url("postgresql://ada@one/app");
    assert_true(db->reads_files);
}

static void test_settings__stand_behind_the_options_of_the_url(void **state)
{
    (void)state;
    const char *const settings[] = {"search_path=a, b", "x.y=c\\d", NULL};
    read_url("postgresql://one/app?options=-c%20lock_timeout%3D5");
    assert_int_equal(pier__postgres_settings_add(db, settings, &err), 0);
    assert_string_equal(option("options"), "-c lock_timeout=5 -c search_path=a,\\ b -c x.y=c\\\\d");
}

/* Writes a service file, reads it as a connection does, and removes it. */
static void read_service(const char *url, const char *const *settings, const char *text)
{
    char path[] = "pier-services-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    setenv("PGSERVICEFILE", path, 1);
    int read = pier__postgres_url_read(db, url, &err);
    int added = read ? read : pier__postgres_settings_add(db, settings, &err);
    bool unread = pier__postgres_url_is_unread(db) && db->reads_files;
    PQconninfoOption *all = pier__postgres_url_ask(db);
    int status = pier__postgres_url_settle(db, all, &err);
    PQconninfoFree(all);
    unlink(path); /* before anything can fail the test */
    unsetenv("PGSERVICEFILE");
    assert_string_equal(err.message, "");
    assert_int_equal(added, 0);
    assert_true(unread);
    assert_int_equal(status, 0);
    assert_false(pier__postgres_url_is_unread(db));
}

static void test_service__goes_before_what_is_good_for_a_pool(void **state)
{
    (void)state;
    read_service("postgresql://bob@/?service=one&keepalives_count=9", NULL,
                 "[one]\nhost=one,two\nport=1,2\nuser=ada\ndbname=app\nkeepalives_idle=7\n"
                 "keepalives_count=8\ngssencmode=require\nconnect_timeout=3\n"
                 "target_session_attrs=standby\n");
    assert_string_equal(db->base.name, "postgresql://bob@/?service=one");
    assert_int_equal(db->host_count, 2);
    assert_string_equal(db->hosts[1].host, "two");
    assert_string_equal(db->hosts[1].port, "2");
    assert_string_equal(db->attributes, "standby");
    assert_int_equal(db->base.settings.connect_timeout_ms, 3000);
    assert_string_equal(option("user"), "bob");
    assert_string_equal(option("dbname"), "app");
    assert_string_equal(option("keepalives_count"), "9");
    assert_string_equal(option("keepalives_interval"), "10");
    /* libpq has them from the file. */
    assert_string_equal(option("keepalives_idle"), "");
    assert_string_equal(option("gssencmode"), "");
}

static void test_service__that_says_little(void **state)
{
    (void)state;
    setenv("PGSERVICE", "one", 1);
    read_service("postgresql://", NULL, "[one]\nhost=one\n");
    unsetenv("PGSERVICE");
    assert_string_equal(db->base.name, "postgresql:///?service=one");
    assert_string_equal(option("gssencmode"), "disable");
    assert_string_equal(option("keepalives_idle"), "30");
    assert_string_equal(option("client_encoding"), "UTF8");
    assert_string_equal(db->attributes, "any");
}

static void test_settings__stand_behind_the_options_of_a_service(void **state)
{
    (void)state;
    const char *const settings[] = {"search_path=a, b", NULL};
    read_service("postgresql:///?service=one", settings, "[one]\noptions=-c lock_timeout=5\n");
    assert_string_equal(option("options"), "-c lock_timeout=5 -c search_path=a,\\ b");
}

static void test_settings__the_options_of_the_url_go_before_those_of_a_service(void **state)
{
    (void)state;
    const char *const settings[] = {"x.y=z", NULL};
    read_service("postgresql:///?service=one&options=-c%20lock_timeout%3D6", settings,
                 "[one]\noptions=-c lock_timeout=5\n");
    assert_string_equal(option("options"), "-c lock_timeout=6 -c x.y=z");
}

static void test_settings__need_a_name_and_a_value(void **state)
{
    (void)state;
    const char *const settings[] = {"a=b", "c d=e", NULL};
    read_url("postgresql://one/app");
    assert_int_equal(pier__postgres_settings_add(db, settings, &err), PIER_EINVAL);
    assert_non_null(strstr(err.message, "setting 2 is \"c d=e\""));
}

static void test_url__has_keys_of_its_own_that_libpq_does_not_see(void **state)
{
    (void)state;
    read_url("postgresql://ada@one/app?pier_statements=unnamed&sslmode=disable&"
             "pier_statement_cache=7");
    assert_true(db->unnamed);
    assert_int_equal(db->cache_max, 7);
    assert_string_equal(option("sslmode"), "disable");
    assert_int_equal(db->base.settings.reset, PIER_RESET_NONE);
}

static void test_url__keeps_a_hundred_statements_by_default(void **state)
{
    (void)state;
    read_url("postgresql://ada@one/app?pier_statements=cached");
    assert_false(db->unnamed);
    assert_int_equal(db->cache_max, 100);
    assert_int_equal(db->base.settings.reset, PIER_RESET_DEFAULT);
}

static void test_url__refuses_keys_that_it_does_not_know(void **state)
{
    (void)state;
    static const char *const urls[] = {"postgresql://one/app?pier_statements=none",
                                       "postgresql://one/app?pier_cache=3",
                                       "postgresql://one/app?pier_statement_cache=",
                                       "postgresql://one/app?pier_statement_cache",
                                       "postgresql://one/app?pier_statement_cache=-1",
                                       "postgresql://one/app?pier_",
                                       "postgresql://one/app?pier_statement_cache=10001"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        memset(&err, 0, sizeof err);
        assert_int_equal(pier__postgres_url_read(db, urls[i], &err), PIER_EINVAL);
        assert_non_null(strstr(err.message, "pier_statement"));
    }
}

static void test_url__takes_several_hosts(void **state)
{
    (void)state;
    read_url("postgres://ada@one:1,two,[::1]:3/app");
    assert_int_equal(db->host_count, 3);
    assert_string_equal(db->hosts[0].host, "one");
    assert_string_equal(db->hosts[0].port, "1");
    assert_string_equal(db->hosts[1].host, "two");
    assert_null(db->hosts[1].port);
    assert_string_equal(db->hosts[2].host, "::1");
    assert_string_equal(db->hosts[2].port, "3");
    assert_string_equal(db->base.name, "postgresql://ada@one:1,two,[::1]:3/app");
}

static void test_url__takes_what_it_leaves_open_from_the_environment(void **state)
{
    (void)state;
    setenv("PGHOST", "/run/pg", 1);
    setenv("PGUSER", "ada", 1);
    setenv("PGCONNECT_TIMEOUT", "7", 1);
    read_url("postgresql:///app");
    assert_string_equal(db->hosts[0].host, "/run/pg");
    assert_string_equal(db->base.name, "postgresql://ada@/run/pg:5432/app");
    assert_int_equal(db->base.settings.connect_timeout_ms, 7000);
}

static void test_url__sets_what_is_good_for_a_pool_unless_told_otherwise(void **state)
{
    (void)state;
    read_url("postgresql://h/app?application_name=mine&keepalives_idle=5");
    assert_string_equal(option("gssencmode"), "disable");
    assert_string_equal(option("client_encoding"), "UTF8");
    assert_string_equal(option("application_name"), "mine");
    assert_string_equal(option("keepalives_idle"), "5");
}

static void test_url__refuses_nonsense_without_showing_the_password(void **state)
{
    (void)state;
    static const char *const urls[] = {
        "postgresql://ada:s3cret@[::1/app",
        "postgresql://ada:s3cret%zz@h/app",
        "postgresql://ada:s3cret@h/app?s3cret",
        "postgresql://ada:s3cret@h/app?a=b=s3cret",
        "postgresql://ada:s3cret@h/app?password=%00s3cret",
        "postgresql://ada:s3cret@h/app?no_such_option=s3cret",
        "postgresql://ada:s3cret@one,two/app?port=1,2,3",
    };
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        if (pier__postgres_url_read(db, urls[i], &err) != PIER_EINVAL) {
            fail_msg("%s was taken", urls[i]);
        }
        assert_null(strstr(err.message, "s3cret"));
        assert_non_null(strstr(err.message, "URL"));
        pier__postgres_url_fini(db);
    }
}

static void test_url__says_which_option_is_unknown(void **state)
{
    (void)state;
    assert_int_equal(pier__postgres_url_read(db, "postgresql://h/app?sslmod=require", &err),
                     PIER_EINVAL);
    assert_non_null(strstr(err.message, "sslmod"));
}

static void test_connect_error__has_the_sqlstate_and_one_line(void **state)
{
    (void)state;
    pier__postgres_connect_error(&err, "postgresql://ada@h:1/app",
                                 "connection to server at \"h\", port 1 failed: FATAL:  28P01: "
                                 "password authentication failed for user \"ada\"\n"
                                 "LOCATION:  auth_failed, auth.c:326\n");
    assert_int_equal(err.status, PIER_ECONNECT);
    assert_string_equal(err.sqlstate, "28P01");
    assert_null(strstr(err.message, "LOCATION"));
    assert_null(strchr(err.message, '\n'));
    assert_non_null(strstr(err.message, "failed for user \"ada\"; check user and password"));
}

static void test_status__by_sqlstate(void **state)
{
    (void)state;
    assert_int_equal(pier__postgres_status("23505"), PIER_ECONSTRAINT);
    assert_int_equal(pier__postgres_status("23P01"), PIER_ECONSTRAINT);
    assert_int_equal(pier__postgres_status("40001"), PIER_ESERIALIZATION);
    assert_int_equal(pier__postgres_status("40P01"), PIER_ESERIALIZATION);
    assert_int_equal(pier__postgres_status("40003"), PIER_ESQL);
    assert_int_equal(pier__postgres_status("55P03"), PIER_EBUSY);
    assert_int_equal(pier__postgres_status("22003"), PIER_ERANGE);
    assert_int_equal(pier__postgres_status("57P01"), PIER_EIO);
    assert_int_equal(pier__postgres_status("42P01"), PIER_ESQL);
    assert_int_equal(pier__postgres_status(""), PIER_ESQL);
}

static void test_error__excerpt_is_folded_and_cut_between_characters(void **state)
{
    (void)state;
    char sql[400] = "  select\n\t 1,";
    pier_error_set(&err, PIER_ESQL, "it failed");
    pier__postgres_error_add_sql(&err, sql, strlen(sql));
    assert_string_equal(err.message, "it failed: select 1,");
    memset(sql, 'x', 119);
    strcpy(sql + 119, "\xc3\xa9\xc3\xa9\xc3\xa9");
    pier_error_set(&err, PIER_ESQL, "it failed");
    pier__postgres_error_add_sql(&err, sql, strlen(sql));
    assert_string_equal(err.message + strlen(err.message) - 4, "x...");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_url__names_the_server_without_secrets),
        TEST(test_url__says_which_servers_are_wanted),
        TEST(test_url__the_environment_balances),
        TEST(test_url__its_own_choice_goes_before_the_environment),
        TEST(test_url__a_password_needs_no_files),
        TEST(test_url__without_a_password_files_are_read),
        TEST(test_settings__stand_behind_the_options_of_the_url),
        TEST(test_service__goes_before_what_is_good_for_a_pool),
        TEST(test_service__that_says_little),
        TEST(test_settings__stand_behind_the_options_of_a_service),
        TEST(test_settings__the_options_of_the_url_go_before_those_of_a_service),
        TEST(test_settings__need_a_name_and_a_value),
        TEST(test_url__has_keys_of_its_own_that_libpq_does_not_see),
        TEST(test_url__keeps_a_hundred_statements_by_default),
        TEST(test_url__refuses_keys_that_it_does_not_know),
        TEST(test_url__takes_several_hosts),
        TEST(test_url__takes_what_it_leaves_open_from_the_environment),
        TEST(test_url__sets_what_is_good_for_a_pool_unless_told_otherwise),
        TEST(test_url__refuses_nonsense_without_showing_the_password),
        TEST(test_url__says_which_option_is_unknown),
        TEST(test_connect_error__has_the_sqlstate_and_one_line),
        TEST(test_status__by_sqlstate),
        TEST(test_error__excerpt_is_folded_and_cut_between_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
