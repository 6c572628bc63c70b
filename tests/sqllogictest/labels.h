/* What the queries of one file gave, by their labels: those with one label must give the same. */
#ifndef PIER_TESTS_SQLLOGICTEST_LABELS_H
#define PIER_TESTS_SQLLOGICTEST_LABELS_H

#include "tests/sqllogictest/md5.h"

#include <stdbool.h>

struct slt_label {
    char *name;
    char hash[SLT_MD5_TEXT];
    unsigned long line; /* where it was seen first */
};

struct slt_labels {
    void *root; /* of a tree of tsearch(3) */
};

/* Keeps the hash of a new label; the first label of that name, borrowed until fini. */
const struct slt_label *slt_labels_put(struct slt_labels *labels, const char *name,
                                       const char *hash, unsigned long line);
void slt_labels_fini(struct slt_labels *labels);

#endif
