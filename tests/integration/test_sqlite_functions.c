/* Functions, collations, limits, extensions and attached databases of the user's in SQLite. */
#include "tests/integration/sqlite_fixture.h"

#include <pier/sqlite_changes.h>
#include <pier/sqlite_function.h>
#include <pier/sqlite_hook.h>
#include <sys/wait.h>

/* ---- Scalar functions --------------------------------------------------------------------- */

static int half(pier_sqlite_call *call, void *user_data)
{
    (void)user_data;
    return pier_sqlite_call_return(call, pier_int64(pier_sqlite_call_int64(call, 0) / 2));
}

static int echo(pier_sqlite_call *call, void *user_data)
{
    size_t size;
    (void)user_data;
    switch (pier_sqlite_call_type(call, 0)) {
    case PIER_NULL:
        return 0;
    case PIER_INT64:
        return pier_sqlite_call_return(call, pier_int64(pier_sqlite_call_int64(call, 0)));
    case PIER_DOUBLE:
        return pier_sqlite_call_return(call, pier_double(pier_sqlite_call_double(call, 0)));
    case PIER_TEXT:
        return pier_sqlite_call_return(call, pier_text(pier_sqlite_call_text(call, 0)));
    default: {
        const void *bytes = pier_sqlite_call_bytes(call, 0, &size);
        return pier_sqlite_call_return(call, pier_bytes(bytes, size));
    }
    }
}

static int refuse(pier_sqlite_call *call, void *user_data)
{
    (void)user_data;
    return pier_sqlite_call_error(call, PIER_EUSER, "no %s today", "bread");
}

static int count_args(pier_sqlite_call *call, void *user_data)
{
    (void)user_data;
    return pier_sqlite_call_return(call, pier_int64(pier_sqlite_call_count(call)));
}

static void count_destroyed(void *user_data)
{
    atomic_fetch_add((atomic_int *)user_data, 1);
}

#define FUNCTION(f, name, ...)                                                                     \
    do {                                                                                           \
        assert_int_equal(pier_sqlite_function(                                                     \
                             (f)->db, name, PIER_SQLITE_FUNCTION_OPTIONS(__VA_ARGS__), &(f)->err), \
                         0);                                                                       \
        assert_ok(&(f)->err);                                                                      \
    } while (0)

static void test_function__gets_and_returns_every_type(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "echo", .args = 1, .scalar = echo);
    assert_int_equal(number_of(f->db, "select echo(7) = 7 and echo(1.5) = 1.5 and "
                                      "echo('sea') = 'sea' and echo(x'00ff') = x'00ff' and "
                                      "typeof(echo(x'')) = 'blob' and echo(null) is null"),
                     1);
}

static void test_function__is_known_by_its_number_of_arguments(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "args", .args = PIER_NONE, .scalar = count_args);
    assert_int_equal(number_of(f->db, "select args()"), 0);
    pier_db_execute(f->db, "select args(1)", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "wrong number of arguments");
    FUNCTION(f, "args", .scalar = count_args);
    assert_int_equal(number_of(f->db, "select args(1, 2, 3)"), 3);
}

static void test_function__names_itself_when_it_fails(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "bakery", .args = 1, .scalar = refuse);
    pier_db_execute(f->db, "select bakery(1)", NULL, &f->err);
    assert_error(&f->err, PIER_EUSER, "bakery(): no bread today");
    assert_int_equal(number_of(f->db, "select 1"), 1);
}

static void test_function__fails_where_an_argument_cannot_be_delivered(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "half", .args = 1, .scalar = half);
    assert_int_equal(number_of(f->db, "select half(8.0)"), 4);
    pier_db_execute(f->db, "select half('eight')", NULL, &f->err);
    assert_error(&f->err, PIER_ETYPE, "half(): argument 1 is text, not an integer");
    pier_db_execute(f->db, "select half(null)", NULL, &f->err);
    assert_error(&f->err, PIER_ETYPE, "NULL");
}

static void test_function__that_is_deterministic_may_be_indexed(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "half", .args = 1, .scalar = half);
    pier_db_execute(f->db, "create index i on t(half(id))", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "non-deterministic");
    FUNCTION(f, "half", .args = 1, .scalar = half, .deterministic = true, .innocuous = true);
    execute(f->db, "create index i on t(half(id))", NULL);
}

static void test_function__that_is_direct_only_is_not_for_views(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "half", .args = 1, .scalar = half, .direct_only = true);
    execute(f->db, "create view v as select half(4)", NULL);
    assert_int_equal(number_of(f->db, "select half(4)"), 2);
    pier_db_execute(f->db, "select * from v", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "unsafe use of half");
}

static void test_function__is_ended_once_when_it_is_replaced(void **state)
{
    struct fixture *f = *state;
    atomic_int first = 0, second = 0;
    FUNCTION(f, "half", .args = 1, .scalar = half, .user_data = &first, .destroy = count_destroyed);
    FUNCTION(f, "half", .args = 1, .scalar = echo, .user_data = &second,
             .destroy = count_destroyed);
    assert_int_equal(first, 1);
    assert_int_equal(number_of(f->db, "select half(8)"), 8);
    assert_int_equal(pier_sqlite_function_remove(f->db, "half", 1, &f->err), 0);
    assert_int_equal(second, 1);
    pier_db_execute(f->db, "select half(8)", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "no such function");
}

static void test_function__is_ended_where_registering_fails(void **state)
{
    struct fixture *f = *state;
    atomic_int ended = 0;
    pier_sqlite_function(f->db, "half",
                         PIER_SQLITE_FUNCTION_OPTIONS(.step = half, .user_data = &ended,
                                                      .destroy = count_destroyed),
                         &f->err);
    assert_error(&f->err, PIER_EINVAL, "step and final");
    assert_int_equal(ended, 1);
    pier_sqlite_function(NULL, "half",
                         PIER_SQLITE_FUNCTION_OPTIONS(.scalar = half, .user_data = &ended,
                                                      .destroy = count_destroyed),
                         &f->err);
    assert_error(&f->err, PIER_EINVAL, NULL);
    assert_int_equal(ended, 2);
}

static void test_function__cannot_be_replaced_under_an_open_cursor(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "half", .args = 1, .scalar = half);
    pier_cursor *cursor = pier_db_cursor(f->db, ENDLESS "select half(i) from n", NULL, &f->err);
    assert_non_null(pier_cursor_next(cursor));
    pier_sqlite_function(f->db, "half", PIER_SQLITE_FUNCTION_OPTIONS(.args = 1, .scalar = echo),
                         &f->err);
    assert_error(&f->err, PIER_EBUSY, "close the cursors");
    assert_int_equal(pier_cursor_close(cursor, &f->err), 0);
    assert_int_equal(number_of(f->db, "select half(8)"), 4);
}

static void test_function__reaches_connections_that_are_open_and_those_to_come(void **state)
{
    struct fixture *f = *state;
    char url[700];
    snprintf(url, sizeof url, "%s?journal_mode=wal&readers=2", f->url);
    execute(f->db, "pragma journal_mode = wal", NULL);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    assert_int_equal(number_of(db, "select 1"), 1); /* opens a reader */
    pier_sqlite_function(db, "half", PIER_SQLITE_FUNCTION_OPTIONS(.args = 1, .scalar = half),
                         &f->err);
    assert_ok(&f->err);
    pier_db *old = pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), &f->err);
    pier_db *new = pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), &f->err);
    assert_int_equal(number_of(old, "select half(4)"), 2);
    assert_int_equal(number_of(new, "select half(4)"), 2);
    pier_db_close(new);
    pier_db_close(old);
    pier_db_close(db);
}

static void test_function__is_ended_when_the_pool_is_closed(void **state)
{
    struct fixture *f = *state;
    atomic_int ended = 0;
    FUNCTION(f, "half", .args = 1, .scalar = half, .user_data = &ended, .destroy = count_destroyed);
    pier_db_close(f->db);
    f->db = NULL;
    assert_int_equal(ended, 1);
}

static void test_function__registers_in_a_transaction_without_dooming_it(void **state)
{
    struct fixture *f = *state;
    pier_db *tx = pier_db_begin(f->db, NULL, &f->err);
    pier_sqlite_function(tx, "half", PIER_SQLITE_FUNCTION_OPTIONS(.args = 1, .scalar = half),
                         &f->err);
    assert_ok(&f->err);
    execute(tx, "insert into t(id) values (half(8))", NULL);
    pier_sqlite_detach(tx, "nobody", &f->err);
    assert_error(&f->err, PIER_ESQL, "no such database");
    assert_int_equal(pier_db_commit(tx, &f->err), 0);
    pier_db_close(tx);
    assert_int_equal(number_of(f->db, "select id from t"), 4);
}

struct racer {
    pthread_t thread;
    pier_db *db;
    atomic_bool *stop;
    int64_t wrong;
    pier_error err;
};

static void *call_it(void *arg)
{
    struct racer *racer = arg;
    while (!atomic_load(racer->stop) && !racer->err.status) {
        int64_t n = 0;
        int got = pier_db_fetch_into(racer->db, "select half(8)", NULL, PIER_INTO(&n), &racer->err);
        racer->wrong += got == 1 && n != 4 && n != 8;
    }
    return NULL;
}

static void test_function__is_replaced_while_others_call_it(void **state)
{
    struct fixture *f = *state;
    enum { RACERS = 3, TIMES = 40 };
    char url[700];
    atomic_bool stop = false;
    atomic_int ended = 0;
    struct racer racers[RACERS] = {0};
    snprintf(url, sizeof url, "%s?journal_mode=wal&readers=3", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    for (int i = 0; i < TIMES; i++) {
        pier_sqlite_function(db, "half",
                             PIER_SQLITE_FUNCTION_OPTIONS(.args = 1, .scalar = i % 2 ? half : echo,
                                                          .user_data = &ended,
                                                          .destroy = count_destroyed),
                             &f->err);
        assert_ok(&f->err);
        for (int j = 0; !i && j < RACERS; j++) {
            racers[j].db = db;
            racers[j].stop = &stop;
            pthread_create(&racers[j].thread, NULL, call_it, &racers[j]);
        }
    }
    atomic_store(&stop, true);
    for (int j = 0; j < RACERS; j++) {
        pthread_join(racers[j].thread, NULL);
        assert_ok(&racers[j].err);
        assert_int_equal(racers[j].wrong, 0);
    }
    pier_db_close(db);
    assert_int_equal(ended, TIMES);
}

/* ---- Calling back ------------------------------------------------------------------------- */

struct reentry {
    pier_db *db;
    pier_error err;
};

static int call_pier(pier_sqlite_call *call, void *user_data)
{
    struct reentry *reentry = user_data;
    memset(&reentry->err, 0, sizeof reentry->err);
    int64_t n = 0;
    int got = pier_db_fetch_into(reentry->db, "select 1", NULL, PIER_INTO(&n), &reentry->err);
    return pier_sqlite_call_return(call, pier_int64(got));
}

static void test_function__that_calls_its_connection_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reentry reentry = {.db = f->db};
    FUNCTION(f, "reenter", .args = PIER_NONE, .scalar = call_pier, .user_data = &reentry);
    assert_int_equal(number_of(f->db, "select reenter()"), PIER_EDEADLOCK);
    reentry.db = pier_db_begin(f->db, NULL, &f->err);
    assert_int_equal(number_of(reentry.db, "select reenter()"), PIER_EDEADLOCK);
    pier_db_close(reentry.db);
}

static int64_t fetch_number_async(pier_db *db, const char *sql, pier_error *err)
{
    pier_result *result = pier_db_fetch_finish(pier_db_fetch_async(db, sql, NULL), err);
    int64_t number = pier_row_int64(pier_result_row(result, 0), 0);
    pier_result_free(result);
    return number;
}

static void test_function__that_calls_its_connection_from_the_lane_is_refused(void **state)
{
    struct fixture *f = *state;
    struct reentry reentry = {.db = f->db};
    FUNCTION(f, "reenter", .args = PIER_NONE, .scalar = call_pier, .user_data = &reentry);
    assert_int_equal(fetch_number_async(f->db, "select reenter()", &f->err), PIER_EDEADLOCK);
    reentry.db = pier_db_lease(f->db, &f->err);
    assert_int_equal(fetch_number_async(reentry.db, "select reenter()", &f->err), PIER_EDEADLOCK);
    assert_ok(&f->err);
    pier_db_close(reentry.db);
}

/* ---- Aggregates and windows --------------------------------------------------------------- */

struct sum {
    int64_t total;
    int steps;
};

static int sum_step(pier_sqlite_call *call, void *user_data)
{
    struct sum *sum = pier_sqlite_call_state(call, sizeof *sum);
    (void)user_data;
    if (!sum) {
        return PIER_ENOMEM;
    }
    sum->total += pier_sqlite_call_int64(call, 0);
    sum->steps++;
    return 0;
}

static int sum_inverse(pier_sqlite_call *call, void *user_data)
{
    struct sum *sum = pier_sqlite_call_state(call, sizeof *sum);
    (void)user_data;
    sum->total -= pier_sqlite_call_int64(call, 0);
    return 0;
}

static int sum_value(pier_sqlite_call *call, void *user_data)
{
    struct sum *sum = pier_sqlite_call_state(call, sizeof *sum);
    (void)user_data;
    return sum ? pier_sqlite_call_return(call, pier_int64(sum->total)) : PIER_ENOMEM;
}

static void insert_numbers(struct fixture *f, int count)
{
    execute(f->db,
            "with recursive n(i) as (select 1 union all select i + 1 from n where i < $1) "
            "insert into t(id, name) select i, i % 2 from n",
            PIER_ARGS(count));
}

static void test_aggregate__has_a_state_for_each_group(void **state)
{
    struct fixture *f = *state;
    insert_numbers(f, 10);
    FUNCTION(f, "total_of", .args = 1, .step = sum_step, .final = sum_value);
    pier_result *result = pier_db_fetch(
        f->db, "select total_of(id) from t group by name order by name", NULL, &f->err);
    assert_int_equal(pier_row_int64(pier_result_row(result, 0), 0), 30);
    assert_int_equal(pier_row_int64(pier_result_row(result, 1), 0), 25);
    pier_result_free(result);
    assert_int_equal(number_of(f->db, "select total_of(id) from t where id > 99"), 0);
}

static void test_aggregate__fails_by_its_name_in_a_step(void **state)
{
    struct fixture *f = *state;
    insert_numbers(f, 3);
    FUNCTION(f, "gloom", .args = 1, .step = refuse, .final = sum_value);
    pier_db_execute(f->db, "select gloom(id) from t", NULL, &f->err);
    assert_error(&f->err, PIER_EUSER, "gloom(): no bread today");
}

static void test_window__takes_rows_out_again(void **state)
{
    struct fixture *f = *state;
    insert_numbers(f, 4);
    FUNCTION(f, "total_of", .args = 1, .step = sum_step, .final = sum_value, .inverse = sum_inverse,
             .value = sum_value);
    pier_result *result = pier_db_fetch(
        f->db,
        "select total_of(id) over (order by id rows between 1 preceding and current row) from t",
        NULL, &f->err);
    assert_ok(&f->err);
    static const int expected[] = {1, 3, 5, 7};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(pier_row_int64(pier_result_row(result, i), 0), expected[i]);
    }
    pier_result_free(result);
}

static int ask_for_state(pier_sqlite_call *call, void *user_data)
{
    (void)user_data;
    return pier_sqlite_call_state(call, 8) ? 0 : PIER_EINVAL;
}

static void test_function__that_is_no_aggregate_has_no_state(void **state)
{
    struct fixture *f = *state;
    FUNCTION(f, "stateful", .args = PIER_NONE, .scalar = ask_for_state);
    pier_db_execute(f->db, "select stateful()", NULL, &f->err);
    assert_error(&f->err, PIER_EINVAL, "only aggregates have a state");
}

/* ---- Collations --------------------------------------------------------------------------- */

static int by_size(void *user_data, const void *left, size_t left_size, const void *right,
                   size_t right_size)
{
    (void)user_data;
    (void)left;
    (void)right;
    return (left_size > right_size) - (left_size < right_size);
}

static void test_collation__orders_by_bytes_and_size(void **state)
{
    struct fixture *f = *state;
    atomic_int ended = 0;
    pier_sqlite_collation(f->db, "size", by_size, &ended, count_destroyed, &f->err);
    assert_ok(&f->err);
    execute(f->db, "insert into t(name) values ('aaa'), ('zz'), ('mmmm')", NULL);
    pier_result *result =
        pier_db_fetch(f->db, "select name from t order by name collate size", NULL, &f->err);
    assert_string_equal(pier_row_text(pier_result_row(result, 0), 0), "zz");
    assert_string_equal(pier_row_text(pier_result_row(result, 2), 0), "mmmm");
    pier_result_free(result);
    assert_int_equal(ended, 0);
    pier_sqlite_collation(f->db, "size", NULL, NULL, NULL, &f->err);
    assert_int_equal(ended, 1);
    pier_db_execute(f->db, "select name from t order by name collate size", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "no such collation sequence: size");
}

/* ---- Limits ------------------------------------------------------------------------------- */

static void test_limit__is_set_on_the_pool_and_refuses(void **state)
{
    struct fixture *f = *state;
    int before = pier_sqlite_limit(f->db, PIER_SQLITE_LIMIT_SQL_LENGTH, &f->err);
    assert_true(before > 100);
    assert_int_equal(pier_sqlite_set_limit(f->db, PIER_SQLITE_LIMIT_SQL_LENGTH, 100, &f->err),
                     before);
    assert_int_equal(pier_sqlite_limit(f->db, PIER_SQLITE_LIMIT_SQL_LENGTH, &f->err), 100);
    char sql[200] = "select 1 --";
    memset(sql + strlen(sql), '-', sizeof sql - strlen(sql) - 1);
    sql[sizeof sql - 1] = 0;
    pier_db_execute(f->db, sql, NULL, &f->err);
    assert_error(&f->err, PIER_ERANGE, "too big");
    pier_sqlite_limit(f->db, (pier_sqlite_limit_id)99, &f->err);
    assert_error(&f->err, PIER_EINVAL, "no such limit");
}

/* ---- Extensions --------------------------------------------------------------------------- */

static const char extension_source[] =
    "#include <sqlite3ext.h>\n"
    "SQLITE_EXTENSION_INIT1\n"
    "static void answer(sqlite3_context *c, int n, sqlite3_value **v)\n"
    "{ (void)n; (void)v; sqlite3_result_int(c, 42); }\n"
    "int begin_answer(sqlite3 *db, char **message, const sqlite3_api_routines *api)\n"
    "{ SQLITE_EXTENSION_INIT2(api) (void)message;\n"
    "  return sqlite3_create_function(db, \"answer\", 0, SQLITE_UTF8, 0, answer, 0, 0); }\n";

static bool build_extension(struct fixture *f, char *path, size_t size)
{
    char command[2000];
    const char *cc = getenv("PIER_CC");
    if (support_file_write(f->directory, "answer.c", extension_source,
                           sizeof extension_source - 1)) {
        return false;
    }
    snprintf(path, size, "%s/answer.so", f->directory);
    snprintf(command, sizeof command, "%s -shared -fPIC -o %s %s/answer.c", cc ? cc : "cc", path,
             f->directory);
    int status = system(command);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static void test_extension__is_refused_where_it_is_not_enabled(void **state)
{
    struct fixture *f = *state;
    pier_sqlite_load_extension(f->db, "/nowhere.so", NULL, &f->err);
    assert_error(&f->err, PIER_EINVAL, "extensions=on");
}

static void test_extension__is_loaded_with_its_entry_point(void **state)
{
    struct fixture *f = *state;
    char url[700], path[700];
    assert_true(build_extension(f, path, sizeof path));
    snprintf(url, sizeof url, "%s?extensions=on", f->url);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    pier_sqlite_load_extension(db, "/nowhere.so", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "/nowhere.so");
    pier_sqlite_load_extension(db, path, "begin_nothing", &f->err);
    assert_error(&f->err, PIER_ESQL, "begin_nothing");
    pier_sqlite_load_extension(db, path, "begin_answer", &f->err);
    assert_ok(&f->err);
    assert_int_equal(number_of(db, "select answer()"), 42);
    pier_db_close(db);
}

/* ---- Attached databases ------------------------------------------------------------------- */

static void test_attach__takes_any_path_and_name(void **state)
{
    struct fixture *f = *state;
    char path[600];
    snprintf(path, sizeof path, "%s/it's \"odd\"; drop.db", f->directory);
    pier_sqlite_attach(f->db, path, "the \"other\" one", &f->err);
    assert_ok(&f->err);
    execute(f->db, "create table \"the \"\"other\"\" one\".u(x)", NULL);
    execute(f->db, "insert into u values (5)", NULL);
    pier_sqlite_attach(f->db, path, "the \"other\" one", &f->err);
    assert_error(&f->err, PIER_ESQL, "already in use");
    assert_int_equal(pier_sqlite_detach(f->db, "the \"other\" one", &f->err), 0);
    pier_db_execute(f->db, "select * from u", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "no such table");
    assert_int_equal(pier_sqlite_attach(f->db, path, "o", &f->err), 0);
    assert_int_equal(number_of(f->db, "select x from o.u"), 5);
}

static void test_attach__reaches_readers(void **state)
{
    struct fixture *f = *state;
    char url[700], path[600];
    snprintf(url, sizeof url, "%s?journal_mode=wal&readers=1", f->url);
    snprintf(path, sizeof path, "%s/other.db", f->directory);
    pier_db *db = pier_db_open(f->runner, url, NULL, &f->err);
    pier_sqlite_attach(db, path, "other", &f->err);
    execute(db, "create table other.u(x)", NULL);
    pier_db *tx = pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), &f->err);
    assert_int_equal(number_of(tx, "select count(*) from other.u"), 0);
    pier_db_close(tx);
    pier_sqlite_detach(db, "other", &f->err);
    assert_ok(&f->err);
    tx = pier_db_begin(db, PIER_TX_OPTIONS(.read_only = true), &f->err);
    pier_db_execute(tx, "select count(*) from other.u", NULL, &f->err);
    assert_error(&f->err, PIER_ESQL, "no such table");
    pier_db_close(tx);
    pier_db_close(db);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_function__gets_and_returns_every_type),
        TEST(test_function__is_known_by_its_number_of_arguments),
        TEST(test_function__names_itself_when_it_fails),
        TEST(test_function__fails_where_an_argument_cannot_be_delivered),
        TEST(test_function__that_is_deterministic_may_be_indexed),
        TEST(test_function__that_is_direct_only_is_not_for_views),
        TEST(test_function__is_ended_once_when_it_is_replaced),
        TEST(test_function__is_ended_where_registering_fails),
        TEST(test_function__cannot_be_replaced_under_an_open_cursor),
        TEST(test_function__reaches_connections_that_are_open_and_those_to_come),
        TEST(test_function__is_replaced_while_others_call_it),
        TEST(test_function__is_ended_when_the_pool_is_closed),
        TEST(test_function__registers_in_a_transaction_without_dooming_it),
        TEST(test_function__that_calls_its_connection_is_refused),
        TEST(test_function__that_calls_its_connection_from_the_lane_is_refused),
        TEST(test_aggregate__has_a_state_for_each_group),
        TEST(test_aggregate__fails_by_its_name_in_a_step),
        TEST(test_window__takes_rows_out_again),
        TEST(test_function__that_is_no_aggregate_has_no_state),
        TEST(test_collation__orders_by_bytes_and_size),
        TEST(test_limit__is_set_on_the_pool_and_refuses),
        TEST(test_extension__is_refused_where_it_is_not_enabled),
        TEST(test_extension__is_loaded_with_its_entry_point),
        TEST(test_attach__takes_any_path_and_name),
        TEST(test_attach__reaches_readers),
    };
    return cmocka_run_group_tests_name("sqlite_functions", tests, group_set_up, NULL);
}
