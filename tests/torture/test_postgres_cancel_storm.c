/*
 * Threads and tasks that ask a small pool for answers which they know, while most of them give up
 * at any moment: by a deadline, by cancelling a future, by closing a cursor. A cancel that reaches
 * the server late would end somebody else's query, and an answer that nobody waited for would go to
 * the next one; so each answer says what it was asked for, and who does not give up must not fail.
 */
#include "tests/integration/postgres_fixture.h"
#include "tests/torture/torture.h"

enum {
    POOL = 3,
    ASKERS = 16,
    THREADS = 8,
    ROUNDS = 400,
    ROUNDS_SANITIZED = 100,
    GIVE_UP_MS = 6, /* deadlines of up to so many milliseconds */
    CALL_MS = 15000 /* nobody waits for so long who does not give up */
};

static struct {
    struct torture_wrong wrong;
    uint64_t seed;
    int rounds;
    atomic_int answered, given_up;
} torture = {.wrong = TORTURE_WRONG};

/* Rows from the first one on, each its number and the question's; it takes a moment, so that a
 * cancel may come before it, in it, in its answer, and behind it. */
#define QUESTION                                                                                   \
    "select $1::bigint, g, pg_sleep(0.0005 * $3) from generate_series($2::int, $2 + $4) g"

struct question {
    int64_t id;
    int first, more, slow;
};

static struct question question_of(struct torture_random *random, int number, int round)
{
    return (struct question){
        .id = (int64_t)number * 1000000 + round,
        .first = torture_below(random, 1000),
        .more = torture_below(random, 8) ? torture_below(random, 4) : 3000,
        .slow = torture_below(random, 2),
    };
}

/* Slow ones have few rows. */
static const pier_args *arguments(const struct question *question, pier_value *values,
                                  pier_args *args)
{
    values[0] = PIER_VALUE(question->id);
    values[1] = PIER_VALUE(question->first);
    values[2] = PIER_VALUE(question->more < 10 ? (double)question->slow : 0.0);
    values[3] = PIER_VALUE(question->more);
    *args = (pier_args){.values = values, .count = 4};
    return args;
}

static bool is_answer(const struct question *question, const pier_row *row, int at)
{
    return pier_row_int64(row, 0) == question->id && pier_row_int64(row, 1) == question->first + at;
}

/* Was it what was asked for? Frees the result. */
static void check_answer(const struct question *question, pier_result *result)
{
    int count = (int)pier_result_count(result);
    bool right = count == question->more + 1;
    for (int i = 0; i < count && right; i++) {
        right = is_answer(question, pier_result_row(result, (size_t)i), i);
    }
    if (!right) {
        torture_note(&torture.wrong, "question %lld got %d rows of another: %lld",
                     (long long)question->id, count,
                     (long long)pier_row_int64(pier_result_row(result, 0), 0));
    }
    atomic_fetch_add(&torture.answered, 1);
    pier_result_free(result);
}

/* Who was to give up may; nobody else. */
static void check_failure(const char *what, bool impatient, const pier_error *err)
{
    atomic_fetch_add(&torture.given_up, 1);
    if (!impatient || (err->status != PIER_ETIMEDOUT && err->status != PIER_ECANCELLED)) {
        torture_note(&torture.wrong, "%s, %s: %s (%s) %s", what,
                     impatient ? "impatient" : "patient", pier_status_name(err->status),
                     err->sqlstate, err->message);
    }
}

static pier_scope *open_scope(struct torture_random *random, bool impatient, pier_error *err)
{
    int64_t ms = impatient ? 1 + torture_below(random, GIVE_UP_MS) : CALL_MS;
    return pier_scope_open(runner, PIER_SCOPE_OPTIONS(.timeout_ms = ms), err);
}

/* ---- Ways to ask ---------------------------------------------------------------------------- */

static void ask_and_wait(pier_db *of, struct torture_random *random,
                         const struct question *question)
{
    pier_error err = {0};
    pier_value values[4];
    pier_args args;
    bool impatient = torture_below(random, 3) != 0;
    pier_scope *scope = open_scope(random, impatient, &err);
    pier_result *result = pier_db_fetch(of, QUESTION, arguments(question, values, &args), &err);
    pier_scope_close(scope);
    if (result) {
        check_answer(question, result);
    } else {
        check_failure("a fetch", impatient, &err);
    }
}

/* Cancels at once, or when another one has been answered, or not at all. */
static void ask_and_cancel(pier_db *of, struct torture_random *random,
                           const struct question *question)
{
    pier_error err = {0};
    pier_value values[4];
    pier_args args;
    int way = torture_below(random, 4);
    pier_future *future = pier_db_fetch_async(of, QUESTION, arguments(question, values, &args));
    if (way == 1) {
        struct question other = {.id = -question->id, .first = 1};
        ask_and_wait(of, random, &other);
    }
    if (way == 2) {
        pier_future_cancel(future);
        pier_future_free(future); /* nobody will ever know what came of it */
        return;
    }
    if (way < 2) {
        pier_future_cancel(future);
    }
    pier_result *result = pier_db_fetch_finish(future, &err);
    if (result) {
        check_answer(question, result);
    } else {
        check_failure("a future", way < 2, &err);
    }
}

static void read_a_part(pier_db *of, struct torture_random *random, const struct question *question)
{
    pier_error err = {0};
    pier_value values[4];
    pier_args args;
    bool impatient = torture_below(random, 2) != 0;
    int wanted = torture_below(random, question->more + 2), got = 0;
    pier_scope *scope = open_scope(random, impatient, &err);
    pier_cursor *cursor = pier_db_cursor(of, QUESTION, arguments(question, values, &args), &err);
    for (const pier_row *row; got < wanted && (row = pier_cursor_next(cursor)); got++) {
        if (!is_answer(question, row, got)) {
            torture_note(&torture.wrong, "question %lld got a row of another",
                         (long long)question->id);
        }
    }
    int status = pier_cursor_close(cursor, &err);
    pier_scope_close(scope);
    if (status < 0) {
        check_failure("a cursor", impatient, &err);
    } else {
        atomic_fetch_add(&torture.answered, 1);
    }
}

/* A transaction that may be given up between its statements and in them; it leaves one row or
 * none. */
static void add_in_transaction(struct torture_random *random, const struct question *question)
{
    pier_error err = {0};
    bool impatient = torture_below(random, 2) != 0;
    pier_scope *scope = open_scope(random, impatient, &err);
    pier_db *tx = pier_db_begin(db, NULL, &err);
    int64_t id = question->id;
    pier_db_execute(tx, "insert into taken(id, n) values ($1, 1)", PIER_ARGS(id), &err);
    int64_t changed = pier_db_execute(tx,
                                      "update taken set n = n + 1 where id = $1 and "
                                      "pg_sleep(0.001) is not null",
                                      PIER_ARGS(id), &err);
    int status = changed == 1 ? pier_db_commit(tx, &err) : err.status;
    pier_db_close(tx);
    pier_scope_close(scope);
    if (status < 0) {
        check_failure("a transaction", impatient, &err);
    } else {
        atomic_fetch_add(&torture.answered, 1);
    }
}

/* Several on one connection, where a late cancel could only hit one's own next question. */
static void ask_on_a_lease(struct torture_random *random, const struct question *question)
{
    pier_error err = {0};
    pier_db *lease = pier_db_lease(db, &err);
    if (!lease) {
        check_failure("a lease", false, &err);
        return;
    }
    for (int i = 0; i < 4; i++) {
        struct question each = *question;
        each.id = question->id * 10 + i;
        ask_and_wait(lease, random, &each);
    }
    pier_db_close(lease);
}

static void ask(void *user_data, int number, pier_task *self)
{
    (void)user_data, (void)self;
    struct torture_random random = torture_random_of(torture.seed, number);
    for (int round = 0; round < torture.rounds && !atomic_load(&torture.wrong.count); round++) {
        struct question question = question_of(&random, number, round);
        switch (torture_below(&random, 8)) {
        case 0:
            add_in_transaction(&random, &question);
            break;
        case 1:
            ask_on_a_lease(&random, &question);
            break;
        case 2:
            read_a_part(db, &random, &question);
            break;
        case 3:
        case 4:
            ask_and_cancel(db, &random, &question);
            break;
        default:
            ask_and_wait(db, &random, &question);
            break;
        }
    }
}

/* ---- Afterwards ----------------------------------------------------------------------------- */

static bool is_idle(void *unused)
{
    (void)unused;
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    return stats.leased == 0 && stats.waiting == 0 && stats.idle == stats.size;
}

static void check_nothing_left(void)
{
    pier_pool_stats stats;
    if (!support_wait_until(is_idle, NULL, BOUND_MS)) {
        pier_runner_dump_fd(runner, 2);
        fail_msg("connections are still in use");
    }
    assert_true(await_int("select count(*) from pg_stat_activity where application_name = 'pier' "
                          "and state <> 'idle'",
                          0));
    pier_db_stats(db, &stats);
    assert_in_range(stats.size, 0, POOL);
    assert_true(await_connections(stats.size));
    assert_int_equal(look_int("select count(*) from taken where n <> 2"), 0);
}

static void test_cancel_storm__each_answer_belongs_to_its_question(void **state)
{
    (void)state;
    pier_error err = {0};
    int64_t began = support_now_ms();
    pier_db_close(db);
    db = open_pool(POOL);
    look_int("create table taken(id bigint primary key, n int)");
    torture.seed = torture_seed();
    torture.rounds = torture_amount("rounds", ROUNDS, ROUNDS_SANITIZED);
    struct torture_crowd crowd = {.body = ask, .count = ASKERS, .threads = THREADS};
    torture_crowd_start(&crowd, runner);
    assert_int_equal(torture_crowd_join(&crowd, &err), 0);
    ASSERT_NOTHING_WRONG(&torture.wrong);
    check_nothing_left();
    pier_pool_stats stats;
    pier_db_stats(db, &stats);
    fprintf(stderr, "%d answered, %d given up, %lld connections made, %.1f s\n",
            atomic_load(&torture.answered), atomic_load(&torture.given_up), (long long)stats.made,
            (double)(support_now_ms() - began) / 1000);
    assert_true(atomic_load(&torture.answered) > ASKERS);
    assert_true(atomic_load(&torture.given_up) > ASKERS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_cancel_storm__each_answer_belongs_to_its_question),
    };
    return cmocka_run_group_tests(tests, start_server, stop_server);
}
