/* What a Postgres server says, taken apart: whole, byte by byte, cut off, and as nonsense. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/answer.h"

static listener peer;
static answer said;

static int set_up(void **state)
{
    (void)state;
    said.size = 0;
    return listener_open(&peer) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    listener_close(&peer);
    return 0;
}

static void say(const char *bytes, size_t size)
{
    assert_true(listener_hear(&peer, bytes, size));
}

static void hear_all(void)
{
    say(said.bytes, said.size);
    pier__postgres_receive(&peer.conn);
}

/* Two rows, (42, "shore") and (NULL, ""). */
static void write_two_rows(answer *to)
{
    ANSWER(to, '2', "");
    ANSWER(to, 'T', ANSWER_COLUMNS);
    ANSWER(to, 'D', "\0\2\0\0\0\00242\0\0\0\5shore");
    ANSWER(to, 'D', "\0\2\377\377\377\377\0\0\0\0");
    ANSWER(to, 'C', "SELECT 2\0");
    ANSWER(to, 'Z', "I");
}

static pier_result *take_block(void)
{
    pier__postgres_conn *conn = &peer.conn;
    pier_result *block =
        pier__postgres_rows(&conn->builder, &conn->transport, conn->columns, conn->kinds, NULL, 0);
    assert_non_null(block);
    return block;
}

static void assert_two_rows(void)
{
    assert_true(peer.conn.answered);
    assert_false(peer.conn.lost);
    assert_null(peer.conn.error);
    pier_result *block = take_block();
    assert_int_equal(pier_result_count(block), 2);
    const pier_row *row = pier_result_row(block, 0);
    assert_int_equal(pier_row_int64(row, 0), 42);
    assert_string_equal(pier_row_text(row, pier_result_column(block, "name")), "shore");
    row = pier_result_row(block, 1);
    assert_true(pier_row_is_null(row, 0));
    assert_string_equal(pier_row_text(row, 1), "");
    pier_result_free(block);
}

/* ---- Rows --------------------------------------------------------------------------------- */

static void test_answer__rows_come_as_they_were_described(void **state)
{
    (void)state;
    write_two_rows(&said);
    hear_all();
    assert_two_rows();
    assert_int_equal(peer.conn.changed, 0); /* rows that were only read */
}

static void test_answer__may_come_byte_by_byte(void **state)
{
    (void)state;
    write_two_rows(&said);
    for (size_t i = 0; i < said.size; i++) {
        assert_false(peer.conn.answered);
        say(said.bytes + i, 1);
        pier__postgres_receive(&peer.conn);
    }
    assert_two_rows();
}

static void test_answer__may_be_cut_in_two_anywhere(void **state)
{
    (void)state;
    write_two_rows(&said);
    for (size_t i = 1; i < said.size; i++) {
        listener_close(&peer);
        assert_true(listener_open(&peer));
        say(said.bytes, i);
        pier__postgres_receive(&peer.conn);
        assert_false(peer.conn.answered);
        say(said.bytes + i, said.size - i);
        pier__postgres_receive(&peer.conn);
        assert_two_rows();
    }
}

static void test_answer__that_ends_too_early_is_lost(void **state)
{
    (void)state;
    write_two_rows(&said);
    for (size_t i = 0; i < said.size; i++) {
        listener_close(&peer);
        assert_true(listener_open(&peer));
        say(said.bytes, i);
        listener_hang_up(&peer);
        pier__postgres_receive(&peer.conn);
        pier__postgres_receive(&peer.conn);
        assert_true(peer.conn.lost);
        assert_false(peer.conn.answered);
        assert_string_equal(peer.conn.transport.why, "the server closed the connection");
    }
}

/* More than what is copied: the buffer itself becomes the block, and what came behind it stays. */
static void test_answer__many_rows_are_a_block_without_being_copied(void **state)
{
    (void)state;
    enum { MANY = 1000 };
    char row[32];
    ANSWER(&said, 'T', ANSWER_COLUMNS);
    for (int i = 0; i < MANY; i++) {
        int size = snprintf(row, sizeof row, "%c\2%c%c%c\4%04d%c%c%c\7item %02d", 0, 0, 0, 0, i, 0,
                            0, 0, i % 100);
        answer_put(&said, 'D', row, (size_t)size);
    }
    ANSWER(&said, 'C', "SELECT 1000\0");
    ANSWER(&said, 'Z', "I");
    say(said.bytes, said.size);
    while (!peer.conn.answered && !peer.conn.lost) {
        pier__postgres_receive(&peer.conn);
    }
    assert_false(peer.conn.lost);
    pier_result *block = take_block();
    assert_int_equal(pier_result_count(block), MANY);
    for (int i = 0; i < MANY; i++) {
        const pier_row *at = pier_result_row(block, (size_t)i);
        assert_int_equal(pier_row_int64(at, 0), i);
        snprintf(row, sizeof row, "item %02d", i % 100);
        assert_string_equal(pier_row_text(at, 1), row);
    }
    pier_result_free(block);
    /* And the connection is ready for the next answer. */
    said.size = 0;
    pier__postgres_results_clear(&peer.conn);
    peer.conn.answered = false;
    peer.conn.keeping = true;
    peer.conn.syncs = 1;
    write_two_rows(&said);
    hear_all();
    assert_two_rows();
}

static void test_answer__a_stream_is_taken_up_to_a_full_block(void **state)
{
    (void)state;
    peer.conn.stream = 1;
    peer.conn.goal = 1;
    write_two_rows(&said);
    hear_all();
    assert_false(peer.conn.answered);
    assert_int_equal(peer.conn.builder.count, 1);
    pier_result *first = take_block();
    pier__postgres_collect(&peer.conn);
    assert_false(peer.conn.answered);
    assert_int_equal(peer.conn.builder.count, 1);
    pier_result *second = take_block();
    pier__postgres_collect(&peer.conn);
    assert_true(peer.conn.answered);
    assert_string_equal(pier_row_text(pier_result_row(first, 0), 1), "shore");
    assert_true(pier_row_is_null(pier_result_row(second, 0), 0));
    pier_result_free(first);
    pier_result_free(second);
}

static void test_answer__rows_that_nobody_wants_are_dropped_as_they_come(void **state)
{
    (void)state;
    enum { LARGE = 60000 };
    static char large[LARGE] = "\0\1\0\0\352\132";
    peer.conn.keeping = false;
    answer_put(&said, 'D', large, LARGE);
    for (size_t sent = 0; sent < said.size;) {
        size_t piece = said.size - sent < 1000 ? said.size - sent : 1000;
        say(said.bytes + sent, piece);
        sent += piece;
        pier__postgres_receive(&peer.conn);
    }
    assert_true(peer.conn.transport.in_room < LARGE / 4);
    said.size = 0;
    ANSWER(&said, 'C', "SELECT 1\0");
    ANSWER(&said, 'Z', "T");
    hear_all();
    assert_true(peer.conn.answered);
    assert_int_equal(peer.conn.tx, 'T');
}

/* Cells are found by 32 bits. The buffer begins so far before the row that nobody may touch it. */
static void test_answer__more_than_4_gb_of_rows_are_refused(void **state)
{
    (void)state;
    char body[] = "\0\1\0\0\0\0013";
    pier__postgres_builder builder = {.count = 1};
    pier__postgres_transport transport = {.in = (char *)((uintptr_t)body - (UINT64_C(5) << 30))};
    assert_int_equal(pier__postgres_builder_add(&builder, &transport, body, 7, 1),
                     PIER__ADDED_TOO_MUCH);
    transport.in = body;
    builder.count = 0;
    assert_int_equal(pier__postgres_builder_add(&builder, &transport, body, 7, 1), PIER__ADDED);
    pier__postgres_builder_fini(&builder);
}

/* Its size would be cut to 32 bits, and the rest of the text read as messages. */
static void test_message__that_is_too_long_is_not_begun(void **state)
{
    (void)state;
    pier__postgres_transport *transport = &peer.conn.transport;
    assert_true(pier__message_parse(transport, "", "select 1", 8, NULL, 0));
    size_t before = transport->out_size;
    assert_false(pier__message_parse(transport, "", "select 1", (size_t)UINT32_MAX + 9, NULL, 0));
    assert_int_equal(transport->out_size, before);
    assert_int_equal(pier__postgres_transport_flush(transport), -1);
}

/* ---- How statements end ------------------------------------------------------------------- */

static void assert_changes(const char *tag, size_t size, bool has_columns, int64_t changes)
{
    listener_close(&peer);
    assert_true(listener_open(&peer));
    said.size = 0;
    if (has_columns) {
        ANSWER(&said, 'T', ANSWER_COLUMNS);
    }
    answer_put(&said, 'C', tag, size);
    ANSWER(&said, 'Z', "I");
    hear_all();
    assert_true(peer.conn.answered);
    assert_int_equal(peer.conn.changed, changes);
}

#define ASSERT_CHANGES(tag, has_columns, changes)                                                  \
    assert_changes(tag, sizeof(tag), has_columns, changes)

static void test_answer__tags_tell_how_many_rows_were_changed(void **state)
{
    (void)state;
    ASSERT_CHANGES("INSERT 0 1", false, 1);
    ASSERT_CHANGES("INSERT 0 12", true, 12);
    ASSERT_CHANGES("UPDATE 0", false, 0);
    ASSERT_CHANGES("COPY 7", false, 7);
    ASSERT_CHANGES("MERGE 3", false, 3);
    ASSERT_CHANGES("SELECT 5", true, 0);
    ASSERT_CHANGES("SELECT 5", false, 5); /* CREATE TABLE AS */
    ASSERT_CHANGES("FETCH 5", true, 0);
    ASSERT_CHANGES("MOVE 5", false, 0);
    ASSERT_CHANGES("CREATE TABLE", false, 0);
    ASSERT_CHANGES("", false, 0);
    ASSERT_CHANGES("DELETE 9223372036854775807", false, INT64_MAX);
}

static void test_answer__the_first_error_counts(void **state)
{
    (void)state;
    ANSWER(&said, 'C', "INSERT 0 1\0");
    ANSWER(&said, 'E', "SERROR\0VERROR\0C23505\0Mtwice\0nkey\0\0");
    ANSWER(&said, 'E', "SERROR\0VERROR\0C25P02\0Mlater\0\0");
    ANSWER(&said, 'Z', "E");
    hear_all();
    assert_true(peer.conn.answered);
    assert_string_equal(pier__postgres_sqlstate(peer.conn.error), "23505");
    assert_string_equal(pier__postgres_report_text(peer.conn.error, 'n'), "key");
    assert_null(pier__postgres_report_text(peer.conn.error, 'H'));
    assert_int_equal(peer.conn.error_part, 1);
    assert_int_equal(peer.conn.tx, 'E');
}

static void test_answer__a_fatal_error_is_the_last_word(void **state)
{
    (void)state;
    ANSWER(&said, 'E', "SERROR\0VERROR\0C42601\0Mfirst\0\0");
    ANSWER(&said, 'E', "SFATAL\0VFATAL\0C57P01\0Mgone\0\0");
    hear_all();
    assert_true(peer.conn.answered && peer.conn.base.dead);
    assert_string_equal(pier__postgres_sqlstate(peer.conn.error), "57P01");
}

/* ---- What comes unasked ------------------------------------------------------------------- */

static void test_answer__what_comes_unasked_is_taken_between(void **state)
{
    (void)state;
    peer.conn.syncs = 0;
    ANSWER(&said, 'S', "TimeZone\0UTC\0");
    ANSWER(&said, 'A', "\0\0\0\1channel\0payload\0");
    ANSWER(&said, 'S', "client_encoding\0LATIN1\0");
    say(said.bytes, said.size);
    assert_int_equal(pier__postgres_transport_receive(&peer.conn.transport, 0), PIER__CAME_SOME);
    while (pier__postgres_transport_receive(&peer.conn.transport, 0) == PIER__CAME_SOME) {
    }
    pier__postgres_collect_unasked(&peer.conn);
    assert_string_equal(peer.conn.encoding, "LATIN1");
    assert_false(peer.conn.lost || peer.conn.said_goodbye);
    said.size = 0;
    ANSWER(&said, 'E', "SFATAL\0VFATAL\0C57P01\0Mterminating\0\0");
    say(said.bytes, said.size);
    pier__postgres_transport_receive(&peer.conn.transport, 0);
    pier__postgres_transport_receive(&peer.conn.transport, 0);
    pier__postgres_collect_unasked(&peer.conn);
    assert_true(peer.conn.said_goodbye);
    assert_string_equal(peer.conn.said.words, "terminating");
}

/* Taken for the beginning of the next answer it would put cells of these rows, whose bytes are gone
 * by then, before that one's own. */
static void test_answer__nobody_has_asked_for_ends_an_idle_session(void **state)
{
    (void)state;
    static const char letters[] = "TtDCEZNSA123GHIWdcns";
    for (const char *at = letters; *at; at++) {
        listener_close(&peer);
        assert_true(listener_open(&peer));
        peer.conn.syncs = 0;
        said.size = 0;
        if (*at == 'T') {
            ANSWER(&said, 'T', ANSWER_COLUMNS);
            ANSWER(&said, 'D', "\0\2\0\0\0\00242\0\0\0\5shore");
        } else {
            ANSWER(&said, *at, "SNOTICE\0C00000\0Mhello\0\0");
        }
        say(said.bytes, said.size);
        bool allowed = strchr("ENSA", *at) != NULL;
        assert_int_equal(pier__postgres_was_left(&peer.conn), !allowed);
        assert_int_equal(peer.conn.lost, !allowed);
        assert_int_equal(peer.conn.builder.count, 0);
        assert_null(peer.conn.columns);
    }
}

static void say_notices(int count)
{
    said.size = 0;
    for (int i = 0; i < count; i++) {
        ANSWER(&said, 'N', "SNOTICE\0VNOTICE\0C00000\0Mthe same once more\0\0");
    }
    say(said.bytes, said.size);
}

/* Whoever looks would never be done with it. */
static void test_answer__that_has_no_end_ends_an_idle_session(void **state)
{
    (void)state;
    enum { FEW = 10, MANY = 1000 };
    peer.conn.syncs = 0;
    say_notices(FEW);
    assert_false(pier__postgres_was_left(&peer.conn));
    assert_int_equal(peer.conn.transport.in_at, peer.conn.transport.in_size);
    say_notices(MANY);
    assert_true(pier__postgres_was_left(&peer.conn));
    assert_true(peer.conn.transport.in_room < 4096);
}

/* ---- Nonsense ----------------------------------------------------------------------------- */

static void assert_lost(const char *bytes, size_t size, const char *why)
{
    listener_close(&peer);
    assert_true(listener_open(&peer));
    say(bytes, size);
    for (int i = 0; i < 8 && !peer.conn.lost; i++) {
        pier__postgres_receive(&peer.conn);
    }
    assert_true(peer.conn.lost);
    assert_non_null(strstr(peer.conn.transport.why, why));
}

#define ASSERT_LOST(bytes, why) assert_lost(bytes, sizeof(bytes) - 1, why)

static void test_answer__what_is_no_message_loses_the_session(void **state)
{
    (void)state;
    ASSERT_LOST("HTTP/1.1 400 Bad Request\r\n", "no message");
    ASSERT_LOST("Z\0\0\0\3I", "no message");
    ASSERT_LOST("C\0\1\0\0", "no message");
    ASSERT_LOST("D\377\377\377\377", "no message");
    ASSERT_LOST("Z\0\0\0\4", "ready");
}

static void test_answer__descriptions_and_rows_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        size_t size;
    } rows[] = {
        {"", 0},
        {"\0", 1},
        {"\0\1\0\0\0\0", 6},                   /* a column too few */
        {"\0\2\0\0\0\1a", 7},                  /* the second one is missing */
        {"\0\2\0\0\0\1a\0\0\0\2b", 12},        /* and too short */
        {"\0\2\0\0\0\1a\0\0\0\0b", 12},        /* something behind it */
        {"\0\2\0\0\0\1a\177\377\377\377", 11}, /* 2 GB, it says */
        {"\0\2\0\0\0\1a\200\0\0\0b", 12},      /* a negative size */
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        said.size = 0;
        ANSWER(&said, 'T', ANSWER_COLUMNS);
        answer_put(&said, 'D', rows[i].body, rows[i].size);
        assert_lost(said.bytes, said.size, "row");
    }
    said.size = 0;
    ANSWER(&said, 'D', "\0\0"); /* of a statement without rows */
    assert_lost(said.bytes, said.size, "row");
    for (size_t cut = 0; cut < sizeof ANSWER_COLUMNS - 1; cut++) {
        said.size = 0;
        answer_put(&said, 'T', ANSWER_COLUMNS, cut);
        assert_lost(said.bytes, said.size, "columns");
    }
    ASSERT_LOST("t\0\0\0\7\0\2\0", "parameters");
    ASSERT_LOST("C\0\0\0\7abc", "tag");
    ASSERT_LOST("W\0\0\0\7\0\0\0", "replication");
    ASSERT_LOST("G\0\0\0\7\0\0\0", "data"); /* nobody has copied */
}

/* A peer that claims to send a gigabyte gets no memory for it before it does. */
static void test_answer__a_size_is_not_believed(void **state)
{
    (void)state;
    ANSWER(&said, 'T', ANSWER_COLUMNS);
    memcpy(said.bytes + said.size, "D\77\377\377\377", 5);
    said.size += 5 + 100;
    hear_all();
    pier__postgres_receive(&peer.conn);
    assert_false(peer.conn.lost || peer.conn.answered);
    assert_true(peer.conn.transport.in_room < 4096);
}

/* The same each time: xorshift. */
static uint32_t draw(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

static void read_all(const pier_result *block)
{
    for (size_t i = 0; i < pier_result_count(block); i++) {
        for (int k = 0; k < pier_result_columns(block); k++) {
            const char *text = pier_row_text(pier_result_row(block, i), k);
            assert_true(!text || strlen(text) < sizeof said.bytes);
        }
    }
}

/* Whatever comes, it is taken, or refused, within the memory that is there (see the sanitizers). */
static void test_answer__survives_what_is_changed_at_random(void **state)
{
    (void)state;
    uint32_t seed = 2463534242;
    for (int round = 0; round < 4000; round++) {
        listener_close(&peer);
        assert_true(listener_open(&peer));
        said.size = 0;
        write_two_rows(&said);
        for (uint32_t n = draw(&seed) % 4; n < 4; n++) {
            said.bytes[draw(&seed) % said.size] = (char)draw(&seed);
        }
        say(said.bytes, said.size);
        listener_hang_up(&peer);
        for (int i = 0; i < 100 && !peer.conn.answered && !peer.conn.lost; i++) {
            pier__postgres_receive(&peer.conn);
        }
        assert_true(peer.conn.answered || peer.conn.lost);
        if (peer.conn.columns) {
            pier_result *block = take_block();
            read_all(block);
            pier_result_free(block);
        }
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_answer__rows_come_as_they_were_described),
        TEST(test_answer__may_come_byte_by_byte),
        TEST(test_answer__may_be_cut_in_two_anywhere),
        TEST(test_answer__that_ends_too_early_is_lost),
        TEST(test_answer__many_rows_are_a_block_without_being_copied),
        TEST(test_answer__a_stream_is_taken_up_to_a_full_block),
        TEST(test_answer__rows_that_nobody_wants_are_dropped_as_they_come),
        TEST(test_answer__more_than_4_gb_of_rows_are_refused),
        TEST(test_message__that_is_too_long_is_not_begun),
        TEST(test_answer__tags_tell_how_many_rows_were_changed),
        TEST(test_answer__the_first_error_counts),
        TEST(test_answer__a_fatal_error_is_the_last_word),
        TEST(test_answer__what_comes_unasked_is_taken_between),
        TEST(test_answer__nobody_has_asked_for_ends_an_idle_session),
        TEST(test_answer__that_has_no_end_ends_an_idle_session),
        TEST(test_answer__what_is_no_message_loses_the_session),
        TEST(test_answer__descriptions_and_rows_are_checked),
        TEST(test_answer__a_size_is_not_believed),
        TEST(test_answer__survives_what_is_changed_at_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
