#ifndef PIER_DRIVERS_HTTP_REDIRECT_H
#define PIER_DRIVERS_HTTP_REDIRECT_H
/*
 * The rules of redirects, as aiohttp and browsers have them: which answers are followed, what
 * becomes of method and body, and what must not leave the origin. Any thread.
 */
#include "drivers/http/url.h"

/* As many in one request at most. */
enum { PIER__REDIRECTS_MAX = 10 };

/* Is it a redirect that is followed where it has a Location? */
bool pier__redirect_is(int status);

/* Does the next request have another method, and no body? Then it is GET. */
bool pier__redirect_becomes_get(int status, const char *method);

/* Must this header line, "Name: value", not be sent to another origin? */
bool pier__redirect_is_secret(const char *line);
/* Does this header line belong to a body? */
bool pier__redirect_is_of_body(const char *line);

/*
 * Replaces `url` by what `location` names. `*other_origin` says whether that is another origin, for
 * which user and password are gone. 0 or a status; then `url` is unchanged.
 */
int pier__redirect_follow(pier__url *url, const char *location, bool *other_origin,
                          pier_error *err);

#endif
