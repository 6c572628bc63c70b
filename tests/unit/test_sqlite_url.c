/* Options of SQLite's URLs, the guess which statements read, and which versions have a bug. */
#include "tests/unit/unit.h"

#include "drivers/sqlite/driver.h"
#include "drivers/sqlite/setup.h"
#include "drivers/sqlite/sql.h"
#include <sqlite3.h>
#include <string.h>

static pier__sqlite_url read_url(const char *text)
{
    pier__sqlite_url url = {0};
    pier_error err = {0};
    if (pier__sqlite_url_read(&url, text, &err)) {
        print_error("%s\n", err.message);
        fail();
    }
    return url;
}

static void assert_bad_url(const char *text, const char *says)
{
    pier__sqlite_url url = {0};
    pier_error err = {0};
    assert_int_equal(pier__sqlite_url_read(&url, text, &err), PIER_EINVAL);
    if (!strstr(err.message, says)) {
        print_error("%s\n", err.message);
        fail();
    }
}

static void test_url__without_options_leaves_everything_as_it_is(void **state)
{
    (void)state;
    pier__sqlite_url url = read_url("sqlite:x");
    assert_int_equal(url.readers, 0);
    assert_int_equal(url.setup.statement_cache, 128);
    assert_null(url.setup.journal_mode);
    assert_null(url.setup.synchronous);
    assert_null(url.setup.foreign_keys);
    assert_int_equal(url.setup.journal_size_limit, -1);
    assert_int_equal(url.setup.wal_autocheckpoint, -1);
    assert_false(url.setup.extensions || url.immutable || url.nolock || *url.vfs);
}

static void test_url__reads_each_option(void **state)
{
    (void)state;
    pier__sqlite_url url = read_url(
        "sqlite:x?readers=3&statement_cache=0&journal_mode=wal&synchronous=extra&foreign_keys=off&"
        "journal_size_limit=5000000000&wal_autocheckpoint=0&extensions=on&read_tx_max_ms=70");
    assert_int_equal(url.readers, 3);
    assert_int_equal(url.setup.statement_cache, 0);
    assert_string_equal(url.setup.journal_mode, "wal");
    assert_string_equal(url.setup.synchronous, "extra");
    assert_string_equal(url.setup.foreign_keys, "off");
    assert_true(url.setup.journal_size_limit == INT64_C(5000000000));
    assert_int_equal(url.setup.wal_autocheckpoint, 0);
    assert_true(url.setup.extensions);
    assert_int_equal(url.setup.read_tx_max_ms, 70);
    url = read_url("sqlite:x?immutable=1&nolock=on&vfs=unix-none");
    assert_true(url.immutable && url.nolock);
    assert_string_equal(url.vfs, "unix-none");
    assert_true(read_url("sqlite:x?mode=memory").open_flags & SQLITE_OPEN_MEMORY);
}

static void test_url__the_preset_is_changed_by_what_stands_beside_it(void **state)
{
    (void)state;
    pier__sqlite_url url = read_url("sqlite:x?synchronous=full&preset=service&readers=2");
    assert_int_equal(url.readers, 2);
    assert_string_equal(url.setup.synchronous, "full");
    assert_string_equal(url.setup.journal_mode, "wal");
    assert_string_equal(url.setup.foreign_keys, "on");
    assert_int_equal(url.setup.journal_size_limit, 64 * 1024 * 1024);
    assert_int_equal(read_url("sqlite:x?preset=service").readers, 5);
}

static void test_url__refuses_what_cannot_be_meant(void **state)
{
    (void)state;
    assert_bad_url("sqlite::memory:?readers=2", "would see a database of its own");
    assert_bad_url("sqlite:x?mode=memory&readers=2", "would see a database of its own");
    assert_bad_url("sqlite::memory:?preset=service", "would see a database of its own");
    assert_bad_url("sqlite:x?readers=2&nolock=1", "need locks");
    assert_bad_url("sqlite:x?mode=ro&preset=service", "mode=ro cannot set");
    assert_bad_url("sqlite:x?read_tx_max_ms=5", "add readers=N");
    assert_bad_url("sqlite:x?readers=101", "0 to 100");
    assert_bad_url("sqlite:x?preset=fast", "it is service");
    assert_bad_url("sqlite:x?journal_mode=WAL", "it is delete, truncate");
    assert_bad_url("sqlite:x?foreign_keys=yes", "on or off");
    assert_bad_url("sqlite:x?vfs=none-such", "none of this name");
    assert_bad_url("sqlite:x?cache=shared", "read_tx_max_ms, journal_mode, synchronous, "
                                            "foreign_keys, journal_size_limit, wal_autocheckpoint, "
                                            "extensions, immutable, nolock, vfs");
}

static void test_may_read__guesses_by_the_first_word(void **state)
{
    (void)state;
    static const char *const yes[] = {"select 1",   " -- x\n SELECT(1)", "with a as (select 1) x",
                                      "values (1)", "explain select 1",  "/* y */select*from t"};
    static const char *const no[] = {"insert into t", "selector",       "pragma foreign_keys", "",
                                     "begin",         "attach 'x' as y"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        assert_true(pier__sqlite_sql_may_read(yes[i]));
    }
    for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
        assert_false(pier__sqlite_sql_may_read(no[i]));
    }
}

static void test_wal_reset_bug__is_known_by_the_version(void **state)
{
    (void)state;
    static const int with[] = {3007000, 3040001, 3044005, 3045000, 3050006, 3051000, 3051002};
    static const int without[] = {3006023, 3044006, 3044007, 3050007, 3051003, 3052000, 4000000};
    for (size_t i = 0; i < sizeof with / sizeof *with; i++) {
        assert_true(pier__sqlite_has_wal_reset_bug(with[i]));
    }
    for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
        assert_false(pier__sqlite_has_wal_reset_bug(without[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_url__without_options_leaves_everything_as_it_is),
        cmocka_unit_test(test_url__reads_each_option),
        cmocka_unit_test(test_url__the_preset_is_changed_by_what_stands_beside_it),
        cmocka_unit_test(test_url__refuses_what_cannot_be_meant),
        cmocka_unit_test(test_may_read__guesses_by_the_first_word),
        cmocka_unit_test(test_wal_reset_bug__is_known_by_the_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
