/*
 * Texts under letters, as they came.
 */
#include "drivers/postgres/report.h"

#include "sdk/alloc.h"
#include <postgres_ext.h>
#include <string.h>

struct pier__postgres_report {
    size_t size;
    char data[]; /* pairs of a letter and a text with a zero byte; at the end two zeros */
};

/* A struct of the same shape, because a constant has no flexible array. */
static const struct {
    size_t size;
    char data[64];
} no_memory = {.data = "SERROR\0VERROR\0Mout of memory for the server's error"};
_Static_assert(offsetof(struct pier__postgres_report, data) == sizeof(size_t),
               "the constant has the same shape");

static pier__postgres_report *constant(void)
{
    return (pier__postgres_report *)(void *)&no_memory; /* never written to */
}

pier__postgres_report *pier__postgres_report_new(const char *body, size_t size)
{
    pier__postgres_report *report = pier__malloc(sizeof *report + size + 2);
    if (!report) {
        return constant();
    }
    report->size = size;
    memcpy(report->data, body, size);
    memset(report->data + size, 0, 2);
    return report;
}

void pier__postgres_report_free(pier__postgres_report *report)
{
    if (report != constant()) {
        pier__free(report);
    }
}

const char *pier__postgres_report_text(const pier__postgres_report *report, int letter)
{
    if (!report) {
        return NULL;
    }
    for (const char *at = report->data; *at; at += strlen(at) + 1) {
        if (*at == (char)letter) {
            return at + 1;
        }
    }
    return NULL;
}

const char *pier__postgres_sqlstate(const pier__postgres_report *report)
{
    const char *sqlstate = pier__postgres_report_text(report, PG_DIAG_SQLSTATE);
    return sqlstate ? sqlstate : "";
}

bool pier__postgres_is_fatal(const pier__postgres_report *report)
{
    const char *severity = pier__postgres_report_text(report, PG_DIAG_SEVERITY_NONLOCALIZED);
    return severity && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0);
}

bool pier__postgres_is_nomem(const pier__postgres_report *report)
{
    return report == constant();
}
