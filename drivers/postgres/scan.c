/*
 * Postgres' scanner, scan.l, as far as it is needed here.
 */
#include "drivers/postgres/scan.h"

#include <string.h>

typedef pier__postgres_scanner scanner;

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool pier__postgres_is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80);
}

bool pier__postgres_is_inner(char c)
{
    return pier__postgres_is_letter(c) || is_digit(c) || c == '$';
}

static bool is_blank(char c)
{
    return c && strchr(" \t\r\n\f\v", c);
}

/* Do these two characters come next? */
static bool comes(const scanner *s, const char *two)
{
    return s->end - s->at >= 2 && s->at[0] == two[0] && s->at[1] == two[1];
}

static void skip_line(scanner *s)
{
    while (s->at < s->end && *s->at != '\n' && *s->at != '\r') {
        s->at++;
    }
}

static void skip_comment(scanner *s)
{
    int depth = 0;
    while (s->at < s->end) {
        if (comes(s, "/*")) {
            depth++;
            s->at += 2;
        } else if (comes(s, "*/")) {
            s->at += 2;
            if (--depth == 0) {
                return;
            }
        } else {
            s->at++;
        }
    }
}

static void skip_blanks(scanner *s)
{
    while (s->at < s->end) {
        if (is_blank(*s->at)) {
            s->at++;
        } else if (comes(s, "--")) {
            skip_line(s);
        } else if (comes(s, "/*")) {
            skip_comment(s);
        } else {
            return;
        }
    }
}

/* A string goes on behind its quote where another one begins on a later line, with comments of
 * lines between them, and is then read as it began. */
static bool goes_on(scanner *s)
{
    scanner ahead = *s;
    bool line = false;
    while (ahead.at < ahead.end) {
        if (is_blank(*ahead.at)) {
            line = line || *ahead.at == '\n' || *ahead.at == '\r';
            ahead.at++;
        } else if (comes(&ahead, "--")) {
            skip_line(&ahead);
        } else {
            break;
        }
    }
    if (!line || ahead.at >= ahead.end || *ahead.at != '\'') {
        return false;
    }
    s->at = ahead.at + 1;
    return true;
}

/* A backslash is taken to escape only behind E: whoever has turned standard_conforming_strings off
 * has changed the session. */
static void skip_quoted(scanner *s, bool escapes)
{
    char quote = *s->at++;
    while (s->at < s->end) {
        char c = *s->at++;
        if (escapes && c == '\\' && s->at < s->end) {
            s->at++;
        } else if (c == quote && s->at < s->end && *s->at == quote) {
            s->at++;
        } else if (c == quote && !(escapes && goes_on(s))) {
            return;
        }
    }
}

/* $tag$...$tag$; false: it is no such string. */
static bool skip_dollars(scanner *s)
{
    const char *tag = s->at, *tag_end = tag + 1;
    while (tag_end < s->end && *tag_end != '$' && pier__postgres_is_inner(*tag_end)) {
        tag_end++;
    }
    if (tag_end >= s->end || *tag_end != '$' || is_digit(tag[1])) {
        return false;
    }
    size_t size = (size_t)(tag_end + 1 - tag);
    for (s->at += size; (size_t)(s->end - s->at) >= size; s->at++) {
        if (memcmp(s->at, tag, size) == 0) {
            s->at += size;
            return true;
        }
    }
    s->at = s->end;
    return true;
}

static char take_dollar(scanner *s)
{
    if (skip_dollars(s)) {
        return '\'';
    }
    s->at++;
    while (s->at < s->end && is_digit(*s->at)) {
        s->at++;
    }
    return '$';
}

static char take_word(scanner *s)
{
    size_t size = 0;
    for (; s->at < s->end && pier__postgres_is_inner(*s->at); s->at++) {
        if (size < sizeof s->word) {
            char c = *s->at;
            s->word[size] = (char)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
        }
        size++;
    }
    s->word[size < sizeof s->word ? size : 0] = '\0';
    /* E'...', and B, N, X, which change nothing. U& is a word and an operator before a string. */
    if (size == 1 && s->at < s->end && *s->at == '\'') {
        skip_quoted(s, s->word[0] == 'e');
        s->word[0] = '\0';
        return '\'';
    }
    return 'w';
}

/* With what may belong to it: 1.5, 1e5, 0x1f, 1_000. */
static char take_number(scanner *s)
{
    while (s->at < s->end &&
           (is_digit(*s->at) || pier__postgres_is_letter(*s->at) || *s->at == '.')) {
        s->at++;
    }
    return '0';
}

char pier__postgres_scan(scanner *s)
{
    skip_blanks(s);
    s->token = s->at;
    s->quoted = false;
    s->word[0] = '\0';
    if (s->at >= s->end) {
        return 0;
    }
    char c = *s->at;
    if (pier__postgres_is_letter(c)) {
        return take_word(s);
    }
    if (is_digit(c)) {
        return take_number(s);
    }
    switch (c) {
    case '"':
        s->quoted = true;
        skip_quoted(s, false);
        return 'w';
    case '\'':
        skip_quoted(s, false);
        return c;
    case '$':
        return take_dollar(s);
    default:
        s->at++;
        return c ? c : ' '; /* a zero byte is no end */
    }
}
