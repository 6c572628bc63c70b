/* MD5 of the sqllogictest runner, against the vectors of RFC 1321. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "tests/sqllogictest/md5.h"

static void hash(const char *text, char digest[SLT_MD5_TEXT])
{
    struct slt_md5 md5;
    slt_md5_init(&md5);
    slt_md5_update(&md5, text, strlen(text));
    slt_md5_finish(&md5, digest);
}

static void test_md5__gives_the_digests_of_the_rfc(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        const char *digest;
    } vectors[] = {
        {"", "d41d8cd98f00b204e9800998ecf8427e"},
        {"a", "0cc175b9c0f1b6a831c399e269772661"},
        {"abc", "900150983cd24fb0d6963f7d28e17f72"},
        {"message digest", "f96b697d7cb7938d525a2f31aaf161d0"},
        {"abcdefghijklmnopqrstuvwxyz", "c3fcd3d76192e4007dfb496cca67e13b"},
        {"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
         "d174ab98d277d9f5a5611c2c9f419d9f"},
        {"12345678901234567890123456789012345678901234567890123456789012345678901234567890",
         "57edf4a22be3c955ac49da2e2107b67a"},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char digest[SLT_MD5_TEXT];
        hash(vectors[i].text, digest);
        assert_string_equal(digest, vectors[i].digest);
    }
}

/* Around the sizes where the padding needs a further block; digests by md5sum. */
static void test_md5__pads_every_size_rightly(void **state)
{
    (void)state;
    static const struct {
        size_t size;
        const char *digest;
    } vectors[] = {
        {55, "ef1772b6dff9a122358552954ad0df65"},  {56, "3b0c8ac703f828b04c6c197006d17218"},
        {57, "652b906d60af96844ebd21b674f35e93"},  {63, "b06521f39153d618550606be297466d5"},
        {64, "014842d480b571495a4a0363793f7367"},  {65, "c743a45e0d2e6a95cb859adae0248435"},
        {119, "8a7bd0732ed6a28ce75f6dabc90e1613"}, {120, "5f61c0ccad4cac44c75ff505e1f1e537"},
    };
    char text[121];
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char digest[SLT_MD5_TEXT];
        memset(text, 'a', vectors[i].size);
        text[vectors[i].size] = 0;
        hash(text, digest);
        assert_string_equal(digest, vectors[i].digest);
    }
}

static void test_md5__does_not_care_in_which_pieces_the_data_come(void **state)
{
    (void)state;
    char text[201], whole[SLT_MD5_TEXT];
    for (size_t i = 0; i < 200; i++) {
        text[i] = (char)('!' + i % 90);
    }
    text[200] = 0;
    hash(text, whole);
    for (size_t piece = 1; piece <= 200; piece++) {
        char digest[SLT_MD5_TEXT];
        struct slt_md5 md5;
        slt_md5_init(&md5);
        for (size_t at = 0; at < 200; at += piece) {
            slt_md5_update(&md5, text + at, piece < 200 - at ? piece : 200 - at);
        }
        slt_md5_finish(&md5, digest);
        assert_string_equal(digest, whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_md5__gives_the_digests_of_the_rfc),
        cmocka_unit_test(test_md5__pads_every_size_rightly),
        cmocka_unit_test(test_md5__does_not_care_in_which_pieces_the_data_come),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
