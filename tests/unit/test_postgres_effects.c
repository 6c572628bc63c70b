/* What a statement's text says about its session. */
#include "tests/unit/unit.h"

#include "drivers/postgres/effects.h"
#include <stdlib.h>
#include <string.h>

static void assert_effects(const char *const *list, unsigned expected)
{
    for (; *list; list++) {
        if (pier__postgres_effects(*list, strlen(*list)) != expected) {
            fail_msg("not %u: %s", expected, *list);
        }
    }
}

static void test_effects__plain_statements_have_none(void **state)
{
    (void)state;
    assert_effects(
        (const char *const[]){
            "",
            "  -- nothing\n",
            "select 1+1",
            "SELECT count(*) FROM t WHERE a IN (1, 2)",
            "select a from t where b = $1 and c > any($2)",
            "insert into t values ($1, ($2))",
            "insert into t (a, b) values ($1, lower($2))",
            "insert into s.t (a) values (1)",
            "Insert Into \"T\" (a) select (b) from u on conflict (a) do update set b = (1)",
            "with x as (select 1) insert into t (a) select * from x returning (a)",
            "update t set a = (select max(b) from u)",
            "delete from t using u where (a = b)",
            "select 'set_config(1)', $$ set x $$, $t$ f($$) $t$, E'\\'f(', \"a b\" from t",
            "select /* f( /* g( */ h( */ 1 -- f(\n + (2)",
            "select 1::varchar(20), $1::numeric(3,1)",
            "select e'a''\\'f(', E'a'\n'\\'f('",
            "set local x = 1",
            "set transaction read only",
            "begin",
            "commit",
            "savepoint a",
            "declare pier_c1 cursor for select (1)",
            "select row_number() over (order by a) from t",
            NULL},
        0);
}

static void test_effects__others_may_change_the_session(void **state)
{
    (void)state;
    assert_effects((const char *const[]){"set x = 1",
                                         "reset x",
                                         "select set_config('a', 'b', false)",
                                         "listen a",
                                         "do $$ $$",
                                         "select pg_advisory_lock(1)",
                                         "select pg_advisory_lock /* */ (1)",
                                         "select f (1)",
                                         "select pg_catalog.count(1)",
                                         "select \"count\"(1)",
                                         "select * into temp x from t",
                                         "with a as (select 1) select * into temp x from a",
                                         "create temp table x(a int)",
                                         "call p()",
                                         "load 'x'",
                                         "execute a",
                                         "declare c cursor with hold for select 1",
                                         "insert into t select f(1)",
                                         "insert into t (a) values (f(1))",
                                         "(select f(1))",
                                         "with a as (select f(1)) select 1",
                                         "select 'a\\', f(1), '",
                                         "SET SESSION x = 1",
                                         "select s.lower(1)",
                                         "discard all",
                                         "select a_function_with_a_very_long_name_indeed_(1)",
                                         NULL},
                   PIER__EFFECT_SESSION);
}

static void test_effects__prepare_leaves_a_name(void **state)
{
    (void)state;
    assert_effects((const char *const[]){"prepare a as select 1", " /* */ PREPARE a as x", NULL},
                   PIER__EFFECT_SESSION | PIER__EFFECT_NAMES);
}

static void test_effects__text_that_ends_anywhere(void **state)
{
    (void)state;
    static const char sql[] =
        "insert into s.\"t\" (a) select E'\\'x', $t$ $ $t$, /* /* */ */ f('y') -- z\n from u";
    for (size_t size = 0; size < sizeof sql; size++) {
        char *exact = malloc(size ? size : 1);
        memcpy(exact, sql, size);
        assert_true(pier__postgres_effects(exact, size) <= PIER__EFFECT_SESSION);
        free(exact);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_effects__plain_statements_have_none),
        cmocka_unit_test(test_effects__others_may_change_the_session),
        cmocka_unit_test(test_effects__prepare_leaves_a_name),
        cmocka_unit_test(test_effects__text_that_ends_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
