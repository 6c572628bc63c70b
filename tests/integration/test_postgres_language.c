/*
 * Servers that speak another language. What Pier recognises must not depend on it: each test runs
 * on a server with German messages, whose first words come in Latin-1, where the machine has them;
 * and behind a proxy that makes a language of its own of all texts (tests/support/translator.h).
 */
#include "tests/integration/postgres_fixture.h"

#include "drivers/postgres/text.h"
#include "tests/support/translator.h"
#include <locale.h>

struct tongue {
    int port, unready_port;
    bool missing;
};

static struct tongue german, made_up;
static struct support_postgres unready; /* a replica that lets nobody in */
static struct support_translator *translators[2];
static char locales[256]; /* a directory */

#define LATIN1 "de_DE.ISO-8859-1"

/* ---- The servers ---------------------------------------------------------------------------- */

static int make_locale(void)
{
    char command[600];
    if (support_directory_make(locales, sizeof locales, "locales") < 0) {
        return -1;
    }
    snprintf(command, sizeof command, "localedef -i de_DE -f ISO-8859-1 '%s/%s' >/dev/null 2>&1",
             locales, LATIN1);
    return system(command) == 0 ? 0 : -1;
}

static int write_hba(void)
{
    char path[320];
    snprintf(path, sizeof path, "%s/data/pg_hba.conf", server.directory);
    FILE *file = fopen(path, "we");
    if (!file) {
        return -1;
    }
    fprintf(file, "host all ada 127.0.0.1/32 scram-sha-256\nhost all all 127.0.0.1/32 trust\n"
                  "local all all trust\nlocal replication all trust\n");
    fclose(file);
    PQclear(PQexec(observer, "create role ada login password 's3cret'"));
    PQclear(PQexec(observer, "create role bob login connection limit 0"));
    PQclear(PQexec(observer, "select pg_reload_conf()"));
    return 0;
}

static bool is_refused(void *unused)
{
    (void)unused;
    char url[200];
    snprintf(url, sizeof url, "postgresql://ada:wr0ng@127.0.0.1:%d/postgres", server.port);
    PGconn *pg = PQconnectdb(url);
    bool refused = PQstatus(pg) == CONNECTION_BAD;
    PQfinish(pg);
    return refused;
}

static bool speaks_german(void)
{
    PGresult *result = PQexec(observer, "select 1/0");
    bool german_error = strstr(PQresultErrorMessage(result), "durch Null") != NULL;
    PQclear(result);
    return german_error;
}

/* Both servers; German where the locale could be made. */
static int start_servers(void **state, bool localized)
{
    const char *const settings[] = {"max_connections=60", localized ? "lc_messages=" LATIN1 : NULL,
                                    NULL};
    const char *const unready_settings[] = {"hot_standby=off",
                                            localized ? "lc_messages=" LATIN1 : NULL, NULL};
    (void)state;
    return support_postgres_start_own(&server, settings) || connect_observer() || write_hba() ||
                   !support_wait_until(is_refused, NULL, BOUND_MS) ||
                   support_postgres_start_replica(&unready, &server, unready_settings)
               ? -1
               : 0;
}

static int start_both(void **state)
{
    bool localized = make_locale() == 0;
    if (localized) {
        /* The locale of a server's first words is that of its environment. */
        setenv("LOCPATH", locales, 1);
        setenv("LC_CTYPE", LATIN1, 1);
        unsetenv("LC_ALL");
        unsetenv("LANGUAGE");
    }
    int status = start_servers(state, localized);
    unsetenv("LC_CTYPE");
    translators[0] = support_translator_start(server.port);
    translators[1] = support_translator_start(unready.port);
    if (status || !translators[0] || !translators[1]) {
        return -1;
    }
    german = (struct tongue){server.port, unready.port, !speaks_german()};
    made_up = (struct tongue){support_translator_port(translators[0]),
                              support_translator_port(translators[1]), false};
    if (german.missing) {
        print_message(
            "no German messages on this machine (Debian: locales, and no dpkg path-exclude "
            "for /usr/share/locale): a server that has them is not tested\n");
    }
    return warm_up();
}

static int stop_both(void **state)
{
    support_translator_stop(translators[0]);
    support_translator_stop(translators[1]);
    support_postgres_stop(&unready);
    support_directory_remove(locales);
    return stop_server(state);
}

/* ---- Helpers -------------------------------------------------------------------------------- */

static const struct tongue *speaking(void **state)
{
    const struct tongue *tongue = *state;
    if (tongue->missing) {
        skip();
    }
    return tongue;
}

static char *url_of(int port, const char *login, const char *rest)
{
    static char url[300];
    snprintf(url, sizeof url, "postgresql://%s@127.0.0.1:%d/%s%csslmode=disable", login, port, rest,
             strchr(rest, '?') ? '&' : '?');
    return url;
}

static pier_db *open_in(const struct tongue *tongue, const char *rest, int pool_max)
{
    pier_error err = {0};
    pier_db *pool = pier_db_open(runner, url_of(tongue->port, "postgres", rest),
                                 PIER_DB_OPTIONS(.pool_max = pool_max), &err);
    assert_string_equal(err.message, "");
    return pool;
}

/* In UTF-8, whatever the server's was, and in the server's language. */
static void assert_is_text(const struct tongue *tongue, const char *text, const char *in_german)
{
    for (size_t at = 0, size = strlen(text), width; at < size; at += width) {
        width = pier__postgres_utf8_width(text + at, size - at);
        assert_true(width > 0);
    }
    const char *expected = tongue == &german ? in_german : "bersetzt:";
    if (!strstr(text, expected)) {
        fail_msg("%s: %s", expected, text);
    }
}

static void assert_not_let_in(const struct tongue *tongue, int port, const char *login,
                              const char *database, const char *sqlstate, const char *remedy,
                              const char *in_german)
{
    for (int async = 0; async < 2; async++) {
        pier_error err = {0};
        const pier_db_options *options = PIER_DB_OPTIONS(.connect_timeout_ms = 3000);
        const char *url = url_of(port, login, database);
        assert_null(async ? pier_db_open_finish(pier_db_open_async(runner, url, options), &err)
                          : pier_db_open(runner, url, options, &err));
        assert_int_equal(err.status, PIER_ECONNECT);
        assert_string_equal(err.sqlstate, sqlstate);
        assert_non_null(strstr(err.message, remedy));
        assert_is_text(tongue, err.message, in_german);
    }
}

static struct {
    pthread_mutex_t lock;
    int count;
    char state[8], text[200];
    pier_log_level level;
} heard = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void hear(const char *state, const char *text)
{
    pthread_mutex_lock(&heard.lock);
    heard.count++;
    snprintf(heard.state, sizeof heard.state, "%s", state);
    snprintf(heard.text, sizeof heard.text, "%s", text);
    pthread_mutex_unlock(&heard.lock);
}

static void on_end(const pier_postgres_end *end, void *user_data)
{
    (void)user_data;
    hear(end->sqlstate, end->message);
}

static void on_notice(const pier_postgres_notice *notice, void *user_data)
{
    (void)user_data;
    heard.level = notice->level;
    hear(notice->sqlstate, notice->message);
}

static void on_log(pier_log_level level, const char *message, void *user_data)
{
    (void)user_data;
    heard.level = level;
    hear("", message);
}

static int pid_of(pier_db *scope)
{
    pier_error err = {0};
    int pid = 0;
    (void)!pier_db_fetch_into(scope, "select pg_backend_pid()", NULL, PIER_INTO(&pid), &err);
    assert_string_equal(err.message, "");
    return pid;
}

static void terminate(int pid)
{
    char sql[200];
    snprintf(sql, sizeof sql, "select pg_terminate_backend(%d)", pid);
    assert_true(pid > 0);
    look_int(sql);
    snprintf(sql, sizeof sql, "select count(*) from pg_stat_activity where pid = %d", pid);
    assert_true(await_int(sql, 0));
}

/* ---- Connecting ----------------------------------------------------------------------------- */

static void test_language__of_refusals(void **state)
{
    const struct tongue *tongue = speaking(state);
    assert_not_let_in(tongue, tongue->port, "ada:wr0ng", "postgres", "28P01",
                      "check user and password", "Passwort-Authentifizierung f?r Benutzer ?ada?");
    assert_not_let_in(tongue, tongue->port, "postgres", "nowhere", "3D000", "create the database",
                      "existiert nicht");
    assert_not_let_in(tongue, tongue->port, "bob", "postgres", "53300", "lower pool_max",
                      "Verbindungen");
}

/* It is asked again until the time is up. */
static void test_language__of_a_server_that_is_not_ready(void **state)
{
    const struct tongue *tongue = speaking(state);
    int64_t started = support_now_ms();
    assert_not_let_in(tongue, tongue->unready_port, "postgres", "postgres", "57P03",
                      "try again when the server is ready", "nimmt");
    assert_in_range(support_now_ms() - started, 2 * 2900, 2 * 3000 + 2 * AT_ONCE_MS);
}

/* ---- Statements ----------------------------------------------------------------------------- */

/* "cached plan must not change result type", and a statement that is gone. */
static void test_language__of_plans_that_are_no_more(void **state)
{
    const struct tongue *tongue = speaking(state);
    pier_error err = {0};
    pier_db *pool = open_in(tongue, "postgres", 1);
    char *text = NULL;
    int number = 0;
    look_int("create table planned as select 7 as x");
    assert_int_equal(
        pier_db_fetch_into(pool, "select * from planned", NULL, PIER_INTO(&number), &err), 1);
    look_int("alter table planned alter x type text using 'seven'");
    int got = pier_db_fetch_into(pool, "select * from planned", NULL, PIER_INTO(&text), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    assert_string_equal(text, "seven");
    free(text);
    pier_db_execute(pool, "do $$ begin execute 'deallocate all'; end $$", NULL, &err);
    got = pier_db_fetch_into(pool, "select * from planned", NULL, PIER_INTO(&text), &err);
    assert_string_equal(err.message, "");
    assert_int_equal(got, 1);
    free(text);
    pier_db_close(pool);
}

static void test_language__of_sessions_that_are_terminated(void **state)
{
    const struct tongue *tongue = speaking(state);
    pier_error err = {0};
    pier_db *pool = open_in(tongue, "postgres", 2);
    heard.count = 0;
    assert_int_equal(pier_postgres_on_session_end(pool, on_end, NULL, &err), 0);
    pier_db *tx = pier_db_begin(pool, NULL, &err);
    terminate(pid_of(tx));
    assert_int_equal(pier_db_execute(tx, "select 1", NULL, &err), PIER_EIO);
    assert_string_equal(err.sqlstate, "57P01");
    assert_is_text(tongue, err.message, "Verbindung");
    pier_db_close(tx);
    assert_int_equal(heard.count, 1);
    assert_string_equal(heard.state, "57P01");
    assert_is_text(tongue, heard.text, "Verbindung");
    /* In use. */
    memset(&err, 0, sizeof err);
    pier_db *lease = pier_db_lease(pool, &err);
    int pid = pid_of(lease);
    pier_future *future = pier_db_execute_async(lease, "select pg_sleep(30)", NULL);
    assert_true(await_running("pg_sleep", 1));
    terminate(pid);
    assert_int_equal(pier_db_execute_finish(future, &err), PIER_EIO);
    assert_string_equal(err.sqlstate, "57P01");
    pier_db_close(lease);
    assert_int_equal(heard.count, 2);
    assert_int_equal(pier_db_execute(pool, "select 1", NULL, &err), 0);
    pier_db_close(pool);
}

static void test_language__of_a_server_that_has_become_read_only(void **state)
{
    const struct tongue *tongue = speaking(state);
    pier_error err = {0};
    pier_pool_stats stats;
    pier_db *pool = open_in(tongue, "postgres?target_session_attrs=read-write", 1);
    look_int("create table written(x int)");
    pier_db *lease = pier_db_lease(pool, &err);
    assert_int_equal(pier_db_execute(lease, "set default_transaction_read_only = on", NULL, &err),
                     0);
    assert_int_equal(pier_db_execute(lease, "insert into written values (1)", NULL, &err),
                     PIER_ESQL);
    assert_string_equal(err.sqlstate, "25006");
    assert_non_null(strstr(err.message, "the pool wants a server that is read-write"));
    assert_is_text(tongue, err.message, "Transaktion");
    pier_db_close(lease);
    memset(&err, 0, sizeof err);
    assert_int_equal(pier_db_execute(pool, "insert into written values (1)", NULL, &err), 1);
    pier_db_stats(pool, &stats);
    assert_int_equal(stats.made, 2);
    pier_db_close(pool);
}

static void test_language__of_statements_that_are_cancelled(void **state)
{
    const struct tongue *tongue = speaking(state);
    pier_error err = {0};
    pier_pool_stats stats;
    pier_db *pool = open_in(tongue, "postgres?options=-c%20statement_timeout%3D60s", 1);
    /* A future has what became of the statement; a thread would not wait for that. */
    pier_scope *scope = pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = 100), &err);
    pier_future *future = pier_db_execute_async(pool, "select pg_sleep(30)", NULL);
    pier_scope_close(scope);
    assert_int_equal(pier_db_execute_finish(future, &err), PIER_ETIMEDOUT);
    assert_string_equal(err.sqlstate, "");
    memset(&err, 0, sizeof err);
    pier_db *tx = pier_db_begin(pool, NULL, &err);
    assert_int_equal(pier_db_execute(tx, "set local statement_timeout = 50", NULL, &err), 0);
    assert_int_equal(pier_db_execute(tx, "select pg_sleep(30)", NULL, &err), PIER_ESQL);
    assert_string_equal(err.sqlstate, "57014");
    assert_is_text(tongue, err.message, "Anfrage");
    pier_db_close(tx);
    pier_db_stats(pool, &stats);
    assert_int_equal(stats.made, 1); /* it was used again after each */
    pier_db_close(pool);
}

static void test_language__of_errors_and_warnings(void **state)
{
    const struct tongue *tongue = speaking(state);
    pier_error err = {0};
    pier_db *pool = open_in(tongue, "postgres", 1);
    look_int("create table once(x int constraint only_once unique)");
    heard.count = 0;
    assert_int_equal(pier_postgres_on_notice(pool, on_notice, NULL, &err), 0);
    assert_int_equal(pier_db_execute(pool, "insert into once values (1)", NULL, &err), 1);
    assert_int_equal(pier_db_execute(pool, "insert into once values (1)", NULL, &err),
                     PIER_ECONSTRAINT);
    assert_string_equal(err.constraint, "only_once");
    assert_string_equal(pier_error_field(&err, PIER_FIELD_SEVERITY), "ERROR");
    assert_string_equal(pier_error_field(&err, PIER_FIELD_SEVERITY_LOCALIZED),
                        tongue == &german ? "FEHLER" : "F?HLER");
    assert_is_text(tongue, err.message, "verletzt");
    assert_int_equal(pier_db_execute_script(pool, "rollback", &err), 0); /* there is none */
    assert_int_equal(heard.count, 1);
    assert_string_equal(heard.state, "25P01");
    assert_int_equal(heard.level, PIER_LOG_WARNING);
    /* And without a hook. */
    heard.level = PIER_LOG_INFO;
    assert_int_equal(pier_postgres_on_notice(pool, NULL, NULL, &err), 0);
    pier_log_set(on_log, PIER_LOG_INFO, NULL);
    int done = pier_db_execute_script(pool, "rollback", &err);
    pier_log_set(NULL, PIER_LOG_INFO, NULL);
    assert_int_equal(done, 0);
    assert_int_equal(heard.count, 2);
    assert_int_equal(heard.level, PIER_LOG_WARNING);
    assert_is_text(tongue, heard.text, "Transaktion");
    pier_db_close(pool);
}

/* ---- The language of the program, which is libpq's ------------------------------------------- */

static void test_language__of_the_program(void **state)
{
    const struct tongue *tongue = speaking(state);
    pier_error err = {0};
    if (!setlocale(LC_ALL, LATIN1)) {
        print_message("no German locale on this machine\n");
        skip();
    }
    assert_not_let_in(tongue, tongue->port, "ada:wr0ng", "postgres", "28P01",
                      "check user and password", "Passwort-Authentifizierung f?r Benutzer ?ada?");
    assert_not_let_in(tongue, tongue->port, "ada", "postgres?passfile=/nowhere", "",
                      "give a password in the URL", "fehlgeschlagen");
    assert_not_let_in(tongue, support_port_refused(), "postgres", "postgres", "",
                      "could not connect", "fehlgeschlagen");
    static const char *const urls[] = {"postgresql://ada:s3cret%zz@h/app",
                                       "postgresql://ada:s3cret@[::1/app",
                                       "postgresql://ada:s3cret@h/app?s3cret",
                                       "postgresql://ada@h/app?password=%00s3cret"};
    for (size_t i = 0; i < sizeof urls / sizeof *urls; i++) {
        assert_null(pier_db_open(runner, urls[i], NULL, &err));
        assert_int_equal(err.status, PIER_EINVAL);
        if (strstr(err.message, "s3cret")) {
            fail_msg("the password is shown: %s", err.message);
        }
        assert_non_null(strstr(err.message, "write postgresql://user@host:port/name"));
    }
}

static int close_in_english(void **state)
{
    setlocale(LC_ALL, "C");
    return close_db(state);
}

#define IN(tongue, name)                                                                           \
    {                                                                                              \
#name "__" #tongue, name, open_db, close_in_english, &tongue                               \
    }
#define IN_BOTH(name) IN(german, name), IN(made_up, name)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_BOTH(test_language__of_refusals),
        IN_BOTH(test_language__of_a_server_that_is_not_ready),
        IN_BOTH(test_language__of_plans_that_are_no_more),
        IN_BOTH(test_language__of_sessions_that_are_terminated),
        IN_BOTH(test_language__of_a_server_that_has_become_read_only),
        IN_BOTH(test_language__of_statements_that_are_cancelled),
        IN_BOTH(test_language__of_errors_and_warnings),
        IN(german, test_language__of_the_program),
    };
    return cmocka_run_group_tests(tests, start_both, stop_both);
}
