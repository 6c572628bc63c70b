/*
 * Settings of the server for each session, as command line options of its process. So they are the
 * session's defaults: a connection that is reset has them again.
 */
#include "drivers/postgres/url.h"

#include "sdk/alloc.h"
#include <stdlib.h>
#include <string.h>

static int no_memory(pier_error *err)
{
    return pier_error_set(err, PIER_ENOMEM, "out of memory for the settings");
}

/* The server splits options at spaces; a backslash keeps what is behind it. */
static char *write_escaped(char *to, const char *text)
{
    for (; *text; text++) {
        if (*text == ' ' || *text == '\\' || *text == '\t' || *text == '\n') {
            *to++ = '\\';
        }
        *to++ = *text;
    }
    return to;
}

static bool is_setting(const char *text)
{
    size_t name = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.");
    return name > 0 && text[name] == '=';
}

static int find(const pier__postgres_db *db, const char *keyword)
{
    int i = 0;
    while (i < db->option_count && strcmp(db->keywords[i], keyword) != 0) {
        i++;
    }
    return i;
}

/* `before` and "-c name=value" for each; NULL: no memory. */
static char *join(const char *before, const char *const *settings)
{
    size_t size = strlen(before) + 1;
    for (const char *const *at = settings; *at; at++) {
        size += sizeof " -c " + 2 * strlen(*at);
    }
    char *joined = pier__malloc(size);
    if (joined) {
        char *to = stpcpy(joined, before);
        for (const char *const *at = settings; *at; at++) {
            to = write_escaped(stpcpy(to, to == joined ? "-c " : " -c "), *at);
        }
        *to = 0;
    }
    return joined;
}

int pier__postgres_settings_add(pier__postgres_db *db, const char *const *settings, pier_error *err)
{
    for (const char *const *at = settings; at && *at; at++) {
        if (!is_setting(*at)) {
            return pier_error_set(err, PIER_EINVAL,
                                  "PIER_POSTGRES_OPTIONS: setting %d is \"%.40s\"; write "
                                  "\"name=value\"",
                                  (int)(at - settings) + 1, *at);
        }
    }
    if (!settings || !*settings) {
        return 0;
    }
    int i = find(db, "options");
    const char *environment = getenv("PGOPTIONS");
    const char *before = i < db->option_count ? db->values[i] : environment ? environment : "";
    char *joined = join(before, settings);
    if (!joined) {
        return no_memory(err);
    }
    if (i < db->option_count) {
        pier__free(db->values[i]);
        db->values[i] = joined;
        return 0;
    }
    int status = pier__postgres_url_add(db, "options", joined, err);
    pier__free(joined);
    return status;
}
