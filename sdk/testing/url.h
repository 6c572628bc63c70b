#ifndef PIER_SDK_TESTING_URL_H
#define PIER_SDK_TESTING_URL_H
/* The URLs that the test kit hands out. */
#include <stdbool.h>

/* The URL of another database on the same server: allocated; NULL without memory. */
char *pier__testing_url_of(const char *server, const char *database);

/* Writes text with everything but letters, digits and / . _ - ~ as %XX, as far as it fits. */
bool pier__testing_url_encode(char *out, int size, const char *text);

#endif
