/*
 * Settings of the server for each session, as command line options of its process. So they are the
 * session's defaults: a connection that is reset has them again.
 */
#include "drivers/postgres/url.h"

#include "sdk/alloc.h"
#include <stdio.h>
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
    bool pending = pier__postgres_url_is_unread(db);
    int i = pier__postgres_url_find(db, "options");
    const char *environment = pending ? NULL : getenv("PGOPTIONS");
    char *joined = join(i >= 0 ? db->values[i] : environment ? environment : "", settings);
    if (!joined) {
        return no_memory(err);
    }
    if (i >= 0) {
        pier__free(db->values[i]);
        db->values[i] = joined;
        return 0;
    }
    int status =
        pier__postgres_url_add(db, pending ? PIER__POSTGRES_SETTINGS : "options", joined, err);
    pier__free(joined);
    return status;
}

int pier__postgres_settings_settle(pier__postgres_db *db, const char *options, pier_error *err)
{
    int i = pier__postgres_url_find(db, PIER__POSTGRES_SETTINGS);
    if (i < 0) {
        return 0;
    }
    const char *settings = db->values[i];
    size_t size = strlen(settings) + (options ? strlen(options) + 1 : 0) + 1;
    char *keyword = pier__strdup("options"), *joined = pier__malloc(size);
    if (!keyword || !joined) {
        pier__free(keyword);
        pier__free(joined);
        return no_memory(err);
    }
    snprintf(joined, size, "%s%s%s", options ? options : "", options ? " " : "", settings);
    pier__free(db->keywords[i]);
    pier__free(db->values[i]);
    db->keywords[i] = keyword;
    db->values[i] = joined;
    return 0;
}
