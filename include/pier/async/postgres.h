#ifndef PIER_ASYNC_POSTGRES_H
#define PIER_ASYNC_POSTGRES_H
/*
 * What only Postgres has: options of a pool beside its URL. What the URL says is in
 * docs/postgres.md.
 */
#include <pier/async/postgres_hook.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { PIER_POSTGRES_PASSWORD_MAX = 16384 }; /* bytes, with the zero byte */

/* For whom a password is asked. What libpq would find out by itself is NULL. */
typedef struct pier_postgres_login {
    const char *host; /* a name, an address or the directory of a unix socket */
    const char *port;
    const char *user;
    const char *database;
} pier_postgres_login;

/*
 * Writes the password for a connection that is about to be made into `password`, with a zero byte
 * behind it, and returns 0; or fills `err` and returns a negative pier_status, and then there is no
 * connection. Its message is shown, the password never is. `login`, `password` and `err` are
 * borrowed until it returns, `size` is PIER_POSTGRES_PASSWORD_MAX.
 *
 * It is called for each connection, once for each host that is tried, on a thread of the runner's
 * executor, on several at once, and may block: the time it takes counts towards connect_timeout_ms,
 * and if that passes, or the request is cancelled, nobody waits for it any longer. Called from a
 * thread of an executor, a request runs it on that thread itself.
 */
typedef int (*pier_postgres_password)(const pier_postgres_login *login, char *password, size_t size,
                                      void *user_data, pier_error *err);

typedef struct pier_postgres_options {
    size_t struct_size;              /* set by PIER_POSTGRES_OPTIONS */
    pier_postgres_password password; /* NULL: that of the URL, PGPASSWORD or the pass file */
    void *user_data; /* shared: handed to `password`, must live until the runner is closed */
    /* Settings of the server for each session, "name=value" each and a NULL at the end; copied.
     * They are the session's defaults, so that a reset leaves them. (PgBouncer refuses them, unless
     * its ignore_startup_parameters names `options`.) NULL: none. */
    const char *const *settings;
} PIER_DESIGNATED pier_postgres_options;

/* pier_db_open(runner, url, PIER_DB_OPTIONS(.postgres = PIER_POSTGRES_OPTIONS(.password = fn)),
 * &err) */
#define PIER_POSTGRES_OPTIONS(...)                                                                 \
    (&(const pier_postgres_options){.struct_size = sizeof(pier_postgres_options), __VA_ARGS__})

#ifdef __cplusplus
}
#endif
#endif
