#ifndef PIER_DRIVERS_POSTGRES_URL_H
#define PIER_DRIVERS_POSTGRES_URL_H
/*
 * The URL of a database: what libpq makes of it, with the environment and a service file, and which
 * servers it names.
 */
#include "drivers/postgres/conn.h"

/* Fills options, hosts and name of the root; where there is a service, hosts and half of the
 * options are still unread then. 0, or a status with `err` filled. */
int pier__postgres_url_read(pier__postgres_db *db, const char *url, pier_error *err);
/* Does libpq look for a service file? */
bool pier__postgres_url_has_service(const pier__postgres_db *db);
bool pier__postgres_url_is_unread(const pier__postgres_db *db);
/* All options as libpq will use them, with its defaults, the environment and the service file,
 * which it reads: it may block. Any thread, as long as nobody settles. Owned, PQconninfoFree; NULL:
 * no memory. */
PQconninfoOption *pier__postgres_url_ask(const pier__postgres_db *db);
/* Fills in what that has told; NULL: it had no memory. 0, or a status with `err` filled. */
int pier__postgres_url_settle(pier__postgres_db *db, const PQconninfoOption *all, pier_error *err);
/* The value of an option for libpq, borrowed until the root is settled or ends, NULL: there is
 * none; and its index, or -1. */
const char *pier__postgres_url_option(const pier__postgres_db *db, const char *keyword);
int pier__postgres_url_find(const pier__postgres_db *db, const char *keyword);
/* Adds one option for libpq. 0, or a status with `err` filled. */
int pier__postgres_url_add(pier__postgres_db *db, const char *keyword, const char *value,
                           pier_error *err);
/* settings.c: adds "name=value" settings of the server, up to a NULL; NULL: none. 0, or a status
 * with `err` filled. After the URL was read. */
int pier__postgres_settings_add(pier__postgres_db *db, const char *const *settings,
                                pier_error *err);
/* Where the URL was unread: they stand behind these options, NULL: none. 0, or a status with `err`
 * filled. */
int pier__postgres_settings_settle(pier__postgres_db *db, const char *options, pier_error *err);
/* What they are kept under until then; no keyword of libpq's. */
#define PIER__POSTGRES_SETTINGS "pier settings"
/* target.c: whether the host that is being tried has answered at all. One that has not is tried
 * last for a while, so that not every connection has to wait for it. */
void pier__postgres_host_answered(pier__postgres_conn *conn, bool answered);
/* When a host was last silent, or when somebody last looked whether it still is; 0: it answers. The
 * memory follows the hosts'. */
static inline _Atomic int64_t *pier__postgres_host_silence(const pier__postgres_db *db, int host)
{
    return (_Atomic int64_t *)(db->hosts + db->host_count) + host;
}
/* Frees what that filled, also where it failed halfway. */
void pier__postgres_url_fini(pier__postgres_db *db);

#endif
