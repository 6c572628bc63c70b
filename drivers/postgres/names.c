/*
 * Finding the names in a statement, and its text without them.
 */
#include "drivers/postgres/names.h"

#include "drivers/postgres/scan.h"
#include "drivers/postgres/text.h"
#include "sdk/alloc.h"
#include <stdio.h>
#include <string.h>

/* What the innermost bracket is. */
typedef enum bracket {
    PLAIN = 0, /* parentheses, and array[...] */
    SUBSCRIPT, /* in which a colon is that of a slice */
    JSON_KEY,  /* json_object(key: value, ...), in which a colon is what stands behind the key */
    JSON_VALUE
} bracket;

typedef struct list {
    void *items;
    size_t count, room;
} list;

typedef struct finder {
    pier__postgres_scanner scanner;
    const char *sql;
    list brackets;         /* of unsigned char */
    unsigned char outside; /* of all brackets: PLAIN */
    list places;
    list names; /* of name_text */
    size_t names_size;
    bool numbered, out_of_memory;
    /* The token before. */
    char before;
    const char *before_end;
    bool is_array;  /* the keyword that begins array[...] */
    bool is_object; /* a word that begins json_object(...) */
    bool is_value;  /* the keyword behind a key, in place of a colon */
} finder;

typedef struct name_text {
    const char *text;
    size_t size;
} name_text;

/* A new last item; NULL: no memory. */
static void *append(list *to, size_t item_size)
{
    if (to->count == to->room) {
        size_t room = to->room ? to->room * 2 : 16;
        void *items = pier__realloc(to->items, room * item_size);
        if (!items) {
            return NULL;
        }
        to->items = items;
        to->room = room;
    }
    return (char *)to->items + to->count++ * item_size;
}

/* ---- Brackets ----------------------------------------------------------------------------- */

static unsigned char *innermost(finder *f)
{
    return f->brackets.count ? (unsigned char *)f->brackets.items + f->brackets.count - 1
                             : &f->outside;
}

static void open_bracket(finder *f, bracket kind)
{
    unsigned char *top = append(&f->brackets, 1);
    if (top) {
        *top = (unsigned char)kind;
    }
    f->out_of_memory = f->out_of_memory || !top;
}

/* Does something that may have a value stand before? */
static bool behind_value(const finder *f)
{
    return f->before && strchr("'0)]$w", f->before);
}

static void take_bracket(finder *f, char c)
{
    if (c == '(') {
        open_bracket(f, f->before == 'w' && f->is_object ? JSON_KEY : PLAIN);
    } else if (c == '[') {
        bool begins_array = f->before == 'w' && f->is_array;
        open_bracket(f, behind_value(f) && !begins_array ? SUBSCRIPT : PLAIN);
    } else if (f->brackets.count) {
        f->brackets.count--;
    }
}

/* ---- Names -------------------------------------------------------------------------------- */

static int number_of(finder *f, const char *text, size_t size)
{
    const name_text *names = f->names.items;
    for (size_t i = 0; i < f->names.count; i++) {
        if (names[i].size == size && memcmp(names[i].text, text, size) == 0) {
            return (int)i;
        }
    }
    name_text *name = append(&f->names, sizeof *name);
    if (!name) {
        f->out_of_memory = true;
        return 0;
    }
    *name = (name_text){text, size};
    f->names_size += size + 1;
    return (int)f->names.count - 1;
}

/* The mark has been read, and a letter follows it. */
static void take_name(finder *f)
{
    pier__postgres_scanner *s = &f->scanner;
    const char *text = s->at;
    while (s->at < s->end && pier__postgres_is_inner(*s->at)) {
        s->at++;
    }
    pier__postgres_place *place = append(&f->places, sizeof *place);
    if (!place) {
        f->out_of_memory = true;
        return;
    }
    *place = (pier__postgres_place){.at = (size_t)(s->token - f->sql),
                                    .size = (size_t)(s->at - s->token),
                                    .name = number_of(f, text, (size_t)(s->at - text))};
}

/* Does one begin with the colon that has been read, before a letter? Outside of subscripts and keys
 * Postgres knows no such colon; but a number must not become part of what stands before. */
static bool begins_name(finder *f)
{
    switch (*innermost(f)) {
    case SUBSCRIPT:
        return false;
    case JSON_KEY:
        return !behind_value(f);
    default:
        return f->before_end != f->scanner.token || !f->before || !strchr("'0$w", f->before);
    }
}

/* Gives what it is for those behind it: a name counts as '$'. */
static char take_colon(finder *f)
{
    pier__postgres_scanner *s = &f->scanner;
    char follows = s->at < s->end ? *s->at : '\0';
    if (follows == ':') {
        s->at++;
        return ':';
    }
    if (pier__postgres_is_letter(follows) && begins_name(f)) {
        take_name(f);
        return '$';
    }
    unsigned char *inside = innermost(f);
    *inside = *inside == JSON_KEY ? JSON_VALUE : *inside;
    return ':';
}

static char take_dollar(finder *f)
{
    pier__postgres_scanner *s = &f->scanner;
    if (s->at - s->token > 1) {
        f->numbered = true;
    } else if (s->at < s->end && pier__postgres_is_letter(*s->at)) {
        take_name(f);
    }
    return '$';
}

static void take_word(finder *f)
{
    const pier__postgres_scanner *s = &f->scanner;
    bool dotted = f->before == '.';
    f->is_array = !dotted && strcmp(s->word, "array") == 0;
    f->is_value = !dotted && strcmp(s->word, "value") == 0;
    f->is_object = strcmp(s->word, "json_object") == 0 || strcmp(s->word, "json_objectagg") == 0;
}

static void find(finder *f)
{
    for (char c; !f->out_of_memory && (c = pier__postgres_scan(&f->scanner));) {
        unsigned char *inside = innermost(f);
        switch (c) {
        case 'w':
            take_word(f);
            *inside = f->is_value && *inside == JSON_KEY ? JSON_VALUE : *inside;
            break;
        case '(':
        case '[':
        case ')':
        case ']':
            take_bracket(f, c);
            break;
        case ',':
            *inside = *inside == JSON_VALUE ? JSON_KEY : *inside;
            break;
        case ':':
            c = take_colon(f);
            break;
        case '$':
            c = take_dollar(f);
            break;
        default:
            break;
        }
        f->before = c;
        f->before_end = f->scanner.at;
    }
}

/* ---- The result --------------------------------------------------------------------------- */

static size_t digits(int number)
{
    return (size_t)snprintf(NULL, 0, "%d", number);
}

static size_t count_characters(const char *text, size_t size)
{
    size_t count = 0;
    for (size_t at = 0; at < size; count++) {
        size_t width = pier__postgres_utf8_width(text + at, size - at);
        at += width ? width : 1;
    }
    return count;
}

/* Gives how many bytes the text that is sent has. */
static size_t measure(finder *f, size_t size)
{
    size_t sent = size, at = 0, characters = 0;
    pier__postgres_place *places = f->places.items;
    for (size_t i = 0; i < f->places.count; i++) {
        pier__postgres_place *place = &places[i];
        characters += count_characters(f->sql + at, place->at - at);
        place->characters_before = characters;
        place->characters = count_characters(f->sql + place->at, place->size);
        characters += place->characters;
        at = place->at + place->size;
        sent = sent - place->size + 1 + digits(place->name + 1);
    }
    return sent;
}

static void write_sql(char *to, const finder *f, size_t size)
{
    size_t at = 0;
    const pier__postgres_place *places = f->places.items;
    for (size_t i = 0; i < f->places.count; i++) {
        to = (char *)memcpy(to, f->sql + at, places[i].at - at) + (places[i].at - at);
        to += sprintf(to, "$%d", places[i].name + 1);
        at = places[i].at + places[i].size;
    }
    memcpy(to, f->sql + at, size - at);
    to[size - at] = '\0';
}

static char *write_names(const char **names, char *to, const finder *f)
{
    const name_text *texts = f->names.items;
    for (size_t i = 0; i < f->names.count; i++) {
        names[i] = memcpy(to, texts[i].text, texts[i].size);
        to[texts[i].size] = '\0';
        to += texts[i].size + 1;
    }
    return to;
}

/* Places, pointers to names, the names, the text. */
static pier__postgres_names *make(finder *f, size_t size)
{
    size_t sent = measure(f, size), place_count = f->places.count, count = f->names.count;
    size_t places_size = place_count * sizeof(pier__postgres_place);
    pier__postgres_names *made = pier__malloc(sizeof *made + places_size + count * sizeof(char *) +
                                              f->names_size + sent + 1);
    if (!made) {
        return NULL;
    }
    pier__postgres_place *places = (pier__postgres_place *)(made + 1);
    const char **names = (const char **)(places + place_count);
    if (place_count) {
        memcpy(places, f->places.items, places_size);
    }
    char *text = write_names(names, (char *)(names + count), f);
    write_sql(text, f, size);
    *made = (pier__postgres_names){.sql = text,
                                   .sql_size = sent,
                                   .count = (int)count,
                                   .numbered = f->numbered,
                                   .names = names,
                                   .place_count = place_count,
                                   .places = places};
    return made;
}

pier__postgres_names *pier__postgres_names_read(const char *sql, size_t size)
{
    finder f = {.scanner = {.at = sql, .end = sql + size}, .sql = sql};
    find(&f);
    pier__postgres_names *made = f.out_of_memory ? NULL : make(&f, size);
    pier__free(f.brackets.items);
    pier__free(f.places.items);
    pier__free(f.names.items);
    return made;
}

unsigned long pier__postgres_names_position(const pier__postgres_names *names,
                                            unsigned long position)
{
    unsigned long shift = 0; /* what the user's text is longer by, up to here */
    for (size_t i = 0; i < names->place_count; i++) {
        const pier__postgres_place *place = &names->places[i];
        unsigned long theirs = place->characters_before + 1;
        unsigned long sent = theirs - shift, length = 1 + digits(place->name + 1);
        if (position < sent) {
            break;
        }
        if (position < sent + length) {
            return theirs;
        }
        shift += place->characters - length;
    }
    return position + shift;
}
