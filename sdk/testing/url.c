/* The URLs that the test kit hands out. */
#include "sdk/testing/url.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Appends the parameters but dbname, which would name the server's database again. */
static void append_parameters(char *out, const char *parameters)
{
    char separator = '?';
    for (const char *at = parameters; *at;) {
        size_t length = strcspn(at, "&");
        if (length && strncmp(at, "dbname=", 7) != 0) {
            out += strlen(out);
            *out++ = separator;
            memcpy(out, at, length);
            out[length] = 0;
            separator = '&';
        }
        at += length + (at[length] == '&');
    }
}

char *pier__testing_url_of(const char *server, const char *database)
{
    const char *scheme_end = strstr(server, "://");
    const char *authority = scheme_end ? scheme_end + 3 : server;
    size_t prefix = (size_t)(authority - server) + strcspn(authority, "/?");
    const char *parameters = strchr(server + prefix, '?');
    char *url = malloc(strlen(server) + strlen(database) + 3);
    if (!url) {
        return NULL;
    }
    memcpy(url, server, prefix);
    url[prefix] = '/';
    strcpy(url + prefix + 1, database);
    append_parameters(url, parameters ? parameters + 1 : "");
    return url;
}

bool pier__testing_url_encode(char *out, int size, const char *text)
{
    int length = 0;
    for (; *text && length < size - 3; text++) {
        unsigned char byte = (unsigned char)*text;
        if (isalnum(byte) || strchr("/._-~", byte)) {
            out[length++] = *text;
        } else {
            length += snprintf(out + length, 4, "%%%02X", byte);
        }
    }
    out[length] = 0;
    return !*text;
}
