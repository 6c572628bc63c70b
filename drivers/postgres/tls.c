/*
 * Looking into libpq's TLS connection. OpenSSL is libpq's dependency, not ours, and libpq may have
 * been built without it: the one function needed is found among what libpq has loaded.
 */
#include "drivers/postgres/tls.h"

#include <dlfcn.h>
#include <pthread.h>
#include <string.h>

typedef int (*pending_fn)(const void *ssl);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static pending_fn ssl_pending;

static void find_function(void)
{
    Dl_info info;
    void *found = NULL;
    void *libpq = dladdr((void *)&PQconsumeInput, &info) && info.dli_fname
                      ? dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD)
                      : NULL;
    if (libpq) {
        found = dlsym(libpq, "SSL_pending");
        dlclose(libpq);
    }
    if (!found) {
        found = dlsym(RTLD_DEFAULT, "SSL_pending"); /* libpq is linked statically */
    }
    memcpy(&ssl_pending, &found, sizeof found);
}

bool pier__postgres_tls_pending(PGconn *pg)
{
    void *ssl = PQsslStruct(pg, "OpenSSL");
    if (!ssl) {
        return false;
    }
    pthread_once(&once, find_function);
    return ssl_pending && ssl_pending(ssl) > 0;
}
