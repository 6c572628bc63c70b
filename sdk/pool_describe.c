/*
 * Who has the things of a pool, in words: for the messages of those who did not get one.
 */
#include "sdk/pool.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { KINDS_MAX = 8 }; /* there are five; more would be counted with the last */

/* How many are held as a transaction, a lease, ... or, at the end, by a call under way. */
typedef struct kind_counts {
    struct {
        const char *what; /* "a transaction" */
        int count;
    } each[KINDS_MAX];
    int used;
} kind_counts;

typedef struct buffer {
    char *to;
    size_t size, at;
} buffer;

static void PIER_PRINTF(2, 3) add(buffer *text, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    int length = vsnprintf(text->to + text->at, text->size - text->at, format, list);
    va_end(list);
    size_t left = text->size - text->at - 1;
    text->at += length < 0 ? 0 : (size_t)length < left ? (size_t)length : left;
}

static void count(kind_counts *kinds, const char *what, int number)
{
    int i = 0;
    while (i < kinds->used && i < KINDS_MAX - 1 && strcmp(kinds->each[i].what, what) != 0) {
        i++;
    }
    if (number > 0) {
        kinds->each[i].what = what;
        kinds->each[i].count += number;
        kinds->used = i < kinds->used ? kinds->used : i + 1;
    }
}

/* "2 transactions and a lease of this thread" */
static void add_kinds(buffer *text, const kind_counts *kinds, const char *whose)
{
    for (int i = 0; i < kinds->used; i++) {
        const char *what = kinds->each[i].what;
        const char *before = i == 0                 ? (text->at ? ", " : "")
                             : i == kinds->used - 1 ? " and "
                                                    : ", ";
        if (kinds->each[i].count == 1) {
            add(text, "%s%s", before, what);
        } else {
            const char *space = strchr(what, ' '); /* behind the article */
            add(text, "%s%d %ss", before, kinds->each[i].count, space ? space + 1 : what);
        }
    }
    if (kinds->used) {
        add(text, "%s", whose);
    }
}

void pier__pool_describe(pier__pool *pool, const pier__op *asker, char *to, size_t size)
{
    kind_counts mine = {.used = 0}, others = {.used = 0};
    const void *holder = asker ? asker->holder : NULL;
    pier__pool_lock(pool);
    int calls = pool->total;
    for (const pier__pooled *thing = pool->all; thing; thing = thing->all_next) {
        if (thing->holder_what) {
            count(holder && thing->holder == holder ? &mine : &others, thing->holder_what, 1);
            calls--;
        }
    }
    for (const pier__pooled *thing = pool->idle; thing; thing = thing->next) {
        calls--;
    }
    pier__pool_unlock(pool);
    count(&others, "a call", calls);
    if (size) {
        buffer text = {.to = to, .size = size};
        *to = '\0';
        add_kinds(&text, &mine, asker && asker->on_loop ? " of this task" : " of this thread");
        add_kinds(&text, &others, holder ? " of others" : "");
        if (!text.at) {
            add(&text, "nobody any more");
        }
    }
}
