/* Labels: files of the public corpus have ten thousand of them, so they are in a tree. */
#include "tests/sqllogictest/labels.h"

#include "tests/sqllogictest/values.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct slt_label *)a)->name, ((const struct slt_label *)b)->name);
}

static void free_label(void *node)
{
    struct slt_label *label = node;
    free(label->name);
    free(label);
}

const struct slt_label *slt_labels_put(struct slt_labels *labels, const char *name,
                                       const char *hash, unsigned long line)
{
    const struct slt_label wanted = {.name = (char *)name};
    void *found = tfind(&wanted, &labels->root, compare);
    if (!found) {
        struct slt_label *label = slt_allocate(sizeof *label);
        label->name = slt_copy(name);
        snprintf(label->hash, sizeof label->hash, "%s", hash);
        label->line = line;
        found = tsearch(label, &labels->root, compare);
        slt_check_memory(found);
    }
    return *(struct slt_label **)found;
}

void slt_labels_fini(struct slt_labels *labels)
{
    tdestroy(labels->root, free_label);
    labels->root = NULL;
}
