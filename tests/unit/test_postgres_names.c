/* Arguments by name: what in a statement's text is a name, and what Postgres reads there itself. */
#include "tests/unit/unit.h"

#include "drivers/postgres/names.h"
#include "sdk/alloc.h"
#include <stdlib.h>
#include <string.h>

static pier__postgres_names *read_names(const char *sql)
{
    pier__postgres_names *names = pier__postgres_names_read(sql, strlen(sql));
    assert_non_null(names);
    assert_int_equal(strlen(names->sql), names->sql_size);
    return names;
}

typedef struct rewriting {
    const char *sql, *sent, *names; /* joined by a blank */
} rewriting;

static const rewriting changed[] = {
    {"select :a", "select $1", "a"},
    {"select $a", "select $1", "a"},
    {"select :a, $b, :a, :b, $a", "select $1, $2, $1, $2, $1", "a b"},
    {"select :a::int, $a::int", "select $1::int, $1::int", "a"},
    {"select (:a),:b,-:c,:d+:e", "select ($1),$2,-$3,$4+$5", "a b c d e"},
    {"where id in(:a,:b)and x=:c or y>=:d", "where id in($1,$2)and x=$3 or y>=$4", "a b c d"},
    {"values(:a,:b),(:c,:d)", "values($1,$2),($3,$4)", "a b c d"},
    {"select x from t limit :n offset :m", "select x from t limit $1 offset $2", "n m"},
    {"select x from t where x like :p", "select x from t where x like $1", "p"},
    {"select data->:k, data->>:k, data@>:d, data<@:d, data?:k, a@@:q",
     "select data->$1, data->>$1, data@>$2, data<@$2, data?$1, a@@$3", "k d q"},
    {"select @ :a, @:a, @x", "select @ $1, @$1, @x", "a"},
    {"select f(a := :a, b=>:b, c :=:c)", "select f(a := $1, b=>$2, c :=$3)", "a b c"},
    {"select array[:a, :b], array[[:a],[:b]]", "select array[$1, $2], array[[$1],[$2]]", "a b"},
    {"select ARRAY [:a]", "select ARRAY [$1]", "a"},
    {"select a[(:i)], a[(:i):(:j)], a[f(:k)]", "select a[($1)], a[($1):($2)], a[f($3)]", "i j k"},
    {"select a[$i:$j]", "select a[$1:$2]", "i j"},
    {"select a[1:n], :n", "select a[1:n], $1", "n"},
    {"select a[:n], :n", "select a[:n], $1", "n"},
    {"select a[x :n], a[1:], a[:], :m", "select a[x :n], a[1:], a[:], $1", "m"},
    {"select a[1][2:n], (b)[m:n], \"c\"[:n], t.array[:n], :k",
     "select a[1][2:n], (b)[m:n], \"c\"[:n], t.array[:n], $1", "k"},
    {"select array[1,2][:n], :k", "select array[1,2][:n], $1", "k"},
    {"select a[array[:i]]", "select a[array[$1]]", "i"},
    {"select ':a', 'it''s :a', :b", "select ':a', 'it''s :a', $1", "b"},
    {"select 'a\\', :b, ':c'", "select 'a\\', $1, ':c'", "b"},
    {"select e'\\':a', E'\\\\', :b", "select e'\\':a', E'\\\\', $1", "b"},
    {"select E'a''b\\':c', :d", "select E'a''b\\':c', $1", "d"},
    {"select E'a' \n -- x\n 'b\\':c', :d", "select E'a' \n -- x\n 'b\\':c', $1", "d"},
    {"select E'a' '\\', :b, ':c'", "select E'a' '\\', $1, ':c'", "b"},
    {"select $1$ :a $1$", "select $1$ $1 $1$", "a"},
    {"select :ab, :a, :abc, :b", "select $1, $2, $3, $4", "ab a abc b"},
    {"select json_object(keys := :k, values := :v)", "select json_object(keys := $1, values := $2)",
     "k v"},
    {"select E'a' 'b', :d", "select E'a' 'b', $1", "d"},
    {"select u&'\\':a, :b", "select u&'\\':a, $1", "b"},
    {"select U&'d\\0061t:a', U&\"d:a\", :b", "select U&'d\\0061t:a', U&\"d:a\", $1", "b"},
    {"select b':a', x':a', N':a', :b", "select b':a', x':a', N':a', $1", "b"},
    {"select \":a\", \"x\"\":a\", :b", "select \":a\", \"x\"\":a\", $1", "b"},
    {"select $$ :a $a $$, $t$ :a $$ $x$ $t$, :b", "select $$ :a $a $$, $t$ :a $$ $x$ $t$, $1", "b"},
    {"select $a$:b$a$, $b", "select $a$:b$a$, $1", "b"},
    {"select x$a, x$a$b, :c", "select x$a, x$a$b, $1", "c"},
    {"select $a, $b", "select $1, $2", "a b"},
    {"select :a -- :b\n, :c", "select $1 -- :b\n, $2", "a c"},
    {"select :a -- :b\r, :c", "select $1 -- :b\r, $2", "a c"},
    {"select /* :a /* :b */ :c */ :d", "select /* :a /* :b */ :c */ $1", "d"},
    {"select 1 - -:a, 2*/* :b */:c", "select 1 - -$1, 2*/* :b */$2", "a c"},
    {"select json_object('a':b, 'c' :d, k:v, k :v, k : :e)",
     "select json_object('a':b, 'c' :d, k:v, k :v, k : $1)", "e"},
    {"select JSON_OBJECT(:k : :v, :k value :v, 'x': case when :w then 1 end)",
     "select JSON_OBJECT($1 : $2, $1 value $2, 'x': case when $3 then 1 end)", "k v w"},
    {"select json_objectagg(k:v), json_object('a': f(:x)), :y",
     "select json_objectagg(k:v), json_object('a': f($1)), $2", "x y"},
    {"select '12:30'::time, 1::int, a::text, :b", "select '12:30'::time, 1::int, a::text, $1", "b"},
    {"select :a\xc3\xa4\xc3\xb6, '\xc3\xbc', :b_1", "select $1, '\xc3\xbc', $2",
     "a\xc3\xa4\xc3\xb6 b_1"},
    {"select :A, :a", "select $1, $2", "A a"},
    {"select :select, :from", "select $1, $2", "select from"},
    {"select distinct on (x) :a, :b", "select distinct on (x) $1, $2", "a b"},
    {"select all :a", "select all $1", "a"},
    {"select interval :i, date :d", "select interval $1, date $2", "i d"},
    {"select :a;", "select $1;", "a"},
    {":a", "$1", "a"},
    {"select :a -- no line behind it :b", "select $1 -- no line behind it :b", "a"},
    {"select :a, $1", "select $1, $1", "a"}, /* mixed, which is refused where it is used */
};

static void assert_names(const pier__postgres_names *names, const rewriting *wanted)
{
    char joined[200] = "";
    for (int i = 0; i < names->count; i++) {
        size_t at = strlen(joined);
        snprintf(joined + at, sizeof joined - at, "%s%s", i ? " " : "", names->names[i]);
    }
    if (strcmp(names->sql, wanted->sent) || strcmp(joined, wanted->names)) {
        fail_msg("%s\nbecame   %s (%s)\nand not  %s (%s)", wanted->sql, names->sql, joined,
                 wanted->sent, wanted->names);
    }
}

static void test_names__are_replaced_by_numbers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        pier__postgres_names *names = read_names(changed[i].sql);
        assert_names(names, &changed[i]);
        pier__free(names);
    }
}

static const char *const unchanged[] = {
    "",
    ":",
    "$",
    "::",
    ": a",
    ":1",
    ":'a'",
    ":\"a\"",
    "select a::text",
    "select a:b",
    "select 1:b",
    "select 'a':b",
    "select \"a\":b",
    "select t.value:b",
    "select json_object('a' :b, \"a\" :b, f(1) :b, a[1]:b)",
    "select a[b:c]",
    "select a[1:c]",
    "select a[:c]",
    "select @a, @ a, a @@ b, a @> b, a <@ b",
    "select $1, $2",
    "select $1:a",
    "select f(a:=1)",
    "select f(a=>1)",
    "select $$:a",
    "select $a$ :b $a",
    "select ':a",
    "select \":a",
    "select E':a\\",
    "select E'\\':a",
    "select /* :a",
    "select /* /* */ :a",
    "select -- :a",
    "select x$a",
    "select \xc3\xa4$a",
    "((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((",
    "))))]]]])))",
};

static void test_names__leave_alone_what_postgres_reads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof unchanged / sizeof *unchanged; i++) {
        pier__postgres_names *names = read_names(unchanged[i]);
        if (names->count || strcmp(names->sql, unchanged[i]) != 0) {
            fail_msg("%s became %s", unchanged[i], names->sql);
        }
        pier__free(names);
    }
}

/* In memory of exactly that size, so that a sanitizer sees who reads beyond. */
static void read_prefix(const char *sql, size_t size)
{
    char *copy = malloc(size ? size : 1);
    memcpy(copy, sql, size);
    pier__postgres_names *names = pier__postgres_names_read(copy, size);
    free(copy);
    assert_non_null(names);
    assert_int_equal(strlen(names->sql), names->sql_size);
    for (size_t i = 0; i < names->place_count; i++) {
        assert_true(names->places[i].at + names->places[i].size <= size);
        assert_in_range(names->places[i].name, 0, names->count - 1);
    }
    /* What has no places is as it was, and positions never go backwards. */
    assert_true(names->place_count || memcmp(names->sql, sql, size) == 0);
    unsigned long last = 0;
    for (unsigned long at = 1; at <= names->sql_size + 2; at++) {
        unsigned long position = pier__postgres_names_position(names, at);
        assert_true(position >= last);
        last = position;
    }
    pier__free(names);
}

static void test_names__every_prefix_can_be_read(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof changed / sizeof *changed; i++) {
        for (size_t size = 0; size <= strlen(changed[i].sql); size++) {
            read_prefix(changed[i].sql, size);
        }
    }
    for (size_t i = 0; i < sizeof unchanged / sizeof *unchanged; i++) {
        for (size_t size = 0; size <= strlen(unchanged[i]); size++) {
            read_prefix(unchanged[i], size);
        }
    }
}

/* What mattered to the scanner, in all orders of so many. */
static void test_names__every_order_of_marks_can_be_read(void **state)
{
    (void)state;
    static const char *const parts[] = {":",  "$",  "a", "1",  "'",  "\"", "[",
                                        "]",  "(",  ")", "e'", "\\", "--", "/*",
                                        "*/", "\n", " ", "@",  "=",  "$$", "json_object(",
                                        ","};
    enum { PARTS = sizeof parts / sizeof *parts, LENGTH = 3 };
    for (int n = 0; n < PARTS * PARTS * PARTS; n++) {
        char sql[80] = ":x";
        for (int k = 0, rest = n; k < LENGTH; k++, rest /= PARTS) {
            strcat(sql, parts[rest % PARTS]);
        }
        strcat(sql, ":y");
        read_prefix(sql, strlen(sql));
    }
}

static void test_numbers__are_noticed(void **state)
{
    (void)state;
    pier__postgres_names *mixed = read_names("select :a, $1");
    pier__postgres_names *named = read_names("select :a, '$1', $$ $1 $$ -- $1");
    assert_true(mixed->numbered);
    assert_false(named->numbered);
    pier__free(mixed);
    pier__free(named);
}

/* The server's position of each name, and of what is behind it, is that of the user's text. */
static void test_positions__are_those_of_the_users_text(void **state)
{
    (void)state;
    const char *sql = "select \xc3\xa4, :long_name + :b, \xc3\xbc, :\xc3\xb6\xc3\xb6 x";
    /*                 12345678 9    0123456789 */
    pier__postgres_names *names = read_names(sql);
    assert_string_equal(names->sql, "select \xc3\xa4, $1 + $2, \xc3\xbc, $3 x");
    static const struct {
        unsigned long sent, theirs;
    } positions[] = {{1, 1},   {8, 8},   {11, 11}, {12, 11}, {13, 21}, {14, 22}, {16, 24},
                     {17, 24}, {18, 26}, {20, 28}, {23, 31}, {24, 31}, {25, 34}, {26, 35}};
    for (size_t i = 0; i < sizeof positions / sizeof *positions; i++) {
        assert_int_equal(pier__postgres_names_position(names, positions[i].sent),
                         positions[i].theirs);
    }
    pier__free(names);
}

/* Numbers of several digits are longer than short names. */
static void test_positions__behind_names_that_became_longer(void **state)
{
    (void)state;
    char sql[400] = "select 0", sent[400] = "select 0";
    for (int i = 0; i < 12; i++) {
        snprintf(sql + strlen(sql), 16, ",:%c", 'a' + i);
        snprintf(sent + strlen(sent), 16, ",$%d", i + 1);
    }
    strcat(sql, ", here");
    strcat(sent, ", here");
    pier__postgres_names *names = read_names(sql);
    assert_string_equal(names->sql, sent);
    assert_int_equal(
        pier__postgres_names_position(names, (unsigned long)(strstr(sent, "here") - sent) + 1),
        strstr(sql, "here") - sql + 1);
    pier__free(names);
}

static atomic_int failing;

static bool fail_one(size_t size)
{
    (void)size;
    return atomic_load(&failing) > 0 && atomic_fetch_sub(&failing, 1) == 1;
}

static void test_names__without_memory_are_not_read(void **state)
{
    (void)state;
    const char *sql = "select :a, (:b), a[:c], :d";
    int n = 0;
    pier__postgres_names *names = NULL;
    pier__alloc_set_gate(fail_one);
    while (!names) {
        atomic_store(&failing, ++n);
        names = pier__postgres_names_read(sql, strlen(sql));
    }
    pier__alloc_set_gate(NULL);
    assert_int_equal(n, 5); /* brackets, places, names, the result; and then none failed */
    assert_int_equal(names->count, 3);
    pier__free(names);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names__are_replaced_by_numbers),
        cmocka_unit_test(test_names__leave_alone_what_postgres_reads),
        cmocka_unit_test(test_names__every_prefix_can_be_read),
        cmocka_unit_test(test_names__every_order_of_marks_can_be_read),
        cmocka_unit_test(test_numbers__are_noticed),
        cmocka_unit_test(test_positions__are_those_of_the_users_text),
        cmocka_unit_test(test_positions__behind_names_that_became_longer),
        cmocka_unit_test(test_names__without_memory_are_not_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
