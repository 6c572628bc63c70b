/* MD5 of RFC 1321, for the hashes in test files. It protects nothing. */
#ifndef PIER_TESTS_SQLLOGICTEST_MD5_H
#define PIER_TESTS_SQLLOGICTEST_MD5_H

#include <stddef.h>
#include <stdint.h>

enum { SLT_MD5_TEXT = 33 }; /* 32 hexadecimal digits and a zero byte */

struct slt_md5 {
    uint32_t state[4];
    uint64_t size; /* bytes so far; the last size % 64 of them wait in block */
    unsigned char block[64];
};

void slt_md5_init(struct slt_md5 *md5);
void slt_md5_update(struct slt_md5 *md5, const void *data, size_t size);
/* Writes the digest in small hexadecimal digits; md5 must be initialised again afterwards. */
void slt_md5_finish(struct slt_md5 *md5, char text[SLT_MD5_TEXT]);

#endif
